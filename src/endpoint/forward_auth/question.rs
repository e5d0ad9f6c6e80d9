//! Which requests are a front proxy's questions: those to `auth` and `forward`, and to what lies under `forward` where the set is Envoy's.

use http::Uri;

use super::sets::ForwardedSet;
use crate::endpoint::Gateway;
use crate::request::CanonicalPath;

const FORWARD: &str = "/forward";

/// How a challenge is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::endpoint) enum Style {
    /// 401.
    Bare,
    /// The redirect, for a browser that navigates.
    Redirects,
}

/// A question, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::endpoint) struct Question {
    /// `auth` or `forward` of ours, without what is appended: for the log.
    pub(in crate::endpoint) path: CanonicalPath,
    pub(super) style: Style,
    /// The path that Envoy has appended, as it came. The query is then that of the request that is asked about.
    pub(super) appended: Option<String>,
}

/// Which of the two endpoints a request is for, whatever its method: a front proxy may ask with that of the request it asks about. They are
/// told by the path alone, before the host is judged.
///
/// What is appended is told by the bytes as they came, before anything is decoded or resolved: else `/forward/../auth` would be another
/// question, and whoever keeps browsers away from all that begins with `forward/` would not know each spelling of it.
pub(in crate::endpoint) fn asked(gateway: &Gateway, uri: &Uri) -> Option<Question> {
    let prefix = &gateway.settings.prefix;
    if gateway.settings.forward_auth.set == ForwardedSet::Envoy
        && let Some(rest) = uri.path().strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix(FORWARD))
        && rest.starts_with('/')
    {
        let path = CanonicalPath::parse(&format!("{prefix}{FORWARD}")).ok()?;
        return Some(Question { path, style: Style::Redirects, appended: Some(rest.to_owned()) });
    }
    // Asked of every request, most of which are for an app.
    if CanonicalPath::is_elsewhere(uri.path(), prefix) {
        return None;
    }
    let path = CanonicalPath::parse(uri.path()).ok()?;
    let style = match path.under(prefix)? {
        "/auth" => Style::Bare,
        FORWARD => Style::Redirects,
        _ => return None,
    };
    Some(Question { path, style, appended: None })
}

/// What the log says of an endpoint that there is not.
pub(in crate::endpoint) fn unknown(name: &str) -> &'static str {
    if name.starts_with("/forward/") {
        "no endpoint of this name; forward_auth.headers = \"envoy\" takes questions with a path appended"
    } else {
        "no endpoint of this name"
    }
}
