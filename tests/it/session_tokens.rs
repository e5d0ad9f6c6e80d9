//! Session tokens beside everything else that counts: open streams, endings by the provider, routes for bound tokens, upstreams that read none,
//! and guesses at two places at once.

#![allow(clippy::disallowed_methods, reason = "how soon a stream ends is told by the machine's own clock")]

use std::time::{Duration, Instant};

use http::Request;
use serde_json::json;

use crate::harness::background;
use crate::harness::body::{empty, full};
use crate::harness::browser::Browser;
use crate::harness::held::Held;
use crate::harness::hostile::{Endpoint, Lie};
use crate::harness::hostile_direct::Exchanged;
use crate::harness::http::{HttpClient, fetch};
use crate::harness::pair::{Pair, Side};
use crate::harness::redis::Redis;
use crate::harness::scene::reason;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::eventually;
use crate::harness::world::{Shape, World};
use crate::local_accounts::CHEAP;
use crate::token_endpoint::{get, granted, post};

const FORM: &str = "application/x-www-form-urlencoded";
const ADMIN_TOKEN: &str = "an-admin-token-of-the-tests";
/// What is said to end ends within this.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The gateway looks at its clock once a second.
const LOOK: Duration = Duration::from_millis(2500);

const ROUTES: &str = r#"
[[route]]
id = "api"
path = "/api/"
upstream = "@UPSTREAM@"
accept = ["bearer"]
bearer_in = ["header", "query", "subprotocol"]
allow = "any-authenticated"
[[route]]
id = "bound"
path = "/bound/"
upstream = "@UPSTREAM@"
accept = ["bearer"]
dpop = "required"
allow = "any-authenticated"
[[route]]
id = "bound-perhaps"
path = "/bound-perhaps/"
upstream = "@UPSTREAM@"
access = "optional"
accept = ["bearer"]
dpop = "required"
[[route]]
id = "telling"
path = "/telling/"
upstream = "@UPSTREAM@"
accept = ["session", "bearer"]
allow = "any-authenticated"
headers = { "X-Forwarded-Access-Token" = "{access_token}" }
[[route]]
id = "people"
path = "/people/"
upstream = "@UPSTREAM@"
accept = ["session"]
allow = "any-authenticated"
[[route]]
id = "passwords"
path = "/passwords/"
upstream = "@UPSTREAM@"
accept = ["basic"]
allow = "any-authenticated"
[[route]]
id = "open"
path = "/open/"
upstream = "@UPSTREAM@"
access = "public"
"#;

/// Bob is an account of the gateway.
fn users() -> String {
    format!("[[user]]\nname = \"bob\"\npassword = \"{CHEAP}\"\n[admin]\ntoken = \"{ADMIN_TOKEN}\"\n")
}

fn world(top: &str, tables: &str) -> World {
    let tables = format!("{}{tables}", users());
    let top = format!("trusted_proxies = [\"127.0.0.0/8\"]\n{top}");
    let world =
        World::shaped(Shape { top: &top, tables: &tables, routes: Some(ROUTES), ..Shape::default() }, |provider| provider.refresh(true));
    world.provider.set_password("alice@example.test", "correct horse");
    world
}

fn password(name: &str, password: &str) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs([("grant_type", "password"), ("username", name), ("password", password)]).finish()
}

async fn token(world: &World, name: &str) -> String {
    granted(&post(&world.at("/oauth2/token"), FORM, password(name, "correct horse")).await).0
}

/// Status and reason of a request with this token; who is refused does not reach the upstream.
async fn with_token(world: &World, path: &str, token: &str) -> (u16, String) {
    let before = world.upstream.count();
    let answer = get(&world.at(path), &[("authorization", &format!("Bearer {token}"))]).await;
    if answer.status == 200 {
        return (200, String::new());
    }
    assert_eq!(world.upstream.count(), before);
    (answer.status.as_u16(), reason(&answer))
}

/// What stays open by a token: event streams and WebSockets, with the token in each of the places.
async fn streams(world: &World, token: &str) -> Vec<Held> {
    let client = HttpClient::new();
    let (bearer, protocol) =
        (format!("Bearer {token}"), format!("base64url.bearer.authorization.k8s.io.{}", crate::harness::jose::base64url(token.as_bytes())));
    let opened = |held: Result<Held, Box<crate::harness::http::Answer>>| held.unwrap_or_else(|answer| panic!("{}", answer.text()));
    let query = format!("?access_token={token}");
    vec![
        opened(Held::events(&client, &world.at("/api/sse"), &[("authorization", &bearer)]).await),
        opened(Held::websocket(&client, &world.at("/api/ws"), &[("authorization", &bearer)]).await),
        opened(Held::events(&client, &world.at(&format!("/api/sse{query}")), &[]).await),
        opened(Held::websocket(&client, &world.at("/api/ws"), &[("sec-websocket-protocol", &protocol)]).await),
    ]
}

async fn end_within(streams: &[Held], time: Duration) {
    let end = Instant::now() + time;
    for (n, stream) in streams.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        assert!(stream.ends_within(left).await.is_some(), "stream {n} is open after {time:?}");
    }
}

async fn go_on(streams: &[Held]) {
    let before = streams[0].pieces();
    eventually("one more event", || (streams[0].pieces() > before + 2 || streams[0].end().is_some()).then_some(())).await;
    for stream in streams {
        assert_eq!(stream.end(), None);
    }
}

/// Ends every session of a name from the list.
async fn end_all_of(admin: &str, name: &str) {
    let request = Request::delete(format!("{admin}?user={name}")).header("authorization", format!("Bearer {ADMIN_TOKEN}"));
    assert_eq!(fetch(request.body(empty()).unwrap()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_opened_ends_with_it_and_nothing_else_does() {
    let world = world(
        "",
        "[token]\nlifetime = \"1h\"\n[[foreign_token]]\nid = \"sdk\"\nkind = \"exchange\"\nprovider = \"default\"\nsubject_token_type = \"urn:x\"\n",
    );
    world.provider.take_foreign("sdk-1", Exchanged::Tokens);
    let of_alice = async || granted(&post(&world.at("/oauth2/token"), FORM, "sdk_token=sdk-1").await).0;

    // By the list.
    let (bob, alice) = (token(&world, "bob").await, of_alice().await);
    let (of_bob, others) = (streams(&world, &bob).await, streams(&world, &alice).await);
    end_all_of(&format!("{}/sessions", world.gateway.admin), "bob").await;
    end_within(&of_bob, AT_ONCE).await;
    go_on(&others).await;
    assert_eq!(with_token(&world, "/api/x", &bob).await, (401, "issued-token-unknown".to_owned()));

    // By the provider.
    let sid = world.provider.last_sid().unwrap();
    let bob = token(&world, "bob").await;
    let of_bob = streams(&world, &bob).await;
    let logout_token = world.provider.logout_token(json!({ "sid": sid }));
    let told = post(&world.at("/oauth2/backchannel_logout"), FORM, format!("logout_token={logout_token}")).await;
    assert_eq!((told.status.as_u16(), told.json()["ended"].as_u64()), (200, Some(1)), "{}", told.text());
    end_within(&others, AT_ONCE).await;
    go_on(&of_bob).await;

    // By its own end, however much it is used.
    let alice = of_alice().await;
    world.advance(Duration::from_secs(59 * 60));
    assert_eq!(with_token(&world, "/api/x", &bob).await.0, 200);
    let others = streams(&world, &of_alice().await).await;
    world.advance(Duration::from_secs(61));
    end_within(&of_bob, LOOK).await;
    go_on(&others).await;
    assert_eq!(with_token(&world, "/api/x", &bob).await, (401, "issued-token-expired".to_owned()));
    assert_eq!(with_token(&world, "/api/x", &alice).await, (401, "issued-token-expired".to_owned()));

    // By a provider that refuses new tokens, though nobody asks.
    world.provider.end_grants();
    world.advance(Duration::from_secs(58 * 60));
    end_within(&others, LOOK + Duration::from_secs(1)).await;
    world.upstream.streams_become(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_opened_at_one_process_ends_with_it_at_the_other() {
    let (redis, upstream) = (Redis::start().await, EchoUpstream::start());
    let routes = ROUTES.replace("@UPSTREAM@", &upstream.url());
    let pair = Pair::start(&Pair::place(), &redis, &format!("{}[token]\n{routes}", users())).await;
    for (here, there) in [(Side::One, Side::Other), (Side::Other, Side::One)] {
        let request = Request::post(pair.url("/oauth2/token")).header("content-type", FORM).body(full(password("bob", "correct horse")));
        let (token, _) = granted(&pair.http(here).fetch(request.unwrap()).await);
        let (client, bearer) = (pair.http(there), format!("Bearer {token}"));
        let header = [("authorization", bearer.as_str())];
        let streams = [
            Held::events(&client, &pair.url("/api/sse"), &header).await.unwrap_or_else(|answer| panic!("{}", answer.text())),
            Held::websocket(&client, &pair.url("/api/ws"), &header).await.unwrap_or_else(|answer| panic!("{}", answer.text())),
        ];
        end_all_of(&format!("http://{}/sessions", pair.at(here).admin), "bob").await;
        end_within(&streams, AT_ONCE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_ends_the_sessions_of_every_way_in_by_their_sid() {
    let table = "[token]\nprovider = \"default\"\n[[foreign_token]]\nid = \"sdk\"\nkind = \"exchange\"\nprovider = \"default\"\nsubject_token_type = \"urn:x\"\n";
    let world = world("", table);
    for way in [None, Some(Exchanged::Tokens), Some(Exchanged::IdToken), Some(Exchanged::AccessJwt)] {
        let body = match way {
            None => password("alice@example.test", "correct horse"),
            Some(exchanged) => {
                world.provider.take_foreign("sdk-1", exchanged);
                "sdk_token=sdk-1".to_owned()
            }
        };
        let other = granted(&post(&world.at("/oauth2/token"), FORM, body.clone()).await).0;
        let token = granted(&post(&world.at("/oauth2/token"), FORM, body).await).0;
        assert_eq!(with_token(&world, "/api/x", &token).await.0, 200, "{way:?}");
        let logout_token = world.provider.logout_token(json!({ "sid": world.provider.last_sid().unwrap() }));
        let told = post(&world.at("/oauth2/backchannel_logout"), FORM, format!("logout_token={logout_token}")).await;
        assert_eq!((told.status.as_u16(), told.json()["ended"].as_u64()), (200, Some(1)), "{way:?}: {}", told.text());
        assert_eq!(with_token(&world, "/api/x", &token).await, (401, "issued-token-unknown".to_owned()), "{way:?}");
        assert_eq!(with_token(&world, "/api/x", &other).await.0, 200, "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_for_bound_tokens_takes_none_that_is_bound_to_nothing() {
    let world = world("", "[token]\n");
    let token = token(&world, "bob").await;
    let host = world.gateway.address.to_string();
    for path in ["/bound/x", "/bound-perhaps/x"] {
        assert_eq!(with_token(&world, path, &token).await, (401, "dpop-required".to_owned()), "{path}");
        let (bearer, dpop) = (format!("Bearer {token}"), format!("DPoP {token}"));
        let question = [("x-original-method", "GET"), ("x-original-uri", path), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
        for shown in [&bearer, &dpop] {
            let headers: Vec<_> = question.into_iter().chain([("authorization", shown.as_str())]).collect();
            let answer = get(&world.at("/oauth2/auth"), &headers).await;
            assert_eq!(answer.status, 401, "{path} {shown}: {}", reason(&answer));
            assert!(answer.header("x-auth-request-user").is_none());
        }
    }
    assert_eq!(with_token(&world, "/api/x", &token).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_ours_reaches_no_upstream_whoever_reads_it() {
    let world = world("", "[token]\n");
    let token = token(&world, "bob").await;
    let mut browser = Browser::new();
    world.visit(&mut browser, "/oauth2/start?provider=default").await;
    let cookie = format!("doorward={}", world.session(&browser).unwrap());
    let basic = "Basic Ym9iOmNvcnJlY3QgaG9yc2U=";
    for (path, cookie) in [("/open/x", ""), ("/people/x", cookie.as_str()), ("/api/x", "")] {
        for scheme in ["Bearer ", "bearer  ", "DPoP "] {
            let before = world.upstream.count();
            let answer = get(&world.at(path), &[("authorization", &format!("{scheme}{token}")), ("cookie", cookie)]).await;
            if answer.status != 200 {
                assert!(path == "/api/x" && scheme != "Bearer ", "{path} {scheme}: {}", answer.text());
                assert_eq!(world.upstream.count(), before);
                continue;
            }
            assert_eq!(world.upstream.last().header("authorization"), None, "{path} {scheme}");
        }
    }
    // What is the app's own passes where the route does not read it.
    for own in ["Bearer doorward_stable", "Bearer abc", basic] {
        assert_eq!(get(&world.at("/open/x"), &[("authorization", own)]).await.status, 200);
        assert_eq!(world.upstream.last().header("authorization").as_deref(), Some(own));
    }
}

/// A guess at the token endpoint from an address of its own, as a trusted proxy says.
async fn guess(world: &World, address: &str, name: &str, typed: &str) -> (u16, String) {
    let request = Request::post(world.at("/oauth2/token")).header("content-type", FORM).header("x-forwarded-for", address);
    let answer = fetch(request.body(full(password(name, typed))).unwrap()).await;
    (answer.status.as_u16(), if answer.status == 200 { String::new() } else { reason(&answer) })
}

/// The same by HTTP Basic, where the accounts of the gateway count.
async fn guess_by_request(world: &World, address: &str, name: &str, typed: &str) -> u16 {
    use base64::Engine as _;
    let shown = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{typed}")));
    get(&world.at("/passwords/x"), &[("authorization", &shown), ("x-forwarded-for", address)]).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_a_name_at_the_provider_wins_no_guesses_at_the_account_of_that_name() {
    let world = world("limits.guesses_per_name = 3\nlimits.guesses_per_address = 100", "[token]\nprovider = \"default\"\n");
    // A stranger chose Bob's name at the provider.
    world.provider.set_password("bob", "a stranger's own");
    let mut taken = 0;
    for n in 0..10 {
        assert_eq!(guess(&world, "192.0.2.66", "bob", "a stranger's own").await.0, 200);
        taken += u32::from(guess_by_request(&world, "192.0.2.66", "bob", &format!("guess-{n}")).await == 401);
    }
    assert_eq!(taken, 3, "guesses at Bob's password");
    // Nor does it keep anybody out at the other place.
    assert_eq!(guess(&world, "198.51.100.7", "bob", "a stranger's own").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_of_an_address_that_are_sent_at_once_count_each_other() {
    let tables = "[token]\nprovider = \"default\"\n[[foreign_token]]\nid = \"sdk\"\nkind = \"exchange\"\nprovider = \"default\"\nsubject_token_type = \"urn:x\"\n";
    let world = world("limits.guesses_per_address = 5", tables);
    world.provider.set(Lie::SlowAnswer(Endpoint::Token, Duration::from_millis(500)));
    for (address, foreign) in [("192.0.2.1", false), ("192.0.2.2", true)] {
        let asked = world.provider.count(Endpoint::Token);
        let all: Vec<_> = (0..40)
            .map(|n| {
                let url = world.at("/oauth2/token");
                let body = if foreign { format!("sdk_token=guess-{n}") } else { password(&format!("name-{n}"), "Summer2026!") };
                background::spawn(async move {
                    let request = Request::post(url).header("content-type", FORM).header("x-forwarded-for", address);
                    fetch(request.body(full(body)).unwrap()).await
                })
            })
            .collect();
        let (mut refused, mut slowed) = (0, 0);
        for one in all {
            let answer = one.await.unwrap();
            match answer.status.as_u16() {
                401 => refused += 1,
                429 => {
                    assert_eq!(reason(&answer), "guesses-of-address");
                    assert!(answer.header("retry-after").is_some());
                    slowed += 1;
                }
                other => panic!("{other}: {}", answer.text()),
            }
        }
        assert_eq!((refused, slowed, world.provider.count(Endpoint::Token) - asked), (5, 35, 5), "{address}");
    }
    world.provider.set(Lie::None);
    assert_eq!(guess(&world, "192.0.2.3", "alice@example.test", "correct horse").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_guessed_out_at_one_process_is_at_the_other_even_where_the_password_is_remembered() {
    let (redis, upstream) = (Redis::start().await, EchoUpstream::start());
    let routes = ROUTES.replace("@UPSTREAM@", &upstream.url());
    let pair = Pair::start(&Pair::place(), &redis, &format!("limits.guesses_per_name = 4\n{}[token]\n{routes}", users())).await;
    let show = async |side: Side, typed: &str| {
        use base64::Engine as _;
        let shown = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("bob:{typed}")));
        let request = Request::get(pair.url("/passwords/x")).header("authorization", shown).body(empty()).unwrap();
        pair.http(side).fetch(request).await.status.as_u16()
    };
    for side in [Side::One, Side::Other] {
        assert_eq!(show(side, "correct horse").await, 200);
    }
    let mut taken = 0;
    for n in 0..6 {
        taken += u32::from(show(Side::One, &format!("guess-{n}")).await == 401);
    }
    assert_eq!(taken, 4);
    // One more guess tells the other process; from then on a right one is not told from a wrong one.
    assert_eq!(show(Side::Other, "guess-7").await, 429);
    assert_eq!((show(Side::Other, "correct horse").await, show(Side::One, "correct horse").await), (429, 429));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_session_has_no_tokens_to_tell_is_no_way_to_a_login_page() {
    let world = world("", "[token]\n");
    let token = token(&world, "bob").await;
    let before = world.upstream.count();
    for method in ["GET", "POST"] {
        let request = Request::builder().method(method).uri(world.at("/telling/x")).header("authorization", format!("Bearer {token}"));
        let request = request.header("accept", "text/html").header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
        let request = request.header("content-type", FORM).header("sec-fetch-site", "same-origin");
        let answer = fetch(request.body(full("a=b".to_owned())).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.location()), (401, None), "{method}");
        assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""), "{method}");
        assert!(answer.set_cookies().is_empty());
    }
    assert_eq!(world.upstream.count(), before);
}
