//! Tells an observer how every call of a model ended, what it cost and how long it took.
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Build, Level, Policy};
use crate::call::*;
use crate::error::Result;
use crate::provider::settings;

/// The registration.
pub const OBSERVE: Policy = Policy {
    name: "observe",
    about: "metrics and logs of every call",
    level: Level::Model,
    defaults: || serde_json::Value::Null,
    wrap,
};

/// Whoever wants to know how calls end: metrics, logs, a bill. The library itself imposes no registry.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use std::sync::{Arc, Mutex};
/// use llm_core::policy::{Observer, Outcome};
/// use llm_core::{Config, End, Gateway, Llm};
/// #[derive(Default)]
/// struct Bill(Mutex<u32>);
/// impl Observer for Bill {
///     fn ended(&self, outcome: &Outcome<'_>) {
///         if let End::Finished(Some(usage)) = outcome.end {
///             *self.0.lock().unwrap() += usage.completion_tokens;
///         }
///     }
/// }
/// let (config, bill) = (Config::from_toml("[models.a]\nprovider = 'fake'\nsays = 'one two'")?, Arc::<Bill>::default());
/// let llm = Llm::over(Gateway::with(&config, &[], bill.clone())?);
/// llm.chat("?").await?;
/// assert_eq!(*bill.0.lock().unwrap(), 2);
/// # Ok(())
/// # }
/// ```
pub trait Observer: Send + Sync {
    /// A call has ended. Called on the call's own path: be quick.
    fn ended(&self, outcome: &Outcome<'_>);
}

/// Nobody wants to know.
impl Observer for () {
    fn ended(&self, _: &Outcome<'_>) {}
}

/// How a call ended.
///
/// ```
/// use llm_core::policy::{Observer, Outcome};
/// struct Log;
/// impl Observer for Log {
///     fn ended(&self, outcome: &Outcome<'_>) {
///         let Outcome { call, model, end, total, .. } = outcome;
///         println!("{} {model} {end:?} {} ms", call.context.id, total.as_millis());
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The call.
    pub call: &'a Call,
    /// The model as the configuration names it.
    pub model: &'a Arc<str>,
    /// How it ended; an error before the first frame has failed too.
    pub end: &'a End,
    /// Until the first frame, the wait in the queue included.
    pub first: Option<Duration>,
    /// Until the end.
    pub total: Duration,
}

/// No settings yet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Observe {
    inner: Arc<dyn Provider>,
    observer: Arc<dyn Observer>,
    model: Arc<str>,
}

fn wrap(build: Build<'_>) -> Result<Arc<dyn Provider>> {
    let Config {} = settings(build.settings)?;
    Ok(Arc::new(Observe { inner: build.inner, observer: build.observer.clone(), model: build.of.into() }))
}

impl Provider for Observe {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        if !call.operation.takes_turn() {
            return self.inner.call(call);
        }
        Box::pin(async move {
            let watch = Watch {
                call: call.clone(),
                model: self.model.clone(),
                observer: self.observer.clone(),
                since: Instant::now(),
            };
            let watch = Unanswered(Some(watch));
            match self.inner.call(call).await {
                Ok(reply) => {
                    let watch = watch.answered();
                    let first = watch.since.elapsed();
                    Ok(reply.on_end(move |end| watch.tell(&end, Some(first))))
                }
                Err(error) => {
                    watch.answered().tell(&End::Failed(error.kind()), None);
                    Err(error)
                }
            }
        })
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.inner)
    }
}

struct Watch {
    call: Call,
    model: Arc<str>,
    observer: Arc<dyn Observer>,
    since: Instant,
}

impl Watch {
    fn tell(&self, end: &End, first: Option<Duration>) {
        let outcome = Outcome { call: &self.call, model: &self.model, end, first, total: self.since.elapsed() };
        self.observer.ended(&outcome);
    }
}

/// A call that is dropped before it is answered was left by its client.
struct Unanswered(Option<Watch>);

impl Unanswered {
    fn answered(mut self) -> Watch {
        self.0.take().expect("taken once, here")
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(watch) = self.0.take() {
            watch.tell(&End::Dropped, None);
        }
    }
}
