//! Keeping a session's tokens fresh (RFC 6749 §6, OpenID Connect Core §12), and asking whether its person is still welcome.

use std::sync::Arc;

use serde_json::Value;

use super::Refreshed;
use super::discovery::Document;
use super::dpop::DpopKey;
use super::exchange::{self, Untold};
use super::oidc::OpenIdProvider;
use crate::fault::{Fault, Outage, Trouble};
use crate::identity::{Claims, Identity};
use crate::reason::Reason;
use crate::secret::{Secret, decode};
use crate::session::{Session, Tokens};
use crate::token::Nonce;

/// What the first ID token says of the authentication, and no later one changes: a refresh is none (§12.2 has `auth_time` stay that of the original).
/// A provider that puts the time of the refresh there would else make every login a fresh one.
const OF_THE_FIRST: [&str; 3] = ["auth_time", "acr", "amr"];

impl OpenIdProvider {
    /// New tokens for old. Once the refresh token is spent whatever came for it is kept, even when the rest cannot be had: another attempt would
    /// show a used token.
    pub(super) async fn refreshed(&self, session: &Session) -> Result<Refreshed, Trouble> {
        let document = self.document().await?;
        let old = session.tokens.as_ref();
        let refresh_token = old.and_then(|tokens| tokens.refresh_token.as_ref());
        let refresh_token = refresh_token.ok_or_else(|| Fault::new(Reason::RefreshRefused, "the session has no refresh token"))?;
        let key = self.key_of(old)?;
        let answer = self.spend_refresh_token(&document, refresh_token, key.as_ref()).await?;

        let claims = match &answer.id_token {
            Some(id_token) => match self.verify_id_token(id_token, &answer.access_token, Nonce::Original(nonce_of(session))).await {
                Ok(claims) => Some(self.same_person(claims, session)?),
                Err(Trouble::Refused(fault)) => return Err(refused(&fault)),
                // Its keys cannot be had now. What it says is not believed; the tokens came from the provider itself.
                Err(Trouble::Unreachable(outage)) => {
                    tracing::warn!(%outage, "a refreshed ID token could not be checked; what the first one said stays");
                    None
                }
            },
            None => None,
        };
        let mut tokens = answer.kept(claims.as_ref(), self.clock.now());
        if tokens.refresh_token.is_none() {
            // RFC 6749 §6: without a new one the old one goes on, to its own end.
            let (old_token, ends_at) = (Some(refresh_token.clone()), old.and_then(|tokens| tokens.refresh_ends_at));
            tokens.refresh_token = old_token;
            tokens.refresh_ends_at = tokens.refresh_ends_at.or(ends_at);
            tokens.refresh_at = answer.due_again(claims.as_ref(), self.clock.now());
        }
        let before = |why: &dyn std::fmt::Display| {
            tracing::warn!(%why, "userinfo told nothing after a refresh; what was said before stays where the ID token says nothing new");
            Claims::clone(&session.identity.claims)
        };
        let told = match self.told(&document, &answer.access_token, key.as_ref(), whose(session)).await {
            Ok(told) => told,
            Err(Untold::Fault(fault)) if matches!(fault.reason, Reason::UserinfoSubject | Reason::AccessTokenClaims) => {
                return Err(refused(&fault));
            }
            Err(Untold::Fault(fault)) => before(&fault),
            Err(Untold::Unwelcome(detail)) => before(&detail),
            Err(Untold::Unreachable(outage)) => before(&outage),
        };
        let identity = self.identity_of(claims.clone().or_else(|| first_claims(session)), told, session);
        let identity = identity.map_err(|fault| refused(&fault))?;
        let scopes = answer.scopes.clone();
        let identity =
            identity.map(|identity| Identity { scopes: scopes.map_or_else(|| session.identity.scopes.clone(), Into::into), ..identity });
        Ok(Refreshed { tokens, id_token: answer.id_token.filter(|_| claims.is_some()), identity })
    }

    /// Userinfo once more.
    pub(super) async fn revalidated(&self, session: &Session) -> Result<Option<Identity>, Trouble> {
        let document = self.document().await?;
        let Some(tokens) = &session.tokens else { return Ok(None) };
        // Its own key, whatever the config says by now: the token is bound to it.
        let key = tokens.dpop_key.as_ref().map(DpopKey::open).transpose()?;
        let refused = |detail: String| Fault::new(Reason::RevalidationRefused, detail).into();
        match self.told_again(&document, &tokens.access_token, key.as_ref(), whose(session)).await {
            Ok(None) => Ok(None),
            Ok(Some(told)) => {
                let identity = self.identity_of(first_claims(session), told, session).map_err(|fault| refused(fault.detail))?;
                Ok(identity.map(|identity| Identity { scopes: session.identity.scopes.clone(), ..identity }))
            }
            Err(Untold::Unwelcome(detail)) => Err(refused(detail)),
            Err(Untold::Fault(fault)) if fault.reason == Reason::UserinfoSubject => Err(refused(fault.detail)),
            Err(Untold::Fault(fault)) => Err(Outage::provider(fault.detail).into()),
            Err(Untold::Unreachable(outage)) => Err(outage.into()),
        }
    }

    /// What new tokens are to be bound to: what the old ones were, since a public registration's refresh token is bound as well (RFC 9449 §5).
    fn key_of(&self, old: Option<&Tokens>) -> Result<Option<DpopKey>, Fault> {
        match old.and_then(|tokens| tokens.dpop_key.as_ref()) {
            Some(kept) => DpopKey::open(kept).map(Some),
            None => self.new_key(),
        }
    }

    /// A document that is wrong says nothing of any person: a page of some network's own, or a provider set up anew, may pass.
    async fn document(&self) -> Result<Arc<Document>, Outage> {
        self.discovery.document().await.map_err(|trouble| match trouble {
            Trouble::Refused(fault) => Outage::provider(fault),
            Trouble::Unreachable(outage) => outage,
        })
    }

    /// §12.2: the refreshed ID token speaks of the same `sub` and is of the same `iss` (which was verified to be one of the provider's; of several
    /// tenants' it has to be the same one's). Its `aud` was compared when it was verified.
    fn same_person(&self, mut claims: Claims, session: &Session) -> Result<Claims, Trouble> {
        let says = |name: &str| claims.get(name).and_then(Value::as_str);
        if (says("iss"), says("sub")) != (Some(&session.identity.issuer), Some(&session.identity.sub)) {
            return Err(Fault::new(Reason::RefreshRefused, "the refreshed ID token has another iss or sub").into());
        }
        as_at_first(&mut claims, session);
        // One without it must not hide the first one's from those that come later.
        if let (false, Some(nonce)) = (claims.contains_key("nonce"), session.identity.claims.get("nonce")) {
            claims.insert("nonce".to_owned(), nonce.clone());
        }
        Ok(claims)
    }

    /// `None`: nothing new. Whose address is not verified any more does not go on as whoever they were.
    fn identity_of(&self, id_token: Option<Claims>, told: Claims, session: &Session) -> Result<Option<Identity>, Fault> {
        let Some(id_token) = id_token else { return Ok(None) };
        let (claims, source) = (exchange::join(id_token, told), session.identity.source.clone());
        self.check_name(&source, &claims)?;
        Ok(Identity::from_claims(&session.identity.issuer, source, &self.settings.mapping, claims))
    }
}

fn whose(session: &Session) -> (&str, &str) {
    (&session.identity.issuer, &session.identity.sub)
}

fn refused(fault: &Fault) -> Trouble {
    Fault::new(Reason::RefreshRefused, fault.to_string()).into()
}

fn nonce_of(session: &Session) -> Option<&str> {
    session.identity.claims.get("nonce").and_then(Value::as_str)
}

/// What the ID token says that the session keeps. It was verified when it came.
fn first_claims(session: &Session) -> Option<Claims> {
    let payload = Secret::new(session.id_token.split('.').nth(1)?);
    let mut claims: Claims = serde_json::from_slice(&decode(payload.expose())?).ok()?;
    if let (false, Some(nonce)) = (claims.contains_key("nonce"), session.identity.claims.get("nonce")) {
        claims.insert("nonce".to_owned(), nonce.clone());
    }
    as_at_first(&mut claims, session);
    Some(claims)
}

/// The session's identity has them from the first ID token on.
fn as_at_first(claims: &mut Claims, session: &Session) {
    for name in OF_THE_FIRST {
        match session.identity.claims.get(name) {
            Some(first) => drop(claims.insert(name.to_owned(), first.clone())),
            None => drop(claims.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refresh_is_no_login() {
        let session = |claims: Value, id_token: Value| -> Session {
            let identity = json!({"issuer": "i", "sub": "s", "source": {"provider": "p"}, "user": "s", "email": "absent",
                "preferred_username": null, "groups": {"listed": []}, "scopes": [], "claims": claims, "auth_time": 5});
            let id_token = format!("h.{}.s", crate::secret::encode(id_token.to_string().as_bytes()));
            let session = json!({"identity": identity, "client_id": "c", "id_token": id_token, "created_at": 5, "ends_at": 9});
            serde_json::from_value(session).unwrap()
        };
        let object = |value: Value| value.as_object().unwrap().clone();
        let later = json!({"sub": "s", "acr": "mfa", "auth_time": 999, "amr": ["otp"], "name": "new"});
        for (first, expected) in [
            (json!({"acr": "pwd", "auth_time": 5}), json!({"sub": "s", "acr": "pwd", "auth_time": 5, "name": "new"})),
            (json!({}), json!({"sub": "s", "name": "new"})),
        ] {
            let session = session(first, later.clone());
            let mut claims = object(later.clone());
            as_at_first(&mut claims, &session);
            assert_eq!(Value::Object(claims), expected);
            // The same of the refreshed ID token that the session keeps as its hint.
            assert_eq!(first_claims(&session).map(Value::Object), Some(expected));
        }
    }
}
