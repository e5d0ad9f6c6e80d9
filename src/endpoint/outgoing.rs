//! Calls that leave, from a program of this machine to a listed host: a token is added, and nothing else is done to them.
//!
//! A program takes the listener for the address of the API, or for its http proxy (RFC 9112 §3.2.2).

use http::header::{ALLOW, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, PROXY_AUTHORIZATION, UPGRADE, VIA};
use http::{Method, Request, StatusCode, Version};

use super::facts::one_host;
use super::{Body, Core, Served, UpstreamCall, outbound};
use crate::fault::{Fault, Trouble};
use crate::header::{OwnCookies, remove_hop_by_hop, strip_credentials};
use crate::reason::Reason;
use crate::request::Audience;
use crate::respond::{Refusal, Reply};
use crate::route::{Listed, OutboundId, OutgoingHosts};
use crate::server::{ConnectionInfo, RequestBody};
use crate::telemetry::TraceContext;
use crate::upstream::{self, Ending};

/// One listener.
#[derive(Clone, Debug)]
pub struct OutgoingListener {
    /// Where calls may go.
    pub hosts: OutgoingHosts,
    /// The token that is added.
    pub outbound: OutboundId,
}

/// Methods of what is sent on. TRACE is none: its answer would tell whoever sent it what the gateway has added (RFC 9110 §9.3.8).
pub(super) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

pub(super) async fn serve(core: &Core, index: usize, request: Request<RequestBody>, info: &ConnectionInfo, trace: &TraceContext) -> Served {
    let gateway = &*core.gateway;
    let mut served = match call(core, index, request, info).await {
        Ok(served) => served,
        Err(trouble) => {
            if let Trouble::Unreachable(outage) = &trouble {
                gateway.note_outage(&trace.id(), outage);
            }
            let reply = Reply { audience: Audience::Program, request_id: trace.request_id(), pages: &gateway.pages };
            let answer = reply.refuse(trouble.reason(), Refusal::default());
            let mut served = Served::new(answer, trouble.reason()).detail(trouble.detail());
            if trouble.reason() == Reason::MethodNotAllowed {
                served.response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
            }
            served
        }
    };
    // In log and metrics listeners come after the routes.
    served.route = Some(gateway.routes.routes().len() + index);
    served
}

async fn call(core: &Core, index: usize, mut request: Request<RequestBody>, info: &ConnectionInfo) -> Result<Served, Trouble> {
    let gateway = &*core.gateway;
    let listener = gateway.outgoing.get(index).ok_or_else(|| Fault::new(Reason::Internal, format!("no outgoing listener {index}")))?;
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        let detail = "calls that leave are read, so that a token can be added: speak http to the listener, it speaks https to the host";
        return Err(Fault::new(Reason::MethodNotAllowed, detail).into());
    }
    of_a_program(request.headers())?;
    let asked = one_host(&request, Some(info))?;
    let own_port = Some(info.local.port()).filter(|port| *port != 0);
    let listed = listener.hosts.find(&asked, own_port).ok_or_else(|| {
        let hosts = listener.hosts.iter().map(|host| format!("{}:{}", host.name, host.port)).collect::<Vec<_>>().join(", ");
        Fault::new(Reason::OutgoingHost, format!("{asked} is not listed; there is {hosts}"))
    })?;
    let addition = outbound::obtained(gateway, listener.outbound, None).await?;
    let version = request.version();
    let upgrade = remove_hop_by_hop(request.headers_mut());
    leaving(request.headers_mut(), OwnCookies(&gateway.settings.style), &listed, version)?;
    if let Some(upgrade) = upgrade {
        request.headers_mut().insert(UPGRADE, upgrade);
    }
    let began = gateway.clock.instant();
    let never = Ending::never();
    let answer = addition.send(request, async |request| upstream::forward_listed(&core.upstreams, &listed, request, &never).await).await;
    let took = gateway.clock.instant().saturating_duration_since(began);
    let mut answer = answer?;
    let upstream = Some(UpstreamCall { began, took, status: Some(answer.status()) });
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        remove_hop_by_hop(answer.headers_mut());
        answer.headers_mut().append(VIA, via(Version::HTTP_11));
    }
    Ok(Served { upstream, ..Served::of(answer.map(Body::from), Reason::Outgoing) })
}

/// A page in a browser of this machine may send requests to loopback addresses, too; it must not call in the gateway's name. Browsers say
/// from where a request comes, programs do not.
fn of_a_program(headers: &HeaderMap) -> Result<(), Fault> {
    let site = headers.get(HeaderName::from_static("sec-fetch-site")).map(HeaderValue::as_bytes);
    match (site, headers.contains_key(ORIGIN)) {
        (None, false) | (Some(b"none" | b"same-origin"), _) => Ok(()),
        _ => Err(Fault::new(Reason::CrossSite, "a page in a browser sent this: it has Origin or Sec-Fetch-Site")),
    }
}

/// What the call is on its way out: the headers are the program's own, but for what concerns us.
fn leaving(headers: &mut HeaderMap, own: OwnCookies<'_>, listed: &Listed<'_>, version: Version) -> Result<(), Fault> {
    headers.remove(PROXY_AUTHORIZATION);
    strip_credentials(headers, own, |_| false);
    let host = HeaderValue::try_from(listed.authority()).map_err(|_| Fault::new(Reason::Internal, "a listed host is no header value"))?;
    headers.insert(HOST, host);
    headers.append(VIA, via(version));
    Ok(())
}

/// RFC 9110 §7.6.3.
fn via(received: Version) -> HeaderValue {
    HeaderValue::from_static(match received {
        Version::HTTP_2 => "2 doorward",
        Version::HTTP_10 => "1.0 doorward",
        _ => "1.1 doorward",
    })
}
