//! Around every request: its ids, its count, its access line when the answer has ended.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use http::header::{HOST, STRICT_TRANSPORT_SECURITY};
use http::{Method, Request, Response, StatusCode, Version};

use super::traced::{self, Ended};
use super::{Body, Core, Gateway, Served, UpstreamCall, UserInLog, facts, health, serve};
use crate::credential::Authenticated;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::respond::status_of;
use crate::route::PermitLines;
use crate::server::{ConnectionInfo, Entrance, RequestBody};
use crate::telemetry::trace::X_REQUEST_ID;
use crate::telemetry::{AccessRecord, TraceContext, audit, current};

/// What the log says where there was no answer: nginx's number for a request that was given up. It is never sent.
const GIVEN_UP: u16 = 499;

/// Answers one request, counts it and writes its access line.
pub async fn answer(core: &Rc<Core>, request: Box<Request<RequestBody>>, info: &ConnectionInfo) -> Response<Body> {
    let gateway = &core.gateway;
    if let Some(answer) = health::answered(gateway, &request, info) {
        return answer;
    }
    let trace = TraceContext::of(request.headers(), &core.ids, traced::sampling(gateway, info));
    facts::note_unlisted(gateway, request.headers(), info);
    let mut line = Box::new(AccessLine {
        began: gateway.clock.instant(),
        at: gateway.clock.wall(),
        trace,
        address: facts::from(gateway, request.headers(), info).counted,
        method: request.method().clone(),
        host: host_of(&request),
        path: request.uri().path().to_owned(),
        version: request.version(),
        outcome: None,
        detail: String::new(),
        about: None,
        route: None,
        who: None,
        would_be: None,
        upstream: None,
        bytes: 0,
        left_out: false,
        core: Rc::clone(core),
    });
    let work = pin!(async {
        let served = serve(core, request, info, &trace).await;
        note_refused(gateway, &trace, &served);
        served
    });
    // What is told meanwhile names the request, wherever that is.
    let (served, waited) = current::at_work(trace, work).await;
    let Served { mut response, reason, detail, about, route, who, would_be, upstream } = served;
    let whole = gateway.clock.instant().saturating_duration_since(line.began);
    let away = waited + upstream.map(|upstream| upstream.took).unwrap_or_default();
    gateway.latencies.add(route, whole.saturating_sub(away), upstream.map(|upstream| upstream.took));
    gateway.counts.add(route, reason);
    let on = route.and_then(|route| gateway.routes.routes().get(route));
    if let (Some(would_be), Some(route)) = (would_be, on) {
        gateway.metrics.dry_run(&route.id, would_be);
    }
    // What would have been a denial is told, as denials are.
    let quiet = on.is_some_and(|route| route.permit_lines == PermitLines::LeftOut) && would_be.is_none();
    line.left_out = quiet && status_of(reason).is_success();
    if response.status().is_client_error() || response.status().is_server_error() {
        response.headers_mut().entry(X_REQUEST_ID).or_insert_with(|| trace.id().header_value());
    }
    if let Some(hsts) = &gateway.settings.hsts
        && info.entrance == Entrance::Serving
    {
        // In place of the upstream's: browsers read the first alone (RFC 6797 §8.1), and it is for the whole host.
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    line.outcome = Some((response.status(), reason));
    line.detail = detail;
    line.about = about;
    line.route = route;
    line.who = who;
    line.would_be = would_be;
    line.upstream = upstream;
    response.map(|body| body.with_line(line))
}

/// Somebody who is known wanted what they may not have. What strangers try stands in the access log.
fn note_refused(gateway: &Gateway, trace: &TraceContext, served: &Served) {
    if served.response.status() == StatusCode::FORBIDDEN
        && let Some(who) = &served.who
    {
        let id = served.route.and_then(|route| gateway.routes.routes().get(route)).map(|route| route.id.as_str());
        audit::refused(&trace.id(), id, Some(&who.identity.sub), &Fault::new(served.reason, served.detail.clone()));
    }
}

fn host_of(request: &Request<RequestBody>) -> String {
    let line = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    line.or_else(|| request.uri().authority().map(|authority| authority.as_str())).unwrap_or_default().to_owned()
}

/// What is written when the answer has ended, or was left.
pub(super) struct AccessLine {
    pub(super) began: Instant,
    pub(super) at: SystemTime,
    pub(super) trace: TraceContext,
    pub(super) address: IpAddr,
    pub(super) method: Method,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) version: Version,
    /// `None` for as long as there is no answer.
    outcome: Option<(StatusCode, Reason)>,
    detail: String,
    about: Option<String>,
    pub(super) route: Option<usize>,
    who: Option<Authenticated>,
    would_be: Option<Reason>,
    pub(super) upstream: Option<UpstreamCall>,
    /// Of the answer's body so far.
    pub(super) bytes: u64,
    /// Its route wants no lines of requests that were let through.
    left_out: bool,
    core: Rc<Core>,
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let (status, reason) = match self.outcome {
            Some((status, reason)) => (status.as_u16(), reason),
            // A defect: whoever catches the panic answers and counts it.
            None if std::thread::panicking() => (StatusCode::INTERNAL_SERVER_ERROR.as_u16(), Reason::Internal),
            None => {
                self.core.gateway.metrics.request(Reason::Unanswered);
                (GIVEN_UP, Reason::Unanswered)
            }
        };
        let gateway = &*self.core.gateway;
        if self.left_out && self.trace.spans().is_none() {
            return;
        }
        let duration = gateway.clock.instant().saturating_duration_since(self.began);
        let route = self.route.and_then(|route| self.core.route_names.get(route)).map(String::as_str);
        if let Some(tracer) = &gateway.tracer
            && let Some(spans) = self.trace.spans()
        {
            let credential = self.who.as_ref().map(|who| who.by);
            traced::tell(tracer, &self.core, &Ended { line: self, spans, status, reason, route, credential, duration });
        }
        if self.left_out {
            return;
        }
        self.core.lines.write(&AccessRecord {
            at: self.at,
            request_id: self.trace.id(),
            trace_id: self.trace.trace_id(),
            address: self.address,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            status,
            reason,
            would_be: self.would_be,
            detail: (!self.detail.is_empty()).then_some(self.detail.as_str()),
            about: self.about.as_deref(),
            route,
            credential: self.who.as_ref().map(|who| who.by),
            user: self.who.as_ref().and_then(|who| match gateway.settings.log_user {
                UserInLog::Name => Some(who.identity.user.as_str()),
                UserInLog::Sub => Some(who.identity.sub.as_str()),
                UserInLog::Nothing => None,
            }),
            duration,
            upstream: self.upstream.map(|upstream| upstream.took),
            bytes: Some(self.bytes),
        });
    }
}
