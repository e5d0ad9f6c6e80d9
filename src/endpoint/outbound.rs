//! A token that the gateway obtains, added to a request on its way to an upstream, and a second try where the upstream does not take it.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};

use super::Gateway;
use crate::authenticate::OpenSession;
use crate::clock::UnixTime;
use crate::credential::{Authenticated, Credential, CredentialKind};
use crate::decision::Permit;
use crate::fault::{Fault, Trouble};
use crate::outbound::{CallersToken, Outbound, UpstreamToken};
use crate::reason::Reason;
use crate::route::{InNameOf, OutboundId, Route};
use crate::secret::Secret;
use crate::server::RequestBody;
use crate::upstream::UpstreamBody;

/// The token that was shown, kept for a route that passes it on or has it exchanged; nobody else keeps it.
pub(super) fn shown(route: &Route, credential: &Credential) -> Option<Secret> {
    match credential {
        Credential::Token(presented) if route.tells_tokens() => Some(presented.token.clone()),
        _ => None,
    }
}

/// The access token of whoever a permit is for: the session's, else the caller's own that was shown.
pub(super) fn callers_token(who: Option<&Authenticated>, session: Option<&OpenSession>, shown: Option<&Secret>) -> Option<CallersToken> {
    if let Some(open) = session {
        let tokens = open.session.tokens.as_ref()?;
        return Some(CallersToken { token: tokens.access_token.clone(), ends_at: tokens.expires_at });
    }
    let who = who.filter(|who| who.by == CredentialKind::Bearer)?;
    let ends_at = who.identity.claims.get("exp").and_then(serde_json::Value::as_u64).map(UnixTime);
    Some(CallersToken { token: shown?.clone(), ends_at })
}

/// What is added to one request.
pub(super) struct Addition<'a> {
    outbound: &'a Outbound,
    caller: Option<CallersToken>,
    token: Arc<UpstreamToken>,
}

/// Obtains what the route of a permit adds; `None`: nothing. Who is let in without being known has nothing to exchange, and goes on without.
pub(super) async fn for_permit<'a>(
    gateway: &'a Gateway,
    permit: &Permit,
    session: Option<&OpenSession>,
    shown: Option<&Secret>,
) -> Result<Option<Addition<'a>>, Trouble> {
    let Some(added) = permit.route().outbound else { return Ok(None) };
    // A preflight goes on without any credential.
    if permit.reason() == Reason::Preflight {
        return Ok(None);
    }
    let caller = match added.in_name_of {
        InNameOf::Gateway => None,
        InNameOf::Caller if permit.who().is_none() => return Ok(None),
        InNameOf::Caller => callers_token(permit.who(), session, shown),
    };
    Box::pin(obtained(gateway, added.id, caller)).await.map(Some)
}

/// Where nothing is added after all, what the downstream sent in its place goes as well: the upstream takes it for the gateway's word.
pub(super) fn clear(gateway: &Gateway, route: &Route, headers: &mut HeaderMap) {
    if let Some(outbound) = route.outbound.and_then(|added| gateway.outbound.get(added.id.0)) {
        headers.remove(outbound.header());
    }
}

/// Obtains it.
pub(super) async fn obtained(gateway: &Gateway, id: OutboundId, caller: Option<CallersToken>) -> Result<Addition<'_>, Trouble> {
    let outbound = gateway.outbound.get(id.0).ok_or_else(|| Fault::new(Reason::Internal, format!("no outbound {}", id.0)))?;
    let token = outbound.token(caller.as_ref()).await?;
    Ok(Addition { outbound, caller, token })
}

impl Addition<'_> {
    /// Puts it into an answer of forward-auth, from where the proxy in front takes it.
    pub(super) fn set(&self, headers: &mut HeaderMap) {
        self.token.set(headers);
    }

    /// Sends a request with the token. An upstream that answers 401 to it gets the request once more, with another token, where nothing of the
    /// body has been passed on.
    ///
    /// # Errors
    /// As of `forward`; and where there was a 401 and no other token can be had, as of [`Outbound::token`].
    pub(super) async fn send(
        &self,
        request: Request<RequestBody>,
        forward: impl AsyncFn(Request<Lent>) -> Result<Response<UpstreamBody>, Fault>,
    ) -> Result<Response<UpstreamBody>, Trouble> {
        let (parts, body) = request.into_parts();
        let lender = Lender::new(body);
        let attempt = |token: &UpstreamToken, body: Lent| {
            let mut parts = parts.clone();
            token.set(&mut parts.headers);
            forward(Request::from_parts(parts, body))
        };
        let answer = attempt(&self.token, lender.lend()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        if lender.was_read() {
            self.outbound.give_up(&self.token, self.caller.as_ref());
            return Ok(answer);
        }
        let Some(token) = self.outbound.token_after(&self.token, self.caller.as_ref()).await? else { return Ok(answer) };
        let Some(body) = lender.taken_back() else { return Ok(answer) };
        drop(answer);
        Ok(attempt(&token, Lender::new(body).lend()).await?)
    }
}

/// Lends a request's body to an exchange, and takes it back as long as nothing was read of it.
struct Lender(Rc<RefCell<Loan>>);

struct Loan {
    body: Option<RequestBody>,
    read: bool,
}

impl Lender {
    fn new(body: RequestBody) -> Self {
        Self(Rc::new(RefCell::new(Loan { body: Some(body), read: false })))
    }

    fn lend(&self) -> Lent {
        Lent(Rc::clone(&self.0))
    }

    fn was_read(&self) -> bool {
        self.0.borrow().read
    }

    fn taken_back(&self) -> Option<RequestBody> {
        let mut loan = self.0.borrow_mut();
        if loan.read { None } else { loan.body.take() }
    }
}

/// A body on loan. One that was taken back is an error to whoever still reads: its message must not end as if it were whole.
pub(super) struct Lent(Rc<RefCell<Loan>>);

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let mut loan = self.0.borrow_mut();
        let Some(body) = &mut loan.body else {
            return Poll::Ready(Some(Err(Fault::new(Reason::Internal, "the body went elsewhere"))));
        };
        let polled = Pin::new(body).poll_frame(cx);
        loan.read |= matches!(polled, Poll::Ready(Some(_)));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.borrow().body.as_ref().is_some_and(RequestBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().body.as_ref().map_or_else(SizeHint::default, RequestBody::size_hint)
    }
}
