//! What can go wrong, sorted by whose doing it is. A [`Fault`] refuses one request; an [`Outage`] says that nothing could be decided and
//! is its own type, so that it never turns into "nobody is signed in".

use std::fmt;
use std::time::Duration;

use crate::reason::Reason;

/// A refusal: the reason people see and a detail only the log sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which entry of the closed list.
    pub reason: Reason,
    /// For the log: what was found and what was expected. Never holds a credential.
    pub detail: String,
    /// How long it is refused whatever is shown, where that is known: `Retry-After`.
    pub wait: Option<Duration>,
}

impl Fault {
    /// A refusal with its detail for the log.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), wait: None }
    }

    /// The same, with how long it lasts.
    #[must_use]
    pub fn lasting(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Fault {}

/// What the gateway asks while it answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dependency {
    /// The session store.
    Store,
    /// The OpenID provider: discovery, token endpoint, userinfo.
    Provider,
    /// A token issuer's keys.
    Keys,
    /// A token issuer that is asked about its opaque tokens.
    Introspection,
    /// Whoever checks tokens of others that are turned into ours.
    TokenCheck,
    /// Whoever is to give a token for an upstream.
    UpstreamToken,
}

impl Dependency {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Provider => "provider",
            Self::Keys => "keys",
            Self::Introspection => "introspection",
            Self::TokenCheck => "token-check",
            Self::UpstreamToken => "upstream-token",
        }
    }
}

/// A dependency did not answer. Always 503: never a permit, never a logout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Who did not answer.
    pub dependency: Dependency,
    /// For the log: what happened. Never holds a credential.
    pub source: String,
}

impl Outage {
    /// The store did not answer.
    pub fn store(source: impl fmt::Display) -> Self {
        Self { dependency: Dependency::Store, source: source.to_string() }
    }

    /// The provider did not answer.
    pub fn provider(source: impl fmt::Display) -> Self {
        Self { dependency: Dependency::Provider, source: source.to_string() }
    }

    /// An issuer's keys could not be fetched.
    pub fn keys(source: impl fmt::Display) -> Self {
        Self { dependency: Dependency::Keys, source: source.to_string() }
    }

    /// A token issuer did not answer about a token.
    pub fn introspection(source: impl fmt::Display) -> Self {
        Self { dependency: Dependency::Introspection, source: source.to_string() }
    }

    /// A token of others could not be checked.
    pub fn token_check(source: impl fmt::Display) -> Self {
        Self { dependency: Dependency::TokenCheck, source: source.to_string() }
    }

    /// A token for an upstream could not be had.
    pub fn upstream_token(source: impl fmt::Display) -> Self {
        Self { dependency: Dependency::UpstreamToken, source: source.to_string() }
    }

    /// The reason that log, metric and answer carry.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self.dependency {
            Dependency::Store => Reason::StoreUnreachable,
            Dependency::Provider => Reason::ProviderUnreachable,
            Dependency::Keys => Reason::KeysUnreachable,
            Dependency::Introspection => Reason::IntrospectionUnreachable,
            Dependency::TokenCheck => Reason::TokenCheckUnreachable,
            Dependency::UpstreamToken => Reason::UpstreamTokenUnreachable,
        }
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason(), self.source)
    }
}

impl std::error::Error for Outage {}

/// Either kind, where a step can end in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The request is refused.
    Refused(Fault),
    /// Nothing could be decided.
    Unreachable(Outage),
}

impl Trouble {
    /// The reason that log, metric and answer carry.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Refused(fault) => fault.reason,
            Self::Unreachable(outage) => outage.reason(),
        }
    }

    /// What the log says beside the reason.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Refused(fault) => &fault.detail,
            Self::Unreachable(outage) => &outage.source,
        }
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

impl From<Outage> for Trouble {
    fn from(outage: Outage) -> Self {
        Self::Unreachable(outage)
    }
}
