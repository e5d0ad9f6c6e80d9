//! `proxy` of `[provider]` and `[[token_issuer]]`, and the environment's: through whom providers, token issuers and others who give or
//! check tokens are reached. Never upstreams, never the store.

use std::collections::BTreeMap;

use super::problem::{Problem, Problems, Severity};
use super::reader::Section;
use super::secret_file;
use crate::provider::proxy::{Proxy, ProxyAddress};
use crate::secret::{Secret, SecretSource};

/// `HTTPS_PROXY` and `NO_PROXY`, in capitals or small letters. `HTTP_PROXY` is not looked at: plain http stays on this machine, and what
/// answers for a web server may find a downstream's header under that name.
pub(super) fn of_environment(environment: &BTreeMap<String, String>, problems: &Problems) -> Option<Proxy> {
    let set = |name: &&str| environment.get(*name).is_some_and(|value| !value.trim().is_empty());
    let value = |name: &str| environment.get(name).map(|value| value.trim().to_owned()).unwrap_or_default();
    let name = ["HTTPS_PROXY", "https_proxy"].into_iter().find(set)?;
    let text = value(name);
    // Half of the world writes it without.
    let url = if text.contains("://") { text } else { format!("http://{text}") };
    if let Err(message) = ProxyAddress::parse(&url) {
        let message = format!("{message}; take the variable away, or write proxy at each [provider] and [[token_issuer]]");
        let source = format!("environment variable {name}");
        problems.push(Problem { source, path: name.to_owned(), message, severity: Severity::Error });
        return None;
    }
    let exceptions = ["NO_PROXY", "no_proxy"].into_iter().find(set).map(value).unwrap_or_default();
    Some(Proxy::but_for(SecretSource::fixed(Secret::new(url)), &exceptions))
}

/// `proxy` or `proxy_file` of one table, else the environment's.
pub(super) fn read(section: &Section<'_>, issuer: Option<&str>, environment: Option<&Proxy>) -> Option<Proxy> {
    let key = if section.has("proxy_file") && !section.has("proxy") { "proxy_file" } else { "proxy" };
    let there = section.has(key);
    let source = secret_file::read(section, "proxy", 1);
    if !there {
        return environment.cloned();
    }
    let source = source?;
    if let Err(message) = ProxyAddress::parse(source.get().expose()) {
        section.problem(key, message);
    }
    if issuer.is_some_and(|issuer| issuer.starts_with("http://")) {
        section.problem(key, "stands beside an http issuer, which is on this machine and reached without it; leave it out");
    }
    Some(Proxy::for_all(source))
}
