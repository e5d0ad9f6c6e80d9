//! Answers, and what becomes of defects.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn http1_answers_and_keeps_the_connection() {
    let server = TestServer::start(limits());
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (text, after) = read_some(&mut stream).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("hello"), "{text}");
        assert!(text.contains("date: ") && !text.contains("server:"), "{text}");
        assert_eq!(after, After::Open);
    }
    assert_eq!(server.seen(), 3);
    assert!(server.get("/transport").await.ends_with("Plain HTTP/1.1 127.0.0.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_together_are_answered_in_order() {
    let server = TestServer::start(limits());
    let text =
        server.raw("GET /core HTTP/1.1\r\nHost: a\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(text.contains("200 OK") && !text.contains("hello"), "{text}");
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(read_some(&mut stream).await.0.matches("hello").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_with_prior_knowledge_answers_on_the_plain_listener() {
    let server = TestServer::start(limits());
    let mut sender = http2(server.connect().await).await;
    let (one, two) = tokio::join!(sender.clone().send_request(request("/transport")), sender.send_request(request("/slow")));
    assert_eq!(text(one.unwrap()).await, "Plain HTTP/2.0 127.0.0.1");
    assert_eq!(text(two.unwrap()).await, "slow");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preface_in_pieces_is_still_http2_and_another_method_with_p_is_not() {
    let server = TestServer::start(limits());
    let mut stream = server.connect().await;
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
        stream.write_all(&[*byte]).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    let mut settings = [0; 9];
    within(stream.read_exact(&mut settings)).await.unwrap();
    assert_eq!(settings[3], 4, "a SETTINGS frame");
    assert!(server.raw("PUT / HTTP/1.1\r\nHost: a\r\n\r\n").await.contains("200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_500_and_the_connection_goes_on() {
    let server = TestServer::start(limits());
    let mut stream = server.connect().await;
    stream.write_all(b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (text, after) = read_some(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 500") && text.ends_with("a page"), "{text}");
    assert_eq!(after, After::Open);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(read_some(&mut stream).await.0.ends_with("hello"));

    let mut sender = http2(server.connect().await).await;
    assert_eq!(sender.send_request(request("/panic")).await.unwrap().status(), 500);
    assert_eq!(sender.send_request(request("/")).await.unwrap().status(), 200);
    assert!(server.counted("doorward_panics_total 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_body_ends_that_answer_only() {
    let server = TestServer::start(limits());
    let text = server.get("/panic-in-body").await;
    assert!(!text.contains("HTTP/1.1 500") && !text.ends_with("0\r\n\r\n"), "{text}");
    assert!(server.get("/").await.ends_with("hello"));
    assert!(server.counted("doorward_panics_total 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_carries_every_byte_as_it_is() {
    let server = TestServer::start(limits());
    let mut stream = server.connect().await;
    stream.write_all(b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await.unwrap();
    let (text, after) = read_some(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 101"), "{text}");
    assert_eq!(after, After::Open);
    for bytes in [&b"bare\nline\n\nfeeds"[..], b"\r\n\r\n\n\0\xff", b"GET / HTTP/1.1\nHost: a\n\n"] {
        stream.write_all(bytes).await.unwrap();
        let mut back = vec![0; bytes.len()];
        within(stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(back, bytes);
    }
    assert_eq!(server.cores.connections().iter().sum::<usize>(), 1, "a tunnel keeps its place");
    assert!(server.counted("doorward_tunnels_open 1"));
    drop(stream);
    eventually(|| server.cores.connections().iter().sum::<usize>() == 0).await;
    assert!(server.counted("doorward_connections_open 0") && server.counted("doorward_tunnels_open 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn few_connections_are_spread_evenly_over_the_cores() {
    let server = TestServer::start_with(limits(), 4, None);
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /core HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (text, _) = read_some(&mut stream).await;
        streams.push((stream, text.chars().last().unwrap()));
    }
    assert_eq!(server.cores.connections(), [1, 1, 1, 1]);
    // The place that falls free is the next one taken.
    let (stream, core) = streams.remove(2);
    drop(stream);
    eventually(|| server.cores.connections().iter().sum::<usize>() == 3).await;
    assert!(server.get("/core").await.ends_with(core));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_for_both_families_shows_ipv4_peers_as_ipv4() {
    let listener = Listener::bind("[::]:0".parse().unwrap(), TlsSwitch::new(None)).unwrap();
    let server = TestServer::start(limits());
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let accepting = listener.serve(Arc::clone(&server.cores));
    Tasks::new(Handle::current()).background(async { accepting.await.unwrap() });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /transport HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(read_some(&mut stream).await.0.ends_with("Plain HTTP/1.1 127.0.0.1"));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), TlsSwitch::new(None)).unwrap();
    let address = listener.local_addr().unwrap();
    let error = Listener::bind(address, TlsSwitch::new(None)).err().unwrap();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
