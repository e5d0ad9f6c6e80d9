//! Who somebody is believed to be: what an issuer said, read through the config of that issuer.

mod said;
mod text;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::UnixTime;

pub use said::Said;
pub use text::{Packing, Scopes, Text};

/// What an issuer said of somebody, by claim name.
pub type Claims = Map<String, Value>;

/// Somebody: (`issuer`, `sub`) is who; the rest is what policies and headers read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The issuer, exactly as configured.
    pub issuer: Text,
    /// The issuer's name for them (OpenID Connect Core §2).
    pub sub: Text,
    /// Which table of the config vouches: the `id` of a provider or token issuer.
    pub source: Source,
    /// What the upstream is told: `sub`, or the claim that `user_claim` names.
    pub user: Text,
    /// Their e-mail and what it is worth.
    pub email: Email,
    /// `preferred_username`, for people's eyes.
    pub preferred_username: Option<Text>,
    /// Their groups, where the config says which claim holds them.
    pub groups: Groups,
    /// The token's scopes; of a session those that the provider granted.
    pub scopes: Scopes,
    /// Everything that was said.
    pub claims: Said,
    /// When they proved who they are, where the issuer says so.
    pub auth_time: Option<UnixTime>,
}

/// Who vouches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A `[[provider]]`, by its `id`.
    Provider(Text),
    /// A `[[token_issuer]]`, by its `issuer`.
    TokenIssuer(Text),
    /// The file of API keys.
    ApiKey,
    /// Whoever signed the certificate.
    Certificate,
}

impl Source {
    /// The word for it in `provider` of routes and rules.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Provider(id) | Self::TokenIssuer(id) => id,
            Self::ApiKey => "api_key",
            Self::Certificate => "certificate",
        }
    }
}

/// An e-mail address and whether it may be relied on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Email {
    /// None was given.
    Absent,
    /// Given, and the issuer has verified it (or the config says that its silence will do).
    Verified(Text),
    /// Given and not verified: it counts in no policy and is not sent to the upstream.
    Unverified(Text),
}

impl Email {
    /// The address, if it counts.
    #[must_use]
    pub fn verified(&self) -> Option<&str> {
        match self {
            Self::Verified(address) => Some(address),
            Self::Absent | Self::Unverified(_) => None,
        }
    }
}

/// Groups, or the knowledge that they were left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// These, possibly none.
    Listed(Vec<Text>),
    /// The provider left them out because they are too many (OpenID Connect Core §5.6.2 `_claim_names`; Entra ID's `hasgroups`).
    Overage,
}

/// What an absent `email_verified` is worth. Any value but JSON `true` never counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailVerification {
    /// Only `true` will do.
    Required,
    /// Absent will do too: for providers that never send it.
    IfPresent,
}

/// Where in the claims an issuer keeps what we need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimMapping {
    /// The user's name for the upstream.
    pub user: ClaimPath,
    /// The e-mail; `None`: this issuer's e-mail does not count.
    pub email: Option<ClaimPath>,
    /// The groups; `None`: this issuer's groups do not count.
    pub groups: Option<GroupPaths>,
    /// What an absent `email_verified` is worth.
    pub email_verification: EmailVerification,
}

impl ClaimMapping {
    /// Whether people are named by the claim `email` and this address does not count: whoever may write what they like into their own account
    /// would else be known by somebody else's name. Of a token issuer silence will do, whose table has no word for it.
    #[must_use]
    pub fn names_by_unverified_email(&self, source: &Source, claims: &Claims) -> bool {
        let verified = claims.get("email_verified");
        let silence = self.email_verification == EmailVerification::IfPresent || matches!(source, Source::TokenIssuer(_));
        let counts = verified == Some(&Value::Bool(true)) || verified.is_none() && silence;
        self.user.as_str() == "email" && claims.contains_key("email") && !counts
    }
}

/// Where groups are: in one place or in several, each with what is put before the names that stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPaths(Vec<(ClaimPath, String)>);

impl From<ClaimPath> for GroupPaths {
    fn from(path: ClaimPath) -> Self {
        Self(vec![(path, String::new())])
    }
}

impl GroupPaths {
    /// In these places; `None` where there is none.
    #[must_use]
    pub fn several(places: Vec<(ClaimPath, String)>) -> Option<Self> {
        (!places.is_empty()).then_some(Self(places))
    }

    /// All groups of all places, each once. That some were left out of one place is as if all were.
    fn find(&self, claims: &Claims) -> Groups {
        if self.0.iter().any(|(path, _)| left_out(path, claims)) {
            return Groups::Overage;
        }
        let mut seen = BTreeSet::new();
        let found = self.0.iter().flat_map(|(path, before)| {
            path.find(claims).map(texts).unwrap_or_default().into_iter().map(move |name| format!("{before}{name}"))
        });
        Groups::Listed(found.filter(|name| seen.insert(name.clone())).map(Text::from).collect())
    }
}

/// A place in the claims: a literal name, else members separated by dots (`realm_access.roles`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath(String);

impl ClaimPath {
    /// `None` for an empty path or an empty member.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let sound = !text.is_empty() && text.split('.').all(|member| !member.is_empty());
        sound.then(|| Self(text.to_owned()))
    }

    /// The claim itself, if it is there. A literal name comes before dots, since names like `https://x.example/roles` hold some.
    #[must_use]
    pub fn find<'a>(&self, claims: &'a Claims) -> Option<&'a Value> {
        if let Some(value) = claims.get(&self.0) {
            return Some(value);
        }
        let mut members = self.0.split('.');
        let mut value = claims.get(members.next()?)?;
        for member in members {
            value = value.as_object()?.get(member)?;
        }
        Some(value)
    }

    /// The first member: what `_claim_names` would list.
    fn root(&self) -> &str {
        self.0.split('.').next().unwrap_or(&self.0)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A claim as texts: a string, number or boolean is one; a list is each of its; an object is none.
#[must_use]
pub fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Bool(yes) => vec![yes.to_string()],
        Value::Array(items) => items.iter().filter(|item| !item.is_array()).flat_map(texts).collect(),
        Value::Null | Value::Object(_) => Vec::new(),
    }
}

impl Identity {
    /// Reads claims that were verified before. `None` when `sub` is missing, empty or no string, or when the claim that `user_claim` names
    /// is none: an identity without a name is none.
    #[must_use]
    pub fn from_claims(issuer: &str, source: Source, mapping: &ClaimMapping, claims: Claims) -> Option<Self> {
        let text = |path: &ClaimPath| path.find(&claims).and_then(Value::as_str).map(Text::from);
        let sub = claims.get("sub").and_then(Value::as_str).filter(|sub| !sub.is_empty())?.into();
        let user = text(&mapping.user).filter(|user| !user.is_empty())?;
        if mapping.names_by_unverified_email(&source, &claims) {
            return None;
        }
        let email = match mapping.email.as_ref().and_then(text) {
            None => Email::Absent,
            // `email_verified` speaks of the claim `email` (OpenID Connect Core §5.1): of an address from elsewhere it says nothing.
            Some(address) => match (spoken_of(&claims, &address), mapping.email_verification) {
                (Some(Value::Bool(true)), _) | (None, EmailVerification::IfPresent) => Email::Verified(address),
                _ => Email::Unverified(address),
            },
        };
        let groups = match &mapping.groups {
            None => Groups::Listed(Vec::new()),
            Some(paths) => paths.find(&claims),
        };
        Some(Self {
            issuer: issuer.into(),
            sub,
            source,
            user,
            email,
            preferred_username: claims.get("preferred_username").and_then(Value::as_str).map(Text::from),
            groups,
            scopes: Scopes::default(),
            auth_time: claims.get("auth_time").and_then(Value::as_u64).map(UnixTime),
            claims: claims.into(),
        })
    }

    /// One text that holds what is said here and `beside`.
    #[must_use]
    pub fn packing<'a>(&'a self, beside: impl IntoIterator<Item = &'a str>) -> Packing {
        let (source, email) = match (&self.source, &self.email) {
            (Source::Provider(id) | Source::TokenIssuer(id), email) => (id.as_str(), email),
            (Source::ApiKey | Source::Certificate, email) => ("", email),
        };
        let email = if let Email::Verified(address) | Email::Unverified(address) = email { address } else { "" };
        let groups = if let Groups::Listed(groups) = &self.groups { groups.as_slice() } else { &[] };
        let own =
            [&*self.issuer, &*self.sub, source, &*self.user, email, self.preferred_username.as_deref().unwrap_or(""), self.scopes.text()];
        Packing::new(self.claims.text(), own.into_iter().chain(groups.iter().map(Text::as_str)).chain(beside))
    }

    /// The same as parts of one text, for those that are kept for long and in numbers. Claims are read from it when somebody asks for one.
    #[must_use]
    pub fn packed(&self, packing: &Packing) -> Self {
        let part = |text: &Text| packing.part(text);
        Self {
            issuer: part(&self.issuer),
            sub: part(&self.sub),
            source: match &self.source {
                Source::Provider(id) => Source::Provider(part(id)),
                Source::TokenIssuer(id) => Source::TokenIssuer(part(id)),
                Source::ApiKey => Source::ApiKey,
                Source::Certificate => Source::Certificate,
            },
            user: part(&self.user),
            email: match &self.email {
                Email::Absent => Email::Absent,
                Email::Verified(address) => Email::Verified(part(address)),
                Email::Unverified(address) => Email::Unverified(part(address)),
            },
            preferred_username: self.preferred_username.as_ref().map(part),
            groups: match &self.groups {
                Groups::Listed(groups) => Groups::Listed(groups.iter().map(part).collect()),
                Groups::Overage => Groups::Overage,
            },
            scopes: self.scopes.part_of(packing),
            claims: self.claims.packed(packing),
            auth_time: self.auth_time,
        }
    }

    /// The name a page greets them by.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.claims
            .get("name")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
            .or(self.preferred_username.as_deref())
            .or(self.email.verified())
            .unwrap_or(&self.user)
    }
}

/// What `email_verified` says of this address, if it speaks of it.
fn spoken_of<'a>(claims: &'a Claims, address: &str) -> Option<&'a Value> {
    let same = claims.get("email").and_then(Value::as_str) == Some(address);
    claims.get("email_verified").filter(|_| same)
}

/// Whether the provider says that this claim exists and was left out.
fn left_out(path: &ClaimPath, claims: &Claims) -> bool {
    let named = claims
        .get("_claim_names")
        .and_then(Value::as_object)
        .is_some_and(|names| names.contains_key(path.as_str()) || names.contains_key(path.root()));
    let flagged = path.find(claims).is_none() && matches!(claims.get("hasgroups"), Some(value) if value != &Value::Bool(false));
    named || flagged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping(email_verification: EmailVerification) -> ClaimMapping {
        let path = |text| ClaimPath::parse(text).unwrap();
        ClaimMapping { user: path("sub"), email: Some(path("email")), groups: Some(path("groups").into()), email_verification }
    }

    fn identity(claims: Value, verification: EmailVerification) -> Option<Identity> {
        let claims = claims.as_object().unwrap().clone();
        Identity::from_claims("https://idp.test", Source::Provider("corp".into()), &mapping(verification), claims)
    }

    #[test]
    fn an_email_counts_when_verified_is_json_true() {
        use EmailVerification::{IfPresent, Required};
        let address = || Text::from("a@b.test");
        for (verified, when_required, if_present) in [
            (Some(json!(true)), Email::Verified(address()), Email::Verified(address())),
            (None, Email::Unverified(address()), Email::Verified(address())),
            (Some(json!(false)), Email::Unverified(address()), Email::Unverified(address())),
            (Some(json!("true")), Email::Unverified(address()), Email::Unverified(address())),
            (Some(json!(1)), Email::Unverified(address()), Email::Unverified(address())),
            (Some(json!(null)), Email::Unverified(address()), Email::Unverified(address())),
        ] {
            let mut claims = json!({"sub": "1", "email": "a@b.test"});
            if let Some(verified) = verified {
                claims["email_verified"] = verified;
            }
            assert_eq!(identity(claims.clone(), Required).unwrap().email, when_required, "{claims}");
            assert_eq!(identity(claims.clone(), IfPresent).unwrap().email, if_present, "{claims}");
        }
    }

    #[test]
    fn nobody_is_named_by_an_address_that_does_not_count() {
        use EmailVerification::{IfPresent, Required};
        let provider = || Source::Provider("p".into());
        let issuer = || Source::TokenIssuer("https://i.test".into());
        for (verified, source, verification, named) in [
            (Some(json!(true)), provider(), Required, true),
            (None, provider(), Required, false),
            (None, provider(), IfPresent, true),
            (Some(json!(false)), provider(), IfPresent, false),
            (Some(json!("true")), provider(), Required, false),
            (None, issuer(), Required, true),
            (Some(json!(false)), issuer(), Required, false),
        ] {
            let mapping = ClaimMapping { user: ClaimPath::parse("email").unwrap(), ..mapping(verification) };
            let mut claims = json!({"sub": "1", "email": "ceo@company.test"});
            if let Some(verified) = verified {
                claims["email_verified"] = verified;
            }
            let found = Identity::from_claims("https://i.test", source, &mapping, claims.as_object().unwrap().clone());
            assert_eq!(found.map(|identity| identity.user).as_deref(), named.then_some("ceo@company.test"), "{claims} {verification:?}");
        }
    }

    #[test]
    fn a_verified_email_vouches_for_no_other_claim() {
        let claims = json!({"sub": "1", "email": "own@evil.test", "email_verified": true, "preferred_username": "ceo@company.test"});
        let other = |verification| {
            let mapping = ClaimMapping { email: ClaimPath::parse("preferred_username"), ..mapping(verification) };
            Identity::from_claims("https://i.test", Source::Provider("p".into()), &mapping, claims.as_object().unwrap().clone())
                .unwrap()
                .email
        };
        let address = Text::from("ceo@company.test");
        assert_eq!(other(EmailVerification::Required), Email::Unverified(address.clone()));
        assert_eq!(other(EmailVerification::IfPresent), Email::Verified(address));
    }

    #[test]
    fn groups_left_out_are_not_no_groups() {
        for (claims, expected) in [
            (json!({"sub": "1"}), Groups::Listed(vec![])),
            (json!({"sub": "1", "groups": ["a", 7, ["x"], {}]}), Groups::Listed(vec!["a".into(), "7".into()])),
            (json!({"sub": "1", "groups": "one"}), Groups::Listed(vec!["one".into()])),
            (json!({"sub": "1", "_claim_names": {"groups": "src1"}}), Groups::Overage),
            (json!({"sub": "1", "_claim_names": {"other": "src1"}}), Groups::Listed(vec![])),
            (json!({"sub": "1", "hasgroups": true}), Groups::Overage),
            (json!({"sub": "1", "hasgroups": "true"}), Groups::Overage),
        ] {
            assert_eq!(identity(claims.clone(), EmailVerification::Required).unwrap().groups, expected, "{claims}");
        }
    }

    #[test]
    fn groups_of_several_places_keep_apart_by_what_stands_before_them() {
        let place = |text: &str, before: &str| (ClaimPath::parse(text).unwrap(), before.to_owned());
        let several = |places: Vec<(ClaimPath, String)>| {
            let mapping = ClaimMapping { groups: GroupPaths::several(places), ..mapping(EmailVerification::Required) };
            move |claims: Value| {
                Identity::from_claims("i", Source::Provider("p".into()), &mapping, claims.as_object().unwrap().clone()).unwrap().groups
            }
        };
        let listed = |names: &[&str]| Groups::Listed(names.iter().copied().map(Text::from).collect());
        let claims =
            json!({"sub": "1", "groups": ["admin", "staff"], "realm_access": {"roles": ["admin", "user"]}, "https://x.test/g": "one"});
        let both = several(vec![place("groups", ""), place("realm_access.roles", "role:"), place("https://x.test/g", "")]);
        assert_eq!(both(claims.clone()), listed(&["admin", "staff", "role:admin", "role:user", "one"]));
        assert_eq!(several(vec![place("groups", ""), place("realm_access.roles", "")])(claims), listed(&["admin", "staff", "user"]));
        assert_eq!(both(json!({"sub": "1", "realm_access": {"roles": ["user"]}, "_claim_names": {"groups": "s"}})), Groups::Overage);
        assert_eq!(both(json!({"sub": "1"})), listed(&[]));
        assert_eq!(GroupPaths::several(vec![]), None);
    }

    #[test]
    fn no_subject_no_identity() {
        for claims in [json!({}), json!({"sub": ""}), json!({"sub": 7}), json!({"sub": null})] {
            assert!(identity(claims, EmailVerification::Required).is_none());
        }
    }

    #[test]
    fn a_literal_claim_name_comes_before_dots() {
        let claims = json!({"a.b": "literal", "a": {"b": "nested", "c": {"d": 1}}});
        let find = |path: &str| ClaimPath::parse(path).unwrap().find(claims.as_object().unwrap()).cloned();
        assert_eq!(find("a.b"), Some(json!("literal")));
        assert_eq!(find("a.c.d"), Some(json!(1)));
        assert_eq!(find("a.x"), None);
        assert!(ClaimPath::parse("a..b").is_none());
    }
}
