//! What we answer with: bytes of our own, or the upstream's body as it comes.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use crate::upstream::UpstreamBody;

pin_project! {
    /// A response body.
    #[project = BodyProjection]
    pub enum Body {
        /// Of our own.
        Ready { #[pin] body: Full<Bytes> },
        /// Of the upstream.
        Upstream { #[pin] body: UpstreamBody },
    }
}

impl Body {
    /// These bytes.
    #[must_use]
    pub fn ready(bytes: Bytes) -> Self {
        Self::Ready { body: Full::new(bytes) }
    }
}

impl From<UpstreamBody> for Body {
    fn from(body: UpstreamBody) -> Self {
        Self::Upstream { body }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.project() {
            BodyProjection::Ready { body } => body.poll_frame(context).map_err(|never| match never {}),
            BodyProjection::Upstream { body } => body.poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Ready { body } => body.is_end_stream(),
            Self::Upstream { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ready { body } => body.size_hint(),
            Self::Upstream { body } => body.size_hint(),
        }
    }
}
