//! Lets one process at a time fetch into a folder.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use llm_core::{Error, Kind, Result};

use super::{Stage, Tell, unwritable};

/// Held while it lives; the system lets go of it even if the process is killed.
pub(super) struct Lock(#[expect(dead_code, reason = "closing it unlocks")] File);

// Longer than a slow line takes for the default models.
const PATIENCE: Duration = Duration::from_secs(3_600);

impl Lock {
    /// Waits for its turn.
    pub(super) fn take(path: &Path, tell: Tell<'_>) -> Result<Lock> {
        let began = Instant::now();
        loop {
            if let Some(lock) = Lock::try_take(path)? {
                return Ok(lock);
            }
            if began.elapsed() > PATIENCE {
                return Err(busy());
            }
            tell(Stage::Waiting.at(0, 0));
            sleep(Duration::from_millis(100));
        }
    }

    /// The lock, unless another process has it.
    pub(super) fn try_take(path: &Path) -> Result<Option<Lock>> {
        let file = File::create(path).map_err(|error| unwritable(path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(unwritable(path, error)),
        }
    }
}

fn busy() -> Error {
    Error::new(Kind::Timeout, "another process has been fetching models for an hour: end it and try again")
}
