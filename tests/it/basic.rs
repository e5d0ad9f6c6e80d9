//! A name and a password with each request (RFC 7617): whom they stand for, what is remembered of them, and what guessing comes to.
#![allow(clippy::disallowed_methods, reason = "tests of speed measure it")]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;

use crate::harness::answer::Answer;
use crate::harness::body::{empty, full};
use crate::harness::browser::Browser;
use crate::harness::gateway::{Gateway, GatewayProcess, TOP};
use crate::harness::http::{HttpClient, Protocol, fetch, get};
use crate::harness::redis::Redis;
use crate::harness::scene::{Scene, reason};
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, free_port};
use crate::harness::websocket::WebSocket;

const SECOND: Duration = Duration::from_secs(1);
/// Of `correct horse`, as cheap as it may be, and as dear as `doorward hash-password` makes it.
const CHEAP: &str = "$argon2id$v=19$m=8,t=1,p=1$Kd0AT87+SkMV2kRWPv4RUQ$y2jQKqzvthjR1pSA29h8b5PW6lotninDMIIeUdram28";
const DEAR: &str = "$argon2id$v=19$m=19456,t=2,p=1$jsAm5nlH+xspNzm7EUYjTA$gs9bE8Hm9/VZ41GEjHQBaW8W72ye0GJ9DNT347J+5vk";
/// Of `battery staple`.
const BCRYPT: &str = "$2b$04$PuJ1zw5RA5igaj0AntQ6geda9jWB2qDAkQ0guzSEqt5G57UbxYf7y";
const CHALLENGE: &str = "Basic realm=\"doorward\", charset=\"UTF-8\"";

const ROUTES: &str = r#"
[[route]]
id = "api"
path = "/api/"
upstream = "@UPSTREAM@"
accept = ["basic"]
origins = ["https://listed.test"]
allow = "any-authenticated"
[[route]]
id = "both"
path = "/both/"
upstream = "@UPSTREAM@"
accept = ["session", "basic"]
allow = "any-authenticated"
[[route]]
id = "mixed"
path = "/mixed/"
upstream = "@UPSTREAM@"
accept = ["bearer", "basic"]
allow = "any-authenticated"
[[route]]
id = "staff"
path = "/staff/"
upstream = "@UPSTREAM@"
accept = ["basic"]
allow = { groups = ["staff"], provider = ["local"] }
[[route]]
id = "vault"
path = "/vault/"
upstream = "@UPSTREAM@"
accept = ["basic"]
acr = ["mfa"]
allow = "any-authenticated"
[[route]]
id = "fresh"
path = "/fresh/"
upstream = "@UPSTREAM@"
accept = ["basic"]
max_age = 5
allow = "any-authenticated"
[[route]]
id = "people"
path = "/people/"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
"#;

/// Ann is staff and has an authenticator, Bob is and has neither.
fn users(hash: &str) -> String {
    format!(
        "[[user]]\nname = \"ann\"\npassword = \"{hash}\"\nemail = \"ann@example.test\"\ngroups = [\"staff\"]\n\
         totp = \"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\"\n[[user]]\nname = \"bob\"\npassword = \"{BCRYPT}\"\n"
    )
}

fn scene() -> Scene {
    scene_with("", CHEAP, "")
}

fn scene_with(top: &str, hash: &str, tables: &str) -> Scene {
    let scene = Scene::start(top, &format!("{}{tables}{ROUTES}", users(hash)));
    // At the beginning of a slot of counts, so that none ends in the middle of a test.
    let now = (scene.gateway.now())();
    scene.gateway.advance(Duration::from_secs(900 - now % 900));
    scene
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

async fn show(scene: &Scene, path: &str, name: &str, password: &str) -> Answer {
    scene.get(path, &[("authorization", &basic(name, password))]).await
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), reason(answer))
}

fn challenges(answer: &Answer) -> Vec<&str> {
    answer.header_all("www-authenticate")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_stands_for_its_account_and_goes_no_further() {
    let scene = scene();
    for round in 0..2 {
        let answer = show(&scene, "/api/orders", "ann", "correct horse").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = scene.upstream.last();
        for (name, value) in [("user", "ann"), ("email", "ann@example.test"), ("groups", "staff")] {
            assert_eq!(seen.header(&format!("x-forwarded-{name}")).as_deref(), Some(value), "{name} in round {round}");
        }
        assert_eq!(seen.header("authorization"), None);
    }
    let line = scene.gateway.access_line("/api/orders").await;
    assert!(line.contains("basic") && line.contains("ann"), "{line}");
    assert_eq!(show(&scene, "/staff/", "ann", "correct horse").await.status, 200);
    let told = show(&scene, "/oauth2/userinfo", "ann", "correct horse").await.json();
    assert_eq!((told["sub"].as_str(), told["iss"].as_str()), (Some("ann"), Some(scene.gateway.url.as_str())));

    let count = scene.upstream.count();
    assert_eq!(refused(&show(&scene, "/staff/", "bob", "battery staple").await), (403, "not-allowed".to_owned()));
    // A password is worth no more than one, whoever has an authenticator; asking for it again helps nobody.
    let answer = show(&scene, "/vault/", "ann", "correct horse").await;
    assert_eq!(refused(&answer), (401, "login-too-weak".to_owned()));
    assert!(challenges(&answer)[0].starts_with("Doorward-Session") && challenges(&answer)[0].contains("acr_values=\"mfa\""), "{answer:?}");
    assert_eq!((challenges(&answer).len(), scene.upstream.count()), (1, count));
    // It was shown now, however long ago it was hashed.
    for _ in 0..3 {
        scene.gateway.advance(70 * SECOND);
        assert_eq!(show(&scene, "/fresh/", "ann", "correct horse").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_may_hold_colons_and_every_letter() {
    use doorward::provider::local::PasswordHash;
    use doorward::secret::Secret;
    let hash = PasswordHash::make(&Secret::new("p:ä:€ ☃")).unwrap();
    let upstream = EchoUpstream::start();
    let gateway = Gateway::start(&format!(
        "{TOP}[[user]]\nname = \"Zoë Müller\"\npassword = \"{hash}\"\n[[route]]\nupstream = \"{}\"\naccept = [\"basic\"]\nallow = \"any-authenticated\"\n",
        upstream.url()
    ));
    let show = async |name: &str, password: &str| {
        let request = Request::get(format!("{}/", gateway.url)).header("authorization", basic(name, password));
        HttpClient::new().fetch(request.body(empty()).unwrap()).await.status.as_u16()
    };
    assert_eq!(show("Zoë Müller", "p:ä:€ ☃").await, 200);
    assert_eq!(show("Zoë Müller", "p").await, 401);
    assert_eq!(show("Zoë Müller:p", "ä:€ ☃").await, 200, "the first colon is the one that counts");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_name_that_nobody_has_are_told_the_same() {
    let scene = scene();
    let bodies = ["ann", "nobody", ""].map(async |name| {
        let answer = show(&scene, "/api/", name, "wrong").await;
        assert_eq!(refused(&answer), (401, "password-wrong".to_owned()));
        assert_eq!(challenges(&answer), [CHALLENGE]);
        let mut body = answer.json();
        body.as_object_mut().unwrap().remove("request_id");
        body.to_string()
    });
    let [ann, nobody, empty] = bodies;
    let (ann, nobody, empty) = (ann.await, nobody.await, empty.await);
    assert_eq!((&ann, &ann), (&nobody, &empty));
    assert_eq!(refused(&show(&scene, "/api/", "ann", "").await), (401, "password-wrong".to_owned()));
    assert_eq!(refused(&show(&scene, "/api/", "Ann", "correct horse").await), (401, "password-wrong".to_owned()));
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_says_which_schemes_the_route_takes_and_no_dialog_comes_up_where_people_sign_in() {
    let scene = scene();
    let session = "Doorward-Session realm=\"doorward\"";
    let metadata = format!("resource_metadata=\"{}\"", scene.url("/.well-known/oauth-protected-resource/mixed"));
    let bearer = format!("Bearer realm=\"doorward\", {metadata}");
    let dpop = format!("DPoP realm=\"doorward\", algs=\"RS256 ES256 PS256 EdDSA\", {metadata}");
    for (path, headers, expected) in [
        ("/api/", &[][..], &[CHALLENGE][..]),
        ("/api/", &[("sec-fetch-mode", "navigate"), ("accept", "text/html")], &[CHALLENGE]),
        ("/mixed/", &[], &[bearer.as_str(), dpop.as_str(), CHALLENGE]),
        ("/both/", &[], &[CHALLENGE]),
        ("/both/", &[("sec-fetch-mode", "cors")], &[session]),
        ("/people/", &[], &[session]),
    ] {
        let answer = scene.get(path, headers).await;
        assert_eq!((answer.status.as_u16(), challenges(&answer)), (401, expected.to_vec()), "{path} {headers:?}");
    }
    // A wrong one: no token was shown, so that none is called invalid; a browser forgets what it had.
    assert_eq!(challenges(&show(&scene, "/mixed/", "ann", "wrong").await), [bearer.as_str(), dpop.as_str(), CHALLENGE]);
    let wrong = basic("ann", "wrong");
    let answer = scene.get("/both/", &[("authorization", &wrong), ("sec-fetch-mode", "cors")]).await;
    assert_eq!(challenges(&answer), [CHALLENGE]);
    let mut browser = Browser::new();
    let page = browser.get(&scene.url("/both/page")).await;
    assert_eq!((page.status.as_u16(), page.header("www-authenticate")), (303, None));
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_credential_counts_alone() {
    let scene = scene();
    let mut browser = Browser::new();
    let page = browser.get(&scene.url("/oauth2/start?provider=default")).await;
    browser.follow_until(page, |page| page.url.path() == "/oauth2/callback", 10).await;
    let session = format!("doorward={}", browser.cookie("doorward").unwrap().value);
    let (right, wrong) = (basic("ann", "correct horse"), basic("ann", "wrong"));
    let get = async |path: &str, authorization: &str| scene.get(path, &[("cookie", &session), ("authorization", authorization)]).await;
    assert_eq!(refused(&get("/both/", &wrong).await), (401, "password-wrong".to_owned()));
    assert_eq!(refused(&get("/both/", "Basic !").await), (400, "authorization-malformed".to_owned()));
    assert_eq!(refused(&get("/both/", "Basic YW5u").await), (400, "authorization-malformed".to_owned()));
    assert_eq!(scene.upstream.count(), 0);
    assert_eq!(get("/both/", &right).await.status, 200);
    assert_eq!(scene.upstream.last().header("x-forwarded-user").as_deref(), Some("ann"));
    // A password of a session's route is the app's own, and goes on.
    assert_eq!(get("/people/", &right).await.status, 200);
    assert_eq!(scene.upstream.last().header("authorization").as_deref(), Some(right.as_str()));
    assert_ne!(scene.upstream.last().header("x-forwarded-user").as_deref(), Some("ann"));
    let count = scene.upstream.count();
    assert_eq!(refused(&scene.get("/people/", &[("authorization", &right)]).await), (401, "no-credential".to_owned()));
    let twice = scene.get("/api/", &[("authorization", &right), ("authorization", &right)]).await;
    assert_eq!(refused(&twice), (400, "authorization-repeated".to_owned()));
    assert_eq!(scene.upstream.count(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_cannot_use_the_password_that_a_browser_keeps() {
    let scene = scene();
    let right = basic("ann", "correct horse");
    let own = scene.gateway.url.clone();
    let send = async |method: &str, origin: &str| {
        let request = Request::builder().method(method).uri(scene.url("/api/save"));
        let request = request.header("authorization", &right).header("origin", origin).body(full("a=b")).unwrap();
        HttpClient::new().speaking(Protocol::Http1).fetch(request).await
    };
    for origin in ["https://evil.test", "null"] {
        for method in ["POST", "DELETE", "PUT"] {
            assert_eq!(refused(&send(method, origin).await), (403, "cross-site".to_owned()), "{method} {origin}");
        }
    }
    let socket = async |origin: &str| {
        let headers = [("authorization", right.as_str()), ("origin", origin)];
        WebSocket::connect(&HttpClient::new(), &scene.url("/api/ws"), &headers).await
    };
    let answer = socket("https://evil.test").await.err().unwrap();
    assert_eq!(refused(&answer), (403, "upgrade-origin".to_owned()));
    assert_eq!(scene.upstream.count(), 0);
    for origin in [own.as_str(), "https://listed.test"] {
        assert_eq!(send("POST", origin).await.status, 200, "{origin}");
        assert!(socket(origin).await.is_ok(), "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_auth_takes_passwords_and_answers_in_its_own_words() {
    let scene = scene_with("trusted_proxies = [\"127.0.0.1\"]\n", CHEAP, "[limits]\nguesses_per_name = 2\n");
    let host = scene.host();
    let ask = async |method: &str, name: &str, password: &str, more: &[(&str, &str)]| {
        let authorization = basic(name, password);
        let about = [
            ("x-original-method", method),
            ("x-original-uri", "/api/"),
            ("x-forwarded-host", &host),
            ("x-forwarded-proto", "http"),
            ("authorization", &authorization),
        ];
        let headers: Vec<(&str, &str)> = about.into_iter().chain(more.iter().copied()).collect();
        scene.get("/oauth2/auth", &headers).await
    };
    let answer = ask("GET", "ann", "correct horse", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-auth-request-user")), (200, Some("ann")), "{answer:?}");
    let answer = ask("POST", "ann", "correct horse", &[("origin", "https://evil.test")]).await;
    assert_eq!(refused(&answer), (403, "cross-site".to_owned()));
    assert_eq!(ask("POST", "ann", "correct horse", &[("origin", &scene.gateway.url)]).await.status, 200);
    for _ in 0..2 {
        let answer = ask("GET", "bob", "wrong", &[]).await;
        assert_eq!((refused(&answer), challenges(&answer)), ((401, "password-wrong".to_owned()), vec![CHALLENGE]));
    }
    let answer = ask("GET", "bob", "battery staple", &[]).await;
    assert_eq!((refused(&answer), challenges(&answer).len()), ((403, "guesses-of-name".to_owned()), 0));
}

/// oauth2-proxy's snippets do not say which method a request has: it is taken for one that may change something.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_method_is_not_known_a_foreign_page_gets_nothing_by_a_password() {
    let scene = scene_with("trusted_proxies = [\"127.0.0.1\"]\n", CHEAP, "[forward_auth]\nheaders = \"oauth2-proxy\"\n");
    let authorization = basic("ann", "correct horse");
    let about = [("x-forwarded-uri", "/api/"), ("authorization", authorization.as_str())];
    assert_eq!(scene.get("/oauth2/auth", &about).await.status, 200);
    for (origin, status) in [("https://evil.test", 403), ("https://listed.test", 200), (&scene.gateway.url, 200)] {
        let headers: Vec<(&str, &str)> = about.iter().copied().chain([("origin", origin)]).collect();
        assert_eq!(scene.get("/oauth2/auth", &headers).await.status, status, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_by_form_and_by_request_count_together() {
    let scene = scene_with("", CHEAP, "[limits]\nguesses_per_name = 4\n");
    let mut browser = Browser::new();
    let page = browser.get(&scene.url("/oauth2/start?provider=local")).await;
    let page = browser.follow_all(page).await;
    for name in ["ann", "nobody"] {
        for _ in 0..2 {
            browser.submit(&page, &page.form(), &[("name", name), ("password", "wrong")]).await;
            assert_eq!(refused(&show(&scene, "/api/", name, "incorrect horse").await), (401, "password-wrong".to_owned()));
        }
        for password in ["wrong", "correct horse"] {
            let answer = show(&scene, "/api/", name, password).await;
            assert_eq!(refused(&answer), (429, "guesses-of-name".to_owned()), "{name}");
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=900).contains(&wait) && challenges(&answer).is_empty(), "{answer:?}");
            let sent = browser.submit(&page, &page.form(), &[("name", name), ("password", password)]).await;
            assert_eq!(sent.status, 429, "{name}");
        }
    }
    assert_eq!((show(&scene, "/api/", "bob", "battery staple").await.status.as_u16(), scene.upstream.count()), (200, 1));
    scene.gateway.advance(900 * SECOND);
    assert_eq!(show(&scene, "/api/", "ann", "correct horse").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_elsewhere_keeps_nobody_out_and_one_beside_wins_no_guesses() {
    let scene = scene_with("trusted_proxies = [\"127.0.0.1\"]\n", CHEAP, "[limits]\nguesses_per_name = 3\nguesses_per_address = 5\n");
    let from = async |address: &str, name: &str, password: &str| {
        let headers = [("x-forwarded-for", address), ("authorization", &*basic(name, password))];
        let answer = scene.get("/api/", &headers).await;
        if answer.status == 200 { "in".to_owned() } else { reason(&answer) }
    };
    let (home, elsewhere) = ("2001:db8:1:2::7", "198.51.100.9");
    assert_eq!(from(home, "ann", "correct horse").await, "in");
    for _ in 0..3 {
        assert_eq!(from(elsewhere, "ann", "wrong").await, "password-wrong");
    }
    assert_eq!(from(elsewhere, "ann", "correct horse").await, "guesses-of-name");
    // What is remembered is of her network alone.
    assert_eq!(from(home, "ann", "correct horse").await, "in");
    assert_eq!(from("2001:db8:1:2::8", "ann", "correct horse").await, "in");
    for name in ["carol", "dave"] {
        assert_eq!(from(elsewhere, name, "wrong").await, "password-wrong");
    }
    assert_eq!(from(elsewhere, "bob", "battery staple").await, "guesses-of-address");
    // A neighbour who guesses: after as many as anybody has, not even the right one is told from the others.
    let count = scene.upstream.count();
    for guess in ["one", "two", "three"] {
        assert_eq!(from(home, "ann", guess).await, "password-wrong");
    }
    assert_eq!(from(home, "ann", "four").await, "guesses-of-name");
    assert_eq!(from(home, "ann", "correct horse").await, "guesses-of-name");
    assert_eq!(scene.upstream.count(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_is_remembered_and_forgotten_with_its_account() {
    let dir = TempDir::new("users");
    let file = dir.write_secret("users", format!("carol:{BCRYPT}\ndave:{BCRYPT}\n"));
    let scene = scene_with(&format!("users_file = \"{}\"\n", file.display()), CHEAP, "");
    for name in ["carol", "dave"] {
        assert_eq!(show(&scene, "/api/", name, "battery staple").await.status, 200);
    }
    // Dave is gone, Carol has another password.
    std::fs::write(&file, format!("carol:{CHEAP}\n")).unwrap();
    scene.gateway.advance(SECOND);
    let count = scene.upstream.count();
    for name in ["carol", "dave"] {
        assert_eq!(refused(&show(&scene, "/api/", name, "battery staple").await), (401, "password-wrong".to_owned()), "{name}");
    }
    assert_eq!(scene.upstream.count(), count);
    assert_eq!(show(&scene, "/api/", "carol", "correct horse").await.status, 200);
    // The same password with another salt is another hash: it is looked at anew, and right.
    std::fs::write(&file, format!("carol:{DEAR}\n")).unwrap();
    scene.gateway.advance(SECOND);
    assert_eq!(show(&scene, "/api/", "carol", "correct horse").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_what_is_remembered_goes_on_for_minutes_and_nothing_else_is_judged() {
    let mut redis = Redis::start().await;
    let dir = TempDir::new("keys");
    let seal = dir.write_secret("seal", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n");
    let upstream = EchoUpstream::start();
    let gateway = Gateway::start(&format!(
        "{TOP}[store]\nkind = \"redis\"\nurl = \"{}\"\n[keys]\nseal_file = \"{}\"\n{}[[route]]\nupstream = \"{}\"\naccept = [\"basic\"]\nallow = \"any-authenticated\"\n",
        redis.url(),
        seal.display(),
        users(CHEAP),
        upstream.url()
    ));
    let show = async |name: &str, password: &str| {
        let request = Request::get(format!("{}/", gateway.url)).header("authorization", basic(name, password));
        HttpClient::new().fetch(request.body(empty()).unwrap()).await
    };
    assert_eq!(show("ann", "correct horse").await.status, 200);
    redis.stop().await;
    assert_eq!(show("ann", "correct horse").await.status, 200);
    gateway.advance(200 * SECOND);
    assert_eq!(show("ann", "correct horse").await.status, 200);
    for (name, password) in [("ann", "wrong"), ("bob", "battery staple"), ("nobody", "x")] {
        let answer = show(name, password).await;
        assert_eq!((refused(&answer), challenges(&answer).len()), ((503, "store-unreachable".to_owned()), 0), "{name}");
    }
    gateway.advance(100 * SECOND);
    assert_eq!(refused(&show("ann", "correct horse").await), (503, "store-unreachable".to_owned()));
    assert_eq!(upstream.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_sends_many_at_once_is_hashed_once_and_a_flood_of_guesses_leaves_it_alone() {
    let top = "trusted_proxies = [\"127.0.0.1\"]\n";
    let scene = scene_with(top, DEAR, "[limits]\nguesses_per_name = 1000\nguesses_per_address = 10000\n");
    let send = |address: &str, name: &str, password: &str| {
        let request = Request::get(scene.url("/api/")).header("x-forwarded-for", address).header("authorization", basic(name, password));
        async move { HttpClient::new().fetch(request.body(empty()).unwrap()).await }
    };
    let mut program = tokio::task::JoinSet::new();
    for _ in 0..60 {
        program.spawn(send("198.51.100.1", "ann", "correct horse"));
    }
    assert!(program.join_all().await.iter().all(|answer| answer.status == 200));

    let mut flood = tokio::task::JoinSet::new();
    for guess in 0..200 {
        flood.spawn(send("203.0.113.7", if guess % 2 == 0 { "ann" } else { "nobody" }, &format!("guess {guess}")));
    }
    let mut took = Vec::new();
    for _ in 0..40 {
        let began = Instant::now();
        let answer = send("198.51.100.1", "ann", "correct horse").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        took.push(began.elapsed());
    }
    took.sort();
    assert!(took[20] < Duration::from_millis(150), "half of the requests took longer than {:?}", took[20]);
    let mut answers = std::collections::BTreeMap::<(u16, String), usize>::new();
    for answer in flood.join_all().await {
        if answer.status == 503 {
            assert_eq!((answer.header("retry-after"), challenges(&answer).len()), (Some("5"), 0));
        }
        *answers.entry(refused(&answer)).or_default() += 1;
    }
    let kinds: Vec<_> = answers.keys().map(|(status, reason)| (*status, reason.as_str())).collect();
    assert_eq!(kinds, [(401, "password-wrong"), (503, "password-queue")], "{answers:?}");
    assert_eq!(scene.upstream.count(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_is_written_anywhere() {
    let upstream = EchoUpstream::start();
    let config = format!(
        "{TOP}[log]\nlevel = \"trace\"\nformat = \"json\"\n[drain]\ndelay = \"0s\"\n{}[[route]]\nupstream = \"{}\"\naccept = [\"basic\"]\n\
         allow = \"any-authenticated\"\n",
        users(CHEAP),
        upstream.url()
    );
    let gateway = GatewayProcess::start_on(free_port(), &config).await;
    let mut shown = Vec::new();
    for (name, password) in [("ann", "a-wrong-secret"), ("nobody", "another-secret"), ("ann", "correct horse"), ("ann", "correct horse")] {
        let value = basic(name, password);
        fetch(Request::get(format!("{}/", gateway.url)).header("authorization", &value).body(empty()).unwrap()).await;
        shown.extend([password.to_owned(), value.trim_start_matches("Basic ").to_owned()]);
    }
    fetch(Request::get(format!("{}/", gateway.url)).header("authorization", "Basic bm8tY29sb24tc2VjcmV0").body(empty()).unwrap()).await;
    shown.extend(["no-colon-secret".to_owned(), "bm8tY29sb24tc2VjcmV0".to_owned(), CHEAP.to_owned(), "y2jQKqzv".to_owned()]);
    gateway.process.wait_for_line(|line| line.contains("authorization-malformed"), PATIENCE).await;
    let metrics = fetch(get(&format!("http://{}/metrics", gateway.admin))).await.text();
    let written = gateway.process.output() + &metrics + &upstream.last().everything();
    assert!(written.contains("password-wrong") && written.contains("\"basic\""), "{written}");
    for secret in shown {
        assert!(!written.contains(&secret), "{secret}");
    }
}
