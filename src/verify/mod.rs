//! Who vouches for a bearer token: one verifier for each configured issuer, chosen by the `iss` that the token claims to be of.
//!
//! `jwt` checks tokens by the issuer's keys, `memory` spares it what it has checked before; `introspection` asks an issuer about its opaque
//! tokens, and `flights` has those who ask the same at once share one call; `dpop` checks the proof beside a token that is bound to a key. An
//! issuer that the config does not name is never asked for anything.

pub mod dpop;
mod flights;
mod introspection;
mod jwt;
mod memory;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::clock::SharedClock;
use crate::credential::API_KEY_PREFIX;
use crate::fault::{Fault, Trouble};
use crate::header::PreparedHeaders;
use crate::identity::{ClaimMapping, Identity, Source};
use crate::reason::Reason;
use crate::secret::Secret;
use crate::token::{AccessToken, Audience, Confirmation, Terms, peek_issuer};

pub use introspection::{IntrospectionVerifier, OpaqueTokens};
pub use jwt::JwtVerifier;
pub use memory::TokenMemory;

/// A token that its issuer vouches for, and the terms on which it counts. Clones are cheap.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    /// Whose it is, with the token's scopes.
    pub identity: Arc<Identity>,
    /// When and for whom it counts: to be judged each time the token is shown.
    pub terms: Arc<Terms>,
    /// What has to be proven each time the token is shown; `None`: nothing.
    pub confirmation: Option<Confirmation>,
    /// Headers that say who it is, made ready at their first use.
    pub prepared: Arc<PreparedHeaders>,
}

/// What [`TokenVerifier::verify`] returns.
pub type VerifyFuture<'a> = Pin<Box<dyn Future<Output = Result<VerifiedToken, Trouble>> + Send + 'a>>;

/// One issuer's verifier.
pub trait TokenVerifier: Send + Sync {
    /// The issuer, exactly as configured.
    fn issuer(&self) -> &str;

    /// For whom its tokens must be meant where a route says nothing.
    fn audience(&self) -> &Audience;

    /// Checks everything about `token` that stays true: signature and claims, but neither times nor audience. An outage when the issuer
    /// had to be asked and did not answer.
    fn verify<'a>(&'a self, token: &'a Secret) -> VerifyFuture<'a>;
}

/// The configured issuers' verifiers.
pub struct Verifiers {
    by_issuer: HashMap<String, Arc<dyn TokenVerifier>>,
    opaque: Option<Arc<dyn TokenVerifier>>,
    memory: Arc<TokenMemory>,
    clock: SharedClock,
}

impl Verifiers {
    /// One verifier an issuer for its JWTs; of two for the same issuer the last counts. `opaque` is asked about tokens that name no issuer.
    /// `memory` is the one that those for JWTs tell what they verified.
    #[must_use]
    pub fn new(
        verifiers: impl IntoIterator<Item = Arc<dyn TokenVerifier>>,
        opaque: Option<Arc<dyn TokenVerifier>>,
        memory: Arc<TokenMemory>,
        clock: SharedClock,
    ) -> Self {
        let by_issuer = verifiers.into_iter().map(|verifier| (verifier.issuer().to_owned(), verifier)).collect();
        Self { by_issuer, opaque, memory, clock }
    }

    /// Checks `token` by its issuer's verifier, then whether it counts now for `audience`, which is the route's; `None` is the issuer's.
    pub async fn verify(&self, token: &Secret, audience: Option<&Audience>) -> Result<VerifiedToken, Trouble> {
        let now = self.clock.now();
        if let Some(tag) = self.memory.tag_of(token)
            && let Some(known) = self.memory.find(&tag, now)
        {
            let judged = known.verified.terms.judge(audience.unwrap_or(&known.audience), now);
            if judged.as_ref().is_err_and(|fault| fault.reason == Reason::TokenExpired) {
                self.memory.forget(&tag);
            }
            return judged.map(|()| known.verified.clone()).map_err(Into::into);
        }
        let verifier = self.verifier_of(token)?;
        let verified = verifier.verify(token).await?;
        // The time is read after the wait: keys may have taken seconds to come.
        verified.terms.judge(audience.unwrap_or_else(|| verifier.audience()), self.clock.now())?;
        Ok(verified)
    }

    /// A JWT that names its issuer is that issuer's to check, and nobody else's. Everything else is for whoever is configured for opaque
    /// tokens.
    fn verifier_of(&self, token: &Secret) -> Result<&Arc<dyn TokenVerifier>, Fault> {
        // A program that shows its key in the wrong place tells it to nobody but us.
        if token.expose().starts_with(API_KEY_PREFIX) {
            return Err(Fault::new(Reason::TokenMalformed, "an API key, shown as a token"));
        }
        match (peek_issuer(token.expose()), &self.opaque) {
            (Some(issuer), _) => self.by_issuer.get(&issuer).ok_or_else(|| {
                let named: String = issuer.chars().take(80).collect();
                Fault::new(Reason::TokenIssuerUnknown, format!("iss {named:?} is no configured issuer"))
            }),
            (None, Some(opaque)) => Ok(opaque),
            (None, None) => Err(Fault::new(Reason::TokenMalformed, "not a JWT with a text iss")),
        }
    }
}

/// Who it is that a token of `issuer` speaks of.
///
/// # Errors
/// [`Reason::TokenClaims`] where it names nobody.
pub fn identity(issuer: &str, mapping: &ClaimMapping, token: AccessToken) -> Result<VerifiedToken, Fault> {
    let mut identity = Identity::from_claims(issuer, Source::TokenIssuer(issuer.into()), mapping, token.claims)
        .ok_or_else(|| Fault::new(Reason::TokenClaims, format!("{} names nobody", mapping.user)))?;
    identity.scopes = token.scopes.into();
    let AccessToken { terms, confirmation, .. } = token;
    Ok(VerifiedToken { identity: Arc::new(identity), terms: Arc::new(terms), confirmation, prepared: Arc::default() })
}

#[cfg(test)]
mod tests;
