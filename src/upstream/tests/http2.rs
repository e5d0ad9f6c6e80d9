//! HTTP/2 to an upstream: one connection for many requests, and what becomes of each when streams or connections end.

use std::cell::{Cell, RefCell};

use h2::Reason as Code;
use h2::server::{self, SendResponse};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::Full;

use super::*;
use crate::clock::Clock as _;
use crate::upstream::http2::Patience;

/// A request as the upstream has it.
type Call = (Request<h2::RecvStream>, SendResponse<Bytes>);

/// An upstream that speaks HTTP/2: the requests of all its connections, each with the number of its connection.
struct Http2Upstream {
    calls: mpsc::UnboundedReceiver<(usize, Call)>,
    connections: Rc<Cell<usize>>,
    /// Of each connection, by its number: what ends it in good order.
    goodbyes: Rc<RefCell<Vec<mpsc::UnboundedSender<()>>>>,
}

impl Http2Upstream {
    async fn start(builder: server::Builder) -> (Self, Rc<Upstreams>) {
        Self::start_with(builder, settings()).await
    }

    async fn start_with(builder: server::Builder, settings: UpstreamSettings) -> (Self, Rc<Upstreams>) {
        let (listener, address) = listen().await;
        let core = core_with(&address.replace("http://", "h2c://"), settings);
        let (sender, calls) = mpsc::unbounded_channel();
        let (connections, goodbyes) = (Rc::new(Cell::new(0)), Rc::<RefCell<Vec<_>>>::default());
        let upstream = Self { calls, connections: Rc::clone(&connections), goodbyes: Rc::clone(&goodbyes) };
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = connections.replace(connections.get() + 1);
                let (goodbye, mut said) = mpsc::unbounded_channel();
                goodbyes.borrow_mut().push(goodbye);
                let (builder, sender) = (builder.clone(), sender.clone());
                spawn_local(async move {
                    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
                    loop {
                        tokio::select! {
                            call = connection.accept() => match call {
                                Some(Ok(call)) => drop(sender.send((number, call))),
                                _ => return,
                            },
                            Some(()) = said.recv() => connection.graceful_shutdown(),
                        }
                    }
                });
            }
        });
        (upstream, core)
    }

    async fn call(&mut self) -> (usize, Call) {
        self.calls.recv().await.unwrap()
    }

    fn say_goodbye(&self, connection: usize) {
        self.goodbyes.borrow()[connection].send(()).unwrap();
    }
}

fn answer(status: u16) -> Response<()> {
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

/// Answers with this text.
fn reply((_, mut answering): Call, text: &'static str) {
    answering.send_response(answer(200), false).unwrap().send_data(Bytes::from_static(text.as_bytes()), true).unwrap();
}

/// All of a request's body, and its trailers.
async fn body_of(request: Request<h2::RecvStream>) -> (Vec<u8>, Option<HeaderMap>) {
    let (mut body, mut all) = (request.into_body(), Vec::new());
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        all.extend_from_slice(&piece);
    }
    (all, body.trailers().await.unwrap())
}

fn sending<B>(core: &Rc<Upstreams>, request: Request<B>) -> tokio::task::JoinHandle<Result<Response<UpstreamBody>, Fault>>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let core = Rc::clone(core);
    spawn_local(async move { send(&core, request).await })
}

fn shared(core: &Upstreams) -> &crate::upstream::http2::Shared {
    match &core.targets[0] {
        Target::Reached(_, pool) => pool.shared(),
        Target::Static(_) | Target::Several(_) => panic!("a static answer has no connections"),
    }
}

#[test]
fn one_connection_carries_all_requests_and_each_has_its_own_answer() {
    on_a_core(async {
        let (mut upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        let sent: Vec<_> = ["/0", "/1", "/2", "/3", "/4"].map(|path| sending(&core, get(path))).into_iter().collect();
        let mut calls = Vec::new();
        for _ in &sent {
            calls.push(upstream.call().await.1);
        }
        assert_eq!(upstream.connections.get(), 1);
        // Answered in another order.
        for call in calls.into_iter().rev() {
            let place: usize = call.0.uri().path()[1..].parse().unwrap();
            reply(call, ["zero", "one", "two", "three", "four"][place]);
        }
        for (sent, expected) in sent.into_iter().zip(["zero", "one", "two", "three", "four"]) {
            assert_eq!(text(sent.await.unwrap().unwrap()).await, expected);
        }
    });
}

#[test]
fn the_head_is_as_http2_wants_it() {
    on_a_core(async {
        let (mut upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        let mut request = get("/a?b=c%2f");
        for (name, value) in [("connection", "te"), ("te", "trailers"), ("transfer-encoding", "chunked"), ("x-own", "kept")] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let sent = sending(&core, request);
        let (_, call) = upstream.call().await;
        let head = &call.0;
        assert_eq!(head.uri().to_string(), "http://app/a?b=c%2f");
        let mut lines: Vec<_> = head.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["te: trailers", "x-own: kept"]);
        reply(call, "");
        sent.await.unwrap().unwrap();
    });
}

#[test]
fn another_connection_is_opened_only_when_the_streams_of_the_first_are_used_up() {
    on_a_core(async {
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(2);
        let short = UpstreamSettings { idle_timeout: SOON, ..settings() };
        let (mut upstream, core) = Http2Upstream::start_with(builder, short).await;
        let sent: Vec<_> = (0..5).map(|_| sending(&core, get("/"))).collect();
        let mut calls = Vec::new();
        for _ in &sent {
            calls.push(upstream.call().await);
        }
        let mut on: Vec<usize> = calls.iter().map(|(connection, _)| *connection).collect();
        on.sort_unstable();
        assert_eq!(on, [0, 0, 1, 1, 2]);
        for (_, call) in calls {
            reply(call, "x");
        }
        for sent in sent {
            assert_eq!(text(sent.await.unwrap().unwrap()).await, "x");
        }
        // What carries nothing is closed in time.
        let end = SystemClock.instant() + Duration::from_secs(5);
        while shared(&core).connections() > 0 {
            assert!(SystemClock.instant() < end, "{} connections are left", shared(&core).connections());
            sleep(SOON / 4).await;
        }
    });
}

#[test]
fn a_request_that_was_refused_unseen_is_sent_once_more_elsewhere_with_all_of_its_body() {
    on_a_core(async {
        let (mut upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        let (frames, body) = frames();
        frames.send(data("first ")).await.unwrap();
        let sent = sending(&core, post(body));
        let (first, (mut request, mut answering)) = upstream.call().await;
        assert_eq!(request.body_mut().data().await.unwrap().unwrap(), "first ");
        answering.send_reset(Code::REFUSED_STREAM);
        let (second, call) = upstream.call().await;
        assert_eq!((first, second), (0, 1));
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("42"))]);
        frames.send(data("second")).await.unwrap();
        frames.send(Ok(Frame::trailers(trailers.clone()))).await.unwrap();
        drop(frames);
        let (request, answering) = call;
        assert_eq!(body_of(request).await, (b"first second".to_vec(), Some(trailers)));
        let mut answering = answering;
        answering.send_response(answer(204), true).unwrap();
        assert_eq!(sent.await.unwrap().unwrap().status(), StatusCode::NO_CONTENT);

        // A body that had ended.
        let sent = sending(&core, post(Full::new(Bytes::from_static(b"whole"))));
        let (_, (request, mut answering)) = upstream.call().await;
        assert_eq!(body_of(request).await.0, b"whole");
        answering.send_reset(Code::REFUSED_STREAM);
        let (_, (request, mut answering)) = upstream.call().await;
        assert_eq!(request.headers()["content-length"], "5");
        assert_eq!(body_of(request).await.0, b"whole");
        answering.send_response(answer(200), true).unwrap();
        assert_eq!(sent.await.unwrap().unwrap().status(), StatusCode::OK);
    });
}

#[test]
fn what_the_upstream_may_have_seen_or_nobody_kept_is_not_sent_again() {
    on_a_core(async {
        let (mut upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        // Reset for another reason: it may have been acted on.
        let sent = sending(&core, get("/"));
        let (_, (_, mut answering)) = upstream.call().await;
        answering.send_reset(Code::INTERNAL_ERROR);
        assert_eq!(sent.await.unwrap().err().unwrap().reason, Reason::UpstreamBroken);

        // More than is kept went out before it was refused.
        let sent = sending(&core, post(Full::new(Bytes::from(vec![7; 128 * 1024]))));
        let (_, (mut request, mut answering)) = upstream.call().await;
        request.body_mut().data().await.unwrap().unwrap();
        answering.send_reset(Code::REFUSED_STREAM);
        assert_eq!(sent.await.unwrap().err().unwrap().reason, Reason::UpstreamBroken);

        // One that refuses everything is not asked for ever.
        let sent = sending(&core, get("/"));
        for _ in 0..3 {
            let (_, (_, mut answering)) = upstream.call().await;
            answering.send_reset(Code::REFUSED_STREAM);
        }
        assert_eq!(sent.await.unwrap().err().unwrap().reason, Reason::UpstreamUnreachable);
        assert!(upstream.calls.try_recv().is_err());
    });
}

#[test]
fn after_a_goodbye_what_is_open_goes_on_and_new_requests_go_elsewhere() {
    on_a_core(async {
        let (mut upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        let open = sending(&core, get("/open"));
        let (_, open_call) = upstream.call().await;
        upstream.say_goodbye(0);
        sleep(SOON).await;
        let new = sending(&core, get("/new"));
        let (connection, call) = upstream.call().await;
        assert_eq!((connection, call.0.uri().path()), (1, "/new"));
        reply(call, "new");
        reply(open_call, "open");
        assert_eq!(text(new.await.unwrap().unwrap()).await, "new");
        assert_eq!(text(open.await.unwrap().unwrap()).await, "open");
    });
}

#[test]
fn a_request_beyond_the_last_that_a_goodbye_names_is_sent_elsewhere() {
    on_a_core(async {
        let (listener, address) = listen().await;
        let core = core_with(&address.replace("http://", "h2c://"), settings());
        let seen = sending(&core, get("/seen"));
        let mut peer = raw::accept(&listener).await;
        let one = peer.head().await;
        let unseen = sending(&core, post(Full::new(Bytes::from_static(b"kept"))));
        let two = peer.head().await;
        assert!(two > one);
        // The last stream that was looked at, and no error (RFC 9113 §6.8).
        peer.write(raw::GOAWAY, 0, 0, &[one.to_be_bytes(), [0; 4]].concat()).await;
        let mut other = raw::accept(&listener).await;
        let stream = other.head().await;
        other.write(raw::HEADERS, raw::END_HEADERS | raw::END_STREAM, stream, &[0x88]).await;
        assert_eq!(unseen.await.unwrap().unwrap().status(), StatusCode::OK);
        peer.write(raw::HEADERS, raw::END_HEADERS | raw::END_STREAM, one, &[0x89]).await;
        assert_eq!(seen.await.unwrap().unwrap().status(), StatusCode::NO_CONTENT);
    });
}

#[test]
fn a_downstream_that_leaves_resets_its_own_stream_and_no_other() {
    on_a_core(async {
        let (mut upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        // Before the head of the answer, and amid its body with an upload that the upstream does not read.
        let (_frames, unended) = frames();
        let waiting = sending(&core, post(unended));
        let (_, (_request, mut left)) = upstream.call().await;
        let other = sending(&core, get("/other"));
        let (_, other_call) = upstream.call().await;
        waiting.abort();
        assert_eq!(std::future::poll_fn(|cx| left.poll_reset(cx)).await.unwrap(), Code::CANCEL);

        let large = sending(&core, post(Full::new(Bytes::from(vec![7; MEBIBYTE]))));
        let (_, (_request, mut answering)) = upstream.call().await;
        let mut streaming = answering.send_response(answer(200), false).unwrap();
        streaming.send_data(Bytes::from_static(b"half"), false).unwrap();
        let mut body = large.await.unwrap().unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        drop(body);
        assert_eq!(std::future::poll_fn(|cx| streaming.poll_reset(cx)).await.unwrap(), Code::CANCEL);

        reply(other_call, "other");
        assert_eq!(text(other.await.unwrap().unwrap()).await, "other");
        assert_eq!(upstream.connections.get(), 1);
    });
}

#[test]
fn a_request_body_that_fails_is_told_as_it_is_and_resets_its_stream() {
    on_a_core(async {
        let (mut upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        let (frames, body) = frames();
        let sent = sending(&core, post(body));
        let (_, (_request, mut answering)) = upstream.call().await;
        frames.send(Err(Fault::new(Reason::BodyBroken, "gone").into())).await.unwrap();
        assert_eq!(sent.await.unwrap().err().unwrap().reason, Reason::BodyBroken);
        assert_eq!(std::future::poll_fn(|cx| answering.poll_reset(cx)).await.unwrap(), Code::CANCEL);
    });
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    on_a_core(async {
        let (mut upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        for code in [Code::NO_ERROR, Code::CANCEL, Code::INTERNAL_ERROR] {
            let sent = sending(&core, get("/"));
            let (_, (_, mut answering)) = upstream.call().await;
            let mut stream = answering.send_response(answer(200), false).unwrap();
            stream.send_data(Bytes::from_static(b"half"), false).unwrap();
            let mut body = sent.await.unwrap().unwrap().into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
            stream.send_reset(code);
            assert!(body.frame().await.expect("not its end").is_err(), "{code:?}");
        }
        // An answer that came whole is whole, though the rest of the request is not wanted.
        let (_frames, unended) = frames();
        let sent = sending(&core, post(unended));
        let (_, (_, mut answering)) = upstream.call().await;
        answering.send_response(answer(413), false).unwrap().send_data(Bytes::from_static(b"too large"), true).unwrap();
        let early = sent.await.unwrap().unwrap();
        sleep(SOON).await;
        answering.send_reset(Code::NO_ERROR);
        sleep(SOON).await;
        assert_eq!((early.status().as_u16(), text(early).await.as_str()), (413, "too large"));
    });
}

#[test]
fn trailers_come_after_the_body_and_an_answer_may_be_its_head_alone() {
    on_a_core(async {
        let (mut upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        let sent = sending(&core, get("/"));
        let (_, (_, mut answering)) = upstream.call().await;
        let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
        let mut stream = answering.send_response(answer(200), false).unwrap();
        stream.send_data(Bytes::from_static(b"message"), false).unwrap();
        stream.send_trailers(status.clone()).unwrap();
        let whole = sent.await.unwrap().unwrap().into_body().collect().await.unwrap();
        assert_eq!(whole.trailers(), Some(&status));
        assert_eq!(whole.to_bytes(), "message");

        let sent = sending(&core, get("/"));
        let (_, (_, mut answering)) = upstream.call().await;
        let mut head = answer(200);
        *head.headers_mut() = status.clone();
        answering.send_response(head, true).unwrap();
        let alone = sent.await.unwrap().unwrap();
        assert!(alone.body().is_end_stream());
        assert_eq!(alone.headers(), &status);
    });
}

#[test]
fn answers_that_nobody_reads_hold_no_other_back() {
    on_a_core(async {
        let (mut upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        let mut unread = Vec::new();
        let sent: Vec<_> = (0..30).map(|_| sending(&core, get("/"))).collect();
        for sent in sent {
            let (_, (_, mut answering)) = upstream.call().await;
            let mut stream = answering.send_response(answer(200), false).unwrap();
            stream.send_data(Bytes::from(vec![7; MEBIBYTE]), true).unwrap();
            unread.push(sent.await.unwrap().unwrap());
        }
        sleep(SOON).await;
        let sent = sending(&core, get("/small"));
        let (connection, call) = upstream.call().await;
        assert_eq!(connection, 0);
        reply(call, "small");
        assert_eq!(text(sent.await.unwrap().unwrap()).await, "small");
        for answer in unread {
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), MEBIBYTE);
        }
    });
}

#[test]
fn a_peer_that_answers_no_ping_is_given_up_and_one_that_does_is_waited_for() {
    on_a_core(async {
        for answers in [false, true] {
            let (listener, address) = listen().await;
            let core = core_with(&address.replace("http://", "h2c://"), settings());
            let (soon, never) = (Duration::from_millis(60), Duration::MAX);
            shared(&core).ask_with(Patience { ask_after: soon, answer_within: soon, doubt_after: never });
            let sent = sending(&core, get("/"));
            let mut peer = raw::accept(&listener).await;
            let stream = peer.head().await;
            // No word for some silences: only pings come.
            let asked = loop {
                let frame = peer.frame().await.expect("a ping");
                if frame.kind == raw::PING && frame.flags == 0 {
                    break frame;
                }
            };
            if answers {
                peer.write(raw::PING, 1, 0, &asked.payload).await;
                let again = loop {
                    let frame = peer.frame().await.expect("another ping");
                    if frame.kind == raw::PING && frame.flags == 0 {
                        break frame;
                    }
                };
                peer.write(raw::PING, 1, 0, &again.payload).await;
                peer.write(raw::HEADERS, raw::END_HEADERS | raw::END_STREAM, stream, &[0x88]).await;
                assert_eq!(sent.await.unwrap().unwrap().status(), StatusCode::OK);
            } else {
                assert_eq!(sent.await.unwrap().err().unwrap().reason, Reason::UpstreamBroken);
                assert!(peer.is_closed().await);
            }
        }
    });
}

#[test]
fn a_connection_that_has_served_and_is_gone_costs_nobody_an_answer_that_may_be_asked_for_twice() {
    on_a_core(async {
        let (listener, address) = listen().await;
        let core = core_with(&address.replace("http://", "h2c://"), settings());
        let whole = raw::END_HEADERS | raw::END_STREAM;
        // The method, and whether it is asked again, once: not the second time, on a connection that has answered nobody.
        for (method, again) in [("GET", true), ("POST", false)] {
            let request = || Request::builder().method(method).uri("/").header("host", "app").body(Empty::<Bytes>::new()).unwrap();
            let first = sending(&core, request());
            let mut peer = raw::accept(&listener).await;
            let stream = peer.head().await;
            peer.write(raw::HEADERS, whole, stream, &[0x88]).await;
            assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
            let second = sending(&core, request());
            peer.head().await;
            drop(peer);
            if again {
                let mut peer = raw::accept(&listener).await;
                peer.head().await;
                drop(peer);
            }
            assert_eq!(second.await.unwrap().err().unwrap().reason, Reason::UpstreamBroken, "{method}");
            assert!(timeout(SOON, listener.accept()).await.is_err(), "{method}: once more than may be");
        }
    });
}

#[test]
fn a_connection_on_which_somebody_waited_in_vain_and_nothing_came_is_asked_no_more() {
    on_a_core(async {
        let (listener, address) = listen().await;
        let brief = UpstreamSettings { response_timeout: Some(SOON), ..settings() };
        let core = core_with(&address.replace("http://", "h2c://"), brief);
        let never = Duration::from_secs(60);
        shared(&core).ask_with(Patience { ask_after: never, answer_within: never, doubt_after: SOON });
        let sent = sending(&core, get("/"));
        let mut silent = raw::accept(&listener).await;
        silent.head().await;
        assert_eq!(sent.await.unwrap().err().unwrap().reason, Reason::UpstreamTimeout);
        let next = sending(&core, get("/"));
        let mut other = timeout(SOON * 5, raw::accept(&listener)).await.expect("another connection");
        let stream = other.head().await;
        other.write(raw::HEADERS, raw::END_HEADERS | raw::END_STREAM, stream, &[0x88]).await;
        assert_eq!(next.await.unwrap().unwrap().status(), StatusCode::OK);

        // One that speaks, though not to everybody, is: a wait in vain there is the request's own affair.
        let vain = sending(&core, get("/"));
        other.head().await;
        other.write(raw::PING, 0, 0, &[0; 8]).await;
        assert_eq!(vain.await.unwrap().err().unwrap().reason, Reason::UpstreamTimeout);
        let again = sending(&core, get("/"));
        let stream = other.head().await;
        other.write(raw::HEADERS, raw::END_HEADERS | raw::END_STREAM, stream, &[0x88]).await;
        assert_eq!(again.await.unwrap().unwrap().status(), StatusCode::OK);
    });
}

#[test]
fn whoever_speaks_no_http2_is_unreachable_and_the_log_says_why() {
    on_a_core(async {
        let (listener, address) = listen().await;
        let core = core_with(&address.replace("http://", "h2c://"), settings());
        answer_each(listener, &["HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"]);
        let fault = send(&core, get("/")).await.err().unwrap();
        assert_eq!(fault.reason, Reason::UpstreamUnreachable);
        assert!(fault.detail.contains("does not speak HTTP/2 here"), "{}", fault.detail);
    });
}

#[test]
fn a_failed_connection_fails_all_who_wait_for_it_and_the_next_tries_again() {
    on_a_core(async {
        let (listener, address) = listen().await;
        let core = core_with(&address.replace("http://", "h2c://"), settings());
        let attempts = Rc::new(Cell::new(0));
        let counted = Rc::clone(&attempts);
        spawn_local(async move {
            loop {
                drop(listener.accept().await.unwrap());
                counted.set(counted.get() + 1);
            }
        });
        let sent: Vec<_> = (0..10).map(|_| sending(&core, get("/"))).collect();
        for sent in sent {
            assert_eq!(sent.await.unwrap().err().unwrap().reason, Reason::UpstreamUnreachable);
        }
        assert_eq!(attempts.get(), 1);
        send(&core, get("/")).await.err().unwrap();
        assert_eq!(attempts.get(), 2);
    });
}

#[test]
fn an_upgrade_to_http2_alone_is_refused_before_anybody_is_asked() {
    on_a_core(async {
        let (upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        let mut browser = browser(&core, Ending::never()).await;
        browser.write("GET / HTTP/1.1\r\nhost: app\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
        assert!(browser.head().await.contains("reason: upgrade-unsupported"));
        assert_eq!(upstream.connections.get(), 0);
    });
}

// --- upstreams that mean harm

#[test]
fn an_upstream_that_sends_too_much_or_the_wrong_thing_loses_its_connection_and_no_more() {
    /// What is sent on the stream of a request.
    type Attack = fn(u32) -> Vec<raw::Frame>;
    let rows: [(&str, Attack); 7] = [
        ("a head without end", |stream| {
            let mut frames = vec![raw::Frame { kind: raw::HEADERS, flags: 0, stream, payload: vec![0x88] }];
            let field = raw::field("x-more", &"x".repeat(8 * 1024));
            frames.extend((0..4096).map(|_| raw::Frame { kind: raw::CONTINUATION, flags: 0, stream, payload: field.clone() }));
            frames
        }),
        ("a head that is too large", |stream| {
            let mut payload = vec![0x88];
            // Less than a frame on the wire; each field counts 32 more (RFC 9113 §6.5.2).
            (0..400).for_each(|_| payload.extend(raw::field("x-a", "x")));
            (0..3).for_each(|_| payload.extend(raw::field("x-a", &"x".repeat(1024))));
            vec![raw::Frame { kind: raw::HEADERS, flags: raw::END_HEADERS | raw::END_STREAM, stream, payload }]
        }),
        ("a promise", |stream| {
            let mut payload = 2_u32.to_be_bytes().to_vec();
            payload.extend([0x82, 0x84, 0x86]);
            vec![raw::Frame { kind: raw::PUSH_PROMISE, flags: raw::END_HEADERS, stream, payload }]
        }),
        ("more than the window", |stream| {
            let mut frames = vec![raw::Frame { kind: raw::HEADERS, flags: raw::END_HEADERS, stream, payload: vec![0x88] }];
            frames.extend((0..64).map(|_| raw::Frame { kind: raw::DATA, flags: 0, stream, payload: vec![7; 16 * 1024] }));
            frames
        }),
        ("crumbs without end", |stream| {
            let mut frames = vec![raw::Frame { kind: raw::HEADERS, flags: raw::END_HEADERS, stream, payload: vec![0x88] }];
            frames.extend((0..200_000).map(|_| raw::Frame { kind: raw::DATA, flags: 0, stream, payload: vec![7] }));
            frames
        }),
        ("a header of HTTP/1.1", |stream| {
            let mut payload = vec![0x88];
            payload.extend(raw::field("transfer-encoding", "chunked"));
            vec![raw::Frame { kind: raw::HEADERS, flags: raw::END_HEADERS | raw::END_STREAM, stream, payload }]
        }),
        ("less than its Content-Length", |stream| {
            let mut payload = vec![0x88];
            payload.extend(raw::field("content-length", "10"));
            vec![
                raw::Frame { kind: raw::HEADERS, flags: raw::END_HEADERS, stream, payload },
                raw::Frame { kind: raw::DATA, flags: raw::END_STREAM, stream, payload: b"half".to_vec() },
            ]
        }),
    ];
    for (what, attack) in rows {
        on_a_core(async {
            let (listener, address) = listen().await;
            let core = core_with(&address.replace("http://", "h2c://"), settings());
            let sent = sending(&core, get("/"));
            let mut peer = raw::accept(&listener).await;
            let stream = peer.head().await;
            spawn_local(async move {
                for frame in attack(stream) {
                    if !peer.write(frame.kind, frame.flags, frame.stream, &frame.payload).await {
                        return;
                    }
                }
                peer.is_closed().await;
            });
            // Nothing of it looks like an answer that is whole. Nobody reads while it comes.
            match sent.await.unwrap() {
                Ok(answer) => {
                    sleep(SOON * 5).await;
                    assert!(answer.into_body().collect().await.is_err(), "{what}");
                }
                Err(fault) => assert_eq!(fault.reason, Reason::UpstreamBroken, "{what}"),
            }
            // The next request has a connection that works.
            let next = sending(&core, get("/"));
            let mut peer = match timeout(SOON * 2, raw::accept(&listener)).await {
                Ok(peer) => peer,
                // Only the stream was reset: it goes on where it was.
                Err(_) => return next.abort(),
            };
            let stream = peer.head().await;
            peer.write(raw::HEADERS, raw::END_HEADERS | raw::END_STREAM, stream, &[0x88]).await;
            assert_eq!(next.await.unwrap().unwrap().status(), StatusCode::OK, "{what}");
        });
    }
}

#[test]
fn a_burst_of_small_messages_comes_through_whole() {
    on_a_core(async {
        let (listener, address) = listen().await;
        let core = core_with(&address.replace("http://", "h2c://"), settings());
        let sent = sending(&core, get("/"));
        let mut peer = raw::accept(&listener).await;
        let stream = peer.head().await;
        peer.write(raw::HEADERS, raw::END_HEADERS, stream, &[0x88]).await;
        // All of them are read from the socket before anybody takes the first.
        for _ in 0..2_000 {
            peer.write(raw::DATA, 0, stream, &[7; 16]).await;
        }
        peer.write(raw::DATA, raw::END_STREAM, stream, b"").await;
        let answer = sent.await.unwrap().unwrap();
        sleep(SOON).await;
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 32_000);
    });
}

/// The other end of an HTTP/2 connection, frame by frame.
mod raw {
    use super::*;

    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const CONTINUATION: u8 = 9;
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;

    pub(super) struct Frame {
        pub(super) kind: u8,
        pub(super) flags: u8,
        pub(super) stream: u32,
        pub(super) payload: Vec<u8>,
    }

    pub(super) struct RawPeer(TcpStream);

    /// Takes a connection, and says hello with empty settings.
    pub(super) async fn accept(listener: &TcpListener) -> RawPeer {
        let mut peer = RawPeer(listener.accept().await.unwrap().0);
        let mut preface = [0; 24];
        peer.0.read_exact(&mut preface).await.unwrap();
        assert!(preface.starts_with(b"PRI * HTTP/2.0"));
        assert!(peer.write(SETTINGS, 0, 0, &[]).await);
        peer
    }

    impl RawPeer {
        /// Waits for a request; its stream.
        pub(super) async fn head(&mut self) -> u32 {
            loop {
                let frame = self.frame().await.expect("a request");
                match frame.kind {
                    HEADERS => return frame.stream,
                    SETTINGS if frame.flags == 0 => drop(self.write(SETTINGS, 1, 0, &[]).await),
                    _ => {}
                }
            }
        }

        pub(super) async fn frame(&mut self) -> Option<Frame> {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        }

        pub(super) async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            let mut bytes = vec![length[1], length[2], length[3], kind, flags];
            bytes.extend_from_slice(&stream.to_be_bytes());
            bytes.extend_from_slice(payload);
            self.0.write_all(&bytes).await.is_ok()
        }

        /// Reads to the end.
        pub(super) async fn is_closed(&mut self) -> bool {
            while self.frame().await.is_some() {}
            true
        }
    }

    /// A field that changes no table (RFC 7541 §6.2.2).
    pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
        let mut block = vec![0];
        for text in [name, value] {
            if text.len() < 127 {
                block.push(u8::try_from(text.len()).unwrap());
            } else {
                block.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                block.push(u8::try_from(rest).unwrap());
            }
            block.extend_from_slice(text.as_bytes());
        }
        block
    }
}

#[test]
fn a_request_that_http2_does_not_carry_is_no_failure_of_the_address() {
    use crate::upstream::exchange::{Exchange, Failure, Start, Terms};
    on_a_core(async {
        let (_upstream, core) = Http2Upstream::start(server::Builder::new()).await;
        let Target::Reached(dial, pool) = &core.targets[0] else { panic!("it is one address") };
        let terms = Terms { timeouts: crate::route::Timeouts::default(), bearing: crate::upstream::dial::Bearing::Request };
        let exchange = Exchange::new(&core, dial, pool, terms);
        let (body, turn) = crate::upstream::request_body::RequestBody::new(Empty::<Bytes>::new(), &core.clock);
        let request = Request::get("/").header("host", "two words").body(body).unwrap();
        match exchange.run(&mut Some(request), &turn, Start::Copied).await {
            Err(Failure::Final(fault)) => assert!(fault.detail.contains("cannot be sent over HTTP/2"), "{fault}"),
            Err(failure) => panic!("it counts: {}", failure.into_fault()),
            Ok(_) => panic!("it was sent"),
        }
    });
}
