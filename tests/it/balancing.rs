//! Several addresses for one route: who gets a request, which are left out and come back, where names lead, what is sent a second time and what
//! never is, how many at once, and how long.
#![allow(clippy::disallowed_methods, reason = "tests measure time")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use doorward::app::ReloadError;

use crate::harness::answer::Answer;
use crate::harness::body::{empty, full};
use crate::harness::dns::Dns;
use crate::harness::gateway::command;
use crate::harness::hostile::HostileProvider;
use crate::harness::http::{HttpClient, get};
use crate::harness::load::Load;
use crate::harness::plain::{Manner, Plain};
use crate::harness::scene::{Scene, reason};
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{eventually, eventually_true};
use crate::harness::websocket::WebSocket;

fn local(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

/// Three upstreams at addresses of their own.
async fn three() -> [Plain; 3] {
    [Plain::start("a", local(2, 0)).await, Plain::start("b", local(3, 0)).await, Plain::start("c", local(4, 0)).await]
}

fn urls(upstreams: &[&Plain]) -> String {
    let all: Vec<String> = upstreams.iter().map(|upstream| format!("{:?}", upstream.url())).collect();
    format!("[{}]", all.join(", "))
}

fn route(upstream: &str, keys: &str) -> String {
    format!("[[route]]\nid = \"app\"\naccess = \"public\"\nupstream = {upstream}\n{keys}\n")
}

fn name(answer: &Answer) -> String {
    answer.header("x-upstream").unwrap_or("nobody").to_owned()
}

/// Who answered so many requests.
async fn shares(scene: &Scene, requests: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let answer = scene.get("/", &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        *shares.entry(name(&answer)).or_default() += 1;
    }
    shares
}

fn pairs(shares: &[(&str, usize)]) -> BTreeMap<String, usize> {
    shares.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

// --- the choice

#[tokio::test(flavor = "multi_thread")]
async fn turns_go_round_by_weight() {
    let [a, b, _] = three().await;
    let upstream = format!("[{{ url = {:?}, weight = 3 }}, {:?}]", a.url(), b.url());
    let scene = Scene::start("", &route(&upstream, "balance = \"round-robin\""));
    // Two cores, each of which goes round by itself.
    let shares = shares(&scene, 80).await;
    assert!((58..=62).contains(&shares["a"]), "{shares:?}");
    assert!(scene.gateway.metrics().await.contains(&format!("doorward_upstream_addresses{{upstream={:?}}} 1", a.url())));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_least_under_way_is_asked() {
    let (one, other) = (EchoUpstream::start().named("one"), EchoUpstream::start().named("other"));
    let scene = Scene::start("", &route(&format!("[{:?}, {:?}]", one.url(), other.url()), ""));
    let busy = WebSocket::connect(&HttpClient::new(), &scene.url("/ws"), &[]).await.unwrap();
    eventually("the tunnel at the upstream", || (one.open_streams() + other.open_streams() == 1).then_some(())).await;
    let free = if one.open_streams() == 1 { "other" } else { "one" };
    // A tunnel is under way for as long as it is open.
    assert_eq!(shares(&scene, 20).await, pairs(&[(free, 20)]));
    busy.close().await;
    eventually("the tunnel's end at the upstream", || (one.open_streams() + other.open_streams() == 0).then_some(())).await;
    let mut even = BTreeMap::new();
    for _ in 0..60 {
        *even.entry(name(&scene.get("/", &[]).await)).or_insert(0) += 1;
    }
    assert!(even.values().all(|count| (12..=48).contains(count)) && even.len() == 2, "{even:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_where_it_was_and_comes_back_when_its_place_does() {
    let all = three().await;
    let [a, b, c] = &all;
    let sticky = route(&urls(&[a, b, c]), "balance = \"sticky\"\nejection = { failures = 1, time = \"60s\" }")
        .replace("access = \"public\"", "allow = \"any-authenticated\"\naccept = [\"session\", \"bearer\"]");
    let scene = Scene::start("", &sticky);
    let mut homes = BTreeMap::new();
    for _ in 0..6 {
        let cookie = scene.session().await;
        let home = name(&scene.get("/", &[("cookie", &cookie)]).await);
        for _ in 0..5 {
            let answer = scene.get("/", &[("cookie", &cookie)]).await;
            assert_eq!(name(&answer), home);
            assert!(answer.header("set-cookie").is_none(), "no cookie of ours says where");
        }
        homes.insert(cookie, home);
    }
    // A program without a session stays by who it is, whichever token it shows.
    let bearer = |n: usize| format!("Bearer {}", scene.token(serde_json::json!({ "sub": "robot", "jti": format!("{n}") })));
    let home = name(&scene.get("/", &[("authorization", &bearer(0))]).await);
    for n in 1..6 {
        assert_eq!(name(&scene.get("/", &[("authorization", &bearer(n))]).await), home);
    }
    let gone = homes.values().next().unwrap().clone();
    let upstream = all.iter().find(|upstream| name_of(upstream) == gone).unwrap();
    upstream.kill();
    for (cookie, home) in &homes {
        let answer = scene.get("/", &[("cookie", cookie)]).await;
        assert_eq!(answer.status, 200);
        // Only those whose place is gone move.
        assert_eq!(name(&answer) == *home, *home != gone, "{home} {}", name(&answer));
    }
    upstream.revive().await;
    scene.gateway.advance(Duration::from_secs(61));
    for (cookie, home) in &homes {
        assert_eq!(name(&scene.get("/", &[("cookie", cookie)]).await), *home);
    }
}

fn name_of(upstream: &Plain) -> &'static str {
    match upstream.address().ip().to_string().as_str() {
        "127.0.0.2" => "a",
        "127.0.0.3" => "b",
        _ => "c",
    }
}

// --- those that fail

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_dies_under_load_costs_no_request_and_comes_back() {
    let [a, b, _] = three().await;
    let scene = Scene::start("", &route(&urls(&[&a, &b]), "ejection = { time = \"50m\", most = \"50m\" }"));
    let load = Load::start(&scene.url("/"), 16, Duration::from_secs(3), &[]);
    eventually("requests at both", || (a.count("GET") > 50 && b.count("GET") > 50).then_some(())).await;
    a.kill();
    let outcome = load.ended().await;
    assert_eq!((outcome.refused, outcome.broken), (0, 0), "{}", outcome.text);
    let series = |what: &str| format!("doorward_upstream_{what}{{upstream={:?}}}", a.url());
    assert_eq!(scene.gateway.metric(&series("addresses_left_out")).await, 1);
    assert!(scene.gateway.metric(&series("ejections_total")).await >= 1);
    a.revive().await;
    let before = a.count("GET");
    assert_eq!(shares(&scene, 10).await, pairs(&[("b", 10)]), "its time is not over");
    scene.gateway.advance(Duration::from_secs(3600));
    let shares = shares(&scene, 40).await;
    assert!(shares.len() == 2 && a.count("GET") > before, "{shares:?}");
    assert_eq!(scene.gateway.metric(&series("addresses_left_out")).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_none_count_as_failures_and_a_502_of_the_app_does_not() {
    let [a, b, _] = three().await;
    let keys = "balance = \"round-robin\"\nejection = { failures = 2, time = \"10m\", most = \"20m\" }";
    let scene = Scene::start("", &route(&urls(&[&a, &b]), keys));
    b.become_(Manner::Status(502));
    for _ in 0..20 {
        scene.get("/", &[]).await;
    }
    assert!(a.count("GET") >= 8 && b.count("GET") >= 8, "the app's own answers are answers");
    b.become_(Manner::Gibberish);
    let mut broken = 0;
    for _ in 0..20 {
        let answer = scene.get("/", &[]).await;
        if answer.status == 502 {
            assert_eq!(reason(&answer), "upstream-broken");
            broken += 1;
        }
    }
    // One that has begun to answer is not asked again elsewhere, and after two it is left out.
    assert_eq!(broken, 2);
    b.become_(Manner::Well);
    scene.gateway.advance(Duration::from_secs(540));
    assert_eq!(shares(&scene, 10).await, pairs(&[("a", 10)]));
    scene.gateway.advance(Duration::from_secs(61));
    assert_eq!(shares(&scene, 20).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_takes_requests_and_never_answers_is_left_out_and_tried_with_one() {
    let [a, b, _] = three().await;
    let keys = "ejection = { failures = 2, time = \"10m\", most = \"1h\" }\ntimeouts = { response = \"300ms\" }";
    let scene = Scene::start("", &route(&urls(&[&a, &b]), keys));
    b.become_(Manner::Hangs);
    let mut late = 0;
    for n in 0..20 {
        let answer = scene.get(&format!("/{n}"), &[]).await;
        if answer.status != 200 {
            assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (504, "upstream-timeout"));
            assert_eq!(a.count(&format!("/{n} ")), 0, "it may be at work on it");
            late += 1;
        }
    }
    assert_eq!(late, 2);
    // Its time is over, and it still hangs: of many that come at once it gets one.
    scene.gateway.advance(Duration::from_secs(601));
    let before = b.count("GET");
    let many: Vec<_> = (0..20)
        .map(|_| {
            let (client, url) = (HttpClient::new(), scene.url("/"));
            tokio::spawn(async move { client.get(&url).await.status.as_u16() })
        })
        .collect();
    let mut statuses = BTreeMap::new();
    for one in many {
        *statuses.entry(one.await.unwrap()).or_insert(0) += 1;
    }
    // Two, where the clock's second changes meanwhile.
    let tried = b.count("GET") - before;
    assert!((1..=2).contains(&tried) && statuses[&504] == tried, "{tried}: {statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_is_counted_though_no_request_comes() {
    let [a, b, _] = three().await;
    let scene = Scene::start("", &route(&urls(&[&a, &b]), "ejection = { failures = 1, time = \"1h\", most = \"1h\" }"));
    b.kill();
    shares(&scene, 20).await;
    left_out(&scene, &b, 1).await;
    scene.gateway.advance(Duration::from_secs(3601));
    left_out(&scene, &b, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_fail_all_count_and_where_none_may_be_left_out_none_is() {
    let [a, b, _] = three().await;
    let scene = Scene::start("", &route(&urls(&[&a, &b]), "ejection = { failures = 1, time = \"1h\", most = \"1h\" }"));
    a.kill();
    b.kill();
    for _ in 0..6 {
        let answer = scene.get("/", &[]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (502, "upstream-unreachable"));
    }
    a.revive().await;
    b.revive().await;
    assert_eq!(shares(&scene, 40).await.len(), 2, "nobody is left out for good");
    // One alone is not left out, nor counted as such.
    a.kill();
    let scene = Scene::start("", &route(&format!("{:?}", a.url()), "connections = 9"));
    for _ in 0..6 {
        assert_eq!(scene.get("/", &[]).await.status, 502);
    }
    assert_eq!(scene.gateway.metric(&format!("doorward_upstream_ejections_total{{upstream={:?}}}", a.url())).await, 0);
    a.revive().await;
    assert_eq!(shares(&scene, 5).await, pairs(&[("a", 5)]));
    // The same with failures = 0: a dead one is tried each time, and its requests go to the other.
    let scene = Scene::start("", &route(&urls(&[&a, &b]), "balance = \"round-robin\"\nejection = { failures = 0 }"));
    b.kill();
    assert_eq!(shares(&scene, 20).await, pairs(&[("a", 20)]));
    assert_eq!(scene.gateway.metric(&format!("doorward_upstream_ejections_total{{upstream={:?}}}", b.url())).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_leaves_out_who_answers_otherwise() {
    let [a, b, _] = three().await;
    let check = "health_check = { path = \"/healthz\", host = \"app.internal\", interval = \"500ms\", status = 200, healthy_after = 1, unhealthy_after = 2 }";
    let scene = Scene::start("", &route(&urls(&[&a, &b]), check));
    eventually("checks at both", || (a.count("/healthz") > 0 && b.count("/healthz") > 0).then_some(())).await;
    b.become_(Manner::Status(204));
    left_out(&scene, &b, 1).await;
    assert_eq!(shares(&scene, 10).await, pairs(&[("a", 10)]));
    b.become_(Manner::Well);
    left_out(&scene, &b, 0).await;
    assert_eq!(shares(&scene, 40).await.len(), 2);
    // Asked once for the process and not for each core: about two a second.
    let (before, began) = (a.count("/healthz"), Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let most = began.elapsed().as_millis() / 500 + 2;
    assert!((a.count("/healthz") - before) as u128 <= most);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_the_same_holds() {
    let (one, other) = (EchoUpstream::start().named("one"), EchoUpstream::start().named("other"));
    let [first, second] = [&one, &other].map(|upstream| upstream.url().replace("http://", "h2c://"));
    let check = "health_check = { path = \"/up\", interval = \"500ms\", healthy_after = 1, unhealthy_after = 2 }";
    let scene = Scene::start("", &route(&format!("[{first:?}, {second:?}]"), check));
    let versions = || one.requests().into_iter().chain(other.requests()).map(|seen| seen.version).collect::<Vec<_>>();
    eventually("checks at both", || (one.count() > 0 && other.count() > 0).then_some(())).await;
    assert_eq!(shares(&scene, 40).await.len(), 2);
    other.stop().await;
    left_out_at(&scene, &second, 1).await;
    assert_eq!(shares(&scene, 10).await, pairs(&[("one", 10)]));
    other.start_again();
    left_out_at(&scene, &second, 0).await;
    assert_eq!(shares(&scene, 40).await.len(), 2);
    assert!(versions().iter().all(|version| *version == http::Version::HTTP_2), "{:?}", versions());
}

async fn left_out(scene: &Scene, upstream: &Plain, addresses: u64) {
    left_out_at(scene, &upstream.url(), addresses).await;
}

async fn left_out_at(scene: &Scene, entry: &str, addresses: u64) {
    let series = format!("doorward_upstream_addresses_left_out{{upstream={entry:?}}}");
    eventually_true(&format!("{addresses} at {series}"), async || scene.gateway.metric(&series).await == addresses).await;
}

// --- what is sent twice

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_sent_twice_is_and_nothing_else_is() {
    let [a, b, _] = three().await;
    let scene = Scene::start("", &route(&urls(&[&a, &b]), "balance = \"round-robin\"\nejection = { failures = 0 }"));
    let send = async |method: &str, path: &str, body: &str| {
        let mut request = http::Request::builder().method(method).uri(scene.url(path));
        if !body.is_empty() {
            request = request.header("content-length", body.len());
        }
        let body = if body.is_empty() { empty() } else { full(body.to_owned()) };
        HttpClient::new().fetch(request.body(body).unwrap()).await
    };
    // (how the upstream fails, the request, whether somebody else may be asked)
    for (row, (manner, method, body, again)) in [
        (Manner::CutOff, "GET", "", true),
        (Manner::CutOff, "DELETE", "", true),
        (Manner::CutOff, "PUT", "", true),
        (Manner::CutOff, "POST", "", false),
        (Manner::CutOff, "PATCH", "", false),
        (Manner::CutOff, "POST", "form=1", false),
        (Manner::CutOff, "PUT", "all of it", false),
        (Manner::HalfHead, "GET", "", false),
        (Manner::Gibberish, "GET", "", false),
        (Manner::Status(503), "GET", "", false),
    ]
    .into_iter()
    .enumerate()
    {
        b.become_(manner);
        let path = format!("/row{row}");
        let mut failed = 0;
        for n in 0..8 {
            let answer = send(method, &format!("{path}/{n}"), body).await;
            failed += usize::from(answer.status != 200);
            let sent = a.count(&format!("{path}/{n} ")) + b.count(&format!("{path}/{n} "));
            assert!(sent == 1 || (again && sent == 2), "{method} {manner:?}: sent {sent} times");
        }
        assert_eq!(failed == 0, again, "{method} {manner:?}: {failed} failed");
    }
    // Of both at once one is tried after the other, and then it is over.
    a.become_(Manner::CutOff);
    b.become_(Manner::CutOff);
    let answer = send("GET", "/both", "").await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (502, "upstream-broken"));
    assert_eq!((a.count("/both "), b.count("/both ")), (1, 1));
    // No connection: nothing was sent, and any method may go elsewhere.
    a.become_(Manner::Well);
    b.kill();
    for n in 0..6 {
        assert_eq!(send("POST", &format!("/dead/{n}"), "form=1").await.status, 200);
        assert_eq!(a.count(&format!("/dead/{n} ")), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_address_is_asked_again_where_its_connection_had_rested() {
    let upstream = Plain::start("a", local(2, 0)).await;
    let scene = Scene::start("", &route(&format!("{:?}", upstream.url()), ""));
    let mut downstream = HttpClient::new().connect(&scene.url("/").parse().unwrap()).await.unwrap();
    let mut send = async |method: &str, path: &str| {
        let request = http::Request::builder().method(method).uri(scene.url(path)).body(empty()).unwrap();
        downstream.fetch(request).await.status.as_u16()
    };
    for (method, status, times) in [("GET", 200, 2), ("POST", 502, 1)] {
        assert_eq!(send("GET", "/warm").await, 200);
        // So long waits a connection that its upstream may be about to close.
        tokio::time::sleep(Duration::from_millis(400)).await;
        upstream.become_(Manner::CutOffOnce);
        assert_eq!((send(method, &format!("/{method}")).await, upstream.count(&format!("/{method} "))), (status, times));
    }
}

// --- names

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_followed_where_it_leads_within_its_ttl() {
    let a = Plain::start("a", local(2, 0)).await;
    let port = a.address().port();
    let (b, c) = (Plain::start("b", local(3, port)).await, Plain::start("c", local(4, port)).await);
    let dns = Dns::start().await;
    dns.say("app.test", &["127.0.0.2", "127.0.0.3"], 1);
    let top = format!("dns_servers = [\"{}\"]", dns.address());
    let scene = Scene::start(&top, &route(&format!("\"http://app.test:{port}\""), "balance = \"round-robin\""));
    let both = shares(&scene, 20).await;
    assert!(both["a"] >= 8 && both["b"] >= 8, "each address of a name is one: {both:?}");
    let entry = format!("upstream_addresses{{upstream=\"http://app.test:{port}\"}}");
    assert_eq!(scene.gateway.metric(&format!("doorward_{entry}")).await, 2);
    dns.say("app.test", &["127.0.0.4"], 1);
    // One second is the TTL; then no request goes to the old ones, which are still there.
    eventually_true("the name's new place", async || name(&scene.get("/", &[]).await) == "c").await;
    assert_eq!(shares(&scene, 20).await, pairs(&[("c", 20)]));
    // Whatever fails there, the last answer goes on.
    dns.fail(true);
    let failed = "doorward_upstream_lookups_failed_total{name=\"app.test\"}";
    eventually_true("a look-up that fails", async || scene.gateway.metric(failed).await > 0).await;
    assert_eq!(shares(&scene, 10).await, pairs(&[("c", 10)]));
    drop((b, c));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_knows_is_told_and_is_asked_for_again() {
    let a = Plain::start("a", local(2, 0)).await;
    let dns = Dns::start().await;
    let top = format!("dns_servers = [\"{}\"]", dns.address());
    let scene = Scene::start(&top, &route(&format!("\"http://late.test:{}\"", a.address().port()), ""));
    let answer = scene.get("/x", &[]).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (502, "upstream-unreachable"));
    assert!(scene.gateway.access_line("/x").await.contains("late.test"));
    dns.say("late.test", &["127.0.0.2"], 30);
    eventually_true("the name", async || scene.get("/", &[]).await.status == 200).await;
    let asked = dns.asked();
    assert_eq!(shares(&scene, 20).await, pairs(&[("a", 20)]));
    assert_eq!(dns.asked(), asked, "no request asks for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_is_refused_changes_nobody_who_is_asked() {
    let a = Plain::start("a", local(2, 0)).await;
    let port = a.address().port();
    let b = Plain::start("b", local(3, port)).await;
    let (before, after) = (Dns::start().await, Dns::start().await);
    before.say("app.test", &["127.0.0.2"], 1);
    after.say("app.test", &["127.0.0.3"], 1);
    after.say("new.test", &["127.0.0.3"], 1);
    let top = format!("dns_servers = [\"{}\"]", before.address());
    let scene = Scene::start(&top, &route(&format!("\"http://app.test:{port}\""), ""));
    assert_eq!(shares(&scene, 5).await, pairs(&[("a", 5)]));
    let text = scene.gateway.config().replace(&before.address().to_string(), &after.address().to_string());
    let dir = TempDir::new("balancing");
    let file = dir.write("ca.pem", "no certificate");
    let broken = format!(
        "{text}[[route]]\npath = \"/tls/\"\naccess = \"public\"\nupstream = \"https://127.0.0.1:1\"\ntls = {{ ca_file = {file:?} }}\n"
    );
    assert!(matches!(scene.gateway.reload(&broken).await, Err(ReloadError::NotMade(_))), "a file that cannot be used");
    let asked = before.asked();
    eventually("the next look-up", || (before.asked() > asked + 1).then_some(())).await;
    assert_eq!((after.asked(), shares(&scene, 5).await), (0, pairs(&[("a", 5)])));
    // One that is taken: the others are asked at once, for what only they know too.
    let new = format!("{text}[[route]]\npath = \"/new/\"\naccess = \"public\"\nupstream = \"http://new.test:{port}\"\n");
    scene.gateway.reload(&new).await.unwrap();
    assert_eq!(name(&scene.get("/new/", &[]).await), "b");
    eventually_true("the other servers' answer", async || name(&scene.get("/", &[]).await) == "b").await;
    drop(b);
}

// --- limits and times

#[tokio::test(flavor = "multi_thread")]
async fn so_many_at_once_and_the_next_one_waits_or_is_told() {
    let upstream = EchoUpstream::start();
    let keys = "connections = 2\ntimeouts = { connect = \"500ms\" }";
    let scene = Scene::start("", &route(&format!("{:?}", upstream.url()), keys));
    let hang = |n: usize| {
        let (client, url) = (HttpClient::new(), scene.url(&format!("/hang?{n}")));
        tokio::spawn(async move { client.get(&url).await })
    };
    let (first, tunnel) = (hang(1), WebSocket::connect(&HttpClient::new(), &scene.url("/ws"), &[]).await.unwrap());
    upstream.streams_become(2).await;
    let reached = upstream.count();
    let began = Instant::now();
    let refused = scene.get("/third", &[]).await;
    assert_eq!((refused.status.as_u16(), reason(&refused).as_str()), (503, "upstream-busy"));
    assert!(refused.header("retry-after").is_some() && began.elapsed() >= Duration::from_millis(400));
    assert_eq!(upstream.count(), reached, "it was not sent");
    // A place that falls free is the next one's.
    let waiting = tokio::spawn({
        let (client, url) = (HttpClient::new(), scene.url("/fourth"));
        async move { client.get(&url).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    tunnel.close().await;
    assert_eq!(waiting.await.unwrap().status, 200);
    upstream.end_streams();
    assert_eq!(first.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_a_limit_the_one_with_a_place_is_asked() {
    let (one, other) = (EchoUpstream::start().named("one"), EchoUpstream::start().named("other"));
    let keys = "connections = 1\nbalance = \"round-robin\"\ntimeouts = { connect = \"300ms\" }";
    let scene = Scene::start("", &route(&format!("[{:?}, {:?}]", one.url(), other.url()), keys));
    let hung = tokio::spawn({
        let (client, url) = (HttpClient::new(), scene.url("/hang"));
        async move { client.get(&url).await }
    });
    eventually("the first", || (one.open_streams() + other.open_streams() == 1).then_some(())).await;
    let free = if one.open_streams() == 1 { "other" } else { "one" };
    assert_eq!(shares(&scene, 10).await, pairs(&[(free, 10)]));
    one.end_streams();
    other.end_streams();
    assert_eq!(hung.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_one_limit_whichever_route_or_config_names_it() {
    let upstream = EchoUpstream::start();
    let bound = |path: &str| {
        let url = upstream.url();
        format!(
            "[[route]]\npath = \"{path}\"\naccess = \"public\"\nupstream = {url:?}\nconnections = 1\ntimeouts = {{ connect = \"200ms\" }}\n"
        )
    };
    let scene = Scene::start("", &format!("{}{}", bound("/one/"), bound("/other/")));
    let open = async |path: &str| WebSocket::connect(&HttpClient::new(), &scene.url(path), &[]).await.unwrap();
    let tunnel = open("/one/ws").await;
    let busy = async |path: &str| {
        let answer = scene.get(path, &[]).await;
        if answer.status == 503 {
            assert_eq!(reason(&answer), "upstream-busy");
        }
        answer.status == 503
    };
    assert!(busy("/other/").await);
    let to = async |connections: usize| {
        let text = scene.gateway.config().replace("connections = 1\n", &format!("connections = {connections}\n"));
        scene.gateway.reload(&text).await.unwrap();
    };
    to(2).await;
    let second = open("/other/ws").await;
    assert!(busy("/one/").await, "the tunnel of before is one of the two");
    to(1).await;
    second.close().await;
    // Of two that were taken one is left, and that is all there are.
    upstream.streams_become(1).await;
    assert!(busy("/other/").await);
    tunnel.close().await;
    upstream.streams_become(0).await;
    eventually_true("a place", async || !busy("/other/").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_of_a_route_are_its_own() {
    let here = "upstream = \"@UPSTREAM@\"\n";
    let routes = format!(
        "[[route]]\npath = \"/short/\"\naccess = \"public\"\n{here}timeouts = {{ response = \"300ms\" }}\n\
         [[route]]\npath = \"/idle/\"\naccess = \"public\"\n{here}timeouts = {{ idle = \"1s\" }}\n\
         [[route]]\npath = \"/usual/\"\naccess = \"public\"\n{here}\
         [[route]]\npath = \"/gone/\"\naccess = \"public\"\nupstream = \"http://192.0.2.1:9\"\ntimeouts = {{ connect = \"200ms\" }}\n"
    );
    let scene = Scene::start("", &routes);
    let slow = scene.get("/short/slow?ms=1500", &[]).await;
    assert_eq!((slow.status.as_u16(), reason(&slow).as_str()), (504, "upstream-timeout"));
    assert_eq!(scene.get("/usual/slow?ms=600", &[]).await.status, 200);
    assert_eq!(scene.get("/short/slow?ms=10", &[]).await.status, 200);
    // Nothing moves for too long in a tunnel; what moves stays.
    let mut tunnel = WebSocket::connect(&HttpClient::new(), &scene.url("/idle/ws"), &[]).await.unwrap();
    let mut usual = WebSocket::connect(&HttpClient::new(), &scene.url("/usual/ws"), &[]).await.unwrap();
    for n in 0..4 {
        assert!(tunnel.echo(&format!("still here {n}")).await);
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert!(tunnel.ends_within(Duration::from_secs(5)).await);
    assert!(usual.echo("nobody bounds this one").await);
    let began = Instant::now();
    let gone = scene.get("/gone/", &[]).await;
    // Some networks refuse what leads nowhere, others say nothing.
    assert!(matches!(reason(&gone).as_str(), "upstream-timeout" | "upstream-unreachable"));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_on_which_nothing_moves_is_broken_off() {
    let scene = Scene::start("", &route("\"@UPSTREAM@\"", "timeouts = { idle = \"1s\" }"));
    let streamed = HttpClient::new();
    // Its pieces come every 10 ms: longer than the bound in all, and never too late.
    let open = streamed.open(get(&scene.url("/stream"))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    scene.upstream.end_streams();
    let whole = open.whole().await;
    assert!(whole.is_ok(), "what moves is not broken off");
    let silent = Plain::start("a", local(2, 0)).await;
    silent.become_(Manner::Stalls);
    let scene = Scene::start("", &route(&format!("{:?}", silent.url()), "timeouts = { idle = \"300ms\" }"));
    let began = Instant::now();
    let broken = HttpClient::new().try_fetch(get(&scene.url("/"))).await;
    assert!(broken.is_err(), "half an answer is not a whole one");
    assert!(began.elapsed() >= Duration::from_millis(280) && began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

// --- another config

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_changes_switches_at_once_and_keeps_what_stays() {
    let [a, b, c] = three().await;
    let keys = "ejection = { failures = 1, time = \"1h\", most = \"1h\" }";
    let scene = Scene::start("", &route(&urls(&[&a, &b]), keys));
    b.kill();
    assert_eq!(shares(&scene, 20).await, pairs(&[("a", 20)]));
    b.revive().await;
    let text = scene.gateway.config().replace(&urls(&[&a, &b]), &urls(&[&a, &b, &c]));
    scene.gateway.reload(&text).await.unwrap();
    // Who was left out still is; who is new is asked.
    let shares_now = shares(&scene, 40).await;
    assert_eq!(shares_now.keys().collect::<Vec<_>>(), ["a", "c"], "{shares_now:?}");
    let text = scene.gateway.config().replace(&urls(&[&a, &b]), &urls(&[&b, &c]));
    scene.gateway.reload(&text).await.unwrap();
    assert_eq!(shares(&scene, 20).await, pairs(&[("c", 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_members_that_stay_outlive_a_reload() {
    let (stays, goes) = (EchoUpstream::start().named("stays"), EchoUpstream::start().named("goes"));
    let both = format!("[{:?}, {:?}]", stays.url(), goes.url());
    let scene = Scene::start("", &route(&both, "balance = \"round-robin\""));
    shares(&scene, 20).await;
    let opened = stays.connections();
    let text = scene.gateway.config().replace(&both, &format!("{:?}", stays.url()));
    scene.gateway.reload(&text.replace("balance = \"round-robin\"", "")).await.unwrap();
    assert_eq!(shares(&scene, 20).await, pairs(&[("stays", 20)]));
    assert_eq!(stays.connections(), opened, "the same connections go on");
}

// --- the commands

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_tell_of_each_address() {
    let [a, b, _] = three().await;
    let provider = HostileProvider::start();
    let upstream = format!("[{{ url = {:?}, weight = 2 }}, {:?}]", a.url(), b.url());
    let sign_in = format!("[provider]\nissuer = {:?}\nclient_id = \"app\"\nclient_secret = \"s\"\n", provider.issuer());
    let dir = TempDir::new("balancing");
    let file =
        dir.write("config.toml", format!("public_url = \"https://app.test\"\n{sign_in}{}", route(&upstream, "balance = \"sticky\"")));
    let run = async |args: &[&str]| {
        let mut command = std::process::Command::new(command());
        command.args(args).arg("--config").arg(&file).env_clear();
        let output = tokio::task::spawn_blocking(move || command.output().expect("the binary is built")).await.unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let explained = run(&["explain", "GET", "https://app.test/"]).await;
    let told = format!("one of {} (weight 2), {} (sticky)", a.url(), b.url());
    assert!(explained.contains(&told), "{explained}");
    b.kill();
    let checked = run(&["check", "--online"]).await;
    let line = |upstream: &Plain| {
        checked.lines().find(|line| line.contains(&format!("upstream {}", upstream.url()))).unwrap_or_default().to_owned()
    };
    assert!(line(&a).starts_with("ok") && line(&b).starts_with("problem"), "{checked}");
}
