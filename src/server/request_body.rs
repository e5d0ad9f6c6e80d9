//! A request's body on its way in: the downstream may be slow, but not silent for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use crate::fault::Fault;
use crate::reason::Reason;

/// What a request brings beside its head. Fails with [`Reason::BodyTimeout`] when nothing comes for `body_timeout` while somebody waits, with
/// [`Reason::BodyBroken`] when the downstream goes away or frames it wrongly. Time in which nobody asks for more does not count.
pub struct RequestBody {
    /// `None` once it has failed, or where it was there whole.
    frames: Option<Incoming>,
    /// What was read before, or kept for it.
    whole: Option<Bytes>,
    /// `None`: the sender may be silent for as long as it likes.
    limit: Option<Duration>,
    /// Of the wait under way. Most requests have no body and most bodies are there at once: those make none.
    timer: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) const fn new(frames: Incoming, limit: Duration) -> Self {
        Self { frames: Some(frames), whole: None, limit: Some(limit), timer: None }
    }

    /// These bytes, in place of what the connection brings.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self { frames: None, whole: Some(bytes).filter(|bytes| !bytes.is_empty()), limit: None, timer: None }
    }

    /// Of a call whose two sides speak when they have something to say.
    #[must_use]
    pub fn lasting(self) -> Self {
        Self { limit: None, ..self }
    }

    fn fail(&mut self, reason: Reason, detail: String) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.frames = None;
        Poll::Ready(Some(Err(Fault::new(reason, detail))))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if let Some(bytes) = this.whole.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(frames) = &mut this.frames else { return Poll::Ready(None) };
        // hyper lets go of a body that ends after its answer only with the next request.
        if frames.is_end_stream() {
            return Poll::Ready(None);
        }
        match Pin::new(frames).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.timer = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.fail(Reason::BodyBroken, error.to_string()),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let Some(limit) = this.limit else { return Poll::Pending };
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => this.fail(Reason::BodyTimeout, format!("nothing more of the body for {limit:?}")),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_none() && self.frames.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let whole = self.whole.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.frames.as_ref().map_or_else(|| SizeHint::with_exact(whole), Incoming::size_hint)
    }
}
