//! What a token endpoint answers: a token, a refusal by its word, or nothing that could be used.

use std::time::Duration;

use http::Response;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use crate::header::TOKEN_LIMIT;
use crate::provider::is_outage;
use crate::secret::Secret;

/// Types of tokens that an exchange may give (RFC 8693 §3): those that can be shown as a Bearer token.
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A token that was granted.
pub(super) struct Granted {
    /// Not empty, and printable.
    pub(super) access_token: Secret,
    /// `expires_in`.
    pub(super) lives: Option<Duration>,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ungranted {
    /// The endpoint says no, by this word (RFC 6749 §5.2).
    Refused(String),
    /// There was no answer, or none that can be used.
    Unusable(String),
}

/// Which grant an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 8693 §2.
    TokenExchange,
}

/// Reads an answer. Nothing of its body but the error's word gets into a message.
pub(super) fn read(grant: Grant, answer: &Response<Vec<u8>>) -> Result<Granted, Ungranted> {
    let status = answer.status();
    let unusable = |what: &str| Ungranted::Unusable(format!("the token endpoint answered {}: {what}", status.as_u16()));
    let body = || object(answer);
    if is_outage(status) {
        return Err(unusable("no answer to what was asked"));
    }
    if status.is_client_error() {
        let word = body().and_then(|body| body.get("error").and_then(Value::as_str).map(word));
        return Err(match word {
            Some(word) if !word.is_empty() => Ungranted::Refused(word),
            _ => unusable("no error that could be read (RFC 6749 §5.2)"),
        });
    }
    if !status.is_success() {
        return Err(unusable("no success"));
    }
    let body = body().ok_or_else(|| unusable("not a JSON object, declared as application/json (RFC 6749 §5.1)"))?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let token = text("access_token");
    if token.is_empty() || token.len() > TOKEN_LIMIT || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable("no access_token that fits into a header"));
    }
    // RFC 6749 §7.1: a token of a type that we do not know must not be used. An exchange may say `N_A` (RFC 8693 §2.2.1): nothing to show.
    if !text("token_type").eq_ignore_ascii_case("bearer") {
        return Err(unusable("token_type is not Bearer"));
    }
    if grant == Grant::TokenExchange && ![ACCESS_TOKEN, JWT].contains(&text("issued_token_type")) {
        return Err(unusable("issued_token_type is neither an access token nor a JWT (RFC 8693 §2.2.1)"));
    }
    let lives = match body.get("expires_in") {
        None | Some(Value::Null) => None,
        Some(said) => Some(Duration::from_secs(seconds(said).ok_or_else(|| unusable("expires_in is no number of seconds"))?)),
    };
    Ok(Granted { access_token: Secret::new(token), lives })
}

fn object(answer: &Response<Vec<u8>>) -> Option<Map<String, Value>> {
    let declared = answer.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let json = |declared: &str| {
        let essence = declared.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    };
    // One that declares nothing may be JSON all the same; one that says it is a page is one.
    if !declared.is_none_or(json) {
        return None;
    }
    match serde_json::from_slice(answer.body()) {
        Ok(Value::Object(body)) => Some(body),
        _ => None,
    }
}

/// There are providers that write the number as a text.
fn seconds(said: &Value) -> Option<u64> {
    match said {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64(),
        _ => None,
    }
}

fn word(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(40).collect()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use super::*;

    fn answer(status: u16, content_type: Option<&str>, body: &str) -> Response<Vec<u8>> {
        let mut answer = Response::new(body.as_bytes().to_vec());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        if let Some(content_type) = content_type {
            answer.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
        }
        answer
    }

    fn of(grant: Grant, status: u16, body: Value) -> Result<Granted, Ungranted> {
        read(grant, &answer(status, Some("application/json;charset=UTF-8"), &body.to_string()))
    }

    #[test]
    fn a_token_is_taken_as_the_endpoint_says_it() {
        for (said, lives) in [(json!(60), Some(60)), (json!("60"), Some(60)), (json!(0), Some(0)), (Value::Null, None)] {
            let body = json!({ "access_token": "a.b-c", "token_type": "bEARER", "expires_in": said });
            let granted = of(Grant::ClientCredentials, 200, body).ok().unwrap();
            assert_eq!(granted.access_token.expose(), "a.b-c");
            assert_eq!(granted.lives, lives.map(Duration::from_secs));
        }
        let good = json!({ "access_token": "a", "token_type": "Bearer" }).to_string();
        for (content_type, taken) in
            [(None, true), (Some("application/json"), true), (Some("text/html"), false), (Some("application/jsonp"), false)]
        {
            assert_eq!(read(Grant::ClientCredentials, &answer(200, content_type, &good)).is_ok(), taken, "{content_type:?}");
        }
    }

    #[test]
    fn what_is_no_bearer_token_is_not_used() {
        for body in [
            json!({}),
            json!([]),
            json!("Bearer"),
            json!({ "access_token": "", "token_type": "Bearer" }),
            json!({ "access_token": 7, "token_type": "Bearer" }),
            json!({ "access_token": "a b", "token_type": "Bearer" }),
            json!({ "access_token": "a\r\nb", "token_type": "Bearer" }),
            json!({ "access_token": "ä", "token_type": "Bearer" }),
            json!({ "access_token": "a".repeat(TOKEN_LIMIT + 1), "token_type": "Bearer" }),
            json!({ "access_token": "a" }),
            json!({ "access_token": "a", "token_type": "mac" }),
            json!({ "access_token": "a", "token_type": "DPoP" }),
            json!({ "access_token": "a", "token_type": "Bearer", "expires_in": -1 }),
            json!({ "access_token": "a", "token_type": "Bearer", "expires_in": 1.5 }),
            json!({ "access_token": "a", "token_type": "Bearer", "expires_in": "soon" }),
            json!({ "access_token": "a", "token_type": "Bearer", "expires_in": [60] }),
        ] {
            let ungranted = of(Grant::ClientCredentials, 200, body.clone()).err();
            assert!(matches!(ungranted, Some(Ungranted::Unusable(_))), "{body}: {ungranted:?}");
        }
        // One that is too busy refuses nobody, whatever word stands beside it.
        for status in [204, 302, 408, 425, 429, 500, 503] {
            let body = json!({ "error": "invalid_grant" });
            assert!(matches!(of(Grant::ClientCredentials, status, body).err(), Some(Ungranted::Unusable(_))), "{status}");
        }
    }

    #[test]
    fn an_exchange_says_what_it_issued() {
        for (issued, token_type, taken) in [
            (json!(ACCESS_TOKEN), "Bearer", true),
            (json!(JWT), "bearer", true),
            (json!(ACCESS_TOKEN), "N_A", false),
            (json!("urn:ietf:params:oauth:token-type:refresh_token"), "Bearer", false),
            (Value::Null, "Bearer", false),
        ] {
            let body = json!({ "access_token": "a", "token_type": token_type, "issued_token_type": issued });
            assert_eq!(of(Grant::TokenExchange, 200, body.clone()).is_ok(), taken, "{body}");
        }
    }

    #[test]
    fn a_refusal_is_its_word_and_nothing_else() {
        for (status, body, expected) in [
            (400, json!({ "error": "invalid_target", "error_description": "secret" }), Some("invalid_target")),
            (401, json!({ "error": "invalid_client" }), Some("invalid_client")),
            (400, json!({ "error": "<b>\r\nevil" }), Some("<b>evil")),
            (400, json!({ "error": 7 }), None),
            (400, json!({ "error": "" }), None),
            (404, json!({}), None),
        ] {
            match (of(Grant::TokenExchange, status, body.clone()).err(), expected) {
                (Some(Ungranted::Refused(word)), Some(expected)) => assert_eq!(word, expected),
                (Some(Ungranted::Unusable(detail)), None) => assert!(!detail.contains("secret")),
                (found, _) => panic!("{body}: {found:?}"),
            }
        }
        let page = answer(403, Some("text/html"), &json!({ "error": "invalid_grant" }).to_string());
        assert!(matches!(read(Grant::TokenExchange, &page).err(), Some(Ungranted::Unusable(_))));
    }
}
