//! DPoP proofs, by the steps of RFC 9449 §4.3. The numbers are the RFC's.
//!
//! [`Proof::read`] looks at what the proof is by itself, [`Proof::judge`] at whether it is for this request, this token and now. Step (1), that
//! there is one proof only, is for whoever reads headers; that a `jti` counts once (§11.1) is for whoever remembers them.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::algorithm::Algorithm;
use super::claims::{self, ClaimsError, brief};
use super::jws::{self, Jws};
use super::proof_key::ProofKey;
use crate::clock::UnixTime;
use crate::fault::Fault;
use crate::identity::Claims;
use crate::reason::Reason;
use crate::request::CanonicalPath;
use crate::secret::{decode, same, sha256};

/// The longest proof that is looked at, in bytes: one with an RSA key of 8192 bits is half of it.
const MAX_BYTES: usize = 8 * 1024;

/// What a proof has to be about.
pub struct ProofExpectation<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// What the host is called from outside; only scheme, host and port count.
    pub base: &'a Url,
    /// The request's path.
    pub path: &'a CanonicalPath,
    /// The access token that was shown with it.
    pub token: &'a str,
    /// `cnf.jkt` of that token.
    pub jkt: &'a str,
    /// By what its age is told.
    pub age: Age,
}

/// By what a proof's age is told (§4.3 (11): its `iat`, or a time that the server keeps in the nonce).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// By its `iat`, which may be this far from now in either direction.
    IssuedAt(Duration),
    /// By its nonce, which was given out at that time; `None`: it holds none of ours that still counts.
    Nonce(Option<UnixTime>),
}

/// A proof that is sound by itself: signed by the key it brings, with all that has to be in it.
pub struct Proof {
    claims: Claims,
    issued_at: UnixTime,
    /// The thumbprint of its key, in base64url.
    thumbprint: String,
}

impl Proof {
    /// Reads a proof and checks its signature with its own key.
    ///
    /// # Errors
    /// The step that failed.
    pub fn read(text: &str, algorithms: &[Algorithm]) -> Result<Self, Fault> {
        // (2) A single and well-formed JWT.
        let jws = Jws::parse_within(text, MAX_BYTES).map_err(|error| Fault::new(Reason::DpopProofMalformed, error.to_string()))?;

        // (4) `typ` is `dpop+jwt`.
        if jws.header.typ.as_deref() != Some("dpop+jwt") {
            let found = jws.header.typ.as_deref().map_or_else(|| "missing".to_owned(), |typ| format!("{:?}", brief(typ)));
            return Err(Fault::new(Reason::DpopProofType, format!("typ is {found}, not \"dpop+jwt\"")));
        }

        // (5) `alg` is an asymmetric signature that is allowed here; `none` and MACs never are.
        let algorithm = Algorithm::from_name(&jws.header.alg)
            .filter(|algorithm| algorithms.contains(algorithm))
            .ok_or_else(|| Fault::new(Reason::DpopProofAlgorithm, format!("alg {:?} is not allowed", brief(&jws.header.alg))))?;

        // (7) `jwk` is there and public.
        let jwk = own_key(text).ok_or_else(|| Fault::new(Reason::DpopProofKey, "the header has no jwk, or two"))?;
        let key = ProofKey::parse(&jwk, algorithm).map_err(|why| Fault::new(Reason::DpopProofKey, why))?;

        // (6) The signature verifies with it.
        if !key.key.verifies(jws.signing_input.as_bytes(), &jws.signature) {
            return Err(Fault::new(Reason::DpopProofSignature, format!("the {algorithm} signature does not verify")));
        }

        // (3) All claims of §4.2 that a proof beside an access token must have.
        let claims = claims::parse(&jws.payload).map_err(wrong)?;
        for name in ["jti", "htm", "htu", "ath"] {
            claims::text(&claims, name).map_err(wrong)?;
        }
        let issued_at = claims::time(&claims, "iat").map_err(wrong)?;
        Ok(Self { claims, issued_at, thumbprint: key.thumbprint })
    }

    /// Its `nonce`, where it is a text.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.claims.get("nonce").and_then(Value::as_str)
    }

    /// Its own name, which counts once for its key and its target.
    #[must_use]
    pub fn jti(&self) -> &str {
        self.text("jti")
    }

    /// When it says that it was made.
    #[must_use]
    pub const fn issued_at(&self) -> UnixTime {
        self.issued_at
    }

    /// Whether it is for this request and this token, at `now`.
    ///
    /// # Errors
    /// The step that failed.
    pub fn judge(&self, expect: &ProofExpectation<'_>, now: UnixTime) -> Result<(), Fault> {
        // (8) `htm` is the method, letter by letter (RFC 9110 §9.1).
        if self.text("htm") != expect.method.as_str() {
            return Err(Fault::new(Reason::DpopProofMethod, format!("htm is {:?}, not {}", brief(self.text("htm")), expect.method)));
        }

        // (9) `htu` is the request's URL without query and fragment.
        if !is_target(self.text("htu"), expect.base, expect.path) {
            let wanted = format!("{}{}", expect.base.origin().ascii_serialization(), expect.path.as_str());
            // Without its query, which may hold what no log is to hold.
            let found = self.text("htu").split(['?', '#']).next().map(brief).unwrap_or_default();
            return Err(Fault::new(Reason::DpopProofUrl, format!("htu is {found:?}, not {wanted:?}")));
        }

        // (10), (11) The nonce where one was asked for, and the age.
        match expect.age {
            Age::Nonce(Some(_)) => {}
            Age::Nonce(None) => {
                let found = if self.claims.contains_key("nonce") { "no longer counts, or is not ours" } else { "is missing" };
                return Err(Fault::new(Reason::DpopNonce, format!("the nonce {found}")));
            }
            Age::IssuedAt(window) => {
                if self.issued_at.plus(window) < now || self.issued_at > now.plus(window) {
                    return Err(Fault::new(Reason::DpopProofAge, format!("iat is {}, it is {now}", self.issued_at)));
                }
            }
        }

        // (12a) `ath` is the hash of the token.
        if !decode(self.text("ath")).is_some_and(|hash| same(&hash, &sha256(expect.token.as_bytes()))) {
            return Err(Fault::new(Reason::DpopProofToken, "ath is not the hash of the access token"));
        }

        // (12b) The token is bound to the proof's key.
        if !same(self.thumbprint.as_bytes(), expect.jkt.as_bytes()) {
            return Err(Fault::new(Reason::DpopKeyMismatch, "the token is bound to another key (cnf.jkt)"));
        }
        Ok(())
    }

    /// One of the claims that [`Proof::read`] has found to be a text.
    fn text(&self, name: &str) -> &str {
        self.claims.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// `jwk` of the header. A header that names it twice has none.
fn own_key(text: &str) -> Option<Value> {
    #[derive(Deserialize)]
    struct Header {
        jwk: Value,
    }
    jws::object::<Header>(&decode(text.split('.').next()?)?).map(|header| header.jwk)
}

/// Both sides in their one spelling (§4.3: RFC 3986 §6.2.2 and §6.2.3): scheme and host in lower case, no default port, and the path as requests
/// are read here. Query and fragment of `htu` count for nothing.
fn is_target(htu: &str, base: &Url, path: &CanonicalPath) -> bool {
    let Ok(url) = Url::parse(htu) else { return false };
    url.origin() == base.origin()
        && url.username().is_empty()
        && url.password().is_none()
        && CanonicalPath::parse(url.path()).is_ok_and(|own| own == *path)
}

fn wrong(error: ClaimsError) -> Fault {
    Fault::new(Reason::DpopProofClaims, error.0)
}

#[cfg(test)]
mod tests;
