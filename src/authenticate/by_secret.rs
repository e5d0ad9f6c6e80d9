//! Credentials that we judge ourselves, by hashes of our own: passwords of local accounts, API keys.

use std::sync::Arc;

use super::{Authenticator, Beside, Outcome, nobody_knows};
use crate::credential::{Authenticated, Authentication, CredentialKind, PresentedPassword};
use crate::fault::Trouble;
use crate::identity::Identity;
use crate::provider::local::Denied;
use crate::secret::Secret;

impl Authenticator {
    pub(super) async fn by_password(&self, shown: &PresentedPassword, beside: &Beside<'_>) -> Result<Outcome, Trouble> {
        let Some(passwords) = &self.passwords else { return Ok(nobody_knows()) };
        outcome(passwords.check(&shown.name, &shown.password, beside.facts.address).await, CredentialKind::Basic)
    }

    pub(super) async fn by_api_key(&self, shown: &Secret, beside: &Beside<'_>) -> Result<Outcome, Trouble> {
        let Some(api_keys) = &self.api_keys else { return Ok(nobody_knows()) };
        outcome(api_keys.check(shown, beside.facts.address).await, CredentialKind::ApiKey)
    }
}

/// Wrong is an answer; that nothing was looked at is none.
fn outcome(judged: Result<Arc<Identity>, Denied>, by: CredentialKind) -> Result<Outcome, Trouble> {
    let authentication = match judged {
        Ok(identity) => Authentication::Authenticated(Authenticated { identity, by }),
        Err(Denied::Wrong(fault)) => Authentication::Rejected(fault),
        Err(Denied::Slowed(fault, wait)) => return Err(fault.lasting(wait).into()),
        Err(Denied::Refused(fault)) => return Err(fault.into()),
        Err(Denied::Unreachable(outage)) => return Err(outage.into()),
    };
    Ok(Outcome::without_session(authentication))
}
