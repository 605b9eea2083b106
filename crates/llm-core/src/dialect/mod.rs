//! Dialects: everything that knows a JSON shape, both directions of it in one place.
pub(crate) mod fields;
mod framing;
pub mod llama_server;
pub mod ollama;
pub mod openai;
pub mod sse;
pub mod tei;

pub use framing::Framing;
pub(crate) use framing::Splitter;

use bytes::{Bytes, BytesMut};

use crate::call::{Call, Delivery, Frame, Glance, Operation, Request};
use crate::error::{Error, Result};

/// Every dialect that clients and hosts may speak. A new one is a file and its line.
pub static DIALECTS: &[&dyn Dialect] = &[
    &openai::OpenAi,           // what nearly every host and client speaks
    &ollama::Ollama::Chat,     // what many editors and chats on one's own machine speak
    &ollama::Ollama::Generate, // the older half of it
    &ollama::Ollama::Embeddings,
    &tei::Tei, // servers' own words for what the others have no word for, or another
    &llama_server::LlamaServer,
];

/// The dialect that our nouns are nearest to.
///
/// ```
/// use llm_core::{Operation, dialect};
/// assert!(dialect::openai().paths().contains(&(Operation::Chat, "/v1/chat/completions")));
/// ```
pub fn openai() -> &'static dyn Dialect {
    &openai::OpenAi
}

/// A JSON shape over HTTP. All of its methods are pure: bytes in, nouns out, or the other way round.
///
/// ```
/// use llm_core::{Call, ChatRequest, Delivery, Error, Kind, Operation, dialect};
/// let openai = dialect::openai();
/// assert_eq!((openai.name(), openai.last_word()), ("openai", "data: [DONE]\n\n".into()));
/// assert!(openai.paths().contains(&(Operation::Embed, "/v1/embeddings")));
///
/// // A question, there and back.
/// let call = Call::new(ChatRequest::new("hi").model("m"), Delivery::Stream);
/// let mut lost = Vec::new(); // what our nouns have no word for
/// let request = openai.read(Operation::Chat, &openai.write(&call)?, &mut lost)?;
/// assert!(request.model() == "m" && lost.is_empty());
/// let (asking, is_added) = openai.with_usage(&call)?; // what does it cost? The client did not ask for that
/// assert!(is_added && asking.chat()?.extra.contains_key("stream_options"));
///
/// // Frames are understood, and written.
/// let (mut nouns, mut out) = (Vec::new(), bytes::BytesMut::new());
/// openai.reader().read(b"data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n", &mut nouns)?;
/// openai.writer(&call).write(nouns.remove(0), &mut out)?;
/// assert!(out.starts_with(b"data: {"));
///
/// // Events that are passed on are glanced at.
/// let cost = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
/// assert_eq!(openai.glance(cost).usage.unwrap().completion_tokens, 2);
/// assert!(openai.is_usage_only(cost));
/// assert_eq!(openai.choice(b"data: {\"choices\":[{\"index\":1}]}\n\n"), 1);
///
/// // Errors, theirs and ours.
/// assert_eq!(openai.refusal(401, b"{\"error\":\"no\"}").kind(), Kind::Unauthorized);
/// let ours = Error::invalid("`n` must be at least 1").param("n");
/// assert!(openai.error(&ours).starts_with(b"{\"error\":{"));
/// assert!(openai.failure(&ours).ends_with(b"data: [DONE]\n\n"));
///
/// // What differs from one dialect to the next beside the JSON: Ollama's clients want a stream of lines, unless they say so.
/// use llm_core::dialect::{Framing, ollama::Ollama};
/// let ollama: &dyn dialect::Dialect = &Ollama::Generate;
/// assert_eq!((openai.framing(), ollama.framing()), (Framing::Events, Framing::Lines));
/// assert_eq!((openai.delivery(Operation::Chat), ollama.delivery(Operation::Chat)), (Delivery::Whole, Delivery::Stream));
/// assert_eq!(ollama.doors(), [(Operation::Complete, "/api/generate")]);
/// assert_eq!(ollama.asks(Operation::Complete, &|_| None), Operation::Chat); // its prompts are no raw texts
/// assert_eq!((ollama.way(&call), ollama.bracket()), (0, b'{'));
/// assert_eq!(openai.comment(&call, "working"), Some(": working\n\n".into()));
/// # Ok::<(), llm_core::Error>(())
/// ```
pub trait Dialect: Send + Sync {
    /// Its name in configuration.
    fn name(&self) -> &'static str;

    /// Where clients post, and where we do: an operation and its path from the root of the host.
    fn paths(&self) -> &'static [(Operation, &'static str)];

    /// The paths that clients of our own post to, if they are others: a server's own shape may have the path of one that
    /// more clients speak.
    fn doors(&self) -> &'static [(Operation, &'static str)] {
        self.paths()
    }

    /// Which of its paths for an operation a call goes to, where there are several.
    fn way(&self, _call: &Call) -> usize {
        0
    }

    /// How its streams are cut.
    fn framing(&self) -> Framing {
        Framing::Events
    }

    /// What a whole answer begins with.
    fn bracket(&self) -> u8 {
        b'{'
    }

    /// What a body asks where the path alone does not say it, by the raw JSON of its top-level fields.
    fn asks<'b>(&self, operation: Operation, _field: &dyn Fn(&str) -> Option<&'b [u8]>) -> Operation {
        operation
    }

    /// How a client that does not say wants its answer.
    fn delivery(&self, _operation: Operation) -> Delivery {
        Delivery::Whole
    }

    /// A client's body understood. `lost` gathers, a sentence each, what our nouns have no word for.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    fn read(&self, operation: Operation, body: &[u8], lost: &mut Vec<String>) -> Result<Request>;

    /// A call as a body for a host. What the dialect has no words for, and can be done without, becomes a warning to the
    /// caller.
    ///
    /// # Errors
    /// `Unsupported` for what the dialect has no words for; the call's own, if it cannot be understood.
    fn write(&self, call: &Call) -> Result<Bytes>;

    /// The same call, asking for what its answer costs, and whether the client did not ask for that itself:
    /// then the extra frame is taken out again.
    ///
    /// # Errors
    /// `Invalid` if the field that asks for it has the wrong type.
    fn with_usage(&self, call: &Call) -> Result<(Call, bool)> {
        Ok((call.clone(), false))
    }

    /// Understands an upstream's frames.
    fn reader(&self) -> Box<dyn Reader>;

    /// Writes frames for the client of this call.
    fn writer(&self, call: &Call) -> Box<dyn Writer>;

    /// A look at one event of a stream, or at a whole body, that is passed on.
    fn glance(&self, event: &[u8]) -> Glance;

    /// Which of several answers to one question this event speaks of.
    fn choice(&self, _event: &[u8]) -> u32 {
        0
    }

    /// Whether this event says only what the answer cost.
    fn is_usage_only(&self, _event: &[u8]) -> bool {
        false
    }

    /// A piece of a stream that tells a client to wait on, and is no part of the answer; these words are for people who
    /// look. `None` if the dialect has no such thing.
    fn comment(&self, _call: &Call, _words: &str) -> Option<Bytes> {
        None
    }

    /// An upstream's refusal understood.
    fn refusal(&self, status: u16, body: &[u8]) -> Error;

    /// Our error as a body for the client.
    fn error(&self, error: &Error) -> Bytes;

    /// Our error as the end of a stream, last word included.
    fn failure(&self, error: &Error) -> Bytes;

    /// What ends a stream, if its finish does not.
    fn last_word(&self) -> Bytes {
        Bytes::new()
    }
}

impl std::fmt::Debug for dyn Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Understands the frames of one reply.
///
/// ```
/// use llm_core::{Event, Frame, dialect};
/// let mut nouns = Vec::new();
/// let event = b"data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
/// dialect::openai().reader().read(event, &mut nouns)?;
/// assert!(matches!(&nouns[..], [Frame::Event(Event::Text(words))] if words == "hi"));
/// # Ok::<(), llm_core::Error>(())
/// ```
pub trait Reader: Send {
    /// Whole events, or one whole body, as nouns.
    ///
    /// # Errors
    /// `Upstream` if they make no sense, or say that the answer failed.
    fn read(&mut self, frame: &[u8], nouns: &mut Vec<Frame>) -> Result<()>;
}

/// Writes the frames of one reply.
///
/// ```
/// use bytes::BytesMut;
/// use llm_core::{Call, ChatRequest, Delivery, Event, FinishReason, Frame, dialect};
/// let call = Call::new(ChatRequest::new("?"), Delivery::Stream);
/// let (mut writer, mut out) = (dialect::openai().writer(&call), BytesMut::new());
/// writer.write(Frame::Event(Event::Text("hi".into())), &mut out)?;
/// writer.write(Frame::Event(Event::Finish(FinishReason::Stop)), &mut out)?;
/// writer.end(&mut out)?;
/// assert!(out.starts_with(b"data: {") && out.ends_with(b"data: [DONE]\n\n"));
/// # Ok::<(), llm_core::Error>(())
/// ```
pub trait Writer: Send {
    /// One frame; a whole answer is written at its end.
    ///
    /// # Errors
    /// `Internal` for a frame that does not belong to the operation.
    fn write(&mut self, frame: Frame, out: &mut BytesMut) -> Result<()>;

    /// The end: the whole body, or a stream's last word.
    ///
    /// # Errors
    /// `Upstream` if the answer never came to an end.
    fn end(&mut self, out: &mut BytesMut) -> Result<()>;
}
