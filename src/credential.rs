//! What was presented, and what became of it.

use std::sync::Arc;

use crate::fault::Fault;
use crate::identity::Identity;
use crate::reason::Reason;
use crate::secret::Secret;
use crate::session::SessionCookie;

/// The one credential that counts for a request. Which places are read at all is the route's to say.
pub enum Credential {
    /// Nothing was shown that this route reads.
    None,
    /// Session cookies; usually one. More than one counts only if no more than one opens.
    Session(Vec<SessionCookie>),
    /// A token after `Authorization: Bearer` (RFC 6750 §2.1). While it is there nothing else is read.
    Bearer(Secret),
    /// Something was shown and cannot be read: refused before anybody is asked.
    Unreadable(Fault),
}

/// What a credential turned out to be. An outage is not in here: see [`crate::fault::Outage`].
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Nobody.
    Anonymous(Absence),
    /// Somebody.
    Authenticated(Authenticated),
    /// A credential that is no good. Only bearer tokens are rejected; a cookie that opens nothing counts as absent.
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
}

impl CredentialKind {
    /// The word in the config (`accept`) and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Bearer => "bearer",
        }
    }
}
