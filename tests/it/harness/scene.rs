//! The usual scene: a provider that lets everybody in at once, an upstream that echoes, and the gateway between them.

use std::time::{Duration, Instant};

use http::Request;
use serde_json::{Value, json};

use super::answer::Answer;
use super::body::empty;
use super::browser::Browser;
use super::gateway::{Gateway, provider};
use super::hostile::HostileProvider;
use super::http::{HttpClient, Protocol};
use super::raw::{self, RawAnswer};
use super::upstream::EchoUpstream;
use super::wait::{PATIENCE, free_port};

/// One route that is open to everybody.
pub const PUBLIC: &str = "[[route]]\naccess = \"public\"\nupstream = \"@UPSTREAM@\"\n";

/// Gateway, provider, upstream.
pub struct Scene {
    /// What is tested.
    pub gateway: Gateway,
    /// Signs everybody in as the user it was told, and issues access tokens for the audience `api`.
    pub provider: HostileProvider,
    /// What must not be reached by what is refused.
    pub upstream: EchoUpstream,
    base: String,
}

impl Scene {
    /// `top` are keys of the config's top level, `tables` its routes and other tables. `@UPSTREAM@` in them is the upstream's URL.
    #[must_use]
    pub fn start(top: &str, tables: &str) -> Self {
        Self::start_at("http://127.0.0.1:@PORT@", top, tables)
    }

    /// The same behind another public URL.
    #[must_use]
    pub fn start_at(public_url: &str, top: &str, tables: &str) -> Self {
        Self::start_on(free_port(), public_url, top, tables)
    }

    /// The same on a port that is known before.
    #[must_use]
    pub fn start_on(port: u16, public_url: &str, top: &str, tables: &str) -> Self {
        let identity_provider = HostileProvider::start();
        let upstream = EchoUpstream::start();
        let issuer = identity_provider.issuer();
        let sign_in = provider(&issuer, identity_provider.client_id(), identity_provider.client_secret());
        let config = format!(
            "public_url = \"{public_url}\"\n{top}\n[store]\nkind = \"memory\"\n{sign_in}\n\
             [[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"api\"\nemail_claim = \"email\"\ngroups_claim = \"groups\"\n{tables}"
        );
        let gateway = Gateway::start_on(port, &config.replace("@UPSTREAM@", &upstream.url()));
        let base = public_url.replace("@PORT@", &port.to_string());
        Self { gateway, provider: identity_provider, upstream, base }
    }

    /// A path at the public URL.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The gateway's address, as `Host` names it.
    #[must_use]
    pub fn host(&self) -> String {
        self.gateway.address.to_string()
    }

    /// A browser with a session of whoever the provider signs in; the upstream has not been asked.
    pub async fn sign_in(&self) -> Browser {
        let mut browser = Browser::new();
        let page = browser.get(&self.url("/oauth2/start")).await;
        browser.follow_until(page, |page| page.url.path() == "/oauth2/callback", 10).await;
        assert!(browser.cookie("doorward").is_some(), "nobody was signed in: {:?}", self.provider.complaints());
        browser
    }

    /// The `Cookie` pair of a fresh session.
    pub async fn session(&self) -> String {
        let cookie = self.sign_in().await.cookie("doorward").unwrap();
        format!("doorward={}", cookie.value)
    }

    /// A good access token; `claims` adds and replaces.
    #[must_use]
    pub fn token(&self, claims: Value) -> String {
        let mut all = json!({ "aud": "api" });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        self.provider.access_token(all, "at+jwt")
    }

    /// What a program gets that sends these headers.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Protocol::Http1, "GET", path, headers).await
    }

    /// The same with any method and protocol.
    pub async fn send(&self, protocol: Protocol, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        HttpClient::new().speaking(protocol).fetch(request.body(empty()).unwrap()).await
    }

    /// The answer to a request whose target and header lines go out as they are.
    pub async fn raw(&self, method: &str, target: &str, lines: &[&str]) -> RawAnswer {
        raw::raw_answer(self.gateway.address, raw::request(method, target, &self.host(), lines)).await
    }

    /// How many requests of this reason were counted that belong to no route.
    pub async fn counted(&self, reason: &str) -> u64 {
        self.gateway.metric(&format!("doorward_requests_total{{route=\"doorward\",reason=\"{reason}\"}}")).await
    }

    /// Waits until they are this many: what is no request is counted when its connection has ended, after the answer.
    pub async fn counts(&self, reason: &str, n: u64) {
        let end = Instant::now() + PATIENCE;
        while self.counted(reason).await < n {
            assert!(Instant::now() < end, "waited in vain for request number {n} of reason {reason}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The reason in a JSON answer of the gateway; panics when it holds none.
#[must_use]
pub fn reason(answer: &Answer) -> String {
    reason_in(&answer.body)
}

/// The same of an answer that was read raw.
#[must_use]
pub fn raw_reason(answer: &RawAnswer) -> String {
    reason_in(&answer.body)
}

fn reason_in(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)));
    value["reason"].as_str().unwrap_or_else(|| panic!("no reason in {value}")).to_owned()
}
