//! The leg from a `[[route]]` to its upstream: `upstream_host`, `strip_prefix` and `rewrite`, `response_headers`.

use http::header::{self as h, HeaderMap, HeaderName, HeaderValue};

use super::reader::{Section, TrueOr};
use super::route_group::Entry;
use super::routes::Upstream;
use crate::header::{IdentityFamily, is_for_shared_caches, keep_private};
use crate::request::Host;
use crate::route::{Access, Leg, PathPattern, PathRule, ResponseHeader, Rewrite, Route, RouteTable, UpstreamHost};
use crate::upstream::UpstreamAddress;

/// The keys that say something of a request on its way to an upstream, or of its answer.
const KEYS: [&str; 4] = ["upstream_host", "strip_prefix", "rewrite", "response_headers"];

/// Reads them; `path`, `upstream` and `access` are what the route says of itself, where that was sound.
pub(super) fn read(section: &Section<'_>, path: Option<&PathPattern>, entries: Option<&[Entry]>, access: Option<&Access>) -> Leg {
    let upstream = entries.and_then(<[Entry]>::first).map(|entry| &entry.address);
    if entries.is_some_and(|entries| entries.len() > 1) && section.text("upstream_host").as_deref() == Some("upstream") {
        section.problem(
            "upstream_host",
            "is \"upstream\", and there are several; write \"keep\", or the name that all of them go by, such as \"app.internal\"",
        );
    }
    if !section.has("upstream") {
        for key in KEYS.into_iter().filter(|key| section.has(key)) {
            section.problem(key, "stands on a route without an upstream, which is for forward-auth only: nothing is sent on here; remove it, or write upstream");
        }
    }
    if let Some(UpstreamAddress::Static(_)) = upstream {
        for key in ["upstream_host", "strip_prefix", "rewrite"].into_iter().filter(|key| section.has(key)) {
            section.problem(key, "stands beside a static: upstream, to which no request is sent; remove it");
        }
    }
    let host = read_host(section, upstream);
    let of_addresses = entries.into_iter().flatten().filter_map(|entry| host_of(&entry.address));
    let told = match &host {
        UpstreamHost::Named(name) => name.to_str().ok().and_then(Host::parse),
        UpstreamHost::Keep => None,
    };
    let mut names: Vec<Host> = told.into_iter().chain(of_addresses).collect();
    names.dedup();
    Leg { host, names, path: read_path(section, path), response_headers: read_response_headers(section, access) }
}

fn read_host(section: &Section<'_>, upstream: Option<&UpstreamAddress>) -> UpstreamHost {
    let named = section.parsed("upstream_host", |word| match word {
        "keep" => Ok(UpstreamHost::Keep),
        "upstream" => match upstream.map(host_of) {
            Some(Some(host)) => named(&host),
            Some(None) => Err("a unix socket has no name to tell; write the name, such as \"app.internal\"".to_owned()),
            None => Ok(UpstreamHost::Keep),
        },
        name => match Host::parse(name) {
            Some(host) => named(&host),
            None => {
                Err(format!("expected \"keep\", \"upstream\", or a name such as \"app.internal\" or \"app.internal:8080\"; found {name:?}"))
            }
        },
    });
    named.unwrap_or_default()
}

fn named(host: &Host) -> Result<UpstreamHost, String> {
    HeaderValue::try_from(host.to_string()).map(UpstreamHost::Named).map_err(|_| "expected a host's name".to_owned())
}

/// What its URL has for a host: without the port that goes without saying.
fn host_of(address: &UpstreamAddress) -> Option<Host> {
    Host::parse(&address.authority()?)
}

fn read_path(section: &Section<'_>, path: Option<&PathPattern>) -> PathRule {
    let strip = section.true_or("strip_prefix", |text| {
        read_prefix(text).filter(|prefix| !prefix.is_empty()).ok_or_else(|| {
            format!("expected true, or what is to be taken off, such as \"/apps\", in its canonical spelling; found {text:?}")
        })
    });
    let rewrite = section.text("rewrite");
    if strip.is_some() && rewrite.is_some() {
        section.problem("rewrite", "stands beside strip_prefix; give one of them");
        return PathRule::AsItIs;
    }
    let rule = match (strip, rewrite, path) {
        (None, None, _) | (_, _, None) => Ok(PathRule::AsItIs),
        (Some(_), _, Some(PathPattern::Regex(_))) => Err((
            "strip_prefix",
            "stands beside path_regex, which has no prefix; write rewrite = \"/$1\" with a group in path_regex".to_owned(),
        )),
        (Some(strip), _, Some(PathPattern::Prefix(prefix))) => strip_of(strip, prefix).map_err(|wrong| ("strip_prefix", wrong)),
        (None, Some(text), Some(PathPattern::Regex(regex))) => {
            Rewrite::parse(&text, regex).map(PathRule::Captures).map_err(|wrong| ("rewrite", wrong))
        }
        (None, Some(text), Some(PathPattern::Prefix(prefix))) => rewrite_of(&text, prefix).map_err(|wrong| ("rewrite", wrong)),
    };
    rule.unwrap_or_else(|(key, wrong)| {
        section.problem(key, wrong);
        PathRule::AsItIs
    })
}

fn strip_of(strip: TrueOr<String>, prefix: &str) -> Result<PathRule, String> {
    let outside = match strip {
        TrueOr::True if prefix.is_empty() => {
            return Err("is true, and the route takes every path: there is no prefix; write path = \"/app/\"".to_owned());
        }
        TrueOr::True => prefix.to_owned(),
        TrueOr::Other(given) if prefix == given || prefix.strip_prefix(&*given).is_some_and(|rest| rest.starts_with('/')) => given,
        TrueOr::Other(given) => {
            return Err(format!("takes {given:?} off, and not every path of the route begins so: its path is \"{prefix}/\""));
        }
    };
    Ok(PathRule::Prefix { outside, inside: String::new() })
}

/// Beside `path`: what stands in place of the prefix.
fn rewrite_of(text: &str, prefix: &str) -> Result<PathRule, String> {
    if text.contains('$') {
        return Err(
            "holds a $, and the route has no path_regex whose groups it could name; write what stands in place of path, such as \"/v1\""
                .to_owned(),
        );
    }
    let inside = read_prefix(text).ok_or_else(|| {
        format!("expected a path in its canonical spelling, which stands in place of the route's, such as \"/v1\"; found {text:?}")
    })?;
    if inside == prefix {
        return Err("is the route's own path; remove it".to_owned());
    }
    Ok(PathRule::Prefix { outside: prefix.to_owned(), inside })
}

/// A canonical path without the slash at its end.
fn read_prefix(text: &str) -> Option<String> {
    match PathPattern::prefix(text) {
        Ok(PathPattern::Prefix(prefix)) if !prefix.contains("%2F") && !prefix.contains("%252F") => Some(prefix),
        _ => None,
    }
}

fn read_response_headers(section: &Section<'_>, access: Option<&Access>) -> Vec<ResponseHeader> {
    let everybodys = matches!(access, Some(Access::Public) | None);
    let family = IdentityFamily::new([]);
    let mut found = Vec::new();
    for (name, text) in section.texts("response_headers") {
        let header = HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| !name.contains('_'));
        let Some(header) = header else {
            section.problem("response_headers", format!("expected a header's name; found {name:?}"));
            continue;
        };
        if let Some(why) = not_ours_to_set(&header, &family) {
            section.problem("response_headers", format!("{name}: {why}; remove it"));
            continue;
        }
        if !everybodys && opens_caches(&header, &text) {
            section.problem(
                "response_headers",
                format!("{name}: answers of this route are made for somebody, and a cache would give them to others; remove it, or write \"private\" or \"no-store\" in Cache-Control"),
            );
            continue;
        }
        let value =
            HeaderValue::from_str(&text).ok().filter(|_| text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.trim() == text);
        if found.iter().any(|known: &ResponseHeader| known.name == header) {
            section.problem(
                "response_headers",
                format!("{name} is there twice, since capitals and small letters are the same in it; remove one of them"),
            );
            continue;
        }
        match value {
            Some(value) => found.push(ResponseHeader { name: header, value: (!text.is_empty()).then_some(value) }),
            None => section.problem(
                "response_headers",
                format!("{name}: expected printable ASCII without spaces at the ends, or \"\" to take it out"),
            ),
        }
    }
    found
}

/// Whether a cache that others share might keep an answer with this header, or without it.
fn opens_caches(name: &HeaderName, value: &str) -> bool {
    if *name != h::CACHE_CONTROL {
        return !value.is_empty() && is_for_shared_caches(name);
    }
    let mut headers = HeaderMap::new();
    headers.extend(HeaderValue::from_str(value).ok().map(|value| (h::CACHE_CONTROL, value)));
    let before = headers.clone();
    keep_private(&mut headers);
    value.is_empty() || headers != before
}

fn not_ours_to_set(name: &HeaderName, family: &IdentityFamily) -> Option<&'static str> {
    let of_connection = [h::CONNECTION, h::TE, h::TRAILER, h::TRANSFER_ENCODING, h::UPGRADE, h::PROXY_AUTHENTICATE, h::PROXY_AUTHORIZATION];
    let of_message = [h::CONTENT_LENGTH, h::CONTENT_ENCODING, h::CONTENT_RANGE, h::CONTENT_TYPE, h::DATE];
    let of_requests = [h::HOST, h::COOKIE, h::AUTHORIZATION];
    if of_connection.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection") {
        return Some("belongs to one connection and is set by whoever speaks there");
    }
    if of_message.contains(name) {
        return Some("says what this very answer is, which only the upstream knows");
    }
    if *name == h::SET_COOKIE || name.as_str().starts_with("sec-websocket-") {
        return Some("is a matter between the app and one browser");
    }
    if of_requests.contains(name) || family.holds(name) || matches!(name.as_str(), "traceparent" | "tracestate" | "dpop" | "dpop-nonce") {
        return Some("is a header of requests, or one that the gateway itself sets");
    }
    None
}

/// A route for everybody that takes its prefix off opens all of its upstream, also what another route protects; one that puts another in its
/// place opens what lies there.
pub(super) fn refuse_open_doors(root: &Section<'_>, routes: &RouteTable, upstreams: &[Upstream]) {
    let routes = routes.routes();
    let upstream = |route: &Route| route.upstream.and_then(|id| upstreams.get(id.0));
    let meet = |one: &Route, other: &Route| upstream(one).zip(upstream(other)).is_some_and(|(one, other)| one.meets(other));
    let protected = |route: &Route| matches!(route.access, Access::Protected(..));
    for open in routes.iter().filter(|route| !protected(route) && route.leg.path != PathRule::AsItIs) {
        let Some(opened) = open.leg.path.reaches(&open.path) else { continue };
        let guards = |other: &&std::sync::Arc<Route>| {
            let below = || other.leg.path.reaches(&other.path).is_some_and(|guarded| lies_below(&guarded, &opened));
            meet(other, open) && protected(other) && (opened.is_empty() || below())
        };
        if let Some(guarded) = routes.iter().find(guards) {
            let told = if opened.is_empty() {
                "passes every path of its upstream on, since its own prefix is taken off".to_owned()
            } else {
                format!("passes every path below {opened:?} of its upstream on, since that stands in place of its own")
            };
            root.problem(
                "route",
                format!(
                    "route {:?} is for everybody and {told}, also those that route {:?} guards; write rewrite = \"/static\" (what of the app is for everybody), or give them different upstreams",
                    open.id, guarded.id
                ),
            );
        }
    }
}

/// By whole segments.
fn lies_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
