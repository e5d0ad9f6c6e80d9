//! Precedence: exact host before wildcard before none; then `path_regex` in file order; then the longest `path`. A route whose methods do not
//! fit is passed over.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::Method;

use super::{HostPattern, PathPattern, Route};
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
                    same.push(route);
                }
            }
        }
        table.wildcard.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        if ties.is_empty() { Ok(table) } else { Err(ties) }
    }

    /// The route of a request, or none.
    #[must_use]
    pub fn select(&self, host: &Host, path: &CanonicalPath, method: &Method) -> Option<&Arc<Route>> {
        self.exact
            .get(host.name())
            .and_then(|paths| paths.select(path, method))
            .or_else(|| {
                let close =
                    self.wildcard.iter().filter(|(suffix, _)| host.name().len() > suffix.len() && host.name().ends_with(suffix.as_str()));
                close.filter_map(|(_, paths)| paths.select(path, method)).next()
            })
            .or_else(|| self.any.select(path, method))
    }

    /// The routes that requests for this path can reach, by whatever method, best first.
    pub fn reached<'a>(&'a self, host: &'a Host, path: &'a CanonicalPath) -> impl Iterator<Item = &'a Arc<Route>> {
        let mut over = false;
        self.in_order()
            .into_iter()
            .filter(|route| route.host.matches(host) && route.path.matches(path))
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
    fn select(&self, path: &CanonicalPath, method: &Method) -> Option<&Arc<Route>> {
        let takes = |route: &&Arc<Route>| route.methods.as_ref().is_none_or(|methods| methods.contains(method) || reads(methods, method));
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

/// HEAD is GET without the body (RFC 9110 §9.3.2): a rule for one holds for the other.
fn reads(methods: &[Method], method: &Method) -> bool {
    method == Method::HEAD && methods.contains(&Method::GET)
}

fn overlap(first: &Route, second: &Route) -> bool {
    match (&first.methods, &second.methods) {
        (Some(first), Some(second)) => {
            let shared = first.iter().any(|method| second.contains(method) || reads(second, method));
            shared || second.iter().any(|method| reads(first, method))
        }
        (None, _) | (_, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Access;

    fn route(id: &str, host: Option<&str>, path: &str, methods: &[&str]) -> Route {
        Route {
            host: host.map_or(HostPattern::Any, |host| HostPattern::parse(host).unwrap()),
            path: match path.strip_prefix('~') {
                Some(regex) => PathPattern::regex(regex).unwrap(),
                None => PathPattern::prefix(path).unwrap(),
            },
            methods: (!methods.is_empty()).then(|| methods.iter().map(|method| method.parse().unwrap()).collect()),
            ..Route::new(id, 0, Access::Public)
        }
    }

    fn selected(table: &RouteTable, method: &str, host: &str, path: &str) -> Option<String> {
        let route = table.select(&Host::parse(host).unwrap(), &CanonicalPath::parse(path).unwrap(), &method.parse().unwrap());
        route.map(|route| route.id.clone())
    }

    #[test]
    fn host_then_regex_then_longest_path() {
        let table = RouteTable::new(vec![
            route("any", None, "/", &[]),
            route("any-deep", None, "/a/b/", &[]),
            route("wild", Some("*.x.test"), "/a/", &[]),
            route("wild-close", Some("*.y.x.test"), "/", &[]),
            route("exact", Some("app.x.test"), "/", &[]),
            route("exact-a", Some("app.x.test"), "/a/", &["GET"]),
            route("exact-regex", Some("app.x.test"), "~/a/[0-9]+", &[]),
            route("exact-regex-later", Some("app.x.test"), "~/a/.*", &["DELETE"]),
        ])
        .unwrap();
        for (method, host, path, expected) in [
            ("GET", "other.test", "/a/b/c", Some("any-deep")),
            ("GET", "other.test", "/a/b", Some("any-deep")),
            ("GET", "other.test", "/a/bc", Some("any")),
            ("GET", "q.x.test", "/a/z", Some("wild")),
            ("GET", "q.x.test", "/b", Some("any")),
            ("GET", "q.y.x.test", "/a/z", Some("wild-close")),
            ("GET", "x.test", "/a/z", Some("any")),
            ("GET", "app.x.test:8443", "/a/z", Some("exact-a")),
            ("HEAD", "app.x.test", "/a/z", Some("exact-a")),
            ("POST", "app.x.test", "/a/z", Some("exact")),
            ("POST", "app.x.test", "/a/77", Some("exact-regex")),
            ("DELETE", "app.x.test", "/a/z", Some("exact-regex-later")),
            ("GET", "app.x.test", "/a", Some("exact-a")),
        ] {
            assert_eq!(selected(&table, method, host, path).as_deref(), expected, "{method} {host}{path}");
        }
    }

    #[test]
    fn a_regex_matches_the_whole_path_and_no_query() {
        let table = RouteTable::new(vec![route("status", None, "~/api/.*/status", &[])]).unwrap();
        assert_eq!(selected(&table, "GET", "h.test", "/api/x/status").as_deref(), Some("status"));
        for path in ["/api/private/secret", "/api/x/status/more", "/x/api/y/status"] {
            assert_eq!(selected(&table, "GET", "h.test", path), None, "{path}");
        }
        assert!(CanonicalPath::parse("/api/private/secret?path=/status").is_err());
    }

    #[test]
    fn a_tie_names_both() {
        let tie = RouteTable::new(vec![
            route("one", Some("a.test"), "/x/", &["GET", "POST"]),
            route("two", Some("a.test"), "/x", &["POST"]),
            route("three", Some("b.test"), "/x/", &["POST"]),
            route("four", Some("a.test"), "/x/", &["PUT"]),
        ]);
        let ties = tie.unwrap_err();
        assert_eq!(ties.len(), 1);
        assert_eq!((ties[0].first.as_str(), ties[0].second.as_str()), ("one", "two"));
    }

    #[test]
    fn patterns_say_what_they_expected() {
        for host in ["", "https://a.test", "a.test:80", "*a.test", "a.*.test", "*."] {
            assert!(HostPattern::parse(host).is_err(), "{host}");
        }
        for path in ["", "orders", "/a//b", "/a/../b", "/%61", "/a?b"] {
            assert!(PathPattern::prefix(path).is_err(), "{path}");
        }
        assert!(PathPattern::regex("(").is_err());
        assert!(PathPattern::regex("/a)|(?:/.*").is_err());
    }
}
