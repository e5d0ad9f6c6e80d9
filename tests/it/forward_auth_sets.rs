//! Each set of headers by which front proxies ask, read alone; then the real Traefik and the real Envoy in front, by the files in
//! `deploy/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use http::Request;
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
[[route]]
path = \"/public/\"
access = \"public\"
[[route]]
path = \"/only/get/\"
methods = [\"GET\"]
access = \"public\"
[[route]]
path = \"/\"
preflight = \"pass\"
allow = \"any-authenticated\"
";

/// A question in one way of asking: path, method, target, host.
struct Way {
    set: &'static str,
    /// The headers that are read.
    names: &'static [&'static str],
}

const WAYS: [Way; 6] = [
    Way { set: "nginx", names: &["x-original-method", "x-original-uri", "x-forwarded-host", "x-forwarded-proto"] },
    Way { set: "caddy", names: &["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host", "x-forwarded-proto"] },
    Way { set: "traefik", names: &["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host", "x-forwarded-proto"] },
    Way { set: "envoy", names: &[] },
    Way { set: "ingress-nginx", names: &["x-original-method", "x-original-url"] },
    Way { set: "oauth2-proxy", names: &["x-forwarded-uri"] },
];

impl Way {
    fn routes(&self) -> String {
        // Where the method is not known no route may go by it.
        let tables = if self.set == "oauth2-proxy" {
            ROUTES.replace("methods = [\"GET\"]\n", "").replace("preflight = \"pass\"\n", "")
        } else {
            ROUTES.to_owned()
        };
        format!("[forward_auth]\nheaders = \"{}\"\n{}", self.set, tables)
    }

    fn headers(&self, method: &str, host: &str, target: &str) -> Vec<(&'static str, String)> {
        let value = |name: &str| match name {
            "x-original-method" | "x-forwarded-method" => method.to_owned(),
            "x-original-url" => format!("http://{host}{target}"),
            "x-forwarded-host" => host.to_owned(),
            "x-forwarded-proto" => "http".to_owned(),
            _ => target.to_owned(),
        };
        self.names.iter().map(|name| (*name, value(name))).collect()
    }

    /// Asks `auth` (Envoy: `forward`), with more headers.
    async fn ask(&self, scene: &Scene, method: &str, target: &str, more: &[(&str, &str)]) -> Answer {
        let host = scene.host();
        let headers = self.headers(method, &host, target);
        let envoy = self.set == "envoy";
        let (asked_with, at) = if envoy { (method, format!("/oauth2/forward{target}")) } else { ("GET", "/oauth2/auth".to_owned()) };
        let mut request = Request::builder().method(asked_with).uri(scene.url(&at));
        for (name, value) in headers.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()) {
            request = request.header(name, value);
        }
        HttpClient::new().fetch(request.body(crate::harness::body::empty()).unwrap()).await
    }
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), reason(answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_set_is_read_and_no_other() {
    for way in &WAYS {
        let scene = Scene::start(TRUSTED, &way.routes());
        let session = scene.session().await;
        let cookie = ("cookie", session.as_str());
        let set = way.set;
        let answer = way.ask(&scene, "GET", "/app/x?a=b&c=%2F", &[cookie]).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-auth-request-user")), (200, Some("alice")), "{set}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{set}");
        assert_eq!(way.ask(&scene, "GET", "/public/x", &[]).await.status, 200, "{set}");
        assert_eq!(refused(&way.ask(&scene, "GET", "/app/x", &[]).await), (401, "no-credential".to_owned()), "{set}");
        assert_eq!(
            refused(&way.ask(&scene, "GET", "/public/../app/x", &[]).await),
            (401, "no-credential".to_owned()),
            "{set}: one reading of a path"
        );
        assert_eq!(refused(&way.ask(&scene, "GET", "/public/..%2fapp/x", &[cookie]).await), (403, "path-ambiguous".to_owned()), "{set}");
        // The method counts where it is known.
        let knows = set != "oauth2-proxy";
        assert_eq!(way.ask(&scene, "DELETE", "/only/get/x", &[]).await.status, if knows { 401 } else { 200 }, "{set}");
        let preflight = [("origin", "https://spa.test"), ("access-control-request-method", "PUT")];
        assert_eq!(way.ask(&scene, "OPTIONS", "/app/x", &preflight).await.status, if knows { 200 } else { 401 }, "{set}");
        if knows {
            assert_eq!(refused(&way.ask(&scene, "TRACE", "/app/x", &[cookie]).await), (403, "method-not-allowed".to_owned()), "{set}");
        }

        // Each header once: what is missing or doubled is a denial.
        let about = way.headers("GET", &scene.host(), "/public/x");
        for at in 0..about.len() {
            let pairs: Vec<(&str, &str)> = about.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let (mut missing, mut doubled, mut other) = (pairs.clone(), pairs.clone(), pairs.clone());
            missing.remove(at);
            doubled.push(pairs[at]);
            other.insert(at, (pairs[at].0, "/app/x"));
            for (headers, word) in [(missing, "forwarded-missing"), (doubled, "forwarded-ambiguous"), (other, "forwarded-ambiguous")] {
                assert_eq!(refused(&scene.get("/oauth2/auth", &headers).await), (401, word.to_owned()), "{set} {headers:?}");
                let with: Vec<(&str, &str)> = headers.iter().copied().chain([cookie]).collect();
                assert_eq!(refused(&scene.get("/oauth2/auth", &with).await), (403, word.to_owned()), "{set} {with:?}");
            }
        }
        // All others say nothing, whoever sent them.
        let host = scene.host();
        let foreign: Vec<(&str, String)> =
            WAYS.iter().flat_map(|other| other.headers("GET", &host, "/public/x")).filter(|(name, _)| !way.names.contains(name)).collect();
        let mut foreign: Vec<(&str, &str)> = foreign.iter().map(|(name, value)| (*name, value.as_str())).collect();
        foreign.extend([("x-rewrite-url", "/public/x"), ("forwarded", "host=evil.test"), ("x-forwarded-port", "1")]);
        assert_eq!(refused(&way.ask(&scene, "GET", "/app/x", &foreign).await), (401, "no-credential".to_owned()), "{set}");
        assert_eq!(way.ask(&scene, "GET", "/public/x", &foreign).await.status, 200, "{set}");
        assert_eq!(scene.upstream.count(), 0);
    }
}

/// Whose host counts: that of the request that is asked about, wherever the set has it.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_denied_by_every_set() {
    for way in &WAYS {
        let scene = Scene::start(TRUSTED, &way.routes());
        let session = format!("Cookie: {}", scene.session().await);
        let in_host = matches!(way.set, "envoy" | "oauth2-proxy");
        for (host, known) in [(scene.host().as_str(), true), ("evil.test", false), ("127.0.0.1.evil.test", false)] {
            let mut lines: Vec<String> =
                way.headers("GET", host, "/app/x").iter().map(|(name, value)| format!("{name}: {value}")).collect();
            lines.push(session.clone());
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let target = if way.set == "envoy" { "/oauth2/forward/app/x" } else { "/oauth2/auth" };
            // The others: whatever the front proxy calls us.
            let own = if in_host { host } else { "doorward.auth.svc:4180" };
            let answer = raw::raw_answer(scene.gateway.address, raw::request("GET", target, own, &lines)).await;
            match known {
                true => assert_eq!(answer.status, 200, "{} {host}", way.set),
                false => assert_eq!((answer.status, raw_reason(&answer).as_str()), (403, "host-unknown"), "{} {host}", way.set),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoys_path_is_told_by_its_bytes_and_its_query_is_the_browsers() {
    let envoy = &WAYS[3];
    let scene = Scene::start(TRUSTED, &envoy.routes());
    let session = scene.session().await;
    let cookie = format!("Cookie: {session}");
    let ask = async |target: &str| {
        let answer = raw::raw_answer(scene.gateway.address, raw::request("GET", target, &scene.host(), &[&cookie])).await;
        let word = if answer.status == 200 { String::new() } else { raw_reason(&answer) };
        (answer.status, word)
    };
    let (yes, no) = ((200, String::new()), |status, word: &str| (status, word.to_owned()));
    for (target, expected) in [
        ("/oauth2/forward/app/x?policy=none&allowed_groups=x", yes.clone()),
        ("/oauth2/forward/", yes.clone()),
        ("/oauth2/forward//evil.test/x", yes.clone()),
        // Resolved behind the prefix, and never out of it.
        ("/oauth2/forward/../auth", yes.clone()),
        ("/oauth2/forward/../../x", yes.clone()),
        ("/oauth2/forward/%2e%2e/x", no(403, "path-ambiguous")),
        ("/oauth2/forward/a%2fb", no(403, "encoded-slash")),
        // Other spellings are no question: nobody who keeps browsers away from forward/ has to know them.
        ("/oauth2/f%6frward/app/x", no(404, "endpoint-unknown")),
        ("/oauth2//forward/app/x", no(404, "endpoint-unknown")),
        ("//oauth2/forward/app/x", no(404, "endpoint-unknown")),
        ("/x/../oauth2/forward/app/x", no(404, "endpoint-unknown")),
        ("/oauth2/forwardx", no(404, "endpoint-unknown")),
        ("/oauth2/forward*", no(404, "endpoint-unknown")),
        // Nothing is appended: nothing is asked about.
        ("/oauth2/forward", no(403, "forwarded-missing")),
        ("/oauth2/forward?policy=x", no(403, "policy-unknown")),
        ("/oauth2/auth", no(403, "forwarded-missing")),
        ("/oauth2/auth/app/x", no(404, "endpoint-unknown")),
    ] {
        let found = ask(target).await;
        assert_eq!(found, expected, "{target}");
    }
    // Where the set is another there is no such endpoint, and the log says whose that would be.
    let scene = Scene::start(TRUSTED, &WAYS[0].routes());
    let answer = scene.get("/oauth2/forward/app/x", &[("cookie", &scene.session().await)]).await;
    assert_eq!(refused(&answer), (404, "endpoint-unknown".to_owned()));
    let line = scene.gateway.access_line("reason=endpoint-unknown").await;
    assert!(line.contains("envoy"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_what_came_and_the_set_that_would_fit() {
    let scene = Scene::start(TRUSTED, &WAYS[0].routes());
    let answer = scene.get("/oauth2/auth", &[("x-forwarded-uri", "/secret-place")]).await;
    assert_eq!(refused(&answer), (401, "forwarded-missing".to_owned()));
    let line = scene.gateway.access_line("reason=forwarded-missing").await;
    assert!(line.contains("x-forwarded-uri") && line.contains("oauth2-proxy") && !line.contains("secret-place"), "{line}");
}

// --- the files in deploy/

/// What each file says that the gateway's own config has to hold does load, and names the set that the file is for.
#[test]
fn the_config_at_the_head_of_each_file_loads() {
    for (set, file) in [
        ("nginx", "nginx/doorward.conf"),
        ("caddy", "caddy/Caddyfile"),
        ("traefik", "traefik/dynamic.yaml"),
        ("envoy", "envoy/envoy.yaml"),
        ("ingress-nginx", "ingress-nginx/app.yaml"),
    ] {
        let path = format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (_, after) = text.split_once("own config then holds:\n").unwrap_or_else(|| panic!("{path} says nothing of it"));
        let config: Vec<&str> = after.lines().map_while(|line| line.strip_prefix("#   ")).collect();
        let sign_in = provider("https://login.example.com", "app", "a-secret-that-stands-in");
        let config = crate::deploy::load(&format!("{}\n{sign_in}", config.join("\n")), &[]);
        assert_eq!(config.gateway.forward_auth.set.word(), set, "{path}");
        assert!(config.gateway.forward_auth.set.names_method() && !config.gateway.trusted_proxies.0.is_empty(), "{path}");
        // nginx sends what it is told to: each of them.
        if set == "nginx" {
            let sent = |name: &str| text.to_lowercase().lines().any(|line| line.trim().starts_with(&format!("proxy_set_header {name} ")));
            assert!(config.gateway.forward_auth.set.headers().iter().all(|name| sent(name)), "{path}");
        }
    }
}

// --- the real ones

const SITE: &str = "https://app.example.com";

/// A front proxy by its file in `deploy/`, an app behind it, the gateway beside it.
struct Behind {
    gateway: Gateway,
    provider: HostileProvider,
    app: EchoUpstream,
    front: Front,
    authority: CertificateAuthority,
}

impl Behind {
    async fn start(set: &str, file: &str, more: &[(&str, &str)]) -> Self {
        let port = free_port();
        let (authority, identity_provider, app) = (CertificateAuthority::new(), HostileProvider::start(), EchoUpstream::start());
        let leaf = authority.leaf(&["app.example.com"]);
        let path = format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"));
        let mut text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let own = [
            ("127.0.0.1:4180", format!("127.0.0.1:{port}")),
            ("/etc/ssl/app.example.com.crt", leaf.certificate_file().display().to_string()),
            ("/etc/ssl/app.example.com.key", leaf.key_file().display().to_string()),
        ];
        let more = more.iter().map(|(from, to)| {
            (*from, to.replace("GATEWAY_PORT", &port.to_string()).replace("APP_PORT", &app.address().port().to_string()))
        });
        for (from, to) in own.into_iter().chain(more) {
            assert!(text.contains(from), "{path} does not hold {from}");
            text = text.replace(from, &to);
        }
        let front = if set == "envoy" { fronts::envoy(&text, &[]).await } else { fronts::traefik(&text, &[]).await };
        let sign_in = provider(&identity_provider.issuer(), identity_provider.client_id(), identity_provider.client_secret());
        let routes = "[[route]]\npath = \"/public/\"\naccess = \"public\"\n[[route]]\npath = \"/get/\"\nmethods = [\"GET\"]\naccess = \"public\"\n[[route]]\npath = \"/staff/\"\nallow = { groups = [\"staff\"] }\n[[route]]\npath = \"/\"\nallow = \"any-authenticated\"\n";
        let config =
            format!("public_url = \"{SITE}\"\n{TRUSTED}[forward_auth]\nheaders = \"{set}\"\n[store]\nkind = \"memory\"\n{sign_in}{routes}");
        let gateway = Gateway::start_on(port, &config);
        Self { gateway, provider: identity_provider, app, front, authority }
    }

    fn browser(&self) -> Browser {
        Browser::new().resolve("app.example.com", self.front.address()).trusting(self.authority.client_config())
    }

    fn http(&self) -> HttpClient {
        HttpClient::new().at(self.front.address()).trusting(self.authority.client_config())
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &'static [u8]) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("{SITE}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.http().fetch(request.body(crate::harness::body::full(body)).unwrap()).await
    }

    async fn a_person_gets_in_and_nobody_else(&self) {
        self.provider.set_user(json!({ "sub": "alice", "email": "alice@example.test", "email_verified": true, "groups": ["staff", "users"], "preferred_username": "al" }));
        let mut browser = self.browser();
        let place = format!("{SITE}/app/x?a=1&b=%2F2&c");
        let page = browser.get(&place).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), page.url.as_str()), (200, place.as_str()), "{}\n{}", page.text(), self.front.process.output());
        assert_eq!((self.app.last().target.as_str(), self.app.count()), ("/app/x?a=1&b=%2F2&c", 1));
        let cookie = browser.cookie_header(SITE);
        let cookie = ("cookie", cookie.as_str());
        let forged = [
            ("x-auth-request-user", "forged"),
            ("x_auth_request_user", "forged"),
            ("x-auth_request-user", "forged"),
            ("x-auth-request-email", "forged"),
            ("x-auth-request-preferred-username", "forged"),
            ("x-auth-request-groups", "forged"),
            ("x-auth-request-access-token", "forged"),
            ("x-forwarded-user", "forged"),
            ("x_forwarded_user", "forged"),
            ("x-forwarded-email", "forged"),
            ("x-forwarded-groups", "forged"),
            ("doorward-assertion", "forged"),
            ("x-original-uri", "/public/x"),
            ("x-original-method", "OPTIONS"),
            ("x-original-url", "https://app.example.com/public/x"),
            ("x-forwarded-uri", "/public/x"),
            ("x-forwarded-method", "OPTIONS"),
            ("x-forwarded-host", "evil.test"),
            ("x-forwarded-proto", "gopher"),
        ];
        let program = ("accept", "application/json");
        let with = |more: &[(&'static str, &str)]| {
            let more: Vec<(String, String)> = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            forged.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).chain(more).collect::<Vec<_>>()
        };
        for (method, path, more, status) in [
            ("GET", "/app/x", &[cookie][..], 200),
            ("POST", "/app/x?a=b", &[cookie], 200),
            ("DELETE", "/app/x", &[cookie], 200),
            ("GET", "/app/%C3%A4%20/x", &[cookie], 200),
            ("GET", "/staff/x", &[cookie], 200),
            ("GET", "/public/x", &[], 200),
            ("GET", "/get/x", &[], 200),
            ("DELETE", "/get/x", &[program], 401),
            ("GET", "/app/x", &[program], 401),
            ("POST", "/app/x", &[program], 401),
            ("GET", "/public/../app/x", &[program], 401),
            ("GET", "//app/x", &[program], 401),
        ] {
            self.app.reset();
            let headers = with(more);
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let answer = self.send(method, path, &headers, if method == "POST" { b"body" } else { b"" }).await;
            assert_eq!(
                (answer.status.as_u16(), self.app.count()),
                (status, usize::from(status == 200)),
                "{method} {path}: {}",
                answer.text()
            );
            assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{method} {path}");
            if status != 200 {
                continue;
            }
            let seen = self.app.last();
            let known = more.contains(&cookie);
            let told = |name: &str| seen.header_all(name);
            assert_eq!(told("x-auth-request-user"), if known { vec!["alice"] } else { vec![] }, "{path}: {}", seen.everything());
            assert_eq!(told("x-auth-request-groups"), if known { vec!["staff,users"] } else { vec![] });
            assert_eq!(told("x-auth-request-email"), if known { vec!["alice@example.test"] } else { vec![] });
            assert_eq!(told("x-auth-request-preferred-username"), if known { vec!["al"] } else { vec![] });
            assert!(!seen.everything().contains("forged"), "{path}: {}", seen.everything());
            assert_eq!((seen.method.as_str(), seen.body.as_ref()), (method, if method == "POST" { &b"body"[..] } else { b"" }));
        }
        // A browser that asks by itself reads nothing that is for the app.
        for path in [
            "/oauth2/auth",
            "/oauth2/forward",
            "/oauth2/forward/app/x",
            "/oauth2/f%6frward/app/x",
            "/oauth2//forward/app/x",
            "/oauth2/x/../forward",
        ] {
            let own = [
                ("x-forwarded-uri", "/app/x"),
                ("x-forwarded-method", "GET"),
                ("x-forwarded-host", "app.example.com"),
                ("x-forwarded-proto", "https"),
                cookie,
            ];
            let answer = self.send("GET", path, &own, b"").await;
            assert!((400..500).contains(&answer.status.as_u16()), "{path}: {answer:?}");
            assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("x-auth-request")), "{path}");
        }
        // Whoever is known and not allowed sees a page, and keeps the session.
        self.provider.set_user(json!({ "sub": "bob", "groups": ["guests"] }));
        let mut bob = self.browser();
        let page = bob.get(&format!("{SITE}/staff/x")).await;
        self.app.reset();
        let page = bob.follow_all(page).await;
        assert!(page.status == 403 && page.text().contains("not-allowed") && self.app.count() == 0, "{}", page.text());
        assert_eq!(bob.get(&format!("{SITE}/app/x")).await.status, 200);
        assert_eq!(self.app.last().header_all("x-auth-request-preferred-username"), Vec::<String>::new(), "bob has none, and not alice's");
        // A WebSocket goes through, from our own page only.
        let http = self.http().speaking(Protocol::Http1);
        let socket = WebSocket::connect(&http, &format!("{SITE}/app/ws"), &[cookie, ("origin", SITE)]).await;
        let mut socket = socket.unwrap_or_else(|answer| panic!("{}: {}", answer.status, answer.text()));
        assert!(socket.echo("hello").await);
        socket.close().await;
        self.app.reset();
        for headers in [&[cookie, ("origin", "https://evil.test")][..], &[("origin", SITE)]] {
            let refused = WebSocket::connect(&http, &format!("{SITE}/app/ws"), headers).await.err().expect("a refusal");
            assert!([401, 403].contains(&refused.status.as_u16()), "{headers:?}: {}", refused.status);
        }
        assert_eq!(self.app.count(), 0);
        self.gateway.access_line("reason=upgrade-origin").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_asks_by_our_file() {
    let app = [("127.0.0.1:8080", "127.0.0.1:APP_PORT")];
    let behind = Behind::start("traefik", "traefik/dynamic.yaml", &app).await;
    behind.a_person_gets_in_and_nobody_else().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_asks_by_our_file() {
    let addresses = [
        ("address: \"::\", ipv4_compat: true, port_value: 443", "address: 127.0.0.1, port_value: @PORT@"),
        ("address: 127.0.0.1, port_value: 4180", "address: 127.0.0.1, port_value: GATEWAY_PORT"),
        ("address: 127.0.0.1, port_value: 8080", "address: 127.0.0.1, port_value: APP_PORT"),
    ];
    let behind = Behind::start("envoy", "envoy/envoy.yaml", &addresses).await;
    behind.a_person_gets_in_and_nobody_else().await;
    // Without the gateway nobody gets in, and programs are told to try again.
    let (client, app) = (behind.http(), behind.app);
    behind.gateway.stop();
    app.reset();
    let answer = client.fetch(Request::get(format!("{SITE}/public/x")).body(crate::harness::body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), app.count()), (503, 0), "{}", answer.text());
}
