//! Rules in the query of a question: they narrow what the route's policy allows, where the config lets them, and never open anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::scene::{Scene, reason};

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]\n";
const ROUTES: &str = "
[policy.admins]
groups = [\"admins\"]
[[route]]
path = \"/public/\"
access = \"public\"
[[route]]
path = \"/optional/\"
access = \"optional\"
[[route]]
path = \"/staff/\"
allow = { groups = [\"staff\"] }
[[route]]
path = \"/\"
preflight = \"pass\"
allow = \"any-authenticated\"
";

async fn ask(scene: &Scene, target: &str, method: &str, uri: &str, more: &[(&str, &str)]) -> Answer {
    let host = scene.host();
    let about = [("x-original-method", method), ("x-original-uri", uri), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
    let headers: Vec<(&str, &str)> = about.into_iter().chain(more.iter().copied()).collect();
    scene.get(target, &headers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_in_the_query_are_anded_to_the_routes_policy() {
    let scene = Scene::start(TRUSTED, &format!("[forward_auth]\nnarrow = true\n{ROUTES}"));
    let verified = |name: &str, groups: &[&str]| json!({ "sub": name, "email": format!("{name}@example.test"), "email_verified": true, "groups": groups });
    scene.provider.set_user(verified("alice", &["staff", "users"]));
    let alice = scene.session().await;
    scene.provider.set_user(verified("bob", &["guests"]));
    let bob = scene.session().await;
    scene.provider.set_user(json!({ "sub": "carol", "email": "carol@example.test", "email_verified": false, "groups": ["staff"] }));
    let carol = scene.session().await;
    let (alice, bob, carol) = (Some(&alice), Some(&bob), Some(&carol));
    for endpoint in ["/oauth2/auth", "/oauth2/forward"] {
        for (query, uri, cookie, status, word) in [
            ("allowed_groups=staff", "/x", alice, 200, ""),
            ("allowed_groups=admins,staff", "/x", alice, 200, ""),
            ("allowed_groups=admins", "/x", alice, 403, "not-allowed"),
            ("allowed_groups=staff", "/x", bob, 403, "not-allowed"),
            // Who is in the list is not let in where the route keeps them out.
            ("allowed_groups=guests", "/staff/x", bob, 403, "not-allowed"),
            ("allowed_emails=bob@example.test", "/staff/x", bob, 403, "not-allowed"),
            ("allowed_groups=guests", "/staff/x", alice, 403, "not-allowed"),
            ("allowed_emails=ALICE@example.test", "/staff/x", alice, 200, ""),
            ("allowed_emails=bob@example.test", "/x", alice, 403, "not-allowed"),
            ("allowed_emails=carol@example.test", "/x", carol, 403, "email-not-verified"),
            ("allowed_email_domains=example.test", "/x", bob, 200, ""),
            ("allowed_email_domains=example.org,ample.test", "/x", bob, 403, "not-allowed"),
            ("allowed_groups=staff&allowed_email_domains=example.org", "/x", alice, 403, "not-allowed"),
            ("allowed_groups=staff&allowed_emails=alice@example.test&allowed_email_domains=example.test", "/staff/x", alice, 200, ""),
            ("policy=admins&allowed_groups=staff", "/x", alice, 403, "not-allowed"),
            // Nobody is nobody.
            ("allowed_groups=staff", "/x", None, 401, "no-credential"),
            ("allowed_groups=staff", "/optional/x", None, 401, "no-credential"),
            ("allowed_groups=staff", "/optional/x", bob, 403, "not-allowed"),
            ("allowed_groups=staff", "/optional/x", alice, 200, ""),
            ("allowed_groups=staff", "/public/x", None, 403, "inline-rule"),
            ("allowed_groups=staff", "/public/x", alice, 403, "inline-rule"),
            // Asking for nothing, or twice.
            ("allowed_groups=", "/x", alice, 403, "inline-rule"),
            ("allowed_groups=", "/public/x", None, 403, "inline-rule"),
            ("allowed_groups=staff,", "/x", alice, 403, "inline-rule"),
            ("allowed_groups=staff&allowed_groups=staff", "/x", alice, 403, "inline-rule"),
            ("allowed_emails=", "/x", alice, 403, "inline-rule"),
            ("allowed_email_domains=*", "/x", alice, 403, "inline-rule"),
            ("allowed_group=staff", "/x", alice, 403, "parameter-invalid"),
        ] {
            let headers: Vec<(&str, &str)> = cookie.iter().map(|cookie| ("cookie", cookie.as_str())).collect();
            let answer = ask(&scene, &format!("{endpoint}?{query}"), "GET", uri, &headers).await;
            assert_eq!(answer.status, status, "{endpoint}?{query} {uri}: {}", answer.text());
            if status != 200 {
                assert_eq!(reason(&answer), word, "{endpoint}?{query} {uri}");
            }
        }
    }
    // A preflight brings no credential, and opens nothing.
    let preflight = [("origin", "https://spa.test"), ("access-control-request-method", "PUT")];
    assert_eq!(ask(&scene, "/oauth2/auth?allowed_groups=staff", "OPTIONS", "/x", &preflight).await.status, 200);
    assert_eq!(ask(&scene, "/oauth2/auth?allowed_groups=staff", "PUT", "/x", &preflight).await.status, 401);
    // The query of the request that is asked about is the browser's own.
    let cookie = [("cookie", alice.unwrap().as_str())];
    assert_eq!(ask(&scene, "/oauth2/auth?allowed_groups=staff", "GET", "/x?allowed_groups=admins", &cookie).await.status, 200);
    assert_eq!(ask(&scene, "/oauth2/auth?allowed_groups=admins", "GET", "/x?allowed_groups=staff", &cookie).await.status, 403);
    assert_eq!(scene.upstream.count(), 0);
    let line = scene.gateway.access_line("reason=not-allowed").await;
    assert!(line.contains("query"), "the log says whose rule it was: {line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_a_listed_proxy_is_answered_and_off_they_are_refused() {
    for (top, tables, word) in [
        ("trusted_proxies = [\"192.0.2.1\"]\n", "[forward_auth]\nnarrow = true\n", "peer-not-trusted"),
        (TRUSTED, "[forward_auth]\nnarrow = false\n", "inline-rule"),
        (TRUSTED, "", "inline-rule"),
    ] {
        let scene = Scene::start(top, &format!("{tables}{ROUTES}"));
        let session = scene.session().await;
        for endpoint in ["/oauth2/auth", "/oauth2/forward"] {
            for name in ["allowed_groups=staff", "allowed_emails=alice@example.test", "allowed_email_domains=example.test"] {
                let answer = ask(&scene, &format!("{endpoint}?{name}"), "GET", "/x", &[("cookie", &session)]).await;
                assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (403, word), "{endpoint}?{name} {tables}");
            }
        }
    }
}
