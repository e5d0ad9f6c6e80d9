//! A request as plain facts, and the laws of its parts.
//!
//! `path` and `host` give the one reading that is matched *and* forwarded; `site` knows
//! our own hosts and their outside URLs; `return_to` says where a person may be sent after login; `parameter` takes one out of a query or a
//! form.

mod host;
pub mod parameter;
mod path;
mod return_to;
mod site;

use std::net::IpAddr;

use http::Method;
use http::header::{ACCEPT, HeaderName};

pub use host::{Host, LastHost};
pub use path::{CanonicalPath, PathError, Slashes};
pub use return_to::{AllowedOrigins, ReturnTo};
pub use site::Sites;

// As constants: a name that is given as text is read anew at each look-up.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// Everything a decision may know of a request. Proxying and forward-auth differ only in where these come from.
#[derive(Clone, Debug)]
pub struct RequestFacts {
    /// The method, as sent by the browser or program.
    pub method: Method,
    /// The scheme on the outside.
    pub scheme: Scheme,
    /// The host on the outside.
    pub host: Host,
    /// The path, in its one reading.
    pub path: CanonicalPath,
    /// The query without its `?`; never matched, never logged.
    pub query: Option<String>,
    /// Whom limits count: who connected, by the walk over trusted proxies, or the nearest to it that is known.
    pub address: IpAddr,
    /// Where the request really comes from, where that is known: what routes go by.
    pub known_address: Option<IpAddr>,
    /// A person's browser going somewhere, or a program.
    pub audience: Audience,
    /// `Origin`, where it is another one's and the request an upgrade or one that may change something.
    pub origin: Option<String>,
    /// Whether the request asks for an upgrade (RFC 9110 §7.8).
    pub upgrade: Upgrade,
    /// Whether the request is a CORS preflight (Fetch Standard, "CORS-preflight request").
    pub preflight: Preflight,
}

/// The outside scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// A browser navigating: it follows redirects and shows pages.
    Navigation,
    /// XHR, fetch, an API consumer: it reads statuses and JSON.
    Program,
}

/// Whether an upgrade is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// `Connection: upgrade`, or an extended CONNECT.
    Asked,
    /// An ordinary request.
    No,
}

/// Whether this is a CORS preflight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// `OPTIONS` with `Origin` and `Access-Control-Request-Method`.
    Yes,
    /// Anything else.
    No,
}

impl Audience {
    /// Told by `Sec-Fetch-Mode` / `Sec-Fetch-Dest` where the browser sends them, else by method and `Accept`; never by `User-Agent`.
    #[must_use]
    pub fn of(method: &Method, headers: &http::HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(mode) = text(&SEC_FETCH_MODE) {
            let document = text(&SEC_FETCH_DEST).is_none_or(|dest| matches!(dest, "document" | "iframe" | "frame"));
            return if mode == "navigate" && document { Self::Navigation } else { Self::Program };
        }
        if text(&X_REQUESTED_WITH).is_some_and(|by| by.eq_ignore_ascii_case("xmlhttprequest")) {
            return Self::Program;
        }
        let html = text(&ACCEPT).is_some_and(|accept| {
            accept.split(',').filter_map(|range| range.split(';').next()).any(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
        });
        let reads = method == Method::GET || method == Method::HEAD || method == Method::POST;
        if reads && html { Self::Navigation } else { Self::Program }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_navigation_is_told_by_fetch_metadata_before_accept() {
        let get = Method::GET;
        for (pairs, expected) in [
            (&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")][..], Audience::Navigation),
            (&[("sec-fetch-mode", "cors"), ("accept", "text/html")], Audience::Program),
            (&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "image")], Audience::Program),
            (&[("accept", "text/html,application/xhtml+xml;q=0.9")], Audience::Navigation),
            (&[("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")], Audience::Program),
            (&[("accept", "*/*")], Audience::Program),
            (&[("accept", "application/json")], Audience::Program),
            (&[("user-agent", "Mozilla/5.0")], Audience::Program),
            (&[], Audience::Program),
        ] {
            assert_eq!(Audience::of(&get, &headers(pairs)), expected, "{pairs:?}");
        }
        assert_eq!(Audience::of(&Method::PUT, &headers(&[("accept", "text/html")])), Audience::Program);
    }
}
