//! What is made of one config. A reload makes the next one; requests keep the one that they began with, and it goes with the last of them.

use std::sync::Arc;

use super::edge;
use super::kept::{Keeping, Kept};
use super::{StartError, assertion, outbound, providers, token_issuers};
use crate::clock::SharedClock;
use crate::config::{self, Config, LocalListen, Marks, StoreKind};
use crate::endpoint::Gateway;
use crate::header::PreparedHeaders;
use crate::provider::discovery::Discovery;
use crate::secret::SealRing;
use crate::server::admin::Needed;
use crate::server::{AdminSessions, ConnectionLimits, Drain, TlsSettings};
use crate::session::TokensKept;
use crate::store::{SessionStore, Sessions};
use crate::tasks::{Ongoing, Tasks};
use crate::telemetry::Metrics;
use crate::telemetry::otlp::Tracer;
use crate::upstream::{Group, Neighbours, UpstreamSettings};

/// What outlives every config.
pub(super) struct Standing {
    pub(super) clock: SharedClock,
    pub(super) tasks: Tasks,
    pub(super) metrics: Arc<Metrics>,
    pub(super) drain: Drain,
    /// Takes spans; `None`: no traces are recorded.
    pub(super) tracer: Option<Arc<Tracer>>,
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) store_kind: StoreKind,
    /// With the lifetimes of the start; it watches the store for all that come later.
    pub(super) sessions: Arc<Sessions<PreparedHeaders>>,
    pub(super) ring: Arc<SealRing>,
    /// Listeners for calls that leave, as they were bound: connections name them by their place here.
    pub(super) outgoing: Vec<(String, LocalListen)>,
    /// Upstreams' addresses, and how they do.
    pub(super) neighbours: Neighbours,
    /// What the process began with.
    pub(super) start: Marks,
}

/// What is made of one config.
pub(super) struct Generation {
    /// 1 is that of the start.
    pub(super) number: u64,
    pub(super) gateway: Arc<Gateway>,
    pub(super) upstreams: Vec<Arc<Group>>,
    pub(super) upstream_settings: UpstreamSettings,
    /// Listeners for calls that leave come after the routes.
    pub(super) route_names: Vec<String>,
    /// Providers by id, for readiness.
    pub(super) documents: Vec<(String, Arc<Discovery>)>,
    /// Whether readiness goes by the store.
    pub(super) store_needed: Needed,
    pub(super) admin_sessions: Arc<AdminSessions>,
    pub(super) connection_limits: ConnectionLimits,
    pub(super) drain: config::Drain,
    /// What the serving listeners speak; its files look after themselves.
    pub(super) tls: Option<TlsSettings>,
    pub(super) log_level: tracing::Level,
    kept: Kept,
    trusts: edge::Trusts,
    /// By the newest config alone: requests may hold the gateway of an older one for hours.
    _streams: Ongoing,
}

impl Standing {
    /// Brings up to date what is counted only when somebody looks.
    pub(super) fn count(&self) {
        self.metrics.sessions_cached(usize::try_from(self.sessions.cached()).unwrap_or(usize::MAX));
        self.neighbours.count();
    }
}

impl Generation {
    /// Reads files; asks nobody.
    ///
    /// # Errors
    /// What of the config cannot be had.
    pub(super) fn make(config: Config, standing: &Standing, before: Option<&Self>) -> Result<Self, StartError> {
        let Standing { clock, tasks, metrics, sessions, ring, .. } = standing;
        let marks = config.marks.clone();
        let keeping = Keeping::new(&marks, before.map(|before| &before.kept));
        let people = providers::of_people(&config, &keeping, clock, tasks, metrics)?;
        let lifetimes = config.session.lifetimes;
        let tells_tokens = config.routes.table.routes().iter().any(|route| route.tells_tokens());
        let tokens_kept = if tells_tokens { TokensKept::Yes } else { TokensKept::No };
        let parts = edge::Parts {
            outbound: outbound::all(&config, &keeping, &people, clock, tasks, metrics)?,
            assertions: assertion::assertions(&config, &keeping, standing)?,
            sessions: Arc::new(sessions.judged_by(lifetimes, tokens_kept)),
            ring: Arc::clone(ring),
            verifiers: token_issuers::verifiers(&config, &keeping, clock, tasks, metrics),
            people,
        };
        // Later configs ask theirs when they serve: one that is refused changes nothing.
        if before.is_none() {
            standing.neighbours.ask(&config.gateway.dns_servers);
        }
        let (upstreams, trusts) = edge::upstreams(&config, before.map(|before| &before.trusts), &standing.neighbours)?;
        let upstream_settings = edge::upstream_settings(&config);
        let routes = config.routes.table.routes().iter().map(|route| route.id.clone());
        // Under the ids that they have by now; one that the config does not have any more keeps its old one.
        let listeners = standing.outgoing.iter().map(|(id, listen)| {
            let known = config.outgoing.iter().find(|outgoing| outgoing.listen == *listen);
            known.map_or_else(|| id.clone(), |outgoing| outgoing.id.clone())
        });
        let route_names: Vec<String> = routes.chain(listeners).collect();
        let documents = parts.people.documents.clone();
        let store_needed = if config.gateway.admin.ready_needs_store { Needed::ForReadiness } else { Needed::ForInformation };
        let admin_token = config.admin_token.clone();
        let connection_limits = edge::connection_limits(&config.gateway.limits);
        let tls = config.gateway.tls.clone();
        let (drain, log_level) = (config.gateway.drain, config.gateway.log.level);
        let counts = (metrics.of_routes(&route_names), metrics.latencies_of(&route_names));
        let gateway = Arc::new(edge::gateway(config, parts, &keeping, counts, standing)?);
        // Weak: what watches goes with the generation, and may not hold it.
        let judge = Arc::downgrade(&gateway);
        let counts = move |session: &_| judge.upgrade().is_none_or(|gateway| gateway.authenticator.still_counts(session));
        let streams = gateway.authenticator.renewals.watch_streams(counts);
        Ok(Self {
            number: before.map_or(0, |before| before.number) + 1,
            admin_sessions: edge::admin_sessions(&gateway, admin_token),
            _streams: streams,
            gateway,
            upstreams,
            upstream_settings,
            route_names,
            documents,
            store_needed,
            connection_limits,
            drain,
            tls,
            log_level,
            kept: keeping.into_kept(),
            trusts,
        })
    }
}
