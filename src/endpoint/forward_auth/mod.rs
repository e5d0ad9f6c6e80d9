//! Forward-auth: a front proxy asks about a request of its own. `auth` answers with bare status codes (nginx `auth_request`), `forward` may
//! answer with the redirect (Caddy, Traefik, Envoy). The decision is the same code as the proxy's; only the facts come from elsewhere.
//!
//! `question` knows a question by its path, `sets` reads from one set of headers what it is about, `query` what it asks for beside.

mod query;
mod question;
mod sets;

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use http::{Method, Request, StatusCode};

use super::beside::{Around, OtherEnd, certificate_for};
use super::facts::one_credential;
use super::login::append;
use super::proxy::patience;
use super::token_places::Aside;
use super::{Served, Visit, assertion, login, outbound, resource_metadata, tokens, wanted};
use crate::authenticate::{OpenSession, present, with_nonce};
use crate::credential::{Authentication, CredentialKind};
use crate::decision::{Challenge, CookieFate, Decision, Denial, Extra, Permit, TokenProblem, decide, decide_unauthenticated};
use crate::fault::{Fault, Trouble};
use crate::header::cookies::{Kept, pairs};
use crate::header::{DOORWARD_ASSERTION, IdentityHeaders, Naming, TokensToTell};
use crate::reason::Reason;
use crate::request::Audience;
use crate::respond::{Refusal, bare, challenge, status_of};
use crate::route::Route;
use crate::secret::Secret;
use crate::server::{ConnectionInfo, RequestBody};

pub(super) use question::{Question, asked, unknown};
pub use sets::{ForwardAuthSettings, ForwardedSet, InlineRules};

use question::Style;

/// Answers about the request that the headers name. Only 200, 401, 403 and 503 (and `forward`'s redirects): nginx makes 500 of anything
/// else.
pub(super) async fn serve(visit: &Visit<'_>, request: &Request<RequestBody>, info: &ConnectionInfo, question: &Question) -> Served {
    let (headers, style) = (request.headers(), question.style);
    let asked = one_credential(headers).and_then(|()| Ok((query::extra(visit, question)?, sets::facts(visit, request, info, question)?)));
    let (extra, mut facts) = match asked {
        Ok(asked) => asked,
        Err(fault) => return unanswerable(visit, headers, &fault),
    };
    let gateway = visit.gateway;
    let about = Some(format!("{} {}{}", facts.method, facts.host, facts.path.as_str()));
    let Some(route) = gateway.routes.select(&facts.host, &facts.path, &facts.method, facts.known_address).cloned() else {
        let visit = &Visit { facts: &facts, ..*visit };
        return Served { about, ..refuse(visit, &Fault::new(Reason::NoRoute, "no route matches the forwarded request"), None) };
    };
    facts.audience = route.login.audience(facts.audience, &facts.method, headers);
    // What the front proxy sends on is its own affair; no link or place to come back to of ours holds the token.
    let aside = Aside::take(&route, &mut facts, headers);
    let visit = &Visit { facts: &facts, ..*visit };
    let around = Around { query: aside.query(), ..Around::headers(headers) };
    let mut served = answer(visit, &around, info, &route, &extra, style).await;
    super::cors::allow(&mut served, &route, super::cors::origin(&route, headers));
    served.route = Some(route.index);
    served.about = about;
    served
}

async fn answer(visit: &Visit<'_>, around: &Around<'_>, info: &ConnectionInfo, route: &Arc<Route>, extra: &Extra, style: Style) -> Served {
    let (gateway, headers) = (visit.gateway, around.headers);
    if let Some(decision) = decide_unauthenticated(route, visit.facts) {
        let decision = match decision {
            // A public route with a named policy on top: the policy has to hold.
            Decision::Permit(permit) if extra.policy.is_some() && permit.reason() == Reason::Public => {
                return refuse(visit, &query::nobody_to_judge(extra), None);
            }
            decision => decision,
        };
        return act(visit, route, headers, decision, (None, None), style).await;
    }
    let Some(accept) = route.accept() else {
        return refuse(visit, &Fault::new(Reason::Internal, "a route without credentials was not decided"), None);
    };
    let certificate = match certificate_for(visit, accept, headers, info, OtherEnd::FrontProxy) {
        Ok(certificate) => certificate,
        Err(fault) => {
            return act(visit, route, headers, decide(route, visit.facts, Authentication::Rejected(fault), extra), (None, None), style)
                .await;
        }
    };
    let around = Around { certificate: certificate.as_deref(), ..*around };
    let credential = present(&around.shown(), accept, &gateway.settings.style, gateway.settings.token_bytes);
    let patience = patience(visit.facts, route);
    let shown = outbound::shown(route, &credential);
    let outcome = match gateway.authenticator.authenticate(credential, accept, patience, &around.beside(visit)).await {
        Ok(outcome) => outcome,
        Err(Trouble::Refused(fault)) if status_of(fault.reason) == StatusCode::TOO_MANY_REQUESTS => return refuse(visit, &fault, None),
        Err(trouble @ Trouble::Refused(_)) if status_of(trouble.reason()).is_server_error() => return outage(visit, &trouble),
        Err(Trouble::Refused(fault)) => {
            // 400 elsewhere; here a credential that cannot be read is a bad credential.
            let decision = decide(route, visit.facts, Authentication::Rejected(fault), extra);
            return act(visit, route, headers, decision, (None, None), style).await;
        }
        Err(trouble @ Trouble::Unreachable(_)) => return outage(visit, &trouble),
    };
    let dpop_nonce = outcome.dpop_nonce;
    let decision = decide(route, visit.facts, outcome.authentication, extra);
    let decision =
        match tokens::with_tokens(route, decision, outcome.session.as_deref(), outcome.without_tokens.as_ref(), gateway.clock.now()) {
            Ok(decision) => decision,
            Err(missing) => return outage(visit, &missing.into()),
        };
    let mut served = act(visit, route, headers, decision, (outcome.session.as_ref(), shown.as_ref()), style).await;
    with_nonce(&mut served.response, dpop_nonce);
    served
}

/// The session behind a decision, and the token that was shown.
type Known<'a> = (Option<&'a Arc<OpenSession>>, Option<&'a Secret>);

async fn act(visit: &Visit<'_>, route: &Route, headers: &HeaderMap, decision: Decision, known: Known<'_>, style: Style) -> Served {
    match decision {
        Decision::Permit(permit) => permitted(visit, permit, known).await,
        Decision::Challenge(challenge) => challenged(visit, route, headers, &challenge, style).await,
        Decision::Deny(denial) => denied(visit, route, denial, style),
    }
}

/// 200 with the identity; takes the permit that only a decision makes.
async fn permitted(visit: &Visit<'_>, permit: Permit, (session, shown): Known<'_>) -> Served {
    let route = permit.route();
    let mut answer = bare(StatusCode::OK);
    // About a place of our own, no app is told anything: it is the browser itself that asks, as scripts do to see whether somebody is
    // signed in, and what is meant for an app is not for them.
    if visit.facts.path.under(&visit.gateway.settings.prefix).is_some() {
        let mut served = Served::new(answer, permit.reason());
        served.who = permit.who().cloned();
        return served;
    }
    match outbound::for_permit(visit.gateway, &permit, session.map(AsRef::as_ref), shown).await {
        Ok(None) => {}
        Ok(Some(addition)) => addition.set(answer.headers_mut()),
        Err(Trouble::Refused(fault)) => return refuse(visit, &fault, None),
        Err(missing @ Trouble::Unreachable(_)) => return outage(visit, &missing),
    }
    if let Some(who) = permit.who() {
        let made = match session {
            Some(open) => open.prepared.get(&open.session.identity, TokensToTell::of(&open.session), route.telling(), Naming::ForwardAuth),
            None => IdentityHeaders::new(&who.identity, TokensToTell::shown(shown), Naming::ForwardAuth, route.telling()).map(Arc::new),
        };
        match made {
            Ok(made) => made.set(answer.headers_mut()),
            Err(fault) if status_of(fault.reason) == StatusCode::SERVICE_UNAVAILABLE => return visit.refuse(&fault),
            Err(fault) => return refuse(visit, &fault, None),
        }
    }
    match assertion::of(visit, &permit).await {
        Ok(Some(assertion)) => drop(answer.headers_mut().insert(DOORWARD_ASSERTION, assertion)),
        Ok(None) => {}
        Err(Trouble::Refused(fault)) => return refuse(visit, &fault, None),
        Err(trouble @ Trouble::Unreachable(_)) => return outage(visit, &trouble),
    }
    Served::new(answer, permit.reason()).of_permit(&permit)
}

async fn challenged(visit: &Visit<'_>, route: &Route, headers: &HeaderMap, challenge: &Challenge, style: Style) -> Served {
    // Where no session is read a login would lead back to the same question.
    let sessions = route.takes(CredentialKind::Session);
    let navigates = sessions && visit.facts.audience == Audience::Navigation && visit.facts.method == Method::GET;
    let mut served = if style == Style::Redirects && navigates && challenge.token == TokenProblem::None {
        let served = Box::pin(login::challenge(visit, headers)).await;
        if served.response.status() != StatusCode::SEE_OTHER {
            return served.detail(challenge.detail.clone());
        }
        Served { reason: challenge.reason, ..served }
    } else {
        let challenges = login::unauthorized(visit, Some(route), headers, challenge);
        let login_url = sessions.then(|| login::start_url_after(visit, None, Some(route), challenge));
        let words = (!sessions && challenge.reason == Reason::NoCredential).then(|| wanted::words(route));
        let refusal = Refusal { challenges, status: Some(StatusCode::UNAUTHORIZED), login_url, words, ..Refusal::default() };
        visit.refuse_with(&Fault::new(challenge.reason, challenge.detail.clone()), refusal)
    };
    if challenge.cookie == CookieFate::Deleted {
        append(&mut served, visit.gateway.settings.style.set_session("", Kept::Deleted));
    }
    served.detail(challenge.detail.clone())
}

fn denied(visit: &Visit<'_>, route: &Route, denial: Denial, style: Style) -> Served {
    let mut served = match (style, visit.facts.audience) {
        // What `forward` answers the browser sees: a page that says who is signed in and how to go on.
        (Style::Redirects, Audience::Navigation) if denial.who.is_some() => super::proxy::denied_page(visit, route, &denial),
        _ => {
            let refusal = Refusal { status: Some(StatusCode::FORBIDDEN), told: route.denied.clone(), ..Refusal::default() };
            visit.refuse_with(&denial.fault, refusal)
        }
    };
    *served.response.status_mut() = StatusCode::FORBIDDEN;
    if !denial.scopes.is_empty() {
        let metadata = resource_metadata::url(visit, Some(route));
        let challenge = challenge::insufficient_scope(&denial.scopes, metadata.as_deref());
        served.response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    served.who = denial.who;
    served
}

fn outage(visit: &Visit<'_>, trouble: &Trouble) -> Served {
    visit.trouble(trouble)
}

/// 403 unless another status is given, with the reason in its body for whoever looks.
fn refuse(visit: &Visit<'_>, fault: &Fault, unauthorized: Option<Vec<http::HeaderValue>>) -> Served {
    let status = if unauthorized.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
    let challenges = unauthorized.unwrap_or_default();
    let login_url = (status == StatusCode::UNAUTHORIZED).then(|| login::start_url(visit, None));
    visit.refuse_with(fault, Refusal { challenges, status: Some(status), login_url, ..Refusal::default() })
}

/// A question without a clear subject is a denial; without a credential it is 401, so that probes and `curl` learn what is missing first.
fn unanswerable(visit: &Visit<'_>, headers: &HeaderMap, fault: &Fault) -> Served {
    let style = &visit.gateway.settings.style;
    let shown = headers.contains_key(AUTHORIZATION) || pairs(headers).any(|(name, _)| name == style.session);
    let policy = matches!(fault.reason, Reason::InlineRule | Reason::PolicyUnknown | Reason::ParameterRepeated | Reason::ParameterInvalid);
    if shown || policy {
        return refuse(visit, fault, None);
    }
    refuse(visit, fault, Some(challenge::of_sessions(Reason::NoCredential)))
}
