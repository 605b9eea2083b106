//! Where settings came from: a variable, or a line of a file. Errors name it, and `llm config` shows it.
use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use crate::error::Error;

/// Places of settings by their path: `models.coder.base_url` came from `VLLM_BASE_URL`.
///
/// ```
/// use llm_core::gateway::origins::{Origin, Origins};
/// let origins = Origins::of_toml("llm.toml", "[models.a]\nprovider = 'vllm'");
/// assert_eq!(origins.get("models.a.provider"), Some(&Origin::File("llm.toml line 2".into())));
///
/// let mut all = Origins::default();
/// all.note("models.a.base_url", "VLLM_BASE_URL");
/// all.extend(origins);
/// let error = all.tell(llm_core::Error::config("is no URL").at("models.a.base_url"));
/// assert_eq!(error.to_string(), "VLLM_BASE_URL: is no URL"); // what the user wrote
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origins(BTreeMap<String, Origin>);

/// Where a setting came from.
///
/// ```
/// use llm_core::gateway::origins::Origin;
/// let config = llm_core::Config::from_env(&|name| (name == "VLLM_BASE_URL").then(|| "http://gpu:8000".into()))?;
/// let origin = config.origins.get("models.*.base_url");
/// assert_eq!(origin, Some(&Origin::Variable("VLLM_BASE_URL".into())));
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The variable with this name.
    Variable(String),
    /// A file and the line in it.
    File(String),
}

impl Origins {
    /// The places of all settings of a TOML file; none for what is no TOML.
    pub fn of_toml(file: &str, text: &str) -> Origins {
        let mut origins = Origins::default();
        if let Ok(table) = DeTable::parse(text) {
            origins.note_table("", table.get_ref(), &|at| {
                format!("{file} line {}", 1 + text[..at].bytes().filter(|b| *b == b'\n').count())
            });
        }
        origins
    }

    fn note_table(&mut self, path: &str, table: &DeTable<'_>, place: &dyn Fn(usize) -> String) {
        for (key, value) in table.iter() {
            let path = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
            match value.get_ref() {
                DeValue::Table(inner) => self.note_table(&path, inner, place),
                DeValue::Array(items) => {
                    for (i, item) in items.iter().enumerate() {
                        if let DeValue::Table(inner) = item.get_ref() {
                            self.note_table(&format!("{path}.{i}"), inner, place);
                        }
                    }
                }
                _ => {}
            }
            self.0.insert(path, Origin::File(place(key.span().start)));
        }
    }

    /// Notes that a variable gave a setting.
    pub fn note(&mut self, path: impl Into<String>, variable: impl Into<String>) {
        self.0.insert(path.into(), Origin::Variable(variable.into()));
    }

    /// Where a setting came from; `None` for defaults.
    pub fn get(&self, path: &str) -> Option<&Origin> {
        self.0.get(path)
    }

    /// Takes over others; theirs count where both know a place.
    pub fn extend(&mut self, others: Origins) {
        self.0.extend(others.0);
    }

    /// An error about a setting, with the variable that gave it as its place, or with the line of its file before it. What is
    /// missing has the line of the section where it is missing.
    pub fn tell(&self, error: Error) -> Error {
        let place = error.place().to_owned();
        let around = |at: &str| at.rsplit_once('.').map_or(at.len(), |(outer, _)| outer.len());
        let mut at = place.as_str();
        while !at.is_empty() {
            match self.get(at) {
                Some(Origin::Variable(name)) if at == place => return error.placed(name.clone()),
                Some(Origin::File(line)) => return error.placed(format!("{line}: {place}")),
                _ if around(at) == at.len() => break,
                _ => at = &at[..around(at)],
            }
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_a_file_has_its_line() {
        let text = "default_model = 'a'\n\n[queue]\nwaiting = 5\n[models.a]\nprovider = 'fake'\nqueue = { limit = 2 }\n\
                    [[models.b.deployments]]\nprovider = 'fake'\n[[models.b.deployments]]\nprovider = 'vllm'\n";
        let origins = Origins::of_toml("f", text);
        for (path, line) in [
            ("default_model", 1),
            ("queue.waiting", 4),
            ("models.a.queue.limit", 7),
            ("models.b.deployments.0.provider", 9),
            ("models.b.deployments.1.provider", 11),
        ] {
            assert_eq!(origins.get(path), Some(&Origin::File(format!("f line {line}"))), "{path}");
        }
        assert_eq!(origins.get("models.a.base_url"), None);
    }

    #[test]
    fn an_error_names_the_variable_that_the_user_wrote() {
        let mut origins = Origins::default();
        origins.note("models.*.base_url", "VLLM_BASE_URL");
        let error = Error::config("is no URL").at("base_url").at("models.*");
        assert_eq!(origins.tell(error).to_string(), "VLLM_BASE_URL: is no URL");
        let other = Error::config("is no URL").at("base_url").at("models.b");
        assert_eq!(origins.tell(other).to_string(), "models.b.base_url: is no URL");
        let file = Origins::of_toml("f", "[models.b]\nprovider = 'vllm'\nqueue = { limit = 0 }");
        let told = |place: &str| file.tell(Error::config("is wrong").at(place)).to_string();
        assert_eq!(told("models.b.queue.limit"), "f line 3: models.b.queue.limit: is wrong");
        assert_eq!(told("models.b.base_url"), "f line 1: models.b.base_url: is wrong", "it is missing there");
        assert_eq!(told("default_model"), "default_model: is wrong");
    }
}
