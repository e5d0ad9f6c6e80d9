//! What a connection is doing, told by the parts that see it (bytes, requests, answers) to the one that keeps time.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::telemetry::metrics::Open;

/// The HTTP version of a connection, settled before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// For the rest of a head; also for the first byte.
    Head,
    /// For the next request.
    Idle,
    /// For us: requests are in flight.
    Busy,
}

/// What follows a request's head on an HTTP/1.1 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// So many bytes of its body, and then the next head.
    Bytes(u64),
    /// Nothing but its body: this is the connection's last request.
    Rest,
}

/// What a request's bytes are followed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The next head.
    Head,
    /// That shows when the answer does: the request asks for a tunnel.
    Unknown,
    /// Bytes that are not HTTP.
    Tunnel,
}

/// Shared by the parts of one connection. All of them run on one thread; the numbers are atomic only because hyper wants the socket, which holds
/// a share of them, to be `Send`.
#[derive(Debug)]
pub(super) struct Activity {
    protocol: Protocol,
    /// HTTP/1.1: bytes of a head have come. HTTP/2: bytes have come.
    head_begun: AtomicBool,
    /// HTTP/1.1: hyper has a head to its end and has made no request of it yet.
    head_given: AtomicBool,
    /// HTTP/1.1: what follows the last head; [`REST`] is [`Extent::Rest`].
    extent: AtomicU64,
    /// HTTP/1.1: the last request asks for a tunnel and is not answered.
    tunnel_asked: AtomicBool,
    begun: AtomicU32,
    in_flight: AtomicU32,
    finished: AtomicU32,
    abandoned: AtomicU32,
    writes: AtomicU32,
    write_blocked: AtomicBool,
    /// Counts the tunnel for as long as its socket is open.
    tunnel: OnceLock<Open>,
}

/// Not a length: hyper's end below it.
const REST: u64 = u64::MAX;

impl Activity {
    pub(super) fn new(protocol: Protocol) -> Arc<Self> {
        Arc::new(Self {
            protocol,
            head_begun: AtomicBool::new(false),
            head_given: AtomicBool::new(false),
            extent: AtomicU64::new(REST),
            tunnel_asked: AtomicBool::new(false),
            begun: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            finished: AtomicU32::new(0),
            abandoned: AtomicU32::new(0),
            writes: AtomicU32::new(0),
            write_blocked: AtomicBool::new(false),
            tunnel: OnceLock::new(),
        })
    }

    pub(super) fn phase(&self) -> Phase {
        let head_begun = self.head_begun.load(Relaxed);
        let in_head = match self.protocol {
            Protocol::Http1 => head_begun || self.begun() == 0,
            // Streams come and go within the connection; only its very beginning is a head.
            Protocol::Http2 => !head_begun,
        };
        match in_head {
            _ if self.in_flight.load(Relaxed) > 0 => Phase::Busy,
            true => Phase::Head,
            false => Phase::Idle,
        }
    }

    /// How many requests have begun. Wraps; good for seeing a change.
    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Relaxed)
    }

    pub(super) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Bytes of a head were given to hyper (HTTP/1.1), or any bytes (HTTP/2).
    pub(super) fn head_begun(&self) {
        self.head_begun.store(true, Relaxed);
    }

    /// HTTP/1.1: hyper was given a head to its end.
    pub(super) fn head_given(&self) {
        self.head_given.store(true, Relaxed);
    }

    /// HTTP/1.1: what follows the head that was given; `None` if hyper has made no request of it.
    pub(super) fn extent(&self) -> Option<Extent> {
        if self.head_given.load(Relaxed) {
            return None;
        }
        Some(match self.extent.load(Relaxed) {
            REST => Extent::Rest,
            bytes => Extent::Bytes(bytes),
        })
    }

    /// HTTP/1.1: what follows the last request.
    pub(super) fn next(&self) -> Next {
        match self.tunnel_asked.load(Relaxed) {
            _ if self.tunnel.get().is_some() => Next::Tunnel,
            true => Next::Unknown,
            false => Next::Head,
        }
    }

    /// The last request is answered, and whether it made a tunnel is known. True if somebody may wait for this.
    pub(super) fn answered(&self) -> bool {
        let asked = self.tunnel_asked.load(Relaxed);
        self.tunnel_asked.store(false, Relaxed);
        asked
    }

    /// The downstream took something, or everything.
    pub(super) fn written(&self) {
        add(&self.writes, 1);
        self.write_blocked.store(false, Relaxed);
    }

    /// The downstream takes nothing at the moment.
    pub(super) fn write_blocked(&self) {
        self.write_blocked.store(true, Relaxed);
    }

    /// The number of writes so far, if the downstream takes nothing at the moment.
    pub(super) fn blocked_after(&self) -> Option<u32> {
        self.write_blocked.load(Relaxed).then(|| self.writes.load(Relaxed))
    }

    /// From now on the bytes are not HTTP.
    pub(super) fn became_tunnel(&self, open: Open) {
        // It becomes one once.
        let _ = self.tunnel.set(open);
    }

    /// Whether requests were given up by the downstream more often than a person's browser would (HTTP/2 rapid reset, CVE-2023-44487).
    pub(super) fn abandons_too_much(&self) -> bool {
        const UNSUSPICIOUS: u32 = 200;
        let abandoned = self.abandoned.load(Relaxed);
        abandoned > UNSUSPICIOUS && abandoned > self.finished.load(Relaxed)
    }

    /// HTTP/1.1: hyper made a request of the head that it was given. False if it was given none to the end.
    pub(super) fn head_taken(&self, extent: Extent, asks_for_tunnel: bool) -> bool {
        let given = self.head_given.load(Relaxed);
        let extent = match extent {
            Extent::Bytes(bytes) => bytes,
            Extent::Rest => REST,
        };
        self.head_begun.store(false, Relaxed);
        self.head_given.store(false, Relaxed);
        self.extent.store(extent, Relaxed);
        self.tunnel_asked.store(asks_for_tunnel, Relaxed);
        given
    }

    /// A request's head is complete.
    pub(super) fn request_begun(self: &Arc<Self>) -> InFlight {
        add(&self.begun, 1);
        add(&self.in_flight, 1);
        InFlight { activity: Arc::clone(self), finished: false }
    }
}

/// One request, from the end of its head to the end of its answer.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    finished: bool,
}

impl InFlight {
    /// The answer has been given away to its end.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        add(if self.finished { &self.activity.finished } else { &self.activity.abandoned }, 1);
        add(&self.activity.in_flight, u32::MAX);
    }
}

/// One thread writes: no read-modify-write instruction is needed.
fn add(number: &AtomicU32, by: u32) {
    number.store(number.load(Relaxed).wrapping_add(by), Relaxed);
}
