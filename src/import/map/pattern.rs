//! Its patterns find something anywhere in a path; ours are anchored at both ends. What a pattern opens, in words.

use regex::Regex;

/// A pattern of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchored {
    /// For `path_regex`.
    pub regex: String,
    /// What it is for, in words.
    pub opens: String,
    /// Whether it had no beginning, so that it finds its text deep inside a path too.
    pub loose: bool,
    /// What every path that it finds begins with.
    pub literal: String,
}

/// Anchors a pattern so that it finds what it found before.
///
/// # Errors
/// When it is no regular expression.
pub fn anchor(pattern: &str) -> Result<Anchored, String> {
    if read_otherwise(pattern) {
        return Err(format!("{pattern:?} would be read otherwise here than there"));
    }
    let (flags, body) = flags(pattern);
    let alternatives: Vec<Piece<'_>> = alternatives(body).into_iter().map(Piece::read).collect();
    let regex = match alternatives.as_slice() {
        [one] => one.regex(),
        several => several.iter().map(Piece::regex).collect::<Vec<_>>().join("|"),
    };
    let regex = format!("{flags}{regex}");
    Regex::new(&regex).map_err(|_| format!("{pattern:?} is no regular expression that can be read here"))?;
    let loose = alternatives.iter().any(|piece| !piece.start);
    let literal = match alternatives.as_slice() {
        [one] if one.start && flags.is_empty() => literal(one.body).0,
        _ => String::new(),
    };
    let opens = alternatives.iter().map(Piece::opens).collect::<Vec<_>>().join("; ");
    Ok(Anchored { regex, opens, loose, literal })
}

struct Piece<'a> {
    body: &'a str,
    start: bool,
    end: bool,
}

impl<'a> Piece<'a> {
    fn read(text: &'a str) -> Self {
        let (body, start) = text.strip_prefix('^').map_or((text, false), |body| (body, true));
        let escaped = |body: &str| body.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        match body.strip_suffix('$').filter(|body| !escaped(body)) {
            Some(body) => Self { body, start, end: true },
            None => Self { body, start, end: false },
        }
    }

    fn regex(&self) -> String {
        let before = if self.start || self.body.starts_with(".*") { "" } else { ".*" };
        let after = if self.end || self.body.ends_with(".*") { "" } else { ".*" };
        format!("{before}{}{after}", self.body)
    }

    fn opens(&self) -> String {
        let (text, whole) = literal(self.body);
        match (self.start, self.end, whole) {
            (true, true, true) => format!("exactly {text}"),
            (true, false, true) if text.ends_with('/') => format!("every path that begins with {text}"),
            (true, false, true) => format!("every path that begins with {text} ({text}x too)"),
            (false, true, true) => format!("every path that ends in {text}"),
            (false, false, true) => format!("every path that holds {text} anywhere (/admin/{} too)", text.trim_start_matches('/')),
            (true, _, false) if !text.is_empty() => format!("paths under {text} that {} finds", self.body),
            (true, _, false) => format!("paths that {} finds", self.body),
            (false, _, false) => format!("every path in which {} finds something, anywhere", self.body),
        }
    }
}

/// `(?i)` and the like at the start.
fn flags(pattern: &str) -> (&str, &str) {
    let end = pattern.strip_prefix("(?").and_then(|rest| {
        let close = rest.find(')')?;
        rest.get(..close)?.bytes().all(|byte| matches!(byte, b'i' | b's' | b'm' | b'U' | b'-')).then_some(close + 3)
    });
    pattern.split_at(end.unwrap_or(0))
}

/// What Go takes by the letter and we do not: sets within a class (`&&`, `--`, `~~`, `[`), `]` at its start, `{` that counts nothing, `\<`, `\>`.
fn read_otherwise(pattern: &str) -> bool {
    let mut class = false;
    let mut letters = pattern.chars().peekable();
    while let Some(c) = letters.next() {
        let next = letters.peek().copied();
        match c {
            '\\' => {
                let escaped = letters.next();
                if matches!(escaped, Some('<' | '>')) {
                    return true;
                }
                // `\p{Greek}`, `\x{7f}`
                if matches!(escaped, Some('p' | 'P' | 'x')) && letters.peek() == Some(&'{') {
                    letters.by_ref().take_while(|c| *c != '}').for_each(drop);
                }
            }
            '[' if class => {
                if next != Some(':') {
                    return true;
                }
                letters.by_ref().take_while(|c| *c != ']').for_each(drop);
            }
            '[' => {
                letters.next_if_eq(&'^');
                if letters.peek() == Some(&']') {
                    return true;
                }
                class = true;
            }
            ']' => class = false,
            '&' | '-' | '~' if class && next == Some(c) => return true,
            '{' if !class && !next.is_some_and(|next| next.is_ascii_digit()) => return true,
            _ => {}
        }
    }
    false
}

/// Parts at `|` outside of brackets.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut depth, mut class, mut escaped, mut start) = (0_u32, false, false, 0);
    let mut parts = Vec::new();
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '(' if !class => depth += 1,
            ')' if !class => depth = depth.saturating_sub(1),
            '|' if !class && depth == 0 => {
                parts.extend(pattern.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(pattern.get(start..));
    parts
}

/// What a pattern says letter by letter from its start, and whether that is all of it.
fn literal(body: &str) -> (String, bool) {
    let mut text = String::new();
    let mut letters = body.chars().peekable();
    while let Some(c) = letters.next() {
        let letter = match c {
            '\\' => match letters.next_if(|next| !next.is_ascii_alphanumeric()) {
                Some(next) => next,
                None => return (text, false),
            },
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return (text, false),
            other => other,
        };
        if letters.peek().is_some_and(|next| matches!(next, '*' | '?' | '{' | '+')) {
            return (text, false);
        }
        text.push(letter);
    }
    (text, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_finds_here_what_it_found_there() {
        let paths = ["/health", "/healthz", "/admin/health", "/", "/a/b", "/static/x.js", "/api/v1/health", "/x.css", "/HEALTH"];
        for pattern in [
            "/health",
            "^/health",
            "^/health$",
            "health$",
            "^/a|^/static/",
            r"\.js$",
            r"^/api/v[0-9]+/.*$",
            ".*",
            "^/(a|static)/",
            r"\.(js|css)$",
            "(?i)^/health$",
            r"^/x\$|y",
        ] {
            let old = Regex::new(pattern).unwrap();
            let ours = Regex::new(&format!("^(?:{})$", anchor(pattern).unwrap().regex)).unwrap();
            for path in paths {
                assert_eq!(old.is_match(path), ours.is_match(path), "{pattern} as {ours} on {path}");
            }
        }
    }

    #[test]
    fn what_it_opens_is_said_in_words() {
        for (pattern, words, loose, prefix) in [
            ("^/health$", "exactly /health", false, "/health"),
            ("^/public/", "every path that begins with /public/", false, "/public/"),
            ("/health", "/admin/health", true, ""),
            (r"^/api/v[0-9]+/", "paths under /api/v", false, "/api/v"),
            ("^/abc*", "paths under /ab", false, "/ab"),
        ] {
            let anchored = anchor(pattern).unwrap();
            assert!(anchored.opens.contains(words), "{anchored:?}");
            assert_eq!((anchored.loose, anchored.literal.as_str()), (loose, prefix), "{pattern}");
        }
        assert!(anchor("(").is_err());
    }

    #[test]
    fn a_pattern_that_would_find_more_here_is_none() {
        for pattern in ["^/[^a&&b]", "^/[a-z--b]", "^/a{,2}", "^/x[]|]y$", r"^/\<admin", "^/[[a]b]", "^/a{b"] {
            assert!(anchor(pattern).is_err(), "{pattern}");
        }
        for pattern in ["^/[^a-z&b]", "^/a{1,2}", "^/[[:alpha:]-]+$", r"^/\{a\[", r"^/\p{L}\x{2f}", "^/[{]", "^/[a-]"] {
            assert!(anchor(pattern).is_ok(), "{pattern}");
        }
    }
}
