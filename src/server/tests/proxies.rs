//! The PROXY header before everything else. Who is named how stands in `proxy_protocol`; here is what becomes of connections.

use super::*;
use crate::header::{TrustedPeer, TrustedProxies};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x12\x34\x01\xbb";
const GET: &[u8] = b"GET /transport HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn trusting(network: &str) -> TrustedProxies {
    TrustedProxies(vec![TrustedPeer::Network(network.parse().unwrap())])
}

fn behind(peers: &ProxyPeers, limits: ConnectionLimits) -> TestServer {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), TlsSwitch::new(None)).unwrap();
    TestServer::start_as(limits, 1, listener.behind_proxies(peers.clone()))
}

const CUT: &str = "doorward_connections_cut_total{cause=\"proxy-header\"}";

#[tokio::test(flavor = "multi_thread")]
async fn the_header_is_read_in_pieces_and_what_follows_it_is_the_requests() {
    let server = behind(&ProxyPeers::new(trusting("127.0.0.1/32")), limits());
    let line = b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n";
    for header in [&line[..], V2] {
        let answer = server.raw([header, GET].concat()).await;
        assert!(answer.ends_with("Plain HTTP/1.1 203.0.113.7"), "{answer}");
        let mut stream = server.connect().await;
        for byte in [header, &GET[..5]].concat() {
            stream.write_all(&[byte]).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.write_all(&GET[5..]).await.unwrap();
        assert!(read_some(&mut stream).await.0.ends_with("203.0.113.7"));
        // HTTP/2 too, and a connection that stays.
        let mut stream = server.connect().await;
        stream.write_all(header).await.unwrap();
        let mut sender = http2(stream).await;
        for _ in 0..2 {
            let response = sender.send_request(request("/transport")).await.unwrap();
            assert_eq!(text(response).await, "Plain HTTP/2.0 203.0.113.7");
        }
    }
    assert!(!server.counted(&format!("{CUT} 1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_header_too_late_or_from_others_nothing_is_answered() {
    let peers = ProxyPeers::new(trusting("127.0.0.1/32"));
    let server = behind(&peers, ConnectionLimits { header_timeout: Duration::from_millis(200), ..limits() });
    let mut cut = 0;
    for bytes in [GET, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\0\0\0\0", b"PROXY TCP4 203.0.113.7\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(bytes).await.unwrap();
        assert_eq!(read_some(&mut stream).await, (String::new(), After::Closed), "{:?}", String::from_utf8_lossy(bytes));
        cut += 1;
        eventually(|| server.counted(&format!("{CUT} {cut}"))).await;
    }
    // Slow: it does not count from the last byte.
    for header in [&b"PROXY TCP4 203.0.113.7 10.0.0.1 46"[..], &V2[..20]] {
        let mut stream = server.connect().await;
        stream.write_all(header).await.unwrap();
        assert!(closed_after(&mut stream).await < Duration::from_secs(5));
        cut += 1;
        eventually(|| server.counted(&format!("{CUT} {cut}"))).await;
    }
    // Whoever only looks whether we are there is not counted.
    let mut looking = server.connect().await;
    looking.shutdown().await.unwrap();
    closed_after(&mut looking).await;
    // A good header from a peer that is not listed any more: it is not even read.
    peers.set(trusting("10.0.0.0/8"));
    let mut stream = server.connect().await;
    let _ = stream.write_all(&[V2, GET].concat()).await;
    assert_eq!(read_some(&mut stream).await, (String::new(), After::Closed));
    eventually(|| server.counted(&format!("{CUT} {}", cut + 1))).await;
    assert_eq!(server.seen(), 0);
}
