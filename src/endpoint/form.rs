//! Parameters of our endpoints: from a query or a form body, each name once.

use url::form_urlencoded;

use crate::fault::Fault;
use crate::reason::Reason;

/// Names and values, decoded.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads `application/x-www-form-urlencoded`.
    pub(super) fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The query of `start` and `sign_in`. nginx cannot escape: an `rd` that comes first and holds a raw `?` takes the rest of the query
    /// with it, `&` and all.
    pub(super) fn parse_with_rd(query: &str) -> Self {
        let raw = query.strip_prefix("rd=").filter(|rest| rest.split('&').next().is_some_and(|rd| rd.contains('?')));
        match raw {
            Some(rest) => Self(vec![("rd".to_owned(), rest.to_owned())]),
            None => Self::parse(query.as_bytes()),
        }
    }

    /// The value of `name`, if it is there.
    ///
    /// # Errors
    /// [`Reason::ParameterRepeated`] when it is there twice.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Fault> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        if values.next().is_some() {
            return Err(Fault::new(Reason::ParameterRepeated, format!("{name} is there twice")));
        }
        Ok(value)
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// A URL of ours with a query.
pub(super) fn with_query(base: &str, pairs: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    if query.is_empty() { base.to_owned() } else { format!("{base}?{query}") }
}

/// What a browser's form is written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FormKind {
    /// `application/x-www-form-urlencoded`.
    Urlencoded,
    /// `multipart/form-data`, with its boundary (RFC 7578 §4.1).
    Multipart(String),
}

impl FormKind {
    /// Reads a `Content-Type`; `None` for anything else.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let mut pieces = content_type.split(';').map(str::trim);
        let essence = pieces.next()?.to_ascii_lowercase();
        match essence.as_str() {
            "application/x-www-form-urlencoded" => Some(Self::Urlencoded),
            "multipart/form-data" => {
                let boundary = pieces.find_map(|piece| {
                    let (name, value) = piece.split_once('=')?;
                    name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"').to_owned())
                })?;
                (!boundary.is_empty() && boundary.len() <= 70).then_some(Self::Multipart(boundary))
            }
            _ => None,
        }
    }
}

/// Whether a `multipart/form-data` body is sound and brings no file along. The field of a file that nobody chose is sent with an empty name and
/// no content: that is none.
pub(super) fn holds_no_file(body: &[u8], boundary: &str) -> bool {
    no_file(body, boundary).unwrap_or(false)
}

fn no_file(body: &[u8], boundary: &str) -> Option<bool> {
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(delimiter.trim_start().as_bytes())?;
    while !rest.starts_with(b"--") {
        let (head, after) = split_once(rest.strip_prefix(b"\r\n")?, b"\r\n\r\n")?;
        let (content, next) = match after.strip_prefix(delimiter.trim_start().as_bytes()) {
            // RFC 2046 §5.1.1: an empty body's line break may be the one that belongs to the delimiter.
            Some(next) => (&b""[..], next),
            None => split_once(after, delimiter.as_bytes())?,
        };
        if names_file(std::str::from_utf8(head).ok()?) && !content.is_empty() {
            return Some(false);
        }
        rest = next;
    }
    Some(true)
}

/// Whether a part's head has a `filename` parameter (RFC 7578 §4.2), outside of quotes.
fn names_file(head: &str) -> bool {
    let outside: String = head.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    outside.to_ascii_lowercase().contains("filename")
}

fn split_once<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let found = text.windows(at.len()).position(|piece| piece == at)?;
    Some((text.get(..found)?, text.get(found + at.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unescaped_rd_takes_the_rest() {
        let rd = |query| Parameters::parse_with_rd(query).one("rd").unwrap().map(str::to_owned);
        assert_eq!(rd("rd=https://own.test/a?b=c&d=e&state=x").as_deref(), Some("https://own.test/a?b=c&d=e&state=x"));
        assert_eq!(rd("rd=/a?b=%20").as_deref(), Some("/a?b=%20"));
        assert_eq!(rd("rd=https%3A%2F%2Fown.test%2Fa%3Fb%3Dc&state=x").as_deref(), Some("https://own.test/a?b=c"));
        assert_eq!(rd("rd=/a&state=x?").as_deref(), Some("/a"));
        assert_eq!(rd("state=x&rd=/a").as_deref(), Some("/a"));
    }

    #[test]
    fn a_name_counts_once() {
        let parameters = Parameters::parse(b"a=1&b=2&a=3");
        assert_eq!(parameters.one("b").unwrap(), Some("2"));
        assert_eq!(parameters.one("c").unwrap(), None);
        assert_eq!(parameters.one("a").unwrap_err().reason, Reason::ParameterRepeated);
    }

    #[test]
    fn the_kind_of_a_form_is_its_content_type() {
        let multipart = |boundary: &str| Some(FormKind::Multipart(boundary.to_owned()));
        for (content_type, expected) in [
            ("application/x-www-form-urlencoded", Some(FormKind::Urlencoded)),
            ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", Some(FormKind::Urlencoded)),
            ("multipart/form-data; boundary=----WebKitFormBoundaryx1", multipart("----WebKitFormBoundaryx1")),
            ("multipart/form-data; charset=utf-8; Boundary=\"a b\"", multipart("a b")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/mixed; boundary=x", None),
            ("text/plain", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(FormKind::of(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn a_part_with_a_filename_is_a_file_unless_nobody_chose_one() {
        let part = |head: &str, content: &str| format!("--b\r\n{head}\r\n\r\n{content}\r\n");
        let field = part("Content-Disposition: form-data; name=\"a\"", "line one\r\nline two\r\n\r\n--not the boundary");
        let tricky = part("Content-Disposition: form-data; name=\"; filename=x\"", "1");
        let unchosen = part("Content-Disposition: form-data; name=\"f\"; filename=\"\"\r\nContent-Type: application/octet-stream", "");
        let file = part("content-disposition: form-data; name=\"f\"; FileName=\"x.txt\"", "y");
        let starred = part("Content-Disposition: form-data; name=\"f\"; filename*=utf-8''x", "y");
        let empty = part("Content-Disposition: form-data; name=\"a\"", "");
        for (body, expected) in [
            (format!("{field}{tricky}{unchosen}{empty}--b--\r\n"), true),
            (format!("{field}--b--"), true),
            ("--b--\r\n".to_owned(), true),
            (format!("{field}{file}--b--\r\n"), false),
            (format!("{starred}--b--\r\n"), false),
            // Not whole, or not what it says: not looked through, so not kept.
            (field.clone(), false),
            (format!("{field}--b"), false),
            (format!("preamble{field}--b--"), false),
            (String::new(), false),
            ("--other--".to_owned(), false),
        ] {
            assert_eq!(holds_no_file(body.as_bytes(), "b"), expected, "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_looked_through(body: Vec<u8>, boundary in "[a-z-]{1,5}") {
            let _ = holds_no_file(&body, &boundary);
        }
    }
}
