//! Why a request belongs to one route and not to the others, for people.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;

use super::Route;
use super::table::{RouteTable, takes_method};
use crate::request::{CanonicalPath, Host};

/// What becomes of a route for one request. Of several things that do not fit the first in this order is told: host, path, method, address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is the request's.
    Selected,
    /// `host` is another.
    Host,
    /// `path` or `path_regex` does not match.
    Path,
    /// `methods` does not hold the method.
    Method,
    /// `client` does not hold the address, or the address is not known.
    Client,
    /// It would fit; one before it was taken.
    Later,
}

impl RouteTable {
    /// All routes in the order in which they are tried, each with what became of it. At most one is [`Fit::Selected`]: the one that
    /// [`RouteTable::select`] gives.
    #[must_use]
    pub fn trace(&self, host: &Host, path: &CanonicalPath, method: &Method, address: Option<IpAddr>) -> Vec<(&Arc<Route>, Fit)> {
        // What the look-up does not give on account of empty segments in the path is told as one that does not match.
        let mut taken = false;
        let selected = self.select(host, path, method, address).is_some();
        let mut fit = |route: &Arc<Route>| {
            if !route.host.matches(host) {
                Fit::Host
            } else if !route.path.matches(path) {
                Fit::Path
            } else if !takes_method(route, method) {
                Fit::Method
            } else if !route.networks.as_ref().is_none_or(|networks| networks.hold(address)) {
                Fit::Client
            } else if !selected {
                Fit::Path
            } else if std::mem::replace(&mut taken, true) {
                Fit::Later
            } else {
                Fit::Selected
            }
        };
        self.in_order().into_iter().map(|route| (route, fit(route))).collect()
    }
}
