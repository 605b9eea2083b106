//! An answer as HTTP/1.1 has it: its head, and its body in chunks where nobody knows how long it will be.
use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use httpdate::HttpDate;

use crate::ask::{Answer, Payload};

/// Status line and headers, the empty line included.
pub(super) fn head(answer: &Answer, closes: bool, out: &mut BytesMut) {
    out.reserve(512);
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put("HTTP/1.1 ");
    put(answer.status.as_str());
    put(" ");
    put(answer.status.canonical_reason().unwrap_or_default());
    put("\r\ncontent-type: ");
    put(answer.content_type);
    put("\r\nx-request-id: ");
    put(&answer.id);
    match &answer.body {
        Payload::Whole(bytes) => {
            put("\r\ncontent-length: ");
            put(decimal(bytes.len(), &mut [0; 20]));
        }
        Payload::Stream(_) => put("\r\ntransfer-encoding: chunked"),
    }
    put(if closes { "\r\nconnection: close\r\ndate: " } else { "\r\ndate: " });
    with_date(&mut put);
    for (name, value) in &answer.headers {
        for part in [b"\r\n", name.as_str().as_bytes(), b": ", value.as_bytes()] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// A piece of a body; an empty one would be its end.
pub(super) fn chunk(piece: &[u8], out: &mut BytesMut) {
    if piece.is_empty() {
        return;
    }
    out.extend_from_slice(hexadecimal(piece.len(), &mut [0; 16]).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(piece);
    out.extend_from_slice(b"\r\n");
}

/// The end of a body.
pub(super) fn last_chunk(out: &mut BytesMut) {
    out.extend_from_slice(b"0\r\n\r\n");
}

// By hand, for the formatting machinery takes ten times as long.
fn decimal(number: usize, digits: &mut [u8; 20]) -> &str {
    written(number, 10, digits)
}

fn hexadecimal(number: usize, digits: &mut [u8; 16]) -> &str {
    written(number, 16, digits)
}

fn written(mut number: usize, base: usize, digits: &mut [u8]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[number % base];
        number /= base;
        if number == 0 {
            return std::str::from_utf8(&digits[at..]).unwrap_or_default();
        }
    }
}

thread_local! {
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// The time as a date, written anew once a second.
fn with_date(put: &mut impl FnMut(&str)) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(of, date)| {
        if *of != seconds {
            *date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
            *of = seconds;
        }
        put(date);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    #[test]
    fn a_whole_answer_says_how_long_it_is() {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, 7.into())]);
        let body = Payload::Whole(Bytes::from_static(b"{}"));
        let (status, content_type) = (StatusCode::SERVICE_UNAVAILABLE, "application/json");
        let mut out = BytesMut::new();
        head(&Answer { status, content_type, headers, id: "a-1".into(), body }, true, &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let (before, after) = text.split_once("date: ").unwrap();
        assert_eq!(
            before,
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nx-request-id: a-1\r\n\
             content-length: 2\r\nconnection: close\r\n"
        );
        let (date, rest) = after.split_once("\r\n").unwrap();
        assert!(httpdate::parse_http_date(date).is_ok());
        assert_eq!(rest, "retry-after: 7\r\n\r\n");
    }

    #[test]
    fn pieces_say_how_long_they_are_and_an_empty_one_is_not_the_end() {
        let mut out = BytesMut::new();
        ["data: 1\n\n", "", &"x".repeat(255)].iter().for_each(|piece| chunk(piece.as_bytes(), &mut out));
        last_chunk(&mut out);
        assert_eq!(&out[..], format!("9\r\ndata: 1\n\n\r\nff\r\n{}\r\n0\r\n\r\n", "x".repeat(255)).as_bytes());
        assert_eq!((decimal(0, &mut [0; 20]), decimal(1203, &mut [0; 20])), ("0", "1203"));
    }
}
