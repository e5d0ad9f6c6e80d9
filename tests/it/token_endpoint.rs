//! The token endpoint: apps without a browser sign in with a password and get a token that is a session.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::harness::answer::Answer;
use crate::harness::body::{empty, full};
use crate::harness::browser::Browser;
use crate::harness::hostile::{Endpoint, HostileBuilder, Lie};
use crate::harness::http::fetch;
use crate::harness::pair::{Pair, Side};
use crate::harness::redis::Redis;
use crate::harness::scene::reason;
use crate::harness::upstream::EchoUpstream;
use crate::harness::world::{Shape, World};
use crate::local_accounts::{CHEAP, TOTP, code_at};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const ADMIN_TOKEN: &str = "an-admin-token-of-the-tests";
const APP: &str = "Acme/2.1 (Linux; Android 16)";

const ROUTES: &str = r#"
[[route]]
id = "api"
path = "/api/"
upstream = "@UPSTREAM@"
accept = ["bearer"]
allow = "any-authenticated"
[[route]]
id = "both"
path = "/both/"
upstream = "@UPSTREAM@"
accept = ["session", "bearer"]
allow = "any-authenticated"
[[route]]
id = "people"
upstream = "@UPSTREAM@"
accept = ["session"]
allow = "any-authenticated"
[[route]]
id = "strong"
path = "/strong/"
upstream = "@UPSTREAM@"
accept = ["bearer"]
acr = ["mfa"]
allow = "any-authenticated"
[[route]]
id = "perhaps"
path = "/perhaps/"
upstream = "@UPSTREAM@"
access = "optional"
accept = ["bearer"]
[[route]]
id = "open"
path = "/open/"
upstream = "@UPSTREAM@"
access = "public"
[[route]]
id = "telling"
path = "/telling/"
upstream = "@UPSTREAM@"
accept = ["bearer"]
allow = "any-authenticated"
headers = { "X-Forwarded-Access-Token" = "{access_token}" }
"#;

/// Ann (who has an authenticator app) and Bob are accounts of the gateway; Alice is the provider's.
fn users() -> String {
    format!(
        "[[user]]\nname = \"ann@example.test\"\npassword = \"{CHEAP}\"\ntotp = \"{TOTP}\"\n[[user]]\nname = \"bob\"\npassword = \"{CHEAP}\"\n\
         [admin]\ntoken = \"{ADMIN_TOKEN}\"\n"
    )
}

/// With local accounts and this `[token]` table.
fn world(token: &str) -> World {
    shaped("", &format!("{}[token]\n{token}\n", users()), |provider| provider)
}

/// Passwords are checked by the provider, where Alice has one.
fn at_provider(token: &str, kind: impl FnOnce(HostileBuilder) -> HostileBuilder) -> World {
    let world = shaped("", &format!("[token]\nprovider = \"default\"\n{token}\n[admin]\ntoken = \"{ADMIN_TOKEN}\"\n"), kind);
    world.provider.set_password("alice@example.test", "correct horse");
    world
}

fn shaped(top: &str, tables: &str, kind: impl FnOnce(HostileBuilder) -> HostileBuilder) -> World {
    World::shaped(
        Shape { top: &format!("trusted_proxies = [\"127.0.0.0/8\"]\n{top}"), tables, routes: Some(ROUTES), ..Shape::default() },
        kind,
    )
}

pub async fn post(url: &str, content_type: &str, body: impl Into<String>) -> Answer {
    post_from("127.0.0.1", url, content_type, body).await
}

/// From an address of its own, as a trusted proxy says.
async fn post_from(address: &str, url: &str, content_type: &str, body: impl Into<String>) -> Answer {
    let request = Request::post(url).header("content-type", content_type).header("user-agent", APP).header("x-forwarded-for", address);
    fetch(request.body(full(body.into())).unwrap()).await
}

fn password(name: &str, password: &str) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs([("grant_type", "password"), ("username", name), ("password", password)]).finish()
}

/// The members of a good answer.
pub fn granted(answer: &Answer) -> (String, Value) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    (told["access_token"].as_str().unwrap().to_owned(), told)
}

fn error(answer: &Answer) -> String {
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()));
    assert!(told["error_description"].as_str().is_some_and(|text| !text.is_empty()), "{told}");
    for (name, value) in [("cache-control", "no-store"), ("pragma", "no-cache"), ("content-type", "application/json")] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert!(answer.set_cookies().is_empty() && answer.header("access-control-allow-origin").is_none());
    told["error"].as_str().unwrap().to_owned()
}

pub async fn get(url: &str, headers: &[(&str, &str)]) -> Answer {
    let request = headers.iter().fold(Request::get(url), |request, (name, value)| request.header(*name, *value));
    fetch(request.body(empty()).unwrap()).await
}

impl World {
    async fn token(&self, name: &str) -> String {
        granted(&post(&self.at("/oauth2/token"), FORM, password(name, "correct horse")).await).0
    }

    async fn with_token(&self, path: &str, token: &str) -> Answer {
        get(&self.at(path), &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// What is refused is JSON that a client library understands, and the upstream does not hear of it.
    async fn is_refused(&self, path: &str, token: &str, expected: &str) {
        let before = self.upstream.count();
        let answer = self.with_token(path, token).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, expected), "{token}: {}", answer.text());
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(told["error"], "invalid_token", "{told}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer ") && challenge.contains("error=\"invalid_token\""), "{challenge}");
        assert!(answer.location().is_none() && answer.set_cookies().is_empty());
        assert_eq!(self.upstream.count(), before, "{token} reached the upstream");
    }

    async fn logins(&self, provider: &str, outcome: &str) -> u64 {
        self.gateway.metric(&format!("doorward_logins_total{{provider=\"{provider}\",outcome=\"{outcome}\"}}")).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_gets_a_token_that_routes_for_programs_take() {
    let world = world("path = \"/oauth/token\"");
    let form = password(" bob ", "correct horse");
    let json = json!({"grant_type": "password", "username": "bob", "password": "correct horse", "device": {"id": 7}}).to_string();
    let mut tokens = Vec::new();
    for (path, kind, body) in [
        ("/oauth2/token", FORM, &form),
        ("/oauth2/token", JSON, &json),
        ("/oauth/token", FORM, &form),
        ("/oauth/token", "application/json; charset=utf-8", &json),
        ("/oauth/token?username=ann&password=x&grant_type=none", FORM, &form),
    ] {
        let answer = post(&world.at(path), kind, body.as_str()).await;
        let (token, told) = granted(&answer);
        let now = (world.gateway.now())();
        let created_at = told["created_at"].as_u64().unwrap();
        assert!(now - created_at < 10, "{told}");
        assert_eq!(
            told,
            json!({"access_token": token, "token_type": "bearer", "expires_in": 2_592_000, "created_at": created_at}),
            "nothing else"
        );
        assert!(token.starts_with("doorward_st_") && token.len() == "doorward_st_".len() + 64, "{token}");
        for (name, value) in [("cache-control", "no-store"), ("pragma", "no-cache"), ("content-type", "application/json")] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        assert!(answer.set_cookies().is_empty());

        for route in ["/api/x", "/both/x", "/perhaps/x"] {
            assert_eq!(world.with_token(route, &token).await.status, 200, "{route}");
            let seen = world.upstream.last();
            assert_eq!((seen.header("x-forwarded-user").as_deref(), seen.header("authorization")), (Some("bob"), None), "{route}");
        }
        tokens.push(token);
    }
    tokens.sort();
    tokens.dedup();
    assert_eq!((tokens.len(), world.logins("local", "success").await), (5, 5));

    // Who it is, and until when; a route for people reads no token.
    let told: Value = serde_json::from_slice(&world.with_token("/oauth2/userinfo", &tokens[0]).await.body).unwrap();
    assert!(told["sub"] == "bob" && told["ends_at"] == told["idle_until"] && told["ends_at"].is_string(), "{told}");
    let answer = world.with_token("/people", &tokens[0]).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "no-credential"));
    assert_eq!(world.provider.count(Endpoint::Token), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_like_a_name_that_nobody_has() {
    for (table, status) in [("", 401), ("error_status = 400", 400)] {
        let world = world(table);
        let mut answers = Vec::new();
        for (name, typed) in [("bob", "incorrect horse"), ("nobody", "correct horse"), ("Bob", "correct horse"), ("bob", " correct horse")]
        {
            let answer = post(&world.at("/oauth2/token"), FORM, password(name, typed)).await;
            assert_eq!(
                (answer.status.as_u16(), error(&answer).as_str(), reason(&answer).as_str()),
                (status, "invalid_grant", "password-wrong")
            );
            assert_eq!(answer.header("www-authenticate"), (status == 401).then_some("Doorward-Session realm=\"doorward\""));
            let mut told: Value = serde_json::from_slice(&answer.body).unwrap();
            told["request_id"].take();
            answers.push(told);
        }
        answers.dedup();
        assert_eq!((answers.len(), world.logins("local", "password-wrong").await), (1, 4), "{answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_grant_is_refused_by_the_words_of_oauth() {
    let world = world("");
    let long = "x".repeat(40 * 1024);
    for (kind, body, status, word, why) in [
        (FORM, "username=bob&password=correct+horse", 400, "invalid_request", "parameter-invalid"),
        (FORM, "", 400, "invalid_request", "parameter-invalid"),
        (FORM, "grant_type=password&username=bob", 400, "invalid_request", "parameter-invalid"),
        (FORM, "grant_type=password&username=bob&password=", 400, "invalid_request", "parameter-invalid"),
        (FORM, "grant_type=password&username=bob&username=ann&password=x", 400, "invalid_request", "parameter-repeated"),
        (FORM, "grant_type=password&grant_type=password&username=bob&password=x", 400, "invalid_request", "parameter-repeated"),
        (FORM, "grant_type=refresh_token&refresh_token=x", 400, "unsupported_grant_type", "grant-unsupported"),
        (FORM, "grant_type=client_credentials", 400, "unsupported_grant_type", "grant-unsupported"),
        (FORM, "grant_type=Password&username=bob&password=x", 400, "unsupported_grant_type", "grant-unsupported"),
        (FORM, "facebook_token=x", 400, "invalid_request", "parameter-invalid"),
        (JSON, "grant_type=password&username=bob&password=x", 400, "invalid_request", "parameter-invalid"),
        (JSON, r#"{"grant_type": "password", "username": "bob", "password": 7}"#, 400, "invalid_request", "parameter-invalid"),
        ("text/plain", "grant_type=password&username=bob&password=x", 400, "invalid_request", "parameter-invalid"),
        ("multipart/form-data; boundary=b", "--b--\r\n", 400, "invalid_request", "parameter-invalid"),
        (FORM, &long, 413, "invalid_request", "body-too-large"),
    ] {
        let answer = post(&world.at("/oauth2/token"), kind, body).await;
        assert_eq!((answer.status.as_u16(), error(&answer).as_str(), reason(&answer).as_str()), (status, word, why), "{kind} {body:.60}");
    }
    for method in ["GET", "PUT", "OPTIONS"] {
        let request = Request::builder().method(method).uri(world.at("/oauth2/token")).header("origin", "https://evil.test");
        let answer = fetch(request.body(empty()).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST")), "{method}");
        assert!(answer.header("access-control-allow-origin").is_none());
    }
    assert_eq!(world.logins("local", "password-wrong").await + world.logins("local", "success").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_table_there_is_no_endpoint_and_its_tokens_are_sent_to_nobody() {
    let world = shaped("", "[[token_issuer]]\nissuer = \"http://127.0.0.1:1\"\naudience = \"api\"\n", |provider| provider);
    let answer = post(&world.at("/oauth2/token"), FORM, password("bob", "correct horse")).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (404, "endpoint-unknown"));
    world.is_refused("/api/x", &format!("doorward_st_{}", "A".repeat(64)), "issued-token-unknown").await;
    world.is_refused("/api/x", "doorward_st_x", "issued-token-unknown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_for_bound_tokens_takes_no_session_token() {
    let routes = "[[route]]\npath = \"/dpop/\"\nupstream = \"@UPSTREAM@\"\naccept = [\"bearer\"]\ndpop = \"required\"\n\
                  allow = \"any-authenticated\"\n[[route]]\npath = \"/certified/\"\nupstream = \"@UPSTREAM@\"\naccept = [\"bearer\"]\n\
                  certificate_bound = \"required\"\nallow = \"any-authenticated\"\n[[route]]\npath = \"/open/\"\n\
                  upstream = \"@UPSTREAM@\"\naccess = \"optional\"\naccept = [\"bearer\"]\ndpop = \"required\"\n";
    let top = "trusted_proxies = [\"127.0.0.0/8\"]\nclient_certificate = { header = \"Client-Cert\" }\n";
    let tables = format!("{}[token]\n", users());
    let world = World::shaped(Shape { top, tables: &tables, routes: Some(routes), ..Shape::default() }, |provider| provider);
    let token = world.token("bob").await;
    for (path, expected) in [("/dpop/x", "dpop-required"), ("/open/x", "dpop-required"), ("/certified/x", "certificate-required")] {
        for scheme in ["Bearer", "DPoP"] {
            let shown = [("authorization", format!("{scheme} {token}")), ("client-cert", ":AAAA:".to_owned()), ("dpop", "x".to_owned())];
            let shown: Vec<_> = shown.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = get(&world.at(path), &shown).await;
            let expected = if scheme == "DPoP" { "token-bound" } else { expected };
            assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, expected), "{path}: {}", answer.text());
        }
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_token_reaches_no_upstream_where_nobody_reads_it() {
    let world = world("");
    let token = world.token("bob").await;
    for scheme in ["Bearer", "bearer", "DPoP", "Bearer  "] {
        let answer = get(&world.at("/open/x"), &[("authorization", &format!("{scheme} {token}")), ("x-else", "own")]).await;
        assert_eq!(answer.status, 200);
        let seen = world.upstream.last();
        assert!(!seen.everything().contains(&token[12..]), "{scheme}: {}", seen.everything());
        assert_eq!(seen.header("x-else").as_deref(), Some("own"));
    }
    for own in ["Bearer its-own", "Basic ZG9vcndhcmRfc3RfOg==", "Bearer x_doorward_st_"] {
        assert_eq!(get(&world.at("/open/x"), &[("authorization", own)]).await.status, 200);
        assert_eq!(world.upstream.last().header("authorization").as_deref(), Some(own));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_no_cookie_and_a_cookie_is_no_token() {
    let world = world("");
    let token = world.token("bob").await;
    let value = token.strip_prefix("doorward_st_").unwrap();
    let mut browser = Browser::new();
    let page = browser.get(&world.at("/oauth2/start?provider=default")).await;
    browser.follow_all(page).await;
    let cookie = world.session(&browser).unwrap();
    let before = world.upstream.count();
    for shown in [value, token.as_str()] {
        let answer = get(&world.at("/both/x"), &[("cookie", &format!("doorward={shown}"))]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "no-credential"), "{shown}");
        let answer = get(&world.at("/oauth2/userinfo"), &[("cookie", &format!("doorward={shown}"))]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "no-credential"), "{shown}");
    }
    // Nor does it come in by signing out, or by the page of sessions.
    let mut thief = Browser::new();
    thief.plant_cookie(&world.at("/"), &format!("doorward={value}; Path=/"));
    assert_ne!(thief.get(&world.at("/oauth2/session")).await.status, 200);
    world.is_refused("/both/x", &format!("doorward_st_{cookie}"), "issued-token-unknown").await;
    // Beside a bad token the cookie counts for nothing.
    let both = [("authorization", "Bearer doorward_st_x".to_owned()), ("cookie", format!("doorward={cookie}"))];
    let both: Vec<_> = both.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = get(&world.at("/both/x"), &both).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "issued-token-malformed"));
    assert_eq!(world.upstream.count(), before);
    assert_eq!(world.with_token("/both/x", &token).await.status, 200);
    assert_eq!(get(&world.at("/both/x"), &[("cookie", &format!("doorward={cookie}"))]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_as_long_as_it_says_and_no_longer_whatever_sessions_do() {
    let world =
        shaped("session.idle = \"1m\"\nsession.absolute = \"2m\"", &format!("{}[token]\nlifetime = \"10d\"\n", users()), |provider| {
            provider
        });
    let (token, told) = granted(&post(&world.at("/oauth2/token"), FORM, password("bob", "correct horse")).await);
    assert_eq!(told["expires_in"], 864_000);
    world.advance(9 * DAY);
    // Unused for nine days, and the account is there.
    assert_eq!(world.with_token("/api/x", &token).await.status, 200);
    world.advance(DAY - MINUTE);
    assert_eq!(world.with_token("/api/x", &token).await.status, 200);
    world.advance(2 * MINUTE);
    world.is_refused("/api/x", &token, "issued-token-expired").await;
    world.is_refused("/perhaps/x", &token, "issued-token-expired").await;
    world.is_refused("/api/x", &token, "issued-token-expired").await;
    world.advance(2 * DAY);
    let answer = world.with_token("/api/x", &token).await;
    assert!(answer.status == 401 && reason(&answer).starts_with("issued-token-"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_nobody_gave_out_are_refused_and_a_restart_ends_none() {
    let world = world("");
    let token = world.token("bob").await;
    let mut other = token.clone();
    let last = other.pop().unwrap();
    other.push(if last == 'A' { 'Q' } else { 'A' });
    for (token, expected) in [
        (other.as_str(), "issued-token-unknown"),
        (&format!("doorward_st_{}", "A".repeat(64)), "issued-token-unknown"),
        (&format!("doorward_st_{}", "!".repeat(64)).replace('!', "+"), "issued-token-malformed"),
        (&format!("{token}A"), "issued-token-malformed"),
        (&token[..token.len() - 1], "issued-token-malformed"),
        ("doorward_st_", "issued-token-malformed"),
    ] {
        world.is_refused("/api/x", token, expected).await;
    }
    let answer = get(&world.at("/api/x"), &[("authorization", &format!("DPoP {token}"))]).await;
    assert_eq!(answer.status, 401, "by a scheme for tokens that are bound: {}", answer.text());
    let world = world.restart();
    assert_eq!(world.with_token("/api/x", &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_stands_in_the_lists_and_is_ended_there() {
    let world = world("");
    let (token, other) = (world.token("bob").await, world.token("bob").await);
    let list = async || {
        let answer =
            get(&format!("{}/sessions?user=bob", world.gateway.admin), &[("authorization", &format!("Bearer {ADMIN_TOKEN}"))]).await;
        serde_json::from_slice::<Value>(&answer.body).unwrap()["sessions"].as_array().unwrap().clone()
    };
    let listed = list().await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    for one in &listed {
        assert!(one["browser"] == "An app (Android)" && one["user_agent"] == APP && one["shown_as"] == "token", "{one}");
        assert_eq!((&one["address"], &one["sub"]), (&json!("127.0.0.1"), &json!("bob")));
    }
    // A month later they still stand there: lists go by the token's lifetime.
    world.advance(29 * DAY);
    assert_eq!(list().await.len(), 2);
    let end = |query: String| {
        let request =
            Request::delete(format!("{}/sessions{query}", world.gateway.admin)).header("authorization", format!("Bearer {ADMIN_TOKEN}"));
        fetch(request.body(empty()).unwrap())
    };
    let id = list().await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(end(format!("/{id}")).await.status, 200);
    let alive = [world.with_token("/api/x", &token).await.status, world.with_token("/api/x", &other).await.status];
    assert!(alive.contains(&StatusCode::OK) && alive.contains(&StatusCode::UNAUTHORIZED), "{alive:?}");
    assert_eq!(end("?user=bob".to_owned()).await.status, 200);
    for token in [&token, &other] {
        world.is_refused("/api/x", token, "issued-token-unknown").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_the_form_and_at_the_token_endpoint_count_together() {
    let world =
        shaped("limits.guesses_per_name = 3\nlimits.guesses_per_address = 5", &format!("{}[token]\n", users()), |provider| provider);
    let guess = async |address: &str, name: &str, typed: &str| {
        let answer = post_from(address, &world.at("/oauth2/token"), FORM, password(name, typed)).await;
        if answer.status == 429 {
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!(wait > 0 && wait <= 15 * 60 && error(&answer) == "temporarily_unavailable", "{wait}");
        }
        (answer.status.as_u16(), if answer.status == 200 { String::new() } else { reason(&answer) })
    };
    let at_the_form = async |name: &str, typed: &str| {
        let mut browser = Browser::new();
        let page = browser.get(&world.at("/oauth2/start?provider=local")).await;
        let page = browser.follow_all(page).await;
        browser.submit(&page, &page.form(), &[("name", name), ("password", typed)]).await.status.as_u16()
    };
    for name in ["bob", "nobody"] {
        let address = if name == "bob" { "192.0.2.1" } else { "192.0.2.2" };
        assert_eq!(at_the_form(name, "wrong").await, 303);
        for _ in 0..2 {
            assert_eq!(guess(address, name, "wrong").await, (401, "password-wrong".to_owned()), "{name}");
        }
        // The right one comes too late, from wherever; at the form as well.
        assert_eq!(guess("198.51.100.9", name, "correct horse").await, (429, "guesses-of-name".to_owned()), "{name}");
        assert_eq!(at_the_form(name, "correct horse").await, 429, "{name}");
    }
    // And by address.
    for n in 0..5 {
        assert_eq!(guess("203.0.113.5", &format!("name-{n}"), "wrong").await.0, 401);
    }
    assert_eq!(guess("203.0.113.5", "ann@example.test", "correct horse").await, (429, "guesses-of-address".to_owned()));
    assert_eq!(guess("203.0.113.6", "ann@example.test", "correct horse").await.0, 200);
    world.advance(15 * MINUTE);
    assert_eq!(guess("203.0.113.5", "bob", "correct horse").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_sent_along_makes_the_sign_in_worth_more() {
    let world = world("");
    let code = || code_at((world.gateway.now())());
    let with_code = async |name: &str, code: &str| {
        let body = format!("{}&otp={code}", password(name, "correct horse"));
        post(&world.at("/oauth2/token"), FORM, body).await
    };
    let (weak, right) = (world.token("ann@example.test").await, code());
    let before = world.upstream.count();
    let answer = world.with_token("/strong/x", &weak).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str(), world.upstream.count()), (401, "login-too-weak", before));
    assert!(answer.header("www-authenticate").unwrap().contains("insufficient_user_authentication"));

    let (strong, _) = granted(&with_code("ann@example.test", &right).await);
    assert_eq!(world.with_token("/strong/x", &strong).await.status, 200);
    for (name, code, why) in
        [("ann@example.test", right.as_str(), "code-used"), ("ann@example.test", "000000", "code-wrong"), ("bob", &right, "code-wrong")]
    {
        let answer = with_code(name, code).await;
        assert_eq!((answer.status.as_u16(), error(&answer).as_str(), reason(&answer).as_str()), (401, "invalid_grant", why), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_proxy_is_told_about_tokens_too() {
    let world = world("");
    let token = world.token("bob").await;
    let ask = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let host = world.gateway.address.to_string();
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-original-method", "GET"),
            ("x-original-uri", "/api/x"),
            ("x-forwarded-host", &host),
            ("x-forwarded-proto", "http"),
        ];
        get(&world.at("/oauth2/auth"), &headers).await
    };
    let answer = ask(&token).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-auth-request-user")), (200, Some("bob")));
    for (token, why) in [("doorward_st_x", "issued-token-malformed"), (&format!("doorward_st_{}", "A".repeat(64)), "issued-token-unknown")]
    {
        let answer = ask(token).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, why));
        assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_of_the_provider_begins_a_session_whose_tokens_are_renewed_inside() {
    let world = at_provider("", |provider| provider.refresh(true));
    world.provider.set_expires_in(600, true);
    let (token, told) = granted(&post(&world.at("/oauth2/token"), FORM, password("alice@example.test", "correct horse")).await);
    assert_eq!(told["expires_in"], 2_592_000);
    let asked = &world.provider.token_requests()[0];
    for (name, value) in [("grant_type", "password"), ("username", "alice@example.test"), ("scope", "openid profile email groups")] {
        assert_eq!(asked.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(world.with_token("/telling/x", &token).await.status, 200);
    let first = world.upstream.last();
    assert_eq!(first.header("x-forwarded-user").as_deref(), Some("alice"));
    let told_first = first.header("x-forwarded-access-token").unwrap();
    assert_ne!(told_first, token);
    // A week later the app shows the same token, and the upstream is told a fresh one of the provider's.
    world.advance(7 * DAY);
    assert_eq!(world.with_token("/telling/x", &token).await.status, 200);
    assert_ne!(world.upstream.last().header("x-forwarded-access-token").unwrap(), told_first);
    assert_eq!((world.provider.count(Endpoint::Refresh), world.provider.complaints()), (1, Vec::<String>::new()));

    // The provider ends the grant: the token is over, and says so.
    world.provider.end_grants();
    world.advance(DAY);
    world.is_refused("/telling/x", &token, "issued-token-ended").await;
    world.is_refused("/api/x", &token, "issued-token-unknown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_session_has_nothing_to_tell_is_told_so_and_led_to_no_login() {
    let routes = ROUTES.replacen(
        "accept = [\"bearer\"]\nallow = \"any-authenticated\"\nheaders",
        "accept = [\"session\", \"bearer\"]\nallow = \"any-authenticated\"\nheaders",
        1,
    );
    assert_ne!(routes, ROUTES);
    let tables = "[token]\nprovider = \"default\"\n";
    let world = World::shaped(Shape { tables, routes: Some(&routes), ..Shape::default() }, |provider| provider);
    world.provider.set_password("alice@example.test", "correct horse");
    world.provider.set_expires_in(600, true);
    let (token, _) = granted(&post(&world.at("/oauth2/token"), FORM, password("alice@example.test", "correct horse")).await);
    assert_eq!(world.with_token("/telling/x", &token).await.status, 200);
    world.advance(20 * MINUTE);
    assert_eq!(world.with_token("/api/x", &token).await.status, 200);
    world.is_refused("/telling/x", &token, "issued-token-ended").await;
    let shown = format!("Bearer {token}");
    let browsing = [("authorization", &*shown), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("accept", "text/html")];
    let answer = get(&world.at("/telling/x"), &browsing).await;
    assert_eq!((answer.status.as_u16(), answer.location()), (401, None), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_no_help_is_an_outage_and_what_it_lies_is_refused() {
    let world = at_provider("", |provider| provider);
    let sign_in = async |typed: &str| {
        let answer = post(&world.at("/oauth2/token"), FORM, password("alice@example.test", typed)).await;
        (answer.status.as_u16(), error(&answer), reason(&answer))
    };
    let told = |status, error: &str, reason: &str| (status, error.to_owned(), reason.to_owned());
    assert_eq!(sign_in("wrong").await, told(401, "invalid_grant", "password-wrong"));
    // Its words about our registration say nothing of the person, and count as no guess.
    for word in ["unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_client"] {
        world.provider.refuse_direct(Some(word));
        assert_eq!(sign_in("correct horse").await, told(503, "temporarily_unavailable", "provider-unreachable"), "{word}");
    }
    world.provider.refuse_direct(None);
    for lie in [Lie::Status(Endpoint::Token, 500), Lie::Closes(Endpoint::Token)] {
        world.provider.set(lie.clone());
        assert_eq!(sign_in("correct horse").await, told(503, "temporarily_unavailable", "provider-unreachable"), "{lie:?}");
    }
    for (lie, why) in [
        (Lie::NoIdToken, "id-token-missing"),
        (Lie::WrongAud, "id-token-audience"),
        (Lie::WrongIss, "id-token-issuer"),
        (Lie::BadSignature, "id-token-signature"),
        (Lie::AlgNone, "id-token-algorithm"),
        (Lie::Expired, "id-token-expired"),
        (Lie::AtHashWrong, "id-token-access-token-hash"),
        (Lie::UserinfoOtherSub, "userinfo-subject"),
        (Lie::TokenTypeOther, "token-response"),
        (Lie::NotJson(Endpoint::Token), "token-response"),
        (Lie::RedirectFromTokenEndpoint, "token-response"),
    ] {
        world.provider.set(lie.clone());
        assert_eq!(sign_in("correct horse").await, told(502, "server_error", why), "{lie:?}");
    }
    world.provider.set(Lie::None);
    let (token, _) = granted(&post(&world.at("/oauth2/token"), FORM, password("alice@example.test", "correct horse")).await);
    world.provider.stop().await;
    assert_eq!(sign_in("correct horse").await, told(503, "temporarily_unavailable", "provider-unreachable"));
    assert_eq!(world.with_token("/api/x", &token).await.status, 200, "nobody is signed out by it");
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_the_providers_passwords_are_slowed_too_however_a_name_is_spelled() {
    let tables = "[token]\nprovider = \"default\"\n";
    let world = shaped("limits.guesses_per_name = 4\nlimits.guesses_per_address = 6", tables, |provider| provider);
    world.provider.set_password("alice@example.test", "correct horse");
    let guess = async |address: &str, name: &str, typed: &str| {
        let answer = post_from(address, &world.at("/oauth2/token"), FORM, password(name, typed)).await;
        (answer.status.as_u16(), answer.header("retry-after").is_some())
    };
    for (n, name) in ["alice@example.test", "Alice@example.test", "ALICE@EXAMPLE.TEST", "aLice@example.test"].into_iter().enumerate() {
        assert_eq!(guess(&format!("192.0.2.{n}"), name, "wrong").await, (401, false), "{name}");
    }
    let asked = world.provider.count(Endpoint::Token);
    assert_eq!(guess("192.0.2.99", "alice@example.test", "correct horse").await, (429, true));
    assert_eq!(world.provider.count(Endpoint::Token), asked, "the provider was asked all the same");
    for n in 0..6 {
        assert_eq!(guess("198.51.100.1", &format!("name-{n}"), "wrong").await, (401, false));
    }
    assert_eq!(guess("198.51.100.1", "somebody", "wrong").await, (429, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn by_config_the_providers_own_token_is_passed_on() {
    let world = at_provider("issue = \"provider\"\n[[token_issuer]]\nissuer = \"http://127.0.0.1:1\"\naudience = \"api\"", |provider| {
        provider.refresh(true)
    });
    let answer = post(&world.at("/oauth2/token"), FORM, password("alice@example.test", "correct horse")).await;
    let (token, told) = granted(&answer);
    assert_eq!(told, json!({"access_token": token, "token_type": "bearer", "expires_in": 3600, "created_at": told["created_at"]}));
    assert!(world.provider.secrets().contains(&("access_token", token.clone())), "it is not the provider's");
    assert_eq!(error(&post(&world.at("/oauth2/token"), FORM, password("alice@example.test", "wrong")).await), "invalid_grant");
    // Sessions are no tokens then.
    world.is_refused("/both/x", &format!("doorward_st_{}", "A".repeat(64)), "issued-token-unknown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_on_each_replica_and_a_store_that_does_not_answer_ends_none() {
    let (mut redis, upstream) = (Redis::start().await, EchoUpstream::start());
    let routes = ROUTES.replace("@UPSTREAM@", &upstream.url());
    let pair = Pair::start(&Pair::place(), &redis, &format!("{}[token]\n{routes}", users())).await;
    let sign_in = async |side: Side| {
        let request = Request::post(pair.url("/oauth2/token")).header("content-type", FORM).body(full(password("bob", "correct horse")));
        pair.http(side).fetch(request.unwrap()).await
    };
    let with_token = async |side: Side, token: &str| {
        let request = Request::get(pair.url("/api/x")).header("authorization", format!("Bearer {token}")).body(empty());
        pair.http(side).fetch(request.unwrap()).await
    };
    let (token, _) = granted(&sign_in(Side::One).await);
    let (ended, _) = granted(&sign_in(Side::Other).await);
    for side in [Side::One, Side::Other] {
        assert_eq!((with_token(side, &token).await.status, with_token(side, &ended).await.status), (StatusCode::OK, StatusCode::OK));
    }
    // Ended at one of them it is over at the other.
    let admin = format!("http://{}/sessions", pair.at(Side::One).admin);
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let listed: Value = serde_json::from_slice(&get(&admin, &[("authorization", &bearer)]).await.body).unwrap();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 2, "{listed}");
    let all = Request::delete(format!("{admin}?user=bob")).header("authorization", &bearer).body(empty()).unwrap();
    assert_eq!(fetch(all).await.status, 200);
    let answer = with_token(Side::Other, &ended).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "issued-token-unknown"));

    let (token, _) = granted(&sign_in(Side::One).await);
    redis.stop().await;
    let answer = sign_in(Side::One).await;
    assert_eq!(
        (answer.status.as_u16(), error(&answer).as_str(), reason(&answer).as_str()),
        (503, "temporarily_unavailable", "store-unreachable")
    );
    // The other has never seen it, and cannot ask.
    let reached = upstream.count();
    let answer = with_token(Side::Other, &token).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str(), upstream.count()), (503, "store-unreachable", reached));
    assert!(answer.header("retry-after").is_some() && answer.header("www-authenticate").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_any_method_shows_its_token_and_never_sees_a_redirect() {
    let world = world("");
    let token = world.token("bob").await;
    for method in [Method::GET, Method::POST, Method::DELETE] {
        for (token, status) in [(token.as_str(), 200), ("doorward_st_x", 401)] {
            let request = Request::builder().method(&method).uri(world.at("/both/x")).header("authorization", format!("Bearer {token}"));
            let request = request.header("accept", "text/html").header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
            let answer = fetch(request.body(empty()).unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.location()), (status, None), "{method}");
        }
    }
}
