//! Taking another config while running: all of it or nothing of it, and the one before goes on until all cores have the new one.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::task::spawn_blocking;

use super::StartError;
use super::generation::{Generation, Standing};
use super::listeners::{Switches, server_tls};
use super::turn::Turns;
use crate::config::{Config, Problem};
use crate::server::{Cores, Drain, Stage, Supervisor, raise_open_files};
use crate::tasks::Ongoing;
use crate::telemetry::LevelSwitch;
use crate::telemetry::metrics::Reload;

/// Reads the config again, from where it was read at the start.
pub type Reread = Arc<dyn Fn() -> Result<Config, Vec<Problem>> + Send + Sync>;

/// Why a config was not taken. The one before goes on.
#[derive(Debug)]
pub enum ReloadError {
    /// It has problems.
    Problems(Vec<Problem>),
    /// Something that it names cannot be had.
    NotMade(StartError),
    /// The gateway is ending.
    Ending,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problems(problems) => {
                let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
                f.write_str(&told.join("\n"))
            }
            Self::NotMade(error) => write!(f, "error: {error}"),
            Self::Ending => f.write_str("the gateway is ending"),
        }
    }
}

impl std::error::Error for ReloadError {}

/// Takes configs, one after the other.
pub(super) struct Reloading {
    pub(super) standing: Arc<Standing>,
    pub(super) current: Arc<ArcSwap<Generation>>,
    pub(super) turns: Arc<Turns>,
    pub(super) cores: Arc<Cores>,
    pub(super) drain: Drain,
    pub(super) switches: Switches,
    pub(super) supervisor: Supervisor,
    /// `None`: the log is not ours to set.
    pub(super) level: Option<LevelSwitch>,
    /// One at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Connections that are to become fewer.
    pub(super) resizing: Mutex<Option<Ongoing>>,
}

impl Reloading {
    /// Reads the config and takes it; its number, and the files that it was read from.
    pub(super) async fn again(&self, read: &Reread) -> Result<(u64, Vec<PathBuf>), ReloadError> {
        let read = Arc::clone(read);
        let config = match spawn_blocking(move || read()).await {
            Ok(config) => config,
            Err(broken) => return self.told(Err(Self::broke_off(&broken))),
        };
        let files = config.as_ref().map_or_else(|_| Vec::new(), |config| config.files.clone());
        self.offered(config).await.map(|number| (number, files))
    }

    /// Takes a config, or does not: log and metrics say what came of it.
    pub(super) async fn offered(&self, config: Result<Config, Vec<Problem>>) -> Result<u64, ReloadError> {
        let taken = match config {
            Ok(config) => self.take(config).await,
            Err(problems) => Err(ReloadError::Problems(problems)),
        };
        self.told(taken)
    }

    fn told<T>(&self, taken: Result<T, ReloadError>) -> Result<T, ReloadError> {
        match &taken {
            Ok(_) => {}
            Err(ReloadError::Ending) => tracing::info!("the config is not read again: the gateway is ending"),
            Err(error) => {
                self.standing.metrics.reloaded(Reload::Refused);
                // A line each, as `check` says it.
                for line in error.to_string().lines() {
                    tracing::error!("{line}");
                }
                tracing::error!(generation = self.current.load().number, "the new config is refused; the one before goes on");
            }
        }
        taken
    }

    async fn take(&self, config: Config) -> Result<u64, ReloadError> {
        let _one_at_a_time = self.turn.lock().await;
        if self.drain.stage() > Stage::Serving {
            return Err(ReloadError::Ending);
        }
        self.supervisor.reloading();
        let taken = self.turn_to(config).await;
        self.supervisor.ready();
        taken
    }

    /// Takes a config that has no problems. When this returns `Ok` every request that comes is served by it, on all cores.
    async fn turn_to(&self, config: Config) -> Result<u64, ReloadError> {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let waiting = self.waits_for_restart(&config);
        let dns_servers = config.gateway.dns_servers.clone();
        let (standing, before) = (Arc::clone(&self.standing), self.current.load_full());
        // It reads files, the system's root certificates among them.
        let made = spawn_blocking(move || {
            // What did not change goes on as it is: tickets of TLS sessions among it.
            let tls = if before.tls == config.gateway.tls { None } else { Some(server_tls(&config)?) };
            Ok((tls, Generation::make(config, &standing, Some(&before))?))
        })
        .await;
        let (tls, made) = made.map_err(|broken| Self::broke_off(&broken))?.map_err(ReloadError::NotMade)?;
        let made = Arc::new(made);
        self.turns.turn_to(&made).await.map_err(|missing| ReloadError::NotMade(StartError::new(missing)))?;
        self.standing.neighbours.ask(&dns_servers);
        let before = self.current.swap(Arc::clone(&made));
        if let Some(tls) = tls {
            self.switches.speak(tls, &self.standing.tasks);
        }
        self.switches.trust(made.gateway.settings.trusted_proxies.clone());
        if before.connection_limits != made.connection_limits {
            let (cores, limits) = (Arc::clone(&self.cores), made.connection_limits);
            if let Err(error) = raise_open_files(limits.max_connections) {
                tracing::warn!(%error, "the limit of open files could not be raised");
            }
            cores.limit(limits);
            let mut resizing = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever still waits for connections to end gives up first.
            drop(resizing.take());
            *resizing = Some(self.standing.tasks.until_dropped(async move { cores.resize(limits).await }));
        }
        if let Some(level) = &self.level {
            level.set(super::level(made.log_level));
        }
        self.standing.metrics.config_serves(made.number);
        self.standing.metrics.reloaded(Reload::Taken);
        if !waiting.is_empty() {
            tracing::warn!(keys = waiting.join(", "), "these keys have changed and count from the next start on");
        }
        tracing::info!(generation = made.number, routes = made.gateway.routes.routes().len(), "the new config serves");
        Ok(made.number)
    }

    /// A panic is told and counted; at the end of the process nothing is.
    fn broke_off(broken: &tokio::task::JoinError) -> ReloadError {
        if broken.is_panic() { ReloadError::NotMade(StartError::new("a defect of the gateway broke it off")) } else { ReloadError::Ending }
    }

    fn waits_for_restart(&self, config: &Config) -> Vec<String> {
        let mut keys: Vec<String> = config.waits_for_restart(&self.standing.start).into_iter().map(str::to_owned).collect();
        let bound = &self.standing.outgoing;
        let new = config.outgoing.iter().filter(|outgoing| !bound.iter().any(|(_, listen)| *listen == outgoing.listen));
        let gone = bound.iter().filter(|(_, listen)| !config.outgoing.iter().any(|outgoing| outgoing.listen == *listen));
        let ids = new.map(|outgoing| &outgoing.id).chain(gone.map(|(id, _)| id));
        keys.extend(ids.map(|id| format!("outgoing.listen of {id:?}")));
        keys
    }
}
