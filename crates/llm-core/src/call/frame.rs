//! Frames: the pieces in which a reply comes up, as nouns or as the upstream's bytes.
use bytes::Bytes;
use serde_json::{Map, Value};

use super::answers::*;
use crate::error::Error;

/// One piece of a reply.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use futures_util::StreamExt;
/// use llm_core::{Event, Frame, Reply};
/// let mut frames = Reply::says("hi").events();
/// while let Some(frame) = frames.next().await {
///     match frame? {
///         Frame::Event(Event::Text(words)) => assert_eq!(words, "hi"),
///         Frame::Event(_) => {} // the finish
///         other => panic!("no piece of a chat: {other:?}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
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
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use bytes::Bytes;
/// use llm_core::{Reply, Wire, dialect};
/// let bytes = Bytes::from(r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#);
/// let glance = dialect::openai().glance(&bytes);
/// assert!(glance.is_finished && glance.failure.is_none());
/// let reply = Reply::of_wire(dialect::openai(), Wire { bytes, glance });
/// assert_eq!(reply.chat().await?.text, "hi");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Wire {
    /// Whole events, or a whole body.
    pub bytes: Bytes,
    /// What a glance showed.
    pub glance: Glance,
}

/// What a look at forwarded bytes shows without understanding them all.
///
/// ```
/// use llm_core::{Glance, dialect};
/// let seen: Glance = dialect::openai().glance(b"data: [DONE]\n\n");
/// assert!(seen.is_done && seen.usage.is_none());
/// ```
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
///
/// ```
/// use llm_core::{ChatReply, Event, FinishReason};
/// let mut answer = ChatReply::default();
/// answer.add(Event::Reasoning("Paris is in France. ".into()));
/// answer.add(Event::Text("France.".into()));
/// answer.add(Event::Finish(FinishReason::Stop));
/// assert_eq!((answer.reasoning.as_str(), answer.text.as_str()), ("Paris is in France. ", "France."));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The next words.
    Text(String),
    /// The next words of its thinking.
    Reasoning(String),
    /// A piece of a tool call, as OpenAI's `delta.tool_calls[]` has it.
    ToolCall(Value),
    /// Log probabilities of the piece that follows, as OpenAI's `logprobs` has them.
    Logprobs(Value),
    /// Fields of the reply that we do not know, each told once: `id`, `model`, `system_fingerprint`, `metrics`, ..
    ReplyFields(Map<String, Value>),
    /// Fields of the message that we do not know, or pieces of them: `refusal`, `annotations`, ..
    MessageFields(Map<String, Value>),
    /// Fields beside the message that we do not know: `stop_reason`, `native_finish_reason`, a piece of `token_ids`, ..
    ChoiceFields(Map<String, Value>),
    /// Why it ended; always there, exactly once.
    Finish(FinishReason),
    /// What it cost.
    Usage(Usage),
}
