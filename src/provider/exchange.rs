//! The calls of one login: the code for tokens (RFC 6749 §4.1.3, RFC 7636 §4.5), and userinfo (OpenID Connect Core §5.3).

use std::collections::BTreeSet;
use std::time::Duration;

use ::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::discovery::Document;
use super::dpop::DpopKey;
use super::http::HttpFailure;
use super::oidc::OpenIdProvider;
use super::own_calls::{Endpoint, Unanswered};
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
    /// What they are bound to (RFC 9449); `None`: nothing.
    pub(super) dpop_key: Option<Secret>,
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
        let tokens = session::Tokens::new(
            self.access_token.clone(),
            self.refresh_token.clone(),
            self.lives.or_else(until_exp),
            self.refresh_lives,
            now,
            chance,
        );
        session::Tokens { dpop_key: self.dpop_key.clone(), ..tokens }
    }
}

/// RFC 6749 §5.1, OpenID Connect Core §3.1.3.3.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    token_type: String,
    #[serde(default)]
    expires_in: Option<Value>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    id_token: Option<String>,
    /// 0 says that it never ends (Keycloak's offline tokens).
    #[serde(default)]
    refresh_expires_in: Option<Value>,
}

impl OpenIdProvider {
    /// Spends the code. Asked once, whatever comes back.
    pub(super) async fn spend_code(
        &self,
        document: &Document,
        attempt: &PendingLogin,
        code: &Secret,
        key: Option<&DpopKey>,
    ) -> Result<Tokens, Trouble> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", attempt.redirect_uri.as_str()),
            ("code_verifier", attempt.code_verifier.as_str()),
        ];
        self.timed("token", self.ask_tokens(document, &form, key)).await.map_err(|untold| match untold {
            Refusal::Word(word) => Fault::new(Reason::CodeRefused, format!("the token endpoint answered {word}")).into(),
            Refusal::Trouble(trouble) => trouble,
        })
    }

    /// Spends a refresh token. Of what may come back only `invalid_grant` speaks of the person; everything else is the provider's trouble or ours.
    pub(super) async fn spend_refresh_token(
        &self,
        document: &Document,
        refresh_token: &Secret,
        key: Option<&DpopKey>,
    ) -> Result<Tokens, Trouble> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
        self.timed("refresh", self.ask_tokens(document, &form, key)).await.map_err(|refusal| match refusal {
            Refusal::Word(word) if word == "invalid_grant" => {
                Fault::new(Reason::RefreshRefused, "the token endpoint answered invalid_grant").into()
            }
            Refusal::Word(word) => Outage::provider(format!("the token endpoint answered {word}")).into(),
            Refusal::Trouble(Trouble::Refused(fault)) => Outage::provider(fault.detail).into(),
            Refusal::Trouble(unreachable @ Trouble::Unreachable(_)) => unreachable,
        })
    }

    /// Asks the token endpoint for what the form says, as our registration and bound to the key, if there is one.
    pub(super) async fn ask_tokens(&self, document: &Document, form: &[(&str, &str)], key: Option<&DpopKey>) -> Result<Tokens, Refusal> {
        let endpoint = self.endpoint(document, Endpoint::Token);
        let endpoint = endpoint.ok_or_else(|| Refusal::from(Fault::new(Reason::ProviderMetadata, "no token_endpoint")))?;
        let answer = self.post(document, endpoint, form, key).await.map_err(|unanswered| match unanswered {
            Unanswered::Fault(fault) => fault.into(),
            Unanswered::Http(error) => match error.failure {
                HttpFailure::Unreachable | HttpFailure::Timeout | HttpFailure::Status(_) => {
                    Refusal::Trouble(Outage::provider(&error).into())
                }
                HttpFailure::Address | HttpFailure::TooLarge | HttpFailure::Redirect | HttpFailure::NotJson => {
                    Fault::new(Reason::TokenResponse, error.to_string()).into()
                }
            },
        })?;
        let malformed = || Fault::new(Reason::TokenResponse, "the token endpoint's answer is no token response (RFC 6749 §5.1, §5.2)");
        if answer.status() != StatusCode::OK {
            return Err(error_word(answer.body()).map_or_else(|| malformed().into(), Refusal::Word));
        }
        // serde_json's message would repeat parts of the body.
        let read = serde_json::from_slice::<TokenResponse>(answer.body()).map_err(|_| malformed())?;
        Ok(read.tokens(key)?)
    }
}

/// Why the token endpoint gave nothing.
pub(super) enum Refusal {
    /// It says no, by this word (RFC 6749 §5.2).
    Word(String),
    /// Anything else.
    Trouble(Trouble),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Trouble(fault.into())
    }
}

impl TokenResponse {
    fn tokens(self, key: Option<&DpopKey>) -> Result<Tokens, Fault> {
        // RFC 6749 §7.1: a token of a type that we do not know must not be used. RFC 9449 §5: one that is not bound is not what was asked for.
        let wanted = if key.is_some() { "DPoP" } else { "Bearer" };
        if !self.token_type.eq_ignore_ascii_case(wanted) {
            return Err(Fault::new(Reason::TokenResponse, format!("token_type is not {wanted}")));
        }
        let some = |text: Option<String>| text.filter(|text| !text.is_empty()).map(Secret::new);
        Ok(Tokens {
            id_token: some(self.id_token),
            access_token: Secret::new(self.access_token),
            refresh_token: some(self.refresh_token),
            lives: seconds(self.expires_in.as_ref())?,
            refresh_lives: seconds(self.refresh_expires_in.as_ref())?.filter(|lives| !lives.is_zero()),
            scopes: self.scope.map(|scopes| scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect()),
            dpop_key: key.map(|key| key.kept().clone()),
        })
    }
}

/// There are providers that write the number as a text.
fn seconds(said: Option<&Value>) -> Result<Option<Duration>, Fault> {
    let number = match said {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
    };
    let number = number.ok_or_else(|| Fault::new(Reason::TokenResponse, "expires_in is no number of seconds"))?;
    Ok(Some(Duration::from_secs(number)))
}

/// The word of an error (RFC 6749 §5.2), as much of it as may be repeated.
pub(super) fn error_word(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let word: String = body.get("error")?.as_str()?.chars().filter(char::is_ascii_graphic).take(40).collect();
    (!word.is_empty()).then_some(word)
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

impl OpenIdProvider {
    /// Asks userinfo, and takes its claims only if it speaks of the same `sub` (OpenID Connect Core §5.3.2). `None`: there is no userinfo.
    pub(super) async fn ask_userinfo(
        &self,
        document: &Document,
        access_token: &Secret,
        key: Option<&DpopKey>,
        sub: &str,
    ) -> Result<Option<Claims>, Untold> {
        let Some(endpoint) = self.endpoint(document, Endpoint::Userinfo) else { return Ok(None) };
        let malformed = |detail: String| Untold::Fault(Fault::new(Reason::UserinfoMalformed, detail));
        let asked = async {
            match key {
                None => self.http.get_json(endpoint, Some(access_token)).await.map_err(Unanswered::Http),
                Some(key) => self.get_with_proof(endpoint, access_token, key).await,
            }
        };
        let answer = self.timed("userinfo", asked).await.map_err(|unanswered| match unanswered {
            Unanswered::Fault(fault) => Untold::Fault(fault),
            Unanswered::Http(error) => match error.failure {
                HttpFailure::Status(StatusCode::UNAUTHORIZED) => Untold::Unwelcome(error.to_string()),
                HttpFailure::Status(status) if !status.is_server_error() => malformed(error.to_string()),
                HttpFailure::Unreachable | HttpFailure::Timeout | HttpFailure::Status(_) => Untold::Unreachable(Outage::provider(&error)),
                HttpFailure::Address | HttpFailure::TooLarge | HttpFailure::Redirect | HttpFailure::NotJson => malformed(error.to_string()),
            },
        })?;
        let Value::Object(claims) = answer else {
            return Err(malformed("userinfo answered with JSON that is no object".to_owned()));
        };
        let told = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if told.is_empty() || !same(told.as_bytes(), sub.as_bytes()) {
            return Err(Untold::Fault(Fault::new(Reason::UserinfoSubject, "userinfo's sub is missing or not the ID token's")));
        }
        Ok(Some(claims))
    }
}

impl From<Untold> for Trouble {
    fn from(untold: Untold) -> Self {
        match untold {
            Untold::Fault(fault) => fault.into(),
            Untold::Unwelcome(why) => Fault::new(Reason::UserinfoMalformed, why).into(),
            Untold::Unreachable(outage) => outage.into(),
        }
    }
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
