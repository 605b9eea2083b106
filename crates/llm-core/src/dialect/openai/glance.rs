//! What a look at forwarded bytes shows: whether the answer ended or failed, and what it cost.
//!
//! Keys are searched as bytes. A key never matches inside a text, because a quote inside a text stands behind a backslash.
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::Value;

use super::errors;
use crate::call::{Glance, Usage};
use crate::dialect::sse;

/// Made once: setting a search up costs more than searching an event.
static FINISH: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"finish_reason\":"));
static ERROR: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"error\":"));
static INDEX: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"index\":"));
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
    let finish = finish(json);
    // Where the error is not the first word, a finish says so, or there is none.
    let fails_later = || finish.map_or_else(|| has_error(json), |finish| finish.starts_with(b"\"error\""));
    if is_failure(json) || fails_later() {
        return Glance { failure: Some(errors::failure(json)), ..Glance::default() };
    }
    Glance { is_finished: finish.is_some_and(is_told), usage: usage(json), ..Glance::default() }
}

fn is_failure(json: &[u8]) -> bool {
    let first = json.strip_prefix(b"{").map(<[u8]>::trim_ascii_start).unwrap_or_default();
    let error = first.strip_prefix(b"\"error\"").map(<[u8]>::trim_ascii_start);
    error.and_then(|rest| rest.strip_prefix(b":")).is_some_and(|value| is_told(value.trim_ascii_start()))
        || json.starts_with(b"{\"object\":\"error\"")
}

/// Whether it has an error among its fields. What merely looks like one is looked at closely.
fn has_error(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body {
        error: Option<serde::de::IgnoredAny>,
    }
    ERROR.find(json).is_some() && serde_json::from_slice::<Body>(json).is_ok_and(|body| body.error.is_some())
}

/// The finish of the last choice: a stream's chunk has one, a whole body one a choice.
fn finish(json: &[u8]) -> Option<&[u8]> {
    let at = FINISH.find_iter(json).last()?;
    Some(json[at + 16..].trim_ascii_start())
}

fn is_told(value: &[u8]) -> bool {
    !value.starts_with(b"null") && !value.starts_with(b"\"\"")
}

/// Which choice a chunk speaks of.
pub(super) fn index(event: &[u8]) -> u32 {
    let Some(at) = INDEX.find(event) else { return 0 };
    let digits = event[at + 8..].trim_ascii_start().iter().take_while(|byte| byte.is_ascii_digit()).take(9);
    digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
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

/// What a server tells of the cost beyond what we know: prices, sound, ..
pub(super) fn unknown(cost: Value) -> Option<Value> {
    let Value::Object(mut cost) = cost else { return None };
    for (name, known) in [("prompt_tokens_details", "cached_tokens"), ("completion_tokens_details", "reasoning_tokens")]
    {
        if let Some(Value::Object(details)) = cost.get_mut(name) {
            details.remove(known);
        }
    }
    ["prompt_tokens", "completion_tokens", "total_tokens"].iter().for_each(|known| drop(cost.remove(*known)));
    cost.retain(|_, value| {
        !value.is_null() && value.as_object().is_none_or(|details| details.values().any(|v| !v.is_null()))
    });
    (!cost.is_empty()).then_some(Value::Object(cost))
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
    fn an_error_is_seen_wherever_it_stands_and_none_is_none() {
        for failed in [
            r#"{"error":{"message":"no"}}"#,
            r#"{ "error": {"message": "no"}}"#,
            r#"{"id":"x","error":{"message":"no","code":502},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#,
            r#"{"id":"x","choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#,
            r#"{"id":"x","error":{"message":"no"}}"#,
        ] {
            assert!(glance(failed.as_bytes()).failure.is_some(), "{failed}");
            assert!(glance(format!("data: {failed}\n\n").as_bytes()).failure.is_some(), "{failed}");
        }
        for fine in [
            r#"{"error":null,"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"delta":{"content":"\"error\": {"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{"error":1}}}]}}]}"#,
        ] {
            assert!(glance(fine.as_bytes()).failure.is_none(), "{fine}");
        }
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
