//! The answers as nouns: what programs hold when all of it is there.
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Content, Event, Message, Operation, ToolCall, tools};
use crate::error::{Error, Kind, Result};

/// What was thought, among the fields of a message: in words, and in a shape that its host alone can read.
pub(crate) const THOUGHTS: [&str; 2] = ["reasoning", "reasoning_details"];

/// Why an answer ended.
///
/// ```
/// use llm_core::FinishReason;
/// assert_eq!(FinishReason::from("eos_token"), FinishReason::Stop); // servers have words of their own
/// assert_eq!(FinishReason::Length.as_str(), "length");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model said all, or met a stop string.
    Stop,
    /// `max_tokens` or the context window cut it.
    Length,
    /// It wants tools called.
    ToolCalls,
    /// A filter cut it.
    ContentFilter,
    /// Some other word of the server's: `abort`, `repetition`, ..
    Other(String),
}

impl FinishReason {
    /// OpenAI's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::ContentFilter => "content_filter",
            FinishReason::Other(word) => word,
        }
    }
}

impl From<&str> for FinishReason {
    fn from(word: &str) -> Self {
        match word {
            "stop" | "eos" | "eos_token" | "stop_sequence" => FinishReason::Stop,
            "length" => FinishReason::Length,
            "tool_calls" | "function_call" => FinishReason::ToolCalls,
            "content_filter" => FinishReason::ContentFilter,
            other => FinishReason::Other(other.into()),
        }
    }
}

/// What an answer cost, in tokens.
///
/// ```
/// use llm_core::Usage;
/// let mut all = Usage { prompt_tokens: 10, completion_tokens: 2, ..Usage::default() };
/// all.add(Usage { prompt_tokens: 5, completion_tokens: 1, cached_tokens: Some(4), ..Usage::default() });
/// assert_eq!((all.prompt_tokens, all.completion_tokens, all.cached_tokens), (15, 3, Some(4)));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens made.
    pub completion_tokens: u32,
    /// Of those read, tokens that were still known from before.
    #[serde(skip)]
    pub cached_tokens: Option<u32>,
    /// Of those made, tokens that were thinking.
    #[serde(skip)]
    pub reasoning_tokens: Option<u32>,
}

impl Usage {
    /// Adds what another answer cost.
    pub fn add(&mut self, other: Usage) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
        let sum = |a: Option<u32>, b: Option<u32>| a.map_or(b, |a| Some(a.saturating_add(b.unwrap_or(0))));
        self.cached_tokens = sum(self.cached_tokens, other.cached_tokens);
        self.reasoning_tokens = sum(self.reasoning_tokens, other.reasoning_tokens);
    }
}

/// A whole answer.
///
/// Displays as its text, so that `println!("{}", llm.chat("..").await?)` says it.
///
/// ```
/// use llm_core::{ChatReply, Event, FinishReason};
/// let mut answer = ChatReply::default();
/// for event in [Event::Text("[1, ".into()), Event::Text("2]".into()), Event::Finish(FinishReason::Stop)] {
///     answer.add(event);
/// }
/// assert_eq!((answer.to_string().as_str(), answer.json::<Vec<u32>>()?), ("[1, 2]", vec![1, 2]));
/// assert_eq!(answer.message(), llm_core::Message::assistant("[1, 2]")); // to go on with the conversation
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ChatReply {
    /// The server's name for it; empty if it gave none.
    pub id: String,
    /// Who answered, in the server's words; empty if it does not say.
    pub model: String,
    /// What was said.
    pub text: String,
    /// What was thought, by models that show it.
    pub reasoning: String,
    /// Tools to call.
    pub tool_calls: Vec<ToolCall>,
    /// The log probability of each token, if they were asked for.
    pub logprobs: Vec<Logprob>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
    /// What it cost, if the server tells.
    pub usage: Option<Usage>,
    /// How long it took, as seen from here.
    pub timings: Timings,
    /// What the caller should know: turns cut, fields lost in translation.
    pub warnings: Vec<String>,
    /// Every other field of the reply and of its message, as it came: `system_fingerprint`, `refusal`, ..; and what its
    /// cost tells beyond [`Usage`], as `usage`: a price, tokens of sound, ..
    pub extra: Map<String, Value>,
}

impl ChatReply {
    /// Adds a piece of the answer.
    pub fn add(&mut self, event: Event) {
        match event {
            Event::Text(text) => self.text += &text,
            Event::Reasoning(text) => self.reasoning += &text,
            Event::ToolCall(piece) => tools::assemble(&mut self.tool_calls, piece),
            Event::Logprobs(more) => self.logprobs.extend(logprobs(&more)),
            Event::ReplyFields(fields) => self.note(fields),
            Event::MessageFields(fields) => fields.into_iter().for_each(|field| grow(&mut self.extra, field)),
            Event::ChoiceFields(fields) => fields.into_iter().for_each(|field| renew(&mut self.extra, field)),
            Event::Finish(reason) => {
                tools::settle(&mut self.tool_calls);
                self.finish_reason = Some(reason);
            }
            Event::Usage(usage) => self.usage = Some(usage),
        }
    }

    fn note(&mut self, fields: Map<String, Value>) {
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("id", Value::String(id)) => self.id = id,
                ("model", Value::String(model)) => self.model = model,
                (_, value) => drop(self.extra.insert(name, value)),
            }
        }
    }

    /// The answer as a message, to go on with the conversation. What was thought stays out, as the models want it, unless
    /// tools are to be called: then some think on where they stopped.
    pub fn message(&self) -> Message {
        let calls = self.tool_calls.clone();
        let is_silent = self.text.is_empty() && !calls.is_empty();
        let content = if is_silent { Content::default() } else { Content::Text(self.text.clone()) };
        let mut message = Message { content, tool_calls: calls, ..Message::assistant("") };
        if !message.tool_calls.is_empty() {
            let thought = (!self.reasoning.is_empty()).then(|| self.reasoning.as_str().into());
            let details = self.extra.get(THOUGHTS[1]).cloned();
            let all = THOUGHTS.iter().zip([thought, details]);
            message.extra.extend(all.filter_map(|(name, value)| Some(((*name).to_owned(), value?))));
        }
        message
    }

    /// The answer as JSON of a Rust type; see [`ChatRequest::schema`](crate::ChatRequest::schema).
    ///
    /// # Errors
    /// `Upstream` if it is none, or breaks off because `max_tokens` were not enough.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let text = self.text.trim();
        // Servers that do not enforce a schema fence what they write.
        let fenced = text.strip_prefix("```json").or(text.strip_prefix("```")).and_then(|t| t.strip_suffix("```"));
        serde_json::from_str(fenced.unwrap_or(text)).map_err(|e| {
            let cut = self.finish_reason == Some(FinishReason::Length);
            let why = if cut { "max_tokens cut the JSON off" } else { "the answer is not the JSON that was asked for" };
            Error::new(Kind::Upstream, why).because(e)
        })
    }
}

/// Of a stream every message has a piece of its fields: texts and lists grow, and the newest of everything else counts.
pub(crate) fn grow(fields: &mut Map<String, Value>, (name, piece): (String, Value)) {
    match (fields.get_mut(&name), piece) {
        (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
        (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
        (_, piece) => drop(fields.insert(name, piece)),
    }
}

/// Beside the message lists grow, too, and the newest of everything else counts.
pub(crate) fn renew(fields: &mut Map<String, Value>, (name, value): (String, Value)) {
    match value {
        Value::Array(_) => grow(fields, (name, value)),
        value => drop(fields.insert(name, value)),
    }
}

impl std::fmt::Display for ChatReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// How likely a token was.
///
/// ```
/// let token: llm_core::Logprob = serde_json::from_str(r#"{"token":"Paris","logprob":-0.5}"#).unwrap();
/// assert!((token.logprob.exp() - 0.6065).abs() < 1e-4); // its probability
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Logprob {
    /// Its text.
    #[serde(default)]
    pub token: String,
    /// The natural logarithm of its probability: 0 is certain.
    #[serde(default)]
    pub logprob: f32,
    /// Its bytes; a character may take several tokens.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens in its place.
    #[serde(default)]
    pub top_logprobs: Vec<Logprob>,
    /// Every other field, as it came: `text_offset`, ..
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// OpenAI has a shape for chats, `{content: [..]}`, and an older one of four lists for completions.
fn logprobs(value: &Value) -> Vec<Logprob> {
    if let Some(content) = value.get("content").and_then(Value::as_array) {
        return content.iter().filter_map(|entry| serde_json::from_value(entry.clone()).ok()).collect();
    }
    let Some(Value::Array(tokens)) = value.get("tokens") else { return Vec::new() };
    tokens.iter().enumerate().filter_map(|(at, token)| older(value, at, token.as_str()?)).collect()
}

/// One token of the older shape. The first of a prompt has no probability.
fn older(lists: &Value, at: usize, token: &str) -> Option<Logprob> {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0) as f32;
    let mut told = Logprob { token: token.to_owned(), ..Logprob::default() };
    for (name, list) in lists.as_object()? {
        let Some(value) = list.get(at).filter(|value| !value.is_null()) else { continue };
        match (name.as_str(), value) {
            ("tokens", _) => {}
            ("token_logprobs", value) => told.logprob = number(value),
            ("top_logprobs", Value::Object(likely)) => {
                let likely = likely.iter().map(|(token, value)| (token.clone(), number(value)));
                let likely = likely.map(|(token, logprob)| Logprob { token, logprob, ..Logprob::default() });
                told.top_logprobs = likely.collect();
                told.top_logprobs.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
            }
            (name, value) => drop(told.extra.insert(name.to_owned(), value.clone())),
        }
    }
    Some(told)
}

/// How long an answer took, as seen by the caller.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says("hi"))?;
/// use llm_core::Timings;
/// let Timings { queued, first, total } = llm.chat("?").await?.timings;
/// assert!(queued <= first && first <= total);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// In line before a model whose turns were all taken; zero if one was free.
    pub queued: Duration,
    /// Until the answer had begun, retries and the wait in line included.
    pub first: Duration,
    /// Until its end.
    pub total: Duration,
}

/// Documents in the order of how well they answer, best first.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
/// let answer = llm.rerank("what cats eat", ["Rust is a language", "what cats eat is mice"]).await?;
/// let best: &llm_core::Ranked = &answer.results[0];
/// assert!(best.index == 1 && best.relevance_score > answer.results[1].relevance_score);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Ranking {
    /// The best first.
    pub results: Vec<Ranked>,
    /// What it cost, if the server tells.
    pub usage: Option<Usage>,
    /// What the caller should know: who answered instead, fields lost in translation.
    pub warnings: Vec<String>,
    /// Every other field of the reply, as it came: `id`, `model`, ..
    pub extra: Map<String, Value>,
}

/// A document's place in a ranking.
///
/// ```
/// let told = r#"{"index":1,"relevance_score":0.9,"document":{"text":"mice"}}"#;
/// let place: llm_core::Ranked = serde_json::from_str(told).unwrap();
/// assert_eq!((place.index, place.extra["document"]["text"].as_str()), (1, Some("mice")));
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ranked {
    /// Which of the request's documents.
    pub index: usize,
    /// How well it answers; the scale is the model's own.
    pub relevance_score: f32,
    /// Every other field, as it came: `document`, ..
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How alike texts are, in the order of the request's documents.
///
/// ```
/// use llm_core::{Frame, Reply, Scores};
/// let reply = Reply::of(Frame::Scores(Scores { scores: vec![0.9, 0.1], usage: None, ..Scores::default() }));
/// assert!(reply.is_here());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Scores {
    /// One for each document; the scale is the model's own.
    pub scores: Vec<f32>,
    /// What it cost, if the server tells.
    pub usage: Option<Usage>,
    /// What the caller should know: who answered instead, fields lost in translation.
    pub warnings: Vec<String>,
    /// Every other field of the reply, as it came: `id`, `model`, ..
    pub extra: Map<String, Value>,
}

/// Vectors, one per input and in the same order.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
/// let answer: llm_core::Embeddings = llm.embed(["cats", "dogs"]).await?;
/// assert_eq!((answer.vectors.len(), answer.usage.unwrap_or_default().prompt_tokens), (2, 2));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Embeddings {
    /// `vectors[i]` belongs to `input[i]`; all are of one length.
    pub vectors: Vec<Vec<f32>>,
    /// What it cost, if the server tells.
    pub usage: Option<Usage>,
    /// What the caller should know: who answered instead, fields lost in translation.
    pub warnings: Vec<String>,
    /// Every other field of the reply, as it came: `id`, `model`, ..
    pub extra: Map<String, Value>,
}

/// A prompt's tokens.
///
/// ```
/// // vLLM's words for it.
/// let told: llm_core::Tokens = serde_json::from_str(r#"{"count":2,"max_model_len":2048,"tokens":[9707,0]}"#).unwrap();
/// assert_eq!((told.count, told.max_model_len), (2, Some(2048)));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    /// How many.
    pub count: usize,
    /// The context window they have to fit, prompt and answer together.
    #[serde(default)]
    pub max_model_len: Option<u32>,
    /// Their ids.
    #[serde(default)]
    pub tokens: Vec<u32>,
    /// Every other field, as it came: `token_strs`, ..
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a server tells of one model.
///
/// ```
/// use llm_core::{ModelInfo, Operation};
/// let told: ModelInfo = serde_json::from_str(r#"{"id":"e5","max_model_len":512,"capabilities":["embed"]}"#).unwrap();
/// assert!(told.may(Operation::Embed) && !told.may(Operation::Chat));
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The name to ask for.
    pub id: String,
    /// The context window in tokens, if told.
    #[serde(default)]
    pub max_model_len: Option<u32>,
    /// Every other field, as it came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ModelInfo {
    /// Whether it can be asked this, as far as its server tells: a house lists its models' operations as `capabilities`,
    /// others say nothing, or words of their own (`tool_use`).
    pub fn may(&self, operation: Operation) -> bool {
        let told = self.extra.get("capabilities").and_then(Value::as_array);
        let says = |operation: Operation| told.is_some_and(|told| told.iter().any(|word| word == operation.name()));
        says(operation) || !operation.takes_turn() || !Operation::ALL.into_iter().any(says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_may_be_asked_what_its_server_does_not_rule_out() {
        let told = |capabilities: Value| ModelInfo {
            extra: Map::from_iter([("capabilities".to_owned(), capabilities)]),
            ..ModelInfo::default()
        };
        for (info, chat, embed) in [
            (ModelInfo::default(), true, true),
            (told(serde_json::json!(["embed"])), false, true),
            (told(serde_json::json!(["tool_use"])), true, true),
            (told(serde_json::json!({"vision": true})), true, true),
        ] {
            assert_eq!((info.may(Operation::Chat), info.may(Operation::Embed)), (chat, embed), "{info:?}");
            assert!(info.may(Operation::Tokenize));
        }
    }
}
