//! One message is never two requests (SECURITY 12), and nobody takes the gateway from the others by holding still or sending much
//! (SECURITY 30).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "test code: it fails loudly and runs tasks of its own"
)]

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::gateway::GatewayProcess;
use crate::harness::http::{HttpClient, fetch, get};
use crate::harness::raw::{RawAnswer, RawConnection, raw};
use crate::harness::raw_h2::{Outcome, RawH2};
use crate::harness::scene::{PUBLIC, Scene};
use crate::harness::wait::{PATIENCE, eventually, free_port};

/// How many requests the bytes that reached the upstream hold, whatever the upstream made of them.
fn requests_on_the_wire(scene: &Scene) -> usize {
    scene
        .upstream
        .received()
        .iter()
        .map(|bytes| bytes.windows(11).filter(|window| window.ends_with(b" HTTP/1.1\r\n") || *window == b" HTTP/1.1\r\n").count())
        .sum()
}

/// Each with the status of the one answer and the number of requests that reach the upstream.
#[tokio::test(flavor = "multi_thread")]
async fn one_message_is_never_two_requests() {
    let scene = Scene::start("", PUBLIC);
    let host = scene.host();
    let evil = format!("GET /evil HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let (post, get) = (format!("POST /x HTTP/1.1\r\nHost: {host}\r\n"), format!("GET /x HTTP/1.1\r\nHost: {host}\r\n"));
    let long = evil.len();
    for (name, bytes, status, requests) in [
        ("CL before TE", format!("{post}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}", long + 5), 200, 1),
        ("TE before CL", format!("{post}Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n{evil}", long + 5), 200, 1),
        ("CL shorter than TE", format!("{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nZ\r\n0\r\n\r\n{evil}"), 200, 1),
        ("two CL that differ", format!("{post}Content-Length: 0\r\nContent-Length: {long}\r\n\r\n{evil}"), 400, 0),
        ("two CL in one line", format!("{post}Content-Length: 0, {long}\r\n\r\n{evil}"), 400, 0),
        ("CL with a sign", format!("{post}Content-Length: +{long}\r\n\r\n{evil}"), 400, 0),
        ("CL negative", format!("{post}Content-Length: -1\r\n\r\n{evil}"), 400, 0),
        ("TE chunked, x", format!("{post}Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("TE x, chunked", format!("{post}Transfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("TE gzip, chunked", format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("TE twice", format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("TE with a vertical tab", format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("TE in HTTP/1.0", format!("POST /x HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("TE folded", format!("{post}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("a folded line", format!("{post}X: y\r\n Content-Length: 5\r\n\r\n{evil}"), 400, 0),
        ("space before a colon", format!("{post}Content-Length : {long}\r\n\r\n{evil}"), 400, 0),
        ("space before TE's colon", format!("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("bare LF throughout", format!("GET /x HTTP/1.1\nHost: {host}\n\n{evil}"), 400, 0),
        ("bare LF in a value", format!("{get}X: y\nTransfer-Encoding: chunked\r\n\r\n{evil}"), 400, 0),
        ("bare LF before the end", format!("{get}\n{evil}"), 400, 0),
        ("bare CR in a value", format!("{get}X: y\rZ: w\r\n\r\n{evil}"), 400, 0),
        ("NUL in a value", format!("{get}X: y\0z\r\n\r\n{evil}"), 400, 0),
        ("two spaces", format!("GET  /x HTTP/1.1\r\nHost: {host}\r\n\r\n{evil}"), 400, 0),
    ] {
        let before = scene.counted("request-malformed").await;
        scene.upstream.reset();
        let wire = requests_on_the_wire(&scene);
        let received = raw(scene.gateway.address, &bytes).await;
        let answers = RawAnswer::parse_all(&received);
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status], "{name}");
        assert_eq!(scene.upstream.count(), requests, "{name}: {:?}", scene.upstream.requests());
        assert_eq!(requests_on_the_wire(&scene) - wire, requests, "{name}");
        if status == 400 {
            scene.counts("request-malformed", before + 1).await;
        } else {
            // One length, and the coding's.
            let seen = scene.upstream.last();
            assert_eq!((seen.header("content-length"), seen.header("transfer-encoding").as_deref()), (None, Some("chunked")), "{name}");
        }
    }
    let wire: Vec<u8> = scene.upstream.received().concat();
    assert!(!String::from_utf8_lossy(&wire).contains("/evil"));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_two_readers_would_cut_differently_end_the_request() {
    let scene = Scene::start("", PUBLIC);
    let host = scene.host();
    for chunks in [
        "1 \n\nx\r\n0\r\n\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
        "1\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "1\r\nxx\r\n0\r\n\r\n",
        "1;a\nb\r\nx\r\n0\r\n\r\n",
    ] {
        scene.upstream.reset();
        let request = format!(
            "POST /x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}GET /evil HTTP/1.1\r\nHost: {host}\r\n\r\n"
        );
        let answers = RawAnswer::parse_all(&raw(scene.gateway.address, request).await);
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [400], "{chunks:?}");
        // Its head may have gone on before the chunk came; never as a whole request, and nothing after it.
        assert!(scene.upstream.requests().iter().all(|seen| seen.path() == "/x" && !seen.complete), "{chunks:?}");
    }
    assert!(!String::from_utf8_lossy(&scene.upstream.received().concat()).contains("/evil"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_cannot_be_turned_into_two_requests_either() {
    let scene = Scene::start("", PUBLIC);
    let host = scene.host();
    let evil = format!("y\r\n\r\nGET /evil HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (name, value) in [
        ("connection", &b"close"[..]),
        ("connection", b"x-forwarded-user"),
        ("transfer-encoding", b"chunked"),
        ("keep-alive", b"timeout=5"),
        ("proxy-connection", b"close"),
        ("upgrade", b"h2c"),
        ("te", b"gzip"),
        ("x", b"y\rz"),
        ("x", b"y\nz"),
        ("x", b"y\0z"),
        ("x", b"y\r\ntransfer-encoding: chunked"),
        ("x", evil.as_bytes()),
        ("x: y\r\nz", b"w"),
        ("X", b"y"),
        (":path", b"/evil"),
        (":evil", b"/"),
        ("content-length", b"x"),
        ("content-length", b"7"),
    ] {
        let mut http2 = RawH2::open(scene.gateway.address).await;
        http2.get(1, &host, "/x", &[(name, value)]).await;
        let outcome = http2.outcome(1).await;
        assert!(outcome.is_refusal(), "{name:?} {:?}: {outcome:?}", String::from_utf8_lossy(value));
        assert_eq!(scene.upstream.count(), 0, "{name:?} {:?}", String::from_utf8_lossy(value));
    }
    for fields in [
        [(":method", "GET"), (":scheme", "http"), (":authority", &host), (":path", "/x HTTP/1.1\r\nX: y")],
        [(":method", "GET"), (":scheme", "http"), (":authority", &host), (":path", "/x HTTP/1.1")],
        [(":method", "GET /evil HTTP/1.1\r\nX:"), (":scheme", "http"), (":authority", &host), (":path", "/x")],
        [(":method", "GET"), (":scheme", "http"), (":authority", "a\r\nX: y"), (":path", "/x")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":path", "/x")],
        [(":method", "GET"), (":scheme", "http"), ("x", "y"), (":path", "/x")],
    ] {
        let bytes: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let mut http2 = RawH2::open(scene.gateway.address).await;
        http2.headers(1, &bytes, true).await;
        let outcome = http2.outcome(1).await;
        assert!(outcome.is_refusal() && scene.upstream.count() == 0, "{fields:?}: {outcome:?}");
    }
    // `te: trailers` is the one that may be there.
    let mut http2 = RawH2::open(scene.gateway.address).await;
    http2.get(1, &host, "/x", &[("te", b"trailers")]).await;
    assert_eq!((http2.outcome(1).await, scene.upstream.count()), (Outcome::Status(200), 1));
    assert_eq!(requests_on_the_wire(&scene), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_the_body_does_not_have_never_reaches_the_upstream_as_a_whole() {
    let scene = Scene::start("", PUBLIC);
    let host = scene.host();
    for (lengths, sent) in
        [(&["5", "5"][..], "hello"), (&["5", "6"], "hello"), (&["6", "5"], "hello"), (&["3"], "hello"), (&["9"], "hello")]
    {
        scene.upstream.reset();
        let mut fields: Vec<(&str, &[u8])> =
            vec![(":method", b"POST"), (":scheme", b"http"), (":authority", host.as_bytes()), (":path", b"/x")];
        fields.extend(lengths.iter().map(|length| ("content-length", length.as_bytes())));
        let mut http2 = RawH2::open(scene.gateway.address).await;
        http2.headers(1, &fields, false).await;
        http2.data(1, sent.as_bytes(), true).await;
        let outcome = http2.outcome(1).await;
        assert!(outcome.is_refusal(), "{lengths:?}: {outcome:?}");
        assert!(scene.upstream.requests().iter().all(|seen| !seen.complete), "{lengths:?}: {:?}", scene.upstream.requests());
        if lengths.len() > 1 {
            assert_eq!(scene.upstream.count(), 0, "{lengths:?}");
        }
    }
}

// --- limits

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_or_has_too_many_lines_is_refused() {
    let scene = Scene::start("", &format!("[limits]\nheader_bytes = \"8KiB\"\nheaders = 40\n{PUBLIC}"));
    let host = scene.host();
    let own = "X-A: b\r\n".repeat(30);
    let request = |lines: &str| format!("GET /x HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n");
    assert!(raw(scene.gateway.address, request(&own)).await.starts_with(b"HTTP/1.1 200"));
    assert!(raw(scene.gateway.address, request(&format!("X: {}\r\n", "y".repeat(6_000)))).await.starts_with(b"HTTP/1.1 200"));
    assert_eq!(scene.upstream.count(), 2);
    for (name, bytes) in [
        ("one long line", request(&format!("X: {}\r\n", "y".repeat(20_000)))),
        ("many lines", request(&"X-A: b\r\n".repeat(50))),
        ("many long lines", request(&format!("X: {}\r\n", "y".repeat(2_000)).repeat(10))),
        ("a long target", format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "y".repeat(20_000))),
    ] {
        let before = scene.counted("headers-too-large").await;
        let answers = RawAnswer::parse_all(&raw(scene.gateway.address, bytes).await);
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert!([vec![431], vec![414]].contains(&statuses), "{name}: {statuses:?}");
        scene.counts("headers-too-large", before + 1).await;
    }
    let mut http2 = RawH2::open(scene.gateway.address).await;
    let value = vec![b'y'; 2_000];
    let fields: Vec<(&str, &[u8])> = vec![("x", &value); 3];
    http2.get(1, &host, "/x", &fields).await;
    assert_eq!((http2.outcome(1).await, scene.upstream.count()), (Outcome::Status(200), 3));
    let fields: Vec<(&str, &[u8])> = vec![("x", &value); 6];
    http2.get(3, &host, "/x", &fields).await;
    let outcome = http2.outcome(3).await;
    assert!(outcome == Outcome::Status(431) || matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
    assert_eq!(scene.upstream.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_in_time_is_cut_however_it_drips() {
    let scene = Scene::start("", &format!("[limits]\nheader_timeout = \"500ms\"\n{PUBLIC}"));
    let mut silent = RawConnection::open(scene.gateway.address).await;
    silent.send("GET /x HTT").await;
    let nothing = RawConnection::open(scene.gateway.address).await;
    let mut dripping = RawConnection::open(scene.gateway.address).await;
    dripping.send(format!("GET /x HTTP/1.1\r\nHost: {}\r\nX: ", scene.host())).await;
    let mut drips = 0;
    while !dripping.closes_within(Duration::from_millis(50)).await {
        dripping.send("y").await;
        drips += 1;
        assert!(drips < 150, "a head that drips is not cut after the time of the config");
    }
    assert!(drips > 1, "it was cut at once");
    assert!(silent.closes_within(PATIENCE).await);
    let mut nothing = nothing;
    assert!(nothing.closes_within(PATIENCE).await);
    let mut tries = 0;
    while scene.gateway.metric("doorward_connections_cut_total{cause=\"header-timeout\"}").await < 2 {
        tries += 1;
        assert!(tries < 600, "the cuts are not counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((scene.upstream.count(), scene.get("/x", &[]).await.status.as_u16()), (0, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_coming_is_given_up() {
    let scene = Scene::start("", &format!("[limits]\nbody_timeout = \"300ms\"\n{PUBLIC}"));
    let mut connection = RawConnection::open(scene.gateway.address).await;
    connection.send(format!("POST /x HTTP/1.1\r\nHost: {}\r\nContent-Length: 10\r\n\r\nhel", scene.host())).await;
    let answer = RawAnswer::parse_all(&connection.read_answers().await).remove(0);
    assert_eq!((answer.status, crate::harness::scene::raw_reason(&answer).as_str()), (408, "body-timeout"));
    assert!(scene.upstream.requests().iter().all(|seen| !seen.complete));
}

/// SECURITY 30. The gateway is a process of its own, so that both ends of ten thousand connections find room under the usual bound on open
/// files.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_stalled_connections_do_not_stop_the_others() {
    const STALLED: usize = 10_000;
    let files = doorward::server::raise_open_files(1).unwrap().now;
    assert!(files >= 2 * STALLED as u64, "{files} open files are allowed; the test needs 20000: raise the hard limit");
    let config = "public_url = \"http://127.0.0.1:@PORT@\"\n[limits]\nheader_timeout = \"10m\"\n[store]\nkind = \"memory\"\n\
                  [[route]]\naccess = \"public\"\nupstream = \"static:204\"\n";
    let gateway = GatewayProcess::start_on(free_port(), config).await;
    let half = format!("GET /x HTTP/1.1\r\nHost: {}\r\nX: ", gateway.address);
    let mut stalled = Vec::with_capacity(STALLED);
    while stalled.len() < STALLED {
        let mut stream = timeout(PATIENCE, TcpStream::connect(gateway.address)).await.expect("a place in time").expect("a connection");
        stream.write_all(half.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    let open = "doorward_connections_open";
    let mut seen = 0;
    for _ in 0..600 {
        let metrics = fetch(get(&format!("http://{}/metrics", gateway.admin))).await.text();
        let line = metrics.lines().find(|line| line.starts_with(open)).expect("the gauge is there").to_owned();
        seen = line.rsplit(' ').next().unwrap().parse().unwrap();
        if seen >= STALLED {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(seen >= STALLED, "{seen} connections are open");
    for _ in 0..50 {
        let answer = HttpClient::new().get(&format!("{}/x", gateway.url)).await;
        assert_eq!(answer.status, 204);
    }
    // They were not served by throwing the others out: each may still end its head.
    for stream in stalled.iter_mut().step_by(1_000) {
        stream.write_all(b"y\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut back = Vec::new();
        timeout(PATIENCE, tokio::io::AsyncReadExt::read_to_end(stream, &mut back)).await.unwrap().unwrap();
        assert!(back.starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&back));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_connections_wait_and_are_served_when_a_place_is_free() {
    let scene = Scene::start("", &format!("[limits]\nconnections = 3\nheader_timeout = \"2s\"\n{PUBLIC}"));
    let mut stalled = Vec::new();
    for _ in 0..3 {
        let mut connection = RawConnection::open(scene.gateway.address).await;
        connection.send("GET /x HT").await;
        stalled.push(connection);
    }
    let mut tries = 0;
    while scene.gateway.metric("doorward_connections_open").await < 3 {
        tries += 1;
        assert!(tries < 600);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(scene.get("/x", &[]).await.status, 200, "the stalled ones are cut in time, and the next is served");
    eventually("the answer", || (scene.upstream.count() == 1).then_some(())).await;
}
