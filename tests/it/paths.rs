//! A path has one reading, which is matched, decided about and forwarded (SECURITY 1, 2): by sockets, by HTTP/2, and as the path that a front
//! proxy asks about.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code: it fails loudly")]

use crate::harness::raw_h2::{Outcome, RawH2};
use crate::harness::scene::{Scene, raw_reason, reason};

/// `/public/` is open, `/keep/` takes escaped slashes, a status of the API is open, all else is for who is signed in.
const ROUTES: &str = "
[[route]]
path = \"/public/\"
access = \"public\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/keep/\"
access = \"public\"
encoded_slash = \"keep\"
upstream = \"@UPSTREAM@\"
[[route]]
path_regex = \"/api/.*/status\"
access = \"public\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/\"
upstream = \"@UPSTREAM@\"
allow = \"any-authenticated\"
";

/// For somebody without a credential: nothing of it may reach the upstream. With the reason; an empty one stands for what hyper itself
/// refuses, whose answer has no body.
const DENIED: &[(&str, &str)] = &[
    // SECURITY 1
    ("/public/../admin", "no-credential"),
    ("/public/%2e%2e/admin", "path-ambiguous"),
    ("/public/..%2fadmin", "path-ambiguous"),
    ("/public/..;/admin", "path-ambiguous"),
    ("/publicity", "no-credential"),
    ("/x/public", "no-credential"),
    ("//admin", "no-credential"),
    ("/public%2f..%2fadmin", "path-ambiguous"),
    // the same with other pens
    ("/", "no-credential"),
    ("/admin", "no-credential"),
    ("/Public/x", "no-credential"),
    ("/publi%63ity", "no-credential"),
    ("/public/./../admin", "no-credential"),
    ("/public/a/../../admin", "no-credential"),
    ("/public//../admin", "no-credential"),
    ("//public/../admin", "no-credential"),
    ("/./public/../admin", "no-credential"),
    ("/public/..", "no-credential"),
    ("/public/../", "no-credential"),
    ("/public%2fx", "encoded-slash"),
    ("/public;x/y", "no-credential"),
    ("/public/%2E%2E/admin", "path-ambiguous"),
    ("/public/.%2e/admin", "path-ambiguous"),
    ("/public/%2e./admin", "path-ambiguous"),
    ("/public/%2e%2e%2fadmin", "path-ambiguous"),
    ("/public/%252e%252e/admin", "path-ambiguous"),
    ("/public/%25252e/admin", "path-ambiguous"),
    ("/public/..%252fadmin", "path-ambiguous"),
    ("/public/..%255cadmin", "path-ambiguous"),
    ("/public/..%5cadmin", "path-ambiguous"),
    ("/public/..\\admin", "path-ambiguous"),
    ("/public\\..\\admin", "path-ambiguous"),
    ("\\public\\..\\admin", ""),
    ("/public/..;x=y/admin", "path-ambiguous"),
    ("/public/..%3b/admin", "path-ambiguous"),
    ("/public/.;/../admin", "path-ambiguous"),
    ("/public/%c0%ae%c0%ae/admin", "path-ambiguous"),
    ("/public/%e0%80%ae%e0%80%ae/admin", "path-ambiguous"),
    ("/public/.%c0%ae/admin", "path-ambiguous"),
    ("/public/..%00/admin", "path-ambiguous"),
    ("/public/%00/../../admin", "path-ambiguous"),
    ("/public/%0d%0aX-Evil:%201", "path-ambiguous"),
    ("/public/%0a", "path-ambiguous"),
    ("/public/%7f", "path-ambiguous"),
    ("/public/%", "path-ambiguous"),
    ("/public/%zz", "path-ambiguous"),
    ("/public/%2", "path-ambiguous"),
    ("/public/%u002e%u002e/admin", "path-ambiguous"),
    ("/keep/../admin", "no-credential"),
    ("/keep/..%2fadmin", "path-ambiguous"),
    ("/keep/a%2f..%2f..%2fadmin", "path-ambiguous"),
    ("/keep/a%2f%2e%2e%2fadmin", "path-ambiguous"),
    ("/keep/a%252f..%252fadmin", "path-ambiguous"),
    ("/keep/a%2f.", "path-ambiguous"),
    ("/keep/..%5cadmin", "path-ambiguous"),
    ("/keep/%25252f", "path-ambiguous"),
    ("/keep%2f..%2fadmin", "path-ambiguous"),
    ("/keep%2fadmin", "encoded-slash"),
    // SECURITY 2
    ("/api/private/secret?path=/status", "no-credential"),
    ("/api/private/secret?/api/x/status", "no-credential"),
    ("/api/x/statusx", "no-credential"),
    ("/api/x/status/../secret", "no-credential"),
    ("/x/api/y/status", "no-credential"),
    ("/api/x/status/secret", "no-credential"),
    ("/api/x%2fstatus", "encoded-slash"),
    ("/admin?/public/", "no-credential"),
    ("/admin;/public/", "no-credential"),
];

/// What passes, and as what it is forwarded.
const PASSES: &[(&str, &str)] = &[
    ("/public", "/public"),
    ("/public/", "/public/"),
    ("/public/x", "/public/x"),
    ("//public///x", "/public/x"),
    ("/x/../public/y", "/public/y"),
    ("/admin/../public/y/", "/public/y/"),
    ("/public/a/../b", "/public/b"),
    ("/public/a/./b/..", "/public/a/"),
    ("/../../public/x", "/public/x"),
    ("/%70ublic/%61%2D%7e", "/public/a-~"),
    ("/public/caf%c3%a9", "/public/caf%C3%A9"),
    ("/public/a%20b;v=1,2", "/public/a%20b;v=1,2"),
    ("/public/100%25", "/public/100%25"),
    ("/public/...", "/public/..."),
    ("/public/..a", "/public/..a"),
    ("/public/x?a=../../admin&b=%2e%2e%2f&c=//&d=%25", "/public/x?a=../../admin&b=%2e%2e%2f&c=//&d=%25"),
    ("/public/x?", "/public/x?"),
    ("/keep/group%2fproject", "/keep/group%2Fproject"),
    ("/keep/group%252Fproject/x", "/keep/group%252Fproject/x"),
    ("/keep/@scope%2fname/-/name-1.0.tgz", "/keep/@scope%2Fname/-/name-1.0.tgz"),
    ("/api/x/status", "/api/x/status"),
    ("/api/a/b/status?x=y", "/api/a/b/status?x=y"),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_reaches_what_it_may_not() {
    let scene = Scene::start("", ROUTES);
    for (path, word) in DENIED {
        let answer = scene.raw("GET", path, &[]).await;
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
        if !word.is_empty() {
            assert_eq!(raw_reason(&answer), *word, "{path}");
        }
        assert_eq!(scene.upstream.count(), 0, "{path} reached the upstream as {:?}", scene.upstream.requests());
    }
    // A person's browser is led to the login, and what was ambiguous is told.
    let navigates = &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"][..];
    for (path, word) in DENIED.iter().filter(|(_, word)| !word.is_empty()) {
        let answer = scene.raw("GET", path, navigates).await;
        assert_eq!(answer.status, if *word == "no-credential" { 303 } else { 400 }, "{path}");
        assert_eq!(scene.upstream.count(), 0, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_matched_is_what_is_forwarded() {
    let scene = Scene::start("", ROUTES);
    for (path, forwarded) in PASSES {
        let answer = scene.raw("GET", path, &[]).await;
        assert_eq!((answer.status, scene.upstream.last().target.as_str()), (200, *forwarded), "{path}: {}", answer.text());
    }
    // Signed in it is the same bytes, also where the route was another than the path seemed to say.
    let cookie = format!("Cookie: {}", scene.session().await);
    for (path, forwarded) in [("/public/../admin", "/admin"), ("//admin", "/admin"), ("/%61dmin", "/admin")] {
        let answer = scene.raw("GET", path, &[&cookie]).await;
        assert_eq!((answer.status, scene.upstream.last().target.as_str()), (200, forwarded), "{path}");
        assert_eq!(scene.upstream.last().header("x-forwarded-user").as_deref(), Some("alice"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_reads_paths_in_the_same_way() {
    let scene = Scene::start("", ROUTES);
    let host = scene.host();
    for (path, _) in DENIED {
        let mut http2 = RawH2::open(scene.gateway.address).await;
        http2.get(1, &host, path, &[]).await;
        let outcome = http2.outcome(1).await;
        assert!(outcome.is_refusal(), "{path}: {outcome:?}");
        assert_eq!(scene.upstream.count(), 0, "{path}");
    }
    let mut http2 = RawH2::open(scene.gateway.address).await;
    for (stream, (path, forwarded)) in (1..).step_by(2).zip(PASSES) {
        http2.get(stream, &host, path, &[]).await;
        assert_eq!(http2.outcome(stream).await, Outcome::Status(200), "{path}");
        assert_eq!(scene.upstream.last().target, *forwarded, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_after_a_fragment_is_forwarded() {
    let scene = Scene::start("", ROUTES);
    let host = scene.host();
    for path in ["/public/x#/../../admin", "/public/x#", "/public/x#?a=b", "/public/x#\\..", "/public/x?a=b#c"] {
        scene.upstream.reset();
        let answer = scene.raw("GET", path, &[]).await;
        let target = scene.upstream.requests().pop().map(|seen| seen.target);
        let whole = if path.contains('?') && path.contains("a=b#") { "/public/x?a=b" } else { "/public/x" };
        assert!(answer.status == 400 && target.is_none() || target.as_deref() == Some(whole), "{path}: {} {target:?}", answer.status);

        let mut http2 = RawH2::open(scene.gateway.address).await;
        http2.get(1, &host, path, &[]).await;
        http2.outcome(1).await;
    }
    for path in ["/admin#/public/", "/publi#c/", "#/public/", "/#/public/x"] {
        scene.upstream.reset();
        let answer = scene.raw("GET", path, &[]).await;
        assert!((400..500).contains(&answer.status) && scene.upstream.count() == 0, "{path}: {}", answer.status);
    }
    let wire: String = scene.upstream.received().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    assert!(!wire.contains('#') && !wire.contains("admin"), "{wire}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_auth_reads_the_forwarded_path_in_the_same_way() {
    for (set, method, uri) in [("nginx", "x-original-method", "x-original-uri"), ("caddy", "x-forwarded-method", "x-forwarded-uri")] {
        let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", &format!("[forward_auth]\nheaders = \"{set}\"\n{ROUTES}"));
        let (host, session) = (scene.host(), scene.session().await);
        let about = |path| [(method, "GET"), (uri, path), ("x-forwarded-host", host.as_str()), ("x-forwarded-proto", "http")];
        let with = |path, more: (&'static str, String)| {
            let mut lines: Vec<(String, String)> = about(path).map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            lines.push((more.0.to_owned(), more.1));
            lines
        };
        for endpoint in ["/oauth2/auth", "/oauth2/forward"] {
            for (path, word) in DENIED {
                let answer = scene.get(endpoint, &about(path)).await;
                // What hyper refuses as a request target is here a value like any other.
                let word = if word.is_empty() { "path-ambiguous" } else { word };
                // Where the route is known its refusal is 403; a path without a route needs a credential before it is told so.
                assert!([401, 403].contains(&answer.status.as_u16()), "{path}: {}", answer.status);
                assert_eq!(reason(&answer), word, "{set} {endpoint} {path}");

                if word == "path-ambiguous" {
                    let lines = with(path, ("cookie", session.clone()));
                    let lines: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    let answer = scene.get(endpoint, &lines).await;
                    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (403, word), "{set} {path} with a session");
                }
            }
            for (path, _) in PASSES {
                let answer = scene.get(endpoint, &about(path)).await;
                assert_eq!(answer.status, 200, "{set} {endpoint} {path}: {}", answer.text());
            }
            for path in ["/public/x#", "/public/x#/../../admin", "/public/x?a=b#c", "public/x", "", "http://own.test/public/x"] {
                let answer = scene.get(endpoint, &about(path)).await;
                let refused = ["forwarded-ambiguous", "path-ambiguous"].contains(&reason(&answer).as_str());
                assert!(answer.status == 401 && refused, "{set} {path:?}: {} {}", answer.status, answer.text());
            }
        }
        assert_eq!(scene.upstream.count(), 0);
    }
}
