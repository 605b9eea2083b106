//! `llm`: a terminal for private models. stdout is the answer alone, talk goes to stderr, the exit code says how it ended.
mod args;
mod ask;
mod commands;
mod engine;
mod exit;
mod house;
mod input;
mod output;
mod remedy;
mod runtime;
mod stop;
mod talk;

use std::process::ExitCode;

use clap::ArgMatches;

use commands::Command;
use exit::Exit;
use stop::Run;

fn main() -> ExitCode {
    let matches = args::command().get_matches();
    match run(&matches) {
        Ok(()) => Exit::Ok.into(),
        Err(stop) => {
            if stop.exit == Exit::Interrupted && talk::is_watched() {
                talk::note(""); // the terminal has written ^C, and the shell shall begin on a line of its own
            }
            talk::stop(&stop);
            stop.exit.into()
        }
    }
}

fn run(matches: &ArgMatches) -> Run {
    let Some((name, inner)) = matches.subcommand() else {
        return runtime::block_on(ask::run(matches));
    };
    args::refuse_mixture(matches, name)?;
    let command = Command::find(name).expect("clap knows the commands of the list only");
    (command.run)(inner)
}
