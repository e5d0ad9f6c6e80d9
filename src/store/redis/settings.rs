//! What the config says of a Redis.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::secret::Secret;

/// `[store]` for `kind = "redis"`.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where it is.
    pub url: RedisUrl,
    /// The ACL user; without one the password is the default user's.
    pub username: Option<String>,
    /// The password, unless the URL holds it.
    pub password: Option<PasswordSource>,
    /// PEM certificates to trust beside the system's own.
    pub ca_file: Option<PathBuf>,
    /// What every key begins with.
    pub prefix: String,
    /// The longest that one attempt to connect may take, TLS and password included.
    pub connect_timeout: Duration,
    /// The longest that one call may take, a connection that has to be made first included.
    pub response_timeout: Duration,
}

impl RedisSettings {
    /// This server with the default prefix (`doorward:`) and a second for everything.
    #[must_use]
    pub fn new(url: RedisUrl) -> Self {
        Self {
            url,
            username: None,
            password: None,
            ca_file: None,
            prefix: "doorward:".to_owned(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
        }
    }

    /// What cannot be right together.
    pub(super) fn check(&self) -> Result<(), RedisSettingsError> {
        let problem = |text: &str| Err(RedisSettingsError(text.to_owned()));
        let has_password = self.password.is_some() || self.url.password.is_some();
        if self.password.is_some() && self.url.password.is_some() {
            problem("store.url holds a password and store.password_file names another; keep one")
        } else if self.username.is_some() && self.url.username.is_some() {
            problem("store.url holds a user and store.username names another; keep one")
        } else if (self.username.is_some() || self.url.username.is_some()) && !has_password {
            problem("store.username needs store.password_file")
        } else if self.ca_file.is_some() && !self.url.is_tls() {
            problem("store.tls.ca_file needs a store.url that begins with rediss://")
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

/// `redis://` or `rediss://` (TLS) with host, port (6379) and database (`/0`), or `unix:///path?db=0`. User and password may stand before
/// the host; `Display` and `Debug` leave them out.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) place: Place,
    pub(super) database: u32,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Unix(PathBuf),
}

impl RedisUrl {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, RedisSettingsError> {
        let problem = |text: &str| RedisSettingsError(format!("store.url: {text}"));
        let url = Url::parse(text).map_err(|error| problem(&format!("no URL ({error}); write redis://host:6379/0")))?;
        let decoded =
            |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| problem("not UTF-8 after decoding"));
        if url.fragment().is_some() {
            return Err(problem("nothing may follow a '#'; write it as %23"));
        }
        let number = |text: &str| text.parse().map_err(|_| problem("the database is no number"));
        let (place, database) = if matches!(url.scheme(), "unix" | "redis+unix") {
            let path = decoded(url.path())?;
            if !path.starts_with('/') || url.host().is_some() {
                return Err(problem("a socket's path is absolute: unix:///run/redis/redis.sock"));
            }
            let mut database = 0;
            for (name, value) in url.query_pairs() {
                match &*name {
                    "db" => database = number(&value)?,
                    _ => return Err(problem("a socket's URL takes no parameter but db")),
                }
            }
            (Place::Unix(path.into()), database)
        } else {
            if url.query().is_some() {
                return Err(problem("takes no parameters; TLS is rediss://, user and password have keys of their own"));
            }
            let host = match url.host() {
                Some(Host::Domain(name)) if !name.is_empty() => decoded(name)?,
                Some(Host::Ipv4(address)) => address.to_string(),
                Some(Host::Ipv6(address)) => address.to_string(),
                _ => return Err(problem("names no host; write redis://host:6379/0")),
            };
            let port = url.port().unwrap_or(6379);
            let database = match url.path().trim_start_matches('/') {
                "" => 0,
                text => number(text)?,
            };
            match url.scheme() {
                "redis" => (Place::Tcp { host, port }, database),
                "rediss" => (Place::Tls { host, port }, database),
                _ => return Err(problem("begins with neither redis://, rediss:// nor unix://")),
            }
        };
        let username = Some(url.username()).filter(|name| !name.is_empty()).map(decoded).transpose()?;
        let password = url.password().map(decoded).transpose()?.filter(|password| !password.is_empty()).map(Secret::new);
        Ok(Self { place, database, username, password })
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.place, Place::Tls { .. })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.database;
        let at = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match &self.place {
            Place::Tcp { host, port } => write!(f, "redis://{}:{port}/{database}", at(host)),
            Place::Tls { host, port } => write!(f, "rediss://{}:{port}/{database}", at(host)),
            Place::Unix(path) => write!(f, "unix://{}?db={database}", path.display()),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_without_their_secrets() {
        for (text, shown) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://localhost:7000/", "redis://localhost:7000/0"),
            ("redis://alice:s3cret%40x@10.0.0.1:7000/3", "redis://10.0.0.1:7000/3"),
            ("rediss://:s3cret@redis.test", "rediss://redis.test:6379/0"),
            ("rediss://[::1]:6380/1", "rediss://[::1]:6380/1"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
            ("unix:/run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
            ("redis+unix:///run/redis%20x.sock", "unix:///run/redis x.sock?db=0"),
        ] {
            let url = RedisUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{:?}", RedisSettings::new(url)).contains("s3cret"));
        }
        let url = RedisUrl::parse("redis://alice:s3cret%40x@h").unwrap();
        assert_eq!(url.username.as_deref(), Some("alice"));
        assert!(url.password == Some(Secret::new("s3cret@x")));
    }

    #[test]
    fn a_bad_url_is_refused_without_being_quoted() {
        for text in [
            "",
            "localhost:6379",
            "http://:s3cret@localhost",
            "redis://:s3cret@",
            "redis:///0",
            "redis://:s3cret@h/x",
            "redis://:s3cret@h/-1",
            "redis://:s3cret@h?db=1",
            "redis://:s3cret@h:99999",
            "redis://h/0#s3cret",
            "unix://run/redis.sock",
            "unix:redis.sock",
            "unix:///run/redis.sock?password=s3cret",
        ] {
            let error = RedisUrl::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("store.url: ") && !error.contains("s3cret"), "{text}: {error}");
        }
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
            (RedisSettings { ca_file: Some("x".into()), ..settings("redis://h") }, "store.tls.ca_file"),
            (RedisSettings { prefix: "{x}".into(), ..settings("redis://h") }, "store.prefix"),
            (RedisSettings { prefix: String::new(), ..settings("redis://h") }, "store.prefix"),
        ] {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        }
    }
}
