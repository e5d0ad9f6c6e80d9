//! TLS towards downstream: which versions, which protocols, which certificate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::certificate::{CertificateError, CertificateFiles, Fingerprint};
use super::{ALPN_HTTP1, ALPN_HTTP2};

/// How long a new certificate may lie unseen.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The certificate that is shown to whoever connects; may be exchanged while it is.
pub struct ServerCertificate {
    files: CertificateFiles,
    current: ArcSwap<CertifiedKey>,
}

impl ServerCertificate {
    /// Reads the files for the first time, and remembers what they looked like.
    ///
    /// # Errors
    /// [`CertificateError`] names the file and what was expected of it.
    pub fn load(files: CertificateFiles) -> Result<(Arc<Self>, CertificateWatch), CertificateError> {
        // Before they are read: a change in between is then seen as one.
        let fingerprint = files.fingerprint();
        let current = ArcSwap::from(files.read()?);
        let certificate = Arc::new(Self { files, current });
        let watch = CertificateWatch { certificate: Arc::clone(&certificate), served: fingerprint, refused: None };
        Ok((certificate, watch))
    }

    /// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN, session tickets; no early data, since it can be replayed. `clients` says whose certificates
    /// are asked for; `None`: nobody is asked for one.
    ///
    /// # Errors
    /// When the cryptography is not there.
    pub fn server_config(self: &Arc<Self>, clients: Option<Arc<dyn ClientCertVerifier>>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        config.ticketer = crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
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
    /// Looks every two seconds, until the process ends. To be run in the background of the control runtime.
    pub async fn run(mut self) {
        loop {
            sleep(LOOK_EVERY).await;
            // Off the runtime's threads: the files may lie on a network.
            let looking = spawn_blocking(move || {
                self.look();
                self
            });
            match looking.await {
                Ok(watch) => self = watch,
                // The process is ending.
                Err(_) => return,
            }
        }
    }

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
        match files.read() {
            Ok(key) => {
                self.certificate.current.store(key);
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
