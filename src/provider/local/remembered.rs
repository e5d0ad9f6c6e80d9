//! Passwords that were right a moment ago. A program shows its password with every request; hashing it each time would keep the machine busy with
//! nothing else.
//!
//! What is kept is no password but a tag of it under a key of this process. An entry is of one name from one network, and a password that does
//! not fit it was a guess like any other, though nothing was hashed: after as many as `limits.guesses_per_name` in one slot the entry answers
//! nobody any more, not even who is right, and every password is hashed and counted as if nothing were kept.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;

use super::throttle::{GuessLimits, network};
use crate::clock::UnixTime;
use crate::identity::Identity;
use crate::secret::{HmacKey, Secret, random, same};

/// How long a password counts as right without being hashed again. That the account goes, or gets another one, counts at once.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// Names and networks at once. Only a right password brings one in, so that no stranger drives others out.
const ENTRIES: usize = 16 * 1024;

/// A name, a password and a network, told by nothing but tags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tagged {
    /// Of the name and the network.
    place: [u8; 32],
    /// Of all three.
    pub(super) all: [u8; 32],
}

/// What is known of a password.
pub(super) enum Known {
    /// It is right, and the account was looked at this second.
    Right(Arc<Identity>),
    /// It was right for the hash of this fingerprint; whether that is still the account's has to be looked at.
    RightFor([u8; 32]),
    /// Nothing.
    Nothing,
}

/// The entries.
pub(super) struct Remembered {
    key: HmacKey,
    limits: GuessLimits,
    entries: Cache<[u8; 32], Arc<Entry>>,
}

struct Entry {
    all: [u8; 32],
    fingerprint: [u8; 32],
    identity: Arc<Identity>,
    hashed_at: UnixTime,
    looked_at: UnixTime,
    misses: Arc<Misses>,
}

/// Passwords that did not fit: of which slot, and how many.
#[derive(Default)]
struct Misses(Mutex<(u64, u64)>);

impl Misses {
    /// How many there were in this slot before; one more where this one is a miss as well.
    fn in_slot(&self, slot: u64, fits: bool) -> u64 {
        let mut misses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if misses.0 != slot {
            *misses = (slot, 0);
        }
        let before = misses.1;
        misses.1 = before.saturating_add(u64::from(!fits));
        before
    }

    fn at_least(&self, slot: u64, count: u64) {
        let mut misses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *misses = (slot, if misses.0 == slot { misses.1.max(count) } else { count });
    }
}

impl Remembered {
    pub(super) fn new(limits: GuessLimits) -> Self {
        Self { key: HmacKey::new(&random()), limits, entries: Cache::new(ENTRIES) }
    }

    pub(super) fn tagged(&self, name: &str, password: &Secret, from: IpAddr) -> Tagged {
        let (name, network) = (name.as_bytes(), network(from));
        Tagged {
            place: self.key.tag(&[b"place", name, &network]),
            all: self.key.tag(&[b"password", name, &network, password.expose().as_bytes()]),
        }
    }

    /// Compares in constant time, and counts what does not fit.
    pub(super) fn known(&self, tagged: &Tagged, now: UnixTime) -> Known {
        let Some(entry) = self.entries.get(&tagged.place) else { return Known::Nothing };
        let fits = same(&entry.all, &tagged.all);
        let slot = self.slot(now);
        let closed = entry.misses.in_slot(slot, fits) >= self.limits.per_name;
        // Also where the clock was set back.
        let over = now >= entry.hashed_at.plus(KEPT) || now < entry.hashed_at;
        match fits && !closed && !over {
            true if entry.looked_at == now => Known::Right(Arc::clone(&entry.identity)),
            true => Known::RightFor(entry.fingerprint),
            false => Known::Nothing,
        }
    }

    /// The guesses at this name are used up, perhaps on another replica: the entry answers nobody in this slot either.
    pub(super) fn close(&self, tagged: &Tagged, now: UnixTime) {
        if let Some(entry) = self.entries.get(&tagged.place) {
            entry.misses.at_least(self.slot(now), self.limits.per_name);
        }
    }

    fn slot(&self, now: UnixTime) -> u64 {
        now.0 / self.limits.window.as_secs().max(1)
    }

    /// It was hashed, and right for the hash of this fingerprint.
    pub(super) fn hashed(&self, tagged: &Tagged, fingerprint: [u8; 32], identity: &Arc<Identity>, now: UnixTime) {
        // What was guessed before goes on counting: else each renewal would win new guesses.
        let misses = self.entries.get(&tagged.place).map(|before| Arc::clone(&before.misses)).unwrap_or_default();
        let entry = Entry { all: tagged.all, fingerprint, identity: Arc::clone(identity), hashed_at: now, looked_at: now, misses };
        self.entries.insert(tagged.place, Arc::new(entry));
    }

    /// The account was looked at again: the hash is the one that the password was right for.
    pub(super) fn looked(&self, tagged: &Tagged, identity: &Arc<Identity>, now: UnixTime) {
        let Some(before) = self.entries.get(&tagged.place).filter(|entry| entry.all == tagged.all) else { return };
        let Entry { all, fingerprint, hashed_at, .. } = *before;
        let misses = Arc::clone(&before.misses);
        let entry = Entry { all, fingerprint, identity: Arc::clone(identity), hashed_at, looked_at: now, misses };
        self.entries.insert(tagged.place, Arc::new(entry));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::{ClaimMapping, ClaimPath, EmailVerification, Source};

    const LIMITS: GuessLimits = GuessLimits { per_name: 3, per_address: 100, window: Duration::from_secs(900) };
    const NOW: UnixTime = UnixTime(900_000);
    const SAME: [u8; 32] = [7; 32];

    fn identity() -> Arc<Identity> {
        let path = |text| ClaimPath::parse(text).unwrap();
        let mapping = ClaimMapping { user: path("sub"), email: None, groups: None, email_verification: EmailVerification::Required };
        let claims = json!({"sub": "ann"}).as_object().unwrap().clone();
        Arc::new(Identity::from_claims("https://own.test", Source::Provider("local".into()), &mapping, claims).unwrap())
    }

    struct World(Remembered);

    impl World {
        fn tagged(&self, name: &str, password: &str, from: &str) -> Tagged {
            self.0.tagged(name, &Secret::new(password), from.parse().unwrap())
        }

        fn known(&self, name: &str, password: &str, from: &str, now: UnixTime) -> &'static str {
            match self.0.known(&self.tagged(name, password, from), now) {
                Known::Right(_) => "right",
                Known::RightFor(fingerprint) if fingerprint == SAME => "look",
                Known::RightFor(_) => "look at another",
                Known::Nothing => "nothing",
            }
        }

        fn hashed(&self, now: UnixTime) {
            self.0.hashed(&self.tagged("ann", "right", "192.0.2.1"), SAME, &identity(), now);
        }
    }

    fn world() -> World {
        World(Remembered::new(LIMITS))
    }

    #[test]
    fn what_was_hashed_is_right_for_a_second_and_looked_at_for_minutes() {
        let world = world();
        assert_eq!(world.known("ann", "right", "192.0.2.1", NOW), "nothing");
        world.hashed(NOW);
        assert_eq!(world.known("ann", "right", "192.0.2.1", NOW), "right");
        let next = UnixTime(NOW.0 + 1);
        assert_eq!(world.known("ann", "right", "192.0.2.1", next), "look");
        world.0.looked(&world.tagged("ann", "right", "192.0.2.1"), &identity(), next);
        assert_eq!(world.known("ann", "right", "192.0.2.1", next), "right");
        assert_eq!(world.known("ann", "right", "192.0.2.1", UnixTime(NOW.0 + 299)), "look");
        // Looking prolongs nothing.
        assert_eq!(world.known("ann", "right", "192.0.2.1", UnixTime(NOW.0 + 300)), "nothing");
        assert_eq!(world.known("ann", "right", "192.0.2.1", UnixTime(NOW.0 - 1)), "nothing");
        // Somebody else, another password, another network: nothing is known of them.
        for (name, password, from) in
            [("bob", "right", "192.0.2.1"), ("ann", "Right", "192.0.2.1"), ("ann", "", "192.0.2.1"), ("ann", "right", "192.0.2.2")]
        {
            assert_eq!(world.known(name, password, from, NOW), "nothing", "{name} {password} {from}");
        }
        assert_eq!(World(Remembered::new(LIMITS)).known("ann", "right", "192.0.2.1", NOW), "nothing");
    }

    #[test]
    fn guesses_close_an_entry_for_the_rest_of_the_slot_whoever_is_right() {
        let world = world();
        world.hashed(NOW);
        for guess in 0..3 {
            assert_eq!(world.known("ann", "right", "192.0.2.1", NOW), "right", "{guess}");
            assert_eq!(world.known("ann", "wrong", "192.0.2.1", NOW), "nothing");
        }
        assert_eq!(world.known("ann", "right", "192.0.2.1", NOW), "nothing");
        // Being hashed again opens nothing; the next slot does, and closes again.
        world.hashed(NOW);
        assert_eq!(world.known("ann", "right", "192.0.2.1", NOW), "nothing");
        let next = UnixTime(NOW.0 + 900);
        world.hashed(next);
        for _ in 0..3 {
            assert_eq!(world.known("ann", "right", "192.0.2.1", next), "right");
            assert_eq!(world.known("ann", "wrong", "192.0.2.1", next), "nothing");
        }
        assert_eq!(world.known("ann", "right", "192.0.2.1", next), "nothing");
    }

    #[test]
    fn a_slot_that_ends_meanwhile_wins_no_endless_guesses() {
        let world = world();
        let late = UnixTime(NOW.0 + 899);
        world.hashed(late);
        let next = UnixTime(NOW.0 + 901);
        for _ in 0..3 {
            assert_eq!(world.known("ann", "wrong", "192.0.2.1", next), "nothing");
        }
        assert_eq!(world.known("ann", "right", "192.0.2.1", next), "nothing");
    }
}
