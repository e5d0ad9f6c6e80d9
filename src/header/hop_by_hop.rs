//! Headers that concern one connection only (RFC 9110 §7.6.1).

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};

/// Removes them, and whatever any `Connection` line names. It runs before ours are set, so `Connection: X-Forwarded-User` removes nothing of
/// ours. `Upgrade` is kept aside and given back: the one who forwards decides about it. `TE: trailers` is kept as just that.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    // One look at the names is cheaper than a search for each of them, and most messages hold `Connection: keep-alive` at most.
    match headers.keys().filter(|name| is_hop_by_hop(name)).count() {
        0 => return None,
        1 if headers.get_all(CONNECTION).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
            && headers.remove(CONNECTION).is_some() =>
        {
            return None;
        }
        _ => {}
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    let upgrades = named.contains(&UPGRADE);
    let upgrade = headers.remove(UPGRADE).filter(|_| upgrades);
    let trailers = headers
        .get_all(TE)
        .iter()
        .any(|value| value.to_str().is_ok_and(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))));
    for name in named {
        // Not even a `Connection` line takes away what frames the message or names the host.
        if name != http::header::HOST && name != http::header::CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    for name in [CONNECTION, TE, TRANSFER_ENCODING, PROXY_AUTHENTICATE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        headers.remove(name);
    }
    // `Trailer` announces what hyper sends after the body; it stays where trailers do.
    if !headers.contains_key(TRAILER) && !trailers {
        return upgrade;
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    upgrade
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "te" | "transfer-encoding" | "upgrade" | "keep-alive" | "proxy-authenticate" | "proxy-connection" | "http2-settings"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_line_counts_and_upgrade_is_given_back() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, x-a"),
            ("connection", "X-B, upgrade, content-length"),
            ("upgrade", "websocket"),
            ("x-a", "1"),
            ("x-b", "1"),
            ("x-c", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, Trailers"),
            ("content-length", "3"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        assert_eq!(remove_hop_by_hop(&mut headers).unwrap(), "websocket");
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "te", "x-c"]);
        assert_eq!(headers["te"], "trailers");
    }

    #[test]
    fn an_upgrade_that_connection_does_not_name_is_none() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        assert_eq!(remove_hop_by_hop(&mut headers), None);
        assert!(headers.is_empty());
    }
}
