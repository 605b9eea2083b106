//! Answers from recordings of real servers: for tests and demonstrations without a model, and to keep what a server once said.
//!
//! A recording is a text file: a line with the request as curl wrote it, then the answer as it came.
//!
//! ```text
//! ### curl -X POST http://localhost:8000/v1/chat/completions -H content-type: application/json -d {"model":"m","messages":[..]}
//! HTTP/1.1 200 OK
//! content-type: application/json
//!
//! {"id":"chatcmpl-1",..}
//! ```
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;

use super::{Kind, http, settings};
use crate::call::*;
use crate::dialect::{self, Dialect, sse};
use crate::error::{Error, Kind as ErrorKind, Result};

/// The registration.
pub const REPLAY: Kind = Kind {
    name: "replay",
    about: "answers from recordings of a real server",
    build: |t| Ok(Arc::new(Replay::new(settings(t)?)?)),
    defaults: || Value::Null,
};

/// A folder of recordings is not longer, in files.
const MOST_FILES: usize = 10_000;
/// A recording is not longer, in bytes.
const LONGEST: u64 = 16 << 20;

/// Where its recordings are.
///
/// ```
/// use llm_core::provider::replay::{Config, Replay};
/// let error = Replay::new(Config { recordings: "no/such/folder".into() }).err().unwrap();
/// assert!(error.to_string().starts_with("recordings: cannot read no/such/folder"));
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A folder: a call is answered by the recording of the same request. Or one file, which answers every call.
    pub recordings: PathBuf,
}

/// One recorded request and its answer.
///
/// ```
/// use llm_core::provider::replay::Recording;
/// let text = "### curl http://localhost:8000/v1/nope\nHTTP/1.1 404 Not Found\nserver: uvicorn\n\n{\"detail\":\"Not Found\"}\n";
/// let recording = Recording::read("nope", text)?;
/// assert_eq!((recording.path.as_str(), recording.status), ("/v1/nope", 404));
/// assert_eq!(recording.header("server"), Some("uvicorn"));
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Recording {
    /// Its name: that of its file.
    pub name: String,
    /// Where the request went.
    pub path: String,
    /// The request's body; `None` if it had none, or was no JSON.
    pub request: Option<Value>,
    /// The answer's status.
    pub status: u16,
    /// The answer's headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The answer's body, no longer in chunks.
    pub body: Bytes,
}

impl Recording {
    /// Understands a recording.
    ///
    /// # Errors
    /// `Config`, saying what is missing.
    pub fn read(name: &str, text: &str) -> Result<Recording> {
        let lacks = |what: &str| Error::config(format!("the recording {name} has no {what}"));
        let (asked, answer) = text.split_once('\n').ok_or_else(|| lacks("answer"))?;
        let asked = asked.strip_prefix("### curl ").ok_or_else(|| lacks("line `### curl ..`"))?;
        let parts = answer.split_once("\r\n\r\n").or_else(|| answer.split_once("\n\n"));
        let (head, body) = parts.ok_or_else(|| lacks("end of its headers"))?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Ok(Recording {
            name: name.to_owned(),
            path: path(asked).ok_or_else(|| lacks("address"))?,
            request: asked.split_once(['{']).and_then(|(_, rest)| serde_json::from_str(&format!("{{{rest}")).ok()),
            status: status.ok_or_else(|| lacks("status"))?,
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
            body: body.trim_end().to_owned().into(),
        })
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn is_stream(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    async fn reply(&self, dialect: &'static dyn Dialect, hides_usage: bool) -> Result<Reply> {
        if !(200..300).contains(&self.status) {
            return Err(self.refusal(dialect));
        }
        if self.is_stream() {
            return Reply::forwarded(dialect, Delivery::Stream, self.frames(dialect, hides_usage)).await;
        }
        http::answer(dialect, self.body.clone())
    }

    fn refusal(&self, dialect: &'static dyn Dialect) -> Error {
        let wait = self.header("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        http::refusal(dialect, self.status, wait, &self.body)
    }

    /// An event a frame, as a server sends them.
    fn frames(&self, dialect: &'static dyn Dialect, hides_usage: bool) -> Frames {
        let mut frames = Vec::new();
        let mut is_finished = false;
        for event in sse::events(&self.body).filter(|event| sse::data(event).is_some()) {
            let mut glance = dialect.glance(event);
            if let Some(failure) = glance.failure.take() {
                frames.push(Err(failure));
                return stream::iter(frames).boxed();
            }
            is_finished |= glance.is_finished;
            let is_hidden = hides_usage && dialect.is_usage_only(event);
            let bytes = if is_hidden { Bytes::new() } else { whole(event) };
            frames.push(Ok(Frame::Wire(Wire { bytes, glance })));
        }
        frames.extend((!is_finished).then(|| Err(truncated())));
        stream::iter(frames).boxed()
    }
}

/// With the blank line that curl's output lost at its end.
fn whole(event: &[u8]) -> Bytes {
    [event.trim_ascii_end(), b"\n\n"].concat().into()
}

/// The path of the first address in a line of curl.
fn path(line: &str) -> Option<String> {
    let address =
        line.split(' ').find_map(|word| word.strip_prefix("http://").or_else(|| word.strip_prefix("https://")))?;
    address.find('/').map(|at| address[at..].to_owned())
}

/// A provider that answers from recordings.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// # let file = std::env::temp_dir().join(format!("llm-replay-{}.txt", std::process::id()));
/// # let recorded = "### curl http://h/v1/chat/completions\nHTTP/1.1 200 OK\ncontent-type: application/json\n\n\
/// #     {\"choices\":[{\"message\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n";
/// # std::fs::write(&file, recorded).unwrap();
/// use llm_core::{Llm, provider::replay::{Config, Replay}};
/// let llm = Llm::of(Replay::new(Config { recordings: file.clone() })?)?;
/// assert_eq!(llm.chat(llm_core::ChatRequest::new("?").model("m")).await?.text, "hi");
/// # std::fs::remove_file(file).unwrap();
/// # Ok(())
/// # }
/// ```
pub struct Replay {
    recordings: Vec<Recording>, // by name
    is_one: bool,
}

impl Replay {
    /// Reads the recordings.
    ///
    /// # Errors
    /// `Config`, naming the file that is missing or is no recording.
    pub fn new(config: Config) -> Result<Replay> {
        let place = &config.recordings;
        let mut recordings = files(place)?.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
        recordings.sort_by(|one, other| one.name.cmp(&other.name));
        if recordings.is_empty() {
            return Err(Error::config(format!("{} has no file *.txt", place.display())).at("recordings"));
        }
        Ok(Replay { recordings, is_one: place.is_file() })
    }

    fn find(&self, call: &Call) -> Result<&Recording> {
        if self.is_one {
            return Ok(&self.recordings[0]);
        }
        let asked = asked(call)?;
        let same = |recording: &&Recording| match (&asked, &recording.request) {
            (None, None) => true,
            (Some(asked), Some(recorded)) => is_same(asked, recorded),
            _ => false,
        };
        self.of(call.operation).find(same).ok_or_else(|| self.nothing_like(call))
    }

    fn of(&self, operation: Operation) -> impl Iterator<Item = &Recording> {
        let is_its = move |path: &str| dialect::openai().paths().iter().any(|(o, p)| *o == operation && *p == path);
        self.recordings.iter().filter(move |recording| is_its(&recording.path))
    }

    fn nothing_like(&self, call: &Call) -> Error {
        let names: Vec<_> = self.of(call.operation).map(|recording| recording.name.as_str()).take(20).collect();
        let message = format!("nobody recorded this {}; what was recorded: {}", call.operation, names.join(", "));
        Error::new(ErrorKind::NotFound, message)
    }
}

impl Provider for Replay {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            if !self.serves().contains(call.operation) {
                let message = format!("nobody recorded how to {}", call.operation);
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            // As the hosts do: what it cost is asked for, and taken out again for a client that did not.
            let (with_usage, hides_usage) = dialect::openai().with_usage(call)?;
            match self.find(&with_usage) {
                Ok(recording) => {
                    let hides_usage = hides_usage && call.is_as_it_came(&[dialect::openai()]);
                    recording.reply(dialect::openai(), hides_usage).await
                }
                Err(_) => self.find(call)?.reply(dialect::openai(), false).await,
            }
        })
    }

    fn serves(&self) -> Operations {
        // One recording is the answer to every question, whatever its path; but a list of models is one, or is not there.
        let is_any = |operation: Operation| self.is_one && operation != Operation::Models;
        let recorded = Operation::ALL.into_iter().filter(|o| is_any(*o) || self.of(*o).next().is_some());
        recorded.fold(Operations::NONE, |all, operation| all | operation.into())
    }
}

/// What a call would send, as JSON.
fn asked(call: &Call) -> Result<Option<Value>> {
    if call.operation == Operation::Models {
        return Ok(None);
    }
    let wired = call.wire(&[dialect::openai()])?;
    let wrong = |e| Error::invalid("the request is not valid JSON").because(e);
    serde_json::from_slice(&wired.bytes).map(Some).map_err(wrong)
}

/// Whether two requests are the same, however their numbers are written.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let (one, other) = (one.as_f64().unwrap_or(f64::NAN), other.as_f64().unwrap_or(f64::NAN));
            (one - other).abs() <= 1e-6 * one.abs().max(1.0) // an f32 on its way
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| is_same(one, other)))
        }
        (one, other) => one == other,
    }
}

fn files(place: &Path) -> Result<Vec<PathBuf>> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    let wrong = |e| Error::config(format!("cannot read {}", place.display())).because(e).at("recordings");
    let entries = std::fs::read_dir(place).map_err(wrong)?.take(MOST_FILES);
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect())
}

fn read(path: &Path) -> Result<Recording> {
    let wrong = |why: String| Error::config(format!("cannot read {}: {why}", path.display())).at("recordings");
    let length = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.len();
    if length > LONGEST {
        return Err(wrong(format!("it has more than {LONGEST} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Recording::read(&name, &String::from_utf8_lossy(&bytes)).map_err(|e| e.at("recordings"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> PathBuf {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("llm-replay-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
        folder
    }

    const CHAT: &str = "### curl -X POST http://h/v1/chat/completions -H content-type: application/json -d {\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"temperature\":0}\nHTTP/1.1 200 OK\n\n{\"choices\":[{\"message\":{\"content\":\"hello\"}}]}\n";

    #[tokio::test]
    async fn a_call_is_answered_by_the_recording_of_the_same_request_and_by_no_other() {
        let recordings = folder(&[("chat.txt", CHAT), ("notes.md", "not one")]);
        let replay = Replay::new(Config { recordings: recordings.clone() }).unwrap();
        let ask =
            |temperature: f32| Call::new(ChatRequest::new("hi").model("m").temperature(temperature), Delivery::Whole);
        assert_eq!(replay.call(&ask(0.0)).await.unwrap().chat().await.unwrap().text, "hello");
        let error = replay.call(&ask(1.0)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::NotFound, "nobody recorded this chat; what was recorded: chat")
        );
        let error = replay.call(&Call::new(EmbedRequest::new(["x"]), Delivery::Whole)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        std::fs::remove_dir_all(recordings).unwrap();
    }

    #[test]
    fn what_is_no_recording_is_named() {
        for (text, lacks) in [
            ("", "answer"),
            ("HTTP/1.1 200 OK\n\n", "line `### curl ..`"),
            ("### curl http://h/x\nHTTP/1.1 200 OK", "end of its headers"),
            ("### curl http://h/x\nnonsense\n\n", "status"),
            ("### curl nowhere\nHTTP/1.1 200 OK\n\n", "address"),
        ] {
            let error = Recording::read("r", text).unwrap_err();
            assert_eq!(error.message(), format!("the recording r has no {lacks}"));
        }
        let error = Replay::new(Config { recordings: "/no/such/folder".into() }).err().unwrap().to_string();
        assert!(error.starts_with("recordings: cannot read /no/such/folder"), "{error}");
    }
}
