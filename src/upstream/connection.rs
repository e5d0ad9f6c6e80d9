//! HTTP/1.1 on one connection.

use std::future::Future;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use super::BoxError;
use super::request_body::RequestBody;

/// One connection. Dropped while it waits it closes in good order; dropped amid a request or an answer it is cut, so that neither side can
/// take half a message for a whole one.
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    task: AbortHandle,
}

/// What became of a request.
pub(super) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

impl Connection {
    /// Speaks HTTP on `io`, by a task of this core.
    pub(super) async fn open<T>(io: T, http: &http1::Builder) -> Result<Self, BoxError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http.handshake(TokioIo::new(io)).await?;
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Self { sender, task: task.abort_handle() })
    }

    /// Hands the request to the connection at once; what is returned only waits. The error holds the request, untouched, when the upstream
    /// had closed before anything of it was sent.
    pub(super) fn send(&mut self, request: Request<RequestBody>) -> impl Future<Output = Sent> + use<> {
        self.sender.try_send_request(request)
    }

    /// Everything of the last request and its answer is through, and the upstream keeps the connection.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until it is ready; `false` when it closes instead.
    pub(super) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.sender.is_ready() {
            self.task.abort();
        }
    }
}
