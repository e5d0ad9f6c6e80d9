//! What a person sees: the real Chromium before the gateway and the real provider. Every page is looked at in light and dark, wide and on a
//! phone (`target/screenshots`), and the console stays silent about the Content-Security-Policy on all of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::demo;
use crate::harness::certs::CertificateAuthority;
use crate::harness::chromium::Chromium;
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::oidc_provider::{CLIENT_ID, CLIENT_SECRET, OidcProvider, OidcProviderBuilder, PASSWORD};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::free_port;

struct World {
    gateway: Gateway,
    provider: OidcProvider,
    upstream: EchoUpstream,
}

/// The provider, told where people come back to.
async fn provider_for(base: &str) -> OidcProvider {
    OidcProviderBuilder::new(&format!("{base}/oauth2/callback"))
        .client("post_logout_redirect_uris", json!([format!("{base}/oauth2/signed_out")]))
        .start()
        .await
}

async fn world() -> World {
    let port = free_port();
    let provider_process = provider_for(&format!("http://127.0.0.1:{port}")).await;
    let upstream = EchoUpstream::start();
    let config = format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n{}",
        upstream.url(),
        provider(provider_process.issuer(), CLIENT_ID, CLIENT_SECRET)
    );
    World { gateway: Gateway::start_on(port, &config), provider: provider_process, upstream }
}

/// Fills in the provider's form, which the window shows.
async fn sign_in(chromium: &Chromium, user: &str) {
    chromium.send_keys("input[name=login]", user).await;
    chromium.send_keys("input[name=password]", PASSWORD).await;
    chromium.click("button").await;
}

/// Nothing that a page of ours holds is against its own policy, and no form is kept from where it leads.
pub async fn assert_silent(chromium: &Chromium) {
    let lines = chromium.console().await;
    let told: Vec<&String> = lines.iter().filter(|line| line.contains("Content Security Policy") || line.contains("Refused")).collect();
    assert!(told.is_empty(), "at {}: {told:?}", chromium.url().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_sees_their_name_and_signs_out_at_the_provider_too() {
    let World { gateway, upstream, provider: _provider } = world().await;
    let chromium = Chromium::start().await;
    chromium.go(&format!("{}/somewhere?a=1", gateway.url)).await;
    assert_eq!(upstream.count(), 0);
    sign_in(&chromium, "alice").await;
    chromium.wait_for_url(|url| url == format!("{}/somewhere?a=1", gateway.url)).await;
    assert!(chromium.body_text().await.contains(r#""x-forwarded-user","alice""#), "{}", chromium.body_text().await);

    chromium.go(&format!("{}/oauth2/session", gateway.url)).await;
    let text = chromium.body_text().await;
    assert!(text.contains("alice@example.test") && text.contains("staff"), "{text}");
    // The form leads through the provider and back, which `form-action` has to allow.
    chromium.click("form button").await;
    chromium.wait_for_url(|url| url.contains("/session/end")).await;
    chromium.click("button").await;
    chromium.wait_for_url(|url| url.starts_with(&format!("{}/oauth2/signed_out", gateway.url))).await;
    let text = chromium.body_text().await;
    assert!(text.contains("You are signed out here and at the service that signed you in"), "{text}");
    assert_silent(&chromium).await;

    chromium.go(&format!("{}/elsewhere", gateway.url)).await;
    chromium.find("input[name=password]").await;
    assert!(!upstream.requests().iter().any(|seen| seen.path() == "/elsewhere"));
    assert!(!chromium.cookies().await.iter().any(|cookie| cookie["name"] == "doorward"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_sign_in_at_the_same_time_and_the_back_button_leads_to_the_app() {
    let World { gateway, upstream, provider: _provider } = world().await;
    let chromium = Chromium::start().await;
    let first = chromium.window().await;
    chromium.go(&format!("{}/first", gateway.url)).await;
    let form = chromium.url().await;
    let second = chromium.new_window().await;
    chromium.go(&format!("{}/second", gateway.url)).await;
    sign_in(&chromium, "alice").await;
    chromium.wait_for_url(|url| url == format!("{}/second", gateway.url)).await;
    chromium.switch_to(&first).await;
    assert_eq!(chromium.url().await, form);
    sign_in(&chromium, "alice").await;
    chromium.wait_for_url(|url| url == format!("{}/first", gateway.url)).await;
    // The second login's session is the one that counts now, in both tabs.
    for tab in [&second, &first] {
        chromium.switch_to(tab).await;
        chromium.refresh().await;
        assert!(chromium.body_text().await.contains(r#""x-forwarded-user","alice""#));
    }
    assert_eq!(gateway.metric("doorward_logins_total{provider=\"default\",outcome=\"success\"}").await, 2);

    // Back shows the provider's page of before, and forward the app: no login is made twice, nobody meets an error of ours.
    chromium.back().await;
    chromium.execute("history.forward()", json!([])).await;
    chromium.wait_for_url(|url| url == format!("{}/first", gateway.url)).await;
    assert!(chromium.body_text().await.contains(r#""x-forwarded-user","alice""#));
    assert_eq!(gateway.metric("doorward_logins_total{provider=\"default\",outcome=\"success\"}").await, 2);
    assert!(upstream.requests().iter().all(|seen| seen.header("x-forwarded-user").as_deref() == Some("alice")));
    assert_silent(&chromium).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_form_post_from_another_site_completes_over_tls() {
    let port = free_port();
    let authority = CertificateAuthority::new();
    let leaf = authority.leaf(&["localhost"]);
    let base = format!("https://localhost:{port}");
    let provider_process = OidcProviderBuilder::new(&format!("{base}/oauth2/callback"))
        .client("post_logout_redirect_uris", json!([format!("{base}/oauth2/signed_out")]))
        .tls(&authority, "127.0.0.1")
        .start()
        .await;
    let upstream = EchoUpstream::start();
    let config = format!(
        "public_url = \"{base}\"\nupstream = \"{}\"\nallow = \"any-authenticated\"\n{}response_mode = \"form_post\"\ntls = {{ ca_file = \"{}\" }}\n[tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n",
        upstream.url(),
        provider(provider_process.issuer(), CLIENT_ID, CLIENT_SECRET),
        authority.file().display(),
        leaf.certificate_file().display(),
        leaf.key_file().display(),
    );
    let gateway = Gateway::start_on(port, &config);
    let chromium = Chromium::start().await;
    chromium.go(&format!("{base}/somewhere")).await;
    sign_in(&chromium, "alice").await;
    chromium.wait_for_url(|url| url == format!("{base}/somewhere")).await;
    assert!(chromium.body_text().await.contains(r#""x-forwarded-user","alice""#), "{}", chromium.body_text().await);
    gateway.access_line("POST").await;
    let cookies = chromium.cookies().await;
    let session = cookies.iter().find(|cookie| cookie["name"] == "__Host-doorward").unwrap_or_else(|| panic!("no session in {cookies:?}"));
    assert_eq!((&session["secure"], &session["httpOnly"], &session["sameSite"]), (&json!(true), &json!(true), &json!("Lax")));

    chromium.go(&format!("{base}/oauth2/session")).await;
    chromium.click("form button").await;
    chromium.wait_for_url(|url| url.contains("/session/end")).await;
    chromium.click("button").await;
    chromium.wait_for_url(|url| url.starts_with(&format!("{base}/oauth2/signed_out"))).await;
    assert!(chromium.body_text().await.contains("at the service that signed you in"));
    assert_silent(&chromium).await;
}

/// One page, four times: light and dark, wide and on a phone. Nothing may stick out on the side.
async fn pictures(chromium: &Chromium, name: &str) {
    for (look, dark) in [("light", false), ("dark", true)] {
        chromium.prefer_dark(dark).await;
        for (width, height, device) in [(1280, 800, "desktop"), (360, 740, "phone")] {
            let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": device == "phone" });
            chromium.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
            let beyond =
                chromium.execute("return document.documentElement.scrollWidth - document.documentElement.clientWidth", json!([])).await;
            assert_eq!(beyond, json!(0), "{name} sticks out on a {device}");
            let whole = json!({ "format": "png", "captureBeyondViewport": true });
            let picture = chromium.devtools("Page.captureScreenshot", whole).await;
            let picture = STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
            let path = chromium.screenshot(&format!("{name}-{look}-{device}")).await;
            std::fs::write(path, picture).expect("the picture can be kept");
        }
    }
    chromium.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await;
    assert_silent(chromium).await;
    for word in ["None", "undefined", "{{", "}}", "&lt;", "&amp;"] {
        let text = chromium.body_text().await;
        assert!(!text.split_whitespace().any(|found| found == word), "{name} says {word:?}: {text}");
    }
}

/// What a page has to say, and its pictures.
pub async fn shows(chromium: &Chromium, name: &str, words: &[&str]) {
    let text = chromium.body_text().await;
    for word in words {
        assert!(text.contains(word), "{name} does not say {word:?}:\n{text}");
    }
    assert!(!chromium.title().await.is_empty());
    assert_eq!(chromium.count("h1").await, 1, "{name}");
    assert_eq!(chromium.count("script").await, 0, "{name}");
    pictures(chromium, name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_says_what_is_the_matter_and_keeps_within_its_window() {
    let port = free_port();
    let provider_process = provider_for(&format!("http://127.0.0.1:{port}")).await;
    let upstream = EchoUpstream::start();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let config = format!(
        r##"{TOP}
[[provider]]
id = "corp"
name = "Example Corp"
issuer = "{issuer}"
client_id = "{CLIENT_ID}"
client_secret = "{CLIENT_SECRET}"
scopes = ["openid", "profile", "email", "groups"]
[[provider]]
id = "partner"
name = "Partners & Friends"
issuer = "{nobody}"
client_id = "app"
client_secret = "secret"
[[token_issuer]]
issuer = "{nobody}"
audience = ["orders"]
[[route]]
id = "app"
upstream = "{upstream}"
allow = "any-authenticated"
[[route]]
id = "staff"
path = "/staff/"
provider = ["corp"]
upstream = "{upstream}"
allow = {{ groups = ["staff"] }}
denied = {{ text = "Only for the staff.\nAsk Carol <carol@example.test>.", link = "https://help.example.test/?a=1&b=2" }}
[[route]]
id = "gone"
path = "/gone/"
upstream = "{nobody}"
allow = "any-authenticated"
[[route]]
id = "api"
path = "/api/"
accept = ["bearer"]
upstream = "{upstream}"
allow = {{ scopes = ["orders:read"] }}
[pages]
title = "Example Corp apps"
accent = "#0b7285"
notice = "Trouble signing in? Call <4711> & ask."
help_url = "https://help.example.test/sign-in"
"##,
        issuer = provider_process.issuer(),
        upstream = upstream.url(),
    );
    let gateway = Gateway::start_on(port, &config);
    let at = |path: &str| format!("{}{path}", gateway.url);
    let chromium = Chromium::options().host("other.example.test", gateway.address).start().await;

    chromium.go(&at("/welcome")).await;
    shows(
        &chromium,
        "chooser",
        &["Choose how to sign in", "Example Corp", "Partners & Friends", "127.0.0.1", "Call <4711> & ask.", "Get help"],
    )
    .await;
    // By keyboard: the first stop is the first provider, the second the other one.
    chromium.press("\u{e004}\u{e004}\u{e007}").await;
    chromium.wait_for_url(|url| url.contains("provider=partner")).await;
    shows(&chromium, "error-503", &["The sign-in service does not answer", "Try again", "503 provider-unreachable", "Call <4711>"]).await;
    chromium.go(&at("/oauth2/callback?code=stolen&state=unknown")).await;
    shows(&chromium, "error-400", &["This sign-in is not known here", "400 state-unknown"]).await;
    chromium.go(&at("/oauth2/start?rd=https://evil.test/")).await;
    shows(&chromium, "error-return-to", &["The link leads elsewhere", "400 return-to-refused"]).await;
    chromium.go(&at("/oauth2/nothing")).await;
    shows(&chromium, "error-404", &["There is nothing here", "Go to the start page", "404 endpoint-unknown"]).await;
    chromium.go(&at("/api/orders")).await;
    shows(&chromium, "error-401", &["For programs only", "401 no-credential"]).await;
    chromium.go(&format!("http://other.example.test:{port}/")).await;
    shows(&chromium, "error-421", &["No site of this name here", "421 host-unknown"]).await;

    // The provider is given up, then used.
    chromium.go(&at("/welcome")).await;
    chromium.click(".choices a").await;
    chromium.click("form + form button").await;
    chromium.wait_for_url(|url| url.contains("/oauth2/callback")).await;
    shows(&chromium, "error-refused", &["The sign-in was not completed", "Try again", "400 provider-error"]).await;
    chromium.click(".actions a").await;
    chromium.find(".choices").await;
    chromium.click(".choices a").await;
    sign_in(&chromium, "bob").await;
    chromium.wait_for_url(|url| url == at("/welcome")).await;

    chromium.go(&at("/staff/")).await;
    shows(
        &chromium,
        "denied",
        &[
            "signed in as Bob Brown",
            "Use another account",
            "403 not-allowed",
            "Only for the staff.\nAsk Carol <carol@example.test>.",
            "How to get access",
            "Call <4711>",
        ],
    )
    .await;
    assert!(!upstream.requests().iter().any(|seen| seen.path().starts_with("/staff")));
    chromium.go(&at("/gone/")).await;
    shows(&chromium, "error-502", &["The app does not answer", "Try again", "502 upstream-unreachable"]).await;
    chromium.go(&at("/oauth2/session")).await;
    shows(&chromium, "session", &["You are signed in", "bob@example.test", "guests", "Sign out"]).await;

    // A link on another site: localhost is one, 127.0.0.1 another.
    chromium.go(&format!("http://localhost:{}/", upstream.address().port())).await;
    chromium.execute("location.href = arguments[0]", json!([at("/oauth2/sign_out")])).await;
    chromium.wait_for_url(|url| url == at("/oauth2/sign_out")).await;
    shows(&chromium, "confirm-sign-out", &["Do you want to sign out?", "Bob Brown", "Stay signed in"]).await;
    chromium.click("form button").await;
    chromium.wait_for_url(|url| url.contains("/session/end")).await;
    chromium.click("button").await;
    chromium.wait_for_url(|url| url.contains("/oauth2/signed_out")).await;
    shows(&chromium, "signed-out", &["You are signed out", "Sign in again"]).await;
    chromium.go(&at("/oauth2/signed_out")).await;
    shows(&chromium, "signed-out-here", &["You are signed out here", "may still remember you"]).await;
    chromium.go(&at("/oauth2/signed_out?state=other")).await;
    shows(&chromium, "signed-out-warning", &["may still be open"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demos_pages_are_fit_to_be_seen() {
    let demo = demo::start().await;
    let chromium = Chromium::start().await;
    chromium.go(&format!("{}/", demo.url)).await;
    shows(&chromium, "demo-login", &["Sign in to the demo", "alice", "wonderland"]).await;
    chromium.send_keys("#username", "alice").await;
    chromium.send_keys("#password", "wonder\u{e007}").await;
    shows(&chromium, "demo-login-wrong", &["not the name and password of a demo user"]).await;
    chromium.send_keys("#username", "alice").await;
    chromium.send_keys("#password", "wonderland\u{e007}").await;
    chromium.wait_for_url(|url| url == format!("{}/", demo.url)).await;
    shows(&chromium, "demo-app", &["you are alice", "x-forwarded-email", "alice@example.com"]).await;
    chromium.go(&format!("{}/public/", demo.url)).await;
    shows(&chromium, "demo-public", &["without a signed-in person"]).await;
    // The app's own link signs out without asking twice.
    chromium.go(&format!("{}/", demo.url)).await;
    chromium.click(".actions a").await;
    chromium.wait_for_url(|url| url.contains("/oauth2/signed_out")).await;
    shows(&chromium, "demo-signed-out", &["You are signed out"]).await;
}
