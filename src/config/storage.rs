//! `[session]`, `[store]` and `[keys]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;

use super::outgoing::read_outgoing_tls;
use super::reader::Section;
use super::secret_file;
use crate::provider::tls::TlsSettings;
use crate::secret::SecretSource;
use crate::session::{Lifetimes, TokenEnd};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// `[session]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// Idle and absolute.
    pub lifetimes: Lifetimes,
    /// How long the browser keeps the cookie.
    pub cookie: SessionCookieKept,
    /// How often the provider is asked again whether somebody is still welcome; `None`: never.
    pub revalidate: Option<Duration>,
}

/// `session.cookie`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionCookieKept {
    /// As long as the rest of `absolute`, plus an hour.
    Persistent,
    /// Until the browser closes.
    UntilBrowserCloses,
}

/// `[store]`.
#[derive(Clone)]
pub struct Store {
    /// Which one.
    pub kind: StoreKind,
}

/// Which store.
#[derive(Clone)]
pub enum StoreKind {
    /// A file beside the gateway.
    Embedded {
        /// Where.
        path: PathBuf,
    },
    /// In this process; gone when it ends.
    Memory,
    /// Redis.
    Redis(Box<RedisStore>),
}

/// `[store]` of `kind = "redis"`.
#[derive(Clone)]
pub struct RedisStore {
    /// Where it is.
    pub servers: RedisServers,
    /// ACL user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<SecretSource>,
    /// Whom to trust where a URL is `rediss://`, and who we are.
    pub tls: TlsSettings,
    /// What every key begins with.
    pub prefix: String,
    /// How many replicas confirm a login, a refresh or an ending.
    pub wait_replicas: u32,
}

/// Where the servers of a Redis are. URLs are `redis://` or `rediss://`.
#[derive(Clone)]
pub enum RedisServers {
    /// `store.url`.
    One(String),
    /// `store.sentinels`.
    Sentinels {
        /// Where they are.
        urls: Vec<String>,
        /// What they call the primary.
        master_name: String,
        /// Their ACL user.
        username: Option<String>,
        /// Their password.
        password: Option<SecretSource>,
    },
    /// `store.cluster`: some of its nodes.
    Cluster(Vec<String>),
}

impl RedisServers {
    /// Those that the config names.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        match self {
            Self::One(url) => std::slice::from_ref(url),
            Self::Sentinels { urls, .. } | Self::Cluster(urls) => urls,
        }
    }
}

/// What seals.
#[derive(Clone)]
pub enum Keys {
    /// The keys of `keys.seal_file`, the sealing one first.
    Given {
        /// The file, which is read again when it changes.
        file: PathBuf,
        /// What it held.
        keys: Vec<[u8; 32]>,
    },
    /// A file that is made at the first start, beside the embedded store.
    MadeAt(PathBuf),
    /// Made now and forgotten at the end, as the memory store is.
    ForThisProcess,
}

pub(super) fn read_session(root: &Section<'_>) -> SessionSettings {
    let section = root.section("session");
    let idle = section.duration("idle", 12 * HOUR, Duration::from_secs(60)..=366 * DAY);
    let absolute = section.duration("absolute", 7 * DAY, Duration::from_secs(60)..=366 * DAY);
    if idle > absolute {
        section.problem("idle", "is longer than absolute; a session never lives that long");
    }
    let words = [("persistent", SessionCookieKept::Persistent), ("browser", SessionCookieKept::UntilBrowserCloses)];
    let cookie = section.choice("cookie", SessionCookieKept::Persistent, &words);
    let token_end = if section.flag("end_with_token", false) { TokenEnd::Ends } else { TokenEnd::Outlived };
    let revalidate = section.parsed("revalidate", |text| match (text, humantime::parse_duration(text)) {
        ("off", _) => Ok(None),
        (_, Ok(every)) if (MINUTE..=DAY).contains(&every) => Ok(Some(every)),
        _ => Err(format!("expected \"off\" or a time such as \"15m\", from 1m to 1d; found {text:?}")),
    });
    section.finish();
    SessionSettings {
        lifetimes: Lifetimes { idle, absolute, token: super::token::LIFETIME, token_end },
        cookie,
        revalidate: revalidate.flatten(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Embedded,
    Redis,
    Memory,
}

pub(super) fn read_store(root: &Section<'_>, environment: &BTreeMap<String, String>) -> Option<Store> {
    let section = root.section("store");
    let words = [("embedded", Word::Embedded), ("redis", Word::Redis), ("memory", Word::Memory)];
    let word = section.choice("kind", Word::Embedded, &words);
    let path = section.file("path");
    let redis = read_redis(&section);
    section.finish();
    let misfit = |keys: &[&str], kind: &str| {
        for key in keys.iter().filter(|key| section.has(key)) {
            section.problem(key, format!("does nothing for kind = \"{kind}\"; remove it or change the kind"));
        }
    };
    let kind = match word {
        Word::Embedded => {
            misfit(&REDIS_KEYS, "embedded");
            Some(StoreKind::Embedded { path: path.unwrap_or_else(|| state_directory(environment).join("doorward.redb")) })
        }
        Word::Memory => {
            misfit(&["path"], "memory");
            misfit(&REDIS_KEYS, "memory");
            Some(StoreKind::Memory)
        }
        Word::Redis => {
            misfit(&["path"], "redis");
            redis_servers(&section, &redis).map(|servers| {
                let RedisKeys { username, password, tls, prefix, wait_replicas, .. } = redis;
                StoreKind::Redis(Box::new(RedisStore { servers, username, password, tls, prefix, wait_replicas }))
            })
        }
    };
    kind.map(|kind| Store { kind })
}

/// Every key that is about Redis.
const REDIS_KEYS: [&str; 13] = [
    "url",
    "sentinels",
    "master_name",
    "sentinel_username",
    "sentinel_password",
    "sentinel_password_file",
    "cluster",
    "username",
    "password",
    "password_file",
    "tls",
    "prefix",
    "wait_replicas",
];

/// What stands there about Redis, each key for itself.
struct RedisKeys {
    url: Option<String>,
    sentinels: Option<Vec<String>>,
    master_name: Option<String>,
    sentinel_username: Option<String>,
    sentinel_password: Option<SecretSource>,
    cluster: Option<Vec<String>>,
    username: Option<String>,
    password: Option<SecretSource>,
    tls: TlsSettings,
    prefix: String,
    wait_replicas: u32,
}

fn read_redis(section: &Section<'_>) -> RedisKeys {
    RedisKeys {
        url: section.parsed("url", parse_redis_url),
        sentinels: section.parsed_list("sentinels", parse_redis_url),
        master_name: section.text("master_name"),
        sentinel_username: section.text("sentinel_username"),
        sentinel_password: secret_file::read(section, "sentinel_password", 1),
        cluster: section.parsed_list("cluster", parse_redis_url),
        username: section.text("username"),
        password: secret_file::read(section, "password", 1),
        tls: read_outgoing_tls(section),
        prefix: section.parsed("prefix", parse_prefix).unwrap_or_else(|| "doorward:".to_owned()),
        wait_replicas: u32::try_from(section.number("wait_replicas", 0, 0..=16)).unwrap_or(0),
    }
}

/// One of the three ways to say where it is, and what goes with it.
fn redis_servers(section: &Section<'_>, keys: &RedisKeys) -> Option<RedisServers> {
    let said: Vec<&str> = ["url", "sentinels", "cluster"].into_iter().filter(|key| section.has(key)).collect();
    let sentinel_keys = ["master_name", "sentinel_username", "sentinel_password", "sentinel_password_file"];
    for key in sentinel_keys.iter().filter(|key| section.has(key) && !said.contains(&"sentinels")) {
        section.problem(key, "is for Redis Sentinel; write sentinels = [\"redis://10.0.0.1:26379\"] beside it, or remove it");
    }
    let servers = keys.url.iter().chain(keys.sentinels.iter().flatten()).chain(keys.cluster.iter().flatten());
    if section.has("tls") && !said.is_empty() && servers.clone().next().is_some() && servers.clone().all(|url| url.starts_with("redis:")) {
        section.problem("tls", "stands beside redis://, which is not encrypted; write rediss://, or remove it");
    }
    for (user, password) in [("username", "password"), ("sentinel_username", "sentinel_password")] {
        let file = format!("{password}_file");
        if section.has(user) && !section.has(password) && !section.has(&file) {
            section.problem(user, format!("is told to Redis with a password only; write {file} beside it, or remove it"));
        }
    }
    match *said {
        [] => {
            section
                .problem("url", "is missing; for example: url = \"redis://127.0.0.1:6379\" (rediss:// for TLS), or sentinels, or cluster");
            None
        }
        ["url"] => keys.url.clone().map(RedisServers::One),
        ["cluster"] => several(section, "cluster", keys.cluster.as_ref()).map(RedisServers::Cluster),
        ["sentinels"] => {
            let urls = several(section, "sentinels", keys.sentinels.as_ref());
            if keys.master_name.is_none() {
                section.problem("master_name", "is missing: the name by which the sentinels know the primary; often \"mymaster\"");
            }
            let (username, password) = (keys.sentinel_username.clone(), keys.sentinel_password.clone());
            Some(RedisServers::Sentinels { urls: urls?, master_name: keys.master_name.clone()?, username, password })
        }
        _ => {
            section.problem(said.last().copied().unwrap_or("url"), format!("stands beside {}; say once where Redis is", said.join(", ")));
            None
        }
    }
}

/// It stands in patterns and in hash tags of Redis, where other characters mean something.
fn parse_prefix(text: &str) -> Result<String, String> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.' | b'/');
    if text.len() <= 64 && text.bytes().all(sound) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected at most 64 letters, digits and : - _ . /, such as \"corp:doorward:\"; found {text:?}"))
    }
}

fn several(section: &Section<'_>, key: &str, urls: Option<&Vec<String>>) -> Option<Vec<String>> {
    let urls = urls?;
    if urls.is_empty() {
        section.problem(key, "names no server");
        return None;
    }
    Some(urls.clone())
}

fn parse_redis_url(text: &str) -> Result<String, String> {
    let wrong = "expected redis://HOST:PORT, or rediss://HOST:PORT for TLS";
    let url = url::Url::parse(text).map_err(|_| wrong.to_owned())?;
    if !matches!(url.scheme(), "redis" | "rediss") || url.host_str().is_none() {
        return Err(wrong.to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{wrong}, without a password in it: URLs get logged; use username and password_file"));
    }
    Ok(text.to_owned())
}

/// `$STATE_DIRECTORY` (systemd's `StateDirectory=`), else `/var/lib/doorward` as root, else the user's state folder.
fn state_directory(environment: &BTreeMap<String, String>) -> PathBuf {
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    if let Some(given) = variable("STATE_DIRECTORY") {
        // systemd separates several by colons; the first is ours.
        return PathBuf::from(given.split(':').next().unwrap_or(given));
    }
    let root = std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0);
    if root {
        return PathBuf::from("/var/lib/doorward");
    }
    match (variable("XDG_STATE_HOME"), variable("HOME")) {
        (Some(state), _) => PathBuf::from(state).join("doorward"),
        (None, Some(home)) => PathBuf::from(home).join(".local/state/doorward"),
        (None, None) => PathBuf::from("/var/lib/doorward"),
    }
}

/// `[keys]`, of which everything else was asked for before.
pub(super) fn read_keys(section: &Section<'_>, store: Option<&Store>) -> Option<Keys> {
    let file = section.file("seal_file");
    section.finish();
    if let Some(file) = file {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                section.problem("seal_file", format!("{} cannot be read: {error}", file.display()));
                return None;
            }
        };
        secret_file::warn_if_open(section, "seal_file", &file);
        return match parse_keys(&text) {
            Ok(keys) => Some(Keys::Given { file, keys }),
            Err(error) => {
                section.problem("seal_file", format!("{}: {error}", file.display()));
                None
            }
        };
    }
    match &store?.kind {
        StoreKind::Embedded { path } => Some(Keys::MadeAt(path.with_extension("keys"))),
        StoreKind::Memory => Some(Keys::ForThisProcess),
        StoreKind::Redis(_) => {
            section.problem(
                "seal_file",
                "is missing: with Redis every replica needs the same keys; make a file with `head -c 32 /dev/urandom | base64` and mount it everywhere",
            );
            None
        }
    }
}

/// One key a line, 32 bytes in base64; the first seals, all open. Empty lines and lines that start with `#` are skipped.
///
/// # Errors
/// What is wrong, by line; never the key.
pub fn parse_keys(text: &str) -> Result<Vec<[u8; 32]>, String> {
    let mut keys: Vec<[u8; 32]> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(line).ok();
        let key: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        let Some(key) = key else { return Err(format!("line {}: expected 32 bytes in base64 (44 characters)", number + 1)) };
        if key.iter().all(|byte| *byte == key.first().copied().unwrap_or_default()) {
            return Err(format!("line {}: this is no random key", number + 1));
        }
        if keys.contains(&key) {
            return Err(format!("line {}: the same key twice", number + 1));
        }
        keys.push(key);
    }
    if keys.is_empty() { Err("holds no key; expected one a line, 32 bytes in base64".to_owned()) } else { Ok(keys) }
}
