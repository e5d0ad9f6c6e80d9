//! The PROXY protocol, versions 1 and 2: the header by which a proxy that passes bytes on says for whom
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>). Where it is switched on every connection begins with one, before TLS.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::clock::Clock;
use crate::header::{Peer, TrustedProxies};

/// How version 2 begins (§2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included (§2.1).
const LINE: usize = 107;
/// What follows the 16 bytes of a header of version 2 may be so long: addresses take 36 bytes, the rest is TLVs, which are passed over.
/// Senders that tell of a client certificate need some hundred bytes.
const TAIL: usize = 4096;
/// The same trouble is told this often, in seconds.
const TELL_EVERY: u64 = 10;

/// Who may send the header: everybody else's connections are closed. Clones are the same; a new list counts for new connections.
#[derive(Clone, Debug)]
pub struct ProxyPeers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    trusted: ArcSwap<TrustedProxies>,
    told: AtomicU64,
}

impl ProxyPeers {
    /// With these peers.
    #[must_use]
    pub fn new(trusted: TrustedProxies) -> Self {
        Self(Arc::new(Inner { trusted: ArcSwap::from_pointee(trusted), told: AtomicU64::new(0) }))
    }

    /// From now on these.
    pub fn set(&self, trusted: TrustedProxies) {
        self.0.trusted.store(Arc::new(trusted));
    }

    /// Reads the header, to its end and no byte further, and says who it is. A peer that is not listed is not even read.
    ///
    /// # Errors
    /// When the connection has to be closed.
    pub async fn name(&self, peer: Peer, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Peer> {
        if !self.0.trusted.load().hold(peer) {
            return Err(wrong("the peer is not in trusted_proxies, and proxy_protocol is on"));
        }
        Ok(match read(stream).await? {
            Some(named) => Peer::At(named),
            None => Peer::Unnamed(peer.ip()),
        })
    }

    /// Tells of a connection that was closed, now and then: it may be a balancer that was not told to speak so.
    pub(super) fn tell(&self, peer: Peer, error: &io::Error, clock: &dyn Clock) {
        let now = clock.now().0;
        let told = self.0.told.load(Ordering::Relaxed);
        if now.saturating_sub(told) >= TELL_EVERY && self.0.told.swap(now, Ordering::Relaxed) == told {
            tracing::warn!(%peer, %error, "a connection was closed for its PROXY header");
        }
    }
}

/// Reads a header. `None`: the proxy does not say who it is.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    // The shortest header there is has 15 bytes: these are always its own.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return read_binary(stream).await;
    }
    let mut line = start.to_vec();
    if !line.starts_with(b"PROXY ") {
        return Err(wrong("it does not begin with a PROXY header"));
    }
    // Byte by byte, since what follows the line is not ours to take: a system call each, for each connection. Version 2 needs three in all.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE {
            return Err(wrong("the PROXY line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line)
}

async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version_command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > TAIL {
        return Err(wrong("the PROXY header is too long"));
    }
    let mut tail = vec![0; length];
    stream.read_exact(&mut tail).await?;
    parse_binary(version_command, family, &tail)
}

/// A line of version 1 (§2.1), its end included.
fn parse_line(line: &[u8]) -> io::Result<Option<SocketAddr>> {
    let malformed = || wrong("the PROXY line is malformed");
    let text = std::str::from_utf8(line).ok().and_then(|text| text.strip_suffix("\r\n")?.strip_prefix("PROXY ")).ok_or_else(malformed)?;
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Ok(None);
    }
    let mut words = text.split(' ');
    let (Some(family), Some(source), Some(destination), Some(source_port), Some(destination_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed());
    };
    let ip = match family {
        "TCP4" => source.parse::<Ipv4Addr>().ok().filter(|_| destination.parse::<Ipv4Addr>().is_ok()).map(Into::into),
        "TCP6" => source.parse::<Ipv6Addr>().ok().filter(|_| destination.parse::<Ipv6Addr>().is_ok()).map(Into::into),
        _ => None,
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    match (ip, port(source_port), port(destination_port)) {
        (Some(ip), Some(port), Some(_)) => Ok(Some(SocketAddr::new(ip, port))),
        _ => Err(malformed()),
    }
}

/// What follows the signature of version 2 (§2.2).
fn parse_binary(version_command: u8, family: u8, tail: &[u8]) -> io::Result<Option<SocketAddr>> {
    let short = || wrong("the PROXY header is too short for its addresses");
    match (version_command, family) {
        // LOCAL: the proxy's own, whatever stands in it.
        (0x20, _) => Ok(None),
        // UNSPEC.
        (0x21, 0x00) => Ok(None),
        // TCP over IPv4: two addresses, two ports.
        (0x21, 0x11) => match tail {
            [a, b, c, d, _, _, _, _, high, low, _, _, ..] => {
                Ok(Some(SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), u16::from_be_bytes([*high, *low]))))
            }
            _ => Err(short()),
        },
        // TCP over IPv6.
        (0x21, 0x21) => match (tail.first_chunk::<16>(), tail.get(32..34), tail.len() >= 36) {
            (Some(source), Some([high, low]), true) => {
                Ok(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes([*high, *low]))))
            }
            _ => Err(short()),
        },
        // A unix socket's two names of 108 bytes: no address.
        (0x21, 0x31) if tail.len() >= 216 => Ok(None),
        (0x21, 0x31) => Err(short()),
        _ => Err(wrong("the PROXY header is of a kind that does not exist on a stream")),
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read of these bytes, and what is left of them.
    fn reading(mut bytes: &[u8]) -> (Result<Option<String>, String>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(read(&mut bytes));
        (read.map(|named| named.map(|named| named.to_string())).map_err(|error| error.to_string()), bytes.len())
    }

    fn binary(version_command: u8, family: u8, tail: &[u8]) -> Vec<u8> {
        let length = u16::try_from(tail.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_command, family], &length, tail].concat()
    }

    const FOUR: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb];

    #[test]
    fn both_versions_name_somebody_and_take_no_byte_of_what_follows() {
        let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0x12, 0x34, 0, 80]].concat();
        let with_tlvs = [&FOUR[..], &[4; 500]].concat();
        for (header, named) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n".to_vec(), Some("203.0.113.7:4660")),
            (b"PROXY TCP6 2001:db8::1 ::1 4660 80\r\n".to_vec(), Some("[2001:db8::1]:4660")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (binary(0x21, 0x11, &FOUR), Some("203.0.113.7:4660")),
            (binary(0x21, 0x11, &with_tlvs), Some("203.0.113.7:4660")),
            (binary(0x21, 0x21, &six), Some("[2001:db8::1]:4660")),
            (binary(0x21, 0x31, &[b'/'; 216]), None),
            (binary(0x21, 0x00, &[]), None),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &FOUR), None),
        ] {
            let followed = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(reading(&followed), (Ok(named.map(str::to_owned)), 16), "{:?}", String::from_utf8_lossy(&header));
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE - 16 + 1));
        for (header, told) in [
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "does not begin"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00".to_vec(), "does not begin"),
            (b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), "does not begin"),
            (long.into_bytes(), "too long"),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\n\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4660\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 443 1\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4  203.0.113.7 10.0.0.1 4660 443\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 203.0.113.007 10.0.0.1 4660 443\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 2001:db8::1 ::1 4660 80\r\n".to_vec(), "malformed"),
            (b"PROXY TCP6 203.0.113.7 10.0.0.1 4660 443\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 04660 443\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 +4660 443\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 65536\r\n".to_vec(), "malformed"),
            (b"PROXY UDP4 203.0.113.7 10.0.0.1 4660 443\r\n".to_vec(), "malformed"),
            (b"PROXY UNKNOWNS\r\n".to_vec(), "malformed"),
            (binary(0x11, 0x11, &FOUR), "of a kind"),
            (binary(0x22, 0x11, &FOUR), "of a kind"),
            (binary(0x21, 0x12, &FOUR), "of a kind"),
            (binary(0x21, 0x01, &FOUR), "of a kind"),
            (binary(0x21, 0x11, &FOUR[..11]), "too short"),
            (binary(0x21, 0x21, &[0; 35]), "too short"),
            (binary(0x21, 0x31, &[0; 215]), "too short"),
            (binary(0x21, 0x11, &[0; TAIL + 1]), "too long"),
            (binary(0x21, 0x11, &FOUR)[..20].to_vec(), "eof"),
        ] {
            let error = reading(&header).0.unwrap_err();
            assert!(error.contains(told), "{:?}: {error}", String::from_utf8_lossy(&header));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_none_are_taken_beyond_the_bound(bytes in proptest::collection::vec(any::<u8>(), 0..400), start in 0..3_usize) {
            let start: &[u8] = [&b""[..], b"PROXY TCP4 ", &SIGNATURE][start];
            let all = [start, &bytes].concat();
            let (read, left) = reading(&all);
            prop_assert!(all.len() - left <= 16 + TAIL);
            if !start.starts_with(&SIGNATURE) {
                prop_assert!(all.len() - left <= LINE || read.is_ok());
            }
        }

        #[test]
        fn an_address_is_read_as_it_was_written(ip in any::<std::net::IpAddr>(), port in any::<u16>()) {
            let named = SocketAddr::new(ip, port).to_string();
            let (family, word, mut tail) = match ip {
                std::net::IpAddr::V4(ip) => (0x11, "TCP4", ip.octets().repeat(2)),
                std::net::IpAddr::V6(ip) => (0x21, "TCP6", ip.octets().repeat(2)),
            };
            let line = format!("PROXY {word} {ip} {ip} {port} 1\r\n");
            prop_assert_eq!(reading(line.as_bytes()), (Ok(Some(named.clone())), 0));
            tail.extend(port.to_be_bytes());
            tail.extend([0, 1]);
            prop_assert_eq!(reading(&binary(0x21, family, &tail)), (Ok(Some(named)), 0));
        }
    }
}
