//! In which form a value stands in a header: printable ASCII, whatever it holds.

use std::fmt::Write as _;

use super::source::Found;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::secret::encode_standard;

/// The filters of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// `|join(SEPARATOR)`: what stands between the items of a list.
    pub(super) separator: String,
    /// `|base64`.
    pub(super) coding: Coding,
    /// `|quoted`.
    pub(super) quotes: Quotes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// UTF-8 percent-encoded where it is not printable.
    Percent,
    /// The bytes of its UTF-8 in base64 (RFC 4648 §4).
    Base64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    None,
    /// A quoted-string (RFC 9110 §5.6.4).
    Around,
}

impl Default for Form {
    fn default() -> Self {
        Self { separator: ",".to_owned(), coding: Coding::Percent, quotes: Quotes::None }
    }
}

impl Form {
    pub(super) fn put(&self, found: &Found, out: &mut String) -> Result<(), Fault> {
        let value = match (self.coding, found) {
            (Coding::Percent, Found::Text(text)) if self.quotes == Quotes::None => encode_value(text),
            (Coding::Percent, Found::Text(text)) => encoded(text, |byte| (b' '..=b'~').contains(&byte) && byte != b'%'),
            (Coding::Percent, Found::List(items)) => self.joined(items),
            (Coding::Percent, Found::Verbatim(secret)) if secret.expose().bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
                secret.expose().to_owned()
            }
            (Coding::Percent, Found::Verbatim(_)) => {
                return Err(Fault::new(Reason::HeaderFileUnreadable, "a file holds what no header takes; write |base64, or another file"));
            }
            (Coding::Base64, Found::List(items)) => encode_standard(self.listed(items).as_bytes()),
            (Coding::Base64, found) => encode_standard(found.raw().as_bytes()),
        };
        match self.quotes {
            Quotes::None => out.push_str(&value),
            Quotes::Around => {
                out.push('"');
                for c in value.chars() {
                    if matches!(c, '"' | '\\') {
                        out.push('\\');
                    }
                    out.push(c);
                }
                out.push('"');
            }
        }
        Ok(())
    }

    fn joined(&self, items: &[String]) -> String {
        let mut out = String::new();
        for (number, item) in items.iter().enumerate() {
            if number > 0 {
                out.push_str(&self.separator);
            }
            if self.separator == "," {
                encode(item, Comma::Encoded, &mut out);
            } else {
                let (separator, last) = (self.separator.as_bytes(), item.len().saturating_sub(1));
                let mut at = 0;
                out.push_str(&encoded(item, |byte| {
                    let end = at == 0 || at == last;
                    at += 1;
                    let printable = if end { (b'!'..=b'~').contains(&byte) } else { (b' '..=b'~').contains(&byte) };
                    printable && byte != b'%' && !separator.contains(&byte)
                }));
            }
        }
        out
    }

    /// As text, in which only what would make two items of one is encoded.
    fn listed(&self, items: &[String]) -> String {
        let separator = self.separator.as_bytes();
        let items: Vec<String> = items
            .iter()
            .map(|item| {
                let mut out = item.replace('%', "%25");
                for byte in separator {
                    out = out.replace(char::from(*byte), &format!("%{byte:02X}"));
                }
                out
            })
            .collect();
        items.join(&self.separator)
    }
}

fn encoded(text: &str, mut plain: impl FnMut(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Printable ASCII stays; everything else, and `%`, is percent-encoded as UTF-8, so that a value survives every hop and nothing breaks a
/// line. Spaces at the ends are encoded too, since servers trim them.
#[must_use]
pub fn encode_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    encode(text, Comma::Stays, &mut out);
    out
}

/// What becomes of a `,`: in a list it would make two items of one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::header) enum Comma {
    Stays,
    Encoded,
}

pub(in crate::header) fn encode(text: &str, comma: Comma, out: &mut String) {
    // Most values need nothing done.
    if text.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'%' && byte != b',') {
        return out.push_str(text);
    }
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let inner_space = byte == b' ' && at != 0 && at != last;
        let plain = (b'!'..=b'~').contains(&byte) && byte != b'%' && (byte != b',' || comma == Comma::Stays);
        if inner_space || plain {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}
