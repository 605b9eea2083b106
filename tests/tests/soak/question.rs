//! What a client may ask, by a throw of the dice, and what it may be told.
use fastrand::Rng;
use llm_core::dialect::sse;
use llm_tests::load::post;
use serde_json::{Value, json};

use super::counts::{About, End};

/// A request, and what its answer must be.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) request: Vec<u8>,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Whole,
    Stream,
    Vectors,
    Nonsense,
    Look,
}

impl Question {
    pub(crate) fn throw(dice: &mut Rng) -> Question {
        let kind = match dice.u8(..100) {
            0..35 => Kind::Whole,
            35..70 => Kind::Stream,
            70..80 => Kind::Vectors,
            80..90 => Kind::Nonsense,
            _ => Kind::Look,
        };
        let request = match kind {
            Kind::Whole | Kind::Stream => post("/v1/chat/completions", None, chat(dice, kind).to_string().as_bytes()),
            Kind::Vectors => post("/v1/embeddings", None, vectors(dice).to_string().as_bytes()),
            Kind::Nonsense => post("/v1/chat/completions", None, &nonsense(dice)),
            Kind::Look => look(dice),
        };
        Question { request, kind }
    }

    pub(crate) fn about(&self) -> About {
        match self.kind {
            Kind::Whole | Kind::Stream | Kind::Vectors => About::Call,
            Kind::Nonsense => About::Nonsense,
            Kind::Look => About::Look,
        }
    }

    /// How it ended.
    ///
    /// # Errors
    /// If this is nothing that a client may be told.
    pub(crate) fn end(&self, status: u16, body: &[u8]) -> Result<End, &'static str> {
        match (self.kind, status) {
            (Kind::Nonsense, 400..500) => refusal(body),
            // 401 would be the client's own key, 500 a bug of ours.
            (Kind::Whole | Kind::Stream | Kind::Vectors, 429 | 502 | 503 | 504) => refusal(body),
            (Kind::Look, 200) if !body.is_empty() => Ok(End::Answered),
            (Kind::Whole, 200) => holds(body, "/choices/0/message/content"),
            (Kind::Vectors, 200) => holds(body, "/data/0/embedding"),
            (Kind::Stream, 200) => stream(body),
            _ => Err("a status that has no place here"),
        }
    }
}

fn model(dice: &mut Rng) -> &'static str {
    if dice.u8(..100) < 70 { "pair" } else { "solo" }
}

fn chat(dice: &mut Rng, kind: Kind) -> Value {
    let words = "words ".repeat(dice.usize(1..800));
    let (chunks, every) = (dice.u8(1..40), dice.u8(..3));
    let wishes = format!("chunks={chunks} every_ms={every}{}", misdeed(dice));
    let messages = json!([{"role": "user", "content": words}]);
    json!({"model": model(dice), "stream": kind == Kind::Stream, "messages": messages, "user": wishes})
}

fn vectors(dice: &mut Rng) -> Value {
    json!({"model": model(dice), "input": ["one", "two"], "user": misdeed(dice)})
}

/// A fifth of the questions meets one, most of the time.
fn misdeed(dice: &mut Rng) -> String {
    let misdeeds = [
        "status=500",
        "status=503",
        "status=429",
        "status=401",
        "cut_after=2",
        "hang_after=2",
        "drop=1",
        "page=1",
        "first_ms=2000",
    ];
    match dice.u8(..100) {
        ..20 => format!(" odds=70 {}", misdeeds[dice.usize(..misdeeds.len())]),
        _ => String::new(),
    }
}

fn nonsense(dice: &mut Rng) -> Vec<u8> {
    let all: [&[u8]; 7] = [
        b"",
        b"{",
        b"[1,2",
        b"{\"model\":7}",
        b"{\"model\":\"pair\",\"model\":\"solo\"}",
        b"{\"model\":\"\xff\"}",
        b"{\"model\":\"nobody\",\"messages\":[]}",
    ];
    all[dice.usize(..all.len())].to_vec()
}

fn look(dice: &mut Rng) -> Vec<u8> {
    let path = ["/health", "/v1/models", "/metrics"][dice.usize(..3)];
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes()
}

fn refusal(body: &[u8]) -> Result<End, &'static str> {
    let error = serde_json::from_slice::<Value>(body).map_err(|_| "a refusal that is no JSON")?["error"].take();
    let has = |field: &str| error.get(field).is_some();
    let is_whole = error["message"].is_string() && error["type"].is_string() && has("param") && has("code");
    is_whole.then_some(End::Refused).ok_or("an error in no shape of OpenAI's")
}

fn holds(body: &[u8], pointer: &str) -> Result<End, &'static str> {
    let body: Value = serde_json::from_slice(body).map_err(|_| "an answer that is no JSON")?;
    body.pointer(pointer).map(|_| End::Answered).ok_or("an answer with nothing in it")
}

/// A finish or an error, once, and then one last word.
fn stream(body: &[u8]) -> Result<End, &'static str> {
    let data: Vec<_> = sse::events(body).filter_map(sse::data).collect();
    let Some((last, events)) = data.split_last() else { return Err("an empty stream") };
    if **last != *b"[DONE]" || events.iter().any(|event| **event == *b"[DONE]") {
        return Err("not one last word");
    }
    let events: Result<Vec<Value>, _> = events.iter().map(|event| serde_json::from_slice(event)).collect();
    let events = events.map_err(|_| "an event that is no JSON")?;
    let errors = events.iter().filter(|event| event["error"].is_object()).count();
    let finishes = events.iter().filter(|event| event["choices"][0]["finish_reason"].is_string()).count();
    match (errors, finishes) {
        (0, 1) => Ok(End::Answered),
        (1, 0) => Ok(End::BrokenOff),
        _ => Err("neither one finish nor one error"),
    }
}
