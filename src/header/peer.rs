//! Who connected, and whether what they say of others counts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Whoever has this address: by the connection itself, or by the PROXY header before it.
    At(SocketAddr),
    /// A program of this machine, over a unix socket.
    Unix,
    /// Somebody for whom a proxy passes bytes on without saying who. The address is the proxy's; what comes is not the proxy's word, so
    /// that nothing in it is believed.
    Unnamed(IpAddr),
}

impl Peer {
    /// Its address: this machine's own for a unix socket. An IPv4 address stays one on a listener for both families.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        match self {
            Self::At(address) => address.ip().to_canonical(),
            Self::Unix => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::Unnamed(address) => address.to_canonical(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Unnamed(address) => write!(f, "somebody through {address}"),
        }
    }
}

/// One entry of `trusted_proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedPeer {
    /// An address or a network.
    Network(IpNet),
    /// `"unix"`: whoever may open a unix socket of ours.
    Unix,
}

/// `trusted_proxies`: peers whose forwarded headers count. Empty: nobody (CVE-2026-76835).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(pub Vec<TrustedPeer>);

impl TrustedProxies {
    /// Whether this peer is listed. A unix socket is this machine's, and yet no address that is listed speaks for it.
    #[must_use]
    pub fn hold(&self, peer: Peer) -> bool {
        match peer {
            Peer::At(address) => self.hold_address(address.ip()),
            Peer::Unix => self.0.contains(&TrustedPeer::Unix),
            Peer::Unnamed(_) => false,
        }
    }

    /// Whether this address is listed; a mapped IPv4 address counts as IPv4.
    #[must_use]
    pub fn hold_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|trusted| matches!(trusted, TrustedPeer::Network(network) if network.contains(&address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_peer_is_trusted_only_where_it_is_listed() {
        let network = |text: &str| TrustedPeer::Network(text.parse().unwrap());
        let at = |text: &str| Peer::At(text.parse().unwrap());
        let local = Ipv4Addr::LOCALHOST.into();
        let machine = TrustedProxies(vec![network("127.0.0.0/8"), network("::1/128")]);
        assert!(machine.hold(at("127.0.0.1:80")) && machine.hold(at("[::ffff:127.0.0.1]:80")) && machine.hold(at("[::1]:80")));
        assert!(!machine.hold(Peer::Unix), "no address stands for a unix socket");
        assert!(!machine.hold(Peer::Unnamed(local)) && machine.hold_address(local));
        let unix = TrustedProxies(vec![TrustedPeer::Unix]);
        assert!(unix.hold(Peer::Unix) && !unix.hold(at("127.0.0.1:80")) && !unix.hold(Peer::Unnamed(local)));
        assert!(!TrustedProxies::default().hold(Peer::Unix));
        assert_eq!(Peer::Unix.ip().to_string(), "127.0.0.1");
        assert_eq!(at("[::ffff:10.0.0.1]:80").ip().to_string(), "10.0.0.1");
    }
}
