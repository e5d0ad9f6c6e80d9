//! What becomes of each option, subject by subject: `server` (hosts, listeners, probes), `provider` with `claims` and `parameters`, `who` may pass, `routes`
//! with `open` (what needs no login), `forward_auth` and `headers`, `sessions` with their store, `rest`. What none of them speaks of, the table of options does.

mod claims;
mod forward_auth;
mod headers;
mod open;
mod parameters;
mod pattern;
mod provider;
mod rest;
mod routes;
mod server;
mod sessions;
mod who;

use super::Out;
use super::given::Given;
use super::old::Old;
use super::options::{Fate, Kind, Verdict};
use super::report::{Part, Report};

/// Carries everything over.
pub fn all(old: &Old, out: &mut Out) {
    let front = server::map(old, out);
    let mut provider = provider::map(old, out);
    rest::issuers(old, &mut provider, out);
    let who = who::map(old, &provider, out);
    routes::map(old, &front, &provider, &who, out);
    sessions::map(old, &front, out);
    rest::map(old, &front, out);
    let of_providers = old.providers.iter().flat_map(|provider| provider.givens.all());
    for given in old.rest.all().chain(of_providers) {
        if !out.report.accounts_for(given) {
            by_table(given, &mut out.report);
        }
    }
}

/// What the table of options says.
fn by_table(given: &Given, report: &mut Report) {
    let on = given.row.kind == Kind::Switch && given.is_on();
    let (part, text) = match given.row.fate {
        Fate::Same(text) => (Part::Taken, text),
        Fate::Different(text) => (Part::Different, text),
        Fate::Missing(text) => (Part::Missing, text),
        Fate::OffHere(verdict) if on => said(verdict),
        Fate::OnHere(verdict) if !on => said(verdict),
        Fate::OffHere(_) | Fate::OnHere(_) => (Part::Taken, "as it is here"),
        // Set to what is so by itself, or empty, or without the option that it belongs to.
        Fate::Mapped => (Part::Taken, "changes nothing as it is set"),
    };
    report.say(part, given, text);
}

const fn said(verdict: Verdict) -> (Part, &'static str) {
    match verdict {
        Verdict::Different(text) => (Part::Different, text),
        Verdict::Missing(text) => (Part::Missing, text),
    }
}
