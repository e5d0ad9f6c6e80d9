//! What a token with these claims would be worth, were its signature right: for people who ask what would happen.

use std::time::Duration;

use super::access_token::{AccessToken, Terms};
use super::claims;
use super::scopes;
use crate::clock::UnixTime;
use crate::fault::Fault;
use crate::identity::{ClaimPath, Claims};
use crate::reason::Reason;

/// An access token that says this. Claims that a token of its issuer would carry and that are not there are taken as they should be: it ends never,
/// counts from ever, and is meant for `audience`.
///
/// # Errors
/// [`Reason::TokenClaims`] where a claim is there and of another type.
pub fn supposed(claims: Claims, scope_claim: Option<&ClaimPath>, audience: &[String], leeway: Duration) -> Result<AccessToken, Fault> {
    let bad = |error: claims::ClaimsError| Fault::new(Reason::TokenClaims, error.0);
    let expires_at = claims::optional_time(&claims, "exp").map_err(bad)?;
    let not_before = claims::optional_time(&claims, "nbf").map_err(bad)?;
    let issued_at = claims::optional_time(&claims, "iat").map_err(bad)?;
    let said = claims::audience(&claims).map_err(bad)?;
    claims::subject(&claims).map_err(bad)?;
    let terms = Terms {
        expires_at: expires_at.unwrap_or(UnixTime(u64::from(u32::MAX) * 2)),
        valid_from: not_before.max(issued_at),
        audience: if claims.contains_key("aud") { said } else { audience.to_vec() },
        leeway,
    };
    Ok(AccessToken { scopes: scopes::of(&claims, scope_claim), claims, terms, confirmation: None, key: None })
}
