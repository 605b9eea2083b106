//! Takes single files out of a Python wheel, which is a zip archive.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use llm_core::{Error, Kind, Result};
use zip::ZipArchive;

use super::hash::{Hashing, copy};
use super::{Stage, Tell};

/// An open wheel.
pub(super) struct Wheel {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

/// A file in a wheel, and what it must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    pub(super) path: &'static str,
    pub(super) bytes: u64,
    pub(super) sha256: &'static str,
}

impl Wheel {
    pub(super) fn open(path: &Path) -> Result<Wheel> {
        let failed = |why: &dyn std::fmt::Display| broken(path, &format!("cannot be opened ({why})"));
        let file = File::open(path).map_err(|error| failed(&error))?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|error| failed(&error))?;
        Ok(Wheel { path: path.to_owned(), archive })
    }

    /// Whether the wheel is whole, its list of files, which stands at its end, included.
    pub(super) fn holds(&mut self, file: &Packed) -> bool {
        self.archive.by_name(file.path).is_ok_and(|entry| entry.size() == file.bytes)
    }

    /// A small file, as it is.
    pub(super) fn read(&mut self, name: &str) -> Result<Vec<u8>> {
        const MOST: u64 = 16 << 20;
        let mut bytes = Vec::new();
        let entry =
            self.archive.by_name(name).map_err(|error| broken(&self.path, &format!("has no {name} ({error})")))?;
        entry.take(MOST).read_to_end(&mut bytes).map_err(|error| broken(&self.path, &error.to_string()))?;
        Ok(bytes)
    }

    /// A large file, written to `to` and compared with its size and hash.
    pub(super) fn unpack(&mut self, file: &Packed, to: &mut impl Write, tell: Tell<'_>) -> Result<()> {
        let Wheel { path, archive } = self;
        let entry = archive.by_name(file.path).map_err(|error| broken(path, &error.to_string()))?;
        let mut to = Hashing::new(to);
        // One byte more than it should have: enough to notice, too little for a zip bomb.
        let told = |done| tell(Stage::Unpacking.at(done, file.bytes));
        let count = copy(&mut entry.take(file.bytes + 1), &mut to, told).map_err(|error| failed(path, error))?;
        if count != file.bytes || to.finish() != file.sha256 {
            return Err(broken(path, &format!("holds a different {} than the one that was published", file.path)));
        }
        Ok(())
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            Error::new(Kind::Invalid, "the disk is full: make room and try again").because(error)
        }
        _ => broken(path, &error.to_string()),
    }
}

fn broken(path: &Path, what: &str) -> Error {
    Error::new(Kind::Upstream, format!("the package {} {what}: fetch it again", path.display()))
}
