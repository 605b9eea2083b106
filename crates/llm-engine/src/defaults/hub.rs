//! Any model by its address: downloaded beside the defaults, and in the store only once it is known to be a model.
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use llm_core::{Error, Result};

use super::lock::Lock;
use super::{Download, Stage, Store, Tell, client, unwritable};
use crate::gguf;

impl Store {
    /// Brings a model file unless one of its name is there, and returns where it lies.
    ///
    /// # Errors
    /// Those of [`Download::run`] and [`gguf::check`], and `Invalid` for an address that does not end in a `.gguf` file.
    ///
    /// ```no_run
    /// # async fn example() -> llm_core::Result<()> {
    /// use llm_engine::defaults::{Download, Store};
    /// let store = Store::from_env(|name| std::env::var(name).ok())?;
    /// let mut download = Download::new("https://models.example/qwen3-4b-q4_k_m.gguf")?;
    /// download.sha256 = None; // Better: what the publisher says.
    /// let path = store.download(&download, &mut |step| eprintln!("{} of {} bytes", step.done, step.total)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn download(&self, download: &Download, tell: Tell<'_>) -> Result<PathBuf> {
        let name = download.file_name().filter(|name| name.ends_with(".gguf"));
        let name = name.ok_or_else(|| Error::invalid("the address must end in the name of a .gguf file"))?;
        let (path, staging) = (self.folder().join(name), self.folder().join(".fetch"));
        fs::create_dir_all(&staging).map_err(|error| unwritable(&staging, error))?;
        let _turn = turn(&staging.join(format!("{name}.lock")), tell).await?;
        if self.has(&path, download.sha256.as_deref()) {
            return Ok(path);
        }
        let made = staging.join(name);
        download.run(&client()?, &made, tell).await?;
        // Downloaded whole and yet no model: it would be so the next time too.
        gguf::check(&made).inspect_err(|_| drop(fs::remove_file(&made)))?;
        fs::rename(&made, &path).map_err(|error| unwritable(&path, error))?;
        Ok(path)
    }

    fn has(&self, path: &Path, sha256: Option<&str>) -> bool {
        let size = fs::metadata(path).map_or(0, |about| about.len());
        match sha256 {
            Some(sha256) => self.verified(path, size, sha256).is_some(),
            None => size > 0,
        }
    }
}

/// No patience runs out here: the caller drops the future when theirs does.
async fn turn(path: &Path, tell: Tell<'_>) -> Result<Lock> {
    loop {
        if let Some(lock) = Lock::try_take(path)? {
            return Ok(lock);
        }
        tell(Stage::Waiting.at(0, 0));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
