//! What is answered beside routes: plain listeners that send people on to https, `Strict-Transport-Security`, and a path for balancers.

use std::net::SocketAddr;

use http::Request;

use crate::harness::body::{empty, full};
use crate::harness::certs::CertificateAuthority;
use crate::harness::http::{HttpClient, Protocol, get};
use crate::harness::raw::{self, RawAnswer};
use crate::harness::scene::{PUBLIC, Scene, raw_reason, reason};
use crate::harness::wait::free_port;

const HSTS: &str = "strict-transport-security";

/// A gateway at https://app.test, with a plain listener beside; where that is.
fn redirecting(top: &str) -> (Scene, SocketAddr) {
    let port = free_port();
    let tables = format!("{PUBLIC}[[route]]\nhost = \"*.w.test\"\naccess = \"public\"\nupstream = \"@UPSTREAM@\"\n");
    let scene = Scene::start_at("https://app.test:8443", &format!("redirect_from = [\"127.0.0.1:{port}\"]\n{top}"), &tables);
    (scene, SocketAddr::from(([127, 0, 0, 1], port)))
}

#[tokio::test(flavor = "multi_thread")]
async fn people_who_come_without_tls_are_sent_to_the_same_place_with_it() {
    let (scene, plain) = redirecting("hsts = \"365d\"");
    for (method, host, target, to) in [
        ("GET", "app.test", "/a/b?c=d&e=%2F", "https://app.test:8443/a/b?c=d&e=%2F"),
        ("HEAD", "app.test:80", "/", "https://app.test:8443/"),
        ("POST", "APP.test", "/form", "https://app.test:8443/form"),
        ("GET", "x.w.test", "/a//b/../c", "https://x.w.test:8443/a/c"),
        ("GET", "app.test", "/oauth2/start", "https://app.test:8443/oauth2/start"),
        ("GET", "app.test", "/.well-known/acme-challenge/x", "https://app.test:8443/.well-known/acme-challenge/x"),
    ] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let request = Request::builder()
                .method(method)
                .uri(format!("http://{host}{target}"))
                .body(if method == "POST" { full("x") } else { empty() })
                .unwrap();
            let answer = HttpClient::new().at(plain).speaking(protocol).fetch(request).await;
            assert_eq!((answer.status.as_u16(), answer.header("location")), (308, Some(to)), "{method} {host} {target}");
            assert_eq!(answer.header(HSTS), None, "that is not for plain http (RFC 6797 §7.2)");
            assert_eq!(answer.header("set-cookie"), None);
        }
    }
    let line = scene.gateway.access_line("path=/form ").await;
    assert!(line.contains(" 308 POST ") && line.contains("reason=to-https"), "{line}");
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_to_a_host_or_path_that_is_not_ours() {
    let (scene, plain) = redirecting("");
    for (target, host, status, why) in [
        ("/x", "evil.test", 421, "host-unknown"),
        ("/x", "app.test.evil.test", 421, "host-unknown"),
        ("/x", "app.test@evil.test", 400, "host-malformed"),
        ("http://evil.test/x", "evil.test", 421, "host-unknown"),
        ("http://evil.test/x", "app.test", 400, "host-malformed"),
        ("/%5cevil.test/", "app.test", 400, "path-ambiguous"),
        ("/a/..;/b", "app.test", 400, "path-ambiguous"),
    ] {
        let answer = raw::raw_answer(plain, raw::request("GET", target, host, &[])).await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (status, why), "{target} {host}");
        assert_eq!(answer.header("location"), None);
    }
    let twice = raw::raw_answer(plain, raw::request("GET", "/x", "app.test", &["Host: app.test"])).await;
    assert_eq!((twice.status, twice.header("location")), (400, None));
    // A path that begins with two slashes leads nowhere else.
    let answer = raw::raw_answer(plain, raw::request("GET", "//evil.test/x", "app.test", &[])).await;
    assert_eq!((answer.status, answer.header("location")), (308, Some("https://app.test:8443/evil.test/x")));
    // No session, no upstream: even what is public is not served without TLS there.
    assert_eq!(scene.upstream.count(), 0);
    assert_eq!(HttpClient::new().at(scene.gateway.address).get("http://app.test/x").await.status, 200, "behind a proxy that ends TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_over_https_says_hsts_once_and_says_ours() {
    let authority = CertificateAuthority::new();
    let leaf = authority.leaf(&["localhost"]);
    let tables = format!(
        "[tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n{PUBLIC}[[route]]\npath = \"/private/\"\naccept = [\"session\"]\nallow = \"any-authenticated\"\nupstream = \"@UPSTREAM@\"\n",
        leaf.certificate_file().display(),
        leaf.key_file().display()
    );
    for (top, value) in [
        ("hsts = \"365d includeSubDomains\"", Some("max-age=31536000; includeSubDomains")),
        ("hsts = \"0s\"", Some("max-age=0")),
        ("", None),
    ] {
        let scene = Scene::start_at("https://localhost:@PORT@", top, &tables);
        let http = HttpClient::new().trusting(authority.client_config());
        for (path, status) in [("/x", 200), ("/private/x", 401), ("/oauth2/start", 303), ("/oauth2/none", 404)] {
            let answer = http.get(&scene.url(path)).await;
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(answer.header_all(HSTS), value.into_iter().collect::<Vec<_>>(), "{path} {top}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_own_hsts_gives_way_to_the_gateways() {
    let scene = Scene::start_at("https://app.test", "hsts = \"30d\"", PUBLIC);
    let http = HttpClient::new().at(scene.gateway.address);
    let answer = http.get("http://app.test/headers?strict-transport-security=max-age%3D5").await;
    assert_eq!(answer.header_all(HSTS), ["max-age=2592000"]);
    let scene = Scene::start_at("https://app.test", "", PUBLIC);
    let answer = HttpClient::new().at(scene.gateway.address).get("http://app.test/headers?strict-transport-security=max-age%3D5").await;
    assert_eq!(answer.header_all(HSTS), ["max-age=5"], "without the key the app's own passes");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_path_answers_balancers_whatever_host_they_ask_for() {
    let (scene, plain) = redirecting("health_path = \"/ping\"");
    for address in [scene.gateway.address, plain] {
        for request in [
            "GET /ping HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n",
            "GET /ping HTTP/1.0\r\n\r\n",
            "GET /ping HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        ] {
            let answer = raw::raw_answer(address, request).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "OK\n"), "{request}");
        }
        let head = RawAnswer::parse_all_for(&["HEAD"], &raw::raw(address, raw::request("HEAD", "/ping", "a", &[])).await);
        assert_eq!((head[0].status, head[0].text().as_str()), (200, ""));
        assert_eq!(HttpClient::new().at(address).speaking(Protocol::Http2).get("http://10.0.0.1/ping").await.status, 200);
    }
    // Only that: who asks means nothing, and neither does a path that is like it.
    let (before, agent) = (scene.upstream.count(), ["User-Agent: GoogleHC/1.0"]);
    for (method, target) in [("GET", "/pingx"), ("GET", "/ping/"), ("GET", "//ping"), ("GET", "/%70ing"), ("POST", "/ping"), ("GET", "/")] {
        let answer = raw::raw_answer(scene.gateway.address, raw::request(method, target, "10.0.0.1", &agent)).await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (421, "host-unknown"), "{method} {target}");
    }
    assert_eq!(scene.upstream.count(), before);
    assert!(!scene.gateway.access_lines().contains("path=/ping "), "{}", scene.gateway.access_lines());
    // Other methods go to the app, as its own.
    let request = Request::post("http://app.test/ping").body(empty()).unwrap();
    assert_eq!(HttpClient::new().at(scene.gateway.address).fetch(request).await.status, 200);
    assert_eq!(scene.upstream.last().path(), "/ping");
    // Without the key it is a path like any other.
    let scene = Scene::start("", PUBLIC);
    let answer = HttpClient::new().fetch(get(&scene.url("/ping"))).await;
    assert_eq!((answer.status.as_u16(), scene.upstream.count()), (200, 1));
    let unknown = Request::get(scene.url("/ping")).header("host", "10.0.0.1").body(empty()).unwrap();
    assert_eq!(reason(&HttpClient::new().fetch(unknown).await), "host-unknown");
}
