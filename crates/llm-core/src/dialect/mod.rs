//! Dialects: everything that knows a JSON shape, both directions of it in one place.
pub mod openai;
pub mod sse;

use bytes::{Bytes, BytesMut};

use crate::call::{Call, Frame, Glance, Operation, Request};
use crate::error::{Error, Result};

/// Every dialect that clients and hosts may speak. A new one is a file and its line.
pub static DIALECTS: &[&dyn Dialect] = &[
    &openai::OpenAi, // what nearly every host and client speaks
];

/// The dialect that our nouns are nearest to.
pub fn openai() -> &'static dyn Dialect {
    &openai::OpenAi
}

/// A JSON shape over HTTP. All of its methods are pure: bytes in, nouns out, or the other way round.
pub trait Dialect: Send + Sync {
    /// Its name in configuration.
    fn name(&self) -> &'static str;

    /// Where clients post, and where we do: an operation and its path from the root of the host.
    fn paths(&self) -> &'static [(Operation, &'static str)];

    /// A client's body understood.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    fn read(&self, operation: Operation, body: &[u8]) -> Result<Request>;

    /// A call as a body for a host.
    ///
    /// # Errors
    /// `Unsupported` for what the dialect has no words for; the call's own, if it cannot be understood.
    fn write(&self, call: &Call) -> Result<Bytes>;

    /// The same call, asking for what its answer costs, and whether the client did not ask for that itself:
    /// then the extra frame is taken out again.
    ///
    /// # Errors
    /// `Invalid` if the field that asks for it has the wrong type.
    fn with_usage(&self, call: &Call) -> Result<(Call, bool)>;

    /// Understands an upstream's frames.
    fn reader(&self) -> Box<dyn Reader>;

    /// Writes frames for the client of this call.
    fn writer(&self, call: &Call) -> Box<dyn Writer>;

    /// A look at one event of a stream, or at a whole body, that is passed on.
    fn glance(&self, event: &[u8]) -> Glance;

    /// Whether this event says only what the answer cost.
    fn is_usage_only(&self, event: &[u8]) -> bool;

    /// An upstream's refusal understood.
    fn refusal(&self, status: u16, body: &[u8]) -> Error;

    /// Our error as a body for the client.
    fn error(&self, error: &Error) -> Bytes;

    /// Our error as the end of a stream, last word included.
    fn failure(&self, error: &Error) -> Bytes;

    /// What ends a stream.
    fn last_word(&self) -> Bytes;
}

/// Understands the frames of one reply.
pub trait Reader: Send {
    /// Whole events, or one whole body, as nouns.
    ///
    /// # Errors
    /// `Upstream` if they make no sense, or say that the answer failed.
    fn read(&mut self, frame: &[u8], nouns: &mut Vec<Frame>) -> Result<()>;
}

/// Writes the frames of one reply.
pub trait Writer: Send {
    /// One frame; a whole answer is written at its end.
    ///
    /// # Errors
    /// `Internal` for a frame that does not belong to the operation.
    fn write(&mut self, frame: Frame, out: &mut BytesMut) -> Result<()>;

    /// The end: the whole body, or a stream's last word.
    ///
    /// # Errors
    /// `Upstream` if the answer never came to an end.
    fn end(&mut self, out: &mut BytesMut) -> Result<()>;
}
