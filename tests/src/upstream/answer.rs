//! The body of an answer: one piece, or a token at a time, each in a chunk of its own as uvicorn sends them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::seen::Visit;
use super::{Script, shapes};

pub(super) enum Answer {
    Whole(Option<Bytes>),
    Stream(Box<Stream>),
}

/// A stream under way; its `Visit` ends with it.
pub(super) struct Stream {
    script: Script,
    at: usize,
    pace: Option<Interval>,
    visit: Option<Visit>,
}

impl Stream {
    pub(super) fn new(script: Script, visit: Visit) -> Stream {
        let pace = (!script.every.is_zero()).then(|| pace(script.every));
        Stream { script, at: 0, pace, visit: Some(visit) }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.at > self.script.cut_after {
            self.end();
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        if self.at > self.script.hang_after {
            return Poll::Pending; // until the client leaves, which drops this
        }
        if let Some(pace) = self.pace.as_mut().filter(|_| (1..=self.script.chunks).contains(&self.at)) {
            ready!(pace.poll_tick(cx));
        }
        let event = shapes::event(&self.script, self.at);
        self.at += 1;
        if event.is_none() {
            self.end();
        }
        Poll::Ready(event.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn end(&mut self) {
        self.visit.take().into_iter().for_each(Visit::end);
    }
}

/// Streams begin at a phase of their own, or all would speak in the same millisecond.
fn pace(every: std::time::Duration) -> Interval {
    let mut pace = interval_at(Instant::now() + every.mul_f64(fastrand::f64()), every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Answer::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Answer::Stream(stream) => stream.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Answer::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Answer::Stream(_) => SizeHint::default(),
        }
    }
}
