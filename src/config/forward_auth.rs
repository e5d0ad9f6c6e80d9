//! `[forward_auth]`: how the proxy in front asks.

use super::reader::Section;

/// Which headers carry the request that a front proxy asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardAuthHeaders {
    /// `X-Original-Method`, `X-Original-URI`, `X-Forwarded-Host`, `X-Forwarded-Proto`: what our nginx snippet sets.
    Nginx,
    /// `X-Forwarded-Method`, `X-Forwarded-Uri`, `X-Forwarded-Host`, `X-Forwarded-Proto`: what Caddy's `forward_auth` sets.
    Caddy,
}

pub(super) fn read(root: &Section<'_>) -> ForwardAuthHeaders {
    let section = root.section("forward_auth");
    let words = [("nginx", ForwardAuthHeaders::Nginx), ("caddy", ForwardAuthHeaders::Caddy)];
    let headers = section.choice("headers", ForwardAuthHeaders::Nginx, &words);
    section.finish();
    headers
}
