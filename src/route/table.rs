//! Precedence: exact host before wildcard before none; then `path_regex` in file order; then the longest `path`; at one path a route that names
//! networks before one that does not. A route whose methods or networks do not fit is passed over.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Method;

use super::{Access, EncodedSlash, HostPattern, PathPattern, Route};
use crate::request::{CanonicalPath, Host};

/// All routes, arranged so that a look-up costs the segments of the path, not the number of routes.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    exact: HashMap<String, Paths>,
    /// Longest suffix first: the closest wildcard wins.
    wildcard: Vec<(String, Paths)>,
    any: Paths,
}

#[derive(Clone, Debug, Default)]
struct Paths {
    regexes: Vec<Arc<Route>>,
    prefixes: HashMap<String, Vec<Arc<Route>>>,
}

/// Two routes that one request could match equally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    /// `id` of the first in the file.
    pub first: String,
    /// `id` of the second.
    pub second: String,
    /// What they share.
    pub matches: String,
}

impl fmt::Display for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "routes {:?} and {:?} match the same requests ({})", self.first, self.second, self.matches)
    }
}

impl RouteTable {
    /// Arranges the routes.
    ///
    /// # Errors
    /// Every pair of routes that one request could match equally.
    pub fn new(routes: Vec<Route>) -> Result<Self, Vec<Tie>> {
        let mut table = Self::default();
        let mut ties = Vec::new();
        for route in routes {
            let route = Arc::new(route);
            table.routes.push(Arc::clone(&route));
            let paths = match &route.host {
                HostPattern::Any => &mut table.any,
                HostPattern::Exact(name) => table.exact.entry(name.clone()).or_default(),
                HostPattern::Wildcard(suffix) => {
                    let at = table.wildcard.iter().position(|(known, _)| known == suffix).unwrap_or_else(|| {
                        table.wildcard.push((suffix.clone(), Paths::default()));
                        table.wildcard.len() - 1
                    });
                    match table.wildcard.get_mut(at) {
                        Some((_, paths)) => paths,
                        None => continue,
                    }
                }
            };
            match &route.path {
                PathPattern::Regex(_) => paths.regexes.push(route),
                PathPattern::Prefix(prefix) => {
                    let same = paths.prefixes.entry(prefix.clone()).or_default();
                    ties.extend(same.iter().filter(|other| overlap(other, &route)).map(|other| Tie {
                        first: other.id.clone(),
                        second: route.id.clone(),
                        matches: format!("{}, path {}", route.host, route.path),
                    }));
                    // Who names networks means an exception for those who are there.
                    let at = if route.networks.is_some() { same.iter().position(|other| other.networks.is_none()) } else { None };
                    same.insert(at.unwrap_or(same.len()), route);
                }
            }
        }
        table.wildcard.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        if ties.is_empty() { Ok(table) } else { Err(ties) }
    }

    /// The route of a request, or none. A path with empty segments has one only where it has the same one without them, and one with `;` or
    /// escaped slashes only where those who read these in another way find nothing there that is for others. Without an address no route that
    /// names networks fits.
    #[must_use]
    pub fn select(&self, host: &Host, path: &CanonicalPath, method: &Method, address: Option<IpAddr>) -> Option<&Arc<Route>> {
        let find = |path: &CanonicalPath| self.find(host, path, method, address);
        let found = find(path)?;
        // An upstream may merge slashes that were kept: what it would then serve has to be for the same people.
        if let Some(merged) = path.merged()
            && !find(&merged).is_some_and(|other| Arc::ptr_eq(found, other))
        {
            return None;
        }
        // It may look for `/admin;x` where `/admin` is, as servlet containers do.
        let same = |other: &Arc<Route>| Arc::ptr_eq(found, other) || matches!(other.access, Access::Public);
        if let Some(plain) = path.without_parameters()
            && !find(&plain).is_some_and(same)
        {
            return None;
        }
        // And for `/admin%2Fx` where `/admin/x` is. What goes by an expression before others has been told apart by it.
        if found.encoded_slash == EncodedSlash::Keep
            && let Some(opened) = path.opened()
        {
            let before = |other: &Arc<Route>| self.in_order().into_iter().find(|one| Arc::ptr_eq(one, found) || Arc::ptr_eq(one, other));
            let kept = |other: &Arc<Route>| same(other) || before(other).is_some_and(|first| Arc::ptr_eq(first, found));
            let plain = opened.without_parameters();
            if ![Some(&opened), plain.as_ref()].into_iter().flatten().all(|path| find(path).is_none_or(kept)) {
                return None;
            }
        }
        Some(found)
    }

    fn find(&self, host: &Host, path: &CanonicalPath, method: &Method, address: Option<IpAddr>) -> Option<&Arc<Route>> {
        let fits = |route: &Route| takes_method(route, method) && takes_address(route, address);
        self.exact
            .get(host.name())
            .and_then(|paths| paths.select(path, fits))
            .or_else(|| {
                let close =
                    self.wildcard.iter().filter(|(suffix, _)| host.name().len() > suffix.len() && host.name().ends_with(suffix.as_str()));
                close.filter_map(|(_, paths)| paths.select(path, fits)).next()
            })
            .or_else(|| self.any.select(path, fits))
    }

    /// The routes that requests for this path from this address can reach, by whatever method, best first.
    pub fn reached<'a>(&'a self, host: &'a Host, path: &'a CanonicalPath, address: Option<IpAddr>) -> impl Iterator<Item = &'a Arc<Route>> {
        let mut over = false;
        self.in_order()
            .into_iter()
            .filter(move |route| route.host.matches(host) && route.path.matches(path) && takes_address(route, address))
            .take_while(move |route| !std::mem::replace(&mut over, route.methods.is_none()))
    }

    /// Whether some route names this host.
    #[must_use]
    pub fn names_host(&self, host: &Host) -> bool {
        self.exact.contains_key(host.name())
            || self.wildcard.iter().any(|(suffix, _)| host.name().len() > suffix.len() && host.name().ends_with(suffix.as_str()))
    }

    /// All routes in file order.
    #[must_use]
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// All routes in the order in which they are tried, for `check`.
    #[must_use]
    pub fn in_order(&self) -> Vec<&Arc<Route>> {
        let mut exact: Vec<_> = self.exact.iter().collect();
        exact.sort_by_key(|(name, _)| name.as_str());
        let groups = exact.into_iter().map(|(_, paths)| paths).chain(self.wildcard.iter().map(|(_, paths)| paths)).chain([&self.any]);
        groups.flat_map(Paths::in_order).collect()
    }
}

impl Paths {
    fn select(&self, path: &CanonicalPath, fits: impl Fn(&Route) -> bool) -> Option<&Arc<Route>> {
        let takes = |route: &&Arc<Route>| fits(route);
        if let Some(route) = self.regexes.iter().filter(|route| route.path.matches(path)).find(takes) {
            return Some(route);
        }
        // From the whole path up to the root, a segment less each time.
        let mut prefix = path.as_str().trim_end_matches('/');
        loop {
            if let Some(route) = self.prefixes.get(prefix).and_then(|routes| routes.iter().find(takes)) {
                return Some(route);
            }
            prefix = prefix.get(..prefix.rfind('/')?)?;
        }
    }

    fn in_order(&self) -> Vec<&Arc<Route>> {
        let mut prefixes: Vec<_> = self.prefixes.iter().collect();
        prefixes.sort_by_key(|(prefix, _)| (std::cmp::Reverse(prefix.len()), prefix.as_str()));
        self.regexes.iter().chain(prefixes.into_iter().flat_map(|(_, routes)| routes)).collect()
    }
}

pub(super) fn takes_method(route: &Route, method: &Method) -> bool {
    route.methods.as_ref().is_none_or(|methods| methods.contains(method) || reads(methods, method))
}

fn takes_address(route: &Route, address: Option<IpAddr>) -> bool {
    route.networks.as_ref().is_none_or(|networks| networks.hold(address))
}

/// HEAD is GET without the body (RFC 9110 §9.3.2): a rule for one holds for the other.
fn reads(methods: &[Method], method: &Method) -> bool {
    method == Method::HEAD && methods.contains(&Method::GET)
}

fn overlap(first: &Route, second: &Route) -> bool {
    let addresses = match (&first.networks, &second.networks) {
        (Some(first), Some(second)) => first.overlap(second),
        (None, None) => true,
        // The one that names networks goes first.
        (Some(_), None) | (None, Some(_)) => false,
    };
    addresses && methods_overlap(first, second)
}

fn methods_overlap(first: &Route, second: &Route) -> bool {
    match (&first.methods, &second.methods) {
        (Some(first), Some(second)) => {
            let shared = first.iter().any(|method| second.contains(method) || reads(second, method));
            shared || second.iter().any(|method| reads(first, method))
        }
        (None, _) | (_, None) => true,
    }
}

#[cfg(test)]
mod tests;
