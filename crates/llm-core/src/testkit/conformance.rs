//! What every provider must do, as checks that anybody's provider can be put to.
use std::fmt;
use std::time::{Duration, Instant};

use super::checks::CHECKS;
use crate::call::*;
use crate::error::Kind;

/// No check takes longer.
const LONGEST: Duration = Duration::from_secs(60);

/// A provider, and what the checks need to know of it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use llm_core::testkit::Subject;
/// use llm_core::{BoxFuture, Call, Kind, Error, Provider, Reply, Result};
///
/// struct Parrot;
/// impl Provider for Parrot {
///     fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
///         Box::pin(async move { Ok(Reply::says(call.chat()?.last_text())) })
///     }
/// }
/// Subject::new(&Parrot).asked("hello").says("hello").conforms().await.unwrap();
///
/// struct Mute;
/// impl Provider for Mute {
///     fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
///         Box::pin(async move { Ok(Reply::says("")) })
///     }
/// }
/// let complaints = Subject::new(&Mute).conforms().await.unwrap_err();
/// assert!(complaints.to_string().contains("it says nothing"));
/// # }
/// ```
///
/// The more is told of it, the more is checked:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
/// use llm_core::provider::fake::{Config, Fake};
/// use llm_core::testkit::Subject;
/// use llm_core::{Kind, Operation, RerankRequest, Operations};
/// let slow = Fake::new(Config { says: "one two three".into(), first_ms: 200, each_ms: 100, ..Config::default() });
/// let subject = Subject::new(&slow).model("coder").only(Operations::CHAT).says("one two three");
/// let subject = subject.asked_for_long("Tell me a story.").running(|| slow.running());
/// subject.stops_within(Duration::from_millis(200)).conforms().await.unwrap();
///
/// let full = Fake::says("").after_failures(u32::MAX);
/// let subject = Subject::new(&full).only(Operations::NONE).refuses(RerankRequest::new("q", ["d"]), Kind::Upstream);
/// subject.conforms().await.unwrap();
/// # }
/// ```
pub struct Subject<'a> {
    pub(super) provider: &'a dyn Provider,
    pub(super) operations: Operations,
    pub(super) model: String,
    pub(super) question: ChatRequest,
    pub(super) says: Option<String>,
    pub(super) long: Option<ChatRequest>,
    pub(super) running: Option<Box<dyn Fn() -> usize + Send + Sync + 'a>>,
    pub(super) stops_within: Duration,
    pub(super) refusals: Vec<(Call, Kind)>,
    pub(super) calls: Vec<(ChatRequest, String)>,
}

impl<'a> Subject<'a> {
    /// This provider, with all that it says it serves.
    pub fn new(provider: &'a dyn Provider) -> Subject<'a> {
        Subject {
            provider,
            operations: provider.serves(),
            model: String::new(),
            question: ChatRequest::new("What is the capital of France?").temperature(0.0),
            says: None,
            long: None,
            running: None,
            stops_within: Duration::from_millis(50),
            refusals: Vec::new(),
            calls: Vec::new(),
        }
    }

    /// Asked for this model; by default for none, which is what the host likes best.
    pub fn model(mut self, model: &str) -> Self {
        self.model = model.into();
        self
    }

    /// Checks these operations alone: a host may say that it serves what its model cannot.
    pub fn only(mut self, operations: impl Into<Operations>) -> Self {
        self.operations = operations.into();
        self
    }

    /// Asked this, whose answer is the same every time; by default, for the capital of France.
    pub fn asked(mut self, question: impl Into<ChatRequest>) -> Self {
        self.question = question.into();
        self
    }

    /// Answers exactly this; by default whatever is not empty.
    pub fn says(mut self, text: &str) -> Self {
        self.says = Some(text.into());
        self
    }

    /// Asked this, it works for so long that it can be left in the middle: at least half a second.
    pub fn asked_for_long(mut self, question: impl Into<ChatRequest>) -> Self {
        self.long = Some(question.into());
        self
    }

    /// How many answers it works on now, as its upstream sees it. Without this nobody can tell whether it stops.
    pub fn running(mut self, running: impl Fn() -> usize + Send + Sync + 'a) -> Self {
        self.running = Some(Box::new(running));
        self
    }

    /// Stops within this time when it is left; 50 ms by default.
    pub fn stops_within(mut self, time: Duration) -> Self {
        self.stops_within = time;
        self
    }

    /// Refuses this, as an error of this kind.
    pub fn refuses(mut self, question: impl Into<Request>, kind: Kind) -> Self {
        self.refusals.push((Call::new(question, Delivery::Whole), kind));
        self
    }

    /// Asked this, it wants this tool called, and no other.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use llm_core::testkit::Subject;
    /// use llm_core::{BoxFuture, Call, ChatRequest, Event, FinishReason, Frame, Operations, Provider, Reply, Result};
    /// use serde_json::json;
    ///
    /// struct Forecaster;
    /// impl Provider for Forecaster {
    ///     fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    ///         Box::pin(async move {
    ///             call.chat()?;
    ///             let wish = json!({"id": "c1", "function": {"name": "weather", "arguments": "{\"city\":\"Paris\"}"}});
    ///             let events = [Event::ToolCall(wish), Event::Finish(FinishReason::ToolCalls)];
    ///             let frames = events.map(|event| Ok(Frame::Event(event)));
    ///             Reply::begun(Box::pin(futures_util::stream::iter(frames))).await
    ///         })
    ///     }
    /// }
    /// let weather = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    /// let question = ChatRequest::new("Is it sunny in Paris?").tool(weather);
    /// Subject::new(&Forecaster).only(Operations::NONE).calls(question, "weather").conforms().await.unwrap();
    /// # }
    /// ```
    pub fn calls(mut self, question: impl Into<ChatRequest>, tool: &str) -> Self {
        self.calls.push((question.into(), tool.into()));
        self
    }

    /// Puts it to all checks.
    ///
    /// # Errors
    /// Everything that it does not do as it must.
    pub async fn conforms(self) -> Result<(), Complaints> {
        let mut complaints = Vec::new();
        for (promise, check) in CHECKS {
            let late = |_| Err(format!("it took more than {} s", LONGEST.as_secs()));
            let kept = tokio::time::timeout(LONGEST, check(&self)).await.unwrap_or_else(late);
            complaints.extend(kept.err().map(|why| format!("{promise}: {why}")));
        }
        if complaints.is_empty() { Ok(()) } else { Err(Complaints(complaints)) }
    }

    pub(super) fn call(&self, question: &ChatRequest, delivery: Delivery) -> Call {
        Call::new(question.clone().model(&self.model), delivery)
    }

    /// Waits until nothing runs; how long that took. Looks a moment later, for work that has only just been handed on.
    pub(super) async fn stops(&self, running: &(dyn Fn() -> usize + Send + Sync)) -> Duration {
        let since = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if running() == 0 || since.elapsed() > self.stops_within * 20 {
                return since.elapsed();
            }
        }
    }
}

/// What a provider does not do as it must, a line each.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// # use llm_core::{Operations, provider::fake::Fake, testkit::{Complaints, Subject}};
/// let fake = Fake::says("hi");
/// let subject = Subject::new(&fake).only(Operations::CHAT).says("bye");
/// let complaints: Complaints = subject.conforms().await.unwrap_err();
/// for complaint in complaints.iter() {
///     println!("{complaint}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Complaints(pub(super) Vec<String>);

impl Complaints {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl fmt::Debug for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}\n")
    }
}

impl std::error::Error for Complaints {}
