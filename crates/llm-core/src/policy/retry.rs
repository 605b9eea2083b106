//! Tries again what may succeed a little later, before the client has seen a byte.
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use serde::Deserialize;

use super::{Build, Level, Policy};
use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::provider::settings;

/// The registration.
pub const RETRY: Policy =
    Policy { name: "retry", about: "tries again what may succeed a little later", level: Level::Model, wrap };

/// How often, and how long apart. The numbers are those of OpenAI's own clients.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Attempts after the first.
    pub max_retries: usize,
    /// The first wait, in milliseconds; each further one is twice as long.
    pub wait_ms: u64,
    /// No wait is longer, in milliseconds. A server that asks for more gets no retry: the caller is told instead.
    pub longest_wait_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_retries: 2, wait_ms: 500, longest_wait_ms: 8_000 }
    }
}

struct Retry {
    inner: Arc<dyn Provider>,
    backoff: ExponentialBuilder,
    longest: Duration,
}

fn wrap(build: Build<'_>) -> Result<Arc<dyn Provider>> {
    Ok(Arc::new(Retry::new(build.inner, settings(build.settings)?)))
}

impl Retry {
    fn new(inner: Arc<dyn Provider>, config: Config) -> Retry {
        let longest = Duration::from_millis(config.longest_wait_ms);
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(config.wait_ms))
            .with_max_delay(longest)
            .with_max_times(config.max_retries)
            .with_jitter();
        Retry { inner, backoff, longest }
    }

    fn wait(&self, error: &Error, planned: Option<Duration>) -> Option<Duration> {
        let asked = error.get_retry_after().unwrap_or_default();
        planned.map(|planned| planned.max(asked)).filter(|wait| *wait <= self.longest.max(planned.unwrap_or_default()))
    }
}

impl Provider for Retry {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            // The first attempt is nearly always the last: nothing is set up for others before it has failed.
            match self.inner.call(call).await {
                Err(error) if is_worth_another(&error) => self.again(call, error).await,
                answer => answer,
            }
        })
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.inner)
    }
}

impl Retry {
    async fn again(&self, call: &Call, mut error: Error) -> Result<Reply> {
        let mut waits = self.backoff.build();
        while let Some(wait) = self.wait(&error, waits.next()) {
            tracing::debug!(call = call.context.id, kind = error.kind().name(), ?wait, "trying again");
            tokio::time::sleep(wait).await;
            match self.inner.call(call).await {
                Err(again) if is_worth_another(&again) => error = again,
                answer => return answer,
            }
        }
        Err(error)
    }
}

/// A model that is being loaded is waited for by those who have the patience, not asked again and again.
fn is_worth_another(error: &Error) -> bool {
    error.kind().is_retryable() && error.kind() != Kind::Loading
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::Fake;
    use tokio::time::Instant;

    fn retry(fake: Fake) -> (Retry, Arc<Fake>) {
        let fake = Arc::new(fake);
        (Retry::new(fake.clone(), Config::default()), fake)
    }

    fn ask() -> Call {
        Call::new(ChatRequest::new("?"), Delivery::Whole)
    }

    #[tokio::test(start_paused = true)]
    async fn two_failures_are_overcome_and_three_are_not() {
        let (good, fake) = retry(Fake::says("hi").after_failures(2));
        good.call(&ask()).await.unwrap();
        assert_eq!(fake.calls(), 3);
        let (bad, fake) = retry(Fake::says("hi").after_failures(3));
        assert_eq!(bad.call(&ask()).await.unwrap_err().kind(), Kind::Upstream);
        assert_eq!(fake.calls(), 3);
    }

    struct Refuses(Error, std::sync::atomic::AtomicUsize);
    impl Provider for Refuses {
        fn call<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Reply>> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Box::pin(async { Err(self.0.clone()) })
        }
    }

    async fn attempts(error: Error) -> (usize, Duration) {
        let refuses = Arc::new(Refuses(error, Default::default()));
        let since = Instant::now();
        let _ = Retry::new(refuses.clone(), Config::default()).call(&ask()).await;
        (refuses.1.load(std::sync::atomic::Ordering::Relaxed), since.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_callers_own_mistakes_are_not_tried_again() {
        for kind in [Kind::Invalid, Kind::Unauthorized, Kind::ContextLength, Kind::NotFound, Kind::Loading] {
            assert_eq!(attempts(Error::new(kind, "no")).await.0, 1, "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_a_wait_gets_it_unless_it_is_too_long() {
        let busy = || Error::new(Kind::RateLimited, "slow down");
        let (times, took) = attempts(busy().retry_after(Duration::from_secs(5))).await;
        assert!(times == 3 && took >= Duration::from_secs(10), "{times} {took:?}");
        assert_eq!(attempts(busy().retry_after(Duration::from_secs(60))).await.0, 1);
    }
}
