//! Who stands in front of us and whom they speak for: `X-Forwarded-*` and `Forwarded` (RFC 7239), believed only from listed peers.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::request::{Host, Scheme};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// `trusted_proxies`: peers whose forwarded headers count. Empty: nobody (CVE-2026-76835).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(pub Vec<IpNet>);

impl TrustedProxies {
    /// Whether this peer is listed; a mapped IPv4 address counts as IPv4.
    #[must_use]
    pub fn hold(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }
}

/// The address a request comes from: the peer, unless it is listed; then `X-Forwarded-For` from the right, over listed hops, to the first that
/// is not. An entry that is no address ends the walk at the hop before it: what stands left of it was written by nobody we know.
#[must_use]
pub fn downstream_address(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> IpAddr {
    let mut address = peer.to_canonical();
    if !trusted.hold(address) {
        return address;
    }
    let lines: Vec<&str> = headers.get_all(FOR).iter().map(|line| line.to_str().unwrap_or("?")).collect();
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        match parse_hop(entry.trim()) {
            Some(hop) => address = hop,
            None => return address,
        }
        if !trusted.hold(address) {
            return address;
        }
    }
    address
}

/// `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::1`, `[2001:db8::1]:4711`.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    address.or_else(bracketed).map(|address| address.to_canonical())
}

/// What the upstream is told of the way here.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// Who connected to us.
    pub peer: IpAddr,
    /// The outside scheme.
    pub scheme: Scheme,
    /// The outside host.
    pub host: &'a Host,
    /// `X-Forwarded-For` as it came, when the peer is listed; else nothing.
    pub before: Option<&'a str>,
}

/// Sets `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded`, after whatever the downstream sent of them was stripped.
pub fn set_forwarded(headers: &mut HeaderMap, forwarding: Forwarding<'_>) {
    let Forwarding { peer, scheme, host, before } = forwarding;
    let peer = peer.to_canonical();
    let chain = match before {
        Some(before) if !before.is_empty() => format!("{before}, {peer}"),
        _ => peer.to_string(),
    };
    let node = match peer {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let forwarded = format!("for={node};host=\"{host}\";proto={}", scheme.as_str());
    for (name, value) in [(FOR, chain), (HOST, host.to_string()), (FORWARDED, forwarded)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(PROTO, HeaderValue::from_static(scheme.as_str()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FOR, line.parse().unwrap());
        }
        let trusted = TrustedProxies(trusted.iter().map(|net| net.parse().unwrap()).collect());
        downstream_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn the_walk_goes_from_the_right_over_listed_hops() {
        let ten = &["10.0.0.0/8"][..];
        for (peer, lines, trusted, expected) in [
            ("203.0.113.1", &["1.1.1.1"][..], &[][..], "203.0.113.1"),
            ("203.0.113.1", &["1.1.1.1"], ten, "203.0.113.1"),
            ("10.0.0.1", &["1.1.1.1"], ten, "1.1.1.1"),
            ("10.0.0.1", &["9.9.9.9, 1.1.1.1, 10.0.0.2"], ten, "1.1.1.1"),
            ("10.0.0.1", &["9.9.9.9", "1.1.1.1"], ten, "1.1.1.1"),
            ("10.0.0.1", &["unknown, 10.0.0.2"], ten, "10.0.0.2"),
            ("10.0.0.1", &[], ten, "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], ten, "10.0.0.3"),
            ("::ffff:10.0.0.1", &["[2001:db8::1]:4711"], ten, "2001:db8::1"),
            ("10.0.0.1", &["1.1.1.1:4711"], ten, "1.1.1.1"),
            ("10.0.0.1", &["::ffff:1.1.1.1"], ten, "1.1.1.1"),
        ] {
            assert_eq!(walk(peer, lines, trusted), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_upstream_is_told_the_way() {
        let mut headers = HeaderMap::new();
        let host = Host::parse("app.test:8443").unwrap();
        let forwarding = Forwarding { peer: "::1".parse().unwrap(), scheme: Scheme::Https, host: &host, before: Some("1.1.1.1") };
        set_forwarded(&mut headers, forwarding);
        assert_eq!(headers["x-forwarded-for"], "1.1.1.1, ::1");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "app.test:8443");
        assert_eq!(headers["forwarded"], "for=\"[::1]\";host=\"app.test:8443\";proto=https");
    }
}
