use serde_json::json;

use super::*;
use crate::token::Audience;
use crate::token::testing::{NOW, with};

const ISSUER: &str = "https://issuer.test";

fn rules() -> IntrospectionRules {
    IntrospectionRules { issuer: ISSUER.into(), scope_claim: None, user_claim: None, leeway: Duration::from_secs(60) }
}

fn answer() -> Value {
    json!({
        "active": true, "iss": ISSUER, "sub": "alice", "aud": "orders", "client_id": "cli", "exp": NOW.0 + 300, "iat": NOW.0,
        "scope": "read write", "token_type": "Bearer",
    })
}

/// `Ok(None)`: it counts; a text: the answer cannot be read.
fn judged(rules: &IntrospectionRules, change: &Value) -> Result<Option<Reason>, String> {
    let token = rules.read(with(&answer(), change).to_string().as_bytes()).map_err(|malformed| malformed.0)?;
    let judged = token.and_then(|token| token.terms.judge(&Audience::AnyOf(["orders".into()].into()), NOW));
    Ok(judged.err().map(|fault| fault.reason))
}

#[test]
fn active_is_a_boolean_and_nothing_like_it() {
    assert_eq!(judged(&rules(), &json!({})), Ok(None));
    assert_eq!(judged(&rules(), &json!({"active": false})), Ok(Some(Reason::TokenInactive)));
    for active in [json!("true"), json!("false"), json!(1), json!(0), json!([true]), json!({}), json!("")] {
        assert!(judged(&rules(), &json!({ "active": active })).is_err(), "{active}");
    }
    assert!(judged(&rules(), &json!({"active": null})).is_err());
    for text in [
        "",
        "true",
        "[true]",
        "{",
        "{\"active\":true,\"active\":true}",
        "{\"active\":null}",
        "<html>",
        "{\"active\":false,\"active\":true}",
    ] {
        assert!(rules().read(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(rules().read(b"{\"active\":false}").unwrap().unwrap_err().reason, Reason::TokenInactive);
}

#[test]
fn an_active_token_of_others_or_of_another_kind_does_not_count() {
    use Reason::{
        TokenAudience as Audience, TokenBound as Bound, TokenExpired as Expired, TokenIssuerUnknown as Issuer, TokenNotYetValid as NotYet,
        TokenType as Type,
    };
    let now = NOW.0;
    for (change, expected) in [
        (json!({"iss": null}), None),
        (json!({"iss": "https://issuer.test/"}), Some(Issuer)),
        (json!({"iss": 7}), Some(Issuer)),
        (json!({"aud": ["x", "orders"]}), None),
        (json!({"aud": "x"}), Some(Audience)),
        (json!({"aud": null}), Some(Audience)),
        (json!({"exp": null}), None),
        (json!({"exp": now - 59}), None),
        (json!({"exp": now - 60}), Some(Expired)),
        (json!({"nbf": now + 61}), Some(NotYet)),
        (json!({"iat": now + 61}), Some(NotYet)),
        (json!({"token_type": null}), None),
        (json!({"token_type": "bearer"}), None),
        (json!({"token_type": "access_token"}), None),
        (json!({"token_type": "refresh_token"}), Some(Type)),
        (json!({"token_type": 7}), Some(Type)),
        (json!({"token_use": "access_token"}), None),
        (json!({"token_use": "refresh_token"}), Some(Type)),
        (json!({"typ": "Bearer"}), None),
        (json!({"typ": "Refresh"}), Some(Type)),
        (json!({"typ": "ID"}), Some(Type)),
        (json!({"token_type": "DPoP"}), Some(Bound)),
        (json!({"token_type": "DPoP", "cnf": {"jkt": "x"}}), None),
        (json!({"cnf": {}}), Some(Bound)),
    ] {
        assert_eq!(judged(&rules(), &change), Ok(expected), "{change}");
    }
    for change in [json!({"exp": "soon"}), json!({"nbf": true}), json!({"aud": 7}), json!({"sub": 7}), json!({"sub": ""})] {
        assert!(judged(&rules(), &change).is_err(), "{change}");
    }
}

#[test]
fn a_bound_token_says_to_what() {
    let read = |change: Value| rules().read(with(&answer(), &change).to_string().as_bytes()).unwrap().unwrap().confirmation;
    assert_eq!(read(json!({})), None);
    assert_eq!(read(json!({"cnf": {"jkt": "x"}})).unwrap().jkt.as_deref(), Some("x"));
    assert_eq!(read(json!({"cnf": {"x5t#S256": "y"}})).unwrap().x5t_s256.as_deref(), Some("y"));
}

#[test]
fn a_token_without_a_subject_is_its_programs_unless_it_is_a_persons() {
    let change = |name: &str, value: Value| {
        let mut claims = answer();
        claims.as_object_mut().unwrap().remove("sub");
        claims[name] = value;
        rules().read(claims.to_string().as_bytes()).unwrap().map(|token| token.claims["sub"].clone()).map_err(|fault| fault.reason)
    };
    assert_eq!(change("x", json!(1)), Ok(json!("cli")));
    assert_eq!(change("username", json!("alice")), Err(Reason::TokenClaims));
    assert_eq!(change("client_id", json!("")), Err(Reason::TokenClaims));
    let by_name = IntrospectionRules { user_claim: ClaimPath::parse("username"), ..rules() };
    let named = json!({"active": true, "client_id": "cli", "username": "alice"});
    assert_eq!(by_name.read(named.to_string().as_bytes()).unwrap().unwrap().claims["sub"], "alice");
    let nameless = json!({"active": true, "client_id": "cli"});
    assert_eq!(by_name.read(nameless.to_string().as_bytes()).unwrap().unwrap_err().reason, Reason::TokenClaims);
    let nobody = json!({"active": true});
    assert_eq!(rules().read(nobody.to_string().as_bytes()).unwrap().unwrap_err().reason, Reason::TokenClaims);
}

#[test]
fn scopes_are_read_as_from_a_jwt() {
    let by_claim = IntrospectionRules { scope_claim: ClaimPath::parse("permissions"), ..rules() };
    let read = |rules: &IntrospectionRules| {
        let token = rules.read(with(&answer(), &json!({"permissions": ["a", "b"]})).to_string().as_bytes()).unwrap().unwrap();
        token.scopes.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(read(&rules()), ["read", "write"]);
    assert_eq!(read(&by_claim), ["a", "b"]);
}
