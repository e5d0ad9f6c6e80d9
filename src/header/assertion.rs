//! What the gateway's assertion tells an upstream of somebody: who they are, for whom it is meant, and what else the route chose.

use std::fmt;

use http::HeaderName;
use serde_json::{Map, Value, json};

use crate::identity::{ClaimPath, Groups, Identity};
use crate::secret;

/// Where the assertion stands, in requests and in answers of forward-auth. In the identity family by its beginning: stripped from every request.
pub const DOORWARD_ASSERTION: HeaderName = HeaderName::from_static("doorward-assertion");

/// The longest value of that header, in bytes; beyond it the request is refused, never cut.
pub const ASSERTION_LIMIT: usize = 16 * 1024;

/// Claims that have their meaning already and are not to be chosen.
const OWN: [&str; 9] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "gateway"];

/// `assertion` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertionRule {
    /// `aud`: whom it is meant for, and nobody else.
    pub audience: String,
    /// What it tells beside who it is.
    pub claims: Vec<ToldClaim>,
}

/// One of `assertion_claims`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldClaim(Told);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    User,
    Email,
    PreferredUsername,
    Groups,
    Claim(ClaimPath),
}

impl ToldClaim {
    /// Reads one. `user`, `email`, `preferred_username` and `groups` are what the identity headers say as well: the claims that the issuer's
    /// table names, the e-mail only where it counts. Everything else is a claim of the issuer's by name or path, told as it came.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let told = match text {
            "user" => Told::User,
            "email" => Told::Email,
            "preferred_username" => Told::PreferredUsername,
            "groups" => Told::Groups,
            _ => match ClaimPath::parse(text) {
                Some(_) if OWN.iter().any(|own| text == *own || text.strip_prefix(own).is_some_and(|rest| rest.starts_with('.'))) => {
                    return Err(format!("{text:?} is the assertion's own: it always has iss, sub, aud, exp, iat, jti and gateway"));
                }
                Some(path) => Told::Claim(path),
                None => return Err(format!("expected a claim by name or path such as \"tenant.id\"; found {text:?}")),
            },
        };
        Ok(Self(told))
    }

    fn name(&self) -> &str {
        match &self.0 {
            Told::User => "user",
            Told::Email => "email",
            Told::PreferredUsername => "preferred_username",
            Told::Groups => "groups",
            Told::Claim(path) => path.as_str(),
        }
    }

    /// Its value; `None` where nothing was said that counts.
    fn of(&self, identity: &Identity) -> Option<Value> {
        match &self.0 {
            Told::User => Some(json!(identity.user)),
            Told::Email => identity.email.verified().map(Value::from),
            Told::PreferredUsername => identity.preferred_username.as_deref().map(Value::from),
            Told::Groups => match &identity.groups {
                Groups::Listed(groups) => Some(json!(groups)),
                // Left out by the provider: that is not "none".
                Groups::Overage => None,
            },
            Told::Claim(path) => path.find(&identity.claims).cloned(),
        }
    }
}

impl AssertionRule {
    /// Everything that it says of somebody here; the times, `jti` and `gateway` come with the signature. `iss` and `sub` are those of whoever
    /// vouched for them first: the two together are who it is, here as everywhere.
    #[must_use]
    pub fn told(&self, identity: &Identity) -> Map<String, Value> {
        let mut told = Map::new();
        for claim in &self.claims {
            if let Some(value) = claim.of(identity) {
                put(&mut told, claim, value, &identity.claims);
            }
        }
        told.insert("iss".to_owned(), json!(identity.issuer));
        told.insert("sub".to_owned(), json!(identity.sub));
        told.insert("aud".to_owned(), json!(self.audience));
        told
    }

    /// The same for all of whom the same is told, and for nobody else: an assertion may be used again where this is equal.
    #[must_use]
    pub fn fingerprint(&self, identity: &Identity) -> [u8; 32] {
        let mut all = Vec::with_capacity(256);
        let mut part = |bytes: &[u8]| {
            all.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            all.extend_from_slice(bytes);
        };
        part(self.audience.as_bytes());
        part(identity.issuer.as_bytes());
        part(identity.sub.as_bytes());
        for claim in &self.claims {
            if let Some(value) = claim.of(identity) {
                part(claim.name().as_bytes());
                part(value.to_string().as_bytes());
            }
        }
        secret::sha256(&all)
    }
}

/// A claim by its literal name stays one; one by its path stands where it stood, inside the objects that lead to it.
fn put(told: &mut Map<String, Value>, claim: &ToldClaim, value: Value, claims: &Map<String, Value>) {
    let name = claim.name();
    let (path, last) = match name.rsplit_once('.') {
        Some((path, last)) if matches!(claim.0, Told::Claim(_)) && !claims.contains_key(name) => (Some(path), last),
        _ => (None, name),
    };
    let mut place = told;
    for member in path.into_iter().flat_map(|path| path.split('.')) {
        let inner = place.entry(member).or_insert_with(|| Value::Object(Map::new()));
        // Something else may stand there only under a special name, which has the say.
        let Some(inner) = inner.as_object_mut() else { return };
        place = inner;
    }
    place.insert(last.to_owned(), value);
}

impl fmt::Display for ToldClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{ClaimMapping, EmailVerification, Source};

    fn identity(claims: Value) -> Identity {
        let path = |text| ClaimPath::parse(text).unwrap();
        let mapping = ClaimMapping {
            user: path("upn"),
            email: Some(path("email")),
            groups: Some(path("realm.roles").into()),
            email_verification: EmailVerification::Required,
        };
        Identity::from_claims("https://i.test", Source::Provider("p".into()), &mapping, claims.as_object().unwrap().clone()).unwrap()
    }

    fn rule(claims: &[&str]) -> AssertionRule {
        AssertionRule { audience: "orders".into(), claims: claims.iter().map(|text| ToldClaim::parse(text).unwrap()).collect() }
    }

    #[test]
    fn who_it_is_stands_there_as_the_issuer_said_and_nothing_else_by_itself() {
        let ann = identity(json!({"sub": "1", "upn": "ann", "email": "a@b.test", "email_verified": true, "iss": "https://evil.test"}));
        assert_eq!(Value::Object(rule(&[]).told(&ann)), json!({"iss": "https://i.test", "sub": "1", "aud": "orders"}));
    }

    #[test]
    fn chosen_claims_are_told_as_they_came_and_special_ones_as_they_count() {
        let ann = identity(json!({"sub": "1", "upn": "ann", "email": "a@b.test", "email_verified": "true", "groups": ["not mapped"],
            "realm": {"roles": ["staff"], "x": 1}, "tenant": {"id": "blue", "plan": "gold"}, "https://x.test/a": [true], "n": null}));
        let chosen = ["user", "email", "groups", "realm.roles", "tenant.id", "https://x.test/a", "nothing", "n.m", "preferred_username"];
        let told = Value::Object(rule(&chosen).told(&ann));
        assert_eq!(
            told,
            json!({"iss": "https://i.test", "sub": "1", "aud": "orders", "user": "ann", "groups": ["staff"],
                "realm": {"roles": ["staff"]}, "tenant": {"id": "blue"}, "https://x.test/a": [true]})
        );
        // The same address once it counts.
        let ann = identity(json!({"sub": "1", "upn": "ann", "email": "a@b.test", "email_verified": true}));
        assert_eq!(rule(&["email"]).told(&ann)["email"], "a@b.test");
    }

    #[test]
    fn what_is_the_assertions_own_cannot_be_chosen() {
        for text in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "gateway", "iss.x", "", ".", "a..b"] {
            assert!(ToldClaim::parse(text).is_err(), "{text:?}");
        }
        assert!(ToldClaim::parse("issuer").is_ok());
    }

    #[test]
    fn a_fingerprint_is_the_same_exactly_where_the_same_is_told() {
        let ann = |more: Value| {
            let mut claims = json!({"sub": "1", "upn": "ann"});
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            identity(claims)
        };
        let base = rule(&["tenant"]);
        let of = |rule: &AssertionRule, who: &Identity| rule.fingerprint(who);
        let plain = of(&base, &ann(json!({})));
        assert_eq!(plain, of(&base, &ann(json!({"unchosen": 1}))), "what is not told makes no difference");
        let others = [
            of(&base, &ann(json!({"tenant": "a"}))),
            of(&base, &ann(json!({"tenant": "b"}))),
            of(&base, &ann(json!({"sub": "2"}))),
            of(&AssertionRule { audience: "other".into(), ..base.clone() }, &ann(json!({}))),
            of(&rule(&["tenant", "upn"]), &ann(json!({}))),
            of(&base, &Identity { issuer: "https://j.test".into(), ..ann(json!({})) }),
        ];
        for (at, one) in others.iter().enumerate() {
            assert_ne!(*one, plain);
            assert!(!others[..at].contains(one), "{at}");
        }
    }
}
