//! Where a host is, and a connection to it: plain, or TLS behind the feature `tls`.
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderValue, Uri};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::error::{Error, Kind, Result};

/// Where a host is.
pub(super) struct Target {
    host: String,
    port: u16,
    tls: Option<Tls>,
}

impl Target {
    /// A base URL as its target and the path that stands before every route.
    pub(super) fn parse(base: &str) -> Result<(Target, String)> {
        let wrong =
            |what: &str| Error::config(format!("{base:?} {what}; it should look like http://localhost:8000/v1"));
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
        Ok((Target { host, port: uri.port_u16().unwrap_or(default_port), tls }, prefix))
    }

    pub(super) fn host_header(&self) -> Result<HeaderValue> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        HeaderValue::from_str(&format!("{host}:{}", self.port))
            .map_err(|_| Error::config("no such host name").at("base_url"))
    }

    pub(super) async fn connect(&self) -> Result<Stream> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?; // a token is smaller than a packet
        match &self.tls {
            None => Ok(Stream::Plain(tcp)),
            Some(tls) => tls.shake_hands(tcp).await,
        }
    }
}

fn unreachable(error: std::io::Error) -> Error {
    let what = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "the upstream refuses connections: is it running?",
        std::io::ErrorKind::NotFound | std::io::ErrorKind::Other => "the upstream's host name is unknown",
        _ => "the upstream cannot be reached",
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
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        each!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write(cx, buf))
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write_vectored(cx, bufs))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        each!(self, s => Pin::new(s).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}

#[cfg(not(feature = "tls"))]
struct Tls;

#[cfg(not(feature = "tls"))]
impl Tls {
    fn new(_: &str) -> Result<Tls> {
        Err(Error::config("https needs llm-core's feature `tls`"))
    }
    async fn shake_hands(&self, _: TcpStream) -> Result<Stream> {
        Err(Error::config("https needs llm-core's feature `tls`"))
    }
}

#[cfg(feature = "tls")]
use tls::Tls;

#[cfg(feature = "tls")]
mod tls {
    use std::sync::{Arc, OnceLock};

    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::{Stream, unreachable};
    use crate::error::{Error, Result};

    /// Trusts what the system trusts, which includes a company's own authority.
    pub(super) struct Tls {
        name: ServerName<'static>,
        connector: OnceLock<TlsConnector>, // reading the certificates takes milliseconds: not while building
    }

    impl Tls {
        pub(super) fn new(host: &str) -> Result<Tls> {
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
            let name = name.map_err(|_| Error::config(format!("{host} is no name for a certificate")))?;
            Ok(Tls { name, connector: OnceLock::new() })
        }

        pub(super) async fn shake_hands(&self, tcp: TcpStream) -> Result<Stream> {
            let connector = self.connector.get_or_init(connector);
            let stream = connector.connect(self.name.clone(), tcp).await.map_err(unreachable)?;
            Ok(Stream::Tls(Box::new(stream)))
        }
    }

    fn connector() -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
