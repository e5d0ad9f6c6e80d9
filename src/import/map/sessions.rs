//! Cookies, how long sessions live, and where they are kept.

use url::Url;

use super::super::Out;
use super::super::document::{inline, text, texts};
use super::super::given::Given;
use super::super::old::Old;
use super::super::report::Part;
use super::routes::seconds;
use super::server::Front;

const YEAR: u64 = 366 * 24 * 60 * 60;

pub(super) fn map(old: &Old, front: &Front, out: &mut Out) {
    lifetimes(old, out);
    cookies(old, front, out);
    if old.rest.text("session-store-type").is_some_and(|(_, kind)| kind == "redis") {
        redis(old, out);
    } else {
        no_store(old, out);
    }
    out.report.note(
        Part::Different,
        "first day",
        "sessions are not carried over: everybody signs in once. Old cookies (_oauth2_proxy…) are left to end by themselves",
    );
}

fn lifetimes(old: &Old, out: &mut Out) {
    let given = old.rest.text("cookie-expire");
    let from: Vec<&str> = given.iter().map(|(given, _)| given.said.as_str()).collect();
    let said = given.and_then(|(_, text)| seconds(text));
    let table = out.document.table("[session]");
    match (given, said) {
        (Some((given, _)), Some(0)) => {
            table.set("cookie", text("browser"), &from).explain("Until the browser closes, and at most a week.");
            table.set("idle", text("7d"), &[]);
            table.set("absolute", text("7d"), &[]);
            out.report.say(
                Part::Different,
                given,
                "session.cookie = \"browser\"; the session itself ends after session.absolute all the same",
            );
        }
        (_, Some(seconds)) => {
            let value = text(&spelled(seconds.clamp(60, YEAR)));
            table.set("idle", value.clone(), &[]).explain("There was no end without use; a shorter time is safer.");
            table.set("absolute", value, &from);
            if let Some((given, _)) = given {
                out.report.say(Part::Different, given, "session.absolute, and session.idle as long, since sessions did not end without use there; a refresh does not make absolute longer here");
            }
        }
        (given, None) => {
            table.set("idle", text("7d"), &[]).explain("There was no end without use; a shorter time is safer.");
            table.set("absolute", text("7d"), &[]);
            match given {
                Some((given, wrong)) => {
                    out.report.say(Part::Missing, given, format!("{wrong:?} is no time that can be read; 7d is written"))
                }
                None => out.report.note(
                    Part::Different,
                    "cookie-expire",
                    "168h, its default: session.absolute = \"7d\"; session.idle as long, since sessions did not end without use there",
                ),
            }
        }
    }
}

/// Days, hours, minutes, seconds: the largest that fits.
fn spelled(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let fits = units.iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

fn cookies(old: &Old, front: &Front, out: &mut Out) {
    if let Some((given, name)) = old.rest.text("cookie-name") {
        let plain = name.trim_start_matches("__Host-").trim_start_matches("__Secure-").trim_matches('_');
        let suffix: String = plain.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(31).collect();
        if plain == "oauth2_proxy" || suffix.trim_matches('-').is_empty() {
            out.report.say(Part::Different, given, "the cookie is __Host-doorward, or __Secure-doorward with cookie_domain");
        } else {
            out.document
                .root()
                .set("cookie_suffix", text(&format!("-{}", suffix.trim_matches('-'))), &[&given.said])
                .explain("Tells gateways under one domain apart.");
            out.report.say(Part::Different, given, "the name itself is ours (__Host-doorward); cookie_suffix tells several gateways apart");
        }
    }
    if let Some((given, path)) = old.rest.text("cookie-path") {
        if path == "/" {
            out.report.say(Part::Taken, given, "as it is here always");
        } else {
            out.report.say(
                Part::Missing,
                given,
                "cookies are for the whole host, which the prefix __Host- wants; cookie_suffix tells several gateways on one host apart",
            );
        }
    }
    domain(old, front, out);
    if let Some((given, value)) = old.rest.text("cookie-samesite") {
        match value.to_ascii_lowercase().as_str() {
            "lax" => out.report.say(Part::Taken, given, "Lax, as it is here always"),
            "strict" => out.report.say(Part::Missing, given, "cookies are Lax: with Strict the way back from the provider would come without one"),
            _ => out.report.say(Part::Missing, given, "cookies are Lax, so that pages of other sites cannot use them; an app framed by another site needs a host of the same site"),
        }
    } else {
        out.report.note(
            Part::Different,
            "cookie-samesite",
            "unset there, Lax here: an app in a frame of another site does not see its session",
        );
    }
}

fn domain(old: &Old, front: &Front, out: &mut Out) {
    let Some(given) = old.rest.get("cookie-domain") else { return };
    let listed: Vec<String> =
        old.rest.list("cookie-domain").iter().map(|domain| domain.trim_start_matches('.').to_ascii_lowercase()).collect();
    let holds = |domain: &&String| {
        let first = front.hosts.first().map(String::as_str).unwrap_or_default();
        domain.contains('.') && (first == domain.as_str() || first.ends_with(&format!(".{domain}")))
    };
    // A single host needs none: a cookie of the host alone goes nowhere else.
    let alone = |domain: &String| front.hosts.len() == 1 && front.hosts.first() == Some(domain);
    match listed.iter().filter(holds).max_by_key(|domain| domain.len()) {
        Some(domain) if alone(domain) && !given.values.iter().any(|value| value.starts_with('.')) => {
            out.report.say(
                Part::Different,
                given,
                "left out: it is the host itself, whose cookie (__Host-doorward) goes to that host alone",
            );
        }
        Some(domain) => {
            out.document.root().set("cookie_domain", text(domain), &[&given.said]).explain(
                "One session for all hosts under this domain, every one of which sees its cookie. Other hosts have to be named in public_url or by routes.",
            );
            out.report.say(
                Part::Taken,
                given,
                format!("cookie_domain = {domain:?}; every other host under it has to be named in public_url or by a route"),
            );
        }
        None if listed.is_empty() => {}
        None => out.report.say(Part::Missing, given, "none of them holds the host of public_url, where people sign in"),
    }
    if listed.len() > 1 {
        out.report.say(
            Part::Missing,
            given,
            "one cookie_domain a gateway: hosts of the other domains have sessions of their own, or a gateway of their own",
        );
    }
}

/// A URL without the user and password that it holds.
struct RedisUrl {
    url: String,
    username: Option<String>,
    password: Option<String>,
}

fn parse(given: &str) -> Option<RedisUrl> {
    let mut url = Url::parse(given).ok().filter(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host())?;
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let username = Some(decoded(url.username())).filter(|name| !name.is_empty());
    let password = url.password().map(decoded);
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_query(None);
    Some(RedisUrl { url: url.as_str().trim_end_matches('/').to_owned(), username, password })
}

fn redis(old: &Old, out: &mut Out) {
    let rest = &old.rest;
    let kind: Vec<&str> = rest.get("session-store-type").iter().map(|given| given.said.as_str()).collect();
    out.document.table("[store]").set("kind", text("redis"), &kind);
    if let Some(given) = rest.get("session-store-type") {
        out.report.say(Part::Taken, given, "store.kind");
    }
    let sentinel = rest.switched("redis-use-sentinel", true);
    let cluster = rest.switched("redis-use-cluster", true);
    let mut found = Vec::new();
    let (option, key) = match (sentinel, cluster) {
        (Some(_), _) => ("redis-sentinel-connection-urls", "sentinels"),
        (None, Some(_)) => ("redis-cluster-connection-urls", "cluster"),
        (None, None) => ("redis-connection-url", "url"),
    };
    let given = rest.get(option);
    let urls: Vec<RedisUrl> = given.into_iter().flat_map(|given| &given.values).filter_map(|text| parse(text)).collect();
    let listed: Vec<&str> = urls.iter().map(|url| url.url.as_str()).collect();
    let fallback = "redis://fill-in.example.com:6379";
    if listed.is_empty() {
        out.report.first(format!(
            "write store.{key}: the input does not say where Redis is{}",
            given.and_then(|given| given.kept.as_ref()).map(|place| format!(" ({place})")).unwrap_or_default()
        ));
    }
    let from: Vec<&str> = given.iter().map(|given| given.said.as_str()).collect();
    let value = match (key, listed.as_slice()) {
        ("url", [one, ..]) => text(one),
        ("url", []) => text(fallback),
        (_, []) => texts([fallback]),
        (_, all) => texts(all),
    };
    out.document.table("[store]").set(key, value, &from);
    if let Some(given) = given {
        out.report.say(Part::Taken, given, format!("store.{key}; user and password stand apart, since addresses get logged"));
    }
    for given in [sentinel, cluster].into_iter().flatten() {
        out.report.say(Part::Taken, given, format!("store.{key}"));
    }
    if sentinel.is_some() {
        let master = rest.text("redis-sentinel-master-name");
        let from: Vec<&str> = master.iter().map(|(given, _)| given.said.as_str()).collect();
        out.document.table("[store]").set("master_name", text(master.map_or("mymaster", |(_, name)| name)), &from);
        if let Some((given, _)) = master {
            out.report.say(Part::Taken, given, "store.master_name");
        }
        password(
            rest.get("redis-sentinel-password"),
            None,
            "sentinel_password_file",
            "redis_sentinel_password",
            "the password of the sentinels",
            out,
        );
    }
    found.extend(urls);
    let username = rest.text("redis-username");
    let named = username
        .map(|(_, name)| name.to_owned())
        .or_else(|| found.iter().find_map(|url| url.username.clone()))
        .filter(|name| name != "default");
    if let Some(name) = named {
        let from: Vec<&str> = username.iter().map(|(given, _)| given.said.as_str()).collect();
        out.document.table("[store]").set("username", text(&name), &from);
    }
    if let Some((given, _)) = username {
        out.report.say(Part::Taken, given, "store.username");
    }
    let in_url = found.iter().find_map(|url| url.password.clone());
    password(rest.get("redis-password"), in_url, "password_file", "redis_password", "the password of Redis", out);
    if let Some((given, path)) = rest.text("redis-ca-path") {
        out.document.table("[store]").set("tls", inline([("ca_file", text(path))]), &[&given.said]);
        out.report.say(Part::Taken, given, "store.tls.ca_file, beside the system's authorities");
    }
    let path = out.secrets.seal_key();
    out.document.table("[keys]").set("seal_file", text(&path), &[]).explain("Seals sessions in Redis; the same file on every replica.");
    out.report.note(
        Part::Different,
        "keys",
        "sessions are sealed by keys of a file (keys.seal_file), the same on every replica; a copy of Redis opens none of them",
    );
}

fn password(given: Option<&Given>, in_url: Option<String>, key: &str, file: &str, what: &str, out: &mut Out) {
    let given = given.filter(|given| super::who::said(Some(given)));
    let value = given.and_then(Given::text).map(str::to_owned).or(in_url);
    if given.is_none() && value.is_none() {
        return;
    }
    let place = given.and_then(|given| given.kept.clone()).map(|place| format!(" ({place})")).unwrap_or_default();
    let path = out.secrets.put(file, value.as_deref(), format!("{what}{place}"));
    let from: Vec<&str> = given.iter().map(|given| given.said.as_str()).collect();
    out.document.table("[store]").set(key, text(&path), &from);
    if let Some(given) = given {
        out.report.say(Part::Taken, given, format!("store.{key}; the secret itself stays out of the config"));
    }
}

/// Its default keeps everything in the cookie.
fn no_store(old: &Old, out: &mut Out) {
    let several = old.around.replicas.is_some_and(|replicas| replicas > 1);
    let ways = "(a) store.kind = \"redis\" for several replicas; (b) one replica with a volume for the embedded store, as written; (c) store.kind = \"memory\", where a restart may sign everybody out";
    let words = format!("sessions lay in the cookie alone, which no logout could end; here they lie in a store. Choose: {ways}");
    match old.rest.text("session-store-type") {
        Some((given, "cookie")) => out.report.say(Part::Missing, given, words),
        Some((given, other)) => out.report.say(Part::Missing, given, format!("{other:?} is no store that is known; {words}")),
        None => out.report.note(Part::Missing, "session-store-type", format!("cookie, its default: {words}")),
    }
    let replicas =
        old.around.replicas.map(|replicas| format!("the input has {replicas} replicas; ")).filter(|_| several).unwrap_or_default();
    let volume = if old.around.kubernetes { "; the pod needs a volume at store.path, or logins do not survive it" } else { "" };
    out.report.first(format!("{replicas}choose where sessions lie: {ways}{volume}"));
    out.document.table("[store]").set("kind", text("embedded"), &[]).explain(format!(
        "Sessions lay in the cookie there. {}A file here; \"redis\" for several replicas, \"memory\" where a restart may sign everybody out.",
        if several { "EVERY REPLICA WOULD HAVE SESSIONS OF ITS OWN: write redis, or run one. " } else { "" }
    ));
}
