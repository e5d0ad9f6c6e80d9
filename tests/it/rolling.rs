//! Under load, by the real wrk against the real command: a reload, a rolling restart of two replicas and an upgrade in place cost no request,
//! and streams end when it was said that they do.

#![allow(clippy::disallowed_methods, reason = "what a process does is told by the machine's own clock")]

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::browser::Browser;
use crate::harness::fronts::{Front, nginx};
use crate::harness::gateway::{GatewayProcess, provider};
use crate::harness::held::Held;
use crate::harness::hostile::HostileProvider;
use crate::harness::http::{HttpClient, fetch, get};
use crate::harness::jose::{from_base64url, random};
use crate::harness::load::{Load, Outcome};
use crate::harness::pair::Pair;
use crate::harness::redis::Redis;
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, eventually_true, free_port};

/// An app that answers and keeps nothing.
async fn app() -> Front {
    nginx("server { listen 127.0.0.1:@PORT@; location / { return 200 \"ok\"; } }", &[]).await
}

/// Everything under `/` is the app's, and WebSockets are another's.
fn routes(app: &str, sockets: &EchoUpstream) -> String {
    format!(
        "[[route]]\nid = \"app\"\nupstream = \"{app}\"\nallow = \"any-authenticated\"\n\
         [[route]]\nid = \"sockets\"\npath = \"/sockets/\"\nupstream = \"{}\"\nallow = \"any-authenticated\"\n",
        sockets.url()
    )
}

fn sign_in(hostile: &HostileProvider) -> String {
    provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret())
}

async fn session(mut browser: Browser, url: &str) -> String {
    let page = browser.get(&format!("{url}/")).await;
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    browser.cookie_header(&format!("{url}/"))
}

async fn sockets(client: &HttpClient, url: &str, cookie: &str, n: usize) -> Vec<Held> {
    let mut held = Vec::new();
    for _ in 0..n {
        let opened = Held::websocket(client, &format!("{url}/sockets/ws"), &[("cookie", cookie)]).await;
        held.push(opened.unwrap_or_else(|answer| panic!("{}", answer.text())));
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_under_load_costs_no_request_and_no_stream() {
    let (app, echo, hostile) = (app().await, EchoUpstream::start(), HostileProvider::start());
    let text = |n: usize| {
        // Another provider's name, another bound, another route, each time; what is asked for is there all the time.
        format!(
            "public_url = \"http://127.0.0.1:@PORT@\"\n{}name = \"the {n}th\"\n[limits]\nheaders = {}\n{}\
             [[route]]\nid = \"more-{n}\"\npath = \"/more-{n}\"\naccess = \"public\"\nupstream = \"static:204\"\n",
            sign_in(&hostile),
            100 + n,
            routes(&app.url(), &echo),
        )
    };
    let gateway = GatewayProcess::start_on(free_port(), &text(0)).await;
    let cookie = session(Browser::new(), &gateway.url).await;
    let held = sockets(&HttpClient::new(), &gateway.url, &cookie, 50).await;
    let files = || std::fs::read_dir(format!("/proc/{}/fd", gateway.process.pid())).map_or(0, Iterator::count);
    let metric = async |series: &str| gateway.metric(series).await;
    let load = Load::start(&format!("{}/", gateway.url), 64, Duration::from_secs(6), &[&format!("Cookie: {cookie}")]);
    eventually_true("requests", async || metric("doorward_requests_total{route=\"app\",reason=\"allowed\"}").await > 500).await;
    let (end, mut n, mut bad, mut at_first) = (Instant::now() + Duration::from_millis(4500), 0, 0, 0);
    while Instant::now() < end {
        n += 1;
        gateway.rewrite(&text(n));
        gateway.process.signal("HUP");
        eventually_true("a new config", async || metric("doorward_config_generation").await > n as u64).await;
        assert_eq!(fetch(get(&format!("{}/more-{n}", gateway.url))).await.status, 204);
        if n % 2 == 0 {
            bad += 1;
            gateway.rewrite(&text(n)[..200]);
            gateway.process.signal("HUP");
            let refused = async || metric("doorward_config_reloads_total{outcome=\"refused\"}").await;
            eventually_true("a refusal", async || refused().await == bad).await;
        }
        if n == 2 {
            at_first = files();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let at_last = files();
    let came = load.ended().await;
    let broken = held.iter().filter(|socket| socket.end().is_some()).count();
    println!(
        "reload under load: {} requests, {} refused, {} broken connections; {} of 50 WebSockets broken; {n} configs taken, {bad} refused; \
         {at_first} open files after 2 configs, {at_last} after {n}",
        came.answered, came.refused, came.broken, broken
    );
    assert_eq!((came.refused, came.broken, broken), (0, 0, 0), "{}\n{}", came.text, gateway.process.output());
    assert!(n >= 5 && bad >= 2 && came.answered > 1000, "{n} configs, {bad} bad, {}", came.text);
    // Each WebSocket still goes there and back through the newest config's process; none hangs.
    assert_eq!(metric("doorward_tunnels_open").await, 50);
    eventually_true("old configs to go", async || metric("doorward_config_generations_in_use").await == 1).await;
    assert!(at_last <= at_first + 16, "{at_first} open files, then {at_last}");
}

/// Two replicas on one Redis.
struct Replicas {
    place: String,
    config: String,
    ports: [u16; 2],
    running: Vec<GatewayProcess>,
    _shared: (TempDir, Redis),
}

impl Replicas {
    async fn start(rest: &str) -> Self {
        let (redis, keys) = (Redis::start().await, TempDir::new("replicas"));
        let file = keys.write_secret("keys", format!("{}\n", STANDARD.encode(from_base64url(&random()))));
        let (place, ports) = (Pair::place(), [free_port(), free_port()]);
        let config = format!(
            "public_url = \"http://{place}\"\n[drain]\ndelay = \"1s\"\ndeadline = \"3s\"\n[store]\nkind = \"redis\"\nurl = \"{}\"\n\
             [keys]\nseal_file = \"{}\"\n{rest}",
            redis.url(),
            file.display()
        );
        let mut running = Vec::new();
        for port in ports {
            running.push(GatewayProcess::start_on(port, &config).await);
        }
        Self { place, config, ports, running, _shared: (keys, redis) }
    }

    /// Ends one as an orchestrator does and starts it again when it is gone; when it was told, and when it was gone.
    async fn replace(&mut self, n: usize) -> (Instant, Instant) {
        let old = &self.running[n];
        let told = Instant::now();
        old.process.signal("TERM");
        let ready = format!("http://{}/readyz", old.admin);
        eventually_true("readiness to turn", async || HttpClient::new().get(&ready).await.status == 503).await;
        assert!(old.process.status().is_none());
        let ended = old.process.wait(PATIENCE).await;
        let gone = Instant::now();
        assert!(ended.success(), "{ended}");
        let dir = Arc::clone(&old.dir);
        self.running[n] = GatewayProcess::start_in(dir, self.ports[n], &self.config).await;
        let ready = format!("http://{}/readyz", self.running[n].admin);
        eventually_true("readiness", async || fetch(get(&ready)).await.status == 200).await;
        (told, gone)
    }
}

/// nginx as the balancer in front, with what it does by itself and nothing else: it has no probes of its own, so it learns from a connection that is
/// refused that a replica is gone, and asks the other.
async fn balancer(replicas: &Replicas) -> Front {
    let [one, other] = replicas.ports;
    nginx(
        "map $http_upgrade $connection_to { default upgrade; \"\" \"\"; }\n\
         map $upstream_addr $asked_twice { default 0; ~, 1; }\n\
         log_format twice '$upstream_addr $upstream_status $request_method';\n\
         upstream doorward { server 127.0.0.1:@ONE@ max_fails=1 fail_timeout=1s; server 127.0.0.1:@OTHER@ max_fails=1 fail_timeout=1s; keepalive 16; }\n\
         server {\n  listen 127.0.0.1:@PORT@;\n  keepalive_requests 1000000;\n  access_log @DIR@/twice.log twice if=$asked_twice;\n\
         location / {\n    proxy_pass http://doorward;\n    proxy_http_version 1.1;\n    proxy_set_header Host @PLACE@;\n\
         proxy_set_header Upgrade $http_upgrade;\n    proxy_set_header Connection $connection_to;\n    proxy_read_timeout 60s;\n  }\n}",
        &[("@ONE@", &one.to_string()), ("@OTHER@", &other.to_string()), ("@PLACE@", &replicas.place)],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_two_replicas_costs_no_request_and_ends_streams_only_at_the_deadline() {
    let (app, echo, hostile) = (app().await, EchoUpstream::start(), HostileProvider::start());
    let mut replicas = Replicas::start(&format!("{}{}", sign_in(&hostile), routes(&app.url(), &echo))).await;
    let front = balancer(&replicas).await;
    let cookie = session(Browser::new().resolve(&replicas.place, front.address()), &format!("http://{}", replicas.place)).await;
    let held = sockets(&HttpClient::new(), &front.url(), &cookie, 20).await;
    let mut tunnels = Vec::new();
    for replica in &replicas.running {
        tunnels.push(replica.metric("doorward_tunnels_open").await as usize);
    }
    assert!(tunnels.iter().all(|open| *open > 0) && tunnels.iter().sum::<usize>() == 20, "{tunnels:?}");
    let load = Load::start(&format!("{}/", front.url()), 48, Duration::from_secs(14), &[&format!("Cookie: {cookie}")]);
    tokio::time::sleep(Duration::from_millis(500)).await;

    let mut lives = Vec::new();
    for (n, open) in tunnels.iter().enumerate() {
        let before = held.iter().filter(|socket| socket.end().is_some()).count();
        let (told, gone) = replicas.replace(n).await;
        // Before the next one goes the balancer has to have noticed that this one is back.
        let served = async || replicas.running[n].metric("doorward_requests_total{route=\"app\",reason=\"allowed\"}").await;
        eventually_true("requests at the new replica", async || served().await > 0).await;
        let ends: Vec<Duration> =
            held.iter().filter_map(|socket| socket.end()).map(|(at, _)| at).filter(|at| *at > told).map(|at| at - told).collect();
        assert_eq!((held.iter().filter(|socket| socket.end().is_some()).count(), ends.len()), (before + open, *open));
        // delay and deadline together: 4 s.
        assert!(ends.iter().all(|life| *life >= Duration::from_millis(3900)), "{ends:?}");
        lives.push((ends.iter().min().copied().unwrap_or_default(), gone - told));
    }
    let came = load.ended().await;
    let twice = std::fs::read_to_string(front.dir.join("twice.log")).unwrap_or_default();
    println!(
        "rolling restart: {} requests, {} refused, {} broken connections; nginx asked a second replica {} times; WebSockets per replica {tunnels:?}, \
         ended after and process gone after {lives:?}",
        came.answered,
        came.refused,
        came.broken,
        twice.lines().count()
    );
    assert_eq!((came.refused, came.broken), (0, 0), "{}\n{twice}\n{}", came.text, front.process.output());
    assert!(came.answered > 1000, "{}", came.text);
    // And whoever was signed in still is, at both.
    for replica in &replicas.running {
        let there = HttpClient::new().at(replica.address);
        let request = http::Request::get(format!("http://{}/", replicas.place)).header("cookie", &cookie);
        assert_eq!(there.fetch(request.body(crate::harness::body::empty()).expect("a request")).await.status, 200);
    }
}

/// What is asked for, on a socket that outlives the processes which serve it, while `change` replaces them.
async fn upgraded(socket: &TcpListener, cookie: &str, seconds: u64, change: impl AsyncFnOnce()) -> Outcome {
    let url = format!("http://{}/", socket.local_addr().expect("a listener has an address"));
    let load = Load::start(&url, 64, Duration::from_secs(seconds), &[&format!("Cookie: {cookie}")]);
    tokio::time::sleep(Duration::from_millis(700)).await;
    change().await;
    load.ended().await
}

fn socket() -> TcpListener {
    TcpListener::bind(("127.0.0.1", free_port())).expect("a free port")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_beside_the_old_process_on_one_socket_costs_no_request() {
    let (app, echo, hostile, redis) = (app().await, EchoUpstream::start(), HostileProvider::start(), Redis::start().await);
    let keys = TempDir::new("upgrade");
    let file = keys.write_secret("keys", format!("{}\n", STANDARD.encode(from_base64url(&random()))));
    let text = format!(
        "public_url = \"http://127.0.0.1:@PORT@\"\n[drain]\ndelay = \"0s\"\ndeadline = \"5s\"\n[store]\nkind = \"redis\"\nurl = \"{}\"\n\
         [keys]\nseal_file = \"{}\"\n{}{}",
        redis.url(),
        file.display(),
        sign_in(&hostile),
        routes(&app.url(), &echo)
    );
    let socket = socket();
    let old = GatewayProcess::start_with(&socket, Arc::new(TempDir::new("old")), &text).await;
    let cookie = session(Browser::new(), &old.url).await;
    let held = sockets(&HttpClient::new(), &old.url, &cookie, 10).await;
    let mut lives = Vec::new();
    let mut newer = None;
    let came = upgraded(&socket, &cookie, 9, async || {
        let new = GatewayProcess::start_with(&socket, Arc::new(TempDir::new("new")), &text).await;
        let told = Instant::now();
        old.process.signal("TERM");
        assert!(old.process.wait(PATIENCE).await.success());
        lives = held.iter().filter_map(|socket| socket.end()).map(|(at, _)| at - told).collect();
        newer = Some(new);
    })
    .await;
    println!(
        "upgrade beside: {} requests, {} refused, {} broken connections; WebSockets ended after {:?}",
        came.answered,
        came.refused,
        came.broken,
        lives.iter().min()
    );
    assert_eq!((came.refused, came.broken), (0, 0), "{}\n{}", came.text, old.process.output());
    assert!(lives.len() == 10 && lives.iter().all(|life| *life >= Duration::from_millis(4900)), "only at the deadline: {lives:?}");
    assert!(newer.expect("it was started").metric("doorward_requests_total{route=\"app\",reason=\"allowed\"}").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_one_socket_has_requests_wait_and_costs_none() {
    let (app, echo, hostile) = (app().await, EchoUpstream::start(), HostileProvider::start());
    let text =
        format!("public_url = \"http://127.0.0.1:@PORT@\"\n[drain]\ndelay = \"0s\"\n{}{}", sign_in(&hostile), routes(&app.url(), &echo));
    let (socket, dir) = (socket(), Arc::new(TempDir::new("one")));
    let old = GatewayProcess::start_with(&socket, Arc::clone(&dir), &text).await;
    let cookie = session(Browser::new(), &old.url).await;
    let mut newer = None;
    let mut away = Duration::ZERO;
    // As `systemctl restart` does: the file of sessions is one process's at a time.
    let came = upgraded(&socket, &cookie, 4, async || {
        let told = Instant::now();
        old.process.signal("TERM");
        assert!(old.process.wait(PATIENCE).await.success());
        newer = Some(GatewayProcess::start_with(&socket, Arc::clone(&dir), &text).await);
        away = told.elapsed();
    })
    .await;
    println!(
        "restart under one socket: {} requests, {} refused, {} broken connections; {away:?} between the two",
        came.answered, came.refused, came.broken
    );
    assert_eq!((came.refused, came.broken), (0, 0), "{}\n{}", came.text, old.process.output());
    assert!(newer.expect("it was started").metric("doorward_requests_total{route=\"app\",reason=\"allowed\"}").await > 0);
}
