//! Guessing is slow: failures are counted by name and by address, over all replicas, before anything is hashed.
//!
//! A name that reached its bound is refused until the time slot ends, whoever asks and whether or not anybody has it. So that a stranger
//! cannot keep its owner out by guessing, networks from which the owner signed in before have a count of their own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Denied;
use crate::clock::SharedClock;
use crate::fault::{Fault, Outage};
use crate::header::PreparedHeaders;
use crate::reason::Reason;
use crate::store::Sessions;

/// How long a network counts as one that somebody signs in from.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Whoever comes while too many guesses of their address are looked at may try again after this.
const BUSY: Duration = Duration::from_secs(1);

/// What is counted by address.
const GUESSES: &[u8] = b"guesses-of-address";
const KEYS: &[u8] = b"keys-of-address";

/// How many guesses may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuessLimits {
    /// For one name in one slot.
    pub per_name: u64,
    /// From one address (/64 for IPv6) in one slot.
    pub per_address: u64,
    /// How long a slot is.
    pub window: Duration,
}

/// What is guessed at. Passwords and codes are counted apart: whoever knows the password must not win new guesses at the code by it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::provider) enum Guessed {
    Password,
    Code,
}

impl Guessed {
    const fn word(self) -> &'static [u8] {
        match self {
            Self::Password => b"password",
            Self::Code => b"code",
        }
    }
}

/// Whose guess it is, and of which slot.
#[derive(Clone, Copy)]
pub(in crate::provider) struct Guess<'a> {
    pub(in crate::provider) at: Guessed,
    /// Who knows the name, by its `id` in the config: people of two places may have one name, and whoever has it at one must not win guesses
    /// at the other.
    pub(in crate::provider) place: &'a str,
    pub(in crate::provider) name: &'a str,
    pub(in crate::provider) from: IpAddr,
}

impl<'a> Guess<'a> {
    /// The mark of a network that its owner signs in from.
    fn known_from(&self, network: &'a [u8]) -> [&'a [u8]; 5] {
        [b"signs-in-from", self.at.word(), self.place.as_bytes(), self.name.as_bytes(), network]
    }
}

/// The counts. They lie in the store, so that all who hold one count together: the form, HTTP Basic, the token endpoint, on all replicas.
pub(in crate::provider) struct Throttle {
    sessions: Arc<Sessions<PreparedHeaders>>,
    limits: GuessLimits,
    clock: SharedClock,
    /// Guesses that are looked at, by network. They are no failures yet: without this a hundred at the same moment would be one.
    under_way: Mutex<HashMap<Vec<u8>, u64>>,
}

/// A guess that is looked at. To be held until it has failed or succeeded.
pub(in crate::provider) struct UnderWay<'a> {
    throttle: &'a Throttle,
    network: Vec<u8>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.throttle.under_way();
        if let Some(count) = under_way.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                under_way.remove(&self.network);
            }
        }
    }
}

impl Throttle {
    pub(in crate::provider) fn new(sessions: Arc<Sessions<PreparedHeaders>>, limits: GuessLimits, clock: SharedClock) -> Self {
        Self { sessions, limits, clock, under_way: Mutex::default() }
    }

    /// Counts a guess of this name before it is looked at, so that guesses made at the same moment count each other. What the address has to
    /// its name is failures alone: an office behind one address signs in every morning.
    pub(in crate::provider) async fn admit(&self, guess: Guess<'_>) -> Result<UnderWay<'_>, Denied> {
        let (slot, left) = self.slot();
        let under_way = self.admit_token(guess.from).await?;
        let counted = self.of_name(guess).await?;
        if self.sessions.count(&parts(&counted, &slot), self.limits.window).await? > self.limits.per_name {
            return Err(Denied::Slowed(Fault::new(Reason::GuessesOfName, "limits.guesses_per_name is reached"), left));
        }
        Ok(under_way)
    }

    /// Whether an address may still show keys that are wrong. They have a count of their own: a program with an old key must not keep the
    /// people behind the same address from signing in.
    pub(in crate::provider) async fn admit_key(&self, from: IpAddr) -> Result<(), Denied> {
        self.admit_address(KEYS, from, 0).await
    }

    /// A key was wrong.
    pub(in crate::provider) async fn failed_key(&self, from: IpAddr) -> Result<(), Outage> {
        self.failed_from(KEYS, from).await
    }

    async fn admit_address(&self, what: &[u8], from: IpAddr, under_way: u64) -> Result<(), Denied> {
        let (slot, left) = self.slot();
        let failed = self.sessions.counted(&[what, &network(from), &slot]).await?;
        if failed >= self.limits.per_address {
            return Err(Denied::Slowed(Fault::new(Reason::GuessesOfAddress, "limits.guesses_per_address is reached"), left));
        }
        if failed.saturating_add(under_way) >= self.limits.per_address {
            let fault = Fault::new(Reason::GuessesOfAddress, "with those that are looked at now limits.guesses_per_address is reached");
            return Err(Denied::Slowed(fault, BUSY));
        }
        Ok(())
    }

    /// One more of this network; how many there are beside it.
    fn begin(&self, network: Vec<u8>) -> (UnderWay<'_>, u64) {
        let mut under_way = self.under_way();
        let count = under_way.entry(network.clone()).or_default();
        let others = *count;
        *count = others.saturating_add(1);
        (UnderWay { throttle: self, network }, others)
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Vec<u8>, u64>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn failed_from(&self, what: &[u8], from: IpAddr) -> Result<(), Outage> {
        let (slot, _) = self.slot();
        self.sessions.count(&[what, &network(from), &slot], self.limits.window).await.map(drop)
    }

    /// The same for a password without a name: a token of others.
    pub(in crate::provider) async fn admit_token(&self, from: IpAddr) -> Result<UnderWay<'_>, Denied> {
        let (under_way, others) = self.begin(network(from));
        self.admit_address(GUESSES, from, others).await?;
        Ok(under_way)
    }

    /// It was wrong.
    pub(in crate::provider) async fn failed_token(&self, from: IpAddr) -> Result<(), Outage> {
        self.failed_from(GUESSES, from).await
    }

    /// It was wrong.
    pub(in crate::provider) async fn failed(&self, guess: Guess<'_>) -> Result<(), Outage> {
        self.failed_from(GUESSES, guess.from).await
    }

    /// It was right: the name's count begins again, the address's goes on. The network is one of theirs from now on, for what was right there:
    /// whoever knows the password must not win a count of codes by each network that they come from.
    pub(in crate::provider) async fn succeeded(&self, guess: Guess<'_>) -> Result<(), Outage> {
        let (slot, _) = self.slot();
        let counted = self.of_name(guess).await?;
        self.sessions.forget_count(&parts(&counted, &slot)).await?;
        let until = self.clock.now().plus(KNOWN_FOR);
        self.sessions.remember(&guess.known_from(&network(guess.from)), until).await.map(drop)
    }

    /// Under what the name is counted: by itself, or with a network that it is known from.
    async fn of_name(&self, guess: Guess<'_>) -> Result<Vec<Vec<u8>>, Outage> {
        let Guess { at, place, name, .. } = guess;
        let mut counted = vec![b"guesses-of-name".to_vec(), at.word().to_vec(), place.as_bytes().to_vec(), name.as_bytes().to_vec()];
        let network = network(guess.from);
        if self.sessions.remembered(&guess.known_from(&network)).await? {
            counted.push(network);
        }
        Ok(counted)
    }

    /// The slot of now, and how long it still is: slots stand still, so that the answer can say when the next one begins.
    fn slot(&self) -> ([u8; 8], Duration) {
        let (now, length) = (self.clock.now().0, self.limits.window.as_secs().max(1));
        ((now / length).to_be_bytes(), Duration::from_secs(length - now % length))
    }
}

fn parts<'a>(counted: &'a [Vec<u8>], slot: &'a [u8; 8]) -> Vec<&'a [u8]> {
    counted.iter().map(Vec::as_slice).chain([slot.as_slice()]).collect()
}

/// An address, or the /64 it is of.
pub(super) fn network(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().into_iter().take(8).collect(),
    }
}
