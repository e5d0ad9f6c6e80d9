//! Another path behind: `strip_prefix` and `rewrite`. What was decided about stays the path that was asked for; what comes of it has to be
//! one that has a single reading as well.

use std::borrow::Cow;
use std::fmt;

use regex::Regex;

use super::{EncodedSlash, PathPattern};
use crate::request::CanonicalPath;

/// What becomes of a path on its way to the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRule {
    /// Nothing.
    #[default]
    AsItIs,
    /// What it begins with is replaced; both without a slash at the end.
    Prefix {
        /// What is taken off: every path of the route begins with it, by whole segments.
        outside: String,
        /// What is put there instead; empty: nothing.
        inside: String,
    },
    /// It is made anew of the captures of `path_regex`.
    Captures(Rewrite),
}

/// `rewrite` beside `path_regex`: text, and `$1` or `${name}` for what the groups captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

/// A path as the upstream sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved<'a> {
    /// The path.
    pub path: Cow<'a, str>,
    /// How places of the upstream are places of ours; `None`: they are not.
    pub places: Option<Places<'a>>,
}

/// Where the upstream's paths begin, and where they do for browsers; both without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places<'a> {
    /// For browsers.
    pub outside: Cow<'a, str>,
    /// For the upstream.
    pub inside: Cow<'a, str>,
}

/// That what came of a path has more than one reading, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsteady(String);

impl fmt::Display for Unsteady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PathRule {
    /// The path of a request that `pattern` matched, as the upstream is to see it.
    ///
    /// # Errors
    /// When it is not in the one spelling that paths are matched in, or holds an escaped slash that the route does not take.
    pub fn apply<'a>(&'a self, pattern: &PathPattern, path: &'a CanonicalPath, slashes: EncodedSlash) -> Result<Moved<'a>, Unsteady> {
        let original = path.as_str();
        match self {
            Self::AsItIs => {
                let places = Places { outside: Cow::Borrowed(""), inside: Cow::Borrowed("") };
                Ok(Moved { path: Cow::Borrowed(original), places: Some(places) })
            }
            Self::Prefix { outside, inside } => {
                let rest = path.under(outside).ok_or_else(|| Unsteady("the path does not begin with what is taken off".to_owned()))?;
                let made = match (inside.as_str(), rest) {
                    ("", "") => Cow::Borrowed("/"),
                    ("", rest) => Cow::Borrowed(rest),
                    (inside, rest) => Cow::Owned(format!("{inside}{rest}")),
                };
                let places = Places { outside: Cow::Borrowed(outside), inside: Cow::Borrowed(inside) };
                Ok(Moved { path: steady(made, slashes)?, places: Some(places) })
            }
            Self::Captures(rewrite) => {
                let made =
                    rewrite.made_of(pattern, original).ok_or_else(|| Unsteady("the path was matched by no expression".to_owned()))?;
                let places = common_end(original, &made)
                    .map(|(outside, inside)| Places { outside: Cow::Owned(outside.to_owned()), inside: Cow::Owned(inside.to_owned()) });
                Ok(Moved { path: steady(Cow::Owned(made), slashes)?, places })
            }
        }
    }

    /// What every path of the route begins with for the upstream, without a slash at its end: empty where all of the upstream may be reached.
    /// `None`: nothing is known, or the paths are no prefix's but single ones.
    #[must_use]
    pub fn reaches<'a>(&'a self, pattern: &'a PathPattern) -> Option<Cow<'a, str>> {
        match (self, pattern) {
            (Self::AsItIs, PathPattern::Prefix(prefix)) => Some(Cow::Borrowed(prefix)),
            // Taking off less than the whole route's prefix leaves the rest of it in front.
            (Self::Prefix { outside, inside }, PathPattern::Prefix(prefix)) => {
                prefix.strip_prefix(outside.as_str()).map(|rest| Cow::Owned(format!("{inside}{rest}")))
            }
            (Self::Captures(Rewrite(pieces)), _) => match pieces.as_slice() {
                [Piece::Text(text), Piece::Group(_), ..] => text.strip_suffix('/').map(Cow::Borrowed),
                _ => None,
            },
            (Self::AsItIs | Self::Prefix { .. }, PathPattern::Regex(_)) => None,
        }
    }
}

fn steady(made: Cow<'_, str>, slashes: EncodedSlash) -> Result<Cow<'_, str>, Unsteady> {
    let read = CanonicalPath::parse(&made).map_err(|error| Unsteady(format!("what came of the path is not clear: {error}")))?;
    if read.as_str() != made {
        return Err(Unsteady("what came of the path holds //, a dot segment, or an escape that needs none".to_owned()));
    }
    if read.has_encoded_slash() && slashes == EncodedSlash::Refuse {
        return Err(Unsteady("what came of the path holds an escaped slash".to_owned()));
    }
    Ok(made)
}

/// What stands before the longest end that both have in common and that begins with a slash.
fn common_end<'a>(original: &'a str, made: &'a str) -> Option<(&'a str, &'a str)> {
    let same = original.bytes().rev().zip(made.bytes().rev()).take_while(|(left, right)| left == right).count();
    let end = original.get(original.len() - same..)?;
    let end = end.get(end.find('/')?..)?;
    let (outside, inside) = (original.strip_suffix(end)?, made.strip_suffix(end)?);
    // Kept slashes at the start name a host to browsers: an app that puts such a prefix before its links would lead there.
    (!outside.starts_with("//")).then_some((outside, inside))
}

impl Rewrite {
    /// Reads it for this expression.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub fn parse(text: &str, regex: &Regex) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("expected a path such as \"/v1/$1\"; found {text:?}"));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let (name, after) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or("expected a closing } in the path")?,
                None => after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())),
            };
            pieces.push(Piece::Group(group(name, regex)?));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let rewrite = Self(pieces);
        // With something plain in place of every group.
        let plain: String = rewrite.0.iter().map(|piece| if let Piece::Text(text) = piece { text } else { "x" }).collect();
        let read = CanonicalPath::parse(&plain).map_err(|error| format!("expected a path such as \"/v1/$1\": {error}"))?;
        if read.as_str() != plain || read.has_encoded_slash() {
            return Err("expected a path such as \"/v1/$1\" without //, dot segments and escapes of plain letters or slashes".to_owned());
        }
        Ok(rewrite)
    }

    fn made_of(&self, pattern: &PathPattern, path: &str) -> Option<String> {
        let PathPattern::Regex(regex) = pattern else { return None };
        let captures = regex.captures(path)?;
        let mut made = String::with_capacity(path.len());
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => made.push_str(text),
                Piece::Group(group) => made.push_str(captures.get(*group).map_or("", |found| found.as_str())),
            }
        }
        Some(made)
    }
}

fn group(name: &str, regex: &Regex) -> Result<usize, String> {
    let groups = regex.captures_len() - 1;
    match name.parse::<usize>() {
        Ok(number) if (1..=groups).contains(&number) => Ok(number),
        Ok(number) => {
            Err(format!("names group ${number}, and path_regex has {}", if groups == 0 { "none".to_owned() } else { format!("{groups}") }))
        }
        Err(_) if name.is_empty() => Err("expected the number or name of a group after $, such as $1 or ${name}".to_owned()),
        Err(_) => {
            let found = regex.capture_names().position(|known| known == Some(name));
            found.ok_or_else(|| format!("names group {name:?}, and path_regex has none of that name"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(rule: &PathRule, pattern: &PathPattern, path: &str, slashes: EncodedSlash) -> Result<String, Unsteady> {
        let path = CanonicalPath::parse(path).unwrap();
        rule.apply(pattern, &path, slashes).map(|moved| {
            let places = moved.places.map_or_else(|| "nowhere".to_owned(), |places| format!("{}<{}", places.outside, places.inside));
            format!("{} {places}", moved.path)
        })
    }

    #[test]
    fn a_prefix_goes_by_whole_segments_and_the_rest_stays_as_it_is() {
        let strip = |outside: &str, inside: &str| PathRule::Prefix { outside: outside.to_owned(), inside: inside.to_owned() };
        let pattern = PathPattern::prefix("/apps/wiki/").unwrap();
        for (rule, path, expected) in [
            (strip("/apps/wiki", ""), "/apps/wiki", "/ /apps/wiki<"),
            (strip("/apps/wiki", ""), "/apps/wiki/", "/ /apps/wiki<"),
            (strip("/apps/wiki", ""), "/apps/wiki/a/%20b/", "/a/%20b/ /apps/wiki<"),
            (strip("/apps", ""), "/apps/wiki/a", "/wiki/a /apps<"),
            (strip("/apps/wiki", "/v1"), "/apps/wiki", "/v1 /apps/wiki</v1"),
            (strip("/apps/wiki", "/v1"), "/apps/wiki/", "/v1/ /apps/wiki</v1"),
            (strip("", "/t"), "/apps/wiki/x", "/t/apps/wiki/x </t"),
        ] {
            assert_eq!(moved(&rule, &pattern, path, EncodedSlash::Refuse).as_deref(), Ok(expected), "{path}");
        }
        assert!(moved(&strip("/apps/wiki", ""), &pattern, "/apps/wikix", EncodedSlash::Refuse).is_err());
    }

    #[test]
    fn captures_make_a_path_that_has_one_reading_or_none_at_all() {
        for (regex, rewrite, path, expected) in [
            ("/app/(.*)", "/$1", "/app/a/b", Some("/a/b /app<")),
            ("/app/(.*)", "/$1", "/app/", Some("/ /app<")),
            ("/app/(.*)", "/$1", "/app/app/x", Some("/app/x /app<")),
            ("/api/(.*)", "/v1/$1", "/api/x", Some("/v1/x /api</v1")),
            ("/o/([0-9]+)/status", "/status/$1", "/o/12/status", Some("/status/12 nowhere")),
            ("/(?P<who>[a-z]+)/(.*)", "/$2/of/${who}", "/ann/x", Some("/x/of/ann nowhere")),
            ("/a(/b)?/c", "/x$1", "/a/c", Some("/x nowhere")),
            ("/files(.*)", "/$1", "/files/x", None),
            ("/x-(.*)", "/$1", "/x-../admin", None),
            ("/x-(.*)", "/$1", "/x-./admin", None),
            ("/a(.*)", "/.$1", "/a./admin", None),
            ("/(.*)C(.*)", "/$1F$2", "/a%2Cb", None),
            ("/(.*)C(.*)", "/$1E$2", "/a%2C", None),
            ("/(.*)C(.*)", "/$1E${2}", "/..a%2C", None),
            ("/(.*)C(.*)", "/$1", "/a%2Cb", None),
            ("/(.*)2(.*)", "/$1$2", "/a%2C", None),
        ] {
            let pattern = PathPattern::regex(regex).unwrap();
            let PathPattern::Regex(compiled) = &pattern else { unreachable!() };
            let rule = PathRule::Captures(Rewrite::parse(rewrite, compiled).unwrap());
            let found = moved(&rule, &pattern, path, EncodedSlash::Refuse).ok();
            assert_eq!(found.as_deref(), expected, "{regex} {rewrite} {path}");
        }
        let pattern = PathPattern::regex("/(.*)C(.*)").unwrap();
        let PathPattern::Regex(compiled) = &pattern else { unreachable!() };
        let rule = PathRule::Captures(Rewrite::parse("/$1F$2", compiled).unwrap());
        assert!(moved(&rule, &pattern, "/a%2Cb", EncodedSlash::Keep).is_ok());
        assert!(moved(&rule, &pattern, "/..%2Cb", EncodedSlash::Keep).is_err(), "a dot segment in disguise");
    }

    #[test]
    fn a_rewrite_names_groups_that_are_there() {
        let regex = Regex::new("^(?:/(?P<a>x)/(y))$").unwrap();
        for sound in ["/$1", "/${1}0/$2", "/${a}", "/fixed"] {
            assert!(Rewrite::parse(sound, &regex).is_ok(), "{sound}");
        }
        for (text, told) in [
            ("v1/$1", "expected a path"),
            ("/$3", "names group $3, and path_regex has 2"),
            ("/$0", "names group $0"),
            ("/$", "after $"),
            ("/$a", "after $"),
            ("/${b}", "none of that name"),
            ("/${a", "closing }"),
            ("//$1", "without //"),
            ("/../$1", "without //"),
            ("/%2f$1", "without //"),
            ("/%2$1", "two hexadecimal"),
            ("/a?b=$1", "no path holds"),
        ] {
            let wrong = Rewrite::parse(text, &regex).unwrap_err();
            assert!(wrong.contains(told), "{text}: {wrong}");
        }
    }

    #[test]
    fn what_names_a_host_is_told_to_nobody_as_a_prefix() {
        let pattern = PathPattern::regex("(?:/.*)?/app(/.*)").unwrap();
        let PathPattern::Regex(regex) = &pattern else { unreachable!() };
        let rule = PathRule::Captures(Rewrite::parse("/in$1", regex).unwrap());
        for (path, expected) in [("/x/app/y", Some("/x/app")), ("//evil.test/app/y", None)] {
            let path = CanonicalPath::read(path, crate::request::Slashes::Kept).unwrap();
            let moved = rule.apply(&pattern, &path, EncodedSlash::Refuse).unwrap();
            assert_eq!((moved.path.as_ref(), moved.places.map(|places| places.outside.into_owned()).as_deref()), ("/in/y", expected));
        }
    }

    #[test]
    fn what_a_route_reaches_of_its_upstream() {
        let prefix = PathPattern::prefix("/p/q/").unwrap();
        let rule = |outside: &str, inside: &str| PathRule::Prefix { outside: outside.to_owned(), inside: inside.to_owned() };
        for (rule, reached) in
            [(rule("/p/q", ""), ""), (rule("/p", ""), "/q"), (rule("/p/q", "/static"), "/static"), (PathRule::AsItIs, "/p/q")]
        {
            assert_eq!(rule.reaches(&prefix).as_deref(), Some(reached), "{rule:?}");
        }
        let pattern = PathPattern::regex("/p/(.*)").unwrap();
        let PathPattern::Regex(regex) = &pattern else { unreachable!() };
        let rewrite = |text: &str| PathRule::Captures(Rewrite::parse(text, regex).unwrap());
        for (text, reached) in [("/$1", Some("")), ("/static/$1", Some("/static")), ("/static-$1", None), ("/one", None)] {
            assert_eq!(rewrite(text).reaches(&pattern).as_deref(), reached, "{text}");
        }
        assert_eq!(PathRule::AsItIs.reaches(&pattern), None);
    }
}
