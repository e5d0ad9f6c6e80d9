//! Options that speak of upstreams and headers, as oauth2-proxy itself turns them into the structured form.

use url::Url;

use super::given::Givens;
use super::old::{OldHeader, OldPath, OldSecret, OldUpstream, OldValue, Target};
use super::report::{Part, Report};

/// `upstream`, one each.
pub fn upstreams(givens: &Givens) -> Vec<OldUpstream> {
    let Some(given) = givens.get("upstream") else { return Vec::new() };
    let pass_host = givens.switched("pass-host-header", false).map_or((true, String::new()), |given| (false, given.said.clone()));
    let insecure = givens.switched("ssl-upstream-insecure-skip-verify", true).map(|given| given.said.clone());
    let timeout = givens.text("upstream-timeout").map(|(_, text)| text.to_owned());
    let one = |text: &String| {
        let (target, path) = target(text);
        OldUpstream {
            said: given.said.clone(),
            id: None,
            path,
            target,
            rewrite: None,
            pass_host: pass_host.clone(),
            insecure: insecure.clone(),
            timeout: timeout.clone(),
        }
    };
    given.values.iter().filter(|text| !text.is_empty()).map(one).collect()
}

/// What an address means, and which requests go there: its path.
pub fn target(text: &str) -> (Target, OldPath) {
    let all = || OldPath::Prefix("/".to_owned());
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    match scheme {
        "static" => (Target::Static(rest.trim_end_matches('/').parse().unwrap_or(200)), all()),
        "unix" => (Target::Unix(format!("/{}", rest.trim_start_matches('/'))), all()),
        "file" => {
            let (folder, at) = rest.split_once('#').unwrap_or((rest, rest));
            (Target::Files(folder.to_owned()), path(at))
        }
        "http" | "https" => match Url::parse(text) {
            Ok(url) => {
                let origin = text.get(..scheme.len() + 3 + authority(rest).len()).unwrap_or(text);
                (Target::Http(origin.to_owned()), path(url.path()))
            }
            Err(_) => (Target::Unknown(text.to_owned()), all()),
        },
        _ => (Target::Unknown(text.to_owned()), all()),
    }
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// A path that ends in a slash is a beginning, any other is itself.
pub fn path(text: &str) -> OldPath {
    let text = if text.is_empty() { "/" } else { text };
    if text.ends_with('/') { OldPath::Prefix(text.to_owned()) } else { OldPath::Exact(text.to_owned()) }
}

/// What was added to requests, and to answers.
pub fn headers(givens: &Givens, report: &mut Report) -> (Vec<OldHeader>, Vec<OldHeader>) {
    let on = |name: &str| givens.switched(name, true).map(|given| given.said.clone());
    let off = |name: &str| givens.switched(name, false).is_some();
    let by_email = on("prefer-email-to-user").is_some();
    let user = if by_email { "email" } else { "user" };
    let preserved = off("skip-auth-strip-headers");
    let claim = |said: &str, name: &str, claim: &str, prefix: &str, password: Option<OldSecret>| OldHeader {
        said: said.to_owned(),
        name: name.to_owned(),
        values: vec![OldValue::Claim { claim: claim.to_owned(), prefix: prefix.to_owned(), password }],
        preserved,
    };
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    let password = givens.get("basic-auth-password").and_then(|given| match (&given.kept, given.text()) {
        (Some(place), _) => Some((given.said.clone(), OldSecret::Kept(place.clone()))),
        (None, text) => text.map(|text| (given.said.clone(), OldSecret::Value(text.to_owned()))),
    });
    if let (Some((said, password)), false) = (&password, off("pass-basic-auth")) {
        requests.push(claim(said, "Authorization", user, "Basic ", Some(password.clone())));
    }
    if !(off("pass-basic-auth") && off("pass-user-headers")) {
        let said = ["pass-user-headers", "prefer-email-to-user"].iter().find_map(|name| on(name)).unwrap_or_default();
        requests.push(claim(&said, "X-Forwarded-Groups", "groups", "", None));
        requests.push(claim(&said, "X-Forwarded-User", user, "", None));
        if !by_email {
            requests.push(claim(&said, "X-Forwarded-Email", "email", "", None));
        }
        requests.push(claim(&said, "X-Forwarded-Preferred-Username", "preferred_username", "", None));
    }
    if let Some(said) = on("pass-access-token") {
        requests.push(claim(&said, "X-Forwarded-Access-Token", "access_token", "", None));
    }
    if let Some(said) = on("pass-authorization-header") {
        requests.push(claim(&said, "Authorization", "id_token", "Bearer ", None));
    }
    if let Some(said) = on("set-xauthrequest") {
        for (name, of) in [("User", "user"), ("Email", "email"), ("Preferred-Username", "preferred_username"), ("Groups", "groups")] {
            answers.push(claim(&said, &format!("X-Auth-Request-{name}"), of, "", None));
        }
        if on("pass-access-token").is_some() {
            answers.push(claim(&said, "X-Auth-Request-Access-Token", "access_token", "", None));
        }
    }
    if let Some(said) = on("set-authorization-header") {
        answers.push(claim(&said, "Authorization", "id_token", "Bearer ", None));
    } else if let (Some(said), Some((_, password))) = (on("set-basic-auth"), &password) {
        answers.push(claim(&said, "Authorization", user, "Basic ", Some(password.clone())));
    }
    for (name, text) in [
        ("pass-basic-auth", "Basic goes to the upstream only with basic-auth-password, so that alone this changes nothing"),
        ("pass-user-headers", "X-Forwarded-User, -Email, -Groups and -Preferred-Username; identity_headers on a route sends fewer"),
    ] {
        if let Some(given) = givens.get(name) {
            report.say(Part::Taken, given, text);
        }
    }
    (requests, answers)
}
