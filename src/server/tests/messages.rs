//! Where one message ends and the next begins: sound ones come through as they are, however they are cut.

use tokio::io::AsyncRead;

use super::*;

/// Bytes that would be spoilt if they were taken for a head.
const TELLTALE: &[u8] = b"first\nsecond\r\nthird\r\n\r\n\0fourth\n\n\xff";

fn telltale(length: usize) -> Vec<u8> {
    TELLTALE.iter().copied().cycle().take(length).collect()
}

/// Reads answers with a `Content-Length`: their bodies.
async fn bodies(stream: &mut (impl AsyncRead + Unpin), count: usize) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut found = Vec::new();
    let mut piece = vec![0; 65_536];
    while found.len() < count {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |value| value.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let rest = bytes.split_off(end + 4 + length);
                if !head.starts_with("http/1.1 100") {
                    assert!(head.starts_with("http/1.1 200"), "{head}");
                    found.push(bytes[end + 4..].to_vec());
                }
                bytes = rest;
                continue;
            }
        }
        let read = within(stream.read(&mut piece)).await.unwrap();
        assert!(read > 0, "closed after {found:?}");
        bytes.extend_from_slice(&piece[..read]);
    }
    assert!(bytes.is_empty());
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_one_write_are_answered_in_order_with_their_bodies() {
    let server = TestServer::start(limits());
    let mut stream = server.connect().await;
    let mut bytes = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    bytes.extend_from_slice(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", TELLTALE.len()).as_bytes());
    bytes.extend_from_slice(TELLTALE);
    bytes.extend_from_slice(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(bodies(&mut stream, 3).await, [&b"slow"[..], TELLTALE, b"hello"]);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(bodies(&mut stream, 1).await, [b"hello"]);
    assert_eq!(server.seen(), 4);
    // More than hyper takes in one go.
    stream.write_all("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000).as_bytes()).await.unwrap();
    assert_eq!(bodies(&mut stream, 1000).await, vec![b"hello"; 1000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_requests_come_through_however_they_are_cut() {
    let server = TestServer::start(limits());
    let mut random = 1_u64;
    let mut below = move |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % bound
    };
    for round in 0..40 {
        let stream = server.connect().await;
        stream.set_nodelay(true).unwrap();
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            let (path, length) = (["/", "/echo"][below(2)], [0, 1, 7, 100, 9000, 70_000][below(6)]);
            let extra = ["", "Connection: upgrade\r\nUpgrade: h2c\r\n", "Expect: 100-continue\r\n"][below(3)];
            // hyper drops the connection when nobody reads a body that it has not wholly at hand.
            let length = if path == "/" { 0 } else { length };
            let body = telltale(length);
            bytes.extend_from_slice(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{extra}Content-Length: {length}\r\n\r\n").as_bytes());
            bytes.extend_from_slice(&body);
            expected.push(if path == "/" { b"hello".to_vec() } else { body });
        }
        let longest = [3, 40, 5000, 100_000, 1_000_000][round % 5];
        let (mut reader, mut sink) = stream.into_split();
        let mut writer = bytes.as_slice();
        let mut cuts = Vec::new();
        while !writer.is_empty() {
            let (piece, rest) = writer.split_at(1 + below(longest.max(writer.len() / 2000).min(writer.len())));
            cuts.push(piece.to_vec());
            writer = rest;
        }
        let writing = async {
            for cut in cuts {
                sink.write_all(&cut).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (found, ()) = tokio::join!(bodies(&mut reader, expected.len()), writing);
        assert!(found == expected, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_outlives_its_answer_keeps_every_byte() {
    let server = TestServer::start(limits());
    for (name, length) in [("small", TELLTALE.len()), ("large", 3_000_000)] {
        let body = telltale(length);
        let mut stream = server.connect().await;
        stream.write_all(format!("POST /early?{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes()).await.unwrap();
        assert_eq!(bodies(&mut stream, 1).await, [b"early"]);
        for piece in body.chunks(body.len() / 3 + 1) {
            stream.write_all(piece).await.unwrap();
            sleep(Duration::from_millis(30)).await;
        }
        eventually(|| uploaded(name).is_some()).await;
        assert!(uploaded(name) == Some(Ok(body.into())), "{name}");
        // The connection goes on with the next head, and that one is watched.
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_eq!(bodies(&mut stream, 1).await, [b"hello"]);
        stream.write_all(b"GET / HTTP/1.1\nHost: a\n\n").await.unwrap();
        assert!(read_some(&mut stream).await.0.starts_with("HTTP/1.1 400"));
    }
    let mut stream = server.connect().await;
    stream.write_all(b"POST /early?chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let (text, after) = read_some(&mut stream).await;
    assert!(text.ends_with("early") && text.contains("connection: close"), "{text}");
    if after == After::Open {
        stream.write_all(format!("{:x}\r\n", TELLTALE.len()).as_bytes()).await.unwrap();
        stream.write_all(TELLTALE).await.unwrap();
        stream.write_all(b"\r\n0\r\n\r\n").await.unwrap();
        eventually(|| uploaded("chunked").is_some()).await;
        assert_eq!(uploaded("chunked"), Some(Ok(TELLTALE.into())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_after_its_answer_is_no_head_that_takes_too_long() {
    let short = Duration::from_millis(200);
    let server = TestServer::start(ConnectionLimits { header_timeout: short, ..limits() });
    let mut stream = server.connect().await;
    stream.write_all(b"POST /early?patient HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\na\n").await.unwrap();
    assert_eq!(bodies(&mut stream, 1).await, [b"early"]);
    for piece in [b"b\n", b"c\n"] {
        sleep(short * 2).await;
        stream.write_all(piece).await.unwrap();
    }
    eventually(|| uploaded("patient").is_some()).await;
    assert_eq!(uploaded("patient"), Some(Ok("a\nb\nc\n".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_came_with_a_request_before_it_has_its_time_too() {
    let short = Duration::from_millis(300);
    let server = TestServer::start(ConnectionLimits { header_timeout: short, ..limits() });
    for first in [
        "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nslow",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(format!("{first}GET / HTTP/1.1\r\n").as_bytes()).await.unwrap();
        assert_eq!(bodies(&mut stream, 1).await, [b"slow"]);
        let cut = closed_after(&mut stream).await;
        assert!(cut < short * 4, "{cut:?}");
    }
    eventually(|| server.counted("doorward_connections_cut_total{cause=\"header-timeout\"} 3")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_has_the_bytes_that_were_sent_before_it_was_one() {
    let server = TestServer::start(limits());
    for path in ["/upgrade", "/upgrade-later"] {
        for pause in [0, 50] {
            let mut stream = server.connect().await;
            stream
                .write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").as_bytes())
                .await
                .unwrap();
            sleep(Duration::from_millis(pause)).await;
            stream.write_all(TELLTALE).await.unwrap();
            sleep(Duration::from_millis(pause)).await;
            stream.write_all(TELLTALE).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(within(stream.read_u8()).await.unwrap());
            }
            assert!(head.starts_with(b"HTTP/1.1 101"));
            let mut back = vec![0; TELLTALE.len() * 2];
            within(stream.read_exact(&mut back)).await.unwrap();
            assert_eq!(back, TELLTALE.repeat(2), "{path} {pause}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_comes_only_after_100_continue_if_it_is_asked_for() {
    let server = TestServer::start(limits());
    let mut stream = server.connect().await;
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await.unwrap();
    let mut interim = [0; 25];
    within(stream.read_exact(&mut interim)).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"a\n\nbGET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(bodies(&mut stream, 2).await, [&b"a\n\nb"[..], b"hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_last_request_nothing_is_one() {
    let server = TestServer::start(limits());
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for last in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    ] {
        let seen = server.seen();
        let text = server.raw(format!("{last}{get}")).await;
        assert!(text.ends_with("hello"), "{text}");
        assert_eq!(server.seen(), seen + 1, "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downstream_that_leaves_is_noticed_while_its_request_is_in_flight() {
    let server = TestServer::start(limits());
    for (head, extra) in [
        ("GET /never HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("GET /never HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n", ""),
        ("POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n", "a\n\nb"),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(format!("{head}{extra}").as_bytes()).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        // Half of it is enough.
        stream.shutdown().await.unwrap();
        eventually(|| server.cores.connections().iter().sum::<usize>() == 0).await;
    }
}
