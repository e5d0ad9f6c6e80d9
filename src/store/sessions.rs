//! Sessions and logins under way as the rest of the gateway sees them: opened by their cookies, judged by their times, cached where that is
//! safe. Work on the store runs to its end though the request that asked for it has left.

use std::collections::HashSet;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::cache::{CachedSession, SessionCache};
use super::record::{self, Listing};
use super::{Admission, LoginBounds, LoginRecord, RecordId, SealedSession, SessionStore};
use crate::clock::{SharedClock, UnixTime};
use crate::fault::Outage;
use crate::login::{ATTEMPT_LIFETIME, FLOW_LIFETIME, Flow, FlowCookie, FlowHandle, PendingLogin, State};
use crate::reason::Reason;
use crate::secret::SealRing;
use crate::session::{Life, Lifetimes, Session, SessionCookie, assess};
use crate::tasks::Tasks;

/// The store hears of a session's use at most this often.
const TOUCH_PAUSE: Duration = Duration::from_secs(60);
/// A session is kept this long after its end, so that whoever comes back is told that it expired rather than that it never was.
const KEPT_AFTER_END: Duration = Duration::from_secs(60 * 60);

/// What a cookie turned out to be.
pub enum Loaded<P> {
    /// It opens nothing.
    Absent,
    /// It opened a session whose time is over; the record is being deleted.
    Over(Reason),
    /// It opens this session, whose use was noted.
    Alive(Arc<CachedSession<P>>),
}

/// The one way to sessions and login records. `P` is what users of a session keep ready with it.
pub struct Sessions<P> {
    store: Arc<dyn SessionStore>,
    cache: Option<Arc<SessionCache<P>>>,
    ring: Arc<SealRing>,
    clock: SharedClock,
    lifetimes: Lifetimes,
    tasks: Tasks,
    /// Sessions whose touch is on its way to the store.
    touching: Arc<Mutex<HashSet<RecordId>>>,
}

impl<P: Default + Send + Sync + 'static> Sessions<P> {
    /// Over `store`; with a cache only where no other process writes to that store.
    #[must_use]
    pub fn new(
        store: Arc<dyn SessionStore>,
        cache: Option<SessionCache<P>>,
        ring: Arc<SealRing>,
        clock: SharedClock,
        lifetimes: Lifetimes,
        tasks: Tasks,
    ) -> Self {
        Self { store, cache: cache.map(Arc::new), ring, clock, lifetimes, tasks, touching: Arc::default() }
    }

    /// The answer, where this process knows it without asking anybody: a session that is alive, or a cookie whose key does not fit. Everything
    /// else is `None` and [`Sessions::load`] says more.
    #[must_use]
    pub fn peek(&self, cookie: &SessionCookie) -> Option<Loaded<P>> {
        self.peek_at(&cookie.record_id(), cookie)
    }

    fn peek_at(&self, id: &RecordId, cookie: &SessionCookie) -> Option<Loaded<P>> {
        let known = self.cache.as_ref()?.get(id)?;
        if !known.opens_with(cookie) {
            return Some(Loaded::Absent);
        }
        let now = self.clock.now();
        match assess(&known.session, known.last_used(), self.lifetimes, now) {
            Life::Alive => Some(self.alive(id, known, now)),
            // Idle by what this process saw, while the store may know of a later use: the end is for `load` to say.
            Life::Over(_) => None,
        }
    }

    /// What this cookie opens.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn load(&self, cookie: &SessionCookie) -> Result<Loaded<P>, Outage> {
        let id = cookie.record_id();
        if let Some(loaded) = self.peek_at(&id, cookie) {
            return Ok(loaded);
        }
        let mark = self.cache.as_ref().map(|cache| cache.mark(&id));
        let Some(stored) = self.ask(async move |store| store.session(id).await).await? else {
            self.forget(&id);
            return Ok(Loaded::Absent);
        };
        let Some(session) = record::open_session(&stored.sealed, cookie) else {
            return Ok(Loaded::Absent);
        };
        let now = self.clock.now();
        let here = self.cache.as_ref().and_then(|cache| cache.get(&id)).map_or(stored.last_used, |known| known.last_used());
        match assess(&session, stored.last_used.max(here), self.lifetimes, now) {
            Life::Alive => {
                let entry = Arc::new(CachedSession::new(cookie, session, stored.last_used));
                if let (Some(cache), Some(mark)) = (&self.cache, mark) {
                    cache.insert(id, mark, Arc::clone(&entry));
                }
                Ok(self.alive(&id, entry, now))
            }
            Life::Over(reason) => {
                // Nobody waits for this: a record that stays is judged the same way next time.
                drop(self.delete(id));
                Ok(Loaded::Over(reason))
            }
        }
    }

    /// Writes a new session; the cookie that opens it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn create(&self, session: Session, listing: &Listing) -> Result<SessionCookie, Outage> {
        let cookie = SessionCookie::new();
        let id = cookie.record_id();
        let now = self.clock.now();
        let identity = &session.identity;
        let sealed = SealedSession {
            sealed: record::seal_session(&session, &cookie),
            listing: record::seal_listing(listing, &id, &self.ring),
            indexes: record::indexes(&self.ring, &identity.issuer, &identity.sub, session.sid.as_deref()),
            last_used: now,
            expires_at: session.ends_at.plus(KEPT_AFTER_END),
        };
        let mark = self.cache.as_ref().map(|cache| cache.mark(&id));
        self.ask(async move |store| store.put_session(id, sealed).await).await?;
        if let (Some(cache), Some(mark)) = (&self.cache, mark) {
            cache.insert(id, mark, Arc::new(CachedSession::new(&cookie, session, now)));
        }
        Ok(cookie)
    }

    /// Ends the session that this cookie opens; what it was. A cookie that opens nothing ends nothing, so a guessed id does no harm.
    ///
    /// # Errors
    /// When the store does not answer; then the session may still be there.
    pub async fn end(&self, cookie: &SessionCookie) -> Result<Option<Arc<Session>>, Outage> {
        let id = cookie.record_id();
        let (cookie, cache) = (cookie.clone(), self.cache.clone());
        self.ask(async move |store| {
            let session = match cache.as_ref().and_then(|cache| cache.get(&id)) {
                Some(known) if known.opens_with(&cookie) => Some(Arc::clone(&known.session)),
                Some(_) => None,
                None => store.session(id).await?.and_then(|stored| record::open_session(&stored.sealed, &cookie)).map(Arc::new),
            };
            if session.is_some() {
                delete(&*store, cache.as_deref(), id).await?;
            }
            Ok(session)
        })
        .await
    }

    /// How many sessions the cache holds.
    #[must_use]
    pub fn cached(&self) -> u64 {
        self.cache.as_ref().map_or(0, |cache| cache.len())
    }

    fn alive(&self, id: &RecordId, session: Arc<CachedSession<P>>, now: UnixTime) -> Loaded<P> {
        session.used_at(now);
        // A short idle timeout needs closer touches: another process judges by them.
        let pause = TOUCH_PAUSE.min(self.lifetimes.idle / 10).as_secs().max(1);
        if session.claim_touch(now, pause) {
            self.touch(*id, now);
        }
        Loaded::Alive(session)
    }

    /// In the background. One that fails is not repeated before the next is due: the store's outage shows elsewhere.
    fn touch(&self, id: RecordId, now: UnixTime) {
        if let Some(touching) = Touching::begin(&self.touching, id) {
            drop(self.ask(async move |store| {
                let _touching = touching;
                store.touch_session(id, now).await
            }));
        }
    }

    fn delete(&self, id: RecordId) -> impl Future<Output = Result<(), Outage>> + use<P> {
        let cache = self.cache.clone();
        self.ask(async move |store| delete(&*store, cache.as_deref(), id).await)
    }

    fn forget(&self, id: &RecordId) {
        if let Some(cache) = &self.cache {
            cache.remove(id);
        }
    }
}

/// From the cache before and after: before, so that nobody is let in by it while the store deletes; after, so that nothing read meanwhile
/// stays.
async fn delete<P>(store: &dyn SessionStore, cache: Option<&SessionCache<P>>, id: RecordId) -> Result<(), Outage> {
    let forget = || cache.map_or((), |cache| cache.remove(&id));
    forget();
    let deleted = store.delete_session(id).await;
    forget();
    deleted.map(drop)
}

/// The way through login.
impl<P> Sessions<P> {
    /// Writes a flow over what is there of it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn put_flow(&self, cookie: &FlowCookie, flow: &Flow) -> Result<(), Outage> {
        let (id, sealed, until) = (cookie.handle.record_id(), record::seal_flow(flow, cookie), flow.started_at.plus(FLOW_LIFETIME));
        self.ask(async move |store| store.put_login(LoginRecord::Flow, id, sealed, until).await).await
    }

    /// The flow of this cookie; `None` when there is none, when it is over, or when the cookie does not open it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn flow(&self, cookie: &FlowCookie) -> Result<Option<Flow>, Outage> {
        let id = cookie.handle.record_id();
        let sealed = self.ask(async move |store| store.login(LoginRecord::Flow, id).await).await?;
        let flow = sealed.and_then(|sealed| record::open_flow(&sealed, cookie));
        Ok(flow.filter(|flow| self.clock.now() < flow.started_at.plus(FLOW_LIFETIME)))
    }

    /// Writes an attempt in place of the flow's former one: a flow has one at a time, so bounded flows are bounded records.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn put_attempt(&self, cookie: &FlowCookie, state: &State, attempt: &PendingLogin) -> Result<(), Outage> {
        let until = attempt.started_at.plus(ATTEMPT_LIFETIME);
        let (id, sealed) = (state.flow.record_id(), record::seal_attempt(attempt, state, cookie));
        self.ask(async move |store| store.put_login(LoginRecord::Attempt, id, sealed, until).await).await
    }

    /// Reads an attempt and leaves it; `None` when it is spent, over, or belongs to another browser.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn attempt(&self, cookie: &FlowCookie, state: &State) -> Result<Option<PendingLogin>, Outage> {
        let id = state.flow.record_id();
        let sealed = self.ask(async move |store| store.login(LoginRecord::Attempt, id).await).await?;
        Ok(self.running(sealed.and_then(|sealed| record::open_attempt(&sealed, state, cookie))))
    }

    /// Takes an attempt: of many who try at once, one gets it. What this cookie does not open is `None` and stays where it is, so that a foreign
    /// browser cannot burn another's login.
    ///
    /// # Errors
    /// When the store does not answer; then the attempt may be spent.
    pub async fn take_attempt(&self, cookie: &FlowCookie, state: &State) -> Result<Option<PendingLogin>, Outage> {
        let (cookie, state) = (cookie.clone(), *state);
        let taken = self
            .ask(async move |store| {
                let id = state.flow.record_id();
                let open = |sealed: Option<Vec<u8>>| sealed.and_then(|sealed| record::open_attempt(&sealed, &state, &cookie));
                if open(store.login(LoginRecord::Attempt, id).await?).is_none() {
                    return Ok(None);
                }
                Ok(open(store.take_login(LoginRecord::Attempt, id).await?))
            })
            .await?;
        Ok(self.running(taken))
    }

    /// Counts a flow in for as long as its record lives, unless too many are under way.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn admit(&self, flow: FlowHandle, address: IpAddr, bounds: LoginBounds) -> Result<Admission, Outage> {
        let (id, address, until) = (flow.record_id(), record::address_tag(&self.ring, address), self.clock.now().plus(FLOW_LIFETIME));
        self.ask(async move |store| store.admit_login(id, address, until, bounds).await).await
    }

    /// Counts a flow out: it led to a session.
    ///
    /// # Errors
    /// When the store does not answer; the count ends with the flow's time then.
    pub async fn release(&self, flow: FlowHandle, address: IpAddr) -> Result<(), Outage> {
        let (id, address) = (flow.record_id(), record::address_tag(&self.ring, address));
        self.ask(async move |store| store.release_login(id, address).await).await
    }

    /// Gives up a flow that its browser holds no longer: its records go and it counts no more. What this cookie does not open stays.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn abandon(&self, cookie: &FlowCookie, address: IpAddr) -> Result<(), Outage> {
        let (id, cookie) = (cookie.handle.record_id(), cookie.clone());
        let address = record::address_tag(&self.ring, address);
        self.ask(async move |store| {
            let sealed = store.login(LoginRecord::Flow, id).await?;
            if sealed.is_some_and(|sealed| record::open_flow(&sealed, &cookie).is_some()) {
                store.take_login(LoginRecord::Attempt, id).await?;
                store.take_login(LoginRecord::Flow, id).await?;
                store.release_login(id, address).await?;
            }
            Ok(())
        })
        .await
    }

    fn running(&self, attempt: Option<PendingLogin>) -> Option<PendingLogin> {
        attempt.filter(|attempt| !attempt.is_over(self.clock.now()))
    }

    /// Runs work on the store to its end, whether or not the returned future is waited for.
    fn ask<T, W, F>(&self, work: W) -> impl Future<Output = Result<T, Outage>> + use<T, W, F, P>
    where
        T: Send + 'static,
        W: FnOnce(Arc<dyn SessionStore>) -> F,
        F: Future<Output = Result<T, Outage>> + Send + 'static,
    {
        let running = self.tasks.run(work(Arc::clone(&self.store)));
        async move { running.await.unwrap_or_else(|| Err(Outage::store("work on the store broke off"))) }
    }
}

/// A touch on its way; a second one of the same session would tell the store nothing new.
struct Touching {
    all: Arc<Mutex<HashSet<RecordId>>>,
    id: RecordId,
}

impl Touching {
    fn begin(all: &Arc<Mutex<HashSet<RecordId>>>, id: RecordId) -> Option<Self> {
        let first = all.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        first.then(|| Self { all: Arc::clone(all), id })
    }
}

impl Drop for Touching {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
