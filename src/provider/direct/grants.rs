//! Grants without a browser at an OpenID provider, with the gateway's own registration: the password of somebody (RFC 6749 §4.3), and a token
//! of others exchanged for the provider's (RFC 8693).

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::fault::{Fault, Outage, Trouble};
use crate::identity::{Claims, Identity, Source};
use crate::provider::SignedIn;
use crate::provider::dpop::DpopKey;
use crate::provider::exchange::{self, Tokens, error_word};
use crate::provider::http::{HttpError, HttpFailure};
use crate::provider::oidc::OpenIdProvider;
use crate::provider::own_calls::{Endpoint, Unanswered};
use crate::reason::Reason;
use crate::secret::Secret;
use crate::token::{Nonce, TokenType};

/// RFC 8693 §2.1.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693 §3: what an exchange may issue in the place of `access_token`.
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// What the token endpoint gave. Nothing of it is verified.
pub struct Granted {
    tokens: Tokens,
    speaks: Speaks,
    /// What they are bound to.
    key: Option<DpopKey>,
}

/// What says whose it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// The ID token beside the access token.
    IdToken,
    /// An ID token, and there is nothing beside it.
    IdTokenAlone,
    /// The access token: an exchange may bring nothing else.
    AccessToken,
}

impl Granted {
    /// The access token as it came, and how long it lives if that was said.
    #[must_use]
    pub fn access_token(&self) -> (&Secret, Option<Duration>) {
        (&self.tokens.access_token, self.tokens.lives)
    }
}

/// A token to be exchanged.
pub struct Subject<'a> {
    /// `subject_token`.
    pub token: &'a Secret,
    /// `subject_token_type`.
    pub kind: &'a str,
    /// What this provider wants to be told beside it.
    pub parameters: &'a [(String, String)],
}

#[derive(Deserialize)]
struct Answered {
    access_token: Option<String>,
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<Value>,
    refresh_token: Option<String>,
    refresh_expires_in: Option<u64>,
    scope: Option<String>,
    id_token: Option<String>,
    issued_token_type: Option<String>,
}

impl OpenIdProvider {
    /// Shows somebody's name and password. Of what may come back only `invalid_grant` speaks of the person; all else is the provider's trouble
    /// or ours.
    ///
    /// # Errors
    /// [`Reason::PasswordWrong`], or an outage.
    pub async fn password_grant(&self, name: &str, password: &Secret) -> Result<Granted, Trouble> {
        let scope = self.settings.scopes.join(" ");
        let form = [("grant_type", "password"), ("username", name), ("password", password.expose()), ("scope", &scope)];
        let answer = self.ask_for_tokens(&form, Outage::provider).await?;
        answer.map_err(|error| match error.as_str() {
            "invalid_grant" => Fault::new(Reason::PasswordWrong, "the token endpoint answered invalid_grant").into(),
            other => Outage::provider(format!("the token endpoint answered {other} to a password grant")).into(),
        })
    }

    /// Exchanges a token of others for the provider's own (RFC 8693 §2.1). That it was issued for our application is for the provider to know.
    ///
    /// # Errors
    /// [`Reason::ForeignTokenRefused`], or an outage.
    pub async fn exchange_grant(&self, subject: &Subject<'_>) -> Result<Granted, Trouble> {
        let scope = self.settings.scopes.join(" ");
        let mut form = vec![
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", subject.token.expose()),
            ("subject_token_type", subject.kind),
            ("scope", &scope),
        ];
        form.extend(subject.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let answer = self.ask_for_tokens(&form, Outage::token_check).await?;
        answer.map_err(|error| match error.as_str() {
            // RFC 8693 §2.2.2 has `invalid_request` for a subject_token that is not good; others say one of the two below.
            "invalid_request" | "invalid_grant" | "invalid_token" => {
                Fault::new(Reason::ForeignTokenRefused, format!("the token exchange was answered with {error}")).into()
            }
            other => Outage::token_check(format!("the token exchange was answered with {other}")).into(),
        })
    }

    /// Whoever the tokens speak of: by an ID token that is checked like that of every login (but for a nonce, which only a browser's has), or by
    /// an access token of an exchange that is a JWT of this provider. An opaque one says nothing that could be checked.
    ///
    /// # Errors
    /// As for a login.
    pub async fn sign_in(&self, granted: Granted) -> Result<SignedIn, Trouble> {
        let document = self.discovery.document().await?;
        let Granted { tokens, speaks, key } = granted;
        let (signed, told, kept) = match speaks {
            Speaks::IdToken => return self.somebody(&document, tokens, key.as_ref(), Nonce::Original(None)).await,
            Speaks::IdTokenAlone => {
                let signed = self.verify_id_token(&tokens.access_token, &tokens.access_token, Nonce::Original(None)).await?;
                (signed, Claims::new(), None)
            }
            Speaks::AccessToken => {
                let signed = self.verified_access_token(&tokens.access_token, key.is_some()).await?;
                let sub = signed.get("sub").and_then(Value::as_str).unwrap_or_default();
                let told = self.ask_userinfo(&document, &tokens.access_token, key.as_ref(), sub).await?.unwrap_or_default();
                (signed, told, Some(tokens.kept(None, self.clock.now())))
            }
        };
        // By it the provider says that its own session has ended: there are those whose access tokens name it too.
        let sid = signed.get("sid").and_then(Value::as_str).map(str::to_owned);
        let claims = exchange::join(signed, told);
        let source = Source::Provider(self.settings.id.as_str().into());
        // Verified: it is the provider's own, or a listed tenant's.
        let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default().to_owned();
        let identity = Identity::from_claims(&issuer, source, &self.settings.mapping, claims);
        let identity = identity.ok_or_else(|| Fault::new(Reason::IdTokenClaims, "what came of the exchange names nobody"))?;
        let identity = Identity { scopes: tokens.scopes.unwrap_or_default().into(), ..identity };
        let client_id = self.settings.client_id.clone();
        Ok(SignedIn { identity, client_id, sid, id_token: Secret::new(String::new()), tokens: kept })
    }

    async fn verified_access_token(&self, token: &Secret, bound: bool) -> Result<Claims, Trouble> {
        let verified = self.signed_access_token(token, TokenType::Any).await?;
        if verified.confirmation.is_some() != bound {
            return Err(Fault::new(Reason::TokenBound, "the token of the exchange is not bound as it was asked for").into());
        }
        Ok(verified.claims)
    }

    /// The word of `error` where the answer holds one (RFC 6749 §5.2); anything else that brings no tokens is an outage.
    async fn ask_for_tokens(&self, form: &[(&str, &str)], silent: fn(String) -> Outage) -> Result<Result<Granted, String>, Trouble> {
        let exchanged = form.first().is_some_and(|(_, grant_type)| *grant_type == TOKEN_EXCHANGE);
        let document = self.discovery.document().await?;
        let endpoint = self.endpoint(&document, Endpoint::Token);
        let endpoint = endpoint.ok_or_else(|| Fault::new(Reason::ProviderMetadata, "no token_endpoint"))?;
        let trouble = |error: HttpError| match error.failure {
            HttpFailure::Unreachable | HttpFailure::Timeout | HttpFailure::Status(_) => Trouble::from(silent(error.to_string())),
            HttpFailure::Address | HttpFailure::TooLarge | HttpFailure::Redirect | HttpFailure::NotJson => {
                Fault::new(Reason::TokenResponse, error.to_string()).into()
            }
        };
        let key = self.new_key()?;
        let answer =
            self.timed("token", self.post(&document, endpoint, form, key.as_ref())).await.map_err(|unanswered| match unanswered {
                Unanswered::Fault(fault) => fault.into(),
                Unanswered::Http(error) => trouble(error),
            })?;
        if answer.status().is_success() {
            return Ok(Ok(granted(answer.body(), exchanged, key)?));
        }
        match error_word(answer.body()) {
            Some(word) if answer.status().is_client_error() => Ok(Err(word)),
            _ => Err(trouble(HttpError::status(endpoint, answer.status()))),
        }
    }
}

/// RFC 6749 §5.1, RFC 8693 §2.2.1.
fn granted(body: &[u8], exchanged: bool, key: Option<DpopKey>) -> Result<Granted, Fault> {
    let malformed = |what: &str| Fault::new(Reason::TokenResponse, what);
    let answer: Answered = serde_json::from_slice(body).map_err(|_| malformed("the token endpoint's answer is no token response"))?;
    let access_token = answer.access_token.filter(|token| !token.is_empty()).ok_or_else(|| malformed("no access_token"))?;
    let id_token = answer.id_token.filter(|token| !token.is_empty());
    let speaks = match answer.issued_token_type.as_deref() {
        // It comes in the place of the access token and is none (`N_A`, RFC 8693 §2.2.1).
        Some(ID_TOKEN) if exchanged => Speaks::IdTokenAlone,
        _ if exchanged && id_token.is_none() => Speaks::AccessToken,
        _ => Speaks::IdToken,
    };
    // RFC 6749 §7.1, RFC 9449 §5: a token of another type than was asked for must not be used.
    let wanted = if key.is_some() { "DPoP" } else { "Bearer" };
    let fits = answer.token_type.is_some_and(|kind| kind.eq_ignore_ascii_case(wanted));
    if !fits && speaks != Speaks::IdTokenAlone {
        return Err(malformed("token_type is not the one that was asked for"));
    }
    let seconds = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let tokens = Tokens {
        id_token: id_token.map(Secret::new),
        access_token: Secret::new(access_token),
        refresh_token: answer.refresh_token.filter(|token| !token.is_empty()).map(Secret::new),
        lives: answer.expires_in.as_ref().and_then(seconds).map(Duration::from_secs),
        refresh_lives: answer.refresh_expires_in.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        scopes: answer.scope.map(|scopes| scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect::<BTreeSet<_>>()),
        dpop_key: key.as_ref().map(|key| key.kept().clone()),
    };
    Ok(Granted { tokens, speaks, key })
}
