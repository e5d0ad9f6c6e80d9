//! Opening the store that the config names.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::StartError;
use crate::clock::SharedClock;
use crate::config::{Config, StoreKind};
use crate::header::PreparedHeaders;
use crate::store::embedded::{Embedded, EmbeddedSettings};
use crate::store::memory::Memory;
use crate::store::redis::{PasswordSource, Redis, RedisSettings, RedisUrl};
use crate::store::{Measured, SessionCache, SessionStore};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// How often expired records are swept out of a file.
const SWEEP: Duration = Duration::from_secs(5 * 60);

/// A store, and the cache that may stand in front of it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn SessionStore>,
    /// Only where no other process writes to the store: a stale permit is worse than a round trip.
    pub(super) cache: Option<SessionCache<PreparedHeaders>>,
}

pub(super) fn open(
    config: &Config,
    control: &Handle,
    clock: &SharedClock,
    tasks: &Tasks,
    metrics: &Arc<Metrics>,
) -> Result<Opened, StartError> {
    let cached = || Some(SessionCache::new(config.gateway.limits.cached_sessions));
    let (store, cache): (Arc<dyn SessionStore>, _) = match &config.store.kind {
        StoreKind::Memory => (Arc::new(Memory::new(Arc::clone(clock))), cached()),
        StoreKind::Embedded { path } => {
            let embedded = Embedded::open(&EmbeddedSettings { path: path.clone() }, Arc::clone(clock)).map_err(StartError::new)?;
            let embedded = Arc::new(embedded);
            tasks.background(Arc::clone(&embedded).sweep_every(SWEEP));
            (embedded, cached())
        }
        StoreKind::Redis { url, username, password, ca_file } => {
            let mut settings = RedisSettings::new(RedisUrl::parse(url).map_err(StartError::new)?);
            settings.username.clone_from(username);
            settings.password = password.clone().map(|source| PasswordSource::new(move || Ok(source.get())));
            settings.ca_file.clone_from(ca_file);
            (Arc::new(Redis::new(settings, control.clone(), Arc::clone(clock)).map_err(StartError::new)?), None)
        }
    };
    Ok(Opened { store: Arc::new(Measured::new(store, Arc::clone(metrics), Arc::clone(clock))), cache })
}
