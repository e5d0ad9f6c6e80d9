//! The compact form of a JWS (RFC 7515 §7.1): three parts in base64url, read within bounds and believed by nobody yet.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny};

use crate::secret;

/// The longest token that is looked at, in bytes: as much as `limits.token_bytes` may allow, and an ID token with more groups than any header
/// holds, so that who has them is told so. The provider's answer and the request's head have bounds of their own.
pub const MAX_TOKEN_BYTES: usize = 1024 * 1024;

/// A token taken apart. Nothing of it is verified.
pub struct Jws<'a> {
    /// The header's parameters that matter here.
    pub header: Header,
    /// What the signature is over: the first two parts with the dot between them.
    pub signing_input: &'a str,
    /// The second part, decoded.
    pub payload: Vec<u8>,
    /// The third part, decoded.
    pub signature: Vec<u8>,
}

/// The header's parameters that are read. Those that bring a key of their own (`jwk`, `jku`, `x5c`, `x5u`) are never looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `alg`, as it stands there.
    pub alg: String,
    /// `kid`.
    pub kid: Option<String>,
    /// `typ`, as it stands there.
    pub typ: Option<String>,
}

/// Why a text is no JWS that can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwsError {
    /// Longer than the bound.
    TooLong,
    /// Not three parts.
    Parts,
    /// A part that is not base64url without padding.
    Encoding,
    /// The header is no JSON object with a text `alg`, or names a parameter twice or with a value of another type.
    Header,
    /// `crit` is there: it names extensions that must be understood, and none is (RFC 7515 §4.1.11).
    Critical,
}

impl fmt::Display for JwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the token is longer than the limit",
            Self::Parts => "not three parts with dots between them",
            Self::Encoding => "a part is not base64url without padding",
            Self::Header => "the header is not a JSON object with one text alg",
            Self::Critical => "the header has crit, and no extension is known here",
        })
    }
}

impl std::error::Error for JwsError {}

impl<'a> Jws<'a> {
    /// Takes a token of at most [`MAX_TOKEN_BYTES`] apart.
    pub fn parse(token: &'a str) -> Result<Self, JwsError> {
        Self::parse_within(token, MAX_TOKEN_BYTES)
    }

    /// Takes a token of at most `limit` bytes apart.
    pub fn parse_within(token: &'a str, limit: usize) -> Result<Self, JwsError> {
        if token.len() > limit {
            return Err(JwsError::TooLong);
        }
        let parts = split(token).ok_or(JwsError::Parts)?;
        let header = Header::parse(&secret::decode(parts.header).ok_or(JwsError::Encoding)?)?;
        Ok(Self {
            header,
            signing_input: parts.signing_input,
            payload: secret::decode(parts.payload).ok_or(JwsError::Encoding)?,
            signature: secret::decode(parts.signature).ok_or(JwsError::Encoding)?,
        })
    }
}

/// The second part, decoded, without a look at the others.
pub(super) fn payload(token: &str) -> Option<Vec<u8>> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    secret::decode(split(token)?.payload)
}

struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    signing_input: &'a str,
}

fn split(token: &str) -> Option<Parts<'_>> {
    let (signing_input, signature) = token.rsplit_once('.')?;
    let (header, payload) = signing_input.split_once('.')?;
    // With two dots exactly, first and last split meet; a third one would be left in the middle.
    (!payload.contains('.')).then_some(Parts { header, payload, signature, signing_input })
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, JwsError> {
        let raw: RawHeader = object(bytes).ok_or(JwsError::Header)?;
        if raw.crit {
            return Err(JwsError::Critical);
        }
        Ok(Self { alg: raw.alg, kid: raw.kid, typ: raw.typ })
    }
}

/// Reads a JSON object into a struct. serde would take a JSON array for one as well, by position.
pub(super) fn object<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if *first != b'{' {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

/// A parameter named twice is refused by serde for each field here (RFC 7515 §4: names must be unique).
#[derive(serde::Deserialize)]
struct RawHeader {
    alg: String,
    #[serde(default, deserialize_with = "text")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "text")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// A text; `null` is none.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// True for whatever stands there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::encode;

    fn token(header: &str) -> String {
        format!("{}.{}.{}", encode(header.as_bytes()), encode(b"{}"), encode(b"sig"))
    }

    fn fails(token: &str) -> JwsError {
        Jws::parse(token).err().unwrap()
    }

    #[test]
    fn three_parts_come_apart() {
        let token = token(r#"{"alg":"RS256","kid":"k","typ":"JWT","x":{"y":[1]}}"#);
        let jws = Jws::parse(&token).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(jws.header, Header { alg: "RS256".into(), kid: Some("k".into()), typ: Some("JWT".into()) });
        assert_eq!(jws.payload, b"{}");
        assert_eq!(jws.signature, b"sig");
        assert_eq!(token, format!("{}.{}", jws.signing_input, encode(b"sig")));
    }

    #[test]
    fn any_other_form_is_refused() {
        let sound = token(r#"{"alg":"RS256"}"#);
        let (head, rest) = sound.split_once('.').unwrap();
        for (token, error) in [
            (String::new(), JwsError::Parts),
            ("abc".into(), JwsError::Parts),
            (head.to_owned(), JwsError::Parts),
            (format!("{head}.e30"), JwsError::Parts),
            (format!("{sound}."), JwsError::Parts),
            (format!("{sound}.e30.e30"), JwsError::Parts),
            (format!("{sound}="), JwsError::Encoding),
            (format!("{sound} "), JwsError::Encoding),
            (format!(" {sound}"), JwsError::Encoding),
            (format!("{head}=.{rest}"), JwsError::Encoding),
            (format!("{head}.e+A.c2ln"), JwsError::Encoding),
            (format!("{head}.e30.c2l"), JwsError::Encoding), // stray bits: two texts for one signature
            (format!("{sound}\u{e9}"), JwsError::Encoding),
            (format!(".{rest}"), JwsError::Header),
            ("..".into(), JwsError::Header),
            (format!("{}.e30.c2ln", "A".repeat(MAX_TOKEN_BYTES)), JwsError::TooLong),
        ] {
            assert_eq!(fails(&token), error, "{}", &token[..token.len().min(60)]);
        }
        assert_eq!(Jws::parse_within(&sound, sound.len() - 1).err(), Some(JwsError::TooLong));
        assert!(Jws::parse_within(&sound, sound.len()).is_ok());
    }

    #[test]
    fn a_header_is_one_object_with_one_meaning() {
        for (header, error) in [
            (r#"{}"#, JwsError::Header),
            (r#"["RS256","k"]"#, JwsError::Header),
            (r#""RS256""#, JwsError::Header),
            (r#"{"alg":null}"#, JwsError::Header),
            (r#"{"alg":["RS256"]}"#, JwsError::Header),
            (r#"{"alg":"RS256","alg":"none"}"#, JwsError::Header),
            (r#"{"alg":"RS256","kid":"a","kid":"b"}"#, JwsError::Header),
            (r#"{"alg":"RS256","typ":"JWT","typ":"at+jwt"}"#, JwsError::Header),
            (r#"{"alg":"RS256","kid":7}"#, JwsError::Header),
            (r#"{"alg":"RS256","kid":null}"#, JwsError::Header),
            (r#"{"alg":"RS256"} {}"#, JwsError::Header),
            (r#"{"alg":"RS256""#, JwsError::Header),
            (r#"{"alg":"RS256","crit":["b64"],"b64":false}"#, JwsError::Critical),
            (r#"{"alg":"RS256","crit":[]}"#, JwsError::Critical),
            (r#"{"alg":"RS256","crit":null}"#, JwsError::Critical),
            (r#"{"alg":"RS256","crit":["exp"],"crit":[]}"#, JwsError::Header),
        ] {
            assert_eq!(fails(&token(header)), error, "{header}");
        }
        assert_eq!(fails("/w.e30.c2ln"), JwsError::Encoding);
        assert_eq!(fails("_w.e30.c2ln"), JwsError::Header); // 0xff: no UTF-8
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in any::<String>(), bytes: Vec<u8>, header in "\\PC{0,60}") {
            let _ = Jws::parse(&text);
            let _ = Jws::parse(&String::from_utf8_lossy(&bytes));
            let _ = Jws::parse(&token(&header));
        }

        #[test]
        fn what_was_put_together_comes_apart(payload: Vec<u8>, signature: Vec<u8>, kid in "\\PC{0,20}") {
            let header = serde_json::json!({"alg": "ES256", "kid": kid}).to_string();
            let token = format!("{}.{}.{}", encode(header.as_bytes()), encode(&payload), encode(&signature));
            let jws = Jws::parse(&token).unwrap_or_else(|error| panic!("{error}"));
            prop_assert_eq!(jws.payload, payload);
            prop_assert_eq!(jws.signature, signature);
            prop_assert_eq!(jws.header.kid, Some(kid));
        }
    }
}
