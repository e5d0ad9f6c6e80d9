//! Several providers, and one that does not answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::time::Duration;

use http::Method;

use crate::harness::browser::Browser;
use crate::harness::gateway::{Gateway, TOP};
use crate::harness::hostile::{Endpoint, HostileProvider};
use crate::harness::upstream::EchoUpstream;
use crate::harness::visit::parse;
use crate::harness::world::{World, reason_of, target_of};

/// Two providers; `/staff/` takes sessions of the second alone.
struct Two {
    gateway: Gateway,
    corp: HostileProvider,
    guests: HostileProvider,
    upstream: EchoUpstream,
}

impl Two {
    fn start() -> Self {
        let (corp, guests) = (HostileProvider::builder().name("corp").start(), HostileProvider::builder().name("guests").start());
        guests.set_user(serde_json::json!({ "sub": "gwen", "email": "gwen@example.test", "email_verified": true }));
        let upstream = EchoUpstream::start();
        let table = |id: &str, name: &str, provider: &HostileProvider| {
            format!(
                "[[provider]]\nid = \"{id}\"\nname = \"{name}\"\nissuer = \"{}\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\n",
                provider.issuer(),
                provider.client_id(),
                provider.client_secret()
            )
        };
        let config = format!(
            "{TOP}{}{}[[route]]\nid = \"all\"\npath = \"/\"\nupstream = \"{url}\"\nallow = \"any-authenticated\"\n\
             [[route]]\nid = \"corp\"\npath = \"/corp/\"\nupstream = \"{url}\"\nprovider = [\"corp\"]\nallow = \"any-authenticated\"\n",
            table("guests", "Guests & friends", &guests),
            table("corp", "Example Corp", &corp),
            url = upstream.url()
        );
        Self { gateway: Gateway::start(&config), corp, guests, upstream }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.url)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chooser_lists_all_and_leads_to_the_one_that_was_chosen() {
    let two = Two::start();
    let mut browser = Browser::new();
    let page = browser.get(&two.at("/any?x=1&y=2")).await;
    assert!(target_of(&page).starts_with("/oauth2/sign_in?"), "{}", page.summary());
    assert!(page.set_cookies().is_empty(), "nothing is written before the choice");
    let page = browser.follow(&page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let text = page.visible_text();
    assert!(text.contains("Guests & friends") && text.contains("Example Corp"), "{text}");
    assert_eq!((two.corp.count(Endpoint::Authorization), two.guests.count(Endpoint::Authorization), two.upstream.count()), (0, 0, 0));

    for (choice, user) in [("Guests", "gwen"), ("Example Corp", "alice")] {
        let mut browser = browser.clone();
        let page = browser.click(&page, &page.link(choice)).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let seen = two.upstream.last();
        assert_eq!((seen.target.as_str(), seen.header("x-forwarded-user").as_deref()), ("/any?x=1&y=2", Some(user)));
    }
    assert_eq!((two.corp.count(Endpoint::Token), two.guests.count(Endpoint::Token)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_with_one_provider_leads_straight_there() {
    let two = Two::start();
    let mut browser = Browser::new();
    let page = browser.get(&two.at("/corp/x")).await;
    assert_eq!(page.next().map(|url| url.origin()), Some(parse(&two.corp.issuer()).origin()));
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), two.upstream.last().target.as_str()), (200, "/corp/x"));

    // `start` follows the target's route: it chooses among what that allows.
    let mut browser = Browser::new();
    let page = browser.get(&two.at("/oauth2/start?rd=/corp/y")).await;
    assert_eq!(page.next().map(|url| url.origin()), Some(parse(&two.corp.issuer()).origin()));
    for url in ["/oauth2/start?return_to=/corp/y&provider=guests", "/oauth2/start?provider=nobody", "/oauth2/sign_in?provider=nobody"] {
        let page = browser.get(&two.at(url)).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "parameter-invalid".to_owned()), "{url}");
    }
    assert_eq!(two.guests.count(Endpoint::Authorization), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_provider_leads_a_person_on_and_is_refused_to_a_program() {
    let two = Two::start();
    let mut browser = Browser::new();
    let page = browser.get(&two.at("/oauth2/start?provider=guests&rd=/")).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), two.upstream.last().header("x-forwarded-user").as_deref()), (200, Some("gwen")));
    let guest = browser.cookie("doorward").map(|cookie| cookie.value);
    two.upstream.reset();

    let answer = browser.fetch_api(Method::GET, &two.at("/corp/x"), &[], b"").await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (403, "wrong-provider"));
    let answer = browser.fetch_api(Method::POST, &two.at("/corp/x"), &[], b"{}").await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (403, "wrong-provider"));
    assert_eq!(two.upstream.count(), 0);

    let page = browser.get(&two.at("/corp/x?y=1")).await;
    assert_eq!(page.next().map(|url| url.origin()), Some(parse(&two.corp.issuer()).origin()));
    assert_eq!(browser.cookie("doorward").map(|cookie| cookie.value), guest, "the session stays until there is another");
    two.gateway.access_line("wrong-provider").await;
    let page = browser.follow_all(page).await;
    let seen = two.upstream.last();
    assert_eq!((page.status.as_u16(), seen.target.as_str()), (200, "/corp/x?y=1"));
    assert_eq!(seen.header("x-forwarded-user").as_deref(), Some("alice"));
    assert_ne!(browser.cookie("doorward").map(|cookie| cookie.value), guest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_callback_leads_back_to_the_choice_where_there_is_one() {
    let two = Two::start();
    let mut browser = Browser::new();
    let page = browser.get(&two.at("/oauth2/start?provider=corp&rd=/wanted")).await;
    let page = browser.follow_up_to(page, &two.gateway.redirect_uri()).await;
    two.gateway.advance(Duration::from_secs(11 * 60));
    let page = browser.follow(&page).await;
    assert!(target_of(&page).starts_with("/oauth2/sign_in?"), "{}", page.summary());
    assert_eq!(two.corp.count(Endpoint::Token), 0);
    let page = browser.follow(&page).await;
    let page = browser.click(&page, &page.link("Guests")).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), two.upstream.last().target.as_str()), (200, "/wanted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_provider_is_down_sessions_are_served_and_logins_wait() {
    let world = World::start();
    let mut known = world.signed_in().await;
    world.provider.stop().await;
    // Started without a provider: what it needs to know of it was never asked.
    let world = world.restart();
    world.upstream.reset();
    let page = known.get(&world.at("/app")).await;
    assert_eq!((page.status.as_u16(), world.upstream.count()), (200, 1));

    for path in ["/app?x=1", "/oauth2/start?rd=/app"] {
        let mut browser = Browser::new();
        let page = browser.get(&world.at(path)).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (503, "provider-unreachable".to_owned()), "{path}");
        assert!(page.header("retry-after").is_some() && page.set_cookies().is_empty() && page.location().is_none(), "{path}");
    }
    // A program needs no provider to be told that it is nobody.
    let answer = Browser::new().fetch_api(Method::GET, &world.at("/api"), &[], b"").await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, "no-credential"));
    assert_eq!(world.upstream.count(), 1);

    world.provider.start_again();
    world.advance(Duration::from_secs(10));
    let mut browser = Browser::new();
    let page = world.visit(&mut browser, "/app?x=1").await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/app?x=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_goes_down_during_a_login_ends_nothing_and_the_page_leads_on() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/wanted?x=1").await;
    world.provider.stop().await;
    let page = browser.follow(&page).await;
    assert_eq!((page.status.as_u16(), reason_of(&page)), (503, "provider-unreachable".to_owned()));
    assert!(page.header("retry-after").is_some() && page.set_cookies().is_empty());
    assert_eq!((world.outcomes("provider-unreachable").await, world.upstream.count()), (1, 0));
    world.provider.start_again();
    world.advance(Duration::from_secs(10));
    let page = browser.click(&page, &page.link("Try again")).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/wanted?x=1"));
}
