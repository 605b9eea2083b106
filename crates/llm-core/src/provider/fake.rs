//! Answers what it is told to, as slowly and as badly as it is told to: for tests, and to try a door without a model.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::Table;

use super::{Kind, defaults, settings};
use crate::call::*;
use crate::error::{Error, Kind as ErrorKind, Result};

/// The registration.
pub const FAKE: Kind = Kind {
    name: "fake",
    about: "says what it is told, for tests and demonstrations",
    build,
    defaults: defaults::<Config>,
};

fn build(table: &Table) -> Result<Arc<dyn Provider>> {
    let config: Config = settings(table)?;
    if config.vector_len == 0 {
        return Err(Error::config("must be at least 1").at("vector_len"));
    }
    Ok(Arc::new(Fake::new(config)))
}

/// How it behaves.
///
/// ```
/// use llm_core::provider::fake::{Config, Fake};
/// let slow = Fake::new(Config { says: "one two".into(), each_ms: 20, ..Config::default() });
/// assert_eq!((slow.calls(), slow.running()), (0, 0));
/// ```
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What it says, a word a frame; empty means the question again.
    pub says: String,
    /// Waits before the first frame, in milliseconds.
    pub first_ms: u64,
    /// Waits before each further frame, in milliseconds.
    pub each_ms: u64,
    /// Fails so many calls before it answers.
    pub failures: u32,
    /// Breaks off after so many frames, without a finish.
    pub breaks_after: Option<usize>,
    /// Answers so many calls at once and refuses the rest as overloaded; 0 means all.
    pub limit: usize,
    /// Says that it is being loaded, always.
    pub loading: bool,
    /// The length of its vectors, at least 1.
    pub vector_len: usize,
    /// Its context window in tokens (a word is a token).
    pub max_model_len: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            says: String::new(),
            first_ms: 0,
            each_ms: 0,
            failures: 0,
            breaks_after: None,
            limit: 0,
            loading: false,
            vector_len: 8,
            max_model_len: 8192,
        }
    }
}

/// A provider that answers what it is told to.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use llm_core::{Call, ChatRequest, Delivery, Provider, provider::fake::Fake};
/// let fake = Fake::says("hi").after_failures(1);
/// let call = Call::new(ChatRequest::new("?"), Delivery::Whole);
/// assert!(fake.call(&call).await.is_err() && fake.call(&call).await.is_ok());
/// assert_eq!((fake.calls(), fake.running()), (2, 0));
/// # }
/// ```
pub struct Fake {
    config: Config,
    failures_left: AtomicU32,
    running: Arc<AtomicUsize>,
    calls: AtomicUsize,
}

impl Fake {
    /// Behaves like this.
    pub fn new(config: Config) -> Fake {
        let failures_left = config.failures.into();
        Fake { config, failures_left, running: Arc::default(), calls: AtomicUsize::new(0) }
    }

    /// Says this.
    pub fn says(text: &str) -> Fake {
        Fake::new(Config { says: text.into(), ..Config::default() })
    }

    /// Fails so many calls before it answers.
    pub fn after_failures(self, failures: u32) -> Fake {
        Fake::new(Config { failures, ..self.config })
    }

    /// How many calls it has seen.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many of its replies are still running.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    fn refusal(&self) -> Option<Error> {
        let failing = |n: u32| n.checked_sub(1);
        if self.config.loading {
            let error = Error::new(ErrorKind::Loading, "the fake model is being loaded");
            return Some(error.retry_after(Duration::from_secs(1)));
        }
        if self.failures_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, failing).is_ok() {
            return Some(Error::new(ErrorKind::Upstream, "the fake fails as it was told to"));
        }
        if self.config.limit > 0 && self.running() >= self.config.limit {
            return Some(Error::new(ErrorKind::Overloaded, "the fake is full").retry_after(Duration::from_secs(1)));
        }
        None
    }

    fn answer(&self, request: &Request) -> Vec<Frame> {
        let words = |text: &str| text.split_inclusive(' ').map(str::to_owned).collect::<Vec<_>>();
        let says = |question: String| if self.config.says.is_empty() { question } else { self.config.says.clone() };
        match request {
            Request::Chat(r) => {
                self.events(words(&says(r.last_text())), words(&r.last_text()).len(), r.sampling.max_tokens)
            }
            Request::Complete(r) => {
                self.events(words(&says(r.prompt.clone())), words(&r.prompt).len(), r.sampling.max_tokens)
            }
            Request::Embed(r) if r.messages.is_empty() => vec![Frame::Vectors(self.vectors(&r.input))],
            Request::Embed(r) => vec![Frame::Vectors(self.vectors(&[shown(&r.messages)]))],
            Request::Rerank(r) => vec![Frame::Ranking(self.ranking(r))],
            Request::Score(r) => vec![Frame::Scores(self.scores(&r.queries, &r.documents))],
            Request::Tokenize(r) => vec![Frame::Tokens(self.tokens(&r.prompt))],
            Request::Detokenize(r) => vec![Frame::Text(r.tokens.iter().map(|t| format!("{t} ")).collect())],
            Request::Models => vec![Frame::Models(vec![self.info()])],
        }
    }

    fn events(&self, words: Vec<String>, prompt: usize, most: Option<u32>) -> Vec<Frame> {
        let most = most.map_or(usize::MAX, |n| n as usize);
        let reason = if words.len() > most { FinishReason::Length } else { FinishReason::Stop };
        let words: Vec<_> = words.into_iter().take(most).collect();
        let usage = Usage { prompt_tokens: prompt as u32, completion_tokens: words.len() as u32, ..Usage::default() };
        let said = words.into_iter().map(Event::Text);
        said.chain([Event::Finish(reason), Event::Usage(usage)]).map(Frame::Event).collect()
    }

    /// Texts that share words have similar vectors.
    fn vectors(&self, input: &[String]) -> Embeddings {
        let length = self.config.vector_len.max(1);
        let bucket = |word: &str| word.bytes().fold(7usize, |h, b| h.wrapping_mul(31) ^ b as usize) % length;
        let vector = |text: &String| {
            let mut v = vec![0f32; length];
            text.split_whitespace().for_each(|w| v[bucket(w)] += 1.0);
            let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            v.into_iter().map(|x| x / norm).collect()
        };
        let words = input.iter().map(|t| t.split_whitespace().count()).sum::<usize>() as u32;
        let usage = Some(Usage { prompt_tokens: words, ..Usage::default() });
        Embeddings { vectors: input.iter().map(vector).collect(), usage, ..Embeddings::default() }
    }

    fn ranking(&self, request: &RerankRequest) -> Ranking {
        let scores = self.scores(&[request.query.clone().into()], &request.documents);
        let ranked = |(index, relevance_score)| Ranked { index, relevance_score, ..Ranked::default() };
        let mut results: Vec<Ranked> = scores.scores.into_iter().enumerate().map(ranked).collect();
        results.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
        results.truncate(request.top_n.map_or(usize::MAX, |n| n as usize));
        Ranking { results, usage: scores.usage, ..Ranking::default() }
    }

    /// How many words they share: the cosine of their vectors.
    fn scores(&self, queries: &[Value], documents: &[Value]) -> Scores {
        let texts = |list: &[Value]| list.iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>();
        let (queries, documents) = (self.vectors(&texts(queries)), self.vectors(&texts(documents)));
        let pairs = documents.vectors.iter().zip(queries.vectors.iter().cycle());
        let scores = pairs.map(|(d, q)| d.iter().zip(q).map(|(a, b)| a * b).sum()).collect();
        Scores { scores, usage: documents.usage, ..Scores::default() }
    }

    fn tokens(&self, prompt: &Prompt) -> Tokens {
        let text = match prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Chat(messages) => messages.iter().map(|m| m.content.text() + " ").collect(),
        };
        let count = text.split_whitespace().count();
        Tokens {
            count,
            max_model_len: Some(self.config.max_model_len),
            tokens: (0..count as u32).collect(),
            ..Tokens::default()
        }
    }

    fn info(&self) -> ModelInfo {
        let extra = serde_json::Map::from_iter([("owned_by".to_owned(), Value::from("fake"))]);
        ModelInfo { id: "fake".into(), max_model_len: Some(self.config.max_model_len), extra }
    }
}

impl Provider for Fake {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::Relaxed);
            if let Some(refusal) = self.refusal() {
                return Err(refusal);
            }
            let frames = self.answer(call.request()?);
            let running = Running::one_more(&self.running);
            let (first, each) = (self.config.first_ms, self.config.each_ms);
            let cut = self.config.breaks_after.unwrap_or(usize::MAX);
            let frames = stream::iter(frames.into_iter().take(cut).enumerate()).then(move |(i, frame)| async move {
                wait(if i == 0 { first } else { each }).await;
                Ok(frame)
            });
            Ok(Reply::begun(frames.boxed()).await?.on_end(move |_| drop(running)))
        })
    }

    fn serves(&self) -> Operations {
        Operations::ALL
    }
}

/// What the messages show: their words, and the addresses of their images.
fn shown(messages: &[Message]) -> String {
    let parts = messages.iter().flat_map(|m| m.content.parts());
    parts.map(|part| part.as_text().or(part.image_url()).unwrap_or_default().to_owned() + " ").collect()
}

async fn wait(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn one_more(running: &Arc<AtomicUsize>) -> Running {
        running.fetch_add(1, Ordering::Relaxed);
        Running(running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn vectors_without_numbers_are_refused_where_they_are_configured_and_panic_nowhere() {
        let error = (FAKE.build)(&"vector_len = 0".parse().unwrap()).err().unwrap();
        assert_eq!((error.to_string(), error.kind()), ("vector_len: must be at least 1".into(), ErrorKind::Config));
        let fake = Fake::new(Config { vector_len: 0, ..Config::default() });
        let call = Call::new(EmbedRequest::new(["a text"]), Delivery::Whole);
        assert!(fake.call(&call).await.is_ok());
    }
}
