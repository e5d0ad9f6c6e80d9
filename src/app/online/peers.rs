//! Whoever gets a connection and no question: upstreams, the servers of a Redis over TLS, endpoints that tokens come from.

use url::Url;

use super::{Around, Findings, Verdict};
use crate::config::{Config, ForeignKind, OutboundPlace, StoreKind};
use crate::provider::probe;
use crate::provider::tls::TlsSettings;
use crate::upstream::{self, UpstreamAddress};

/// Somebody to be reached.
pub(super) struct Peer {
    pub(super) about: String,
    pub(super) place: Place,
    pub(super) names: Names,
}

/// Who says where its name leads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Whoever says it for requests: `dns_servers`, where the config has any.
    OfUpstreams,
    /// The system.
    OfOthers,
}

/// Where.
pub(super) enum Place {
    Tcp(String, u16),
    Tls(String, u16, TlsSettings),
    Unix(std::path::PathBuf),
}

/// Whoever the config names, each once.
pub(super) fn of(config: &Config) -> Vec<Peer> {
    let mut peers: Vec<Peer> = config
        .routes
        .upstreams
        .iter()
        .flat_map(|upstream| upstream.entries.iter().map(move |entry| (upstream, &entry.address)))
        .filter_map(|(upstream, address)| {
            let place = match address {
                UpstreamAddress::Http { host, port } | UpstreamAddress::H2c { host, port } => Place::Tcp(host.clone(), *port),
                UpstreamAddress::Https { host, port } | UpstreamAddress::H2 { host, port } => {
                    Place::Tls(host.clone(), *port, upstream.tls.clone())
                }
                UpstreamAddress::Unix(path) => Place::Unix(path.clone()),
                UpstreamAddress::Static(_) => return None,
            };
            Some(Peer { about: format!("upstream {address}"), place, names: Names::OfUpstreams })
        })
        .collect();
    if let StoreKind::Redis(redis) = &config.store.kind {
        let secured = redis.servers.urls().iter().filter_map(|url| Url::parse(url).ok()).filter(|url| url.scheme() == "rediss");
        peers.extend(secured.filter_map(|url| at("store", &url, 6379, &redis.tls)));
    }
    for outbound in &config.outbound {
        if let OutboundPlace::Url(url) = &outbound.place {
            peers.extend(at(&format!("outbound {}", outbound.name), url, 443, &outbound.tls));
        }
    }
    for foreign in config.token.iter().flat_map(|token| &token.foreign) {
        let url = match &foreign.kind {
            ForeignKind::Facebook { graph_url, .. } => graph_url,
            ForeignKind::Check { check_url, .. } => check_url,
            ForeignKind::Exchange { .. } => continue,
        };
        peers.extend(at(&format!("foreign_token {}", foreign.id), url, 443, &foreign.tls));
    }
    peers
}

/// Where a URL leads.
pub(super) fn at(about: &str, url: &Url, port_of_tls: u16, tls: &TlsSettings) -> Option<Peer> {
    let host = url.host_str()?.to_owned();
    let place = match url.scheme() {
        "http" | "redis" => Place::Tcp(host, url.port_or_known_default().unwrap_or(80)),
        _ => Place::Tls(host, url.port_or_known_default().unwrap_or(port_of_tls), tls.clone()),
    };
    Some(Peer { about: about.to_owned(), place, names: Names::OfOthers })
}

/// Opens a connection and closes it.
pub(super) async fn reach(around: &Around, peer: Peer) -> Findings {
    let mut found = Findings::default();
    let limit = around.limit;
    let at = match (&peer.place, peer.names) {
        (Place::Tcp(host, _) | Place::Tls(host, _, _), Names::OfUpstreams) => {
            let asked = tokio::time::timeout(limit, upstream::addresses_of(host, &around.config.gateway.dns_servers)).await;
            match asked.unwrap_or_else(|_| Err(format!("no answer within {limit:?}"))) {
                Ok(addresses) => addresses,
                Err(error) => {
                    found.add(Verdict::Problem, &peer.about, format!("where {host} leads cannot be looked up: {error}"));
                    return found;
                }
            }
        }
        _ => Vec::new(),
    };
    let to = |host, port| probe::Peer { host, port, at: &at };
    let reached = match &peer.place {
        Place::Tcp(host, port) => probe::tcp(to(host, *port), limit).await.map(|_| format!("takes connections at {host}:{port}")),
        Place::Tls(host, port, tls) => {
            let pin = probe::tls(to(host, *port), tls, limit).await;
            pin.map(|pin| format!("takes connections at {host}:{port}; its key, for tls.pin_sha256: {pin}"))
                .map_err(|error| format!("{host}:{port}: {error}"))
        }
        Place::Unix(path) => {
            tokio::net::UnixStream::connect(path).await.map(|_| "takes connections".to_owned()).map_err(|error| error.to_string())
        }
    };
    match reached {
        Ok(text) => found.add(Verdict::Ok, &peer.about, text),
        Err(error) => found.add(Verdict::Problem, &peer.about, error),
    }
    found
}
