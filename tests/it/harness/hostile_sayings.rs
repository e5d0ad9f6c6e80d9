//! What the hostile provider's tokens and keys say beside what every provider's do: for providers of a kind.

use serde_json::{Value, json};

use super::hostile::HostileProvider;
use super::hostile_state::{Grant, Inner, Settings, merged};
use super::jose::{random, with_broken_signature};

/// Holds from the moment at which it is said.
pub struct Sayings {
    /// Laid over the claims of ID tokens.
    pub id_token: Value,
    /// What access tokens are.
    pub access_tokens: AccessTokens,
    /// Laid over each public key.
    pub jwk: Value,
}

/// What access tokens are.
#[derive(Clone)]
pub enum AccessTokens {
    /// Random texts.
    Opaque,
    /// JWTs of the provider's own with these claims laid over `iss`, `sub`, `aud` (`account`), `azp`, `typ` (`Bearer`), `iat`, `exp`,
    /// `jti`.
    Jwts(Value),
    /// The same with one bit of the signature turned.
    Broken(Value),
}

impl Default for Sayings {
    fn default() -> Self {
        Self { id_token: json!({}), access_tokens: AccessTokens::Opaque, jwk: json!({}) }
    }
}

impl HostileProvider {
    /// Changes the claims of ID tokens; null takes one away.
    pub fn id_tokens_say(&self, patch: Value) {
        self.state.lock().sayings.id_token = patch;
    }

    /// What access tokens are from now on.
    pub fn access_tokens_are(&self, tokens: AccessTokens) {
        self.state.lock().sayings.access_tokens = tokens;
    }

    /// Changes every key of the JWKS.
    pub fn keys_say(&self, patch: Value) {
        self.state.lock().sayings.jwk = patch;
    }
}

/// A new access token for a grant.
#[must_use]
pub fn access_token(settings: &Settings, inner: &Inner, grant: &Grant, now: u64) -> String {
    let jwt = |claims: &Value| {
        let standard = json!({
            "iss": inner.issuer, "sub": grant.claims["sub"], "aud": "account", "azp": settings.client_id, "typ": "Bearer",
            "iat": now, "exp": now + inner.expires_in, "jti": random(), "nonce": grant.nonce,
        });
        inner.key.token(&inner.key.header(), &merged(&standard, claims))
    };
    match &inner.sayings.access_tokens {
        AccessTokens::Opaque => random(),
        AccessTokens::Jwts(claims) => jwt(claims),
        AccessTokens::Broken(claims) => with_broken_signature(&jwt(claims)),
    }
}
