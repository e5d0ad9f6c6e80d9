//! Forward-auth: a front proxy asks about a request of its own. First by hand, then with the real nginx and the real Caddy in front, by the
//! files in `deploy/` as they are written there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use http::Method;
use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::browser::Browser;
use crate::harness::certs::CertificateAuthority;
use crate::harness::fronts::{self, Front};
use crate::harness::gateway::{Gateway, provider};
use crate::harness::hostile::HostileProvider;
use crate::harness::http::{HttpClient, Protocol};
use crate::harness::raw;
use crate::harness::scene::{Scene, raw_reason, reason};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::free_port;
use crate::harness::websocket::WebSocket;

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]\n";
const ROUTES: &str = "
[policy.staff]
groups = [\"staff\"]
[policy.robots]
scopes = [\"run\"]
[[route]]
path = \"/public/\"
access = \"public\"
[[route]]
path = \"/optional/\"
access = \"optional\"
accept = [\"session\", \"bearer\"]
[[route]]
path = \"/app/\"
allow = \"any-authenticated\"
origins = [\"https://listed.test\"]
[[route]]
path = \"/api/\"
accept = [\"bearer\"]
allow = { scopes = [\"read\"] }
[[route]]
path = \"/staff/\"
policy = \"staff\"
";

/// A question about a request to `uri`, as the nginx snippet asks it, with more headers.
async fn ask(scene: &Scene, endpoint: &str, uri: &str, more: &[(&str, &str)]) -> Answer {
    let host = scene.host();
    let about = [("x-original-method", "GET"), ("x-original-uri", uri), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
    let headers: Vec<(&str, &str)> = about.into_iter().chain(more.iter().copied()).collect();
    let answer = scene.get(endpoint, &headers).await;
    lawful(endpoint, &answer);
    answer
}

/// What holds for every answer to a front proxy.
fn lawful(endpoint: &str, answer: &Answer) {
    let known: &[u16] = if endpoint.contains("forward") { &[200, 303, 401, 403, 503] } else { &[200, 401, 403, 503] };
    assert!(known.contains(&answer.status.as_u16()), "{endpoint}: {} {}", answer.status, answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{endpoint}: {}", answer.status);
    assert_eq!(answer.header("www-authenticate").is_some(), answer.status == 401 || insufficient(answer), "{endpoint}: {answer:?}");
    assert_eq!(answer.header("retry-after").is_some(), answer.status == 503, "{endpoint}");
}

fn insufficient(answer: &Answer) -> bool {
    answer.status == 403 && answer.text().contains("insufficient-scope")
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), reason(answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_which_request_was_asked_about_and_not_its_query() {
    let scene = Scene::start(TRUSTED, ROUTES);
    assert_eq!(ask(&scene, "/oauth2/auth", "/app//x?code=secret", &[]).await.status, 401);
    assert_eq!(ask(&scene, "/oauth2/auth", "/nowhere", &[]).await.status, 403);
    for (reason, path) in [("no-credential", "/app/x"), ("no-route", "/nowhere")] {
        let line = scene.gateway.access_line(&format!("path=/oauth2/auth reason={reason}")).await;
        assert!(line.contains(&format!(" about=\"GET {}{path}\"", scene.host())) && !line.contains("secret"), "{line}");
    }
    scene.get("/oauth2/userinfo", &[]).await;
    assert!(!scene.gateway.access_line("path=/oauth2/userinfo").await.contains("about="));
}

// --- by hand

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_in_statuses_that_nginx_knows() {
    let dead = format!("http://127.0.0.1:{}", free_port());
    let scene = Scene::start(TRUSTED, &format!("[[token_issuer]]\nissuer = \"{dead}\"\naudience = \"api\"\n{ROUTES}"));
    let session = scene.session().await;
    let bearer = |claims| format!("Bearer {}", scene.token(claims));
    let (good, narrow, unasked) = (bearer(json!({ "scope": "read" })), bearer(json!({})), bearer(json!({ "iss": dead })));
    let expired = bearer(json!({ "exp": 1 }));
    let cookie = ("cookie", session.as_str());
    for endpoint in ["/oauth2/auth", "/oauth2/forward"] {
        for (uri, headers, status, word) in [
            ("/public/x", &[][..], 200, ""),
            ("/optional/x", &[], 200, ""),
            ("/app/x", &[], 401, "no-credential"),
            ("/app/x?a=b", &[cookie], 200, "alice"),
            ("/optional/x", &[cookie], 200, "alice"),
            ("/optional/x", &[cookie, ("authorization", expired.as_str())], 401, "token-expired"),
            ("/api/x", &[], 401, "no-credential"),
            ("/api/x", &[("authorization", "Basic YTpi")], 401, "no-credential"),
            ("/api/x", &[("authorization", "Bearer a b")], 401, "authorization-malformed"),
            ("/api/x", &[("authorization", expired.as_str())], 401, "token-expired"),
            ("/api/x", &[("authorization", narrow.as_str())], 403, "insufficient-scope"),
            ("/api/x", &[("authorization", good.as_str())], 200, "program"),
            ("/api/x", &[("authorization", unasked.as_str())], 503, "keys-unreachable"),
            ("/api/x", &[("authorization", good.as_str()), ("authorization", good.as_str())], 403, "authorization-repeated"),
            ("/staff/x", &[cookie], 200, "alice"),
            ("/nowhere", &[], 403, "no-route"),
            ("/nowhere", &[cookie], 403, "no-route"),
            ("/app/%2e%2e/public/x", &[], 401, "path-ambiguous"),
            ("/app/%2e%2e/public/x", &[cookie], 403, "path-ambiguous"),
            ("/app/x%2fy", &[cookie], 403, "encoded-slash"),
            ("relative", &[cookie], 403, "path-ambiguous"),
        ] {
            let answer = ask(&scene, endpoint, uri, headers).await;
            assert_eq!(answer.status, status, "{endpoint} {uri} {headers:?}: {}", answer.text());
            if status == 200 {
                let user = (!word.is_empty()).then_some(word);
                assert_eq!((answer.header("x-auth-request-user"), answer.body.len()), (user, 0), "{endpoint} {uri} {headers:?}");
            } else {
                assert_eq!(reason(&answer), word, "{endpoint} {uri} {headers:?}");
                assert_eq!(answer.header("x-auth-request-user"), None);
                assert_eq!(answer.set_cookies(), Vec::<&str>::new(), "{endpoint} {uri}");
            }
        }
    }
    let challenge = ask(&scene, "/oauth2/auth", "/api/x", &[]).await;
    let metadata = scene.url("/.well-known/oauth-protected-resource/api");
    let expected = format!("Bearer realm=\"doorward\", resource_metadata=\"{metadata}\"");
    assert_eq!(challenge.header("www-authenticate"), Some(expected.as_str()));
    let challenge = ask(&scene, "/oauth2/auth", "/app/x", &[]).await;
    assert_eq!(challenge.header("www-authenticate"), Some("Doorward-Session realm=\"doorward\""));
    scene.gateway.access_line("path=/oauth2/auth reason=keys-unreachable").await;

    scene.provider.set_user(json!({ "sub": "bob", "groups": ["guests"] }));
    let bob = scene.session().await;
    for endpoint in ["/oauth2/auth", "/oauth2/forward"] {
        let answer = ask(&scene, endpoint, "/staff/x", &[("cookie", &bob)]).await;
        assert_eq!(refused(&answer), (403, "not-allowed".to_owned()));
    }
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_method_that_counts_is_the_forwarded_one() {
    let routes = "[[route]]\npath = \"/x\"\nmethods = [\"GET\"]\naccess = \"public\"\n[[route]]\npath = \"/x\"\nmethods = [\"DELETE\"]\nallow = \"any-authenticated\"\n";
    let scene = Scene::start(TRUSTED, routes);
    let host = scene.host();
    for (asked_with, about, status) in [
        ("GET", "GET", 200),
        ("GET", "DELETE", 401),
        ("DELETE", "GET", 200),
        ("HEAD", "GET", 200),
        ("GET", "PUT", 403),
        ("GET", "get", 403),
    ] {
        let headers = [("x-original-method", about), ("x-original-uri", "/x"), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
        let answer = scene.send(Protocol::Http1, asked_with, "/oauth2/auth", &headers).await;
        assert_eq!(answer.status, status, "{asked_with} about {about}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_listed_peer_is_answered() {
    for top in ["", "trusted_proxies = [\"192.0.2.1\"]\n"] {
        let scene = Scene::start(top, ROUTES);
        let session = scene.session().await;
        let token = format!("Bearer {}", scene.token(json!({ "scope": "read" })));
        for endpoint in ["/oauth2/auth", "/oauth2/forward"] {
            for (uri, headers, status) in [
                ("/public/x", &[][..], 401),
                ("/app/x", &[], 401),
                ("/app/x", &[("cookie", session.as_str())], 403),
                ("/public/x", &[("cookie", session.as_str())], 403),
                ("/api/x", &[("authorization", token.as_str())], 403),
                ("/app/x", &[("cookie", session.as_str()), ("x-forwarded-for", "192.0.2.1")], 403),
            ] {
                let answer = ask(&scene, endpoint, uri, headers).await;
                assert_eq!(refused(&answer), (status, "peer-not-trusted".to_owned()), "{uri} {headers:?}");
            }
        }
    }
}

/// SECURITY 4: health is told by path and listener, never by who says they are asking.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_agent_opens_nothing() {
    let scene = Scene::start(TRUSTED, ROUTES);
    for agent in [Some("GoogleHC/1.0"), Some("kube-probe/1.30"), Some("ELB-HealthChecker/2.0"), Some(""), None] {
        let headers: Vec<(&str, &str)> = agent.iter().map(|agent| ("user-agent", *agent)).collect();
        assert_eq!(refused(&ask(&scene, "/oauth2/auth", "/app/x", &headers).await), (401, "no-credential".to_owned()), "{agent:?}");
        // Without a word of what is asked about, too.
        let answer = scene.get("/oauth2/auth", &headers).await;
        lawful("/oauth2/auth", &answer);
        assert_eq!(refused(&answer), (401, "forwarded-missing".to_owned()), "{agent:?}");
        assert_eq!(refused(&scene.get("/app/x", &headers).await), (401, "no-credential".to_owned()), "{agent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_without_a_clear_subject_is_denied() {
    for (set, names) in [
        ("nginx", ["x-original-method", "x-original-uri", "x-forwarded-host", "x-forwarded-proto"]),
        ("caddy", ["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host", "x-forwarded-proto"]),
    ] {
        let scene = Scene::start(TRUSTED, &format!("[forward_auth]\nheaders = \"{set}\"\n{ROUTES}"));
        let (host, session) = (scene.host(), scene.session().await);
        let values = ["GET", "/public/x", &host, "http"];
        let about: Vec<(&str, &str)> = names.into_iter().zip(values).collect();
        assert_eq!(scene.get("/oauth2/auth", &about).await.status, 200, "{set}");
        let mut cases: Vec<(Vec<(&str, &str)>, &str)> = Vec::new();
        for at in 0..names.len() {
            let (mut missing, mut doubled, mut other) = (about.clone(), about.clone(), about.clone());
            missing.remove(at);
            doubled.push(about[at]);
            other.insert(at, (names[at], ["POST", "/app/x", "evil.test", "https"][at]));
            cases.extend([(missing, "forwarded-missing"), (doubled, "forwarded-ambiguous"), (other, "forwarded-ambiguous")]);
        }
        for (at, value, word) in [
            (0, "GET /", "forwarded-ambiguous"),
            (1, "/public/x#y", "forwarded-ambiguous"),
            (1, "/public/../app\\x", "path-ambiguous"),
            (2, "evil.test", "host-unknown"),
            (2, "own.test, evil.test", "forwarded-ambiguous"),
            (2, "user@own.test", "forwarded-ambiguous"),
            (3, "gopher", "forwarded-ambiguous"),
            (3, "http, https", "forwarded-ambiguous"),
        ] {
            let mut odd = about.clone();
            odd[at].1 = value;
            cases.push((odd, word));
        }
        // The other set says nothing here.
        let others = if set == "nginx" { ["x-forwarded-method", "x-forwarded-uri"] } else { ["x-original-method", "x-original-uri"] };
        cases.push((others.into_iter().chain([names[2], names[3]]).zip(values).collect(), "forwarded-missing"));
        for (headers, word) in cases {
            for endpoint in ["/oauth2/auth", "/oauth2/forward"] {
                let answer = scene.get(endpoint, &headers).await;
                lawful(endpoint, &answer);
                assert_eq!(refused(&answer), (401, word.to_owned()), "{set} {headers:?}");
                let with: Vec<(&str, &str)> = headers.iter().copied().chain([("cookie", session.as_str())]).collect();
                let answer = scene.get(endpoint, &with).await;
                lawful(endpoint, &answer);
                assert_eq!(refused(&answer), (403, word.to_owned()), "{set} {with:?}");
            }
        }
        // What a browser sent of the other set, and the front proxy passed on, changes nothing.
        let mut private = about.clone();
        private[1].1 = "/app/x";
        private.extend(others.into_iter().zip(["GET", "/public/x"]));
        private.extend([("x-rewrite-url", "/public/x"), ("x-original-url", "/public/x"), ("forwarded", "host=evil.test")]);
        assert_eq!(refused(&scene.get("/oauth2/auth", &private).await), (401, "no-credential".to_owned()), "{set}");
    }
}

/// Front proxies put the gateway's own address into `Host`; the forwarded host is the one that counts.
#[tokio::test(flavor = "multi_thread")]
async fn the_host_of_the_question_does_not_count() {
    let scene = Scene::start(TRUSTED, ROUTES);
    let own = format!("X-Forwarded-Host: {}", scene.host());
    let session = format!("Cookie: {}", scene.session().await);
    let about = ["X-Original-Method: GET", "X-Original-URI: /app/x", "X-Forwarded-Proto: http"];
    let ask = |host: &'static str, lines: &[&str]| {
        let lines: Vec<&str> = about.iter().chain(lines).copied().collect();
        let request = raw::request("GET", "/oauth2/auth", host, &lines);
        raw::raw_answer(scene.gateway.address, request)
    };
    for host in ["doorward:4180", "10.1.2.3", "not a host"] {
        let answer = ask(host, &[&own]).await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (401, "no-credential"), "{host}");
        assert_eq!(ask(host, &[&own, &session]).await.status, 200, "{host}");
        let answer = ask(host, &["X-Forwarded-Host: evil.test", &session]).await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (403, "host-unknown"), "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_policy_narrows_and_rules_in_the_query_are_refused() {
    let scene = Scene::start(TRUSTED, ROUTES);
    let alice = scene.session().await;
    scene.provider.set_user(json!({ "sub": "bob", "groups": ["guests"] }));
    let bob = scene.session().await;
    for endpoint in ["/oauth2/auth", "/oauth2/forward"] {
        for (query, uri, cookie, status, word) in [
            ("?policy=staff", "/app/x", Some(&alice), 200, ""),
            ("?policy=staff", "/app/x", Some(&bob), 403, "not-allowed"),
            ("", "/app/x", Some(&bob), 200, ""),
            ("?policy=staff", "/app/x", None, 401, "no-credential"),
            ("?policy=robots", "/app/x", Some(&alice), 403, "insufficient-scope"),
            ("?policy=staff", "/optional/x", Some(&bob), 403, "not-allowed"),
            ("?policy=staff", "/optional/x", Some(&alice), 200, ""),
            ("?policy=staff", "/optional/x", None, 401, "no-credential"),
            ("?policy=staff", "/public/x", Some(&alice), 403, "policy-unknown"),
            ("?policy=nobody", "/app/x", Some(&alice), 403, "policy-unknown"),
            ("?policy=nobody", "/public/x", None, 403, "policy-unknown"),
            ("?policy=", "/app/x", Some(&alice), 403, "policy-unknown"),
            ("?policy=staff&policy=staff", "/app/x", Some(&alice), 403, "parameter-repeated"),
            ("?allowed_groups=staff", "/app/x", Some(&alice), 403, "inline-rule"),
            ("?allowed_groups=", "/public/x", None, 403, "inline-rule"),
            ("?allowed_emails=a@b.test", "/app/x", Some(&alice), 403, "inline-rule"),
            ("?allowed_email_domains=b.test", "/app/x", None, 403, "inline-rule"),
            ("?policy=staff&allowed_groups=staff", "/app/x", Some(&alice), 403, "inline-rule"),
            ("?polcy=staff", "/app/x", Some(&alice), 403, "parameter-invalid"),
        ] {
            let headers: Vec<(&str, &str)> = cookie.iter().map(|cookie| ("cookie", cookie.as_str())).collect();
            let answer = ask(&scene, &format!("{endpoint}{query}"), uri, &headers).await;
            assert_eq!(answer.status, status, "{endpoint}{query} {uri}: {}", answer.text());
            if status != 200 {
                assert_eq!(reason(&answer), word, "{endpoint}{query} {uri}");
            }
        }
    }
    // The query of the request that is asked about is the browser's own.
    assert_eq!(ask(&scene, "/oauth2/auth", "/app/x?policy=nobody&allowed_groups=x", &[("cookie", &bob)]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_leads_a_person_to_the_login_and_shows_pages() {
    let scene = Scene::start(TRUSTED, ROUTES);
    let navigates = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("accept", "text/html")];
    let answer = ask(&scene, "/oauth2/forward", "/app/x?a=b", &navigates).await;
    assert_eq!(answer.status, 303);
    assert!(answer.location().unwrap().starts_with(&scene.provider.issuer()), "{:?}", answer.location());
    assert!(answer.set_cookies().iter().any(|line| line.starts_with("doorward-flow-")));
    // `auth` never redirects, and a program is never redirected.
    assert_eq!(ask(&scene, "/oauth2/auth", "/app/x", &navigates).await.status, 401);
    assert_eq!(ask(&scene, "/oauth2/forward", "/app/x", &[("accept", "application/json")]).await.status, 401);
    // Where no session is read a login would only lead back here.
    for headers in [&navigates[..], &[("accept", "application/json")]] {
        for endpoint in ["/oauth2/auth", "/oauth2/forward"] {
            let answer = ask(&scene, endpoint, "/api/x", headers).await;
            assert_eq!(answer.status, 401, "{endpoint} {headers:?}");
            assert!(answer.set_cookies().is_empty() && !answer.text().contains("/oauth2/start"), "{endpoint}: {}", answer.text());
            assert!(answer.text().contains("Bearer token"), "{endpoint}: {}", answer.text());
        }
    }

    scene.provider.set_user(json!({ "sub": "bob", "groups": ["guests"], "preferred_username": "bob" }));
    let bob = scene.session().await;
    let mut headers = navigates.to_vec();
    headers.push(("cookie", &bob));
    let page = ask(&scene, "/oauth2/forward", "/staff/x", &headers).await;
    assert!(page.status == 403 && page.text().contains("not-allowed") && page.text().contains("bob"), "{}", page.text());

    // A session that is over is taken away from whoever goes to the login; a program that meets its end leaves the cookie, which still tells whose
    // form may be kept.
    let another = scene.session().await;
    scene.gateway.advance(std::time::Duration::from_secs(12 * 60 * 60 + 30 * 60));
    let deleted = |line: &&str| line.starts_with("doorward=;") && line.contains("Max-Age=0");
    for (endpoint, session) in [("/oauth2/auth", &bob), ("/oauth2/forward", &another)] {
        let answer = ask(&scene, endpoint, "/app/x", &[("cookie", session)]).await;
        assert_eq!(refused(&answer), (401, "session-idle".to_owned()));
        assert!(answer.set_cookies().is_empty(), "{answer:?}");
        let mut headers = navigates.to_vec();
        headers.push(("cookie", session));
        let answer = ask(&scene, endpoint, "/app/x", &headers).await;
        assert_eq!(answer.status, if endpoint == "/oauth2/auth" { 401 } else { 303 });
        assert!(answer.set_cookies().iter().any(deleted), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_from_a_foreign_page_is_denied_here_too() {
    let scene = Scene::start(TRUSTED, ROUTES);
    let (session, own) = (scene.session().await, scene.gateway.url.clone());
    let cookie = ("cookie", session.as_str());
    let handshake = ("sec-websocket-version", "13");
    for (headers, status) in [
        (&[cookie, handshake, ("origin", "https://evil.test")][..], 403),
        (&[cookie, ("upgrade", "websocket"), ("connection", "upgrade"), ("origin", "https://evil.test")], 403),
        (&[cookie, handshake, ("origin", "null")], 403),
        (&[cookie, handshake, ("origin", "https://listed.test")], 200),
        (&[cookie, handshake, ("origin", own.as_str())], 200),
        (&[cookie, handshake], 200),
        (&[cookie, ("origin", "https://evil.test")], 200),
    ] {
        let answer = ask(&scene, "/oauth2/auth", "/app/ws", headers).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
        if status == 403 {
            assert_eq!(reason(&answer), "upgrade-origin", "{headers:?}");
        }
    }
}

// --- behind real front proxies

/// A front proxy with a snippet of ours, an app behind it, and the gateway beside it: `https://app.example.com`, wherever that is.
struct Behind {
    gateway: Gateway,
    provider: HostileProvider,
    app: EchoUpstream,
    front: Front,
    authority: CertificateAuthority,
}

const SITE: &str = "https://app.example.com";

impl Behind {
    /// `snippet` is a file of `deploy/`; what stands for addresses and files in it is replaced, each of it has to be there.
    async fn start(snippet: &str, set: &str, replace: &[(&str, &str)]) -> Self {
        let port = free_port();
        let (authority, identity_provider, app) = (CertificateAuthority::new(), HostileProvider::start(), EchoUpstream::start());
        let leaf = authority.leaf(&["app.example.com"]);
        let path = format!("{}/deploy/{snippet}", env!("CARGO_MANIFEST_DIR"));
        let mut text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (gateway_address, app_address) = (format!("127.0.0.1:{port}"), app.address().to_string());
        let (certificate, key) = (leaf.certificate_file().display().to_string(), leaf.key_file().display().to_string());
        let own = [
            ("127.0.0.1:4180", gateway_address.as_str()),
            ("127.0.0.1:8080", &app_address),
            ("/etc/ssl/app.example.com.crt", &certificate),
            ("/etc/ssl/app.example.com.key", &key),
        ];
        for (from, to) in own.iter().chain(replace) {
            assert!(text.contains(from), "{path} does not hold {from}");
            text = text.replace(from, to);
        }
        let front = if set == "nginx" { fronts::nginx(&text, &[]).await } else { fronts::caddy(&text, &[]).await };
        let sign_in = provider(&identity_provider.issuer(), identity_provider.client_id(), identity_provider.client_secret());
        let issuer = format!("[[token_issuer]]\nissuer = \"{}\"\naudience = \"api\"\n", identity_provider.issuer());
        let forward_auth = format!("[forward_auth]\nheaders = \"{set}\"\n[store]\nkind = \"memory\"\n");
        let config = format!("public_url = \"{SITE}\"\n{TRUSTED}{forward_auth}{sign_in}{issuer}{ROUTES}");
        let gateway = Gateway::start_on(port, &config);
        Self { gateway, provider: identity_provider, app, front, authority }
    }

    fn browser(&self) -> Browser {
        Browser::new().resolve("app.example.com", self.front.address()).trusting(self.authority.client_config())
    }

    fn http(&self) -> HttpClient {
        HttpClient::new().at(self.front.address()).trusting(self.authority.client_config())
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = http::Request::get(format!("{SITE}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.http().fetch(request.body(crate::harness::body::empty()).unwrap()).await
    }

    /// What the snippets have in common.
    async fn a_person_gets_in_and_nobody_else(&mut self) {
        let mut browser = self.browser();
        let page = browser.get(&format!("{SITE}/app/x?a=1&b=%2F2&c")).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), page.url.as_str()), (200, "https://app.example.com/app/x?a=1&b=%2F2&c"), "{}", page.text());
        let seen = self.app.last();
        assert_eq!((seen.target.as_str(), self.app.count()), ("/app/x?a=1&b=%2F2&c", 1));
        assert_eq!(seen.header_all("x-forwarded-user"), ["alice"]);
        assert_eq!(seen.header_all("x-forwarded-email"), ["alice@example.test"]);
        assert_eq!(seen.header_all("x-forwarded-groups"), ["staff,users"]);
        assert!(!seen.everything().contains("__Host-doorward="), "the session's cookie reached the app: {}", seen.everything());

        // What is forged does not arrive, with a session or without one.
        let cookie = format!("a=b; {}; c=d", browser.cookie_header(SITE));
        let forged = [
            ("x-forwarded-user", "forged"),
            ("x_forwarded_user", "forged"),
            ("x-forwarded-email", "forged"),
            ("x-forwarded-preferred-username", "forged"),
            ("x-forwarded-groups", "forged"),
            ("x_forwarded-groups", "forged"),
            ("x-auth-request-user", "forged"),
            ("x-auth-request-groups", "forged"),
            ("x-forwarded-host", "forged.test"),
            ("x-forwarded-proto", "forged"),
            ("x-original-uri", "/public/x"),
            ("x-original-method", "OPTIONS"),
            ("x-forwarded-uri", "/public/x"),
            ("x-forwarded-method", "OPTIONS"),
        ];
        let with: Vec<(&str, &str)> = forged.iter().copied().chain([("cookie", cookie.as_str())]).collect();
        for (path, headers, user) in [("/app/x", &with[..], Some("alice")), ("/public/x", &forged[..], None), ("/public/x", &with, None)] {
            let answer = self.get(path, headers).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let seen = self.app.last();
            assert_eq!(seen.header_all("x-forwarded-user"), user.into_iter().collect::<Vec<_>>(), "{path}");
            assert!(!seen.everything().contains("forged"), "{path}: {}", seen.everything());
            assert!(!seen.everything().contains("__Host-doorward="), "{path}: {}", seen.everything());
            if headers.len() > forged.len() {
                assert_eq!(seen.header("cookie").map(|line| line.contains("a=b") && line.contains("c=d")), Some(true), "{path}");
            }
        }
        // Tokens and keys of ours go no further; what looks otherwise is the app's.
        for (name, own, value) in [
            ("authorization", true, "Bearer doorward_st_AAAA"),
            ("authorization", true, "dpop  doorward_st_AAAA"),
            ("authorization", true, "bearer dwk_0123"),
            ("x-api-key", true, "dwk_0123"),
            ("authorization", false, "Bearer of-the-app"),
            ("authorization", false, "Basic ZG9vcndhcmRfc3Rf"),
            ("x-api-key", false, "of-the-app"),
        ] {
            assert_eq!(self.get("/public/x", &[(name, value)]).await.status, 200);
            assert_eq!(self.app.last().header(name).as_deref(), (!own).then_some(value), "{name}: {value}");
        }
        // Nor does a browser get an answer by asking for itself: it holds what is meant for the app.
        let own = [
            ("x-original-uri", "/app/x"),
            ("x-original-method", "GET"),
            ("x-forwarded-uri", "/app/x"),
            ("x-forwarded-method", "GET"),
            ("x-forwarded-host", "app.example.com"),
            ("x-forwarded-proto", "https"),
            ("cookie", cookie.as_str()),
        ];
        for path in [
            "/oauth2/auth",
            "/oauth2/forward",
            "/oauth2/forward/",
            "/oauth2/%61uth",
            "/oauth2/f%6frward",
            "/oauth2//auth",
            "/oauth2/x/../forward",
        ] {
            let answer = self.get(path, &own).await;
            assert!((400..500).contains(&answer.status.as_u16()), "{path}: {answer:?}");
            assert_eq!(answer.header("x-auth-request-user"), None, "{path}");
        }
        self.app.reset();
        let program = [("accept", "application/json")];
        let answer = self.get("/app/x", &forged).await;
        assert!([401, 302, 303].contains(&answer.status.as_u16()), "{}", answer.status);
        let answer = self.get("/app/x", &program).await;
        assert!(answer.status == 401 && answer.header("www-authenticate").is_some(), "a program is told: {answer:?}");
        for path in ["/public/../app/x", "/public/%2e%2e/app/x", "//app/x", "/public/..%2fapp/x", "/public/..;/app/x"] {
            let request = raw::request("GET", path, "app.example.com", &[]);
            let mut connection =
                raw::RawConnection::open_tls(self.front.address(), "app.example.com", self.authority.client_config()).await.unwrap();
            connection.send(request).await;
            let answer = raw::RawAnswer::parse_all(&connection.read_answers().await).remove(0);
            assert!((300..500).contains(&answer.status), "{path}: {}", answer.status);
        }
        // bob is known, and not in the group.
        self.provider.set_user(json!({ "sub": "bob", "email": "bob@example.test", "email_verified": true, "groups": ["guests"] }));
        let mut bob = self.browser();
        let page = bob.get(&format!("{SITE}/staff/x")).await;
        let page = bob.follow_all(page).await;
        assert_eq!((page.status.as_u16(), self.app.count()), (403, 0), "{}", page.text());
        assert_eq!(bob.get(&format!("{SITE}/app/x")).await.status, 200);
        assert_eq!(self.app.last().header_all("x-forwarded-user"), ["bob"]);
        assert_eq!(self.app.last().header_all("x-forwarded-preferred-username"), Vec::<String>::new(), "bob has none, and not alice's");

        // A WebSocket goes through, from our own page only.
        let http = self.http().speaking(Protocol::Http1);
        let session = browser.cookie_header(SITE);
        let socket = WebSocket::connect(&http, &format!("{SITE}/app/ws"), &[("cookie", &session), ("origin", SITE)]).await;
        let mut socket = socket.unwrap_or_else(|answer| panic!("{}: {}", answer.status, answer.text()));
        assert!(socket.echo("hello").await);
        socket.close().await;
        self.app.reset();
        for headers in [&[("cookie", session.as_str()), ("origin", "https://evil.test")][..], &[("origin", SITE)]] {
            let refused = WebSocket::connect(&http, &format!("{SITE}/app/ws"), headers).await.err().expect("a refusal");
            assert!([401, 403, 302, 303].contains(&refused.status.as_u16()), "{headers:?}: {}", refused.status);
        }
        assert_eq!(self.app.count(), 0);
        self.gateway.access_line("reason=upgrade-origin").await;

        // Signed out is signed out.
        let page = browser.get(&format!("{SITE}/oauth2/session")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let form = page.form_to("/oauth2/sign_out");
        let page = browser.submit(&page, &form, &[]).await;
        assert!(page.status.is_redirection() || page.status == 200, "{}", page.summary());
        assert_eq!(self.get("/app/x", &[("cookie", &session), program[0]]).await.status, 401);
        assert_eq!(self.app.count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_asks_by_our_snippet() {
    let listen = [("listen 443 ssl http2;", "listen 127.0.0.1:@PORT@ ssl http2;"), ("listen [::]:443 ssl http2;", "")];
    let mut behind = Behind::start("nginx/doorward.conf", "nginx", &listen).await;
    behind.a_person_gets_in_and_nobody_else().await;

    // A body goes on to the app and not to the gateway.
    behind.provider.set_user(json!({ "sub": "carol" }));
    let mut carol = behind.browser();
    let page = carol.get(&format!("{SITE}/app/x")).await;
    assert_eq!(carol.follow_all(page).await.status, 200);
    let answer = carol.fetch_api(Method::POST, &format!("{SITE}/app/x"), &[], "x".repeat(100_000).as_bytes()).await;
    assert_eq!((answer.status.as_u16(), behind.app.last().body.len()), (200, 100_000));
    // Identity headers near their bound fit into nginx's buffer.
    let groups: Vec<String> = (0..370).map(|n| format!("group-number-{n:06}")).collect();
    behind.provider.set_user(json!({ "sub": "dave", "groups": groups }));
    let mut dave = behind.browser();
    let page = dave.get(&format!("{SITE}/app/x")).await;
    let page = dave.follow_all(page).await;
    assert_eq!(page.status, 200, "{}\n{}", page.text(), behind.front.process.output());
    assert!(behind.app.last().header("x-forwarded-groups").unwrap().len() > 7_000);
    // Without the gateway nobody gets in, and programs are told to try again.
    let cookie = carol.cookie_header(SITE);
    let (client, app) = (behind.http(), behind.app);
    behind.gateway.stop();
    app.reset();
    let request = http::Request::get(format!("{SITE}/app/x")).header("cookie", &cookie).body(crate::harness::body::empty()).unwrap();
    let answer = client.fetch(request).await;
    assert_eq!((answer.status.as_u16(), app.count()), (503, 0), "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && answer.set_cookies().is_empty(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_asks_by_our_snippet() {
    let site = [("app.example.com {", "https://app.example.com:@PORT@ {\n\tbind 127.0.0.1")];
    let mut behind = Behind::start("caddy/Caddyfile", "caddy", &site).await;
    behind.a_person_gets_in_and_nobody_else().await;
}

/// A cache whose key says nothing of who asks, in front of all that the gateway answers itself: as proxy, and to `auth_request`.
#[tokio::test(flavor = "multi_thread")]
async fn a_careless_cache_stores_nothing_of_ours() {
    let port = free_port();
    let config = "
proxy_cache_path @DIR@/cache keys_zone=careless:1m;
server {
    listen 127.0.0.1:@PORT@;
    proxy_cache careless;
    proxy_cache_key $uri;
    proxy_cache_valid any 10m;
    proxy_cache_methods GET HEAD;
    add_header X-Cache $upstream_cache_status always;
    proxy_set_header Host $http_host;
    location / { proxy_pass http://GATEWAY; }
    location /checked/ { auth_request /oauth2/auth; proxy_cache off; proxy_pass http://APP; }
    location = /oauth2/auth {
        proxy_pass http://GATEWAY;
        proxy_set_header X-Original-Method $request_method;
        proxy_set_header X-Original-URI $request_uri;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
    }
}";
    let app = EchoUpstream::start();
    let front = fronts::nginx(config, &[("GATEWAY", &format!("127.0.0.1:{port}")), ("APP", &app.address().to_string())]).await;
    let routes = "[[route]]\npath = \"/open/\"\naccess = \"public\"\nupstream = \"@UPSTREAM@\"\n\
                  [[route]]\npath = \"/staff/\"\nupstream = \"@UPSTREAM@\"\nallow = { groups = [\"staff\"] }\n\
                  [[route]]\npath = \"/checked/\"\nallow = \"any-authenticated\"\n";
    let scene = Scene::start_on(port, &format!("http://{}", front.address()), TRUSTED, routes);
    let get = async |path: &str, cookie: &str| {
        let answer = scene.get(path, &[("cookie", cookie), ("accept", "application/json")]).await;
        (answer.status.as_u16(), answer.header("x-cache").unwrap_or_default().to_owned(), answer.text())
    };
    // The cache works: what an app allows to be stored is stored.
    let stored = "/open/headers?cache-control=max-age=60";
    assert_eq!((get(stored, "").await.1.as_str(), get(stored, "").await.1.as_str()), ("MISS", "HIT"));

    let alice = scene.session().await;
    scene.provider.set_user(json!({ "sub": "bob", "groups": ["guests"] }));
    let bob = scene.session().await;
    for path in ["/oauth2/userinfo", "/oauth2/session"] {
        for (cookie, name) in [(&alice, "alice"), (&bob, "bob"), (&alice, "alice")] {
            let (status, cache, text) = get(path, cookie).await;
            assert_eq!((status, cache.as_str()), (200, "MISS"), "{path}");
            assert!(text.contains(name) && (name == "alice" || !text.contains("alice")), "{path}: {text}");
        }
    }
    let (status, cache, _) = get("/oauth2/userinfo", "").await;
    assert_eq!((status, cache.as_str()), (401, "MISS"));
    // A denial of one is not the other's answer.
    for (cookie, status) in [("", 401), (bob.as_str(), 403), ("", 401)] {
        let answer = get("/staff/x", cookie).await;
        assert_eq!((answer.0, answer.1.as_str()), (status, "MISS"), "{}", answer.2);
    }
    // Each person's way to the login is their own.
    let (mut first, mut second) = (Browser::new(), Browser::new());
    let (to, other) = (first.get(&scene.url("/staff/y")).await, second.get(&scene.url("/staff/y")).await);
    assert_eq!((to.status.as_u16(), other.status.as_u16()), (303, 303));
    assert!(to.location() != other.location() && !other.set_cookies().is_empty());
    // What `auth` answered about one says nothing about the next.
    for (cookie, status) in [(alice.as_str(), 200), ("", 401), (bob.as_str(), 200), ("", 401)] {
        let before = app.count();
        assert_eq!(get("/checked/x", cookie).await.0, status);
        assert_eq!(app.count() - before, usize::from(status == 200));
    }
    assert_eq!(get("/staff/x", &alice).await.0, 200);
    assert_eq!(scene.upstream.last().header("x-forwarded-user").as_deref(), Some("alice"));
}
