//! How to mend what went wrong: the one line that follows an error.
use llm_core::{Error, Kind};

/// The command that brings the default models.
pub(crate) const FETCH: &str = "llm models fetch";

/// A way out, where there is one that the message itself does not name.
pub(crate) fn of(error: &Error) -> Option<&'static str> {
    Some(match error.kind() {
        Kind::Unavailable => "start the server, or say where it is: --url, VLLM_BASE_URL, `base_url`",
        Kind::Unauthorized => "give the server's key: -k KEY with --url, VLLM_API_KEY, `api_key`",
        Kind::NotFound if !error.message().contains(FETCH) => "`llm models` lists the models there are",
        Kind::ContextLength => "shorten the prompt; `llm tokens` counts it",
        Kind::RateLimited | Kind::Overloaded | Kind::Loading => "try again in a moment",
        Kind::Config => "`llm check` shows the configuration and where each setting comes from",
        _ => return None,
    })
}
