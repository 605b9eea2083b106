//! The commands: a file and a line each, in the order in which the help lists them.
mod check;
mod completions;
mod config;
mod embed;
mod keys;
mod models;
mod serve;
mod tokens;

use clap::ArgMatches;

use crate::stop::Run;

/// The commands, those that a newcomer needs first standing first.
pub(crate) const COMMANDS: &[Command] = &[
    serve::SERVE,
    models::MODELS,
    embed::EMBED,
    tokens::TOKENS,
    check::CHECK,
    config::CONFIG,
    keys::KEYS,
    completions::COMPLETIONS,
];

/// A command: its name on the command line, one line about it, its arguments, and what it does.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Adds its arguments and examples.
    pub(crate) args: fn(clap::Command) -> clap::Command,
    pub(crate) run: fn(&ArgMatches) -> Run,
}

impl Command {
    /// The command of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Command> {
        COMMANDS.iter().find(|command| command.name == name)
    }

    /// As clap wants it.
    pub(crate) fn clap(&self) -> clap::Command {
        (self.args)(clap::Command::new(self.name).about(self.about))
    }
}
