//! What the endpoints share, and what serves one core.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::AUTHORIZATION;

use super::providers::People;
use super::stores::Opened;
use super::token;
use super::{Answering, StartError, never_told};
use crate::authenticate::{Authenticator, CertificateMeans, Certificates, Registration, RenewalSettings, Renewals};
use crate::clock::SharedClock;
use crate::config::{Config, Limits, ResponseMode, SessionCookieKept};
use crate::endpoint::{self, Body, Core, EdgeSettings, Gateway, OutgoingListener};
use crate::header::cookies::{CookieStyle, SameSite};
use crate::header::{AddressSource, IdentityFamily};
use crate::outbound::Outbound;
use crate::outbound::assertion::Assertions;
use crate::provider::IdentityProvider;
use crate::provider::discovery::Discovery;
use crate::provider::local::LOCAL;
use crate::reason::Reason;
use crate::request::Audience;
use crate::respond::{Look, Pages, Refusal, Reply};
use crate::secret::{SealRing, SecretSource};
use crate::server::admin::{Check, Checks, Needed};
use crate::server::{AdminSessions, ConnectionInfo, ConnectionLimits, CoreService, Drain, RequestBody};
use crate::store::{LoginBounds, SessionStore, Sessions};
use crate::tasks::Tasks;
use crate::telemetry::{AccessLines, Ids, Metrics};
use crate::token::Issuer;
use crate::upstream::{Tunnels, Upstream, UpstreamAddress, UpstreamSettings, UpstreamTls, Upstreams};
use crate::verify::Verifiers;
use crate::verify::dpop::DpopVerifier;

/// What was opened and made before.
pub(super) struct Parts {
    pub(super) store: Opened,
    pub(super) assertions: Option<Assertions>,
    pub(super) ring: Arc<SealRing>,
    pub(super) people: People,
    pub(super) verifiers: Verifiers,
    pub(super) outbound: Vec<Outbound>,
    pub(super) drain: Drain,
}

pub(super) fn gateway(
    config: Config,
    parts: Parts,
    clock: &SharedClock,
    tasks: &Tasks,
    metrics: &Arc<Metrics>,
) -> Result<Gateway, StartError> {
    let Parts { store, assertions, ring, people, verifiers, outbound, drain } = parts;
    let lifetimes = config.session.lifetimes;
    let sessions = Arc::new(Sessions::new(store.store, store.cache, Arc::clone(&ring), Arc::clone(clock), lifetimes, tasks.clone()));
    sessions.watch();
    let local = super::providers::of_our_own(&config, &sessions, clock, tasks)?;
    let passwords = super::providers::of_passwords(&config, local.as_ref(), clock, tasks);
    let api_keys = super::providers::of_keys(&config, &sessions, clock, tasks)?;
    let parts =
        token::Parts { config: &config, providers: &people.providers, local: local.as_ref(), sessions: &sessions, clock, tasks, metrics };
    let token = parts.endpoint();
    let mut providers: Vec<_> = people.providers.into_iter().map(|provider| provider as Arc<dyn IdentityProvider>).collect();
    providers.extend(local.iter().map(|local| Arc::clone(local) as Arc<dyn IdentityProvider>));
    let settings_of_renewals = RenewalSettings { revalidate: config.session.revalidate, token_end: lifetimes.token_end };
    let certificates = certificates(&config.gateway, clock);
    let (sites, leeway) = (Arc::clone(&config.gateway.sites), config.gateway.leeway);
    let dpop = DpopVerifier::new(Arc::clone(&sessions), Arc::clone(&ring), sites, Arc::clone(clock), leeway);
    let renewals = Renewals::new(
        Arc::clone(&sessions),
        providers.iter().cloned().chain(token::sources(&config)).collect(),
        settings_of_renewals,
        tasks.clone(),
        Arc::clone(clock),
        Arc::clone(metrics),
    );
    renewals.watch_streams();
    let registered =
        |provider: &crate::config::Provider| Registration { issuer: provider.issuers.clone(), client_id: provider.client_id.clone() };
    let ours = config.users.iter().map(|users| {
        // `client_id` says here which accounts of ours: there is one kind.
        (LOCAL.to_owned(), Registration { issuer: Issuer::One(users.issuer.clone()), client_id: LOCAL.to_owned() })
    });
    let registrations = config.providers.iter().map(|provider| (provider.id.clone(), registered(provider))).chain(ours);
    let registrations = registrations.chain(token::registrations(&config)).collect();
    let session_tokens = token::session_tokens(&config);
    super::email_lists::watch(&config.routes, tasks, metrics);
    let routes = config.routes.table.clone();
    let named = routes.routes().iter().flat_map(|route| route.headers.iter().map(|rule| &rule.name));
    // `Authorization` is also what apps read of the downstream where no token is added.
    let added = config.outbound.iter().map(|outbound| &outbound.header);
    let address = match &config.gateway.address_source {
        AddressSource::Single(name) => Some(name),
        AddressSource::XForwardedFor | AddressSource::Forwarded => None,
    };
    let told = config.gateway.client_certificates.header.iter().chain(address);
    let family = IdentityFamily::new(named.chain(added).filter(|name| **name != AUTHORIZATION).chain(told));
    let look = &config.gateway.pages;
    let look = Look {
        title: look.title.clone(),
        logo: look.logo.clone(),
        accent: look.accent.clone(),
        notice: look.notice.clone(),
        help_url: look.help_url.clone(),
    };
    Ok(Gateway {
        settings: settings(&config),
        routes,
        policies: config.routes.policies,
        family,
        pages: Pages::new(&look).map_err(StartError::new)?,
        authenticator: Authenticator {
            sessions,
            renewals,
            verifiers,
            session_tokens,
            dpop,
            certificates,
            registrations,
            passwords,
            api_keys,
        },
        providers,
        local,
        outbound,
        outgoing: config.outgoing.iter().map(outgoing).collect(),
        assertions,
        token,
        ring,
        metrics: Arc::clone(metrics),
        drain,
        tasks: tasks.clone(),
        clock: Arc::clone(clock),
        outage_told: never_told(),
        unlisted_told: never_told(),
    })
}

fn outgoing(listener: &crate::config::Outgoing) -> OutgoingListener {
    OutgoingListener { hosts: listener.hosts.clone(), outbound: listener.outbound }
}

fn settings(config: &Config) -> EdgeSettings {
    let gateway = &config.gateway;
    let posts = config.providers.iter().any(|provider| provider.response_mode == ResponseMode::FormPost);
    // A form that the provider's page posts here brings only cookies that may come from other sites.
    let same_site = if posts { SameSite::None } else { SameSite::Lax };
    EdgeSettings {
        sites: Arc::clone(&gateway.sites),
        origins: gateway.origins.clone(),
        prefix: gateway.prefix.clone(),
        callbacks: config.providers.iter().filter_map(|provider| provider.callback.clone()).collect(),
        style: CookieStyle::new(gateway.secure, gateway.cookie_domain.clone(), &gateway.cookie_suffix, same_site),
        trusted_proxies: gateway.trusted_proxies.clone(),
        address_source: gateway.address_source.clone(),
        slashes: gateway.slashes,
        forward_auth: gateway.forward_auth,
        underscore_names: gateway.underscore_names,
        lifetimes: config.session.lifetimes,
        leeway: gateway.leeway,
        session_cookie: match config.session.cookie {
            SessionCookieKept::Persistent => endpoint::SessionCookieKept::Persistent,
            SessionCookieKept::UntilBrowserCloses => endpoint::SessionCookieKept::UntilBrowserCloses,
        },
        login_bounds: LoginBounds { per_address: gateway.limits.pending_logins_per_address, total: gateway.limits.pending_logins },
        token_issuers: config.token_issuers.iter().map(|issuer| issuer.issuer.clone()).collect(),
        token_bytes: gateway.limits.token_bytes,
        client_certificate_header: gateway.client_certificates.header.clone(),
        hsts: gateway.hsts.clone(),
        health_path: gateway.health_path.clone(),
    }
}

fn certificates(gateway: &crate::config::Gateway, clock: &SharedClock) -> Certificates {
    let own = &gateway.client_certificates;
    Certificates {
        issuer: own.issuer.clone(),
        name: own.name,
        means: if gateway.sees_certificates() { CertificateMeans::There } else { CertificateMeans::Absent },
        clock: Arc::clone(clock),
    }
}

pub(super) const fn connection_limits(limits: &Limits) -> ConnectionLimits {
    ConnectionLimits {
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
        write_timeout: limits.write_timeout,
        body_timeout: limits.body_timeout,
        tls_handshake_timeout: limits.tls_handshake_timeout,
        max_header_bytes: limits.header_bytes,
        max_headers: limits.headers,
        max_streams: limits.streams,
        max_connections: limits.connections,
    }
}

pub(super) const fn upstream_settings(config: &Config) -> UpstreamSettings {
    let limits = &config.gateway.limits;
    UpstreamSettings {
        connect_timeout: limits.upstream_connect_timeout,
        response_timeout: Some(limits.upstream_timeout),
        idle_timeout: limits.upstream_idle_timeout,
        max_idle_per_core: limits.upstream_idle_connections,
        max_header_bytes: 64 * 1024,
        max_headers: 100,
    }
}

/// The upstreams with whom each trusts. The system's roots are read only when an upstream speaks https.
pub(super) fn upstreams(config: &Config) -> Result<Vec<Upstream>, StartError> {
    config
        .routes
        .upstreams
        .iter()
        .map(|upstream| {
            let tls = match &upstream.address {
                UpstreamAddress::Https { .. } => {
                    let config = upstream.tls.client_config();
                    let config = config.map_err(|error| StartError::new(format!("upstream {}: {error}", upstream.address)))?;
                    Some(UpstreamTls { config: Arc::new(config), server_name: upstream.tls.server_name.clone() })
                }
                _ => None,
            };
            Ok(Upstream { address: upstream.address.clone(), tls })
        })
        .collect()
}

/// How the dependencies are, for `/readyz`.
pub(super) fn checks(parts: &Parts, ready_needs_store: bool) -> Checks {
    let store = Arc::clone(&parts.store.store);
    let documents = parts.people.documents.clone();
    let needed = if ready_needs_store { Needed::ForReadiness } else { Needed::ForInformation };
    Arc::new(move || {
        let (store, documents) = (Arc::clone(&store), documents.clone());
        Box::pin(async move {
            let mut checks = vec![store_check(&store, needed).await];
            checks.extend(documents.iter().map(|(id, discovery)| provider_check(id, discovery)));
            checks
        })
    })
}

async fn store_check(store: &Arc<dyn SessionStore>, needed: Needed) -> Check {
    let problem = match tokio::time::timeout(Duration::from_secs(2), store.ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(outage)) => Some(outage.to_string()),
        Err(_) => Some("no answer in time".to_owned()),
    };
    Check { name: "store".to_owned(), problem, needed }
}

/// What is known of it; a probe does not ask the provider.
fn provider_check(id: &str, discovery: &Discovery) -> Check {
    Check { name: format!("provider {id}"), problem: discovery.problem(), needed: Needed::ForInformation }
}

/// The list of sessions on the admin listener.
pub(super) fn admin_sessions(gateway: &Gateway, token: Option<SecretSource>) -> Arc<AdminSessions> {
    let registrations = gateway.authenticator.registrations.iter();
    Arc::new(AdminSessions {
        sessions: Arc::clone(&gateway.authenticator.sessions),
        token,
        providers: registrations
            .flat_map(|(id, registration)| registration.issuer.all().into_iter().map(|iss| (iss, id.clone())))
            .collect(),
        tasks: gateway.tasks.clone(),
        metrics: Arc::clone(&gateway.metrics),
    })
}

/// Makes what serves one core.
#[derive(Clone)]
pub(super) struct CoreMaker {
    pub(super) gateway: Arc<Gateway>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) upstream_settings: UpstreamSettings,
    pub(super) lines: Arc<Mutex<Vec<AccessLines>>>,
    pub(super) route_names: Vec<String>,
    pub(super) clock: SharedClock,
}

type Serve = Box<dyn Fn(http::Request<RequestBody>, Rc<ConnectionInfo>) -> Answering>;
type OnPanic = Box<dyn Fn(&ConnectionInfo) -> http::Response<Body>>;

impl CoreMaker {
    /// To be called on the core's own thread.
    #[expect(clippy::expect_used, reason = "every https upstream was given its TLS config, and every core has its lines")]
    pub(super) fn service(&self, tunnels: Tunnels) -> CoreService<Serve, OnPanic> {
        let settings = self.upstream_settings.clone();
        let upstreams = Upstreams::new(self.upstreams.clone(), settings, tunnels, Arc::clone(&self.clock)).expect("TLS was given");
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).pop().expect("one for each core");
        let core = Rc::new(Core {
            gateway: Arc::clone(&self.gateway),
            family: Rc::new(self.gateway.family.clone()),
            upstreams: Rc::new(upstreams),
            lines: Rc::new(lines),
            route_names: Rc::new(self.route_names.clone()),
            ids: Ids::new(),
        });
        let gateway = Arc::clone(&self.gateway);
        CoreService {
            serve: Box::new(move |request, info| {
                let core = Rc::clone(&core);
                Box::pin(async move { endpoint::answer(&core, request, &info).await })
            }),
            on_panic: Box::new(move |_| {
                let reply = Reply { audience: Audience::Program, request_id: "", pages: &gateway.pages };
                gateway.metrics.request(None, Reason::Internal);
                reply.refuse(Reason::Internal, Refusal::default()).map(Body::ready)
            }),
        }
    }
}
