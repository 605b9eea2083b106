//! How a deployment is: replies and probes write it, the selection and the list of models read it. It is the breaker
//! too: one that fails again and again rests, and is tried anew after a while.
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use tokio::time::Instant;

use crate::call::ModelInfo;
use crate::error::{DRAINING, Error, Kind, Result, UNTRUSTED};
use crate::policy::timeout::seconds;

/// So many failures in a row send a deployment to rest.
const MOST_FAILURES: u32 = 3;
/// The first rest; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Nobody is taken at his word for longer, who says when to come back.
const LONGEST_WORD: Duration = Duration::from_secs(600);
/// One caller tries for so long; then another may, too.
const LONGEST_TRIAL: Duration = Duration::from_secs(5);
/// Of so many models of one host it is known when to come back, if their names are no longer, in bytes.
const MOST_TOLD: usize = 64;
const LONGEST_NAME: usize = 256;
/// So long after a failure others are asked first, if there are any.
const DOUBTED: Duration = Duration::from_secs(2);

/// How a deployment shows that it is well: the section `[health]` of a deployment, a model or the house.
///
/// ```
/// use llm_core::route::health::Config;
/// let hasty = Config { start_timeout_s: 30.0, ..Config::default() };
/// assert!(hasty.check().is_ok());
/// assert_eq!(Config { canary_timeout_s: 0.0, ..hasty }.check().unwrap_err().place(), "canary_timeout_s");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// So long a host that refuses connections is loading and not broken, in seconds: a vLLM listens only when its
    /// weights are loaded. One that has answered before is broken at once.
    pub start_timeout_s: f64,
    /// Whether one token is asked for before a deployment counts as ready, and again after a failure; never while
    /// answers show that it is well. By default of servers of one's own, not of services that cost money.
    #[serde(serialize_with = "of_ones_own")]
    pub canary: Option<bool>,
    /// How long that token may take, in seconds.
    pub canary_timeout_s: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config { start_timeout_s: 600.0, canary: None, canary_timeout_s: 60.0 }
    }
}

fn of_ones_own<S: Serializer>(canary: &Option<bool>, serializer: S) -> Result<S::Ok, S::Error> {
    match canary {
        Some(canary) => canary.serialize(serializer),
        None => serializer.serialize_str("for servers of one's own"),
    }
}

impl Config {
    /// The name of its section.
    pub const SECTION: &'static str = "health";

    /// Whether its times are times.
    ///
    /// # Errors
    /// `Config`, naming the setting.
    pub fn check(&self) -> Result<()> {
        seconds("start_timeout_s", self.start_timeout_s)?;
        seconds("canary_timeout_s", self.canary_timeout_s).map(drop)
    }
}

/// The state of one deployment.
///
/// ```
/// use llm_core::route::Status;
/// assert_eq!((Status::Ready.name(), Status::Failing("gone".into()).name()), ("ready", "error"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// Nobody has asked it yet.
    Unknown,
    /// It is being loaded or started; 0 to 1 if known.
    Loading(Option<f32>),
    /// It answers.
    Ready,
    /// It ends what it has begun and is asked nothing new.
    Draining,
    /// It failed; says how.
    Failing(String),
}

impl Status {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Status::Unknown => "unknown",
            Status::Loading(_) => "loading",
            Status::Ready => "ready",
            Status::Draining => "draining",
            Status::Failing(_) => "error",
        }
    }
}

/// How a deployment is.
///
/// ```
/// use llm_core::{Error, Kind, ModelInfo, route::{Health, Status}};
/// let health = Health::default();
/// let gone = Error::new(Kind::Unavailable, "gone");
/// (0..3).for_each(|_| health.failed(&gone));
/// assert!(health.rest().is_some()); // three times in a row: it is left alone for a while
/// health.unlisted(&gone);
/// assert_eq!(health.status(), Status::Failing("gone".into()));
/// health.learned(vec![ModelInfo::default()]); // a probe found it well
/// assert_eq!((health.status(), health.rest(), health.models().len()), (Status::Ready, None, 1));
/// health.succeeded();
///
/// // One that needs proof is well when it has answered a question.
/// let health = Health::new(&Default::default(), true);
/// health.is_watched();
/// health.learned(vec![ModelInfo::default()]);
/// assert!(health.wants_canary() && health.status() == Status::Loading(None));
/// health.refused(&Error::new(Kind::Unauthorized, "the key is wrong")); // it answers, and must be mended
/// assert_eq!((health.status().name(), health.reason().as_deref()), ("error", Some("the key is wrong")));
/// health.succeeded();
/// assert!(!health.wants_canary() && !health.is_busy() && health.tells_by_answers());
/// ```
#[derive(Debug)]
pub struct Health {
    start_timeout: Duration,
    needs_proof: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    watched_since: Option<Instant>,
    was_ready: bool,
    is_proven: bool,   // by an answer, since it last failed
    is_loading: bool,  // by its own word
    is_draining: bool, // so, too
    failures: u32,     // in a row
    error: Option<Error>,
    rests_until: Option<Instant>,
    trial: Trial,                   // whether it is well again after that
    doubted_until: Option<Instant>, // others are asked first
    told: Vec<Told>,
    models: Vec<ModelInfo>,
}

/// Not to come back before, by its own word.
#[derive(Debug)]
struct Told {
    model: Box<str>, // where it has several; empty where it has one
    until: Instant,
    error: Error,
}

/// After a rest one caller tries whether it is well, and the others wait for what that one learns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Trial {
    #[default]
    Due,
    UnderWay(Instant),
    Passed,
}

/// Whether a deployment may be asked now.
#[derive(Debug)]
pub(super) enum Door {
    /// It may.
    Open,
    /// By one caller, who tells the others how it went.
    Trial,
    /// It failed again and again, and rests; or somebody is trying it.
    Resting,
    /// It has said that it has enough to do, and when to come back.
    Busy(Error),
}

impl Default for Health {
    fn default() -> Self {
        Health::new(&Config::default(), false)
    }
}

impl Health {
    /// Of a deployment that nobody has asked yet. One that needs proof is well when it has answered a question; for
    /// others the list of its models will do.
    pub fn new(config: &Config, needs_proof: bool) -> Health {
        let start_timeout = Duration::try_from_secs_f64(config.start_timeout_s).unwrap_or_default();
        Health { start_timeout, needs_proof, state: Mutex::default() }
    }

    /// Somebody watches it from now on: until its `start_timeout` has gone by, a refused connection is a start, and it may
    /// be asked to prove that it is well. A program that asks one question learns that from its answer.
    pub fn is_watched(&self) {
        self.lock().watched_since.get_or_insert_with(Instant::now);
    }

    /// It answered.
    pub fn succeeded(&self) {
        let mut state = self.lock();
        if state.failures > 0 || !state.was_ready || !state.is_proven {
            *state = State { was_ready: true, is_proven: true, ..state.anew() };
        }
    }

    /// An answer has ended as it should. What it had begun before it drains says nothing of what it would begin.
    pub(super) fn finished(&self) {
        if !self.lock().is_draining {
            self.succeeded();
        }
    }

    /// It failed, if this error is its own and not the caller's.
    pub fn failed(&self, error: &Error) {
        self.failed_at(error, "");
    }

    /// The same, of a host that is asked for several models: what it says of one is true of that one.
    pub(super) fn failed_at(&self, error: &Error, model: &str) {
        if error.kind() == Kind::Loading {
            let mut state = self.lock();
            let doubted_until = Some(Instant::now() + DOUBTED);
            *state = State { is_loading: true, doubted_until, ..state.anew() };
        }
        if let (Kind::RateLimited | Kind::Overloaded, Some(wait)) = (error.kind(), error.get_retry_after()) {
            self.lock().is_told(model, Instant::now() + wait.min(LONGEST_WORD), error);
        }
        if model.is_empty() && matches!(error.kind(), Kind::Unauthorized | Kind::NotFound | Kind::Unsupported) {
            let mut state = self.lock();
            // It was there: the list of its models tells the rest. And what is refused fast draws all calls.
            state.is_proven &= error.get_code() != Some("model_not_found");
            state.doubted_until = Some(Instant::now() + DOUBTED);
        }
        if !error.is_of_a_sick_host() {
            return;
        }
        let mut state = self.lock();
        (state.is_proven, state.is_loading) = (false, false);
        state.is_draining = error.get_code() == Some(DRAINING);
        state.error = Some(error.clone());
        if state.rests() {
            return; // a connection that breaks takes many answers with it, and is one failure
        }
        let most = if state.is_draining { MOST_FAILURES } else { 0 }; // what it says once is so
        state.failures = state.failures.saturating_add(1).max(most);
        state.doubted_until = Some(Instant::now() + DOUBTED);
        if let Some(times) = state.failures.checked_sub(MOST_FAILURES) {
            let rest = FIRST_REST.saturating_mul(1 << times.min(8)).min(LONGEST_REST);
            (state.rests_until, state.trial) = (Some(Instant::now() + rest), Trial::Due);
        }
    }

    /// A probe did not even get its list of models: whatever the error, the next list heals it.
    pub fn unlisted(&self, error: &Error) {
        match error.kind() {
            Kind::Loading => self.failed(error),
            // What is in front of it answers for it, unless its own answers have shown that it is there.
            Kind::Overloaded if !self.lock().is_proven => self.failed(&error.clone().as_kind(Kind::Unavailable)),
            kind if kind.is_sick() => self.failed(&error.clone().as_kind(Kind::Unavailable)),
            _ => {}
        }
    }

    /// It answers, but not what it is here for: it is there to be mended, and may be asked, for an answer would prove that
    /// it can.
    pub fn refused(&self, error: &Error) {
        let mut state = self.lock();
        (state.is_proven, state.was_ready, state.is_loading, state.is_draining) = (false, false, false, false);
        state.error = Some(error.clone());
    }

    /// Why it is not ready, as far as known.
    pub fn reason(&self) -> Option<String> {
        self.lock().error.as_ref().map(Error::to_string)
    }

    /// A probe learned what it serves. Where nobody answered before, that is good news; where answers failed it proves
    /// little, for a broken model lists itself and dies of the first question: only an answer ends its rest.
    pub fn learned(&self, models: Vec<ModelInfo>) {
        let mut state = self.lock();
        state.models = models;
        let ends = state.is_draining && state.rests(); // it lists its models to the end
        let was_away = !ends && state.error.as_ref().is_some_and(|error| error.kind() == Kind::Unavailable);
        if self.needs_proof && state.watched_since.is_some() && !state.is_proven {
            if was_away && !state.is_draining {
                // The canary tells, and need not wait; of callers one tries.
                (state.rests_until, state.trial) = (state.rests_until.map(|_| Instant::now()), Trial::Due);
            }
            return;
        }
        if was_away {
            let is_proven = state.is_proven;
            *state = State { was_ready: true, is_proven, ..state.anew() };
        } else if !state.rests() {
            (state.error, state.was_ready, state.is_loading) = (None, true, false); // the failures still count
        }
    }

    /// Whether a token must be spent to know how it is: it needs proof and has given none since it last failed.
    pub fn wants_canary(&self) -> bool {
        let state = self.lock();
        let is_asked_to = self.needs_proof && state.watched_since.is_some();
        is_asked_to && !state.is_proven && !state.rests() && state.busy("").is_none()
    }

    /// Whether it needs proof and has given none since it last failed.
    pub(super) fn lacks_proof(&self) -> bool {
        let state = self.lock();
        self.needs_proof && !state.is_proven && !state.rests()
    }

    /// Whether its answers tell how it is, so that it need not list its models.
    pub fn tells_by_answers(&self) -> bool {
        let state = self.lock();
        state.is_proven || self.needs_proof && state.watched_since.is_some()
    }

    /// What it serves, as far as a probe has learned.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.lock().models.clone()
    }

    /// How long it still rests, because it failed again and again.
    pub fn rest(&self) -> Option<Duration> {
        let until = self.lock().rests_until?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Whether it has said that it has enough to do, and the time that it asked for has not gone by.
    pub fn is_busy(&self) -> bool {
        self.lock().busy("").is_some()
    }

    /// Whether those who look after it know that it answers nothing: it loads, ends, or is there to be mended. Where nobody
    /// looks after it, or a list alone says so, only a question can tell.
    pub(super) fn is_out(&self) -> bool {
        let state = self.lock();
        let is_to_be_mended = self.needs_proof && state.error.as_ref().is_some_and(|error| !error.kind().is_sick());
        let is_away = state.is_loading || state.is_draining || may_start(&state, self.start_timeout);
        state.watched_since.is_some() && (is_away || is_to_be_mended)
    }

    /// Whether others are asked first: it failed a moment ago.
    pub(super) fn is_doubted(&self) -> bool {
        self.lock().doubted_until.is_some_and(|until| until > Instant::now())
    }

    /// How long nothing is sent there: it said so, or it rests.
    ///
    /// ```
    /// use std::time::Duration;
    /// use llm_core::{Error, Kind, route::Health};
    /// let health = Health::default();
    /// health.failed(&Error::new(Kind::RateLimited, "slow down").retry_after(Duration::from_secs(9)));
    /// assert!(health.is_busy() && health.rest().is_none() && health.shut_for() > Some(Duration::from_secs(8)));
    /// ```
    pub fn shut_for(&self) -> Option<Duration> {
        let told = self.lock().busy("").and_then(|error| error.get_retry_after());
        told.max(self.rest())
    }

    /// Whether it may be asked for this model now; empty where it has one.
    pub(super) fn door(&self, model: &str) -> Door {
        let state = self.lock();
        if let Some(error) = state.busy(model) {
            return Door::Busy(error);
        }
        match (state.rests_until, state.trial) {
            (None, _) => Door::Open,
            (Some(until), _) if until > Instant::now() => Door::Resting,
            (_, Trial::Passed) => Door::Open,
            _ if state.is_being_tried() => Door::Resting,
            _ => Door::Trial,
        }
    }

    /// Begins the trial after a rest, unless somebody else has.
    pub(super) fn begins_trial(&self) -> bool {
        let mut state = self.lock();
        let is_due =
            state.rests_until.is_some() && !state.rests() && state.trial != Trial::Passed && !state.is_being_tried();
        if is_due {
            state.trial = Trial::UnderWay(Instant::now());
        }
        is_due
    }

    /// A trial is over: it has begun to answer, or nothing was learned. What failed was told already.
    pub(super) fn ends_trial(&self, has_passed: bool) {
        let mut state = self.lock();
        if matches!(state.trial, Trial::UnderWay(_)) {
            state.trial = if has_passed { Trial::Passed } else { Trial::Due };
            state.is_draining &= !has_passed;
        }
    }

    /// How it is.
    pub fn status(&self) -> Status {
        let state = self.lock();
        match (&state.error, state.was_ready) {
            _ if state.is_loading => Status::Loading(None),
            _ if state.is_draining => Status::Draining,
            (Some(_), false) if may_start(&state, self.start_timeout) => Status::Loading(None),
            (Some(error), _) => Status::Failing(error.to_string()),
            (None, true) => Status::Ready,
            (None, false) if self.needs_proof && !state.models.is_empty() => Status::Loading(None), // it lists itself, and is being tried
            (None, false) => Status::Unknown,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a server that has never answered may fail so because it is being started. One that shows the wrong certificate
/// has been.
fn may_be_a_start(error: &Error) -> bool {
    error.kind() == Kind::Unavailable && error.get_code() != Some(UNTRUSTED)
}

/// Whether it is being started, as far as anybody can tell.
fn may_start(state: &State, start_timeout: Duration) -> bool {
    let is_early = state.watched_since.is_some_and(|since| since.elapsed() < start_timeout);
    is_early && !state.was_ready && state.error.as_ref().is_some_and(may_be_a_start)
}

impl State {
    /// What it said when it was too much, with the time that is left.
    fn busy(&self, model: &str) -> Option<Error> {
        let told = self.told.iter().find(|told| *told.model == *model)?;
        let left = told.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some(told.error.clone().retry_after(left))
    }

    fn is_told(&mut self, model: &str, until: Instant, error: &Error) {
        let now = Instant::now();
        self.told.retain(|told| told.until > now && *told.model != *model);
        if self.told.len() < MOST_TOLD && model.len() <= LONGEST_NAME {
            self.told.push(Told { model: model.into(), until, error: error.clone() });
        }
    }

    fn is_being_tried(&self) -> bool {
        matches!(self.trial, Trial::UnderWay(since) if since.elapsed() < LONGEST_TRIAL)
    }

    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| until > Instant::now())
    }

    /// Without a past, but for what a probe has learned of it, and its own word of when to come back.
    fn anew(&mut self) -> State {
        let (models, told) = (std::mem::take(&mut self.models), std::mem::take(&mut self.told));
        State { watched_since: self.watched_since, models, told, ..State::default() }
    }
}

#[cfg(test)]
mod tests;
