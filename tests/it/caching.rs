//! What was made for somebody is kept by nobody else: headers, a real cache in front, and the back button after signing out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use serde_json::json;

use crate::harness::chromium::Chromium;
use crate::harness::fronts;
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::oidc_provider::{CLIENT_ID, CLIENT_SECRET, OidcProviderBuilder, PASSWORD};
use crate::harness::scene::Scene;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::free_port;

const ROUTES: &str = "
[[route]]
path = \"/open/\"
access = \"public\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/maybe/\"
access = \"optional\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/app/\"
accept = [\"session\", \"bearer\"]
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_for_somebody_is_private_whatever_the_app_says() {
    let scene = Scene::start("", ROUTES);
    let session = scene.session().await;
    let token = format!("Bearer {}", scene.token(json!({})));
    let (cookie, bearer) = (("cookie", session.as_str()), ("authorization", token.as_str()));
    let said = async |path: &str, credential: Option<(&str, &str)>| {
        let answer = scene.get(path, credential.as_slice()).await;
        assert_eq!(answer.status, 200, "{path}");
        let lines: Vec<String> = answer.header_all("cache-control").into_iter().map(str::to_owned).collect();
        let others = ["x-accel-expires", "surrogate-control", "cdn-cache-control"].map(|name| answer.header(name).is_some());
        (lines, others.contains(&true))
    };
    for (query, private) in [
        ("", "private, no-cache"),
        ("?cache-control=public,%20max-age=60", "private, max-age=60"),
        ("?cache-control=max-age=60&cache-control=s-maxage=600", "private, max-age=60"),
        ("?cache-control=no-store", "no-store"),
        ("?cache-control=private", "private"),
        ("?x-accel-expires=600&surrogate-control=max-age=600&cdn-cache-control=public", "private, no-cache"),
    ] {
        for (path, credential) in [("/app", Some(cookie)), ("/app", Some(bearer)), ("/maybe", Some(cookie))] {
            assert_eq!(said(&format!("{path}/headers{query}"), credential).await, (vec![private.to_owned()], false), "{path} {query}");
        }
    }
    // Everybody's answers stay as they are.
    for path in ["/open", "/maybe"] {
        assert_eq!(said(&format!("{path}/headers"), None).await, (vec![], false));
        let stays = format!("{path}/headers?cache-control=public,%20s-maxage=9&x-accel-expires=600");
        assert_eq!(said(&stays, None).await, (vec!["public, s-maxage=9".to_owned()], true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_in_front_serves_nobodys_page_to_another() {
    let port = free_port();
    let config = "
proxy_cache_path @DIR@/cache keys_zone=careless:1m;
server {
    listen 127.0.0.1:@PORT@;
    proxy_cache careless;
    proxy_cache_key $request_uri;
    proxy_cache_valid any 10m;
    add_header X-Cache $upstream_cache_status always;
    proxy_set_header Host $http_host;
    location / { proxy_pass http://GATEWAY; }
}";
    let front = fronts::nginx(config, &[("GATEWAY", &format!("127.0.0.1:{port}"))]).await;
    let scene = Scene::start_on(port, &format!("http://{}", front.address()), "", ROUTES);
    let get = async |path: &str, cookie: &str| {
        let answer = scene.get(path, &[("cookie", cookie), ("accept", "application/json")]).await;
        (answer.status.as_u16(), answer.header("x-cache").unwrap_or_default().to_owned(), answer.text())
    };
    // The cache works, and does so without a word of the app.
    assert_eq!((get("/open/page", "").await.1.as_str(), get("/open/page", "").await.1.as_str()), ("MISS", "HIT"));
    let alice = scene.session().await;
    scene.provider.set_user(json!({ "sub": "bob" }));
    let bob = scene.session().await;
    for query in [
        "",
        "?cache-control=public,%20max-age=600",
        "?cache-control=s-maxage=600",
        "?cache-control=max-age=600",
        "?expires=Thu,%2031%20Dec%202099%2023:59:59%20GMT",
        "?x-accel-expires=600",
        "?cache-control=public&etag=%22a%22",
    ] {
        for path in ["/app/page", "/app/headers"] {
            let path = format!("{path}{query}");
            for (cookie, status) in [(&alice, 200), (&bob, 200), (&String::new(), 401), (&alice, 200)] {
                let before = scene.upstream.count();
                let (found, cache, text) = get(&path, cookie).await;
                assert_eq!((found, cache.as_str()), (status, "MISS"), "{path}: {text}");
                assert_eq!(scene.upstream.count() - before, usize::from(status == 200), "{path}");
                assert!(cookie == &alice || !text.contains("alice"), "{path}: {text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_back_button_after_signing_out_shows_nothing_of_before() {
    let port = free_port();
    let base = format!("http://127.0.0.1:{port}");
    let people = OidcProviderBuilder::new(&format!("{base}/oauth2/callback"))
        .client("post_logout_redirect_uris", json!([format!("{base}/oauth2/signed_out")]))
        .start()
        .await;
    let upstream = EchoUpstream::start();
    let config = format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n{}",
        upstream.url(),
        provider(people.issuer(), CLIENT_ID, CLIENT_SECRET)
    );
    let _gateway = Gateway::start_on(port, &config);
    // The page that the app marks as good for an hour, and the one of which it says nothing.
    for page in ["/headers?cache-control=max-age=3600&content-type=text/html", "/page"] {
        let chromium = Chromium::start().await;
        let place = format!("{base}{page}");
        chromium.go(&place).await;
        chromium.send_keys("input[name=login]", "alice").await;
        chromium.send_keys("input[name=password]", PASSWORD).await;
        chromium.click("button").await;
        chromium.wait_for_url(|url| url == place).await;
        let seen = || upstream.requests().iter().filter(|seen| page.starts_with(seen.path())).count();
        let before = seen();
        chromium.go(&format!("{base}/oauth2/session")).await;
        chromium.back().await;
        chromium.wait_for_url(|url| url == place).await;
        if page.contains("max-age") {
            assert_eq!(seen(), before, "before signing out the browser keeps the page");
        }
        let kept = seen();
        chromium.go(&format!("{base}/oauth2/session")).await;
        chromium.click("form button").await;
        chromium.wait_for_url(|url| url.contains("/session/end")).await;
        chromium.click("button").await;
        chromium.wait_for_url(|url| url.starts_with(&format!("{base}/oauth2/signed_out"))).await;
        // Back as far as the page: what the browser shows there is the provider's form.
        for _ in 0..4 {
            chromium.back().await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            let (url, text) = (chromium.url().await, chromium.body_text().await);
            let shown = text.contains("Hello alice") || (url == place && text.contains("headers"));
            assert!(!shown, "{page}: {url}\n{text}");
        }
        assert_eq!(seen(), kept, "the app was asked for nobody");
    }
}
