//! Token issuers as they are: where their keys lie and who may fetch them, ID tokens where old programs show those, keys that are mixed up
//! between issuers, and keys that are withdrawn while their tokens are remembered.

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::harness::body::empty;
use crate::harness::gateway::{Gateway, TOP};
use crate::harness::hostile::{Endpoint, HostileProvider};
use crate::harness::http::{Answer, fetch};
use crate::harness::jose::{Algorithm, SigningKey, random};
use crate::harness::temp::TempDir;
use crate::harness::token_issuer::{Canned, CannedIssuer};
use crate::harness::upstream::EchoUpstream;

const AT_JWT: &str = "at+jwt";

/// A gateway with these issuers' tables before one upstream.
struct World {
    upstream: EchoUpstream,
    gateway: Gateway,
}

impl World {
    fn start(tables: &str) -> Self {
        let upstream = EchoUpstream::start();
        let route = |path: &str, allow: &str| {
            format!(
                "[[route]]\nid = \"{path}\"\npath = \"/{path}\"\nupstream = \"{}\"\naccept = [\"bearer\"]\nallow = {allow}\n",
                upstream.url()
            )
        };
        let gateway = Gateway::start(&format!(
            "{TOP}store.kind = \"memory\"\nlimits.provider_timeout = \"2s\"\n{tables}\n{}{}",
            route("api", "\"any-authenticated\""),
            route("write", "{ scopes = [\"write\"] }")
        ));
        Self { upstream, gateway }
    }

    fn now(&self) -> u64 {
        (self.gateway.now())()
    }

    async fn show(&self, path: &str, token: &str) -> Answer {
        let request = Request::get(format!("{}/{path}", self.gateway.url)).header("authorization", format!("Bearer {token}"));
        fetch(request.body(empty()).expect("a request")).await
    }

    async fn taken(&self, path: &str, token: &str) {
        let before = self.upstream.count();
        let answer = self.show(path, token).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.upstream.count(), before + 1);
        assert!(self.upstream.last().header("x-forwarded-user").is_some_and(|user| !user.is_empty()));
    }

    async fn refused(&self, path: &str, token: &str, reason: &str) {
        self.answered(path, token, 401, reason).await;
    }

    async fn answered(&self, path: &str, token: &str, status: u16, reason: &str) {
        let before = self.upstream.count();
        let answer = self.show(path, token).await;
        assert_eq!((answer.status.as_u16(), answer.json()["reason"].as_str()), (status, Some(reason)), "{}", answer.text());
        assert_eq!(self.upstream.count(), before, "{reason}");
    }
}

fn table(issuer: &str, rest: &str) -> String {
    format!("[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"api\"\n{rest}\n")
}

fn jwks(keys: &[&SigningKey]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
}

/// An access token by RFC 9068 §2.2 with `change` laid over it.
fn token(key: &SigningKey, issuer: &str, now: u64, change: &Value) -> String {
    let mut claims = json!({
        "iss": issuer, "sub": "program", "aud": "api", "client_id": "program", "iat": now, "exp": now + 300, "jti": random(),
    });
    change.as_object().expect("claims").iter().for_each(|(name, value)| claims[name] = value.clone());
    let mut header = key.header();
    header["typ"] = json!(AT_JWT);
    key.token(&header, &claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_a_written_address_and_nothing_else_is_asked() {
    let issuer = CannedIssuer::start();
    let key = SigningKey::new(Algorithm::Es256, "k");
    issuer.gives("/their/keys", Canned::json(&jwks(&[&key])));
    let name = "https://login.example.test/realm";
    let world = World::start(&table(name, &format!("jwks_uri = \"{}/their/keys\"", issuer.url())));
    world.taken("api", &token(&key, name, world.now(), &json!({}))).await;
    world.refused("api", &token(&key, &issuer.url(), world.now(), &json!({})), "token-issuer-unknown").await;
    assert_eq!(issuer.asked().iter().map(|asked| asked.path.as_str()).collect::<Vec<_>>(), ["/their/keys"]);
    // Without the key nobody looks there.
    issuer.reset();
    let world = World::start(&table(&issuer.url(), ""));
    world.answered("api", &token(&key, &issuer.url(), world.now(), &json!({})), 503, "keys-unreachable").await;
    assert_eq!(issuer.count("/their/keys"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_signed_by_an_algorithm_that_the_table_lists() {
    let issuer = CannedIssuer::start();
    let key = SigningKey::new(Algorithm::Es256, "k");
    issuer.gives("/their/keys", Canned::json(&jwks(&[&key])));
    let (name, keys) = ("https://login.example.test/realm", format!("jwks_uri = \"{}/their/keys\"\n", issuer.url()));
    for (algorithms, taken) in [("", true), ("algorithms = [\"ES256\"]\n", true), ("algorithms = [\"RS256\", \"EdDSA\"]\n", false)] {
        let world = World::start(&table(name, &format!("{keys}{algorithms}")));
        let answer = world.show("api", &token(&key, name, world.now(), &json!({}))).await;
        let status = if taken { 200 } else { 401 };
        assert_eq!((answer.status.as_u16(), world.upstream.count()), (status, usize::from(taken)), "{algorithms}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_no_openid_provider_is_found_by_its_oauth_document() {
    let issuer = CannedIssuer::start();
    let key = SigningKey::new(Algorithm::Es256, "k");
    issuer.gives("/jwks", Canned::json(&jwks(&[&key])));
    let world = World::start(&table(&issuer.url(), ""));
    world.answered("api", &token(&key, &issuer.url(), world.now(), &json!({})), 503, "keys-unreachable").await;
    issuer.describes_itself("/.well-known/oauth-authorization-server");
    world.gateway.advance(Duration::from_secs(6));
    world.taken("api", &token(&key, &issuer.url(), world.now(), &json!({}))).await;
    // A document of somebody else's counts for nothing.
    let other = CannedIssuer::start();
    let document = json!({ "issuer": issuer.url(), "jwks_uri": format!("{}/jwks", issuer.url()) });
    other.gives("/.well-known/openid-configuration", Canned::json(&document));
    let world = World::start(&table(&other.url(), ""));
    world.answered("api", &token(&key, &other.url(), world.now(), &json!({})), 503, "keys-unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_a_file_count_without_a_network_and_change_with_it() {
    let dir = TempDir::new("jwks");
    let (old, new) = (SigningKey::new(Algorithm::Es256, "old"), SigningKey::new(Algorithm::EdDsa, "new"));
    let file = dir.write("jwks.json", jwks(&[&old]).to_string());
    let name = "https://login.example.test";
    let world = World::start(&table(name, &format!("jwks_file = \"{}\"", file.display())));
    let (of_old, of_new) = (token(&old, name, world.now(), &json!({})), token(&new, name, world.now(), &json!({})));
    world.taken("api", &of_old).await;
    world.taken("api", &of_old).await;
    world.refused("api", &of_new, "token-key-unknown").await;
    dir.write("jwks.json", jwks(&[&new]).to_string());
    world.gateway.advance(Duration::from_secs(2));
    world.taken("api", &of_new).await;
    world.refused("api", &of_old, "token-key-unknown").await;
    // What is half written, or gone, lets the last keys go on.
    dir.write("jwks.json", "{\"keys\": [");
    world.gateway.advance(Duration::from_secs(2));
    let _ = world.show("api", &of_new).await;
    world.taken("api", &of_new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_tells_no_strangers_is_shown_the_bearer_of_the_moment() {
    let issuer = CannedIssuer::start();
    let key = SigningKey::new(Algorithm::Rs256, "sa");
    issuer.describes_itself("/.well-known/openid-configuration");
    issuer.gives("/jwks", Canned::json(&jwks(&[&key])));
    issuer.guard("first-token");
    let dir = TempDir::new("bearer");
    let file = dir.write_secret("token", "first-token\n");
    let world = World::start(&table(&issuer.url(), &format!("typ = \"any\"\nbearer_file = \"{}\"", file.display())));
    // A Kubernetes service account as a caller.
    let account = json!({
        "sub": "system:serviceaccount:shop:cart", "client_id": null, "scope": null,
        "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "cart", "uid": "u" } },
    });
    let of_account = |now: u64| {
        let mut claims = json!({ "iss": issuer.url(), "aud": ["api"], "iat": now, "exp": now + 300, "nbf": now });
        account.as_object().expect("claims").iter().for_each(|(name, value)| claims[name] = value.clone());
        key.token(&key.header(), &claims)
    };
    world.taken("api", &of_account(world.now())).await;
    assert_eq!(world.upstream.last().header("x-forwarded-user").as_deref(), Some("system:serviceaccount:shop:cart"));
    let shown = |path: &str| {
        issuer.asked().into_iter().filter(|asked| asked.path == path).filter_map(|asked| asked.authorization).collect::<Vec<_>>()
    };
    assert_eq!(shown("/.well-known/openid-configuration"), ["Bearer first-token"]);
    assert_eq!(shown("/jwks"), ["Bearer first-token"]);
    // The kubelet writes a new one every hour, and the old one ends.
    dir.write_secret("token", "second-token");
    issuer.guard("second-token");
    issuer.reset();
    world.gateway.advance(Duration::from_secs(2 * 60 * 60));
    world.taken("api", &of_account(world.now())).await;
    assert_eq!(shown("/jwks"), ["Bearer second-token"]);
    assert!(!world.gateway.access_lines().contains("-token"));
    // A stranger is told nothing, and takes no token.
    let stranger = World::start(&table(&issuer.url(), "typ = \"any\""));
    stranger.answered("api", &of_account(stranger.now()), 503, "keys-unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_and_users_are_where_the_table_says() {
    let issuer = HostileProvider::start();
    let world = World::start(&table(&issuer.issuer(), "scope_claim = \"permissions\"\nuser_claim = \"upn\""));
    let claims = |change: Value| {
        let mut claims = json!({ "aud": "api", "upn": "ann@x.test", "permissions": ["read", "write"] });
        change.as_object().expect("claims").iter().for_each(|(name, value)| claims[name] = value.clone());
        issuer.access_token(claims, AT_JWT)
    };
    world.taken("write", &claims(json!({}))).await;
    assert_eq!(world.upstream.last().header("x-forwarded-user").as_deref(), Some("ann@x.test"));
    world.answered("write", &claims(json!({ "permissions": ["read"], "scope": "write", "scp": "write" })), 403, "insufficient-scope").await;
    world.refused("api", &claims(json!({ "upn": null })), "token-claims").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn id_tokens_are_taken_where_the_table_says_so_and_access_tokens_are_not() {
    let issuer = HostileProvider::start();
    let world =
        World::start(&format!("[[token_issuer]]\nissuer = \"{}\"\naudience = \"old-phone-app\"\ntyp = \"id_token\"\n", issuer.issuer()));
    let id = |change: Value, typ: &str| {
        let mut claims = json!({ "aud": "old-phone-app", "nonce": "n", "at_hash": "h", "azp": "x", "client_id": null, "jti": null });
        change.as_object().expect("claims").iter().for_each(|(name, value)| claims[name] = value.clone());
        issuer.access_token(claims, typ)
    };
    let now = world.now();
    world.taken("api", &id(json!({}), "JWT")).await;
    world.taken("api", &id(json!({ "nonce": null, "at_hash": null }), "")).await;
    for (change, typ, reason) in [
        (json!({}), AT_JWT, "token-type"),
        (json!({}), "logout+jwt", "token-type"),
        (json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} } }), "JWT", "token-type"),
        (json!({ "aud": "another-app" }), "JWT", "token-audience"),
        (json!({ "aud": null }), "JWT", "token-claims"),
        (json!({ "iat": null }), "JWT", "token-claims"),
        (json!({ "exp": null }), "JWT", "token-claims"),
        (json!({ "sub": null }), "JWT", "token-claims"),
        (json!({ "exp": now - 120 }), "JWT", "token-expired"),
        (json!({ "iat": now + 600 }), "JWT", "token-not-yet-valid"),
    ] {
        world.refused("api", &id(change, typ), reason).await;
    }
    world.refused("api", &issuer.sign(json!({ "alg": "none" }), json!({ "aud": "old-phone-app" })), "token-algorithm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issuers_whose_keys_have_the_same_name_do_not_sign_for_each_other() {
    let (a, b) = (CannedIssuer::start(), CannedIssuer::start());
    let (of_a, of_b) = (SigningKey::new(Algorithm::Es256, "key-1"), SigningKey::new(Algorithm::Es256, "key-1"));
    for (issuer, key) in [(&a, &of_a), (&b, &of_b)] {
        issuer.describes_itself("/.well-known/openid-configuration");
        issuer.gives("/jwks", Canned::json(&jwks(&[key])));
    }
    let world = World::start(&format!("{}{}", table(&a.url(), "groups_claim = \"groups\""), table(&b.url(), "")));
    let now = world.now();
    let (sound_a, sound_b) = (token(&of_a, &a.url(), now, &json!({})), token(&of_b, &b.url(), now, &json!({})));
    // Before and after the sound ones are known and remembered.
    for _ in 0..2 {
        world.refused("api", &token(&of_b, &a.url(), now, &json!({})), "token-signature").await;
        world.refused("api", &token(&of_a, &b.url(), now, &json!({})), "token-signature").await;
        world.taken("api", &sound_a).await;
        world.taken("api", &sound_b).await;
    }
    // The claims of one under the signature of the other, and the other way round.
    let part = |token: &str, number: usize| token.split('.').nth(number).expect("three parts").to_owned();
    for (first, second) in [(&sound_a, &sound_b), (&sound_b, &sound_a)] {
        let mixed = format!("{}.{}.{}", part(first, 0), part(first, 1), part(second, 2));
        world.refused("api", &mixed, "token-signature").await;
    }
    // An RSA key of A's under the name and algorithm of B's.
    let rsa = SigningKey::new(Algorithm::Rs256, "key-1");
    world.refused("api", &token(&rsa, &b.url(), now, &json!({})), "token-key-unknown").await;
    assert!(a.count("/jwks") <= 2 && b.count("/jwks") <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_token_is_judged_each_time_and_forgotten_with_its_key() {
    let issuer = HostileProvider::start();
    let world = World::start(&table(&issuer.issuer(), ""));
    let now = world.now();
    let long = issuer.access_token(json!({ "aud": "api", "exp": now + 24 * 3600, "scope": "read" }), AT_JWT);
    let short = issuer.access_token(json!({ "aud": "api", "exp": now + 60 }), AT_JWT);
    for _ in 0..3 {
        world.taken("api", &long).await;
        world.taken("api", &short).await;
        world.answered("write", &long, 403, "insufficient-scope").await;
    }
    world.gateway.advance(Duration::from_secs(121));
    world.refused("api", &short, "token-expired").await;
    world.refused("api", &short, "token-expired").await;
    world.taken("api", &long).await;
    // The key is withdrawn. The keys are looked at again because a token names one that is not there.
    issuer.rotate_keys();
    issuer.forget_former_keys();
    let fetched = issuer.count(Endpoint::Jwks);
    let now = world.now();
    world.taken("api", &issuer.access_token(json!({ "aud": "api", "iat": now, "exp": now + 300 }), AT_JWT)).await;
    assert_eq!(issuer.count(Endpoint::Jwks), fetched + 1);
    world.refused("api", &long, "token-key-unknown").await;
    world.refused("api", &long, "token-key-unknown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_token_costs_its_issuer_nothing_while_it_is_down() {
    let issuer = HostileProvider::start();
    let world = World::start(&table(&issuer.issuer(), ""));
    let token = issuer.access_token(json!({ "aud": "api", "exp": world.now() + 48 * 3600 }), AT_JWT);
    world.taken("api", &token).await;
    issuer.stop().await;
    for _ in 0..5 {
        world.gateway.advance(Duration::from_secs(3600));
        let _ = world.show("api", &token).await;
        world.taken("api", &token).await;
    }
    // Keys that nobody could look at for a day count no more, nor does what they signed.
    world.gateway.advance(Duration::from_secs(25 * 3600));
    world.answered("api", &token, 503, "keys-unreachable").await;
}
