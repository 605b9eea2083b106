//! The heads of a request and of its answer: of the one, what never changes is written once; of the other, what matters
//! here is kept.
use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::chunks::{Chunks, wrong};
use crate::dialect;

/// The longest head of an answer.
const LONGEST: usize = 64 << 10;
const MOST_HEADERS: usize = 100;
/// Nobody is sent away for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// A request as its bytes. A short body stands behind the head, so that both leave in one write; a long one is not copied.
pub(super) struct Request {
    pub(super) head: Vec<u8>,
    pub(super) body: Bytes,
}

/// A body that is copied rather than written beside its head.
const SHORT: usize = 4 << 10;

impl Request {
    /// `opening` is the request line with the headers that never change.
    pub(super) fn new(opening: &[u8], id: &str, trace: &str, body: Option<Bytes>) -> Request {
        let beside = body.as_ref().map_or(0, Bytes::len);
        let mut head =
            Vec::with_capacity(opening.len() + id.len() + trace.len() + 96 + if beside <= SHORT { beside } else { 0 });
        head.extend_from_slice(opening);
        // An id that could end its line would be a header of the client's own.
        for (name, value) in [("x-request-id: ", id), ("traceparent: ", trace)] {
            if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()) {
                for part in [name, value, "\r\n"] {
                    head.extend_from_slice(part.as_bytes());
                }
            }
        }
        if let Some(body) = &body {
            head.extend_from_slice(b"content-length: ");
            head.extend_from_slice(body.len().to_string().as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let mut body = body.unwrap_or_default();
        if body.len() <= SHORT {
            head.extend_from_slice(&std::mem::take(&mut body));
        }
        Request { head, body }
    }
}

/// The request line and the headers that are the same for every call.
pub(super) fn opening(method: &str, path: &str, headers: &HeaderMap) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// What of an answer's head matters here.
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// How its body is cut, if it is a stream.
    pub(super) streams: Option<dialect::Framing>,
    pub(super) retry_after: Option<Duration>,
    /// What a house of ours tells beside its answer.
    pub(super) warnings: Vec<String>,
    /// Its body is compressed or the like, which no request of ours asks for.
    pub(super) is_encoded: bool,
    /// Asked again, it would say the same.
    pub(super) is_final: bool,
    /// The connection can be used again after the body.
    pub(super) keeps: bool,
    pub(super) framing: Framing,
}

/// How the end of a body is told.
pub(super) enum Framing {
    Length(usize),
    Chunked(Chunks),
    UntilClose,
}

impl Head {
    /// The head that begins the bytes, and its length; `None` if it is not all there. A provisional one (100, 103) is
    /// somebody else's business: see [`Head::is_provisional`].
    ///
    /// # Errors
    /// `InvalidData` for what is no answer.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        match answer.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => Ok(Some((Head::read(&answer)?, length))),
            Ok(httparse::Status::Partial) if bytes.len() <= LONGEST => Ok(None),
            Ok(httparse::Status::Partial) => Err(wrong("the head of the answer has no end")),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    fn read(answer: &httparse::Response<'_, '_>) -> io::Result<Head> {
        let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| wrong("no status"))?;
        let mut head = Head {
            status,
            streams: None,
            retry_after: None,
            warnings: Vec::new(),
            is_encoded: false,
            is_final: false,
            keeps: answer.version == Some(1),
            framing: Framing::UntilClose,
        };
        let (mut length, mut is_chunked) = (None, false);
        for header in answer.headers.iter() {
            let (name, value) = (header.name, header.value.trim_ascii());
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
            if is("content-type") {
                head.streams = dialect::Framing::of(value);
            } else if is("content-length") {
                length = Some(one_length(length, value)?);
            } else if is("transfer-encoding") {
                is_chunked = ends_with(value, b"chunked");
                head.keeps &= is_chunked;
            } else if is("connection") {
                head.keeps = if head.keeps { !starts_with(value, b"close") } else { starts_with(value, b"keep-alive") };
            } else if is("content-encoding") {
                head.is_encoded |= !value.eq_ignore_ascii_case(b"identity");
            } else if is("retry-after-ms") {
                head.retry_after = milliseconds(value).or(head.retry_after); // OpenAI's, and nearer than the other
            } else if is("retry-after") {
                head.retry_after = head.retry_after.or_else(|| wait(value));
            } else if is("x-should-retry") {
                head.is_final |= value.eq_ignore_ascii_case(b"false"); // what OpenAI's own clients heed
            } else if is("x-llm-warning") {
                head.warnings.extend(std::str::from_utf8(value).map(str::to_owned));
            }
        }
        head.framing = match length {
            _ if bodiless(status) => Framing::Length(0),
            _ if is_chunked => Framing::Chunked(Chunks::default()),
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        };
        head.keeps &= !matches!(head.framing, Framing::UntilClose);
        Ok(head)
    }

    /// The answer itself is still to come.
    pub(super) fn is_provisional(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

fn bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Two lengths that differ are how answers are smuggled.
fn one_length(known: Option<usize>, value: &[u8]) -> io::Result<usize> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let length = std::str::from_utf8(value).ok().filter(|_| is_number).and_then(|digits| digits.parse().ok());
    match (known, length) {
        (_, None) => Err(wrong("the answer's length is no number")),
        (Some(known), Some(length)) if known != length => Err(wrong("the answer has two lengths")),
        (_, Some(length)) => Ok(length),
    }
}

/// Seconds or a date (RFC 9110); one that has gone by is no wait.
fn wait(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    match text.parse::<f64>() {
        Ok(seconds) if !seconds.is_finite() => None,
        Ok(seconds) => Duration::try_from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())).ok(),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(SystemTime::now()).unwrap_or_default().min(LONGEST_WAIT))
        }
    }
}

fn milliseconds(value: &[u8]) -> Option<Duration> {
    let milliseconds: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(Duration::from_millis(milliseconds).min(LONGEST_WAIT))
}

fn starts_with(value: &[u8], word: &[u8]) -> bool {
    value.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn ends_with(value: &[u8], word: &[u8]) -> bool {
    value.len() >= word.len() && value[value.len() - word.len()..].eq_ignore_ascii_case(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Head {
        Head::parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn the_end_of_a_body_is_told_in_three_ways() {
        let head = parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-type: Text/Event-Stream; x\r\n\r\n");
        assert!(matches!(head.framing, Framing::Length(5)) && head.keeps);
        assert_eq!(head.streams, Some(dialect::Framing::Events));
        let head = parse("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: gzip, Chunked\r\n\r\n");
        assert!(matches!(head.framing, Framing::Chunked(_)) && head.keeps);
        let head = parse("HTTP/1.1 200 OK\r\n\r\n");
        assert!(matches!(head.framing, Framing::UntilClose) && !head.keeps);
        assert!(matches!(parse("HTTP/1.1 204 No\r\n\r\n").framing, Framing::Length(0)));
    }

    #[test]
    fn a_connection_is_kept_only_by_those_who_say_so() {
        for (text, keeps) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: Close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n", true),
        ] {
            assert_eq!(parse(text).keeps, keeps, "{text}");
        }
        assert!(parse("HTTP/1.1 100 Continue\r\n\r\n").is_provisional());
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_as_a_date() {
        let asked = |value: &str| {
            parse(&format!("HTTP/1.1 503 No\r\nretry-after: {value}\r\n\r\n")).retry_after.map(|wait| wait.as_secs())
        };
        assert_eq!((asked("7"), asked("1.5"), asked("0"), asked("1e12")), (Some(7), Some(1), Some(0), Some(86_400)));
        let date = |time| asked(&httpdate::fmt_http_date(time));
        let soon = date(SystemTime::now() + Duration::from_secs(100)).unwrap();
        assert!((95..=100).contains(&soon), "{soon}");
        assert_eq!(date(SystemTime::now() + 7 * LONGEST_WAIT), Some(86_400));
        assert_eq!(date(SystemTime::now() - LONGEST_WAIT), Some(0));
        for nonsense in ["", "soon", "-5", "nan", "inf", "Sun, 06 Nov"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_half_of_one_is_not() {
        let two = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n";
        for text in ["SSH-2.0\r\n\r\n", two, "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"] {
            assert!(Head::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap().is_none());
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(LONGEST));
        assert!(Head::parse(endless.as_bytes()).is_err());
    }

    #[test]
    fn an_id_can_be_no_header_of_its_own() {
        let request = Request::new(b"GET / HTTP/1.1\r\n", "a\r\nevil: 1", "", None);
        assert_eq!(request.head, b"GET / HTTP/1.1\r\n\r\n");
        let request = Request::new(b"POST / HTTP/1.1\r\n", "a-1", "00-1", Some(Bytes::from_static(b"{}")));
        assert_eq!(
            request.head,
            b"POST / HTTP/1.1\r\nx-request-id: a-1\r\ntraceparent: 00-1\r\ncontent-length: 2\r\n\r\n{}"
        );
    }
}
