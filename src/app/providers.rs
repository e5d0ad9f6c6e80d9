//! Providers of people.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::StartError;
use super::kept::Keeping;
use crate::clock::SharedClock;
use crate::config::{Config, Provider, ResponseMode};
use crate::credential::CredentialKind;
use crate::header::PreparedHeaders;
use crate::provider::api_keys::{ApiKeys, KeyFile};
use crate::provider::discovery::{self, Discovery};
use crate::provider::http::{Http, HttpSettings};
use crate::provider::keys::{JwksCache, over_http};
use crate::provider::local::{AccountSource, GuessLimits, LOCAL, LocalProvider, LocalSettings, ShownPasswords};
use crate::provider::proxy::Proxy;
use crate::provider::tls::TlsSettings;
use crate::provider::{self, CallTimes, OpenIdProvider, OpenIdSettings};
use crate::store::Sessions;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// How long to wait before a provider that did not answer is asked again at start; doubled each time up to the most.
const AGAIN: Duration = Duration::from_secs(2);
const AGAIN_MOST: Duration = Duration::from_secs(60);

/// What local accounts and keys of programs are made of. With `session`, since they hold the sessions as that judges them.
const OF_ACCOUNTS: [&str; 7] = ["user", "users_file", "api_keys", "limits", "session", "token", "provider"];

/// Providers in file order, each with its document for readiness.
pub(super) struct People {
    pub(super) providers: Vec<Arc<OpenIdProvider>>,
    pub(super) documents: Vec<(String, Arc<Discovery>)>,
}

/// One of them.
struct Known {
    provider: Arc<OpenIdProvider>,
    document: Arc<Discovery>,
}

pub(super) fn of_people(
    config: &Config,
    keeping: &Keeping<'_>,
    clock: &SharedClock,
    tasks: &Tasks,
    metrics: &Arc<Metrics>,
) -> Result<People, StartError> {
    let mut people = People { providers: Vec::new(), documents: Vec::new() };
    for (index, provider) in config.providers.iter().enumerate() {
        let known = keeping.same(("provider", &provider.id), &[&format!("provider[{index}]")], || {
            let http = http(config, &provider.tls, provider.proxy.as_ref(), tasks);
            let discovery = Arc::new(Discovery::new(
                provider.issuers.clone(),
                provider.places.clone(),
                http.clone(),
                Arc::clone(clock),
                Arc::clone(metrics),
            ));
            tasks.background(learn(provider.id.clone(), Arc::downgrade(&discovery)));
            let times = CallTimes::new(&provider.issuer, Arc::clone(clock), Arc::clone(metrics));
            let keys = keys_of(&http, times, &discovery, clock, tasks);
            let settings = settings(provider, config.gateway.leeway);
            let document = Arc::clone(&discovery);
            let made = OpenIdProvider::new(settings, http, discovery, keys, Arc::clone(clock), Arc::clone(metrics));
            Ok(Known { provider: Arc::new(made), document })
        })?;
        people.documents.push((provider.id.clone(), Arc::clone(&known.document)));
        people.providers.push(Arc::clone(&known.provider));
    }
    Ok(people)
}

/// The accounts of the config's own, if it has any. What they count and remember lies in the store of `sessions`.
pub(super) fn of_our_own(
    config: &Config,
    keeping: &Keeping<'_>,
    sessions: &Arc<Sessions<PreparedHeaders>>,
    clock: &SharedClock,
    tasks: &Tasks,
) -> Result<Option<Arc<LocalProvider>>, StartError> {
    let Some(users) = &config.users else { return Ok(None) };
    let local = keeping.same(("local accounts", ""), &OF_ACCOUNTS, || {
        let accounts = AccountSource::new(users.accounts.clone(), users.file.clone());
        let accounts = accounts.map_err(|wrong| StartError::new(format!("users_file: {}", wrong.join("; "))))?;
        let settings =
            LocalSettings { id: LOCAL.to_owned(), name: "a password".to_owned(), issuer: users.issuer.clone(), guesses: guesses(config) };
        Ok(LocalProvider::new(settings, accounts, Arc::clone(sessions), Arc::clone(clock), tasks.clone()))
    });
    local.map(Some)
}

/// Their passwords as programs show them, where a route takes those.
pub(super) fn of_passwords(
    config: &Config,
    keeping: &Keeping<'_>,
    local: Option<&Arc<LocalProvider>>,
    clock: &SharedClock,
    tasks: &Tasks,
) -> Result<Option<Arc<ShownPasswords>>, StartError> {
    let taken = config.routes.table.routes().iter().any(|route| route.takes(CredentialKind::Basic));
    let Some(local) = local.filter(|_| taken) else { return Ok(None) };
    let made = || Ok(ShownPasswords::new(Arc::clone(local), guesses(config), Arc::clone(clock), tasks.clone()));
    keeping.same(("shown passwords", ""), &OF_ACCOUNTS, made).map(Some)
}

/// Keys of programs, if the config names a file of them.
pub(super) fn of_keys(
    config: &Config,
    keeping: &Keeping<'_>,
    sessions: &Arc<Sessions<PreparedHeaders>>,
    clock: &SharedClock,
    tasks: &Tasks,
) -> Result<Option<Arc<ApiKeys>>, StartError> {
    let Some(keys) = &config.api_keys else { return Ok(None) };
    let made = keeping.same(("API keys", ""), &OF_ACCOUNTS, || {
        let file = KeyFile::new(keys.file.clone(), &keys.issuer);
        let file = file.map_err(|wrong| StartError::new(format!("api_keys.file: {}", wrong.join("; "))))?;
        let sessions = Arc::clone(sessions);
        Ok(ApiKeys::new(keys.header.clone(), file, guesses(config), sessions, Arc::clone(clock), tasks.clone()))
    });
    made.map(Some)
}

/// One count for the form and every other place where a password can be shown.
pub(super) const fn guesses(config: &Config) -> GuessLimits {
    let limits = &config.gateway.limits;
    GuessLimits { per_name: limits.guesses_per_name, per_address: limits.guesses_per_address, window: limits.guess_window }
}

fn settings(provider: &Provider, leeway: Duration) -> OpenIdSettings {
    OpenIdSettings {
        id: provider.id.clone(),
        name: provider.name.clone(),
        issuer: provider.issuers.clone(),
        client_id: provider.client_id.clone(),
        client_authentication: provider.client_auth.clone(),
        shows_certificate: provider.tls.certificate.is_some(),
        pushed: provider.pushed,
        binding: provider.binding,
        scopes: provider.scopes.clone(),
        authorize: provider.authorize.clone(),
        authorize_from_start: provider.authorize_from_start.clone(),
        callback: provider.callback.clone(),
        response_mode: match provider.response_mode {
            ResponseMode::Query => provider::ResponseMode::Query,
            ResponseMode::FormPost => provider::ResponseMode::FormPost,
        },
        algorithms: provider.algorithms.clone(),
        claims_from: provider.claims_from.clone(),
        mapping: provider.mapping.clone(),
        logout_url: provider.logout_url.clone(),
        logout_token_exp: provider.logout_token_exp,
        leeway,
    }
}

/// The keys at the provider's `jwks_uri`; where that is, its document says.
pub(super) fn keys_of(http: &Http, times: CallTimes, discovery: &Arc<Discovery>, clock: &SharedClock, tasks: &Tasks) -> JwksCache {
    let discovery = Arc::clone(discovery);
    let resolve = Box::new(move || discovery::jwks_uri_of(Arc::clone(&discovery)));
    JwksCache::new(over_http(http.clone(), times, None, resolve), Arc::clone(clock), tasks.clone())
}

/// Asks for the document until it is there, so that the first person does not wait for it and the log says early what is wrong.
async fn learn(id: String, discovery: Weak<Discovery>) {
    let mut pause = AGAIN;
    // Nobody needs it any more when no config names the provider.
    while let Some(discovery) = discovery.upgrade() {
        match discovery.document().await {
            Ok(_) => return tracing::info!(provider = id, "the provider's document was read"),
            Err(trouble) => {
                tracing::warn!(
                    provider = id,
                    reason = trouble.reason().as_str(),
                    detail = trouble.detail(),
                    "the provider's document cannot be had yet"
                );
            }
        }
        drop(discovery);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MOST);
    }
}

/// Makes calls with this TLS, through this proxy.
pub(super) fn http(config: &Config, tls: &TlsSettings, proxy: Option<&Proxy>, tasks: &Tasks) -> Http {
    let limits = config.gateway.limits;
    let settings = HttpSettings {
        connect_timeout: limits.provider_timeout / 2,
        deadline: limits.provider_timeout,
        max_bytes: limits.provider_answer_bytes,
        tls: tls.clone(),
        proxy: proxy.cloned(),
    };
    Http::new(settings, tasks.clone())
}
