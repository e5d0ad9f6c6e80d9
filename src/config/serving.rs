//! What is answered beside routes and endpoints: `hsts`, `health_path`, and who is sent on to https.

use std::time::Duration;

use http::HeaderValue;

use super::Routes;
use super::gateway::Gateway;
use super::reader::Section;
use crate::header::cookies::Secure;
use crate::request::CanonicalPath;
use crate::route::PathPattern;

const DAY: u64 = 24 * 60 * 60;
/// Ten years: who writes more meant something else.
const LONGEST: u64 = 10 * PRELOADED;
/// What browsers want of whoever is to be on the list that they are built with (<https://hstspreload.org>).
const PRELOADED: u64 = 365 * DAY;

/// `hsts`: the value of `Strict-Transport-Security` (RFC 6797 §6.1), ready-made.
pub(super) fn read_hsts(root: &Section<'_>, secure: Secure) -> Option<HeaderValue> {
    let value = root.parsed("hsts", parse_hsts)?;
    if secure == Secure::No {
        root.problem("hsts", "is for https, and public_url is plain http; leave it out, or write an https public_url");
    }
    Some(value)
}

fn parse_hsts(text: &str) -> Result<HeaderValue, String> {
    let wrong = || {
        format!(
            "expected a time of ten years at most, and words after it where they are meant: \"365d\", \"365d includeSubDomains preload\"; found {text:?}"
        )
    };
    let mut words = text.split_whitespace();
    let time = words.next().and_then(|time| humantime::parse_duration(time).ok()).map(|time: Duration| time.as_secs());
    let time = time.filter(|time| *time <= LONGEST).ok_or_else(wrong)?;
    let mut value = format!("max-age={time}");
    let (mut subdomains, mut preload) = (false, false);
    for word in words {
        let known = match word {
            "includeSubDomains" => &mut subdomains,
            "preload" => &mut preload,
            _ => return Err(wrong()),
        };
        if std::mem::replace(known, true) {
            return Err(wrong());
        }
        value.push_str("; ");
        value.push_str(word);
    }
    if preload && !(subdomains && time >= PRELOADED) {
        return Err("preload needs includeSubDomains and a year or more (\"365d includeSubDomains preload\"): browsers take nothing less"
            .to_owned());
    }
    HeaderValue::try_from(value).map_err(|_| wrong())
}

/// `health_path`: one path that answers by itself.
pub(super) fn read_health_path(root: &Section<'_>, prefix: &str) -> Option<String> {
    let path = root.parsed("health_path", |text| {
        let canonical = CanonicalPath::parse(text).is_ok_and(|path| path.as_str() == text);
        if canonical && text != "/" && !text.contains(['?', '#']) {
            Ok(text.to_owned())
        } else {
            Err(format!("expected a path of its own such as \"/ping\"; found {text:?}"))
        }
    })?;
    if CanonicalPath::parse(&path).is_ok_and(|path| path.under(prefix).is_some()) {
        root.problem(
            "health_path",
            format!("lies under prefix {prefix:?}, where the gateway's own endpoints are; choose another such as \"/ping\""),
        );
    }
    Some(path)
}

/// What has to fit to the rest of the config.
pub(super) fn fit<'a>(root: &Section<'_>, gateway: &Gateway, routes: Option<&Routes>, mut callbacks: impl Iterator<Item = &'a str>) {
    if !gateway.listeners.redirect_from.is_empty() && gateway.secure == Secure::No {
        root.problem("redirect_from", "sends people on to https, and public_url is plain http; leave it out, or write an https public_url");
    }
    let Some(path) = &gateway.health_path else { return };
    if callbacks.any(|callback| callback == path) {
        root.problem("health_path", format!("is the callback {path:?} of a provider, which it would hide; choose another"));
    }
    for route in routes.iter().flat_map(|routes| routes.table.routes()) {
        let own = path.trim_end_matches('/');
        if matches!(&route.path, PathPattern::Prefix(prefix) if prefix.trim_end_matches('/') == own) {
            root.problem("health_path", format!("is the path of route {:?}, which it would hide; choose another", route.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hsts_is_a_time_and_words_that_browsers_know() {
        for (text, value) in [
            ("365d", Some("max-age=31536000")),
            ("0s", Some("max-age=0")),
            ("180d includeSubDomains", Some("max-age=15552000; includeSubDomains")),
            ("730d includeSubDomains preload", Some("max-age=63072000; includeSubDomains; preload")),
            ("365d preload", None),
            ("364d includeSubDomains preload", None),
            ("365d includeSubDomains includeSubDomains", None),
            ("365d includesubdomains", None),
            ("365d; includeSubDomains", None),
            ("includeSubDomains 365d", None),
            ("31536000", None),
            ("", None),
        ] {
            assert_eq!(parse_hsts(text).ok(), value.map(HeaderValue::from_static), "{text}");
        }
    }
}
