//! Why a command ended early: what is said on stderr, how to mend it, and the exit code.
use std::io;

use llm_core::Error;

use crate::exit::Exit;
use crate::remedy;

/// The end of a command that did not go well.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    /// One sentence; empty when all has been said.
    pub(crate) says: String,
    /// Lines that help to mend it.
    pub(crate) hints: Vec<String>,
}

/// What commands return.
pub(crate) type Run<T = ()> = Result<T, Stop>;

impl Stop {
    pub(crate) fn new(exit: Exit, says: impl Into<String>) -> Stop {
        Stop { exit, says: says.into(), hints: Vec::new() }
    }

    /// An end about which everything has been said already.
    pub(crate) fn silent(exit: Exit) -> Stop {
        Stop::new(exit, "")
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Stop {
        self.hints.push(hint.into());
        self
    }

    /// The same end with another code, where the circumstances say more than the error.
    pub(crate) fn with_exit(self, exit: Exit) -> Stop {
        Stop { exit, ..self }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        let stop = Stop::new(Exit::of(&error), error.to_string());
        Stop { hints: remedy::of(&error).into_iter().map(str::to_owned).collect(), ..stop }
    }
}

/// Errors of our own input and output. A reader that has left has what it wanted: `llm .. | head -1` went well.
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::silent(Exit::Ok),
            _ => Stop::new(Exit::Internal, format!("input or output failed: {error}")),
        }
    }
}
