//! Whether anybody is at the other end of a connection whose answers wait: asked by a ping after a long silence (RFC 9113 §6.7). A machine
//! that vanished is noticed so, and so is a program that hangs.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Patience;

/// How often anything came.
pub(super) type Times = Rc<Cell<u64>>;

/// A stream that counts how often anything came.
pub(super) struct Heard<T> {
    io: T,
    heard: Times,
}

impl<T> Heard<T> {
    pub(super) fn new(io: T) -> (Self, Times) {
        let heard = Times::default();
        (Self { io, heard: Rc::clone(&heard) }, heard)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if polled.is_ready() {
            this.heard.set(this.heard.get().wrapping_add(1));
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[std::io::IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// Returns when nobody answers any more. It asks only while `waiting` is above zero, and never after less than the whole silence.
pub(super) async fn silence(mut pings: PingPong, heard: Times, waiting: Rc<Cell<usize>>, patience: Patience) {
    let mut before = heard.get();
    loop {
        tokio::time::sleep(patience.ask_after).await;
        if heard.get() == before && waiting.get() > 0 {
            match tokio::time::timeout(patience.answer_within, pings.ping(Ping::opaque())).await {
                Ok(Ok(_)) => {}
                // The connection itself says what became of it.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => return,
            }
        }
        before = heard.get();
    }
}
