//! What the upstream, or the proxy in front, is told about who somebody is.

use super::super::Out;
use super::super::document::{Table, inline, text, texts};
use super::super::old::{Old, OldHeader, OldSecret, OldValue};
use super::super::report::Part;
use super::routes::Draft;

/// What each route sets.
pub(super) struct Headers {
    /// `headers`: name, template, where it came from.
    own: Vec<(String, String, String)>,
    /// `identity_headers`, where not all are sent.
    identity: Option<(Vec<&'static str>, String)>,
    /// `response_headers`.
    answers: Vec<(String, String, String)>,
}

/// The four that are always sent: name, claim there, word of `identity_headers`.
const FAMILY: [(&str, &str, &str); 4] = [
    ("user", "user", "user"),
    ("email", "email", "email"),
    ("preferred-username", "preferred_username", "preferred_username"),
    ("groups", "groups", "groups"),
];

impl Headers {
    pub(super) fn write(&self, draft: &Draft, table: &mut Table) {
        if draft.access == Some("public") || draft.upstream.as_ref().is_some_and(|upstream| upstream.starts_with("static:")) {
            return;
        }
        if let Some((words, from)) = &self.identity {
            table.set("identity_headers", texts(words), &[from]);
        }
        for (key, headers) in [("headers", &self.own), ("response_headers", &self.answers)] {
            if !headers.is_empty() && (key == "headers" || draft.upstream.is_some()) {
                let pairs = headers.iter().map(|(name, value, _)| (name.as_str(), text(value)));
                let mut from: Vec<&str> = headers.iter().map(|(_, _, said)| said.as_str()).collect();
                from.dedup();
                table.set(key, inline(pairs), &from);
            }
        }
    }
}

pub(super) fn map(old: &Old, forward_only: bool, out: &mut Out) -> Headers {
    let mut headers = Headers { own: Vec::new(), identity: None, answers: Vec::new() };
    let mut sent = Vec::new();
    for header in &old.request_headers {
        match of_family(header, "x-forwarded-") {
            Some(word) => sent.push(word),
            None => own(header, &mut headers.own, out),
        }
    }
    for header in &old.response_headers {
        answer(header, forward_only, &mut headers, out);
    }
    identity(old, sent, forward_only, &mut headers, out);
    said_of_flags(old, forward_only, out);
    let words = "values beyond printable ASCII arrive percent-encoded as UTF-8, % and a comma inside a group too (CN=x%2COU=y); identity headers over 8 KiB are 403, never cut";
    out.report.note(Part::Different, "header values", words);
    headers
}

/// Which of the four it is.
fn of_family(header: &OldHeader, start: &str) -> Option<&'static str> {
    let name = header.name.to_ascii_lowercase();
    let [OldValue::Claim { claim, prefix, password: None }] = header.values.as_slice() else { return None };
    let (_, _, word) = FAMILY.iter().find(|(end, ..)| name.strip_prefix(start) == Some(end))?;
    // The user may be the e-mail: user_claim says so.
    (prefix.is_empty() && (claim == word || (*word == "user" && claim == "email"))).then_some(*word)
}

fn identity(old: &Old, sent: Vec<&'static str>, forward_only: bool, headers: &mut Headers, out: &mut Out) {
    let words: Vec<&'static str> = FAMILY.iter().map(|(_, _, word)| *word).filter(|word| sent.contains(word)).collect();
    if words.len() == FAMILY.len() || (forward_only && !old.response_headers.is_empty()) {
        return;
    }
    let from = ["pass-user-headers", "pass-basic-auth"].iter().find_map(|option| old.rest.switched(option, false));
    let from = from.or_else(|| old.rest.switched("prefer-email-to-user", true)).map_or("injectRequestHeaders", |given| given.said.as_str());
    headers.identity = Some((words.clone(), from.to_owned()));
    out.report.note(
        Part::Taken,
        from,
        format!("identity_headers = {}: only what was sent; all of them are taken out of requests whatever is sent", texts(words)),
    );
}

/// The template of ours for a value.
fn template(header: &OldHeader, value: &OldValue, out: &mut Out) -> Option<String> {
    match value {
        OldValue::Claim { claim, prefix, password } => {
            let piece = match claim.as_str() {
                "user" | "email" | "groups" | "access_token" | "id_token" => format!("{{{claim}}}"),
                "expires_on" => "{session.expires_at}".to_owned(),
                "created_at" | "refresh_token" => {
                    out.report.note(Part::Missing, header.said.clone(), format!("{claim} is told to nobody"));
                    return None;
                }
                claim => format!("{{claims.{claim}}}"),
            };
            match password {
                Some(password) => {
                    let file = file(header, password, "the password that goes with the user's name", out);
                    let name = if claim == "email" { "{email}" } else { "{user}" };
                    if !matches!(claim.as_str(), "user" | "email") {
                        out.report.note(Part::Different, header.said.clone(), format!("Basic takes {{user}} or {{email}}, not {claim}"));
                    }
                    Some(format!("Basic {{basic:{name}:{file}}}"))
                }
                None => Some(format!("{prefix}{piece}")),
            }
        }
        OldValue::Fixed(secret) => Some(format!("{{file:{}}}", file(header, secret, "the value of the header", out))),
    }
}

fn file(header: &OldHeader, secret: &OldSecret, what: &str, out: &mut Out) -> String {
    let name = format!("header_{}", header.name.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    let what = format!("{what} {}", header.name);
    match secret {
        OldSecret::File(path) => path.clone(),
        OldSecret::Value(value) => out.secrets.put(&name, Some(value), what),
        OldSecret::Kept(place) => out.secrets.put(&name, None, format!("{what} ({place})")),
    }
}

fn own(header: &OldHeader, into: &mut Vec<(String, String, String)>, out: &mut Out) {
    if header.preserved {
        out.report.note(
            Part::Missing,
            header.said.clone(),
            "what the request holds under this name is always taken out: whoever wrote it could be anybody",
        );
    }
    if into.iter().any(|(name, ..)| name.eq_ignore_ascii_case(&header.name)) {
        if !header.name.eq_ignore_ascii_case("authorization") || !header.values.is_empty() {
            out.report.note(Part::Missing, header.said.clone(), format!("{} is set once; the first is taken", header.name));
        }
        return;
    }
    if header.values.len() > 1 {
        out.report.note(
            Part::Missing,
            header.said.clone(),
            "a header has one value here, in which several may be put together; the first is taken",
        );
    }
    let Some(template) = header.values.first().and_then(|value| template(header, value, out)) else { return };
    out.report.note(Part::Taken, header.said.clone(), format!("headers: {} = {template:?}", header.name));
    into.push((header.name.clone(), template, header.said.clone()));
}

/// What an answer carried: to the proxy in front it still goes, to browsers only what is the same for everybody.
fn answer(header: &OldHeader, forward_only: bool, headers: &mut Headers, out: &mut Out) {
    if of_family(header, "x-auth-request-").is_some() {
        let words = "X-Auth-Request-User, -Email, -Groups and -Preferred-Username on answers of forward-auth, always; answers to browsers do not carry them: pages ask {prefix}/userinfo";
        if !header.said.starts_with("--") && !header.said.starts_with("OAUTH2") && !header.said.contains('[') {
            return;
        }
        out.report.note(Part::Different, header.said.clone(), words);
        return;
    }
    let claims = header.values.iter().any(|value| matches!(value, OldValue::Claim { .. }));
    match (claims, header.values.first()) {
        (true, _) if forward_only => own(header, &mut headers.own, out),
        (true, _) => {
            let there = headers.own.iter().any(|(name, ..)| name.eq_ignore_ascii_case(&header.name));
            if !there {
                own(header, &mut headers.own, out);
            }
            out.report.note(
                Part::Different,
                header.said.clone(),
                "stands in answers of forward-auth, and not in those to browsers: whoever reads the page would have it",
            );
        }
        (false, Some(OldValue::Fixed(OldSecret::Value(value)))) if !value.chars().any(char::is_control) => {
            out.report.note(Part::Taken, header.said.clone(), "response_headers, set on the upstream's answers");
            headers.answers.push((header.name.clone(), value.clone(), header.said.clone()));
        }
        _ => out.report.note(
            Part::Missing,
            header.said.clone(),
            "response_headers take fixed texts; what a file or variable holds has to be written there",
        ),
    }
}

fn said_of_flags(old: &Old, forward_only: bool, out: &mut Out) {
    let rest = &old.rest;
    for (option, words) in [
        (
            "pass-access-token",
            "headers: X-Forwarded-Access-Token = \"{access_token}\"; a route that tells tokens is 503 while they are not renewed",
        ),
        ("pass-authorization-header", "headers: Authorization = \"Bearer {id_token}\""),
        (
            "set-authorization-header",
            "headers: Authorization = \"Bearer {id_token}\", also on answers of forward-auth; give nginx proxy_buffer_size 16k",
        ),
        ("set-basic-auth", "headers: Authorization, also on answers of forward-auth"),
        ("set-xauthrequest", "answers of forward-auth always carry X-Auth-Request-*"),
    ] {
        if let Some(given) = rest.switched(option, true) {
            out.report.say(Part::Taken, given, words);
        }
    }
    if let Some(given) = rest.get("basic-auth-password").filter(|given| super::who::said(Some(given))) {
        let used = rest.switched("pass-basic-auth", false).is_none() || rest.switched("set-basic-auth", true).is_some();
        let words = if used {
            "headers: Authorization = \"Basic {basic:…}\", the password in a file beside the config"
        } else {
            "did nothing while pass-basic-auth is off"
        };
        out.report.say(Part::Taken, given, words);
    }
    if !forward_only && !old.response_headers.is_empty() {
        out.report.note(Part::Different, "GAP-Auth", "is not sent; pages ask {prefix}/userinfo who somebody is");
    }
}
