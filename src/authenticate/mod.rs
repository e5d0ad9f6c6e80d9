//! From the credential that counts to somebody, nobody, a refusal or an outage: the only step of a request that may wait on a network.
//!
//! `present` finds the one credential, `confirm` what it is bound to, `certificate` whom a certificate names; [`Authenticator`] asks the
//! session store or the token issuer about it, or what we know ourselves (`by_secret`: passwords of local accounts, API keys); `renewals` keeps
//! what a session holds fresh, as `need` says; `session_token` looks after sessions that are shown as bearer tokens.

mod by_secret;
mod certificate;
mod confirm;
mod need;
mod present;
mod renewals;
mod session_token;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

pub use certificate::{CertificateMeans, CertificateName, Certificates};
pub use confirm::with_nonce;
pub use need::{Patience, RenewalSettings};
pub use present::{Shown, present};
pub use renewals::{Kept, Renewals};
pub use session_token::SessionTokens;

use crate::credential::{Absence, Authenticated, Authentication, Credential, CredentialKind, PeerCertificate, PresentedToken};
use crate::fault::{Fault, Outage, Trouble};
use crate::header::PreparedHeaders;
use crate::identity::Source;
use crate::provider::api_keys::ApiKeys;
use crate::provider::local::ShownPasswords;
use crate::reason::Reason;
use crate::request::RequestFacts;
use crate::route::{Accept, RouteAudience};
use crate::session::{Session, SessionCookie, ShownAs};
use crate::store::{CachedSession, Loaded, RecordId, Sessions};
use crate::token::{Audience, Issuer};
use crate::verify::Verifiers;
use crate::verify::dpop::{Checked, DpopVerifier};

/// An opened session as this process keeps it.
pub type OpenSession = CachedSession<PreparedHeaders>;

/// Asks whoever knows.
pub struct Authenticator {
    /// Sessions of ours.
    pub sessions: Arc<Sessions<PreparedHeaders>>,
    /// Keeps them fresh.
    pub renewals: Arc<Renewals>,
    /// Issuers of bearer tokens.
    pub verifiers: Verifiers,
    /// Whether sessions may be shown as bearer tokens.
    pub session_tokens: SessionTokens,
    /// Proofs of the keys that tokens are bound to.
    pub dpop: DpopVerifier,
    /// How certificates count.
    pub certificates: Certificates,
    /// Our registrations with providers, by the provider's `id`: sessions of others do not count here.
    pub registrations: BTreeMap<String, Registration>,
    /// Passwords of local accounts that are shown with each request; `None`: no route takes any.
    pub passwords: Option<Arc<ShownPasswords>>,
    /// Keys of programs; `None`: the config names no file of them.
    pub api_keys: Option<Arc<ApiKeys>>,
}

/// What a session has to agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The provider's issuer, or those of its tenants.
    pub issuer: Issuer,
    /// Our `client_id` there.
    pub client_id: String,
}

/// What comes beside a credential: it is none itself, and some credentials count only with it.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// Of the request that it is shown for; in forward-auth the one that the front proxy asks about.
    pub facts: &'a RequestFacts,
    /// What came with it.
    pub headers: &'a HeaderMap,
    /// The certificate of whoever sent it.
    pub certificate: Option<&'a PeerCertificate>,
}

/// What came of it.
pub struct Outcome {
    /// For the decision.
    pub authentication: Authentication,
    /// The session behind it, with its ready-made headers.
    pub session: Option<Arc<OpenSession>>,
    /// Ready-made headers of a token that is remembered.
    pub prepared: Option<Arc<PreparedHeaders>>,
    /// The cookie that opened it, for what stays open in its name.
    pub cookie: Option<SessionCookie>,
    /// Why the session's tokens are over and no new ones are there. Whatever needs them cannot go on.
    pub without_tokens: Option<Outage>,
    /// Whose session it was that time ended less than an hour ago, as the store's `subject_tag` names them.
    pub ended: Option<RecordId>,
    /// A nonce for the next DPoP proof, to be sent with the answer.
    pub dpop_nonce: Option<HeaderValue>,
}

impl Outcome {
    const fn without_session(authentication: Authentication) -> Self {
        Self { authentication, session: None, prepared: None, cookie: None, without_tokens: None, ended: None, dpop_nonce: None }
    }
}

impl Authenticator {
    /// Authenticates.
    ///
    /// # Errors
    /// A refusal only for a credential that cannot be read (400), or is not looked at now since too many others were wrong (429); an outage when nobody could be asked. Both are no answer to "who is it".
    pub async fn authenticate(
        &self,
        credential: Credential,
        accept: &Accept,
        patience: Patience,
        beside: &Beside<'_>,
    ) -> Result<Outcome, Trouble> {
        match credential {
            Credential::None => Ok(Outcome::without_session(Authentication::Anonymous(Absence::NoCredential))),
            Credential::Unreadable(fault) => Err(fault.into()),
            Credential::Session(cookies) => self.by_session(&cookies, patience).await,
            Credential::Token(token) if SessionTokens::is_one(&token) => {
                Box::pin(self.by_session_token(&token, accept, patience, beside)).await
            }
            Credential::Token(token) => self.by_token(&token, accept, beside).await,
            Credential::Password(shown) => Box::pin(self.by_password(&shown, beside)).await,
            Credential::ApiKey(shown) => Box::pin(self.by_api_key(&shown, beside)).await,
            Credential::Certificate => Ok(self.by_certificate(beside)),
        }
    }

    /// Whether a session was made to be shown so, and with a provider and registration that are configured now. Another gateway may keep its sessions in the
    /// same store, and a provider that was taken out of the config vouches for nobody any more.
    #[must_use]
    pub fn vouches(&self, session: &Session, shown_as: ShownAs) -> bool {
        let Source::Provider(id) = &session.identity.source else { return false };
        let known = self.registrations.get(id.as_str()).filter(|_| session.shown_as == shown_as);
        known.is_some_and(|known| known.issuer.is(&session.identity.issuer) && known.client_id == session.client_id)
    }

    /// With whom we are registered under a provider's `id`, and as whom: another text when either changes.
    #[must_use]
    pub fn registration(&self, id: &str) -> Option<String> {
        self.registrations.get(id).map(|known| format!("{} {}", known.issuer.address(), known.client_id))
    }

    /// Whether a session that was accepted once would be accepted now: of what stays open in its name after the config has changed.
    #[must_use]
    pub fn still_counts(&self, session: &Session) -> bool {
        let shown = session.shown_as == ShownAs::Cookie || self.session_tokens == SessionTokens::Accepted;
        shown && self.vouches(session, session.shown_as)
    }

    /// One session opens: somebody. None: as if no cookie were there. Two: none counts, since nobody could say which the browser means.
    async fn by_session(&self, cookies: &[SessionCookie], patience: Patience) -> Result<Outcome, Trouble> {
        let mut found: Option<(&SessionCookie, Arc<OpenSession>)> = None;
        let mut ended = None;
        for cookie in cookies {
            match self.sessions.load(cookie).await? {
                Loaded::Absent => {}
                Loaded::Over { reason, subject } => ended = Some((reason, subject)),
                Loaded::Alive(session) if !self.vouches(&session.session, ShownAs::Cookie) => {}
                Loaded::Alive(_) if found.is_some() => {
                    let ambiguous = Absence::SessionOver(Reason::SessionAmbiguous);
                    return Ok(Outcome::without_session(Authentication::Anonymous(ambiguous)));
                }
                Loaded::Alive(session) => found = Some((cookie, session)),
            }
        }
        let over = |reason, ended| {
            let absence = Authentication::Anonymous(Absence::SessionOver(reason));
            Ok(Outcome { ended, ..Outcome::without_session(absence) })
        };
        match (found, ended) {
            (Some((cookie, session)), _) if self.renewals.is_fresh(&session.session) => {
                Ok(somebody(cookie, session, CredentialKind::Session, None))
            }
            (Some((cookie, session)), _) => match Box::pin(self.renewals.keep(cookie, session, patience)).await? {
                Kept::Good(session, without_tokens) => Ok(somebody(cookie, session, CredentialKind::Session, without_tokens)),
                Kept::Over(reason) => over(reason, None),
                Kept::Gone => Ok(Outcome::without_session(Authentication::Anonymous(Absence::NoCredential))),
            },
            (None, Some((reason, ended))) => over(reason, ended),
            (None, None) => Ok(Outcome::without_session(Authentication::Anonymous(Absence::NoCredential))),
        }
    }

    async fn by_token(&self, shown: &PresentedToken, accept: &Accept, beside: &Beside<'_>) -> Result<Outcome, Trouble> {
        let audience = match &accept.audience {
            RouteAudience::OfIssuer => None,
            RouteAudience::AnyOf(list) => Some(Audience::AnyOf(Arc::clone(list))),
        };
        let verified = match self.verifiers.verify(&shown.token, audience.as_ref()).await {
            Ok(verified) => verified,
            Err(Trouble::Refused(fault)) => return Ok(Outcome::without_session(Authentication::Rejected(fault))),
            Err(Trouble::Unreachable(outage)) => return Err(outage.into()),
        };
        let Checked { proven, nonce } = self.confirm(shown, verified.confirmation.as_ref(), accept, beside).await?;
        let authentication = match proven {
            Ok(()) => Authentication::Authenticated(Authenticated { identity: verified.identity, by: CredentialKind::Bearer }),
            Err(fault) => Authentication::Rejected(fault),
        };
        Ok(Outcome { dpop_nonce: nonce, prepared: Some(verified.prepared), ..Outcome::without_session(authentication) })
    }
}

fn somebody(cookie: &SessionCookie, session: Arc<OpenSession>, by: CredentialKind, without_tokens: Option<Outage>) -> Outcome {
    let who = Authenticated { identity: Arc::clone(&session.session.identity), by };
    let authentication = Authentication::Authenticated(who);
    Outcome {
        authentication,
        session: Some(session),
        prepared: None,
        cookie: Some(cookie.clone()),
        without_tokens,
        ended: None,
        dpop_nonce: None,
    }
}

/// A credential of a kind that a route takes though the config names nobody to check it, which it refuses at the start.
fn nobody_knows() -> Outcome {
    let fault = Fault::new(Reason::Internal, "a credential of a kind that nobody checks");
    Outcome::without_session(Authentication::Rejected(fault))
}
