//! The configuration from the environment: what is set says which provider, and nothing set is the built-in engine.
use super::config::Config;
use super::family::{EMBEDDING, PURPOSES, Purpose, TEXT};
use super::lookup::Env;
use super::places::Places;
use super::variables::{AI_PROVIDER, HOUSE};
use crate::error::{Error, Result};
use crate::provider::hosts::{self, HOSTS};

pub use super::lookup::{Lookup, value};

/// The provider without which nothing else is configured; the doors pass its kind.
pub const ENGINE: &str = "engine";

/// Who is asked for something, and why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub(super) provider: String,
    /// The variable that says so; empty where none does.
    pub(super) variable: String,
    pub(super) reach: Reach,
}

/// What the variable that names a provider is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reach {
    /// This purpose alone: what the provider lacks is an error.
    Own,
    /// Everything: what the provider lacks, nobody asked for.
    All,
    /// Nothing was said; it is the provider for text.
    Text,
}

impl Config {
    /// Reads the environment: `AI_PROVIDER` says who answers, `LLM_PROVIDER`, `EMBEDDING_PROVIDER`, `VISION_PROVIDER` and
    /// `RERANK_PROVIDER` who does one thing, and each host has variables of its own: `VLLM_BASE_URL`, `VLLM_API_KEY`,
    /// `VLLM_TEXT_MODEL`, `VLLM_EMBEDDING_BASE_URL`, ..; see [`super::variables`] for all of them. Without `AI_PROVIDER`
    /// a base URL that is set names its provider; with nothing set it is the engine. A variable `X_FILE` holds the path
    /// of a file with the value of `X`.
    ///
    /// ```
    /// let vars = |name: &str| (name == "VLLM_BASE_URL").then(|| "http://gpu:8000".to_owned());
    /// let config = llm_core::Config::from_env(&vars)?;
    /// assert_eq!(config.models["*"].deployments[0].provider, "vllm");
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Config`, naming the variable and the remedy.
    pub fn from_env(lookup: Lookup<'_>) -> Result<Config> {
        let env = Env(lookup);
        let text = env.choice(&TEXT, None)?;
        let mut places = Places::new(&env);
        for purpose in PURPOSES {
            let choice = if purpose.is_text() { text.clone() } else { env.choice(purpose, Some(&text))? };
            places.add(purpose, &choice)?;
        }
        places.finish()?.with_env(lookup)
    }

    /// What the environment says of the whole house: retries, timeout, queue, which go before what a file says, and the
    /// proxies for those hosts that name none.
    ///
    /// ```
    /// use llm_core::Config;
    /// let file = Config::from_toml("[retry]\nmax_retries = 1\n[models.a]\nprovider = 'fake'")?;
    /// let config = file.with_env(&|name| (name == "LLM_MAX_RETRIES").then(|| "5".into()))?;
    /// assert_eq!(config.policies["retry"]["max_retries"].as_integer(), Some(5));
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Config`, naming the variable.
    pub fn with_env(mut self, lookup: Lookup<'_>) -> Result<Config> {
        for variable in HOUSE {
            let Some(found) = Env(lookup).get(&[&variable.name])? else { continue };
            let (section, setting) =
                variable.setting.split_once('.').expect("a policy's setting stands in its section");
            let section = self.policies.entry(section).or_insert_with(|| toml::Table::new().into());
            let section = section.as_table_mut().expect("the sections of policies are tables");
            section.insert(setting.to_owned(), found.number()?.into());
            self.origins.note(variable.setting, found.variable);
        }
        self.with_proxies(&Env(lookup))
    }
}

impl Env<'_> {
    /// Who is asked for this; for everything but text, that may be whoever is asked for text.
    fn choice(&self, purpose: &Purpose, text: Option<&Choice>) -> Result<Choice> {
        for (variable, reach) in [(purpose.provider, Reach::Own), (&AI_PROVIDER.name, Reach::All)] {
            if let Some(found) = self.get(&[variable])? {
                return Ok(Choice { provider: found.value.to_lowercase(), variable: found.variable, reach });
            }
        }
        for host in HOSTS.iter().filter(|host| purpose.suits(host)) {
            let urls =
                if purpose.is_text() { purpose.url_variables(host) } else { vec![purpose.own_url_variable(host)] };
            if let Some(found) = self.get(&urls)? {
                return Ok(Choice { provider: host.name.into(), variable: found.variable, reach: Reach::Own });
            }
        }
        let engine = || Choice { provider: ENGINE.into(), variable: String::new(), reach: Reach::Text };
        Ok(text.map_or_else(engine, |text| Choice { reach: Reach::Text, ..text.clone() }))
    }
}

/// Nobody there does that.
pub(super) fn cannot(purpose: &Purpose, choice: &Choice) -> Error {
    let (who, what) = (&choice.provider, purpose.operations[0]);
    let what = if purpose.is_vision() { "look at images".to_owned() } else { what.to_string() };
    let with_engine = if purpose.word == EMBEDDING.word { ", engine" } else { "" };
    let message = format!("{who} cannot {what}; those that can: {}{with_engine}", hosts::able(purpose.operations[0]));
    Error::config(message).at(&choice.variable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Gateway;
    use crate::gateway::origins::Origin;

    type Vars<'a> = &'a [(&'a str, &'a str)];

    fn config(vars: Vars<'_>) -> Result<Config> {
        Config::from_env(&|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    fn error(vars: Vars<'_>) -> String {
        config(vars).and_then(|config| Gateway::new(&config)).err().expect("it must be refused").to_string()
    }

    /// Each model: its name, its provider, what it may be asked, and where it is.
    fn shown(vars: Vars<'_>) -> Vec<String> {
        let config = config(vars).unwrap();
        let line = |(name, m): (&String, &crate::gateway::ModelConfig)| {
            let there = &m.deployments[0];
            let operations = m.operations.as_ref().map_or("all".to_owned(), |words| words.join("+"));
            let url = there.settings.get("base_url").and_then(|url| url.as_str()).unwrap_or("-");
            format!("{name} {} {operations} {url}", there.provider)
        };
        config.models.iter().map(line).collect()
    }

    #[test]
    fn nothing_set_is_the_engine() {
        assert_eq!(shown(&[]), ["minilm engine embed -", "smollm2 engine chat+complete -"]);
        assert_eq!(config(&[]).unwrap().default_model.as_deref(), Some("smollm2"));
        assert_eq!(shown(&[("VLLM_BASE_URL", " ")]), shown(&[]), "an empty variable is one that is not set");
    }

    #[test]
    fn a_base_url_alone_names_its_provider() {
        let vars = [("VLLM_BASE_URL", "http://gpu:8000/v1"), ("VLLM_API_KEY", "k")];
        assert_eq!(shown(&vars), ["* vllm all http://gpu:8000/v1"]);
        assert_eq!(shown(&[("GROQ_BASE_URL", "http://x/v1")]), ["* groq all http://x/v1"]);
        let named = [("VLLM_BASE_URL", "gpu"), ("VLLM_TEXT_MODEL", "coder"), ("VLLM_EMBEDDING_MODEL", "e5")];
        assert_eq!(shown(&named), ["coder vllm chat+complete http://gpu:8000", "e5 vllm embed http://gpu:8000"]);
    }

    #[test]
    fn each_purpose_may_have_its_own_vllm() {
        let vars = [
            ("VLLM_BASE_URL", "http://gpu:8000"),
            ("VLLM_EMBEDDING_BASE_URL", "http://gpu:8001"),
            ("VLLM_EMBEDDING_DIMENSIONS", "384"),
            ("VLLM_VISION_BASE_URL", "gpu:8002"),
            ("VLLM_VISION_MODEL", "sees"),
        ];
        let lines = shown(&vars);
        assert!(lines.contains(&"embedding vllm embed http://gpu:8001".to_owned()), "{lines:?}");
        assert!(lines.contains(&"sees vllm chat http://gpu:8002".to_owned()), "{lines:?}");
        assert!(lines[0].starts_with("* vllm chat+complete"), "embeddings have a place of their own: {lines:?}");
        let config = config(&vars).unwrap();
        assert_eq!(config.models["embedding"].dimensions, Some(384));
        assert_eq!(config.models["embedding"].deployments[0].model.as_deref(), Some(""), "the first that it lists");
        assert_eq!((config.vision_model.as_deref(), config.models["sees"].vision), (Some("sees"), true));
        assert_eq!(config.default_model.as_deref(), Some("*"));
        Gateway::new(&config).unwrap();
    }

    #[test]
    fn providers_may_be_mixed() {
        let vars = [
            ("AI_PROVIDER", "vllm"),
            ("VLLM_TEXT_MODEL", "coder"),
            ("EMBEDDING_PROVIDER", "engine"),
            ("VISION_PROVIDER", "Ollama"),
            ("OLLAMA_HOST", "laptop"),
            ("OLLAMA_VISION_MODEL", "llava"),
        ];
        assert_eq!(
            shown(&vars),
            ["coder vllm chat+complete -", "llava ollama chat http://laptop:11434", "minilm engine embed -"]
        );
        assert_eq!(config(&vars).unwrap().default_model.as_deref(), Some("coder"), "it counts tokens, too");
        let vars = [("AI_PROVIDER", "engine"), ("LLM_PROVIDER", "fake")];
        assert_eq!(shown(&vars), ["fake fake all -", "minilm engine embed -"]);
    }

    #[test]
    fn a_tokenizer_is_that_of_the_model_for_text() {
        let vars = [("VLLM_BASE_URL", "x"), ("VLLM_EMBEDDING_BASE_URL", "y"), ("VLLM_TOKENIZER", "/models/qwen")];
        let found = config(&vars).unwrap();
        let tokenizer =
            |model: &str| found.models[model].deployments[0].settings.get("tokenizer").and_then(|t| t.as_str());
        assert_eq!((tokenizer("*"), tokenizer("embedding")), (Some("/models/qwen"), None));
        assert!(error(&vars).starts_with("VLLM_TOKENIZER: "), "{}", error(&vars));
    }

    #[test]
    fn one_model_may_serve_two_purposes() {
        let vars = [("VLLM_BASE_URL", "x"), ("VLLM_TEXT_MODEL", "m"), ("VLLM_VISION_MODEL", "m")];
        let found = config(&vars).unwrap();
        assert!(found.models.len() == 1 && found.models["m"].vision, "{found:?}");
        let vars = [("VLLM_BASE_URL", "x"), ("VLLM_TEXT_MODEL", "m"), ("VISION_PROVIDER", "vllm")];
        assert_eq!(config(&vars).unwrap().vision_model.as_deref(), Some("m"));
        let two = [
            ("VLLM_BASE_URL", "x"),
            ("VLLM_TEXT_MODEL", "m"),
            ("VLLM_VISION_MODEL", "m"),
            ("VLLM_VISION_BASE_URL", "y"),
        ];
        let found = config(&two).unwrap();
        assert_eq!(found.models["vision"].deployments[0].model.as_deref(), Some("m"), "two places, one name");
        assert!(!found.models["m"].vision);
    }

    #[test]
    fn the_house_has_variables_too() {
        let vars =
            [("AI_PROVIDER", "fake"), ("LLM_MAX_RETRIES", "5"), ("LLM_TIMEOUT_SECS", "30"), ("LLM_QUEUE_SIZE", "7")];
        let found = config(&vars).unwrap();
        assert_eq!(found.policies["retry"]["max_retries"].as_integer(), Some(5));
        assert_eq!(found.policies["timeout"]["first_s"].as_integer(), Some(30));
        assert_eq!(found.policies["queue"]["waiting"].as_integer(), Some(7));
        assert_eq!(found.origins.get("queue.waiting"), Some(&Origin::Variable("LLM_QUEUE_SIZE".into())));
        Gateway::new(&found).unwrap();
    }

    #[test]
    fn an_ollama_has_variables_of_its_own() {
        let vars = [("AI_PROVIDER", "ollama"), ("OLLAMA_NUM_CTX", "8192"), ("OLLAMA_KEEP_ALIVE", "-1")];
        let found = config(&vars).unwrap();
        let settings = &found.models["*"].deployments[0].settings;
        assert_eq!(settings["options"]["num_ctx"].as_integer(), Some(8192));
        assert_eq!(settings["keep_alive"].as_integer(), Some(-1));
        assert_eq!(found.origins.get("models.*.keep_alive"), Some(&Origin::Variable("OLLAMA_KEEP_ALIVE".into())));
        Gateway::new(&found).unwrap();
        let vars = [("AI_PROVIDER", "ollama"), ("OLLAMA_NUM_CTX", "much"), ("OLLAMA_KEEP_ALIVE", "10m")];
        assert_eq!(error(&vars), "OLLAMA_NUM_CTX: must be a whole number, not \"much\"");
    }

    #[test]
    fn a_secret_may_stand_in_a_file() {
        let path = std::env::temp_dir().join(format!("llm-env-{}", std::process::id()));
        std::fs::write(&path, "s3cret\n").unwrap();
        let vars = [("VLLM_BASE_URL", "http://x"), ("VLLM_API_KEY_FILE", path.to_str().unwrap())];
        let found = config(&vars).unwrap();
        assert_eq!(found.models["*"].deployments[0].settings["api_key"].as_str(), Some("s3cret"));
        assert_eq!(found.origins.get("models.*.api_key"), Some(&Origin::Variable("VLLM_API_KEY_FILE".into())));
        std::fs::write(&path, "\n").unwrap();
        assert!(error(&vars).starts_with("VLLM_API_KEY_FILE: ") && error(&vars).ends_with("is empty"));
        std::fs::remove_file(&path).unwrap();
        assert!(error(&vars).starts_with("VLLM_API_KEY_FILE: cannot read "));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_variable_and_the_remedy() {
        for (vars, says) in [
            (&[("AI_PROVIDER", "nope")][..], "AI_PROVIDER: no such provider: nope; there are vllm, openai, ollama, "),
            (&[("AI_PROVIDER", "compatible")], "LLM_BASE_URL: is missing: where is the host? Example: http://"),
            (&[("AI_PROVIDER", "groq")], "GROQ_API_KEY: is missing"),
            (&[("VLLM_BASE_URL", "ftp://x")], "VLLM_BASE_URL: \"ftp://x\" begins with neither http"),
            (&[("EMBEDDING_PROVIDER", "groq")], "EMBEDDING_PROVIDER: groq cannot embed; those that can: vllm, openai"),
            (&[("VISION_PROVIDER", "engine")], "VISION_PROVIDER: engine cannot look at images; those that can: vllm"),
            (&[("EMBEDDING_PROVIDER", "ollama")], "OLLAMA_EMBEDDING_MODEL: is missing: which model of ollama is it?"),
            (&[("LLM_MAX_RETRIES", "often")], "LLM_MAX_RETRIES: must be a whole number, not \"often\""),
        ] {
            let error = error(vars);
            assert!(error.starts_with(says), "{error}");
        }
    }
}
