//! The bytes of a connection, plain or over TLS, on their way to hyper.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, Extent, Next, Protocol};
use super::cores::Place;
use super::framing::{Head, LineEnds};
use super::socket::Link;

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// So much of it tells: no HTTP/1.1 request begins so.
const TELLING: usize = 4;

/// A connection's bytes.
pub(super) enum Stream {
    Plain(Link, Prefix),
    Tls(Box<TlsStream<Link>>),
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
pub(super) async fn tell_protocol(mut stream: Link) -> io::Result<(Stream, Protocol)> {
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

/// A stream whose activity is noted and whose heads are watched, each of them and nothing else: hyper is given a head to its end and no byte
/// more; it makes a request of it before it reads again; and from then on it is known where the next head begins.
pub(super) struct Watched {
    stream: Stream,
    activity: Arc<Activity>,
    part: Part,
    kept: Kept,
    /// The connection's place among all; in here because a tunnel keeps the socket longer than hyper's connection lives.
    _place: Place,
}

/// What the next byte belongs to.
enum Part {
    /// A head.
    Head(LineEnds),
    /// What follows a head is known to whoever has parsed that: [`Activity::extent`].
    AfterHead,
    /// A body that has so many bytes still to come.
    Body(u64),
    /// A head or a tunnel: [`Activity::next`].
    AfterRequest,
    /// To no message that has a successor: HTTP/2, a tunnel, the connection's last body, a spoilt head.
    Rest,
}

/// Bytes that came along with others and whose turn has not come. Most requests come alone: nothing is allocated then.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    given: usize,
}

impl Kept {
    fn rest(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.given..).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.given >= self.bytes.len()
    }

    /// Nothing may be kept at the time.
    fn keep(&mut self, bytes: &[u8]) {
        *self = Self { bytes: bytes.to_vec(), given: 0 };
    }

    fn give(&mut self, length: usize, buffer: &mut ReadBuf<'_>) {
        buffer.put_slice(self.rest().get(..length).unwrap_or_default());
        self.given += length;
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

impl Watched {
    pub(super) fn new(stream: Stream, activity: Arc<Activity>, place: Place) -> Self {
        let part = match activity.protocol() {
            Protocol::Http1 => Part::Head(LineEnds::default()),
            Protocol::Http2 => Part::Rest,
        };
        Self { stream, activity, part, kept: Kept::default(), _place: place }
    }

    /// Goes on to the next part if this one is over.
    fn advance(&mut self) -> io::Result<()> {
        if matches!(self.part, Part::AfterHead) {
            self.part = match self.activity.extent() {
                Some(Extent::Bytes(length)) => Part::Body(length),
                Some(Extent::Rest) => Part::Rest,
                // hyper takes for a part of a head what to us was all of it: a thing that does not happen, and nothing to go on with.
                None => return Err(io::Error::new(io::ErrorKind::InvalidData, "the end of a head is in dispute")),
            };
        }
        if matches!(self.part, Part::Body(0) | Part::AfterRequest) {
            self.part = match self.activity.next() {
                Next::Head => Part::Head(LineEnds::default()),
                Next::Unknown => Part::AfterRequest,
                Next::Tunnel => Part::Rest,
            };
        }
        Ok(())
    }

    /// Reads no more than `limit` bytes, of those that are kept first.
    fn read(&mut self, limit: u64, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.kept.is_empty() {
            if limit == u64::MAX {
                return Pin::new(&mut self.stream).poll_read(cx, buffer);
            }
            return Pin::new(&mut (&mut self.stream).take(limit)).poll_read(cx, buffer);
        }
        let length = self.kept.rest().len().min(buffer.remaining());
        self.kept.give(usize::try_from(limit).map_or(length, |limit| length.min(limit)), buffer);
        Poll::Ready(Ok(()))
    }

    /// Reads bytes of a head, up to its end.
    fn read_head(&mut self, mut ends: LineEnds, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let head = if self.kept.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
            let piece = buffer.filled_mut().get_mut(before..).unwrap_or_default();
            let head = ends.watch(piece);
            if let Head::Ends(length) = head
                && let Some((_, rest @ [_, ..])) = piece.split_at_checked(length)
            {
                self.kept.keep(rest);
                buffer.set_filled(before + length);
            }
            head
        } else {
            let room = buffer.remaining();
            let rest = self.kept.rest();
            let length = rest.len().min(room);
            let head = ends.watch(rest.get_mut(..length).unwrap_or_default());
            self.kept.give(
                match head {
                    Head::Ends(end) => end,
                    Head::Open | Head::Spoilt => length,
                },
                buffer,
            );
            head
        };
        if ends.has_begun() || head == Head::Spoilt {
            self.activity.head_begun();
        }
        self.part = match head {
            Head::Open => Part::Head(ends),
            Head::Spoilt => Part::Rest,
            Head::Ends(_) => {
                self.activity.head_given();
                Part::AfterHead
            }
        };
        Poll::Ready(Ok(()))
    }

    /// Whether the downstream is gone can be told, and no more: what comes is kept. Whoever answers the request wakes the reader.
    fn look(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.kept.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
            let piece = buffer.filled().get(before..).unwrap_or_default();
            if piece.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.kept.keep(piece);
            buffer.set_filled(before);
        }
        Poll::Pending
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
        this.advance()?;
        match &this.part {
            Part::Head(ends) => this.read_head(*ends, cx, buffer),
            Part::Body(left) => {
                let (left, before) = (*left, buffer.filled().len());
                ready!(this.read(left, cx, buffer))?;
                let read = u64::try_from(buffer.filled().len() - before).unwrap_or(u64::MAX);
                this.part = Part::Body(left.saturating_sub(read));
                Poll::Ready(Ok(()))
            }
            Part::AfterHead | Part::AfterRequest => this.look(cx, buffer),
            Part::Rest => {
                ready!(this.read(u64::MAX, cx, buffer))?;
                if this.activity.protocol() == Protocol::Http2 && !buffer.filled().is_empty() {
                    this.activity.head_begun();
                }
                Poll::Ready(Ok(()))
            }
        }
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

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
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
