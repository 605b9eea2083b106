//! `bench` measures the gateway beside nginx; `bench upstream` is the vLLM that both stand before.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use llm_tests::bench::{self, Options};

/// CPU, latency and memory of the gateway beside nginx; exits 1 when a gate is passed.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Role>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Role {
    /// Serve as a stand-in for vLLM on a free port, and print its address
    Upstream,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(Role::Upstream) = arguments.command {
        bench::serve_upstream().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let holds = bench::run(&arguments.options).await?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
