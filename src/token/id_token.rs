//! ID tokens, by the steps of OpenID Connect Core §3.1.3.7 for the code flow.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest;

use super::algorithm::Algorithm;
use super::claims::{self, ClaimsError, brief};
use super::issuer::Issuer;
use super::jwk::{KeySet, NoKey};
use super::jws::Jws;
use crate::clock::UnixTime;
use crate::fault::Fault;
use crate::identity::Claims;
use crate::reason::Reason;
use crate::secret::{self, Secret};

/// The longest ID token that is looked at, in bytes. It comes from the provider itself, and may list more groups than any header would hold:
/// what is too much for a header is for the request to say that needs one.
const MAX_BYTES: usize = 256 * 1024;

/// What an ID token must say to count for one login.
pub struct IdTokenExpectation<'a> {
    /// The provider's issuer, exactly as configured, or those of its tenants.
    pub issuer: &'a Issuer,
    /// Our registration with it.
    pub client_id: &'a str,
    /// The signatures that are taken; never what the provider's document lists.
    pub algorithms: &'a [Algorithm],
    /// Audiences that may stand beside `client_id`. Usually none.
    pub trusted_audiences: &'a [String],
    /// Which nonce it has to hold.
    pub nonce: Nonce<'a>,
    /// The access token that came with it, for `at_hash`.
    pub access_token: &'a Secret,
    /// How far the provider's clock may be from ours.
    pub leeway: Duration,
}

/// Which nonce an ID token has to hold.
#[derive(Clone, Copy)]
pub enum Nonce<'a> {
    /// The one that this attempt sent.
    Sent(&'a str),
    /// That of the session's first ID token, or none: a refreshed one (§12.2).
    Original(Option<&'a str>),
}

impl Nonce<'_> {
    fn is_held_by(self, claims: &Claims) -> bool {
        let held = claims.get("nonce");
        let same = |expected: &str| {
            held.and_then(serde_json::Value::as_str).is_some_and(|held| secret::same(held.as_bytes(), expected.as_bytes()))
        };
        match self {
            Self::Sent(sent) => same(sent),
            Self::Original(first) => held.is_none() || first.is_some_and(same),
        }
    }
}

/// Why an ID token does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdTokenError {
    /// No key of the set is its key: newer keys may help, once. The fault is what to say when they do not.
    KeyUnknown(Fault),
    /// It is refused.
    Refused(Fault),
}

impl IdTokenError {
    /// What to say of it when nothing more is tried.
    #[must_use]
    pub fn into_fault(self) -> Fault {
        match self {
            Self::KeyUnknown(fault) | Self::Refused(fault) => fault,
        }
    }
}

impl fmt::Display for IdTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyUnknown(fault) | Self::Refused(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for IdTokenError {}

impl From<Fault> for IdTokenError {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

impl From<ClaimsError> for IdTokenError {
    fn from(error: ClaimsError) -> Self {
        Self::Refused(Fault::new(Reason::IdTokenClaims, error.0))
    }
}

/// Checks `token` at the time `now` and returns what it says. The signature comes first, so that nothing unsigned is judged; the numbers
/// are those of the steps in OpenID Connect Core §3.1.3.7. Steps (12) `acr` and (13) `auth_time` concern requests that ask for them.
pub fn verify(token: &str, keys: &KeySet, expect: &IdTokenExpectation<'_>, now: UnixTime) -> Result<Claims, IdTokenError> {
    // (1) An encrypted token has five parts and is refused here as no JWS: no encryption is ever agreed on.
    let jws = Jws::parse_within(token, MAX_BYTES).map_err(|error| Fault::new(Reason::IdTokenMalformed, error.to_string()))?;

    // (7) The algorithm is one of those allowed. (8) MAC algorithms never are.
    let algorithm = allowed(&jws.header.alg, expect.algorithms)?;

    // (6) The signature, by a key of this provider.
    let key = keys.find(algorithm, jws.header.kid.as_deref()).map_err(|why| IdTokenError::KeyUnknown(no_key(why, algorithm)))?;
    if !key.verifies(jws.signing_input.as_bytes(), &jws.signature) {
        return Err(Fault::new(Reason::IdTokenSignature, format!("the {algorithm} signature does not verify")).into());
    }

    let claims = claims::parse(&jws.payload)?;

    // (2) `iss` is the provider's issuer, exactly.
    expect.issuer.check(&claims)?;
    if !expect.issuer.signs_with(&key, claims::text(&claims, "iss")?) {
        return Err(Fault::new(Reason::IdTokenSignature, "it is signed by a key that is for another issuer's tokens").into());
    }

    // (3) `aud` names us, and nobody whom we do not trust.
    let audience = claims::audience(&claims)?;
    if audience.is_empty() {
        return Err(claims::missing("aud").into());
    }
    if !audience.iter().any(|one| one == expect.client_id) {
        return Err(Fault::new(Reason::IdTokenAudience, format!("aud does not name {:?}", expect.client_id)).into());
    }
    if let Some(other) = audience.iter().find(|one| *one != expect.client_id && !expect.trusted_audiences.contains(one)) {
        return Err(Fault::new(Reason::IdTokenAudience, format!("aud also names {:?}, which is not trusted", brief(other))).into());
    }

    // (4) With several audiences `azp` says for whom it was issued. (5) Where it is, it names us.
    match claims.get("azp") {
        None if audience.len() == 1 => {}
        None => return Err(Fault::new(Reason::IdTokenAuthorizedParty, "several audiences and no azp").into()),
        Some(party) if party.as_str() == Some(expect.client_id) => {}
        Some(_) => return Err(Fault::new(Reason::IdTokenAuthorizedParty, format!("azp is not {:?}", expect.client_id)).into()),
    }

    // (9) The time is before `exp`.
    let expires_at = claims::time(&claims, "exp")?;
    if now >= expires_at.plus(expect.leeway) {
        return Err(Fault::new(Reason::IdTokenExpired, format!("exp {expires_at} has passed, it is {now}")).into());
    }

    // (10) `iat` is there and does not lie ahead. How long ago is not asked: the nonce makes a token count once.
    let issued_at = claims::time(&claims, "iat")?;
    if issued_at > now.plus(expect.leeway) {
        return Err(Fault::new(Reason::IdTokenNotYetValid, format!("iat {issued_at} lies ahead, it is {now}")).into());
    }

    // RFC 7519 §4.1.5: `nbf`, where it is, has come.
    if let Some(not_before) = claims::optional_time(&claims, "nbf")?
        && not_before > now.plus(expect.leeway)
    {
        return Err(Fault::new(Reason::IdTokenNotYetValid, format!("nbf {not_before} lies ahead, it is {now}")).into());
    }

    // (11) `nonce` is the one that was sent; §12.2 for a refreshed one: absent or the first one's.
    if !expect.nonce.is_held_by(&claims) {
        let found = if claims.contains_key("nonce") { "nonce is another" } else { "nonce is missing" };
        return Err(Fault::new(Reason::IdTokenNonce, found).into());
    }

    // §3.1.3.8: `at_hash`, where it is, fits the access token.
    if let Some(hash) = claims.get("at_hash") {
        let fits = hash.as_str().is_some_and(|hash| secret::same(hash.as_bytes(), at_hash(algorithm, expect.access_token).as_bytes()));
        if !fits {
            return Err(Fault::new(Reason::IdTokenAccessTokenHash, "at_hash is not that of the access token").into());
        }
    }

    // §2: `sub` says who.
    claims::subject(&claims)?;

    Ok(claims)
}

fn allowed(alg: &str, algorithms: &[Algorithm]) -> Result<Algorithm, Fault> {
    Algorithm::from_name(alg)
        .filter(|algorithm| algorithms.contains(algorithm))
        .ok_or_else(|| Fault::new(Reason::IdTokenAlgorithm, format!("alg {:?} is not allowed", brief(alg))))
}

fn no_key(why: NoKey, algorithm: Algorithm) -> Fault {
    Fault::new(Reason::IdTokenKeyUnknown, format!("{why} for {algorithm}"))
}

/// The left half of the access token's hash (OpenID Connect Core §3.1.3.6).
fn at_hash(algorithm: Algorithm, access_token: &Secret) -> String {
    let hash = digest::digest(algorithm.hash(), access_token.expose().as_bytes());
    let half = hash.as_ref().len() / 2;
    secret::encode(hash.as_ref().get(..half).unwrap_or_default())
}

#[cfg(test)]
mod tests;
