//! `101` and what follows it.

use super::*;

const ASK: &str = "GET /ws HTTP/1.1\r\nhost: app\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: a\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade, x-hop\r\nx-hop: 1\r\nupgrade: WebSocket\r\n\
                      sec-websocket-accept: b\r\n\r\n";

/// An upstream that switches and sends everything back.
fn echo(listener: TcpListener) {
    spawn_local(async move {
        let mut upstream = accept(&listener).await;
        upstream.answer(SWITCH).await;
        upstream.write("hello").await;
        let (mut read, mut write) = upstream.stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
}

async fn open_tunnel(core: &Rc<Upstreams>, ending: Ending) -> Peer<TcpStream> {
    let mut browser = browser(core, ending).await;
    browser.write(ASK).await;
    let head = browser.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for line in ["connection: upgrade\r\n", "upgrade: websocket\r\n", "sec-websocket-accept: b\r\n"] {
        assert!(head.contains(line), "{head}");
    }
    assert!(!head.contains("x-hop"), "{head}");
    assert_eq!(browser.until("hello").await, "hello");
    browser
}

#[test]
fn a_tunnel_carries_both_ways_until_one_side_ends_it() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        echo(listener);
        let mut browser = open_tunnel(&core, Ending::never()).await;
        assert_eq!(core.tunnels.open(), 1);
        let large = "x".repeat(MEBIBYTE);
        let (mut read, mut write) = browser.stream.split();
        let mut back = vec![0; MEBIBYTE];
        let (sent, got) = tokio::join!(write.write_all(large.as_bytes()), read.read_exact(&mut back));
        sent.unwrap();
        got.unwrap();
        assert_eq!(back, large.as_bytes());
        browser.stream.shutdown().await.unwrap();
        assert!(browser.closed().await.is_empty());
        sleep(Duration::from_millis(10)).await;
        assert_eq!(core.tunnels.open(), 0);
    });
}

#[test]
fn a_tunnel_ends_by_a_word_from_outside() {
    on_a_core(async {
        for way in 0..3 {
            let (listener, core) = listen_with_core().await;
            echo(listener);
            let ender = Ender::new();
            let mut browser = open_tunnel(&core, ender.ending()).await;
            assert!(timeout(SOON, browser.closed()).await.is_err(), "it was open");
            match way {
                0 => ender.end(),
                1 => drop(ender),
                _ => core.tunnels.end_all(),
            }
            assert!(browser.closed().await.is_empty());
            assert_eq!(core.tunnels.open(), 0);
        }
    });
}

#[test]
fn an_upgrade_that_the_upstream_declines_is_an_ordinary_answer() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        answer_each(listener, &["HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nno"]);
        let mut browser = browser(&core, Ending::never()).await;
        browser.write(ASK).await;
        assert!(browser.head().await.starts_with("HTTP/1.1 426 "));
        assert_eq!(browser.until("no").await, "no");
        assert_eq!(core.tunnels.open(), 0);
    });
}

#[test]
fn protocols_that_carry_requests_are_not_offered() {
    on_a_core(async {
        for (asked, offered) in [
            ("h2c", None),
            ("H2C, HTTP/2.0", None),
            ("TLS/1.0", None),
            ("h2c, websocket", Some("upgrade: websocket\r\n")),
            ("SPDY/3.1", Some("upgrade: SPDY/3.1\r\n")),
        ] {
            let (listener, core) = listen_with_core().await;
            let upstream = spawn_local(async move { accept(&listener).await.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await });
            let mut browser = browser(&core, Ending::never()).await;
            browser.write(&format!("GET / HTTP/1.1\r\nhost: app\r\nupgrade: {asked}\r\n\r\n")).await;
            assert!(browser.head().await.starts_with("HTTP/1.1 200 "));
            let head = upstream.await.unwrap();
            match offered {
                Some(line) => assert!(head.contains(line) && head.contains("connection: upgrade\r\n"), "{head}"),
                None => assert!(!head.contains("upgrade"), "{head}"),
            }
        }
    });
}

#[test]
fn a_switch_to_what_was_not_offered_is_broken() {
    on_a_core(async {
        for switch in [
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ] {
            let (listener, core) = listen_with_core().await;
            spawn_local(async move {
                let mut upstream = accept(&listener).await;
                upstream.answer(switch).await;
                upstream.closed().await;
            });
            let mut browser = browser(&core, Ending::never()).await;
            browser.write(ASK).await;
            let head = browser.head().await;
            assert!(head.starts_with("HTTP/1.1 502 ") && head.contains("upstream-broken"), "{head}");
        }
    });
}

#[test]
fn http_1_0_cannot_ask_for_an_upgrade() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let upstream = spawn_local(async move { accept(&listener).await.answer("HTTP/1.1 204 No Content\r\n\r\n").await });
        let mut browser = browser(&core, Ending::never()).await;
        browser.write(&ASK.replace("HTTP/1.1", "HTTP/1.0")).await;
        browser.head().await;
        assert!(!upstream.await.unwrap().contains("upgrade"));
    });
}
