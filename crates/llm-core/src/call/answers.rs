//! The answers as nouns: what comes up, piece by piece or whole.
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Operation;
use crate::error::Error;

/// One piece of a reply.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Frame {
    /// A piece of a chat's or completion's answer.
    Event(Event),
    /// The vectors of an embedding.
    Vectors(Embeddings),
    /// A prompt's tokens.
    Tokens(Tokens),
    /// The text of tokens.
    Text(String),
    /// Models and what is known of them.
    Models(Vec<ModelInfo>),
    /// Bytes of the reply's dialect as the upstream sent them: one or more whole SSE events, or one whole JSON body.
    Wire(Wire),
}

/// Bytes passed on, and what was seen while passing them on.
#[derive(Debug, Clone, Default)]
pub struct Wire {
    /// Whole events, or a whole body.
    pub bytes: Bytes,
    /// What a glance showed.
    pub glance: Glance,
}

/// What a look at forwarded bytes shows without understanding them all.
#[derive(Debug, Clone, Default)]
pub struct Glance {
    /// The answer came to its end.
    pub is_finished: bool,
    /// The dialect's last word (`[DONE]`) was said.
    pub is_done: bool,
    /// What it cost.
    pub usage: Option<Usage>,
    /// It failed, inside a stream that had begun well.
    pub failure: Option<Error>,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The next words.
    Text(String),
    /// The next words of its thinking.
    Reasoning(String),
    /// A piece of a tool call, as OpenAI's `delta.tool_calls[]` has it.
    ToolCall(Value),
    /// Log probabilities of the piece before, as OpenAI's `logprobs` has them.
    Logprobs(Value),
    /// Why it ended; always there, exactly once.
    Finish(FinishReason),
    /// What it cost.
    Usage(Usage),
}

/// Why an answer ended.
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
            "stop" | "eos_token" | "stop_sequence" => FinishReason::Stop,
            "length" => FinishReason::Length,
            "tool_calls" | "function_call" => FinishReason::ToolCalls,
            "content_filter" => FinishReason::ContentFilter,
            other => FinishReason::Other(other.into()),
        }
    }
}

/// What an answer cost, in tokens.
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
}

/// A whole answer.
///
/// Displays as its text, so that `println!("{}", llm.chat("..").await?)` says it.
#[derive(Debug, Clone, Default)]
pub struct ChatReply {
    /// What was said.
    pub text: String,
    /// What was thought, by models that show it.
    pub reasoning: String,
    /// Tools to call, as OpenAI's `message.tool_calls` has them.
    pub tool_calls: Vec<Value>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
    /// What it cost, if the server tells.
    pub usage: Option<Usage>,
    /// What the caller should know: turns cut, fields lost in translation.
    pub warnings: Vec<String>,
}

impl ChatReply {
    /// Adds a piece of the answer.
    pub fn add(&mut self, event: Event) {
        match event {
            Event::Text(text) => self.text += &text,
            Event::Reasoning(text) => self.reasoning += &text,
            Event::ToolCall(piece) => crate::call::tools::assemble(&mut self.tool_calls, piece),
            Event::Logprobs(_) => {}
            Event::Finish(reason) => self.finish_reason = Some(reason),
            Event::Usage(usage) => self.usage = Some(usage),
        }
    }
}

impl std::fmt::Display for ChatReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Vectors, one per input and in the same order.
#[derive(Debug, Clone, Default)]
pub struct Embeddings {
    /// `vectors[i]` belongs to `input[i]`; all are of one length.
    pub vectors: Vec<Vec<f32>>,
    /// What it cost, if the server tells.
    pub usage: Option<Usage>,
}

/// A prompt's tokens.
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
}

/// What a server tells of one model.
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
