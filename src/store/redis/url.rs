//! Where a Redis is, as a URL says it.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::settings::RedisSettingsError;
use crate::secret::Secret;

/// `redis://` or `rediss://` (TLS) with host, port (6379) and database (`/0`), or `unix:///path?db=0`. User and password may stand before
/// the host; `Display` and `Debug` leave them out.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) place: Place,
    pub(super) database: u32,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
}

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Unix(PathBuf),
}

impl Place {
    /// Another server that is spoken to in the same way.
    pub(super) fn beside(&self, host: &str, port: u16) -> Self {
        let host = host.to_owned();
        if matches!(self, Self::Tls { .. }) { Self::Tls { host, port } } else { Self::Tcp { host, port } }
    }

    /// The host, where there is one.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Tcp { host, .. } | Self::Tls { host, .. } => host,
            Self::Unix(_) => "",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self {
            Self::Tcp { host, port } => write!(f, "redis://{}:{port}", at(host)),
            Self::Tls { host, port } => write!(f, "rediss://{}:{port}", at(host)),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl RedisUrl {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, RedisSettingsError> {
        Self::read("store.url", text, 6379)
    }

    /// Reads one of several that the key lists: a sentinel, or a node of a cluster. It has neither a database nor a password of its own, and
    /// a port that is not written is `port`.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it.
    pub fn parse_one_of(key: &str, text: &str, port: u16) -> Result<Self, RedisSettingsError> {
        let url = Self::read(key, text, port)?;
        let plain = url.database == 0 && url.username.is_none() && url.password.is_none();
        if plain && !matches!(url.place, Place::Unix(_)) {
            Ok(url)
        } else {
            Err(RedisSettingsError(format!("{key}: takes redis://host:port or rediss://host:port and nothing else")))
        }
    }

    fn read(key: &str, text: &str, default_port: u16) -> Result<Self, RedisSettingsError> {
        let problem = |text: &str| RedisSettingsError(format!("{key}: {text}"));
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
            let port = url.port().unwrap_or(default_port);
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
        match &self.place {
            Place::Unix(_) => write!(f, "{}?db={}", self.place, self.database),
            place => write!(f, "{place}/{}", self.database),
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
    use crate::store::redis::RedisSettings;

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
    fn one_of_several_has_a_host_and_a_port_and_nothing_else() {
        let one = |text: &str| RedisUrl::parse_one_of("store.sentinels", text, 26379);
        assert_eq!(one("rediss://a.test").unwrap().place.to_string(), "rediss://a.test:26379");
        assert_eq!(one("redis://[::1]:7000/").unwrap().place.to_string(), "redis://[::1]:7000");
        for text in ["redis://a/1", "redis://:s3cret@a", "redis://u@a", "unix:///x", "a:26379", "redis://a?x=s3cret"] {
            let error = one(text).unwrap_err().to_string();
            assert!(error.starts_with("store.sentinels: ") && !error.contains("s3cret"), "{text}: {error}");
        }
    }
}
