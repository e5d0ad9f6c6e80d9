//! A group as one core sees it: its addresses with this core's connections to them, and the choice between them.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::balance::{Balance, Candidate, Chance, Stick, Turns, least, rendezvous};
use super::dial::Dial;
use super::group::Group;
use super::peer::Peer;
use super::pool::Pool;
use super::{TlsMissing, Upstream, UpstreamSettings};
use crate::clock::SharedClock;
use crate::fault::Fault;

/// One of the addresses.
pub(super) struct Member {
    pub(super) peer: Arc<Peer>,
    pub(super) dial: Dial,
    pub(super) pool: Rc<Pool>,
    weight: u32,
    hash: u64,
}

/// Gives the connections to an address that was there before.
pub(super) type Known<'a> = dyn Fn(&Upstream, &[SocketAddr]) -> Option<Rc<Pool>> + 'a;

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
    pub(super) fn pool_of(&self, upstream: &Upstream, at: &[SocketAddr]) -> Option<Rc<Pool>> {
        let members = self.members.borrow();
        let known = |member: &&Member| *member.peer.whose.at == *at && member.peer.whose.upstream.is_same(upstream);
        members.iter().find(known).map(|member| Rc::clone(&member.pool))
    }

    #[cold]
    fn turn_to(&self, version: u64) {
        self.version.set(version);
        let before = Rc::clone(&self.members.borrow());
        let known = |upstream: &Upstream, at: &[SocketAddr]| {
            let same = |member: &&Member| *member.peer.whose.at == *at && member.peer.whose.upstream.is_same(upstream);
            before.iter().find(same).map(|member| Rc::clone(&member.pool))
        };
        // The first time has told whether TLS is missing.
        let _ = self.take_up(&known);
        self.turns.replace(Turns::default());
    }

    fn take_up(&self, known: &Known<'_>) -> Result<(), TlsMissing> {
        let member = |found: super::group::Found| {
            let upstream = &found.peer.whose.upstream;
            let dial = Dial::new(upstream.address.clone(), upstream.tls.clone())?.at(found.peer.whose.at.clone());
            let pool = known(upstream, &found.peer.whose.at).unwrap_or_else(|| Pool::new(&self.settings, Arc::clone(&self.clock)));
            Ok(Member { dial, pool, weight: found.weight, hash: found.hash, peer: found.peer })
        };
        let members = self.group.peers().into_iter().map(member).collect::<Result<Vec<_>, TlsMissing>>()?;
        self.members.replace(members.into());
        Ok(())
    }

    /// One of them: of those that count and have a place, else of those that count, else of all.
    pub(super) fn choose<'m>(&self, members: &'m [Member], stick: Stick<'_>) -> Option<(usize, &'m Member)> {
        if let [member] = members {
            return Some((0, member));
        }
        let counting = self.counting(members, None, stick);
        self.group.tell_none_counts(counting.is_none());
        let place = counting.or_else(|| self.one_of(members, candidates(members, None), stick))?;
        members.get(place).map(|member| (place, member))
    }

    /// Another one than that at `but`, if there is one.
    pub(super) fn other<'m>(&self, members: &'m [Member], but: usize, stick: Stick<'_>) -> Option<&'m Member> {
        let place = self.counting(members, Some(but), stick).or_else(|| self.one_of(members, candidates(members, Some(but)), stick))?;
        members.get(place)
    }

    /// The same of those alone that count.
    pub(super) fn other_that_counts<'m>(&self, members: &'m [Member], but: usize, stick: Stick<'_>) -> Option<&'m Member> {
        members.get(self.counting(members, Some(but), stick)?)
    }

    fn counting(&self, members: &[Member], but: Option<usize>, stick: Stick<'_>) -> Option<usize> {
        let counts = |one: &Candidate| members.get(one.place).is_some_and(|member| member.peer.counts());
        let has_place = |one: &Candidate| members.get(one.place).is_some_and(|member| member.peer.has_place());
        let counting = candidates(members, but).filter(counts);
        self.one_of(members, counting.clone().filter(has_place), stick).or_else(|| self.one_of(members, counting, stick))
    }

    fn one_of(&self, members: &[Member], candidates: impl Iterator<Item = Candidate> + Clone, stick: Stick<'_>) -> Option<usize> {
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

fn candidates(members: &[Member], but: Option<usize>) -> impl Iterator<Item = Candidate> + Clone {
    let all = members.iter().enumerate().map(|(place, member)| Candidate { place, weight: member.weight });
    all.filter(move |one| Some(one.place) != but)
}
