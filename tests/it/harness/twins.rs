//! Two gateways in this process that share a Redis, a file of keys and one clock with their provider: to people they are one address.
//! What takes real processes (a kill, an environment) is for [`super::pair`]; what takes hours is for this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;

use super::body::empty;
use super::browser::Browser;
use super::gateway::{Gateway, provider};
use super::hostile::{HostileBuilder, HostileProvider};
use super::http::{Answer, HttpClient};
use super::jose::{from_base64url, random};
use super::pair::{Pair, Side};
use super::redis::Redis;
use super::temp::TempDir;
use super::upstream::EchoUpstream;
use super::wait::unix_now;

/// Both of them, and who is around them.
pub struct Twins {
    /// The provider; it lets everybody in at once.
    pub provider: HostileProvider,
    /// The upstream.
    pub upstream: EchoUpstream,
    /// The store.
    pub redis: Redis,
    place: String,
    one: Gateway,
    other: Gateway,
    ahead: Arc<AtomicU64>,
    _shared: TempDir,
}

impl Twins {
    /// Starts them on this Redis. `tables` are routes and other tables; `@UPSTREAM@` in them is the upstream's URL.
    pub async fn start(redis: Redis, tables: &str, kind: impl FnOnce(HostileBuilder) -> HostileBuilder) -> Self {
        let ahead = Arc::new(AtomicU64::new(0));
        let passed = Arc::clone(&ahead);
        let builder = HostileProvider::builder().clock(Arc::new(move || unix_now() + passed.load(Ordering::SeqCst)));
        let (hostile, upstream, shared) = (kind(builder).start(), EchoUpstream::start(), TempDir::new("twins"));
        let keys = shared.write_secret("keys", format!("{}\n", STANDARD.encode(from_base64url(&random()))));
        let place = Pair::place();
        let config = format!(
            "public_url = \"http://{place}\"\n{}{}\n[store]\nkind = \"redis\"\nurl = \"{}\"\n[keys]\nseal_file = \"{}\"\n",
            provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret()),
            tables.replace("@UPSTREAM@", &upstream.url()),
            redis.url(),
            keys.display()
        );
        let (one, other) = (Gateway::start(&config), Gateway::start(&config));
        Self { provider: hostile, upstream, redis, place, one, other, ahead, _shared: shared }
    }

    /// One of them.
    #[must_use]
    pub const fn at(&self, side: Side) -> &Gateway {
        match side {
            Side::One => &self.one,
            Side::Other => &self.other,
        }
    }

    /// A path at the address that people see.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.place)
    }

    /// Speaks HTTP with this one, whatever the URL.
    #[must_use]
    pub fn http(&self, side: Side) -> HttpClient {
        HttpClient::new().at(self.at(side).address)
    }

    /// A browser that has just signed in at this one.
    pub async fn signed_in(&self, side: Side) -> Browser {
        let mut browser = Browser::new().resolve(&self.place, self.at(side).address);
        let page = browser.get(&self.url("/first")).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 200, "{}", page.text());
        browser
    }

    /// The same browser, answered by this one from now on.
    #[must_use]
    pub fn moved(&self, browser: Browser, side: Side) -> Browser {
        browser.resolve(&self.place, self.at(side).address)
    }

    /// What a program gets from this one that shows this `Cookie` line.
    pub async fn ask(&self, side: Side, cookie: &str, path: &str) -> Answer {
        let request = Request::get(self.url(path)).header("cookie", cookie).body(empty()).expect("a request");
        self.http(side).fetch(request).await
    }

    /// Lets time pass for all three.
    pub fn advance(&self, by: Duration) {
        self.one.advance(by);
        self.other.advance(by);
        self.ahead.fetch_add(by.as_secs(), Ordering::SeqCst);
    }
}
