//! The head of a request, read where it lies: whether it is a plain question for a model, and how long its body is.
use httparse::{EMPTY_HEADER, Header, Status};

use crate::api::{App, asked};
use crate::ask::{Door, Question};
use crate::asked::Asked;
use crate::proxies::IsTrusted;
use llm_core::{Error, Result};

/// A longer head is no plain one.
const LONGEST: usize = 16 << 10;
const MOST_HEADERS: usize = 64;
/// No client has a reason for more; hyper takes no more headers either.
const FAR_TOO_LONG: usize = 128 << 10;
const FAR_TOO_MANY: usize = 100;

/// What stands at the beginning of what a client has sent.
pub(super) enum Head {
    /// A plain question: its head and its body are so long, in bytes.
    Plain(Question, usize, usize),
    /// Anything else: other routes, wrong keys, chunked bodies, whatever is rare.
    Other,
    /// No request: what is wrong with it.
    Broken(Error),
    /// It is not all there.
    Partial,
}

impl Head {
    pub(super) fn read(bytes: &[u8], app: &App, peer: IsTrusted) -> Head {
        let mut headers = [EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(Status::Complete(length)) => match Head::plain(&request, app, peer) {
                Ok(Some((question, body))) => Head::Plain(question, length, body),
                Ok(None) => Head::Other,
                Err(error) => Head::Broken(error),
            },
            Ok(Status::Partial) if bytes.len() <= LONGEST => Head::Partial,
            _ => Head::rare(bytes),
        }
    }

    /// One that is long, or wrong.
    fn rare(bytes: &[u8]) -> Head {
        let mut headers = vec![EMPTY_HEADER; FAR_TOO_MANY];
        match httparse::Request::new(&mut headers).parse(bytes) {
            Ok(Status::Complete(length)) if length <= FAR_TOO_LONG => Head::Other,
            Ok(Status::Partial) if bytes.len() <= FAR_TOO_LONG => Head::Partial,
            Ok(_) => Head::Broken(too_large(format!("longer than {} KiB", FAR_TOO_LONG >> 10))),
            Err(httparse::Error::TooManyHeaders) => {
                Head::Broken(too_large(format!("of more than {FAR_TOO_MANY} headers")))
            }
            Err(wrong) => Head::Broken(Error::invalid(format!("this is no HTTP request: {wrong}")).code("bad_request")),
        }
    }

    fn plain(request: &httparse::Request<'_, '_>, app: &App, peer: IsTrusted) -> Result<Option<(Question, usize)>> {
        let Some(door) = door(request) else { return Ok(None) };
        let Some(body) = body_length(request.headers)? else { return Ok(None) };
        let is_origin = |header: &Header<'_>| header.name.len() == 6 && header.name.eq_ignore_ascii_case("origin");
        if request.headers.iter().any(is_origin) {
            return Ok(None); // a page
        }
        let headers = request.headers.iter().map(|header| (header.name, header.value));
        let asked = Asked::read(app.proxies.user_header(), headers);
        let Ok(caller) = app.caller(&asked, peer) else { return Ok(None) };
        Ok((body <= app.config.max_body).then(|| (Question::new(door, &asked, caller), body)))
    }
}

fn too_large(how: String) -> Error {
    Error::invalid(format!("the head of the request is {how}")).code("headers_too_large")
}

fn door(request: &httparse::Request<'_, '_>) -> Option<Door> {
    let path = request.path?.split('?').next()?;
    asked(request.method?, path).filter(|_| request.version == Some(1))
}

/// The length of the body, told once and plainly; `None` where a header says that there is more to this request or its
/// connection.
///
/// # Errors
/// `Invalid`: what two readers could understand in two ways is none of ours to understand.
fn body_length(headers: &[Header<'_>]) -> Result<Option<usize>> {
    let wrong = |what: &str| Error::invalid(what).code("bad_request");
    let (mut length, mut is_plain) = (None, true);
    for header in headers {
        let is = |wanted: &str| header.name.eq_ignore_ascii_case(wanted);
        match header.name.len() {
            14 if is("content-length") => {
                let is_number = !header.value.is_empty() && header.value.iter().all(u8::is_ascii_digit);
                let told = std::str::from_utf8(header.value).ok().filter(|_| is_number).and_then(|n| n.parse().ok());
                let told = told.ok_or_else(|| wrong("`content-length` must be one number of bytes"))?;
                match length.replace(told) {
                    Some(other) if other != told => return Err(wrong("`content-length` is told twice, and differs")),
                    other => is_plain &= other.is_none(),
                }
            }
            10 if is("connection") => is_plain &= header.value.eq_ignore_ascii_case(b"keep-alive"),
            17 if is("transfer-encoding") => {
                let last = header.value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
                if !last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(wrong("`transfer-encoding` must end with `chunked`, and nothing else is understood"));
                }
                is_plain = false;
            }
            6 if is("expect") => is_plain = false,
            7 if is("upgrade") || is("trailer") => is_plain = false,
            2 if is("te") => is_plain = false,
            _ => {}
        }
    }
    Ok(length.filter(|_| is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(lines: &[(&'static str, &'static str)]) -> Result<Option<usize>> {
        let header = |(name, value): &(&'static str, &'static str)| Header { name, value: value.as_bytes() };
        body_length(&lines.iter().map(header).collect::<Vec<_>>())
    }

    #[test]
    fn a_body_has_one_length_and_nothing_else_says_where_it_ends() {
        assert_eq!(length(&[("Content-Length", "12"), ("Connection", "Keep-Alive")]).unwrap(), Some(12));
        for more in [
            ("content-length", "12"),
            ("Transfer-Encoding", "chunked"),
            ("connection", "close"),
            ("connection", "keep-alive, upgrade"),
            ("Expect", "100-continue"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
        ] {
            assert_eq!(length(&[("content-length", "12"), more]).unwrap(), None, "{more:?}");
        }
        for wrong in ["", "+12", "-1", "1 2", "0x10", "12,12", "99999999999999999999999"] {
            assert!(length(&[("content-length", wrong)]).is_err(), "{wrong:?}");
        }
        for wrong in [("content-length", "13"), ("transfer-encoding", "chunked, gzip"), ("transfer-encoding", "")] {
            assert!(length(&[("content-length", "12"), wrong]).is_err(), "{wrong:?}");
        }
        assert_eq!(length(&[("host", "x")]).unwrap(), None);
    }
}
