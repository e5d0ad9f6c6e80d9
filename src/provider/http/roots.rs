//! Whom the gateway's own TLS calls trust: the system's root certificates and those of the config.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// The TLS side of a call. Reads files. The error says, for the log, what is missing.
pub(super) fn tls_config(extra: &[PathBuf]) -> Result<ClientConfig, String> {
    let system = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // The system's list may hold old certificates that rustls does not take; the others count all the same.
    roots.add_parsable_certificates(system.certs);
    for file in extra {
        let wrong = |what: String| format!("ca_file {}: {what}", file.display());
        let mut certificates = 0;
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))? {
            roots.add(certificate.map_err(|error| wrong(error.to_string()))?).map_err(|error| wrong(error.to_string()))?;
            certificates += 1;
        }
        if certificates == 0 {
            return Err(wrong("holds no certificate".into()));
        }
    }
    if roots.is_empty() {
        let why = system.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!("no root certificates: the system has none{why}; install ca-certificates or set ca_file"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
