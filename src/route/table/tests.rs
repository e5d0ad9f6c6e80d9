use super::*;
use crate::credential::CredentialKind;
use crate::policy::{Policy, Rule};
use crate::route::{Accept, Fit, Networks};

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
    let route = table.select(&Host::parse(host).unwrap(), &CanonicalPath::parse(path).unwrap(), &method.parse().unwrap(), None);
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
fn what_others_read_in_another_way_is_for_the_same_people_or_for_nobody() {
    let staff =
        Access::Protected(Accept::of(vec![CredentialKind::Session]), Arc::new(Policy { id: "p".into(), rule: Rule::AnyAuthenticated }));
    let held = |id: &str, path: &str| Route { access: staff.clone(), ..route(id, None, path, &[]) };
    let kept = |one: Route| Route { encoded_slash: EncodedSlash::Keep, ..one };
    let table = RouteTable::new(vec![
        kept(route("all", None, "/", &[])),
        held("admin", "/admin/"),
        held("own", "/own/"),
        route("own-open", None, "/own/open/", &[]),
        route("styles", None, r"~/s/.*\.css", &[]),
        held("s", "/s/"),
        kept(held("one", "~/p/[^/]+")),
        held("p", "/p/"),
        kept(route("late", None, "~/late/.*", &[])),
    ])
    .unwrap();
    for (path, expected) in [
        ("/x;a=b/y", Some("all")),
        ("/admin/x;a=b", Some("admin")),
        ("/admin;a=b/x", None),
        ("/admin%3ba=b/x", None),
        ("/;a/admin/x", None),
        ("/own;a/x", None),
        // What is asked for goes by the stricter of the two.
        ("/own/open;a", Some("own")),
        ("/s/a.css", Some("styles")),
        ("/s/a;b.css", None),
        ("/s/a.css;b.css", Some("styles")),
        ("/x%2fy", Some("all")),
        ("/admin%2fx", None),
        ("/admin%252fx", None),
        ("/%2fadmin/x", None),
        ("/admin;a%2fx", None),
        ("/x%2f;a/admin", Some("all")),
        ("/p/a%2fb", Some("one")),
        ("/late%2fb", Some("all")),
        ("/late/a%2fb", Some("late")),
        // Refused by the route itself, which says why.
        ("/admin/a%2fb", Some("admin")),
    ] {
        assert_eq!(selected(&table, "GET", "h.test", path).as_deref(), expected, "{path}");
    }
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

fn near(id: &str, path: &str, methods: &[&str], networks: &[&str]) -> Route {
    let networks = Networks::new(networks.iter().map(|text| text.parse().unwrap()).collect());
    Route { networks: Some(networks), ..route(id, None, path, methods) }
}

#[test]
fn a_route_is_passed_over_for_whoever_is_not_in_its_networks() {
    let table = RouteTable::new(vec![
        route("all", None, "/", &[]),
        near("office", "/", &[], &["10.0.0.0/8"]),
        near("lab", "/", &["GET"], &["192.0.2.0/24"]),
        near("deep", "/a/", &[], &["10.1.0.0/16"]),
    ])
    .unwrap();
    let at = |method: &str, path: &str, address: Option<&str>| {
        let path = CanonicalPath::parse(path).unwrap();
        let address = address.map(|text| text.parse().unwrap());
        table.select(&Host::parse("h.test").unwrap(), &path, &method.parse().unwrap(), address).map(|route| route.id.clone()).unwrap()
    };
    for (method, path, address, expected) in [
        ("GET", "/x", Some("10.2.3.4"), "office"),
        ("GET", "/x", Some("192.0.2.9"), "lab"),
        ("POST", "/x", Some("192.0.2.9"), "all"),
        ("GET", "/x", Some("203.0.113.1"), "all"),
        ("GET", "/x", None, "all"),
        ("GET", "/a/b", Some("10.1.2.3"), "deep"),
        ("GET", "/a/b", Some("10.2.2.3"), "office"),
        ("GET", "/a/b", None, "all"),
    ] {
        assert_eq!(at(method, path, address), expected, "{method} {path} {address:?}");
    }
}

#[test]
fn networks_that_overlap_tie_and_others_do_not() {
    let ties = |one: Route, other: Route| RouteTable::new(vec![one, other]).err().map_or(0, |ties| ties.len());
    assert_eq!(ties(near("a", "/", &[], &["10.0.0.0/8"]), near("b", "/", &[], &["10.1.0.0/16"])), 1);
    assert_eq!(ties(near("a", "/", &[], &["10.0.0.0/8"]), near("b", "/", &[], &["11.0.0.0/8"])), 0);
    assert_eq!(ties(near("a", "/", &["GET"], &["10.0.0.0/8"]), near("b", "/", &["POST"], &["10.0.0.0/8"])), 0);
    assert_eq!(ties(near("a", "/", &[], &["10.0.0.0/8"]), route("b", None, "/", &[])), 0);
}

#[test]
fn what_is_reached_depends_on_the_address() {
    let table = RouteTable::new(vec![route("all", None, "/", &[]), near("office", "/", &[], &["10.0.0.0/8"])]).unwrap();
    let (host, path) = (Host::parse("h.test").unwrap(), CanonicalPath::parse("/x").unwrap());
    let reached = |address: Option<&str>| {
        let address = address.map(|text| text.parse().unwrap());
        table.reached(&host, &path, address).map(|route| route.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(reached(Some("10.0.0.1")), ["office"]);
    assert_eq!(reached(Some("11.0.0.1")), ["all"]);
    assert_eq!(reached(None), ["all"]);
}

#[test]
fn a_trace_says_of_every_route_why_and_selects_what_the_look_up_selects() {
    let table = RouteTable::new(vec![
        route("all", None, "/", &[]),
        route("deep", None, "/a/b/", &["POST"]),
        near("office", "/a/", &[], &["10.0.0.0/8"]),
        route("wild", Some("*.x.test"), "/a/", &[]),
        route("exact", Some("app.x.test"), "~/a/[0-9]+", &["GET"]),
        route("elsewhere", Some("other.test"), "/", &[]),
    ])
    .unwrap();
    let trace = |method: &str, host: &str, path: &str, address: Option<&str>| {
        let (host, path) = (Host::parse(host).unwrap(), CanonicalPath::parse(path).unwrap());
        let (method, address) = (method.parse().unwrap(), address.map(|text| text.parse().unwrap()));
        let trace = table.trace(&host, &path, &method, address);
        let taken: Vec<_> = trace.iter().filter(|(_, fit)| *fit == Fit::Selected).map(|(route, _)| route.id.clone()).collect();
        let selected = table.select(&host, &path, &method, address).map(|route| route.id.clone());
        assert_eq!(taken, selected.into_iter().collect::<Vec<_>>());
        trace.iter().map(|(route, fit)| (route.id.clone(), *fit)).collect::<Vec<_>>()
    };
    let expected = |fits: &[(&str, Fit)]| fits.iter().map(|(id, fit)| ((*id).to_owned(), *fit)).collect::<Vec<_>>();
    let order = ["exact", "elsewhere", "wild", "deep", "office", "all"];
    let zip = |fits: [Fit; 6]| expected(&order.into_iter().zip(fits).collect::<Vec<_>>());
    use Fit::{Client, Host as OtherHost, Later, Method as OtherMethod, Path, Selected};
    assert_eq!(trace("GET", "app.x.test", "/a/7", None), zip([Selected, OtherHost, Later, Path, Client, Later]));
    assert_eq!(trace("PUT", "app.x.test", "/a/b", None), zip([Path, OtherHost, Selected, OtherMethod, Client, Later]));
    assert_eq!(trace("GET", "h.test", "/a/b", Some("10.0.0.1")), zip([OtherHost, OtherHost, OtherHost, OtherMethod, Selected, Later]));
    assert_eq!(trace("GET", "h.test", "/b", Some("10.0.0.1")), zip([OtherHost, OtherHost, OtherHost, Path, Path, Selected]));
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        for host in ["app.x.test", "b.x.test", "other.test", "h.test"] {
            for path in ["/", "/a", "/a/1", "/a/b/c", "/z"] {
                for address in [None, Some("10.9.9.9"), Some("203.0.113.1")] {
                    trace(method, host, path, address);
                }
            }
        }
    }
}
