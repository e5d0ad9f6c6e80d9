//! Which hosts and paths a route is for.

use std::fmt;

use regex::Regex;

use crate::request::{CanonicalPath, Host};

/// `host` of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Any host that the config names.
    Any,
    /// This one, in lower case.
    Exact(String),
    /// `*.example.com`: every host that ends in this suffix (with its leading dot), at any depth.
    Wildcard(String),
}

/// `path` or `path_regex` of a route.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// Whole segments from the start, without a trailing slash; empty: all.
    Prefix(String),
    /// The whole path, anchored at both ends.
    Regex(Regex),
}

/// What is wrong with a pattern, with what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError(pub String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HostPattern {
    /// Reads `app.example.com` or `*.example.com`.
    ///
    /// # Errors
    /// For anything that is no host name, has a port, or a `*` elsewhere than alone in the first label.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let wrong = || {
            PatternError(format!(
                "expected a host name such as \"app.example.com\" or \"*.example.com\", without scheme or port; found {text:?}"
            ))
        };
        let (name, wildcard) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let host = Host::parse(name).filter(|host| host.port().is_none()).ok_or_else(wrong)?;
        Ok(if wildcard { Self::Wildcard(format!(".{}", host.name())) } else { Self::Exact(host.name().to_owned()) })
    }

    /// Whether a request to `host` belongs here.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => name == host.name(),
            Self::Wildcard(suffix) => host.name().len() > suffix.len() && host.name().ends_with(suffix.as_str()),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any host"),
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl PathPattern {
    /// Reads `path`.
    ///
    /// # Errors
    /// When it is not in the canonical spelling that requests are matched in: such a pattern would never match, or match by surprise.
    pub fn prefix(text: &str) -> Result<Self, PatternError> {
        let path = CanonicalPath::parse(text).map_err(|error| PatternError(format!("expected a path such as \"/orders/\": {error}")))?;
        if path.as_str() != text {
            return Err(PatternError(format!("expected the canonical spelling {:?}, in which requests are matched", path.as_str())));
        }
        Ok(Self::Prefix(text.trim_end_matches('/').to_owned()))
    }

    /// Reads `path_regex`; anchored at both ends whether it says so or not.
    ///
    /// # Errors
    /// When it is no regular expression, or too large a one.
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        // Alone first: "a)|(?:b" would be one inside the brackets, and anchored at neither end.
        Regex::new(text).map_err(|error| PatternError(format!("expected a regular expression: {error}")))?;
        regex::RegexBuilder::new(&format!("^(?:{text})$"))
            .size_limit(1 << 20)
            .build()
            .map(Self::Regex)
            .map_err(|error| PatternError(format!("expected a regular expression: {error}")))
    }

    /// Whether a path belongs here.
    #[must_use]
    pub fn matches(&self, path: &CanonicalPath) -> bool {
        match self {
            Self::Prefix(prefix) => path.under(prefix).is_some(),
            Self::Regex(regex) => regex.is_match(path.as_str()),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => write!(f, "{prefix}/"),
            Self::Regex(regex) => write!(f, "~ {}", regex.as_str()),
        }
    }
}
