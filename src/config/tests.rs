//! The config as its writers meet it: what loads, and what every mistake is told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::*;

pub(super) struct File(pub(super) PathBuf);

impl File {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let unique = crate::secret::encode(&crate::secret::random::<8>());
        let folder = std::env::temp_dir().join(format!("doorward-config-{unique}"));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn load_text(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let file = File::new(name, text);
    load(&Sources { file: Some(&file.0), environment: environment(variables), flags: Vec::new() })
}

pub(super) fn problems(text: &str) -> Vec<(String, String)> {
    match load_text("config.toml", text, &[]) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.into_iter().map(|problem| (problem.path, problem.message)).collect(),
    }
}

fn paths(text: &str) -> Vec<String> {
    problems(text).into_iter().map(|(path, _)| path).collect()
}

const PROVIDER: &str = "[provider]\nissuer = \"https://login.test\"\nclient_id = \"app\"\nclient_secret = \"s3cret\"\n";

fn with_provider(top: &str, rest: &str) -> String {
    format!("{top}\n{PROVIDER}{rest}")
}

const TOP: &str = "public_url = \"https://app.test\"\n";

/// What the example holds, its settings at rest awakened.
pub(super) fn awakened() -> String {
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml.example")).unwrap();
    let at_rest = |line: &str| {
        line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[')).map(str::to_owned)
    };
    example.lines().map(|line| at_rest(line).unwrap_or_else(|| line.to_owned())).collect::<Vec<_>>().join("\n")
}

/// Key paths of a TOML value; lists of tables count as their tables, free names are left out.
fn keys_of(value: &serde_json::Value, path: &str, out: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(table) => {
            for (key, inner) in table {
                let inner_path = match path {
                    "" => key.clone(),
                    "policy" | "outbound" => format!("{path}.NAME"),
                    _ => format!("{path}.{key}"),
                };
                let free = matches!(
                    path.rsplit('.').next(),
                    Some("headers" | "response_headers" | "claims" | "parameters" | "authorize" | "authorize_from_start")
                ) && path != "forward_auth";
                if !free {
                    if inner_path != "policy.NAME" && inner_path != "outbound.NAME" {
                        out.insert(normal(&inner_path));
                    }
                    keys_of(inner, &inner_path, out);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| keys_of(item, path, out)),
        _ => {}
    }
}

/// `allow` and `deny` of a route, at the top or inside `any_of` has the keys of a policy.
fn normal(path: &str) -> String {
    for head in ["route.allow.", "route.deny.", "allow.", "policy.NAME.any_of."] {
        if let Some(rest) = path.strip_prefix(head) {
            return normal(&format!("policy.NAME.{rest}"));
        }
    }
    path.to_owned()
}

#[test]
fn the_example_loads_as_it_is() {
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml.example")).unwrap();
    let config = load_text("config.toml", &example, &[]).map_err(|problems| format!("{problems:?}")).unwrap();
    assert_eq!(config.routes.table.routes().len(), 1);
}

#[test]
fn the_example_holds_every_key_that_the_code_reads_and_no_other() {
    let text = awakened();
    let file = File::new("config.toml", &text);
    let figment = figment::Figment::from(<figment::providers::Toml as figment::providers::Format>::file(&file.0));
    let value: serde_json::Value = figment.extract().unwrap();
    let mut written = BTreeSet::new();
    keys_of(&value, "", &mut written);
    let read: BTreeSet<String> = known_keys(&Sources { file: Some(&file.0), ..Sources::default() }).iter().map(|key| normal(key)).collect();
    assert!(read.len() > 80, "the check found next to nothing to check: {read:?}");
    let missing: Vec<_> = read.difference(&written).collect();
    let unknown: Vec<_> = written.difference(&read).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not in the example: {missing:?}; not in the code: {unknown:?}");
}

#[test]
fn an_assertion_says_whom_it_is_for_and_nothing_of_it_stands_alone() {
    let route = |keys: &str| with_provider(TOP, &format!("[[route]]\nupstream = \"http://127.0.0.1:1\"\n{keys}"));
    let allowed = "allow = \"any-authenticated\"\n";
    for (keys, wrong) in [
        (format!("{allowed}id = \"a\"\nassertion = true"), None),
        (format!("{allowed}assertion = true\nassertion_audience = \"x\"\nassertion_claims = [\"email\", \"a.b\"]"), None),
        (format!("{allowed}assertion = true"), Some("route[0].assertion")),
        (format!("{allowed}id = \"a\"\nassertion_audience = \"x\""), Some("route[0].assertion_audience")),
        (format!("{allowed}id = \"a\"\nassertion_claims = [\"email\"]"), Some("route[0].assertion_claims")),
        (format!("{allowed}id = \"a\"\nassertion = true\nassertion_claims = [\"iss\"]"), Some("route[0].assertion_claims")),
        ("access = \"public\"\nid = \"a\"\nassertion = true".to_owned(), Some("route[0].assertion")),
        (format!("{allowed}id = \"a\"\n[keys]\nassertion_rotation = \"30d\""), Some("keys.assertion_rotation")),
        (format!("{allowed}id = \"a\"\nassertion = true\n[keys]\nassertion_rotation = \"1h\""), Some("keys.assertion_rotation")),
        (format!("{allowed}id = \"a\"\nassertion = true\n[keys]\nassertion_file = \"/nowhere\""), Some("keys.assertion_file")),
    ] {
        assert_eq!(paths(&route(&keys)), wrong.into_iter().collect::<Vec<_>>(), "{keys}");
    }
    let config =
        load_text("config.toml", &route(&format!("{allowed}id = \"a\"\nassertion = true\n[keys]\nassertion_rotation = \"off\"")), &[]);
    assert_eq!(config.ok().unwrap().assertion, Some(AssertionKeys::Made { rotation: None }));
}

#[test]
fn every_default_in_the_example_is_the_codes() {
    // A config of nothing but settings at rest that state a default loads to the same limits as one without them.
    let plain = load_text(
        "config.toml",
        &with_provider(&format!("{TOP}upstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\""), ""),
        &[],
    );
    let tables = awakened();
    let table = |name: &str| {
        let start = tables.find(&format!("\n[{name}]\n")).unwrap();
        let rest = &tables[start + 1..];
        rest[..rest[1..].find("\n[").map_or(rest.len(), |at| at + 1)].to_owned()
    };
    let rest = [table("limits"), table("drain"), table("session"), table("admin"), table("log")].join("\n");
    // Two ways of saying a secret are no defaults.
    let rest: Vec<&str> = rest.lines().filter(|line| !line.starts_with("token")).collect();
    let rest = rest.join("\n");
    let text = with_provider(&format!("{TOP}upstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\""), &rest);
    let stated = load_text("config.toml", &text, &[]).map_err(|problems| format!("{problems:?}")).unwrap();
    let plain = plain.map_err(|problems| format!("{problems:?}")).unwrap();
    assert_eq!(plain.gateway.limits, stated.gateway.limits);
    assert_eq!(plain.gateway.drain, stated.gateway.drain);
    assert_eq!(plain.gateway.admin, stated.gateway.admin);
    assert_eq!(plain.gateway.log, stated.gateway.log);
    assert_eq!(plain.session, stated.session);
}

#[test]
fn five_mistakes_are_five_messages() {
    let text = r#"
public_url = "http://app.example.com"
upstrem = "http://127.0.0.1:8080"
upstream = "127.0.0.1:8080"
allow = { groups = [] }
[provider]
issuer = "http://login.example.com"
client_id = "app"
client_secret = "x"
[session]
idle = "300x"
"#;
    let found = paths(text);
    for path in ["public_url", "upstrem", "upstream", "allow.groups", "provider.issuer", "session.idle"] {
        assert!(found.iter().any(|known| known == path), "{path} in {found:?}");
    }
    let hint = problems(text).into_iter().find(|(path, _)| path == "upstrem").unwrap().1;
    assert!(hint.contains("did you mean \"upstream\""), "{hint}");
}

#[test]
fn a_key_of_the_top_that_stands_below_a_table_is_told_where_it_belongs() {
    let text = with_provider(&format!("{TOP}upstream = \"http://127.0.0.1:1\""), "[allow]\ngroups = [\"a\"]\nhsts = \"1d\"\nhosts = \"x\"");
    let found = problems(&text);
    let told = |path: &str| &found.iter().find(|(known, _)| known == path).unwrap_or_else(|| panic!("{path} in {found:?}")).1;
    assert!(told("allow.hsts").contains("above the first [table]"), "{found:?}");
    assert!(told("allow.hosts").contains("known here: any_of"), "{found:?}");
}

#[test]
fn forward_auth_without_a_trusted_proxy_is_a_warning() {
    let load = |top: &str| {
        let tables = "[forward_auth]\nheaders = \"nginx\"\n[[route]]\nallow = \"any-authenticated\"\n";
        load_text("config.toml", &with_provider(&format!("{TOP}{top}"), tables), &[]).unwrap_or_else(|problems| panic!("{problems:?}"))
    };
    let found = load("").warnings;
    assert!(found.iter().any(|problem| problem.path == "trusted_proxies" && problem.message.contains("names nobody")), "{found:?}");
    let found = load("trusted_proxies = [\"127.0.0.1\"]\n").warnings;
    assert!(!found.iter().any(|problem| problem.path == "trusted_proxies"), "{found:?}");
}

#[test]
fn nobody_is_allowed_by_silence() {
    let missing = problems(&with_provider(&format!("{TOP}upstream = \"http://127.0.0.1:1\""), ""));
    assert!(missing.iter().any(|(path, message)| path == "allow" && message.contains("any-authenticated")), "{missing:?}");
    for allow in ["{}", "[]", "\"\"", "\"everybody\"", "{ groups = [\"\"] }", "{ any_of = [] }", "{ email_domains = [\"@x.test\"] }"] {
        let found = paths(&with_provider(&format!("{TOP}upstream = \"http://127.0.0.1:1\"\nallow = {allow}"), ""));
        assert!(found.iter().any(|path| path.starts_with("allow")), "{allow}: {found:?}");
    }
}

#[test]
fn two_routes_that_tie_are_both_named() {
    let text = with_provider(
        TOP,
        "[[route]]\nid = \"one\"\npath = \"/a/\"\nallow = \"any-authenticated\"\n[[route]]\nid = \"two\"\npath = \"/a\"\naccess = \"public\"\n",
    );
    let found = problems(&text);
    assert!(found.iter().any(|(_, message)| message.contains("\"one\"") && message.contains("\"two\"")), "{found:?}");
}

#[test]
fn values_that_do_not_fit_are_refused_by_name() {
    for (line, path) in [
        ("[limits]\nheader_bytes = \"1GiB\"", "limits.header_bytes"),
        ("logout_url = \"https://login.test/out?u={user}\"", "provider.logout_url"),
        ("logout_url = \"http://login.test/out\"", "provider.logout_url"),
        ("logout_token_exp = \"no\"", "provider.logout_token_exp"),
        ("[admin]\ntoken = \"fifteen-letters\"", "admin.token"),
        ("[admin]\ntoken = \"\"", "admin.token"),
        ("[admin]\ntoken_file = \"/nowhere/token\"", "admin.token_file"),
        ("[limits]\nheaders = 5000", "limits.headers"),
        ("[limits]\nheaders = -1", "limits.headers"),
        ("[limits]\nheaders = \"100\"", "limits.headers"),
        ("[session]\nabsolute = 3600", "session.absolute"),
        ("[session]\nidle = \"30d\"\nabsolute = \"1d\"", "session.idle"),
        ("[log]\nlevel = \"loud\"", "log.level"),
        ("[store]\nkind = \"redis\"", "store.url"),
        ("[store]\nkind = \"redis\"\nsentinels = [\"redis://h\"]", "store.master_name"),
        ("[store]\nkind = \"redis\"\nsentinels = [\"h:26379\"]\nmaster_name = \"m\"", "store.sentinels"),
        ("[store]\nkind = \"redis\"\nsentinels = []\nmaster_name = \"m\"", "store.sentinels"),
        ("[store]\nkind = \"redis\"\nurl = \"redis://h\"\nmaster_name = \"m\"", "store.master_name"),
        ("[store]\nkind = \"redis\"\nurl = \"redis://h\"\ncluster = [\"redis://h\"]", "store.cluster"),
        ("[store]\nkind = \"redis\"\ncluster = [\"http://h\"]", "store.cluster"),
        ("[store]\nkind = \"redis\"\nurl = \"redis://h\"\nwait_replicas = 99", "store.wait_replicas"),
        ("[store]\nkind = \"redis\"\nurl = \"redis://h\"\nprefix = \"{corp}:\"", "store.prefix"),
        ("[store]\nkind = \"redis\"\nurl = \"redis://h\"\nprefix = \"corp:*\"", "store.prefix"),
        ("[store]\nprefix = \"corp:\"", "store.prefix"),
        ("[store]\nkind = \"redis\"\nurl = \"rediss://h\"\ntls = { certificate_file = \"/etc/hostname\" }", "store.tls.key_file"),
        ("[store]\nkind = \"memory\"\nwait_replicas = 1", "store.wait_replicas"),
        ("[store]\nkind = \"memory\"\npath = \"/x\"", "store.path"),
        ("[store]\nkind = \"redis\"\nurl = \"redis://:hunter2@h:1\"", "store.url"),
        ("[pages]\naccent = \"red; }\"", "pages.accent"),
        ("[tls]\ncertificate_file = \"/none\"", "tls.key_file"),
        ("[admin]\nlisten = \"4181\"", "admin.listen"),
        ("[policy.x]\ngroups = \"\"", "policy.x.groups"),
        ("[forward_auth]\nheaders = \"both\"", "forward_auth.headers"),
        ("[forward_auth]\nnarrow = \"yes\"", "forward_auth.narrow"),
        ("[forward_auth]\nnarrow = true", "forward_auth.narrow"),
        ("[[token_issuer]]\nissuer = \"https://i.test\"", "token_issuer.audience"),
        ("[[token_issuer]]\nissuer = \"https://i.test\"\naudience = \"x\"\nalgorithms = [\"none\"]", "token_issuer.algorithms"),
        ("[[token_issuer]]\nissuer = \"https://i.test\"\naudience = \"x\"\nalgorithms = [\"HS256\"]", "token_issuer.algorithms"),
    ] {
        let found = paths(&with_provider(&format!("{TOP}upstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\""), line));
        let plain: Vec<String> = found.iter().map(|found| found.replace("[0]", "")).collect();
        assert!(plain.iter().any(|found| found == path), "{line}: {found:?}");
    }
}

#[test]
fn routes_say_what_does_not_fit_together() {
    for (route, key) in [
        ("access = \"public\"\nallow = { groups = [\"x\"] }", "allow"),
        ("access = \"public\"\naccept = [\"session\"]", "accept"),
        ("access = \"public\"\nacr = [\"mfa\"]", "acr"),
        ("access = \"optional\"\nmax_age = 60", "max_age"),
        ("allow = \"any-authenticated\"\nacr = []", "acr"),
        ("allow = \"any-authenticated\"\nacr = [\"two words\"]", "acr"),
        ("allow = \"any-authenticated\"\nacr = [\"a\\\"b\"]", "acr"),
        ("allow = \"any-authenticated\"\nmax_age = \"soon\"", "max_age"),
        ("access = \"secret\"", "access"),
        ("allow = { groups = [\"x\"] }\naccept = [\"bearer\"]", "accept"),
        ("policy = \"none\"", "policy"),
        ("allow = \"any-authenticated\"\nprovider = [\"nobody\"]", "provider"),
        ("allow = \"any-authenticated\"\npath = \"/a\"\npath_regex = \"/a\"", "path_regex"),
        ("allow = \"any-authenticated\"\nmethods = [\"get\"]", "methods"),
        ("allow = \"any-authenticated\"\nheaders = { \"Host\" = \"{claims.x}\" }", "headers"),
        ("allow = \"any-authenticated\"\nheaders = { \"X-A\" = \"{name}\" }", "headers"),
        ("allow = \"any-authenticated\"\norigins = [\"https://a.test/path\"]", "origins"),
        ("allow = \"any-authenticated\"\nupstream = [\"http://a:1\", \"https://b:1\"]", "upstream"),
        ("", "allow"),
    ] {
        let found = paths(&with_provider(TOP, &format!("[[route]]\n{route}\n")));
        assert!(found.iter().any(|path| path == &format!("route[0].{key}")), "{route}: {found:?}");
    }
}

#[test]
fn bearer_in_names_places_that_fit_the_route() {
    const UPSTREAM: &str = "upstream = \"http://127.0.0.1:1\"\n";
    let issuer = "[[token_issuer]]\nissuer = \"https://i.test\"\naudience = \"x\"\n";
    let told = |accept: &str, places: &str| {
        let route = format!("{issuer}[[route]]\nallow = \"any-authenticated\"\naccept = {accept}\nbearer_in = {places}\n");
        problems(&with_provider(TOP, &route)).into_iter().map(|(path, message)| format!("{path}: {message}")).collect::<Vec<_>>().join("\n")
    };
    let bearer = "[\"bearer\"]";
    for sound in ["[\"header\"]", "[\"query\", \"header:X-Token\"]", "[\"subprotocol\", \"header:x-a\", \"header:x-b\"]"] {
        assert_eq!(told(bearer, sound), "", "{sound}");
    }
    assert_eq!(told(&format!("{bearer}\n{UPSTREAM}"), "[\"header\", \"body\"]"), "");
    let set_here = format!("{bearer}\nheaders = {{ \"X-Mine\" = \"1\" }}\n");
    for (accept, places, expected) in [
        (bearer, "[\"body\"]", "take \"body\" out, or name an upstream"),
        ("[\"session\"]", "[\"query\"]", "add \"bearer\" to accept"),
        (bearer, "[\"cookie\"]", "expected \"header\", \"query\", \"body\", \"subprotocol\" or \"header:NAME\"; found \"cookie\""),
        (bearer, "[\"query\", \"query\"]", "one place twice"),
        (bearer, "[]", "empty list"),
        (bearer, "[\"header:\"]", "a header's name"),
        (bearer, "[\"header:Authorization\"]", "expected \"header\""),
        (bearer, "[\"header:Cookie\"]", "that means nothing else"),
        (bearer, "[\"header:Host\"]", "that means nothing else"),
        (bearer, "[\"header:Content-Type\"]", "that means nothing else"),
        (bearer, "[\"header:Sec-WebSocket-Protocol\"]", "that means nothing else"),
        (bearer, "[\"header:X-Forwarded-Access-Token\"]", "that means nothing else"),
        (bearer, "[\"header:X_Token\"]", "that means nothing else"),
        (bearer, "[\"header:Doorward-Assertion\"]", "that means nothing else"),
        (&set_here, "[\"header:x-mine\"]", "needs another name"),
    ] {
        let told = told(accept, places);
        assert!(told.starts_with("route[0].bearer_in: ") && told.contains(expected) && !told.contains('\n'), "{places}: {told:?}");
    }
    let keys = File::new("keys", "");
    let both = format!(
        "{issuer}[api_keys]\nfile = \"{}\"\n[[route]]\nallow = \"any-authenticated\"\naccept = [\"bearer\", \"api_key\"]\n\
         bearer_in = [\"header:X-Api-Key\"]\n",
        keys.0.display()
    );
    let found = problems(&with_provider(TOP, &both));
    assert!(found.iter().any(|(path, told)| path == "route[0].bearer_in" && told.contains("where API keys stand")), "{found:?}");
    let public = format!("[[route]]\naccess = \"public\"\n{UPSTREAM}bearer_in = [\"query\"]\n");
    assert_eq!(paths(&with_provider(TOP, &public)), ["route[0].bearer_in"]);
    let optional = format!("{issuer}[[route]]\naccess = \"optional\"\naccept = {bearer}\n{UPSTREAM}bearer_in = [\"query\"]\n");
    assert_eq!(paths(&with_provider(TOP, &optional)), Vec::<String>::new());
}

#[test]
fn bound_tokens_and_certificates_need_who_shows_them() {
    let issuer = "[[token_issuer]]\nissuer = \"https://i.test\"\naudience = \"api\"\n";
    let route = |keys: &str| format!("{issuer}[[route]]\nallow = \"any-authenticated\"\nupstream = \"http://127.0.0.1:1\"\n{keys}\n");
    let told = |top: &str, tables: &str| paths(&with_provider(&format!("{TOP}{top}"), tables));
    for key in ["dpop = \"required\"", "dpop_nonce = true", "dpop_proof = \"forward\"", "certificate_bound = \"accepted\""] {
        let name = key.split(' ').next().unwrap();
        assert_eq!(told("", &route(&format!("accept = [\"session\"]\n{key}"))), [format!("route[0].{name}")], "{key}");
        assert!(told("", &route(&format!("accept = [\"bearer\"]\n{key}"))).is_empty(), "{key}");
    }
    assert_eq!(told("", &route("accept = [\"bearer\"]\ndpop = \"maybe\"")), ["route[0].dpop"]);
    // One of two tokens would take the other's place, with the other's proof beside it.
    for (header, wrong) in [("", vec!["route[0].dpop_proof".to_owned()]), ("header = \"X-Token\"\n", vec![])] {
        let own = format!("[outbound.own]\nprovider = \"default\"\n{header}");
        let route = route("accept = [\"bearer\"]\noutbound = \"own\"\ndpop_proof = \"forward\"");
        assert_eq!(told("", &format!("{own}{route}")), wrong);
    }
    // Nobody is asked for a certificate.
    assert_eq!(told("", &route("accept = [\"bearer\"]\ncertificate_bound = \"required\"")), ["route"]);
    assert_eq!(told("", &route("accept = [\"certificate\"]")), ["route"]);
    let header = "client_certificate = { header = \"Client-Cert\" }\n";
    assert_eq!(told(header, &route("")), ["client_certificate.header"]);
    let trusted = format!("trusted_proxies = [\"10.0.0.1\"]\n{header}");
    assert!(told(&trusted, &route("accept = [\"certificate\"]\nprovider = [\"certificate\"]")).is_empty());
    assert_eq!(told("", &route("provider = [\"certificate\"]")), ["route[0].provider"]);
    // Nor is a provider of that name taken for them.
    let named = with_provider(&format!("{TOP}{trusted}"), &route("")).replace("[provider]", "[provider]\nid = \"certificate\"");
    assert_eq!(paths(&named), ["provider"]);
    let named = with_provider(TOP, &route("")).replace("[provider]", "[provider]\nid = \"certificate\"");
    assert!(paths(&named).is_empty());
    for wrong in ["header = \"Cookie\"", "header = \"X_Cert\"", "header = \"a b\""] {
        let top = format!("trusted_proxies = [\"10.0.0.1\"]\nclient_certificate = {{ {wrong} }}\n");
        assert_eq!(told(&top, &route("")), ["client_certificate.header"], "{wrong}");
    }
    assert_eq!(told("client_certificate = { user = \"cn\" }\n", &route("")), ["client_certificate.user"]);
    assert_eq!(told("tls = { client_ca_file = \"/dev/null\" }\n", &route("")), ["tls.client_ca_file"]);
    // What a certificate claims is one more that could be meant.
    let claims = "[[route]]\nupstream = \"http://127.0.0.1:1\"\naccept = [\"session\", \"certificate\"]\n";
    let rule = |keys: &str| format!("{claims}allow = {{ claims = {{ san_dns = [\"a\"] }} {keys} }}\n");
    assert_eq!(told(&trusted, &rule("")), ["route[0].allow"]);
    assert!(told(&trusted, &rule(", provider = [\"certificate\"]")).is_empty());
}

#[test]
fn with_several_providers_rules_say_whose() {
    let providers = "[[provider]]\nid = \"a\"\nissuer = \"https://a.test\"\nclient_id = \"x\"\nclient_secret = \"y\"\n\
        [[provider]]\nid = \"b\"\nissuer = \"https://b.test\"\nclient_id = \"x\"\nclient_secret = \"y\"\n";
    let route = |rest: &str| paths(&format!("{TOP}{providers}[[route]]\n{rest}\n"));
    assert_eq!(route("allow = { groups = [\"admin\"] }"), ["route[0].allow"]);
    for sound in [
        "allow = { groups = [\"admin\"], provider = [\"a\"] }",
        "allow = { groups = [\"admin\"] }\nprovider = [\"a\"]",
        "allow = \"any-authenticated\"",
        "allow = { provider = [\"a\"], any_of = [{ groups = [\"x\"] }] }",
    ] {
        assert_eq!(route(sound), Vec::<String>::new(), "{sound}");
    }
}

#[test]
fn where_tokens_of_another_issuer_could_say_it_too_rules_say_whose() {
    let issuer = |name: &str, rest: &str| format!("[[token_issuer]]\nissuer = \"https://{name}.test\"\naudience = \"x\"\n{rest}\n");
    let route = |issuers: &str, rest: &str| paths(&with_provider(TOP, &format!("{issuers}[[route]]\n{rest}\n")));
    let (groups, email) = (issuer("b", "groups_claim = \"groups\""), issuer("b", "email_claim = \"email\""));
    let (none, own) = (issuer("b", ""), issuer("login", "groups_claim = \"groups\""));
    let both = "accept = [\"session\", \"bearer\"]\n";
    for (issuers, rest, sound) in [
        (&groups, "allow = { groups = [\"admin\"] }", true), // sessions only: the tokens are not read
        (&groups, "accept = [\"session\", \"bearer\"]\nallow = { groups = [\"admin\"] }", false),
        (&groups, "accept = [\"session\", \"bearer\"]\nprovider = [\"default\"]\nallow = { groups = [\"admin\"] }", false),
        (&groups, "accept = [\"bearer\"]\nallow = { groups = [\"admin\"] }", true), // the provider's sessions are not read
        (&none, "accept = [\"session\", \"bearer\"]\nallow = { groups = [\"admin\"] }", true),
        (&own, "accept = [\"session\", \"bearer\"]\nallow = { groups = [\"admin\"] }", true), // one issuer, both ways
        (&email, "accept = [\"session\", \"bearer\"]\nallow = { emails = [\"a@b.test\"] }", false),
        (&none, "accept = [\"session\", \"bearer\"]\nallow = { claims = { role = [\"admin\"] } }", false),
        (&none, "accept = [\"session\", \"bearer\"]\nallow = { scopes = [\"read\"] }", true),
        (&groups, "accept = [\"session\", \"bearer\"]\nallow = { any_of = [{ groups = [\"admin\"] }, { scopes = [\"read\"] }] }", false),
    ] {
        assert_eq!(route(issuers, rest).is_empty(), sound, "{issuers}{rest}");
    }
    let whose = "allow = { groups = [\"admin\"], provider = [\"https://b.test\"] }";
    assert_eq!(route(&groups, &format!("{both}{whose}")), Vec::<String>::new());
    let named = format!("{groups}[policy.admin]\ngroups = [\"admin\"]\n");
    assert_eq!(route(&named, "policy = \"admin\""), ["policy.admin"]);
}

#[test]
fn a_sidecar_needs_no_file() {
    let variables = [
        ("DOORWARD_PUBLIC_URL", "https://app.test"),
        ("DOORWARD_PROVIDER__ISSUER", "https://login.test"),
        ("DOORWARD_PROVIDER__CLIENT_ID", "007"),
        ("DOORWARD_PROVIDER__CLIENT_SECRET", "true"),
        ("DOORWARD_PROVIDER__SCOPES", "openid, email"),
        ("DOORWARD_TRUSTED_PROXIES", "[\"10.0.0.0/8\"]"),
        ("DOORWARD_LIMITS__HEADERS", "50"),
        ("DOORWARD_STORE__KIND", "memory"),
        ("DOORWARD_ROUTE", "[{\"id\": \"all\", \"upstream\": \"http://127.0.0.1:8080\", \"allow\": {\"groups\": [\"staff\"]}}]"),
        ("DOORWARD_PORT", "tcp://10.0.0.1:80"),
        ("DOORWARD_SERVICE_HOST", "10.0.0.1"),
        ("DOORWARD_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("DOORWARD_CONFIG", "/etc/doorward/config.toml"),
        ("OTHER", "x"),
    ];
    let sources = Sources { file: None, environment: environment(&variables), flags: vec![("listen".into(), "127.0.0.1:0".into())] };
    let config = load(&sources).map_err(|problems| format!("{problems:?}")).unwrap();
    assert_eq!(config.providers[0].client_id, "007");
    assert_eq!(config.providers[0].client_auth.secret().unwrap().expose(), "true");
    assert_eq!(config.providers[0].scopes, ["openid", "email"]);
    assert_eq!(config.gateway.limits.headers, 50);
    assert_eq!(config.gateway.listeners.listen[0].to_string(), "127.0.0.1:0");
    assert_eq!(config.routes.table.routes()[0].id, "all");
}

#[test]
fn a_mistake_in_the_environment_names_its_variable() {
    let variables =
        [("DOORWARD_SESSION__IDLE", "soon"), ("DOORWARD_ROUTE", "[{\"pat\": \"/\"}]"), ("DOORWARD_PUBLIC_URL", "https://app.test")];
    let sources = Sources { file: None, environment: environment(&variables), flags: Vec::new() };
    let told: Vec<String> = load(&sources).err().unwrap().iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|line| line.contains("DOORWARD_SESSION__IDLE")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("route[0].pat")), "{told:?}");
}

#[test]
fn no_message_holds_a_secret() {
    let secret = "hunter2-hunter2";
    for text in [
        format!("{TOP}[provider]\nclient_secret = \"{secret}\nissuer = 7"),
        format!("{TOP}[provider]\nclient_secret = [\"{secret}\"]"),
        format!("{TOP}[provider]\nclient_secret_file = [\"{secret}\"]\nissuer = \"{secret}\""),
        format!("{TOP}[store]\nkind = \"redis\"\nurl = \"redis://u:{secret}@h\""),
        format!("{TOP}[store]\npassword = {{ x = \"{secret}\" }}"),
    ] {
        let told: Vec<String> = load_text("config.toml", &text, &[]).err().unwrap().iter().map(ToString::to_string).collect();
        // A secret in a key that is none is somebody's mistake that may be shown where the value is needed to understand it; in these it is not.
        let leaks: Vec<_> = told.iter().filter(|line| line.contains(secret) && !line.contains("provider.issuer")).collect();
        assert!(leaks.is_empty(), "{leaks:?}");
    }
}

#[test]
fn secrets_come_from_files_and_open_ones_are_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let secret = File::new("secret", "top-secret\n");
    std::fs::set_permissions(&secret.0, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = format!(
        "{TOP}upstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n[provider]\nissuer = \"https://login.test\"\nclient_id = \"app\"\nclient_secret_file = \"{}\"\n",
        secret.0.display()
    );
    let config = load_text("config.toml", &text, &[]).map_err(|problems| format!("{problems:?}")).unwrap();
    assert!(config.warnings.iter().any(|problem| problem.path == "provider.client_secret_file"), "{:?}", config.warnings);
    assert_eq!(config.providers[0].client_auth.secret().unwrap().expose(), "top-secret");
    std::fs::write(&secret.0, "rotated").unwrap();
    assert_eq!(config.providers[0].client_auth.secret().unwrap().expose(), "rotated");
    std::fs::remove_file(&secret.0).unwrap();
    assert_eq!(config.providers[0].client_auth.secret().unwrap().expose(), "rotated");
}

#[test]
fn a_secret_that_became_too_short_does_not_take_the_place_of_a_good_one() {
    let token = File::new("token", "0123456789abcdef\n");
    let text = with_provider(
        &format!("{TOP}upstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n"),
        &format!("[admin]\ntoken_file = \"{}\"\n", token.0.display()),
    );
    let config = load_text("config.toml", &text, &[]).map_err(|problems| format!("{problems:?}")).unwrap();
    let shown = || config.admin_token.as_ref().unwrap().get().expose().to_owned();
    for (written, counts) in [
        ("fedcba9876543210\n", "fedcba9876543210"),
        ("", "fedcba9876543210"),
        ("\n", "fedcba9876543210"),
        ("fedcba987654321\n", "fedcba9876543210"),
        ("0123456789abcdef0", "0123456789abcdef0"),
    ] {
        std::fs::write(&token.0, written).unwrap();
        assert_eq!(shown(), counts, "{written:?}");
    }
}

#[test]
fn yaml_and_json_say_the_same() {
    let yaml = "public_url: https://app.test\nupstream: http://127.0.0.1:1\nallow: any-authenticated\nprovider:\n  issuer: https://login.test\n  client_id: app\n  client_secret: x\n";
    let json = r#"{"public_url": "https://app.test", "upstream": "http://127.0.0.1:1", "allow": "any-authenticated",
        "provider": {"issuer": "https://login.test", "client_id": "app", "client_secret": "x"}}"#;
    for (name, text) in [("c.yaml", yaml), ("c.yml", yaml), ("c.json", json)] {
        assert!(load_text(name, text, &[]).is_ok(), "{name}");
    }
    assert!(load_text("c.ini", yaml, &[]).is_err());
}

#[test]
fn seal_keys_are_whole_and_by_chance() {
    use storage::parse_keys;
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    assert_eq!(parse_keys(&format!("# old\n{key}\n\n")).unwrap().len(), 1);
    for text in ["", "# nothing", "c2hvcnQ=", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", &format!("{key}\n{key}")] {
        assert!(parse_keys(text).is_err(), "{text}");
    }
}

#[test]
fn a_token_for_upstreams_says_who_gives_it_as_whom_and_for_whom() {
    let with = |table: &str, route: &str| {
        let rest = format!("[outbound.orders]\n{table}\n[[route]]\nallow = \"any-authenticated\"\noutbound = \"orders\"\n{route}");
        problems(&with_provider(TOP, &rest))
    };
    let registered = "client_id = \"g\"\nclient_secret = \"s\"";
    for table in [
        "provider = \"default\"".to_owned(),
        format!("provider = \"default\"\n{registered}"),
        format!("issuer = \"https://other.test\"\n{registered}\nclient_auth = \"post\""),
        format!("token_endpoint = \"https://other.test/token?x=1\"\n{registered}\nscope = [\"a\", \"b\"]\nresource = \"urn:orders\""),
        "provider = \"default\"\nkind = \"token_exchange\"\naudience = \"orders\"".to_owned(),
    ] {
        assert_eq!(with(&table, ""), [], "{table}");
    }
    for (table, route, path) in [
        ("", "", "outbound.orders.provider"),
        ("provider = \"corp\"", "", "outbound.orders.provider"),
        ("provider = \"default\"\nissuer = \"https://other.test\"", "", "outbound.orders.issuer"),
        ("issuer = \"https://other.test\"", "", "outbound.orders.client_id"),
        ("issuer = \"https://other.test\"\nclient_id = \"g\"", "", "outbound.orders.client_secret_file"),
        ("issuer = \"https://other.test\"\nclient_secret = \"s\"", "", "outbound.orders.client_id"),
        ("issuer = \"http://other.test\"\nclient_id = \"g\"\nclient_secret = \"s\"", "", "outbound.orders.issuer"),
        ("token_endpoint = \"http://other.test/token\"\nclient_id = \"g\"\nclient_secret = \"s\"", "", "outbound.orders.token_endpoint"),
        ("provider = \"default\"\nkind = \"password\"", "", "outbound.orders.kind"),
        ("provider = \"default\"\nkind = \"token_exchange\"", "", "outbound.orders.audience"),
        ("provider = \"default\"\nresource = \"orders\"", "", "outbound.orders.resource"),
        ("provider = \"default\"\nresource = \"https://orders.test/#x\"", "", "outbound.orders.resource"),
        ("provider = \"default\"\nscope = [\"a b\"]", "", "outbound.orders.scope"),
        ("provider = \"default\"\nheader = \"Host\"", "", "outbound.orders.header"),
        ("provider = \"default\"\nscopes = [\"a\"]", "", "outbound.orders.scopes"),
        ("provider = \"default\"", "headers = { authorization = \"{claims.x}\" }", "route[0].headers"),
    ] {
        let found = with(table, route);
        assert!(found.iter().any(|(at, _)| at == path), "{table} {route}: {found:?}");
    }
    let found = problems(&with_provider(TOP, "[[route]]\nallow = \"any-authenticated\"\noutbound = \"orders\"\n"));
    assert_eq!(found, [("route[0].outbound".to_owned(), "\"orders\" names no [outbound.NAME]; there is none".to_owned())]);
}

#[test]
fn an_exchange_needs_a_token_and_what_everybody_gets_is_told() {
    let table =
        "[outbound.mine]\nprovider = \"default\"\n[outbound.theirs]\nprovider = \"default\"\nkind = \"token_exchange\"\naudience = \"x\"\n";
    let route = |name: &str, rest: &str| with_provider(TOP, &format!("{table}[[route]]\noutbound = \"{name}\"\n{rest}\n"));
    let found = problems(&route("theirs", "access = \"public\""));
    assert!(found.iter().any(|(at, told)| at == "route[0].outbound" && told.contains("public route")), "{found:?}");
    let config = load_text("config.toml", &route("mine", "access = \"public\""), &[]).map_err(|problems| format!("{problems:?}")).unwrap();
    let told: Vec<_> = config.warnings.iter().map(|problem| (problem.path.as_str(), problem.message.as_str())).collect();
    assert!(told.iter().any(|(at, told)| *at == "route[0].outbound" && told.contains("everybody")), "{told:?}");
    assert!(told.iter().any(|(at, told)| *at == "outbound" && told.contains("\"theirs\"")), "{told:?}");
}

#[test]
fn a_set_that_names_no_method_does_not_go_with_routes_that_do() {
    let told = |forward_auth: &str, route: &str| {
        let routes = format!("[forward_auth]\n{forward_auth}\n[[route]]\nid = \"r\"\nallow = \"any-authenticated\"\n{route}\n");
        let top = format!("{TOP}trusted_proxies = [\"10.0.0.1\"]");
        match load_text("config.toml", &with_provider(&top, &routes), &[]) {
            Ok(config) => (true, config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
            Err(problems) => (false, problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    };
    let methods = "methods = [\"GET\"]";
    for set in ["nginx", "caddy", "traefik", "envoy", "ingress-nginx"] {
        assert_eq!(told(&format!("headers = {set:?}"), methods), (true, String::new()), "{set}");
    }
    assert_eq!(told("headers = \"oauth2-proxy\"\nnarrow = true", ""), (true, String::new()));
    let (starts, said) = told("headers = \"oauth2-proxy\"", methods);
    assert!(!starts && said.contains("forward_auth.headers") && said.contains("\"r\"") && said.contains("X-Original-Method"), "{said}");
    let (starts, said) = told("headers = \"oauth2-proxy\"", "preflight = \"pass\"");
    assert!(starts && said.contains("preflight") && said.contains("\"r\""), "{said}");
    let (starts, said) = told("headers = \"envoy\"\nnarrow = true", "");
    assert!(!starts && said.contains("forward_auth.narrow") && said.contains("routes"), "{said}");
}

#[test]
fn we_prove_ourselves_in_one_way_and_a_mixture_is_told_what_to_write() {
    let own = rcgen::generate_simple_self_signed(vec!["app.test".to_owned()]).unwrap();
    let (certificate, key) = (File::new("client.crt", &own.cert.pem()), File::new("client.key", &own.signing_key.serialize_pem()));
    let other = File::new("other.key", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let (certificate, key, other) = (certificate.0.display(), key.0.display(), other.0.display());
    let load_provider = |lines: &str| {
        let top = "upstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n";
        load_text("config.toml", &format!("{TOP}{top}[provider]\nissuer = \"https://login.test\"\nclient_id = \"app\"\n{lines}\n"), &[])
    };
    let signs = format!("client_auth = \"private_key_jwt\"\nkey_file = \"{key}\"\n");
    let shows = format!("tls = {{ certificate_file = \"{certificate}\", key_file = \"{key}\" }}\n");
    for sound in [
        signs.clone(),
        format!("{signs}key_id = \"k\"\nkey_algorithm = \"ES256\"\nassertion_audience = \"token_endpoint\"\npar = \"always\"\ndpop = true"),
        format!("client_auth = \"tls_client_auth\"\n{shows}"),
        format!("client_auth = \"self_signed_tls_client_auth\"\n{shows}"),
        format!("{signs}{shows}"),
        "client_auth = \"none\"".to_owned(),
        format!(
            "client_secret = \"x\"\ntls = {{ pin_sha256 = \"{}\", server_name = \"10.0.0.1\" }}",
            "r/mIkG3eEpVdm+u/ko/cwxzOMo1bk4TyHIlByibiA5E="
        ),
    ] {
        assert!(load_provider(&sound).is_ok(), "{sound}: {:?}", load_provider(&sound).err());
    }
    for (lines, path, part) in [
        (format!("{signs}client_secret = \"x\""), "provider.client_secret", "in one way"),
        ("client_auth = \"none\"\nclient_secret_file = \"/x\"".to_owned(), "provider.client_secret_file", "in one way"),
        (format!("client_secret = \"x\"\nkey_file = \"{key}\""), "provider.key_file", "write client_auth = \"private_key_jwt\""),
        (format!("key_file = \"{key}\""), "provider.key_file", "write client_auth = \"private_key_jwt\""),
        ("client_auth = \"private_key_jwt\"".to_owned(), "provider.key_file", "is missing"),
        (format!("client_auth = \"private_key_jwt\"\nkey_file = \"{certificate}\""), "provider.key_file", "expected a private key"),
        ("client_auth = \"private_key_jwt\"\nkey_file = \"/nowhere\"".to_owned(), "provider.key_file", "/nowhere"),
        (format!("{signs}key_algorithm = \"PS256\""), "provider.key_file", "does not sign PS256"),
        (format!("{signs}assertion_audience = \"us\""), "provider.assertion_audience", "expected \"issuer\""),
        ("client_auth = \"tls_client_auth\"".to_owned(), "provider.client_auth", "needs a certificate"),
        ("client_auth = \"jwt\"\nclient_secret = \"x\"".to_owned(), "provider.client_auth", "\"private_key_jwt\" or"),
        ("client_auth = 7\nclient_secret = \"x\"".to_owned(), "provider.client_auth", "expected a text"),
        (format!("client_secret = \"x\"\ntls = {{ certificate_file = \"{certificate}\" }}"), "provider.tls.key_file", "is missing"),
        (format!("client_secret = \"x\"\ntls = {{ key_file = \"{key}\" }}"), "provider.tls.certificate_file", "is missing"),
        (
            format!("client_secret = \"x\"\ntls = {{ certificate_file = \"{certificate}\", key_file = \"{other}\" }}"),
            "provider.tls",
            "is not the key of",
        ),
        ("client_secret = \"x\"\ntls = { pin_sha256 = \"abc\" }".to_owned(), "provider.tls.pin_sha256", "44 characters"),
        ("client_secret = \"x\"\ntls = { server_name = \"a b\" }".to_owned(), "provider.tls.server_name", "host name"),
        ("client_secret = \"x\"\npar = \"yes\"".to_owned(), "provider.par", "expected \"auto\""),
    ] {
        let problems = load_provider(&lines).err().unwrap_or_else(|| panic!("{lines} loads"));
        let found = problems.iter().any(|problem| problem.path == path && problem.message.contains(part));
        assert!(found && problems.iter().filter(|problem| problem.severity == Severity::Error).count() == 1, "{lines}: {problems:?}");
    }
}

#[test]
fn a_token_that_is_bound_to_our_key_is_told_to_no_upstream() {
    let load_route = |dpop: &str, route: &str| {
        let provider = format!("[provider]\nissuer = \"https://login.test\"\nclient_id = \"app\"\nclient_secret = \"x\"\n{dpop}\n");
        let route = format!("[[route]]\nid = \"told\"\nupstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n{route}\n");
        load_text("config.toml", &format!("{TOP}{provider}{route}"), &[])
    };
    let (access, id) = ("headers = { X-Token = \"Bearer {access_token}\" }", "headers = { X-Token = \"{id_token}\" }");
    assert!(load_route("", access).is_ok() && load_route("dpop = true", id).is_ok() && load_route("dpop = true", "").is_ok());
    let problems = load_route("dpop = true", access).err().unwrap();
    assert!(problems.iter().any(|problem| problem.message.contains("\"told\"") && problem.message.contains("dpop = true")), "{problems:?}");
    let tls = load_route("", "tls = { ca_file = \"/dev/null\" }").err().unwrap();
    assert!(tls.iter().any(|problem| problem.path == "route[0].tls" && problem.message.contains("https://")), "{tls:?}");
}
