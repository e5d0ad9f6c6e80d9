//! Bodies that stream both ways.

use std::cell::Cell;

use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::Full;

use super::*;

/// A body as large as asked for; counts what was taken of it.
struct Counted {
    left: usize,
    taken: Rc<Cell<usize>>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        static CHUNK: [u8; 16 * 1024] = [7; 16 * 1024];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= CHUNK.len();
        self.taken.set(self.taken.get() + CHUNK.len());
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK)))))
    }
}

#[test]
fn an_upstream_that_does_not_read_holds_the_upload_back() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let taken = Rc::new(Cell::new(0));
        let body = Counted { left: 64 * MEBIBYTE, taken: Rc::clone(&taken) };
        let sending = spawn_local({
            let core = Rc::clone(&core);
            async move { send(&core, post(body)).await.unwrap().status() }
        });
        let mut upstream = accept(&listener).await;
        sleep(SOON * 3).await;
        let held = taken.get();
        assert!(held < 16 * MEBIBYTE, "{held} bytes left the downstream");
        sleep(SOON).await;
        assert_eq!(taken.get(), held);

        // Read at last, all of it arrives.
        upstream.head().await;
        let mut sink = vec![0; MEBIBYTE];
        let mut read = upstream.read.len();
        while read < 64 * MEBIBYTE {
            read += upstream.stream.read(&mut sink).await.unwrap();
        }
        upstream.write("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(sending.await.unwrap(), StatusCode::NO_CONTENT);
    });
}

#[test]
fn a_downstream_that_does_not_read_holds_the_answer_back() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let written = Rc::new(Cell::new(0));
        spawn_local({
            let written = Rc::clone(&written);
            async move {
                let mut upstream = accept(&listener).await;
                upstream.answer(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 64 * MEBIBYTE)).await;
                let chunk = vec![7; 16 * 1024];
                while written.get() < 64 * MEBIBYTE {
                    upstream.stream.write_all(&chunk).await.unwrap();
                    written.set(written.get() + chunk.len());
                }
            }
        });
        let answer = send(&core, get("/")).await.unwrap();
        sleep(SOON * 3).await;
        let held = written.get();
        assert!(held < 16 * MEBIBYTE, "{held} bytes left the upstream");
        sleep(SOON).await;
        assert_eq!(written.get(), held);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 64 * MEBIBYTE);
    });
}

#[test]
fn trailers_pass_both_ways() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let upstream = spawn_local(async move {
            let mut upstream = accept(&listener).await;
            let request = upstream.until("0\r\nx-sum: 1\r\n\r\n").await;
            upstream.write("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n").await;
            request
        });
        let (sender, body) = frames();
        let mut request = post(body);
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        request.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        spawn_local(async move {
            sender.send(data("hello")).await.unwrap();
            let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("1"))]);
            sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        });
        let answer = send(&core, request).await.unwrap();
        assert_eq!(answer.headers()["trailer"], "x-sum");
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-sum"], "2");
        assert_eq!(body.to_bytes(), "ok");
        let request = upstream.await.unwrap();
        assert!(request.contains("te: trailers\r\n") && request.contains("connection: te\r\n"), "{request}");
        assert!(request.contains("\r\n5\r\nhello\r\n"), "{request}");
    });
}

#[test]
fn a_get_with_a_body_of_unknown_length_keeps_it() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let upstream = spawn_local(async move {
            let mut upstream = accept(&listener).await;
            let request = upstream.until("0\r\n\r\n").await;
            upstream.write("HTTP/1.1 204 No Content\r\n\r\n").await;
            request
        });
        let (sender, body) = frames();
        spawn_local(async move { sender.send(data("query")).await.unwrap() });
        let request = Request::get("/").header("host", "app").body(body).unwrap();
        send(&core, request).await.unwrap();
        let request = upstream.await.unwrap();
        assert!(request.contains("transfer-encoding: chunked\r\n") && request.contains("5\r\nquery\r\n"), "{request}");
    });
}

#[test]
fn an_upstream_that_breaks_off_is_an_error_and_not_an_end() {
    on_a_core(async {
        for (begin, browser_sees) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "content-length: 10"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", "chunked"),
        ] {
            let (listener, core) = listen_with_core().await;
            spawn_local(async move {
                for _ in 0..2 {
                    accept(&listener).await.answer(begin).await;
                }
            });
            let answer = send(&core, get("/")).await.unwrap();
            assert!(answer.into_body().collect().await.is_err(), "{begin}");

            let mut browser = browser(&core, Ending::never()).await;
            browser.write("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
            let seen = String::from_utf8(browser.closed().await).unwrap();
            assert!(seen.contains(browser_sees) && !seen.ends_with("0\r\n\r\n"), "{seen}");
        }
    });
}

#[test]
fn an_answer_before_the_end_of_the_request_is_delivered() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let upstream = spawn_local(async move {
            let mut upstream = accept(&listener).await;
            upstream.until("begin").await;
            upstream.write("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
            upstream.until("0\r\n\r\n").await;
            // The request came to its end, so the connection serves the next one.
            upstream.answer("HTTP/1.1 204 No Content\r\n\r\n").await;
        });
        let (sender, body) = frames();
        sender.send(data("begin")).await.unwrap();
        let answer = send(&core, post(body)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(text(answer).await, "big");
        sleep(SOON).await;
        sender.send(data("more")).await.unwrap();
        drop(sender);
        sleep(SOON).await;
        assert_eq!(send(&core, get("/")).await.unwrap().status(), StatusCode::NO_CONTENT);
        upstream.await.unwrap();
    });
}

#[test]
fn an_upload_to_a_connection_that_is_not_used_again_is_cut_when_its_answer_is_complete() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let upstream = spawn_local(async move {
            let mut upstream = accept(&listener).await;
            upstream.until("begin").await;
            upstream.write("HTTP/1.0 413 Content Too Large\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nbig").await;
            upstream.closed().await;
        });
        let (sender, body) = frames();
        sender.send(data("begin")).await.unwrap();
        assert_eq!(text(send(&core, post(body)).await.unwrap()).await, "big");
        upstream.await.unwrap();
        assert!(sender.is_closed());
    });
}

#[test]
fn a_place_is_taken_until_the_upload_is_through_as_well() {
    on_a_core(async {
        for answer in [
            "HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig",
            "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n",
        ] {
            let (listener, address) = listen().await;
            let settings = UpstreamSettings { connect_timeout: SOON, ..settings() };
            let core = core_of(&address, settings, GroupSettings { connections: Some(1), ..GroupSettings::default() });
            let upstream = spawn_local(async move {
                let mut upstream = accept(&listener).await;
                upstream.until("begin").await;
                upstream.write(answer).await;
                upstream.until("0\r\n\r\n").await;
                upstream.answer("HTTP/1.1 204 No Content\r\n\r\n").await;
            });
            let (sender, body) = frames();
            sender.send(data("begin")).await.unwrap();
            text(send(&core, post(body)).await.unwrap()).await;
            assert_eq!(send(&core, get("/")).await.err().unwrap().reason, Reason::UpstreamBusy, "{answer}");
            drop(sender);
            sleep(SOON).await;
            assert_eq!(send(&core, get("/")).await.unwrap().status(), StatusCode::NO_CONTENT);
            upstream.await.unwrap();
        }
    });
}

#[test]
fn an_upload_that_breaks_off_cuts_its_connection() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let upstream = spawn_local(async move {
            let mut first = accept(&listener).await;
            first.until("begin").await;
            let rest = first.closed().await;
            assert!(!rest.ends_with(b"0\r\n\r\n"), "half a body must not look whole");
            accept(&listener).await.answer("HTTP/1.1 204 No Content\r\n\r\n").await;
        });
        let (sender, body) = frames();
        sender.send(data("begin")).await.unwrap();
        let (fault, ()) = tokio::join!(send(&core, post(body)), async {
            sleep(SOON).await;
            sender.send(Err(Fault::new(Reason::BodyTooLarge, "more than 5 bytes").into())).await.unwrap();
        });
        assert_eq!(fault.err().unwrap(), Fault::new(Reason::BodyTooLarge, "more than 5 bytes"));
        assert_eq!(send(&core, get("/")).await.unwrap().status(), StatusCode::NO_CONTENT);
        upstream.await.unwrap();
    });
}

#[test]
fn a_content_length_that_is_not_the_bodys_is_never_sent() {
    on_a_core(async {
        let core = core_with("http://127.0.0.1:1", settings());
        for lengths in [&["5"][..], &["3", "3"], &["+3"], &["3, 3"]] {
            let mut request = post(Full::new(Bytes::from_static(b"abc")));
            for length in lengths {
                request.headers_mut().append("content-length", HeaderValue::from_static(length));
            }
            assert_eq!(send(&core, request).await.err().unwrap().reason, Reason::Internal, "{lengths:?}");
        }
        let mut request = get("/");
        request.headers_mut().insert("content-length", HeaderValue::from_static("5"));
        assert_eq!(send(&core, request).await.err().unwrap().reason, Reason::Internal);
    });
}
