//! Proxying: facts, route, credential, decision, and the request to the upstream.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::beside::{Around, OtherEnd, certificate_for};
use super::login::{self, append, here, own_url};
use super::token_places::{self, Aside};
use super::{Body, Core, Gateway, Served, Visit, assertion, kept_form, logout, outbound, resource_metadata, tokens, wanted};
use crate::authenticate::{OpenSession, Patience, present, with_nonce};
use crate::credential::CredentialKind;
use crate::decision::{Challenge, CookieFate, Decision, Denial, Extra, Permit, TokenProblem, decide, decide_unauthenticated};
use crate::fault::{Fault, Trouble};
use crate::header::cookies::Kept;
use crate::header::{
    DOORWARD_ASSERTION, Forwarding, IdentityHeaders, Naming, OwnCookies, PreparedHeaders, TokensToTell, after_scheme, remove_hop_by_hop,
    set_forwarded, strip_credentials, strip_identity,
};
use crate::provider::api_keys::ApiKeys;
use crate::reason::Reason;
use crate::request::{Audience, RequestFacts, Upgrade};
use crate::respond::{Action, DeniedPage, Refusal, bare, challenge, words_of};
use crate::route::{ProofFate, Route};
use crate::secret::Secret;
use crate::server::{ConnectionInfo, RequestBody};
use crate::session::SessionCookie;
use crate::store::RecordId;
use crate::telemetry::trace::{TRACEPARENT, TRACESTATE, X_REQUEST_ID};
use crate::telemetry::{Ids, TraceContext};
use crate::upstream::{self, Ending};
use crate::verify::dpop::DPOP;

pub(super) async fn serve(
    core: &Core,
    request: Request<RequestBody>,
    mut facts: RequestFacts,
    info: &ConnectionInfo,
    trace: &TraceContext,
) -> Served {
    let gateway = &*core.gateway;
    let Some(route) = gateway.routes.select(&facts.host, &facts.path, &facts.method) else {
        let visit = Visit { gateway, facts: &facts, trace, request_id: trace.request_id() };
        return visit.refuse(&Fault::new(Reason::NoRoute, "no route matches"));
    };
    let aside = Aside::take(route, &mut facts, request.headers());
    let visit = Visit { gateway, facts: &facts, trace, request_id: trace.request_id() };
    let mut served = on_route(core, &visit, route, request, info, &aside).await;
    if served.upstream.is_some() {
        aside.settle(&mut served.response);
    }
    served.route = Some(route.index);
    served
}

async fn on_route(
    core: &Core,
    visit: &Visit<'_>,
    route: &Arc<Route>,
    request: Request<RequestBody>,
    info: &ConnectionInfo,
    aside: &Aside,
) -> Served {
    let (request, called) = match kept_form::called(visit, request).await {
        Ok(arrived) => arrived,
        Err(refused) => return *refused,
    };
    let (request, form) = match token_places::take_form(route, request).await {
        Ok(read) => read,
        Err(fault) => return visit.refuse(&fault),
    };
    let around = Around { query: aside.query(), form: form.as_deref(), ..Around::headers(request.headers()) };
    let Judged { decision, session, shown, ended, dpop_nonce } = match judge(visit, route, around, info).await {
        Ok(judged) => judged,
        Err(Trouble::Refused(fault)) => {
            let metadata = resource_metadata::url(visit, Some(route));
            let challenges = challenge::of_unreadable(Some(route), &fault, metadata.as_deref());
            return visit.refuse_with(&fault, Refusal { challenges, ..Refusal::default() });
        }
        Err(outage @ Trouble::Unreachable(_)) => return visit.trouble(&outage),
    };
    let mut served = match decision {
        Decision::Permit(permit) => match called {
            None => pass(core, visit, permit, (session, shown), request, info).await,
            Some(called) => match called.take(visit, &permit, request).await {
                Ok(request) => {
                    let served = pass(core, visit, permit, (session, shown), request, info).await;
                    called.settle(visit, &served).await;
                    served
                }
                Err(refused) => *refused,
            },
        },
        Decision::Challenge(challenge) => match called {
            Some(called) if challenge.token == TokenProblem::None => called.sign_in_again(visit).await,
            _ => challenged(visit, route, request, &challenge, ended).await,
        },
        Decision::Deny(denial) => denied(visit, route, denial),
    };
    with_nonce(&mut served.response, dpop_nonce);
    served
}

/// A session and the cookie that opened it.
type Known = (Arc<OpenSession>, SessionCookie);

/// What a caller without a session has.
#[derive(Default)]
struct Shown {
    /// Their token, where the route needs it.
    token: Option<Secret>,
    /// Headers that say who they are, kept with a token that is remembered.
    prepared: Option<Arc<PreparedHeaders>>,
}

/// A decision, and what it was made of.
struct Judged {
    decision: Decision,
    session: Option<Known>,
    shown: Shown,
    /// Whose session it was that time has ended.
    ended: Option<RecordId>,
    /// A nonce for the next DPoP proof.
    dpop_nonce: Option<HeaderValue>,
}

/// Credential, authentication, decision.
async fn judge(visit: &Visit<'_>, route: &Arc<Route>, around: Around<'_>, info: &ConnectionInfo) -> Result<Judged, Trouble> {
    if let Some(decision) = decide_unauthenticated(route, visit.facts) {
        return Ok(Judged { decision, session: None, shown: Shown::default(), ended: None, dpop_nonce: None });
    }
    let gateway = visit.gateway;
    let accept = route.accept().ok_or_else(|| Fault::new(Reason::Internal, "a route without credentials was not decided"))?;
    let certificate = certificate_for(visit, accept, around.headers, info, OtherEnd::Sender)?;
    let around = Around { certificate: certificate.as_deref(), ..around };
    let credential = present(&around.shown(), accept, &gateway.settings.style, gateway.settings.token_bytes);
    let token = outbound::shown(route, &credential);
    let outcome = gateway.authenticator.authenticate(credential, accept, patience(visit.facts, route), &around.beside(visit)).await?;
    let now = gateway.clock.now();
    let decision = decide(route, visit.facts, outcome.authentication, &Extra::at(now, gateway.settings.leeway));
    let decision = tokens::with_tokens(route, decision, outcome.session.as_deref(), outcome.without_tokens.as_ref(), now)?;
    let (session, dpop_nonce) = (outcome.session.zip(outcome.cookie), outcome.dpop_nonce);
    let shown = Shown { token, prepared: outcome.prepared };
    Ok(Judged { decision, session, shown, ended: outcome.ended, dpop_nonce })
}

/// A form that was sent must not fail over a token that ends on the way; what is only read may go on with the old one.
pub(super) fn patience(facts: &RequestFacts, route: &Route) -> Patience {
    match (facts.method.is_safe(), route.tells_tokens()) {
        (false, _) => Patience::Long,
        (true, true) => Patience::ForTokens,
        (true, false) => Patience::Brief,
    }
}

/// Sends the request on; takes the permit that only a decision makes.
async fn pass(
    core: &Core,
    visit: &Visit<'_>,
    permit: Permit,
    (session, shown): (Option<Known>, Shown),
    request: Request<RequestBody>,
    info: &ConnectionInfo,
) -> Served {
    let gateway = visit.gateway;
    let began = gateway.clock.instant();
    // What stays open in the name of a session ends with it.
    let stream = || match &session {
        Some((open, cookie)) => gateway.authenticator.sessions.stream(cookie, open),
        None => Ending::never(),
    };
    let ending = if visit.facts.upgrade == Upgrade::Asked { stream() } else { Ending::never() };
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
    let mut outgoing = match outgoing(visit, &permit, (open, &shown), request, info, &core.ids) {
        Ok(outgoing) => outgoing,
        Err(fault) => return with_who(denied_or_failed(visit, &permit, fault), &permit),
    };
    outbound::clear(gateway, permit.route(), outgoing.headers_mut());
    if let Some(assertion) = assertion {
        outgoing.headers_mut().insert(DOORWARD_ASSERTION, assertion);
    }
    let (upstreams, permit) = (&core.upstreams, &permit);
    let answer = match &addition {
        None => upstream::forward(upstreams, permit, with_clean_trailers(core, outgoing), &ending).await.map_err(Trouble::from),
        Some(addition) => {
            let forward = async |request| upstream::forward(upstreams, permit, with_clean_trailers(core, request), &ending).await;
            addition.send(outgoing, forward).await
        }
    };
    let took = gateway.clock.instant().saturating_duration_since(began);
    let mut served = match answer {
        Ok(mut answer) => {
            let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            if !switched {
                remove_hop_by_hop(answer.headers_mut());
            }
            // A body of known length ends soon; one without may be an event stream or a call that lasts for days.
            let unending = !switched && session.is_some() && answer.body().size_hint().exact().is_none();
            let response = answer.map(|body| if unending { Body::until(body, stream()) } else { Body::from(body) });
            Served { response, ..Served::new(bare(StatusCode::OK), permit.reason()) }
        }
        Err(trouble) => visit.trouble(&trouble),
    };
    served.upstream = Some(took);
    with_who(served, permit)
}

fn with_who(served: Served, permit: &Permit) -> Served {
    Served { who: permit.who().cloned(), ..served }
}

/// The request as the upstream gets it: hop-by-hop headers out, the identity family out, ours in.
fn outgoing(
    visit: &Visit<'_>,
    permit: &Permit,
    (session, shown): (Option<&OpenSession>, &Shown),
    mut request: Request<RequestBody>,
    info: &ConnectionInfo,
    ids: &Ids,
) -> Result<Request<RequestBody>, Fault> {
    let (gateway, trace) = (visit.gateway, visit.trace);
    let settings = &gateway.settings;
    let route = permit.route();
    let peer = info.peer.ip();
    let before = if settings.trusted_proxies.hold(peer) { forwarded_for(request.headers()) } else { None };
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
    token_places::strip(headers, route, gateway.authenticator.api_keys.as_ref().map(ApiKeys::header));
    if let Some(who) = permit.who() {
        let (naming, tokens) = (Naming::Upstream, TokensToTell::shown(shown.token.as_ref()));
        let on = (route.index, route.headers.as_slice());
        match (session, &shown.prepared) {
            (Some(open), _) => open.prepared.get(&who.identity, TokensToTell::of(&open.session), on, naming)?.set(headers),
            (None, Some(prepared)) => prepared.get(&who.identity, tokens, on, naming)?.set(headers),
            (None, None) => IdentityHeaders::new(&who.identity, tokens, naming, &route.headers)?.set_once(headers),
        }
    }
    set_forwarded(headers, Forwarding { peer, scheme: visit.facts.scheme, host: &visit.facts.host, before: before.as_deref() });
    headers.insert(X_REQUEST_ID, trace.id().header_value());
    match trace.upstream_value(ids) {
        Some(value) => drop(headers.insert(TRACEPARENT, value)),
        None => {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
        }
    }
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
    }
    // An absolute-form target or `:authority` names the host as well; the upstream is told once.
    let host = HeaderValue::try_from(visit.facts.host.to_string()).map_err(|_| Fault::new(Reason::HostMalformed, "no header value"))?;
    headers.insert(HOST, host);
    *request.uri_mut() = target(visit.facts)?;
    Ok(request)
}

/// Whether the upstream checks the DPoP proof again and so gets it, with its token.
fn forwards_proof(route: &Route, headers: &HeaderMap) -> bool {
    let shown = || headers.get(AUTHORIZATION).is_some_and(|value| after_scheme(value.as_bytes(), "dpop").is_some());
    route.accept().is_some_and(|accept| accept.binding.proof == ProofFate::Forwarded) && shown()
}

/// Trailers are headers that come late: the identity family goes there too (a server may merge them, RFC 9110 §6.5.1).
fn with_clean_trailers<B>(core: &Core, request: Request<B>) -> Request<impl http_body::Body<Data = Bytes, Error = Fault> + use<B>>
where
    B: http_body::Body<Data = Bytes, Error = Fault> + 'static,
{
    let (family, underscores) = (Rc::clone(&core.family), core.gateway.settings.underscore_names);
    request.map(|body| {
        body.map_frame(move |mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                strip_identity(trailers, &family, underscores);
            }
            frame
        })
    })
}

/// The canonical path, which is what was matched, and the query as it came.
fn target(facts: &RequestFacts) -> Result<Uri, Fault> {
    let target = match &facts.query {
        Some(query) => PathAndQuery::try_from(format!("{}?{query}", facts.path.as_str())),
        None => PathAndQuery::try_from(facts.path.as_str()),
    };
    target.map(Uri::from).map_err(|_| Fault::new(Reason::PathAmbiguous, "the canonical path is no request target"))
}

fn forwarded_for(headers: &HeaderMap) -> Option<String> {
    let name = HeaderName::from_static("x-forwarded-for");
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// 303 to the login for a person's GET and for a form that is kept, 401 for everything else.
async fn challenged(
    visit: &Visit<'_>,
    route: &Route,
    request: Request<RequestBody>,
    challenge: &Challenge,
    ended: Option<RecordId>,
) -> Served {
    let headers = &request.headers().clone();
    if let Some(served) = kept_form::keep(visit, route, request, challenge, ended).await {
        return if served.response.status() == StatusCode::SEE_OTHER { Served { reason: challenge.reason, ..served } } else { served };
    }
    let navigates = visit.facts.audience == Audience::Navigation;
    let sessions = route.takes(CredentialKind::Session);
    let mut served = if navigates && sessions && visit.facts.method == Method::GET && challenge.token == TokenProblem::None {
        let served = login::challenge(visit, headers).await;
        // An outage or a bound that was met has its own reason; the redirect has the challenge's.
        if served.response.status() == StatusCode::SEE_OTHER { Served { reason: challenge.reason, ..served } } else { return served }
    } else {
        unauthorized(visit, route, headers, challenge, sessions)
    };
    if challenge.cookie == CookieFate::Deleted {
        append(&mut served, visit.gateway.settings.style.set_session("", Kept::Deleted));
    }
    served.detail(challenge.detail.clone())
}

fn unauthorized(visit: &Visit<'_>, route: &Route, headers: &HeaderMap, challenge: &Challenge, sessions: bool) -> Served {
    let challenges = login::unauthorized(visit, Some(route), headers, challenge);
    let page = referring_page(visit.gateway, headers);
    let login_url = sessions.then(|| login::start_url_after(visit, page.as_deref(), Some(route), challenge));
    let actions = login_url.iter().map(|href| Action { label: "Sign in".to_owned(), href: href.clone() }).collect();
    let words = (!sessions && challenge.reason == Reason::NoCredential).then(|| wanted::words(route));
    let refusal = Refusal { challenges, login_url, actions, status: Some(StatusCode::UNAUTHORIZED), words, retry_after: None };
    Served::new(visit.reply().refuse(challenge.reason, refusal), challenge.reason)
}

/// The page that a program runs in: the place to come back to, since the address it asked for is none for people.
fn referring_page(gateway: &Gateway, headers: &HeaderMap) -> Option<String> {
    let page = url::Url::parse(headers.get(http::header::REFERER)?.to_str().ok()?).ok()?;
    gateway.settings.sites.own(&page).then(|| page.into())
}

fn denied(visit: &Visit<'_>, route: &Route, denial: Denial) -> Served {
    let mut served = denied_page(visit, &denial);
    if !denial.scopes.is_empty() {
        let metadata = resource_metadata::url(visit, Some(route));
        let challenge = challenge::insufficient_scope(&denial.scopes, metadata.as_deref());
        served.response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    served.who = denial.who;
    served
}

/// 403 for somebody: the page that says who is signed in, or JSON. The session stays.
pub(super) fn denied_page(visit: &Visit<'_>, denial: &Denial) -> Served {
    let Denial { fault, who, .. } = denial;
    let words = words_of(fault.reason);
    let forbidden = crate::respond::status_of(fault.reason) == StatusCode::FORBIDDEN;
    match who {
        Some(who) if visit.facts.audience == Audience::Navigation && forbidden => {
            let place = here(visit);
            let page = DeniedPage {
                user: Some(who.identity.display_name().to_owned()),
                // A password that a browser sends along is none that we could forget for it.
                sign_out_action: (who.by == CredentialKind::Session).then(|| own_url(visit, "/sign_out")),
                rd: place.as_ref().map(ToString::to_string),
                home: place.as_ref().map(ToString::to_string),
            };
            let origins = logout::form_origins(visit, place.as_ref());
            let answer = visit.gateway.pages.denied(visit.request_id, fault.reason, &words, &page, &origins);
            Served::new(answer, fault.reason).detail(fault.detail.clone())
        }
        _ => visit.refuse(fault),
    }
}

fn denied_or_failed(visit: &Visit<'_>, permit: &Permit, fault: Fault) -> Served {
    denied_page(visit, &Denial { fault, who: permit.who().cloned(), scopes: Vec::new() })
}
