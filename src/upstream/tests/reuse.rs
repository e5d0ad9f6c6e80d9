//! Which connection a request takes, and which ones wait.

use std::cell::Cell;
use std::io::{Read as _, Write as _};

use http::Method;
use http_body_util::Full;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Counts connections and requests; answers every request without body the same way.
fn counting(listener: TcpListener, answer: &'static str) -> Rc<(Cell<usize>, Cell<usize>)> {
    let counts = Rc::<(Cell<usize>, Cell<usize>)>::default();
    let counted = Rc::clone(&counts);
    spawn_local(async move {
        loop {
            let mut upstream = accept(&listener).await;
            counted.0.set(counted.0.get() + 1);
            let counted = Rc::clone(&counted);
            spawn_local(async move {
                loop {
                    let mut first = [0];
                    if upstream.stream.peek(&mut first).await.unwrap_or(0) == 0 {
                        break;
                    }
                    upstream.head().await;
                    counted.1.set(counted.1.get() + 1);
                    upstream.write(answer).await;
                }
            });
        }
    });
    counts
}

#[test]
fn one_after_the_other_they_share_a_connection() {
    on_a_core(async {
        for answer in [
            OK,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
        ] {
            let (listener, core) = listen_with_core().await;
            let counts = counting(listener, answer);
            for _ in 0..20 {
                assert_eq!(text(send(&core, get("/")).await.unwrap()).await, "ok");
            }
            assert_eq!((counts.0.get(), counts.1.get()), (1, 20), "{answer}");
        }
        let (listener, core) = listen_with_core().await;
        let counts = counting(listener, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
        for _ in 0..20 {
            let mut head = get("/");
            *head.method_mut() = Method::HEAD;
            send(&core, head).await.unwrap();
        }
        assert_eq!((counts.0.get(), counts.1.get()), (1, 20));
    });
}

#[test]
fn an_upstream_that_speaks_http_1_0_has_a_connection_for_each_request() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let counts = counting(listener, "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok");
        for _ in 0..3 {
            assert_eq!(text(send(&core, get("/")).await.unwrap()).await, "ok");
        }
        assert_eq!((counts.0.get(), counts.1.get()), (3, 3));
    });
}

#[test]
fn at_the_same_time_each_has_its_own_and_only_so_many_wait() {
    on_a_core(async {
        let (listener, address) = listen().await;
        let core = core_with(&address, UpstreamSettings { max_idle_per_core: 3, ..settings() });
        let counts = counting(listener, OK);
        for connections in [5, 7] {
            let mut answers = Vec::new();
            for _ in 0..5 {
                answers.push(send(&core, get("/")).await.unwrap());
            }
            assert_eq!(counts.0.get(), connections, "three of five waited");
            for answer in answers {
                text(answer).await;
            }
        }
    });
}

#[test]
fn a_connection_that_waited_too_long_is_closed_and_not_taken() {
    on_a_core(async {
        let (listener, address) = listen().await;
        let core = core_with(&address, UpstreamSettings { idle_timeout: SOON, ..settings() });
        let upstream = spawn_local(async move {
            let mut first = accept(&listener).await;
            first.answer(OK).await;
            assert!(first.closed().await.is_empty());
            accept(&listener).await.answer(OK).await;
        });
        text(send(&core, get("/")).await.unwrap()).await;
        assert_eq!(core_idle(&core), 1);
        sleep(SOON * 3).await;
        assert_eq!(core_idle(&core), 0, "swept though nobody asked");
        text(send(&core, get("/")).await.unwrap()).await;
        upstream.await.unwrap();
    });
}

/// Reads one request that ends with the word "end" and answers it.
fn answer_blocking(stream: &mut std::net::TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"end") {
        let mut read = [0; 1024];
        let length = stream.read(&mut read).unwrap();
        assert_ne!(length, 0);
        request.extend_from_slice(&read[..length]);
    }
    stream.write_all(OK.as_bytes()).unwrap();
}

#[test]
fn a_request_that_a_stale_connection_gave_back_is_sent_on_a_fresh_one_exactly_once() {
    // The upstream runs on a thread of its own and closes while the core is busy, so that nobody has looked at the socket since.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (close, closing) = std::sync::mpsc::channel::<()>();
    let upstream = std::thread::spawn(move || {
        let (mut stale, _) = listener.accept().unwrap();
        answer_blocking(&mut stale);
        closing.recv().unwrap();
        drop(stale);
        answer_blocking(&mut listener.accept().unwrap().0);
        listener.set_nonblocking(true).unwrap();
        std::thread::sleep(SOON);
        assert!(listener.accept().is_err(), "a third connection");
    });
    let request = || post(Full::new(Bytes::from_static(b"the end")));
    on_a_core(async {
        let core = core_with(&address, settings());
        text(send(&core, request()).await.unwrap()).await;
        assert_eq!(core_idle(&core), 1);
        close.send(()).unwrap();
        std::thread::sleep(SOON * 3);
        assert_eq!(core_idle(&core), 1, "nobody has seen that it closed");
        assert_eq!(text(send(&core, request()).await.unwrap()).await, "ok");
    });
    upstream.join().unwrap();
}

/// How many connections wait.
fn core_idle(core: &Upstreams) -> usize {
    match &core.targets[0] {
        Target::Reached(_, pool) => pool.waiting(),
        Target::Static(_) | Target::Several(_) => 0,
    }
}

#[test]
fn a_connection_that_the_upstream_closed_is_forgotten() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        answer_each(listener, &[OK, OK, OK]);
        for _ in 0..3 {
            assert_eq!(text(send(&core, get("/")).await.unwrap()).await, "ok");
            sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn an_answer_dropped_before_its_end_closes_the_connection() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let upstream = spawn_local(async move {
            let mut first = accept(&listener).await;
            first.answer("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegin").await;
            first.closed().await;
            accept(&listener).await.answer(OK).await;
        });
        let mut answer = send(&core, get("/")).await.unwrap();
        answer.body_mut().frame().await.unwrap().unwrap();
        drop(answer);
        assert_eq!(text(send(&core, get("/")).await.unwrap()).await, "ok");
        upstream.await.unwrap();
    });
}

#[test]
fn a_request_whose_sender_left_closes_the_connection() {
    on_a_core(async {
        let (listener, core) = listen_with_core().await;
        let upstream = spawn_local(async move {
            let mut first = accept(&listener).await;
            first.head().await;
            first.closed().await;
        });
        assert!(timeout(SOON, send(&core, get("/"))).await.is_err());
        upstream.await.unwrap();
    });
}

#[test]
fn where_one_address_of_a_name_takes_no_connection_the_next_one_is_tried() {
    on_a_core(async {
        let (listener, _) = listen().await;
        let (closed, _) = listen().await;
        let places = [closed.local_addr().unwrap(), listener.local_addr().unwrap()];
        drop(closed);
        let dial = super::super::dial::Dial::new(UpstreamAddress::parse("http://app.test").unwrap(), None).unwrap().at(Box::new(places));
        assert!(dial.open_io().await.is_ok());
        assert_eq!(dial.to_string(), format!("http://app.test:80 at {}", places[0]));
    });
}
