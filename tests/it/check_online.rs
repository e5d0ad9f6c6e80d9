//! `doorward check --online`: provider, token issuers, store and upstreams are asked whether they are there and as the config expects. With real parts.

use std::process::Command;
use std::time::Duration;

use doorward::clock::{Clock as _, SystemClock};
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::certs::CertificateAuthority;
use crate::harness::dns::Dns;
use crate::harness::gateway::command;
use crate::harness::hostile::{Endpoint, HostileProvider};
use crate::harness::oidc_provider::{CLIENT_ID, CLIENT_SECRET, OidcProviderBuilder};
use crate::harness::redis::Redis;
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::free_port;

/// Runs it: how it ended, and what it printed.
async fn check(config: &str) -> (Option<i32>, String) {
    let dir = TempDir::new("online");
    let file = dir.write("config.toml", config);
    let run = move || {
        let mut command = Command::new(command());
        let output = command.args(["check", "--online", "--config"]).arg(&file).env_clear().output().expect("the binary is built");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let ran = tokio::task::spawn_blocking(run).await.unwrap();
    drop(dir);
    ran
}

/// The lines that begin with this word.
fn lines<'a>(out: &'a str, verdict: &str) -> Vec<&'a str> {
    out.lines().filter(|line| line.starts_with(verdict)).collect()
}

fn has(out: &str, verdict: &str, parts: &[&str]) {
    let found = lines(out, verdict).iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "no {verdict} with {parts:?} in\n{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_everybody_is_there_it_says_so_and_prints_the_keys_to_pin() {
    let authority = CertificateAuthority::new();
    let ca_file = authority.file().display();
    let provider = OidcProviderBuilder::new("https://app.test/oauth2/callback").tls(&authority, "localhost").start().await;
    let redis = Redis::options().tls(&authority).user("gateway", "a-password-of-the-test").start().await;
    let leaf = authority.leaf(&["localhost"]);
    let (secure, plain, socket) =
        (EchoUpstream::start_tls(&leaf, "localhost", &["http/1.1"]), EchoUpstream::start(), EchoUpstream::start_unix());
    let dir = TempDir::new("keys");
    let keys = dir.write_secret("keys", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n");
    let config = format!(
        r#"
public_url = "https://app.test"
[provider]
issuer = "{issuer}"
client_id = "{CLIENT_ID}"
client_secret = "{CLIENT_SECRET}"
tls = {{ ca_file = "{ca_file}" }}
[[token_issuer]]
issuer = "{issuer}"
audience = "api"
tls = {{ ca_file = "{ca_file}" }}
[store]
kind = "redis"
url = "{redis}"
username = "gateway"
password = "a-password-of-the-test"
tls = {{ ca_file = "{ca_file}" }}
[keys]
seal_file = "{keys}"
[[route]]
id = "secure"
upstream = "{secure}"
tls = {{ ca_file = "{ca_file}", pin_sha256 = ["{pin}"] }}
allow = "any-authenticated"
[[route]]
id = "plain"
path = "/plain"
upstream = "{plain}"
allow = "any-authenticated"
[[route]]
id = "socket"
path = "/socket"
upstream = "{socket}"
allow = "any-authenticated"
"#,
        issuer = provider.issuer(),
        redis = redis.url(),
        keys = keys.display(),
        secure = secure.url(),
        plain = plain.url(),
        socket = socket.url(),
        pin = leaf.pin(),
    );
    let (code, out) = check(&config).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("everybody answers") && lines(&out, "problem").is_empty(), "{out}");
    for (about, text) in [
        ("provider default", "its document is that of"),
        ("provider default", "keys that can be used"),
        ("provider default", "its key, for tls.pin_sha256: "),
        ("token_issuer", "keys that can be used"),
        ("store", "Redis answers"),
        ("store", "its key, for tls.pin_sha256: "),
        ("upstream https://", &leaf.pin()),
        ("upstream http://", "takes connections"),
        ("upstream unix:", "takes connections"),
    ] {
        has(&out, "ok", &[about, text]);
    }
    assert!(
        out.contains("https://app.test/oauth2/callback") && !out.contains("a-password-of-the-test") && !out.contains(CLIENT_SECRET),
        "{out}"
    );
    // Nothing was sent to an upstream, and nobody was asked for a token.
    assert_eq!((secure.count(), plain.count(), socket.count()), (0, 0, 0));
    assert_eq!(provider.count("token").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_there_or_not_whom_the_config_means_is_a_problem_each() {
    let authority = CertificateAuthority::new();
    let stranger = CertificateAuthority::new();
    let hostile = HostileProvider::start();
    hostile.change_discovery(json!({ "issuer": "https://elsewhere.test" }));
    let redis = Redis::options().user("gateway", "a-password-of-the-test").start().await;
    let (leaf, other) = (authority.leaf(&["localhost"]), authority.leaf(&["localhost"]));
    let secure = EchoUpstream::start_tls(&leaf, "localhost", &["http/1.1"]);
    let closed = free_port();
    let dir = TempDir::new("keys");
    let keys = dir.write_secret("keys", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n");
    let route = |id: &str, upstream: &str, tls: &str| {
        format!("[[route]]\nid = \"{id}\"\npath = \"/{id}\"\nupstream = \"{upstream}\"\n{tls}\nallow = \"any-authenticated\"\n")
    };
    let config = format!(
        "public_url = \"https://app.test\"\n[provider]\nissuer = \"{issuer}\"\nclient_id = \"c\"\nclient_secret = \"a-secret-of-the-test\"\n\
         [[token_issuer]]\nissuer = \"http://127.0.0.1:{closed}\"\naudience = \"api\"\n\
         [store]\nkind = \"redis\"\nurl = \"{redis}\"\nusername = \"gateway\"\npassword = \"wrong-password-of-the-test\"\n\
         [keys]\nseal_file = \"{keys}\"\n{routes}",
        issuer = hostile.issuer(),
        redis = redis.url(),
        keys = keys.display(),
        routes = [
            route("closed", &format!("http://127.0.0.1:{closed}"), ""),
            route("untrusted", &secure.url(), &format!("tls = {{ ca_file = \"{}\" }}", stranger.file().display())),
            route(
                "pinned",
                &secure.url(),
                &format!("tls = {{ ca_file = \"{}\", pin_sha256 = [\"{}\"] }}", authority.file().display(), other.pin())
            ),
            route("socket", "unix:/nowhere/app.sock", ""),
        ]
        .concat()
    );
    let (code, out) = check(&config).await;
    assert_eq!(code, Some(1), "{out}");
    let found = leaf.pin();
    for parts in [
        &["provider default", "https://elsewhere.test", "letter by letter"][..],
        &["token_issuer http://127.0.0.1:", "refused"],
        &["store", "Password authentication failed"],
        &["upstream http://127.0.0.1:", "refused"],
        &["upstream https://localhost:", "invalid peer certificate"],
        &["upstream https://localhost:", "is none of tls.pin_sha256", &found],
        &["upstream unix:/nowhere/app.sock", "No such file"],
    ] {
        has(&out, "problem", parts);
    }
    assert!(!out.contains("wrong-password-of-the-test") && !out.contains("a-secret-of-the-test"), "{out}");
    assert!(out.contains(&format!("{} problems", lines(&out, "problem").len())), "{out}");
    // A config that is wrong is no reason to ask anybody.
    hostile.reset_counts();
    let (code, out) = check(&config.replace("allow =", "alow =")).await;
    assert_eq!((code, hostile.count(Endpoint::Discovery)), (Some(1), 0), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_document_says_and_the_config_does_not_expect_is_told_with_what_would_be_right() {
    let hostile = HostileProvider::start();
    let config = |more: &str| {
        format!(
            "public_url = \"https://app.test\"\nupstream = \"static:204\"\nallow = \"any-authenticated\"\nstore.kind = \"memory\"\n[provider]\n\
             issuer = \"{}\"\nclient_id = \"c\"\nclient_secret = \"a-secret-of-the-test\"\n{more}\n",
            hostile.issuer()
        )
    };
    let (code, out) = check(&config("scopes = [\"openid\", \"offline_access\"]")).await;
    assert_eq!((code, lines(&out, "warning").len()), (Some(0), 0), "{out}");
    for (patch, more, expected) in [
        (json!({ "code_challenge_methods_supported": null }), "", "does not list PKCE"),
        (json!({ "code_challenge_methods_supported": "S256x" }), "", "by S256x and not by S256"),
        (json!({ "end_session_endpoint": null }), "", "names no end_session_endpoint"),
        (json!({}), "scopes = [\"openid\", \"email\"]", "many providers give one for the scope \"offline_access\" alone"),
        (json!({}), "scopes = [\"openid\", \"nonsense\"]", "does not list nonsense among its scopes"),
        (json!({ "grant_types_supported": ["authorization_code"] }), "", "does not list the grant refresh_token"),
        (json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt"] }), "", "does not list client_secret_basic (client_auth)"),
    ] {
        let standard = json!({ "code_challenge_methods_supported": ["S256"], "end_session_endpoint": format!("{}/end_session", hostile.issuer()),
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"] });
        hostile.change_discovery(standard);
        hostile.change_discovery(patch);
        let (code, out) = check(&config(more)).await;
        assert_eq!(code, Some(0), "a warning is no problem: {out}");
        has(&out, "warning", &["provider default", expected]);
    }
    hostile.change_discovery(json!({ "id_token_signing_alg_values_supported": ["HS256"] }));
    let (code, out) = check(&config("")).await;
    assert_eq!(code, Some(1), "{out}");
    has(&out, "problem", &["signed by HS256, none of which is in algorithms"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_connections_and_says_nothing_is_not_waited_for() {
    // The system takes connections for it; nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "public_url = \"https://app.test\"\nupstream = \"static:204\"\nallow = \"any-authenticated\"\nstore.kind = \"memory\"\n\
         limits.provider_timeout = \"1s\"\n[provider]\nissuer = \"https://{}\"\nclient_id = \"c\"\nclient_secret = \"a-secret-of-the-test\"\n",
        silent.local_addr().unwrap()
    );
    let began = SystemClock.instant();
    let (code, out) = check(&config).await;
    assert_eq!(code, Some(1), "{out}");
    has(&out, "problem", &["provider default", "in time"]);
    has(&out, "problem", &["provider default", "no answer within 1s"]);
    let took = SystemClock.instant().saturating_duration_since(began);
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_upstreams_are_asked_of_whom_the_config_says() {
    let authority = CertificateAuthority::new();
    let leaf = authority.leaf(&["app.test"]);
    let (plain, secure) = (EchoUpstream::start(), EchoUpstream::start_tls(&leaf, "app.test", &["http/1.1"]));
    let (dns, other) = (Dns::start().await, Dns::start().await);
    dns.say("app.test", &["127.0.0.1"], 30);
    let config = |top: &str| {
        let tls = format!("tls = {{ ca_file = \"{}\" }}\n", authority.file().display());
        let route = |id: &str, scheme: &str, upstream: &EchoUpstream, tls: &str| {
            let port = upstream.address().port();
            format!("[[route]]\nid = \"{id}\"\npath = \"/{id}\"\nupstream = \"{scheme}://app.test:{port}\"\n{tls}access = \"public\"\n")
        };
        let routes = [route("plain", "http", &plain, ""), route("secure", "https", &secure, &tls)].concat();
        format!("public_url = \"https://app.test\"\n{top}\nstore.kind = \"memory\"\n{routes}")
    };
    let (code, out) = check(&config(&format!("dns_servers = [\"{}\"]", dns.address()))).await;
    assert_eq!(code, Some(0), "{out}");
    has(&out, "ok", &["upstream http://app.test:", "takes connections"]);
    has(&out, "ok", &["upstream https://app.test:", "takes connections", &leaf.pin()]);
    let (code, out) = check(&config(&format!("dns_servers = [\"{}\"]", other.address()))).await;
    assert_eq!((code, lines(&out, "problem").len()), (Some(1), 2), "{out}");
    has(&out, "problem", &["upstream http://app.test:", "where app.test leads cannot be looked up"]);
    assert_eq!((plain.connections(), other.asked() > 0), (1, true));
}
