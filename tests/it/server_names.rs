//! Several certificates by the name that is asked for (SNI), and requests that go by their host all the same.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use rustls::version::{TLS12, TLS13};

use crate::harness::body::empty;
use crate::harness::certs::{CertificateAuthority, Leaf};
use crate::harness::http::{HttpClient, Protocol};
use crate::harness::raw::RawConnection;
use crate::harness::scene::{Scene, reason};
use crate::harness::wait::eventually_true;

fn table(head: &str, leaf: &Leaf) -> String {
    format!("{head}\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n", leaf.certificate_file().display(), leaf.key_file().display())
}

const ROUTES: &str = "
[[route]]
id = \"a\"
host = \"a.test\"
access = \"public\"
upstream = \"@UPSTREAM@\"
[[route]]
id = \"b\"
host = \"b.test\"
access = \"public\"
upstream = \"@UPSTREAM@\"
";

/// Each certificate by an authority of its own, so that a handshake tells which was shown.
struct Names {
    scene: Scene,
    first: CertificateAuthority,
    second: CertificateAuthority,
    third: CertificateAuthority,
    _leaves: [Leaf; 3],
}

impl Names {
    fn start() -> Self {
        let [first, second, third] = [(), (), ()].map(|()| CertificateAuthority::new());
        let leaves = [first.leaf(&["a.test"]), second.leaf(&["*.w.test"]), third.leaf(&["b.test", "x.w.test"])];
        let tables = leaves.iter().map(|leaf| table("[[tls]]", leaf)).collect::<String>();
        let scene = Scene::start_at("https://a.test", "", &format!("{tables}{ROUTES}"));
        Self { scene, first, second, third, _leaves: leaves }
    }

    /// Whether whoever asks for this name is shown a certificate by this authority that holds it.
    async fn shows(&self, authority: &CertificateAuthority, name: &str) -> bool {
        RawConnection::open_tls(self.scene.gateway.address, name, authority.client_config()).await.is_ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_has_its_certificate_and_an_unknown_one_the_first() {
    let names = Names::start();
    assert!(names.shows(&names.first, "a.test").await);
    assert!(names.shows(&names.first, "A.Test").await, "whatever the case");
    assert!(names.shows(&names.second, "y.w.test").await, "by a star");
    assert!(names.shows(&names.third, "x.w.test").await, "the exact name before the star");
    assert!(names.shows(&names.third, "b.test").await);
    assert!(!names.shows(&names.second, "b.test").await && !names.shows(&names.first, "b.test").await);
    // The first for all others: they see that it is not theirs.
    let seen = RawConnection::open_tls(names.scene.gateway.address, "c.test", names.first.client_config()).await;
    assert!(seen.err().expect("not its name").to_string().contains("not valid for name"));
    let seen = RawConnection::open_tls(names.scene.gateway.address, "127.0.0.1", names.first.client_config()).await;
    assert!(seen.err().expect("not its name").to_string().contains("not valid for name"), "no name at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_by_its_host_whatever_name_the_handshake_asked_for() {
    let names = Names::start();
    let scene = &names.scene;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let http =
            HttpClient::new().at(scene.gateway.address).trusting(names.first.client_config()).server_name("a.test").speaking(protocol);
        let mut connection = http.connect(&"https://a.test/".parse().unwrap()).await.unwrap();
        for (host, route) in [("a.test", "route=a "), ("b.test", "route=b ")] {
            let path = format!("/{host}-{protocol:?}");
            let answer = connection.fetch(Request::get(format!("https://{host}{path}")).body(empty()).unwrap()).await;
            assert_eq!(answer.status, 200, "{protocol:?} {host}");
            let line = scene.gateway.access_line(&format!("path={path} ")).await;
            assert!(line.contains(route), "{line}");
        }
        let count = scene.upstream.count();
        // Known by a certificate, by no host: that is no name of ours.
        let answer = connection.fetch(Request::get("https://y.w.test/x").body(empty()).unwrap()).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (421, "host-unknown"));
        assert_eq!(scene.upstream.count(), count);
    }
}

/// One name without certificates of those who connect, one that wants them.
const WHO: &str = "
[[route]]
host = \"a.test\"
access = \"public\"
upstream = \"@UPSTREAM@\"
[[route]]
host = \"b.test\"
accept = [\"certificate\"]
allow = \"any-authenticated\"
upstream = \"@UPSTREAM@\"
";

fn asking(server: &Leaf, clients: &Path) -> Scene {
    let tls = format!("{}client_ca_file = \"{}\"\n", table("[tls]", server), clients.display());
    Scene::start_at("https://a.test", "", &format!("{tls}{WHO}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_for_one_name_opens_no_other_without_the_certificate_that_is_wanted_there() {
    let (servers, clients) = (CertificateAuthority::new(), CertificateAuthority::new());
    let leaf = servers.leaf(&["a.test", "b.test"]);
    let scene = asking(&leaf, clients.file());
    let own = clients.leaf(&["billing"]);
    for (config, status) in [(servers.client_config(), 401), (servers.client_config_with(&own), 200)] {
        for name in ["a.test", "b.test"] {
            let http = HttpClient::new().at(scene.gateway.address).trusting(Arc::clone(&config)).server_name(name);
            let mut connection = http.speaking(Protocol::Http2).connect(&"https://a.test/".parse().unwrap()).await.unwrap();
            // The connection is used for both, as browsers do whose certificate holds both (RFC 9113 §9.1.1).
            let open = connection.fetch(Request::get("https://a.test/x").body(empty()).unwrap()).await;
            assert_eq!(open.status, 200);
            let before = scene.upstream.count();
            let answer = connection.fetch(Request::get("https://b.test/x").body(empty()).unwrap()).await;
            assert_eq!(answer.status, status, "{name}: {}", answer.text());
            if status == 401 {
                assert_eq!(reason(&answer), "no-credential");
                assert_eq!(scene.upstream.count(), before);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_clients_are_read_again_and_nobody_is_let_on_by_having_been_before() {
    let (servers, old, new) = (CertificateAuthority::new(), CertificateAuthority::new(), CertificateAuthority::new());
    let leaf = servers.leaf(&["a.test", "b.test"]);
    let scene = asking(&leaf, old.file());
    let (by_old, by_new) = (old.leaf(&["billing"]), new.leaf(&["billing"]));
    // One configuration each: it keeps tickets, by which a handshake is cut short.
    let configs = [servers.client_config_with(&by_old), servers.client_config_with(&by_new)];
    let asks = async |n: usize| {
        // Whoever is refused in the handshake may be left waiting: the client believes that it is over before the server has looked.
        let http = HttpClient::new().deadline(Duration::from_secs(2)).at(scene.gateway.address);
        let http = http.trusting(Arc::clone(&configs[n])).server_name("b.test");
        let answer = http.try_fetch(Request::get("https://b.test/x").body(empty()).unwrap()).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    assert!(asks(0).await && asks(0).await && !asks(1).await);
    let before = std::fs::read_to_string(old.file()).unwrap();
    std::fs::write(old.file(), "-----BEGIN CERTIFICATE-----\nhalf of it").unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(asks(0).await, "what cannot be read changes nothing");
    std::fs::write(old.file(), new.pem()).unwrap();
    eventually_true("the new authority counts", async || asks(1).await).await;
    let count = scene.upstream.count();
    assert!(!asks(0).await && !asks(0).await);
    assert_eq!(scene.upstream.count(), count);
    std::fs::write(old.file(), before).unwrap();
    eventually_true("the old authority counts again", async || asks(0).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_version_is_what_the_config_says() {
    let authority = CertificateAuthority::new();
    let leaf = authority.leaf(&["a.test"]);
    for (key, old) in [("", true), ("min_version = \"1.2\"\n", true), ("min_version = \"1.3\"\n", false)] {
        let scene = Scene::start_at("https://a.test", "", &format!("{}{key}{ROUTES}", table("[tls]", &leaf)));
        for (version, spoken) in [(&TLS12, old), (&TLS13, true)] {
            let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(authority.roots())
                .with_no_client_auth();
            let opened = RawConnection::open_tls(scene.gateway.address, "a.test", Arc::new(config)).await;
            assert_eq!(opened.is_ok(), spoken, "{key:?} {version:?}");
        }
    }
}
