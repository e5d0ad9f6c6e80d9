//! The canonical path: one reading that is matched *and* forwarded (the rule that CVE-2026-40575 broke).
//!
//! Unreserved escapes are decoded and other escapes kept with upper-case digits (RFC 3986 §6.2.2), `//` is merged (unless [`Slashes::Kept`] says otherwise), dot segments are resolved
//! (RFC 3986 §5.2.4). What an upstream could read in another way is refused: see [`PathError`].

use std::fmt;

/// A path in its one reading; starts with `/`, holds neither query nor fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalPath {
    text: String,
    encoded_slash: bool,
    /// Whether it is [`plain`]; nothing that the text does not say.
    plain: bool,
}

/// `merge_slashes`: what becomes of empty segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slashes {
    /// `//` is `/`.
    Merged,
    /// They stay, for apps that tell them apart.
    Kept,
}

/// Why a path has more than one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It does not start with `/`.
    NotAbsolute,
    /// A control byte, raw or escaped.
    Control,
    /// `\`, raw or as `%5c`: some servers take it for `/`.
    Backslash,
    /// `#`, `?` or another byte that no path holds.
    Byte,
    /// `%` without two hexadecimal digits.
    Escape,
    /// `%25` followed by two hexadecimal digits: decoded twice by some servers.
    DoubleEscape,
    /// A dot segment written with escapes, in overlong UTF-8, or followed by `;`.
    DotSegment,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not start with /",
            Self::Control => "a control byte in the path",
            Self::Backslash => "a backslash in the path",
            Self::Byte => "a byte that no path holds",
            Self::Escape => "% without two hexadecimal digits",
            Self::DoubleEscape => "an escape of an escape (%25 and two hexadecimal digits)",
            Self::DotSegment => "a dot segment in disguise",
        })
    }
}

impl CanonicalPath {
    /// Reads a raw path. Escaped slashes (`%2f`, `%252f`) are kept and reported by [`CanonicalPath::has_encoded_slash`], since only the
    /// route knows whether it takes them.
    ///
    /// # Errors
    /// When the path has more than one reading.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        Self::read(raw, Slashes::Merged)
    }

    /// The same with empty segments as they came, or without (`merge_slashes`).
    ///
    /// # Errors
    /// When the path has more than one reading.
    pub fn read(raw: &str, slashes: Slashes) -> Result<Self, PathError> {
        if plain(raw) {
            return Ok(Self { text: raw.to_owned(), encoded_slash: false, plain: true });
        }
        Self::read_closely(raw, slashes)
    }

    /// Whether this path is plain and does not lie under `prefix`, whichever way it is read: told without reading it.
    #[must_use]
    pub fn is_elsewhere(raw: &str, prefix: &str) -> bool {
        plain(raw) && !raw.starts_with(prefix.trim_end_matches('/'))
    }

    fn read_closely(raw: &str, slashes: Slashes) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        let mut encoded_slash = false;
        let mut segments: Vec<String> = Vec::new();
        let mut slash_at_end = false;
        let mut pieces = raw.split('/').skip(1).peekable();
        while let Some(raw) = pieces.next() {
            let segment = Segment::read(raw)?;
            encoded_slash |= segment.encoded_slash;
            slash_at_end = matches!(segment.text.as_str(), "" | "." | "..");
            match segment.text.as_str() {
                "" if slashes == Slashes::Kept && pieces.peek().is_some() => segments.push(String::new()),
                "" | "." => {}
                ".." => drop(segments.pop()),
                _ => segments.push(segment.text),
            }
        }
        let mut text = String::with_capacity(raw.len());
        for segment in &segments {
            text.push('/');
            text.push_str(segment);
        }
        if slash_at_end || text.is_empty() {
            text.push('/');
        }
        Ok(Self { plain: plain(&text), text, encoded_slash })
    }

    /// The same place for whoever merges slashes, where there are any to merge.
    #[must_use]
    pub fn merged(&self) -> Option<Self> {
        if !self.plain && self.text.contains("//") { Self::parse(&self.text).ok() } else { None }
    }

    /// The same place for whoever takes `;` and what follows it in a segment for no part of its name, as servlet containers do, where there is any.
    #[must_use]
    pub fn without_parameters(&self) -> Option<Self> {
        if self.plain {
            return None;
        }
        let begins = |segment: &str| segment.find(';').into_iter().chain(segment.find("%3B")).min();
        begins(&self.text)?;
        let name = |segment| begins(segment).and_then(|at| str::get(segment, ..at)).unwrap_or(segment);
        Self::parse(&self.text.split('/').map(name).collect::<Vec<_>>().join("/")).ok()
    }

    /// The same place for whoever takes an escaped slash for a slash, where there is any.
    #[must_use]
    pub fn opened(&self) -> Option<Self> {
        if self.encoded_slash { Self::parse(&self.text.replace("%252F", "/").replace("%2F", "/")).ok() } else { None }
    }

    /// The path, starting with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it holds `%2F` or `%252F`, which only a route with `encoded_slash = "keep"` takes.
    #[must_use]
    pub const fn has_encoded_slash(&self) -> bool {
        self.encoded_slash
    }

    /// Whether it lies under `prefix` by whole segments: `/a` holds `/a` and `/a/b`, not `/ab`.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Option<&str> {
        let rest = self.text.strip_prefix(prefix.trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

/// Whether a path is its own one reading at the first glance: bytes that mean themselves, no segment that is empty but the last, and none that
/// begins with a dot. It then holds nothing that another reader could take in another way. Most paths are so.
fn plain(path: &str) -> bool {
    const MEANS_ITSELF: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "below 128")]
            {
                table[byte] = is_unreserved(byte as u8) || matches!(byte as u8, b'!' | b'$' | b'&'..=b',' | b'=' | b':' | b'@' | b'/');
            }
            byte += 1;
        }
        table
    };
    let mut before = b'a';
    path.starts_with('/')
        && path.bytes().all(|byte| {
            let splits = before == b'/' && matches!(byte, b'/' | b'.');
            before = byte;
            !splits && MEANS_ITSELF.get(usize::from(byte)).copied().unwrap_or(false)
        })
}

struct Segment {
    text: String,
    encoded_slash: bool,
}

impl Segment {
    fn read(raw: &str) -> Result<Self, PathError> {
        let mut text = String::with_capacity(raw.len());
        let mut encoded_slash = false;
        let mut escaped_dot = false;
        let bytes = raw.as_bytes();
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'%' => {
                    let value = hex_pair(rest).ok_or(PathError::Escape)?;
                    rest = rest.get(2..).unwrap_or_default();
                    match value {
                        0..=0x1f | 0x7f => return Err(PathError::Control),
                        b'\\' => return Err(PathError::Backslash),
                        b'%' => match hex_pair(rest) {
                            Some(b'/') => {
                                encoded_slash = true;
                                rest = rest.get(2..).unwrap_or_default();
                                text.push_str("%252F");
                            }
                            Some(_) => return Err(PathError::DoubleEscape),
                            // The digits may be escaped themselves (`%25%32%66`), and are plain once this path is written.
                            None if hex_pair(&plain_start(rest)).is_some() => return Err(PathError::DoubleEscape),
                            None => text.push_str("%25"),
                        },
                        b'/' => {
                            encoded_slash = true;
                            text.push_str("%2F");
                        }
                        unreserved if is_unreserved(unreserved) => {
                            escaped_dot |= unreserved == b'.';
                            text.push(char::from(unreserved));
                        }
                        other => push_escape(&mut text, other),
                    }
                }
                0..=0x1f | 0x7f => return Err(PathError::Control),
                b'\\' => return Err(PathError::Backslash),
                b'#' | b'?' | b' ' => return Err(PathError::Byte),
                0x80.. => push_escape(&mut text, byte),
                plain => text.push(char::from(plain)),
            }
        }
        let whole = Self { text, encoded_slash };
        whole.refuse_disguised_dots(escaped_dot)?;
        Ok(whole)
    }

    /// `..` may be resolved only where every server would: written as two plain dots that are the whole segment.
    fn refuse_disguised_dots(&self, escaped_dot: bool) -> Result<(), PathError> {
        if !self.text.contains(['.', '%']) {
            return Ok(());
        }
        let plain = self.text.replace("%F0%80%80%AE", ".").replace("%E0%80%AE", ".").replace("%C0%AE", ".");
        let overlong = plain != self.text;
        let slashes = plain.replace("%F0%80%80%AF", "/").replace("%E0%80%AF", "/").replace("%C0%AF", "/");
        let overlong = overlong || slashes != plain;
        let pieces = slashes.replace("%252F", "/").replace("%2F", "/");
        for piece in pieces.split('/') {
            let (name, parameter) = match piece.find(';').or_else(|| piece.find("%3B")) {
                Some(at) => (piece.get(..at).unwrap_or_default(), true),
                None => (piece, false),
            };
            // Some servers trim spaces at the end of a name.
            let trimmed = name.trim_end_matches("%20");
            let parameter = parameter || trimmed != name;
            if matches!(trimmed, "." | "..") && (escaped_dot || overlong || parameter || self.encoded_slash) {
                return Err(PathError::DotSegment);
            }
        }
        Ok(())
    }
}

/// The first two bytes, unreserved escapes decoded.
fn plain_start(mut rest: &[u8]) -> Vec<u8> {
    let mut start = Vec::with_capacity(2);
    while let (Some((&byte, after)), 0..2) = (rest.split_first(), start.len()) {
        let escaped = if byte == b'%' { hex_pair(after).filter(|byte| is_unreserved(*byte)) } else { None };
        start.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    start
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn push_escape(text: &mut String, byte: u8) {
    use fmt::Write as _;
    // Writing to a String cannot fail.
    let _ = write!(text, "%{byte:02X}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(raw: &str) -> Result<String, PathError> {
        CanonicalPath::parse(raw).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn one_reading() {
        for (raw, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b//", "/a/b/"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/../../x", "/x"),
            ("/%61%2D%7e", "/a-~"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/100%25", "/100%25"),
            ("/a;b=c", "/a;b=c"),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a%20b", "/a%20b"),
            ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
            ("/a%2fb", "/a%2Fb"),
            ("/a%252fb", "/a%252Fb"),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(expected), "{raw}");
        }
        assert!(CanonicalPath::parse("/a%2fb").unwrap().has_encoded_slash());
        assert!(CanonicalPath::parse("/a%252Fb").unwrap().has_encoded_slash());
        assert!(!CanonicalPath::parse("/a/b").unwrap().has_encoded_slash());
    }

    #[test]
    fn empty_segments_stay_where_they_are_to() {
        for (raw, kept, merged) in [
            ("//a///b//", "//a///b//", Some("/a/b/")),
            ("/a//../b", "/a/b", None),
            ("//../a", "/a", None),
            ("/a/./b", "/a/b", None),
            ("//", "//", Some("/")),
            ("/a/", "/a/", None),
            ("/", "/", None),
            ("/objects/https://x", "/objects/https://x", Some("/objects/https:/x")),
        ] {
            let path = CanonicalPath::read(raw, Slashes::Kept).unwrap();
            assert_eq!(path.as_str(), kept, "{raw}");
            assert_eq!(path.merged().map(|path| path.text).as_deref(), merged, "{raw}");
        }
        assert_eq!(CanonicalPath::read("/a//%2e%2e/b", Slashes::Kept), Err(PathError::DotSegment));
    }

    #[test]
    fn others_read_parameters_and_escaped_slashes_in_another_way() {
        for (raw, without_parameters, opened) in [
            ("/a;x=y/b", Some("/a/b"), None),
            ("/a%3bx/b;", Some("/a/b"), None),
            ("/;x/a", Some("/a"), None),
            ("/a/;x", Some("/a/"), None),
            ("/a%2fb%252f/c", None, Some("/a/b/c")),
            ("/a;x%2fb", Some("/a"), Some("/a;x/b")),
            ("/a/b", None, None),
        ] {
            let path = CanonicalPath::parse(raw).unwrap();
            assert_eq!(path.without_parameters().map(|path| path.text).as_deref(), without_parameters, "{raw}");
            assert_eq!(path.opened().map(|path| path.text).as_deref(), opened, "{raw}");
        }
    }

    #[test]
    fn two_readings_are_refused() {
        for (raw, error) in [
            ("", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("a/b", PathError::NotAbsolute),
            ("/a\\b", PathError::Backslash),
            ("/a%5cb", PathError::Backslash),
            ("/a%00", PathError::Control),
            ("/a%0d%0a", PathError::Control),
            ("/a\tb", PathError::Control),
            ("/%7f", PathError::Control),
            ("/%", PathError::Escape),
            ("/%g1", PathError::Escape),
            ("/%2", PathError::Escape),
            ("/%252e%252e/", PathError::DoubleEscape),
            ("/%2541", PathError::DoubleEscape),
            ("/%255c", PathError::DoubleEscape),
            ("/public/%25%32%66..%25%32%66admin", PathError::DoubleEscape),
            ("/public/%252%66..%252%46admin", PathError::DoubleEscape),
            ("/a%25%35c", PathError::DoubleEscape),
            ("/a/%2e%2e/b", PathError::DotSegment),
            ("/a/.%2E/b", PathError::DotSegment),
            ("/a/%2e", PathError::DotSegment),
            ("/a/..%20/b", PathError::DotSegment),
            ("/a/..%c0%afb", PathError::DotSegment),
            ("/a/..;/b", PathError::DotSegment),
            ("/a/..;x=y/b", PathError::DotSegment),
            ("/a/.;/b", PathError::DotSegment),
            ("/a/..%3b/b", PathError::DotSegment),
            ("/a/%c0%ae%c0%ae/b", PathError::DotSegment),
            ("/a/.%e0%80%ae/b", PathError::DotSegment),
            ("/a/%f0%80%80%ae/b", PathError::DotSegment),
            ("/public/..%2fadmin", PathError::DotSegment),
            ("/public%2f..%2fadmin", PathError::DotSegment),
            ("/public%2f%2e%2e%2fadmin", PathError::DotSegment),
            ("/public%252f..%252fadmin", PathError::DotSegment),
            ("/a#b", PathError::Byte),
            ("/a?b", PathError::Byte),
            ("/a b", PathError::Byte),
        ] {
            assert_eq!(canonical(raw), Err(error), "{raw}");
        }
    }

    #[test]
    fn under_compares_whole_segments() {
        let path = |raw| CanonicalPath::parse(raw).unwrap();
        assert_eq!(path("/oauth2/auth").under("/oauth2"), Some("/auth"));
        assert_eq!(path("/oauth2").under("/oauth2"), Some(""));
        assert_eq!(path("/oauth2x").under("/oauth2"), None);
        assert_eq!(path("/x").under("/"), Some("/x"));
    }

    proptest! {
        #[test]
        fn canonical_is_idempotent(raw in r"/([a-c/.%;2eEfF5cC0\\~]|%2[5fe]|%3[025]|%6[1-6]){0,24}") {
            if let Ok(once) = canonical(&raw) {
                prop_assert_eq!(canonical(&once), Ok(once.clone()));
                prop_assert!(!once.contains("//"));
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
                // No other reading is lost because it could not be read.
                let path = CanonicalPath::parse(&once).unwrap();
                prop_assert_eq!(path.without_parameters().is_some(), once.contains(';') || once.contains("%3B"));
                prop_assert_eq!(path.opened().is_some(), path.has_encoded_slash());
            }
        }

        #[test]
        fn what_is_plain_is_what_a_close_reading_makes_of_it(raw in r"(/([a-c/.%;,=~\\-]|%2[5fe]|%3b){0,12}|/[!-~]{0,8}|\PC*)") {
            for slashes in [Slashes::Merged, Slashes::Kept] {
                let closely = CanonicalPath::read_closely(&raw, slashes);
                prop_assert_eq!(CanonicalPath::read(&raw, slashes), closely.clone());
                if plain(&raw) {
                    let path = closely.unwrap();
                    prop_assert_eq!(path.as_str(), &raw);
                    prop_assert!(!path.encoded_slash && !raw.contains("//") && !raw.contains([';', '%']));
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused(raw in "\\PC*") {
            let _ = canonical(&raw);
        }
    }
}
