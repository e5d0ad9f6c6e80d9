//! Balancers that pass bytes on and say for whom, by the PROXY protocol: whom they name counts, and nobody else may speak so.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::harness::body::empty;
use crate::harness::certs::CertificateAuthority;
use crate::harness::fronts::haproxy;
use crate::harness::http::Connection;
use crate::harness::raw::{self, RawAnswer, RawConnection};
use crate::harness::scene::{PUBLIC, Scene, raw_reason};
use crate::harness::wait::{PATIENCE, eventually_true};

const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x12\x34\x01\xbb";
/// A proxy's own connection, to see whether we live.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

fn behind(top: &str) -> Scene {
    Scene::start(&format!("proxy_protocol = true\n{top}"), PUBLIC)
}

async fn through(scene: &Scene, header: &[u8], target: &str, lines: &[&str]) -> RawAnswer {
    let request = raw::request("GET", target, &scene.host(), lines);
    raw::raw_answer(scene.gateway.address, [header, &request].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_the_header_names_is_the_peer_and_speaks_for_nobody_else() {
    let scene = behind("trusted_proxies = [\"127.0.0.1\", \"10.0.0.5\"]\nhealth_path = \"/ping\"");
    let said = ["X-Forwarded-For: 198.51.100.1"];
    let listed = b"PROXY TCP4 10.0.0.5 10.0.0.1 4660 443\r\n";
    for (place, header, forwarded_for, address) in [
        ("a", LINE, "203.0.113.7", "203.0.113.7"),
        ("b", BINARY, "203.0.113.7", "203.0.113.7"),
        // A reverse proxy before the balancer: it is listed itself.
        ("c", &listed[..], "198.51.100.1, 10.0.0.5", "198.51.100.1"),
        // The balancer names nobody: what comes is not its own word, though it is listed.
        ("d", LOCAL, "127.0.0.1", "127.0.0.1"),
        ("e", UNKNOWN, "127.0.0.1", "127.0.0.1"),
    ] {
        let path = format!("/{place}");
        assert_eq!(through(&scene, header, &path, &said).await.status, 200, "{place}");
        assert_eq!(scene.upstream.last().header("x-forwarded-for").as_deref(), Some(forwarded_for), "{place}");
        let line = scene.gateway.access_line(&format!("path={path} ")).await;
        assert!(line.contains(&format!("address={address} ")), "{place}: {line}");
    }
    // Nor is a question of forward-auth believed that comes through it.
    let asked = ["X-Original-URI: /x", "X-Original-Method: GET", "X-Forwarded-Proto: http", "X-Forwarded-For: 198.51.100.1"];
    let count = scene.upstream.count();
    for header in [LINE, LOCAL, UNKNOWN] {
        let answer = through(&scene, header, "/oauth2/auth", &asked).await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (401, "peer-not-trusted"));
    }
    // A balancer's own look at us goes the same way.
    assert_eq!(through(&scene, LOCAL, "/ping", &[]).await.text(), "OK\n");
    assert_eq!(scene.upstream.count(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_the_header_and_of_peers_that_are_not_listed_are_closed() {
    const CUT: &str = "doorward_connections_cut_total{cause=\"proxy-header\"}";
    for (top, bytes) in [
        ("trusted_proxies = [\"127.0.0.1\"]", &b""[..]),
        ("trusted_proxies = [\"10.0.0.0/8\"]", LINE),
        ("trusted_proxies = [\"unix\"]", BINARY),
    ] {
        let scene = behind(top);
        let mut connection = RawConnection::open(scene.gateway.address).await;
        let request = raw::request("GET", "/x", &scene.host(), &[]);
        connection.send([bytes, &request].concat()).await;
        assert!(connection.closes_within(PATIENCE).await, "{top}");
        assert!(connection.take_received().is_empty(), "{top}");
        eventually_true("it is counted", async || scene.gateway.metric(CUT).await == 1).await;
        assert_eq!(scene.upstream.count(), 0, "{top}");
    }
    // Where it is off, a header is no request.
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]", PUBLIC);
    assert_eq!(through(&scene, LINE, "/x", &[]).await.status, 400);
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_comes_before_tls() {
    let authority = CertificateAuthority::new();
    let leaf = authority.leaf(&["localhost"]);
    let tables = format!(
        "[tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n{PUBLIC}",
        leaf.certificate_file().display(),
        leaf.key_file().display()
    );
    let top = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]";
    let scene = Scene::start_at("https://localhost:@PORT@", top, &tables);
    for (alpn, header) in [("http/1.1", LINE), ("h2", BINARY)] {
        let mut stream = TcpStream::connect(scene.gateway.address).await.unwrap();
        stream.write_all(header).await.unwrap();
        let mut config = (*authority.client_config()).clone();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let mut connection = Connection::start(Box::new(stream), alpn == "h2").await.unwrap();
        let answer = connection.fetch(Request::get(scene.url("/x")).body(empty()).unwrap()).await;
        assert_eq!(answer.status, 200, "{alpn}");
        assert_eq!(scene.upstream.last().header("x-forwarded-for").as_deref(), Some("203.0.113.7"));
    }
    // TLS first is no header.
    assert!(RawConnection::open_tls(scene.gateway.address, "localhost", authority.client_config()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_says_for_whom_it_passes_bytes_on() {
    let scene = behind("trusted_proxies = [\"127.0.0.1\"]");
    let front = haproxy(
        "listen one\n  bind 127.0.0.1:@PORT@\n  server gateway @GATEWAY@ send-proxy\n\
         listen two\n  bind 127.0.0.1:@PORT2@\n  server gateway @GATEWAY@ send-proxy-v2 proxy-v2-options crc32c,unique-id\n",
        &[("@GATEWAY@", &scene.host())],
    )
    .await;
    for (n, from) in [(0, "127.0.0.2"), (1, "127.0.0.3")] {
        // Whoever connects does so from an address that is not the proxy's.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        let stream = socket.connect(front.nth_address(n)).await.unwrap();
        let mut connection = RawConnection::over(Box::new(stream));
        connection.send(raw::request("GET", "/x", &scene.host(), &["X-Forwarded-For: 198.51.100.1"])).await;
        let answers = RawAnswer::parse_all(&connection.read_answers().await);
        assert_eq!(answers[0].status, 200);
        assert_eq!(scene.upstream.last().header("x-forwarded-for").as_deref(), Some(from));
    }
}
