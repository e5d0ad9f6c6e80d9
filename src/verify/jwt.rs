//! Access tokens that are JWTs, by the issuer's published keys.

use std::sync::Arc;

use super::memory::TokenMemory;
use super::{TokenVerifier, VerifyFuture, identity};
use crate::fault::Trouble;
use crate::identity::ClaimMapping;
use crate::provider::keys::{Budget, JwksCache};
use crate::secret::Secret;
use crate::token::{AccessToken, AccessTokenRules, Audience};

/// Verifies one issuer's JWTs.
pub struct JwtVerifier {
    rules: AccessTokenRules,
    audience: Arc<Audience>,
    mapping: ClaimMapping,
    keys: Arc<JwksCache>,
    memory: Arc<TokenMemory>,
}

impl JwtVerifier {
    /// `mapping` says which of its claims count; `keys` are this issuer's; what it verified is told to `memory`.
    #[must_use]
    pub fn new(rules: AccessTokenRules, mapping: ClaimMapping, keys: Arc<JwksCache>, memory: Arc<TokenMemory>) -> Self {
        Self { audience: Arc::new(rules.audience.clone()), rules, mapping, keys, memory }
    }

    async fn check(&self, token: &str) -> Result<AccessToken, Trouble> {
        // What is wrong in form fetches nothing.
        let presented = self.rules.read(token)?;
        let keys = self.keys.keys().await?;
        let unknown = match presented.find_key(&keys) {
            Ok(found) => return Ok(presented.verify(&found)?),
            Err(unknown) => unknown,
        };
        let Some(newer) = self.keys.keys_after_unknown(Budget::Stranger, &keys).await? else { return Err(unknown.into()) };
        let found = presented.find_key(&newer)?;
        Ok(presented.verify(&found)?)
    }
}

impl TokenVerifier for JwtVerifier {
    fn issuer(&self) -> &str {
        &self.rules.issuer
    }

    fn audience(&self) -> &Audience {
        &self.audience
    }

    fn verify<'a>(&'a self, token: &'a Secret) -> VerifyFuture<'a> {
        Box::pin(async move {
            let checked = self.check(token.expose()).await?;
            let key = checked.key.clone();
            let verified = identity(&self.rules.issuer, &self.mapping, checked)?;
            if let Some(key) = key {
                self.memory.remember(token, &verified, &self.audience, key, &self.keys);
            }
            Ok(verified)
        })
    }
}
