//! What operators see and do: the admin listener, metrics, logs, traces, draining, limits of the system.

#![allow(clippy::disallowed_methods, reason = "what a process does is told by the machine's own clock")]

use std::time::{Duration, Instant};

use http::{Method, Request};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::body::{TestBody, empty, full};
use crate::harness::browser::Browser;
use crate::harness::gateway::{Gateway, GatewayProcess, TOP, command, provider};
use crate::harness::hostile::{HostileProvider, Lie};
use crate::harness::http::{Answer, HttpClient, fetch, get};
use crate::harness::jose::base64url;
use crate::harness::process::{Launch, Process, Source};
use crate::harness::raw::raw;
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, accepts_within, eventually, free_port};
use crate::harness::websocket::WebSocket;

struct World {
    provider: HostileProvider,
    upstream: EchoUpstream,
}

impl World {
    fn new() -> Self {
        Self { provider: HostileProvider::start(), upstream: EchoUpstream::start() }
    }

    /// Routes for all, for people, for programs, and for nobody; `more` goes before them.
    fn config(&self, more: &str) -> String {
        let route =
            |id: &str, rest: &str| format!("[[route]]\nid = \"{id}\"\npath = \"/{id}\"\nupstream = \"{}\"\n{rest}\n", self.upstream.url());
        format!(
            "{TOP}{more}\n{}[[token_issuer]]\nissuer = \"{}\"\naudience = \"api\"\n{}",
            provider(&self.provider.issuer(), self.provider.client_id(), self.provider.client_secret()),
            self.provider.issuer(),
            [
                route("public", "access = \"public\""),
                route("app", "allow = \"any-authenticated\""),
                route("staff", "accept = [\"session\", \"bearer\"]\nallow = { scopes = [\"staff\"] }"),
                "[[route]]\nid = \"nowhere\"\npath = \"/nowhere\"\nupstream = \"http://127.0.0.1:1\"\naccess = \"public\"\n".to_owned(),
            ]
            .concat()
        )
    }

    fn start(&self, more: &str) -> Gateway {
        Gateway::start(&self.config(&format!("store.kind = \"memory\"\n{more}")))
    }

    fn token(&self) -> String {
        self.provider.access_token(json!({ "aud": "api" }), "at+jwt")
    }
}

fn with(url: &str, headers: &[(&str, &str)]) -> Request<TestBody> {
    let request = headers.iter().fold(Request::get(url), |request, (name, value)| request.header(*name, *value));
    request.body(empty()).expect("a request")
}

/// The member of a JSON access line.
fn member(line: &str, name: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    line[name].as_str().map_or_else(|| line[name].to_string(), str::to_owned)
}

async fn ready(admin: &str) -> Answer {
    fetch(get(&format!("http://{}/readyz", admin.trim_start_matches("http://")))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_tells_and_changes_nothing() {
    let world = World::new();
    let gateway = world.start("");
    let admin = |path: &str| format!("{}{path}", gateway.admin);
    let alive = fetch(get(&admin("/livez"))).await;
    assert_eq!((alive.status.as_u16(), alive.header("cache-control")), (200, Some("no-store")));
    let ready = fetch(get(&admin("/readyz"))).await;
    assert_eq!((ready.status.as_u16(), &ready.json()["ready"]), (200, &json!(true)), "{}", ready.text());
    assert_eq!(ready.json()["dependencies"]["store"], "ok");
    let metrics = fetch(get(&admin("/metrics"))).await;
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    assert!(metrics.text().ends_with("# EOF\n"));
    for path in ["/", "/public", "/oauth2/start", "/metrics/", "/readyz/x"] {
        assert_eq!(fetch(get(&admin(path))).await.status, 404, "{path}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let request = Request::builder().method(method).uri(admin("/livez")).body(empty()).expect("a request");
        assert_eq!(fetch(request).await.status, 405);
    }
    // And on the serving port there is none of it.
    for path in ["/livez", "/readyz", "/metrics", "/public/../metrics"] {
        let answer = fetch(get(&format!("{}{path}", gateway.url))).await;
        assert_eq!((answer.status.as_u16(), answer.json()["reason"].as_str()), (404, Some("no-route")), "{path}");
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_named_and_costs_readiness_only_on_demand() {
    let world = World::new();
    let dir = TempDir::new("keys");
    let seal = dir.write_secret("keys", "QkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGE=\n");
    let store =
        format!("store.kind = \"redis\"\nstore.url = \"redis://127.0.0.1:{}\"\nkeys.seal_file = \"{}\"", free_port(), seal.display());
    for (needs, status) in [(false, 200), (true, 503)] {
        let gateway = Gateway::start(&world.config(&format!("{store}\nadmin.ready_needs_store = {needs}")));
        let answer = ready(&gateway.admin).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.json()["ready"], json!(!needs));
        let told = answer.json()["dependencies"]["store"].as_str().unwrap_or_default().to_owned();
        assert!(told.contains("store-unreachable"), "{told}");
        assert_eq!(fetch(get(&format!("{}/livez", gateway.admin))).await.status, 200);
        assert_eq!(fetch(get(&format!("{}/public", gateway.url))).await.status, 200);
        let refused = fetch(with(&format!("{}/app", gateway.url), &[("cookie", &format!("doorward={}", "A".repeat(64)))])).await;
        assert_eq!((refused.status.as_u16(), refused.json()["reason"].as_str()), (503, Some("store-unreachable")));
        assert_eq!(gateway.metric("doorward_dependency_errors_total{dependency=\"store\"}").await, 1);
    }
    // A provider that is away is named too, and costs nothing: sessions go on.
    world.provider.stop().await;
    let gateway = world.start("");
    let told = eventually_told(&gateway.admin, "provider default", "provider-unreachable").await;
    assert_eq!(told.status, 200, "{}", told.text());
    world.provider.start_again();
}

/// Asks `/readyz` until a dependency is said to be in a state.
async fn eventually_told(admin: &str, dependency: &str, state: &str) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = ready(admin).await;
        if answer.json()["dependencies"][dependency].as_str().is_some_and(|told| told.contains(state)) {
            return answer;
        }
        assert!(Instant::now() < end, "{dependency} is never {state}: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_turns_readiness_first_and_lets_what_is_in_flight_finish() {
    let world = World::new();
    let gateway = GatewayProcess::start_on(free_port(), &world.config("drain = { delay = \"3s\", deadline = \"60s\" }")).await;
    assert_eq!(ready(&gateway.admin).await.status, 200);
    let (url, hanging) = (format!("{}/public", gateway.url), format!("{}/public/hang", gateway.url));
    let in_flight = tokio::spawn(async move { HttpClient::new().deadline(2 * PATIENCE).get(&hanging).await });
    world.upstream.streams_become(1).await;

    let told = Instant::now();
    gateway.process.signal("TERM");
    let not_ready = loop {
        let answer = ready(&gateway.admin).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(told.elapsed() < PATIENCE);
    };
    assert_eq!((not_ready.status.as_u16(), not_ready.json()["why"].as_str()), (503, Some("draining")));
    // Balancers have not noticed yet: new connections are served as ever.
    assert_eq!(fetch(get(&url)).await.status, 200);
    assert!(fetch(get(&format!("http://{}/metrics", gateway.admin))).await.text().contains("\ndoorward_ready 0\n"));

    // Then nobody listens any more, and what is in flight goes on.
    while TcpStream::connect(gateway.address).await.is_ok() {
        assert!(told.elapsed() < PATIENCE, "still listening");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(told.elapsed() >= Duration::from_secs(3), "closed before drain.delay was over");
    assert_eq!((world.upstream.open_streams(), gateway.process.status()), (1, None));
    world.upstream.end_streams();
    let answer = in_flight.await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(gateway.process.wait(PATIENCE).await.code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(55), "waited for the deadline though nothing was left");
    let output = gateway.process.output();
    assert!(output.contains("draining") && output.contains("drained") && !output.contains("cut off"), "{output}");
    // Its line was written, too.
    assert!(gateway.process.stdout().contains("path=/public/hang"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_drain_ends_tunnels_and_whatever_is_left() {
    let world = World::new();
    let gateway = GatewayProcess::start_on(free_port(), &world.config("drain = { delay = \"0s\", deadline = \"3s\" }")).await;
    let client = HttpClient::new();
    let mut socket = WebSocket::connect(&client, &format!("{}/public/ws", gateway.url), &[]).await.expect("a WebSocket");
    assert!(socket.echo("before").await);
    let hanging = format!("{}/public/hang", gateway.url);
    let left = tokio::spawn(async move { HttpClient::new().deadline(PATIENCE).try_fetch(get(&hanging)).await });
    world.upstream.streams_become(2).await;
    let metrics = fetch(get(&format!("http://{}/metrics", gateway.admin))).await.text();
    assert!(metrics.contains("\ndoorward_tunnels_open 1\n"), "{metrics}");

    let told = Instant::now();
    gateway.process.signal("TERM");
    assert!(socket.echo("while it drains").await);
    assert!(socket.ends_within(PATIENCE).await, "the tunnel outlived the deadline");
    assert!(told.elapsed() >= Duration::from_secs(3), "the tunnel was cut before the deadline");
    assert!(told.elapsed() < Duration::from_secs(7), "the deadline began after another delay than the config's");
    assert_eq!(gateway.process.wait(PATIENCE).await.code(), Some(0));
    assert!(left.await.expect("an end").is_err());
    world.upstream.streams_become(0).await;
    let output = gateway.process.output();
    assert!(output.contains("drain.deadline"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_requests_logins_calls_and_what_is_open() {
    let world = World::new();
    let gateway = world.start("");
    let url = |path: &str| format!("{}/{path}", gateway.url);
    fetch(get(&url("public"))).await;
    fetch(get(&url("app"))).await;
    fetch(get(&url("elsewhere"))).await;
    fetch(get(&url("nowhere"))).await;
    fetch(with(&url("staff"), &[("authorization", &format!("Bearer {}", world.token()))])).await;
    fetch(with(&url("staff"), &[("authorization", "Bearer abc")])).await;
    let mut browser = Browser::new();
    let page = browser.get(&url("app")).await;
    assert_eq!(browser.follow_all(page).await.status, 200);
    world.provider.set(Lie::NonceOther);
    let mut unlucky = Browser::new();
    let page = unlucky.get(&url("app")).await;
    let page = unlucky.follow_up_to(page, &gateway.redirect_uri()).await;
    assert_ne!(unlucky.follow(&page).await.status, 200);
    world.provider.set(Lie::None);

    let text = gateway.metrics().await;
    for series in [
        "doorward_requests_total{route=\"public\",reason=\"public\"} 1",
        "doorward_requests_total{route=\"app\",reason=\"no-credential\"} 3",
        "doorward_requests_total{route=\"app\",reason=\"allowed\"} 1",
        "doorward_requests_total{route=\"staff\",reason=\"insufficient-scope\"} 1",
        "doorward_requests_total{route=\"staff\",reason=\"token-malformed\"} 1",
        "doorward_requests_total{route=\"nowhere\",reason=\"upstream-unreachable\"} 1",
        "doorward_requests_total{route=\"doorward\",reason=\"no-route\"} 1",
        "doorward_requests_total{route=\"doorward\",reason=\"endpoint\"} 1",
        "doorward_logins_total{provider=\"default\",outcome=\"success\"} 1",
        "doorward_logins_total{provider=\"default\",outcome=\"id-token-nonce\"} 1",
        "doorward_sessions_cached 1",
        "doorward_tunnels_open 0",
        "doorward_ready 1",
        "doorward_access_log_dropped_total 0",
        "doorward_panics_total 0",
    ] {
        assert!(text.lines().any(|line| line == series), "{series} not in\n{text}");
    }
    assert!(text.contains("doorward_build_info{version=\""), "{text}");
    for series in ["doorward_store_seconds_count{operation=\"put_session\"} ", "doorward_store_seconds_count{operation=\"take_login\"} "] {
        assert!(text.contains(series), "{series} not in\n{text}");
    }
    for call in ["discovery", "token", "keys"] {
        let series = format!("doorward_provider_seconds_count{{provider=\"{}\",call=\"{call}\"}} ", world.provider.issuer());
        assert!(text.contains(&series), "{series} not in\n{text}");
    }

    // What is open: connections and, among them, tunnels.
    let before = open(&gateway, "connections").await;
    let mut idle = HttpClient::new().connect(&url("public").parse().expect("a URL")).await.expect("a connection");
    idle.fetch(get(&url("public"))).await;
    let mut socket = WebSocket::connect(&HttpClient::new(), &url("public/ws"), &[]).await.expect("a WebSocket");
    assert!(socket.echo("x").await);
    becomes(&gateway, "connections", before + 2).await;
    becomes(&gateway, "tunnels", 1).await;
    drop(idle);
    becomes(&gateway, "connections", before + 1).await;
    socket.close().await;
    becomes(&gateway, "tunnels", 0).await;
    becomes(&gateway, "connections", before).await;
}

async fn open(gateway: &Gateway, what: &str) -> u64 {
    // Connections whose requests were just answered may take a moment to close.
    becomes(gateway, what, 0).await;
    0
}

async fn becomes(gateway: &Gateway, what: &str, expected: u64) {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = gateway.metric(&format!("doorward_{what}_open")).await;
        if found == expected {
            return;
        }
        assert!(Instant::now() < end, "{found} {what} are open, not {expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_says_who_asked_for_what_and_never_a_secret() {
    let world = World::new();
    for format in ["json", "text"] {
        let gateway = world.start(&format!("log.format = \"{format}\""));
        let url = |path: &str| format!("{}/{path}", gateway.url);
        let token = world.token();
        let secret = "secret-in-the-query";
        fetch(get(&url(&format!("public/a%20b?code={secret}&access_token={secret}")))).await;
        fetch(with(&url(&format!("staff?x={secret}")), &[("authorization", &format!("Bearer {token}"))])).await;
        fetch(with(&url("app"), &[("authorization", &format!("Basic {secret}")), ("cookie", &format!("doorward={secret}; a={secret}"))]))
            .await;
        fetch(with(&url("app"), &[("referer", &format!("https://x.test/{secret}")), ("user-agent", secret), ("x-forwarded-for", secret)]))
            .await;
        let form = Request::post(url("public")).header("content-type", "application/x-www-form-urlencoded");
        fetch(form.body(full(format!("password={secret}"))).expect("a request")).await;
        // What breaks lines in others breaks none here.
        let host = gateway.address.to_string();
        raw(gateway.address, format!("GET /public/%0d%0aforged HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        let mut browser = Browser::new();
        let page = browser.get(&url("app/who")).await;
        assert_eq!(browser.follow_all(page).await.status, 200);

        let allowed = gateway.access_line(if format == "json" { "\"user\":\"alice\"" } else { "user=alice" }).await;
        let lines = gateway.access_lines();
        assert!(!lines.contains(secret) && !lines.contains(&token), "{lines}");
        for (kind, secret) in world.provider.secrets() {
            assert!(!lines.contains(&secret), "{kind} in\n{lines}");
        }
        for cookie in browser.cookies() {
            assert!(!lines.contains(&cookie.value), "{} in\n{lines}", cookie.name);
        }
        assert!(!lines.contains("forged HTTP") && lines.lines().all(|line| !line.starts_with("forged")), "{lines}");
        if format == "text" {
            for part in [
                "200 GET ",
                " path=/app/who ",
                " reason=allowed ",
                " route=app ",
                " credential=session ",
                " address=127.0.0.1 ",
                " ms=",
                " upstream_ms=",
                " request_id=",
                " trace_id=",
            ] {
                assert!(allowed.contains(part), "{part} not in {allowed}");
            }
            continue;
        }
        for line in lines.lines() {
            for name in ["time", "kind", "request_id", "trace_id", "address", "method", "host", "path", "status", "reason", "ms", "bytes"] {
                assert_ne!(member(line, name), "null", "{name} in {line}");
            }
            assert_eq!(member(line, "kind"), "access");
        }
        for (name, value) in [
            ("path", "/app/who"),
            ("status", "200"),
            ("reason", "allowed"),
            ("route", "app"),
            ("credential", "session"),
            ("method", "GET"),
            ("address", "127.0.0.1"),
            ("host", &host),
        ] {
            assert_eq!(member(&allowed, name), value, "{allowed}");
        }
        let denied = lines.lines().find(|line| line.contains("insufficient-scope")).expect("the denied request's line");
        assert_eq!(
            (member(denied, "credential"), member(denied, "user"), member(denied, "status")),
            ("bearer".into(), "program".into(), "403".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_given_up_is_told_as_such() {
    let world = World::new();
    let gateway = world.start("");
    let (url, client) = (format!("{}/public/hang", gateway.url), HttpClient::new().deadline(2 * PATIENCE));
    let left = tokio::spawn(async move { client.get(&url).await });
    world.upstream.streams_become(1).await;
    left.abort();
    let line = gateway.access_line("path=/public/hang").await;
    assert!(line.contains(" 499 GET ") && line.contains("reason=unanswered"), "{line}");
    assert_eq!(gateway.metric("doorward_requests_total{route=\"doorward\",reason=\"unanswered\"}").await, 1);
    assert_eq!(gateway.metric("doorward_panics_total").await, 0);
    world.upstream.streams_become(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_names_a_request_everywhere() {
    let world = World::new();
    let gateway = world.start("log.format = \"json\"");
    let forged = [("x-request-id", "forged-by-the-downstream")];
    fetch(with(&format!("{}/public/one", gateway.url), &forged)).await;
    let line = gateway.access_line("/public/one").await;
    let seen = world.upstream.last();
    assert_eq!(seen.header_all("x-request-id"), [member(&line, "request_id")]);
    // In a refusal: body, header and line.
    let refused = fetch(with(&format!("{}/app/two", gateway.url), &forged)).await;
    let line = gateway.access_line("/app/two").await;
    assert_eq!(refused.json()["request_id"], member(&line, "request_id").as_str());
    assert_eq!(refused.header("x-request-id"), Some(member(&line, "request_id").as_str()));
    // On a page, and when the upstream is away.
    let page = fetch(with(
        &format!("{}/nowhere/three", gateway.url),
        &[("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
    ))
    .await;
    let line = gateway.access_line("/nowhere/three").await;
    assert_eq!(page.status, 502);
    assert!(page.text().contains(&member(&line, "request_id")) && !page.text().contains("forged"), "{}", page.text());
    let ids: std::collections::BTreeSet<String> = gateway.access_lines().lines().map(|line| member(line, "request_id")).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_and_one_that_cannot_be_read_begins_anew() {
    let world = World::new();
    let gateway = world.start("log.format = \"json\"");
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let good = format!("00-{trace}-{parent}-01");
    let url = |n: usize| format!("{}/public/trace-{n}", gateway.url);
    fetch(with(&url(0), &[("traceparent", &good), ("tracestate", "a=1,b=2")])).await;
    let line = gateway.access_line("trace-0").await;
    assert_eq!(member(&line, "trace_id"), trace);
    let seen = world.upstream.last();
    let [continued] = <[String; 1]>::try_from(seen.header_all("traceparent")).expect("one traceparent");
    assert!(continued.starts_with(&format!("00-{trace}-")) && continued.ends_with("-01") && !continued.contains(parent), "{continued}");
    assert_eq!(seen.header("tracestate").as_deref(), Some("a=1,b=2"));

    let upper = good.to_uppercase();
    let zeros = format!("00-{}-{parent}-01", "0".repeat(32));
    for (n, lines) in [
        vec![],
        vec!["nonsense"],
        vec![&*upper],
        vec![&*zeros],
        vec!["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        vec!["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"],
        vec![&*good, &*good],
    ]
    .into_iter()
    .enumerate()
    {
        let mut headers: Vec<(&str, &str)> = lines.iter().map(|line| ("traceparent", *line)).collect();
        headers.push(("tracestate", "a=1"));
        fetch(with(&url(n + 1), &headers)).await;
        let seen = world.upstream.last();
        assert_eq!((seen.header_all("traceparent").len(), seen.header("tracestate")), (0, None), "{lines:?}: {}", seen.everything());
        let line = gateway.access_line(&format!("trace-{}", n + 1)).await;
        let new = member(&line, "trace_id");
        assert!(
            new != trace && new.len() == 32 && new.bytes().all(|byte| byte.is_ascii_hexdigit()) && !new.bytes().all(|byte| byte == b'0'),
            "{new}"
        );
    }
}

/// `doorward run` with further arguments, until it accepts connections.
async fn run(config: &str, args: &[&str]) -> (Process, String, TempDir) {
    let dir = TempDir::new("run");
    let port = free_port();
    let file = dir.write("config.toml", config.replace("@PORT@", &port.to_string()));
    let launch = Launch::new(command()).args(["run", "--config"]).arg(file).args(["--listen", &format!("127.0.0.1:{port}")]).args(args);
    let process = launch.env("STATE_DIRECTORY", dir.path()).env("DOORWARD_ADMIN__LISTEN", "127.0.0.1:0").start();
    assert!(accepts_within(([127, 0, 0, 1], port).into(), PATIENCE).await, "{}", process.output());
    (process, format!("http://127.0.0.1:{port}"), dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn log_level_and_format_do_what_they_say() {
    let world = World::new();
    let told = |process: &Process, source: Source| -> Vec<String> {
        process.lines().into_iter().filter(|line| line.source == source).map(|line| line.text).collect()
    };
    let denied = async |url: &str| {
        let answer = fetch(with(&format!("{url}/staff"), &[("authorization", &format!("Bearer {}", world.token()))])).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
        let challenged = fetch(get(&format!("{url}/app"))).await;
        assert_eq!(challenged.status, 401);
    };

    // Errors only: access lines and security events are written all the same.
    let (process, url, _dir) = run(&world.config("log.level = \"error\""), &[]).await;
    denied(&url).await;
    process.wait_for_line(|line| line.contains("reason=no-credential"), PATIENCE).await;
    let events = told(&process, Source::Stderr);
    assert!(events.iter().all(|line| line.contains("doorward::security")), "{events:?}");
    assert!(events.iter().any(|line| line.contains("event=\"refused\"") && line.contains("insufficient-scope")), "{events:?}");
    let lines = told(&process, Source::Stdout);
    assert!(lines.len() == 2 && lines[0].contains("403 GET") && lines[0].contains("reason=insufficient-scope"), "{lines:?}");
    let id = lines[0].split("request_id=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    assert!(id.len() == 16 && events.iter().any(|line| line.contains(id)), "{id} not in {events:?}");

    // Everything, as JSON, by flags that win over the file.
    let (process, url, _dir) =
        run(&world.config("log.level = \"error\"\nlog.format = \"text\""), &["--log-level", "debug", "--log-format", "json"]).await;
    denied(&url).await;
    process.wait_for_line(|line| line.contains("\"reason\":\"no-credential\"") && line.contains("\"kind\":\"access\""), PATIENCE).await;
    for line in process.lines() {
        let value: Value = serde_json::from_str(&line.text).unwrap_or_else(|error| panic!("{}: {error}", line.text));
        assert_eq!(line.source == Source::Stdout, value["kind"] == "access", "{}", line.text);
    }
    let events = told(&process, Source::Stderr).join("\n");
    assert!(
        events.contains("\"level\":\"DEBUG\"") && events.contains("doorward serves") && events.contains("\"event\":\"refused\""),
        "{events}"
    );
    let everything = process.output();
    for (kind, secret) in world.provider.secrets() {
        assert!(!everything.contains(&secret), "{kind} in\n{everything}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let world = World::new();
    let (dir, port) = (TempDir::new("limits"), free_port());
    let file = dir.write("config.toml", world.config("").replace("@PORT@", &port.to_string()));
    let script = format!("ulimit -S -n 200 && exec {} run --config {} --listen 127.0.0.1:{port}", command(), file.display());
    let process =
        Launch::new("sh").args(["-c", &script]).env("STATE_DIRECTORY", dir.path()).env("DOORWARD_ADMIN__LISTEN", "127.0.0.1:0").start();
    process.wait_for_line(|line| line.contains("doorward serves"), PATIENCE).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid())).expect("the process's limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the limit of open files");
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    assert_ne!(numbers[0], "200", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_stranger_sends_makes_it_panic() {
    let world = World::new();
    let gateway = world.start("");
    let host = gateway.address.to_string();
    let deep = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let jws = |header: &str, claims: &str| format!("{}.{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()), base64url(b"s"));
    let issuer = world.provider.issuer();
    let mut lines: Vec<String> = [
        jws("{\"alg\":\"RS256\",\"typ\":\"at+jwt\"}", &deep(5000)),
        jws(&deep(5000), &format!("{{\"iss\":\"{issuer}\"}}")),
        jws("{\"alg\":\"RS256\",\"typ\":\"at+jwt\"}", &format!("{{\"iss\":\"{issuer}\",\"exp\":1e400}}")),
        jws("{\"alg\":\"ES256\",\"typ\":\"at+jwt\"}", &format!("{{\"iss\":\"{issuer}\",\"exp\":-1,\"iat\":99999999999999999999}}")),
        jws("[]", "[]"),
        "....".to_owned(),
        "=".to_owned(),
    ]
    .iter()
    .map(|token| format!("Authorization: Bearer {token}"))
    .collect();
    lines.extend(
        [
            "Authorization: \u{e9}",
            "Cookie: doorward=; doorward=\u{e9}; =; ;;;; doorward-flow-=x",
            "X-Forwarded-For: ,,,,[::1]:99999",
            "Traceparent: 00--",
            "Accept: \u{0}",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: chunked, chunked",
            "Expect: nonsense",
            "Upgrade: websocket\r\nConnection: upgrade",
            "Origin: \u{ff}\r\nAccess-Control-Request-Method: \u{ff}",
            "Range: bytes=-1",
            "Host: [::1",
        ]
        .map(str::to_owned),
    );
    let targets = [
        "/staff",
        "/public",
        "/oauth2/callback?state=%00&code=%ff",
        "/oauth2/auth",
        "/oauth2/start?rd=%ff%00",
        "/oauth2/sign_out",
        "*",
        "//",
        "/%",
        "/%ff%fe",
        "http://[",
        "?",
        "/oauth2/userinfo",
        "/oauth2/session",
    ];
    let senders = targets.map(|target| {
        let (lines, host, address) = (lines.clone(), host.clone(), gateway.address);
        tokio::spawn(async move {
            for line in lines {
                let mut connection = crate::harness::raw::RawConnection::open(address).await;
                connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{line}\r\nConnection: close\r\n\r\n")).await;
                connection.finish().await;
                assert!(connection.closes_within(PATIENCE).await, "{target} {line}");
            }
        })
    });
    for sender in senders {
        sender.await.expect("all were answered or closed");
    }
    for bytes in [
        &b"\0\0\0\0"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut connection = crate::harness::raw::RawConnection::open(gateway.address).await;
        connection.send(bytes).await;
        connection.finish().await;
        assert!(connection.closes_within(PATIENCE).await, "{bytes:?}");
    }
    assert_eq!(fetch(get(&format!("{}/public/after", gateway.url))).await.status, 200);
    assert_eq!(gateway.metric("doorward_panics_total").await, 0);
    assert_eq!(gateway.metric("doorward_requests_total{route=\"doorward\",reason=\"internal\"}").await, 0);
    gateway.access_line("/public/after").await;
    assert!(!gateway.access_lines().contains("reason=internal"));
    // Who is not let in anywhere was not let in by any of this.
    assert!(world.upstream.requests().iter().all(|seen| seen.path().starts_with("/public")));
    eventually("nothing left open at the upstream", || (world.upstream.open_streams() == 0).then_some(())).await;
}
