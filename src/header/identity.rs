//! The headers that say who it is: made once per session and route, kept as ready `HeaderValue`s.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::template::{Comma, HeaderRule, TokensToTell, encode, encode_value, sound_email};
use crate::fault::Fault;
use crate::identity::{Groups, Identity, Text};
use crate::reason::Reason;

/// Names and values together may not be longer, in bytes; beyond it the request is refused, never cut.
pub const IDENTITY_LIMIT: usize = 8 * 1024;
/// What one header that tells a token may hold, in bytes.
pub const TOKEN_LIMIT: usize = 16 * 1024;

/// One of the headers that say who it is, as `identity_headers` of a route names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityHeader {
    /// `X-Forwarded-User`.
    User,
    /// `X-Forwarded-Email`.
    Email,
    /// `X-Forwarded-Preferred-Username`.
    PreferredUsername,
    /// `X-Forwarded-Groups`.
    Groups,
}

impl IdentityHeader {
    /// All of them, with their words in the config.
    pub const ALL: [(&'static str, Self); 4] =
        [("user", Self::User), ("email", Self::Email), ("preferred_username", Self::PreferredUsername), ("groups", Self::Groups)];
}

/// What one route tells of somebody.
#[derive(Clone, Copy, Debug)]
pub struct Telling<'a> {
    /// The route's number: its place in the file is another route's in another config.
    pub route: u64,
    /// Which of our own headers.
    pub names: &'a [IdentityHeader],
    /// Those of the operator's naming.
    pub rules: &'a [HeaderRule],
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
pub struct IdentityHeaders(Box<[(HeaderName, HeaderValue)]>);

impl IdentityHeaders {
    /// Makes them. Headers that tell tokens or secrets have a limit of their own, 16 KiB each.
    ///
    /// # Errors
    /// [`Reason::IdentityTooLarge`] beyond [`IDENTITY_LIMIT`]; [`Reason::HeaderFileUnreadable`] and [`Reason::BasicNameUnfit`] where a template
    /// cannot be filled.
    pub fn new(identity: &Identity, tokens: TokensToTell<'_>, naming: Naming, telling: Telling<'_>) -> Result<Self, Fault> {
        let rules = telling.rules;
        let mut made: Vec<(HeaderName, String)> = Vec::with_capacity(4 + rules.len());
        let [user, email, preferred_username, groups] = naming.names();
        for name in telling.names {
            match name {
                IdentityHeader::User => made.push((user.clone(), encode_value(&identity.user))),
                IdentityHeader::Email => made.extend(sound_email(identity).map(|address| (email.clone(), encode_value(address)))),
                IdentityHeader::PreferredUsername => {
                    made.extend(identity.preferred_username.as_ref().map(|name| (preferred_username.clone(), encode_value(name))));
                }
                IdentityHeader::Groups => match &identity.groups {
                    Groups::Listed(list) if !list.is_empty() => made.push((groups.clone(), join(list))),
                    Groups::Listed(_) | Groups::Overage => {}
                },
            }
        }
        let mut secrets = Vec::new();
        for rule in rules {
            // In place of ours also where there is nothing to tell: the same name would else say now this of people and now that.
            made.retain(|(name, _)| *name != rule.name);
            let Some(value) = rule.template.render(identity, tokens)? else { continue };
            if !rule.template.tells_secrets() {
                made.push((rule.name.clone(), value));
            } else if value.len() <= TOKEN_LIMIT {
                secrets.push((rule.name.clone(), value));
            } else {
                let detail = format!("{} would hold {} bytes, the limit is {TOKEN_LIMIT}", rule.name, value.len());
                return Err(Fault::new(Reason::IdentityTooLarge, detail));
            }
        }
        let size: usize = made.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size > IDENTITY_LIMIT {
            let detail = format!("the identity headers would hold {size} bytes, the limit is {IDENTITY_LIMIT}");
            return Err(Fault::new(Reason::IdentityTooLarge, detail));
        }
        // Parts of one block: they are kept for long and in numbers.
        let whole = Bytes::from(made.iter().map(|(_, value)| value.as_str()).collect::<String>().into_boxed_str().into_boxed_bytes());
        let mut from = 0;
        let parts = made.into_iter().map(|(name, value)| {
            let part = whole.slice(from..from + value.len());
            from += value.len();
            HeaderValue::from_maybe_shared(part).map(|value| (name, value))
        });
        let secrets = secrets.into_iter().map(|(name, value)| {
            HeaderValue::try_from(value).map(|mut value| {
                value.set_sensitive(true);
                (name, value)
            })
        });
        // Every value is printable ASCII by now.
        let headers = parts.chain(secrets).collect::<Result<_, _>>();
        headers.map(Self).map_err(|_| Fault::new(Reason::Internal, "an identity header is not printable"))
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

fn join(items: &[Text]) -> String {
    let mut out = String::with_capacity(items.iter().map(|item| item.len() + 1).sum());
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        encode(item, Comma::Encoded, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::header::{HeaderTemplate, IdentityFamily, UnderscoreNames, strip_identity};
    use crate::identity::{ClaimMapping, ClaimPath, EmailVerification, Source};

    fn identity(claims: Value) -> Identity {
        let path = |text| ClaimPath::parse(text).unwrap();
        let mapping = ClaimMapping {
            user: path("sub"),
            email: Some(path("email")),
            groups: Some(path("groups").into()),
            email_verification: EmailVerification::Required,
        };
        Identity::from_claims("https://i.test", Source::Provider("p".into()), &mapping, claims.as_object().unwrap().clone()).unwrap()
    }

    const ALL: &[IdentityHeader] =
        &[IdentityHeader::User, IdentityHeader::Email, IdentityHeader::PreferredUsername, IdentityHeader::Groups];

    fn all(rules: &[HeaderRule]) -> Telling<'_> {
        Telling { route: 0, names: ALL, rules }
    }

    fn headers(claims: Value, rules: &[(&'static str, &str)]) -> HeaderMap {
        let no_files = |_: &str| Err("no files here".to_owned());
        let rule = |(name, template): &(&'static str, &str)| HeaderRule {
            name: HeaderName::from_static(name),
            template: HeaderTemplate::parse(template, &no_files).unwrap(),
        };
        let rules: Vec<_> = rules.iter().map(rule).collect();
        let mut map = HeaderMap::new();
        IdentityHeaders::new(&identity(claims), TokensToTell::default(), Naming::Upstream, all(&rules)).unwrap().set(&mut map);
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
    fn a_header_of_the_operators_own_stands_in_place_of_ours_though_it_has_nothing_to_tell() {
        let map = headers(json!({"sub": "ann"}), &[("x-forwarded-user", "{claims.upn}")]);
        assert!(!map.contains_key("x-forwarded-user"), "{map:?}");
        let map = headers(json!({"sub": "ann", "upn": "a@b.test"}), &[("x-forwarded-user", "{claims.upn}")]);
        assert_eq!(map["x-forwarded-user"], "a@b.test");
    }

    #[test]
    fn an_unverified_email_is_not_told() {
        let map = headers(json!({"sub": "1", "email": "a@b.test", "email_verified": "true"}), &[]);
        assert!(!map.contains_key("x-forwarded-email"));
    }

    #[test]
    fn too_much_is_refused_and_never_cut() {
        let groups: Vec<String> = (0..4096).map(|n| format!("group-number-{n}")).collect();
        let fault =
            IdentityHeaders::new(&identity(json!({"sub": "1", "groups": groups})), TokensToTell::default(), Naming::Upstream, all(&[]))
                .unwrap_err();
        assert_eq!(fault.reason, Reason::IdentityTooLarge);
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
            IdentityHeaders::new(&identity(json!({"sub": "ann"})), TokensToTell::default(), Naming::Upstream, all(&[])).unwrap().set(&mut map);
            prop_assert!(map.values().all(|value| !value.as_bytes().starts_with(b"evil-")));
            prop_assert_eq!(map.len(), 1);
        }
    }
}
