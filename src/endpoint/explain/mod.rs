//! What would happen to a request, and why: the way of `endpoint::serve` through the same functions, up to where something would be asked of the
//! network or the store. Those that wait are not called: who somebody is, is supposed.
//!
//! `told` is what is told of it, `credential` which credential counts, `act` what a decision would do.

mod act;
mod credential;
mod told;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::Request;

pub use credential::Supposed;
pub use told::{Asked, Does, Explained, Judged, Leads, Line, OnRoute, Outcome, RuleTold, Sent, Shown, Tried, Who};

use super::beside::{Around, OtherEnd, certificate_for};
use super::token_places::Aside;
use super::{Gateway, Place, Served, Visit, facts, health, not_taken, place, resource_metadata, takes, unread};
use crate::authenticate::present;
use crate::credential::{Authentication, Credential};
use crate::decision::{Decision, Extra, decide, decide_unauthenticated};
use crate::fault::Fault;
use crate::header::Peer;
use crate::policy::{Policy, Trace};
use crate::reason::Reason;
use crate::request::{Audience, RequestFacts};
use crate::route::{Access, DryRun, Fit, Route};
use crate::server::{ConnectionInfo, Entrance, LastRequest, RequestBody, Transport};
use crate::telemetry::trace::Sampling;
use crate::telemetry::{Ids, TraceContext};

use credential::{described, supposed_kind};

/// What would happen to `request` from `peer`, were its credential `supposed` to be somebody's. `upstreams` are those that routes name, in order.
///
/// # Errors
/// Where nobody can be supposed as it was asked for: what was expected instead.
pub fn explain(
    gateway: &Gateway,
    upstreams: &[Leads],
    request: Request<RequestBody>,
    peer: IpAddr,
    supposed: Option<&Supposed<'_>>,
) -> Result<Explained, String> {
    let info = ConnectionInfo {
        peer: Peer::At(SocketAddr::new(peer, 0)),
        local: SocketAddr::from(([127, 0, 0, 1], 0)),
        transport: Transport::Plain,
        entrance: Entrance::Serving,
        certificate: None,
        last: LastRequest::default(),
    };
    let ids = Ids::new();
    let trace = TraceContext::of(request.headers(), &ids, Sampling::Off);
    let mut explained = Explained {
        request: asked(gateway, &request, &info),
        routes: Vec::new(),
        route: None,
        credential: None,
        identity: None,
        policies: Vec::new(),
        outcome: act::unsettled(),
        notes: Vec::new(),
    };
    if health::answered(gateway, &request, &info).is_some() {
        explained.outcome = act::endpoint("says to balancers whether the gateway serves (health_path)");
        return Ok(explained);
    }
    let mut facts = match facts::of_request(gateway, &request, &info) {
        Ok(facts) => facts,
        Err(fault) => {
            explained.outcome = act::answered(&unread(gateway, &request, trace.request_id(), &fault));
            return Ok(explained);
        }
    };
    explained.request.canonical_path = Some(facts.path.as_str().to_owned());
    match place(gateway, &facts) {
        Place::Own(name) => {
            let visit = Visit { gateway, facts: &facts, trace: &trace, request_id: trace.request_id() };
            explained.outcome = own(&visit, &name);
            return Ok(explained);
        }
        Place::NotTaken => {
            let visit = Visit { gateway, facts: &facts, trace: &trace, request_id: trace.request_id() };
            explained.outcome = act::answered(&not_taken(&visit, super::outgoing::METHODS));
            return Ok(explained);
        }
        Place::Route => {}
    }
    {
        let visit = Visit { gateway, facts: &facts, trace: &trace, request_id: trace.request_id() };
        if let Some(served) = resource_metadata::answered(&visit) {
            explained.outcome = Outcome {
                does: Does::Endpoint,
                detail: "what the resource says of itself (RFC 9728)".to_owned(),
                ..act::answered(&served)
            };
            return Ok(explained);
        }
    }
    explained.routes = tried(gateway, &facts);
    let Some(route) = gateway.routes.select(&facts.host, &facts.path, &facts.method, facts.known_address) else {
        let visit = Visit { gateway, facts: &facts, trace: &trace, request_id: trace.request_id() };
        explained.outcome = act::answered(&visit.refuse(&Fault::new(Reason::NoRoute, "no route matches")));
        return Ok(explained);
    };
    explained.route = Some(on_route(route));
    facts.audience = route.login.audience(facts.audience, &facts.method, request.headers());
    explained.request.audience = word_of(facts.audience);
    let aside = Aside::take(route, &mut facts, request.headers());
    let visit = Visit { gateway, facts: &facts, trace: &trace, request_id: trace.request_id() };
    let judged = judge(&visit, route, &request, &aside, &info, supposed, &mut explained)?;
    let given = request.headers().clone();
    explained.outcome = match judged {
        Verdict::Decided(decision) => act::decided(&visit, upstreams, (route, decision), request, &info, &ids),
        Verdict::Refused(served) => act::refused(route, &given, *served),
        Verdict::Unsettled => act::unsettled(),
    };
    Ok(explained)
}

/// Where a walk ends.
enum Verdict {
    Decided(Decision),
    Refused(Box<Served>),
    Unsettled,
}

/// The way of the proxy's own judgement, with somebody supposed in place of the question who it is.
fn judge(
    visit: &Visit<'_>,
    route: &Arc<Route>,
    request: &Request<RequestBody>,
    aside: &Aside,
    info: &ConnectionInfo,
    supposed: Option<&Supposed<'_>>,
    explained: &mut Explained,
) -> Result<Verdict, String> {
    let gateway = visit.gateway;
    if let Some(decision) = decide_unauthenticated(route, visit.facts) {
        return Ok(Verdict::Decided(decision));
    }
    let Some(accept) = route.accept() else { return Ok(Verdict::Unsettled) };
    let around = Around { query: aside.query(), ..Around::headers(request.headers()) };
    let certificate = match certificate_for(visit, accept, around.headers, info, OtherEnd::Sender) {
        Ok(certificate) => certificate,
        Err(fault) => return Ok(Verdict::Refused(Box::new(super::proxy::unreadable(visit, route, &fault)))),
    };
    let around = Around { certificate: certificate.as_deref(), ..around };
    let credential = present(&around.shown(), accept, &gateway.settings.style, gateway.settings.token_bytes);
    explained.credential = Some(described(&credential, accept, &gateway.settings.style));
    explained.policies = policies(route, None);
    let authentication = match (credential, supposed) {
        (Credential::Unreadable(fault), _) => return Ok(Verdict::Refused(Box::new(super::proxy::unreadable(visit, route, &fault)))),
        (Credential::None, None) => Authentication::Anonymous(crate::credential::Absence::NoCredential),
        (_, None) => {
            explained.notes.push(credential::NOT_OPENED.to_owned());
            return Ok(Verdict::Unsettled);
        }
        (credential, Some(supposed)) => {
            let kind = supposed_kind(&credential, accept, supposed)?;
            if let Some(shown) = explained.credential.as_mut().filter(|shown| shown.kind.is_none()) {
                *shown = Shown { kind: Some(kind.as_str()), found: "supposed, by --as".to_owned() };
            }
            explained.notes.extend(credential::binding_note(kind, accept));
            (supposed.who)(route, kind)?
        }
    };
    if let Authentication::Authenticated(who) = &authentication {
        explained.identity = Some(credential::who(&who.identity));
        explained.policies = policies(route, Some(&who.identity));
    }
    let extra = Extra::at(gateway.clock.now(), gateway.settings.leeway);
    Ok(Verdict::Decided(decide(route, visit.facts, authentication, &extra)))
}

fn asked(gateway: &Gateway, request: &Request<RequestBody>, info: &ConnectionInfo) -> Asked {
    let headers = request.headers();
    Asked {
        method: request.method().to_string(),
        host: headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned(),
        path: request.uri().path().to_owned(),
        canonical_path: facts::path_of(gateway, request.uri().path()).ok().map(|path| path.as_str().to_owned()),
        address: facts::from(gateway, headers, info).counted.to_string(),
        audience: word_of(Audience::of(request.method(), headers)),
    }
}

const fn word_of(audience: Audience) -> &'static str {
    match audience {
        Audience::Navigation => "navigation",
        Audience::Program => "program",
    }
}

fn tried(gateway: &Gateway, facts: &RequestFacts) -> Vec<Tried> {
    let one = |(route, fit): (&Arc<Route>, Fit)| {
        let why = match fit {
            Fit::Selected => "host, path, method and address fit".to_owned(),
            Fit::Host => format!("its host is {}", route.host),
            Fit::Path => format!("its path is {}", route.path),
            Fit::Method => {
                let methods = route.methods.iter().flatten().map(http::Method::as_str).collect::<Vec<_>>().join(", ");
                format!("its methods are {methods}")
            }
            Fit::Client => {
                let networks = route.networks.as_ref().map(ToString::to_string).unwrap_or_default();
                let from = facts.known_address.map_or_else(|| "an address that is not known".to_owned(), |address| address.to_string());
                format!("its client is {networks}, and the request comes from {from}")
            }
            Fit::Later => "it fits too, but a closer one comes first".to_owned(),
        };
        let (host, path) = (route.host.to_string(), route.path.to_string());
        Tried { id: route.id.clone(), host, path, selected: fit == Fit::Selected, why }
    };
    gateway.routes.trace(&facts.host, &facts.path, &facts.method, facts.known_address).into_iter().map(one).collect()
}

fn on_route(route: &Route) -> OnRoute {
    OnRoute {
        id: route.id.clone(),
        access: match &route.access {
            Access::Public => "public",
            Access::Optional(_) => "optional",
            Access::Protected(..) => "protected",
        },
        accept: route.accept().map(|accept| accept.kinds.iter().map(|kind| kind.as_str()).collect()).unwrap_or_default(),
        dry_run: route.dry_run == DryRun::On,
    }
}

/// `deny`, which is judged first, and the policy.
fn policies(route: &Route, identity: Option<&crate::identity::Identity>) -> Vec<Judged> {
    let deny = route.deny.as_ref().map(|policy| {
        let kept_out = identity.map(|identity| policy.keep_out(identity));
        Judged { deny: true, ..judged(policy, Trace { verdict: kept_out, ..policy.trace(identity) }) }
    });
    let policy = match &route.access {
        Access::Protected(_, policy) => Some(judged(policy, policy.trace(identity))),
        Access::Public | Access::Optional(_) => None,
    };
    deny.into_iter().chain(policy).collect()
}

fn judged(policy: &Policy, trace: Trace) -> Judged {
    let holds = trace.verdict.as_ref().map(Result::is_ok);
    Judged { policy: policy.id.clone(), deny: false, holds, rule: rule(trace) }
}

fn rule(trace: Trace) -> RuleTold {
    let Trace { key, wants, saw, verdict, parts } = trace;
    let reason = verdict.as_ref().and_then(|verdict| verdict.as_ref().err()).map(|refusal| refusal.reason.as_str());
    // One rule in a list of its own says what the list says.
    let mut parts: Vec<RuleTold> = parts.into_iter().map(rule).collect();
    if parts.len() == 1
        && let Some(only) = parts.pop()
    {
        return only;
    }
    RuleTold { key, wants, saw, holds: verdict.map(|verdict| verdict.is_ok()), reason, rules: parts }
}

/// An endpoint of ours: what it is for. What it does with a request is its own affair.
fn own(visit: &Visit<'_>, name: &str) -> Outcome {
    let methods = match takes(visit.gateway, name) {
        Some(methods) => methods,
        None if matches!(name, "/auth" | "/forward") => return act::endpoint("where a front proxy asks about its requests (forward-auth)"),
        None => return act::answered(&super::no_endpoint(visit, name)),
    };
    if !super::listed(methods, &visit.facts.method) {
        return act::answered(&not_taken(visit, methods));
    }
    act::endpoint(match name {
        "/start" => "begins a login",
        "/callback" => "ends a login: where the provider sends the browser back to",
        "/sign_in" => "asks where to sign in, or for the name and password of a local account",
        "/sign_out" => "ends the session, here and at the provider",
        "/signed_out" => "where the provider sends the browser after signing out",
        "/done" => "closes its window, for single-page apps that sign in in one",
        "/kept" => "offers to send a form that its sender's session did not outlive",
        "/userinfo" => "tells the caller who they are, as JSON",
        "/session" => "tells people who they are and where they are signed in",
        "/backchannel_logout" | "/frontchannel_logout" => "where the provider says that a session has ended",
        "/token" => "where apps without a browser sign in",
        "/jwks" => "the keys that assertions are signed with",
        _ => "an endpoint of the gateway",
    })
}
