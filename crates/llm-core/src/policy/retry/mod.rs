//! Tries again what may succeed a little later, before the client has seen a byte, and within a budget.
mod budget;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Build, Level, Policy};
use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::provider::{defaults, settings};
use budget::Budget;

/// The registration.
pub const RETRY: Policy = Policy {
    name: "retry",
    about: "tries again what may succeed a little later",
    level: Level::Model,
    defaults: defaults::<Config>,
    wrap,
};

/// How often, and how long apart. The numbers are those of OpenAI's own clients.
///
/// ```
/// let patient = llm_core::policy::retry::Config { max_retries: 5, ..Default::default() };
/// assert_eq!((patient.wait_ms, patient.longest_wait_ms), (500, 8_000));
/// ```
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Attempts after the first.
    pub max_retries: usize,
    /// The first wait, in milliseconds; each further one is twice as long.
    pub wait_ms: u64,
    /// No wait is longer, in milliseconds. A server that asks for more gets no retry: the caller is told instead.
    pub longest_wait_ms: u64,
    /// Retries for each answer of the model, at most: with 0.2 an outage brings a fifth more calls, not three times as many.
    pub budget: f64,
    /// Retries that no answer had to earn, so that a quiet model has some too. They come back one a second.
    pub spare: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_retries: 2, wait_ms: 500, longest_wait_ms: 8_000, budget: 0.2, spare: 10 }
    }
}

struct Retry {
    inner: Arc<dyn Provider>,
    backoff: ExponentialBuilder,
    longest: Duration,
    budget: Arc<Budget>,
}

fn wrap(build: Build<'_>) -> Result<Arc<dyn Provider>> {
    let config: Config = settings(build.settings)?;
    if !(0.0..=10.0).contains(&config.budget) {
        return Err(Error::config("must be between 0 and 10 retries for each answer").at("budget"));
    }
    let text = format!("retry {} {} {}", build.of, config.budget, config.spare);
    let budget = build.keep.part(text, || Ok(Budget::new(config.budget, config.spare)))?;
    Ok(Arc::new(Retry::new(build.inner, &config, budget)))
}

impl Retry {
    fn new(inner: Arc<dyn Provider>, config: &Config, budget: Arc<Budget>) -> Retry {
        let longest = Duration::from_millis(config.longest_wait_ms);
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(config.wait_ms))
            .with_max_delay(longest)
            .with_max_times(config.max_retries)
            .with_jitter();
        Retry { inner, backoff, longest, budget }
    }

    /// How long to wait for another attempt; `None` if there shall be none.
    fn wait(&self, call: &Call, error: &Error, planned: Option<Duration>) -> Option<Duration> {
        let planned = planned?;
        let asked = error.get_retry_after().unwrap_or_default();
        let wait = if error.is_of_one_of_several() {
            Duration::ZERO // whatever that one asks for, another is free
        } else if asked > self.longest.max(planned) {
            return None;
        } else {
            // Those who were told the same moment do not come back in the same moment.
            planned.max(asked + planned.min(asked) / 8).min(self.longest.max(planned).max(asked))
        };
        let is_in_time =
            call.context.deadline.is_none_or(|deadline| Instant::now() + wait < Instant::from_std(deadline));
        (is_in_time && self.budget.spend()).then_some(wait)
    }
}

impl Provider for Retry {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            // The first attempt is nearly always the last: nothing is set up for others before it has failed.
            match self.inner.call(call).await {
                Ok(reply) => {
                    self.budget.earn();
                    Ok(reply)
                }
                Err(error) if is_worth_another(&error) => self.again(call, error).await,
                Err(error) => Err(error),
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
        while let Some(wait) = self.wait(call, &error, waits.next()) {
            tracing::debug!(call = call.context.id, kind = error.kind().name(), ?wait, "trying again");
            tokio::time::sleep(wait).await;
            call.context.tell(|progress| progress.idle += wait);
            match self.inner.call(call).await {
                Err(again) if is_worth_another(&again) => error = again,
                answer => return answer,
            }
        }
        Err(error)
    }
}

/// A model that is being loaded is waited for by those who have the patience, not asked again and again; and who has spent
/// all money has not more in a second.
fn is_worth_another(error: &Error) -> bool {
    let later =
        error.is_worth_another() && error.kind() != Kind::Loading && error.get_code() != Some("insufficient_quota");
    later || error.is_of_one_of_several()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::Fake;
    use futures_util::StreamExt;

    fn around(inner: Arc<dyn Provider>) -> Retry {
        let config = Config::default();
        let budget = Arc::new(Budget::new(config.budget, config.spare));
        Retry::new(inner, &config, budget)
    }

    fn retry(fake: Fake) -> (Retry, Arc<Fake>) {
        let fake = Arc::new(fake);
        (around(fake.clone()), fake)
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
        let _ = around(refuses.clone()).call(&ask()).await;
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

    #[tokio::test(start_paused = true)]
    async fn who_has_spent_all_money_is_told_at_once_and_a_host_that_wants_no_retry_is_believed() {
        assert_eq!(attempts(Error::new(Kind::Upstream, "no").for_good()).await.0, 1);
        assert_eq!(attempts(Error::new(Kind::RateLimited, "no money").code("insufficient_quota")).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_and_no_two_callers_wait_alike() {
        let mut took = Vec::new();
        for _ in 0..5 {
            let (times, wait) = attempts(Error::new(Kind::Upstream, "no")).await;
            // 0.5 and 1 s, and up to as much again by chance.
            assert!(times == 3 && (1_500..=3_010).contains(&wait.as_millis()), "{times} {wait:?}");
            took.push(wait);
        }
        took.dedup();
        assert!(took.len() > 1, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_not_multiplied() {
        let refuses = Arc::new(Refuses(Error::new(Kind::Unavailable, "gone"), Default::default()));
        let retry = around(refuses.clone());
        (0..100).for_each(|_| retry.budget.earn()); // as many answers as there are calls now
        futures_util::future::join_all((0..100).map(|_| async { retry.call(&ask()).await.err() })).await;
        let calls = refuses.1.load(std::sync::atomic::Ordering::Relaxed);
        // A fifth of the answers, the spare ones, and those that came back meanwhile; without a budget it would be 300.
        assert!((130..=134).contains(&calls), "{calls}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_past_the_callers_deadline() {
        let refuses = Arc::new(Refuses(Error::new(Kind::Unavailable, "gone"), Default::default()));
        let deadline = Some((Instant::now() + Duration::from_millis(200)).into_std());
        let call = ask().in_context(Context { deadline, ..Context::default() });
        let since = Instant::now();
        assert_eq!(around(refuses).call(&call).await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(since.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_tried_again_once_the_answer_has_begun() {
        let breaks =
            crate::provider::fake::Config { says: "a b c".into(), breaks_after: Some(1), ..Default::default() };
        let (retry, fake) = retry(Fake::new(breaks));
        let frames: Vec<_> = retry.call(&ask()).await.unwrap().on_end(drop).events().collect().await;
        assert!(frames.last().unwrap().is_err());
        assert_eq!(fake.calls(), 1);
    }
}
