//! What `/metrics` shows, in OpenMetrics text. All names begin with `doorward_`; labels come from the config and from closed lists, never from
//! a request.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::current;
use super::latency::{Latencies as RouteTimes, RouteLatencies};
use super::otlp::Tracer;
use super::request_counts::{RequestCounts, RouteCounts};
use super::upstreams::{AddressCounts, UpstreamCounts};
use crate::fault::Dependency;
use crate::reason::Reason;

/// The `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds: a store call takes a fraction of a millisecond, a provider may take seconds.
const LATENCY_BUCKETS: [f64; 14] = [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

type Name = (&'static str, &'static str);
type TwoNames = [(&'static str, String); 2];

/// Why a connection was ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// A request's head took longer than `header_timeout`.
    HeaderTimeout,
    /// The downstream took nothing of an answer for longer than `write_timeout`.
    WriteTimeout,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// More HTTP/2 streams were abandoned than finished.
    Resets,
    /// No PROXY header, a malformed one, or one from a peer that is not in `trusted_proxies`.
    ProxyHeader,
}

impl Cut {
    /// The word in the metric and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HeaderTimeout => "header-timeout",
            Self::WriteTimeout => "write-timeout",
            Self::Handshake => "handshake",
            Self::Resets => "resets",
            Self::ProxyHeader => "proxy-header",
        }
    }
}

/// Whether balancers are to send requests here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// Not yet, or not any more.
    NotReady,
}

/// Everything that is counted. One for the process, shared by all threads.
pub struct Metrics {
    registry: Registry,
    requests: Arc<RequestCounts>,
    latencies: Arc<RouteTimes>,
    logins: Family<TwoNames, Counter>,
    renewals: Family<TwoNames, Counter>,
    dry_run: Family<TwoNames, Counter>,
    store_seconds: Family<[Name; 1], Histogram, Latencies>,
    provider_seconds: Family<TwoNames, Histogram, Latencies>,
    dependency_errors: Family<[Name; 1], Counter>,
    connections_cut: Family<[Name; 1], Counter>,
    connections_open: Gauge,
    tunnels_open: Gauge,
    sessions_cached: Gauge,
    panics: Counter,
    access_log_dropped: Counter<u64, AtomicU64>,
    spans_exported: Counter,
    spans_dropped: Counter,
    /// Calls to store and providers are told to it; it lives elsewhere, and holds this.
    tracer: OnceLock<Weak<Tracer>>,
    forwarded_by_unlisted: Counter,
    file_errors: Family<[Name; 1], Counter>,
    ready: Gauge,
    config_generation: Gauge,
    config_generations_in_use: Gauge,
    config_reloads: Family<[Name; 1], Counter>,
    config_refused: Gauge,
    upstreams: UpstreamCounts,
}

/// What became of a config that was to be taken while running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It serves from now on, on all cores.
    Taken,
    /// The one before goes on.
    Refused,
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("doorward");
        let requests = Arc::new(RequestCounts::new());
        registry.register_collector(Box::new(Arc::clone(&requests)));
        let latencies = Arc::new(RouteTimes::new());
        registry.register_collector(Box::new(Arc::clone(&latencies)));
        let metrics = Self {
            requests,
            latencies,
            logins: Family::default(),
            renewals: Family::default(),
            dry_run: Family::default(),
            store_seconds: Family::new_with_constructor(Latencies),
            provider_seconds: Family::new_with_constructor(Latencies),
            dependency_errors: Family::default(),
            connections_cut: Family::default(),
            connections_open: Gauge::default(),
            tunnels_open: Gauge::default(),
            sessions_cached: Gauge::default(),
            panics: Counter::default(),
            access_log_dropped: Counter::default(),
            spans_exported: Counter::default(),
            spans_dropped: Counter::default(),
            tracer: OnceLock::new(),
            forwarded_by_unlisted: Counter::default(),
            file_errors: Family::default(),
            ready: Gauge::default(),
            config_generation: Gauge::default(),
            config_generations_in_use: Gauge::default(),
            config_reloads: Family::default(),
            config_refused: Gauge::default(),
            upstreams: UpstreamCounts::default(),
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Arc<Self> {
        let registry = &mut self.registry;
        self.upstreams.register(registry);
        registry.register("logins", "Logins that came back from a provider, by outcome", self.logins.clone());
        registry.register("session_renewals", "Sessions that were renewed at their provider, by outcome", self.renewals.clone());
        registry.register(
            "dry_run",
            "Requests that passed and would be refused, were their route's policy not on trial",
            self.dry_run.clone(),
        );
        registry.register("store_seconds", "How long the session store took to answer", self.store_seconds.clone());
        registry.register("provider_seconds", "How long a provider or token issuer took to answer", self.provider_seconds.clone());
        registry.register("dependency_errors", "Calls that a dependency did not answer", self.dependency_errors.clone());
        registry.register("connections_cut", "Connections that the gateway ended because of what they did", self.connections_cut.clone());
        registry.register("connections_open", "Connections from downstream, tunnels included", self.connections_open.clone());
        registry.register("tunnels_open", "Upgraded connections: WebSocket and the like", self.tunnels_open.clone());
        registry.register("sessions_cached", "Opened sessions kept in this process", self.sessions_cached.clone());
        registry.register("panics", "Defects that were caught", self.panics.clone());
        registry.register("access_log_dropped", "Access lines that nobody took in time", self.access_log_dropped.clone());
        registry.register("spans_exported", "Spans that the collector took", self.spans_exported.clone());
        registry.register(
            "spans_dropped",
            "Spans that the collector did not take, or that came faster than it did",
            self.spans_dropped.clone(),
        );
        registry.register(
            "forwarded_by_unlisted",
            "Requests with forwarded headers from a peer that trusted_proxies does not list",
            self.forwarded_by_unlisted.clone(),
        );
        registry.register("file_errors", "Files that changed and cannot be used; what they said before goes on", self.file_errors.clone());
        registry.register("build", "The running version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("ready", "1 when balancers are to send requests here", self.ready.clone());
        registry.register("config_generation", "Configs taken since the start, the first one included", self.config_generation.clone());
        let held = self.config_generations_in_use.clone();
        registry.register(
            "config_generations_in_use",
            "Configs that something still runs on: 1, and more for as long as old requests last",
            held,
        );
        registry.register("config_reloads", "Configs that were read while running, by outcome", self.config_reloads.clone());
        registry.register("config_refused", "1 while the newest config is refused and an older one serves", self.config_refused.clone());
        Arc::new(self)
    }

    /// Where a route table's requests are counted. `ids` in the order of the table: it names routes by their place in it.
    #[must_use]
    pub fn of_routes(&self, ids: &[String]) -> RouteCounts {
        self.requests.of_routes(ids)
    }

    /// One request was answered, by no route.
    pub fn request(&self, reason: Reason) {
        self.requests.add(reason);
    }

    /// This config serves, by its number since the start.
    pub fn config_serves(&self, generation: u64) {
        self.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// A config is in use until the guard is dropped.
    #[must_use]
    pub fn config_in_use(&self) -> Open {
        Open::counted(&self.config_generations_in_use)
    }

    /// A config was read while running.
    pub fn reloaded(&self, outcome: Reload) {
        let (word, refused) = match outcome {
            Reload::Taken => ("taken", 0),
            Reload::Refused => ("refused", 1),
        };
        self.config_reloads.get_or_create(&[("outcome", word)]).inc();
        self.config_refused.set(refused);
    }

    /// Where a route table's latencies are counted. `ids` in the order of the table: it names routes by their place in it.
    #[must_use]
    pub fn latencies_of(&self, ids: &[String]) -> RouteLatencies {
        self.latencies.of_routes(ids)
    }

    /// From now on calls to store and providers are told to this tracer, for requests that are recorded. Once in a process.
    pub fn trace_calls(&self, tracer: &Arc<Tracer>) {
        let _ = self.tracer.set(Arc::downgrade(tracer));
    }

    /// The tracer and the request this call was for, where both are there.
    fn traced(&self) -> Option<(Arc<Tracer>, super::TraceContext)> {
        let tracer = self.tracer.get()?.upgrade()?;
        Some((tracer, current::trace().filter(|trace| trace.spans().is_some())?))
    }

    /// A login came back from `provider`: `success`, or the word of the [`Reason`] it was refused for.
    pub fn login(&self, provider: &str, outcome: &'static str) {
        self.logins.get_or_create(&[("provider", provider.to_owned()), ("outcome", outcome.to_owned())]).inc();
    }

    /// A session was to be renewed at `provider`: `success`, `unreachable`, or the word of the [`Reason`] it ended for.
    pub fn renewal(&self, provider: &str, outcome: &'static str) {
        self.renewals.get_or_create(&[("provider", provider.to_owned()), ("outcome", outcome.to_owned())]).inc();
    }

    /// A request passed that the policy of its route, which is on trial, would refuse for this.
    pub fn dry_run(&self, route: &str, reason: Reason) {
        self.dry_run.get_or_create(&[("route", route.to_owned()), ("reason", reason.as_str().to_owned())]).inc();
    }

    /// The store answered, or gave up, after `took`.
    pub fn store_call(&self, operation: &'static str, took: Duration) {
        self.store_seconds.get_or_create(&[("operation", operation)]).observe(took.as_secs_f64());
        if let Some((tracer, of)) = self.traced() {
            tracer.call(of, format!("store {operation}"), took, vec![("db.operation.name", operation.into())]);
        }
    }

    /// A provider or token issuer answered, or gave up, after `took`. `call` is one of a closed list (`discovery`, `token`, …).
    pub fn provider_call(&self, provider: &str, call: &'static str, took: Duration) {
        self.provider_seconds.get_or_create(&[("provider", provider.to_owned()), ("call", call.to_owned())]).observe(took.as_secs_f64());
        if let Some((tracer, of)) = self.traced() {
            let attributes = vec![("doorward.provider", provider.into()), ("doorward.call", call.into())];
            tracer.call(of, format!("provider {call}"), took, attributes);
        }
    }

    /// A dependency did not answer.
    pub fn dependency_error(&self, dependency: Dependency) {
        self.dependency_errors.get_or_create(&[("dependency", dependency.as_str())]).inc();
    }

    /// A connection was ended by us.
    pub fn connection_cut(&self, cut: Cut) {
        self.connections_cut.get_or_create(&[("cause", cut.as_str())]).inc();
    }

    /// A connection is open until the guard is dropped.
    #[must_use]
    pub fn connection_opened(&self) -> Open {
        Open::counted(&self.connections_open)
    }

    /// A tunnel is open until the guard is dropped.
    #[must_use]
    pub fn tunnel_opened(&self) -> Open {
        Open::counted(&self.tunnels_open)
    }

    /// How many sessions the cache holds now.
    pub fn sessions_cached(&self, sessions: usize) {
        self.sessions_cached.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Access lines were dropped.
    pub fn access_lines_dropped(&self, lines: u64) {
        self.access_log_dropped.inc_by(lines);
    }

    /// The collector took spans.
    pub fn spans_exported(&self, spans: u64) {
        self.spans_exported.inc_by(spans);
    }

    /// The collector did not take spans.
    pub fn spans_dropped(&self, spans: u64) {
        self.spans_dropped.inc_by(spans);
    }

    /// Forwarded headers came from a peer that is not listed.
    pub fn forwarded_by_unlisted(&self) {
        self.forwarded_by_unlisted.inc();
    }

    /// One more address of an upstream, by its entry in the config, for as long as what is returned lives.
    #[must_use]
    pub fn upstream_address(&self, entry: &str) -> AddressCounts {
        self.upstreams.address(entry)
    }

    /// An upstream's name could not be looked up.
    pub fn upstream_lookup_failed(&self, name: &str) {
        self.upstreams.lookup_failed(name);
    }

    /// A file that was changed cannot be used; `key` is that of the config.
    pub fn file_error(&self, key: &'static str) {
        self.file_errors.get_or_create(&[("key", key)]).inc();
    }

    /// Whether balancers are to send requests here.
    pub fn set_readiness(&self, readiness: Readiness) {
        self.ready.set(i64::from(readiness == Readiness::Ready));
    }

    /// OpenMetrics text, to be sent as [`CONTENT_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail; if a metric could not be written, what was is still worth having.
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("a metric could not be written");
        }
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Counts something as open for as long as it lives.
#[derive(Debug)]
pub struct Open(Gauge);

impl Open {
    fn counted(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Makes each histogram of a family.
#[derive(Clone)]
struct Latencies;

impl MetricConstructor<Histogram> for Latencies {
    fn new_metric(&self) -> Histogram {
        Histogram::new(LATENCY_BUCKETS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_holds_what_was_counted() {
        let metrics = Metrics::new();
        let counts = metrics.of_routes(&["orders".to_owned(), "a\"b\n".to_owned()]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| counts.add(Some(0), Reason::Allowed)));
            }
        });
        counts.add(Some(1), Reason::NotAllowed);
        counts.add(Some(7), Reason::NotAllowed); // no such route: counts nothing
        counts.add(None, Reason::Endpoint);
        metrics.login("corp", "success");
        metrics.login("corp", Reason::IdTokenNonce.as_str());
        metrics.renewal("corp", "success");
        metrics.store_call("get", Duration::from_millis(3));
        metrics.provider_call("corp", "token", Duration::from_millis(30));
        metrics.dependency_error(Dependency::Store);
        metrics.connection_cut(Cut::HeaderTimeout);
        let (connection, tunnel) = (metrics.connection_opened(), metrics.tunnel_opened());
        drop(tunnel);
        metrics.sessions_cached(12);
        metrics.panicked();
        metrics.access_lines_dropped(5);
        metrics.set_readiness(Readiness::Ready);
        let text = metrics.encode();
        for line in [
            "doorward_requests_total{route=\"orders\",reason=\"allowed\"} 4000",
            "doorward_requests_total{route=\"a\\\"b\\n\",reason=\"not-allowed\"} 1",
            "doorward_requests_total{route=\"doorward\",reason=\"endpoint\"} 1",
            "doorward_logins_total{provider=\"corp\",outcome=\"success\"} 1",
            "doorward_logins_total{provider=\"corp\",outcome=\"id-token-nonce\"} 1",
            "doorward_session_renewals_total{provider=\"corp\",outcome=\"success\"} 1",
            "doorward_store_seconds_count{operation=\"get\"} 1",
            "doorward_provider_seconds_bucket{le=\"0.05\",provider=\"corp\",call=\"token\"} 1",
            "doorward_dependency_errors_total{dependency=\"store\"} 1",
            "doorward_connections_cut_total{cause=\"header-timeout\"} 1",
            "doorward_connections_open 1",
            "doorward_tunnels_open 0",
            "doorward_sessions_cached 12",
            "doorward_panics_total 1",
            "doorward_access_log_dropped_total 5",
            concat!("doorward_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "doorward_ready 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
        // A newer table in which the route stands elsewhere, and a route is gone.
        let newer = metrics.of_routes(&["new".to_owned(), "orders".to_owned()]);
        newer.add(Some(1), Reason::Allowed);
        counts.add(Some(0), Reason::Allowed); // a request of before that ends now
        newer.add(Some(0), Reason::Allowed);
        metrics.request(Reason::Endpoint);
        let text = metrics.encode();
        for line in [
            "doorward_requests_total{route=\"orders\",reason=\"allowed\"} 4002",
            "doorward_requests_total{route=\"new\",reason=\"allowed\"} 1",
            "doorward_requests_total{route=\"a\\\"b\\n\",reason=\"not-allowed\"} 1",
            "doorward_requests_total{route=\"doorward\",reason=\"endpoint\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
        drop(connection);
        assert!(metrics.encode().contains("doorward_connections_open 0\n"));
    }
}
