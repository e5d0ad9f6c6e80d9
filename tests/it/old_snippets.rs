//! Set-ups that were written for oauth2-proxy go on working: nginx by its documentation, in front of the gateway with a config as a move
//! would leave it, case by case. What each case does there is written down in the table; where it is otherwise here, the table says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use doorward::import::{Input, Request, import};
use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::browser::Browser;
use crate::harness::certs::CertificateAuthority;
use crate::harness::fronts::{self, Front};
use crate::harness::gateway::{Gateway, provider};
use crate::harness::hostile::HostileProvider;
use crate::harness::http::HttpClient;
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::free_port;

const SITE: &str = "https://app.example.com";

/// What its documentation has one write into nginx: a location for its pages, one for the question, the named location that leads to the
/// login, headers for the app, the lines for its cookies. HTTP/1.0 towards the gateway, since nothing else is said. Beside it the older
/// ways to the login that are still met.
const NGINX: &str = r#"
server {
    listen 127.0.0.1:@PORT@ ssl;
    server_name app.example.com;
    port_in_redirect off;
    ssl_certificate     @CERTIFICATE@;
    ssl_certificate_key @KEY@;

    location /oauth2/ {
        proxy_pass http://@GATEWAY@;
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Auth-Request-Redirect $request_uri;
    }
    location = /oauth2/auth {
        proxy_pass http://@GATEWAY@;
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-Uri $request_uri;
        proxy_set_header Content-Length "";
        proxy_pass_request_body off;
    }
    # A rule for one location alone.
    location = /oauth2/auth_admins {
        internal;
        proxy_pass http://@GATEWAY@/oauth2/auth?allowed_groups=admins,owners;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-Uri $request_uri;
        proxy_set_header Content-Length "";
        proxy_pass_request_body off;
    }

    location / {
        auth_request /oauth2/auth;
        error_page 401 = @oauth2_signin;
        auth_request_set $user $upstream_http_x_auth_request_user;
        auth_request_set $email $upstream_http_x_auth_request_email;
        auth_request_set $token $upstream_http_x_auth_request_access_token;
        proxy_set_header X-User $user;
        proxy_set_header X-Email $email;
        proxy_set_header X-Access-Token $token;
        auth_request_set $auth_cookie $upstream_http_set_cookie;
        add_header Set-Cookie $auth_cookie;
        auth_request_set $auth_cookie_name_upstream_1 $upstream_cookie__oauth2_proxy_1;
        if ($auth_cookie ~* "(; .*)") {
            set $auth_cookie_name_0 $auth_cookie;
            set $auth_cookie_name_1 "_oauth2_proxy_1=$auth_cookie_name_upstream_1$1";
        }
        if ($auth_cookie_name_upstream_1) {
            add_header Set-Cookie $auth_cookie_name_0;
            add_header Set-Cookie $auth_cookie_name_1;
        }
        proxy_pass http://@APP@;
    }
    location @oauth2_signin {
        return 302 /oauth2/sign_in?rd=$scheme://$host$request_uri;
    }

    location /api/ {
        auth_request /oauth2/auth;
        proxy_pass http://@APP@;
    }
    location /admin/ {
        auth_request /oauth2/auth_admins;
        proxy_pass http://@APP@;
    }
    location /older/ {
        auth_request /oauth2/auth;
        error_page 401 = /oauth2/sign_in;
        proxy_pass http://@APP@;
    }
    location /oldest/ {
        auth_request /oauth2/auth;
        error_page 401 =403 /oauth2/sign_in;
        proxy_pass http://@APP@;
    }
    location /straight/ {
        auth_request /oauth2/auth;
        error_page 401 =302 /oauth2/start?rd=$scheme://$host$request_uri;
        proxy_pass http://@APP@;
    }
}"#;

/// What becomes of its options `skip_auth_routes = ["^/static/"]`, `allowed_groups = ["staff"]`, `email_domains = ["example.test"]`,
/// `set_xauthrequest`, `pass_access_token`, `skip_provider_button`, `reverse_proxy`.
const MOVED: &str = r#"
[forward_auth]
headers = "oauth2-proxy"
narrow = true
[store]
kind = "memory"
[[route]]
id = "static"
path_regex = "/static/.*"
access = "optional"
headers = { "X-Auth-Request-Access-Token" = "{access_token}" }
[[route]]
id = "all"
path = "/"
allow = { email_domains = ["example.test"], groups = ["staff"] }
headers = { "X-Auth-Request-Access-Token" = "{access_token}" }
"#;

struct Moved {
    gateway: Gateway,
    provider: HostileProvider,
    app: EchoUpstream,
    front: Front,
    authority: CertificateAuthority,
}

impl Moved {
    async fn start(nginx: &str, tables: &str) -> Self {
        Self::start_with(nginx, |identity_provider, _| {
            let sign_in = provider(&identity_provider.issuer(), identity_provider.client_id(), identity_provider.client_secret());
            format!("public_url = \"{SITE}\"\ntrusted_proxies = [\"127.0.0.1\"]\n{sign_in}{tables}")
        })
        .await
    }

    /// With the config that is made for this provider and this port.
    async fn start_with(nginx: &str, config: impl Fn(&HostileProvider, u16) -> String) -> Self {
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
        let front = fronts::nginx(nginx, &replace).await;
        let gateway = Gateway::start_on(port, &config(&identity_provider, port));
        Self { gateway, provider: identity_provider, app, front, authority }
    }

    fn browser(&self) -> Browser {
        Browser::new().resolve("app.example.com", self.front.address()).trusting(self.authority.client_config())
    }

    /// The `Cookie` of a fresh session of whoever the provider signs in.
    async fn session(&self) -> String {
        let mut browser = self.browser();
        let page = browser.get(&format!("{SITE}/oauth2/start?rd=/static/after")).await;
        browser.follow_all(page).await;
        self.app.reset();
        browser.cookie_header(SITE)
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &'static [u8]) -> Answer {
        let mut request = http::Request::builder().method(method).uri(format!("{SITE}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let client = HttpClient::new().at(self.front.address()).trusting(self.authority.client_config());
        client.fetch(request.body(crate::harness::body::full(body)).unwrap()).await
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    /// Of the group.
    Alice,
    /// Known, and of none.
    Bob,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The app answers, and was told of this user: name, address, and whether there was a token.
    App(Option<(&'static str, &'static str)>),
    /// Nobody reached the app.
    Status(u16),
    /// Nobody reached the app; status and the beginning of where it leads.
    Leads(u16, &'static str),
}
use Outcome::{App, Leads, Status};

/// One case: what happens with oauth2-proxy, and where that is otherwise here, why, and what happens instead.
struct Case {
    who: Who,
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    there: Outcome,
    here: Option<(Difference, Outcome)>,
}

/// What the report of a move tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// 302 → 303, so that no form is sent twice.
    SeeOther,
    /// `auth` 202 → 200.
    Ok,
    /// Whoever is not allowed keeps the session and sees 403; there the login itself ended with it, and no session was made.
    ForbiddenKeepsSession,
    /// The provider's session ends too, and `rd` comes after.
    SignOutReachesProvider,
    /// A link on a page of another site is asked about first.
    SignOutAsksStrangers,
    /// `sign_out` behind the documentation's own header led to itself.
    SignOutLoops,
    /// What is fetched by a script is never led to the provider's page, which it could not show.
    NoLoginForScripts,
    /// A place elsewhere is refused; there it was passed over for the next best.
    RedirectRefused,
    /// A path with two readings is refused.
    AmbiguousPath,
    /// A callback that belongs to no login is 400: it is the request that is wrong.
    CallbackStatus,
    /// What lies under the prefix and is no endpoint is 404, and not the app's.
    NoEndpoint,
}
use Difference::*;

const BROWSER: &[(&str, &str)] = &[("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
const SCRIPT: &[(&str, &str)] = &[("accept", "*/*"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
const OWN_LINK: &[(&str, &str)] = &[("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-site", "same-origin")];
const ELSEWHERE: &[(&str, &str)] = &[("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-site", "cross-site")];
const BEARER: &[(&str, &str)] = &[("authorization", "Bearer of-the-app")];
const NONE: &[(&str, &str)] = &[];

const ALICE: Outcome = App(Some(("alice", "alice@example.test")));
/// Stands for the provider's address.
const PROVIDER: &str = "PROVIDER/";

const fn same(
    who: Who,
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    there: Outcome,
) -> Case {
    Case { who, method, path, headers, there, here: None }
}

const fn otherwise(
    who: Who,
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    there: Outcome,
    why: Difference,
    here: Outcome,
) -> Case {
    Case { who, method, path, headers, there, here: Some((why, here)) }
}

fn cases() -> Vec<Case> {
    use Who::{Alice, Bob, Nobody};
    vec![
        // A person without a session: nginx leads to sign_in, whatever they came with.
        same(Nobody, "GET", "/app/x", BROWSER, Leads(302, "https://app.example.com/oauth2/sign_in?rd=https://app.example.com/app/x")),
        same(
            Nobody,
            "GET",
            "/app/x?a=1&b=2?c",
            BROWSER,
            Leads(302, "https://app.example.com/oauth2/sign_in?rd=https://app.example.com/app/x?a=1&b=2?c"),
        ),
        same(
            Nobody,
            "GET",
            "/app/%C3%A4/%E2%82%AC",
            BROWSER,
            Leads(302, "https://app.example.com/oauth2/sign_in?rd=https://app.example.com/app/%C3%A4/%E2%82%AC"),
        ),
        same(
            Nobody,
            "POST",
            "/app/form",
            BROWSER,
            Leads(302, "https://app.example.com/oauth2/sign_in?rd=https://app.example.com/app/form"),
        ),
        same(Nobody, "OPTIONS", "/app/x", NONE, Leads(302, "https://app.example.com/oauth2/sign_in?rd=")),
        same(Nobody, "GET", "/app/x", BEARER, Leads(302, "https://app.example.com/oauth2/sign_in?rd=")),
        otherwise(
            Nobody,
            "GET",
            "/app/a%2Fb",
            BROWSER,
            Leads(302, "https://app.example.com/oauth2/sign_in?rd="),
            AmbiguousPath,
            Status(403),
        ),
        // And from there on to the provider.
        otherwise(
            Nobody,
            "GET",
            "/oauth2/sign_in?rd=https://app.example.com/app/x",
            BROWSER,
            Leads(302, PROVIDER),
            SeeOther,
            Leads(303, PROVIDER),
        ),
        otherwise(Nobody, "GET", "/oauth2/sign_in", BROWSER, Leads(302, PROVIDER), SeeOther, Leads(303, PROVIDER)),
        otherwise(
            Nobody,
            "GET",
            "/oauth2/start?rd=https://app.example.com/app/x",
            BROWSER,
            Leads(302, PROVIDER),
            SeeOther,
            Leads(303, PROVIDER),
        ),
        otherwise(Nobody, "GET", "/oauth2/start?rd=%2Fapp%2Fx%3Fa%3D1%26b%3D2", NONE, Leads(302, PROVIDER), SeeOther, Leads(303, PROVIDER)),
        otherwise(Alice, "GET", "/oauth2/start?rd=/app/x", BROWSER, Leads(302, PROVIDER), SeeOther, Leads(303, PROVIDER)),
        otherwise(Nobody, "GET", "/oauth2/start?rd=https://evil.test/", BROWSER, Leads(302, PROVIDER), RedirectRefused, Status(400)),
        otherwise(Nobody, "GET", "/oauth2/sign_in?rd=/app/x", SCRIPT, Leads(302, PROVIDER), NoLoginForScripts, Status(403)),
        // The older ways there.
        otherwise(Nobody, "GET", "/older/x?a=1&b=2", BROWSER, Leads(302, PROVIDER), SeeOther, Leads(303, PROVIDER)),
        otherwise(Nobody, "POST", "/older/x", BROWSER, Leads(302, PROVIDER), SeeOther, Leads(303, PROVIDER)),
        otherwise(Nobody, "GET", "/older/x", SCRIPT, Leads(302, PROVIDER), NoLoginForScripts, Status(403)),
        same(Nobody, "GET", "/oldest/x", BROWSER, Leads(403, PROVIDER)),
        same(Nobody, "GET", "/straight/x", BROWSER, Leads(302, PROVIDER)),
        // A program without a session.
        same(Nobody, "GET", "/api/x", NONE, Status(401)),
        same(Nobody, "GET", "/api/x", BEARER, Status(401)),
        same(Nobody, "DELETE", "/api/x", NONE, Status(401)),
        same(Nobody, "GET", "/admin/x", NONE, Status(401)),
        // Whoever is allowed.
        same(Alice, "GET", "/app/x", BROWSER, ALICE),
        same(Alice, "GET", "/app/x?a=1&b=2?c", BROWSER, ALICE),
        same(Alice, "GET", "/app/%C3%A4/%E2%82%AC", BROWSER, ALICE),
        same(Alice, "GET", "/app/x;v=1/y.z~", BROWSER, ALICE),
        same(Alice, "POST", "/app/form", BROWSER, ALICE),
        same(Alice, "DELETE", "/app/x", SCRIPT, ALICE),
        same(Alice, "OPTIONS", "/app/x", NONE, ALICE),
        same(Alice, "GET", "/app/x", BEARER, ALICE),
        same(Alice, "GET", "/api/x", SCRIPT, App(None)),
        otherwise(Alice, "GET", "/app/a%2Fb", BROWSER, ALICE, AmbiguousPath, Status(403)),
        // A rule of one location: alice is no admin.
        same(Alice, "GET", "/admin/x", BROWSER, Status(403)),
        // Known, and not allowed: there without a session.
        otherwise(
            Bob,
            "GET",
            "/app/x",
            BROWSER,
            Leads(302, "https://app.example.com/oauth2/sign_in?rd="),
            ForbiddenKeepsSession,
            Status(403),
        ),
        otherwise(Bob, "GET", "/api/x", SCRIPT, Status(401), ForbiddenKeepsSession, Status(403)),
        otherwise(Bob, "GET", "/oauth2/userinfo", SCRIPT, Status(401), ForbiddenKeepsSession, Status(200)),
        // What is open.
        same(Nobody, "GET", "/static/site.css", NONE, App(None)),
        same(Alice, "GET", "/static/site.css", NONE, ALICE),
        // The question, asked by the browser itself.
        same(Nobody, "GET", "/oauth2/auth", SCRIPT, Status(401)),
        otherwise(Alice, "GET", "/oauth2/auth", SCRIPT, Status(202), Ok, Status(200)),
        same(Nobody, "GET", "/oauth2/auth_admins", SCRIPT, Status(404)),
        // Who am I?
        same(Nobody, "GET", "/oauth2/userinfo", SCRIPT, Status(401)),
        same(Alice, "GET", "/oauth2/userinfo", SCRIPT, Status(200)),
        // The way back from the provider without a login that it belongs to, and what is no endpoint, which is the app's there.
        otherwise(Nobody, "GET", "/oauth2/callback?code=x&state=y", BROWSER, Status(500), CallbackStatus, Status(400)),
        otherwise(Nobody, "GET", "/oauth2/nothing", NONE, Leads(302, PROVIDER), NoEndpoint, Status(404)),
        // Signing out.
        otherwise(
            Alice,
            "GET",
            "/oauth2/sign_out?rd=/static/bye",
            OWN_LINK,
            Leads(302, "/static/bye"),
            SignOutReachesProvider,
            Leads(303, PROVIDER),
        ),
        otherwise(Alice, "GET", "/oauth2/sign_out?rd=/static/bye", ELSEWHERE, Leads(302, "/static/bye"), SignOutAsksStrangers, Status(200)),
        otherwise(
            Nobody,
            "GET",
            "/oauth2/sign_out?rd=/static/bye",
            OWN_LINK,
            Leads(302, "/static/bye"),
            SeeOther,
            Leads(303, "https://app.example.com/static/bye"),
        ),
        otherwise(
            Nobody,
            "GET",
            "/oauth2/sign_out",
            OWN_LINK,
            Leads(302, "/oauth2/sign_out"),
            SignOutLoops,
            Leads(303, "https://app.example.com/"),
        ),
    ]
}

/// One case by itself.
async fn outcome(moved: &Moved, case: &Case, cookie: &str) -> Outcome {
    moved.app.reset();
    let mut headers = case.headers.to_vec();
    if !cookie.is_empty() {
        headers.push(("cookie", cookie));
    }
    let answer = moved.send(case.method, case.path, &headers, if case.method == "POST" { b"a=1&b=2" } else { b"" }).await;
    let at_app = moved.app.count();
    if at_app > 0 {
        assert_eq!((at_app, answer.status.as_u16()), (1, 200), "{} {}: {}", case.method, case.path, answer.text());
        let seen = moved.app.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), (case.method, case.path));
        assert_eq!(seen.body.as_ref(), if case.method == "POST" { &b"a=1&b=2"[..] } else { b"" });
        let own = |name: &str| case.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        assert_eq!(seen.header("authorization"), own("authorization"), "what is the app's passes");
        let (user, email) = (seen.header("x-user").unwrap_or_default(), seen.header("x-email").unwrap_or_default());
        assert_eq!(seen.header("x-access-token").is_some(), !user.is_empty(), "{} {}", case.method, case.path);
        return App(match (user.as_str(), email.as_str()) {
            ("", "") => None,
            ("alice", "alice@example.test") => Some(("alice", "alice@example.test")),
            other => panic!("the app was told of {other:?}"),
        });
    }
    let status = answer.status.as_u16();
    match answer.location() {
        Some(location) => {
            let location = location.replace(&format!("{}/", moved.provider.issuer()), PROVIDER);
            let expected = [Some(case.there), case.here.map(|(_, here)| here)].into_iter().flatten().find_map(|outcome| match outcome {
                Leads(_, place) if location == place => Some(place),
                Leads(_, beginning) if (beginning == PROVIDER || beginning.ends_with("rd=")) && location.starts_with(beginning) => {
                    Some(beginning)
                }
                _ => None,
            });
            Leads(status, expected.unwrap_or_else(|| Box::leak(location.into_boxed_str())))
        }
        None => Status(status),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nginx_asked_oauth2_proxy_it_may_ask_here() {
    let moved = Moved::start(NGINX, MOVED).await;
    hold(&moved).await;
}

/// The options from which [`MOVED`] is made by hand, given to the import; the rule of one location becomes a policy, as its report says.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_import_makes_of_the_old_options_answers_as_they_did() {
    let dir = TempDir::new("imported");
    let secrets_at = dir.path().display().to_string();
    let nginx = NGINX.replace("?allowed_groups=admins,owners", "?policy=auth-1");
    let moved = Moved::start_with(&nginx, |identity_provider, port| {
        let options = format!(
            r#"
http_address = "127.0.0.1:{port}"
reverse_proxy = true
trusted_proxy_ips = ["127.0.0.1"]
provider = "oidc"
oidc_issuer_url = "{}"
client_id = "{}"
client_secret = "{}"
cookie_secret = "0123456789abcdef0123456789abcdef"
redirect_url = "{SITE}/oauth2/callback"
upstreams = ["static://202"]
email_domains = ["example.test"]
allowed_groups = ["staff"]
skip_auth_routes = ["^/static/"]
skip_provider_button = true
set_xauthrequest = true
pass_access_token = true
"#,
            identity_provider.issuer(),
            identity_provider.client_id(),
            identity_provider.client_secret()
        );
        let inputs = [Input { name: "oauth2-proxy.cfg".to_owned(), text: options }];
        let auth_urls = [format!("{SITE}/oauth2/auth?allowed_groups=admins,owners")];
        let request = Request { inputs: &inputs, environment: None, auth_urls: &auth_urls, secrets_at: &secrets_at };
        let imported = import(&request).unwrap_or_else(|error| panic!("{error}"));
        for file in &imported.files {
            let content = file.content.as_ref().unwrap_or_else(|| panic!("{} has to be put there", file.name));
            dir.write_secret(&file.name, content.expose());
        }
        eprintln!("{}", imported.config);
        imported.config
    })
    .await;
    hold(&moved).await;
}

/// Every case comes out as the table says.
async fn hold(moved: &Moved) {
    let mut wrong = Vec::new();
    let mut told = Vec::new();
    for case in cases() {
        let cookie = match case.who {
            Who::Nobody => String::new(),
            Who::Alice => {
                moved.provider.set_user(json!({ "sub": "alice", "email": "alice@example.test", "email_verified": true, "groups": ["staff"], "preferred_username": "al" }));
                moved.session().await
            }
            Who::Bob => {
                moved.provider.set_user(json!({ "sub": "bob", "email": "bob@example.test", "email_verified": true, "groups": ["guests"] }));
                moved.session().await
            }
        };
        let found = outcome(moved, &case, &cookie).await;
        let expected = case.here.map_or(case.there, |(_, here)| here);
        told.extend(case.here.map(|(why, _)| why));
        if found != expected {
            wrong.push(format!("{:?} {} {} {:?}: {found:?}, expected {expected:?}", case.who, case.method, case.path, case.headers));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), moved.gateway.access_lines());
    // A difference that no case shows any more is none to be told.
    told.sort();
    told.dedup();
    let all = [
        SeeOther,
        Ok,
        ForbiddenKeepsSession,
        SignOutReachesProvider,
        SignOutAsksStrangers,
        SignOutLoops,
        NoLoginForScripts,
        RedirectRefused,
        AmbiguousPath,
        CallbackStatus,
        NoEndpoint,
    ];
    assert_eq!(told, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_and_out_through_the_old_snippet() {
    let moved = Moved::start(NGINX, MOVED).await;
    // nginx does not escape: `&b=2` and the page's own `state` and `return_to` arrive all the same.
    for place in ["/app/x?a=1&b=2&state=own&provider=x&return_to=https://evil.test/", "/app/%C3%A4?q=%26&c", "/older/x?a=1&b=2"] {
        let mut browser = moved.browser();
        let page = browser.get(&format!("{SITE}{place}")).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), page.url.as_str()), (200, format!("{SITE}{place}").as_str()), "{}", page.text());
        let seen = moved.app.last();
        assert_eq!(seen.target, place);
        if !place.starts_with("/older") {
            assert_eq!((seen.header("x-user").as_deref(), seen.header("x-email").as_deref()), (Some("alice"), Some("alice@example.test")));
            assert!(seen.header("x-access-token").is_some_and(|token| token.len() > 20));
        }
    }
    // What scripts of the app read: the same names, and the claims that are told to the app by name.
    let cookie = moved.session().await;
    let told = moved.send("GET", "/oauth2/userinfo", &[("cookie", &cookie)], b"").await;
    let told = told.json();
    assert_eq!(
        (&told["user"], &told["email"], &told["groups"]),
        (&json!("alice"), &json!("alice@example.test"), &json!(["staff", "users"]))
    );
    assert_eq!((&told["preferredUsername"], told.get("additionalClaims")), (&json!("alice"), None));
    // The browser that asks by itself learns that it is signed in, and nothing that is for the app.
    let answer = moved.send("GET", "/oauth2/auth", &[("cookie", &cookie)], b"").await;
    assert_eq!((answer.status.as_u16(), answer.headers.keys().any(|name| name.as_str().starts_with("x-auth-request"))), (200, false));
    // 403 with a Location is shown and not followed: the page itself goes on, or has a link.
    let page = moved.send("GET", "/oldest/x", BROWSER, b"").await;
    let text = page.text().replace("&#x2f;", "/").replace("&amp;", "&");
    let place = page.location().unwrap();
    assert!(
        page.status == 403 && text.contains(&format!("content=\"0;url={place}\"")) && text.contains(&format!("href=\"{place}\"")),
        "{text}"
    );
}

/// Names that scripts read stay, whatever is told beside them.
#[tokio::test(flavor = "multi_thread")]
async fn claims_that_an_app_is_told_stand_in_userinfo() {
    let tables = format!(
        "{MOVED}[[route]]\npath = \"/claims/\"\nallow = \"any-authenticated\"\nheaders = {{ \"X-Tenant\" = \"{{claims.tenant.id}}\", \"X-None\" = \"{{claims.none}}\" }}\n"
    );
    let moved = Moved::start(NGINX, &tables).await;
    moved.provider.set_user(json!({ "sub": "alice", "tenant": { "id": ["blue", 7], "secret": "x" }, "other": "y" }));
    let cookie = moved.session().await;
    let told = moved.send("GET", "/oauth2/userinfo", &[("cookie", &cookie)], b"").await.json();
    assert_eq!(told["additionalClaims"], json!({ "tenant.id": ["blue", 7] }));
}

/// What its documentation says to write for signing out at the provider too.
#[tokio::test(flavor = "multi_thread")]
async fn an_rd_that_is_the_providers_own_sign_out_is_a_plain_one() {
    let moved = Moved::start(NGINX, MOVED).await;
    let end_session = format!("{}/end_session", moved.provider.issuer());
    for (rd, arrives) in [
        (format!("{end_session}?id_token_hint={{id_token}}&post_logout_redirect_uri={SITE}/static/bye"), Some("/static/bye")),
        (
            encoded(&format!(
                "{end_session}?id_token_hint={{id_token}}&post_logout_redirect_uri={}",
                encoded(&format!("{SITE}/static/bye?a=b"))
            )),
            Some("/static/bye?a=b"),
        ),
        (encoded(&format!("{end_session}?post_logout_redirect_uri=https://evil.test/")), None),
        (encoded(&end_session), None),
    ] {
        let cookie = moved.session().await;
        let mut headers = OWN_LINK.to_vec();
        headers.push(("cookie", &cookie));
        let before = moved.provider.logouts().len();
        let mut browser = moved.browser();
        for pair in cookie.split("; ") {
            browser.plant_cookie(SITE, &format!("{pair}; Path=/; Secure"));
        }
        let page = browser.get_from(SITE, &format!("{SITE}/oauth2/sign_out?rd={rd}")).await;
        assert!(page.status == 303 && page.location().unwrap().starts_with(&end_session), "{rd}: {}", page.summary());
        assert!(!page.location().unwrap().contains("id_token%7D"), "the hint is the true one");
        let page = browser.follow_all(page).await;
        assert_eq!(moved.provider.logouts().len(), before + 1, "{rd}");
        match arrives {
            Some(place) => assert_eq!(page.url.as_str(), format!("{SITE}{place}"), "{rd}"),
            None => assert_eq!((page.status.as_u16(), page.url.path()), (200, "/oauth2/signed_out"), "{rd}: {}", page.text()),
        }
        assert_eq!(moved.send("GET", "/app/x", &[("cookie", &cookie)], b"").await.status, 302, "signed out is signed out");
    }
    // Anywhere else is refused, at the provider's address too, and nobody is signed out.
    let cookie = moved.session().await;
    let issuer = moved.provider.issuer();
    for rd in [
        format!("{issuer}/other"),
        format!("{end_session}/x"),
        "https://evil.test/end_session".to_owned(),
        end_session.replace("http://", "http://a@"),
    ] {
        let mut headers = OWN_LINK.to_vec();
        headers.push(("cookie", &cookie));
        assert_eq!(moved.send("GET", &format!("/oauth2/sign_out?rd={}", encoded(&rd)), &headers, b"").await.status, 400, "{rd}");
        assert_eq!(moved.send("GET", "/api/x", &[("cookie", &cookie)], b"").await.status, 200);
    }
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
