//! Evaluating a policy.

use std::collections::BTreeSet;

use super::{EmailAddress, Policy, Rule};
use crate::identity::{ClaimPath, Email, Groups, Identity, texts};
use crate::reason::Reason;

/// Why a policy does not let somebody through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which entry of the closed list.
    pub reason: Reason,
    /// For the log: which requirement failed.
    pub detail: String,
    /// The scopes that a token would have needed, when that is what failed (RFC 6750 §3, `scope`).
    pub scopes: Vec<String>,
}

impl Policy {
    /// Whether `identity` is allowed.
    ///
    /// # Errors
    /// The requirement that failed.
    pub fn evaluate(&self, identity: &Identity) -> Result<(), Refusal> {
        self.rule.evaluate(identity).map_err(|refusal| Refusal { detail: format!("policy {:?}: {}", self.id, refusal.detail), ..refusal })
    }
}

impl Rule {
    pub(super) fn evaluate(&self, identity: &Identity) -> Result<(), Refusal> {
        match self {
            Self::AnyAuthenticated => Ok(()),
            // An empty table asks for nothing and so allows nobody; the config refuses it, this holds should one be made another way.
            Self::All(rules) if rules.is_empty() => Err(refuse(Reason::NotAllowed, "an empty rule allows nobody")),
            Self::All(rules) => rules.iter().try_for_each(|rule| rule.evaluate(identity)),
            Self::Any(rules) => any(rules, identity),
            Self::Provider(ids) => provider(ids, identity),
            Self::Emails(addresses) => {
                let address = email(identity)?;
                held(addresses.contains(&address), "emails does not hold the address")
            }
            Self::EmailsFile(list) => {
                let address = email(identity)?;
                held(list.holds(&address), "emails_file does not hold the address")
            }
            Self::EmailDomains(domains) => {
                let address = email(identity)?;
                held(domains.contains(address.domain()), "email_domains does not hold the address's domain")
            }
            Self::Groups(wanted) => match &identity.groups {
                Groups::Overage => Err(refuse(Reason::GroupsOverage, "the provider left the groups out because they are too many")),
                Groups::Listed(groups) => held(groups.iter().any(|group| wanted.contains(group.as_str())), "in none of the groups"),
            },
            Self::Scopes(wanted) => {
                if wanted.iter().all(|scope| identity.scopes.contains(scope)) {
                    return Ok(());
                }
                let scopes = wanted.iter().cloned().collect();
                Err(Refusal { scopes, ..refuse(Reason::InsufficientScope, "a scope is missing") })
            }
            Self::Claim(path, values) => held(any_value(path, values, identity), &format!("claim {path} has none of the values")),
        }
    }
}

/// One that holds is enough. When none does, the most telling refusal is given: what only concerns another provider says least.
fn any(rules: &[Rule], identity: &Identity) -> Result<(), Refusal> {
    let mut telling: Option<Refusal> = None;
    for rule in rules {
        match rule.evaluate(identity) {
            Ok(()) => return Ok(()),
            Err(refusal) => {
                let weight = |reason| match reason {
                    Reason::WrongProvider => 0,
                    Reason::NotAllowed => 1,
                    _ => 2,
                };
                if telling.as_ref().is_none_or(|known| weight(refusal.reason) > weight(known.reason)) {
                    telling = Some(refusal);
                }
            }
        }
    }
    Err(telling.unwrap_or_else(|| refuse(Reason::NotAllowed, "an empty any_of allows nobody")))
}

pub(super) fn provider_is(ids: &BTreeSet<String>, identity: &Identity) -> bool {
    ids.contains(identity.source.id())
}

pub(super) fn any_value(path: &ClaimPath, values: &BTreeSet<String>, identity: &Identity) -> bool {
    path.find(&identity.claims).map(texts).unwrap_or_default().iter().any(|value| values.contains(value))
}

fn provider(ids: &BTreeSet<String>, identity: &Identity) -> Result<(), Refusal> {
    if provider_is(ids, identity) { Ok(()) } else { Err(refuse(Reason::WrongProvider, "the rule speaks of another provider")) }
}

fn email(identity: &Identity) -> Result<EmailAddress, Refusal> {
    match &identity.email {
        Email::Verified(address) => EmailAddress::parse(address).ok_or_else(|| refuse(Reason::EmailMalformed, "the address is malformed")),
        Email::Unverified(_) => Err(refuse(Reason::EmailNotVerified, "the provider has not verified the address")),
        Email::Absent => Err(refuse(Reason::NotAllowed, "no e-mail was given")),
    }
}

fn held(holds: bool, detail: &str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refuse(Reason::NotAllowed, detail)) }
}

fn refuse(reason: Reason, detail: &str) -> Refusal {
    Refusal { reason, detail: detail.to_owned(), scopes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::{ClaimMapping, ClaimPath, EmailVerification, Source};

    fn identity(provider: &str, claims: Value, scopes: &[&str]) -> Identity {
        let path = |text| ClaimPath::parse(text).unwrap();
        let mapping = ClaimMapping {
            user: path("sub"),
            email: Some(path("email")),
            groups: Some(path("groups").into()),
            email_verification: EmailVerification::Required,
        };
        let claims = claims.as_object().unwrap().clone();
        let mut identity = Identity::from_claims("https://i.test", Source::Provider(provider.into()), &mapping, claims).unwrap();
        identity.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        identity
    }

    fn ann() -> Identity {
        identity(
            "corp",
            json!({"sub": "1", "email": "Ann@Company.com", "email_verified": true, "groups": ["staff"], "tenant": {"id": "blue"}, "level": 7}),
            &["a", "b"],
        )
    }

    fn set(items: &[&str]) -> std::collections::BTreeSet<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    fn reason(rule: Rule, identity: &Identity) -> Option<Reason> {
        Policy { id: "p".into(), rule }.evaluate(identity).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn each_rule_has_its_yes_and_its_no() {
        let emails = |list: &[&str]| Rule::Emails(list.iter().map(|text| EmailAddress::parse(text).unwrap()).collect());
        let claim = |path: &str, values: &[&str]| Rule::Claim(ClaimPath::parse(path).unwrap(), set(values));
        let denied = Some(Reason::NotAllowed);
        for (rule, expected) in [
            (Rule::AnyAuthenticated, None),
            (emails(&["ann@company.com"]), None),
            (emails(&["bob@company.com"]), denied),
            (Rule::EmailDomains(set(&["company.com"])), None),
            (Rule::EmailDomains(set(&["any.com", "pany.com"])), denied),
            (Rule::Groups(set(&["staff", "x"])), None),
            (Rule::Groups(set(&["admin"])), denied),
            (Rule::Scopes(set(&["a"])), None),
            (Rule::Scopes(set(&["a", "c"])), Some(Reason::InsufficientScope)),
            (claim("tenant.id", &["blue"]), None),
            (claim("tenant.id", &["red"]), denied),
            (claim("level", &["7"]), None),
            (claim("missing", &["x"]), denied),
            (Rule::Provider(set(&["corp"])), None),
            (Rule::Provider(set(&["other"])), Some(Reason::WrongProvider)),
            (Rule::All(vec![Rule::Groups(set(&["staff"])), Rule::Scopes(set(&["c"]))]), Some(Reason::InsufficientScope)),
            (Rule::Any(vec![Rule::Groups(set(&["x"])), Rule::Scopes(set(&["a"]))]), None),
            (Rule::Any(vec![Rule::Provider(set(&["x"])), Rule::Groups(set(&["x"]))]), denied),
            (Rule::All(vec![]), denied),
            (Rule::Any(vec![]), denied),
        ] {
            assert_eq!(reason(rule.clone(), &ann()), expected, "{rule:?}");
        }
    }

    #[test]
    fn an_email_that_is_not_what_it_seems_allows_nobody() {
        let company = || Rule::EmailDomains(set(&["company.com"]));
        for (claims, expected) in [
            (json!({"email": "a@company.com", "email_verified": false}), Reason::EmailNotVerified),
            (json!({"email": "a@company.com", "email_verified": "true"}), Reason::EmailNotVerified),
            (json!({"email": "a@company.com"}), Reason::EmailNotVerified),
            (json!({"email_verified": true}), Reason::NotAllowed),
            (json!({"email": "a@evil.com@company.com", "email_verified": true}), Reason::EmailMalformed),
            (json!({"email": "a@company.com ", "email_verified": true}), Reason::EmailMalformed),
            (json!({"email": "a@company.com\u{0}.evil.com", "email_verified": true}), Reason::EmailMalformed),
            (json!({"email": "@company.com", "email_verified": true}), Reason::EmailMalformed),
            (json!({"email": "a@sub.company.com", "email_verified": true}), Reason::NotAllowed),
        ] {
            let mut claims = claims;
            claims["sub"] = json!("1");
            assert_eq!(reason(company(), &identity("corp", claims.clone(), &[])), Some(expected), "{claims}");
        }
    }

    #[test]
    fn groups_left_out_say_so() {
        let overage = identity("corp", json!({"sub": "1", "hasgroups": true}), &[]);
        assert_eq!(reason(Rule::Groups(set(&["staff"])), &overage), Some(Reason::GroupsOverage));
    }
}
