//! How a reply ended, and who is told of it.
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use futures_core::Stream;
use futures_util::StreamExt;

use super::answers::*;
use super::frame::*;
use super::reply::Frames;
use crate::error::{DEADLINE, Error, Kind, Result};

/// How a reply ended.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use std::sync::mpsc::channel;
/// use llm_core::{End, Reply};
/// let (told, ends) = channel();
/// let reply = || { let told = told.clone(); Reply::says("hi").on_end(move |end| told.send(end).unwrap()) };
/// reply().chat().await?;
/// assert_eq!(ends.try_recv().unwrap(), End::Finished(None));
/// drop(reply());
/// assert_eq!(ends.try_recv().unwrap(), End::Dropped);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// It came to its end, and cost this much if the server tells.
    Finished(Option<Usage>),
    /// It failed.
    Failed(Kind),
    /// The client left: neither success nor failure.
    Dropped,
}

/// Who is told of the end, the innermost first.
pub(super) type Told = Box<dyn FnOnce(End) + Send>;

/// Those who are told how one frame ended; dropped with it, it was dropped.
#[derive(Default)]
pub(super) struct Listeners(pub(super) Vec<Told>);

impl Listeners {
    pub(super) fn look(mut self, frame: &Frame) {
        let mut seen = Seen::default();
        seen.look(frame);
        self.tell(&seen.end());
    }

    fn tell(&mut self, end: &End) {
        self.0.drain(..).for_each(|told| told(end.clone()));
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.tell(&End::Dropped);
    }
}

/// The error of an answer that breaks off.
pub(crate) fn truncated() -> Error {
    Error::new(Kind::Upstream, "the answer broke off before its end").code("stream_truncated")
}

/// The code of an answer that was given, and is none of those that were asked for.
pub(crate) const INVALID_ANSWER: &str = "upstream_invalid_answer";

/// The error of such an answer, and what it was.
pub(crate) fn invalid_answer(what: &str) -> Error {
    Error::new(Kind::Upstream, what).code(INVALID_ANSWER)
}

/// What frames that went by showed.
#[derive(Default)]
pub(super) struct Seen {
    finished: bool,
    usage: Option<Usage>,
}

impl Seen {
    pub(super) fn look(&mut self, frame: &Frame) {
        match frame {
            Frame::Wire(wire) => {
                self.finished |= wire.glance.is_finished;
                self.usage = wire.glance.usage.or(self.usage);
            }
            Frame::Event(Event::Finish(_)) => self.finished = true,
            Frame::Event(Event::Usage(usage)) => self.usage = Some(*usage),
            Frame::Event(_) => {}
            Frame::Vectors(vectors) => (self.finished, self.usage) = (true, vectors.usage),
            _ => self.finished = true,
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// How it ends if nothing follows.
    fn end(&self) -> End {
        if self.finished { End::Finished(self.usage) } else { End::Dropped }
    }
}

/// Watches frames go by and tells how they ended.
struct Watched {
    below: Option<Frames>,
    told: Option<Told>,
    seen: Seen,
}

pub(super) fn watched(frames: Frames, told: Told) -> Frames {
    Watched { below: Some(frames), told: Some(told), seen: Seen::default() }.boxed()
}

impl Watched {
    /// First what lies below goes, then the end is told: no turn passes on while its work still runs.
    fn tell(&mut self, end: End) {
        self.below = None;
        if let Some(told) = self.told.take() {
            told(end);
        }
    }
}

impl Stream for Watched {
    type Item = Result<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let Some(below) = &mut self.below else { return Poll::Ready(None) };
        let item = std::task::ready!(below.poll_next_unpin(task));
        Poll::Ready(match item {
            Some(Ok(frame)) => {
                self.seen.look(&frame);
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                // Who set a deadline has left when it passed.
                let has_left = error.get_code() == Some(DEADLINE);
                self.tell(if has_left { End::Dropped } else { End::Failed(error.kind()) });
                Some(Err(error))
            }
            None if self.seen.finished => {
                let end = self.seen.end();
                self.tell(end);
                None
            }
            None => {
                self.tell(End::Failed(Kind::Upstream));
                Some(Err(truncated()))
            }
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let end = self.seen.end();
        self.tell(end);
    }
}
