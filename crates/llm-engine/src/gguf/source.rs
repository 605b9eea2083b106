//! Reads a file front to back without believing any length in it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{ErrorKind, Read, Seek};

use super::Problem;

/// A reader that knows where the file ends and refuses to be sent beyond it.
pub(super) struct Source<R> {
    inner: R,
    at: u64,
    end: u64,
}

impl<R: Read + Seek> Source<R> {
    pub(super) fn new(inner: R, end: u64) -> Source<R> {
        Source { inner, at: 0, end }
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn u32(&mut self) -> Result<u32, Problem> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Problem> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A count of things that take at least `each` bytes apiece, so that a wild count is known before the loop.
    pub(super) fn count(&mut self, what: &str, most: u64, each: u64) -> Result<u64, Problem> {
        let count = self.u64()?;
        if count > most {
            return Problem::damaged(format!("it claims {count} {what}, and {most} is the most"));
        }
        self.need(count.saturating_mul(each))?;
        Ok(count)
    }

    /// A name: refused when it is longer than `most` bytes or not UTF-8.
    pub(super) fn name(&mut self, what: &str, most: u64) -> Result<String, Problem> {
        let length = self.u64()?;
        if length == 0 || length > most {
            return Problem::damaged(format!("{what} of {length} bytes"));
        }
        String::from_utf8(self.vec(length)?).or_else(|_| Problem::damaged(format!("{what} that is not UTF-8")))
    }

    /// A text of any length, of which the first `most` bytes are kept and the rest is passed over.
    pub(super) fn text(&mut self, most: u64) -> Result<String, Problem> {
        let length = self.u64()?;
        self.need(length)?;
        let kept = self.vec(length.min(most))?;
        self.skip(length.saturating_sub(most))?;
        Ok(String::from_utf8_lossy(&kept).into_owned())
    }

    /// A number that stands for a text of at most `most` bytes; none for an empty one.
    pub(super) fn hash_text(&mut self, most: u64) -> Result<Option<u64>, Problem> {
        let length = self.u64()?;
        if length > most {
            return Problem::damaged(format!("a token of {length} bytes"));
        }
        let text = self.vec(length)?;
        Ok((length > 0).then(|| BuildHasherDefault::<DefaultHasher>::default().hash_one(text)))
    }

    pub(super) fn skip_text(&mut self) -> Result<(), Problem> {
        let length = self.u64()?;
        self.skip(length)
    }

    pub(super) fn skip(&mut self, count: u64) -> Result<(), Problem> {
        self.need(count)?;
        let step = i64::try_from(count).or_else(|_| Problem::damaged(format!("a length of {count} bytes")))?;
        self.inner.seek_relative(step)?;
        self.at += count;
        Ok(())
    }

    /// Only called with lengths that a bound or [`Source::need`] has vouched for.
    fn vec(&mut self, length: u64) -> Result<Vec<u8>, Problem> {
        self.need(length)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Problem> {
        self.need(bytes.len() as u64)?;
        self.inner.read_exact(bytes).map_err(|error| self.shrunk(error))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn need(&self, count: u64) -> Result<(), Problem> {
        // The size no disk holds: such a number is noise, not a promise that a new download would keep.
        const ABSURD: u64 = 1 << 48;
        match self.at.checked_add(count) {
            Some(needs) if needs <= self.end => Ok(()),
            Some(needs) if needs < ABSURD => Err(Problem::Truncated { ends: self.end, needs }),
            _ => Problem::damaged(format!("a length of {count} at byte {}", self.at)),
        }
    }

    /// The file got shorter while we read it.
    fn shrunk(&self, error: std::io::Error) -> Problem {
        match error.kind() {
            ErrorKind::UnexpectedEof => Problem::Truncated { ends: self.at, needs: self.end },
            _ => Problem::Unreadable(error),
        }
    }
}
