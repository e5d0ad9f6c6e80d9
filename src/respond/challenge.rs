//! `WWW-Authenticate` (RFC 9110 §11.6.1), which every 401 carries (§15.5.2).

use http::HeaderValue;

use crate::credential::CredentialKind;
use crate::decision::TokenProblem;
use crate::login::Asked;
use crate::reason::Reason;
use crate::respond::words_of;
use crate::route::Route;

/// The challenge of a route: `Bearer` where it takes bearer tokens, else `Doorward-Session`. Without a token there is no `error` attribute
/// (RFC 6750 §3.1).
#[must_use]
pub fn unauthorized(route: Option<&Route>, problem: TokenProblem, reason: Reason) -> HeaderValue {
    if !route.is_some_and(|route| route.takes(CredentialKind::Bearer)) {
        return HeaderValue::from_static("Doorward-Session realm=\"doorward\"");
    }
    match problem {
        TokenProblem::None | TokenProblem::TooWeak => HeaderValue::from_static("Bearer realm=\"doorward\""),
        TokenProblem::InvalidToken => invalid_token(reason),
    }
}

/// 401 for somebody whose login was not worth enough, with what would be (RFC 9470 §3): `acr_values` in order of preference, spaces between;
/// `max_age` in seconds. Where no bearer token is taken the scheme is ours, with the same attributes.
#[must_use]
pub fn insufficient(route: &Route, reason: Reason, asks: &Asked) -> HeaderValue {
    let scheme = if route.takes(CredentialKind::Bearer) { "Bearer" } else { "Doorward-Session" };
    let mut text = format!("{scheme} realm=\"doorward\", error=\"insufficient_user_authentication\"");
    text.push_str(&format!(", error_description=\"{}\"", quotable(words_of(reason).text)));
    if !asks.acr.is_empty() {
        text.push_str(&format!(", acr_values=\"{}\"", quotable(&asks.acr.join(" "))));
    }
    if let Some(max_age) = asks.max_age {
        text.push_str(&format!(", max_age=\"{max_age}\""));
    }
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Bearer realm=\"doorward\""))
}

/// 401 for a token that is no good (RFC 6750 §3.1).
#[must_use]
pub fn invalid_token(reason: Reason) -> HeaderValue {
    bearer("invalid_token", words_of(reason).text, None)
}

/// 400 of a request that shows its token in a way that cannot be read (RFC 6750 §3.1).
#[must_use]
pub fn invalid_request(reason: Reason) -> HeaderValue {
    bearer("invalid_request", words_of(reason).text, None)
}

/// 403 for a token that lacks scopes.
#[must_use]
pub fn insufficient_scope(scopes: &[String]) -> HeaderValue {
    bearer("insufficient_scope", words_of(Reason::InsufficientScope).text, Some(&scopes.join(" ")))
}

fn bearer(error: &str, description: &str, scope: Option<&str>) -> HeaderValue {
    let mut text = format!("Bearer realm=\"doorward\", error=\"{error}\", error_description=\"{}\"", quotable(description));
    if let Some(scope) = scope {
        text.push_str(&format!(", scope=\"{}\"", quotable(scope)));
    }
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Bearer realm=\"doorward\""))
}

/// RFC 6750 §3: values hold %x20-21 / %x23-5B / %x5D-7E only.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\x20'..='\x21' | '\x23'..='\x5b' | '\x5d'..='\x7e')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_hold_only_what_the_rfc_allows() {
        let value = insufficient_scope(&["a\"b".into(), "c\\d".into()]);
        assert!(value.to_str().unwrap().ends_with("scope=\"ab cd\""));
        for reason in Reason::ALL {
            assert_eq!(quotable(words_of(*reason).text), words_of(*reason).text, "{reason}");
        }
    }
}
