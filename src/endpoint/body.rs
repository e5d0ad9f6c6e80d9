//! What we answer with: bytes of our own, or the upstream's body as it comes.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use super::access::AccessLine;
use crate::tasks::Ending;
use crate::upstream::UpstreamBody;

pin_project! {
    /// A response body. Its access line is written when it is dropped: when the answer has ended, or was left.
    pub struct Body {
        #[pin]
        source: Source,
        line: Option<Box<AccessLine>>,
    }
}

pin_project! {
    #[project = SourceProjection]
    enum Source {
        Ready { #[pin] body: Full<Bytes> },
        Upstream { #[pin] body: UpstreamBody },
        Stream { #[pin] body: UpstreamBody, ended: Pin<Box<dyn Future<Output = ()>>> },
    }
}

impl Body {
    /// These bytes.
    #[must_use]
    pub fn ready(bytes: Bytes) -> Self {
        Self { source: Source::Ready { body: Full::new(bytes) }, line: None }
    }

    /// What the upstream sends, until the word comes: then it breaks off.
    pub(super) fn until(body: UpstreamBody, mut ending: Ending) -> Self {
        let ended = Box::pin(async move { ending.ended().await });
        Self { source: Source::Stream { body, ended }, line: None }
    }

    pub(super) fn with_line(self, line: Box<AccessLine>) -> Self {
        Self { line: Some(line), ..self }
    }
}

impl From<UpstreamBody> for Body {
    fn from(body: UpstreamBody) -> Self {
        Self { source: Source::Upstream { body }, line: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        let frame = match this.source.project() {
            SourceProjection::Ready { body } => ready!(body.poll_frame(context)).map(|frame| frame.map_err(|never| match never {})),
            SourceProjection::Upstream { body } => ready!(body.poll_frame(context)),
            SourceProjection::Stream { body, ended } => {
                if ended.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Some(Err("the session of this stream has ended".into())));
                }
                ready!(body.poll_frame(context))
            }
        };
        if let (Some(Ok(frame)), Some(line)) = (&frame, this.line)
            && let Some(data) = frame.data_ref()
        {
            line.bytes += data.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ready { body } => body.is_end_stream(),
            Source::Upstream { body } | Source::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ready { body } => body.size_hint(),
            Source::Upstream { body } | Source::Stream { body, .. } => body.size_hint(),
        }
    }
}
