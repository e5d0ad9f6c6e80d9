//! `callback`: the answer of a provider. Every check that can be made without the code stands before the code is spent.

use std::sync::Arc;

use http::{HeaderMap, Method, Request};

use super::cookie;
use super::form::Parameters;
use super::login::{self, home};
use super::session_start::{Taken, finish};
use super::{Gateway, Served, Visit, kept_form, small_body};
use crate::authenticate::{OpenSession, Shown, present};
use crate::credential::{Credential, CredentialKind};
use crate::fault::{Fault, Trouble};
use crate::login::{FAILURES_PER_FLOW, Flow, FlowCookie, State};
use crate::provider::AuthorizationResponse;
use crate::reason::Reason;
use crate::request::{AllowedOrigins, CanonicalPath, ReturnTo};
use crate::respond::{Action, Refusal};
use crate::route::Accept;
use crate::secret::Secret;
use crate::server::RequestBody;
use crate::session::{SessionCookie, ShownAs};
use crate::store::Loaded;

/// The most that a provider's form may hold.
const FORM: usize = 64 * 1024;

/// Whether this path is a provider's own redirect path beside the one under the prefix.
pub(super) fn is_at(gateway: &Gateway, path: &CanonicalPath) -> bool {
    gateway.settings.callbacks.iter().any(|own| own == path.as_str())
}

pub(super) async fn serve(visit: &Visit<'_>, request: Request<RequestBody>) -> Served {
    let headers = request.headers().clone();
    let parameters = match read(visit, request).await {
        Ok(parameters) => parameters,
        Err(fault) => return stranded(visit, &fault),
    };
    let response = match response(&parameters) {
        Ok(response) => response,
        Err(fault) => return stranded(visit, &fault),
    };
    let known = parameters.one("state").ok().flatten().and_then(State::parse);
    let found = known.and_then(|state| Some((state, cookie::flow(&headers, &visit.gateway.settings.style, state.flow)?)));
    let Some((state, flow_cookie)) = found else {
        return unknown(visit, &headers, None).await;
    };
    let sessions = &visit.gateway.authenticator.sessions;
    // Read, bound to this browser by the flow cookie that opens it; nothing is spent yet.
    let flow = match sessions.flow(&flow_cookie).await {
        Ok(flow) => flow,
        Err(outage) => return visit.trouble(&outage.into()),
    };
    let pending = match sessions.attempt(&flow_cookie, &state).await {
        Ok(pending) => pending,
        Err(outage) => return visit.trouble(&outage.into()),
    };
    let (Some(flow), Some(_)) = (&flow, &pending) else {
        return unknown(visit, &headers, flow.map(|flow| (flow_cookie, flow))).await;
    };
    // Taken, by one.
    let pending = match sessions.take_attempt(&flow_cookie, &state).await {
        Ok(Some(pending)) => pending,
        Ok(None) => return unknown(visit, &headers, Some((flow_cookie, flow.clone()))).await,
        Err(outage) => return visit.trouble(&outage.into()),
    };
    let provider = match visit.gateway.provider(&pending.provider) {
        Some(provider) => Arc::clone(provider),
        None => return stranded(visit, &Fault::new(Reason::ParameterInvalid, "the provider is gone from the config")),
    };
    // The code is the former one's, and so is what redeems it.
    if pending.registration.is_some() && pending.registration != visit.gateway.authenticator.registration(&pending.provider) {
        return stranded(visit, &Fault::new(Reason::ParameterInvalid, "the provider is another in the config by now"));
    }
    let attempt = pending.clone();
    let proof = async move { provider.complete(&attempt, response).await };
    finish(visit, &headers, Taken { flow_cookie, flow: flow.clone(), pending }, proof).await
}

async fn read(visit: &Visit<'_>, request: Request<RequestBody>) -> Result<Parameters, Fault> {
    if visit.facts.method == Method::POST {
        return small_body(request, FORM).await.map(|body| Parameters::parse(&body));
    }
    Ok(Parameters::parse(visit.facts.query.as_deref().unwrap_or_default().as_bytes()))
}

/// Each parameter once (RFC 6749 §3.1).
fn response(parameters: &Parameters) -> Result<AuthorizationResponse, Fault> {
    parameters.one("state")?;
    parameters.one("error_description")?;
    Ok(AuthorizationResponse {
        code: parameters.one("code")?.filter(|code| !code.is_empty()).map(Secret::new),
        iss: parameters.one("iss")?.map(str::to_owned),
        error: parameters.one("error")?.map(str::to_owned),
    })
}

/// A stale or repeated callback (back button, bookmark) spends nothing. With a good session on to where the flow led; a known flow gets a
/// new attempt; else a page with one button.
pub(super) async fn unknown(visit: &Visit<'_>, headers: &HeaderMap, flow: Option<(FlowCookie, Flow)>) -> Served {
    match session(visit, headers).await {
        Err(trouble) => return visit.trouble(&trouble),
        Ok(Some(_)) => {
            let place = match &flow {
                Some((flow_cookie, flow)) => Some(kept_form::place_after(visit, flow_cookie, flow)),
                None => visit.gateway.settings.sites.base(&visit.facts.host).map(|base| AllowedOrigins::home(&base).to_string()),
            };
            if let Some(place) = place {
                return Served::new(visit.reply().see_other(&place), Reason::AttemptSpent);
            }
        }
        Ok(None) => {}
    }
    let Some((flow_cookie, flow)) = flow else {
        return stranded(visit, &Fault::new(Reason::StateUnknown, "no login of this browser has this state"));
    };
    if flow.failures >= FAILURES_PER_FLOW {
        return again(visit, &flow.return_to);
    }
    // Which provider it was stood in the attempt, which is gone.
    let counted = Flow { failures: flow.failures + 1, ..flow };
    login::go_on(visit, &flow_cookie, &counted, None, Reason::AttemptSpent).await
}

fn again(visit: &Visit<'_>, return_to: &ReturnTo) -> Served {
    let action = Action { label: "Sign in".to_owned(), href: login::start_url(visit, Some(return_to.as_str())) };
    let fault = Fault::new(Reason::FlowExhausted, "the flow's attempts are used up");
    visit.refuse_with(&fault, Refusal { actions: vec![action], ..Refusal::default() })
}

/// 400 with one button.
fn stranded(visit: &Visit<'_>, fault: &Fault) -> Served {
    visit.refuse_with(fault, Refusal { actions: vec![home(visit)], ..Refusal::default() })
}

/// The good session of this browser, if there is one. Of two none counts.
pub(super) async fn session(visit: &Visit<'_>, headers: &HeaderMap) -> Result<Option<(SessionCookie, Arc<OpenSession>)>, Trouble> {
    let mut found = sessions(visit, headers).await?;
    Ok(if found.len() == 1 { found.pop() } else { None })
}

/// All good sessions that this browser shows.
pub(super) async fn sessions(visit: &Visit<'_>, headers: &HeaderMap) -> Result<Vec<(SessionCookie, Arc<OpenSession>)>, Trouble> {
    let accept = Accept::of(vec![CredentialKind::Session]);
    let gateway = visit.gateway;
    let Credential::Session(cookies) = present(&Shown::headers(headers), &accept, &gateway.settings.style, gateway.settings.token_bytes)
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for cookie in cookies {
        if let Loaded::Alive(session) = gateway.authenticator.sessions.load(&cookie).await?
            && gateway.authenticator.vouches(&session.session, ShownAs::Cookie)
        {
            found.push((cookie, session));
        }
    }
    Ok(found)
}
