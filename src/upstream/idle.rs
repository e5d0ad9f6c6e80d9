//! The end of an answer or a tunnel on which nothing moves any more, where the route bounds that.

use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deadlines::{Deadline, Deadlines};

/// For an answer's body: how long the upstream may send nothing while more of it is asked for. Time that the downstream takes is not its.
pub(super) struct Idle {
    deadline: Deadline,
    limit: Duration,
    waiting: bool,
}

impl Idle {
    pub(super) fn new(deadlines: &Rc<Deadlines>) -> Self {
        Self { deadline: deadlines.wait(), limit: deadlines.limit(), waiting: false }
    }

    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Something came.
    pub(super) const fn moved(&mut self) {
        self.waiting = false;
    }

    /// Nothing came now: whether that is so for too long.
    pub(super) fn is_over(&mut self, cx: &Context<'_>) -> bool {
        if !self.waiting {
            self.waiting = true;
            self.deadline.restart(self.limit);
        }
        self.deadline.poll_over(cx).is_ready()
    }
}

/// For a tunnel: one of its sides, which sees what goes either way.
pub(super) struct Moving<T> {
    io: T,
    deadline: Rc<Deadline>,
    limit: Duration,
}

impl<T> Moving<T> {
    /// The side, and what tells that nothing has moved for too long.
    pub(super) fn new(io: T, deadlines: &Rc<Deadlines>) -> (Self, Rc<Deadline>) {
        let deadline = Rc::new(deadlines.wait());
        (Self { io, deadline: Rc::clone(&deadline), limit: deadlines.limit() }, deadline)
    }

    fn moved(&self) {
        self.deadline.restart(self.limit);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Moving<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.moved();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Moving<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.moved();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.moved();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
