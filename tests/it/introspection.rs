//! Opaque tokens, by asking their issuer (RFC 7662): the real provider, one that answers nonsense, and what is kept of answers.

#![allow(clippy::disallowed_methods, reason = "many ask at once, from tasks of their own")]

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::harness::body::{TestBody, empty, full};
use crate::harness::gateway::{Gateway, TOP};
use crate::harness::hostile::{Endpoint, HostileProvider};
use crate::harness::http::{Answer, fetch};
use crate::harness::oidc_provider::OidcProviderBuilder;
use crate::harness::token_issuer::{Canned, CannedIssuer};
use crate::harness::upstream::EchoUpstream;

/// An issuer of opaque tokens, one whose JWTs are checked here, and routes.
struct World {
    issuer: CannedIssuer,
    jwts: HostileProvider,
    upstream: EchoUpstream,
    gateway: Gateway,
}

const CREDENTIALS: &str = "client_id = \"gate way\"\nclient_secret = \"p:ss/w+rd\"";

impl World {
    fn start() -> Self {
        Self::with("", CREDENTIALS)
    }

    /// With these lines at the top of the config, and these in the issuer's table.
    fn with(top: &str, table: &str) -> Self {
        let issuer = CannedIssuer::start();
        let jwts = HostileProvider::builder().name("jwts").start();
        let upstream = EchoUpstream::start();
        let route = |path: &str, rest: &str| {
            format!("[[route]]\nid = \"{path}\"\npath = \"/{path}\"\nupstream = \"{}\"\naccept = [\"bearer\"]\n{rest}\n", upstream.url())
        };
        let gateway = Gateway::start(&format!(
            "{TOP}store.kind = \"memory\"\n{top}\n\
             [[token_issuer]]\nissuer = \"{0}\"\naudience = \"api\"\nintrospection = \"{0}/introspect\"\n{table}\n\
             [[token_issuer]]\nissuer = \"{1}\"\naudience = \"api\"\n{2}{3}{4}",
            issuer.url(),
            jwts.issuer(),
            route("api", "allow = \"any-authenticated\""),
            route("write", "allow = { scopes = [\"write\"] }"),
            route("orders", "audience = \"orders\"\nallow = \"any-authenticated\""),
        ));
        Self { issuer, jwts, upstream, gateway }
    }

    fn says(&self, change: Value) {
        let mut answer = json!({
            "active": true, "sub": "alice", "client_id": "cli", "aud": "api", "scope": "read write", "exp": self.now() + 300,
        });
        change.as_object().expect("members").iter().for_each(|(name, value)| answer[name] = value.clone());
        answer.as_object_mut().expect("members").retain(|_, value| !value.is_null());
        self.issuer.says(&answer);
    }

    fn now(&self) -> u64 {
        (self.gateway.now())()
    }

    async fn show(&self, path: &str, token: &str) -> Answer {
        show(&format!("{}/{path}", self.gateway.url), token).await
    }

    async fn taken(&self, path: &str, token: &str, user: &str) {
        let before = self.upstream.count();
        let answer = self.show(path, token).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.upstream.count(), before + 1);
        assert_eq!(self.upstream.last().header("x-forwarded-user").as_deref(), Some(user));
        assert!(!self.upstream.last().everything().contains(token), "the upstream was shown the token");
    }

    async fn refused(&self, path: &str, token: &str, reason: &str) {
        let before = self.upstream.count();
        let answer = self.show(path, token).await;
        assert_eq!((answer.status.as_u16(), answer.json()["reason"].as_str()), (401, Some(reason)), "{}", answer.text());
        assert_eq!(answer.json()["error"], "invalid_token");
        assert_eq!(self.upstream.count(), before, "{reason}");
    }

    async fn outage(&self, path: &str, token: &str) {
        let before = self.upstream.count();
        let answer = self.show(path, token).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["reason"].as_str()),
            (503, Some("introspection-unreachable")),
            "{}",
            answer.text()
        );
        assert!(answer.header("retry-after").is_some() && answer.header("www-authenticate").is_none());
        assert_eq!(self.upstream.count(), before);
    }

    fn asked(&self) -> usize {
        self.issuer.count("/introspect")
    }
}

async fn show(url: &str, token: &str) -> Answer {
    fetch(authorized(url, &format!("Bearer {token}"))).await
}

fn authorized(url: &str, value: &str) -> Request<TestBody> {
    Request::get(url).header("authorization", value).body(empty()).expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_token_counts_as_its_issuer_says_and_the_gateway_says_who_asks() {
    let world = World::start();
    world.says(json!({ "email": "a@x.test" }));
    world.taken("api", "opaque-1", "alice").await;
    let asked = world.issuer.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    // RFC 6749 §2.3.1: both are form-encoded before they are joined.
    assert_eq!(asked[0].authorization.as_deref(), Some(format!("Basic {}", base64("gate+way:p%3Ass%2Fw%2Brd")).as_str()));
    assert_eq!((asked[0].form["token"].as_str(), asked[0].form["token_type_hint"].as_str()), ("opaque-1", "access_token"));
    assert_eq!(asked[0].form.len(), 2);
    let line = world.gateway.access_line("credential=bearer").await;
    assert!(line.contains("user=alice") && !line.contains("opaque-1"), "{line}");
    world.taken("write", "opaque-1", "alice").await;
    world.refused("orders", "opaque-1", "token-audience").await;
    assert_eq!(world.asked(), 1);
    world.says(json!({ "scope": "read", "sub": null }));
    let answer = world.show("write", "opaque-2").await;
    assert_eq!((answer.status.as_u16(), answer.json()["reason"].as_str()), (403, Some("insufficient-scope")), "{}", answer.text());
    // Nobody's token is its program's.
    world.taken("api", "opaque-2", "cli").await;

    let world = World::with("", "client_id = \"gateway\"\nclient_secret = \"s3cret\"\nclient_auth = \"post\"\nuser_claim = \"username\"");
    world.says(json!({ "sub": null, "username": "ann" }));
    world.taken("api", "opaque-1", "ann").await;
    let asked = &world.issuer.asked()[0];
    assert_eq!((asked.form["client_id"].as_str(), asked.form["client_secret"].as_str()), ("gateway", "s3cret"));
    assert_eq!(asked.authorization, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_issuer_does_not_vouch_for_is_refused_for_its_own_reason() {
    let world = World::start();
    let now = world.now();
    let mut number = 0;
    for (change, reason) in [
        (json!({ "active": false }), "token-inactive"),
        (json!({ "iss": "https://other.test" }), "token-issuer-unknown"),
        (json!({ "iss": world.jwts.issuer() }), "token-issuer-unknown"),
        (json!({ "aud": "somebody-else" }), "token-audience"),
        (json!({ "aud": null }), "token-audience"),
        (json!({ "exp": now - 120 }), "token-expired"),
        (json!({ "nbf": now + 600 }), "token-not-yet-valid"),
        (json!({ "token_type": "refresh_token" }), "token-type"),
        (json!({ "token_use": "refresh_token" }), "token-type"),
        (json!({ "sub": null, "username": "alice" }), "token-claims"),
        (json!({ "sub": null, "client_id": null }), "token-claims"),
        (json!({ "cnf": {} }), "token-bound"),
        (json!({ "cnf": { "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" } }), "token-bound"),
        (json!({ "token_type": "DPoP" }), "token-bound"),
    ] {
        world.says(change.clone());
        number += 1;
        world.refused("api", &format!("opaque-{number}"), reason).await;
        assert_eq!(world.asked(), number, "{change}");
    }
    world.says(json!({ "iss": world.issuer.url() }));
    world.taken("api", "opaque", "alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_answers_nonsense_or_not_at_all_is_an_outage_and_nobody_is_let_in() {
    let world = World::with("limits.provider_timeout = \"1s\"", CREDENTIALS);
    let active = json!({ "active": true, "sub": "alice", "aud": "api" });
    let body = |text: &str| Canned { body: text.as_bytes().to_vec(), ..Canned::json(&active) };
    let with = |change: Value| {
        let mut answer = active.clone();
        change.as_object().expect("members").iter().for_each(|(name, value)| answer[name] = value.clone());
        Canned::json(&answer)
    };
    let elsewhere = format!("{}/elsewhere", world.issuer.url());
    world.issuer.gives("/elsewhere", Canned::json(&active));
    for (number, answer) in [
        with(json!({ "active": "true" })),
        with(json!({ "active": 1 })),
        with(json!({ "active": null })),
        with(json!({ "active": [true] })),
        Canned::json(&json!({ "sub": "alice", "aud": "api" })),
        with(json!({ "exp": "soon" })),
        with(json!({ "aud": 7 })),
        body("true"),
        body("[true]"),
        body(""),
        body("{\"active\":true"),
        body("{\"active\":false,\"active\":true,\"sub\":\"alice\",\"aud\":\"api\"}"),
        Canned { content_type: "text/html", ..Canned::json(&active) },
        Canned { content_type: "application/token-introspection+jwt", ..Canned::json(&active) },
        Canned { status: 500, ..Canned::json(&active) },
        Canned { status: 401, ..Canned::json(&active) },
        Canned { status: 204, ..Canned::json(&active) },
        Canned { status: 201, ..Canned::json(&active) },
        Canned { status: 307, location: Some(elsewhere.clone()), ..Canned::json(&active) },
        Canned { status: 302, location: Some(elsewhere), ..Canned::json(&active) },
        with(json!({ "padding": "x".repeat(4 << 20) })),
        Canned { after: Duration::from_secs(3), ..Canned::json(&active) },
    ]
    .into_iter()
    .enumerate()
    {
        world.issuer.gives("/introspect", answer);
        world.outage("api", &format!("opaque-{number}")).await;
    }
    assert_eq!(world.issuer.count("/elsewhere"), 0, "a redirect was followed");
    assert_eq!(world.upstream.count(), 0);
    // None of it is kept.
    world.says(json!({}));
    world.taken("api", "opaque-0", "alice").await;
    world.issuer.stop().await;
    world.outage("api", "another").await;
    world.taken("api", "opaque-0", "alice").await;
    world.issuer.start_again();
    world.taken("api", "another", "alice").await;
    assert!(world.gateway.metric("doorward_dependency_errors_total{dependency=\"introspection\"}").await >= 20);
    let series = format!("doorward_provider_seconds_count{{provider=\"{}\",call=\"introspection\"}}", world.issuer.url());
    assert!(world.gateway.metric(&series).await >= 20, "{}", world.gateway.metrics().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_for_its_time_and_never_past_the_tokens_end() {
    let world = World::start();
    world.says(json!({ "exp": world.now() + 30 }));
    for _ in 0..5 {
        world.taken("api", "short", "alice").await;
    }
    assert_eq!(world.asked(), 1);
    // Over, and the issuer does not know it any more: it is asked again although the minute is not over.
    world.says(json!({ "active": false }));
    world.gateway.advance(Duration::from_secs(30));
    world.refused("api", "short", "token-inactive").await;
    assert_eq!(world.asked(), 2);
    // A refusal is kept for seconds.
    world.refused("api", "short", "token-inactive").await;
    assert_eq!(world.asked(), 2);
    world.says(json!({}));
    world.gateway.advance(Duration::from_secs(10));
    world.taken("api", "short", "alice").await;
    assert_eq!(world.asked(), 3);
    // A token that is revoked counts for a minute at most.
    world.says(json!({ "active": false }));
    world.gateway.advance(Duration::from_secs(59));
    world.taken("api", "short", "alice").await;
    world.gateway.advance(Duration::from_secs(1));
    world.refused("api", "short", "token-inactive").await;

    let world = World::with("", &format!("{CREDENTIALS}\nintrospection_cache = \"0s\""));
    world.says(json!({}));
    for _ in 0..3 {
        world.taken("api", "short", "alice").await;
    }
    assert_eq!(world.asked(), 3);
    world.says(json!({ "active": false }));
    world.refused("api", "short", "token-inactive").await;
    world.says(json!({}));
    world.taken("api", "short", "alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_show_a_token_at_once_wait_for_one_question() {
    let world = World::start();
    let answer = json!({ "active": true, "sub": "alice", "aud": "api" });
    world.issuer.gives("/introspect", Canned { after: Duration::from_millis(500), ..Canned::json(&answer) });
    let url = format!("{}/api", world.gateway.url);
    let ask = |token: &'static str| {
        let url = url.clone();
        tokio::spawn(async move { show(&url, token).await.status.as_u16() })
    };
    let all: Vec<_> = (0..40).map(|number| ask(if number % 4 == 0 { "one" } else { "two" })).collect();
    for asked in all {
        assert_eq!(asked.await.expect("an answer"), 200);
    }
    assert_eq!(world.asked(), 2);
    // The same of a failure: they wait once, and together.
    world.issuer.gives("/introspect", Canned { status: 500, after: Duration::from_millis(500), ..Canned::json(&answer) });
    let all: Vec<_> = (0..20).map(|_| ask("three")).collect();
    for asked in all {
        assert_eq!(asked.await.expect("an answer"), 503);
    }
    assert_eq!(world.asked(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_is_its_issuers_and_nobody_is_asked_about_it() {
    let world = World::start();
    world.says(json!({}));
    world.taken("api", &world.jwts.access_token(json!({ "aud": "api" }), "at+jwt"), "program").await;
    world.refused("api", &world.jwts.access_token(json!({ "aud": "x" }), "at+jwt"), "token-audience").await;
    world.refused("api", &world.jwts.access_token(json!({ "aud": "api" }), "JWT"), "token-type").await;
    world
        .refused("api", &world.jwts.access_token(json!({ "iss": "https://nobody.test", "aud": "api" }), "at+jwt"), "token-issuer-unknown")
        .await;
    // In the name of the issuer that is asked about opaque tokens: its keys say, not its answers.
    world.issuer.describes_itself("/.well-known/oauth-authorization-server");
    world.issuer.gives("/jwks", Canned::json(&json!({ "keys": [] })));
    let in_its_name = world.jwts.access_token(json!({ "iss": world.issuer.url(), "aud": "api" }), "at+jwt");
    world.refused("api", &in_its_name, "token-key-unknown").await;
    assert_eq!(world.asked(), 0);
    // Without a text iss it is as opaque as any other.
    world.taken("api", &world.jwts.access_token(json!({ "iss": null, "aud": "api" }), "at+jwt"), "alice").await;
    world.taken("api", "a.b.c", "alice").await;
    assert_eq!(world.asked(), 2);
    assert_eq!(world.jwts.count(Endpoint::Jwks), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_providers_opaque_and_jwt_tokens_are_taken_side_by_side() {
    let client = |id: &str, grants: Value| {
        json!({
            "client_id": id, "client_secret": format!("{id}-secret-0123456789-secret"), "redirect_uris": [], "response_types": [],
            "grant_types": grants,
        })
    };
    let resource = |format: &str| json!({ "audience": "orders", "scope": "orders:read orders:write", "format": format, "ttl": 60 });
    let mut issuer = OidcProviderBuilder::new("http://127.0.0.1:1/oauth2/callback")
        .add_client(client("robot", json!(["client_credentials"])))
        .add_client(client("gateway", json!(["client_credentials"])))
        .set("resources", json!({ "urn:jwt": resource("jwt"), "urn:opaque": resource("opaque") }))
        .start()
        .await;
    let upstream = EchoUpstream::start();
    let route = |path: &str, allow: &str| {
        format!(
            "[[route]]\nid = \"{path}\"\npath = \"/{path}\"\nupstream = \"{}\"\naccept = [\"bearer\"]\nallow = {allow}\n",
            upstream.url()
        )
    };
    let gateway = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\n[[token_issuer]]\nissuer = \"{}\"\naudience = \"orders\"\nintrospection = true\n\
         client_id = \"gateway\"\nclient_secret = \"gateway-secret-0123456789-secret\"\n{}{}",
        issuer.issuer(),
        route("read", "{ scopes = [\"orders:read\"] }"),
        route("write", "{ scopes = [\"orders:write\"] }")
    ));
    let form = async |path: &str, form: String| {
        let request = Request::post(format!("{}{path}", issuer.issuer()))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Basic {}", base64("robot:robot-secret-0123456789-secret")));
        fetch(request.body(full(form)).expect("a request")).await
    };
    let token = async |resource: &str| {
        let answer = form("/token", format!("grant_type=client_credentials&resource={resource}&scope=orders:read")).await;
        answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("no token: {}", answer.text())).to_owned()
    };
    let status = async |path: &str, token: &str| {
        let answer = show(&format!("{}/{path}", gateway.url), token).await;
        (answer.status.as_u16(), answer.json()["reason"].as_str().map(str::to_owned))
    };

    let (opaque, jwt) = (token("urn:opaque").await, token("urn:jwt").await);
    assert!(!opaque.contains('.') && jwt.contains('.'));
    for (token, user) in [(&opaque, "robot"), (&jwt, "robot")] {
        for _ in 0..3 {
            assert_eq!(status("read", token).await.0, 200, "{}", gateway.access_lines());
        }
        assert_eq!(upstream.last().header("x-forwarded-user").as_deref(), Some(user));
        assert_eq!(status("write", token).await, (403, Some("insufficient-scope".to_owned())));
    }
    assert_eq!(issuer.count("introspection").await, 1);
    assert_eq!(status("read", "made-up").await, (401, Some("token-inactive".to_owned())));
    // Revoked: it counts while the answer is kept, and no longer.
    assert_eq!(form("/token/revocation", format!("token={opaque}")).await.status, 200);
    assert_eq!(status("read", &opaque).await.0, 200);
    gateway.advance(Duration::from_secs(60));
    assert_eq!(status("read", &opaque).await, (401, Some("token-inactive".to_owned())));
    let fresh = token("urn:opaque").await;
    issuer.fail("introspection", 500, 1).await;
    assert_eq!(status("read", &fresh).await, (503, Some("introspection-unreachable".to_owned())));
    assert_eq!(status("read", &fresh).await.0, 200);
    issuer.stop();
    assert_eq!(status("read", "never-seen").await, (503, Some("introspection-unreachable".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_hangs_keeps_no_queue() {
    let world = World::with("limits.provider_timeout = \"1s\"", CREDENTIALS);
    world.issuer.gives("/introspect", Canned { after: Duration::from_secs(60), ..Canned::json(&json!({ "active": true })) });
    let url = format!("{}/api", world.gateway.url);
    let ask = |number: usize| {
        let url = url.clone();
        tokio::spawn(async move { show(&url, &format!("opaque-{number}")).await.status.as_u16() })
    };
    let all: Vec<_> = (0..400).map(ask).collect();
    for asked in all {
        assert_eq!(asked.await.expect("an answer"), 503);
    }
    // Those who came first, and those who got their turn as these gave up: nobody waits for a third round.
    assert!(world.asked() <= 3 * 64, "{} were asked about, one after the other", world.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_in_the_place_of_a_token_is_told_to_nobody() {
    let world = World::start();
    world.says(json!({}));
    world.refused("api", &format!("dwk_{}", "0".repeat(64)), "token-malformed").await;
    world.refused("api", "dwk_x", "token-malformed").await;
    assert_eq!(world.asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_made_up_tokens_drives_out_no_good_one() {
    let world = World::start();
    world.says(json!({}));
    world.taken("api", "good", "alice").await;
    world.issuer.says(&json!({ "active": false }));
    let url = format!("{}/api", world.gateway.url);
    let flood = (0..8).map(|part| {
        let url = url.clone();
        tokio::spawn(async move {
            for number in 0..700 {
                let answer = show(&url, &format!("made-up-{part}-{number}")).await;
                assert_eq!(answer.json()["reason"], "token-inactive", "{}", answer.text());
            }
        })
    });
    for part in flood.collect::<Vec<_>>() {
        part.await.expect("all were refused");
    }
    let before = world.asked();
    world.taken("api", "good", "alice").await;
    assert_eq!(world.asked(), before);
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
