//! From where a request comes, by which header, believed of whom; and routes that are for some networks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::sync::Arc;

use crate::harness::gateway::{GatewayProcess, provider};
use crate::harness::hostile::HostileProvider;
use crate::harness::http::HttpClient;
use crate::harness::scene::{Scene, reason};
use crate::harness::temp::TempDir;
use crate::harness::wait::free_port;

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\", \"192.0.2.1\"]\n";
/// At one path: open inside, for the signed-in elsewhere.
const ROUTES: &str = "
[[route]]
id = \"outside\"
path = \"/\"
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
[[route]]
id = \"inside\"
path = \"/\"
client = [\"10.0.0.0/8\", \"2001:db8::/32\"]
access = \"public\"
upstream = \"@UPSTREAM@\"
";

/// Whether these headers open the inner route, as a proxy and to a front proxy alike; what is not opened is refused and not passed on.
async fn opens(scene: &Scene, headers: &[(&str, &str)]) -> bool {
    let before = scene.upstream.count();
    let proxied = scene.get("/x", headers).await;
    let inside = proxied.status == 200;
    assert_eq!(scene.upstream.count() - before, usize::from(inside), "{headers:?}");
    if !inside {
        assert_eq!((proxied.status.as_u16(), reason(&proxied)), (401, "no-credential".to_owned()), "{headers:?}");
    }
    let host = scene.host();
    let about =
        [("x-original-method", "GET"), ("x-original-uri", "/x"), ("x-forwarded-host", host.as_str()), ("x-forwarded-proto", "http")];
    let asked: Vec<_> = about.into_iter().chain(headers.iter().copied()).collect();
    let answer = scene.get("/oauth2/auth", &asked).await;
    // Without a trusted proxy nobody may ask.
    if answer.status == 200 || reason(&answer) != "peer-not-trusted" {
        assert_eq!(answer.status == 200, inside, "{headers:?}: {}", answer.text());
    }
    inside
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_for_networks_is_passed_over_for_everybody_else() {
    let scene = Scene::start(TRUSTED, ROUTES);
    for (lines, inside) in [
        (&["10.1.2.3"][..], true),
        (&["10.1.2.3:567"], true),
        (&["2001:db8::7"], true),
        (&["[2001:db8::7]:80"], true),
        (&["::ffff:10.1.2.3"], true),
        (&["10.1.2.3, 192.0.2.1"], true),
        (&["203.0.113.9", "10.1.2.3, 192.0.2.1"], true),
        (&["203.0.113.9"], false),
        (&["2001:db9::7"], false),
        // What stands further left somebody wrote who is not believed.
        (&["10.1.2.3, 203.0.113.9"], false),
        (&["10.1.2.3", "203.0.113.9"], false),
        (&["unknown"], false),
        (&["10.1.2.3, unknown"], false),
        (&["10.1.2.3,"], false),
        (&[], false),
    ] {
        let headers: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        assert_eq!(opens(&scene, &headers).await, inside, "{lines:?}");
    }
    for other in ["x-real-ip", "forwarded", "client-ip"] {
        assert!(!opens(&scene, &[(other, "10.1.2.3")]).await, "{other}");
    }
    // A proxy that names nobody is not taken for one of its own network.
    let near = Scene::start(TRUSTED, &ROUTES.replace("10.0.0.0/8", "127.0.0.0/8"));
    assert!(!opens(&near, &[]).await);
    // Nobody's header counts, and who connects is who it is: a person's own address.
    let direct = Scene::start("", &ROUTES.replace("10.0.0.0/8", "127.0.0.0/8"));
    assert!(opens(&direct, &[]).await);
    assert!(opens(&direct, &[("x-forwarded-for", "203.0.113.9")]).await);
    let direct = Scene::start("", ROUTES);
    assert!(!opens(&direct, &[("x-forwarded-for", "10.1.2.3")]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_header_names_the_address_or_nothing_does() {
    let scene = Scene::start(&format!("{TRUSTED}client_address = \"X-Real-IP\"\n"), ROUTES);
    let name = "x-real-ip";
    for (headers, inside) in [
        (&[(name, "10.1.2.3")][..], true),
        (&[(name, "[2001:db8::7]:80")], true),
        (&[(name, "10.1.2.3"), ("x-forwarded-for", "203.0.113.9")], true),
        (&[(name, "203.0.113.9"), ("x-forwarded-for", "10.1.2.3")], false),
        (&[(name, "10.1.2.3"), (name, "10.1.2.3")], false),
        (&[(name, "10.1.2.3, 10.1.2.3")], false),
        (&[(name, "somebody")], false),
        (&[("x-forwarded-for", "10.1.2.3")], false),
        (&[], false),
    ] {
        assert_eq!(opens(&scene, headers).await, inside, "{headers:?}");
    }
    // The log names whom it found, and the proxy where it found nobody.
    scene.get("/named", &[(name, "203.0.113.77")]).await;
    assert!(scene.gateway.access_line("path=/named").await.contains("203.0.113.77"));
    scene.get("/unnamed", &[("x-forwarded-for", "203.0.113.77")]).await;
    assert!(scene.gateway.access_line("path=/unnamed").await.contains("127.0.0.1"));
    // It is not believed of a stranger, nor passed on for anybody.
    let stranger =
        |proxies: &str| Scene::start(&format!("trusted_proxies = [\"{proxies}\"]\nclient_address = \"cf-connecting-ip\"\n"), ROUTES);
    assert!(!opens(&stranger("192.0.2.1"), &[("cf-connecting-ip", "10.1.2.3")]).await);
    let believed = stranger("127.0.0.1");
    assert!(opens(&believed, &[("cf-connecting-ip", "10.1.2.3")]).await);
    let (one, other) = (scene.upstream.requests(), believed.upstream.requests());
    assert!(!other.is_empty() && one.iter().chain(&other).all(|seen| seen.header(name).or(seen.header("cf-connecting-ip")).is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_is_told_no_way_that_counts_for_nothing_here() {
    for (source, headers, told) in [
        ("x-real-ip", &[("x-real-ip", "10.1.2.3"), ("x-forwarded-for", "10.6.6.6")][..], "10.1.2.3, 127.0.0.1"),
        ("forwarded", &[("forwarded", "for=10.1.2.3"), ("x-forwarded-for", "10.6.6.6")], "10.1.2.3, 127.0.0.1"),
        ("x-forwarded-for", &[("x-real-ip", "10.6.6.6"), ("x-forwarded-for", "10.1.2.3")], "10.1.2.3, 127.0.0.1"),
    ] {
        let scene = Scene::start(&format!("{TRUSTED}client_address = \"{source}\"\n"), ROUTES);
        assert_eq!(scene.get("/x", headers).await.status, 200, "{source}");
        assert_eq!(scene.upstream.last().header("x-forwarded-for").as_deref(), Some(told), "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_names_the_address_where_the_config_says_so() {
    let scene = Scene::start(&format!("{TRUSTED}client_address = \"forwarded\"\n"), ROUTES);
    for (lines, inside) in [
        (&["for=10.1.2.3"][..], true),
        (&["for=203.0.113.9, for=\"10.1.2.3:80\";proto=https;by=192.0.2.1, For=192.0.2.1"], true),
        (&["for=\"[2001:db8::7]:80\""], true),
        (&["for=10.1.2.3, for=203.0.113.9"], false),
        (&["for=unknown"], false),
        (&["for=_hidden"], false),
        (&["proto=https"], false),
        (&["for=\"10.1.2.3, for=203.0.113.9"], false),
        (&["for=10.1.2.3, for=203.0.113.9;x=\""], false),
    ] {
        let headers: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
        assert_eq!(opens(&scene, &headers).await, inside, "{lines:?}");
    }
    assert!(!opens(&scene, &[("x-forwarded-for", "10.1.2.3")]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_for_others_unlisted_is_counted_and_told_once() {
    let provides = HostileProvider::start();
    let port = free_port();
    let sign_in = provider(&provides.issuer(), provides.client_id(), provides.client_secret());
    let text = |top: &str| {
        format!(
            "public_url = \"http://127.0.0.1:@PORT@\"\n{top}store.kind = \"memory\"\nupstream = \"static:204\"\nallow = \"any-authenticated\"\n{sign_in}"
        )
    };
    let gateway = GatewayProcess::start_in(Arc::new(TempDir::new("gateway")), port, &text("")).await;
    let get = async |headers: &[(&str, &str)]| {
        let mut request = http::Request::get(format!("{}/x", gateway.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        HttpClient::new().fetch(request.body(crate::harness::body::empty()).unwrap()).await
    };
    get(&[]).await;
    let told = || gateway.process.output().matches("a peer that trusted_proxies does not list").count();
    assert_eq!(told(), 0);
    for header in ["x-forwarded-for", "x-real-ip", "forwarded", "x-forwarded-for"] {
        assert_eq!(get(&[(header, "for=203.0.113.9")]).await.status, 401);
    }
    gateway.process.wait_for_line(|line| line.contains("a peer that trusted_proxies does not list"), crate::harness::wait::PATIENCE).await;
    assert_eq!(told(), 1, "{}", gateway.process.output());
    let metrics = HttpClient::new().get(&format!("http://{}/metrics", gateway.admin)).await.text();
    assert!(metrics.contains("doorward_forwarded_by_unlisted_total 4"), "{metrics}");
}
