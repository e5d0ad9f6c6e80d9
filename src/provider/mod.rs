//! Providers: where people prove who they are.
//!
//! [`IdentityProvider`] is the seam; `oidc` is OpenID Connect, with `discovery` for the provider's document, `places` for what the config
//! says of it, `exchange` for code and userinfo, `told` for what counts beside the ID token, `authorize` for what the config adds to the
//! request, and `keys` for its signatures; `refresh` keeps a session's tokens fresh, `ending` is its end towards the provider (`logout_url`
//! where that has a way of its own), `direct` signs people in without a browser. `http` makes the calls over `tls`, through a `proxy` where
//! there is one, `times` times them, `own_calls` are those that only our registration may make: proven by `client_authentication`, with a
//! `client_assertion` or a secret, and with `dpop` where tokens are bound; `pushed` is the request that goes to the provider before the
//! browser does. `issuer_metadata` is the document of who only issues tokens, `introspection` asks them about one. `local` are accounts of
//! our own, `api_keys` keys of programs; `reread` reads their files again, `watched` makes keys and certificates anew from theirs; `probe` looks
//! whether somebody is there.

pub mod api_keys;
pub mod authorize;
mod client_assertion;
mod client_authentication;
pub mod direct;
pub mod discovery;
mod dpop;
mod ending;
mod exchange;
pub mod http;
pub mod introspection;
pub mod issuer_metadata;
pub mod keys;
pub mod local;
mod logout_url;
mod oidc;
mod own_calls;
pub mod places;
pub mod probe;
pub mod proxy;
mod pushed;
mod refresh;
mod reread;
mod times;
pub mod tls;
mod told;
pub mod watched;

use std::future::Future;
use std::pin::Pin;

use url::Url;

use crate::fault::Trouble;
use crate::identity::Identity;
use crate::login::PendingLogin;
use crate::secret::Secret;
use crate::session::{Session, Tokens};
use crate::token::LogoutToken;

pub use client_assertion::{AssertionAudience, AssertionKey, ClientAssertion, Recipient};
pub use client_authentication::ClientAuthentication;
pub use logout_url::{LogoutUrl, LogoutUrlError};
pub use oidc::{Binding, OpenIdProvider, OpenIdSettings, ResponseMode};
pub(crate) use own_calls::is_outage;
pub use pushed::Pushed;
pub use times::CallTimes;
pub use told::ClaimSource;
pub use watched::Looks;

/// What a provider's methods return.
pub type ProviderFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Trouble>> + Send + 'a>>;

/// Somebody who has just signed in.
#[derive(Clone)]
pub struct SignedIn {
    /// Who.
    pub identity: Identity,
    /// Our registration with the provider.
    pub client_id: String,
    /// `sid` of the provider's session, if it named one.
    pub sid: Option<String>,
    /// The ID token, kept as the hint for signing out.
    pub id_token: Secret,
    /// What else the provider gave.
    pub tokens: Option<Tokens>,
}

/// What a provider gave in place of a session's tokens.
#[derive(Clone)]
pub struct Refreshed {
    /// The new tokens.
    pub tokens: Tokens,
    /// The new ID token, where one came and could be checked.
    pub id_token: Option<Secret>,
    /// What is said of the person now; `None`: nothing new.
    pub identity: Option<Identity>,
}

/// The answer to an authorization request, as the browser brought it: what no check has looked at yet.
#[derive(Clone)]
pub struct AuthorizationResponse {
    /// `code`.
    pub code: Option<Secret>,
    /// `iss` (RFC 9207 §2).
    pub iss: Option<String>,
    /// `error` (RFC 6749 §4.1.2.1).
    pub error: Option<String>,
}

/// A place where people sign in.
pub trait IdentityProvider: Send + Sync {
    /// Its name in the config.
    fn id(&self) -> &str;

    /// Its name for people.
    fn name(&self) -> &str;

    /// What of the parameters of `start` it is told; `None`: nothing.
    fn takes_from_start(&self) -> Option<&authorize::FromStart> {
        None
    }

    /// A path of its own on our hosts that its answers come back to; `None`: the one that all have.
    fn callback(&self) -> Option<&str> {
        None
    }

    /// The URL that sends a browser there, for this attempt; `passed` are parameters that came with it and that the provider takes,
    /// `login_hint` (OpenID Connect Core §3.1.2.1) say. It may take a call to the provider. What `complete` will need beside it is put into
    /// the attempt, which is to be kept after this.
    fn authorization_url<'a>(
        &'a self,
        attempt: &'a mut PendingLogin,
        state: &'a str,
        passed: &'a [(String, String)],
    ) -> ProviderFuture<'a, Url>;

    /// Judges the answer and, if nothing speaks against it, spends the code. The attempt has been taken: it is not coming back.
    fn complete<'a>(&'a self, attempt: &'a PendingLogin, response: AuthorizationResponse) -> ProviderFuture<'a, SignedIn>;

    /// Spends the session's refresh token (RFC 6749 §6, OpenID Connect Core §12). A refusal says that the provider does not prolong this session;
    /// everything that may pass, a server that fails included, is an outage.
    fn refresh<'a>(&'a self, session: &'a Session) -> ProviderFuture<'a, Refreshed>;

    /// Asks whether the session's person is still welcome, and what is said of them now; `None`: nobody to ask. A refusal says that they
    /// are not.
    fn revalidate<'a>(&'a self, session: &'a Session) -> ProviderFuture<'a, Option<Identity>>;

    /// The URL that ends the provider's own session (RP-Initiated Logout §2); `None` where it offers none.
    fn end_session_url<'a>(
        &'a self,
        session: &'a Session,
        post_logout_redirect_uri: &'a str,
        state: &'a str,
    ) -> ProviderFuture<'a, Option<Url>>;

    /// Whether sessions of this provider end at `url`, whatever its query says: its `end_session_endpoint`, or the `logout_url` of the config.
    fn ends_sessions_at<'a>(&'a self, _url: &'a Url) -> ProviderFuture<'a, bool> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Has the provider take back what it issued (RFC 7009), where it can.
    fn revoke<'a>(&'a self, tokens: &'a Tokens) -> ProviderFuture<'a, ()>;

    /// Verifies a logout token of this provider (OpenID Connect Back-Channel Logout §2.6), all but that its `jti` counts once.
    fn verify_logout_token<'a>(&'a self, token: &'a Secret) -> ProviderFuture<'a, LogoutToken>;

    /// Origins that a form of ours may lead to when it signs somebody out there.
    fn origins(&self) -> Vec<String>;
}
