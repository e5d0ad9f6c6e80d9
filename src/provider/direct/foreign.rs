//! Tokens of others, by table of the config.

use std::sync::Arc;

use url::Url;

use super::{Facebook, Subject, TokenCheck};
use crate::fault::Fault;
use crate::identity::Identity;
use crate::login::PendingLogin;
use crate::provider::{AuthorizationResponse, IdentityProvider, OpenIdProvider, ProviderFuture, Refreshed, SignedIn};
use crate::reason::Reason;
use crate::secret::Secret;
use crate::session::{Session, Tokens};
use crate::token::LogoutToken;

/// One `[[foreign_token]]`.
pub struct ForeignToken {
    /// Its name in the config, by which rules and routes speak of its people.
    pub id: String,
    /// Which parameter of a token request holds such a token.
    pub parameter: String,
    /// How it is checked.
    pub how: HowChecked,
}

/// How a token of others is checked. Each asks for whom it was issued: whoever owns some app at the same place could else sign in here as
/// anybody who uses theirs.
pub enum HowChecked {
    /// At Facebook's Graph API.
    Facebook(Facebook),
    /// At a URL that answers with what it knows of the token.
    Check(TokenCheck),
    /// By a provider of ours, which exchanges it for its own (RFC 8693).
    Exchange(Exchange),
}

/// An exchange at a provider of ours. Who signs in by it has a session of that provider.
pub struct Exchange {
    /// The provider.
    pub provider: Arc<OpenIdProvider>,
    /// `subject_token_type` (RFC 8693 §3).
    pub subject_token_type: String,
    /// What the provider wants to be told beside it.
    pub parameters: Vec<(String, String)>,
}

impl Exchange {
    pub(super) fn subject<'a>(&'a self, token: &'a Secret) -> Subject<'a> {
        Subject { token, kind: &self.subject_token_type, parameters: &self.parameters }
    }
}

/// A table whose people have sessions here, as the provider that renewals look for: it prolongs nothing and has nobody to ask again.
pub struct ForeignSource(pub String);

impl ForeignSource {
    fn no_login<'a, T: 'a>(&'a self) -> ProviderFuture<'a, T> {
        Box::pin(async { Err(Fault::new(Reason::Internal, "a table of foreign tokens is no place to go to").into()) })
    }
}

impl IdentityProvider for ForeignSource {
    fn id(&self) -> &str {
        &self.0
    }

    fn name(&self) -> &str {
        &self.0
    }

    fn authorization_url<'a>(&'a self, _: &'a mut PendingLogin, _: &'a str, _: &'a [(String, String)]) -> ProviderFuture<'a, Url> {
        self.no_login()
    }

    fn complete<'a>(&'a self, _: &'a PendingLogin, _: AuthorizationResponse) -> ProviderFuture<'a, SignedIn> {
        self.no_login()
    }

    fn refresh<'a>(&'a self, _: &'a Session) -> ProviderFuture<'a, Refreshed> {
        Box::pin(async { Err(Fault::new(Reason::RefreshRefused, "sessions of foreign tokens hold no tokens").into()) })
    }

    fn revalidate<'a>(&'a self, _: &'a Session) -> ProviderFuture<'a, Option<Identity>> {
        Box::pin(async { Ok(None) })
    }

    fn end_session_url<'a>(&'a self, _: &'a Session, _: &'a str, _: &'a str) -> ProviderFuture<'a, Option<Url>> {
        Box::pin(async { Ok(None) })
    }

    fn revoke<'a>(&'a self, _: &'a Tokens) -> ProviderFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn verify_logout_token<'a>(&'a self, _: &'a Secret) -> ProviderFuture<'a, LogoutToken> {
        Box::pin(async { Err(Fault::new(Reason::LogoutIssuer, "foreign tokens have no logout tokens").into()) })
    }

    fn origins(&self) -> Vec<String> {
        Vec::new()
    }
}
