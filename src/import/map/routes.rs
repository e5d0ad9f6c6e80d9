//! Upstreams become routes, in the order in which they are tried; who may pass stands on each that asks for a login.

use std::collections::BTreeSet;

use super::super::Out;
use super::super::document::{Table, text, texts};
use super::super::old::{Old, OldPath, OldUpstream, Target};
use super::super::report::Part;
use super::headers::Headers;
use super::provider::Mapped;
use super::server::Front;
use super::who::Who;
use super::{forward_auth, headers, open, pattern};

/// A route that is being made.
#[derive(Clone, Default)]
pub(super) struct Draft {
    /// Its name.
    pub(super) id: String,
    /// `path` or `path_regex`, in TOML.
    pub(super) path: Option<(&'static str, String)>,
    /// What all its paths begin with.
    pub(super) begins: String,
    /// Whether it is for that one path.
    pub(super) exact: bool,
    /// `methods`.
    pub(super) methods: Vec<String>,
    /// `client`.
    pub(super) client: Vec<String>,
    /// `upstream`.
    pub(super) upstream: Option<String>,
    /// `access`; `None`: whoever the rule lets pass.
    pub(super) access: Option<&'static str>,
    /// `login`.
    pub(super) login: Option<&'static str>,
    /// `rewrite`.
    pub(super) rewrite: Option<String>,
    /// Options that it came from.
    pub(super) from: Vec<String>,
    /// Explained.
    pub(super) notes: Vec<String>,
    /// What else is set on it.
    pub(super) more: Vec<(&'static str, String, Vec<String>)>,
}

pub(super) fn map(old: &Old, front: &Front, provider: &Mapped, who: &Who, out: &mut Out) {
    let forward_only = forward_only(old);
    let mut mains = mains(old, forward_only.as_deref(), out);
    mains.sort_by_key(|draft| (draft.path.as_ref().is_none_or(|(key, _)| *key == "path"), std::cmp::Reverse(draft.begins.len())));
    let headers = headers::map(old, forward_only.is_some(), out);
    let accept = accept(old, provider, who, out);
    let open = open::map(old, front, &mains, out);
    let patterns = |draft: &Draft| draft.path.as_ref().is_some_and(|(key, _)| *key == "path_regex");
    let (before, after): (Vec<Draft>, Vec<Draft>) = open.into_iter().partition(patterns);
    let drafts: Vec<Draft> = before.into_iter().chain(mains).chain(after).collect();
    let protected = drafts.iter().filter(|draft| draft.access.is_none()).count();
    let named = protected > 1 && who.keys.is_some();
    if let (true, Some(keys)) = (named, &who.keys) {
        let mut table = Table::new("[policy.people]");
        let from: Vec<&str> = who.from.iter().map(String::as_str).collect();
        for (index, (key, value)) in keys.iter().enumerate() {
            table.set(key, value.clone(), if index == 0 { &from } else { &[] });
        }
        out.document.push(table);
    }
    let mut ids = BTreeSet::new();
    for draft in &drafts {
        let id = (1..)
            .map(|n| if n == 1 { draft.id.clone() } else { format!("{}-{n}", draft.id) })
            .find(|id| !ids.contains(id))
            .unwrap_or_default();
        ids.insert(id.clone());
        out.document.push(table(draft, &id, old, who, named, &accept, &headers));
    }
    forward_auth::asked(old, front, forward_only, &drafts, out);
    forward_auth::narrowed(old, front, provider, out);
}

fn table(draft: &Draft, id: &str, old: &Old, who: &Who, named: bool, accept: &[&str], headers: &Headers) -> Table {
    let mut table = Table::new("[[route]]");
    for note in &draft.notes {
        table.note(note.clone());
    }
    let from: Vec<&str> = draft.from.iter().map(String::as_str).collect();
    table.set("id", text(id), &[]);
    if let Some((key, path)) = &draft.path {
        table.set(key, path.clone(), &from);
    }
    if !draft.methods.is_empty() {
        table.set("methods", texts(&draft.methods), &[]);
    }
    if !draft.client.is_empty() {
        table.set("client", texts(&draft.client), &[]);
    }
    if let Some(upstream) = &draft.upstream {
        table.set("upstream", text(upstream), if draft.path.is_none() || draft.access.is_some() { &from } else { &[] });
    }
    match draft.access {
        Some(access) => {
            table.set("access", text(access), &[]);
            if access == "optional" && accept != ["session"] {
                table.set("accept", texts(accept), &[]);
            }
        }
        None => {
            if accept != ["session"] {
                table.set("accept", texts(accept), &[]);
            }
            let from: Vec<&str> = who.from.iter().map(String::as_str).collect();
            if named {
                table.set("policy", text("people"), &[]);
            } else {
                table.set("allow", who.allow.clone(), &from);
            }
            if let Some(deny) = &who.deny {
                table.set("deny", deny.clone(), &[]);
            }
            if let Some(login) = draft.login.or_else(|| old.rest.switched("force-json-errors", true).map(|_| "never")) {
                table.set("login", text(login), &[]);
            }
            if let Some(given) = old.rest.switched("skip-auth-preflight", true) {
                table.set("preflight", text("pass"), &[&given.said]);
            }
        }
    }
    for (key, value, from) in &draft.more {
        table.set(key, value.clone(), &from.iter().map(String::as_str).collect::<Vec<_>>());
    }
    if let Some(rewrite) = &draft.rewrite {
        table.set("rewrite", text(rewrite), &[]);
    }
    headers.write(draft, &mut table);
    table
}

/// How it was said that nothing stands behind it: a proxy in front asks it, and forwards by itself.
fn forward_only(old: &Old) -> Option<String> {
    let idle = |upstream: &OldUpstream| match &upstream.target {
        Target::Static(code) => (200..300).contains(code),
        Target::Files(path) => path.trim_end_matches('/') == "/dev/null",
        _ => false,
    };
    let asked = old.rest.switched("reverse-proxy", true).is_some() || old.tells_a_proxy() || !old.around.auth_urls.is_empty();
    match old.upstreams.as_slice() {
        [] => Some(String::new()),
        [one] if idle(one) && (asked || matches!(one.target, Target::Files(_))) => Some(one.said.clone()),
        _ => None,
    }
}

/// One route an upstream.
fn mains(old: &Old, forward_only: Option<&str>, out: &mut Out) -> Vec<Draft> {
    let given = old.rest.get("upstream");
    if let Some(said) = forward_only {
        let note = "Nothing stands behind it: the proxy in front asks prefix + \"/auth\" or \"/forward\" and forwards by itself.";
        match given {
            Some(given) => out.report.say(Part::Taken, given, "a route without upstream: it answers forward-auth, and is 404 as a proxy"),
            None if said.is_empty() => {
                out.report.note(
                    Part::Taken,
                    "upstream",
                    "none: a route without upstream, which answers forward-auth and is 404 as a proxy",
                );
            }
            None => out.report.note(Part::Taken, said, "a route without upstream: it answers forward-auth, and is 404 as a proxy"),
        }
        let from = if said.is_empty() { Vec::new() } else { vec![said.to_owned()] };
        return vec![Draft {
            id: "app".to_owned(),
            path: Some(("path", text("/"))),
            notes: vec![note.to_owned()],
            from,
            begins: "/".to_owned(),
            ..Draft::default()
        }];
    }
    if let Some(given) = given {
        out.report.say(Part::Taken, given, "[[route]], one each: the path of the address is the route's, the rest its upstream");
    }
    let drafts: Vec<Draft> = old.upstreams.iter().enumerate().filter_map(|(index, upstream)| one(upstream, index, old, out)).collect();
    if let Some(given) = old.rest.switched("pass-host-header", true) {
        out.report.say(Part::Taken, given, "upstream_host = \"keep\", the default");
    }
    timeouts(old, out);
    drafts
}

fn one(upstream: &OldUpstream, index: usize, old: &Old, out: &mut Out) -> Option<Draft> {
    let mut draft = Draft { from: vec![upstream.said.clone()], ..Draft::default() };
    let name = match (&upstream.id, &upstream.path) {
        (Some(id), _) => id.clone(),
        (None, OldPath::Prefix(path) | OldPath::Exact(path)) if path != "/" => path.trim_matches('/').replace('/', "-"),
        (None, OldPath::Prefix(_) | OldPath::Exact(_)) => "app".to_owned(),
        (None, OldPath::Pattern(_)) => format!("app-{}", index + 1),
    };
    let sound: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' }).take(60).collect();
    draft.id = match sound.trim_matches('-') {
        "" => "app".to_owned(),
        sound => sound.to_owned(),
    };
    path(upstream, &mut draft, out)?;
    draft.upstream = match &upstream.target {
        Target::Http(address) => Some(address.clone()),
        Target::Unix(path) => Some(format!("unix:{path}")),
        Target::Static(code) => Some(format!("static:{code}")),
        Target::Files(folder) => {
            let words = format!(
                "files of {folder} are not served: put a file server (nginx, Caddy) behind, and write its address as upstream of route {:?}",
                draft.id
            );
            out.report.note(Part::Missing, upstream.said.clone(), words);
            out.report
                .first(format!("route {:?} served files of {folder}; it is 404 until a file server is written as its upstream", draft.id));
            draft.notes.push(format!(
                "Served files of {folder} there; put a file server behind and write upstream. Without one the route is 404."
            ));
            None
        }
        Target::Unknown(address) => {
            out.report.note(
                Part::Missing,
                upstream.said.clone(),
                format!("{address:?} is no address that can be forwarded to; write upstream of route {:?}", draft.id),
            );
            None
        }
    };
    on_the_way(upstream, &mut draft, old, out);
    Some(draft)
}

fn path(upstream: &OldUpstream, draft: &mut Draft, out: &mut Out) -> Option<()> {
    match &upstream.path {
        OldPath::Prefix(path) => {
            draft.path = Some(("path", text(path)));
            draft.begins.clone_from(path);
            if path != "/" {
                let words = format!("{path} also answers {}: as itself, where there was a 301 to {path}", path.trim_end_matches('/'));
                out.report.note(Part::Different, upstream.said.clone(), words);
            }
        }
        OldPath::Exact(path) => {
            draft.path = Some(("path_regex", text(&regex::escape(path))));
            draft.begins.clone_from(path);
            draft.exact = true;
            out.report.note(
                Part::Taken,
                upstream.said.clone(),
                format!(
                    "{path} without a slash at its end is this path alone, as there; path = \"{path}/\" would take what lies under it too"
                ),
            );
        }
        OldPath::Pattern(found) => match pattern::anchor(found) {
            Ok(anchored) => {
                draft.path = Some(("path_regex", text(&anchored.regex)));
                draft.begins = anchored.literal;
            }
            Err(error) => {
                out.report.note(
                    Part::Missing,
                    upstream.said.clone(),
                    format!("path: {error}; the route is left out, so that its paths are 404 or another's"),
                );
                out.report.first(format!("write a route for {found}, which could not be read"));
                return None;
            }
        },
    }
    if let Some(target) = &upstream.rewrite {
        let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
        draft.rewrite = Some(path.to_owned());
        out.report.note(Part::Taken, upstream.said.clone(), "rewriteTarget: rewrite, after the decision; X-Forwarded-Prefix tells the app");
        if query.is_some() {
            out.report.note(
                Part::Missing,
                upstream.said.clone(),
                "rewriteTarget put something into the query; the query passes as it came",
            );
        }
    }
    Some(())
}

fn on_the_way(upstream: &OldUpstream, draft: &mut Draft, old: &Old, out: &mut Out) {
    let forwards = matches!(upstream.target, Target::Http(_) | Target::Unix(_));
    if let (false, said) = &upstream.pass_host {
        if forwards {
            draft.more.push(("upstream_host", text("upstream"), vec![said.clone()]));
        }
        match old.rest.switched("pass-host-header", false) {
            Some(given) => out.report.say(Part::Taken, given, "upstream_host = \"upstream\""),
            None => out.report.note(Part::Taken, said.clone(), "upstream_host = \"upstream\""),
        }
    }
    if let Some(said) = &upstream.insecure {
        let words = "the certificate of an upstream is always looked at: tls = { ca_file = \"…\" } on the route trusts its authority, server_name says what it has to hold, pin_sha256 holds it to one key";
        match old.rest.switched("ssl-upstream-insecure-skip-verify", true) {
            Some(given) => out.report.say(Part::Missing, given, words),
            None => out.report.note(Part::Missing, said.clone(), words),
        }
        if matches!(&upstream.target, Target::Http(address) if address.starts_with("https://")) {
            draft
                .notes
                .push("Its certificate is looked at here. Where it is by an authority of your own: tls = { ca_file = \"…\" }.".to_owned());
            out.report.first(format!(
                "give route {:?} tls = {{ ca_file = … }}, or its upstream a certificate that the system trusts: it is 502 until then",
                draft.id
            ));
        }
    }
    if let (true, Some(said)) = (forwards, &old.raw_path) {
        draft.more.push(("encoded_slash", text("keep"), vec![said.clone()]));
        out.report.note(Part::Taken, said.clone(), "encoded_slash = \"keep\" on the routes; %2f stays opaque, and is 400 elsewhere");
    }
}

/// One time for all of them here.
fn timeouts(old: &Old, out: &mut Out) {
    let said: Vec<(&OldUpstream, u64)> =
        old.upstreams.iter().filter_map(|upstream| Some((upstream, seconds(upstream.timeout.as_deref()?)?))).collect();
    let Some((_, longest)) = said.iter().max_by_key(|(_, seconds)| *seconds) else { return };
    let longest = (*longest).clamp(1, 3600);
    let given = old.rest.get("upstream-timeout");
    let from = given.map_or("upstreams[].timeout", |given| given.said.as_str());
    out.document.table("[limits]").set("upstream_timeout", text(&format!("{longest}s")), &[from]);
    let words = "limits.upstream_timeout, until the head of the answer; bodies take as long as they take";
    match given {
        Some(given) => out.report.say(Part::Taken, given, words),
        None => out.report.note(Part::Taken, from, format!("{words}; one for all upstreams, the longest")),
    }
}

/// Go's durations: `1h30m`, `300ms`, or a plain number of nanoseconds.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let spaced = text.replace('µ', "u");
    match spaced.parse::<u64>() {
        Ok(nanoseconds) => Some(nanoseconds / 1_000_000_000),
        Err(_) => humantime::parse_duration(&spaced.replace(".0s", "s")).ok().map(|time| time.as_secs_f64().ceil() as u64),
    }
}

/// Credentials that routes read.
fn accept(old: &Old, provider: &Mapped, who: &Who, out: &mut Out) -> Vec<&'static str> {
    let mut accept = vec!["session"];
    let _ = (provider, who);
    if let Some(given) = old.rest.switched("skip-jwt-bearer-tokens", true) {
        accept.push("bearer");
        let words = "accept \"bearer\" with [[token_issuer]] typ = \"id_token\": the tokens that counted were ID tokens for our client_id. A bad one is 401, and never a login; access tokens (typ = \"at+jwt\") are the better kind";
        out.report.say(Part::Different, given, words);
        out.report.note(
            Part::Different,
            "Basic",
            "a JWT as user or password of Basic was taken there and is not here; give such clients keys ([api_keys])",
        );
    }
    if let Some((given, file)) = old.rest.text("htpasswd-file") {
        accept.push("basic");
        out.document.root().set("users_file", text(file), &[&given.said]);
        let words = "users_file, with \"basic\" in accept of every route: Basic worked everywhere there; take it out where only people with a browser come. Lines with {SHA} are refused: make them anew with `doorward hash-password` or `htpasswd -B`";
        out.report.say(Part::Different, given, words);
        if let Some(given) = old.rest.get("htpasswd-user-group").filter(|given| !given.values.is_empty()) {
            out.report.say(Part::Missing, given, "people of the file have no groups; [[user]] tables with groups in place of it do");
        }
    }
    accept
}
