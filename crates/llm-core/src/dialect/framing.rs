//! Framing: cuts a stream's bytes into whole pieces, whatever the chunking, and copies only what a chunk cuts in two.
use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use super::sse;
use crate::error::{Error, Kind, Result};

/// The longest piece that is accepted, in bytes: a hostile upstream must not fill the memory.
const LONGEST: usize = 16 << 20;

/// How the streams of a dialect are cut into pieces.
///
/// ```
/// use llm_core::dialect::Framing;
/// assert_eq!(Framing::of(b"Text/Event-Stream; charset=utf-8"), Some(Framing::Events));
/// assert_eq!((Framing::of(b"application/json"), Framing::Lines.content_type()), (None, "application/x-ndjson"));
/// let said = |framing: Framing, bytes| framing.pieces(bytes).filter_map(|piece| framing.data(piece)).count();
/// assert_eq!(said(Framing::Events, b": a comment\n\ndata: {}\n\n"), 1);
/// assert_eq!(said(Framing::Lines, b"{}\n\n{}\n"), 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// Server-sent events, each with a blank line behind it.
    #[default]
    Events,
    /// One JSON object a line.
    Lines,
}

impl Framing {
    /// The content type that announces it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Framing::Events => "text/event-stream",
            Framing::Lines => "application/x-ndjson",
        }
    }

    /// What a content type announces, if it is a stream.
    pub fn of(content_type: &[u8]) -> Option<Framing> {
        [Framing::Events, Framing::Lines].into_iter().find(|framing| {
            let name = framing.content_type().as_bytes();
            content_type.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        })
    }

    /// The pieces in bytes that are whole; each with what ends it.
    pub fn pieces(self, bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (piece, tail) = rest.split_at(self.first_end(rest));
            rest = tail;
            Some(piece)
        })
    }

    /// The data of one piece; `None` for a comment or an empty line.
    pub fn data(self, piece: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Framing::Events => sse::data(piece),
            Framing::Lines => Some(piece.trim_ascii()).filter(|line| !line.is_empty()).map(Cow::Borrowed),
        }
    }

    /// What stands behind a piece.
    pub(crate) const fn end(self) -> &'static [u8] {
        match self {
            Framing::Events => b"\n\n",
            Framing::Lines => b"\n",
        }
    }

    fn first_end(self, bytes: &[u8]) -> usize {
        match self {
            Framing::Events => sse::first_end(bytes),
            Framing::Lines => memchr::memchr(b'\n', bytes).map_or(bytes.len(), |newline| newline + 1),
        }
    }

    fn last_end(self, bytes: &[u8]) -> usize {
        match self {
            Framing::Events => sse::last_end(bytes),
            Framing::Lines => memchr::memrchr(b'\n', bytes).map_or(0, |newline| newline + 1),
        }
    }
}

/// May stand before all else, and says nothing.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Gives back whole pieces; what is left over waits for the next chunk.
#[derive(Default)]
pub(crate) struct Splitter {
    framing: Framing,
    rest: BytesMut,
    has_begun: bool, // behind the mark
}

impl Splitter {
    /// For streams of this framing.
    pub(crate) fn new(framing: Framing) -> Splitter {
        Splitter { framing, ..Splitter::default() }
    }

    /// All whole pieces of this chunk and of what was left over, in one; empty if there is none.
    ///
    /// # Errors
    /// `Upstream` for a piece longer than [`LONGEST`].
    pub(crate) fn push(&mut self, chunk: Bytes) -> Result<Bytes> {
        let chunk = if self.has_begun { chunk } else { self.begin(chunk) };
        if self.rest.is_empty() {
            let end = self.framing.last_end(&chunk);
            self.rest.extend_from_slice(&chunk[end..]);
            return self.bounded(chunk.slice(..end));
        }
        self.rest.extend_from_slice(&chunk);
        let end = self.framing.last_end(&self.rest);
        let whole = self.rest.split_to(end).freeze();
        self.bounded(whole)
    }

    /// All that came so far, without the mark; nothing while it may still be one.
    fn begin(&mut self, chunk: Bytes) -> Bytes {
        if self.rest.is_empty() && chunk.first().is_some_and(|first| *first != BYTE_ORDER_MARK[0]) {
            self.has_begun = true;
            return chunk;
        }
        self.rest.extend_from_slice(&chunk);
        if BYTE_ORDER_MARK.starts_with(&self.rest) && self.rest.len() < BYTE_ORDER_MARK.len() {
            return Bytes::new();
        }
        self.has_begun = true;
        let mut all = self.rest.split().freeze();
        if all.starts_with(BYTE_ORDER_MARK) {
            let _ = all.split_to(BYTE_ORDER_MARK.len());
        }
        all
    }

    /// What came after the last whole piece. Some servers forget what ends their last one.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.rest.split().freeze()
    }

    fn bounded(&self, whole: Bytes) -> Result<Bytes> {
        if self.rest.len() > LONGEST {
            return Err(Error::new(Kind::Upstream, "the upstream sent an event of more than 16 MiB"));
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINES: &str = "{\"a\":\"\\n\"}\n\n{\"é\":1}\r\n{\"done\":true}\n";
    const STREAM: &str =
        ": hello\n\ndata: {\"a\":\"\\n\"}\n\nevent: x\ndata: é\ndata: two\r\n\r\ndata: cr\r\rid: 1\ndata: [DONE]\n\n";

    fn all(framing: Framing, chunks: impl Iterator<Item = Bytes>) -> Vec<String> {
        let mut splitter = Splitter::new(framing);
        let mut out = Vec::new();
        let mut take = |whole: &[u8]| {
            let data = framing.pieces(whole).filter_map(|piece| framing.data(piece));
            out.extend(data.map(|d| String::from_utf8(d.into_owned()).unwrap()));
        };
        chunks.for_each(|c| take(&splitter.push(c).unwrap()));
        take(&splitter.finish());
        out
    }

    #[test]
    fn events_come_out_right_byte_by_byte() {
        let bytes = STREAM.bytes().map(|b| Bytes::copy_from_slice(&[b]));
        assert_eq!(all(Framing::Events, bytes), ["{\"a\":\"\\n\"}", "é\ntwo", "cr", "[DONE]"]);
    }

    #[test]
    fn lines_come_out_right_wherever_they_are_cut() {
        for size in 1..=LINES.len() {
            let chunks = LINES.as_bytes().chunks(size).map(Bytes::copy_from_slice);
            assert_eq!(all(Framing::Lines, chunks), ["{\"a\":\"\\n\"}", "{\"é\":1}", "{\"done\":true}"]);
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_piece() {
        for marked in [format!("\u{feff}{STREAM}"), STREAM.to_owned()] {
            for size in 1..=5 {
                let chunks = marked.as_bytes().chunks(size).map(Bytes::copy_from_slice);
                assert_eq!(all(Framing::Events, chunks), ["{\"a\":\"\\n\"}", "é\ntwo", "cr", "[DONE]"]);
            }
        }
        let inside = ["data: \u{feff}\n\n", "data: ï\n\n"].map(|event| Bytes::copy_from_slice(event.as_bytes()));
        assert_eq!(all(Framing::Events, inside.into_iter()), ["\u{feff}", "ï"]);
    }

    #[test]
    fn a_whole_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"data: 1\n\ndata: 2\n\n");
        let whole = Splitter::default().push(chunk.clone()).unwrap();
        assert_eq!(whole.as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut splitter = Splitter::default();
        let chunk = Bytes::from(vec![b'x'; 1 << 20]);
        assert!((0..20).any(|_| splitter.push(chunk.clone()).is_err()));
    }

    proptest! {
        #[test]
        fn the_chunking_never_matters(cuts in prop::collection::vec(0usize..110, 0..12)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c % STREAM.len()).collect();
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|w| Bytes::copy_from_slice(&STREAM.as_bytes()[w[0]..w[1]]));
            prop_assert_eq!(all(Framing::Events, chunks), ["{\"a\":\"\\n\"}", "é\ntwo", "cr", "[DONE]"]);
        }
    }
}
