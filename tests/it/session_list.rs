//! Who is signed in where: the session page, the list on the admin listener, `doorward sessions`, and that looking is no use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::process::Command;
use std::time::Duration;

use http::{Method, Request};
use serde_json::{Value, json};

use crate::harness::answer::Answer;
use crate::harness::body::empty;
use crate::harness::browser::{Browser, Page};
use crate::harness::chromium::Chromium;
use crate::harness::gateway::{GatewayProcess, TOP, command, provider};
use crate::harness::hostile::HostileProvider;
use crate::harness::http::fetch;
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::free_port;
use crate::harness::world::{Shape, World, reason_of};

const TOKEN: &str = "an-admin-token-of-the-tests";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
const SAFARI: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1";

/// A browser of this name that has signed in.
async fn signed_in_as(world: &World, user_agent: &str) -> Browser {
    let mut browser = Browser::new().with_header("user-agent", user_agent);
    assert_eq!(world.visit(&mut browser, "/first").await.status, 200);
    browser
}

async fn is_alive(world: &World, browser: &Browser) -> bool {
    let mut browser = browser.clone();
    let before = world.upstream.count();
    let answer = browser.fetch_api(Method::GET, &world.at("/app"), &[], b"").await;
    assert_eq!(answer.status == 200, world.upstream.count() > before);
    answer.status == 200
}

/// The forms of the page that end one session.
fn endings(page: &Page) -> Vec<crate::harness::html::Form> {
    page.forms().into_iter().filter(|form| form.field("end").is_some()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_page_shows_my_sessions_and_ends_one() {
    let world = World::start();
    let mut here = signed_in_as(&world, FIREFOX).await;
    let phone = signed_in_as(&world, SAFARI).await;
    world.provider.set_user(json!({ "sub": "bob", "name": "Bob Brown" }));
    let mut bob = signed_in_as(&world, "curl/8.5.0").await;

    let page = here.get(&world.at("/oauth2/session")).await;
    let text = page.visible_text();
    assert!(text.contains("Firefox on Linux this one") && text.contains("Safari on iPhone"), "{text}");
    assert!(text.contains("from 127.0.0.1") && !text.contains("curl") && !text.contains("Bob"), "{text}");
    let forms = endings(&page);
    assert_eq!(forms.len(), 1, "this one is ended by signing out");
    let id = forms[0].field("end").expect("an id").to_owned();

    // What finds a session opens nothing.
    let mut thief = Browser::new();
    thief.plant_cookie(&world.at("/"), &format!("doorward={id}; Path=/"));
    assert!(!is_alive(&world, &thief).await);

    let page = here.submit(&page, &forms[0], &[]).await;
    assert_eq!((page.status.as_u16(), page.location()), (303, Some(world.at("/oauth2/session").as_str())));
    assert!(!is_alive(&world, &phone).await && is_alive(&world, &here).await && is_alive(&world, &bob).await);
    let page = here.follow(&page).await;
    assert!(endings(&page).is_empty() && !page.visible_text().contains("Safari"), "{}", page.visible_text());
    assert!(!page.forms().iter().any(|form| form.field("everywhere").is_some()));
    assert_eq!(endings(&bob.get(&world.at("/oauth2/session")).await).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_ends_anothers_session_nor_has_it_ended_from_another_page() {
    let world = World::start();
    let mut alice = signed_in_as(&world, FIREFOX).await;
    let phone = signed_in_as(&world, SAFARI).await;
    let page = alice.get(&world.at("/oauth2/session")).await;
    let form = endings(&page).remove(0);
    let (id, confirm) = (form.field("end").unwrap().to_owned(), form.field("confirm").unwrap().to_owned());
    let url = world.at("/oauth2/session");

    let cookie = format!("doorward={}", world.session(&alice).unwrap());
    // A page on a site of the same domain, whose forms bring the cookie along.
    let request = |name: &'static str, value: &'static str, body: String| {
        let request = Request::post(&url).header("cookie", &cookie).header("content-type", "application/x-www-form-urlencoded");
        fetch(request.header(name, value).body(crate::harness::body::full(body)).expect("a request"))
    };
    for (name, value) in
        [("sec-fetch-site", "same-site"), ("sec-fetch-site", "cross-site"), ("origin", "https://evil.test"), ("origin", "null")]
    {
        let answer = request(name, value, format!("end={id}")).await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (403, "cross-site"), "{name}: {value}");
    }
    assert_eq!(world.answers("cross-site").await, 4);
    // Without a cookie there is nobody whose sessions could be meant.
    let page = Browser::new().post_form_from("https://evil.test/", &url, &[("end", &id), ("confirm", &confirm)]).await;
    assert_eq!(page.status, 303);
    // Bob, with an id and a token of Alice's.
    world.provider.set_user(json!({ "sub": "bob" }));
    let mut bob = world.signed_in().await;
    let page = bob.get(&url).await;
    let page = bob.submit(&page, &page.form_to("sign_out"), &[]).await;
    drop(page);
    let mut bob = world.signed_in().await;
    bob.get(&url).await;
    for fields in [&[("end", id.as_str())][..], &[("end", id.as_str()), ("confirm", confirm.as_str())]] {
        bob.post_form(&url, fields).await;
    }
    for end in ["", "x", "AAAA"] {
        alice.get(&url).await;
        let page = alice.post_form(&url, &[("end", end), ("confirm", &confirm)]).await;
        assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (400, "parameter-invalid"), "{end}");
    }
    assert!(is_alive(&world, &phone).await && is_alive(&world, &alice).await);

    // Where browsers do not say whose page a form is on, the page's own token says it.
    let answer = request("origin", "null", format!("end={id}&confirm={confirm}")).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert!(!is_alive(&world, &phone).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_very_many_sessions_has_a_page_all_the_same() {
    let world = World::start();
    let mut first = world.signed_in().await;
    for _ in 0..102 {
        world.signed_in().await;
    }
    let page = first.get(&world.at("/oauth2/session")).await;
    // This one, though it is the oldest, and 99 others.
    assert_eq!(endings(&page).len(), 99);
    let text = page.visible_text();
    assert!(text.contains("this one") && text.contains("And 3 more"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_session_may_be_ended_like_the_others() {
    let world = World::start();
    let mut alice = world.signed_in().await;
    let mut phone = world.signed_in().await;
    let page = phone.get(&world.at("/oauth2/session")).await;
    let of_alice = endings(&page).remove(0).field("end").unwrap().to_owned();
    alice.get(&world.at("/oauth2/session")).await;
    let page = alice.post_form(&world.at("/oauth2/session"), &[("end", &of_alice)]).await;
    assert!(page.visible_text().contains("You are signed out"), "{}", page.visible_text());
    assert!(world.session(&alice).is_none());
    assert!(is_alive(&world, &phone).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_a_session_prolongs_nothing() {
    let world = World::shaped(Shape { tables: "[session]\nidle = \"1h\"\nabsolute = \"1d\"\n", ..Shape::default() }, |provider| provider);
    let mut browser = world.signed_in().await;
    let userinfo = async |browser: &mut Browser| browser.fetch_api(Method::GET, &world.at("/oauth2/userinfo"), &[], b"").await;
    let seconds = |text: &Value| humantime::parse_rfc3339(text.as_str().expect("a time")).expect("RFC 3339");
    let first = userinfo(&mut browser).await.json();
    let left = seconds(&first["ends_at"]).duration_since(seconds(&first["idle_until"])).expect("idle comes first");
    assert!(left.as_secs().abs_diff(23 * 3600) < 60, "{first}");
    assert_eq!(first["sub"], "alice");
    for _ in 0..5 {
        world.advance(Duration::from_secs(11 * 60));
        assert_eq!(userinfo(&mut browser).await.json(), first);
        let page = browser.get(&world.at("/oauth2/session")).await;
        assert_eq!(page.status, 200);
    }
    // A use moves it on.
    assert_eq!(browser.get(&world.at("/app")).await.status, 200);
    let later = userinfo(&mut browser).await.json();
    let moved = seconds(&later["idle_until"]).duration_since(seconds(&first["idle_until"])).expect("later");
    assert!(moved.as_secs().abs_diff(55 * 60) < 60, "{later}");
    assert_eq!(later["ends_at"], first["ends_at"]);
    world.advance(Duration::from_secs(61 * 60));
    let answer = userinfo(&mut browser).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, "no-credential"));
    // Never beyond the end that comes anyhow.
    let mut browser = world.signed_in().await;
    for _ in 0..47 {
        world.advance(Duration::from_secs(30 * 60));
        assert_eq!(browser.get(&world.at("/app")).await.status, 200);
    }
    let last = userinfo(&mut browser).await.json();
    assert_eq!(last["idle_until"], last["ends_at"], "{last}");
}

/// A request to the admin listener.
async fn admin(world: &World, method: &str, target: &str, token: Option<&str>) -> Answer {
    let mut request = Request::builder().method(method).uri(format!("{}{target}", world.gateway.admin));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    fetch(request.body(empty()).expect("a request")).await
}

fn users(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["sessions"].as_array().unwrap().iter().map(|one| one["user"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_lists_and_ends_sessions_for_whoever_shows_the_token() {
    let tables = format!("[admin]\ntoken = \"{TOKEN}\"\n");
    let world = World::shaped(Shape { tables: &tables, ..Shape::default() }, |provider| provider);
    let alice = signed_in_as(&world, FIREFOX).await;
    let phone = signed_in_as(&world, SAFARI).await;
    world.provider.set_user(json!({ "sub": "bob", "name": "Bob Brown" }));
    let bob = signed_in_as(&world, "curl/8.5.0").await;
    world.provider.set_user(json!({ "sub": "carol", "name": "Carol" }));
    let carol = world.signed_in().await;

    for token in [None, Some(""), Some("wrong"), Some("an-admin-token-of-the-test"), Some("an-admin-token-of-the-testss")] {
        for (method, target) in
            [("GET", "/sessions"), ("DELETE", "/sessions?all=true"), ("DELETE", "/sessions/AAAA"), ("POST", "/sessions")]
        {
            let answer = admin(&world, method, target, token).await;
            assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, Some("Bearer")), "{token:?} {method}");
        }
    }
    let all = admin(&world, "GET", "/sessions", Some(TOKEN)).await;
    assert_eq!(all.header("cache-control"), Some("no-store"));
    assert_eq!(users(&all).len(), 4);
    let named = admin(&world, "GET", "/sessions?user=Alice+Adams", Some(TOKEN)).await;
    assert_eq!(users(&named), ["Alice Adams", "Alice Adams"]);
    let found = &named.json()["sessions"];
    let browsers: Vec<&str> = found.as_array().unwrap().iter().map(|one| one["browser"].as_str().unwrap()).collect();
    assert!(browsers.contains(&"Firefox on Linux") && browsers.contains(&"Safari on iPhone"), "{browsers:?}");
    assert_eq!((found[0]["sub"].as_str(), found[0]["address"].as_str()), (Some("alice"), Some("127.0.0.1")));
    assert_eq!(found[0]["issuer"], json!(world.provider.issuer()));
    assert!(humantime::parse_rfc3339(found[0]["last_used_at"].as_str().unwrap()).is_ok());
    // Nothing of it is a secret of the session's.
    assert!(!named.text().contains(&world.session(&alice).unwrap()[..20]));
    for (query, expected) in [("sub=bob", &["Bob Brown"][..]), ("user=bob", &[]), ("sub=bob&user=Carol", &[])] {
        assert_eq!(users(&admin(&world, "GET", &format!("/sessions?{query}"), Some(TOKEN)).await), expected, "{query}");
    }

    for (method, target, status) in [
        ("DELETE", "/sessions", 400),
        ("DELETE", "/sessions?", 400),
        ("DELETE", "/sessions?usr=bob", 400),
        ("DELETE", "/sessions?all=yes", 400),
        ("DELETE", "/sessions?all=true&sub=bob", 400),
        ("GET", "/sessions?page=2", 400),
        ("DELETE", "/sessions/AAAA", 404),
        ("DELETE", &format!("/sessions/{}", "A".repeat(43)), 404),
        ("POST", "/sessions", 405),
        ("GET", "/sessions/AAAA", 405),
        ("GET", "/sessionsx", 404),
    ] {
        let answer = admin(&world, method, target, Some(TOKEN)).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {target}: {}", answer.text());
    }
    assert_eq!(users(&admin(&world, "GET", "/sessions", Some(TOKEN)).await).len(), 4);

    let id = found.as_array().unwrap().iter().find(|one| one["browser"] == "Safari on iPhone").unwrap()["id"].as_str().unwrap().to_owned();
    let ended = admin(&world, "DELETE", &format!("/sessions/{id}"), Some(TOKEN)).await;
    assert_eq!((ended.status.as_u16(), ended.json()), (200, json!({ "ended": 1 })));
    assert!(!is_alive(&world, &phone).await && is_alive(&world, &alice).await);
    assert_eq!(admin(&world, "DELETE", &format!("/sessions/{id}"), Some(TOKEN)).await.status, 404);
    assert_eq!(admin(&world, "DELETE", "/sessions?sub=bob", Some(TOKEN)).await.json(), json!({ "ended": 1 }));
    assert!(!is_alive(&world, &bob).await && is_alive(&world, &carol).await);
    assert_eq!(admin(&world, "DELETE", "/sessions?user=nobody", Some(TOKEN)).await.json(), json!({ "ended": 0 }));
    assert_eq!(admin(&world, "DELETE", "/sessions?all=true", Some(TOKEN)).await.json(), json!({ "ended": 2 }));
    assert!(!is_alive(&world, &alice).await && !is_alive(&world, &carol).await);
    // And nothing of it is on the serving port.
    let answer = fetch(Request::get(world.at("/sessions")).header("authorization", format!("Bearer {TOKEN}")).body(empty()).unwrap()).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_in_the_config_the_list_is_closed_and_a_new_token_counts_at_once() {
    let world = World::start();
    for (method, target) in [("GET", "/sessions"), ("DELETE", "/sessions?all=true")] {
        for token in [None, Some(""), Some(TOKEN)] {
            let answer = admin(&world, method, target, token).await;
            assert_eq!(answer.status, 403);
            assert!(answer.text().contains("admin.token_file"), "{}", answer.text());
        }
    }
    let dir = TempDir::new("token");
    let file = dir.write_secret("token", format!("{TOKEN}\n"));
    let tables = format!("[admin]\ntoken_file = \"{}\"\n", file.display());
    let world = World::shaped(Shape { tables: &tables, ..Shape::default() }, |provider| provider);
    assert_eq!(admin(&world, "GET", "/sessions", Some(TOKEN)).await.status, 200);
    dir.write_secret("token", "another-token-of-the-tests\n");
    assert_eq!(admin(&world, "GET", "/sessions", Some(TOKEN)).await.status, 401);
    assert_eq!(admin(&world, "GET", "/sessions", Some("another-token-of-the-tests")).await.status, 200);
}

/// How a command ended: its exit code, stdout and stderr.
fn doorward(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(command()).args(args).env_clear().output().expect("the binary is built");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lists_and_ends_the_sessions_of_a_running_gateway() {
    let (hostile, upstream) = (HostileProvider::start(), EchoUpstream::start());
    let dir = TempDir::new("token");
    let token = dir.write_secret("token", format!("{TOKEN}\n")).display().to_string();
    let config = format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n{}[admin]\ntoken_file = \"{token}\"\n",
        upstream.url(),
        provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret())
    );
    let gateway = GatewayProcess::start_on(free_port(), &config).await;
    let at = ["--admin-listen", gateway.admin.as_str(), "--token-file", token.as_str()];
    let run = |args: &[&str]| doorward(&[&["sessions"], args, &at[..]].concat());

    let (code, out, _) = run(&["list"]);
    assert_eq!((code, out.as_str()), (Some(0), "nobody is signed in\n"));
    let mut browser = Browser::new().with_header("user-agent", FIREFOX);
    let page = browser.get(&format!("{}/app", gateway.url)).await;
    assert_eq!(browser.follow_all(page).await.status, 200);
    hostile.set_user(json!({ "sub": "bob", "name": "\u{1b}[2JBob" }));
    let mut bob = Browser::new();
    let page = bob.get(&format!("{}/app", gateway.url)).await;
    assert_eq!(bob.follow_all(page).await.status, 200);

    let (code, out, err) = run(&["list"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    println!("{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("USER") && lines[0].ends_with("ID"), "{out}");
    let alice = lines.iter().find(|line| line.starts_with("Alice Adams")).expect("Alice's line");
    assert!(alice.contains("127.0.0.1") && alice.contains("Firefox on Linux"), "{alice}");
    assert!(!out.contains('\u{1b}'), "{out:?}");
    // The configuration says the same, in a file or in the environment.
    let file = dir.write("config.toml", format!("[admin]\nlisten = \"{}\"\ntoken_file = \"{token}\"\n", gateway.admin));
    let (code, same, err) = doorward(&["sessions", "list", "--config", &file.display().to_string()]);
    assert_eq!((code, same, err.as_str()), (Some(0), out.clone(), ""));
    let (code, json, _) = run(&["list", "--user", "Alice Adams", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, json["sessions"].as_array().map(Vec::len)), (Some(0), Some(1)));
    let id = json["sessions"][0]["id"].as_str().expect("an id");
    assert!(alice.ends_with(id));

    for args in [&["revoke"][..], &["revoke", "--all", "--id", id], &["revoke", "--all", "--user", "x"], &["end"], &[]] {
        let (code, _, err) = run(args);
        assert_eq!(code, Some(2), "{args:?}: {err}");
    }
    let (code, out, _) = run(&["revoke", "--id", id]);
    assert_eq!((code, out.as_str()), (Some(0), "1 session ended\n"));
    let answer = browser.fetch_api(Method::GET, &format!("{}/app", gateway.url), &[], b"").await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, "no-credential"));
    let (code, _, err) = run(&["revoke", "--id", id]);
    assert_eq!((code, err.as_str()), (Some(1), "404: no session has this id\n"));
    let (code, out, _) = run(&["revoke", "--sub", "nobody"]);
    assert_eq!((code, out.as_str()), (Some(0), "0 sessions ended\n"));
    let (code, out, _) = run(&["revoke", "--all", "--json"]);
    assert_eq!((code, out.as_str()), (Some(0), "{\"ended\":1}\n"));
    assert_eq!(bob.fetch_api(Method::GET, &format!("{}/app", gateway.url), &[], b"").await.status, 401);

    let wrong = dir.write_secret("wrong", "not-the-token-of-this-gateway").display().to_string();
    let (code, out, err) = doorward(&["sessions", "list", "--admin-listen", &gateway.admin, "--token-file", &wrong]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("401: expected Authorization: Bearer"), "{err}");
    let (code, _, err) = doorward(&["sessions", "list", "--admin-listen", &gateway.admin]);
    assert!(code == Some(1) && err.contains("--token-file"), "{err}");
    let (code, _, err) = doorward(&["sessions", "list", "--admin-listen", "127.0.0.1:1", "--token-file", &token]);
    assert!(code == Some(1) && err.contains("no answer from the admin listener at 127.0.0.1:1"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_where_they_are_signed_in() {
    let world = World::start();
    let _phone = signed_in_as(&world, SAFARI).await;
    let _old = signed_in_as(&world, FIREFOX).await;
    let chromium = Chromium::start().await;
    chromium.go(&world.at("/oauth2/start?rd=/oauth2/session")).await;
    chromium.go(&world.at("/oauth2/session")).await;
    let text = chromium.body_text().await;
    assert!(text.contains("Safari on iPhone") && text.contains("Firefox on Linux") && text.contains("this one"), "{text}");
    chromium.resize(1200, 1400).await;
    chromium.screenshot("session-list").await;
    chromium.prefer_dark(true).await;
    chromium.screenshot("session-list-dark").await;
    chromium.prefer_dark(false).await;
    chromium.like_a_phone(390, 1400).await;
    chromium.screenshot("session-list-phone").await;
    assert_eq!(chromium.count("form input[name=end]").await, 2);
    chromium.click("form:has(input[name=end]) button").await;
    for _ in 0..100 {
        if chromium.count("form input[name=end]").await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(chromium.count("form input[name=end]").await, 1);
    let lines = chromium.console().await;
    assert!(!lines.iter().any(|line| line.contains("Content Security Policy") || line.contains("Refused")), "{lines:?}");
    // Everywhere: through the provider, and nobody is left.
    chromium.click("form:has(input[name=everywhere]) button").await;
    chromium.wait_for_url(|url| url.contains("/oauth2/signed_out")).await;
    assert!(chromium.body_text().await.contains("You are signed out here and at the service"), "{}", chromium.body_text().await);
}
