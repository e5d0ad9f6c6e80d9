//! What an issuer answers about one of its tokens (RFC 7662 §2.2), read as strictly as a JWT of it would be.

use std::time::Duration;

use serde_json::Value;

use super::access_token::{AccessToken, Terms};
use super::claims::{self, ClaimsError, brief, says};
use super::confirmation::Confirmation;
use super::scopes;
use crate::clock::UnixTime;
use crate::fault::Fault;
use crate::identity::{ClaimPath, Claims};
use crate::reason::Reason;

/// By what an answer is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntrospectionRules {
    /// The issuer, exactly as configured.
    pub issuer: String,
    /// Where its answers hold a token's scopes; `None`: `scope`, else `scp`.
    pub scope_claim: Option<ClaimPath>,
    /// Whom a token is of, where the answer has no `sub`; `None`: of its `client_id`, unless it is a person's.
    pub user_claim: Option<ClaimPath>,
    /// How far the issuer's clock may be from ours.
    pub leeway: Duration,
}

/// The answer cannot be read, and says nothing of the token: the issuer's fault, not that of whoever shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerMalformed(pub String);

impl From<ClaimsError> for AnswerMalformed {
    fn from(error: ClaimsError) -> Self {
        Self(error.0)
    }
}

impl IntrospectionRules {
    /// Reads an answer: the token, or why it does not count whatever the time.
    ///
    /// # Errors
    /// When it is no such answer.
    pub fn read(&self, answer: &[u8]) -> Result<Result<AccessToken, Fault>, AnswerMalformed> {
        let mut claims = claims::parse(answer)?;
        match claims.get("active") {
            // RFC 7662 §2.2: a boolean, and required. "true" or 1 are neither yes nor no.
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Ok(Err(Fault::new(Reason::TokenInactive, "the issuer says that it is not active"))),
            Some(_) => return Err(AnswerMalformed("active is not a boolean".into())),
            None => return Err(claims::missing("active").into()),
        }
        if let Some(other) = claims.get("iss").filter(|iss| iss.as_str() != Some(&self.issuer)) {
            let named = other.as_str().map_or_else(|| "no text".to_owned(), |named| format!("{:?}", brief(named)));
            return Ok(Err(Fault::new(Reason::TokenIssuerUnknown, format!("the answer's iss is {named}, not {:?}", self.issuer))));
        }
        if let Some(kind) = other_kind(&claims) {
            return Ok(Err(Fault::new(Reason::TokenType, format!("it is a {kind:?}, not an access token"))));
        }
        // §2.2 requires none of them: without `exp` it counts for as long as the issuer says so, without `aud` only where any will do.
        let expires_at = claims::optional_time(&claims, "exp")?.unwrap_or(UnixTime(u64::MAX));
        let valid_from = claims::optional_time(&claims, "nbf")?.max(claims::optional_time(&claims, "iat")?);
        let terms = Terms { expires_at, valid_from, audience: claims::audience(&claims)?, leeway: self.leeway };
        let confirmation = match Confirmation::of(&claims) {
            // RFC 9449 §6.2: an active token of type DPoP is bound, whether or not the answer says to what.
            Ok(None) if says(&claims, "token_type", &["dpop"]) => {
                Err(Fault::new(Reason::TokenBound, "token_type is DPoP, and cnf is missing"))
            }
            read => read,
        };
        let confirmation = match confirmation {
            Ok(confirmation) => confirmation,
            Err(fault) => return Ok(Err(fault)),
        };
        if let Err(fault) = self.name(&mut claims)? {
            return Ok(Err(fault));
        }
        let scopes = scopes::of(&claims, self.scope_claim.as_ref());
        Ok(Ok(AccessToken { claims, scopes, terms, confirmation, key: None }))
    }

    /// Sees to it that `sub` says whose token it is. §2.2 does not require it. Where the config names another claim, that is it. Otherwise a
    /// token that is nobody's is its program's (RFC 9068 §2.2 says so of `sub` itself); one with a `username` is a person's, and that name
    /// may pass to somebody else, so that it counts only where the config names it.
    fn name(&self, claims: &mut Claims) -> Result<Result<(), Fault>, AnswerMalformed> {
        if claims.contains_key("sub") {
            claims::subject(claims)?;
            return Ok(Ok(()));
        }
        let named = match &self.user_claim {
            Some(path) => path.find(claims).and_then(Value::as_str),
            None if claims.contains_key("username") => {
                let detail = "the answer has a username and no sub; write user_claim = \"username\" if that name stays one person's";
                return Ok(Err(Fault::new(Reason::TokenClaims, detail)));
            }
            None => claims.get("client_id").and_then(Value::as_str),
        };
        let Some(named) = named.filter(|named| !named.is_empty() && named.len() <= 255).map(str::to_owned) else {
            return Ok(Err(Fault::new(Reason::TokenClaims, "the answer names nobody")));
        };
        claims.insert("sub".to_owned(), Value::String(named));
        Ok(Ok(()))
    }
}

/// Issuers also answer about refresh tokens and ID tokens. `token_type` (§2.2) is `Bearer` or `DPoP` for an access token, and `access_token` for
/// some; `token_use` and `typ` are what others say it by.
fn other_kind(claims: &Claims) -> Option<String> {
    if claims.contains_key("token_type") && !says(claims, "token_type", &["bearer", "dpop", "access_token"]) {
        return Some(claims.get("token_type").and_then(Value::as_str).map(brief).unwrap_or_default());
    }
    claims::kind_among(claims, &[claims::ID_TOKEN, claims::REFRESH_TOKEN])
}

#[cfg(test)]
mod tests;
