//! A real Redis of the test's own: on a free port, in a folder that goes away, with or without TLS, ACL users and a file that survives
//! a kill.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::certs::{CertificateAuthority, Leaf};
use super::http::BoxedStream;
use super::mutual_tls::{self, MutualTls};
use super::process::{Launch, Process};
use super::resp::{Reply, RespConnection};
use super::temp::TempDir;
use super::wait::{PATIENCE, free_port};

/// The harness's own ACL user: what a test forbids the gateway's user never hinders the test.
const WATCHER: (&str, &str) = ("watcher", "watches-for-the-test");

/// What it shows, and how the harness speaks to it.
struct Tls {
    files: [PathBuf; 2],
    /// Of those whom it lets in by their certificate; without one anybody.
    clients: Option<PathBuf>,
    own: (Arc<ClientConfig>, &'static str),
    /// Its files live as long.
    _leaf: Option<Leaf>,
}

fn files(leaf: &Leaf) -> [PathBuf; 2] {
    [leaf.certificate_file(), leaf.key_file()].map(Path::to_owned)
}

/// How a [`Redis`] is to be.
#[derive(Default)]
pub struct RedisOptions {
    tls: Option<Tls>,
    user: Option<(String, String, String)>,
    append_only: bool,
    sentinel: bool,
    lines: Vec<String>,
}

impl RedisOptions {
    /// TLS only, with a certificate of this authority for `localhost` and 127.0.0.1.
    #[must_use]
    pub fn tls(mut self, authority: &CertificateAuthority) -> Self {
        let leaf = authority.leaf(&["localhost", "127.0.0.1"]);
        self.tls = Some(Tls { files: files(&leaf), clients: None, own: (authority.client_config(), "localhost"), _leaf: Some(leaf) });
        self
    }

    /// TLS only, as the peer of [`MutualTls`], whose value has to live on.
    #[must_use]
    pub fn mutual_tls(mut self, both: &MutualTls) -> Self {
        let clients = Some(both.clients().file().to_owned());
        self.tls = Some(Tls { files: files(both.leaf()), clients, own: (both.client_config(), mutual_tls::NAME), _leaf: None });
        self
    }

    /// An ACL user that may do everything; the default user is off.
    #[must_use]
    pub fn user(self, name: &str, password: &str) -> Self {
        self.user_with(name, password, "~* &* +@all")
    }

    /// An ACL user with these rules (`"~doorward:* +get +set"`); the default user is off.
    #[must_use]
    pub fn user_with(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned(), rules.to_owned()));
        self
    }

    /// Writes every change to disk before it is answered, so that data survive [`Redis::kill`] and [`Redis::stop`].
    #[must_use]
    pub fn append_only(mut self) -> Self {
        self.append_only = true;
        self
    }

    /// A sentinel: it keeps no data, and watches over those who do.
    #[must_use]
    pub fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Whoever is its primary or its replica lets it in: as the harness's own user, over TLS where there is TLS.
    #[must_use]
    pub fn one_of_several(self, authority: Option<&CertificateAuthority>) -> Self {
        let several = self.config(&format!("masteruser {}", WATCHER.0)).config(&format!("masterauth {}", WATCHER.1));
        match authority {
            None => several,
            Some(authority) => several.config("tls-replication yes").config(&format!("tls-ca-cert-file {}", authority.file().display())),
        }
    }

    /// A further line of redis.conf.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Starts it.
    pub async fn start(self) -> Redis {
        Redis::start_with(self).await
    }
}

/// A running Redis; it ends when the value is dropped.
pub struct Redis {
    options: RedisOptions,
    port: u16,
    dir: TempDir,
    process: Option<Process>,
}

impl Redis {
    /// A plain one: no TLS, no password, nothing on disk.
    pub async fn start() -> Self {
        RedisOptions::default().start().await
    }

    /// What else it can be.
    #[must_use]
    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }

    async fn start_with(options: RedisOptions) -> Self {
        let mut redis = Self { options, port: 0, dir: TempDir::new("redis"), process: None };
        let mut last_words = String::new();
        for _ in 0..10 {
            redis.port = free_port();
            match redis.launch().await {
                Ok(()) => return redis,
                Err(output) => last_words = output,
            }
        }
        panic!("redis-server does not start: {last_words}");
    }

    /// The port, the same for the whole life of the value.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL for a config's `store.url`: `redis://` or `rediss://`, user and password left out (they have keys of their own).
    #[must_use]
    pub fn url(&self) -> String {
        match self.options.tls {
            Some(_) => format!("rediss://localhost:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// User and password of [`RedisOptions::user`].
    #[must_use]
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.options.user.as_ref().map(|(name, password, _)| (name.as_str(), password.as_str()))
    }

    /// User and password that may do everything, for those of its kind.
    #[must_use]
    pub fn watcher() -> (&'static str, &'static str) {
        WATCHER
    }

    /// Whether it was neither stopped nor killed.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Ends it in good order (SIGTERM) and waits for that.
    pub async fn stop(&mut self) {
        self.process().signal("TERM");
        self.process().wait(PATIENCE).await;
        self.process = None;
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Holds it: connections stay open, nothing is answered, until [`Redis::resume`].
    pub fn pause(&self) {
        self.process().signal("STOP");
    }

    /// Lets it go on after [`Redis::pause`].
    pub fn resume(&self) {
        self.process().signal("CONT");
    }

    /// Starts it again on the same port after [`Redis::stop`] or [`Redis::kill`].
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "Redis was not stopped");
        let mut last_words = String::new();
        for _ in 0..50 {
            match self.launch().await {
                Ok(()) => return,
                // Somebody's outgoing connection may hold the port for a moment.
                Err(output) => last_words = output,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("redis-server does not start again on port {}: {last_words}", self.port);
    }

    /// Runs a command as the harness's own user and gives its reply as text, one line per item.
    pub async fn cli(&self, args: &[&str]) -> String {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.command(&args).await.to_text()
    }

    /// The same of one that may be about to end, or about to throw its connections out as its part changes.
    pub async fn try_cli(&self, args: &[&str]) -> Option<String> {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        Some(self.connect().await.ok()?.command(&args).await.ok()?.to_text())
    }

    /// Runs a command as the harness's own user.
    pub async fn command(&self, args: &[&[u8]]) -> Reply {
        let mut connection = self.connect().await.unwrap_or_else(|error| panic!("Redis at {}: {error}", self.url()));
        connection.command(args).await.unwrap_or_else(|error| panic!("Redis at {}: {error}", self.url()))
    }

    /// All keys with their raw values.
    pub async fn dump(&self) -> Vec<Entry> {
        let mut connection = self.connect().await.unwrap_or_else(|error| panic!("Redis at {}: {error}", self.url()));
        let mut entries = Vec::new();
        for key in ask(&mut connection, &[b"KEYS", b"*"]).await.flatten() {
            let kind = ask(&mut connection, &[b"TYPE", &key]).await.to_text();
            let read: Vec<&[u8]> = match kind.as_str() {
                "string" => vec![b"GET", &key],
                "hash" => vec![b"HGETALL", &key],
                "list" => vec![b"LRANGE", &key, b"0", b"-1"],
                "set" => vec![b"SMEMBERS", &key],
                "zset" => vec![b"ZRANGE", &key, b"0", b"-1", b"WITHSCORES"],
                "stream" => vec![b"XRANGE", &key, b"-", b"+"],
                _ => continue, // gone meanwhile
            };
            let values = ask(&mut connection, &read).await.flatten();
            let lives = match ask(&mut connection, &[b"PTTL", &key]).await {
                Reply::Integer(milliseconds) => u64::try_from(milliseconds).ok().map(Duration::from_millis),
                _ => None,
            };
            entries.push(Entry { key, kind, values, lives });
        }
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        entries
    }

    /// Everything in it as one lump, to search for what must not stand there.
    pub async fn everything(&self) -> Vec<u8> {
        let entries = self.dump().await.into_iter();
        entries
            .flat_map(|entry| std::iter::once(entry.key).chain(entry.values))
            .flat_map(|bytes| [bytes, b"\n".to_vec()].concat())
            .collect()
    }

    /// Forgets all data.
    pub async fn flush(&self) {
        self.command(&[b"FLUSHALL"]).await;
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("Redis runs")
    }

    /// Starts the process and waits until it answers. `Err`: its output.
    async fn launch(&mut self) -> Result<(), String> {
        let config = self.dir.write("redis.conf", self.config_file());
        let kind = self.options.sentinel.then_some("--sentinel");
        let process = Launch::new("redis-server").arg(config).args(kind).dir(self.dir.path()).start();
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = process.status() {
                process.wait(PATIENCE).await; // for its last lines
                return Err(format!("{status}: {}", process.output()));
            }
            // Whoever took the port first may answer too: its number tells.
            let own = format!("process_id:{}\r\n", process.pid());
            let answers = timeout(Duration::from_secs(1), async { self.connect().await?.command(&[b"INFO", b"server"]).await }).await;
            if matches!(&answers, Ok(Ok(info)) if info.to_text().contains(&own)) {
                self.process = Some(process);
                return Ok(());
            }
            if tokio::time::Instant::now() > end {
                return Err(format!("no answer within {PATIENCE:?}: {}", process.output()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn config_file(&self) -> String {
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            "daemonize no".to_owned(),
            "save \"\"".to_owned(),
            "loglevel notice".to_owned(),
            format!("dir {}", self.dir.path().display()),
            format!("user {} on >{} ~* &* +@all", WATCHER.0, WATCHER.1),
        ];
        match &self.options.tls {
            None => lines.push(format!("port {}", self.port)),
            Some(Tls { files: [certificate, key], clients, .. }) => lines.extend([
                "port 0".to_owned(),
                format!("tls-port {}", self.port),
                format!("tls-cert-file {}", certificate.display()),
                format!("tls-key-file {}", key.display()),
                format!("tls-ca-cert-file {}", clients.as_ref().unwrap_or(certificate).display()),
                format!("tls-auth-clients {}", if clients.is_some() { "yes" } else { "no" }),
            ]),
        }
        match &self.options.user {
            None => lines.push("protected-mode no".to_owned()),
            Some((name, password, rules)) => {
                lines.extend(["user default off".to_owned(), format!("user {name} on >{password} {rules}")]);
            }
        }
        if self.options.append_only {
            lines.extend(["appendonly yes".to_owned(), "appendfsync always".to_owned()]);
        }
        lines.extend_from_slice(&self.options.lines);
        lines.join("\n") + "\n"
    }

    async fn connect(&self) -> io::Result<RespConnection> {
        let stream = TcpStream::connect(self.address()).await?;
        let stream: BoxedStream = match &self.options.tls {
            None => Box::new(stream),
            Some(Tls { own: (config, name), .. }) => {
                let name = ServerName::try_from(*name).map_err(io::Error::other)?;
                Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?)
            }
        };
        let mut connection = RespConnection::over(stream);
        match connection.command(&[b"AUTH", WATCHER.0.as_bytes(), WATCHER.1.as_bytes()]).await? {
            Reply::Simple(_) => Ok(connection),
            other => Err(io::Error::other(other.to_text())),
        }
    }
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// `string`, `hash`, `set` …
    pub kind: String,
    /// The value's parts, raw; of a hash names and values in turn.
    pub values: Vec<Vec<u8>>,
    /// How long it still lives; `None`: for ever.
    pub lives: Option<Duration>,
}

async fn ask(connection: &mut RespConnection, args: &[&[u8]]) -> Reply {
    connection.command(args).await.unwrap_or_else(|error| panic!("Redis: {error}"))
}
