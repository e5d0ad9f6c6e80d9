//! Where a message ends. Both hops must agree on it, else one peer's body becomes the next one's request.

use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request};
use http_body::Body;

use super::request_body::RequestBody;
use crate::fault::Fault;
use crate::reason::Reason;

/// Frames a request by its body alone: a `Content-Length` that says otherwise is a defect of ours and is not sent.
pub(super) fn frame_request(request: &mut Request<RequestBody>) -> Result<(), Fault> {
    request.headers_mut().remove(TRANSFER_ENCODING);
    let declared = match content_length(request.headers()) {
        Ok(None) => None,
        Ok(Some(Length { bytes, lines: 1 })) => Some(bytes),
        Ok(Some(_)) => return Err(defect("more than once")),
        Err(()) => return Err(defect("malformed")),
    };
    match (declared, request.body().size_hint().exact()) {
        (Some(declared), Some(exact)) if declared != exact => Err(defect("with another length than the body's")),
        // hyper leaves out the body of these methods unless the header says that there is one.
        (None, None) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Leaves of an answer's framing only what holds for the next hop too: hyper has taken the body out of its coding.
pub(super) fn frame_response(headers: &mut HeaderMap) -> Result<(), Fault> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        // We never send `TE: gzip` and the like, so nothing else may come (RFC 9112 §7.4).
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::new(Reason::UpstreamBroken, "the answer has a transfer coding that was not asked for"));
        }
        headers.remove(TRANSFER_ENCODING);
        // RFC 9112 §6.3: the coding overrides the length, which must not be passed on.
        headers.remove(CONTENT_LENGTH);
    }
    match content_length(headers) {
        Ok(Some(Length { bytes, lines: 2.. })) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(()) => Err(Fault::new(Reason::UpstreamBroken, "the answer's Content-Length is no number, or several")),
    }
}

/// What `Content-Length` says, and in how many lines.
struct Length {
    bytes: u64,
    lines: usize,
}

/// The one number that all lines agree on.
fn content_length(headers: &HeaderMap) -> Result<Option<Length>, ()> {
    let mut found: Option<Length> = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        let text = line.to_str().map_err(|_| ())?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(());
        }
        let bytes = text.parse().map_err(|_| ())?;
        found = match found {
            None => Some(Length { bytes, lines: 1 }),
            Some(before) if before.bytes == bytes => Some(Length { bytes, lines: before.lines + 1 }),
            Some(_) => return Err(()),
        };
    }
    Ok(found)
}

fn defect(what: &str) -> Fault {
    Fault::new(Reason::Internal, format!("the request's Content-Length was to be forwarded {what}"))
}
