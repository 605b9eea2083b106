//! Where a host is, and a connection to it: plain or TLS, straight or by way of a proxy.
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{HeaderValue, Uri};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};

use super::proxy::Proxy;
use super::tls::Tls;
use crate::error::{Error, Kind, Result};

/// So long one address of a host is tried alone.
const HEAD_START: Duration = Duration::from_millis(250);

/// Where a host is, and the way there.
pub(super) struct Target {
    host: String,
    port: u16,
    tls: Option<Tls>,
    proxy: Option<Proxy>,
}

impl Target {
    /// A base URL as its target and the path that stands before every route.
    pub(super) fn parse(base: &str) -> Result<(Target, String)> {
        // There may be a password before the host.
        let shown = base.rsplit_once('@').map_or(base, |(_, host)| host);
        let wrong =
            |what: &str| Error::config(format!("{shown:?} {what}; it should look like http://localhost:8000/v1"));
        let uri: Uri = base.trim().parse().map_err(|_| wrong("is no URL"))?;
        let host = uri.host().ok_or_else(|| wrong("names no host"))?.to_owned();
        let (default_port, tls) = match uri.scheme_str() {
            Some("http") => (80, None),
            Some("https") => (443, Some(Tls::new(&host)?)),
            _ => return Err(wrong("begins with neither http:// nor https://")),
        };
        // Routes bring their own /v1; users write it or leave it out.
        let path = uri.path().trim_end_matches('/');
        let prefix = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        let host = host.trim_matches(['[', ']']).to_owned(); // IPv6
        Ok((Target { host, port: uri.port_u16().unwrap_or(default_port), tls, proxy: None }, prefix))
    }

    /// The same by way of a proxy.
    pub(super) fn through(self, proxy: Option<Proxy>) -> Target {
        Target { proxy, ..self }
    }

    /// The same, trusting the authorities of this file too.
    ///
    /// # Errors
    /// `Config` if there is none in it.
    pub(super) fn trusting(mut self, ca_file: &std::path::Path) -> Result<Target> {
        self.tls = self.tls.map(|tls| tls.trusting(ca_file)).transpose()?;
        Ok(self)
    }

    /// `host:port`.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }

    pub(super) fn host_header(&self) -> Result<HeaderValue> {
        HeaderValue::from_str(&self.authority()).map_err(|_| Error::config("no such host name").at("base_url"))
    }

    /// The proxy that is told in each request where it goes; through a tunnel none is.
    fn telling_proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| self.tls.is_none())
    }

    /// What stands before a request's path.
    pub(super) fn before_path(&self) -> String {
        self.telling_proxy().map(|_| format!("http://{}", self.authority())).unwrap_or_default()
    }

    pub(super) fn proxy_authorization(&self) -> Option<&HeaderValue> {
        self.telling_proxy()?.authorization.as_ref()
    }

    pub(super) async fn connect(&self) -> Result<Stream> {
        let (host, port, who) = match &self.proxy {
            Some(proxy) => (&proxy.host, proxy.port, "proxy"),
            None => (&self.host, self.port, "upstream"),
        };
        let mut tcp = dial(host, port).await.map_err(|e| unreachable(who, e))?;
        tcp.set_nodelay(true).map_err(|e| unreachable(who, e))?; // a token is smaller than a packet
        match (&self.tls, &self.proxy) {
            (None, _) => Ok(Stream::Plain(tcp)),
            (Some(tls), None) => tls.shake_hands(tcp).await,
            (Some(tls), Some(proxy)) => {
                proxy.tunnel(&mut tcp, &self.authority()).await?;
                tls.shake_hands(tcp).await
            }
        }
    }
}

/// A connection to whichever address of a host answers first: where the first is dead, the next is not kept waiting for it
/// (RFC 8305).
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut addresses = lookup_host((host, port)).await?;
    let (mut attempts, mut failed) = (FuturesUnordered::new(), io::ErrorKind::NotFound.into());
    loop {
        let next = addresses.next();
        let has_next = next.is_some();
        attempts.extend(next.map(TcpStream::connect));
        let begun = tokio::select! {
            begun = attempts.next() => begun,
            () = tokio::time::sleep(HEAD_START), if has_next => continue,
        };
        match begun {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failed = error,
            None => return Err(failed),
        }
    }
}

pub(super) fn unreachable(who: &str, error: io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("the {who} refuses connections: is it running?"),
        io::ErrorKind::NotFound | io::ErrorKind::Other => format!("the {who}'s host name is unknown"),
        _ => format!("the {who} cannot be reached"),
    };
    Error::new(Kind::Unavailable, what).because(error)
}

/// A connection's bytes.
pub(super) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

macro_rules! each {
    ($self:ident, $stream:ident => $do:expr) => {
        match $self.get_mut() {
            Stream::Plain($stream) => $do,
            #[cfg(feature = "tls")]
            Stream::Tls($stream) => $do,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write(cx, buf))
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write_vectored(cx, bufs))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whichever_address_answers_is_taken_and_a_name_without_any_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // `localhost` may be ::1 first, where nobody listens.
        assert!(dial("localhost", port).await.is_ok() && dial("127.0.0.1", port).await.is_ok());
        drop(listener);
        assert_eq!(dial("127.0.0.1", port).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(dial("no-such-host.invalid", port).await.is_err());
    }

    #[test]
    fn a_base_url_is_read_with_and_without_v1() {
        for (base, port, prefix) in [
            ("http://localhost:8000", 8000, ""),
            ("http://localhost:8000/v1/", 8000, ""),
            ("http://h/openai/v1", 80, "/openai"),
            ("http://[::1]:9/x", 9, "/x"),
        ] {
            let (target, path) = Target::parse(base).unwrap();
            assert_eq!((target.port, path.as_str()), (port, prefix), "{base}");
        }
        for wrong in ["localhost:8000", "ftp://x", "", "http://"] {
            assert_eq!(Target::parse(wrong).err().unwrap().kind(), Kind::Config, "{wrong}");
        }
    }
}
