//! WebSocket (RFC 6455) for both ends of a test. The frames are tungstenite's, not ours; the handshake goes through the HTTP client, so
//! that a refusal is an ordinary answer.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket as Frames};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::body::empty;
use super::http::{Answer, BoxedStream, HttpClient};
use super::wait::PATIENCE;

/// An open WebSocket.
pub struct WebSocket {
    stream: BoxedStream,
    frames: Frames<Pipe>,
}

impl WebSocket {
    /// Opens one at an `http` or `https` URL with these further headers. `Err`: the answer that refused it.
    pub async fn connect(client: &HttpClient, url: &str, headers: &[(&str, &str)]) -> Result<Self, Box<Answer>> {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let mut request = Request::get(url)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(empty()).expect("a request");
        let answer = client.open(request).await.unwrap_or_else(|error| panic!("WebSocket at {url}: {error}"));
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let refused = answer.whole().await.unwrap_or_else(|error| panic!("WebSocket at {url}: {error}"));
            return Err(Box::new(refused));
        }
        let accept = answer.headers().get("sec-websocket-accept").and_then(|value| value.to_str().ok());
        assert_eq!(accept, Some(accept_for(key).as_str()), "Sec-WebSocket-Accept does not fit the key");
        let stream = answer.upgraded().await.unwrap_or_else(|error| panic!("WebSocket at {url}: {error}"));
        Ok(Self::over(stream, Role::Client))
    }

    /// Speaks frames on a stream whose handshake is done.
    #[must_use]
    pub fn over(stream: BoxedStream, role: Role) -> Self {
        Self { stream, frames: Frames::from_raw_socket(Pipe::default(), role, None) }
    }

    /// Sends a message. `false`: the socket is closed.
    pub async fn send(&mut self, message: Message) -> bool {
        let queued = self.frames.send(message).is_ok();
        self.write_out().await && queued
    }

    /// Sends a text message. `false`: the socket is closed.
    pub async fn send_text(&mut self, text: &str) -> bool {
        self.send(Message::text(text)).await
    }

    /// The next message (pings are answered on the way); `None` when the socket has closed or broken.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match self.frames.read() {
                Ok(Message::Ping(_) | Message::Pong(_)) => {
                    self.write_out().await;
                }
                Ok(message) => {
                    self.write_out().await;
                    return Some(message);
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.write_out().await;
                    let mut bytes = Vec::with_capacity(16 << 10);
                    if self.stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return None;
                    }
                    self.frames.get_mut().inbound.extend(bytes);
                }
                Err(_) => {
                    self.write_out().await;
                    return None;
                }
            }
        }
    }

    /// The next text message; panics when something else comes or nothing.
    pub async fn next_text(&mut self) -> String {
        match tokio::time::timeout(PATIENCE, self.next()).await {
            Ok(Some(Message::Text(text))) => text.to_string(),
            other => panic!("expected a text message, got {other:?}"),
        }
    }

    /// Sends a text and waits for it to come back.
    pub async fn echo(&mut self, text: &str) -> bool {
        self.send_text(text).await && self.next_text().await == text
    }

    /// Whether the peer ends the socket (close frame or connection) within `time`. Messages meanwhile are dropped.
    pub async fn ends_within(&mut self, time: Duration) -> bool {
        let end = async {
            while let Some(message) = self.next().await {
                if message.is_close() {
                    return;
                }
            }
        };
        tokio::time::timeout(time, end).await.is_ok()
    }

    /// Says goodbye and waits for the peer's.
    pub async fn close(mut self) {
        let _ = self.frames.close(None);
        self.write_out().await;
        self.ends_within(PATIENCE).await;
    }

    async fn write_out(&mut self) -> bool {
        let _ = self.frames.flush();
        let bytes = std::mem::take(&mut self.frames.get_mut().outbound);
        self.stream.write_all(&bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }
}

/// What a server answers to a `Sec-WebSocket-Key`.
#[must_use]
pub fn accept_for(key: &str) -> String {
    derive_accept_key(key.as_bytes())
}

/// Between tungstenite, which reads and writes, and the stream, which waits.
#[derive(Default)]
struct Pipe {
    inbound: VecDeque<u8>,
    outbound: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.inbound.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.inbound.read(buf)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbound.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
