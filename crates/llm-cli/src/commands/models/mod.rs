//! `llm models`: what can be asked, and bringing the models that come without asking.
#[cfg(feature = "engine")]
mod fetch;
mod list;

use clap::{ArgMatches, Args};

use super::Command;
use crate::runtime;
use crate::stop::Run;

pub(super) const MODELS: Command =
    Command { name: "models", about: "List the models; `fetch` brings the default ones", args, run };

fn args(command: clap::Command) -> clap::Command {
    let command = list::List::augment_args(command);
    #[cfg(feature = "engine")]
    let command = command.subcommand(fetch::Fetch::augment_args(fetch::command()));
    command.args_conflicts_with_subcommands(true)
}

fn run(matches: &ArgMatches) -> Run {
    match matches.subcommand() {
        #[cfg(feature = "engine")]
        Some((_, inner)) => fetch::run(inner),
        _ => runtime::block_on(list::run(matches)),
    }
}
