//! What a stranger may not do for ever.

use super::*;

const SHORT: Duration = Duration::from_millis(300);
const LONGER: Duration = Duration::from_millis(1200);

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_drips_is_cut_after_its_time() {
    let server = TestServer::start(ConnectionLimits { header_timeout: SHORT, ..limits() });
    let mut stream = server.connect().await;
    let start = sleep(Duration::ZERO).deadline();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").await.unwrap();
    let cut = loop {
        sleep(Duration::from_millis(20)).await;
        if stream.write_all(b"X: y\r\n").await.is_err() {
            break start.elapsed();
        }
    };
    assert!(cut >= SHORT && cut < LONGER, "{cut:?}");
    // The second request on a kept connection has no more time than the first.
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(read_some(&mut stream).await.1, After::Open);
    stream.write_all(b"GET / HTTP").await.unwrap();
    let cut = closed_after(&mut stream).await;
    assert!(cut < LONGER, "{cut:?}");
    assert_eq!(server.seen(), 1);
    eventually(|| server.counted("doorward_connections_cut_total{cause=\"header-timeout\"} 2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_from_the_start_is_cut_whatever_the_protocol() {
    let server = TestServer::start(ConnectionLimits { header_timeout: SHORT, ..limits() });
    for opening in [&b""[..], b"PR", b"P", b"G"] {
        let mut stream = server.connect().await;
        stream.write_all(opening).await.unwrap();
        let cut = closed_after(&mut stream).await;
        assert!(cut < LONGER, "{opening:?} {cut:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_waits_for_its_next_request_has_the_idle_time() {
    let limits = ConnectionLimits { header_timeout: SHORT, idle_timeout: LONGER, ..limits() };
    let server = TestServer::start(limits);
    let mut stream = server.connect().await;
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_eq!(read_some(&mut stream).await.1, After::Open);
        sleep(SHORT * 2).await;
    }
    let cut = closed_after(&mut stream).await;
    assert!(cut < LONGER, "{cut:?}");
    let sender = http2(server.connect().await).await;
    let mut used = sender.clone();
    used.send_request(request("/")).await.unwrap();
    sleep(SHORT * 2).await;
    used.send_request(request("/slow")).await.unwrap();
    eventually(|| sender.is_closed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_has_no_time_of_the_connection() {
    let limits = ConnectionLimits { header_timeout: SHORT / 3, idle_timeout: SHORT / 3, write_timeout: SHORT / 3, ..limits() };
    let server = TestServer::start(limits);
    assert!(server.get("/slow").await.is_empty(), "the reader of this test gave up first");
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.unwrap();
    assert!(text.ends_with("slow"), "{text}");
    let mut sender = http2(server.connect().await).await;
    assert_eq!(text_of(&mut sender, "/slow").await, "slow");
}

async fn text_of(sender: &mut hyper::client::conn::http2::SendRequest<Full<Bytes>>, path: &str) -> String {
    text(sender.send_request(request(path)).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_be_slow_but_not_silent() {
    let server = TestServer::start(ConnectionLimits { body_timeout: SHORT, ..limits() });
    let mut stream = server.connect().await;
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n").await.unwrap();
    for _ in 0..3 {
        sleep(SHORT * 2 / 3).await;
        stream.write_all(b"ab").await.unwrap();
    }
    assert!(read_some(&mut stream).await.0.ends_with("ababab"));
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nab").await.unwrap();
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 400") && text.ends_with("body-timeout"), "{text}");
    let text = server.raw("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await;
    assert!(text.ends_with("body-broken"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downstream_that_takes_nothing_is_cut() {
    let server = TestServer::start(ConnectionLimits { write_timeout: SHORT * 2, ..limits() });
    let mut stream = server.connect().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    eventually(|| server.counted("doorward_connections_cut_total{cause=\"write-timeout\"} 1")).await;
    // One that takes a little from time to time is not. Its kernel must not take much for it, nor wait long with saying that there is room.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut slow = socket.connect(server.address).await.unwrap();
    slow.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut piece = vec![0; 256 * 1024];
    for _ in 0..30 {
        sleep(SHORT / 6).await;
        assert!(slow.read(&mut piece).await.unwrap() > 0);
    }
    assert!(server.counted("doorward_connections_cut_total{cause=\"write-timeout\"} 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_or_too_many_are_431() {
    let server = TestServer::start(limits());
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(101));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(20_000));
    for bytes in [&many, &large, &long] {
        let text = server.raw(bytes).await;
        assert!(text.starts_with("HTTP/1.1 431"), "{text}");
    }
    let allowed = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(99));
    assert!(server.raw(allowed).await.starts_with("HTTP/1.1 200"));
    assert_eq!(server.seen(), 1);
    eventually(|| server.counted("doorward_requests_total{route=\"doorward\",reason=\"headers-too-large\"} 3")).await;

    let fewer = TestServer::start(ConnectionLimits { max_headers: 10, ..limits() });
    assert!(fewer.raw(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(10))).await.starts_with("HTTP/1.1 431"));
    let mut sender = http2(server.connect().await).await;
    let mut large = request("/");
    large.headers_mut().insert("x", "y".repeat(20_000).parse().unwrap());
    assert!(sender.send_request(large).await.map_or(true, |response| response.status() == 431));
    assert_eq!(server.seen(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_stalled_connections_do_not_keep_others_waiting() {
    raise_open_files(5000).unwrap();
    let server = TestServer::start(limits());
    let mut stalled = Vec::new();
    for number in 0..2000 {
        let mut stream = server.connect().await;
        let opening = match number % 3 {
            0 => &b""[..],
            1 => b"GET / HTTP/1.1\r\nHost",
            _ => b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx",
        };
        stream.write_all(opening).await.unwrap();
        stalled.push(stream);
    }
    eventually(|| server.cores.connections().iter().sum::<usize>() == 2000).await;
    assert_eq!(server.cores.connections(), [1000, 1000]);
    let start = sleep(Duration::ZERO).deadline();
    for _ in 0..20 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await.unwrap();
        assert!(text.ends_with("hello"));
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(stalled);
    eventually(|| server.cores.connections().iter().sum::<usize>() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_connections_wait_and_are_served_when_a_place_falls_free() {
    let server = TestServer::start(ConnectionLimits { max_connections: 2, header_timeout: LONGER, ..limits() });
    let held = [server.connect().await, server.connect().await];
    eventually(|| server.cores.connections().iter().sum::<usize>() == 2).await;
    let mut waiting = server.connect().await;
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(read_some(&mut waiting).await, (String::new(), After::Open));
    drop(held);
    let mut text = String::new();
    within(waiting.read_to_string(&mut text)).await.unwrap();
    assert!(text.ends_with("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_abandons_every_stream_is_sent_away() {
    let server = TestServer::start(limits());
    let mut sender = http2(server.connect().await).await;
    let mut begun = 0;
    while !sender.is_closed() && begun < 2000 {
        if sender.ready().await.is_err() {
            break;
        }
        // Dropped before the answer: a reset.
        let _ = timeout(Duration::from_millis(2), sender.send_request(request("/never"))).await;
        begun += 1;
    }
    assert!((200..600).contains(&begun), "{begun}");
    eventually(|| server.counted("doorward_connections_cut_total{cause=\"resets\"} 1")).await;
}
