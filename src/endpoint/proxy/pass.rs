//! What a permit does: the request as the upstream gets it, and its answer.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, TE, TRAILER, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};

use super::lasting;
use super::leg::Way;
use super::refused::denied_or_failed;
use super::{Known, Shown};
use crate::authenticate::OpenSession;
use crate::credential::CredentialKind;
use crate::decision::Permit;
use crate::endpoint::outbound::Addition;
use crate::endpoint::{Body, Core, Served, UpstreamCall, Visit, assertion, outbound, token_places};
use crate::fault::{Fault, Trouble};
use crate::header::cookies::remove_set;
use crate::header::{
    AddressSource, DOORWARD_ASSERTION, Forwarding, IdentityHeaders, Naming, OwnCookies, TokensToTell, after_scheme, keep_private,
    remove_hop_by_hop, set_forwarded, strip_credentials, strip_identity,
};
use crate::provider::api_keys::ApiKeys;
use crate::reason::Reason;
use crate::request::Upgrade;
use crate::route::{ProofFate, Route};
use crate::server::{ConnectionInfo, RequestBody};
use crate::telemetry::Ids;
use crate::telemetry::trace::{TRACEPARENT, TRACESTATE, TraceOrigin, X_REQUEST_ID};
use crate::upstream::{self, Ending, Passage, Stick, UpstreamBody};
use crate::verify::dpop::DPOP;

/// Sends the request on; takes the permit that only a decision makes.
pub(super) async fn pass(
    core: &Core,
    visit: &Visit<'_>,
    permit: Permit,
    (session, shown): (Option<Known>, Shown),
    request: Box<Request<RequestBody>>,
    info: &ConnectionInfo,
) -> Served {
    let gateway = visit.gateway;
    // What stays open in the name of a session ends with it.
    let stream = || match &session {
        Some((open, cookie)) => gateway.authenticator.sessions.stream(cookie, open),
        None => Ending::never(),
    };
    let unending = session.is_some() && lasting::is_unending(&request);
    let ending = if unending || visit.facts.upgrade == Upgrade::Asked { stream() } else { Ending::never() };
    let request = lasting::patiently(request);
    let way = match Way::of(visit, &permit) {
        Ok(way) => way,
        Err(fault) => return with_who(denied_or_failed(visit, &permit, fault), &permit),
    };
    if let Some(served) = way.slash(visit, permit.reason()) {
        return with_who(served, &permit);
    }
    let assertion = match assertion::of(visit, &permit).await {
        Ok(assertion) => assertion,
        Err(Trouble::Refused(fault)) => return with_who(denied_or_failed(visit, &permit, fault), &permit),
        Err(outage @ Trouble::Unreachable(_)) => return with_who(visit.trouble(&outage), &permit),
    };
    let open = session.as_ref().map(|(open, _)| &**open);
    let addition = match outbound::for_permit(gateway, &permit, open, shown.token.as_ref()).await {
        Ok(addition) => addition,
        Err(Trouble::Refused(fault)) => return with_who(denied_or_failed(visit, &permit, fault), &permit),
        Err(outage @ Trouble::Unreachable(_)) => return with_who(visit.trouble(&outage), &permit),
    };
    let mut request = request;
    if let Err(fault) = outgoing(visit, &permit, &way, (open, &shown), &mut request, info, &core.ids) {
        return with_who(denied_or_failed(visit, &permit, fault), &permit);
    }
    outbound::clear(gateway, permit.route(), request.headers_mut());
    if let Some(assertion) = assertion {
        request.headers_mut().insert(DOORWARD_ASSERTION, assertion);
    }
    let permit = &permit;
    let who = permit.who().map(|who| &*who.identity);
    let stick = Stick::of(session.as_ref().map(|(_, cookie)| cookie), who, visit.facts.address);
    let passage = Passage { ending: &ending, stick };
    let began = gateway.clock.instant();
    // Most requests bring nothing but their head. What the others need is kept out of the future of these: waiting for two things, a token that is
    // added, a body that is looked through.
    let answer = if unending {
        Box::pin(async {
            let mut over = ending.clone();
            tokio::select! {
                biased;
                () = over.ended() => None,
                answer = answer_to(core, permit, addition.as_ref(), *request, passage) => Some(answer),
            }
        })
        .await
    } else if addition.is_none() && request.body().is_end_stream() {
        let mut prepared = upstream::prepare(&core.upstreams, permit, request.map(|_| Empty::new()), passage);
        Some(match &mut prepared {
            Ok(prepared) => prepared.forward().await.map_err(Trouble::from),
            Err(fault) => Err(fault.clone().into()),
        })
    } else {
        Some(Box::pin(answer_to(core, permit, addition.as_ref(), *request, passage)).await)
    };
    let Some(answer) = answer else { return with_who(lasting::ended(visit, permit), permit) };
    let took = gateway.clock.instant().saturating_duration_since(began);
    let status = answer.as_ref().ok().map(http::Response::status);
    let mut served = match answer {
        Ok(mut answer) => {
            let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            if !switched {
                remove_hop_by_hop(answer.headers_mut());
                if permit.who().is_some() {
                    keep_private(answer.headers_mut());
                }
            }
            way.settle(answer.headers_mut());
            remove_set(answer.headers_mut(), |name| gateway.settings.style.is_ours(name));
            // A body of known length ends soon; one without may be an event stream or a call that lasts for days.
            let lasts = !switched && session.is_some() && (unending || answer.body().size_hint().exact().is_none());
            let response = answer.map(|body| match lasts {
                true if ending.is_never() => Body::until(body, stream()),
                true => Body::until(body, ending),
                false => Body::from(body),
            });
            Served::of(response, permit.reason())
        }
        Err(trouble) => visit.trouble(&trouble),
    };
    served.upstream = Some(UpstreamCall { began, took, status });
    with_who(served, permit)
}

/// What the upstream answers, asked with the token that the route adds, if it adds one.
async fn answer_to(
    core: &Core,
    permit: &Permit,
    addition: Option<&Addition<'_>>,
    outgoing: Request<RequestBody>,
    passage: Passage<'_>,
) -> Result<Response<UpstreamBody>, Trouble> {
    match addition {
        None => {
            upstream::forward(&core.upstreams, permit, fit_to_leave(core, outgoing, passage.ending), passage).await.map_err(Trouble::from)
        }
        Some(addition) => {
            let forward =
                async |request| upstream::forward(&core.upstreams, permit, fit_to_leave(core, request, passage.ending), passage).await;
            addition.send(outgoing, forward).await
        }
    }
}

fn with_who(served: Served, permit: &Permit) -> Served {
    served.of_permit(permit)
}

/// Makes of a request what the upstream gets: hop-by-hop headers out, the identity family out, ours in.
pub(super) fn outgoing(
    visit: &Visit<'_>,
    permit: &Permit,
    way: &Way<'_>,
    (session, shown): (Option<&OpenSession>, &Shown),
    request: &mut Request<RequestBody>,
    info: &ConnectionInfo,
    ids: &Ids,
) -> Result<(), Fault> {
    let (gateway, trace) = (visit.gateway, visit.trace);
    let settings = &gateway.settings;
    let route = permit.route();
    let peer = info.peer.ip();
    let before = match &settings.address_source {
        _ if !settings.trusted_proxies.hold(info.peer) => None,
        AddressSource::XForwardedFor => forwarded_for(request.headers()),
        // A proxy that names the address elsewhere may pass on what others wrote here.
        AddressSource::Forwarded | AddressSource::Single(_) => visit.facts.known_address.map(|address| address.to_string()),
    };
    let headers = request.headers_mut();
    let upgrade = remove_hop_by_hop(headers);
    strip_identity(headers, &gateway.family, settings.underscore_names);
    if permit.reason() == Reason::Preflight {
        headers.remove(COOKIE);
        headers.remove(AUTHORIZATION);
        headers.remove(DPOP);
    } else {
        let kept = forwards_proof(route, headers);
        let read = |kind| route.accept().is_some_and(|accept| accept.takes_in_authorization(kind));
        strip_credentials(headers, OwnCookies(&settings.style), |kind| read(kind) && !(kept && kind == CredentialKind::Bearer));
    }
    token_places::strip(headers, route, gateway.authenticator.api_keys.as_deref().map(ApiKeys::header));
    if route.sets_authorization() {
        headers.remove(AUTHORIZATION);
    }
    if let Some(who) = permit.who() {
        let (naming, tokens) = (Naming::Upstream, TokensToTell::shown(shown.token.as_ref()));
        let on = route.telling();
        match (session, &shown.prepared) {
            (Some(open), _) => open.prepared.get(&who.identity, TokensToTell::of(&open.session), on, naming)?.set(headers),
            (None, Some(prepared)) => prepared.get(&who.identity, tokens, on, naming)?.set(headers),
            (None, None) => IdentityHeaders::new(&who.identity, tokens, naming, on)?.set_once(headers),
        }
    }
    let forwarding = Forwarding { peer, scheme: visit.facts.scheme, host: &visit.facts.host, before: before.as_deref() };
    let host = set_forwarded(headers, forwarding, &info.last.told);
    way.tell_prefix(headers);
    headers.insert(X_REQUEST_ID, trace.id().header_value());
    match trace.upstream_value(ids) {
        Some(value) => drop(headers.insert(TRACEPARENT, value)),
        None => drop(headers.remove(TRACEPARENT)),
    }
    if trace.origin() == TraceOrigin::Here {
        headers.remove(TRACESTATE);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
    }
    // An absolute-form target or `:authority` names the host as well; the upstream is told once.
    let host = way.host(host)?;
    if headers.get(HOST) != Some(&host) {
        headers.insert(HOST, host);
    }
    if !way.leaves(request.uri()) {
        *request.uri_mut() = way.target()?;
    }
    Ok(())
}

/// Whether the upstream checks the DPoP proof again and so gets it, with its token.
fn forwards_proof(route: &Route, headers: &HeaderMap) -> bool {
    let shown = || headers.get(AUTHORIZATION).is_some_and(|value| after_scheme(value.as_bytes(), "dpop").is_some());
    route.accept().is_some_and(|accept| accept.binding.proof == ProofFate::Forwarded) && shown()
}

/// What frames, routes or authenticates has no place after the body (RFC 9110 §6.5.1); HTTP/2 would send all that is there.
const NEVER_TRAILERS: [HeaderName; 7] = [AUTHORIZATION, COOKIE, DPOP, HOST, CONTENT_LENGTH, TE, TRAILER];

/// Trailers are headers that come late: what is taken out of the one is taken out of the other (a server may merge them, RFC 9110 §6.5.1). And a
/// body that may go on for days ends with the session it is sent for.
fn fit_to_leave<B>(core: &Core, request: Request<B>, ending: &Ending) -> Request<impl http_body::Body<Data = Bytes, Error = Fault> + use<B>>
where
    B: http_body::Body<Data = Bytes, Error = Fault> + Unpin + 'static,
{
    let (family, underscores) = (Rc::clone(&core.family), core.gateway.settings.underscore_names);
    request.map(|body| {
        let clean = body.map_frame(move |mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                remove_hop_by_hop(trailers);
                for name in NEVER_TRAILERS {
                    trailers.remove(name);
                }
                strip_identity(trailers, &family, underscores);
            }
            frame
        });
        lasting::Tied::new(clean, ending)
    })
}

fn forwarded_for(headers: &HeaderMap) -> Option<String> {
    let name = HeaderName::from_static("x-forwarded-for");
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}
