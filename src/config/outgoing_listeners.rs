//! `[[outgoing]]`: listeners for calls that leave, each with its hosts and the token that is added.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::idle;
use super::listeners::parse_unix;
use super::outbound::Outbounds;
use super::outgoing::read_outgoing_tls;
use super::providers::parse_id;
use super::reader::Section;
use super::route_group::Entry;
use super::routes::{Routes, Upstream};
use crate::route::{InNameOf, OutboundId, OutgoingHost, OutgoingHosts, OutgoingScheme, UpstreamId};
use crate::upstream::{GroupSettings, UpstreamAddress};

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its name in logs and metrics.
    pub id: String,
    /// Where programs of this machine reach it.
    pub listen: LocalListen,
    /// Where calls may go.
    pub hosts: OutgoingHosts,
    /// The token that is added.
    pub outbound: OutboundId,
}

/// A place that only programs of this machine reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalListen {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A unix socket and its mode.
    Unix(PathBuf, u32),
}

/// Reads the listeners. Their hosts are upstreams like those of routes, after them in the same list.
pub(super) fn read(root: &Section<'_>, outbounds: &Outbounds, mut routes: Option<&mut Routes>) -> Vec<Outgoing> {
    let mut ids: BTreeSet<String> = routes.iter().flat_map(|routes| routes.table.routes()).map(|route| route.id.clone()).collect();
    let mut listeners = Vec::new();
    for (index, section) in root.sections("outgoing").iter().enumerate() {
        let id = section.parsed("id", parse_id).unwrap_or_else(|| format!("outgoing-{index}"));
        if !ids.insert(id.clone()) {
            section.problem("id", format!("{id:?} names another listener or route already"));
        }
        let listen = section.required_text("listen", "127.0.0.1:4182").and_then(|_| section.parsed("listen", parse_listen));
        let hosts = if section.has("hosts") {
            section.parsed_list("hosts", parse_host)
        } else {
            section.problem("hosts", "is missing: where calls may go, such as hosts = [\"https://api.example.com\"]");
            None
        };
        let tls = read_outgoing_tls(section);
        if !section.has("outbound") {
            section.problem("outbound", "is missing: the token to add, as the name of an [outbound.NAME]");
        }
        let outbound = outbounds.named(section);
        if let Some((_, outbound)) = outbound
            && outbound.in_name_of == InNameOf::Caller
        {
            section.problem(
                "outbound",
                "is a token_exchange, and a call that leaves shows no token to exchange; name one of kind \"client_credentials\"",
            );
        }
        let schemes = hosts.iter().flatten().map(|(_, scheme, _)| match scheme {
            OutgoingScheme::Http => "http://",
            OutgoingScheme::Https => "https://",
        });
        idle::tls_beside_http(section, schemes);
        section.finish();
        let mut taken: Vec<OutgoingHost> = Vec::new();
        for (host, scheme, address) in hosts.into_iter().flatten() {
            let known = taken.iter().any(|known| known.name == host.0 && known.port == host.1);
            if known {
                section.problem("hosts", format!("{}:{} is there twice", host.0, host.1));
            }
            if let Some(routes) = routes.as_deref_mut() {
                let upstream = upstream_of(
                    routes,
                    Upstream { entries: vec![Entry { address, weight: 1 }], tls: tls.clone(), settings: GroupSettings::default() },
                );
                taken.push(OutgoingHost { name: host.0, port: host.1, scheme, upstream });
            }
        }
        if let (Some(listen), Some((index, _))) = (listen, outbound) {
            listeners.push(Outgoing { id, listen, hosts: OutgoingHosts::new(taken), outbound: OutboundId(index) });
        }
    }
    listeners
}

fn upstream_of(routes: &mut Routes, upstream: Upstream) -> UpstreamId {
    let at = routes.upstreams.iter().position(|known| *known == upstream).unwrap_or_else(|| {
        routes.upstreams.push(upstream);
        routes.upstreams.len() - 1
    });
    UpstreamId(at)
}

/// Whoever reaches the listener gets the token added to what they ask: nobody from elsewhere may.
fn parse_listen(text: &str) -> Result<LocalListen, String> {
    if let Some(rest) = text.strip_prefix("unix:") {
        return match parse_unix(rest) {
            Some((path, mode)) => Ok(LocalListen::Unix(path, mode)),
            None => {
                Err(format!("expected \"unix:/run/doorward/outgoing.sock\", with ?mode=0660 where others are to use it; found {text:?}"))
            }
        };
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(LocalListen::Tcp(address)),
        Ok(address) => Err(format!(
            "{address} is reached from other machines, and whoever reaches it calls with the gateway's token; expected a loopback address such as \"127.0.0.1:4182\", or a unix socket"
        )),
        Err(_) => Err(format!(
            "expected a loopback address and port such as \"127.0.0.1:4182\", or \"unix:/run/doorward/outgoing.sock\"; found {text:?}"
        )),
    }
}

type Read = ((String, u16), OutgoingScheme, UpstreamAddress);

/// A host without a scheme is called by https.
fn parse_host(text: &str) -> Result<Read, String> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let address = UpstreamAddress::parse(&with_scheme).map_err(|error| format!("{error}; found {text:?}"))?;
    let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match &address {
        UpstreamAddress::Http { host, port } => Ok(((bracketed(host), *port), OutgoingScheme::Http, address.clone())),
        UpstreamAddress::Https { host, port } => Ok(((bracketed(host), *port), OutgoingScheme::Https, address.clone())),
        UpstreamAddress::H2c { .. } | UpstreamAddress::H2 { .. } | UpstreamAddress::Unix(_) | UpstreamAddress::Static(_) => {
            Err(format!("expected hosts such as \"https://api.example.com\" or \"http://10.0.0.5:8080\"; found {text:?}"))
        }
    }
}
