//! API keys: long random texts that programs show in a header of their own. A file holds their hashes, with whom each stands for.
//!
//! `shape` is what a key looks like, `file` what the file says. [`ApiKeys`] judges what is shown: a good key costs one hash and asks nobody,
//! so that neither a store that does not answer nor a flood of wrong ones keeps it out.

mod file;
mod shape;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::HeaderName;

use super::local::{Denied, GuessLimits, Throttle};
use super::reread::Reread;
use crate::clock::SharedClock;
use crate::fault::Fault;
use crate::header::PreparedHeaders;
use crate::identity::Identity;
use crate::reason::Reason;
use crate::secret::Secret;
use crate::store::Sessions;
use crate::tasks::Tasks;

use file::Keys;
pub use file::identity;

/// Bytes of the file: some hundred thousand keys.
const LARGEST_FILE: u64 = 32 << 20;
/// The config's key, for the log.
const KEY: &str = "api_keys.file";

/// What stands in a file of keys.
pub struct KeyFile(Reread<Keys>);

impl KeyFile {
    /// Reads it for the first time; `issuer` is who vouches for its keys.
    ///
    /// # Errors
    /// Everything that is wrong with it, by table.
    pub fn new(file: PathBuf, issuer: &str) -> Result<Self, Vec<String>> {
        let issuer = issuer.to_owned();
        Reread::new(KEY, file, LARGEST_FILE, Box::new(move |text: &str| file::parse(text, &issuer))).map(Self)
    }

    /// Looks at a file without keeping it: how many keys it holds.
    ///
    /// # Errors
    /// As [`KeyFile::new`].
    pub fn look(file: &Path) -> Result<usize, Vec<String>> {
        Self::new(file.to_owned(), "").map(|file| file.0.current().len())
    }
}

/// The keys that count.
pub struct ApiKeys {
    header: HeaderName,
    file: Arc<KeyFile>,
    /// As of the last look at the file.
    known: ArcSwap<Keys>,
    /// The second of that look: a key that was taken out counts for one more at most.
    looked_at: AtomicU64,
    turn: tokio::sync::Mutex<()>,
    throttle: Throttle,
    tasks: Tasks,
    clock: SharedClock,
}

impl ApiKeys {
    /// The keys of this file, shown in this header. Failures are counted in the store of `sessions`, so that all replicas know of them.
    #[must_use]
    pub fn new(
        header: HeaderName,
        file: KeyFile,
        guesses: GuessLimits,
        sessions: Arc<Sessions<PreparedHeaders>>,
        clock: SharedClock,
        tasks: Tasks,
    ) -> Self {
        let known = ArcSwap::new(file.0.current());
        let looked_at = AtomicU64::new(clock.now().0);
        let throttle = Throttle::new(sessions, guesses, Arc::clone(&clock));
        Self { header, file: Arc::new(file), known, looked_at, turn: tokio::sync::Mutex::new(()), throttle, tasks, clock }
    }

    /// Where they stand.
    #[must_use]
    pub const fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Judges what was shown in the header of keys.
    ///
    /// # Errors
    /// Why not. Wrong keys are counted by address; a good one never is, and needs no store.
    pub async fn check(&self, shown: &Secret, from: IpAddr) -> Result<Arc<Identity>, Denied> {
        let hash = match shape::hash_of(shown.expose()) {
            Ok(hash) => hash,
            Err(detail) => return self.wrong(from, Reason::ApiKeyMalformed, detail).await,
        };
        let known = self.current().await;
        match known.get(&hash) {
            None => self.wrong(from, Reason::ApiKeyUnknown, "no key of the file has this hash").await,
            // Whoever has it guesses nothing.
            Some(key) if key.expires_at.is_some_and(|end| self.clock.now() >= end) => {
                let detail = format!("the key of {:?} is over", key.identity.sub);
                Err(Denied::Wrong(Fault::new(Reason::ApiKeyExpired, detail)))
            }
            Some(key) => Ok(Arc::clone(&key.identity)),
        }
    }

    /// The keys as of this second. The first request of a second looks at the file; those that come meanwhile wait for it, since what was taken
    /// out long ago must not count for whoever comes first after a quiet night.
    async fn current(&self) -> Arc<Keys> {
        let now = self.clock.now().0;
        if self.looked_at.load(Ordering::Acquire) != now {
            let _turn = self.turn.lock().await;
            if self.looked_at.load(Ordering::Acquire) != now {
                let file = Arc::clone(&self.file);
                let looked = self.tasks.run(async move { tokio::task::spawn_blocking(move || file.0.current()).await.ok() });
                if let Some(keys) = looked.await.flatten() {
                    self.known.store(keys);
                }
                self.looked_at.store(now, Ordering::Release);
            }
        }
        self.known.load_full()
    }

    async fn wrong<T>(&self, from: IpAddr, reason: Reason, detail: &str) -> Result<T, Denied> {
        self.throttle.admit_key(from).await?;
        self.throttle.failed_key(from).await?;
        Err(Denied::Wrong(Fault::new(reason, detail)))
    }
}
