//! A configuration as people look at it: every setting with its value and where it came from, and no secret.
use serde_json::Value;
use toml::Table;

use super::config::{Config, DeploymentConfig, ModelConfig};
use super::origins::Origin;
use crate::policy::POLICIES;
use crate::provider::{Kind, PROVIDERS, defaults, hosts};
use crate::route::health;

/// One setting.
///
/// ```
/// use llm_core::gateway::shown::Setting;
/// let config = llm_core::Config::from_toml("[models.a]\nprovider = 'fake'\nsays = 'hi'")?;
/// let says = config.shown(&[]).into_iter().find(|setting| setting.path == "models.a.says");
/// assert_eq!(says, Some(Setting { path: "models.a.says".into(), value: "hi".into(), origin: None }));
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its path: `models.coder.base_url`.
    pub path: String,
    /// Its value; of a secret only whether it is set.
    pub value: Value,
    /// Where it came from; `None` is the default.
    pub origin: Option<Origin>,
}

/// What stands for a secret.
pub const SET: &str = "(set)";
/// What stands for a secret that there is none of.
pub const NOT_SET: &str = "(not set)";

impl Config {
    /// Every setting that holds, defaults included. `kinds` are the providers that a door knows beside ours.
    ///
    /// ```
    /// use llm_core::Config;
    /// let config = Config::from_toml("[models.a]\nprovider = 'vllm'\napi_key = 's3cret'")?;
    /// let shown = config.shown(&[]);
    /// let value = |path: &str| &shown.iter().find(|setting| setting.path == path).unwrap().value;
    /// assert_eq!((value("models.a.api_key"), value("retry.max_retries")), (&"(set)".into(), &2.into()));
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    pub fn shown(&self, kinds: &[Kind]) -> Vec<Setting> {
        let mut list = List { config: self, kinds, settings: Vec::new() };
        list.put("default_model", self.default_model.clone());
        list.put("vision_model", self.vision_model.clone());
        for (name, model) in &self.models {
            list.model(&format!("models.{name}"), model);
        }
        list.table("", &self.policies);
        for (name, defaults) in sections() {
            list.defaults(name, defaults);
        }
        list.settings
    }
}

struct List<'c> {
    config: &'c Config,
    kinds: &'c [Kind],
    settings: Vec<Setting>,
}

impl List<'_> {
    /// A setting, if it is set.
    fn put(&mut self, path: &str, value: Option<impl Into<Value>>) {
        let Some(value) = value.map(Into::into) else { return };
        let origin = self.config.origins.get(path).cloned();
        self.settings.push(Setting { value: harmless(path, value), path: path.to_owned(), origin });
    }

    /// What holds where nothing is set.
    fn default(&mut self, path: &str, value: Value) {
        if !self.settings.iter().any(|setting| setting.path == path) {
            self.settings.push(Setting { path: path.to_owned(), value, origin: None });
        }
    }

    /// What a part says of itself; null is no default.
    fn defaults(&mut self, path: &str, values: Value) {
        for (name, value) in values.as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            match value {
                Value::Null => {}
                Value::Object(_) => self.defaults(&path, value.clone()),
                value => self.default(&path, whole(value)),
            }
        }
    }

    /// Sections of a model or a deployment. The nearest one counts as a whole: what it leaves out is the default, whatever
    /// the house says.
    fn sections(&mut self, path: &str, policies: &Table) {
        self.table(path, policies);
        for (name, defaults) in sections().filter(|(name, _)| policies.contains_key(*name)) {
            self.defaults(&format!("{path}.{name}"), defaults);
        }
    }

    fn model(&mut self, path: &str, model: &ModelConfig) {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        self.put(&format!("{path}.aliases"), some(&model.aliases));
        self.put(&format!("{path}.fallback"), some(&model.fallback));
        self.put(&format!("{path}.specialization"), model.specialization.clone());
        self.put(&format!("{path}.context_window"), model.context_window);
        self.put(&format!("{path}.operations"), model.operations.clone());
        self.put(&format!("{path}.vision"), model.vision.then_some(true));
        self.put(&format!("{path}.dimensions"), model.dimensions);
        self.sections(path, &model.policies);
        match &model.deployments[..] {
            [only] => self.deployment(path, only),
            several => {
                for (i, deployment) in several.iter().enumerate() {
                    self.deployment(&format!("{path}.deployments.{i}"), deployment);
                }
            }
        }
    }

    fn deployment(&mut self, path: &str, deployment: &DeploymentConfig) {
        self.put(&format!("{path}.provider"), Some(deployment.provider.clone()));
        self.put(&format!("{path}.model"), deployment.model.clone());
        self.put(&format!("{path}.drain"), deployment.drain.then_some(true));
        self.table(path, &deployment.settings);
        self.sections(path, &deployment.policies);
        if let Some(kind) = self.kinds.iter().chain(PROVIDERS).find(|kind| kind.name == deployment.provider) {
            self.defaults(path, (kind.defaults)());
        }
        if hosts::find(&deployment.provider).is_some() {
            self.default(&format!("{path}.base_url"), NOT_SET.into());
            self.default(&format!("{path}.api_key"), NOT_SET.into());
        }
    }

    fn table(&mut self, path: &str, table: &Table) {
        for (name, value) in table {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match value {
                toml::Value::Table(inner) => self.table(&path, inner),
                value => self.put(&path, serde_json::to_value(value).ok()),
            }
        }
    }
}

/// The sections that the house has, with their defaults.
fn sections() -> impl Iterator<Item = (&'static str, Value)> {
    let health = (health::Config::SECTION, defaults::<health::Config>());
    POLICIES.iter().map(|policy| (policy.name, (policy.defaults)())).chain([health])
}

/// 600.0 as people write it.
fn whole(value: &Value) -> Value {
    match value.as_f64() {
        Some(number) if number.fract() == 0.0 && number.abs() < 1e15 => (number as i64).into(),
        _ => value.clone(),
    }
}

/// A value that may be shown, of a setting or a variable by this name. Whatever is called a key is a secret, a header may
/// hold one, and so may an address.
///
/// ```
/// use llm_core::gateway::shown::harmless;
/// assert_eq!(harmless("HTTPS_PROXY", "http://me:s3cret@gate:3128".into()), "http://(set)@gate:3128");
/// ```
pub fn harmless(path: &str, value: Value) -> Value {
    let name = path.rsplit('.').next().unwrap_or_default().to_lowercase();
    let is_secret = ["key", "token", "secret", "password"].iter().any(|word| name.ends_with(word));
    match value {
        Value::String(text) if is_secret || path.contains(".headers.") => {
            if text.is_empty() { NOT_SET } else { SET }.into()
        }
        Value::String(text) => without_user(&name, text).into(),
        value => value,
    }
}

/// `http://user:password@host` without the two; some write an address without its scheme.
fn without_user(name: &str, text: String) -> String {
    let is_address = name.ends_with("proxy") || name.ends_with("url");
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None if is_address => (String::new(), text.as_str()),
        None => return text,
    };
    // The last one: a password that should have been encoded may hold others, and slashes.
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}{SET}@{host}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        let text = "[models.a]\nprovider = 'vllm'\nbase_url = 'http://me:s3cret@gpu/v1'\napi_key = 's3cret'\n\
                    proxy = 'me:s3/cret@gate:1'\nheaders = { x-auth = 's3cret' }\n";
        let shown = Config::from_toml(text).unwrap().shown(&[]);
        let text = format!("{shown:?}");
        assert!(
            !text.contains("s3cret")
                && !text.contains("s3/")
                && text.contains("http://(set)@gpu/v1")
                && text.contains("@gate:1"),
            "{text}"
        );
    }

    #[test]
    fn settings_that_nobody_made_are_shown_as_defaults() {
        let config = Config::from_toml("[retry]\nmax_retries = 9\n[models.a]\nprovider = 'ollama'").unwrap();
        let shown = config.shown(&[]);
        let value = |path: &str| shown.iter().find(|s| s.path == path).map(|s| s.value.clone()).unwrap();
        assert_eq!(value("models.a.base_url"), "http://127.0.0.1:11434");
        assert_eq!(value("models.a.connect_timeout_ms"), 5000);
        assert_eq!(value("models.a.api_key"), NOT_SET);
        assert_eq!((value("retry.max_retries"), value("queue.waiting")), (9.into(), 100.into()));
        assert_eq!((value("timeout.first_s"), value("retry.budget")), (600.into(), 0.2.into()));
        assert_eq!(value("health.canary_timeout_s"), 60);
        for (name, defaults) in sections() {
            let fields = defaults.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()).count();
            let of_it = shown.iter().filter(|s| s.path.starts_with(&format!("{name}."))).count();
            assert_eq!(of_it, fields, "{name}");
        }
    }

    #[test]
    fn a_section_of_a_model_stands_for_itself() {
        let text = "[queue]\nwaiting = 7\n[models.a]\nprovider = 'fake'\nqueue = { limit = 3 }";
        let config = Config::from_toml(text).unwrap();
        let shown = config.shown(&[]);
        let value = |path: &str| shown.iter().find(|s| s.path == path).map(|s| s.value.clone());
        assert_eq!((value("queue.waiting"), value("models.a.queue.limit")), (Some(7.into()), Some(3.into())));
        assert_eq!(value("models.a.queue.waiting"), Some(100.into()), "the house's section is not its");
        assert_eq!((value("models.a.vector_len"), value("models.a.retry.wait_ms")), (Some(8.into()), None));
    }
}
