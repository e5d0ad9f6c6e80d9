//! Who stands in front of us and whom they speak for: `X-Forwarded-*` and `Forwarded` (RFC 7239), believed only from listed peers.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use super::{Peer, TrustedProxies};
use crate::request::{Host, Scheme};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// `client_address`: where a listed peer names the address of whom it speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// `X-Forwarded-For`, walked from the right over listed hops.
    XForwardedFor,
    /// `Forwarded` (RFC 7239), its `for` parameters walked in the same way.
    Forwarded,
    /// A header that holds one address.
    Single(HeaderName),
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whence {
    /// Whom limits count and the log names: the nearest on the way who is known.
    pub counted: IpAddr,
    /// Where it really began, where somebody believable says so; what `client` of routes goes by.
    pub known: Option<IpAddr>,
}

/// The address a request comes from: the peer, unless it is listed. A listed peer speaks for others: where it does not say for whom, or not
/// clearly, the address is not known. A walk goes from the right over listed hops to the first that is not; an entry that is no address ends it at
/// the hop before: what stands left of it was written by nobody we know.
#[must_use]
pub fn whence(peer: Peer, headers: &HeaderMap, trusted: &TrustedProxies, source: &AddressSource) -> Whence {
    let listed = trusted.hold(peer);
    // Whoever comes by a unix socket, or through a proxy that does not name them, may be anybody.
    let known = matches!(peer, Peer::At(_));
    let peer = peer.ip();
    if !listed {
        return Whence { counted: peer, known: known.then_some(peer) };
    }
    match source {
        AddressSource::XForwardedFor => {
            let lines: Vec<&str> = headers.get_all(FOR).iter().map(|line| line.to_str().unwrap_or("?")).collect();
            walk(peer, trusted, lines.iter().rev().flat_map(|line| line.rsplit(',')).map(|entry| parse_hop(entry.trim())))
        }
        AddressSource::Forwarded => walk(peer, trusted, super::rfc7239::hops(headers).into_iter().rev()),
        AddressSource::Single(name) => {
            let mut lines = headers.get_all(name).iter();
            let known = match (lines.next(), lines.next()) {
                (Some(line), None) => line.to_str().ok().and_then(|text| parse_hop(text.trim())),
                _ => None,
            };
            Whence { counted: known.unwrap_or(peer), known }
        }
    }
}

fn walk(peer: IpAddr, trusted: &TrustedProxies, hops: impl Iterator<Item = Option<IpAddr>>) -> Whence {
    let mut last = Whence { counted: peer, known: None };
    for hop in hops {
        match hop {
            Some(hop) => last = Whence { counted: hop, known: Some(hop) },
            None => return Whence { known: None, ..last },
        }
        if !trusted.hold_address(last.counted) {
            return last;
        }
    }
    last
}

/// Whether a request says whom it is sent for, in whatever way proxies do.
#[must_use]
pub fn names_another(headers: &HeaderMap, source: &AddressSource) -> bool {
    let single = match source {
        AddressSource::Single(name) => Some(name),
        AddressSource::XForwardedFor | AddressSource::Forwarded => None,
    };
    [&FOR, &FORWARDED, &X_REAL_IP].into_iter().chain(single).any(|name| headers.contains_key(name))
}

/// `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::1`, `[2001:db8::1]:4711`.
pub(super) fn parse_hop(text: &str) -> Option<IpAddr> {
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

/// What was told last of a connection. The next request on it usually comes from the same place and for the same host, and is told by the same
/// values.
#[derive(Debug, Default)]
pub struct LastTold(RefCell<Option<Told>>);

#[derive(Debug)]
struct Told {
    peer: IpAddr,
    scheme: Scheme,
    host: Host,
    forwarded_for: HeaderValue,
    forwarded: HeaderValue,
    forwarded_host: HeaderValue,
}

impl Told {
    /// Two texts put together by hand: the machinery of `format!` costs more than what is written here. `None`: the host is no header value.
    fn new(peer: IpAddr, scheme: Scheme, host: &Host) -> Option<Self> {
        let mut text = String::with_capacity(96);
        push_address(&mut text, peer);
        let forwarded_for = HeaderValue::from_str(&text).ok()?;
        text.clear();
        text.push_str("for=");
        match peer {
            IpAddr::V4(_) => push_address(&mut text, peer),
            IpAddr::V6(_) => {
                text.push_str("\"[");
                push_address(&mut text, peer);
                text.push_str("]\"");
            }
        }
        text.push_str(";host=\"");
        let begin = text.len();
        text.push_str(host.name());
        if let Some(port) = host.port() {
            // Writing to a String cannot fail.
            let _ = write!(text, ":{port}");
        }
        let forwarded_host = HeaderValue::from_str(text.get(begin..)?).ok()?;
        text.push_str("\";proto=");
        text.push_str(scheme.as_str());
        let forwarded = HeaderValue::from_str(&text).ok()?;
        Some(Self { peer, scheme, host: host.clone(), forwarded_for, forwarded, forwarded_host })
    }

    fn fits(&self, peer: IpAddr, scheme: Scheme, host: &Host) -> bool {
        self.peer == peer && self.scheme == scheme && self.host == *host
    }
}

/// Sets `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded`, after whatever the downstream sent of them was stripped. Returns the value of
/// `X-Forwarded-Host`; `None`: there can be none, and nothing is set.
pub fn set_forwarded(headers: &mut HeaderMap, forwarding: Forwarding<'_>, last: &LastTold) -> Option<HeaderValue> {
    let Forwarding { peer, scheme, host, before } = forwarding;
    let peer = peer.to_canonical();
    let mut last = last.0.borrow_mut();
    if !last.as_ref().is_some_and(|told| told.fits(peer, scheme, host)) {
        *last = Told::new(peer, scheme, host);
    }
    let told = last.as_ref()?;
    match before.filter(|before| !before.is_empty()) {
        None => drop(headers.insert(FOR, told.forwarded_for.clone())),
        Some(before) => {
            let mut text = String::with_capacity(before.len() + 48);
            text.push_str(before);
            text.push_str(", ");
            push_address(&mut text, peer);
            set(headers, FOR, &text);
        }
    }
    headers.insert(FORWARDED, told.forwarded.clone());
    headers.insert(HOST, told.forwarded_host.clone());
    headers.insert(PROTO, HeaderValue::from_static(scheme.as_str()));
    Some(told.forwarded_host.clone())
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn push_address(text: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    text.push('.');
                }
                if octet >= 100 {
                    text.push(char::from(b'0' + octet / 100));
                }
                if octet >= 10 {
                    text.push(char::from(b'0' + octet / 10 % 10));
                }
                text.push(char::from(b'0' + octet % 10));
            }
        }
        // Writing to a String cannot fail.
        IpAddr::V6(address) => drop(write!(text, "{address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::TrustedPeer;
    use super::*;

    fn found(peer: &str, source: &AddressSource, lines: &[(&'static str, &str)], trusted: &[&str]) -> (String, Option<String>) {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(*name, line.parse().unwrap());
        }
        let trusted = TrustedProxies(trusted.iter().map(|net| TrustedPeer::Network(net.parse().unwrap())).collect());
        let peer = Peer::At((peer.parse::<IpAddr>().unwrap(), 4711).into());
        let Whence { counted, known } = whence(peer, &headers, &trusted, source);
        (counted.to_string(), known.map(|known| known.to_string()))
    }

    const TEN: &[&str] = &["10.0.0.0/8"];

    #[test]
    fn the_walk_goes_from_the_right_over_listed_hops() {
        for (peer, lines, trusted, counted, known) in [
            ("203.0.113.1", &["1.1.1.1"][..], &[][..], "203.0.113.1", true),
            ("203.0.113.1", &["1.1.1.1"], TEN, "203.0.113.1", true),
            ("10.0.0.1", &["1.1.1.1"], TEN, "1.1.1.1", true),
            ("10.0.0.1", &["9.9.9.9, 1.1.1.1, 10.0.0.2"], TEN, "1.1.1.1", true),
            ("10.0.0.1", &["9.9.9.9", "1.1.1.1"], TEN, "1.1.1.1", true),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], TEN, "10.0.0.3", true),
            ("::ffff:10.0.0.1", &["[2001:db8::1]:4711"], TEN, "2001:db8::1", true),
            ("10.0.0.1", &["[2001:db8::1]"], TEN, "2001:db8::1", true),
            ("10.0.0.1", &["2001:db8::1"], TEN, "2001:db8::1", true),
            ("10.0.0.1", &["1.1.1.1:4711"], TEN, "1.1.1.1", true),
            ("10.0.0.1", &["::ffff:1.1.1.1"], TEN, "1.1.1.1", true),
            // Nobody knows: whoever is nearest counts, and nobody is taken for somebody of the proxies' own network.
            ("10.0.0.1", &["unknown, 10.0.0.2"], TEN, "10.0.0.2", false),
            ("10.0.0.1", &["1.1.1.1,"], TEN, "10.0.0.1", false),
            ("10.0.0.1", &["1.1.1.1 2.2.2.2"], TEN, "10.0.0.1", false),
            ("10.0.0.1", &[], TEN, "10.0.0.1", false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let expected = (counted.to_owned(), known.then(|| counted.to_owned()));
            assert_eq!(found(peer, &AddressSource::XForwardedFor, &lines, trusted), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn whoever_has_no_address_of_their_own_is_not_known_by_this_machines_nor_by_the_proxys() {
        let mut headers = HeaderMap::new();
        headers.insert(FOR, HeaderValue::from_static("1.1.1.1"));
        let network = TrustedProxies(vec![TrustedPeer::Network("127.0.0.0/8".parse().unwrap())]);
        let local = IpAddr::from([127, 0, 0, 1]);
        for peer in [Peer::Unix, Peer::Unnamed(local)] {
            assert_eq!(whence(peer, &headers, &network, &AddressSource::XForwardedFor), Whence { counted: local, known: None });
        }
        let unix = TrustedProxies(vec![TrustedPeer::Unix]);
        let known = IpAddr::from([1, 1, 1, 1]);
        let found = whence(Peer::Unix, &headers, &unix, &AddressSource::XForwardedFor);
        assert_eq!(found, Whence { counted: known, known: Some(known) });
    }

    #[test]
    fn forwarded_is_walked_in_the_same_way() {
        for (lines, counted, known) in [
            (&["for=1.1.1.1"][..], "1.1.1.1", true),
            (&["for=9.9.9.9, For=\"1.1.1.1:80\";proto=https, for=10.0.0.2;by=10.0.0.9"], "1.1.1.1", true),
            (&["for=9.9.9.9", "proto=https ; for=\"[2001:db8::1]:80\""], "2001:db8::1", true),
            (&["for=\"[2001:db8::1]\""], "2001:db8::1", true),
            (&["for=9.9.9.9, for=unknown, for=10.0.0.2"], "10.0.0.2", false),
            (&["for=9.9.9.9, for=_hidden"], "10.0.0.1", false),
            (&["for=9.9.9.9, proto=https"], "10.0.0.1", false),
            (&["for=9.9.9.9;for=1.1.1.1"], "10.0.0.1", false),
            // What a browser sent first swallows what the proxy put behind it.
            (&["for=\"9.9.9.9, for=1.1.1.1"], "10.0.0.1", false),
            (&["for=9.9.9.9;x=\", for=\"[2001:db8::1]\""], "10.0.0.1", false),
            (&[], "10.0.0.1", false),
        ] {
            let mut lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            lines.push(("x-forwarded-for", "8.8.8.8"));
            let expected = (counted.to_owned(), known.then(|| counted.to_owned()));
            assert_eq!(found("10.0.0.1", &AddressSource::Forwarded, &lines, TEN), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_single_header_holds_one_address_or_none() {
        let source = AddressSource::Single(HeaderName::from_static("cf-connecting-ip"));
        let name = "cf-connecting-ip";
        for (peer, lines, counted, known) in [
            ("10.0.0.1", &[(name, "1.1.1.1")][..], "1.1.1.1", true),
            ("10.0.0.1", &[(name, "[2001:db8::1]:80")], "2001:db8::1", true),
            ("203.0.113.1", &[(name, "1.1.1.1")], "203.0.113.1", true),
            ("10.0.0.1", &[(name, "1.1.1.1"), (name, "1.1.1.1")], "10.0.0.1", false),
            ("10.0.0.1", &[(name, "1.1.1.1, 2.2.2.2")], "10.0.0.1", false),
            ("10.0.0.1", &[(name, "somebody")], "10.0.0.1", false),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1")], "10.0.0.1", false),
        ] {
            let expected = (counted.to_owned(), known.then(|| counted.to_owned()));
            assert_eq!(found(peer, &source, lines, TEN), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_upstream_is_told_the_way() {
        let mut headers = HeaderMap::new();
        let host = Host::parse("app.test:8443").unwrap();
        let forwarding = Forwarding { peer: "::1".parse().unwrap(), scheme: Scheme::Https, host: &host, before: Some("1.1.1.1") };
        let last = LastTold::default();
        set_forwarded(&mut headers, forwarding, &last);
        assert_eq!(headers["x-forwarded-for"], "1.1.1.1, ::1");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "app.test:8443");
        assert_eq!(headers["forwarded"], "for=\"[::1]\";host=\"app.test:8443\";proto=https");
        // What was told before is told again only of the same place, in the same way, for the same host.
        let other = Host::parse("other.test").unwrap();
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), "::ffff:10.0.0.2".parse().unwrap());
        for (peer, scheme, host, told) in [
            (one, Scheme::Https, &host, "for=10.0.0.1;host=\"app.test:8443\";proto=https"),
            (one, Scheme::Https, &host, "for=10.0.0.1;host=\"app.test:8443\";proto=https"),
            (two, Scheme::Https, &host, "for=10.0.0.2;host=\"app.test:8443\";proto=https"),
            (two, Scheme::Http, &host, "for=10.0.0.2;host=\"app.test:8443\";proto=http"),
            (two, Scheme::Http, &other, "for=10.0.0.2;host=\"other.test\";proto=http"),
        ] {
            let mut headers = HeaderMap::new();
            let said = set_forwarded(&mut headers, Forwarding { peer, scheme, host, before: None }, &last);
            assert_eq!(said.as_ref(), headers.get("x-forwarded-host"));
            assert_eq!(headers["x-forwarded-host"], host.to_string());
            assert_eq!(headers["x-forwarded-for"], peer.to_canonical().to_string());
            assert_eq!(headers["x-forwarded-proto"], scheme.as_str());
            assert_eq!(headers["forwarded"], told);
        }
    }
}
