//! A request's body on its way up, and whose turn it is.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::BoxError;
use crate::clock::SharedClock;

/// What the connections send: most requests have no body, and those pay nothing for the others.
pub(super) enum RequestBody {
    Empty,
    Streaming(Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>),
}

impl RequestBody {
    pub(super) fn new<B>(body: B, clock: &SharedClock) -> (Self, Turn)
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return (Self::Empty, Turn(None));
        }
        let turn = Rc::new(Cell::new(Some(clock.instant())));
        let upload = Upload { body, turn: Rc::clone(&turn), clock: SharedClock::clone(clock) };
        (Self::Streaming(Box::pin(upload)), Turn(Some(turn)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(body) => body.size_hint(),
        }
    }
}

/// Since when the upstream has had all that the downstream sent; `None` within: the downstream is to send more. Without a body it is the
/// upstream's turn from the start.
pub(super) struct Turn(Option<Rc<Cell<Option<Instant>>>>);

impl Turn {
    /// Whether there is no body at all.
    pub(super) const fn is_without_body(&self) -> bool {
        self.0.is_none()
    }

    /// Of a time `limit` that has run out once: what the upstream still has, when it was not its turn throughout.
    pub(super) fn left(&self, limit: Duration, now: Instant) -> Option<Duration> {
        match self.0.as_ref()?.get() {
            Some(since) => limit.checked_sub(now.saturating_duration_since(since)).filter(|left| !left.is_zero()),
            None => Some(limit),
        }
    }
}

/// What was taken of a body so far, kept in case it has to be sent once more from its beginning.
#[derive(Default)]
pub(super) struct Begun {
    pub(super) pieces: VecDeque<Bytes>,
    pub(super) bytes: usize,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) ended: bool,
}

impl Begun {
    /// These pieces, and after them what is left.
    pub(super) fn before(self, rest: RequestBody) -> RequestBody {
        if self.pieces.is_empty() && self.trailers.is_none() {
            return if self.ended { RequestBody::Empty } else { rest };
        }
        let rest = if self.ended { RequestBody::Empty } else { rest };
        RequestBody::Streaming(Box::pin(Again { begun: self, rest }))
    }
}

struct Again {
    begun: Begun,
    rest: RequestBody,
}

impl Body for Again {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(piece) = this.begun.pieces.pop_front() {
            this.begun.bytes = this.begun.bytes.saturating_sub(piece.len());
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match this.begun.trailers.take() {
            Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.begun.pieces.is_empty() && self.begun.trailers.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + self.begun.bytes as u64),
            None => SizeHint::default(),
        }
    }
}

pin_project! {
    struct Upload<B> {
        #[pin]
        body: B,
        turn: Rc<Cell<Option<Instant>>>,
        clock: SharedClock,
    }
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        this.turn.set(None);
        let frame = ready!(this.body.poll_frame(cx));
        this.turn.set(Some(this.clock.instant()));
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
