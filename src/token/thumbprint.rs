//! The name that a public key has of itself (RFC 7638): the hash of what it is made of.

use serde_json::Value;

use crate::secret::{encode, sha256};

/// The thumbprint of a public key with SHA-256, as base64url: of the members that its kind requires, in order of their names, without spaces
/// (RFC 7638 §3.2, RFC 8037 §2). `None` for a kind that is not known here, or where a required member is missing or no text.
#[must_use]
pub fn thumbprint(jwk: &Value) -> Option<String> {
    let required: &[&str] = match jwk.get("kty")?.as_str()? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let mut text = String::from("{");
    for (index, name) in required.iter().enumerate() {
        let value = jwk.get(*name)?;
        value.as_str()?;
        let comma = if index > 0 { "," } else { "" };
        text.push_str(&format!("{comma}\"{name}\":{value}"));
    }
    text.push('}');
    Some(encode(&sha256(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_example_keys_have_the_names_that_their_specifications_give() {
        // RFC 7638 §3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W\
                 -5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrd\
                 kt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let rsa = json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
        assert_eq!(thumbprint(&rsa).as_deref(), Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
        // RFC 8037 appendix A.3.
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        assert_eq!(thumbprint(&ed).as_deref(), Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
    }

    #[test]
    fn only_what_the_key_is_made_of_counts() {
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ"});
        let named = json!({"y": "eQ", "x": "eA", "use": "sig", "kid": "k", "crv": "P-256", "kty": "EC"});
        assert_eq!(thumbprint(&jwk), thumbprint(&named));
        assert_ne!(thumbprint(&jwk), thumbprint(&json!({"kty": "EC", "crv": "P-256", "x": "eA", "y": "eA"})));
        for broken in [
            json!({"kty": "EC", "crv": "P-256", "x": "eA"}),
            json!({"kty": "EC", "crv": "P-256", "x": "eA", "y": 7}),
            json!({"kty": "oct", "k": "eA"}),
            json!({"x": "eA"}),
            json!("EC"),
        ] {
            assert_eq!(thumbprint(&broken), None, "{broken}");
        }
    }
}
