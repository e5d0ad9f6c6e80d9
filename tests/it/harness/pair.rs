//! Two gateways in processes of their own that share a store and a file of keys: to people they are one address.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::browser::Browser;
use super::gateway::GatewayProcess;
use super::http::{self, HttpClient};
use super::jose::{from_base64url, random};
use super::redis::Redis;
use super::temp::TempDir;
use super::wait::free_port;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    One,
    /// The second.
    Other,
}

impl Side {
    /// The other of the two.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::One => Self::Other,
            Self::Other => Self::One,
        }
    }
}

/// Two running gateways.
pub struct Pair {
    place: String,
    config: String,
    one: GatewayProcess,
    other: GatewayProcess,
    /// Holds the sealing keys, as `keys`: one base64 text a line, the first seals.
    pub shared: TempDir,
}

impl Pair {
    /// An address for people, host and port, that a provider can be told before the pair is there. Only [`Pair::browser`] and
    /// [`Pair::http`] find it.
    #[must_use]
    pub fn place() -> String {
        format!("app.localhost:{}", free_port())
    }

    /// The redirect URI at that address.
    #[must_use]
    pub fn redirect_uri(place: &str) -> String {
        format!("http://{place}/oauth2/callback")
    }

    /// Starts both on one Redis. `text` is the config without `public_url`, `[store]` and `[keys]`: keys of the top level first, then tables.
    pub async fn start(place: &str, redis: &Redis, text: &str) -> Self {
        let mut store = format!("kind = \"redis\"\nurl = \"{}\"\n", redis.url());
        if let Some((name, password)) = redis.credentials() {
            store += &format!("username = \"{name}\"\npassword = \"{password}\"\n");
        }
        Self::start_with(place, &store, text).await
    }

    /// The same on any shared store: `store` are the lines of `[store]`.
    pub async fn start_with(place: &str, store: &str, text: &str) -> Self {
        let shared = TempDir::new("pair");
        let keys = shared.write_secret("keys", format!("{}\n", STANDARD.encode(from_base64url(&random()))));
        let config = format!("public_url = \"http://{place}\"\n{text}\n[store]\n{store}\n[keys]\nseal_file = \"{}\"\n", keys.display());
        let start = || GatewayProcess::start_on(free_port(), &config);
        let (one, other) = tokio::join!(start(), start());
        Self { place: place.to_owned(), config, one, other, shared }
    }

    /// One of them.
    #[must_use]
    pub const fn at(&self, side: Side) -> &GatewayProcess {
        match side {
            Side::One => &self.one,
            Side::Other => &self.other,
        }
    }

    /// Where one of them serves.
    #[must_use]
    pub const fn address(&self, side: Side) -> SocketAddr {
        self.at(side).address
    }

    /// A path at the address that people see.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.place)
    }

    /// A fresh browser whose requests are answered by this one.
    #[must_use]
    pub fn browser(&self, side: Side) -> Browser {
        self.moved(Browser::new(), side)
    }

    /// The same browser, answered by this one from now on.
    #[must_use]
    pub fn moved(&self, browser: Browser, side: Side) -> Browser {
        browser.resolve(&self.place, self.address(side))
    }

    /// Speaks HTTP with this one, whatever the URL.
    #[must_use]
    pub fn http(&self, side: Side) -> HttpClient {
        HttpClient::new().at(self.address(side))
    }

    /// The count of one series of its `/metrics`, by everything that stands before its value; 0 where it is not there.
    pub async fn metric(&self, side: Side, series: &str) -> u64 {
        let all = http::fetch(http::get(&format!("http://{}/metrics", self.at(side).admin))).await.text();
        let line = all.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse::<f64>().ok()).map_or(0, |value| value as u64)
    }

    /// Kills one of them and starts it again at the same address.
    pub async fn killed_and_started(&mut self, side: Side) {
        let (dir, port) = (Arc::clone(&self.at(side).dir), self.address(side).port());
        self.at(side).process.kill();
        let again = GatewayProcess::start_in(dir, port, &self.config).await;
        match side {
            Side::One => self.one = again,
            Side::Other => self.other = again,
        }
    }
}
