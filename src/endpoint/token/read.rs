//! A token request, as a form or as JSON: which grant it asks for.

use std::fmt;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use url::form_urlencoded;

use crate::fault::Fault;
use crate::provider::direct::Direct;
use crate::reason::Reason;
use crate::secret::Secret;

/// What is shown.
pub(super) enum Grant {
    /// A name and a password (RFC 6749 §4.3.2), and the code of an authenticator app where one was sent along.
    Password { name: String, password: Secret, code: Option<String> },
    /// A token of others, in the parameter of this name.
    Foreign { parameter: String, token: Secret },
}

impl Grant {
    /// Where it signs in, by its name in the config: for metrics and the log.
    pub(super) fn place<'a>(&self, direct: &'a Direct) -> &'a str {
        match self {
            Self::Password { .. } => direct.password_place().unwrap_or_default(),
            Self::Foreign { parameter, .. } => direct.foreign(parameter).map(|foreign| foreign.id.as_str()).unwrap_or_default(),
        }
    }
}

/// Reads it. What stands in the query does not count (RFC 6749 §3.2), nor do names that nobody asks for.
pub(super) fn grant(headers: &HeaderMap, body: &[u8], direct: &Direct) -> Result<Grant, Fault> {
    let parameters = Parameters::read(headers, body)?;
    let mut foreign = None;
    for table in direct.foreign_tokens() {
        if let Some(token) = parameters.one(&table.parameter)? {
            let shown = Grant::Foreign { parameter: table.parameter.clone(), token: Secret::new(token) };
            if foreign.replace(shown).is_some() {
                return Err(invalid("two tokens of others"));
            }
        }
    }
    let (name, password) = (parameters.one("username")?, parameters.one("password")?);
    let code = parameters.one("otp")?;
    match (parameters.one("grant_type")?, foreign, name, password) {
        // Apps of this kind send `grant_type` beside it, or leave it out.
        (None | Some("password"), Some(foreign), None, None) => Ok(foreign),
        (None | Some("password"), Some(_), _, _) => Err(invalid("a token of others beside a name or a password")),
        (Some("password"), None, _, _) if direct.password_place().is_none() => {
            Err(Fault::new(Reason::GrantUnsupported, "nobody checks passwords here"))
        }
        (Some("password"), None, Some(name), Some(password)) => {
            // As the form of local accounts takes it.
            Ok(Grant::Password { name: name.trim().to_owned(), password: Secret::new(password), code: code.map(str::to_owned) })
        }
        (Some("password"), None, _, _) => Err(invalid("username or password is missing")),
        (Some(_), _, _, _) => Err(Fault::new(Reason::GrantUnsupported, "grant_type is another")),
        (None, None, _, _) => Err(invalid("grant_type is missing")),
    }
}

fn invalid(detail: &str) -> Fault {
    Fault::new(Reason::ParameterInvalid, detail)
}

/// Names and values. RFC 6749 §3.2: each name once; one without a value counts as left out.
struct Parameters(Vec<(String, Value)>);

impl Parameters {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Fault> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/x-www-form-urlencoded" => {
                Ok(Self(form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), Value::from(value.into_owned()))).collect()))
            }
            "application/json" => members(body).map(Self).ok_or_else(|| invalid("the body is no JSON object")),
            _ => Err(invalid("expected application/x-www-form-urlencoded or application/json")),
        }
    }

    fn one(&self, name: &str) -> Result<Option<&str>, Fault> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
        let value = values.next();
        if values.next().is_some() {
            return Err(Fault::new(Reason::ParameterRepeated, format!("{name} is there twice")));
        }
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(invalid(&format!("{name} is no text"))),
        }
    }
}

/// The members of a JSON object, also those that are there twice: two readers would take different ones.
fn members(body: &[u8]) -> Option<Vec<(String, Value)>> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, Value)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }

    let mut reader = serde_json::Deserializer::from_slice(body);
    let members = reader.deserialize_map(Members).ok()?;
    reader.end().ok()?;
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(content_type: &str, body: &str) -> Result<Parameters, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        Parameters::read(&headers, body.as_bytes())
    }

    #[test]
    fn a_form_and_json_say_the_same_and_each_name_counts_once() {
        const FORM: &str = "application/x-www-form-urlencoded";
        const JSON: &str = "Application/JSON; charset=utf-8";
        for (kind, body, expected) in [
            (FORM, "username=ann%40x&b=1", Ok(Some("ann@x"))),
            (FORM, "username=", Ok(None)),
            (FORM, "user=ann", Ok(None)),
            (FORM, "username=a&username=b", Err("parameter-repeated")),
            (JSON, r#"{"username": "ann@x", "remember": true}"#, Ok(Some("ann@x"))),
            (JSON, r#"{"username": null}"#, Ok(None)),
            (JSON, r#"{"username": ["ann"]}"#, Err("parameter-invalid")),
            (JSON, r#"{"username": "a", "username": "b"}"#, Err("parameter-repeated")),
            (JSON, r#"["username"]"#, Err("parameter-invalid")),
            (JSON, r#"{"username": "a"} {"username": "b"}"#, Err("parameter-invalid")),
            (JSON, "username=a", Err("parameter-invalid")),
            ("text/plain", "username=a", Err("parameter-invalid")),
        ] {
            let read = parameters(kind, body).and_then(|all| Ok(all.one("username")?.map(str::to_owned)));
            assert_eq!(read.as_ref().map(Option::as_deref).map_err(|fault| fault.reason.as_str()), expected, "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>) {
            let _ = members(&body);
        }
    }
}
