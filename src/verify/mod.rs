//! Who vouches for a bearer token: one verifier for each configured issuer, chosen by the `iss` that the token claims to be of.
//!
//! `jwt` checks tokens by the issuer's keys, `dpop` the proof beside a token that is bound to a key. An issuer that the config does not name is never asked for anything.

pub mod dpop;
mod jwt;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::clock::SharedClock;
use crate::fault::{Fault, Trouble};
use crate::identity::Identity;
use crate::reason::Reason;
use crate::secret::Secret;
use crate::token::{Audience, Confirmation, Terms, peek_issuer};

pub use jwt::JwtVerifier;

/// A token that its issuer vouches for, and the terms on which it counts.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    /// Whose it is, with the token's scopes.
    pub identity: Arc<Identity>,
    /// When and for whom it counts: to be judged each time the token is shown.
    pub terms: Terms,
    /// What has to be proven each time the token is shown; `None`: nothing.
    pub confirmation: Option<Confirmation>,
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
    clock: SharedClock,
}

impl Verifiers {
    /// One verifier an issuer; of two for the same issuer the last counts.
    #[must_use]
    pub fn new(verifiers: impl IntoIterator<Item = Arc<dyn TokenVerifier>>, clock: SharedClock) -> Self {
        let by_issuer = verifiers.into_iter().map(|verifier| (verifier.issuer().to_owned(), verifier)).collect();
        Self { by_issuer, clock }
    }

    /// Checks `token` by its issuer's verifier, then whether it counts now for `audience`, which is the route's; `None` is the issuer's.
    pub async fn verify(&self, token: &Secret, audience: Option<&Audience>) -> Result<VerifiedToken, Trouble> {
        let issuer = peek_issuer(token.expose()).ok_or_else(|| Fault::new(Reason::TokenMalformed, "not a JWT with a text iss"))?;
        let verifier = self.by_issuer.get(&issuer).ok_or_else(|| {
            let named: String = issuer.chars().take(80).collect();
            Fault::new(Reason::TokenIssuerUnknown, format!("iss {named:?} is no configured issuer"))
        })?;
        let verified = verifier.verify(token).await?;
        // The time is read after the wait: keys may have taken seconds to come.
        verified.terms.judge(audience.unwrap_or_else(|| verifier.audience()), self.clock.now())?;
        Ok(verified)
    }
}

#[cfg(test)]
mod tests;
