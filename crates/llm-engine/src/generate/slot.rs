//! A slot: one sequence of the context, the tokens it should hold, and the answer it is making, if any.

use super::job::Job;
use crate::llama::{Model, Token};
use crate::logprobs::{self, Logprobs};
use crate::text::{Stops, Utf8};
use llm_core::{Event, FinishReason, Result, Usage};
use serde_json::Value;

/// The tokens of the sequence, of which the first `cached` are in the context's memory. What is not is to be decoded: a
/// prompt, one new token, or everything again after the memory was taken away; the worker need not know which.
pub(super) struct Slot {
    pub(super) tokens: Vec<Token>,
    pub(super) cached: usize,
    pub(super) answer: Option<Making>,
    /// Waits for room in the pool; its memory was given to older answers.
    pub(super) held: bool,
    /// When it was last given to somebody, as a count of answers.
    pub(super) given: u64,
}

/// An answer being made.
pub(super) struct Making {
    pub(super) job: Job,
    utf8: Utf8,
    stops: Stops,
    /// Of tokens whose text has not been sent yet.
    logprobs: Value,
    prompt: usize,
    reused: usize,
    made: usize,
}

impl Slot {
    pub(super) fn empty() -> Slot {
        Slot { tokens: Vec::new(), cached: 0, answer: None, held: false, given: 0 }
    }

    pub(super) fn is_free(&self) -> bool {
        self.answer.is_none()
    }

    /// Tokens to decode now.
    pub(super) fn pending(&self) -> usize {
        if self.is_free() || self.held { 0 } else { self.tokens.len() - self.cached }
    }

    /// How much of a prompt is in memory already. One token is always decoded anew: its logits are wanted.
    pub(super) fn common(&self, prompt: &[Token]) -> usize {
        let known = &self.tokens[..self.cached.min(self.tokens.len())];
        let same = known.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        same.min(prompt.len().saturating_sub(1))
    }

    /// Begins an answer; the first `cached` tokens of its prompt are in memory.
    pub(super) fn begin(&mut self, mut job: Job, cached: usize, given: u64) {
        self.tokens.clone_from(&job.ask.prompt);
        self.cached = cached;
        self.given = given;
        self.held = false;
        let stops = Stops::new(std::mem::take(&mut job.ask.stops));
        let (utf8, logprobs, prompt) = (Utf8::default(), Value::Null, self.tokens.len());
        self.answer = Some(Making { job, utf8, stops, logprobs, prompt, reused: cached, made: 0 });
    }

    /// Chooses the next token from the logits of the last one, and tells the client. The slot is free afterwards if that
    /// was the end.
    pub(super) fn go_on(&mut self, model: &Model, logits: &[f32]) {
        let Some(making) = &mut self.answer else { return };
        match making.step(model, logits) {
            Ok(Step::Goes(token)) => self.tokens.push(token),
            Ok(Step::Ends(reason)) => {
                making.finish(reason);
                self.answer = None;
            }
            Err(error) => {
                making.job.fail(error);
                self.answer = None;
            }
        }
    }

    /// Takes the answer away: the slot is free, and waits for room no longer if it did.
    pub(super) fn let_go(&mut self) -> Option<Making> {
        self.held = false;
        self.answer.take()
    }

    /// Whether a client has left this slot's answer.
    pub(super) fn is_deserted(&self) -> bool {
        self.answer.as_ref().is_some_and(|making| making.job.leave.is_gone())
    }
}

enum Step {
    Goes(Token),
    Ends(FinishReason),
}

impl Making {
    fn step(&mut self, model: &Model, logits: &[f32]) -> Result<Step> {
        let token = self.job.ask.sampler.choose(logits)?;
        self.made += 1;
        if model.ends(token) {
            return Ok(Step::Ends(FinishReason::Stop));
        }
        if let Some(wanted) = self.job.ask.logprobs {
            let new = Logprobs::of(logits, token, wanted.top).written(model, wanted.style);
            logprobs::join(&mut self.logprobs, new);
        }
        let stopped = self.say(model, token);
        Ok(match stopped {
            true => Step::Ends(FinishReason::Stop),
            false if self.made >= self.job.ask.limit => Step::Ends(FinishReason::Length),
            false => Step::Goes(token),
        })
    }

    /// Sends the token's text as far as it is certain; tells whether a stop string was met.
    fn say(&mut self, model: &Model, token: Token) -> bool {
        let text = self.utf8.push(&model.piece(token));
        let released = self.stops.push(&text);
        self.send(released.text);
        released.stopped
    }

    /// Log probabilities go before the text they belong to, in one piece with those of text that was held back.
    fn send(&mut self, text: String) {
        if !text.is_empty() {
            self.send_logprobs();
            self.job.tell(Event::Text(text));
        }
    }

    fn send_logprobs(&mut self) {
        if !self.logprobs.is_null() {
            self.job.tell(Event::Logprobs(self.logprobs.take()));
        }
    }

    fn finish(&mut self, reason: FinishReason) {
        let rest = self.utf8.finish();
        let released = self.stops.push(&rest);
        let rest = released.text + &self.stops.finish();
        self.send(rest);
        self.send_logprobs();
        self.job.tell(Event::Finish(reason));
        self.job.tell(Event::Usage(self.usage()));
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt as u32,
            completion_tokens: self.made as u32,
            cached_tokens: Some(self.reused as u32),
            ..Usage::default()
        }
    }
}
