//! How a deployment is: replies and probes write it, the selection and the list of models read it. It is the breaker
//! too: one that fails again and again rests, and is tried anew after a while.
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use tokio::time::Instant;

use crate::call::ModelInfo;
use crate::error::{Error, Kind, Result, UNTRUSTED};
use crate::policy::timeout::seconds;

/// So many failures in a row send a deployment to rest.
const MOST_FAILURES: u32 = 3;
/// The first rest; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Nobody is taken at his word for longer, who says when to come back.
const LONGEST_WORD: Duration = Duration::from_secs(600);
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
    is_proven: bool,  // by an answer, since it last failed
    is_loading: bool, // by its own word
    failures: u32,    // in a row
    error: Option<Error>,
    rests_until: Option<Instant>,
    last_until: Option<Instant>, // others are asked first: by its own word, or since it failed
    models: Vec<ModelInfo>,
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

    /// It failed, if this error is its own and not the caller's.
    pub fn failed(&self, error: &Error) {
        if error.kind() == Kind::Loading {
            let mut state = self.lock();
            *state = State { is_loading: true, ..state.anew() };
        }
        if let (Kind::RateLimited | Kind::Overloaded, Some(wait)) = (error.kind(), error.get_retry_after()) {
            self.lock().last_until = Some(Instant::now() + wait.min(LONGEST_WORD));
        }
        if !error.is_of_a_sick_host() {
            return;
        }
        let mut state = self.lock();
        (state.is_proven, state.is_loading) = (false, false);
        state.error = Some(error.clone());
        if state.rests() {
            return; // a connection that breaks takes many answers with it, and is one failure
        }
        state.failures = state.failures.saturating_add(1);
        state.last_until = state.last_until.max(Some(Instant::now() + DOUBTED));
        if let Some(times) = state.failures.checked_sub(MOST_FAILURES) {
            let rest = FIRST_REST.saturating_mul(1 << times.min(8)).min(LONGEST_REST);
            state.rests_until = Some(Instant::now() + rest);
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
        (state.is_proven, state.was_ready, state.is_loading) = (false, false, false);
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
        if self.needs_proof && state.watched_since.is_some() && !state.is_proven {
            state.models = models;
            return; // the canary tells
        }
        let was_away = state.error.as_ref().is_none_or(|error| error.kind() == Kind::Unavailable);
        if was_away {
            let is_proven = state.is_proven;
            *state = State { was_ready: true, is_proven, models, ..state.anew() };
            return;
        }
        state.models = models;
        if !state.rests() {
            (state.error, state.was_ready) = (None, true); // the failures still count
        }
    }

    /// Whether a token must be spent to know how it is: it needs proof and has given none since it last failed.
    pub fn wants_canary(&self) -> bool {
        let state = self.lock();
        let is_asked_to = self.needs_proof && state.watched_since.is_some();
        is_asked_to && !state.is_proven && !state.rests()
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

    /// How long it still rests; `None` if it may be asked.
    pub fn rest(&self) -> Option<Duration> {
        let until = self.lock().rests_until?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Whether others are asked first: it said that it has enough to do, and the time that it asked for has not gone by, or
    /// it failed a moment ago.
    pub fn is_busy(&self) -> bool {
        self.lock().last_until.is_some_and(|until| until > Instant::now())
    }

    /// How it is.
    pub fn status(&self) -> Status {
        let state = self.lock();
        let is_starting = || state.watched_since.is_some_and(|since| since.elapsed() < self.start_timeout);
        match (&state.error, state.was_ready) {
            _ if state.is_loading => Status::Loading(None),
            (Some(error), false) if may_be_a_start(error) && is_starting() => Status::Loading(None),
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

impl State {
    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| until > Instant::now())
    }

    /// Without a past, but for what a probe has learned of it.
    fn anew(&mut self) -> State {
        State { watched_since: self.watched_since, models: std::mem::take(&mut self.models), ..State::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DEADLINE;

    #[test]
    fn one_that_fails_again_and_again_rests_and_one_success_heals_it() {
        let health = Health::default();
        let error = Error::new(Kind::Unavailable, "gone");
        (0..MOST_FAILURES - 1).for_each(|_| health.failed(&error));
        assert_eq!((health.rest(), health.status()), (None, Status::Failing("gone".into())));
        health.failed(&error);
        assert!(health.rest().is_some());
        health.succeeded();
        assert_eq!((health.rest(), health.status()), (None, Status::Ready));
    }

    #[test]
    fn a_list_of_models_heals_one_that_was_away_but_not_one_whose_answers_fail() {
        let failed = |kind| {
            let health = Health::default();
            (0..MOST_FAILURES).for_each(|_| health.failed(&Error::new(kind, "no")));
            health.learned(vec![ModelInfo::default()]);
            (health.rest().is_some(), health.status().name(), health.models().len())
        };
        assert_eq!(failed(Kind::Unavailable), (false, "ready", 1));
        assert_eq!(failed(Kind::Upstream), (true, "error", 1));
        let health = Health::default();
        (0..MOST_FAILURES).for_each(|_| health.unlisted(&Error::new(Kind::Timeout, "it did not list its models")));
        assert!(health.rest().is_some());
        health.learned(Vec::new());
        assert_eq!((health.rest(), health.status()), (None, Status::Ready), "what a probe broke a probe heals");
        let health = Health::default();
        for _ in 0..MOST_FAILURES {
            health.failed(&Error::new(Kind::Upstream, "no"));
            health.learned(Vec::new()); // a probe between each
        }
        assert!(health.rest().is_some(), "probes between its failures do not hide them");
        health.succeeded();
        assert_eq!((health.rest(), health.status()), (None, Status::Ready));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_break_together_are_one_failure_and_each_further_rest_is_longer() {
        let health = Health::default();
        let gone = Error::new(Kind::Upstream, "gone");
        let break_down = || (0..16).for_each(|_| health.failed(&gone));
        for seconds in [2, 4, 8, 16, 30, 30] {
            break_down();
            assert_eq!(health.rest(), Some(Duration::from_secs(seconds)));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(health.rest(), None);
        }
    }

    #[test]
    fn a_wrong_certificate_is_no_start_and_a_busy_door_no_proof() {
        let failed = |error: Error| {
            let health = Health::new(&Config::default(), true);
            health.is_watched();
            health.unlisted(&error);
            (health.status().name(), health.reason())
        };
        assert_eq!(failed(Error::new(Kind::Unavailable, "refused")), ("loading", Some("refused".into())));
        assert_eq!(failed(Error::new(Kind::Overloaded, "503")).0, "loading");
        assert_eq!(failed(Error::new(Kind::Unavailable, "x").code(UNTRUSTED)), ("error", Some("x".into())));
    }

    #[test]
    fn the_callers_mistakes_and_deadlines_do_not_count() {
        let health = Health::default();
        (0..10).for_each(|_| health.failed(&Error::invalid("no")));
        (0..10).for_each(|_| health.failed(&Error::new(Kind::Timeout, "late").code(DEADLINE)));
        assert_eq!(health.status(), Status::Unknown);
    }
}
