//! Keys that the gateways of one store make and share: sealed by the gateway's own ring, written by whoever is first, read by all.
//!
//! What this process knows it goes on with while the store is out. Keys that the store has lost (a failover, an eviction) are written back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, Notify};

use super::schedule::{Read, Schedule};
use crate::clock::{SharedClock, UnixTime};
use crate::fault::Outage;
use crate::secret::{SealRing, sha256};
use crate::store::{RecordId, SessionStore};
use crate::tasks::Tasks;
use crate::token::SigningKey;

/// How often the store is looked at: much oftener than a new key has to wait before it signs.
const LOOK: Duration = Duration::from_secs(30);
/// How soon again after an outage.
const SOON: Duration = Duration::from_secs(1);
/// What was read longer ago than this is read again before keys are published.
const FRESH: Duration = Duration::from_secs(60);
/// How often a write is tried that another gateway came before.
const TRIES: usize = 8;
/// The record is there this long after it was last written; a store keeps nothing for ever.
const LASTS: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// It is written again when it was written longer ago than this.
const WRITTEN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// For what the record is sealed.
const CONTEXT: &[u8] = b"doorward assertion keys";

/// Whether other processes write to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// None does: keys that do not open are nobody's, and new ones take their place.
    Yes,
    /// They do: keys that do not open are another's, and stay.
    No,
}

/// The keys in the store, as far as this process knows them.
pub struct SharedKeys {
    store: Arc<dyn SessionStore>,
    ring: Arc<SealRing>,
    clock: SharedClock,
    tasks: Tasks,
    /// How long a key signs; `None`: for ever.
    rotation: Option<Duration>,
    alone: Alone,
    known: ArcSwapOption<Known>,
    /// One looks into the store at a time: when the last look ended, and how.
    asking: Mutex<Option<(Instant, Result<(), Outage>)>>,
    wake: Notify,
}

struct Known {
    schedule: Schedule,
    read_at: UnixTime,
}

impl SharedKeys {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(
        store: Arc<dyn SessionStore>,
        ring: Arc<SealRing>,
        clock: SharedClock,
        tasks: Tasks,
        rotation: Option<Duration>,
        alone: Alone,
    ) -> Arc<Self> {
        let (known, asking, wake) = (ArcSwapOption::empty(), Mutex::new(None), Notify::new());
        Arc::new(Self { store, ring, clock, tasks, rotation, alone, known, asking, wake })
    }

    /// Reads the keys, makes the first and the next ones, again and again for the life of the process.
    pub async fn keep(self: Arc<Self>) {
        let mut told = None;
        loop {
            match self.look().await {
                Ok(()) => {
                    told = None;
                    tokio::select! {
                        () = tokio::time::sleep(LOOK) => {}
                        () = self.wake.notified() => {}
                    }
                }
                Err(outage) => {
                    if told.as_ref() != Some(&outage.source) {
                        tracing::warn!(error = %outage, "the keys of the assertion cannot be had from the store");
                    }
                    told = Some(outage.source);
                    tokio::time::sleep(SOON).await;
                }
            }
        }
    }

    /// The key that signs now.
    pub(super) async fn signer(self: &Arc<Self>) -> Result<Arc<SigningKey>, Outage> {
        let now = self.clock.now();
        let known = self.known().await?;
        if self.is_old(&known, now) {
            self.wake.notify_one();
        }
        known.schedule.signer(now).map(Arc::clone).ok_or_else(none)
    }

    /// The keys to publish, as the store has them by now if it answers.
    pub(super) async fn published(self: &Arc<Self>) -> Result<Vec<Arc<SigningKey>>, Outage> {
        let now = self.clock.now();
        let mut known = self.known().await?;
        if self.is_old(&known, now) {
            // An outage of the store is no reason to publish less than is known.
            let _ = self.asked().await;
            known = self.known().await?;
        }
        Ok(known.schedule.published(now).map(|one| Arc::clone(&one.key)).collect())
    }

    fn is_old(&self, known: &Known, now: UnixTime) -> bool {
        now >= known.read_at.plus(FRESH)
    }

    async fn known(self: &Arc<Self>) -> Result<Arc<Known>, Outage> {
        if let Some(known) = self.known.load_full() {
            return Ok(known);
        }
        self.asked().await?;
        self.known.load_full().ok_or_else(none)
    }

    /// Looks into the store, to the end though the request that asked leaves.
    async fn asked(self: &Arc<Self>) -> Result<(), Outage> {
        let keys = Arc::clone(self);
        let looked = self.tasks.run(async move { keys.look().await });
        looked.await.unwrap_or_else(|| Err(Outage::store("reading the keys of the assertion broke off")))
    }

    /// Looks into the store; whoever waited for another's look has its answer. One that failed a moment ago is not repeated.
    async fn look(&self) -> Result<(), Outage> {
        let began = self.clock.instant();
        let mut last = self.asking.lock().await;
        if let Some((at, answer)) = last.as_ref()
            && (*at >= began || (answer.is_err() && began < *at + SOON))
        {
            return answer.clone();
        }
        let answer = self.agree().await;
        *last = Some((self.clock.instant(), answer.clone()));
        answer
    }

    /// Reads what is in the store, and writes what it lacks: the first key, the next one, those it has lost, or the same sealed by a newer key.
    async fn agree(&self) -> Result<(), Outage> {
        for _ in 0..TRIES {
            let now = self.clock.now();
            let stored = self.store.common(name()).await?;
            let theirs = match &stored {
                Some(sealed) => self.opened(sealed)?,
                None => None,
            };
            let ours = self.known.load_full();
            let ours = ours.as_deref().map(|known| &known.schedule);
            let wanted = self.wanted(theirs.as_ref().map(|theirs| &theirs.schedule), ours, now)?;
            let current = stored.as_ref().is_some_and(|sealed| self.ring.seals_so_now(CONTEXT, sealed));
            let new = |theirs: &Read| now < theirs.written_at.plus(WRITTEN_EVERY);
            let there = current && theirs.as_ref().is_some_and(|theirs| theirs.schedule.same(&wanted) && new(theirs));
            if there || self.written(stored, &wanted, now).await? {
                self.known.store(Some(Arc::new(Known { schedule: wanted, read_at: now })));
                return Ok(());
            }
        }
        Err(Outage::store("other gateways write the keys of the assertion all the time"))
    }

    async fn written(&self, before: Option<Vec<u8>>, wanted: &Schedule, now: UnixTime) -> Result<bool, Outage> {
        let sealed = self.ring.seal(CONTEXT, &wanted.write(now));
        self.store.replace_common(name(), before, sealed, now.plus(LASTS)).await
    }

    fn wanted(&self, theirs: Option<&Schedule>, ours: Option<&Schedule>, now: UnixTime) -> Result<Schedule, Outage> {
        let failed = |error: crate::token::SigningKeyError| Outage::store(format_args!("no key could be made: {error}"));
        let all = match (theirs, ours) {
            (Some(theirs), ours) => theirs.with(ours, now),
            (None, Some(ours)) => ours.with(None, now),
            (None, None) => Schedule::begin(now).map_err(failed)?,
        };
        match self.rotation.filter(|rotation| all.is_due(now, *rotation)) {
            Some(rotation) => all.with_next(now, rotation).map_err(failed),
            None => Ok(all),
        }
    }

    fn opened(&self, sealed: &[u8]) -> Result<Option<Read>, Outage> {
        let opened = self.ring.open(CONTEXT, sealed).and_then(|plain| Schedule::read(&plain));
        match (opened, self.alone) {
            (Some(read), _) => Ok(Some(read)),
            (None, Alone::Yes) => {
                tracing::warn!("the keys of the assertion in the store open with no sealing key; new ones take their place");
                Ok(None)
            }
            (None, Alone::No) => Err(Outage::store(
                "the keys of the assertion open with no key of keys.seal_file: give every gateway the same file, with the key that sealed them in it",
            )),
        }
    }
}

fn none() -> Outage {
    Outage::store("there are no keys for the assertion yet")
}

/// The record's name: the same for all, whatever their sealing keys.
fn name() -> RecordId {
    sha256(CONTEXT)
}
