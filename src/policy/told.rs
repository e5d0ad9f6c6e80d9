//! What may be told of a policy to whoever has no token yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{EmailList, Policy, Rule};

impl Policy {
    /// The scopes that it names, wherever they stand in it.
    #[must_use]
    pub fn scopes(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        self.rule.collect_scopes(&mut found);
        found
    }

    /// The files of addresses that it goes by.
    #[must_use]
    pub fn email_lists(&self) -> Vec<&Arc<EmailList>> {
        let mut found = Vec::new();
        self.rule.collect_lists(&mut found);
        found
    }

    /// Whether a token of this issuer could ever satisfy it: `false` only where `provider` leaves it out.
    #[must_use]
    pub fn may_hold_for(&self, issuer: &str) -> bool {
        self.rule.may_hold_for(issuer)
    }
}

impl Rule {
    fn collect_scopes<'a>(&'a self, found: &mut BTreeSet<&'a str>) {
        match self {
            Self::All(rules) | Self::Any(rules) => rules.iter().for_each(|rule| rule.collect_scopes(found)),
            Self::Scopes(scopes) => found.extend(scopes.iter().map(String::as_str)),
            Self::AnyAuthenticated
            | Self::Provider(_)
            | Self::Emails(_)
            | Self::EmailsFile(_)
            | Self::EmailDomains(_)
            | Self::Groups(_)
            | Self::Claim(..) => {}
        }
    }

    fn collect_lists<'a>(&'a self, found: &mut Vec<&'a Arc<EmailList>>) {
        match self {
            Self::All(rules) | Self::Any(rules) => rules.iter().for_each(|rule| rule.collect_lists(found)),
            Self::EmailsFile(list) => found.push(list),
            Self::AnyAuthenticated
            | Self::Provider(_)
            | Self::Emails(_)
            | Self::EmailDomains(_)
            | Self::Groups(_)
            | Self::Scopes(_)
            | Self::Claim(..) => {}
        }
    }

    fn may_hold_for(&self, issuer: &str) -> bool {
        match self {
            Self::All(rules) => rules.iter().all(|rule| rule.may_hold_for(issuer)),
            Self::Any(rules) => rules.iter().any(|rule| rule.may_hold_for(issuer)),
            Self::Provider(ids) => ids.contains(issuer),
            Self::AnyAuthenticated
            | Self::Scopes(_)
            | Self::Emails(_)
            | Self::EmailsFile(_)
            | Self::EmailDomains(_)
            | Self::Groups(_)
            | Self::Claim(..) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_found_at_any_depth_and_issuers_are_left_out_by_provider_alone() {
        let set = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<BTreeSet<String>>();
        let only = |provider: &str, scope: &str| Rule::All(vec![Rule::Provider(set(&[provider])), Rule::Scopes(set(&[scope]))]);
        let policy = |rule| Policy { id: "p".into(), rule };
        let both = policy(Rule::All(vec![Rule::Scopes(set(&["b", "a"])), Rule::Any(vec![only("x", "c"), only("y", "a")])]));
        assert_eq!(both.scopes().into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(["x", "y", "z"].map(|issuer| both.may_hold_for(issuer)), [true, true, false]);
        let anybody = policy(Rule::AnyAuthenticated);
        assert!(anybody.scopes().is_empty() && anybody.may_hold_for("x"));
    }
}
