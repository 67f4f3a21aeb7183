//! TLS towards servers: the system's roots, and those that were given.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::OutboundError;

/// A connector that trusts the system's roots and those of `ca_pem`.
///
/// # Errors
/// [`OutboundError::Tls`] when `ca_pem` holds something else than certificates.
pub(super) fn connector(ca_pem: Option<&str>) -> Result<TlsConnector, OutboundError> {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    let mut roots = SYSTEM.get_or_init(system_roots).clone();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(|_| bad_ca())?;
        roots.add(certificate).map_err(|_| bad_ca())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| OutboundError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn bad_ca() -> OutboundError {
    OutboundError::Tls("the given roots hold something else than certificates".to_owned())
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
