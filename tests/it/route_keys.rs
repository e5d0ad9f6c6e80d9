//! What a route says of itself: who is sent to sign in and with what, who is kept out, what the refused are told, what is logged, which slashes stay.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::browser::Browser;
use crate::harness::http::Protocol;
use crate::harness::scene::{Scene, raw_reason, reason};
use crate::harness::temp::TempDir;
use crate::harness::world::reason_of;

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]\n";

fn routes(tables: &[(&str, &str)]) -> String {
    let table = |(path, keys): &(&str, &str)| {
        format!(
            "[[route]]\nid = \"at{}\"\npath = \"{path}\"\nupstream = \"@UPSTREAM@\"\n{keys}\n",
            path.trim_end_matches('/').replace('/', "-")
        )
    };
    tables.iter().map(table).collect()
}

/// What a front proxy is told of a request of this method and path.
async fn ask(scene: &Scene, endpoint: &str, method: &str, uri: &str, more: &[(&str, &str)]) -> Answer {
    let host = scene.host();
    let about = [("x-original-method", method), ("x-original-uri", uri), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
    scene.get(endpoint, &about.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_settles_who_is_sent_to_sign_in() {
    let any = |login: &str| format!("allow = \"any-authenticated\"\n{login}");
    let scene = Scene::start(
        TRUSTED,
        &routes(&[("/auto/", &any("")), ("/never/", &any("login = \"never\"")), ("/always/", &any("login = \"always\""))]),
    );
    let person: &[(&str, &str)] = &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("accept", "text/html")];
    let old: &[(&str, &str)] = &[("accept", "*/*")];
    let script: &[(&str, &str)] = &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("accept", "*/*")];
    let image: &[(&str, &str)] = &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    for (method, headers, [auto, never, always]) in [
        ("GET", person, [303, 401, 303]),
        ("GET", old, [401, 401, 303]),
        ("GET", &[], [401, 401, 303]),
        ("GET", script, [401, 401, 401]),
        ("GET", image, [401, 401, 401]),
        ("GET", &[("x-requested-with", "XMLHttpRequest")], [401, 401, 401]),
        ("HEAD", old, [401, 401, 401]),
        ("POST", old, [401, 401, 401]),
    ] {
        for (path, status) in [("/auto/x", auto), ("/never/x", never), ("/always/x", always)] {
            let proxied = scene.send(Protocol::Http1, method, path, headers).await;
            let asked = ask(&scene, "/oauth2/forward", method, path, headers).await;
            let bare = ask(&scene, "/oauth2/auth", method, path, headers).await;
            assert_eq!(
                (proxied.status.as_u16(), asked.status.as_u16(), bare.status.as_u16()),
                (status, status, 401),
                "{method} {path} {headers:?}"
            );
            assert!(proxied.header("www-authenticate").is_some() == (status == 401));
            if path.starts_with("/never") && method == "GET" {
                for answer in [&proxied, &asked, &bare] {
                    assert_eq!(answer.json()["reason"], "no-credential");
                    assert!(answer.json()["login_url"].as_str().unwrap().contains("/oauth2/start"), "{}", answer.text());
                    assert!(answer.set_cookies().is_empty());
                }
            }
        }
    }
    assert_eq!(scene.upstream.count(), 0);
    // Whoever has a session is let in everywhere.
    let session = scene.session().await;
    for path in ["/auto/x", "/never/x", "/always/x"] {
        assert_eq!(scene.get(path, &[("cookie", &session)]).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_asks_for_the_scopes_of_the_place_that_it_is_for() {
    let orders = "allow = { scopes = [\"orders:read\"] }\nscopes = [\"orders:read\", \"email\"]\n";
    let scene = Scene::start(TRUSTED, &routes(&[("/", "allow = \"any-authenticated\""), ("/orders/", orders)]));
    let asked = async |url: &str| {
        let page = Browser::new().get(&scene.url(url)).await;
        let next = page.next().unwrap_or_else(|| panic!("{}", page.summary()));
        next.query_pairs()
            .find(|(name, _)| name == "scope")
            .map(|(_, value)| value.into_owned())
            .unwrap_or_else(|| panic!("no scope in {next}"))
    };
    let own = "openid profile email groups";
    assert_eq!(asked("/x").await, own);
    assert_eq!(asked("/orders/x").await, format!("{own} orders:read"));
    assert_eq!(asked("/oauth2/start").await, own);
    assert_eq!(asked("/oauth2/start?rd=/orders/x").await, format!("{own} orders:read"));
    // A script's page lies elsewhere; what it was refused on counts too.
    let refused = scene.get("/orders/x", &[("referer", &scene.url("/spa"))]).await;
    let login_url = refused.json()["login_url"].as_str().unwrap().to_owned();
    assert_eq!(asked(&login_url[scene.url("").len()..]).await, format!("{own} orders:read"), "{login_url}");
    let front = ask(&scene, "/oauth2/auth", "GET", "/orders/x", &[]).await;
    assert!(front.json()["login_url"].as_str().unwrap().contains("route=at-orders"), "{}", front.text());

    // What such a login brings passes; another login's session lacks it, is told so, and is not sent again.
    let mut browser = Browser::new();
    let page = browser.get(&scene.url("/orders/x")).await;
    assert_eq!(browser.follow_all(page).await.status, 200);
    let mut other = scene.sign_in().await;
    let before = scene.upstream.count();
    let page = other.get(&scene.url("/orders/x")).await;
    assert_eq!((page.status.as_u16(), reason_of(&page).as_str(), scene.upstream.count()), (403, "insufficient-scope", before));
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_deny_means_or_may_mean_is_kept_out_before_allow_is_asked() {
    let keys = "allow = { groups = [\"staff\"] }\ndeny = { any_of = [{ groups = [\"suspended\"] }, { emails = [\"eve@x.test\"] }] }";
    let scene = Scene::start(TRUSTED, &routes(&[("/staff/", keys), ("/app/", "allow = \"any-authenticated\"")]));
    for (claims, expected) in [
        (json!({ "sub": "ann", "groups": ["staff"] }), None),
        (json!({ "sub": "ben", "groups": ["staff", "suspended"] }), Some("denied-by-rule")),
        (json!({ "sub": "eve", "groups": ["staff"], "email": "Eve@x.test", "email_verified": false }), Some("denied-by-rule")),
        (json!({ "sub": "gus", "hasgroups": true }), Some("groups-overage")),
        (json!({ "sub": "zoe", "groups": ["guests"] }), Some("not-allowed")),
    ] {
        scene.provider.set_user(claims.clone());
        let session = scene.session().await;
        let before = scene.upstream.count();
        let cookie = [("cookie", session.as_str())];
        let (proxied, asked) = (scene.get("/staff/x", &cookie).await, ask(&scene, "/oauth2/auth", "GET", "/staff/x", &cookie).await);
        match expected {
            None => assert_eq!((proxied.status.as_u16(), asked.status.as_u16()), (200, 200), "{claims}"),
            Some(word) => {
                for answer in [&proxied, &asked] {
                    assert_eq!((answer.status.as_u16(), reason(answer).as_str()), (403, word), "{claims}");
                    assert!(answer.set_cookies().is_empty());
                }
            }
        }
        assert_eq!(scene.upstream.count() - before, usize::from(expected.is_none()), "{claims}");
        // Of this route alone, and by tokens alike.
        assert_eq!(scene.get("/app/x", &cookie).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_in_a_file_count_as_it_changes() {
    let dir = TempDir::new("emails");
    let file = dir.write("people.txt", "# the team\nann@company.test\n");
    let keys = format!("allow = {{ emails_file = \"{}\" }}", file.display());
    let scene = Scene::start(
        TRUSTED,
        &format!("[policy.team]\nemails_file = \"{}\"\n{}", file.display(), routes(&[("/", &keys), ("/named/", "policy = \"team\"")])),
    );
    let user = |name: &str, verified: bool| json!({ "sub": name, "email": format!("{name}@company.test"), "email_verified": verified });
    let signed_in = async |claims| {
        scene.provider.set_user(claims);
        let mut browser = Browser::new();
        let page = browser.get(&scene.url("/oauth2/start?rd=/oauth2/done")).await;
        browser.follow_all(page).await;
        format!("doorward={}", browser.cookie("doorward").unwrap().value)
    };
    let (ann, bob, claimed) = (signed_in(user("Ann", true)).await, signed_in(user("bob", true)).await, signed_in(user("ann", false)).await);
    let status = async |cookie: &str, path: &str| scene.get(path, &[("cookie", cookie)]).await.status.as_u16();
    let becomes = async |cookie: &str, path: &str, expected: u16| {
        for _ in 0..100 {
            if status(cookie, path).await == expected {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("{path} does not become {expected}");
    };
    assert_eq!((status(&ann, "/x").await, status(&bob, "/x").await), (200, 403));
    assert_eq!((status(&ann, "/named/x").await, status(&bob, "/named/x").await), (200, 403));
    let refused = scene.get("/x", &[("cookie", &claimed)]).await;
    assert_eq!((refused.status.as_u16(), reason(&refused).as_str()), (403, "email-not-verified"));
    assert_eq!(ask(&scene, "/oauth2/auth", "GET", "/x", &[("cookie", &bob)]).await.status, 403);

    dir.write("people.txt", "bob@company.test # since May\n");
    becomes(&bob, "/x", 200).await;
    becomes(&bob, "/named/x", 200).await;
    assert_eq!((status(&ann, "/x").await, status(&ann, "/named/x").await), (403, 403));
    assert_eq!(ask(&scene, "/oauth2/auth", "GET", "/x", &[("cookie", &bob)]).await.status, 200);
    assert_eq!(scene.gateway.metric("doorward_file_errors_total{key=\"emails_file\"}").await, 0);

    // What cannot be used changes nothing, and is counted: once for each list and change.
    dir.write("people.txt", "ann@company.test\nnonsense\n");
    let series = "doorward_file_errors_total{key=\"emails_file\"}";
    let mut errors = 0;
    for _ in 0..100 {
        errors = scene.gateway.metric(series).await;
        if errors >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(errors, 2);
    assert_eq!((status(&ann, "/x").await, status(&bob, "/x").await), (403, 200));
    dir.write("people.txt", "ann@company.test\n");
    becomes(&ann, "/x", 200).await;
    assert_eq!(status(&bob, "/x").await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refused_are_told_what_the_route_says() {
    let denied = "denied = { text = \"Ask <b>Carol</b> & co.\", link = \"https://help.example.com/?a=1&b=2\" }";
    let keys = format!("allow = {{ groups = [\"board\"] }}\n{denied}");
    let scene = Scene::start(
        &format!("{TRUSTED}[pages]\nnotice = \"Call <4711>.\"\nhelp_url = \"https://help.example.com/?x=1&y=2\"\n"),
        &routes(&[("/board/", &keys), ("/other/", "allow = { groups = [\"board\"] }")]),
    );
    let mut browser = scene.sign_in().await;
    let page = browser.get(&scene.url("/board/x")).await;
    assert_eq!(page.status, 403);
    for escaped in ["Ask &lt;b&gt;Carol&lt;&#x2f;b&gt; &amp; co.", "Call &lt;4711&gt;."] {
        assert!(page.text().contains(escaped), "{escaped}: {}", page.text());
    }
    assert_eq!(page.link("How to get access"), "https://help.example.com/?a=1&b=2");
    assert_eq!(page.link("Get help"), "https://help.example.com/?x=1&y=2");
    let session = format!("doorward={}", browser.cookie("doorward").unwrap().value);
    let cookie = [("cookie", session.as_str())];
    for answer in [scene.get("/board/x", &cookie).await, ask(&scene, "/oauth2/auth", "GET", "/board/x", &cookie).await] {
        let told = answer.json();
        assert_eq!((&told["reason"], &told["text"]), (&json!("not-allowed"), &json!("Ask <b>Carol</b> & co.")), "{told}");
        assert_eq!(told["link"], "https://help.example.com/?a=1&b=2");
    }
    // Elsewhere, and for who is only asked to sign in, there is nothing of it; the notice is for everybody who is stopped.
    let page = browser.get(&scene.url("/other/x")).await;
    assert!(page.status == 403 && !page.text().contains("Carol") && page.text().contains("Call &lt;4711&gt;."), "{}", page.text());
    for answer in [scene.get("/other/x", &cookie).await, scene.get("/board/x", &[]).await] {
        assert!(answer.json().get("text").is_none() && answer.json().get("link").is_none(), "{}", answer.text());
    }
    let page = browser.get(&scene.url("/oauth2/nothing")).await;
    assert!(page.text().contains("Call &lt;4711&gt;."), "{}", page.text());
    assert_eq!(scene.upstream.count(), 0);
    // Without [pages] there is no notice, and no help to be had.
    let plain = Scene::start(TRUSTED, &routes(&[("/other/", "allow = { groups = [\"board\"] }")]));
    let page = plain.sign_in().await.get(&plain.url("/other/x")).await;
    assert!(page.status == 403 && !page.text().contains("4711") && !page.text().contains("Get help"), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_route_logs_what_it_refuses_and_nothing_else() {
    let quiet = |keys: &str| format!("{keys}\nlog = false");
    let (public, staff) = (quiet("access = \"public\""), quiet("allow = { groups = [\"staff\"] }"));
    let scene = Scene::start(TRUSTED, &routes(&[("/open/", &public), ("/staff/", &staff), ("/loud/", "access = \"public\"")]));
    let alice = scene.session().await;
    scene.provider.set_user(json!({ "sub": "bob", "groups": [] }));
    let bob = scene.session().await;
    let (alice, bob) = ([("cookie", alice.as_str())], [("cookie", bob.as_str())]);
    assert_eq!(scene.get("/open/quiet-1", &[]).await.status, 200);
    assert_eq!(scene.get("/staff/quiet-2", &alice).await.status, 200);
    assert_eq!(scene.get("/open/status/500", &[]).await.status, 500);
    assert_eq!(ask(&scene, "/oauth2/auth", "GET", "/staff/quiet-3", &alice).await.status, 200);
    assert_eq!(scene.get("/staff/told-1", &[]).await.status, 401);
    assert_eq!(scene.get("/staff/told-2", &bob).await.status, 403);
    assert_eq!(scene.get("/open/told%2f3", &[]).await.status, 400);
    assert_eq!(ask(&scene, "/oauth2/auth", "GET", "/staff/x", &bob).await.status, 403);
    assert_eq!(scene.get("/loud/last", &[]).await.status, 200);
    for told in ["told-1", "told-2", "told%2f3", "path=/oauth2/auth reason=not-allowed", "path=/loud/last"] {
        scene.gateway.access_line(told).await;
    }
    let lines = scene.gateway.access_lines();
    assert!(!lines.contains("quiet-") && !lines.contains("status/500") && !lines.contains("path=/oauth2/auth reason=allowed"), "{lines}");
    // They are counted all the same.
    assert_eq!(scene.gateway.metric("doorward_requests_total{route=\"at-open\",reason=\"public\"}").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn slashes_that_stay_open_nothing() {
    let tables = routes(&[("/", "access = \"public\""), ("/admin/", "allow = \"any-authenticated\"")]);
    let kept = Scene::start(&format!("{TRUSTED}merge_slashes = false\n"), &tables);
    let merged = Scene::start(TRUSTED, &tables);
    for (target, there) in
        [("/files//a///b//", "/files//a///b//"), ("//x", "//x"), ("/files/https://x/y", "/files/https://x/y"), ("/a//../b", "/a/b")]
    {
        let answer = kept.raw("GET", target, &[]).await;
        assert_eq!((answer.status, kept.upstream.last().path()), (200, there), "{target}");
        assert_eq!(merged.raw("GET", target, &[]).await.status, 200);
        assert!(!merged.upstream.last().path().contains("//"), "{target}");
    }
    let before = kept.upstream.count();
    for (target, status, word) in [
        ("//admin", 404, "no-route"),
        ("/.//admin/x", 404, "no-route"),
        ("/admin//x", 401, "no-credential"),
        ("//oauth2//userinfo", 401, "no-credential"),
        ("/files//%2e%2e/admin", 400, "path-ambiguous"),
    ] {
        let answer = kept.raw("GET", target, &[]).await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (status, word), "{target}");
        // What lies under the prefix is ours, whoever asks about it.
        let asked = ask(&kept, "/oauth2/auth", "GET", target, &[]).await;
        assert!(asked.status != 200 || target.contains("oauth2"), "{target}: {}", asked.text());
    }
    assert_eq!(kept.upstream.count(), before);
    for target in ["/files//a", "//x"] {
        assert_eq!(ask(&kept, "/oauth2/auth", "GET", target, &[]).await.status, 200, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn escaped_slashes_pass_where_they_are_kept_and_the_refusal_names_the_key() {
    let scene =
        Scene::start(TRUSTED, &routes(&[("/", "access = \"public\""), ("/keep/", "access = \"public\"\nencoded_slash = \"keep\"")]));
    for (target, there) in [("/keep/a%2fb", "/keep/a%2Fb"), ("/keep/job/a%252Fb", "/keep/job/a%252Fb"), ("/keep/a%252fb", "/keep/a%252Fb")]
    {
        let answer = scene.raw("GET", target, &[]).await;
        assert_eq!((answer.status, scene.upstream.last().path()), (200, there), "{target}");
        assert_eq!(ask(&scene, "/oauth2/auth", "GET", target, &[]).await.status, 200, "{target}");
    }
    let before = scene.upstream.count();
    for (target, word) in [
        ("/a%2fb", "encoded-slash"),
        ("/a%252fb", "encoded-slash"),
        ("/keep/..%2fx", "path-ambiguous"),
        ("/keep/a%252f..%252fx", "path-ambiguous"),
        ("/keep/a%2f%2e%2e%2fx", "path-ambiguous"),
        ("/keep/a%2541", "path-ambiguous"),
        ("/keep/a%5cb", "path-ambiguous"),
    ] {
        let answer = scene.raw("GET", target, &[]).await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (400, word), "{target}");
        let names = String::from_utf8_lossy(&answer.body).contains("encoded_slash");
        assert_eq!(names, word == "encoded-slash", "{target}");
        assert_eq!(ask(&scene, "/oauth2/auth", "GET", target, &[("cookie", "doorward=x")]).await.status, 403, "{target}");
    }
    assert_eq!(scene.upstream.count(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_app_may_take_for_a_place_of_others_is_nobodys() {
    let any = "allow = \"any-authenticated\"";
    let styles = "[[route]]\npath_regex = '/files/.*\\.css'\naccess = \"public\"\nupstream = \"@UPSTREAM@\"\n";
    let tables = [("/", "access = \"public\"\nencoded_slash = \"keep\""), ("/admin/", any), ("/files/", any)];
    let scene = Scene::start(TRUSTED, &format!("{}{styles}", routes(&tables)));
    for target in ["/x;a=b", "/x%2fy", "/files/a.css", "/files/a.css;v=1.css"] {
        assert_eq!(scene.raw("GET", target, &[]).await.status, 200, "{target}");
        assert_eq!(ask(&scene, "/oauth2/auth", "GET", target, &[]).await.status, 200, "{target}");
    }
    let before = scene.upstream.count();
    for target in [
        "/admin;x/users",
        "/admin%3Bx/users",
        "/;x/admin/users",
        "/admin%2fusers",
        "/admin%252fusers",
        "/%2fadmin/users",
        "/admin;x%2fusers",
        "/files/secret;x.css",
    ] {
        let answer = scene.raw("GET", target, &[]).await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (404, "no-route"), "{target}");
        let answer = ask(&scene, "/oauth2/auth", "GET", target, &[]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (403, "no-route"), "{target}");
    }
    assert_eq!(scene.upstream.count(), before);
}
