//! The heart of the house: a `Call` goes down, a `Reply` comes up, and whoever answers is a `Provider`.
mod answers;
mod body;
mod chat;
mod context;
mod frame;
mod image;
mod message;
mod nouns;
mod operation;
mod reply;
mod scan;
pub(crate) mod tools;

pub use answers::*;
pub use body::Wired;
pub use chat::{ChatRequest, Sampling};
pub use context::{Context, Progress, Shared};
pub use frame::*;
pub use image::Image;
pub use message::{Content, Message, Part, Role};
pub use nouns::*;
pub use operation::{Delivery, Operation, Operations};
pub(crate) use reply::truncated;
pub use reply::{Bodies, End, Frames, Reply};
pub use tools::{FunctionCall, ToolCall};

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::dialect::Dialect;
use crate::error::{Error, Result};
use body::Body;

/// A future on the heap, because a `dyn Provider` cannot return any other.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answers calls. Dropping the future, or the reply it gave, cancels the work upstream.
///
/// A whole provider can be a few lines:
///
/// ```
/// use llm_core::{BoxFuture, Call, Provider, Reply, Result};
/// struct Parrot;
/// impl Provider for Parrot {
///     fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
///         Box::pin(async move { Ok(Reply::says(call.chat()?.last_text())) })
///     }
/// }
/// ```
pub trait Provider: Send + Sync {
    /// Answers, or says why not. The reply has begun when this returns: nothing has been seen by the client before.
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>>;

    /// What it stands around, for a policy: what it does not say itself, the inner one says.
    fn inner(&self) -> Option<&dyn Provider> {
        None
    }

    /// What it can be asked, so that a configuration that cannot work fails when it is built.
    fn serves(&self) -> Operations {
        self.inner().map_or(Operations::CHAT, Provider::serves)
    }

    /// How many calls it works on at once; `None` for as many as come.
    fn width(&self) -> Option<usize> {
        self.inner().and_then(Provider::width)
    }

    /// How many calls stand in line in front of it.
    fn waiting(&self) -> usize {
        self.inner().map_or(0, Provider::waiting)
    }

    /// Whether a token of it costs nobody anything, so that one may be spent to see that it works: a server of one's own.
    fn is_free(&self) -> bool {
        self.inner().is_some_and(Provider::is_free)
    }

    /// The life of what must be loaded before it answers; `None` for what always runs.
    fn life(&self) -> Option<&dyn Life> {
        None
    }
}

/// What can be loaded and unloaded: an engine, a supervised runtime.
pub trait Life: Send + Sync {
    /// Loads it, telling progress through [`Life::status`]; returns when it answers. Loading twice is loading once.
    fn load(&self) -> BoxFuture<'_, Result<()>>;

    /// Lets go of its memory; running calls end first.
    fn unload(&self) -> BoxFuture<'_, Result<()>>;

    /// How it is now; cheap.
    fn status(&self) -> LifeStatus;

    /// Bytes of memory it holds, or would hold if it were loaded, as far as known.
    fn memory(&self) -> Option<u64> {
        None
    }
}

/// The state of something that can be loaded.
#[derive(Debug, Clone, PartialEq)]
pub enum LifeStatus {
    /// On disk.
    Unloaded,
    /// Being loaded; 0 to 1.
    Loading(f32),
    /// It answers.
    Ready {
        /// The context window of one answer in tokens, prompt included.
        max_model_len: u32,
    },
    /// It could not be loaded, or died; says why.
    Failed(String),
}

/// One question; cheap to clone.
#[derive(Clone)]
pub struct Call {
    /// What is asked.
    pub operation: Operation,
    /// Of whom; empty means the default model.
    pub model: Arc<str>,
    /// What the client wants, and the upstream is asked for the same.
    pub delivery: Delivery,
    /// Who asks, until when, and how it fares.
    pub context: Arc<Context>,
    body: Body, // the client's bytes or our nouns; each is made from the other on demand
}

impl Call {
    /// A client's question in its own bytes. One pass checks them and notes where the top-level fields stand; nothing is decoded.
    pub fn read(operation: Operation, dialect: &'static dyn Dialect, bytes: Bytes) -> Result<Call> {
        Call::read_in(Context::default(), operation, dialect, bytes)
    }

    /// The same, in these circumstances.
    pub fn read_in(
        context: Context,
        operation: Operation,
        dialect: &'static dyn Dialect,
        bytes: Bytes,
    ) -> Result<Call> {
        let (body, model, delivery) = Body::read(dialect, bytes)?;
        Ok(Call { operation, model, delivery, context: Arc::new(context), body })
    }

    /// A program's question in our nouns.
    pub fn new(request: impl Into<Request>, delivery: Delivery) -> Call {
        let request = request.into();
        let (operation, model) = (request.operation(), request.model().into());
        Call { operation, model, delivery, context: Arc::default(), body: Body::nouns(request) }
    }

    /// The same question with other circumstances.
    pub fn in_context(mut self, context: Context) -> Call {
        self.context = Arc::new(context);
        self
    }

    /// The question understood.
    pub fn request(&self) -> Result<&Request> {
        self.body.request(self.operation)
    }

    /// The question understood, if it is a conversation.
    pub fn chat(&self) -> Result<&ChatRequest> {
        match self.request()? {
            Request::Chat(request) => Ok(request),
            _ => Err(Error::new(crate::Kind::Unsupported, format!("this provider cannot {}", self.operation))),
        }
    }

    /// The bytes for a host that speaks these dialects, the one it likes best first: the client's own if they can be.
    pub fn wire(&self, speaks: &[&'static dyn Dialect]) -> Result<Wired> {
        self.body.wire(self, speaks)
    }

    /// The same question to another model. Edits are splices: every other byte stays as it came.
    pub fn for_model(&self, name: &Arc<str>) -> Call {
        let mut call = self.clone();
        call.body = self.body.with(self.operation, "model", &Value::from(&**name)).unwrap_or(call.body);
        call.model = name.clone();
        call
    }

    /// The same question with this top-level field set.
    pub fn with(&self, field: &str, value: &Value) -> Result<Call> {
        Ok(Call { body: self.body.with(self.operation, field, value)?, ..self.clone() })
    }

    /// The same question without these of its messages.
    pub fn without(&self, messages: Range<usize>) -> Result<Call> {
        Ok(Call { body: self.body.without(self.operation, messages)?, ..self.clone() })
    }

    /// The raw JSON of a top-level field of the client's bytes; `None` for nouns and for fields that are not there.
    pub fn raw(&self, field: &str) -> Option<&[u8]> {
        self.body.raw(field)
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the body: prompts do not belong in logs.
        write!(f, "Call({} {:?} {:?} {})", self.operation, self.model, self.delivery, self.context.id)
    }
}

impl Request {
    /// Which operation it asks for.
    pub fn operation(&self) -> Operation {
        match self {
            Request::Chat(_) => Operation::Chat,
            Request::Complete(_) => Operation::Complete,
            Request::Embed(_) => Operation::Embed,
            Request::Rerank(_) => Operation::Rerank,
            Request::Score(_) => Operation::Score,
            Request::Tokenize(_) => Operation::Tokenize,
            Request::Detokenize(_) => Operation::Detokenize,
            Request::Models => Operation::Models,
        }
    }

    /// Which model it asks; empty means the default one.
    pub fn model(&self) -> &str {
        match self {
            Request::Chat(r) => &r.model,
            Request::Complete(r) => &r.model,
            Request::Embed(r) => &r.model,
            Request::Rerank(r) => &r.model,
            Request::Score(r) => &r.model,
            Request::Tokenize(r) => &r.model,
            Request::Detokenize(r) => &r.model,
            Request::Models => "",
        }
    }
}

macro_rules! requests {
    ($($kind:ident($type:ty)),*) => {$(
        impl From<$type> for Request {
            fn from(request: $type) -> Request {
                Request::$kind(request)
            }
        }
    )*};
}
requests!(
    Chat(ChatRequest),
    Complete(CompleteRequest),
    Embed(EmbedRequest),
    Rerank(RerankRequest),
    Score(ScoreRequest),
    Tokenize(TokenizeRequest),
    Detokenize(DetokenizeRequest)
);
