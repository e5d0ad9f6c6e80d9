//! What comes back, and over what.

use http::{HeaderValue, Method, StatusCode, Version};
use http_body_util::Full;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::UnixListener;

use super::*;
use crate::clock::Clock as _;

#[test]
fn a_static_upstream_answers_by_itself() {
    on_a_core(async {
        let core = core_with("static:204", settings());
        let answer = send(&core, get("/")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert!(answer.body().is_end_stream());
        assert_eq!(text(answer).await, "");
    });
}

#[test]
fn the_request_arrives_in_origin_form_with_its_bytes_as_they_are() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let upstream = spawn_local(async move { accept(&listener).await.answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await });
        let mut request = get("http://else.where:81/a%20b/%C3%A4?x=%41&y");
        *request.version_mut() = Version::HTTP_2;
        let answer = send(&core, request).await.unwrap();
        assert_eq!(answer.headers()["content-length"], "2");
        assert_eq!(answer.body().size_hint().exact(), Some(2));
        assert_eq!(text(answer).await, "ok");
        assert_eq!(upstream.await.unwrap(), "GET /a%20b/%C3%A4?x=%41&y HTTP/1.1\r\nhost: app\r\n\r\n");
    });
}

#[test]
fn answers_without_a_body_end_at_once_and_keep_their_headers() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        spawn_local(async move {
            let mut upstream = accept(&listener).await;
            upstream.answer("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n").await;
            upstream.answer("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 12\r\n\r\n").await;
            upstream.answer("HTTP/1.1 204 No Content\r\n\r\n").await;
            upstream.answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok").await;
            upstream.answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
        });
        let mut head = get("/");
        *head.method_mut() = Method::HEAD;
        let answer = send(&core, head).await.unwrap();
        assert_eq!((answer.headers()["content-length"].as_bytes(), answer.body().is_end_stream()), (&b"12"[..], true));
        let answer = send(&core, get("/")).await.unwrap();
        assert_eq!((answer.headers()["content-length"].as_bytes(), answer.body().is_end_stream()), (&b"12"[..], true));
        let answer = send(&core, get("/")).await.unwrap();
        assert_eq!((answer.status(), answer.body().is_end_stream()), (StatusCode::NO_CONTENT, true));
        let answer = send(&core, get("/")).await.unwrap();
        assert_eq!(answer.headers().get_all("content-length").iter().count(), 1);
        assert_eq!(text(answer).await, "ok");
        // The coding wins over the length, and neither is the next hop's.
        let answer = send(&core, get("/")).await.unwrap();
        assert!(!answer.headers().contains_key("content-length") && !answer.headers().contains_key("transfer-encoding"));
        assert_eq!(text(answer).await, "ok");
    });
}

#[test]
fn old_upstreams_are_understood_and_have_a_connection_for_each_request() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        answer_each(
            listener,
            &[
                "HTTP/1.0 200 OK\r\n\r\nread until close",
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nold",
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil close too",
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nclose",
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew",
            ],
        );
        for expected in ["read until close", "old", "until close too", "close", "new"] {
            let answer = send(&core, get("/")).await.unwrap();
            assert_eq!(answer.version(), Version::HTTP_11);
            assert_eq!(text(answer).await, expected);
        }
    });
}

#[test]
fn expect_continue_works_through_both_hops_and_hints_are_skipped() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let mut browser = browser(&core, Ending::never()).await;
        let upstream = spawn_local(async move {
            let mut upstream = accept(&listener).await;
            let head = upstream.head().await;
            upstream.write("HTTP/1.1 100 Continue\r\n\r\n").await;
            let body = upstream.until("hello").await;
            upstream.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await;
            (head, body)
        });
        browser.write("POST / HTTP/1.1\r\nhost: app\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n").await;
        assert_eq!(browser.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        browser.write("hello").await;
        assert!(browser.head().await.starts_with("HTTP/1.1 201 Created\r\n"));
        let (head, body) = upstream.await.unwrap();
        assert!(head.contains("expect: 100-continue\r\n"), "{head}");
        assert_eq!(body, "hello");
    });
}

#[test]
fn an_upstream_that_refuses_the_expectation_is_heard() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        answer_each(listener, &["HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"]);
        let (_sender, body) = frames();
        let mut request = post(body);
        request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
        assert_eq!(send(&core, request).await.unwrap().status(), StatusCode::EXPECTATION_FAILED);
    });
}

#[test]
fn a_unix_socket_is_an_upstream() {
    on_a_core(async {
        let path = std::env::temp_dir().join(format!("doorward-upstream-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let core = core_with(&format!("unix:{}", path.display()), settings());
        spawn_local(async move {
            let mut upstream = Peer::new(listener.accept().await.unwrap().0);
            for _ in 0..2 {
                upstream.answer("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nunix").await;
            }
        });
        for _ in 0..2 {
            assert_eq!(text(send(&core, get("/")).await.unwrap()).await, "unix");
        }
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn tls_is_checked_against_the_host_and_offers_http_1_1_only() {
    on_a_core(async {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let trusting = |roots| {
            let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
            Arc::new(config.with_root_certificates(roots).with_no_client_auth())
        };

        let (listener, _) = listen().await;
        let port = listener.local_addr().unwrap().port();
        spawn_local(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(tls) = acceptor.accept(stream).await else { continue };
                let session = tls.get_ref().1;
                assert_eq!((session.alpn_protocol(), session.server_name()), (Some(&b"http/1.1"[..]), Some("localhost")));
                let mut upstream = Peer::new(tls);
                upstream.until("secret").await;
                upstream.write("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntls").await;
            }
        });
        let core = |host: &str, tls| {
            let address = UpstreamAddress::Https { host: host.to_owned(), port };
            Upstreams::new(vec![Group::single(Upstream { address, tls })], settings(), Tunnels::new(), Arc::new(SystemClock))
        };
        assert!(matches!(core("localhost", None), Err(TlsMissing(_))));

        let trusted = core("localhost", Some(trusting(roots.clone()).into())).unwrap();
        let answer = send(&trusted, post(Full::new(Bytes::from_static(b"secret")))).await.unwrap();
        assert_eq!(text(answer).await, "tls");
        for (host, tls) in [("localhost", trusting(rustls::RootCertStore::empty())), ("127.0.0.1", trusting(roots))] {
            let fault = send(&core(host, Some(tls.into())).unwrap(), get("/")).await.err().unwrap();
            assert_eq!(fault.reason, Reason::UpstreamUnreachable);
            assert!(fault.detail.contains("certificate"), "{fault}");
        }
    });
}

#[test]
fn an_answer_that_takes_long_is_not_cut_once_it_has_begun() {
    on_a_core(async {
        let (listener, address) = listen().await;
        let core = core_with(&address, UpstreamSettings { response_timeout: Some(SOON), idle_timeout: SOON, ..settings() });
        spawn_local(async move {
            let mut upstream = accept(&listener).await;
            upstream.answer("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
            sleep(SOON * 4).await;
            upstream.write("2\r\nok\r\n0\r\n\r\n").await;
        });
        let begun = SystemClock.instant();
        assert_eq!(text(send(&core, get("/")).await.unwrap()).await, "ok");
        assert!(SystemClock.instant() - begun >= SOON * 4);
    });
}
