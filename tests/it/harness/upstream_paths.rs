//! What the echo upstream does at its special paths. They are told by the last segments, so that they work below any route's prefix:
//!
//! | ends with | does |
//! |---|---|
//! | `/status/NNN` | answers with that status |
//! | `/early/NNN` | the same without reading the body |
//! | `/headers?NAME=VALUE…` | answers with these headers |
//! | `/set-cookie?NAME=VALUE…` | answers with these cookies, `Path=/` |
//! | `/redirect?to=URL` | 303 to there |
//! | `/page` | an HTML page with the identity headers, `#user` and `#received` |
//! | `/stream` | a chunk every 10 ms until told to end |
//! | `/sse` | an event every 10 ms until told to end |
//! | `/trailers` | sends trailers (over HTTP/1.1 only to a request with `TE: trailers`) |
//! | `/mirror` | sends the body back while it arrives, trailers included |
//! | `/slow?ms=N` | answers after that time |
//! | `/hang` | answers when told to end |
//! | `/stall` | reads the body when told to end |
//! | `/sink` | reads the body, keeps nothing of it, and answers with its length |
//! | `/big?bytes=N` | a body of that length |
//! | `/break?bytes=N` | promises twice as many bytes and goes away |
//! | `/close` | closes the connection after the answer, unannounced |
//! | `/ws` | WebSocket echo |
//! | `/upgrade` | echo of raw bytes in whatever protocol `Upgrade` names |

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, TRAILER, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::body::{BodySender, BoxError, TestBody, empty, full, streamed};
use super::server::Peer;
use super::upstream::{OpenStream, Seen, SeenRequest, echo};
use super::websocket::{WebSocket, accept_for};

/// Answers one request.
pub async fn answer(request: Request<Incoming>, peer: Peer, seen: &Seen) -> Response<TestBody> {
    let mut response = at_path(request, peer, seen).await;
    seen.tag(&mut response);
    response
}

async fn at_path(request: Request<Incoming>, peer: Peer, seen: &Seen) -> Response<TestBody> {
    let noted = seen.note_head(&request, &peer);
    let path = request.uri().path().to_owned();
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    let number = |name: &str| query.iter().find(|(found, _)| found == name).and_then(|(_, value)| value.parse::<u64>().ok()).unwrap_or(0);
    let mut backwards = path.rsplit('/');
    let (last, before) = (backwards.next().unwrap_or_default(), backwards.next().unwrap_or_default());

    // These do not wait for the body.
    match last {
        "ws" if is_upgrade(&request) => return websocket(request, seen.open_stream()),
        "upgrade" if is_upgrade(&request) => return raw_upgrade(request, seen.open_stream()),
        "mirror" => return mirror(request),
        "sink" => return sink(request).await,
        "stall" => seen.open_stream().told_to_end().await,
        "break" => return break_off(number("bytes"), peer),
        status if before == "early" => return with_status(status, empty()),
        _ => {}
    }
    let Some(received) = seen.note_body(noted, request.into_body()).await else {
        return with_status("400", full("the body broke off"));
    };
    match last {
        status if before == "status" => return with_status(status, full(received.to_json().to_string())),
        "headers" => return with_headers(&query),
        "set-cookie" => return with_cookies(&query),
        "redirect" => {
            let to = query.iter().find(|(name, _)| name == "to").map(|(_, to)| ("location".to_owned(), to.clone()));
            let mut response = with_headers(&to.into_iter().collect::<Vec<_>>());
            *response.status_mut() = StatusCode::SEE_OTHER;
            return response;
        }
        "page" => return page(&received),
        "stream" => return stream(seen.open_stream(), "application/octet-stream", |n| format!("chunk {n}\n")),
        "sse" => return stream(seen.open_stream(), "text/event-stream", |n| format!("id: {n}\ndata: event {n}\n\n")),
        "trailers" => return trailers(),
        "slow" => tokio::time::sleep(Duration::from_millis(number("ms"))).await,
        "hang" => seen.open_stream().told_to_end().await,
        "big" => return big(number("bytes")),
        "close" => peer.close_after_answer(),
        _ => {}
    }
    echo(&received)
}

fn with_status(status: &str, body: TestBody) -> Response<TestBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status.parse().unwrap_or(StatusCode::NOT_FOUND);
    response
}

fn with_headers(query: &[(String, String)]) -> Response<TestBody> {
    let mut response = Response::new(full("headers"));
    for (name, value) in query {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn with_cookies(query: &[(String, String)]) -> Response<TestBody> {
    let mut response = Response::new(full("cookies"));
    for (name, value) in query {
        if let Ok(line) = format!("{name}={value}; Path=/").parse() {
            response.headers_mut().append(SET_COOKIE, line);
        }
    }
    response
}

fn page(received: &SeenRequest) -> Response<TestBody> {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let user = received.header("x-forwarded-user").unwrap_or_else(|| "nobody".to_owned());
    let rows: String = received
        .headers
        .iter()
        .map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(&String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta name=\"viewport\" content=\"width=device-width\"><title>Upstream</title>\
         <h1>Hello <span id=\"user\">{}</span></h1>\
         <p id=\"target\">{}</p><table id=\"received\">{rows}</table></html>",
        escape(&user),
        escape(&received.target)
    );
    let mut response = Response::new(full(html));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn stream(mut open: OpenStream, content_type: &'static str, piece: fn(u64) -> String) -> Response<TestBody> {
    let (sender, body) = streamed();
    tokio::spawn(async move {
        for n in 0.. {
            if !sender.send(piece(n)).await {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
                () = open.told_to_end() => return,
                () = sender.closed() => return,
            }
        }
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn trailers() -> Response<TestBody> {
    let (sender, body) = streamed();
    tokio::spawn(async move {
        sender.send("with trailers\n").await;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("x-trailer", HeaderValue::from_static("from the upstream"));
        sender.trailers(trailers).await;
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(TRAILER, HeaderValue::from_static("grpc-status, x-trailer"));
    response
}

fn mirror(request: Request<Incoming>) -> Response<TestBody> {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body.map_err(|error| -> BoxError { error.into() }).boxed_unsync());
    for name in [CONTENT_TYPE, TRAILER] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

async fn sink(request: Request<Incoming>) -> Response<TestBody> {
    let (mut body, mut length) = (request.into_body(), 0);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => length += frame.data_ref().map_or(0, Bytes::len),
            Err(_) => return with_status("400", full("the body broke off")),
        }
    }
    Response::new(full(length.to_string()))
}

fn big(bytes: u64) -> Response<TestBody> {
    let (sender, body) = streamed();
    tokio::spawn(async move {
        send_bytes(&sender, bytes).await;
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_LENGTH, bytes.into());
    response
}

fn break_off(bytes: u64, peer: Peer) -> Response<TestBody> {
    let (sender, body) = streamed();
    tokio::spawn(async move {
        send_bytes(&sender, bytes).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        sender.abort().await;
        peer.close_now();
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_LENGTH, (bytes * 2 + 1).into());
    response
}

async fn send_bytes(sender: &BodySender, mut bytes: u64) {
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    while bytes > 0 {
        let n = bytes.min(piece.len() as u64);
        if !sender.send(piece.slice(..usize::try_from(n).expect("at most 64 KiB"))).await {
            return;
        }
        bytes -= n;
    }
}

fn is_upgrade(request: &Request<Incoming>) -> bool {
    request.headers().contains_key(UPGRADE)
}

fn websocket(request: Request<Incoming>, mut open: OpenStream) -> Response<TestBody> {
    let Some(key) = request.headers().get("sec-websocket-key").and_then(|key| key.to_str().ok()) else {
        return with_status("400", full("no Sec-WebSocket-Key"));
    };
    let mut response = switching(HeaderValue::from_static("websocket"));
    response.headers_mut().insert("sec-websocket-accept", accept_for(key).parse().expect("base64 is a header value"));
    if let Some(protocols) = request.headers().get("sec-websocket-protocol").and_then(|value| value.to_str().ok()) {
        let first = protocols.split(',').next().unwrap_or_default().trim();
        response.headers_mut().insert("sec-websocket-protocol", first.parse().expect("it came in a header"));
    }
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let mut socket = WebSocket::over(Box::new(TokioIo::new(upgraded)), Role::Server);
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(message) if message.is_close() => return,
                    Some(message) => drop(socket.send(message).await),
                    None => return,
                },
                () = open.told_to_end() => return socket.close().await,
            }
        }
    });
    response
}

fn raw_upgrade(request: Request<Incoming>, mut open: OpenStream) -> Response<TestBody> {
    let protocol = request.headers().get(UPGRADE).cloned().unwrap_or_else(|| HeaderValue::from_static("echo"));
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut buffer = vec![0; 16 << 10];
        loop {
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(n) if n > 0 => if stream.write_all(&buffer[..n]).await.is_err() { return },
                    _ => return,
                },
                () = open.told_to_end() => return,
            }
        }
    });
    switching(protocol)
}

fn switching(protocol: HeaderValue) -> Response<TestBody> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, protocol);
    response
}
