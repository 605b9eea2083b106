//! One answer to make, and the stream on which its client hears it. Dropping the stream is leaving.

use crate::llama::{Abort, Token};
use crate::logprobs::Wanted;
use crate::sampler::Sampler;
use futures_core::Stream;
use llm_core::{Error, Event, Kind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// What is asked, ready for the worker.
pub(crate) struct Ask {
    pub(crate) prompt: Vec<Token>,
    pub(crate) sampler: Sampler,
    /// The most tokens to make; prompt and answer fit the context.
    pub(crate) limit: usize,
    pub(crate) stops: Vec<String>,
    pub(crate) logprobs: Option<Wanted>,
}

pub(crate) struct Job {
    pub(crate) ask: Ask,
    pub(crate) leave: Arc<Leave>,
    out: mpsc::Sender<Result<Event>>,
    // A place among those whom the engine has taken on; free again when the job is gone.
    _place: OwnedSemaphorePermit,
}

impl Job {
    pub(crate) fn new(ask: Ask, place: OwnedSemaphorePermit, abort: &Arc<Abort>) -> (Job, Answer) {
        // Room for the whole answer, so that a client that reads slowly, or not at all, never holds up a slot. The channel
        // takes memory only for what is in it, and `limit` bounds that.
        let (out, events) = mpsc::channel(ask.limit.saturating_mul(2).saturating_add(8).min(mpsc_limit()));
        let leave = Arc::new(Leave { gone: false.into(), inside: false.into(), abort: abort.clone() });
        let answer = Answer { events, leave: leave.clone(), finished: false };
        (Job { ask, leave, out, _place: place }, answer)
    }

    pub(crate) fn tell(&self, event: Event) {
        self.send(Ok(event));
    }

    pub(crate) fn fail(&self, error: Error) {
        self.send(Err(error));
    }

    fn send(&self, event: Result<Event>) {
        // It fails only when the client has left, which the worker notices by itself.
        let _ = self.out.try_send(event);
    }
}

fn mpsc_limit() -> usize {
    tokio::sync::Semaphore::MAX_PERMITS
}

/// Whether the client has left, and whether a decode under way has rows of it.
pub(crate) struct Leave {
    gone: AtomicBool,
    inside: AtomicBool,
    abort: Arc<Abort>,
}

impl Leave {
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(SeqCst)
    }

    /// The worker says so before a decode, and looks at `is_gone` after that: so either it sees that the client has left,
    /// or the client sees that there is a decode to stop.
    pub(crate) fn enter(&self) {
        self.inside.store(true, SeqCst);
    }

    pub(crate) fn exit(&self) {
        self.inside.store(false, SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.gone.store(true, SeqCst);
        if self.inside.load(SeqCst) {
            self.abort.set();
        }
    }
}

/// The answer as it is made; ends after its finish and usage, or after an error.
pub(crate) struct Answer {
    events: mpsc::Receiver<Result<Event>>,
    leave: Arc<Leave>,
    finished: bool,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.leave.leave();
    }
}

impl Stream for Answer {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        let event = std::task::ready!(self.events.poll_recv(cx));
        match &event {
            Some(Ok(Event::Finish(_)) | Err(_)) => self.finished = true,
            // The worker has gone without a word: it panicked.
            None if !std::mem::replace(&mut self.finished, true) => return Poll::Ready(Some(Err(died()))),
            _ => {}
        }
        Poll::Ready(event)
    }
}

fn died() -> Error {
    Error::new(Kind::Internal, "the engine stopped in the middle of the answer; see its status")
}
