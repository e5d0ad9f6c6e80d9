//! What two readers would read differently ends as 400, or as one request that the service sees; never as two (SECURITY 12).

use super::*;

/// Each with the status of the one answer and the number of requests that the service may see.
#[tokio::test(flavor = "multi_thread")]
async fn one_message_is_never_two_requests() {
    let evil = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (name, bytes, status, requests) in [
        ("CL before TE", format!("{post}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}", evil.len() + 5), 200, 1),
        ("TE before CL", format!("{post}Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n{evil}", evil.len() + 5), 200, 1),
        ("CL shorter than TE", format!("{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nZ\r\n0\r\n\r\n{evil}"), 200, 1),
        ("TE alone", format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}"), 200, 1),
        ("two CL that differ", format!("{post}Content-Length: 0\r\nContent-Length: {}\r\n\r\n{evil}", evil.len()), 400, 0),
        ("two CL in one line", format!("{post}Content-Length: 0, {}\r\n\r\n{evil}", evil.len()), 400, 0),
        ("CL with a sign", format!("{post}Content-Length: +{}\r\n\r\n{evil}", evil.len()), 400, 0),
        ("CL negative", format!("{post}Content-Length: -1\r\n\r\n{evil}"), 400, 0),
        ("CL in hex", format!("{post}Content-Length: 0x10\r\n\r\n{evil}"), 400, 0),
        ("CL that is no number", format!("{post}Content-Length: 99999999999999999999999\r\n\r\n{evil}"), 400, 0),
        ("TE chunked, x", format!("{post}Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("TE x, chunked", format!("{post}Transfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("TE chunked twice", format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        (
            "TE chunked then identity",
            format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{evil}"),
            400,
            0,
        ),
        ("TE xchunked", format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("TE with a vertical tab", format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("TE in HTTP/1.0", format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("obs-fold", format!("{post}X: y\r\n Content-Length: 5\r\n\r\n{evil}"), 400, 0),
        ("obs-fold in TE", format!("{post}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("space before colon", format!("{post}Content-Length : {}\r\n\r\n{evil}", evil.len()), 400, 0),
        ("space before TE's colon", format!("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("tab before colon", format!("{post}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n{evil}"), 400, 0),
        ("space before the first name", format!("GET / HTTP/1.1\r\n Host: a\r\n\r\n{evil}"), 400, 0),
        ("a line without a colon", format!("{post}Content-Length\r\n\r\n{evil}"), 400, 0),
        ("bare LF throughout", "GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400, 0),
        ("bare LF after the request line", format!("GET / HTTP/1.1\nHost: a\r\n\r\n{evil}"), 400, 0),
        ("bare LF in a value", format!("{get}X: y\nZ: w\r\n\r\n"), 400, 0),
        ("bare LF twice in a value", format!("{get}X: y\n\n{evil}"), 400, 0),
        ("bare LF before the end", format!("{get}\n{evil}"), 400, 0),
        ("bare LF first", format!("\n{get}\r\n{evil}"), 400, 0),
        ("bare CR in a value", format!("{get}X: y\rZ: w\r\n\r\n"), 400, 0),
        ("NUL in a value", format!("{get}X: y\0z\r\n\r\n{evil}"), 400, 0),
        ("NUL in a name", format!("{get}X\0: y\r\n\r\n{evil}"), 400, 0),
        ("a version of its own", format!("GET / HTTP/1.1x\r\nHost: a\r\n\r\n{evil}"), 400, 0),
        ("two spaces in the request line", format!("GET  / HTTP/1.1\r\nHost: a\r\n\r\n{evil}"), 400, 0),
        ("a tab in the request line", format!("GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n{evil}"), 400, 0),
        ("HTTP/0.9", "GET /\r\n".to_owned(), 400, 0),
    ] {
        let server = TestServer::start(limits());
        let mut stream = server.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let (text, after) = read_some(&mut stream).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{name}: {text}");
        assert_eq!((server.seen(), after), (requests, After::Closed), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_two_readers_would_cut_differently_are_refused() {
    for chunks in [
        "1 \n\nx\r\n0\r\n\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
        "1\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "1\r\nxx\r\n0\r\n\r\n",
        "1;a\nb\r\nx\r\n0\r\n\r\n",
    ] {
        let server = TestServer::start(limits());
        let text = server.raw(format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")).await;
        assert!(text.starts_with("HTTP/1.1 400") && text.ends_with("body-broken"), "{chunks:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoilt_head_is_400_also_on_a_kept_connection_and_in_pieces() {
    let server = TestServer::start(limits());
    let mut stream = server.connect().await;
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na\n\nb").await.unwrap();
    assert!(read_some(&mut stream).await.0.ends_with("a\n\nb"), "a body keeps its line feeds");
    for piece in ["GET / HT", "TP/1.1\r\nHost: a\r\nX: y", "\n", "Z: w\r\n\r\n"] {
        let _ = stream.write_all(piece.as_bytes()).await;
        sleep(Duration::from_millis(20)).await;
    }
    let (text, after) = read_some(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    assert_eq!((server.seen(), after), (1, After::Closed));
}

/// Sound requests come first, in the same write or before; the spoilt head after them is 400, and nothing behind it is a request.
#[tokio::test(flavor = "multi_thread")]
async fn a_bare_line_feed_is_refused_in_every_head_of_a_connection() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let slow = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    let unread = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    let hidden = "GET /hidden HTTP/1.1\nHost: a\n\n";
    let in_value = format!("GET /second HTTP/1.1\r\nHost: a\r\nX-V: v\n\n{hidden}");
    for (name, writes, sound) in [
        ("second in one write", vec![format!("{get}{hidden}")], 1),
        ("in the second's value, before a third", vec![format!("{get}{in_value}")], 1),
        ("third in one write", vec![format!("{get}{get}{hidden}{get}")], 2),
        ("with the end of a body", vec![post.to_owned(), format!("hello{hidden}")], 1),
        ("with a whole body", vec![format!("{post}hello{hidden}")], 1),
        ("with the end of a body, in its value", vec![format!("{post}he"), format!("llo{in_value}")], 1),
        ("after a body that nobody read", vec![format!("{unread}hello{hidden}")], 1),
        ("while a request is in flight", vec![slow.to_owned(), hidden.to_owned()], 1),
        ("while a request is in flight, in pieces", vec![format!("{slow}GET /hid"), "den HTTP/1.1".to_owned(), hidden.to_owned()], 1),
        ("after an upgrade that came to nothing", vec![format!("{upgrade}{hidden}")], 1),
        ("the blank line alone", vec![format!("{get}GET / HTTP/1.1\r\nHost: a\r\n\n{get}")], 1),
        ("between two requests", vec![format!("{get}\n{get}")], 1),
        ("after stray empty lines", vec![format!("{get}\r\n\r\n{hidden}")], 1),
    ] {
        let server = TestServer::start(limits());
        let mut stream = server.connect().await;
        for bytes in writes {
            stream.write_all(bytes.as_bytes()).await.unwrap();
            sleep(Duration::from_millis(50)).await;
        }
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await.unwrap();
        assert_eq!((text.matches("HTTP/1.1 200").count(), text.matches("HTTP/1.1 400").count()), (sound, 1), "{name}: {text}");
        assert_eq!(server.seen(), sound, "{name}");
    }
}

/// One HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Literal header fields without indexing (RFC 7541 §6.2.2), no Huffman coding.
fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_refuses_headers_that_belong_to_a_connection_and_values_that_break_lines() {
    let good = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    for (extra, requests) in [
        (("x", "y"), 1),
        (("te", "trailers"), 1),
        (("connection", "close"), 0),
        (("transfer-encoding", "chunked"), 0),
        (("keep-alive", "timeout=5"), 0),
        (("upgrade", "h2c"), 0),
        (("proxy-connection", "close"), 0),
        (("te", "gzip"), 0),
        (("x", "y\r\ntransfer-encoding: chunked"), 0),
        (("x", "y\nz"), 0),
        (("x", "y\0z"), 0),
        (("X", "y"), 0),
        (("x y", "z"), 0),
        (("x:", "y"), 0),
        ((":path", "/evil"), 0),
        ((":evil", "/"), 0),
        (("content-length", "x"), 0),
    ] {
        let server = TestServer::start(limits());
        let mut stream = server.connect().await;
        let mut fields = good.to_vec();
        fields.push(extra);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        // END_STREAM | END_HEADERS
        bytes.extend(frame(1, 5, 1, &headers(&fields)));
        stream.write_all(&bytes).await.unwrap();
        let mut back = [0; 4096];
        while let Ok(Ok(1..)) = timeout(Duration::from_millis(100), stream.read(&mut back)).await {}
        assert_eq!(server.seen(), requests, "{extra:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_than_http2_said_is_an_error_to_whoever_reads_it() {
    let server = TestServer::start(limits());
    let mut stream = server.connect().await;
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "a"), ("content-length", "3")];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 4, 1, &headers(&fields)));
    bytes.extend(frame(0, 1, 1, b"abcdef"));
    stream.write_all(&bytes).await.unwrap();
    let (text, _) = read_some(&mut stream).await;
    assert!(!text.contains("abcdef"), "{text:?}");
}
