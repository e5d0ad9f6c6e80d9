//! HTTP/2 frames written by hand: header fields and sequences that no client would send. Field values are literals without Huffman
//! coding, so that any bytes go through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::http::BoxedStream;
use super::raw::RawConnection;

/// How long an outcome may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// `DATA`.
pub const DATA: u8 = 0;
/// `HEADERS`.
pub const HEADERS: u8 = 1;
/// `RST_STREAM`.
pub const RST_STREAM: u8 = 3;
/// `SETTINGS`.
pub const SETTINGS: u8 = 4;
/// `PING`.
pub const PING: u8 = 6;
/// `GOAWAY`.
pub const GOAWAY: u8 = 7;
/// `CONTINUATION`.
pub const CONTINUATION: u8 = 9;
/// Flag of the last frame of a message.
pub const END_STREAM: u8 = 1;
/// Flag of a complete header block.
pub const END_HEADERS: u8 = 4;

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0: the connection.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this status (0: one that was not readable here).
    Status(u16),
    /// Reset with this error code.
    Reset(u32),
    /// The connection was given up with this error code, or simply closed.
    Gone(Option<u32>),
}

impl Outcome {
    /// Whether the peer did not serve it: 4xx, reset or gone.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        match self {
            Self::Status(status) => (400..500).contains(&status),
            Self::Reset(_) | Self::Gone(_) => true,
        }
    }
}

/// A connection that speaks HTTP/2 by prior knowledge.
pub struct RawH2 {
    stream: BoxedStream,
    received: Vec<u8>,
}

impl RawH2 {
    /// Connects, and says hello with empty settings.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self::over(Box::new(stream)).await
    }

    /// Connects over TLS with ALPN `h2`, and says hello.
    pub async fn open_tls(address: SocketAddr, server_name: &str, config: &ClientConfig) -> Self {
        let mut config = config.clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connection = RawConnection::open_tls(address, server_name, Arc::new(config)).await;
        Self::over(connection.unwrap_or_else(|error| panic!("no TLS with {address}: {error}")).into_stream()).await
    }

    /// Takes over an open stream, and says hello.
    pub async fn over(stream: BoxedStream) -> Self {
        let mut connection = Self { stream, received: Vec::new() };
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        connection.frame(SETTINGS, 0, 0, &[]).await;
        connection
    }

    /// Writes bytes. `false`: the peer has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Writes a frame. `false`: the peer has closed.
    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).expect("a payload fits into a frame").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.send(&bytes).await
    }

    /// Writes a whole request head: these fields in this order, nothing else.
    pub async fn headers(&mut self, stream: u32, fields: &[(&str, &[u8])], end_stream: bool) -> bool {
        let flags = END_HEADERS | if end_stream { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &header_block(fields)).await
    }

    /// Writes the head of an ordinary `GET` with these further fields; the request ends with it.
    pub async fn get(&mut self, stream: u32, authority: &str, path: &str, further: &[(&str, &[u8])]) -> bool {
        let mut fields: Vec<(&str, &[u8])> =
            vec![(":method", b"GET"), (":scheme", b"http"), (":authority", authority.as_bytes()), (":path", path.as_bytes())];
        fields.extend_from_slice(further);
        self.headers(stream, &fields, true).await
    }

    /// Writes a piece of a body.
    pub async fn data(&mut self, stream: u32, bytes: &[u8], end_stream: bool) -> bool {
        self.frame(DATA, u8::from(end_stream), stream, bytes).await
    }

    /// Gives a stream up (`CANCEL`).
    pub async fn reset(&mut self, stream: u32) -> bool {
        self.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await
    }

    /// The next frame; `None` when the connection ends or is silent until `end`. Settings and pings are acknowledged.
    pub async fn next_frame(&mut self, end: Instant) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take_frame() {
                if matches!(frame.kind, SETTINGS | PING) && frame.flags & 1 == 0 {
                    let payload = if frame.kind == PING { frame.payload.clone() } else { Vec::new() };
                    self.frame(frame.kind, 1, 0, &payload).await;
                }
                return Some(frame);
            }
            let read = timeout_at(end, self.stream.read_buf(&mut self.received)).await;
            if !matches!(read, Ok(Ok(n)) if n > 0) {
                return None;
            }
        }
    }

    /// Reads until it is known what became of a stream. Panics when that takes too long.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        let end = Instant::now() + DEADLINE;
        while let Some(frame) = self.next_frame(end).await {
            match frame.kind {
                HEADERS if frame.stream == stream => return Outcome::Status(status_of(&frame)),
                RST_STREAM if frame.stream == stream => return Outcome::Reset(number(&frame.payload, 0)),
                // A farewell with NO_ERROR lets streams below its number finish.
                GOAWAY if number(&frame.payload, 4) != 0 || number(&frame.payload, 0) < stream => {
                    return Outcome::Gone(Some(number(&frame.payload, 4)));
                }
                _ => {}
            }
        }
        assert!(Instant::now() < end, "stream {stream}: nothing within {DEADLINE:?}");
        Outcome::Gone(None)
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let head = self.received.get(..9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags, stream) = (head[3], head[4], number(head, 5) & 0x7fff_ffff);
        let payload = self.received.get(9..9 + length)?.to_vec();
        self.received.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }
}

/// A header block of literals that change no table (RFC 7541 §6.2.2).
#[must_use]
pub fn header_block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            push_length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

fn push_length(block: &mut Vec<u8>, length: usize) {
    if let Some(short) = u8::try_from(length).ok().filter(|short| *short < 127) {
        block.push(short);
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap_or(0));
}

/// The `:status` of an answer, which stands first: an entry of the static table, or a literal of three digits.
fn status_of(frame: &Frame) -> u16 {
    let mut block = frame.payload.as_slice();
    if frame.flags & 0x20 != 0 {
        block = block.get(5..).unwrap_or_default(); // priority
    }
    while block.first().is_some_and(|byte| byte & 0xe0 == 0x20) {
        block = &block[1..]; // table size
    }
    match block {
        [index @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => {
            digits.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| digits.parse().ok()).unwrap_or(0)
        }
        [0x08 | 0x18 | 0x48, length, coded @ ..] if length & 0x80 != 0 => {
            huffman_digits(coded.get(..usize::from(length & 0x7f)).unwrap_or_default())
        }
        _ => 0,
    }
}

/// Digits in HPACK's Huffman code: 0–2 have five bits, 3–9 have six.
fn huffman_digits(coded: &[u8]) -> u16 {
    let bits: Vec<u16> = coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1))).collect();
    let take = |from: usize, n: usize| bits.get(from..from + n).map(|bits| bits.iter().fold(0, |value, bit| value << 1 | bit));
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let Some(five) = take(at, 5) else { return 0 };
        let digit = if five <= 2 {
            at += 5;
            five
        } else {
            let Some(six) = take(at, 6) else { return 0 };
            at += 6;
            match six.checked_sub(22) {
                Some(digit) if digit <= 9 => digit,
                _ => return 0,
            }
        };
        status = status * 10 + digit;
    }
    status
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}
