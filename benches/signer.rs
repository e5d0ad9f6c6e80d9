//! Who signs the tokens of a bench: keys of each family, the document that publishes them, tokens as issuers make them.

#![allow(dead_code, reason = "more than each bench needs")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey, RsaKeyPair, RsaPublicKeyComponents};
use doorward::secret::encode;
use serde_json::{Value, json};

pub const ISSUER: &str = "https://issuer.bench.test";
pub const AUDIENCE: &str = "https://api.bench.test";

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

pub struct Key {
    pub algorithm: &'static str,
    jwk: Value,
    public: ParsedPublicKey,
    sign: Sign,
}

impl Key {
    pub fn rs256() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        // PKCS#1: the modulus of 2048 bits stands after nine bytes of framing, the exponent is 65537.
        let n = pair.public_key().as_ref()[9..9 + 256].to_vec();
        let components = RsaPublicKeyComponents { n: n.as_slice(), e: &[1, 0, 1][..] };
        Self {
            algorithm: "RS256",
            jwk: json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "RS256", "n": encode(&n), "e": "AQAB"}),
            public: components.to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256).unwrap(),
            sign: Box::new(move |message| {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut out).unwrap();
                out
            }),
        }
    }

    pub fn es256() -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        Self {
            algorithm: "ES256",
            jwk: json!({
                "kty": "EC", "use": "sig", "alg": "ES256", "kid": "ES256", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]),
            }),
            public: ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &point).unwrap(),
            sign: Box::new(move |message| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()),
        }
    }

    pub fn ed_dsa() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let point = pair.public_key().as_ref().to_vec();
        Self {
            algorithm: "EdDSA",
            jwk: json!({"kty": "OKP", "use": "sig", "alg": "EdDSA", "kid": "EdDSA", "crv": "Ed25519", "x": encode(&point)}),
            public: ParsedPublicKey::new(&signature::ED25519, &point).unwrap(),
            sign: Box::new(move |message| pair.sign(message).as_ref().to_vec()),
        }
    }

    /// What an issuer with these keys publishes.
    pub fn set<'a>(keys: impl IntoIterator<Item = &'a Self>) -> String {
        json!({ "keys": keys.into_iter().map(|key| &key.jwk).collect::<Vec<_>>() }).to_string()
    }

    /// An access token as RFC 9068 has it, with what issuers usually add, issued at this time for an hour.
    pub fn token(&self, number: usize, now: u64) -> String {
        let header = json!({"alg": self.algorithm, "typ": "at+jwt", "kid": self.algorithm});
        let claims = json!({
            "iss": ISSUER, "sub": "5ba552d67f1c4c0d9b3b1fe2", "aud": [AUDIENCE], "client_id": "s6BhdRkqt3", "iat": now,
            "exp": now + 3600, "jti": format!("dbe39bf3a3ba4238a513f51d6e{number:08}"), "scope": "orders:read orders:write profile",
            "email": "ann@example.test", "email_verified": true, "groups": ["staff", "orders", "eu-west"],
        });
        let input = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = encode(&(self.sign)(input.as_bytes()));
        format!("{input}.{signature}")
    }

    /// Checks a token's signature and nothing else: input and signature as [`parts`] gives them.
    pub fn check(&self, (input, signature): &(&str, Vec<u8>)) {
        self.public.verify_sig(input.as_bytes(), signature).unwrap();
    }
}

pub fn parts(token: &str) -> (&str, Vec<u8>) {
    let (input, signature) = token.rsplit_once('.').unwrap();
    (input, doorward::secret::decode(signature).unwrap())
}
