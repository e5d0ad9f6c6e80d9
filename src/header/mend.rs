//! What an upstream says of its own place, in a place that it does not know: `Location`, `Content-Location`, `Refresh`, and the `Path` and
//! `Domain` of its cookies.
//!
//! Only what points at the upstream itself is touched. A path that begins with ours already stays: the app reads `X-Forwarded-Prefix`.

use http::header::{CONTENT_LOCATION, HeaderMap, HeaderName, HeaderValue, LOCATION, REFRESH, SET_COOKIE};

use crate::request::{Host, Scheme};

/// Where the upstream believes to be, and where browsers see it.
#[derive(Clone, Copy, Debug)]
pub struct Mending<'a> {
    /// What its paths begin with for browsers; without a slash at the end.
    pub outside: &'a str,
    /// What they begin with for itself.
    pub inside: &'a str,
    /// The outside scheme.
    pub scheme: Scheme,
    /// The outside host.
    pub host: &'a Host,
    /// Names by which it may call itself, without a port where that is a scheme's own.
    pub names: &'a [Host],
    /// Where the gateway's own endpoints lie: an app may lead there.
    pub own: &'a str,
}

impl Mending<'_> {
    /// Mends an answer's headers.
    pub fn mend(&self, headers: &mut HeaderMap) {
        self.each(headers, &LOCATION, |value| self.reference(value));
        self.each(headers, &CONTENT_LOCATION, |value| self.reference(value));
        self.each(headers, &REFRESH, |value| self.refresh(value));
        self.each(headers, &SET_COOKIE, |value| self.cookie(value));
    }

    /// Replaces those values of a name that `mended` gives another form.
    fn each(&self, headers: &mut HeaderMap, name: &HeaderName, mended: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        let Some(first) = headers.get(name) else { return };
        let single = headers.get_all(name).iter().nth(1).is_none();
        if single && mended(first.as_bytes()).is_none() {
            return;
        }
        let new = |value: &HeaderValue| mended(value.as_bytes()).and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        let values: Vec<HeaderValue> = headers.get_all(name).iter().map(|value| new(value).unwrap_or_else(|| value.clone())).collect();
        headers.remove(name);
        for value in values {
            headers.append(name, value);
        }
    }

    /// A URI reference (RFC 3986 §4.1). `None`: it stays.
    fn reference(&self, value: &[u8]) -> Option<Vec<u8>> {
        let (scheme, rest) = match value {
            [b'/', b'/', rest @ ..] => (self.scheme, rest),
            [b'/', ..] => return self.path(value),
            _ => [(Scheme::Http, &b"http://"[..]), (Scheme::Https, b"https://")]
                .into_iter()
                .find_map(|(scheme, start)| Some((scheme, after(value, start)?)))?,
        };
        let (authority, place) = rest.split_at(rest.iter().position(|byte| b"/?#\\".contains(byte)).unwrap_or(rest.len()));
        let named = Host::parse(std::str::from_utf8(authority).ok()?)?;
        if !self.is_itself(&named, scheme) {
            return None;
        }
        let path = match place.first() {
            Some(b'/') => self.path(place).unwrap_or_else(|| place.to_vec()),
            Some(b'\\') => return None,
            // No path is the root (RFC 9110 §4.2.3).
            _ => self.path(&[b"/", place].concat()).unwrap_or_else(|| place.to_vec()),
        };
        let mut whole = format!("{}://{}", self.scheme.as_str(), self.host).into_bytes();
        whole.extend_from_slice(&path);
        Some(whole)
    }

    fn is_itself(&self, named: &Host, scheme: Scheme) -> bool {
        let port = |host: &Host, scheme: Scheme| host.port().filter(|port| *port != default_port(scheme));
        let same = |known: &Host, of: Scheme| known.name() == named.name() && port(known, of) == port(named, scheme);
        same(self.host, self.scheme) || self.names.iter().any(|known| same(known, scheme))
    }

    /// A path of the upstream's, with what may follow it, as browsers know it. `None`: it stays as it is.
    fn path(&self, value: &[u8]) -> Option<Vec<u8>> {
        let path = value.split(|byte| b"?#".contains(byte)).next().unwrap_or_default();
        // Browsers leave tabs out and take `\` for `/`: nobody shall be sent elsewhere by what is put together here.
        if path.iter().any(|byte| matches!(byte, b'\t' | b'\\')) || below(path, self.own.as_bytes()) {
            return None;
        }
        let known_outside = !self.outside.is_empty() && self.inside.is_empty() && below(path, self.outside.as_bytes());
        if known_outside || !below(path, self.inside.as_bytes()) {
            return None;
        }
        let rest = value.get(self.inside.len()..)?;
        let made = [self.outside.as_bytes(), rest].concat();
        match made.as_slice() {
            [b'/', b'/', ..] => None,
            [b'/', ..] => Some(made),
            _ => Some([b"/", made.as_slice()].concat()),
        }
    }

    /// `5; url=/there` (HTML Living Standard, "shared declarative refresh steps").
    fn refresh(&self, value: &[u8]) -> Option<Vec<u8>> {
        let at = value.windows(4).position(|window| window.eq_ignore_ascii_case(b"url="))?;
        let (before, place) = value.split_at_checked(at + 4)?;
        let quote = place.first().copied().filter(|byte| matches!(byte, b'"' | b'\''));
        let (open, place) = if quote.is_some() { place.split_at_checked(1)? } else { (&[][..], place) };
        let end = quote.and_then(|quote| place.iter().position(|byte| *byte == quote)).unwrap_or(place.len());
        let (place, close) = place.split_at_checked(end)?;
        Some([before, open, &self.reference(place)?, close].concat())
    }

    /// One `Set-Cookie` line (RFC 6265 §4.1).
    fn cookie(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut parts = value.split(|byte| *byte == b';');
        let pair = parts.next()?;
        // Browsers take such a cookie only with the root as its path.
        if after(pair.trim_ascii_start(), b"__Host-").is_some() {
            return None;
        }
        let mut changed = false;
        let mut line = pair.to_vec();
        for part in parts {
            let trimmed = part.trim_ascii();
            let mended = match (after(trimmed, b"path="), after(trimmed, b"domain=")) {
                (Some(path @ [b'/', ..]), _) => self.cookie_path(path).map(|path| [b" Path=", path.as_slice()].concat()),
                (_, Some(domain)) if self.is_own_domain(domain) => {
                    changed = true;
                    continue;
                }
                _ => None,
            };
            changed |= mended.is_some();
            line.push(b';');
            line.extend_from_slice(mended.as_deref().unwrap_or(part));
        }
        changed.then_some(line)
    }

    fn cookie_path(&self, path: &[u8]) -> Option<Vec<u8>> {
        let mut made = self.path(path)?;
        if made.len() > 1 && made.ends_with(b"/") {
            made.pop();
        }
        (made != path).then_some(made)
    }

    /// The upstream's name, which browsers do not know it by: they would drop the cookie.
    fn is_own_domain(&self, domain: &[u8]) -> bool {
        let domain = domain.strip_prefix(b".").unwrap_or(domain);
        let is = |host: &Host| host.name().as_bytes().eq_ignore_ascii_case(domain);
        self.names.iter().any(is) && !is(self.host) && !ends_with_label(self.host.name().as_bytes(), domain)
    }
}

const fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

/// What follows `start`, whatever the case of its letters.
fn after<'a>(value: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = value.split_at_checked(start.len())?;
    found.eq_ignore_ascii_case(start).then_some(rest)
}

/// Whether a path lies below a prefix by whole segments.
fn below(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// Whether `name` is a host below `domain`.
fn ends_with_label(name: &[u8], domain: &[u8]) -> bool {
    name.to_ascii_lowercase().strip_suffix(domain.to_ascii_lowercase().as_slice()).is_some_and(|rest| rest.ends_with(b"."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    fn mended(outside: &str, inside: &str, name: &'static str, value: &str) -> String {
        let (own, names) = (host("app.test:8443"), [host("10.0.0.5:8080"), host("wiki.internal")]);
        let mending = Mending { outside, inside, scheme: Scheme::Https, host: &own, names: &names, own: "/oauth2" };
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        mending.mend(&mut headers);
        headers[name].to_str().unwrap().to_owned()
    }

    #[test]
    fn what_points_at_the_upstream_itself_points_at_us() {
        for (value, expected) in [
            ("/", "/wiki/"),
            ("/login?next=/x#top", "/wiki/login?next=/x#top"),
            ("/?a=/b", "/wiki/?a=/b"),
            ("http://10.0.0.5:8080/login", "https://app.test:8443/wiki/login"),
            ("http://10.0.0.5:8080", "https://app.test:8443/wiki/"),
            ("http://10.0.0.5:8080?a", "https://app.test:8443/wiki/?a"),
            ("HTTP://Wiki.Internal/x", "https://app.test:8443/wiki/x"),
            ("https://wiki.internal:443/x", "https://app.test:8443/wiki/x"),
            ("https://app.test:8443/x", "https://app.test:8443/wiki/x"),
            ("//app.test:8443/x", "https://app.test:8443/wiki/x"),
            // An app that reads X-Forwarded-Prefix has done it.
            ("/wiki/x", "/wiki/x"),
            ("/wiki", "/wiki"),
            ("https://app.test:8443/wiki/x", "https://app.test:8443/wiki/x"),
            ("http://wiki.internal/wiki/x", "https://app.test:8443/wiki/x"),
            ("/wikis", "/wiki/wikis"),
            // The gateway's own endpoints.
            ("/oauth2/sign_out?rd=/", "/oauth2/sign_out?rd=/"),
            // What is relative is right as it is.
            ("x/y", "x/y"),
            ("?a=b", "?a=b"),
            ("../x", "../x"),
            // Others are others.
            ("https://evil.test/x", "https://evil.test/x"),
            ("//evil.test/x", "//evil.test/x"),
            ("/\\evil.test", "/\\evil.test"),
            ("http://10.0.0.5/x", "http://10.0.0.5/x"),
            ("http://10.0.0.5:8080@evil.test/x", "http://10.0.0.5:8080@evil.test/x"),
            ("http://10.0.0.5:8080.evil.test/x", "http://10.0.0.5:8080.evil.test/x"),
            ("http://wiki.internal\\@evil.test/", "http://wiki.internal\\@evil.test/"),
            ("https://app.test/x", "https://app.test/x"),
            ("javascript:alert(1)", "javascript:alert(1)"),
            ("mailto:a@wiki.internal", "mailto:a@wiki.internal"),
        ] {
            assert_eq!(mended("/wiki", "", "location", value), expected, "{value}");
            assert_eq!(mended("/wiki", "", "content-location", value), expected, "{value}");
        }
    }

    #[test]
    fn a_place_that_the_route_does_not_cover_stays() {
        for (value, expected) in [
            ("/v1/x", "/api/x"),
            ("/v1", "/api"),
            ("/v2/x", "/v2/x"),
            ("/v12", "/v12"),
            ("/api/x", "/api/x"),
            ("http://wiki.internal/v1/x", "https://app.test:8443/api/x"),
        ] {
            assert_eq!(mended("/api", "/v1", "location", value), expected, "{value}");
        }
        // What is put in front for the upstream is taken off again, and leads to nobody else's host.
        for (value, expected) in
            [("/t/x", "/x"), ("/t", "/"), ("/t?x", "/?x"), ("/t//evil.test", "/t//evil.test"), ("/t/\\evil.test", "/t/\\evil.test")]
        {
            assert_eq!(mended("", "/t", "location", value), expected, "{value}");
        }
        // Only the host differs.
        assert_eq!(mended("", "", "location", "http://wiki.internal/x?y"), "https://app.test:8443/x?y");
        assert_eq!(mended("", "", "location", "/x"), "/x");
    }

    #[test]
    fn refreshes_and_cookies_are_mended() {
        for (value, expected) in [
            ("5; url=/x", "5; url=/wiki/x"),
            ("0;URL='/x?a'", "0;URL='/wiki/x?a'"),
            ("0; url=\"http://wiki.internal/x\"; y", "0; url=\"https://app.test:8443/wiki/x\"; y"),
            ("5", "5"),
            ("5; url=https://evil.test/", "5; url=https://evil.test/"),
        ] {
            assert_eq!(mended("/wiki", "", "refresh", value), expected, "{value}");
        }
        for (value, expected) in [
            ("a=b; Path=/", "a=b; Path=/wiki"),
            ("a=b; path=/x/; HttpOnly", "a=b; Path=/wiki/x; HttpOnly"),
            ("a=b;PATH=/;Secure", "a=b; Path=/wiki;Secure"),
            ("a=b; Path=/wiki/", "a=b; Path=/wiki/"),
            ("a=b; Path=/wiki", "a=b; Path=/wiki"),
            ("a=b", "a=b"),
            ("a=b; Path=x", "a=b; Path=x"),
            ("a=/; Path=/", "a=/; Path=/wiki"),
            ("__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"),
            ("__host-a=b; Path=/; Secure", "__host-a=b; Path=/; Secure"),
            ("a=b; Domain=wiki.internal; Path=/", "a=b; Path=/wiki"),
            ("a=b; Domain=.Wiki.Internal", "a=b"),
            ("a=b; Domain=app.test", "a=b; Domain=app.test"),
            ("a=b; Domain=evil.test", "a=b; Domain=evil.test"),
        ] {
            assert_eq!(mended("/wiki", "", "set-cookie", value), expected, "{value}");
        }
    }

    #[test]
    fn each_cookie_stays_and_in_its_order() {
        let (own, names) = (host("app.test"), []);
        let mending = Mending { outside: "/wiki", inside: "", scheme: Scheme::Https, host: &own, names: &names, own: "/oauth2" };
        let mut headers = HeaderMap::new();
        for line in ["a=1; Path=/", "b=2", "c=3; Path=/x"] {
            headers.append(SET_COOKIE, line.parse().unwrap());
        }
        mending.mend(&mut headers);
        assert_eq!(headers.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1; Path=/wiki", "b=2", "c=3; Path=/wiki/x"]);
    }

    proptest! {
        #[test]
        fn nobody_is_led_elsewhere_by_what_was_mended(value in r"(/t|/|//|http://wiki\.internal)?[/a-c\\\t?#.@:]{0,12}", outside in "(/p)?", inside in "(/t)?") {
            let before = mended("", "/never-there", "location", &value);
            let after = mended(&outside, &inside, "location", &value);
            let base = url::Url::parse("https://app.test:8443/p/x").unwrap();
            if after != before && let Ok(url) = base.join(&after) {
                prop_assert_eq!(url.origin(), base.origin(), "{:?} became {:?}", value, after);
            }
        }
    }
}
