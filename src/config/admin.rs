//! `[admin]`: the admin listener.

use std::net::SocketAddr;

use super::reader::Section;
use super::secret_file;
use crate::secret::SecretSource;

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Loopback by default.
    pub listen: SocketAddr,
    /// Whether a store outage makes `/readyz` 503.
    pub ready_needs_store: bool,
}

pub(super) fn read(root: &Section<'_>) -> Admin {
    let section = root.section("admin");
    let listen = section.standard("listen", "an address and port such as \"127.0.0.1:4181\"");
    let ready_needs_store = section.flag("ready_needs_store", false);
    // Known here, read by `read_token`: a probe must not fail for a file that is not its own to read.
    let _ = (section.has("token"), section.has("token_file"));
    section.finish();
    Admin { listen: listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 4181))), ready_needs_store }
}

/// What opens the list of sessions on the admin listener.
pub(super) fn read_token(root: &Section<'_>) -> Option<SecretSource> {
    secret_file::read(&root.section("admin"), "token", 16)
}
