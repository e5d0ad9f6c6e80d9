//! A gateway that answers nobody: the whole of a config, wired so that nothing it would wait for is ever asked, for `doorward explain`.

use std::net::IpAddr;
use std::sync::Arc;

use http::Request;

use super::StartError;
use super::generation::{Generation, Standing};
use crate::clock::SharedClock;
use crate::config::{Config, StoreKind, Upstream};
use crate::credential::{Authenticated, Authentication, CredentialKind};
use crate::endpoint::Gateway;
use crate::endpoint::explain::{self, Explained, Supposed};
use crate::fault::Fault;
use crate::identity::{ClaimMapping, Claims, Identity, Source, texts};
use crate::provider::api_keys;
use crate::provider::local::LOCAL;
use crate::route::{Route, RouteAudience};
use crate::secret::{SealRing, random};
use crate::server::{Drain, RequestBody};
use crate::store::memory::Memory;
use crate::store::{SessionStore, Sessions};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::token::{Audience, supposed};
use crate::upstream::{Neighbours, UpstreamAddress};
use crate::verify;

/// What is asked.
pub struct Question {
    /// The request, with its host in `Host`.
    pub request: Request<RequestBody>,
    /// Who connects.
    pub peer: IpAddr,
    /// Who is supposed to be signed in, or to show something; `None`: nobody.
    pub supposition: Option<Supposition>,
}

/// Whose a credential is supposed to be.
pub struct Supposition {
    /// What whoever vouches says of them.
    pub claims: Claims,
    /// By what they are known; `None`: by what the request shows, else by the first that the route takes.
    pub kind: Option<CredentialKind>,
    /// Who vouches, in the words of a route's `provider`; `None`: by `iss` of the claims, else the first that the route takes.
    pub provider: Option<String>,
}

/// Why nothing can be told.
#[derive(Debug)]
pub enum NotExplained {
    /// The gateway would not start.
    Config(StartError),
    /// What was asked does not go together: what was expected instead.
    Question(String),
}

/// What would happen to a request. Nothing is asked of the network, and no store is opened.
///
/// # Errors
/// What stops a gateway of this config from starting, and questions that do not go together.
pub fn explained(config: Config, clock: SharedClock, question: Question) -> Result<Explained, NotExplained> {
    // Nobody drives this runtime: what is handed to it never begins.
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(StartError::new).map_err(NotExplained::Config)?;
    let tasks = Tasks::new(runtime.handle().clone());
    let entered = runtime.enter();
    let upstreams: Vec<_> = config.routes.upstreams.iter().map(leads).collect();
    let vouching = Vouching::of(&config);
    let gateway = at_rest(config, &clock, &tasks).map_err(NotExplained::Config)?;
    let Question { request, peer, supposition } = question;
    let supposition = supposition.as_ref();
    let who = |route: &Route, kind| match supposition {
        Some(supposition) => vouching.authentication(&gateway, supposition, route, kind),
        None => Err("--as: expected claims".to_owned()),
    };
    let supposed = supposition.map(|supposition| Supposed { kind: supposition.kind, who: &who });
    let explained = explain::explain(&gateway, &upstreams, request, peer, supposed.as_ref()).map_err(NotExplained::Question);
    drop(entered);
    explained
}

/// Where an upstream leads, as it is told.
fn leads(upstream: &Upstream) -> explain::Leads {
    match upstream.address() {
        Some(UpstreamAddress::Static(status)) => explain::Leads::Answer(*status),
        _ => explain::Leads::To(upstream.to_string()),
    }
}

/// The first generation of a gateway, on a store that nothing is in and with a key that seals nothing.
fn at_rest(config: Config, clock: &SharedClock, tasks: &Tasks) -> Result<Arc<Gateway>, StartError> {
    let store: Arc<dyn SessionStore> = Arc::new(Memory::new(Arc::clone(clock)));
    let ring = Arc::new(SealRing::new(&[random()]).ok_or_else(|| StartError::new("no sealing key"))?);
    let lifetimes = config.session.lifetimes;
    let sessions = Sessions::new(Arc::clone(&store), None, Arc::clone(&ring), Arc::clone(clock), lifetimes, tasks.clone());
    let standing = Standing {
        tracer: None,
        clock: Arc::clone(clock),
        tasks: tasks.clone(),
        metrics: Metrics::new(),
        drain: Drain::new(),
        store,
        store_kind: StoreKind::Memory,
        sessions: Arc::new(sessions),
        ring,
        outgoing: config.outgoing.iter().map(|outgoing| (outgoing.id.clone(), outgoing.listen.clone())).collect(),
        neighbours: Neighbours::new(Arc::clone(clock), tasks.clone(), Metrics::new()),
        start: config.marks.clone(),
    };
    Ok(Arc::clone(&Generation::make(config, &standing, None)?.gateway))
}

/// Whoever vouches for people and programs, as the config has them.
struct Vouching {
    providers: Vec<crate::config::Provider>,
    foreign: Vec<crate::config::ForeignToken>,
    issuers: Vec<crate::config::TokenIssuer>,
    keys: Option<String>,
    users: Option<String>,
}

impl Vouching {
    fn of(config: &Config) -> Self {
        Self {
            providers: config.providers.clone(),
            foreign: config.token.as_ref().map(|token| token.foreign.clone()).unwrap_or_default(),
            issuers: config.token_issuers.clone(),
            keys: config.api_keys.as_ref().map(|keys| keys.issuer.clone()),
            users: config.users.as_ref().map(|users| users.issuer.clone()),
        }
    }

    /// What the supposed claims come to, read as those of a real credential are.
    fn authentication(
        &self,
        gateway: &Gateway,
        supposition: &Supposition,
        route: &Route,
        kind: CredentialKind,
    ) -> Result<Authentication, String> {
        let read = match kind {
            CredentialKind::Session => self.signed_in(gateway, supposition, route),
            CredentialKind::Bearer => self.token(gateway, supposition, route),
            CredentialKind::Basic => self.of_place(gateway, LOCAL, &supposition.claims),
            CredentialKind::ApiKey => self.key(&supposition.claims),
            CredentialKind::Certificate => {
                Ok(Ok(gateway.authenticator.certificates.known_as(sub(&supposition.claims)?, supposition.claims.clone())))
            }
        }?;
        Ok(match read {
            Ok(identity) => Authentication::Authenticated(Authenticated { identity: Arc::new(identity), by: kind }),
            Err(fault) => Authentication::Rejected(fault),
        })
    }

    fn signed_in(&self, gateway: &Gateway, supposition: &Supposition, route: &Route) -> Read {
        let takes = |id: &str| route.accept().is_none_or(|accept| accept.takes_provider(id));
        let places = || self.places();
        let said = supposition.claims.get("iss").and_then(serde_json::Value::as_str);
        let of_tenant = || self.providers.iter().find(|provider| said.is_some_and(|said| provider.issuers.is(said)));
        let named = || places().find(|(_, issuer)| said.is_some_and(|said| said == *issuer)).map(|(id, _)| id.to_owned());
        let by_issuer = || of_tenant().map(|provider| provider.id.clone()).or_else(named);
        let first = || places().map(|(id, _)| id).find(|id| takes(id)).map(str::to_owned);
        let id = supposition.provider.clone().or_else(by_issuer).or_else(first);
        let id = id.ok_or("--provider: nobody signs people in for this route")?;
        self.of_place(gateway, &id, &supposition.claims)
    }

    /// Ids of the places where people sign in, with their issuers, in file order.
    fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        let providers = self.providers.iter().map(|provider| (provider.id.as_str(), provider.issuer.as_str()));
        providers.chain(self.users.iter().map(|issuer| (LOCAL, issuer.as_str())))
    }

    fn of_place(&self, gateway: &Gateway, id: &str, claims: &Claims) -> Read {
        sub(claims)?;
        if let Some(provider) = self.providers.iter().find(|provider| provider.id == id) {
            // Where the token answer names no scopes, those that were asked for were granted (RFC 6749 §5.1).
            let said = claims.get("scope").and_then(serde_json::Value::as_str);
            let scopes =
                said.map_or_else(|| provider.scopes.iter().cloned().collect(), |said| said.split(' ').map(str::to_owned).collect());
            let iss = claims.get("iss").and_then(serde_json::Value::as_str).filter(|iss| provider.issuers.is(iss));
            let issuer = iss.map(str::to_owned).or_else(|| provider.issuers.all().into_iter().next()).unwrap_or_default();
            return mapped(&issuer, id, &provider.mapping, claims).map(|identity| Ok(Identity { scopes, ..identity }));
        }
        if let Some(foreign) = self.foreign.iter().find(|foreign| foreign.id == id) {
            let issuer = foreign.issuer().ok_or_else(|| format!("--provider {id}: name the provider that exchanges such tokens"))?;
            return mapped(&issuer, id, &foreign.mapping, claims).map(Ok);
        }
        match &gateway.local {
            Some(local) if id == LOCAL => Ok(local.identity(claims.clone())),
            _ => {
                let known: Vec<&str> =
                    self.places().map(|(id, _)| id).chain(self.foreign.iter().map(|foreign| foreign.id.as_str())).collect();
                Err(format!("--provider: expected one of {}; found {id:?}", known.join(", ")))
            }
        }
    }

    /// A token of an issuer; where there is none, a session that is shown as one.
    fn token(&self, gateway: &Gateway, supposition: &Supposition, route: &Route) -> Read {
        let Supposition { claims, provider, .. } = supposition;
        let accept = route.accept();
        let takes = |issuer: &&crate::config::TokenIssuer| accept.is_none_or(|accept| accept.takes_provider(&issuer.issuer));
        let said = claims.get("iss").and_then(serde_json::Value::as_str);
        let wanted = provider.as_deref().or(said);
        let named = wanted.and_then(|wanted| self.issuers.iter().find(|issuer| issuer.issuer == wanted));
        let issuer = match (named, provider) {
            (Some(issuer), _) => issuer,
            (None, Some(id)) => return self.of_place(gateway, id, claims),
            (None, None) => match self.issuers.iter().find(takes) {
                Some(issuer) => issuer,
                None => return self.signed_in(gateway, supposition, route),
            },
        };
        let expected = match accept.map(|accept| &accept.audience) {
            Some(RouteAudience::AnyOf(list)) => Audience::AnyOf(Arc::clone(list)),
            _ => issuer.audience.clone().map_or(Audience::Any, |names| Audience::AnyOf(names.into())),
        };
        let meant: &[String] = if let Audience::AnyOf(names) = &expected { names } else { &[] };
        sub(claims)?;
        let leeway = gateway.settings.leeway;
        Ok(supposed(claims.clone(), issuer.scope_claim.as_ref(), meant, leeway).and_then(|token| {
            token.terms.judge(&expected, gateway.clock.now())?;
            let verified = verify::identity(&issuer.issuer, &issuer.mapping, token)?;
            Ok(Arc::unwrap_or_clone(verified.identity))
        }))
    }

    fn key(&self, claims: &Claims) -> Read {
        let issuer = self.keys.as_deref().ok_or("--kind api_key: the config names no file of keys")?;
        let words = |name: &str| claims.get(name).map(texts).unwrap_or_default();
        let scopes = words("scope").iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect();
        Ok(Ok(api_keys::identity(issuer, &sub(claims)?, scopes, words("groups"))))
    }
}

/// Somebody, or why a credential that says this is no good. An error is one of the question.
type Read = Result<Result<Identity, Fault>, String>;

fn sub(claims: &Claims) -> Result<String, String> {
    let sub = claims.get("sub").and_then(serde_json::Value::as_str).filter(|sub| !sub.is_empty());
    sub.map(str::to_owned).ok_or_else(|| {
        "--as: expected claims with a sub, such as {\"sub\": \"ann\", \"email\": \"ann@example.com\", \"email_verified\": true}".to_owned()
    })
}

fn mapped(issuer: &str, id: &str, mapping: &ClaimMapping, claims: &Claims) -> Result<Identity, String> {
    let identity = Identity::from_claims(issuer, Source::Provider(id.into()), mapping, claims.clone());
    identity.ok_or_else(|| format!("--as: nobody can sign in with these claims, since user_claim ({}) is no text in them", mapping.user))
}
