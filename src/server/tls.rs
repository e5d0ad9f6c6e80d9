//! The certificates that are shown to whoever connects, each exchanged when its files change.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{CertificateError, CertificateFiles, Fingerprint};
use super::server_names::ServerNames;

/// How long a new certificate may lie unseen.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A certificate that is shown to whoever connects; may be exchanged while it is.
pub struct ServerCertificate {
    files: CertificateFiles,
    current: ArcSwap<Shown>,
}

/// A certificate with its key, and whose it is.
pub(super) struct Shown {
    key: Arc<CertifiedKey>,
    names: ServerNames,
}

impl Shown {
    fn read(files: &CertificateFiles) -> Result<Self, CertificateError> {
        let key = files.read()?;
        Ok(Self { names: ServerNames::of_key(&key), key })
    }
}

impl ServerCertificate {
    /// Reads the files for the first time, and remembers what they looked like.
    ///
    /// # Errors
    /// [`CertificateError`] names the file and what was expected of it.
    pub fn load(files: CertificateFiles) -> Result<(Arc<Self>, CertificateWatch), CertificateError> {
        // Before they are read: a change in between is then seen as one.
        let fingerprint = files.fingerprint();
        let current = ArcSwap::from_pointee(Shown::read(&files)?);
        let certificate = Arc::new(Self { files, current });
        let watch = CertificateWatch { certificate: Arc::clone(&certificate), served: fingerprint, refused: None };
        Ok((certificate, watch))
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Chooses by the name that whoever connects asks for (SNI, RFC 6066 §3): the one that names it exactly, else the one that covers it with a
/// `*`, else, and where no name is asked for, the first. What the name says counts for nothing else: requests go by their authority.
#[derive(Debug)]
pub(super) struct ByName(pub(super) Vec<Arc<ServerCertificate>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let first = self.0.first()?;
        let named = match hello.server_name() {
            Some(name) if self.0.len() > 1 => self.named(&name.to_ascii_lowercase()),
            _ => None,
        };
        Some(Arc::clone(&named.unwrap_or_else(|| first.current.load_full()).key))
    }
}

impl ByName {
    fn named(&self, name: &str) -> Option<Arc<Shown>> {
        let all = || self.0.iter().map(|certificate| certificate.current.load_full());
        all().find(|shown| shown.names.hold(name)).or_else(|| all().find(|shown| shown.names.cover(name)))
    }
}

/// Notices when the files change.
pub struct CertificateWatch {
    certificate: Arc<ServerCertificate>,
    /// What the files looked like that are being served.
    served: Fingerprint,
    /// What they looked like when they were last refused, and whether that was told.
    refused: Option<(Fingerprint, Told)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    NotYet,
    Yes,
}

/// What a look at the files brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They are as they were.
    Same,
    /// New ones are served.
    Exchanged,
    /// They are no good; the old certificate goes on.
    Refused,
}

impl CertificateWatch {
    pub(super) fn look(&mut self) -> Look {
        let files = &self.certificate.files;
        let fingerprint = files.fingerprint();
        if fingerprint == self.served {
            self.refused = None;
            return Look::Same;
        }
        if self.refused.as_ref().is_some_and(|(before, told)| *before == fingerprint && *told == Told::Yes) {
            return Look::Refused;
        }
        match Shown::read(files) {
            Ok(shown) => {
                self.certificate.current.store(Arc::new(shown));
                self.served = fingerprint;
                self.refused = None;
                tracing::info!(certificate_file = files.certificate_file.display().to_string(), "a new certificate is served");
                Look::Exchanged
            }
            Err(error) => {
                // Two files cannot be replaced at once: what is wrong must stay wrong until the next look before it is worth a word.
                let told = match self.refused.take() {
                    Some((before, told)) if before == fingerprint => {
                        if told == Told::NotYet {
                            tracing::error!(error = error.to_string(), "the new certificate is refused; the old one goes on");
                        }
                        Told::Yes
                    }
                    _ => Told::NotYet,
                };
                self.refused = Some((fingerprint, told));
                Look::Refused
            }
        }
    }
}
