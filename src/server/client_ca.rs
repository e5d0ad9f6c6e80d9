//! Who may vouch for the certificates of those who connect.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::certificate::CertificateError;

const AUTHORITIES: &str = "PEM blocks `CERTIFICATE` of those who sign the certificates of programs";

/// Asks everybody for a certificate by one of the authorities in this file. Who shows none is let on; who shows another's is not, and the
/// handshake ends. Revocation is not looked at: what counts is short lifetimes, or an authority of its own for the gateway.
///
/// # Errors
/// When the file cannot be read, or holds no usable certificate.
pub(super) fn client_verifier(file: &Path) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let wrong = |found: String| CertificateError { file: file.to_owned(), found, expected: AUTHORITIES };
    let text = std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|_| wrong("it is no PEM".to_owned()))?;
        roots.add(certificate).map_err(|_| wrong("it holds no usable certificate".to_owned()))?;
    }
    if roots.is_empty() {
        return Err(wrong("no certificate in it".to_owned()));
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(aws_lc_rs::default_provider()))
        .allow_unauthenticated()
        .build()
        .map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_authorities_is_refused_by_name() {
        let folder = std::env::temp_dir().join(format!("doorward-ca-{}", crate::secret::random_token()));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("ca.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let told = |text: Option<&str>| {
            text.map_or_else(|| drop(std::fs::remove_file(&file)), |text| std::fs::write(&file, text).unwrap());
            client_verifier(&file).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(told(Some(&own)), Ok(()));
        assert_eq!(told(Some(&format!("{own}{own}"))), Ok(()));
        for (text, found) in [
            (None, "cannot be read"),
            (Some(""), "no certificate in it"),
            (Some("hello"), "no certificate in it"),
            (Some(&*key.serialize_pem()), "no certificate in it"),
            (Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "no usable certificate"),
            (Some("-----BEGIN CERTIFICATE-----\nAAAA\n"), "it is no PEM"),
        ] {
            let error = told(text).unwrap_err();
            assert!(error.contains("ca.pem") && error.contains(found), "{text:?}: {error}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
