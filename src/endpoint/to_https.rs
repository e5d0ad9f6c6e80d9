//! `redirect_from`: a plain listener that does nothing but send people on to https. No route is looked for, nothing that was shown is read.

use http::Request;

use super::{Gateway, Served, facts};
use crate::fault::Fault;
use crate::reason::Reason;
use crate::request::Audience;
use crate::respond::{Refusal, Reply};
use crate::server::ConnectionInfo;
use crate::telemetry::TraceContext;

/// 308 to the same path and query of the host that was asked for, whatever the method; 421 where the config does not name that host.
pub(super) fn serve<B>(gateway: &Gateway, request: &Request<B>, info: &ConnectionInfo, trace: &TraceContext) -> Served {
    let audience = Audience::of(request.method(), request.headers());
    let reply = Reply { audience, request_id: trace.request_id(), pages: &gateway.pages };
    match target(gateway, request, info) {
        Ok(target) => Served::new(reply.permanently_at(&target), Reason::ToHttps),
        Err(fault) => Served::new(reply.refuse(fault.reason, Refusal::default()), fault.reason).detail(fault.detail),
    }
}

fn target<B>(gateway: &Gateway, request: &Request<B>, info: &ConnectionInfo) -> Result<String, Fault> {
    let host = facts::known_host(gateway, request, info)?;
    let path = facts::path_of(gateway, request.uri().path())?;
    let base = gateway.settings.sites.base(&host).ok_or_else(|| Fault::new(Reason::HostUnknown, format!("host {host} has no address")))?;
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{}{}{query}", base.as_str().trim_end_matches('/'), path.as_str()))
}
