use super::super::tests::{load_text, problems};
use super::*;
use crate::header::IdentityHeader;

const TOP: &str =
    "public_url = \"https://app.test\"\n[provider]\nissuer = \"https://login.test\"\nclient_id = \"app\"\nclient_secret = \"s\"\n";
const ALLOWED: &str = "upstream = \"http://app.internal:8080\"\nallow = \"any-authenticated\"\n";

fn routes(tables: &str) -> Vec<std::sync::Arc<Route>> {
    let told = |problems: Vec<super::super::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    load_text("config.toml", &format!("{TOP}{tables}"), &[])
        .map(|config| config.routes.table.routes().to_vec())
        .unwrap_or_else(|problems| panic!("{tables}: {}", told(problems)))
}

fn route(keys: &str) -> std::sync::Arc<Route> {
    routes(&format!("[[route]]\n{keys}")).remove(0)
}

/// What is told of a route with these keys, as `KEY: MESSAGE`.
fn told(keys: &str) -> String {
    let found = problems(&format!("{TOP}[[route]]\n{keys}\n"));
    found.into_iter().map(|(path, message)| format!("{}: {message}", path.trim_start_matches("route[0]."))).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_host_is_kept_or_named() {
    let host = |keys: &str| {
        let route = route(keys);
        let names = route.leg.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match &route.leg.host {
            UpstreamHost::Keep => format!("keep, {names}"),
            UpstreamHost::Named(name) => format!("{}, {names}", name.to_str().unwrap()),
        }
    };
    let at = |address: &str, host: &str| format!("upstream = \"{address}\"\naccess = \"public\"\n{host}");
    for (address, key, expected) in [
        ("http://app.internal:8080", "", "keep, app.internal:8080"),
        ("http://app.internal", "upstream_host = \"keep\"", "keep, app.internal"),
        ("http://app.internal:8080", "upstream_host = \"upstream\"", "app.internal:8080, app.internal:8080"),
        ("https://app.internal", "upstream_host = \"upstream\"", "app.internal, app.internal"),
        ("http://app.internal:443", "upstream_host = \"upstream\"", "app.internal:443, app.internal:443"),
        ("http://[::1]:81", "upstream_host = \"upstream\"", "[::1]:81, [::1]:81"),
        ("http://app.internal", "upstream_host = \"Wiki.Test:81\"", "wiki.test:81, wiki.test:81 app.internal"),
        ("unix:/run/app.sock", "upstream_host = \"wiki.test\"", "wiki.test, wiki.test"),
    ] {
        let expected = if expected.starts_with("keep") { expected.to_owned() } else { deduped(expected) };
        assert_eq!(host(&at(address, key)), expected, "{address} {key}");
    }
    for (address, key, expected) in [
        ("http://a", "upstream_host = \"a b\"", "upstream_host: expected \"keep\", \"upstream\""),
        ("http://a", "upstream_host = \"http://a\"", "upstream_host: expected \"keep\", \"upstream\""),
        ("unix:/run/app.sock", "upstream_host = \"upstream\"", "upstream_host: a unix socket has no name"),
        ("static:204", "upstream_host = \"a\"", "upstream_host: stands beside a static: upstream"),
    ] {
        let found = told(&at(address, key));
        assert!(found.contains(expected), "{address} {key}: {found}");
    }
}

fn deduped(expected: &str) -> String {
    let (host, names) = expected.split_once(", ").unwrap();
    let mut names: Vec<_> = names.split(' ').collect();
    names.dedup();
    format!("{host}, {}", names.join(" "))
}

#[test]
fn what_is_taken_off_is_what_every_path_begins_with() {
    let rule = |keys: &str| match &route(&format!("{ALLOWED}{keys}")).leg.path {
        PathRule::Prefix { outside, inside } => format!("{outside} to {inside:?}"),
        PathRule::Captures(_) => "captures".to_owned(),
        PathRule::AsItIs => "as it is".to_owned(),
    };
    for (keys, expected) in [
        ("path = \"/apps/wiki/\"", "as it is"),
        ("path = \"/apps/wiki/\"\nstrip_prefix = true", "/apps/wiki to \"\""),
        ("path = \"/apps/wiki/\"\nstrip_prefix = \"/apps\"", "/apps to \"\""),
        ("path = \"/apps/wiki\"\nstrip_prefix = \"/apps/wiki/\"", "/apps/wiki to \"\""),
        ("path = \"/apps/wiki/\"\nrewrite = \"/v1\"", "/apps/wiki to \"/v1\""),
        ("path = \"/apps/wiki/\"\nrewrite = \"/\"", "/apps/wiki to \"\""),
        ("rewrite = \"/v1/\"", " to \"/v1\""),
        ("path_regex = \"/a/(.*)\"\nrewrite = \"/v1/$1\"", "captures"),
    ] {
        assert_eq!(rule(keys), expected, "{keys}");
    }
    for (keys, expected) in [
        ("path = \"/a/\"\nstrip_prefix = true\nrewrite = \"/b\"", "rewrite: stands beside strip_prefix"),
        ("path = \"/a/\"\nstrip_prefix = false", "strip_prefix: is false"),
        ("strip_prefix = true", "strip_prefix: is true, and the route takes every path"),
        ("path = \"/\"\nstrip_prefix = true", "strip_prefix: is true, and the route takes every path"),
        ("path = \"/a/\"\nstrip_prefix = \"/b\"", "strip_prefix: takes \"/b\" off"),
        ("path = \"/ab/\"\nstrip_prefix = \"/a\"", "strip_prefix: takes \"/a\" off"),
        ("path = \"/a/\"\nstrip_prefix = \"/a/b\"", "strip_prefix: takes \"/a/b\" off"),
        ("path = \"/a/\"\nstrip_prefix = \"/\"", "strip_prefix: expected true, or what is to be taken off"),
        ("path = \"/a/\"\nstrip_prefix = \"a\"", "strip_prefix: expected true, or what is to be taken off"),
        ("path_regex = \"/a/(.*)\"\nstrip_prefix = true", "strip_prefix: stands beside path_regex"),
        ("path_regex = \"/a/(.*)\"\nstrip_prefix = \"/a\"", "strip_prefix: stands beside path_regex"),
        ("path_regex = \"/a/(.*)/(.*)\"\nrewrite = \"/$3\"", "rewrite: names group $3, and path_regex has 2"),
        ("path_regex = \"/a/.*\"\nrewrite = \"/$1\"", "rewrite: names group $1, and path_regex has none"),
        ("path_regex = \"/a/(.*)\"\nrewrite = \"$1\"", "rewrite: expected a path"),
        ("path = \"/a/\"\nrewrite = \"/$1\"", "rewrite: holds a $"),
        ("path = \"/a/\"\nrewrite = \"b\"", "rewrite: expected a path in its canonical spelling"),
        ("path = \"/a/\"\nrewrite = \"/b/../c\"", "rewrite: expected a path in its canonical spelling"),
        ("path = \"/a/\"\nrewrite = \"/b%2fc\"", "rewrite: expected a path in its canonical spelling"),
        ("path = \"/a/\"\nrewrite = \"/b?c=d\"", "rewrite: expected a path in its canonical spelling"),
        ("path = \"/a/\"\nrewrite = \"/a/\"", "rewrite: is the route's own path"),
    ] {
        let found = told(&format!("{ALLOWED}{keys}"));
        assert!(found.contains(expected), "{keys}: {found:?}");
    }
    for key in ["upstream_host = \"a\"", "strip_prefix = true", "rewrite = \"/b\"", "response_headers = { Server = \"\" }"] {
        let found = told(&format!("path = \"/a/\"\nallow = \"any-authenticated\"\n{key}"));
        assert!(found.contains("stands on a route without an upstream"), "{key}: {found:?}");
    }
}

#[test]
fn a_public_prefix_does_not_open_what_another_route_guards() {
    let upstream = "upstream = \"http://127.0.0.1:1\"\n";
    let guarded = format!("[[route]]\nid = \"app\"\n{upstream}allow = \"any-authenticated\"\n");
    let open = |keys: &str| {
        let access = if keys.contains("access") { "" } else { "access = \"public\"\n" };
        format!("{guarded}[[route]]\nid = \"open\"\n{access}{keys}\n")
    };
    for keys in [
        format!("{upstream}path = \"/open/\"\nstrip_prefix = true"),
        format!("{upstream}path = \"/open/\"\nrewrite = \"/\""),
        format!("{upstream}access = \"optional\"\npath = \"/open/\"\nstrip_prefix = true"),
        format!("{upstream}path_regex = \"/open/(.*)\"\nrewrite = \"/$1\""),
    ] {
        let found = problems(&format!("{TOP}{}", open(&keys)));
        assert!(
            found
                .iter()
                .any(|(path, told)| path == "route" && told.contains("route \"open\" is for everybody") && told.contains("\"app\"")),
            "{keys}: {found:?}"
        );
    }
    for keys in [
        format!("{upstream}path = \"/open/\"\nrewrite = \"/static\""),
        format!("{upstream}path = \"/static/open/\"\nstrip_prefix = \"/static\""),
        "upstream = \"http://127.0.0.1:2\"\npath = \"/open/\"\nstrip_prefix = true".to_owned(),
    ] {
        assert_eq!(routes(&open(&keys)).len(), 2, "{keys}");
    }
}

#[test]
fn a_public_prefix_in_place_of_another_opens_what_lies_there() {
    let upstream = "upstream = \"http://127.0.0.1:1\"\n";
    let found = |guarded: &str, open: &str| {
        problems(&format!(
            "{TOP}[[route]]\nid = \"app\"\n{upstream}allow = \"any-authenticated\"\n{guarded}\n\
             [[route]]\nid = \"open\"\n{upstream}access = \"public\"\n{open}\n"
        ))
    };
    for (guarded, open) in [
        ("path = \"/app/admin/\"", "path = \"/open/\"\nrewrite = \"/app\""),
        ("path = \"/app/\"", "path = \"/open/\"\nrewrite = \"/app\""),
        ("path = \"/secure/\"\nrewrite = \"/app/admin\"", "path = \"/open/\"\nrewrite = \"/app\""),
        ("path = \"/apps/x/\"\nstrip_prefix = \"/apps\"", "path = \"/open/x/\"\nstrip_prefix = \"/open\""),
        ("path = \"/app/admin/\"", "path_regex = \"/open/(.*)\"\nrewrite = \"/app/$1\""),
    ] {
        let found = found(guarded, open);
        assert!(found.iter().any(|(path, told)| path == "route" && told.contains("guards")), "{guarded} {open}: {found:?}");
    }
    for (guarded, open) in [
        ("path = \"/appendix/\"", "path = \"/open/\"\nrewrite = \"/app\""),
        ("path = \"/\"", "path = \"/open/\"\nrewrite = \"/app\""),
        ("path = \"/app/\"", "path = \"/open/\"\nrewrite = \"/app/static\""),
        ("path = \"/app/admin/\"", "path_regex = \"/open/([a-z]+)\"\nrewrite = \"/app/x-$1\""),
    ] {
        assert_eq!(found(guarded, open), [], "{guarded} {open}");
    }
}

#[test]
fn response_headers_are_those_that_are_nobody_elses() {
    let found =
        route(&format!("{ALLOWED}response_headers = {{ \"X-Frame-Options\" = \"DENY\", Server = \"\" }}")).leg.response_headers.clone();
    let mut found: Vec<_> =
        found.iter().map(|header| (header.name.as_str(), header.value.as_ref().map(|value| value.to_str().unwrap()))).collect();
    found.sort();
    assert_eq!(found, [("server", None), ("x-frame-options", Some("DENY"))]);
    for name in [
        "Connection",
        "Transfer-Encoding",
        "Upgrade",
        "TE",
        "Trailer",
        "Keep-Alive",
        "Content-Length",
        "Content-Encoding",
        "Set-Cookie",
        "Host",
        "X-Forwarded-User",
        "X-Auth-Request-Email",
        "Doorward-Assertion",
        "X-Request-Id",
        "Remote-User",
        "Authorization",
        "a b",
        "X_Y",
        "Sec-WebSocket-Accept",
        "Proxy-Authenticate",
    ] {
        for value in ["x", ""] {
            let found = told(&format!("{ALLOWED}response_headers = {{ \"{name}\" = \"{value}\" }}"));
            assert!(found.starts_with("response_headers: ") && found.contains(name), "{name}: {found:?}");
        }
    }
    for value in ["ä", " x", "a\\tb", "a\\nb"] {
        let found = told(&format!("{ALLOWED}response_headers = {{ \"X-A\" = \"{value}\" }}"));
        assert!(found.contains("expected printable ASCII"), "{value}: {found:?}");
    }
}

#[test]
fn what_was_made_for_somebody_is_kept_out_of_shared_caches() {
    let set = |keys: &str, header: &str| told(&format!("upstream = \"http://a\"\n{keys}\nresponse_headers = {{ {header} }}"));
    for header in [
        "Cache-Control = \"public, max-age=60\"",
        "Cache-Control = \"max-age=60\"",
        "Cache-Control = \"private, s-maxage=60\"",
        "Cache-Control = \"\"",
        "CDN-Cache-Control = \"max-age=60\"",
        "X-Accel-Expires = \"60\"",
    ] {
        for access in ["allow = \"any-authenticated\"", "access = \"optional\""] {
            assert!(set(access, header).contains("made for somebody"), "{header}: {}", set(access, header));
        }
        assert_eq!(set("access = \"public\"", header), "", "{header}");
    }
    for header in ["Cache-Control = \"private, max-age=60\"", "Cache-Control = \"no-store\"", "X-Accel-Expires = \"\""] {
        assert_eq!(set("allow = \"any-authenticated\"", header), "", "{header}");
    }
}

#[test]
fn identity_headers_are_named_and_none_is_a_choice() {
    use IdentityHeader::{Email, Groups, PreferredUsername, User};
    for (key, expected) in [
        ("", &[User, Email, PreferredUsername, Groups][..]),
        ("identity_headers = [\"user\", \"email\"]", &[User, Email]),
        ("identity_headers = \"groups\"", &[Groups]),
        ("identity_headers = []", &[]),
    ] {
        assert_eq!(route(&format!("{ALLOWED}{key}")).identity_headers, expected, "{key}");
    }
    for (keys, expected) in [
        (format!("{ALLOWED}identity_headers = [\"name\"]"), "identity_headers: expected some of \"user\", \"email\""),
        (format!("{ALLOWED}identity_headers = [\"\"]"), "identity_headers: holds an empty item"),
        (
            "upstream = \"http://a\"\naccess = \"public\"\nidentity_headers = []".to_owned(),
            "identity_headers: stands beside access = \"public\"",
        ),
    ] {
        let found = told(&keys);
        assert!(found.contains(expected), "{keys}: {found}");
    }
}

#[test]
fn headers_of_ones_own_are_those_that_count_and_their_files_can_be_read() {
    let headers = |header: &str| told(&format!("{ALLOWED}headers = {{ {header} }}"));
    assert_eq!(headers("Authorization = \"Bearer {id_token}\""), "");
    for (header, expected) in [
        ("X-Forwarded-Host = \"x\"", "headers: X-Forwarded-Host is written by the gateway itself"),
        ("X-Forwarded-Prefix = \"/x\"", "headers: X-Forwarded-Prefix is written by the gateway itself"),
        ("Doorward-Assertion = \"x\"", "headers: Doorward-Assertion is written by the gateway itself"),
        ("X-Key = \"{file:/nowhere/key}\"", "headers: X-Key: /nowhere/key: cannot be read"),
        ("X-Key = \"{basic:a:/nowhere/key}\"", "headers: X-Key: /nowhere/key: cannot be read"),
        ("X-Key = \"{file:/dev/null}\"", "headers: X-Key: /dev/null: is empty"),
    ] {
        let found = headers(header);
        assert!(found.contains(expected), "{header}: {found}");
    }
    let public = told("upstream = \"http://a\"\naccess = \"public\"\nheaders = { X-A = \"1\" }");
    assert!(public.contains("headers: stands beside access = \"public\""), "{public}");
    let issuer = "[[token_issuer]]\nissuer = \"https://i.test\"\naudience = \"x\"\n";
    let proof = format!("{ALLOWED}accept = [\"bearer\"]\ndpop_proof = \"forward\"\nheaders = {{ Authorization = \"x\" }}\n{issuer}");
    assert!(told(&proof).contains("dpop_proof: sends the caller's token on"), "{}", told(&proof));
}
