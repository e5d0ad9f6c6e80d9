//! Answers for programs.

use serde_json::{Value, json};

use super::{Answer, Words, body};
use crate::reason::Reason;

const CSP: &str = "default-src 'none'; frame-ancestors 'none'";

pub(super) fn refusal(request_id: &str, reason: Reason, words: &Words, login_url: Option<&str>) -> Answer {
    let mut value = json!({
        "error": words.error,
        "error_description": words.text,
        "reason": reason.as_str(),
        "request_id": request_id,
    });
    if let (Some(url), Some(object)) = (login_url, value.as_object_mut()) {
        object.insert("login_url".to_owned(), Value::from(url));
    }
    answer(&value)
}

pub(super) fn answer(value: &Value) -> Answer {
    body("application/json", CSP, format!("{value}\n"))
}
