//! An issuer's keys, fetched when first needed and kept: fresh ones without a wait, old ones rather than none, newer ones when a token
//! names a key that is not there.
//!
//! Everything a stranger can send shares one refetch a minute, so that forged key names cost the issuer nothing (SECURITY 27).

mod fetch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

pub use fetch::{FetchKeys, FetchedKeys, KeysFuture, ResolveJwksUri, over_http};

use crate::clock::{SharedClock, UnixTime};
use crate::fault::Outage;
use crate::tasks::Tasks;
use crate::token::KeySet;

/// How long keys go on counting that cannot be refreshed: one that was withdrawn must not count for ever because nobody answers.
const STALE_MOST: Duration = Duration::from_secs(24 * 60 * 60);
/// How long nothing is asked after a fetch that failed.
const PAUSE: Duration = Duration::from_secs(5);
/// The time over which refetches are counted.
const PERIOD: Duration = Duration::from_secs(60);
/// Refetches a period for everything a stranger can send, and for ID tokens, which come from the token endpoint.
const STRANGER_REFETCHES: u32 = 1;
const ID_TOKEN_REFETCHES: u32 = 6;

/// How long a document of keys counts before it is looked at again.
#[derive(Clone, Copy, Debug)]
struct Freshness {
    /// Where the issuer says nothing.
    usual: Duration,
    /// The bounds within which the issuer's `Cache-Control: max-age` counts.
    least: Duration,
    most: Duration,
    /// How long after that keys are used at once while newer ones are fetched beside it. Later, the first who needs them waits for the newer
    /// ones: what has not been looked at for long may have been withdrawn long ago.
    beside: Duration,
}

/// Published by the issuer.
const PUBLISHED: Freshness = Freshness {
    usual: Duration::from_secs(60 * 60),
    least: Duration::from_secs(5 * 60),
    most: Duration::from_secs(6 * 60 * 60),
    beside: Duration::from_secs(10 * 60),
};

/// In a file, which costs nobody anything to look at.
const IN_A_FILE: Freshness =
    Freshness { usual: Duration::from_secs(2), least: Duration::from_secs(2), most: Duration::from_secs(2), beside: Duration::ZERO };

/// What a second look for a token's key came to.
pub enum Looked {
    /// There are newer keys.
    Newer(Arc<KeySet>),
    /// The issuer was asked, and has none newer.
    NoneNewer,
    /// Nobody was asked: what strangers' tokens may cost the issuer is used up for now.
    TooSoon,
}

/// On whose account newer keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// An access token: anybody can send one.
    Stranger,
    /// An ID token: it came from the provider's token endpoint.
    IdToken,
}

/// One issuer's keys. Shared as `Arc<JwksCache>`.
pub struct JwksCache {
    shared: Arc<Shared>,
    tasks: Tasks,
}

struct Shared {
    fetch: FetchKeys,
    freshness: Freshness,
    clock: SharedClock,
    state: Mutex<State>,
    /// Which document counts and until when it is fresh, for those who only want to know whether it is another. The edition is written first.
    edition: AtomicU64,
    fresh_until: AtomicU64,
    /// Changes whenever a fetch has ended.
    ended: watch::Sender<()>,
}

struct State {
    current: Option<Current>,
    /// The last fetch, if it failed.
    failure: Option<Failure>,
    /// Fetches run one at a time and are numbered; one runs while these differ.
    begun: u64,
    ended: u64,
    strangers: Allowance,
    id_tokens: Allowance,
}

struct Current {
    keys: Arc<KeySet>,
    fresh_until: UnixTime,
    /// The number of the fetch that brought it, from 1 on.
    edition: u64,
}

struct Failure {
    at: UnixTime,
    outage: Outage,
}

impl JwksCache {
    /// Keys that an issuer publishes. Nothing is fetched yet.
    #[must_use]
    pub fn new(fetch: FetchKeys, clock: SharedClock, tasks: Tasks) -> Self {
        Self::with(fetch, PUBLISHED, clock, tasks)
    }

    /// Keys that lie in a file, which is read again while it is used: a change counts within seconds.
    #[must_use]
    pub fn of_file(path: PathBuf, clock: SharedClock, tasks: Tasks) -> Self {
        Self::with(fetch::from_file(path), IN_A_FILE, clock, tasks)
    }

    fn with(fetch: FetchKeys, freshness: Freshness, clock: SharedClock, tasks: Tasks) -> Self {
        let state = State {
            current: None,
            failure: None,
            begun: 0,
            ended: 0,
            strangers: Allowance::new(STRANGER_REFETCHES),
            id_tokens: Allowance::new(ID_TOKEN_REFETCHES),
        };
        let shared = Shared {
            fetch,
            freshness,
            clock,
            state: Mutex::new(state),
            edition: AtomicU64::new(0),
            fresh_until: AtomicU64::new(0),
            ended: watch::Sender::new(()),
        };
        Self { shared: Arc::new(shared), tasks }
    }

    /// The number of the document that counts, if it is fresh at `now`: two that are the same hold the same keys. Takes no lock.
    #[must_use]
    pub fn fresh_edition(&self, now: UnixTime) -> Option<u64> {
        let fresh_until = UnixTime(self.shared.fresh_until.load(Ordering::Acquire));
        (now < fresh_until).then(|| self.shared.edition.load(Ordering::Acquire))
    }

    /// The keys that [`JwksCache::keys`] would give, with the number of their document, as long as it would neither wait nor ask anybody.
    #[must_use]
    pub fn at_hand(&self) -> Option<(Arc<KeySet>, u64)> {
        let state = self.shared.lock();
        let now = self.shared.clock.now();
        let nobody_to_ask = || state.running() || state.paused(now).is_some();
        let counts = match state.usable(now, self.shared.freshness)? {
            Usable::Fresh => true,
            Usable::Stale => nobody_to_ask(),
        };
        state.current.as_ref().filter(|_| counts).map(|current| (Arc::clone(&current.keys), current.edition))
    }

    /// The keys there are. Waits only for the first fetch, or where the keys have not been looked at for long; keys that could not be
    /// refreshed go on counting. An outage when there are none at all.
    pub async fn keys(&self) -> Result<Arc<KeySet>, Outage> {
        let (usable, flight, mut ended) = {
            let mut state = self.shared.lock();
            let now = self.shared.clock.now();
            let usable = match (&state.current, state.usable(now, self.shared.freshness)) {
                (Some(current), Some(Usable::Fresh)) => return Ok(Arc::clone(&current.keys)),
                (Some(current), Some(Usable::Stale)) => Some(Arc::clone(&current.keys)),
                _ => None,
            };
            let flight = match state.paused(now) {
                _ if state.running() => None,
                None => Some(self.begin(&mut state)),
                Some(outage) if usable.is_none() => return Err(outage),
                Some(_) => None,
            };
            (usable, flight, self.shared.ended.subscribe())
        };
        self.launch(flight);
        if let Some(keys) = usable {
            return Ok(keys);
        }
        // The sender lives in `self`, so the wait cannot end early.
        let _ = ended.changed().await;
        let state = self.shared.lock();
        let now = self.shared.clock.now();
        match (&state.current, &state.failure) {
            (Some(current), _) if now < current.fresh_until.plus(STALE_MOST) => Ok(Arc::clone(&current.keys)),
            (_, Some(failure)) => Err(failure.outage.clone()),
            (_, None) => Err(Outage::keys("the keys were not fetched")),
        }
    }

    /// Newer keys than `seen`, in which a token's key was not found. `None`: there are none, or it is not the time to ask again. An outage
    /// when asking failed: whether the key exists is then not known.
    pub async fn keys_after_unknown(&self, budget: Budget, seen: &Arc<KeySet>) -> Result<Option<Arc<KeySet>>, Outage> {
        Ok(match self.look_again(budget, seen).await? {
            Looked::Newer(keys) => Some(keys),
            Looked::NoneNewer | Looked::TooSoon => None,
        })
    }

    /// The same for whom it makes a difference whether anybody looked. Those who wait at the same time share one fetch.
    pub async fn look_again(&self, budget: Budget, seen: &Arc<KeySet>) -> Result<Looked, Outage> {
        let outcome = |state: &State| Ok(state.outcome(seen)?.map_or(Looked::NoneNewer, Looked::Newer));
        let arrived = {
            let state = self.shared.lock();
            if let Some(newer) = state.newer_than(seen) {
                return Ok(Looked::Newer(newer));
            }
            state.begun
        };
        loop {
            let (flight, mut ended) = {
                let mut state = self.shared.lock();
                // A fetch that began after we came is as good as one of our own.
                if state.ended > arrived {
                    return outcome(&state);
                }
                let mut flight = None;
                if !state.running() {
                    let now = self.shared.clock.now();
                    if state.paused(now).is_some() || !state.allowance(budget).take(now) {
                        return Ok(state.outcome(seen)?.map_or(Looked::TooSoon, Looked::Newer));
                    }
                    flight = Some(self.begin(&mut state));
                }
                (flight, self.shared.ended.subscribe())
            };
            self.launch(flight);
            let _ = ended.changed().await;
            // A fetch that was already running may have read the keys before they were rotated. For a stranger's token it has to do; an ID
            // token was signed just now, and looks again on its own account.
            if budget == Budget::Stranger {
                return outcome(&self.shared.lock());
            }
        }
    }

    fn begin(&self, state: &mut State) -> Flight {
        state.begun += 1;
        Flight { shared: Arc::clone(&self.shared), number: state.begun, fetched: None }
    }

    /// Not to be called with the state locked: a runtime that is ending drops its work on the spot, and the flight lands in here.
    fn launch(&self, flight: Option<Flight>) {
        let Some(flight) = flight else { return };
        self.tasks.background(async move {
            let fetched = (flight.shared.fetch)().await;
            flight.land(fetched);
        });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What keys that are there are worth.
enum Usable {
    Fresh,
    /// To be used while newer ones are asked for.
    Stale,
}

impl State {
    fn usable(&self, now: UnixTime, freshness: Freshness) -> Option<Usable> {
        let fresh_until = self.current.as_ref()?.fresh_until;
        if now < fresh_until {
            Some(Usable::Fresh)
        } else if now < fresh_until.plus(freshness.beside) || self.failure.is_some() && now < fresh_until.plus(STALE_MOST) {
            Some(Usable::Stale)
        } else {
            None
        }
    }

    const fn running(&self) -> bool {
        self.begun != self.ended
    }

    /// The failure for whose sake nothing is asked right now.
    fn paused(&self, now: UnixTime) -> Option<Outage> {
        let failure = self.failure.as_ref().filter(|failure| within(failure.at, now, PAUSE))?;
        Some(failure.outage.clone())
    }

    fn allowance(&mut self, budget: Budget) -> &mut Allowance {
        match budget {
            Budget::Stranger => &mut self.strangers,
            Budget::IdToken => &mut self.id_tokens,
        }
    }

    fn newer_than(&self, seen: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        self.current.as_ref().map(|current| &current.keys).filter(|keys| !Arc::ptr_eq(keys, seen)).cloned()
    }

    fn outcome(&self, seen: &Arc<KeySet>) -> Result<Option<Arc<KeySet>>, Outage> {
        match (self.newer_than(seen), &self.failure) {
            (Some(newer), _) => Ok(Some(newer)),
            (None, Some(failure)) => Err(failure.outage.clone()),
            (None, None) => Ok(None),
        }
    }
}

/// A fetch under way. It lands when it is dropped, in whatever way: one that panics or is given up has failed, and wakes who waits.
struct Flight {
    shared: Arc<Shared>,
    number: u64,
    fetched: Option<Result<FetchedKeys, Outage>>,
}

impl Flight {
    fn land(mut self, fetched: Result<FetchedKeys, Outage>) {
        self.fetched = Some(fetched);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let read = match self.fetched.take() {
            Some(Ok(fetched)) => KeySet::parse(&fetched.document).map(|keys| (keys, fetched.max_age)).map_err(Outage::keys),
            Some(Err(outage)) => Err(Outage::keys(outage.source)),
            None => Err(Outage::keys("the fetch was broken off")),
        };
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        match read {
            Ok((keys, max_age)) => {
                if keys.is_empty() {
                    tracing::warn!("an issuer publishes no key that can be used");
                }
                let Freshness { usual, least, most, .. } = self.shared.freshness;
                let fresh_until = now.plus(max_age.map_or(usual, |age| age.clamp(least, most)));
                state.current = Some(Current { keys: Arc::new(keys), fresh_until, edition: self.number });
                self.shared.edition.store(self.number, Ordering::Release);
                self.shared.fresh_until.store(fresh_until.0, Ordering::Release);
                state.failure = None;
            }
            Err(outage) => {
                tracing::warn!(detail = %outage.source, kept = state.current.is_some(), "an issuer's keys could not be fetched");
                state.failure = Some(Failure { at: now, outage });
            }
        }
        state.ended = self.number;
        drop(state);
        self.shared.ended.send_replace(());
    }
}

/// So many a period, counted from the first.
struct Allowance {
    most: u32,
    taken: u32,
    since: UnixTime,
}

impl Allowance {
    const fn new(most: u32) -> Self {
        Self { most, taken: 0, since: UnixTime(0) }
    }

    fn take(&mut self, now: UnixTime) -> bool {
        if !within(self.since, now, PERIOD) {
            self.since = now;
            self.taken = 0;
        }
        let granted = self.taken < self.most;
        self.taken += u32::from(granted);
        granted
    }
}

/// Whether less than `period` has passed since `at`. A clock that was set back counts as time passed: nothing may be held up for hours.
fn within(at: UnixTime, now: UnixTime, period: Duration) -> bool {
    at <= now && now.since(at) < period
}

#[cfg(test)]
mod tests;
