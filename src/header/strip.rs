//! Taking out of a request what must not reach the upstream.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, TRAILER};

use super::cookies::{self, CookieStyle};
use super::names::{IdentityFamily, is_plain};
use crate::credential::{API_KEY_PREFIX, CredentialKind};
use crate::session::TOKEN_PREFIX;

/// The proof beside a token that is bound to a key (RFC 9449 §4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// What becomes of header names with `_`, or with anything else that is no letter, digit or `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderscoreNames {
    /// They go: servers of the CGI family take `X_A`, and some `X.A`, for `X-A`.
    Drop,
    /// They pass, except those of the identity family.
    Pass,
}

/// Removes the identity family, and names with `_` and the like, from the headers and from what `Trailer` announces: over HTTP/1.1 nothing else is sent after
/// the body, and there are servers that put it among the headers. Over HTTP/2 everything is: so trailers are given here as well, as they come.
/// In every branch, whatever the route.
pub fn strip_identity(headers: &mut HeaderMap, family: &IdentityFamily, underscores: UnderscoreNames) {
    let goes = |name: &HeaderName| (underscores == UnderscoreNames::Drop && !is_plain(name.as_str())) || family.holds(name);
    let going: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in going {
        headers.remove(name);
    }
    if headers.contains_key(TRAILER) {
        let announced = headers.get_all(TRAILER).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
        let stays = |name: &&str| HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| !goes(&name));
        let staying: Vec<&str> = announced.map(str::trim).filter(stays).collect();
        let line = (!staying.is_empty()).then(|| HeaderValue::try_from(staying.join(", ")));
        headers.remove(TRAILER);
        if let Some(Ok(line)) = line {
            headers.insert(TRAILER, line);
        }
    }
}

/// Which cookies are the gateway's own.
#[derive(Clone, Copy, Debug)]
pub struct OwnCookies<'a>(pub &'a CookieStyle);

/// Removes our own cookies, session tokens and API keys, and a token that this route reads, with its proof. Any other `Authorization` that it
/// does not read is the app's own and stays.
pub fn strip_credentials(headers: &mut HeaderMap, own: OwnCookies<'_>, read: impl Fn(CredentialKind) -> bool) {
    cookies::remove(headers, |name| own.0.is_ours(name));
    if read(CredentialKind::Bearer) {
        headers.remove(DPOP);
    }
    // Most people have a cookie and nothing there.
    let Some(shown) = headers.get(AUTHORIZATION) else { return };
    let named = |scheme: &str| after_scheme(shown.as_bytes(), scheme).is_some();
    // A program shows its token or key to whatever it calls here. It opens what it opens on other routes: like a cookie of ours it goes nowhere.
    let goes = is_own(shown)
        || (read(CredentialKind::Bearer) && (named("bearer") || named("dpop")))
        || (read(CredentialKind::Basic) && named("basic"));
    if goes {
        headers.remove(AUTHORIZATION);
    }
}

fn is_own(value: &HeaderValue) -> bool {
    let shown = ["bearer", "dpop"].into_iter().find_map(|scheme| after_scheme(value.as_bytes(), scheme)).map(<[u8]>::trim_ascii);
    shown.is_some_and(|shown| [TOKEN_PREFIX, API_KEY_PREFIX].iter().any(|prefix| shown.starts_with(prefix.as_bytes())))
}

/// What follows `scheme` (given in small letters; in any case, RFC 9110 §11.1) in an `Authorization` value, whatever it is; `None`: another
/// scheme. A scheme is a token (§5.6.2) and ends where that does, so that `Bearer,` or `Bearer` and a tab is a bad bearer and no foreign scheme.
#[must_use]
pub fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (named, rest) = value.split_at_checked(scheme.len())?;
    let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    (named.eq_ignore_ascii_case(scheme.as_bytes()) && !rest.first().is_some_and(goes_on)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::header::cookies::{SameSite, Secure};

    proptest! {
        #[test]
        fn no_spelling_of_the_family_survives(pick in 0_usize..8, bits: u32, other in 0_usize..16, pass: bool) {
            let base = ["x-forwarded-user", "x-forwarded-email", "x-auth-request-groups", "x-forwarded-groups", "x-tenant",
                "doorward-assertion", "x-real-ip", "forwarded"][pick];
            // Whatever else a name may hold (RFC 9110 §5.6.2).
            let other = char::from(b"_.!#$%&'*+^`|~_."[other]);
            let spelled: String = base.chars().enumerate().map(|(at, c)| if c == '-' && bits >> at & 1 == 1 { other } else { c }).collect();
            let mut headers = HeaderMap::new();
            headers.append(HeaderName::from_bytes(spelled.as_bytes()).unwrap(), HeaderValue::from_static("root"));
            headers.append(HeaderName::from_bytes(spelled.to_uppercase().as_bytes()).unwrap(), HeaderValue::from_static("root"));
            headers.append("x-own", HeaderValue::from_static("stays"));
            let family = IdentityFamily::new([&HeaderName::from_static("x-tenant")]);
            strip_identity(&mut headers, &family, if pass { UnderscoreNames::Pass } else { UnderscoreNames::Drop });
            prop_assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), vec!["x-own"]);
        }
    }

    #[test]
    fn trailers_of_the_family_are_not_announced() {
        let mut headers = HeaderMap::new();
        headers.append(TRAILER, HeaderValue::from_static("X-Forwarded-User, grpc-status,x_forwarded_groups"));
        headers.append(TRAILER, HeaderValue::from_static("X-Sum"));
        strip_identity(&mut headers, &IdentityFamily::new([]), UnderscoreNames::Pass);
        assert_eq!(headers.get_all(TRAILER).iter().collect::<Vec<_>>(), ["grpc-status, X-Sum"]);
        headers.insert(TRAILER, HeaderValue::from_static("x-forwarded-user"));
        strip_identity(&mut headers, &IdentityFamily::new([]), UnderscoreNames::Pass);
        assert!(headers.is_empty());
    }

    #[test]
    fn underscores_go_unless_allowed() {
        let family = IdentityFamily::new([]);
        for (rule, left) in [(UnderscoreNames::Drop, false), (UnderscoreNames::Pass, true)] {
            let mut headers = HeaderMap::new();
            headers.append("x_custom", HeaderValue::from_static("1"));
            headers.append("x.custom", HeaderValue::from_static("1"));
            strip_identity(&mut headers, &family, rule);
            assert_eq!(headers.contains_key("x_custom"), left);
            assert_eq!(headers.contains_key("x.custom"), left);
        }
    }

    #[test]
    fn a_token_goes_only_where_it_is_read() {
        let style = CookieStyle::new(Secure::No, None, "", SameSite::Lax);
        for (value, reads, left) in [
            ("Bearer abc", true, false),
            ("bearer", true, false),
            ("Bearer abc", false, true),
            ("Basic abc", true, true),
            ("Bearerish abc", true, true),
            ("Bearer doorward_st_abc", false, false),
            ("dpop  doorward_st_abc", false, false),
            ("Bearer xdoorward_st_abc", false, true),
            ("Basic doorward_st_abc", false, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            strip_credentials(&mut headers, OwnCookies(&style), |kind| reads && kind == CredentialKind::Bearer);
            assert_eq!(headers.contains_key(AUTHORIZATION), left, "{value} {reads}");
        }
    }
}
