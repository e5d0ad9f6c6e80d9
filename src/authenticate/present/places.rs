//! Bearer tokens outside of `Authorization`, in the places that `bearer_in` of the route lists. One place may hold one token.

use http::header::{HeaderMap, SEC_WEBSOCKET_PROTOCOL};

use super::Shown;
use super::authorization::{is_b64token, presented};
use crate::credential::{Credential, CredentialKind, TokenScheme};
use crate::fault::Fault;
use crate::header::after_scheme;
use crate::reason::Reason;
use crate::request::parameter;
use crate::route::{ACCESS_TOKEN, Accept, SUBPROTOCOL_PREFIX, TokenPlace};
use crate::secret;

/// The token that stands there; `None`: none that this route reads. Two are no credential but a request that cannot be read, whether they stand in
/// one place or in two (RFC 6750 §2, §3.1).
pub(super) fn credential(shown: &Shown<'_>, accept: &Accept, token_bytes: usize) -> Option<Credential> {
    if !accept.takes(CredentialKind::Bearer) {
        return None;
    }
    let mut found: Option<Result<String, &'static str>> = None;
    for token in accept.bearer_in.iter().flat_map(|place| tokens_in(place, shown)) {
        if found.replace(token).is_some() {
            return Some(twice());
        }
    }
    Some(match found? {
        Ok(token) if token.len() > token_bytes => unreadable("a token longer than limits.token_bytes"),
        Ok(token) if is_b64token(&token) => presented(&token, TokenScheme::Bearer, token_bytes),
        Ok(_) => unreadable("what stands in the token's place is empty, or holds characters that no token has (RFC 6750 section 2.1)"),
        Err(detail) => unreadable(detail),
    })
}

/// 400 of a request that shows two tokens.
pub(super) fn twice() -> Credential {
    Credential::Unreadable(Fault::new(Reason::TokenRepeated, "two access tokens in the places that the route reads"))
}

fn tokens_in(place: &TokenPlace, shown: &Shown<'_>) -> Vec<Result<String, &'static str>> {
    let parameters = |text: &[u8]| parameter::values_of(text, ACCESS_TOKEN).map(Ok).collect();
    match place {
        TokenPlace::Authorization => Vec::new(),
        TokenPlace::Query => parameters(shown.query.unwrap_or_default().as_bytes()),
        TokenPlace::Body => {
            let form = shown.form.unwrap_or_default();
            let tokens: Vec<_> = parameters(form);
            // RFC 6750 §2.2: such a form is written in ASCII alone, so there are no two readings of where the parameter begins.
            if !tokens.is_empty() && !form.is_ascii() { vec![Err("a form with a token holds bytes that are no ASCII")] } else { tokens }
        }
        TokenPlace::Header(name) => shown.headers.get_all(name).iter().map(|value| Ok(whole(value.as_bytes()))).collect(),
        TokenPlace::Subprotocol => {
            subprotocols(shown.headers).filter_map(|entry| entry.strip_prefix(SUBPROTOCOL_PREFIX)).map(encoded).collect()
        }
    }
}

/// A header's whole value is the token; some write the scheme before it all the same.
fn whole(value: &[u8]) -> String {
    let rest = after_scheme(value, "bearer").filter(|rest| rest.starts_with(b" ")).unwrap_or(value);
    String::from_utf8_lossy(rest.trim_ascii()).into_owned()
}

fn encoded(entry: &str) -> Result<String, &'static str> {
    let token = secret::decode(entry).and_then(|bytes| String::from_utf8(bytes).ok());
    token.ok_or("a subprotocol that begins as a token's does is no base64url without padding")
}

/// The entries of all `Sec-WebSocket-Protocol` lines (RFC 6455 §11.3.4).
fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn unreadable(detail: &'static str) -> Credential {
    Credential::Unreadable(Fault::new(Reason::TokenUnreadable, detail))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::credential::PresentedToken;

    fn found(places: &[TokenPlace], query: &str, form: &str, lines: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let shown = Shown { headers: &headers, query: Some(query), form: Some(form.as_bytes()), certificate: None };
        let accept = Accept { bearer_in: places.to_vec(), ..Accept::of(vec![CredentialKind::Bearer]) };
        match credential(&shown, &accept, 8) {
            None => "none".to_owned(),
            Some(Credential::Token(PresentedToken { token, scheme: TokenScheme::Bearer })) => token.expose().to_owned(),
            Some(Credential::Unreadable(fault)) => fault.reason.to_string(),
            Some(_) => "something else".to_owned(),
        }
    }

    #[test]
    fn each_place_is_read_where_it_is_listed_and_nowhere_else() {
        let entry = format!("chat, {SUBPROTOCOL_PREFIX}{}", secret::encode(b"w"));
        let lines = [("x-token", "h"), ("sec-websocket-protocol", entry.as_str())];
        let all = [
            TokenPlace::Query,
            TokenPlace::Body,
            TokenPlace::Header(HeaderName::from_static("x-token")),
            TokenPlace::Subprotocol,
            TokenPlace::Authorization,
        ];
        for (place, expected) in all.iter().zip(["q", "b", "h", "w", "none"]) {
            assert_eq!(found(std::slice::from_ref(place), "access_token=q", "access_token=b", &lines), expected);
        }
        for two in all[..4].windows(2) {
            assert_eq!(found(two, "access_token=q", "access_token=b", &lines), "token-repeated", "{two:?}");
        }
        let accept = Accept { bearer_in: all.to_vec(), ..Accept::of(vec![CredentialKind::Session]) };
        let shown = Shown { headers: &HeaderMap::new(), query: Some("access_token=q"), form: None, certificate: None };
        assert!(credential(&shown, &accept, 8).is_none(), "the route takes no bearer tokens");
    }

    #[test]
    fn what_is_no_token_is_unreadable_and_never_absent() {
        let query = |text: &str| found(&[TokenPlace::Query], text, "", &[]);
        for (text, expected) in [
            ("a=1&access%5Ftoken=a%2Eb%2B", "a.b+"),
            ("access_token=", "token-unreadable"),
            ("access_token", "token-unreadable"),
            ("access_token=a%20b", "token-unreadable"),
            ("access_token=%ff", "token-unreadable"),
            ("access_token=a&access_token=a", "token-repeated"),
            ("access_token=a&%61ccess_token=", "token-repeated"),
            ("access_token=123456789", "token-unreadable"),
            ("Access_Token=a", "none"),
            ("token=a", "none"),
        ] {
            assert_eq!(query(text), expected, "{text}");
        }
        let header = |lines: &[(&'static str, &str)]| found(&[TokenPlace::Header(HeaderName::from_static("x-token"))], "", "", lines);
        for (value, expected) in [
            ("abc", "abc"),
            ("Bearer abc", "abc"),
            ("bearer  abc", "abc"),
            ("Bearer", "Bearer"),
            ("", "token-unreadable"),
            ("Basic abc", "token-unreadable"),
            ("abc, def", "token-unreadable"),
        ] {
            assert_eq!(header(&[("x-token", value)]), expected, "{value}");
        }
        assert_eq!(header(&[("x-token", "a"), ("x-token", "a")]), "token-repeated");
        let form = |text: &str| found(&[TokenPlace::Body], "", text, &[]);
        assert_eq!(form("a=\u{e9}"), "none");
        assert_eq!(form("a=\u{e9}&access_token=a"), "token-unreadable");
        let socket = |lines: &[(&'static str, &str)]| found(&[TokenPlace::Subprotocol], "", "", lines);
        let line = |rest: &str| format!("{SUBPROTOCOL_PREFIX}{rest}");
        assert_eq!(socket(&[("sec-websocket-protocol", &line("YWJj"))]), "abc");
        assert_eq!(socket(&[("sec-websocket-protocol", "chat"), ("sec-websocket-protocol", &line("YWJj"))]), "abc");
        for broken in ["", "YWJ", "YWJj==", "YW/j", "_w"] {
            assert_eq!(socket(&[("sec-websocket-protocol", &line(broken))]), "token-unreadable", "{broken}");
        }
        assert_eq!(socket(&[("sec-websocket-protocol", &format!("{},{}", line("YWJj"), line("YWJj")))]), "token-repeated");
        assert_eq!(socket(&[("sec-websocket-protocol", "base64url.bearer.authorization.k8s.iox, chat")]), "none");
    }
}
