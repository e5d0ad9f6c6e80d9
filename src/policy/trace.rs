//! A policy rule by rule, with what each rule saw: for people who ask why. Every verdict is [`Rule::evaluate`]'s own, asked of that rule alone; what
//! is added here is words.

use super::{EmailAddress, Policy, Refusal, Rule};
use crate::identity::{Email, Groups, Identity, texts};

/// Values of a list that are shown before the rest is counted.
const SHOWN: usize = 12;

/// One rule, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The key of the config: `groups`, `any_of` and so on.
    pub key: String,
    /// What it wants. Empty where its parts say that.
    pub wants: String,
    /// What it saw of somebody. Empty where nobody was there, or where its parts say that.
    pub saw: String,
    /// Whether it holds; `None`: nobody was there.
    pub verdict: Option<Result<(), Refusal>>,
    /// The rules inside of it.
    pub parts: Vec<Trace>,
}

impl Policy {
    /// Its rules, held against somebody; against nobody it says what they want.
    #[must_use]
    pub fn trace(&self, identity: Option<&Identity>) -> Trace {
        self.rule.trace(identity)
    }
}

impl Rule {
    fn trace(&self, identity: Option<&Identity>) -> Trace {
        let saw = |of: &dyn Fn(&Identity) -> String| identity.map(of).unwrap_or_default();
        let (key, wants, saw, parts) = match self {
            Self::AnyAuthenticated => ("any-authenticated".to_owned(), "anybody who is known".to_owned(), String::new(), Vec::new()),
            Self::All(rules) => ("all of".to_owned(), String::new(), String::new(), traces(rules, identity)),
            Self::Any(rules) => ("any_of".to_owned(), String::new(), String::new(), traces(rules, identity)),
            Self::Provider(ids) => leaf("provider", one_of(ids), saw(&|identity| identity.source.id().to_owned())),
            Self::Emails(addresses) => leaf("emails", one_of(addresses.iter().map(EmailAddress::as_str)), saw(&email)),
            Self::EmailsFile(list) => leaf("emails_file", format!("one of those in {}", list.file().display()), saw(&email)),
            Self::EmailDomains(domains) => leaf("email_domains", one_of(domains), saw(&email)),
            Self::Groups(wanted) => leaf("groups", one_of(wanted), saw(&groups)),
            Self::Scopes(wanted) => leaf("scopes", format!("all of {}", list(wanted)), saw(&|identity| list(identity.scopes.iter()))),
            Self::Claim(path, values) => {
                let found = |identity: &Identity| path.find(&identity.claims).map(texts).map_or_else(|| "no such claim".to_owned(), list);
                leaf(&format!("claims.{path}"), one_of(values), saw(&found))
            }
        };
        Trace { key, wants, saw, verdict: identity.map(|identity| self.evaluate(identity)), parts }
    }
}

fn traces(rules: &[Rule], identity: Option<&Identity>) -> Vec<Trace> {
    rules.iter().map(|rule| rule.trace(identity)).collect()
}

fn leaf(key: &str, wants: String, saw: String) -> (String, String, String, Vec<Trace>) {
    (key.to_owned(), wants, saw, Vec::new())
}

fn one_of<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    format!("one of {}", list(items))
}

/// `a, b, c`, or how many there are beyond a dozen.
fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<T> = items.into_iter().collect();
    if items.is_empty() {
        return "none".to_owned();
    }
    let shown = items.iter().take(SHOWN).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match items.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

fn email(identity: &Identity) -> String {
    match &identity.email {
        Email::Verified(address) => address.to_string(),
        Email::Unverified(address) => format!("{address}, which its provider has not verified"),
        Email::Absent => "none".to_owned(),
    }
}

fn groups(identity: &Identity) -> String {
    match &identity.groups {
        Groups::Listed(groups) => list(groups),
        Groups::Overage => "left out by the provider, because they are too many".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::identity::{ClaimMapping, ClaimPath, EmailVerification, Source};

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    fn rules() -> impl Strategy<Value = Rule> {
        let words = || prop::collection::btree_set("[abc]", 0..3);
        let leaf = prop_oneof![
            Just(Rule::AnyAuthenticated),
            words().prop_map(Rule::Provider),
            words().prop_map(Rule::Groups),
            words().prop_map(Rule::Scopes),
            words().prop_map(Rule::EmailDomains),
            words().prop_map(|values| Rule::Claim(ClaimPath::parse("t.id").unwrap(), values)),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Rule::All),
                prop::collection::vec(inner, 0..4).prop_map(Rule::Any)
            ]
        })
    }

    fn identity(groups: &BTreeSet<String>, scopes: &BTreeSet<String>, tenant: &str, at: &str, verified: bool) -> Identity {
        let path = |text| ClaimPath::parse(text).unwrap();
        let mapping = ClaimMapping {
            user: path("sub"),
            email: Some(path("email")),
            groups: Some(path("groups").into()),
            email_verification: EmailVerification::Required,
        };
        let claims = json!({"sub": "1", "email": format!("ann@{at}"), "email_verified": verified, "groups": groups, "t": {"id": tenant}});
        let claims = claims.as_object().unwrap().clone();
        let identity = Identity::from_claims("https://i.test", Source::Provider("a".into()), &mapping, claims).unwrap();
        Identity { scopes: scopes.iter().collect(), ..identity }
    }

    /// What its parts say together, counted anew.
    fn counted(trace: &Trace, rule: &Rule) -> bool {
        let held = |trace: &Trace| matches!(trace.verdict, Some(Ok(())));
        match rule {
            Rule::All(rules) => !rules.is_empty() && trace.parts.iter().zip(rules).all(|(part, rule)| counted(part, rule) && held(part)),
            Rule::Any(rules) => trace.parts.iter().zip(rules).any(|(part, rule)| counted(part, rule) && held(part)),
            _ => held(trace),
        }
    }

    proptest! {
        #[test]
        fn a_trace_says_what_the_policy_says_and_its_parts_add_up_to_it(
            rule in rules(),
            groups in prop::collection::btree_set("[abc]", 0..3),
            scopes in prop::collection::btree_set("[abc]", 0..3),
            tenant in "[abc]",
            at in "[abc]",
            verified: bool,
        ) {
            let policy = Policy { id: "p".into(), rule };
            let identity = identity(&groups, &scopes, &tenant, &at, verified);
            let trace = policy.trace(Some(&identity));
            let evaluated = policy.evaluate(&identity);
            prop_assert_eq!(trace.verdict.as_ref().map(Result::is_ok), Some(evaluated.is_ok()));
            prop_assert_eq!(counted(&trace, &policy.rule), evaluated.is_ok());
            if let (Some(Err(told)), Err(refusal)) = (&trace.verdict, &evaluated) {
                prop_assert_eq!(told.reason, refusal.reason);
            }
            let nobody = policy.trace(None);
            prop_assert!(nobody.verdict.is_none() && nobody.saw.is_empty());
        }
    }

    #[test]
    fn a_rule_is_told_with_its_key_what_it_wants_and_what_it_saw() {
        let somebody = identity(&set(&["a"]), &set(&[]), "b", "c", false);
        let told = |rule: Rule| {
            let trace = Policy { id: "p".into(), rule }.trace(Some(&somebody));
            format!("{}: {} <- {}", trace.key, trace.wants, trace.saw)
        };
        assert_eq!(told(Rule::Groups(set(&["x", "y"]))), "groups: one of x, y <- a");
        assert_eq!(told(Rule::Scopes(set(&["x"]))), "scopes: all of x <- none");
        assert_eq!(told(Rule::EmailDomains(set(&["c"]))), "email_domains: one of c <- ann@c, which its provider has not verified");
        assert_eq!(told(Rule::Claim(ClaimPath::parse("t.id").unwrap(), set(&["x"]))), "claims.t.id: one of x <- b");
        assert_eq!(told(Rule::Claim(ClaimPath::parse("u").unwrap(), set(&["x"]))), "claims.u: one of x <- no such claim");
        let many: BTreeSet<String> = (10..40).map(|n| n.to_string()).collect();
        assert!(told(Rule::Groups(many)).contains("21 and 18 more"));
    }
}
