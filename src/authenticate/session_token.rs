//! Tokens of our own: sessions that programs show as bearer tokens. They are looked up in the store and sent to nobody.

use std::sync::Arc;

use super::{Authenticator, Kept, Outcome, Patience, somebody};
use crate::credential::{Authentication, CredentialKind, PresentedToken, TokenScheme};
use crate::fault::{Fault, Trouble};
use crate::reason::Reason;
use crate::route::{Accept, Bound};
use crate::session::{SessionCookie, ShownAs, TOKEN_PREFIX};
use crate::store::Loaded;

/// Whether tokens of our own count here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionTokens {
    /// The token endpoint gives them out.
    Accepted,
    /// Nobody gives them out: each is refused, and still nobody is asked about it.
    Refused,
}

impl SessionTokens {
    /// Whether a token says that it is one of ours.
    pub(super) fn is_one(shown: &PresentedToken) -> bool {
        shown.token.expose().starts_with(TOKEN_PREFIX)
    }
}

impl Authenticator {
    /// What this token opens. There is no way back to a login here: whoever showed it signs in again for a new one.
    pub(super) async fn by_session_token(&self, shown: &PresentedToken, accept: &Accept, patience: Patience) -> Result<Outcome, Trouble> {
        let rejected = |reason, detail: &str| Ok(Outcome::without_session(Authentication::Rejected(Fault::new(reason, detail))));
        if self.session_tokens == SessionTokens::Refused {
            return rejected(Reason::IssuedTokenUnknown, "a session token, and no token endpoint gives them out");
        }
        // RFC 9449 §7.1: what is bound to no key is not shown by this scheme.
        if shown.scheme == TokenScheme::Dpop {
            return rejected(Reason::TokenBound, "a session token is bound to no key; it is shown as Bearer");
        }
        // A route that asks for a binding asks it of every token, and there is none here to prove.
        if accept.binding.dpop == Bound::Required {
            return rejected(Reason::DpopRequired, "the route takes DPoP-bound tokens only, and a session token is bound to no key");
        }
        if accept.binding.certificate == Bound::Required {
            return rejected(Reason::CertificateRequired, "the route takes certificate-bound tokens only, and a session token is none");
        }
        let Some(cookie) = SessionCookie::parse_token(&shown.token) else {
            return rejected(Reason::IssuedTokenMalformed, "expected the prefix of session tokens and 64 characters of base64url");
        };
        let open = match self.sessions.load(&cookie).await? {
            Loaded::Absent => return rejected(Reason::IssuedTokenUnknown, "it opens no session"),
            Loaded::Over { reason: Reason::SessionTokenEnded, .. } => {
                return rejected(Reason::IssuedTokenEnded, "the provider's token is over, and the session ends with it");
            }
            Loaded::Over { reason, .. } => return rejected(Reason::IssuedTokenExpired, reason.as_str()),
            Loaded::Alive(open) if !self.vouches(&open.session, ShownAs::Token) => {
                return rejected(Reason::IssuedTokenUnknown, "it opens a session that counts nowhere here, or that is shown as a cookie");
            }
            Loaded::Alive(open) => open,
        };
        let (open, without_tokens) = if self.renewals.is_fresh(&open.session) {
            (open, None)
        } else {
            match self.renewals.keep(&cookie, Arc::clone(&open), patience).await? {
                Kept::Good(open, without_tokens) => (open, without_tokens),
                Kept::Over(reason) => return rejected(Reason::IssuedTokenEnded, reason.as_str()),
                Kept::Gone => return rejected(Reason::IssuedTokenUnknown, "its session was ended a moment ago"),
            }
        };
        Ok(somebody(&cookie, open, CredentialKind::Bearer, without_tokens))
    }
}
