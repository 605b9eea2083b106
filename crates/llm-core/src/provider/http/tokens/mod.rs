//! Counts a host's tokens here: where its API has no route for it, or where the configuration has its tokenizer.
#[cfg(feature = "hf-tokens")]
mod folder;
#[cfg(feature = "hf-tokens")]
mod hugging_face;
#[cfg(feature = "hf-tokens")]
mod template;
#[cfg(all(test, feature = "hf-tokens"))]
mod tests;
#[cfg(feature = "openai-tokens")]
pub(in crate::provider) mod tiktoken;

use std::path::Path;
use std::sync::Arc;

use crate::call::*;
use crate::error::{Error, Result};

/// Counts with what the setting `tokenizer` names: the folder of a Hugging Face model, or its `tokenizer.json`.
#[cfg(feature = "hf-tokens")]
pub(in crate::provider) fn of_path(inner: Arc<dyn Provider>, path: &Path) -> Result<Arc<dyn Provider>> {
    Ok(Counted::around(inner, hugging_face::HuggingFace::open(path)?))
}

/// This build has nothing that could read it.
#[cfg(not(feature = "hf-tokens"))]
pub(in crate::provider) fn of_path(_: Arc<dyn Provider>, _: &Path) -> Result<Arc<dyn Provider>> {
    Err(Error::config(
        "this build cannot read tokenizers: build it with the feature `hf-tokens`, or leave the setting out",
    ))
}

/// Knows a model's tokens.
#[cfg(any(feature = "hf-tokens", feature = "openai-tokens"))]
pub(in crate::provider) trait Counter: Send + Sync + 'static {
    /// A prompt's tokens; the call is the one that asks for them.
    fn tokens(&self, call: &Call, request: &TokenizeRequest) -> Result<Tokens>;

    /// The text of tokens.
    fn text(&self, request: &DetokenizeRequest) -> Result<String>;
}

/// Answers `Tokenize` and `Detokenize` by itself, and has everything else answered.
#[cfg(any(feature = "hf-tokens", feature = "openai-tokens"))]
pub(in crate::provider) struct Counted<C> {
    inner: Arc<dyn Provider>,
    counter: Arc<C>,
    /// Counting computes, so no more of it runs at once than there are cores.
    turns: Arc<tokio::sync::Semaphore>,
}

#[cfg(any(feature = "hf-tokens", feature = "openai-tokens"))]
impl<C: Counter> Counted<C> {
    pub(in crate::provider) fn around(inner: Arc<dyn Provider>, counter: C) -> Arc<dyn Provider> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Counted { inner, counter: Arc::new(counter), turns: Arc::new(tokio::sync::Semaphore::new(cores)) })
    }

    /// A long text takes a good part of a second: other calls must not wait for it. Who leaves lets it end, which the
    /// longest body bounds, and its turn ends with it.
    async fn answer(&self, call: &Call) -> Result<Reply> {
        let gone = |_| Error::new(crate::Kind::Internal, "the tokens could not be counted");
        let turn = self.turns.clone().acquire_owned().await.expect("the turns are never closed");
        let (counter, call) = (self.counter.clone(), call.clone());
        let count = move || {
            let frame = frame(&*counter, &call);
            drop(turn);
            frame
        };
        Ok(Reply::of(tokio::task::spawn_blocking(count).await.map_err(gone)??))
    }
}

#[cfg(any(feature = "hf-tokens", feature = "openai-tokens"))]
fn frame(counter: &impl Counter, call: &Call) -> Result<Frame> {
    match call.request()? {
        Request::Tokenize(request) => counter.tokens(call, request).map(Frame::Tokens),
        Request::Detokenize(request) => counter.text(request).map(Frame::Text),
        other => Err(Error::new(crate::Kind::Unsupported, format!("a tokenizer cannot {}", other.operation()))),
    }
}

#[cfg(any(feature = "hf-tokens", feature = "openai-tokens"))]
impl<C: Counter> Provider for Counted<C> {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        match call.operation {
            Operation::Tokenize | Operation::Detokenize => Box::pin(self.answer(call)),
            _ => self.inner.call(call),
        }
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.inner)
    }

    fn serves(&self) -> Operations {
        self.inner.serves() | [Operation::Tokenize, Operation::Detokenize].into()
    }
}
