//! Where it listens: several places, unix sockets, sockets that systemd opens; and what it tells systemd of itself.

use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use http::Request;

use crate::harness::answer::Answer;
use crate::harness::body::empty;
use crate::harness::gateway::{Gateway, TOP, command};
use crate::harness::http::{HttpClient, get};
use crate::harness::process::{Launch, Process};
use crate::harness::scene::{PUBLIC, Scene, reason};
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, eventually, free_port};

/// A gateway on these places, with one route that is open to everybody.
fn listening(listen: &str, top: &str) -> Scene {
    Scene::start_at("http://127.0.0.1:@PORT@", &format!("listen = {listen}\n{top}"), PUBLIC)
}

async fn over_unix(path: &Path, url: &str, forwarded_for: Option<&str>) -> Answer {
    let mut request = Request::get(url);
    if let Some(address) = forwarded_for {
        request = request.header("x-forwarded-for", address);
    }
    HttpClient::new().at_unix(path).fetch(request.body(empty()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_places_serve_the_same_gateway() {
    let six = free_port();
    let scene = listening(&format!("[\"unix:@DIR@/a.sock?mode=0660\", \"unix:@DIR@/b.sock\", \"127.0.0.1:@PORT@\", \"[::1]:{six}\"]"), "");
    let url = scene.url("/x");
    assert_eq!(scene.gateway.address.port(), scene.gateway.url.rsplit(':').next().unwrap().parse::<u16>().unwrap(), "the first of TCP");
    for address in [scene.gateway.address, SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], six))] {
        assert_eq!(HttpClient::new().at(address).get(&url).await.status, 200, "{address}");
        assert_eq!(scene.upstream.last().header("x-forwarded-for"), Some(address.ip().to_string()));
    }
    for (name, mode) in [("a.sock", 0o660), ("b.sock", 0o600)] {
        let path = scene.gateway.dir.path().join(name);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{name}");
        assert_eq!(over_unix(&path, &url, None).await.status, 200, "{name}");
    }
    assert_eq!(scene.upstream.count(), 4);
    let (dir, socket) = (std::sync::Arc::clone(&scene.gateway.dir), scene.gateway.dir.path().join("a.sock"));
    scene.gateway.stop();
    // What it left there does not keep the next one from starting.
    assert!(socket.exists());
    let next = Gateway::start(&format!(
        "{TOP}listen = [\"127.0.0.1:@PORT@\", \"unix:{}\"]\nallow = \"any-authenticated\"\nupstream = \"{}\"\n[store]\nkind = \"memory\"\n[[user]]\nname = \"ann\"\npassword = \"{HASH}\"\n",
        socket.display(),
        scene.upstream.url()
    ));
    assert_eq!(over_unix(&socket, &format!("{}/oauth2/userinfo", next.url), None).await.status, 401);
    drop(dir);
}

/// Some password's.
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$jsAm5nlH+xspNzm7EUYjTA$gs9bE8Hm9/VZ41GEjHQBaW8W72ye0GJ9DNT347J+5vk";

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_on_a_unix_socket_speaks_for_others_only_where_the_config_says_unix() {
    for (trusted, expected, listed) in [
        ("", "127.0.0.1", false),
        ("trusted_proxies = [\"127.0.0.1\"]\n", "127.0.0.1", false),
        ("trusted_proxies = [\"unix\"]\n", "203.0.113.7, 127.0.0.1", true),
    ] {
        let scene = listening("[\"127.0.0.1:@PORT@\", \"unix:@DIR@/front.sock\"]", trusted);
        let path = scene.gateway.dir.path().join("front.sock");
        assert_eq!(over_unix(&path, &scene.url("/x"), Some("203.0.113.7")).await.status, 200);
        assert_eq!(scene.upstream.last().header("x-forwarded-for").as_deref(), Some(expected), "{trusted}");
        let address = if listed { "203.0.113.7" } else { "127.0.0.1" };
        let line = scene.gateway.access_line("path=/x").await;
        assert!(line.contains(&format!("address={address} ")), "{trusted}: {line}");
        // A question of forward-auth is a front proxy's word as well.
        let before = scene.upstream.count();
        let question = Request::get(scene.url("/oauth2/auth")).header("x-original-uri", "/x").header("x-original-method", "GET");
        let question =
            question.header("x-forwarded-host", scene.host()).header("x-forwarded-proto", "http").header("x-forwarded-for", "203.0.113.7");
        let answer = HttpClient::new().at_unix(&path).fetch(question.body(empty()).unwrap()).await;
        if listed {
            assert_eq!(answer.status, 200, "{}", answer.text());
        } else {
            assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "peer-not-trusted"), "{trusted}");
        }
        assert_eq!(scene.upstream.count(), before);
        // Where only the socket is trusted, a peer over TCP is not.
        let answer = scene.get("/y", &[("x-forwarded-for", "203.0.113.7")]).await;
        assert_eq!(answer.status, 200);
        let told = scene.upstream.last().header("x-forwarded-for").unwrap();
        assert_eq!(told.contains("203.0.113.7"), trusted.contains("127.0.0.1"), "{trusted}: {told}");
    }
}

/// A config on disk for a gateway as a process, with its upstream.
fn config(dir: &TempDir, listen: &str, upstream: &EchoUpstream) -> std::path::PathBuf {
    dir.write(
        "config.toml",
        format!(
            "public_url = \"http://app.test\"\ninsecure_http = true\nlisten = {listen}\nhealth_path = \"/ping\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n[drain]\ndelay = \"500ms\"\n[store]\nkind = \"memory\"\n\
             [[user]]\nname = \"ann\"\npassword = \"{HASH}\"\n\
             [[route]]\naccess = \"public\"\nupstream = \"{}\"\n",
            upstream.url()
        ),
    )
}

fn activated(dir: &TempDir, names: &str, places: &[&str], config: &Path) -> Process {
    let mut launch = Launch::new("systemd-socket-activate").arg(format!("--fdname={names}"));
    for place in places {
        launch = launch.arg(format!("--listen={place}"));
    }
    launch.arg("-E").arg(format!("STATE_DIRECTORY={}", dir.path().display())).arg(command()).args(["run", "--config"]).arg(config).start()
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_systemd_opened_are_served_by_name() {
    let (dir, upstream, port) = (TempDir::new("activated"), EchoUpstream::start(), free_port());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let socket = dir.path().join("web.sock");
    let file = config(&dir, "[\"fd:web\", \"fd:local\"]", &upstream);
    let process = activated(&dir, "web:local", &[&address.to_string(), &socket.display().to_string()], &file);
    process.wait_for_line(|line| line.contains("Listening on"), PATIENCE).await;
    // The first connection starts it and waits for it.
    let answer = HttpClient::new().at(address).get("http://app.test/x").await;
    assert_eq!(answer.status, 200, "{}", process.output());
    assert_eq!(over_unix(&socket, "http://app.test/y", None).await.status, 200);
    assert_eq!(upstream.count(), 2);
    process.signal("TERM");
    assert!(process.wait(PATIENCE).await.success(), "{}", process.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_nobody_handed_over_stops_the_start_by_name() {
    let (dir, upstream, port) = (TempDir::new("activated"), EchoUpstream::start(), free_port());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let file = config(&dir, "\"fd:https\"", &upstream);
    let process = activated(&dir, "web", &[&address.to_string()], &file);
    process.wait_for_line(|line| line.contains("Listening on"), PATIENCE).await;
    let _held = tokio::net::TcpStream::connect(address).await.unwrap();
    assert!(!process.wait(PATIENCE).await.success());
    let said = process.output();
    assert!(said.contains("listen: cannot listen on fd:https: no socket of this name; handed over were web"), "{said}");

    let plain = Launch::new(command()).args(["run", "--config"]).arg(&file).env("STATE_DIRECTORY", dir.path()).start();
    assert!(!plain.wait(PATIENCE).await.success());
    assert!(plain.output().contains("no socket was handed over"), "{}", plain.output());
}

/// What arrives at a fake systemd, in order.
async fn told(socket: &UnixDatagram, word: &str) {
    eventually(&format!("word {word:?}"), || {
        let mut bytes = [0; 256];
        let read = socket.recv(&mut bytes).ok()?;
        (&bytes[..read] == word.as_bytes()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_that_it_serves_lives_and_ends() {
    let upstream = EchoUpstream::start();
    let abstract_name = format!("doorward-notify-{}-{}", std::process::id(), free_port());
    for kind in ["path", "abstract"] {
        let dir = TempDir::new("notify");
        let (socket, name) = if kind == "path" {
            let path = dir.path().join("notify");
            (UnixDatagram::bind(&path).unwrap(), path.display().to_string())
        } else {
            let address = UnixAddr::from_abstract_name(&abstract_name).unwrap();
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{abstract_name}"))
        };
        socket.set_nonblocking(true).unwrap();
        let port = free_port();
        let file = config(&dir, &format!("\"127.0.0.1:{port}\""), &upstream);
        let process = Launch::new(command())
            .args(["run", "--config"])
            .arg(&file)
            .env("STATE_DIRECTORY", dir.path())
            .env("NOTIFY_SOCKET", &name)
            .env("WATCHDOG_USEC", "200000")
            .start();
        told(&socket, "READY=1").await;
        let ping = async || HttpClient::new().at(SocketAddr::from(([127, 0, 0, 1], port))).fetch(get("http://10.0.0.1/ping")).await.status;
        assert_eq!(ping().await, 200, "it says so when it does");
        told(&socket, "WATCHDOG=1").await;
        told(&socket, "WATCHDOG=1").await;
        process.signal("TERM");
        told(&socket, "STOPPING=1").await;
        assert_eq!(ping().await, 503, "balancers have drain.delay to notice");
        assert!(process.wait(Duration::from_secs(20)).await.success(), "{}", process.output());
    }
}
