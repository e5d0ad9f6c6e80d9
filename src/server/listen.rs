//! Sockets that strangers and programs of this machine connect to, and the loop that accepts them.

use std::io;
use std::net::{self, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::connection::{ConnectionInfo, Entrance, Transport};
use super::cores::Cores;
use super::drain::Stage;
use super::socket::{Carrier, bind_unix};

/// Connections that wait in the kernel; it takes less where `net.core.somaxconn` is less.
const BACKLOG: i32 = 4096;
/// When a peer that says nothing is asked whether it is still there: dead tunnels and streams would else stay for ever.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// What the kernel takes of an answer before it goes out. By default it takes megabytes and says that there is room again when a third is gone:
/// too rarely to tell a slow downstream from one that takes nothing. Half of this in `write_timeout` is the slowest that passes. A quarter of
/// it cost a fifth more CPU on bodies of 1 MiB; this much costs nothing.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 512 * 1024;
/// How long accepting rests after an error that the next try would meet again (no file descriptors, no memory).
const PAUSE: Duration = Duration::from_millis(100);
/// The same trouble is told this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Who is at either end of a unix socket.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A bound socket, not yet accepting.
pub struct Listener {
    socket: Bound,
    tls: Option<Arc<rustls::ServerConfig>>,
    entrance: Entrance,
}

enum Bound {
    Tcp(net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Listener {
    /// Binds `address`. `[::]` takes IPv4 as well; every other IPv6 address takes IPv6 only.
    ///
    /// # Errors
    /// When the address is taken, not ours, or not allowed; the message names it.
    pub fn bind(address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> io::Result<Self> {
        let socket = bind(address).map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
        Ok(Self { socket: Bound::Tcp(socket), tls, entrance: Entrance::Serving })
    }

    /// Listens on a unix socket at `path`, which whoever `mode` names may connect to. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// When the place cannot be written, or somebody listens there; the message names it.
    pub fn bind_unix(path: &Path, mode: u32) -> io::Result<Self> {
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()));
        let socket = bind_unix(path, mode).map_err(failed)?;
        Ok(Self { socket: Bound::Unix(socket), tls: None, entrance: Entrance::Serving })
    }

    /// What comes in here leaves: the connections say so.
    #[must_use]
    pub fn outgoing(self, index: usize) -> Self {
        Self { entrance: Entrance::Outgoing(index), ..self }
    }

    /// Where it listens; the port is the real one where 0 was asked for. A unix socket has none: it is this machine, port 0.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Bound::Tcp(socket) => socket.local_addr(),
            Bound::Unix(_) => Ok(HERE),
        }
    }

    /// Accepts connections for `cores` until the drain closes the socket. Errors are told and waited out; none ends the loop.
    ///
    /// # Errors
    /// When the socket cannot be watched at all. To be called on the control runtime.
    pub async fn serve(self, cores: Arc<Cores>) -> io::Result<()> {
        let Self { socket, tls, entrance } = self;
        let socket = match socket {
            Bound::Tcp(socket) => Accepting::Tcp(TcpListener::from_std(socket)?),
            Bound::Unix(socket) => Accepting::Unix(UnixListener::from_std(socket)?),
        };
        let drain = cores.settings().drain.clone();
        tokio::select! {
            () = accept(&socket, tls, entrance, &cores) => {}
            () = drain.reached(Stage::Draining) => {}
        }
        Ok(())
    }
}

fn bind(address: SocketAddr) -> io::Result<net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart does not wait for connections of the process before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit what follows: no system calls for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accepting {
    /// A connection, who is at its other end, and at ours. It leaves this runtime: the core's own watches it from now on.
    async fn accept(&self) -> io::Result<(Carrier, SocketAddr, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Both fail only when the peer has gone already.
                let gone = |_| io::Error::from(io::ErrorKind::ConnectionAborted);
                let local = stream.local_addr().map_err(gone)?;
                Ok((Carrier::Tcp(stream.into_std().map_err(gone)?), peer, local))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Carrier::Unix(stream.into_std()?), HERE, HERE))
            }
        }
    }
}

async fn accept(socket: &Accepting, tls: Option<Arc<rustls::ServerConfig>>, entrance: Entrance, cores: &Cores) {
    let mut full = Complaint::default();
    let mut failing = Complaint::default();
    loop {
        let Some(place) = place(cores, &mut full).await else { return };
        match socket.accept().await {
            Ok((socket, peer, local)) => {
                let transport = if tls.is_some() { Transport::Tls } else { Transport::Plain };
                let info = ConnectionInfo { peer: canonical(peer), local: canonical(local), transport, entrance, certificate: None };
                cores.hand_over(socket, info, tls.clone(), place);
            }
            // The peer left before it was accepted.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                if failing.is_due(cores.settings().clock.instant()) {
                    tracing::error!(%error, "connections cannot be accepted");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// The place comes before the socket: while there is none, connections wait in the kernel.
async fn place(cores: &Cores, full: &mut Complaint) -> Option<OwnedSemaphorePermit> {
    if let Some(place) = cores.place_now() {
        return Some(place);
    }
    if full.is_due(cores.settings().clock.instant()) {
        tracing::warn!(
            max_connections = cores.settings().limits.max_connections,
            "limits.max_connections is reached; new connections wait"
        );
    }
    cores.place().await
}

/// An IPv4 peer on a socket for both families is the IPv4 peer it is: lists of addresses would else miss it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Keeps a log from saying the same ten times a second.
#[derive(Default)]
struct Complaint(Option<Instant>);

impl Complaint {
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
        if due {
            self.0 = Some(now);
        }
        due
    }
}
