//! One request and the head of its answer, at one address.

use std::borrow::Cow;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use rustls::AlertDescription;

use super::Upstreams;
use super::connection::{Connection, Sent};
use super::deadlines::Deadlines;
use super::dial::{Bearing, Dial};
use super::frames::Frames;
use super::pool::Pool;
use super::request_body::{RequestBody, Turn};
use crate::fault::Fault;
use crate::reason::Reason;
use crate::route::Timeouts;

/// Connections on which one request may be tried. Each but the last closed before anything of it was sent.
const CONNECTIONS: usize = 3;

pub(super) struct Exchange<'a> {
    core: &'a Upstreams,
    dial: &'a Dial,
    pub(super) pool: &'a Rc<Pool>,
    connect: Duration,
    bearing: Bearing,
    response: Option<Cow<'a, Rc<Deadlines>>>,
}

/// What holds for one request wherever it goes.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) timeouts: Timeouts,
    /// Whether it may become a tunnel.
    pub(super) bearing: Bearing,
}

/// How it begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// On a connection that waits, else on a fresh one. A copy of what may be sent again is kept where that connection may be about to be closed.
    Pooled,
    /// The same, and the copy is kept in any case: there is another address.
    Copied,
    /// On a fresh connection, for the second time.
    Fresh,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// No connection: nothing was sent, and the request is where it was.
    Unsent(Fault),
    /// The connection broke off before anything of an answer came. Here is the request once more, where it may be sent again.
    Lost(Fault, Option<Box<Request<RequestBody>>>),
    /// What came is no answer.
    Broken(Fault),
    /// Nothing came in time. It may be at work on it, so nobody else is asked.
    Late(Fault),
    /// Nothing that would count against the address, or be better elsewhere.
    Final(Fault),
}

impl Failure {
    pub(super) fn into_fault(self) -> Fault {
        match self {
            Self::Unsent(fault) | Self::Lost(fault, _) | Self::Broken(fault) | Self::Late(fault) | Self::Final(fault) => fault,
        }
    }
}

impl<'a> Exchange<'a> {
    pub(super) fn new(core: &'a Upstreams, dial: &'a Dial, pool: &'a Rc<Pool>, terms: Terms) -> Self {
        let Terms { timeouts, bearing } = terms;
        let response = match timeouts.response {
            None => core.response_deadlines.as_ref().map(Cow::Borrowed),
            Some(limit) => Some(Cow::Owned(core.deadlines(limit))),
        };
        Self { core, dial, pool, connect: timeouts.connect.unwrap_or(core.connect_timeout), bearing, response }
    }

    /// Sends the request on a waiting connection, else on a fresh one. A connection that had closed meanwhile gives the request back
    /// untouched; nothing of it was sent, so it may be sent elsewhere whatever its method. It is taken out of `slot`, and back there where
    /// nothing of it was sent: a request is large, and is not handed from one to the next.
    pub(super) async fn run(
        &self,
        slot: &mut Option<Request<RequestBody>>,
        turn: &Turn,
        start: Start,
    ) -> Result<(Connection, Response<Frames>), Failure> {
        let shares = self.dial.address().is_http2() && self.bearing == Bearing::Request;
        let mut waiting = if shares || start == Start::Fresh { None } else { self.pool.take().await };
        let rested = waiting.is_some() && self.pool.gave_rested();
        let copies = start == Start::Copied || (start == Start::Pooled && rested);
        let copy = if copies && !shares { slot.as_ref().and_then(|request| copy_of(request, turn)) } else { None };
        for _ in 0..CONNECTIONS {
            let mut connection = match waiting.take() {
                Some(connection) => connection,
                None => {
                    self.pool.keep_swept();
                    Box::pin(self.dial.connect(self.pool, (&self.core.http, self.bearing), self.connect)).await.map_err(Failure::Unsent)?
                }
            };
            let Some(request) = slot.take() else {
                return Err(Failure::Final(Fault::new(Reason::Internal, "a request was to be sent that is gone")));
            };
            let sending = pin!(connection.send(request));
            let mut failed = match self.in_time(sending, turn).await.map_err(Failure::Late)? {
                Ok(answer) => return Ok((connection, answer)),
                Err(failed) => failed,
            };
            match failed.take_message() {
                Some(back) => *slot = Some(*back),
                None => return Err(self.failure(&*failed.into_error(), &connection, copy)),
            }
        }
        let fault = Fault::new(Reason::UpstreamUnreachable, format!("{}: closes connections before a request", self.dial));
        Err(Failure::Unsent(fault))
    }

    /// Waits for the head of the answer. Time in which the downstream is to send more of the request does not count: that bound is the
    /// server's.
    async fn in_time(&self, mut sent: Pin<&mut impl Future<Output = Sent>>, turn: &Turn) -> Result<Sent, Fault> {
        let Some(deadlines) = &self.response else { return Ok(sent.await) };
        let deadline = deadlines.wait();
        poll_fn(|cx| {
            if let Poll::Ready(sent) = sent.as_mut().poll(cx) {
                return Poll::Ready(Ok(sent));
            }
            loop {
                ready!(deadline.poll_over(cx));
                let limit = deadlines.limit();
                match turn.left(limit, self.core.clock.instant()) {
                    Some(left) => deadline.restart(left),
                    None => {
                        return Poll::Ready(Err(Fault::new(Reason::UpstreamTimeout, format!("{}: no answer within {limit:?}", self.dial))));
                    }
                }
            }
        })
        .await
    }

    /// What became of a request that was sent, or begun.
    fn failure(&self, error: &(dyn Error + 'static), connection: &Connection, copy: Option<Box<Request<RequestBody>>>) -> Failure {
        let mut detail = self.dial.to_string();
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(fault) = error.downcast_ref::<Fault>() {
                return Failure::Final(fault.clone());
            }
            if let Some(alert) = refusal_of_us(error) {
                let detail = format!("{}: the upstream does not take our certificate, or wants one: {alert:?}", self.dial);
                return Failure::Lost(Fault::new(Reason::UpstreamUnreachable, detail), copy);
            }
            detail = format!("{detail}: {error}");
            cause = error.source();
        }
        let fault = Fault::new(Reason::UpstreamBroken, detail);
        if connection.has_heard() { Failure::Broken(fault) } else { Failure::Lost(fault, copy) }
    }
}

/// The request once more, where it may be sent twice: its method is idempotent (RFC 9110 §9.2.2), and it has no body that might be gone.
fn copy_of(request: &Request<RequestBody>, turn: &Turn) -> Option<Box<Request<RequestBody>>> {
    (request.method().is_idempotent() && turn.is_without_body()).then(|| {
        let mut copy = Box::new(Request::new(RequestBody::Empty));
        request.method().clone_into(copy.method_mut());
        request.uri().clone_into(copy.uri_mut());
        request.headers().clone_into(copy.headers_mut());
        *copy.version_mut() = request.version();
        copy
    })
}

/// A peer that speaks TLS 1.3 looks at our certificate when we believe the handshake done (RFC 8446 §4.4.2.4): its refusal comes in place of an
/// answer, and is one of the connection all the same.
fn refusal_of_us(error: &(dyn Error + 'static)) -> Option<AlertDescription> {
    let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    match inner.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError),
        ) => Some(*alert),
        _ => None,
    }
}
