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
    use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};

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
        // Its details are names of machines.
        let (why, remedy) = match why {
            CertificateError::UnknownIssuer => ("nobody here knows its issuer", "name its authority in `ca_file`"),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => ("it has expired", "renew it there"),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ("it is not valid yet", "look at both clocks")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ("it is for another name", "use one of its names in `base_url`")
            }
            _ => ("it is wrong", "name its authority in `ca_file`"),
        };
        let what = format!("the upstream's certificate is not trusted, as {why}: {remedy}");
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

#[cfg(feature = "tls")]
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

    use super::Tls;
    use crate::error::{Kind, UNTRUSTED};

    /// A host that says hello over TLS, and the certificate that it shows.
    async fn host() -> (TcpStream, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let versions = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = versions.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(tcp).await {
                stream.write_all(b"hello").await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        (TcpStream::connect(address).await.unwrap(), made.cert.pem())
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[tokio::test]
    async fn who_is_named_in_the_file_is_trusted_and_nobody_else_is() {
        let (tcp, pem) = host().await;
        let tls = Tls::new("localhost").unwrap().trusting(file(&pem).path()).unwrap();
        let (mut stream, mut said) = (tls.shake_hands(tcp).await.unwrap(), String::new());
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello");
        let (other, _) = host().await;
        let error = tls.shake_hands(other).await.err().unwrap();
        assert_eq!((error.kind(), error.get_code()), (Kind::Unavailable, Some(UNTRUSTED)));
        let (renamed, pem) = host().await;
        let elsewhere = Tls::new("127.0.0.1").unwrap().trusting(file(&pem).path()).unwrap();
        let error = elsewhere.shake_hands(renamed).await.err().unwrap();
        assert_eq!(error.get_code(), Some(UNTRUSTED));
        assert!(error.message().contains("it is for another name") && !error.message().contains("127."), "{error}");
    }

    #[tokio::test]
    async fn one_that_does_not_speak_tls_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        let answers = async {
            there.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            drop(there);
        };
        let tls = Tls::new("[::1]").unwrap();
        let (shaken, ()) = tokio::join!(tls.shake_hands(tcp), answers);
        assert_eq!(shaken.err().unwrap().message(), "the upstream cannot be reached");
    }

    #[test]
    fn a_file_that_is_no_authority_is_told_so() {
        let half = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        let none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, says) in [("", "holds no certificate"), (half, "is no PEM file"), (none, "holds no authority")] {
            let error = Tls::new("localhost").unwrap().trusting(file(text).path()).err().unwrap();
            assert!(error.message().contains(says), "{error}");
        }
        assert!(Tls::new("no name").err().unwrap().message().contains("is no name for a certificate"));
    }
}
