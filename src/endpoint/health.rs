//! `health_path`: one path that says that we serve, for balancers that ask by address.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::{Body, Gateway};
use crate::server::{ConnectionInfo, Entrance};

/// The answer to a balancer: by path and method, never by who asks or for which host. It is neither counted nor logged, since it comes
/// every other second and says nothing of anybody. Other methods go their way.
pub(super) fn answered<B>(gateway: &Gateway, request: &Request<B>, info: &ConnectionInfo) -> Option<Response<Body>> {
    let path = gateway.settings.health_path.as_deref()?;
    let asks = request.method() == Method::GET || request.method() == Method::HEAD;
    if !asks || request.uri().path() != path || matches!(info.entrance, Entrance::Outgoing(_)) {
        return None;
    }
    let (status, word) = if gateway.drain.is_ready() { (StatusCode::OK, "OK\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "draining\n") };
    let mut answer = Response::new(Body::ready(Bytes::from_static(word.as_bytes())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(answer)
}
