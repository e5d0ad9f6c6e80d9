//! `doorward explain`: what it tells is what the running gateway does, and it asks nobody.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::answer::Answer;
use crate::harness::gateway::command;
use crate::harness::http::Protocol;
use crate::harness::scene::Scene;
use crate::harness::temp::TempDir;

const TABLES: &str = r#"
[policy.staff]
groups = ["staff"]

[[route]]
id = "everything"
upstream = "@UPSTREAM@"
allow = { email_domains = ["company.test"] }

[[route]]
id = "staff"
path = "/staff"
upstream = "@UPSTREAM@"
policy = "staff"
allow = { any_of = [{ claims = { "tenant.id" = ["blue"] } }, { emails = ["bob@company.test"] }] }
headers = { "X-Tenant" = "t-{claims.tenant.id}", "X-Token" = "{access_token}" }

[[route]]
id = "public"
path = "/public"
access = "public"
upstream = "@UPSTREAM@"

[[route]]
id = "optional"
path = "/optional"
access = "optional"
accept = ["session", "bearer"]
upstream = "@UPSTREAM@"

[[route]]
id = "both"
path = "/both"
accept = ["session", "bearer"]
upstream = "@UPSTREAM@"
allow = { groups = ["staff"] }

[[route]]
id = "writes"
path = "/both"
methods = ["POST", "DELETE"]
accept = ["bearer"]
audience = ["writers"]
upstream = "@UPSTREAM@"
allow = { scopes = ["orders:write"] }
preflight = "pass"

[[route]]
id = "reads"
path = "/reads"
accept = ["bearer"]
bearer_in = ["header", "query", "header:X-Token"]
upstream = "@UPSTREAM@"
allow = { scopes = ["orders:read"] }
preflight = "pass"

[[route]]
id = "numbers"
path_regex = "/staff/[0-9]+"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
encoded_slash = "keep"

[[route]]
id = "strong"
path = "/strong"
accept = ["session", "bearer"]
upstream = "@UPSTREAM@"
allow = "any-authenticated"
acr = ["mfa"]

[[route]]
id = "moved"
path = "/moved"
strip_prefix = true
upstream_host = "inner.test"
upstream = "@UPSTREAM@"
deny = { emails = ["bob@company.test"] }
allow = "any-authenticated"
headers = { "X-Who" = "{email}" }

[[route]]
id = "silent"
path = "/silent"
login = "never"
cors_origins = ["https://spa.test"]
upstream = "@UPSTREAM@"
allow = "any-authenticated"

[[route]]
id = "inside"
path = "/silent/deep"
client = ["10.0.0.0/8"]
upstream = "@UPSTREAM@"
access = "public"

[[route]]
id = "tried"
path = "/tried"
upstream = "@UPSTREAM@"
policy = "staff"
dry_run = true

[[route]]
id = "gone"
path = "/gone"
access = "public"
upstream = "static:410"

[[route]]
id = "asked-about"
path = "/asked-about"
allow = "any-authenticated"
"#;

/// As `writes` shares its path with a route for every method, one of the two has methods and the other the rest.
fn tables() -> String {
    TABLES.replace("id = \"both\"\npath = \"/both\"", "id = \"both\"\npath = \"/both\"\nmethods = [\"GET\", \"PUT\", \"OPTIONS\"]")
}

/// Somebody with a session or a token.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    Nobody,
    Ann,
    Bob,
    Eve,
    Token(&'static str),
}

fn claims_of(who: Who) -> Option<Value> {
    Some(match who {
        Who::Nobody => return None,
        Who::Ann => json!({ "sub": "ann", "email": "ann@company.test", "email_verified": true, "groups": ["staff", "a,b"],
            "tenant": { "id": "blue" }, "preferred_username": "Änn" }),
        Who::Bob => json!({ "sub": "bob", "email": "bob@company.test", "email_verified": true, "groups": ["users"] }),
        Who::Eve => json!({ "sub": "eve", "email": "eve@company.test", "groups": [], "hasgroups": true }),
        Who::Token("writer") => json!({ "sub": "w", "aud": "writers", "scope": "orders:write orders:read" }),
        Who::Token("reader") => json!({ "sub": "r", "aud": "api", "scope": "orders:read", "groups": ["staff"], "acr": "mfa" }),
        Who::Token("weak") => json!({ "sub": "k", "aud": "api", "scope": "x", "email": "k@company.test" }),
        Who::Token("over") => json!({ "sub": "o", "aud": "api", "scope": "orders:read", "exp": 1_000_000_000 }),
        Who::Token(other) => panic!("no token {other}"),
    })
}

type Headers = &'static [(&'static str, &'static str)];

const BROWSER: Headers = &[("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
const PREFLIGHT: Headers =
    &[("origin", "https://spa.test"), ("access-control-request-method", "POST"), ("cookie", "a=b"), ("authorization", "Basic eDp5")];
const FORGED: Headers = &[
    ("x-forwarded-user", "root"),
    ("x_tenant", "root"),
    ("x-tenant", "root"),
    ("x-token", "root"),
    ("x-forwarded-for", "9.9.9.9"),
    ("forwarded", "for=9.9.9.9"),
    ("connection", "x-secret"),
    ("x-secret", "1"),
    ("accept-language", "en"),
    ("doorward-assertion", "x"),
];
const FOREIGN: Headers = &[("origin", "https://evil.test"), ("connection", "upgrade"), ("upgrade", "websocket")];

/// What is sent, and by whom.
const CASES: &[(&str, &str, Who, Headers)] = &[
    ("GET", "/", Who::Nobody, &[]),
    ("GET", "/", Who::Nobody, BROWSER),
    ("POST", "/", Who::Nobody, BROWSER),
    ("GET", "/a?b=c&d", Who::Ann, &[]),
    ("GET", "/a/./b//c/../d%41", Who::Ann, BROWSER),
    ("GET", "/a%2fb", Who::Ann, &[]),
    ("GET", "/a%5cb", Who::Ann, &[]),
    ("GET", "/a/%2e%2e/b", Who::Ann, BROWSER),
    ("PUT", "/", Who::Bob, FORGED),
    ("GET", "/", Who::Eve, &[]),
    ("GET", "/", Who::Eve, BROWSER),
    ("GET", "/staff", Who::Nobody, &[]),
    ("GET", "/staff", Who::Ann, FORGED),
    ("GET", "/staff/", Who::Ann, &[]),
    ("GET", "/staff", Who::Bob, &[]),
    ("GET", "/staff", Who::Bob, BROWSER),
    ("GET", "/staff", Who::Eve, &[]),
    ("GET", "/staffing", Who::Bob, &[]),
    ("GET", "/staff/17", Who::Bob, &[]),
    ("GET", "/staff/17%2f", Who::Bob, &[]),
    ("GET", "/public", Who::Nobody, FORGED),
    ("DELETE", "/public/x", Who::Ann, &[]),
    ("GET", "/public", Who::Token("reader"), &[]),
    ("GET", "/optional", Who::Nobody, &[]),
    ("GET", "/optional", Who::Ann, &[]),
    ("GET", "/optional", Who::Token("reader"), FORGED),
    ("GET", "/optional", Who::Token("over"), &[]),
    ("GET", "/both", Who::Nobody, &[]),
    ("GET", "/both", Who::Nobody, BROWSER),
    ("GET", "/both", Who::Ann, &[]),
    ("GET", "/both", Who::Bob, &[]),
    ("GET", "/both", Who::Token("reader"), &[]),
    ("GET", "/both", Who::Token("weak"), &[]),
    ("GET", "/both", Who::Token("over"), BROWSER),
    ("POST", "/both", Who::Nobody, &[]),
    ("POST", "/both", Who::Token("writer"), &[]),
    ("DELETE", "/both", Who::Token("reader"), &[]),
    ("OPTIONS", "/both", Who::Nobody, PREFLIGHT),
    ("PATCH", "/both", Who::Bob, &[]),
    ("GET", "/reads", Who::Token("reader"), FORGED),
    ("GET", "/reads", Who::Token("weak"), &[]),
    ("OPTIONS", "/reads", Who::Nobody, PREFLIGHT),
    ("GET", "/reads", Who::Nobody, &[("authorization", "Bearer a b")]),
    ("GET", "/reads?access_token=a&access_token=b", Who::Nobody, &[]),
    ("GET", "/strong", Who::Ann, &[]),
    ("GET", "/strong", Who::Bob, &[]),
    ("GET", "/strong", Who::Bob, BROWSER),
    ("GET", "/strong", Who::Token("reader"), &[]),
    ("GET", "/strong", Who::Token("weak"), &[]),
    ("GET", "/both", Who::Ann, FOREIGN),
    ("GET", "/moved/a?b", Who::Ann, FORGED),
    ("GET", "/moved", Who::Ann, BROWSER),
    ("GET", "/moved/a", Who::Bob, &[]),
    ("GET", "/silent", Who::Nobody, BROWSER),
    ("GET", "/silent", Who::Nobody, &[("origin", "https://spa.test")]),
    ("GET", "/silent/deep", Who::Bob, &[]),
    ("GET", "/tried", Who::Nobody, BROWSER),
    ("GET", "/tried", Who::Bob, &[]),
    ("GET", "/tried", Who::Ann, &[]),
    ("GET", "/gone", Who::Nobody, &[]),
    ("GET", "/asked-about", Who::Ann, &[]),
    ("GET", "/asked-about", Who::Nobody, &[]),
    ("TRACE", "/", Who::Ann, &[]),
    ("GET", "/oauth2/nothing", Who::Nobody, &[]),
    ("DELETE", "/oauth2/callback", Who::Nobody, &[]),
    ("GET", "/.well-known/oauth-protected-resource/reads", Who::Nobody, &[]),
    ("GET", "/.well-known/oauth-protected-resource/public", Who::Nobody, &[]),
];

/// Runs `doorward explain --json`.
fn explain(config: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(command()).args(["explain", "--config", config]).args(arguments).env_clear().output().expect("the binary is built");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Names and values of a list of lines, without those that are named and not told.
fn lines(list: &Value) -> Vec<(String, String)> {
    let line = |line: &Value| (line["name"].as_str().unwrap().to_owned(), line["value"].as_str().unwrap().to_owned());
    list.as_array().map(|list| list.iter().map(line).collect()).unwrap_or_default()
}

/// What an answer of the gateway has to say, as explained.
fn answered_as(told: &Value, answer: &Answer, case: &str) {
    assert_eq!(told["outcome"]["status"], answer.status.as_u16(), "{case}: {told:#}\n{}", answer.text());
    let told = lines(&told["outcome"]["headers"]);
    for name in ["location", "www-authenticate", "allow", "access-control-allow-origin"] {
        let expected: Vec<&str> = told.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect();
        let found = answer.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        if expected.iter().any(|value| value.contains('«')) {
            assert_eq!(expected.len(), found.len(), "{case}");
        } else {
            assert_eq!(expected, found, "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_explained_is_what_happens() {
    let scene = Scene::start("", &tables());
    let config = scene.gateway.dir.path().join("config.toml").display().to_string();
    let mut sessions = Vec::new();
    for who in [Who::Ann, Who::Bob, Who::Eve] {
        scene.provider.set_user(claims_of(who).unwrap());
        sessions.push((who, scene.session().await));
    }
    let mut expected_reasons = Vec::new();
    for (number, (method, path, who, headers)) in CASES.iter().enumerate() {
        let case = format!("{method} {path} #{number}");
        let trace = format!("{:032x}", number + 1);
        let parent = format!("00-{trace}-00000000000000aa-01");
        let session = sessions.iter().find(|(known, _)| known == who).map(|(_, cookie)| format!("theme=dark; {cookie}"));
        let token = matches!(who, Who::Token(_)).then(|| format!("Bearer {}", scene.token(claims_of(*who).unwrap())));
        let mut all: Vec<(&str, &str)> = headers.to_vec();
        all.push(("traceparent", &parent));
        all.extend(session.as_deref().map(|cookie| ("cookie", cookie)));
        all.extend(token.as_deref().map(|token| ("authorization", token)));

        scene.upstream.reset();
        let answer = scene.send(Protocol::Http1, method, path, &all).await;

        let url = scene.url(path);
        let mut arguments = vec![(*method).to_owned(), url, "--json".to_owned(), "--address".to_owned(), "127.0.0.1".to_owned()];
        for (name, value) in &all {
            arguments.extend(["--header".to_owned(), format!("{name}: {value}")]);
        }
        // Claims of a session or a token that the route does not read are nobody's.
        if let Some(claims) = claims_of(*who) {
            arguments.extend(["--as".to_owned(), claims.to_string()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, out, err) = explain(&config, &arguments);
        assert_eq!(code, Some(0), "{case}: {err}");
        for secret in [session.as_deref(), token.as_deref()].into_iter().flatten() {
            let secret = secret.rsplit(['=', ' ']).next().unwrap();
            assert!(!out.contains(secret), "{case} tells a credential: {out}");
        }
        let told: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{case}: {error}: {out}"));
        expected_reasons.push((
            case.clone(),
            trace,
            told["outcome"]["reason"].as_str().unwrap_or_default().to_owned(),
            told["route"]["id"].clone(),
        ));
        match told["outcome"]["does"].as_str().unwrap() {
            "forward" => {
                assert_eq!(scene.upstream.count(), 1, "{case}: {told:#}\n{}", answer.text());
                let seen = scene.upstream.last();
                let sent = &told["outcome"]["upstream"];
                assert_eq!(
                    (sent["method"].as_str().unwrap(), sent["target"].as_str().unwrap()),
                    (seen.method.as_str(), seen.target.as_str()),
                    "{case}"
                );
                let told_lines: Vec<_> = [lines(&sent["set"]), lines(&sent["passed"])].concat();
                let names = |names: &mut dyn Iterator<Item = String>| names.collect::<BTreeSet<_>>();
                let told_names = names(&mut told_lines.iter().map(|(name, _)| name.clone()));
                assert_eq!(told_names, names(&mut seen.headers.iter().map(|(name, _)| name.to_ascii_lowercase())), "{case}");
                for (name, value) in told_lines.iter().filter(|(_, value)| !value.contains('«')) {
                    assert_eq!(&seen.header_all(name).join("|"), value, "{case}: {name}");
                }
                for name in sent["taken_out"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
                    let given = all.iter().find(|(found, _)| found == &name).map(|(_, value)| *value);
                    assert!(given.is_none_or(|given| seen.header(name).as_deref() != Some(given)), "{case}: {name}");
                }
            }
            "endpoint" => assert_eq!(answer.status.as_u16(), 200, "{case}"),
            _ => {
                assert_eq!(scene.upstream.count(), 0, "{case}");
                answered_as(&told, &answer, &case);
            }
        }
    }
    for (case, trace, reason, route) in expected_reasons {
        let line = scene.gateway.access_line(&format!("trace_id={trace}")).await;
        assert!(line.contains(&format!(" reason={reason} ")), "{case}: expected {reason} in {line}");
        if let Some(route) = route.as_str() {
            assert!(line.contains(&format!(" route={route} ")), "{case}: expected {route} in {line}");
        }
    }
}

#[test]
fn what_goes_not_together_is_said_and_is_no_explanation() {
    let dir = TempDir::new("explain");
    let sound = "public_url = \"https://app.test\"\nupstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\nstore.kind = \"memory\"\n\
        [provider]\nissuer = \"https://login.test\"\nclient_id = \"app\"\nclient_secret = \"a-secret-of-the-test\"\n";
    let config = dir.write("config.toml", sound).display().to_string();
    let ann = "{\"sub\": \"ann\"}";
    for (arguments, expected) in [
        (&["app.test/x"][..], "expected a URL such as"),
        (&["get", "https://app.test/"], "expected a method in capitals"),
        (&["https://app.test/", "--as", "{"], "--as: expected claims as one JSON object"),
        (&["https://app.test/", "--as", "/nowhere/claims.json"], "--as: /nowhere/claims.json"),
        (&["https://app.test/", "--as", "{}"], "--as: expected claims with a sub"),
        (&["https://app.test/", "--as", ann, "--provider", "corp"], "--provider: expected one of default; found \"corp\""),
        (&["https://app.test/", "--as", ann, "--kind", "bearer"], "--kind: expected one that the route accepts (session)"),
        (&["https://app.test/", "--kind", "bearer"], "--as"),
        (&["https://app.test/", "--header", "no colon"], "--header: expected \"Name: value\""),
        (&["https://app.test/", "--header", "Host: other.test"], "--header: the host is the URL's"),
        (&[], "[METHOD] URL"),
    ] {
        let (code, out, err) = explain(&config, arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
    let broken = dir.write("broken.toml", sound.replace("allow", "alow")).display().to_string();
    let (code, out, err) = explain(&broken, &["https://app.test/"]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("alow"), "{err}");
    // A state folder that is not there is not made: no store is opened, and no key file.
    let state = dir.path().join("state");
    let embedded = dir.write("embedded.toml", sound.replace("kind = \"memory\"", &format!("path = \"{}/doorward.redb\"", state.display())));
    let (code, _, err) = explain(&embedded.display().to_string(), &["https://app.test/"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(!state.exists());
}
