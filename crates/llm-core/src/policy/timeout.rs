//! Gives up on an attempt that takes too long: to its first frame, between frames, or past the caller's deadline.
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::{Build, Level, Policy};
use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::provider::settings;

/// The registration.
pub const TIMEOUT: Policy = Policy {
    name: "timeout",
    about: "how long an answer may take to begin and to go on",
    level: Level::Deployment,
    wrap,
};

/// How long is too long.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Until the first frame, in seconds. A whole answer comes at its end, so it is as long as OpenAI's clients wait.
    pub first_s: f64,
    /// Between two frames, in seconds: a stream that hangs this long has died.
    pub idle_s: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config { first_s: 600.0, idle_s: 120.0 }
    }
}

struct Timeout {
    inner: Arc<dyn Provider>,
    first: Duration,
    idle: Duration,
}

fn wrap(build: Build<'_>) -> Result<Arc<dyn Provider>> {
    let config: Config = settings(build.settings)?;
    let (first, idle) = (seconds("first_s", config.first_s)?, seconds("idle_s", config.idle_s)?);
    Ok(Arc::new(Timeout { inner: build.inner, first, idle }))
}

fn seconds(name: &str, value: f64) -> Result<Duration> {
    let wrong = || Error::config("must be a number of seconds above 0, and a day at most").at(name);
    Duration::try_from_secs_f64(value).ok().filter(|d| !d.is_zero() && d.as_secs() <= 86_400).ok_or_else(wrong)
}

impl Provider for Timeout {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let deadline = call.context.deadline.map(Instant::from_std);
            let until = Instant::now() + self.first;
            let until = deadline.map_or(until, |deadline| deadline.min(until));
            let late = |_| Error::new(Kind::Timeout, "the answer did not begin in time");
            let reply = timeout_at(until, self.inner.call(call)).await.map_err(late)??;
            if reply.is_here() {
                return Ok(reply);
            }
            let idle = self.idle;
            Ok(reply.map(|frames| Timed::new(frames, idle, deadline).boxed()))
        })
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.inner)
    }
}

/// Frames that must keep coming. The clock is set once and looked at when it rings, not wound up at every frame.
struct Timed {
    frames: Option<Frames>,
    idle: Duration,
    deadline: Option<Instant>,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Timed {
    fn new(frames: Frames, idle: Duration, deadline: Option<Instant>) -> Timed {
        let last = Instant::now();
        let alarm = Box::pin(sleep_until(earlier(last + idle, deadline)));
        Timed { frames: Some(frames), idle, deadline, last, alarm }
    }

    fn rings(&mut self, task: &mut Task<'_>) -> bool {
        while self.alarm.as_mut().poll(task).is_ready() {
            let due = earlier(self.last + self.idle, self.deadline);
            if due <= Instant::now() {
                return true;
            }
            self.alarm.as_mut().reset(due);
        }
        false
    }
}

fn earlier(one: Instant, other: Option<Instant>) -> Instant {
    other.map_or(one, |other| other.min(one))
}

impl Stream for Timed {
    type Item = Result<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let Some(frames) = &mut self.frames else { return Poll::Ready(None) };
        match frames.poll_next_unpin(task) {
            Poll::Ready(item) => {
                self.last = Instant::now();
                Poll::Ready(item)
            }
            Poll::Pending if self.rings(task) => {
                self.frames = None; // what hangs is let go of
                Poll::Ready(Some(Err(Error::new(Kind::Timeout, "the answer stopped in the middle"))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake;

    fn timeout(first_ms: u64, each_ms: u64) -> Timeout {
        let fake = fake::Fake::new(fake::Config { says: "a b c d".into(), first_ms, each_ms, ..Default::default() });
        Timeout { inner: Arc::new(fake), first: Duration::from_secs(1), idle: Duration::from_secs(1) }
    }

    async fn ends(first_ms: u64, each_ms: u64, context: Context) -> Result<usize> {
        let call = Call::new(ChatRequest::new("?"), Delivery::Stream).in_context(context);
        let frames: Vec<_> = timeout(first_ms, each_ms).call(&call).await?.events().collect().await;
        frames.into_iter().collect::<Result<Vec<_>>>().map(|frames| frames.len())
    }

    #[tokio::test(start_paused = true)]
    async fn what_begins_late_or_hangs_is_given_up() {
        assert_eq!(ends(2_000, 0, Context::default()).await.unwrap_err().message(), "the answer did not begin in time");
        assert_eq!(ends(0, 2_000, Context::default()).await.unwrap_err().message(), "the answer stopped in the middle");
        assert_eq!(ends(900, 900, Context::default()).await.unwrap(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn the_callers_deadline_counts_too() {
        let deadline = Some((Instant::now() + Duration::from_millis(500)).into_std());
        let error = ends(100, 300, Context { deadline, ..Context::default() }).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
    }
}
