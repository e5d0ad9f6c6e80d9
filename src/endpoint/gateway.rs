//! What all endpoints share: made once by `app`, read by every core.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::token::TokenEndpoint;
use super::{ForwardAuthSettings, OutgoingListener};
use crate::authenticate::Authenticator;
use crate::clock::SharedClock;
use crate::fault::Outage;
use crate::header::cookies::{CookieStyle, Kept};
use crate::header::{AddressSource, IdentityFamily, TrustedProxies, UnderscoreNames};
use crate::outbound::Outbound;
use crate::outbound::assertion::Assertions;
use crate::policy::Policy;
use crate::provider::IdentityProvider;
use crate::provider::local::LocalProvider;
use crate::request::{AllowedOrigins, Sites, Slashes};
use crate::respond::Pages;
use crate::route::RouteTable;
use crate::secret::SealRing;
use crate::server::Drain;
use crate::session::{Lifetimes, Session};
use crate::store::LoginBounds;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Open;
use crate::telemetry::otlp::Tracer;
use crate::telemetry::{AccessLines, Ids, Metrics, RequestId, RouteCounts, RouteLatencies, audit};
use crate::upstream::Upstreams;

/// What of the config concerns the edge.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// Our hosts.
    pub sites: Arc<Sites>,
    /// Where people may be sent.
    pub origins: AllowedOrigins,
    /// Where our endpoints lie.
    pub prefix: String,
    /// Paths beside it that answers of providers come back to.
    pub callbacks: Vec<String>,
    /// Names and marks of our cookies.
    pub style: CookieStyle,
    /// Peers whose forwarded headers count.
    pub trusted_proxies: TrustedProxies,
    /// Where they name whom they speak for.
    pub address_source: AddressSource,
    /// What becomes of empty segments in paths.
    pub slashes: Slashes,
    /// How front proxies ask.
    pub forward_auth: ForwardAuthSettings,
    /// What becomes of header names with `_`.
    pub underscore_names: UnderscoreNames,
    /// How long sessions live.
    pub lifetimes: Lifetimes,
    /// For the times that a login says of itself.
    pub leeway: Duration,
    /// How long the browser keeps their cookie.
    pub session_cookie: SessionCookieKept,
    /// How many logins may be under way.
    pub login_bounds: LoginBounds,
    /// Issuers of bearer tokens, in the order of the config.
    pub token_issuers: Vec<String>,
    /// The longest bearer token, in bytes.
    pub token_bytes: usize,
    /// How the access log names people.
    pub log_user: UserInLog,
    /// In which header trusted proxies name the certificate of whom they speak for.
    pub client_certificate_header: Option<HeaderName>,
    /// `Strict-Transport-Security` of every answer to a browser, ready-made.
    pub hsts: Option<HeaderValue>,
    /// The path that answers balancers.
    pub health_path: Option<String>,
}

/// How the access log names people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserInLog {
    /// As upstreams are told.
    Name,
    /// As the issuer names them: `sub`.
    Sub,
    /// Not at all. Security events name their `sub` all the same.
    Nothing,
}

/// How long the browser keeps the session cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionCookieKept {
    /// An hour longer than the session may live.
    Persistent,
    /// Until it closes.
    UntilBrowserCloses,
}

/// How often it is told that a peer is not listed.
const UNLISTED_TOLD_EVERY: Duration = Duration::from_secs(10 * 60);

/// Shared by all cores. A reload makes a new one; a request keeps the one that it began with.
pub struct Gateway {
    /// What of the config concerns the edge.
    pub settings: EdgeSettings,
    /// The routes.
    pub routes: RouteTable,
    /// Named policies.
    pub policies: BTreeMap<String, Arc<Policy>>,
    /// Headers that only we may set.
    pub family: IdentityFamily,
    /// For people.
    pub pages: Pages,
    /// Asks the store and the token issuers.
    pub authenticator: Authenticator,
    /// Where people sign in, in file order.
    pub providers: Vec<Arc<dyn IdentityProvider>>,
    /// The one of them that is ours: whoever signs in on a form here. Last of `providers`.
    pub local: Option<Arc<LocalProvider>>,
    /// Tokens for upstreams, by [`crate::route::OutboundId`].
    pub outbound: Vec<Arc<Outbound>>,
    /// Listeners for calls that leave.
    pub outgoing: Vec<OutgoingListener>,
    /// Signs who somebody is, for the routes that send it; `None`: there are none.
    pub assertions: Option<Assertions>,
    /// Where apps without a browser sign in; `None`: nowhere.
    pub token: Option<TokenEndpoint>,
    /// Seals what we hand out ourselves.
    pub ring: Arc<SealRing>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Requests by route, then by listener for calls that leave.
    pub counts: RouteCounts,
    /// Counts this as in use for as long as anything runs on it.
    pub in_use: Open,
    /// Whether we are ending.
    pub drain: Drain,
    /// Where the latencies of its routes are counted.
    pub latencies: RouteLatencies,
    /// Takes spans; `None`: no traces are recorded.
    pub tracer: Option<Arc<Tracer>>,
    /// Runs what must not be dropped with a request.
    pub tasks: Tasks,
    /// The time.
    pub clock: SharedClock,
    /// When an outage was last told, in seconds: under load it is met a thousand times a second.
    pub outage_told: AtomicU64,
    /// When it was last told that forwarded headers came from somebody who is not listed.
    pub unlisted_told: AtomicU64,
}

/// One core's own.
pub struct Core {
    /// What it shares with the others.
    pub gateway: Arc<Gateway>,
    /// Headers that only we may set, at hand for bodies whose trailers are looked through.
    pub family: Rc<IdentityFamily>,
    /// Its connections to upstreams.
    pub upstreams: Rc<Upstreams>,
    /// Where its access lines go.
    pub lines: Rc<AccessLines>,
    /// The routes' ids, for those lines.
    pub route_names: Rc<Vec<String>>,
    /// Where its ids come from.
    pub ids: Ids,
}

impl Gateway {
    /// The provider of this id.
    #[must_use]
    pub fn provider(&self, id: &str) -> Option<&Arc<dyn IdentityProvider>> {
        self.providers.iter().find(|provider| provider.id() == id)
    }

    /// The providers of this issuer: usually one, several where we are registered there more than once.
    pub fn providers_of(&self, issuer: &str) -> impl Iterator<Item = &Arc<dyn IdentityProvider>> {
        let registrations = &self.authenticator.registrations;
        let of_it = move |provider: &&Arc<dyn IdentityProvider>| {
            registrations.get(provider.id()).is_some_and(|registration| registration.issuer.is(issuer))
        };
        self.providers.iter().filter(of_it)
    }

    /// Counts an outage, and tells of it at most once a second.
    pub fn note_outage(&self, request_id: &RequestId, outage: &Outage) {
        self.metrics.dependency_error(outage.dependency);
        let now = self.clock.now().0;
        if self.outage_told.swap(now, Ordering::Relaxed) != now {
            audit::outage(Some(request_id), outage);
        }
    }

    /// Counts a request whose sender says that it speaks for others and is not in `trusted_proxies`, and tells of it now and then: most often a
    /// proxy that was forgotten there, and then everybody behind it counts as one.
    pub fn note_unlisted(&self, peer: IpAddr) {
        self.metrics.forwarded_by_unlisted();
        let now = self.clock.now().0;
        let told = self.unlisted_told.load(Ordering::Relaxed);
        let due = now >= told.saturating_add(UNLISTED_TOLD_EVERY.as_secs());
        if due && self.unlisted_told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(%peer, "forwarded headers came from a peer that trusted_proxies does not list, and were not read");
        }
    }

    /// How long the browser keeps this session's cookie.
    #[must_use]
    pub fn kept(&self, session: &Session) -> Kept {
        match self.settings.session_cookie {
            SessionCookieKept::UntilBrowserCloses => Kept::UntilBrowserCloses,
            SessionCookieKept::Persistent => Kept::For(session.ends_at.since(self.clock.now()) + Duration::from_secs(60 * 60)),
        }
    }

    /// Origins that a sign-out form may lead to: all providers, since the session may be of any.
    #[must_use]
    pub fn form_origins(&self) -> Vec<String> {
        let mut origins: Vec<String> = self.providers.iter().flat_map(|provider| provider.origins()).collect();
        origins.sort();
        origins.dedup();
        origins
    }

    /// Whether a request comes from a page of our own origin: by `Sec-Fetch-Site`, else by `Origin`. A page of ours posts with
    /// `Origin: null`, since it sends no referrer, so the former has the say.
    #[must_use]
    pub fn from_own_page(&self, headers: &HeaderMap) -> Origin {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        match (text("sec-fetch-site"), text("origin")) {
            (Some("same-origin"), _) => Origin::Own,
            // Typed, or from a bookmark: nobody else's page.
            (Some("none"), None) => Origin::Own,
            (Some(_), _) => Origin::Foreign,
            (None, Some(origin)) => {
                let own = url::Url::parse(origin).is_ok_and(|url| self.settings.sites.own(&url));
                if own { Origin::Own } else { Origin::Foreign }
            }
            (None, None) => Origin::Unknown,
        }
    }
}

/// Whose page sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Ours.
    Own,
    /// Somebody else's.
    Foreign,
    /// The browser does not say.
    Unknown,
}
