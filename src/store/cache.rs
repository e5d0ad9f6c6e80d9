//! Opened sessions kept in this process, so that a request with a known session asks nobody.
//!
//! Where other processes write to the store too, it has to tell of every change they make; while it cannot, nothing here is believed.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::RecordId;
use crate::clock::{SharedClock, UnixTime};
use crate::secret;
use crate::session::{Session, SessionCookie, TokensKept};

/// Removals in different parts of the cache do not disturb each other's insertions.
const STRIPES: usize = 64;

/// A session that its cookie opened. `P` is whatever its users keep ready for it (headers, say).
pub struct CachedSession<P> {
    /// What the record holds, but for what [`TokensKept`] leaves out.
    pub session: Arc<Session>,
    /// Made once for this session and used by every request after.
    pub prepared: P,
    key_hash: [u8; 32],
    tokens_kept: TokensKept,
    last_used: AtomicU64,
    last_touched: AtomicU64,
}

impl<P: Default> CachedSession<P> {
    /// What `cookie` opened; `last_used` as the store knows it.
    #[must_use]
    pub fn new(cookie: &SessionCookie, session: Session, last_used: UnixTime, tokens_kept: TokensKept) -> Self {
        Self {
            session: Arc::new(session.kept(tokens_kept)),
            prepared: P::default(),
            key_hash: secret::sha256(cookie.key()),
            tokens_kept,
            last_used: AtomicU64::new(last_used.0),
            last_touched: AtomicU64::new(last_used.0),
        }
    }
}

impl<P> CachedSession<P> {
    /// Whether this cookie's key is the one that opened it. To be asked before anything else of it is used.
    #[must_use]
    pub fn opens_with(&self, cookie: &SessionCookie) -> bool {
        secret::same(&self.key_hash, &secret::sha256(cookie.key()))
    }

    /// Whether it holds as much as is asked for.
    #[must_use]
    pub fn holds(&self, tokens_kept: TokensKept) -> bool {
        tokens_kept == TokensKept::No || self.tokens_kept == TokensKept::Yes
    }

    /// The latest use that this process knows of.
    #[must_use]
    pub fn last_used(&self) -> UnixTime {
        UnixTime(self.last_used.load(Ordering::Relaxed))
    }

    /// Notes a use.
    pub fn used_at(&self, now: UnixTime) {
        // Most requests find the second of the one before: reading is cheaper than a locked write.
        if self.last_used.load(Ordering::Relaxed) < now.0 {
            self.last_used.fetch_max(now.0, Ordering::Relaxed);
        }
    }

    /// Whether the store has not heard of a use for `pause` seconds. The one caller that gets `true` tells it.
    pub(super) fn claim_touch(&self, now: UnixTime, pause: u64) -> bool {
        let before = self.last_touched.load(Ordering::Relaxed);
        now.0 >= before.saturating_add(pause)
            && self.last_touched.compare_exchange(before, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// The state of a part of the cache when a store was asked; see [`SessionCache::insert`].
#[derive(Clone, Copy)]
pub struct Mark {
    era: u64,
    removals: u64,
}

/// What happened to sessions of one part of the cache.
#[derive(Default)]
struct Stripe {
    /// How often something was removed.
    removals: u64,
    /// How many of them are being deleted from the store right now.
    deletions: usize,
}

/// A session that is being deleted from the store: out of the cache from before to after, so that an answer from meanwhile lets nobody in.
pub struct Deletion<'a, P> {
    cache: &'a SessionCache<P>,
    id: RecordId,
}

impl<P> Drop for Deletion<'_, P> {
    fn drop(&mut self) {
        self.cache.with_stripe(&self.id, |stripe| stripe.deletions = stripe.deletions.saturating_sub(1));
        self.cache.remove(&self.id);
    }
}

/// A bounded number of opened sessions.
pub struct SessionCache<P> {
    entries: Cache<RecordId, Arc<CachedSession<P>>, UnitWeighter, BuildHasherDefault<IdHasher>>,
    /// By the id's first byte.
    stripes: [Mutex<Stripe>; STRIPES],
    /// Odd while the store tells of every change. Each change of that is an era of its own.
    era: AtomicU64,
    /// Until when that may be believed without another word, in seconds; `None`: for ever.
    believed_until: Option<(SharedClock, AtomicU64)>,
}

/// A store says each second that every change was told. A machine that slept, or had no time for hearing it, believes nothing after this.
const WORD_COUNTS: Duration = Duration::from_secs(4);

impl<P> SessionCache<P> {
    /// Holds at most about `entries` sessions of a store that nobody else writes to.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self::in_era(entries, 1, None)
    }

    /// The same for a store that others write to: believed once the store tells of their changes ([`SessionCache::trust`]).
    #[must_use]
    pub fn watched(entries: usize, clock: SharedClock) -> Self {
        Self::in_era(entries, 0, Some((clock, AtomicU64::new(0))))
    }

    fn in_era(entries: usize, era: u64, believed_until: Option<(SharedClock, AtomicU64)>) -> Self {
        let entries = entries.max(1);
        Self {
            era: AtomicU64::new(era),
            believed_until,
            entries: Cache::with(entries, entries as u64, UnitWeighter, BuildHasherDefault::default(), DefaultLifecycle::default()),
            stripes: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// How many sessions are in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The session under this id, whoever asks: see [`CachedSession::opens_with`].
    #[must_use]
    pub fn get(&self, id: &RecordId) -> Option<Arc<CachedSession<P>>> {
        if self.is_trusted() { self.entries.get(id) } else { None }
    }

    /// Whether what is in it may be believed.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        let heard_lately = |(clock, until): &(SharedClock, AtomicU64)| clock.now().0 < until.load(Ordering::Acquire);
        self.era.load(Ordering::Acquire) % 2 == 1 && self.believed_until.as_ref().is_none_or(heard_lately)
    }

    /// Every change so far was told.
    pub fn heard(&self) {
        if let Some((clock, until)) = &self.believed_until {
            until.store(clock.now().plus(WORD_COUNTS).0, Ordering::Release);
        }
    }

    /// From now on every change is told. What was read before counts no more.
    pub fn trust(&self) {
        self.heard();
        self.begin_era(1);
    }

    /// Changes may be missed: nothing is believed until [`SessionCache::trust`].
    pub fn distrust(&self) {
        self.begin_era(0);
    }

    fn begin_era(&self, odd: u64) {
        let next = |era: u64| Some(if (era + 1) % 2 == odd { era + 1 } else { era + 2 });
        // Always `Some`, so this cannot fail.
        let _ = self.era.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        // Whoever inserts has its stripe: after this nobody is still inserting what was read in an era before.
        for stripe in &self.stripes {
            drop(stripe.lock().unwrap_or_else(PoisonError::into_inner));
        }
        self.entries.clear();
    }

    /// To be taken before the store is asked.
    #[must_use]
    pub fn mark(&self, id: &RecordId) -> Mark {
        Mark { era: self.era.load(Ordering::SeqCst), removals: self.with_stripe(id, |stripe| stripe.removals) }
    }

    /// Keeps what the store answered, unless something was removed since `mark`: an answer from before a removal must not bring a session
    /// back. A removal of a neighbour only costs one more question.
    pub fn insert(&self, id: RecordId, mark: Mark, session: Arc<CachedSession<P>>) {
        self.with_stripe(&id, |stripe| {
            let now = Mark { era: self.era.load(Ordering::SeqCst), removals: stripe.removals };
            if stripe.deletions == 0 && now.era % 2 == 1 && (now.era, now.removals) == (mark.era, mark.removals) {
                self.entries.insert(id, session);
            }
        });
    }

    /// Forgets a session.
    pub fn remove(&self, id: &RecordId) {
        self.with_stripe(id, |stripe| {
            stripe.removals = stripe.removals.wrapping_add(1);
            self.entries.remove(id);
        });
    }

    /// Forgets a session, and keeps it out until the deletion is dropped. Whoever ends the same session meanwhile, and finds the store without
    /// it, may then say that nobody is let in.
    #[must_use]
    pub fn deletion(&self, id: &RecordId) -> Deletion<'_, P> {
        self.with_stripe(id, |stripe| stripe.deletions += 1);
        self.remove(id);
        Deletion { cache: self, id: *id }
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder is below its divisor")]
    fn with_stripe<T>(&self, id: &RecordId, with: impl FnOnce(&mut Stripe) -> T) -> T {
        let stripe = &self.stripes[usize::from(id[0]) % STRIPES];
        with(&mut stripe.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A record's name is a SHA-256 already: its first eight bytes are as good as any hash of it. Only sessions that exist are ever inserted,
/// and their names are made by us, so nobody can choose what collides.
#[derive(Clone, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some((first, _)) = bytes.split_first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length before the bytes, of which there is but one.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(cookie: &SessionCookie) -> Arc<CachedSession<()>> {
        let session = json!({"identity": {"issuer": "i", "sub": "s", "source": {"provider": "p"}, "user": "s", "email": "absent",
            "preferred_username": null, "groups": {"listed": []}, "scopes": [], "claims": {}, "auth_time": null},
            "id_token": "", "created_at": 1000, "ends_at": 2000});
        Arc::new(CachedSession::new(cookie, serde_json::from_value(session).unwrap(), UnixTime(1000), TokensKept::Yes))
    }

    #[test]
    fn what_is_kept_opens_with_its_own_key_only() {
        let (cookie, cache) = (SessionCookie::new(), SessionCache::new(10));
        let id = cookie.record_id();
        cache.insert(id, cache.mark(&id), entry(&cookie));
        let kept = cache.get(&id).unwrap();
        assert!(kept.opens_with(&cookie));
        assert!(!kept.opens_with(&SessionCookie::new()));
        cache.remove(&id);
        assert!(cache.get(&id).is_none());
    }

    #[test]
    fn an_answer_from_before_a_removal_does_not_come_back() {
        let (cookie, cache) = (SessionCookie::new(), SessionCache::new(10));
        let id = cookie.record_id();
        let mark = cache.mark(&id);
        cache.remove(&id);
        cache.insert(id, mark, entry(&cookie));
        assert!(cache.get(&id).is_none());
        cache.insert(id, cache.mark(&id), entry(&cookie));
        assert!(cache.get(&id).is_some());
    }

    #[test]
    fn while_a_session_is_being_deleted_no_answer_brings_it_back() {
        let (cookie, cache) = (SessionCookie::new(), SessionCache::new(10));
        let id = cookie.record_id();
        cache.insert(id, cache.mark(&id), entry(&cookie));
        let (first, second) = (cache.deletion(&id), cache.deletion(&id));
        assert!(cache.get(&id).is_none());
        for deletion in [first, second] {
            // The store may still have it, or have it no more and not have said so.
            let mark = cache.mark(&id);
            cache.insert(id, mark, entry(&cookie));
            assert!(cache.get(&id).is_none());
            drop(deletion);
            cache.insert(id, mark, entry(&cookie));
            assert!(cache.get(&id).is_none());
        }
        cache.insert(id, cache.mark(&id), entry(&cookie));
        assert!(cache.get(&id).is_some());
    }

    #[test]
    fn what_was_read_while_changes_were_missed_is_never_believed() {
        let clock = Arc::new(crate::clock::ManualClock::default());
        let (cookie, cache) = (SessionCookie::new(), SessionCache::watched(10, Arc::clone(&clock) as SharedClock));
        let id = cookie.record_id();
        cache.insert(id, cache.mark(&id), entry(&cookie));
        assert!(cache.get(&id).is_none());
        let before = cache.mark(&id);
        cache.trust();
        cache.insert(id, before, entry(&cookie));
        assert!(cache.get(&id).is_none());
        let mark = cache.mark(&id);
        cache.insert(id, mark, entry(&cookie));
        assert!(cache.get(&id).is_some());
        cache.distrust();
        assert!(cache.get(&id).is_none());
        cache.trust();
        assert!(cache.get(&id).is_none());
        cache.insert(id, mark, entry(&cookie));
        assert!(cache.get(&id).is_none());
        // Trusting twice forgets what lies between.
        cache.insert(id, cache.mark(&id), entry(&cookie));
        cache.trust();
        assert!(cache.get(&id).is_none() && cache.is_trusted());
        // A word counts for some seconds only, and the next one is as good.
        cache.insert(id, cache.mark(&id), entry(&cookie));
        assert!(cache.get(&id).is_some());
        clock.advance(Duration::from_secs(5));
        assert!(cache.get(&id).is_none() && !cache.is_trusted());
        cache.heard();
        assert!(cache.get(&id).is_some());
    }

    #[test]
    fn readers_and_removers_at_once_never_leave_a_removed_session() {
        for _ in 0..200 {
            let (cookie, cache) = (SessionCookie::new(), SessionCache::new(10));
            let (id, there) = (cookie.record_id(), std::sync::atomic::AtomicBool::new(true));
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let mark = cache.mark(&id);
                        if there.load(Ordering::SeqCst) {
                            cache.insert(id, mark, entry(&cookie));
                        }
                    });
                }
                scope.spawn(|| {
                    cache.remove(&id);
                    there.store(false, Ordering::SeqCst);
                    cache.remove(&id);
                });
            });
            assert!(cache.get(&id).is_none());
        }
    }

    #[test]
    fn it_holds_no_more_than_its_bound() {
        let cache = SessionCache::new(100);
        for _ in 0..1000 {
            let cookie = SessionCookie::new();
            let id = cookie.record_id();
            cache.insert(id, cache.mark(&id), entry(&cookie));
        }
        assert!((50..=110).contains(&cache.len()), "{}", cache.len());
    }

    #[test]
    fn a_touch_is_claimed_once_a_pause() {
        let session = entry(&SessionCookie::new());
        assert!(!session.claim_touch(UnixTime(1059), 60));
        assert!(session.claim_touch(UnixTime(1060), 60));
        assert!(!session.claim_touch(UnixTime(1060), 60));
        session.used_at(UnixTime(1100));
        session.used_at(UnixTime(1050));
        assert_eq!(session.last_used(), UnixTime(1100));
    }
}
