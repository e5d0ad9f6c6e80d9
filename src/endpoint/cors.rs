//! Scripts of listed foreign origins may read our own refusals (Fetch Standard, "CORS protocol"): what a route's `cors_origins` names. What the app
//! answers is the app's own affair.

use http::StatusCode;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, HeaderMap, HeaderValue, ORIGIN, VARY,
};

use super::Served;
use crate::respond::status_of;
use crate::route::Route;

/// Headers of our refusals that a script may read beside those that every script may.
const EXPOSED: &str = "WWW-Authenticate, Retry-After, DPoP-Nonce, X-Request-Id";

/// The origin of the page that a request comes from, where the route asks.
pub(super) fn origin(route: &Route, headers: &HeaderMap) -> Option<HeaderValue> {
    if route.cors_origins.is_empty() {
        return None;
    }
    let mut lines = headers.get_all(ORIGIN).iter();
    let line = lines.next().cloned();
    line.filter(|_| lines.next().is_none())
}

/// Lets that page read the answer, where it is a refusal of ours and the route names the origin.
pub(super) fn allow(served: &mut Served, route: &Route, origin: Option<HeaderValue>) {
    let status = served.response.status();
    let readable = matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    // What was let through has another reason, whatever the app answers.
    let ours = !status_of(served.reason).is_success();
    if route.cors_origins.is_empty() || !readable || !ours {
        return;
    }
    let headers = served.response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    let listed = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| route.cors_origins.contains(origin));
    if let Some(origin) = origin.filter(listed) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}
