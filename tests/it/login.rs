//! A browser signs in through the real provider and comes back to where it was going.

use url::form_urlencoded::byte_serialize;

use crate::harness::browser::{Browser, Page};
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::oidc_provider::{self, OidcProvider};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::free_port;
use crate::harness::world::reason_of;

/// A gateway in front of an echo upstream, with the real provider; everybody who signs in is allowed.
async fn world() -> (Gateway, OidcProvider, EchoUpstream) {
    let port = free_port();
    let provider_process = OidcProvider::start(&format!("http://127.0.0.1:{port}/oauth2/callback")).await;
    let upstream = EchoUpstream::start();
    let config = format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n{}",
        upstream.url(),
        provider(provider_process.issuer(), oidc_provider::CLIENT_ID, oidc_provider::CLIENT_SECRET)
    );
    (Gateway::start_on(port, &config), provider_process, upstream)
}

/// From an answer that leads to the provider to the page of the app.
async fn log_in(browser: &mut Browser, page: Page, gateway: &Gateway) -> Page {
    let page = oidc_provider::log_in(browser, page, "alice", &gateway.redirect_uri()).await;
    browser.follow_all(page).await
}

fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_logs_in_and_the_app_is_told_who_it_is() {
    let (gateway, provider, upstream) = world().await;
    let mut browser = Browser::new();
    let page = browser.get(&format!("{}/somewhere?a=1&b=2", gateway.url)).await;
    assert_eq!(page.status, 303, "{}", page.text());
    let page = oidc_provider::log_in(&mut browser, page, "alice", &gateway.redirect_uri()).await;
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let seen = upstream.last();
    assert_eq!(seen.target, "/somewhere?a=1&b=2");
    assert_eq!(seen.header("x-forwarded-user").as_deref(), Some("alice"));
    assert_eq!(upstream.count(), 1);
    drop(provider);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_naming_the_place_leads_there_and_gives_the_apps_state_back() {
    let (gateway, provider, upstream) = world().await;
    let mut browser = Browser::new();
    let own = gateway.url.clone();
    let deep = format!("{own}/deep/path?x=1&y=a%20b&state=of-the-app");
    for (query, wanted) in [
        (format!("?rd={}", escaped("/a?b=c&d=e")), "/a?b=c&d=e"),
        (format!("?rd={}", escaped(&deep)), "/deep/path?x=1&y=a%20b&state=of-the-app"),
        // nginx cannot escape: `rd=$scheme://$host$request_uri`.
        (format!("?rd={deep}"), "/deep/path?x=1&y=a%20b&state=of-the-app"),
        ("?rd=/plain?q=1&r=2".to_owned(), "/plain?q=1&r=2"),
        (format!("?rd={own}/no-query&state=s"), "/no-query?state=s"),
        (format!("?return_to={}&state=xyz", escaped("/spa")), "/spa?state=xyz"),
        (format!("?return_to={}&state={}", escaped("/spa?q=1"), escaped("x&y=%41")), "/spa?q=1&state=x%26y%3D%2541"),
        ("?return_to=/app?error_description=https://x".to_owned(), "/app?error_description=https://x"),
        (String::new(), "/"),
        ("?state=alone".to_owned(), "/?state=alone"),
        // A place under the prefix would lead back into the login, or out of the session.
        (format!("?rd={}", escaped("/oauth2/sign_out?rd=/x")), "/"),
    ] {
        let before = upstream.count();
        let page = browser.get(&format!("{own}/oauth2/start{query}")).await;
        assert_eq!(page.status, 303, "{query}: {}", page.text());
        let page = log_in(&mut browser, page, &gateway).await;
        assert_eq!((page.status.as_u16(), upstream.count()), (200, before + 1), "{query}: {}", page.summary());
        assert_eq!(upstream.last().target, wanted, "{query}");
    }
    let before = provider.count("authorization").await;
    for (query, reason) in [
        ("?rd=/a&return_to=/a", "parameter-invalid"),
        ("?rd=/a&rd=/a", "parameter-repeated"),
        ("?return_to=/a&return_to=/b", "parameter-repeated"),
        ("?return_to=/a&state=1&state=2", "parameter-repeated"),
        ("?rd=/a&provider=nobody", "parameter-invalid"),
    ] {
        let mut stranger = Browser::new();
        let page = stranger.get(&format!("{own}/oauth2/start{query}")).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (400, reason.to_owned()), "{query}");
        assert!(page.set_cookies().is_empty() && page.location().is_none(), "{query}");
    }
    assert_eq!(provider.count("authorization").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_tabs_log_in_at_once_in_any_order_and_each_lands_where_it_wanted() {
    let (gateway, provider, upstream) = world().await;
    let mut browser = Browser::new();
    let mut tabs = Vec::new();
    for tab in 0..5 {
        tabs.push(browser.get(&format!("{}/tab/{tab}?of=5", gateway.url)).await);
    }
    let mut callbacks = Vec::new();
    for tab in [3, 0, 4, 1, 2] {
        let at_provider = tabs[tab].clone();
        let page =
            oidc_provider::walk_to_callback(&mut browser, at_provider, "alice", oidc_provider::PASSWORD, &gateway.redirect_uri()).await;
        callbacks.push((tab, page));
    }
    for turn in [1, 4, 0, 3, 2] {
        let (tab, page) = &callbacks[turn];
        let page = browser.follow(page).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 200, "{}", page.text());
        assert_eq!(upstream.last().target, format!("/tab/{tab}?of=5"));
    }
    assert_eq!((upstream.count(), provider.count("token").await), (5, 5));
    // All five share the one session that is left.
    let page = browser.get(&format!("{}/after", gateway.url)).await;
    assert_eq!((page.status.as_u16(), upstream.count()), (200, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cancels_at_the_provider_gets_a_page_that_leads_on_to_the_same_place() {
    let (gateway, provider, upstream) = world().await;
    let mut browser = Browser::new();
    let page = browser.get(&format!("{}/wanted?q=1", gateway.url)).await;
    let page = browser.follow_all(page).await;
    let page = browser.submit(&page, &page.form_to("/abort"), &[]).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "provider-error".to_owned()), "{}", page.text());
    assert!(!page.text().contains("gave up"), "the provider's words are not ours: {}", page.text());
    assert_eq!((provider.count("token").await, upstream.count()), (0, 0));
    assert!(browser.cookie("doorward").is_none());
    assert_eq!(gateway.metric("doorward_logins_total{provider=\"default\",outcome=\"provider-error\"}").await, 1);

    let page = browser.click(&page, &page.link("Try again")).await;
    let page = log_in(&mut browser, page, &gateway).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(upstream.last().target, "/wanted?q=1");
}
