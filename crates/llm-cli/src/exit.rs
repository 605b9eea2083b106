//! Exit codes: what a script can tell an end from. One table, which the help shows too.
use llm_core::{Error, Kind};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    Internal = 1,
    Usage = 2,
    NoConnection = 3,
    Unauthorized = 4,
    Incomplete = 5,
    NoModel = 6,
    TooLong = 7,
    Busy = 8,
    /// 128 and the number of SIGINT, as shells have it.
    Interrupted = 130,
}

/// The codes with their meaning, for the help.
pub(crate) const TABLE: &[(Exit, &str)] = &[
    (Exit::Ok, "all went well; an answer cut by its token limit too, with a warning"),
    (Exit::Internal, "the server failed, or this program did"),
    (Exit::Usage, "wrong arguments, configuration or request"),
    (Exit::NoConnection, "nobody answers at the address"),
    (Exit::Unauthorized, "the key is missing or wrong"),
    (Exit::Incomplete, "the answer broke off before its end"),
    (Exit::NoModel, "no such model, or it could not be loaded"),
    (Exit::TooLong, "prompt and answer do not fit the context window"),
    (Exit::Busy, "too busy, still loading, or too slow: try again later"),
    (Exit::Interrupted, "Ctrl-C"),
];

impl Exit {
    /// The code for an error that came before any of the answer.
    pub(crate) fn of(error: &Error) -> Exit {
        match error.kind() {
            Kind::Invalid | Kind::Unsupported | Kind::Config => Exit::Usage,
            Kind::Unauthorized => Exit::Unauthorized,
            Kind::NotFound => Exit::NoModel,
            Kind::ContextLength => Exit::TooLong,
            Kind::RateLimited | Kind::Overloaded | Kind::Loading | Kind::Timeout => Exit::Busy,
            Kind::Unavailable => Exit::NoConnection,
            Kind::Upstream if error.get_code() == Some("stream_truncated") => Exit::Incomplete,
            _ => Exit::Internal,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_the_code_that_the_guide_tells() {
        let guide = include_str!("../../../docs/errors.md");
        for kind in Kind::ALL {
            let row = guide.lines().find(|line| line.starts_with(&format!("| `{}` |", kind.name()))).expect("a row");
            let code = |error: Error| Exit::of(&error) as u8;
            let usual = code(Error::new(kind, "x"));
            let told = match code(Error::new(kind, "x").code("stream_truncated")) {
                same if same == usual => usual.to_string(),
                other => format!("{usual}, or {other} if it broke off"),
            };
            assert_eq!(row.split('|').nth(6).map(str::trim), Some(&*told), "{row}");
        }
    }

    #[test]
    fn the_table_explains_each_code_once_in_order() {
        let codes: Vec<_> = TABLE.iter().map(|(exit, _)| *exit as u8).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
    }
}
