//! What a login has to be worth: asked for at the provider, held against the ID token and on every request; told to programs by RFC 9470.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::answer::Answer;
use crate::harness::body::empty;
use crate::harness::browser::{Browser, Page};
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::hostile::{HostileProvider, Lie};
use crate::harness::http::fetch;
use crate::harness::oidc_provider::{self, OidcProvider};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{free_port, unix_now};
use crate::harness::world::{reason_of, target_of};

const MINUTE: Duration = Duration::from_secs(60);

const ROUTES: &str = r#"
[[route]]
id = "app"
upstream = "@UPSTREAM@"
allow = "any-authenticated"

[[route]]
id = "admin"
path = "/admin"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
acr = ["mfa", "phr"]

[[route]]
id = "fresh"
path = "/fresh"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
max_age = 600

[[route]]
id = "both"
path = "/both"
upstream = "@UPSTREAM@"
accept = ["session", "bearer"]
allow = "any-authenticated"
acr = ["mfa"]
max_age = 600

[[route]]
id = "board"
path = "/board"
upstream = "@UPSTREAM@"
allow = { groups = ["board"] }
acr = ["mfa"]
"#;

struct World {
    gateway: Gateway,
    provider: HostileProvider,
    upstream: EchoUpstream,
    ahead: Arc<AtomicU64>,
}

impl World {
    fn start() -> Self {
        let ahead = Arc::new(AtomicU64::new(0));
        let passed = Arc::clone(&ahead);
        let hostile = HostileProvider::builder().clock(Arc::new(move || unix_now() + passed.load(Ordering::SeqCst))).start();
        let upstream = EchoUpstream::start();
        let issuer = hostile.issuer();
        let config = format!(
            "{TOP}trusted_proxies = [\"127.0.0.1\"]\n{}\n[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"api\"\n{}",
            provider(&issuer, hostile.client_id(), hostile.client_secret()),
            ROUTES.replace("@UPSTREAM@", &upstream.url())
        );
        Self { gateway: Gateway::start(&config), provider: hostile, upstream, ahead }
    }

    fn advance(&self, by: Duration) {
        self.gateway.advance(by);
        self.ahead.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.url)
    }

    async fn visit(&self, browser: &mut Browser, path: &str) -> Page {
        let page = browser.get(&self.at(path)).await;
        browser.follow_all(page).await
    }

    /// Somebody with a session that was worth nothing in particular; the upstream and the provider have not been asked since.
    async fn signed_in(&self) -> Browser {
        let mut browser = Browser::new();
        assert_eq!(self.visit(&mut browser, "/first").await.status, 200);
        self.upstream.reset();
        self.provider.reset_counts();
        browser
    }

    fn asked(&self) -> Vec<(Option<String>, Option<String>)> {
        let of = |name: &str, params: &std::collections::HashMap<String, String>| params.get(name).cloned();
        self.provider.authorizations().iter().map(|params| (of("acr_values", params), of("max_age", params))).collect()
    }

    async fn program(&self, path: &str, header: (&str, &str)) -> Answer {
        fetch(http::Request::get(self.at(path)).header(header.0, header.1).body(empty()).unwrap()).await
    }
}

fn session(browser: &Browser) -> String {
    browser.cookie("doorward").unwrap().value
}

fn challenge(answer: &Answer) -> String {
    answer.header("www-authenticate").unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_wants_more_leads_to_a_login_that_is_worth_more() {
    let world = World::start();
    let mut browser = world.signed_in().await;
    let weak = session(&browser);
    let page = browser.get(&world.at("/admin/x?q=1&state=2")).await;
    assert_eq!((page.status.as_u16(), world.upstream.count()), (303, 0));
    // The old session stays until the new one begins.
    assert_eq!(session(&browser), weak);
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/admin/x?q=1&state=2"));
    assert_eq!(world.asked(), [(Some("mfa phr".to_owned()), None)]);
    // A new id at the change of what it is worth: the old cookie opens nothing.
    assert_ne!(session(&browser), weak);
    let answer = world.program("/first", ("cookie", &format!("doorward={weak}"))).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, "no-credential"));
    assert_eq!(browser.get(&world.at("/admin/y")).await.status, 200);
    assert_eq!(world.asked().len(), 1);
    assert_eq!(world.provider.complaints(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_wants_a_fresh_login_asks_again_when_the_last_one_is_too_long_ago() {
    let world = World::start();
    let mut browser = world.signed_in().await;
    assert_eq!(browser.get(&world.at("/fresh/a")).await.status, 200);
    // Ten minutes, and the leeway of one for two clocks; half a minute for a slow machine, whose own time goes on as well.
    world.advance(11 * MINUTE - Duration::from_secs(30));
    assert_eq!(browser.get(&world.at("/fresh/b")).await.status, 200);
    world.advance(Duration::from_secs(32));
    assert_eq!(browser.get(&world.at("/first")).await.status, 200);
    let page = browser.get(&world.at("/fresh/c?x=1")).await;
    assert_eq!(page.status, 303);
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/fresh/c?x=1"));
    assert_eq!(world.asked(), [(None, Some("600".to_owned()))]);
    // Somebody who never signed in is asked for it at once.
    let page = world.visit(&mut Browser::new(), "/both/x").await;
    assert_eq!(page.status, 200);
    assert_eq!(world.asked()[1], (Some("mfa".to_owned()), Some("600".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_give_it_is_not_believed_and_nothing_goes_round() {
    let world = World::start();
    // Userinfo and the claims of the person may say what they like: it is the login that counts.
    world.provider.set_user(json!({ "sub": "alice", "acr": "mfa", "auth_time": 4_000_000_000_u64 }));
    for (lie, path) in [
        (Lie::AcrWeaker("pwd"), "/admin"),
        (Lie::AcrMissing, "/admin"),
        (Lie::AcrWeaker("pwd"), "/both"),
        (Lie::AuthTimeOld, "/both"),
        (Lie::AuthTimeAhead, "/both"),
        (Lie::AuthTimeMissing, "/both"),
    ] {
        let mut browser = world.signed_in().await;
        world.advance(30 * MINUTE);
        let weak = session(&browser);
        world.provider.set(lie.clone());
        let mut page = world.visit(&mut browser, &format!("{path}?q=1")).await;
        for round in 1..=4 {
            assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "step-up-not-given".to_owned()), "{lie:?}: {}", page.text());
            // The session of before is as good as it was; of the new login nothing is left.
            assert_eq!((session(&browser), world.upstream.count()), (weak.clone(), 0), "{lie:?}");
            assert_eq!(world.asked().len(), round);
            if round == 4 {
                world.provider.set(Lie::None);
            }
            // The demand stays in the flow.
            page = browser.click(&page, &page.link("Try again")).await;
            page = browser.follow_all(page).await;
        }
        assert_eq!((page.status.as_u16(), world.upstream.last().target), (200, format!("{path}?q=1")), "{lie:?}");
        assert!(world.asked().iter().all(|asked| *asked == world.asked()[0]));
        world.provider.set(Lie::None);
    }
    let outcome = "doorward_logins_total{provider=\"default\",outcome=\"step-up-not-given\"}";
    assert_eq!(world.gateway.metric(outcome).await, 6 * 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_told_what_is_missing_and_where_to_get_it() {
    let world = World::start();
    let browser = world.signed_in().await;
    let cookie = format!("doorward={}", session(&browser));
    let answer = world.program("/admin/x", ("cookie", &cookie)).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (401, Some("insufficient_user_authentication")));
    assert_eq!(reason_of(&answer), "login-too-weak");
    let told = challenge(&answer);
    assert!(told.starts_with("Doorward-Session realm=") && told.contains("error=\"insufficient_user_authentication\""), "{told}");
    assert!(told.contains("acr_values=\"mfa phr\"") && !told.contains("max_age"), "{told}");
    assert!(answer.set_cookies().is_empty());

    // The page that it runs in asks for less than the address that it asked for: the link knows.
    let mut page_of_program = browser.clone();
    page_of_program.get(&world.at("/spa?tab=1")).await;
    let answer = page_of_program.fetch_api(http::Method::GET, &world.at("/admin/data"), &[], b"").await;
    let login_url = answer.json()["login_url"].as_str().unwrap().to_owned();
    assert!(login_url.ends_with("&route=admin"), "{login_url}");
    world.provider.reset_counts();
    let page = page_of_program.get(&login_url).await;
    let page = page_of_program.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/spa?tab=1"));
    assert_eq!(world.asked(), [(Some("mfa phr".to_owned()), None)]);
    assert_eq!(page_of_program.fetch_api(http::Method::GET, &world.at("/admin/data"), &[], b"").await.status, 200);

    let mut other = Browser::new();
    let page = other.get(&world.at("/oauth2/start?rd=/spa&route=nobody")).await;
    assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "parameter-invalid".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_is_held_to_its_own_claims() {
    let world = World::start();
    let now = unix_now();
    let token = |claims: Value| {
        let mut all = json!({ "aud": "api" });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        format!("Bearer {}", world.provider.access_token(all, "at+jwt"))
    };
    let good = token(json!({ "acr": "mfa", "auth_time": now - 30 }));
    assert_eq!(world.program("/both/x", ("authorization", &good)).await.status, 200);
    let before = world.upstream.count();
    for (claims, reason) in [
        (json!({ "auth_time": now }), "login-too-weak"),
        (json!({ "acr": "pwd", "auth_time": now }), "login-too-weak"),
        (json!({ "acr": "mfa" }), "login-too-old"),
        (json!({ "acr": "mfa", "auth_time": now - 700 }), "login-too-old"),
        (json!({ "acr": "mfa", "auth_time": now.to_string() }), "login-too-old"),
    ] {
        let token = token(claims.clone());
        let answer = world.program("/both/x", ("authorization", &token)).await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, reason), "{claims}");
        assert_eq!(answer.json()["error"], "insufficient_user_authentication");
        let told = challenge(&answer);
        assert!(told.starts_with("Bearer realm=") && told.contains("error=\"insufficient_user_authentication\""), "{told}");
        assert!(told.contains(", acr_values=\"mfa\", max_age=\"600\", resource_metadata=\""), "{told}");
        // A navigation with a token is no person at a browser.
        let request = http::Request::get(world.at("/both/x")).header("authorization", &token);
        let request = request.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
        assert_eq!(fetch(request.body(empty()).unwrap()).await.status, 401);
    }
    assert_eq!(world.upstream.count(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_policy_keeps_out_is_told_so_and_not_sent_for_more() {
    let world = World::start();
    let mut browser = world.signed_in().await;
    let page = browser.get(&world.at("/board")).await;
    assert_eq!(page.status, 403);
    assert!(page.text().contains("not-allowed") && world.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_auth_asks_for_more_in_its_own_statuses() {
    let world = World::start();
    let browser = world.signed_in().await;
    let ask = |endpoint: &str, navigates: bool| {
        let mut request = http::Request::get(world.at(endpoint))
            .header("x-original-method", "GET")
            .header("x-original-uri", "/admin/x?a=b")
            .header("x-forwarded-host", world.gateway.address.to_string())
            .header("x-forwarded-proto", "http")
            .header("cookie", format!("doorward={}", session(&browser)));
        if navigates {
            request = request.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
        }
        fetch(request.body(empty()).unwrap())
    };
    for (endpoint, navigates) in [("/oauth2/auth", true), ("/oauth2/auth", false), ("/oauth2/forward", false)] {
        let answer = ask(endpoint, navigates).await;
        assert_eq!(answer.status, 401, "{endpoint} {navigates}");
        assert!(challenge(&answer).contains("acr_values=\"mfa phr\""), "{}", challenge(&answer));
        assert!(answer.set_cookies().is_empty());
    }
    let answer = ask("/oauth2/forward", true).await;
    assert_eq!(answer.status, 303);
    assert!(answer.location().unwrap().contains("acr_values=mfa+phr"), "{:?}", answer.location());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_provider_proves_what_a_login_was_worth_and_when_it_was() {
    let port = free_port();
    let process = OidcProvider::start(&format!("http://127.0.0.1:{port}/oauth2/callback")).await;
    let upstream = EchoUpstream::start();
    let config = format!(
        "{TOP}{}{}",
        provider(process.issuer(), oidc_provider::CLIENT_ID, oidc_provider::CLIENT_SECRET),
        ROUTES.replace("@UPSTREAM@", &upstream.url()).replace("accept = [\"session\", \"bearer\"]\n", "")
    );
    let gateway = Gateway::start_on(port, &config);
    let mut browser = Browser::new();
    let page = browser.get(&format!("{}/fresh/x?q=1", gateway.url)).await;
    let page = oidc_provider::log_in(&mut browser, page, "alice", &gateway.redirect_uri()).await;
    assert_eq!(target_of(&page), "/fresh/x?q=1");
    assert_eq!(browser.follow(&page).await.status, 200);
    let page = browser.get(&format!("{}/admin/x", gateway.url)).await;
    let page = oidc_provider::log_in(&mut browser, page, "alice", &gateway.redirect_uri()).await;
    assert_eq!((target_of(&page), upstream.count()), ("/admin/x".to_owned(), 1));
    assert_eq!(browser.follow(&page).await.status, 200);
}
