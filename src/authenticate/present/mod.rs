//! The one credential that counts. The order is the law: `Authorization`, then other places that the route enables, then the certificate, then the
//! cookie. The first that is there counts alone, good or bad.

mod api_key;
mod authorization;
mod places;

use http::header::{AUTHORIZATION, HeaderMap};

use crate::credential::{Credential, CredentialKind, PeerCertificate};
use crate::header::cookies::{self, CookieStyle};
use crate::route::Accept;
use crate::session::SessionCookie;

/// More well-formed cookies of our name than this are a flood, not a browser: none counts, and no store is asked.
const COOKIES: usize = 4;

/// Where a request may show something.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its query, as it came.
    pub query: Option<&'a str>,
    /// Its urlencoded body, where that was read before the decision.
    pub form: Option<&'a [u8]>,
    /// The certificate of whoever sent it.
    pub certificate: Option<&'a PeerCertificate>,
}

impl<'a> Shown<'a> {
    /// Headers alone.
    #[must_use]
    pub const fn headers(headers: &'a HeaderMap) -> Self {
        Self { headers, query: None, form: None, certificate: None }
    }
}

/// Finds it. What the route does not accept is not read.
#[must_use]
pub fn present(shown: &Shown<'_>, accept: &Accept, style: &CookieStyle, token_bytes: usize) -> Credential {
    let authorization = shown.headers.get(AUTHORIZATION).and_then(|value| authorization::credential(value.as_bytes(), accept, token_bytes));
    match (authorization, places::credential(shown, accept, token_bytes)) {
        (Some(Credential::Token(_)), Some(Credential::Token(_))) => return places::twice(),
        (_, Some(unreadable @ Credential::Unreadable(_))) => return unreadable,
        (Some(credential), _) | (None, Some(credential)) => return credential,
        (None, None) => {}
    }
    if accept.takes(CredentialKind::ApiKey)
        && let Some(credential) = api_key::credential(shown.headers, &accept.api_key_header)
    {
        return credential;
    }
    if accept.takes(CredentialKind::Certificate) && shown.certificate.is_some() {
        return Credential::Certificate;
    }
    if accept.takes(CredentialKind::Session) {
        return cookies_of(shown.headers, style);
    }
    Credential::None
}

fn cookies_of(headers: &HeaderMap, style: &CookieStyle) -> Credential {
    let found: Vec<SessionCookie> = cookies::values(headers, &style.session).filter_map(SessionCookie::parse).take(COOKIES + 1).collect();
    if !found.is_empty() && found.len() <= COOKIES { Credential::Session(found) } else { Credential::None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{PresentedPassword, PresentedToken, TokenScheme};
    use crate::header::cookies::{SameSite, Secure};

    fn found(authorization: Option<&str>, cookie: &str, kinds: &[CredentialKind]) -> String {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        headers.insert("cookie", cookie.parse().unwrap());
        let accept = Accept::of(kinds.to_vec());
        match present(&Shown::headers(&headers), &accept, &CookieStyle::new(Secure::No, None, "", SameSite::Lax), 64) {
            Credential::None => "none".into(),
            Credential::Session(cookies) => format!("{} cookies", cookies.len()),
            Credential::Token(PresentedToken { token, scheme: TokenScheme::Bearer }) => format!("bearer {}", token.expose()),
            Credential::Token(PresentedToken { token, scheme: TokenScheme::Dpop }) => format!("dpop {}", token.expose()),
            Credential::Password(PresentedPassword { name, .. }) => format!("password of {name}"),
            Credential::ApiKey(_) => "key".into(),
            Credential::Certificate => "certificate".into(),
            Credential::Unreadable(fault) => fault.reason.to_string(),
        }
    }

    #[test]
    fn one_credential_counts() {
        use CredentialKind::{Basic, Bearer, Session};
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
            (Some("DPoP abc"), both, "dpop abc"),
            (Some("dpop"), both, "authorization-malformed"),
            (Some("DPoP abc"), &[Session][..], "1 cookies"),
            (Some("Basic YTpi"), &[Session, Basic][..], "password of a"),
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
        let accept = Accept::of(vec![CredentialKind::Session]);
        let cost = |name: &str| {
            let line: String = (0..500).map(|n| format!("{name}={n:056}; ")).collect();
            let rounds = (0..200).map(|_| {
                let mut headers = HeaderMap::new();
                let began = SystemClock.instant();
                headers.insert("cookie", line.parse().unwrap());
                assert!(matches!(present(&Shown::headers(&headers), &accept, &style, 64), Credential::None));
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
