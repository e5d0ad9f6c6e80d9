//! One token that is kept: used while it is good, renewed beside the requests before its end, asked for once for all who wait.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::token::UpstreamToken;
use crate::clock::{SharedClock, UnixTime};
use crate::fault::{Outage, Trouble};
use crate::tasks::Tasks;
use crate::telemetry::current;

/// How long nobody is asked again after a call that brought no answer, so that requests do not hammer a provider that is down.
const PAUSE: Duration = Duration::from_secs(2);
/// The same after a refusal: it stands until somebody has changed something there.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(10);
/// How often at most a token is given up because an upstream answered 401 to it.
const GIVE_UP_EVERY: Duration = Duration::from_secs(10);

/// A call for a token.
pub(super) type Asking = Pin<Box<dyn Future<Output = Result<UpstreamToken, Trouble>> + Send>>;

/// Where one token is kept. Clones are the same.
#[derive(Clone)]
pub(super) struct Slot {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Changes whenever a call has ended.
    ended: watch::Sender<()>,
    clock: SharedClock,
}

#[derive(Default)]
struct State {
    current: Option<Arc<UpstreamToken>>,
    /// The last call, if it brought no token.
    failure: Option<(Trouble, UnixTime)>,
    /// Calls run one at a time.
    running: bool,
    given_up_at: Option<UnixTime>,
}

impl State {
    /// Why nobody is asked now.
    fn resting(&self, now: UnixTime) -> Option<&Trouble> {
        let (trouble, at) = self.failure.as_ref()?;
        let pause = match trouble {
            Trouble::Refused(_) => PAUSE_AFTER_REFUSAL,
            Trouble::Unreachable(_) => PAUSE,
        };
        (now.since(*at) < pause).then_some(trouble)
    }
}

impl Slot {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), ended: watch::Sender::new(()), clock }) }
    }

    /// The token, if it is good and not due; else `ask` is called, unless that is under way or has just failed. Who has a good one goes on
    /// with it meanwhile; who has none waits.
    ///
    /// # Errors
    /// What the last call ended with, where there is no good token.
    pub(super) async fn token(&self, tasks: &Tasks, ask: impl Fn() -> Asking) -> Result<Arc<UpstreamToken>, Trouble> {
        loop {
            let (usable, begin, mut ended) = {
                let mut state = self.shared.lock();
                let now = self.shared.clock.now();
                let usable = state.current.clone().filter(|token| token.is_good(now));
                if let Some(token) = usable.as_ref().filter(|token| !token.is_due(now)) {
                    return Ok(Arc::clone(token));
                }
                let resting = state.resting(now);
                if let (false, None, Some(trouble)) = (state.running, &usable, resting) {
                    return Err(trouble.clone());
                }
                let begin = !state.running && resting.is_none();
                state.running |= begin;
                (usable, begin, self.shared.ended.subscribe())
            };
            if begin {
                drop(tasks.run(Call { shared: Arc::clone(&self.shared), outcome: None }.run(ask())));
            }
            if let Some(token) = usable {
                return Ok(token);
            }
            // The sender lives in `self`, so the wait cannot end early.
            let _ = current::outside(ended.changed()).await;
        }
    }

    /// Gives `refused` up. `false` when one was given up a moment ago, so that nothing is to be tried again; `true` also when there is a newer
    /// one already.
    pub(super) fn give_up(&self, refused: &Arc<UpstreamToken>) -> bool {
        let mut state = self.shared.lock();
        let now = self.shared.clock.now();
        let is_current = state.current.as_ref().is_some_and(|token| Arc::ptr_eq(token, refused));
        if !is_current {
            return true;
        }
        if state.given_up_at.is_some_and(|at| now.since(at) < GIVE_UP_EVERY) {
            return false;
        }
        state.given_up_at = Some(now);
        state.current = None;
        true
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way. However it ends, by a panic too, those who wait are told.
struct Call {
    shared: Arc<Shared>,
    outcome: Option<Result<UpstreamToken, Trouble>>,
}

impl Call {
    async fn run(mut self, asking: Asking) {
        self.outcome = Some(asking.await);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| Err(Outage::upstream_token("the call was broken off here").into()));
        let mut state = self.shared.lock();
        let now = self.shared.clock.now();
        state.running = false;
        // A provider that takes longer to answer than its tokens live gives none that can be used: whoever waits would wait for ever.
        let outcome = outcome.and_then(|token| match token.is_good(now) {
            true => Ok(token),
            false => Err(Outage::upstream_token("the token was over as it came").into()),
        });
        match outcome {
            Ok(token) => {
                state.current = Some(Arc::new(token));
                state.failure = None;
            }
            Err(trouble) => {
                if state.current.as_ref().is_some_and(|token| token.is_good(now)) {
                    tracing::warn!(
                        reason = trouble.reason().as_str(),
                        detail = trouble.detail(),
                        "a token for an upstream could not be renewed; the one at hand goes on"
                    );
                }
                state.failure = Some((trouble, now));
            }
        }
        drop(state);
        self.shared.ended.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::header::AUTHORIZATION;

    use super::super::answer::Granted;
    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use crate::reason::Reason;
    use crate::secret::Secret;

    #[tokio::test]
    async fn a_provider_that_takes_longer_than_its_tokens_live_is_an_outage_and_not_asked_without_end() {
        let clock = Arc::new(ManualClock::default());
        let slot = Slot::new(Arc::<ManualClock>::clone(&clock));
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = || -> Asking {
            let (clock, asked) = (Arc::clone(&clock), Arc::clone(&asked));
            Box::pin(async move {
                assert!(asked.fetch_add(1, Ordering::SeqCst) < 3, "asked again and again");
                let (asked_at, lives) = (clock.now(), Some(Duration::from_secs(5)));
                clock.advance(Duration::from_secs(6));
                let granted = Granted { access_token: Secret::new("abc"), lives };
                Ok(UpstreamToken::new(&granted, &AUTHORIZATION, asked_at, None).expect("it was good when it was issued"))
            })
        };
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let trouble = slot.token(&tasks, ask).await.err().expect("no good token");
        assert_eq!(trouble.reason(), Reason::UpstreamTokenUnreachable);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
