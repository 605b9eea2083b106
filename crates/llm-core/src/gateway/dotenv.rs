//! The environment as programs are started in it: the process's variables, then those of the `.env` file beside them.
use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};

/// The file's name; only the folder that the program was started in is looked at, so that no stranger's file counts.
const FILE: &str = ".env";

/// Variables and where each was found.
///
/// ```
/// use llm_core::gateway::dotenv::Environment;
/// let here = Environment::of_process()?;
/// assert!(here.get("NO_SUCH_VARIABLE").is_none());
/// assert_eq!(here.origin("PATH").as_deref(), Some("environment"));
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Default)]
pub struct Environment {
    file: BTreeMap<String, (String, usize)>,
}

impl Environment {
    /// The process's variables, and the file's for those that are not set.
    ///
    /// # Errors
    /// `Config`, naming the line that is no setting.
    pub fn of_process() -> Result<Environment> {
        match std::fs::read_to_string(Path::new(FILE)) {
            Ok(text) => Environment::with(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Environment::default()),
            Err(error) => Err(Error::config(format!("cannot be read: {error}")).at(FILE)),
        }
    }

    fn with(text: &str) -> Result<Environment> {
        let mut file = BTreeMap::new();
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line itself may be a secret: its number must do.
            let wrong =
                || Error::config("is no setting; it should look like NAME=value").at(format!("{FILE} line {number}"));
            let (name, value) = setting(line).ok_or_else(wrong)?;
            file.insert(name.to_owned(), (value, number));
        }
        Ok(Environment { file })
    }

    /// A variable's value. An empty one of the process, as compose files pass on, does not hide the file's.
    pub fn get(&self, name: &str) -> Option<String> {
        let own = std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        own.or_else(|| self.file.get(name).map(|(value, _)| value.clone()))
    }

    /// Where a variable's value comes from: `environment` or `.env line 3`.
    pub fn origin(&self, name: &str) -> Option<String> {
        if std::env::var_os(name).is_some_and(|value| !value.to_string_lossy().trim().is_empty()) {
            return Some("environment".into());
        }
        self.file.get(name).map(|(_, line)| format!("{FILE} line {line}"))
    }
}

fn setting(line: &str) -> Option<(&str, String)> {
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let name = name.trim();
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name(name).then(|| Some((name, unquoted(value.trim())?)))?
}

/// In quotes everything stands for itself; without them a comment may follow.
fn unquoted(value: &str) -> Option<String> {
    for quote in ['"', '\''] {
        if let Some(inside) = value.strip_prefix(quote) {
            return inside.split_once(quote).map(|(inside, _)| inside.to_owned());
        }
    }
    let end = value.find(" #").unwrap_or(value.len());
    Some(value[..end].trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_what_the_environment_does_not() {
        let text = "# hosts\nVLLM_BASE_URL=http://gpu:8000 # ours\n\nexport KEY = \"a # b\"\nEMPTY=\nPATH=no\n";
        let found = Environment::with(text).unwrap();
        assert_eq!(found.get("VLLM_BASE_URL").as_deref(), Some("http://gpu:8000"));
        assert_eq!((found.get("KEY").as_deref(), found.get("EMPTY").as_deref()), (Some("a # b"), Some("")));
        assert_ne!(found.get("PATH").as_deref(), Some("no"));
        assert_eq!(found.origin("KEY").as_deref(), Some(".env line 4"));
        assert_eq!(found.origin("PATH").as_deref(), Some("environment"));
    }

    #[test]
    fn a_line_that_is_no_setting_is_named_without_its_text() {
        for text in ["A=1\nsecret", "A=1\nse cret=1", "A=1\nA=\"open secret"] {
            let error = Environment::with(text).err().unwrap().to_string();
            assert!(error.starts_with(".env line 2: ") && !error.contains("cret"), "{error}");
        }
    }
}
