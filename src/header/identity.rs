//! The headers that say who it is: made once per session and route, kept as ready `HeaderValue`s.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::fault::Fault;
use crate::identity::{ClaimPath, Groups, Identity, texts};
use crate::reason::Reason;
use crate::secret::Secret;
use crate::session::Session;

/// Names and values together may not be longer, in bytes; beyond it the request is refused, never cut.
pub const IDENTITY_LIMIT: usize = 8 * 1024;
/// What one header that tells a token may hold, in bytes.
pub const TOKEN_LIMIT: usize = 16 * 1024;

/// A header of the operator's own naming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRule {
    /// Its name; stripped from requests on all routes.
    pub name: HeaderName,
    /// What it says.
    pub template: HeaderTemplate,
}

/// Literal text, `{claims.PATH}`, `{access_token}` and `{id_token}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Claim(ClaimPath),
    AccessToken,
    IdToken,
}

/// The provider's tokens of a session, or the token that a caller showed, for templates that tell them.
#[derive(Clone, Copy, Default)]
pub struct TokensToTell<'a> {
    /// `{access_token}`.
    pub access_token: Option<&'a Secret>,
    /// `{id_token}`.
    pub id_token: Option<&'a str>,
}

impl<'a> TokensToTell<'a> {
    /// Those that a session holds.
    #[must_use]
    pub fn of(session: &'a Session) -> Self {
        Self { access_token: session.tokens.as_ref().map(|tokens| &tokens.access_token), id_token: Some(&session.id_token) }
    }

    /// Of a caller without a session: the token that they showed.
    #[must_use]
    pub const fn shown(token: Option<&'a Secret>) -> Self {
        Self { access_token: token, id_token: None }
    }
}

impl HeaderTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                pieces.push(literal(before)?);
            }
            let (name, after) = after.split_once('}').ok_or("expected a closing } in the template")?;
            pieces.push(match (name, name.strip_prefix("claims.").and_then(ClaimPath::parse)) {
                ("access_token", _) => Piece::AccessToken,
                ("id_token", _) => Piece::IdToken,
                (_, Some(path)) => Piece::Claim(path),
                (_, None) => {
                    return Err(format!(
                        "expected {{claims.PATH}} such as {{claims.tenant}}, {{access_token}} or {{id_token}}; found {{{name}}}"
                    ));
                }
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(literal(rest)?);
        }
        if pieces.is_empty() {
            return Err("expected a template such as \"{claims.tenant}\"".to_owned());
        }
        Ok(Self(pieces))
    }

    /// Whether it tells a token of the provider's.
    #[must_use]
    pub fn tells_tokens(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::AccessToken | Piece::IdToken))
    }

    /// Whether it tells the access token.
    #[must_use]
    pub fn tells_access_token(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::AccessToken))
    }

    /// The value for somebody; `None` when a claim or token is missing, so that no half-filled header is sent.
    fn render(&self, identity: &Identity, tokens: TokensToTell<'_>) -> Option<String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Claim(path) => {
                    let items = texts(path.find(&identity.claims)?);
                    out.push_str(&join(&items));
                }
                Piece::AccessToken => out.push_str(&encode_value(tokens.access_token?.expose())),
                Piece::IdToken => out.push_str(tokens.id_token.filter(|token| !token.is_empty())?),
            }
        }
        Some(out)
    }
}

fn literal(text: &str) -> Result<Piece, String> {
    if text.contains('}') || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(format!("expected printable ASCII and {{claims.PATH}}, {{access_token}} or {{id_token}}; found {text:?}"));
    }
    Ok(Piece::Literal(text.to_owned()))
}

/// Under which names the identity is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Naming {
    /// To an upstream: `X-Forwarded-User` and so on.
    Upstream,
    /// In a forward-auth answer: `X-Auth-Request-User` and so on.
    ForwardAuth,
}

impl Naming {
    const fn names(self) -> [HeaderName; 4] {
        match self {
            Self::Upstream => [
                HeaderName::from_static("x-forwarded-user"),
                HeaderName::from_static("x-forwarded-email"),
                HeaderName::from_static("x-forwarded-preferred-username"),
                HeaderName::from_static("x-forwarded-groups"),
            ],
            Self::ForwardAuth => [
                HeaderName::from_static("x-auth-request-user"),
                HeaderName::from_static("x-auth-request-email"),
                HeaderName::from_static("x-auth-request-preferred-username"),
                HeaderName::from_static("x-auth-request-groups"),
            ],
        }
    }
}

/// Ready-made headers of one identity on one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityHeaders(Vec<(HeaderName, HeaderValue)>);

impl IdentityHeaders {
    /// Makes them. Headers that tell tokens have a limit of their own, 16 KiB each.
    ///
    /// # Errors
    /// [`Reason::IdentityTooLarge`] beyond [`IDENTITY_LIMIT`].
    pub fn new(identity: &Identity, tokens: TokensToTell<'_>, naming: Naming, rules: &[HeaderRule]) -> Result<Self, Fault> {
        let [user, email, preferred_username, groups] = naming.names();
        let mut made: Vec<(HeaderName, String)> = Vec::with_capacity(4 + rules.len());
        made.push((user, encode_value(&identity.user)));
        // What no policy would take for an address is not told as one (GHSA-c5c4).
        let sound = |address: &&str| address.matches('@').count() == 1 && !address.contains(char::is_whitespace);
        if let Some(address) = identity.email.verified().filter(sound) {
            made.push((email, encode_value(address)));
        }
        if let Some(name) = &identity.preferred_username {
            made.push((preferred_username, encode_value(name)));
        }
        match &identity.groups {
            Groups::Listed(list) if !list.is_empty() => made.push((groups, join(list))),
            Groups::Listed(_) | Groups::Overage => {}
        }
        let mut telling = Vec::new();
        for rule in rules {
            if let Some(value) = rule.template.render(identity, tokens) {
                made.retain(|(name, _)| *name != rule.name);
                if !rule.template.tells_tokens() {
                    made.push((rule.name.clone(), value));
                } else if value.len() <= TOKEN_LIMIT {
                    telling.push((rule.name.clone(), value));
                } else {
                    let detail = format!("{} would hold {} bytes, the limit is {TOKEN_LIMIT}", rule.name, value.len());
                    return Err(Fault::new(Reason::IdentityTooLarge, detail));
                }
            }
        }
        let size: usize = made.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size > IDENTITY_LIMIT {
            let detail = format!("the identity headers would hold {size} bytes, the limit is {IDENTITY_LIMIT}");
            return Err(Fault::new(Reason::IdentityTooLarge, detail));
        }
        let secret = telling.into_iter().map(|(name, value)| (name, value, true));
        let values = made.into_iter().map(|(name, value)| (name, value, false)).chain(secret).map(|(name, value, secret)| {
            HeaderValue::try_from(value).map(|mut value| {
                value.set_sensitive(secret);
                (name, value)
            })
        });
        // Every value is printable ASCII by now.
        values.collect::<Result<_, _>>().map(Self).map_err(|_| Fault::new(Reason::Internal, "an identity header is not printable"))
    }

    /// Sets them once, as [`IdentityHeaders::set`] does again and again: nothing is copied.
    pub fn set_once(self, headers: &mut HeaderMap) {
        for (name, value) in self.0 {
            headers.insert(name, value);
        }
    }

    /// Sets them; whatever was there under these names is replaced.
    pub fn set(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.insert(name.clone(), value.clone());
        }
    }
}

fn join(items: &[String]) -> String {
    let mut out = String::with_capacity(items.iter().map(|item| item.len() + 1).sum());
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        encode(item, Comma::Encoded, &mut out);
    }
    out
}

/// Printable ASCII stays; everything else, and `%`, is percent-encoded as UTF-8, so that a value survives every hop and nothing breaks a line.
/// Spaces at the ends are encoded too, since servers trim them.
#[must_use]
pub fn encode_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    encode(text, Comma::Stays, &mut out);
    out
}

/// What becomes of a `,`: in a list it would make two items of one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comma {
    Stays,
    Encoded,
}

fn encode(text: &str, comma: Comma, out: &mut String) {
    // Most values need nothing done.
    if text.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'%' && byte != b',') {
        return out.push_str(text);
    }
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let inner_space = byte == b' ' && at != 0 && at != last;
        let plain = (b'!'..=b'~').contains(&byte) && byte != b'%' && (byte != b',' || comma == Comma::Stays);
        if inner_space || plain {
            out.push(char::from(byte));
        } else {
            use fmt::Write as _;
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::header::{IdentityFamily, UnderscoreNames, strip_identity};
    use crate::identity::{ClaimMapping, EmailVerification, Source};

    fn identity(claims: Value) -> Identity {
        let path = |text| ClaimPath::parse(text).unwrap();
        let mapping = ClaimMapping {
            user: path("sub"),
            email: Some(path("email")),
            groups: Some(path("groups")),
            email_verification: EmailVerification::Required,
        };
        Identity::from_claims("https://i.test", Source::Provider("p".into()), &mapping, claims.as_object().unwrap().clone()).unwrap()
    }

    fn headers(claims: Value, rules: &[(&'static str, &str)]) -> HeaderMap {
        let rule = |(name, template): &(&'static str, &str)| HeaderRule {
            name: HeaderName::from_static(name),
            template: HeaderTemplate::parse(template).unwrap(),
        };
        let rules: Vec<_> = rules.iter().map(rule).collect();
        let mut map = HeaderMap::new();
        IdentityHeaders::new(&identity(claims), TokensToTell::default(), Naming::Upstream, &rules).unwrap().set(&mut map);
        map
    }

    #[test]
    fn claims_become_headers_and_cannot_break_them() {
        let map = headers(
            json!({"sub": "ann\r\nX-Evil: 1", "email": "a@b.test", "email_verified": true, "preferred_username": "Änn %",
                "groups": ["a,b", "c\u{0}", "d e"], "tenant": {"id": "blue"}}),
            &[("x-tenant", "t-{claims.tenant.id}"), ("x-none", "{claims.nothing}")],
        );
        assert_eq!(map["x-forwarded-user"], "ann%0D%0AX-Evil: 1");
        assert_eq!(map["x-forwarded-email"], "a@b.test");
        assert_eq!(map["x-forwarded-preferred-username"], "%C3%84nn %25");
        assert_eq!(map["x-forwarded-groups"], "a%2Cb,c%00,d e");
        assert_eq!(map["x-tenant"], "t-blue");
        assert!(!map.contains_key("x-none"));
    }

    #[test]
    fn an_unverified_email_is_not_told() {
        let map = headers(json!({"sub": "1", "email": "a@b.test", "email_verified": "true"}), &[]);
        assert!(!map.contains_key("x-forwarded-email"));
    }

    #[test]
    fn too_much_is_refused_and_never_cut() {
        let groups: Vec<String> = (0..4096).map(|n| format!("group-number-{n}")).collect();
        let fault = IdentityHeaders::new(&identity(json!({"sub": "1", "groups": groups})), TokensToTell::default(), Naming::Upstream, &[])
            .unwrap_err();
        assert_eq!(fault.reason, Reason::IdentityTooLarge);
    }

    #[test]
    fn templates_say_what_they_expected() {
        for text in ["", "{", "{user}", "{claims.}", "{claims.a..b}", "a\nb", "}"] {
            assert!(HeaderTemplate::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn values_are_printable_and_decode_to_what_they_were(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            let value = encode_value(&text);
            prop_assert!(HeaderValue::try_from(&value).is_ok());
            prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(percent_encoding::percent_decode_str(&value).decode_utf8().unwrap(), text);
        }

        #[test]
        fn nothing_the_downstream_sent_survives(sent in prop::collection::vec(("[xX][-_][fF]orwarded[-_](user|EMAIL|Groups|preferred[-_]username)|X[-_]auth[-_]request[-_]user|x-tenant", "[a-z]{1,8}"), 0..8)) {
            let mut map = HeaderMap::new();
            for (name, value) in &sent {
                map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), format!("evil-{value}").parse().unwrap());
            }
            strip_identity(&mut map, &IdentityFamily::new([&HeaderName::from_static("x-tenant")]), UnderscoreNames::Pass);
            IdentityHeaders::new(&identity(json!({"sub": "ann"})), TokensToTell::default(), Naming::Upstream, &[]).unwrap().set(&mut map);
            prop_assert!(map.values().all(|value| !value.as_bytes().starts_with(b"evil-")));
            prop_assert_eq!(map.len(), 1);
        }
    }
}
