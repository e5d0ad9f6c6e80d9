//! What a route says of its leg to the upstream: under which host and path the app sees a request, and what is set on its answers.

use http::{HeaderName, HeaderValue};

use super::PathRule;
use crate::request::Host;

/// `upstream_host`, `strip_prefix` or `rewrite`, and `response_headers` of a route.
#[derive(Clone, Debug, Default)]
pub struct Leg {
    /// Which `Host` the upstream sees.
    pub host: UpstreamHost,
    /// Names by which the upstream may call itself in its answers: its address, and the `Host` that it sees. Without a port where that is a
    /// scheme's own.
    pub names: Vec<Host>,
    /// What becomes of the path.
    pub path: PathRule,
    /// Set on the upstream's answers.
    pub response_headers: Vec<ResponseHeader>,
}

/// `Host` towards the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The one that the downstream asked for.
    #[default]
    Keep,
    /// This one.
    Named(HeaderValue),
}

/// One entry of `response_headers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// Its name.
    pub name: HeaderName,
    /// What it says in place of what the upstream sent; `None`: it is taken out.
    pub value: Option<HeaderValue>,
}

impl Leg {
    /// Whether the upstream believes itself elsewhere than where browsers see it, so that what it says of its own place has to be mended.
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        self.host != UpstreamHost::Keep || self.path != PathRule::AsItIs
    }
}
