//! Gives an answer again to who asks the same, where the answer cannot be another: vectors, ranks and scores, and what is
//! written at temperature 0 or from a seed. Off unless it is given room.
//!
//! Whoever asks what another is being answered just now waits for that answer. moka's own `get_with` would do that too, but makes
//! the first one wait for the whole answer as well; here a stream goes on its way while it is kept.
#[cfg(feature = "cache")]
mod answer;
#[cfg(feature = "cache")]
mod store;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Build, Level, Policy};
use crate::call::*;
use crate::error::{Error, Result};
use crate::provider::{defaults, settings};

/// The registration.
pub const CACHE: Policy = Policy {
    name: "cache",
    about: "answers that cannot be others are given again",
    level: Level::Model,
    defaults: defaults::<Config>,
    wrap,
};

/// How much is kept, how long, and for whom.
///
/// ```
/// use llm_core::policy::cache::Config;
/// let config: Config = llm_core::provider::settings(&"size_mb = 64".parse().unwrap())?;
/// assert_eq!((config.size_mb, config.ttl_s, config.per_caller), (Some(64), 3600.0, false));
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Megabytes of answers that are kept of each model; by default none. No single answer takes more than an eighth of it.
    pub size_mb: Option<u64>,
    /// An answer is given again for so long, in seconds.
    pub ttl_s: f64,
    /// Nobody is given what another caller was answered. A caller is the name of a key.
    pub per_caller: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { size_mb: None, ttl_s: 3600.0, per_caller: false }
    }
}

fn wrap(build: Build<'_>) -> Result<Arc<dyn Provider>> {
    let config: Config = settings(build.settings)?;
    let ttl = super::timeout::seconds("ttl_s", config.ttl_s)?;
    match config.size_mb {
        None => Ok(build.inner),
        Some(0) => Err(Error::config("must be at least 1; without it nothing is kept").at("size_mb")),
        Some(size) => around(build.inner, size.saturating_mul(1 << 20), ttl, config.per_caller),
    }
}

// Nothing of it outlives a reload: another model may stand behind the name.
#[cfg(feature = "cache")]
fn around(
    inner: Arc<dyn Provider>,
    size: u64,
    ttl: std::time::Duration,
    per_caller: bool,
) -> Result<Arc<dyn Provider>> {
    Ok(Arc::new(answer::Cache { inner, store: store::Store::new(size, ttl), per_caller }))
}

#[cfg(not(feature = "cache"))]
fn around(_: Arc<dyn Provider>, _: u64, _: std::time::Duration, _: bool) -> Result<Arc<dyn Provider>> {
    Err(Error::config("this build cannot keep answers: build it with the feature `cache`, or leave it out")
        .at("size_mb"))
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "cache")]
    mod kept;

    #[cfg(not(feature = "cache"))]
    #[test]
    fn a_build_that_cannot_keep_answers_says_so() {
        use super::*;
        let (settings, keep) = (&"size_mb = 1".parse().unwrap(), &mut crate::policy::Keep::default());
        let inner: Arc<dyn Provider> = Arc::new(crate::provider::fake::Fake::says(""));
        let observer: Arc<dyn crate::policy::Observer> = Arc::new(());
        let error = wrap(Build { inner, settings, of: "m", keep, observer: &observer }).err().unwrap().to_string();
        assert!(error.starts_with("size_mb: ") && error.contains("the feature `cache`"), "{error}");
    }
}
