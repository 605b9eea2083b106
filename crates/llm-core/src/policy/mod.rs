//! Policies: everything that decides, each a provider around a provider. A new one is a file and its line in [`POLICIES`].
pub mod keep;
pub mod observe;
pub mod queue;
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
    queue::QUEUE,     // a call keeps its turn while it backs off
    retry::RETRY,     // outside the selection, so that the next attempt goes elsewhere
    timeout::TIMEOUT, // of one attempt at one deployment, not counting the wait
];

/// Where in the stack a policy stands, and how often there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Around all deployments of a model.
    Model,
    /// Around one deployment.
    Deployment,
}

/// A policy: its section in the configuration, and how it is put around a provider. A section may stand in the
/// configuration of a deployment, of a model, or of the house, and the nearest one counts.
#[derive(Clone, Copy)]
pub struct Policy {
    /// The name of its section.
    pub name: &'static str,
    /// One line for help and documents.
    pub about: &'static str,
    /// Where it stands.
    pub level: Level,
    /// Puts it around a provider.
    pub wrap: fn(Build<'_>) -> Result<Arc<dyn Provider>>,
}

/// What a policy is built from.
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
