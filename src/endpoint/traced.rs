//! Spans of requests that are recorded: the request's own, and that of the call to its upstream. Their attributes are OpenTelemetry's
//! ("Semantic conventions for HTTP spans", 1.2x), and a few of our own under `doorward.`.
//!
//! Never in them: queries, cookies, tokens, codes, and who somebody is. Others read spans than read the access log.

use std::time::{Duration, SystemTime};

use http::{Method, Version};

use super::access::AccessLine;
use super::{Core, Gateway, UpstreamCall};
use crate::credential::CredentialKind;
use crate::reason::Reason;
use crate::server::ConnectionInfo;
use crate::telemetry::otlp::{Attribute, Span, SpanKind, SpanStatus, Tracer};
use crate::telemetry::trace::{Sampling, SpanIds};
use crate::upstream::UpstreamAddress;

/// Which traces are recorded of those that this connection brings.
pub(super) fn sampling(gateway: &Gateway, info: &ConnectionInfo) -> Sampling {
    match &gateway.tracer {
        None => Sampling::Off,
        Some(tracer) if gateway.settings.trusted_proxies.hold(info.peer) => Sampling::AsTold(tracer.share()),
        Some(tracer) => Sampling::ByShare(tracer.share()),
    }
}

/// A request that has ended.
pub(super) struct Ended<'a> {
    pub(super) line: &'a AccessLine,
    pub(super) spans: SpanIds,
    /// As the log says it: also where nothing was sent.
    pub(super) status: u16,
    pub(super) reason: Reason,
    pub(super) route: Option<&'a str>,
    pub(super) credential: Option<CredentialKind>,
    pub(super) duration: Duration,
}

/// Hands its spans to the tracer.
pub(super) fn tell(tracer: &Tracer, core: &Core, ended: &Ended<'_>) {
    if let Some(upstream) = ended.line.upstream
        && let Some(span) = of_upstream(core, ended, upstream)
    {
        tracer.tell(span);
    }
    tracer.tell(own(core, ended));
}

fn own(core: &Core, ended: &Ended<'_>) -> Span {
    let Ended { line, spans, status, reason, route, credential, duration } = ended;
    let settings = &core.gateway.settings;
    let mut attributes = with_method(&line.method);
    attributes.push(("url.scheme", settings.sites.first().scheme().into()));
    attributes.push(("url.path", line.path.as_str().into()));
    attributes.extend(place(&line.host));
    attributes.push(("client.address", line.address.to_string().as_str().into()));
    attributes.push(("network.protocol.version", version(line.version).into()));
    if let Some(route) = route {
        attributes.push(("http.route", (*route).into()));
    }
    let sent = *reason != Reason::Unanswered;
    if sent {
        attributes.push(("http.response.status_code", u64::from(*status).into()));
    }
    attributes.push(("doorward.reason", reason.as_str().into()));
    if let Some(credential) = credential {
        attributes.push(("doorward.credential", credential.as_str().into()));
    }
    if let Some(upstream) = &line.upstream {
        attributes.push(("doorward.upstream_us", micros(upstream.took).into()));
    }
    // A 4xx is the other side's mistake: of a server's span only 5xx is an error.
    let failed = sent && *status >= 500;
    if failed || !sent {
        attributes.push(("error.type", if sent { status.to_string().as_str().into() } else { reason.as_str().into() }));
    }
    Span {
        trace: line.trace.trace_id(),
        id: spans.own,
        parent: spans.parent,
        remote_parent: spans.parent.is_some(),
        kind: SpanKind::Server,
        name: match route {
            Some(route) => format!("{} {route}", known(&line.method)),
            None => known(&line.method).to_owned(),
        },
        began: line.at,
        took: *duration,
        attributes,
        status: if failed { SpanStatus::Error } else { SpanStatus::Unset },
    }
}

/// `None` where nobody was called: the answer stands in the config.
fn of_upstream(core: &Core, ended: &Ended<'_>, upstream: UpstreamCall) -> Option<Span> {
    let line = ended.line;
    let mut attributes = with_method(&line.method);
    match line.route.and_then(|route| core.gateway.routes.routes().get(route)) {
        Some(route) if core.upstreams.is_static(route.upstream?) => return None,
        // Of several the span names none.
        Some(route) => match core.upstreams.address(route.upstream?) {
            Some(
                UpstreamAddress::Http { host, port }
                | UpstreamAddress::Https { host, port }
                | UpstreamAddress::H2c { host, port }
                | UpstreamAddress::H2 { host, port },
            ) => {
                attributes.push(("server.address", host.as_str().into()));
                attributes.push(("server.port", u64::from(*port).into()));
            }
            Some(UpstreamAddress::Unix(path)) => attributes.push(("server.address", path.display().to_string().as_str().into())),
            Some(UpstreamAddress::Static(_)) | None => {}
        },
        // A call that leaves names its host itself.
        None => attributes.extend(place(&line.host)),
    }
    match upstream.status {
        Some(status) => attributes.push(("http.response.status_code", u64::from(status.as_u16()).into())),
        None => attributes.push(("error.type", ended.reason.as_str().into())),
    }
    // Of a client's span 4xx is an error as well.
    let failed = upstream.status.is_none_or(|status| status.is_client_error() || status.is_server_error());
    if let Some(status) = upstream.status.filter(|_| failed) {
        attributes.push(("error.type", status.as_str().into()));
    }
    Some(Span {
        trace: line.trace.trace_id(),
        id: ended.spans.upstream,
        parent: Some(ended.spans.own),
        remote_parent: false,
        kind: SpanKind::Client,
        name: known(&line.method).to_owned(),
        began: later(line.at, upstream.began.saturating_duration_since(line.began)),
        took: upstream.took,
        attributes,
        status: if failed { SpanStatus::Error } else { SpanStatus::Unset },
    })
}

/// Host and port apart; brackets of IPv6 stay.
fn place(host: &str) -> impl Iterator<Item = (&'static str, Attribute)> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => match port.parse::<u16>() {
            Ok(port) => (name, Some(port)),
            Err(_) => (host, None),
        },
        None => (host, None),
    };
    let name = ("server.address", name.into());
    std::iter::once(name).chain(port.map(|port| ("server.port", u64::from(port).into())))
}

fn later(at: SystemTime, by: Duration) -> SystemTime {
    at.checked_add(by).unwrap_or(at)
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// A method that HTTP knows by this name. A stranger may write any: names of spans and attributes are of a closed list.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::PATCH
        | Method::OPTIONS
        | Method::TRACE
        | Method::CONNECT => method.as_str(),
        _ => "HTTP",
    }
}

fn with_method(method: &Method) -> Vec<(&'static str, Attribute)> {
    let name = known(method);
    let mut attributes = Vec::with_capacity(12);
    if name == "HTTP" {
        attributes.push(("http.request.method", "_OTHER".into()));
        attributes.push(("http.request.method_original", method.as_str().into()));
    } else {
        attributes.push(("http.request.method", name.into()));
    }
    attributes
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}
