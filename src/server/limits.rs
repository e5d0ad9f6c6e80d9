//! Bounds on what a stranger may send and hold.

use std::io;
use std::time::Duration;

use rlimit::Resource;

/// Bounds on every connection from downstream. None of them can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// From the first wait for a request, or from its first byte, to the end of its head.
    pub header_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long the downstream may take nothing of what we send.
    pub write_timeout: Duration,
    /// Between two pieces of a request's body, while somebody waits for them.
    pub body_timeout: Duration,
    /// For the TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// The head of a request, and its trailers, in bytes.
    pub max_header_bytes: usize,
    /// Header lines of an HTTP/1.1 request. HTTP/2 counts 32 bytes for each header (RFC 9113 §6.5.2), so `max_header_bytes` bounds them there.
    pub max_headers: usize,
    /// HTTP/2 requests at a time on one connection.
    pub max_streams: u32,
    /// Connections of all listeners together. More wait in the kernel's queue: refusing them would turn a short burst into errors, while the
    /// other bounds see to it that places fall free.
    pub max_connections: usize,
}

/// What became of the bound on open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The soft bound before.
    pub before: u64,
    /// The soft bound now.
    pub now: u64,
}

/// Raises the soft bound on open files to the hard one, and warns when `max_connections` cannot be reached with it: each may need one
/// connection upstream as well.
///
/// # Errors
/// When the system refuses; the bound is then what it was.
pub fn raise_open_files(max_connections: usize) -> io::Result<OpenFiles> {
    let (before, hard) = Resource::NOFILE.get()?;
    if before < hard {
        Resource::NOFILE.set(hard, hard)?;
    }
    let files = OpenFiles { before, now: hard };
    let needed = u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_mul(2);
    if files.now < needed {
        tracing::warn!(
            open_files = files.now,
            connections = max_connections,
            "open files are too few for limits.connections, which may need two each; raise the limit (ulimit -n, LimitNOFILE) or lower the key"
        );
    } else {
        tracing::info!(before, open_files = files.now, "open files");
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_bound_on_open_files_becomes_the_hard_one() {
        raise_open_files(1).unwrap();
        let (soft, hard) = Resource::NOFILE.get().unwrap();
        assert_eq!(soft, hard);
    }
}
