//! Keys, JWKS and signed tokens made (and checked) by the tests themselves, with aws-lc-rs and without the gateway's code.

use std::sync::Mutex;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SystemRandom, fill};
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A signature algorithm, by its name in JWA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// RSA-PSS, SHA-256.
    Ps256,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Its name in `alg`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A private key with its `kid`.
pub struct SigningKey {
    /// The key's id.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Rsa(RsaLease),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl SigningKey {
    /// A key that no other living [`SigningKey`] has.
    #[must_use]
    pub fn new(algorithm: Algorithm, kid: &str) -> Self {
        let pair = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => Pair::Rsa(RsaLease::take()),
            Algorithm::Es256 => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key")),
            Algorithm::EdDsa => Pair::Ed(Ed25519KeyPair::generate().expect("an Ed25519 key")),
        };
        Self { kid: kid.to_owned(), algorithm, pair }
    }

    /// The public half as a JWK.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(lease) => {
                let (n, e) = modulus_and_exponent(lease.pair().public_key().as_ref());
                json!({ "kty": "RSA", "n": base64url(n), "e": base64url(e) })
            }
            Pair::Ec(pair) => {
                let point = pair.public_key().as_ref(); // 04 x y
                json!({ "kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..65]) })
            }
            Pair::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref()) }),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm.name());
        jwk["use"] = json!("sig");
        jwk
    }

    /// The public half as PEM (SubjectPublicKeyInfo): what an attacker feeds to an HMAC.
    #[must_use]
    pub fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Rsa(lease) => lease.pair().public_key().as_der(),
            Pair::Ec(pair) => pair.public_key().as_der(),
            Pair::Ed(pair) => pair.public_key().as_der(),
        }
        .expect("a public key has a DER form");
        pem("PUBLIC KEY", der.as_ref())
    }

    /// The private half as PEM (PKCS #8).
    #[must_use]
    pub fn private_pem(&self) -> String {
        let der: Vec<u8> = match &self.pair {
            Pair::Rsa(lease) => AsDer::<Pkcs8V1Der<'_>>::as_der(lease.pair()).map(|der| der.as_ref().to_vec()),
            Pair::Ec(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
            Pair::Ed(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
        }
        .expect("a private key has a DER form");
        pem("PRIVATE KEY", &der)
    }

    /// Signs bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(lease) => {
                let mut signature = vec![0; lease.pair().public_modulus_len()];
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding =
                    if self.algorithm == Algorithm::Ps256 { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                lease.pair().sign(padding, &random, message, &mut signature).expect("an RSA key signs");
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message).expect("a P-256 key signs").as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A header for this key: `alg` and `kid`.
    #[must_use]
    pub fn header(&self) -> Value {
        json!({ "alg": self.algorithm.name(), "kid": self.kid })
    }

    /// A token with this header, whatever it says, and a good signature of this key.
    #[must_use]
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = signing_input(header, claims);
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", base64url(&signature))
    }
}

/// A token with `alg: none` and an empty signature.
#[must_use]
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let mut header = header.clone();
    header["alg"] = json!("none");
    format!("{}.", signing_input(&header, claims))
}

/// A token signed by HMAC with these bytes as the secret.
#[must_use]
pub fn hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let mut header = header.clone();
    header["alg"] = json!("HS256");
    let signed = signing_input(&header, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", base64url(tag.as_ref()))
}

/// The token with one bit of its signature turned.
#[must_use]
pub fn with_broken_signature(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("a token has three parts");
    let mut signature = from_base64url(signature);
    let middle = signature.len() / 2;
    signature[middle] ^= 1;
    format!("{signed}.{}", base64url(&signature))
}

/// Header and claims of a token, unchecked.
#[must_use]
pub fn decode(token: &str) -> (Value, Value) {
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "{token} is no signed token");
    let read = |part: &str| serde_json::from_slice(&from_base64url(part)).unwrap_or_else(|error| panic!("{token}: {error}"));
    (read(parts[0]), read(parts[1]))
}

/// Checks a token's signature by the key of a JWKS that its `kid` names; gives header and claims.
pub fn verify(token: &str, jwks: &Value) -> Result<(Value, Value), String> {
    let (header, claims) = decode(token);
    let keys = jwks["keys"].as_array().ok_or("no keys")?;
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).ok_or("no key of this kid")?;
    let (signed, signature) = token.rsplit_once('.').ok_or("no signature")?;
    let (message, signature) = (signed.as_bytes(), from_base64url(signature));
    let part = |name: &str| key[name].as_str().map(from_base64url).ok_or(format!("the key has no {name}"));
    let good = match (header["alg"].as_str(), key["kty"].as_str()) {
        (Some("RS256"), Some("RSA")) => {
            PublicKeyComponents { n: part("n")?, e: part("e")? }.verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature)
        }
        (Some("PS256"), Some("RSA")) => {
            PublicKeyComponents { n: part("n")?, e: part("e")? }.verify(&RSA_PSS_2048_8192_SHA256, message, &signature)
        }
        (Some("ES256"), Some("EC")) => {
            let point = [vec![4], part("x")?, part("y")?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &signature)
        }
        (Some("EdDSA"), Some("OKP")) => UnparsedPublicKey::new(&ED25519, part("x")?).verify(message, &signature),
        (algorithm, kind) => return Err(format!("{algorithm:?} with a key of type {kind:?}")),
    };
    good.map(|()| (header, claims)).map_err(|_| "the signature is wrong".to_owned())
}

/// `at_hash` and its kin (OpenID Connect Core §3.1.3.6): the left half of the algorithm's own hash.
#[must_use]
pub fn half_hash(algorithm: Algorithm, token: &str) -> String {
    let hash = digest(if algorithm == Algorithm::EdDsa { &SHA512 } else { &SHA256 }, token.as_bytes());
    base64url(&hash.as_ref()[..hash.as_ref().len() / 2])
}

/// The `code_challenge` of a verifier (RFC 7636, S256).
#[must_use]
pub fn s256(verifier: &str) -> String {
    base64url(digest(&SHA256, verifier.as_bytes()).as_ref())
}

/// A fresh secret of 32 random bytes.
#[must_use]
pub fn random() -> String {
    let mut bytes = [0; 32];
    fill(&mut bytes).expect("the system has random bytes");
    base64url(&bytes)
}

/// Encodes as tokens do.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes as tokens do; panics when it is not that.
#[must_use]
pub fn from_base64url(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap_or_else(|error| panic!("{text:?} is not base64url: {error}"))
}

/// The two numbers of a PKCS #1 `RSAPublicKey` (RFC 8017 §A.1.1), without leading zeros.
fn modulus_and_exponent(der: &[u8]) -> (&[u8], &[u8]) {
    let (sequence, _) = der_content(der);
    let (modulus, rest) = der_content(sequence);
    let (exponent, _) = der_content(rest);
    let trim = |number: &'_ [u8]| number.iter().take_while(|byte| **byte == 0).count();
    (&modulus[trim(modulus)..], &exponent[trim(exponent)..])
}

/// The content of a DER element, and what follows the element.
fn der_content(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ 0..0x80 => (usize::from(short), 2),
        long => {
            let bytes = usize::from(long & 0x7f);
            (der[2..2 + bytes].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + bytes)
        }
    };
    der[start..].split_at(length)
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

fn signing_input(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
}

/// An RSA pair lent by a pool: they are slow to make, so one that is given back is used again, and two keys that live at the same time
/// never share one (else one issuer's tokens would pass as the other's).
struct RsaLease(Option<RsaKeyPair>);

static FREE_RSA: Mutex<Vec<RsaKeyPair>> = Mutex::new(Vec::new());

impl RsaLease {
    fn take() -> Self {
        let free = FREE_RSA.lock().unwrap().pop();
        Self(Some(free.unwrap_or_else(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key"))))
    }

    fn pair(&self) -> &RsaKeyPair {
        self.0.as_ref().expect("the lease holds its pair until it is dropped")
    }
}

impl Drop for RsaLease {
    fn drop(&mut self) {
        if let (Some(pair), Ok(mut free)) = (self.0.take(), FREE_RSA.lock()) {
            free.push(pair);
        }
    }
}
