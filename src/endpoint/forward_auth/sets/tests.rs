//! How a URL is split, and what is said to whoever sets a front proxy up.

use super::*;

#[test]
fn a_url_is_split_where_its_bytes_say_so_and_its_path_stays_as_it_came() {
    for (url, expected) in [
        ("https://app.test/", Some(("app.test", "/"))),
        ("http://App.Test:8443/a/../b//c?x=/y&z", Some(("app.test:8443", "/a/../b//c?x=/y&z"))),
        ("https://app.test//evil.test/x", Some(("app.test", "//evil.test/x"))),
        ("https://[::1]:80/%2e%2E/\u{e4}", Some(("[::1]:80", "/%2e%2E/\u{e4}"))),
        ("https://app.test/a#b", Some(("app.test", "/a#b"))),
        ("https://app.test", None),
        ("https://app.test?x=/y", None),
        ("https://app.test#/y", None),
        ("https://user@app.test/x", None),
        ("https://app.test\\evil.test/x", None),
        ("https://app.test, evil.test/x", None),
        ("https:///x", None),
        ("https:/app.test/x", None),
        ("HTTPS://app.test/x", None),
        ("//app.test/x", None),
        ("/x", None),
        ("app.test/x", None),
        ("ftp://app.test/x", None),
        ("", None),
    ] {
        let found = of_url(url).ok().map(|(host, target)| (host.to_string(), target));
        assert_eq!(found, expected.map(|(host, target)| (host.to_owned(), target.to_owned())), "{url}");
    }
}

#[test]
fn a_refusal_names_what_came_and_the_set_that_would_fit() {
    let nginx = ["x-original-method", "x-original-uri", "x-forwarded-host", "x-forwarded-proto"];
    let caddy = ["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host", "x-forwarded-proto"];
    for (set, came, fits) in [
        (ForwardedSet::Nginx, &caddy[..], Some("caddy")),
        (ForwardedSet::Nginx, &["x-forwarded-uri"], Some("oauth2-proxy")),
        (ForwardedSet::Nginx, &["x-original-url", "x-original-method"], Some("ingress-nginx")),
        (ForwardedSet::Nginx, &["x-original-method", "x-forwarded-host"], None),
        (ForwardedSet::Traefik, &nginx, Some("nginx")),
        (ForwardedSet::Traefik, &[], None),
        (ForwardedSet::OauthProxy, &["x-original-url", "x-original-method"], Some("ingress-nginx")),
        (ForwardedSet::IngressNginx, &caddy, Some("caddy")),
    ] {
        let mut headers = HeaderMap::new();
        for name in came {
            headers.insert(*name, "secret-value".parse().unwrap());
        }
        let name = set.headers().iter().find(|name| !headers.contains_key(**name)).unwrap();
        let detail = one(set, &headers, name).unwrap_err().detail;
        assert!(detail.starts_with(&format!("{name} is missing")) && detail.contains(&format!("{:?}", set.word())), "{detail}");
        assert!(came.iter().all(|name| detail.contains(name)) && !detail.contains("secret-value"), "{detail}");
        assert_eq!(detail.contains("none of the kind"), came.is_empty(), "{detail}");
        let said = detail.split_once("that fits forward_auth.headers = ").map(|(_, word)| word.trim_matches('"'));
        assert_eq!(said, fits, "{detail}");
    }
}

#[test]
fn every_set_has_a_word() {
    for (word, set) in ForwardedSet::ALL {
        assert_eq!(set.word(), word);
        assert!(set.headers().iter().all(|name| *name == name.to_ascii_lowercase()));
    }
}
