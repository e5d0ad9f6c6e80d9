//! What is said to the provider with every login, and what a link to `start` may say.

use std::collections::BTreeMap;

use super::super::Out;
use super::super::document::{inline, text, texts};
use super::super::old::OldProvider;
use super::super::report::Part;
use super::pattern;

/// Names that the login itself sets.
const OWNED: [&str; 12] = [
    "client_id",
    "redirect_uri",
    "response_type",
    "response_mode",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "max_age",
    "request",
    "request_uri",
];

pub(super) fn map(provider: &OldProvider, kind: &str, out: &mut Out) {
    let givens = &provider.givens;
    let mut always: BTreeMap<String, String> = BTreeMap::new();
    let mut from: Vec<String> = Vec::new();
    if kind == "google" {
        always.insert("access_type".to_owned(), "offline".to_owned());
        always.insert("prompt".to_owned(), "consent".to_owned());
        let words = "authorize.access_type = \"offline\" and prompt = \"consent\" (approval_prompt=force there), without which Google gives no refresh token";
        out.report.note(Part::Taken, "google", words);
    }
    for (option, name) in
        [("prompt", "prompt"), ("acr-values", "acr_values"), ("resource", "resource"), ("approval-prompt", "approval_prompt")]
    {
        let Some((given, value)) = givens.text(option) else { continue };
        if option == "approval-prompt" && (value == "force" || givens.text("prompt").is_some()) {
            out.report.say(Part::Different, given, "no provider of today reads it; prompt = \"consent\" in authorize is its successor");
            continue;
        }
        always.insert(name.to_owned(), value.to_owned());
        from.push(given.said.clone());
        let more = if option == "acr-values" { "; `acr` of a route also holds the answer to it, which was not done there" } else { "" };
        out.report.say(Part::Taken, given, format!("authorize.{name}{more}"));
    }
    let mut allowed: Vec<(String, String)> = Vec::new();
    for parameter in &provider.parameters {
        let name = parameter.name.as_str();
        if OWNED.contains(&name) {
            out.report.note(Part::Missing, parameter.said.clone(), "the login sets it itself, and nothing else may");
            continue;
        }
        if let Some(value) = parameter.default.first() {
            always.insert(name.to_owned(), value.clone());
            from.push(parameter.said.clone());
            let more = if parameter.default.len() > 1 { "; one value each, the first is taken" } else { "" };
            out.report.note(Part::Taken, parameter.said.clone(), format!("authorize.{name}{more}"));
        }
        if parameter.values.is_empty() && parameter.patterns.is_empty() {
            continue;
        }
        let loose = parameter.patterns.iter().filter_map(|text| pattern::anchor(text).ok()).collect::<Vec<_>>();
        let unread = parameter.patterns.len() - loose.len();
        let value = if loose.is_empty() {
            texts(&parameter.values)
        } else {
            let literal = parameter.values.iter().map(|value| regex::escape(value));
            let patterns = literal.chain(loose.into_iter().map(|anchored| anchored.regex)).collect::<Vec<_>>();
            text(&patterns.join("|"))
        };
        if unread > 0 {
            out.report.note(
                Part::Missing,
                parameter.said.clone(),
                "one of its patterns is no regular expression that can be read here, and is left out",
            );
        }
        allowed.push((name.to_owned(), value));
        out.report.note(
            Part::Taken,
            parameter.said.clone(),
            "authorize_from_start; patterns hold the whole value here, and are written so that they find what they found",
        );
    }
    if !always.is_empty() {
        let from: Vec<&str> = from.iter().map(String::as_str).collect();
        let pairs = always.iter().map(|(name, value)| (name.as_str(), text(value)));
        out.document.table("[provider]").set("authorize", inline(pairs), &from).explain("Said to the provider with every login.");
    }
    if !allowed.is_empty() {
        out.document
            .table("[provider]")
            .set("authorize_from_start", inline(allowed), &["loginURLParameters"])
            .explain("What a link to start may say to the provider; anything else is dropped.");
    }
    let audiences = ["oidc-extra-audience", "oidc-audience-claim"];
    for given in audiences.iter().filter_map(|option| givens.get(option)).filter(|given| given.values.iter().any(|value| value != "aud")) {
        let text = match given.row.name {
            "oidc-extra-audience" => {
                "of programs' tokens: audience of [[token_issuer]]; an ID token of a login is always for client_id, other audiences in it do no harm"
            }
            _ => {
                "the audience of an ID token is aud, which OpenID Connect wants; for programs' tokens without one [[token_issuer]] takes audience = \"any\" with a rule on claims"
            }
        };
        out.report.say(if given.row.name == "oidc-extra-audience" { Part::Different } else { Part::Missing }, given, text);
    }
}
