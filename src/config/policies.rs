//! `allow` and `[policy.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::api_keys::{API_KEY, ApiKeys};
use super::providers::parse_scope;
use super::reader::Section;
use super::token_issuers::TokenIssuer;
use super::users::SignInAt;
use crate::authenticate::CertificateName;
use crate::credential::CredentialKind;
use crate::identity::ClaimPath;
use crate::policy::{EmailAddress, EmailList, Policy, Rule};
use crate::route::HostPattern;

/// The word for those who are known by a certificate ([`crate::identity::Source::id`]).
pub(super) const CERTIFICATE: &str = "certificate";

const KEYS: &str = "emails, emails_file, email_domains, groups, scopes, claims, provider or any_of";

/// Whom rules may speak of: the ids of providers, the local accounts among them, the issuers of tokens, and our own API keys.
pub(super) struct Sources<'a> {
    providers: &'a [SignInAt],
    token_issuers: &'a [TokenIssuer],
    /// Who vouches for API keys.
    api_keys: Option<&'a ApiKeys>,
    /// By which name certificates count; `None`: not at all.
    certificates: Option<CertificateName>,
    /// The credentials that are read where the rules count; `None`: all.
    kinds: Option<&'a [CredentialKind]>,
    /// Who may vouch there, by `provider` of the route; `None`: all.
    taken: Option<&'a [String]>,
}

/// What a rule goes by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Email,
    Groups,
    Claims,
}

impl<'a> Sources<'a> {
    /// For rules that may be used anywhere.
    pub(super) const fn new(
        providers: &'a [SignInAt],
        token_issuers: &'a [TokenIssuer],
        api_keys: Option<&'a ApiKeys>,
        certificates: Option<CertificateName>,
    ) -> Self {
        Self { providers, token_issuers, api_keys, certificates, kinds: None, taken: None }
    }

    /// For the rules of one route.
    pub(super) const fn on_route(self, kinds: Option<&'a [CredentialKind]>, taken: Option<&'a [String]>) -> Self {
        Self { kinds, taken, ..self }
    }

    /// How many issuers could say it where the rules count. A provider that issues tokens as well is one.
    fn that_say(&self, said: Said) -> usize {
        let read = |kind| self.kinds.is_none_or(|kinds| kinds.contains(&kind));
        let tokens = read(CredentialKind::Bearer);
        let shown = |provider: &SignInAt| provider.shows.iter().any(|kind| read(*kind));
        let mapped = |issuer: &TokenIssuer| match said {
            Said::Email => issuer.mapping.email.is_some(),
            Said::Groups => issuer.mapping.groups.is_some(),
            Said::Claims => true,
        };
        let taken = |id: &str| self.taken.is_none_or(|taken| taken.iter().any(|taken| taken == id));
        let providers = self.providers.iter().filter(|provider| shown(provider) && taken(&provider.id)).map(|provider| &provider.issuer);
        let vouches = |issuer: &TokenIssuer| self.taken.is_none_or(|taken| taken.contains(&issuer.issuer));
        let issuers = self.token_issuers.iter().filter(|issuer| tokens && mapped(issuer) && vouches(issuer)).map(|issuer| &issuer.issuer);
        // Keys have groups, and what they say of themselves; no e-mail.
        let by_key =
            self.api_keys.filter(|_| read(CredentialKind::ApiKey) && taken(API_KEY) && said != Said::Email).map(|keys| &keys.issuer);
        let by_certificate = self.certificates.is_some_and(|name| match said {
            Said::Email => name == CertificateName::SanEmail,
            Said::Groups => false,
            Said::Claims => true,
        });
        let by_certificate = by_certificate && read(CredentialKind::Certificate) && taken(CERTIFICATE);
        providers.chain(issuers).chain(by_key).collect::<BTreeSet<_>>().len() + usize::from(by_certificate)
    }

    fn knows(&self, name: &str) -> bool {
        (self.api_keys.is_some() && name == API_KEY)
            || (self.certificates.is_some() && name == CERTIFICATE)
            || self.providers.iter().any(|provider| provider.id == name)
            || self.token_issuers.iter().any(|issuer| issuer.issuer == name)
    }

    fn names(&self) -> String {
        let ids = self.providers.iter().map(|provider| provider.id.as_str());
        let ours = self.api_keys.map(|_| API_KEY).into_iter().chain(self.certificates.map(|_| CERTIFICATE));
        ids.chain(self.token_issuers.iter().map(|issuer| issuer.issuer.as_str())).chain(ours).collect::<Vec<_>>().join(", ")
    }
}

pub(super) fn read_named(
    root: &Section<'_>,
    providers: &[SignInAt],
    token_issuers: &[TokenIssuer],
    api_keys: Option<&ApiKeys>,
    certificates: Option<CertificateName>,
) -> BTreeMap<String, Arc<Policy>> {
    let sources = Sources::new(providers, token_issuers, api_keys, certificates);
    let mut policies = BTreeMap::new();
    for (name, section) in root.named_sections("policy") {
        if let Some(rule) = read_table(&section, &sources, Whose::Open) {
            policies.insert(name.clone(), Arc::new(Policy { id: name, rule }));
        }
    }
    policies
}

/// Whether a table around this one says whose claims are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Said,
    Open,
}

/// Reads `allow`: a word or a table.
pub(super) fn read_allow(section: &Section<'_>, id: &str, sources: &Sources<'_>) -> Option<Arc<Policy>> {
    let rule = if section.is_word("allow") {
        section.parsed("allow", |word| match word {
            "any-authenticated" => Ok(Rule::AnyAuthenticated),
            other => Err(format!("expected \"any-authenticated\", or a table such as {{ groups = [\"staff\"] }}; found {other:?}")),
        })
    } else if section.is_table("allow") {
        read_table(&section.section("allow"), sources, Whose::Open)
    } else {
        section.problem("allow", format!("expected \"any-authenticated\", or a table such as {{ groups = [\"staff\"] }}, with {KEYS}"));
        None
    };
    rule.map(|rule| Arc::new(Policy { id: id.to_owned(), rule }))
}

/// Reads `deny`: a table.
pub(super) fn read_deny(section: &Section<'_>, id: &str, sources: &Sources<'_>) -> Option<Arc<Policy>> {
    if section.is_word("deny") {
        section.problem("deny", format!("expected a table with {KEYS}"));
        return None;
    }
    let there = section.has("deny");
    let table = section.section("deny");
    // An absent one is read for its keys' names.
    let rule = if there { read_table(&table, sources, Whose::Open) } else { None };
    rule.map(|rule| Arc::new(Policy { id: id.to_owned(), rule }))
}

/// `emails_file`, read for the first time; from then on whoever runs the gateway looks at it.
fn read_emails_file(section: &Section<'_>) -> Option<Arc<EmailList>> {
    let file = section.file("emails_file")?;
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            section.problem("emails_file", format!("{} cannot be read: {error}", file.display()));
            return None;
        }
    };
    match EmailList::parse(&text) {
        Ok(addresses) => Some(Arc::new(EmailList::new(file, addresses))),
        Err(wrong) => {
            section.problem("emails_file", format!("{}: {}", file.display(), wrong.join("; ")));
            None
        }
    }
}

/// Every key of one table has to hold.
fn read_table(section: &Section<'_>, sources: &Sources<'_>, around: Whose) -> Option<Rule> {
    let set = |list: Vec<String>| list.into_iter().collect::<BTreeSet<String>>();
    let mut rules = Vec::new();
    let mut goes_by = Vec::new();
    let provider = section.list("provider");
    let whose = if provider.is_some() { Whose::Said } else { around };
    if let Some(names) = &provider {
        for name in names.iter().filter(|name| !sources.knows(name)) {
            section.problem("provider", format!("expected one of {}; found {name:?}", sources.names()));
        }
        rules.push(Rule::Provider(set(names.clone())));
    }
    if let Some(addresses) = section.parsed_list("emails", |text| {
        EmailAddress::parse(text).ok_or(format!("expected an e-mail address such as \"ann@example.com\"; found {text:?}"))
    }) {
        goes_by.push(Said::Email);
        rules.push(Rule::Emails(addresses.into_iter().collect()));
    }
    let by_file = section.has("emails_file");
    let list = read_emails_file(section);
    if by_file {
        goes_by.push(Said::Email);
        rules.push(Rule::EmailsFile(list.unwrap_or_else(|| Arc::new(EmailList::new(Default::default(), BTreeSet::new())))));
    }
    if let Some(domains) = section.parsed_list("email_domains", parse_domain) {
        goes_by.push(Said::Email);
        rules.push(Rule::EmailDomains(set(domains)));
    }
    if let Some(groups) = section.list("groups") {
        goes_by.push(Said::Groups);
        rules.push(Rule::Groups(set(groups)));
    }
    if let Some(scopes) = section.parsed_list("scopes", parse_scope) {
        rules.push(Rule::Scopes(set(scopes)));
    }
    for (name, values) in section.lists("claims") {
        match ClaimPath::parse(&name) {
            Some(path) => {
                goes_by.push(Said::Claims);
                rules.push(Rule::Claim(path, set(values)));
            }
            None => section.problem("claims", format!("expected a claim's name or path; found {name:?}")),
        }
    }
    let alternatives = section.sections("any_of");
    if section.has("any_of") {
        let inner: Vec<Rule> = alternatives.iter().filter_map(|inner| read_table(inner, sources, whose)).collect();
        if inner.is_empty() {
            section.problem("any_of", format!("expected tables with {KEYS}"));
        }
        rules.push(Rule::Any(inner));
    }
    section.finish();
    // Issuer B's "admin" is not issuer A's: where several could say it, whoever names people by what an issuer says has to say whose.
    if whose == Whose::Open && goes_by.iter().any(|said| sources.that_say(*said) > 1) {
        section.problem(
            "",
            format!("says whom, but not whose: several issuers could say it; add provider = [..] here (among {})", sources.names()),
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
