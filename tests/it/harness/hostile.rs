//! An OpenID provider that lies on demand ([`Lie`]), and an issuer of access tokens for programs. It lets everybody in at once as the
//! user a test has set, runs on whatever clock it is given, and remembers all it saw.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::browser::Now;
use super::certs::Leaf;
use super::hostile_endpoints;
pub use super::hostile_lie::{Endpoint, Lie};
pub use super::hostile_mint::LogoutLie;
pub use super::hostile_state::{ClaimsIn, ClientAuth, Params};
use super::hostile_state::{Settings, State, merged};
use super::jose::{Algorithm, random};
use super::server::{Listen, Server};
use super::wait::unix_now;

/// What the provider is to be; starts with sane defaults.
pub struct HostileBuilder {
    settings: Settings,
    discovery: Value,
    tls: Option<(Listen, String)>,
    host: String,
}

impl HostileBuilder {
    /// Another name, which starts its `kid`s: issuer A and issuer B in one test.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.settings.name);
        self
    }

    /// The registered `client_id` and its secret (by default `doorward` and a fresh one).
    #[must_use]
    pub fn client(mut self, client_id: &str, client_secret: &str) -> Self {
        client_id.clone_into(&mut self.settings.client_id);
        client_secret.clone_into(&mut self.settings.client_secret);
        self
    }

    /// The registered public keys (a JWK Set), for [`ClientAuth::PrivateKeyJwt`].
    #[must_use]
    pub fn client_keys(mut self, jwks: Value) -> Self {
        self.settings.client_keys = jwks;
        self
    }

    /// The registered redirect URIs; without this any is.
    #[must_use]
    pub fn redirect_uris(mut self, uris: &[&str]) -> Self {
        self.settings.redirect_uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
        self
    }

    /// What tokens are signed with (by default RS256).
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.settings.algorithm = algorithm;
        self
    }

    /// Where the user's claims are given (by default everywhere).
    #[must_use]
    pub fn claims_in(mut self, place: ClaimsIn) -> Self {
        self.settings.claims_in = place;
        self
    }

    /// No `iss` in the authorization response, and none promised: a provider older than RFC 9207.
    #[must_use]
    pub fn without_response_iss(mut self) -> Self {
        self.settings.response_iss = false;
        self
    }

    /// Issues refresh tokens; `rotating`: each is good once, and one that comes back ends its grant.
    #[must_use]
    pub fn refresh(mut self, rotating: bool) -> Self {
        self.settings.refresh = true;
        self.settings.rotate_refresh = rotating;
        self
    }

    /// What the token endpoint takes (by default basic and post).
    #[must_use]
    pub fn client_auth(mut self, methods: &[ClientAuth]) -> Self {
        self.settings.client_auth = methods.to_vec();
        self
    }

    /// Remembers a login, as a provider with a session does: the next one keeps `auth_time` and `acr` unless `max_age`, `acr_values` or
    /// `prompt=login` want another. Without this every login is a new one.
    #[must_use]
    pub fn remembers_login(mut self) -> Self {
        self.settings.remembers_login = true;
        self
    }

    /// Changes members of the discovery document from the first; null takes one away (`{"end_session_endpoint": null}`).
    #[must_use]
    pub fn discovery(mut self, patch: Value) -> Self {
        self.discovery = patch;
        self
    }

    /// Lifetime of its ID tokens and access tokens in seconds (by default an hour).
    #[must_use]
    pub fn lifetime(mut self, seconds: u64) -> Self {
        self.settings.lifetime = seconds;
        self
    }

    /// Its clock (by default the machine's).
    #[must_use]
    pub fn clock(mut self, now: Now) -> Self {
        self.settings.now = now;
        self
    }

    /// The host in the issuer: `127.0.0.1` (default), `localhost`, or any name that gateway and browser find at 127.0.0.1.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// https with this certificate, which names `host`.
    #[must_use]
    pub fn tls(mut self, leaf: &Leaf, host: &str) -> Self {
        self.tls = Some((Listen::Tls(leaf.server_config(&["h2", "http/1.1"])), host.to_owned()));
        self
    }

    /// Starts it.
    #[must_use]
    pub fn start(self) -> HostileProvider {
        let state = Arc::new(State::new(self.settings));
        state.lock().discovery_patch = self.discovery;
        let answering = Arc::clone(&state);
        let (listen, scheme, host) = match self.tls {
            Some((listen, host)) => (listen, "https", host),
            None => (Listen::Tcp, "http", self.host),
        };
        let server = Server::start(
            listen,
            Arc::new(move |request, peer| Box::pin(hostile_endpoints::answer(request, peer, Arc::clone(&answering)))),
        );
        state.lock().issuer = format!("{scheme}://{host}:{}", server.address().port());
        HostileProvider { state, server }
    }
}

/// The provider; it answers until the value is dropped.
pub struct HostileProvider {
    pub(super) state: Arc<State>,
    server: Server,
}

impl HostileProvider {
    /// An honest one with the defaults.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// What else it can be.
    #[must_use]
    pub fn builder() -> HostileBuilder {
        let settings = Settings {
            name: "hostile".to_owned(),
            client_id: "doorward".to_owned(),
            client_secret: random(),
            client_keys: json!({ "keys": [] }),
            redirect_uris: Vec::new(),
            algorithm: Algorithm::Rs256,
            claims_in: ClaimsIn::Both,
            response_iss: true,
            refresh: false,
            rotate_refresh: false,
            client_auth: vec![ClientAuth::Basic, ClientAuth::Post],
            lifetime: 3600,
            remembers_login: false,
            now: Arc::new(unix_now),
        };
        HostileBuilder { settings, discovery: json!({}), tls: None, host: "127.0.0.1".to_owned() }
    }

    /// Its issuer.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.state.lock().issuer.clone()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The registered `client_id`.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.state.settings.client_id
    }

    /// Its secret.
    #[must_use]
    pub fn client_secret(&self) -> &str {
        &self.state.settings.client_secret
    }

    /// Lies from now on; [`Lie::None`] ends it.
    pub fn set(&self, lie: Lie) {
        let mut inner = self.state.lock();
        inner.lie = lie;
        inner.rotated = false;
    }

    /// Who logs in from now on: claims with `sub`, in place of the former ones.
    pub fn set_user(&self, claims: Value) {
        self.state.lock().claims = claims;
    }

    /// Changes claims of the user; null takes one away.
    pub fn change_user(&self, patch: Value) {
        let mut inner = self.state.lock();
        inner.claims = merged(&inner.claims, &patch);
    }

    /// Changes members of the discovery document; null takes one away.
    pub fn change_discovery(&self, patch: Value) {
        let mut inner = self.state.lock();
        overlay(&mut inner.discovery_patch, patch);
    }

    /// Lifetime in seconds of the access tokens given out from now on, and whether answers say it (`expires_in`).
    pub fn set_expires_in(&self, seconds: u64, said: bool) {
        let mut inner = self.state.lock();
        (inner.expires_in, inner.says_expires_in) = (seconds, said);
    }

    /// Lifetime in seconds of the refresh tokens given out from now on; answers say it (`refresh_expires_in`).
    pub fn set_refresh_expires_in(&self, seconds: u64) {
        self.state.lock().refresh_expires_in = Some(seconds);
    }

    /// Ends every grant, as an administrator does: no token given out so far is good any more.
    pub fn end_grants(&self) {
        let mut inner = self.state.lock();
        let all = 1..=inner.grant_count;
        inner.ended_grants.extend(all);
    }

    /// How many refreshes are under way at this moment. One whose caller went away counts until the provider notices that.
    #[must_use]
    pub fn refreshes_under_way(&self) -> usize {
        self.state.lock().refreshing.values().sum()
    }

    /// The highest number of refreshes that were under way at once for one refresh token.
    #[must_use]
    pub fn refreshes_at_once(&self) -> usize {
        self.state.lock().refreshing_most
    }

    /// Parameters of the revocation requests (RFC 7009) that were honoured, in order.
    #[must_use]
    pub fn revocations(&self) -> Vec<Params> {
        self.state.lock().revocations.clone()
    }

    /// Signs with a new key from now on; the former ones stay in the JWKS.
    pub fn rotate_keys(&self) {
        self.state.lock().rotate(&self.state.settings);
    }

    /// Takes the former keys out of the JWKS.
    pub fn forget_former_keys(&self) {
        self.state.lock().former_keys.clear();
    }

    /// How often an endpoint was asked.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.state.lock().counts.get(&endpoint).copied().unwrap_or(0)
    }

    /// Counts from 0 again and forgets requests and complaints (not secrets, codes and tokens).
    pub fn reset_counts(&self) {
        let mut inner = self.state.lock();
        inner.counts.clear();
        inner.complaints.clear();
        inner.authorizations.clear();
        inner.token_requests.clear();
        inner.client_auths.clear();
        inner.logouts.clear();
        inner.revocations.clear();
        inner.refreshing_most = 0;
    }

    /// What the gateway did that an honest provider refuses: empty after a good login.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.state.lock().complaints.clone()
    }

    /// Every secret seen or issued, with its kind: `client_secret`, `code`, `code_verifier`, `state`, `nonce`, `access_token`,
    /// `id_token`, `refresh_token`, `logout_token`. None of them may stand in a log.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, String)> {
        self.state.lock().secrets.clone()
    }

    /// Parameters of the authorization requests, in order.
    #[must_use]
    pub fn authorizations(&self) -> Vec<Params> {
        self.state.lock().authorizations.clone()
    }

    /// Parameters of the token requests, in order.
    #[must_use]
    pub fn token_requests(&self) -> Vec<Params> {
        self.state.lock().token_requests.clone()
    }

    /// How the token and revocation requests were authenticated, in order.
    #[must_use]
    pub fn client_auths(&self) -> Vec<ClientAuth> {
        self.state.lock().client_auths.clone()
    }

    /// Parameters of the logout requests, in order.
    #[must_use]
    pub fn logouts(&self) -> Vec<Params> {
        self.state.lock().logouts.clone()
    }

    /// The keys as `/jwks` gives them at the moment (not counted).
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.state.lock().jwks()
    }

    /// Nobody listens any more.
    pub async fn stop(&self) {
        self.server.stop().await;
    }

    /// Listens again at the same address.
    pub fn start_again(&self) {
        self.server.start_again();
    }
}

/// Lays one object over another; null stays, to take something away later.
fn overlay(base: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { panic!("{patch} is no object") };
    for (name, value) in patch {
        base[name] = value;
    }
}
