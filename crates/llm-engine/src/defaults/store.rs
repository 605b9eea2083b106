//! Where models lie on this machine, and which of them are there.

use std::fs;
use std::path::{Path, PathBuf};

use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
use llm_core::gateway::variables::Variable;
use llm_core::{Error, Kind, Result};

use super::Model;
use super::hash::of_file;
use super::stamp::Stamp;

/// The variables of the models that come without asking, beside `LLM_DATA_DIR`.
pub const VARIABLES: &[Variable] =
    &[Variable::new("LLM_PYTHON", "the Python whose pip brings the models that come without asking", "python3")];

/// The folder of models, shared by all programs of this user.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    python: Option<String>,
}

impl Store {
    /// The store in this folder, which need not exist yet.
    pub fn at(folder: impl Into<PathBuf>) -> Store {
        Store { folder: folder.into(), python: None }
    }

    /// The store as the environment places it: `LLM_DATA_DIR`, else the user's data folder
    /// (`XDG_DATA_HOME`, `~/.local/share`; on macOS and Windows theirs), and `LLM_PYTHON`.
    ///
    /// # Errors
    /// `Config` when the user has no home folder.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Store> {
        let set = |name| lookup(name).filter(|value| !value.is_empty());
        let data = match set("LLM_DATA_DIR").map(PathBuf::from) {
            Some(folder) => folder,
            None => set("XDG_DATA_HOME")
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .map_or_else(user_data, Ok)?
                .join("llm"),
        };
        Ok(Store { folder: data.join("models"), python: set("LLM_PYTHON") })
    }

    /// The same store, its packages brought by this Python.
    pub fn with_python(self, python: impl Into<String>) -> Store {
        Store { python: Some(python.into()), ..self }
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn python(&self) -> Option<&str> {
        self.python.as_deref()
    }

    /// Where the model lies, once it is there.
    pub fn path(&self, model: &Model) -> PathBuf {
        self.folder.join(model.file)
    }

    /// The model's file, if it is there and right. Its bytes are hashed once and then only when its size or time changes.
    pub fn installed(&self, model: &Model) -> Option<PathBuf> {
        self.verified(&self.path(model), model.bytes, model.sha256)
    }

    /// All model files in the store, whoever put them there, by name.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|ending| ending == "gguf")).collect();
        files.sort();
        files
    }

    /// The model's file, or the error that names the command which brings it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn require(&self, model: &Model) -> Result<PathBuf> {
        self.installed(model).ok_or_else(|| {
            let message =
                format!("the default {} model, {}, is not here yet: `{FETCH}` brings it", model.role, model.name);
            Error::new(Kind::NotFound, message)
        })
    }

    pub(super) fn verified(&self, path: &Path, bytes: u64, sha256: &str) -> Option<PathBuf> {
        let stamp = Stamp::of(path, sha256).ok()?;
        let right = stamp.bytes() == bytes && (stamp.is_set() || hashes_to(path, sha256) && stamp.set().is_ok());
        right.then(|| path.to_owned())
    }
}

/// The command that brings the default models.
pub const FETCH: &str = "llm models fetch";

fn hashes_to(path: &Path, sha256: &str) -> bool {
    of_file(path, &mut |_| {}).is_ok_and(|hash| hash == sha256)
}

/// On Windows the local one, as models are too large to roam.
fn user_data() -> Result<PathBuf> {
    let places = choose_native_strategy()
        .map_err(|_| Error::config("there is no home folder: set LLM_DATA_DIR to a folder for models"))?;
    Ok(if cfg!(windows) { places.cache_dir() } else { places.data_dir() })
}
