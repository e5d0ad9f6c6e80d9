//! From an HTTP request to [`RequestFacts`]: what has more than one reading is refused here.

use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, ORIGIN, UPGRADE};
use http::{Method, Request, Version};

use super::Gateway;
use crate::fault::Fault;
use crate::header::{Whence, names_another, whence};
use crate::reason::Reason;
use crate::request::{Audience, CanonicalPath, Host, PathError, Preflight, RequestFacts, Scheme, Upgrade};
use crate::server::{ConnectionInfo, Entrance};

const REQUEST_METHOD: HeaderName = http::header::ACCESS_CONTROL_REQUEST_METHOD;

/// The facts of a request that was sent to us to be proxied, or to an endpoint of ours.
pub(super) fn of_request<B>(gateway: &Gateway, request: &Request<B>, info: &ConnectionInfo) -> Result<RequestFacts, Fault> {
    let headers = request.headers();
    let host = known_host(gateway, request, info)?;
    one_credential(headers)?;
    let path = path_of(gateway, request.uri().path())?;
    Ok(facts(gateway, request, info, host, path))
}

/// The one host that is asked for, which the config names.
pub(super) fn known_host<B>(gateway: &Gateway, request: &Request<B>, info: &ConnectionInfo) -> Result<Host, Fault> {
    let host = one_host(request, Some(info))?;
    if gateway.settings.sites.knows(&host) {
        return Ok(host);
    }
    let known = gateway.settings.sites.first();
    Err(Fault::new(
        Reason::HostUnknown,
        format!("host {host} is named neither by public_url nor by a route's host (public_url is {known})"),
    ))
}

/// The facts of a front proxy's question to forward-auth. Whatever its `Host` says, it is the forwarded one that counts: front proxies put
/// the gateway's address there.
pub(super) fn of_question<B>(gateway: &Gateway, request: &Request<B>, info: &ConnectionInfo, path: CanonicalPath) -> RequestFacts {
    let sites = &gateway.settings.sites;
    let host = one_host(request, Some(info)).ok().filter(|host| sites.knows(host)).unwrap_or_else(|| sites.first_host().clone());
    facts(gateway, request, info, host, path)
}

fn facts<B>(gateway: &Gateway, request: &Request<B>, info: &ConnectionInfo, host: Host, path: CanonicalPath) -> RequestFacts {
    let headers = request.headers();
    let upgrade = asks_upgrade(headers);
    let Whence { counted, known } = from(gateway, headers, info);
    RequestFacts {
        method: request.method().clone(),
        scheme: outside_scheme(gateway),
        path,
        query: request.uri().query().map(str::to_owned),
        address: counted,
        known_address: known,
        audience: Audience::of(request.method(), headers),
        origin: foreign_origin(gateway, request.method(), upgrade, &host, headers),
        upgrade,
        preflight: preflight(request.method(), headers),
        host,
    }
}

/// The one reading of a path. What lies under the prefix is ours, and no app tells slashes apart there.
pub(super) fn path_of(gateway: &Gateway, raw: &str) -> Result<CanonicalPath, Fault> {
    let ambiguous = |error: PathError| Fault::new(Reason::PathAmbiguous, error.to_string());
    let path = CanonicalPath::read(raw, gateway.settings.slashes).map_err(ambiguous)?;
    let ours = |merged: &CanonicalPath| merged.under(&gateway.settings.prefix).is_some();
    Ok(path.merged().filter(ours).unwrap_or(path))
}

/// Where a request comes from, by whom and what the config believes.
pub(super) fn from(gateway: &Gateway, headers: &HeaderMap, info: &ConnectionInfo) -> Whence {
    whence(info.peer, headers, &gateway.settings.trusted_proxies, &gateway.settings.address_source)
}

/// Tells of a peer that speaks for others without being listed.
pub(super) fn note_unlisted(gateway: &Gateway, headers: &HeaderMap, info: &ConnectionInfo) {
    let settings = &gateway.settings;
    if matches!(info.entrance, Entrance::Outgoing(_)) {
        return;
    }
    if names_another(headers, &settings.address_source) && !settings.trusted_proxies.hold(info.peer) {
        gateway.note_unlisted(info.peer.ip());
    }
}

/// A request shows one credential, or nobody could say which counts.
pub(super) fn one_credential(headers: &HeaderMap) -> Result<(), Fault> {
    match headers.get_all(AUTHORIZATION).iter().nth(1) {
        Some(_) => Err(Fault::new(Reason::AuthorizationRepeated, "two Authorization headers")),
        None => Ok(()),
    }
}

/// One host and one only: `:authority` or `Host`, and if both are there they agree (RFC 9112 §3.2, RFC 9113 §8.3.1).
pub(super) fn one_host<B>(request: &Request<B>, info: Option<&ConnectionInfo>) -> Result<Host, Fault> {
    let malformed = |detail: &str| Fault::new(Reason::HostMalformed, detail);
    let mut lines = request.headers().get_all(HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(malformed("two Host headers"));
    }
    let line = match line {
        Some(line) => {
            let host = match info {
                Some(info) => info.last.host.parse(line),
                None => line.to_str().ok().and_then(Host::parse),
            };
            Some(host.ok_or_else(|| malformed("Host is no host name"))?)
        }
        None => None,
    };
    let authority = match request.uri().authority() {
        Some(authority) => Some(Host::parse(authority.as_str()).ok_or_else(|| malformed("the authority is no host name"))?),
        None => None,
    };
    match (line, authority) {
        (Some(line), Some(authority)) if line != authority => Err(malformed("Host and the request's authority differ")),
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) if request.version() == Version::HTTP_10 => Err(malformed("no Host, which HTTP/1.0 may leave out and we need")),
        (None, None) => Err(malformed("no Host")),
    }
}

/// As configured: what browsers use, whatever stands between them and us.
pub(super) fn outside_scheme(gateway: &Gateway) -> Scheme {
    if gateway.settings.sites.first().scheme() == "https" { Scheme::Https } else { Scheme::Http }
}

/// `Origin` of what another page may have begun and must not: an upgrade, or a request that may change something. None where it is that of the
/// host itself.
pub(super) fn foreign_origin(gateway: &Gateway, method: &Method, upgrade: Upgrade, host: &Host, headers: &HeaderMap) -> Option<String> {
    if upgrade == Upgrade::No && method.is_safe() {
        return None;
    }
    let origin = headers.get(ORIGIN)?.to_str().unwrap_or("unreadable");
    let own = gateway.settings.sites.base(host).map(|base| base.origin().ascii_serialization());
    (own.as_deref() != Some(origin)).then(|| origin.to_owned())
}

fn asks_upgrade(headers: &HeaderMap) -> Upgrade {
    let named = || {
        headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
    };
    if headers.contains_key(UPGRADE) && named() { Upgrade::Asked } else { Upgrade::No }
}

pub(super) fn preflight(method: &Method, headers: &HeaderMap) -> Preflight {
    let asks = method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(REQUEST_METHOD);
    if asks { Preflight::Yes } else { Preflight::No }
}
