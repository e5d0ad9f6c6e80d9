//! What the upstream is told of a request, whatever was sent: the true identity or none, no cookie and no token of ours, the way it came
//! (SECURITY 3, 9, 10, 11).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use http::{HeaderMap, Request};
use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::body::streamed;
use crate::harness::http::{HttpClient, Protocol};
use crate::harness::raw_h2::{Outcome, RawH2};
use crate::harness::scene::{PUBLIC, Scene, reason};
use crate::harness::upstream::SeenRequest;

const ROUTES: &str = "
[[route]]
path = \"/public/\"
access = \"public\"
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/optional/\"
access = \"optional\"
accept = [\"session\", \"bearer\"]
upstream = \"@UPSTREAM@\"
[[route]]
path = \"/app/\"
upstream = \"@UPSTREAM@\"
allow = \"any-authenticated\"
[[route]]
path = \"/api/\"
accept = [\"bearer\"]
upstream = \"@UPSTREAM@\"
allow = \"any-authenticated\"
[[route]]
path = \"/preflight/\"
preflight = \"pass\"
upstream = \"@UPSTREAM@\"
allow = \"any-authenticated\"
[[route]]
path = \"/tenant/\"
accept = [\"session\", \"bearer\"]
upstream = \"@UPSTREAM@\"
allow = \"any-authenticated\"
headers = { \"X-Tenant\" = \"{claims.tenant.id}\", \"X-Who\" = \"sub={claims.sub} groups={claims.groups}\" }
";

/// What a stranger sends in the hope that somebody believes it. Every value says `forged`.
const FORGED: &[(&str, &str)] = &[
    ("X-Forwarded-User", "forged"),
    ("X-Forwarded-User", "forged again"),
    ("X_Forwarded_User", "forged"),
    ("x-forwarded_user", "forged"),
    ("X-Forwarded-Email", "forged@evil.test"),
    ("x-forwarded_email", "forged@evil.test"),
    ("X-Forwarded-Groups", "forged,admin"),
    ("x_forwarded-groups", "forged"),
    ("X-Forwarded-Preferred-Username", "forged"),
    ("X_FORWARDED_PREFERRED_USERNAME", "forged"),
    ("X-Forwarded-Access-Token", "forged"),
    ("X-Auth-Request-User", "forged"),
    ("X-Auth_Request-Groups", "forged"),
    ("x_auth_request_email", "forged"),
    ("X-Auth-Request-Anything", "forged"),
    ("Doorward-Assertion", "forged"),
    ("X-Doorward-User", "forged"),
    ("X-Tenant", "forged"),
    ("X_Tenant", "forged"),
    ("x-who", "forged"),
    ("X-Real-IP", "forged"),
    ("X-Original-URL", "/forged"),
    ("X-Rewrite-URL", "/forged"),
    ("X-Forwarded-Uri", "/forged"),
    ("X-Forwarded-Method", "forged"),
    ("X-Forwarded-Prefix", "/forged"),
    ("X-Forwarded-Port", "forged"),
    ("X-Forwarded-Host", "forged.test"),
    ("X-Forwarded-Host", "forged-again.test"),
    ("X-Forwarded-Proto", "forged"),
    ("X-Forwarded-For", "forged"),
    ("Forwarded", "for=forged;host=forged.test"),
    ("True-Client-IP", "forged"),
    ("X-Request-Id", "forged"),
];

/// The identity as the upstream sees it, in whatever spelling.
fn identity(seen: &SeenRequest) -> Vec<(String, String)> {
    let family = ["x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-preferred-username", "x-tenant", "x-who"];
    let told = |name: &str| family.contains(&name) || name.starts_with("x-auth-request") || name.contains("doorward");
    let mut found: Vec<_> = seen
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase().replace('_', "-"), value.to_str().unwrap_or("no text").to_owned()))
        .filter(|(name, _)| told(name))
        .collect();
    found.sort();
    found
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const NOBODY: &[(&str, &str)] = &[];
const ALICE: &[(&str, &str)] = &[
    ("x-forwarded-email", "alice@example.test"),
    ("x-forwarded-groups", "staff,users"),
    ("x-forwarded-preferred-username", "alice"),
    ("x-forwarded-user", "alice"),
];
const PROGRAM: &[(&str, &str)] = &[("x-forwarded-groups", "robots"), ("x-forwarded-user", "program")];

#[tokio::test(flavor = "multi_thread")]
async fn on_every_branch_the_upstream_sees_the_true_identity_or_none() {
    for underscores in ["drop", "pass"] {
        let scene = Scene::start(&format!("underscore_names = \"{underscores}\"\n"), ROUTES);
        let cookie = scene.session().await;
        let bearer = format!("Bearer {}", scene.token(json!({ "groups": ["robots"], "tenant": { "id": "blue" } })));
        let session = ("Cookie", cookie.as_str());
        let token = ("Authorization", bearer.as_str());
        let tenant: Vec<(&str, &str)> = [PROGRAM, &[("x-tenant", "blue"), ("x-who", "sub=program groups=robots")]].concat();
        // Alice has no tenant, so that header is not there at all.
        let who: Vec<(&str, &str)> = [ALICE, &[("x-who", "sub=alice groups=staff,users")]].concat();
        let asked = [("Origin", "https://spa.test"), ("Access-Control-Request-Method", "PUT")];

        for (method, path, credentials, expected) in [
            ("GET", "/public/x", &[][..], NOBODY),
            ("GET", "/public/x", &[session, token], NOBODY),
            ("OPTIONS", "/public/x", &[], NOBODY),
            ("GET", "/optional/x", &[], NOBODY),
            ("GET", "/optional/x", &[session], ALICE),
            ("GET", "/optional/x", &[session, token], PROGRAM),
            ("GET", "/app/x", &[session], ALICE),
            ("POST", "/app/x", &[session], ALICE),
            ("OPTIONS", "/app/x", &[session], ALICE),
            ("GET", "/api/x", &[token], PROGRAM),
            ("GET", "/api/x", &[session, token], PROGRAM),
            ("OPTIONS", "/preflight/x", &[asked[0], asked[1], session], NOBODY),
            ("GET", "/preflight/x", &[session], ALICE),
            ("GET", "/tenant/x", &[token], &tenant),
            ("GET", "/tenant/x", &[session], &who),
            ("GET", "/app/upgrade", &[session, ("Connection", "Upgrade"), ("Upgrade", "echo")], ALICE),
            ("GET", "/public/upgrade", &[session, ("Connection", "Upgrade"), ("Upgrade", "echo")], NOBODY),
        ] {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let upgrades = path.ends_with("/upgrade");
                if upgrades && protocol == Protocol::Http2 {
                    continue;
                }
                scene.upstream.reset();
                let headers: Vec<(&str, &str)> = FORGED.iter().chain(credentials).copied().collect();
                let status = if protocol == Protocol::Http1 {
                    // Raw, so that names keep their case.
                    let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                    let mut connection = crate::harness::raw::RawConnection::open(scene.gateway.address).await;
                    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{}\r\n", scene.host(), lines.join("\r\n"));
                    if method == "POST" {
                        head.push_str("Content-Length: 0\r\n");
                    }
                    connection.send(format!("{head}\r\n")).await;
                    let received = connection.read_until(|bytes| bytes.windows(4).any(|end| end == b"\r\n\r\n")).await;
                    String::from_utf8_lossy(&received[9..12]).parse::<u16>().unwrap()
                } else {
                    scene.send(protocol, method, path, &headers).await.status.as_u16()
                };
                let branch = format!("{underscores} {protocol:?} {method} {path} {:?}", credentials.iter().map(|(name, _)| name));
                assert_eq!(status, if upgrades { 101 } else { 200 }, "{branch}");
                let seen = scene.upstream.last();
                assert_eq!(identity(&seen), pairs(expected), "{branch}");
                assert!(!seen.everything().contains("forged"), "{branch}: {}", seen.everything());
                assert_eq!(scene.upstream.count(), 1, "{branch}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_auth_tells_the_true_identity_or_none() {
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", ROUTES);
    let (host, cookie) = (scene.host(), scene.session().await);
    let bearer = format!("Bearer {}", scene.token(json!({ "groups": ["robots"], "tenant": { "id": "blue" } })));
    let told = |answer: &Answer| {
        let mut told: Vec<(String, String)> = answer
            .headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-auth-request") || ["x-tenant", "x-who"].contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        told.sort();
        told
    };
    let alice = &[
        ("x-auth-request-email", "alice@example.test"),
        ("x-auth-request-groups", "staff,users"),
        ("x-auth-request-preferred-username", "alice"),
        ("x-auth-request-user", "alice"),
    ][..];
    let program = &[
        ("x-auth-request-groups", "robots"),
        ("x-auth-request-user", "program"),
        ("x-tenant", "blue"),
        ("x-who", "sub=program groups=robots"),
    ][..];
    let (session, token) = (("cookie", cookie.as_str()), ("authorization", bearer.as_str()));
    for (path, credential, expected) in [
        ("/public/x", session, NOBODY),
        ("/optional/x", ("accept", "*/*"), NOBODY),
        ("/optional/x", session, alice),
        ("/app/x", session, alice),
        ("/tenant/x", token, program),
    ] {
        let about = [("x-original-method", "GET"), ("x-original-uri", path), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
        let forged = FORGED.iter().filter(|(name, _)| !["X-Forwarded-Host", "X-Forwarded-Proto"].contains(name));
        let headers: Vec<(&str, &str)> = forged.copied().chain(about).chain([credential]).collect();
        for endpoint in ["/oauth2/auth", "/oauth2/forward"] {
            let answer = scene.get(endpoint, &headers).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(told(&answer), pairs(expected), "{path}");
            assert!(!format!("{:?}{}", answer.headers, answer.text()).contains("forged"), "{path}: {:?}", answer.headers);
        }
    }
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_line_takes_away_nothing_of_ours() {
    let scene = Scene::start("", ROUTES);
    let cookie = format!("Cookie: a=b; {}", scene.session().await);
    let all = "Connection: X-Forwarded-User, x-forwarded-email, X-Forwarded-Groups, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Forwarded, Host, X-Request-Id";
    for lines in [
        &[all, "X-Own: 1"][..],
        &["Connection: X-Own", all, "X-Own: 1"],
        &["X-Own: 1", "Connection: keep-alive, X-Own", "Connection: X-Forwarded-User", all],
    ] {
        let lines: Vec<&str> = lines.iter().copied().chain([cookie.as_str()]).collect();
        let answer = scene.raw("GET", "/app/x", &lines).await;
        assert_eq!(answer.status, 200);
        let seen = scene.upstream.last();
        assert_eq!(identity(&seen), pairs(ALICE), "{lines:?}");
        for name in ["host", "x-forwarded-host"] {
            assert_eq!(seen.header_all(name), [scene.host()], "{lines:?}");
        }
        assert_eq!(seen.header_all("x-forwarded-for"), ["127.0.0.1"], "{lines:?}");
        assert!(["forwarded", "x-forwarded-proto", "x-request-id"].iter().all(|name| seen.header_all(name).len() == 1), "{lines:?}");
        assert_eq!(
            seen.header("x-own").is_some(),
            !lines.iter().any(|line| line.contains("X-Own") && line.starts_with("Conn")),
            "{lines:?}"
        );
        assert!(seen.header("connection").is_none_or(|value| !value.to_ascii_lowercase().contains("forwarded")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_tell_no_identity() {
    let scene = Scene::start("", PUBLIC);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (sender, body) = streamed();
        let names = "x-forwarded-user, x_forwarded_email, x-auth-request-groups, authorization, x-sum";
        let request = Request::post(scene.url("/x")).header("trailer", names).body(body).unwrap();
        let client = HttpClient::new().speaking(protocol);
        let (answer, ()) = tokio::join!(client.fetch(request), async {
            assert!(sender.send("body").await);
            let mut trailers = HeaderMap::new();
            for name in names.split(", ") {
                trailers.insert(http::HeaderName::try_from(name).unwrap(), "forged".parse().unwrap());
            }
            trailers.insert("x-sum", "42".parse().unwrap());
            sender.trailers(trailers).await;
        });
        assert_eq!(answer.status, 200);
        let seen = scene.upstream.last();
        assert!(seen.complete && !seen.everything().contains("forged"), "{protocol:?}: {}", seen.everything());
        assert_eq!(seen.trailers.len(), 1, "{protocol:?}: {:?}", seen.trailers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_cannot_break_a_header() {
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", ROUTES);
    scene.provider.set_user(json!({
        "sub": "ann\r\nX-Evil: 1\u{0}", "email": "\u{fc}n\u{ef}@example.test", "email_verified": true,
        "preferred_username": " \u{c4}nn\t100% ", "groups": ["a,b", "c\r\nX-Evil: 2", "gr\u{f6}\u{df}e", "d%2Ce"],
        "tenant": { "id": "blue\ngreen" },
    }));
    let cookie = scene.session().await;
    let expected = [
        ("user", "ann%0D%0AX-Evil: 1%00"),
        ("email", "%C3%BCn%C3%AF@example.test"),
        ("preferred-username", "%20%C3%84nn%09100%25%20"),
        ("groups", "a%2Cb,c%0D%0AX-Evil: 2,gr%C3%B6%C3%9Fe,d%252Ce"),
    ];
    assert_eq!(scene.get("/tenant/x", &[("cookie", &cookie)]).await.status, 200);
    let seen = scene.upstream.last();
    for (name, value) in expected {
        assert_eq!(seen.header_all(&format!("x-forwarded-{name}")), [value]);
    }
    assert_eq!(seen.header_all("x-tenant"), ["blue%0Agreen"]);
    assert_eq!(seen.header("x-evil"), None);

    let host = scene.host();
    let about = [("x-original-method", "GET"), ("x-original-uri", "/app/x"), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
    let headers: Vec<_> = about.into_iter().chain([("cookie", cookie.as_str())]).collect();
    let answer = scene.get("/oauth2/auth", &headers).await;
    for (name, value) in expected {
        assert_eq!(answer.header_all(&format!("x-auth-request-{name}")), [value]);
    }
    assert_eq!(answer.header("x-evil"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_is_too_large_is_refused_and_never_cut() {
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", ROUTES);
    let groups: Vec<String> = (0..4096).map(|n| format!("group-number-{n:03}")).collect();
    scene.provider.set_user(json!({ "sub": "alice", "groups": groups }));
    let browser = scene.sign_in().await;
    let cookie = format!("doorward={}", browser.cookie("doorward").unwrap().value);
    let answer = scene.get("/app/x", &[("cookie", &cookie)]).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (403, "identity-too-large"));
    assert_eq!(answer.set_cookies(), Vec::<&str>::new(), "the session stays");
    let page = browser.clone().get(&scene.url("/app/x")).await;
    assert!(page.status == 403 && page.text().contains("identity-too-large"), "{}", page.text());
    let host = scene.host();
    let headers = [
        ("x-original-method", "GET"),
        ("x-original-uri", "/app/x"),
        ("x-forwarded-host", &host),
        ("x-forwarded-proto", "http"),
        ("cookie", &cookie),
    ];
    let answer = scene.get("/oauth2/auth", &headers).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (403, "identity-too-large"));
    assert_eq!(scene.upstream.count(), 0);
    assert_eq!(scene.get("/public/x", &[("cookie", &cookie)]).await.status, 200, "where nobody is told, nothing is too large");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_cookies_stay_here_and_others_pass() {
    let scene = Scene::start("", ROUTES);
    let session = scene.session().await;
    let bearer = format!("Bearer {}", scene.token(json!({})));
    for path in ["/public/x", "/optional/x", "/app/x", "/api/x"] {
        for (sent, arrives) in [
            (format!("a=b; {session}; c=\"d e\""), Some("a=b; c=\"d e\"")),
            (format!("{session}; doorward-flow-x=1; doorward-sign-out=2"), None),
            (format!("doorward=not-a-session; {session};a=b;doorwardx=1"), Some("a=b; doorwardx=1")),
        ] {
            let answer = scene.get(path, &[("authorization", &bearer), ("cookie", &sent)]).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(scene.upstream.last().header_all("cookie"), arrives.into_iter().collect::<Vec<_>>(), "{path}");
        }
    }
}

/// RFC 9113 §8.2.3: HTTP/2 may bring each pair on a line of its own; HTTP/1.1 knows one line.
#[tokio::test(flavor = "multi_thread")]
async fn cookies_in_crumbs_arrive_on_one_line() {
    let scene = Scene::start("", ROUTES);
    let session = scene.session().await;
    let mut http2 = RawH2::open(scene.gateway.address).await;
    let crumbs: [(&str, &[u8]); 3] = [("cookie", b"a=b"), ("cookie", session.as_bytes()), ("cookie", b"c=d")];
    for (stream, path) in [(1, "/app/x"), (3, "/public/x")] {
        http2.get(stream, &scene.host(), path, &crumbs).await;
        assert_eq!(http2.outcome(stream).await, Outcome::Status(200), "{path}");
        assert_eq!(scene.upstream.last().header_all("cookie"), ["a=b; c=d"], "{path}");
    }
    http2.get(5, &scene.host(), "/public/x", &crumbs[..1]).await;
    http2.outcome(5).await;
    http2.get(7, &scene.host(), "/public/x", &[("cookie", b"a=b"), ("cookie", b"c=d")]).await;
    http2.outcome(7).await;
    let seen: Vec<_> = scene.upstream.requests().iter().map(|seen| seen.header_all("cookie")).collect();
    assert_eq!(seen[2..], [["a=b"], ["a=b; c=d"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_passes_where_it_is_not_read() {
    let scene = Scene::start("", ROUTES);
    let session = scene.session().await;
    let good = format!("Bearer {}", scene.token(json!({})));
    for (path, authorization, status, passes) in [
        ("/public/x", good.as_str(), 200, true),
        ("/public/x", "Basic YTpi", 200, true),
        ("/app/x", "Bearer of-the-app", 200, true),
        ("/app/x", "Basic YTpi", 200, true),
        ("/api/x", &good, 200, false),
        ("/api/x", "Basic YTpi", 401, false),
        ("/api/x", "Bearer not a token", 400, false),
        ("/optional/x", &good, 200, false),
        ("/optional/x", "Basic YTpi", 200, true),
    ] {
        scene.upstream.reset();
        let answer = scene.get(path, &[("authorization", authorization), ("cookie", &session)]).await;
        assert_eq!(answer.status, status, "{path} {authorization}: {}", answer.text());
        assert_eq!(scene.upstream.count(), usize::from(status == 200));
        if status == 200 {
            let expected = passes.then(|| authorization.to_owned());
            assert_eq!(scene.upstream.last().header("authorization"), expected, "{path} {authorization}");
        } else {
            let word = if status == 401 { "no-credential" } else { "authorization-malformed" };
            assert_eq!(reason(&answer), word, "{path} {authorization}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_headers_count_only_from_listed_peers() {
    let sent = [
        ("x-forwarded-for", "198.51.100.1, 203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.test"),
        ("forwarded", "for=198.51.100.9;host=evil.test;proto=https"),
        ("x-real-ip", "198.51.100.9"),
        ("x-original-uri", "/admin"),
    ];
    for (top, chain, address) in [
        ("", "127.0.0.1", "127.0.0.1"),
        ("trusted_proxies = [\"192.0.2.0/24\"]\n", "127.0.0.1", "127.0.0.1"),
        ("trusted_proxies = [\"127.0.0.0/8\"]\n", "198.51.100.1, 203.0.113.7, 127.0.0.1", "203.0.113.7"),
        ("trusted_proxies = [\"127.0.0.1\", \"203.0.113.7\"]\n", "198.51.100.1, 203.0.113.7, 127.0.0.1", "198.51.100.1"),
    ] {
        let scene = Scene::start(top, PUBLIC);
        assert_eq!(scene.get("/x", &sent).await.status, 200);
        let (seen, host) = (scene.upstream.last(), scene.host());
        assert_eq!(seen.header_all("x-forwarded-for"), [chain], "{top}");
        assert_eq!(seen.header_all("x-forwarded-proto"), ["http"], "{top}");
        assert_eq!(seen.header_all("x-forwarded-host"), [host.as_str()], "{top}");
        assert_eq!(seen.header_all("forwarded"), [format!("for=127.0.0.1;host=\"{host}\";proto=http")], "{top}");
        assert_eq!((seen.header("x-real-ip"), seen.header("x-original-uri"), seen.target.as_str()), (None, None, "/x"), "{top}");
        scene.gateway.access_line(&format!(" address={address} ")).await;
        // Two lines are one chain; nobody is believed who stands left of what cannot be read.
        let lines = ["X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: unknown, 203.0.113.8"];
        assert_eq!(scene.raw("GET", "/two", &lines).await.status, 200);
        let trusted = address != "127.0.0.1";
        let chain = if trusted { "198.51.100.1, unknown, 203.0.113.8, 127.0.0.1" } else { "127.0.0.1" };
        assert_eq!(scene.upstream.last().header_all("x-forwarded-for"), [chain], "{top}");
        let line = scene.gateway.access_line("path=/two").await;
        assert!(line.contains(if trusted { " address=203.0.113.8 " } else { " address=127.0.0.1 " }), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_underscores_are_dropped_unless_allowed() {
    for (rule, arrives) in [("drop", None), ("pass", Some("1".to_owned()))] {
        let scene = Scene::start(&format!("underscore_names = \"{rule}\"\n"), PUBLIC);
        let answer = scene.raw("GET", "/x", &["X_Custom: 1", "X-Custom: 2", "X_Forwarded_User: forged"]).await;
        assert_eq!(answer.status, 200);
        let seen = scene.upstream.last();
        assert_eq!((seen.header("x_custom"), seen.header("x-custom").as_deref()), (arrives, Some("2")), "{rule}");
        assert!(!seen.everything().contains("forged"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_headers_end_here_both_ways() {
    let scene = Scene::start("", PUBLIC);
    let lines =
        ["Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic x", "TE: gzip", "X-Own: 1", "Upgrade: echo"];
    assert_eq!(scene.raw("GET", "/x", &lines).await.status, 200);
    let seen = scene.upstream.last();
    for name in ["keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-own").as_deref(), Some("1"));
    let answer = scene.raw("GET", "/headers?connection=x-hop&x-hop=1&keep-alive=x&proxy-authenticate=Basic&x-own=1", &[]).await;
    assert_eq!(answer.status, 200);
    for name in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("x-own"), Some("1"));
}
