//! The host of a request, in one spelling.

use std::fmt;

use http::uri::Authority;

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
        let authority: Authority = text.parse().ok()?;
        let name = authority.host();
        let port = match text.strip_prefix(name)? {
            "" => None,
            rest => Some(rest.strip_prefix(':')?.parse::<u16>().ok()?),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let sound = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !name.is_empty() && !name.contains([':', '[', ']']) && name.split('.').all(|label| !label.is_empty()),
        };
        sound.then_some(Self { name, port })
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
    use super::*;

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
