//! A request's body on its way up, and whose turn it is.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
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
    /// Of a time `limit` that has run out once: what the upstream still has, when it was not its turn throughout.
    pub(super) fn left(&self, limit: Duration, now: Instant) -> Option<Duration> {
        match self.0.as_ref()?.get() {
            Some(since) => limit.checked_sub(now.saturating_duration_since(since)).filter(|left| !left.is_zero()),
            None => Some(limit),
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
