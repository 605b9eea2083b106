//! The configuration: one shape for TOML, environment and code.
use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::origins::Origins;
use super::shown::harmless;
use crate::error::{Error, Result};
use crate::policy::POLICIES;
use crate::route::health;

/// Models, and the policies that hold for all of them.
///
/// ```toml
/// default_model = "coder"
///
/// [queue]                      # for every model that says nothing else
/// waiting = 50
///
/// [models.coder]               # one deployment: its provider beside the model's own settings
/// provider = "vllm"
/// base_url = "http://10.0.0.1:8000"
/// model = "Qwen/Qwen3-Coder"   # what the host calls it
/// aliases = ["gpt-4o"]
/// fallback = ["general"]
///
/// [[models.general.deployments]]
/// provider = "vllm"
/// base_url = "http://10.0.0.2:8000"
/// ```
///
/// ```
/// use llm_core::{Config, Llm};
/// let config = Config::from_toml("[models.hello]\nprovider = 'fake'\nsays = 'hi'")?;
/// assert_eq!(config.models["hello"].deployments[0].provider, "fake");
/// // The same without a file.
/// let settings = toml::Table::from_iter([("says".to_owned(), "hi".into())]);
/// assert_eq!(Config::of("hello", "fake", settings), config);
/// let llm = Llm::new(&config)?;
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// Who answers calls that name no model; by default the first that can.
    pub default_model: Option<String>,
    /// Who looks at images for callers that name no model: `Llm::caption` and `Llm::ocr`.
    pub vision_model: Option<String>,
    /// The models by name; `*` takes every name that is no model's.
    pub models: BTreeMap<String, ModelConfig>,
    /// Policies' sections for the whole house.
    pub policies: Table,
    /// Where each setting came from, as far as known: for errors and for `llm config`.
    pub origins: Origins,
}

/// One model.
///
/// ```
/// use llm_core::gateway::{DeploymentConfig, ModelConfig};
/// let deployment = DeploymentConfig { provider: "fake".into(), ..DeploymentConfig::default() };
/// let model = ModelConfig { aliases: vec!["gpt-4o".into()], deployments: vec![deployment], ..ModelConfig::default() };
/// let mut config = llm_core::Config::default();
/// config.models.insert("coder".into(), model);
/// assert!(llm_core::Gateway::new(&config).is_ok());
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelConfig {
    /// Its other names.
    pub aliases: Vec<String>,
    /// Who steps in for it, best first.
    pub fallback: Vec<String>,
    /// What it is for, in one word that clients may ask for as if it were a name: `python-coding`, `general`,
    /// `embedding`, `vision`, `rerank`.
    pub specialization: Option<String>,
    /// Its context window in tokens, where its deployments do not tell.
    pub context_window: Option<u32>,
    /// What it may be asked, if not all that its deployments can.
    pub operations: Option<Vec<String>>,
    /// It sees the images of a conversation.
    pub vision: bool,
    /// How many numbers its vectors have; others are an error, as vectors of two models must never be mixed.
    pub dimensions: Option<u32>,
    /// Where it runs.
    pub deployments: Vec<DeploymentConfig>,
    /// Policies' sections for this model.
    pub policies: Table,
}

/// One place where a model runs.
///
/// ```
/// let config = llm_core::Config::from_toml("[models.a]\nprovider = 'fake'\nmodel = 'm'\nsays = 'hi'")?;
/// let deployment: &llm_core::DeploymentConfig = &config.models["a"].deployments[0];
/// assert_eq!((deployment.model.as_deref(), deployment.settings["says"].as_str()), (Some("m"), Some("hi")));
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct DeploymentConfig {
    /// The kind of provider.
    pub provider: String,
    /// What the host calls the model; by default the model's name here, and `""` is the first that the host lists.
    pub model: Option<String>,
    /// It ends what it has begun and is asked nothing new.
    pub drain: bool,
    /// Policies' sections for this deployment.
    pub policies: Table,
    /// The provider's own settings.
    pub settings: Table,
}

impl Config {
    /// Reads TOML.
    ///
    /// # Errors
    /// `Config`, with the line for what is no TOML, and with the place for what is no setting.
    pub fn from_toml(text: &str) -> Result<Config> {
        Config::from_table(read_toml(text)?)
    }

    /// Reads a TOML table; the doors have taken their own sections out of it.
    ///
    /// ```
    /// let mut table: toml::Table = "server = { port = 1 }\nmodels.a.provider = 'fake'".parse().unwrap();
    /// table.remove("server"); // the door's own
    /// assert!(llm_core::Config::from_table(table)?.models.contains_key("a"));
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Config`, with the place.
    pub fn from_table(mut table: Table) -> Result<Config> {
        let policies = policies(&mut table)?;
        let default_model = take(&mut table, "default_model")?;
        let vision_model = take(&mut table, "vision_model")?;
        let models: BTreeMap<String, Table> = take(&mut table, "models")?.unwrap_or_default();
        nothing_left(&table, &["default_model", "vision_model", "models"])?;
        let model = |(name, table)| match ModelConfig::from_table(table) {
            Ok(model) => Ok((name, model)),
            Err(error) => Err(error.at(format!("models.{name}"))),
        };
        let models = models.into_iter().map(model).collect::<Result<_>>()?;
        Ok(Config { default_model, vision_model, models, policies, origins: Origins::default() })
    }

    /// Takes over the models of another, and who is asked first unless that is said here.
    ///
    /// ```
    /// use llm_core::Config;
    /// let mut config = Config::from_toml("[queue]\nwaiting = 5")?; // a file without models
    /// config.take_models(Config::from_env(&|name| (name == "AI_PROVIDER").then(|| "fake".into()))?);
    /// assert_eq!((config.models.len(), config.policies.len()), (1, 1));
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    pub fn take_models(&mut self, other: Config) {
        self.models = other.models;
        self.default_model = self.default_model.take().or(other.default_model);
        self.vision_model = self.vision_model.take().or(other.vision_model);
        self.origins.extend(other.origins);
    }

    /// A configuration of one model on one deployment.
    pub fn of(name: &str, provider: &str, settings: Table) -> Config {
        let deployment = DeploymentConfig { provider: provider.into(), settings, ..DeploymentConfig::default() };
        let model = ModelConfig { deployments: vec![deployment], ..ModelConfig::default() };
        Config { models: BTreeMap::from([(name.to_owned(), model)]), ..Config::default() }
    }
}

/// A TOML document. What is none is told by its line, and not by its words: a secret may stand in them.
///
/// ```
/// let error = llm_core::gateway::config::read_toml("[server]\napi_key = \"sk-live").unwrap_err();
/// assert!(error.to_string().starts_with("TOML parse error at line 2: ") && !error.to_string().contains("sk-live"));
/// ```
///
/// # Errors
/// `Config`, with the line.
pub fn read_toml(text: &str) -> Result<Table> {
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        Error::config(format!("TOML parse error at line {line}: {}", error.message().trim()))
    })
}

const MODEL_SETTINGS: &[&str] =
    &["aliases", "fallback", "specialization", "context_window", "operations", "vision", "dimensions", "deployments"];

impl ModelConfig {
    fn from_table(mut table: Table) -> Result<ModelConfig> {
        let aliases = take(&mut table, "aliases")?.unwrap_or_default();
        let fallback = take(&mut table, "fallback")?.unwrap_or_default();
        let specialization = take(&mut table, "specialization")?;
        let context_window = take(&mut table, "context_window")?;
        let operations = take(&mut table, "operations")?;
        let vision = take(&mut table, "vision")?.unwrap_or_default();
        let dimensions = take(&mut table, "dimensions")?;
        let listed: Option<Vec<Table>> = take(&mut table, "deployments")?;
        let policies = policies(&mut table)?;
        let tables = match listed {
            None => vec![table],
            Some(tables) => {
                nothing_left(&table, MODEL_SETTINGS)?;
                tables
            }
        };
        let several = tables.len() > 1;
        let deployments = tables.into_iter().enumerate().map(|(i, table)| {
            DeploymentConfig::from_table(table).map_err(|e| if several { e.at(format!("deployments.{i}")) } else { e })
        });
        let deployments = deployments.collect::<Result<_>>()?;
        Ok(ModelConfig {
            aliases,
            fallback,
            specialization,
            context_window,
            operations,
            vision,
            dimensions,
            deployments,
            policies,
        })
    }
}

/// Without its secrets.
impl fmt::Debug for DeploymentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = serde_json::to_value(&self.settings).map(|settings| hidden("", settings));
        f.debug_struct("DeploymentConfig")
            .field("provider", &self.provider)
            .field("model", &self.model)
            .field("drain", &self.drain)
            .field("policies", &self.policies)
            .field("settings", &settings.unwrap_or_default())
            .finish()
    }
}

/// A setting and those inside it, without their secrets.
fn hidden(path: &str, value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => {
            let hide = |(name, value)| (format!("{path}.{name}"), name, value);
            fields.into_iter().map(hide).map(|(inside, name, value)| (name, hidden(&inside, value))).collect()
        }
        value => harmless(path, value),
    }
}

impl DeploymentConfig {
    fn from_table(mut table: Table) -> Result<DeploymentConfig> {
        let missing = || Error::config("`provider` is missing: which kind of host runs the model?").at("provider");
        let provider = take(&mut table, "provider")?.ok_or_else(missing)?;
        let model = take(&mut table, "model")?;
        let drain = take(&mut table, "drain")?.unwrap_or_default();
        Ok(DeploymentConfig { provider, model, drain, policies: policies(&mut table)?, settings: table })
    }
}

fn take<T: DeserializeOwned>(table: &mut Table, name: &str) -> Result<Option<T>> {
    let Some(value) = table.remove(name) else { return Ok(None) };
    T::deserialize(value).map(Some).map_err(|e| Error::config(e.message().trim().to_owned()).at(name))
}

/// The sections that belong to a floor below, in the house, a model or a deployment.
fn sections() -> impl Iterator<Item = &'static str> {
    POLICIES.iter().map(|policy| policy.name).chain([health::Config::SECTION])
}

/// The sections that belong to policies and to health, taken out of a table.
fn policies(table: &mut Table) -> Result<Table> {
    let mut found = Table::new();
    for name in sections() {
        match table.remove(name) {
            None => {}
            Some(section @ Value::Table(_)) => drop(found.insert(name.into(), section)),
            Some(_) => return Err(Error::config("must be a section").at(name)),
        }
    }
    Ok(found)
}

fn nothing_left(table: &Table, known: &[&'static str]) -> Result<()> {
    let Some(stray) = table.keys().next() else { return Ok(()) };
    let known: Vec<_> = known.iter().copied().chain(sections()).collect();
    Err(Error::config(format!("no such setting; there are {}", known.join(", "))).at(stray))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_may_name_its_provider_in_one_line_or_list_deployments() {
        let config = Config::from_toml(
            "default_model = 'a'\n[queue]\nwaiting = 5\n[models.a]\nprovider = 'vllm'\nbase_url = 'http://x'\nmodel = 'm'\nqueue = { limit = 2 }\n\
             [[models.b.deployments]]\nprovider = 'fake'\ntimeout = { idle_s = 3 }\n[[models.b.deployments]]\nprovider = 'fake'\n",
        )
        .unwrap();
        let a = &config.models["a"];
        assert_eq!(
            (a.deployments[0].model.as_deref(), a.policies.len(), a.deployments[0].settings.len()),
            (Some("m"), 1, 1)
        );
        assert_eq!(config.models["b"].deployments.len(), 2);
    }

    #[test]
    fn no_debug_print_shows_a_secret() {
        let text = "[models.a]\nprovider = 'vllm'\napi_key = 's3cret'\nproxy = 'http://me:s3cret@gate:3128'\n\
                    headers = { x-team = 's3cret' }\nbase_url = 'http://gpu'";
        let shown = format!("{:?}", Config::from_toml(text).unwrap());
        assert!(!shown.contains("s3cret") && shown.contains("http://gpu") && shown.contains("x-team"), "{shown}");
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_place() {
        for (text, place) in [
            ("[models.a]\nproviderr = 'x'", "models.a.provider: `provider` is missing"),
            ("modells = 1", "modells: no such setting"),
            ("[models.a]\nprovider = 'fake'\naliases = 'x'", "models.a.aliases: invalid type"),
            ("[models.a]\nprovider = 'fake'\nqueue = 3", "models.a.queue: must be a section"),
            ("[models.a", "TOML parse error at line 1"),
        ] {
            let error = Config::from_toml(text).unwrap_err().to_string();
            assert!(error.starts_with(place), "{error}");
        }
    }
}
