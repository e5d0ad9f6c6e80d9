//! `[forward_auth]`: how the proxy in front asks.

use super::gateway::Gateway;
use super::reader::Section;
use crate::endpoint::{ForwardAuthSettings, ForwardedSet, InlineRules};
use crate::route::{LoginMode, PreflightRule, RouteTable};

pub(super) fn read(root: &Section<'_>) -> ForwardAuthSettings {
    let section = root.section("forward_auth");
    let set = section.choice("headers", ForwardedSet::Nginx, &ForwardedSet::ALL);
    let narrow = section.flag("narrow", false);
    if narrow && set == ForwardedSet::Envoy {
        section.problem(
            "narrow",
            "reads the query of the question, and Envoy's holds the browser's own; leave it out, and name the rules in routes",
        );
    }
    if narrow && !root.has("trusted_proxies") {
        section.problem("narrow", "counts from trusted_proxies only, and nobody is listed there; name the proxy that asks");
    }
    section.finish();
    ForwardAuthSettings { set, inline_rules: if narrow { InlineRules::Narrow } else { InlineRules::Refused } }
}

/// What the routes ask for and the set does not say.
pub(super) fn hold_against_routes(root: &Section<'_>, gateway: &Gateway, routes: &RouteTable) {
    if root.has("forward_auth") && !root.has("trusted_proxies") {
        root.warning(
            "trusted_proxies",
            "names nobody, so that every question of a front proxy is refused; name the proxy that asks, such as [\"127.0.0.1\"]",
        );
    }
    let set = gateway.forward_auth.set;
    if set.names_method() {
        return;
    }
    for route in routes.routes() {
        if route.methods.is_some() {
            root.problem(
                "forward_auth.headers",
                format!(
                    "{:?} does not say which method a request has, and route {:?} goes by methods; have the front proxy send X-Original-Method and \
                     the others of \"nginx\" (deploy/nginx/doorward.conf), or take methods out of the route",
                    set.word(),
                    route.id
                ),
            );
        }
        if route.login == LoginMode::Always {
            let counts = if route.upstream.is_some() { "counts only for what is proxied here" } else { "does nothing" };
            root.warning(
                "forward_auth.headers",
                format!(
                    "{:?} does not say which method a request has, so no question is known as one that reads: login = \"always\" of route {:?} {counts}; \
                     have the front proxy send the headers of \"nginx\", or remove it",
                    set.word(),
                    route.id
                ),
            );
        }
        if route.preflight == PreflightRule::Pass {
            root.warning(
                "forward_auth.headers",
                format!(
                    "{:?} does not say which method a request has, so no question is known as a preflight: preflight = \"pass\" of route {:?} counts \
                     only for what is proxied here",
                    set.word(),
                    route.id
                ),
            );
        }
    }
}
