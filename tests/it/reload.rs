//! A running gateway takes another config: all of it on all cores at once, and what was begun ends as it began. A bad one changes nothing.

#![allow(clippy::disallowed_methods, reason = "how soon a stream ends is told by the machine's own clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use doorward::app::ReloadError;
use http::Request;
use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::body::{TestBody, empty};
use crate::harness::browser::Browser;
use crate::harness::certs::{CertificateAuthority, Leaf};
use crate::harness::gateway::{Gateway, GatewayProcess, TOP, provider};
use crate::harness::held::Held;
use crate::harness::hostile::{Endpoint, HostileProvider};
use crate::harness::http::{Connection, HttpClient, fetch, get};
use crate::harness::process::Launch;
use crate::harness::scene::{PUBLIC, Scene, reason};
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, eventually_true, free_port};
use crate::harness::world::{Shape, World, reason_of};

/// What is said to end ends within this.
const AT_ONCE: Duration = Duration::from_secs(1);

const ROUTES: &str = r#"
[[route]]
id = "app"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
headers = { "X-Which" = "{claims.sub} on app" }
[[route]]
id = "api"
path = "/api/"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
headers = { "X-Which" = "{claims.sub} on api" }
"#;

fn world(tables: &str) -> World {
    World::shaped(Shape { routes: Some(ROUTES), tables, ..Shape::default() }, |provider| provider)
}

/// The config with something in another's place; a mistake in the test when there is nothing to replace.
fn changed(gateway: &Gateway, from: &str, to: &str) -> String {
    let text = gateway.config();
    assert!(text.contains(from), "no {from:?} in\n{text}");
    text.replace(from, to)
}

async fn take(gateway: &Gateway, text: &str) -> u64 {
    gateway.reload(text).await.unwrap_or_else(|error| panic!("refused: {error}"))
}

fn with(url: &str, cookie: &str) -> Request<TestBody> {
    Request::get(url).header("cookie", cookie).body(empty()).expect("a request")
}

async fn cookie_of(world: &World) -> String {
    format!("doorward={}", world.session(&world.signed_in().await).expect("a session"))
}

/// Connections that stay open, on all cores.
async fn connections(gateway: &Gateway) -> Vec<Connection> {
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(HttpClient::new().connect(&gateway.url.parse().expect("a URL")).await.expect("a connection"));
    }
    all
}

/// What each of them answers.
async fn each(connections: &mut [Connection], url: &str, cookie: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for connection in connections {
        answers.push(connection.fetch(with(url, cookie)).await);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_request_of_every_open_connection_is_judged_by_the_new_config() {
    let world = world("");
    let cookie = cookie_of(&world).await;
    let mut open = connections(&world.gateway).await;
    let (app, api) = (world.at("/app"), world.at("/api/x"));
    let which = |answer: &Answer| {
        let headers = answer.json()["headers"].as_array().cloned().unwrap_or_default();
        headers
            .iter()
            .find(|pair| pair[0] == "x-which")
            .map(|pair| pair[1].as_str().unwrap_or_default().rsplit(' ').next().unwrap().to_owned())
    };
    for answer in each(&mut open, &app, &cookie).await {
        assert_eq!((answer.status.as_u16(), which(&answer).as_deref()), (200, Some("app")), "{}", answer.text());
    }
    each(&mut open, &api, &cookie).await;
    let elsewhere = EchoUpstream::start();

    // The same routes in another order: what is kept ready for a session goes by the route, not by its place in the file.
    let (head, routes) = world.gateway.config().split_once("[[route]]").expect("routes");
    let (first, second) = routes.split_once("[[route]]").expect("two routes");
    assert_eq!(take(&world.gateway, &format!("{head}[[route]]{second}\n[[route]]{first}")).await, 2);
    for answer in each(&mut open, &app, &cookie).await {
        assert_eq!(which(&answer).as_deref(), Some("app"), "{}", answer.text());
    }
    for answer in each(&mut open, &api, &cookie).await {
        assert_eq!(which(&answer).as_deref(), Some("api"), "{}", answer.text());
    }
    // Counts go on under the route's name.
    assert_eq!(world.gateway.metric("doorward_requests_total{route=\"api\",reason=\"allowed\"}").await, 12);

    // Other headers, another upstream.
    let other = changed(&world.gateway, &world.upstream.url(), &elsewhere.url()).replace("on app", "on new");
    take(&world.gateway, &other).await;
    let before = world.upstream.count();
    for answer in each(&mut open, &app, &cookie).await {
        assert_eq!(which(&answer).as_deref(), Some("new"), "{}", answer.text());
    }
    assert_eq!((world.upstream.count(), elsewhere.count()), (before, 6));

    // Nobody is allowed any more.
    take(&world.gateway, &changed(&world.gateway, "allow = \"any-authenticated\"", "allow = { groups = [\"nobody\"] }")).await;
    let before = world.upstream.count();
    for answer in each(&mut open, &app, &cookie).await {
        assert_eq!((answer.status.as_u16(), reason_of(&answer)), (403, "not-allowed".to_owned()));
    }
    assert_eq!((world.upstream.count(), elsewhere.count()), (before, 6));

    // A route is gone, another has come.
    let text = changed(&world.gateway, "id = \"app\"", "id = \"public\"\npath = \"/public\"\naccess = \"public\"");
    let text = text.replacen("allow = \"any-authenticated\"\nheaders = { \"X-Which\" = \"{claims.sub} on app\" }", "", 1);
    take(&world.gateway, &text).await;
    for answer in each(&mut open, &app, &cookie).await {
        assert_eq!((answer.status.as_u16(), reason_of(&answer)), (404, "no-route".to_owned()));
    }
    for answer in each(&mut open, &world.at("/public"), "").await {
        assert_eq!(answer.status, 200);
    }
    // And back: the session has been good all the time.
    assert_eq!(take(&world.gateway, world.gateway.config()).await, 6);
    for answer in each(&mut open, &app, &cookie).await {
        assert_eq!((answer.status.as_u16(), which(&answer).as_deref()), (200, Some("app")));
    }
    assert!(open.iter().all(|connection| !connection.is_closed()));
    assert_eq!(world.gateway.metric("doorward_config_generation").await, 6);
    assert_eq!(world.gateway.metric("doorward_config_reloads_total{outcome=\"taken\"}").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_config_is_refused_with_all_its_problems_and_the_old_one_goes_on() {
    let world = world("");
    let cookie = cookie_of(&world).await;
    let mut open = connections(&world.gateway).await;
    let text = changed(&world.gateway, "id = \"api\"", "id = \"api\"\nupsteam = \"x\"").replace("path = \"/api/\"", "path = \"api\"");
    match world.gateway.reload(&text).await {
        Err(ReloadError::Problems(problems)) => {
            let told: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
            assert!(told.contains(&"route[1].upsteam") && told.contains(&"route[1].path"), "{problems:?}");
        }
        other => panic!("{other:?}"),
    }
    // What only shows when the gateway is made of it.
    world.gateway.dir.write("empty.pem", "");
    let text = changed(&world.gateway, &world.upstream.url(), "https://127.0.0.1:1")
        .replace("id = \"api\"", "id = \"api\"\ntls = { ca_file = \"@DIR@/empty.pem\" }");
    match world.gateway.reload(&text).await {
        Err(ReloadError::NotMade(error)) => assert!(error.to_string().contains("empty.pem"), "{error}"),
        other => panic!("{other:?}"),
    }
    // Half of it.
    let half = &world.gateway.config()[..world.gateway.config().len() / 2];
    assert!(matches!(world.gateway.reload(half).await, Err(ReloadError::Problems(_))));

    for answer in each(&mut open, &world.at("/api/x"), &cookie).await {
        assert_eq!(answer.status, 200);
    }
    let metric = async |series: &str| world.gateway.metric(series).await;
    assert_eq!(metric("doorward_config_reloads_total{outcome=\"refused\"}").await, 3);
    assert_eq!((metric("doorward_config_generation").await, metric("doorward_config_refused").await), (1, 1));
    take(&world.gateway, world.gateway.config()).await;
    assert_eq!((metric("doorward_config_generation").await, metric("doorward_config_refused").await), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_began_under_one_config_ends_under_the_next() {
    let world = world("");
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/app").await;
    let text = changed(&world.gateway, "on app", "on new")
        .replace("[[route]]\nid = \"app\"", "[session]\ncookie = \"browser\"\n[[route]]\nid = \"app\"");
    take(&world.gateway, &text).await;
    let page = browser.follow(&page).await;
    // With the cookie as the new config has it.
    let cookies = page.set_cookies();
    let session = cookies.iter().find(|line| line.starts_with("doorward=")).unwrap_or_else(|| panic!("{cookies:?}"));
    assert!(!session.to_ascii_lowercase().contains("max-age"), "{session}");
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.text().contains("on new"), "{}", page.text());
    // And before it was kept for longer.
    take(&world.gateway, world.gateway.config()).await;
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/app").await;
    let page = browser.follow(&page).await;
    assert!(page.set_cookies().iter().any(|line| line.starts_with("doorward=") && line.to_ascii_lowercase().contains("max-age")));
}

#[tokio::test(flavor = "multi_thread")]
async fn lifetimes_and_secrets_are_those_of_the_new_config() {
    let world = world("[session]\nidle = \"1h\"\n[admin]\ntoken = \"the-first-admin-token\"\n");
    let cookie = cookie_of(&world).await;
    world.advance(Duration::from_secs(40 * 60));
    assert_eq!(fetch(with(&world.at("/app"), &cookie)).await.status, 200);
    take(&world.gateway, &changed(&world.gateway, "idle = \"1h\"", "idle = \"30m\"")).await;
    world.advance(Duration::from_secs(20 * 60));
    assert_eq!(fetch(with(&world.at("/app"), &cookie)).await.status, 200);
    world.advance(Duration::from_secs(40 * 60));
    let over = fetch(with(&world.at("/app"), &cookie)).await;
    assert_eq!((over.status.as_u16(), reason_of(&over)), (401, "session-idle".to_owned()));

    let listed = async |token: &str| {
        let request = Request::get(format!("{}/sessions", world.gateway.admin)).header("authorization", format!("Bearer {token}"));
        fetch(request.body(empty()).expect("a request")).await.status.as_u16()
    };
    assert_eq!((listed("the-first-admin-token").await, listed("the-other-admin-token").await), (200, 401));
    take(&world.gateway, &changed(&world.gateway, "the-first-admin-token", "the-other-admin-token")).await;
    assert_eq!((listed("the-first-admin-token").await, listed("the-other-admin-token").await), (401, 200));

    // The provider takes the right client secret only.
    let right = world.provider.client_secret().to_owned();
    take(&world.gateway, &changed(&world.gateway, &right, "a-wrong-secret-of-ours")).await;
    let mut browser = Browser::new();
    let page = world.visit(&mut browser, "/app").await;
    assert!(page.status != 200 && world.session(&browser).is_none(), "{}", page.text());
    world.gateway.dir.write_secret("secret", &right);
    let by_file = changed(&world.gateway, &format!("client_secret = \"{right}\""), "client_secret_file = \"@DIR@/secret\"");
    take(&world.gateway, &by_file).await;
    world.signed_in().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_outlive_the_config_they_began_under_and_still_end_with_their_session() {
    let world = world("");
    let mut browser = world.signed_in().await;
    let cookie = format!("doorward={}", world.session(&browser).expect("a session"));
    let client = HttpClient::new();
    let opened = |held: Result<Held, Box<Answer>>| held.unwrap_or_else(|answer| panic!("{}", answer.text()));
    let in_use = async || world.gateway.metric("doorward_config_generations_in_use").await;
    let mut streams = Vec::new();
    for n in 0..3 {
        streams.push(opened(Held::events(&client, &world.at("/app/sse"), &[("cookie", &cookie)]).await));
        streams.push(opened(Held::websocket(&client, &world.at("/app/ws"), &[("cookie", &cookie)]).await));
        // Even when the route goes.
        let text = if n == 2 {
            changed(&world.gateway, "id = \"app\"", "id = \"app\"\npath = \"/nothing\"")
        } else {
            world.gateway.config().to_owned()
        };
        take(&world.gateway, &text).await;
    }
    let pieces: Vec<usize> = streams.iter().map(Held::pieces).collect();
    eventually_true("more events", async || streams.iter().zip(&pieces).step_by(2).all(|(stream, before)| stream.pieces() > *before)).await;
    assert!(streams.iter().all(|stream| stream.end().is_none()));
    assert_eq!(in_use().await, 4, "each config with a stream of its own, and the one that serves");
    let page = browser.get(&world.at("/oauth2/session")).await;
    browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    for stream in &streams {
        assert!(stream.ends_within(AT_ONCE).await.is_some());
    }
    world.upstream.streams_become(0).await;
    eventually_true("old configs to go", async || in_use().await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_registration_gave_out_is_not_shown_to_the_next_under_its_name() {
    let world = World::shaped(Shape { routes: Some(ROUTES), ..Shape::default() }, |provider| provider.refresh(true));
    let cookie = cookie_of(&world).await;
    let held = Held::websocket(&HttpClient::new(), &world.at("/app/ws"), &[("cookie", &cookie)]).await;
    let stream = held.unwrap_or_else(|answer| panic!("{}", answer.text()));
    let mut late = Browser::new();
    let page = world.before_callback(&mut late, "/app").await;
    let tokens = world.tokens();
    let known = format!("client_id = \"{}\"", world.provider.client_id());
    take(&world.gateway, &changed(&world.gateway, &known, "client_id = \"another\"")).await;
    // What is open in the name of a session ends where the session itself counts no more, and nobody renews it.
    assert!(stream.ends_within(PATIENCE).await.is_some());
    // A code is not spent with whom it is not of.
    let page = late.follow(&page).await;
    assert_eq!((page.status.as_u16(), world.session(&late)), (400, None), "{}", page.text());
    assert_eq!(world.tokens(), tokens);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_provider_that_did_not_change_is_kept_and_of_one_that_did_is_not() {
    let tables = "[[route]]\nid = \"api\"\nupstream = \"@UPSTREAM@\"\naccept = [\"session\", \"bearer\"]\nallow = \"any-authenticated\"\n";
    let scene = Scene::start("", tables);
    let cookie = scene.session().await;
    let ask = async |path: &str| {
        let token = scene.token(json!({ "jti": path }));
        scene.get(path, &[("authorization", &format!("Bearer {token}"))]).await
    };
    assert_eq!(ask("/1").await.status, 200);
    let asked = || (scene.provider.count(Endpoint::Discovery), scene.provider.count(Endpoint::Jwks));
    let before = asked();
    let more = |n: usize| {
        format!(
            "{}\n[[route]]\nid = \"more\"\npath = \"/more{n}\"\naccess = \"public\"\nupstream = \"static:204\"\n",
            scene.gateway.config()
        )
    };
    take(&scene.gateway, &more(1)).await;
    assert_eq!((ask("/2").await.status.as_u16(), scene.get("/more1", &[]).await.status.as_u16()), (200, 204));
    assert_eq!(asked(), before, "a reload asks nobody");

    // So a provider that is down just then is no outage.
    scene.provider.stop().await;
    take(&scene.gateway, &more(2)).await;
    assert_eq!(ask("/3").await.status, 200);
    assert_eq!(scene.get("/4", &[("cookie", &cookie)]).await.status, 200);
    let ready = fetch(get(&format!("{}/readyz", scene.gateway.admin))).await.json();
    assert_eq!(ready["dependencies"]["provider default"], "ok", "{ready}");

    // One that is another from now on has to be asked.
    take(&scene.gateway, &changed(&scene.gateway, "audience = \"api\"", "audience = [\"api\", \"other\"]")).await;
    let answer = ask("/5").await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (503, "keys-unreachable"));
    // Nothing was forgotten of the sessions.
    assert_eq!(scene.get("/6", &[("cookie", &cookie)]).await.status, 200);
    scene.provider.start_again();
    scene.gateway.advance(Duration::from_secs(10));
    eventually_true("the keys", async || ask("/7").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_an_upstream_that_did_not_change_are_taken_over() {
    let scene = Scene::start("", PUBLIC);
    let mut one = HttpClient::new().connect(&scene.gateway.url.parse().expect("a URL")).await.expect("a connection");
    let url = scene.url("/");
    one.fetch(get(&url)).await;
    for n in 0..3 {
        let more = format!(
            "{}\n[[route]]\nid = \"more\"\npath = \"/more{n}\"\naccess = \"public\"\nupstream = \"static:204\"\n",
            scene.gateway.config()
        );
        take(&scene.gateway, &more).await;
        assert_eq!(one.fetch(get(&url)).await.status, 200);
    }
    assert_eq!(scene.upstream.connections(), 1);
    // Under other bounds they are others.
    take(&scene.gateway, &format!("{}\n[limits]\nupstream_idle_timeout = \"5s\"\n", scene.gateway.config())).await;
    assert_eq!(one.fetch(get(&url)).await.status, 200);
    assert_eq!(scene.upstream.connections(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_connections_hold_for_those_that_come_later() {
    let scene = Scene::start("", &format!("{PUBLIC}[limits]\nheader_bytes = \"16KiB\"\n"));
    let address = scene.gateway.url.parse().expect("a URL");
    let connect = async || HttpClient::new().connect(&address).await.expect("a connection");
    let large = || Request::get(scene.url("/")).header("x-large", "x".repeat(10 * 1024)).body(empty()).expect("a request");
    let mut before = connect().await;
    assert_eq!(before.fetch(large()).await.status, 200);
    take(&scene.gateway, &changed(&scene.gateway, "16KiB", "8KiB")).await;
    assert_eq!(before.fetch(large()).await.status, 200);
    assert_eq!(connect().await.fetch(large()).await.status, 431);
    take(&scene.gateway, scene.gateway.config()).await;
    assert_eq!(connect().await.fetch(large()).await.status, 200);

    // How many may be open: more at once, fewer when enough have ended.
    drop(before);
    take(&scene.gateway, &changed(&scene.gateway, "header_bytes", "connections = 16\nheader_bytes")).await;
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut one = connect().await;
        assert_eq!(one.fetch(get(&scene.url("/"))).await.status, 200);
        open.push(one);
    }
    let mut waiting = connect().await;
    let mut answer = tokio::spawn(async move { waiting.fetch(get("http://x/")).await.status.as_u16() });
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut answer).await.is_err(), "a seventeenth was served");
    take(&scene.gateway, scene.gateway.config()).await;
    assert_eq!(answer.await.expect("an answer"), 421);
    assert!(open.iter().all(|connection| !connection.is_closed()));
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_stay_where_they_were_bound_and_go_by_the_new_config() {
    let hostile = HostileProvider::start();
    let (api, other) = (EchoUpstream::start(), EchoUpstream::start());
    let (bound, unbound) = (free_port(), free_port());
    let people = provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret());
    let listener = format!("[[outgoing]]\nid = \"out\"\nlisten = \"127.0.0.1:{bound}\"\nhosts = [\"{}\"]\noutbound = \"api\"\n", api.url());
    let head = format!(
        "{TOP}store.kind = \"memory\"\nupstream = \"static:204\"\nallow = \"any-authenticated\"\n{people}[outbound.api]\nprovider = \"default\"\n"
    );
    let gateway = Gateway::start(&format!("{head}{listener}"));
    let call = async |to: &EchoUpstream| {
        let client = HttpClient::new().at(([127, 0, 0, 1], bound).into());
        client.get(&to.url()).await.status.as_u16()
    };
    assert_eq!((call(&api).await, call(&other).await), (200, 403));
    take(&gateway, &format!("{head}{}", listener.replace(&api.url(), &other.url()))).await;
    assert_eq!((call(&api).await, call(&other).await), (403, 200));
    assert_eq!((api.count(), other.count(), hostile.count(Endpoint::Token)), (1, 1, 1), "the token is kept");
    // Another before it does not make it another; where it is not said any more, nothing leaves.
    let before = format!("[[outgoing]]\nlisten = \"127.0.0.1:{unbound}\"\nhosts = [\"{}\"]\noutbound = \"api\"\n", api.url());
    take(&gateway, &format!("{head}{before}{}", listener.replace(&api.url(), &other.url()))).await;
    assert_eq!((call(&api).await, call(&other).await), (403, 200));
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", unbound)).await.is_err());
    take(&gateway, &head).await;
    assert_eq!((call(&api).await, call(&other).await), (403, 403));
    assert_eq!((api.count(), other.count()), (1, 2));
    assert_eq!(gateway.metric("doorward_requests_total{route=\"out\",reason=\"outgoing\"}").await, 3);

    // The address is that of the start, whatever a newer config says.
    let moved = changed(&gateway, TOP, &format!("{TOP}admin.ready_needs_store = true\n"));
    take(&gateway, &moved).await;
    assert_eq!(fetch(get(&format!("{}/", gateway.url))).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_is_shown_to_whoever_connects_later_and_a_bad_one_to_nobody() {
    let [first, second] = [(), ()].map(|()| CertificateAuthority::new());
    let leaves = [first.leaf(&["a.test"]), second.leaf(&["a.test"])];
    let files = |leaf: &Leaf| {
        format!("certificate_file = \"{}\"\nkey_file = \"{}\"\n", leaf.certificate_file().display(), leaf.key_file().display())
    };
    let scene = Scene::start_at("https://a.test", "", &format!("[tls]\n{}{PUBLIC}", files(&leaves[0])));
    let connect = async |authority: &CertificateAuthority| {
        let client = HttpClient::new().at(scene.gateway.address).trusting(authority.client_config());
        client.connect(&"https://a.test/".parse().expect("a URL")).await
    };
    let mut before = connect(&first).await.expect("the first is shown");
    take(&scene.gateway, &changed(&scene.gateway, &files(&leaves[0]), &files(&leaves[1]))).await;
    assert!(connect(&first).await.is_err());
    assert_eq!(connect(&second).await.expect("the second is shown").fetch(get("https://a.test/")).await.status, 200);
    assert_eq!(before.fetch(get("https://a.test/")).await.status, 200);
    // The key of another.
    let mixed = files(&leaves[0]).replace(&leaves[0].key_file().display().to_string(), &leaves[1].key_file().display().to_string());
    let refused = scene.gateway.reload(&changed(&scene.gateway, &files(&leaves[0]), &mixed)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(connect(&second).await.is_ok() && connect(&first).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_configs_later_nothing_is_left_of_the_first() {
    let hashes = "assertion = true\n";
    let routes = ROUTES.replacen("id = \"app\"\n", &format!("id = \"app\"\n{hashes}"), 1);
    let world = World::shaped(Shape { routes: Some(&routes), ..Shape::default() }, |provider| provider);
    let cookie = cookie_of(&world).await;
    // Everything in it is another thing each time: the provider, the keys of the assertion, the accounts.
    let text = |n: u32| {
        let text = world.gateway.config().replace("on app", &format!("on {n}"));
        let text = text.replace("[provider]\n", &format!("[keys]\nassertion_rotation = \"{}h\"\n[provider]\nname = \"{n}\"\n", 24 + n));
        format!("{text}\n[[user]]\nname = \"u{n}\"\npassword = \"$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy\"\n")
    };
    take(&world.gateway, &text(0)).await;
    let before = world.gateway.background_tasks();
    for n in 1..200 {
        take(&world.gateway, &text(n)).await;
        if n % 20 == 0 {
            assert_eq!(fetch(with(&world.at("/app"), &cookie)).await.status, 200);
        }
    }
    eventually_true("old configs to go", async || world.gateway.metric("doorward_config_generations_in_use").await == 1).await;
    // What looks around now and then notices a little later that nobody needs it.
    eventually_true("what they did beside requests to end", async || world.gateway.background_tasks() <= before).await;
    assert_eq!(world.gateway.metric("doorward_config_generation").await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_core_goes_back_to_a_config_that_another_has_left() {
    let text = |n: u16| {
        format!(
            "public_url = \"http://127.0.0.1:@PORT@\"\nstore.kind = \"memory\"\n[[user]]\nname = \"u\"\npassword = \"$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy\"\n[[route]]\naccess = \"public\"\nupstream = \"static:{}\"\n",
            210 + n
        )
    };
    let gateway = Gateway::start(&text(0));
    let stop = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let (stop, url) = (Arc::clone(&stop), gateway.url.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                let mut one = HttpClient::new().connect(&url.parse().expect("a URL")).await.expect("a connection");
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let status = one.fetch(get(&url)).await.status.as_u16();
                    seen.push((asked, Instant::now(), status));
                }
                seen
            })
        })
        .collect();
    for n in 1..40 {
        take(&gateway, &text(n)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut seen = Vec::new();
    for one in asking {
        seen.extend(one.await.expect("answers"));
    }
    // By the time they were answered: whoever asks after that is served by that config or a newer one.
    let mut answered: Vec<(Instant, u16)> = seen.iter().map(|(_, answered, status)| (*answered, *status)).collect();
    answered.sort();
    let mut newest = 0;
    for (_, status) in &mut answered {
        newest = newest.max(*status);
        *status = newest;
    }
    for (asked, _, status) in &seen {
        let known = answered.partition_point(|(at, _)| at < asked);
        let before = known.checked_sub(1).map_or(0, |last| answered[last].1);
        assert!(*status >= before, "{status} after {before}");
    }
    assert!(newest == 249 && seen.len() > 500, "{newest}, {} answers", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_or_a_changed_file_has_the_config_read_again_and_what_is_wrong_is_told_once() {
    let users = |status: u16, more: &str| {
        format!(
            "public_url = \"http://127.0.0.1:@PORT@\"\nstore.kind = \"memory\"\nlog.level = \"warn\"\npages.logo_file = \"@DIR@/logo.png\"\n{more}\
             [[user]]\nname = \"u\"\npassword = \"$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy\"\n\
             [[route]]\naccess = \"public\"\nupstream = \"static:{status}\"\n"
        )
        .replace("log.level = \"warn\"", if more.is_empty() { "log.level = \"info\"" } else { "log.level = \"warn\"" })
    };
    let dir = Arc::new(TempDir::new("gateway"));
    dir.write("logo.png", "one");
    let gateway = GatewayProcess::start_in(Arc::clone(&dir), free_port(), &users(201, "")).await;
    let status = async || fetch(get(&format!("{}/", gateway.url))).await.status.as_u16();
    let metric = async |series: &str| gateway.metric(series).await;
    assert_eq!(status().await, 201);

    // By a signal, with an address that waits for the next start.
    gateway.rewrite(&users(202, "").replace("store.kind = \"memory\"", "store.kind = \"memory\"\nlimits.cached_sessions = 77"));
    gateway.process.signal("HUP");
    eventually_true("the signal's config", async || status().await == 202).await;
    let line = gateway.process.wait_for_line(|line| line.contains("count from the next start on"), PATIENCE).await;
    assert!(line.contains("limits.cached_sessions") && !line.contains("store") && !line.contains("listen"), "{line}");

    // By the file alone, and by a file that it names.
    gateway.rewrite(&users(203, ""));
    eventually_true("the file's config", async || status().await == 203).await;
    assert_eq!(metric("doorward_config_generation").await, 3);
    dir.write("logo.png", "two");
    eventually_true("the logo's config", async || metric("doorward_config_generation").await == 4).await;

    // A bad one is told once, as `check` tells it, and not again while nothing changes.
    gateway.rewrite(&users(204, "").replace("access = \"public\"", "acess = \"public\""));
    let refused = |line: &str| line.contains("the new config is refused");
    gateway.process.wait_for_line(refused, PATIENCE).await;
    let file = dir.join("config.toml");
    let checked = Launch::new(crate::harness::gateway::command()).args(["check", "--config"]).arg(&file).start();
    checked.wait(PATIENCE).await;
    let said: Vec<String> = checked.output().lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect();
    assert!(!said.is_empty() && said.iter().any(|line| line.contains("acess")), "{}", checked.output());
    for line in &said {
        assert!(gateway.process.output().contains(line.as_str()), "{line} not in\n{}", gateway.process.output());
    }
    tokio::time::sleep(Duration::from_millis(4500)).await;
    assert_eq!(gateway.process.lines().iter().filter(|line| refused(&line.text)).count(), 1);
    assert_eq!((status().await, metric("doorward_config_refused").await), (203, 1));

    // Less is told when that is what a config says.
    gateway.rewrite(&users(205, "cookie_suffix = \"-x\"\n"));
    gateway.process.signal("HUP");
    eventually_true("the mended config", async || status().await == 205).await;
    assert_eq!(metric("doorward_config_refused").await, 0);
    let before = gateway.process.lines().iter().filter(|line| line.text.contains(" INFO ")).count();
    gateway.process.signal("HUP");
    eventually_true("one more", async || metric("doorward_config_generation").await == 6).await;
    assert_eq!(gateway.process.lines().iter().filter(|line| line.text.contains(" INFO ")).count(), before);
    // While it ends it takes none.
    assert!(gateway.process.status().is_none());
}
