//! The head of a request, read where it lies: whether it is a plain question for a model, and how long its body is.
use httparse::{EMPTY_HEADER, Header, Status};

use crate::api::{App, asked};
use crate::ask::{Door, Question};
use crate::asked::Asked;
use crate::proxies::IsTrusted;

/// A longer head is no plain one.
const LONGEST: usize = 16 << 10;
const MOST_HEADERS: usize = 64;

/// What stands at the beginning of what a client has sent.
pub(super) enum Head {
    /// A plain question: its head and its body are so long, in bytes.
    Plain(Question, usize, usize),
    /// Anything else: other routes, wrong keys, chunked bodies, whatever is wrong or rare.
    Other,
    /// It is not all there.
    Partial,
}

impl Head {
    pub(super) fn read(bytes: &[u8], app: &App, peer: IsTrusted) -> Head {
        let mut headers = [EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(Status::Complete(length)) => match Head::plain(&request, app, peer) {
                Some((question, body)) => Head::Plain(question, length, body),
                None => Head::Other,
            },
            Ok(Status::Partial) if bytes.len() <= LONGEST => Head::Partial,
            _ => Head::Other,
        }
    }

    fn plain(request: &httparse::Request<'_, '_>, app: &App, peer: IsTrusted) -> Option<(Question, usize)> {
        let door = door(request)?;
        let body = body_length(request.headers)?;
        let is_foreign = || request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("origin"));
        if !app.config.cors.is_empty() && is_foreign() {
            return None;
        }
        let headers = request.headers.iter().map(|header| (header.name, header.value));
        let asked = Asked::read(app.proxies.user_header(), headers);
        let caller = app.caller(&asked, peer).ok()?;
        (body <= app.config.max_body).then(|| (Question::new(door, &asked, caller), body))
    }
}

fn door(request: &httparse::Request<'_, '_>) -> Option<Door> {
    let path = request.path?.split('?').next()?;
    asked(request.method?, path).filter(|_| request.version == Some(1))
}

/// The length of the body, told once and plainly; `None` where a header says that there is more to this request or its
/// connection. What two readers could understand in two ways is none of ours to understand.
fn body_length(headers: &[Header<'_>]) -> Option<usize> {
    let mut length = None;
    for header in headers {
        let is = |wanted: &str| header.name.eq_ignore_ascii_case(wanted);
        match header.name.len() {
            14 if is("content-length") => {
                let is_number = !header.value.is_empty() && header.value.iter().all(u8::is_ascii_digit);
                let told = std::str::from_utf8(header.value).ok().filter(|_| is_number)?.parse().ok()?;
                if length.replace(told).is_some() {
                    return None;
                }
            }
            10 if is("connection") && !header.value.eq_ignore_ascii_case(b"keep-alive") => return None,
            17 if is("transfer-encoding") => return None,
            6 if is("expect") => return None,
            7 if is("upgrade") || is("trailer") => return None,
            2 if is("te") => return None,
            _ => {}
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(lines: &[(&'static str, &'static str)]) -> Option<usize> {
        let header = |(name, value): &(&'static str, &'static str)| Header { name, value: value.as_bytes() };
        body_length(&lines.iter().map(header).collect::<Vec<_>>())
    }

    #[test]
    fn a_body_has_one_length_and_nothing_else_says_where_it_ends() {
        assert_eq!(length(&[("Content-Length", "12"), ("Connection", "Keep-Alive")]), Some(12));
        for more in [
            ("content-length", "12"),
            ("content-length", "13"),
            ("Transfer-Encoding", "chunked"),
            ("connection", "close"),
            ("connection", "keep-alive, upgrade"),
            ("Expect", "100-continue"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
        ] {
            assert_eq!(length(&[("content-length", "12"), more]), None, "{more:?}");
        }
        for wrong in ["", "+12", "-1", "1 2", "0x10", "12,12", "99999999999999999999999"] {
            assert_eq!(length(&[("content-length", wrong)]), None, "{wrong:?}");
        }
        assert_eq!(length(&[("host", "x")]), None);
    }
}
