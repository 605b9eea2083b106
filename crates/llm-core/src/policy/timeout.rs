//! Gives up on an attempt that takes too long: to its first frame, between frames, in all, or past the caller's deadline.
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::{Build, Level, Policy};
use crate::call::*;
use crate::error::{DEADLINE, Error, Kind, Result};
use crate::provider::{defaults, settings};

/// The registration.
pub const TIMEOUT: Policy = Policy {
    name: "timeout",
    about: "how long an answer may take to begin, to go on and to end",
    level: Level::Deployment,
    defaults: defaults::<Config>,
    wrap,
};

/// How long is too long.
///
/// ```
/// let hasty = llm_core::policy::timeout::Config { first_s: 2.5, ..Default::default() };
/// assert_eq!((hasty.idle_s, hasty.total_s), (120.0, None));
/// ```
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Until the first frame, in seconds; twice as long for the second attempt of a call and four times for further ones.
    /// A whole answer comes at its end, so it is as long as OpenAI's clients wait.
    pub first_s: f64,
    /// Between two frames, in seconds: a stream that hangs this long has died.
    pub idle_s: f64,
    /// Until the end, in seconds, however well it goes on; by default as long as it likes.
    pub total_s: Option<f64>,
}

impl Default for Config {
    fn default() -> Self {
        Config { first_s: 600.0, idle_s: 120.0, total_s: None }
    }
}

struct Timeout {
    inner: Arc<dyn Provider>,
    first: Duration,
    idle: Duration,
    total: Option<Duration>,
}

fn wrap(build: Build<'_>) -> Result<Arc<dyn Provider>> {
    let config: Config = settings(build.settings)?;
    let (first, idle) = (seconds("first_s", config.first_s)?, seconds("idle_s", config.idle_s)?);
    let total = config.total_s.map(|total| seconds("total_s", total)).transpose()?;
    Ok(Arc::new(Timeout { inner: build.inner, first, idle, total }))
}

pub(crate) fn seconds(name: &str, value: f64) -> Result<Duration> {
    let wrong = || Error::config("must be a number of seconds above 0, and a day at most").at(name);
    Duration::try_from_secs_f64(value).ok().filter(|d| !d.is_zero() && d.as_secs() <= 86_400).ok_or_else(wrong)
}

impl Provider for Timeout {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let deadline = self.deadline(call);
            let mut answer = self.inner.call(call);
            let first = Instant::now() + self.first;
            let reply = match timeout_at(earlier(first, deadline), &mut answer).await {
                Ok(reply) => reply,
                // How often it was tried is looked up only now, when nearly every call has long been answered.
                Err(_) => {
                    let more = self.first * (growth(call) - 1);
                    timeout_at(earlier(first + more, deadline), answer).await.map_err(|_| late(call))?
                }
            }?;
            if reply.is_here() {
                return Ok(reply);
            }
            let (idle, callers) = (self.idle, call.context.deadline.map(Instant::from_std));
            Ok(reply.map(|frames| Timed::new(frames, idle, deadline, callers).boxed()))
        })
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.inner)
    }
}

impl Timeout {
    fn deadline(&self, call: &Call) -> Option<Instant> {
        let callers = call.context.deadline.map(Instant::from_std);
        self.total.map(|total| earlier(Instant::now() + total, callers)).or(callers)
    }
}

/// A server that was too slow once is given more time, or it would be asked for ever and never heard.
fn growth(call: &Call) -> u32 {
    1 << call.context.progress.borrow().tried.len().min(2)
}

fn late(call: &Call) -> Error {
    let late = Error::new(Kind::Timeout, "the answer did not begin in time");
    if has_passed(call.context.deadline.map(Instant::from_std)) { late.code(DEADLINE) } else { late }
}

/// Whether the caller himself waits no more.
fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// Frames that must keep coming. The clock is set once and looked at when it rings, not wound up at every frame.
struct Timed {
    frames: Option<Frames>,
    idle: Duration,
    deadline: Option<Instant>,
    callers: Option<Instant>, // which may be that deadline
    last: Instant,
    is_finished: bool,
    alarm: Pin<Box<Sleep>>,
}

impl Timed {
    fn new(frames: Frames, idle: Duration, deadline: Option<Instant>, callers: Option<Instant>) -> Timed {
        let last = Instant::now();
        let alarm = Box::pin(sleep_until(earlier(last + idle, deadline)));
        Timed { frames: Some(frames), idle, deadline, callers, last, is_finished: false, alarm }
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

    fn over(&self) -> Error {
        let is_idle = self.last + self.idle <= Instant::now();
        let why = if is_idle { "the answer stopped in the middle" } else { "the answer did not end in time" };
        let over = Error::new(Kind::Timeout, why);
        if !is_idle && has_passed(self.callers) { over.code(DEADLINE) } else { over }
    }
}

fn is_finish(frame: &Frame) -> bool {
    match frame {
        Frame::Wire(wire) => wire.glance.is_finished,
        frame => matches!(frame, Frame::Event(Event::Finish(_))),
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
                self.is_finished |= matches!(&item, Some(Ok(frame)) if is_finish(frame));
                // Whoever reads more slowly than is written never waits, and is late all the same.
                let is_late = self.deadline.is_some_and(|deadline| deadline <= self.last);
                if is_late && !self.is_finished && matches!(item, Some(Ok(_))) {
                    self.frames = None;
                    return Poll::Ready(Some(Err(self.over())));
                }
                Poll::Ready(item)
            }
            Poll::Pending if self.rings(task) => {
                self.frames = None; // what hangs is let go of
                // Behind its finish nothing is missing but the last word.
                Poll::Ready((!self.is_finished).then(|| Err(self.over())))
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
        Timeout { inner: Arc::new(fake), first: Duration::from_secs(1), idle: Duration::from_secs(1), total: None }
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
    async fn one_that_hangs_behind_its_finish_has_ended() {
        let events = [Event::Text("hi".into()), Event::Finish(FinishReason::Stop)].map(|event| Ok(Frame::Event(event)));
        let wire = Wire { glance: Glance { is_finished: true, ..Glance::default() }, ..Wire::default() };
        for frames in [events.into(), vec![Ok(Frame::Wire(wire))]] {
            let (count, since) = (frames.len(), Instant::now());
            let hangs = futures_util::stream::iter(frames).chain(futures_util::stream::pending()).boxed();
            let seen: Vec<_> = Timed::new(hangs, Duration::from_secs(1), None, None).collect().await;
            assert!(seen.len() == count && seen.iter().all(Result::is_ok), "{seen:?}");
            assert_eq!(since.elapsed(), Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_callers_deadline_counts_too() {
        let deadline = Some((Instant::now() + Duration::from_millis(500)).into_std());
        let error = ends(100, 300, Context { deadline, ..Context::default() }).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::Timeout, "the answer did not end in time"));
        assert_eq!(error.get_code(), Some(DEADLINE));
        let context = || Context { deadline, ..Context::default() };
        assert_eq!(ends(600, 0, context()).await.unwrap_err().get_code(), Some(DEADLINE), "the host is not to blame");
        let later = Some((Instant::now() + Duration::from_secs(60)).into_std());
        let hangs = ends(0, 2_000, Context { deadline: later, ..Context::default() }).await.unwrap_err();
        assert_eq!(hangs.get_code(), None, "and here it is");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_ends_is_given_up_though_it_goes_on() {
        let since = Instant::now();
        let timeout = Timeout { total: Some(Duration::from_millis(2_500)), ..timeout(0, 900) };
        let reply = timeout.call(&Call::new(ChatRequest::new("?"), Delivery::Stream)).await.unwrap();
        let last = reply.events().collect::<Vec<_>>().await.pop().unwrap().unwrap_err();
        assert_eq!((last.message(), since.elapsed()), ("the answer did not end in time", Duration::from_millis(2_500)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_read_more_slowly_than_it_is_written_ends_in_time_too() {
        let word = || Ok(Frame::Event(Event::Text("a".into())));
        let always = futures_util::stream::repeat_with(word).boxed();
        let deadline = Some(Instant::now() + Duration::from_secs(2));
        let mut timed = Timed::new(always, Duration::from_secs(9), deadline, None);
        let mut read = 0;
        let end = loop {
            tokio::time::advance(Duration::from_millis(300)).await; // the reader takes its time
            match timed.next().await.unwrap() {
                Ok(_) => read += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((read, end.message()), (6, "the answer did not end in time"));
        assert!(timed.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_tried_before_gets_more_time() {
        for (tried, seconds) in [(0, 1), (1, 2), (2, 4), (5, 4)] {
            let call = Call::new(ChatRequest::new("?"), Delivery::Stream);
            call.context.tell(|progress| progress.tried = vec!["a".into(); tried]);
            let since = Instant::now();
            assert_eq!(timeout(60_000, 0).call(&call).await.unwrap_err().kind(), Kind::Timeout);
            assert_eq!(since.elapsed(), Duration::from_secs(seconds), "tried {tried} times");
        }
    }
}
