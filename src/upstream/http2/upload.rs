//! A request's body on its way up a stream: as fast as the upstream takes it, in the pieces that came, and no copy of them.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::Body as _;

use super::super::BoxError;
use super::super::request_body::{Begun, RequestBody};

/// So much of a body is kept until the answer begins: a request that the upstream has not looked at can be sent once more then.
const KEPT: usize = 64 * 1024;
/// What a piece costs beside its bytes: it holds on to the buffer that it was read into.
const PIECE: usize = 512;

/// The body, and the stream that takes it.
pub(super) struct Upload {
    body: RequestBody,
    stream: SendStream<Bytes>,
    /// Came, and could not be sent yet.
    piece: Bytes,
    last: bool,
    kept: Option<Begun>,
}

impl Upload {
    pub(super) fn new(body: RequestBody, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, piece: Bytes::new(), last: false, kept: Some(Begun::default()) }
    }

    /// Sends what there is. An error is the body's own, and the upstream has been told; whatever is wrong with the stream itself is told with
    /// the answer, and ends the upload without one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if !self.piece.is_empty() {
                if ready!(self.poll_piece(cx)).is_none() || (self.last && self.piece.is_empty()) {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let trailers = match frame.into_data() {
                        Ok(piece) => {
                            self.last = self.body.is_end_stream();
                            self.keep(&piece);
                            if piece.is_empty() && self.last {
                                return self.end();
                            }
                            self.piece = piece;
                            continue;
                        }
                        Err(frame) => frame.into_trailers(),
                    };
                    if let Ok(trailers) = trailers {
                        return self.end_with(trailers);
                    }
                }
                Some(Err(error)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(error));
                }
                None => return self.end(),
            }
        }
    }

    /// As much of the piece as the windows allow; `None` when the stream takes no more.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        // Asked for only with a piece in hand: room that is held for nothing is taken from others on the connection.
        self.stream.reserve_capacity(self.piece.len());
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
        let now = self.piece.split_to(self.stream.capacity().min(self.piece.len()));
        let last = self.last && self.piece.is_empty();
        Poll::Ready(self.stream.send_data(now, last).ok())
    }

    fn end(&mut self) -> Poll<Result<(), BoxError>> {
        self.last = true;
        if let Some(kept) = &mut self.kept {
            kept.ended = true;
        }
        // What is wrong with the stream is told with the answer.
        let _ = self.stream.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }

    fn end_with(&mut self, trailers: HeaderMap) -> Poll<Result<(), BoxError>> {
        self.last = true;
        if let Some(kept) = &mut self.kept {
            kept.ended = true;
            kept.trailers = Some(trailers.clone());
        }
        if self.stream.send_trailers(trailers).is_err() {
            // Not sent for what they hold: the upstream must not wait for an end that never comes.
            self.stream.send_reset(Reason::CANCEL);
        }
        Poll::Ready(Ok(()))
    }

    fn keep(&mut self, piece: &Bytes) {
        if let Some(kept) = &mut self.kept {
            kept.ended |= self.last;
            kept.bytes += piece.len();
            kept.pieces.push_back(piece.clone());
        }
        if self.kept.as_ref().is_some_and(|kept| kept.bytes + kept.pieces.len() * PIECE > KEPT) {
            self.kept = None;
        }
    }

    /// The answer has begun: what was sent is not sent again.
    pub(super) fn forget(&mut self) {
        self.kept = None;
    }

    /// The body as it was before anything of it was sent, where all of that was kept.
    pub(super) fn back(mut self) -> Option<RequestBody> {
        let kept = self.kept.take()?;
        Some(kept.before(mem::replace(&mut self.body, RequestBody::Empty)))
    }
}
