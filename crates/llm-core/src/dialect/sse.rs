//! Server-sent events: where each ends in a stream of bytes, and what it says.
use super::Framing;

/// Where the last whole event ends: after its blank line, in any of the three ways to end a line.
pub(super) fn last_end(bytes: &[u8]) -> usize {
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
    Framing::Events.pieces(bytes)
}

pub(super) fn first_end(bytes: &[u8]) -> usize {
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
