//! Sockets that strangers connect to, and the loop that accepts them.

use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::connection::{ConnectionInfo, Transport};
use super::cores::Cores;
use super::drain::Stage;

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

/// A bound socket, not yet accepting.
pub struct Listener {
    socket: net::TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Listener {
    /// Binds `address`. `[::]` takes IPv4 as well; every other IPv6 address takes IPv6 only.
    ///
    /// # Errors
    /// When the address is taken, not ours, or not allowed; the message names it.
    pub fn bind(address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> io::Result<Self> {
        let socket = bind(address).map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
        Ok(Self { socket, tls })
    }

    /// Where it listens; the port is the real one where 0 was asked for.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts connections for `cores` until the drain closes the socket. Errors are told and waited out; none ends the loop.
    ///
    /// # Errors
    /// When the socket cannot be watched at all. To be called on the control runtime.
    pub async fn serve(self, cores: Arc<Cores>) -> io::Result<()> {
        let Self { socket, tls } = self;
        let socket = TcpListener::from_std(socket)?;
        let drain = cores.settings().drain.clone();
        tokio::select! {
            () = accept(&socket, tls, &cores) => {}
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

async fn accept(socket: &TcpListener, tls: Option<Arc<rustls::ServerConfig>>, cores: &Cores) {
    let mut full = Complaint::default();
    let mut failing = Complaint::default();
    loop {
        let Some(place) = place(cores, &mut full).await else { return };
        match socket.accept().await {
            Ok((stream, peer)) => hand_over(stream, peer, tls.clone(), cores, place),
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

fn hand_over(stream: TcpStream, peer: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>, cores: &Cores, place: OwnedSemaphorePermit) {
    // Both fail only when the peer has gone already. The socket leaves this runtime: the core's own watches it from now on.
    let (Ok(local), Ok(stream)) = (stream.local_addr(), stream.into_std()) else { return };
    let transport = if tls.is_some() { Transport::Tls } else { Transport::Plain };
    let info = ConnectionInfo { peer: canonical(peer), local: canonical(local), transport };
    cores.hand_over(stream, info, tls, place);
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
