use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::token::testing::{Signer, jwks, key_set, with};

const MESSAGE: &[u8] = b"signed";

#[test]
fn every_algorithm_verifies_its_own_signature_and_no_changed_one() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm);
        let keys = key_set(&[signer.jwk("k")]);
        let key = keys.find(algorithm, Some("k")).unwrap_or_else(|why| panic!("{algorithm}: {why}"));
        let signature = signer.sign(MESSAGE);
        assert!(key.verifies(MESSAGE, &signature), "{algorithm}");
        assert!(!key.verifies(b"another", &signature), "{algorithm}");
        assert!(!key.verifies(MESSAGE, &signature[..signature.len() - 1]), "{algorithm}");
        assert!(!key.verifies(MESSAGE, &[]), "{algorithm}");
        let mut bent = signature.clone();
        bent[7] ^= 1;
        assert!(!key.verifies(MESSAGE, &bent), "{algorithm}");
    }
}

#[test]
fn a_signature_of_zeros_is_none() {
    for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512, Algorithm::EdDsa] {
        let signer = Signer::new(algorithm);
        let keys = key_set(&[signer.jwk("k")]);
        let key = keys.find(algorithm, None).unwrap_or_else(|why| panic!("{why}"));
        assert!(!key.verifies(MESSAGE, &vec![0; signer.sign(MESSAGE).len()]), "{algorithm}");
    }
}

#[test]
fn a_key_serves_only_algorithms_of_its_kind() {
    for algorithm in Algorithm::ALL {
        let keys = key_set(&[Signer::new(algorithm).jwk("k")]);
        for other in Algorithm::ALL {
            let rsa = |algorithm: Algorithm| matches!(algorithm.as_str().as_bytes()[0], b'R' | b'P');
            let fits = other == algorithm || (rsa(other) && rsa(algorithm));
            assert_eq!(keys.find(other, Some("k")).is_ok(), fits, "{algorithm} key, {other} token");
        }
    }
}

#[test]
fn a_key_that_names_its_algorithm_serves_no_other() {
    let rsa = Signer::new(Algorithm::Rs256).jwk("k");
    let keys = key_set(&[with(&rsa, &json!({"alg": "RS256"}))]);
    assert!(keys.find(Algorithm::Rs256, Some("k")).is_ok());
    for other in [Algorithm::Rs384, Algorithm::Ps256] {
        assert_eq!(keys.find(other, Some("k")).err(), Some(NoKey::Unknown), "{other}");
    }
    let ed = Signer::new(Algorithm::EdDsa).jwk("k");
    for name in ["EdDSA", "Ed25519"] {
        assert!(key_set(&[with(&ed, &json!({"alg": name}))]).find(Algorithm::EdDsa, Some("k")).is_ok());
    }
    for name in ["RSA-OAEP", "HS256", "none", "ES256", ""] {
        assert!(key_set(&[with(&rsa, &json!({"alg": name}))]).is_empty(), "{name}");
    }
}

#[test]
fn what_cannot_be_used_is_passed_over() {
    let rsa = Signer::new(Algorithm::Rs256).jwk("rsa");
    let ec = Signer::new(Algorithm::Es256).jwk("ec");
    let ed = Signer::new(Algorithm::EdDsa).jwk("ed");
    let n = crate::secret::decode(rsa["n"].as_str().unwrap()).unwrap();
    let encode = crate::secret::encode;
    let mut off_curve = crate::secret::decode(ec["y"].as_str().unwrap()).unwrap();
    off_curve[31] ^= 1;
    for useless in [
        json!(null),
        json!([]),
        json!("RSA"),
        json!({}),
        json!({"kty": 7}),
        json!({"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA"}),
        json!({"kty": "oct", "k": "c2VjcmV0", "kid": "rsa"}),
        with(&rsa, &json!({"use": "enc"})),
        with(&rsa, &json!({"use": 7})),
        with(&rsa, &json!({"key_ops": ["encrypt"]})),
        with(&rsa, &json!({"key_ops": []})),
        with(&rsa, &json!({"d": "AQAB"})),
        with(&rsa, &json!({"kid": 7})),
        with(&rsa, &json!({"n": null})),
        with(&rsa, &json!({"e": ""})),
        with(&rsa, &json!({"e": "AQ"})),                                        // 1
        with(&rsa, &json!({"e": "Ag"})),                                        // even
        with(&rsa, &json!({"e": encode(&[1, 0, 0, 0, 1])})),                    // beyond 32 bits
        with(&rsa, &json!({"n": encode(&n[..n.len() - 1])})),                   // 2040 bits
        with(&rsa, &json!({"n": encode(&[&[0], &n[..n.len() - 1]].concat())})), // the same, padded
        with(&rsa, &json!({"n": encode(&[0xff; 1025])})),                       // 8200 bits
        with(&rsa, &json!({"n": "not base64!"})),
        with(&ec, &json!({"crv": "secp256k1"})),
        with(&ec, &json!({"crv": "P-384"})),
        with(&ec, &json!({"crv": null})),
        with(&ec, &json!({"x": encode(&[0; 32]), "y": encode(&[0; 32])})),
        with(&ec, &json!({"y": encode(&off_curve)})),
        with(&ec, &json!({"x": encode(&[1; 31])})),
        with(&ed, &json!({"crv": "Ed448"})),
        with(&ed, &json!({"crv": "X25519"})),
        with(&ed, &json!({"x": encode(&[1; 31])})),
    ] {
        let keys = key_set(&[useless.clone(), rsa.clone()]);
        assert_eq!(keys.len(), 1, "{useless}");
        assert!(keys.find(Algorithm::Rs256, Some("rsa")).is_ok(), "{useless}");
        assert!(key_set(&[useless]).is_empty());
    }
    let padded = with(&rsa, &json!({"n": encode(&[&[0], n.as_slice()].concat()), "use": "sig", "key_ops": ["verify"]}));
    assert_eq!(key_set(&[padded]).len(), 1);
}

#[test]
fn with_a_kid_only_that_key_counts() {
    let (one, two) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let keys = key_set(&[one.jwk("one"), two.jwk("two"), with(&Signer::new(Algorithm::Rs256).jwk(""), &json!({"kid": null}))]);
    let signature = two.sign(MESSAGE);
    let verifies = |kid| keys.find(Algorithm::Es256, Some(kid)).map(|key| key.verifies(MESSAGE, &signature)).ok();
    assert_eq!(verifies("two"), Some(true));
    assert_eq!(verifies("one"), Some(false));
    for kid in ["three", "", "TWO", "two "] {
        assert_eq!(verifies(kid), None, "{kid:?}");
    }
    assert_eq!(keys.find(Algorithm::Rs256, Some("one")).err(), Some(NoKey::Unknown));
    assert_eq!(keys.find(Algorithm::Rs256, Some("")).err(), Some(NoKey::Unknown));
}

#[test]
fn without_a_kid_the_only_key_that_fits_counts() {
    let (ec, rsa) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Rs256));
    let one_of_each = key_set(&[ec.jwk("a"), rsa.jwk("b")]);
    assert!(one_of_each.find(Algorithm::Es256, None).is_ok());
    assert!(one_of_each.find(Algorithm::Rs256, None).is_ok());
    assert_eq!(one_of_each.find(Algorithm::EdDsa, None).err(), Some(NoKey::Unknown));
    let two = key_set(&[ec.jwk("a"), Signer::new(Algorithm::Es256).jwk("b")]);
    assert_eq!(two.find(Algorithm::Es256, None).err(), Some(NoKey::Ambiguous));
    let listed_twice = key_set(&[ec.jwk("a"), ec.jwk("a"), ec.jwk("b")]);
    assert!(listed_twice.find(Algorithm::Es256, None).is_ok());
    assert!(listed_twice.find(Algorithm::Es256, Some("a")).is_ok());
}

#[test]
fn two_keys_of_one_name_are_ambiguous() {
    let keys =
        key_set(&[Signer::new(Algorithm::Es256).jwk("a"), Signer::new(Algorithm::Es256).jwk("a"), Signer::new(Algorithm::Rs256).jwk("a")]);
    assert_eq!(keys.find(Algorithm::Es256, Some("a")).err(), Some(NoKey::Ambiguous));
    assert!(keys.find(Algorithm::Rs256, Some("a")).is_ok());
}

#[test]
fn a_set_holds_a_bounded_number_of_keys() {
    let signer = Signer::new(Algorithm::EdDsa);
    let many: Vec<Value> = (0..1000).map(|index| signer.jwk(&index.to_string())).collect();
    assert_eq!(key_set(&many).len(), MAX_KEYS);
}

#[test]
fn only_an_object_with_a_list_of_keys_is_a_set() {
    for text in ["", "[]", "[[]]", "{}", "null", r#"{"keys":{}}"#, r#"{"keys":null}"#, r#"{"keys":[]"#, "<html>"] {
        assert_eq!(KeySet::parse(text.as_bytes()).err(), Some(KeySetMalformed), "{text}");
    }
    assert!(KeySet::parse(br#"{"keys":[]}"#).unwrap().is_empty());
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(bytes: Vec<u8>, n: Vec<u8>, x in prop::collection::vec(any::<u8>(), 0..70), y in prop::collection::vec(any::<u8>(), 0..70), crv in "P-(256|384|521)|Ed25519") {
        let _ = KeySet::parse(&bytes);
        let encode = crate::secret::encode;
        let keys = [
            json!({"kty": "RSA", "n": encode(&n), "e": encode(&y)}),
            json!({"kty": "EC", "crv": crv, "x": encode(&x), "y": encode(&y)}),
            json!({"kty": "OKP", "crv": crv, "x": encode(&x)}),
        ];
        let _ = KeySet::parse(&jwks(&keys));
    }
}
