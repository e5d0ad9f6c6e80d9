//! A peer over TLS that wants to see who calls it, and every way in which a `tls` table of the gateway fits it or does not.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use super::certs::{CertificateAuthority, Leaf};
use super::server::Listen;

/// The name in the peer's certificate; it is reached at another.
pub const NAME: &str = "peer.internal";

/// The certificates of both sides.
pub struct MutualTls {
    authority: CertificateAuthority,
    stranger: CertificateAuthority,
    clients: CertificateAuthority,
    leaf: Leaf,
    other: Leaf,
    ours: Leaf,
    strangers: Leaf,
}

impl MutualTls {
    /// Makes them.
    #[must_use]
    pub fn new() -> Self {
        let [authority, stranger, clients] = [(); 3].map(|()| CertificateAuthority::new());
        let (leaf, other) = (authority.leaf(&[NAME]), authority.leaf(&[NAME]));
        let (ours, strangers) = (clients.leaf(&["doorward.test"]), stranger.leaf(&["doorward.test"]));
        Self { authority, stranger, clients, leaf, other, ours, strangers }
    }

    /// What the peer shows.
    #[must_use]
    pub const fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Whose certificates the peer wants to see.
    #[must_use]
    pub const fn clients(&self) -> &CertificateAuthority {
        &self.clients
    }

    /// For a server of the test's own.
    #[must_use]
    pub fn listen(&self) -> Listen {
        let config: Arc<ServerConfig> = self.leaf.server_config_asking(&self.clients);
        Listen::Tls(config)
    }

    /// By which the test itself speaks to the peer, under [`NAME`].
    #[must_use]
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.authority.client_config_with(&self.ours)
    }

    /// A line `tls = { … }` each, and whether the peer is spoken to by it: each key is right twice and wrong once, or not there.
    #[must_use]
    pub fn ways(&self) -> Vec<(String, bool)> {
        let name = format!(", server_name = \"{NAME}\"");
        let pin = |leaf: &Leaf| format!(", pin_sha256 = \"{}\"", leaf.pin());
        let shows = |own: &Leaf| {
            format!(", certificate_file = \"{}\", key_file = \"{}\"", own.certificate_file().display(), own.key_file().display())
        };
        let ours = shows(&self.ours);
        [
            (&self.authority, format!("{name}{ours}"), true),
            (&self.authority, format!("{name}{ours}{}", pin(&self.leaf)), true),
            (&self.stranger, format!("{name}{ours}"), false),
            (&self.authority, ours.clone(), false),
            (&self.authority, name.clone(), false),
            (&self.authority, format!("{name}{}", shows(&self.strangers)), false),
            (&self.authority, format!("{name}{ours}{}", pin(&self.other)), false),
        ]
        .map(|(authority, keys, fits)| (format!("tls = {{ ca_file = \"{}\"{keys} }}\n", authority.file().display()), fits))
        .into()
    }
}

impl Default for MutualTls {
    fn default() -> Self {
        Self::new()
    }
}
