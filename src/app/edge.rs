//! What the endpoints share.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::AUTHORIZATION;

use super::generation::{Generation, Standing};
use super::kept::Keeping;
use super::providers::People;
use super::token;
use super::{StartError, never_told};
use crate::authenticate::{Authenticator, CertificateMeans, Certificates, Registration, RenewalSettings, Renewals};
use crate::clock::SharedClock;
use crate::config::{Config, Limits, LocalListen, LogUser, ResponseMode, SessionCookieKept};
use crate::endpoint::{self, EdgeSettings, Gateway, OutgoingListener, UserInLog};
use crate::header::cookies::{CookieStyle, SameSite};
use crate::header::{AddressSource, IdentityFamily, PreparedHeaders};
use crate::outbound::Outbound;
use crate::outbound::assertion::Assertions;
use crate::provider::IdentityProvider;
use crate::provider::Looks;
use crate::provider::discovery::Discovery;
use crate::provider::local::LOCAL;
use crate::provider::tls::TlsSettings;
use crate::respond::{Look, Pages};
use crate::route::{OutboundId, OutgoingHosts};
use crate::secret::{SealRing, SecretSource};
use crate::server::admin::{Check, Checks, Needed};
use crate::server::{AdminSessions, ConnectionLimits};
use crate::store::{LoginBounds, SessionStore, Sessions};
use crate::telemetry::{RouteCounts, RouteLatencies};
use crate::token::Issuer;
use crate::upstream::{Group, Neighbours, Upstream, UpstreamAddress, UpstreamSettings, UpstreamTls};
use crate::verify::Verifiers;
use crate::verify::dpop::DpopVerifier;

/// What was opened and made before.
pub(super) struct Parts {
    pub(super) sessions: Arc<Sessions<PreparedHeaders>>,
    pub(super) assertions: Option<Assertions>,
    pub(super) ring: Arc<SealRing>,
    pub(super) people: People,
    pub(super) verifiers: Verifiers,
    pub(super) outbound: Vec<Arc<Outbound>>,
}

pub(super) fn gateway(
    config: Config,
    parts: Parts,
    keeping: &Keeping<'_>,
    (counts, latencies): (RouteCounts, RouteLatencies),
    standing: &Standing,
) -> Result<Gateway, StartError> {
    let Parts { sessions, assertions, ring, people, verifiers, outbound } = parts;
    let Standing { clock, tasks, metrics, drain, tracer, .. } = standing;
    let lifetimes = config.session.lifetimes;
    let local = super::providers::of_our_own(&config, keeping, &sessions, clock, tasks)?;
    let passwords = super::providers::of_passwords(&config, keeping, local.as_ref(), clock, tasks)?;
    let api_keys = super::providers::of_keys(&config, keeping, &sessions, clock, tasks)?;
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
    let outgoing = standing.outgoing.iter().map(|(_, listen)| outgoing(&config, listen)).collect();
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
        outgoing,
        assertions,
        token,
        ring,
        metrics: Arc::clone(metrics),
        counts,
        latencies,
        tracer: tracer.clone(),
        in_use: metrics.config_in_use(),
        drain: drain.clone(),
        tasks: tasks.clone(),
        clock: Arc::clone(clock),
        outage_told: never_told(),
        unlisted_told: never_told(),
    })
}

/// What the config says of a listener that was bound at the start; where it says nothing any more, nothing goes out there.
fn outgoing(config: &Config, listen: &LocalListen) -> OutgoingListener {
    let known = config.outgoing.iter().find(|outgoing| outgoing.listen == *listen);
    known.map_or_else(
        || OutgoingListener { hosts: OutgoingHosts::new(Vec::new()), outbound: OutboundId(usize::MAX) },
        |outgoing| OutgoingListener { hosts: outgoing.hosts.clone(), outbound: outgoing.outbound },
    )
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
        log_user: match gateway.log.user {
            LogUser::Name => UserInLog::Name,
            LogUser::Sub => UserInLog::Sub,
            LogUser::Nothing => UserInLog::Nothing,
        },
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

/// Whom each upstream's TLS trusts and what it shows, by its settings and by what its files looked like when they were read.
pub(super) type Trusts = Vec<(TlsSettings, Looks, Arc<rustls::ClientConfig>)>;

/// The upstreams with whom each trusts. The system's roots are read only when an upstream speaks https, and again when a file of it has changed.
pub(super) fn upstreams(
    config: &Config,
    before: Option<&Trusts>,
    neighbours: &Neighbours,
) -> Result<(Vec<Arc<Group>>, Trusts), StartError> {
    let mut trusts = Trusts::new();
    let mut upstreams = Vec::new();
    for upstream in &config.routes.upstreams {
        let tls = match upstream.address() {
            Some(address @ (UpstreamAddress::Https { .. } | UpstreamAddress::H2 { .. })) => {
                let looks = upstream.tls.looks();
                let is_same = |known: &&(TlsSettings, Looks, Arc<rustls::ClientConfig>)| known.0 == upstream.tls && known.1 == looks;
                let known = trusts.iter().chain(before.into_iter().flatten()).find(is_same).map(|known| Arc::clone(&known.2));
                let config = match known {
                    Some(known) => known,
                    None => {
                        let made = upstream.tls.client_config();
                        Arc::new(made.map_err(|error| StartError::new(format!("upstream {address}: {error}")))?)
                    }
                };
                trusts.push((upstream.tls.clone(), looks, Arc::clone(&config)));
                Some(UpstreamTls { config, server_name: upstream.tls.server_name.clone() })
            }
            _ => None,
        };
        let entries = upstream.entries.iter();
        let entries = entries.map(|entry| (Upstream { address: entry.address.clone(), tls: tls.clone() }, entry.weight)).collect();
        upstreams.push(neighbours.group(entries, upstream.settings.clone()));
    }
    Ok((upstreams, trusts))
}

/// How the dependencies are, for `/readyz`.
pub(super) fn checks(store: Arc<dyn SessionStore>, current: Arc<ArcSwap<Generation>>) -> Checks {
    Arc::new(move || {
        let (store, generation) = (Arc::clone(&store), current.load_full());
        Box::pin(async move {
            let mut checks = vec![store_check(&store, generation.store_needed).await];
            checks.extend(generation.documents.iter().map(|(id, discovery)| provider_check(id, discovery)));
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
