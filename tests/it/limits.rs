//! Bounds as the config sets them: what is cut, and that it is cut then and not by itself.
#![allow(clippy::disallowed_methods, reason = "one test measures how long an answer takes")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::browser::Browser;
use crate::harness::certs::CertificateAuthority;
use crate::harness::http::{fetch, get};
use crate::harness::raw::{RawAnswer, RawConnection};
use crate::harness::raw_h2::{RawH2, SETTINGS};
use crate::harness::scene::{PUBLIC, Scene, reason};
use crate::harness::wait::{PATIENCE, eventually_true};
use crate::harness::world::{Shape, World};

fn limited(keys: &str, routes: &str) -> Scene {
    Scene::start("", &format!("[limits]\n{keys}\n{routes}"))
}

async fn cut(scene: &Scene, cause: &str) -> u64 {
    scene.gateway.metric(&format!("doorward_connections_cut_total{{cause=\"{cause}\"}}")).await
}

/// A connection that has had its answer and waits.
async fn waiting(scene: &Scene) -> RawConnection {
    let mut connection = RawConnection::open(scene.gateway.address).await;
    connection.send(format!("GET /x HTTP/1.1\r\nHost: {}\r\n\r\n", scene.host())).await;
    let answers = RawAnswer::parse_all(&connection.read_answers().await);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200]);
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_waits_is_closed_after_idle_timeout_and_not_before() {
    let (short, long) = (limited("idle_timeout = \"400ms\"", PUBLIC), limited("", PUBLIC));
    let (mut closed, mut kept) = (waiting(&short).await, waiting(&long).await);
    assert!(closed.closes_within(PATIENCE).await);
    assert!(!kept.closes_within(Duration::from_secs(1)).await, "by itself it is kept for longer");
    assert_eq!((cut(&short, "header-timeout").await, cut(&short, "write-timeout").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downstream_that_takes_nothing_is_cut_after_write_timeout() {
    let (short, long) = (limited("write_timeout = \"400ms\"", PUBLIC), limited("", PUBLIC));
    let mut stuck = Vec::new();
    for scene in [&short, &long] {
        let mut connection = RawConnection::open(scene.gateway.address).await;
        connection.send(format!("GET /big?bytes=100000000 HTTP/1.1\r\nHost: {}\r\n\r\n", scene.host())).await;
        stuck.push(connection);
    }
    eventually_true("the cut is counted", async || cut(&short, "write-timeout").await == 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cut(&long, "write-timeout").await, 0, "by itself it is waited for longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_get_on_with_the_handshake_is_cut_after_tls_handshake_timeout() {
    let authority = CertificateAuthority::new();
    let leaf = authority.leaf(&["a.test"]);
    let table =
        format!("[tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n", leaf.certificate_file().display(), leaf.key_file().display());
    let start = |limits: &str| Scene::start_at("https://a.test", "", &format!("{limits}{table}{PUBLIC}"));
    let (short, long) = (start("[limits]\ntls_handshake_timeout = \"300ms\"\n"), start(""));
    let mut silent = RawConnection::open(short.gateway.address).await;
    let mut patient = RawConnection::open(long.gateway.address).await;
    assert!(silent.closes_within(PATIENCE).await);
    eventually_true("the cut is counted", async || cut(&short, "handshake").await == 1).await;
    assert!(!patient.closes_within(Duration::from_millis(700)).await, "by itself it is waited for longer");
    assert!(RawConnection::open_tls(short.gateway.address, "a.test", authority.client_config()).await.is_ok());
}

/// A place that takes no connection more: none is accepted, and no room is left for those that wait.
async fn full() -> (SocketAddr, tokio::net::TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(stream);
        assert!(waiting.len() < 50, "the place is never full");
    }
    (address, listener, waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_take_the_call_is_given_up_after_upstream_connect_timeout() {
    let (address, _listener, _waiting) = full().await;
    let route = format!("[[route]]\naccess = \"public\"\nupstream = \"http://{address}\"\n");
    let scene = limited("upstream_connect_timeout = \"300ms\"", &route);
    let begun = Instant::now();
    let answer = scene.get("/x", &[]).await;
    let after = begun.elapsed();
    assert!(matches!(answer.status.as_u16(), 502 | 504) && reason(&answer).starts_with("upstream-"), "{}", answer.text());
    assert!((Duration::from_millis(250)..Duration::from_secs(3)).contains(&after), "after {after:?}; by itself it takes 5 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_connections_wait_for_the_upstreams_next_request_as_the_config_says() {
    for (keys, most) in [("upstream_idle_connections = 1", 2), ("", 100)] {
        let scene = limited(keys, PUBLIC);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let call = get(&scene.url("/slow?ms=300"));
            calls.spawn(async move { fetch(call).await.status.as_u16() });
        }
        assert!(calls.join_all().await.iter().all(|status| *status == 200));
        if most < 100 {
            // One for each of the two cores.
            eventually_true("the others are closed", async || scene.upstream.open_connections() <= most).await;
        } else {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(scene.upstream.open_connections() > 2, "{}", scene.upstream.open_connections());
        }
        assert_eq!(scene.get("/x", &[]).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_as_long_as_token_bytes_says_and_no_longer() {
    let route = "[[route]]\naccept = [\"bearer\"]\nallow = \"any-authenticated\"\nupstream = \"@UPSTREAM@\"\n";
    for (keys, status) in [("token_bytes = \"2KiB\"", 400), ("", 200)] {
        let scene = limited(keys, route);
        let show = async |length: usize| {
            let token = scene.token(json!({ "x": "y".repeat(length) }));
            scene.get("/x", &[("authorization", &format!("Bearer {token}"))]).await
        };
        assert_eq!(show(300).await.status, 200, "{keys}");
        let reached = scene.upstream.count();
        let answer = show(3000).await;
        assert_eq!(answer.status.as_u16(), status, "{keys}: {}", answer.text());
        if status == 400 {
            assert_eq!((reason(&answer).as_str(), scene.upstream.count()), ("authorization-malformed", reached));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_provider_is_read_up_to_provider_answer_bytes() {
    for (tables, lets_in) in [("[limits]\nprovider_answer_bytes = \"16KiB\"\n", false), ("", true)] {
        let world = World::shaped(Shape { tables, ..Shape::default() }, |provider| provider);
        assert_eq!(world.visit(&mut Browser::new(), "/x").await.status, 200, "{tables}");
        let reached = world.upstream.count();
        world.provider.change_user(json!({ "about": "y".repeat(20_000) }));
        let page = world.visit(&mut Browser::new(), "/x").await;
        assert_eq!((page.status == 200, world.upstream.count() > reached), (lets_in, lets_in), "{tables}: {}", page.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_in_time_is_not_touched_by_any_of_it() {
    let keys = "idle_timeout = \"2s\"\nwrite_timeout = \"2s\"\nupstream_connect_timeout = \"2s\"\nupstream_idle_connections = 1\ntoken_bytes = \"1KiB\"";
    let scene = limited(keys, PUBLIC);
    for _ in 0..3 {
        let answer = fetch(get(&scene.url("/big?bytes=3000000"))).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 3_000_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_as_many_requests_at_once_as_streams_says() {
    for (keys, told) in [("streams = 3", 3), ("", 100)] {
        let scene = limited(keys, PUBLIC);
        let mut connection = RawH2::open(scene.gateway.address).await;
        let end = tokio::time::Instant::now() + PATIENCE;
        let settings = loop {
            let frame = connection.next_frame(end).await.expect("its settings come first");
            if frame.kind == SETTINGS && frame.flags == 0 {
                break frame.payload;
            }
        };
        // SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
        let most = settings.chunks_exact(6).find(|setting| setting[..2] == [0, 3]).map(|setting| setting[5]);
        assert_eq!(most, Some(told), "{keys}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_sessions_are_kept_in_memory_as_cached_sessions_says_and_the_others_count_all_the_same() {
    for (tables, kept) in [("[limits]\ncached_sessions = 2\n", 2), ("", 6)] {
        let world = World::shaped(Shape { tables, ..Shape::default() }, |provider| provider);
        let mut browsers = Vec::new();
        for _ in 0..6 {
            browsers.push(world.signed_in().await);
        }
        for browser in &mut browsers {
            assert_eq!(browser.get(&world.at("/app")).await.status, 200);
        }
        let cached = async || world.gateway.metric("doorward_sessions_cached").await;
        eventually_true("the cache is told", async || cached().await > 0).await;
        assert!(cached().await <= kept, "{tables}: {}", cached().await);
        if tables.is_empty() {
            eventually_true("all are kept", async || cached().await == kept).await;
        }
    }
}
