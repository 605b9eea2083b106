//! How fast an answer came.
use std::time::{Duration, Instant};

use llm_core::ChatReply;

/// The clock of one answer.
pub(super) struct Stats {
    start: Instant,
    first: Option<Instant>,
}

impl Stats {
    pub(super) fn start() -> Stats {
        Stats { start: Instant::now(), first: None }
    }

    /// A piece is there.
    pub(super) fn piece(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    /// One line about an answer that has ended now.
    pub(super) fn line(&self, reply: &ChatReply) -> String {
        let first = self.first.map_or(Duration::ZERO, |first| first - self.start);
        line(reply, first, self.start.elapsed())
    }
}

/// The first token costs the reading of the prompt; the speed is that of those after it.
fn line(reply: &ChatReply, first: Duration, all: Duration) -> String {
    let times = format!("first token after {:.2} s, all after {:.2} s", first.as_secs_f64(), all.as_secs_f64());
    let Some(usage) = reply.usage else { return format!("{times}; the server told no token counts") };
    let (read, made) = (usage.prompt_tokens, usage.completion_tokens);
    let making = (all - first).as_secs_f64();
    match made {
        2.. if making > 0.0 => {
            format!("{made} tokens, {:.1} tokens/s; prompt {read} tokens; {times}", f64::from(made - 1) / making)
        }
        _ => format!("{made} tokens; prompt {read} tokens; {times}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llm_core::Usage;

    #[test]
    fn the_speed_is_that_of_the_tokens_after_the_first() {
        let usage = Usage { prompt_tokens: 7, completion_tokens: 21, ..Usage::default() };
        let reply = ChatReply { usage: Some(usage), ..ChatReply::default() };
        let line = line(&reply, Duration::from_secs(1), Duration::from_secs(3));
        assert_eq!(line, "21 tokens, 10.0 tokens/s; prompt 7 tokens; first token after 1.00 s, all after 3.00 s");
    }
}
