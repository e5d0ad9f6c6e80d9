//! What is said of a person beside the ID token: by userinfo, and by the access token where its claims are to count.

use serde_json::Value;

use super::discovery::Document;
use super::dpop::DpopKey;
use super::exchange::{Untold, join};
use super::keys::Budget;
use super::oidc::OpenIdProvider;
use crate::fault::{Fault, Trouble};
use crate::identity::Claims;
use crate::reason::Reason;
use crate::secret::{Secret, same};
use crate::token::{AccessToken, AccessTokenRules, Audience, Found, TokenType, peek_issuer};

/// Where claims come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimSource {
    /// The ID token, which is always one.
    IdToken,
    /// Userinfo (OpenID Connect Core §5.3).
    Userinfo,
    /// The access token, where it is a JWT of the provider's own.
    AccessToken,
}

/// What an access token says of itself and not of a person (RFC 7519 §4.1, RFC 9068 §2.2, RFC 7800 §3.1).
const OF_THE_TOKEN: [&str; 17] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "azp",
    "client_id",
    "scope",
    "scp",
    "typ",
    "sid",
    "nonce",
    "at_hash",
    "cnf",
    "token_use",
];

impl OpenIdProvider {
    fn takes(&self, source: ClaimSource) -> bool {
        self.settings.claims_from.contains(&source)
    }

    /// What is said of whom an ID token names by `iss` and `sub`, in answer to this access token. Userinfo comes before the access token.
    pub(super) async fn told(
        &self,
        document: &Document,
        access_token: &Secret,
        key: Option<&DpopKey>,
        (iss, sub): (&str, &str),
    ) -> Result<Claims, Untold> {
        let by_token =
            if self.takes(ClaimSource::AccessToken) { self.claims_of_access_token(access_token, iss, sub).await? } else { Claims::new() };
        if !self.takes(ClaimSource::Userinfo) {
            return Ok(by_token);
        }
        let told = self.ask_userinfo(document, access_token, key, sub).await?;
        Ok(join(told.unwrap_or_default(), by_token))
    }

    /// Asks userinfo whether the person is still welcome, though its claims may not count. `None`: there is no userinfo.
    pub(super) async fn told_again(
        &self,
        document: &Document,
        access_token: &Secret,
        key: Option<&DpopKey>,
        (iss, sub): (&str, &str),
    ) -> Result<Option<Claims>, Untold> {
        let Some(told) = self.ask_userinfo(document, access_token, key, sub).await? else { return Ok(None) };
        let told = if self.takes(ClaimSource::Userinfo) { told } else { Claims::new() };
        if !self.takes(ClaimSource::AccessToken) {
            return Ok(Some(told));
        }
        Ok(Some(join(told, self.claims_of_access_token(access_token, iss, sub).await?)))
    }

    /// Its claims, if it is a JWT that this provider signed and speaks of the same person. Fails closed: groups that cannot be read are not
    /// none.
    async fn claims_of_access_token(&self, token: &Secret, iss: &str, sub: &str) -> Result<Claims, Untold> {
        let unfit =
            |detail: String| Untold::Fault(Fault::new(Reason::AccessTokenClaims, format!("claims_from names access_token: {detail}")));
        let verified = match self.signed_access_token(token, TokenType::FromTokenEndpoint).await {
            Ok(verified) => verified,
            Err(Trouble::Refused(fault)) => return Err(unfit(fault.to_string())),
            Err(Trouble::Unreachable(outage)) => return Err(Untold::Unreachable(outage)),
        };
        let mut claims = verified.claims;
        let says = |name: &str, expected: &str| {
            claims.get(name).and_then(Value::as_str).is_some_and(|found| same(found.as_bytes(), expected.as_bytes()))
        };
        if !says("iss", iss) || !says("sub", sub) {
            return Err(unfit("its iss or sub is not the ID token's".to_owned()));
        }
        for name in OF_THE_TOKEN {
            claims.remove(name);
        }
        Ok(claims)
    }

    /// An access token that came from the token endpoint itself, in answer to our own registration, so that its audience is not what it is
    /// judged by: that is whoever the token is for.
    pub(super) async fn signed_access_token(&self, token: &Secret, typ: TokenType) -> Result<AccessToken, Trouble> {
        let issuer = &self.settings.issuer;
        // Of several tenants' the one that the token says it is of; what it says is compared with it again below.
        let of = peek_issuer(token.expose()).filter(|iss| issuer.is(iss)).unwrap_or_else(|| issuer.address().to_owned());
        let rules = AccessTokenRules {
            issuer: of,
            audience: Audience::Any,
            algorithms: self.settings.algorithms.clone(),
            typ,
            client_id: None,
            scope_claim: None,
            leeway: self.settings.leeway,
        };
        let presented = rules.read(token.expose())?;
        let keys = self.keys.keys().await?;
        let of_its_own = |found: &Found<'_>| {
            let foreign = || Fault::new(Reason::TokenSignature, "it is signed by a key that is for another issuer's tokens");
            if issuer.signs_with(found, &rules.issuer) { Ok(()) } else { Err(foreign()) }
        };
        let verified = match presented.find_key(&keys) {
            Ok(found) => {
                of_its_own(&found)?;
                presented.verify(&found)?
            }
            Err(unknown) => {
                let newer = self.keys.keys_after_unknown(Budget::IdToken, &keys).await?.ok_or(unknown)?;
                let found = presented.find_key(&newer)?;
                of_its_own(&found)?;
                presented.verify(&found)?
            }
        };
        verified.terms.judge(&Audience::Any, self.clock.now())?;
        Ok(verified)
    }
}
