//! The key that a DPoP proof brings along (RFC 9449 §4.2 `jwk`): a public one, ready for the proof's algorithm, with its thumbprint.

use serde_json::Value;

use super::algorithm::Algorithm;
use super::jwk;
use super::signature::VerifyingKey;
use crate::secret::{encode, sha256};

/// Members that hold private or shared key material (RFC 7518 §6.2.2, §6.3.2, §6.4.1; RFC 8037 §2).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A proof's public key.
pub(super) struct ProofKey {
    /// Verifies the proof's algorithm.
    pub(super) key: VerifyingKey,
    /// Its SHA-256 thumbprint in base64url (RFC 7638 §3): what `cnf.jkt` holds (RFC 9449 §6.1).
    pub(super) thumbprint: String,
}

impl ProofKey {
    /// Reads a JWK for `algorithm`. The error says what is wrong, for the log.
    pub(super) fn parse(jwk: &Value, algorithm: Algorithm) -> Result<Self, &'static str> {
        let members = jwk.as_object().ok_or("jwk is no object")?;
        // RFC 9449 §4.3 (7).
        if PRIVATE.iter().any(|name| members.contains_key(*name)) {
            return Err("jwk holds private key material");
        }
        let key = jwk::ready(jwk, algorithm).ok_or("jwk is no sound public key for the proof's alg")?;
        Ok(Self { key, thumbprint: thumbprint(jwk).ok_or("jwk has no thumbprint")? })
    }
}

/// RFC 7638 §3.1: the hash over the required members in the order of their names, without spaces; which they are, §3.2 says for RSA and EC,
/// RFC 8037 §2 for OKP.
fn thumbprint(jwk: &Value) -> Option<String> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let names: &[&str] = match text("kty")? {
        "EC" => &["crv", "kty", "x", "y"],
        "RSA" => &["e", "kty", "n"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    let mut input = String::from("{");
    for (index, name) in names.iter().enumerate() {
        // Names of curves and base64url, which were read before: nothing in them needs an escape.
        let value = text(name).filter(|value| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))?;
        input.push_str(&format!("{}\"{name}\":\"{value}\"", if index > 0 { "," } else { "" }));
    }
    input.push('}');
    Some(encode(&sha256(input.as_bytes())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::token::testing::Signer;

    #[test]
    fn the_thumbprint_of_the_rfcs_example_is_the_one_it_prints() {
        // RFC 7638 §3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
        let key = ProofKey::parse(&jwk, Algorithm::Rs256).ok().unwrap();
        assert_eq!(key.thumbprint, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        // RFC 8037 appendix A.3.
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        assert_eq!(ProofKey::parse(&jwk, Algorithm::EdDsa).ok().unwrap().thumbprint, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn only_a_public_key_of_the_proofs_algorithm_is_one() {
        let ec = Signer::new(Algorithm::Es256).jwk("k");
        assert!(ProofKey::parse(&ec, Algorithm::Es256).is_ok());
        for (algorithm, change) in [
            (Algorithm::Es384, json!({})),
            (Algorithm::Rs256, json!({})),
            (Algorithm::Es256, json!({"d": "AA"})),
            (Algorithm::Es256, json!({"k": "AA"})),
            (Algorithm::Es256, json!({"alg": "ES384"})),
            (Algorithm::Es256, json!({"use": "enc"})),
            (Algorithm::Es256, json!({"y": "AA"})),
            (Algorithm::Es256, json!({"x": 7})),
            (Algorithm::Es256, json!({"kty": "oct"})),
        ] {
            let jwk = crate::token::testing::with(&ec, &change);
            assert!(ProofKey::parse(&jwk, algorithm).is_err(), "{algorithm} {change}");
        }
        for not_one in [json!(null), json!("x"), json!([]), json!({})] {
            assert!(ProofKey::parse(&not_one, Algorithm::Es256).is_err(), "{not_one}");
        }
    }
}
