//! JWTs that were verified before, by a keyed hash of the whole token: a repeated one costs no signature check and no JSON.
//!
//! Signature and claims stay true and are remembered; times, audience and policy are judged each time. A token counts for as long as the
//! key that signed it is the issuer's: when the keys were fetched anew without it, the token is forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::VerifiedToken;
use crate::clock::UnixTime;
use crate::provider::keys::JwksCache;
use crate::secret::{ProcessTags, Secret, sha256};
use crate::token::{Audience, KeyMark};

/// How much is remembered, in bytes of tokens; their claims take a few times as much.
const MOST_BYTES: u64 = 8 << 20;
/// What a token takes beside its length.
const OVERHEAD_BYTES: u64 = 256;
/// How many tokens that usually are: sizes the table only.
const USUAL_TOKENS: usize = 8 * 1024;

/// By what a token is known in this process.
type TokenTag = [u8; 16];

/// SHA-256 of a token.
pub(super) type TokenHash = [u8; 32];

pub(super) fn hash_of(token: &Secret) -> TokenHash {
    sha256(token.expose().as_bytes())
}

/// What is remembered of one token.
pub(super) struct Remembered {
    pub(super) verified: VerifiedToken,
    /// For whom its issuer's tokens must be meant where a route says nothing.
    pub(super) audience: Arc<Audience>,
    key: KeyMark,
    keys: Arc<JwksCache>,
    /// The edition of the keys that `key` was last seen in.
    edition: AtomicU64,
    bytes: u64,
}

impl Remembered {
    /// Whether its key is its issuer's still. `None`: the keys have to be looked at first, which may take a wait.
    fn key_counts(&self, now: UnixTime) -> Option<bool> {
        if self.keys.fresh_edition(now) == Some(self.edition.load(Ordering::Relaxed)) {
            return Some(true);
        }
        let (keys, edition) = self.keys.at_hand()?;
        let counts = keys.still_has(&self.key);
        if counts {
            self.edition.store(edition, Ordering::Relaxed);
        }
        Some(counts)
    }
}

/// A bounded number of verified JWTs of all issuers. Shared as `Arc<TokenMemory>`.
pub struct TokenMemory {
    entries: Cache<TokenTag, Arc<Remembered>, Bytes>,
    tags: ProcessTags,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<TokenTag, Arc<Remembered>> for Bytes {
    fn weight(&self, _: &TokenTag, remembered: &Arc<Remembered>) -> u64 {
        remembered.bytes
    }
}

impl Default for TokenMemory {
    fn default() -> Self {
        Self { entries: Cache::with_weighter(USUAL_TOKENS, MOST_BYTES, Bytes), tags: ProcessTags::new() }
    }
}

impl TokenMemory {
    /// Nothing is remembered yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// By what this token is known here.
    pub(super) fn tag_of(&self, token: &Secret) -> Option<TokenTag> {
        self.tags.of(token.expose().as_bytes())
    }

    /// What is remembered of the token with this tag, if it counts without asking anybody.
    pub(super) fn find(&self, tag: &TokenTag, now: UnixTime) -> Option<Arc<Remembered>> {
        let remembered = self.entries.get(tag)?;
        match remembered.key_counts(now) {
            Some(true) => Some(remembered),
            Some(false) => {
                self.entries.remove(tag);
                None
            }
            None => None,
        }
    }

    pub(super) fn remember(&self, token: &Secret, verified: &VerifiedToken, audience: &Arc<Audience>, key: KeyMark, keys: &Arc<JwksCache>) {
        let remembered = Remembered {
            verified: verified.clone(),
            audience: Arc::clone(audience),
            key,
            keys: Arc::clone(keys),
            // Looked for at the next sight: the keys may have changed since this token's was found.
            edition: AtomicU64::new(0),
            bytes: token.expose().len() as u64 + OVERHEAD_BYTES,
        };
        if let Some(tag) = self.tag_of(token) {
            self.entries.insert(tag, Arc::new(remembered));
        }
    }

    /// For a token whose time is over.
    pub(super) fn forget(&self, tag: &TokenTag) {
        self.entries.remove(tag);
    }

    /// How many tokens are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
