//! Bytes that no HTTP client would send, and answers read as they are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::http::BoxedStream;

/// How long [`raw`] waits for the peer.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long the peer must be silent after a whole answer before [`raw`] believes that no second one follows.
const QUIET: Duration = Duration::from_millis(150);

/// Sends `bytes` and returns all that comes back: until the peer closes, or is silent after a whole answer, or the deadline.
pub async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut connection = RawConnection::open(address).await;
    connection.send(bytes).await;
    connection.read_answers().await
}

/// Sends `bytes` and returns the first answer; panics when there is none.
pub async fn raw_answer(address: SocketAddr, bytes: impl AsRef<[u8]>) -> RawAnswer {
    let received = raw(address, bytes).await;
    let mut answers = RawAnswer::parse_all(&received);
    assert!(!answers.is_empty(), "no answer in {:?}", String::from_utf8_lossy(&received));
    answers.remove(0)
}

/// A request head as bytes: the request line with `target` untouched, `Host`, the header lines, `Connection: close`.
#[must_use]
pub fn request(method: &str, target: &str, host: &str, lines: &[&str]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for line in lines {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("Connection: close\r\n\r\n");
    head.into_bytes()
}

/// An open connection on which a test writes what it likes, when it likes.
pub struct RawConnection {
    stream: BoxedStream,
    received: Vec<u8>,
}

impl RawConnection {
    /// Connects over TCP.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self::over(Box::new(stream))
    }

    /// Connects over TLS; ALPN as the configuration says.
    pub async fn open_tls(address: SocketAddr, server_name: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Self::over(Box::new(stream)))
    }

    /// Takes over an open stream.
    #[must_use]
    pub fn over(stream: BoxedStream) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Gives the stream away.
    #[must_use]
    pub fn into_stream(self) -> BoxedStream {
        self.stream
    }

    /// Writes bytes at once. `false`: the peer has closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let written = self.stream.write_all(bytes.as_ref()).await;
        written.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Ends our side of the stream; the peer may still answer.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads until the peer closes, or is silent after at least one whole answer, or the deadline. Returns all received so far.
    pub async fn read_answers(&mut self) -> Vec<u8> {
        let end = Instant::now() + DEADLINE;
        loop {
            let quiet_enough = RawAnswer::parse_all(&self.received).last().is_some_and(|answer| answer.complete);
            let until = if quiet_enough { end.min(Instant::now() + QUIET) } else { end };
            match timeout_at(until, self.read_some()).await {
                Ok(n) if n > 0 => {}
                _ => return self.received.clone(),
            }
        }
    }

    /// Reads until `enough` says so; panics when the peer closes or is silent for the deadline before that.
    pub async fn read_until(&mut self, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let end = Instant::now() + DEADLINE;
        while !enough(&self.received) {
            let n = timeout_at(end, self.read_some()).await.unwrap_or(0);
            assert!(n > 0, "closed or silent too early, after {:?}", String::from_utf8_lossy(&self.received));
        }
        self.received.clone()
    }

    /// Whether the peer closes within `time`. What arrives meanwhile is kept.
    pub async fn closes_within(&mut self, time: Duration) -> bool {
        timeout(time, async { while self.read_some().await > 0 {} }).await.is_ok()
    }

    /// What has been received and forgets it, for the next exchange on the same connection.
    pub fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }

    async fn read_some(&mut self) -> usize {
        self.stream.read_buf(&mut self.received).await.unwrap_or(0)
    }
}

/// An HTTP/1 answer as it came: order, case and doubled headers kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAnswer {
    /// The status code.
    pub status: u16,
    /// The header lines in order.
    pub headers: Vec<(String, String)>,
    /// The body without its chunk framing.
    pub body: Vec<u8>,
    /// The trailer lines in order.
    pub trailers: Vec<(String, String)>,
    /// Whether its end was received (for a body that ends with the connection: always).
    pub complete: bool,
}

impl RawAnswer {
    /// All answers in `bytes`, in order; a last one that is cut off is there with `complete` false once its head is.
    #[must_use]
    pub fn parse_all(bytes: &[u8]) -> Vec<Self> {
        Self::parse_all_for(&[], bytes)
    }

    /// The same when the methods of the requests matter: the answer to a `HEAD` has no body.
    #[must_use]
    pub fn parse_all_for(methods: &[&str], bytes: &[u8]) -> Vec<Self> {
        let mut rest = bytes;
        let mut answers = Vec::new();
        while let Some((answer, after)) = parse_one(rest, methods.get(answers.len()) == Some(&"HEAD")) {
            rest = after;
            // 1xx are not the answer.
            if answer.status >= 200 || answer.status == 101 {
                answers.push(answer);
            }
        }
        answers
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn parse_one(bytes: &[u8], to_head: bool) -> Option<(RawAnswer, &[u8])> {
    let end = find_bytes(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut rest = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let headers: Vec<_> = lines.filter_map(split_line).collect();
    let mut answer = RawAnswer { status, headers, body: Vec::new(), trailers: Vec::new(), complete: true };

    let chunked = answer.header("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"));
    if to_head || status < 200 || status == 204 || status == 304 {
        // No body, whatever the headers say.
    } else if chunked {
        answer.complete = false;
        while let Some(line_end) = find_bytes(rest, b"\r\n") {
            let line = String::from_utf8_lossy(&rest[..line_end]).into_owned();
            let Ok(size) = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16) else { break };
            let after = &rest[line_end + 2..];
            if size == 0 {
                if after.starts_with(b"\r\n") {
                    rest = &after[2..];
                    answer.complete = true;
                } else if let Some(end) = find_bytes(after, b"\r\n\r\n") {
                    let trailers = String::from_utf8_lossy(&after[..end]).into_owned();
                    answer.trailers = trailers.split("\r\n").filter_map(split_line).collect();
                    rest = &after[end + 4..];
                    answer.complete = true;
                }
                break;
            }
            if after.len() < size + 2 {
                answer.body.extend_from_slice(&after[..size.min(after.len())]);
                break;
            }
            answer.body.extend_from_slice(&after[..size]);
            rest = &after[size + 2..];
        }
    } else if let Some(length) = answer.header("content-length").and_then(|value| value.parse::<usize>().ok()) {
        let here = length.min(rest.len());
        answer.body = rest[..here].to_vec();
        answer.complete = here == length;
        rest = &rest[here..];
    } else {
        answer.body = rest.to_vec();
        rest = &[];
    }
    if !answer.complete {
        rest = &[];
    }
    Some((answer, rest))
}

fn split_line(line: &str) -> Option<(String, String)> {
    line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(candidate, _)| candidate.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn find_bytes(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
