//! Proxying: facts, route, credential and decision stand here; `pass` sends the request to the upstream by the `leg` of its
//! route, `refused` says why it does not; `lasting` is about requests without a known end. `explained` tells what would be sent.

pub(in crate::endpoint) mod explained;
mod lasting;
mod leg;
mod pass;
mod refused;

use std::sync::Arc;

use http::Request;
use http::header::HeaderValue;

use pass::pass;
use refused::challenged;
pub(in crate::endpoint) use refused::{denied, denied_page, leads_to_login, unauthorized};

use super::beside::{Around, OtherEnd, certificate_for};
use super::token_places::{self, Aside};
use super::{Core, Served, Visit, cors, kept_form, outbound, resource_metadata, tokens};
use crate::authenticate::{OpenSession, Patience, present, with_nonce};
use crate::decision::{Decision, Extra, TokenProblem, decide, decide_unauthenticated};
use crate::fault::{Fault, Trouble};
use crate::header::PreparedHeaders;
use crate::reason::Reason;
use crate::request::RequestFacts;
use crate::respond::{Refusal, challenge};
use crate::route::Route;
use crate::secret::Secret;
use crate::server::{ConnectionInfo, RequestBody};
use crate::session::SessionCookie;
use crate::store::RecordId;
use crate::telemetry::TraceContext;

pub(in crate::endpoint) async fn serve(
    core: &Core,
    request: Box<Request<RequestBody>>,
    facts: &mut RequestFacts,
    info: &ConnectionInfo,
    trace: &TraceContext,
) -> Served {
    let gateway = &*core.gateway;
    let Some(route) = gateway.routes.select(&facts.host, &facts.path, &facts.method, facts.known_address) else {
        let visit = Visit { gateway, facts, trace, request_id: trace.request_id() };
        return visit.refuse(&Fault::new(Reason::NoRoute, "no route matches"));
    };
    facts.audience = route.login.audience(facts.audience, &facts.method, request.headers());
    let aside = Aside::take(route, facts, request.headers());
    let visit = Visit { gateway, facts, trace, request_id: trace.request_id() };
    let origin = cors::origin(route, request.headers());
    let mut served = on_route(core, &visit, route, request, info, &aside).await;
    cors::allow(&mut served, route, origin);
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
    request: Box<Request<RequestBody>>,
    info: &ConnectionInfo,
    aside: &Aside,
) -> Served {
    let (request, called) = match kept_form::arrived(visit, request).await {
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
        Err(Trouble::Refused(fault)) => return unreadable(visit, route, &fault),
        Err(outage @ Trouble::Unreachable(_)) => return visit.trouble(&outage),
    };
    let mut served = match decision {
        Decision::Permit(permit) => match called {
            None => pass(core, visit, permit, (session, shown), request, info).await,
            Some(called) => {
                let sent_on = async {
                    let request = match called.take(visit, &permit, *request).await {
                        Ok(request) => Box::new(request),
                        Err(refused) => return *refused,
                    };
                    let served = pass(core, visit, permit, (session, shown), request, info).await;
                    called.settle(visit, &served).await;
                    served
                };
                Box::pin(sent_on).await
            }
        },
        Decision::Challenge(challenge) => match called {
            Some(called) if challenge.token == TokenProblem::None => Box::pin(called.sign_in_again(visit)).await,
            _ => Box::pin(challenged(visit, route, *request, &challenge, ended)).await,
        },
        Decision::Deny(denial) => denied(visit, route, denial),
    };
    with_nonce(&mut served.response, dpop_nonce);
    served
}

/// A credential that cannot be read, or is not looked at now.
pub(in crate::endpoint) fn unreadable(visit: &Visit<'_>, route: &Route, fault: &Fault) -> Served {
    let metadata = resource_metadata::url(visit, Some(route));
    let challenges = challenge::of_unreadable(Some(route), fault, metadata.as_deref());
    visit.refuse_with(fault, Refusal { challenges, ..Refusal::default() })
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
pub(in crate::endpoint) fn patience(facts: &RequestFacts, route: &Route) -> Patience {
    match (facts.method.is_safe(), route.tells_tokens()) {
        (false, _) => Patience::Long,
        (true, true) => Patience::ForTokens,
        (true, false) => Patience::Brief,
    }
}
