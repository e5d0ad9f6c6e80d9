//! What the config says of a Redis.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::url::RedisUrl;
use crate::secret::Secret;

/// `[store]` for `kind = "redis"`.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where it is.
    pub servers: Servers,
    /// The ACL user; without one the password is the default user's.
    pub username: Option<String>,
    /// The password, unless the URL holds it.
    pub password: Option<PasswordSource>,
    /// Whom to trust where a URL is `rediss://`, and who we are.
    pub tls: Option<RedisTls>,
    /// What every key begins with.
    pub prefix: String,
    /// How many replicas must have a login, a refresh or an ending before it is acknowledged.
    pub wait_replicas: u32,
    /// The longest that one attempt to connect may take, TLS and password included.
    pub connect_timeout: Duration,
    /// The longest that one call may take, a connection that has to be made first included.
    pub response_timeout: Duration,
}

/// What the certificates of these servers are judged by, and what they are shown.
#[derive(Clone, Debug)]
pub struct RedisTls {
    /// Roots, pins and our own certificate.
    pub config: Arc<ClientConfig>,
    /// The name that a certificate has to hold, in place of the server's own; the same for all servers.
    pub server_name: Option<ServerName<'static>>,
}

/// Where the data is.
#[derive(Clone, Debug)]
pub enum Servers {
    /// At one address.
    One(RedisUrl),
    /// Wherever the sentinels say.
    Sentinels(SentinelSettings),
    /// In a Redis Cluster: these of its nodes are asked for the others.
    Cluster(Vec<RedisUrl>),
}

/// The sentinels that watch over a primary and its replicas.
#[derive(Clone, Debug)]
pub struct SentinelSettings {
    /// Where they are. The data nodes are spoken to as they are: with TLS or without.
    pub urls: Vec<RedisUrl>,
    /// The name by which they know the primary.
    pub master_name: String,
    /// Their ACL user. Nothing of the data nodes' user and password is ever shown to them.
    pub username: Option<String>,
    /// Their password; without one they are asked without.
    pub password: Option<PasswordSource>,
}

impl RedisSettings {
    /// This server with the default prefix (`doorward:`) and a second for everything.
    #[must_use]
    pub fn new(url: RedisUrl) -> Self {
        Self::of(Servers::One(url))
    }

    /// The same for servers of any kind.
    #[must_use]
    pub fn of(servers: Servers) -> Self {
        Self {
            servers,
            username: None,
            password: None,
            tls: None,
            prefix: "doorward:".to_owned(),
            wait_replicas: 0,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
        }
    }

    /// What cannot be right together.
    pub(super) fn check(&self) -> Result<(), RedisSettingsError> {
        let problem = |text: &str| Err(RedisSettingsError(text.to_owned()));
        let (url, listed) = match &self.servers {
            Servers::One(url) => (Some(url), std::slice::from_ref(url)),
            Servers::Sentinels(sentinels) => (None, &*sentinels.urls),
            Servers::Cluster(urls) => (None, &**urls),
        };
        let (url_username, url_password) = (url.and_then(|url| url.username.as_ref()), url.and_then(|url| url.password.as_ref()));
        let has_password = self.password.is_some() || url_password.is_some();
        let tls = listed.iter().filter(|url| url.is_tls()).count();
        if listed.is_empty() {
            problem("store.sentinels and store.cluster name at least one server")
        } else if tls != 0 && tls != listed.len() {
            problem("store.sentinels and store.cluster: rediss:// for all of them or for none")
        } else if self.password.is_some() && url_password.is_some() {
            problem("store.url holds a password and store.password_file names another; keep one")
        } else if self.username.is_some() && url_username.is_some() {
            problem("store.url holds a user and store.username names another; keep one")
        } else if (self.username.is_some() || url_username.is_some()) && !has_password {
            problem("store.username needs store.password_file")
        } else if matches!(&self.servers, Servers::Sentinels(sentinels) if sentinels.username.is_some() && sentinels.password.is_none()) {
            problem("store.sentinel_username needs store.sentinel_password_file")
        } else if self.tls.is_some() != (tls != 0) {
            problem("store.tls and servers whose URLs begin with rediss:// need each other")
        } else if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            problem("store.prefix must not be empty nor hold braces, which place keys in a cluster")
        } else {
            Ok(())
        }
    }
}

/// Settings that cannot work, in words for whoever starts the gateway. Never holds a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettingsError(pub(super) String);

impl RedisSettingsError {
    /// What is wrong, with the key that it is about.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for RedisSettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RedisSettingsError {}

type ReadPassword = dyn Fn() -> Result<Secret, String> + Send + Sync;

/// Where the password comes from. It is asked anew for each connection, so a rotated password needs no restart.
#[derive(Clone)]
pub struct PasswordSource(Arc<ReadPassword>);

impl PasswordSource {
    /// Asks `read` each time; it may block. What it says when it fails is logged, so it must not tell the secret.
    pub fn new(read: impl Fn() -> Result<Secret, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Always this one.
    #[must_use]
    pub fn fixed(password: Secret) -> Self {
        Self::new(move || Ok(password.clone()))
    }

    /// Reads the file each time; one line end after the password does not count.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        let path = path.to_owned();
        Self::new(move || {
            let text = std::fs::read_to_string(&path).map(Secret::new).map_err(|error| format!("{}: {error}", path.display()))?;
            let line = text.expose();
            let password = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
            if password.is_empty() { Err(format!("{}: holds no password", path.display())) } else { Ok(Secret::new(password)) }
        })
    }

    pub(super) fn read(&self) -> Result<Secret, String> {
        (self.0)()
    }
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordSource")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> Option<RedisTls> {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(rustls::RootCertStore::empty());
        Some(RedisTls { config: Arc::new(config.with_no_client_auth()), server_name: None })
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let settings = |url: &str| RedisSettings::new(RedisUrl::parse(url).unwrap());
        let password = || Some(PasswordSource::fixed(Secret::new("x")));
        assert_eq!(settings("redis://u:p@h").check(), Ok(()));
        assert_eq!(RedisSettings { password: password(), username: Some("u".into()), ..settings("redis://h") }.check(), Ok(()));
        for (settings, names) in [
            (RedisSettings { password: password(), ..settings("redis://:p@h") }, "store.password_file"),
            (RedisSettings { username: Some("x".into()), ..settings("redis://u:p@h") }, "store.username"),
            (RedisSettings { username: Some("x".into()), ..settings("redis://h") }, "store.password_file"),
            (settings("redis://u@h"), "store.password_file"),
            (RedisSettings { tls: tls(), ..settings("redis://h") }, "store.tls"),
            (settings("rediss://h"), "store.tls"),
            (RedisSettings { prefix: "{x}".into(), ..settings("redis://h") }, "store.prefix"),
            (RedisSettings { prefix: String::new(), ..settings("redis://h") }, "store.prefix"),
        ] {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        }
    }

    #[test]
    fn several_servers_are_all_spoken_to_in_one_way() {
        let node = |text: &str| RedisUrl::parse_one_of("store.cluster", text, 6379).unwrap();
        let sentinels = |urls, username: Option<&str>| {
            let (username, master_name) = (username.map(str::to_owned), "doorward".to_owned());
            Servers::Sentinels(SentinelSettings { urls, master_name, username, password: None })
        };
        assert_eq!(RedisSettings::of(Servers::Cluster(vec![node("redis://a"), node("redis://b:1")])).check(), Ok(()));
        let secured = RedisSettings { tls: tls(), ..RedisSettings::of(sentinels(vec![node("rediss://a"), node("rediss://b")], None)) };
        assert_eq!(secured.check(), Ok(()));
        for (servers, names) in [
            (Servers::Cluster(Vec::new()), "store.cluster"),
            (Servers::Cluster(vec![node("redis://a"), node("rediss://b")]), "rediss://"),
            (sentinels(vec![node("redis://a"), node("rediss://b")], None), "rediss://"),
            (sentinels(vec![node("redis://a")], Some("x")), "store.sentinel_password_file"),
        ] {
            let error = RedisSettings::of(servers).check().unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        }
    }
}
