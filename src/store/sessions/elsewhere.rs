//! What is done to sessions without their cookies: found, listed and ended by who they are of. And what is noted beside them: marks and counts.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Sessions, delete};
use crate::clock::UnixTime;
use crate::fault::Outage;
use crate::secret::SealRing;
use crate::session::{Life, Lifetimes};
use crate::store::record::{self, Listing};
use crate::store::{RecordId, SessionStore};

/// How long a `sid` that was ended is remembered: a login that was under way then is over by that time.
const SID_REMEMBERED: Duration = Duration::from_secs(10 * 60);

/// How many sessions a list asks the store about at once. One by one a hundred thousand would take longer than whoever asked waits.
const AT_ONCE: usize = 64;

/// Which sessions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under<'a> {
    /// Those that came of one session at the provider.
    Sid {
        /// The provider.
        issuer: &'a str,
        /// Its name for its session.
        sid: &'a str,
    },
    /// All of a person.
    Sub {
        /// The provider.
        issuer: &'a str,
        /// Its name for the person.
        sub: &'a str,
    },
}

/// A session as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name of its record. It opens nothing.
    pub id: RecordId,
    /// Who, since when, from where.
    pub listing: Listing,
    /// As the store knows it: up to a minute ago it may have been used again.
    pub last_used: UnixTime,
}

impl<P: Send + Sync + 'static> Sessions<P> {
    /// The sessions that are alive: some, or all there are, the latest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn listed(&self, of: Option<Under<'_>>) -> Result<Vec<Listed>, Outage> {
        let entries = of.map(|of| self.entries(of));
        let (ring, lifetimes, now) = (Arc::clone(&self.ring), self.lifetimes, self.clock.now());
        let mut found = self
            .ask(async move |store| {
                let ids = match entries {
                    Some(entries) => under(&*store, &entries).await?,
                    None => all(&*store).await?,
                };
                let mut found = Vec::new();
                for some in ids.chunks(AT_ONCE) {
                    let mut asked = JoinSet::new();
                    for id in some {
                        asked.spawn(listed(Arc::clone(&store), Arc::clone(&ring), *id));
                    }
                    while let Some(answered) = asked.join_next().await {
                        let one = answered.map_err(|_broke_off| Outage::store("the list broke off"))??;
                        found.extend(one.filter(|one| life(&one.listing, one.last_used, lifetimes, now) == Life::Alive));
                    }
                }
                Ok(found)
            })
            .await?;
        found.sort_by_key(|one| (std::cmp::Reverse(one.listing.signed_in_at), one.id));
        Ok(found)
    }

    /// Ends these sessions on all replicas; what they were. Their open streams end too.
    ///
    /// # Errors
    /// When the store does not answer; then some of them may be gone and others not.
    pub async fn end_under(&self, of: Under<'_>) -> Result<Vec<Listing>, Outage> {
        let entries = self.entries(of);
        let (ring, cache, streams) = (Arc::clone(&self.ring), self.cache.clone(), Arc::clone(&self.streams));
        self.ask(async move |store| {
            let mut ended = Vec::new();
            for id in under(&*store, &entries).await? {
                let listing = store.listing(id).await?;
                if delete(&*store, cache.as_deref(), &streams, id).await? {
                    ended.extend(listing.and_then(|listing| record::open_listing(&listing, &id, &ring)));
                }
            }
            Ok(ended)
        })
        .await
    }

    /// Ends one session on all replicas; what it was, if it was there.
    ///
    /// # Errors
    /// When the store does not answer; then it may still be there.
    pub async fn end_record(&self, id: RecordId) -> Result<Option<Listing>, Outage> {
        let (ring, cache, streams) = (Arc::clone(&self.ring), self.cache.clone(), Arc::clone(&self.streams));
        self.ask(async move |store| {
            let listing = store.listing(id).await?;
            let there = delete(&*store, cache.as_deref(), &streams, id).await?;
            Ok(listing.filter(|_| there).and_then(|listing| record::open_listing(&listing, &id, &ring)))
        })
        .await
    }

    /// Ends every session there is, on all replicas; `ended` hears of each as it goes, of one that was sealed by a key which is gone without
    /// its listing. Returns how many there were.
    ///
    /// # Errors
    /// When the store does not answer; then some of them may be gone and others not.
    pub async fn end_all(&self, mut ended: impl FnMut(Option<Listing>) + Send + 'static) -> Result<usize, Outage> {
        let (ring, lifetimes, now) = (Arc::clone(&self.ring), self.lifetimes, self.clock.now());
        let (cache, streams) = (self.cache.clone(), Arc::clone(&self.streams));
        self.ask(async move |store| {
            let mut count = 0;
            for id in all(&*store).await? {
                let Some(stored) = store.session(id).await? else { continue };
                let Some(sealed) = store.listing(id).await?.filter(|sealed| !sealed.is_empty()) else {
                    // What time has left of a session is in no list.
                    continue;
                };
                let listing = record::open_listing(&sealed, &id, &ring);
                let there = delete(&*store, cache.as_deref(), &streams, id).await?;
                if there && listing.as_ref().is_none_or(|listing| life(listing, stored.last_used, lifetimes, now) == Life::Alive) {
                    count += 1;
                    ended(listing);
                }
            }
            Ok(count)
        })
        .await
    }

    fn entries(&self, of: Under<'_>) -> Vec<RecordId> {
        match of {
            Under::Sid { issuer, sid } => record::entries_of_sid(&self.ring, issuer, sid),
            Under::Sub { issuer, sub } => record::entries_of_sub(&self.ring, issuer, sub),
        }
    }
}

/// Marks and counts: named by their parts, and known by a keyed hash.
impl<P> Sessions<P> {
    /// Whether two names of a person are one, as [`record::subject_tag`] hides them; every key of the gateway is tried.
    #[must_use]
    pub fn is_subject(&self, tag: &RecordId, issuer: &str, sub: &str) -> bool {
        record::subject_tags(&self.ring, issuer, sub).contains(tag)
    }

    /// Notes that the provider ended this session of its own: a login under way that belongs to it gets none.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn mark_ended_sid(&self, issuer: &str, sid: &str) -> Result<(), Outage> {
        let until = self.clock.now().plus(SID_REMEMBERED);
        self.remember(&[b"ended-sid", issuer.as_bytes(), sid.as_bytes()], until).await.map(drop)
    }

    /// The marks of this `sid`, under every key.
    pub(super) fn sid_marks(&self, issuer: &str, sid: &str) -> Vec<RecordId> {
        self.marks(&[b"ended-sid", issuer.as_bytes(), sid.as_bytes()])
    }

    /// Notes that something happened, until then; `true`: for the first time, on whichever replica.
    ///
    /// # Errors
    /// When the store does not answer; then it may have been noted.
    pub async fn remember(&self, parts: &[&[u8]], until: UnixTime) -> Result<bool, Outage> {
        let marks = self.marks(parts);
        self.ask(async move |store| {
            let Some((first, others)) = marks.split_first() else { return Ok(false) };
            // Noted before the gateway's keys were rotated.
            for other in others {
                if store.remembered(*other).await? {
                    return Ok(false);
                }
            }
            store.remember(*first, until).await
        })
        .await
    }

    /// Whether it was noted.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn remembered(&self, parts: &[&[u8]]) -> Result<bool, Outage> {
        let marks = self.marks(parts);
        self.ask(async move |store| {
            for mark in marks {
                if store.remembered(mark).await? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    /// Counts one more; how many there are now. They are forgotten together, `window` after the first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn count(&self, parts: &[&[u8]], window: Duration) -> Result<u64, Outage> {
        let name = self.ring.index(&counted(parts));
        self.ask(async move |store| store.count(name, window).await).await
    }

    /// How many there are.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn counted(&self, parts: &[&[u8]]) -> Result<u64, Outage> {
        let name = self.ring.index(&counted(parts));
        self.ask(async move |store| store.counted(name).await).await
    }

    /// Forgets a count.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn forget_count(&self, parts: &[&[u8]]) -> Result<(), Outage> {
        let name = self.ring.index(&counted(parts));
        self.ask(async move |store| store.forget_count(name).await).await
    }

    fn marks(&self, parts: &[&[u8]]) -> Vec<RecordId> {
        let mut all: Vec<&[u8]> = vec![b"mark"];
        all.extend_from_slice(parts);
        self.ring.indexes(&all)
    }
}

fn counted<'a>(parts: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let mut all: Vec<&[u8]> = vec![b"count"];
    all.extend_from_slice(parts);
    all
}

/// By what a list knows: when it began and when it was last used.
fn life(listing: &Listing, last_used: UnixTime, lifetimes: Lifetimes, now: UnixTime) -> Life {
    let lifetimes = lifetimes.of(listing.shown_as);
    let ends_at = listing.signed_in_at.plus(lifetimes.absolute).min(last_used.plus(lifetimes.idle));
    if now < ends_at { Life::Alive } else { Life::Over(crate::reason::Reason::SessionExpired) }
}

/// One line of a list, if there is anything to show.
async fn listed(store: Arc<dyn SessionStore>, ring: Arc<SealRing>, id: RecordId) -> Result<Option<Listed>, Outage> {
    let sealed = store.listing(id).await?;
    let Some(listing) = sealed.and_then(|sealed| record::open_listing(&sealed, &id, &ring)) else { return Ok(None) };
    Ok(store.session(id).await?.map(|stored| Listed { id, listing, last_used: stored.last_used }))
}

async fn under(store: &dyn SessionStore, entries: &[RecordId]) -> Result<Vec<RecordId>, Outage> {
    let mut ids = Vec::new();
    for entry in entries {
        ids.extend(store.sessions_under(*entry).await?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

async fn all(store: &dyn SessionStore) -> Result<Vec<RecordId>, Outage> {
    let (mut ids, mut from) = (Vec::new(), None);
    loop {
        let (part, next) = store.all_sessions(from).await?;
        ids.extend(part);
        match next {
            Some(_) => from = next,
            None => break,
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}
