//! The host of a request, in one spelling.

use std::cell::RefCell;
use std::fmt;

use http::HeaderValue;

/// A host name or address in lower case without its trailing dot, with the port where one was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

impl Host {
    /// Reads `Host`, `:authority` or a forwarded host. `None` for user information, an empty name or port, and anything that is no authority.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 255 + 6 {
            return None;
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')) {
            return None;
        }
        // The colons of an IPv6 address stand in brackets (RFC 3986 §3.2.2).
        let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
        let (name, rest) = text.split_at_checked(end)?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?.parse::<u16>().ok()?) };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        is_sound(&name).then_some(Self { name, port })
    }

    /// Name or address, without the port; IPv6 keeps its brackets.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port, where one was written.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }
}

/// The host that was read last of a connection, with what it was read from: the next request on it usually says the same.
#[derive(Debug, Default)]
pub struct LastHost(RefCell<Option<(HeaderValue, Host)>>);

impl LastHost {
    /// As [`Host::parse`] of the value.
    #[must_use]
    pub fn parse(&self, value: &HeaderValue) -> Option<Host> {
        let mut last = self.0.borrow_mut();
        if let Some((_, host)) = last.as_ref().filter(|(said, _)| said == value) {
            return Some(host.clone());
        }
        let host = Host::parse(value.to_str().ok()?)?;
        // A copy: the value itself is a part of what was read from the socket, all of which would be kept with it.
        *last = HeaderValue::from_bytes(value.as_bytes()).ok().map(|said| (said, host.clone()));
        Some(host)
    }
}

/// Whether labels are there, or an address that is one in brackets.
fn is_sound(name: &str) -> bool {
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && !name.contains([':', '[', ']']) && name.split('.').all(|label| !label.is_empty()),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::uri::Authority;
    use proptest::prelude::*;

    use super::*;

    /// By the parser of the `http` crate.
    fn by_authority(text: &str) -> Option<Host> {
        let whole: Authority = text.parse().ok()?;
        let rest = text.strip_prefix(whole.host())?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?.parse().ok()?) };
        let name = whole.host().strip_suffix('.').unwrap_or(whole.host()).to_ascii_lowercase();
        is_sound(&name).then_some(Host { name, port })
    }

    proptest! {
        #[test]
        fn it_is_read_as_the_parts_of_an_authority(text in r"(\[[0-9a-f:]{0,6}\]|[A-Za-z0-9._-]{0,8}|\[::1\])(:[0-9]{0,6}|[:\[\]a.]{0,3})") {
            prop_assert_eq!(Host::parse(&text), by_authority(&text));
        }
    }

    #[test]
    fn the_last_host_is_read_again_only_from_the_same_bytes() {
        let last = LastHost::default();
        for text in ["app.test", "app.test", "APP.test", "app.test:80", "app..test", "app.test:80", "\u{e9}.test", "app.test"] {
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            assert_eq!(last.parse(&value), Host::parse(text), "{text}");
        }
    }

    #[test]
    fn one_spelling_of_a_host() {
        for (text, expected) in [
            ("App.Example.COM", Some("app.example.com")),
            ("app.example.com.:8443", Some("app.example.com:8443")),
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("[::1]:8080", Some("[::1]:8080")),
            ("", None),
            ("a b", None),
            ("user@own.test", None),
            ("own.test:", None),
            ("own.test:99999", None),
            ("own..test", None),
            ("own.test/evil", None),
            ("own.test,evil.test", None),
            ("[::1", None),
            ("[own]", None),
            ("own\u{e9}.test", None),
        ] {
            assert_eq!(Host::parse(text).map(|host| host.to_string()).as_deref(), expected, "{text}");
        }
    }
}
