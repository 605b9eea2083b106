//! Frames written for a client: in its dialect, or as they came.
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::StreamExt;

use super::frame::*;
use super::reply::Frames;
use crate::dialect::{Dialect, Writer};
use crate::error::{Error, Kind, Result};

/// Writes frames for a client.
pub(super) struct Written {
    frames: Option<Frames>,
    writer: Option<Box<dyn Writer>>, // none where bytes are passed on
    client: &'static dyn Dialect,
    is_done: bool,
}

impl Written {
    pub(super) fn new(frames: Frames, writer: Option<Box<dyn Writer>>, client: &'static dyn Dialect) -> Written {
        Written { frames: Some(frames), writer, client, is_done: false }
    }

    fn write(&mut self, frame: Frame) -> Result<Bytes> {
        match (&mut self.writer, frame) {
            (None, Frame::Wire(wire)) => {
                self.is_done |= wire.glance.is_done;
                Ok(wire.bytes)
            }
            (None, _) => Err(Error::new(Kind::Internal, "a noun among forwarded bytes")),
            (Some(writer), frame) => {
                let mut out = BytesMut::new();
                writer.write(frame, &mut out)?;
                Ok(out.freeze())
            }
        }
    }

    fn end(&mut self) -> Option<Bytes> {
        self.frames = None;
        let Some(writer) = &mut self.writer else {
            return (!self.is_done).then(|| self.client.last_word());
        };
        let mut out = BytesMut::new();
        Some(match writer.end(&mut out) {
            Ok(()) => out.freeze(),
            Err(error) => self.client.failure(&error),
        })
    }

    fn fail(&mut self, error: &Error) -> Option<Bytes> {
        self.frames = None;
        // After the last word there is nothing to add, whatever went wrong behind it.
        (!self.is_done).then(|| self.client.failure(error))
    }
}

impl Stream for Written {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some(frames) = &mut self.frames else { return Poll::Ready(None) };
            let item = std::task::ready!(frames.poll_next_unpin(task));
            let bytes = match item.map(|frame| frame.and_then(|frame| self.write(frame))) {
                Some(Ok(bytes)) if bytes.is_empty() => continue, // a noun that this dialect has no word for
                Some(Ok(bytes)) => Some(bytes),
                Some(Err(error)) => self.fail(&error),
                None => self.end(),
            };
            return Poll::Ready(bytes);
        }
    }
}
