//! Which of several addresses a request goes to. Pure: whoever asks brings what is known of each.

use std::net::IpAddr;

use crate::identity::Identity;
use crate::session::SessionCookie;

/// `balance` of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// The one with the least under way for its weight.
    #[default]
    LeastOutstanding,
    /// One after the other, each as often as its weight says.
    RoundRobin,
    /// Always the same one for the same session.
    Sticky,
}

impl Balance {
    /// The word for it in the config.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LeastOutstanding => "least-outstanding",
            Self::RoundRobin => "round-robin",
            Self::Sticky => "sticky",
        }
    }
}

/// By what a request stays with an address where the route is sticky.
#[derive(Clone, Copy)]
pub enum Stick<'a> {
    /// By its session.
    Session(&'a SessionCookie),
    /// By who it is, where there is no session.
    Identity(&'a Identity),
    /// By where it comes from, where nobody is known.
    Address(IpAddr),
}

impl<'a> Stick<'a> {
    /// The steadiest of what is known.
    #[must_use]
    pub fn of(session: Option<&'a SessionCookie>, identity: Option<&'a Identity>, address: IpAddr) -> Self {
        match (session, identity) {
            (Some(session), _) => Self::Session(session),
            (None, Some(identity)) => Self::Identity(identity),
            (None, None) => Self::Address(address),
        }
    }

    /// The same on every core, in every process and in every version: replicas have to agree.
    pub(super) fn hash(&self) -> u64 {
        match self {
            Self::Session(cookie) => hash([&cookie.record_id()[..]]),
            Self::Identity(identity) => hash([identity.issuer.as_bytes(), identity.sub.as_bytes()]),
            Self::Address(IpAddr::V4(address)) => hash([&address.octets()[..]]),
            Self::Address(IpAddr::V6(address)) => hash([&address.octets()[..]]),
        }
    }
}

/// FNV-1a of the parts, their ends told, mixed. Written out because the standard library's hash may change with its version.
pub(super) fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |byte: u8| state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in parts {
        part.iter().copied().for_each(&mut take);
        take(0xff);
    }
    mixed(state)
}

/// Spreads what differs in any bit over all bits (the finalizer of SplitMix64).
const fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// One that may be chosen: its place among all, and its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) place: usize,
    pub(super) weight: u32,
}

/// Numbers that only have to be spread: among equals, and for a sample.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `bound`; 0 where that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0).checked_rem(bound).unwrap_or(0)
    }
}

/// More than these are not all looked at: each look may fetch a line that another core has just written.
const LOOKED_AT: usize = 8;

/// The one with the least `under_way` for its weight, this request included; by chance among equals. Of many, the better of two that are drawn by
/// their weights.
pub(super) fn least(
    candidates: impl Iterator<Item = Candidate> + Clone,
    under_way: impl Fn(usize) -> usize,
    chance: &mut Chance,
) -> Option<usize> {
    if candidates.clone().nth(LOOKED_AT).is_some() {
        let total: u64 = candidates.clone().map(|one| u64::from(one.weight)).sum();
        let drawn = [chance.below(total), chance.below(total)].map(|at| by_weight(candidates.clone(), at));
        return least_of_all(drawn.into_iter().flatten(), under_way, chance);
    }
    least_of_all(candidates, under_way, chance)
}

fn least_of_all(candidates: impl Iterator<Item = Candidate>, under_way: impl Fn(usize) -> usize, chance: &mut Chance) -> Option<usize> {
    let mut best: Option<(Candidate, u64)> = None;
    let mut equals = 1;
    for one in candidates {
        let load = u64::try_from(under_way(one.place)).unwrap_or(u64::MAX).saturating_add(1);
        let order = match &best {
            None => std::cmp::Ordering::Less,
            // Load for weight, multiplied out.
            Some((best, least)) => load.saturating_mul(u64::from(best.weight)).cmp(&least.saturating_mul(u64::from(one.weight))),
        };
        match order {
            std::cmp::Ordering::Less => (best, equals) = (Some((one, load)), 1),
            std::cmp::Ordering::Equal => {
                equals += 1;
                if chance.below(equals) == 0 {
                    best = Some((one, load));
                }
            }
            std::cmp::Ordering::Greater => {}
        }
    }
    best.map(|(one, _)| one.place)
}

/// The one that `at` falls on, each taking as much room as its weight.
fn by_weight(candidates: impl Iterator<Item = Candidate>, mut at: u64) -> Option<Candidate> {
    for one in candidates {
        match at.checked_sub(u64::from(one.weight)) {
            Some(rest) => at = rest,
            None => return Some(one),
        }
    }
    None
}

/// Turns by weight, spread out: of weights 3 and 1 the second is never two turns away from its turn.
#[derive(Debug, Default)]
pub(super) struct Turns(Vec<i64>);

impl Turns {
    pub(super) fn next(&mut self, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for Candidate { place, weight } in candidates {
            if self.0.len() <= place {
                self.0.resize(place + 1, 0);
            }
            let Some(credit) = self.0.get_mut(place) else { continue };
            *credit += i64::from(weight);
            total += i64::from(weight);
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((place, *credit));
            }
        }
        let (place, _) = best?;
        if let Some(credit) = self.0.get_mut(place) {
            *credit -= total;
        }
        Some(place)
    }
}

/// The one with the highest draw for this key (weighted rendezvous): when one goes only its own keys move, when one comes only its share moves to
/// it. `hash_of` is what an address is drawn by, and stays the same wherever it stands.
pub(super) fn rendezvous(candidates: impl Iterator<Item = Candidate>, hash_of: impl Fn(usize) -> u64, key: u64) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for Candidate { place, weight } in candidates {
        let draw = mixed(key ^ mixed(hash_of(place)));
        // 53 bits are what a double holds; the half keeps it off both ends.
        let even = ((draw >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        let score = -f64::from(weight) / even.ln();
        if best.is_none_or(|(_, most)| score > most) {
            best = Some((place, score));
        }
    }
    best.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(weights: &[u32]) -> impl Iterator<Item = Candidate> + Clone {
        weights.iter().copied().enumerate().map(|(place, weight)| Candidate { place, weight })
    }

    fn share(counts: &[usize], place: usize) -> f64 {
        counts[place] as f64 / counts.iter().sum::<usize>() as f64
    }

    fn due(weights: &[u32], place: usize) -> f64 {
        f64::from(weights[place]) / f64::from(weights.iter().sum::<u32>())
    }

    #[test]
    fn of_nobody_nobody_is_chosen() {
        assert_eq!(least(all(&[]), |_| 0, &mut Chance::new(1)), None);
        assert_eq!(Turns::default().next(all(&[])), None);
        assert_eq!(rendezvous(all(&[]), |_| 0, 1), None);
    }

    #[test]
    fn a_hash_is_the_same_in_every_version() {
        // Replicas of two versions run side by side while one is rolled out.
        assert_eq!(hash([&b"https://login.test"[..], &b"ann"[..]]), 0x63c4_f372_2c70_3316);
        assert_ne!(hash([&b"ab"[..], &b"c"[..]]), hash([&b"a"[..], &b"bc"[..]]));
    }

    #[test]
    fn equals_share_by_chance() {
        let (mut counts, mut chance) = ([0; 4], Chance::new(7));
        for _ in 0..4000 {
            counts[least(all(&[1; 4]), |_| 0, &mut chance).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn of_many_the_busy_ones_are_spared() {
        let (weights, mut chance) = ([2; 40], Chance::new(3));
        let mut under_way = [0_usize; 40];
        for _ in 0..4000 {
            let chosen = least(all(&weights), |place| under_way[place], &mut chance).unwrap();
            under_way[chosen] += 1;
        }
        // One draw alone would leave some with 60 and some with 140.
        let (least, most) = (under_way.iter().min().unwrap(), under_way.iter().max().unwrap());
        assert!(most - least <= 12, "{under_way:?}");
    }

    proptest! {
        #[test]
        fn the_least_busy_for_its_weight_is_chosen(given in prop::collection::vec((1_u32..100, 0_usize..1000), 1..=LOOKED_AT), seed: u64) {
            let weights: Vec<u32> = given.iter().map(|one| one.0).collect();
            let chosen = least(all(&weights), |place| given[place].1, &mut Chance::new(seed)).unwrap();
            let load = |(weight, under_way): (u32, usize)| (under_way as u64 + 1, u64::from(weight));
            let (top, bottom) = load(given[chosen]);
            for other in &given {
                let (other_top, other_bottom) = load(*other);
                prop_assert!(top * other_bottom <= other_top * bottom);
            }
        }

        #[test]
        fn what_never_ends_is_spread_by_weight(weights in prop::collection::vec(1_u32..10, 1..=LOOKED_AT), seed: u64) {
            let (mut under_way, mut chance) = (vec![0; weights.len()], Chance::new(seed));
            for _ in 0..2000 {
                let chosen = least(all(&weights), |place| under_way[place], &mut chance).unwrap();
                under_way[chosen] += 1;
            }
            for place in 0..weights.len() {
                prop_assert!((share(&under_way, place) - due(&weights, place)).abs() < 0.01, "{weights:?} {under_way:?}");
            }
        }

        #[test]
        fn a_round_gives_each_its_weight(weights in prop::collection::vec(1_u32..20, 1..12)) {
            let mut turns = Turns::default();
            let mut counts = vec![0; weights.len()];
            for _ in 0..weights.iter().sum::<u32>() {
                counts[turns.next(all(&weights)).unwrap()] += 1;
            }
            prop_assert_eq!(counts, weights);
        }

        #[test]
        fn only_the_keys_of_one_that_goes_move(weights in prop::collection::vec(1_u32..10, 2..8), gone: prop::sample::Index, seed: u64) {
            let gone = gone.index(weights.len());
            let hash_of = |place: usize| mixed(place as u64 ^ 0xabcd);
            for key in (0..500).map(|key| mixed(key ^ seed)) {
                let before = rendezvous(all(&weights), hash_of, key).unwrap();
                let after = rendezvous(all(&weights).filter(|one| one.place != gone), hash_of, key).unwrap();
                prop_assert!(after != gone && (before == gone || before == after));
            }
        }

        #[test]
        fn keys_are_spread_by_weight(weights in prop::collection::vec(1_u32..5, 2..6), seed: u64) {
            let mut counts = vec![0; weights.len()];
            for key in (0..4000).map(|key| mixed(key ^ seed)) {
                counts[rendezvous(all(&weights), |place| mixed(place as u64 ^ 0x1234), key).unwrap()] += 1;
            }
            for place in 0..weights.len() {
                prop_assert!((share(&counts, place) - due(&weights, place)).abs() < 0.05, "{weights:?} {counts:?}");
            }
        }

        #[test]
        fn a_heavier_weight_only_draws_keys_to_itself(weights in prop::collection::vec(1_u32..10, 2..8), grown: prop::sample::Index, seed: u64) {
            let grown = grown.index(weights.len());
            let mut heavier = weights.clone();
            heavier[grown] += 3;
            for key in (0..300).map(|key| mixed(key ^ seed)) {
                let before = rendezvous(all(&weights), |place| place as u64, key).unwrap();
                let after = rendezvous(all(&heavier), |place| place as u64, key).unwrap();
                prop_assert!(after == before || after == grown);
            }
        }
    }
}
