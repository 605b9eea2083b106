//! Remembers that a file was hashed, so that 270 MB are not read again at every start.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use std::{fs, io};

/// What is known of a file: beside it, in `NAME.checked`, stands the same after it was found right.
pub(super) struct Stamp {
    place: PathBuf,
    bytes: u64,
    text: String,
}

impl Stamp {
    /// The stamp that the file would have if its hash were `sha256`.
    pub(super) fn of(path: &Path, sha256: &str) -> io::Result<Stamp> {
        let about = fs::metadata(path)?;
        let changed = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut place = path.as_os_str().to_owned();
        place.push(".checked");
        Ok(Stamp { place: place.into(), bytes: about.len(), text: format!("{sha256} {} {changed}\n", about.len()) })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_set(&self) -> bool {
        fs::read_to_string(&self.place).is_ok_and(|text| text == self.text)
    }

    pub(super) fn set(&self) -> io::Result<()> {
        fs::write(&self.place, &self.text)
    }
}
