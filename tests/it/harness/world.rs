//! A gateway between a hostile provider and an echo upstream, all on one clock: what a test of logins and sessions needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use url::Url;

use super::answer::Answer;
use super::browser::{Browser, Page};
use super::gateway::{Gateway, provider};
use super::hostile::{Endpoint, HostileBuilder, HostileProvider};
use super::html;
use super::upstream::EchoUpstream;
use super::wait::unix_now;

/// Gateway, provider, upstream. The provider lets everybody in at once, as the user it was given.
pub struct World {
    /// The gateway.
    pub gateway: Gateway,
    /// The provider.
    pub provider: HostileProvider,
    /// The upstream.
    pub upstream: EchoUpstream,
    ahead: Arc<AtomicU64>,
}

/// What a test's config has beside the smallest one.
#[derive(Clone, Copy)]
pub struct Shape<'a> {
    /// `public_url` as TOML.
    pub public_url: &'a str,
    /// Keys of the top level, a line each.
    pub top: &'a str,
    /// Keys of `[provider]`, a line each.
    pub provider: &'a str,
    /// Further tables.
    pub tables: &'a str,
    /// `[[route]]` tables in place of the one that lets everybody in everywhere; `@UPSTREAM@` in them is the upstream's URL.
    pub routes: Option<&'a str>,
}

impl Default for Shape<'_> {
    fn default() -> Self {
        Self { public_url: "\"http://127.0.0.1:@PORT@\"", top: "", provider: "", tables: "", routes: None }
    }
}

impl World {
    /// Everybody who signs in is allowed everywhere.
    #[must_use]
    pub fn start() -> Self {
        Self::shaped(Shape::default(), |provider| provider)
    }

    /// The same with more config, and a provider of another kind.
    #[must_use]
    pub fn shaped(shape: Shape<'_>, kind: impl FnOnce(HostileBuilder) -> HostileBuilder) -> Self {
        let ahead = Arc::new(AtomicU64::new(0));
        let passed = Arc::clone(&ahead);
        let builder = HostileProvider::builder().clock(Arc::new(move || unix_now() + passed.load(Ordering::SeqCst)));
        let hostile = kind(builder).start();
        let upstream = EchoUpstream::start();
        let everywhere = format!("upstream = \"{}\"\nallow = \"any-authenticated\"\n", upstream.url());
        let (everywhere, routes) = match shape.routes {
            None => (everywhere, String::new()),
            Some(routes) => (String::new(), routes.replace("@UPSTREAM@", &upstream.url())),
        };
        let config = format!(
            "public_url = {}\n{everywhere}{}\n{}{}\n{}\n{routes}",
            shape.public_url,
            shape.top,
            provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret()),
            shape.provider,
            shape.tables
        );
        Self { gateway: Gateway::start(&config), provider: hostile, upstream, ahead }
    }

    /// Ends the gateway and starts it again with the same state.
    #[must_use]
    pub fn restart(self) -> Self {
        Self { gateway: self.gateway.restart(), ..self }
    }

    /// Lets time pass for gateway and provider; browsers do not notice, so their cookies stay.
    pub fn advance(&self, by: Duration) {
        self.gateway.advance(by);
        self.ahead.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    /// A place at the gateway's own address.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.url)
    }

    /// Goes somewhere and on until there is no redirect more: through login, where that is needed.
    pub async fn visit(&self, browser: &mut Browser, path: &str) -> Page {
        let page = browser.get(&self.at(path)).await;
        browser.follow_all(page).await
    }

    /// A browser that has just signed in.
    pub async fn signed_in(&self) -> Browser {
        let mut browser = Browser::new();
        let page = self.visit(&mut browser, "/first").await;
        assert_eq!(page.status, 200, "{}", page.text());
        assert!(self.session(&browser).is_some());
        browser
    }

    /// Begins a login to `path` and stops where the next step is the callback.
    pub async fn before_callback(&self, browser: &mut Browser, path: &str) -> Page {
        let page = browser.get(&self.at(path)).await;
        browser.follow_up_to(page, &self.gateway.redirect_uri()).await
    }

    /// The session cookie's value, if the browser has one.
    #[must_use]
    pub fn session(&self, browser: &Browser) -> Option<String> {
        browser.cookie("doorward").map(|cookie| cookie.value)
    }

    /// How often a code was spent, or tried.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.provider.count(Endpoint::Token)
    }

    /// How many logins came back with this outcome.
    pub async fn outcomes(&self, outcome: &str) -> u64 {
        self.gateway.metric(&format!("doorward_logins_total{{provider=\"default\",outcome=\"{outcome}\"}}")).await
    }

    /// How many requests were answered for this reason, on all routes.
    pub async fn answers(&self, reason: &str) -> u64 {
        let label = format!("reason=\"{reason}\"");
        let metrics = self.gateway.metrics().await;
        let lines = metrics.lines().filter(|line| line.starts_with("doorward_requests_total{") && line.contains(&label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// How many records of these tables an embedded store holds. Ends the gateway.
    #[must_use]
    pub fn records(self, tables: &[&str]) -> u64 {
        use redb::{ReadableDatabase as _, ReadableTableMetadata as _, TableHandle as _};
        let dir = Arc::clone(&self.gateway.dir);
        self.gateway.stop();
        let store = redb::Database::open(dir.join("doorward.redb")).expect("the store's file opens");
        let reading = store.begin_read().expect("the store can be read");
        let all: Vec<_> = reading.list_tables().expect("the store has tables").collect();
        for name in tables {
            assert!(all.iter().any(|table| table.name() == *name), "no table {name}");
        }
        let wanted = all.into_iter().filter(|table| tables.contains(&table.name()));
        wanted.map(|table| reading.open_untyped_table(table).expect("a table opens").len().expect("a table has a length")).sum()
    }
}

/// The reason that an answer names: in its JSON, or in the page's last line. Empty when it names none.
#[must_use]
pub fn reason_of(answer: &Answer) -> String {
    if answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        return answer.json()["reason"].as_str().unwrap_or_default().to_owned();
    }
    let text = html::text(&answer.text());
    let before = text.rsplit_once(" · Request").map(|(before, _)| before).unwrap_or_default();
    before.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// Path and query of where a page redirects to.
#[must_use]
pub fn target_of(page: &Page) -> String {
    let next = page.next().unwrap_or_else(|| panic!("no redirect: {}\n{}", page.summary(), page.text()));
    target(&next)
}

/// Path and query of a URL.
#[must_use]
pub fn target(url: &Url) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}
