//! Asking the admin listener of a running gateway.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::secret::Secret;

/// One small request.
pub(super) struct Ask<'a> {
    pub(super) address: SocketAddr,
    pub(super) method: &'a str,
    /// Path and query.
    pub(super) target: &'a str,
    /// Shown as a bearer token.
    pub(super) token: Option<&'a Secret>,
    /// How long each step may take.
    pub(super) patience: Duration,
    /// The most that is read of the answer.
    pub(super) bytes: u64,
}

impl Ask<'_> {
    /// Status and body. On a thread of our own: no runtime has to start for a probe that runs every few seconds.
    pub(super) fn send(&self) -> std::io::Result<(u16, String)> {
        let Self { address, method, target, .. } = self;
        let mut stream = TcpStream::connect_timeout(address, self.patience)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        let authorization = self.token.map(|token| format!("Authorization: Bearer {}\r\n", token.expose())).unwrap_or_default();
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: {address}\r\n{authorization}Connection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(self.bytes).read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        match status {
            Some(status) => Ok((status, body)),
            None => Err(std::io::Error::other("the answer is no HTTP")),
        }
    }
}

/// A listener on all addresses is asked on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    }
}
