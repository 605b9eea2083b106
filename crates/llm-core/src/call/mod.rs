//! The heart of the house: a `Call` goes down, a `Reply` comes up, and whoever answers is a `Provider`.
mod answers;
mod body;
mod chat;
mod context;
mod end;
mod frame;
mod image;
mod message;
mod nouns;
mod operation;
mod reply;
mod scan;
pub(crate) mod tape;
mod tools;
mod written;

pub use answers::*;
pub(crate) use answers::{THOUGHTS, grow, renew};
pub use body::Wired;
pub use chat::{ChatRequest, Sampling};
pub use context::{Cached, Caching, Context, Progress, Shared};
pub use end::End;
pub(crate) use end::{INVALID_ANSWER, invalid_answer, truncated};
pub use frame::*;
pub use image::Image;
pub use message::{Content, Message, Part, Role};
pub use nouns::*;
pub use operation::{Delivery, Operation, Operations};
pub use reply::{Bodies, Frames, Reply};
pub use tape::Tape;
pub use tools::{FunctionCall, ToolCall};

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::dialect::Dialect;
use crate::error::{Error, Result};
use body::Body;

/// A future on the heap, because a `dyn Provider` cannot return any other.
///
/// ```
/// let answer: llm_core::BoxFuture<'_, u32> = Box::pin(async { 42 });
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { assert_eq!(answer.await, 42) });
/// ```
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
///
/// One that decides is a provider around a provider; what it does not say itself, the inner one says:
///
/// ```
/// # use llm_core::{BoxFuture, Call, Operation, Provider, Reply, Result, provider::fake::Fake};
/// struct Polite<P>(P);
/// impl<P: Provider> Provider for Polite<P> {
///     fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
///         Box::pin(async move {
///             let question = call.chat()?.clone().system("Say please.");
///             self.0.call(&Call::new(question, call.delivery)).await
///         })
///     }
///     fn inner(&self) -> Option<&dyn Provider> {
///         Some(&self.0)
///     }
/// }
/// let polite = Polite(Fake::says("please"));
/// assert!(polite.serves().contains(Operation::Chat));
/// assert_eq!((polite.width(), polite.waiting()), (None, 0)); // as many as come, and nobody waits
/// assert!(polite.life().is_none() && !polite.is_loading()); // nothing has to be loaded
/// assert!(!polite.is_free() && !polite.wants_a_name()); // tokens may cost money, and whose they are is no question
/// ```
pub trait Provider: Send + Sync {
    /// Answers, or says why not. The reply has begun when this returns: nothing has been seen by the client before.
    ///
    /// # Errors
    /// What kept it from answering, with a [`Kind`](crate::Kind) that tells policies what to do about it.
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

    /// A configuration is in force from now on: what it shares with the one before goes over to it, as those who stand in
    /// line do.
    ///
    /// ```
    /// use llm_core::{Provider, provider::fake::Fake};
    /// Fake::says("hi").takes_over(); // it shares nothing
    /// ```
    fn takes_over(&self) {
        if let Some(inner) = self.inner() {
            inner.takes_over();
        }
    }

    /// Whether it must be told which of its models is meant: a service has many, and the first is nobody's choice.
    fn wants_a_name(&self) -> bool {
        self.inner().is_some_and(Provider::wants_a_name)
    }

    /// Whether it can answer nobody yet because it is being loaded or started.
    fn is_loading(&self) -> bool {
        self.inner().is_some_and(Provider::is_loading)
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
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use llm_core::{BoxFuture, Life, LifeStatus, Result};
/// struct Lamp(AtomicBool);
/// impl Life for Lamp {
///     fn load(&self) -> BoxFuture<'_, Result<()>> {
///         Box::pin(async { Ok(self.0.store(true, Ordering::Relaxed)) })
///     }
///     fn unload(&self) -> BoxFuture<'_, Result<()>> {
///         Box::pin(async { Ok(self.0.store(false, Ordering::Relaxed)) })
///     }
///     fn status(&self) -> LifeStatus {
///         if self.0.load(Ordering::Relaxed) { LifeStatus::Ready { max_model_len: 1 } } else { LifeStatus::Unloaded }
///     }
/// }
/// let lamp = Lamp(AtomicBool::new(false));
/// lamp.load().await?;
/// assert_eq!((lamp.status(), lamp.memory()), (LifeStatus::Ready { max_model_len: 1 }, None));
/// lamp.unload().await?;
/// assert_eq!(lamp.status(), LifeStatus::Unloaded);
/// # Ok(())
/// # }
/// ```
pub trait Life: Send + Sync {
    /// Loads it, telling progress through [`Life::status`]; returns when it answers. Loading twice is loading once.
    ///
    /// # Errors
    /// Why it could not be loaded.
    fn load(&self) -> BoxFuture<'_, Result<()>>;

    /// Lets go of its memory; running calls end first.
    ///
    /// # Errors
    /// Why it holds on.
    fn unload(&self) -> BoxFuture<'_, Result<()>>;

    /// How it is now; cheap.
    fn status(&self) -> LifeStatus;

    /// Bytes of memory it holds, or would hold if it were loaded, as far as known.
    fn memory(&self) -> Option<u64> {
        None
    }
}

/// The state of something that can be loaded.
///
/// ```
/// use llm_core::LifeStatus;
/// let told = |status: &LifeStatus| match status {
///     LifeStatus::Unloaded => "on disk".to_owned(),
///     LifeStatus::Loading(share) => format!("{:.0} %", share * 100.0),
///     LifeStatus::Ready { max_model_len } => format!("{max_model_len} tokens"),
///     LifeStatus::Failed(why) => why.clone(),
/// };
/// assert_eq!(told(&LifeStatus::Loading(0.5)), "50 %");
/// ```
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
///
/// ```
/// use bytes::Bytes;
/// use llm_core::{Call, ChatRequest, Context, Delivery, Operation, dialect};
/// // A client's bytes are passed on as they came; only what is meant to change changes.
/// let messages = r#"[{"role":"user","content":"hi"},{"role":"user","content":"?"}]"#;
/// let body = Bytes::from(format!(r#"{{"model":"gpt", "messages":{messages}, "seed":1}}"#));
/// let call = Call::read_in(Context::named("call-1"), Operation::Chat, dialect::openai(), body.clone())?;
/// assert_eq!((&*call.model, call.raw("seed")), ("gpt", Some(&b"1"[..])));
/// assert_eq!(call.wire(&[dialect::openai()])?.bytes, body);
/// let other = call.for_model(&"coder".into()).with("seed", &2.into())?.without(0..1)?;
/// let expected = r#"{"model":"coder", "messages":[{"role":"user","content":"?"}], "seed":2}"#;
/// assert_eq!(other.wire(&[dialect::openai()])?.bytes, expected);
/// assert_eq!(other.chat()?.last_text(), "?");
/// # assert!(Call::read(Operation::Chat, dialect::openai(), Bytes::from("{")).is_err());
///
/// // A program's nouns become bytes when somebody needs them.
/// let call = Call::new(ChatRequest::new("hi"), Delivery::Whole).in_context(Context::named("call-2"));
/// assert_eq!(call.request()?.operation(), Operation::Chat);
/// let body: serde_json::Value = serde_json::from_slice(&call.wire(&[dialect::openai()])?.bytes).unwrap();
/// assert_eq!(body["messages"][0]["content"], "hi");
/// # Ok::<(), llm_core::Error>(())
/// ```
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
    ///
    /// # Errors
    /// `Invalid` for what is no JSON object, or has a field twice.
    pub fn read(operation: Operation, dialect: &'static dyn Dialect, bytes: Bytes) -> Result<Call> {
        Call::read_in(Context::default(), operation, dialect, bytes)
    }

    /// The same, in these circumstances.
    ///
    /// # Errors
    /// As [`Call::read`].
    pub fn read_in(
        context: Context,
        operation: Operation,
        dialect: &'static dyn Dialect,
        bytes: Bytes,
    ) -> Result<Call> {
        let (body, model, delivery) = Body::read(operation, dialect, bytes)?;
        let operation = dialect.asks(operation, &|field| body.raw(field));
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
    ///
    /// # Errors
    /// `Invalid`, naming the field, for bytes that make no sense.
    pub fn request(&self) -> Result<&Request> {
        self.body.request(self.operation, &self.context)
    }

    /// The question understood, if it is a conversation.
    ///
    /// # Errors
    /// `Unsupported` if it is something else; as [`Call::request`].
    pub fn chat(&self) -> Result<&ChatRequest> {
        match self.request()? {
            Request::Chat(request) => Ok(request),
            _ => Err(Error::new(crate::Kind::Unsupported, format!("this provider cannot {}", self.operation))),
        }
    }

    /// How many answers it asks for: several to one prompt, or one to each of several.
    pub(crate) fn choices(&self) -> usize {
        self.body.choices()
    }

    /// A top-level field that has no name among the nouns, whichever way it came; null if it is not there.
    pub(crate) fn field(&self, field: &str) -> Result<Value> {
        self.body.value(self, field)
    }

    /// How long the vectors shall be that it asks for.
    pub(crate) fn dimensions(&self) -> Option<u32> {
        self.body.dimensions()
    }

    /// Whether it is a client's own bytes, in one of these dialects.
    pub(crate) fn is_as_it_came(&self, speaks: &[&'static dyn Dialect]) -> bool {
        self.body.is_as_it_came(speaks)
    }

    /// The same question in other nouns.
    pub(crate) fn asking(&self, request: Request) -> Call {
        Call { body: Body::nouns(request), ..self.clone() }
    }

    /// How long its body is, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.body.size(self)
    }

    /// The bytes for a host that speaks these dialects, the one it likes best first: the client's own if they can be.
    ///
    /// # Errors
    /// `Unsupported` if their dialects have no words for it; as [`Call::request`] if it must be understood first.
    pub fn wire(&self, speaks: &[&'static dyn Dialect]) -> Result<Wired> {
        self.body.wire(self, speaks)
    }

    /// The same question to another model. Edits are splices: every other byte stays as it came.
    pub fn for_model(&self, name: &Arc<str>) -> Call {
        let mut call = self.clone();
        call.body = self.body.with(self, "model", &Value::from(&**name)).unwrap_or(call.body);
        call.model = name.clone();
        call
    }

    /// The same question with this top-level field set.
    ///
    /// # Errors
    /// As [`Call::request`], of nouns and of bytes that were edited there before.
    pub fn with(&self, field: &str, value: &Value) -> Result<Call> {
        Ok(Call { body: self.body.with(self, field, value)?, ..self.clone() })
    }

    /// The same question with this top-level field where it does not set it; of an object, with what it does not set inside.
    ///
    /// ```
    /// use llm_core::{Call, ChatRequest, Delivery};
    /// use serde_json::json;
    /// let question = ChatRequest::new("hi").extra("options", json!({"num_ctx": 8192}));
    /// let call = Call::new(question, Delivery::Whole).with_default("options", &json!({"num_ctx": 2048, "num_gpu": 1}))?;
    /// assert_eq!(call.chat()?.extra["options"], json!({"num_ctx": 8192, "num_gpu": 1}));
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Call::with`].
    pub fn with_default(&self, field: &str, value: &Value) -> Result<Call> {
        Ok(Call { body: self.body.with_default(self, field, value)?, ..self.clone() })
    }

    /// The same question without these of its messages.
    ///
    /// # Errors
    /// `Invalid` if there are no such messages.
    pub fn without(&self, messages: Range<usize>) -> Result<Call> {
        Ok(Call { body: self.body.without(self, messages)?, ..self.clone() })
    }

    /// Whether it has this top-level field, which is none that the nouns have a name for.
    ///
    /// ```
    /// use llm_core::{Call, ChatRequest, Delivery};
    /// let call = Call::new(ChatRequest::new("hi").extra("top_a", 0.2), Delivery::Whole);
    /// assert!(call.has("top_a") && !call.has("top_b"));
    /// ```
    pub fn has(&self, field: &str) -> bool {
        self.body.has(field)
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

    /// The fields that have no name here, as they came.
    ///
    /// ```
    /// use llm_core::{ChatRequest, Request};
    /// let request = Request::from(ChatRequest::new("hi").extra("top_a", 0.2));
    /// assert_eq!(request.extra().unwrap()["top_a"], 0.2);
    /// assert!(Request::Models.extra().is_none());
    /// ```
    pub fn extra(&self) -> Option<&serde_json::Map<String, Value>> {
        match self {
            Request::Chat(r) => Some(&r.extra),
            Request::Complete(r) => Some(&r.extra),
            Request::Embed(r) => Some(&r.extra),
            Request::Rerank(r) => Some(&r.extra),
            Request::Score(r) => Some(&r.extra),
            Request::Tokenize(r) => Some(&r.extra),
            Request::Detokenize(r) => Some(&r.extra),
            Request::Models => None,
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
