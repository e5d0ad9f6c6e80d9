//! Where calls that leave may go: the hosts of an `[[outgoing]]` listener.

use std::net::IpAddr;

use super::UpstreamId;
use crate::request::Host;

/// The hosts of one listener. What is not listed is not called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingHosts(Vec<OutgoingHost>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingHost {
    /// A name in lower case or an address; IPv6 in brackets.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// By which scheme it is called, whatever the program asked for.
    pub scheme: OutgoingScheme,
    /// Where that is.
    pub upstream: UpstreamId,
}

/// By which scheme a host is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutgoingScheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

impl OutgoingScheme {
    /// The port where none is written.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// That a call may leave, and where to. Only [`OutgoingHosts::find`] makes one:
///
/// ```compile_fail
/// fn forge(host: &doorward::route::OutgoingHost) -> doorward::route::Listed<'_> {
///     doorward::route::Listed { host }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    host: &'a OutgoingHost,
}

impl Listed<'_> {
    /// Where it is.
    #[must_use]
    pub const fn upstream(&self) -> UpstreamId {
        self.host.upstream
    }

    /// Its `Host` (RFC 9110 §7.2): without the port where that is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let OutgoingHost { name, port, scheme, .. } = self.host;
        if *port == scheme.default_port() { name.clone() } else { format!("{name}:{port}") }
    }
}

impl OutgoingHosts {
    /// At least one, each once.
    #[must_use]
    pub const fn new(hosts: Vec<OutgoingHost>) -> Self {
        Self(hosts)
    }

    /// The listed host that a request asks for. A program that speaks of `http://api.example.com` means the host that the list has under that
    /// name, though it is called by https: what it has not written of a port is the list's to say. `own_port` is the listener's: a request
    /// that names the listener itself, on this machine, is for the only host of a list of one.
    #[must_use]
    pub fn find(&self, asked: &Host, own_port: Option<u16>) -> Option<Listed<'_>> {
        let fits = |host: &&OutgoingHost| {
            host.name == asked.name()
                && match asked.port() {
                    Some(port) if port != OutgoingScheme::Http.default_port() => port == host.port,
                    // None, or what a program adds by itself that was told `http`.
                    port => port == Some(host.port) || host.port == host.scheme.default_port(),
                }
        };
        if let Some(host) = self.0.iter().find(fits) {
            return Some(Listed { host });
        }
        let [only] = self.0.as_slice() else { return None };
        let itself = of_this_machine(asked.name()) && own_port.is_none_or(|own| asked.port().unwrap_or(80) == own);
        itself.then_some(Listed { host: only })
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &OutgoingHost> {
        self.0.iter()
    }
}

/// `localhost`, or a loopback address.
fn of_this_machine(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(scheme: OutgoingScheme, name: &str, port: u16) -> OutgoingHost {
        OutgoingHost { name: name.to_owned(), port, scheme, upstream: UpstreamId(usize::from(port)) }
    }

    fn found(hosts: &OutgoingHosts, asked: &str, own_port: Option<u16>) -> Option<String> {
        hosts.find(&Host::parse(asked).unwrap(), own_port).map(|listed| listed.authority())
    }

    #[test]
    fn only_what_is_listed_is_found() {
        use OutgoingScheme::{Http, Https};
        let hosts = OutgoingHosts::new(vec![
            host(Https, "api.test", 443),
            host(Https, "other.test", 8443),
            host(Http, "plain.test", 80),
            host(Http, "[::1]", 9000),
        ]);
        for (asked, expected) in [
            ("api.test", Some("api.test")),
            ("API.test.", Some("api.test")),
            ("api.test:80", Some("api.test")),
            ("api.test:443", Some("api.test")),
            ("api.test:8443", None),
            ("other.test:8443", Some("other.test:8443")),
            ("other.test", None),
            ("other.test:80", None),
            ("plain.test", Some("plain.test")),
            ("plain.test:80", Some("plain.test")),
            ("plain.test:443", None),
            ("[::1]:9000", Some("[::1]:9000")),
            ("evil.test", None),
            ("api.test.evil.test", None),
            ("evil-api.test", None),
            // Two hosts or more: the listener itself is none of them.
            ("127.0.0.1:4182", None),
            ("localhost:4182", None),
        ] {
            assert_eq!(found(&hosts, asked, Some(4182)).as_deref(), expected, "{asked}");
        }
    }

    #[test]
    fn a_list_of_one_is_meant_by_the_listener_itself() {
        let hosts = OutgoingHosts::new(vec![host(OutgoingScheme::Https, "api.test", 443)]);
        for (asked, own_port, expected) in [
            ("127.0.0.1:4182", Some(4182), true),
            ("localhost:4182", Some(4182), true),
            ("[::1]:4182", Some(4182), true),
            ("127.0.0.1", Some(80), true),
            ("127.0.0.1", Some(4182), false),
            ("127.0.0.1:4183", Some(4182), false),
            // A page that had its own name resolved to this machine.
            ("rebound.evil.test:4182", Some(4182), false),
            ("10.0.0.5:4182", Some(4182), false),
            // A unix socket has no port, and programs write what they like.
            ("localhost", None, true),
            ("evil.test", None, false),
        ] {
            assert_eq!(found(&hosts, asked, own_port).is_some(), expected, "{asked} {own_port:?}");
        }
    }
}
