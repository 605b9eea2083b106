//! What a look at forwarded bytes shows: whether the answer ended or failed, and what it cost.
//!
//! Keys are searched as bytes. A key never matches inside a text, because a quote inside a text stands behind a backslash.
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;

use super::errors;
use crate::call::{Glance, Usage};
use crate::dialect::sse;

/// Made once: setting a search up costs more than searching an event.
static FINISH: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"finish_reason\":"));
static USAGE: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"usage\":"));
static CHOICES: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"choices\":"));

pub(super) fn glance(event: &[u8]) -> Glance {
    // Nearly every event is one line of data, and where the line ends is of no matter here.
    match event.strip_prefix(b"data:").map(<[u8]>::trim_ascii_start) {
        Some(data) if !is_failure(data) => data_of(data),
        None if event.starts_with(b"{") => body(event),
        _ => sse::data(event).map_or_else(|| body(event), |data| data_of(&data)),
    }
}

fn data_of(data: &[u8]) -> Glance {
    if data.starts_with(b"[DONE]") {
        return Glance { is_done: true, is_finished: true, ..Glance::default() };
    }
    body(data)
}

fn body(json: &[u8]) -> Glance {
    if is_failure(json) {
        return Glance { failure: Some(errors::failure(json)), ..Glance::default() };
    }
    Glance { is_finished: is_finished(json), usage: usage(json), ..Glance::default() }
}

fn is_failure(json: &[u8]) -> bool {
    json.starts_with(b"{\"error\"") || json.starts_with(b"{\"object\":\"error\"")
}

fn is_finished(json: &[u8]) -> bool {
    // The last choice's: a stream's chunk has one, a whole body one a choice.
    let Some(at) = FINISH.find_iter(json).last() else { return false };
    let value = json[at + 16..].trim_ascii_start();
    !value.starts_with(b"null") && !value.starts_with(b"\"\"")
}

fn usage(json: &[u8]) -> Option<Usage> {
    let at = USAGE.find_iter(json).last()?;
    let value = &json[at + 8..];
    if !value.trim_ascii_start().starts_with(b"{") {
        return None; // null
    }
    let mut first = serde_json::Deserializer::from_slice(value).into_iter::<WireUsage>();
    first.next()?.ok().map(Usage::from)
}

/// Whether a chunk has no choice and tells only what the answer cost.
pub(super) fn is_usage_only(event: &[u8]) -> bool {
    let Some(at) = CHOICES.find(event) else { return false };
    let value = event[at + 10..].trim_ascii_start();
    value.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"]"))
        && USAGE.find(event).is_some()
}

/// Usage as servers write it; every field may be missing.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct WireUsage {
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
    total_tokens: Option<u32>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u32>,
    reasoning_tokens: Option<u32>,
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Usage {
        Usage {
            // Rerankers tell the total alone.
            prompt_tokens: wire.prompt_tokens.or(wire.total_tokens).unwrap_or(0),
            completion_tokens: wire.completion_tokens.unwrap_or(0),
            cached_tokens: wire.prompt_tokens_details.and_then(|d| d.cached_tokens),
            reasoning_tokens: wire.completion_tokens_details.and_then(|d| d.reasoning_tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_talks_of_usage_and_errors_does_not_fool_it() {
        let event = br#"data: {"choices":[{"delta":{"content":"{\"error\":1} \"finish_reason\":\"stop\" \"usage\":{\"prompt_tokens\":9}"},"finish_reason":null}],"usage":null}"#;
        let glance = glance(event);
        assert!(!glance.is_finished && glance.failure.is_none() && glance.usage.is_none());
    }

    #[test]
    fn it_sees_the_end_the_cost_and_the_failure() {
        let end = glance(b"data: {\"choices\":[{\"delta\":{},\"finish_reason\": \"stop\"}]}\n\n");
        assert!(end.is_finished && !end.is_done);
        let cost = br#"data: {"choices":[],"usage":{"prompt_tokens":18,"completion_tokens":8,"prompt_tokens_details":{"cached_tokens":4}}}"#;
        let expected =
            Usage { prompt_tokens: 18, completion_tokens: 8, cached_tokens: Some(4), reasoning_tokens: None };
        assert_eq!(glance(cost).usage, Some(expected));
        assert!(is_usage_only(cost));
        assert!(glance(b"data: [DONE]\n\n").is_done);
        assert!(glance(br#"data: {"error": {"message":"x","code":400}}"#).failure.is_some());
    }
}
