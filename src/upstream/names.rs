//! Names of upstreams and where they lead, looked up again and again beside the requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use super::lookup::{Answer, Found, Lookup};
use crate::tasks::{Ongoing, Tasks};
use crate::telemetry::Metrics;

/// A name is looked up again no sooner, and no later, whatever its TTL says.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(30);

/// All names of the process: the same one is looked up once, whoever has it for an upstream.
pub(super) struct Names {
    lookup: ArcSwap<Lookup>,
    /// Others are to be asked: who waits asks again now.
    others: Arc<Notify>,
    known: Mutex<Vec<Weak<Name>>>,
}

/// One name.
pub(super) struct Name {
    host: String,
    /// Goes up when it leads elsewhere: what cores look at.
    version: AtomicU64,
    leads: watch::Sender<Leads>,
    /// Looks it up, for as long as this lives.
    asking: Mutex<Option<Ongoing>>,
}

/// How its look-ups went before.
#[derive(Default)]
struct Before {
    /// One after the other.
    failures: u32,
    /// Who answered the last one that did not fail.
    by: Option<String>,
}

/// Where a name leads.
#[derive(Clone, Debug)]
enum Leads {
    /// It is being looked up for the first time.
    Unknown,
    /// Here, as of the last look-up that did not fail.
    To(Arc<[IpAddr]>),
    /// Nobody could ever say.
    Nowhere(String),
}

impl Names {
    pub(super) fn new() -> Self {
        Self { lookup: ArcSwap::from_pointee(Lookup::new(Vec::new())), others: Arc::default(), known: Mutex::default() }
    }

    /// From now on these are asked; none: those of `/etc/resolv.conf`.
    pub(super) fn ask(&self, servers: &[SocketAddr]) {
        if self.lookup.load().servers() == servers {
            return;
        }
        self.lookup.store(Arc::new(Lookup::new(servers.to_vec())));
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // What those before did not know these may: who comes waits for them.
        known.iter().filter_map(Weak::upgrade).for_each(|name| {
            name.leads.send_if_modified(|leads| {
                let nowhere = matches!(leads, Leads::Nowhere(_));
                if nowhere {
                    *leads = Leads::Unknown;
                }
                nowhere
            });
        });
        self.others.notify_waiters();
    }

    /// A name, which is looked up from now on for as long as somebody holds it.
    pub(super) fn of(self: &Arc<Self>, host: &str, tasks: &Tasks, metrics: &Arc<Metrics>) -> Arc<Name> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name| name.strong_count() > 0);
        if let Some(name) = known.iter().filter_map(Weak::upgrade).find(|name| name.host == host) {
            return name;
        }
        let name = Arc::new(Name::unknown(host));
        known.push(Arc::downgrade(&name));
        let asking = tasks.until_dropped(Arc::clone(self).look_up(Arc::downgrade(&name), Arc::clone(metrics)));
        *name.asking.lock().unwrap_or_else(PoisonError::into_inner) = Some(asking);
        name
    }

    async fn look_up(self: Arc<Self>, name: Weak<Name>, metrics: Arc<Metrics>) {
        let mut before = Before::default();
        while let Some(host) = name.upgrade().map(|name| name.host.clone()) {
            let others = self.others.notified();
            let lookup = self.lookup.load_full();
            let found = lookup.addresses(&host, before.by.as_deref()).await;
            let Some(name) = name.upgrade() else { return };
            if found.as_ref().map_or(true, |answer| answer.v4.is_err() || answer.v6.is_err()) {
                metrics.upstream_lookup_failed(&host);
            }
            let wait = name.take(found, &mut before);
            drop(name);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = others => {}
            }
        }
    }
}

impl Name {
    fn unknown(host: &str) -> Self {
        let leads = watch::Sender::new(Leads::Unknown);
        Self { host: host.to_owned(), version: AtomicU64::new(0), leads, asking: Mutex::default() }
    }

    /// What cores compare.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Where it leads now; empty where nobody could say.
    pub(super) fn addresses(&self) -> Arc<[IpAddr]> {
        match &*self.leads.borrow() {
            Leads::To(addresses) => Arc::clone(addresses),
            Leads::Unknown | Leads::Nowhere(_) => Arc::new([]),
        }
    }

    /// Why it leads nowhere.
    pub(super) fn problem(&self) -> Option<String> {
        match &*self.leads.borrow() {
            Leads::To(_) => None,
            Leads::Unknown => Some(format!("{}: its look-up takes too long", self.host)),
            Leads::Nowhere(why) => Some(format!("{}: {why}", self.host)),
        }
    }

    /// Whether its first look-up is still under way.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(*self.leads.borrow(), Leads::Unknown)
    }

    /// Waits for its first look-up.
    pub(super) async fn known(&self) {
        let mut leads = self.leads.subscribe();
        // The sender lives in `self`, so the wait cannot end early.
        drop(leads.wait_for(|leads| !matches!(leads, Leads::Unknown)).await);
    }

    /// Takes what a look-up found; when to ask again. A failure changes nothing but that it is told, once; that of one family nothing of that one.
    fn take(&self, found: Found, before: &mut Before) -> Duration {
        let known = self.addresses();
        let (addresses, wait, failed) = match found {
            Ok(Answer { v4, v6, holds, by }) => {
                // Of another name's addresses nothing is left.
                let kept: &[IpAddr] = if before.by.as_ref() == Some(&by) { &known } else { &[] };
                before.by = Some(by);
                let of = |fits: fn(&IpAddr) -> bool| kept.iter().copied().filter(fits).collect();
                let failed = v4.as_ref().err().or_else(|| v6.as_ref().err()).cloned();
                let halves = [v4.unwrap_or_else(|_| of(IpAddr::is_ipv4)), v6.unwrap_or_else(|_| of(IpAddr::is_ipv6))];
                (Some(halves.concat()), holds.clamp(SOONEST, LATEST), failed)
            }
            Err(why) => (None, (SOONEST * 2_u32.saturating_pow(before.failures.min(5))).min(LATEST), Some(why)),
        };
        match failed {
            Some(why) => {
                before.failures = before.failures.saturating_add(1);
                if before.failures == 1 {
                    let goes_on = !known.is_empty() || addresses.is_some();
                    tracing::warn!(name = self.host, why, goes_on, "the upstream's name cannot be looked up");
                }
                if known.is_empty() && addresses.is_none() {
                    self.leads.send_replace(Leads::Nowhere(why));
                }
            }
            None if std::mem::take(&mut before.failures) > 0 => {
                tracing::info!(name = self.host, "the upstream's name can be looked up again");
            }
            None => {}
        }
        if let Some(addresses) = addresses.filter(|addresses| **addresses != *known) {
            if !known.is_empty() {
                tracing::info!(name = self.host, ?addresses, "the upstream's name leads elsewhere");
            }
            self.leads.send_replace(Leads::To(addresses.into()));
            // After it: who sees the number sees what it stands for.
            self.version.fetch_add(1, Ordering::Release);
        }
        wait
    }
}

/// The peers that addresses of one name are, each with where a connection to it is tried, one after the other. A machine that has IPv4 and IPv6 is
/// one and not two: the other family is what a connection is tried with where the first does not take it. `localhost`, where an app listens on
/// one of them, is the commonest. Of several machines nobody says which two addresses are one: there one family counts, the other where this
/// machine `has_way` to it alone.
pub(super) fn peers_of(addresses: &[IpAddr], port: u16, has_way: impl Fn(SocketAddr) -> bool) -> Vec<Box<[SocketAddr]>> {
    let (v4, v6): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().map(|address| SocketAddr::new(*address, port)).partition(SocketAddr::is_ipv4);
    match (v4.as_slice(), v6.as_slice()) {
        ([one], other) => vec![std::iter::once(one).chain(other).copied().collect()],
        ([], several) => several.iter().map(|at| Box::from([*at])).collect(),
        (several, [other, ..]) if !several.iter().any(|at| has_way(*at)) && has_way(*other) => peers_of(&ips(&v6), port, has_way),
        (several, _) => several.iter().map(|at| Box::from([*at])).collect(),
    }
}

fn ips(addresses: &[SocketAddr]) -> Vec<IpAddr> {
    addresses.iter().map(SocketAddr::ip).collect()
}

/// Whether this machine would know where to send a packet for it. None is sent.
pub(super) fn has_way(to: SocketAddr) -> bool {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(to)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::lookup::Half;
    use super::*;

    fn name() -> Name {
        Name::unknown("app.test")
    }

    fn half(addresses: &[&str]) -> Half {
        Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    fn found(addresses: &[&str], seconds: u64) -> Found {
        answer(half(addresses), half(&[]), "app.test.", seconds)
    }

    fn answer(v4: Half, v6: Half, by: &str, seconds: u64) -> Found {
        Ok(Answer { v4, v6, holds: Duration::from_secs(seconds), by: by.to_owned() })
    }

    fn no() -> Half {
        Err("no".to_owned())
    }

    #[test]
    fn a_ttl_counts_between_one_second_and_thirty() {
        let (name, mut before) = (name(), Before::default());
        for (ttl, wait) in [(0, 1), (1, 1), (7, 7), (30, 30), (86_400, 30)] {
            assert_eq!(name.take(found(&["10.0.0.1"], ttl), &mut before), Duration::from_secs(wait));
        }
        assert_eq!(name.version(), 1, "the same answer is no change");
    }

    #[test]
    fn a_look_up_that_fails_keeps_the_last_answer_and_is_tried_again_ever_later() {
        let (name, mut before) = (name(), Before::default());
        let fail = |before: &mut Before| name.take(Err("no".to_owned()), before).as_secs();
        assert_eq!([fail(&mut before), fail(&mut before)], [1, 2]);
        assert!(name.problem().is_some_and(|why| why.contains("app.test: no")) && name.addresses().is_empty());
        assert_eq!(name.take(found(&["10.0.0.1", "10.0.0.2"], 5), &mut before), Duration::from_secs(5));
        let waits: Vec<u64> = (0..8).map(|_| fail(&mut before)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!((name.addresses().len(), name.problem(), name.version()), (2, None, 1));
    }

    #[test]
    fn half_an_answer_changes_its_half_alone() {
        let (name, mut before) = (name(), Before::default());
        let mut take = |v4: Half, v6: Half, by: &str| {
            let wait = name.take(answer(v4, v6, by, 5), &mut before).as_secs();
            assert_eq!(wait, 5, "the half that was found holds for so long");
            (format!("{:?}", name.addresses()), before.failures)
        };
        assert_eq!(take(half(&["10.0.0.1"]), no(), "app.test."), ("[10.0.0.1]".to_owned(), 1));
        assert_eq!(take(half(&["10.0.0.1"]), half(&["fd00::1"]), "app.test."), ("[10.0.0.1, fd00::1]".to_owned(), 0));
        assert_eq!(take(no(), half(&["fd00::2"]), "app.test."), ("[10.0.0.1, fd00::2]".to_owned(), 1));
        assert_eq!(take(half(&["10.0.0.2"]), no(), "app.test."), ("[10.0.0.2, fd00::2]".to_owned(), 2));
        assert_eq!(take(half(&["10.0.0.3"]), half(&[]), "app.test."), ("[10.0.0.3]".to_owned(), 0));
        // Found under another name, it is another machine.
        assert_eq!(take(no(), half(&["fd00::3"]), "app.corp.test."), ("[fd00::3]".to_owned(), 1));
    }

    #[test]
    fn two_families_are_one_machine_and_of_several_one_family_counts() {
        let peers = |addresses: &[&str], way: fn(&SocketAddr) -> bool| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            let peers = peers_of(&addresses, 80, |at| way(&at));
            peers.iter().map(|at| at.iter().map(|at| at.ip().to_string()).collect::<Vec<_>>().join("+")).collect::<Vec<_>>().join(" ")
        };
        for (addresses, expected) in [
            (&["127.0.0.1", "::1"][..], "127.0.0.1+::1"),
            (&["10.0.0.1", "10.0.0.2"], "10.0.0.1 10.0.0.2"),
            (&["::1"], "::1"),
            (&["fd00::1", "fd00::2"], "fd00::1 fd00::2"),
            (&["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"], "10.0.0.1 10.0.0.2"),
            (&[], ""),
        ] {
            assert_eq!(peers(addresses, |_| true), expected);
        }
        assert_eq!(peers(&["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"], SocketAddr::is_ipv6), "fd00::1 fd00::2");
        assert_eq!(peers(&["10.0.0.1", "10.0.0.2", "fd00::1"], |_| false), "10.0.0.1 10.0.0.2");
        assert!(has_way("127.0.0.2:9".parse().unwrap()));
    }
}
