//! Signing out: here, at the provider, and never because another site wants it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::time::Duration;

use serde_json::json;

use crate::harness::browser::{Browser, Page};
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::hostile::{Endpoint, Lie};
use crate::harness::oidc_provider::{self, OidcProvider, OidcProviderBuilder};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{eventually, free_port};
use crate::harness::world::{Shape, World, reason_of, target_of};

const DELETED: &str = "doorward=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";

/// Somebody who holds this cookie is nobody.
async fn is_dead(world: &World, cookie: &str) {
    let before = world.upstream.count();
    let mut browser = Browser::new();
    browser.plant_cookie(&world.at("/"), &format!("doorward={cookie}; Path=/"));
    let answer = browser.fetch_api(http::Method::GET, &world.at("/app"), &[], b"").await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, "no-credential"));
    assert_eq!(world.upstream.count(), before);
}

/// Somebody who holds this cookie is let in.
async fn is_alive(world: &World, cookie: &str) {
    let mut browser = Browser::new();
    browser.plant_cookie(&world.at("/"), &format!("doorward={cookie}; Path=/"));
    assert_eq!(browser.get(&world.at("/app")).await.status, 200);
}

/// Signs out by the form of the session page, and goes on to the last page.
async fn sign_out(world: &World, browser: &mut Browser, fields: &[(&str, &str)]) -> Page {
    let page = browser.get(&world.at("/oauth2/session")).await;
    browser.submit(&page, &page.form_to("sign_out"), fields).await
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_session_here_and_at_the_real_provider_and_leads_on() {
    let port = free_port();
    let own = format!("http://127.0.0.1:{port}");
    let real: OidcProvider = OidcProviderBuilder::new(&format!("{own}/oauth2/callback"))
        .client("post_logout_redirect_uris", json!([format!("{own}/oauth2/signed_out")]))
        .start()
        .await;
    let upstream = EchoUpstream::start();
    let config = format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n{}",
        upstream.url(),
        provider(real.issuer(), oidc_provider::CLIENT_ID, oidc_provider::CLIENT_SECRET)
    );
    let gateway = Gateway::start_on(port, &config);
    let mut browser = Browser::new();
    let page = browser.get(&format!("{own}/app")).await;
    let page = oidc_provider::log_in(&mut browser, page, "alice", &gateway.redirect_uri()).await;
    browser.follow_all(page).await;
    let cookie = browser.cookie("doorward").expect("a session").value;
    assert_eq!(upstream.count(), 1);

    let page = browser.get(&format!("{own}/oauth2/session")).await;
    let page = browser.submit(&page, &page.form_to("sign_out"), &[("rd", "/bye?x=1&y=2")]).await;
    assert!(page.set_cookies().contains(&DELETED), "{:?}", page.set_cookies());
    assert!(browser.cookie("doorward").is_none());
    let page = browser.follow_all(page).await;
    assert_eq!((page.url.path(), page.status.as_u16()), ("/session/end", 200), "{}", page.text());
    let page = browser.submit(&page, &page.form(), &[]).await;
    let page = browser.follow_up_to(page, &format!("{own}/oauth2/signed_out")).await;
    let page = browser.follow(&page).await;
    assert_eq!(target_of(&page), "/bye?x=1&y=2");
    assert!(!browser.cookies().iter().any(|cookie| cookie.name.starts_with("doorward-sign-out")));
    // The app asks again who it is, and so does the provider.
    let page = browser.follow_all(page).await;
    assert!(page.forms().iter().any(|form| !form.password_fields.is_empty()), "{}", page.text());
    assert_eq!((upstream.count(), real.count("end_session").await), (1, 1));

    let mut thief = Browser::new();
    thief.plant_cookie(&own, &format!("doorward={cookie}; Path=/"));
    assert_eq!(thief.get(&format!("{own}/app")).await.status, 303);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_sends_what_the_provider_needs_and_says_where_one_is_signed_out() {
    let world = World::start();
    let mut browser = world.signed_in().await;
    let cookie = world.session(&browser).expect("a session");
    let page = sign_out(&world, &mut browser, &[]).await;
    assert!(page.set_cookies().contains(&DELETED), "{:?}", page.set_cookies());
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200);
    assert!(page.visible_text().contains("signed out here and at the service"), "{}", page.visible_text());
    let asked = world.provider.logouts().pop().expect("the provider was asked");
    assert_eq!(asked["post_logout_redirect_uri"], world.at("/oauth2/signed_out"));
    assert!(asked["id_token_hint"].split('.').count() == 3 && asked["state"].len() > 20);
    is_dead(&world, &cookie).await;
    // Also after a restart: it is gone from the store, not only from memory.
    let world = world.restart();
    is_dead(&world, &cookie).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_on_another_site_asks_first_and_ends_nothing() {
    let world = World::start();
    let mut browser = world.signed_in().await;
    let cookie = world.session(&browser).expect("a session");
    for initiator in ["https://evil.test/", "http://localhost:1/"] {
        let page = browser.get_from(initiator, &world.at("/oauth2/sign_out?rd=/bye")).await;
        assert_eq!((page.status.as_u16(), page.title().contains("Do you want to sign out")), (200, true), "{}", page.text());
        assert!(page.visible_text().contains("you are signed in as Alice Adams"), "{}", page.visible_text());
        assert!(page.set_cookies().is_empty());
        is_alive(&world, &cookie).await;
        assert_eq!((world.provider.count(Endpoint::EndSession), world.session(&browser).as_deref()), (0, Some(cookie.as_str())));
    }
    assert_eq!(world.answers("cross-site").await, 2);
    // Frames and images bring no cookie along, and touch none.
    let page = browser.frame("https://evil.test/", &world.at("/oauth2/sign_out")).await;
    assert!(page.set_cookies().is_empty() && page.header("x-frame-options") == Some("DENY"));
    is_alive(&world, &cookie).await;

    let page = browser.get_from("https://evil.test/", &world.at("/oauth2/sign_out?rd=/bye")).await;
    let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    let page = browser.follow_up_to(page, &world.at("/bye")).await;
    assert_eq!((target_of(&page).as_str(), world.provider.count(Endpoint::EndSession)), ("/bye", 1));
    is_dead(&world, &cookie).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_on_another_site_asks_first_and_takes_no_cookie_away() {
    let world = World::start();
    let mut browser = world.signed_in().await;
    let cookie = world.session(&browser).expect("a session");
    let page = browser.post_form_from("https://evil.test/", &world.at("/oauth2/sign_out"), &[("rd", "/bye")]).await;
    assert_eq!((page.status.as_u16(), page.title().contains("Do you want to sign out")), (200, true), "{}", page.text());
    assert!(page.set_cookies().is_empty(), "{:?}", page.set_cookies());
    assert_eq!(world.session(&browser).as_deref(), Some(cookie.as_str()));
    is_alive(&world, &cookie).await;
    assert_eq!((world.answers("cross-site").await, world.provider.count(Endpoint::EndSession)), (1, 0));
    // The page that asked does what it says.
    let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    let page = browser.follow_up_to(page, &world.at("/bye")).await;
    assert_eq!(page.status, 303);
    is_dead(&world, &cookie).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_does_not_say_whose_page_it_is_on_confirms_once() {
    // Plain http off this machine: no Sec-Fetch-Site, and Origin is null since our pages send no referrer.
    let shape = Shape { public_url: "\"http://lab.test:@PORT@\"", top: "insecure_http = true", ..Shape::default() };
    let world = World::shaped(shape, |provider| provider);
    let own = format!("http://lab.test:{}", world.gateway.address.port());
    let mut browser = Browser::new().resolve("lab.test", world.gateway.address);
    let page = browser.get(&format!("{own}/app")).await;
    assert_eq!(browser.follow_all(page).await.status, 200);
    let page = browser.get(&format!("{own}/oauth2/session")).await;
    let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    assert!(page.title().contains("Do you want to sign out"), "{}", page.text());
    assert!(browser.cookie("doorward").is_some());
    let stolen = page.form_to("sign_out").field("confirm").expect("a token").to_owned();
    let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    assert!(browser.cookie("doorward").is_none());
    assert_eq!(browser.follow_all(page).await.status, 200);
    assert_eq!(world.provider.count(Endpoint::EndSession), 1);

    // The token of one session confirms nothing for another.
    let page = browser.get(&format!("{own}/app")).await;
    assert_eq!(browser.follow_all(page).await.status, 200);
    for token in [stolen.as_str(), "", "AAAA"] {
        // From a page of ours, whose Origin is null.
        browser.get(&format!("{own}/oauth2/session")).await;
        let page = browser.post_form(&format!("{own}/oauth2/sign_out"), &[("confirm", token)]).await;
        assert!(page.title().contains("Do you want to sign out"), "{token:?}: {}", page.text());
        assert!(browser.cookie("doorward").is_some());
    }
    assert_eq!(world.provider.count(Endpoint::EndSession), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_or_no_state_after_signing_out_is_a_page_and_leads_nowhere() {
    let world = World::start();
    for lie in [Lie::LogoutStateOther, Lie::LogoutStateMissing] {
        let mut browser = world.signed_in().await;
        let cookie = world.session(&browser).expect("a session");
        world.provider.set(lie.clone());
        let page = sign_out(&world, &mut browser, &[("rd", "/bye")]).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.url.path(), page.status.as_u16()), ("/oauth2/signed_out", 400), "{lie:?}: {}", page.text());
        assert!(page.visible_text().contains("does not belong to this sign-out"), "{}", page.visible_text());
        assert!(page.location().is_none());
        is_dead(&world, &cookie).await;
        world.provider.set(Lie::None);
    }
    assert_eq!(world.answers("sign-out-state").await, 2);
    // Nobody who signs out: a forged answer, and a plain visit.
    let mut browser = Browser::new();
    let page = browser.get(&world.at("/oauth2/signed_out?state=forged")).await;
    assert_eq!((page.status.as_u16(), page.location().is_none()), (400, true));
    let page = browser.get(&world.at("/oauth2/signed_out?state=a&state=a")).await;
    assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "parameter-repeated".to_owned()));
    assert_eq!(browser.get(&world.at("/oauth2/signed_out")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_sign_out_counts_for_ten_minutes() {
    let world = World::start();
    let mut browser = world.signed_in().await;
    let page = sign_out(&world, &mut browser, &[("rd", "/bye")]).await;
    let page = browser.follow_up_to(page, &world.at("/oauth2/signed_out")).await;
    world.advance(Duration::from_secs(11 * 60));
    let page = browser.follow(&page).await;
    assert_eq!((page.status.as_u16(), page.location().is_none()), (400, true));
    assert_eq!(world.answers("sign-out-state").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_end_session_one_is_signed_out_here_and_told_so() {
    let world = World::start();
    world.provider.change_discovery(json!({ "end_session_endpoint": null }));
    let world = world.restart();
    let mut browser = world.signed_in().await;
    let cookie = world.session(&browser).expect("a session");
    let page = sign_out(&world, &mut browser, &[]).await;
    assert_eq!(page.status, 200);
    assert!(page.visible_text().contains("may still remember you"), "{}", page.visible_text());
    assert!(page.set_cookies().contains(&DELETED));
    is_dead(&world, &cookie).await;

    let mut browser = world.signed_in().await;
    let page = sign_out(&world, &mut browser, &[("rd", "/bye")]).await;
    assert_eq!(target_of(&page), "/bye");
    assert_eq!(world.provider.count(Endpoint::EndSession), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_provider_is_down_one_is_signed_out_here_and_the_page_says_so() {
    let world = World::start();
    let mut browser = world.signed_in().await;
    let cookie = world.session(&browser).expect("a session");
    world.provider.stop().await;
    let world = world.restart();
    let page = sign_out(&world, &mut browser, &[("rd", "/bye")]).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.visible_text().contains("did not answer"), "{}", page.visible_text());
    assert!(page.set_cookies().contains(&DELETED) && page.location().is_none());
    assert_eq!(world.answers("provider-unreachable").await, 1);
    is_dead(&world, &cookie).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_with_two_sessions_ends_both() {
    let world = World::start();
    let (one, two) = (world.signed_in().await, world.signed_in().await);
    let (one, two) = (world.session(&one).expect("a session"), world.session(&two).expect("a session"));
    let request = http::Request::post(world.at("/oauth2/sign_out"))
        .header("cookie", format!("doorward={one}; doorward={two}"))
        .header("sec-fetch-site", "same-origin")
        .body(crate::harness::body::empty());
    let answer = crate::harness::http::fetch(request.expect("a request")).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert!(answer.set_cookies().contains(&DELETED));
    is_dead(&world, &one).await;
    is_dead(&world, &two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_signed_in_is_signed_out_already() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = browser.get(&world.at("/oauth2/sign_out")).await;
    assert_eq!(page.status, 200);
    let page = browser.get(&world.at("/oauth2/sign_out?rd=/bye")).await;
    assert_eq!(target_of(&page), "/bye");
    assert_eq!((world.provider.count(Endpoint::EndSession), world.upstream.count()), (0, 0));
}

/// The `state` and the other parameters with which the browser is sent somewhere.
fn sent_to(page: &Page) -> (String, std::collections::HashMap<String, String>) {
    let url = page.next().unwrap_or_else(|| panic!("no redirect: {}", page.summary()));
    let pairs = url.query_pairs().into_owned().collect();
    (format!("{}{}", url.origin().ascii_serialization(), url.path()), pairs)
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_has_the_provider_take_its_refresh_token_back() {
    for auth in ["basic", "post"] {
        let keys = format!("client_auth = \"{auth}\"\n");
        let world = World::shaped(Shape { provider: &keys, ..Shape::default() }, |provider| provider.refresh(true));
        let mut browser = world.signed_in().await;
        let issued = world.provider.secrets().into_iter().find(|(kind, _)| *kind == "refresh_token").expect("a refresh token").1;
        let _other = world.signed_in().await;
        sign_out(&world, &mut browser, &[]).await;
        let asked = eventually("the refresh token is taken back", || world.provider.revocations().pop()).await;
        assert_eq!((asked["token"].as_str(), asked["token_type_hint"].as_str()), (issued.as_str(), "refresh_token"));
        assert_eq!(world.provider.complaints(), Vec::<String>::new());
        assert_eq!(world.provider.count(Endpoint::Revocation), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_takes_nothing_back_keeps_nobody_signed_in() {
    let world = World::shaped(Shape::default(), |provider| provider.refresh(true));
    for (lie, errors) in [
        (Lie::Status(Endpoint::Revocation, 503), 1),
        (Lie::Closes(Endpoint::Revocation), 1),
        (Lie::Status(Endpoint::Revocation, 400), 0),
        // The last: its outage is counted when nobody waits for it any more.
        (Lie::SlowAnswer(Endpoint::Revocation, Duration::from_secs(60)), 0),
    ] {
        let mut browser = world.signed_in().await;
        let cookie = world.session(&browser).expect("a session");
        let outages = "doorward_dependency_errors_total{dependency=\"provider\"}";
        let (asked, before) = (world.provider.count(Endpoint::Revocation), world.gateway.metric(outages).await);
        world.provider.set(lie.clone());
        let page = sign_out(&world, &mut browser, &[]).await;
        assert_eq!((page.status.as_u16(), page.set_cookies().contains(&DELETED)), (303, true), "{lie:?}: {}", page.text());
        assert_eq!(sent_to(&page).0, format!("{}/end_session", world.provider.issuer()));
        is_dead(&world, &cookie).await;
        eventually("the provider is asked", || (world.provider.count(Endpoint::Revocation) > asked).then_some(())).await;
        for _ in 0..200 {
            if world.gateway.metric(outages).await >= before + errors {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(world.gateway.metric(outages).await, before + errors, "{lie:?}");
        world.provider.set(Lie::None);
    }
    // Without a place to take it back to, or nothing to take back, nobody is asked.
    world.provider.change_discovery(json!({ "revocation_endpoint": null }));
    let asked = world.provider.count(Endpoint::Revocation);
    let world = world.restart();
    let mut browser = world.signed_in().await;
    assert_eq!(sign_out(&world, &mut browser, &[]).await.status, 303);
    assert_eq!(world.provider.count(Endpoint::Revocation), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_too_long_for_a_url_becomes_a_hint_of_another_kind() {
    let world = World::start();
    let groups: Vec<String> = (0..60).map(|n| format!("a-group-with-a-longish-name-{n}")).collect();
    world.provider.change_user(json!({ "groups": groups }));
    let mut browser = world.signed_in().await;
    let sid = world.provider.last_sid().expect("a sid");
    let (place, sent) = sent_to(&sign_out(&world, &mut browser, &[]).await);
    assert_eq!(place, format!("{}/end_session", world.provider.issuer()));
    assert_eq!((sent.get("id_token_hint"), sent.get("logout_hint")), (None, Some(&sid)));
    assert_eq!(sent["client_id"], world.provider.client_id());
    assert_eq!(sent["post_logout_redirect_uri"], world.at("/oauth2/signed_out"));
    assert!(sent["state"].len() > 20);
    // What the provider gave for this purpose comes first.
    world.provider.change_user(json!({ "login_hint": "opaque-to-us" }));
    let mut browser = world.signed_in().await;
    let (_, sent) = sent_to(&sign_out(&world, &mut browser, &[]).await);
    assert_eq!(sent["logout_hint"], "opaque-to-us");
    // And a short one is sent as it is, without any.
    world.provider.change_user(json!({ "groups": ["staff"] }));
    let mut browser = world.signed_in().await;
    let (_, sent) = sent_to(&sign_out(&world, &mut browser, &[]).await);
    assert!(sent.contains_key("id_token_hint") && !sent.contains_key("logout_hint"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_url_of_the_providers_own_kind_comes_first() {
    // As Auth0's: no state of its own, so it goes along in the place to return to.
    let keys = "logout_url = \"http://127.0.0.1:9/v2/logout?client_id={client_id}&returnTo={signed_out}%3Fstate={state}\"\n";
    let world = World::shaped(Shape { provider: keys, ..Shape::default() }, |provider| provider);
    let mut browser = world.signed_in().await;
    let page = sign_out(&world, &mut browser, &[("rd", "/bye")]).await;
    assert!(page.set_cookies().contains(&DELETED));
    let (place, sent) = sent_to(&page);
    assert_eq!((place.as_str(), sent["client_id"].as_str()), ("http://127.0.0.1:9/v2/logout", world.provider.client_id()));
    let back = sent["returnTo"].clone();
    assert!(back.starts_with(&world.at("/oauth2/signed_out?state=")), "{back}");
    // The form of our page may lead there.
    assert_eq!(world.provider.count(Endpoint::EndSession), 0);
    let page = browser.get(&back).await;
    assert_eq!(target_of(&page), "/bye");
    // Once: the state is spent.
    let page = browser.get(&back).await;
    assert_eq!((page.status.as_u16(), page.location().is_none()), (400, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_url_without_state_comes_back_to_a_page_and_never_to_rd() {
    // As Amazon Cognito's.
    let keys = "logout_url = \"http://127.0.0.1:9/logout?client_id={client_id}&logout_uri={signed_out}\"\n";
    let world = World::shaped(Shape { provider: keys, ..Shape::default() }, |provider| provider);
    let mut browser = world.signed_in().await;
    let session_page = browser.get(&world.at("/oauth2/session")).await;
    let policy = session_page.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains(" http://127.0.0.1:9"), "{policy}");
    let page = sign_out(&world, &mut browser, &[("rd", "/bye")]).await;
    let (place, sent) = sent_to(&page);
    assert_eq!((place.as_str(), sent["logout_uri"].as_str()), ("http://127.0.0.1:9/logout", world.at("/oauth2/signed_out").as_str()));
    let page = browser.get(&sent["logout_uri"]).await;
    assert_eq!((page.status.as_u16(), page.location().is_none()), (200, true), "{}", page.text());
    assert!(page.visible_text().contains("You are signed out here"), "{}", page.visible_text());
    // A state that somebody puts there by hand is none that we sent.
    let page = browser.get(&world.at("/oauth2/signed_out?state=invented")).await;
    assert_eq!((page.status.as_u16(), reason_of(&page).as_str(), page.location().is_none()), (400, "", true));
    assert_eq!(world.answers("sign-out-state").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_clears_what_the_browser_kept_of_the_app() {
    let world = World::start();
    let mut browser = world.signed_in().await;
    let asks = browser.get_from("https://evil.test/", &world.at("/oauth2/sign_out")).await;
    assert_eq!(asks.header("clear-site-data"), None);
    let page = sign_out(&world, &mut browser, &[]).await;
    assert_eq!((page.status.as_u16(), page.header("clear-site-data")), (303, Some("\"cache\"")));
    world.provider.stop().await;
    let world = world.restart();
    let page = browser.get(&world.at("/oauth2/sign_out")).await;
    assert_eq!((page.status.as_u16(), page.header("clear-site-data")), (200, Some("\"cache\"")));
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_everywhere_ends_all_sessions_of_this_person_and_nobody_elses() {
    let world = World::shaped(Shape::default(), |provider| provider.refresh(true));
    let (mut here, there) = (world.signed_in().await, world.signed_in().await);
    world.provider.set_user(json!({ "sub": "bob", "name": "Bob" }));
    let bob = world.signed_in().await;
    let cookies = [&here, &there, &bob].map(|browser| world.session(browser).expect("a session"));
    let page = here.get(&world.at("/oauth2/session")).await;
    let form = page.forms().into_iter().find(|form| form.field("everywhere").is_some()).expect("a form for all sessions");
    // From another site's page it asks first, and the page that asks means the same.
    let asks = here.post_form_from("https://evil.test/", &world.at("/oauth2/sign_out"), &[("everywhere", "true")]).await;
    assert!(asks.title().contains("Do you want to sign out"), "{}", asks.text());
    assert_eq!(asks.form_to("sign_out").field("everywhere"), Some("true"));
    is_alive(&world, &cookies[1]).await;

    let page = here.submit(&page, &form, &[]).await;
    assert_eq!(page.status, 303);
    assert!(page.set_cookies().contains(&DELETED));
    is_dead(&world, &cookies[0]).await;
    is_dead(&world, &cookies[1]).await;
    is_alive(&world, &cookies[2]).await;
    // Only this browser's cookie opens its tokens; the provider's grant to the other one stays.
    eventually("one refresh token is taken back", || world.provider.revocations().pop()).await;
    assert_eq!(world.provider.revocations().len(), 1);
}
