//! What needs no login: paths, addresses; and paths where a program is told 401.

use super::super::Out;
use super::super::document::text;
use super::super::given::Given;
use super::super::old::Old;
use super::super::report::Part;
use super::pattern::{self, Anchored};
use super::routes::Draft;
use super::server::{Front, network};

pub(super) fn map(old: &Old, front: &Front, mains: &[Draft], out: &mut Out) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for option in ["skip-auth-route", "skip-auth-regex"] {
        let Some(given) = old.rest.get(option) else { continue };
        for rule in old.rest.list(option) {
            skipped(given, &rule, option == "skip-auth-regex", mains, &mut drafts, out);
        }
    }
    if let Some(given) = old.rest.get("api-route") {
        for rule in old.rest.list("api-route") {
            api(given, &rule, mains, &mut drafts, out);
        }
    }
    if let Some(given) = old.rest.switched("force-json-errors", true) {
        out.report.say(Part::Taken, given, "login = \"never\" on the routes: 401 with JSON, and no redirect for anybody");
    }
    trusted(old, front, mains, &mut drafts, out);
    drafts
}

/// Which methods and which paths.
struct Rule {
    methods: Vec<String>,
    negated: bool,
    path: String,
}

fn parse(rule: &str, path_alone: bool) -> Rule {
    let at = rule.find('=').filter(|_| !path_alone);
    let Some((method, path)) = at.and_then(|at| Some((rule.get(..at)?, rule.get(at + 1..)?))) else {
        return Rule { methods: Vec::new(), negated: false, path: rule.to_owned() };
    };
    let negated = method.ends_with('!');
    let method = method.trim_end_matches('!').to_ascii_uppercase();
    Rule { methods: if method.is_empty() { Vec::new() } else { vec![method] }, negated, path: path.to_owned() }
}

fn skipped(given: &Given, rule: &str, path_alone: bool, mains: &[Draft], drafts: &mut Vec<Draft>, out: &mut Out) {
    let parsed = parse(rule, path_alone);
    let closed = |out: &mut Out, why: String| {
        out.report.say(
            Part::Missing,
            given,
            format!("{rule}: {why}; it stays behind the login until a route with access = \"optional\" is written for it"),
        );
        out.report.first(format!("{rule} ({}) stays behind the login: {why}", given.said));
    };
    if parsed
        .methods
        .iter()
        .any(|method| http::Method::from_bytes(method.as_bytes()).is_err() || !method.bytes().all(|byte| byte.is_ascii_uppercase()))
    {
        return closed(out, "what stands before = is no method".to_owned());
    }
    let anchored = match pattern::anchor(&parsed.path) {
        Ok(anchored) => anchored,
        Err(error) => return closed(out, error),
    };
    let methods = if parsed.methods.is_empty() { String::new() } else { format!(" for {}", parsed.methods.join(", ")) };
    if parsed.negated {
        let [main] = mains else { return closed(out, "it opens all paths but some, and there are several upstreams".to_owned()) };
        if !is_everything(main) {
            return closed(out, "it opens all paths but some, and only some lead to the upstream".to_owned());
        }
        // The route behind it opens the rest, above everything that asks for a login.
        let note = format!("{rule} opened every path{methods} but these. They ask for a login.");
        let kept = Draft {
            id: format!("{}-closed", main.id),
            path: Some(("path_regex", text(&anchored.regex))),
            methods: parsed.methods.clone(),
            notes: vec![note],
            from: vec![given.said.clone()],
            ..main.clone()
        };
        drafts.push(kept);
        drafts.push(opened(
            main,
            ("path_regex", text("/.*")),
            parsed.methods,
            given,
            format!("{rule}: everything else{methods}, without a login."),
        ));
        out.report.say(Part::Different, given, format!("{rule} opens every path{methods} except: {}", anchored.opens));
        out.report.first(format!("{rule} ({}) opens nearly everything{methods}: see that this is meant", given.said));
        return;
    }
    let Some(main) = owner(mains, &anchored) else {
        return closed(out, "it could lead to several upstreams".to_owned());
    };
    let note = format!("Without a login: {}.", anchored.opens);
    drafts.push(opened(main, ("path_regex", text(&anchored.regex)), parsed.methods, given, note));
    let wide = if anchored.loose { " ATTENTION: the pattern has no ^, so that it finds its text anywhere in a path;" } else { "" };
    let words = format!("{rule}:{wide} without a login{methods}: {}. An identity is told where there is a session", anchored.opens);
    out.report.say(if anchored.loose || !words.contains("exactly") { Part::Different } else { Part::Taken }, given, words);
    if anchored.loose {
        out.report
            .first(format!("{rule} ({}) opens {}: write ^ before it, and / or $ behind, if less is meant", given.said, anchored.opens));
    }
}

fn opened(main: &Draft, path: (&'static str, String), methods: Vec<String>, given: &Given, note: String) -> Draft {
    Draft {
        id: format!("{}-open", main.id),
        path: Some(path),
        methods,
        access: Some("optional"),
        notes: vec![note],
        from: vec![given.said.clone()],
        login: None,
        ..main.clone()
    }
}

/// Whether all paths lead there.
fn is_everything(main: &Draft) -> bool {
    is_prefix(main) && main.begins == "/" && main.rewrite.is_none()
}

fn is_prefix(main: &Draft) -> bool {
    !main.exact && main.path.as_ref().is_none_or(|(key, _)| *key == "path")
}

/// Where every path that the pattern finds would have gone.
fn owner<'a>(mains: &'a [Draft], anchored: &Anchored) -> Option<&'a Draft> {
    let rewritten = mains.iter().any(|main| main.rewrite.is_some());
    if let [main] = mains {
        let all = is_everything(main) || (is_prefix(main) && !main.begins.is_empty() && anchored.literal.starts_with(&main.begins));
        return (all && !rewritten).then_some(main);
    }
    // A longer path could take some of them.
    let longer = |main: &Draft| main.begins.len() > anchored.literal.len() || (main.exact && main.begins.len() == anchored.literal.len());
    let deeper = mains.iter().any(|main| longer(main) && main.begins.starts_with(&anchored.literal));
    if deeper || rewritten || mains.iter().any(|main| main.begins.is_empty()) {
        return None;
    }
    mains.iter().filter(|main| !main.exact && anchored.literal.starts_with(&main.begins)).max_by_key(|main| main.begins.len())
}

fn api(given: &Given, rule: &str, mains: &[Draft], drafts: &mut Vec<Draft>, out: &mut Out) {
    let anchored = match pattern::anchor(rule) {
        Ok(anchored) => anchored,
        Err(error) => {
            return out.report.say(
                Part::Missing,
                given,
                format!("{rule}: {error}; programs are told by Sec-Fetch-Mode and Accept all the same"),
            );
        }
    };
    let Some(main) = owner(mains, &anchored) else {
        let words = format!(
            "{rule}: it could lead to several upstreams; login = \"never\" on a route of your own does it. Programs are told by Sec-Fetch-Mode and Accept all the same"
        );
        return out.report.say(Part::Missing, given, words);
    };
    drafts.push(Draft {
        id: format!("{}-api", main.id),
        path: Some(("path_regex", text(&anchored.regex))),
        login: Some("never"),
        notes: vec!["Programs: 401 and never a redirect.".to_owned()],
        from: vec![given.said.clone()],
        ..main.clone()
    });
    out.report.say(Part::Taken, given, format!("{rule}: login = \"never\" for {}", anchored.opens));
}

fn trusted(old: &Old, front: &Front, mains: &[Draft], drafts: &mut Vec<Draft>, out: &mut Out) {
    let Some(given) = old.rest.get("trusted-ip") else { return };
    let listed = old.rest.list("trusted-ip");
    let (nets, wrong): (Vec<String>, Vec<String>) = listed.into_iter().partition(|net| network(net).is_some());
    if !wrong.is_empty() {
        out.report.say(Part::Missing, given, format!("neither addresses nor networks: {wrong:?}"));
    }
    if nets.iter().filter_map(|net| network(net)).any(|net| net.prefix_len() == 0) {
        out.report.say(
            Part::Missing,
            given,
            "everybody's address is in it: access = \"public\" on the routes says that, where it is meant",
        );
        return;
    }
    if nets.is_empty() {
        return;
    }
    if front.proxied && !front.trusts_some {
        let words = format!(
            "left out: behind a proxy every connection comes from the proxy's address, and which proxies may speak for others is not known. With trusted_proxies written, a route with access = \"public\" and client = {nets:?} does it"
        );
        out.report.say(Part::Missing, given, words);
        out.report.first(
            "people at trusted addresses sign in like others until trusted_proxies is written, and a public route with `client` for them",
        );
        return;
    }
    for main in mains.iter().filter(|main| main.upstream.is_some() || mains.len() == 1) {
        drafts.push(Draft {
            id: format!("{}-trusted", main.id),
            client: nets.clone(),
            access: Some("public"),
            login: None,
            notes: vec!["Without a login for these addresses. An address is no proof of who somebody is.".to_owned()],
            from: vec![given.said.clone()],
            ..main.clone()
        });
    }
    out.report.say(Part::Taken, given, "a public route for these addresses (client), before the one for everybody");
}
