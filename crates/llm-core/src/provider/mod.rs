//! Providers: everything that answers. A new one is a file and its line in [`PROVIDERS`].
pub mod fake;
pub mod hosts;
pub mod http;
pub mod hybrid;
pub mod replay;

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

use crate::call::Provider;
use crate::error::{Error, Result};

/// The kinds of provider that are built in, in the order in which help lists them. Doors may pass further ones, such as
/// the engine's, when they build a configuration.
pub const PROVIDERS: &[Kind] = &[
    hosts::VLLM,         // what this project is made for
    hosts::OPENAI,       // the API itself
    hosts::OLLAMA,       // many laptops have it
    hosts::LLAMA_SERVER, // so do those who build llama.cpp themselves
    hosts::LM_STUDIO,    // and those who do not
    hosts::SGLANG,       // what else serves GPUs
    hosts::TGI,
    hosts::TEI,
    hosts::OPENROUTER, // services, for those who may send their words there
    hosts::GROQ,
    hosts::MISTRAL,
    hosts::DEEPSEEK,
    hosts::TOGETHER,
    hosts::COMPATIBLE, // everyone else
    fake::FAKE,        // for tests and demonstrations
    replay::REPLAY,    // what a real server once said, again
];

/// A kind of provider: its name in the configuration, and how one is built from the settings beside the name.
///
/// ```
/// use std::sync::Arc;
/// use llm_core::provider::{Kind, defaults, fake::{Config, Fake}, settings};
/// const PARROT: Kind = Kind {
///     name: "parrot",
///     about: "says it again",
///     build: |table| Ok(Arc::new(Fake::new(settings(table)?))),
///     defaults: defaults::<Config>,
/// };
/// assert!((PARROT.build)(&"first_ms = 10".parse().unwrap()).is_ok());
/// assert!((PARROT.build)(&"colour = 'green'".parse().unwrap()).is_err());
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Kind {
    /// What `provider = ".."` says.
    pub name: &'static str,
    /// One line for help and documents.
    pub about: &'static str,
    /// Builds one. Touches no network and loads no weights, so that building is checking.
    pub build: fn(&Table) -> Result<Arc<dyn Provider>>,
    /// Its settings as they are where nobody says anything, for `llm config`; those that are null have no default.
    pub defaults: fn() -> serde_json::Value,
}

impl Kind {
    /// A kind without settings that have defaults.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use llm_core::provider::{Kind, fake::Fake};
    /// const PARROT: Kind = Kind::new("parrot", "says it again", |_| Ok(Arc::new(Fake::says(""))));
    /// assert!((PARROT.defaults)().is_null());
    /// ```
    pub const fn new(name: &'static str, about: &'static str, build: fn(&Table) -> Result<Arc<dyn Provider>>) -> Kind {
        Kind { name, about, build, defaults: || serde_json::Value::Null }
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kind({})", self.name)
    }
}

/// Settings as a part's own `Config`; an error names the field.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Config {
///     colour: String,
/// }
/// let config: Config = llm_core::provider::settings(&"colour = 'green'".parse().unwrap())?;
/// assert_eq!(config.colour, "green");
/// let wrong = llm_core::provider::settings::<Config>(&"colour = 7".parse().unwrap());
/// assert!(wrong.err().unwrap().to_string().starts_with("colour: invalid type: integer `7`"));
/// # Ok::<(), llm_core::Error>(())
/// ```
///
/// # Errors
/// `Config`, with the place inside the settings.
pub fn settings<C: DeserializeOwned>(table: &Table) -> Result<C> {
    serde_path_to_error::deserialize(toml::Value::Table(table.clone())).map_err(|wrong| {
        let (path, error) = (wrong.path().to_string(), Error::config(wrong.inner().message().trim()));
        // Elements of lists are `cors.0` in a place.
        if path == "." { error } else { error.at(path.replace('[', ".").replace(']', "")) }
    })
}

/// The settings of a part's own `Config` as they are by default.
///
/// ```
/// let retry = llm_core::provider::defaults::<llm_core::policy::retry::Config>();
/// assert_eq!(retry["max_retries"], 2);
/// ```
pub fn defaults<C: Default + Serialize>() -> serde_json::Value {
    serde_json::to_value(C::default()).unwrap_or_default()
}

/// Finds a kind by its name.
///
/// ```
/// use llm_core::provider::{PROVIDERS, find};
/// assert_eq!(find("vllm", PROVIDERS.iter())?.about, "a vLLM server");
/// assert!(find("vlm", PROVIDERS.iter()).unwrap_err().message().starts_with("no such provider: vlm; there are vllm, "));
/// # Ok::<(), llm_core::Error>(())
/// ```
///
/// # Errors
/// `Config`, naming those there are.
pub fn find<'k>(name: &str, kinds: impl Iterator<Item = &'k Kind> + Clone) -> Result<&'k Kind> {
    kinds.clone().find(|kind| kind.name == name).ok_or_else(|| {
        let known: Vec<_> = kinds.map(|kind| kind.name).collect();
        Error::config(format!("no such provider: {name}; there are {}", known.join(", "))).at("provider")
    })
}
