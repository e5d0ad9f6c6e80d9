//! What a request shows outside of `Authorization` is taken out of it as it is read (`bearer_in`), so that nothing behind sees a token: no upstream, no
//! link on a page, no place to come back to.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL, TRAILER};
use http::{Method, Request, Response, StatusCode};

use super::form::FormKind;
use super::small_body;
use crate::credential::{API_KEY_PREFIX, CredentialKind};
use crate::fault::Fault;
use crate::request::{RequestFacts, parameter};
use crate::route::{ACCESS_TOKEN, Route, SUBPROTOCOL_PREFIX, TokenPlace};
use crate::server::RequestBody;

/// The longest form that is read for its token.
const FORM: usize = 64 * 1024;

/// What was taken out, and what the answer has to do with it.
#[derive(Default)]
pub(super) struct Aside {
    /// The query as it came, where a token stood in it.
    query: Option<String>,
    /// The only subprotocol that was offered, where that was a token.
    subprotocol: Option<HeaderValue>,
}

impl Aside {
    /// Takes the token out of the query: what the facts hold from now on may be shown and sent on.
    pub(super) fn take(route: &Route, facts: &mut RequestFacts, headers: &HeaderMap) -> Self {
        let Some(accept) = route.accept() else { return Self::default() };
        let mut aside = Self::default();
        if accept.reads_tokens_in(&TokenPlace::Query)
            && let Some(query) = &facts.query
            && let Some(rest) = parameter::without(query.as_bytes(), ACCESS_TOKEN)
        {
            // Whole pairs went, so what is left is UTF-8 still.
            let rest = String::from_utf8(rest).ok().filter(|rest| !rest.is_empty());
            aside.query = std::mem::replace(&mut facts.query, rest);
        }
        if accept.reads_tokens_in(&TokenPlace::Subprotocol) {
            aside.subprotocol = only_a_token(headers);
        }
        aside
    }

    /// The query as it came, where a token stood in it.
    pub(super) fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// What an answer of the upstream owes to how the token was shown.
    pub(super) fn settle<B>(&self, answer: &mut Response<B>) {
        // A browser that offered subprotocols closes the WebSocket when none is chosen. Where it offered nothing but its token, that is the one to
        // choose: nobody but the one who sent it sees it again.
        if let Some(offered) = &self.subprotocol
            && answer.status() == StatusCode::SWITCHING_PROTOCOLS
        {
            answer.headers_mut().entry(SEC_WEBSOCKET_PROTOCOL).or_insert_with(|| offered.clone());
        }
    }
}

/// A request on its way to the decision.
type Arriving = Box<Request<RequestBody>>;

/// Reads an urlencoded form on a route that reads tokens there, and gives it back without its token; the form as it came is for the decision. Other
/// bodies are not touched.
///
/// # Errors
/// A form that is too long, too slow, or broke off.
pub(super) async fn take_form(route: &Route, request: Arriving) -> Result<(Arriving, Option<Bytes>), Fault> {
    let reads = route.accept().is_some_and(|accept| accept.reads_tokens_in(&TokenPlace::Body));
    if !reads || !may_hold_token(&request) {
        return Ok((request, None));
    }
    let (mut head, body) = request.into_parts();
    let form = Box::pin(small_body(Request::new(body), FORM)).await?;
    let rest = parameter::without(&form, ACCESS_TOKEN).map_or_else(|| form.clone(), Bytes::from);
    // It was read to its end, so its length is known and no trailer follows.
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(rest.len()));
    head.headers.remove(TRAILER);
    Ok((Box::new(Request::from_parts(head, RequestBody::whole(rest))), Some(form)))
}

/// RFC 6750 §2.2: a form that is not sent by GET, of one part, in no other coding.
fn may_hold_token(request: &Request<RequestBody>) -> bool {
    let headers = request.headers();
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let kind = types.next().and_then(|value| value.to_str().ok()).and_then(FormKind::of);
    let plain = types.next().is_none() && !headers.contains_key(CONTENT_ENCODING);
    plain && kind == Some(FormKind::Urlencoded) && !matches!(*request.method(), Method::GET | Method::HEAD)
}

/// Takes out of the headers what the route reads as tokens and keys there. `keys_in` is where keys stand on the routes that take them: elsewhere that
/// header is the app's own, but a key of ours in it is not.
pub(super) fn strip(headers: &mut HeaderMap, route: &Route, keys_in: Option<&HeaderName>) {
    let is_key = |value: &HeaderValue| value.as_bytes().starts_with(API_KEY_PREFIX.as_bytes());
    if let Some(name) = keys_in.filter(|name| route.takes(CredentialKind::ApiKey) || headers.get_all(*name).iter().any(is_key)) {
        headers.remove(name);
    }
    let Some(accept) = route.accept() else { return };
    for place in accept.bearer_in.iter().filter(|place| accept.reads_tokens_in(place)) {
        match place {
            TokenPlace::Header(name) => drop(headers.remove(name)),
            TokenPlace::Subprotocol => strip_subprotocol(headers),
            // `Authorization` goes with the other credentials, query and form went before.
            TokenPlace::Authorization | TokenPlace::Query | TokenPlace::Body => {}
        }
    }
}

/// Line by line: a line without a token stays as it came.
fn strip_subprotocol(headers: &mut HeaderMap) {
    let is_token = |entry: &str| entry.trim().starts_with(SUBPROTOCOL_PREFIX);
    let lines: Vec<HeaderValue> = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect();
    if !lines.iter().filter_map(|line| line.to_str().ok()).any(|line| line.split(',').any(is_token)) {
        return;
    }
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    for line in lines {
        let Ok(text) = line.to_str() else { continue };
        let staying: Vec<&str> = text.split(',').map(str::trim).filter(|entry| !is_token(entry)).collect();
        if let Ok(line) = HeaderValue::try_from(staying.join(", "))
            && !line.is_empty()
        {
            headers.append(SEC_WEBSOCKET_PROTOCOL, line);
        }
    }
}

/// The one entry of `Sec-WebSocket-Protocol`, if it is a token.
fn only_a_token(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let line = lines.next()?;
    let text = line.to_str().ok()?;
    (lines.next().is_none() && text.starts_with(SUBPROTOCOL_PREFIX) && !text.contains(',')).then(|| line.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_subprotocol_that_is_a_token_goes_and_the_others_stay() {
        let token = format!("{SUBPROTOCOL_PREFIX}YWJj");
        for (lines, left, only) in [
            (vec![token.clone()], vec![], true),
            (vec![format!("chat, {token}, v2")], vec!["chat, v2"], false),
            (vec![format!("{token}, chat")], vec!["chat"], false),
            (vec!["a,b".to_owned(), token.clone(), "c".to_owned()], vec!["a, b", "c"], false),
            (vec!["a,b".to_owned()], vec!["a,b"], false),
        ] {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let mut headers = headers("sec-websocket-protocol", &lines);
            assert_eq!(only_a_token(&headers).is_some(), only, "{lines:?}");
            strip_subprotocol(&mut headers);
            assert_eq!(headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().collect::<Vec<_>>(), left, "{lines:?}");
        }
    }
}
