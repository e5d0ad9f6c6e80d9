//! `callback` of `[provider]`: a redirect path of its own, for a registration that cannot be changed.

use super::gateway::Gateway;
use super::providers::Provider;
use super::reader::Section;
use super::token::TokenEndpoint;
use crate::request::CanonicalPath;
use crate::route::{PathPattern, RouteTable};

pub(super) fn read(section: &Section<'_>) -> Option<String> {
    section.parsed("callback", |text| {
        let canonical = CanonicalPath::parse(text).ok().filter(|path| path.as_str() == text && text.starts_with('/') && text != "/");
        canonical
            .map(|path| path.as_str().to_owned())
            .ok_or_else(|| format!("expected a path such as \"/auth/callback\", written as it is registered; found {text:?}"))
    })
}

/// The path, and nothing below it, is taken from every host and route: it must not be one that somebody else answers at.
pub(super) fn refuse_conflicts(
    root: &Section<'_>,
    gateway: &Gateway,
    providers: &[Provider],
    token: Option<&TokenEndpoint>,
    routes: &RouteTable,
) {
    for provider in providers {
        let (id, Some(callback)) = (&provider.id, &provider.callback) else { continue };
        let prefix = &gateway.prefix;
        let problem = |message: String| root.problem("provider", format!("callback {callback:?} of {id:?} {message}"));
        if callback == prefix || callback.starts_with(&format!("{prefix}/")) {
            problem(format!("lies under prefix {prefix:?}, where {prefix}/callback is already; leave it out, or change prefix"));
        }
        if token.is_some_and(|token| token.path.as_ref() == Some(callback)) {
            problem("is token.path; change one of them".to_owned());
        }
        let same = |path: &PathPattern| matches!(path, PathPattern::Prefix(path) if path == callback);
        if let Some(route) = routes.routes().iter().find(|route| same(&route.path)) {
            problem(format!("is where route {:?} begins, and the gateway itself answers there; change one of them", route.id));
        }
    }
}
