//! One request to its upstream and the answer back.

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use rustls::AlertDescription;

use super::body::Lease;
use super::connection::{Connection, Sent};
use super::dial::{Bearing, Dial};
use super::frames::Frames;
use super::framing::{frame_request, frame_response};
use super::pool::Pool;
use super::request_body::{RequestBody, Turn};
use super::upgrade::Offer;
use super::{BoxError, Ending, Target, UpstreamBody, Upstreams};
use crate::decision::Permit;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::route::{Listed, UpstreamId};

/// Connections on which one request may be tried. Each but the last closed before anything of it was sent.
const CONNECTIONS: usize = 3;

/// Forwards a request that may pass to the upstream of its route.
///
/// The caller has removed hop-by-hop headers and set ours, `Host` too (from `:authority` where the downstream speaks HTTP/2). A request that
/// asks for an upgrade still has its `Upgrade` header, or has it again, and hyper's upgrade in its extensions; `Connection` is written here.
/// `Trailer` and `TE: trailers` pass as they are: hyper sends only trailers that `Trailer` announces.
///
/// Of the answer the caller removes hop-by-hop headers, except of a `101`, which is complete as it is. A tunnel that follows it ends when
/// either side ends it, or by `ending`.
///
/// # Errors
/// [`Reason::UpstreamUnreachable`], [`Reason::UpstreamTimeout`], [`Reason::UpstreamBroken`] by what went wrong there;
/// [`Reason::UpstreamAbsent`] where the route names none; [`Reason::UpgradeUnsupported`] where it takes no upgrade;
/// [`Reason::MethodNotAllowed`] for `CONNECT`; a [`Fault`] that `request`'s body failed with, as it is; [`Reason::Internal`] for a request
/// that no caller may bring.
pub async fn forward<B>(core: &Upstreams, permit: &Permit, request: Request<B>, ending: &Ending) -> Result<Response<UpstreamBody>, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    match permit.route().upstream {
        Some(upstream) => forward_to(core, upstream, request, ending).await,
        None => Err(Fault::new(Reason::UpstreamAbsent, "the route is for forward-auth only")),
    }
}

/// Sends a call that leaves to the host that is listed for it. As [`forward`].
///
/// # Errors
/// As [`forward`].
pub async fn forward_listed<B>(
    core: &Upstreams,
    listed: &Listed<'_>,
    request: Request<B>,
    ending: &Ending,
) -> Result<Response<UpstreamBody>, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    forward_to(core, listed.upstream(), request, ending).await
}

pub(super) async fn forward_to<B>(
    core: &Upstreams,
    upstream: UpstreamId,
    mut request: Request<B>,
    ending: &Ending,
) -> Result<Response<UpstreamBody>, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let (dial, pool) = match core.targets.get(upstream.0) {
        Some(Target::Reached(dial, pool)) => (dial, pool),
        Some(Target::Static(status)) => return Ok(known_answer(*status)),
        None => return Err(Fault::new(Reason::Internal, format!("no upstream {}", upstream.0))),
    };
    if request.method() == Method::CONNECT {
        return Err(Fault::new(Reason::MethodNotAllowed, "CONNECT would open a tunnel to anywhere"));
    }
    if !request.headers().contains_key(HOST) {
        return Err(Fault::new(Reason::Internal, "a request without Host was to be forwarded"));
    }
    let offer = Offer::take(&mut request);
    if offer.is_some() && !dial.takes_upgrades() {
        let detail = format!("{}: HTTP/2 without TLS has no upgrades; write http:// in the config for WebSockets", dial.address());
        return Err(Fault::new(Reason::UpgradeUnsupported, detail));
    }
    let (mut parts, body) = request.into_parts();
    let (body, turn) = RequestBody::new(body, &core.clock);
    frame_request(&mut parts, &body)?;
    parts.uri = origin_form(parts.uri);
    parts.version = Version::HTTP_11;

    let bearing = if offer.is_some() { Bearing::Upgrade } else { Bearing::Request };
    let exchange = Exchange { core, dial, pool, bearing };
    let (connection, answer) = exchange.run(Request::from_parts(parts, body), &turn).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match offer {
            Some(offer) => offer.accept(answer, connection, &core.tunnels, ending),
            None => Err(Fault::new(Reason::UpstreamBroken, format!("{}: switched protocols unasked", dial.address()))),
        };
    }
    stream_back(answer, connection, pool)
}

fn known_answer(status: StatusCode) -> Response<UpstreamBody> {
    let mut answer = Response::new(UpstreamBody::empty());
    *answer.status_mut() = status;
    answer
}

/// Path and query only (RFC 9112 §3.2.1); the bytes of both stay as they are.
fn origin_form(uri: Uri) -> Uri {
    if uri.authority().is_none() && uri.scheme().is_none() {
        return uri;
    }
    Uri::from(uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")))
}

fn stream_back(answer: Response<Frames>, connection: Connection, pool: &Rc<Pool>) -> Result<Response<UpstreamBody>, Fault> {
    let (mut parts, frames) = answer.into_parts();
    frame_response(&mut parts)?;
    // A body without a length cannot be sent to a peer that speaks HTTP/1.0, and only its first answer says that it does: such a peer has
    // a fresh connection for each request.
    let pool = (parts.version >= Version::HTTP_11).then(|| Rc::clone(pool));
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(parts, UpstreamBody::new(frames, Lease { connection, pool })))
}

struct Exchange<'a> {
    core: &'a Upstreams,
    dial: &'a Dial,
    pool: &'a Rc<Pool>,
    bearing: Bearing,
}

impl Exchange<'_> {
    /// Sends the request on a waiting connection, else on a fresh one. A connection that had closed meanwhile gives the request back
    /// untouched; nothing of it was sent, so it may be sent elsewhere whatever its method.
    async fn run(&self, mut request: Request<RequestBody>, turn: &Turn) -> Result<(Connection, Response<Frames>), Fault> {
        let shares = self.dial.address().is_http2() && self.bearing == Bearing::Request;
        let mut waiting = if shares { None } else { self.pool.take().await };
        for _ in 0..CONNECTIONS {
            let mut connection = match waiting.take() {
                Some(connection) => connection,
                None => {
                    self.pool.keep_swept();
                    Box::pin(self.dial.connect(self.pool, (&self.core.http, self.bearing), self.core.connect_timeout)).await?
                }
            };
            let sent = connection.send(request);
            let mut failed = match self.in_time(sent, turn).await? {
                Ok(answer) => return Ok((connection, answer)),
                Err(failed) => failed,
            };
            match failed.take_message() {
                Some(back) => request = back,
                None => return Err(self.broken(&*failed.into_error())),
            }
        }
        Err(Fault::new(Reason::UpstreamUnreachable, format!("{}: closes connections before a request", self.dial.address())))
    }

    /// Waits for the head of the answer. Time in which the downstream is to send more of the request does not count: that bound is the
    /// server's.
    async fn in_time(&self, sent: impl Future<Output = Sent>, turn: &Turn) -> Result<Sent, Fault> {
        let Some(deadlines) = &self.core.response_deadlines else { return Ok(sent.await) };
        let deadline = deadlines.wait();
        let mut sent = pin!(sent);
        loop {
            tokio::select! {
                biased;
                sent = &mut sent => return Ok(sent),
                () = deadline.over() => {}
            }
            let limit = deadlines.limit();
            match turn.left(limit, self.core.clock.instant()) {
                Some(left) => deadline.restart(left),
                None => return Err(Fault::new(Reason::UpstreamTimeout, format!("{}: no answer within {limit:?}", self.dial.address()))),
            }
        }
    }

    fn broken(&self, error: &(dyn Error + 'static)) -> Fault {
        let mut detail = self.dial.address().to_string();
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(fault) = error.downcast_ref::<Fault>() {
                return fault.clone();
            }
            if let Some(alert) = refusal_of_us(error) {
                let detail = format!("{}: the upstream does not take our certificate, or wants one: {alert:?}", self.dial.address());
                return Fault::new(Reason::UpstreamUnreachable, detail);
            }
            detail = format!("{detail}: {error}");
            cause = error.source();
        }
        Fault::new(Reason::UpstreamBroken, detail)
    }
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
