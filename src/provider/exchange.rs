//! The calls of one login: the code for tokens (RFC 6749 §4.1.3, RFC 7636 §4.5), and userinfo (OpenID Connect Core §5.3).

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use ::http::StatusCode;
use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, EndpointNotSet, EndpointSet, ExtraTokenFields, HttpRequest, HttpResponse,
    PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::http::{Http, HttpError, HttpFailure};
use crate::clock::UnixTime;
use crate::fault::{Fault, Outage, Trouble};
use crate::identity::Claims;
use crate::login::PendingLogin;
use crate::reason::Reason;
use crate::secret::{Secret, random, same};
use crate::session;

/// What came for a code or a refresh token.
#[derive(Clone)]
pub(super) struct Tokens {
    /// Always there for a code; for a refresh token it may be left out (OpenID Connect Core §12.2).
    pub(super) id_token: Option<Secret>,
    pub(super) access_token: Secret,
    pub(super) refresh_token: Option<Secret>,
    /// `expires_in` (RFC 6749 §5.1).
    pub(super) lives: Option<Duration>,
    /// `refresh_expires_in`, which some providers add.
    pub(super) refresh_lives: Option<Duration>,
    /// `None` when the answer names none: then they are those that were asked for (RFC 6749 §5.1).
    pub(super) scopes: Option<BTreeSet<String>>,
}

impl Tokens {
    /// When new ones are due although no new refresh token came with these: as if one had.
    pub(super) fn due_again(&self, claims: Option<&Claims>, now: UnixTime) -> Option<UnixTime> {
        let with_one = Self { refresh_token: Some(Secret::new("")), ..self.clone() };
        with_one.kept(claims, now).refresh_at
    }

    /// What a session keeps of them. Where the answer does not say how long the access token lives (`expires_in`), the ID token's `exp` does.
    pub(super) fn kept(&self, claims: Option<&Claims>, now: UnixTime) -> session::Tokens {
        let until_exp = || {
            let lives = UnixTime(claims?.get("exp")?.as_u64()?).since(now);
            (!lives.is_zero()).then_some(lives)
        };
        let [chance] = random();
        session::Tokens::new(
            self.access_token.clone(),
            self.refresh_token.clone(),
            self.lives.or_else(until_exp),
            self.refresh_lives,
            now,
            chance,
        )
    }
}

/// How we prove ourselves.
pub(super) struct Registration<'a> {
    pub(super) client_id: &'a str,
    pub(super) client_secret: Secret,
    pub(super) auth_type: AuthType,
}

#[derive(Deserialize, Serialize)]
struct ExtraFields {
    #[serde(default)]
    id_token: Option<String>,
    /// Seconds; 0 says that it never ends (Keycloak's offline tokens).
    #[serde(default)]
    refresh_expires_in: Option<u64>,
}

impl fmt::Debug for ExtraFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExtraFields")
    }
}

impl ExtraTokenFields for ExtraFields {}

/// One that knows the token endpoint and no other.
type Client<Token = EndpointSet> = oauth2::Client<
    BasicErrorResponse,
    StandardTokenResponse<ExtraFields, BasicTokenType>,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    Token,
>;

/// Spends the code. Asked once, whatever comes back.
pub(super) async fn spend_code(
    http: &Http,
    endpoint: &TokenUrl,
    registration: Registration<'_>,
    attempt: &PendingLogin,
    code: &Secret,
) -> Result<Tokens, Trouble> {
    let redirect =
        RedirectUrl::new(attempt.redirect_uri.clone()).map_err(|_| Fault::new(Reason::Internal, "our own redirect_uri is no URL"))?;
    let client = client(registration, endpoint).set_redirect_uri(redirect);
    let send = sender(http, endpoint);
    let answer = client
        .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(attempt.code_verifier.clone()))
        .request_async(&send)
        .await
        .map_err(sort)?;
    tokens(&answer)
}

/// Spends a refresh token. Of what may come back only `invalid_grant` speaks of the person; everything else is the provider's trouble or ours.
pub(super) async fn spend_refresh_token(
    http: &Http,
    endpoint: &TokenUrl,
    registration: Registration<'_>,
    refresh_token: &Secret,
) -> Result<Tokens, Trouble> {
    let client = client(registration, endpoint);
    let send = sender(http, endpoint);
    let refresh_token = RefreshToken::new(refresh_token.expose().to_owned());
    let answer = client.exchange_refresh_token(&refresh_token).request_async(&send).await;
    let answer = answer.map_err(|error| match error {
        RequestTokenError::ServerResponse(answer) if matches!(answer.error(), BasicErrorResponseType::InvalidGrant) => {
            Fault::new(Reason::RefreshRefused, "the token endpoint answered invalid_grant").into()
        }
        error => as_outage(sort(error)),
    })?;
    tokens(&answer).map_err(as_outage)
}

fn as_outage(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Refused(fault) => Outage::provider(fault.detail).into(),
        unreachable @ Trouble::Unreachable(_) => unreachable,
    }
}

fn client(registration: Registration<'_>, endpoint: &TokenUrl) -> Client {
    Client::<EndpointNotSet>::new(ClientId::new(registration.client_id.to_owned()))
        .set_client_secret(ClientSecret::new(registration.client_secret.expose().to_owned()))
        .set_auth_type(registration.auth_type)
        .set_token_uri(endpoint.clone())
}

type Sending = std::pin::Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>;

fn sender(http: &Http, endpoint: &TokenUrl) -> impl Fn(HttpRequest) -> Sending + Send + Sync + 'static {
    let (http, url) = (http.clone(), endpoint.url().clone());
    move |request: HttpRequest| {
        let (call, url) = (http.send(request), url.clone());
        Box::pin(async move {
            let answer: HttpResponse = call.await?;
            // A failing server is an outage, not a refusal.
            if answer.status().is_server_error() { Err(HttpError::status(&url, answer.status())) } else { Ok(answer) }
        })
    }
}

fn tokens(answer: &StandardTokenResponse<ExtraFields, BasicTokenType>) -> Result<Tokens, Trouble> {
    // RFC 6749 §7.1: a token of a type that we do not know must not be used.
    if !matches!(answer.token_type(), BasicTokenType::Bearer) {
        return Err(Fault::new(Reason::TokenResponse, "token_type is not Bearer").into());
    }
    let extra = answer.extra_fields();
    Ok(Tokens {
        id_token: extra.id_token.clone().filter(|token| !token.is_empty()).map(Secret::new),
        access_token: Secret::new(answer.access_token().secret().clone()),
        refresh_token: answer.refresh_token().map(|token| Secret::new(token.secret().clone())),
        lives: answer.expires_in(),
        refresh_lives: extra.refresh_expires_in.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        scopes: answer.scopes().map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect()),
    })
}

/// The library's errors carry the raw answer; what is kept of them is the provider's error word.
fn sort(error: RequestTokenError<HttpError, BasicErrorResponse>) -> Trouble {
    match error {
        RequestTokenError::ServerResponse(answer) => {
            let word: String = answer.error().to_string().chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
            Fault::new(Reason::CodeRefused, format!("the token endpoint answered {word}")).into()
        }
        RequestTokenError::Request(error) => match error.failure {
            HttpFailure::Unreachable | HttpFailure::Timeout | HttpFailure::Status(_) => Outage::provider(&error).into(),
            HttpFailure::Address | HttpFailure::TooLarge | HttpFailure::Redirect | HttpFailure::NotJson => {
                Fault::new(Reason::TokenResponse, error.to_string()).into()
            }
        },
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            Fault::new(Reason::TokenResponse, "the token endpoint's answer is no token response (RFC 6749 §5.1, §5.2)").into()
        }
    }
}

/// Asks userinfo, and takes its claims only if it speaks of the same `sub` (OpenID Connect Core §5.3.2).
pub(super) async fn userinfo(http: &Http, endpoint: &Url, access_token: &Secret, sub: &str) -> Result<Claims, Trouble> {
    match ask_userinfo(http, endpoint, access_token, sub).await {
        Ok(claims) => Ok(claims),
        Err(Untold::Fault(fault)) => Err(fault.into()),
        Err(Untold::Unwelcome(why)) => Err(Fault::new(Reason::UserinfoMalformed, why).into()),
        Err(Untold::Unreachable(outage)) => Err(outage.into()),
    }
}

/// Why userinfo told nothing.
pub(super) enum Untold {
    /// It spoke of somebody else, or not as it should.
    Fault(Fault),
    /// It refused the access token (RFC 6750 §3.1 `invalid_token`, 401). A 403 says that a scope is missing, or comes from a filter before the
    /// provider: nothing of the person.
    Unwelcome(String),
    /// It did not answer.
    Unreachable(Outage),
}

/// The same, for whom it makes a difference why.
pub(super) async fn ask_userinfo(http: &Http, endpoint: &Url, access_token: &Secret, sub: &str) -> Result<Claims, Untold> {
    let malformed = |detail: String| Untold::Fault(Fault::new(Reason::UserinfoMalformed, detail));
    let answer = http.get_json(endpoint, Some(access_token)).await.map_err(|error| match error.failure {
        HttpFailure::Status(StatusCode::UNAUTHORIZED) => Untold::Unwelcome(error.to_string()),
        HttpFailure::Status(status) if !status.is_server_error() => malformed(error.to_string()),
        HttpFailure::Unreachable | HttpFailure::Timeout | HttpFailure::Status(_) => Untold::Unreachable(Outage::provider(&error)),
        HttpFailure::Address | HttpFailure::TooLarge | HttpFailure::Redirect | HttpFailure::NotJson => malformed(error.to_string()),
    })?;
    let Value::Object(claims) = answer else {
        return Err(malformed("userinfo answered with JSON that is no object".to_owned()));
    };
    let told = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if told.is_empty() || !same(told.as_bytes(), sub.as_bytes()) {
        return Err(Untold::Fault(Fault::new(Reason::UserinfoSubject, "userinfo's sub is missing or not the ID token's")));
    }
    Ok(claims)
}

/// ID token and userinfo as one: the signed ID token wins. An `email_verified` counts only with the e-mail that it came with. What a login was
/// worth, and when it was, only the ID token says: userinfo speaks of a person, not of a login.
pub(super) fn join(id_token: Claims, userinfo: Claims) -> Claims {
    let mut all = userinfo;
    for of_the_login in ["acr", "amr", "auth_time"] {
        all.remove(of_the_login);
    }
    let email_of_both = |claims: &Claims| claims.get("email").cloned();
    if id_token.contains_key("email") && !id_token.contains_key("email_verified") && email_of_both(&id_token) != email_of_both(&all) {
        all.remove("email_verified");
    }
    if id_token.contains_key("email_verified") && !id_token.contains_key("email") {
        all.remove("email");
    }
    all.extend(id_token);
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_verification_counts_only_for_its_own_email() {
        let object = |value: Value| value.as_object().unwrap().clone();
        for (id_token, userinfo, expected) in [
            (
                json!({"sub": "1"}),
                json!({"email": "a@x", "email_verified": true}),
                json!({"sub": "1", "email": "a@x", "email_verified": true}),
            ),
            (json!({"email": "b@x"}), json!({"email": "a@x", "email_verified": true}), json!({"email": "b@x"})),
            (json!({"email": "a@x"}), json!({"email": "a@x", "email_verified": true}), json!({"email": "a@x", "email_verified": true})),
            (json!({"email_verified": true}), json!({"email": "a@x"}), json!({"email_verified": true})),
            (json!({"sub": "1", "acr": "pwd"}), json!({"acr": "mfa", "amr": ["otp"], "auth_time": 9}), json!({"sub": "1", "acr": "pwd"})),
            (json!({"name": "n"}), json!({"name": "m", "groups": ["g"]}), json!({"name": "n", "groups": ["g"]})),
        ] {
            assert_eq!(Value::Object(join(object(id_token.clone()), object(userinfo))), expected, "{id_token}");
        }
    }
}
