//! A path in its one reading, and its route among many.

use doorward::request::{CanonicalPath, Host};
use doorward::route::{Access, PathPattern, Route, RouteTable};
use http::Method;

use crate::measure::{curve, step};

pub fn run() {
    let paths = ["/dashboard", "/api/v2/projects/1234/issues", "/caf%C3%A9/men%C3%BC/1", "/a//b/../c"];
    curve("route: a path is read", paths.map(|path| step(path, move || CanonicalPath::parse(path).unwrap())).into());

    let host = Host::parse("app.bench.test").unwrap();
    let tables = [1, 10, 100, 2_000].map(|count| {
        let path = |n| format!("/team-{n}/app");
        let route = |n| Route { path: PathPattern::Prefix(path(n)), ..Route::new(format!("route-{n}"), n, Access::Public) };
        let table = RouteTable::new((0..count).map(route).collect()).unwrap();
        (count, table, CanonicalPath::parse(&format!("{}/issues/1234", path(count / 2))).unwrap())
    });
    let look_up = |(count, table, path): &(usize, RouteTable, CanonicalPath)| {
        let found = table.select(&host, path, &Method::GET, None).map(|route| route.index);
        assert_eq!(found, Some(count / 2));
    };
    curve("route: it is looked up", tables.iter().map(|table| step(format!("of {}", table.0), move || look_up(table))).collect());
}
