//! What one request is sent on: a connection of its own for as long as it takes, or a stream of a connection that it shares.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use super::BoxError;
use super::frames::Frames;
use super::heard::Heard;
use super::http2::Place;
use super::request_body::RequestBody;

/// A connection as one request has it.
pub(super) enum Connection {
    /// HTTP/1.1: all of it.
    Http1(Http1),
    /// HTTP/2: a place on it. What is dropped is the request, and the connection goes on for others.
    Http2(Place),
}

/// One connection. Dropped while it waits it closes in good order; dropped amid a request or an answer it is cut, so that neither side can
/// take half a message for a whole one.
pub(super) struct Http1 {
    sender: SendRequest<RequestBody>,
    task: AbortHandle,
    heard: Heard,
}

/// What became of a request.
pub(super) type Sent = Result<Response<Frames>, Failed>;

/// A request without an answer.
pub(super) struct Failed {
    pub(super) error: BoxError,
    /// The request, untouched, where the upstream cannot have looked at it.
    pub(super) back: Option<Box<Request<RequestBody>>>,
}

impl Failed {
    /// The request, if it may be sent elsewhere.
    pub(super) fn take_message(&mut self) -> Option<Box<Request<RequestBody>>> {
        self.back.take()
    }

    pub(super) fn into_error(self) -> BoxError {
        self.error
    }
}

impl Connection {
    /// Speaks HTTP/1.1 on `io`, by a task of this core.
    pub(super) async fn open<T>(io: T, http: &http1::Builder) -> Result<Self, BoxError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let heard = Heard::default();
        let (sender, connection) = http.handshake(TokioIo::new(heard.clone().listening(io))).await?;
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Self::Http1(Http1 { sender, task: task.abort_handle(), heard }))
    }

    /// Hands the request to the connection at once; what is returned only waits. The error holds the request, untouched, when the upstream
    /// had closed before anything of it was sent, or has said that it did not look at it.
    pub(super) fn send(&mut self, request: Request<RequestBody>) -> Sending<impl Future<Output = Answered> + use<>> {
        match self {
            Self::Http1(connection) => {
                connection.heard.begin();
                Sending::Http1 { answer: connection.sender.try_send_request(request) }
            }
            // Larger, and shared by as many requests as there are: in a box, so that a request over HTTP/1.1 does not carry its room.
            Self::Http2(place) => Sending::Http2 { answer: Box::pin(place.send(request)) },
        }
    }

    /// Whether anything has come since the last request was handed over. What others hear on a shared connection is not told apart: there a
    /// request that may go elsewhere is one that was given back.
    pub(super) fn has_heard(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.heard.anything(),
            Self::Http2(_) => true,
        }
    }

    /// Everything of the last request and its answer is through, and the upstream keeps the connection.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.sender.is_ready(),
            Self::Http2(place) => place.is_sent(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.sender.is_closed(),
            Self::Http2(_) => false,
        }
    }

    /// Waits until it is ready; `false` when it closes instead.
    pub(super) async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(connection) => connection.sender.ready().await.is_ok(),
            Self::Http2(place) => {
                place.sent().await;
                true
            }
        }
    }
}

/// What hyper says of a request over HTTP/1.1.
type Answered = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

pin_project! {
    /// A request under way. By hand, for a block that waits for either would keep room for both, and for each twice.
    #[project = SendingProjection]
    pub(super) enum Sending<F> {
        Http1 { #[pin] answer: F },
        Http2 { answer: Pin<Box<dyn Future<Output = Sent>>> },
    }
}

impl<F: Future<Output = Answered>> Future for Sending<F> {
    type Output = Sent;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Sent> {
        match self.project() {
            SendingProjection::Http1 { answer } => Poll::Ready(match ready!(answer.poll(cx)) {
                Ok(answer) => Ok(answer.map(Frames::Http1)),
                Err(mut failed) => {
                    let back = failed.take_message().map(Box::new);
                    Err(Failed { error: failed.into_error().into(), back })
                }
            }),
            SendingProjection::Http2 { answer } => answer.as_mut().poll(cx),
        }
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        if !self.sender.is_ready() {
            self.task.abort();
        }
    }
}
