//! What concerns the whole gateway: hosts, listeners, limits, pages, logs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use url::Url;

use super::admin::{self, Admin};
use super::certificates::{self, ClientCertificates};
use super::forward_auth;
use super::limits::{self, Limits};
use super::listeners::{self, Listeners};
use super::pages::{self, Pages};
use super::plain_http::PlainHttp;
use super::reader::Section;
use super::{serving, tls};
use crate::endpoint::ForwardAuthSettings;
use crate::header::cookies::Secure;
use crate::header::{AddressSource, TrustedProxies, UnderscoreNames};
use crate::request::{AllowedOrigins, Sites, Slashes};
use crate::route::HostPattern;
use crate::server::TlsSettings;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// What concerns the whole gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Our hosts, as seen from outside.
    pub sites: Arc<Sites>,
    /// Where people may be sent after login.
    pub origins: AllowedOrigins,
    /// Where we listen.
    pub listeners: Listeners,
    /// Certificates and keys, when we end TLS ourselves.
    pub tls: Option<TlsSettings>,
    /// `Strict-Transport-Security` of every answer to a browser.
    pub hsts: Option<HeaderValue>,
    /// The path that answers balancers.
    pub health_path: Option<String>,
    /// Where our endpoints lie.
    pub prefix: String,
    /// Whether cookies are for https alone.
    pub secure: Secure,
    /// `Domain` of cookies, when hosts share a session.
    pub cookie_domain: Option<String>,
    /// Tells two gateways under one domain apart.
    pub cookie_suffix: String,
    /// Peers whose forwarded headers count.
    pub trusted_proxies: TrustedProxies,
    /// `client_address`.
    pub address_source: AddressSource,
    /// How front proxies ask.
    pub forward_auth: ForwardAuthSettings,
    /// What becomes of header names with `_`.
    pub underscore_names: UnderscoreNames,
    /// `merge_slashes`.
    pub slashes: Slashes,
    /// For `exp`, `nbf` and `iat`.
    pub leeway: Duration,
    /// The admin listener.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
    /// How pages look.
    pub pages: Pages,
    /// Bounds on what strangers and upstreams may do.
    pub limits: Limits,
    /// How the gateway ends.
    pub drain: Drain,
    /// How certificates of those who connect count.
    pub client_certificates: ClientCertificates,
    /// Who is asked for the names of upstreams; none: as `/etc/resolv.conf` says.
    pub dns_servers: Vec<SocketAddr>,
    public: Vec<Url>,
    redirect_origins: Vec<Url>,
}

/// Logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Of events.
    pub level: tracing::Level,
    /// Of events and access lines.
    pub format: LogFormat,
    /// How access lines name people.
    pub user: LogUser,
}

/// How access lines name people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogUser {
    /// As upstreams are told.
    Name,
    /// By the issuer's `sub`.
    Sub,
    /// Not at all.
    Nothing,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// How the gateway ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Listeners stay open this long after readiness turned.
    pub delay: Duration,
    /// Connections may go on this long after that.
    pub deadline: Duration,
}

pub(super) fn read(root: &Section<'_>, plain: PlainHttp) -> Option<Gateway> {
    let public = read_public_urls(root, plain);
    let redirect_origins = root.parsed_list("redirect_origins", parse_origin).unwrap_or_default();
    let listeners = listeners::read(root);
    let cookie_domain = root.parsed("cookie_domain", |text| match HostPattern::parse(text.trim_start_matches('.')) {
        Ok(HostPattern::Exact(name)) if name.contains('.') => Ok(name),
        _ => Err(format!("expected a domain such as \"example.com\"; found {text:?}")),
    });
    if let (Some(domain), Some(public)) = (&cookie_domain, &public) {
        let under = |url: &Url| url.host_str().is_some_and(|host| host == domain || host.ends_with(&format!(".{domain}")));
        if !public.first().is_some_and(under) {
            root.problem("cookie_domain", "expected a domain that holds the first public_url: people sign in there");
        }
    }
    let tls = tls::read(root);
    let origin = public.as_ref().and_then(|public| public.first()).map(|url| url.origin().ascii_serialization());
    let client_certificates = certificates::read(root, &origin.unwrap_or_default());
    let admin = admin::read(root);
    let log = read_log(root);
    let pages = pages::read(root);
    let limits = limits::read(root);
    let drain = read_drain(root);
    let forward_auth = forward_auth::read(root);
    let trusted = root.parsed_list("trusted_proxies", listeners::parse_trusted);
    let prefix = root.parsed("prefix", parse_prefix).unwrap_or_else(|| "/oauth2".to_owned());
    let suffix = root.parsed("cookie_suffix", |text| {
        let sound = text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if sound {
            Ok(text.to_owned())
        } else {
            Err(format!("expected at most 32 letters, digits and -, such as \"-staging\"; found {text:?}"))
        }
    });
    let underscore_names =
        root.choice("underscore_names", UnderscoreNames::Drop, &[("drop", UnderscoreNames::Drop), ("pass", UnderscoreNames::Pass)]);
    let leeway = root.duration("leeway", MINUTE, Duration::ZERO..=5 * MINUTE);
    if leeway > MINUTE {
        root.warning(
            "leeway",
            "is more than a minute: tokens count for so long after their end; let clocks be set by NTP, and leave it out",
        );
    }
    let health_path = serving::read_health_path(root, &prefix);
    let secure = public.as_ref().and_then(|public| public.first()).is_none_or(|url| url.scheme() == "https");
    let secure = if secure { Secure::Yes } else { Secure::No };
    let hsts = serving::read_hsts(root, secure);
    let public = public?;
    let sites = Arc::new(Sites::new(public.clone(), &[], &[], cookie_domain.clone())?);
    Some(Gateway {
        origins: AllowedOrigins::new(Arc::clone(&sites), &redirect_origins),
        sites,
        listeners,
        tls,
        hsts,
        health_path,
        prefix,
        secure,
        cookie_domain,
        cookie_suffix: suffix.unwrap_or_default(),
        address_source: super::route_client::read_source(root),
        trusted_proxies: TrustedProxies(trusted.unwrap_or_default()),
        forward_auth,
        slashes: if root.flag("merge_slashes", true) { Slashes::Merged } else { Slashes::Kept },
        underscore_names,
        leeway,
        admin,
        log,
        pages,
        limits,
        drain,
        client_certificates,
        dns_servers: super::route_group::read_dns_servers(root),
        public,
        redirect_origins,
    })
}

impl Gateway {
    /// Whether certificates of those who connect can be seen at all.
    #[must_use]
    pub fn sees_certificates(&self) -> bool {
        self.client_certificates.header.is_some() || self.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some())
    }

    /// Those of `public_url`.
    pub(super) fn public_urls(&self) -> &[Url] {
        &self.public
    }

    /// Adds the hosts that routes name to those of `public_url`.
    pub(super) fn with_hosts<'a>(mut self, hosts: impl Iterator<Item = &'a HostPattern>, root: &Section<'_>) -> Option<Self> {
        let mut exact = Vec::new();
        let mut wildcards = Vec::new();
        for host in hosts {
            match host {
                HostPattern::Any => {}
                HostPattern::Exact(name) => exact.push(name.clone()),
                HostPattern::Wildcard(suffix) => wildcards.push(suffix.clone()),
            }
        }
        let Some(sites) = Sites::new(self.public.clone(), &exact, &wildcards, self.cookie_domain.clone()) else {
            root.problem("public_url", "cannot be joined with the hosts of the routes");
            return None;
        };
        self.sites = Arc::new(sites);
        self.origins = AllowedOrigins::new(Arc::clone(&self.sites), &self.redirect_origins);
        Some(self)
    }
}

fn read_public_urls(root: &Section<'_>, plain: PlainHttp) -> Option<Vec<Url>> {
    if !root.has("public_url") {
        root.problem("public_url", "is missing: the address under which browsers reach the gateway, such as \"https://app.example.com\"");
        return None;
    }
    let urls = root.parsed_list("public_url", parse_origin)?;
    for url in &urls {
        if plain.refuses(url) {
            root.problem(
                "public_url",
                format!(
                    "{url} is plain http off this machine: cookies and codes would be readable; use https, or write insecure_http = true"
                ),
            );
        }
    }
    if urls.iter().any(|url| Some(url.scheme()) != urls.first().map(Url::scheme)) {
        root.problem("public_url", "mixes http and https; expected one scheme for all");
    }
    Some(urls)
}

/// Whether a URL's host is this machine itself.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn parse_origin(text: &str) -> Result<Url, String> {
    let wrong = || format!("expected scheme, host and port only, such as \"https://app.example.com\"; found {text:?}");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let sound = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if sound { Ok(url) } else { Err(wrong()) }
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let path = crate::route::PathPattern::prefix(text).map_err(|error| error.to_string())?;
    match path {
        crate::route::PathPattern::Prefix(prefix) if !prefix.is_empty() => Ok(prefix),
        _ => Err("expected a path such as \"/oauth2\"; \"/\" would leave nothing to the app".to_owned()),
    }
}

fn read_log(root: &Section<'_>) -> Log {
    use tracing::Level;
    let section = root.section("log");
    let levels = [("error", Level::ERROR), ("warn", Level::WARN), ("info", Level::INFO), ("debug", Level::DEBUG), ("trace", Level::TRACE)];
    let level = section.choice("level", Level::INFO, &levels);
    let format = section.choice("format", LogFormat::Text, &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let user = section.choice("user", LogUser::Name, &[("name", LogUser::Name), ("sub", LogUser::Sub), ("none", LogUser::Nothing)]);
    section.finish();
    Log { level, format, user }
}

fn read_drain(root: &Section<'_>) -> Drain {
    let section = root.section("drain");
    let delay = section.duration("delay", 5 * SECOND, Duration::ZERO..=HOUR);
    let deadline = section.duration("deadline", 30 * SECOND, Duration::ZERO..=HOUR);
    section.finish();
    Drain { delay, deadline }
}
