//! The certified OpenID provider (`oidc-provider` from npm) in a process of its own, and the way through its pages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http::Request;
use rustls::ClientConfig;
use serde_json::{Value, json};
use url::Url;

use super::body::full;
use super::browser::{Browser, Page};
use super::certs::{CertificateAuthority, Leaf};
use super::http::HttpClient;
use super::process::{Launch, Process};
use super::wait::{PATIENCE, free_port};

/// Password of every account that [`OidcProviderBuilder::new`] makes.
pub const PASSWORD: &str = "correct horse";
/// The `client_id` that [`OidcProviderBuilder::new`] registers.
pub const CLIENT_ID: &str = "doorward";
/// Its `client_secret`.
pub const CLIENT_SECRET: &str = "a-client-secret-for-tests-only-0123456789";

/// What the provider is to be; starts with sane defaults.
pub struct OidcProviderBuilder {
    config: Value,
    tls: Option<(Leaf, Arc<ClientConfig>)>,
}

impl OidcProviderBuilder {
    /// Plain http on 127.0.0.1; accounts `alice` (group `staff`) and `bob` (group `guests`) with a verified e-mail address, groups and
    /// names, also in the ID token; one confidential `client_id` whose redirect URI is `redirect_uri`.
    #[must_use]
    pub fn new(redirect_uri: &str) -> Self {
        let account = |sub: &str, name: &str, groups: &[&str]| {
            json!({
                "sub": sub,
                "password": PASSWORD,
                "claims": {
                    "email": format!("{sub}@example.test"), "email_verified": true, "groups": groups,
                    "preferred_username": sub, "name": name,
                },
            })
        };
        let config = json!({
            "host": "127.0.0.1",
            "clients": [{
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "redirect_uris": [redirect_uri],
                "grant_types": ["authorization_code", "refresh_token"],
                "response_types": ["code"],
            }],
            "accounts": [account("alice", "Alice Adams", &["staff", "users"]), account("bob", "Bob Brown", &["guests"])],
            "conform_id_token_claims": false,
            "control": true,
        });
        Self { config, tls: None }
    }

    /// https, with a certificate of this authority; `host` (`127.0.0.1` or `localhost`) stands in the issuer.
    #[must_use]
    pub fn tls(mut self, authority: &CertificateAuthority, host: &str) -> Self {
        let leaf = authority.leaf(&[host]);
        self.config["host"] = json!(host);
        self.config["tls"] = json!({ "cert_file": leaf.certificate_file(), "key_file": leaf.key_file() });
        self.tls = Some((leaf, authority.client_config()));
        self
    }

    /// https as by [`OidcProviderBuilder::tls`], where clients may prove themselves by a certificate of `clients` or one that they registered
    /// (RFC 8705 §2). With [`Asked::AtAliases`] certificates count at the endpoints of `mtls_endpoint_aliases` alone.
    #[must_use]
    pub fn mutual_tls(self, authority: &CertificateAuthority, host: &str, clients: &CertificateAuthority, asked: Asked) -> Self {
        let mut made = self.tls(authority, host);
        made.config["tls"]["client_ca_file"] = json!(clients.file());
        made.config["tls"]["mtls_aliases"] = json!(asked == Asked::AtAliases);
        made
    }

    /// Beside [`OidcProviderBuilder::tls`]: asks for certificates of this authority, and binds to them the tokens of clients that want it.
    #[must_use]
    pub fn client_certificates(mut self, authority: &CertificateAuthority) -> Self {
        self.config["tls"]["client_ca_file"] = json!(authority.file());
        self
    }

    /// Sets a key of the provider's configuration (see `tests/provider/server.mjs`).
    #[must_use]
    pub fn set(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Sets a key of the first client's metadata: `redirect_uris`, `token_endpoint_auth_method`, `post_logout_redirect_uris`…
    #[must_use]
    pub fn client(mut self, key: &str, value: Value) -> Self {
        self.config["clients"][0][key] = value;
        self
    }

    /// The first client has no secret: it proves itself by this method.
    #[must_use]
    pub fn without_secret(mut self, method: &str) -> Self {
        self.config["clients"][0].as_object_mut().expect("a client is an object").remove("client_secret");
        self.client("token_endpoint_auth_method", json!(method))
    }

    /// Adds a client as it is.
    #[must_use]
    pub fn add_client(mut self, client: Value) -> Self {
        self.config["clients"].as_array_mut().expect("clients is a list").push(client);
        self
    }

    /// Adds an account with these claims and the usual password.
    #[must_use]
    pub fn account(mut self, sub: &str, claims: Value) -> Self {
        let account = json!({ "sub": sub, "password": PASSWORD, "claims": claims });
        self.config["accounts"].as_array_mut().expect("accounts is a list").push(account);
        self
    }

    /// Tells the first client of ended sessions at this URI (OpenID Connect Back-Channel Logout 1.0); its ID tokens hold `sid` then. The provider
    /// waits 2.5 s for the answer, and goes on whatever it is.
    #[must_use]
    pub fn backchannel_logout(self, uri: &str) -> Self {
        self.client("backchannel_logout_uri", json!(uri)).client("backchannel_logout_session_required", json!(true))
    }

    /// Each refresh gives a new refresh token; a used one that comes back ends the grant. (Refresh tokens are issued in any case.)
    #[must_use]
    pub fn rotating_refresh_tokens(self) -> Self {
        self.set("rotate_refresh", json!(true))
    }

    /// How long access tokens, ID tokens and refresh tokens live, in seconds.
    #[must_use]
    pub fn lifetimes(self, access_token: u64, id_token: u64, refresh_token: u64) -> Self {
        self.set("ttl", json!({ "AccessToken": access_token, "IdToken": id_token, "RefreshToken": refresh_token }))
    }

    /// What logins can be worth: the first is a plain one's `acr` (by default `pwd`, then `mfa`). An ID token names its `acr` only where the
    /// authorization request asked for one.
    #[must_use]
    pub fn acr_values(self, values: &[&str]) -> Self {
        self.set("acr_values", json!(values))
    }

    /// Starts it.
    pub async fn start(self) -> OidcProvider {
        let mut provider = OidcProvider { builder: self, issuer: String::new(), port: 0, process: None };
        // A port outside of what outgoing connections are given: one that the system chose could be taken while the provider is down.
        for _ in 0..20 {
            if provider.launch(free_port()).await {
                return provider;
            }
        }
        panic!("the provider found no free port");
    }
}

/// Where certificates are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// At every endpoint.
    Everywhere,
    /// At those of `mtls_endpoint_aliases` (RFC 8705 §5).
    AtAliases,
}

/// What comes of `acr_values` that the provider's session is not worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcrMode {
    /// The login form, and with the password the `acr` is there.
    Granted,
    /// No more than a plain login, and the ID token says so.
    Ignored,
    /// `error=unmet_authentication_requirements` at once, without a page.
    Refused,
}

/// The running provider; it ends when the value is dropped.
pub struct OidcProvider {
    builder: OidcProviderBuilder,
    issuer: String,
    port: u16,
    process: Option<Process>,
}

impl OidcProvider {
    /// One with the defaults of [`OidcProviderBuilder::new`].
    pub async fn start(redirect_uri: &str) -> Self {
        OidcProviderBuilder::new(redirect_uri).start().await
    }

    /// Its issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// What it has written to stderr.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    /// How often an endpoint was asked: `discovery`, `jwks`, `authorization`, `token`, `userinfo`, `revocation`, `end_session`… The token
    /// endpoint also counts by grant type: `token:authorization_code`, `token:refresh_token`. These names hold for [`OidcProvider::delay`]
    /// and [`OidcProvider::fail`] too.
    pub async fn count(&self, endpoint: &str) -> u64 {
        let counts = self.counts().await;
        counts[endpoint].as_u64().unwrap_or_else(|| panic!("no endpoint {endpoint} in {counts}"))
    }

    /// How often each endpoint was asked.
    pub async fn counts(&self) -> Value {
        self.http().get(&format!("{}/control/counts", self.issuer)).await.json()
    }

    /// Counts from 0 again; delays, failures and [`AcrMode`]s end.
    pub async fn reset(&self) {
        self.control("reset", json!({})).await;
    }

    /// Every answer of `endpoint` comes that much later, until [`OidcProvider::reset`].
    pub async fn delay(&self, endpoint: &str, milliseconds: u64) {
        self.control("delay", json!({ "endpoint": endpoint, "ms": milliseconds })).await;
    }

    /// `endpoint` answers with this status (0: closes the connection) for the next `times` requests.
    pub async fn fail(&self, endpoint: &str, status: u16, times: u64) {
        self.control("fail", json!({ "endpoint": endpoint, "status": status, "times": times })).await;
    }

    /// What comes of `acr_values` from now on, until [`OidcProvider::reset`].
    pub async fn acr(&self, mode: AcrMode) {
        let mode = match mode {
            AcrMode::Granted => "granted",
            AcrMode::Ignored => "ignored",
            AcrMode::Refused => "refused",
        };
        self.control("acr", json!({ "mode": mode })).await;
    }

    /// Ends the process: from now on nobody is there.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts it again with the same issuer; its keys, sessions and grants are new.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "the provider was not stopped");
        assert!(self.launch(self.port).await, "port {} was taken while the provider was down", self.port);
    }

    /// False when somebody else has the port.
    async fn launch(&mut self, port: u16) -> bool {
        self.builder.config["port"] = json!(port);
        let script = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/provider/server.mjs"));
        let modules = script.with_file_name("node_modules");
        assert!(modules.is_dir(), "{} is missing: run tests/run, it installs what the tests need", modules.display());
        let node = std::env::var_os("DOORWARD_TEST_NODE").unwrap_or_else(|| "node".into());
        // The pipe is closed when this process ends, however it ends; the script ends then.
        let process = Launch::new(node).arg(script).arg(self.builder.config.to_string()).with_stdin().start();
        let Some(line) = process.try_wait_for_line(|line| line.starts_with('{'), PATIENCE).await else {
            let output = process.output();
            assert!(output.contains("EADDRINUSE"), "the provider does not start:\n{output}");
            return false;
        };
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        self.issuer = ready["issuer"].as_str().expect("the provider says its issuer").to_owned();
        self.port = ready["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("the provider says its port");
        self.process = Some(process);
        true
    }

    async fn control(&self, action: &str, body: Value) {
        let url = format!("{}/control/{action}", self.issuer);
        let answer = self.http().fetch(Request::post(url).body(full(body.to_string())).expect("a request")).await;
        assert!(answer.status.is_success(), "control/{action} {body}: {}", answer.text());
    }

    fn http(&self) -> HttpClient {
        let client = HttpClient::new().at(self.address());
        match &self.builder.tls {
            Some((_, config)) => client.trusting(Arc::clone(config)),
            None => client,
        }
    }
}

/// Walks from an answer that leads to the provider through its login form (if it shows one) to the first page that redirects, or posts
/// a form, to the host of `redirect_uri`. That page is returned and not followed: `browser.follow(&page)` (or `browser.submit(&page,
/// &page.form(), &[])` under `form_post`) is then the callback.
pub async fn walk_to_callback(browser: &mut Browser, page: Page, user: &str, password: &str, redirect_uri: &str) -> Page {
    let redirect = Url::parse(redirect_uri).unwrap_or_else(|error| panic!("{redirect_uri:?} is no URL: {error}"));
    let comes_back = |url: &Url| url.origin() == redirect.origin() && url.path() == redirect.path();
    let mut page = page;
    let mut logged_in = false;
    for _ in 0..20 {
        if let Some(next) = page.next() {
            if comes_back(&next) {
                return page;
            }
            page = browser.follow(&page).await;
            continue;
        }
        let forms = page.forms();
        if forms.iter().any(|form| page.url.join(&form.action).is_ok_and(|url| comes_back(&url))) {
            return page;
        }
        let login = forms.iter().find(|form| !form.password_fields.is_empty());
        let form = login.unwrap_or_else(|| panic!("no login form in {}\n{}", page.summary(), page.text()));
        assert!(!logged_in, "{user} was not let in: {}", page.visible_text());
        logged_in = true;
        page = browser.submit(&page, form, &[("login", user), ("password", password)]).await;
    }
    panic!("no way back to {redirect_uri}; last: {}", page.summary());
}

/// Logs in with the usual password, from an answer that leads to the provider to the answer of the callback.
pub async fn log_in(browser: &mut Browser, page: Page, user: &str, redirect_uri: &str) -> Page {
    log_in_with(browser, page, user, PASSWORD, redirect_uri).await
}

/// The same with another password.
pub async fn log_in_with(browser: &mut Browser, page: Page, user: &str, password: &str, redirect_uri: &str) -> Page {
    let page = walk_to_callback(browser, page, user, password, redirect_uri).await;
    if page.next().is_some() { browser.follow(&page).await } else { browser.submit(&page, &page.form(), &[]).await }
}
