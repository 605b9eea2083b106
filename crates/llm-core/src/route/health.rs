//! How a deployment is: replies and probes write it, the selection and the list of models read it. It is the breaker
//! too: one that fails again and again rests, and is tried anew after a while.
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::call::ModelInfo;
use crate::error::{Error, Kind};

/// So many failures in a row send a deployment to rest.
const MOST_FAILURES: u32 = 3;
/// The first rest; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// The state of one deployment.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// Nobody has asked it yet.
    Unknown,
    /// It is being loaded or started; 0 to 1 if known.
    Loading(Option<f32>),
    /// It answers.
    Ready,
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
            Status::Failing(_) => "error",
        }
    }
}

/// How a deployment is.
#[derive(Debug, Default)]
pub struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    was_ready: bool,
    failures: u32, // in a row
    error: Option<Error>,
    rests_until: Option<Instant>,
    models: Vec<ModelInfo>,
}

impl Health {
    /// It answered.
    pub fn succeeded(&self) {
        let mut state = self.lock();
        if state.failures > 0 || !state.was_ready {
            *state = State { was_ready: true, models: std::mem::take(&mut state.models), ..State::default() };
        }
    }

    /// It failed, if this error is its own and not the caller's.
    pub fn failed(&self, error: &Error) {
        if !error.kind().is_sick() {
            return;
        }
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        state.error = Some(error.clone());
        if let Some(times) = state.failures.checked_sub(MOST_FAILURES) {
            let rest = FIRST_REST.saturating_mul(1 << times.min(8)).min(LONGEST_REST);
            state.rests_until = Some(Instant::now() + rest);
        }
    }

    /// A probe did not even get its list of models: whatever the error, the next list heals it.
    pub fn unlisted(&self, error: &Error) {
        if error.kind().is_sick() {
            self.failed(&error.clone().as_kind(Kind::Unavailable));
        }
    }

    /// A probe learned what it serves. Where nobody answered before, that is good news; where answers failed it proves
    /// little, for a broken model lists itself and dies of the first question: only an answer ends its rest.
    pub fn learned(&self, models: Vec<ModelInfo>) {
        let mut state = self.lock();
        let was_away = state.error.as_ref().is_none_or(|error| error.kind() == Kind::Unavailable);
        if was_away {
            *state = State { was_ready: true, models, ..State::default() };
            return;
        }
        state.models = models;
        if state.rests_until.is_none_or(|until| until <= Instant::now()) {
            (state.error, state.was_ready) = (None, true); // the failures still count
        }
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

    /// How it is.
    pub fn status(&self) -> Status {
        let state = self.lock();
        match (&state.error, state.was_ready) {
            (Some(error), _) => Status::Failing(error.to_string()),
            (None, true) => Status::Ready,
            (None, false) => Status::Unknown,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_callers_mistakes_do_not_count() {
        let health = Health::default();
        (0..10).for_each(|_| health.failed(&Error::invalid("no")));
        assert_eq!(health.status(), Status::Unknown);
    }
}
