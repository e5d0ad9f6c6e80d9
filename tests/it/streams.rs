//! What stays open in the name of a session (WebSockets, event streams) ends with it, keeps it in use, and is not disturbed by anything else.

#![allow(clippy::disallowed_methods, reason = "how soon a stream ends is told by the machine's own clock")]

use std::time::{Duration, Instant};

use http::Request;
use serde_json::json;

use crate::harness::body::empty;
use crate::harness::held::Held;
use crate::harness::hostile::{Endpoint, Lie};
use crate::harness::http::{HttpClient, fetch};
use crate::harness::raw::{RawAnswer, RawConnection};
use crate::harness::scene::Scene;
use crate::harness::wait::eventually;
use crate::harness::world::{Shape, World, reason_of};
use crate::refresh::{DUE, LIFE, OVER, ROUTES};

/// What is said to end ends within this.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The gateway looks at its clock once a second: what ends or goes on by time alone does so within this.
const LOOK: Duration = Duration::from_millis(2500);

fn world(tables: &str) -> World {
    let tables = format!("{ROUTES}{tables}");
    let world = World::shaped(Shape { routes: Some(&tables), ..Shape::default() }, |provider| provider.refresh(true));
    world.provider.set_expires_in(LIFE, true);
    world
}

/// An event stream and a WebSocket.
async fn both(world: &World, cookie: &str) -> [Held; 2] {
    let (client, headers) = (HttpClient::new(), [("cookie", cookie)]);
    let (sse, ws) = (world.at("/app/sse"), world.at("/app/ws"));
    let (events, socket) = tokio::join!(Held::events(&client, &sse, &headers), Held::websocket(&client, &ws, &headers));
    let opened = |held: Result<Held, Box<crate::harness::http::Answer>>| held.unwrap_or_else(|answer| panic!("{}", answer.text()));
    [opened(events), opened(socket)]
}

async fn end_within(streams: &[Held], time: Duration) {
    let end = Instant::now() + time;
    for stream in streams {
        let left = end.saturating_duration_since(Instant::now());
        assert!(stream.ends_within(left).await.is_some(), "open after {time:?}");
    }
}

/// They are open, and the one that speaks of its own goes on doing so.
async fn go_on(streams: &[Held; 2]) {
    let before = streams[0].pieces();
    eventually("one more event", || (streams[0].pieces() > before + 2 || streams[0].end().is_some()).then_some(())).await;
    for stream in streams {
        assert_eq!(stream.end(), None);
    }
}

async fn cookie_of(world: &World) -> String {
    format!("doorward={}", world.session(&world.signed_in().await).expect("a session"))
}

async fn ask(world: &World, cookie: &str) -> (u16, String) {
    let answer = fetch(Request::get(world.at("/app")).header("cookie", cookie).body(empty()).expect("a request")).await;
    (answer.status.as_u16(), if answer.status == 200 { String::new() } else { reason_of(&answer) })
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_all_streams_of_that_session_at_once_and_no_other() {
    let world = world("");
    let (mut browser, beside) = (world.signed_in().await, cookie_of(&world).await);
    let cookie = format!("doorward={}", world.session(&browser).expect("a session"));
    let (mine, more, others) = (both(&world, &cookie).await, both(&world, &cookie).await, both(&world, &beside).await);
    let public = both_public(&world).await;
    assert_eq!(world.upstream.open_streams(), 8);
    let page = browser.get(&world.at("/oauth2/session")).await;
    go_on(&mine).await;
    let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    assert!(page.set_cookies().iter().any(|line| line.starts_with("doorward=;")), "{}", page.text());
    end_within(&mine, AT_ONCE).await;
    end_within(&more, AT_ONCE).await;
    go_on(&others).await;
    go_on(&public).await;
    world.upstream.streams_become(4).await;
    assert_eq!(ask(&world, &beside).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_uploads_of_that_session_whatever_they_say_of_their_length() {
    let world = world("");
    let (mut browser, beside) = (world.signed_in().await, cookie_of(&world).await);
    let cookie = format!("doorward={}", world.session(&browser).expect("a session"));
    let begun = async |path: &str, framing: &str, cookie: &str| {
        let mut connection = RawConnection::open(world.gateway.address).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nCookie: {cookie}\r\nConnection: close\r\n{framing}",
            world.gateway.address
        );
        connection.send(head).await;
        connection
    };
    let (sized, chunked) = ("Content-Length: 1000000\r\n\r\nbegun", "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n");
    let mut unanswered = [begun("/app/sink", sized, &cookie).await, begun("/app/sink", chunked, &cookie).await];
    // The answer to these has begun.
    let mut answered = [begun("/app/mirror", sized, &cookie).await, begun("/app/mirror", chunked, &cookie).await];
    for connection in &mut answered {
        connection.read_until(|received| received.windows(5).any(|piece| piece == b"begun")).await;
    }
    let mut others = begun("/app/sink", "Content-Length: 10\r\n\r\nbegun", &beside).await;

    let page = browser.get(&world.at("/oauth2/session")).await;
    let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    assert!(page.set_cookies().iter().any(|line| line.starts_with("doorward=;")), "{}", page.text());
    let end = Instant::now() + AT_ONCE;
    for connection in &mut unanswered {
        let answers = RawAnswer::parse_all(&connection.read_answers().await);
        assert_eq!(answers[0].status, 401, "{answers:?}");
        assert!(answers[0].text().contains("session-ended"), "{}", answers[0].text());
    }
    for connection in &mut answered {
        let answers = RawAnswer::parse_all(&connection.read_answers().await);
        assert!(!answers[0].complete, "broken off, and not ended");
    }
    assert!(Instant::now() < end);
    others.send(b"ended").await;
    assert_eq!(RawAnswer::parse_all(&others.read_answers().await)[0].status, 200);
}

async fn both_public(world: &World) -> [Held; 2] {
    let client = HttpClient::new();
    let (sse, ws) = (world.at("/open/sse"), world.at("/open/ws"));
    let opened = |held: Result<Held, Box<crate::harness::http::Answer>>| held.unwrap_or_else(|answer| panic!("{}", answer.text()));
    [opened(Held::events(&client, &sse, &[]).await), opened(Held::websocket(&client, &ws, &[]).await)]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_time_a_session_may_live_is_the_longest_for_its_streams() {
    let world = world("[session]\nidle = \"1h\"\nabsolute = \"1h\"\n");
    let cookie = cookie_of(&world).await;
    let mine = both(&world, &cookie).await;
    world.advance(Duration::from_secs(30 * 60));
    let later = cookie_of(&world).await;
    let others = both(&world, &later).await;
    go_on(&mine).await;
    world.advance(Duration::from_secs(30 * 60 + 1));
    end_within(&mine, LOOK).await;
    go_on(&others).await;
    assert_eq!(ask(&world, &cookie).await, (401, "session-expired".to_owned()));
    world.upstream.streams_become(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_keeps_the_tokens_of_its_session_fresh_and_does_not_notice() {
    let world = world("");
    let cookie = cookie_of(&world).await;
    let mine = both(&world, &cookie).await;
    for n in 1..=3 {
        world.advance(if n == 2 { OVER } else { DUE });
        eventually("a refresh that nobody asked for", || (world.provider.count(Endpoint::Refresh) == n).then_some(())).await;
        go_on(&mine).await;
        eventually("its end", || (world.provider.refreshes_under_way() == 0).then_some(())).await;
    }
    // Whoever comes finds the new tokens.
    let told = Request::get(world.at("/tokens/x")).header("cookie", &cookie).body(empty()).expect("a request");
    assert_eq!(fetch(told).await.status, 200);
    let given = world.provider.secrets().into_iter().rev().find(|(kind, _)| *kind == "access_token").expect("one").1;
    assert_eq!(world.upstream.last().header("x-forwarded-access-token"), Some(given));
    assert_eq!(world.provider.count(Endpoint::Refresh), 3);
    go_on(&mine).await;

    // A provider that is away ends none; one that refuses ends them, though nobody asks.
    world.provider.set(Lie::Status(Endpoint::Refresh, 503));
    world.advance(OVER);
    eventually("an attempt", || (world.provider.count(Endpoint::Refresh) == 4).then_some(())).await;
    go_on(&mine).await;
    world.provider.set(Lie::None);
    world.provider.end_grants();
    world.advance(Duration::from_secs(20));
    end_within(&mine, LOOK).await;
    assert_eq!(ask(&world, &cookie).await, (401, "no-credential".to_owned()));
    assert!(world.provider.complaints().is_empty(), "{:?}", world.provider.complaints());
    world.upstream.streams_become(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_end_with_token_the_end_of_the_last_token_is_the_end_of_the_streams() {
    let tables = format!("{ROUTES}[session]\nend_with_token = true\n");
    let world = World::shaped(Shape { routes: Some(&tables), ..Shape::default() }, |provider| provider);
    world.provider.set_expires_in(LIFE, true);
    let cookie = cookie_of(&world).await;
    let mine = both(&world, &cookie).await;
    world.advance(DUE);
    go_on(&mine).await;
    world.advance(Duration::from_secs(60));
    end_within(&mine, LOOK).await;
    assert_eq!(ask(&world, &cookie).await, (401, "session-token-ended".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_an_open_stream_is_in_use_until_the_stream_is_left() {
    let world = world("[session]\nidle = \"10m\"\n");
    let (used, unused) = (cookie_of(&world).await, cookie_of(&world).await);
    let mine = both(&world, &used).await;
    for _ in 0..4 {
        world.advance(Duration::from_secs(5 * 60));
        // Nothing outside tells that the gateway looked: it does so once a second.
        tokio::time::sleep(Duration::from_millis(1300)).await;
        go_on(&mine).await;
    }
    assert_eq!(ask(&world, &unused).await, (401, "session-idle".to_owned()));
    assert_eq!(ask(&world, &used).await.0, 200);
    // Left by the browser: nobody counts it any more.
    drop(mine);
    world.upstream.streams_become(0).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..2 {
        world.advance(Duration::from_secs(5 * 60));
        tokio::time::sleep(Duration::from_millis(1300)).await;
    }
    assert_eq!(ask(&world, &used).await, (401, "session-idle".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_programs_and_of_everybody_outlive_every_session() {
    let scene = Scene::start(
        "",
        "[session]\nidle = \"10m\"\n[[route]]\nupstream = \"@UPSTREAM@\"\naccept = [\"session\", \"bearer\"]\nallow = \"any-authenticated\"\n\
         [[route]]\nid = \"open\"\npath = \"/open/\"\nupstream = \"@UPSTREAM@\"\naccess = \"public\"\n\
         [[route]]\nid = \"optional\"\npath = \"/optional/\"\nupstream = \"@UPSTREAM@\"\naccess = \"optional\"\naccept = [\"session\"]\n",
    );
    let cookie = scene.session().await;
    let token = format!("Bearer {}", scene.token(json!({})));
    let client = HttpClient::new();
    let mut lasting = Vec::new();
    for (path, header) in
        [("/app", ("authorization", token.as_str())), ("/open", ("cookie", cookie.as_str())), ("/optional", ("x-none", "1"))]
    {
        let (sse, ws) = (scene.url(&format!("{path}/sse")), scene.url(&format!("{path}/ws")));
        lasting.push(Held::events(&client, &sse, &[header]).await.unwrap_or_else(|answer| panic!("{path}: {}", answer.text())));
        lasting.push(Held::websocket(&client, &ws, &[header]).await.unwrap_or_else(|answer| panic!("{path}: {}", answer.text())));
    }
    let mut ending = Vec::new();
    for path in ["/app", "/optional"] {
        let header = [("cookie", cookie.as_str())];
        let (sse, ws) = (scene.url(&format!("{path}/sse")), scene.url(&format!("{path}/ws")));
        ending.push(Held::events(&client, &sse, &header).await.unwrap_or_else(|answer| panic!("{path}: {}", answer.text())));
        ending.push(Held::websocket(&client, &ws, &header).await.unwrap_or_else(|answer| panic!("{path}: {}", answer.text())));
    }
    scene.gateway.advance(Duration::from_secs(8 * 24 * 3600));
    end_within(&ending, LOOK).await;
    for stream in &lasting {
        assert!(stream.end().is_none());
    }
    scene.upstream.streams_become(lasting.len()).await;
}
