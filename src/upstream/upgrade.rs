//! Another protocol on the same two connections: WebSocket, and any other `Upgrade` that is not HTTP in disguise.

use std::cell::Cell;
use std::rc::Rc;

use http::header::{CONNECTION, HeaderMap, HeaderValue, TE, UPGRADE};
use http::{Request, Response, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use super::connection::Connection;
use super::deadlines::Deadlines;
use super::frames::Frames;
use super::idle::Moving;
use super::peer::Held;
use super::{BoxError, Ender, Ending, UpstreamBody};
use crate::fault::Fault;
use crate::header::remove_hop_by_hop;
use crate::reason::Reason;

/// Protocols that would carry requests past the gateway: what goes through a tunnel is decided about once, at its beginning.
const CARRY_REQUESTS: [&str; 6] = ["http", "h2c", "h2", "h3", "tls", "shttp"];
/// What an open tunnel holds for each direction. Most tunnels wait most of the time, and there are many.
const TUNNEL_BUFFER: usize = 4 * 1024;

/// The tunnels of one core: how many are open, and their common end. Clones are the same tunnels.
#[derive(Clone, Default)]
pub struct Tunnels(Rc<Shared>);

#[derive(Default)]
struct Shared {
    open: Cell<usize>,
    ender: Ender,
}

impl Tunnels {
    /// None open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.get()
    }

    /// Ends all of them, and any that still begins: the deadline of a drain.
    pub fn end_all(&self) {
        self.0.ender.end();
    }
}

/// What a request offers to switch to.
pub(super) struct Offer {
    protocols: Vec<String>,
    downstream: OnUpgrade,
}

impl Offer {
    /// Takes the offer out of a request and writes the headers of this hop: `Upgrade` with what may pass, `Connection` with `upgrade` and,
    /// where trailers are wanted, `te` (RFC 9110 §7.8, §10.1.4).
    pub(super) fn take<B>(request: &mut Request<B>) -> Option<Self> {
        let offer = Self::read(request);
        match (&offer, request.headers().contains_key(TE)) {
            (Some(_), true) => request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade, te")),
            (Some(_), false) => request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade")),
            (None, true) => request.headers_mut().insert(CONNECTION, HeaderValue::from_static("te")),
            (None, false) => None,
        };
        offer
    }

    fn read<B>(request: &mut Request<B>) -> Option<Self> {
        if !request.headers().contains_key(UPGRADE) {
            return None;
        }
        let mut protocols = protocols(request.headers());
        protocols.retain(|protocol| !CARRY_REQUESTS.iter().any(|carrier| name(protocol).eq_ignore_ascii_case(carrier)));
        request.headers_mut().remove(UPGRADE);
        // HTTP/1.0 cannot ask for it, HTTP/2 has no such thing (RFC 9110 §7.8).
        if protocols.is_empty() || request.version() != Version::HTTP_11 {
            return None;
        }
        let downstream = request.extensions_mut().remove::<OnUpgrade>()?;
        let value = HeaderValue::from_str(&protocols.join(", ")).ok()?;
        request.headers_mut().insert(UPGRADE, value);
        Some(Self { protocols, downstream })
    }

    /// The upstream has switched: the tunnel begins when the downstream has its `101`.
    pub(super) fn accept(
        self,
        mut answer: Response<Frames>,
        connection: Connection,
        tunnels: &Tunnels,
        ending: &Ending,
        (held, idle): (Option<Held>, Option<Rc<Deadlines>>),
    ) -> Result<Response<UpstreamBody>, Fault> {
        let chosen = protocols(answer.headers());
        // RFC 9110 §7.8: only to what was offered.
        let offered = |chosen: &String| self.protocols.iter().any(|offered| name(offered).eq_ignore_ascii_case(name(chosen)));
        if chosen.is_empty() || !chosen.iter().all(offered) {
            return Err(Fault::new(Reason::UpstreamBroken, "the upstream switched to a protocol that was not offered"));
        }
        let value = HeaderValue::from_str(&chosen.join(", ")).map_err(|error| Fault::new(Reason::UpstreamBroken, error.to_string()))?;
        let tunnel = Tunnel {
            downstream: self.downstream,
            upstream: hyper::upgrade::on(&mut answer),
            connection,
            open: Open::new(tunnels),
            held,
            idle,
        };
        tokio::task::spawn_local(tunnel.run(ending.clone()));
        remove_hop_by_hop(answer.headers_mut());
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        answer.headers_mut().insert(UPGRADE, value);
        Ok(answer.map(|_| UpstreamBody::empty()))
    }
}

/// The protocols that `Upgrade` lines name.
fn protocols(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(UPGRADE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|protocol| !protocol.is_empty()).map(str::to_owned).collect()
}

/// A protocol without its version.
fn name(protocol: &str) -> &str {
    protocol.split_once('/').map_or(protocol, |(name, _)| name).trim_end()
}

struct Tunnel {
    downstream: OnUpgrade,
    upstream: OnUpgrade,
    connection: Connection,
    open: Open,
    held: Option<Held>,
    idle: Option<Rc<Deadlines>>,
}

impl Tunnel {
    async fn run(self, mut ending: Ending) {
        let mut all = self.open.0.0.ender.ending();
        tokio::select! {
            () = ending.ended() => {}
            () = all.ended() => {}
            through = self.copy() => {
                if let Err(error) = through {
                    tracing::debug!(%error, "tunnel ended");
                }
            }
        }
    }

    async fn copy(self) -> Result<(), BoxError> {
        let Self { downstream, upstream, connection, open: _open, held: _held, idle } = self;
        let (downstream, upstream) = tokio::try_join!(downstream, upstream)?;
        // Its socket is the tunnel's now.
        drop(connection);
        let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
        let Some(idle) = idle else {
            copy_bidirectional_with_sizes(&mut downstream, &mut upstream, TUNNEL_BUFFER, TUNNEL_BUFFER).await?;
            return Ok(());
        };
        let (mut upstream, still) = Moving::new(upstream, &idle);
        tokio::select! {
            through = copy_bidirectional_with_sizes(&mut downstream, &mut upstream, TUNNEL_BUFFER, TUNNEL_BUFFER) => through.map(|_| ()).map_err(Into::into),
            () = still.over() => Err(format!("nothing went through the tunnel for {:?}", idle.limit()).into()),
        }
    }
}

/// One open tunnel in the count.
struct Open(Tunnels);

impl Open {
    fn new(tunnels: &Tunnels) -> Self {
        tunnels.0.open.set(tunnels.0.open.get() + 1);
        Self(tunnels.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.set(self.0.0.open.get().saturating_sub(1));
    }
}
