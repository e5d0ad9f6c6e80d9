use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::secret::encode;
use crate::token::testing::{NOW, Signer, key_set, with};

const ISSUER: &str = "https://provider.test";
const US: &str = "gateway";
const NONCE: &str = "n-0S6_WzA2Mj";

fn access_token() -> Secret {
    Secret::new("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y")
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "alice", "aud": US, "exp": NOW.0 + 300, "iat": NOW.0 - 5, "nonce": NONCE})
}

struct Case {
    trusted: Vec<String>,
    algorithms: Vec<Algorithm>,
}

impl Default for Case {
    fn default() -> Self {
        Self { trusted: vec!["partner".into()], algorithms: Algorithm::DEFAULT.to_vec() }
    }
}

impl Case {
    fn verify(&self, token: &str, keys: &KeySet) -> Result<Claims, IdTokenError> {
        let expect = IdTokenExpectation {
            issuer: &Issuer::One(ISSUER.to_owned()),
            client_id: US,
            algorithms: &self.algorithms,
            trusted_audiences: &self.trusted,
            nonce: Nonce::Sent(NONCE),
            access_token: &access_token(),
            leeway: Duration::from_secs(60),
        };
        verify(token, keys, &expect, NOW)
    }
}

#[test]
fn a_refreshed_token_holds_the_first_nonce_or_none() {
    let signer = Signer::new(Algorithm::Es256);
    let keys = key_set(&[signer.jwk("k")]);
    let held = |nonce: Value, expected: Nonce<'_>| {
        let expect = IdTokenExpectation {
            issuer: &Issuer::One(ISSUER.to_owned()),
            client_id: US,
            algorithms: &Algorithm::DEFAULT,
            trusted_audiences: &[],
            nonce: expected,
            access_token: &access_token(),
            leeway: Duration::from_secs(60),
        };
        let token = signer.token(&signer.header("k"), &with(&claims(), &json!({ "nonce": nonce })));
        verify(&token, &keys, &expect, NOW).map(drop).map_err(|error| error.into_fault().reason)
    };
    let other = Err(Reason::IdTokenNonce);
    for (nonce, expected, outcome) in [
        (json!(null), Nonce::Original(Some(NONCE)), Ok(())),
        (json!(NONCE), Nonce::Original(Some(NONCE)), Ok(())),
        (json!(null), Nonce::Original(None), Ok(())),
        (json!("another"), Nonce::Original(Some(NONCE)), other),
        (json!(NONCE), Nonce::Original(None), other),
        (json!(null), Nonce::Sent(NONCE), other),
    ] {
        assert_eq!(held(nonce.clone(), expected), outcome, "{nonce}");
    }
}

fn refused(result: Result<Claims, IdTokenError>) -> Reason {
    match result {
        Err(IdTokenError::Refused(fault)) => fault.reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_sound_token_of_every_allowed_algorithm_counts() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm);
        let case = Case { algorithms: vec![algorithm], ..Case::default() };
        let token = signer.token(&signer.header("k"), &claims());
        let verified = case.verify(&token, &key_set(&[signer.jwk("k")]));
        assert_eq!(verified.map(|claims| claims["sub"].clone()), Ok(json!("alice")), "{algorithm}");
    }
}

#[test]
fn claims_are_judged_step_by_step() {
    use Reason::{
        IdTokenAudience as Audience, IdTokenAuthorizedParty as Party, IdTokenClaims as BadClaims, IdTokenExpired as Expired,
        IdTokenIssuer as Issuer, IdTokenNonce as Nonce, IdTokenNotYetValid as NotYet,
    };
    let signer = Signer::new(Algorithm::Es256);
    let keys = key_set(&[signer.jwk("k")]);
    let now = NOW.0;
    for (change, expected) in [
        (json!({}), None),
        // (2)
        (json!({"iss": "https://evil.test"}), Some(Issuer)),
        (json!({"iss": "https://provider.test/"}), Some(Issuer)),
        (json!({"iss": "HTTPS://provider.test"}), Some(Issuer)),
        (json!({"iss": null}), Some(BadClaims)),
        (json!({"iss": [ISSUER]}), Some(BadClaims)),
        // (3)
        (json!({"aud": [US]}), None),
        (json!({"aud": "other"}), Some(Audience)),
        (json!({"aud": "gateway2"}), Some(Audience)),
        (json!({"aud": ["other"]}), Some(Audience)),
        (json!({"aud": [US, "stranger"], "azp": US}), Some(Audience)),
        (json!({"aud": []}), Some(BadClaims)),
        (json!({"aud": null}), Some(BadClaims)),
        (json!({"aud": {"a": US}}), Some(BadClaims)),
        // (4) (5)
        (json!({"aud": [US, "partner"], "azp": US}), None),
        (json!({"aud": [US, "partner"]}), Some(Party)),
        (json!({"aud": [US, "partner"], "azp": "partner"}), Some(Party)),
        (json!({"azp": US}), None),
        (json!({"azp": "partner"}), Some(Party)),
        (json!({"azp": ""}), Some(Party)),
        (json!({"azp": [US]}), Some(Party)),
        // (9)
        (json!({"exp": now - 59}), None),
        (json!({"exp": now - 59, "iat": now - 500}), None),
        (json!({"exp": now - 60}), Some(Expired)),
        (json!({"exp": 0}), Some(Expired)),
        (json!({"exp": now as f64 + 300.5}), None),
        (json!({"exp": u64::MAX}), None),
        (json!({"exp": null}), Some(BadClaims)),
        (json!({"exp": (now + 300).to_string()}), Some(BadClaims)),
        (json!({"exp": -1}), Some(BadClaims)),
        // (10)
        (json!({"iat": now + 60}), None),
        (json!({"iat": now + 61}), Some(NotYet)),
        (json!({"iat": now as f64 - 0.5}), None),
        (json!({"iat": 0}), None),
        (json!({"iat": null}), Some(BadClaims)),
        (json!({"iat": "now"}), Some(BadClaims)),
        // nbf
        (json!({"nbf": now + 60}), None),
        (json!({"nbf": now + 61}), Some(NotYet)),
        (json!({"nbf": "soon"}), Some(BadClaims)),
        // (11)
        (json!({"nonce": null}), Some(Nonce)),
        (json!({"nonce": "another"}), Some(Nonce)),
        (json!({"nonce": ""}), Some(Nonce)),
        (json!({"nonce": [NONCE]}), Some(Nonce)),
        (json!({"nonce": format!("{NONCE} ")}), Some(Nonce)),
        // sub
        (json!({"sub": null}), Some(BadClaims)),
        (json!({"sub": ""}), Some(BadClaims)),
        (json!({"sub": 7}), Some(BadClaims)),
        (json!({"sub": "s".repeat(255)}), None),
        (json!({"sub": "s".repeat(256)}), Some(BadClaims)),
    ] {
        let token = signer.token(&signer.header("k"), &with(&claims(), &change));
        match (Case::default().verify(&token, &keys), expected) {
            (Ok(_), None) => {}
            (result, Some(reason)) => assert_eq!(refused(result), reason, "{change}"),
            (Err(error), None) => panic!("{change}: {error}"),
        }
    }
}

#[test]
fn at_hash_fits_the_access_token_or_is_absent() {
    // OpenID Connect Core §A.3: the access token of this file's tests and its at_hash under RS256.
    let known = "77QmUPtjPfzWtF2AnpK9RQ";
    let rs256 = Signer::new(Algorithm::Rs256);
    let keys = key_set(&[rs256.jwk("k")]);
    let verify =
        |hash: Value| Case::default().verify(&rs256.token(&rs256.header("k"), &with(&claims(), &json!({ "at_hash": hash }))), &keys);
    assert!(verify(json!(known)).is_ok());
    for wrong in [json!("77QmUPtjPfzWtF2AnpK9RA"), json!(""), json!(7), json!([known]), json!(format!("{known}=="))] {
        assert_eq!(refused(verify(wrong.clone())), Reason::IdTokenAccessTokenHash, "{wrong}");
    }

    let ed = Signer::new(Algorithm::EdDsa);
    let keys = key_set(&[ed.jwk("k")]);
    let sha512 = digest::digest(&digest::SHA512, access_token().expose().as_bytes());
    for (hash, fits) in [(encode(&sha512.as_ref()[..32]), true), (known.to_owned(), false)] {
        let token = ed.token(&ed.header("k"), &with(&claims(), &json!({ "at_hash": hash })));
        assert_eq!(Case::default().verify(&token, &keys).is_ok(), fits);
    }
}

#[test]
fn what_no_key_of_the_provider_signed_is_refused() {
    let rsa = Signer::new(Algorithm::Rs256);
    let ec = Signer::new(Algorithm::Es256);
    let keys = key_set(&[rsa.jwk("rsa"), ec.jwk("ec")]);
    let verify = |token: &str| Case::default().verify(token, &keys);
    let (header, payload) = (encode(br#"{"alg":"none"}"#), encode(claims().to_string().as_bytes()));

    // No signature at all.
    for token in [format!("{header}.{payload}."), format!("{header}.{payload}.{header}")] {
        assert_eq!(refused(verify(&token)), Reason::IdTokenAlgorithm, "{token}");
    }
    for alg in ["None", "NONE", "", "HS256", "ES256K", "rs256", "RS384"] {
        assert_eq!(refused(verify(&rsa.token(&json!({"alg": alg, "kid": "rsa"}), &claims()))), Reason::IdTokenAlgorithm, "{alg}");
    }

    // HMAC keyed with the public key, as published and as its modulus.
    let input = format!("{}.{payload}", encode(br#"{"alg":"HS256","kid":"rsa"}"#));
    for key in [rsa.jwk("rsa").to_string().into_bytes(), crate::secret::decode(rsa.jwk("rsa")["n"].as_str().unwrap()).unwrap()] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
        let tag = aws_lc_rs::hmac::sign(&key, input.as_bytes());
        assert_eq!(refused(verify(&format!("{input}.{}", encode(tag.as_ref())))), Reason::IdTokenAlgorithm);
    }

    // Kinds mixed up: the key named is of the other kind.
    for header in [json!({"alg": "RS256", "kid": "ec"}), json!({"alg": "ES256", "kid": "rsa"}), json!({"alg": "EdDSA", "kid": "ec"})] {
        let token = if header["alg"] == "RS256" { rsa.token(&header, &claims()) } else { ec.token(&header, &claims()) };
        assert!(matches!(verify(&token), Err(IdTokenError::KeyUnknown(fault)) if fault.reason == Reason::IdTokenKeyUnknown), "{header}");
    }

    // Another's key under a known name, and a key brought along.
    let stranger = Signer::new(Algorithm::Es256);
    for header in [
        json!({"alg": "ES256", "kid": "ec"}),
        json!({"alg": "ES256", "kid": "ec", "jwk": stranger.jwk("ec")}),
        json!({"alg": "ES256", "kid": "ec", "jku": "https://evil.test/jwks"}),
        json!({"alg": "ES256"}),
    ] {
        assert_eq!(refused(verify(&stranger.token(&header, &claims()))), Reason::IdTokenSignature, "{header}");
    }

    // RS256 said, PS256 signed.
    let pss = Signer::new(Algorithm::Ps256);
    assert_eq!(refused(verify(&pss.token(&json!({"alg": "RS256", "kid": "rsa"}), &claims()))), Reason::IdTokenSignature);

    // One part of a sound token exchanged for another's.
    let sound = ec.token(&ec.header("ec"), &claims());
    let other = ec.token(&ec.header("ec"), &with(&claims(), &json!({"sub": "mallory"})));
    let (sound, other): (Vec<_>, Vec<_>) = (sound.split('.').collect(), other.split('.').collect());
    let mixed = format!("{}.{}.{}", sound[0], other[1], sound[2]);
    assert_eq!(refused(verify(&mixed)), Reason::IdTokenSignature);
    assert_eq!(refused(verify(&format!("{}.{}.", sound[0], sound[1]))), Reason::IdTokenSignature);

    // An extension that must be understood.
    let header = ec.header("ec");
    let critical = with(&header, &json!({"crit": ["exp"]}));
    assert_eq!(refused(verify(&ec.token(&critical, &claims()))), Reason::IdTokenMalformed);
}

#[test]
fn keys_that_are_unknown_may_be_asked_for_again() {
    let (old, new) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let before = key_set(&[old.jwk("old")]);
    let after = key_set(&[old.jwk("old"), new.jwk("new")]);
    let token = new.token(&new.header("new"), &claims());
    let error = Case::default().verify(&token, &before).unwrap_err();
    assert!(matches!(error, IdTokenError::KeyUnknown(_)));
    assert_eq!(error.into_fault().reason, Reason::IdTokenKeyUnknown);
    assert!(Case::default().verify(&token, &after).is_ok());

    // Without `kid`: one key is the key, several are none.
    let token = old.token(&json!({"alg": "ES256"}), &claims());
    assert!(Case::default().verify(&token, &before).is_ok());
    assert!(matches!(Case::default().verify(&token, &after), Err(IdTokenError::KeyUnknown(_))));
}

#[test]
fn a_payload_that_is_no_sound_object_is_refused() {
    let signer = Signer::new(Algorithm::EdDsa);
    let keys = key_set(&[signer.jwk("k")]);
    let doubled = claims().to_string().replacen('{', "{\"sub\":\"mallory\",", 1);
    for payload in ["", "[]", "null", "\"text\"", doubled.as_str()] {
        let token = signer.token_of(&signer.header("k"), payload.as_bytes());
        assert_eq!(refused(Case::default().verify(&token, &keys)), Reason::IdTokenClaims, "{payload}");
    }
    for text in ["", "a.b", "a.b.c.d.e", "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d"] {
        assert_eq!(refused(Case::default().verify(text, &keys)), Reason::IdTokenMalformed, "{text}");
    }
}

#[test]
fn no_fault_repeats_token_nonce_or_access_token() {
    let signer = Signer::new(Algorithm::EdDsa);
    let keys = key_set(&[signer.jwk("k")]);
    let other = "another-nonce-secret";
    for change in [json!({"nonce": other}), json!({"at_hash": "aGFzaC1zZWNyZXQ"}), json!({"exp": 1}), json!({"azp": "party-x"})] {
        let token = signer.token(&signer.header("k"), &with(&claims(), &change));
        let said = Case::default().verify(&token, &keys).unwrap_err().to_string();
        let access_token = access_token();
        for secret in [token.as_str(), NONCE, other, "aGFzaC1zZWNyZXQ", access_token.expose()] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in "\\PC{0,80}", header in "\\PC{0,60}", payload: Vec<u8>) {
        let keys = key_set(&[]);
        let _ = Case::default().verify(&text, &keys);
        let _ = Case::default().verify(&format!("{}.{}.{}", encode(header.as_bytes()), encode(&payload), encode(&payload)), &keys);
    }

    #[test]
    fn no_changed_token_counts(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        static SOUND: std::sync::OnceLock<(String, KeySet)> = std::sync::OnceLock::new();
        let (token, keys) = SOUND.get_or_init(|| {
            let signer = Signer::new(Algorithm::Es256);
            (signer.token(&signer.header("k"), &claims()), key_set(&[signer.jwk("k")]))
        });
        let at = at.index(token.len());
        let mut bent = token.clone();
        bent.replace_range(at..=at, &to);
        prop_assert_eq!(Case::default().verify(&bent, keys).is_ok(), bent == *token);
    }
}
