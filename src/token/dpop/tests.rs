use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::secret::encode;
use crate::token::testing::{NOW, Signer, with};

const TOKEN: &str = "the.access.token";
const WINDOW: Duration = Duration::from_secs(60);

struct Scene {
    signer: Signer,
    jkt: String,
}

impl Scene {
    fn new(algorithm: Algorithm) -> Self {
        let signer = Signer::new(algorithm);
        let jkt = ProofKey::parse(&signer.jwk("k"), algorithm).ok().unwrap().thumbprint;
        Self { signer, jkt }
    }

    /// A good proof for `GET https://api.test/a/b`, with changes to header and claims.
    fn proof(&self, header: &Value, claims: &Value) -> String {
        let mut own = self.signer.header("k");
        own["typ"] = json!("dpop+jwt");
        own["jwk"] = self.signer.jwk("k");
        let honest = json!({"jti": "j", "htm": "GET", "htu": "https://api.test/a/b", "iat": NOW.0, "ath": ath(TOKEN)});
        self.signer.token(&with(&own, header), &with(&honest, claims))
    }

    fn judged(&self, proof: &str, age: Age) -> Result<(), Fault> {
        let proof = Proof::read(proof, &Algorithm::DEFAULT)?;
        let (base, path) = (Url::parse("https://api.test/").unwrap(), CanonicalPath::parse("/a/b").unwrap());
        let expect = ProofExpectation { method: &Method::GET, base: &base, path: &path, token: TOKEN, jkt: &self.jkt, age };
        proof.judge(&expect, NOW)
    }

    #[track_caller]
    fn reason(&self, header: Value, claims: Value) -> &'static str {
        self.judged(&self.proof(&header, &claims), Age::IssuedAt(WINDOW)).err().map_or("good", |fault| fault.reason.as_str())
    }
}

fn ath(token: &str) -> String {
    encode(&sha256(token.as_bytes()))
}

#[test]
fn a_good_proof_of_every_algorithm_counts() {
    for algorithm in Algorithm::DEFAULT {
        assert_eq!(Scene::new(algorithm).reason(json!({}), json!({})), "good", "{algorithm}");
    }
}

#[test]
fn each_step_alone_refuses_for_its_own_reason() {
    let scene = Scene::new(Algorithm::Es256);
    let other = Scene::new(Algorithm::Es256);
    let private = with(&scene.signer.jwk("k"), &json!({"d": "AAAA"}));
    for (header, claims, reason) in [
        (json!({"crit": ["x"], "x": 1}), json!({}), "dpop-proof-malformed"),
        (json!({}), json!({"jti": null}), "dpop-proof-claims"),
        (json!({}), json!({"jti": ""}), "dpop-proof-claims"),
        (json!({}), json!({"jti": 7}), "dpop-proof-claims"),
        (json!({}), json!({"htm": null}), "dpop-proof-claims"),
        (json!({}), json!({"htu": null}), "dpop-proof-claims"),
        (json!({}), json!({"iat": null}), "dpop-proof-claims"),
        (json!({}), json!({"iat": "1800000000"}), "dpop-proof-claims"),
        (json!({}), json!({"ath": null}), "dpop-proof-claims"),
        (json!({"typ": null}), json!({}), "dpop-proof-type"),
        (json!({"typ": "JWT"}), json!({}), "dpop-proof-type"),
        (json!({"typ": "at+jwt"}), json!({}), "dpop-proof-type"),
        (json!({"alg": "none"}), json!({}), "dpop-proof-algorithm"),
        (json!({"alg": "HS256"}), json!({}), "dpop-proof-algorithm"),
        (json!({"alg": "ES384"}), json!({}), "dpop-proof-algorithm"),
        (json!({"alg": "es256"}), json!({}), "dpop-proof-algorithm"),
        (json!({"jwk": null}), json!({}), "dpop-proof-key"),
        (json!({"jwk": "x"}), json!({}), "dpop-proof-key"),
        (json!({"jwk": private}), json!({}), "dpop-proof-key"),
        (json!({"jwk": {"kty": "oct", "k": "AAAA"}}), json!({}), "dpop-proof-key"),
        (json!({"alg": "RS256"}), json!({}), "dpop-proof-key"),
        (json!({"jwk": other.signer.jwk("k")}), json!({}), "dpop-proof-signature"),
        (json!({}), json!({"htm": "POST"}), "dpop-proof-method"),
        (json!({}), json!({"htm": "get"}), "dpop-proof-method"),
        (json!({}), json!({"htu": "https://api.test/a"}), "dpop-proof-url"),
        (json!({}), json!({"iat": NOW.0 - 61}), "dpop-proof-age"),
        (json!({}), json!({"iat": NOW.0 + 61}), "dpop-proof-age"),
        (json!({}), json!({"ath": ath("another")}), "dpop-proof-token"),
        (json!({}), json!({"ath": "x"}), "dpop-proof-token"),
        (json!({}), json!({"iat": NOW.0 - 60}), "good"),
        (json!({}), json!({"iat": NOW.0 + 60}), "good"),
        (json!({}), json!({"nonce": 7, "more": {"a": 1}}), "good"),
    ] {
        assert_eq!(scene.reason(header.clone(), claims.clone()), reason, "{header} {claims}");
    }
    let of_another = other.proof(&json!({}), &json!({}));
    assert_eq!(scene.judged(&of_another, Age::IssuedAt(WINDOW)).unwrap_err().reason, Reason::DpopKeyMismatch);
}

#[test]
fn what_is_no_jwt_is_malformed() {
    let scene = Scene::new(Algorithm::Es256);
    let good = scene.proof(&json!({}), &json!({}));
    for text in [String::new(), "a.b".into(), format!("{good}.x"), format!("{good},{good}"), format!("{good}="), "a".repeat(9000)] {
        let fault = Proof::read(&text, &Algorithm::DEFAULT).err().unwrap();
        assert_eq!(fault.reason, Reason::DpopProofMalformed, "{text:.40}");
    }
    let twice = good.split('.').skip(1).collect::<Vec<_>>().join(".");
    let jwk = scene.signer.jwk("k");
    let header = format!("{{\"alg\":\"ES256\",\"typ\":\"dpop+jwt\",\"jwk\":{jwk},\"jwk\":{jwk}}}");
    let fault = Proof::read(&format!("{}.{twice}", encode(header.as_bytes())), &Algorithm::DEFAULT).err().unwrap();
    assert_eq!(fault.reason, Reason::DpopProofKey);
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text: String, header: Vec<u8>, payload: Vec<u8>, htu: String) {
        let _ = Proof::read(&text, &Algorithm::ALL);
        let _ = Proof::read(&format!("{}.{}.{}", encode(&header), encode(&payload), encode(&payload)), &Algorithm::ALL);
        let _ = is_target(&htu, &Url::parse("https://api.test").unwrap(), &CanonicalPath::parse("/").unwrap());
    }
}

#[test]
fn htu_is_compared_in_one_spelling() {
    let same = |htu: &str, base: &str, path: &str| is_target(htu, &Url::parse(base).unwrap(), &CanonicalPath::parse(path).unwrap());
    for (htu, base, path) in [
        ("https://api.test/a/b", "https://api.test", "/a/b"),
        ("HTTPS://API.Test:443/a/b", "https://api.test", "/a/b"),
        ("https://api.test/a/b?x=1#y", "https://api.test", "/a/b"),
        ("https://api.test/%61/b", "https://api.test", "/a/b"),
        ("https://api.test/a/%c3%a9", "https://api.test", "/a/%C3%A9"),
        ("https://api.test/a/é", "https://api.test", "/a/%c3%a9"),
        ("https://api.test/x/../a/./b", "https://api.test", "/a/b"),
        ("https://api.test/a%2fb", "https://api.test", "/a%2Fb"),
        ("https://api.test", "https://api.test", "/"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080", "/"),
        ("https://[::1]/", "https://[0:0::1]:443", "/"),
    ] {
        assert!(same(htu, base, path), "{htu}");
    }
    for htu in [
        "https://api.test/a/B",
        "https://api.test/a/b/",
        "https://api.test/a/b/c",
        "https://api.test/a%2Fb",
        "http://api.test/a/b",
        "https://api.test:8443/a/b",
        "https://evil.test/a/b",
        "https://api.test.evil.test/a/b",
        "https://user@api.test/a/b",
        "//api.test/a/b",
        "/a/b",
        "",
        "https://api.test/a/%2e%2e%2fa/b",
    ] {
        assert!(!same(htu, "https://api.test", "/a/b"), "{htu}");
    }
}

#[test]
fn with_a_nonce_its_time_counts_and_not_iat() {
    let scene = Scene::new(Algorithm::EdDsa);
    let proof = scene.proof(&json!({}), &json!({"nonce": "n", "iat": NOW.0 - 9000}));
    assert_eq!(Proof::read(&proof, &Algorithm::DEFAULT).ok().unwrap().nonce(), Some("n"));
    assert_eq!(scene.judged(&proof, Age::Nonce(Some(NOW))), Ok(()));
    assert_eq!(scene.judged(&proof, Age::Nonce(None)).unwrap_err().reason, Reason::DpopNonce);
    assert_eq!(scene.judged(&scene.proof(&json!({}), &json!({})), Age::Nonce(None)).unwrap_err().reason, Reason::DpopNonce);
}
