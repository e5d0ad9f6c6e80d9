//! Private keys of the gateway's own, and the tokens it signs with them: assertions to upstreams, and to a provider in place of a secret.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::thumbprint::thumbprint;
use crate::secret::encode;

/// A private key that signs with one algorithm, and the public key beside it. It has no `Debug`, and nothing gives the private part away.
pub struct SigningKey {
    algorithm: Algorithm,
    kid: String,
    jwk: Value,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

/// Why a key cannot be used; its text says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKeyError {
    /// The text holds no private key that can be read.
    NoKey,
    /// It is of another kind, weak or broken.
    Unusable,
    /// It is sound and does not sign with the wanted algorithm.
    Algorithm {
        /// What was wanted.
        wanted: Algorithm,
        /// What the key signs with.
        own: Algorithm,
    },
    /// Keys for this algorithm are not made here.
    NotMade(Algorithm),
}

impl fmt::Display for SigningKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => {
                f.write_str("expected a private key in PEM form (BEGIN PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY, not encrypted)")
            }
            Self::Unusable => f.write_str("expected a key on P-256, P-384 or P-521, an Ed25519 key, or an RSA key of 2048 to 8192 bits"),
            Self::Algorithm { wanted, own } => write!(f, "the key does not sign {wanted}, it signs {own}"),
            Self::NotMade(algorithm) => write!(f, "keys are made for ES256 and EdDSA, not for {algorithm}"),
        }
    }
}

impl std::error::Error for SigningKeyError {}

/// The signature could not be computed, or the claims are nothing that JSON holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigningFailed;

impl fmt::Display for SigningFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the token could not be signed")
    }
}

impl std::error::Error for SigningFailed {}

/// How a token says whose key signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// `kid`: the other side has the public key.
    ByKid,
    /// `jwk`: the public key itself stands in the header, for proofs of possession (RFC 9449 §4.2).
    ByJwk,
}

impl SigningKey {
    /// A fresh key for ES256 or EdDSA, and its PKCS#8 form to be kept.
    ///
    /// # Errors
    /// [`SigningKeyError::NotMade`] for other algorithms; [`SigningKeyError::Unusable`] when the system has no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<(Self, Zeroizing<Vec<u8>>), SigningKeyError> {
        let random = SystemRandom::new();
        let document = match algorithm {
            Algorithm::Es256 => EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &random),
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&random),
            other => return Err(SigningKeyError::NotMade(other)),
        };
        let pkcs8 = Zeroizing::new(document.map_err(|_| SigningKeyError::Unusable)?.as_ref().to_vec());
        Ok((Self::from_pkcs8(&pkcs8, None)?, pkcs8))
    }

    /// The first private key in a PEM text: PKCS#8, SEC 1 or PKCS#1. An RSA key signs RS256 unless `algorithm` names another; every other key
    /// signs with the one algorithm of its curve, and `algorithm`, where given, must be that one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pem(pem: &[u8], algorithm: Option<Algorithm>) -> Result<Self, SigningKeyError> {
        let key = PrivateKeyDer::pem_slice_iter(pem).next().ok_or(SigningKeyError::NoKey)?.map_err(|_| SigningKeyError::NoKey)?;
        Self::from_der(&key, algorithm)
    }

    /// Every private key in a PEM text, in its order; at least one.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be used.
    pub fn all_from_pem(pem: &[u8]) -> Result<Vec<Self>, SigningKeyError> {
        let keys: Vec<_> = PrivateKeyDer::pem_slice_iter(pem)
            .map(|key| Self::from_der(&key.map_err(|_| SigningKeyError::NoKey)?, None))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(SigningKeyError::NoKey) } else { Ok(keys) }
    }

    /// From PKCS#8 in DER, as [`SigningKey::from_pem`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pkcs8(pkcs8: &[u8], algorithm: Option<Algorithm>) -> Result<Self, SigningKeyError> {
        Self::new(ec(|parameters| EcdsaKeyPair::from_pkcs8(parameters, pkcs8).ok()), algorithm)
            .or_else(|| Self::ed(Ed25519KeyPair::from_pkcs8(pkcs8).ok(), algorithm))
            .or_else(|| Self::rsa(RsaKeyPair::from_pkcs8(pkcs8).ok(), algorithm))
            .unwrap_or(Err(SigningKeyError::Unusable))
    }

    fn from_der(key: &PrivateKeyDer<'_>, algorithm: Option<Algorithm>) -> Result<Self, SigningKeyError> {
        let made = match key {
            PrivateKeyDer::Pkcs8(der) => return Self::from_pkcs8(der.secret_pkcs8_der(), algorithm),
            PrivateKeyDer::Sec1(der) => {
                Self::new(ec(|parameters| EcdsaKeyPair::from_private_key_der(parameters, der.secret_sec1_der()).ok()), algorithm)
            }
            PrivateKeyDer::Pkcs1(der) => Self::rsa(RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(), algorithm),
            _ => None,
        };
        made.unwrap_or(Err(SigningKeyError::Unusable))
    }

    fn ed(pair: Option<Ed25519KeyPair>, algorithm: Option<Algorithm>) -> Option<Result<Self, SigningKeyError>> {
        Self::new(pair.map(|pair| (Algorithm::EdDsa, Pair::Ed(pair))), algorithm)
    }

    fn rsa(pair: Option<RsaKeyPair>, algorithm: Option<Algorithm>) -> Option<Result<Self, SigningKeyError>> {
        let wanted = algorithm.unwrap_or(Algorithm::Rs256);
        // Where the wanted one is of another family the key is said to sign what it signs by default.
        let (own, encoding) =
            rsa_encoding(wanted).map_or((Algorithm::Rs256, &signature::RSA_PKCS1_SHA256 as _), |encoding| (wanted, encoding));
        Self::new(pair.map(|pair| (own, Pair::Rsa(pair, encoding))), algorithm)
    }

    /// `None` where there is no key of this kind.
    fn new(pair: Option<(Algorithm, Pair)>, wanted: Option<Algorithm>) -> Option<Result<Self, SigningKeyError>> {
        let (algorithm, pair) = pair?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != algorithm) {
            return Some(Err(SigningKeyError::Algorithm { wanted, own: algorithm }));
        }
        let made = pair.public_jwk().and_then(|mut jwk| {
            let kid = thumbprint(&jwk)?;
            let members = jwk.as_object_mut()?;
            members.insert("kid".to_owned(), json!(kid));
            members.insert("use".to_owned(), json!("sig"));
            members.insert("alg".to_owned(), json!(algorithm.as_str()));
            Some(Self { algorithm, kid, jwk, pair })
        });
        Some(made.ok_or(SigningKeyError::Unusable))
    }

    /// What it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its name: the thumbprint of the public key (RFC 7638), 43 characters.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key (RFC 7517) with `kid`, `use` and `alg`.
    #[must_use]
    pub const fn public_jwk(&self) -> &Value {
        &self.jwk
    }

    /// A signed token in the compact form (RFC 7515 §7.1), with `alg`, `typ` and `kid` in its header.
    ///
    /// # Errors
    /// [`SigningFailed`] for claims that are no JSON, or when the signature cannot be computed.
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String, SigningFailed> {
        self.sign_named(Named::ByKid, typ, claims)
    }

    /// As [`SigningKey::sign`], with the key named in the header as is said.
    ///
    /// # Errors
    /// As [`SigningKey::sign`].
    pub fn sign_named(&self, named: Named, typ: &str, claims: &impl Serialize) -> Result<String, SigningFailed> {
        let header = match named {
            Named::ByKid => json!({"alg": self.algorithm.as_str(), "typ": typ, "kid": self.kid}),
            Named::ByJwk => json!({"alg": self.algorithm.as_str(), "typ": typ, "jwk": self.bare_jwk()}),
        };
        let claims = serde_json::to_vec(claims).map_err(|_| SigningFailed)?;
        let mut token = format!("{}.{}", encode(header.to_string().as_bytes()), encode(&claims));
        let signature = self.pair.sign(token.as_bytes()).ok_or(SigningFailed)?;
        token.push('.');
        token.push_str(&encode(&signature));
        Ok(token)
    }

    /// The public key with nothing but what it is made of.
    fn bare_jwk(&self) -> Value {
        let members = self.jwk.as_object().into_iter().flatten();
        members
            .filter(|(name, _)| !matches!(name.as_str(), "kid" | "use" | "alg"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// The first curve whose key it is.
fn ec(read: impl Fn(&'static EcdsaSigningAlgorithm) -> Option<EcdsaKeyPair>) -> Option<(Algorithm, Pair)> {
    let curves: [(Algorithm, &'static EcdsaSigningAlgorithm); 3] = [
        (Algorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        (Algorithm::Es384, &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        (Algorithm::Es512, &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
    ];
    curves.into_iter().find_map(|(algorithm, parameters)| Some((algorithm, Pair::Ec(read(parameters)?))))
}

fn rsa_encoding(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 | Algorithm::EdDsa => return None,
    })
}

impl Pair {
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Ec(pair) => pair.sign(&SystemRandom::new(), message).ok().map(|signature| signature.as_ref().to_vec()),
            Self::Ed(pair) => pair.try_sign(message).ok().map(|signature| signature.as_ref().to_vec()),
            Self::Rsa(pair, encoding) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), message, &mut out).ok()?;
                Some(out)
            }
        }
    }

    /// The required members alone (RFC 7518 §6, RFC 8037 §2).
    fn public_jwk(&self) -> Option<Value> {
        match self {
            Self::Ec(pair) => {
                // The uncompressed point (SEC 1 §2.3.3): 4, x, y.
                let (_, point) = pair.public_key().as_ref().split_first()?;
                let (x, y) = point.split_at_checked(point.len() / 2)?;
                let crv = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    66 => "P-521",
                    _ => return None,
                };
                Some(json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)}))
            }
            Self::Ed(pair) => Some(json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})),
            Self::Rsa(pair, _) => {
                // RSAPublicKey (RFC 8017 appendix A.1.1): a sequence of two integers.
                let (sequence, _) = der_value(0x30, pair.public_key().as_ref())?;
                let (n, rest) = der_value(0x02, sequence)?;
                let (e, _) = der_value(0x02, rest)?;
                Some(json!({"kty": "RSA", "n": encode(unsigned(n)), "e": encode(unsigned(e))}))
            }
        }
    }
}

/// The content of a DER value of this tag, and what follows it. Lengths of up to four bytes.
fn der_value(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    if found == tag { rest.split_at_checked(length) } else { None }
}

/// Without the zero that keeps a DER integer positive: a JWK holds as few bytes as the number takes (RFC 7518 §6.3.1.1).
fn unsigned(integer: &[u8]) -> &[u8] {
    integer.strip_prefix(&[0]).unwrap_or(integer)
}

#[cfg(test)]
mod tests;
