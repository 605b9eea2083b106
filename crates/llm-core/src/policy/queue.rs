//! Lets so many calls of a model run at once, keeps the others in line, first come first served, and refuses when the
//! line is full.
//!
//! A turn is kept until the reply's last frame has gone: a limit that lets go at the headers, as tower's does, limits
//! nothing that streams.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::oneshot;

use super::{Build, Level, Policy};
use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::provider::settings;

/// The registration.
pub const QUEUE: Policy =
    Policy { name: "queue", about: "how many calls run at once, and how many wait", level: Level::Model, wrap };

/// How many at once, and how many in line.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Calls at once; by default what the deployments say they can do, and 1,024 for those that say nothing.
    pub limit: Option<usize>,
    /// Calls in line; by default 100, a full minute's line for a small team.
    pub waiting: Option<usize>,
}

const LIMIT: usize = 1024;
pub(crate) const WAITING: usize = 100;

struct Queue {
    inner: Arc<dyn Provider>,
    line: Arc<Line>,
}

fn wrap(build: Build<'_>) -> Result<Arc<dyn Provider>> {
    let config: Config = settings(build.settings)?;
    let limit = config.limit.or(build.inner.width()).unwrap_or(LIMIT);
    let waiting = config.waiting.unwrap_or(WAITING);
    if limit == 0 {
        return Err(Error::config("must be at least 1").at("limit"));
    }
    let line = build.keep.part(format!("queue {} {limit} {waiting}", build.of), || Ok(Line::new(limit, waiting)))?;
    Ok(Arc::new(Queue { inner: build.inner, line }))
}

impl Provider for Queue {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        if !call.operation.takes_turn() {
            return self.inner.call(call);
        }
        Box::pin(async move {
            let turn = self.line.turn(call).await?;
            Ok(self.inner.call(call).await?.on_end(move |_| drop(turn)))
        })
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.inner)
    }

    fn waiting(&self) -> usize {
        self.line.depth().1
    }
}

/// A bounded FIFO in front of a number of turns.
pub struct Line {
    waiting_most: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    waiting: VecDeque<Waiter>,
    next_ticket: u64,
    mean: Duration, // of a turn, for an honest Retry-After
    limit: usize,
}

struct Waiter {
    ticket: u64,
    turn: oneshot::Sender<Turn>,
    context: Arc<Context>,
}

/// The right to run; dropping it passes it on.
struct Turn {
    line: Arc<Line>,
    since: Instant,
}

impl Line {
    fn new(limit: usize, waiting_most: usize) -> Line {
        let mean = Duration::from_secs(1); // until measured
        let state = State { free: limit, waiting: VecDeque::new(), next_ticket: 0, mean, limit };
        Line { waiting_most, state: Mutex::new(state) }
    }

    async fn turn(self: &Arc<Self>, call: &Call) -> Result<Turn> {
        let (ticket, turn) = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(self.new_turn());
            }
            if state.waiting.len() >= self.waiting_most {
                return Err(self.full(&state));
            }
            state.join(&call.context)
        };
        let place = Place { line: self, ticket, since: Instant::now(), call };
        let turn = turn.await.map_err(|_| Error::new(Kind::Internal, "the line was closed"))?;
        drop(place);
        Ok(turn)
    }

    fn new_turn(self: &Arc<Self>) -> Turn {
        Turn { line: self.clone(), since: Instant::now() }
    }

    fn full(&self, state: &State) -> Error {
        let message = format!("the line is full: {} calls run and {} wait", state.limit, state.waiting.len());
        Error::new(Kind::Overloaded, message).retry_after(state.wait_for(1))
    }

    /// The next in line gets the turn. One that has just left gives it back by dropping it, outside the lock.
    fn pass_on(self: &Arc<Self>, took: Duration) {
        let mut state = self.lock();
        state.mean = (state.mean * 7 + took) / 8;
        let Some(next) = state.waiting.pop_front() else {
            state.free += 1;
            return;
        };
        state.tell_places();
        drop(state);
        drop(next.turn.send(self.new_turn()));
    }

    /// How many run, and how many wait.
    pub fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.limit - state.free, state.waiting.len())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn join(&mut self, context: &Arc<Context>) -> (u64, oneshot::Receiver<Turn>) {
        let (sender, receiver) = oneshot::channel();
        self.next_ticket += 1;
        self.waiting.push_back(Waiter { ticket: self.next_ticket, turn: sender, context: context.clone() });
        let place = self.waiting.len();
        context.tell(|p| p.place = Some(place));
        (self.next_ticket, receiver)
    }

    fn tell_places(&self) {
        for (i, waiter) in self.waiting.iter().enumerate() {
            waiter.context.tell(|p| p.place = Some(i + 1));
        }
    }

    /// How long until this many further turns have come free.
    fn wait_for(&self, turns: u32) -> Duration {
        (self.mean * turns / self.limit.max(1) as u32).max(Duration::from_secs(1))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.line.pass_on(self.since.elapsed());
    }
}

/// A place in line; whoever leaves it is out of the line at once.
struct Place<'a> {
    line: &'a Arc<Line>,
    ticket: u64,
    since: Instant,
    call: &'a Call,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.call.context.tell(|p| {
            p.place = None;
            p.queued += self.since.elapsed();
        });
        let mut state = self.line.lock();
        if let Some(at) = state.waiting.iter().position(|w| w.ticket == self.ticket) {
            state.waiting.remove(at);
            state.tell_places();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake;
    use futures_util::StreamExt;

    fn queue(limit: usize, waiting: usize) -> Arc<Queue> {
        let fake = fake::Fake::new(fake::Config { says: "a b c".into(), each_ms: 10, ..Default::default() });
        Arc::new(Queue { inner: Arc::new(fake), line: Arc::new(Line::new(limit, waiting)) })
    }

    fn ask() -> Call {
        Call::new(ChatRequest::new("?"), Delivery::Stream)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_keeps_its_turn_until_its_stream_ends() {
        let queue = queue(1, 1);
        let first = queue.call(&ask()).await.unwrap();
        assert_eq!(queue.line.depth(), (1, 0));
        let second_call = ask();
        let mut second = queue.call(&second_call);
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(second_call.context.progress.borrow().place, Some(1));
        first.events().collect::<Vec<_>>().await;
        second.await.unwrap().events().collect::<Vec<_>>().await;
        assert_eq!(queue.line.depth(), (0, 0));
        assert!(second_call.context.progress.borrow().queued > Duration::ZERO, "its wait is told");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_refuses_and_says_when_to_come_back() {
        let queue = queue(1, 0);
        let _running = queue.call(&ask()).await.unwrap();
        let error = queue.call(&ask()).await.unwrap_err();
        assert_eq!((error.kind(), error.get_retry_after()), (Kind::Overloaded, Some(Duration::from_secs(1))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_is_first_come_first_served_and_places_move_up() {
        let queue = queue(1, 10);
        let running = queue.call(&ask()).await.unwrap();
        let calls: Vec<Call> = (0..5).map(|_| ask()).collect();
        let mut waiting: Vec<_> = calls.iter().map(|call| queue.call(call)).collect();
        for future in &mut waiting {
            assert!(futures_util::poll!(future).is_pending());
        }
        let place = |i: usize| calls[i].context.progress.borrow().place;
        assert_eq!((place(0), place(4)), (Some(1), Some(5)));
        drop(waiting.remove(1)); // leaves: those behind move up
        assert_eq!((place(0), place(1), place(2), place(4)), (Some(1), None, Some(2), Some(4)));
        drop(running);
        let first = waiting.remove(0).await.unwrap();
        assert_eq!((place(0), place(2)), (None, Some(1)));
        drop(first);
        for future in waiting {
            future.await.unwrap().events().collect::<Vec<_>>().await;
        }
        assert_eq!(queue.line.depth(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_leaves_just_as_it_is_called_passes_the_turn_on() {
        let queue = queue(1, 10);
        let running = queue.call(&ask()).await.unwrap();
        let (a, b) = (ask(), ask());
        let (mut first, mut second) = (queue.call(&a), queue.call(&b));
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        drop(running); // the turn is on its way to the first
        drop(first);
        second.await.unwrap().events().collect::<Vec<_>>().await;
        assert_eq!(queue.line.depth(), (0, 0));
    }
}
