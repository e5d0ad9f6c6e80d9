//! Sockets that strangers and programs of this machine connect to, and the loop that accepts them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::bound::{Accepting, Bound};
use super::connection::{ConnectionInfo, Entrance, LastRequest, Transport};
use super::cores::{Arrival, Cores};
use super::drain::Stage;
use super::handed_over::HandedOver;
use super::proxy_protocol::ProxyPeers;
use super::socket::bind_unix;
use super::tls_switch::TlsSwitch;

/// How long accepting rests after an error that the next try would meet again (no file descriptors, no memory).
const PAUSE: Duration = Duration::from_millis(100);
/// The same trouble is told this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A bound socket, not yet accepting.
pub struct Listener {
    socket: Bound,
    tls: TlsSwitch,
    entrance: Entrance,
    proxy: Option<ProxyPeers>,
}

impl Listener {
    /// Binds `address`. `[::]` takes IPv4 as well; every other IPv6 address takes IPv6 only.
    ///
    /// # Errors
    /// When the address is taken, not ours, or not allowed; the message names it.
    pub fn bind(address: SocketAddr, tls: TlsSwitch) -> io::Result<Self> {
        let socket = Bound::tcp(address).map_err(|error| named(&address, &error))?;
        Ok(Self { tls, ..Self::plain(socket) })
    }

    /// Listens on a unix socket at `path`, which whoever `mode` names may connect to. A socket that nobody listens on any more is replaced.
    /// No TLS: nothing leaves the machine.
    ///
    /// # Errors
    /// When the place cannot be written, or somebody listens there; the message names it.
    pub fn bind_unix(path: &Path, mode: u32) -> io::Result<Self> {
        let socket = bind_unix(path, mode).map_err(|error| named(&path.display(), &error))?;
        Ok(Self::plain(Bound::Unix(socket)))
    }

    /// Listens on the sockets of this name that were handed over; those of them that are unix sockets without TLS.
    ///
    /// # Errors
    /// When there is none, or one that does not listen; the message says which there are.
    pub fn handed_over(sockets: &mut HandedOver, name: &str, tls: &TlsSwitch) -> io::Result<Vec<Self>> {
        let taken = sockets.take(name).map_err(|error| named(&format_args!("fd:{name}"), &error))?;
        let with_tls = |socket| match socket {
            Bound::Tcp(_) => Self { tls: tls.clone(), ..Self::plain(socket) },
            Bound::Unix(_) => Self::plain(socket),
        };
        Ok(taken.into_iter().map(with_tls).collect())
    }

    fn plain(socket: Bound) -> Self {
        Self { socket, tls: TlsSwitch::new(None), entrance: Entrance::Serving, proxy: None }
    }

    /// What comes in here leaves: the connections say so.
    #[must_use]
    pub fn outgoing(self, index: usize) -> Self {
        Self { entrance: Entrance::Outgoing(index), ..self }
    }

    /// What comes in here is sent on to https: the connections say so.
    #[must_use]
    pub fn redirecting(self) -> Self {
        Self { entrance: Entrance::Redirecting, ..self }
    }

    /// Every connection begins with a PROXY header, which these peers may send and nobody else.
    #[must_use]
    pub fn behind_proxies(self, peers: ProxyPeers) -> Self {
        Self { proxy: Some(peers), ..self }
    }

    /// Where it listens; the port is the real one where 0 was asked for. A unix socket has none: it is this machine, port 0.
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
        let Self { socket, tls, entrance, proxy } = self;
        let socket = socket.accepting()?;
        let drain = cores.settings().drain.clone();
        tokio::select! {
            () = accept(&socket, &tls, entrance, proxy.as_ref(), &cores) => {}
            () = drain.reached(Stage::Draining) => {}
        }
        Ok(())
    }
}

fn named(place: &dyn std::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {place}: {error}"))
}

async fn accept(socket: &Accepting, tls: &TlsSwitch, entrance: Entrance, proxy: Option<&ProxyPeers>, cores: &Cores) {
    let mut full = Complaint::default();
    let mut failing = Complaint::default();
    loop {
        let Some(place) = place(cores, &mut full).await else { return };
        match socket.accept().await {
            Ok((socket, peer, local)) => {
                let tls = tls.current();
                let transport = if tls.is_some() { Transport::Tls } else { Transport::Plain };
                let info = ConnectionInfo { peer, local, transport, entrance, certificate: None, last: LastRequest::default() };
                cores.hand_over(Arrival { socket, info, tls, proxy: proxy.cloned() }, place);
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
