//! One place where a model runs: who answers there, how it is, and how much it has to do.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::health::{Health, Status};
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
pub struct Deployment {
    /// Its name: `coder/0`.
    pub name: String,
    /// What the host calls the model; `None` passes on the client's word, and `""` is the first that the host lists.
    pub model: Option<Arc<str>>,
    /// Who answers there, as it is, for probes and loading.
    pub provider: Arc<dyn Provider>,
    /// How it is.
    pub health: Arc<Health>,
    outstanding: AtomicUsize,
    probed: Mutex<Option<(Instant, Result<()>)>>,
}

impl Deployment {
    /// A deployment that nobody has asked yet.
    pub fn new(name: String, model: Option<Arc<str>>, provider: Arc<dyn Provider>) -> Deployment {
        let (health, outstanding) = (Arc::default(), AtomicUsize::new(0));
        Deployment { name, model, provider, health, outstanding, probed: Mutex::default() }
    }

    /// What the host calls the model that this call means; one that names none gets the first on the host's list that may
    /// be asked this.
    pub(super) async fn name_for(&self, call: &Call) -> Result<Option<Arc<str>>> {
        let is_named = !self.model.as_ref().unwrap_or(&call.model).is_empty() || call.operation == Operation::Models;
        if is_named || !self.lists_models() {
            return Ok(self.model.clone().filter(|name| !name.is_empty()));
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
        if !self.lists_models() {
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

    async fn look(&self) -> Result<()> {
        let mut listed = self.listed().await;
        if listed.as_ref().is_err_and(|error| matches!(error.kind(), Kind::Unavailable | Kind::Upstream)) {
            tokio::time::sleep(SECOND_LOOK).await;
            listed = self.listed().await;
        }
        let models = listed.inspect_err(|error| self.health.unlisted(error))?;
        let missing = self.missing(&models);
        self.health.learned(models);
        missing.map_or(Ok(()), Err)
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
pub(super) struct Busy(Arc<Deployment>);

impl Busy {
    pub(super) fn with(deployment: &Arc<Deployment>) -> Busy {
        deployment.outstanding.fetch_add(1, Ordering::Relaxed);
        Busy(deployment.clone())
    }

    pub(super) fn ended(self, end: &End) {
        match end {
            End::Finished(_) => self.0.health.succeeded(),
            End::Failed(kind) => self.0.health.failed(&Error::new(*kind, "its last answer broke off")),
            End::Dropped => {}
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex as Lock;

    /// A host whose list of models is what it is told to be, call by call; the last holds for all further ones.
    struct Lists(Lock<Vec<Result<&'static str>>>, AtomicUsize);

    impl Lists {
        fn of(answers: &[Result<&'static str>]) -> Arc<Lists> {
            Arc::new(Lists(Lock::new(answers.to_vec()), AtomicUsize::new(0)))
        }
    }

    impl Provider for Lists {
        fn serves(&self) -> Operations {
            Operation::Models.into()
        }

        fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
            assert_eq!(call.operation, Operation::Models, "a probe costs no token");
            Box::pin(async move {
                self.1.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
                let mut answers = self.0.lock().unwrap();
                let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
                let model = |id: &str| ModelInfo { id: id.into(), ..ModelInfo::default() };
                Ok(Reply::of(Frame::Models(answer?.split(' ').map(model).collect())))
            })
        }
    }

    fn deployment(host: &Arc<Lists>) -> Deployment {
        Deployment::new("d".into(), Some("coder".into()), host.clone())
    }

    fn gone() -> Result<&'static str> {
        Err(Error::new(Kind::Unavailable, "gone"))
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_are_told_one_answer() {
        let host = Lists::of(&[Ok("coder chat")]);
        let deployment = deployment(&host);
        let answers = futures_util::future::join_all((0..100).map(|_| deployment.probe())).await;
        assert!(answers.iter().all(Result::is_ok) && deployment.status() == Status::Ready);
        assert_eq!(host.1.load(Ordering::Relaxed), 1);
        tokio::time::advance(FRESH_WELL).await;
        deployment.probe().await.unwrap();
        assert_eq!(host.1.load(Ordering::Relaxed), 2, "an old answer is no answer");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_once_is_asked_once_more_and_one_that_is_gone_is_told_for_a_moment() {
        let flickers = Lists::of(&[gone(), Ok("coder")]);
        deployment(&flickers).probe().await.unwrap();
        let dead = Lists::of(&[gone()]);
        let deployment = deployment(&dead);
        for _ in 0..5 {
            assert_eq!(deployment.probe().await.unwrap_err().kind(), Kind::Unavailable);
        }
        assert_eq!((dead.1.load(Ordering::Relaxed), deployment.status()), (2, Status::Failing("gone".into())));
        tokio::time::advance(FRESH_SICK).await;
        assert!(deployment.probe().await.is_err());
        assert_eq!(dead.1.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_given_up() {
        let fake = crate::provider::fake::Config { first_ms: 60_000, ..Default::default() };
        let slow = Deployment::new("d".into(), None, Arc::new(crate::provider::fake::Fake::new(fake)));
        assert_eq!(slow.probe().await.unwrap_err().kind(), Kind::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_without_the_model_is_well_and_says_what_it_has() {
        let deployment = deployment(&Lists::of(&[Ok("chat llama3:latest")]));
        let error = deployment.probe().await.unwrap_err();
        let message = "the upstream does not list the model coder; it lists: chat, llama3:latest";
        assert_eq!((error.message(), error.get_code()), (message, Some("model_not_found")));
        assert_eq!(deployment.status(), Status::Ready, "who knows other names may still know ours");
        for (listed, name) in [("llama3:latest", "llama3"), ("llama3:latest", "llama3:latest"), ("a b", "b")] {
            let host: Arc<dyn Provider> = Lists::of(&[Ok(listed)]);
            Deployment::new("d".into(), Some(name.into()), host).probe().await.unwrap();
        }
    }
}
