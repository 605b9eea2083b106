//! Frames: the pieces in which a reply comes up, as nouns or as the upstream's bytes.
use bytes::Bytes;
use serde_json::{Map, Value};

use super::answers::*;
use crate::error::Error;

/// One piece of a reply.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Frame {
    /// A piece of a chat's or completion's answer.
    Event(Event),
    /// The vectors of an embedding.
    Vectors(Embeddings),
    /// Documents in order.
    Ranking(Ranking),
    /// How alike texts are.
    Scores(Scores),
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
    /// Fields of the reply that we do not know, each told once: `id`, `model`, `system_fingerprint`, `metrics`, ..
    ReplyFields(Map<String, Value>),
    /// Fields of the message that we do not know: `refusal`, `annotations`, `stop_reason`, ..
    MessageFields(Map<String, Value>),
    /// Why it ended; always there, exactly once.
    Finish(FinishReason),
    /// What it cost.
    Usage(Usage),
}
