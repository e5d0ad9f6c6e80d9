//! From where a route may be asked.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// `client` of a route: networks of which one has to hold the address that a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Of these.
    #[must_use]
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether this address lies in one; a mapped IPv4 address counts as IPv4. An address that is not known lies in none.
    #[must_use]
    pub fn hold(&self, address: Option<IpAddr>) -> bool {
        address.map(|address| address.to_canonical()).is_some_and(|address| self.0.iter().any(|network| network.contains(&address)))
    }

    /// Whether one address could lie in both.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|other| one.contains(other) || other.contains(one)))
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Networks {
        Networks::new(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn an_address_lies_in_a_network_and_an_unknown_one_in_none() {
        let held = networks(&["10.0.0.0/8", "2001:db8::/32"]);
        for (address, expected) in
            [("10.1.2.3", true), ("11.1.2.3", false), ("::ffff:10.1.2.3", true), ("2001:db8::1", true), ("2001:db9::1", false)]
        {
            assert_eq!(held.hold(Some(address.parse().unwrap())), expected, "{address}");
        }
        assert!(!held.hold(None));
    }

    #[test]
    fn networks_overlap_where_one_holds_the_other() {
        let ten = networks(&["10.0.0.0/8"]);
        assert!(ten.overlap(&networks(&["192.168.0.0/16", "10.1.0.0/16"])));
        assert!(networks(&["10.1.0.0/16"]).overlap(&ten));
        assert!(!ten.overlap(&networks(&["11.0.0.0/8", "2001:db8::/32"])));
    }
}
