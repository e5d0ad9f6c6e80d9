//! A request on its way through: protocols on both sides, bodies, trailers, upgrades, upstreams that fail, routes, and who may pass.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "test code: it fails loudly and runs tasks of its own"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, Request, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::harness::body::{full, streamed};
use crate::harness::browser::Browser;
use crate::harness::certs::CertificateAuthority;
use crate::harness::http::{HttpClient, Protocol, get};
use crate::harness::raw::{RawAnswer, RawConnection, raw, raw_answer, request};
use crate::harness::raw_h2::{Outcome, RawH2};
use crate::harness::scene::{PUBLIC, Scene, raw_reason, reason};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, eventually, free_port};
use crate::harness::websocket::WebSocket;

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];
/// Far more than all buffers of kernel and gateway together, far less than what is offered.
const BOUND: usize = 64 << 20;
const PIECE: usize = 64 << 10;

/// A route for whoever is signed in.
const PROTECTED: &str = "[[route]]\nid = \"app\"\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\n";

// --- protocols, on both sides

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_listener_speaks_http1_and_http2() {
    let scene = Scene::start("", PUBLIC);
    for (protocol, version) in BOTH.into_iter().zip([Version::HTTP_11, Version::HTTP_2]) {
        let answer = HttpClient::new().speaking(protocol).get(&scene.url("/x?a=%31")).await;
        assert_eq!((answer.status.as_u16(), answer.version), (200, version));
        let seen = scene.upstream.last();
        assert_eq!((seen.target.as_str(), seen.version), ("/x?a=%31", Version::HTTP_11));
        assert_eq!(seen.header_all("host"), [scene.host()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_settles_the_protocol_by_alpn_and_serves_exchanged_certificates() {
    let (first, second) = (CertificateAuthority::new(), CertificateAuthority::new());
    let leaf = first.leaf(&["localhost"]);
    let (certificate, key) = (leaf.certificate_file().display(), leaf.key_file().display());
    let tables = format!("[tls]\ncertificate_file = \"{certificate}\"\nkey_file = \"{key}\"\n{PUBLIC}");
    let scene = Scene::start_at("https://localhost:@PORT@", "", &tables);
    let trusting_first = HttpClient::new().trusting(first.client_config());
    for (offered, settled) in
        [(Protocol::Http1, Version::HTTP_11), (Protocol::Http2, Version::HTTP_2), (Protocol::Negotiated, Version::HTTP_2)]
    {
        let answer = trusting_first.clone().speaking(offered).get(&scene.url("/x")).await;
        assert_eq!((answer.status.as_u16(), answer.version), (200, settled));
        assert_eq!(scene.upstream.last().header("x-forwarded-proto").as_deref(), Some("https"));
    }
    let url = scene.url("/").parse().unwrap();
    let mut kept = trusting_first.connect(&url).await.unwrap();
    let trusting_second = HttpClient::new().trusting(second.client_config());
    assert!(trusting_second.try_fetch(get(&scene.url("/"))).await.is_err(), "the second authority is not in use yet");
    leaf.replace_files_with(&second.leaf(&["localhost"]));
    // The files are looked at every two seconds.
    let mut tries = 0;
    while trusting_second.try_fetch(get(&scene.url("/"))).await.is_err() {
        tries += 1;
        assert!(tries < 600, "the exchanged certificate is not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(kept.fetch(get(&scene.url("/"))).await.status, 200, "an open connection stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_http_or_https_or_a_unix_socket_or_a_status() {
    let (authority, stranger) = (CertificateAuthority::new(), CertificateAuthority::new());
    let secure = EchoUpstream::start_tls(&authority.leaf(&["localhost"]), "localhost", &["h2", "http/1.1"]);
    let unix = EchoUpstream::start_unix();
    let route = |path: &str, upstream: &str, more: &str| {
        format!("[[route]]\npath = \"/{path}/\"\naccess = \"public\"\nupstream = \"{upstream}\"\n{more}\n")
    };
    let trust = |authority: &CertificateAuthority| format!("tls = {{ ca_file = \"{}\" }}", authority.file().display());
    let tables = [
        route("http", "@UPSTREAM@", ""),
        route("https", &secure.url(), &trust(&authority)),
        route("foreign", &secure.url(), &trust(&stranger)),
        route("unix", &unix.url(), ""),
        route("gone", "static:410", ""),
    ]
    .concat();
    let scene = Scene::start("", &tables);
    for (path, upstream) in [("/http/a", &scene.upstream), ("/https/a", &secure), ("/unix/a", &unix)] {
        let answer = HttpClient::new().fetch(Request::post(scene.url(path)).body(full("hello")).unwrap()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let seen = upstream.last();
        assert_eq!((seen.path(), seen.body.as_ref(), upstream.count()), (path, &b"hello"[..], 1));
        assert_eq!(seen.header("host"), Some(scene.host()));
    }
    assert_eq!(scene.get("/gone/a", &[]).await.status, 410);
    let answer = scene.get("/foreign/a", &[]).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str(), secure.count()), (502, "upstream-unreachable", 1));
}

// --- bodies

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways_at_once() {
    let scene = Scene::start("", PUBLIC);
    for protocol in BOTH {
        let (sender, body) = streamed();
        assert!(sender.send("first").await);
        let mut answer = HttpClient::new().speaking(protocol).open(Request::post(scene.url("/mirror")).body(body).unwrap()).await.unwrap();
        for piece in ["first", "second", "third"] {
            if piece != "first" {
                assert!(sender.send(piece).await);
            }
            let mut back = Vec::new();
            while back.len() < piece.len() {
                back.extend_from_slice(&timeout(PATIENCE, answer.next()).await.unwrap().expect("the answer goes on"));
            }
            assert_eq!(back, piece.as_bytes(), "{protocol:?}");
        }
        drop(sender);
        while let Some(rest) = timeout(PATIENCE, answer.try_next()).await.unwrap().unwrap() {
            assert!(rest.is_empty(), "{rest:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_taken_no_faster_than_the_upstream_reads_it() {
    let scene = Scene::start("", PUBLIC);
    for protocol in BOTH {
        let (sender, body) = streamed();
        let request = Request::post(scene.url("/stall")).body(body).unwrap();
        let call = tokio::spawn(async move { HttpClient::new().speaking(protocol).fetch(request).await });
        let mut accepted = 0;
        while let Ok(open) = timeout(Duration::from_secs(1), sender.send(vec![b'x'; PIECE])).await {
            assert!(open, "the upload was given up");
            accepted += PIECE;
            assert!(accepted < BOUND, "{protocol:?}: {accepted} bytes were taken that nobody reads");
        }
        scene.upstream.streams_become(1).await;
        scene.upstream.end_streams();
        drop(sender);
        let answer = call.await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.json()["body_bytes"].as_u64()), (200, Some(accepted as u64)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_taken_no_faster_than_the_downstream_reads_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route = format!("[[route]]\naccess = \"public\"\nupstream = \"http://{}\"\n", listener.local_addr().unwrap());
    let scene = Scene::start("", &route);
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let upstream = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 2 * BOUND).as_bytes()).await.unwrap();
        while stream.write_all(&[b'x'; PIECE]).await.is_ok() {
            counter.fetch_add(PIECE, Ordering::SeqCst);
        }
    });
    let mut answer = HttpClient::new().open(get(&scene.url("/"))).await.unwrap();
    assert!(answer.next().await.is_some());
    let mut before = usize::MAX;
    while before != sent.load(Ordering::SeqCst) {
        before = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(before < BOUND, "{before} bytes were taken that nobody reads");
    drop(answer);
    timeout(PATIENCE, upstream).await.expect("a downstream that leaves ends the upstream's answer").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways() {
    let scene = Scene::start("", PUBLIC);
    for protocol in BOTH {
        let answer = scene.send(protocol, "GET", "/trailers", &[("te", "trailers")]).await;
        assert_eq!(answer.trailers.get("grpc-status").unwrap(), "0", "{protocol:?}");
        assert_eq!(answer.trailers.get("x-trailer").unwrap(), "from the upstream", "{protocol:?}");
        assert_eq!(scene.upstream.last().header("te").as_deref(), Some("trailers"));

        let (sender, body) = streamed();
        let request = Request::post(scene.url("/x")).header("trailer", "x-sum").body(body).unwrap();
        let call = tokio::spawn(async move { HttpClient::new().speaking(protocol).fetch(request).await });
        assert!(sender.send("body").await);
        sender.trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "42".parse().unwrap())])).await;
        assert_eq!(call.await.unwrap().status, 200);
        let seen = scene.upstream.last();
        assert_eq!(seen.body.as_ref(), b"body");
        let trailers: Vec<_> = seen.trailers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(trailers, [("x-sum", "42")], "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_comes_at_once_and_a_reader_that_leaves_ends_the_stream() {
    let scene = Scene::start("", PUBLIC);
    for protocol in BOTH {
        let mut answer = HttpClient::new().speaking(protocol).open(get(&scene.url("/sse"))).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let first = timeout(PATIENCE, answer.next()).await.unwrap().unwrap();
        assert!(first.starts_with(b"id: 0\n"), "{first:?}");
        assert_eq!(scene.upstream.open_streams(), 1, "the stream has not ended");
        drop(answer);
        scene.upstream.streams_become(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_have_none_and_the_connection_goes_on() {
    let scene = Scene::start("", PUBLIC);
    let mut connection = RawConnection::open(scene.gateway.address).await;
    let host = scene.host();
    for (method, path, status) in
        [("HEAD", "/big?bytes=1000", 200), ("GET", "/status/204", 204), ("GET", "/status/304", 304), ("GET", "/x", 200)]
    {
        connection.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        // A body where none belongs would stand before the next answer.
        connection.read_until(|bytes| RawAnswer::parse_all_for(&[method], bytes).first().is_some_and(|answer| answer.complete)).await;
        let answers = RawAnswer::parse_all_for(&[method], &connection.take_received());
        assert_eq!((answers.len(), answers[0].status), (1, status), "{method} {path}");
        match path {
            "/x" => assert!(answers[0].text().contains("\"target\":\"/x\"")),
            _ => assert_eq!(answers[0].body, b"", "{method} {path}"),
        }
        if method == "HEAD" {
            assert_eq!(answers[0].header("content-length"), Some("1000"));
        }
    }
    assert_eq!(scene.upstream.count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_waits_for_a_word_gets_it_only_where_it_is_wanted() {
    let scene = Scene::start("", &format!("{}{}", PUBLIC.replace("access", "path = \"/public/\"\naccess"), PROTECTED));
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", scene.host())
    };
    let mut connection = RawConnection::open(scene.gateway.address).await;
    connection.send(head("/public/x")).await;
    connection.read_until(|bytes| bytes == b"HTTP/1.1 100 Continue\r\n\r\n").await;
    connection.send("hello").await;
    let answer = RawAnswer::parse_all(&connection.read_answers().await).remove(0);
    assert_eq!((answer.status, scene.upstream.last().body.as_ref()), (200, &b"hello"[..]));

    let received = raw(scene.gateway.address, head("/private")).await;
    assert!(received.starts_with(b"HTTP/1.1 401"), "{}", String::from_utf8_lossy(&received));
    assert_eq!(raw_reason(&RawAnswer::parse_all(&received)[0]), "no-credential");
    assert_eq!(scene.upstream.count(), 1);
}

// --- upgrades

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_opens_with_a_session_and_from_pages_that_may() {
    let route = format!("{PROTECTED}accept = [\"session\", \"bearer\"]\norigins = [\"https://listed.test\"]\n");
    let scene = Scene::start("", &route);
    let (http, url) = (HttpClient::new(), scene.url("/ws"));
    let session = scene.session().await;
    let bearer = format!("Bearer {}", scene.token(serde_json::json!({})));
    let own = scene.gateway.url.clone();

    for (origin, credential, expected) in [
        (None, None, Err((401, "no-credential"))),
        (Some("https://listed.test"), None, Err((401, "no-credential"))),
        (Some("https://evil.test"), Some(("cookie", &session)), Err((403, "upgrade-origin"))),
        (Some("null"), Some(("cookie", &session)), Err((403, "upgrade-origin"))),
        (Some("https://listed.test.evil.test"), Some(("cookie", &session)), Err((403, "upgrade-origin"))),
        (Some("https://listed.test"), Some(("cookie", &session)), Ok("alice")),
        (Some(own.as_str()), Some(("cookie", &session)), Ok("alice")),
        (None, Some(("cookie", &session)), Ok("alice")),
        // A page cannot send this one by itself.
        (Some("https://evil.test"), Some(("authorization", &bearer)), Ok("program")),
    ] {
        let mut headers: Vec<(&str, &str)> = origin.iter().map(|origin| ("origin", *origin)).collect();
        headers.extend(credential.map(|(name, value)| (name, value.as_str())));
        let before = scene.upstream.count();
        match (WebSocket::connect(&http, &url, &headers).await, expected) {
            (Ok(mut socket), Ok(user)) => {
                assert!(socket.echo("hello").await);
                assert!(socket.echo(&"x".repeat(200_000)).await);
                assert_eq!(scene.upstream.last().header("x-forwarded-user").as_deref(), Some(user));
                socket.close().await;
            }
            (Err(answer), Err(refused)) => {
                assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), refused, "{headers:?}");
                assert_eq!(scene.upstream.count(), before, "{headers:?}");
            }
            (got, expected) => panic!("{headers:?}: expected {expected:?}, refused: {:?}", got.err().map(|answer| answer.text())),
        }
    }
    scene.upstream.streams_become(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_protocol_passes_but_none_that_carries_requests() {
    let scene = Scene::start("", PUBLIC);
    let upgrade = |protocol: &str| {
        let request = Request::get(scene.url("/upgrade")).header("connection", "upgrade").header("upgrade", protocol);
        request.body(full("")).unwrap()
    };
    let answer = HttpClient::new().open(upgrade("echo/1")).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["upgrade"].as_bytes()), (101, &b"echo/1"[..]));
    let mut stream = answer.upgraded().await.unwrap();
    stream.write_all(b"\0any\xffbytes").await.unwrap();
    let mut back = [0; 10];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"\0any\xffbytes");
    scene.upstream.end_streams();
    assert_eq!(timeout(PATIENCE, stream.read(&mut back)).await.unwrap().unwrap_or(0), 0, "the upstream's end is the tunnel's");

    for protocol in ["h2c", "HTTP/2.0", "TLS/1.0"] {
        let answer = HttpClient::new().fetch(upgrade(protocol)).await;
        assert_eq!(answer.status, 200, "{protocol}");
        assert_eq!(scene.upstream.last().header("upgrade"), None, "{protocol}");
    }
}

// --- upstreams that fail

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_upstream_does_the_session_stays() {
    let scene = Scene::start("", &format!("[limits]\nupstream_timeout = \"300ms\"\n{PROTECTED}"));
    let session = scene.session().await;
    let cookie = &[("cookie", session.as_str())][..];

    scene.upstream.stop().await;
    let down = scene.get("/x", cookie).await;
    scene.upstream.start_again();
    let hangs = scene.get("/hang", cookie).await;
    scene.upstream.break_next(1);
    let breaks = scene.get("/x", cookie).await;
    for (answer, status, word) in [(down, 502, "upstream-unreachable"), (hangs, 504, "upstream-timeout"), (breaks, 502, "upstream-broken")]
    {
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (status, word));
        assert_eq!(answer.set_cookies(), Vec::<&str>::new(), "{word}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{word}");
    }
    // The time in which a slow downstream sends its body is not the upstream's.
    let (sender, body) = streamed();
    let slow = Request::post(scene.url("/x")).header("cookie", &session).body(body).unwrap();
    let call = tokio::spawn(async move { HttpClient::new().fetch(slow).await });
    for _ in 0..8 {
        assert!(sender.send("x").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(sender);
    let answer = call.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json()["body_bytes"].as_u64()), (200, Some(8)));
    assert_eq!(scene.upstream.last().header("x-forwarded-user").as_deref(), Some("alice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_never_looks_whole() {
    let scene = Scene::start("", PROTECTED);
    let session = scene.session().await;
    for protocol in BOTH {
        let request = Request::get(scene.url("/break?bytes=100000")).header("cookie", &session).body(full("")).unwrap();
        let mut answer = HttpClient::new().speaking(protocol).open(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut got = 0;
        let broken = loop {
            match timeout(PATIENCE, answer.try_next()).await.unwrap() {
                Ok(Some(piece)) => got += piece.len(),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(broken && got <= 100_000, "{protocol:?}: {got} bytes and a clean end");
    }
    assert_eq!(scene.get("/x", &[("cookie", &session)]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_stale_connection_gave_back_goes_on_a_fresh_one() {
    let scene = Scene::start("", PUBLIC);
    let mut closed = 0;
    for round in 0..20 {
        let method = if round % 2 == 0 { "GET" } else { "POST" };
        let request = Request::builder().method(method).uri(scene.url("/x")).body(full("body")).unwrap();
        let answer = HttpClient::new().fetch(request).await;
        assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
        closed += scene.upstream.close_idle();
        eventually("all connections closed", || (scene.upstream.open_connections() == 0).then_some(())).await;
    }
    assert_eq!(scene.upstream.count(), 20, "each request arrived once");
    assert!(closed >= 10, "connections waited and were closed: {closed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_upstream_are_used_again() {
    let scene = Scene::start("", PUBLIC);
    for _ in 0..20 {
        assert_eq!(scene.get("/x", &[]).await.status, 200);
    }
    assert!(scene.upstream.connections() <= 2, "one for each core, not {}", scene.upstream.connections());
}

// --- routes and hosts

#[tokio::test(flavor = "multi_thread")]
async fn the_route_is_told_by_host_then_regex_then_longest_path_and_method() {
    let route = |status: u16, match_: &str| format!("[[route]]\naccess = \"public\"\nupstream = \"static:{status}\"\n{match_}\n");
    let tables = [
        route(201, "path = \"/\""),
        route(202, "path = \"/orders/\""),
        route(203, "path = \"/orders/\"\nhost = \"api.x.test\"\nmethods = [\"GET\"]"),
        route(206, "path = \"/orders/\"\nhost = \"api.x.test\"\nmethods = [\"POST\"]"),
        route(207, "path_regex = \"/orders/[0-9]+\"\nhost = \"api.x.test\""),
        route(208, "path = \"/\"\nhost = \"*.x.test\""),
        route(226, "path = \"/\"\nhost = \"*.deep.x.test\""),
    ]
    .concat();
    let scene = Scene::start("", &tables);
    for (method, host, path, status) in [
        ("GET", "own", "/", 201),
        ("GET", "own", "/orders", 202),
        ("GET", "own", "/orders/1", 202),
        ("GET", "own", "/ordersX", 201),
        ("GET", "api.x.test", "/orders/x", 203),
        ("POST", "api.x.test", "/orders/x", 206),
        ("GET", "API.X.Test.", "/orders/17", 207),
        ("GET", "api.x.test", "/orders/17/items", 203),
        ("GET", "api.x.test", "/x/orders/17", 208),
        ("DELETE", "api.x.test", "/orders/x", 208),
        ("GET", "other.x.test:8443", "/orders/1", 208),
        ("GET", "a.deep.x.test", "/", 226),
    ] {
        let own = scene.host();
        let host = if host == "own" { own.as_str() } else { host };
        let answer = raw_answer(scene.gateway.address, request(method, path, host, &[])).await;
        assert_eq!(answer.status, status, "{method} {host} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_nobody_named_is_misdirected_and_the_log_says_how_to_name_it() {
    let scene = Scene::start("", PUBLIC);
    for host in ["evil.test", "evil.test:80", "127.0.0.1.evil.test", "[::1]"] {
        let answer = raw_answer(scene.gateway.address, request("GET", "/x", host, &[])).await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (421, "host-unknown"), "{host}");
    }
    let line = scene.gateway.access_line("host=evil.test ").await;
    assert!(line.contains("reason=host-unknown") && line.contains("public_url") && line.contains("route"), "{line}");
    let page = raw_answer(scene.gateway.address, request("GET", "/x", "evil.test", &["Accept: text/html"])).await;
    assert!(page.status == 421 && page.text().contains("public_url"), "{}", page.text());
    let mut http2 = RawH2::open(scene.gateway.address).await;
    http2.get(1, "evil.test", "/x", &[]).await;
    assert_eq!(http2.outcome(1).await, Outcome::Status(421));
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_host_and_shows_one_credential() {
    let scene = Scene::start("", PUBLIC);
    let own = scene.host();
    let absolute = format!("http://{own}/x");
    for (head, status, word) in [
        (format!("GET /x HTTP/1.1\r\nHost: {own}\r\nHost: {own}\r\n"), 400, "host-malformed"),
        (format!("GET /x HTTP/1.1\r\nHost: {own}\r\nhost: evil.test\r\n"), 400, "host-malformed"),
        ("GET /x HTTP/1.1\r\n".to_owned(), 400, "host-malformed"),
        ("GET /x HTTP/1.0\r\n".to_owned(), 400, "host-malformed"),
        ("GET /x HTTP/1.1\r\nHost:\r\n".to_owned(), 400, "host-malformed"),
        (format!("GET /x HTTP/1.1\r\nHost: {own}, evil.test\r\n"), 400, "host-malformed"),
        (format!("GET /x HTTP/1.1\r\nHost: evil@{own}\r\n"), 400, "host-malformed"),
        (format!("GET http://evil.test/x HTTP/1.1\r\nHost: {own}\r\n"), 400, "host-malformed"),
        (format!("GET {absolute} HTTP/1.1\r\nHost: evil.test\r\n"), 400, "host-malformed"),
        (format!("GET http://user@{own}/x HTTP/1.1\r\nHost: {own}\r\n"), 400, "host-malformed"),
        (
            format!("GET /x HTTP/1.1\r\nHost: {own}\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n"),
            400,
            "authorization-repeated",
        ),
        (format!("GET /x HTTP/1.1\r\nHost: {own}\r\nAuthorization: Basic a\r\nauthorization: Basic a\r\n"), 400, "authorization-repeated"),
        (format!("CONNECT {own} HTTP/1.1\r\nHost: {own}\r\n"), 400, "path-ambiguous"),
        (format!("OPTIONS * HTTP/1.1\r\nHost: {own}\r\n"), 400, "path-ambiguous"),
    ] {
        let answer = raw_answer(scene.gateway.address, format!("{head}Connection: close\r\n\r\n")).await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (status, word), "{head}");
    }
    let mut http2 = RawH2::open(scene.gateway.address).await;
    http2.get(1, &own, "/x", &[("host", b"evil.test")]).await;
    assert_eq!(http2.outcome(1).await, Outcome::Status(400));
    http2.get(3, &own, "/x", &[("authorization", b"Bearer a"), ("authorization", b"Bearer b")]).await;
    assert_eq!(http2.outcome(3).await, Outcome::Status(400));
    assert_eq!(scene.upstream.count(), 0);

    let answer = raw_answer(scene.gateway.address, request("GET", &absolute, &own, &[])).await;
    assert_eq!((answer.status, scene.upstream.last().target), (200, "/x".to_owned()));
    assert_eq!(scene.upstream.last().header_all("host"), [own]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_route_leads_there_is_nothing() {
    let tables = "[[route]]\nid = \"asked\"\npath = \"/asked/\"\naccess = \"public\"\n\
                  [[route]]\npath = \"/a/\"\nmethods = [\"GET\"]\naccess = \"public\"\nupstream = \"@UPSTREAM@\"\n";
    let scene = Scene::start("", tables);
    for (method, path, word) in
        [("GET", "/", "no-route"), ("GET", "/b", "no-route"), ("POST", "/a/x", "no-route"), ("GET", "/asked/x", "upstream-absent")]
    {
        let answer = scene.send(Protocol::Http1, method, path, &[]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (404, word), "{method} {path}");
    }
    assert_eq!(scene.upstream.count(), 0);
}

// --- who may pass

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_passes_without_credentials_where_the_route_says_so() {
    let route = |path: &str, more: &str| {
        format!("[[route]]\npath = \"{path}\"\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\n{more}\n")
    };
    let scene = Scene::start("", &[route("/pass/", "preflight = \"pass\""), route("/judge/", "")].concat());
    let session = scene.session().await;
    let cookie = format!("a=b; {session}");
    let preflight = [
        ("origin", "https://spa.test"),
        ("access-control-request-method", "PUT"),
        ("cookie", cookie.as_str()),
        ("authorization", "Basic YTpi"),
        ("x-forwarded-user", "forged"),
    ];
    let answer = scene.send(Protocol::Http1, "OPTIONS", "/pass/x", &preflight).await;
    assert_eq!(answer.status, 200);
    let seen = scene.upstream.last();
    assert_eq!((seen.method.as_str(), seen.header("origin").as_deref()), ("OPTIONS", Some("https://spa.test")));
    for name in ["cookie", "authorization", "x-forwarded-user"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    scene.upstream.reset();
    for (path, headers) in [("/judge/x", &preflight[..2]), ("/pass/x", &preflight[..1]), ("/pass/x", &preflight[1..2])] {
        let answer = scene.send(Protocol::Http1, "OPTIONS", path, headers).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "no-credential"), "{path} {headers:?}");
    }
    let answer = scene.send(Protocol::Http1, "PUT", "/pass/x", &preflight[..2]).await;
    assert_eq!((answer.status.as_u16(), scene.upstream.count()), (401, 0), "only the preflight passes");
}

/// The rows of PRODUCT's table for public and optional routes.
#[tokio::test(flavor = "multi_thread")]
async fn public_reads_nothing_and_optional_believes_only_what_is_good() {
    let dead = format!("http://127.0.0.1:{}", free_port());
    let tables = format!(
        "[[token_issuer]]\nissuer = \"{dead}\"\naudience = \"api\"\n\
         [[route]]\npath = \"/public/\"\naccess = \"public\"\nupstream = \"@UPSTREAM@\"\n\
         [[route]]\npath = \"/optional/\"\naccess = \"optional\"\naccept = [\"session\", \"bearer\"]\nupstream = \"@UPSTREAM@\"\n"
    );
    let scene = Scene::start("", &tables);
    let session = scene.session().await;
    let good = format!("Bearer {}", scene.token(serde_json::json!({})));
    let bad = format!("Bearer {}", scene.token(serde_json::json!({ "exp": 1 })));
    let unasked = format!("Bearer {}", scene.token(serde_json::json!({ "iss": dead })));
    let stranger = "doorward=opens-nothing";

    for (path, cookie, token, status, expected) in [
        ("/public/x", None, None, 200, None),
        ("/public/x", Some(session.as_str()), Some(&bad), 200, None),
        ("/public/x", Some(stranger), Some(&unasked), 200, None),
        ("/optional/x", None, None, 200, None),
        ("/optional/x", Some(stranger), None, 200, None),
        ("/optional/x", Some(session.as_str()), None, 200, Some("alice")),
        ("/optional/x", Some(session.as_str()), Some(&good), 200, Some("program")),
        ("/optional/x", Some(session.as_str()), Some(&bad), 401, Some("token-expired")),
        ("/optional/x", None, Some(&bad), 401, Some("token-expired")),
        ("/optional/x", Some(session.as_str()), Some(&unasked), 503, Some("keys-unreachable")),
    ] {
        let mut headers: Vec<(&str, &str)> = cookie.iter().map(|cookie| ("cookie", *cookie)).collect();
        headers.extend(token.map(|token| ("authorization", token.as_str())));
        scene.upstream.reset();
        let answer = scene.get(path, &headers).await;
        assert_eq!(answer.status, status, "{path} {headers:?}: {}", answer.text());
        if status == 200 {
            let seen = scene.upstream.last();
            assert_eq!(seen.header("x-forwarded-user").as_deref(), expected, "{path} {headers:?}");
            assert_eq!(seen.header("authorization").is_some(), path == "/public/x" && token.is_some());
            continue;
        }
        assert_eq!((Some(reason(&answer).as_str()), scene.upstream.count()), (expected, 0), "{path} {headers:?}");
        assert_eq!(answer.set_cookies(), Vec::<&str>::new());
        let named = if status == 401 { answer.header("www-authenticate") } else { answer.header("retry-after") };
        assert!(named.is_some_and(|value| status == 503 || value.contains("error=\"invalid_token\"")), "{named:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_led_to_the_login_or_told_where_it_is() {
    let scene = Scene::start("", PROTECTED);
    let page = Browser::new().get(&scene.url("/a?b=c")).await;
    assert!(page.status == 303 && page.location().unwrap().starts_with(&scene.provider.issuer()), "{}", page.summary());
    for (method, headers) in [
        ("GET", &[("accept", "application/json")][..]),
        ("GET", &[("accept", "text/html"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")]),
        ("GET", &[("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")]),
        ("PUT", &[("accept", "text/html")]),
        ("GET", &[("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")]),
    ] {
        let answer = scene.send(Protocol::Http1, method, "/a", headers).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "no-credential"), "{method} {headers:?}");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Doorward-Session"));
        assert!(answer.json()["login_url"].as_str().unwrap().starts_with(&scene.url("/oauth2/start")));
        assert_eq!(answer.set_cookies(), Vec::<&str>::new());
    }
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_not_sent_on_by_a_redirect() {
    let scene = Scene::start("", PROTECTED);
    let page = Browser::new().post_form(&scene.url("/a"), &[("a", "b")]).await;
    assert_eq!((page.status.as_u16(), page.location()), (401, None), "{}", page.summary());
    assert!(page.header("www-authenticate").is_some());
    assert!(page.link("Sign in").starts_with(&scene.url("/oauth2/start?rd=")));
    assert_eq!(scene.upstream.count(), 0);
}
