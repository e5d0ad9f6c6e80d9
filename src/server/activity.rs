//! What a connection is doing, told by the parts that see it (bytes, requests, answers) to the one that keeps time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
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

/// Shared by the parts of one connection. All of them run on one thread; the numbers are atomic only because hyper wants the socket, which holds
/// a share of them, to be `Send`.
#[derive(Debug)]
pub(super) struct Activity {
    protocol: Protocol,
    /// HTTP/1.1: bytes of a head have come. HTTP/2: bytes have come.
    head_begun: AtomicBool,
    begun: AtomicU32,
    in_flight: AtomicU32,
    finished: AtomicU32,
    abandoned: AtomicU32,
    writes: AtomicU32,
    write_blocked: AtomicBool,
    /// Counts the tunnel for as long as its socket is open.
    tunnel: OnceLock<Open>,
}

impl Activity {
    pub(super) fn new(protocol: Protocol) -> Arc<Self> {
        Arc::new(Self {
            protocol,
            head_begun: AtomicBool::new(false),
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

    /// Bytes came. Whether they belong to a head: HTTP/1.1, and no request is in flight.
    pub(super) fn bytes_read(&self) -> bool {
        if self.in_flight.load(Relaxed) > 0 || self.tunnel.get().is_some() {
            return false;
        }
        self.head_begun.store(true, Relaxed);
        self.protocol == Protocol::Http1
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

    /// A request's head is complete.
    pub(super) fn request_begun(self: &Arc<Self>) -> InFlight {
        if self.protocol == Protocol::Http1 {
            self.head_begun.store(false, Relaxed);
        }
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
