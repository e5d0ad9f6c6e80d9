//! Calls that leave through a listener of this machine: a program takes it for the API or for its proxy, and a token is added.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use doorward::config::{self, Sources};
use http::Request;

use crate::harness::answer::Answer;
use crate::harness::body::{empty, full, streamed};
use crate::harness::certs::CertificateAuthority;
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::hostile::{Endpoint, HostileProvider, Lie};
use crate::harness::http::{HttpClient, Protocol, fetch, get};
use crate::harness::mutual_tls::MutualTls;
use crate::harness::process::Launch;
use crate::harness::raw::{RawAnswer, raw_answer};
use crate::harness::scene::{raw_reason, reason};
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, eventually, free_port};
use crate::harness::websocket::WebSocket;

/// A provider, the APIs, and a gateway with listeners for calls to them.
struct World {
    provider: HostileProvider,
    api: EchoUpstream,
    other: EchoUpstream,
    secure: EchoUpstream,
    gateway: Gateway,
    /// To `api` alone.
    one: SocketAddr,
    /// To `other` and `secure`.
    two: SocketAddr,
    _authority: CertificateAuthority,
}

impl World {
    fn start() -> Self {
        let hostile = HostileProvider::start();
        let (api, other) = (EchoUpstream::start(), EchoUpstream::start());
        let authority = CertificateAuthority::new();
        let secure = EchoUpstream::start_tls(&authority.leaf(&["localhost"]), "localhost", &["http/1.1"]);
        let [one, two] = [free_port(), free_port()];
        let people = provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret());
        let gateway = Gateway::start(&format!(
            "{TOP}store.kind = \"memory\"\nupstream = \"static:204\"\nallow = \"any-authenticated\"\n{people}\
             [outbound.api]\nprovider = \"default\"\n\
             [[outgoing]]\nid = \"to-api\"\nlisten = \"127.0.0.1:{one}\"\nhosts = [\"{}\"]\noutbound = \"api\"\n\
             [[outgoing]]\nlisten = \"127.0.0.1:{two}\"\nhosts = [\"{}\", \"localhost:{}\"]\noutbound = \"api\"\ntls = {{ ca_file = \"{}\" }}\n\
             [[outgoing]]\nlisten = \"unix:@DIR@/out.sock\"\nhosts = [\"{}\"]\noutbound = \"api\"\n",
            api.url(),
            other.url(),
            secure.address().port(),
            authority.file().display(),
            api.url(),
        ));
        let [one, two] = [one, two].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Self { provider: hostile, api, other, secure, gateway, one, two, _authority: authority }
    }

    fn good(&self, added: Option<String>) -> bool {
        added.is_some_and(|value| value.strip_prefix("Bearer ").is_some_and(|token| (self.provider.token_check())(token)))
    }

    /// None of the APIs was called.
    fn untouched(&self) {
        assert_eq!((self.api.count(), self.other.count(), self.secure.count()), (0, 0, 0));
    }
}

/// A request with an absolute target, as programs send it to a proxy.
async fn through(proxy: SocketAddr, method: &str, target: &str, host: &str, lines: &str) -> RawAnswer {
    raw_answer(proxy, format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n")).await
}

#[tokio::test]
async fn a_program_takes_the_listener_for_the_api() {
    let world = World::start();
    let url = format!("http://{}/v1/orders?a=%2F&b", world.one);
    let request = Request::post(&url).header("authorization", "Basic YTpi").header("cookie", "doorward=x; theirs=1");
    let answer = fetch(request.header("x-own", "1").body(full("body")).unwrap()).await;
    assert_eq!(answer.status, 200);
    let seen = world.api.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str(), &*seen.body), ("POST", "/v1/orders?a=%2F&b", &b"body"[..]));
    assert_eq!(seen.header_all("authorization").len(), 1);
    assert!(world.good(seen.header("authorization")), "{}", seen.everything());
    assert_eq!(seen.header("host").unwrap(), world.api.address().to_string());
    assert_eq!((seen.header("x-own").as_deref(), seen.header("cookie").as_deref()), (Some("1"), Some("theirs=1")));
    // The API is told nothing of who calls: it is no user of ours.
    assert!(["x-forwarded-user", "x-forwarded-for", "forwarded"].iter().all(|name| seen.header(name).is_none()));
    // One token for all.
    for _ in 0..5 {
        fetch(get(&url)).await;
    }
    assert_eq!(world.provider.count(Endpoint::Token), 1);
}

#[tokio::test]
async fn a_program_takes_the_listener_for_its_proxy() {
    let world = World::start();
    let (other, secure) = (world.other.address(), world.secure.address().port());
    let answer =
        through(world.two, "GET", &format!("http://{other}/plain?x=1"), &other.to_string(), "Proxy-Authorization: Basic YTpi\r\n").await;
    assert_eq!(answer.status, 200);
    let seen = world.other.last();
    assert_eq!((seen.target.as_str(), seen.authority.as_deref()), ("/plain?x=1", None));
    assert!(world.good(seen.header("authorization")));
    assert_eq!(seen.header("proxy-authorization"), None);
    assert_eq!(seen.header("via").as_deref(), Some("1.1 doorward"));
    // What is asked for by http is called by https where the list says so; the API's certificate is checked.
    for scheme in ["http", "https"] {
        let host = format!("localhost:{secure}");
        let answer = through(world.two, "GET", &format!("{scheme}://{host}/secure"), &host, "").await;
        assert_eq!(answer.status, 200, "{scheme}: {}", String::from_utf8_lossy(&answer.body));
        let seen = world.secure.last();
        assert!(world.good(seen.header("authorization")));
        assert_eq!(seen.header("host").unwrap(), host);
    }
    // Without an absolute target it is the host that is asked for.
    let answer = through(world.two, "GET", "/by-host", &other.to_string(), "").await;
    assert_eq!((answer.status, world.other.last().target.as_str()), (200, "/by-host"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_is_told_by_its_certificate_and_is_shown_ours() {
    let (hostile, both) = (HostileProvider::start(), MutualTls::new());
    let api = EchoUpstream::start_mutual_tls(both.leaf(), "localhost", both.clients());
    let host = format!("localhost:{}", api.address().port());
    let ways: Vec<_> = both.ways().into_iter().map(|(tls, fits)| (tls, fits, free_port())).collect();
    let listener = |tls: &str, port: u16| {
        format!("[[outgoing]]\nlisten = \"127.0.0.1:{port}\"\nhosts = [\"https://{host}\"]\noutbound = \"api\"\n{tls}")
    };
    let listeners: String = ways.iter().map(|(tls, _, port)| listener(tls, *port)).collect();
    let _gateway = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\nupstream = \"static:204\"\nallow = \"any-authenticated\"\n{}[outbound.api]\nprovider = \"default\"\n\
         {listeners}",
        provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret())
    ));
    for (tls, fits, port) in &ways {
        api.reset();
        let answer = through(SocketAddr::from(([127, 0, 0, 1], *port)), "GET", "/x", &host, "").await;
        if *fits {
            assert_eq!((answer.status, api.count()), (200, 1), "{tls}: {}", String::from_utf8_lossy(&answer.body));
        } else {
            let told = (answer.status, raw_reason(&answer));
            assert_eq!((told, api.count()), ((502, "upstream-unreachable".to_owned()), 0), "a token was shown: {tls}");
        }
    }
}

/// A real program that knows the usual variable and nothing else.
#[tokio::test]
async fn a_program_needs_no_more_than_http_proxy_in_its_environment() {
    let world = World::start();
    let url = format!("http://{}/from/python", world.other.address());
    let code = "import sys, urllib.request; print('got', urllib.request.urlopen(sys.argv[1], timeout=20).status)";
    let program = Launch::new("python3").clean_env().env("http_proxy", format!("http://{}", world.two)).args(["-c", code, &url]).start();
    program.wait_for_line(|line| line == "got 200", PATIENCE).await;
    assert!(world.good(world.other.last().header("authorization")));
}

#[tokio::test]
async fn what_is_not_listed_is_not_called() {
    let world = World::start();
    let (api, other) = (world.api.address(), world.other.address());
    for (listener, target, host) in [
        (world.two, format!("http://{api}/"), api.to_string()),
        (world.two, "http://127.0.0.1:1/".to_owned(), "127.0.0.1:1".to_owned()),
        (world.two, "http://example.com/".to_owned(), "example.com".to_owned()),
        (world.two, "/".to_owned(), world.two.to_string()),
        (world.one, format!("http://{other}/"), other.to_string()),
        // A name that somebody had resolved to this machine is not the listener's.
        (world.one, "/".to_owned(), format!("rebound.example:{}", world.one.port())),
        (world.one, "/".to_owned(), "10.0.0.5".to_owned()),
    ] {
        let answer = through(listener, "GET", &target, &host, "").await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (403, "outgoing-host"), "{target} {host}");
    }
    // Two readings of where it goes.
    let answer = through(world.two, "GET", &format!("http://{other}/"), "example.com", "").await;
    assert_eq!((answer.status, raw_reason(&answer).as_str()), (400, "host-malformed"));
    world.untouched();
    assert_eq!(world.provider.count(Endpoint::Token), 0, "a token was asked for");
}

#[tokio::test]
async fn there_is_no_tunnel_and_no_echo_of_the_token() {
    let world = World::start();
    let host = world.other.address().to_string();
    let answer = through(world.two, "CONNECT", &host, &host, "").await;
    assert_eq!((answer.status, raw_reason(&answer).as_str()), (405, "method-not-allowed"));
    assert!(answer.header("allow").is_some_and(|allow| !allow.contains("CONNECT")));
    let answer = through(world.two, "TRACE", "/", &host, "").await;
    assert_eq!((answer.status, raw_reason(&answer).as_str()), (405, "method-not-allowed"));
    world.untouched();
}

#[tokio::test]
async fn a_page_in_a_browser_of_this_machine_calls_nobody() {
    let world = World::start();
    let host = world.one.to_string();
    for lines in [
        "Origin: https://evil.test\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
        "Sec-Fetch-Site: same-site\r\nOrigin: http://127.0.0.1:4180\r\n",
    ] {
        let answer = through(world.one, "POST", "/orders", &host, &format!("{lines}Content-Length: 0\r\n")).await;
        assert_eq!((answer.status, raw_reason(&answer).as_str()), (403, "cross-site"), "{lines}");
    }
    world.untouched();
}

#[tokio::test]
async fn a_unix_socket_is_for_whom_its_mode_names() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::start();
    let socket = world.gateway.dir.join("out.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for (client, target) in
        [(HttpClient::new(), "http://localhost/over/unix"), (HttpClient::new().speaking(Protocol::Http2), "http://localhost/h2")]
    {
        let answer = client.at_unix(&socket).fetch(get(target)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(world.good(world.api.last().header("authorization")));
    }
    // A restart finds the socket of the process before, and takes its place.
    let gateway = world.gateway.restart();
    let answer = HttpClient::new().at_unix(&socket).fetch(get("http://localhost/again")).await;
    assert_eq!(answer.status, 200);
    drop(gateway);
}

#[tokio::test]
async fn bodies_stream_both_ways_and_sockets_are_opened() {
    let world = World::start();
    let (sender, body) = streamed();
    let url = format!("http://{}/mirror", world.one);
    let client = HttpClient::new();
    let opening = client.open(Request::post(url).body(body).unwrap());
    let (answer, sent) = tokio::join!(opening, sender.send("one"));
    assert!(sent);
    let mut answer = answer.unwrap();
    assert_eq!(answer.next().await.as_deref(), Some(&b"one"[..]));
    assert!(sender.send("two").await);
    assert_eq!(answer.next().await.as_deref(), Some(&b"two"[..]));
    drop(sender);
    assert!(answer.next().await.is_none());
    assert!(world.good(world.api.last().header("authorization")));

    let url = format!("ws://{}/ws", world.one);
    let mut socket = WebSocket::connect(&HttpClient::new(), &url, &[]).await.unwrap_or_else(|answer| panic!("{}", answer.text()));
    assert!(socket.echo("hello").await);
    assert!(world.good(world.api.last().header("authorization")));
}

#[tokio::test]
async fn headers_of_the_connection_stay_on_it() {
    let world = World::start();
    let lines = "Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers, gzip\r\nUpgrade: h2c\r\n";
    let request = format!("GET /headers?connection=x-back&x-back=1&keep-alive=1&x-stays=1 HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", world.one);
    let answer = raw_answer(world.one, request).await;
    assert_eq!(answer.status, 200);
    assert_eq!((answer.header("x-back"), answer.header("keep-alive")), (None, None));
    assert_eq!((answer.header("x-stays"), answer.header("via")), (Some("1"), Some("1.1 doorward")));
    let seen = world.api.last();
    for name in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(seen.header(name), None, "{}", seen.everything());
    }
    assert_eq!(seen.header("te").as_deref(), Some("trailers"));
}

#[tokio::test]
async fn without_a_token_nothing_leaves_and_log_and_metrics_say_so() {
    let world = World::start();
    assert_eq!(fetch(get(&format!("http://{}/good", world.one))).await.status, 200);
    let line = world.gateway.access_line("/good").await;
    assert!(line.contains("to-api") && line.contains("outgoing"), "{line}");
    assert_eq!(world.gateway.metric("doorward_requests_total{route=\"to-api\",reason=\"outgoing\"}").await, 1);
    world.provider.set(Lie::Status(Endpoint::Token, 500));
    world.gateway.advance(std::time::Duration::from_secs(2 * 3600));
    let before = world.api.count();
    let answer = fetch(get(&format!("http://{}/bad", world.one))).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (503, "upstream-token-unreachable"));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(world.api.count(), before);
    assert_eq!(world.gateway.metric("doorward_requests_total{route=\"to-api\",reason=\"upstream-token-unreachable\"}").await, 1);
    // The API is gone: that is another matter.
    world.provider.set(Lie::None);
    world.gateway.advance(std::time::Duration::from_secs(11));
    world.api.stop().await;
    let answer = fetch(get(&format!("http://{}/gone", world.one))).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (502, "upstream-unreachable"));
    let lines = world.gateway.access_lines();
    assert!(world.provider.secrets().iter().all(|(_, secret)| !lines.contains(secret)), "{lines}");
}

#[tokio::test]
async fn a_token_that_the_api_refuses_is_replaced_here_too() {
    let world = World::start();
    let port = free_port();
    let guarded = crate::harness::guarded::GuardedApi::start(world.provider.token_check());
    let gateway = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\nupstream = \"static:204\"\nallow = \"any-authenticated\"\n{}\
         [outbound.api]\nprovider = \"default\"\n[[outgoing]]\nlisten = \"[::1]:{port}\"\nhosts = [\"{}\"]\noutbound = \"api\"\n",
        provider(&world.provider.issuer(), world.provider.client_id(), world.provider.client_secret()),
        guarded.url(),
    ));
    let url = format!("http://[::1]:{port}/x");
    assert_eq!(fetch(get(&url)).await.status, 200);
    world.provider.revoke_machine_tokens();
    assert_eq!(fetch(get(&url)).await.status, 200);
    assert_eq!(guarded.counts(), (2, 1));
    drop(gateway);
}

#[test]
fn what_others_could_reach_is_refused_before_it_is_opened() {
    let listeners = |listen: &str, rest: &str| {
        let dir = TempDir::new("outgoing");
        let text = format!(
            "public_url = \"http://127.0.0.1:4180\"\nstore.kind = \"memory\"\nupstream = \"static:204\"\nallow = \"any-authenticated\"\n{}\
             [outbound.api]\nprovider = \"default\"\n[outbound.theirs]\nprovider = \"default\"\nkind = \"token_exchange\"\naudience = \"x\"\n\
             [[outgoing]]\nlisten = \"{listen}\"\n{rest}",
            provider("http://127.0.0.1:1", "a", "b"),
        );
        let file = dir.write("config.toml", text.as_bytes());
        let loaded = config::load(&Sources { file: Some(&file), environment: BTreeMap::new(), flags: Vec::new() });
        loaded.err().unwrap_or_default().into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect::<Vec<_>>()
    };
    let good = "hosts = [\"https://api.example.com\"]\noutbound = \"api\"\n";
    for listen in ["127.0.0.1:4182", "[::1]:4182", "127.8.9.10:1", "unix:/run/x.sock", "unix:/run/x.sock?mode=0660"] {
        assert_eq!(listeners(listen, good), Vec::<String>::new(), "{listen}");
    }
    for listen in ["0.0.0.0:4182", "[::]:4182", "10.0.0.5:4182", "203.0.113.7:80", "[::ffff:10.0.0.5]:80"] {
        let found = listeners(listen, good);
        assert!(
            found.iter().any(|problem| problem.starts_with("outgoing[0].listen: ") && problem.contains("loopback")),
            "{listen}: {found:?}"
        );
    }
    for listen in ["localhost:4182", "4182", "unix:run/x.sock", "unix:/", "unix:/x?mode=9", "unix:/x?mode=1777", "unix:/x?a=b"] {
        assert!(listeners(listen, good).iter().any(|problem| problem.starts_with("outgoing[0].listen: ")), "{listen}");
    }
    for (rest, path) in [
        ("outbound = \"api\"\n", "outgoing[0].hosts"),
        ("hosts = []\noutbound = \"api\"\n", "outgoing[0].hosts"),
        ("hosts = [\"*.example.com\"]\noutbound = \"api\"\n", "outgoing[0].hosts"),
        ("hosts = [\"https://api.example.com/v1\"]\noutbound = \"api\"\n", "outgoing[0].hosts"),
        ("hosts = [\"unix:/run/x\"]\noutbound = \"api\"\n", "outgoing[0].hosts"),
        ("hosts = [\"a.test\", \"https://A.test:443\"]\noutbound = \"api\"\n", "outgoing[0].hosts"),
        ("hosts = [\"a.test\"]\n", "outgoing[0].outbound"),
        ("hosts = [\"a.test\"]\noutbound = \"nobody\"\n", "outgoing[0].outbound"),
        ("hosts = [\"a.test\"]\noutbound = \"theirs\"\n", "outgoing[0].outbound"),
        ("id = \"app\"\nhosts = [\"a.test\"]\noutbound = \"api\"\n", "outgoing[0].id"),
    ] {
        let found = listeners("127.0.0.1:4182", rest);
        assert!(found.iter().any(|problem| problem.starts_with(&format!("{path}: "))), "{rest}: {found:?}");
    }
}

#[tokio::test]
async fn a_browser_page_of_the_gateway_is_not_to_be_had_here() {
    let world = World::start();
    // The listener has none of the gateway's endpoints: everything goes to the API.
    let answer: Answer = fetch(Request::get(format!("http://{}/oauth2/sign_in", world.one)).body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), world.api.last().path()), (200, "/oauth2/sign_in"));
    eventually("its line", || world.gateway.access_lines().contains("/oauth2/sign_in").then_some(())).await;
}
