//! A browser signs in through the real provider, comes back to where it was going, and signs out.

use crate::harness::browser::Browser;
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::oidc_provider::{self, OidcProvider};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::free_port;

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
