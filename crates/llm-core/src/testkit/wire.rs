//! As much of HTTP/1.1 as a server for tests needs.
use memchr::memmem;

/// How long the first request of these bytes is, head and body; `None` while it is not all there.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]);
    let body = text.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    Some(head + body.unwrap_or(0)).filter(|length| bytes.len() >= *length)
}

/// A whole answer with this status, these header lines and this body.
///
/// ```
/// use llm_core::testkit::answer;
/// let bytes = answer("200 OK", "connection: close\r\n", "{}");
/// assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n") && bytes.ends_with(b"\r\n\r\n{}"));
/// ```
pub fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

/// The head of a stream of events that ends when the connection does.
///
/// ```
/// let reply = [llm_core::testkit::events_until_close(), "data: [DONE]\n\n"].concat();
/// assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"));
/// ```
pub fn events_until_close() -> &'static str {
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
}

/// The head of a stream of events in chunks.
///
/// ```
/// use llm_core::testkit::{chunk, events_in_chunks};
/// let reply = [events_in_chunks(), &chunk("data: [DONE]\n\n"), &chunk("")].concat();
/// assert!(reply.ends_with("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"));
/// ```
pub fn events_in_chunks() -> &'static str {
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
}

/// One chunk of a chunked body; an empty one ends it.
///
/// ```
/// assert_eq!(llm_core::testkit::chunk("hello"), "5\r\nhello\r\n");
/// ```
pub fn chunk(bytes: &str) -> String {
    format!("{:x}\r\n{bytes}\r\n", bytes.len())
}
