//! Sessions and logins under way as the rest of the gateway sees them: opened by their cookies, judged by their times, cached where that is
//! safe. Work on the store runs to its end though the request that asked for it has left.
//!
//! `renewal` writes new tokens into a session, `elsewhere` is what needs no cookie (lists, endings, marks, counts), `watch` hears of what
//! other processes do and ends open streams, `logins` is the way through login.

mod elsewhere;
mod logins;
mod renewal;
mod watch;

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use elsewhere::{Listed, Under};
pub use renewal::Renewal;

use super::cache::{CachedSession, SessionCache};
use super::record::{self, Ended, EndedBy, Listing};
use super::streams::Streams;
use super::{RecordId, Replaced, SealedSession, SessionStore, StoredSession};
use crate::clock::{SharedClock, UnixTime};
use crate::fault::Outage;
use crate::reason::Reason;
use crate::secret::SealRing;
use crate::session::{Life, Lifetimes, Session, SessionCookie, TokensKept, assess, end_of};
use crate::tasks::Tasks;

/// The store hears of a session's use at most this often.
const TOUCH_PAUSE: Duration = Duration::from_secs(60);
/// What is left of a session is kept this long after its end, so that whoever comes back is told that it expired rather than that it never was,
/// and finds the form that they were sending.
const KEPT_AFTER_END: Duration = Duration::from_secs(60 * 60);

/// What a cookie turned out to be.
pub enum Loaded<P> {
    /// It opens nothing.
    Absent,
    /// It opened a session whose time is over.
    Over {
        /// Why.
        reason: Reason,
        /// Whose it was, as [`record::subject_tag`] names them; only for an hour after the end.
        subject: Option<RecordId>,
    },
    /// It opens this session, whose use was noted unless it was only looked at.
    Alive(Arc<CachedSession<P>>),
}

/// What a session is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// A request in its name: it goes on from here.
    Use,
    /// To say something of it.
    Look,
}

/// What became of a new session.
pub enum Created {
    /// It is there; the cookie that opens it.
    Session(SessionCookie),
    /// The provider ended the session it stands for while the login was under way: there is none.
    SidEnded,
}

/// The one way to sessions and login records. `P` is what users of a session keep ready with it.
pub struct Sessions<P> {
    store: Arc<dyn SessionStore>,
    cache: Option<Arc<SessionCache<P>>>,
    ring: Arc<SealRing>,
    clock: SharedClock,
    lifetimes: Lifetimes,
    tokens_kept: TokensKept,
    tasks: Tasks,
    streams: Arc<Streams>,
    /// Sessions whose touch is on its way to the store.
    touching: Arc<Mutex<HashSet<RecordId>>>,
}

impl<P: Default + Send + Sync + 'static> Sessions<P> {
    /// Over `store`. With a cache only where no other process writes to that store, or where it tells of what they write: see
    /// [`Sessions::watch`].
    #[must_use]
    pub fn new(
        store: Arc<dyn SessionStore>,
        cache: Option<SessionCache<P>>,
        ring: Arc<SealRing>,
        clock: SharedClock,
        lifetimes: Lifetimes,
        tasks: Tasks,
    ) -> Self {
        let (cache, streams, touching) = (cache.map(Arc::new), Arc::default(), Arc::default());
        Self { store, cache, ring, clock, lifetimes, tokens_kept: TokensKept::Yes, tasks, streams, touching }
    }

    /// The same sessions, cache and open streams, judged by other lifetimes and used by other routes: after a reload. What [`Sessions::watch`]
    /// began on `self` is for both, so `self` has to live on.
    #[must_use]
    pub fn judged_by(&self, lifetimes: Lifetimes, tokens_kept: TokensKept) -> Self {
        Self {
            store: Arc::clone(&self.store),
            cache: self.cache.clone(),
            ring: Arc::clone(&self.ring),
            clock: Arc::clone(&self.clock),
            lifetimes,
            tokens_kept,
            tasks: self.tasks.clone(),
            streams: Arc::clone(&self.streams),
            touching: Arc::clone(&self.touching),
        }
    }

    /// The answer, where this process knows it without asking anybody: a session that is alive, or a cookie whose key does not fit. Everything
    /// else is `None` and [`Sessions::load`] says more.
    #[must_use]
    pub fn peek(&self, cookie: &SessionCookie) -> Option<Loaded<P>> {
        self.peek_at(&cookie.record_id(), cookie, Opening::Use)
    }

    fn peek_at(&self, id: &RecordId, cookie: &SessionCookie, opening: Opening) -> Option<Loaded<P>> {
        let known = self.cache.as_ref()?.get(id)?;
        if !known.opens_with(cookie) {
            return Some(Loaded::Absent);
        }
        // Kept for routes of an older config that told no tokens: the store has them.
        if !known.holds(self.tokens_kept) {
            return None;
        }
        let now = self.clock.now();
        match assess(&known.session, known.last_used(), self.lifetimes, now) {
            Life::Alive => Some(self.alive(id, known, now, opening)),
            // Idle by what this process saw, while the store may know of a later use: the end is for `load` to say.
            Life::Over(_) => None,
        }
    }

    /// What this cookie opens.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn load(&self, cookie: &SessionCookie) -> Result<Loaded<P>, Outage> {
        self.open(cookie, Opening::Use).await
    }

    /// The same without noting a use: whoever looks at a session does not prolong it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn look(&self, cookie: &SessionCookie) -> Result<Loaded<P>, Outage> {
        self.open(cookie, Opening::Look).await
    }

    async fn open(&self, cookie: &SessionCookie, opening: Opening) -> Result<Loaded<P>, Outage> {
        let id = cookie.record_id();
        match self.peek_at(&id, cookie, opening) {
            Some(loaded) => Ok(loaded),
            // Seldom and large: whoever asks for a known session does not carry it along.
            None => Box::pin(self.open_stored(id, cookie, opening)).await,
        }
    }

    async fn open_stored(&self, id: RecordId, cookie: &SessionCookie, opening: Opening) -> Result<Loaded<P>, Outage> {
        let mark = self.cache.as_ref().map(|cache| cache.mark(&id));
        let Some(stored) = self.ask(async move |store| store.session(id).await).await? else {
            self.forget(&id);
            self.streams.end(&id);
            return Ok(Loaded::Absent);
        };
        let now = self.clock.now();
        let Some(session) = record::open_session(&stored.sealed, cookie) else {
            return Ok(self.ended(cookie, &stored, now));
        };
        let here = self.cache.as_ref().and_then(|cache| cache.get(&id)).map_or(stored.last_used, |known| known.last_used());
        let last_used = stored.last_used.max(here);
        match assess(&session, last_used, self.lifetimes, now) {
            Life::Alive => {
                let entry = Arc::new(CachedSession::new(cookie, session, stored.last_used, self.tokens_kept));
                if let (Some(cache), Some(mark)) = (&self.cache, mark) {
                    cache.insert(id, mark, Arc::clone(&entry));
                }
                Ok(self.alive(&id, entry, now, opening))
            }
            Life::Over(reason) => Ok(self.over(cookie, stored, &session, last_used, reason)),
        }
    }

    /// What a cookie opens that opens no session: nothing, or what is left of one. Who found it over may have been another process.
    fn ended(&self, cookie: &SessionCookie, stored: &StoredSession, now: UnixTime) -> Loaded<P> {
        let Some(ended) = record::open_ended(&stored.sealed, cookie) else { return Loaded::Absent };
        let id = cookie.record_id();
        self.forget(&id);
        self.streams.end(&id);
        let reason = match ended.why {
            EndedBy::Idle => Reason::SessionIdle,
            EndedBy::Absolute => Reason::SessionExpired,
            EndedBy::Token => Reason::SessionTokenEnded,
        };
        Loaded::Over { reason, subject: (now < ended.at.plus(KEPT_AFTER_END)).then_some(ended.subject) }
    }

    /// A session whose time is over. What is left of it takes its place, without its tokens and out of every list; nobody waits for that, since a
    /// record that stays is judged the same way next time.
    fn over(&self, cookie: &SessionCookie, stored: StoredSession, session: &Session, last_used: UnixTime, reason: Reason) -> Loaded<P> {
        let (id, now) = (cookie.record_id(), self.clock.now());
        let (why, at) = match reason {
            Reason::SessionIdle => (EndedBy::Idle, end_of(session, last_used, self.lifetimes)),
            Reason::SessionTokenEnded => (EndedBy::Token, session.tokens.as_ref().and_then(|tokens| tokens.expires_at).unwrap_or(now)),
            _ => (EndedBy::Absolute, end_of(session, now, self.lifetimes)),
        };
        self.forget(&id);
        self.streams.end(&id);
        if now >= at.plus(KEPT_AFTER_END) {
            drop(self.delete(id));
            return Loaded::Over { reason, subject: None };
        }
        let subject = record::subject_tag(&self.ring, &session.identity.issuer, &session.identity.sub);
        let left = SealedSession {
            sealed: record::seal_ended(&Ended { subject, at, why }, cookie),
            listing: Vec::new(),
            indexes: Vec::new(),
            last_used,
            expires_at: at.plus(KEPT_AFTER_END),
        };
        drop(self.ask(async move |store| {
            // Only of what was judged: who renewed it or signed out meanwhile was quicker. Then once more, out of the lists.
            match store.replace_session(id, stored.sealed, left.sealed.clone()).await? {
                Replaced::Replaced => store.put_session(id, left).await,
                Replaced::Changed | Replaced::Gone => Ok(()),
            }
        }));
        Loaded::Over { reason, subject: Some(subject) }
    }

    /// Writes a new session; the cookie that opens it. One whose `sid` the provider has just ended does not begin.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn create(&self, session: Session, listing: &Listing) -> Result<Created, Outage> {
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
        let ended_sid = session.sid.as_deref().map(|sid| self.sid_marks(&session.identity.issuer, sid)).unwrap_or_default();
        let begun = self.ask(async move |store| {
            let begun = async {
                store.put_session(id, sealed).await?;
                // After the write: whoever ends the `sid` marks it first and looks for sessions then, so one of the two sees the other.
                for mark in ended_sid {
                    if store.remembered(mark).await? {
                        return Ok(false);
                    }
                }
                Ok(true)
            };
            let begun = begun.await;
            if !matches!(begun, Ok(true)) {
                // Perhaps it was written all the same: nobody will ever have its cookie, and no list is to show it.
                let deleted = store.delete_session(id).await;
                return begun.and_then(|begun| deleted.map(|_| begun));
            }
            begun
        });
        if !begun.await? {
            return Ok(Created::SidEnded);
        }
        if let (Some(cache), Some(mark)) = (&self.cache, mark) {
            cache.insert(id, mark, Arc::new(CachedSession::new(&cookie, session, now, self.tokens_kept)));
        }
        Ok(Created::Session(cookie))
    }

    /// Ends the session that this cookie opens; what it was. A cookie that opens nothing ends nothing, so a guessed id does no harm.
    ///
    /// # Errors
    /// When the store does not answer; then the session may still be there.
    pub async fn end(&self, cookie: &SessionCookie) -> Result<Option<Arc<Session>>, Outage> {
        let id = cookie.record_id();
        let (cookie, cache, streams) = (cookie.clone(), self.cache.clone(), Arc::clone(&self.streams));
        self.ask(async move |store| {
            let session = match cache.as_ref().and_then(|cache| cache.get(&id)) {
                Some(known) if !known.opens_with(&cookie) => None,
                Some(known) if known.holds(TokensKept::Yes) => Some(Arc::clone(&known.session)),
                // The provider is told of its tokens, which the cache may not have.
                known => match store.session(id).await? {
                    Some(stored) => {
                        let session = record::open_session(&stored.sealed, &cookie).map(Arc::new);
                        // What is left there of a session that has ended is all that is left of it here.
                        if let (None, Some(cache), Some(_)) = (&session, &cache, &known) {
                            cache.remove(&id);
                        }
                        session
                    }
                    // Perhaps by an ending that the store could not confirm: it is to be gone on every replica before this says so.
                    None => {
                        delete(&*store, cache.as_deref(), &streams, id).await?;
                        None
                    }
                },
            };
            if session.is_some() {
                delete(&*store, cache.as_deref(), &streams, id).await?;
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

    fn alive(&self, id: &RecordId, session: Arc<CachedSession<P>>, now: UnixTime, opening: Opening) -> Loaded<P> {
        if opening == Opening::Look {
            return Loaded::Alive(session);
        }
        session.used_at(now);
        // A short idle timeout needs closer touches: another process judges by them.
        let idle = self.lifetimes.of(session.session.shown_as).idle;
        let pause = TOUCH_PAUSE.min(idle / 10).as_secs().max(1);
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
        let (cache, streams) = (self.cache.clone(), Arc::clone(&self.streams));
        self.ask(async move |store| delete(&*store, cache.as_deref(), &streams, id).await.map(drop))
    }

    fn forget(&self, id: &RecordId) {
        if let Some(cache) = &self.cache {
            cache.remove(id);
        }
    }
}

/// Out of the cache from before to after: nobody is let in by it while the store deletes, and nothing read meanwhile stays.
async fn delete<P>(store: &dyn SessionStore, cache: Option<&SessionCache<P>>, streams: &Streams, id: RecordId) -> Result<bool, Outage> {
    let kept_out = cache.map(|cache| cache.deletion(&id));
    let deleted = store.delete_session(id).await;
    drop(kept_out);
    if deleted.is_ok() {
        streams.end(&id);
    }
    deleted
}

impl<P> Sessions<P> {
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
