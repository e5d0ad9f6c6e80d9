//! Bodies for requests and answers: none, whole, or piece by piece from a test.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::mpsc;

/// What goes wrong inside a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Any body of the harness.
pub type TestBody = UnsyncBoxBody<Bytes, BoxError>;

/// No body.
#[must_use]
pub fn empty() -> TestBody {
    Empty::new().map_err(never).boxed_unsync()
}

/// A whole body, of known length.
pub fn full(content: impl Into<Bytes>) -> TestBody {
    Full::new(content.into()).map_err(never).boxed_unsync()
}

/// A body that a test sends piece by piece. It ends when the sender is dropped.
#[must_use]
pub fn streamed() -> (BodySender, TestBody) {
    let (sender, parts) = mpsc::channel(1);
    (BodySender { sender }, Parts { parts }.boxed_unsync())
}

/// The other end of a [`streamed`] body.
pub struct BodySender {
    sender: mpsc::Sender<Part>,
}

impl BodySender {
    /// Sends one piece; waits while the peer takes nothing. `false`: nobody reads any more.
    pub async fn send(&self, piece: impl Into<Bytes>) -> bool {
        self.sender.send(Part::Data(piece.into())).await.is_ok()
    }

    /// Sends trailers and ends the body.
    pub async fn trailers(self, trailers: HeaderMap) -> bool {
        self.sender.send(Part::Trailers(trailers)).await.is_ok()
    }

    /// Breaks the body off, as a peer does that goes away: its end is never sent.
    pub async fn abort(self) {
        let _ = self.sender.send(Part::Abort).await;
    }

    /// Waits until nobody reads any more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    Abort,
}

struct Parts {
    parts: mpsc::Receiver<Part>,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.parts.poll_recv(cx).map(|part| {
            part.map(|part| match part {
                Part::Data(data) => Ok(Frame::data(data)),
                Part::Trailers(trailers) => Ok(Frame::trailers(trailers)),
                Part::Abort => Err("the test broke this body off".into()),
            })
        })
    }
}

/// Keeps `kept` alive until the body has been sent or was dropped.
pub fn holding<T: Send + Unpin + 'static>(body: TestBody, kept: T) -> TestBody {
    Holding { body, _kept: kept }.boxed_unsync()
}

struct Holding<T> {
    body: TestBody,
    _kept: T,
}

impl<T: Unpin> Body for Holding<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

fn never(error: Infallible) -> BoxError {
    match error {}
}
