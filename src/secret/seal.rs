//! Authenticated encryption of what is stored or handed out: AES-256-GCM with a random nonce, bound to a context.
//!
//! A sealed value is `version (1) | nonce (12) | ciphertext | tag (16)`. The version and the context are authenticated, so a value moved to
//! another record, cut short or made by somebody else opens as nothing.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use super::{HmacKey, digest::sha256};

const VERSION: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;

/// One key that seals and opens.
pub struct SealKey(RandomizedNonceKey);

impl SealKey {
    /// From 32 bytes of key material.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the length is in the type")]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(RandomizedNonceKey::new(&AES_256_GCM, bytes).expect("32 bytes make an AES-256 key"))
    }

    /// Seals `plain` for `context`; the same value sealed twice differs.
    #[must_use]
    #[expect(clippy::expect_used, reason = "fails only beyond 64 GiB or without randomness")]
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut body = plain.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(bound(context)), &mut body).expect("a record is far below AES-GCM's limit");
        let mut sealed = Vec::with_capacity(1 + NONCE + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        sealed
    }

    /// Opens what this key sealed for the same `context`, else `None`.
    #[must_use]
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (&version, rest) = sealed.split_first()?;
        if version != VERSION || rest.len() < NONCE + TAG {
            return None;
        }
        let (nonce, body) = rest.split_at_checked(NONCE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self.0.open_in_place(nonce, Aad::from(bound(context)), &mut body).ok()?.len();
        body.truncate(plain);
        Some(body)
    }
}

fn bound(context: &[u8]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(context.len() + 1);
    bound.push(VERSION);
    bound.extend_from_slice(context);
    bound
}

/// The gateway's own sealing keys (`keys.seal_file`): the first seals, all open; each also gives the key of the store's indexes. They may be
/// replaced while the gateway runs.
pub struct SealRing(ArcSwap<Vec<(SealKey, HmacKey)>>);

impl SealRing {
    /// From one or more keys of 32 bytes; `None` when there is none.
    #[must_use]
    pub fn new(keys: &[[u8; 32]]) -> Option<Self> {
        derived(keys).map(|keys| Self(ArcSwap::from_pointee(keys)))
    }

    /// From now on these; `false`, and nothing changes, when there is none.
    pub fn replace(&self, keys: &[[u8; 32]]) -> bool {
        let keys = derived(keys);
        let replaced = keys.is_some();
        if let Some(keys) = keys {
            self.0.store(Arc::new(keys));
        }
        replaced
    }

    /// Seals with the first key.
    #[must_use]
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        self.0.load().first().map(|(key, _)| key.seal(context, plain)).unwrap_or_default()
    }

    /// Opens with whichever key fits.
    #[must_use]
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.0.load().iter().find_map(|(key, _)| key.open(context, sealed))
    }

    /// Whether it is the first key that sealed it; what an older one sealed is to be sealed again before that one is taken out.
    #[must_use]
    pub fn seals_so_now(&self, context: &[u8], sealed: &[u8]) -> bool {
        self.0.load().first().is_some_and(|(key, _)| key.open(context, sealed).is_some())
    }

    /// The index tag under the first key: what is written.
    #[must_use]
    pub fn index(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.0.load().first().map(|(_, key)| key.tag(parts)).unwrap_or_else(|| sha256(b""))
    }

    /// The index tags under every key: what is looked up.
    #[must_use]
    pub fn indexes(&self, parts: &[&[u8]]) -> Vec<[u8; 32]> {
        self.0.load().iter().map(|(_, key)| key.tag(parts)).collect()
    }
}

fn derived(keys: &[[u8; 32]]) -> Option<Vec<(SealKey, HmacKey)>> {
    // Two purposes, two keys: what indexes is never what encrypts.
    let derive = |key: &[u8; 32], purpose: &[u8]| HmacKey::new(key).tag(&[b"doorward", purpose]);
    let derived = keys.iter().map(|key| (SealKey::new(&derive(key, b"seal")), HmacKey::new(&derive(key, b"index"))));
    (!keys.is_empty()).then(|| derived.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens_only_as_it_was(plain: Vec<u8>, context: Vec<u8>, other: Vec<u8>, cut in 0_usize..64, flip: u8) {
            let key = SealKey::new(&[7; 32]);
            let sealed = key.seal(&context, &plain);
            let opened = key.open(&context, &sealed);
            prop_assert_eq!(opened.as_deref(), Some(&plain));
            prop_assert_ne!(&sealed, &key.seal(&context, &plain));
            prop_assert!(SealKey::new(&[8; 32]).open(&context, &sealed).is_none());
            prop_assert!(other == context || key.open(&other, &sealed).is_none());
            prop_assert!(cut == 0 || key.open(&context, &sealed[..sealed.len().saturating_sub(cut)]).is_none());
            let mut bent = sealed.clone();
            let at = usize::from(flip) % bent.len();
            bent[at] ^= 1;
            prop_assert!(key.open(&context, &bent).is_none());
            prop_assert!(plain.is_empty() || key.open(&context, &plain).is_none());
        }
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let old = SealRing::new(&[[1; 32]]).unwrap();
        let both = SealRing::new(&[[2; 32], [1; 32]]).unwrap();
        let sealed = old.seal(b"x", b"hello");
        assert_eq!(both.open(b"x", &sealed).unwrap().as_slice(), b"hello");
        assert!(old.open(b"x", &both.seal(b"x", b"hello")).is_none());
        assert!(both.seals_so_now(b"x", &both.seal(b"x", b"hello")) && !both.seals_so_now(b"x", &sealed));
        assert!(both.indexes(&[b"a"]).contains(&old.index(&[b"a"])));
        assert!(SealRing::new(&[]).is_none());
        assert!(old.replace(&[[2; 32], [1; 32]]) && !old.replace(&[]));
        assert_eq!(old.open(b"x", &both.seal(b"x", b"hello")).unwrap().as_slice(), b"hello");
        assert_eq!(old.index(&[b"a"]), both.index(&[b"a"]));
    }
}
