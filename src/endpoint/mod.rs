//! HTTP in and out, one file per endpoint. The life of a request: `facts` reads it, `proxy` or `forward_auth` find its route and let it be
//! decided, and act. Everything under the prefix is an endpoint of our own.
//!
//! A login: `start` (and a challenge) begin a flow by `login`, `first` says where, `callback` takes its answer, `session_start` ends it; `local_form` is
//! the form of local accounts, `token` is for apps without a browser; `kept_form` keeps what was sent meanwhile.
//!
//! `token_places` takes tokens out of a request that shows them elsewhere than in `Authorization`; `resource_metadata` is RFC 9728.
//!
//! `access` counts and logs every answer, `traced` makes spans of those that are recorded; `gateway` is what all endpoints share; `body` is what they answer with; `form` reads parameters;
//! `cors` lets scripts read refusals; `cookie` finds flows, `look` sessions without using them; `tokens` says what becomes of a request whose route tells the provider's tokens
//! when they are over; `outbound` adds a token that the gateway obtains, `outgoing` is for calls that leave, `to_https` for those that
//! came without TLS, `health` for balancers; `wanted` is said where nobody can sign in. `explain` tells what would happen.

mod access;
mod assertion;
mod backchannel_logout;
mod beside;
mod body;
mod callback;
mod cookie;
mod cors;
pub mod explain;
mod facts;
mod first;
mod form;
mod forward_auth;
mod frontchannel_logout;
mod gateway;
mod health;
mod jwks;
mod kept_form;
mod local_form;
mod login;
mod logout;
mod look;
mod outbound;
mod outgoing;
mod proxy;
mod resource_metadata;
mod session;
mod session_start;
mod sign_in;
mod start;
mod to_https;
mod token;
mod token_places;
mod tokens;
mod traced;
mod userinfo;
mod wanted;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

pub use access::answer;
pub use body::Body;
pub use forward_auth::{ForwardAuthSettings, ForwardedSet, InlineRules};
pub use gateway::{Core, EdgeSettings, Gateway, SessionCookieKept, UserInLog};
pub use outgoing::OutgoingListener;
pub use token::TokenEndpoint;

use crate::credential::Authenticated;
use crate::decision::Permit;
use crate::fault::{Fault, Trouble};
use crate::reason::Reason;
use crate::request::{Audience, RequestFacts};
use crate::respond::{Action, Answer, Refusal, Reply};
use crate::server::{ConnectionInfo, Entrance, RequestBody};
use crate::telemetry::{TraceContext, current};

/// An answer with what the log and the metrics say of it.
pub struct Served {
    /// To the browser or program.
    pub response: Response<Body>,
    /// Why it is what it is.
    pub reason: Reason,
    /// For the log: what was found. Empty where the reason says it all.
    pub detail: String,
    /// For the log, in forward-auth: method, host and path of the request that was asked about.
    pub about: Option<String>,
    /// Which route; `None`: an endpoint of ours, or none.
    pub route: Option<usize>,
    /// Who asked.
    pub who: Option<Authenticated>,
    /// The reason that it would have, were the route's policy not on trial.
    pub would_be: Option<Reason>,
    /// The call to the upstream.
    pub upstream: Option<UpstreamCall>,
}

/// A call to an upstream, to the head of its answer.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamCall {
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// The upstream's status; `None`: it gave no answer.
    pub status: Option<StatusCode>,
}

impl Served {
    fn new(answer: Answer, reason: Reason) -> Self {
        Self::of(answer.map(Body::ready), reason)
    }

    fn of(response: Response<Body>, reason: Reason) -> Self {
        Self { response, reason, detail: String::new(), about: None, route: None, who: None, would_be: None, upstream: None }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// For whom it was, and what it would have been.
    fn of_permit(mut self, permit: &Permit) -> Self {
        self.who = permit.who().cloned();
        if let Some(would_be) = permit.would_be() {
            self.would_be = Some(would_be.reason);
            if self.detail.is_empty() {
                self.detail.clone_from(&would_be.detail);
            }
        }
        self
    }
}

/// One request on its way through an endpoint.
pub(crate) struct Visit<'a> {
    gateway: &'a Gateway,
    facts: &'a RequestFacts,
    trace: &'a TraceContext,
    request_id: &'a str,
}

impl<'a> Visit<'a> {
    fn reply(&self) -> Reply<'a> {
        Reply { audience: self.facts.audience, request_id: self.request_id, pages: &self.gateway.pages }
    }

    fn refuse(&self, fault: &Fault) -> Served {
        // Whoever went astray is led back to the app.
        let actions = if fault.reason == Reason::EndpointUnknown { vec![login::home(self)] } else { Vec::new() };
        self.refuse_with(fault, Refusal { actions, ..Refusal::default() })
    }

    fn refuse_with(&self, fault: &Fault, refusal: Refusal) -> Served {
        let retry_after = refusal.retry_after.or(fault.wait.map(|wait| wait.as_secs().max(1)));
        let refusal = Refusal { retry_after, ..refusal };
        Served::new(self.reply().refuse(fault.reason, refusal), fault.reason).detail(fault.detail.clone())
    }

    /// 503 for an outage, the table's status for a refusal. No cookie is touched.
    fn trouble(&self, trouble: &Trouble) -> Served {
        if let Trouble::Unreachable(outage) = trouble {
            self.gateway.note_outage(&self.trace.id(), outage);
        }
        let refusal = Refusal { actions: self.again(), ..Refusal::default() };
        Served::new(self.reply().refuse(trouble.reason(), refusal), trouble.reason()).detail(trouble.detail())
    }

    /// The way on where waiting helps: the same page once more. None for what a link does not repeat, nor for a callback, whose query is no
    /// link to show.
    fn again(&self) -> Vec<Action> {
        let facts = self.facts;
        let callback = facts.path.under(&self.gateway.settings.prefix) == Some("/callback") || callback::is_at(self.gateway, &facts.path);
        let base = if facts.method == Method::GET && !callback { self.gateway.settings.sites.base(&facts.host) } else { None };
        let query = facts.query.iter().map(|query| format!("?{query}")).collect::<String>();
        base.map(|base| Action {
            label: "Try again".to_owned(),
            href: format!("{}{}{query}", base.as_str().trim_end_matches('/'), facts.path.as_str()),
        })
        .into_iter()
        .collect()
    }
}

/// Answers one request. What most requests do not come to is in boxes, here and below: the future of each request is as large as the largest
/// of its ways, and is moved and kept in memory. So is the request itself, which is handed from one to the next.
async fn serve(core: &Core, request: Box<Request<RequestBody>>, info: &ConnectionInfo, trace: &TraceContext) -> Served {
    let gateway = &*core.gateway;
    if let Entrance::Outgoing(index) = info.entrance {
        return Box::pin(outgoing::serve(core, index, *request, info, trace)).await;
    }
    if info.entrance == Entrance::Redirecting {
        return to_https::serve(gateway, &request, info, trace);
    }
    if let Some(question) = forward_auth::asked(gateway, request.uri()) {
        let facts = facts::of_question(gateway, &request, info, question.path.clone());
        let visit = Visit { gateway, facts: &facts, trace, request_id: trace.request_id() };
        return forward_auth::serve(&visit, &request, info, &question).await;
    }
    let mut facts = match facts::of_request(gateway, &request, info) {
        Ok(facts) => facts,
        Err(fault) => return unread(gateway, &request, trace.request_id(), &fault),
    };
    match place(gateway, &facts) {
        Place::NotTaken => not_taken(&Visit { gateway, facts: &facts, trace, request_id: trace.request_id() }, outgoing::METHODS),
        Place::Route => {
            if let Some(served) = resource_metadata::answered(&Visit { gateway, facts: &facts, trace, request_id: trace.request_id() }) {
                return served;
            }
            proxy::serve(core, request, &mut facts, info, trace).await
        }
        Place::Own(name) => Box::pin(own(gateway, &name, *request, facts, info, trace)).await,
    }
}

/// A request of which no facts can be made.
fn unread<B>(gateway: &Gateway, request: &Request<B>, request_id: &str, fault: &Fault) -> Served {
    let audience = Audience::of(request.method(), request.headers());
    let reply = Reply { audience, request_id, pages: &gateway.pages };
    let refusal = match fault.reason {
        Reason::AuthorizationRepeated => {
            Refusal { challenges: vec![crate::respond::challenge::invalid_request(fault.reason, None)], ..Refusal::default() }
        }
        _ => Refusal::default(),
    };
    Served::new(reply.refuse(fault.reason, refusal), fault.reason).detail(fault.detail.clone())
}

/// Who answers a request.
enum Place {
    /// An endpoint of ours, of this name.
    Own(String),
    /// A route, or what a resource says of itself.
    Route,
    /// Nobody: no route takes this method.
    NotTaken,
}

fn place(gateway: &Gateway, facts: &RequestFacts) -> Place {
    match facts.path.under(&gateway.settings.prefix) {
        Some(name) => Place::Own(name.to_owned()),
        None if callback::is_at(gateway, &facts.path) => Place::Own("/callback".to_owned()),
        None if token::is_at(gateway, &facts.path) => Place::Own("/token".to_owned()),
        None if facts.method == Method::TRACE => Place::NotTaken,
        None => Place::Route,
    }
}

/// 405 with what is taken.
fn not_taken(visit: &Visit<'_>, allow: &str) -> Served {
    let mut served = visit.refuse(&Fault::new(Reason::MethodNotAllowed, format!("{} is not taken here", visit.facts.method)));
    if let Ok(allow) = http::HeaderValue::try_from(allow) {
        served.response.headers_mut().insert(http::header::ALLOW, allow);
    }
    served
}

/// The methods that an endpoint of ours takes, as `Allow` lists them; `None`: there is none of this name.
fn takes(gateway: &Gateway, name: &str) -> Option<&'static str> {
    Some(match name {
        // Not even HEAD may begin a login: it writes.
        "/start" => "GET, POST",
        "/sign_in" if gateway.local.is_some() => "GET, HEAD, POST",
        "/jwks" if gateway.assertions.is_some() => "GET, HEAD",
        "/done" | "/kept" | "/sign_in" | "/signed_out" | "/userinfo" => "GET, HEAD",
        "/session" => "GET, HEAD, POST",
        "/callback" | "/sign_out" => "GET, POST",
        "/backchannel_logout" => "POST",
        "/token" if gateway.token.is_some() => "POST",
        "/frontchannel_logout" => "GET",
        _ => return None,
    })
}

fn listed(methods: &str, method: &Method) -> bool {
    methods.split(", ").any(|listed| listed == method.as_str())
}

fn no_endpoint(visit: &Visit<'_>, name: &str) -> Served {
    visit.refuse(&Fault::new(Reason::EndpointUnknown, forward_auth::unknown(name)))
}

/// An endpoint of ours.
async fn own(
    gateway: &Gateway,
    name: &str,
    request: Request<RequestBody>,
    facts: RequestFacts,
    info: &ConnectionInfo,
    trace: &TraceContext,
) -> Served {
    let visit = Visit { gateway, facts: &facts, trace, request_id: trace.request_id() };
    let Some(methods) = takes(gateway, name) else { return no_endpoint(&visit, name) };
    if !listed(methods, &facts.method) {
        return not_taken(&visit, methods);
    }
    match name {
        "/start" => start::serve(&visit, request, info).await,
        "/sign_in" if local_form::is_meant(&visit) => local_form::serve(&visit, request).await,
        "/sign_in" => sign_in::serve(&visit, request.headers(), info).await,
        "/jwks" => jwks::serve(&visit).await,
        "/done" => Served::new(gateway.pages.done(), Reason::Endpoint),
        "/kept" => kept_form::page(&visit, request.headers()).await,
        "/callback" => callback::serve(&visit, request).await,
        "/sign_out" => logout::sign_out(&visit, request, info).await,
        "/signed_out" => logout::signed_out(&visit, request.headers()),
        "/backchannel_logout" => backchannel_logout::serve(&visit, request).await,
        "/frontchannel_logout" => frontchannel_logout::serve(&visit).await,
        "/token" => token::serve(&visit, request).await,
        "/userinfo" => userinfo::serve(&visit, request.headers(), info).await,
        _ => session::serve(&visit, request).await,
    }
}

/// The longest that a form to an endpoint of ours may take.
const SMALL_BODY: Duration = Duration::from_secs(20);

/// Reads a small body; a larger one is refused before it is held.
pub(crate) async fn small_body(request: Request<RequestBody>, limit: usize) -> Result<Bytes, Fault> {
    use http_body_util::{BodyExt as _, LengthLimitError, Limited};
    // In all, not between pieces: a form that trickles would else hold its connection for weeks.
    let read = tokio::time::timeout(SMALL_BODY, Limited::new(request.into_body(), limit).collect());
    let Ok(read) = current::outside(read).await else {
        return Err(Fault::new(Reason::BodyTimeout, format!("the form took longer than {SMALL_BODY:?}")));
    };
    match read {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Fault::new(Reason::BodyTooLarge, format!("more than {limit} bytes"))),
        Err(error) => Err(error.downcast::<Fault>().map_or_else(|_| Fault::new(Reason::BodyBroken, "the body broke off"), |fault| *fault)),
    }
}
