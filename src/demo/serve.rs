//! Just enough HTTP for the demo's two servers.

use std::convert::Infallible;
use std::future::Future;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::tasks::Tasks;

/// A request with its body read.
pub(super) type Read = Request<Bytes>;

const BODY: usize = 1 << 20;

/// Serves `answer` until the process ends.
pub(super) async fn serve<F, A>(listener: TcpListener, tasks: Tasks, answer: F)
where
    F: Fn(Read) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Bytes>> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        let answer = answer.clone();
        tasks.background(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let response = match Limited::new(body, BODY).collect().await {
                        Ok(body) => answer(Request::from_parts(parts, body.to_bytes())).await,
                        Err(_) => text(StatusCode::PAYLOAD_TOO_LARGE, "too large\n"),
                    };
                    Ok::<_, Infallible>(response.map(Full::new))
                }
            });
            // The demo's visitors may leave whenever they like.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

pub(super) fn text(status: StatusCode, body: &str) -> Response<Bytes> {
    with_type(status, "text/plain; charset=utf-8", body.to_owned())
}

pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Bytes> {
    with_type(status, "application/json", format!("{value}\n"))
}

pub(super) fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

pub(super) fn see_other(to: &str) -> Response<Bytes> {
    let mut answer = text(StatusCode::SEE_OTHER, "");
    if let Ok(to) = HeaderValue::try_from(to) {
        answer.headers_mut().insert(LOCATION, to);
    }
    answer
}
