//! Access tokens in the form of JWTs, by RFC 9068 §4, and those of issuers that do not follow it; ID tokens where they are taken in place of one.
//!
//! In three stages, so that nothing is done twice or too early: [`AccessTokenRules::read`] looks at the form (no key is needed, none is
//! fetched for nonsense), [`Presented::verify`] at signature and claims (costly, once a token), [`Terms::judge`] at times and audience
//! (cheap, each time the token is shown).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::algorithm::Algorithm;
use super::claims::{self, ClaimsError, brief};
use super::confirmation::Confirmation;
use super::jwk::{Found, KeyMark, KeySet};
use super::jws::{self, Jws, JwsError};
use super::scopes;
use crate::clock::UnixTime;
use crate::fault::Fault;
use crate::identity::{ClaimPath, Claims};
use crate::reason::Reason;

/// What one issuer's access tokens must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTokenRules {
    /// The issuer, exactly as configured.
    pub issuer: String,
    /// For whom its tokens must be meant where a route says nothing.
    pub audience: Audience,
    /// The signatures that are taken.
    pub algorithms: Vec<Algorithm>,
    /// The kind of token that is taken.
    pub typ: TokenType,
    /// The gateway's own `client_id` at this issuer, where people also log in through it: what is meant for that is an ID token.
    pub client_id: Option<String>,
    /// Where its tokens hold their scopes; `None`: `scope`, else `scp`.
    pub scope_claim: Option<ClaimPath>,
    /// How far the issuer's clock may be from ours.
    pub leeway: Duration,
}

/// For whom a token must be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// `aud` must name one of these.
    AnyOf(Arc<[String]>),
    /// `aud` is not looked at: for issuers whose tokens carry none.
    Any,
}

/// The kinds of token, by `typ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// `at+jwt`, with all that RFC 9068 §2.2 requires.
    AtJwt,
    /// Whatever the issuer sends: what looks like an ID token or names another kind of JWT is refused all the same.
    Any,
    /// What came in a token response, in answer to our own registration: as [`TokenType::Any`], and it may hold `nonce` and `at_hash`, as access
    /// tokens of Keycloak did. Nobody else can show one so.
    FromTokenEndpoint,
    /// ID tokens (OpenID Connect Core §2), for old programs that show one in place of an access token. `nonce` and `at_hash` belong to whoever
    /// fetched it and are not looked at.
    IdToken,
}

/// A token whose form is right and that names its issuer. Nothing of it is verified.
pub struct Presented<'a> {
    rules: &'a AccessTokenRules,
    jws: Jws<'a>,
    algorithm: Algorithm,
    claims: Claims,
}

/// A token whose signature and claims are right. Whether it counts now and here, [`Terms::judge`] says.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessToken {
    /// Everything it says.
    pub claims: Claims,
    /// Its scopes.
    pub scopes: BTreeSet<String>,
    /// When and for whom it counts.
    pub terms: Terms,
    /// To what key it is bound; `None`: to none.
    pub confirmation: Option<Confirmation>,
    /// The key that signed it; `None` where the issuer itself was asked.
    pub key: Option<KeyMark>,
}

/// When and for whom a token counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// `exp`.
    pub expires_at: UnixTime,
    /// The later of `nbf` and `iat`, where there is one: before it the token does not count.
    pub valid_from: Option<UnixTime>,
    /// `aud`, as a list.
    pub audience: Vec<String>,
    /// How far the issuer's clock may be from ours.
    pub leeway: Duration,
}

/// The `iss` that a token claims to be of, unverified: good for choosing who checks it and for nothing else. `None` for what is no JWT
/// with a text `iss`.
#[must_use]
pub fn peek_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    jws::object::<Issuer>(&jws::payload(token)?).map(|claims| claims.iss)
}

impl AccessTokenRules {
    /// Reads the form of a token: everything that can be refused without a key.
    pub fn read<'a>(&'a self, token: &'a str) -> Result<Presented<'a>, Fault> {
        let jws = Jws::parse(token).map_err(|error| {
            let reason = if error == JwsError::Critical { Reason::TokenCritical } else { Reason::TokenMalformed };
            Fault::new(reason, error.to_string())
        })?;

        // RFC 9068 §4: `alg` is one that was agreed on and never `none`.
        let algorithm = Algorithm::from_name(&jws.header.alg)
            .filter(|algorithm| self.algorithms.contains(algorithm))
            .ok_or_else(|| Fault::new(Reason::TokenAlgorithm, format!("alg {:?} is not among the issuer's", brief(&jws.header.alg))))?;

        // RFC 9068 §4: `typ` is `at+jwt`.
        self.check_type(jws.header.typ.as_deref())?;

        let claims = claims::parse(&jws.payload).map_err(bad_claims)?;

        // RFC 9068 §4: `iss` is the issuer, exactly.
        let issuer = claims::text(&claims, "iss").map_err(bad_claims)?;
        if issuer != self.issuer {
            return Err(Fault::new(Reason::TokenIssuerUnknown, format!("iss is {:?}, not {:?}", brief(issuer), self.issuer)));
        }
        Ok(Presented { rules: self, jws, algorithm, claims })
    }

    /// Compares media types without regard to case, and `application/` as left out (RFC 7515 §4.1.9).
    fn check_type(&self, typ: Option<&str>) -> Result<(), Fault> {
        let typ = typ.map(str::to_ascii_lowercase);
        let kind = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        let fits = match (self.typ, kind) {
            // OpenID Connect Core names no `typ` for ID tokens; `JWT` is what is written there.
            (TokenType::IdToken, kind) => kind.is_none_or(|kind| kind == "jwt"),
            (_, Some("at+jwt")) => true,
            (TokenType::AtJwt, _) => false,
            // A name like `logout+jwt` or `dpop+jwt` says that the JWT is for something else (RFC 8725 §3.11).
            (TokenType::Any | TokenType::FromTokenEndpoint, kind) => !kind.is_some_and(|kind| kind.ends_with("+jwt")),
        };
        if fits {
            return Ok(());
        }
        let found = typ.as_deref().map_or_else(|| "missing".to_owned(), |typ| format!("{:?}", brief(typ)));
        let expected = if self.typ == TokenType::IdToken { "an ID token's" } else { "an access token's" };
        Err(Fault::new(Reason::TokenType, format!("typ is {found}, not {expected}")))
    }
}

impl Presented<'_> {
    /// The issuer's key that the header points at. A refusal says that newer keys may help.
    pub fn find_key<'k>(&self, keys: &'k KeySet) -> Result<Found<'k>, Fault> {
        let (algorithm, kid) = (self.algorithm, self.jws.header.kid.as_deref());
        keys.find(algorithm, kid).map_err(|why| Fault::new(Reason::TokenKeyUnknown, format!("{why} for {algorithm}")))
    }

    /// Checks the signature with `found`, then the claims.
    pub fn verify(self, found: &Found<'_>) -> Result<AccessToken, Fault> {
        if !found.verifies(self.jws.signing_input.as_bytes(), &self.jws.signature) {
            return Err(Fault::new(Reason::TokenSignature, format!("the {} signature does not verify", self.algorithm)));
        }
        let key = found.mark(self.jws.header.kid.as_deref());
        self.claims(key).map_err(|error| match error {
            Wrong::Claims(error) => bad_claims(error),
            Wrong::Token(fault) => fault,
        })
    }

    /// The claims of a token whose signature is right.
    fn claims(self, key: KeyMark) -> Result<AccessToken, Wrong> {
        let claims = &self.claims;
        let expires_at = claims::time(claims, "exp")?;
        let not_before = claims::optional_time(claims, "nbf")?;
        let issued_at = claims::optional_time(claims, "iat")?;
        let audience = claims::audience(claims)?;
        claims::subject(claims)?;
        match self.rules.typ {
            TokenType::AtJwt => {
                // RFC 9068 §2.2: these are required beside `iss`, `exp` and `sub`.
                if audience.is_empty() {
                    return Err(claims::missing("aud").into());
                }
                claims::text(claims, "client_id")?;
                issued_at.ok_or_else(|| claims::missing("iat"))?;
                claims::text(claims, "jti")?;
            }
            TokenType::Any => self.refuse_id_token(&audience)?,
            TokenType::FromTokenEndpoint => {}
            TokenType::IdToken => {
                // OpenID Connect Core §2: `aud` and `iat` are required beside `iss`, `sub` and `exp`.
                if audience.is_empty() {
                    return Err(claims::missing("aud").into());
                }
                issued_at.ok_or_else(|| claims::missing("iat"))?;
            }
        }
        let others = match self.rules.typ {
            TokenType::AtJwt | TokenType::Any | TokenType::FromTokenEndpoint => [claims::ID_TOKEN, claims::REFRESH_TOKEN],
            TokenType::IdToken => [claims::ACCESS_TOKEN, claims::REFRESH_TOKEN],
        };
        if let Some(kind) = claims::kind_among(claims, &others) {
            return Err(Fault::new(Reason::TokenType, format!("it says that it is a {kind:?} token")).into());
        }
        // RFC 8417 §2.2: what has `events` tells of something that happened, a logout say, and lets nobody in.
        if claims.contains_key("events") {
            return Err(Fault::new(Reason::TokenType, "it has events, as security event tokens do").into());
        }

        // RFC 7800 §3.1: a bound token counts only with proof of the key it is bound to.
        let confirmation = Confirmation::of(claims)?;

        let terms = Terms { expires_at, valid_from: not_before.max(issued_at), audience, leeway: self.rules.leeway };
        let scopes = scopes::of(claims, self.rules.scope_claim.as_ref());
        Ok(AccessToken { scopes, claims: self.claims, terms, confirmation, key: Some(key) })
    }

    /// Without `typ` an ID token shows itself by what only ID tokens carry, or by being meant for us as relying party.
    fn refuse_id_token(&self, audience: &[String]) -> Result<(), Fault> {
        if let Some(name) = ["nonce", "at_hash", "c_hash"].into_iter().find(|name| self.claims.contains_key(*name)) {
            return Err(Fault::new(Reason::TokenIsIdToken, format!("it has {name}")));
        }
        if self.rules.client_id.as_ref().is_some_and(|client_id| audience.contains(client_id)) {
            return Err(Fault::new(Reason::TokenIsIdToken, "aud is our client_id"));
        }
        Ok(())
    }
}

impl Terms {
    /// Whether the token counts at `now` for `audience` (RFC 9068 §4: `aud`, then `exp`; RFC 7519 §4.1.5: `nbf`).
    pub fn judge(&self, audience: &Audience, now: UnixTime) -> Result<(), Fault> {
        if let Audience::AnyOf(expected) = audience
            && !self.audience.iter().any(|one| expected.contains(one))
        {
            return Err(Fault::new(Reason::TokenAudience, format!("aud names none of {expected:?}")));
        }
        if now >= self.expires_at.plus(self.leeway) {
            return Err(Fault::new(Reason::TokenExpired, format!("exp {} has passed, it is {now}", self.expires_at)));
        }
        if let Some(from) = self.valid_from
            && from > now.plus(self.leeway)
        {
            return Err(Fault::new(Reason::TokenNotYetValid, format!("nbf or iat {from} lies ahead, it is {now}")));
        }
        Ok(())
    }
}

/// What may be wrong with claims.
enum Wrong {
    Claims(ClaimsError),
    Token(Fault),
}

impl From<ClaimsError> for Wrong {
    fn from(error: ClaimsError) -> Self {
        Self::Claims(error)
    }
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        Self::Token(fault)
    }
}

fn bad_claims(error: ClaimsError) -> Fault {
    Fault::new(Reason::TokenClaims, error.0)
}

#[cfg(test)]
mod tests;
