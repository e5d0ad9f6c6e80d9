//! What a route says for itself: `denied`, `cors_origins`, `log`; and a route that answers everybody alike.

use std::collections::BTreeSet;
use std::sync::Arc;

use url::Url;

use super::pages::{plain_text, web_address};
use super::reader::Section;
use crate::route::{Access, DeniedText, PermitLines, Route};
use crate::upstream::UpstreamAddress;

/// `denied`.
pub(super) fn read_denied(section: &Section<'_>) -> Option<Arc<DeniedText>> {
    let there = section.has("denied");
    let table = section.section("denied");
    let denied = DeniedText { text: table.parsed("text", plain_text), link: table.parsed("link", web_address) };
    table.finish();
    if there && section.has("access") {
        section.problem("denied", "stands beside access, where nobody is refused; remove one of them");
    }
    if there && !table.has("text") && !table.has("link") {
        section.problem("denied", "says nothing; expected text, link or both");
    }
    there.then(|| Arc::new(denied))
}

/// `cors_origins`.
pub(super) fn read_cors_origins(section: &Section<'_>) -> BTreeSet<String> {
    let origins = section.parsed_list("cors_origins", |text| match text {
        "*" => Err("\"*\" is everybody, and browsers take it for nobody where cookies are sent; name the origins".to_owned()),
        "null" => Err("\"null\" is every sandboxed page there is; name the origins".to_owned()),
        text => parse_origin(text),
    });
    if origins.is_some() && section.text("access").as_deref() == Some("public") {
        section.problem("cors_origins", "stands beside access = \"public\", where all answers are the app's; remove one of them");
    }
    origins.unwrap_or_default().into_iter().collect()
}

/// An origin as browsers write it.
pub(super) fn parse_origin(text: &str) -> Result<String, String> {
    let url =
        Url::parse(text).ok().filter(|_| !text.contains('*')).filter(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/");
    let origin = url.map(|url| url.origin().ascii_serialization()).filter(|origin| origin.eq_ignore_ascii_case(text.trim_end_matches('/')));
    origin.ok_or_else(|| format!("expected an origin such as \"https://app.example.com\"; found {text:?}"))
}

/// `log`.
pub(super) fn read_log(section: &Section<'_>) -> PermitLines {
    if section.flag("log", true) { PermitLines::Written } else { PermitLines::LeftOut }
}

/// A proxy that asks at a route of its own whether a request may pass gets 200 about the wrong path: there are endpoints for such questions.
pub(super) fn warn_of_static(root: &Section<'_>, routes: &[Arc<Route>], upstreams: &[super::Upstream]) {
    let answers_all = |route: &Route| {
        let upstream = route.upstream.and_then(|id| upstreams.get(id.0)).and_then(super::Upstream::address);
        matches!(upstream, Some(UpstreamAddress::Static(status)) if status.is_success()) && matches!(route.access, Access::Protected(..))
    };
    if !root.has("trusted_proxies") {
        return;
    }
    for route in routes.iter().filter(|route| answers_all(route)) {
        root.warning(
            "route",
            format!(
                "route {:?} answers everybody who may pass with a fixed status, and there are trusted_proxies: a front proxy that asks here is told of this path and not of the one that it asks about; have it ask at prefix + \"/auth\" or \"/forward\"",
                route.id
            ),
        );
    }
}
