//! Opening the store that the config names.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::StartError;
use crate::clock::SharedClock;
use crate::config::{Config, RedisServers, RedisStore, StoreKind};
use crate::header::PreparedHeaders;
use crate::secret::SecretSource;
use crate::store::embedded::{Embedded, EmbeddedSettings};
use crate::store::memory::Memory;
use crate::store::redis::{PasswordSource, Redis, RedisSettings, RedisSettingsError, RedisTls, RedisUrl, SentinelSettings, Servers};
use crate::store::{Measured, SessionCache, SessionStore};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// How often expired records are swept out of a file.
const SWEEP: Duration = Duration::from_secs(5 * 60);

/// A store, and the cache that may stand in front of it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn SessionStore>,
    /// Believed only while the store tells of what other processes write: a stale permit is worse than a round trip.
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
        StoreKind::Redis(redis) => {
            let settings = redis_settings(redis).map_err(StartError::new)?;
            let redis = Redis::new(settings, control.clone(), Arc::clone(clock)).map_err(StartError::new)?;
            (Arc::new(redis), Some(SessionCache::watched(config.gateway.limits.cached_sessions, Arc::clone(clock))))
        }
    };
    Ok(Opened { store: Arc::new(Measured::new(store, Arc::clone(metrics), Arc::clone(clock))), cache })
}

fn redis_settings(redis: &RedisStore) -> Result<RedisSettings, RedisSettingsError> {
    let password = |source: &Option<SecretSource>| source.clone().map(|source| PasswordSource::new(move || Ok(source.get())));
    let servers = match &redis.servers {
        RedisServers::One(url) => Servers::One(RedisUrl::parse(url)?),
        RedisServers::Sentinels { urls, master_name, username, password: theirs } => Servers::Sentinels(SentinelSettings {
            urls: urls.iter().map(|url| RedisUrl::parse_one_of("store.sentinels", url, 26379)).collect::<Result<_, _>>()?,
            master_name: master_name.clone(),
            username: username.clone(),
            password: password(theirs),
        }),
        RedisServers::Cluster(urls) => {
            Servers::Cluster(urls.iter().map(|url| RedisUrl::parse_one_of("store.cluster", url, 6379)).collect::<Result<_, _>>()?)
        }
    };
    let mut settings = RedisSettings::of(servers);
    settings.username.clone_from(&redis.username);
    settings.password = password(&redis.password);
    if redis.servers.urls().iter().any(|url| url.starts_with("rediss:")) {
        let config = redis.tls.client_config().map_err(|error| RedisSettingsError::new(format!("store.tls: {error}")))?;
        settings.tls = Some(RedisTls { config: Arc::new(config), server_name: redis.tls.server_name.clone() });
    }
    settings.prefix.clone_from(&redis.prefix);
    settings.wait_replicas = redis.wait_replicas;
    Ok(settings)
}
