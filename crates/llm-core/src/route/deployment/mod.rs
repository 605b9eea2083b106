//! One place where a model runs: who answers there, how it is, and how much it has to do.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::canary;
use super::health::{Config, Door, Health, Status};
use super::router::ANY;
use crate::call::*;
use crate::error::{Error, Kind, Result};

/// A host that cannot even list its models in this time is not well.
const LONGEST_PROBE: Duration = Duration::from_secs(5);
/// One failure may be a connection that broke at the wrong moment; it is asked once more, this much later.
const SECOND_LOOK: Duration = Duration::from_millis(200);
/// So long a probe's answer is told to everybody who asks: many may ask at once, and a host has better things to do.
const FRESH_WELL: Duration = Duration::from_secs(5);
const FRESH_SICK: Duration = Duration::from_millis(500);
/// Servers of one model that answer under any name, by the owner that they list.
const ANY_NAME: [&str; 2] = ["llamacpp", "fake"];

/// One place where a model runs.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use std::sync::Arc;
/// use llm_core::{provider::fake::Fake, route::{Deployment, Status}};
/// let deployment = Deployment::new("coder/0".into(), None, Arc::new(Fake::says("hi")));
/// assert_eq!(deployment.status(), Status::Unknown);
/// deployment.probe().await?; // asks for its models
/// assert_eq!((deployment.status(), deployment.max_model_len()), (Status::Ready, Some(8192)));
/// assert!(deployment.outstanding() == 0 && !deployment.is_resting());
/// deployment.drain(true); // it ends what it has begun
/// assert_eq!(deployment.status(), Status::Draining);
/// # Ok(())
/// # }
/// ```
pub struct Deployment {
    /// Its name: `coder/0`.
    pub name: String,
    /// What the host calls the model; `None` passes on the client's word, and `""` is the first that the host lists.
    pub model: Option<Arc<str>>,
    /// Who answers there, as it is, for probes and loading.
    pub provider: Arc<dyn Provider>,
    /// How it is.
    pub health: Health,
    canary_timeout: Duration,
    may: Operations, // what the canary may be asked
    drains: AtomicBool,
    outstanding: AtomicUsize,
    probed: Mutex<Option<(Instant, Result<()>)>>,
}

impl Deployment {
    /// A deployment that nobody has asked yet.
    pub fn new(name: String, model: Option<Arc<str>>, provider: Arc<dyn Provider>) -> Deployment {
        Deployment::with(name, model, provider, &Config::default())
    }

    /// The same, and how it shows that it is well.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use llm_core::{Operation, provider::fake::Fake, route::{Deployment, health::Config}};
    /// let config = Config { canary: Some(true), canary_timeout_s: 5.0, ..Config::default() };
    /// let deployment = Deployment::with("coder/0".into(), None, Arc::new(Fake::says("hi")), &config);
    /// assert_eq!(deployment.may(Operation::Embed.into()).name, "coder/0"); // one token of a chat would be refused
    /// ```
    pub fn with(name: String, model: Option<Arc<str>>, provider: Arc<dyn Provider>, config: &Config) -> Deployment {
        let needs_proof = provider.life().is_none() && config.canary.unwrap_or(provider.is_free());
        let canary_timeout = Duration::try_from_secs_f64(config.canary_timeout_s).unwrap_or(LONGEST_PROBE);
        Deployment {
            name,
            model,
            health: Health::new(config, needs_proof),
            canary_timeout,
            may: provider.serves(),
            provider,
            drains: AtomicBool::new(false),
            outstanding: AtomicUsize::new(0),
            probed: Mutex::default(),
        }
    }

    /// What its model may be asked, if that is less than its provider can.
    pub fn may(self, operations: Operations) -> Deployment {
        Deployment { may: operations, ..self }
    }

    /// Whether it is asked nothing new from now on.
    pub fn drain(&self, drains: bool) {
        self.drains.store(drains, Ordering::Relaxed);
    }

    /// Whether a call may be sent there now.
    pub(super) fn is_open(&self, call: &Call) -> bool {
        !self.is_drained() && matches!(self.health.door(self.asked(call)), Door::Open | Door::Trial)
    }

    /// What it said to whoever came for this, if it has enough to do, and when to come back.
    pub(super) fn busy(&self, call: &Call) -> Option<Error> {
        match self.health.door(self.asked(call)) {
            Door::Busy(error) => Some(error),
            _ => None,
        }
    }

    /// The model that this call asks of a host that is asked for several.
    pub(super) fn asked<'c>(&self, call: &'c Call) -> &'c str {
        if self.model.is_none() { &call.model } else { "" }
    }

    /// Whether it is known to answer nothing now, so that others are asked as long as there are any.
    pub(super) fn is_out(&self) -> bool {
        match self.status() {
            Status::Loading(Some(_)) => true,
            Status::Draining => self.is_drained() || self.health.is_out(),
            Status::Loading(None) | Status::Failing(_) => self.health.is_out(),
            Status::Unknown | Status::Ready => false,
        }
    }

    /// Whether its owner wants it to be asked nothing new.
    pub(crate) fn is_drained(&self) -> bool {
        self.drains.load(Ordering::Relaxed)
    }

    /// What the host calls the model that this call means; one that names none gets the first on the host's list that may
    /// be asked this.
    pub(super) async fn name_for(&self, call: &Call) -> Result<Option<Arc<str>>> {
        let name = self.model.as_ref().unwrap_or(&call.model);
        let is_named = !(name.is_empty() || **name == *ANY) || call.operation == Operation::Models;
        if is_named || !self.lists_models() {
            return Ok(self.model.clone().filter(|name| !name.is_empty()));
        }
        if self.provider.wants_a_name() {
            let message = "which of its models? Name one, here or in the configuration (OPENAI_TEXT_MODEL=..)";
            return Err(Error::invalid(message).param("model"));
        }
        if self.health.models().is_empty() {
            self.probe().await?;
        }
        let first = self.health.models().into_iter().find(|model| model.may(call.operation));
        let none = || Error::new(Kind::Upstream, format!("the upstream lists no model that can {}", call.operation));
        Ok(Some(first.ok_or_else(none)?.id.into()))
    }

    /// Whether somebody answers there and has the model, which costs no token; notes how it is. Many who ask at once, or soon
    /// after each other, are told the same answer.
    ///
    /// # Errors
    /// Why it cannot say; `NotFound` with the models that it lists, if ours is none of them.
    pub async fn probe(&self) -> Result<()> {
        if !self.lists_models() && !self.wants_canary() {
            return Ok(()); // its replies tell how it is
        }
        // One asks, the others wait for its answer; if it is dropped, the next one asks.
        let mut last = self.probed.lock().await;
        if let Some((when, answer)) = &*last
            && when.elapsed() < if answer.is_ok() { FRESH_WELL } else { FRESH_SICK }
        {
            return answer.clone();
        }
        let answer = self.look().await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }

    fn lists_models(&self) -> bool {
        self.provider.serves().contains(Operation::Models)
    }

    /// Whether a probe is under way.
    pub(crate) fn is_being_probed(&self) -> bool {
        self.probed.try_lock().is_err()
    }

    /// Where there is no list, only a question shows that somebody is there.
    fn wants_canary(&self) -> bool {
        self.health.wants_canary() || !self.lists_models() && self.health.lacks_proof()
    }

    async fn look(&self) -> Result<()> {
        let missing = if self.lists_models() { self.look_at_list().await? } else { None };
        if self.wants_canary() && !self.is_drained() {
            return self.ask_canary(missing).await;
        }
        missing.map_or(Ok(()), Err)
    }

    /// The list of its models; an error within, if ours is none of them.
    async fn look_at_list(&self) -> Result<Option<Error>> {
        let mut listed = self.listed().await;
        if listed.as_ref().is_err_and(|error| matches!(error.kind(), Kind::Unavailable | Kind::Upstream)) {
            tokio::time::sleep(SECOND_LOOK).await;
            listed = self.listed().await;
        }
        let models = match listed.map_err(for_all) {
            Ok(models) => models,
            Err(error) if keeps_no_list(&error) && self.health.tells_by_answers() => return Ok(None),
            Err(error) if is_to_be_mended(&error) => {
                self.health.refused(&error);
                return Err(error);
            }
            Err(error) => {
                self.health.unlisted(&error);
                return Err(error);
            }
        };
        let missing = self.missing(&models);
        match &missing {
            // It may know ours by another name: that is for an answer to show.
            Some(missing) if !self.health.tells_by_answers() => self.health.refused(missing),
            _ => self.health.learned(models),
        }
        Ok(missing)
    }

    async fn ask_canary(&self, missing: Option<Error>) -> Result<()> {
        let first = || self.health.models().first().map(|model| model.id.clone());
        let named = self.model.as_deref().filter(|name| !name.is_empty()).map(str::to_owned);
        let model = named.or_else(first).unwrap_or_default();
        let late = |_| Err(Error::new(Kind::Timeout, "it did not answer the smallest question in time"));
        let asked = tokio::time::timeout(self.canary_timeout, canary::ask(&*self.provider, self.may, &model));
        let Err(error) = asked.await.unwrap_or_else(late).map_err(for_all) else {
            self.health.succeeded();
            return Ok(());
        };
        let error = match (error.kind(), missing) {
            (Kind::NotFound, Some(missing)) => missing,
            // Whoever stands before it says so, too; one that listed its models is there, and busy.
            (Kind::Overloaded, _) if self.health.models().is_empty() => error.as_kind(Kind::Unavailable),
            // It is there, and busy, or thinks little of so small a question: its answers tell the rest.
            (Kind::Overloaded | Kind::RateLimited | Kind::Invalid | Kind::ContextLength, _) => {
                self.health.succeeded();
                self.health.failed(&error); // it may have said when to come back
                return Ok(());
            }
            _ => error,
        };
        match error.kind() {
            Kind::NotFound | Kind::Unauthorized | Kind::Unsupported => self.health.refused(&error),
            _ => self.health.failed(&error),
        }
        Err(error)
    }

    async fn listed(&self) -> Result<Vec<ModelInfo>> {
        let call = Call::new(Request::Models, Delivery::Whole);
        let listed = async { self.provider.call(&call).await?.models().await };
        let late = |_| Err(Error::new(Kind::Timeout, "it did not list its models in 5 s"));
        tokio::time::timeout(LONGEST_PROBE, listed).await.unwrap_or_else(late)
    }

    /// The error of a host that lists other models than ours. It is well all the same, and may know ours by another name.
    fn missing(&self, models: &[ModelInfo]) -> Option<Error> {
        let name = self.model.as_deref().filter(|name| !name.is_empty() && !models.is_empty())?;
        if models.iter().any(|model| is_called(model, name)) {
            return None;
        }
        let listed: Vec<_> = models.iter().map(|model| model.id.as_str()).take(20).collect();
        let message = format!("the upstream does not list the model {name}; it lists: {}", listed.join(", "));
        Some(Error::new(Kind::NotFound, message).code("model_not_found"))
    }

    /// How many replies of it are running.
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Whether it failed so often that it is left alone for a while.
    pub fn is_resting(&self) -> bool {
        self.health.rest().is_some()
    }

    /// How it is: the life of what must be loaded says it better than its last reply.
    pub fn status(&self) -> Status {
        if self.is_drained() {
            return Status::Draining;
        }
        match self.provider.life().map(Life::status) {
            Some(LifeStatus::Unloaded) => Status::Unknown,
            Some(LifeStatus::Loading(progress)) => Status::Loading(Some(progress)),
            Some(LifeStatus::Failed(why)) => Status::Failing(why),
            Some(LifeStatus::Ready { .. }) => Status::Ready,
            None => self.health.status(),
        }
    }

    /// The context window of one answer in tokens, as far as known.
    pub fn max_model_len(&self) -> Option<u32> {
        if let Some(LifeStatus::Ready { max_model_len }) = self.provider.life().map(Life::status) {
            return Some(max_model_len);
        }
        let models = self.health.models();
        let mine = models.iter().find(|m| self.model.as_deref() == Some(&m.id)).or(models.first());
        mine.and_then(|m| m.max_model_len)
    }
}

/// It is there, and has no list, or none that can be read.
fn keeps_no_list(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::Invalid | Kind::Unsupported)
        || error.get_code() == Some(INVALID_ANSWER)
}

/// Everybody may look at how a deployment is. Nothing of a question can stand in what a probe is told, and some hosts repeat
/// the key.
fn for_all(error: Error) -> Error {
    if error.kind() == Kind::Unauthorized { error.for_others() } else { error }
}

/// No time heals it.
fn is_to_be_mended(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unauthorized | Kind::NotFound | Kind::Invalid | Kind::Unsupported)
}

/// Whether a model on a list answers to this name.
fn is_called(model: &ModelInfo, name: &str) -> bool {
    let told = |field: &str| model.extra.get(field);
    let aliases = told("aliases").and_then(|aliases| aliases.as_array()).into_iter().flatten();
    let is_any = told("owned_by").and_then(|owner| owner.as_str()).is_some_and(|owner| ANY_NAME.contains(&owner));
    // Ollama lists `llama3:latest`, and is asked for `llama3`.
    is_any
        || model.id.strip_suffix(":latest").unwrap_or(&model.id) == name
        || model.id == name
        || aliases.into_iter().any(|alias| alias == name)
}

/// One more reply of a deployment is running, until this is dropped.
pub(super) struct Busy {
    deployment: Arc<Deployment>,
    proves: bool, // what is counted here may be known without asking the host
    tries: bool,  // whether it is well again
}

impl Busy {
    /// `None` while it may not be asked.
    pub(super) fn with(deployment: &Arc<Deployment>, call: &Call) -> Option<Busy> {
        let proves = call.operation.takes_turn();
        let tries = match deployment.health.door(deployment.asked(call)) {
            _ if deployment.is_drained() => return None,
            Door::Open => false,
            Door::Trial if !proves => false,
            Door::Trial if deployment.health.begins_trial() => true,
            _ => return None,
        };
        deployment.outstanding.fetch_add(1, Ordering::Relaxed);
        Some(Busy { deployment: deployment.clone(), proves, tries })
    }

    /// It has begun to answer.
    pub(super) fn answered(&mut self) {
        if std::mem::take(&mut self.tries) {
            self.deployment.health.ends_trial(true);
        }
    }

    pub(super) fn ended(self, end: &End) {
        match end {
            End::Finished(_) if self.proves => self.deployment.health.finished(),
            End::Finished(_) => {}
            End::Failed(kind) => self.deployment.health.failed(&Error::new(*kind, "its last answer broke off")),
            End::Dropped => {}
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.deployment.outstanding.fetch_sub(1, Ordering::Relaxed);
        if self.tries {
            self.deployment.health.ends_trial(false);
        }
    }
}

#[cfg(test)]
mod tests;
