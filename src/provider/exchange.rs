//! The calls of one login: the code for tokens (RFC 6749 §4.1.3, RFC 7636 §4.5), and userinfo (OpenID Connect Core §5.3).

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use oauth2::basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType};
use oauth2::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeVerifier, RedirectUrl,
    RequestTokenError, StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
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

/// What came for the code.
pub(super) struct Tokens {
    pub(super) id_token: Secret,
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
    /// What a session keeps of them. Where the answer does not say how long the access token lives (`expires_in`), the ID token's `exp` does.
    pub(super) fn kept(&self, claims: &Claims, now: UnixTime) -> session::Tokens {
        let until_exp = || claims.get("exp").and_then(Value::as_u64).map(|exp| UnixTime(exp).since(now)).filter(|lives| !lives.is_zero());
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

type Client = oauth2::Client<
    BasicErrorResponse,
    StandardTokenResponse<ExtraFields, BasicTokenType>,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
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
    let client = Client::new(ClientId::new(registration.client_id.to_owned()))
        .set_client_secret(ClientSecret::new(registration.client_secret.expose().to_owned()))
        .set_auth_type(registration.auth_type)
        .set_token_uri(endpoint.clone())
        .set_redirect_uri(redirect);
    let (http, url) = (http.clone(), endpoint.url().clone());
    let send = move |request: HttpRequest| {
        let (call, url) = (http.send(request), url.clone());
        async move {
            let answer: HttpResponse = call.await?;
            // A failing server is an outage, not a refusal of the code.
            if answer.status().is_server_error() { Err(HttpError::status(&url, answer.status())) } else { Ok(answer) }
        }
    };
    let answer = client
        .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(attempt.code_verifier.clone()))
        .request_async(&send)
        .await
        .map_err(sort)?;
    // RFC 6749 §7.1: a token of a type that we do not know must not be used.
    if !matches!(answer.token_type(), BasicTokenType::Bearer) {
        return Err(Fault::new(Reason::TokenResponse, "token_type is not Bearer").into());
    }
    let id_token = answer.extra_fields().id_token.clone().filter(|token| !token.is_empty());
    let id_token = id_token.ok_or_else(|| Fault::new(Reason::IdTokenMissing, "the token response holds no id_token"))?;
    Ok(Tokens {
        id_token: Secret::new(id_token),
        access_token: Secret::new(answer.access_token().secret().clone()),
        refresh_token: answer.refresh_token().map(|token| Secret::new(token.secret().clone())),
        lives: answer.expires_in(),
        refresh_lives: answer.extra_fields().refresh_expires_in.filter(|seconds| *seconds > 0).map(Duration::from_secs),
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
    let malformed = |detail: String| Trouble::from(Fault::new(Reason::UserinfoMalformed, detail));
    let answer = http.get_json(endpoint, Some(access_token)).await.map_err(|error| match error.failure {
        HttpFailure::Status(status) if !status.is_server_error() => malformed(error.to_string()),
        HttpFailure::Unreachable | HttpFailure::Timeout | HttpFailure::Status(_) => Outage::provider(&error).into(),
        HttpFailure::Address | HttpFailure::TooLarge | HttpFailure::Redirect | HttpFailure::NotJson => malformed(error.to_string()),
    })?;
    let Value::Object(claims) = answer else {
        return Err(malformed("userinfo answered with JSON that is no object".to_owned()));
    };
    let told = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if told.is_empty() || !same(told.as_bytes(), sub.as_bytes()) {
        return Err(Fault::new(Reason::UserinfoSubject, "userinfo's sub is missing or not the ID token's").into());
    }
    Ok(claims)
}

/// ID token and userinfo as one: the signed ID token wins. An `email_verified` counts only with the e-mail that it came with.
pub(super) fn join(id_token: Claims, userinfo: Claims) -> Claims {
    let mut all = userinfo;
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
            (json!({"name": "n"}), json!({"name": "m", "groups": ["g"]}), json!({"name": "n", "groups": ["g"]})),
        ] {
            assert_eq!(Value::Object(join(object(id_token.clone()), object(userinfo))), expected, "{id_token}");
        }
    }
}
