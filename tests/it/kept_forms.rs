//! A form that its sender's session did not outlive: kept, and sent on byte for byte by the same person; never a stranger's, never a forged one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::harness::background::spawn;
use crate::harness::browser::{Browser, Page};
use crate::harness::certs::CertificateAuthority;
use crate::harness::chromium::Chromium;
use crate::harness::http::HttpClient;
use crate::harness::visit::{Destination, Visit, parse};
use crate::harness::world::{Shape, World, reason_of, target_of};
use crate::sessions::over_tls;

const MINUTE: Duration = Duration::from_secs(60);
const URLENCODED: &str = "application/x-www-form-urlencoded";
/// Nothing that a reader and a writer of forms would leave as it is.
const BYTES: &[u8] = b"b=2&a=1&a=&&=x&text=line+one%0D%0Aline%20two&%zz=\xff\x00&last";

/// The app, and one address of it that wants a fresh login.
const TRANSFER: &str = "[[route]]\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\n\
    [[route]]\npath = \"/transfer\"\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\nmax_age = 600\n";

fn world() -> World {
    World::shaped(Shape { tables: "[session]\nidle = \"10m\"\nabsolute = \"8h\"\n", ..Shape::default() }, |provider| provider)
}

/// A browser that shows the app's form, and whose session has just ended by time.
async fn at_the_form(world: &World) -> (Browser, Page) {
    let mut browser = world.signed_in().await;
    let page = browser.get(&world.at("/form?of=app")).await;
    assert_eq!(page.status, 200);
    world.advance(11 * MINUTE);
    world.upstream.reset();
    world.provider.reset_counts();
    (browser, page)
}

/// A form sent from a page.
fn form_of(page: &Page, to: &str, content_type: &str, body: &[u8]) -> Visit {
    let mut visit = page.visit_from(to);
    visit.method = Method::POST;
    visit.body = Some((content_type.to_owned(), body.to_vec()));
    visit
}

/// Through the login to the page that offers to send the form.
async fn offered(world: &World, browser: &mut Browser, page: Page) -> Page {
    assert_eq!((page.status.as_u16(), world.upstream.count()), (303, 0), "{}", page.text());
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), page.url.path(), world.upstream.count()), (200, "/oauth2/kept", 0), "{}", page.text());
    page
}

fn flow_cookies(browser: &Browser) -> usize {
    browser.cookies().iter().filter(|cookie| cookie.name.starts_with("doorward-flow-")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_posted_with_an_ended_session_arrives_byte_for_byte_after_the_login() {
    let world = world();
    let mut multipart =
        b"--B\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\n\xff\x00 text\r\n\r\n--B\r\nContent-Disposition: form-data; ".to_vec();
    multipart.extend(b"name=\"none\"; filename=\"\"\r\nContent-Type: application/octet-stream\r\n\r\n\r\n--B--\r\n");
    for (content_type, body, to) in [
        (URLENCODED, BYTES.to_vec(), "/save?id=7&x=%20y&code=1&state=2"),
        ("Application/X-WWW-Form-Urlencoded;  charset=\"UTF-8\"", Vec::new(), "/save"),
        ("multipart/form-data; boundary=B", multipart, "/save/multipart?"),
        (URLENCODED, vec![b'x'; 64 * 1024], "/large"),
        // As long as what the button sends.
        (URLENCODED, vec![b'y'; 36], "/same-length"),
    ] {
        let (mut browser, page) = at_the_form(&world).await;
        let page = browser.visit(form_of(&page, to, content_type, &body)).await;
        assert!(browser.cookie("doorward").is_some(), "what still vouches for a second form stays");
        let page = offered(&world, &mut browser, page).await;
        let form = page.form();
        assert_eq!((form.method.as_str(), form.action.as_str()), ("POST", world.at(to).as_str()));
        assert_eq!((form.fields.len(), form.fields[0].0.as_str()), (1, "doorward-kept"));
        let told = page.visible_text();
        assert!(!told.contains("line") && told.contains(to.split('?').next().unwrap()), "{told}");

        let sent = browser.submit(&page, &form, &[]).await;
        assert_eq!((sent.status.as_u16(), world.upstream.count()), (200, 1), "{}", sent.text());
        let seen = world.upstream.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", to));
        assert!(seen.body == body, "{} bytes: {:?}", seen.body.len(), seen.body);
        assert_eq!(seen.header_all("content-type"), [content_type]);
        assert_eq!(seen.header_all("content-length"), [body.len().to_string()]);
        assert_eq!(seen.header("origin").as_deref(), Some(world.gateway.url.as_str()));
        assert!(!seen.everything().contains(&form.fields[0].1), "the handle is ours: {}", seen.everything());

        // Once: the button again, the page again, the way back.
        for page in [browser.submit(&page, &form, &[]).await, browser.get(page.url.as_str()).await] {
            assert_eq!((page.status.as_u16(), reason_of(&page)), (410, "form-gone".to_owned()));
            assert!(page.link("Go on").ends_with("/form?of=app"));
        }
        assert_eq!((world.upstream.count(), world.tokens()), (1, 1));
    }
    assert_eq!(world.provider.complaints(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_presses_of_the_button_send_one_form() {
    let world = world();
    let (mut browser, page) = at_the_form(&world).await;
    let page = browser.visit(form_of(&page, "/save", URLENCODED, BYTES)).await;
    let page = offered(&world, &mut browser, page).await;
    let form = page.form();
    let mut presses = tokio::task::JoinSet::new();
    for _ in 0..7 {
        let (mut browser, page, form) = (browser.clone(), page.clone(), form.clone());
        presses.spawn(async move { browser.submit(&page, &form, &[]).await.status.as_u16() });
    }
    let statuses = presses.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 410)), "{statuses:?}");
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_person_gets_it_discarded() {
    let world = world();
    let (mut browser, page) = at_the_form(&world).await;
    let page = browser.visit(form_of(&page, "/save", URLENCODED, b"secret=of+alice")).await;
    world.provider.set_user(json!({ "sub": "bob" }));
    let page = browser.follow_until(page, |page| page.url.path() == "/oauth2/callback", 10).await;
    assert_eq!(target_of(&page), "/form?of=app");
    assert_eq!(browser.follow(&page).await.status, 200);
    let handle = browser.cookies().into_iter().find(|cookie| cookie.name.starts_with("doorward-flow-")).unwrap().name;
    let handle = handle.trim_start_matches("doorward-flow-").to_owned();
    let asked = browser.get(&world.at(&format!("/oauth2/kept?flow={handle}"))).await;
    assert_eq!((asked.status.as_u16(), reason_of(&asked)), (410, "form-gone".to_owned()));
    browser.get(&world.at("/form")).await;
    world.upstream.reset();
    let pressed = browser.post_form(&world.at("/save"), &[("doorward-kept", &handle)]).await;
    assert_eq!((pressed.status.as_u16(), world.upstream.count()), (410, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_signed_in_meanwhile_as_another_does_not_send_it() {
    let world = world();
    let (mut browser, page) = at_the_form(&world).await;
    let page = browser.visit(form_of(&page, "/save", URLENCODED, BYTES)).await;
    let page = offered(&world, &mut browser, page).await;
    // In another tab, before the button is pressed.
    world.provider.set_user(json!({ "sub": "bob" }));
    browser.remove_cookies(|cookie| cookie.name == "doorward");
    assert_eq!(world.visit(&mut browser, "/other").await.status, 200);
    world.upstream.reset();
    let pressed = browser.submit(&page, &page.form(), &[]).await;
    assert_eq!((pressed.status.as_u16(), reason_of(&pressed), world.upstream.count()), (410, "form-gone".to_owned(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_not_sent_and_the_page_says_what_helps() {
    let world = world();
    let file = b"--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\ncontent\r\n--B--\r\n";
    for (content_type, body) in [
        (URLENCODED, vec![b'x'; 64 * 1024 + 1]),
        (URLENCODED, vec![b'x'; 300 * 1024]),
        ("multipart/form-data; boundary=B", file.to_vec()),
        ("multipart/form-data; boundary=other", file.to_vec()),
    ] {
        let (mut browser, page) = at_the_form(&world).await;
        let page = browser.visit(form_of(&page, "/save", content_type, &body)).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (401, "form-not-kept".to_owned()), "{}", page.text());
        assert!(page.visible_text().contains("sign in in another tab"), "{}", page.visible_text());
        assert!(page.header("www-authenticate").is_some() && page.set_cookies().is_empty());
        let page = browser.click(&page, &page.link("Sign in in a new tab")).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str(), world.upstream.count()), (200, "/form?of=app", 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_fills_no_store_with_forms() {
    let world = world();
    let (browser, page) = at_the_form(&world).await;
    let ended = world.session(&browser).unwrap();
    let mut statuses = Vec::new();
    for _ in 0..22 {
        // Without the flows before: nothing but the ended session is shown.
        let mut browser = Browser::new();
        browser.plant_cookie(&world.at("/"), &format!("doorward={ended}; Path=/"));
        let answer = browser.visit(form_of(&page, "/save", URLENCODED, &[b'x'; 64 * 1024])).await;
        statuses.push((answer.status.as_u16(), answer.set_cookies().len()));
        if answer.status != 303 {
            assert_eq!(reason_of(&answer), "form-not-kept");
        }
    }
    assert_eq!(statuses[..20].iter().filter(|(status, _)| *status == 303).count(), 20, "{statuses:?}");
    assert_eq!(statuses[20..], [(401, 0), (401, 0)]);
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_but_a_persons_own_form_with_a_session_that_ended_by_time() {
    let world = world();
    type Change = fn(&mut Visit);
    let changes: [(&str, Change); 9] = [
        ("a form of another site", |visit| visit.initiator = Some(parse("https://evil.test/"))),
        ("a page that hides where it is", |visit| visit.referrer_policy = "no-referrer".to_owned()),
        ("another origin of the same host", |visit| visit.initiator = Some(parse("http://127.0.0.1:1/"))),
        ("a script", |visit| visit.destination = Destination::Api),
        ("a frame", |visit| visit.destination = Destination::Frame),
        ("another method", |visit| visit.method = Method::PUT),
        ("JSON", |visit| visit.body = Some(("application/json".to_owned(), b"{}".to_vec()))),
        ("plain text", |visit| visit.body = Some(("text/plain".to_owned(), b"a=b".to_vec()))),
        ("another coding", |visit| visit.headers.push(("content-encoding".to_owned(), "gzip".to_owned()))),
    ];
    for (what, change) in changes {
        let (mut browser, page) = at_the_form(&world).await;
        let flows = flow_cookies(&browser);
        let mut visit = form_of(&page, "/save", URLENCODED, BYTES);
        change(&mut visit);
        let page = browser.visit(visit).await;
        assert_eq!((page.status.as_u16(), page.location(), world.upstream.count()), (401, None, 0), "{what}: {}", page.text());
        assert!(page.set_cookies().is_empty() && flow_cookies(&browser) == flows, "{what}");
    }

    // Whose session ended otherwise, or never was.
    for what in ["never", "forged", "signed out", "long ago", "no cookie"] {
        let (mut browser, page) = at_the_form(&world).await;
        match what {
            "never" => browser = Browser::new(),
            "forged" => browser.plant_cookie(&world.at("/"), &format!("doorward={}; Path=/", "A".repeat(64))),
            "signed out" => {
                let mut live = world.signed_in().await;
                let cookie = world.session(&live).unwrap();
                let out = live.get(&world.at("/oauth2/sign_out")).await;
                assert_eq!(out.status, 303);
                live.plant_cookie(&world.at("/"), &format!("doorward={cookie}; Path=/"));
                browser = live;
            }
            "long ago" => world.advance(61 * MINUTE),
            _ => browser.remove_cookies(|cookie| cookie.name == "doorward"),
        }
        world.upstream.reset();
        let page = browser.visit(form_of(&page, "/save", URLENCODED, BYTES)).await;
        assert_eq!((page.status.as_u16(), page.location(), world.upstream.count()), (401, None, 0), "{what}: {}", page.text());
        assert!(!page.set_cookies().iter().any(|line| line.contains("flow")), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_meets_the_end_first_does_not_cost_the_form() {
    let world = world();
    let (mut browser, page) = at_the_form(&world).await;
    let polled = browser.fetch_api(Method::GET, &world.at("/poll"), &[], b"").await;
    assert_eq!((polled.status.as_u16(), reason_of(&polled)), (401, "session-idle".to_owned()));
    let page = browser.visit(form_of(&page, "/save", URLENCODED, BYTES)).await;
    let page = offered(&world, &mut browser, page).await;
    browser.submit(&page, &page.form(), &[]).await;
    assert_eq!((world.upstream.count(), world.upstream.last().body.as_ref()), (1, BYTES));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_button_counts_on_our_page_only_and_for_the_one_address() {
    let world = world();
    let (mut browser, page) = at_the_form(&world).await;
    let page = browser.visit(form_of(&page, "/save", URLENCODED, BYTES)).await;
    let page = offered(&world, &mut browser, page).await;
    let form = page.form();
    let (name, handle) = form.fields[0].clone();
    let fields = [(name.as_str(), handle.as_str())];
    // The harness sends Lax cookies along where a browser would not: the checks stand on their own.
    let forged = browser.clone().post_form_from("https://evil.test/", &world.at("/save"), &fields).await;
    assert_eq!((forged.status.as_u16(), reason_of(&forged)), (403, "cross-site".to_owned()));
    let mut hidden = page.visit_from(&form.action).posting(&fields);
    hidden.referrer_policy = "no-referrer".to_owned();
    assert_eq!(reason_of(&browser.visit(hidden).await.answer), "cross-site");
    for elsewhere in ["/delete", "/save?x=1", "/save/"] {
        let page = browser.visit(page.visit_from(elsewhere).posting(&fields)).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (410, "form-gone".to_owned()), "{elsewhere}");
    }
    let mut stranger = world.signed_in().await;
    stranger.get(&world.at("/form")).await;
    world.upstream.reset();
    assert_eq!(reason_of(&stranger.post_form(&world.at("/save"), &fields).await.answer), "form-gone");
    assert_eq!(stranger.get(page.url.as_str()).await.status, 410);
    assert_eq!(world.upstream.count(), 0);
    // None of them cost the form.
    assert_eq!(browser.submit(&page, &form, &[]).await.status, 200);
    assert_eq!(world.upstream.last().body.as_ref(), BYTES);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_own_form_of_the_same_length_goes_through_as_it_came() {
    let world = world();
    let mut browser = world.signed_in().await;
    let page = browser.get(&world.at("/form")).await;
    for body in [&b"doorward-kepp=0123456789012345678901"[..], &[b'z'; 36]] {
        assert_eq!(body.len(), 36);
        assert_eq!(browser.visit(form_of(&page, "/save", URLENCODED, body)).await.status, 200);
        assert_eq!(world.upstream.last().body.as_ref(), body);
        assert_eq!(world.upstream.last().header_all("content-length"), ["36"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_waits_while_its_sender_signs_in_once_more_or_the_app_is_down() {
    let world = world();
    let (mut browser, page) = at_the_form(&world).await;
    let page = browser.visit(form_of(&page, "/save", URLENCODED, BYTES)).await;
    let page = offered(&world, &mut browser, page).await;
    // The session ends again before the button is pressed.
    world.advance(11 * MINUTE);
    let pressed = browser.submit(&page, &page.form(), &[]).await;
    let page = offered(&world, &mut browser, pressed).await;
    // Nobody listens at the upstream.
    world.upstream.stop().await;
    let pressed = browser.submit(&page, &page.form(), &[]).await;
    assert_eq!((pressed.status.as_u16(), reason_of(&pressed)), (502, "upstream-unreachable".to_owned()));
    world.upstream.start_again();
    let pressed = browser.submit(&page, &page.form(), &[]).await;
    assert_eq!((pressed.status.as_u16(), world.upstream.count()), (200, 1));
    assert_eq!(world.upstream.last().body.as_ref(), BYTES);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_waits_while_the_app_has_no_place_for_it() {
    let bound = "upstream = \"@UPSTREAM@\"\nconnections = 1\ntimeouts = { connect = \"200ms\" }\n";
    let routes = format!("[[route]]\n{bound}allow = \"any-authenticated\"\n[[route]]\npath = \"/hang\"\n{bound}access = \"public\"\n");
    let tables = "[session]\nidle = \"10m\"\nabsolute = \"8h\"\n";
    let world = World::shaped(Shape { tables, routes: Some(&routes), ..Shape::default() }, |provider| provider);
    let (mut browser, page) = at_the_form(&world).await;
    let page = browser.visit(form_of(&page, "/save", URLENCODED, BYTES)).await;
    let page = offered(&world, &mut browser, page).await;
    let other = spawn({
        let (client, url) = (HttpClient::new(), world.at("/hang"));
        async move { client.get(&url).await }
    });
    world.upstream.streams_become(1).await;
    let pressed = browser.submit(&page, &page.form(), &[]).await;
    assert_eq!((pressed.status.as_u16(), reason_of(&pressed)), (503, "upstream-busy".to_owned()));
    world.upstream.end_streams();
    assert_eq!(other.await.unwrap().status, 200);
    let pressed = browser.submit(&page, &page.form(), &[]).await;
    assert_eq!((pressed.status.as_u16(), world.upstream.last().body.as_ref()), (200, BYTES));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_better_login_on_the_way_leads_back_to_the_form() {
    let tables = "[session]\nidle = \"30m\"\nabsolute = \"8h\"\n";
    let world = World::shaped(Shape { tables, routes: Some(TRANSFER), ..Shape::default() }, |provider| provider);
    let mut browser = world.signed_in().await;
    let page = browser.get(&world.at("/form?of=app")).await;
    world.advance(31 * MINUTE);
    world.upstream.reset();
    world.provider.reset_counts();
    let page = browser.visit(form_of(&page, "/transfer", URLENCODED, BYTES)).await;
    let page = offered(&world, &mut browser, page).await;
    // The login of a while ago will not do any more when the button is pressed; the session lives.
    world.advance(12 * MINUTE);
    assert_eq!(browser.get(&world.at("/alive")).await.status, 200);
    world.upstream.reset();
    let pressed = browser.submit(&page, &page.form(), &[]).await;
    let page = offered(&world, &mut browser, pressed).await;
    assert_eq!(browser.submit(&page, &page.form(), &[]).await.status, 200);
    assert_eq!((world.upstream.count(), world.upstream.last().body.as_ref()), (1, BYTES));
    let asked: Vec<_> = world.provider.authorizations().iter().map(|asked| asked.get("max_age").cloned()).collect();
    assert_eq!(asked, [Some("600".to_owned()), Some("600".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_share_a_login_host_keep_their_own_forms() {
    let authority = CertificateAuthority::new();
    let shape = Shape {
        public_url: "[\"https://login.app.test\", \"https://www.app.test\"]",
        top: "cookie_domain = \"app.test\"",
        tables: "[session]\nidle = \"10m\"\n",
        ..Shape::default()
    };
    let world = over_tls(&authority, &["login.app.test", "www.app.test"], shape);
    let mut browser = Browser::new().trusting(authority.client_config()).resolve("*", world.gateway.address);
    let page = browser.get("https://www.app.test/form").await;
    let page = browser.follow_all(page).await;
    world.advance(11 * MINUTE);
    world.upstream.reset();
    let page = browser.visit(form_of(&page, "/save?x=1", URLENCODED, BYTES)).await;
    assert!(page.location().is_some_and(|to| to.starts_with("https://login.app.test/oauth2/start?flow=")), "{}", page.summary());
    let page = browser.follow_all(page).await;
    assert!(page.url.as_str().starts_with("https://www.app.test/oauth2/kept?flow="), "{}", page.summary());
    assert_eq!(browser.submit(&page, &page.form(), &[]).await.status, 200);
    let seen = world.upstream.last();
    assert_eq!((seen.target.as_str(), seen.body.as_ref(), world.upstream.count()), ("/save?x=1", BYTES, 1));
    assert_eq!(browser.refused_cookies(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_keeps_a_form_and_sends_it_by_the_button() {
    let world = world();
    let chromium = Chromium::start().await;
    chromium.go(&world.at("/app/page")).await;
    chromium
        .execute(
            "document.body.innerHTML = '<form method=post action=\"/save?id=7\"><textarea name=text></textarea>\
             <input name=more value=\"\\u00e4 & b\"><button>Save</button></form>'",
            json!([]),
        )
        .await;
    chromium.send_keys("textarea", "line one, line two").await;
    world.advance(11 * MINUTE);
    world.upstream.reset();
    chromium.click("form button").await;
    chromium.wait_for_url(|url| url.contains("/oauth2/kept?flow=")).await;
    assert_eq!(world.upstream.requests().iter().filter(|seen| seen.method == "POST").count(), 0);
    for (name, dark, width) in [("kept-light", false, 1200), ("kept-dark-phone", true, 390)] {
        chromium.prefer_dark(dark).await;
        chromium.resize(width, 800).await;
        println!("{}", chromium.screenshot(name).await.display());
    }
    chromium.click("form button").await;
    chromium.wait_for_url(|url| url.ends_with("/save?id=7")).await;
    let seen = world.upstream.requests().into_iter().find(|seen| seen.method == "POST").unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.body), "text=line+one%2C+line+two&more=%C3%A4+%26+b");
    assert_eq!((seen.header("content-type").as_deref(), seen.target.as_str()), (Some(URLENCODED), "/save?id=7"));
    let lines = chromium.console().await;
    assert!(!lines.iter().any(|line| line.contains("Content Security Policy") || line.contains("Refused")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_closes_the_window_in_which_somebody_signed_in_again() {
    let world = world();
    let chromium = Chromium::start().await;
    chromium.go(&world.at("/spa/page")).await;
    let spa = chromium.window().await;
    chromium.execute("window.again = window.open('/oauth2/start?rd=/oauth2/done')", json!([])).await;
    for _ in 0..200 {
        if chromium.execute("return window.again.closed", json!([])).await == json!(true) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(chromium.execute("return window.again.closed", json!([])).await, json!(true));
    assert_eq!((chromium.window().await, world.tokens()), (spa, 2));
}
