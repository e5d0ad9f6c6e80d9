//! Answers for programs.

use serde_json::{Value, json};

use super::{Answer, Words, body};
use crate::reason::Reason;
use crate::route::DeniedText;

const CSP: &str = "default-src 'none'; frame-ancestors 'none'";

pub(super) fn refusal(request_id: &str, reason: Reason, words: &Words, login_url: Option<&str>, told: Option<&DeniedText>) -> Answer {
    let mut value = json!({
        "error": words.error,
        "error_description": words.text,
        "reason": reason.as_str(),
        "request_id": request_id,
    });
    let told = told.map(|told| [("text", told.text.as_deref()), ("link", told.link.as_deref())]).into_iter().flatten();
    if let Some(object) = value.as_object_mut() {
        for (name, text) in [("login_url", login_url)].into_iter().chain(told) {
            object.extend(text.map(|text| (name.to_owned(), Value::from(text))));
        }
    }
    answer(&value)
}

pub(super) fn answer(value: &Value) -> Answer {
    body("application/json", CSP, format!("{value}\n"))
}
