//! What a forwarded request costs the server, beside nginx in the same run.
//!
//! CPU time and not throughput, for clients and upstream share the machine with what is measured; ratios to nginx and
//! not microseconds, for they hold on another machine.

mod case;
mod conversation;
mod cost;
mod latency;
mod memory;
mod process;
mod proxies;
mod table;

use std::path::PathBuf;

use anyhow::{Result, ensure};

pub use process::serve_upstream;

/// The options of `bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The gateway to measure: its program, or `nginx` to see how far two equals differ here [default: the llm-server
    /// built beside this program]
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// How often each case is measured for each proxy; the median counts
    #[arg(long, default_value_t = 7)]
    pub runs: usize,
    /// Shorter runs and fewer of them: a first look, too noisy to decide by
    #[arg(long)]
    pub quick: bool,
    /// Only the cases whose name contains this
    #[arg(long, default_value = "")]
    pub only: String,
    /// How many connections ask at once
    #[arg(long, value_delimiter = ',', default_values_t = [16, 64])]
    pub connections: Vec<usize>,
    /// Report, but exit 0 whatever the figures
    #[arg(long)]
    pub no_gate: bool,
    /// The seed of the order in which cases take turns
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Options {
    fn server(&self) -> Result<PathBuf> {
        let beside = || Ok(std::env::current_exe()?.with_file_name("llm-server"));
        self.server.clone().map_or_else(beside, Ok)
    }

    fn runs(&self) -> usize {
        if self.quick { self.runs.min(3) } else { self.runs }
    }

    fn slices(&self, usual: usize) -> usize {
        if self.quick { usual.div_ceil(3) } else { usual }
    }
}

/// Measures, prints, and says whether every gate held.
pub async fn run(options: &Options) -> Result<bool> {
    let cases = case::all(options);
    ensure!(!cases.is_empty(), "no case has {:?} in its name", options.only);
    let proxies = proxies::start(&options.server()?).await?;
    println!("{}, {} runs of each, seed {}", proxies.subject.name, options.runs(), options.seed);
    let idle = proxies.subject.resident()?;
    let costs = cost::measure(&proxies, &cases, options).await?;
    let mut holds = table::costs(&cases, &costs);
    if options.only.is_empty() {
        table::latencies(&latency::measure(&proxies).await?);
        holds &= table::memory(&memory::measure(&proxies, idle).await?);
    }
    Ok(holds || options.no_gate)
}
