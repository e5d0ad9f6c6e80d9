//! A program that binds its tokens to a key and proves it (RFC 9449), honestly or not quite.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::hostile_state::merged;
use super::jose::{Algorithm, SigningKey, base64url, random};
use super::wait::unix_now;

/// The program's key.
pub struct ProvingKey {
    key: SigningKey,
}

impl ProvingKey {
    /// A fresh one.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self { key: SigningKey::new(algorithm, "none") }
    }

    /// The public key with nothing optional.
    #[must_use]
    pub fn jwk(&self) -> Value {
        merged(&self.key.jwk(), &json!({ "kid": null, "alg": null, "use": null }))
    }

    /// Its thumbprint (RFC 7638): what `cnf.jkt` of a token holds. serde_json writes members in the order of their names, as the RFC wants.
    #[must_use]
    pub fn jkt(&self) -> String {
        base64url(digest(&SHA256, self.jwk().to_string().as_bytes()).as_ref())
    }

    /// `{"cnf": {"jkt": …}}`, for the claims of a token.
    #[must_use]
    pub fn bound(&self) -> Value {
        json!({ "cnf": { "jkt": self.jkt() } })
    }

    /// A good proof for this request and this token.
    #[must_use]
    pub fn proof(&self, method: &str, url: &str, token: &str) -> String {
        self.proof_with(method, url, token, &json!({}), &json!({}))
    }

    /// The same with changes laid over header and claims; null takes away.
    #[must_use]
    pub fn proof_with(&self, method: &str, url: &str, token: &str, header: &Value, claims: &Value) -> String {
        let honest = json!({ "typ": "dpop+jwt", "alg": self.key.algorithm.name(), "jwk": self.jwk() });
        let about = json!({ "jti": random(), "htm": method, "htu": url, "iat": unix_now(), "ath": ath(token) });
        self.key.token(&merged(&honest, header), &merged(&about, claims))
    }

    /// A proof for a token endpoint, where there is no token yet.
    #[must_use]
    pub fn proof_for_token(&self, url: &str) -> String {
        self.proof_with("POST", url, "", &json!({}), &json!({ "ath": null }))
    }
}

/// The hash of a token (RFC 9449 §4.2).
#[must_use]
pub fn ath(token: &str) -> String {
    base64url(digest(&SHA256, token.as_bytes()).as_ref())
}
