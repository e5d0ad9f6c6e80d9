//! Keeping sessions fresh: new tokens before the old ones end, and asking the provider again whether somebody is still welcome. Once for each
//! session over all processes, on a request or for an open stream, since only the browser's cookie opens the record.
//!
//! One task of the control runtime does the work and every request here waits for the same one, or goes on with what is still good. Between
//! processes a lease in the store decides who asks. A refresh token is spent once: what comes for it is written by compare-and-set, which an
//! ending wins, and while the store does not answer it is tried again and again. A second call for the same token happens only when a lease
//! ran out, that is, when the process that had it is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::OpenSession;
use super::need::{Need, Patience, RenewalSettings, Wait};
use crate::clock::{SharedClock, UnixTime};
use crate::fault::{Fault, Outage, Trouble};
use crate::header::PreparedHeaders;
use crate::identity::Source;
use crate::provider::IdentityProvider;
use crate::reason::Reason;
use crate::secret::random;
use crate::session::{Session, SessionCookie, TokenEnd};
use crate::store::{Loaded, RecordId, Renewal, Replaced, Sessions};
use crate::tasks::{Ongoing, Tasks};
use crate::telemetry::{Metrics, audit, current};

/// A lease lasts this long beyond its last prolongation: so long is a session without refresh when a process dies over one.
const LEASE: Duration = Duration::from_secs(10);
/// How often it is prolonged while the provider is slow.
const PROLONG: Duration = Duration::from_secs(3);
/// How often a process looks whether the one that has the lease is done.
const LOOK: Duration = Duration::from_millis(100);
/// How long it looks: longer than any provider may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A provider that did not answer is left alone for this long.
const PAUSE: Duration = Duration::from_secs(5);
/// How long new tokens that the store does not take are held and offered again.
const STORE_PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two offers.
const STORE_AGAIN: Duration = Duration::from_millis(250);
/// How often the sessions of open streams are looked at: they count as used, and their tokens stay fresh.
const STREAMS: Duration = Duration::from_secs(15);
/// How often we look whether it is time for that, by the gateway's clock.
const TICK: Duration = Duration::from_secs(1);

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Renewed {
    Fresh,
    /// The provider ended it.
    Ended(Reason),
    /// Somebody ended it meanwhile.
    Gone,
    Unreachable(Outage),
}

/// A session after this, as a request may use it.
pub enum Kept {
    /// Good; with the outage that kept its tokens from being renewed, where they are over.
    Good(Arc<OpenSession>, Option<Outage>),
    /// Over.
    Over(Reason),
    /// Gone.
    Gone,
}

/// Renews sessions.
pub struct Renewals {
    sessions: Arc<Sessions<PreparedHeaders>>,
    providers: Vec<Arc<dyn IdentityProvider>>,
    settings: RenewalSettings,
    tasks: Tasks,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    running: Mutex<HashMap<RecordId, watch::Receiver<Option<Renewed>>>>,
    /// Sessions whose provider did not answer, and until when it is left alone.
    paused: Mutex<HashMap<RecordId, (UnixTime, Outage)>>,
}

impl Renewals {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(
        sessions: Arc<Sessions<PreparedHeaders>>,
        providers: Vec<Arc<dyn IdentityProvider>>,
        settings: RenewalSettings,
        tasks: Tasks,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self { sessions, providers, settings, tasks, clock, metrics, running: Mutex::default(), paused: Mutex::default() })
    }

    /// Looks after the sessions of open streams, for as long as what is returned is kept. Streams of a session that `counts` says no of end: its
    /// provider, or our registration there, is gone from the config.
    #[must_use]
    pub fn watch_streams(self: &Arc<Self>, counts: impl Fn(&Session) -> bool + Send + Sync + 'static) -> Ongoing {
        let renewals = Arc::downgrade(self);
        self.tasks.until_dropped(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut next = UnixTime(0);
            loop {
                ticks.tick().await;
                let Some(renewals) = renewals.upgrade() else { return };
                let now = renewals.clock.now();
                if now >= next {
                    next = now.plus(STREAMS);
                    renewals.look_after_streams(&counts).await;
                }
            }
        })
    }

    async fn look_after_streams(self: &Arc<Self>, counts: &(impl Fn(&Session) -> bool + Sync)) {
        for cookie in self.sessions.with_streams() {
            // Loading notes the use, and ends the streams of a session whose time is over.
            let Ok(Loaded::Alive(open)) = self.sessions.load(&cookie).await else { continue };
            if !counts(&open.session) {
                self.sessions.end_streams(&cookie);
            } else if self.need(&open.session, self.clock.now()) != Need::Nothing {
                let id = cookie.record_id();
                if self.resting(&id).is_none() {
                    drop(self.begin(id, cookie));
                }
            }
        }
    }

    /// Whether nothing is to be done for a session: the question of every request.
    #[must_use]
    pub fn is_fresh(&self, session: &Session) -> bool {
        self.need(session, self.clock.now()) == Need::Nothing
    }

    /// Renews what has to be renewed, and waits where it has to be waited for.
    ///
    /// # Errors
    /// When the session may not be used without an answer that nobody gives.
    pub async fn keep(self: &Arc<Self>, cookie: &SessionCookie, open: Arc<OpenSession>, patience: Patience) -> Result<Kept, Outage> {
        let id = cookie.record_id();
        let need = self.need(&open.session, self.clock.now());
        let wait = if self.is_unvouched(&open.session) { Wait::UntilDone } else { need.wait(patience, &self.settings, self.clock.now()) };
        if need == Need::Nothing {
            return Ok(Kept::Good(open, None));
        }
        let renewed = match self.resting(&id) {
            Some(outage) => Renewed::Unreachable(outage),
            None => {
                let done = current::outside(done(self.begin(id, cookie.clone())));
                match wait {
                    Wait::UntilDone => done.await,
                    Wait::Not => return Ok(Kept::Good(open, None)),
                    Wait::AtMost(wait) => match current::outside(tokio::time::timeout(wait, done)).await {
                        Ok(renewed) => renewed,
                        Err(_elapsed) => return Ok(Kept::Good(open, None)),
                    },
                }
            }
        };
        match renewed {
            Renewed::Fresh => match self.sessions.load(cookie).await? {
                Loaded::Alive(open) => {
                    let over = self.need(&open.session, self.clock.now()) == Need::Overdue;
                    Ok(Kept::Good(open, over.then(|| Outage::provider("the new tokens were over when they came"))))
                }
                Loaded::Over { reason, .. } => Ok(Kept::Over(reason)),
                Loaded::Absent => Ok(Kept::Gone),
            },
            Renewed::Ended(reason) => Ok(Kept::Over(reason)),
            Renewed::Gone => Ok(Kept::Gone),
            // Tokens that are due or over are no reason to bear it for longer.
            Renewed::Unreachable(outage) if self.is_unvouched(&open.session) => Err(outage),
            Renewed::Unreachable(outage) => match need {
                Need::Overdue if self.settings.token_end == TokenEnd::Ends => Err(outage),
                Need::Overdue => Ok(Kept::Good(open, Some(outage))),
                Need::Nothing | Need::Due | Need::Asking(_) => Ok(Kept::Good(open, None)),
            },
        }
    }

    fn need(&self, session: &Session, now: UnixTime) -> Need {
        Need::of(session, &self.settings, now)
    }

    fn is_unvouched(&self, session: &Session) -> bool {
        Need::is_unvouched(session, &self.settings, self.clock.now())
    }

    /// The outage that is still fresh.
    fn resting(&self, id: &RecordId) -> Option<Outage> {
        let now = self.clock.now();
        let paused = lock(&self.paused);
        paused.get(id).filter(|(until, _)| *until > now).map(|(_, outage)| outage.clone())
    }

    /// The renewal of this session that is under way here, or a new one.
    fn begin(self: &Arc<Self>, id: RecordId, cookie: SessionCookie) -> watch::Receiver<Option<Renewed>> {
        let mut running = lock(&self.running);
        if let Some(known) = running.get(&id) {
            return known.clone();
        }
        let (done, waiting) = watch::channel(None);
        running.insert(id, waiting.clone());
        drop(running);
        let renewals = Arc::clone(self);
        // Dropping the future drops nothing but the wait: the work runs to its end, and draining waits for it.
        drop(self.tasks.run(async move {
            // Whatever becomes of it, a defect included, the next request may begin anew.
            let running = Running { renewals: &renewals, id };
            let renewed = renewals.renew(&cookie).await;
            if let Renewed::Unreachable(outage) = &renewed {
                let now = renewals.clock.now();
                let mut paused = lock(&renewals.paused);
                // Swept as it grows, not at each look: an outage may concern very many sessions.
                if paused.len() == paused.capacity() {
                    paused.retain(|_, (until, _)| *until > now);
                }
                paused.insert(id, (now.plus(PAUSE), outage.clone()));
            }
            // Out of the list first: who comes from now on does not get the answer to an older question.
            drop(running);
            done.send_replace(Some(renewed));
        }));
        waiting
    }

    async fn renew(&self, cookie: &SessionCookie) -> Renewed {
        let owner = random();
        let began = self.clock.instant();
        loop {
            match self.sessions.lease(cookie, owner, LEASE).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(outage) => return Renewed::Unreachable(outage),
            }
            // Another process has it: what it writes is as good as what we would have.
            if self.clock.instant().saturating_duration_since(began) > PATIENCE {
                return Renewed::Unreachable(Outage::provider("another process has been renewing this session for a minute"));
            }
            tokio::time::sleep(LOOK).await;
            match self.sessions.reload(cookie).await {
                Ok(None) => return Renewed::Gone,
                Ok(Some(renewal)) if self.is_fresh(&renewal.session) => return Renewed::Fresh,
                Ok(Some(_)) => {}
                Err(outage) => return Renewed::Unreachable(outage),
            }
        }
        let mut work = std::pin::pin!(self.renew_leased(cookie));
        let renewed = loop {
            tokio::select! {
                renewed = &mut work => break renewed,
                () = tokio::time::sleep(PROLONG) => {}
            }
            // Waited for: a prolongation that came after the lease was given back would take it again, for nobody.
            if let Err(outage) = self.sessions.lease(cookie, owner, LEASE).await {
                tracing::debug!(%outage, "a lease could not be prolonged");
            }
        };
        if let Err(outage) = self.sessions.release_lease(cookie, owner).await {
            tracing::debug!(%outage, "a lease was not given back; it ends by itself");
        }
        renewed
    }

    async fn renew_leased(&self, cookie: &SessionCookie) -> Renewed {
        let before = match self.sessions.reload(cookie).await {
            Ok(Some(before)) => before,
            Ok(None) => return Renewed::Gone,
            Err(outage) => return Renewed::Unreachable(outage),
        };
        let session = &before.session;
        let need = self.need(session, self.clock.now());
        if need == Need::Nothing {
            // Somebody else was quicker.
            return Renewed::Fresh;
        }
        let Some((name, provider)) = self.provider_of(session) else {
            // Its provider is gone from the config; such a session counts nowhere.
            return Renewed::Gone;
        };
        let asked = if matches!(need, Need::Asking(_)) {
            provider.revalidate(session).await.map(|identity| revalidated(session, identity, self.clock.now()))
        } else {
            provider.refresh(session).await.map(|refreshed| refreshed_session(session, refreshed, self.clock.now()))
        };
        match asked {
            Ok(new) => {
                self.metrics.renewal(name, "success");
                let tokens = new.tokens.clone();
                let written = self.write(cookie, before, new).await;
                if written == Renewed::Gone
                    && let Some(tokens) = tokens
                    && let Err(trouble) = provider.revoke(&tokens).await
                {
                    // Somebody signed out meanwhile; what the provider has just issued is nobody's.
                    tracing::warn!(provider = name, detail = trouble.detail(), "tokens of a session that had ended were not taken back");
                }
                written
            }
            Err(Trouble::Unreachable(outage)) => {
                self.metrics.renewal(name, "unreachable");
                tracing::warn!(provider = name, %outage, "a session could not be renewed; it stays");
                Renewed::Unreachable(outage)
            }
            Err(Trouble::Refused(fault)) => {
                self.metrics.renewal(name, fault.reason.as_str());
                match self.sessions.reload(cookie).await {
                    // Our lease ran out, and whoever had it then was quicker: what was refused is no longer the session's.
                    Ok(Some(now)) if now.session.tokens != session.tokens => Renewed::Fresh,
                    // Signed out meanwhile, and the provider heard of it first.
                    Ok(None) => Renewed::Gone,
                    Ok(Some(_)) | Err(_) => self.end(cookie, name, session, &fault).await,
                }
            }
        }
    }

    /// Offers the new session to the store until it is taken: the refresh token behind it is spent.
    async fn write(&self, cookie: &SessionCookie, before: Renewal, new: Session) -> Renewed {
        let began = self.clock.instant();
        loop {
            match self.sessions.renew(cookie, &before, &new).await {
                // `Changed` after an offer that was not answered: it was taken.
                Ok(Replaced::Replaced | Replaced::Changed) => return Renewed::Fresh,
                Ok(Replaced::Gone) => return Renewed::Gone,
                Err(outage) => {
                    if self.clock.instant().saturating_duration_since(began) > STORE_PATIENCE {
                        tracing::error!(%outage, "new tokens could not be stored and are lost");
                        return Renewed::Unreachable(outage);
                    }
                    tokio::time::sleep(STORE_AGAIN).await;
                }
            }
        }
    }

    async fn end(&self, cookie: &SessionCookie, provider: &str, session: &Session, fault: &Fault) -> Renewed {
        match self.sessions.end(cookie).await {
            Ok(_) => {
                audit::session_refused(provider, &session.identity.sub, fault);
                Renewed::Ended(fault.reason)
            }
            Err(outage) => Renewed::Unreachable(outage),
        }
    }

    fn provider_of(&self, session: &Session) -> Option<(&str, &Arc<dyn IdentityProvider>)> {
        let Source::Provider(id) = &session.identity.source else { return None };
        self.providers.iter().find(|provider| provider.id() == id.as_str()).map(|provider| (provider.id(), provider))
    }
}

/// One renewal in the list of those under way.
struct Running<'a> {
    renewals: &'a Renewals,
    id: RecordId,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.renewals.running).remove(&self.id);
    }
}

fn refreshed_session(session: &Session, refreshed: crate::provider::Refreshed, now: UnixTime) -> Session {
    let mut new = session.clone();
    new.tokens = Some(refreshed.tokens);
    // A provider that gives new tokens knows the person.
    new.checked_at = Some(now);
    if let Some(id_token) = refreshed.id_token {
        new.id_token = id_token.expose().to_owned();
    }
    if let Some(identity) = refreshed.identity {
        new.identity = Arc::new(identity);
    }
    new
}

fn revalidated(session: &Session, identity: Option<crate::identity::Identity>, now: UnixTime) -> Session {
    let mut new = session.clone();
    new.checked_at = Some(now);
    if let Some(identity) = identity {
        new.identity = Arc::new(identity);
    }
    new
}

async fn done(mut running: watch::Receiver<Option<Renewed>>) -> Renewed {
    match running.wait_for(Option::is_some).await {
        Ok(renewed) => renewed.clone().unwrap_or(Renewed::Gone),
        Err(_dropped) => Renewed::Unreachable(Outage::provider("renewing the session broke off")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
