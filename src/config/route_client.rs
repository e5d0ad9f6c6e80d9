//! From where a request comes: `client` of a route, and `client_address`.

use std::net::IpAddr;

use http::HeaderName;
use ipnet::IpNet;

use super::reader::Section;
use super::route_parts::reserved;
use crate::header::AddressSource;
use crate::route::Networks;

/// `client` of a route.
pub(super) fn read_networks(section: &Section<'_>) -> Option<Networks> {
    let networks = section.parsed_list("client", |text| {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| format!("expected an address or network such as \"10.0.0.0/8\"; found {text:?}"))?;
        if network.prefix_len() == 0 {
            return Err(format!("{text} is everywhere; leave client out for that"));
        }
        // A typing error, more often than not.
        if network.trunc() != network {
            return Err(format!("expected {}, the network's own address; found {text:?}", network.trunc()));
        }
        Ok(network)
    });
    networks.map(Networks::new)
}

/// `client_address`.
pub(super) fn read_source(root: &Section<'_>) -> AddressSource {
    let source = root.parsed("client_address", |text| match text.to_ascii_lowercase().as_str() {
        "x-forwarded-for" => Ok(AddressSource::XForwardedFor),
        "forwarded" => Ok(AddressSource::Forwarded),
        other => {
            let name = HeaderName::from_bytes(other.as_bytes()).ok().filter(|name| !reserved(name) && name != http::header::AUTHORIZATION);
            name.map(AddressSource::Single).ok_or_else(|| {
                format!(
                    "expected \"x-forwarded-for\", \"forwarded\" or a header that holds one address, such as \"x-real-ip\"; found {text:?}"
                )
            })
        }
    });
    if source.is_some() && !root.has("trusted_proxies") {
        root.problem("client_address", "is believed from trusted_proxies only, and there are none; name the proxies that stand in front");
    }
    source.unwrap_or(AddressSource::XForwardedFor)
}
