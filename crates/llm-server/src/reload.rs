//! A configuration read anew: on SIGHUP, or when its file has changed.
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::result::Result;

use crate::Server;
use crate::compose::Composed;

/// Reads a configuration as it was read at the start; the words of an error say where it is wrong.
type Read = Box<dyn Fn() -> Result<Composed, String>>;

/// Where a configuration comes from, and what it looked like.
pub struct Reload {
    files: Vec<PathBuf>,
    read: Read,
    applied: u64,
    seen: u64,
}

impl Reload {
    /// Reads with this, whenever one of these files has changed.
    pub fn new(files: Vec<PathBuf>, read: impl Fn() -> Result<Composed, String> + 'static) -> Reload {
        let now = look(&files);
        Reload { files, read: Box::new(read), applied: now, seen: now }
    }

    /// Whether a file is another than the one that was applied, and the same as at the last look: one that is just being
    /// written is left alone.
    pub(crate) fn is_due(&mut self) -> bool {
        let now = look(&self.files);
        let is_settled = std::mem::replace(&mut self.seen, now) == now;
        is_settled && now != self.applied
    }

    /// Reads and applies; what is wrong changes nothing. Either is told.
    pub(crate) fn apply(&mut self, server: &Server) {
        self.applied = look(&self.files);
        self.seen = self.applied;
        match (self.read)().and_then(|composed| server.reload(&composed).map_err(|error| error.to_string())) {
            Ok(left) if left.is_empty() => tracing::info!("the configuration was read anew"),
            Ok(left) => {
                let left = left.join(", ");
                tracing::warn!(left, "the configuration was read anew; these settings change with the next start");
            }
            Err(error) => tracing::error!(error, "the configuration is wrong and changes nothing"),
        }
    }
}

/// What the files hold, in one number; reading a small file tells more than its time, which may be mounted or copied.
fn look(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    files.iter().for_each(|path| std::fs::read(path).ok().hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_once_it_has_changed_and_settled() {
        let path = std::env::temp_dir().join(format!("llm-reload-{}.toml", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("a");
        let mut reload = Reload::new(vec![path.clone()], || Err("nobody asks".into()));
        assert!(!reload.is_due(), "nothing has changed");
        write("ab");
        assert!(!reload.is_due(), "it may be in the middle of being written");
        write("abc");
        assert!(!reload.is_due() && reload.is_due());
        write("a");
        assert!(!reload.is_due() && !reload.is_due(), "it is as it was");
        std::fs::remove_file(&path).unwrap();
        assert!(!reload.is_due() && reload.is_due(), "that it is gone is a change too");
    }
}
