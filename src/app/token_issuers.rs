//! Issuers of bearer tokens: by their keys, by asking them, or both.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::kept::Keeping;
use super::providers::http;
use crate::clock::SharedClock;
use crate::config::{self, Config, TokenIssuer, TokenKeys, TokenTyp};
use crate::fault::Outage;
use crate::provider::CallTimes;
use crate::provider::http::Http;
use crate::provider::introspection::{IntrospectionEndpoint, IntrospectionPlace};
use crate::provider::issuer_metadata::IssuerMetadata;
use crate::provider::keys::{JwksCache, ResolveJwksUri, over_http};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::token::{AccessTokenRules, Audience, IntrospectionRules, TokenType};
use crate::verify::{IntrospectionVerifier, JwtVerifier, OpaqueTokens, TokenMemory, TokenVerifier, Verifiers};

/// What all issuers are made with.
struct Around<'a> {
    clock: &'a SharedClock,
    tasks: &'a Tasks,
    leeway: Duration,
}

/// What is known of one issuer.
struct Known {
    keys: Arc<JwksCache>,
    opaque: Option<Arc<dyn TokenVerifier>>,
}

pub(super) fn verifiers(config: &Config, keeping: &Keeping<'_>, clock: &SharedClock, tasks: &Tasks, metrics: &Arc<Metrics>) -> Verifiers {
    let around = Around { clock, tasks, leeway: config.gateway.leeway };
    // What was verified stays so for as long as nothing is said otherwise about any issuer.
    let Ok(memory) =
        keeping.same(("verified tokens", ""), &["token_issuer", "provider"], || Ok::<_, Infallible>(Arc::new(TokenMemory::new())));
    let mut by_keys: Vec<Arc<dyn TokenVerifier>> = Vec::new();
    let mut opaque: Option<Arc<dyn TokenVerifier>> = None;
    for (index, issuer) in config.token_issuers.iter().enumerate() {
        let Ok(known) = keeping.same(("token issuer", &issuer.issuer), &[&format!("token_issuer[{index}]"), "provider"], || {
            let Asked { http, times, metadata, keys } = Asked::new(config, issuer, clock, tasks, metrics);
            let introspection = issuer.introspection.as_ref();
            let opaque =
                introspection.map(|asked| Arc::new(around.introspection(issuer, asked, http, times, metadata)) as Arc<dyn TokenVerifier>);
            Ok::<_, Infallible>(Known { keys, opaque })
        });
        by_keys.push(Arc::new(JwtVerifier::new(
            around.rules(issuer),
            issuer.mapping.clone(),
            Arc::clone(&known.keys),
            Arc::clone(&memory),
        )));
        if let Some(known) = &known.opaque {
            opaque = Some(Arc::clone(known));
        }
    }
    Verifiers::new(by_keys, opaque, Arc::clone(&memory), Arc::clone(clock))
}

/// One issuer, as it is asked.
pub(super) struct Asked {
    http: Http,
    times: CallTimes,
    pub(super) metadata: Arc<IssuerMetadata>,
    pub(super) keys: Arc<JwksCache>,
}

impl Asked {
    /// Nothing is fetched yet.
    pub(super) fn new(config: &Config, issuer: &TokenIssuer, clock: &SharedClock, tasks: &Tasks, metrics: &Arc<Metrics>) -> Self {
        let http = http(config, &issuer.tls, issuer.proxy.as_ref(), tasks);
        let times = CallTimes::new(&issuer.issuer, Arc::clone(clock), Arc::clone(metrics));
        let metadata = IssuerMetadata::new(issuer.issuer.clone(), http.clone(), times.clone(), issuer.bearer.clone(), Arc::clone(clock));
        let metadata = Arc::new(metadata);
        let keys = Around { clock, tasks, leeway: config.gateway.leeway }.keys(issuer, &http, &times, &metadata);
        Self { http, times, metadata, keys }
    }
}

impl Around<'_> {
    fn keys(&self, issuer: &TokenIssuer, http: &Http, times: &CallTimes, metadata: &Arc<IssuerMetadata>) -> Arc<JwksCache> {
        let resolve: ResolveJwksUri = match &issuer.keys {
            TokenKeys::File(file) => return Arc::new(JwksCache::of_file(file.clone(), Arc::clone(self.clock), self.tasks.clone())),
            TokenKeys::At(uri) => {
                let uri = uri.clone();
                Box::new(move || {
                    let uri = uri.clone();
                    Box::pin(async move { Ok(uri) })
                })
            }
            TokenKeys::Discovered => {
                let metadata = Arc::clone(metadata);
                Box::new(move || {
                    let metadata = Arc::clone(&metadata);
                    Box::pin(async move { metadata.jwks_uri().await.map_err(Outage::keys) })
                })
            }
        };
        let fetch = over_http(http.clone(), times.clone(), issuer.bearer.clone(), resolve);
        Arc::new(JwksCache::new(fetch, Arc::clone(self.clock), self.tasks.clone()))
    }

    fn rules(&self, issuer: &TokenIssuer) -> AccessTokenRules {
        AccessTokenRules {
            issuer: issuer.issuer.clone(),
            audience: audience(issuer),
            algorithms: issuer.algorithms.clone(),
            typ: match issuer.typ {
                TokenTyp::AtJwt => TokenType::AtJwt,
                TokenTyp::Any => TokenType::Any,
                TokenTyp::IdToken => TokenType::IdToken,
            },
            client_id: issuer.client_id.clone(),
            scope_claim: issuer.scope_claim.clone(),
            leeway: self.leeway,
        }
    }

    fn introspection(
        &self,
        issuer: &TokenIssuer,
        introspection: &config::Introspection,
        http: Http,
        times: CallTimes,
        metadata: Arc<IssuerMetadata>,
    ) -> IntrospectionVerifier {
        let place = introspection.endpoint.clone().map_or(IntrospectionPlace::Discovered(metadata), IntrospectionPlace::At);
        let registration = (introspection.client_id.clone(), introspection.auth.clone());
        let endpoint = IntrospectionEndpoint::new(place, issuer.issuer.clone(), registration, (http, times), Arc::clone(self.clock));
        let user = &issuer.mapping.user;
        let rules = IntrospectionRules {
            issuer: issuer.issuer.clone(),
            scope_claim: issuer.scope_claim.clone(),
            user_claim: (user.as_str() != "sub").then(|| user.clone()),
            leeway: self.leeway,
        };
        let tokens = OpaqueTokens { rules, audience: audience(issuer), mapping: issuer.mapping.clone(), cache: introspection.cache };
        IntrospectionVerifier::new(tokens, endpoint, Arc::clone(self.clock), self.tasks.clone())
    }
}

fn audience(issuer: &TokenIssuer) -> Audience {
    issuer.audience.clone().map_or(Audience::Any, |names| Audience::AnyOf(names.into()))
}
