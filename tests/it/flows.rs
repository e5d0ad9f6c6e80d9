//! Ways through login that do not disturb each other, that go on after a failure, and that never lead in circles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::time::Duration;

use http::Method;
use serde_json::json;
use url::Url;
use url::form_urlencoded::byte_serialize;

use crate::harness::browser::{Browser, Page};
use crate::harness::certs::CertificateAuthority;
use crate::harness::chromium::Chromium;
use crate::harness::hostile::{Endpoint, HostileProvider, Lie};
use crate::harness::jose::random;
use crate::harness::visit::{Destination, Visit, parse};
use crate::harness::world::{Shape, World, reason_of, target_of};
use crate::sessions::over_tls;

fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

fn flow_cookies(browser: &Browser) -> usize {
    browser.cookies().iter().filter(|cookie| cookie.name.starts_with("doorward-flow-")).count()
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// Numbers that look like chance and come again for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn thrown() -> Self {
        let seed = random().bytes().fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        println!("seed {seed}");
        Self(seed | 1)
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tabs_log_in_in_random_order_and_all_land_where_they_wanted() {
    let world = World::start();
    let mut dice = Dice::thrown();
    let mut browser = Browser::new();
    let mut tabs: Vec<(String, Page)> = Vec::new();
    for tab in 0..10 {
        // Some by the app's own link with its state, some by going there.
        let (url, wanted) = match dice.below(2) {
            0 => (format!("/tab/{tab}?state=own{tab}&code=x%20y&q={tab}"), format!("/tab/{tab}?state=own{tab}&code=x%20y&q={tab}")),
            _ => (
                format!("/oauth2/start?return_to={}&state=of-tab-{tab}", escaped(&format!("/spa/{tab}?q={tab}"))),
                format!("/spa/{tab}?q={tab}&state=of-tab-{tab}"),
            ),
        };
        let page = browser.get(&world.at(&url)).await;
        assert_eq!(page.status, 303, "{}", page.text());
        tabs.push((wanted, page));
    }
    assert_eq!((flow_cookies(&browser), world.upstream.count()), (10, 0));
    let mut landed = 0;
    while !tabs.is_empty() {
        // One step of one tab at a time: to the provider, to the callback, to the app.
        let at = dice.below(tabs.len());
        let (wanted, page) = tabs.swap_remove(at);
        if page.next().is_some() {
            let page = browser.follow(&page).await;
            tabs.push((wanted, page));
            continue;
        }
        assert_eq!((page.status.as_u16(), page.answer.json()["target"].as_str().unwrap()), (200, wanted.as_str()), "{}", page.summary());
        landed += 1;
    }
    assert_eq!((landed, world.upstream.count(), world.tokens()), (10, 10, 10));
    assert_eq!(world.provider.complaints(), Vec::<String>::new());
    assert_eq!(world.visit(&mut browser, "/after").await.status, 200);
    assert_eq!(world.tokens(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_own_parameters_are_never_touched() {
    let world = World::start();
    let own = "/cb?code=1&state=2&return_to=%2Fx&rd=/y&iss=z&error=e&flow=f&provider=p&state=";
    let mut browser = Browser::new();
    let page = world.visit(&mut browser, own).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, own));
    let page = browser.get(&world.at(own)).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, own));
    let page = browser.post_form(&world.at(own), &[("code", "1"), ("state", "2"), ("id_token", "3")]).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, own));
    assert_eq!(world.upstream.last().body.as_ref(), b"code=1&state=2&id_token=3");
    assert_eq!(world.tokens(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_any_length_is_no_room_in_the_store() {
    let world = World::start();
    let mut browser = Browser::new();
    for state in ["a".repeat(8 * 1024), "%22".repeat(3 * 1024)] {
        let page = browser.get(&world.at(&format!("/oauth2/start?return_to=/cb&state={state}"))).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "parameter-invalid".to_owned()));
        assert!(page.set_cookies().is_empty());
    }
    let state = "a".repeat(7 * 1024);
    let page = world.visit(&mut browser, &format!("/oauth2/start?return_to=/cb&state={state}")).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, format!("/cb?state={state}").as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_login_leads_on_in_the_same_flow_to_the_same_place() {
    let world = World::start();
    let mut browser = Browser::new();
    world.provider.set(Lie::ErrorResponse("access_denied"));
    let page = browser.get(&world.at(&format!("/oauth2/start?return_to={}&state=xyz", escaped("/authorize/continue?a=1")))).await;
    let mut page = browser.follow_all(page).await;
    let flow = browser.cookies().into_iter().find(|cookie| cookie.name.starts_with("doorward-flow-")).unwrap();
    for round in 1..=5 {
        // Each failure is a page: nothing goes round by itself.
        assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "provider-error".to_owned()), "{}", page.summary());
        assert_eq!(world.provider.authorizations().len(), round);
        let again = page.link("Try again");
        assert!(flow.name.ends_with(&parameter(&parse(&again), "flow").unwrap()), "{again}");
        if round == 5 {
            world.provider.set(Lie::None);
        }
        page = browser.click(&page, &again).await;
        assert_eq!(flow_cookies(&browser), 1);
        page = browser.follow_all(page).await;
    }
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/authorize/continue?a=1&state=xyz"));
    assert_eq!((world.outcomes("provider-error").await, world.outcomes("success").await, world.upstream.count()), (5, 1, 1));
    assert_eq!(browser.cookie(&flow.name).map(|cookie| cookie.value), Some(flow.value));

    // The link in another browser, and when the flow is over: a page with one button.
    let mut other = Browser::new();
    let again = format!("/oauth2/start?flow={}", flow.name.trim_start_matches("doorward-flow-"));
    for (browser, ahead) in [(&mut other, Duration::ZERO), (&mut browser, Duration::from_secs(3601))] {
        world.advance(ahead);
        let page = browser.get(&world.at(&again)).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "state-unknown".to_owned()));
        assert!(page.link("start page").ends_with('/') && page.set_cookies().is_empty());
    }
    assert_eq!(other.get(&world.at("/oauth2/start?flow=x")).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_several_providers_a_failure_leads_back_to_the_choice_in_the_same_flow() {
    let second = HostileProvider::start();
    let tables = format!(
        "[[provider]]\nid = \"two\"\nissuer = \"{}\"\nclient_id = \"doorward\"\nclient_secret = \"{}\"\n",
        second.issuer(),
        second.client_secret()
    );
    let first = HostileProvider::start();
    let upstream = crate::harness::upstream::EchoUpstream::start();
    let config = format!(
        "{}upstream = \"{}\"\nallow = \"any-authenticated\"\n[[provider]]\nid = \"one\"\nissuer = \"{}\"\nclient_id = \"doorward\"\nclient_secret = \"{}\"\n{tables}",
        crate::harness::gateway::TOP,
        upstream.url(),
        first.issuer(),
        first.client_secret()
    );
    let gateway = crate::harness::gateway::Gateway::start(&config);
    let mut browser = Browser::new();
    let page = browser.get(&format!("{}/wanted?q=1", gateway.url)).await;
    let page = browser.follow_all(page).await;
    second.set(Lie::ErrorResponse("server_error"));
    let links: Vec<String> = crate::harness::html::links(&page.text()).into_iter().map(|(href, _)| href).collect();
    let two = links.iter().find(|href| href.contains("provider=two")).unwrap();
    let page = browser.click(&page, two).await;
    let page = browser.follow_all(page).await;
    assert_eq!(reason_of(&page), "provider-error");
    second.set(Lie::None);
    let handle = browser.cookies().into_iter().find(|cookie| cookie.name.starts_with("doorward-flow-")).unwrap().name;
    let handle = handle.trim_start_matches("doorward-flow-").to_owned();
    // The flow knows its place: it is not in the link.
    let page = browser.click(&page, &page.link("Try again")).await;
    assert_eq!(target_of(&page), format!("/oauth2/sign_in?flow={handle}"));
    let page = browser.follow(&page).await;
    let links: Vec<String> = crate::harness::html::links(&page.text()).into_iter().map(|(href, _)| href).collect();
    assert_eq!(links.iter().filter(|href| href.contains(&format!("flow={handle}")) && href.contains("provider=")).count(), 2, "{links:?}");
    let page = browser.click(&page, links.iter().find(|href| href.contains("provider=one")).unwrap()).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), upstream.last().target.as_str()), (200, "/wanted?q=1"));
    assert_eq!((first.authorizations().len(), second.authorizations().len(), flow_cookies(&browser)), (1, 1, 1));
    assert_eq!(browser.get(&format!("{}/oauth2/start?flow={handle}&provider=three", gateway.url)).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_drops_the_session_cookie_is_told_after_three_rounds() {
    let world = World::start();
    for way in ["/wanted?at=", "/oauth2/start?rd=/wanted&at="] {
        let mut browser = Browser::new();
        world.advance(Duration::from_secs(60));
        world.provider.reset_counts();
        world.upstream.reset();
        let mut rounds = 0;
        let page = loop {
            // The app comes back with another query each time.
            let page = browser.get(&world.at(&format!("{way}{rounds}"))).await;
            if page.status != 303 {
                break page;
            }
            browser.follow_until(page, |page| page.url.path() == "/oauth2/callback", 10).await;
            browser.remove_cookies(|cookie| cookie.name == "doorward");
            rounds += 1;
            assert!(rounds < 10, "round and round");
            world.advance(Duration::from_secs(2));
        };
        assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "session-not-kept".to_owned()), "{}", page.text());
        assert_eq!((rounds, world.tokens(), world.upstream.count()), (3, 3, 0));
        // Another page is not concerned, nor is this one when some time has passed.
        assert_eq!(browser.get(&world.at("/elsewhere")).await.status, 303);
        world.advance(Duration::from_secs(20));
        let page = browser.click(&page, &page.link("Try again")).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), world.upstream.count()), (200, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_no_login_is_fresh_enough_for_says_so_after_three_rounds() {
    let routes = "[[route]]\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\n\
        [[route]]\npath = \"/now\"\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\nmax_age = 0\n";
    let world = World::shaped(Shape { top: "leeway = \"8s\"", routes: Some(routes), ..Shape::default() }, |provider| provider);
    let mut browser = Browser::new();
    let mut page = browser.get(&world.at("/now")).await;
    for round in 1..=3 {
        assert_eq!(page.status, 303, "{}", page.text());
        page = browser.follow_until(page, |page| page.url.path() == "/oauth2/callback", 10).await;
        assert_eq!((target_of(&page), world.tokens()), ("/now".to_owned(), round));
        world.advance(Duration::from_secs(12));
        page = browser.follow(&page).await;
    }
    assert_eq!((page.status.as_u16(), reason_of(&page), world.upstream.count()), (400, "flow-exhausted".to_owned(), 0), "{}", page.text());
    assert_eq!(browser.get(&world.at("/elsewhere")).await.status, 200);
    // Who asks for a login is not kept from it, as often as they like.
    for round in 4..=9 {
        let page = world.visit(&mut browser, "/oauth2/start?rd=/elsewhere").await;
        assert_eq!((page.status.as_u16(), world.tokens()), (200, round));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_round_between_a_host_and_the_host_where_its_people_sign_in() {
    let authority = CertificateAuthority::new();
    let shape = Shape {
        public_url: "[\"https://login.app.test\", \"https://www.app.test\"]",
        top: "cookie_domain = \"app.test\"\nleeway = \"8s\"",
        routes: Some("[[route]]\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\nmax_age = 0\n"),
        ..Shape::default()
    };
    let world = over_tls(&authority, &["login.app.test", "www.app.test"], shape);
    let mut browser = Browser::new().trusting(authority.client_config()).resolve("*", world.gateway.address);
    let mut page = browser.get("https://www.app.test/now").await;
    let mut rounds = 0;
    // Each login is too long ago again when it leads back.
    loop {
        page = browser.follow_until(page, |page| page.status != 303 || page.url.path() == "/oauth2/callback", 10).await;
        if page.status != 303 {
            break;
        }
        rounds += 1;
        assert!(rounds < 10, "round and round");
        world.advance(Duration::from_secs(12));
        page = browser.follow(&page).await;
    }
    assert_eq!((page.status.as_u16(), reason_of(&page), rounds), (400, "flow-exhausted".to_owned(), 3), "{}", page.text());
    assert_eq!((world.upstream.count(), world.tokens()), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_fills_no_bounds_with_frames() {
    let world = World::shaped(Shape { tables: "[limits]\npending_logins_per_address = 3\n", ..Shape::default() }, |provider| provider);
    for path in ["/oauth2/start?rd=/app", "/app", "/oauth2/start"] {
        let mut visitor = Browser::new();
        let mut framed = Visit::to(parse(&world.at(path)));
        (framed.destination, framed.initiator) = (Destination::Frame, Some(parse("https://evil.test/")));
        let page = visitor.visit(framed.clone()).await;
        assert_eq!((page.status.as_u16(), reason_of(&page), page.location()), (403, "cross-site".to_owned(), None), "{path}");
        assert!(page.set_cookies().is_empty(), "{path}");
        // A frame on a page of our own site goes on.
        framed.initiator = Some(parse(&world.at("/")));
        assert_eq!(visitor.visit(framed).await.status, 303, "{path}");
    }
    assert_eq!(Browser::new().get(&world.at("/app")).await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_without_any_cookie_is_told_at_once() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/wanted").await;
    browser.remove_cookies(|_| true);
    let page = browser.follow(&page).await;
    assert_eq!((page.status.as_u16(), reason_of(&page), world.tokens()), (400, "state-unknown".to_owned(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_begins_a_login_at_a_provider_that_the_config_names() {
    let world = World::start();
    let issuer = world.provider.issuer();
    let target = escaped(&world.at("/inbox?of=alice"));
    let third_party = format!("/oauth2/start?iss={}&login_hint=alice%40example.test&target_link_uri={target}", escaped(&issuer));
    let mut browser = Browser::new();
    let page = browser.get_from("https://portal.test/apps", &world.at(&third_party)).await;
    assert_eq!(page.status, 303, "{}", page.text());
    let asked = page.next().unwrap();
    assert_eq!(parameter(&asked, "login_hint").as_deref(), Some("alice@example.test"));
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/inbox?of=alice"));

    // The same as a form, which comes without our cookies and is led to the link.
    let mut browser = Browser::new();
    let fields = [("iss", issuer.as_str()), ("login_hint", "bob"), ("target_link_uri", "/posted?x=1"), ("prompt", "none")];
    let page = browser.post_form_from("https://portal.test/apps", &world.at("/oauth2/start"), &fields).await;
    assert!(target_of(&page).starts_with("/oauth2/start?iss=") && page.set_cookies().is_empty(), "{}", page.summary());
    let page = browser.follow(&page).await;
    let asked = page.next().unwrap();
    assert_eq!((parameter(&asked, "login_hint").as_deref(), parameter(&asked, "prompt")), (Some("bob"), None));
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/posted?x=1"));

    world.provider.reset_counts();
    let count = world.upstream.count();
    for (query, reason) in [
        ("?iss=https%3A%2F%2Fevil.test&target_link_uri=/a".to_owned(), "issuer-unknown"),
        (format!("?iss={}/", escaped(&issuer)), "issuer-unknown"),
        ("?iss=".to_owned(), "issuer-unknown"),
        (format!("?iss={}&target_link_uri=https%3A%2F%2Fevil.test", escaped(&issuer)), "return-to-refused"),
        (format!("?iss={}&iss={}", escaped(&issuer), escaped(&issuer)), "parameter-repeated"),
        (format!("?iss={}&target_link_uri=/a&rd=/a", escaped(&issuer)), "parameter-invalid"),
        ("?login_hint=alice".to_owned(), "parameter-invalid"),
        ("?target_link_uri=/a".to_owned(), "parameter-invalid"),
    ] {
        let mut stranger = Browser::new();
        let page = stranger.get_from("https://portal.test/apps", &world.at(&format!("/oauth2/start{query}"))).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (400, reason.to_owned()), "{query}");
        assert!(page.set_cookies().is_empty() && page.location().is_none());
    }
    // What a page fetches is no navigation.
    let mut stranger = Browser::new();
    stranger.get(&world.at("/oauth2/done")).await;
    let answer = stranger.fetch_api(Method::GET, &world.at(&third_party), &[], b"").await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer)), (403, "cross-site".to_owned()));
    assert_eq!((world.provider.authorizations().len(), world.upstream.count()), (0, count));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_may_end_on_the_page_that_closes_its_window() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = world.visit(&mut browser, "/oauth2/start?rd=/oauth2/done").await;
    assert_eq!((page.status.as_u16(), page.url.path()), (200, "/oauth2/done"));
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'sha256-"), "{page:?}");
    assert!(world.session(&browser).is_some());
    assert_eq!(world.upstream.count(), 0);
    // No other place under the prefix is one to come back to.
    let page = browser.get(&world.at("/oauth2/start?rd=/oauth2/session")).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tabs_failure_costs_a_tab_nothing() {
    let world = World::shaped(Shape::default(), |provider| provider);
    let mut browser = Browser::new();
    let good = world.before_callback(&mut browser, "/good").await;
    let bad = world.before_callback(&mut browser, "/bad").await;
    let mut bent = bad.next().unwrap();
    bent.set_query(Some(&bent.query().unwrap().replace("code=", "error=access_denied&was=")));
    let page = browser.visit(Visit::to(bent)).await;
    assert_eq!(reason_of(&page), "provider-error");
    let page = browser.follow(&good).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/good"));
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_tabs_of_chromium_log_in_at_once_in_random_order() {
    let world = World::start();
    let mut dice = Dice::thrown();
    let chromium = Chromium::start().await;
    chromium.go(&world.at("/oauth2/signed_out")).await;
    // Slow enough that all are under way before the first has a session.
    world.provider.set(Lie::SlowAnswer(Endpoint::Authorization, Duration::from_millis(1500)));
    let mut tabs: Vec<usize> = (0..8).collect();
    let mut order = Vec::new();
    while !tabs.is_empty() {
        order.push(tabs.swap_remove(dice.below(tabs.len())));
    }
    let open = "window.tabs = arguments[0].map(tab => window.open(`/tab/${tab}?q=${tab}&state=own&code=x`, `tab${tab}`))";
    chromium.execute(open, json!([order])).await;
    let landed = "return window.tabs.map(tab => { try { return tab.location.pathname + tab.location.search + ' '
        + tab.document.body.innerText.includes('\"x-forwarded-user\",\"alice\"') } catch { return 'elsewhere' } })";
    let wanted: Vec<String> = order.iter().map(|tab| format!("/tab/{tab}?q={tab}&state=own&code=x true")).collect();
    let mut seen = json!(null);
    for _ in 0..300 {
        seen = chromium.execute(landed, json!([])).await;
        if seen == json!(wanted) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(seen, json!(wanted));
    assert!(world.tokens() > 1, "they were not at once: {}", world.tokens());
    assert_eq!((world.provider.complaints(), world.outcomes("success").await), (Vec::new(), world.tokens() as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_lie_where_the_config_says_and_nowhere_else() {
    let world = World::shaped(Shape { top: "prefix = \"/door/way\"", ..Shape::default() }, |provider| provider);
    let mut browser = Browser::new();
    let page = browser.get(&world.at("/app")).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/app"), "{}", page.text());
    let asked = world.provider.authorizations();
    assert_eq!(asked[0]["redirect_uri"], world.at("/door/way/callback"));
    let reached = world.upstream.count();
    let told = browser.get(&world.at("/door/way/userinfo")).await;
    assert_eq!((told.status.as_u16(), world.upstream.count()), (200, reached), "{}", told.text());
    // What lies there by itself is the app's.
    for path in ["/oauth2/userinfo", "/oauth2/sign_out", "/door/waylaid"] {
        let page = browser.get(&world.at(path)).await;
        assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, path));
    }
}
