//! Tokens that are bound to a key by DPoP (RFC 9449): every check of a proof alone, once on all replicas, nonces, forward-auth, HTTP/2, and
//! tokens of the real provider.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::harness::answer::Answer;
use crate::harness::body::{empty, full};
use crate::harness::dpop::{ProvingKey, ath};
use crate::harness::gateway::{Gateway, TOP};
use crate::harness::hostile::HostileProvider;
use crate::harness::hostile_state::merged;
use crate::harness::http::{HttpClient, Protocol, fetch};
use crate::harness::jose::{Algorithm, hs256, unsigned, with_broken_signature};
use crate::harness::oidc_provider::{CLIENT_ID, CLIENT_SECRET, OidcProviderBuilder};
use crate::harness::pair::{Pair, Side};
use crate::harness::redis::Redis;
use crate::harness::scene::{Scene, reason};
use crate::harness::upstream::EchoUpstream;

const ROUTES: &str = "
[[route]]
path = \"/api/\"
accept = [\"bearer\"]
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/bound/\"
accept = [\"bearer\"]
dpop = \"required\"
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/fresh/\"
accept = [\"bearer\"]
dpop_nonce = true
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/again/\"
accept = [\"bearer\"]
dpop_proof = \"forward\"
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/app/\"
accept = [\"session\"]
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
";

/// A program with a key and a token that is bound to it.
struct Program {
    scene: Scene,
    key: ProvingKey,
    token: String,
}

impl Program {
    fn start() -> Self {
        Self::with("", Algorithm::Es256)
    }

    fn with(top: &str, algorithm: Algorithm) -> Self {
        let (scene, key) = (Scene::start(top, ROUTES), ProvingKey::new(algorithm));
        let token = scene.token(key.bound());
        Self { scene, key, token }
    }

    /// A good proof for GET of this path.
    fn proof(&self, path: &str) -> String {
        self.key.proof("GET", &self.scene.url(path), &self.token)
    }

    fn proof_with(&self, path: &str, header: Value, claims: Value) -> String {
        self.key.proof_with("GET", &self.scene.url(path), &self.token, &header, &claims)
    }

    async fn shows(&self, path: &str, proof: &str) -> Answer {
        self.scene.get(path, &[("authorization", &format!("DPoP {}", self.token)), ("dpop", proof)]).await
    }

    async fn taken(&self, path: &str, proof: &str) -> Answer {
        let before = self.scene.upstream.count();
        let answer = self.shows(path, proof).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.scene.upstream.count(), before + 1);
        answer
    }

    /// 401 for this reason, and the upstream was not asked.
    async fn refused(&self, path: &str, proof: &str, why: &str) -> Answer {
        let before = self.scene.upstream.count();
        let answer = self.shows(path, proof).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, why), "{}", answer.text());
        assert_eq!(self.scene.upstream.count(), before, "{why}");
        answer
    }
}

/// The challenges by scheme, those for `Bearer` and those for `DPoP`; without the resource's metadata, which all of them name.
fn challenges(answer: &Answer) -> (String, String) {
    let lines = answer.header_all("www-authenticate");
    let told = |line: &str| line.split(", resource_metadata=").next().unwrap_or_default().to_owned();
    let of = |scheme: &str| lines.iter().filter(|line| line.starts_with(scheme)).map(|line| told(line)).collect::<Vec<_>>().join("|");
    (of("Bearer "), of("DPoP "))
}

fn is_invalid_proof(answer: &Answer) {
    let (bearer, dpop) = challenges(answer);
    // What is wrong with a proof stands in the challenge of those who show proofs.
    assert_eq!(bearer, "Bearer realm=\"doorward\"");
    assert!(dpop.contains("algs=\"RS256 ES256 PS256 EdDSA\"") && dpop.contains("error=\"invalid_dpop_proof\""), "{dpop}");
    assert_eq!(answer.json()["error"], "invalid_dpop_proof");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_with_its_proof_is_let_in_and_neither_reaches_the_upstream() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Ps256, Algorithm::Rs256] {
        let program = Program::with("", algorithm);
        let proof = program.proof("/api/x");
        program.taken("/api/x", &proof).await;
        let seen = program.scene.upstream.last();
        assert_eq!(seen.header("x-forwarded-user").as_deref(), Some("program"));
        assert!(!seen.everything().contains(&program.token) && !seen.everything().contains(&proof), "{}", seen.everything());
        assert_eq!((seen.header("dpop"), seen.header("authorization")), (None, None));
        program.taken("/bound/x", &program.proof("/bound/x")).await;
    }
    let program = Program::start();
    for scheme in ["dpop", "DPOP", "dPoP"] {
        let headers = [("authorization", &*format!("{scheme} {}", program.token)), ("dpop", &*program.proof("/api/x"))];
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let proof = program.proof("/api/y?a=b");
            let answer = program.scene.send(protocol, "GET", "/api/y?a=b", &[headers[0], ("dpop", &proof)]).await;
            assert_eq!(answer.status, 200, "{scheme} {protocol:?}: {}", answer.text());
        }
    }
    let line = program.scene.gateway.access_line("credential=bearer").await;
    assert!(line.contains("user=program") && !line.contains(&program.token), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_check_of_a_proof_alone_refuses_it() {
    let program = Program::start();
    let (now, url, other) = ((program.scene.gateway.now())(), program.scene.url("/api/x"), ProvingKey::new(Algorithm::Es256));
    let with = |header: Value, claims: Value| program.proof_with("/api/x", header, claims);
    let elsewhere = |htu: &str| with(json!({}), json!({ "htu": htu }));
    let header = json!({ "typ": "dpop+jwt", "jwk": program.key.jwk() });
    let claims = json!({ "jti": "j", "htm": "GET", "htu": url, "iat": now, "ath": ath(&program.token) });
    let by_secret = hs256(&merged(&header, &json!({ "alg": "HS256" })), &claims, b"secret");
    let private = merged(&program.key.jwk(), &json!({ "d": "AAAA" }));
    let port = program.scene.gateway.address.port();
    for (proof, why) in [
        // (2)
        (String::new(), "dpop-proof-malformed"),
        ("abc".to_owned(), "dpop-proof-malformed"),
        (format!("{}, {}", with(json!({}), json!({})), with(json!({}), json!({}))), "dpop-proof-malformed"),
        ("a".repeat(9000), "dpop-proof-malformed"),
        // (3)
        (with(json!({}), json!({ "jti": null })), "dpop-proof-claims"),
        (with(json!({}), json!({ "jti": "" })), "dpop-proof-claims"),
        (with(json!({}), json!({ "htm": null })), "dpop-proof-claims"),
        (with(json!({}), json!({ "htu": null })), "dpop-proof-claims"),
        (with(json!({}), json!({ "iat": null })), "dpop-proof-claims"),
        (with(json!({}), json!({ "iat": now.to_string() })), "dpop-proof-claims"),
        (with(json!({}), json!({ "ath": null })), "dpop-proof-claims"),
        // (4)
        (with(json!({ "typ": null }), json!({})), "dpop-proof-type"),
        (with(json!({ "typ": "JWT" }), json!({})), "dpop-proof-type"),
        (with(json!({ "typ": "at+jwt" }), json!({})), "dpop-proof-type"),
        // (5)
        (unsigned(&header, &claims), "dpop-proof-algorithm"),
        (by_secret, "dpop-proof-algorithm"),
        (with(json!({ "alg": "ES384" }), json!({})), "dpop-proof-algorithm"),
        // (6)
        (with_broken_signature(&with(json!({}), json!({}))), "dpop-proof-signature"),
        (with(json!({ "jwk": other.jwk() }), json!({})), "dpop-proof-signature"),
        // (7)
        (with(json!({ "jwk": null }), json!({})), "dpop-proof-key"),
        (with(json!({ "jwk": private }), json!({})), "dpop-proof-key"),
        (with(json!({ "jwk": { "kty": "oct", "k": "AAAA" } }), json!({})), "dpop-proof-key"),
        (with(json!({ "jwk": null, "kid": "k", "jku": url }), json!({})), "dpop-proof-key"),
        // (8)
        (with(json!({}), json!({ "htm": "POST" })), "dpop-proof-method"),
        (with(json!({}), json!({ "htm": "get" })), "dpop-proof-method"),
        // (9)
        (elsewhere(&program.scene.url("/api/y")), "dpop-proof-url"),
        (elsewhere(&program.scene.url("/api/x/")), "dpop-proof-url"),
        (elsewhere(&format!("https://127.0.0.1:{port}/api/x")), "dpop-proof-url"),
        (elsewhere("http://127.0.0.1/api/x"), "dpop-proof-url"),
        (elsewhere(&format!("http://evil.test:{port}/api/x")), "dpop-proof-url"),
        (elsewhere("/api/x"), "dpop-proof-url"),
        // (11)
        (with(json!({}), json!({ "iat": now - 120 })), "dpop-proof-age"),
        (with(json!({}), json!({ "iat": now + 120 })), "dpop-proof-age"),
        // (12)
        (with(json!({}), json!({ "ath": ath("another") })), "dpop-proof-token"),
    ] {
        is_invalid_proof(&program.refused("/api/x", &proof, why).await);
    }
    // (12b) The proof is sound and another's: it is the token that does not count.
    let answer = program.refused("/api/x", &other.proof("GET", &url, &program.token), "dpop-key-mismatch").await;
    assert!(challenges(&answer).1.contains("error=\"invalid_token\""), "{answer:?}");
    // (1)
    let before = program.scene.upstream.count();
    let token = format!("DPoP {}", program.token);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let two = [("authorization", &*token), ("dpop", &*program.proof("/api/x")), ("dpop", &*program.proof("/api/x"))];
        let answer = program.scene.send(protocol, "GET", "/api/x", &two).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "dpop-proof-repeated"));
        is_invalid_proof(&answer);
        let answer = program.scene.send(protocol, "GET", "/api/x", &two[..1]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "dpop-proof-missing"));
        is_invalid_proof(&answer);
    }
    assert_eq!(program.scene.upstream.count(), before);
    // A bad token is refused as such, whatever proof is beside it.
    let expired = program.scene.token(merged(&program.key.bound(), &json!({ "iat": now - 900, "exp": now - 600 })));
    let proof = program.key.proof("GET", &url, &expired);
    let answer = program.scene.get("/api/x", &[("authorization", &format!("DPoP {expired}")), ("dpop", &proof)]).await;
    assert_eq!(reason(&answer), "token-expired");
    assert!(challenges(&answer).1.contains("error=\"invalid_token\""));
    // Spelled otherwise, and the same: query and fragment, case, escapes, dots, a time within the leeway.
    for htu in [format!("{url}?q=1#f"), url.replace("http://", "HTTP://"), program.scene.url("/%61pi/x"), program.scene.url("/api/y/../x")]
    {
        program.taken("/api/x?more=1", &elsewhere(&htu)).await;
    }
    program.taken("/api/x", &with(json!({}), json!({ "iat": now - 50 }))).await;
    program.taken("/api/x", &with(json!({}), json!({ "iat": now + 50 }))).await;
    let late = program.proof("/api/x");
    program.scene.gateway.advance(Duration::from_secs(70));
    program.refused("/api/x", &late, "dpop-proof-age").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_is_no_bearer_token_and_an_unbound_one_no_dpop_token() {
    let program = Program::start();
    let scene = &program.scene;
    let unbound = scene.token(json!({}));
    let proof = |path: &str, token: &str| program.key.proof("GET", &scene.url(path), token);
    for (path, scheme, token, proof, why) in [
        ("/api/x", "Bearer", &program.token, None, "token-bound"),
        // Not even with a good proof beside it (RFC 9449 §7.2).
        ("/api/x", "Bearer", &program.token, Some(proof("/api/x", &program.token)), "token-bound"),
        ("/bound/x", "Bearer", &program.token, Some(proof("/bound/x", &program.token)), "token-bound"),
        ("/api/x", "DPoP", &unbound, Some(proof("/api/x", &unbound)), "dpop-unbound"),
        ("/bound/x", "DPoP", &unbound, Some(proof("/bound/x", &unbound)), "dpop-required"),
        ("/bound/x", "Bearer", &unbound, None, "dpop-required"),
    ] {
        let authorization = format!("{scheme} {token}");
        let mut headers = vec![("authorization", authorization.as_str())];
        headers.extend(proof.as_deref().map(|proof| ("dpop", proof)));
        let answer = scene.get(path, &headers).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, why), "{path} {scheme}");
        let (bearer, dpop) = challenges(&answer);
        assert!(dpop.contains("error=\"invalid_token\""), "{dpop}");
        // A route that takes nothing else asks for nothing else.
        assert_eq!(bearer.is_empty(), path == "/bound/x", "{bearer}");
    }
    assert_eq!(scene.upstream.count(), 0);
    let nothing = scene.get("/api/x", &[]).await;
    let (bearer, dpop) = challenges(&nothing);
    assert_eq!(bearer, "Bearer realm=\"doorward\"");
    assert_eq!(dpop, "DPoP realm=\"doorward\", algs=\"RS256 ES256 PS256 EdDSA\"");
    // An unbound one is a good bearer; where no token is read, scheme and header are the app's own.
    assert_eq!(scene.get("/api/x", &[("authorization", &format!("Bearer {unbound}")), ("dpop", "x")]).await.status, 200);
    assert_eq!(scene.upstream.last().header("dpop"), None);
    let session = scene.session().await;
    let own = [("cookie", session.as_str()), ("authorization", "DPoP own"), ("dpop", "own")];
    assert_eq!(scene.get("/app/x", &own).await.status, 200);
    assert_eq!(scene.upstream.last().header("dpop").as_deref(), Some("own"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_counts_once_for_its_key_and_its_target() {
    let program = Program::start();
    let proof = program.proof("/api/x");
    program.taken("/api/x", &proof).await;
    is_invalid_proof(&program.refused("/api/x", &proof, "dpop-proof-replayed").await);
    // The same request under other spellings of host and path.
    let (port, token) = (program.scene.gateway.address.port(), format!("DPoP {}", program.token));
    for (target, host) in
        [("/api/./x", format!("127.0.0.1:{port}")), ("/%61pi/x", "127.0.0.1".to_owned()), ("//api/x", format!("127.0.0.1.:{port}"))]
    {
        let lines = [format!("authorization: {token}"), format!("dpop: {proof}")];
        let request = crate::harness::raw::request("GET", target, &host, &[&lines[0], &lines[1]]);
        let answer = crate::harness::raw::raw_answer(program.scene.gateway.address, request).await;
        assert_eq!(crate::harness::scene::raw_reason(&answer), "dpop-proof-replayed", "{target} {host}");
    }
    assert_eq!(program.scene.upstream.count(), 1);
    // A `jti` is one key's own, and one target's.
    let same = json!({ "jti": "the-same" });
    program.taken("/api/x", &program.proof_with("/api/x", json!({}), same.clone())).await;
    program.taken("/api/y", &program.proof_with("/api/y", json!({}), same.clone())).await;
    program.refused("/api/x", &program.proof_with("/api/x", json!({}), same.clone()), "dpop-proof-replayed").await;
    let other = ProvingKey::new(Algorithm::EdDsa);
    let theirs = program.scene.token(other.bound());
    let proof = other.proof_with("GET", &program.scene.url("/api/x"), &theirs, &json!({}), &same);
    assert_eq!(program.scene.get("/api/x", &[("authorization", &format!("DPoP {theirs}")), ("dpop", &proof)]).await.status, 200);
    // What was refused has spent nothing.
    let spared = program.proof_with("/api/x", json!({}), json!({ "jti": "spared" }));
    program.refused("/api/z", &spared, "dpop-proof-url").await;
    program.taken("/api/x", &spared).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_at_once_one_is_let_in() {
    let program = Program::start();
    let proof = program.proof("/api/x");
    let answers = futures_all((0..50).map(|_| program.shows("/api/x", &proof))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(program.scene.upstream.count(), 1);
}

async fn futures_all<F: Future<Output = Answer>>(all: impl Iterator<Item = F>) -> Vec<Answer> {
    let mut waiting: Vec<_> = all.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        waiting.retain_mut(|one| match one.as_mut().poll(cx) {
            std::task::Poll::Ready(answer) => {
                done.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_asks_for_a_nonce_gives_one_and_renews_it() {
    let program = Program::start();
    let with = |nonce: &str, iat: u64| program.proof_with("/fresh/x", json!({}), json!({ "nonce": nonce, "iat": iat }));
    let now = program.scene.gateway.now();
    let answer = program.refused("/fresh/x", &program.proof("/fresh/x"), "dpop-nonce").await;
    let (bearer, dpop) = challenges(&answer);
    assert!(dpop.contains("error=\"use_dpop_nonce\"") && !bearer.contains("error"), "{bearer} {dpop}");
    assert_eq!(answer.json()["error"], "use_dpop_nonce");
    let nonce = answer.header("dpop-nonce").expect("a nonce").to_owned();
    // RFC 9449 §8.1.
    assert!(!nonce.is_empty() && nonce.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "{nonce}");
    // With it the program's own clock does not matter, and a fresh one brings no other.
    let answer = program.taken("/fresh/x", &with(&nonce, now())).await;
    assert_eq!(answer.header("dpop-nonce"), None);
    program.taken("/fresh/x", &with(&nonce, now() - 90_000)).await;
    let again = with(&nonce, 1);
    program.taken("/fresh/x", &again).await;
    program.refused("/fresh/x", &again, "dpop-proof-replayed").await;
    // Half its time later it still counts and brings its successor.
    program.scene.gateway.advance(Duration::from_secs(150));
    let answer = program.taken("/fresh/x", &with(&nonce, now())).await;
    let next = answer.header("dpop-nonce").expect("the next nonce").to_owned();
    assert_ne!(next, nonce);
    program.taken("/fresh/x", &with(&next, now())).await;
    // Then it is over, and so is one of somebody else's making.
    program.scene.gateway.advance(Duration::from_secs(160));
    for bad in [&nonce, "", "abc", &next[1..], &format!("{next}A")] {
        let answer = program.refused("/fresh/x", &with(bad, now()), "dpop-nonce").await;
        assert!(answer.header("dpop-nonce").is_some());
    }
    let own = program.proof_with("/fresh/x", json!({}), json!({ "nonce": 7 }));
    program.refused("/fresh/x", &own, "dpop-nonce").await;
    // Every other check holds there as well.
    let wrong = program.proof_with("/fresh/x", json!({}), json!({ "nonce": next, "htm": "PUT" }));
    program.refused("/fresh/x", &wrong, "dpop-proof-method").await;
    // Elsewhere a nonce is nobody's business.
    let time = (program.scene.gateway.now())();
    program.taken("/api/x", &program.proof_with("/api/x", json!({}), json!({ "nonce": "of another", "iat": time }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_checks_again_gets_token_and_proof_as_they_came() {
    let program = Program::start();
    let proof = program.proof("/again/x");
    program.taken("/again/x", &proof).await;
    let seen = program.scene.upstream.last();
    assert_eq!(seen.header("authorization"), Some(format!("DPoP {}", program.token)));
    assert_eq!(seen.header_all("dpop"), [proof.as_str()]);
    assert_eq!(seen.header("x-forwarded-user").as_deref(), Some("program"));
    // What the gateway checks it checks all the same.
    program.refused("/again/x", &proof, "dpop-proof-replayed").await;
    program.refused("/again/x", &program.proof("/api/x"), "dpop-proof-url").await;
    // A bearer token is not passed on by this.
    let unbound = program.scene.token(json!({}));
    let answer = program.scene.get("/again/x", &[("authorization", &format!("Bearer {unbound}")), ("dpop", "x")]).await;
    assert_eq!(answer.status, 200);
    let seen = program.scene.upstream.last();
    assert_eq!((seen.header("authorization"), seen.header("dpop")), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_url_in_a_proof_is_the_one_outside() {
    let (scene, key) = (Scene::start_at("https://api.example.test:8443", "", ROUTES), ProvingKey::new(Algorithm::Es256));
    let token = scene.token(key.bound());
    let show = async |htu: &str| {
        let request = Request::get(format!("http://{}/api/x", scene.host())).header("host", "api.example.test:8443");
        let request = request.header("authorization", format!("DPoP {token}")).header("dpop", key.proof("GET", htu, &token));
        let answer = fetch(request.body(empty()).expect("a request")).await;
        if answer.status == 200 { "let in".to_owned() } else { reason(&answer) }
    };
    assert_eq!(show("https://api.example.test:8443/api/x").await, "let in");
    for htu in [
        "http://api.example.test:8443/api/x".to_owned(),
        "https://api.example.test/api/x".to_owned(),
        format!("http://{}/api/x", scene.host()),
        format!("https://{}/api/x", scene.host()),
    ] {
        assert_eq!(show(&htu).await, "dpop-proof-url", "{htu}");
    }
    assert_eq!(scene.upstream.count(), 1);
    let proof = key.proof_with("GET", "https://evil.test/?access_token=hidden#hidden", &token, &json!({}), &json!({}));
    let headers = [("authorization", format!("DPoP {token}")), ("dpop", proof), ("host", "api.example.test:8443".to_owned())];
    let request =
        headers.iter().fold(Request::get(format!("http://{}/api/y", scene.host())), |request, (name, value)| request.header(*name, value));
    assert_eq!(reason(&fetch(request.body(empty()).expect("a request")).await), "dpop-proof-url");
    let line = scene.gateway.access_line("evil.test").await;
    assert!(!line.contains("hidden"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_forward_auth_the_proof_is_for_the_forwarded_request() {
    let program = Program::with("trusted_proxies = [\"127.0.0.1\"]\n", Algorithm::Es256);
    let (scene, host) = (&program.scene, program.scene.host());
    let authorization = format!("DPoP {}", program.token);
    let ask = async |method: &str, uri: &str, proof: &str| {
        let about = [("x-original-method", method), ("x-original-uri", uri), ("x-forwarded-host", &*host), ("x-forwarded-proto", "http")];
        let shown = [("authorization", &*authorization), ("dpop", proof)];
        scene.get("/oauth2/auth", &[&about[..], &shown[..]].concat()).await
    };
    let put = program.key.proof("PUT", &scene.url("/api/x"), &program.token);
    let answer = ask("PUT", "/api/x?q", &put).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-auth-request-user"), Some("program"));
    for (proof, why) in [
        (put, "dpop-proof-replayed"),
        (program.proof("/api/x"), "dpop-proof-method"),
        (program.key.proof("PUT", &scene.url("/oauth2/auth"), &program.token), "dpop-proof-url"),
    ] {
        let answer = ask("PUT", "/api/x?q", &proof).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, why));
        assert!(answer.header_all("www-authenticate").iter().any(|line| line.contains("invalid_dpop_proof")), "{answer:?}");
    }
    // The nonce comes with the answer, for the front proxy to pass on.
    let answer = ask("GET", "/fresh/x", &program.proof("/fresh/x")).await;
    let nonce = answer.header("dpop-nonce").expect("a nonce").to_owned();
    let proof = program.proof_with("/fresh/x", json!({}), json!({ "nonce": nonce }));
    assert_eq!(ask("GET", "/fresh/x", &proof).await.status, 200);
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_one_gateway_took_is_over_at_the_other_and_a_nonce_holds_at_both() {
    let (provider, upstream, mut redis) = (HostileProvider::start(), EchoUpstream::start(), Redis::start().await);
    let routes = ROUTES.replace("@UPSTREAM@", &upstream.url());
    let routes = routes.split("[[route]]\npath = \"/app/\"").next().expect("the routes of programs");
    let tables = format!("[[token_issuer]]\nissuer = \"{}\"\naudience = \"api\"\n{routes}", provider.issuer());
    let pair = Pair::start(&Pair::place(), &redis, &tables).await;
    let key = ProvingKey::new(Algorithm::Es256);
    let token = provider.access_token(merged(&json!({ "aud": "api" }), &key.bound()), "at+jwt");
    let show = async |side: Side, path: &str, proof: &str| {
        let request = Request::get(pair.url(path)).header("authorization", format!("DPoP {token}")).header("dpop", proof);
        pair.http(side).fetch(request.body(empty()).expect("a request")).await
    };
    for (first, second) in [(Side::One, Side::Other), (Side::Other, Side::One)] {
        let before = upstream.count();
        let proof = key.proof("GET", &pair.url("/api/x"), &token);
        assert_eq!(show(first, "/api/x", &proof).await.status, 200);
        let answer = show(second, "/api/x", &proof).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "dpop-proof-replayed"));
        assert_eq!(upstream.count(), before + 1);
    }
    let answer = show(Side::One, "/fresh/x", &key.proof("GET", &pair.url("/fresh/x"), &token)).await;
    let nonce = answer.header("dpop-nonce").expect("a nonce").to_owned();
    let proof = key.proof_with("GET", &pair.url("/fresh/x"), &token, &json!({}), &json!({ "nonce": nonce }));
    assert_eq!(show(Side::Other, "/fresh/x", &proof).await.status, 200);
    assert_eq!(reason(&show(Side::One, "/fresh/x", &proof).await), "dpop-proof-replayed");
    // Nobody can say whether it was there before: nobody is let in.
    let before = upstream.count();
    redis.stop().await;
    let proof = key.proof("GET", &pair.url("/api/x"), &token);
    let answer = show(Side::One, "/api/x", &proof).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (503, "store-unreachable"));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(upstream.count(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_providers_bound_tokens_work_from_the_token_endpoint_to_the_upstream() {
    let upstream = EchoUpstream::start();
    let provider = OidcProviderBuilder::new("http://127.0.0.1/callback")
        .client("grant_types", json!(["client_credentials"]))
        .client("response_types", json!([]))
        .client("redirect_uris", json!([]))
        .client("token_endpoint_auth_method", json!("client_secret_post"))
        .client("dpop_bound_access_tokens", json!(true))
        .set("resources", json!({ "https://api.test": { "scope": "read" } }))
        .start()
        .await;
    let issuer = provider.issuer();
    let gateway = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\n[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"https://api.test\"\n[[route]]\n\
         accept = [\"bearer\"]\ndpop = \"required\"\nallow = {{ scopes = [\"read\"] }}\nupstream = \"{}\"\n",
        upstream.url()
    ));
    let key = ProvingKey::new(Algorithm::Es256);
    let endpoint = format!("{issuer}/token");
    let form = format!(
        "grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}&scope=read&resource=https%3A%2F%2Fapi.test"
    );
    let request =
        Request::post(&endpoint).header("content-type", "application/x-www-form-urlencoded").header("dpop", key.proof_for_token(&endpoint));
    let answer = fetch(request.body(full(form)).expect("a request")).await;
    assert_eq!(answer.json()["token_type"], "DPoP", "{}", answer.text());
    let token = answer.json()["access_token"].as_str().expect("a token").to_owned();
    let url = format!("{}/orders?x=1", gateway.url);
    let proof = key.proof("GET", &url, &token);
    for (proof, status) in [(Some(proof.clone()), 200), (Some(proof), 401), (None, 401)] {
        let mut request = Request::get(&url).header("authorization", format!("DPoP {token}"));
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        let answer = HttpClient::new().fetch(request.body(empty()).expect("a request")).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let stolen = Request::get(&url).header("authorization", format!("Bearer {token}"));
    assert_eq!(reason(&fetch(stolen.body(empty()).expect("a request")).await), "token-bound");
    assert_eq!(upstream.count(), 1);
    assert_eq!(upstream.last().header("x-forwarded-user").as_deref(), Some(CLIENT_ID));
}
