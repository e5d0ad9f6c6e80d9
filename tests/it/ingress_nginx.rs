//! The community's ingress-nginx, by the manifest in `deploy/` and by what it writes into its nginx for these annotations (its template's
//! `auth_request` location, `Host` of the auth-url, `X-Original-URL` and `X-Original-Method`, the client's other headers passed on). The
//! controller itself needs a cluster; the nginx is a real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::path::Path;

use figment::providers::{Format, Yaml};
use serde_json::{Value, json};

use crate::harness::answer::Answer;
use crate::harness::browser::Browser;
use crate::harness::certs::CertificateAuthority;
use crate::harness::fronts::{self, Front};
use crate::harness::gateway::{Gateway, provider};
use crate::harness::hostile::HostileProvider;
use crate::harness::http::HttpClient;
use crate::harness::process::run;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::free_port;

const SITE: &str = "https://app.example.com";
const ROUTES: &str = "
[[route]]
path = \"/public/\"
access = \"public\"
[[route]]
path = \"/get/\"
methods = [\"GET\"]
access = \"optional\"
[[route]]
path = \"/staff/\"
allow = { groups = [\"staff\"] }
[[route]]
path = \"/\"
allow = \"any-authenticated\"
";

/// What the annotations say.
struct Annotations {
    auth_url: String,
    auth_signin: String,
    response_headers: Vec<String>,
    cache_key: Option<&'static str>,
    /// Whether the cache heeds `Cache-Control`.
    heeds_answers: bool,
}

fn manifest() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/ingress-nginx/app.yaml");
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join("python/bin/kubernetes-validate");
    let validate = if own.is_file() { own.display().to_string() } else { "kubernetes-validate".to_owned() };
    let said = run(&validate, &["--strict", &path.display().to_string()]);
    assert!(!said.to_lowercase().contains("error"), "{said}");
    let text = std::fs::read_to_string(&path).unwrap();
    text.split("\n---\n").map(|part| Yaml::from_str(part).unwrap_or_else(|error| panic!("{error}\n{part}"))).collect()
}

impl Annotations {
    fn of_manifest() -> Self {
        let app = manifest().remove(0);
        let said = |name: &str| {
            let value = &app["metadata"]["annotations"][format!("nginx.ingress.kubernetes.io/{name}")];
            value.as_str().unwrap_or_else(|| panic!("{name}: {value}")).to_owned()
        };
        let response_headers = said("auth-response-headers").split(',').map(str::to_owned).collect();
        Self { auth_url: said("auth-url"), auth_signin: said("auth-signin"), response_headers, cache_key: None, heeds_answers: true }
    }

    /// What the controller writes for them, as far as it concerns the question; `@PORT2@` is behind a balancer that has ended TLS.
    fn nginx(&self) -> String {
        let (host, path) = self.auth_url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
        let set: String = self
            .response_headers
            .iter()
            .enumerate()
            .map(|(n, name)| {
                let variable = name.to_lowercase().replace('-', "_");
                format!("auth_request_set $authHeader{n} $upstream_http_{variable};\nproxy_set_header '{name}' $authHeader{n};\n")
            })
            .collect();
        let away = if self.heeds_answers { "" } else { " Cache-Control Expires" };
        let cache = self.cache_key.map_or_else(String::new, |key| {
            format!("proxy_cache auth_cache;\nproxy_cache_valid 200 202 401 5m;\nproxy_cache_key \"app.example.com/{key}\";\nproxy_ignore_headers Set-Cookie{away};\n")
        });
        // nginx itself cannot escape; the controller's own module can.
        format!(
            r#"
proxy_cache_path @DIR@/auth-cache levels=1:2 keys_zone=auth_cache:10m max_size=128m inactive=30m use_temp_path=off;
map $request_uri $escaped_request_uri {{
    default "%2Fother";
    "/app/x?a=1&b=2%26" "%2Fapp%2Fx%3Fa%3D1%26b%3D2%2526";
}}
map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
server {{
    listen 127.0.0.1:@PORT@ ssl;
    listen 127.0.0.1:@PORT2@;
    server_name app.example.com;
    ssl_certificate     @CERTIFICATE@;
    ssl_certificate_key @KEY@;
    set $pass_access_scheme $scheme;

    location = /_external-auth-Lw {{
        internal;
        {cache}
        proxy_pass_request_body     off;
        proxy_set_header            Content-Length          "";
        proxy_set_header            X-Forwarded-Proto       "";
        proxy_set_header            X-Request-ID            $request_id;
        proxy_set_header            Host                    {host};
        proxy_set_header            X-Original-URL          $scheme://$http_host$request_uri;
        proxy_set_header            X-Original-Method       $request_method;
        proxy_set_header            X-Sent-From             "nginx-ingress-controller";
        proxy_set_header            X-Real-IP               $remote_addr;
        proxy_set_header            X-Forwarded-For         $remote_addr;
        proxy_set_header            X-Auth-Request-Redirect $request_uri;
        proxy_buffer_size           16k;
        proxy_buffers               4 16k;
        proxy_http_version          1.1;
        proxy_ssl_server_name       on;
        proxy_pass_request_headers  on;
        set $target http://@GATEWAY@/{path};
        proxy_pass $target;
    }}
    location @signin {{
        internal;
        add_header Set-Cookie $auth_cookie;
        return 302 {signin};
    }}
    location /oauth2/ {{
        proxy_set_header Host              $http_host;
        proxy_set_header X-Real-IP         $remote_addr;
        proxy_set_header X-Forwarded-For   $remote_addr;
        proxy_set_header X-Forwarded-Host  $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_http_version 1.1;
        proxy_pass http://@GATEWAY@;
    }}
    location / {{
        auth_request     /_external-auth-Lw;
        auth_request_set $auth_cookie $upstream_http_set_cookie;
        add_header       Set-Cookie $auth_cookie;
        {set}
        error_page 401 = @signin;
        proxy_set_header Host $http_host;
        proxy_set_header Upgrade    $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_http_version 1.1;
        proxy_pass http://@APP@;
    }}
}}"#,
            signin = self.auth_signin,
        )
    }
}

struct Behind {
    gateway: Gateway,
    provider: HostileProvider,
    app: EchoUpstream,
    front: Front,
    authority: CertificateAuthority,
}

impl Behind {
    async fn start(annotations: &Annotations, forward_auth: &str) -> Self {
        let port = free_port();
        let (authority, identity_provider, app) = (CertificateAuthority::new(), HostileProvider::start(), EchoUpstream::start());
        let leaf = authority.leaf(&["app.example.com"]);
        let replace = [
            ("@GATEWAY@", format!("127.0.0.1:{port}")),
            ("@APP@", app.address().to_string()),
            ("@CERTIFICATE@", leaf.certificate_file().display().to_string()),
            ("@KEY@", leaf.key_file().display().to_string()),
        ];
        let replace: Vec<(&str, &str)> = replace.iter().map(|(from, to)| (*from, to.as_str())).collect();
        let front = fronts::nginx(&annotations.nginx(), &replace).await;
        let sign_in = provider(&identity_provider.issuer(), identity_provider.client_id(), identity_provider.client_secret());
        let top = format!("public_url = \"{SITE}\"\ntrusted_proxies = [\"127.0.0.1\"]\n");
        let forward_auth = format!("[forward_auth]\nheaders = \"ingress-nginx\"\n{forward_auth}\n[store]\nkind = \"memory\"\n");
        let gateway = Gateway::start_on(port, &format!("{top}{sign_in}{forward_auth}{ROUTES}"));
        Self { gateway, provider: identity_provider, app, front, authority }
    }

    fn browser(&self) -> Browser {
        Browser::new().resolve("app.example.com", self.front.address()).trusting(self.authority.client_config())
    }

    /// Somebody who signs in by going to `/app/x?a=1&b=2%26`.
    async fn session(&self, user: Value) -> String {
        self.provider.set_user(user);
        let mut browser = self.browser();
        let place = format!("{SITE}/app/x?a=1&b=2%26");
        let page = browser.get(&place).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), page.url.as_str()), (200, place.as_str()), "{}", page.text());
        browser.cookie_header(SITE)
    }

    async fn send(&self, scheme: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = http::Request::builder().method(method).uri(format!("{scheme}://app.example.com{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let at = if scheme == "https" { self.front.address() } else { self.front.nth_address(1) };
        HttpClient::new().at(at).trusting(self.authority.client_config()).fetch(request.body(crate::harness::body::empty()).unwrap()).await
    }
}

fn alice() -> Value {
    json!({ "sub": "alice", "email": "alice@example.test", "email_verified": true, "groups": ["staff"], "preferred_username": "al" })
}

fn bob() -> Value {
    json!({ "sub": "bob", "groups": ["guests"] })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controller_asks_by_our_manifest() {
    let annotations = Annotations::of_manifest();
    let behind = Behind::start(&annotations, "").await;
    let (alice, bob) = (behind.session(alice()).await, behind.session(bob()).await);
    let (alice, bob) = (("cookie", alice.as_str()), ("cookie", bob.as_str()));
    // Every name that the manifest copies is one that the answer holds.
    for scheme in ["https", "http"] {
        behind.app.reset();
        assert_eq!(behind.send(scheme, "GET", "/app/x?a=b", &[alice]).await.status, 200, "{scheme}: behind a balancer the scheme is http");
        let seen = behind.app.last();
        assert!(annotations.response_headers.iter().all(|name| seen.header_all(name).len() == 1), "{}", seen.everything());
        assert_eq!(
            (seen.header("x-auth-request-user").as_deref(), seen.header("x-auth-request-groups").as_deref()),
            (Some("alice"), Some("staff"))
        );
        assert_eq!(
            (seen.header("x-auth-request-email").as_deref(), seen.header("x-auth-request-preferred-username").as_deref()),
            (Some("alice@example.test"), Some("al"))
        );
    }
    // What a browser says of the request is the browser's own: neither read nor passed on as who it is.
    let forged = [
        ("x-original-url", "https://app.example.com/public/x"),
        ("x-original-method", "OPTIONS"),
        ("x-original-uri", "/public/x"),
        ("x-forwarded-uri", "/public/x"),
        ("x-forwarded-method", "OPTIONS"),
        ("x-forwarded-host", "evil.test"),
        ("x-auth-request-user", "forged"),
        ("x-auth-request-groups", "forged"),
    ];
    let with = |cookie: &[(&'static str, &str)]| {
        forged
            .iter()
            .copied()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .chain(cookie.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
            .collect::<Vec<_>>()
    };
    for (method, path, cookie, status) in [
        ("GET", "/app/x", &[][..], 302),
        ("GET", "/public/x", &[], 200),
        ("GET", "/get/x", &[], 200),
        ("DELETE", "/get/x", &[], 302),
        ("POST", "/app/x", &[alice], 200),
        ("GET", "/staff/x", &[alice], 200),
        ("GET", "/staff/x", &[bob], 403),
        ("GET", "/public/..%2fapp/x", &[alice], 403),
    ] {
        behind.app.reset();
        let headers = with(cookie);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = behind.send("https", method, path, &headers).await;
        assert_eq!(
            (answer.status.as_u16(), behind.app.count()),
            (status, usize::from(status == 200)),
            "{method} {path}: {}",
            answer.text()
        );
        if status == 200 {
            let users = behind.app.last().header_all("x-auth-request-user");
            assert_eq!(users, if path == "/public/x" || path == "/get/x" { vec![] } else { vec!["alice"] }, "{path}");
        }
    }
    behind.gateway.access_line("path=/oauth2/auth reason=not-allowed").await;
}

/// `auth-cache-key`, which that product's guides recommend: a key that is the same for everybody, since its cookie is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn the_controllers_cache_keeps_no_answer_for_the_next() {
    let annotations = Annotations { cache_key: Some("$cookie__oauth2_proxy"), ..Annotations::of_manifest() };
    let behind = Behind::start(&annotations, "").await;
    let (alice, bob) = (behind.session(alice()).await, behind.session(bob()).await);
    for _ in 0..2 {
        for (path, cookie, expected) in [
            ("/app/x", Some(&alice), (200, Some("alice"))),
            ("/app/x", None, (302, None)),
            ("/app/x", Some(&bob), (200, Some("bob"))),
            ("/staff/x", Some(&bob), (403, None)),
            ("/staff/x", Some(&alice), (200, Some("alice"))),
        ] {
            behind.app.reset();
            let headers: Vec<(&str, &str)> = cookie.iter().map(|cookie| ("cookie", cookie.as_str())).collect();
            let answer = behind.send("https", "GET", path, &headers).await;
            let user = if behind.app.count() == 1 { behind.app.last().header("x-auth-request-user") } else { None };
            assert_eq!((answer.status.as_u16(), user.as_deref()), expected, "{path}");
        }
    }
}

/// The same cache, told to look away from what answers say of themselves, does mix people up: so it is there, and it is `no-store` that it
/// heeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_told_to_look_away_shows_what_the_answers_prevent() {
    let annotations = Annotations { cache_key: Some("$cookie__oauth2_proxy"), heeds_answers: false, ..Annotations::of_manifest() };
    let behind = Behind::start(&annotations, "").await;
    let asked = async |path: &str| behind.send("https", "GET", path, &[]).await.status.as_u16();
    // The answer about an open place opens the others.
    assert_eq!((asked("/public/x").await, asked("/app/x").await), (200, 200));
    assert_eq!(behind.app.last().target, "/app/x");
}

/// A team's own rule behind `auth-url`, and the older way of writing the place to come back to.
#[tokio::test(flavor = "multi_thread")]
async fn the_query_of_auth_url_narrows_and_a_raw_place_arrives_whole() {
    let annotations = Annotations {
        auth_url: "http://doorward.doorward.svc.cluster.local/oauth2/auth?allowed_groups=staff,admins".to_owned(),
        auth_signin: "https://$host/oauth2/start?rd=$pass_access_scheme://$http_host$request_uri".to_owned(),
        ..Annotations::of_manifest()
    };
    let behind = Behind::start(&annotations, "narrow = true").await;
    let alice = behind.session(alice()).await;
    assert_eq!(behind.app.last().target, "/app/x?a=1&b=2%26");
    behind.provider.set_user(bob());
    let mut browser = behind.browser();
    let page = browser.get(&format!("{SITE}/app/x")).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), page.url.path()), (403, "/app/x"), "{}", page.text());
    behind.app.reset();
    assert_eq!(behind.send("https", "GET", "/app/x?allowed_groups=guests", &[("cookie", &browser.cookie_header(SITE))]).await.status, 403);
    assert_eq!(behind.app.count(), 0);
    assert_eq!(behind.send("https", "GET", "/app/x", &[("cookie", &alice)]).await.status, 200);
    // Off, it is refused, and never passed over.
    let behind =
        Behind::start(&Annotations { auth_signin: "https://$host/oauth2/start?rd=$escaped_request_uri".to_owned(), ..annotations }, "")
            .await;
    assert_eq!(behind.send("https", "GET", "/public/x", &[]).await.status, 403);
    behind.gateway.access_line("reason=inline-rule").await;
}

/// The pages that the second object brings to the browser are the gateway's, all of them but those by which front proxies ask.
#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_names_every_page_and_no_question() {
    let pages = manifest().remove(1);
    let paths: Vec<String> = pages["spec"]["rules"][0]["http"]["paths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| path["path"].as_str().unwrap().to_owned())
        .collect();
    assert!(paths.len() > 5 && !paths.iter().any(|path| path.ends_with("/auth") || path.contains("/forward")), "{paths:?}");
    let behind = Behind::start(&Annotations::of_manifest(), "").await;
    for path in &paths {
        let method = if path.ends_with("/backchannel_logout") { "POST" } else { "GET" };
        let answer = behind.send("https", method, path, &[]).await;
        // Two are there only where the config has them.
        let off = path.ends_with("/jwks") || path.ends_with("/token");
        assert_eq!(answer.status == 404, off, "{path}: {}", answer.status);
    }
    for name in [
        "start",
        "callback",
        "sign_in",
        "sign_out",
        "signed_out",
        "session",
        "userinfo",
        "done",
        "kept",
        "backchannel_logout",
        "frontchannel_logout",
    ] {
        assert!(paths.iter().any(|path| path == &format!("/oauth2/{name}")), "{name}");
    }
}
