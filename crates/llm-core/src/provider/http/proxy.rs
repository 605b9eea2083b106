//! A proxy on the way to a host: plain requests are sent to it whole, TLS goes through a tunnel that it opens.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connect::unreachable;
use crate::error::{Error, Kind, Result};

/// The longest head of a proxy's answer, in bytes.
const LONGEST: usize = 16 << 10;

/// Where a proxy is, and what it wants to know of us.
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authorization: Option<HeaderValue>,
}

impl Proxy {
    /// `http://user:password@host:port`, of which all but the host may be left out.
    ///
    /// # Errors
    /// `Config`; the text is not repeated, as there may be a password in it.
    pub(super) fn parse(text: &str) -> Result<Proxy> {
        let wrong = || Error::config("is no address of a proxy; it should look like http://user:password@host:3128");
        let text = text.trim();
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") {
            return Err(Error::config(
                "only proxies that are reached over http:// are supported; they carry https, too",
            ));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let user = uri.authority().and_then(|a| a.as_str().rsplit_once('@')).map(|(user, _)| user);
        Ok(Proxy { host, port: uri.port_u16().unwrap_or(80), authorization: user.map(basic).transpose()? })
    }

    /// Asks for a tunnel; what is written to the connection afterwards arrives there.
    ///
    /// # Errors
    /// `Unauthorized` if it wants a password, `Unavailable` if it opens none.
    pub(super) async fn tunnel(&self, tcp: &mut TcpStream, to: &str) -> Result<()> {
        let authorization =
            self.authorization.as_ref().map(|value| [b"proxy-authorization: ", value.as_bytes(), b"\r\n"]);
        let head = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n").into_bytes();
        let head = [head, authorization.map(|parts| parts.concat()).unwrap_or_default(), b"\r\n".to_vec()].concat();
        tcp.write_all(&head).await.map_err(|e| unreachable("proxy", e))?;
        match status(tcp).await? {
            200..=299 => Ok(()),
            407 => Err(Error::new(
                Kind::Unauthorized,
                "the proxy wants a user and a password: http://user:password@host:port in `proxy`",
            )),
            status => Err(Error::new(Kind::Unavailable, format!("the proxy opens no tunnel: it answered {status}"))),
        }
    }
}

/// The status of its answer, read to the end of its head.
async fn status(tcp: &mut TcpStream) -> Result<u16> {
    let nonsense = || Error::new(Kind::Unavailable, "the proxy does not speak HTTP as it should");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        // One byte at a time: what follows the head is the host's.
        let byte = tcp.read_u8().await.map_err(|e| unreachable("proxy", e))?;
        answer.push(byte);
        if answer.len() > LONGEST {
            return Err(nonsense());
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    head.parse(&answer).map_err(|_| nonsense())?;
    head.code.ok_or_else(nonsense)
}

fn basic(user: &str) -> Result<HeaderValue> {
    let wrong = |_| Error::config("its user or password has characters that no header may have");
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(decoded(user)))).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

/// `%40` is `@`: a password may hold what an address may not.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (byte, tail.get(..2).and_then(hex)) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_with_and_without_its_parts() {
        let proxy = Proxy::parse("http://me:p%40ss@gate:3128").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("gate", 3128));
        let expected = format!("Basic {}", STANDARD.encode("me:p@ss"));
        assert_eq!(proxy.authorization.unwrap(), expected.as_str());
        let proxy = Proxy::parse("gate").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port, proxy.authorization.is_none()), ("gate", 80, true));
    }

    /// What becomes of a tunnel when a proxy answers this, and what it was asked.
    async fn tunnelled(answer: &str) -> (Result<String>, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        let proxy = Proxy::parse("http://me:pw@gate:3128").unwrap();
        let answers = async {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(there.read_u8().await.unwrap());
            }
            let _ = there.write_all(answer.as_bytes()).await; // it may have heard enough
            there.shutdown().await.unwrap();
            String::from_utf8(asked).unwrap()
        };
        let (opened, asked) = tokio::join!(proxy.tunnel(&mut tcp, "gpu:443"), answers);
        let mut rest = String::new();
        if opened.is_ok() {
            tcp.read_to_string(&mut rest).await.unwrap();
        }
        (opened.map(|()| rest), asked)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_by_name_and_what_follows_the_head_is_the_hosts() {
        let (opened, asked) = tunnelled("HTTP/1.1 200 OK\r\nvia: x\r\n\r\nhello").await;
        assert_eq!(opened.unwrap(), "hello");
        let expected = "CONNECT gpu:443 HTTP/1.1\r\nhost: gpu:443\r\nproxy-authorization: Basic bWU6cHc=\r\n\r\n";
        assert_eq!(asked, expected);
    }

    #[tokio::test]
    async fn a_proxy_that_opens_no_tunnel_says_why_or_is_told_to_speak_plainly() {
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(LONGEST));
        for (answer, kind, says) in [
            ("HTTP/1.1 407 No\r\n\r\n", Kind::Unauthorized, "wants a user and a password"),
            ("HTTP/1.1 503 No\r\n\r\n", Kind::Unavailable, "it answered 503"),
            ("SSH-2.0-x\r\n\r\n", Kind::Unavailable, "does not speak HTTP"),
            (&endless, Kind::Unavailable, "does not speak HTTP"),
            ("", Kind::Unavailable, "the proxy cannot be reached"),
        ] {
            let error = tunnelled(answer).await.0.unwrap_err();
            assert!(error.kind() == kind && error.message().contains(says), "{error:?}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_password() {
        for text in
            ["http://me:s3cret@", "socks5://me:s3cret@gate:1080", "https://me:s3cret@gate", "http://s3cret:x y@z"]
        {
            let error = Proxy::parse(text).err().unwrap().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
