//! TLS on both sides: the public listener's certificate, and the roots that backends are checked against.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use tokio_rustls::TlsAcceptor;

use crate::settings::TlsSettings;

/// The one cryptography provider of the process.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// What a TLS file could not be used for.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file could not be read, or holds no such PEM item.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The parts do not fit together.
    #[error("{0}")]
    Config(#[from] rustls::Error),
}

fn in_file(path: &Path, reason: &dyn fmt::Display) -> TlsError {
    TlsError::File { path: path.display().to_string(), reason: reason.to_string() }
}

fn read(files: &TlsSettings) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| in_file(&files.cert, &error))?;
    if chain.is_empty() {
        return Err(in_file(&files.cert, &"holds no certificate in PEM form"));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| in_file(&files.key, &error))?;
    Ok(CertifiedKey::from_der(chain, key, &provider())?)
}

/// The public listener's side: TLS 1.2 and later, HTTP/2 and HTTP/1.1 by ALPN. Read anew at each call, so that a changed
/// certificate is a new acceptor and running connections keep theirs.
///
/// # Errors
/// When a file cannot be read, holds nothing of its kind, or key and certificate do not belong together.
pub(crate) fn acceptor(files: &TlsSettings) -> Result<TlsAcceptor, TlsError> {
    let key = Arc::new(SingleCertAndKey::from(read(files)?));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(key);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A client configuration that trusts the system's roots and those of `ca_pem`.
pub(crate) fn client(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    match ca_pem {
        None => Ok(match SYSTEM.get() {
            Some(config) => Arc::clone(config),
            None => Arc::clone(SYSTEM.get_or_init({
                let config = with_roots(system_roots())?;
                || config
            })),
        }),
        Some(pem) => {
            let mut roots = system_roots();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| format!("ca: {error}"))?;
                roots.add(certificate).map_err(|error| format!("ca: {error}"))?;
            }
            with_roots(roots)
        }
    }
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a system root certificate could not be read");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

fn with_roots(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The handshake failed or took too long: worth a line only when debugging.
pub(crate) fn handshake_failed(error: &io::Error) {
    tracing::debug!(%error, "TLS handshake failed");
}
