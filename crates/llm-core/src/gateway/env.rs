//! The configuration from the environment: what is set says which provider, and nothing set is the built-in engine.
use toml::{Table, Value};

use super::config::{Config, DeploymentConfig, ModelConfig};
use crate::error::{Error, Result};
use crate::route::router::ANY;

/// Looks a variable up: `|name| std::env::var(name).ok()`, or a map in tests.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A provider that the environment can name, and where its settings stand.
struct Row {
    name: &'static str,
    url: &'static [&'static str],
    key: &'static [&'static str],
    chat: &'static [&'static str],
    embed: &'static [&'static str],
}

const ROWS: &[Row] = &[
    Row {
        name: "vllm",
        url: &["VLLM_BASE_URL"],
        key: &["VLLM_API_KEY"],
        chat: &["VLLM_TEXT_MODEL", "VLLM_MODEL"],
        embed: &["VLLM_EMBEDDING_MODEL"],
    },
    Row {
        name: "openai",
        url: &["OPENAI_BASE_URL"],
        key: &["OPENAI_API_KEY"],
        chat: &["OPENAI_TEXT_MODEL", "OPENAI_MODEL"],
        embed: &["OPENAI_EMBEDDING_MODEL"],
    },
    Row {
        name: "ollama",
        url: &["OLLAMA_BASE_URL", "OLLAMA_HOST"],
        key: &["OLLAMA_API_KEY"],
        chat: &["OLLAMA_TEXT_MODEL", "OLLAMA_MODEL"],
        embed: &["OLLAMA_EMBEDDING_MODEL"],
    },
    Row {
        name: "compatible",
        url: &["LLM_BASE_URL"],
        key: &["LLM_UPSTREAM_API_KEY"],
        chat: &["LLM_TEXT_MODEL"],
        embed: &["LLM_EMBEDDING_MODEL"],
    },
];

/// The provider without which nothing else is configured; the doors pass its kind.
pub const ENGINE: &str = "engine";

impl Config {
    /// Reads the environment: `AI_PROVIDER` (vllm, openai, ollama, compatible, engine, fake), `EMBEDDING_PROVIDER` if
    /// embeddings come from elsewhere, and for each its `.._BASE_URL`, `.._API_KEY`, `.._TEXT_MODEL` and
    /// `.._EMBEDDING_MODEL`. Without `AI_PROVIDER` a base URL that is set names its provider; with nothing set it is
    /// the engine. A variable `X_FILE` holds the path of a file with the value of `X`.
    ///
    /// # Errors
    /// `Config`, naming the variable and the remedy.
    pub fn from_env(lookup: Lookup<'_>) -> Result<Config> {
        let env = Env(lookup);
        let chat = match env.get(&["AI_PROVIDER", "LLM_PROVIDER"])? {
            Some(name) => name.to_lowercase(),
            None => env.implied()?,
        };
        let embed = env.get(&["EMBEDDING_PROVIDER"])?.map_or(chat.clone(), |name| name.to_lowercase());
        let mut config = Config::default();
        config.default_model = env.add(&mut config, &chat, true, chat == embed)?;
        if chat != embed {
            env.add(&mut config, &embed, false, true)?;
        }
        Ok(config)
    }
}

struct Env<'a>(Lookup<'a>);

impl Env<'_> {
    /// The first of these that is set and not empty; or the content of the file that `.._FILE` names.
    fn get(&self, names: &[&str]) -> Result<Option<String>> {
        for name in names {
            if let Some(value) = (self.0)(name).filter(|v| !v.trim().is_empty()) {
                return Ok(Some(value.trim().to_owned()));
            }
            let file = format!("{name}_FILE");
            if let Some(path) = (self.0)(&file).filter(|v| !v.is_empty()) {
                let read = std::fs::read_to_string(&path);
                let read = read.map_err(|e| Error::config(format!("cannot read {path}: {e}")).at(file))?;
                return Ok(Some(read.trim().to_owned()));
            }
        }
        Ok(None)
    }

    fn implied(&self) -> Result<String> {
        for row in ROWS {
            if self.get(row.url)?.is_some() {
                return Ok(row.name.into());
            }
        }
        Ok(ENGINE.into())
    }

    /// Adds a provider's models; the name of the one that chats, which is the one that counts tokens too.
    fn add(&self, config: &mut Config, provider: &str, chat: bool, embed: bool) -> Result<Option<String>> {
        let Some(row) = ROWS.iter().find(|row| row.name == provider) else {
            return Ok(local(config, provider, chat, embed));
        };
        let mut settings = Table::new();
        let url = self.get(row.url)?.map(|url| if url.contains("://") { url } else { format!("http://{url}") });
        settings.extend(url.map(|url| ("base_url".to_owned(), Value::from(url))));
        settings.extend(self.get(row.key)?.map(|key| ("api_key".to_owned(), Value::from(key))));
        if row.name == "compatible" && !settings.contains_key("base_url") {
            return Err(
                Error::config("is missing: where is the host? Example: http://localhost:8000/v1").at(row.url[0])
            );
        }
        let (text, vector) = (self.get(row.chat)?, self.get(row.embed)?);
        let named = |name: &Option<String>, operations: &[&str]| {
            name.as_ref().map(|name| (name.clone(), model(row.name, &settings, Some(operations))))
        };
        if chat {
            config.models.extend(named(&text, &["chat", "complete"]));
        }
        if embed {
            config.models.extend(named(&vector, &["embed"]));
        }
        // What no variable names is found out from the host: every name goes there, and no name means its first model.
        if (chat && text.is_none()) || (embed && !chat && vector.is_none()) {
            config.models.insert(ANY.into(), model(row.name, &settings, None));
        }
        Ok(chat.then(|| text.unwrap_or_else(|| ANY.into())))
    }
}

/// Providers without a host: the engine has a model for each purpose, the others do all with one.
fn local(config: &mut Config, provider: &str, chat: bool, embed: bool) -> Option<String> {
    if provider != ENGINE {
        config.models.insert(provider.into(), model(provider, &Table::new(), None));
        return chat.then(|| provider.into());
    }
    let settings = |model: &str| Table::from_iter([("default".to_owned(), Value::from(model))]);
    if chat {
        config.models.insert("smollm2".into(), model(ENGINE, &settings("chat"), Some(&["chat", "complete"])));
    }
    if embed {
        config.models.insert("minilm".into(), model(ENGINE, &settings("embedding"), Some(&["embed"])));
    }
    chat.then(|| "smollm2".into())
}

fn model(provider: &str, settings: &Table, operations: Option<&[&str]>) -> ModelConfig {
    let deployment =
        DeploymentConfig { provider: provider.into(), settings: settings.clone(), ..DeploymentConfig::default() };
    let operations = operations.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    ModelConfig { deployments: vec![deployment], operations, ..ModelConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Result<Config> {
        Config::from_env(&|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    fn names(config: &Config) -> Vec<(&str, &str)> {
        config.models.iter().map(|(name, m)| (name.as_str(), m.deployments[0].provider.as_str())).collect()
    }

    #[test]
    fn nothing_set_is_the_engine() {
        let found = config(&[]).unwrap();
        assert_eq!(names(&found), [("minilm", "engine"), ("smollm2", "engine")]);
        assert_eq!(found.default_model.as_deref(), Some("smollm2"));
    }

    #[test]
    fn a_base_url_alone_names_its_provider() {
        let found = config(&[("VLLM_BASE_URL", "http://gpu:8000/v1"), ("VLLM_API_KEY", "k")]).unwrap();
        assert_eq!(names(&found), [("*", "vllm")]);
        assert_eq!(found.models["*"].deployments[0].settings["base_url"].as_str(), Some("http://gpu:8000/v1"));
        let named = [("VLLM_BASE_URL", "gpu:8000"), ("VLLM_TEXT_MODEL", "coder"), ("VLLM_EMBEDDING_MODEL", "e5")];
        assert_eq!(names(&config(&named).unwrap()), [("coder", "vllm"), ("e5", "vllm")]);
    }

    #[test]
    fn embeddings_may_come_from_elsewhere() {
        let mixed = [("AI_PROVIDER", "vllm"), ("VLLM_TEXT_MODEL", "coder"), ("EMBEDDING_PROVIDER", "engine")];
        let found = config(&mixed).unwrap();
        assert_eq!(names(&found), [("coder", "vllm"), ("minilm", "engine")]);
        assert_eq!(found.default_model.as_deref(), Some("coder"), "it counts tokens, too, not the one for embeddings");
    }

    #[test]
    fn a_missing_setting_is_named_with_its_remedy() {
        let error = config(&[("AI_PROVIDER", "compatible")]).unwrap_err().to_string();
        assert!(error.starts_with("LLM_BASE_URL: is missing"), "{error}");
        let error = config(&[("VLLM_API_KEY_FILE", "/no/such"), ("VLLM_BASE_URL", "x")]).unwrap_err().to_string();
        assert!(error.starts_with("VLLM_API_KEY_FILE: cannot read"), "{error}");
    }
}
