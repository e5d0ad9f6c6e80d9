//! From files and variables to the types that the floors below are built from. Nobody below sees a [`Config`].
//!
//! `layers` merges file, environment and flags; `reader` reads a table key by key and collects every problem; `gateway` (with `listeners`, `tls`,
//! `serving`, `forward_auth` and `pages`), `admin`, `limits`, `providers` (with `client_auth` and the files `provider_*`), `token_issuers`, `users`, `api_keys`, `certificates`, `token`, `foreign_tokens`, `outbound`, `outgoing_listeners`,
//! `routes` (with `route_group`, `route_parts`, `route_client`, `route_dry_run`, `route_login`, `route_answers`, `route_headers` and `header_file`, `route_leg`, `binding` and `token_places`), `policies` and `storage` are the tables, `outgoing` is the TLS of what they call, `assertion` what
//! concerns that in several; `plain_http` permits it off this machine; `idle` tells what does nothing; `traces` is where spans go; `secret_file` reads secrets, `marks` tells what two configs have in common. `config.toml.example` is the reference of every key.

mod admin;
mod api_keys;
mod assertion;
mod binding;
mod certificates;
mod client_auth;
mod foreign_tokens;
mod forward_auth;
mod gateway;
mod header_file;
mod idle;
mod layers;
mod limits;
mod listeners;
#[cfg(test)]
mod listening_tests;
mod marks;
mod outbound;
mod outgoing;
mod outgoing_listeners;
mod pages;
mod plain_http;
mod policies;
mod problem;
mod provider_authorize;
mod provider_callback;
mod provider_claims;
mod provider_places;
mod provider_proxy;
mod provider_tenants;
mod providers;
mod reader;
mod route_answers;
mod route_client;
mod route_dry_run;
mod route_group;
mod route_headers;
mod route_http2;
mod route_leg;
mod route_login;
mod route_parts;
mod routes;
mod secret_file;
mod serving;
mod storage;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod token_issuers;
mod token_places;
mod traces;
mod users;
#[cfg(test)]
mod wrong_values_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use admin::Admin;
pub use api_keys::ApiKeys;
pub use assertion::AssertionKeys;
pub use certificates::ClientCertificates;
pub use foreign_tokens::{ForeignKind, ForeignToken};
pub use gateway::{Drain, Gateway, Log, LogFormat, LogUser};
pub use layers::ENVIRONMENT_PREFIX;
pub use limits::Limits;
pub use listeners::{Listen, Listeners, Supervision};
pub use marks::{Mark, Marks};
pub use outbound::{Outbound, OutboundPlace};
pub use outgoing_listeners::{LocalListen, Outgoing};
pub use pages::Pages;
pub use problem::{Problem, Problems, Severity};
pub use providers::{Provider, ResponseMode};
pub use route_group::Entry;
pub use routes::{Routes, Upstream};
pub use storage::{Keys, RedisServers, RedisStore, SessionCookieKept, SessionSettings, Store, StoreKind, parse_keys};
pub use token::{ErrorStatus, Issue, PasswordsAt, TokenEndpoint};
pub use token_issuers::{Introspection, TokenIssuer, TokenKeys, TokenTyp};
pub use traces::{Tracing, collector_headers};
pub use users::Users;

use layers::Layers;
use reader::Reading;

use crate::credential::CredentialKind;
use crate::provider::proxy::Proxy;
use crate::route::Bound;
use crate::secret::SecretSource;

/// A config without problems, ready to build a gateway from.
pub struct Config {
    /// Listeners, hosts, limits: what concerns the whole.
    pub gateway: Gateway,
    /// Who shows it may list and end sessions through the admin listener; `None`: nobody may.
    pub admin_token: Option<SecretSource>,
    /// OpenID providers, in file order.
    pub providers: Vec<Provider>,
    /// Local accounts.
    pub users: Option<Users>,
    /// Keys of programs.
    pub api_keys: Option<ApiKeys>,
    /// The endpoint that gives out tokens; `None`: there is none.
    pub token: Option<TokenEndpoint>,
    /// Issuers of bearer tokens, in file order.
    pub token_issuers: Vec<TokenIssuer>,
    /// The environment's proxy, for calls of tables that have none of their own.
    pub proxy: Option<Proxy>,
    /// Tokens for upstreams, by [`crate::route::OutboundId`].
    pub outbound: Vec<Outbound>,
    /// Listeners for calls that leave.
    pub outgoing: Vec<Outgoing>,
    /// The routes and the upstreams they name.
    pub routes: Routes,
    /// Sessions and their cookie.
    pub session: SessionSettings,
    /// Where they are kept.
    pub store: Store,
    /// What seals them.
    pub keys: Keys,
    /// What signs assertions; `None`: no route sends any.
    pub assertion: Option<AssertionKeys>,
    /// What systemd says to the process that it starts.
    pub supervision: Supervision,
    /// Where traces are sent; `None`: nowhere.
    pub tracing: Option<Tracing>,
    /// What does not stop the start and should be known.
    pub warnings: Vec<Problem>,
    /// What was written.
    pub marks: Marks,
    /// Files whose content counts as of now, the config file itself among them: when one changes the config is to be read again.
    pub files: Vec<PathBuf>,
}

/// Where to read from.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a> {
    /// The config file, if there is one.
    pub file: Option<&'a Path>,
    /// The environment; only `DOORWARD_*` is looked at, beside the three variables that say where state is kept, those of systemd, and
    /// `HTTPS_PROXY` and `NO_PROXY`.
    pub environment: BTreeMap<String, String>,
    /// Flags, as dotted keys.
    pub flags: Vec<(String, String)>,
}

/// Reads a config.
///
/// # Errors
/// Every problem there is, warnings included, when at least one stops the start.
pub fn load(sources: &Sources<'_>) -> Result<Config, Vec<Problem>> {
    read(sources).0
}

/// Where the admin listener is, whatever else the config says: a probe has to work while somebody is mending it.
///
/// # Errors
/// Every problem of `[admin]`, or of reading the file at all.
pub fn admin_listen(sources: &Sources<'_>) -> Result<SocketAddr, Vec<Problem>> {
    let problems = Problems::default();
    let Some(layers) = Layers::load(sources.file, &sources.environment, &sources.flags, &problems) else {
        return Err(problems.into_inner());
    };
    let reading = Reading::new(&layers, &problems);
    let admin = admin::read(&reading.root());
    reading.tell_strays();
    if problems.fatal() { Err(problems.into_inner()) } else { Ok(admin.listen) }
}

/// What opens the list of sessions there, whatever else the config says; `None`: the config names nothing.
///
/// # Errors
/// Every problem of `admin.token` and `admin.token_file`, or of reading the config at all.
pub fn admin_token(sources: &Sources<'_>) -> Result<Option<SecretSource>, Vec<Problem>> {
    let problems = Problems::default();
    let Some(layers) = Layers::load(sources.file, &sources.environment, &sources.flags, &problems) else {
        return Err(problems.into_inner());
    };
    let reading = Reading::new(&layers, &problems);
    let token = admin::read_token(&reading.root());
    if problems.fatal() { Err(problems.into_inner()) } else { Ok(token) }
}

/// Every key that the code reads, as `table.key`, with `NAME` where names are free: to be held against `config.toml.example`.
#[must_use]
pub fn known_keys(sources: &Sources<'_>) -> BTreeSet<String> {
    read(sources).1
}

fn read(sources: &Sources<'_>) -> (Result<Config, Vec<Problem>>, BTreeSet<String>) {
    let problems = Problems::default();
    let Some(layers) = Layers::load(sources.file, &sources.environment, &sources.flags, &problems) else {
        return (Err(problems.into_inner()), BTreeSet::new());
    };
    layers::refuse_foreign_variables(&sources.environment, &problems);
    let reading = Reading::new(&layers, &problems);
    let root = reading.root();
    let plain = plain_http::read(&root);
    let gateway = gateway::read(&root, plain);
    let proxy = provider_proxy::of_environment(&sources.environment, &problems);
    let providers = providers::read_providers(&root, plain, proxy.as_ref());
    let token_issuers = token_issuers::read(&root, &providers, proxy.as_ref());
    let users = users::read(&root, gateway.as_ref(), &providers);
    let token = token::read(&root, gateway.as_ref().map(|gateway| gateway.prefix.as_str()), &providers, users.as_ref());
    let places = users::places(&providers, users.as_ref(), token.as_ref());
    let api_keys = api_keys::read(&root, gateway.as_ref(), &providers);
    let certificates = gateway.as_ref().filter(|gateway| gateway.sees_certificates()).map(|gateway| gateway.client_certificates.name);
    if certificates.is_some() && providers.iter().any(|provider| provider.id == policies::CERTIFICATE) {
        root.problem("provider", format!("the id {:?} is that of client certificates; choose another", policies::CERTIFICATE));
    }
    let policies = policies::read_named(&root, &places, &token_issuers, api_keys.as_ref(), certificates);
    let outbounds = outbound::read(&root, &providers);
    let mut routes = routes::read(&root, &places, &token_issuers, &policies, api_keys.as_ref(), &outbounds, certificates);
    let outgoing = outgoing_listeners::read(&root, &outbounds, routes.as_mut());
    outbounds.warn_of_unused(&root);
    if let Some(routes) = &routes {
        providers::refuse_to_tell_bound_tokens(&root, &providers, &routes.table);
        if let Some(gateway) = &gateway {
            provider_callback::refuse_conflicts(&root, gateway, &providers, token.as_ref(), &routes.table);
        }
    }
    let session = storage::read_session(&root);
    let store = storage::read_store(&root, &sources.environment);
    plain_http::warn_of_needless(&root, plain, gateway.as_ref(), &providers);
    idle::warn_of_settings(&root, gateway.as_ref(), &session, &providers, store.as_ref());
    let keys = root.section("keys");
    let assertion = assertion::read_keys(&keys, routes.as_ref());
    let keys = storage::read_keys(&keys, store.as_ref());
    let admin_token = admin::read_token(&root);
    let tracing = traces::read(&root);
    let config = assemble(&root, gateway, providers, users, token_issuers, routes, session, store, keys);
    root.finish();
    reading.tell_strays();
    if let Some(config) = config.as_ref().filter(|_| !problems.fatal()) {
        let (token_issuers, users) = (config.token_issuers.as_slice(), config.users.as_ref());
        let (token, api_keys) = (token.as_ref(), api_keys.as_ref());
        idle::warn_of_tables(&root, &config.routes, &idle::Tables { token_issuers, token, api_keys, users, certificates });
    }
    let asked = reading.asked.take();
    let files = sources.file.map(Path::to_owned).into_iter().chain(reading.files.take()).collect();
    let fatal = problems.fatal();
    let found = problems.into_inner();
    let config = match config {
        Some(mut config) if !fatal => {
            config.admin_token = admin_token;
            config.proxy = proxy;
            config.api_keys = api_keys;
            config.outbound = outbounds.all;
            config.outgoing = outgoing;
            config.assertion = assertion;
            config.tracing = tracing;
            if let Some(token) = &token {
                config.session.lifetimes.token = token.lifetime;
            }
            config.token = token;
            config.supervision = Supervision::of(&sources.environment);
            config.warnings = found;
            config.marks = Marks::of(&layers.root);
            config.files = files;
            Ok(config)
        }
        _ => Err(found),
    };
    (config, asked)
}

#[expect(clippy::too_many_arguments, reason = "one argument a table; they come together here only")]
fn assemble(
    root: &reader::Section<'_>,
    gateway: Option<Gateway>,
    providers: Vec<Provider>,
    users: Option<Users>,
    token_issuers: Vec<TokenIssuer>,
    routes: Option<Routes>,
    session: SessionSettings,
    store: Option<Store>,
    keys: Option<Keys>,
) -> Option<Config> {
    let hosts = routes.iter().flat_map(|routes| routes.table.routes()).map(|route| &route.host);
    let gateway = gateway?.with_hosts(hosts, root)?;
    serving::fit(root, &gateway, routes.as_ref(), providers.iter().filter_map(|provider| provider.callback.as_deref()));
    for route in routes.iter().flat_map(|routes| routes.table.routes()) {
        if let crate::route::PathPattern::Prefix(prefix) = &route.path
            && (prefix == &gateway.prefix || prefix.starts_with(&format!("{}/", gateway.prefix)))
        {
            root.problem(
                "route",
                format!("the path of route {:?} lies under prefix {:?}, where the gateway itself answers", route.id, gateway.prefix),
            );
        }
    }
    for route in routes.iter().flat_map(|routes| routes.table.routes()) {
        let bound = route.accept().is_some_and(|accept| accept.binding.certificate == Bound::Required);
        if (bound || route.takes(CredentialKind::Certificate)) && !gateway.sees_certificates() {
            root.problem(
                "route",
                format!(
                    "route {:?} goes by certificates, and nobody is asked for one: write tls.client_ca_file, or client_certificate.header behind a proxy that ends TLS",
                    route.id
                ),
            );
        }
    }
    if let Some(routes) = &routes {
        forward_auth::hold_against_routes(root, &gateway, &routes.table);
    }
    if let Some(provider) = providers.iter().find(|provider| provider.response_mode == ResponseMode::FormPost)
        && gateway.sites.first().scheme() == "http"
    {
        // The flow cookie needs SameSite=None there, which browsers keep only with Secure.
        root.problem("provider", format!("response_mode = \"form_post\" of {:?} needs an https public_url", provider.id));
    }
    Some(Config {
        gateway,
        admin_token: None,
        api_keys: None,
        providers,
        users,
        token: None,
        token_issuers,
        proxy: None,
        outbound: Vec::new(),
        outgoing: Vec::new(),
        routes: routes?,
        session,
        store: store?,
        keys: keys?,
        assertion: None,
        supervision: Supervision::default(),
        tracing: None,
        warnings: Vec::new(),
        marks: Marks::default(),
        files: Vec::new(),
    })
}
