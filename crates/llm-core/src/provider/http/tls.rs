//! TLS to a host, behind the feature `tls`.
#[cfg(not(feature = "tls"))]
pub(super) use without::Tls;

#[cfg(feature = "tls")]
pub(super) use with::Tls;

#[cfg(not(feature = "tls"))]
mod without {
    use std::path::Path;

    use tokio::net::TcpStream;

    use crate::error::{Error, Result};
    use crate::provider::http::connect::Stream;

    pub(in crate::provider::http) struct Tls;

    impl Tls {
        pub(in crate::provider::http) fn new(_: &str) -> Result<Tls> {
            Err(Error::config("https needs llm-core's feature `tls`"))
        }

        pub(in crate::provider::http) fn trusting(self, _: &Path) -> Result<Tls> {
            Err(Error::config("https needs llm-core's feature `tls`"))
        }

        pub(in crate::provider::http) async fn shake_hands(&self, _: TcpStream) -> Result<Stream> {
            Err(Error::config("https needs llm-core's feature `tls`"))
        }
    }
}

#[cfg(feature = "tls")]
mod with {
    use std::path::Path;
    use std::sync::{Arc, OnceLock};

    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

    use crate::error::{Error, Kind, Result, UNTRUSTED};
    use crate::provider::http::connect::{Stream, unreachable};

    /// Trusts what the system trusts, and whom a file names beside it.
    pub(in crate::provider::http) struct Tls {
        name: ServerName<'static>,
        authorities: Vec<CertificateDer<'static>>,
        connector: OnceLock<TlsConnector>, // reading the system's certificates takes milliseconds: not while building
    }

    impl Tls {
        pub(in crate::provider::http) fn new(host: &str) -> Result<Tls> {
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
            let name = name.map_err(|_| Error::config(format!("{host} is no name for a certificate")))?;
            Ok(Tls { name, authorities: Vec::new(), connector: OnceLock::new() })
        }

        /// The same, trusting the authorities of a PEM file too.
        pub(in crate::provider::http) fn trusting(self, file: &Path) -> Result<Tls> {
            let wrong = |what: String| Error::config(format!("{} {what}", file.display()));
            let text = std::fs::read(file).map_err(|e| wrong(format!("cannot be read: {e}")))?;
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
            let authorities = found.map_err(|e| wrong(format!("is no PEM file: {e}")))?;
            // Whatever calls itself a certificate must be one, while somebody watches.
            let mut store = RootCertStore::empty();
            for authority in &authorities {
                store.add(authority.clone()).map_err(|e| wrong(format!("holds no authority: {e}")))?;
            }
            match authorities.is_empty() {
                true => Err(wrong("holds no certificate; it should begin with -----BEGIN CERTIFICATE-----".into())),
                false => Ok(Tls { authorities, ..self }),
            }
        }

        pub(in crate::provider::http) async fn shake_hands(&self, tcp: TcpStream) -> Result<Stream> {
            let connector = self.connector.get_or_init(|| connector(&self.authorities));
            let stream = connector.connect(self.name.clone(), tcp).await.map_err(refused)?;
            Ok(Stream::Tls(Box::new(stream)))
        }
    }

    fn refused(error: std::io::Error) -> Error {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(rustls::Error::InvalidCertificate(why)) = inner else { return unreachable("upstream", error) };
        let what = format!("the upstream's certificate is not trusted ({why:?}): name its authority in `ca_file`");
        Error::new(Kind::Unavailable, what).code(UNTRUSTED).because(error)
    }

    fn connector(authorities: &[CertificateDer<'static>]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(authorities.iter().cloned());
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}
