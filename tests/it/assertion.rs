//! The assertion: an upstream that checks it by the published keys learns who somebody is; another's, a forged one and an old key's are
//! nothing to it. The keys are a file's, or those that the gateways of one store make and share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::answer::Answer;
use crate::harness::body::empty;
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::hostile::{HostileBuilder, HostileProvider};
use crate::harness::http::{HttpClient, fetch, get};
use crate::harness::jose::{self, from_base64url, random};
use crate::harness::pair::{Pair, Side};
use crate::harness::redis::Redis;
use crate::harness::scene::{Scene, reason};
use crate::harness::temp::TempDir;
use crate::harness::twins::Twins;
use crate::harness::upstream::{EchoUpstream, SeenRequest};
use crate::harness::wait::{PATIENCE, unix_now};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const ROUTES: &str = "
[[route]]
id = \"orders\"
path = \"/orders/\"
accept = [\"session\", \"bearer\"]
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
assertion = true
assertion_claims = [\"email\", \"groups\", \"tenant.id\"]
[[route]]
id = \"billing\"
path = \"/billing/\"
accept = [\"session\", \"bearer\"]
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
assertion = true
assertion_audience = \"https://billing.internal\"
[[route]]
path = \"/plain/\"
accept = [\"session\", \"bearer\"]
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
[[route]]
id = \"optional\"
path = \"/optional/\"
access = \"optional\"
accept = [\"session\", \"bearer\"]
upstream = \"@UPSTREAM@\"
assertion = true
[[route]]
path = \"/public/\"
access = \"public\"
upstream = \"@UPSTREAM@\"
";

/// Every assertion that the upstream got, in whatever spelling.
fn told(seen: &SeenRequest) -> Vec<String> {
    let spelled = |name: &str| name.to_ascii_lowercase().replace('_', "-") == "doorward-assertion";
    seen.headers.iter().filter(|(name, _)| spelled(name)).map(|(_, value)| value.to_str().unwrap().to_owned()).collect()
}

/// The one that it got, checked by these keys as an upstream would: header and claims.
fn checked(seen: &SeenRequest, keys: &Value) -> (Value, Value) {
    let told = told(seen);
    assert_eq!(told.len(), 1, "{told:?}");
    jose::verify(&told[0], keys).unwrap_or_else(|error| panic!("{error}: {}", told[0]))
}

async fn keys(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/jwk-set+json"));
    answer.json()
}

fn names(keys: &Value) -> Vec<String> {
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_checks_the_assertion_learns_who_it_is() {
    let scene = Scene::start("", ROUTES);
    let published = scene.get("/oauth2/jwks", &[]).await;
    assert_eq!(published.header("cache-control"), Some("public, max-age=600"));
    let published = keys(published).await;
    let [key] = published["keys"].as_array().unwrap().as_slice() else { panic!("one key: {published}") };
    let members: Vec<&String> = key.as_object().unwrap().keys().collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"], "nothing private");

    // Somebody who signed in.
    let cookie = scene.session().await;
    scene.get("/orders/1", &[("Cookie", &cookie)]).await;
    let (header, claims) = checked(&scene.upstream.last(), &published);
    assert_eq!((header["typ"].as_str(), header["alg"].as_str()), (Some("doorward-assertion+jwt"), Some("ES256")));
    assert_eq!(claims["iss"], scene.provider.issuer());
    assert_eq!((claims["aud"].as_str(), claims["email"].as_str()), (Some("orders"), Some("alice@example.test")));
    assert_eq!(claims["groups"], json!(["staff", "users"]));
    assert_eq!(claims["gateway"], scene.gateway.url);
    let user = scene.upstream.last().header("x-forwarded-user").unwrap();
    assert_eq!(claims["sub"], user);
    let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!(exp - iat == 300 && iat <= unix_now() && unix_now() - iat < 60);
    assert!(claims["jti"].as_str().unwrap().len() >= 22);
    // The next request brings the same one; a minute later it is a new one.
    let first = told(&scene.upstream.last());
    scene.get("/orders/2", &[("Cookie", &cookie)]).await;
    assert_eq!(told(&scene.upstream.last()), first);
    scene.gateway.advance(Duration::from_secs(61));
    scene.get("/orders/3", &[("Cookie", &cookie)]).await;
    let (_, later) = checked(&scene.upstream.last(), &published);
    assert_ne!(later["jti"], claims["jti"]);

    // A program.
    let bearer = format!("Bearer {}", scene.token(json!({ "groups": ["robots"], "tenant": { "id": "blue", "plan": "gold" } })));
    scene.get("/orders/1", &[("Authorization", &bearer)]).await;
    let (_, claims) = checked(&scene.upstream.last(), &published);
    assert_eq!((claims["sub"].as_str(), &claims["tenant"]), (Some("program"), &json!({ "id": "blue" })));
    assert_eq!(claims["groups"], json!(["robots"]));
    // Another route's is for another.
    scene.get("/billing/1", &[("Authorization", &bearer)]).await;
    let (_, claims) = checked(&scene.upstream.last(), &published);
    assert_eq!((claims["aud"].as_str(), claims.get("tenant")), (Some("https://billing.internal"), None));
    scene.get("/optional/1", &[("Authorization", &bearer)]).await;
    assert_eq!(checked(&scene.upstream.last(), &published).1["aud"], "optional");
    // One bit of it changed, or the key of another gateway, is nothing.
    let sound = told(&scene.upstream.last()).remove(0);
    assert!(jose::verify(&jose::with_broken_signature(&sound), &published).is_err());
    let other = Scene::start("", ROUTES);
    assert!(jose::verify(&sound, &keys(other.get("/oauth2/jwks", &[]).await).await).is_err());
    // It is no credential of ours either.
    scene.upstream.reset();
    let shown = scene.get("/orders/1", &[("Authorization", &format!("Bearer {sound}"))]).await;
    assert_eq!((shown.status.as_u16(), scene.upstream.count()), (401, 0), "{}", shown.text());
    assert!(matches!(reason(&shown).as_str(), "token-type" | "token-audience" | "token-algorithm"), "{}", shown.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_downstream_sends_under_that_name_never_arrives() {
    let forged = ["Doorward-Assertion", "doorward_assertion", "DOORWARD-ASSERTION", "Doorward_Assertion"].map(|name| (name, "forged"));
    for underscores in ["drop", "pass"] {
        let scene = Scene::start(&format!("underscore_names = \"{underscores}\"\n"), ROUTES);
        let published = keys(scene.get("/oauth2/jwks", &[]).await).await;
        let bearer = format!("Bearer {}", scene.token(json!({})));
        let token = ("Authorization", bearer.as_str());
        for (path, as_whom) in [
            ("/orders/1", true),
            ("/optional/1", true),
            ("/optional/1", false),
            ("/plain/1", true),
            ("/public/1", true),
            ("/public/1", false),
        ] {
            let headers: Vec<(&str, &str)> = forged.into_iter().chain(as_whom.then_some(token)).collect();
            assert_eq!(scene.get(path, &headers).await.status, 200, "{path}");
            let seen = scene.upstream.last();
            assert!(!seen.everything().contains("forged"), "{path}: {}", seen.everything());
            if as_whom && (path == "/orders/1" || path == "/optional/1") {
                assert_eq!(checked(&seen, &published).1["sub"], "program");
            } else {
                assert_eq!(told(&seen), Vec::<String>::new(), "{path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_forward_auth_bring_it_as_well() {
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", ROUTES);
    let published = keys(scene.get("/oauth2/jwks", &[]).await).await;
    let (cookie, host) = (scene.session().await, scene.host());
    let ask = async |uri: &str, more: &[(&str, &str)]| {
        let about = [("x-original-method", "GET"), ("x-original-uri", uri), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
        scene.get("/oauth2/auth", &about.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()).await
    };
    let answer = ask("/orders/1", &[("Cookie", &cookie), ("Doorward-Assertion", "forged")]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header_all("doorward-assertion").len(), 1);
    let (_, claims) = jose::verify(answer.header("doorward-assertion").unwrap(), &published).unwrap();
    assert_eq!((claims["aud"].as_str(), claims["email"].as_str()), (Some("orders"), Some("alice@example.test")));
    for (uri, cookies) in [("/plain/1", vec![("Cookie", cookie.as_str())]), ("/optional/1", vec![]), ("/public/1", vec![])] {
        let answer = ask(uri, &cookies).await;
        assert_eq!((answer.status.as_u16(), answer.header("doorward-assertion")), (200, None), "{uri}");
    }
    assert_eq!(ask("/orders/1", &[]).await.header("doorward-assertion"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_route_that_sends_it_there_are_no_keys() {
    let scene = Scene::start("", crate::harness::scene::PUBLIC);
    let answer = scene.get("/oauth2/jwks", &[]).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (404, "endpoint-unknown"));
    let scene = Scene::start("", ROUTES);
    let answer = scene.send(crate::harness::http::Protocol::Http1, "POST", "/oauth2/jwks", &[]).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (405, "method-not-allowed"));
}

/// A provider whose tokens count, an upstream, and gateways that come and go.
struct House {
    provider: HostileProvider,
    upstream: EchoUpstream,
    shared: TempDir,
}

impl House {
    fn new() -> Self {
        Self { provider: HostileProvider::start(), upstream: EchoUpstream::start(), shared: TempDir::new("assertion") }
    }

    /// Without `public_url`, `[store]` and `[keys]`.
    fn tables(&self) -> String {
        let issuer = self.provider.issuer();
        let sign_in = provider(&issuer, self.provider.client_id(), self.provider.client_secret());
        let tokens = format!("[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"api\"\n");
        format!("{sign_in}{tokens}{}", ROUTES.replace("@UPSTREAM@", &self.upstream.url()))
    }

    fn config(&self, store: &str, keys: &str) -> String {
        format!("{TOP}{}[store]\n{store}\n[keys]\n{keys}\n", self.tables())
    }

    fn request(&self, url: &str) -> Request<crate::harness::body::TestBody> {
        let token = self.provider.access_token(json!({ "aud": "api" }), "at+jwt");
        Request::get(url).header("authorization", format!("Bearer {token}")).body(empty()).unwrap()
    }

    /// What the upstream gets from this gateway, checked by these keys; the key's name.
    async fn signed(&self, gateway: &Gateway, keys: &Value) -> String {
        let answer = fetch(self.request(&format!("{}/orders/1", gateway.url))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        checked(&self.upstream.last(), keys).0["kid"].as_str().unwrap().to_owned()
    }

    async fn keys(&self, gateway: &Gateway) -> Value {
        keys(fetch(get(&format!("{}/oauth2/jwks", gateway.url))).await).await
    }
}

fn seal_key() -> String {
    STANDARD.encode(from_base64url(&random()))
}

fn openssl(arguments: &[&str]) -> String {
    let made = Command::new("openssl").args(arguments).output().expect("openssl makes the keys of this test: apt-get install openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_gateway_signs_with_the_key_it_had_and_its_file_does_not_show_it() {
    let house = House::new();
    let seal = house.shared.write_secret("seal", format!("{}\n", seal_key()));
    let gateway = Gateway::start(&house.config("kind = \"embedded\"", &format!("seal_file = \"{}\"", seal.display())));
    let published = house.keys(&gateway).await;
    let name = house.signed(&gateway, &published).await;
    assert_eq!(names(&published), std::slice::from_ref(&name));
    let gateway = gateway.restart();
    assert_eq!(house.signed(&gateway, &published).await, name);

    // A new sealing key on top, then the old one out: the same keys.
    let old = std::fs::read_to_string(&seal).unwrap();
    let new = format!("{}\n", seal_key());
    house.shared.write_secret("seal", format!("{new}{old}"));
    let gateway = gateway.restart();
    assert_eq!(house.signed(&gateway, &published).await, name);
    house.shared.write_secret("seal", &new);
    let gateway = gateway.restart();
    assert_eq!(house.signed(&gateway, &published).await, name);

    // What lies on the disk holds neither form of a key, nor the names of its fields.
    let dir = std::sync::Arc::clone(&gateway.dir);
    gateway.stop();
    let file = std::fs::read(dir.join("doorward.redb")).unwrap();
    assert!(file.len() > 1000);
    for part in [&b"pkcs8"[..], b"signs_from", &PKCS8_OF_P256, jose::base64url(&PKCS8_OF_P256).as_bytes()] {
        assert!(!file.windows(part.len()).any(|window| window == part), "{:?}", String::from_utf8_lossy(part));
    }
}

/// How PKCS#8 names a key on P-256: id-ecPublicKey, prime256v1 (RFC 5480 §2.1.1).
const PKCS8_OF_P256: [u8; 21] =
    [0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_as_often_as_the_config_says_or_never() {
    for (rotation, changed) in [("assertion_rotation = \"2d\"", true), ("assertion_rotation = \"off\"", false), ("", false)] {
        let house = House::new();
        let gateway = Gateway::start(&house.config("kind = \"memory\"", rotation));
        let first = house.keys(&gateway).await;
        // The next one is published some time before it signs.
        for hours in [45, 2, 2] {
            gateway.advance(Duration::from_secs(hours * 60 * 60));
            house.keys(&gateway).await;
        }
        assert_eq!(names(&house.keys(&gateway).await) != names(&first), changed, "{rotation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_files_keys_sign_and_change_while_the_gateway_runs() {
    let house = House::new();
    let p256 = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let sec1 = openssl(&["ecparam", "-name", "prime256v1", "-genkey"]);
    let ed = openssl(&["genpkey", "-algorithm", "ed25519"]);
    let file = house.shared.write_secret("assertion.pem", format!("{p256}{ed}"));
    let keys = format!("assertion_file = \"{}\"", file.display());
    let gateway = Gateway::start(&house.config("kind = \"memory\"", &keys));
    let published = house.keys(&gateway).await;
    assert_eq!(published["keys"].as_array().unwrap().len(), 2);
    let first = house.signed(&gateway, &published).await;
    assert_eq!(names(&published)[0], first);

    // The new one on top, as the procedure says: upstreams know it already.
    house.shared.write_secret("assertion.pem", format!("{ed}{p256}{sec1}"));
    let read = async {
        while house.signed(&gateway, &published).await == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, read).await.expect("the file is read again");
    let published = house.keys(&gateway).await;
    assert_eq!(published["keys"].as_array().unwrap().len(), 3);
    let second = house.signed(&gateway, &published).await;
    assert_eq!(published["keys"][0]["crv"], "Ed25519");
    assert_eq!(names(&published)[0], second);
    assert!(!published.to_string().contains("\"d\""), "{published}");

    // What is no key changes nothing.
    let rsa = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    house.shared.write_secret("assertion.pem", rsa);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(house.keys(&gateway).await, published);
    assert_eq!(house.signed(&gateway, &published).await, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_redis_publish_each_others_keys() {
    let redis = Redis::start().await;
    let (house, place) = (House::new(), Pair::place());
    let pair = Pair::start(&place, &redis, &house.tables()).await;
    let published = async |side| keys(pair.http(side).get(&pair.url("/oauth2/jwks")).await).await;
    let (one, other) = (published(Side::One).await, published(Side::Other).await);
    assert_eq!(one, other);
    assert_eq!(names(&one).len(), 1, "they agreed on one");
    for (signs, keys) in [(Side::One, &other), (Side::Other, &one)] {
        let answer = pair.http(signs).fetch(house.request(&pair.url("/orders/1"))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(checked(&house.upstream.last(), keys).1["sub"], "program");
    }
    // The store holds them, and shows nothing of them.
    let shared: Vec<_> = redis.dump().await.into_iter().filter(|entry| entry.key.starts_with(b"doorward:common:")).collect();
    assert_eq!(shared.len(), 1);
    assert!(shared[0].lives.is_some(), "nothing stays for ever");
    let everything = redis.everything().await;
    for part in [&b"pkcs8"[..], b"signs_from", &PKCS8_OF_P256, jose::base64url(&PKCS8_OF_P256).as_bytes()] {
        assert!(!everything.windows(part.len()).any(|window| window == part), "{:?}", String::from_utf8_lossy(part));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_known_to_every_upstream_before_it_signs() {
    let routes = ROUTES.replace("\"session\", \"bearer\"", "\"session\"");
    let routes = format!("{routes}[[route]]\npath = \"/first\"\nallow = \"any-authenticated\"\nupstream = \"@UPSTREAM@\"\n");
    let twins = Twins::start(Redis::start().await, &routes, |builder: HostileBuilder| builder).await;
    let published = async |side| keys(twins.http(side).get(&twins.url("/oauth2/jwks")).await).await;
    // Who signs for somebody who just came, by the keys as an upstream has them; a gateway hears of what others wrote within a minute.
    let signs = async |side: Side, keys: &Value| {
        let browser = twins.signed_in(side).await;
        let answer = twins.ask(side, &browser.cookie_header(&twins.url("/")), "/orders/1").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        checked(&twins.upstream.last(), keys).0["kid"].as_str().unwrap().to_owned()
    };
    let before = published(Side::One).await;
    let first = signs(Side::Other, &before).await;
    assert_eq!(names(&before), std::slice::from_ref(&first));

    // A day before its turn the next one is published, by both, and signs for nobody.
    twins.advance(DAY * 29 + Duration::from_secs(60));
    let both = published(Side::One).await;
    assert_eq!(names(&both).len(), 2);
    assert_eq!(published(Side::Other).await, both);
    let next = names(&both).into_iter().find(|name| *name != first).unwrap();
    for side in [Side::One, Side::Other] {
        assert_eq!(signs(side, &before).await, first);
    }
    // Its turn: what an upstream fetched the day before is enough.
    twins.advance(DAY);
    for side in [Side::One, Side::Other] {
        assert_eq!(signs(side, &both).await, next);
    }
    // The old one stays until what it signed is long over.
    assert_eq!(names(&published(Side::Other).await), [first, next.clone()]);
    twins.advance(Duration::from_secs(2 * 60 * 60));
    assert_eq!(names(&published(Side::One).await), std::slice::from_ref(&next));
    assert_eq!(names(&published(Side::Other).await), [next]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_the_gateway_starts_and_only_what_needs_keys_waits() {
    let mut redis = Redis::start().await;
    let house = House::new();
    let seal = house.shared.write_secret("seal", format!("{}\n", seal_key()));
    redis.kill();
    let store = format!("kind = \"redis\"\nurl = \"{}\"", redis.url());
    let gateway = Gateway::start(&house.config(&store, &format!("seal_file = \"{}\"", seal.display())));
    let at = |path: &str| format!("{}{path}", gateway.url);
    let patient = HttpClient::new();
    for request in [house.request(&at("/orders/1")), get(&at("/oauth2/jwks"))] {
        let answer = patient.fetch(request).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (503, "store-unreachable"), "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(house.upstream.count(), 0);
    // A token needs no store, and neither does a route without an assertion.
    assert_eq!(patient.fetch(house.request(&at("/plain/1"))).await.status, 200);
    assert_eq!(patient.fetch(get(&at("/optional/1"))).await.status, 200);
    redis.start_again().await;
    let there = async {
        loop {
            let answer = patient.fetch(get(&at("/oauth2/jwks"))).await;
            if answer.status == 200 {
                break answer.json();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let published = timeout(PATIENCE, there).await.expect("the store is back, and so are the keys");
    house.signed(&gateway, &published).await;
    // From now on it goes on without the store.
    redis.kill();
    house.signed(&gateway, &published).await;
    assert_eq!(house.keys(&gateway).await, published);
}
