//! Signing out: here, at the provider, and never because another site wants it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::time::Duration;

use serde_json::json;

use crate::harness::browser::{Browser, Page};
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::hostile::{Endpoint, Lie};
use crate::harness::oidc_provider::{self, OidcProvider, OidcProviderBuilder};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::free_port;
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
