//! `llm completions`: what a shell needs to complete commands and options.
use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use super::Command;
use crate::args;
use crate::ask::parsed;
use crate::stop::Run;

pub(super) const COMPLETIONS: Command = Command {
    name: "completions",
    about: "Print completions for a shell",
    args: |command| {
        Completions::augment_args(command).after_help(
            "Examples:\n  source <(llm completions bash)\n  llm completions fish > ~/.config/fish/completions/llm.fish",
        )
    },
    run: |matches| print(parsed::<Completions>(matches).shell),
};

#[derive(Debug, Args)]
struct Completions {
    /// The shell
    shell: Shell,
}

fn print(shell: Shell) -> Run {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "llm", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}
