//! Keys and tokens for tests. One RSA key serves the whole process: making one takes longer than all else.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use serde_json::{Value, json};

use super::{Algorithm, KeySet};
use crate::clock::UnixTime;
use crate::secret::encode;

/// When the tests' tokens are shown.
pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);

/// A private key that signs for one algorithm.
pub(crate) struct Signer {
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Rsa(&'static RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

fn rsa() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
}

impl Signer {
    /// A fresh key; for RSA the process's only one.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let ec = |parameters| Pair::Ec(EcdsaKeyPair::generate(parameters).unwrap());
        let pair = match algorithm {
            Algorithm::Es256 => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::EdDsa => Pair::Ed(Ed25519KeyPair::generate().unwrap()),
            _ => Pair::Rsa(rsa()),
        };
        Self { algorithm, pair }
    }

    /// The bare signature.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match self.algorithm {
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut out).unwrap();
                out
            }
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with this header and these claims.
    pub(crate) fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of(header, claims.to_string().as_bytes())
    }

    /// A token with this header over any payload.
    pub(crate) fn token_of(&self, header: &Value, payload: &[u8]) -> String {
        let input = format!("{}.{}", encode(header.to_string().as_bytes()), encode(payload));
        let signature = encode(&self.sign(input.as_bytes()));
        format!("{input}.{signature}")
    }

    /// The header that names this key's algorithm and `kid`.
    pub(crate) fn header(&self, kid: &str) -> Value {
        json!({"alg": self.algorithm.as_str(), "kid": kid})
    }

    /// The public key as JWK, with `kid` and nothing optional else.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        match &self.pair {
            Pair::Rsa(pair) => {
                // PKCS#1: two integers; the modulus of 2048 bits stands after nine bytes of framing, the exponent is 65537.
                let n = &pair.public_key().as_ref()[9..9 + 256];
                json!({"kty": "RSA", "kid": kid, "n": encode(n), "e": "AQAB"})
            }
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = match self.algorithm {
                    Algorithm::Es256 => "P-256",
                    Algorithm::Es384 => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "kid": kid, "crv": crv, "x": encode(x), "y": encode(y)})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": encode(pair.public_key().as_ref())}),
        }
    }
}

/// The bytes of a JWK Set.
pub(crate) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

/// A set of these keys.
pub(crate) fn key_set(keys: &[Value]) -> KeySet {
    KeySet::parse(&jwks(keys)).unwrap()
}

/// `base` with `change` laid over it: a value sets a member, `null` takes it away.
pub(crate) fn with(base: &Value, change: &Value) -> Value {
    let mut out = base.clone();
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            out.as_object_mut().unwrap().remove(name);
        } else {
            out[name] = value.clone();
        }
    }
    out
}
