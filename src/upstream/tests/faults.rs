//! Each way to fail has its reason.

use http::Method;
use http_body_util::Full;

use super::*;

async fn reason_for(answer: &'static str) -> Reason {
    let (listener, core) = listen_with_core().await;
    answer_each(listener, Vec::leak(vec![answer]));
    send(&core, get("/")).await.err().unwrap().reason
}

#[test]
fn nobody_there_is_unreachable() {
    on_a_core(async {
        let (listener, address) = listen().await;
        drop(listener);
        for address in [address.as_str(), "unix:/nowhere/app.sock"] {
            let fault = send(&core_with(address, settings()), get("/")).await.err().unwrap();
            assert_eq!(fault.reason, Reason::UpstreamUnreachable);
            assert!(fault.detail.starts_with(address), "{fault}");
        }
    });
}

#[test]
fn what_is_no_answer_is_broken() {
    on_a_core(async {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\nhalf",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ] {
            assert_eq!(reason_for(answer).await, Reason::UpstreamBroken, "{answer}");
        }
    });
}

#[test]
fn a_head_beyond_the_bounds_is_broken() {
    on_a_core(async {
        let large = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(20 * 1024));
        assert_eq!(reason_for(large.leak()).await, Reason::UpstreamBroken);
        let endless = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(MEBIBYTE));
        assert_eq!(reason_for(endless.leak()).await, Reason::UpstreamBroken);
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
        assert_eq!(reason_for(many.leak()).await, Reason::UpstreamBroken);

        let (listener, address) = listen().await;
        let few = "HTTP/1.1 204 No Content\r\na: b\r\na: b\r\na: b\r\n\r\n";
        spawn_local(async move {
            for _ in 0..2 {
                accept(&listener).await.answer(few).await;
            }
        });
        let core = |max_headers| core_with(&address, UpstreamSettings { max_headers, ..settings() });
        assert!(send(&core(3), get("/")).await.is_ok());
        assert_eq!(send(&core(2), get("/")).await.err().unwrap().reason, Reason::UpstreamBroken);
    });
}

#[test]
fn an_upstream_that_closes_before_every_request_is_unreachable_or_broken_and_never_an_endless_loop() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        spawn_local(async move {
            loop {
                drop(listener.accept().await.unwrap());
            }
        });
        let reason = send(&core, get("/")).await.err().unwrap().reason;
        assert!(matches!(reason, Reason::UpstreamUnreachable | Reason::UpstreamBroken), "{reason}");
    });
}

#[test]
fn a_handshake_that_never_ends_is_a_timeout() {
    on_a_core(async {
        let (listener, _) = listen().await;
        let address = UpstreamAddress::Https { host: "localhost".to_owned(), port: listener.local_addr().unwrap().port() };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let upstream = Upstream { address, tls: Some(Arc::new(tls).into()) };
        let settings = UpstreamSettings { connect_timeout: SOON, ..settings() };
        let core = Upstreams::new(vec![Group::single(upstream)], settings, Tunnels::new(), Arc::new(SystemClock)).unwrap();
        assert_eq!(send(&core, get("/")).await.err().unwrap().reason, Reason::UpstreamTimeout);
    });
}

#[test]
fn an_upstream_that_has_all_and_says_nothing_is_a_timeout() {
    on_a_core(async {
        let (listener, address) = listen().await;
        let core = core_with(&address, UpstreamSettings { response_timeout: Some(SOON), ..settings() });
        assert_eq!(send(&core, get("/")).await.err().unwrap().reason, Reason::UpstreamTimeout);
        assert_eq!(send(&core, post(Full::new(Bytes::from_static(b"all")))).await.err().unwrap().reason, Reason::UpstreamTimeout);
        accept(&listener).await.closed().await;
    });
}

#[test]
fn a_slow_upload_is_not_the_upstreams_fault() {
    on_a_core(async {
        let (listener, address) = listen().await;
        let core = core_with(&address, UpstreamSettings { response_timeout: Some(SOON), ..settings() });
        spawn_local(async move {
            let mut upstream = accept(&listener).await;
            upstream.until("0\r\n\r\n").await;
            upstream.write("HTTP/1.1 204 No Content\r\n\r\n").await;
            upstream.closed().await;
        });
        let (sender, body) = frames();
        spawn_local(async move {
            for pause in [1, 3] {
                sleep(SOON * pause).await;
                sender.send(data("slow")).await.unwrap();
            }
        });
        assert!(send(&core, post(body)).await.is_ok());
    });
}

#[test]
fn what_no_caller_may_bring_is_refused_before_a_connection_is_made() {
    on_a_core(async {
        let core = core_with("http://127.0.0.1:1", settings());
        let hostless = Request::new(Empty::<Bytes>::new());
        assert_eq!(send(&core, hostless).await.err().unwrap().reason, Reason::Internal);
        let mut connect = get("/");
        *connect.method_mut() = Method::CONNECT;
        assert_eq!(send(&core, connect).await.err().unwrap().reason, Reason::MethodNotAllowed);
        let unknown = forward_to(&core, UpstreamId(1), get("/"), &Ending::never()).await;
        assert_eq!(unknown.err().unwrap().reason, Reason::Internal);
    });
}
