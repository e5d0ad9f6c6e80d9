//! Public keys ready to verify, and the one table that says which computation an algorithm's name stands for.

use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};

use super::algorithm::Algorithm;
use crate::secret;

/// What an algorithm computes, by the type of key it needs. The key's type is thereby fixed by the algorithm, never by the token.
enum Computation {
    Rsa(&'static RsaParameters),
    Ecdsa(&'static EcdsaVerificationAlgorithm, Curve),
    Ed25519,
}

/// The NIST curves (RFC 7518 §6.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// The length of a coordinate, in bytes (RFC 7518 §6.2.1.2).
    const fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

const fn computation(algorithm: Algorithm) -> Computation {
    match algorithm {
        Algorithm::Rs256 => Computation::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Computation::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Computation::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Computation::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Computation::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Computation::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 => Computation::Ecdsa(&signature::ECDSA_P256_SHA256_FIXED, Curve::P256),
        Algorithm::Es384 => Computation::Ecdsa(&signature::ECDSA_P384_SHA384_FIXED, Curve::P384),
        Algorithm::Es512 => Computation::Ecdsa(&signature::ECDSA_P521_SHA512_FIXED, Curve::P521),
        Algorithm::EdDsa => Computation::Ed25519,
    }
}

/// What a JWK holds, before an algorithm is chosen for it.
pub(super) enum Material {
    /// Modulus and public exponent, big-endian.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A point on a curve, each coordinate of full length.
    Ec { curve: Curve, x: Vec<u8>, y: Vec<u8> },
    /// The public key of RFC 8032.
    Ed25519 { x: Vec<u8> },
}

impl Material {
    /// Tells keys apart: SHA-256 over its numbers, each preceded by its length.
    pub(super) fn hash(&self) -> [u8; 32] {
        let (kind, parts): (u8, [&[u8]; 2]) = match self {
            Self::Rsa { n, e } => (0, [unpadded(n), unpadded(e)]),
            Self::Ec { curve, x, y } => (1 + *curve as u8, [x, y]),
            Self::Ed25519 { x } => (4, [x, &[]]),
        };
        let mut bytes = vec![kind];
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        secret::sha256(&bytes)
    }
}

/// A public key made ready for one algorithm.
pub(super) struct VerifyingKey {
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    /// Makes `material` ready for `algorithm`; `None` when the two do not belong together or the key is weak or broken.
    pub(super) fn new(algorithm: Algorithm, material: &Material) -> Option<Self> {
        let key = match (computation(algorithm), material) {
            (Computation::Rsa(parameters), Material::Rsa { n, e }) => {
                let (n, e) = (unpadded(n), unpadded(e));
                if !rsa_is_sound(n, e) {
                    return None;
                }
                RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok()?
            }
            (Computation::Ecdsa(parameters, curve), Material::Ec { curve: own, x, y }) => {
                let length = curve.coordinate_bytes();
                if curve != *own || x.len() != length || y.len() != length {
                    return None;
                }
                // The uncompressed point (SEC 1 §2.3.3); aws-lc refuses one that is not on the curve.
                let point = [&[0x04], x.as_slice(), y.as_slice()].concat();
                ParsedPublicKey::new(parameters, point).ok()?
            }
            (Computation::Ed25519, Material::Ed25519 { x }) if x.len() == 32 => ParsedPublicKey::new(&signature::ED25519, x).ok()?,
            _ => return None,
        };
        Some(Self { algorithm, key })
    }

    /// The one algorithm this key verifies.
    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

/// From 2048 bits (RFC 7518 §3.3) to 8192, with an odd exponent from 3 to 32 bits: more would only cost time.
fn rsa_is_sound(n: &[u8], e: &[u8]) -> bool {
    let Some(first) = n.first() else { return false };
    let bits = n.len() * 8 - first.leading_zeros() as usize;
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    (2048..=8192).contains(&bits) && odd(n) && odd(e) && e != [1] && e.len() <= 4
}

/// Without the leading zeros, which some issuers send although RFC 7518 §6.3.1.1 forbids them.
fn unpadded(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
