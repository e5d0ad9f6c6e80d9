//! What one route leads to: an address or several, and how requests are spread over them. Shared by all cores.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::balance::{Balance, hash};
use super::ejection::Ejection;
use super::health::{self, HealthCheck};
use super::names::{Name, Names, has_way, peers_of};
use super::peer::{Peer, Peers, Whose};
use super::{Upstream, UpstreamAddress};
use crate::clock::SharedClock;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::tasks::{Ongoing, Tasks};
use crate::telemetry::Metrics;

/// How requests are spread, and what an address has to do to get any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSettings {
    /// Which one gets a request.
    pub balance: Balance,
    /// When one is left out that fails.
    pub ejection: Ejection,
    /// What each is asked beside the requests; `None`: nothing.
    pub check: Option<HealthCheck>,
    /// How many requests each may have at once, all cores together; `None`: any number.
    pub connections: Option<usize>,
}

/// An entry of the config.
struct Entry {
    upstream: Upstream,
    weight: u32,
    /// Where it is one.
    name: Option<(Arc<Name>, u16)>,
}

/// One or several addresses, under one [`crate::route::UpstreamId`].
pub struct Group {
    entries: Vec<Entry>,
    settings: GroupSettings,
    standing: Option<Standing>,
    /// Whether none of them is to get requests, and so all do.
    none_counts: AtomicBool,
    /// Health checks, for as long as this lives.
    checks: Mutex<Option<Ongoing>>,
}

#[derive(Clone)]
struct Standing {
    peers: Arc<Peers>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
}

/// An address as a core takes it up.
pub(super) struct Found {
    pub(super) peer: Peer,
    /// Where a connection is tried, one after the other; empty: where the config says.
    pub(super) ways: Box<[SocketAddr]>,
    pub(super) weight: u32,
    /// What sessions are drawn to it by.
    pub(super) hash: u64,
}

impl Group {
    /// One address and nothing to know of it; a name is looked up at each connection.
    #[must_use]
    pub fn single(upstream: Upstream) -> Arc<Self> {
        let entries = vec![Entry { upstream, weight: 1, name: None }];
        Arc::new(Self::made(entries, GroupSettings::default(), None))
    }

    fn made(entries: Vec<Entry>, settings: GroupSettings, standing: Option<Standing>) -> Self {
        Self { entries, settings, standing, none_counts: AtomicBool::new(false), checks: Mutex::default() }
    }

    /// Where requests go without a choice, a look-up or a count: one address that the config itself says, without a limit.
    pub(super) fn alone(&self) -> Option<&Upstream> {
        match self.entries.as_slice() {
            [Entry { upstream, name: None, .. }] if self.settings.connections.is_none() => Some(upstream),
            _ => None,
        }
    }

    pub(super) const fn balance(&self) -> Balance {
        self.settings.balance
    }

    /// The addresses as the config writes them.
    pub fn addresses(&self) -> impl Iterator<Item = &UpstreamAddress> {
        self.entries.iter().map(|entry| &entry.upstream.address)
    }

    /// What cores compare to learn that its names lead elsewhere.
    pub(super) fn version(&self) -> u64 {
        self.entries.iter().filter_map(|entry| entry.name.as_ref()).map(|(name, _)| name.version()).sum()
    }

    /// Waits until its names were looked up once, or the time is over.
    pub(super) async fn known(&self, limit: Duration) {
        let all = async {
            for (name, _) in self.entries.iter().filter_map(|entry| entry.name.as_ref()) {
                name.known().await;
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }

    /// The addresses there are now.
    pub(super) fn peers(&self) -> Vec<Found> {
        let Some(Standing { peers, clock, metrics }) = &self.standing else { return Vec::new() };
        let mut found = Vec::new();
        for Entry { upstream, weight, name } in &self.entries {
            let all = match name {
                None => vec![Box::default()],
                Some((name, port)) => peers_of(&name.addresses(), *port, has_way),
            };
            for ways in all {
                let at = ways.first().copied();
                let hash = hash([format!("{} {at:?}", upstream.address).as_bytes()]);
                let peer = peers.of(Whose { upstream: upstream.clone(), at }, &self.settings, clock, metrics);
                found.push(Found { peer, ways, weight: *weight, hash });
            }
        }
        found
    }

    /// Why there is no address at all.
    pub(super) fn nowhere(&self) -> Fault {
        let names = || self.entries.iter().filter_map(|entry| entry.name.as_ref()).map(|(name, _)| name);
        let problems: Vec<String> = names().filter_map(|name| name.problem()).collect();
        let late = names().any(|name| name.is_awaited());
        Fault::new(if late { Reason::UpstreamTimeout } else { Reason::UpstreamUnreachable }, problems.join("; "))
    }

    /// Tells when all are left out, which would be nobody, and when that is over.
    pub(super) fn tell_none_counts(&self, none: bool) {
        if self.none_counts.load(Ordering::Relaxed) == none || self.none_counts.swap(none, Ordering::Relaxed) == none {
            return;
        }
        let upstream = self.addresses().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if none {
            tracing::warn!(upstream, "all addresses of the upstream are left out, and so all of them count");
        } else {
            tracing::info!(upstream, "an address of the upstream counts again");
        }
    }

    fn is_same(&self, entries: &[(Upstream, u32)], settings: &GroupSettings) -> bool {
        let same = |(known, (upstream, weight)): (&Entry, &(Upstream, u32))| known.weight == *weight && known.upstream.is_same(upstream);
        self.settings == *settings && self.entries.len() == entries.len() && self.entries.iter().zip(entries).all(same)
    }
}

/// What outlives every config: addresses and how they do, names and where they lead, groups that stay the same.
pub struct Neighbours {
    names: Arc<Names>,
    standing: Standing,
    tasks: Tasks,
    groups: Mutex<Vec<Weak<Group>>>,
}

impl Neighbours {
    /// None known yet. Look-ups and checks run on `tasks`.
    #[must_use]
    pub fn new(clock: SharedClock, tasks: Tasks, metrics: Arc<Metrics>) -> Self {
        Self {
            names: Arc::new(Names::new()),
            standing: Standing { peers: Arc::default(), clock, metrics },
            tasks,
            groups: Mutex::default(),
        }
    }

    /// Whom to ask for names; none: as `/etc/resolv.conf` says.
    pub fn ask(&self, servers: &[SocketAddr]) {
        self.names.ask(servers);
    }

    /// Brings up to date what is counted of addresses; what is over is noticed by requests alone.
    pub fn count(&self) {
        self.standing.peers.count();
    }

    /// The group of these entries, each with its weight: the one that is there where nothing of it has changed.
    #[must_use]
    pub fn group(&self, entries: Vec<(Upstream, u32)>, settings: GroupSettings) -> Arc<Group> {
        let mut known = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|group| group.strong_count() > 0);
        if let Some(group) = known.iter().filter_map(Weak::upgrade).find(|group| group.is_same(&entries, &settings)) {
            return group;
        }
        let named = |(upstream, weight): (Upstream, u32)| {
            let name = match &upstream.address {
                UpstreamAddress::Http { host, port }
                | UpstreamAddress::Https { host, port }
                | UpstreamAddress::H2c { host, port }
                | UpstreamAddress::H2 { host, port }
                    if host.parse::<IpAddr>().is_err() =>
                {
                    Some((self.names.of(host, &self.tasks, &self.standing.metrics), *port))
                }
                _ => None,
            };
            Entry { upstream, weight, name }
        };
        let entries = entries.into_iter().map(named).collect();
        let group = Arc::new(Group::made(entries, settings, Some(self.standing.clone())));
        if let Some(check) = &group.settings.check {
            let checking =
                self.tasks.until_dropped(health::keep_checking(Arc::downgrade(&group), check.interval, Arc::clone(&self.standing.clock)));
            *group.checks.lock().unwrap_or_else(PoisonError::into_inner) = Some(checking);
        }
        known.push(Arc::downgrade(&group));
        group
    }
}
