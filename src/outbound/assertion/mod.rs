//! The assertion: a JWT by which an upstream checks who somebody is, signed by the gateway and good for five minutes.
//!
//! `schedule` says which key signs when and which are published; `shared` keeps the keys in the store, so that all gateways there sign with keys
//! that each of them publishes; `file` is keys that were given. [`Assertions`] signs, and uses what it signed again.

mod file;
mod schedule;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use quick_cache::sync::Cache;
use serde_json::{Value, json};

pub use file::FileKeys;
pub use shared::{Alone, SharedKeys};

use crate::clock::{SharedClock, UnixTime};
use crate::fault::{Fault, Outage, Trouble};
use crate::header::{ASSERTION_LIMIT, AssertionRule};
use crate::identity::Identity;
use crate::reason::Reason;
use crate::secret::random_token;
use crate::token::SigningKey;

/// `typ` of its header, so that it is never taken for an access token, an ID token or anything else that is signed (RFC 8725 §3.11).
pub const TYP: &str = "doorward-assertion+jwt";
/// How long it is good.
pub const LIFE: Duration = Duration::from_secs(5 * 60);
/// How long it is used again: an upstream always gets one that is good for four minutes more.
const AGAIN: Duration = Duration::from_secs(60);
/// How many are kept at hand.
const KEPT: usize = 10_000;
/// How long an upstream may keep the published keys without asking again. A new key is published for longer before it signs.
pub const PUBLISHED_FOR: Duration = Duration::from_secs(10 * 60);

/// Where the keys come from.
#[derive(Clone)]
pub enum Keys {
    /// A file of the operator's.
    File(Arc<FileKeys>),
    /// The store.
    Shared(Arc<SharedKeys>),
}

impl Keys {
    /// The key that signs now.
    async fn signer(&self) -> Result<Arc<SigningKey>, Outage> {
        match self {
            Self::File(file) => Ok(file.signer()),
            Self::Shared(shared) => shared.signer().await,
        }
    }

    async fn published(&self) -> Result<Vec<Arc<SigningKey>>, Outage> {
        match self {
            Self::File(file) => Ok(file.published()),
            Self::Shared(shared) => shared.published().await,
        }
    }
}

/// Signs assertions.
pub struct Assertions {
    /// The gateway itself: `gateway` of every assertion.
    gateway: String,
    keys: Keys,
    kept: Cache<[u8; 32], Arc<Signed>>,
    clock: SharedClock,
}

struct Signed {
    value: HeaderValue,
    at: UnixTime,
    by: Arc<SigningKey>,
}

impl Assertions {
    /// For a gateway of this name, its `public_url` without a path.
    #[must_use]
    pub fn new(gateway: String, keys: Keys, clock: SharedClock) -> Self {
        Self { gateway, keys, kept: Cache::new(KEPT), clock }
    }

    /// What to send of somebody by this rule: one that is at hand and good for four minutes, else a new one.
    ///
    /// # Errors
    /// [`Reason::IdentityTooLarge`] beyond [`ASSERTION_LIMIT`]; an outage while there are no keys.
    pub async fn of(&self, rule: &AssertionRule, identity: &Identity) -> Result<HeaderValue, Trouble> {
        let key = self.keys.signer().await?;
        let now = self.clock.now();
        let fingerprint = rule.fingerprint(identity);
        // Of another key's nothing is used: that key may be out of the file and known to no upstream.
        let good = |signed: &Arc<Signed>| signed.at <= now && now < signed.at.plus(AGAIN) && signed.by.kid() == key.kid();
        if let Some(signed) = self.kept.get(&fingerprint).filter(good) {
            return Ok(signed.value.clone());
        }
        let value = self.signed(&key, rule, identity, now)?;
        self.kept.insert(fingerprint, Arc::new(Signed { value: value.clone(), at: now, by: key }));
        Ok(value)
    }

    fn signed(&self, key: &SigningKey, rule: &AssertionRule, identity: &Identity, now: UnixTime) -> Result<HeaderValue, Fault> {
        let mut claims = rule.told(identity);
        claims.insert("gateway".to_owned(), json!(self.gateway));
        claims.insert("iat".to_owned(), json!(now.0));
        claims.insert("exp".to_owned(), json!(now.plus(LIFE).0));
        claims.insert("jti".to_owned(), json!(random_token()));
        let defect = |what: &str| Fault::new(Reason::Internal, what);
        let token = key.sign(TYP, &claims).map_err(|error| defect(&error.to_string()))?;
        if token.len() > ASSERTION_LIMIT {
            let detail = format!("the assertion would hold {} bytes, the limit is {ASSERTION_LIMIT}", token.len());
            return Err(Fault::new(Reason::IdentityTooLarge, detail));
        }
        let mut value = HeaderValue::try_from(token).map_err(|_| defect("an assertion is not printable"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The public keys as a JWK Set (RFC 7517 §5): those that sign, have signed what is still good, or will sign soon.
    ///
    /// # Errors
    /// An outage while there are none.
    pub async fn key_set(&self) -> Result<Value, Outage> {
        let keys = self.keys.published().await?;
        Ok(json!({ "keys": keys.iter().map(|key| key.public_jwk()).collect::<Vec<_>>() }))
    }
}

#[cfg(test)]
mod tests;
