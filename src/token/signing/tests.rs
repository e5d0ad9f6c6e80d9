use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;

use super::*;
use crate::secret::{decode, encode_standard};
use crate::token::testing::key_set;
use crate::token::{Jws, KeySet};

fn pem(label: &str, der: &[u8]) -> String {
    let text = encode_standard(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn published(key: &SigningKey) -> KeySet {
    key_set(&[key.public_jwk().clone()])
}

/// Whether the gateway's own verifier takes the token with that set.
fn verifies(token: &str, keys: &KeySet) -> bool {
    let jws = Jws::parse(token).unwrap();
    let algorithm = Algorithm::from_name(&jws.header.alg).unwrap();
    keys.find(algorithm, jws.header.kid.as_deref()).is_ok_and(|key| key.verifies(jws.signing_input.as_bytes(), &jws.signature))
}

fn rsa() -> &'static RsaKeyPair {
    static KEY: std::sync::OnceLock<RsaKeyPair> = std::sync::OnceLock::new();
    KEY.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
}

fn rsa_pkcs8() -> Vec<u8> {
    AsDer::<Pkcs8V1Der<'_>>::as_der(rsa()).unwrap().as_ref().to_vec()
}

#[test]
fn a_fresh_key_signs_what_its_public_key_verifies() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        let (key, pkcs8) = SigningKey::generate(algorithm).unwrap();
        let token = key.sign("doorward-test+jwt", &json!({"sub": "alice"})).unwrap();
        assert!(verifies(&token, &published(&key)), "{algorithm}");
        let jws = Jws::parse(&token).unwrap();
        assert_eq!(jws.header.typ.as_deref(), Some("doorward-test+jwt"));
        assert_eq!(jws.header.kid.as_deref(), Some(key.kid()));
        assert_eq!(jws.payload, br#"{"sub":"alice"}"#);
        // Another key of the same kind does not.
        let (other, _) = SigningKey::generate(algorithm).unwrap();
        assert!(!verifies(&token, &published(&other)));
        let renamed: KeySet = {
            let mut jwk = other.public_jwk().clone();
            jwk["kid"] = json!(key.kid());
            key_set(&[jwk])
        };
        assert!(!verifies(&token, &renamed));
        // What was kept is the same key.
        let again = SigningKey::from_pkcs8(&pkcs8, Some(algorithm)).unwrap();
        assert_eq!(again.kid(), key.kid());
        assert!(verifies(&again.sign("x", &json!({})).unwrap(), &published(&key)));
    }
    for other in [Algorithm::Rs256, Algorithm::Es384, Algorithm::Ps512] {
        assert_eq!(SigningKey::generate(other).err(), Some(SigningKeyError::NotMade(other)));
    }
}

#[test]
fn every_form_and_kind_of_key_is_read() {
    let ec = |parameters| EcdsaKeyPair::generate(parameters).unwrap();
    let p256 = ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
    let sec1 = AsDer::<EcPrivateKeyRfc5915Der<'_>>::as_der(&p256.private_key()).unwrap();
    let p384 = ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).to_pkcs8v1().unwrap();
    let p521 = ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).to_pkcs8v1().unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let pkcs8 = rsa_pkcs8();
    // The RSAPrivateKey stands in the PKCS#8 form after 26 bytes of framing, for 2048 bits.
    let pkcs1 = &pkcs8[26..];
    for (label, der, algorithm) in [
        ("PRIVATE KEY", p256.to_pkcs8v1().unwrap().as_ref(), Algorithm::Es256),
        ("EC PRIVATE KEY", sec1.as_ref(), Algorithm::Es256),
        ("PRIVATE KEY", p384.as_ref(), Algorithm::Es384),
        ("PRIVATE KEY", p521.as_ref(), Algorithm::Es512),
        ("PRIVATE KEY", ed.to_pkcs8().unwrap().as_ref(), Algorithm::EdDsa),
        ("PRIVATE KEY", ed.to_pkcs8v1().unwrap().as_ref(), Algorithm::EdDsa),
        ("PRIVATE KEY", &pkcs8, Algorithm::Rs256),
        ("RSA PRIVATE KEY", pkcs1, Algorithm::Rs256),
    ] {
        let key = SigningKey::from_pem(pem(label, der).as_bytes(), None).unwrap_or_else(|error| panic!("{label} {algorithm}: {error}"));
        assert_eq!(key.algorithm(), algorithm);
        assert!(verifies(&key.sign("x", &json!({"a": 1})).unwrap(), &published(&key)), "{label} {algorithm}");
        assert_eq!(key.public_jwk()["alg"], algorithm.as_str());
        assert!(["d", "p", "q", "dp", "dq", "qi", "k"].iter().all(|private| key.public_jwk().get(private).is_none()));
    }
}

#[test]
fn an_rsa_key_signs_as_it_is_told_and_others_as_they_must() {
    let pem_of_rsa = pem("PRIVATE KEY", &rsa_pkcs8());
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| rsa_encoding(*algorithm).is_some()) {
        let key = SigningKey::from_pem(pem_of_rsa.as_bytes(), Some(algorithm)).unwrap();
        assert!(verifies(&key.sign("x", &json!({})).unwrap(), &published(&key)), "{algorithm}");
    }
    let wrong = |wanted, own| Some(SigningKeyError::Algorithm { wanted, own });
    assert_eq!(SigningKey::from_pem(pem_of_rsa.as_bytes(), Some(Algorithm::Es256)).err(), wrong(Algorithm::Es256, Algorithm::Rs256));
    let (_, pkcs8) = SigningKey::generate(Algorithm::Es256).unwrap();
    assert_eq!(SigningKey::from_pkcs8(&pkcs8, Some(Algorithm::EdDsa)).err(), wrong(Algorithm::EdDsa, Algorithm::Es256));
    assert_eq!(SigningKey::from_pkcs8(&pkcs8, Some(Algorithm::Es384)).err(), wrong(Algorithm::Es384, Algorithm::Es256));
}

#[test]
fn what_is_no_key_says_what_would_be_one() {
    let (first, pkcs8) = SigningKey::generate(Algorithm::EdDsa).unwrap();
    for text in [String::new(), "abc".into(), pem("PUBLIC KEY", b"abc"), pem("ENCRYPTED PRIVATE KEY", &pkcs8)] {
        assert_eq!(SigningKey::from_pem(text.as_bytes(), None).err(), Some(SigningKeyError::NoKey), "{text}");
        assert_eq!(SigningKey::all_from_pem(text.as_bytes()).err(), Some(SigningKeyError::NoKey), "{text}");
    }
    for der in [b"abc".as_slice(), &pkcs8[..pkcs8.len() - 1], &[]] {
        assert_eq!(SigningKey::from_pem(pem("PRIVATE KEY", der).as_bytes(), None).err(), Some(SigningKeyError::Unusable));
    }
    let (second, other) = SigningKey::generate(Algorithm::Es256).unwrap();
    let both = format!("{}# the one of before\n{}", pem("PRIVATE KEY", &pkcs8), pem("PRIVATE KEY", &other));
    let keys = SigningKey::all_from_pem(both.as_bytes()).unwrap();
    assert_eq!(keys.iter().map(SigningKey::kid).collect::<Vec<_>>(), [first.kid(), second.kid()]);
    let broken = format!("{both}{}", pem("PRIVATE KEY", b"abc"));
    assert_eq!(SigningKey::all_from_pem(broken.as_bytes()).err(), Some(SigningKeyError::Unusable));
}

#[test]
fn the_example_key_of_rfc_8037_signs_as_its_appendix_says() {
    // Appendix A.1, framed as PKCS#8 (RFC 8410 §7).
    let seed = decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let framing = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let key = SigningKey::from_pkcs8(&[framing.as_slice(), &seed].concat(), None).unwrap();
    assert_eq!(key.public_jwk()["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    // Appendix A.3.
    assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    // Appendix A.4.
    let signature = key.pair.sign(b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc").unwrap();
    assert_eq!(encode(&signature), "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");
}

#[test]
fn a_proof_of_possession_brings_its_public_key_and_no_name() {
    let (key, _) = SigningKey::generate(Algorithm::Es256).unwrap();
    let token = key.sign_named(Named::ByJwk, "dpop+jwt", &json!({"htm": "GET"})).unwrap();
    let header: Value = serde_json::from_slice(&decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header.get("kid"), None);
    assert_eq!(thumbprint(&header["jwk"]).as_deref(), Some(key.kid()));
    assert_eq!(header["jwk"].as_object().unwrap().keys().collect::<Vec<_>>(), ["crv", "kty", "x", "y"]);
    assert!(verifies(&token, &key_set(&[header["jwk"].clone()])));
}
