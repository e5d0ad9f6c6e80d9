//! Where a person goes after login: parsed as a browser would, compared by origin, and emitted as the re-serialised absolute URL.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::{Origin, Url, form_urlencoded};

use super::{CanonicalPath, Sites};

/// The one endpoint of ours where a login may lead: a page that closes its window.
const DONE: &str = "/done";

/// A place that was checked against [`AllowedOrigins`]: always an absolute `http` or `https` URL in the parser's own spelling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReturnTo(String);

impl ReturnTo {
    /// The absolute URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parsed again, for its parts.
    #[must_use]
    pub fn url(&self) -> Option<Url> {
        Url::parse(&self.0).ok()
    }

    /// The same place with `state` added to its query: an app's own parameter, given back to it. What stands in the query already stays to the
    /// last byte, a `state` of its own too; the very same one is not added twice.
    #[must_use]
    pub fn with_state(&self, state: &str) -> Self {
        let Some(mut url) = self.url() else { return self.clone() };
        if url.query_pairs().any(|(name, value)| name == "state" && value == state) {
            return self.clone();
        }
        // Spaces as %20: some apps undo percent signs and leave a `+` as it is.
        let value = form_urlencoded::byte_serialize(state.as_bytes()).collect::<String>().replace('+', "%20");
        let query = match url.query() {
            Some(query) if !query.is_empty() => format!("{query}&state={value}"),
            _ => format!("state={value}"),
        };
        url.set_query(Some(&query));
        Self(url.into())
    }
}

impl fmt::Display for ReturnTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The origins a person may be sent to: the gateway's own hosts and `redirect_origins`.
#[derive(Clone, Debug)]
pub struct AllowedOrigins {
    sites: Arc<Sites>,
    others: Vec<Origin>,
}

impl AllowedOrigins {
    /// Our own sites, and URLs of which only the origin counts.
    pub fn new<'a>(sites: Arc<Sites>, redirect_origins: impl IntoIterator<Item = &'a Url>) -> Self {
        Self { sites, others: redirect_origins.into_iter().map(Url::origin).collect() }
    }

    /// Whether `url` lies at one of them.
    #[must_use]
    pub fn contains(&self, url: &Url) -> bool {
        self.sites.own(url) || self.others.contains(&url.origin())
    }

    /// Checks `raw` as it came from a stranger. `base` is the gateway's own URL on this host; what lies under `prefix` on an own host becomes
    /// `/`, so that nobody is sent back into the login itself; but for the page that closes its window. `None`: refused.
    #[must_use]
    pub fn check(&self, raw: &str, base: &Url, prefix: &str) -> Option<ReturnTo> {
        // A browser would skip or turn some of these bytes (WHATWG URL §4.4); whoever sends them raw means harm.
        if raw.is_empty() || raw.len() > 8192 || raw.bytes().any(|byte| byte <= b' ' || byte == b'\\' || byte == 0x7f) {
            return None;
        }
        let lower = raw.get(..8).unwrap_or(raw).to_ascii_lowercase();
        let absolute = lower.starts_with("https://") || lower.starts_with("http://");
        let rooted = raw.starts_with('/') && !raw.starts_with("//");
        if !absolute && !rooted {
            return None;
        }
        let mut url = base.join(raw).ok()?;
        if !url.username().is_empty() || url.password().is_some() || !self.contains(&url) {
            return None;
        }
        // A path that the gateway itself would refuse is no place to send anybody.
        let path = CanonicalPath::parse(url.path()).ok()?;
        if self.sites.own(&url) && path.under(prefix).is_some_and(|endpoint| endpoint != DONE) {
            url.set_path("/");
            url.set_query(None);
            url.set_fragment(None);
        }
        Some(ReturnTo(url.into()))
    }

    /// The front page of `base`.
    #[must_use]
    pub fn home(base: &Url) -> ReturnTo {
        let mut url = base.clone();
        url.set_path("/");
        url.set_query(None);
        url.set_fragment(None);
        ReturnTo(url.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowed() -> (AllowedOrigins, Url) {
        let base = Url::parse("https://own.test/").unwrap();
        let other = Url::parse("https://spa.test:8443").unwrap();
        let sites = Arc::new(Sites::new(vec![base.clone()], &[], &[], None).unwrap());
        (AllowedOrigins::new(sites, [&other]), base)
    }

    #[test]
    fn own_places_are_kept_and_made_absolute() {
        let (origins, base) = allowed();
        for (raw, expected) in [
            ("/", "https://own.test/"),
            ("/app?x=1#frag", "https://own.test/app?x=1#frag"),
            ("/app?error_description=https://x", "https://own.test/app?error_description=https://x"),
            ("https://own.test/a b".trim_end_matches(" b"), "https://own.test/a"),
            ("https://OWN.test:443/a", "https://own.test/a"),
            ("https://spa.test:8443/x", "https://spa.test:8443/x"),
            ("/oauth2/start?rd=/x", "https://own.test/"),
            ("/oauth2", "https://own.test/"),
            ("/oauth2/done", "https://own.test/oauth2/done"),
            ("/oauth2/done/x", "https://own.test/"),
            ("/a/../oauth2/sign_out", "https://own.test/"),
            ("/oauth2x", "https://own.test/oauth2x"),
            ("/a/..//evil.test", "https://own.test//evil.test"),
        ] {
            assert_eq!(origins.check(raw, &base, "/oauth2").as_ref().map(ReturnTo::as_str), Some(expected), "{raw}");
        }
    }

    #[test]
    fn foreign_places_are_refused() {
        let (origins, base) = allowed();
        for raw in [
            "",
            "//evil.test",
            "/\\evil.test",
            "/%09/evil.test",
            "/%0d%0a/evil.test",
            "/a%2f..%2fevil",
            "\\\\evil.test",
            "/\t/evil.test",
            "/\r\n/evil.test",
            "/./\\evil.test",
            "///evil.test",
            "https:evil.test",
            "https:/evil.test",
            "http:///evil.test",
            "https:\\\\evil.test",
            "javascript:alert(1)",
            "JAVASCRIPT:alert(1)",
            "data:text/html,x",
            "https://own.test@evil.test",
            "https://user@own.test/",
            "https://:pw@own.test/",
            "https://own.test.evil.test",
            "https://badown.test",
            "https://own%2eevil.test",
            "//evil.test%2f..",
            "http://own.test/",
            "https://own.test:8443/",
            "https://spa.test/",
            "https://evil.test/https://own.test",
            "ftp://own.test/",
            "own.test",
            "?x",
            "#x",
            " /x",
            "/x ",
            "https://own.test\u{3002}evil.test/",
            "https://\u{ff0f}evil.test/",
        ] {
            assert_eq!(origins.check(raw, &base, "/oauth2"), None, "{raw}");
        }
    }

    #[test]
    fn the_apps_state_goes_back_beside_its_own_query() {
        let (origins, base) = allowed();
        for (place, state, expected) in [
            ("/authorize/continue", "xyz", "/authorize/continue?state=xyz"),
            ("/continue?a=1", "x&y", "/continue?a=1&state=x%26y"),
            ("/continue?", "x", "/continue?state=x"),
            ("/continue?a=b%20c+d&e=%2F/", "x", "/continue?a=b%20c+d&e=%2F/&state=x"),
            ("/continue#part", "x", "/continue?state=x#part"),
            ("/continue?a=1#part?b=2", "x", "/continue?a=1&state=x#part?b=2"),
            // The place has a `state` of its own: it stays, and ours comes after it.
            ("/continue?state=own", "x", "/continue?state=own&state=x"),
            ("/continue?state=x&a", "x", "/continue?state=x&a"),
            ("/continue", "", "/continue?state="),
            ("/continue", "a b+c%20\u{e4}=/?#\"<", "/continue?state=a%20b%2Bc%2520%C3%A4%3D%2F%3F%23%22%3C"),
        ] {
            let url = origins.check(place, &base, "/oauth2").unwrap().with_state(state);
            assert_eq!(url.as_str(), format!("https://own.test{expected}"), "{place} {state}");
        }
    }

    proptest! {
        #[test]
        fn never_leaves_the_allowed_origins(raw in r"[/\\:.@%#?a-z0-9\x00-\x20]{0,12}(https?|//|/\\)?[/\\:@.]{0,4}(evil|own)\.test[/\\@:#?%a-z.]{0,12}") {
            let (origins, base) = allowed();
            if let Some(place) = origins.check(&raw, &base, "/oauth2") {
                let again = Url::parse(place.as_str()).unwrap();
                prop_assert!(origins.contains(&again));
                prop_assert_eq!(again.as_str(), place.as_str());
                prop_assert!(matches!(again.host_str(), Some("own.test" | "spa.test")));
            }
        }
    }
}
