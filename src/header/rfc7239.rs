//! `Forwarded` (RFC 7239 §4): who a request was sent for, hop by hop.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap};

use super::forwarded::parse_hop;

/// The `for` of each element, from left to right over all lines. `None` where an element names no address: it has none, two, an obfuscated one
/// (§6.3) or `unknown` (§6.2). A line that cannot be read is one such element: where its commas are nobody can say.
pub(super) fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    for line in headers.get_all(FORWARDED) {
        match line.to_str().ok().and_then(elements) {
            Some(found) => hops.extend(found),
            None => hops.push(None),
        }
    }
    hops
}

/// The elements of one line, or nothing where it does not follow the grammar to its end.
fn elements(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut elements = Vec::new();
    let mut named: Vec<String> = Vec::new();
    let mut rest = line;
    loop {
        rest = spaced(rest);
        if !rest.starts_with([',', ';']) && !rest.is_empty() {
            let (name, after) = rest.split_once('=')?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return None;
            }
            let (value, after) = value(after)?;
            if name.eq_ignore_ascii_case("for") {
                named.push(value);
            }
            rest = spaced(after);
        }
        match rest.bytes().next() {
            Some(b';') => {}
            end @ (Some(b',') | None) => {
                elements.push(match named.as_slice() {
                    [one] => parse_hop(one),
                    _ => None,
                });
                named.clear();
                if end.is_none() {
                    return Some(elements);
                }
            }
            Some(_) => return None,
        }
        rest = rest.get(1..)?;
    }
}

fn spaced(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// A token or a quoted string (RFC 9110 §5.6.2, §5.6.4), and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
        return (end > 0).then(|| text.split_at(end)).map(|(token, rest)| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return quoted.get(at + 1..).map(|rest| (value, rest)),
            '\\' => value.push(characters.next()?.1),
            character => value.push(character),
        }
    }
    None
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
