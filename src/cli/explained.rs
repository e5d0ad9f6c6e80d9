//! An explanation as text: what an engineer reads first. Short where nothing is the matter, and every line says whose word it is.

use std::fmt::Write as _;

use crate::endpoint::explain::{Does, Explained, Judged, Line, Outcome, RuleTold, Sent};

/// Where the second column begins.
const COLUMN: usize = 12;
/// What the keys of one table come to.
const ALL: &str = "all of";
/// Routes that were passed over before the rest is counted.
const PASSED_OVER: usize = 8;

/// The text, without a newline at its end.
pub(super) fn text(told: &Explained) -> String {
    let mut page = Page::default();
    let Explained { request, routes, route, credential, identity, policies, outcome, notes } = told;
    let kind = if request.audience == "navigation" { "a browser that goes somewhere" } else { "a program" };
    page.line("request", &format!("{} {}{}, by {kind} from {}", request.method, request.host, request.path, request.address));
    match &request.canonical_path {
        Some(path) if *path != request.path => page.line("path", &format!("{path} is what is matched and sent on")),
        Some(_) => {}
        None => page.line("path", "has more than one reading"),
    }
    let passed_over: Vec<_> = routes.iter().filter(|tried| !tried.selected).collect();
    match route {
        Some(route) => {
            let tried = routes.iter().find(|tried| tried.selected);
            page.line(
                "route",
                &tried.map_or_else(|| route.id.clone(), |tried| format!("{} ({}, path {})", tried.id, tried.host, tried.path)),
            );
        }
        None if !routes.is_empty() => page.line("route", "none"),
        None => {}
    }
    for tried in passed_over.iter().take(PASSED_OVER) {
        page.line("", &format!("not {}: {}", tried.id, tried.why));
    }
    if let Some(more) = passed_over.len().checked_sub(PASSED_OVER).filter(|more| *more > 0) {
        page.line("", &format!("nor {more} more"));
    }
    if let Some(route) = route {
        let takes = if route.accept.is_empty() { String::new() } else { format!("; takes {}", route.accept.join(" or ")) };
        let dry = if route.dry_run { "; in dry run: what the policy refuses passes" } else { "" };
        page.line("access", &format!("{}{takes}{dry}", route.access));
    }
    if let Some(shown) = credential {
        let kind = shown.kind.map_or_else(|| shown.found.clone(), |kind| format!("{kind}: {}", shown.found));
        page.line("credential", &kind);
    }
    if let Some(who) = identity {
        let email = match (&who.email, who.email_verified) {
            (Some(email), true) => format!(", {email}"),
            (Some(email), false) => format!(", {email} (not verified: it does not count)"),
            (None, _) => String::new(),
        };
        let sub = if who.sub == who.user { String::new() } else { format!(" (sub {})", who.sub) };
        page.line("identity", &format!("{}{sub}{email}, by {}", who.user, who.provider));
    }
    for judged in policies {
        let label = if judged.deny { "deny" } else { "policy" };
        page.line(label, &format!("{}{}", judged.policy, verdict(judged)));
        // The keys of one table all have to hold: that goes without saying.
        let rules = if judged.rule.key == ALL { judged.rule.rules.as_slice() } else { std::slice::from_ref(&judged.rule) };
        page.rules(rules, 1);
    }
    page.outcome(outcome);
    for note in notes {
        page.line("note", note);
    }
    page.0.trim_end().to_owned()
}

fn verdict(judged: &Judged) -> &'static str {
    match (judged.holds, judged.deny) {
        (Some(true), false) => ": holds",
        (Some(false), false) => ": does not hold",
        (Some(true), true) => ": does not mean them",
        (Some(false), true) => ": keeps them out",
        (None, _) => "",
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// A label, or nothing, and what it is about.
    fn line(&mut self, label: &str, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{label:<COLUMN$}{text}");
    }

    fn rules(&mut self, rules: &[RuleTold], depth: usize) {
        for rule in rules {
            let mark = match rule.holds {
                Some(true) => "yes ",
                Some(false) => "no  ",
                None => "",
            };
            let indent = "  ".repeat(depth - 1);
            let wants = if rule.wants.is_empty() { String::new() } else { format!(": {}", rule.wants) };
            let saw = if rule.saw.is_empty() { String::new() } else { format!("; found {}", rule.saw) };
            self.line("", &format!("{indent}{mark}{}{wants}{saw}", rule.key));
            self.rules(&rule.rules, depth + 1);
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let reason = outcome.reason.unwrap_or_default();
        let detail = if outcome.detail.is_empty() { String::new() } else { format!(": {}", outcome.detail) };
        let status = outcome.status.map(|status| status.to_string()).unwrap_or_default();
        match outcome.does {
            Does::Forward => {
                let would = outcome.would_be.map(|would| format!("; it would be {would}")).unwrap_or_default();
                self.line("outcome", &format!("passes ({reason}{would}){detail}"));
            }
            Does::SignIn => self.line("outcome", &format!("{status}, to sign in ({reason}){detail}")),
            Does::Answer => self.line("outcome", &format!("{status} {reason}{detail}")),
            Does::Endpoint => self.line("outcome", &format!("the gateway's own endpoint{detail}")),
            Does::Unsettled => self.line("outcome", "depends on whose the credential is"),
        }
        for Line { name, value } in &outcome.headers {
            self.line("", &format!("{name}: {value}"));
        }
        if let Some(sent) = &outcome.upstream {
            self.sent(sent);
        }
    }

    fn sent(&mut self, sent: &Sent) {
        self.line("upstream", &format!("{} {} to {}", sent.method, sent.target, sent.to));
        for Line { name, value } in &sent.set {
            self.line("", &format!("{name}: {value}"));
        }
        if !sent.passed.is_empty() {
            let passed = sent.passed.iter().map(|line| line.name.as_str()).collect::<Vec<_>>().join(", ");
            self.line("", &format!("as it came: {passed}"));
        }
        if !sent.taken_out.is_empty() {
            self.line("", &format!("taken out: {}", sent.taken_out.join(", ")));
        }
    }
}
