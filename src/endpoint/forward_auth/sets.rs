//! The sets of headers in which front proxies name the request that they ask about. Exactly one is read; the others may as well come from
//! the browser.

use http::header::{HeaderMap, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Method, Request};

use super::question::Question;
use crate::endpoint::Visit;
use crate::endpoint::facts::{foreign_origin, from, one_host, outside_scheme, path_of, preflight};
use crate::fault::Fault;
use crate::reason::Reason;
use crate::request::{Audience, Host, RequestFacts, Upgrade};
use crate::server::ConnectionInfo;

/// `[forward_auth]`, as the two endpoints need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardAuthSettings {
    /// The set that is read.
    pub set: ForwardedSet,
    /// What becomes of rules in the query.
    pub inline_rules: InlineRules,
}

/// What becomes of `allowed_groups`, `allowed_emails` and `allowed_email_domains` in the query of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InlineRules {
    /// 403.
    Refused,
    /// They have to hold too (`forward_auth.narrow`).
    Narrow,
}

/// One set: who sends it, and in which headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedSet {
    /// What our nginx snippet sets.
    Nginx,
    /// Caddy's `forward_auth`.
    Caddy,
    /// Traefik's `forwardAuth`: the same names.
    Traefik,
    /// Envoy's `ext_authz` by HTTP: no headers at all, but the request itself without its body, with its path behind `forward`.
    Envoy,
    /// The community's ingress-nginx: the whole URL in one header. Its scheme is not read: behind a balancer that ends TLS it is `http`.
    IngressNginx,
    /// What oauth2-proxy's nginx snippets set: path and `Host`, and no method.
    OauthProxy,
}

/// Stands for a method that nobody has named: it is no method of a route, not safe, and no proof of possession is for it.
const UNKNOWN_METHOD: &str = "UNKNOWN";

const HOST: &str = "x-forwarded-host";
const PROTO: &str = "x-forwarded-proto";

impl ForwardedSet {
    /// All of them, each by its word in the config.
    pub const ALL: [(&'static str, Self); 6] = [
        ("nginx", Self::Nginx),
        ("caddy", Self::Caddy),
        ("traefik", Self::Traefik),
        ("envoy", Self::Envoy),
        ("ingress-nginx", Self::IngressNginx),
        ("oauth2-proxy", Self::OauthProxy),
    ];

    /// Its word in the config.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, set)| *set == self).map_or("", |(word, _)| word)
    }

    /// The headers that are read, in lower case. Where none of them names the host it is `Host` itself.
    #[must_use]
    pub const fn headers(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => &["x-original-method", "x-original-uri", HOST, PROTO],
            Self::Caddy | Self::Traefik => &["x-forwarded-method", "x-forwarded-uri", HOST, PROTO],
            Self::Envoy => &[],
            Self::IngressNginx => &["x-original-method", "x-original-url"],
            Self::OauthProxy => &["x-forwarded-uri"],
        }
    }

    /// Whether it says which method the request has.
    #[must_use]
    pub const fn names_method(self) -> bool {
        !matches!(self, Self::OauthProxy)
    }
}

/// What a question is about, before it is judged.
struct Subject {
    method: Method,
    host: Host,
    /// Path and query.
    target: String,
}

/// The facts of the request that the front proxy asks about: from exactly one set of headers, from a listed peer, each header once.
pub(super) fn facts<B>(visit: &Visit<'_>, request: &Request<B>, info: &ConnectionInfo, question: &Question) -> Result<RequestFacts, Fault> {
    let (gateway, headers) = (visit.gateway, request.headers());
    let settings = &gateway.settings;
    if !settings.trusted_proxies.hold(info.peer) {
        return Err(Fault::new(Reason::PeerNotTrusted, format!("{} is not in trusted_proxies", info.peer)));
    }
    let Subject { method, host, target } = subject(settings.forward_auth.set, request, question)?;
    if method == Method::TRACE {
        return Err(Fault::new(Reason::MethodNotAllowed, "the answer to TRACE would tell its sender what the front proxy adds"));
    }
    if !settings.sites.knows(&host) {
        let known = settings.sites.first();
        return Err(Fault::new(Reason::HostUnknown, format!("forwarded host {host} is not in the config (public_url is {known})")));
    }
    if target.contains('#') {
        return Err(ambiguous("the forwarded URI", "holds a #"));
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target.as_str(), None),
    };
    let path = path_of(gateway, path)?;
    let from = from(gateway, headers, info);
    // The front proxy keeps `Upgrade` for itself and passes the other headers of a WebSocket's handshake on.
    let upgrade = if headers.contains_key(UPGRADE) || headers.contains_key(SEC_WEBSOCKET_VERSION) { Upgrade::Asked } else { Upgrade::No };
    // Whether a person or a program asks is seen in its headers; only a method that is known speaks against it.
    let shown = if settings.forward_auth.set.names_method() { &method } else { &Method::GET };
    Ok(RequestFacts {
        audience: Audience::of(shown, headers),
        preflight: preflight(&method, headers),
        origin: foreign_origin(gateway, &method, upgrade, &host, headers),
        method,
        scheme: outside_scheme(gateway),
        path,
        query,
        address: from.counted,
        known_address: from.known,
        upgrade,
        host,
    })
}

fn subject<B>(set: ForwardedSet, request: &Request<B>, question: &Question) -> Result<Subject, Fault> {
    let headers = request.headers();
    let one = |name| one(set, headers, name);
    let own_host = || one_host(request, None).map_err(|fault| Fault::new(Reason::ForwardedAmbiguous, fault.detail));
    match set {
        ForwardedSet::Nginx | ForwardedSet::Caddy | ForwardedSet::Traefik => {
            let (method, uri) = if set == ForwardedSet::Nginx {
                ("x-original-method", "x-original-uri")
            } else {
                ("x-forwarded-method", "x-forwarded-uri")
            };
            let method = method_in(method, one(method)?)?;
            let host = host_in(HOST, one(HOST)?)?;
            if !matches!(one(PROTO)?, "http" | "https" | "ws" | "wss") {
                return Err(ambiguous(PROTO, "is neither http nor https"));
            }
            Ok(Subject { method, host, target: one(uri)?.to_owned() })
        }
        ForwardedSet::Envoy => {
            let Some(appended) = &question.appended else {
                return Err(missing(set, headers, "the path behind forward"));
            };
            let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
            Ok(Subject { method: request.method().clone(), host: own_host()?, target: format!("{appended}{query}") })
        }
        ForwardedSet::IngressNginx => {
            let method = method_in("x-original-method", one("x-original-method")?)?;
            let (host, target) = of_url(one("x-original-url")?)?;
            Ok(Subject { method, host, target })
        }
        ForwardedSet::OauthProxy => {
            let target = one("x-forwarded-uri")?.to_owned();
            let method = Method::from_bytes(UNKNOWN_METHOD.as_bytes()).map_err(|_| ambiguous("the method", "is none"))?;
            Ok(Subject { method, host: own_host()?, target })
        }
    }
}

/// Host and target of `scheme://host/path?query`, split at the first bytes that can: the path stays as it came.
fn of_url(url: &str) -> Result<(Host, String), Fault> {
    const URL: &str = "x-original-url";
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let rest = rest.ok_or_else(|| ambiguous(URL, "is neither http nor https"))?;
    let (authority, _) = rest.split_once('/').ok_or_else(|| ambiguous(URL, "has no path"))?;
    let host = host_in(URL, authority)?;
    Ok((host, rest.strip_prefix(authority).unwrap_or_default().to_owned()))
}

fn method_in(name: &str, text: &str) -> Result<Method, Fault> {
    Method::from_bytes(text.as_bytes()).map_err(|_| ambiguous(name, "is no method"))
}

fn host_in(name: &str, text: &str) -> Result<Host, Fault> {
    Host::parse(text).ok_or_else(|| ambiguous(name, "names no host"))
}

fn ambiguous(name: &str, what: &str) -> Fault {
    Fault::new(Reason::ForwardedAmbiguous, format!("{name} {what}"))
}

fn one<'a>(set: ForwardedSet, headers: &'a HeaderMap, name: &str) -> Result<&'a str, Fault> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next().ok_or_else(|| missing(set, headers, name))?;
    if lines.next().is_some() {
        return Err(ambiguous(name, "is there twice"));
    }
    line.to_str().map_err(|_| ambiguous(name, "is no text"))
}

/// For whoever sets a front proxy up: what came, and which set that would be.
fn missing(set: ForwardedSet, headers: &HeaderMap, name: &str) -> Fault {
    let all = ForwardedSet::ALL.map(|(_, set)| set);
    let mut known: Vec<&str> = all.iter().flat_map(|set| set.headers()).copied().filter(|name| headers.contains_key(*name)).collect();
    known.sort_unstable();
    known.dedup();
    let came = if known.is_empty() { "none of the kind".to_owned() } else { known.join(", ") };
    let whole = |other: &&ForwardedSet| {
        **other != set && !other.headers().is_empty() && other.headers().iter().all(|name| headers.contains_key(*name))
    };
    let fits = all.iter().find(whole).map(|other| format!("; that fits forward_auth.headers = {:?}", other.word()));
    let detail = format!("{name} is missing, which {:?} sets; came: {came}{}", set.word(), fits.unwrap_or_default());
    Fault::new(Reason::ForwardedMissing, detail)
}

#[cfg(test)]
mod tests;
