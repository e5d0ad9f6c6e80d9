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
use super::idle::Idle;
use super::peer::Held;
use super::pool::Pool;
use crate::fault::Fault;
use crate::reason::Reason;

/// How long an upload may go on after its answer is complete (a `413` that came early); then the connection is cut.
const UPLOAD_AFTER_ANSWER: Duration = Duration::from_secs(5);

/// The body of an upstream's answer: frames and trailers as they come, and no faster than they are asked for. When it ends well its
/// connection waits for the next request; when it breaks off, or is dropped before its end, the connection is cut. An upstream that breaks
/// off is an error of the stream, never its end.
pub struct UpstreamBody {
    frames: Option<Frames>,
    lease: Option<Lease>,
    /// What counts it as under way, where that is counted.
    held: Option<Held>,
    /// Where the route bounds how long nothing may come.
    idle: Option<Idle>,
}

/// A connection that belongs to an answer until that has come through.
pub(super) struct Lease {
    pub(super) connection: Connection,
    /// Where it may wait afterwards.
    pub(super) pool: Option<Rc<Pool>>,
}

impl UpstreamBody {
    pub(super) const fn empty() -> Self {
        Self { frames: None, lease: None, held: None, idle: None }
    }

    pub(super) fn new(frames: Frames, lease: Lease, held: Option<Held>) -> Self {
        let mut body = Self { frames: Some(frames), lease: Some(lease), held, idle: None };
        body.settle();
        body
    }

    /// It is broken off when nothing comes for too long.
    pub(super) fn bound(&mut self, idle: Idle) {
        self.idle = Some(idle);
    }

    /// Lets go of the connection once nothing more comes on it.
    fn settle(&mut self) {
        if self.is_end_stream() {
            self.ended();
        }
    }

    fn break_off(&mut self) {
        self.frames = None;
        self.lease = None;
        self.held = None;
    }

    fn ended(&mut self) {
        self.frames = None;
        let held = self.held.take();
        if let Some(lease) = self.lease.take() {
            lease.finish(held);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(frames) = &mut this.frames else { return Poll::Ready(None) };
        let polled = Pin::new(frames).poll_frame(cx);
        if let Some(idle) = &mut this.idle {
            match &polled {
                Poll::Ready(_) => idle.moved(),
                Poll::Pending if idle.is_over(cx) => {
                    let fault = Fault::new(Reason::UpstreamTimeout, format!("the upstream sent nothing for {:?}", idle.limit()));
                    this.break_off();
                    return Poll::Ready(Some(Err(fault.into())));
                }
                Poll::Pending => {}
            }
        }
        match ready!(polled) {
            Some(Ok(frame)) => {
                this.settle();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.break_off();
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
    /// The answer is through; the request may not be, and is under way until it is.
    fn finish(self, held: Option<Held>) {
        let Self { mut connection, pool: Some(pool) } = self else { return };
        if connection.is_ready() {
            pool.put(connection);
        } else if !connection.is_closed() {
            tokio::task::spawn_local(async move {
                let _held = held;
                if tokio::time::timeout(UPLOAD_AFTER_ANSWER, connection.ready()).await == Ok(true) {
                    pool.put(connection);
                }
            });
        }
    }
}
