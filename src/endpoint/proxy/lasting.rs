//! Requests that last: calls and uploads whose end nobody knows beforehand.

use http::Request;
use http::header::{CONTENT_TYPE, HeaderMap};
use http_body::Body as _;

use super::refused::unauthorized;
use crate::decision::{Challenge, CookieFate, Permit, TokenProblem};
use crate::endpoint::{Served, Visit};
use crate::reason::Reason;
use crate::server::RequestBody;

/// Whether it says nothing of its length: it may go on for days, in the name of a session that may end before it.
pub(super) fn is_unending(request: &Request<RequestBody>) -> bool {
    request.body().size_hint().exact().is_none()
}

/// A gRPC call may be silent for as long as its two sides like: nothing but a deadline of theirs, or its connection's end, ends it.
pub(super) fn patiently(request: Box<Request<RequestBody>>) -> Box<Request<RequestBody>> {
    if is_grpc(request.headers()) { Box::new(request.map(RequestBody::lasting)) } else { request }
}

/// `application/grpc`, with a `+` and the messages' format or without; gRPC-Web is something else.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc".as_slice()));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// The answer to a request whose session ended before the app had answered.
pub(super) fn ended(visit: &Visit<'_>, permit: &Permit) -> Served {
    let challenge = Challenge {
        reason: Reason::SessionEnded,
        detail: String::new(),
        cookie: CookieFate::Kept,
        token: TokenProblem::None,
        asks: permit.route().asks.clone(),
    };
    unauthorized(visit, permit.route(), &HeaderMap::new(), &challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
            assert_eq!(is_grpc(&headers), expected, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
