//! An issuer's public keys (RFC 7517). What cannot be used is passed over: a set may hold keys for others, or of a later time.

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::algorithm::Algorithm;
use super::jws::object;
use super::signature::{Curve, Material, VerifyingKey};
use crate::secret;

/// How many usable keys a set may hold; further ones are passed over.
const MAX_KEYS: usize = 64;

/// An issuer's public signature keys, ready to verify.
pub struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    kid: Option<String>,
    /// For whose tokens alone, where the set says so: no member of RFC 7517, and one of Entra ID's sets.
    issuer: Option<String>,
    /// Tells keys apart.
    material: [u8; 32],
    /// One for each algorithm that this key may be used with.
    ready: Vec<VerifyingKey>,
}

/// A key of a set that fits a header.
pub struct Found<'k> {
    issuer: Option<&'k str>,
    material: &'k [u8; 32],
    ready: &'k VerifyingKey,
}

/// Names one key of an issuer across documents: which algorithm, which `kid` it was found by, which key it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMark {
    algorithm: Algorithm,
    kid: Option<String>,
    material: [u8; 32],
}

impl Found<'_> {
    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.ready.verifies(message, signature)
    }

    /// For whose tokens alone it is, where the set says so.
    pub(super) const fn issuer(&self) -> Option<&str> {
        self.issuer
    }

    pub(super) fn mark(&self, kid: Option<&str>) -> KeyMark {
        KeyMark { algorithm: self.ready.algorithm(), kid: kid.map(str::to_owned), material: *self.material }
    }
}

/// The bytes are no JWK Set at all: no JSON object with a list `keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySetMalformed;

impl fmt::Display for KeySetMalformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a JWK Set: no JSON object with a list named keys")
    }
}

impl std::error::Error for KeySetMalformed {}

/// Why no key of the set is the token's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// None fits.
    Unknown,
    /// More than one fits, and nothing says which.
    Ambiguous,
}

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no key of the issuer fits",
            Self::Ambiguous => "more than one key of the issuer fits",
        })
    }
}

impl KeySet {
    /// Reads a JWK Set (RFC 7517 §5). Keys that are not for signatures, private, symmetric, weak, broken or of an unknown kind are passed over.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeySetMalformed> {
        let document: Document = object(bytes).ok_or(KeySetMalformed)?;
        let keys = document.keys.into_iter().filter_map(Key::parse).take(MAX_KEYS).collect();
        Ok(Self { keys })
    }

    /// How many keys can be used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key can be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The one key that a header's `alg` and `kid` point at. With `kid`: the key of that very name which fits `alg`; without: the only key
    /// that fits `alg`. Two that fit are none (OpenID Connect Core §10.1 wants a `kid` where there are several).
    pub(super) fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Result<Found<'_>, NoKey> {
        let mut fitting = self.keys.iter().filter(|key| kid.is_none() || key.kid.as_deref() == kid).filter_map(|key| {
            let ready = key.ready.iter().find(|ready| ready.algorithm() == algorithm)?;
            Some((key, ready))
        });
        let (key, ready) = fitting.next().ok_or(NoKey::Unknown)?;
        // The same key listed twice is one key, not an ambiguity.
        let one = fitting.all(|(other, _)| other.material == key.material);
        if one { Ok(Found { issuer: key.issuer.as_deref(), material: &key.material, ready }) } else { Err(NoKey::Ambiguous) }
    }

    /// Whether a token that points at the marked key would still be checked by that very key.
    #[must_use]
    pub fn still_has(&self, mark: &KeyMark) -> bool {
        self.find(mark.algorithm, mark.kid.as_deref()).is_ok_and(|found| *found.material == mark.material)
    }
}

/// The public key of one JWK, ready for `algorithm`; `None` where it is private, broken, weak or for something else.
pub(super) fn ready(jwk: &Value, algorithm: Algorithm) -> Option<VerifyingKey> {
    let raw: RawKey = serde_json::from_value(jwk.clone()).ok()?;
    let own = raw.alg.as_deref().is_none_or(|own| Algorithm::from_name(own) == Some(algorithm));
    if !own || !raw.for_signatures() || raw.d.is_some() {
        return None;
    }
    VerifyingKey::new(algorithm, &raw.material()?)
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// The members that are read (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    issuer: Option<Value>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part: who publishes it has no secret any more.
    d: Option<IgnoredAny>,
}

impl Key {
    fn parse(jwk: Value) -> Option<Self> {
        if !jwk.is_object() {
            return None;
        }
        let raw: RawKey = serde_json::from_value(jwk).ok()?;
        if !raw.for_signatures() || raw.d.is_some() {
            return None;
        }
        let material = raw.material()?;
        let ready: Vec<_> = match raw.alg.as_deref() {
            // A key that names its algorithm serves no other (RFC 7517 §4.4), and none when we do not know that one.
            Some(own) => VerifyingKey::new(Algorithm::from_name(own)?, &material).into_iter().collect(),
            None => Algorithm::ALL.into_iter().filter_map(|algorithm| VerifyingKey::new(algorithm, &material)).collect(),
        };
        let issuer = raw.issuer.as_ref().and_then(Value::as_str).map(str::to_owned);
        (!ready.is_empty()).then_some(Self { kid: raw.kid, issuer, material: material.hash(), ready })
    }
}

impl RawKey {
    fn for_signatures(&self) -> bool {
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|operation| operation == "verify"))
    }

    fn material(&self) -> Option<Material> {
        let bytes = |member: &Option<String>| member.as_deref().and_then(secret::decode);
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Some(Material::Rsa { n: bytes(&self.n)?, e: bytes(&self.e)? }),
            ("EC", Some(crv)) => {
                let curve = match crv {
                    "P-256" => Curve::P256,
                    "P-384" => Curve::P384,
                    "P-521" => Curve::P521,
                    _ => return None,
                };
                Some(Material::Ec { curve, x: bytes(&self.x)?, y: bytes(&self.y)? })
            }
            ("OKP", Some("Ed25519")) => Some(Material::Ed25519 { x: bytes(&self.x)? }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
