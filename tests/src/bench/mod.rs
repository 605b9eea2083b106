//! What a forwarded request costs the server, beside nginx in the same run.
//!
//! CPU time and not throughput, for clients and upstream share the machine with what is measured; ratios to nginx and
//! not microseconds, for they hold on another machine.

mod behaviour;
mod case;
mod conversation;
mod cost;
mod crowd;
mod growth;
mod latency;
mod memory;
mod peers;
mod process;
mod proxies;
mod table;

use std::path::PathBuf;

use anyhow::{Result, ensure};

pub use process::serve_upstream;
use proxies::Kind;

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
    /// Only the cases, or with --peers the gateways, whose name contains this
    #[arg(long, default_value = "")]
    pub only: String,
    /// Measure other LLM gateways beside it, and watch how all behave; scripts/peers installs them
    #[arg(long)]
    pub peers: bool,
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

    fn streams(&self, usual: usize) -> usize {
        if self.quick { usual / 10 } else { usual }
    }
}

/// Measures, prints, and says whether every gate held.
pub async fn run(options: &Options) -> Result<bool> {
    if options.peers {
        return beside_peers(options).await.map(|()| true);
    }
    let cases = case::all(options);
    ensure!(!cases.is_empty(), "no case has {:?} in its name", options.only);
    let kind = Kind::of(&options.server()?);
    let proxies = proxies::start(&kind).await?;
    println!("{}, {} runs of each, seed {}", proxies.subject.name, options.runs(), options.seed);
    let idle = proxies.subject.resident()?;
    let costs = cost::measure(proxies.pair(), &cases, options).await?;
    let mut holds = table::costs("nginx", &cases, &costs);
    if options.only.is_empty() {
        table::latencies(&latency::measure(&proxies).await?);
        holds &= table::memory(&memory::measure(&proxies, idle).await?);
    }
    if options.only.is_empty() && matches!(kind, Kind::Gateway(_)) {
        holds &= table::weight(&crowd::weigh(&proxies, options).await?);
        let (cases, costs): (Vec<_>, Vec<_>) = growth::measure(&proxies, options).await?.into_iter().unzip();
        holds &= table::costs("without", &cases, &costs);
    }
    Ok(holds || options.no_gate)
}

/// The gateway and its peers: what each costs, and what it does. Nothing of it is a gate.
async fn beside_peers(options: &Options) -> Result<()> {
    let known = [Kind::Nginx, Kind::Gateway(options.server()?)];
    let kinds = known.into_iter().chain(peers::PEERS.iter().map(Kind::Peer));
    let kinds: Vec<Kind> = kinds.filter(|kind| kind.name().contains(&options.only)).collect();
    println!("{} runs of each, seed {}", options.runs(), options.seed);
    let (mut measured, mut behaved) = (Vec::new(), Vec::new());
    for kind in &kinds {
        match peers::measure(kind, options).await {
            Ok(figures) => measured.push(figures),
            Err(error) => println!("{}: not measured: {error:#}", kind.name()),
        }
    }
    table::peers(&measured);
    for kind in &kinds {
        match behaviour::of(kind).await {
            Ok(words) => behaved.push((kind.name(), words)),
            Err(error) => println!("{}: not watched: {error:#}", kind.name()),
        }
    }
    table::behaviour(&behaved);
    Ok(())
}
