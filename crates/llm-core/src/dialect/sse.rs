//! Server-sent events: cuts bytes into whole events, whatever the chunking, and copies only what a chunk cuts in two.
use bytes::{Bytes, BytesMut};

use crate::error::{Error, Kind, Result};

/// The longest event that is accepted, in bytes: a hostile upstream must not fill the memory.
pub const MAX_EVENT: usize = 16 << 20;

/// Gives back whole events; what is left over waits for the next chunk.
///
/// ```
/// use llm_core::dialect::sse::Splitter;
/// let mut splitter = Splitter::default();
/// assert_eq!(splitter.push("data: 1\n\ndata: ".into())?, "data: 1\n\n");
/// assert_eq!(splitter.push("2\n\ndata: 3".into())?, "data: 2\n\n");
/// assert_eq!(splitter.finish(), "data: 3");
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Default)]
pub struct Splitter {
    rest: BytesMut,
}

impl Splitter {
    /// All whole events of this chunk and of what was left over, in one piece; empty if there is none.
    ///
    /// # Errors
    /// `Upstream` for an event longer than [`MAX_EVENT`].
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes> {
        if self.rest.is_empty() {
            let end = last_end(&chunk);
            self.rest.extend_from_slice(&chunk[end..]);
            return self.bounded(chunk.slice(..end));
        }
        self.rest.extend_from_slice(&chunk);
        let end = last_end(&self.rest);
        let whole = self.rest.split_to(end).freeze();
        self.bounded(whole)
    }

    /// What came after the last whole event. Some servers forget the blank line after their last one.
    pub fn finish(&mut self) -> Bytes {
        self.rest.split().freeze()
    }

    fn bounded(&self, whole: Bytes) -> Result<Bytes> {
        if self.rest.len() > MAX_EVENT {
            return Err(Error::new(Kind::Upstream, "the upstream sent an event of more than 16 MiB"));
        }
        Ok(whole)
    }
}

/// Where the last whole event ends: after its blank line, in any of the three ways to end a line.
fn last_end(bytes: &[u8]) -> usize {
    // Nearly every chunk ends with its event.
    if bytes.ends_with(b"\n\n") {
        return bytes.len();
    }
    let mut at = bytes.len();
    while let Some(newline) = memchr::memrchr2(b'\n', b'\r', &bytes[..at]) {
        let before = &bytes[..newline];
        let blank = match bytes[newline] {
            b'\n' => before.ends_with(b"\n") || before.ends_with(b"\n\r") || before.ends_with(b"\r\r"),
            // A lone \r may be the first half of \r\n: wait for the next byte, unless it is here.
            _ => before.ends_with(b"\r") && newline + 1 < bytes.len(),
        };
        if blank {
            return newline + 1;
        }
        at = newline;
    }
    0
}

/// The events in bytes that are whole; each with its blank line.
///
/// ```
/// let events: Vec<&[u8]> = llm_core::dialect::sse::events(b"data: 1\n\ndata: 2\r\n\r\n").collect();
/// assert_eq!(events, [&b"data: 1\n\n"[..], b"data: 2\r\n\r\n"]);
/// ```
pub fn events(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (event, tail) = rest.split_at(first_end(rest));
        rest = tail;
        Some(event)
    })
}

fn first_end(bytes: &[u8]) -> usize {
    let mut from = 0;
    while let Some(found) = memchr::memchr2(b'\n', b'\r', &bytes[from..]) {
        let mut at = from + found;
        at += line_end(&bytes[at..]);
        let blank = line_end(&bytes[at..]);
        if blank > 0 {
            return at + blank;
        }
        from = at;
    }
    bytes.len()
}

/// The length of the line end that stands here: 0, 1 or 2.
fn line_end(bytes: &[u8]) -> usize {
    match bytes {
        [b'\r', b'\n', ..] => 2,
        [b'\n' | b'\r', ..] => 1,
        _ => 0,
    }
}

/// The data of one event; `None` for a comment. Several `data:` lines are joined as the standard says.
///
/// ```
/// use llm_core::dialect::sse::data;
/// assert_eq!(data(b"data: 1\n\n").as_deref(), Some(&b"1"[..]));
/// assert_eq!(data(b": nothing but a comment\n\n"), None);
/// ```
pub fn data(event: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    // Nearly every event is one line.
    let line = memchr::memchr2(b'\n', b'\r', event).unwrap_or(event.len());
    if event.starts_with(b"data:") && event[line..].iter().all(|b| matches!(b, b'\n' | b'\r')) {
        return Some(event[5..line].strip_prefix(b" ").unwrap_or(&event[5..line]).into());
    }
    let mut lines = event
        .split(|b| matches!(b, b'\n' | b'\r'))
        .filter_map(|line| line.strip_prefix(b"data:"))
        .map(|value| value.strip_prefix(b" ").unwrap_or(value));
    let first = lines.next()?;
    let Some(second) = lines.next() else { return Some(first.into()) };
    let mut joined = [first, second].join(&b'\n');
    for line in lines {
        joined.push(b'\n');
        joined.extend_from_slice(line);
    }
    Some(joined.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str =
        ": hello\n\ndata: {\"a\":\"\\n\"}\n\nevent: x\ndata: é\ndata: two\r\n\r\ndata: cr\r\rid: 1\ndata: [DONE]\n\n";

    fn all(chunks: impl Iterator<Item = Bytes>) -> Vec<String> {
        let mut splitter = Splitter::default();
        let mut out = Vec::new();
        let mut take = |whole: &[u8]| {
            out.extend(events(whole).filter_map(data).map(|d| String::from_utf8(d.into_owned()).unwrap()));
        };
        chunks.for_each(|c| take(&splitter.push(c).unwrap()));
        take(&splitter.finish());
        out
    }

    #[test]
    fn events_come_out_right_byte_by_byte() {
        let bytes = STREAM.bytes().map(|b| Bytes::copy_from_slice(&[b]));
        assert_eq!(all(bytes), ["{\"a\":\"\\n\"}", "é\ntwo", "cr", "[DONE]"]);
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
            prop_assert_eq!(all(chunks), ["{\"a\":\"\\n\"}", "é\ntwo", "cr", "[DONE]"]);
        }
    }
}
