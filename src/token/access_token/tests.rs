use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::secret::encode;
use crate::token::testing::{NOW, Signer, key_set, with};

const ISSUER: &str = "https://issuer.test";

fn rules(typ: TokenType) -> AccessTokenRules {
    AccessTokenRules {
        issuer: ISSUER.into(),
        audience: Audience::AnyOf(["orders".into()].into()),
        algorithms: Algorithm::DEFAULT.to_vec(),
        typ,
        client_id: Some("gateway".into()),
        scope_claim: None,
        leeway: Duration::from_secs(60),
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "alice", "aud": "orders", "client_id": "cli", "jti": "1",
        "exp": NOW.0 + 300, "iat": NOW.0 - 5, "scope": "orders:read orders:write",
    })
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "k", "typ": "at+jwt"})
}

fn signer() -> &'static (Signer, KeySet) {
    static SIGNER: std::sync::OnceLock<(Signer, KeySet)> = std::sync::OnceLock::new();
    SIGNER.get_or_init(|| {
        let signer = Signer::new(Algorithm::Es256);
        let keys = key_set(&[signer.jwk("k")]);
        (signer, keys)
    })
}

/// All three stages, as a request runs through them.
fn take(rules: &AccessTokenRules, header: &Value, claims: &Value) -> Result<AccessToken, Fault> {
    let (signer, keys) = signer();
    let token = verified(rules, &signer.token(header, claims), keys)?;
    token.terms.judge(&rules.audience, NOW)?;
    Ok(token)
}

fn verified(rules: &AccessTokenRules, token: &str, keys: &KeySet) -> Result<AccessToken, Fault> {
    let presented = rules.read(token)?;
    let found = presented.find_key(keys)?;
    presented.verify(&found)
}

fn reason(result: Result<AccessToken, Fault>) -> Option<Reason> {
    result.err().map(|fault| fault.reason)
}

#[test]
fn typ_says_access_token_in_any_spelling_of_the_media_type() {
    use Reason::TokenType as Wrong;
    for (typ, at_jwt, any) in [
        (json!("at+jwt"), None, None),
        (json!("AT+JWT"), None, None),
        (json!("application/at+jwt"), None, None),
        (json!("Application/At+Jwt"), None, None),
        (json!("JWT"), Some(Wrong), None),
        (json!(null), Some(Wrong), None),
        (json!(""), Some(Wrong), None),
        (json!("application/jwt"), Some(Wrong), None),
        (json!("text/at+jwt"), Some(Wrong), Some(Wrong)),
        (json!("at+jwt "), Some(Wrong), None),
        (json!("logout+jwt"), Some(Wrong), Some(Wrong)),
        (json!("dpop+jwt"), Some(Wrong), Some(Wrong)),
        (json!("application/secevent+JWT"), Some(Wrong), Some(Wrong)),
    ] {
        let header = with(&header(), &json!({ "typ": typ }));
        assert_eq!(reason(take(&rules(TokenType::AtJwt), &header, &claims())), at_jwt, "{typ}");
        assert_eq!(reason(take(&rules(TokenType::Any), &header, &claims())), any, "{typ}");
    }
}

#[test]
fn claims_are_judged_by_the_kind_of_token() {
    use Reason::{
        TokenAudience as Audience, TokenBound as Bound, TokenClaims as BadClaims, TokenExpired as Expired, TokenIsIdToken as IdToken,
        TokenIssuerUnknown as Issuer, TokenNotYetValid as NotYet,
    };
    let now = NOW.0;
    for (change, at_jwt, any) in [
        (json!({}), None, None),
        (json!({"iss": "https://issuer.test/"}), Some(Issuer), Some(Issuer)),
        (json!({"iss": null}), Some(BadClaims), Some(BadClaims)),
        (json!({"iss": 7}), Some(BadClaims), Some(BadClaims)),
        (json!({"sub": null}), Some(BadClaims), Some(BadClaims)),
        (json!({"sub": ""}), Some(BadClaims), Some(BadClaims)),
        (json!({"client_id": null}), Some(BadClaims), None),
        (json!({"client_id": 7}), Some(BadClaims), None),
        (json!({"jti": null}), Some(BadClaims), None),
        (json!({"jti": 7}), Some(BadClaims), None),
        (json!({"iat": null}), Some(BadClaims), None),
        (json!({"iat": "now"}), Some(BadClaims), Some(BadClaims)),
        (json!({"iat": now + 60}), None, None),
        (json!({"iat": now + 61}), Some(NotYet), Some(NotYet)),
        (json!({"nbf": now + 60}), None, None),
        (json!({"nbf": now + 61}), Some(NotYet), Some(NotYet)),
        (json!({"nbf": now + 61, "iat": null}), Some(BadClaims), Some(NotYet)),
        (json!({"nbf": true}), Some(BadClaims), Some(BadClaims)),
        (json!({"exp": now - 59}), None, None),
        (json!({"exp": now - 60}), Some(Expired), Some(Expired)),
        (json!({"exp": now as f64 - 59.5}), Some(Expired), Some(Expired)),
        (json!({"exp": now as f64 + 9.5}), None, None),
        (json!({"exp": null}), Some(BadClaims), Some(BadClaims)),
        (json!({"exp": format!("{}", now + 300)}), Some(BadClaims), Some(BadClaims)),
        (json!({"aud": ["x", "orders"]}), None, None),
        (json!({"aud": ["x", "y"]}), Some(Audience), Some(Audience)),
        (json!({"aud": "order"}), Some(Audience), Some(Audience)),
        (json!({"aud": []}), Some(BadClaims), Some(Audience)),
        (json!({"aud": null}), Some(BadClaims), Some(Audience)),
        (json!({"aud": {"orders": 1}}), Some(BadClaims), Some(BadClaims)),
        (json!({"aud": ["orders", 7]}), Some(BadClaims), Some(BadClaims)),
        (json!({"cnf": {"jkt": "x"}}), None, None),
        (json!({"cnf": {}}), Some(Bound), Some(Bound)),
        (json!({"nonce": "n"}), None, Some(IdToken)),
        (json!({"at_hash": "h"}), None, Some(IdToken)),
        (json!({"c_hash": "h"}), None, Some(IdToken)),
        (json!({"aud": "gateway"}), Some(Audience), Some(IdToken)),
        (json!({"aud": ["orders", "gateway"]}), None, Some(IdToken)),
        (json!({"azp": "gateway"}), None, None),
        // Keycloak and Cognito say in the claims what a token is; neither writes a typ of its own into the header.
        (json!({"token_use": "id"}), Some(Reason::TokenType), Some(Reason::TokenType)),
        (json!({"typ": "ID"}), Some(Reason::TokenType), Some(Reason::TokenType)),
        (json!({"typ": "Refresh"}), Some(Reason::TokenType), Some(Reason::TokenType)),
        (json!({"typ": "Offline"}), Some(Reason::TokenType), Some(Reason::TokenType)),
        (json!({"token_use": "access"}), None, None),
        (json!({"typ": "Bearer"}), None, None),
        (json!({"typ": "their own word"}), None, None),
        (json!({"events": {"x": {}}}), Some(Reason::TokenType), Some(Reason::TokenType)),
    ] {
        let claims = with(&claims(), &change);
        assert_eq!(reason(take(&rules(TokenType::AtJwt), &header(), &claims)), at_jwt, "at+jwt {change}");
        assert_eq!(reason(take(&rules(TokenType::Any), &header(), &claims)), any, "any {change}");
    }
}

#[test]
fn an_id_token_counts_where_it_is_written_out_and_nothing_else_does() {
    use Reason::{
        TokenAudience as Audience, TokenClaims as BadClaims, TokenExpired as Expired, TokenIssuerUnknown as Issuer,
        TokenNotYetValid as NotYet, TokenType as Type,
    };
    let now = NOW.0;
    let id_token = json!({
        "iss": ISSUER, "sub": "alice", "aud": "orders", "exp": now + 300, "iat": now, "nonce": "n", "at_hash": "h", "azp": "phone",
    });
    let rules = AccessTokenRules { client_id: Some("orders".into()), ..rules(TokenType::IdToken) };
    for (typ, expected) in [
        (json!(null), None),
        (json!("JWT"), None),
        (json!("application/jwt"), None),
        (json!("at+jwt"), Some(Type)),
        (json!("logout+jwt"), Some(Type)),
        (json!("ID"), Some(Type)),
    ] {
        assert_eq!(reason(take(&rules, &with(&header(), &json!({ "typ": typ })), &id_token)), expected, "{typ}");
    }
    for (change, expected) in [
        (json!({"nonce": null, "at_hash": null}), None),
        (json!({"aud": ["x", "orders"]}), None),
        (json!({"aud": "x"}), Some(Audience)),
        (json!({"aud": null}), Some(BadClaims)),
        (json!({"aud": []}), Some(BadClaims)),
        (json!({"iss": "https://other.test"}), Some(Issuer)),
        (json!({"sub": null}), Some(BadClaims)),
        (json!({"iat": null}), Some(BadClaims)),
        (json!({"exp": null}), Some(BadClaims)),
        (json!({"exp": now - 60}), Some(Expired)),
        (json!({"iat": now + 61}), Some(NotYet)),
        (json!({"typ": "ID"}), None),
        (json!({"typ": "Bearer"}), Some(Type)),
        (json!({"token_use": "access"}), Some(Type)),
        (json!({"typ": "Refresh"}), Some(Type)),
        (json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}), Some(Type)),
    ] {
        let claims = with(&id_token, &change);
        assert_eq!(reason(take(&rules, &with(&header(), &json!({ "typ": "JWT" })), &claims)), expected, "{change}");
    }
}

#[test]
fn a_key_is_known_again_in_a_later_document_and_missed_when_it_is_another() {
    let (signer, keys) = signer();
    let token = take(&rules(TokenType::AtJwt), &header(), &claims()).unwrap();
    let mark = token.key.unwrap();
    assert!(keys.still_has(&mark));
    let other = Signer::new(Algorithm::Es256);
    assert!(key_set(&[other.jwk("o"), signer.jwk("k")]).still_has(&mark));
    assert!(!key_set(&[other.jwk("k")]).still_has(&mark));
    assert!(!key_set(&[signer.jwk("k2")]).still_has(&mark));
    assert!(!key_set(&[signer.jwk("k"), other.jwk("k")]).still_has(&mark));
    assert!(!key_set(&[]).still_has(&mark));
}

#[test]
fn a_token_of_keycloak_counts_under_any_with_its_audience() {
    let header = json!({"alg": "ES256", "kid": "k", "typ": "JWT"});
    let claims = json!({
        "exp": NOW.0 + 60, "iat": NOW.0, "jti": "onrtac:1", "iss": ISSUER, "aud": ["orders", "account"], "sub": "f81d4fae", "typ": "Bearer",
        "azp": "cli", "sid": "s", "acr": "1", "realm_access": {"roles": ["staff"]}, "scope": "openid email",
    });
    assert_eq!(reason(take(&rules(TokenType::Any), &header, &claims)), None);
    assert_eq!(reason(take(&rules(TokenType::AtJwt), &header, &claims)), Some(Reason::TokenType));
}

#[test]
fn the_route_says_for_whom_a_token_must_be_meant() {
    let token = take(&rules(TokenType::AtJwt), &header(), &claims()).unwrap();
    let judge = |audience| token.terms.judge(&audience, NOW).map_err(|fault| fault.reason);
    assert_eq!(judge(Audience::Any), Ok(()));
    assert_eq!(judge(Audience::AnyOf(["x".into(), "orders".into()].into())), Ok(()));
    assert_eq!(judge(Audience::AnyOf(["Orders".into()].into())), Err(Reason::TokenAudience));
    assert_eq!(judge(Audience::AnyOf([].into())), Err(Reason::TokenAudience));
}

#[test]
fn a_token_without_audience_counts_only_where_any_is_written() {
    let rules = AccessTokenRules { audience: Audience::Any, ..rules(TokenType::Any) };
    assert_eq!(reason(take(&rules, &header(), &with(&claims(), &json!({"aud": null})))), None);
}

#[test]
fn the_same_token_is_judged_again_as_time_passes() {
    let token = take(&rules(TokenType::AtJwt), &header(), &claims()).unwrap();
    let audience = Audience::AnyOf(["orders".into()].into());
    assert_eq!(token.terms.judge(&audience, UnixTime(NOW.0 + 359)), Ok(()));
    assert_eq!(token.terms.judge(&audience, UnixTime(NOW.0 + 360)).map_err(|fault| fault.reason), Err(Reason::TokenExpired));
    assert_eq!(token.terms.judge(&audience, UnixTime(0)).map_err(|fault| fault.reason), Err(Reason::TokenNotYetValid));
}

#[test]
fn scopes_are_read_from_scope_else_scp() {
    let read = |change: Value| -> Vec<String> {
        take(&rules(TokenType::AtJwt), &header(), &with(&claims(), &change)).unwrap().scopes.into_iter().collect()
    };
    assert_eq!(read(json!({})), ["orders:read", "orders:write"]);
    assert_eq!(read(json!({"scp": "admin"})), ["orders:read", "orders:write"]);
    assert_eq!(read(json!({"scope": null, "scp": "b a"})), ["a", "b"]);
    assert_eq!(read(json!({"scope": null, "scp": ["b", "a", 7]})), ["a", "b"]);
    assert_eq!(read(json!({"scope": ["b", "a c"]})), ["a", "b", "c"]);
    assert_eq!(read(json!({"scope": "  a   b "})), ["a", "b"]);
    for none in [json!({"scope": null}), json!({"scope": ""}), json!({"scope": 7}), json!({"scope": {"a": 1}, "scp": "admin"})] {
        assert!(read(none.clone()).is_empty(), "{none}");
    }
}

#[test]
fn what_no_key_of_the_issuer_signed_is_refused() {
    let rules = rules(TokenType::AtJwt);
    let (signer, keys) = signer();
    let verify = |token: &str| reason(verified(&rules, token, keys));
    let payload = encode(claims().to_string().as_bytes());
    for (alg, expected) in [("none", Reason::TokenAlgorithm), ("HS256", Reason::TokenAlgorithm), ("ES384", Reason::TokenAlgorithm)] {
        let head = encode(json!({"alg": alg, "kid": "k", "typ": "at+jwt"}).to_string().as_bytes());
        assert_eq!(verify(&format!("{head}.{payload}.")), Some(expected), "{alg}");
    }
    let sound = signer.token(&header(), &claims());
    assert_eq!(verify(&sound), None);
    assert_eq!(verify(&Signer::new(Algorithm::Es256).token(&header(), &claims())), Some(Reason::TokenSignature));
    for (change, expected) in [
        (json!({"kid": "other"}), Reason::TokenKeyUnknown),
        (json!({"alg": "RS256"}), Reason::TokenKeyUnknown),
        (json!({"crit": ["exp"]}), Reason::TokenCritical),
    ] {
        assert_eq!(verify(&signer.token(&with(&header(), &change), &claims())), Some(expected), "{change}");
    }
    for text in ["", "opaque", "a.b.c", "a.b.c.d", "{}.{}.{}", &sound[1..]] {
        assert_eq!(verify(text), Some(Reason::TokenMalformed), "{text}");
    }
}

#[test]
fn the_issuer_is_read_without_belief() {
    let (signer, _) = signer();
    assert_eq!(peek_issuer(&signer.token(&header(), &claims())).as_deref(), Some(ISSUER));
    let doubled = format!(r#"{{"iss":"a","iss":"{ISSUER}"}}"#);
    for payload in [r#"{"iss":7}"#, "{}", r#"["https://issuer.test"]"#, "", &doubled] {
        assert_eq!(peek_issuer(&signer.token_of(&header(), payload.as_bytes())), None, "{payload}");
    }
    for text in ["", ".", "..", "...", "opaque-token", &format!("a.{}.c", "A".repeat(jws::MAX_TOKEN_BYTES))] {
        assert_eq!(peek_issuer(text), None);
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in "\\PC{0,80}", payload: Vec<u8>, json in "\\{\"(iss|aud|exp)\":[0-9a-z\\[\\]\"{},:.]{0,20}\\}") {
        let (signer, keys) = signer();
        for token in [text, signer.token_of(&header(), &payload), signer.token_of(&header(), json.as_bytes())] {
            let _ = peek_issuer(&token);
            let _ = verified(&rules(TokenType::Any), &token, keys);
        }
    }
}
