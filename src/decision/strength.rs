//! Whether the login behind an identity is worth what a place asks for. Held against a session on every request, against a bearer token's claims
//! (RFC 9470 §6), and against the ID token of a login that was made for the purpose.

use std::fmt;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::Identity;
use crate::login::Asked;
use crate::reason::Reason;

/// What a login lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// `acr` is missing or none of those wanted.
    Acr(Option<String>),
    /// `auth_time` is missing, too long ago, or lies ahead.
    Age(Option<UnixTime>),
}

impl Weakness {
    /// Its entry of the closed list.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Acr(_) => Reason::LoginTooWeak,
            Self::Age(_) => Reason::LoginTooOld,
        }
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acr(None) => f.write_str("acr is missing"),
            Self::Acr(Some(acr)) => write!(f, "acr {acr:?} is none of those wanted"),
            Self::Age(None) => f.write_str("auth_time is missing"),
            Self::Age(Some(time)) => write!(f, "auth_time {time} is too long ago, or ahead"),
        }
    }
}

/// What the login lacks; `None`: nothing.
#[must_use]
pub fn weakness(asks: &Asked, identity: &Identity, now: UnixTime, leeway: Duration) -> Option<Weakness> {
    // OpenID Connect Core §3.1.3.7 (12): the `acr` that was asked for is the one that is asserted. Exactly, by one of the wanted names.
    // Nobody who is not asked for one has their claims unpacked for it.
    if !asks.acr.is_empty() {
        let acr = identity.claims.get("acr").and_then(serde_json::Value::as_str);
        if !acr.is_some_and(|acr| asks.acr.iter().any(|wanted| wanted == acr)) {
            return Some(Weakness::Acr(acr.map(|acr| acr.chars().take(64).collect())));
        }
    }
    // (13): with `max_age` an `auth_time` has to be there, and not too long ago. The leeway is for two clocks that differ; without it a
    // login just made could count as too old already, and again after the next one.
    let max_age = Duration::from_secs(asks.max_age?);
    let young = |time: UnixTime| time <= now.plus(leeway) && now.since(time) <= max_age.saturating_add(leeway);
    if identity.auth_time.is_some_and(young) { None } else { Some(Weakness::Age(identity.auth_time)) }
}
