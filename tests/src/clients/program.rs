//! Clients in other languages, each a program that `scripts/setup clients` has installed the library for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::KEY;

/// A program that tells the stories.
#[derive(Debug, Clone, Copy)]
pub enum Program {
    /// openai-python.
    Python,
    /// openai-node.
    Node,
    /// ollama-python, which has stories of its own.
    Ollama,
}

impl Program {
    /// What it tells of the server whose API begins there. It takes no longer than a minute: that is its own limit.
    ///
    /// # Errors
    /// If the library is not installed, and how to install it; if the program cannot be run.
    pub fn tells(self, base_url: &str) -> Result<Vec<String>, String> {
        let home = std::env::var_os("LLM_TEST_CLIENTS");
        let out = self.command(home)?.envs(self.variables(base_url)).output();
        let out = out.map_err(|error| format!("{self:?} cannot be run: {error}"))?;
        // What it says on standard error is passed on: nothing, or the reason why it told less than it should.
        eprint!("{}", String::from_utf8_lossy(&out.stderr));
        Ok(told(&String::from_utf8_lossy(&out.stdout)))
    }

    /// What users set for it.
    fn variables(self, base_url: &str) -> [(&'static str, String); 2] {
        match self {
            Program::Python | Program::Node => {
                [("OPENAI_BASE_URL", base_url.to_owned()), ("OPENAI_API_KEY", KEY.to_owned())]
            }
            Program::Ollama => {
                let host = base_url.strip_suffix("/v1").unwrap_or(base_url);
                [("OLLAMA_HOST", host.to_owned()), ("OLLAMA_API_KEY", KEY.to_owned())]
            }
        }
    }

    fn command(self, home: Option<OsString>) -> Result<Command, String> {
        let home = PathBuf::from(home.ok_or("call cargo through `scripts/in-env`: it says where the clients are")?);
        if !home.join("ready").exists() {
            return Err(format!("no clients in {}: run `scripts/setup clients`", home.display()));
        }
        let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
        let mut command = match self {
            Program::Python | Program::Ollama => Command::new(home.join("python/bin/python")),
            Program::Node => Command::new("node"),
        };
        match self {
            Program::Python => command.arg(stories.join("python/stories.py")),
            Program::Ollama => command.arg(stories.join("python/ollama_stories.py")),
            Program::Node => {
                command.arg(stories.join("node/stories.cjs")).env("NODE_PATH", home.join("node/node_modules"))
            }
        };
        command.stdin(Stdio::null());
        Ok(command)
    }
}

/// The lines of a program's output.
pub fn told(output: &str) -> Vec<String> {
    output.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_not_installed_is_an_error_that_names_the_remedy() {
        let empty = tempfile::tempdir().unwrap();
        for program in [Program::Python, Program::Node, Program::Ollama] {
            let error = program.command(Some(empty.path().into())).unwrap_err();
            assert!(error.contains("scripts/setup clients"), "{error}");
            assert!(program.command(None).unwrap_err().contains("scripts/in-env"));
        }
    }
}
