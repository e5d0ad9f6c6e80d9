//! `private_key_jwt`: a token that we sign in place of showing a secret (RFC 7523 §2.2 and §3, OpenID Connect Core §9).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::discovery::Document;
use super::watched::Watched;
use crate::clock::UnixTime;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::secret::{Secret, random_token};
use crate::token::{Algorithm, SigningKey};

/// `client_assertion_type` (RFC 7523 §2.2).
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion counts. It is made for one call.
const LIFETIME: Duration = Duration::from_secs(60);

/// Makes the assertions of one registration. Clones share the key.
#[derive(Clone)]
pub struct ClientAssertion {
    keys: Arc<Watched<Arc<Keys>>>,
    audience: AssertionAudience,
}

/// Whom an assertion names as its `aud`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertionAudience {
    /// The issuer, as FAPI 2.0 Security Profile has it: an assertion that somebody obtains by a false endpoint is good nowhere else.
    Issuer,
    /// The token endpoint, as RFC 7523 §3 has it for servers that take nothing else.
    TokenEndpoint,
}

/// Which key signs, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertionKey {
    /// PEM with the private key; of several the first signs.
    pub file: PathBuf,
    /// Its `kid`; without one the thumbprint of the key (RFC 7638).
    pub key_id: Option<String>,
    /// What an RSA key signs with; without one what the provider's document lists, PS256 before RS256.
    pub algorithm: Option<Algorithm>,
}

/// The other side, as its document describes it.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// Its issuer.
    pub issuer: &'a str,
    /// Its token endpoint.
    pub token_endpoint: &'a str,
    /// Whether of the algorithms for RSA keys it takes RS256 and not PS256.
    pub rs256_only: bool,
}

impl<'a> Recipient<'a> {
    /// A provider by its document.
    #[must_use]
    pub fn of(document: &'a Document) -> Self {
        let listed = document.token_endpoint_auth_signing_alg_values_supported();
        let lists = |name: &str| {
            listed.is_some_and(|all| all.iter().any(|known| serde_json::to_value(known).is_ok_and(|value| value.as_str() == Some(name))))
        };
        Self {
            issuer: document.issuer().as_str(),
            token_endpoint: match (&document.additional_metadata().public_token_endpoint, document.token_endpoint()) {
                (Some(public), _) => public.as_str(),
                (None, endpoint) => endpoint.map_or("", |endpoint| endpoint.as_str()),
            },
            rs256_only: lists("RS256") && !lists("PS256"),
        }
    }
}

/// One key, made ready for what the other side may want of it.
struct Keys {
    first: SigningKey,
    /// The same RSA key for those who only take RS256.
    rs256: Option<SigningKey>,
}

impl ClientAssertion {
    /// Reads the key. It is read again when the file changes; while it cannot be used the one before goes on.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn new(key: AssertionKey, audience: AssertionAudience) -> Result<Self, String> {
        let keys = Watched::new(vec![key.file.clone()], move || key.read().map(Arc::new))?;
        Ok(Self { keys: Arc::new(keys), audience })
    }

    /// An assertion for one call.
    ///
    /// # Errors
    /// [`Reason::Internal`] when it cannot be signed.
    pub fn sign(&self, client_id: &str, recipient: &Recipient<'_>, now: UnixTime) -> Result<Secret, Fault> {
        let keys = self.keys.get();
        let key = keys.rs256.as_ref().filter(|_| recipient.rs256_only).unwrap_or(&keys.first);
        let aud = match self.audience {
            AssertionAudience::Issuer => recipient.issuer,
            AssertionAudience::TokenEndpoint => recipient.token_endpoint,
        };
        // `aud` is one text: a list would name others who may then use it. `nbf` is left out: our clock may be ahead of theirs.
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": aud, "jti": random_token(), "iat": now.0, "exp": now.plus(LIFETIME).0,
        });
        let signed = key.sign("JWT", &claims);
        signed.map(Secret::new).map_err(|error| Fault::new(Reason::Internal, format!("the client assertion: {error}")))
    }

    /// The public key as the other side needs it.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        let mut jwk = self.keys.get().first.public_jwk().clone();
        // An RSA key may sign with another algorithm for whoever wants that.
        if let Some(members) = jwk.as_object_mut().filter(|members| members.get("kty").is_some_and(|kty| kty == "RSA")) {
            members.remove("alg");
        }
        jwk
    }
}

impl AssertionKey {
    fn read(&self) -> Result<Keys, String> {
        let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", self.file.display());
        let pem = std::fs::read(&self.file).map(Zeroizing::new).map_err(|error| wrong(&error))?;
        let read = |algorithm| {
            let key = SigningKey::from_pem(&pem, algorithm).map_err(|error| wrong(&error))?;
            Ok::<_, String>(match &self.key_id {
                Some(kid) => key.named(kid),
                None => key,
            })
        };
        let key = read(self.algorithm)?;
        if self.algorithm.is_none() && key.algorithm() == Algorithm::Rs256 {
            return Ok(Keys { first: read(Some(Algorithm::Ps256))?, rs256: Some(key) });
        }
        Ok(Keys { first: key, rs256: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::decode;
    use crate::token::testing::NOW;

    const RECIPIENT: Recipient<'static> =
        Recipient { issuer: "https://idp.test", token_endpoint: "https://idp.test/token", rs256_only: false };

    fn assertion(
        pem: &[u8],
        key_id: Option<&str>,
        algorithm: Option<Algorithm>,
        audience: AssertionAudience,
    ) -> Result<ClientAssertion, String> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("doorward-assertion-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, pem).unwrap();
        let made = ClientAssertion::new(AssertionKey { file: file.clone(), key_id: key_id.map(str::to_owned), algorithm }, audience);
        std::fs::remove_file(file).unwrap();
        made
    }

    fn pem(pkcs8: &[u8]) -> Vec<u8> {
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", crate::secret::encode_standard(pkcs8)).into_bytes()
    }

    fn rsa() -> Vec<u8> {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        pem(der.as_ref())
    }

    fn parts(token: &Secret) -> (Value, Value) {
        let read = |part: &str| serde_json::from_slice(&decode(part).unwrap()).unwrap();
        let mut parts = token.expose().split('.');
        (read(parts.next().unwrap()), read(parts.next().unwrap()))
    }

    #[test]
    fn an_assertion_is_ours_for_them_and_counts_once_for_a_minute() {
        let (_, pkcs8) = SigningKey::generate(Algorithm::Es256).unwrap();
        let made = assertion(&pem(&pkcs8), None, None, AssertionAudience::Issuer).unwrap();
        let first = made.sign("app", &RECIPIENT, NOW).ok().unwrap();
        let (header, claims) = parts(&first);
        assert_eq!((header["alg"].as_str(), header["kid"].as_str()), (Some("ES256"), made.public_jwk()["kid"].as_str()));
        assert_eq!([&claims["iss"], &claims["sub"], &claims["aud"]], [&json!("app"), &json!("app"), &json!("https://idp.test")]);
        assert_eq!((claims["iat"].as_u64(), claims["exp"].as_u64()), (Some(NOW.0), Some(NOW.0 + 60)));
        let (_, second) = parts(&made.sign("app", &RECIPIENT, NOW).ok().unwrap());
        assert_ne!(claims["jti"], second["jti"]);

        let named = assertion(&pem(&pkcs8), Some("ours"), None, AssertionAudience::TokenEndpoint).unwrap();
        let (header, claims) = parts(&named.sign("app", &RECIPIENT, NOW).ok().unwrap());
        assert_eq!((&header["kid"], &claims["aud"]), (&json!("ours"), &json!("https://idp.test/token")));
        assert_eq!(named.public_jwk()["kid"], "ours");
    }

    #[test]
    fn an_rsa_key_signs_what_the_other_side_takes() {
        let key = rsa();
        for (algorithm, rs256_only, expected) in [
            (None, false, "PS256"),
            (None, true, "RS256"),
            (Some(Algorithm::Rs256), false, "RS256"),
            (Some(Algorithm::Ps512), true, "PS512"),
        ] {
            let made = assertion(&key, None, algorithm, AssertionAudience::Issuer).unwrap();
            let (header, _) = parts(&made.sign("app", &Recipient { rs256_only, ..RECIPIENT }, NOW).ok().unwrap());
            assert_eq!(header["alg"], expected, "{algorithm:?} {rs256_only}");
            assert!(made.public_jwk().get("alg").is_none() && made.public_jwk().get("d").is_none());
        }
        let wrong = assertion(&key, None, Some(Algorithm::Es256), AssertionAudience::Issuer).err().unwrap();
        assert!(wrong.contains("does not sign ES256"), "{wrong}");
        assert!(assertion(b"no key", None, None, AssertionAudience::Issuer).err().unwrap().contains("PEM"));
    }
}
