//! What TLS the listeners speak: made from files, exchanged while connections are open.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, SupportedProtocolVersion, crypto};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::certificate::{CertificateError, CertificateFiles, FileLook};
use super::client_ca::client_verifier;
use super::tls::{ByName, CertificateWatch, LOOK_EVERY, ServerCertificate};
use super::{ALPN_HTTP1, ALPN_HTTP2};

/// The TLS that listeners speak, or none. Clones are the same switch; what is put in counts for new connections.
#[derive(Clone, Debug)]
pub struct TlsSwitch(Arc<ArcSwapOption<ServerConfig>>);

impl TlsSwitch {
    /// With these settings; `None`: no TLS.
    #[must_use]
    pub fn new(config: Option<Arc<ServerConfig>>) -> Self {
        Self(Arc::new(ArcSwapOption::from(config)))
    }

    /// From now on these.
    pub fn set(&self, config: Option<Arc<ServerConfig>>) {
        self.0.store(config);
    }

    /// What counts now.
    #[must_use]
    pub fn current(&self) -> Option<Arc<ServerConfig>> {
        self.0.load_full()
    }
}

/// The oldest TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), and 1.3.
    Tls12,
    /// TLS 1.3 (RFC 8446) alone.
    Tls13,
}

impl TlsVersion {
    fn and_later(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Tls12 => vec![&rustls::version::TLS13, &rustls::version::TLS12],
            Self::Tls13 => vec![&rustls::version::TLS13],
        }
    }
}

/// What `[tls]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// At least one; the first is for whoever asks for no name or for one that is in none.
    pub certificates: Vec<CertificateFiles>,
    /// Whoever connects is asked for a certificate by one of these authorities, under whatever name: connections are used for several (RFC
    /// 9113 §9.1.1), so that what differed by name would hold for no request.
    pub client_ca_file: Option<PathBuf>,
    /// The oldest version.
    pub min_version: TlsVersion,
}

/// TLS as `[tls]` says, read from its files and kept as they change.
pub struct ServerTls {
    config: Arc<ServerConfig>,
    watch: Watch,
}

struct Watch {
    certificates: Vec<CertificateWatch>,
    shown: Vec<Arc<ServerCertificate>>,
    /// The file of authorities, and what it looked like when it was read.
    clients: Option<(PathBuf, Option<FileLook>)>,
    min_version: TlsVersion,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`CertificateError`] names the file and what was expected of it.
    pub fn load(settings: TlsSettings) -> Result<Self, CertificateError> {
        let TlsSettings { certificates, client_ca_file, min_version } = settings;
        let loaded = certificates.into_iter().map(ServerCertificate::load).collect::<Result<Vec<_>, _>>()?;
        let (shown, certificates) = loaded.into_iter().unzip();
        let clients = client_ca_file.map(|file| {
            // Looked at before it is read: what is written in between is found the next time.
            let look = FileLook::at(&file);
            (file, look)
        });
        let watch = Watch { certificates, shown, clients, min_version };
        let config = watch.config()?;
        Ok(Self { config, watch })
    }

    /// What it says now.
    #[must_use]
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Puts it in, for new connections, and keeps it as its files change until another is put in or the process ends. To be run in the
    /// background of the control runtime; what it has put in counts when this returns.
    pub fn keep_in(self, switch: &TlsSwitch) -> impl Future<Output = ()> + Send + use<> {
        let Self { mut config, mut watch } = self;
        switch.set(Some(Arc::clone(&config)));
        let switch = switch.clone();
        async move {
            loop {
                sleep(LOOK_EVERY).await;
                let current = switch.current();
                if !current.is_some_and(|current| Arc::ptr_eq(&current, &config)) {
                    return;
                }
                // Off the runtime's threads: the files may lie on a network.
                let looking = spawn_blocking(move || {
                    let changed = watch.look();
                    (watch, changed)
                });
                // It fails when the process is ending.
                let Ok((looked, changed)) = looking.await else { return };
                watch = looked;
                if let Some(changed) = changed {
                    // Another may have been put in meanwhile: it stays.
                    let before = switch.0.compare_and_swap(&Some(config), Some(Arc::clone(&changed)));
                    drop(before);
                    config = changed;
                }
            }
        }
    }
}

impl Watch {
    /// Looks at all files. New certificates count from now on; with new authorities there are new settings, and the tickets of the old ones
    /// open nothing: whoever showed a certificate that counts no more is not let on by having shown it before.
    fn look(&mut self) -> Option<Arc<ServerConfig>> {
        for certificate in &mut self.certificates {
            certificate.look();
        }
        let (file, before) = self.clients.as_mut()?;
        let look = FileLook::at(file);
        if look == *before {
            return None;
        }
        *before = look;
        let file = file.display().to_string();
        match self.config() {
            Ok(config) => {
                tracing::info!(client_ca_file = file, "the authorities of client certificates were read again");
                Some(config)
            }
            Err(error) => {
                tracing::error!(%error, "the new authorities of client certificates are refused; the old ones go on");
                None
            }
        }
    }

    /// HTTP/2 and HTTP/1.1 by ALPN, session tickets; no early data, since it can be replayed.
    fn config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let verifier = self.clients.as_ref().map(|(file, _)| client_verifier(file)).transpose()?;
        server_config(self.shown.clone(), verifier, self.min_version).map_err(|error| CertificateError {
            file: self.clients.as_ref().map_or(Path::new("TLS"), |(file, _)| file).to_owned(),
            found: error.to_string(),
            expected: "settings that the cryptography takes",
        })
    }
}

pub(super) fn server_config(
    shown: Vec<Arc<ServerCertificate>>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    min_version: TlsVersion,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&min_version.and_later())?
        .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_cert_resolver(Arc::new(ByName(shown)));
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    config.ticketer = crypto::aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("certificates", &self.watch.shown).field("clients", &self.watch.clients).finish_non_exhaustive()
    }
}
