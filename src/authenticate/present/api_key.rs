//! The header of API keys.

use http::header::{HeaderMap, HeaderName};

use crate::credential::Credential;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::secret::Secret;

/// The key in this header; `None`: there is no such header. An empty one is a key that is none, not nobody.
pub(super) fn credential(headers: &HeaderMap, name: &HeaderName) -> Option<Credential> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return Some(Credential::Unreadable(Fault::new(Reason::ApiKeyRepeated, format!("{name} is there twice"))));
    }
    // What is no text is no key either: whoever judges keys says so, and counts it.
    Some(Credential::ApiKey(Secret::new(line.to_str().unwrap_or("unreadable"))))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_stands_in_one_header_alone() {
        let name = HeaderName::from_static("x-api-key");
        let read = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, HeaderValue::from_bytes(value).unwrap());
            }
            match credential(&headers, &name) {
                None => "none".to_owned(),
                Some(Credential::ApiKey(key)) => format!("key {}", key.expose()),
                Some(Credential::Unreadable(fault)) => fault.reason.to_string(),
                Some(_) => "another".to_owned(),
            }
        };
        assert_eq!(read(&[]), "none");
        assert_eq!(read(&[b"dwk_1"]), "key dwk_1");
        assert_eq!(read(&[b""]), "key ");
        assert_eq!(read(&[b"\xff"]), "key unreadable");
        assert_eq!(read(&[b"dwk_1", b"dwk_1"]), "api-key-repeated");
    }
}
