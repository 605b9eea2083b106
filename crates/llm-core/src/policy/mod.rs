//! Policies: everything that decides, each a provider around a provider. A new one is a file and its line in [`POLICIES`].
pub mod cache;
pub mod keep;
pub mod observe;
pub mod queue;
pub mod quota;
pub mod retry;
pub mod timeout;

use std::sync::Arc;

use toml::Table;

use crate::call::Provider;
use crate::error::Result;
pub use keep::Keep;
pub use observe::{Observer, Outcome};

/// The policies, outermost first, each with the reason for its place.
pub const POLICIES: &[Policy] = &[
    observe::OBSERVE, // sees everything, the wait in the queue too
    cache::CACHE,     // before quotas and the line: what is known costs nobody anything
    quota::QUOTA,     // before the line: whoever has had enough need not wait to be told
    queue::QUEUE,     // a call keeps its turn while it backs off
    retry::RETRY,     // outside the selection, so that the next attempt goes elsewhere
    timeout::TIMEOUT, // of one attempt at one deployment, not counting the wait
];

/// Where in the stack a policy stands, and how often there is one.
///
/// ```
/// use llm_core::policy::{Level, POLICIES};
/// let around_a_model = POLICIES.iter().filter(|policy| policy.level == Level::Model);
/// assert!(around_a_model.map(|policy| policy.name).any(|name| name == "queue"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Around all deployments of a model.
    Model,
    /// Around one deployment.
    Deployment,
}

/// A policy: its section in the configuration, and how it is put around a provider. A section may stand in the
/// configuration of a deployment, of a model, or of the house, and the nearest one counts.
///
/// ```
/// use std::sync::Arc;
/// use llm_core::policy::{Build, Level, Policy, Keep, Observer};
/// use llm_core::{Provider, provider::fake::Fake};
/// // One that changes nothing; `POLICIES` has those that do.
/// const NOTHING: Policy = Policy {
///     name: "nothing",
///     about: "does nothing",
///     level: Level::Model,
///     defaults: || serde_json::Value::Null, // it has no settings
///     wrap: |build| Ok(build.inner),
/// };
/// let (inner, observer): (Arc<dyn Provider>, Arc<dyn Observer>) = (Arc::new(Fake::says("hi")), Arc::new(()));
/// let (settings, keep) = (&toml::Table::new(), &mut Keep::default());
/// let wrapped = (NOTHING.wrap)(Build { inner: inner.clone(), settings, of: "a", keep, observer: &observer })?;
/// assert!(Arc::ptr_eq(&wrapped, &inner));
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Policy {
    /// The name of its section.
    pub name: &'static str,
    /// One line for help and documents.
    pub about: &'static str,
    /// Where it stands.
    pub level: Level,
    /// Its settings as they are where nobody says anything, for `llm config`.
    pub defaults: fn() -> serde_json::Value,
    /// Puts it around a provider.
    pub wrap: fn(Build<'_>) -> Result<Arc<dyn Provider>>,
}

/// What a policy is built from.
///
/// ```
/// use llm_core::policy::{Build, Level, Policy, timeout::Config};
/// use llm_core::provider::defaults;
/// const TIMES: Policy =
///     Policy { name: "times", about: "an example", level: Level::Deployment, defaults: defaults::<Config>, wrap };
/// fn wrap(build: Build<'_>) -> llm_core::Result<std::sync::Arc<dyn llm_core::Provider>> {
///     let config: Config = llm_core::provider::settings(build.settings)?;
///     println!("{} may take {} s", build.of, config.first_s);
///     Ok(build.inner)
/// }
/// # Ok::<(), llm_core::Error>(())
/// ```
pub struct Build<'a> {
    /// What it stands around.
    pub inner: Arc<dyn Provider>,
    /// Its section; empty if there is none.
    pub settings: &'a Table,
    /// The name of the model, or of the model and deployment.
    pub of: &'a str,
    /// Parts of the configuration before, for what must survive a reload.
    pub keep: &'a mut Keep,
    /// Told of every end.
    pub observer: &'a Arc<dyn Observer>,
}

/// All policies of a level around a provider.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use std::sync::Arc;
/// use llm_core::policy::{Keep, Level, Observer, wrap_all};
/// use llm_core::{Call, ChatRequest, Delivery, Provider, provider::fake::Fake};
/// let inner: Arc<dyn Provider> = Arc::new(Fake::says("hi").after_failures(1));
/// let observer: Arc<dyn Observer> = Arc::new(());
/// let sections = |name: &str| if name == "retry" { "wait_ms = 1".parse().unwrap() } else { toml::Table::new() };
/// let stack = wrap_all(Level::Model, inner, "a", sections, &mut Keep::default(), &observer)?;
/// let call = Call::new(ChatRequest::new("?"), Delivery::Whole);
/// assert_eq!(stack.call(&call).await?.chat().await?.text, "hi"); // the second time
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `Config`, with the section that is wrong.
pub fn wrap_all(
    level: Level,
    mut inner: Arc<dyn Provider>,
    of: &str,
    section: impl Fn(&str) -> Table,
    keep: &mut Keep,
    observer: &Arc<dyn Observer>,
) -> Result<Arc<dyn Provider>> {
    for policy in POLICIES.iter().rev().filter(|p| p.level == level) {
        let settings = &section(policy.name);
        inner = (policy.wrap)(Build { inner, settings, of, keep, observer }).map_err(|e| e.at(policy.name))?;
    }
    Ok(inner)
}
