//! An answer's body on its way down, and what becomes of its connection.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::BoxError;
use super::connection::Connection;
use super::frames::Frames;
use super::pool::Pool;

/// How long an upload may go on after its answer is complete (a `413` that came early); then the connection is cut.
const UPLOAD_AFTER_ANSWER: Duration = Duration::from_secs(5);

/// The body of an upstream's answer: frames and trailers as they come, and no faster than they are asked for. When it ends well its
/// connection waits for the next request; when it breaks off, or is dropped before its end, the connection is cut. An upstream that breaks
/// off is an error of the stream, never its end.
pub struct UpstreamBody {
    frames: Option<Frames>,
    lease: Option<Lease>,
}

/// A connection that belongs to an answer until that has come through.
pub(super) struct Lease {
    pub(super) connection: Connection,
    /// Where it may wait afterwards.
    pub(super) pool: Option<Rc<Pool>>,
}

impl UpstreamBody {
    pub(super) const fn empty() -> Self {
        Self { frames: None, lease: None }
    }

    pub(super) fn new(frames: Frames, lease: Lease) -> Self {
        let mut body = Self { frames: Some(frames), lease: Some(lease) };
        body.settle();
        body
    }

    /// Lets go of the connection once nothing more comes on it.
    fn settle(&mut self) {
        if self.is_end_stream() {
            self.ended();
        }
    }

    fn ended(&mut self) {
        self.frames = None;
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(frames) = &mut this.frames else { return Poll::Ready(None) };
        match ready!(Pin::new(frames).poll_frame(cx)) {
            Some(Ok(frame)) => {
                this.settle();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.frames = None;
                this.lease = None;
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.ended();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.as_ref().is_none_or(Frames::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.frames.as_ref().map_or_else(|| SizeHint::with_exact(0), Frames::size_hint)
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        // Whoever reads a body need not read past its last frame to learn that there is no more.
        if let Some(Lease { connection, pool: Some(pool) }) = self.lease.take()
            && connection.is_ready()
        {
            pool.put(connection);
        }
    }
}

impl Lease {
    /// The answer is through; the request may not be.
    fn finish(self) {
        let Self { mut connection, pool: Some(pool) } = self else { return };
        if connection.is_ready() {
            pool.put(connection);
        } else if !connection.is_closed() {
            tokio::task::spawn_local(async move {
                if tokio::time::timeout(UPLOAD_AFTER_ANSWER, connection.ready()).await == Ok(true) {
                    pool.put(connection);
                }
            });
        }
    }
}
