//! Keys that the operator gives: the first signs, all are published.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::token::{Algorithm, SigningKey, SigningKeyError};

/// The keys of a file. They may be replaced while the gateway runs.
pub struct FileKeys(ArcSwap<Vec<Arc<SigningKey>>>);

impl FileKeys {
    /// Reads a PEM text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(pem: &[u8]) -> Result<Self, String> {
        keys(pem).map(|keys| Self(ArcSwap::from_pointee(keys)))
    }

    /// From now on these: whether they are others than before. With an error nothing changes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn replace(&self, pem: &[u8]) -> Result<bool, String> {
        let keys = keys(pem)?;
        let known = self.0.load();
        let changed = !keys.iter().map(|key| key.kid()).eq(known.iter().map(|key| key.kid()));
        if changed {
            self.0.store(Arc::new(keys));
        }
        Ok(changed)
    }

    #[expect(clippy::expect_used, reason = "a text without keys is not read")]
    pub(super) fn signer(&self) -> Arc<SigningKey> {
        Arc::clone(self.0.load().first().expect("at least one key"))
    }

    pub(super) fn published(&self) -> Vec<Arc<SigningKey>> {
        self.0.load().to_vec()
    }
}

fn keys(pem: &[u8]) -> Result<Vec<Arc<SigningKey>>, String> {
    let keys = SigningKey::all_from_pem(pem).map_err(|error: SigningKeyError| error.to_string())?;
    let mut names: Vec<&str> = keys.iter().map(SigningKey::kid).collect();
    for key in &keys {
        if !matches!(key.algorithm(), Algorithm::Es256 | Algorithm::EdDsa) {
            return Err(format!("expected keys on P-256 (ES256) or Ed25519 (EdDSA); one signs {}", key.algorithm()));
        }
    }
    names.sort_unstable();
    names.dedup();
    if names.len() < keys.len() {
        return Err("holds the same key twice".to_owned());
    }
    Ok(keys.into_iter().map(Arc::new).collect())
}
