//! Routes: which one a request belongs to, and what it says of access.
//!
//! `pattern` holds the laws of hosts and paths, `table` the precedence between routes and the ties that stop a start; `binding` says what tokens have
//! to be bound to, `token_place` where they are read, `outgoing` where calls that leave may go; `leg` is the way to the upstream, `path_rule` what
//! becomes of the path on it, `timeouts` how long it may take; `networks` is from where, `manner` how it answers for itself, `dry_run` that its policy is on trial, `trace` why a
//! route was not taken.

mod binding;
mod dry_run;
mod leg;
mod manner;
mod networks;
mod outgoing;
mod path_rule;
mod pattern;
mod table;
mod timeouts;
mod token_place;
mod trace;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, Method};

pub use binding::{Binding, Bound, NonceRule, ProofFate};
pub use dry_run::DryRun;
pub use leg::{Leg, ResponseHeader, UpstreamHost};
pub use manner::{DeniedText, LoginMode, PermitLines};
pub use networks::Networks;
pub use outgoing::{Listed, OutgoingHost, OutgoingHosts, OutgoingScheme};
pub use path_rule::{Moved, PathRule, Places, Rewrite, Unsteady};
pub use pattern::{HostPattern, PathPattern, PatternError};
pub use table::{RouteTable, Tie};
pub use timeouts::Timeouts;
pub use token_place::{ACCESS_TOKEN, SUBPROTOCOL_PREFIX, TokenPlace};
pub use trace::Fit;

use crate::credential::CredentialKind;
use crate::header::{AssertionRule, HeaderRule, IdentityHeader, Telling};
use crate::login::Asked;
use crate::policy::Policy;

/// Which upstream of the config: an index into the table that `app` gives to every core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamId(pub usize);

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// One `[[route]]`, ready for use.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name in logs, metrics and messages.
    pub id: String,
    /// Its place in the file; also its slot in metrics.
    pub index: usize,
    /// What no other route of this process has, not even the same one of a config that is read later: ready-made headers are kept under it.
    pub number: u64,
    /// Which hosts.
    pub host: HostPattern,
    /// Which paths.
    pub path: PathPattern,
    /// Which methods; `None`: all.
    pub methods: Option<Vec<Method>>,
    /// From where (`client`); `None`: from everywhere.
    pub networks: Option<Networks>,
    /// Where to; `None`: forward-auth only.
    pub upstream: Option<UpstreamId>,
    /// For whom.
    pub access: Access,
    /// Whom the policy would let in and who is kept out all the same: judged before it.
    pub deny: Option<Arc<Policy>>,
    /// What the login behind an identity has to be worth.
    pub asks: Asked,
    /// Who is sent to sign in.
    pub login: LoginMode,
    /// What a login that begins here asks the provider for beside its own scopes. A session that lacks one is not sent for it again.
    pub scopes: Vec<String>,
    /// What becomes of a CORS preflight without credentials.
    pub preflight: PreflightRule,
    /// What becomes of `%2f` in the path.
    pub encoded_slash: EncodedSlash,
    /// Foreign origins whose upgrades are let in (`https://app.example.com`).
    pub origins: BTreeSet<String>,
    /// Which of our headers say who it is.
    pub identity_headers: Vec<IdentityHeader>,
    /// Foreign origins whose scripts may read our own refusals.
    pub cors_origins: BTreeSet<String>,
    /// What a 403 says beside our own words.
    pub denied: Option<Arc<DeniedText>>,
    /// What is logged.
    pub permit_lines: PermitLines,
    /// Headers of the operator's own naming.
    pub headers: Vec<HeaderRule>,
    /// Whether its policy is on trial.
    pub dry_run: DryRun,
    /// A token that is added to its requests.
    pub outbound: Option<RouteOutbound>,
    /// What the assertion tells its upstream; `None`: none is sent.
    pub assertion: Option<AssertionRule>,
    /// Its way to the upstream.
    pub leg: Leg,
    /// How long the upstream may take.
    pub timeouts: Timeouts,
}

/// Which `[outbound.NAME]` of the config: an index into the table that `app` gives to the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutboundId(pub usize);

/// `outbound` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteOutbound {
    /// Which.
    pub id: OutboundId,
    /// In whose name.
    pub in_name_of: InNameOf,
}

/// In whose name a token for an upstream is obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InNameOf {
    /// The gateway's own: the same for everybody.
    Gateway,
    /// The caller's, whose access token it takes.
    Caller,
}

/// For whom a route is.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everybody; no credential is read.
    Public,
    /// Everybody; a good credential gives an identity.
    Optional(Accept),
    /// Whom the policy allows.
    Protected(Accept, Arc<Policy>),
}

/// Which credentials a route reads, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// In order of the config; at least one.
    pub kinds: Vec<CredentialKind>,
    /// Audiences that a bearer token may have.
    pub audience: RouteAudience,
    /// Who may vouch: ids of providers, issuers of tokens; `None`: all.
    pub providers: Option<Vec<String>>,
    /// Where an API key stands.
    pub api_key_header: HeaderName,
    /// Where bearer tokens are read.
    pub bearer_in: Vec<TokenPlace>,
    /// What a token has to be bound to.
    pub binding: Binding,
}

/// `audience` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAudience {
    /// What the token's issuer has configured.
    OfIssuer,
    /// One of these.
    AnyOf(Arc<[String]>),
}

/// `api_keys.header` where the config says nothing.
pub const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

impl Accept {
    /// Of these kinds, with nothing else said.
    #[must_use]
    pub fn of(kinds: Vec<CredentialKind>) -> Self {
        Self {
            kinds,
            audience: RouteAudience::OfIssuer,
            providers: None,
            api_key_header: API_KEY_HEADER,
            bearer_in: vec![TokenPlace::Authorization],
            binding: Binding::AS_THE_TOKEN_SAYS,
        }
    }

    /// Whether this kind is read.
    #[must_use]
    pub fn takes(&self, kind: CredentialKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether this kind is read in `Authorization`.
    #[must_use]
    pub fn takes_in_authorization(&self, kind: CredentialKind) -> bool {
        self.takes(kind) && (kind != CredentialKind::Bearer || self.bearer_in.contains(&TokenPlace::Authorization))
    }

    /// Whether bearer tokens are read there.
    #[must_use]
    pub fn reads_tokens_in(&self, place: &TokenPlace) -> bool {
        self.takes(CredentialKind::Bearer) && self.bearer_in.contains(place)
    }

    /// Whether this provider, or this issuer of tokens, may vouch here.
    #[must_use]
    pub fn takes_provider(&self, id: &str) -> bool {
        self.providers.as_ref().is_none_or(|providers| providers.iter().any(|provider| provider == id))
    }
}

/// `preflight` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreflightRule {
    /// Judged like every other request.
    Judge,
    /// Let through, stripped of credentials.
    Pass,
}

/// `encoded_slash` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedSlash {
    /// 400.
    Refuse,
    /// Stays opaque, in matching and forwarding.
    Keep,
}

impl Route {
    /// Of this name, place and access; for every host, path and method, without an upstream, and with nothing else said.
    #[must_use]
    pub fn new(id: impl Into<String>, index: usize, access: Access) -> Self {
        Self {
            id: id.into(),
            index,
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            host: HostPattern::Any,
            path: PathPattern::Prefix(String::new()),
            methods: None,
            networks: None,
            upstream: None,
            access,
            deny: None,
            asks: Asked::default(),
            login: LoginMode::Auto,
            scopes: Vec::new(),
            preflight: PreflightRule::Judge,
            encoded_slash: EncodedSlash::Refuse,
            origins: BTreeSet::new(),
            identity_headers: IdentityHeader::ALL.map(|(_, header)| header).to_vec(),
            cors_origins: BTreeSet::new(),
            denied: None,
            permit_lines: PermitLines::Written,
            headers: Vec::new(),
            dry_run: DryRun::Off,
            outbound: None,
            assertion: None,
            leg: Leg::default(),
            timeouts: Timeouts::default(),
        }
    }

    /// What it reads; `None` for a public route.
    #[must_use]
    pub const fn accept(&self) -> Option<&Accept> {
        match &self.access {
            Access::Public => None,
            Access::Optional(accept) | Access::Protected(accept, _) => Some(accept),
        }
    }

    /// What it tells of somebody.
    #[must_use]
    pub fn telling(&self) -> Telling<'_> {
        Telling { route: self.number, names: &self.identity_headers, rules: &self.headers }
    }

    /// Whether its upstream's `Authorization` is a header of ours, and so no matter of the downstream's.
    #[must_use]
    pub fn sets_authorization(&self) -> bool {
        self.headers.iter().any(|rule| rule.name == http::header::AUTHORIZATION)
    }

    /// Whether it needs the caller's access token: its headers tell it, or it is exchanged for another one.
    #[must_use]
    pub fn tells_tokens(&self) -> bool {
        self.outbound.is_some_and(|outbound| outbound.in_name_of == InNameOf::Caller)
            || self.headers.iter().any(|rule| rule.template.tells_tokens())
    }

    /// Whether it reads this kind of credential.
    #[must_use]
    pub fn takes(&self, kind: CredentialKind) -> bool {
        self.accept().is_some_and(|accept| accept.takes(kind))
    }
}
