//! What was presented, and what became of it.

use std::sync::Arc;

use crate::fault::Fault;
use crate::identity::Identity;
use crate::reason::Reason;
use crate::secret::{self, Secret};
use crate::session::SessionCookie;

/// What every API key of ours begins with, so that people, logs and secret scanners know one when they see it.
pub const API_KEY_PREFIX: &str = "dwk_";

/// The one credential that counts for a request. Which places are read at all is the route's to say.
pub enum Credential {
    /// Nothing was shown that this route reads.
    None,
    /// Session cookies; usually one. More than one counts only if no more than one opens.
    Session(Vec<SessionCookie>),
    /// A token (RFC 6750 §2, RFC 9449 §7.1).
    Token(PresentedToken),
    /// A name and a password (RFC 7617).
    Password(PresentedPassword),
    /// A key that the config's file names.
    ApiKey(Secret),
    /// The certificate of whoever connected, where nothing else was shown.
    Certificate,
    /// Something was shown and cannot be read: refused before anybody is asked.
    Unreadable(Fault),
}

/// A token and the way it was shown.
pub struct PresentedToken {
    /// As it came.
    pub token: Secret,
    /// By which scheme.
    pub scheme: TokenScheme,
}

/// How a token claims to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenScheme {
    /// Whoever has it may use it (RFC 6750), unless it says otherwise itself.
    Bearer,
    /// Only together with a proof (RFC 9449 §7.1).
    Dpop,
}

/// What `Authorization: Basic` holds.
pub struct PresentedPassword {
    /// Everything before the first colon.
    pub name: String,
    /// Everything after it.
    pub password: Secret,
}

/// The certificate of whoever connected, or of whom a trusted proxy says so. Who made it was checked before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// X.509, DER.
    pub der: Vec<u8>,
    /// SHA-256 of that (RFC 8705 §3.1 `x5t#S256`, there in base64url).
    pub thumbprint: [u8; 32],
}

impl PeerCertificate {
    /// Of these bytes.
    #[must_use]
    pub fn new(der: Vec<u8>) -> Self {
        Self { thumbprint: secret::sha256(&der), der }
    }
}

/// What a credential turned out to be. An outage is not in here: see [`crate::fault::Outage`].
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Nobody.
    Anonymous(Absence),
    /// Somebody.
    Authenticated(Authenticated),
    /// A credential that is no good. A cookie never is: one that opens nothing counts as absent.
    Rejected(Fault),
}

/// Why nobody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// No credential.
    NoCredential,
    /// There was a session once; the cookie is to be deleted.
    SessionOver(Reason),
}

/// Somebody, and by what we know.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Who.
    pub identity: Arc<Identity>,
    /// By what.
    pub by: CredentialKind,
}

/// By what somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// A session of ours.
    Session,
    /// A bearer token.
    Bearer,
    /// A name and a password with each request.
    Basic,
    /// A key of the config's file.
    ApiKey,
    /// A certificate.
    Certificate,
}

impl CredentialKind {
    /// The word in the config (`accept`) and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Bearer => "bearer",
            Self::Basic => "basic",
            Self::ApiKey => "api_key",
            Self::Certificate => "certificate",
        }
    }
}
