//! Every variable that configures models, each with what it is for: documents and `.env.example` are written from here.
//!
//! A door has variables of its own, such as a server's address; it keeps them in the same form beside its settings and
//! adds its sections to these.
use std::borrow::Cow;
use std::fmt::Write;

use super::env::ENGINE;
use super::family::{self, Purpose};
use super::proxies;
use crate::provider::fake::FAKE;
use crate::provider::hosts::HOSTS;
use crate::provider::http::Host;

/// One variable.
///
/// ```
/// use llm_core::gateway::variables::{Section, Variable, env_example};
/// const KEY: Variable = Variable::new("DOOR_KEY", "what clients must know", "").of("door.key").secret();
/// let text = env_example(&[Section { title: "The door".into(), variables: vec![KEY] }]);
/// assert!(text.ends_with("\n# === The door ===\n\n# what clients must know\n#DOOR_KEY=\n"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it is for: one sentence, which begins in lower case.
    pub about: Cow<'static, str>,
    /// What holds where it is not set; empty for nothing.
    pub default: Cow<'static, str>,
    /// Its value is shown to nobody, and `.._FILE` may name a file that holds it.
    pub is_secret: bool,
    /// The setting of the configuration that it stands for, if there is one: `retry.max_retries`.
    pub setting: &'static str,
}

/// Variables that belong together.
///
/// ```
/// use llm_core::gateway::variables::{Section, sections};
/// let first: Section = sections().remove(0);
/// assert_eq!((&*first.title, &*first.variables[0].name), ("Who answers", "AI_PROVIDER"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// What they are about.
    pub title: Cow<'static, str>,
    /// The variables, most wanted first.
    pub variables: Vec<Variable>,
}

impl Variable {
    /// A variable that stands for nothing but itself.
    pub const fn new(name: &'static str, about: &'static str, default: &'static str) -> Variable {
        let (name, about, default) = (Cow::Borrowed(name), Cow::Borrowed(about), Cow::Borrowed(default));
        Variable { name, about, default, is_secret: false, setting: "" }
    }

    /// The setting that it stands for.
    pub const fn of(mut self, setting: &'static str) -> Variable {
        self.setting = setting;
        self
    }

    /// Nobody may see its value.
    pub const fn secret(mut self) -> Variable {
        self.is_secret = true;
        self
    }
}

/// Who answers everything.
pub const AI_PROVIDER: Variable = Variable::new(
    "AI_PROVIDER",
    "who answers; without it a base URL that is set names its provider, and with none set it is the engine in this process",
    "engine",
);

/// How often failures are tried again.
pub const MAX_RETRIES: Variable =
    Variable::new("LLM_MAX_RETRIES", "attempts after the first, for what may succeed a little later", "2")
        .of("retry.max_retries");
/// How long an answer may take to begin.
pub const TIMEOUT: Variable =
    Variable::new("LLM_TIMEOUT_SECS", "how long an answer may take to begin, in seconds", "600").of("timeout.first_s");
/// How many calls wait in line.
pub const QUEUE_SIZE: Variable =
    Variable::new("LLM_QUEUE_SIZE", "how many calls of a model may wait in line; further ones are refused", "100")
        .of("queue.waiting");

/// The house's own settings.
pub const HOUSE: &[Variable] = &[MAX_RETRIES, TIMEOUT, QUEUE_SIZE];

/// All of them.
///
/// ```
/// let sections = llm_core::gateway::variables::sections();
/// let names = sections.iter().flat_map(|section| &section.variables).map(|variable| &*variable.name);
/// assert!(names.into_iter().any(|name| name == "VLLM_BASE_URL"));
/// ```
pub fn sections() -> Vec<Section> {
    let names = HOSTS.iter().map(|host| host.name).chain([ENGINE, FAKE.name]).collect::<Vec<_>>().join(", ");
    let everything = Variable { about: format!("{}; one of {names}", AI_PROVIDER.about).into(), ..AI_PROVIDER };
    let providers = [everything].into_iter().chain(family::PURPOSES.iter().map(Purpose::provider_variable));
    let who = Section { title: "Who answers".into(), variables: providers.collect() };
    let house = Section { title: "Patience, for every model".into(), variables: HOUSE.to_vec() };
    let proxies = Section { title: "The way to hosts".into(), variables: proxies::VARIABLES.to_vec() };
    [who].into_iter().chain(HOSTS.iter().map(section)).chain([house, proxies]).collect()
}

fn section(host: &Host) -> Section {
    Section { title: format!("`{}`: {}", host.name, host.about).into(), variables: family::variables(host) }
}

/// A `.env` file that sets nothing and explains every variable.
///
/// ```
/// use llm_core::gateway::variables;
/// let text = variables::env_example(&variables::sections());
/// assert!(text.contains("\n#VLLM_BASE_URL=http://127.0.0.1:8000\n"));
/// ```
pub fn env_example(sections: &[Section]) -> String {
    let mut text = "\
# Every variable there is. Copy this file to `.env` in the folder where the program is started, and take the # from the
# lines that you want; what the process's own environment says goes before the file. For every secret X there is X_FILE,
# the path of a file that holds it. Written by `llm config --env-example`.
"
    .to_owned();
    for Section { title, variables } in sections {
        let _ = writeln!(text, "\n# === {title} ===");
        for variable in variables {
            let _ = write!(text, "\n{}#{}={}\n", comment(&variable.about), variable.name, variable.default);
        }
    }
    text
}

/// Words as lines of a comment.
fn comment(words: &str) -> String {
    const WIDTH: usize = 118;
    let mut lines = vec!["#".to_owned()];
    for word in words.split(' ') {
        if lines[lines.len() - 1].len() + 1 + word.len() > WIDTH {
            lines.push("#".to_owned());
        }
        let last = lines.len() - 1;
        lines[last] += &format!(" {word}");
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_variable_is_explained_twice_and_none_is_left_unexplained() {
        let all: Vec<_> = sections().into_iter().flat_map(|s| s.variables).collect();
        for (i, variable) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other.name == variable.name), Some(i), "{}", variable.name);
            assert!(variable.about.len() > 15, "{}", variable.name);
        }
        for name in ["VLLM_RERANK_BASE_URL", "VLLM_EMBEDDING_DIMENSIONS", "OPENAI_VISION_MODEL", "LLM_UPSTREAM_API_KEY"]
        {
            assert!(all.iter().any(|v| v.name == name), "{name}");
        }
        assert!(!all.iter().any(|v| v.name == "GROQ_EMBEDDING_MODEL"), "Groq cannot embed");
    }

    #[test]
    fn what_they_say_of_defaults_is_true() {
        let retry = crate::policy::retry::Config::default();
        let timeout = crate::policy::timeout::Config::default();
        assert_eq!(MAX_RETRIES.default, retry.max_retries.to_string());
        assert_eq!(TIMEOUT.default, timeout.first_s.to_string());
        assert_eq!(QUEUE_SIZE.default, crate::policy::queue::Config::default().waiting.to_string());
    }
}
