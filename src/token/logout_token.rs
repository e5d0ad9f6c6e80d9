//! Logout tokens, by the steps of OpenID Connect Back-Channel Logout 1.0 §2.6 (incorporating errata set 1).

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::algorithm::Algorithm;
use super::claims::{self, ClaimsError, brief};
use super::issuer::Issuer;
use super::jwk::KeySet;
use super::jws::{self, Jws};
use crate::clock::UnixTime;
use crate::fault::Fault;
use crate::identity::Claims;
use crate::reason::Reason;

/// The longest logout token that is looked at, in bytes: it carries a handful of claims, and anybody can send one.
const MAX_BYTES: usize = 16 * 1024;
/// How old a logout token may be. §4 advises providers to let them live two minutes at most; a queue may hold one a little longer.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// The member of `events` that makes a token a logout token (§2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// What a provider's logout token must say to count.
pub struct LogoutTokenExpectation<'a> {
    /// The provider's issuer, exactly as configured, or those of its tenants.
    pub issuer: &'a Issuer,
    /// Our registration with it.
    pub client_id: &'a str,
    /// The signatures that are taken, as for its ID tokens; never what the provider's document lists.
    pub algorithms: &'a [Algorithm],
    /// Whether `exp` must be there.
    pub exp: LogoutTokenExp,
    /// How far the provider's clock may be from ours.
    pub leeway: Duration,
}

/// Whether a provider's logout tokens carry `exp`: required since errata set 1 of December 2023, unknown before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutTokenExp {
    /// One without is refused.
    Required,
    /// One without counts by its `iat`.
    Optional,
}

/// What a logout token says, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutToken {
    /// Whose it is.
    pub issuer: String,
    /// Whose sessions end; with a `sid` as well, that one's only.
    pub ends: Ends,
    /// Its own name, which counts once.
    pub jti: String,
    /// When it would no longer count anyhow: so long its `jti` is worth remembering.
    pub counts_until: UnixTime,
}

/// Which sessions a logout token ends (§2.4, §2.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Those that belong to this session of the provider's. A `sub` beside it narrows nothing: a provider's `sid` is unique.
    Sid(String),
    /// All sessions of this user.
    Sub(String),
}

/// Why a logout token does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogoutTokenError {
    /// No key of the set is its key: newer keys may help. The fault is what to say when they do not.
    KeyUnknown(Fault),
    /// It is refused.
    Refused(Fault),
}

impl LogoutTokenError {
    /// What to say of it when nothing more is tried.
    #[must_use]
    pub fn into_fault(self) -> Fault {
        match self {
            Self::KeyUnknown(fault) | Self::Refused(fault) => fault,
        }
    }
}

impl fmt::Display for LogoutTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyUnknown(fault) | Self::Refused(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for LogoutTokenError {}

impl From<Fault> for LogoutTokenError {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

impl From<ClaimsError> for LogoutTokenError {
    fn from(error: ClaimsError) -> Self {
        Self::Refused(Fault::new(Reason::LogoutTokenClaims, error.0))
    }
}

/// Of whom and for whom a token claims to be, unverified: good for choosing who checks it and for nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed {
    /// `iss`.
    pub issuer: String,
    /// `aud`, as a list; empty for any other form.
    pub audience: Vec<String>,
}

/// Reads them. `None` for what is no JWT with a text `iss`.
#[must_use]
pub fn peek(token: &str) -> Option<Addressed> {
    #[derive(Deserialize)]
    struct Peeked {
        iss: String,
        #[serde(default)]
        aud: Value,
    }
    if token.len() > MAX_BYTES {
        return None;
    }
    let Peeked { iss, aud } = jws::object(&jws::payload(token)?)?;
    let audience = match aud {
        Value::String(one) => vec![one],
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    Some(Addressed { issuer: iss, audience })
}

/// Checks `token` at the time `now`. The numbers are those of the steps in §2.6. Step (8), that a `jti` counts once, is for whoever remembers
/// them; steps (9) to (11) compare with ID tokens of sessions, which the look-up by issuer and `sid` or `sub` does by itself.
pub fn verify(token: &str, keys: &KeySet, expect: &LogoutTokenExpectation<'_>, now: UnixTime) -> Result<LogoutToken, LogoutTokenError> {
    // (1) An encrypted token has five parts and is refused here as no JWS: no encryption is ever agreed on.
    let jws = Jws::parse_within(token, MAX_BYTES).map_err(|error| Fault::new(Reason::LogoutTokenMalformed, error.to_string()))?;

    // §2.4 recommends the type `logout+jwt`. Without one, or with the one of every JWT, `events` tells it from an ID token (§4.1).
    if let Some(typ) = jws.header.typ.as_deref()
        && !is_type(typ)
    {
        return Err(Fault::new(Reason::LogoutTokenType, format!("typ is {:?}, not \"logout+jwt\"", brief(typ))).into());
    }

    // (3) The algorithm is one of those allowed for ID tokens; `none` and MACs never are.
    let algorithm = Algorithm::from_name(&jws.header.alg)
        .filter(|algorithm| expect.algorithms.contains(algorithm))
        .ok_or_else(|| Fault::new(Reason::LogoutTokenAlgorithm, format!("alg {:?} is not allowed", brief(&jws.header.alg))))?;

    // (2) The signature, by a key of this provider.
    let key = keys
        .find(algorithm, jws.header.kid.as_deref())
        .map_err(|why| LogoutTokenError::KeyUnknown(Fault::new(Reason::LogoutTokenKeyUnknown, format!("{why} for {algorithm}"))))?;
    if !key.verifies(jws.signing_input.as_bytes(), &jws.signature) {
        return Err(Fault::new(Reason::LogoutTokenSignature, format!("the {algorithm} signature does not verify")).into());
    }

    let claims = claims::parse(&jws.payload)?;

    // (4) `iss`, `aud`, `iat` and `exp`, as in ID tokens.
    issued_here_for_us(&claims, expect)?;
    if !expect.issuer.signs_with(&key, claims::text(&claims, "iss")?) {
        return Err(Fault::new(Reason::LogoutTokenSignature, "it is signed by a key that is for another issuer's tokens").into());
    }
    let counts_until = in_time(&claims, expect, now)?;

    // (5) `sub`, `sid` or both.
    let sid = claims.contains_key("sid").then(|| claims::text(&claims, "sid")).transpose()?;
    let sub = claims.contains_key("sub").then(|| claims::subject(&claims)).transpose()?;
    let ends = match (sid, sub) {
        (Some(sid), _) => Ends::Sid(sid.to_owned()),
        (None, Some(sub)) => Ends::Sub(sub.to_owned()),
        (None, None) => return Err(Fault::new(Reason::LogoutTokenSubject, "neither sub nor sid is there").into()),
    };

    // (6) `events` is an object with the member of this event; §2.4: whose value is an object too.
    let event = claims.get("events").and_then(Value::as_object).and_then(|events| events.get(EVENT));
    if !event.is_some_and(Value::is_object) {
        let found = if claims.contains_key("events") { "events does not name the logout event" } else { "events is missing" };
        return Err(Fault::new(Reason::LogoutTokenEvent, found).into());
    }

    // (7) No `nonce`.
    if claims.contains_key("nonce") {
        return Err(Fault::new(Reason::LogoutTokenNonce, "nonce is there: no logout token has one").into());
    }

    // §2.4: `jti` is required. Step (8) needs it.
    let jti = claims::text(&claims, "jti")?.to_owned();
    if jti.len() > 1024 {
        return Err(ClaimsError("jti is longer than 1024".to_owned()).into());
    }

    let issuer = claims::text(&claims, "iss")?.to_owned();
    Ok(LogoutToken { issuer, ends, jti, counts_until })
}

/// Media types are compared without regard to case, `application/` may be left out (RFC 7515 §4.1.9).
fn is_type(typ: &str) -> bool {
    let short = typ.get(..12).filter(|start| start.eq_ignore_ascii_case("application/")).and_then(|_| typ.get(12..)).unwrap_or(typ);
    short.eq_ignore_ascii_case("logout+jwt") || short.eq_ignore_ascii_case("jwt")
}

/// OpenID Connect Core §3.1.3.7 (2) to (5).
fn issued_here_for_us(claims: &Claims, expect: &LogoutTokenExpectation<'_>) -> Result<(), LogoutTokenError> {
    let issuer = claims::text(claims, "iss")?;
    if !expect.issuer.is(issuer) {
        let expected = expect.issuer.address();
        return Err(Fault::new(Reason::LogoutIssuer, format!("iss is {:?}, not {expected:?}", brief(issuer))).into());
    }
    let audience = claims::audience(claims)?;
    if audience.is_empty() {
        return Err(claims::missing("aud").into());
    }
    if !audience.iter().any(|one| one == expect.client_id) {
        return Err(Fault::new(Reason::LogoutTokenAudience, format!("aud does not name {:?}", expect.client_id)).into());
    }
    if let Some(other) = audience.iter().find(|one| *one != expect.client_id) {
        return Err(Fault::new(Reason::LogoutTokenAudience, format!("aud also names {:?}, which is not trusted", brief(other))).into());
    }
    match claims.get("azp") {
        Some(party) if party.as_str() != Some(expect.client_id) => {
            Err(Fault::new(Reason::LogoutTokenAudience, format!("azp is not {:?}", expect.client_id)).into())
        }
        _ => Ok(()),
    }
}

/// Until when the token counts.
fn in_time(claims: &Claims, expect: &LogoutTokenExpectation<'_>, now: UnixTime) -> Result<UnixTime, LogoutTokenError> {
    let expires_at = match expect.exp {
        LogoutTokenExp::Required => Some(claims::time(claims, "exp")?),
        LogoutTokenExp::Optional => claims::optional_time(claims, "exp")?,
    };
    let issued_at = claims::time(claims, "iat")?;
    if issued_at > now.plus(expect.leeway) {
        return Err(Fault::new(Reason::LogoutTokenNotYetValid, format!("iat {issued_at} lies ahead, it is {now}")).into());
    }
    // RFC 7519 §4.1.5: `nbf`, where it is, has come.
    if let Some(not_before) = claims::optional_time(claims, "nbf")?
        && not_before > now.plus(expect.leeway)
    {
        return Err(Fault::new(Reason::LogoutTokenNotYetValid, format!("nbf {not_before} lies ahead, it is {now}")).into());
    }
    if let Some(expires_at) = expires_at
        && now >= expires_at.plus(expect.leeway)
    {
        return Err(Fault::new(Reason::LogoutTokenExpired, format!("exp {expires_at} has passed, it is {now}")).into());
    }
    // However late its `exp`: the `jti` is remembered for as long as the token counts, and that must be short.
    let stale_at = issued_at.plus(FRESH);
    if now >= stale_at.plus(expect.leeway) {
        return Err(Fault::new(Reason::LogoutTokenExpired, format!("iat {issued_at} is more than {FRESH:?} ago, it is {now}")).into());
    }
    Ok(expires_at.unwrap_or(stale_at).min(stale_at).plus(expect.leeway))
}

#[cfg(test)]
mod tests;
