//! The bytes of a connection, plain or over TLS, on their way to hyper.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, Protocol};
use super::cores::Place;
use super::framing::{Head, LineEnds};

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// So much of it tells: no HTTP/1.1 request begins so.
const TELLING: usize = 4;

/// A connection's bytes.
pub(super) enum Stream {
    Plain(TcpStream, Prefix),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Bytes that were read to tell the protocol and are still to be given out.
#[derive(Default)]
pub(super) struct Prefix {
    bytes: [u8; PREFACE.len()],
    given: usize,
    length: usize,
}

impl Prefix {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.given..self.length).unwrap_or_default()
    }
}

/// Reads just enough to tell HTTP/2 with prior knowledge (RFC 9113 §3.3) from HTTP/1.1.
pub(super) async fn tell_protocol(mut stream: TcpStream) -> io::Result<(Stream, Protocol)> {
    let mut prefix = Prefix::default();
    let protocol = loop {
        let read = stream.read(prefix.bytes.get_mut(prefix.length..).unwrap_or_default()).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        prefix.length += read;
        if !PREFACE.starts_with(prefix.rest()) {
            break Protocol::Http1;
        }
        if prefix.length >= TELLING {
            break Protocol::Http2;
        }
    };
    Ok((Stream::Plain(stream, prefix), protocol))
}

/// A stream whose activity is noted and whose heads are watched.
pub(super) struct Watched {
    stream: Stream,
    activity: Arc<Activity>,
    /// The head that is arriving.
    head: Option<LineEnds>,
    /// The connection's place among all; in here because a tunnel keeps the socket longer than hyper's connection lives.
    _place: Place,
}

impl Watched {
    pub(super) const fn new(stream: Stream, activity: Arc<Activity>, place: Place) -> Self {
        Self { stream, activity, head: None, _place: place }
    }

    fn note<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &written {
            Poll::Ready(_) => self.activity.written(),
            Poll::Pending => self.activity.write_blocked(),
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        ready!(this.stream.poll_read(cx, buffer))?;
        let piece = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        if !piece.is_empty() && this.activity.bytes_read() {
            let ends = this.head.get_or_insert_default();
            if ends.watch(piece) == Head::Over {
                this.head = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            // Nothing is kept between us and the kernel.
            Stream::Plain(..) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => {
                let flushed = Pin::new(stream).poll_flush(cx);
                self.note(flushed)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = match &mut self.stream {
            Stream::Plain(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        self.note(shut)
    }
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_, prefix) if !prefix.rest().is_empty() => {
                let rest = prefix.rest();
                let piece = rest.get(..rest.len().min(buffer.remaining())).unwrap_or_default();
                buffer.put_slice(piece);
                prefix.given += piece.len();
                Poll::Ready(Ok(()))
            }
            Self::Plain(stream, _) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}
