//! The one credential that counts: a bearer token, where the route takes one and one is there; else the cookie.

use http::header::{AUTHORIZATION, HeaderMap};

use crate::credential::{Credential, CredentialKind};
use crate::fault::Fault;
use crate::header::after_bearer;
use crate::header::cookies::{self, CookieStyle};
use crate::reason::Reason;
use crate::route::Accept;
use crate::secret::Secret;
use crate::session::SessionCookie;

/// More well-formed cookies of our name than this are a flood, not a browser: none counts, and no store is asked.
const COOKIES: usize = 4;

/// Finds it. Nothing else is read: no second scheme, no query, no body.
#[must_use]
pub fn present(headers: &HeaderMap, accept: &Accept, style: &CookieStyle, token_bytes: usize) -> Credential {
    if accept.takes(CredentialKind::Bearer)
        && let Some(value) = headers.get(AUTHORIZATION)
        && let Some(token) = bearer(value.as_bytes())
    {
        return token.map_or_else(
            |detail| Credential::Unreadable(Fault::new(Reason::AuthorizationMalformed, detail)),
            |token| {
                if token.len() > token_bytes {
                    let detail = format!("a token of {} bytes, the limit is {token_bytes}", token.len());
                    return Credential::Unreadable(Fault::new(Reason::AuthorizationMalformed, detail));
                }
                Credential::Bearer(Secret::new(token))
            },
        );
    }
    if accept.takes(CredentialKind::Session) {
        let named = cookies::pairs(headers).filter(|(name, _)| *name == style.session);
        let found: Vec<SessionCookie> = named.filter_map(|(_, value)| SessionCookie::parse(value)).take(COOKIES + 1).collect();
        if !found.is_empty() && found.len() <= COOKIES {
            return Credential::Session(found);
        }
    }
    Credential::None
}

/// `None`: another scheme. An error: the scheme is `Bearer` (RFC 9110 §11.1: in any case) and what follows is no `b64token` (RFC 6750 §2.1).
fn bearer(value: &[u8]) -> Option<Result<&str, &'static str>> {
    let rest = after_bearer(value)?;
    let token = std::str::from_utf8(rest).unwrap_or_default().trim_start_matches(' ');
    let body = token.trim_end_matches('=');
    let sound =
        rest.starts_with(b" ") && !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
    Some(if sound { Ok(token) } else { Err("expected Bearer, one space and a token (RFC 6750 section 2.1)") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::cookies::{SameSite, Secure};
    use crate::route::RouteAudience;

    fn found(authorization: Option<&str>, cookie: &str, kinds: &[CredentialKind]) -> String {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        headers.insert("cookie", cookie.parse().unwrap());
        let accept = Accept { kinds: kinds.to_vec(), audience: RouteAudience::OfIssuer, providers: None };
        match present(&headers, &accept, &CookieStyle::new(Secure::No, None, "", SameSite::Lax), 64) {
            Credential::None => "none".into(),
            Credential::Session(cookies) => format!("{} cookies", cookies.len()),
            Credential::Bearer(token) => format!("bearer {}", token.expose()),
            Credential::Unreadable(fault) => fault.reason.to_string(),
        }
    }

    #[test]
    fn one_credential_counts() {
        use CredentialKind::{Bearer, Session};
        let cookie = format!("a=b; doorward={}", SessionCookie::new().write());
        let both = &[Session, Bearer][..];
        for (authorization, kinds, expected) in [
            (None, both, "1 cookies"),
            (Some("Bearer abc.def-_~+/=="), both, "bearer abc.def-_~+/=="),
            (Some("bEARER abc"), both, "bearer abc"),
            (Some("Bearer abc"), &[Session][..], "1 cookies"),
            (Some("Bearer abc"), &[Bearer][..], "bearer abc"),
            (Some("Bearer"), both, "authorization-malformed"),
            (Some("Bearer "), both, "authorization-malformed"),
            (Some("Bearer a b"), both, "authorization-malformed"),
            (Some("Bearer\tabc"), both, "authorization-malformed"),
            (Some("Bearer abc, Basic x"), both, "authorization-malformed"),
            (Some("Bearer\tabc"), both, "authorization-malformed"),
            (Some("Bearer,abc"), both, "authorization-malformed"),
            (Some("Bearer/abc"), both, "authorization-malformed"),
            (Some("Bearer=abc"), both, "authorization-malformed"),
            (Some("Basic QmVhcmVyIGFiYw=="), both, "1 cookies"),
            (Some("Basic x, Bearer abc"), both, "1 cookies"),
            (Some("Bearerabc"), both, "1 cookies"),
            (Some("Basic x"), &[Bearer][..], "none"),
        ] {
            assert_eq!(found(authorization, &cookie, kinds), expected, "{authorization:?}");
        }
        assert_eq!(found(Some(&format!("Bearer {}", "a".repeat(65))), &cookie, both), "authorization-malformed");
    }

    /// SECURITY 20: measured as a ratio of one run, the quickest of many rounds, so that a busy machine does not decide.
    #[test]
    fn five_hundred_foreign_cookies_of_our_name_cost_little_more_than_others() {
        use crate::clock::{Clock as _, SystemClock};
        use crate::header::{OwnCookies, strip_credentials};
        let style = CookieStyle::new(Secure::No, None, "", SameSite::Lax);
        let accept = Accept { kinds: vec![CredentialKind::Session], audience: RouteAudience::OfIssuer, providers: None };
        let cost = |name: &str| {
            let line: String = (0..500).map(|n| format!("{name}={n:056}; ")).collect();
            let rounds = (0..200).map(|_| {
                let mut headers = HeaderMap::new();
                let began = SystemClock.instant();
                headers.insert("cookie", line.parse().unwrap());
                assert!(matches!(present(&headers, &accept, &style, 64), Credential::None));
                strip_credentials(&mut headers, OwnCookies(&style), |_| true);
                SystemClock.instant().saturating_duration_since(began)
            });
            rounds.min().unwrap()
        };
        let (ours, others) = (cost("doorward"), cost("foreigns"));
        assert!(ours <= others * 2, "{ours:?} against {others:?}");
    }

    #[test]
    fn a_flood_of_cookies_counts_as_none() {
        let many = |count| (0..count).map(|_| format!("doorward={}", SessionCookie::new().write())).collect::<Vec<_>>().join("; ");
        assert_eq!(found(None, &many(2), &[CredentialKind::Session]), "2 cookies");
        assert_eq!(found(None, &many(100), &[CredentialKind::Session]), "none");
        assert_eq!(found(None, &"doorward=x; ".repeat(500), &[CredentialKind::Session]), "none");
    }
}
