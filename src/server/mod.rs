//! The way in: sockets, TLS, HTTP/1.1 and HTTP/2, and how all of it ends.
//!
//! The control runtime accepts (`listen`, by what is `bound` here or `handed_over` by systemd) and hands each `socket` to the core with the
//! fewest connections (`cores`). There `connection` lets a proxy say for whom it speaks (`proxy_protocol`), does the handshake
//! (`tls_switch`, `tls`, `certificate`, `server_names`, `client_ca`), tells the protocol and lets hyper speak it; `deadlines` keeps the
//! times and ends what overstays (`limits`), by what `activity` is told from `stream` (bytes), `answer` (requests, panics) and
//! `request_body`. `framing` refuses what two readers would read differently. `drain` is the process's coming and going, of which
//! `supervisor` tells whoever started it; `admin` tells of it, and lists and ends sessions (`admin_sessions`).

mod activity;
pub mod admin;
mod admin_sessions;
mod answer;
mod bound;
mod certificate;
mod client_ca;
mod connection;
mod cores;
mod deadlines;
mod drain;
mod framing;
mod handed_over;
mod limits;
mod listen;
mod proxy_protocol;
mod request_body;
mod server_names;
mod socket;
mod stream;
mod supervisor;
mod tls;
mod tls_switch;

#[cfg(test)]
mod tests;

use std::error::Error;

pub use admin_sessions::AdminSessions;
pub use certificate::{CertificateError, CertificateFiles};
pub use connection::{ConnectionInfo, Entrance, LastRequest, Transport};
pub use cores::{CoreService, Cores, ServerSettings};
pub use drain::{Drain, Drained, Stage};
pub use handed_over::HandedOver;
pub use limits::{ConnectionLimits, OpenFiles, raise_open_files};
pub use listen::Listener;
pub use proxy_protocol::ProxyPeers;
pub use request_body::RequestBody;
pub use server_names::ServerNames;
pub use supervisor::Supervisor;
pub use tls_switch::{ServerTls, TlsSettings, TlsSwitch, TlsVersion};

/// What a body's stream may fail with.
pub type BoxError = Box<dyn Error + Send + Sync>;

const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";
