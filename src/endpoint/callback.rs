//! `callback`: the end of a login. Every check that can be made without the code stands before the code is spent; once the attempt is taken the
//! rest runs to its end even if the browser leaves.

use std::sync::Arc;

use http::{HeaderMap, Method, Request};

use super::cookie;
use super::form::Parameters;
use super::login::{self, FINISHED, append, attempt, home};
use super::{Served, Visit, small_body};
use crate::authenticate::{OpenSession, present};
use crate::credential::{Credential, CredentialKind};
use crate::fault::{Fault, Trouble};
use crate::header::cookies::{Kept, pairs};
use crate::login::{FAILURES_PER_FLOW, FLOW_LIFETIME, Flow, FlowCookie, PendingLogin, State};
use crate::provider::{AuthorizationResponse, SignedIn};
use crate::reason::Reason;
use crate::request::{AllowedOrigins, ReturnTo};
use crate::respond::{Action, Refusal};
use crate::route::{Accept, RouteAudience};
use crate::secret::Secret;
use crate::server::RequestBody;
use crate::session::{Session, SessionCookie};
use crate::store::{Created, Listing, Loaded};
use crate::telemetry::audit;

/// The most that a provider's form may hold.
const FORM: usize = 64 * 1024;

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
    complete(visit, &headers, Ended { flow_cookie, flow: flow.clone(), pending, response }).await
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

/// An attempt that was taken.
struct Ended {
    flow_cookie: FlowCookie,
    flow: Flow,
    pending: PendingLogin,
    response: AuthorizationResponse,
}

/// What a browser gets after a login.
struct Begun {
    cookie: SessionCookie,
    session: Arc<Session>,
}

async fn complete(visit: &Visit<'_>, headers: &HeaderMap, ended: Ended) -> Served {
    let gateway = visit.gateway;
    let provider = match gateway.provider(&ended.pending.provider) {
        Some(provider) => Arc::clone(provider),
        None => return stranded(visit, &Fault::new(Reason::ParameterInvalid, "the provider is gone from the config")),
    };
    let Ended { flow_cookie, flow, pending, response } = ended;
    let name = provider.id().to_owned();
    let work = Work {
        sessions: Arc::clone(&gateway.authenticator.sessions),
        old: old_sessions(visit, headers),
        listing: (visit.facts.address, user_agent(headers)),
        lifetimes: gateway.settings.lifetimes,
        clock: Arc::clone(&gateway.clock),
        flow_cookie: flow_cookie.clone(),
        flow: flow.clone(),
        address: visit.facts.address,
    };
    let begun = gateway
        .tasks
        .run(async move {
            let begun = match provider.complete(&pending, response).await {
                Ok(signed_in) => work.begin(signed_in).await,
                Err(trouble) => Err(trouble),
            };
            if begun.is_err() {
                work.count_failure().await;
            }
            begun
        })
        .await;
    let begun = begun.unwrap_or_else(|| Err(Fault::new(Reason::Internal, "the login broke off").into()));
    match begun {
        Ok(begun) => {
            gateway.metrics.login(&name, "success");
            audit::login_succeeded(&visit.trace.id(), &name, &begun.session.identity.sub);
            let mut served = Served::new(visit.reply().see_other(flow.return_to.as_str()), Reason::Endpoint);
            let style = &gateway.settings.style;
            append(&mut served, style.set_session(&begun.cookie.write(), gateway.kept(&begun.session)));
            append(&mut served, style.set_flow(&flow_cookie.handle.write(), &flow_cookie.value(), Kept::For(FINISHED)));
            served
        }
        Err(trouble) => {
            gateway.metrics.login(&name, trouble.reason().as_str());
            audit::login_failed(&visit.trace.id(), &name, &Fault::new(trouble.reason(), trouble.detail()));
            failed(visit, &flow, &trouble)
        }
    }
}

/// What the login needs once the browser may have left.
struct Work {
    sessions: Arc<crate::store::Sessions<crate::header::PreparedHeaders>>,
    old: Vec<SessionCookie>,
    listing: (std::net::IpAddr, String),
    lifetimes: crate::session::Lifetimes,
    clock: crate::clock::SharedClock,
    flow_cookie: FlowCookie,
    flow: Flow,
    address: std::net::IpAddr,
}

impl Work {
    /// A new session with a new id; what the browser held before is dead (fixation).
    async fn begin(&self, signed_in: SignedIn) -> Result<Begun, Trouble> {
        let now = self.clock.now();
        let session = Session {
            identity: Arc::new(signed_in.identity),
            client_id: signed_in.client_id,
            sid: signed_in.sid,
            id_token: signed_in.id_token.expose().to_owned(),
            created_at: now,
            ends_at: now.plus(self.lifetimes.absolute),
            tokens: signed_in.tokens,
            checked_at: Some(now),
        };
        let listing = Listing::new(&session, self.listing.0, &self.listing.1);
        let cookie = match self.sessions.create(session.clone(), &listing).await? {
            Created::Session(cookie) => cookie,
            Created::SidEnded => {
                return Err(Fault::new(Reason::SidEnded, "the provider ended this session while the login was under way").into());
            }
        };
        for old in &self.old {
            self.sessions.end(old).await?;
        }
        // The flow is over: it counts no more, and stays a while for the back button.
        self.sessions.release(self.flow_cookie.handle, self.address).await?;
        Ok(Begun { cookie, session: Arc::new(session) })
    }

    async fn count_failure(&self) {
        let counted = Flow { failures: self.flow.failures.saturating_add(1), ..self.flow.clone() };
        if let Err(outage) = self.sessions.put_flow(&self.flow_cookie, &counted).await {
            tracing::warn!(%outage, "a failed login could not be counted");
        }
    }
}

/// The session cookies that came along: at most a few, each is ended if it opens.
fn old_sessions(visit: &Visit<'_>, headers: &HeaderMap) -> Vec<SessionCookie> {
    let name = &visit.gateway.settings.style.session;
    pairs(headers).filter(|(known, _)| known == name).filter_map(|(_, value)| SessionCookie::parse(value)).take(4).collect()
}

fn user_agent(headers: &HeaderMap) -> String {
    headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// A page with the reason that leads on to the same place.
fn failed(visit: &Visit<'_>, flow: &Flow, trouble: &Trouble) -> Served {
    let again = Action { label: "Try again".to_owned(), href: login::start_url(visit, Some(flow.return_to.as_str())) };
    let served = visit.trouble(trouble);
    let answer = visit.reply().refuse(trouble.reason(), Refusal { actions: vec![again, home(visit)], ..Refusal::default() });
    Served { response: answer.map(super::Body::ready), ..served }
}

/// A stale or repeated callback (back button, bookmark) spends nothing. With a good session on to where the flow led; a known flow gets a
/// new attempt; else a page with one button.
async fn unknown(visit: &Visit<'_>, headers: &HeaderMap, flow: Option<(FlowCookie, Flow)>) -> Served {
    match session(visit, headers).await {
        Err(trouble) => return visit.trouble(&trouble),
        Ok(Some(_)) => {
            let place = match &flow {
                Some((_, flow)) => Some(flow.return_to.clone()),
                None => visit.gateway.settings.sites.base(&visit.facts.host).map(|base| AllowedOrigins::home(&base)),
            };
            if let Some(place) = place {
                return Served::new(visit.reply().see_other(place.as_str()), Reason::AttemptSpent);
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
    let providers = login::providers_for(visit.gateway, &flow.return_to);
    let [provider] = providers.as_slice() else {
        // Which of them it was stood in the attempt, which is gone.
        return login::chooser(visit, &flow.return_to, Reason::AttemptSpent);
    };
    let counted = Flow { failures: flow.failures + 1, ..flow };
    match attempt(visit, &flow_cookie, &counted, provider).await {
        Ok(url) => {
            let mut served = Served::new(visit.reply().see_other(&url), Reason::AttemptSpent);
            let style = &visit.gateway.settings.style;
            let left = FLOW_LIFETIME.saturating_sub(visit.gateway.clock.now().since(counted.started_at));
            append(&mut served, style.set_flow(&flow_cookie.handle.write(), &flow_cookie.value(), Kept::For(left)));
            served
        }
        Err(trouble) => visit.trouble(&trouble),
    }
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
    let accept = Accept { kinds: vec![CredentialKind::Session], audience: RouteAudience::OfIssuer, providers: None };
    let gateway = visit.gateway;
    let Credential::Session(cookies) = present(headers, &accept, &gateway.settings.style, gateway.settings.token_bytes) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for cookie in cookies {
        if let Loaded::Alive(session) = gateway.authenticator.sessions.load(&cookie).await?
            && gateway.authenticator.vouches(&session.session)
        {
            found.push((cookie, session));
        }
    }
    Ok(found)
}
