//! The flow cookies of a browser.

use http::HeaderMap;

use crate::header::cookies::{self, CookieStyle};
use crate::login::{FLOWS_PER_BROWSER, FlowCookie, FlowHandle};

/// The cookie of one flow.
pub(super) fn flow(headers: &HeaderMap, style: &CookieStyle, handle: FlowHandle) -> Option<FlowCookie> {
    all(headers, style).find(|cookie| cookie.handle == handle)
}

/// Those that have to go so that one more fits. Browsers send the oldest first (RFC 6265 §5.4).
pub(super) fn surplus(headers: &HeaderMap, style: &CookieStyle) -> Vec<FlowCookie> {
    let held: Vec<FlowCookie> = all(headers, style).collect();
    let room = FLOWS_PER_BROWSER - 1;
    let over = held.len().saturating_sub(room);
    held.into_iter().take(over).collect()
}

/// The newest of them, as many as a browser may hold: a `Cookie` header is a stranger's.
pub(super) fn newest(headers: &HeaderMap, style: &CookieStyle) -> Vec<FlowCookie> {
    let mut held: Vec<FlowCookie> = all(headers, style).collect();
    let over = held.len().saturating_sub(FLOWS_PER_BROWSER);
    held.drain(..over);
    held
}

fn all<'a>(headers: &'a HeaderMap, style: &'a CookieStyle) -> impl Iterator<Item = FlowCookie> + 'a {
    cookies::pairs(headers).filter_map(|(name, value)| FlowCookie::parse(name.strip_prefix(style.flow_prefix.as_str())?, value))
}
