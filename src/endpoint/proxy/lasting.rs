//! Requests that last: calls and uploads whose end nobody knows beforehand.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};

use super::refused::unauthorized;
use crate::decision::{Challenge, CookieFate, Permit, TokenProblem};
use crate::endpoint::{Served, Visit};
use crate::fault::Fault;
use crate::reason::Reason;
use crate::server::RequestBody;
use crate::upstream::Ending;

/// Whether it brings more than its head: that may go on for days, in the name of a session that may end before it. What it says of its length
/// is its own word, and one byte a minute is soon no short one.
pub(super) fn is_unending(request: &Request<RequestBody>) -> bool {
    !request.body().is_end_stream()
}

/// A gRPC call may be silent for as long as its two sides like: nothing but a deadline of theirs, or its connection's end, ends it. There is
/// none over HTTP/1.1, where its content type is anybody's word.
pub(super) fn patiently(request: Box<Request<RequestBody>>) -> Box<Request<RequestBody>> {
    let may_last = request.version() == Version::HTTP_2 && is_grpc(request.headers());
    if may_last { Box::new(request.map(RequestBody::lasting)) } else { request }
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

/// A request's body that breaks off with its session, also while nobody takes the answer.
pub(super) struct Tied<B> {
    body: B,
    ended: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<B> Tied<B> {
    pub(super) fn new(body: B, ending: &Ending) -> Self {
        if ending.is_never() {
            return Self { body, ended: None };
        }
        let mut ending = ending.clone();
        Self { body, ended: Some(Box::pin(async move { ending.ended().await })) }
    }
}

impl<B: Body<Data = Bytes, Error = Fault> + Unpin> Body for Tied<B> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        if let Some(ended) = &mut this.ended
            && ended.as_mut().poll(cx).is_ready()
        {
            // Whoever asks again hears the same: it never looks like an end.
            *ended = Box::pin(std::future::ready(()));
            return Poll::Ready(Some(Err(Fault::new(Reason::SessionEnded, "the session of this request has ended"))));
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
