//! SHA-256 of files, and of bytes on their way to a file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Stage, Tell};

/// The hash of a file in lower-case hexadecimal.
pub(super) fn of_file(path: &Path, tell: Tell<'_>) -> io::Result<String> {
    let mut file = File::open(path)?;
    let total = file.metadata()?.len();
    let mut sink = Hashing::new(io::sink());
    copy(&mut file, &mut sink, |done| tell(Stage::Checking.at(done, total)))?;
    Ok(sink.finish())
}

/// Copies everything and tells, a mebibyte at a time, how much has gone by.
pub(super) fn copy(from: &mut impl Read, to: &mut impl Write, mut told: impl FnMut(u64)) -> io::Result<u64> {
    let (mut buffer, mut done) = (vec![0; 1 << 20], 0);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(count) => to.write_all(&buffer[..count]).inspect(|()| done += count as u64)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        told(done);
    }
}

/// Passes bytes on and hashes them.
pub(super) struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    pub(super) fn new(inner: W) -> Hashing<W> {
        Hashing { inner, hash: Sha256::new() }
    }

    pub(super) fn finish(self) -> String {
        format!("{:x}", self.hash.finalize())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
