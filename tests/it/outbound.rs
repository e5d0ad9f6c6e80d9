//! Tokens that the gateway obtains for upstreams: kept, renewed, shared, given up; exchanged for callers; and the caller's own passed on.

#![allow(clippy::disallowed_methods, reason = "many ask at once, and a test waits for them itself")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::harness::body::{empty, full, streamed};
use crate::harness::browser::Browser;
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::guarded::GuardedApi;
use crate::harness::hostile::{ClientAuth, Endpoint, HostileProvider, Lie};
use crate::harness::hostile_machine::MachineLie;
use crate::harness::http::{Answer, fetch, get};
use crate::harness::oidc_provider::OidcProviderBuilder;
use crate::harness::process::{Launch, Process};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, eventually, free_port, unix_now};
use crate::harness::world::reason_of;

/// A provider, a gateway and an API that wants the provider's tokens, all on one clock.
struct World {
    provider: HostileProvider,
    api: GuardedApi,
    echo: EchoUpstream,
    gateway: Gateway,
    ahead: Arc<AtomicU64>,
}

const ROUTES: &str = r#"
[outbound.own]
provider = "default"
scope = ["orders:read", "orders:write"]
audience = ["orders"]
resource = ["https://orders.test/"]
[outbound.named]
token_endpoint = "@ISSUER@/token"
client_id = "@CLIENT@"
client_secret = "@SECRET@"
client_auth = "post"
header = "X-Api-Token"
[outbound.exchanged]
kind = "token_exchange"
issuer = "@ISSUER@"
client_id = "@CLIENT@"
client_secret = "@SECRET@"
audience = ["orders"]

[[route]]
id = "own"
path = "/own"
access = "public"
upstream = "@API@"
outbound = "own"
[[route]]
id = "own-echo"
path = "/own-echo"
access = "public"
upstream = "@ECHO@"
outbound = "own"
[[route]]
id = "preflight"
path = "/preflight"
allow = "any-authenticated"
preflight = "pass"
upstream = "@ECHO@"
outbound = "own"
[[route]]
id = "named"
path = "/named"
access = "public"
upstream = "@ECHO@"
outbound = "named"
[[route]]
id = "exchanged"
path = "/exchanged"
accept = ["session", "bearer"]
allow = "any-authenticated"
upstream = "@API@"
outbound = "exchanged"
[[route]]
id = "perhaps"
path = "/perhaps"
access = "optional"
accept = ["bearer"]
upstream = "@ECHO@"
outbound = "exchanged"
[[route]]
id = "passed"
path = "/passed"
accept = ["session", "bearer"]
allow = "any-authenticated"
upstream = "@ECHO@"
headers = { "Authorization" = "Bearer {access_token}", "X-Id-Token" = "{id_token}" }
[[route]]
id = "plain"
path = "/plain"
accept = ["bearer"]
allow = "any-authenticated"
upstream = "@ECHO@"
"#;

impl World {
    fn start() -> Self {
        Self::with("", |_| None)
    }

    /// With these lines at the top of the config; `check` in place of the provider's word on its tokens.
    fn with(top: &str, check: impl FnOnce(&HostileProvider) -> Option<crate::harness::guarded::TokenCheck>) -> Self {
        let ahead = Arc::new(AtomicU64::new(0));
        let passed = Arc::clone(&ahead);
        let hostile = HostileProvider::builder().clock(Arc::new(move || unix_now() + passed.load(Ordering::SeqCst))).start();
        let api = GuardedApi::start(check(&hostile).unwrap_or_else(|| hostile.token_check()));
        let echo = EchoUpstream::start();
        let issuer = hostile.issuer();
        let people = provider(&issuer, hostile.client_id(), hostile.client_secret());
        let tokens = format!("[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"api\"\n");
        let routes = ROUTES
            .replace("@API@", &api.url())
            .replace("@ECHO@", &echo.url())
            .replace("@ISSUER@", &issuer)
            .replace("@CLIENT@", hostile.client_id())
            .replace("@SECRET@", hostile.client_secret());
        let gateway =
            Gateway::start(&format!("{TOP}store.kind = \"memory\"\ntrusted_proxies = [\"127.0.0.1\"]\n{top}\n{people}{tokens}{routes}"));
        Self { provider: hostile, api, echo, gateway, ahead }
    }

    fn advance(&self, seconds: u64) {
        self.gateway.advance(Duration::from_secs(seconds));
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.url)
    }

    async fn get(&self, path: &str) -> Answer {
        fetch(get(&self.url(path))).await
    }

    async fn get_as(&self, path: &str, token: &str) -> Answer {
        let request = Request::get(self.url(path)).header("authorization", format!("Bearer {token}"));
        fetch(request.body(empty()).unwrap()).await
    }

    /// A caller's token of the provider's, a JWT.
    fn callers_token(&self, claims: Value) -> String {
        let mut all = json!({ "aud": "api" });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        self.provider.access_token(all, "at+jwt")
    }

    /// How often a token was asked for.
    fn asked(&self) -> usize {
        self.provider.machine_requests().len()
    }

    /// Waits until it was asked for so often, and the gateway has the answer.
    async fn asked_for(&self, n: usize) {
        eventually(&format!("token request number {n}"), || (self.asked() >= n).then_some(())).await;
    }
}

#[tokio::test]
async fn a_route_adds_the_gateways_own_token_and_asks_for_it_once() {
    let world = World::start();
    assert_eq!(world.asked(), 0, "nobody is asked before a request needs it");
    for _ in 0..3 {
        let answer = world.get_as("/own", "of-the-downstream").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(world.api.counts(), (3, 0));
    assert_eq!(world.asked(), 1);
    let asked = &world.provider.machine_requests()[0];
    for (name, value) in [
        ("grant_type", "client_credentials"),
        ("scope", "orders:read orders:write"),
        ("audience", "orders"),
        ("resource", "https://orders.test/"),
    ] {
        assert_eq!(asked.get(name).map(String::as_str), Some(value), "{asked:?}");
    }
    assert!(!asked.contains_key("client_secret"));
    assert_eq!(world.provider.client_auths(), [ClientAuth::Basic]);
    assert_eq!(world.provider.complaints(), Vec::<String>::new());
    // What the downstream sent there is gone.
    world.get_as("/own-echo", "of-the-downstream").await;
    let seen = world.echo.last();
    assert_eq!(seen.header_all("authorization"), [format!("Bearer {}", world.api.tokens()[0])]);
    assert!(!seen.everything().contains("of-the-downstream"));
    assert_eq!(world.gateway.metric("doorward_provider_seconds_count{provider=\"").await, 1);
    // Nor does any of it get into a log.
    let lines = world.gateway.access_lines();
    assert!(world.provider.secrets().iter().all(|(_, secret)| !lines.contains(secret)), "{lines}");
}

#[tokio::test]
async fn a_token_may_go_into_a_header_of_its_own_which_nobody_else_may_send() {
    let world = World::start();
    let forged = |path: &str| {
        let request = Request::get(world.url(path)).header("x-api-token", "forged").header("x_api_token", "forged");
        fetch(request.body(empty()).unwrap())
    };
    assert_eq!(forged("/named").await.status, 200);
    let seen = world.echo.last();
    let token = seen.header("x-api-token").unwrap();
    assert!((world.provider.token_check())(&token), "{}", seen.everything());
    assert_eq!(seen.header_all("x-api-token").len(), 1);
    assert!(!seen.everything().contains("forged"));
    assert_eq!(world.provider.client_auths(), [ClientAuth::Post]);
    // A route that adds nothing lets it through neither.
    forged("/own-echo").await;
    assert_eq!(world.echo.last().header("x-api-token"), None);
}

#[tokio::test]
async fn fifty_who_wait_share_one_call() {
    let world = World::start();
    world.provider.set(Lie::SlowAnswer(Endpoint::Token, Duration::from_millis(400)));
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let url = world.url("/own");
            tokio::spawn(async move { fetch(get(&url)).await.status })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!((world.asked(), world.api.counts()), (1, (50, 0)));
}

#[tokio::test]
async fn a_token_is_renewed_beside_the_requests_before_it_ends() {
    let world = World::start();
    world.provider.set_expires_in(60, true);
    world.get("/own").await;
    world.advance(39);
    world.get("/own").await;
    assert_eq!(world.asked(), 1);
    world.advance(2);
    world.provider.set(Lie::SlowAnswer(Endpoint::Token, Duration::from_secs(2)));
    let begun = std::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(world.get("/own").await.status, 200);
    }
    assert!(begun.elapsed() < Duration::from_millis(1900), "somebody waited for the renewal");
    world.asked_for(2).await;
    let old = world.api.tokens()[0].clone();
    let end = std::time::Instant::now() + PATIENCE;
    while world.api.tokens().last() == Some(&old) {
        assert!(std::time::Instant::now() < end, "the new token is not used");
        assert_eq!(world.get("/own").await.status, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((world.asked(), world.api.counts().1), (2, 0));
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_old_token_in_use_to_its_end() {
    let world = World::start();
    world.provider.set_expires_in(60, true);
    world.get("/own").await;
    world.provider.set(Lie::Status(Endpoint::Token, 500));
    let before = world.provider.count(Endpoint::Token);
    world.advance(41);
    for _ in 0..10 {
        assert_eq!(world.get("/own").await.status, 200);
    }
    eventually("the renewal", || (world.provider.count(Endpoint::Token) == before + 1).then_some(())).await;
    // At its end there is none, and the API is not asked without.
    world.advance(14);
    let (served, _) = world.api.counts();
    for _ in 0..5 {
        let answer = world.get("/own").await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (503, "upstream-token-unreachable"));
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(world.api.counts(), (served, 0));
    let calls = world.provider.count(Endpoint::Token);
    assert!(calls <= before + 3, "a dead provider is hammered: {calls} calls");
    assert_eq!(world.gateway.metric("doorward_dependency_errors_total{dependency=\"upstream-token\"}").await, 5);
    world.provider.set(Lie::None);
    world.advance(3);
    assert_eq!(world.get("/own").await.status, 200);
}

#[tokio::test]
async fn what_is_no_good_token_is_an_outage_of_the_route_and_of_nothing_else() {
    let world = World::with("limits.provider_timeout = \"1s\"", |_| None);
    let rows = [
        (Lie::Status(Endpoint::Token, 500), MachineLie::None, 3600),
        (Lie::Status(Endpoint::Token, 429), MachineLie::None, 3600),
        (Lie::NotJson(Endpoint::Token), MachineLie::None, 3600),
        (Lie::Closes(Endpoint::Token), MachineLie::None, 3600),
        (Lie::HalfAnswer(Endpoint::Token), MachineLie::None, 3600),
        (Lie::Silent(Endpoint::Token), MachineLie::None, 3600),
        (Lie::EndlessAnswer(Endpoint::Token), MachineLie::None, 3600),
        (Lie::HugeAnswer(Endpoint::Token), MachineLie::None, 3600),
        (Lie::DrippingAnswer(Endpoint::Token), MachineLie::None, 3600),
        (Lie::RedirectFromTokenEndpoint, MachineLie::None, 3600),
        (Lie::TokenTypeOther, MachineLie::None, 3600),
        (Lie::NoAccessToken, MachineLie::None, 3600),
        (Lie::None, MachineLie::DeclaredAsPage, 3600),
        (Lie::None, MachineLie::TokenOfTwoLines, 3600),
        (Lie::None, MachineLie::Refused("invalid_client"), 3600),
        (Lie::None, MachineLie::Refused("invalid_scope"), 3600),
        (Lie::None, MachineLie::None, 0),
    ];
    for (lie, machine, lives) in rows {
        let row = format!("{lie:?} {machine:?} {lives}");
        world.provider.set(lie);
        world.provider.set_machine(machine);
        world.provider.set_expires_in(lives, true);
        let (before, reached) = (world.provider.count(Endpoint::Token), world.api.tokens().len());
        for _ in 0..3 {
            let answer = world.get("/own").await;
            assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (503, "upstream-token-unreachable"), "{row}");
        }
        assert_eq!(world.api.tokens().len(), reached, "{row}: the API was reached");
        // The pause is by the clock, and a silent provider takes a second of it.
        assert!(world.provider.count(Endpoint::Token) <= before + 2, "{row}: hammered");
        world.provider.set(Lie::None);
        world.provider.set_machine(MachineLie::None);
        world.provider.set_expires_in(60, true);
        world.advance(11);
        let answer = world.get("/own").await;
        assert_eq!(answer.status, 200, "{row}: {}", answer.text());
        // The next row finds none.
        world.advance(3600);
    }
    assert_eq!(world.provider.count(Endpoint::Elsewhere), 0, "a redirect was followed");
}

#[tokio::test]
async fn a_token_whose_end_nobody_says_is_used_for_a_minute() {
    let world = World::start();
    world.provider.set_expires_in(3600, false);
    world.get("/own").await;
    world.advance(30);
    world.get("/own").await;
    assert_eq!(world.asked(), 1);
    world.advance(30);
    world.get("/own").await;
    assert_eq!((world.asked(), world.api.counts()), (2, (3, 0)));
}

#[tokio::test]
async fn a_token_that_the_upstream_refuses_is_replaced_and_the_request_repeated() {
    let world = World::start();
    assert_eq!(world.get("/own").await.status, 200);
    world.provider.revoke_machine_tokens();
    assert_eq!(world.get("/own").await.status, 200);
    assert_eq!((world.asked(), world.api.counts()), (2, (2, 1)));
    // An empty body is one that can be sent again, whatever the method.
    world.advance(11);
    world.provider.revoke_machine_tokens();
    let answer = fetch(Request::post(world.url("/own")).body(full("")).unwrap()).await;
    assert_eq!((answer.status.as_u16(), world.asked(), world.api.counts()), (200, 3, (3, 2)));
}

#[tokio::test]
async fn what_was_sent_is_not_sent_twice() {
    let world = World::start();
    assert_eq!(world.get("/own").await.status, 200);
    world.provider.revoke_machine_tokens();
    // Nor is a token asked for that this request could not be sent with: the API's own word is passed on.
    world.provider.set(Lie::Status(Endpoint::Token, 500));
    let answer = fetch(Request::post(world.url("/own")).body(full("order 1")).unwrap()).await;
    assert_eq!((answer.status.as_u16(), world.asked()), (401, 1));
    world.provider.set(Lie::None);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    assert_eq!(world.api.counts(), (1, 1), "the order was sent once");
    // The refused token was given up all the same.
    let answer = fetch(Request::post(world.url("/own")).body(full("order 2")).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "order 2"));
}

#[tokio::test]
async fn a_body_of_which_nothing_was_sent_goes_with_the_second_try() {
    let world = World::start();
    assert_eq!(world.get("/own").await.status, 200);
    world.provider.revoke_machine_tokens();
    let (sender, body) = streamed();
    let url = world.url("/own/early");
    let posting = tokio::spawn(async move { fetch(Request::post(url).body(body).unwrap()).await });
    // The API refuses without having waited for the body; then it is asked again.
    eventually("the second try", || (world.api.counts() == (2, 1)).then_some(())).await;
    assert!(sender.send("order 1").await);
    drop(sender);
    let answer = posting.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "order 1"));
}

#[tokio::test]
async fn an_upstream_that_refuses_every_token_costs_the_provider_little() {
    let world = World::with("", |_| Some(Arc::new(|_| false)));
    for _ in 0..20 {
        assert_eq!(world.get("/own").await.status, 401);
    }
    assert!(world.asked() <= 2, "{} calls", world.asked());
    world.advance(11);
    for _ in 0..20 {
        assert_eq!(world.get("/own").await.status, 401);
    }
    assert!(world.asked() <= 3, "{} calls", world.asked());
}

#[tokio::test]
async fn a_token_that_was_refused_and_cannot_be_replaced_is_an_outage() {
    let world = World::start();
    assert_eq!(world.get("/own").await.status, 200);
    world.provider.revoke_machine_tokens();
    world.provider.set(Lie::Status(Endpoint::Token, 500));
    let answer = world.get("/own").await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (503, "upstream-token-unreachable"));
}

#[tokio::test]
async fn a_preflight_carries_no_token() {
    let world = World::start();
    let request = Request::options(world.url("/preflight")).header("origin", "https://else.test");
    let answer = fetch(request.header("access-control-request-method", "GET").body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), world.asked()), (200, 0));
    assert_eq!(world.echo.last().header("authorization"), None);
}

#[tokio::test]
async fn a_callers_token_is_exchanged_once_for_as_long_as_both_are_good() {
    let world = World::start();
    let (ann, bob) = (world.callers_token(json!({ "sub": "ann" })), world.callers_token(json!({ "sub": "bob" })));
    for token in [&ann, &bob, &ann, &bob, &ann] {
        let answer = world.get_as("/exchanged", token).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!((world.asked(), world.api.counts()), (2, (5, 0)));
    let asked = &world.provider.machine_requests()[0];
    let access_token = "urn:ietf:params:oauth:token-type:access_token";
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", ann.as_str()),
        ("subject_token_type", access_token),
        ("requested_token_type", access_token),
        ("audience", "orders"),
    ] {
        assert_eq!(asked.get(name).map(String::as_str), Some(value), "{asked:?}");
    }
    let subjects: Vec<_> = world.api.tokens().iter().map(|token| world.provider.exchanged_of(token).unwrap()).collect();
    assert_eq!(subjects, ["ann", "bob", "ann", "bob", "ann"]);
    assert!(world.api.tokens().iter().all(|token| ![&ann, &bob].contains(&token)), "the caller's own token was passed on");
    assert_eq!(world.provider.complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_had_for_a_callers_token_ends_with_it() {
    let world = World::start();
    let now = unix_now();
    let token = world.callers_token(json!({ "sub": "ann", "exp": now + 100 }));
    world.get_as("/exchanged", &token).await;
    world.advance(60);
    world.get_as("/exchanged", &token).await;
    assert_eq!(world.asked(), 1);
    // The exchanged one would live for an hour; the caller's ends in five seconds.
    world.advance(35);
    assert_eq!(world.get_as("/exchanged", &token).await.status, 200);
    assert_eq!(world.asked(), 2);
    // Over, but within the leeway that the route gives: there is nothing to exchange for any time at all.
    world.advance(30);
    let answer = world.get_as("/exchanged", &token).await;
    assert_ne!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_caller_whose_token_the_provider_will_not_exchange_is_refused_with_a_reason() {
    let world = World::start();
    let token = world.callers_token(json!({ "sub": "ann" }));
    for word in ["invalid_request", "invalid_target", "invalid_grant", "access_denied"] {
        world.provider.set_machine(MachineLie::Refused(word));
        let before = world.asked();
        for _ in 0..5 {
            let answer = world.get_as("/exchanged", &token).await;
            assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (403, "exchange-refused"), "{word}");
        }
        assert_eq!(world.asked(), before + 1, "{word}: asked for each request");
        assert!(world.gateway.access_line(&format!("answered {word}")).await.contains("exchange-refused"));
        world.advance(11);
    }
    // What speaks of our registration is no fault of the caller's.
    for word in ["invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"] {
        world.provider.set_machine(MachineLie::Refused(word));
        let answer = world.get_as("/exchanged", &token).await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (503, "upstream-token-unreachable"), "{word}");
        world.advance(11);
    }
    world.provider.set_machine(MachineLie::NoIssuedTokenType);
    assert_eq!(reason_of(&world.get_as("/exchanged", &token).await), "upstream-token-unreachable");
    assert_eq!(world.api.counts(), (0, 0), "the API was reached");
    world.provider.set_machine(MachineLie::None);
    world.advance(11);
    assert_eq!(world.get_as("/exchanged", &token).await.status, 200);
}

#[tokio::test]
async fn a_sessions_access_token_is_exchanged_too() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = browser.get(&world.url("/exchanged")).await;
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(world.provider.exchanged_of(&world.api.tokens()[0]).as_deref(), Some("alice"));
    // Nobody is let in without a credential, and nothing is asked for.
    let asked = world.asked();
    assert_eq!(world.get("/exchanged").await.status, 401);
    assert_eq!(world.asked(), asked);
}

#[tokio::test]
async fn who_may_stay_unknown_goes_on_without_a_token() {
    let world = World::start();
    assert_eq!(world.get("/perhaps").await.status, 200);
    assert_eq!((world.asked(), world.echo.last().header("authorization")), (0, None));
    let token = world.callers_token(json!({ "sub": "ann" }));
    assert_eq!(world.get_as("/perhaps", &token).await.status, 200);
    let added = world.echo.last().header("authorization").unwrap();
    assert_eq!(world.provider.exchanged_of(added.strip_prefix("Bearer ").unwrap()).as_deref(), Some("ann"));
    // A bad token is refused as ever.
    assert_eq!(world.get_as("/perhaps", "nonsense").await.status, 401);
}

/// No other route names `Authorization` here, which would strip it everywhere.
#[tokio::test]
async fn what_the_downstream_sends_stands_in_no_tokens_place() {
    let (provider, echo) = (HostileProvider::start(), EchoUpstream::start());
    let gateway = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\n[outbound.exchanged]\nkind = \"token_exchange\"\nissuer = \"{issuer}\"\nclient_id = \"{}\"\n\
         client_secret = \"{}\"\naudience = [\"orders\"]\n[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"api\"\n\
         [[route]]\naccess = \"optional\"\naccept = [\"bearer\"]\nupstream = \"{}\"\noutbound = \"exchanged\"\n",
        provider.client_id(),
        provider.client_secret(),
        echo.url(),
        issuer = provider.issuer(),
    ));
    let request = Request::get(&gateway.url).header("authorization", "Basic b2YtdGhlOmRvd25zdHJlYW0=");
    assert_eq!(fetch(request.body(empty()).unwrap()).await.status, 200);
    assert_eq!((echo.count(), echo.last().header("authorization")), (1, None));
}

#[tokio::test]
async fn a_callers_own_token_is_passed_on_where_the_route_says_so_and_nowhere_else() {
    let world = World::start();
    let token = world.callers_token(json!({ "sub": "ann" }));
    assert_eq!(world.get_as("/passed", &token).await.status, 200);
    let seen = world.echo.last();
    assert_eq!(seen.header_all("authorization"), [format!("Bearer {token}")]);
    assert_eq!(seen.header("x-id-token"), None, "a caller without a session has no ID token");
    assert_eq!(world.get_as("/plain", &token).await.status, 200);
    assert!(!world.echo.last().everything().contains(&token));
    // A person's is that of the session.
    let mut browser = Browser::new();
    let page = browser.get(&world.url("/passed")).await;
    assert_eq!(browser.follow_all(page).await.status, 200);
    let seen = world.echo.last();
    let passed = seen.header("authorization").unwrap();
    assert!(world.provider.secrets().contains(&("access_token", passed.strip_prefix("Bearer ").unwrap().to_owned())));
    assert!(seen.header("x-id-token").is_some_and(|token| token.split('.').count() == 3));
}

#[tokio::test]
async fn forward_auth_hands_the_token_to_the_proxy_in_front() {
    let world = World::start();
    let token = world.callers_token(json!({ "sub": "ann" }));
    let question = |path: &str, token: Option<&str>| {
        let request = Request::get(world.url("/oauth2/auth"))
            .header("x-original-method", "GET")
            .header("x-original-uri", path)
            .header("x-forwarded-proto", "http")
            .header("x-forwarded-host", world.gateway.address.to_string());
        let request = token.into_iter().fold(request, |request, token| request.header("authorization", format!("Bearer {token}")));
        fetch(request.body(empty()).unwrap())
    };
    let answer = question("/passed", Some(&token)).await;
    assert_eq!((answer.status.as_u16(), answer.header("authorization")), (200, Some(format!("Bearer {token}").as_str())));
    let answer = question("/exchanged", Some(&token)).await;
    let added = answer.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    assert_eq!(world.provider.exchanged_of(&added).as_deref(), Some("ann"));
    let answer = question("/named", None).await;
    assert!((world.provider.token_check())(answer.header("x-api-token").unwrap()));
    world.provider.set_machine(MachineLie::Refused("access_denied"));
    let other = world.callers_token(json!({ "sub": "bob" }));
    let answer = question("/exchanged", Some(&other)).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str(), answer.header("authorization")), (403, "exchange-refused", None));
    world.provider.set(Lie::Status(Endpoint::Token, 500));
    let third = world.callers_token(json!({ "sub": "eve" }));
    assert_eq!(question("/exchanged", Some(&third)).await.status, 503);
}

#[tokio::test]
async fn nobody_has_the_token_echoed() {
    let world = World::start();
    let answer = fetch(Request::builder().method("TRACE").uri(world.url("/own-echo")).body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (405, "method-not-allowed"));
    assert!(answer.header("allow").is_some_and(|allow| !allow.contains("TRACE")));
    assert_eq!((world.echo.count(), world.asked()), (0, 0));
    // Nor by a front proxy that would send it on.
    let question = Request::get(world.url("/oauth2/auth"))
        .header("x-original-method", "TRACE")
        .header("x-original-uri", "/own-echo")
        .header("x-forwarded-proto", "http")
        .header("x-forwarded-host", world.gateway.address.to_string());
    let answer = fetch(question.body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.header("authorization"), world.asked()), (401, None, 0));
}

/// The leeway lets a caller in whose token is just over.
#[tokio::test]
async fn a_callers_token_that_is_just_over_is_no_outage() {
    let world = World::start();
    let token = world.callers_token(json!({ "sub": "ann", "exp": unix_now() - 20 }));
    for _ in 0..3 {
        let answer = world.get_as("/exchanged", &token).await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (403, "exchange-refused"), "{}", answer.text());
    }
    assert_eq!((world.asked(), world.api.counts()), (0, (0, 0)));
}

/// The certified provider, and an API that is a gateway of its own: what one obtains the other verifies.
#[tokio::test]
async fn a_token_of_the_real_provider_is_for_the_upstream_that_is_named() {
    let resource = "https://orders.example.test/";
    let provider = OidcProviderBuilder::new("http://127.0.0.1:1/callback")
        .set("resources", json!({ resource: { "audience": "orders", "scope": "orders:read orders:write" } }))
        .add_client(json!({
            "client_id": "gateway", "client_secret": "a-secret: with + and % in it, 0123456789", "redirect_uris": [],
            "grant_types": ["client_credentials"], "response_types": [],
        }))
        .start()
        .await;
    let echo = EchoUpstream::start();
    let api = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\n[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"orders\"\n[[route]]\nupstream = \"{}\"\n\
         accept = [\"bearer\"]\nallow = {{ scopes = [\"orders:read\"] }}\n",
        echo.url(),
        issuer = provider.issuer(),
    ));
    let outbound = |scope: &str, resource: &str| {
        format!(
            "issuer = \"{}\"\nclient_id = \"gateway\"\nclient_secret = \"a-secret: with + and % in it, 0123456789\"\n\
             scope = [\"{scope}\"]\nresource = [\"{resource}\"]\n",
            provider.issuer()
        )
    };
    let route = |id: &str| {
        format!("[[route]]\nid = \"{id}\"\npath = \"/{id}\"\naccess = \"public\"\nupstream = \"{}\"\noutbound = \"{id}\"\n", api.url)
    };
    let gateway = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\n[outbound.read]\n{}[outbound.write]\n{}[outbound.unknown]\n{}{}{}{}",
        outbound("orders:read", resource),
        outbound("orders:write", resource),
        outbound("orders:read", "https://nobody.example.test/"),
        route("read"),
        route("write"),
        route("unknown"),
    ));
    for _ in 0..5 {
        let answer = fetch(get(&format!("{}/read", gateway.url))).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), provider.output());
    }
    assert_eq!(echo.last().header("x-forwarded-user").as_deref(), Some("gateway"));
    assert_eq!(provider.count("token:client_credentials").await, 1);
    // The API's own word on a token that may not do this: it is passed on as it is.
    let answer = fetch(get(&format!("{}/write", gateway.url))).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (403, "insufficient-scope"));
    let answer = fetch(get(&format!("{}/unknown", gateway.url))).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (503, "upstream-token-unreachable"));
    assert!(gateway.access_line("invalid_target").await.contains("upstream-token-unreachable"));
}

/// A program that knows one address and nothing of tokens. It calls until its stdin closes, and says what it got.
const CONSUMER: &str = r"
import collections, http.client, sys, threading, urllib.parse
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
place = urllib.parse.urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
statuses = collections.Counter()
while not ended.is_set():
    connection.request('GET', place.path)
    answer = connection.getresponse()
    answer.read()
    statuses[answer.status] += 1
print('statuses', ' '.join(f'{status}={count}' for status, count in sorted(statuses.items())), flush=True)
";

fn consumer(url: &str) -> Process {
    Launch::new("python3").args(["-c", CONSUMER, url]).with_stdin().start()
}

#[tokio::test]
async fn a_consumer_of_an_hour_with_tokens_of_a_minute_never_sees_a_401() {
    let port = free_port();
    let world = World::with("", |_| None);
    world.provider.set_expires_in(60, true);
    // Beside the route, a listener for calls that leave, at a gateway of its own.
    let leaving = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\nupstream = \"static:204\"\nallow = \"any-authenticated\"\n[outbound.own]\nissuer = \"{issuer}\"\n\
         client_id = \"{}\"\nclient_secret = \"{}\"\n[[outgoing]]\nlisten = \"127.0.0.1:{port}\"\nhosts = [\"{}\"]\noutbound = \"own\"\n{}",
        world.provider.client_id(),
        world.provider.client_secret(),
        world.api.url(),
        provider(&world.provider.issuer(), world.provider.client_id(), world.provider.client_secret()),
        issuer = world.provider.issuer(),
    ));
    let consumers = [consumer(&world.url("/own/hour")), consumer(&format!("http://127.0.0.1:{port}/hour"))];
    eventually("the first calls of both", || {
        (!world.gateway.access_lines().is_empty() && !leaving.access_lines().is_empty()).then_some(())
    })
    .await;
    let mut served = world.api.counts().0;
    for second in 0..3600_u64 {
        match second {
            // The provider is away when the token is due, and for ten seconds more.
            1800 => world.provider.set(Lie::Closes(Endpoint::Token)),
            1810 => world.provider.set(Lie::None),
            // An upstream that takes a token back before its time.
            2500 => world.provider.revoke_machine_tokens(),
            _ => {}
        }
        world.advance(1);
        leaving.advance(Duration::from_secs(1));
        // Both go on calling; some of the calls are of this second.
        let end = std::time::Instant::now() + PATIENCE;
        while world.api.counts().0 < served + 4 {
            assert!(std::time::Instant::now() < end, "nobody calls any more at second {second}: {:?}", world.api.counts());
            tokio::task::yield_now().await;
        }
        served = world.api.counts().0;
    }
    for consumer in &consumers {
        consumer.close_stdin();
        let said = consumer.wait_for_line(|line| line.starts_with("statuses"), PATIENCE).await;
        assert!(said.starts_with("statuses 200=") && said.matches('=').count() == 1, "{said}");
    }
    let (served, refused) = world.api.counts();
    assert!(served >= 4 * 3600, "{served}");
    assert!((1..=2 * 4).contains(&refused), "a token was taken back, and {refused} calls showed it");
    // Two gateways, a token of a minute each: renewed after two thirds of it.
    let asked = world.asked();
    assert!((2 * 60..=2 * 110).contains(&asked), "{asked} tokens in an hour");
}
