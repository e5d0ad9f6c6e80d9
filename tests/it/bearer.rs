//! Programs show bearer tokens: RFC 6750 to the letter, whose token counts for what, and issuers whose keys change or cannot be had.

#![allow(clippy::disallowed_methods, reason = "the storm is told by the machine's own clock, and comes from many tasks")]

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::harness::body::{TestBody, empty, full};
use crate::harness::browser::Browser;
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::hostile::{Endpoint, HostileProvider, Lie};
use crate::harness::http::{Answer, HttpClient, Protocol, fetch, get};
use crate::harness::jose::base64url;
use crate::harness::oidc_provider::{CLIENT_ID, CLIENT_SECRET, OidcProviderBuilder};
use crate::harness::raw::{raw_answer, request};
use crate::harness::upstream::EchoUpstream;

/// RFC 9068 §2.1.
const AT_JWT: &str = "at+jwt";

/// Issuer A follows RFC 9068 and its groups count; issuer B sends no `typ`, people sign in there too, and the groups of its tokens do not
/// count.
struct World {
    a: HostileProvider,
    b: HostileProvider,
    upstream: EchoUpstream,
    gateway: Gateway,
}

impl World {
    fn start() -> Self {
        Self::with("")
    }

    /// With these lines at the top of the config.
    fn with(top: &str) -> Self {
        let a = HostileProvider::builder().name("a").start();
        let b = HostileProvider::builder().name("b").start();
        let upstream = EchoUpstream::start();
        let people = provider(&b.issuer(), b.client_id(), b.client_secret());
        let issuers = format!(
            "[[token_issuer]]\nissuer = \"{}\"\naudience = [\"api\", \"other-name\"]\ngroups_claim = \"groups\"\nemail_claim = \"email\"\n\
             [[token_issuer]]\nissuer = \"{}\"\naudience = \"api\"\ntyp = \"any\"\n",
            a.issuer(),
            b.issuer()
        );
        let route =
            |path: &str, rest: &str| format!("[[route]]\nid = \"{path}\"\npath = \"/{path}\"\nupstream = \"{}\"\n{rest}\n", upstream.url());
        let routes = [
            route("api", "accept = [\"bearer\"]\nallow = \"any-authenticated\""),
            route("mixed", "accept = [\"session\", \"bearer\"]\nallow = \"any-authenticated\""),
            route("people", "allow = \"any-authenticated\""),
            route("orders", "accept = [\"bearer\"]\naudience = [\"orders\", \"orders-v2\"]\nallow = \"any-authenticated\""),
            route("scoped", "accept = [\"bearer\"]\nallow = { scopes = [\"orders:write\", \"orders:read\"] }"),
            route("admin", "accept = [\"bearer\"]\nallow = { groups = [\"admin\"] }"),
            route("admin-of-a", &format!("accept = [\"bearer\"]\nallow = {{ groups = [\"admin\"], provider = [\"{}\"] }}", a.issuer())),
            route("people-of-a", &format!("accept = [\"session\", \"bearer\"]\nallow = {{ provider = [\"{}\"] }}", a.issuer())),
        ];
        let gateway = Gateway::start(&format!("{TOP}store.kind = \"memory\"\n{top}\n{people}{issuers}{}", routes.concat()));
        Self { a, b, upstream, gateway }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.gateway.url)
    }

    async fn with_token(&self, path: &str, token: &str) -> Answer {
        fetch(authorized(&self.url(path), &format!("Bearer {token}"))).await
    }

    /// The token is let through, and the upstream is told whose it is without being shown it.
    async fn taken(&self, path: &str, token: &str) {
        let before = self.upstream.count();
        let answer = self.with_token(path, token).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.upstream.count(), before + 1);
        let seen = self.upstream.last();
        assert!(seen.header("x-forwarded-user").is_some_and(|user| !user.is_empty()), "{}", seen.everything());
        assert!(!seen.everything().contains(token), "the upstream was shown the token");
    }

    /// 401 `invalid_token` for this reason, and the upstream was not asked.
    async fn refused(&self, path: &str, token: &str, reason: &str) {
        let before = self.upstream.count();
        let answer = self.with_token(path, token).await;
        is_invalid_token(&answer, reason);
        assert_eq!(self.upstream.count(), before, "{reason}");
    }
}

fn authorized(url: &str, value: &str) -> Request<TestBody> {
    Request::get(url).header("authorization", value).body(empty()).expect("a request")
}

fn challenge(answer: &Answer) -> String {
    let lines = answer.header_all("www-authenticate");
    let of = |scheme: &str| lines.iter().filter(|line| line.starts_with(scheme)).count();
    // On 401 those who bind their tokens are told as well (RFC 9449 §7.2).
    let (bearer, dpop) = (of("Bearer "), of("DPoP "));
    assert!(bearer == 1 && bearer + dpop == lines.len() && dpop <= 1, "{lines:?} with {}", answer.text());
    lines.into_iter().find(|line| line.starts_with("Bearer ")).expect("a line for Bearer").to_owned()
}

#[track_caller]
fn reason_of(answer: &Answer) -> String {
    answer.json()["reason"].as_str().unwrap_or_else(|| panic!("no reason in {}", answer.text())).to_owned()
}

#[track_caller]
fn is_invalid_token(answer: &Answer, reason: &str) {
    assert_eq!(answer.status, 401, "expected {reason}: {}", answer.text());
    assert_eq!(reason_of(answer), reason, "{}", answer.text());
    assert_eq!(answer.json()["error"], "invalid_token", "{reason}");
    let challenge = challenge(answer);
    assert!(challenge.starts_with("Bearer realm=\"doorward\", error=\"invalid_token\", error_description=\""), "{challenge}");
    assert!(challenge.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && byte != b'\\'), "{challenge}");
    assert!(answer.set_cookies().is_empty(), "{reason}");
}

#[track_caller]
fn is_invalid_request(answer: &Answer, reason: &str) {
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(reason_of(answer), reason);
    assert_eq!(answer.json()["error"], "invalid_request");
    assert!(challenge(answer).starts_with("Bearer realm=\"doorward\", error=\"invalid_request\""), "{}", challenge(answer));
}

#[track_caller]
fn has_no_credential(answer: &Answer) {
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(reason_of(answer), "no-credential");
    // RFC 6750 §3.1: no error code for a request that shows no authentication information.
    let challenge = challenge(answer);
    assert!(challenge.starts_with("Bearer realm=\"doorward\", resource_metadata=\"http") && !challenge.contains("error"), "{challenge}");
}

#[track_caller]
fn is_outage(answer: &Answer, reason: &str) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(reason_of(answer), reason);
    assert!(answer.header("retry-after").is_some());
    assert!(answer.set_cookies().is_empty() && answer.location().is_none() && answer.header("www-authenticate").is_none());
}

/// Who signed in at B, with the browser's cookies; and the ID token that B gave for it.
async fn signed_in(world: &World) -> (Browser, String) {
    let mut browser = Browser::new();
    let page = browser.get(&world.url("people")).await;
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let id_token = world.b.secrets().into_iter().rfind(|(kind, _)| *kind == "id_token").expect("an ID token was issued").1;
    world.upstream.reset();
    (browser, id_token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_is_let_in_whatever_the_case_of_its_scheme() {
    let world = World::start();
    let token = world.a.access_token(json!({ "aud": "api", "email": "p@x.test", "email_verified": true, "groups": ["g"] }), AT_JWT);
    world.taken("api", &token).await;
    let seen = world.upstream.last();
    assert_eq!(seen.header("x-forwarded-user").as_deref(), Some("program"));
    assert_eq!(seen.header("x-forwarded-email").as_deref(), Some("p@x.test"));
    assert_eq!(seen.header("x-forwarded-groups").as_deref(), Some("g"));
    for scheme in ["bearer", "BEARER", "bEaReR", "Bearer  "] {
        let answer = fetch(authorized(&world.url("api"), &format!("{scheme} {token}"))).await;
        assert_eq!(answer.status, 200, "{scheme}: {}", answer.text());
        assert_eq!(world.upstream.last().header("authorization"), None, "{scheme}");
    }
    for typ in ["AT+JWT", "application/at+jwt"] {
        world.taken("api", &world.a.access_token(json!({ "aud": ["x", "other-name"] }), typ)).await;
    }
    world.taken("api", &world.b.access_token(json!({ "aud": "api" }), "")).await;
    world.taken("api", &world.b.access_token(json!({ "aud": "api" }), "JWT")).await;
    let line = world.gateway.access_line("credential=bearer").await;
    assert!(line.contains("reason=allowed") && line.contains("user=program") && !line.contains(&token), "{line}");
    assert!(!world.gateway.access_lines().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_challenge_names_no_error() {
    let world = World::start();
    let token = world.a.access_token(json!({ "aud": "api" }), AT_JWT);
    has_no_credential(&fetch(get(&world.url("api"))).await);
    // In the query, in a form, in Basic, in a second scheme, in a cookie: not a credential.
    has_no_credential(&fetch(get(&format!("{}?access_token={token}", world.url("api")))).await);
    let form = Request::post(world.url("api")).header("content-type", "application/x-www-form-urlencoded");
    has_no_credential(&fetch(form.body(full(format!("access_token={token}"))).expect("a request")).await);
    for hidden in [format!("Basic {token}"), format!("Basic x, Bearer {token}"), format!("Bearerx {token}")] {
        has_no_credential(&fetch(authorized(&world.url("api"), &hidden)).await);
    }
    for name in ["cookie", "proxy-authorization", "x-authorization", "x-forwarded-access-token"] {
        let hidden = Request::get(world.url("api")).header(name, format!("Bearer {token}")).body(empty()).expect("a request");
        has_no_credential(&fetch(hidden).await);
    }
    assert_eq!(world.upstream.count(), 0);
    let line = world.gateway.access_line("reason=no-credential").await;
    assert!(!line.contains("access_token"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_read_is_an_invalid_request() {
    let world = World::start();
    let (browser, _) = signed_in(&world).await;
    let token = world.a.access_token(json!({ "aud": "api" }), AT_JWT);
    let long = "a".repeat(17 << 10);
    let cookies = browser.cookie_header(&world.url("mixed"));
    for value in [
        "Bearer".to_owned(),
        format!("Bearer {token} {token}"),
        format!("Bearer {token}, Basic x"),
        format!("Bearer \"{token}\""),
        format!("Bearer\t{token}"),
        format!("Bearer={token}"),
        format!("Bearer,{token}"),
        format!("Bearer/{token}"),
        format!("Bearer {token}%20"),
        format!("Bearer {long}"),
        "Bearer ===".to_owned(),
    ] {
        for path in ["api", "mixed"] {
            // A good session beside it changes nothing.
            let shown = Request::get(world.url(path)).header("authorization", &value).header("cookie", &cookies);
            is_invalid_request(&fetch(shown.body(empty()).expect("a request")).await, "authorization-malformed");
        }
    }
    let other = world.b.access_token(json!({ "aud": "api" }), "");
    for (protocol, path) in [(Protocol::Http1, "api"), (Protocol::Http2, "api"), (Protocol::Http1, "people")] {
        let two = Request::get(world.url(path))
            .header("authorization", format!("Bearer {token}"))
            .header("authorization", format!("Bearer {other}"));
        let answer = HttpClient::new().speaking(protocol).fetch(two.body(empty()).expect("a request")).await;
        is_invalid_request(&answer, "authorization-repeated");
    }
    // The same line twice is two lines, and one of them may be spelled otherwise.
    let lines = [format!("Authorization: Bearer {token}"), format!("AUTHORIZATION: Bearer {token}")];
    let host = world.gateway.address.to_string();
    let answer = raw_answer(world.gateway.address, request("GET", "/api", &host, &[&lines[0], &lines[1]])).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_token_is_refused_for_its_own_reason() {
    let world = World::start();
    let now = (world.gateway.now())();
    let (_, id_token) = signed_in(&world).await;
    let a = |claims: Value, typ: &str| {
        let mut all = json!({ "aud": "api" });
        claims.as_object().expect("claims").iter().for_each(|(name, value)| all[name] = value.clone());
        world.a.access_token(all, typ)
    };
    let lying = |lie: Lie| {
        world.a.set(lie);
        let token = a(json!({}), AT_JWT);
        world.a.set(Lie::None);
        token
    };
    let by_b = |header: Value| world.b.sign(header, json!({ "iss": world.a.issuer(), "aud": "api" }));
    let a_kid = world.a.jwks()["keys"][0]["kid"].clone();
    let past = json!({ "iat": now - 7200, "exp": now - 120 });
    for (token, reason) in [
        ("abc".to_owned(), "token-malformed"),
        ("a.b.c".to_owned(), "token-malformed"),
        (format!("{}.x", a(json!({}), AT_JWT)), "token-malformed"),
        (a(past, AT_JWT), "token-expired"),
        (a(json!({ "nbf": now + 600 }), AT_JWT), "token-not-yet-valid"),
        (a(json!({ "iat": now + 600, "exp": now + 900 }), AT_JWT), "token-not-yet-valid"),
        (a(json!({ "aud": "somebody-else" }), AT_JWT), "token-audience"),
        (a(json!({ "aud": ["x", "apis", "API"] }), AT_JWT), "token-audience"),
        (a(json!({ "aud": null }), AT_JWT), "token-claims"),
        (a(json!({ "exp": null }), AT_JWT), "token-claims"),
        (a(json!({ "exp": "4102444800" }), AT_JWT), "token-claims"),
        (a(json!({ "iat": null }), AT_JWT), "token-claims"),
        (a(json!({ "jti": null }), AT_JWT), "token-claims"),
        (a(json!({ "client_id": null }), AT_JWT), "token-claims"),
        (a(json!({ "sub": null }), AT_JWT), "token-claims"),
        (a(json!({ "sub": "" }), AT_JWT), "token-claims"),
        (a(json!({ "iss": "https://nobody.test" }), AT_JWT), "token-issuer-unknown"),
        (a(json!({ "iss": format!("{}/", world.a.issuer()) }), AT_JWT), "token-issuer-unknown"),
        (a(json!({ "iss": null }), AT_JWT), "token-malformed"),
        (a(json!({}), "JWT"), "token-type"),
        (a(json!({}), ""), "token-type"),
        (a(json!({}), "logout+jwt"), "token-type"),
        (world.b.access_token(json!({ "aud": "api" }), "logout+jwt"), "token-type"),
        (world.b.access_token(json!({ "aud": "api" }), "dpop+jwt"), "token-type"),
        (a(json!({ "cnf": { "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" } }), AT_JWT), "token-bound"),
        (a(json!({ "cnf": {} }), AT_JWT), "token-bound"),
        (lying(Lie::BadSignature), "token-signature"),
        (lying(Lie::OtherKeySameKid), "token-signature"),
        (lying(Lie::AlgNone), "token-algorithm"),
        (lying(Lie::Hs256WithPublicKey), "token-algorithm"),
        (lying(Lie::Hs256WithClientSecret), "token-algorithm"),
        (lying(Lie::UnknownCrit), "token-critical"),
        // Signed by B in A's name.
        (by_b(json!({ "typ": AT_JWT, "kid": a_kid })), "token-signature"),
        (by_b(json!({ "typ": AT_JWT })), "token-key-unknown"),
        (lying(Lie::UnknownKid), "token-key-unknown"),
        (lying(Lie::EcKeyForRsaAlg), "token-key-unknown"),
        // A key that the token brings itself is never looked at.
        (
            world.b.sign(
                json!({ "typ": AT_JWT, "kid": null, "jwk": world.b.jwks()["keys"][0] }),
                json!({ "iss": world.a.issuer(), "aud": "api" }),
            ),
            "token-signature",
        ),
        // B's ID token: for its own audience, and with an audience that would do.
        (id_token, "token-is-id-token"),
        (world.b.access_token(json!({ "aud": ["api", world.b.client_id()] }), ""), "token-is-id-token"),
        (world.b.access_token(json!({ "aud": "api", "nonce": "n" }), ""), "token-is-id-token"),
        (world.b.access_token(json!({ "aud": "api", "at_hash": "h" }), "JWT"), "token-is-id-token"),
        (a(json!({ "nonce": "n", "at_hash": "h" }), ""), "token-type"),
    ] {
        world.refused("api", &token, reason).await;
    }
    // What lies within the leeway counts.
    for times in [json!({ "exp": now - 20, "iat": now - 400 }), json!({ "nbf": now + 20 }), json!({ "iat": now + 20 })] {
        world.taken("api", &a(times, AT_JWT)).await;
    }
    let token = a(json!({}), AT_JWT);
    world.gateway.advance(Duration::from_secs(6 * 60));
    world.refused("api", &token, "token-expired").await;
    assert_eq!(world.gateway.metric("doorward_requests_total{route=\"api\",reason=\"token-expired\"}").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_never_falls_back_to_a_good_session() {
    let world = World::start();
    let (browser, _) = signed_in(&world).await;
    let cookies = browser.cookie_header(&world.url("mixed"));
    let show = |value: Option<&str>| {
        let mut shown = Request::get(world.url("mixed")).header("cookie", &cookies);
        if let Some(value) = value {
            shown = shown.header("authorization", value);
        }
        shown.body(empty()).expect("a request")
    };
    is_invalid_token(&fetch(show(Some("Bearer abc"))).await, "token-malformed");
    let foreign = world.a.access_token(json!({ "aud": "somebody-else" }), AT_JWT);
    is_invalid_token(&fetch(show(Some(&format!("Bearer {foreign}")))).await, "token-audience");
    // A person who navigates is not sent to a login either.
    let navigation = Request::get(world.url("mixed")).header("authorization", "Bearer abc").header("accept", "text/html");
    let answer =
        fetch(navigation.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document").body(empty()).expect("a request")).await;
    assert_eq!((answer.status.as_u16(), answer.location()), (401, None));
    assert_eq!(world.upstream.count(), 0);
    // The session was good all along, and a token beside it is who it says, not who the cookie says.
    assert_eq!(fetch(show(None)).await.status, 200);
    assert_eq!(world.upstream.last().header("x-forwarded-user").as_deref(), Some("alice"));
    let token = world.a.access_token(json!({ "aud": "api" }), AT_JWT);
    assert_eq!(fetch(show(Some(&format!("Bearer {token}")))).await.status, 200);
    let seen = world.upstream.last();
    assert_eq!(seen.header("x-forwarded-user").as_deref(), Some("program"));
    assert_eq!((seen.header("cookie"), seen.header("authorization")), (None, None), "{}", seen.everything());
    // Where only sessions count, a token is the app's own business.
    let app = Request::get(world.url("people")).header("cookie", &cookies).header("authorization", "Bearer of-the-app");
    assert_eq!(fetch(app.body(empty()).expect("a request")).await.status, 200);
    assert_eq!(world.upstream.last().header("authorization").as_deref(), Some("Bearer of-the-app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_is_403_and_named() {
    let world = World::start();
    let with = |claims: Value| {
        let mut all = json!({ "aud": "api" });
        claims.as_object().expect("claims").iter().for_each(|(name, value)| all[name] = value.clone());
        world.a.access_token(all, AT_JWT)
    };
    for claims in [
        json!({}),
        json!({ "scope": "orders:read" }),
        json!({ "scope": "orders:read orders:write:all ORDERS:WRITE" }),
        json!({ "scope": 7 }),
    ] {
        let answer = world.with_token("scoped", &with(claims)).await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer)), (403, "insufficient-scope".to_owned()), "{}", answer.text());
        assert_eq!(answer.json()["error"], "insufficient_scope");
        let challenge = challenge(&answer);
        assert!(challenge.starts_with("Bearer realm=\"doorward\", error=\"insufficient_scope\""), "{challenge}");
        assert!(challenge.contains(", scope=\"orders:read orders:write\", resource_metadata=\""), "{challenge}");
    }
    assert_eq!(world.upstream.count(), 0);
    world.taken("scoped", &with(json!({ "scope": "orders:write x orders:read" }))).await;
    world.taken("scoped", &with(json!({ "scp": ["orders:write", "orders:read"] }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_of_one_issuer_is_not_the_admin_of_another() {
    let world = World::start();
    let admin = json!({ "aud": "api", "groups": ["admin"], "roles": ["admin"] });
    let of_a = world.a.access_token(admin.clone(), AT_JWT);
    let of_b = world.b.access_token(admin, "");
    world.taken("admin", &of_a).await;
    world.taken("admin-of-a", &of_a).await;
    world.upstream.reset();
    let nobody = world.a.access_token(json!({ "aud": "api", "groups": ["administrators", "admin "] }), AT_JWT);
    for (path, token, reason) in [
        ("admin", &of_b, "not-allowed"),
        ("admin-of-a", &of_b, "wrong-provider"),
        ("people-of-a", &of_b, "wrong-provider"),
        ("admin", &nobody, "not-allowed"),
        ("admin-of-a", &nobody, "not-allowed"),
    ] {
        let answer = world.with_token(path, token).await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (403, reason), "{path}");
    }
    assert_eq!(world.upstream.count(), 0);
    // Nor do B's groups show up as if they counted.
    world.taken("api", &of_b).await;
    assert_eq!(world.upstream.last().header("x-forwarded-groups"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routes_audience_stands_in_place_of_the_issuers() {
    let world = World::start();
    let meant_for = |audience: Value| world.a.access_token(json!({ "aud": audience }), AT_JWT);
    world.refused("orders", &meant_for(json!("api")), "token-audience").await;
    world.refused("orders", &meant_for(json!(["api", "orders-v3"])), "token-audience").await;
    world.refused("api", &meant_for(json!("orders")), "token-audience").await;
    assert_eq!(world.upstream.count(), 0);
    world.taken("orders", &meant_for(json!("orders"))).await;
    world.taken("orders", &meant_for(json!(["x", "orders-v2"]))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_unknown_keys_costs_the_issuer_one_fetch_a_minute() {
    let world = World::start();
    let good = world.a.access_token(json!({ "aud": "api" }), AT_JWT);
    world.taken("api", &good).await;
    assert_eq!(world.a.count(Endpoint::Jwks), 1);
    world.upstream.reset();
    // Others meanwhile: tokens that are known, tokens of the same issuer that are seen for the first time, and the other issuer's.
    let fresh = (0..2_000).map(|number| match number % 3 {
        0 => good.clone(),
        1 => world.a.access_token(json!({ "aud": "api" }), AT_JWT),
        _ => world.b.access_token(json!({ "aud": "api" }), ""),
    });
    let (fresh, url) = (fresh.collect::<Vec<_>>(), world.url("api"));
    let (over, mut is_over) = tokio::sync::watch::channel(false);
    let others = tokio::spawn(async move {
        let mut connection = HttpClient::new().connect(&url.parse().expect("a URL")).await.expect("a connection");
        let mut served = 0;
        for token in fresh.iter().cycle() {
            let answer = connection.fetch(authorized(&url, &format!("Bearer {token}"))).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            served += 1;
            if *is_over.borrow_and_update() {
                break;
            }
        }
        served
    });
    let began = std::time::Instant::now();
    let now = (world.gateway.now())();
    let claims = json!({ "iss": world.a.issuer(), "aud": "api", "sub": "x", "exp": now + 300 }).to_string();
    let storm = (0..8).map(|part| {
        let (url, claims) = (world.url("api"), base64url(claims.as_bytes()));
        tokio::spawn(async move {
            let mut connection = HttpClient::new().connect(&url.parse().expect("a URL")).await.expect("a connection");
            for n in 0..1250 {
                let header = json!({ "alg": "RS256", "typ": AT_JWT, "kid": format!("forged-{part}-{n}") }).to_string();
                let token = format!("{}.{claims}.{}", base64url(header.as_bytes()), base64url(&[7; 256]));
                let answer = connection.fetch(authorized(&url, &format!("Bearer {token}"))).await;
                is_invalid_token(&answer, "token-key-unknown");
            }
        })
    });
    for part in storm.collect::<Vec<_>>() {
        part.await.expect("all were refused");
    }
    over.send(true).expect("others are served still");
    let served = others.await.expect("all others were let in");
    assert!(served > 100, "only {served} others were served");
    // One in all, unless this machine took longer than a minute for the storm.
    let minutes = usize::try_from(began.elapsed().as_secs() / 60).expect("a number");
    let fetched = world.a.count(Endpoint::Jwks);
    assert!(fetched >= 2 && fetched <= 2 + minutes, "{fetched} fetches in {:?}", began.elapsed());
    assert_eq!(world.upstream.count(), served);
    world.taken("api", &good).await;
    // A rotation meanwhile is seen a minute later at the latest.
    world.a.rotate_keys();
    let rotated = world.a.access_token(json!({ "aud": "api" }), AT_JWT);
    if minutes == 0 {
        world.refused("api", &rotated, "token-key-unknown").await;
    }
    world.gateway.advance(Duration::from_secs(61));
    world.taken("api", &rotated).await;
    assert_eq!(world.a.count(Endpoint::Jwks), fetched + 1);
    assert_eq!(
        world.gateway.metric("doorward_requests_total{route=\"api\",reason=\"token-key-unknown\"}").await,
        10_000 + u64::from(minutes == 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_keys_are_fetched_when_a_token_names_them() {
    let world = World::start();
    let before = world.a.access_token(json!({ "aud": "api" }), AT_JWT);
    world.taken("api", &before).await;
    world.a.rotate_keys();
    let after = world.a.access_token(json!({ "aud": "api" }), AT_JWT);
    world.taken("api", &after).await;
    world.taken("api", &before).await;
    assert_eq!(world.a.count(Endpoint::Jwks), 2);
    // A key that was withdrawn stops counting when the keys are looked at again.
    world.a.forget_former_keys();
    world.gateway.advance(Duration::from_secs(2 * 60 * 60));
    let times = |now: u64| json!({ "aud": "api", "iat": now, "exp": now + 300 });
    world.taken("api", &world.a.access_token(times((world.gateway.now())()), AT_JWT)).await;
    assert_eq!(world.a.count(Endpoint::Jwks), 3);
    world.refused("api", &before, "token-key-unknown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_down_is_an_outage_and_its_known_keys_go_on_counting() {
    let world = World::start();
    let good = world.a.access_token(json!({ "aud": "api" }), AT_JWT);
    world.a.stop().await;
    is_outage(&world.with_token("api", &good).await, "keys-unreachable");
    is_outage(&world.with_token("mixed", &good).await, "keys-unreachable");
    // The other issuer's tokens are none of its business, and nonsense is still told apart.
    world.taken("api", &world.b.access_token(json!({ "aud": "api" }), "")).await;
    world.refused("api", "abc", "token-malformed").await;
    assert_eq!(world.upstream.count(), 1);
    world.a.start_again();
    world.gateway.advance(Duration::from_secs(6));
    world.taken("api", &good).await;
    let before = world.upstream.count();

    world.a.stop().await;
    world.taken("api", &good).await;
    world.a.rotate_keys();
    let times = |now: u64| json!({ "aud": "api", "iat": now, "exp": now + 300 });
    let rotated = world.a.access_token(times((world.gateway.now())()), AT_JWT);
    is_outage(&world.with_token("api", &rotated).await, "keys-unreachable");
    assert_eq!(world.upstream.count(), before + 1);
    world.a.start_again();
    world.gateway.advance(Duration::from_secs(61));
    world.taken("api", &rotated).await;
    assert!(world.gateway.metric("doorward_dependency_errors_total{dependency=\"keys\"}").await >= 3);
    let series = format!("doorward_provider_seconds_count{{provider=\"{}\",call=\"keys\"}}", world.a.issuer());
    assert!(world.gateway.metric(&series).await >= 2, "{}", world.gateway.metrics().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_were_there_before_an_outage_count_a_day_later() {
    let world = World::start();
    let times = |now: u64| json!({ "aud": "api", "iat": now, "exp": now + 300 });
    let tomorrow = (world.gateway.now())() + 24 * 60 * 60;
    let later = world.a.access_token(times(tomorrow), AT_JWT);
    world.taken("api", &world.a.access_token(times(tomorrow - 24 * 60 * 60), AT_JWT)).await;
    world.a.stop().await;
    world.gateway.advance(Duration::from_secs(24 * 60 * 60));
    world.taken("api", &later).await;
    world.taken("api", &later).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_answers_badly_is_an_outage() {
    let world = World::with("limits.provider_timeout = \"3s\"");
    let good = world.a.access_token(json!({ "aud": "api" }), AT_JWT);
    for lie in [
        Lie::Status(Endpoint::Jwks, 500),
        Lie::NotJson(Endpoint::Jwks),
        Lie::Closes(Endpoint::Jwks),
        Lie::HugeAnswer(Endpoint::Jwks),
        Lie::EndlessAnswer(Endpoint::Jwks),
        Lie::DrippingAnswer(Endpoint::Jwks),
        Lie::NotJson(Endpoint::Discovery),
        Lie::DiscoveryIssuerMismatch,
    ] {
        world.a.set(lie.clone());
        let answer = world.with_token("api", &good).await;
        assert_eq!(answer.status, 503, "{lie:?}: {}", answer.text());
        is_outage(&answer, "keys-unreachable");
        world.gateway.advance(Duration::from_secs(6));
    }
    assert_eq!(world.upstream.count(), 0);
    // Now and again with an answer that can be used; the token is young enough still.
    world.a.set(Lie::None);
    world.taken("api", &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_unknown_types_are_skipped() {
    let world = World::start();
    world.a.set(Lie::UnknownKeyTypesInJwks);
    world.taken("api", &world.a.access_token(json!({ "aud": "api" }), AT_JWT)).await;
    let without_kid = |issuer: &HostileProvider, typ: &str| issuer.sign(json!({ "typ": typ, "kid": null }), json!({ "aud": "api" }));
    world.taken("api", &without_kid(&world.a, AT_JWT)).await;
    // Two keys that would fit, and nothing says which: neither.
    world.b.set(Lie::KidAbsentSeveralKeys);
    world.refused("api", &without_kid(&world.b, "JWT"), "token-key-unknown").await;
    // No usable key at all: the token's key is not there.
    let world = World::start();
    world.a.set(Lie::JwksEmpty);
    world.refused("api", &world.a.access_token(json!({ "aud": "api" }), AT_JWT), "token-key-unknown").await;
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn userinfo_tells_a_program_who_it_is() {
    let world = World::start();
    let token = world.a.access_token(json!({ "aud": "api", "groups": ["g"] }), AT_JWT);
    let answer = world.with_token("oauth2/userinfo", &token).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((&answer.json()["sub"], &answer.json()["groups"]), (&json!("program"), &json!(["g"])));
    is_invalid_token(&world.with_token("oauth2/userinfo", "abc").await, "token-malformed");
    is_invalid_request(&fetch(authorized(&world.url("oauth2/userinfo"), "Bearer")).await, "authorization-malformed");
    // The provider left them out: that is not the same as none.
    let overage = world.a.access_token(json!({ "aud": "api", "hasgroups": true }), AT_JWT);
    assert_eq!(world.with_token("oauth2/userinfo", &overage).await.json()["groups"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_providers_tokens_for_programs_are_taken() {
    let robot = json!({
        "client_id": "robot", "client_secret": "robot-secret-0123456789-robot-secret", "redirect_uris": [], "response_types": [],
        "grant_types": ["client_credentials"],
    });
    let resources = json!({
        "urn:orders": { "audience": "orders", "scope": "orders:read orders:write", "format": "jwt", "ttl": 60 },
        "urn:opaque": { "audience": "orders", "scope": "orders:read", "format": "opaque", "ttl": 60 },
    });
    let mut issuer =
        OidcProviderBuilder::new("http://127.0.0.1:1/oauth2/callback").add_client(robot).set("resources", resources).start().await;
    let upstream = EchoUpstream::start();
    let route = |path: &str, allow: &str| {
        format!(
            "[[route]]\nid = \"{path}\"\npath = \"/{path}\"\nupstream = \"{}\"\naccept = [\"bearer\"]\nallow = {allow}\n",
            upstream.url()
        )
    };
    // People sign in there too: a provider that issues tokens as well.
    let gateway = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\n{}[[token_issuer]]\nissuer = \"{}\"\naudience = \"orders\"\n{}{}",
        provider(issuer.issuer(), CLIENT_ID, CLIENT_SECRET),
        issuer.issuer(),
        route("read", "{ scopes = [\"orders:read\"] }"),
        route("write", "{ scopes = [\"orders:write\"] }")
    ));
    let token = async |issuer: &str, resource: &str| {
        let form = format!("grant_type=client_credentials&resource={resource}&scope=orders:read");
        let request = Request::post(format!("{issuer}/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Basic {}", basic("robot:robot-secret-0123456789-robot-secret")));
        let answer = fetch(request.body(full(form)).expect("a request")).await;
        answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("no token: {}", answer.text())).to_owned()
    };
    let show = async |path: &str, token: &str| fetch(authorized(&format!("{}/{path}", gateway.url), &format!("Bearer {token}"))).await;

    let first = token(issuer.issuer(), "urn:orders").await;
    assert_eq!(show("read", &first).await.status, 200, "{}", gateway.access_lines());
    assert_eq!(upstream.last().header("x-forwarded-user").as_deref(), Some("robot"));
    let denied = show("write", &first).await;
    assert_eq!((denied.status.as_u16(), reason_of(&denied).as_str()), (403, "insufficient-scope"));
    is_invalid_token(&show("read", &token(issuer.issuer(), "urn:opaque").await).await, "token-malformed");
    assert_eq!(upstream.count(), 1);

    // Down: what is known goes on. Back with new keys: the new token is taken, the old one not any more.
    issuer.stop();
    assert_eq!(show("read", &first).await.status, 200);
    issuer.start_again().await;
    let second = token(issuer.issuer(), "urn:orders").await;
    assert_eq!(show("read", &second).await.status, 200, "{}", gateway.access_lines());
    is_invalid_token(&show("read", &first).await, "token-key-unknown");
    assert_eq!(upstream.count(), 3);
}

fn basic(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
