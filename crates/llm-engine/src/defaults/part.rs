//! The part of a download that has come, and what it is a part of, kept beside it so that another run can go on.
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use llm_core::{Error, Kind, Result};
use reqwest::Response;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, LAST_MODIFIED};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{Stage, Tell, unwritable};

/// A file that grows.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    done: u64,
    whole: Whole,
}

/// What it is a part of.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Whole {
    url: String,
    /// The server's name for exactly these bytes.
    validator: Option<String>,
    total: Option<u64>,
}

impl Part {
    /// Finds what an earlier run left of this address, or begins anew.
    pub(super) async fn open(to: &Path, url: &str) -> Result<Part> {
        let path = beside(to, ".part");
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).await;
        let file = opened.map_err(|error| unwritable(&path, error))?;
        let note = fs::read(note(&path)).await.unwrap_or_default();
        let whole = serde_json::from_slice(&note).ok().filter(|whole: &Whole| whole.url == url);
        let mut part = Part { path, file, done: 0, whole: whole.unwrap_or_default() };
        match part.whole.validator {
            Some(_) => part.done = part.file.seek(SeekFrom::End(0)).await.map_err(|error| part.failed(error))?,
            None => part.forget().await?,
        }
        part.whole.url = url.to_owned();
        Ok(part)
    }

    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// The whole file's size, if the server said.
    pub(super) fn total(&self) -> Option<u64> {
        self.whole.total
    }

    /// What to ask for: the rest, if the file there is still the one we began.
    pub(super) fn resumption(&self) -> Option<(String, &str)> {
        let validator = self.whole.validator.as_deref().filter(|_| self.done > 0)?;
        Some((format!("bytes={}-", self.done), validator))
    }

    /// Whether a partial answer begins where we stand, in a file of the same size.
    pub(super) fn goes_on_with(&self, answer: &Response) -> bool {
        let range = header(answer, CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
        let Some((from, total)) = range.and_then(|range| Some((range.split_once('-')?.0, range.split_once('/')?.1)))
        else {
            return false;
        };
        self.done > 0 && from.parse() == Ok(self.done) && (total == "*" || total.parse().ok() == self.whole.total)
    }

    /// The whole file comes, from its beginning.
    pub(super) async fn begin(&mut self, answer: &Response) -> Result<()> {
        let url = std::mem::take(&mut self.whole.url);
        self.forget().await?;
        let total = header(answer, CONTENT_LENGTH).and_then(|length| length.parse().ok());
        self.whole = Whole { url, validator: validator(answer), total };
        self.has_room()?;
        let said = serde_json::to_vec(&self.whole).expect("two texts and a number have a JSON form");
        fs::write(note(&self.path), said).await.map_err(|error| self.failed(error))
    }

    pub(super) async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).await.map_err(|error| self.failed(error))?;
        self.done += bytes.len() as u64;
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<()> {
        self.file.flush().await.map_err(|error| self.failed(error))
    }

    /// What has come is good for nothing.
    pub(super) async fn forget(&mut self) -> Result<()> {
        let url = std::mem::take(&mut self.whole.url);
        (self.done, self.whole) = (0, Whole { url, ..Whole::default() });
        let emptied = self.file.set_len(0).await.and(self.file.seek(SeekFrom::Start(0)).await);
        emptied.map_err(|error| self.failed(error))?;
        let _ = fs::remove_file(note(&self.path)).await; // Mostly there is none.
        Ok(())
    }

    pub(super) async fn hash(&mut self, tell: Tell<'_>) -> Result<String> {
        let (mut hash, mut buffer, mut done) = (Sha256::new(), vec![0; 1 << 20], 0);
        self.file.seek(SeekFrom::Start(0)).await.map_err(|error| self.failed(error))?;
        loop {
            let count = self.file.read(&mut buffer).await.map_err(|error| self.failed(error))?;
            if count == 0 {
                return Ok(format!("{:x}", hash.finalize()));
            }
            hash.update(&buffer[..count]);
            done += count as u64;
            tell(Stage::Checking.at(done, self.done));
        }
    }

    /// It is whole: it gets its name.
    pub(super) async fn keep(self, to: &Path) -> Result<()> {
        self.file.sync_all().await.map_err(|error| self.failed(error))?;
        fs::rename(&self.path, to).await.map_err(|error| self.failed(error))?;
        let _ = fs::remove_file(note(&self.path)).await; // It would name a part that is no more.
        Ok(())
    }

    fn has_room(&self) -> Result<()> {
        let needs = self.whole.total.unwrap_or(0);
        // A system that cannot tell will say so when it is full.
        let free = fs4::available_space(&self.path).unwrap_or(u64::MAX);
        if needs <= free {
            return Ok(());
        }
        let message = format!("the file has {} MB and the disk has {} MB left: make room", needs >> 20, free >> 20);
        Err(Error::new(Kind::Invalid, message))
    }

    fn failed(&self, error: io::Error) -> Error {
        unwritable(&self.path, error)
    }
}

/// A strong ETag, else the time of the last change; a weak ETag does not promise equal bytes.
fn validator(answer: &Response) -> Option<String> {
    let strong = header(answer, ETAG).filter(|tag| tag.starts_with('"'));
    strong.or_else(|| header(answer, LAST_MODIFIED)).map(str::to_owned)
}

fn header(answer: &Response, name: HeaderName) -> Option<&str> {
    answer.headers().get(name)?.to_str().ok()
}

fn note(part: &Path) -> PathBuf {
    beside(part, ".json")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
