//! `allow` and `[policy.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::providers::{Provider, TokenIssuer};
use super::reader::Section;
use crate::identity::ClaimPath;
use crate::policy::{EmailAddress, Policy, Rule};
use crate::route::HostPattern;

const KEYS: &str = "emails, email_domains, groups, scopes, claims, provider or any_of";

/// Whom rules may speak of: the ids of providers and the issuers of tokens.
pub(super) struct Sources<'a> {
    providers: &'a [Provider],
    token_issuers: &'a [TokenIssuer],
}

impl<'a> Sources<'a> {
    pub(super) const fn new(providers: &'a [Provider], token_issuers: &'a [TokenIssuer]) -> Self {
        Self { providers, token_issuers }
    }

    fn knows(&self, name: &str) -> bool {
        self.providers.iter().any(|provider| provider.id == name) || self.token_issuers.iter().any(|issuer| issuer.issuer == name)
    }

    fn names(&self) -> String {
        let ids = self.providers.iter().map(|provider| provider.id.as_str());
        ids.chain(self.token_issuers.iter().map(|issuer| issuer.issuer.as_str())).collect::<Vec<_>>().join(", ")
    }
}

pub(super) fn read_named(root: &Section<'_>, providers: &[Provider], token_issuers: &[TokenIssuer]) -> BTreeMap<String, Arc<Policy>> {
    let sources = Sources::new(providers, token_issuers);
    let mut policies = BTreeMap::new();
    for (name, section) in root.named_sections("policy") {
        if let Some(rule) = read_table(&section, &sources, false) {
            policies.insert(name.clone(), Arc::new(Policy { id: name, rule }));
        }
    }
    policies
}

/// Reads `allow`: a word or a table. `bound` says that the route itself names its provider already.
pub(super) fn read_allow(section: &Section<'_>, id: &str, sources: &Sources<'_>, bound: bool) -> Option<Arc<Policy>> {
    let rule = if section.is_word("allow") {
        section.parsed("allow", |word| match word {
            "any-authenticated" => Ok(Rule::AnyAuthenticated),
            other => Err(format!("expected a table or \"any-authenticated\"; found {other:?}")),
        })
    } else {
        read_table(&section.section("allow"), sources, bound)
    };
    rule.map(|rule| Arc::new(Policy { id: id.to_owned(), rule }))
}

/// Every key of one table has to hold.
fn read_table(section: &Section<'_>, sources: &Sources<'_>, bound: bool) -> Option<Rule> {
    let set = |list: Vec<String>| list.into_iter().collect::<BTreeSet<String>>();
    let mut rules = Vec::new();
    let mut names_people = false;
    let provider = section.list("provider");
    if let Some(names) = &provider {
        for name in names.iter().filter(|name| !sources.knows(name)) {
            section.problem("provider", format!("expected one of {}; found {name:?}", sources.names()));
        }
        rules.push(Rule::Provider(set(names.clone())));
    }
    if let Some(addresses) =
        section.parsed_list("emails", |text| EmailAddress::parse(text).ok_or(format!("expected an e-mail address; found {text:?}")))
    {
        names_people = true;
        rules.push(Rule::Emails(addresses.into_iter().collect()));
    }
    if let Some(domains) = section.parsed_list("email_domains", parse_domain) {
        names_people = true;
        rules.push(Rule::EmailDomains(set(domains)));
    }
    if let Some(groups) = section.list("groups") {
        names_people = true;
        rules.push(Rule::Groups(set(groups)));
    }
    if let Some(scopes) = section.list("scopes") {
        rules.push(Rule::Scopes(set(scopes)));
    }
    for (name, values) in section.lists("claims") {
        match ClaimPath::parse(&name) {
            Some(path) => {
                names_people = true;
                rules.push(Rule::Claim(path, set(values)));
            }
            None => section.problem("claims", format!("expected a claim's name or path; found {name:?}")),
        }
    }
    let alternatives = section.sections("any_of");
    if section.has("any_of") {
        let inner: Vec<Rule> = alternatives.iter().filter_map(|inner| read_table(inner, sources, bound || provider.is_some())).collect();
        if inner.is_empty() {
            section.problem("any_of", format!("expected tables with {KEYS}"));
        }
        rules.push(Rule::Any(inner));
    }
    section.finish();
    // Issuer B's "admin" is not issuer A's: with several, whoever names people by what an issuer says has to say whose.
    if names_people && provider.is_none() && !bound && sources.providers.len() > 1 {
        section.problem(
            "",
            format!("says whom, but not whose: with several providers add provider = [..] here or on the route ({})", sources.names()),
        );
    }
    if rules.is_empty() {
        section.problem("", format!("allows nobody by silence; expected {KEYS}"));
        return None;
    }
    Some(Rule::All(rules))
}

fn parse_domain(text: &str) -> Result<String, String> {
    match HostPattern::parse(text) {
        Ok(HostPattern::Exact(name)) => Ok(name),
        _ => Err(format!("expected a domain such as \"example.com\", without @ and *; found {text:?}")),
    }
}
