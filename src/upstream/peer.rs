//! One address of an upstream, as all cores see it: what is under way there, how it has done, whether it counts.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Upstream;
use super::ejection::{Record, Turned};
use super::group::GroupSettings;
use crate::clock::SharedClock;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::telemetry::Metrics;
use crate::telemetry::upstreams::AddressCounts;

/// So many may wait for each place: more would wait in vain.
const WAITING_FOR_EACH_PLACE: usize = 10;

/// What makes an address the same one.
#[derive(Clone)]
pub(super) struct Whose {
    pub(super) upstream: Upstream,
    /// Where its name leads; empty where the config says it itself.
    pub(super) at: Box<[SocketAddr]>,
    pub(super) settings: GroupSettings,
}

impl Whose {
    fn is_same(&self, other: &Self) -> bool {
        self.at == other.at && self.upstream.is_same(&other.upstream) && self.settings == other.settings
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.first() {
            Some(at) => write!(f, "{} at {at}", self.upstream.address),
            None => self.upstream.address.fmt(f),
        }
    }
}

/// One address.
pub(super) struct Peer {
    pub(super) whose: Whose,
    load: Load,
    standing: Standing,
    places: Option<Places>,
    counts: AddressCounts,
    clock: SharedClock,
}

/// What is under way there. Every core writes it: on a line of its own (two of 64 bytes, which processors fetch together), so that what all only
/// read stays in their caches.
#[derive(Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

/// Whether it counts; written when that changes.
#[derive(Default)]
#[repr(align(128))]
struct Standing {
    record: Record,
    sick: AtomicBool,
    checks: AtomicU32,
}

struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
}

impl Peer {
    fn new(whose: Whose, clock: SharedClock, metrics: &Metrics) -> Self {
        let counts = metrics.upstream_address(&whose.upstream.address.to_string());
        let places = whose.settings.connections.map(|places| Places {
            free: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
            queue: places.saturating_mul(WAITING_FOR_EACH_PLACE),
        });
        Self { whose, load: Load::default(), standing: Standing::default(), places, counts, clock }
    }

    /// What is under way there.
    pub(super) fn under_way(&self) -> usize {
        self.load.0.load(Ordering::Relaxed)
    }

    /// Whether a place is free there.
    pub(super) fn has_place(&self) -> bool {
        self.places.as_ref().is_none_or(|places| places.free.available_permits() > 0)
    }

    /// Whether there are only so many places.
    pub(super) const fn is_limited(&self) -> bool {
        self.places.is_some()
    }

    /// Whether it is to get requests.
    pub(super) fn counts(&self) -> bool {
        let (out, turned) = self.standing.record.is_out(self.whose.settings.ejection, || self.clock.now());
        if let Some(turned) = turned {
            self.tell(turned);
        }
        !out && !self.standing.sick.load(Ordering::Relaxed)
    }

    /// It answered.
    pub(super) fn worked(&self) {
        self.standing.record.worked();
    }

    /// It took no connection, or what it sent is no answer.
    pub(super) fn failed(&self) {
        if let Some(turned) = self.standing.record.failed(self.whose.settings.ejection, self.clock.now()) {
            self.tell(turned);
        }
    }

    fn tell(&self, turned: Turned) {
        match turned {
            Turned::Out(time) => {
                tracing::warn!(upstream = %self.whose, seconds = time.as_secs(), "the upstream's address fails and is left out for a while");
                self.counts.ejected();
            }
            Turned::Back => tracing::info!(upstream = %self.whose, "the upstream's address counts again, on trial"),
        }
        self.counts.left_out(matches!(turned, Turned::Out(_)), self.standing.sick.load(Ordering::Relaxed));
    }

    /// What a health check found; `why` where it failed.
    pub(super) fn checked(&self, found: Result<(), String>, healthy_after: u32, unhealthy_after: u32) {
        let sick = self.standing.sick.load(Ordering::Relaxed);
        if found.is_err() == sick {
            self.standing.checks.store(0, Ordering::Relaxed);
            return;
        }
        let row = self.standing.checks.fetch_add(1, Ordering::Relaxed) + 1;
        if row < if sick { healthy_after } else { unhealthy_after } {
            return;
        }
        self.standing.checks.store(0, Ordering::Relaxed);
        if self.standing.sick.swap(!sick, Ordering::Relaxed) != sick {
            return;
        }
        match found {
            Ok(()) => tracing::info!(upstream = %self.whose, "the upstream's address passes its health check again"),
            Err(why) => tracing::warn!(upstream = %self.whose, why, "the upstream's address fails its health check and is left out"),
        }
        let (out, _) = self.standing.record.is_out(self.whose.settings.ejection, || self.clock.now());
        self.counts.left_out(out, !sick);
    }

    /// Takes a place there, and waits for one up to `limit`.
    ///
    /// # Errors
    /// [`Reason::UpstreamBusy`] when none became free, or too many wait already.
    pub(super) async fn held(self: &Arc<Self>, limit: Duration) -> Result<Held, Fault> {
        // Who waits counts as well: the next one goes where fewer wait.
        let mut held = Held::new(Arc::clone(self));
        if let Some(places) = &self.places {
            held.place = Some(places.take(limit).await.map_err(|why| {
                let limit = self.whose.settings.connections.unwrap_or_default();
                Fault::new(Reason::UpstreamBusy, format!("{}: {limit} at once is its limit, and {why}", self.whose))
            })?);
        }
        Ok(held)
    }
}

impl Places {
    async fn take(&self, limit: Duration) -> Result<OwnedSemaphorePermit, String> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(place);
        }
        let _waiting = Waiting::begin(&self.waiting, self.queue).ok_or_else(|| format!("{} wait already", self.queue))?;
        match tokio::time::timeout(limit, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(format!("none ended within {limit:?}")),
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let begun = Self(waiting);
        (before < most).then_some(begun)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Something under way there, to the end of its answer or its tunnel.
pub(super) struct Held {
    peer: Arc<Peer>,
    place: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn new(peer: Arc<Peer>) -> Self {
        peer.load.0.fetch_add(1, Ordering::Relaxed);
        Self { peer, place: None }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.peer.load.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All addresses of the process: the same one is one, whichever group or config names it.
#[derive(Default)]
pub(super) struct Peers(Mutex<Vec<Weak<Peer>>>);

impl Peers {
    pub(super) fn of(&self, whose: Whose, clock: &SharedClock, metrics: &Metrics) -> Arc<Peer> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|peer| peer.strong_count() > 0);
        if let Some(peer) = known.iter().filter_map(Weak::upgrade).find(|peer| peer.whose.is_same(&whose)) {
            return peer;
        }
        let peer = Arc::new(Peer::new(whose, Arc::clone(clock), metrics));
        known.push(Arc::downgrade(&peer));
        peer
    }
}

#[cfg(test)]
mod tests {
    use super::super::UpstreamAddress;
    use super::super::tests::on_a_core;
    use super::*;
    use crate::clock::SystemClock;

    fn peer(peers: &Peers, connections: Option<usize>) -> Arc<Peer> {
        let upstream = Upstream { address: UpstreamAddress::parse("http://10.0.0.5:1").unwrap(), tls: None };
        let settings = GroupSettings { connections, ..GroupSettings::default() };
        let clock: SharedClock = Arc::new(SystemClock);
        peers.of(Whose { upstream, at: Box::default(), settings }, &clock, &Metrics::new())
    }

    #[test]
    fn the_same_address_is_one_for_as_long_as_somebody_holds_it() {
        let peers = Peers::default();
        let one = peer(&peers, None);
        assert!(Arc::ptr_eq(&one, &peer(&peers, None)));
        assert!(!Arc::ptr_eq(&one, &peer(&peers, Some(1))), "with other settings it is another one");
        (0..3).for_each(|_| one.failed());
        assert!(!one.counts() && !peer(&peers, None).counts());
        drop(one);
        assert!(peer(&peers, None).counts(), "nobody remembers");
    }

    #[test]
    fn what_is_held_counts_as_under_way_until_it_is_dropped() {
        on_a_core(async {
            let peer = peer(&Peers::default(), None);
            let held = [peer.held(Duration::ZERO).await.unwrap(), peer.held(Duration::ZERO).await.unwrap()];
            assert_eq!(peer.under_way(), 2);
            drop(held);
            assert_eq!(peer.under_way(), 0);
        });
    }

    #[test]
    fn so_many_wait_for_a_place_and_the_next_one_is_told_at_once() {
        on_a_core(async {
            let peer = peer(&Peers::default(), Some(1));
            let held = peer.held(Duration::ZERO).await.unwrap();
            let waiting: Vec<_> = (0..WAITING_FOR_EACH_PLACE)
                .map(|_| {
                    let peer = Arc::clone(&peer);
                    tokio::task::spawn_local(async move { peer.held(Duration::from_secs(10)).await.map(drop) })
                })
                .collect();
            tokio::task::yield_now().await;
            assert!(!peer.has_place() && peer.under_way() == 1 + WAITING_FOR_EACH_PLACE);
            let refused = peer.held(Duration::from_secs(10)).await.err().unwrap();
            assert_eq!(refused.reason, Reason::UpstreamBusy);
            assert!(refused.detail.contains("10 wait already"), "{}", refused.detail);
            drop(held);
            for one in waiting {
                assert!(one.await.unwrap().is_ok(), "each gets the place of the one before");
            }
            assert_eq!((peer.under_way(), peer.has_place()), (0, true));
        });
    }

    #[test]
    fn checks_in_a_row_turn_it_and_one_between_them_does_not() {
        let peer = peer(&Peers::default(), None);
        let check = |good: bool| {
            peer.checked(if good { Ok(()) } else { Err("no".to_owned()) }, 2, 3);
            peer.counts()
        };
        assert_eq!([false, false, true, false, false, false].map(check), [true, true, true, true, true, false]);
        assert_eq!([true, false, true, true].map(check), [false, false, false, true]);
    }
}
