//! Whom a `deny` table means. Where that cannot be known it means them: who is to be kept out is not let in by what a provider leaves out.

use super::evaluate::{any_value, provider_is};
use super::{EmailAddress, Policy, Rule};
use crate::identity::{Email, Groups, Identity};
use crate::reason::Reason;

use super::Refusal;

/// Whether a rule means somebody.
enum Meant {
    Yes,
    No,
    /// What would say it is not there, or cannot be read.
    Unknown(Reason, &'static str),
}

impl Policy {
    /// Whether `identity` is to be kept out: `Ok` lets it pass on to `allow`.
    ///
    /// # Errors
    /// It is meant, or may be.
    pub fn keep_out(&self, identity: &Identity) -> Result<(), Refusal> {
        let (reason, detail) = match self.rule.means(identity) {
            Meant::No => return Ok(()),
            Meant::Yes => (Reason::DeniedByRule, "the rule means this identity"),
            Meant::Unknown(reason, detail) => (reason, detail),
        };
        Err(Refusal { reason, detail: format!("deny of {:?}: {detail}", self.id), scopes: Vec::new() })
    }
}

impl Rule {
    fn means(&self, identity: &Identity) -> Meant {
        let holds = |holds| if holds { Meant::Yes } else { Meant::No };
        match self {
            Self::AnyAuthenticated => Meant::Yes,
            Self::All(rules) => {
                let mut all = Meant::Yes;
                for rule in rules {
                    match rule.means(identity) {
                        Meant::No => return Meant::No,
                        Meant::Yes => {}
                        unknown @ Meant::Unknown(..) => all = unknown,
                    }
                }
                all
            }
            Self::Any(rules) => {
                let mut one = Meant::No;
                for rule in rules {
                    match rule.means(identity) {
                        Meant::Yes => return Meant::Yes,
                        Meant::No => {}
                        unknown @ Meant::Unknown(..) => one = unknown,
                    }
                }
                one
            }
            Self::Provider(ids) => holds(provider_is(ids, identity)),
            Self::Emails(addresses) => email(identity, |address| addresses.contains(address)),
            Self::EmailsFile(list) => email(identity, |address| list.holds(address)),
            Self::EmailDomains(domains) => email(identity, |address| domains.contains(address.domain())),
            Self::Groups(unwanted) => match &identity.groups {
                Groups::Overage => Meant::Unknown(Reason::GroupsOverage, "the provider left the groups out because they are too many"),
                Groups::Listed(groups) => holds(groups.iter().any(|group| unwanted.contains(group.as_str()))),
            },
            Self::Scopes(scopes) => holds(scopes.iter().all(|scope| identity.scopes.contains(scope))),
            Self::Claim(path, values) => holds(any_value(path, values, identity)),
        }
    }
}

/// Also by an address that nobody has verified: whoever claims to be somebody who is kept out is kept out.
fn email(identity: &Identity, holds: impl FnOnce(&EmailAddress) -> bool) -> Meant {
    let (Email::Verified(text) | Email::Unverified(text)) = &identity.email else { return Meant::No };
    match EmailAddress::parse(text) {
        Some(address) if holds(&address) => Meant::Yes,
        Some(_) => Meant::No,
        None => Meant::Unknown(Reason::EmailMalformed, "the address is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::identity::{ClaimMapping, ClaimPath, EmailVerification, Source};

    fn identity(claims: Value) -> Identity {
        let path = |text| ClaimPath::parse(text).unwrap();
        let mapping = ClaimMapping {
            user: path("sub"),
            email: Some(path("email")),
            groups: Some(path("groups").into()),
            email_verification: EmailVerification::Required,
        };
        let mut claims = claims;
        claims["sub"] = json!("1");
        let claims = claims.as_object().unwrap().clone();
        Identity::from_claims("https://i.test", Source::Provider("corp".into()), &mapping, claims).unwrap()
    }

    #[test]
    fn who_is_meant_or_may_be_is_kept_out() {
        let set = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<BTreeSet<String>>();
        let groups = || Rule::All(vec![Rule::Groups(set(&["guests"]))]);
        let emails = || Rule::All(vec![Rule::Emails([EmailAddress::parse("eve@x.test").unwrap()].into())]);
        let meant = Some(Reason::DeniedByRule);
        for (rule, claims, expected) in [
            (groups(), json!({ "groups": ["guests", "staff"] }), meant),
            (groups(), json!({ "groups": ["staff"] }), None),
            (groups(), json!({}), None),
            (groups(), json!({ "hasgroups": true }), Some(Reason::GroupsOverage)),
            (emails(), json!({ "email": "Eve@X.test", "email_verified": true }), meant),
            (emails(), json!({ "email": "eve@x.test", "email_verified": false }), meant),
            (emails(), json!({ "email": "ann@x.test", "email_verified": true }), None),
            (emails(), json!({ "email": "eve@x.test ", "email_verified": true }), Some(Reason::EmailMalformed)),
            (emails(), json!({}), None),
            (Rule::All(vec![Rule::EmailDomains(set(&["x.test"]))]), json!({ "email": "a@x.test" }), meant),
            // All keys of a table; the known "no" of one settles it.
            (Rule::All(vec![Rule::Groups(set(&["guests"])), Rule::Provider(set(&["other"]))]), json!({ "hasgroups": true }), None),
            (Rule::All(vec![Rule::Groups(set(&["guests"])), Rule::Provider(set(&["corp"]))]), json!({ "groups": ["guests"] }), meant),
            (Rule::Any(vec![groups(), Rule::Provider(set(&["corp"]))]), json!({ "hasgroups": true }), meant),
            (Rule::Any(vec![groups(), Rule::Provider(set(&["other"]))]), json!({ "hasgroups": true }), Some(Reason::GroupsOverage)),
            (Rule::All(vec![Rule::Claim(ClaimPath::parse("kind").unwrap(), set(&["bot"]))]), json!({ "kind": "bot" }), meant),
            (Rule::All(vec![Rule::Claim(ClaimPath::parse("kind").unwrap(), set(&["bot"]))]), json!({ "kind": "person" }), None),
        ] {
            let found = Policy { id: "p".into(), rule: rule.clone() }.keep_out(&identity(claims.clone()));
            assert_eq!(found.err().map(|refusal| refusal.reason), expected, "{rule:?} {claims}");
        }
    }
}
