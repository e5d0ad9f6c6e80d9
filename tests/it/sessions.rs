//! Sessions: their cookies, how long they live, what opens them, and that nothing of them is told to a log.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "test code: it fails loudly, and its patience is the machine's"
)]

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::harness::answer::Answer;
use crate::harness::body::empty;
use crate::harness::browser::Browser;
use crate::harness::certs::CertificateAuthority;
use crate::harness::cookies::SameSite;
use crate::harness::gateway::{GatewayProcess, TOP, provider};
use crate::harness::hostile::{HostileProvider, Lie};
use crate::harness::http::{HttpClient, fetch};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, free_port};
use crate::harness::world::{Shape, World, reason_of};

const MINUTE: Duration = Duration::from_secs(60);
const WEEK: u64 = 7 * 24 * 60 * 60;

/// What a program gets that sends this `Cookie` line.
async fn with_cookie(world: &World, cookie: &str) -> Answer {
    fetch(http::Request::get(world.at("/app")).header("cookie", cookie).body(empty()).expect("a request")).await
}

/// Nobody: refused for this reason, and the upstream is not reached.
async fn is_nobody(world: &World, cookie: &str, reason: &str) {
    let before = world.upstream.count();
    let answer = with_cookie(world, cookie).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, reason), "{}", answer.text());
    assert_eq!(world.upstream.count(), before);
}

fn line<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let found = answer.set_cookies().into_iter().find(|line| line.starts_with(name));
    found.unwrap_or_else(|| panic!("no Set-Cookie {name}: {:?}", answer.set_cookies()))
}

/// What a session cookie's line ends with: the rest of a week, and an hour more. A second may have passed since the session began.
fn ends_after_a_week(attributes: &str, rest: &str) {
    let (before, seconds) = attributes.split_once("; Max-Age=").expect("Max-Age");
    let seconds: u64 = seconds.parse().expect("seconds");
    assert!(before == rest && seconds <= WEEK + 3600 && seconds > WEEK + 3600 - 60, "{attributes}");
}

/// Name, value and the rest of a `Set-Cookie` line.
fn parts(line: &str) -> (&str, &str, &str) {
    let (pair, attributes) = line.split_once("; ").expect("attributes");
    let (name, value) = pair.split_once('=').expect("a value");
    (name, value, attributes)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_cookies_are_plain_and_as_short_as_they_can_be() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = browser.get(&world.at("/app")).await;
    let (name, value, attributes) = parts(line(&page, "doorward-flow-"));
    assert_eq!((name.len(), value.len()), ("doorward-flow-".len() + 22, 43));
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=3600");
    let page = browser.follow_up_to(page, &world.gateway.redirect_uri()).await;
    let page = browser.follow(&page).await;
    let (name, value, attributes) = parts(line(&page, "doorward="));
    assert_eq!((name, value.len()), ("doorward", 64));
    ends_after_a_week(attributes, "Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(parts(line(&page, "doorward-flow-")).2, "Path=/; HttpOnly; SameSite=Lax; Max-Age=600");
    assert_eq!(browser.refused_cookies(), []);
    // A page of the app sets none of ours.
    let page = browser.follow(&page).await;
    assert!(page.set_cookies().is_empty());
    let seen = world.upstream.last().everything();
    assert!(!seen.contains(value) && !seen.to_lowercase().contains("cookie: doorward"), "{seen}");
}

/// A gateway that ends TLS itself, under these names; everything else as the shape says.
pub fn over_tls(authority: &CertificateAuthority, names: &[&str], shape: Shape<'_>) -> World {
    let leaf = authority.leaf(names);
    let tls = format!(
        "[tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n{}",
        leaf.certificate_file().display(),
        leaf.key_file().display(),
        shape.tables
    );
    World::shaped(Shape { tables: &tls, ..shape }, |provider| provider)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_https_cookies_are_bound_to_their_host() {
    let authority = CertificateAuthority::new();
    for (top, suffix) in [("", ""), ("cookie_suffix = \"-staging\"", "-staging")] {
        let shape = Shape { public_url: "\"https://app.test\"", top, ..Shape::default() };
        let world = over_tls(&authority, &["app.test"], shape);
        let mut browser = Browser::new().trusting(authority.client_config()).resolve("app.test", world.gateway.address);
        let page = browser.get("https://app.test/x").await;
        let (_, value, attributes) = parts(line(&page, &format!("__Host-doorward-flow{suffix}-")));
        assert_eq!((value.len(), attributes), (43, "Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=3600"));
        let page = browser.follow_up_to(page, "https://app.test/oauth2/callback").await;
        let page = browser.follow(&page).await;
        let (_, value, attributes) = parts(line(&page, &format!("__Host-doorward{suffix}=")));
        assert_eq!(value.len(), 64);
        ends_after_a_week(attributes, "Path=/; HttpOnly; Secure; SameSite=Lax");
        let value = value.to_owned();
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/x"));
        assert_eq!(browser.refused_cookies(), []);
        // The name without prefix is not ours here.
        let stolen = http::Request::get("https://app.test/x").header("cookie", format!("doorward{suffix}={value}"));
        let client = HttpClient::new().at(world.gateway.address).trusting(authority.client_config());
        let answer = client.fetch(stolen.body(empty()).expect("a request")).await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, "no-credential"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_form_post_the_flow_cookie_comes_along_from_the_providers_site() {
    let authority = CertificateAuthority::new();
    let shape = Shape { public_url: "\"https://app.test\"", provider: "response_mode = \"form_post\"\n", ..Shape::default() };
    let world = over_tls(&authority, &["app.test"], shape);
    let mut browser = Browser::new().trusting(authority.client_config()).resolve("app.test", world.gateway.address);
    let page = browser.get("https://app.test/x?y=1").await;
    let (_, _, attributes) = parts(line(&page, "__Host-doorward-flow-"));
    assert_eq!(attributes, "Path=/; HttpOnly; Secure; SameSite=None; Max-Age=3600");
    let form_page = browser.follow_all(page).await;
    assert_eq!((form_page.form().action.as_str(), world.tokens()), ("https://app.test/oauth2/callback", 0));

    let page = browser.submit(&form_page, &form_page.form(), &[]).await;
    let (_, _, attributes) = parts(line(&page, "__Host-doorward="));
    assert!(attributes.contains("SameSite=Lax"), "{attributes}");
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/x?y=1"));

    // Sent again: the session cookie does not come along, so a new attempt begins; the old code is not tried.
    let page = browser.submit(&form_page, &form_page.form(), &[]).await;
    assert_eq!((page.status.as_u16(), world.tokens()), (303, 1));
    let page = browser.follow_all(page).await;
    let page = browser.submit(&page, &page.form(), &[]).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/x?y=1"));
    // Another browser with the same form gets nothing.
    let mut thief = Browser::new().trusting(authority.client_config()).resolve("app.test", world.gateway.address);
    let page = thief.submit(&form_page, &form_page.form(), &[]).await;
    assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "state-unknown".to_owned()));
    assert_eq!(world.provider.complaints(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_one_cookie_domain_share_a_session_and_the_login_host() {
    let authority = CertificateAuthority::new();
    let shape = Shape {
        public_url: "[\"https://login.app.test\", \"https://www.app.test\", \"https://elsewhere.test\"]",
        top: "cookie_domain = \"app.test\"",
        ..Shape::default()
    };
    let world = over_tls(&authority, &["login.app.test", "www.app.test", "elsewhere.test"], shape);
    let mut browser = Browser::new().trusting(authority.client_config()).resolve("*", world.gateway.address);
    let page = browser.get("https://www.app.test/x?y=1&z=2").await;
    assert!(page.location().is_some_and(|to| to.starts_with("https://login.app.test/oauth2/start?rd=")), "{}", page.summary());
    let page = browser.follow_up_to(page, "https://login.app.test/oauth2/callback").await;
    let page = browser.follow(&page).await;
    let (_, _, attributes) = parts(line(&page, "__Secure-doorward="));
    ends_after_a_week(attributes, "Path=/; HttpOnly; Domain=app.test; Secure; SameSite=Lax");
    let page = browser.follow_all(page).await;
    assert_eq!((page.url.as_str(), page.status.as_u16()), ("https://www.app.test/x?y=1&z=2", 200));
    let page = browser.get("https://login.app.test/also").await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str(), world.tokens()), (200, "/also", 1));
    assert_eq!(browser.refused_cookies(), []);
    assert_eq!(world.upstream.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_cookie_ends_with_the_browser() {
    let world = World::shaped(Shape { tables: "[session]\ncookie = \"browser\"\n", ..Shape::default() }, |provider| provider);
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/app").await;
    let page = browser.follow(&page).await;
    assert_eq!(parts(line(&page, "doorward=")).2, "Path=/; HttpOnly; SameSite=Lax");
    let kept = browser.cookie("doorward").expect("a session");
    assert_eq!((kept.expires, kept.http_only, kept.same_site, kept.host_only), (None, true, SameSite::Lax, true));
    assert_eq!(browser.get(&world.at("/app")).await.status, 200);
    browser.restart();
    world.upstream.reset();
    assert_eq!((browser.get(&world.at("/app")).await.status.as_u16(), world.upstream.count()), (303, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_login_has_a_new_session_and_the_one_before_is_dead() {
    let world = World::start();
    // Fixation: the attacker's own session is planted before the victim signs in.
    let attacker = world.signed_in().await;
    let planted = world.session(&attacker).expect("a session");
    let mut victim = Browser::new();
    victim.plant_cookie(&world.at("/"), &format!("doorward={planted}; Path=/"));
    world.provider.set_user(serde_json::json!({ "sub": "victor" }));
    let page = victim.get(&world.at("/oauth2/start?rd=/mine")).await;
    let page = victim.follow_all(page).await;
    assert_eq!(page.status, 200);
    assert_eq!(world.upstream.last().header("x-forwarded-user").as_deref(), Some("victor"));
    let own = world.session(&victim).expect("a session");
    assert_ne!(own, planted);
    assert_ne!(own[..21], planted[..21], "the id is new, not only the key");
    is_nobody(&world, &format!("doorward={planted}"), "no-credential").await;

    let page = victim.get(&world.at("/oauth2/start")).await;
    victim.follow_all(page).await;
    let next = world.session(&victim).expect("a session");
    is_nobody(&world, &format!("doorward={own}"), "no-credential").await;
    assert_eq!(with_cookie(&world, &format!("doorward={next}")).await.status, 200);
    let world = world.restart();
    for dead in [&planted, &own] {
        is_nobody(&world, &format!("doorward={dead}"), "no-credential").await;
    }
}

/// Touches are written beside the request, one at a time: the next leap in time waits for this one.
async fn store_heard_of(world: &World, uses: u64) {
    let end = std::time::Instant::now() + PATIENCE;
    while world.gateway.metric("doorward_store_seconds_count{operation=\"touch_session\"}").await < uses {
        assert!(std::time::Instant::now() < end, "the store never heard of use {uses}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unused_session_ends_and_a_used_one_lives_until_its_absolute_end() {
    let shape = Shape { tables: "[session]\nidle = \"10m\"\nabsolute = \"1h\"\n", ..Shape::default() };
    let mut world = World::shaped(shape, |provider| provider);
    let (mut used, mut idle) = (world.signed_in().await, world.signed_in().await);
    for uses in 1..=3 {
        world.advance(9 * MINUTE);
        assert_eq!(used.get(&world.at("/app")).await.status, 200);
        store_heard_of(&world, uses).await;
    }
    // The store has heard of the uses: a gateway that starts now knows them.
    world = world.restart();
    world.upstream.reset();
    world.advance(9 * MINUTE);
    assert_eq!((used.get(&world.at("/app")).await.status.as_u16(), world.upstream.count()), (200, 1));
    store_heard_of(&world, 1).await;
    let page = idle.get(&world.at("/app")).await;
    assert_eq!((page.status.as_u16(), world.answers("session-idle").await, world.upstream.count()), (303, 1, 1));
    assert!(line(&page, "doorward=").starts_with("doorward=; ") && world.session(&idle).is_none());

    // In use all the time, and over after an hour.
    for uses in 2..=3 {
        world.advance(9 * MINUTE);
        assert_eq!(used.get(&world.at("/app")).await.status, 200);
        store_heard_of(&world, uses).await;
    }
    let cookie = world.session(&used).expect("a session");
    world.advance(7 * MINUTE);
    is_nobody(&world, &format!("doorward={cookie}"), "session-expired").await;
    let page = used.get(&world.at("/app?x=1")).await;
    assert_eq!((page.status.as_u16(), world.upstream.count()), (303, 3));
    let page = used.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/app?x=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_cookies_that_open_none_counts() {
    let world = World::start();
    let (one, two) = (world.signed_in().await, world.signed_in().await);
    let (one, two) = (world.session(&one).expect("a session"), world.session(&two).expect("a session"));
    let both = format!("doorward={one}; a=b; doorward={two}");
    is_nobody(&world, &both, "session-ambiguous").await;
    // A person goes to the login, and the browser forgets what it cannot tell apart.
    let page =
        fetch(http::Request::get(world.at("/app")).header("cookie", &both).header("accept", "text/html").body(empty()).expect("a request"))
            .await;
    assert_eq!(page.status, 303);
    assert!(page.set_cookies().iter().any(|line| line.starts_with("doorward=; ")), "{:?}", page.set_cookies());
    assert_eq!(world.answers("session-ambiguous").await, 2);
    // Alone each of them counts.
    for cookie in [&one, &two] {
        assert_eq!(with_cookie(&world, &format!("doorward={cookie}")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_of_our_name_that_opens_nothing_counts_as_absent() {
    let world = World::start();
    let browser = world.signed_in().await;
    let good = world.session(&browser).expect("a session");
    let foreign = "Zm9y".repeat(16);
    for other in ["", "x", "\"quoted\"", "a.b.c", foreign.as_str(), &good[..63], &format!("{good}A"), &"A".repeat(4000)] {
        is_nobody(&world, &format!("doorward={other}"), "no-credential").await;
        let answer = with_cookie(&world, &format!("doorward={other}; doorward={good}")).await;
        assert_eq!(answer.status, 200, "{other}");
        let answer = with_cookie(&world, &format!("doorward={good}; doorward={other}")).await;
        assert_eq!(answer.status, 200, "{other}");
    }
    is_nobody(&world, &"doorward=x; ".repeat(500), "no-credential").await;
    // What opens nothing is not deleted: it may be another gateway's.
    let mut browser = Browser::new();
    browser.plant_cookie(&world.at("/"), &format!("doorward={foreign}; Path=/"));
    let page = browser.get(&world.at("/app")).await;
    assert!(page.status == 303 && !page.set_cookies().iter().any(|line| line.starts_with("doorward=")), "{:?}", page.set_cookies());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_id_with_another_key_is_no_session_also_when_it_is_cached() {
    let mut world = World::start();
    let browser = world.signed_in().await;
    let good = world.session(&browser).expect("a session");
    let flipped: String = good.chars().enumerate().map(|(at, c)| if at == 63 { if c == 'A' { 'B' } else { 'A' } } else { c }).collect();
    let other_key = format!("{}{}", &good[..24], "A".repeat(40));
    for cached in [true, false] {
        for forged in [&flipped, &other_key] {
            is_nobody(&world, &format!("doorward={forged}"), "no-credential").await;
            // Nor does it end the session that it names.
            let request = http::Request::post(world.at("/oauth2/sign_out")).header("cookie", format!("doorward={forged}")).body(empty());
            assert_eq!(fetch(request.expect("a request")).await.status, 200);
        }
        assert_eq!(with_cookie(&world, &format!("doorward={good}")).await.status, 200, "cached: {cached}");
        world = world.restart();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_a_restart_of_the_gateway() {
    let world = World::start();
    let mut browser = world.signed_in().await;
    let mut underway = Browser::new();
    let page = world.before_callback(&mut underway, "/underway").await;
    let world = world.restart();
    assert_eq!(browser.get(&world.at("/app")).await.status, 200);
    // So does a login under way.
    let page = underway.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str(), world.tokens()), (200, "/underway", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn userinfo_and_the_session_page_say_who_is_signed_in() {
    let world = World::start();
    let mut browser = world.signed_in().await;
    let answer = browser.fetch_api(Method::GET, &world.at("/oauth2/userinfo"), &[], b"").await;
    assert_eq!(answer.status, 200);
    let mut told = answer.json();
    for time in ["idle_until", "ends_at"] {
        let time = told.as_object_mut().and_then(|told| told.remove(time)).expect("a time");
        assert!(time.as_str().is_some_and(|time| time.ends_with('Z')), "{time}");
    }
    assert_eq!(
        told,
        serde_json::json!({
            "iss": world.provider.issuer(), "sub": "alice", "user": "alice", "email": "alice@example.test",
            "preferredUsername": "alice", "groups": ["staff", "users"],
        })
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let page = browser.get(&world.at("/oauth2/session")).await;
    let text = page.visible_text();
    for part in ["alice", "alice@example.test", "staff", "users", &world.provider.issuer()] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let mut nobody = Browser::new();
    let answer = nobody.fetch_api(Method::GET, &world.at("/oauth2/userinfo"), &[], b"").await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, "no-credential"));
    assert!(answer.header("www-authenticate").is_some() && answer.json()["login_url"].is_string());
    let page = nobody.get(&world.at("/oauth2/session")).await;
    assert!(page.status == 303 && page.location().is_some_and(|to| to.contains("/oauth2/start")), "{}", page.summary());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_reaches_a_log_a_metric_or_the_store_in_the_clear() {
    let hostile = HostileProvider::builder().refresh(true).start();
    let upstream = EchoUpstream::start();
    let config = format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n{}[log]\nlevel = \"trace\"\nformat = \"json\"\n[drain]\ndelay = \"0s\"\n",
        upstream.url(),
        provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret())
    );
    let gateway = GatewayProcess::start_on(free_port(), &config).await;
    let redirect_uri = format!("{}/oauth2/callback", gateway.url);
    let mut secrets = Vec::new();
    let mut remember = |browser: &Browser| {
        secrets.extend(browser.cookies().into_iter().map(|cookie| ("cookie", cookie.value)));
    };

    // A login, the way back to it, a request of the app's own with a secret in its query, a sign-out.
    let mut browser = Browser::new();
    let page = browser.get(&format!("{}/app?key=in-the-query-0123456789", gateway.url)).await;
    let page = browser.follow_up_to(page, &redirect_uri).await;
    let callback = page.next().expect("the callback");
    remember(&browser);
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    remember(&browser);
    browser.get(callback.as_str()).await;
    Browser::new().get(callback.as_str()).await;
    let page = browser.get(&format!("{}/oauth2/session", gateway.url)).await;
    let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    remember(&browser);
    browser.follow_all(page).await;
    // Logins that fail at every step.
    for lie in [
        Lie::NonceOther,
        Lie::WrongAud,
        Lie::BadSignature,
        Lie::NoSub,
        Lie::CodeRefused,
        Lie::TOKEN_NOT_JSON,
        Lie::NoIdToken,
        Lie::TokenTypeOther,
        Lie::UserinfoOtherSub,
        Lie::USERINFO_DOWN,
        Lie::ErrorResponse("access_denied"),
        Lie::ResponseIssWrong,
    ] {
        hostile.set(lie);
        let mut browser = Browser::new();
        let page = browser.get(&format!("{}/app", gateway.url)).await;
        let page = browser.follow_all(page).await;
        assert!(page.status.is_client_error() || page.status.is_server_error(), "{}", page.summary());
        remember(&browser);
    }
    // Credentials of strangers.
    let request = http::Request::get(format!("{}/app", gateway.url))
        .header("authorization", "Bearer stranger-token-0123456789")
        .header("cookie", format!("doorward={}", "c3RyYW5nZXIt".repeat(6).split_at(64).0));
    fetch(request.body(empty()).expect("a request")).await;
    secrets.extend([
        ("query", "in-the-query-0123456789".to_owned()),
        ("bearer", "stranger-token-0123456789".to_owned()),
        ("cookie", "c3RyYW5nZXIt".repeat(2)),
    ]);
    secrets.extend(hostile.secrets());
    for kind in ["client_secret", "code", "code_verifier", "state", "nonce", "access_token", "id_token", "refresh_token", "cookie"] {
        assert!(secrets.iter().any(|(known, value)| *known == kind && value.len() >= 16), "no {kind} to look for");
    }

    let metrics = fetch(crate::harness::http::get(&format!("http://{}/metrics", gateway.admin))).await.text();
    gateway.process.signal("TERM");
    gateway.process.wait(PATIENCE).await;
    let output = gateway.process.output();
    for told in ["login-succeeded", "id-token-nonce", "code-refused", "session-ended", "/oauth2/callback", "state-unknown"] {
        assert!(output.contains(told), "the log does not tell of {told}:\n{output}");
    }
    assert!(metrics.contains("outcome=\"success\"") && metrics.contains("reason=\"state-unknown\""));
    let dir = Arc::clone(&gateway.dir);
    let store = std::fs::read(dir.join("doorward.redb")).expect("the store's file");
    assert!(store.len() > 4096);
    secrets.retain(|(_, value)| !value.is_empty());
    for (kind, secret) in &secrets {
        // A part is as bad as the whole.
        let part = secret.get(..secret.len().min(40)).unwrap_or(secret);
        assert!(!output.contains(part), "a {kind} in the log:\n{}", output.lines().find(|line| line.contains(part)).unwrap_or_default());
        assert!(!metrics.contains(part), "a {kind} in the metrics");
        assert!(!store.windows(part.len()).any(|window| window == part.as_bytes()), "a {kind} in the store");
    }
    for personal in ["alice@example.test", "\"sub\":\"alice\"", "/app?key="] {
        assert!(!store.windows(personal.len()).any(|window| window == personal.as_bytes()), "{personal} in the store");
    }
}
