//! Lets so many calls of a model run at once, keeps the others in line, first come first served, and refuses when the
//! line is full.
//!
//! A turn is kept until the reply's last frame has gone: a limit that lets go at the headers, as tower's does, limits
//! nothing that streams.
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::timeout::seconds;
use super::{Build, Level, Policy};
use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::provider::{defaults, settings};

/// The registration.
pub const QUEUE: Policy = Policy {
    name: "queue",
    about: "how many calls run at once, and how many wait",
    level: Level::Model,
    defaults: defaults::<Config>,
    wrap,
};

/// How many at once, and how many in line.
///
/// ```
/// use llm_core::policy::queue::Config;
/// let few: Config = llm_core::provider::settings(&"limit = 4".parse().unwrap())?;
/// assert_eq!((few.limit, few.waiting), (Some(4), 100));
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Calls at once; by default what the deployments say they can do, and 1,024 for those that say nothing.
    #[serde(serialize_with = "what_they_can")]
    pub limit: Option<usize>,
    /// Calls in line; by default a full minute's line for a small team.
    pub waiting: usize,
    /// No call waits longer than this, in seconds; by default as long as its caller does.
    pub max_wait_s: Option<f64>,
    /// Callers by turns, not calls: whoever sends a hundred waits behind whoever sends one. A caller is the name of a key.
    pub fair: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { limit: None, waiting: 100, max_wait_s: None, fair: false }
    }
}

const LIMIT: usize = 1024;
/// When to ask again for a model that is being loaded.
const LOADED: Duration = Duration::from_secs(5);
/// No caller is told to come back later than this.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

fn what_they_can<S: Serializer>(limit: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
    match limit {
        Some(limit) => limit.serialize(serializer),
        None => serializer.serialize_str(&format!("what the deployments can, {LIMIT} for hosts")),
    }
}

struct Queue {
    inner: Arc<dyn Provider>,
    line: Arc<Line>,
    limits: Limits,
}

/// What a configuration says of its line, which outlives it.
#[derive(Clone, Copy)]
struct Limits {
    running: usize,
    waiting: usize,
    wait: Option<Duration>,
    fair: bool,
}

fn wrap(build: Build<'_>) -> Result<Arc<dyn Provider>> {
    let config: Config = settings(build.settings)?;
    let running = config.limit.or(build.inner.width()).unwrap_or(LIMIT);
    if running == 0 {
        return Err(Error::config("must be at least 1").at("limit"));
    }
    let wait = config.max_wait_s.map(|wait| seconds("max_wait_s", wait)).transpose()?;
    let limits = Limits { running, waiting: config.waiting, wait, fair: config.fair };
    // Other limits are no other line: two beside each other would let in twice as many, and newcomers first.
    let line = build.keep.part(format!("queue {}", build.of), || Ok(Line::new(limits)))?;
    Ok(Arc::new(Queue { inner: build.inner, line, limits }))
}

impl Provider for Queue {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        if !call.operation.takes_turn() {
            return self.inner.call(call);
        }
        Box::pin(async move {
            let (turn, has_waited) = self.line.turn(call, self.limits, &*self.inner).await?;
            // Meanwhile the configuration may have become another, with other deployments.
            let newest = if has_waited { self.line.lock().newest.clone() } else { None };
            let inner = newest.as_ref().unwrap_or(&self.inner);
            let (context, before) = (call.context.clone(), call.context.progress.borrow().idle);
            let idle = move || context.progress.borrow().idle.saturating_sub(before);
            Ok(inner.call(call).await?.on_end(move |end| turn.ended(&end, idle())))
        })
    }

    fn takes_over(&self) {
        self.line.takes_over(self);
        self.inner.takes_over();
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.inner)
    }

    fn waiting(&self) -> usize {
        self.line.depth().1
    }
}

/// A bounded FIFO in front of a number of turns.
struct Line {
    state: Mutex<State>,
}

struct State {
    running: usize,
    waiting: VecDeque<Waiter>,
    next_ticket: u64,
    mean: Duration, // of a turn, for an honest Retry-After
    limit: usize,
    fair: Option<Fair>,
    newest: Option<Arc<dyn Provider>>, // what stands behind it since the last reload
}

/// Callers by turns (start-time fair queuing): a call's number is that of its caller's call before, and one more; the
/// lowest number goes first, and whoever was away takes up at the number that is being served.
#[derive(Default)]
struct Fair {
    served: u64,
    next: HashMap<String, u64>,
}

impl Fair {
    fn number(&mut self, caller: &str) -> u64 {
        let number = self.next.get(caller).copied().unwrap_or_default().max(self.served);
        self.next.insert(caller.to_owned(), number + 1);
        number
    }

    fn serves(&mut self, number: u64) {
        self.served = self.served.max(number);
        let served = self.served;
        self.next.retain(|_, next| *next > served); // the others would take up there anyway
    }
}

struct Waiter {
    ticket: u64,
    number: u64, // where it is fair
    turn: oneshot::Sender<Turn>,
    context: Arc<Context>,
}

/// The right to run; dropping it passes it on.
struct Turn {
    line: Arc<Line>,
    since: Instant,
    idle: Duration,
    is_served: bool,
}

impl Turn {
    /// What was waited for meanwhile, a load or the next attempt, says nothing of the next turn.
    fn ended(mut self, end: &End, idle: Duration) {
        self.is_served = matches!(end, End::Finished(_));
        self.idle = idle;
    }
}

impl Line {
    fn new(limits: Limits) -> Line {
        let mean = Duration::from_secs(1); // until measured
        let (fair, waiting) = (limits.fair.then(Fair::default), VecDeque::new());
        let (running, next_ticket, limit, newest) = (0, 0, limits.running, None);
        Line { state: Mutex::new(State { running, waiting, next_ticket, mean, limit, fair, newest }) }
    }

    /// Those in line have the newest limits, and will be answered by the newest deployments.
    fn takes_over(self: &Arc<Self>, queue: &Queue) {
        let mut state = self.lock();
        (state.limit, state.newest) = (queue.limits.running, Some(queue.inner.clone()));
        if state.fair.is_some() != queue.limits.fair {
            state.fair = queue.limits.fair.then(Fair::default);
            state.waiting.iter_mut().for_each(|waiter| waiter.number = 0); // they stand as they came
        }
        drop(state);
        self.go_on(); // there may be room for more of them now
    }

    /// A turn, and whether it was waited for.
    async fn turn(self: &Arc<Self>, call: &Call, limits: Limits, model: &dyn Provider) -> Result<(Turn, bool)> {
        let (ticket, turn) = {
            let mut state = self.lock();
            if state.running < state.limit && state.waiting.is_empty() {
                state.running += 1;
                if let Some(fair) = &mut state.fair {
                    let number = fair.number(&call.context.caller);
                    fair.serves(number);
                }
                return Ok((self.new_turn(), false));
            }
            // Those who wait for it to load have all the turns: who has not the patience learns nothing in line.
            if call.context.patience.is_zero() && model.is_loading() {
                return Err(Error::new(Kind::Loading, "it is being loaded").retry_after(LOADED));
            }
            if state.waiting.len() >= limits.waiting {
                return Err(self.full(&state));
            }
            state.join(&call.context)
        };
        let place = Place { line: self, ticket, since: Instant::now(), call };
        let turn = match (limits.wait, call.context.left()) {
            (None, None) => turn.await,
            (Some(most), left) if left.is_none_or(|left| most <= left) => {
                tokio::time::timeout(most, turn).await.map_err(|_| self.too_long(call, most))?
            }
            (_, left) => tokio::time::timeout(left.unwrap_or_default(), turn).await.map_err(|_| too_late())?,
        };
        let turn = turn.map_err(|_| Error::new(Kind::Internal, "the line was closed"))?;
        drop(place);
        Ok((turn, true))
    }

    fn new_turn(self: &Arc<Self>) -> Turn {
        Turn { line: self.clone(), since: Instant::now(), idle: Duration::ZERO, is_served: false }
    }

    /// Whoever comes back when those in line have had their turn need not wait again.
    fn full(&self, state: &State) -> Error {
        let message = format!("the line is full: {} calls run and {} wait", state.running, state.waiting.len());
        Error::new(Kind::Overloaded, message).retry_after(state.wait_for(state.waiting.len() + 1))
    }

    fn too_long(&self, call: &Call, most: Duration) -> Error {
        let place = call.context.progress.borrow().place.unwrap_or(1);
        let message = format!("it waited {} s in line, and {place} were still before its turn", most.as_secs_f32());
        Error::new(Kind::Overloaded, message).code("queue_timeout").retry_after(self.lock().wait_for(place))
    }

    /// The next in line gets the turn. One that has just left gives it back by dropping it, outside the lock. How long it took
    /// is told of an answer: what failed or was left says nothing of the next.
    fn pass_on(self: &Arc<Self>, took: Option<Duration>) {
        let mut state = self.lock();
        if let Some(took) = took {
            state.mean = (state.mean * 7 + took) / 8;
        }
        state.running -= 1;
        drop(state);
        self.go_on();
    }

    /// Those in line get the turns that are free.
    fn go_on(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            if state.running >= state.limit {
                return;
            }
            let Some(next) = state.next() else { return };
            state.running += 1;
            state.tell_places();
            drop(state);
            drop(next.turn.send(self.new_turn()));
        }
    }

    /// How many run, and how many wait.
    fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running, state.waiting.len())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It did not fail and there is nothing to try again: nobody waits any more.
fn too_late() -> Error {
    Error::new(Kind::Timeout, "the caller's deadline passed while it stood in line")
}

impl State {
    fn join(&mut self, context: &Arc<Context>) -> (u64, oneshot::Receiver<Turn>) {
        let (sender, receiver) = oneshot::channel();
        self.next_ticket += 1;
        let number = self.fair.as_mut().map_or(0, |fair| fair.number(&context.caller));
        self.waiting.push_back(Waiter { ticket: self.next_ticket, number, turn: sender, context: context.clone() });
        if self.fair.is_some() {
            self.tell_places(); // it may stand before others
        } else {
            self.tell(self.waiting.len() - 1, self.waiting.len());
        }
        context.tell(|p| (p.joined_at, p.has_left_line) = (p.joined_at.or(p.place), false));
        (self.next_ticket, receiver)
    }

    fn tell_places(&self) {
        self.order().into_iter().enumerate().for_each(|(i, at)| self.tell(at, i + 1));
    }

    fn tell(&self, at: usize, place: usize) {
        let eta = self.wait_for(place);
        self.waiting[at].context.tell(|p| (p.place, p.eta) = (Some(place), Some(eta)));
    }

    /// Those in line as they will be called; all numbers are the same where callers are.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.waiting.len()).collect();
        order.sort_by_key(|&at| self.waiting[at].number);
        order
    }

    fn next(&mut self) -> Option<Waiter> {
        let at = if self.fair.is_some() { *self.order().first()? } else { 0 };
        let next = self.waiting.remove(at)?;
        self.fair.iter_mut().for_each(|fair| fair.serves(next.number));
        Some(next)
    }

    /// How long until this many further turns have come free.
    fn wait_for(&self, turns: usize) -> Duration {
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        let wait = self.mean.saturating_mul(turns) / u32::try_from(self.limit).unwrap_or(u32::MAX).max(1);
        wait.clamp(Duration::from_secs(1), LONGEST_WAIT)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.line.pass_on(self.is_served.then(|| self.since.elapsed().saturating_sub(self.idle)));
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
            (p.place, p.eta) = (None, None);
            p.queued += self.since.elapsed();
        });
        let mut state = self.line.lock();
        if let Some(at) = state.waiting.iter().position(|w| w.ticket == self.ticket) {
            state.waiting.remove(at);
            state.tell_places();
            self.call.context.tell(|p| p.has_left_line = true);
        }
    }
}

#[cfg(test)]
mod tests;
