//! Which models there are: from the options, the configuration file or the environment, and where each setting came from.
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use llm_core::gateway::dotenv::Environment;
use llm_core::gateway::env::value;
use llm_core::gateway::shown::harmless;
use llm_core::{Config, DeploymentConfig, Gateway, Llm};
use llm_server::compose::{self, Composed};
use toml::{Table, Value};

use crate::engine;
use crate::exit::Exit;
use crate::stop::{Run, Stop};

/// Options that every command has.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which model")]
pub(crate) struct Source {
    /// Ask this model (`llm models` lists them)
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Ask this OpenAI-compatible server: http://HOST:PORT[/v1]
    #[arg(long, global = true)]
    pub(crate) url: Option<String>,
    /// The server's key, for --url [env: LLM_UPSTREAM_API_KEY]
    #[arg(short, long, global = true)]
    pub(crate) key: Option<String>,
    /// Read this TOML file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl Source {
    /// What clap cannot see, as one of two may stand before the command and the other behind it.
    fn check(&self) -> Run {
        let wrong = |says: &str| Err(Stop::new(Exit::Usage, says));
        match self {
            Source { url: Some(_), config: Some(_), .. } => wrong("--url and --config both say which models there are"),
            Source { url: None, key: Some(_), .. } => {
                wrong("--key belongs to --url; other servers' keys are settings, such as VLLM_API_KEY")
            }
            _ => Ok(()),
        }
    }
}

/// A setting that was found in the environment.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) origin: String,
}

/// The configuration of this run.
pub(crate) struct House {
    pub(crate) composed: Composed,
    /// What it was read from, in words.
    pub(crate) origin: String,
    /// The variables that were asked for and set.
    pub(crate) found: Vec<Found>,
}

impl House {
    pub(crate) fn read(source: &Source) -> Run<House> {
        House::read_with(source, &[])
    }

    /// The same where a command's own options stand for variables.
    pub(crate) fn read_with(source: &Source, options: &[(&str, Option<String>)]) -> Run<House> {
        let environment = Environment::of_process()?;
        let found = RefCell::new(Vec::new());
        let lookup = |name: &str| {
            let option = options.iter().find(|(of, _)| *of == name).and_then(|(_, value)| value.clone());
            let value = option.or_else(|| environment.get(name))?;
            let origin = environment.origin(name).unwrap_or_default();
            found.borrow_mut().push(Found { name: name.to_owned(), value: value.clone(), origin });
            Some(value)
        };
        let (composed, origin) = compose(source, &lookup)?;
        Ok(House { composed, origin, found: tidied(found.into_inner()) })
    }

    /// The models, ready to be asked; nothing is loaded and no network touched.
    pub(crate) fn llm(&self) -> Run<Llm> {
        Ok(Llm::over(Gateway::with(&self.composed.models, &engine::kinds(), Arc::new(()))?))
    }

    /// An error with the place that was asked, which the server behind it does not know.
    pub(crate) fn tell_place(&self, stop: Stop, model: &str) -> Stop {
        match self.place_of(model) {
            place if stop.says.is_empty() || place.is_empty() => stop,
            place => Stop { says: format!("{}\n  asked: {place} ({})", stop.says, self.origin), ..stop },
        }
    }

    /// The deployments of a model. Models that a host lists come from the one that takes any name.
    pub(crate) fn deployments(&self, model: &str) -> impl Iterator<Item = &DeploymentConfig> {
        let models = &self.composed.models.models;
        let named = models.get(model).or_else(|| models.values().find(|m| m.aliases.iter().any(|a| a == model)));
        let only = || models.values().next().filter(|_| model.is_empty() && models.len() == 1);
        let default = || models.get(self.composed.models.default_model.as_ref().filter(|_| model.is_empty())?);
        named.or_else(default).or_else(only).or_else(|| models.get("*")).into_iter().flat_map(|m| &m.deployments)
    }

    /// Where a model runs, in words: `vllm at http://gpu:8000`.
    pub(crate) fn place_of(&self, model: &str) -> String {
        self.deployments(model).map(place).collect::<Vec<_>>().join(", ")
    }
}

fn compose(source: &Source, lookup: &dyn Fn(&str) -> Option<String>) -> Run<(Composed, String)> {
    source.check()?;
    let file = source.config.clone().or_else(|| lookup("LLM_CONFIG").filter(|p| !p.is_empty()).map(PathBuf::from));
    let file = file.filter(|_| source.url.is_none());
    let mut composed = match &source.url {
        // What the environment says of models does not count then, and must not fail either.
        Some(_) => compose::read(None, &|name| lookup(name).filter(|_| is_of_the_house(name)))?,
        None => compose::read(file.as_deref(), lookup)?,
    };
    let origin = match (&source.url, &file) {
        (Some(url), _) => {
            let key = source.key.clone().map_or_else(|| value(lookup, "LLM_UPSTREAM_API_KEY"), |key| Ok(Some(key)))?;
            composed.models = at_url(url, key).with_env(lookup)?;
            "--url".to_owned()
        }
        (None, Some(path)) => path.display().to_string(),
        (None, None) => "environment".to_owned(),
    };
    Ok((composed, origin))
}

/// Whether a variable is about the house, and not about who answers.
fn is_of_the_house(name: &str) -> bool {
    let of_hosts = ["_PROVIDER", "_BASE_URL", "_MODEL", "_DIMENSIONS", "_TOKENIZER", "_CA_FILE"];
    name.starts_with("LLM_") && !of_hosts.iter().any(|end| name.ends_with(end))
}

/// Any name goes there, and none means the first model that it lists. It is asked as a vLLM would be, which can do most
/// of what such servers can; one that cannot count tokens says so.
fn at_url(url: &str, key: Option<String>) -> Config {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let key = key.map(|key| ("api_key".to_owned(), Value::from(key)));
    let settings: Table = [("base_url".to_owned(), Value::from(url))].into_iter().chain(key).collect();
    Config::of("*", "vllm", settings)
}

pub(crate) fn place(deployment: &DeploymentConfig) -> String {
    let text = |name: &str| deployment.settings.get(name).and_then(Value::as_str);
    let file = || engine::file(deployment)?.ok().map(|path| path.display().to_string());
    match (text("base_url"), text("path").map(str::to_owned).or_else(file)) {
        (Some(url), _) => {
            let url = harmless("base_url", url.into());
            format!("{} at {}", deployment.provider, url.as_str().unwrap_or_default())
        }
        (None, Some(path)) => format!("{} with {path}", deployment.provider),
        (None, None) => deployment.provider.clone(),
    }
}

/// Each variable once, and nothing of the secret ones but that they are there.
fn tidied(mut found: Vec<Found>) -> Vec<Found> {
    found.retain(|f| !f.value.trim().is_empty());
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.dedup_by(|a, b| a.name == b.name);
    for found in &mut found {
        let shown = harmless(&found.name, std::mem::take(&mut found.value).into());
        found.value = shown.as_str().unwrap_or_default().to_owned();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_takes_every_name_and_needs_no_scheme() {
        let config = at_url("gpu:8000", Some("k".into()));
        let settings = &config.models["*"].deployments[0].settings;
        assert_eq!(settings["base_url"].as_str(), Some("http://gpu:8000"));
        assert_eq!(settings["api_key"].as_str(), Some("k"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let found = |name: &str, value: &str| Found { name: name.into(), value: value.into(), origin: "x".into() };
        let shown = tidied(vec![found("VLLM_API_KEY", "s3cret"), found("A", " "), found("VLLM_API_KEY", "s3cret")]);
        assert_eq!((shown.len(), shown[0].value.as_str()), (1, "(set)"));
        assert_eq!(tidied(vec![found("HTTPS_PROXY", "me:s3cret@gate:1")])[0].value, "(set)@gate:1");
    }
}
