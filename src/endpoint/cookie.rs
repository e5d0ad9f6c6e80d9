//! The flow cookies of a browser.

use http::HeaderMap;

use crate::header::cookies::{self, CookieStyle};
use crate::login::{FLOWS_PER_BROWSER, FlowCookie, FlowHandle};

/// The cookie of one flow.
pub(super) fn flow(headers: &HeaderMap, style: &CookieStyle, handle: FlowHandle) -> Option<FlowCookie> {
    all(headers, style).find(|cookie| cookie.handle == handle)
}

/// Those that have to go so that one more fits. Browsers send the oldest first (RFC 6265 §5.4). A `Cookie` header is a stranger's, and each of
/// these costs a look at the store: what a browser never holds goes with the next logins.
pub(super) fn surplus(headers: &HeaderMap, style: &CookieStyle) -> Vec<FlowCookie> {
    let held: Vec<FlowCookie> = all(headers, style).collect();
    let room = FLOWS_PER_BROWSER - 1;
    let over = held.len().saturating_sub(room);
    held.into_iter().take(over.min(FLOWS_PER_BROWSER)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::cookies::{SameSite, Secure};

    #[test]
    fn the_oldest_go_and_of_a_flood_no_more_than_a_browser_may_hold() {
        let style = CookieStyle::new(Secure::No, None, "", SameSite::Lax);
        let cookies: Vec<FlowCookie> = (0..500).map(|_| FlowCookie::new()).collect();
        for (held, expected) in
            [(0, 0), (FLOWS_PER_BROWSER - 1, 0), (FLOWS_PER_BROWSER, 1), (FLOWS_PER_BROWSER + 2, 3), (500, FLOWS_PER_BROWSER)]
        {
            let line: Vec<String> =
                cookies[..held].iter().map(|one| format!("{}{}={}", style.flow_prefix, one.handle.write(), one.value())).collect();
            let mut headers = HeaderMap::new();
            headers.insert(http::header::COOKIE, line.join("; ").parse().unwrap());
            let gone: Vec<FlowHandle> = surplus(&headers, &style).iter().map(|one| one.handle).collect();
            assert_eq!(gone, cookies[..expected].iter().map(|one| one.handle).collect::<Vec<_>>(), "{held}");
            assert_eq!(newest(&headers, &style).len(), held.min(FLOWS_PER_BROWSER));
        }
    }
}
