//! Wiring: from a config to a running gateway, from one config to the next, and its end.
//!
//! `listeners` binds the sockets, `keys` finds or makes the sealing keys, `stores` opens the store, `traces` takes spans to a collector: these stay
//! for as long as the process. A `generation` is all that is made of one config: `assertion` signs, `providers` and `token_issuers` are whoever is asked on the network,
//! `outbound` gives tokens for upstreams, `token` is the token endpoint, `edge` what the endpoints share. [`App`] starts all in order and ends
//! all in order. `explain` makes a generation that answers nobody, `online` asks everybody whether they are there.
//!
//! A reload makes the next generation (`reload`, when `trigger` says so): `kept` is what it takes over from the one before, `turn` has all cores go
//! over to it at once. Requests end on the generation that they began with.

mod assertion;
mod edge;
mod email_lists;
pub mod explain;
mod generation;
mod kept;
mod keys;
mod listeners;
pub mod online;
mod outbound;
mod providers;
mod reload;
mod stores;
mod token;
mod token_issuers;
mod traces;
mod trigger;
mod turn;

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Runtime;

use crate::clock::SharedClock;
use crate::config::{Config, LogFormat, Problem};
use crate::endpoint;
use crate::server::admin::Admin;
use crate::server::{Cores, Drain, Drained, HandedOver, ServerSettings, Stage, Supervisor, raise_open_files};
use crate::store::Sessions;
use crate::tasks::Tasks;
use crate::telemetry::otlp::Tracer;
use crate::telemetry::{self, AccessLog, LevelSwitch, LogLevel, Metrics};
use crate::upstream::{Neighbours, Tunnels};

pub use reload::{ReloadError, Reread};

use generation::{Generation, Standing};
use reload::Reloading;
use turn::{CoreMaker, Turns};

/// Control work: provider, store, reload, accepting.
const CONTROL_THREADS: usize = 2;

/// What differs between the command and a test.
pub struct Options {
    /// Where access lines go.
    pub access_lines: Box<dyn Write + Send>,
    /// How many cores carry requests.
    pub cores: usize,
    /// Sets how much is told, where the log is the gateway's own.
    pub level: Option<LevelSwitch>,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self { access_lines: Box::new(std::io::stdout()), cores, level: None }
    }
}

/// Why a gateway does not start, in words for whoever starts it.
#[derive(Debug)]
pub struct StartError(String);

impl StartError {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// A running gateway.
pub struct App {
    /// Taken when the gateway ends: a runtime may not be dropped where others wait.
    control: Option<Runtime>,
    tasks: Tasks,
    drain: Drain,
    reloading: Arc<Reloading>,
    cores: Arc<Cores>,
    access_log: Option<AccessLog>,
    tracer: Option<Arc<Tracer>>,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
    address: SocketAddr,
    admin_address: SocketAddr,
}

/// Serves until a signal ends it: `doorward run`. SIGHUP, or a file that has changed, has the config read again by `reread`.
///
/// # Errors
/// When it cannot start.
pub fn run(config: Config, clock: SharedClock, reread: Reread) -> Result<(), StartError> {
    let format = line_format(config.gateway.log.format);
    let level = telemetry::init(level(config.gateway.log.level), format).map_err(StartError::new)?;
    let files = config.files.clone();
    let listens = config.gateway.listeners.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let app = App::start_with(config, clock, Options { level: Some(level), ..Options::default() })?;
    app.heed(reread, files);
    tracing::info!(listen = listens, admin = %app.admin_address, version = env!("CARGO_PKG_VERSION"), "doorward serves");
    app.run_until_signal();
    Ok(())
}

impl App {
    /// Starts a gateway. Providers and Redis need not be there yet.
    ///
    /// # Errors
    /// When an address, a file or a thread cannot be had.
    pub fn start(config: Config, clock: SharedClock) -> Result<Self, StartError> {
        Self::start_with(config, clock, Options::default())
    }

    /// As [`App::start`].
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_with(config: Config, clock: SharedClock, options: Options) -> Result<Self, StartError> {
        let handed_over = listeners::handed_over(&config);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let control =
            builder.worker_threads(CONTROL_THREADS).thread_name("doorward-control").enable_all().build().map_err(StartError::new)?;
        match Self::wired(&control, config, handed_over, clock, options) {
            Ok(mut app) => {
                app.control = Some(control);
                Ok(app)
            }
            Err(error) => {
                // Whoever calls may stand in a runtime of their own, where none may be dropped: the panic would hide the error.
                control.shutdown_background();
                Err(error)
            }
        }
    }

    /// Everything but the runtime that it stands on.
    fn wired(control: &Runtime, config: Config, handed_over: HandedOver, clock: SharedClock, options: Options) -> Result<Self, StartError> {
        let entered = control.enter();
        let tasks = Tasks::new(control.handle().clone());
        let limits = config.gateway.limits;
        if let Err(error) = raise_open_files(limits.connections) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }

        let metrics = Metrics::new();
        let drain = Drain::new();
        let (log_format, admin_listen) = (line_format(config.gateway.log.format), config.gateway.admin.listen);
        let places = config.gateway.listeners.clone();
        let switches = listeners::Switches::new();
        switches.set(&config, &tasks)?;
        let supervisor = listeners::supervisor(&config)?;
        let outgoing_listeners = outbound::listeners(&config)?;

        let tracer = traces::tracer(config.tracing.as_ref(), &clock, &tasks, &metrics)?;
        let stores::Opened { store, cache } = stores::open(&config, control.handle(), &clock, &tasks, &metrics)?;
        let ring = keys::ring(&config.keys, &tasks)?;
        let lifetimes = config.session.lifetimes;
        let sessions = Arc::new(Sessions::new(Arc::clone(&store), cache, Arc::clone(&ring), Arc::clone(&clock), lifetimes, tasks.clone()));
        sessions.watch();
        let standing = Arc::new(Standing {
            clock: Arc::clone(&clock),
            tasks: tasks.clone(),
            metrics: Arc::clone(&metrics),
            drain: drain.clone(),
            tracer: tracer.clone(),
            store,
            store_kind: config.store.kind.clone(),
            sessions,
            ring,
            outgoing: config.outgoing.iter().map(|outgoing| (outgoing.id.clone(), outgoing.listen.clone())).collect(),
            neighbours: Neighbours::new(Arc::clone(&clock), tasks.clone(), Arc::clone(&metrics)),
            start: config.marks.clone(),
        });
        let generation = Arc::new(Generation::make(config, &standing, None)?);
        let connection_limits = generation.connection_limits;
        metrics.config_serves(generation.number);
        let turns = Turns::at(&generation);
        let current = Arc::new(ArcSwap::from(generation));

        let access_log = AccessLog::start(log_format, options.access_lines, Arc::clone(&metrics)).map_err(StartError::new)?;
        let lines = Arc::new(Mutex::new((0..options.cores.max(1)).map(|_| access_log.lines()).collect::<Vec<_>>()));
        let settings =
            ServerSettings { limits: connection_limits, drain: drain.clone(), metrics: Arc::clone(&metrics), clock: Arc::clone(&clock) };
        let made = CoreMaker { current: Arc::clone(&current), turns: Arc::clone(&turns), lines, clock };
        let tunnel_drain = drain.clone();
        let cores = Cores::start(options.cores, settings, move |_| {
            let tunnels = Tunnels::new();
            end_with(&tunnel_drain, &tunnels);
            made.service(tunnels)
        })
        .map_err(StartError::new)?;

        let serving_listeners = listeners::bind(&places, handed_over, &switches)?;
        let address = listeners::address(&serving_listeners)?;
        let admin_listener = listeners::bind_admin(admin_listen)?;
        let admin_address = admin_listener.local_addr().map_err(StartError::new)?;
        let before_metrics = {
            let standing = Arc::clone(&standing);
            Arc::new(move || standing.count())
        };
        let admin = Admin {
            drain: drain.clone(),
            metrics: Arc::clone(&metrics),
            checks: edge::checks(Arc::clone(&standing.store), Arc::clone(&current)),
            before_metrics,
            sessions: {
                let current = Arc::clone(&current);
                Arc::new(move || Arc::clone(&current.load().admin_sessions))
            },
        };
        tasks.background(admin.serve(admin_listener, tasks.clone()));
        for listener in outgoing_listeners.into_iter().chain(serving_listeners) {
            let serving = Arc::clone(&cores);
            tasks.background(async move {
                if let Err(error) = listener.serve(serving).await {
                    tracing::error!(%error, "a listener ended");
                }
            });
        }
        drop(entered);
        drain.advance(Stage::Serving);
        metrics.set_readiness(telemetry::metrics::Readiness::Ready);
        supervisor.ready();
        tasks.background(supervisor.clone().watch(Arc::clone(&cores)));
        let reloading = Arc::new(Reloading {
            standing,
            current,
            turns,
            cores: Arc::clone(&cores),
            drain: drain.clone(),
            switches,
            supervisor: supervisor.clone(),
            level: options.level,
            turn: tokio::sync::Mutex::default(),
            resizing: Mutex::default(),
        });
        Ok(Self {
            control: None,
            tasks,
            drain,
            reloading,
            cores,
            access_log: Some(access_log),
            tracer,
            metrics,
            supervisor,
            address,
            admin_address,
        })
    }

    /// Takes another config as [`crate::config::load`] gives it: what SIGHUP does. When this is ready every request that comes is served by it, on
    /// all cores; those that are under way end as they began. Its number: the first config is 1.
    ///
    /// # Errors
    /// Why it was not taken. The one before goes on.
    pub async fn reload(&self, config: Result<Config, Vec<Problem>>) -> Result<u64, ReloadError> {
        let reloading = Arc::clone(&self.reloading);
        self.tasks.run(async move { reloading.offered(config).await }).await.unwrap_or(Err(ReloadError::Ending))
    }

    /// From now on a SIGHUP has the config read again and does not end the process.
    fn heed(&self, reread: Reread, files: Vec<PathBuf>) {
        let _entered = self.control.as_ref().map(Runtime::enter);
        let hangups = trigger::Hangups::new();
        self.tasks.background(trigger::heed(Arc::clone(&self.reloading), reread, files, hangups));
    }

    /// How much goes on beside requests; for tests and embedders.
    #[must_use]
    pub fn background_tasks(&self) -> usize {
        self.tasks.alive()
    }

    /// Where it serves; the port is the real one where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its admin listener is.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Serves until SIGTERM or SIGINT, then drains. A second signal ends it at once.
    pub fn run_until_signal(mut self) {
        let Some(control) = self.control.take() else { return };
        control.block_on(async {
            signal().await;
            tracing::info!("draining");
            tokio::select! {
                ended = self.drained() => match ended {
                    Drained::Finished => tracing::info!("drained"),
                    Drained::CutOff => tracing::warn!("drain.deadline passed; what was left was cut off"),
                },
                () = signal() => tracing::warn!("a second signal: ending at once"),
            }
        });
        self.end(control);
    }

    /// Drains, as SIGTERM does; for tests and embedders. Ends within `drain.delay` and `drain.deadline`.
    pub fn stop(mut self) {
        let Some(control) = self.control.take() else { return };
        // Whoever calls may stand in a runtime of their own, where nothing may block.
        let ended = std::thread::spawn(move || {
            control.block_on(self.drained());
            self.end(control);
        });
        let _ = ended.join();
    }

    async fn drained(&self) -> Drained {
        self.metrics.set_readiness(telemetry::metrics::Readiness::NotReady);
        self.supervisor.stopping();
        let emptied = async {
            self.cores.ended().await;
            self.tasks.drained().await;
        };
        let times = self.reloading.current.load().drain;
        let drained = self.drain.run(times.delay, times.deadline, emptied).await;
        traces::flush(self.tracer.as_ref()).await;
        drained
    }

    fn end(&mut self, control: Runtime) {
        self.drain.advance(Stage::Ended);
        if let Some(log) = self.access_log.take()
            && !log.close(Duration::from_secs(2))
        {
            tracing::warn!("the access log could not be written to its end");
        }
        control.shutdown_timeout(Duration::from_secs(2));
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.drain.advance(Stage::Ended);
        if let Some(control) = self.control.take() {
            control.shutdown_background();
        }
    }
}

/// Tunnels never end by themselves: the deadline of the drain ends them.
fn end_with(drain: &Drain, tunnels: &Tunnels) {
    let (drain, tunnels) = (drain.clone(), tunnels.clone());
    drop(tokio::task::spawn_local(async move {
        drain.reached(Stage::Ended).await;
        tunnels.end_all();
    }));
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without signal handlers the system's own handling ends the process.
        _ => std::future::pending().await,
    }
}

fn level(level: tracing::Level) -> LogLevel {
    match level {
        tracing::Level::ERROR => LogLevel::Error,
        tracing::Level::WARN => LogLevel::Warn,
        tracing::Level::INFO => LogLevel::Info,
        tracing::Level::DEBUG => LogLevel::Debug,
        tracing::Level::TRACE => LogLevel::Trace,
    }
}

const fn line_format(format: LogFormat) -> telemetry::LogFormat {
    match format {
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    }
}

/// A counter that starts at nothing told.
fn never_told() -> AtomicU64 {
    AtomicU64::new(0)
}

/// What serves one core.
type Answering = std::pin::Pin<Box<dyn Future<Output = http::Response<endpoint::Body>>>>;
