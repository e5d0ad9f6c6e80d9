//! Server to server with client credentials: a consumer in a process of its own knows one origin. Behind it are a public resource, the certified
//! provider's token endpoint, and resources that want a token of it.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::gateway::{Gateway, TOP};
use crate::harness::http::{fetch, get};
use crate::harness::oidc_provider::OidcProviderBuilder;
use crate::harness::process::Launch;
use crate::harness::wait::PATIENCE;

const SECRET: &str = "a-secret-of-the-consumer-only-0123456789";

fn script(name: &str) -> Launch {
    Launch::new("python3").arg(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/consumer")).join(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn server_to_server_with_client_credentials() {
    let app = script("app.py").with_stdin().start();
    let line = app.wait_for_line(|line| line.starts_with('{'), PATIENCE).await;
    let app_url = format!("http://127.0.0.1:{}", serde_json::from_str::<Value>(&line).expect("JSON")["port"]);
    // Its resource is a name that both sides agree on; the consumer does not know it.
    let audience = "https://orders.example.test";
    let provider = OidcProviderBuilder::new("http://127.0.0.1:9/unused")
        .add_client(json!({
            "client_id": "consumer", "client_secret": SECRET, "grant_types": ["client_credentials"], "response_types": [], "redirect_uris": [],
        }))
        .set("scopes", json!(["read", "write"]))
        .set("resources", json!({ audience: { "audience": audience, "scope": "read write", "format": "jwt" } }))
        .set("default_resource", json!(audience))
        .start()
        .await;
    let route = |id: &str, path: &str, upstream: &str, rest: &str| {
        format!("[[route]]\nid = \"{id}\"\npath = \"{path}\"\nupstream = \"{upstream}\"\n{rest}\n")
    };
    let config = [
        format!("{TOP}store.kind = \"memory\"\n[[token_issuer]]\nissuer = \"{}\"\naudience = \"{audience}\"\n", provider.issuer()),
        route("public", "/public", &app_url, "access = \"public\""),
        route("token", "/token", provider.issuer(), "access = \"public\"\nmethods = [\"POST\"]"),
        route("read", "/resource", &app_url, "methods = [\"GET\"]\nallow = { scopes = [\"read\"] }"),
        route("write", "/resource", &app_url, "methods = [\"POST\"]\nallow = { scopes = [\"write\"] }"),
    ];
    let gateway = Gateway::start(&config.concat());
    let seen = async || fetch(get(&format!("{app_url}/seen"))).await.json().as_array().expect("a list").clone();

    let consumer = script("consumer.py").args([gateway.url.as_str(), "consumer", SECRET, "hello from afar"]).start();
    let ended = consumer.wait(PATIENCE).await;
    assert!(ended.success(), "{}", consumer.output());
    let calls: Vec<Value> =
        consumer.stdout().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect();
    let told: Vec<(&str, u64)> =
        calls.iter().map(|call| (call["call"].as_str().unwrap_or_default(), call["status"].as_u64().unwrap_or(0))).collect();
    assert_eq!(
        told,
        [
            ("public", 200),
            ("without a token", 401),
            ("wrong secret", 401),
            ("right secret", 200),
            ("read", 200),
            ("write with a made-up token", 401),
            ("write", 200),
            ("read again", 200),
            ("right secret, to read", 200),
            ("read with a token to read", 200),
            ("write with a token to read", 403),
            ("read at last", 200),
        ],
        "{calls:#?}"
    );
    let of = |name: &str| calls.iter().find(|call| call["call"] == name).expect("a call of this name");
    let challenge = |name: &str| of(name)["challenge"].as_str().unwrap_or_default().to_owned();
    // RFC 6750 §3.1: without a token no error; a made-up one is invalid_token; too few scopes are named.
    assert_eq!(of("without a token")["body"]["reason"], "no-credential");
    assert!(challenge("without a token").starts_with("Bearer ") && !challenge("without a token").contains("error"), "{calls:#?}");
    // RFC 6749 §5.2, as the provider says it.
    assert_eq!(of("wrong secret")["body"]["error"], "invalid_client");
    let granted = &of("right secret")["body"];
    assert!(granted["token_type"] == "Bearer" && granted["expires_in"].as_u64().is_some_and(|seconds| seconds > 0), "{granted}");
    let made_up = of("write with a made-up token");
    assert_eq!((&made_up["body"]["error"], &made_up["body"]["reason"]), (&json!("invalid_token"), &json!("token-malformed")));
    assert!(challenge("write with a made-up token").contains("error=\"invalid_token\""));
    let lacking = of("write with a token to read");
    assert_eq!((&lacking["body"]["error"], &lacking["body"]["reason"]), (&json!("insufficient_scope"), &json!("insufficient-scope")));
    assert!(
        challenge("write with a token to read").contains("error=\"insufficient_scope\"")
            && challenge("write with a token to read").contains("scope=\"write\"")
    );
    for refused in ["without a token", "write with a made-up token", "write with a token to read"] {
        assert_eq!(of(refused)["type"], "application/json", "{refused}");
    }
    let message = |name: &str| of(name)["body"]["message"].clone();
    assert_eq!([message("read"), message("read again"), message("read at last")], ["nothing yet", "hello from afar", "hello from afar"]);

    // The app saw what was let through and nothing else, each time by whom, and never a token.
    let by = |method: &str| json!([method, "/resource", "consumer", null]);
    assert_eq!(seen().await, [json!(["GET", "/public", null, null]), by("GET"), by("POST"), by("GET"), by("GET"), by("GET")]);
    assert_eq!(provider.count("token:client_credentials").await, 3);
    for (route, reason, expected) in [
        ("read", "no-credential", 1),
        ("write", "token-malformed", 1),
        ("write", "insufficient-scope", 1),
        ("write", "allowed", 1),
        ("read", "allowed", 4),
    ] {
        let series = format!("doorward_requests_total{{route=\"{route}\",reason=\"{reason}\"}}");
        assert_eq!(gateway.metric(&series).await, expected, "{series}");
    }
}
