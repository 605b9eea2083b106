//! Looks variables up: empty ones count as not set, and `X_FILE` may hold the path of a file with the value of `X`.
use crate::error::{Error, Result};

/// Looks a variable up: `|name| std::env::var(name).ok()`, or a map in tests.
///
/// ```
/// use llm_core::gateway::env::Lookup;
/// let process: Lookup<'_> = &|name| std::env::var(name).ok();
/// assert!(llm_core::Config::from_env(&|_| None).is_ok() && process("NO_SUCH_VARIABLE").is_none());
/// ```
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable's value, or what stands in the file that its `X_FILE` names.
///
/// ```
/// let lookup = |name: &str| (name == "LLM_API_KEY").then(|| " sk-1 ".to_owned());
/// assert_eq!(llm_core::gateway::env::value(&lookup, "LLM_API_KEY")?.as_deref(), Some("sk-1"));
/// assert_eq!(llm_core::gateway::env::value(&lookup, "VLLM_API_KEY")?, None);
/// # Ok::<(), llm_core::Error>(())
/// ```
///
/// # Errors
/// `Config`, naming `X_FILE`, if that file cannot be read, or is empty: an empty key would let everybody in.
pub fn value(lookup: Lookup<'_>, name: &str) -> Result<Option<String>> {
    Ok(Env(lookup).get(&[name])?.map(|found| found.value))
}

/// Variables as they are read.
pub(super) struct Env<'a>(pub(super) Lookup<'a>);

/// A value, and the variable that it stood in.
pub(super) struct Found {
    pub(super) value: String,
    pub(super) variable: String,
}

impl Env<'_> {
    /// The first of these that is set and not empty; compose files pass unset variables on as empty ones.
    pub(super) fn get(&self, names: &[impl AsRef<str>]) -> Result<Option<Found>> {
        for name in names.iter().map(AsRef::as_ref) {
            if let Some(value) = self.set(name) {
                return Ok(Some(Found { value, variable: name.to_owned() }));
            }
            let file = format!("{name}_FILE");
            if let Some(path) = self.set(&file) {
                return Ok(Some(Found { value: content(&path).map_err(|e| e.at(&file))?, variable: file }));
            }
        }
        Ok(None)
    }

    fn set(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }
}

fn content(path: &str) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::config(format!("cannot read {path}: {e}")))?;
    match text.trim() {
        "" => Err(Error::config(format!("{path} is empty"))),
        text => Ok(text.to_owned()),
    }
}

impl Found {
    /// A whole number.
    pub(super) fn number(&self) -> Result<u32> {
        let wrong = |_| Error::config(format!("must be a whole number, not {:?}", self.value)).at(&self.variable);
        self.value.parse().map_err(wrong)
    }
}
