//! An issuer's keys, fetched when first needed and kept: fresh ones without a wait, old ones rather than none, newer ones when a token
//! names a key that is not there.
//!
//! Everything a stranger can send shares one refetch a minute, so that forged key names cost the issuer nothing (SECURITY 27).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;
use tokio::sync::watch;
use url::Url;

use super::CallTimes;
use super::http::Http;
use crate::clock::{SharedClock, UnixTime};
use crate::fault::Outage;
use crate::tasks::Tasks;
use crate::token::KeySet;

/// How long keys are fresh where the issuer says nothing.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// The bounds within which the issuer's `Cache-Control: max-age` counts.
const FRESH_LEAST: Duration = Duration::from_secs(5 * 60);
const FRESH_MOST: Duration = Duration::from_secs(6 * 60 * 60);
/// How long keys go on counting that cannot be refreshed: one that was withdrawn must not count for ever because nobody answers.
const STALE_MOST: Duration = Duration::from_secs(24 * 60 * 60);
/// How long after that keys are used at once while newer ones are fetched beside it. Later, the first who needs them waits for the newer ones:
/// what has not been looked at for long may have been withdrawn long ago.
const REFRESH_BESIDE: Duration = Duration::from_secs(10 * 60);
/// How long nothing is asked after a fetch that failed.
const PAUSE: Duration = Duration::from_secs(5);
/// The time over which refetches are counted.
const PERIOD: Duration = Duration::from_secs(60);
/// Refetches a period for everything a stranger can send, and for ID tokens, which come from the token endpoint.
const STRANGER_REFETCHES: u32 = 1;
const ID_TOKEN_REFETCHES: u32 = 6;

/// A future of the keys' side, `Send` and boxed.
pub type KeysFuture<T> = Pin<Box<dyn Future<Output = Result<T, Outage>> + Send>>;
/// Says where the keys are; may wait for discovery.
pub type ResolveJwksUri = Box<dyn Fn() -> KeysFuture<Url> + Send + Sync>;
/// Fetches the keys.
pub type FetchKeys = Box<dyn Fn() -> KeysFuture<FetchedKeys> + Send + Sync>;

/// A key document as it came.
#[derive(Clone, Debug)]
pub struct FetchedKeys {
    /// The JWK Set's bytes.
    pub document: Vec<u8>,
    /// How long the issuer says it is fresh.
    pub max_age: Option<Duration>,
}

/// Fetches a JWK Set from where `resolve` says.
#[must_use]
pub fn over_http(http: Http, times: CallTimes, resolve: ResolveJwksUri) -> FetchKeys {
    let resolve = Arc::new(resolve);
    Box::new(move || {
        let (http, times, resolve) = (http.clone(), times.clone(), Arc::clone(&resolve));
        Box::pin(async move {
            let jwks_uri = resolve().await?;
            let answer = times.of("keys", http.get(&jwks_uri, None)).await.map_err(Outage::keys)?;
            Ok(FetchedKeys { max_age: max_age(answer.headers()), document: answer.into_body() })
        })
    })
}

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
    clock: SharedClock,
    state: Mutex<State>,
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
}

struct Failure {
    at: UnixTime,
    outage: Outage,
}

impl JwksCache {
    /// Nothing is fetched yet.
    #[must_use]
    pub fn new(fetch: FetchKeys, clock: SharedClock, tasks: Tasks) -> Self {
        let state = State {
            current: None,
            failure: None,
            begun: 0,
            ended: 0,
            strangers: Allowance::new(STRANGER_REFETCHES),
            id_tokens: Allowance::new(ID_TOKEN_REFETCHES),
        };
        Self { shared: Arc::new(Shared { fetch, clock, state: Mutex::new(state), ended: watch::Sender::new(()) }), tasks }
    }

    /// The keys there are. Waits only for the first fetch, or where the keys have not been looked at for long; keys that could not be
    /// refreshed go on counting. An outage when there are none at all.
    pub async fn keys(&self) -> Result<Arc<KeySet>, Outage> {
        let (usable, flight, mut ended) = {
            let mut state = self.shared.lock();
            let now = self.shared.clock.now();
            let usable = match &state.current {
                Some(current) if now < current.fresh_until => return Ok(Arc::clone(&current.keys)),
                Some(current) if now < current.fresh_until.plus(REFRESH_BESIDE) => Some(Arc::clone(&current.keys)),
                Some(current) if state.failure.is_some() && now < current.fresh_until.plus(STALE_MOST) => Some(Arc::clone(&current.keys)),
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

impl State {
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
                let fresh = max_age.map_or(FRESH, |age| age.clamp(FRESH_LEAST, FRESH_MOST));
                state.current = Some(Current { keys: Arc::new(keys), fresh_until: now.plus(fresh) });
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

/// `max-age` of `Cache-Control` (RFC 9111 §5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse().ok()?;
        name.trim().eq_ignore_ascii_case("max-age").then(|| Duration::from_secs(seconds))
    })
}

#[cfg(test)]
mod tests;
