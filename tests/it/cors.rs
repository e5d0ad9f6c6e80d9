//! Pages of other origins read our refusals where the route names them, and never what the app answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::chromium::Chromium;
use crate::harness::scene::{Scene, reason};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::free_port;

const SPA: &str = "https://spa.example.com";

fn allowed(answer: &Answer) -> Option<(String, String)> {
    let origin = answer.header("access-control-allow-origin")?.to_owned();
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    Some((origin, answer.header("access-control-expose-headers").unwrap_or_default().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_origin_that_may_read_them_and_no_other() {
    let dead = format!("http://127.0.0.1:{}", free_port());
    let routes = format!(
        "[[token_issuer]]\nissuer = \"{dead}\"\naudience = \"api\"\n\
         [[route]]\npath = \"/api/\"\naccept = [\"session\", \"bearer\"]\nallow = \"any-authenticated\"\ncors_origins = [\"{SPA}\", \"http://127.0.0.1:3000\"]\nupstream = \"@UPSTREAM@\"\n\
         [[route]]\npath = \"/staff/\"\nallow = {{ groups = [\"board\"] }}\ncors_origins = [\"{SPA}\"]\nupstream = \"@UPSTREAM@\"\n\
         [[route]]\npath = \"/quiet/\"\nallow = \"any-authenticated\"\nupstream = \"@UPSTREAM@\"\n"
    );
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", &routes);
    let session = scene.session().await;
    let unasked = format!("Bearer {}", scene.token(json!({ "iss": dead })));
    let (cookie, token) = (("cookie", session.as_str()), ("authorization", unasked.as_str()));
    let host = scene.host();
    for (path, credential, status, word) in [
        ("/api/x", None, 401, "no-credential"),
        ("/api/x", Some(token), 503, "keys-unreachable"),
        ("/staff/x", Some(cookie), 403, "not-allowed"),
    ] {
        for (origin, listed) in [
            (Some(SPA), true),
            (Some("https://spa.example.com:8443"), false),
            (Some("https://evil.test"), false),
            (Some("https://spa.example.com.evil.test"), false),
            (Some("null"), false),
            (None, false),
        ] {
            let more: Vec<_> = credential.into_iter().chain(origin.map(|origin| ("origin", origin))).collect();
            let about =
                [("x-original-method", "GET"), ("x-original-uri", path), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
            let asking: Vec<_> = about.into_iter().chain(more.iter().copied()).collect();
            for answer in [scene.get(path, &more).await, scene.get("/oauth2/auth", &asking).await] {
                assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (status, word), "{path} {origin:?}");
                assert_eq!(answer.header("vary"), Some("Origin"), "{path} {origin:?}");
                let expected = listed.then(|| (SPA.to_owned(), "WWW-Authenticate, Retry-After, DPoP-Nonce, X-Request-Id".to_owned()));
                assert_eq!(allowed(&answer), expected, "{path} {origin:?}");
            }
        }
    }
    // Other statuses, other routes, and whatever the app answers.
    let spa = ("origin", SPA);
    for (path, headers, status) in [
        ("/api/a%2fb", &[spa][..], 400),
        ("/quiet/x", &[spa], 401),
        ("/api/x", &[spa, cookie], 200),
        ("/api/status/401", &[spa, cookie], 401),
        ("/api/status/403", &[spa, cookie], 403),
        ("/api/status/503", &[spa, cookie], 503),
    ] {
        let answer = scene.get(path, headers).await;
        assert_eq!((answer.status.as_u16(), allowed(&answer)), (status, None), "{path}");
        assert_eq!(answer.header("vary"), None, "{path}");
    }
    let twice = scene.raw("GET", "/api/x", &["Origin: https://spa.example.com", "Origin: https://evil.test"]).await;
    assert!(!twice.headers.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("access-control")), "{:?}", twice.headers);
    assert_eq!(twice.status, 401);
}

/// What a script of the page in the window gets: status, and what it was told.
async fn fetched(chromium: &Chromium, url: &str) -> serde_json::Value {
    let script = "return fetch(arguments[0], { credentials: 'include' })\
                  .then(async answer => ({ status: answer.status, challenge: answer.headers.get('www-authenticate'), body: await answer.json() }))\
                  .catch(error => ({ error: error.name }))";
    chromium.execute(script, json!([url])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_listed_origin_reads_where_to_sign_in_and_another_does_not() {
    let (listed, unlisted) = (EchoUpstream::start(), EchoUpstream::start());
    let routes = format!(
        "[[route]]\npath = \"/api/\"\nallow = \"any-authenticated\"\ncors_origins = [\"{spa}\"]\nupstream = \"@UPSTREAM@\"\n\
         [[route]]\npath = \"/staff/\"\nallow = {{ groups = [\"board\"] }}\ncors_origins = [\"{spa}\"]\nupstream = \"@UPSTREAM@\"\n",
        spa = listed.url()
    );
    let scene = Scene::start("", &routes);
    let chromium = Chromium::start().await;
    let (api, staff) = (scene.url("/api/x"), scene.url("/staff/x"));
    let refused = json!({ "error": "TypeError" });

    chromium.go(&format!("{}/page", listed.url())).await;
    let told = fetched(&chromium, &api).await;
    assert_eq!((&told["status"], &told["body"]["reason"]), (&json!(401), &json!("no-credential")), "{told}");
    assert!(told["body"]["login_url"].as_str().unwrap().starts_with(&scene.url("/oauth2/start")), "{told}");
    assert_eq!(told["challenge"], "Doorward-Session realm=\"doorward\"");
    chromium.go(&format!("{}/page", unlisted.url())).await;
    assert_eq!(fetched(&chromium, &api).await, refused);
    assert_eq!(scene.upstream.count(), 0);

    // Signed in: the refusal of somebody is read as well, the app's own answer is not.
    chromium.go(&scene.url("/api/page")).await;
    assert_eq!(scene.upstream.count(), 1);
    chromium.go(&format!("{}/page", listed.url())).await;
    let told = fetched(&chromium, &staff).await;
    assert_eq!((&told["status"], &told["body"]["reason"]), (&json!(403), &json!("not-allowed")), "{told}");
    assert_eq!(fetched(&chromium, &api).await, refused);
    assert_eq!(scene.upstream.count(), 2, "it was sent to the app, whose answer names no origin");
    chromium.go(&format!("{}/page", unlisted.url())).await;
    assert_eq!(fetched(&chromium, &staff).await, refused);
}
