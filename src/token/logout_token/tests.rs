use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::secret::encode;
use crate::token::testing::{NOW, Signer, key_set, with};

const ISSUER: &str = "https://provider.test";
const US: &str = "gateway";

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": US, "iat": NOW.0 - 5, "exp": NOW.0 + 115, "jti": "bWJq", "sid": "08a5019c", "events": { EVENT: {} }})
}

fn verify_with(exp: LogoutTokenExp, token: &str, keys: &KeySet) -> Result<LogoutToken, LogoutTokenError> {
    let expect = LogoutTokenExpectation {
        issuer: &Issuer::One(ISSUER.to_owned()),
        client_id: US,
        algorithms: &Algorithm::DEFAULT,
        exp,
        leeway: Duration::from_secs(60),
    };
    verify(token, keys, &expect, NOW)
}

fn refused(result: Result<LogoutToken, LogoutTokenError>) -> Reason {
    match result {
        Err(LogoutTokenError::Refused(fault)) => fault.reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn claims_are_judged_step_by_step() {
    use Reason::{
        LogoutIssuer as Issuer, LogoutTokenAudience as Audience, LogoutTokenClaims as BadClaims, LogoutTokenEvent as Event,
        LogoutTokenExpired as Expired, LogoutTokenNonce as Nonce, LogoutTokenNotYetValid as NotYet, LogoutTokenSubject as Subject,
    };
    let signer = Signer::new(Algorithm::Es256);
    let keys = key_set(&[signer.jwk("k")]);
    let now = NOW.0;
    for (change, expected) in [
        (json!({}), None),
        // (4) iss
        (json!({"iss": "https://evil.test"}), Some(Issuer)),
        (json!({"iss": "https://provider.test/"}), Some(Issuer)),
        (json!({"iss": null}), Some(BadClaims)),
        // (4) aud
        (json!({"aud": [US]}), None),
        (json!({"aud": "other"}), Some(Audience)),
        (json!({"aud": [US, "other"]}), Some(Audience)),
        (json!({"aud": []}), Some(BadClaims)),
        (json!({"aud": null}), Some(BadClaims)),
        (json!({"azp": US}), None),
        (json!({"azp": "other"}), Some(Audience)),
        // (4) iat
        (json!({"iat": now + 60}), None),
        (json!({"iat": now + 61}), Some(NotYet)),
        (json!({"iat": now - 359}), None),
        (json!({"iat": now - 360}), Some(Expired)),
        (json!({"iat": now - 360, "exp": now + 3600}), Some(Expired)),
        (json!({"iat": null}), Some(BadClaims)),
        (json!({"iat": "now"}), Some(BadClaims)),
        (json!({"nbf": now + 61}), Some(NotYet)),
        // (4) exp
        (json!({"exp": now - 59}), None),
        (json!({"exp": now - 60}), Some(Expired)),
        (json!({"exp": null}), Some(BadClaims)),
        (json!({"exp": "later"}), Some(BadClaims)),
        // (5)
        (json!({"sid": null, "sub": "alice"}), None),
        (json!({"sub": "alice"}), None),
        (json!({"sid": null}), Some(Subject)),
        (json!({"sid": ""}), Some(BadClaims)),
        (json!({"sid": 7}), Some(BadClaims)),
        (json!({"sub": 7}), Some(BadClaims)),
        (json!({"sid": null, "sub": ""}), Some(BadClaims)),
        // (6)
        (json!({"events": null}), Some(Event)),
        (json!({"events": {}}), Some(Event)),
        (json!({"events": {"http://schemas.openid.net/event/other": {}}}), Some(Event)),
        (json!({"events": [EVENT]}), Some(Event)),
        (json!({"events": EVENT}), Some(Event)),
        (json!({"events": {EVENT: true}}), Some(Event)),
        (json!({"events": {EVENT: {"more": 1}, "another": {}}}), None),
        // (7)
        (json!({"nonce": "n"}), Some(Nonce)),
        (json!({"nonce": ""}), Some(Nonce)),
        // §2.4
        (json!({"jti": null}), Some(BadClaims)),
        (json!({"jti": ""}), Some(BadClaims)),
        (json!({"jti": 7}), Some(BadClaims)),
        (json!({"jti": "j".repeat(1025)}), Some(BadClaims)),
    ] {
        let token = signer.token(&signer.header("k"), &with(&claims(), &change));
        match (verify_with(LogoutTokenExp::Required, &token, &keys), expected) {
            (Ok(_), None) => {}
            (result, Some(reason)) => assert_eq!(refused(result), reason, "{change}"),
            (Err(error), None) => panic!("{change}: {error}"),
        }
    }
}

#[test]
fn a_null_nonce_is_a_nonce() {
    let signer = Signer::new(Algorithm::Es256);
    let mut claims = claims();
    claims["nonce"] = Value::Null;
    let verified = verify_with(LogoutTokenExp::Required, &signer.token(&signer.header("k"), &claims), &key_set(&[signer.jwk("k")]));
    assert_eq!(refused(verified), Reason::LogoutTokenNonce);
}

#[test]
fn a_sid_says_which_session_and_a_sub_alone_means_all() {
    let signer = Signer::new(Algorithm::Es256);
    let keys = key_set(&[signer.jwk("k")]);
    let ends = |change: Value| {
        let token = signer.token(&signer.header("k"), &with(&claims(), &change));
        verify_with(LogoutTokenExp::Required, &token, &keys).map(|token| token.ends)
    };
    assert_eq!(ends(json!({"sub": "alice"})), Ok(Ends::Sid("08a5019c".into())));
    assert_eq!(ends(json!({"sub": "alice", "sid": null})), Ok(Ends::Sub("alice".into())));
}

#[test]
fn a_jti_is_kept_for_as_long_as_its_token_counts() {
    let signer = Signer::new(Algorithm::Es256);
    let keys = key_set(&[signer.jwk("k")]);
    let until = |exp, change: Value| {
        let token = signer.token(&signer.header("k"), &with(&claims(), &change));
        verify_with(exp, &token, &keys).map(|token| token.counts_until.0 - NOW.0)
    };
    assert_eq!(until(LogoutTokenExp::Required, json!({})), Ok(115 + 60));
    // `exp` may lie where it likes: five minutes after `iat` are the most.
    assert_eq!(until(LogoutTokenExp::Required, json!({"exp": NOW.0 + 86_400})), Ok(295 + 60));
    assert_eq!(until(LogoutTokenExp::Optional, json!({"exp": null})), Ok(295 + 60));
    assert!(matches!(until(LogoutTokenExp::Optional, json!({"exp": NOW.0 - 60})), Err(LogoutTokenError::Refused(_))));
    assert!(matches!(until(LogoutTokenExp::Optional, json!({"exp": null, "iat": null})), Err(LogoutTokenError::Refused(_))));
}

#[test]
fn the_type_is_that_of_a_logout_token_or_says_nothing() {
    let signer = Signer::new(Algorithm::Es256);
    let keys = key_set(&[signer.jwk("k")]);
    for (typ, fits) in [
        (Value::Null, true),
        (json!("logout+jwt"), true),
        (json!("Logout+JWT"), true),
        (json!("application/logout+jwt"), true),
        (json!("JWT"), true),
        (json!("at+jwt"), false),
        (json!("application/at+jwt"), false),
        (json!("secevent+jwt"), false),
        (json!("é".repeat(12)), false),
        (json!(""), false),
    ] {
        let header = with(&signer.header("k"), &json!({ "typ": typ }));
        let verified = verify_with(LogoutTokenExp::Required, &signer.token(&header, &claims()), &keys);
        if fits {
            assert!(verified.is_ok(), "{typ}: {verified:?}");
        } else {
            assert_eq!(refused(verified), Reason::LogoutTokenType, "{typ}");
        }
    }
}

#[test]
fn what_no_key_of_the_provider_signed_is_refused() {
    let (signer, other) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let keys = key_set(&[signer.jwk("k")]);
    let verify = |token: &str| verify_with(LogoutTokenExp::Required, token, &keys);
    let payload = encode(claims().to_string().as_bytes());
    for header in [json!({"alg": "none"}), json!({"alg": "HS256", "kid": "k"}), json!({"alg": "ES384", "kid": "k"})] {
        let token = format!("{}.{payload}.", encode(header.to_string().as_bytes()));
        assert_eq!(refused(verify(&token)), Reason::LogoutTokenAlgorithm, "{header}");
    }
    assert_eq!(refused(verify(&other.token(&other.header("k"), &claims()))), Reason::LogoutTokenSignature);
    let unknown = verify(&signer.token(&signer.header("another"), &claims()));
    assert!(matches!(&unknown, Err(LogoutTokenError::KeyUnknown(fault)) if fault.reason == Reason::LogoutTokenKeyUnknown), "{unknown:?}");
    // Encrypted: five parts.
    let sound = signer.token(&signer.header("k"), &claims());
    for token in [format!("{sound}.a.b"), String::new(), "a.b.c".into(), format!("{sound}{}", "A".repeat(MAX_BYTES))] {
        assert_eq!(refused(verify(&token)), Reason::LogoutTokenMalformed);
    }
}

#[test]
fn the_addressee_is_read_without_belief() {
    let token = |claims: Value| format!("e30.{}.x", encode(claims.to_string().as_bytes()));
    let addressed = |issuer: &str, audience: &[&str]| {
        Some(Addressed { issuer: issuer.into(), audience: audience.iter().map(|one| (*one).to_owned()).collect() })
    };
    assert_eq!(peek(&token(json!({"iss": "i", "aud": "a"}))), addressed("i", &["a"]));
    assert_eq!(peek(&token(json!({"iss": "i", "aud": ["a", 7, "b"]}))), addressed("i", &["a", "b"]));
    assert_eq!(peek(&token(json!({"iss": "i"}))), addressed("i", &[]));
    for nothing in
        [token(json!({"aud": "a"})), token(json!({"iss": 7})), token(json!([])), "x".into(), format!("e30.{}.x", "A".repeat(MAX_BYTES))]
    {
        assert_eq!(peek(&nothing), None);
    }
}

proptest! {
    #[test]
    fn anything_else_is_refused_and_never_panics(token in "\\PC{0,200}", payload in "\\PC{0,100}") {
        let signer = Signer::new(Algorithm::EdDsa);
        let keys = key_set(&[signer.jwk("k")]);
        prop_assert!(verify_with(LogoutTokenExp::Optional, &token, &keys).is_err());
        prop_assert!(verify_with(LogoutTokenExp::Optional, &signer.token_of(&signer.header("k"), payload.as_bytes()), &keys).is_err());
        let _ = peek(&token);
    }
}
