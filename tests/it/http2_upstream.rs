//! HTTP/2 towards the upstream: what is spoken there, under which name, and what HTTP/2 cannot carry.

use std::time::Duration;

use http::{Request, Version};
use tokio::time::timeout;

use crate::harness::body::streamed;
use crate::harness::certs::CertificateAuthority;
use crate::harness::held::Held;
use crate::harness::http::{HttpClient, Protocol, get};
use crate::harness::scene::{Scene, reason};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::PATIENCE;
use crate::harness::websocket::WebSocket;
use crate::harness::world::{Shape, World};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

fn h2c(upstream: &EchoUpstream) -> String {
    format!("h2c://{}", upstream.address())
}

/// Over TLS, and two routes to it: plain HTTP/2 without TLS at `/h2c/`, with TLS at `/h2/`.
fn both(alpn: &[&str]) -> (CertificateAuthority, EchoUpstream, EchoUpstream, Scene) {
    let authority = CertificateAuthority::new();
    let secure = EchoUpstream::start_tls(&authority.leaf(&["localhost"]), "localhost", alpn);
    let plain = EchoUpstream::start();
    let tables = format!(
        "[[route]]\npath = \"/h2c/\"\naccess = \"public\"\nupstream = \"{}\"\n\
         [[route]]\npath = \"/h2/\"\naccess = \"public\"\nupstream = \"{}\"\ntls = {{ ca_file = \"{}\" }}\n",
        h2c(&plain),
        secure.url().replace("https://", "h2://"),
        authority.file().display()
    );
    let scene = Scene::start("", &tables);
    (authority, plain, secure, scene)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_spoken_to_by_http2_when_its_address_says_so() {
    let (_authority, plain, secure, scene) = both(&["h2", "http/1.1"]);
    for protocol in BOTH {
        for (path, scheme, upstream) in [("/h2c/x?y=%2f", "http", &plain), ("/h2/x?y=%2f", "https", &secure)] {
            let headers = [("te", "trailers"), ("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "5"), ("x-own", "kept")];
            let headers = if protocol == Protocol::Http1 { &headers[..] } else { &headers[4..] };
            let answer = scene.send(protocol, "GET", path, headers).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let seen = upstream.last();
            assert_eq!((seen.version, seen.target.as_str()), (Version::HTTP_2, path), "{scheme}");
            assert_eq!((seen.authority.as_deref(), seen.header("host")), (Some(scene.host().as_str()), None));
            assert_eq!(seen.header("x-own").as_deref(), Some("kept"));
            for name in ["connection", "x-hop", "keep-alive", "transfer-encoding", "upgrade"] {
                assert_eq!(seen.header(name), None, "{name}");
            }
        }
    }
    // Two cores at most, one connection each.
    assert!(plain.connections() <= 2 && secure.connections() <= 2, "{} {}", plain.connections(), secure.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_is_the_host_that_the_route_says() {
    let upstream = EchoUpstream::start();
    let route = |path: &str, host: &str| {
        format!("[[route]]\npath = \"/{path}/\"\naccess = \"public\"\nupstream = \"{}\"\nupstream_host = \"{host}\"\n", h2c(&upstream))
    };
    let scene = Scene::start("", &[route("keep", "keep"), route("upstream", "upstream"), route("named", "wiki.internal:81")].concat());
    for (path, host) in [("keep", scene.host()), ("upstream", upstream.address().to_string()), ("named", "wiki.internal:81".to_owned())] {
        for protocol in BOTH {
            assert_eq!(scene.send(protocol, "GET", &format!("/{path}/x"), &[]).await.status, 200);
            let seen = upstream.last();
            assert_eq!((seen.authority.clone(), seen.header_all("x-forwarded-host")), (Some(host.clone()), vec![scene.host()]), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_http2_is_unreachable_and_the_log_says_what_to_write() {
    let (_authority, _plain, secure, scene) = both(&["http/1.1"]);
    let answer = scene.get("/h2/x", &[]).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str(), secure.count()), (502, "upstream-unreachable", 0));
    let line = scene.gateway.access_line("/h2/x").await;
    assert!(line.contains("NoApplicationProtocol") || line.contains("https://"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_have_a_connection_of_their_own_with_tls_and_are_refused_without() {
    let (_authority, plain, secure, scene) = both(&["h2", "http/1.1"]);
    let (client, url) = (HttpClient::new(), |path: &str| scene.url(path).replace("http://", "ws://"));
    let mut socket = WebSocket::connect(&client, &url("/h2/ws"), &[]).await.unwrap_or_else(|answer| panic!("{}", answer.text()));
    assert!(socket.echo("hello").await);
    assert_eq!(secure.last().version, Version::HTTP_11);
    // Beside it requests go on by HTTP/2, also where an upgrade was declined.
    assert_eq!(WebSocket::connect(&client, &url("/h2/status/403"), &[]).await.err().expect("no socket").status, 403);
    for _ in 0..3 {
        assert_eq!(scene.get("/h2/x", &[]).await.status, 200);
        assert_eq!(secure.last().version, Version::HTTP_2);
    }
    let refused = WebSocket::connect(&client, &url("/h2c/ws"), &[]).await.err().expect("no socket");
    assert_eq!((refused.status.as_u16(), reason(&refused).as_str(), plain.count()), (501, "upgrade-unsupported", 0));
    // An offer of HTTP/2 by those who could do without is none that anybody has to take.
    let answer = scene
        .raw("GET", "/h2c/x", &["Connection: upgrade, http2-settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"])
        .await;
    assert_eq!((answer.status, plain.last().version), (200, Version::HTTP_2));

    let (_authority, _plain, secure, scene) = both(&["h2"]);
    assert_eq!(scene.get("/h2/x", &[]).await.status, 200);
    let refused = WebSocket::connect(&client, &scene.url("/h2/ws").replace("http://", "ws://"), &[]).await.err().expect("no socket");
    assert_eq!((refused.status.as_u16(), reason(&refused).as_str(), secure.count()), (502, "upstream-unreachable", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_trailers_pass_both_ways_as_they_come() {
    let (_authority, plain, _secure, scene) = both(&["h2"]);
    for protocol in BOTH {
        for path in ["/h2c", "/h2"] {
            let (sender, body) = streamed();
            assert!(sender.send("first").await);
            let request = Request::post(scene.url(&format!("{path}/mirror"))).header("trailer", "x-sum").header("te", "trailers");
            let mut answer = HttpClient::new().speaking(protocol).open(request.body(body).unwrap()).await.unwrap();
            for piece in ["first", "second", "third"] {
                if piece != "first" {
                    assert!(sender.send(piece).await);
                }
                let mut back = Vec::new();
                while back.len() < piece.len() {
                    back.extend_from_slice(&timeout(PATIENCE, answer.next()).await.unwrap().expect("the answer goes on"));
                }
                assert_eq!(back, piece.as_bytes(), "{protocol:?} {path}");
            }
            // What authenticates or frames has no place there (RFC 9110 §6.5.1), whoever would send it on.
            let trailers = [("x-sum", "42"), ("authorization", "Bearer evil"), ("cookie", "a=b"), ("content-length", "1")];
            sender.trailers(trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).into_iter().collect()).await;
            let rest = answer.whole().await.unwrap();
            assert_eq!(rest.trailers.get("x-sum").unwrap(), "42", "{protocol:?} {path}");
            assert_eq!(rest.trailers.len(), 1, "{protocol:?} {path}: {:?}", rest.trailers);
        }
        let answer = scene.send(protocol, "GET", "/h2c/trailers", &[("te", "trailers")]).await;
        assert_eq!((answer.text().as_str(), answer.trailers.get("grpc-status").unwrap().as_bytes()), ("with trailers\n", &b"0"[..]));
        // Heads alone.
        for (method, path, status) in [("HEAD", "/h2c/big?bytes=1000", 200), ("GET", "/h2c/early/204", 204), ("GET", "/h2c/early/304", 304)]
        {
            let answer = scene.send(protocol, method, path, &[]).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0), "{protocol:?} {path}");
        }
        assert_eq!(scene.send(protocol, "HEAD", "/h2c/big?bytes=1000", &[]).await.header("content-length"), Some("1000"), "{protocol:?}");
    }
    assert!(plain.count() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_comes_at_once_and_a_reader_that_leaves_ends_its_own_stream_alone() {
    let (_authority, plain, secure, scene) = both(&["h2"]);
    for (path, upstream) in [("/h2c", &plain), ("/h2", &secure)] {
        for protocol in BOTH {
            let client = HttpClient::new().speaking(protocol);
            let stays =
                Held::events(&client, &scene.url(&format!("{path}/sse")), &[]).await.unwrap_or_else(|answer| panic!("{}", answer.text()));
            let mut answer = client.open(get(&scene.url(&format!("{path}/sse")))).await.unwrap();
            let first = timeout(PATIENCE, answer.next()).await.unwrap().unwrap();
            assert!(first.starts_with(b"id: 0\n"), "{first:?}");
            upstream.streams_become(2).await;
            drop(answer);
            upstream.streams_become(1).await;
            let before = stays.pieces();
            crate::harness::wait::eventually("one more event", || (stays.pieces() > before + 1).then_some(())).await;
            drop(stays);
            upstream.streams_become(0).await;
        }
        assert!(upstream.connections() <= 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_never_looks_whole() {
    let (_authority, _plain, _secure, scene) = both(&["h2"]);
    for protocol in BOTH {
        for path in ["/h2c", "/h2"] {
            let request = get(&scene.url(&format!("{path}/break?bytes=100000")));
            let mut answer = HttpClient::new().speaking(protocol).open(request).await.unwrap();
            let end = loop {
                match timeout(PATIENCE, answer.try_next()).await.unwrap() {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            };
            assert!(end.is_err(), "{protocol:?} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_went_away_and_came_back_is_asked_again() {
    let (_authority, plain, _secure, scene) = both(&["h2"]);
    for protocol in BOTH {
        assert_eq!(scene.send(protocol, "GET", "/h2c/x", &[]).await.status, 200);
        plain.stop().await;
        let answer = scene.send(protocol, "GET", "/h2c/x", &[]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (502, "upstream-unreachable"));
        plain.start_again();
        assert_eq!(scene.send(protocol, "GET", "/h2c/x", &[]).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_its_streams_there_too_and_a_reload_does_not() {
    let upstream = EchoUpstream::start();
    let route = format!("[[route]]\nupstream = \"{}\"\nallow = \"any-authenticated\"\n", h2c(&upstream));
    let world = World::shaped(Shape { routes: Some(&route), ..Shape::default() }, |provider| provider);
    let mut browser = world.signed_in().await;
    let cookie = format!("doorward={}", world.session(&browser).expect("a session"));
    let mut streams = Vec::new();
    for protocol in BOTH {
        let client = HttpClient::new().speaking(protocol);
        let held = Held::events(&client, &world.at("/sse"), &[("cookie", &cookie)]).await;
        streams.push(held.unwrap_or_else(|answer| panic!("{}", answer.text())));
    }
    let connections = upstream.connections();
    world.gateway.reload(&format!("{}\n# again\n", world.gateway.config())).await.expect("a good config");
    for stream in &streams {
        assert_eq!(stream.end(), None);
    }
    let page = browser.get(&world.at("/oauth2/session")).await;
    browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    for stream in &streams {
        assert!(stream.ends_within(Duration::from_secs(1)).await.is_some(), "open after a second");
    }
    upstream.streams_become(0).await;
    assert!(upstream.connections() <= connections.max(2));
}
