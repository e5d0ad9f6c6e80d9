//! Claims read by type. A claim that is there in another type than its specification says is a fault, never an absence.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::clock::UnixTime;
use crate::identity::Claims;

/// How deep objects and lists in the claims may lie in each other. The deepest in use (Keycloak's permissions) need five.
const MAX_DEPTH: usize = 16;

/// What is wrong with the claims, for the log: names of claims, never their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClaimsError(pub(super) String);

impl fmt::Display for ClaimsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a payload: one JSON object, no name twice (RFC 7519 §4), nested within bounds.
pub(super) fn parse(payload: &[u8]) -> Result<Claims, ClaimsError> {
    let Unique(claims) =
        serde_json::from_slice(payload).map_err(|_| ClaimsError("the payload is not a JSON object with unique names".into()))?;
    if claims.values().any(|value| deeper_than(value, MAX_DEPTH)) {
        return Err(ClaimsError("the claims lie deeper than the limit".into()));
    }
    Ok(claims)
}

/// serde_json's own limit of 128 levels keeps this recursion short.
fn deeper_than(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else { return true };
    match value {
        Value::Array(items) => items.iter().any(|item| deeper_than(item, below)),
        Value::Object(members) => members.values().any(|member| deeper_than(member, below)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A JSON object without a repeated name; serde_json alone would keep the last one.
struct Unique(Claims);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = members.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name appears twice"));
                    }
                }
                Ok(Unique(claims))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A claim that must be a text and not empty.
pub(super) fn text<'a>(claims: &'a Claims, name: &str) -> Result<&'a str, ClaimsError> {
    match claims.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(Value::String(_)) => Err(ClaimsError(format!("{name} is empty"))),
        Some(_) => Err(ClaimsError(format!("{name} is not a text"))),
        None => Err(missing(name)),
    }
}

/// `sub`: a text of 1 to 255 bytes (OpenID Connect Core §2).
pub(super) fn subject(claims: &Claims) -> Result<&str, ClaimsError> {
    let sub = text(claims, "sub")?;
    if sub.len() > 255 { Err(ClaimsError("sub is longer than 255".into())) } else { Ok(sub) }
}

/// A time that must be there.
pub(super) fn time(claims: &Claims, name: &str) -> Result<UnixTime, ClaimsError> {
    optional_time(claims, name)?.ok_or_else(|| missing(name))
}

/// A time that may be absent: a JSON number, whole or not (RFC 7519 §2 `NumericDate`); a fraction is cut off, as the clock's is.
pub(super) fn optional_time(claims: &Claims, name: &str) -> Result<Option<UnixTime>, ClaimsError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_u64().or_else(|| {
        let seconds = value.as_f64()?;
        // `as` stops at the largest u64 instead of wrapping.
        (seconds.is_finite() && seconds >= 0.0).then_some(seconds as u64)
    });
    seconds.map(|seconds| Some(UnixTime(seconds))).ok_or_else(|| ClaimsError(format!("{name} is not a time")))
}

/// `aud`: one text or a list of texts (RFC 7519 §4.1.3); empty when absent.
pub(super) fn audience(claims: &Claims) -> Result<Vec<String>, ClaimsError> {
    let wrong = || ClaimsError("aud is not a text or a list of texts".into());
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(items)) => items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

/// What issuers call an ID token, a refresh token and an access token in `token_use` (Cognito) or `typ` (Keycloak).
pub(super) const ID_TOKEN: &[&str] = &["id", "id_token"];
pub(super) const REFRESH_TOKEN: &[&str] = &["refresh", "refresh_token", "offline"];
pub(super) const ACCESS_TOKEN: &[&str] = &["access", "access_token", "bearer"];

/// What the token calls itself there, if it is one of these kinds. No specification says that it does, so that silence is no answer.
pub(super) fn kind_among(claims: &Claims, kinds: &[&[&str]]) -> Option<String> {
    let named = |name: &&str| kinds.iter().any(|words| says(claims, name, words));
    ["token_use", "typ"].into_iter().find(named).and_then(|name| claims.get(name)?.as_str().map(brief))
}

/// Whether a claim is one of these words, in any case.
pub(super) fn says(claims: &Claims, name: &str, words: &[&str]) -> bool {
    claims.get(name).and_then(Value::as_str).is_some_and(|said| words.iter().any(|word| said.eq_ignore_ascii_case(word)))
}

/// The fault for a claim that is not there.
pub(super) fn missing(name: &str) -> ClaimsError {
    ClaimsError(format!("{name} is missing"))
}

/// The beginning of a text from outside, for the log.
pub(super) fn brief(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_payload_is_one_object_with_unique_names() {
        assert!(parse(br#"{"a":1,"b":{"c":[]}}"#).is_ok());
        for payload in [r#"[]"#, r#""a""#, r#"{"a":1,"a":1}"#, r#"{"a":1}x"#, r#"{"a":1e999}"#, "", "null", "{\"a\":\"\u{0}\"}"] {
            assert!(parse(payload.as_bytes()).is_err(), "{payload}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        for depth in [MAX_DEPTH + 1, 127, 128, 30_000] {
            assert!(parse(nested(depth).as_bytes()).is_err(), "{depth}");
        }
    }

    #[test]
    fn a_time_is_a_number_whole_or_not() {
        let read = |value: Value| time(&claims(json!({ "exp": value })), "exp");
        for (value, seconds) in [
            (json!(0), 0),
            (json!(1_700_000_000), 1_700_000_000),
            (json!(1_700_000_000.9), 1_700_000_000),
            (json!(1.7e9), 1_700_000_000),
            (json!(1e300), u64::MAX),
        ] {
            assert_eq!(read(value.clone()), Ok(UnixTime(seconds)), "{value}");
        }
        for value in [json!("1700000000"), json!(-1), json!(-0.5), json!(null), json!([1]), json!({}), json!(true)] {
            assert_eq!(read(value.clone()), Err(ClaimsError("exp is not a time".into())), "{value}");
        }
        assert_eq!(time(&Claims::new(), "exp"), Err(ClaimsError("exp is missing".into())));
        assert_eq!(optional_time(&Claims::new(), "nbf"), Ok(None));
    }

    #[test]
    fn an_audience_is_a_text_or_a_list_of_texts() {
        let read = |value: Value| audience(&claims(json!({ "aud": value }))).ok();
        assert_eq!(read(json!("a")), Some(vec!["a".into()]));
        assert_eq!(read(json!(["a", "b"])), Some(vec!["a".into(), "b".into()]));
        assert_eq!(read(json!([])), Some(vec![]));
        for value in [json!(null), json!(7), json!({"a": 1}), json!(["a", 7]), json!([["a"]])] {
            assert_eq!(read(value.clone()), None, "{value}");
        }
    }
}
