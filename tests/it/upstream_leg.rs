//! The leg to the upstream: whom TLS trusts there and why not, under which host and path it sees a request, what is told to it and what is set
//! on its answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::certs::{CertificateAuthority, Leaf};
use crate::harness::http::{HttpClient, Protocol};
use crate::harness::scene::{Scene, raw_reason, reason};
use crate::harness::temp::TempDir;
use crate::harness::upstream::{EchoUpstream, SeenRequest};
use crate::harness::websocket::WebSocket;

const NAVIGATES: &[&str] = &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"];

// --- TLS

#[tokio::test(flavor = "multi_thread")]
async fn each_key_of_tls_has_its_no_and_the_log_says_why() {
    let (authority, clients, stranger) = (CertificateAuthority::new(), CertificateAuthority::new(), CertificateAuthority::new());
    let (leaf, other) = (authority.leaf(&["app.internal"]), authority.leaf(&["app.internal"]));
    let upstream = EchoUpstream::start_mutual_tls(&leaf, "localhost", &clients);
    let (own, foreign) = (clients.leaf(&["doorward.test"]), stranger.leaf(&["doorward.test"]));
    let shown = |leaf: &Leaf| {
        format!(", certificate_file = \"{}\", key_file = \"{}\"", leaf.certificate_file().display(), leaf.key_file().display())
    };
    let trust = |authority: &CertificateAuthority| format!("ca_file = \"{}\"", authority.file().display());
    let (named, pin) = (", server_name = \"app.internal\"", |leaf: &Leaf| format!(", pin_sha256 = \"{}\"", leaf.pin()));
    let rows = [
        ("good", [trust(&authority), named.into(), shown(&own), pin(&leaf)], ""),
        ("wrong-authority", [trust(&stranger), named.into(), shown(&own), String::new()], "invalid peer certificate"),
        ("no-name", [trust(&authority), String::new(), shown(&own), String::new()], "not valid for name"),
        ("wrong-name", [trust(&authority), ", server_name = \"wiki.internal\"".into(), shown(&own), String::new()], "wiki.internal"),
        ("no-certificate", [trust(&authority), named.into(), String::new(), String::new()], "CertificateRequired"),
        ("foreign-certificate", [trust(&authority), named.into(), shown(&foreign), String::new()], "does not take our certificate"),
        ("wrong-pin", [trust(&authority), named.into(), shown(&own), pin(&other)], "pin"),
    ];
    let route = |(id, keys, _): &(&str, [String; 4], &str)| {
        let keys = keys.concat();
        format!("[[route]]\nid = \"{id}\"\npath = \"/{id}/\"\naccess = \"public\"\nupstream = \"{}\"\ntls = {{ {keys} }}\n", upstream.url())
    };
    let scene = Scene::start("", &rows.iter().map(route).collect::<String>());
    assert_eq!(scene.get("/good/x", &[]).await.status, 200);
    for (id, _, why) in rows.iter().filter(|(_, _, why)| !why.is_empty()) {
        let answer = scene.get(&format!("/{id}/x"), &[]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str(), upstream.count()), (502, "upstream-unreachable", 1), "{id}");
        let line = scene.gateway.access_line(&format!("/{id}/x")).await;
        assert!(line.contains(why), "{id}: {line}");
    }
}

// --- the host

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_is_asked_under_the_name_that_the_route_says() {
    let authority = CertificateAuthority::new();
    let secure = EchoUpstream::start_tls(&authority.leaf(&["localhost"]), "localhost", &["http/1.1"]);
    let route = |path: &str, keys: &str| format!("[[route]]\npath = \"/{path}/\"\naccess = \"public\"\n{keys}\n");
    let here = "upstream = \"@UPSTREAM@\"\n";
    let tls = format!("upstream = \"{}\"\ntls = {{ ca_file = \"{}\" }}\n", secure.url(), authority.file().display());
    let tables = [
        route("silent", here),
        route("keep", &format!("{here}upstream_host = \"keep\"")),
        route("upstream", &format!("{here}upstream_host = \"upstream\"")),
        route("named", &format!("{here}upstream_host = \"wiki.internal:81\"")),
        // The name in the certificate is that of the address all the same.
        route("tls", &format!("{tls}upstream_host = \"wiki.internal\"")),
    ];
    let scene = Scene::start("", &tables.concat());
    let address = scene.upstream.url().trim_start_matches("http://").to_owned();
    for (path, upstream, host) in [
        ("silent", &scene.upstream, scene.host()),
        ("keep", &scene.upstream, scene.host()),
        ("upstream", &scene.upstream, address.clone()),
        ("named", &scene.upstream, "wiki.internal:81".to_owned()),
        ("tls", &secure, "wiki.internal".to_owned()),
    ] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let answer = scene.send(protocol, "GET", &format!("/{path}/x"), &[("x-forwarded-host", "forged.test")]).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let seen = upstream.last();
            assert_eq!((seen.header_all("host"), seen.header_all("x-forwarded-host")), (vec![host.clone()], vec![scene.host()]), "{path}");
            let forwarded = seen.header("forwarded").unwrap();
            assert!(forwarded.contains(&format!("host=\"{}\"", scene.host())), "{forwarded}");
        }
    }
    // What the app makes of such a name leads browsers back to ours.
    for (path, place, expected) in [
        ("upstream", format!("http://{address}/upstream/y?z"), scene.url("/upstream/y?z")),
        ("named", "http://wiki.internal:81/y".to_owned(), scene.url("/y")),
        ("named", "/y".to_owned(), "/y".to_owned()),
        ("named", "https://evil.test/y".to_owned(), "https://evil.test/y".to_owned()),
        ("keep", format!("http://{address}/y"), format!("http://{address}/y")),
    ] {
        let answer = scene.get(&format!("/{path}/headers?location={place}").replace("?z", "%3Fz"), &[]).await;
        assert_eq!(answer.header("location"), Some(expected.as_str()), "{path} {place}");
    }
}

// --- the path

const MOVED: &str = r#"
[[route]]
id = "wiki"
path = "/apps/wiki/"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
strip_prefix = true
[[route]]
id = "part"
path = "/apps/blog/"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
strip_prefix = "/apps"
[[route]]
id = "api"
path = "/api/"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
rewrite = "/v1"
[[route]]
id = "regex"
path_regex = "/x-(.*)"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
rewrite = "/$1"
[[route]]
id = "files"
path_regex = "/files(.*)C(.*)"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
rewrite = "/f$1F$2"
[[route]]
id = "status"
path_regex = "/orders/(?P<order>[0-9]+)/status"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
rewrite = "/status/of/${order}"
[[route]]
id = "open"
path = "/open/"
access = "public"
upstream = "@UPSTREAM@"
rewrite = "/static"
[[route]]
id = "rest"
path = "/"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_sees_another_path_and_is_told_of_the_prefix() {
    let scene = Scene::start("", MOVED);
    let cookie = format!("Cookie: {}", scene.session().await);
    for (target, seen_target, prefix) in [
        ("/apps/wiki/a/b?c=%2e%2F..&d", "/a/b?c=%2e%2F..&d", Some("/apps/wiki")),
        ("/apps/wiki/", "/", Some("/apps/wiki")),
        ("/apps/wiki", "/", Some("/apps/wiki")),
        ("/apps/wiki?q", "/?q", Some("/apps/wiki")),
        ("/apps/wiki/apps/wiki/x", "/apps/wiki/x", Some("/apps/wiki")),
        ("/apps//wiki/./x/../%61", "/a", Some("/apps/wiki")),
        ("/apps/blog/x", "/blog/x", Some("/apps")),
        ("/apps/blog", "/blog", Some("/apps")),
        ("/api/x/?y", "/v1/x/?y", None),
        ("/api", "/v1", None),
        ("/x-a/b", "/a/b", None),
        ("/orders/12/status?x=/y", "/status/of/12?x=/y", None),
        ("/open/x.css", "/static/x.css", None),
        ("/plain/x", "/plain/x", None),
    ] {
        scene.upstream.reset();
        let answer = scene.raw("GET", target, &[&cookie, "X-Forwarded-Prefix: /forged", "x_forwarded_prefix: /forged"]).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        let seen = scene.upstream.last();
        assert_eq!((seen.target.as_str(), seen.header("x-forwarded-prefix").as_deref()), (seen_target, prefix), "{target}");
        assert!(!seen.everything().contains("forged"), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decided_is_about_the_path_that_was_asked_for_and_what_has_two_readings_goes_nowhere() {
    let scene = Scene::start("", MOVED);
    let cookie = format!("Cookie: {}", scene.session().await);
    // Not by way of the open prefix, whatever would come of it.
    for target in [
        "/open/../admin",
        "/open/%2e%2e/admin",
        "/open/..%2fadmin",
        "/open%2f..%2fadmin",
        "/open/..;/admin",
        "/static/x",
        "/openx",
        "//admin",
    ] {
        let answer = scene.raw("GET", target, &[]).await;
        assert!(matches!(answer.status, 400 | 401), "{target}: {}", answer.status);
    }
    for target in ["/x-../admin", "/x-./admin", "/x-/admin", "/x-", "/x-..", "/files/a%2Cb", "/files/..%2Cb"] {
        let answer = scene.raw("GET", target, &[&cookie]).await;
        // `/x-` itself becomes the root, which is clear.
        if target == "/x-" {
            assert_eq!(answer.status, 200, "{}", answer.text());
            scene.upstream.reset();
            continue;
        }
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (400, "rewrite-ambiguous"), "{target}");
    }
    assert_eq!(scene.upstream.count(), 0);
    // Nobody learns of it who may not pass.
    assert_eq!(scene.raw("GET", "/x-../admin", &[]).await.status, 401);
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_app_says_of_its_own_place_is_ours_to_the_browser() {
    let scene = Scene::start("", MOVED);
    let (cookie, host) = (scene.session().await, scene.host());
    let address = scene.upstream.url();
    for (path, name, value, expected) in [
        ("/apps/wiki", "location", "/login?next=/", "/apps/wiki/login?next=/".to_owned()),
        ("/apps/wiki", "location", &format!("{address}/login"), format!("http://{host}/apps/wiki/login")),
        ("/apps/wiki", "location", &format!("http://{host}/login"), format!("http://{host}/apps/wiki/login")),
        ("/apps/wiki", "location", "/apps/wiki/login", "/apps/wiki/login".to_owned()),
        ("/apps/wiki", "location", "/oauth2/sign_out", "/oauth2/sign_out".to_owned()),
        ("/apps/wiki", "location", "//evil.test/x", "//evil.test/x".to_owned()),
        ("/apps/wiki", "content-location", "/a", "/apps/wiki/a".to_owned()),
        ("/apps/wiki", "refresh", "3; url=/a", "3; url=/apps/wiki/a".to_owned()),
        ("/apps/wiki", "set-cookie", "a=b; Path=/; HttpOnly", "a=b; Path=/apps/wiki; HttpOnly".to_owned()),
        ("/apps/wiki", "set-cookie", "__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure".to_owned()),
        ("/apps/blog", "location", "/blog/x", "/apps/blog/x".to_owned()),
        ("/api", "location", "/v1/x", "/api/x".to_owned()),
        ("/api", "location", "/v2/x", "/v2/x".to_owned()),
        ("/plain", "location", "/x", "/x".to_owned()),
        ("/plain", "set-cookie", "a=b; Path=/", "a=b; Path=/".to_owned()),
    ] {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish();
        let answer = scene.get(&format!("{path}/headers?{query}"), &[("cookie", &cookie)]).await;
        assert_eq!(answer.header_all(name), [expected], "{path} {name}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_at_the_prefix_gets_its_slash_and_programs_get_their_answer() {
    let scene = Scene::start("", MOVED);
    let cookie = format!("Cookie: {}", scene.session().await);
    let page: Vec<&str> = [&[cookie.as_str()][..], NAVIGATES].concat();
    for (target, place) in [("/apps/wiki", "/apps/wiki/"), ("/apps/wiki?a=b", "/apps/wiki/?a=b")] {
        let answer = scene.raw("GET", target, &page).await;
        assert_eq!((answer.status, answer.header("location")), (308, Some(place)), "{target}");
    }
    assert_eq!(scene.upstream.count(), 0);
    // Who may not pass is asked to sign in first.
    assert_eq!(scene.raw("GET", "/apps/wiki", NAVIGATES).await.status, 303);
    for (method, target) in [("GET", "/apps/wiki/"), ("GET", "/apps/blog"), ("GET", "/api"), ("POST", "/apps/wiki")] {
        let lines: Vec<&str> = page.iter().copied().chain((method == "POST").then_some("Content-Length: 0")).collect();
        assert_eq!(scene.raw(method, target, &lines).await.status, 200, "{method} {target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_take_the_same_way() {
    let scene = Scene::start("", MOVED);
    let cookie = scene.session().await;
    let url = scene.url("/apps/wiki/ws").replace("http://", "ws://");
    let mut socket =
        WebSocket::connect(&HttpClient::new(), &url, &[("cookie", &cookie)]).await.unwrap_or_else(|answer| panic!("{}", answer.text()));
    assert!(socket.echo("hello").await);
    let seen = scene.upstream.last();
    assert_eq!((seen.target.as_str(), seen.header("x-forwarded-prefix").as_deref()), ("/ws", Some("/apps/wiki")));
    let refused = WebSocket::connect(&HttpClient::new(), &url.replace("/apps/wiki/ws", "/x-../ws"), &[("cookie", &cookie)]).await;
    assert_eq!(refused.err().expect("no socket").status, 400);
    assert_eq!(scene.upstream.count(), 1);
}

// --- what is set on answers

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_upstream_have_the_routes_headers_and_ours_do_not() {
    let headers = "response_headers = { X-Frame-Options = \"DENY\", Server = \"\", X-Robots-Tag = \"noindex\" }\n";
    let tables = format!(
        "[[route]]\npath = \"/set/\"\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\n{headers}\
         [[route]]\npath = \"/gone/\"\naccess = \"public\"\nupstream = \"static:410\"\n{headers}\
         [[route]]\npath = \"/plain/\"\naccess = \"public\"\nupstream = \"@UPSTREAM@\"\n"
    );
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", &tables);
    let cookie = scene.session().await;
    let sent = "headers?server=leaky/1.0&x-frame-options=SAMEORIGIN&x-frame-options=ALLOWALL&x-own=kept";
    let told = |answer: &Answer| ["x-frame-options", "server", "x-robots-tag", "x-own"].map(|name| answer.header_all(name).join("|"));
    let answer = scene.get(&format!("/set/{sent}"), &[("cookie", &cookie)]).await;
    assert_eq!(told(&answer), ["DENY", "", "noindex", "kept"]);
    let answer = scene.get(&format!("/plain/{sent}"), &[]).await;
    assert_eq!(told(&answer), ["SAMEORIGIN|ALLOWALL", "leaky/1.0", "", "kept"]);
    let answer = scene.get("/gone/x", &[]).await;
    assert_eq!((answer.status.as_u16(), told(&answer)), (410, ["DENY", "", "noindex", ""].map(str::to_owned)));
    // Our own answers, and what a front proxy takes from us, are not the upstream's.
    let answer = scene.get("/set/x", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-robots-tag")), (401, None));
    let answer = ask(&scene, "/set/x", &[("cookie", &cookie)]).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-robots-tag")), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_upstream_signs_anybody_in_or_out() {
    let tables = "[[route]]\npath = \"/app/\"\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\n\
                  [[route]]\npath = \"/wiki/\"\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\nstrip_prefix = true\n\
                  [[route]]\npath = \"/open/\"\naccess = \"public\"\nupstream = \"@UPSTREAM@\"\n";
    let scene = Scene::start("", tables);
    let (cookie, other) = (scene.session().await, scene.session().await);
    let flow = "doorward-flow-AAAAAAAAAAAAAAAAAAAAAA=x; Path=/";
    for path in ["/app", "/wiki", "/open"] {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for line in [&format!("{other}; Path=/"), "doorward=; Max-Age=0", &format!("={other}"), flow, "doorward-sign-out=x", "a=b"] {
            query.append_pair("set-cookie", line);
        }
        let answer = scene.get(&format!("{path}/headers?{}", query.finish()), &[("cookie", &cookie)]).await;
        assert_eq!((answer.status.as_u16(), answer.header_all("set-cookie")), (200, vec!["a=b"]), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_only_resembles_ours_is_no_session() {
    let scene = Scene::start("", "[[route]]\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\n");
    let cookie = scene.session().await;
    for (space, status) in [("", 200), ("\t ", 200), ("\u{2000}", 401), ("\u{a0}", 401), ("\u{85}", 401)] {
        scene.upstream.reset();
        let answer = scene.raw("GET", "/x", &[&format!("Cookie: a=b; {space}{cookie}")]).await;
        assert_eq!((answer.status, scene.upstream.count()), (status, usize::from(status == 200)), "{space:?}");
    }
}

/// Asks forward-auth about a GET.
async fn ask(scene: &Scene, path: &str, headers: &[(&str, &str)]) -> Answer {
    let host = scene.host();
    let about = [("x-original-method", "GET"), ("x-original-uri", path), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
    let all: Vec<(&str, &str)> = about.into_iter().chain(headers.iter().copied()).collect();
    scene.get("/oauth2/auth", &all).await
}

// --- what is told of somebody

#[tokio::test(flavor = "multi_thread")]
async fn a_route_tells_no_more_of_somebody_than_it_says() {
    let route = |path: &str, keys: &str| {
        format!(
            "[[route]]\npath = \"/{path}/\"\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\naccept = [\"session\", \"bearer\"]\n{keys}\n"
        )
    };
    let tables = [
        route("all", ""),
        route("two", "identity_headers = [\"user\", \"email\"]"),
        route("none", "identity_headers = []"),
        route("own", "identity_headers = []\nheaders = { X-Forwarded-User = \"u-{user}\" }"),
    ];
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", &tables.concat());
    let cookie = scene.session().await;
    let bearer = format!("Bearer {}", scene.token(json!({ "sub": "program", "groups": ["robots"] })));
    let names = ["user", "email", "preferred-username", "groups"];
    let forged: Vec<(String, &str)> = names.iter().map(|name| (format!("x-forwarded-{name}"), "forged")).collect();
    for (path, alice, program) in [
        ("all", ["alice", "alice@example.test", "alice", "staff,users"], ["program", "", "", "robots"]),
        ("two", ["alice", "alice@example.test", "", ""], ["program", "", "", ""]),
        ("none", [""; 4], [""; 4]),
        ("own", ["u-alice", "", "", ""], ["u-program", "", "", ""]),
    ] {
        for (credential, expected) in [(("cookie", cookie.as_str()), alice), (("authorization", bearer.as_str()), program)] {
            let headers: Vec<(&str, &str)> = forged.iter().map(|(name, value)| (name.as_str(), *value)).chain([credential]).collect();
            // Twice: made, and ready-made.
            for _ in 0..2 {
                assert_eq!(scene.get(&format!("/{path}/x"), &headers).await.status, 200);
                let seen = scene.upstream.last();
                let told = names.map(|name| seen.header_all(&format!("x-forwarded-{name}")).join("|"));
                assert_eq!(told, expected, "{path} {}", credential.0);
                let answer = ask(&scene, &format!("/{path}/x"), &[credential]).await;
                let told = names.map(|name| answer.header(&format!("x-auth-request-{name}")).unwrap_or_default().to_owned());
                let expected = if path == "own" { [""; 4] } else { expected };
                assert_eq!((answer.status.as_u16(), told), (200, expected.map(str::to_owned)), "{path} {}", credential.0);
            }
        }
    }
}

// --- headers of one's own

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_ones_own_hold_keys_and_passwords_that_lie_in_files() {
    let dir = TempDir::new("keys");
    let (key, password) = (dir.write_secret("key", "first-k%y\n"), dir.write_secret("password", "pässword\n"));
    let (key_at, password_at) = (key.display(), password.display());
    let tables = format!(
        "[[route]]\npath = \"/app/\"\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\naccept = [\"session\", \"bearer\"]\n\
         headers = {{ Authorization = \"{{basic:{{user}}:{password_at}}}\", X-Key = \"Key {{file:{key_at}}}\", X-Groups = \"{{groups|join(;)}}\", \
         X-Name = \"{{claims.name|base64}}\", X-Mail = \"<{{email}}>\", X-Quoted = \"n={{claims.name|quoted}}\", X-Ends = \"{{session.expires_at}}\", \
         X-None = \"x{{claims.nothing}}\" }}\n\
         [[route]]\npath = \"/optional/\"\nupstream = \"@UPSTREAM@\"\naccess = \"optional\"\nheaders = {{ Authorization = \"Bearer {{file:{key_at}}}\" }}\n\
         [[route]]\npath = \"/plain/\"\nupstream = \"@UPSTREAM@\"\naccess = \"public\"\n"
    );
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", &tables);
    let cookie = scene.session().await;
    let session = ("cookie", cookie.as_str());
    let claims = json!({ "sub": "program", "name": "Änn \"x\"", "groups": ["a;b", "c,d"] });
    let bearer = format!("Bearer {}", scene.token(claims));
    let basic = |text: &str| format!("Basic {}", base64_of(text));
    let names = ["authorization", "x-key", "x-groups", "x-name", "x-mail", "x-quoted", "x-none"];
    let told = |seen: &SeenRequest| names.map(|name| seen.header_all(name).join("|"));
    let alice =
        [basic("alice:pässword"), "Key first-k%y".into(), "staff;users".into(), base64_of("Alice Adams"), "<alice@example.test>".into()];
    for _ in 0..2 {
        assert_eq!(scene.get("/app/x", &[session, ("x-none", "forged"), ("x_key", "forged")]).await.status, 200);
        let seen = scene.upstream.last();
        let found = told(&seen);
        assert_eq!(found[0..5], alice);
        assert_eq!(found[5..7], ["n=\"Alice Adams\"", ""]);
        assert!(seen.header("x-ends").unwrap().parse::<u64>().unwrap() > 1_700_000_000);
        let answer = ask(&scene, "/app/x", &[session]).await;
        assert_eq!(answer.status, 200);
        assert_eq!((answer.header("authorization"), answer.header("x-key")), (Some(alice[0].as_str()), Some("Key first-k%y")));
    }
    // A program's own token is taken out, and its name and list are its own.
    assert_eq!(scene.get("/app/x", &[("authorization", &bearer)]).await.status, 200);
    let seen = scene.upstream.last();
    let expected = [basic("program:pässword"), "Key first-k%y".into(), "a%3Bb;c,d".into(), base64_of("Änn \"x\""), String::new()];
    assert_eq!(told(&seen)[0..5], expected);
    assert_eq!(told(&seen)[5], "n=\"%C3%84nn \\\"x\\\"\"");
    assert_eq!(seen.header("x-ends"), None);

    // Whoever is not known is told nothing of, and cannot speak in our place; elsewhere `Authorization` is the app's own.
    let forged = ("authorization", "Basic Zm9yZ2VkOng=");
    assert_eq!(scene.get("/optional/x", &[forged]).await.status, 200);
    assert_eq!(scene.upstream.last().header("authorization"), None);
    assert_eq!(scene.get("/plain/x", &[forged, ("x-key", "forged")]).await.status, 200);
    assert_eq!((scene.upstream.last().header("authorization").as_deref(), scene.upstream.last().header("x-key")), (Some(forged.1), None));

    // A name that would be read as another one is not told at all.
    let count = scene.upstream.count();
    let colon = format!("Bearer {}", scene.token(json!({ "sub": "admin:x" })));
    let answer = scene.get("/app/x", &[("authorization", &colon)]).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (403, "basic-name-unfit"));

    // The files are read again, and while one is gone nobody passes.
    std::fs::write(&key, "second").unwrap();
    assert_eq!(scene.get("/app/x", &[session]).await.status, 200);
    assert_eq!(scene.upstream.last().header("x-key").as_deref(), Some("Key second"));
    std::fs::remove_file(&key).unwrap();
    for _ in 0..2 {
        let answer = scene.get("/app/x", &[session]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (503, "header-file-unreadable"));
        assert!(answer.header("retry-after").is_some() && answer.set_cookies().is_empty());
        let answer = ask(&scene, "/app/x", &[session]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (503, "header-file-unreadable"));
    }
    assert_eq!(scene.upstream.count(), count + 1);
    std::fs::write(&key, "third").unwrap();
    assert_eq!(scene.get("/app/x", &[session]).await.status, 200);
    assert_eq!(scene.upstream.last().header("x-key").as_deref(), Some("Key third"));

    let line = scene.gateway.access_line("header-file-unreadable").await;
    assert!(line.contains(&format!("{key_at}: cannot be read")), "{line}");
    let lines = scene.gateway.access_lines();
    for secret in ["first-k", "second", "third", "pässword", &base64_of("alice:pässword")] {
        assert!(!lines.contains(secret), "{secret} is in the log");
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
