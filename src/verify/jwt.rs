//! Access tokens that are JWTs, by the issuer's published keys.

use std::sync::Arc;

use super::{TokenVerifier, VerifiedToken, VerifyFuture};
use crate::fault::{Fault, Trouble};
use crate::identity::{ClaimMapping, Identity, Source};
use crate::provider::keys::{Budget, JwksCache};
use crate::reason::Reason;
use crate::secret::Secret;
use crate::token::{AccessToken, AccessTokenError, AccessTokenRules, Audience};

/// Verifies one issuer's JWTs.
pub struct JwtVerifier {
    rules: AccessTokenRules,
    mapping: ClaimMapping,
    keys: Arc<JwksCache>,
}

impl JwtVerifier {
    /// `mapping` says which of its claims count; `keys` are this issuer's.
    #[must_use]
    pub const fn new(rules: AccessTokenRules, mapping: ClaimMapping, keys: Arc<JwksCache>) -> Self {
        Self { rules, mapping, keys }
    }

    async fn check(&self, token: &str) -> Result<AccessToken, Trouble> {
        // What is wrong in form fetches nothing.
        let presented = self.rules.read(token)?;
        let keys = self.keys.keys().await?;
        let unknown = match presented.verify(&keys) {
            Ok(token) => return Ok(token),
            Err(AccessTokenError::Refused(fault)) => return Err(fault.into()),
            Err(AccessTokenError::KeyUnknown(fault)) => fault,
        };
        let Some(newer) = self.keys.keys_after_unknown(Budget::Stranger, &keys).await? else { return Err(unknown.into()) };
        presented.verify(&newer).map_err(|error| match error {
            AccessTokenError::Refused(fault) | AccessTokenError::KeyUnknown(fault) => fault.into(),
        })
    }

    fn identity(&self, token: AccessToken) -> Result<VerifiedToken, Fault> {
        let issuer = &self.rules.issuer;
        let mut identity = Identity::from_claims(issuer, Source::TokenIssuer(issuer.clone()), &self.mapping, token.claims)
            .ok_or_else(|| Fault::new(Reason::TokenClaims, format!("{} names nobody", self.mapping.user)))?;
        identity.scopes = token.scopes;
        Ok(VerifiedToken { identity: Arc::new(identity), terms: token.terms, confirmation: token.confirmation })
    }
}

impl TokenVerifier for JwtVerifier {
    fn issuer(&self) -> &str {
        &self.rules.issuer
    }

    fn audience(&self) -> &Audience {
        &self.rules.audience
    }

    fn verify<'a>(&'a self, token: &'a Secret) -> VerifyFuture<'a> {
        Box::pin(async move { Ok(self.identity(self.check(token.expose()).await?)?) })
    }
}
