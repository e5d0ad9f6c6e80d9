//! OpenID Connect by the authorization-code flow, with PKCE S256, state and nonce always (OpenID Connect Core §3.1).

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::authorize::FromStart;
use super::client_authentication::ClientAuthentication;
use super::discovery::{Discovery, Document};
use super::dpop::{DpopKey, Nonces};
use super::exchange;
use super::keys::{Budget, JwksCache};
use super::logout_url::LogoutUrl;
use super::pushed::Pushed;
use super::told::ClaimSource;
use super::{AuthorizationResponse, IdentityProvider, ProviderFuture, Refreshed, SignedIn, http::Http};
use crate::clock::SharedClock;
use crate::fault::{Fault, Trouble};
use crate::identity::{ClaimMapping, Claims, Identity, Source};
use crate::login::PendingLogin;
use crate::reason::Reason;
use crate::secret::{Secret, encode, sha256};
use crate::session::{Session, Tokens};
use crate::telemetry::Metrics;
use crate::token::{Algorithm, IdTokenError, IdTokenExpectation, Issuer, LogoutToken, LogoutTokenExp, Nonce, id_token};

/// One `[[provider]]`.
#[derive(Clone)]
pub struct OpenIdSettings {
    /// Its name in the config.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Exactly as its tokens say it.
    pub issuer: Issuer,
    /// Our registration.
    pub client_id: String,
    /// How we prove ourselves.
    pub client_authentication: ClientAuthentication,
    /// Whether our calls show a certificate (RFC 8705).
    pub shows_certificate: bool,
    /// When authorization requests are pushed.
    pub pushed: Pushed,
    /// Whether tokens are to be bound to a key of the session's own (RFC 9449).
    pub binding: Binding,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// What else every authorization request says.
    pub authorize: Vec<(String, String)>,
    /// What `start` may add to it.
    pub authorize_from_start: FromStart,
    /// A path of its own on our hosts that its answers come back to; `None`: the one under the prefix.
    pub callback: Option<String>,
    /// How the answer comes back.
    pub response_mode: ResponseMode,
    /// Signatures that ID tokens may have; the provider's document has no say in it.
    pub algorithms: Vec<Algorithm>,
    /// Where its claims come from.
    pub claims_from: Vec<ClaimSource>,
    /// Which claims say what.
    pub mapping: ClaimMapping,
    /// Where it ends its session in a way of its own; comes before its `end_session_endpoint`.
    pub logout_url: Option<LogoutUrl>,
    /// Whether its logout tokens carry `exp`.
    pub logout_token_exp: LogoutTokenExp,
    /// For `exp`, `nbf` and `iat`.
    pub leeway: Duration,
}

/// What access tokens are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Nothing, or the certificate of the connection, which is the provider's matter.
    None,
    /// A key of the session's own.
    Dpop,
}

/// How the answer comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseMode {
    /// In the query: the default of the code flow, so it is not sent.
    Query,
    /// As a form that the browser posts.
    FormPost,
}

/// An OpenID provider.
pub struct OpenIdProvider {
    pub(super) settings: OpenIdSettings,
    pub(super) http: Http,
    pub(super) discovery: Arc<Discovery>,
    pub(super) keys: JwksCache,
    pub(super) clock: SharedClock,
    pub(super) nonces: Nonces,
    metrics: Arc<Metrics>,
}

impl OpenIdProvider {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(
        settings: OpenIdSettings,
        http: Http,
        discovery: Arc<Discovery>,
        keys: JwksCache,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { settings, http, discovery, keys, clock, nonces: Nonces::default(), metrics }
    }

    /// Notes how long a call of the login took.
    pub(super) async fn timed<T>(&self, call: &'static str, work: impl Future<Output = T>) -> T {
        let began = self.clock.instant();
        let answer = work.await;
        self.metrics.provider_call(self.settings.issuer.address(), call, self.clock.instant().saturating_duration_since(began));
        answer
    }

    /// Its document, for readiness and `check`.
    #[must_use]
    pub const fn discovery(&self) -> &Arc<Discovery> {
        &self.discovery
    }

    /// The attempt keeps the key that a code is bound to, where one is.
    async fn authorization(&self, attempt: &mut PendingLogin, state: &str, passed: &[(String, String)]) -> Result<Url, Trouble> {
        let document = self.discovery.document().await?;
        let pushed_to = self.pushed_to(&document)?;
        let key = self.new_key()?;
        attempt.dpop_key = key.as_ref().map(|key| key.kept().expose().to_owned());
        let challenge = encode(&sha256(attempt.code_verifier.as_bytes()));
        let (scope, acr) = (self.scopes_of(attempt).join(" "), attempt.asks.acr.join(" "));
        let max_age = attempt.asks.max_age.map(|seconds| seconds.to_string());
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", self.settings.client_id.as_str()),
            ("redirect_uri", attempt.redirect_uri.as_str()),
            ("scope", scope.as_str()),
            ("state", state),
            ("nonce", attempt.nonce.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        // OpenID Connect Core §3.1.2.1. Whether the provider heeded them its ID token has to say.
        parameters.extend(Some(("acr_values", acr.as_str())).filter(|_| !acr.is_empty()));
        parameters.extend(max_age.as_deref().map(|max_age| ("max_age", max_age)));
        parameters.extend(Some(("response_mode", "form_post")).filter(|_| self.settings.response_mode == ResponseMode::FormPost));
        // None of these is one of the above: the config is refused that says so.
        let fixed = self.settings.authorize.iter().filter(|(name, _)| passed.iter().all(|(known, _)| known != name));
        parameters.extend(fixed.chain(passed).map(|(name, value)| (name.as_str(), value.as_str())));
        // RFC 9449 §10: whoever gets at the code cannot spend it without the key.
        parameters.extend(key.as_ref().map(|key| ("dpop_jkt", key.thumbprint())));
        let mut url = document.authorization_endpoint().url().clone();
        match pushed_to {
            None => drop(url.query_pairs_mut().extend_pairs(parameters)),
            Some(endpoint) => {
                let request_uri = self.push(&document, endpoint, &parameters, key.as_ref()).await?;
                // RFC 9126 §4: nothing else, so that nobody on the way adds to it or reads it.
                let reference = [("client_id", self.settings.client_id.as_str()), ("request_uri", request_uri.as_str())];
                url.query_pairs_mut().extend_pairs(reference);
            }
        }
        Ok(url)
    }

    /// What is asked for: the provider's own scopes, and those of the place that the login is for.
    fn scopes_of<'a>(&'a self, attempt: &'a PendingLogin) -> Vec<&'a str> {
        let mut scopes: Vec<&str> = self.settings.scopes.iter().map(String::as_str).collect();
        for scope in &attempt.scopes {
            if !scopes.contains(&scope.as_str()) {
                scopes.push(scope);
            }
        }
        scopes
    }

    /// What the tokens of a new login are to be bound to.
    pub(super) fn new_key(&self) -> Result<Option<DpopKey>, Fault> {
        match self.settings.binding {
            Binding::Dpop => DpopKey::generate().map(Some),
            Binding::None => Ok(None),
        }
    }

    /// The order is part of the design: whose answer is it, is it an error, and only then the code is spent.
    async fn completion(&self, attempt: &PendingLogin, response: AuthorizationResponse) -> Result<SignedIn, Trouble> {
        let document = self.discovery.document().await?;
        self.check_response_issuer(&document, response.iss.as_deref())?;
        if let Some(error) = response.error {
            let word: String = error.chars().filter(|c| c.is_ascii_graphic()).take(60).collect();
            return Err(Fault::new(Reason::ProviderError, format!("the provider answered {word}")).into());
        }
        let code = response.code.ok_or_else(|| Fault::new(Reason::ParameterInvalid, "the response holds neither code nor error"))?;
        let key = match &attempt.dpop_key {
            Some(kept) => Some(DpopKey::open(&Secret::new(kept.as_str()))?),
            None => self.new_key()?,
        };
        let mut tokens = self.spend_code(&document, attempt, &code, key.as_ref()).await?;
        // RFC 6749 §5.1: where the answer names none, they are those that were asked for.
        tokens.scopes.get_or_insert_with(|| self.scopes_of(attempt).into_iter().map(str::to_owned).collect());
        self.somebody(&document, tokens, key.as_ref(), Nonce::Sent(&attempt.nonce)).await
    }

    /// Whoever a token response speaks of: by its ID token, and by userinfo where there is one.
    pub(super) async fn somebody(
        &self,
        document: &Document,
        tokens: exchange::Tokens,
        key: Option<&DpopKey>,
        nonce: Nonce<'_>,
    ) -> Result<SignedIn, Trouble> {
        let id_token = tokens.id_token.clone().ok_or_else(|| Fault::new(Reason::IdTokenMissing, "the token response holds no id_token"))?;
        let claims = self.verify_id_token(&id_token, &tokens.access_token, nonce).await?;
        let kept = tokens.kept(Some(&claims), self.clock.now());
        let sub = claims.get("sub").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let sid = claims.get("sid").and_then(serde_json::Value::as_str).map(str::to_owned);
        // Verified: it is the provider's own, or a listed tenant's.
        let issuer = claims.get("iss").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let told = self.told(document, &tokens.access_token, key, (&issuer, &sub)).await?;
        let source = Source::Provider(self.settings.id.as_str().into());
        let claims = exchange::join(claims, told);
        self.check_name(&source, &claims)?;
        let identity = Identity::from_claims(&issuer, source, &self.settings.mapping, claims).ok_or_else(|| {
            Fault::new(
                Reason::IdTokenClaims,
                format!("neither ID token nor userinfo holds {:?} as a text", self.settings.mapping.user.as_str()),
            )
        })?;
        let scopes = tokens.scopes.unwrap_or_else(|| self.settings.scopes.iter().cloned().collect());
        let client_id = self.settings.client_id.clone();
        Ok(SignedIn { identity: Identity { scopes: scopes.into(), ..identity }, client_id, sid, id_token, tokens: Some(kept) })
    }

    /// Nobody is known by an address that does not count.
    pub(super) fn check_name(&self, source: &Source, claims: &Claims) -> Result<(), Fault> {
        if self.settings.mapping.names_by_unverified_email(source, claims) {
            return Err(Fault::new(Reason::EmailNotVerified, "user_claim is \"email\", and this address is not verified"));
        }
        Ok(())
    }

    /// RFC 9207 §2.4: simple string comparison; missing only where it was not promised.
    fn check_response_issuer(&self, document: &Document, iss: Option<&str>) -> Result<(), Fault> {
        match iss {
            Some(iss) if self.settings.issuer.is(iss) => Ok(()),
            Some(_) => Err(Fault::new(Reason::ResponseIssuer, "iss of the response is another issuer")),
            None if document.additional_metadata().authorization_response_iss_parameter_supported => {
                Err(Fault::new(Reason::ResponseIssuerMissing, "the provider promises iss in its responses, and this one holds none"))
            }
            None => Ok(()),
        }
    }

    /// With the keys at hand; if none of them fits, once more with newer ones, since providers rotate keys at any moment.
    pub(super) async fn verify_id_token(&self, token: &Secret, access_token: &Secret, nonce: Nonce<'_>) -> Result<Claims, Trouble> {
        let expect = IdTokenExpectation {
            issuer: &self.settings.issuer,
            client_id: &self.settings.client_id,
            algorithms: &self.settings.algorithms,
            trusted_audiences: &[],
            nonce,
            access_token,
            leeway: self.settings.leeway,
        };
        let keys = self.keys.keys().await?;
        match id_token::verify(token.expose(), &keys, &expect, self.clock.now()) {
            Ok(claims) => Ok(claims),
            Err(IdTokenError::Refused(fault)) => Err(fault.into()),
            Err(IdTokenError::KeyUnknown(fault)) => match self.keys.keys_after_unknown(Budget::IdToken, &keys).await? {
                Some(newer) => {
                    id_token::verify(token.expose(), &newer, &expect, self.clock.now()).map_err(|error| error.into_fault().into())
                }
                None => Err(fault.into()),
            },
        }
    }
}

impl IdentityProvider for OpenIdProvider {
    fn id(&self) -> &str {
        &self.settings.id
    }

    fn name(&self) -> &str {
        &self.settings.name
    }

    fn authorization_url<'a>(
        &'a self,
        attempt: &'a mut PendingLogin,
        state: &'a str,
        passed: &'a [(String, String)],
    ) -> ProviderFuture<'a, Url> {
        Box::pin(self.authorization(attempt, state, passed))
    }

    fn takes_from_start(&self) -> Option<&FromStart> {
        Some(&self.settings.authorize_from_start)
    }

    fn callback(&self) -> Option<&str> {
        self.settings.callback.as_deref()
    }

    fn complete<'a>(&'a self, attempt: &'a PendingLogin, response: AuthorizationResponse) -> ProviderFuture<'a, SignedIn> {
        Box::pin(self.completion(attempt, response))
    }

    fn refresh<'a>(&'a self, session: &'a Session) -> ProviderFuture<'a, Refreshed> {
        Box::pin(self.refreshed(session))
    }

    fn revalidate<'a>(&'a self, session: &'a Session) -> ProviderFuture<'a, Option<Identity>> {
        Box::pin(self.revalidated(session))
    }

    fn end_session_url<'a>(
        &'a self,
        session: &'a Session,
        post_logout_redirect_uri: &'a str,
        state: &'a str,
    ) -> ProviderFuture<'a, Option<Url>> {
        Box::pin(self.end_session(session, post_logout_redirect_uri, state))
    }

    fn ends_sessions_at<'a>(&'a self, url: &'a Url) -> ProviderFuture<'a, bool> {
        Box::pin(self.is_end_session(url))
    }

    fn revoke<'a>(&'a self, tokens: &'a Tokens) -> ProviderFuture<'a, ()> {
        Box::pin(self.take_back(tokens))
    }

    fn verify_logout_token<'a>(&'a self, token: &'a Secret) -> ProviderFuture<'a, LogoutToken> {
        Box::pin(self.verified_logout(token))
    }

    fn origins(&self) -> Vec<String> {
        let issuer = Url::parse(self.settings.issuer.address()).ok();
        let end_session = self.discovery.known().and_then(|document| document.additional_metadata().end_session_endpoint.clone());
        let mut origins: Vec<String> = [issuer, end_session].into_iter().flatten().map(|url| url.origin().ascii_serialization()).collect();
        origins.extend(self.settings.logout_url.as_ref().and_then(LogoutUrl::origin));
        origins.sort();
        origins.dedup();
        origins
    }
}
