//! What goes along with a call and is not part of the question: who asks, until when, and how it fares.
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// The circumstances of one call, shared by everybody it passes.
///
/// ```
/// use std::time::{Duration, Instant};
/// use llm_core::{Call, ChatRequest, Context, Delivery};
/// let context = Context { deadline: Some(Instant::now() + Duration::from_secs(30)), ..Context::named("call-1") };
/// let call = Call::new(ChatRequest::new("hi"), Delivery::Whole).in_context(context);
/// call.context.tell(|progress| progress.place = Some(3)); // who works on it tells,
/// assert_eq!(call.context.progress.borrow().place, Some(3)); // who waits for it looks
/// call.context.warn("`logit_bias` was left out");
/// assert_eq!(call.context.progress.borrow().warnings.len(), 1);
/// ```
#[derive(Debug)]
pub struct Context {
    /// Names the call in logs, in error reports and upstream.
    pub id: String,
    /// The name of the key that asks; never the key itself.
    pub caller: String,
    /// Calls of one session like to meet the same deployment again, which still knows their prefix.
    pub session: Option<String>,
    /// The trace that the call is part of, sent on as `traceparent` (W3C Trace Context).
    pub trace: Option<String>,
    /// When the caller stops caring.
    pub deadline: Option<Instant>,
    /// How long the caller is willing to wait while a model is being loaded; zero asks for an error instead.
    pub patience: Duration,
    /// What it makes of answers that are kept, where any are.
    pub caching: Caching,
    /// How it fares: everyone below tells it, the doors look at it.
    pub progress: Shared,
}

impl Default for Context {
    fn default() -> Self {
        // A program would rather wait for a model than fail; servers set their clients' patience themselves.
        let patience = Duration::from_secs(600);
        let (id, caller, session, trace, deadline, caching) = Default::default();
        Context { id, caller, session, trace, deadline, patience, caching, progress: Shared::default() }
    }
}

impl Context {
    /// A context with this id and no other wish.
    pub fn named(id: impl Into<String>) -> Context {
        Context { id: id.into(), ..Context::default() }
    }

    /// How long until its deadline, zero if that has passed; `None` if it has none.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use llm_core::Context;
    /// let deadline = Some(Instant::now() + Duration::from_secs(9));
    /// assert!(Context { deadline, ..Context::default() }.left().unwrap() <= Duration::from_secs(9));
    /// assert_eq!(Context::default().left(), None);
    /// ```
    pub fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(tokio::time::Instant::now().into_std()))
    }

    /// Tells those who look that it waits for a model to be loaded, as long as this takes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use llm_core::Context;
    /// let context = Context::default();
    /// context.while_it_loads(async { assert!(context.progress.borrow().loads) }).await;
    /// assert!(!context.progress.borrow().loads);
    /// # }
    /// ```
    pub async fn while_it_loads<T>(&self, wait: impl Future<Output = T>) -> T {
        self.tell(|progress| progress.loads = true);
        let since = tokio::time::Instant::now();
        let done = wait.await;
        self.tell(|progress| {
            progress.loads = false;
            progress.idle += since.elapsed();
        });
        done
    }

    /// Tells the caller something of the answer, once however often it is noticed.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        self.tell(|progress| {
            if !progress.warnings.contains(&warning) {
                progress.warnings.push(warning);
            }
        });
    }

    /// Tells those who look; nobody has to.
    pub fn tell(&self, what: impl FnOnce(&mut Progress)) {
        what(&mut self.progress.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A progress that many write and read. No watch channel, which would bring a call sixteen lists of waiters: the doors
/// look at it when their clock ticks.
///
/// ```
/// let shared = llm_core::Shared::default();
/// assert!(shared.borrow().tried.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Shared(RwLock<Progress>);

impl Shared {
    /// As it stands. Not to be held across an `.await`.
    pub fn borrow(&self) -> RwLockReadGuard<'_, Progress> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a call fares.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use llm_core::{Call, ChatRequest, Config, Delivery, Gateway, Progress, Provider};
/// let gateway = Gateway::new(&Config::from_toml("[models.a]\nprovider = 'fake'")?)?;
/// let call = Call::new(ChatRequest::new("hi"), Delivery::Whole);
/// gateway.call(&call).await?;
/// let Progress { model, warnings, .. } = call.context.progress.borrow().clone();
/// assert_eq!((model.as_deref(), warnings.len()), (Some("a"), 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Its place in line, the next one to go being 1; `None` when it does not wait.
    pub place: Option<usize>,
    /// When its turn comes, as far as what turns took so far can tell.
    pub eta: Option<Duration>,
    /// The place at which it joined the line, if it ever stood in one.
    pub joined_at: Option<usize>,
    /// How long it has stood in line, over all attempts; what it waits now counts once it is over.
    pub queued: Duration,
    /// It left a line before it had its turn: nothing was asked for it.
    pub has_left_line: bool,
    /// How long it had its turn and was waiting all the same, for a model to be loaded or between two attempts.
    pub idle: Duration,
    /// The quotas that it counts against, once however many models are asked.
    pub counted_by: Vec<usize>,
    /// It waits for its model to be loaded.
    pub loads: bool,
    /// The model that answers a call which named none.
    pub model: Option<std::sync::Arc<str>>,
    /// The deployments that were tried: the next attempt avoids them.
    pub tried: Vec<String>,
    /// Whether the answer was kept from before; `None` where none are kept.
    pub cached: Option<Cached>,
    /// What the caller should know: turns cut, fields lost in translation, who answered instead.
    pub warnings: Vec<String>,
}

/// What a call makes of answers that the policy [`cache`](crate::policy::cache) keeps.
///
/// ```
/// use llm_core::{Call, Caching, ChatRequest, Context, Delivery};
/// let context = Context { caching: Caching::Renew, ..Context::default() };
/// let call = Call::new(ChatRequest::new("What time is it?").temperature(0.0), Delivery::Whole).in_context(context);
/// assert_eq!(call.context.caching, Caching::Renew);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Caching {
    /// It is given a kept answer, and its own is kept.
    #[default]
    Use,
    /// It is answered anew, and its answer takes the place of the one before.
    Renew,
    /// It is answered anew, and nothing of it is kept.
    Never,
}

/// Whether a kept answer was given again.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// # #[cfg(feature = "cache")] {
/// use llm_core::{Cached, Call, ChatRequest, Config, Delivery, Gateway, Provider};
/// let gateway = Gateway::new(&Config::from_toml("cache = { size_mb = 1 }\n[models.a]\nprovider = 'fake'")?)?;
/// let ask = || Call::new(ChatRequest::new("hi").temperature(0.0), Delivery::Whole);
/// let (first, again) = (ask(), ask());
/// gateway.call(&first).await?.chat().await?;
/// gateway.call(&again).await?.chat().await?;
/// assert_eq!(first.context.progress.borrow().cached, Some(Cached::Miss));
/// assert!(matches!(again.context.progress.borrow().cached, Some(Cached::Hit(_age))));
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// It was answered now, and the answer may be given again.
    Miss,
    /// The answer is so old.
    Hit(Duration),
}
