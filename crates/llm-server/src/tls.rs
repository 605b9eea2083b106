//! TLS for clients: a certificate and its key from files, read anew with the configuration.
use std::path::Path;
use std::sync::Arc;

use llm_core::{Error, Result};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::Config;

/// What the server shows its clients; `None` if it speaks plainly.
///
/// # Errors
/// `Config`, naming the file that cannot be read or is no certificate or key, or the one that is missing.
pub(crate) fn of(config: &Config) -> Result<Option<Arc<ServerConfig>>> {
    let missing = |what: &str| Err(Error::config("is missing: a certificate and its key belong together").at(what));
    match (&config.tls_cert, &config.tls_key) {
        (None, None) => Ok(None),
        (Some(_), None) => missing("tls_key"),
        (None, Some(_)) => missing("tls_cert"),
        (Some(cert), Some(key)) => read(cert, key).map(Some),
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let wrong = |place, path: &Path, why: &dyn std::fmt::Display| {
        Error::config(format!("{} cannot be used: {why}", path.display())).at(place)
    };
    let certs: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(|e| wrong("tls_cert", cert, &e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong("tls_key", key, &e))?;
    let versions = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e: rustls::Error| wrong("tls_cert", cert, &e))?;
    let built = versions.with_no_client_auth().with_single_cert(certs, private);
    let mut config = built.map_err(|e| wrong("tls_cert", cert, &e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
