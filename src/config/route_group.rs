//! Where a route leads: `upstream` with its addresses, and how requests are spread over them: `balance`, `ejection`, `health_check`,
//! `connections`; `timeouts`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode};

use super::outgoing::read_outgoing_tls;
use super::reader::{Item, Section};
use super::routes::Upstream;
use crate::provider::tls::TlsSettings;
use crate::request::Host;
use crate::route::{Route, RouteTable, Timeouts};
use crate::upstream::{Balance, Ejection, GroupSettings, HealthCheck, UpstreamAddress};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const TENTH: Duration = Duration::from_millis(100);
const WEIGHTS: std::ops::RangeInclusive<u64> = 1..=1000;

/// One address of an `upstream`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub address: UpstreamAddress,
    /// Its share of the requests, beside those of the others.
    pub weight: u32,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            1 => self.address.fmt(f),
            weight => write!(f, "{} (weight {weight})", self.address),
        }
    }
}

/// Its address, or all of them and how one is chosen.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self.entries.len() {
            1 => f.write_str(&entries),
            _ => write!(f, "one of {entries} ({})", self.settings.balance.as_str()),
        }
    }
}

/// Reads `upstream` and what belongs to it. At the top (`own` is false) `tls` is the listener's, and there is nothing but addresses.
pub(super) fn read(section: &Section<'_>, own: bool) -> Option<Upstream> {
    let tls = if own { read_outgoing_tls(section) } else { TlsSettings::default() };
    let entries = read_entries(section);
    let settings = if own { read_settings(section, entries.as_deref()) } else { GroupSettings::default() };
    let entries = entries?;
    if own && section.has("tls") && !entries.iter().all(|entry| entry.address.is_tls()) {
        section.problem("tls", "stands beside an upstream that is not https:// (or h2://); remove it, or write upstream = \"https://…\"");
    }
    Some(Upstream { entries, tls, settings })
}

fn read_entries(section: &Section<'_>) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut sound = true;
    let items = section.items("upstream")?;
    let alone = items.len() == 1;
    for item in items {
        let entry = match item {
            Item::Text(text) => match parse_upstream(&text) {
                Ok(address) => Some(Entry { address, weight: 1 }),
                Err(error) => {
                    section.problem("upstream", error);
                    None
                }
            },
            Item::Table(table) => {
                if !table.has("url") {
                    table.problem("url", "is missing; for example: { url = \"http://10.0.0.5:8080\", weight = 3 }");
                }
                let address = table.parsed("url", parse_upstream);
                let weight = u32::try_from(table.number("weight", 1, WEIGHTS)).unwrap_or(1);
                if alone && table.has("weight") {
                    table.problem("weight", "stands beside no other address, which would get the rest; remove it, or write several");
                }
                table.finish();
                address.map(|address| Entry { address, weight })
            }
        };
        match entry {
            Some(entry) if entries.iter().any(|known: &Entry| known.address == entry.address) => {
                section.problem("upstream", format!("{} is there twice; write it once, with a weight", entry.address));
                sound = false;
            }
            Some(entry) => entries.push(entry),
            None => sound = false,
        }
    }
    sound.then_some(entries).filter(|entries| are_of_one_kind(section, entries))
}

/// What has no scheme is told as it was found; what has one may hold a password.
fn parse_upstream(text: &str) -> Result<UpstreamAddress, String> {
    let bare = !text.contains("//") && !text.contains('@');
    UpstreamAddress::parse(text).map_err(|error| if bare { format!("{error}; found {text:?}") } else { error.to_string() })
}

fn are_of_one_kind(section: &Section<'_>, entries: &[Entry]) -> bool {
    let [first, _, ..] = entries else { return true };
    if entries.iter().any(|entry| matches!(entry.address, UpstreamAddress::Static(_))) {
        section.problem("upstream", "holds a static: answer beside other addresses; it stands alone, since nobody is asked there");
        return false;
    }
    let kind = |entry: &Entry| std::mem::discriminant(&entry.address);
    if entries.iter().any(|entry| kind(entry) != kind(first)) {
        section.problem("upstream", "mixes kinds of addresses; expected all of one kind, such as http:// or https:// throughout");
        return false;
    }
    true
}

/// Whether there is one address and never another: what chooses between several says nothing there.
fn is_one_place(entries: &[Entry]) -> bool {
    match entries {
        [entry] => match &entry.address {
            UpstreamAddress::Http { host, .. }
            | UpstreamAddress::Https { host, .. }
            | UpstreamAddress::H2c { host, .. }
            | UpstreamAddress::H2 { host, .. } => host.parse::<IpAddr>().is_ok(),
            UpstreamAddress::Unix(_) | UpstreamAddress::Static(_) => true,
        },
        _ => false,
    }
}

fn read_settings(section: &Section<'_>, entries: Option<&[Entry]>) -> GroupSettings {
    let words = [Balance::LeastOutstanding, Balance::RoundRobin, Balance::Sticky].map(|balance| (balance.as_str(), balance));
    let balance = section.choice("balance", Balance::default(), &words);
    let ejection = read_ejection(section);
    let check = read_check(section);
    let connections = section.has("connections").then(|| section.number("connections", 100, 1..=100_000));
    let settings =
        GroupSettings { balance, ejection, check, connections: connections.and_then(|connections| usize::try_from(connections).ok()) };
    let keys = ["balance", "ejection", "health_check"].into_iter().filter(|key| section.has(key));
    if !section.has("upstream") {
        for key in keys.chain(["connections"].into_iter().filter(|key| section.has(key))) {
            section.problem(key, "stands on a route without an upstream, which is for forward-auth only; remove it, or write upstream");
        }
        return settings;
    }
    let Some(entries) = entries else { return settings };
    if is_one_place(entries) {
        for key in keys {
            section.problem(
                key,
                "stands beside a single address, which is asked in any case; remove it, or write several addresses or a name",
            );
        }
    }
    if settings.connections.is_some() && matches!(entries, [Entry { address: UpstreamAddress::Static(_), .. }]) {
        section.problem("connections", "stands beside a static: upstream, to which no request is sent; remove it");
    }
    settings
}

fn read_ejection(section: &Section<'_>) -> Ejection {
    let table = section.section("ejection");
    let default = Ejection::default();
    let failures = u32::try_from(table.number("failures", default.failures.into(), 0..=1000)).unwrap_or(default.failures);
    let time = table.duration("time", default.time, SECOND..=HOUR);
    let most = table.duration("most", default.most.max(time), SECOND..=24 * HOUR);
    table.finish();
    if failures == 0 && (table.has("time") || table.has("most")) {
        table.problem("failures", "is 0, which leaves no address out, and beside it stands for how long; remove one of them");
    }
    if most < time {
        table.problem("most", "is shorter than time; expected the longest time that an address is left out");
    }
    Ejection { failures, time, most }
}

fn read_check(section: &Section<'_>) -> Option<HealthCheck> {
    let there = section.has("health_check");
    let table = section.section("health_check");
    let path = table.parsed("path", |text| match text.parse::<PathAndQuery>() {
        Ok(path) if text.starts_with('/') => Ok(path),
        _ => Err(format!("expected a path such as \"/healthz\"; found {text:?}")),
    });
    let host = table.parsed("host", |text| match Host::parse(text).map(|host| HeaderValue::try_from(host.to_string())) {
        Some(Ok(host)) => Ok(host),
        _ => Err(format!("expected a host's name, such as \"app.internal\"; found {text:?}")),
    });
    let interval = table.duration("interval", 5 * SECOND, TENTH..=HOUR);
    let timeout = table.duration("timeout", (2 * SECOND).min(interval), TENTH..=HOUR);
    let status = table.has("status").then(|| table.number("status", 200, 200..=599));
    let times = |key, default| u32::try_from(table.number(key, default, 1..=100)).unwrap_or(1);
    let (healthy_after, unhealthy_after) = (times("healthy_after", 2), times("unhealthy_after", 3));
    table.finish();
    if timeout > interval {
        table.problem("timeout", "is longer than interval, from one check to the next; expected at most as long");
    }
    if there && !table.has("path") {
        table.problem("path", "is missing: what each address is asked for, such as \"/healthz\"");
    }
    let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    path.map(|path| HealthCheck { path, host, interval, timeout, status, healthy_after, unhealthy_after })
}

/// `connections` is what an address takes in all: routes that share one agree on it.
pub(super) fn refuse_two_limits(root: &Section<'_>, routes: &RouteTable, upstreams: &[Upstream]) {
    let limited: Vec<(&Route, &Upstream, usize)> = routes
        .routes()
        .iter()
        .filter_map(|route| {
            let upstream = upstreams.get(route.upstream?.0)?;
            Some((&**route, upstream, upstream.settings.connections?))
        })
        .collect();
    for (place, (route, upstream, most)) in limited.iter().enumerate() {
        let other = limited.iter().take(place).find(|(_, other, other_most)| other_most != most && other.meets(upstream));
        if let Some((other, _, other_most)) = other {
            root.problem(
                "route",
                format!(
                    "route {:?} has connections = {most} and route {:?} {other_most}, and they share an address, which counts all of both; write the same number in both",
                    route.id, other.id
                ),
            );
        }
    }
}

/// `timeouts`.
pub(super) fn read_timeouts(section: &Section<'_>, upstream: Option<&UpstreamAddress>) -> Timeouts {
    let table = section.section("timeouts");
    let time = |key: &str, usual: Duration| table.has(key).then(|| table.duration(key, usual, TENTH..=24 * HOUR));
    let timeouts =
        Timeouts { connect: time("connect", 5 * SECOND), response: time("response", 60 * SECOND), idle: time("idle", 60 * SECOND) };
    table.finish();
    if section.has("timeouts") {
        match upstream {
            None if !section.has("upstream") => {
                section.problem(
                    "timeouts",
                    "stands on a route without an upstream, which is for forward-auth only; remove it, or write upstream",
                );
            }
            Some(UpstreamAddress::Static(_)) => {
                section.problem("timeouts", "stands beside a static: upstream, to which no request is sent; remove it");
            }
            _ => {}
        }
    }
    timeouts
}

/// `dns_servers`, at the top.
pub(super) fn read_dns_servers(root: &Section<'_>) -> Vec<SocketAddr> {
    let servers = root.parsed_list("dns_servers", |text| {
        let server = text.parse::<SocketAddr>().ok().or_else(|| text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 53)));
        server
            .filter(|server| server.port() != 0)
            .ok_or_else(|| format!("expected addresses such as \"10.0.0.10\" or \"10.0.0.10:53\"; found {text:?}"))
    });
    servers.unwrap_or_default()
}

#[cfg(test)]
mod tests;
