//! An upstream's stream as frames: whole events, uncopied, each glanced at once.
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;

use super::inline::Inline;
use crate::call::{Frame, Glance, Wire, truncated};
use crate::dialect::{Dialect, Splitter};
use crate::error::{Error, Kind, Result};

pub(super) struct Events {
    body: Option<Inline>,
    splitter: Splitter,
    dialect: &'static dyn Dialect,
    drop_usage: bool, // the client did not ask for that frame; we did
    has_begun: bool,
    is_finished: bool,
    is_done: bool,
    choices: usize,         // that were asked for
    ended: Vec<u32>,        // of several
    failure: Option<Error>, // met behind good events, which go first
}

impl Events {
    pub(super) fn new(body: Inline, dialect: &'static dyn Dialect, drop_usage: bool, choices: usize) -> Events {
        let (body, splitter) = (Some(body), Splitter::new(dialect.framing()));
        let (has_begun, is_finished, is_done, ended, failure) = Default::default();
        Events { body, splitter, dialect, drop_usage, has_begun, is_finished, is_done, choices, ended, failure }
    }

    /// Whether the end of one choice is the end of all.
    fn is_last(&mut self, event: &[u8]) -> bool {
        let choice = self.dialect.choice(event);
        if !self.ended.contains(&choice) {
            self.ended.push(choice);
        }
        self.ended.len() >= self.choices
    }

    /// The events of one chunk as a frame; `None` if there is nothing to pass on.
    fn frame(&mut self, whole: Bytes) -> Option<Wire> {
        let (mut seen, mut has_data, mut at, mut left_out) = (Glance::default(), false, 0, Vec::new());
        let framing = self.dialect.framing();
        for event in framing.pieces(&whole) {
            if self.is_done {
                left_out.push(at..whole.len()); // nothing follows the last word
                break;
            }
            let glance = self.dialect.glance(event);
            if let Some(failure) = glance.failure {
                self.failure = Some(if has_data || self.has_begun { in_the_middle(failure) } else { failure });
                self.body = None;
                left_out.push(at..whole.len());
                break;
            }
            has_data |= self.has_begun || framing.data(event).is_some();
            seen.is_finished |= glance.is_finished && (self.choices == 1 || glance.is_done || self.is_last(event));
            seen.is_done |= glance.is_done;
            self.is_done |= glance.is_done;
            if let Some(usage) = glance.usage {
                seen.usage = Some(usage);
                if self.drop_usage && self.dialect.is_usage_only(event) {
                    left_out.push(at..at + event.len());
                }
            }
            at += event.len();
        }
        self.is_finished |= seen.is_finished;
        // What has no data is no beginning, a comment or a bare name; later on it keeps the client's line alive.
        if !(has_data || self.has_begun) {
            return None;
        }
        let bytes = without(whole, &left_out);
        let is_empty = bytes.is_empty() && seen.usage.is_none();
        self.has_begun |= !bytes.is_empty();
        (!is_empty).then_some(Wire { bytes, glance: seen })
    }

    /// The last event of a server that forgot what ends it; a piece of an event is dropped.
    fn tail(&mut self) -> Option<Wire> {
        let (tail, framing) = (self.splitter.finish(), self.dialect.framing());
        let data = framing.data(&tail)?;
        let is_whole = data.starts_with(b"[DONE]") || serde_json::from_slice::<serde::de::IgnoredAny>(&data).is_ok();
        is_whole.then(|| [&tail[..], framing.end()].concat().into()).and_then(|whole| self.frame(whole))
    }

    fn end(&mut self) -> Option<Result<Frame>> {
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure));
        }
        self.body.take()?;
        if let Some(wire) = self.tail() {
            self.body = None;
            self.failure = self.failure.take().or((!self.is_finished).then(truncated));
            return Some(Ok(Frame::Wire(wire)));
        }
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure)); // of the last event
        }
        (!self.is_finished).then(|| Err(truncated()))
    }
}

impl Stream for Events {
    type Item = Result<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(self.end()) };
            let chunk = match ready!(body.poll_chunk(cx)) {
                Some(chunk) => chunk.and_then(|chunk| self.splitter.push(chunk)),
                None => return Poll::Ready(self.end()),
            };
            match chunk {
                Ok(whole) if whole.is_empty() => {}
                Ok(whole) => {
                    if let Some(wire) = self.frame(whole) {
                        return Poll::Ready(Some(Ok(Frame::Wire(wire))));
                    }
                }
                Err(error) => {
                    self.body = None;
                    // Behind its finish a broken line loses nothing.
                    return Poll::Ready((!self.is_finished).then_some(Err(error)));
                }
            }
        }
    }
}

/// The key that is refused in mid-stream is this side's, and was good for the beginning: no client can mend it.
fn in_the_middle(failure: Error) -> Error {
    match failure.kind() {
        Kind::Unauthorized => failure.as_kind(Kind::Upstream).code("upstream_key_refused"),
        _ => failure,
    }
}

fn without(whole: Bytes, left_out: &[std::ops::Range<usize>]) -> Bytes {
    if left_out.is_empty() {
        return whole;
    }
    let mut kept = BytesMut::with_capacity(whole.len());
    let mut from = 0;
    for range in left_out {
        kept.extend_from_slice(&whole[from..range.start]);
        from = range.end;
    }
    kept.extend_from_slice(&whole[from..]);
    kept.freeze()
}
