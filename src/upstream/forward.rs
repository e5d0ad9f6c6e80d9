//! One request to its upstream and the answer back.

use std::net::Ipv4Addr;
use std::rc::Rc;

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;

use super::body::Lease;
use super::connection::Connection;
use super::dial::Bearing;
use super::exchange::{Exchange, Failure, Start, Terms};
use super::frames::Frames;
use super::framing::{frame_request, frame_response};
use super::idle::Idle;
use super::peer::Held;
use super::pool::Pool;
use super::request_body::{RequestBody, Turn};
use super::several::{Member, Several};
use super::upgrade::Offer;
use super::{BoxError, Ending, Stick, Target, UpstreamBody, Upstreams};
use crate::decision::Permit;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::route::{Listed, Timeouts, UpstreamId};

/// What goes with a request beside itself.
#[derive(Clone, Copy)]
pub struct Passage<'a> {
    /// Ends a tunnel that it opens.
    pub ending: &'a Ending,
    /// By what it stays with one of several addresses.
    pub stick: Stick<'a>,
}

/// A request on its way, with everything that can be said of it without waiting. The future that waits is the same whatever the request's
/// body is, and holds the request once.
pub struct Prepared<'a> {
    core: &'a Upstreams,
    upstream: UpstreamId,
    target: &'a Target,
    passage: Passage<'a>,
    terms: Terms,
    offer: Option<Offer>,
    turn: Turn,
    /// Until it is handed to a connection.
    request: Option<Request<RequestBody>>,
}

/// Forwards a request that may pass to the upstream of its route.
///
/// The caller has removed hop-by-hop headers and set ours, `Host` too (from `:authority` where the downstream speaks HTTP/2). A request that
/// asks for an upgrade still has its `Upgrade` header, or has it again, and hyper's upgrade in its extensions; `Connection` is written here.
/// `Trailer` and `TE: trailers` pass as they are. Over HTTP/1.1 hyper sends only trailers that `Trailer` announces; over HTTP/2 all are sent, so
/// the caller has taken out of them too what has no place there.
///
/// Of the answer the caller removes hop-by-hop headers, except of a `101`, which is complete as it is. A tunnel that follows it ends when
/// either side ends it, or by the passage's `ending`.
///
/// Where there are several addresses one is chosen. A request whose connection failed before anything of it was sent goes to another one, once;
/// so does one without a body whose method is idempotent (RFC 9110 §9.2.2) when the connection broke off before anything of the answer came.
///
/// # Errors
/// As [`prepare`] and [`Prepared::forward`].
pub async fn forward<B>(
    core: &Upstreams,
    permit: &Permit,
    request: Request<B>,
    passage: Passage<'_>,
) -> Result<Response<UpstreamBody>, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    prepare(core, permit, request, passage)?.forward().await
}

/// The first half of [`forward`].
///
/// # Errors
/// [`Reason::UpstreamAbsent`] where the route names none; [`Reason::UpgradeUnsupported`] where it takes HTTP/2 alone;
/// [`Reason::MethodNotAllowed`] for `CONNECT`; [`Reason::Internal`] for a request that no caller may bring.
pub fn prepare<'a, B>(core: &'a Upstreams, permit: &Permit, request: Request<B>, passage: Passage<'a>) -> Result<Prepared<'a>, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    match permit.route().upstream {
        Some(upstream) => Prepared::new(core, upstream, request, passage, permit.route().timeouts),
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
    request: Request<B>,
    ending: &Ending,
) -> Result<Response<UpstreamBody>, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let passage = Passage { ending, stick: Stick::Address(Ipv4Addr::UNSPECIFIED.into()) };
    Prepared::new(core, upstream, request, passage, Timeouts::default())?.forward().await
}

impl<'a> Prepared<'a> {
    fn new<B>(
        core: &'a Upstreams,
        upstream: UpstreamId,
        mut request: Request<B>,
        passage: Passage<'a>,
        timeouts: Timeouts,
    ) -> Result<Self, Fault>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let target = core.targets.get(upstream.0).ok_or_else(|| Fault::new(Reason::Internal, format!("no upstream {}", upstream.0)))?;
        if request.method() == Method::CONNECT && !matches!(target, Target::Static(_)) {
            return Err(Fault::new(Reason::MethodNotAllowed, "CONNECT would open a tunnel to anywhere"));
        }
        if !request.headers().contains_key(HOST) {
            return Err(Fault::new(Reason::Internal, "a request without Host was to be forwarded"));
        }
        let offer = Offer::take(&mut request);
        if offer.is_some() && !target.takes_upgrades() {
            let detail = format!("{}: HTTP/2 without TLS has no upgrades; write http:// in the config for WebSockets", core.told(upstream));
            return Err(Fault::new(Reason::UpgradeUnsupported, detail));
        }
        let (mut parts, body) = request.into_parts();
        let (body, turn) = RequestBody::new(body, &core.clock);
        parts.uri = origin_form(parts.uri);
        parts.version = Version::HTTP_11;
        let mut request = Request::from_parts(parts, body);
        frame_request(&mut request)?;
        let terms = Terms { timeouts, bearing: if offer.is_some() { Bearing::Upgrade } else { Bearing::Request } };
        Ok(Self { core, upstream, target, passage, terms, offer, turn, request: Some(request) })
    }

    /// The second half of [`forward`].
    ///
    /// # Errors
    /// [`Reason::UpstreamUnreachable`], [`Reason::UpstreamTimeout`], [`Reason::UpstreamBroken`] by what went wrong there;
    /// [`Reason::UpstreamBusy`] where its limit is reached; a [`Fault`] that the request's body failed with, as it is.
    pub async fn forward(&mut self) -> Result<Response<UpstreamBody>, Fault> {
        let Self { core, upstream, target, passage, terms, offer, turn, request } = self;
        let (core, terms) = (*core, *terms);
        let through = match target {
            Target::Static(status) => return Ok(known_answer(*status)),
            Target::Reached(dial, pool) => alone(&Exchange::new(core, dial, pool, terms), request, turn).await?,
            Target::Several(several) => {
                let members = several.members(terms.timeouts.connect.unwrap_or(core.connect_timeout)).await?;
                match &*members {
                    // A name that leads to one place: nothing to choose, nothing to count.
                    [member] if !member.peer.is_limited() => {
                        alone(&Exchange::new(core, &member.dial, &member.pool, terms), request, turn).await?
                    }
                    members => Box::pin(one_of(core, (several, members), request, turn, (passage.stick, terms))).await?,
                }
            }
        };
        let Through { connection, answer, pool, held } = through;
        let idle = terms.timeouts.idle.map(|limit| core.deadlines(limit));
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match offer.take() {
                Some(offer) => offer.accept(answer, connection, &core.tunnels, passage.ending, (held, idle)),
                None => Err(Fault::new(Reason::UpstreamBroken, format!("{}: switched protocols unasked", core.told(*upstream)))),
            };
        }
        let mut answer = stream_back(answer, (connection, held), pool)?;
        if let Some(deadlines) = idle {
            answer.body_mut().bound(Idle::new(&deadlines));
        }
        Ok(answer)
    }
}

/// An answer's head, and the connection that the rest comes on.
struct Through {
    connection: Connection,
    answer: Response<Frames>,
    pool: Rc<Pool>,
    /// Counts it as under way.
    held: Option<Held>,
}

/// Where there is one address.
async fn alone(exchange: &Exchange<'_>, request: &mut Option<Request<RequestBody>>, turn: &Turn) -> Result<Through, Fault> {
    let through = |(connection, answer)| Through { connection, answer, pool: Rc::clone(exchange.pool), held: None };
    match exchange.run(request, turn, Start::Pooled).await {
        Ok(got) => Ok(through(got)),
        Err(Failure::Lost(fault, Some(copy))) => match Box::pin(exchange.run(&mut Some(*copy), turn, Start::Fresh)).await {
            Ok(got) => Ok(through(got)),
            // Why it failed first is what somebody has to mend.
            Err(_) => Err(fault),
        },
        Err(failure) => Err(failure.into_fault()),
    }
}

/// Where there are several: one is chosen, and another one where that may be.
async fn one_of(
    core: &Upstreams,
    (several, members): (&Several, &[Member]),
    request: &mut Option<Request<RequestBody>>,
    turn: &Turn,
    (stick, terms): (Stick<'_>, Terms),
) -> Result<Through, Fault> {
    let none = || Fault::new(Reason::Internal, "an upstream without addresses");
    let (place, member) = several.choose(members, stick).ok_or_else(none)?;
    // Whoever is alone is not left out, whatever it does.
    let alone = members.len() == 1;
    let (fault, again) = match at(core, (member, alone), request, turn, (terms, Start::Copied)).await {
        Ok(through) => return Ok(through),
        Err(Failure::Unsent(fault)) => (fault, several.other(members, place, stick).map(|other| (other, Start::Pooled))),
        Err(Failure::Lost(fault, Some(copy))) => {
            *request = Some(*copy);
            let (other, start) = match several.other_that_counts(members, place, stick) {
                Some(other) => (other, Start::Pooled),
                None => (member, Start::Fresh),
            };
            (fault, Some((other, start)))
        }
        Err(failure) => return Err(failure.into_fault()),
    };
    let Some((other, start)) = again else { return Err(fault) };
    tracing::debug!(%fault, "a request goes to another address");
    at(core, (other, alone), request, turn, (terms, start)).await.map_err(Failure::into_fault)
}

/// At one of several.
async fn at(
    core: &Upstreams,
    (member, alone): (&Member, bool),
    request: &mut Option<Request<RequestBody>>,
    turn: &Turn,
    (terms, start): (Terms, Start),
) -> Result<Through, Failure> {
    let held = member.peer.held(terms.timeouts.connect.unwrap_or(core.connect_timeout)).await.map_err(Failure::Final)?;
    let exchanged = Exchange::new(core, &member.dial, &member.pool, terms).run(request, turn, start).await;
    match &exchanged {
        Ok(_) => member.peer.worked(),
        Err(Failure::Unsent(_) | Failure::Lost(..) | Failure::Broken(_) | Failure::Late(_)) if !alone => member.peer.failed(),
        Err(_) => {}
    }
    exchanged.map(|(connection, answer)| Through { connection, answer, pool: Rc::clone(&member.pool), held: Some(held) })
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

fn stream_back(
    mut answer: Response<Frames>,
    (connection, held): (Connection, Option<Held>),
    pool: Rc<Pool>,
) -> Result<Response<UpstreamBody>, Fault> {
    frame_response(answer.headers_mut())?;
    // A body without a length cannot be sent to a peer that speaks HTTP/1.0, and only its first answer says that it does: such a peer has
    // a fresh connection for each request.
    let pool = (answer.version() >= Version::HTTP_11).then_some(pool);
    *answer.version_mut() = Version::HTTP_11;
    Ok(answer.map(|frames| UpstreamBody::new(frames, Lease { connection, pool }, held)))
}
