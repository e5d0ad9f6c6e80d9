//! The frames of an answer's body, by whichever protocol they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::BoxError;
use super::http2::Received;

/// What an upstream sends after the head of its answer.
pub(super) enum Frames {
    Http1(Incoming),
    Http2(Received),
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Http1(frames) => Pin::new(frames).poll_frame(cx).map_err(Into::into),
            Self::Http2(frames) => frames.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(frames) => frames.is_end_stream(),
            Self::Http2(frames) => frames.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(frames) => frames.size_hint(),
            Self::Http2(frames) => frames.size_hint(),
        }
    }
}
