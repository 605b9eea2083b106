//! What a look at forwarded lines shows: whether the answer ended or failed, and what it cost.
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;

use crate::call::{Glance, Usage};

static DONE: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"done\":"));
static COUNT: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"prompt_eval_count\":"));

pub(super) fn glance(line: &[u8]) -> Glance {
    let line = line.trim_ascii();
    if is_failure(line) {
        return Glance { failure: Some(super::refusal(500, line)), ..Glance::default() };
    }
    if !may_be_last(line) && COUNT.find(line).is_none() {
        return Glance::default();
    }
    // It may be words of a tool's arguments, so the line is read in full; that happens once an answer.
    let last = serde_json::from_slice::<Last>(line).unwrap_or_default();
    let usage = usage(last.prompt_eval_count, last.eval_count);
    Glance { is_finished: last.done, is_done: last.done, usage, failure: None }
}

pub(super) fn is_failure(line: &[u8]) -> bool {
    line.starts_with(b"{\"error\"")
}

fn may_be_last(line: &[u8]) -> bool {
    DONE.find_iter(line).any(|at| line[at + 7..].trim_ascii_start().starts_with(b"true"))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Last {
    done: bool,
    prompt_eval_count: Option<u32>,
    eval_count: Option<u32>,
}

/// Ollama's counts in our words; `None` if it tells nothing. A prompt that it knew in full is left out of its counts.
pub(super) fn usage(read: Option<u32>, made: Option<u32>) -> Option<Usage> {
    let (prompt_tokens, completion_tokens) = (read.unwrap_or(0), made.unwrap_or(0));
    read.or(made).map(|_| Usage { prompt_tokens, completion_tokens, ..Usage::default() })
}
