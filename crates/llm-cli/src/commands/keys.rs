//! `llm keys`: keys with names for a server's clients.
use std::io::Write;

use clap::{Args, Subcommand};
use llm_server::keys::Entry;

use super::Command;
use crate::ask::parsed;
use crate::stop::Run;
use crate::talk;

pub(super) const KEYS: Command = Command {
    name: "keys",
    about: "Make keys with names for a server's clients",
    args: |command| Keys::augment_args(command).after_help(EXAMPLES),
    run: |matches| match parsed::<Keys>(matches).what {
        What::New { name } => new(&name),
    },
};

const EXAMPLES: &str = "\
Examples:
  llm keys new alice >> keys.toml
  LLM_KEYS=keys.toml llm serve --listen 0.0.0.0:8000

The key itself is told once, on stderr; the file holds its hash. Two entries of one name are valid at once, so that a
key can be replaced without a break. A running server reads the file when it changes.";

#[derive(Debug, Args)]
struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a key: its line for the file on stdout, the key itself on stderr
    New {
        /// Whose it is
        name: String,
    },
}

fn new(name: &str) -> Run {
    let (key, entry) = Entry::new(name)?;
    std::io::stdout().write_all(entry.toml().as_bytes())?;
    talk::note(&format!("the key of {name}, told only now: {}", key.reveal()));
    Ok(())
}
