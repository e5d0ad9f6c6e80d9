//! A socket that listens, and what comes in by it.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::net as unix;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};

use super::connection::HERE;
use super::socket::Carrier;
use crate::header::Peer;

/// Connections that wait in the kernel; it takes less where `net.core.somaxconn` is less.
const BACKLOG: i32 = 4096;
/// When a peer that says nothing is asked whether it is still there: dead tunnels and streams would else stay for ever.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// What the kernel takes of an answer before it goes out. By default it takes megabytes and says that there is room again when a third is
/// gone: too rarely to tell a slow downstream from one that takes nothing. Half of this in `write_timeout` is the slowest that passes. A
/// quarter of it cost a fifth more CPU on bodies of 1 MiB; this much costs nothing.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 512 * 1024;

/// A socket that listens and is not yet asked for connections.
pub(super) enum Bound {
    Tcp(net::TcpListener),
    Unix(unix::UnixListener),
}

impl Bound {
    /// `[::]` takes IPv4 as well; every other IPv6 address takes IPv6 only.
    pub(super) fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        // A restart does not wait for connections of the process before.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        tune(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self::Tcp(socket.into()))
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr(),
            Self::Unix(_) => Ok(HERE),
        }
    }

    /// The same, watched by this runtime.
    pub(super) fn accepting(self) -> io::Result<Accepting> {
        Ok(match self {
            Self::Tcp(socket) => Accepting::Tcp(TcpListener::from_std(socket)?),
            Self::Unix(socket) => Accepting::Unix(UnixListener::from_std(socket)?),
        })
    }
}

/// Accepted sockets inherit these: no system calls for each.
pub(super) fn tune(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

/// A socket that is asked for connections.
pub(super) enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accepting {
    /// A connection, who is at its other end, and our own. It leaves this runtime: the core's own watches it from now on.
    pub(super) async fn accept(&self) -> io::Result<(Carrier, Peer, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Both fail only when the peer has gone already.
                let gone = |_| io::Error::from(io::ErrorKind::ConnectionAborted);
                let local = stream.local_addr().map_err(gone)?;
                Ok((Carrier::Tcp(stream.into_std().map_err(gone)?), Peer::At(canonical(peer)), canonical(local)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Carrier::Unix(stream.into_std()?), Peer::Unix, HERE))
            }
        }
    }
}

/// An IPv4 peer on a socket for both families is the IPv4 peer it is: lists of addresses would else miss it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
