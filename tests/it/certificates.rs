//! Client certificates: tokens that are bound to one (RFC 8705 §3), somebody who is known by one, and the header in which a trusted proxy tells
//! of one (RFC 9440).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::time::Duration;

use http::Request;
use rcgen::{CertificateParams, DnType, SanType};
use serde_json::{Value, json};

use crate::harness::answer::Answer;
use crate::harness::body::{empty, full};
use crate::harness::certs::{CertificateAuthority, Leaf};
use crate::harness::dpop::ProvingKey;
use crate::harness::gateway::Gateway;
use crate::harness::http::{HttpClient, Protocol};
use crate::harness::jose::Algorithm;
use crate::harness::oidc_provider::{CLIENT_ID, CLIENT_SECRET, OidcProviderBuilder};
use crate::harness::scene::{Scene, reason};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::unix_now;

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];
const URI: &str = "spiffe://example.test/billing";

const ROUTES: &str = "
[[route]]
path = \"/api/\"
accept = [\"bearer\"]
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/bound/\"
accept = [\"bearer\"]
certificate_bound = \"required\"
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/who/\"
accept = [\"certificate\"]
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/billing/\"
accept = [\"certificate\"]
allow = { claims = { san_uri = [\"spiffe://example.test/billing\"] } }
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/any/\"
accept = [\"session\", \"bearer\", \"certificate\"]
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/people/\"
accept = [\"session\"]
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
";

/// Only what can be had without certificates.
fn without_certificates() -> &'static str {
    ROUTES.split("[[route]]\npath = \"/bound/\"").next().expect("the first route")
}

/// A gateway that ends TLS and asks for certificates of `clients`.
struct Tls {
    scene: Scene,
    servers: CertificateAuthority,
    clients: CertificateAuthority,
    _leaf: Leaf,
}

impl Tls {
    fn start(top: &str, rest: &str) -> Self {
        let (servers, clients) = (CertificateAuthority::new(), CertificateAuthority::new());
        let leaf = servers.leaf(&["localhost"]);
        let tables = format!(
            "[tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\nclient_ca_file = \"{}\"\n{rest}{ROUTES}",
            leaf.certificate_file().display(),
            leaf.key_file().display(),
            clients.file().display()
        );
        Self { scene: Scene::start_at("https://localhost:@PORT@", top, &tables), servers, clients, _leaf: leaf }
    }

    /// Somebody who shows this certificate.
    fn with(&self, leaf: &Leaf) -> HttpClient {
        HttpClient::new().trusting(self.servers.client_config_with(leaf))
    }

    /// Somebody who shows none.
    fn without(&self) -> HttpClient {
        HttpClient::new().trusting(self.servers.client_config())
    }

    async fn get(&self, http: &HttpClient, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(self.scene.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        http.fetch(request.body(empty()).expect("a request")).await
    }

    /// 401 for this reason, and the upstream was not asked.
    async fn refused(&self, http: &HttpClient, path: &str, headers: &[(&str, &str)], why: &str) -> Answer {
        let before = self.scene.upstream.count();
        let answer = self.get(http, path, headers).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, why), "{}", answer.text());
        assert!(answer.header("www-authenticate").is_some());
        assert_eq!(self.scene.upstream.count(), before, "{why}");
        answer
    }

    async fn let_in(&self, http: &HttpClient, path: &str, headers: &[(&str, &str)], user: &str) {
        let answer = self.get(http, path, headers).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.scene.upstream.last().header("x-forwarded-user").as_deref(), Some(user));
    }
}

fn bound_to(leaf: &Leaf) -> Value {
    json!({ "cnf": { "x5t#S256": leaf.thumbprint() } })
}

fn billing(params: &mut CertificateParams) {
    params.subject_alt_names = vec![SanType::URI(URI.try_into().expect("a URI"))];
    params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
}

const BILLING: &str = "O=Acme\\, Inc.,CN=billing";

fn is_invalid_token(answer: &Answer) {
    assert_eq!(answer.json()["error"], "invalid_token");
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer realm=\"doorward\", error=\"invalid_token\""), "{challenge}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_bound_to_a_certificate_counts_over_a_connection_with_it_and_no_other() {
    let tls = Tls::start("", "");
    let (own, other) = (tls.clients.leaf(&["billing"]), tls.clients.leaf(&["billing"]));
    let token = format!("Bearer {}", tls.scene.token(bound_to(&own)));
    let shown = [("authorization", token.as_str())];
    for protocol in BOTH {
        // Several times: later handshakes may be resumed ones, which show no certificate again.
        let (with_own, with_other) = (tls.with(&own).speaking(protocol), tls.with(&other).speaking(protocol));
        for path in ["/api/x", "/api/y", "/bound/x"] {
            tls.let_in(&with_own, path, &shown, "program").await;
        }
        is_invalid_token(&tls.refused(&with_other, "/api/x", &shown, "certificate-mismatch").await);
        is_invalid_token(&tls.refused(&tls.without().speaking(protocol), "/api/x", &shown, "certificate-missing").await);
        // A header says nothing here, and reaches nobody.
        let forged = [shown[0], ("client-cert", &*own.client_cert())];
        is_invalid_token(&tls.refused(&tls.without().speaking(protocol), "/api/x", &forged, "certificate-missing").await);
        is_invalid_token(&tls.refused(&with_other, "/api/x", &forged, "certificate-mismatch").await);
    }
    // A token that is bound to nothing is nobody's more than before; where bound ones are required it does not count.
    let unbound = format!("Bearer {}", tls.scene.token(json!({})));
    for http in [tls.with(&own), tls.without()] {
        tls.let_in(&http, "/api/x", &[("authorization", &unbound), ("Client-Cert", &own.client_cert())], "program").await;
        let seen = tls.scene.upstream.last();
        assert_eq!(seen.header("client-cert"), None, "{}", seen.everything());
        is_invalid_token(&tls.refused(&http, "/bound/x", &[("authorization", &unbound)], "certificate-required").await);
    }
    // Thumbprints are compared whole.
    for thumbprint in [String::new(), own.thumbprint()[..42].to_owned(), own.thumbprint() + "=", own.thumbprint().to_lowercase()] {
        let token = format!("Bearer {}", tls.scene.token(json!({ "cnf": { "x5t#S256": thumbprint } })));
        tls.refused(&tls.with(&own), "/api/x", &[("authorization", &token)], "certificate-mismatch").await;
    }
    // Bound twice is proven twice.
    let key = ProvingKey::new(Algorithm::Es256);
    let both = tls.scene.token(json!({ "cnf": { "jkt": key.jkt(), "x5t#S256": own.thumbprint() } }));
    let proof = || key.proof("GET", &tls.scene.url("/api/x"), &both);
    let dpop = format!("DPoP {both}");
    tls.let_in(&tls.with(&own), "/api/x", &[("authorization", &dpop), ("dpop", &proof())], "program").await;
    tls.refused(&tls.without(), "/api/x", &[("authorization", &dpop), ("dpop", &proof())], "certificate-missing").await;
    tls.refused(&tls.with(&own), "/api/x", &[("authorization", &dpop)], "dpop-proof-missing").await;
    tls.refused(&tls.with(&own), "/api/x", &[("authorization", &format!("Bearer {both}"))], "token-bound").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_nobody_we_trust_ends_the_handshake() {
    let tls = Tls::start("", "");
    let stranger = CertificateAuthority::new();
    let past = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    for leaf in [stranger.leaf(&["billing"]), tls.servers.leaf(&["billing"]), tls.clients.leaf_with(&["billing"], past)] {
        for protocol in BOTH {
            let http = tls.with(&leaf).speaking(protocol);
            let request = Request::get(tls.scene.url("/who/x")).body(empty()).expect("a request");
            assert!(http.try_fetch(request).await.is_err(), "it was let in");
        }
    }
    assert_eq!(tls.scene.upstream.count(), 0);
    // Without one the connection stands, for whatever else the gateway serves.
    assert_eq!(tls.get(&tls.without(), "/people/x", &[]).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_is_known_by_a_certificate_and_judged_by_the_policy() {
    let tls = Tls::start("", "");
    let (svc, other) = (tls.clients.leaf_with(&["billing"], billing), tls.clients.leaf(&["other"]));
    for protocol in BOTH {
        let http = tls.with(&svc).speaking(protocol);
        tls.let_in(&http, "/who/x", &[], BILLING).await;
        tls.let_in(&http, "/billing/x", &[], BILLING).await;
        let (http, before) = (tls.with(&other).speaking(protocol), tls.scene.upstream.count());
        let answer = tls.get(&http, "/billing/x", &[]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (403, "not-allowed"));
        assert_eq!(tls.scene.upstream.count(), before);
        tls.let_in(&http, "/who/x", &[], "CN=other").await;
    }
    let line = tls.scene.gateway.access_line("credential=certificate").await;
    assert!(line.contains("reason=allowed"), "{line}");
    // Nobody can be asked for one by HTTP: the answer says what is missing.
    for headers in [&[][..], &[("client-cert", &*svc.client_cert())], &[("cookie", "doorward=x")]] {
        let answer = tls.refused(&tls.without(), "/who/x", headers, "no-credential").await;
        assert_eq!(answer.header_all("www-authenticate"), ["Doorward-Certificate realm=\"doorward\""]);
    }
    assert_eq!(tls.get(&tls.without(), "/who/x", &[]).await.json()["error"], "certificate_required");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_before_the_certificate_and_the_certificate_before_the_session() {
    let tls = Tls::start("", "");
    let svc = tls.clients.leaf_with(&["billing"], billing);
    let (with, without) = (tls.with(&svc), tls.without());
    let session = session(&tls).await;
    let cookie = ("cookie", session.as_str());
    let token = format!("Bearer {}", tls.scene.token(json!({})));
    let expired = format!("Bearer {}", tls.scene.token(json!({ "exp": 1 })));
    tls.let_in(&without, "/any/x", &[cookie], "alice").await;
    tls.let_in(&with, "/any/x", &[cookie], BILLING).await;
    tls.let_in(&with, "/any/x", &[cookie, ("authorization", &token)], "program").await;
    tls.refused(&with, "/any/x", &[cookie, ("authorization", &expired)], "token-expired").await;
    // Where the route reads no certificate, one is nobody's credential.
    tls.let_in(&with, "/people/x", &[cookie], "alice").await;
    tls.refused(&with, "/people/x", &[], "no-credential").await;
    // What a browser shows by itself opens no WebSocket for other sites' pages.
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"), ("origin", "https://evil.test")];
    let before = tls.scene.upstream.count();
    let answer = tls.get(&with, "/who/x", &upgrade).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (403, "upgrade-origin"));
    assert_eq!(tls.scene.upstream.count(), before);
}

/// The `Cookie` line of somebody who signed in.
async fn session(tls: &Tls) -> String {
    let mut browser = crate::harness::browser::Browser::new().trusting(tls.servers.client_config());
    let page = browser.get(&tls.scene.url("/people/x")).await;
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    browser.cookie_header(&tls.scene.url("/people/x"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_while_its_connection_stands_no_longer_counts() {
    let tls = Tls::start("", "");
    let tomorrow = |params: &mut CertificateParams| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(unix_now() + 86_400);
    };
    let leaf = tls.clients.leaf_with(&["billing"], tomorrow);
    let url = tls.scene.url("/who/x").parse().expect("a URL");
    let mut connection = tls.with(&leaf).connect(&url).await.expect("a connection");
    let request = || Request::get(tls.scene.url("/who/x")).body(empty()).expect("a request");
    assert_eq!(connection.fetch(request()).await.status, 200);
    tls.scene.gateway.advance(Duration::from_secs(2 * 86_400));
    let answer = connection.fetch(request()).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "certificate-expired"), "{}", answer.text());
    assert_eq!(tls.scene.upstream.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kind_of_name_that_counts_has_to_be_there_once() {
    let names = |uris: &'static [&'static str]| {
        move |params: &mut CertificateParams| {
            params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("a URI"))).collect();
        }
    };
    let tls = Tls::start("", "[client_certificate]\nuser = \"san_uri\"\nissuer = \"https://pki.test\"\n");
    tls.let_in(&tls.with(&tls.clients.leaf_with(&["x"], names(&[URI]))), "/who/x", &[], URI).await;
    for uris in [&[][..], &[URI, "spiffe://example.test/other"]] {
        let leaf = tls.clients.leaf_with(&["x"], names(uris));
        // A good session beside it changes nothing, and a person is led to no login, which would not help.
        let page = [("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let answer = tls.get(&tls.with(&leaf), "/any/x", &page).await;
        assert_eq!((answer.status.as_u16(), answer.location()), (401, None));
        tls.refused(&tls.with(&leaf), "/any/x", &[], "certificate-nameless").await;
    }
    let good = tls.clients.leaf_with(&["x"], names(&[URI]));
    let told = tls.get(&tls.with(&good), "/oauth2/userinfo", &[]).await;
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!((&told.json()["sub"], &told.json()["iss"]), (&json!(URI), &json!("https://pki.test")));
    tls.refused(&tls.with(&tls.clients.leaf(&["x"])), "/oauth2/userinfo", &[], "certificate-nameless").await;
}

// --- behind a proxy that ends TLS

/// A gateway on plain http behind `trusted`, which tells of certificates in `Client-Cert`.
fn behind(trusted: &str) -> Scene {
    Scene::start(&format!("trusted_proxies = [\"{trusted}\"]\nclient_certificate = {{ header = \"Client-Cert\" }}\n"), ROUTES)
}

async fn refused(scene: &Scene, path: &str, headers: &[(&str, &str)], expected: (u16, &str)) {
    for protocol in BOTH {
        let before = scene.upstream.count();
        let answer = scene.send(protocol, "GET", path, headers).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), expected, "{path} {headers:?}: {}", answer.text());
        assert_eq!(scene.upstream.count(), before, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_tells_of_the_certificate_and_the_upstream_never_hears_of_it() {
    let (scene, authority) = (behind("127.0.0.1"), CertificateAuthority::new());
    let (own, other) = (authority.leaf_with(&["billing"], billing), authority.leaf(&["other"]));
    let token = format!("Bearer {}", scene.token(bound_to(&own)));
    let (shown, own, other) = (("authorization", token.as_str()), own.client_cert(), other.client_cert());
    let (own, other) = (("client-cert", own.as_str()), ("client-cert", other.as_str()));
    for protocol in BOTH {
        for (path, headers, user) in [
            ("/api/x", &[shown, own][..], "program"),
            ("/bound/x", &[own, shown], "program"),
            ("/billing/x", &[own], BILLING),
            ("/who/x", &[other], "CN=other"),
        ] {
            let more = [("client-cert-chain", own.1), ("client_cert", "root"), ("CLIENT-CERT_CHAIN", "root")];
            let answer = scene.send(protocol, "GET", path, &[headers, &more].concat()).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let seen = scene.upstream.last();
            assert_eq!(seen.header("x-forwarded-user").as_deref(), Some(user));
            assert!(
                !seen.everything().to_lowercase().contains("client-cert") && !seen.everything().contains("root"),
                "{}",
                seen.everything()
            );
        }
    }
    refused(&scene, "/api/x", &[shown, other], (401, "certificate-mismatch")).await;
    refused(&scene, "/api/x", &[shown], (401, "certificate-missing")).await;
    refused(&scene, "/who/x", &[], (401, "no-credential")).await;
    // Two, or one that is no byte sequence: a request with two readings.
    let bare = own.1.trim_matches(':');
    for headers in [
        &[own, own][..],
        &[own, other],
        &[("client-cert", "")],
        &[("client-cert", "::")],
        &[("client-cert", bare)],
        &[("client-cert", &*format!(":{bare}:, :{bare}:"))],
        &[("client-cert", &*format!(":{bare}:;a=1"))],
        &[("client-cert", ":-----BEGIN CERTIFICATE-----:")],
    ] {
        refused(&scene, "/who/x", headers, (400, "certificate-unreadable")).await;
        refused(&scene, "/api/x", &[headers, &[shown]].concat(), (400, "certificate-unreadable")).await;
    }
    // Bytes that are no certificate name nobody, and are bound to nothing.
    refused(&scene, "/who/x", &[("client-cert", ":AAAA:")], (401, "certificate-unreadable")).await;
    refused(&scene, "/api/x", &[shown, ("client-cert", ":AAAA:")], (401, "certificate-mismatch")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_anybody_else_the_header_means_nothing() {
    let authority = CertificateAuthority::new();
    let own = authority.leaf_with(&["billing"], billing);
    let header = own.client_cert();
    // A listed proxy, and this is not it.
    let scene = behind("10.9.8.7");
    let token = format!("Bearer {}", scene.token(bound_to(&own)));
    let shown = [("authorization", token.as_str()), ("client-cert", &*header), ("x-forwarded-for", "10.9.8.7")];
    refused(&scene, "/api/x", &shown, (401, "certificate-missing")).await;
    refused(&scene, "/who/x", &shown[1..], (401, "no-credential")).await;
    refused(&scene, "/who/x", &[("client-cert", "nonsense")], (401, "no-credential")).await;
    // Nobody is asked at all: bound tokens cannot be checked, and the header is taken out all the same.
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", without_certificates());
    let token = format!("Bearer {}", scene.token(bound_to(&own)));
    refused(&scene, "/api/x", &[("authorization", &token), ("client-cert", &header)], (401, "token-bound")).await;
    let unbound = format!("Bearer {}", scene.token(json!({})));
    let answer = scene.get("/api/x", &[("authorization", &unbound), ("client-cert", &header), ("client_cert", "root")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = scene.upstream.last();
    assert!(seen.header("client-cert").is_none() && !seen.everything().contains("root"), "{}", seen.everything());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_own_certificate_is_nobody_elses() {
    let rest = "[client_certificate]\nheader = \"X-Peer\"\n";
    let tls = Tls::start("trusted_proxies = [\"127.0.0.1\"]\n", rest);
    let (proxys, own) = (tls.clients.leaf(&["proxy"]), tls.clients.leaf_with(&["billing"], billing));
    let token = |leaf: &Leaf| format!("Bearer {}", tls.scene.token(bound_to(leaf)));
    tls.refused(&tls.with(&proxys), "/who/x", &[], "no-credential").await;
    tls.refused(&tls.with(&proxys), "/who/x", &[("client-cert", &own.client_cert())], "no-credential").await;
    tls.refused(&tls.with(&proxys), "/api/x", &[("authorization", &token(&proxys))], "certificate-missing").await;
    tls.let_in(&tls.with(&proxys), "/who/x", &[("x-peer", &own.client_cert())], BILLING).await;
    assert_eq!(tls.scene.upstream.last().header("x-peer"), None);
    tls.let_in(&tls.with(&proxys), "/api/x", &[("x-peer", &own.client_cert()), ("authorization", &token(&own))], "program").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_speaks_for_somebody_lends_them_no_certificate() {
    let tls = Tls::start("trusted_proxies = [\"127.0.0.1\"]\n", "");
    let proxys = tls.clients.leaf(&["proxy"]);
    let (http, token) = (tls.with(&proxys), format!("Bearer {}", tls.scene.token(bound_to(&proxys))));
    for of in ["203.0.113.9", "127.0.0.1", "unknown"] {
        tls.refused(&http, "/who/x", &[("x-forwarded-for", of)], "no-credential").await;
        tls.refused(&http, "/api/x", &[("x-forwarded-for", of), ("authorization", &token)], "certificate-missing").await;
    }
    tls.refused(&http, "/who/x", &[("forwarded", "for=203.0.113.9")], "no-credential").await;
    // Of itself it may say who it is; and from a peer that is not listed the header means nothing.
    tls.let_in(&http, "/who/x", &[], "CN=proxy").await;
    tls.let_in(&http, "/api/x", &[("authorization", &token)], "program").await;
    let tls = Tls::start("", "");
    let own = tls.clients.leaf(&["own"]);
    tls.let_in(&tls.with(&own), "/who/x", &[("x-forwarded-for", "203.0.113.9")], "CN=own").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_auth_goes_by_the_header_and_never_by_the_front_proxys_connection() {
    let ask = |host: &str, uri: &'static str, more: &[(&'static str, String)]| -> Vec<(&'static str, String)> {
        let about = [("x-original-method", "GET"), ("x-original-uri", uri), ("x-forwarded-proto", "https")];
        let about = about.into_iter().map(|(name, value)| (name, value.to_owned()));
        about.chain([("x-forwarded-host", host.to_owned())]).chain(more.iter().cloned()).collect()
    };
    for header in [false, true] {
        let rest = if header { "[client_certificate]\nheader = \"Client-Cert\"\n" } else { "" };
        let tls = Tls::start("trusted_proxies = [\"127.0.0.1\"]\n", rest);
        let (front, own) = (tls.clients.leaf(&["front"]), tls.clients.leaf_with(&["billing"], billing));
        let http = tls.with(&front);
        let host = tls.scene.url("").trim_start_matches("https://").to_owned();
        let asked = async |uri: &'static str, more: &[(&'static str, String)]| {
            let headers = ask(&host, uri, more);
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = tls.get(&http, "/oauth2/auth", &headers).await;
            let word = if answer.status == 200 { answer.header("x-auth-request-user").unwrap().to_owned() } else { reason(&answer) };
            (answer.status.as_u16(), word)
        };
        let shown = ("client-cert", own.client_cert());
        let token = ("authorization", format!("Bearer {}", tls.scene.token(bound_to(&own))));
        let fronts = ("authorization", format!("Bearer {}", tls.scene.token(bound_to(&front))));
        let is = |status: u16, word: &str| (status, word.to_owned());
        assert_eq!(asked("/who/x", &[]).await, is(401, "no-credential"));
        assert_eq!(asked("/api/x", &[fronts]).await, is(401, "certificate-missing"));
        if header {
            assert_eq!(asked("/who/x", std::slice::from_ref(&shown)).await, is(200, BILLING));
            assert_eq!(asked("/api/x", &[shown.clone(), token.clone()]).await, is(200, "program"));
            assert_eq!(asked("/who/x", &[shown.clone(), shown]).await, is(401, "certificate-unreadable"));
        } else {
            assert_eq!(asked("/who/x", std::slice::from_ref(&shown)).await, is(401, "no-credential"));
            assert_eq!(asked("/api/x", &[shown, token]).await, is(401, "certificate-missing"));
        }
        assert_eq!(tls.scene.upstream.count(), 0);
    }
}

// --- the real provider

#[tokio::test(flavor = "multi_thread")]
async fn the_real_providers_certificate_bound_tokens_work_with_their_certificate() {
    let (servers, clients, upstream) = (CertificateAuthority::new(), CertificateAuthority::new(), EchoUpstream::start());
    let provider = OidcProviderBuilder::new("https://localhost/callback")
        .tls(&servers, "localhost")
        .client_certificates(&clients)
        .client("grant_types", json!(["client_credentials"]))
        .client("response_types", json!([]))
        .client("redirect_uris", json!([]))
        .client("token_endpoint_auth_method", json!("client_secret_post"))
        .client("tls_client_certificate_bound_access_tokens", json!(true))
        .set("resources", json!({ "https://api.test": { "scope": "read" } }))
        .start()
        .await;
    let (issuer, leaf) = (provider.issuer(), servers.leaf(&["localhost"]));
    let gateway = Gateway::start(&format!(
        "public_url = \"https://localhost:@PORT@\"\nstore.kind = \"memory\"\n[tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n\
         client_ca_file = \"{}\"\n[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"https://api.test\"\ntls = {{ ca_file = \"{}\" }}\n\
         [[route]]\naccept = [\"bearer\"]\ncertificate_bound = \"required\"\nallow = {{ scopes = [\"read\"] }}\nupstream = \"{}\"\n",
        leaf.certificate_file().display(),
        leaf.key_file().display(),
        clients.file().display(),
        servers.file().display(),
        upstream.url()
    ));
    let (own, other) = (clients.leaf(&["program"]), clients.leaf(&["thief"]));
    let form = format!(
        "grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}&scope=read&resource=https%3A%2F%2Fapi.test"
    );
    let request = Request::post(format!("{issuer}/token")).header("content-type", "application/x-www-form-urlencoded");
    let http = HttpClient::new().trusting(servers.client_config_with(&own));
    let answer = http.fetch(request.body(full(form)).expect("a request")).await;
    assert_eq!(answer.status, 200, "{} {}", answer.text(), provider.output());
    let token = answer.json()["access_token"].as_str().expect("a token").to_owned();
    let url = format!("https://localhost:{}/orders", gateway.address.port());
    for (http, status, why) in [
        (http, 200, ""),
        (HttpClient::new().trusting(servers.client_config_with(&other)), 401, "certificate-mismatch"),
        (HttpClient::new().trusting(servers.client_config()), 401, "certificate-missing"),
    ] {
        let request = Request::get(&url).header("authorization", format!("Bearer {token}"));
        let answer = http.fetch(request.body(empty()).expect("a request")).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(why.is_empty() || reason(&answer) == why, "{}", answer.text());
    }
    assert_eq!(upstream.count(), 1);
    assert_eq!(upstream.last().header("x-forwarded-user").as_deref(), Some(CLIENT_ID));
}
