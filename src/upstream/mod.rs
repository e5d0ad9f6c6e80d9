//! The way to the upstreams: connections of this core, requests sent on them, answers that stream back.
//!
//! Most of it belongs to one core and its single-threaded runtime: pools, bodies and tunnels are `Rc` and stay where they were made. What all
//! cores know of an address is in `group` and what that names.
//!
//! - `address`: what an upstream's address is. `dial`: a connection to it. `connection`: what one request is sent on; `http2` where others
//!   share it.
//! - `pool`: connections that wait for their next request.
//! - `forward`: one request there, one answer back; `exchange`: on one address. `heard`: whether a connection brought anything. `framing`: where a
//!   message ends, the same for both hops.
//! - `request_body`, `body`: the two bodies on their way; `frames`: what the second is made of. `deadlines`: when to give up waiting; `idle`: for
//!   the next piece.
//! - `group`: the addresses of a route; `peer`: one of them, `places`: what it takes at once; `several`: as a core sees them; `balance`: the
//!   choice; `ejection` and `health`: which count; `names` and `lookup`: where a name leads.
//! - `upgrade`: what follows a `101`.

mod address;
mod balance;
mod body;
mod connection;
mod deadlines;
mod dial;
mod ejection;
mod exchange;
mod forward;
mod frames;
mod framing;
mod group;
mod health;
mod heard;
mod http2;
mod idle;
mod lookup;
mod names;
mod peer;
mod places;
mod pool;
mod request_body;
mod several;
mod upgrade;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use hyper::client::conn::http1;

pub use crate::tasks::{Ender, Ending};
pub use address::{AddressError, UpstreamAddress};
pub use balance::{Balance, Stick};
pub use body::UpstreamBody;
pub use ejection::Ejection;
pub use forward::{Passage, Prepared, forward, forward_listed, prepare};
pub use group::{Group, GroupSettings, Neighbours};
pub use health::HealthCheck;
pub use lookup::addresses_of;
pub use upgrade::Tunnels;

use crate::clock::SharedClock;
use crate::route::UpstreamId;
use deadlines::Deadlines;
use dial::Dial;
use pool::Pool;
use several::{Known, Several};

/// What a body's stream may fail with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// hyper buffers up to this much of a body in each direction, whatever the bound on heads is.
const BODY_BUFFER: usize = 64 * 1024;
/// hyper keeps this many headers on its stack; any other bound costs an allocation for each answer.
const HEADERS_ON_STACK: usize = 100;

/// Bounds on what an upstream may take and send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// For a name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the moment the upstream has all that the downstream sent until the head of its answer; `None`: no bound. It
    /// may take an eighth longer.
    pub response_timeout: Option<Duration>,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How many may wait, on this core and for one upstream.
    pub max_idle_per_core: usize,
    /// The head of an answer, and its trailers, in bytes.
    pub max_header_bytes: usize,
    /// Header lines of an answer.
    pub max_headers: usize,
}

/// One upstream of the config.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where it is.
    pub address: UpstreamAddress,
    /// Needed for https.
    pub tls: Option<UpstreamTls>,
}

/// TLS towards one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// Whom to trust there, and who we are. Its ALPN is set here.
    pub config: Arc<rustls::ClientConfig>,
    /// The name that the certificate has to hold, in place of the address's host.
    pub server_name: Option<rustls_pki_types::ServerName<'static>>,
}

impl From<Arc<rustls::ClientConfig>> for UpstreamTls {
    fn from(config: Arc<rustls::ClientConfig>) -> Self {
        Self { config, server_name: None }
    }
}

/// An https upstream that came without a TLS config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsMissing(pub UpstreamAddress);

impl fmt::Display for TlsMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: https needs a TLS config", self.0)
    }
}

impl Error for TlsMissing {}

impl Upstream {
    /// Whether connections to `other` are as good as connections to this one.
    fn is_same(&self, other: &Self) -> bool {
        let Self { address, tls } = self;
        let same_tls = match (tls, &other.tls) {
            (None, None) => true,
            (Some(UpstreamTls { config, server_name }), Some(other)) => {
                Arc::ptr_eq(config, &other.config) && *server_name == other.server_name
            }
            _ => false,
        };
        *address == other.address && same_tls
    }
}

/// All upstreams as one core sees them. Held as `Rc`; a reload makes a new one, and what runs on the old one ends by itself.
pub struct Upstreams {
    /// What they were made of, in the same order.
    made_of: (Vec<Arc<Group>>, UpstreamSettings),
    /// By [`crate::route::UpstreamId`].
    targets: Vec<Target>,
    http: http1::Builder,
    connect_timeout: Duration,
    response_deadlines: Option<Rc<Deadlines>>,
    /// Of routes with bounds of their own, by their length.
    own_deadlines: RefCell<Vec<Rc<Deadlines>>>,
    clock: SharedClock,
    tunnels: Tunnels,
}

enum Target {
    /// Needs no connection: the answer is known.
    Static(StatusCode),
    Reached(Dial, Rc<Pool>),
    /// Several, or one that may change or has a limit.
    Several(Box<Several>),
}

impl Target {
    /// Whether a tunnel for another protocol can be opened there.
    fn takes_upgrades(&self) -> bool {
        match self {
            Self::Static(_) => true,
            Self::Reached(dial, _) => dial.takes_upgrades(),
            Self::Several(several) => several.takes_upgrades(),
        }
    }
}

impl Upstreams {
    /// In the order of [`crate::route::UpstreamId`]. `tunnels` outlives reloads: it is the core's.
    ///
    /// # Errors
    /// [`TlsMissing`] for an https upstream without TLS config.
    pub fn new(upstreams: Vec<Arc<Group>>, settings: UpstreamSettings, tunnels: Tunnels, clock: SharedClock) -> Result<Self, TlsMissing> {
        Self::made(upstreams, settings, tunnels, clock, &|_, _| None)
    }

    /// The upstreams of another config. Connections that wait here are taken over where the upstream is the same.
    ///
    /// # Errors
    /// As [`Upstreams::new`].
    pub fn taken_over(&self, upstreams: Vec<Arc<Group>>, settings: UpstreamSettings) -> Result<Self, TlsMissing> {
        let (known, bounds) = &self.made_of;
        // A pool keeps its bounds.
        let same_bounds = *bounds == settings;
        let pool = |upstream: &Upstream, at: Option<SocketAddr>| {
            let mut targets = known.iter().zip(&self.targets).filter(|_| same_bounds);
            targets.find_map(|(group, target)| match target {
                Target::Reached(_, pool) if at.is_none() && group.alone().is_some_and(|known| known.is_same(upstream)) => {
                    Some(Rc::clone(pool))
                }
                Target::Several(several) => several.pool_of(upstream, at),
                Target::Reached(..) | Target::Static(_) => None,
            })
        };
        Self::made(upstreams, settings, self.tunnels.clone(), Arc::clone(&self.clock), &pool)
    }

    fn made(
        upstreams: Vec<Arc<Group>>,
        settings: UpstreamSettings,
        tunnels: Tunnels,
        clock: SharedClock,
        known: &Known<'_>,
    ) -> Result<Self, TlsMissing> {
        let target = |group: &Arc<Group>| {
            let Some(upstream) = group.alone() else {
                let several = Several::new(Arc::clone(group), settings.clone(), Arc::clone(&clock), known)?;
                return Ok(Target::Several(Box::new(several)));
            };
            Ok(match upstream.address.clone() {
                UpstreamAddress::Static(status) => Target::Static(status),
                address => {
                    let pool = known(upstream, None).unwrap_or_else(|| Pool::new(&settings, Arc::clone(&clock)));
                    Target::Reached(Dial::new(address, upstream.tls.clone())?, pool)
                }
            })
        };
        let targets = upstreams.iter().map(target).collect::<Result<_, _>>()?;
        Ok(Self {
            targets,
            http: http_builder(&settings),
            connect_timeout: settings.connect_timeout,
            response_deadlines: settings.response_timeout.map(Deadlines::new),
            own_deadlines: RefCell::default(),
            made_of: (upstreams, settings),
            clock,
            tunnels,
        })
    }

    /// Where an upstream is, where the config names one place; `None` too where the answer is known without asking.
    #[must_use]
    pub fn address(&self, upstream: UpstreamId) -> Option<&UpstreamAddress> {
        match self.targets.get(upstream.0)? {
            Target::Static(_) => None,
            Target::Reached(dial, _) => Some(dial.address()),
            Target::Several(several) => several.address(),
        }
    }

    /// Whether its answer is known without asking anybody.
    #[must_use]
    pub fn is_static(&self, upstream: UpstreamId) -> bool {
        matches!(self.targets.get(upstream.0), Some(Target::Static(_)))
    }

    /// Its addresses as the config writes them.
    fn told(&self, upstream: UpstreamId) -> String {
        let group = self.made_of.0.get(upstream.0);
        group.map_or_else(String::new, |group| group.addresses().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }

    /// Waits of this length.
    fn deadlines(&self, limit: Duration) -> Rc<Deadlines> {
        let mut own = self.own_deadlines.borrow_mut();
        if let Some(known) = own.iter().find(|known| known.limit() == limit) {
            return Rc::clone(known);
        }
        let made = Deadlines::new(limit);
        own.push(Rc::clone(&made));
        made
    }
}

fn http_builder(settings: &UpstreamSettings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // One write call for head and small body: cheaper than a vectored one.
    builder.writev(false);
    builder.max_buf_size(settings.max_header_bytes.max(BODY_BUFFER));
    builder.max_header_size(settings.max_header_bytes);
    if settings.max_headers != HEADERS_ON_STACK {
        builder.max_headers(settings.max_headers);
    }
    builder
}
