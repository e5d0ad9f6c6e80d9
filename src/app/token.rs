//! The token endpoint: who checks what apps show there.

use std::sync::Arc;

use http::StatusCode;

use super::providers::{guesses, http};
use crate::authenticate::{Registration, SessionTokens};
use crate::clock::SharedClock;
use crate::config::{self, Config, ErrorStatus, ForeignKind, PasswordsAt};
use crate::endpoint::TokenEndpoint;
use crate::header::PreparedHeaders;
use crate::provider::direct::{
    CheckSettings, Direct, DirectSettings, Exchange, Facebook, FacebookSettings, ForeignSource, ForeignToken, HowChecked, Issue, Passwords,
    TokenCheck,
};
use crate::provider::local::LocalProvider;
use crate::provider::{CallTimes, IdentityProvider, OpenIdProvider};
use crate::store::Sessions;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::token::Issuer;

/// What it is made of.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) providers: &'a [Arc<OpenIdProvider>],
    pub(super) local: Option<&'a Arc<LocalProvider>>,
    pub(super) sessions: &'a Arc<Sessions<PreparedHeaders>>,
    pub(super) clock: &'a SharedClock,
    pub(super) tasks: &'a Tasks,
    pub(super) metrics: &'a Arc<Metrics>,
}

impl Parts<'_> {
    /// The endpoint, where the config has one.
    pub(super) fn endpoint(&self) -> Option<TokenEndpoint> {
        let token = self.config.token.as_ref()?;
        let passwords = token.passwords.as_ref().and_then(|at| match at {
            PasswordsAt::Local => self.local.cloned().map(Passwords::Local),
            PasswordsAt::Provider(id) => self.provider(id).map(Passwords::Provider),
        });
        let settings = DirectSettings {
            passwords,
            foreign: token.foreign.iter().filter_map(|one| self.foreign(one)).collect(),
            issue: match token.issue {
                config::Issue::Session => Issue::Session,
                config::Issue::Provider => Issue::Provider,
            },
            guesses: guesses(self.config),
        };
        let direct = Direct::new(settings, Arc::clone(self.sessions), Arc::clone(self.clock));
        let refused = match token.error_status {
            ErrorStatus::BadRequest => StatusCode::BAD_REQUEST,
            ErrorStatus::Unauthorized => StatusCode::UNAUTHORIZED,
        };
        Some(TokenEndpoint { path: token.path.clone(), direct: Arc::new(direct), refused, lifetime: token.lifetime })
    }

    fn provider(&self, id: &str) -> Option<Arc<OpenIdProvider>> {
        self.providers.iter().find(|provider| provider.id() == id).cloned()
    }

    fn foreign(&self, one: &config::ForeignToken) -> Option<ForeignToken> {
        let leeway = self.config.gateway.leeway;
        let how = match &one.kind {
            ForeignKind::Facebook { app_id, app_secret, graph_url } => {
                let settings = FacebookSettings {
                    id: one.id.clone(),
                    app_id: app_id.clone(),
                    app_secret: app_secret.clone(),
                    graph_url: graph_url.clone(),
                    mapping: one.mapping.clone(),
                    leeway,
                };
                let (http, times) = self.calls(one);
                HowChecked::Facebook(Facebook::new(settings, http, times, Arc::clone(self.clock)))
            }
            ForeignKind::Check { .. } => {
                let (http, times) = self.calls(one);
                HowChecked::Check(TokenCheck::new(check_settings(one, leeway)?, http, times, Arc::clone(self.clock)))
            }
            ForeignKind::Exchange { provider, subject_token_type, parameters } => HowChecked::Exchange(Exchange {
                provider: self.provider(provider)?,
                subject_token_type: subject_token_type.clone(),
                parameters: parameters.clone(),
            }),
        };
        Some(ForeignToken { id: one.id.clone(), parameter: one.parameter.clone(), how })
    }

    fn calls(&self, one: &config::ForeignToken) -> (crate::provider::http::Http, CallTimes) {
        let times = CallTimes::new(&one.issuer().unwrap_or_default(), Arc::clone(self.clock), Arc::clone(self.metrics));
        (http(self.config, &one.tls, self.config.proxy.as_ref(), self.tasks), times)
    }
}

fn check_settings(one: &config::ForeignToken, leeway: std::time::Duration) -> Option<CheckSettings> {
    let ForeignKind::Check { check_url, token_in, audience_claim, audience, sub_claim, expires_claim } = &one.kind else { return None };
    Some(CheckSettings {
        id: one.id.clone(),
        issuer: one.issuer()?,
        check_url: check_url.clone(),
        token_in: token_in.clone(),
        audience_claim: audience_claim.clone(),
        audience: audience.clone(),
        sub_claim: sub_claim.clone(),
        expires_claim: expires_claim.clone(),
        mapping: one.mapping.clone(),
        leeway,
    })
}

/// Whether sessions count as bearer tokens.
pub(super) fn session_tokens(config: &Config) -> SessionTokens {
    let given_out = config.token.as_ref().is_some_and(|token| token.issue == config::Issue::Session);
    if given_out { SessionTokens::Accepted } else { SessionTokens::Refused }
}

/// What sessions of foreign tokens have to agree with. Those of an exchange are the provider's.
pub(super) fn registrations(config: &Config) -> Vec<(String, Registration)> {
    let foreign = config.token.iter().flat_map(|token| &token.foreign);
    let registration = |one: &config::ForeignToken| {
        let client_id = match &one.kind {
            ForeignKind::Facebook { app_id, .. } => app_id.clone(),
            ForeignKind::Check { .. } => check_settings(one, std::time::Duration::ZERO)?.client_id(),
            ForeignKind::Exchange { .. } => return None,
        };
        Some((one.id.clone(), Registration { issuer: Issuer::One(one.issuer()?), client_id }))
    };
    foreign.filter_map(registration).collect()
}

/// For renewals, which look for the provider of every session.
pub(super) fn sources(config: &Config) -> Vec<Arc<dyn IdentityProvider>> {
    registrations(config).into_iter().map(|(id, _)| Arc::new(ForeignSource(id)) as Arc<dyn IdentityProvider>).collect()
}
