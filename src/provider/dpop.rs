//! Proof of possession towards the provider (RFC 9449): tokens that are good only together with a key of the session's own.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use http::header::{HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::http::Http;
use super::oidc::OpenIdProvider;
use super::own_calls::Unanswered;
use crate::clock::UnixTime;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::secret::{Secret, decode, encode, random_token, sha256};
use crate::token::{Algorithm, Named, SigningKey};

/// Holds the proof (§4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");
/// Holds the provider's nonce (§8.1).
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// The longest nonce that is kept, in bytes.
const NONCE_BYTES: usize = 1024;

/// The claims of a proof (§4.2).
#[derive(Serialize)]
struct Proof<'a> {
    jti: String,
    htm: &'a str,
    htu: &'a str,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    /// With a token: its hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<String>,
}

/// The key of one session, made with its login. It lies in the session's own record: tokens that are bound to it outlive this process.
pub(super) struct DpopKey {
    key: SigningKey,
    kept: Secret,
}

impl DpopKey {
    /// A new one.
    pub(super) fn generate() -> Result<Self, Fault> {
        let (key, pkcs8) = SigningKey::generate(Algorithm::Es256).map_err(|error| Fault::new(Reason::Internal, error.to_string()))?;
        Ok(Self { key, kept: Secret::new(encode(&pkcs8)) })
    }

    /// One that was kept.
    pub(super) fn open(kept: &Secret) -> Result<Self, Fault> {
        let broken = || Fault::new(Reason::Internal, "the DPoP key that was kept cannot be read");
        let pkcs8 = zeroize::Zeroizing::new(decode(kept.expose()).ok_or_else(broken)?);
        let key = SigningKey::from_pkcs8(&pkcs8, Some(Algorithm::Es256)).map_err(|_| broken())?;
        Ok(Self { key, kept: kept.clone() })
    }

    /// What a record keeps of it.
    pub(super) const fn kept(&self) -> &Secret {
        &self.kept
    }

    /// `dpop_jkt` (§10).
    pub(super) fn thumbprint(&self) -> &str {
        self.key.kid()
    }

    /// A proof for one call (§4.2), with the token that it goes with, if one does.
    pub(super) fn prove(
        &self,
        request: &mut Request<Vec<u8>>,
        endpoint: &Url,
        nonce: Option<&str>,
        token: Option<&Secret>,
        now: UnixTime,
    ) -> Result<(), Fault> {
        let mut htu = endpoint.clone();
        htu.set_query(None);
        htu.set_fragment(None);
        let ath = token.map(|token| encode(&sha256(token.expose().as_bytes())));
        let claims = Proof { jti: random_token(), htm: request.method().as_str(), htu: htu.as_str(), iat: now.0, nonce, ath };
        let failed = |what: String| Fault::new(Reason::Internal, format!("the DPoP proof: {what}"));
        let proof = self.key.sign_named(Named::ByJwk, "dpop+jwt", &claims).map_err(|error| failed(error.to_string()))?;
        let mut value = HeaderValue::try_from(proof).map_err(|error| failed(error.to_string()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(DPOP, value);
        Ok(())
    }
}

/// The nonces that a provider gave last, one for each of its endpoints: as many as its document names.
#[derive(Default)]
pub(super) struct Nonces(Mutex<BTreeMap<String, String>>);

impl Nonces {
    /// The nonce for the next proof.
    pub(super) fn of(&self, endpoint: &Url) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(endpoint.as_str()).cloned()
    }

    /// Keeps what the answer brings (§8.2), and says whether the same call is to be made again for its sake (§8, §9).
    pub(super) fn learn(&self, endpoint: &Url, answer: &Response<Vec<u8>>, used: Option<&str>) -> Again {
        let mut lines = answer.headers().get_all(DPOP_NONCE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return Again::No };
        let Some(nonce) = line.to_str().ok().filter(|nonce| !nonce.is_empty() && nonce.len() <= NONCE_BYTES) else { return Again::No };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.as_str().to_owned(), nonce.to_owned());
        let wanted = wants_nonce(answer.status(), answer.headers(), answer.body());
        if wanted && used != Some(nonce) { Again::WithNonce } else { Again::No }
    }
}

/// Whether a call is to be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// With the nonce that has just come.
    WithNonce,
    /// What came is the answer.
    No,
}

/// `use_dpop_nonce`: of an authorization server in the body (§8), of a resource server in the challenge (§9). The scheme's case does not count.
fn wants_nonce(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> bool {
    if status != StatusCode::BAD_REQUEST && status != StatusCode::UNAUTHORIZED {
        return false;
    }
    let error = serde_json::from_slice::<Value>(body).ok().and_then(|body| Some(body.get("error")?.as_str()? == "use_dpop_nonce"));
    let challenged =
        headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|line| line.to_str().ok()).any(|line| line.contains("use_dpop_nonce"));
    error.unwrap_or(false) || challenged
}

/// Whether a resource server refuses the proof and not the token (§7.1, §9).
fn refuses_proof(status: StatusCode, headers: &HeaderMap) -> bool {
    let errors = ["use_dpop_nonce", "invalid_dpop_proof"];
    let challenges = || headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|line| line.to_str().ok());
    status == StatusCode::UNAUTHORIZED && challenges().any(|line| errors.iter().any(|error| line.contains(error)))
}

impl OpenIdProvider {
    /// Gets JSON with a token that is bound to the key (§7.1), and once more with the nonce that the answer wants (§9).
    pub(super) async fn get_with_proof(&self, endpoint: &Url, token: &Secret, key: &DpopKey) -> Result<Value, Unanswered> {
        let nonce = self.nonces.of(endpoint);
        let mut answer = self.get_once(endpoint, token, key, nonce.as_deref()).await?;
        if self.nonces.learn(endpoint, &answer, nonce.as_deref()) == Again::WithNonce {
            let nonce = self.nonces.of(endpoint);
            answer = self.get_once(endpoint, token, key, nonce.as_deref()).await?;
            self.nonces.learn(endpoint, &answer, nonce.as_deref());
        }
        // It says nothing of the token, nor of whose it is: nobody is sent away for it.
        if refuses_proof(answer.status(), answer.headers()) {
            return Err(Unanswered::Fault(Fault::new(Reason::UserinfoMalformed, "the provider takes none of our DPoP proofs")));
        }
        Ok(Http::json_of(endpoint, &answer)?)
    }

    async fn get_once(&self, endpoint: &Url, token: &Secret, key: &DpopKey, nonce: Option<&str>) -> Result<Response<Vec<u8>>, Unanswered> {
        let mut request = Http::get_request(endpoint, Some(("DPoP", token)))?;
        key.prove(&mut request, endpoint, nonce, Some(token), self.clock.now()).map_err(Unanswered::Fault)?;
        Ok(self.http.send(request).await?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::token::testing::NOW;
    use crate::token::thumbprint;

    fn proof(request: &Request<Vec<u8>>) -> (Value, Value) {
        let text = request.headers()["dpop"].to_str().unwrap();
        let read = |part: &str| serde_json::from_slice(&decode(part).unwrap()).unwrap();
        let mut parts = text.split('.');
        (read(parts.next().unwrap()), read(parts.next().unwrap()))
    }

    #[test]
    fn a_proof_is_for_one_call_and_one_token() {
        let key = DpopKey::generate().ok().unwrap();
        let endpoint = Url::parse("https://idp.test:8443/me?x=1#y").unwrap();
        let mut request = Request::new(Vec::new());
        key.prove(&mut request, &endpoint, None, None, NOW).ok().unwrap();
        let (header, claims) = proof(&request);
        assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!("ES256")));
        assert_eq!(thumbprint(&header["jwk"]).as_deref(), Some(key.thumbprint()));
        assert!(header["jwk"].get("d").is_none() && header.get("kid").is_none());
        assert_eq!(
            (&claims["htm"], &claims["htu"], claims["iat"].as_u64()),
            (&json!("GET"), &json!("https://idp.test:8443/me"), Some(NOW.0))
        );
        assert!(claims.get("nonce").is_none() && claims.get("ath").is_none());

        // The same key, opened again.
        let again = DpopKey::open(key.kept()).ok().unwrap();
        *request.method_mut() = http::Method::POST;
        again.prove(&mut request, &endpoint, Some("n"), Some(&Secret::new("token")), NOW).ok().unwrap();
        let (second_header, second) = proof(&request);
        assert_eq!((request.headers().get_all("dpop").iter().count(), &second_header["jwk"]), (1, &header["jwk"]));
        assert_eq!(
            (&second["htm"], &second["nonce"], &second["ath"]),
            (&json!("POST"), &json!("n"), &json!("PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A"))
        );
        assert_ne!(claims["jti"], second["jti"]);
        assert!(DpopKey::open(&Secret::new("rubbish")).is_err());
    }

    #[test]
    fn a_nonce_is_kept_for_its_endpoint_and_asked_for_once() {
        let (nonces, one, other) =
            (Nonces::default(), Url::parse("https://a.test/token").unwrap(), Url::parse("https://a.test/par").unwrap());
        let answer = |status: u16, nonce: &[&str], body: &str, challenge: &str| {
            let mut answer = Response::builder().status(status).header("www-authenticate", challenge);
            for nonce in nonce {
                answer = answer.header("dpop-nonce", *nonce);
            }
            answer.body(body.as_bytes().to_vec()).unwrap()
        };
        let wants = r#"{"error":"use_dpop_nonce"}"#;
        assert_eq!(nonces.learn(&one, &answer(400, &["n1"], wants, ""), None), Again::WithNonce);
        assert_eq!((nonces.of(&one).as_deref(), nonces.of(&other)), (Some("n1"), None));
        // The same nonce again: the provider goes round in circles.
        assert_eq!(nonces.learn(&one, &answer(400, &["n1"], wants, ""), Some("n1")), Again::No);
        assert_eq!(nonces.learn(&one, &answer(401, &["n2"], "", "dpop error=\"use_dpop_nonce\""), Some("n1")), Again::WithNonce);
        // A new one beside an answer that is good, and beside one that is bad for another reason.
        assert_eq!(nonces.learn(&one, &answer(200, &["n3"], wants, ""), Some("n2")), Again::No);
        assert_eq!(nonces.of(&one).as_deref(), Some("n3"));
        assert_eq!(nonces.learn(&one, &answer(400, &["n4"], r#"{"error":"invalid_grant"}"#, ""), Some("n3")), Again::No);
        // None, two, one that is too long: nothing is learned.
        for nonce in [&[][..], &["x", "y"], &["z".repeat(2000).as_str()]] {
            assert_eq!(nonces.learn(&one, &answer(400, nonce, wants, ""), None), Again::No);
        }
        assert_eq!(nonces.of(&one).as_deref(), Some("n4"));
    }
}
