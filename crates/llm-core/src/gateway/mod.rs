//! The house of a configuration: all models running, their status, and a reload that keeps what did not change.
mod build;
pub mod config;
pub mod dotenv;
pub mod env;
mod family;
mod lookup;
pub mod origins;
mod places;
mod proxies;
mod run;
pub mod shown;
pub mod variables;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::call::*;
use crate::error::Result;
use crate::policy::{Keep, Observer};
use crate::provider::Kind;
use crate::route::{Deployment, Model, Router, Status};
pub use config::{Config, DeploymentConfig, ModelConfig};

/// All models of a configuration, as one provider.
///
/// ```
/// # fn main() -> llm_core::Result<()> {
/// use llm_core::{Config, Gateway};
/// let config = Config::from_toml("[models.hello]\nprovider = \"fake\"\nsays = \"hi\"")?;
/// let gateway = Gateway::new(&config)?;
/// assert_eq!(gateway.models()[0].id, "hello");
///
/// // The models may change while calls are running.
/// gateway.reload(&Config::from_toml("[models.bye]\nprovider = \"fake\"")?)?;
/// assert_eq!(&*gateway.router().models[0].name, "bye");
/// # Ok(())
/// # }
/// ```
pub struct Gateway {
    router: ArcSwap<Router>,
    kept: Mutex<Keep>,
    kinds: Vec<Kind>,
    observer: Arc<dyn Observer>,
}

impl Gateway {
    /// Builds the configuration with the providers that are built in. Touches no network and loads no weights.
    ///
    /// # Errors
    /// `Config`, with the place of what is wrong.
    pub fn new(config: &Config) -> Result<Gateway> {
        Gateway::with(config, &[], Arc::new(()))
    }

    /// The same with further kinds of provider, and somebody who is told how calls end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use llm_core::policy::{Observer, Outcome};
    /// use llm_core::provider::{Kind, fake::Fake};
    /// use llm_core::{Config, Gateway, Llm};
    ///
    /// #[derive(Default)]
    /// struct Count(AtomicUsize);
    /// impl Observer for Count {
    ///     fn ended(&self, _: &Outcome<'_>) {
    ///         self.0.fetch_add(1, Ordering::Relaxed);
    ///     }
    /// }
    /// const PARROT: Kind = Kind::new("parrot", "says it again", |_| Ok(Arc::new(Fake::says(""))));
    ///
    /// let (config, count) = (Config::from_toml("[models.polly]\nprovider = 'parrot'")?, Arc::<Count>::default());
    /// let llm = Llm::over(Gateway::with(&config, &[PARROT], count.clone())?);
    /// assert_eq!(llm.chat("hello").await?.text, "hello");
    /// assert_eq!(count.0.load(Ordering::Relaxed), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Gateway::new`].
    pub fn with(config: &Config, kinds: &[Kind], observer: Arc<dyn Observer>) -> Result<Gateway> {
        let kinds: Vec<Kind> = kinds.iter().chain(crate::provider::PROVIDERS).copied().collect();
        let mut keep = Keep::default();
        let router = build::router(config, &kinds, &observer, &mut keep)?;
        Ok(Gateway { router: ArcSwap::from_pointee(router), kept: Mutex::new(keep.next()), kinds, observer })
    }

    /// One provider that was built by hand, under every name, in the policies as they are by default.
    ///
    /// ```
    /// use llm_core::{Gateway, Operation, Provider, provider::fake::Fake};
    /// let gateway = Gateway::of(std::sync::Arc::new(Fake::says("hi")))?;
    /// assert!(gateway.serves().contains(Operation::Chat));
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Config`, if it can be asked nothing.
    pub fn of(provider: Arc<dyn Provider>) -> Result<Gateway> {
        let (observer, mut keep): (Arc<dyn Observer>, _) = (Arc::new(()), Keep::default());
        let router = ArcSwap::from_pointee(build::only(provider, &observer, &mut keep)?);
        let kinds = crate::provider::PROVIDERS.to_vec();
        Ok(Gateway { router, kept: Mutex::new(keep.next()), kinds, observer })
    }

    /// Builds anew and swaps. Parts whose text did not change go on as they are, their queue, health and weights with
    /// them; what went out of use ends with its last reply. A configuration that is wrong changes nothing.
    ///
    /// # Errors
    /// As [`Gateway::new`].
    pub fn reload(&self, config: &Config) -> Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keep = std::mem::take(&mut *kept);
        match build::router(config, &self.kinds, &self.observer, &mut keep) {
            Ok(router) => {
                *kept = keep.next();
                self.router.store(Arc::new(router));
                Ok(())
            }
            Err(error) => {
                *kept = keep.undo();
                Err(error)
            }
        }
    }

    /// The models as they are routed to now.
    pub fn router(&self) -> Arc<Router> {
        self.router.load_full()
    }

    /// Every model with its status, for lists and health checks; asks nobody. The default one stands first, as clients
    /// that must name one take the first.
    pub fn models(&self) -> Vec<ModelStatus> {
        let router = self.router();
        let mut models: Vec<_> = router.models.iter().collect();
        models.sort_by_key(|model| !router.is_default(&model.name));
        // A host of any name may list what has its own section, and two hosts the same.
        let names = |model: &'_ Arc<Model>| [vec![model.name.to_string()], model.aliases.clone()].concat();
        let is_any = |model: &Arc<Model>| *model.name == *crate::route::router::ANY;
        let mut known: HashSet<String> =
            models.iter().filter(|model| !is_any(model)).flat_map(|model| names(model)).collect();
        let is_new = |model: &Arc<Model>, known: &mut HashSet<String>, id: &str| {
            !is_any(model) || id == &*model.name || known.insert(id.to_owned())
        };
        let mut all = Vec::new();
        for model in models {
            all.extend(ModelStatus::of(model).into_iter().filter(|shown| is_new(model, &mut known, &shown.id)));
        }
        all
    }

    /// Every model of the configuration, once: the one of any name is itself, and not what its host lists. For counts.
    ///
    /// ```
    /// let config = llm_core::Config::from_toml("[models.'*']\nprovider = 'fake'")?;
    /// assert_eq!(llm_core::Gateway::new(&config)?.configured()[0].id, "*");
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    pub fn configured(&self) -> Vec<ModelStatus> {
        self.router().models.iter().map(ModelStatus::itself).collect()
    }
}

impl Provider for Gateway {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        // The call holds its router, so that a reload takes nothing away from under it.
        let router = self.router.load_full();
        Box::pin(async move { router.call(call).await })
    }

    fn serves(&self) -> Operations {
        self.router().serves()
    }
}

/// A model as a list shows it.
///
/// ```
/// use llm_core::{Config, Gateway, ModelStatus};
/// let gateway = Gateway::new(&Config::from_toml("[models.a]\nprovider = 'fake'\naliases = ['b']")?)?;
/// let ModelStatus { id, aliases, status, waiting, .. } = gateway.models().remove(0);
/// assert_eq!((id.as_str(), aliases, status, waiting), ("a", vec!["b".to_owned()], "unknown", 0));
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug, Clone, Serialize)]
pub struct ModelStatus {
    /// The name to ask for.
    pub id: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// What it is for, in one word, if the configuration says so.
    pub specialization: Option<String>,
    /// `ready`, `loading`, `draining`, `error` or, as long as nobody has asked it, `unknown`.
    pub status: &'static str,
    /// How far loading is, 0 to 1.
    pub progress: Option<f32>,
    /// Why it cannot answer.
    pub reason: Option<String>,
    /// The context window of one answer in tokens, as far as known.
    pub max_model_len: Option<u32>,
    /// What it can be asked.
    pub operations: Vec<&'static str>,
    /// How many of its replies are running.
    pub running: usize,
    /// How many calls stand in its line.
    pub waiting: usize,
    /// Each place where it runs.
    pub deployments: Vec<DeploymentStatus>,
}

/// One of a model's deployments as a list shows it; where it is is nobody's business but the operator's.
///
/// ```
/// use llm_core::{Config, Gateway, gateway::DeploymentStatus};
/// let gateway = Gateway::new(&Config::from_toml("[models.a]\nprovider = 'fake'")?)?;
/// let DeploymentStatus { name, status, running, .. } = gateway.models()[0].deployments[0].clone();
/// assert_eq!((name.as_str(), status, running), ("a", "unknown", 0)); // `a/0`, `a/1`, .. where there are several
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug, Clone, Serialize)]
pub struct DeploymentStatus {
    /// Its name: `coder/0`; it keeps it over reloads, wherever it stands in the list.
    pub name: String,
    /// As for models.
    pub status: &'static str,
    /// How far loading is, 0 to 1.
    pub progress: Option<f32>,
    /// Why it cannot answer.
    pub reason: Option<String>,
    /// How many of its replies are running.
    pub running: usize,
    /// Nothing is sent there for so many seconds: it said so, or it rests since it failed.
    pub retry_after_s: Option<u64>,
}

impl DeploymentStatus {
    fn of(deployment: &Deployment) -> DeploymentStatus {
        let status = deployment.status();
        DeploymentStatus {
            name: deployment.name.clone(),
            status: status.name(),
            progress: if let Status::Loading(progress) = status { progress } else { None },
            reason: reason(deployment, &status),
            running: deployment.outstanding(),
            retry_after_s: deployment.health.shut_for().map(|left| left.as_secs_f64().ceil() as u64),
        }
    }
}

/// Why it cannot answer, or not yet: what is loading may be failing to be reached.
fn reason(deployment: &Deployment, status: &Status) -> Option<String> {
    match status {
        Status::Failing(why) => Some(why.clone()),
        Status::Loading(None) | Status::Draining => deployment.health.reason(),
        _ => None,
    }
}

impl ModelStatus {
    /// The best of its deployments speaks for a model. The model of any name is shown as what its host lists.
    fn of(model: &Arc<Model>) -> Vec<ModelStatus> {
        let shown = ModelStatus::itself(model);
        if *model.name != *crate::route::router::ANY {
            return vec![shown];
        }
        let listed = model.deployments.iter().flat_map(|d| d.health.models());
        let operations = |info: &ModelInfo| {
            let able = model.operations.iter().filter(|o| o.takes_turn() && info.may(*o));
            able.map(Operation::name).collect()
        };
        let named = |info: ModelInfo| ModelStatus {
            operations: operations(&info),
            max_model_len: info.max_model_len,
            id: info.id,
            ..shown.clone()
        };
        let named: Vec<_> = listed.map(named).collect();
        if named.is_empty() { vec![shown] } else { named }
    }

    fn itself(model: &Arc<Model>) -> ModelStatus {
        let statuses: Vec<Status> = model.deployments.iter().map(|d| d.status()).collect();
        let rank = |s: &&Status| match s {
            Status::Ready => 0,
            Status::Loading(_) => 1,
            Status::Unknown => 2,
            Status::Draining => 3,
            Status::Failing(_) => 4,
        };
        let best_at = (0..statuses.len()).min_by_key(|&at| rank(&&statuses[at]));
        let best = best_at.map_or(Status::Unknown, |at| statuses[at].clone());
        ModelStatus {
            id: model.name.to_string(),
            aliases: model.aliases.clone(),
            status: best.name(),
            progress: if let Status::Loading(progress) = best { progress } else { None },
            reason: best_at.and_then(|at| reason(&model.deployments[at], &statuses[at])),
            specialization: model.specialization.clone(),
            max_model_len: model.deployments.iter().filter_map(|d| d.max_model_len()).min().or(model.context_window),
            operations: model.operations.iter().filter(|o| o.takes_turn()).map(Operation::name).collect(),
            running: model.deployments.iter().map(|d| d.outstanding()).sum(),
            waiting: model.stack.waiting(),
            deployments: model.deployments.iter().map(|d| DeploymentStatus::of(d)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind as ErrorKind;

    const TWO: &str = "[models.a]\nprovider = 'fake'\nsays = 'one'\neach_ms = 20\nqueue = { limit = 1 }\n[models.b]\nprovider = 'fake'\naliases = ['c']\n";

    fn gateway(text: &str) -> Result<Gateway> {
        Gateway::new(&Config::from_toml(text)?)
    }

    async fn says(gateway: &Gateway, model: &str) -> Result<String> {
        let call = Call::new(ChatRequest::new("echo").model(model), Delivery::Whole);
        Ok(gateway.call(&call).await?.chat().await?.text)
    }

    #[tokio::test]
    async fn a_call_goes_to_the_model_that_it_names() {
        let gateway = gateway(TWO).unwrap();
        assert_eq!(says(&gateway, "a").await.unwrap(), "one");
        assert_eq!(says(&gateway, "c").await.unwrap(), "echo");
        let error = says(&gateway, "gpt-9").await.unwrap_err();
        assert_eq!((error.kind(), error.get_code()), (ErrorKind::NotFound, Some("model_not_found")));
        assert!(error.message().ends_with("a, b"), "{error}");
    }

    #[test]
    fn the_default_model_stands_first_in_the_list() {
        let first = |text: &str| gateway(text).unwrap().models()[0].id.clone();
        assert_eq!((first(TWO), first(&format!("default_model = 'b'\n{TWO}"))), ("a".into(), "b".into()));
    }

    #[tokio::test]
    async fn a_reload_keeps_what_did_not_change_and_drops_no_call() {
        let gateway = gateway(TWO).unwrap();
        let running = gateway.call(&Call::new(ChatRequest::new("?").model("a"), Delivery::Stream)).await.unwrap();
        let before = gateway.router();
        gateway.reload(&Config::from_toml(&TWO.replace("'c'", "'d'")).unwrap()).unwrap();
        let after = gateway.router();
        let same = |i: usize| Arc::ptr_eq(&before.models[i].deployments[0], &after.models[i].deployments[0]);
        assert!(same(0) && same(1), "an alias is no reason to lose a deployment");
        assert!(says(&gateway, "c").await.is_err() && says(&gateway, "d").await.is_ok());
        // The queue is the same one too: the reply that began before the reload still holds its only turn.
        let second_call = Call::new(ChatRequest::new("?").model("a"), Delivery::Whole);
        let mut second = gateway.call(&second_call);
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(running.chat().await.unwrap().text, "one");
        second.await.unwrap();
        gateway.reload(&Config::from_toml(&TWO.replace("'one'", "'two'")).unwrap()).unwrap();
        assert!(!Arc::ptr_eq(&after.models[0].deployments[0], &gateway.router().models[0].deployments[0]));
        assert_eq!(says(&gateway, "a").await.unwrap(), "two");
    }

    #[tokio::test]
    async fn what_a_host_of_any_name_lists_is_shown_once_and_what_has_its_own_section_is_that() {
        let text = "default_model = '*'\n[[models.'*'.deployments]]\nprovider = 'fake'\n[[models.'*'.deployments]]\n\
                    provider = 'fake'\nsays = 'b'\n[models.coder]\nprovider = 'fake'\naliases = ['gpt-4o']";
        let gateway = gateway(text).unwrap();
        let listed =
            |ids: &[&str]| ids.iter().map(|id| ModelInfo { id: (*id).into(), ..ModelInfo::default() }).collect();
        let router = gateway.router();
        let any = router.models.iter().find(|model| &*model.name == "*").unwrap();
        any.deployments[0].health.learned(listed(&["llama3", "coder", "gpt-4o"]));
        any.deployments[1].health.learned(listed(&["llama3", "qwen"]));
        let ids = |all: Vec<ModelStatus>| all.into_iter().map(|model| model.id).collect::<Vec<_>>();
        assert_eq!(ids(gateway.models()), ["llama3", "qwen", "coder"]);
        assert_eq!(ids(gateway.configured()), ["*", "coder"]);
    }

    #[tokio::test]
    async fn a_deployment_is_itself_wherever_it_stands_in_the_list() {
        let text = |all: &[&str]| {
            let part = |says: &&str| format!("[[models.m.deployments]]\nprovider = 'fake'\nsays = '{says}'\n");
            all.iter().map(part).collect::<String>()
        };
        let gateway = gateway(&text(&["a", "b"])).unwrap();
        let now = |all: &[&str]| {
            gateway.reload(&Config::from_toml(&text(all)).unwrap()).unwrap();
            gateway.router().models[0].deployments.clone()
        };
        let names = |all: &[Arc<Deployment>]| all.iter().map(|d| d.name.clone()).collect::<Vec<_>>();
        let both = now(&["a", "b"]);
        assert_eq!(names(&both), ["m/0", "m/1"]);
        let second = now(&["b"]);
        assert!(Arc::ptr_eq(&both[1], &second[0]) && second[0].name == "m/1");
        let more = now(&["b", "c", "c"]);
        assert!(Arc::ptr_eq(&second[0], &more[0]) && !Arc::ptr_eq(&more[1], &more[2]));
        assert_eq!(names(&more), ["m/1", "m/0", "m/2"]);
        let turned = now(&["c", "b"]);
        assert!(Arc::ptr_eq(&turned[0], &more[1]) && Arc::ptr_eq(&turned[1], &second[0]));
    }

    #[tokio::test]
    async fn a_wrong_configuration_changes_nothing_and_says_where() {
        let gateway = gateway(TWO).unwrap();
        let before = gateway.router();
        for (text, place) in [
            ("[models.a]\nprovider = 'nope'", "models.a.provider: no such provider: nope"),
            ("[models.a]\nprovider = 'engine'", "models.a.provider: this program is built without the engine"),
            ("[models.a]\nprovider = 'fake'\ndimensions = 0", "models.a.dimensions: vectors have at least 1"),
            (
                "[models.a]\nprovider = 'fake'\noperations = ['chat']\ndimensions = 8",
                "models.a.dimensions: this model makes no vectors",
            ),
            (
                "[models.a]\nprovider = 'fake'\noperations = ['embed']\nvision = true",
                "models.a.vision: a model that sees is asked in conversations",
            ),
            (
                "[models.a]\nprovider = 'fake'\noperations = ['embed']\nfallback = ['b']\n[models.b]\nprovider = 'fake'\noperations = ['chat']",
                "models.a.fallback: b can do nothing of what a is asked",
            ),
            ("[models.a]\nprovider = 'fake'\nsayz = 'x'", "models.a.sayz: unknown field `sayz`"),
            ("[models.a]\nprovider = 'fake'\nqueue = { limit = 0 }", "models.a.queue.limit: must be at least 1"),
            ("[models.a]\nprovider = 'fake'\nfallback = ['b']", "models.a.fallback: no such model: b"),
            ("default_model = 'x'\n[models.a]\nprovider = 'fake'", "default_model: no such model: x"),
            (
                "[models.a]\nprovider = 'fake'\nspecialization = 'a'",
                "models.a.specialization: a is the name of a model",
            ),
            (
                "[models.a]\nprovider = 'fake'\nspecialization = 'A b'",
                "models.a.specialization: \"A b\" must be one word",
            ),
            (
                "[models.a]\nprovider = 'fake'\nhealth = { canari = true }",
                "models.a.health.canari: unknown field `canari`",
            ),
            (
                "[health]\nstart_timeout_s = 0\n[models.a]\nprovider = 'fake'",
                "models.a.health.start_timeout_s: must be a number",
            ),
        ] {
            let error = Config::from_toml(text).and_then(|config| gateway.reload(&config)).unwrap_err();
            assert!(error.to_string().starts_with(place), "{error}");
        }
        assert!(Arc::ptr_eq(&before, &gateway.router()));
        gateway.reload(&Config::from_toml(TWO).unwrap()).unwrap();
        assert!(Arc::ptr_eq(&before.models[0].deployments[0], &gateway.router().models[0].deployments[0]));
    }

    #[tokio::test]
    async fn a_purpose_is_asked_for_like_a_name_and_a_deployment_that_is_drained_is_asked_nothing() {
        let text = "[models.a]\nprovider = 'fake'\nsays = 'a'\nspecialization = 'general'\ncontext_window = 4096\n\
                    [models.b]\nspecialization = 'python-coding'\n[[models.b.deployments]]\nprovider = 'fake'\nsays = 'old'\n\
                    [[models.b.deployments]]\nprovider = 'fake'\nsays = 'new'\n";
        let gateway = gateway(text).unwrap();
        assert_eq!(says(&gateway, "general").await.unwrap(), "a");
        assert_eq!(says(&gateway, "python-coding").await.unwrap(), "old");
        assert!(says(&gateway, "poetry").await.is_err());
        let drained = text.replace("says = 'old'", "says = 'old'\ndrain = true");
        gateway.reload(&Config::from_toml(&drained).unwrap()).unwrap();
        assert_eq!(says(&gateway, "b").await.unwrap(), "new");
        let shown = &gateway.models()[1];
        assert_eq!((shown.deployments[0].status, shown.specialization.as_deref()), ("draining", Some("python-coding")));
        gateway.reload(&Config::from_toml(text).unwrap()).unwrap();
        assert_eq!(gateway.models()[1].deployments[0].status, "ready", "its health outlived the drain");
    }

    #[tokio::test]
    async fn fallback_works_across_models() {
        let text = "[models.a]\nprovider = 'fake'\nfailures = 99\nretry = { max_retries = 0 }\nfallback = ['b']\n[models.b]\nprovider = 'fake'\nsays = 'b'";
        assert_eq!(says(&gateway(text).unwrap(), "a").await.unwrap(), "b");
    }
}
