//! Loading and unloading: the state of an engine, and the one thread that goes through it.

use crate::config::Config;
use crate::engine::{Engine, Work};
use llm_core::{BoxFuture, Context, Error, Kind, LifeStatus, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What a call is told to wait while the model loads; small models take about this long.
const SOON: Duration = Duration::from_secs(1);

#[derive(Clone)]
enum State {
    Unloaded,
    Loading(f32),
    Ready(Arc<Engine>),
    /// Nobody can ask any more; the last answers are being given, or a load is being given up.
    Leaving,
    Failed(Error),
}

/// An engine's life. Dropping it lets the running answers end, and then frees the model.
pub(crate) struct Life {
    config: Arc<Config>,
    state: watch::Sender<State>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Life {
    pub(crate) fn new(config: Config) -> Life {
        Life { config: Arc::new(config), state: watch::Sender::new(State::Unloaded) }
    }

    /// The engine, if it is loaded. The first who asks starts the loading.
    ///
    /// # Errors
    /// `Loading`, with a time to wait; `Unavailable`, when it could not be loaded or died.
    pub(crate) fn engine(&self) -> Result<Arc<Engine>> {
        match &*self.state.borrow() {
            State::Ready(engine) => return Ok(engine.clone()),
            State::Failed(error) => return Err(error.clone().as_kind(Kind::Unavailable)),
            State::Unloaded => {}
            State::Loading(_) | State::Leaving => return Err(loading()),
        }
        self.start()?;
        Err(loading())
    }

    /// The same for those who have the patience to wait for a model that is being loaded.
    pub(crate) async fn engine_for(&self, asks: &Context) -> Result<Arc<Engine>> {
        match self.engine() {
            Err(error) if error.kind() == Kind::Loading && !asks.patience.is_zero() => {
                let rests = self.settle(|state| !matches!(state, State::Loading(_) | State::Leaving));
                let _ = asks.while_it_loads(tokio::time::timeout(asks.patience, rests)).await;
                self.engine()
            }
            answer => answer,
        }
    }

    pub(crate) fn engine_if_ready(&self) -> Option<Arc<Engine>> {
        match &*self.state.borrow() {
            State::Ready(engine) => Some(engine.clone()),
            _ => None,
        }
    }

    /// Starts the thread, unless it runs.
    fn start(&self) -> Result<()> {
        let begins = |state: &mut State| {
            let rests = matches!(state, State::Unloaded | State::Failed(_));
            if rests {
                *state = State::Loading(0.0);
            }
            rests
        };
        if !self.state.send_if_modified(begins) {
            return Ok(());
        }
        let (config, state) = (self.config.clone(), self.state.clone());
        let thread = std::thread::Builder::new().name("llm-engine".into());
        let spawned = thread.spawn(move || live(&config, &state));
        spawned.map(drop).map_err(|error| {
            let error = Error::new(Kind::Unavailable, "no thread could be started for the engine").because(error);
            self.state.send_replace(State::Failed(error.clone()));
            error
        })
    }

    /// Takes the engine away from callers; the thread ends when its last answer has.
    fn leave(&self) {
        self.state.send_if_modified(|state| {
            let lives = matches!(state, State::Loading(_) | State::Ready(_));
            if lives {
                *state = State::Leaving;
            }
            lives
        });
    }

    /// Waits until the thread has come to rest in one of the states that `settled` likes.
    async fn settle(&self, settled: impl Fn(&State) -> bool) -> State {
        let mut states = self.state.subscribe();
        let state = states.wait_for(settled).await;
        state.map_or(State::Unloaded, |state| state.clone())
    }
}

impl llm_core::Life for Life {
    fn load(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.settle(|state| !matches!(state, State::Leaving)).await;
            self.start()?;
            match self.settle(|state| !matches!(state, State::Loading(_))).await {
                State::Ready(_) => Ok(()),
                State::Failed(error) => Err(error),
                _ => Err(Error::new(Kind::Unavailable, "the model was unloaded while it was being loaded")),
            }
        })
    }

    fn unload(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.leave();
            self.settle(|state| matches!(state, State::Unloaded | State::Failed(_))).await;
            Ok(())
        })
    }

    fn status(&self) -> LifeStatus {
        match &*self.state.borrow() {
            State::Unloaded | State::Leaving => LifeStatus::Unloaded,
            State::Loading(share) => LifeStatus::Loading(*share),
            State::Ready(engine) => LifeStatus::Ready { max_model_len: engine.window() as u32 },
            State::Failed(error) => LifeStatus::Failed(error.to_string()),
        }
    }

    fn memory(&self) -> Option<u64> {
        match &*self.state.borrow() {
            State::Ready(engine) => Some(engine.memory()),
            _ => Some(std::fs::metadata(self.config.file().ok()?).ok()?.len()),
        }
    }
}

fn loading() -> Error {
    Error::new(Kind::Loading, "the model is being loaded").retry_after(SOON)
}

/// The thread: load, work, free.
fn live(config: &Config, state: &watch::Sender<State>) {
    let progress = {
        let state = state.clone();
        move |share| go_on(&state, share)
    };
    let end = match guarded(|| Engine::load(config, progress)) {
        Ok((engine, work)) => work_until_left(config, engine, work, state),
        Err(error) => Err(error),
    };
    state.send_modify(|state| *state = rest(end, state));
}

/// Progress while somebody still wants the model; false gives up.
fn go_on(state: &watch::Sender<State>, share: f32) -> bool {
    let mut wanted = false;
    state.send_if_modified(|state| {
        wanted = matches!(state, State::Loading(_));
        if wanted {
            *state = State::Loading(share);
        }
        wanted
    });
    wanted
}

fn work_until_left(config: &Config, engine: Engine, work: Work, state: &watch::Sender<State>) -> Result<()> {
    let engine = Arc::new(engine);
    let arrives = |state: &mut State| {
        let wanted = matches!(state, State::Loading(_));
        if wanted {
            *state = State::Ready(engine.clone());
        }
        wanted
    };
    state.send_if_modified(arrives);
    let (window, cpu) = (engine.window(), crate::instructions());
    tracing::info!(model = config.name()?, max_model_len = window, %cpu, "the model is loaded");
    drop(engine); // the state holds it now, and those who ask; when all have let go, the work ends
    guarded(|| {
        work.run();
        Ok(())
    })
}

/// What is left when the thread ends: who unloaded it meant to.
fn rest(end: Result<()>, state: &State) -> State {
    match end {
        Err(error) if !matches!(state, State::Leaving) => State::Failed(error),
        _ => State::Unloaded,
    }
}

/// A panic in the engine ends the engine, not the program; its requests end with an error.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::new(Kind::Internal, format!("the engine's thread panicked: {text}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_engines_end_and_its_status_says_so() {
        let end = guarded(|| -> Result<()> { panic!("out of {}", "luck") });
        match rest(end, &State::Loading(1.0)) {
            State::Failed(error) => assert!(error.to_string().ends_with("panicked: out of luck"), "{error}"),
            _ => panic!("not failed"),
        }
    }

    #[test]
    fn who_unloads_while_loading_has_not_failed() {
        let given_up = Err(Error::new(Kind::Unavailable, "given up"));
        assert!(matches!(rest(given_up, &State::Leaving), State::Unloaded));
    }
}
