//! What a question asks for beside what its route says: `policy`, and rules in the query itself, which can only narrow.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::question::Question;
use super::sets::InlineRules;
use crate::decision::Extra;
use crate::endpoint::Visit;
use crate::endpoint::form::Parameters;
use crate::fault::Fault;
use crate::policy::{EmailAddress, Policy, Rule};
use crate::reason::Reason;

/// The name of rules in the query, in logs.
const INLINE: &str = "query";
/// The longest list, in items. A query of 8 KiB holds no more that mean anything.
const ITEMS: usize = 1024;

/// The query of `auth` and `forward`. What is appended to `forward` brings the browser's own, which is none of ours.
pub(super) fn extra(visit: &Visit<'_>, question: &Question) -> Result<Extra, Fault> {
    let gateway = visit.gateway;
    let extra = Extra::at(gateway.clock.now(), gateway.settings.leeway);
    if question.appended.is_some() {
        return Ok(extra);
    }
    let parameters = Parameters::parse(visit.facts.query.as_deref().unwrap_or_default().as_bytes());
    let inline = inline(&parameters, gateway.settings.forward_auth.inline_rules)?;
    if let Some(name) = parameters.names().find(|name| *name != "policy" && !NAMES.contains(name)) {
        let short: String = name.chars().take(32).collect();
        return Err(Fault::new(Reason::ParameterInvalid, format!("{short:?} is no parameter of forward-auth")));
    }
    let named = match parameters.one("policy")? {
        Some(name) => {
            let known = gateway.policies.get(name);
            Some(Arc::clone(known.ok_or_else(|| Fault::new(Reason::PolicyUnknown, "policy names none of the config's"))?))
        }
        None => None,
    };
    Ok(Extra { policy: both(named, inline), ..extra })
}

const NAMES: [&str; 3] = ["allowed_groups", "allowed_emails", "allowed_email_domains"];

/// A public route reads no credential: there is nobody whom a policy could let in.
pub(super) fn nobody_to_judge(extra: &Extra) -> Fault {
    let inline = extra.policy.as_ref().is_some_and(|policy| policy.id == INLINE);
    let reason = if inline { Reason::InlineRule } else { Reason::PolicyUnknown };
    Fault::new(reason, "a policy is asked for on a route that reads no credential")
}

/// Both have to hold, on top of the route's own.
fn both(named: Option<Arc<Policy>>, inline: Option<Rule>) -> Option<Arc<Policy>> {
    match (named, inline) {
        (named, None) => named,
        (None, Some(rule)) => Some(Arc::new(Policy { id: INLINE.to_owned(), rule })),
        (Some(named), Some(rule)) => {
            Some(Arc::new(Policy { id: format!("{} and {INLINE}", named.id), rule: Rule::All(vec![named.rule.clone(), rule]) }))
        }
    }
}

/// The rules in the query, as oauth2-proxy names them: lists with commas, any of a list, all of the lists. What could be read in two ways,
/// or as asking for nothing, is refused; so are all of them where the config does not allow them, since nobody must believe that they
/// count.
fn inline(parameters: &Parameters, allowed: InlineRules) -> Result<Option<Rule>, Fault> {
    let refused = |name: &str, what: &str| Fault::new(Reason::InlineRule, format!("{name} in the query {what}"));
    let mut rules = Vec::new();
    for name in NAMES {
        let Some(list) = parameters.one(name).map_err(|_| refused(name, "is there twice"))? else { continue };
        if allowed == InlineRules::Refused {
            return Err(refused(name, "; write forward_auth.narrow = true to let it narrow, or name a policy"));
        }
        let items: Vec<&str> = list.split(',').map(str::trim).collect();
        if items.len() > ITEMS || items.iter().any(|item| item.is_empty()) {
            return Err(refused(name, "is empty, has an empty item, or too many"));
        }
        let odd = || refused(name, "has an item that is none");
        rules.push(match name {
            "allowed_groups" => Rule::Groups(items.into_iter().map(str::to_owned).collect()),
            "allowed_emails" => {
                Rule::Emails(items.into_iter().map(|item| EmailAddress::parse(item).ok_or_else(odd)).collect::<Result<_, _>>()?)
            }
            _ => Rule::EmailDomains(items.into_iter().map(|item| domain(item).ok_or_else(odd)).collect::<Result<BTreeSet<_>, _>>()?),
        });
    }
    Ok((!rules.is_empty()).then_some(Rule::All(rules)))
}

/// A domain, as an address would end; no `*` and no leading dot, which `email_domains` of the config does not know either.
fn domain(text: &str) -> Option<String> {
    EmailAddress::parse(&format!("somebody@{text}")).map(|address| address.domain().to_owned())
}

#[cfg(test)]
mod tests;
