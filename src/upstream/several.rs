//! A group as one core sees it: its addresses with this core's connections to them, and the choice between them.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::balance::{Balance, Candidate, Chance, Stick, Turns, least, rendezvous};
use super::dial::Dial;
use super::ejection::Standing;
use super::group::{Found, Group};
use super::peer::Peer;
use super::pool::Pool;
use super::{TlsMissing, Upstream, UpstreamSettings};
use crate::clock::SharedClock;
use crate::fault::Fault;

/// One of the addresses.
pub(super) struct Member {
    pub(super) peer: Peer,
    pub(super) dial: Dial,
    pub(super) pool: Rc<Pool>,
    weight: u32,
    hash: u64,
}

/// Gives the connections to an address that was there before.
pub(super) type Known<'a> = dyn Fn(&Upstream, Option<SocketAddr>) -> Option<Rc<Pool>> + 'a;

/// The addresses of a group.
pub(super) struct Several {
    group: Arc<Group>,
    settings: UpstreamSettings,
    clock: SharedClock,
    version: Cell<u64>,
    members: RefCell<Rc<[Member]>>,
    turns: RefCell<Turns>,
    chance: RefCell<Chance>,
}

impl Several {
    /// With the connections that are `known`.
    pub(super) fn new(group: Arc<Group>, settings: UpstreamSettings, clock: SharedClock, known: &Known<'_>) -> Result<Self, TlsMissing> {
        // Cores that began their turns at the same place would go round together.
        let chance = Chance::new(u64::from_ne_bytes(crate::secret::random()));
        let several = Self {
            version: Cell::new(group.version()),
            group,
            settings,
            clock,
            members: RefCell::new(Rc::new([])),
            turns: RefCell::default(),
            chance: RefCell::new(chance),
        };
        several.take_up(known)?;
        Ok(several)
    }

    /// The addresses there are now. Only the very first request to a name waits for its look-up.
    pub(super) async fn members(&self, limit: Duration) -> Result<Rc<[Member]>, Fault> {
        let version = self.group.version();
        if version != self.version.get() {
            self.turn_to(version);
        }
        let members = Rc::clone(&self.members.borrow());
        if !members.is_empty() {
            return Ok(members);
        }
        self.group.known(limit).await;
        self.turn_to(self.group.version());
        let members = Rc::clone(&self.members.borrow());
        if members.is_empty() { Err(self.group.nowhere()) } else { Ok(members) }
    }

    /// Those that are there now.
    pub(super) fn pool_of(&self, upstream: &Upstream, at: Option<SocketAddr>) -> Option<Rc<Pool>> {
        pool_in(&self.members.borrow(), upstream, at)
    }

    #[cold]
    fn turn_to(&self, version: u64) {
        self.version.set(version);
        let before = Rc::clone(&self.members.borrow());
        // The first time has told whether TLS is missing.
        let _ = self.take_up(&|upstream: &Upstream, at: Option<SocketAddr>| pool_in(&before, upstream, at));
        self.turns.replace(Turns::default());
    }

    fn take_up(&self, known: &Known<'_>) -> Result<(), TlsMissing> {
        let member = |found: Found| {
            let Found { peer, ways, weight, hash } = found;
            let upstream = &peer.whose().upstream;
            let dial = Dial::new(upstream.address.clone(), upstream.tls.clone())?.at(ways);
            let pool = known(upstream, peer.whose().at).unwrap_or_else(|| Pool::new(&self.settings, Arc::clone(&self.clock)));
            peer.bind();
            Ok(Member { dial, pool, weight, hash, peer })
        };
        let members = self.group.peers().into_iter().map(member).collect::<Result<Vec<_>, TlsMissing>>()?;
        self.members.replace(members.into());
        Ok(())
    }

    /// One of them: of those that count and have a place, else of those that count, else of those on trial, else of all.
    pub(super) fn choose<'m>(&self, members: &'m [Member], stick: Stick<'_>) -> Option<(usize, &'m Member)> {
        if let [member] = members {
            return Some((0, member));
        }
        let not_out = self.not_out(members, None, stick);
        self.group.tell_none_counts(not_out.is_none());
        let place = not_out.or_else(|| self.one_of(members, None, stick, |_| true))?;
        members.get(place).map(|member| (place, member))
    }

    /// Another one than that at `but`, if there is one.
    pub(super) fn other<'m>(&self, members: &'m [Member], but: usize, stick: Stick<'_>) -> Option<&'m Member> {
        let place = self.not_out(members, Some(but), stick).or_else(|| self.one_of(members, Some(but), stick, |_| true))?;
        members.get(place)
    }

    /// The same of those alone that count.
    pub(super) fn other_that_counts<'m>(&self, members: &'m [Member], but: usize, stick: Stick<'_>) -> Option<&'m Member> {
        members.get(self.counting(members, Some(but), stick)?)
    }

    fn not_out(&self, members: &[Member], but: Option<usize>, stick: Stick<'_>) -> Option<usize> {
        self.counting(members, but, stick).or_else(|| self.one_of(members, but, stick, |peer| peer.standing() == Standing::Tried))
    }

    fn counting(&self, members: &[Member], but: Option<usize>, stick: Stick<'_>) -> Option<usize> {
        let place = self.one_of(members, but, stick, |peer| matches!(peer.standing(), Standing::Counts | Standing::OnTrial))?;
        // Of all cores that chose one on trial one gets it.
        if members.get(place).is_some_and(|member| member.peer.takes()) {
            return Some(place);
        }
        self.one_of(members, but, stick, |peer| peer.standing() == Standing::Counts)
    }

    /// Of those that are fit one with a place, else any of them.
    fn one_of(&self, members: &[Member], but: Option<usize>, stick: Stick<'_>, fit: impl Fn(&Peer) -> bool + Copy) -> Option<usize> {
        let peer = |one: &Candidate| members.get(one.place).map(|member| &member.peer);
        let fitting = candidates(members, but).filter(|one| peer(one).is_some_and(fit));
        self.choice(members, fitting.clone().filter(|one| peer(one).is_some_and(Peer::has_place)), stick)
            .or_else(|| self.choice(members, fitting, stick))
    }

    fn choice(&self, members: &[Member], candidates: impl Iterator<Item = Candidate> + Clone, stick: Stick<'_>) -> Option<usize> {
        let under_way = |place: usize| members.get(place).map_or(usize::MAX, |member| member.peer.under_way());
        match self.group.balance() {
            Balance::LeastOutstanding => least(candidates, under_way, &mut self.chance.borrow_mut()),
            Balance::RoundRobin => self.turns.borrow_mut().next(candidates),
            Balance::Sticky => rendezvous(candidates, |place| members.get(place).map_or(0, |member| member.hash), stick.hash()),
        }
    }

    /// As [`Dial::takes_upgrades`]; they are of one kind.
    pub(super) fn takes_upgrades(&self) -> bool {
        !self.group.addresses().any(|address| matches!(address, super::UpstreamAddress::H2c { .. }))
    }

    /// Where it leads, where the config writes one place.
    pub(super) fn address(&self) -> Option<&super::UpstreamAddress> {
        let mut addresses = self.group.addresses();
        addresses.next().filter(|_| addresses.next().is_none())
    }
}

fn pool_in(members: &[Member], upstream: &Upstream, at: Option<SocketAddr>) -> Option<Rc<Pool>> {
    members.iter().find(|member| member.peer.whose().is(upstream, at)).map(|member| Rc::clone(&member.pool))
}

fn candidates(members: &[Member], but: Option<usize>) -> impl Iterator<Item = Candidate> + Clone {
    let all = members.iter().enumerate().map(|(place, member)| Candidate { place, weight: member.weight });
    all.filter(move |one| Some(one.place) != but)
}

#[cfg(test)]
mod tests {
    use super::super::tests::on_a_core;
    use super::super::{Ejection, GroupSettings, Neighbours, UpstreamAddress};
    use super::*;
    use crate::clock::ManualClock;
    use crate::tasks::Tasks;
    use crate::telemetry::Metrics;

    const STICK: Stick<'static> = Stick::Address(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    /// Two, each with one place, left out at the first failure for ten seconds.
    fn two(clock: &Arc<ManualClock>) -> Several {
        let clock = Arc::clone(clock) as SharedClock;
        let neighbours = Neighbours::new(Arc::clone(&clock), Tasks::new(tokio::runtime::Handle::current()), Metrics::new());
        let upstream = |address: &str| (Upstream { address: UpstreamAddress::parse(address).unwrap(), tls: None }, 1);
        let ejection = Ejection { failures: 1, ..Ejection::default() };
        let settings = GroupSettings { ejection, connections: Some(1), ..GroupSettings::default() };
        let group = neighbours.group(vec![upstream("http://10.0.0.5:1"), upstream("http://10.0.0.6:1")], settings);
        Several::new(group, super::super::tests::settings(), clock, &|_, _| None).ok().unwrap()
    }

    fn chosen(several: &Several) -> [usize; 2] {
        let members = Rc::clone(&several.members.borrow());
        let mut counts = [0; 2];
        (0..40).for_each(|_| counts[several.choose(&members, STICK).unwrap().0] += 1);
        counts
    }

    #[test]
    fn on_trial_one_is_chosen_once_a_second_until_it_works() {
        on_a_core(async {
            let clock = Arc::new(ManualClock::default());
            let several = two(&clock);
            let members = Rc::clone(&several.members.borrow());
            members[0].peer.failed();
            assert_eq!(chosen(&several), [0, 40]);
            clock.advance(Duration::from_secs(11));
            // The other one is busy: it would be chosen each time.
            let busy = members[1].peer.held(Duration::ZERO).await.unwrap();
            let first = chosen(&several)[0];
            assert!((1..=2).contains(&first), "{first}: two, where the second changes meanwhile");
            drop(busy);
            members[0].peer.worked();
            assert!(chosen(&several).iter().all(|count| *count > 5));
        });
    }

    #[test]
    fn where_none_counts_one_with_a_place_is_chosen_and_one_on_trial_before_those_left_out() {
        on_a_core(async {
            let clock = Arc::new(ManualClock::default());
            let several = two(&clock);
            let members = Rc::clone(&several.members.borrow());
            members[0].peer.failed();
            clock.advance(Duration::from_secs(6));
            members[1].peer.failed();
            let held = members[0].peer.held(Duration::ZERO).await.unwrap();
            assert_eq!(chosen(&several), [0, 40]);
            drop(held);
            assert!(chosen(&several).iter().all(|count| *count > 5), "all count");
            clock.advance(Duration::from_secs(6));
            assert_eq!(chosen(&several), [40, 0]);
        });
    }
}
