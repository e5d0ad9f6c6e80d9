//! TLS of the connections that the gateway opens: whom it trusts, and who it is itself. Verification is never off; a pin comes on top of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use zeroize::Zeroizing;

use super::watched::{Looks, Watched};
use crate::secret::{decode_standard, encode_standard, same, sha256};

/// `tls = { … }` of whoever is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM with certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate has to hold, in place of the URL's host.
    pub server_name: Option<ServerName<'static>>,
    /// Our own certificate (RFC 8705), shown where it is asked for.
    pub certificate: Option<OwnCertificate>,
    /// Keys of which the peer has to have one; empty: any.
    pub pins: Vec<Pin>,
}

/// Certificate and key as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCertificate {
    /// The certificate, then its intermediates.
    pub certificate_file: PathBuf,
    /// Its private key, not encrypted.
    pub key_file: PathBuf,
}

/// SHA-256 of a public key as it stands in a certificate (SubjectPublicKeyInfo, DER): `pin-sha256` of RFC 7469 §2.4.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Reads the base64 of RFC 7469 §2.4.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = decode_standard(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| format!("expected the base64 of a SHA-256, 44 characters; found {text:?}"))
    }

    /// Of the key in a certificate.
    ///
    /// # Errors
    /// When it is none that can be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        Ok(Self(sha256(ParsedCertificate::try_from(certificate)?.subject_public_key_info().as_ref())))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_standard(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl OwnCertificate {
    /// Reads both and makes sure that they belong together.
    ///
    /// # Errors
    /// Which file is wrong and how; nothing of a key is quoted.
    pub fn read(&self) -> Result<Arc<CertifiedKey>, String> {
        let (certificate_file, key_file) = (self.certificate_file.display(), self.key_file.display());
        let certificates = CertificateDer::pem_file_iter(&self.certificate_file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = certificates.map_err(|error| format!("certificate_file {certificate_file}: {error}"))?;
        if certificates.is_empty() {
            return Err(format!("certificate_file {certificate_file}: holds no PEM block CERTIFICATE"));
        }
        let text = std::fs::read(&self.key_file).map(Zeroizing::new).map_err(|error| format!("key_file {key_file}: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| format!("key_file {key_file}: holds no PEM block PRIVATE KEY"))?;
        let made = CertifiedKey::from_der(certificates, key, &aws_lc_rs::default_provider());
        made.map(Arc::new).map_err(|error| match error {
            Error::InconsistentKeys(_) => format!("key_file {key_file}: is not the key of {certificate_file}"),
            Error::InvalidCertificate(_) => format!("certificate_file {certificate_file}: holds no usable certificate"),
            error => format!("key_file {key_file}: {error}"),
        })
    }
}

impl TlsSettings {
    /// The TLS side of a call. Reads files, the system's roots among them. The own certificate is read again when its files change; the roots
    /// are not.
    ///
    /// # Errors
    /// What is missing, for the log.
    pub fn client_config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), Arc::clone(&provider));
        let verifier = verifier.build().map_err(|error| error.to_string())?;
        let verifier = Verifier { chain: verifier, pins: self.pins.clone() };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            // What stands there is rustls' own verifier, and more.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some(own) = &self.certificate else { return Ok(builder.with_no_client_auth()) };
        let (files, own) = (vec![own.certificate_file.clone(), own.key_file.clone()], own.clone());
        let mut config = builder.with_client_cert_resolver(Arc::new(Shown(Watched::new(files, move || own.read())?)));
        // A resumed connection would go on as whoever we were before.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// What its files look like now.
    #[must_use]
    pub fn looks(&self) -> Looks {
        let own = self.certificate.as_ref().map(|own| [own.certificate_file.as_path(), own.key_file.as_path()]);
        Looks::at(self.ca_file.as_deref().into_iter().chain(own.into_iter().flatten()))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let system = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // The system's list may hold old certificates that rustls does not take; the others count all the same.
        roots.add_parsable_certificates(system.certs);
        if let Some(file) = &self.ca_file {
            add(&mut roots, file).map_err(|error| format!("ca_file {}: {error}", file.display()))?;
        }
        if roots.is_empty() {
            let why = system.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(format!("no root certificates: the system has none{why}; install ca-certificates or set ca_file"));
        }
        Ok(roots)
    }
}

fn add(roots: &mut RootCertStore, file: &Path) -> Result<(), String> {
    let mut certificates = 0;
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        certificates += 1;
    }
    if certificates == 0 { Err("holds no certificate".to_owned()) } else { Ok(()) }
}

/// Our certificate, whoever asks for one.
struct Shown(Watched<Arc<CertifiedKey>>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _subjects: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The chain to a root, and then the pins.
#[derive(Debug)]
struct Verifier {
    chain: Arc<WebPkiServerVerifier>,
    pins: Vec<Pin>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if self.pins.is_empty() {
            return Ok(verified);
        }
        // The peer's own key alone: whatever else a peer sends along proves nothing.
        let found = Pin::of(end_entity)?;
        if self.pins.iter().any(|pin| same(&pin.0, &found.0)) {
            return Ok(verified);
        }
        tracing::error!(server_name = ?server_name, %found, "the certificate is good, and its key is none of tls.pin_sha256");
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
