//! One address of an upstream: what all cores and routes know of it, and how one group takes it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::Upstream;
use super::ejection::{Ejection, Record, Standing, Turned};
use super::group::GroupSettings;
use super::health::{Health, HealthCheck};
use super::places::{Place, Places};
use crate::clock::SharedClock;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::telemetry::Metrics;
use crate::telemetry::upstreams::AddressCounts;

/// What makes an address the same one.
#[derive(Clone)]
pub(super) struct Whose {
    pub(super) upstream: Upstream,
    /// Where its name leads; `None` where the config says it itself.
    pub(super) at: Option<SocketAddr>,
}

impl Whose {
    pub(super) fn is(&self, upstream: &Upstream, at: Option<SocketAddr>) -> bool {
        self.at == at && self.upstream.is_same(upstream)
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{} at {at}", self.upstream.address),
            None => self.upstream.address.fmt(f),
        }
    }
}

/// What is there: one for the process, whichever route or config names it.
pub(super) struct Machine {
    whose: Whose,
    load: Load,
    record: Apart<Record>,
    places: Places,
    /// What it is asked beside the requests, for as long as a group has it asked.
    healths: Mutex<Vec<Weak<Health>>>,
    counts: AddressCounts,
    clock: SharedClock,
}

/// What is under way there. Every core writes it.
type Load = Apart<AtomicUsize>;

/// On a line of its own (two of 64 bytes, which processors fetch together), so that what all only read stays in their caches.
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl Machine {
    fn new(whose: Whose, clock: SharedClock, metrics: &Metrics) -> Self {
        let counts = metrics.upstream_address(&whose.upstream.address.to_string());
        let (load, record, places, healths) = (Load::default(), Apart::default(), Places::new(), Mutex::default());
        Self { whose, load, record, places, healths, counts, clock }
    }

    fn standing(&self) -> Standing {
        let (standing, turned) = self.record.0.standing(|| self.clock.now());
        if let Some(turned) = turned {
            self.tell(turned);
        }
        standing
    }

    fn tell(&self, turned: Turned) {
        match turned {
            Turned::Out(time) => {
                tracing::warn!(upstream = %self.whose, seconds = time.as_secs(), "the upstream's address fails and is left out for a while");
                self.counts.ejected();
            }
            Turned::Back => tracing::info!(upstream = %self.whose, "the upstream's address counts again, on trial"),
        }
        self.count();
    }

    /// Brings up to date what is counted of it.
    fn count(&self) {
        let out = self.standing() == Standing::Out;
        let healths = self.healths.lock().unwrap_or_else(PoisonError::into_inner);
        self.counts.left_out(out, healths.iter().filter_map(Weak::upgrade).any(|health| health.is_sick()));
    }

    /// How it does at a check, by all groups that have the same one.
    fn health(&self, check: &HealthCheck) -> Arc<Health> {
        let mut healths = self.healths.lock().unwrap_or_else(PoisonError::into_inner);
        healths.retain(|health| health.strong_count() > 0);
        if let Some(known) = healths.iter().filter_map(Weak::upgrade).find(|health| *health.check() == *check) {
            return known;
        }
        let health = Arc::new(Health::new(check.clone()));
        healths.push(Arc::downgrade(&health));
        health
    }
}

/// An address as one group takes it.
pub(super) struct Peer {
    machine: Arc<Machine>,
    ejection: Ejection,
    connections: Option<usize>,
    health: Option<Arc<Health>>,
}

impl Peer {
    pub(super) fn whose(&self) -> &Whose {
        &self.machine.whose
    }

    /// How it does at the group's check.
    pub(super) const fn health(&self) -> Option<&Arc<Health>> {
        self.health.as_ref()
    }

    /// What is under way there.
    pub(super) fn under_way(&self) -> usize {
        self.machine.load.0.load(Ordering::Relaxed)
    }

    /// The group's limit is the address's from now on.
    pub(super) fn bind(&self) {
        if let Some(connections) = self.connections {
            self.machine.places.become_(connections);
        }
    }

    /// Whether a place is free there.
    pub(super) fn has_place(&self) -> bool {
        self.connections.is_none() || self.machine.places.is_free()
    }

    /// Whether there are only so many places.
    pub(super) const fn is_limited(&self) -> bool {
        self.connections.is_some()
    }

    /// Whether it is to get requests.
    pub(super) fn standing(&self) -> Standing {
        if self.health.as_ref().is_some_and(|health| health.is_sick()) {
            return Standing::Out;
        }
        if self.ejection.failures == 0 { Standing::Counts } else { self.machine.standing() }
    }

    /// Whether a request may go there that it was chosen for: on trial it gets one a second.
    pub(super) fn takes(&self) -> bool {
        self.ejection.failures == 0 || self.machine.record.0.tries(|| self.machine.clock.now())
    }

    /// It answered.
    pub(super) fn worked(&self) {
        self.machine.record.0.worked();
    }

    /// It took no connection, what it sent is no answer, or it sent none in time.
    pub(super) fn failed(&self) {
        if let Some(turned) = self.machine.record.0.failed(self.ejection, self.machine.clock.now()) {
            self.machine.tell(turned);
        }
    }

    /// What a health check found; `why` where it failed.
    pub(super) fn checked(&self, health: &Health, found: Result<(), String>) {
        let well = found.is_ok();
        if !health.turns(well) {
            return;
        }
        match found {
            Ok(()) => tracing::info!(upstream = %self.whose(), "the upstream's address passes its health check again"),
            Err(why) => tracing::warn!(upstream = %self.whose(), why, "the upstream's address fails its health check and is left out"),
        }
        self.machine.count();
    }

    /// Takes a place there, and waits for one up to `limit`.
    ///
    /// # Errors
    /// [`Reason::UpstreamBusy`] when none became free, or too many wait already.
    pub(super) async fn held(&self, limit: Duration) -> Result<Held, Fault> {
        // Who waits counts as well: the next one goes where fewer wait.
        let mut held = Held::new(Arc::clone(&self.machine));
        if self.is_limited() {
            let place = self.machine.places.take(limit).await;
            held.place = Some(place.map_err(|why| Fault::new(Reason::UpstreamBusy, format!("{}: {why}", self.whose())))?);
        }
        Ok(held)
    }
}

/// Something under way there, to the end of its answer or its tunnel.
pub(super) struct Held {
    machine: Arc<Machine>,
    place: Option<Place>,
}

impl Held {
    fn new(machine: Arc<Machine>) -> Self {
        machine.load.0.fetch_add(1, Ordering::Relaxed);
        Self { machine, place: None }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.machine.load.0.fetch_sub(1, Ordering::Relaxed);
        if let Some(place) = self.place.take() {
            self.machine.places.give_back(place);
        }
    }
}

/// All addresses of the process: the same one is one, whichever group or config names it.
#[derive(Default)]
pub(super) struct Peers(Mutex<Vec<Weak<Machine>>>);

impl Peers {
    pub(super) fn of(&self, whose: Whose, settings: &GroupSettings, clock: &SharedClock, metrics: &Metrics) -> Peer {
        let machine = self.machine(whose, clock, metrics);
        let health = settings.check.as_ref().map(|check| machine.health(check));
        Peer { machine, ejection: settings.ejection, connections: settings.connections, health }
    }

    fn machine(&self, whose: Whose, clock: &SharedClock, metrics: &Metrics) -> Arc<Machine> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|machine| machine.strong_count() > 0);
        if let Some(machine) = known.iter().filter_map(Weak::upgrade).find(|machine| machine.whose.is(&whose.upstream, whose.at)) {
            return machine;
        }
        let machine = Arc::new(Machine::new(whose, Arc::clone(clock), metrics));
        known.push(Arc::downgrade(&machine));
        machine
    }

    /// Brings up to date what is counted of all of them.
    pub(super) fn count(&self) {
        let known: Vec<_> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
        known.iter().for_each(|machine| machine.count());
    }
}

#[cfg(test)]
mod tests {
    use super::super::UpstreamAddress;
    use super::super::tests::on_a_core;
    use super::*;
    use crate::clock::{ManualClock, SystemClock};

    fn settings(connections: Option<usize>, check: Option<&str>) -> GroupSettings {
        let check = check.map(HealthCheck::at);
        GroupSettings { connections, check, ..GroupSettings::default() }
    }

    fn peer(peers: &Peers, settings: &GroupSettings) -> Peer {
        peer_at(peers, settings, &(Arc::new(SystemClock) as SharedClock), &Metrics::new())
    }

    fn peer_at(peers: &Peers, settings: &GroupSettings, clock: &SharedClock, metrics: &Metrics) -> Peer {
        let upstream = Upstream { address: UpstreamAddress::parse("http://10.0.0.5:1").unwrap(), tls: None };
        peers.of(Whose { upstream, at: None }, settings, clock, metrics)
    }

    fn counts(peer: &Peer) -> bool {
        peer.standing() != Standing::Out
    }

    #[test]
    fn the_same_address_is_one_for_as_long_as_somebody_holds_it() {
        let (peers, usual) = (Peers::default(), GroupSettings::default());
        let one = peer(&peers, &usual);
        let other = peer(&peers, &settings(Some(7), None));
        assert!(Arc::ptr_eq(&one.machine, &other.machine), "whatever a route wants of it");
        (0..3).for_each(|_| one.failed());
        assert!(!counts(&one) && !counts(&other));
        let never = GroupSettings { ejection: Ejection { failures: 0, ..Ejection::default() }, ..usual.clone() };
        assert!(counts(&peer(&peers, &never)), "a route that leaves nobody out");
        drop((one, other));
        assert!(counts(&peer(&peers, &usual)), "nobody remembers");
    }

    #[test]
    fn what_is_held_counts_as_under_way_until_it_is_dropped() {
        on_a_core(async {
            let peer = peer(&Peers::default(), &GroupSettings::default());
            let held = [peer.held(Duration::ZERO).await.unwrap(), peer.held(Duration::ZERO).await.unwrap()];
            assert_eq!(peer.under_way(), 2);
            drop(held);
            assert_eq!(peer.under_way(), 0);
        });
    }

    #[test]
    fn two_routes_to_an_address_share_its_places() {
        on_a_core(async {
            let peers = Peers::default();
            let (one, other) = (peer(&peers, &settings(Some(2), None)), peer(&peers, &settings(Some(2), Some("/up"))));
            one.bind();
            other.bind();
            let _held = [one.held(Duration::ZERO).await.unwrap(), other.held(Duration::ZERO).await.unwrap()];
            assert!(!one.has_place() && !other.has_place() && one.under_way() == 2);
            let refused = one.held(Duration::ZERO).await.err().unwrap();
            assert_eq!(refused.reason, Reason::UpstreamBusy);
            assert!(refused.detail.contains("http://10.0.0.5:1: 2 at once is its limit, and none ended"), "{}", refused.detail);
            // A route without a limit has none.
            assert!(peer(&peers, &settings(None, None)).held(Duration::ZERO).await.is_ok());
        });
    }

    #[test]
    fn a_check_is_its_routes_alone_and_one_for_all_that_have_it() {
        let peers = Peers::default();
        let all = [Some("/up"), Some("/up"), Some("/other"), None].map(|path| peer(&peers, &settings(None, path)));
        let [one, same, _, _] = &all;
        let health = one.health().unwrap();
        assert!(Arc::ptr_eq(health, same.health().unwrap()));
        (0..3).for_each(|_| one.checked(health, Err("no".to_owned())));
        assert_eq!(all.each_ref().map(counts), [false, false, true, true]);
    }

    #[test]
    fn what_is_counted_of_it_is_right_though_no_request_comes() {
        let (clock, metrics, peers) = (Arc::new(ManualClock::default()), Metrics::new(), Peers::default());
        let shared: SharedClock = Arc::clone(&clock) as SharedClock;
        let peer = peer_at(&peers, &GroupSettings::default(), &shared, &metrics);
        let left_out = || metrics.encode().contains("doorward_upstream_addresses_left_out{upstream=\"http://10.0.0.5:1\"} 1");
        (0..3).for_each(|_| peer.failed());
        assert!(left_out());
        clock.advance(Duration::from_secs(11));
        peers.count();
        assert!(!left_out());
    }
}
