//! Programs show keys of the gateway's own: whom they stand for, when they count, and what a flood of wrong ones does.

use std::time::Duration;

use http::Request;

use crate::harness::answer::Answer;
use crate::harness::body::empty;
use crate::harness::gateway::{Gateway, GatewayProcess, TOP};
use crate::harness::http::{HttpClient, fetch, get};
use crate::harness::process;
use crate::harness::redis::Redis;
use crate::harness::scene::{Scene, reason};
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, free_port};

const SECOND: Duration = Duration::from_secs(1);
const BACKUP: &str = "dwk_1111111111111111111111111111111111111111111111111111111111111111";
const REPORT: &str = "dwk_2222222222222222222222222222222222222222222222222222222222222222";
const OLD: &str = "dwk_3333333333333333333333333333333333333333333333333333333333333333";
const NOBODYS: &str = "dwk_4444444444444444444444444444444444444444444444444444444444444444";

/// A `[[key]]` table.
fn table(name: &str, key: &str, rest: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[key]]\nname = \"{name}\"\nsha256 = \"{hash}\"\n{rest}\n")
}

/// Backup may read and write, report may read, and the old one is over since 2001.
fn keys() -> String {
    table("backup", BACKUP, "scopes = [\"write\", \"read\"]\ngroups = [\"machines\"]\nexpires_at = 2096-01-01T00:00:00Z")
        + &table("report", REPORT, "scopes = [\"read\"]")
        + &table("old", OLD, "expires_at = 2001-01-01T00:00:00Z")
}

const ROUTES: &str = r#"
[[route]]
id = "api"
path = "/api/"
upstream = "@UPSTREAM@"
accept = ["api_key"]
allow = "any-authenticated"
[[route]]
id = "write"
path = "/write/"
upstream = "@UPSTREAM@"
accept = ["api_key"]
allow = { scopes = ["write"] }
[[route]]
id = "machines"
path = "/machines/"
upstream = "@UPSTREAM@"
accept = ["session", "api_key"]
allow = { groups = ["machines"], provider = ["api_key"] }
[[route]]
id = "mixed"
path = "/mixed/"
upstream = "@UPSTREAM@"
accept = ["session", "bearer", "api_key"]
allow = "any-authenticated"
[[route]]
id = "strong"
path = "/strong/"
upstream = "@UPSTREAM@"
accept = ["api_key"]
acr = ["mfa"]
allow = "any-authenticated"
[[route]]
id = "people"
path = "/people/"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
[[route]]
id = "open"
path = "/open/"
upstream = "@UPSTREAM@"
access = "public"
"#;

struct World {
    scene: Scene,
    dir: TempDir,
}

fn world() -> World {
    world_with("", "[limits]\nguesses_per_address = 1000\n")
}

fn world_with(top: &str, tables: &str) -> World {
    let dir = TempDir::new("api-keys");
    let file = dir.write_secret("api_keys.toml", keys());
    let scene = Scene::start(top, &format!("[api_keys]\nfile = \"{}\"\n{tables}\n{ROUTES}", file.display()));
    World { scene, dir }
}

impl World {
    async fn show(&self, path: &str, key: &str) -> Answer {
        self.scene.get(path, &[("x-api-key", key)]).await
    }

    /// Writes the file anew, and lets the second pass in which the old one counts.
    fn write(&self, text: &str) {
        std::fs::write(self.dir.path().join("api_keys.toml"), text).unwrap();
        self.scene.gateway.advance(SECOND);
    }
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), reason(answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_its_name_its_scopes_and_its_groups() {
    let world = world();
    let answer = world.show("/api/orders", BACKUP).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.scene.upstream.last();
    assert_eq!(seen.header("x-forwarded-user").as_deref(), Some("backup"));
    assert_eq!(seen.header("x-forwarded-groups").as_deref(), Some("machines"));
    assert_eq!((seen.header("x-forwarded-email"), seen.header("x-api-key")), (None, None));
    assert!(!seen.everything().contains(&BACKUP[4..]), "{}", seen.everything());
    let line = world.scene.gateway.access_line("/api/orders").await;
    assert!(line.contains("api_key") && line.contains("backup") && !line.contains(&BACKUP[4..]), "{line}");

    assert_eq!(world.show("/write/", BACKUP).await.status, 200);
    assert_eq!(world.show("/machines/", BACKUP).await.status, 200);
    let count = world.scene.upstream.count();
    let answer = world.show("/write/", REPORT).await;
    assert_eq!((refused(&answer), answer.header("www-authenticate")), ((403, "insufficient-scope".to_owned()), None));
    assert_eq!(refused(&world.show("/machines/", REPORT).await), (403, "not-allowed".to_owned()));
    // No key is worth a second factor, and no person is a machine by being in a group of that name.
    let answer = world.show("/strong/", BACKUP).await;
    assert_eq!(refused(&answer), (401, "login-too-weak".to_owned()));
    assert!(answer.header("www-authenticate").unwrap().contains("insufficient_user_authentication"), "{answer:?}");
    let session = world.scene.session().await;
    assert_eq!(refused(&world.scene.get("/machines/", &[("cookie", &session)]).await), (403, "wrong-provider".to_owned()));
    assert_eq!(world.scene.upstream.count(), count);

    let told = world.show("/oauth2/userinfo", BACKUP).await.json();
    assert_eq!(
        (told["sub"].as_str(), told["iss"].as_str()),
        (Some("backup"), Some(format!("{}/api_keys", world.scene.gateway.url).as_str()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_good_key_is_401_with_its_reason_and_goes_nowhere() {
    let world = world();
    for (key, why) in [
        (NOBODYS, "api-key-unknown"),
        (OLD, "api-key-expired"),
        ("", "api-key-malformed"),
        ("hunter2", "api-key-malformed"),
        (&BACKUP[..67], "api-key-malformed"),
        (&BACKUP.to_uppercase(), "api-key-malformed"),
        (&format!("Bearer {BACKUP}"), "api-key-malformed"),
    ] {
        for path in ["/api/", "/machines/", "/mixed/", "/oauth2/userinfo"] {
            let answer = world.show(path, key).await;
            assert_eq!(refused(&answer), (401, why.to_owned()), "{path} {key}");
            assert!(answer.json()["error"] == "invalid_api_key" && answer.set_cookies().is_empty(), "{}", answer.text());
        }
    }
    let challenge = |answer: &Answer| answer.header_all("www-authenticate").join(" | ");
    assert_eq!(challenge(&world.show("/api/", NOBODYS).await), "Doorward-Api-Key header=\"x-api-key\", realm=\"doorward\"");
    assert_eq!(challenge(&world.show("/machines/", NOBODYS).await), "Doorward-Session realm=\"doorward\"");
    // No token was shown, so that none is called invalid.
    let metadata = world.scene.url("/.well-known/oauth-protected-resource/mixed");
    let tokens = format!(
        "Bearer realm=\"doorward\", resource_metadata=\"{metadata}\" | \
         DPoP realm=\"doorward\", algs=\"RS256 ES256 PS256 EdDSA\", resource_metadata=\"{metadata}\""
    );
    assert_eq!(challenge(&world.show("/mixed/", NOBODYS).await), tokens);
    let answer = world.scene.get("/api/", &[]).await;
    assert_eq!(
        (refused(&answer), challenge(&answer)),
        ((401, "no-credential".to_owned()), "Doorward-Api-Key header=\"x-api-key\", realm=\"doorward\"".to_owned())
    );
    // In a place where no key is read there is none.
    for (name, value) in [("authorization", format!("Bearer {BACKUP}")), ("cookie", format!("x-api-key={BACKUP}"))] {
        assert_eq!(refused(&world.scene.get("/api/", &[(name, &value)]).await), (401, "no-credential".to_owned()), "{name}");
    }
    let answer = world.scene.get(&format!("/api/?x-api-key={BACKUP}&api_key={BACKUP}"), &[]).await;
    assert_eq!(refused(&answer), (401, "no-credential".to_owned()));
    let answer = world.scene.get("/api/", &[("x-api-key", BACKUP), ("x-api-key", BACKUP)]).await;
    assert_eq!(refused(&answer), (400, "api-key-repeated".to_owned()));
    assert_eq!(challenge(&answer), "");
    assert_eq!(world.scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_reaches_no_upstream_where_nobody_reads_it() {
    let world = world();
    let bearer = format!("Bearer {BACKUP}");
    for headers in [[("x-api-key", BACKUP), ("x-else", "own")], [("authorization", &*bearer), ("x-else", "own")]] {
        assert_eq!(world.scene.get("/open/x", &headers).await.status, 200);
        let seen = world.scene.upstream.last();
        assert!(!seen.everything().contains(&BACKUP[4..]), "{}", seen.everything());
        assert_eq!(seen.header("x-else").as_deref(), Some("own"));
    }
    // What is no key of ours is the app's own there.
    assert_eq!(world.scene.get("/open/x", &[("x-api-key", "its-own"), ("authorization", "Bearer its-own")]).await.status, 200);
    let seen = world.scene.upstream.last();
    assert_eq!((seen.header("x-api-key").as_deref(), seen.header("authorization").as_deref()), (Some("its-own"), Some("Bearer its-own")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_credential_counts_alone() {
    let world = world();
    let (session, token) = (world.scene.session().await, format!("Bearer {}", world.scene.token(serde_json::json!({}))));
    let user = async |headers: &[(&str, &str)]| {
        let answer = world.scene.get("/mixed/", headers).await;
        match answer.status.as_u16() {
            200 => world.scene.upstream.last().header("x-forwarded-user").unwrap(),
            _ => reason(&answer),
        }
    };
    let person = user(&[("cookie", &session)]).await;
    assert_ne!(person, "backup");
    assert_eq!(user(&[("x-api-key", BACKUP), ("cookie", &session)]).await, "backup");
    assert_eq!(user(&[("x-api-key", NOBODYS), ("cookie", &session)]).await, "api-key-unknown");
    assert_eq!(user(&[("authorization", &token), ("x-api-key", BACKUP)]).await, "program");
    assert_eq!(user(&[("authorization", "Bearer abc"), ("x-api-key", BACKUP), ("cookie", &session)]).await, "token-malformed");
    // A scheme that the route does not read is no credential.
    assert_eq!(user(&[("authorization", "Basic YTpi"), ("x-api-key", BACKUP)]).await, "backup");
    assert_eq!(world.scene.upstream.last().header("authorization").as_deref(), Some("Basic YTpi"));
    // Whichever counted, none of what the route reads goes on.
    user(&[("authorization", &token), ("x-api-key", BACKUP)]).await;
    assert_eq!((world.scene.upstream.last().header("x-api-key"), world.scene.upstream.last().header("authorization")), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_key_is_read_the_header_is_the_apps_own() {
    let world = world();
    let session = world.scene.session().await;
    assert_eq!(world.scene.get("/people/", &[("cookie", &session), ("x-api-key", "of the app")]).await.status, 200);
    assert_eq!(world.scene.upstream.last().header("x-api-key").as_deref(), Some("of the app"));
    assert_eq!(world.show("/open/", "of the app").await.status, 200);
    assert_eq!(world.scene.upstream.last().header("x-api-key").as_deref(), Some("of the app"));
    assert_eq!(refused(&world.show("/people/", BACKUP).await), (401, "no-credential".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_counts_as_it_is_now_and_a_key_ends_by_the_clock() {
    let world = world();
    assert_eq!(world.show("/api/", REPORT).await.status, 200);
    world.write(&table("backup", BACKUP, "expires_at = 2096-01-01T00:00:00Z"));
    let count = world.scene.upstream.count();
    assert_eq!(refused(&world.show("/api/", REPORT).await), (401, "api-key-unknown".to_owned()));
    assert_eq!(refused(&world.show("/write/", BACKUP).await), (403, "insufficient-scope".to_owned()));
    assert_eq!(world.scene.upstream.count(), count);
    // What cannot be used changes nothing.
    for broken in ["", "[[key]]\nname = \"backup\"\n", "[[key", &table("backup", "dwk_", "scope = []")] {
        world.write(broken);
        assert_eq!(world.show("/api/", BACKUP).await.status, 200, "{broken}");
    }
    world.write(&(table("backup", BACKUP, "") + &table("backup", REPORT, "")));
    for key in [BACKUP, REPORT] {
        assert_eq!(world.show("/api/", key).await.status, 200);
        assert_eq!(world.scene.upstream.last().header("x-forwarded-user").as_deref(), Some("backup"));
    }
    let now = (world.scene.gateway.now())();
    let soon = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_secs(now + 3600));
    world.write(&table("backup", BACKUP, &format!("expires_at = {soon}")));
    assert_eq!(world.show("/api/", BACKUP).await.status, 200);
    world.scene.gateway.advance(Duration::from_secs(3600));
    assert_eq!(refused(&world.show("/api/", BACKUP).await), (401, "api-key-expired".to_owned()));
    world.write("# nobody any more\n");
    assert_eq!(refused(&world.show("/api/", BACKUP).await), (401, "api-key-unknown".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_slowed_by_address_and_keep_no_good_one_out() {
    let tables = "[limits]\nguesses_per_address = 4\n";
    let world = world_with("trusted_proxies = [\"127.0.0.1\"]\n", tables);
    // At the beginning of a slot of counts, so that none ends in the middle.
    let now = (world.scene.gateway.now())();
    world.scene.gateway.advance(Duration::from_secs(900 - now % 900));
    let from = async |address: &str, key: &str| world.scene.get("/api/", &[("x-forwarded-for", address), ("x-api-key", key)]).await;
    // A key that was good once is no guess, however often it is shown.
    for _ in 0..6 {
        assert_eq!(refused(&from("198.51.100.9", OLD).await), (401, "api-key-expired".to_owned()));
    }
    for key in [NOBODYS, "hunter2", NOBODYS, NOBODYS] {
        assert_eq!(from("198.51.100.9", key).await.status, 401);
    }
    for key in [NOBODYS, "hunter2"] {
        let answer = from("198.51.100.9", key).await;
        assert_eq!(refused(&answer), (429, "guesses-of-address".to_owned()));
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=900).contains(&wait) && answer.header("www-authenticate").is_none(), "{wait} {answer:?}");
    }
    assert_eq!(world.scene.upstream.count(), 0);
    assert_eq!(from("198.51.100.9", BACKUP).await.status, 200);
    assert_eq!(refused(&from("198.51.100.10", NOBODYS).await), (401, "api-key-unknown".to_owned()));
    // A question of forward-auth knows fewer answers.
    let host = world.scene.host();
    let about =
        [("x-original-method", "GET"), ("x-original-uri", "/api/"), ("x-forwarded-host", host.as_str()), ("x-forwarded-proto", "http")];
    let ask = async |key: &str| {
        let headers: Vec<_> = about.into_iter().chain([("x-forwarded-for", "198.51.100.9"), ("x-api-key", key)]).collect();
        world.scene.get("/oauth2/auth", &headers).await
    };
    assert_eq!(refused(&ask(NOBODYS).await), (403, "guesses-of-address".to_owned()));
    assert_eq!(refused(&ask(OLD).await), (401, "api-key-expired".to_owned()));
    let answer = ask(BACKUP).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-auth-request-user")), (200, Some("backup")));
    world.scene.gateway.advance(Duration::from_secs(900));
    assert_eq!(refused(&from("198.51.100.9", NOBODYS).await), (401, "api-key-unknown".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_a_good_key_is_good_and_a_wrong_one_is_not_judged() {
    let mut redis = Redis::start().await;
    let dir = TempDir::new("keys");
    let seal = dir.write_secret("seal", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n");
    let file = dir.write_secret("api_keys.toml", keys());
    let upstream = EchoUpstream::start();
    let gateway = Gateway::start(&format!(
        "{TOP}[store]\nkind = \"redis\"\nurl = \"{}\"\n[keys]\nseal_file = \"{}\"\n[api_keys]\nfile = \"{}\"\nheader = \"X-Token\"\n\
         [[route]]\nupstream = \"{}\"\nallow = \"any-authenticated\"\n",
        redis.url(),
        seal.display(),
        file.display(),
        upstream.url()
    ));
    let show = async |name: &str, key: &str| {
        HttpClient::new().fetch(Request::get(format!("{}/", gateway.url)).header(name, key).body(empty()).unwrap()).await
    };
    redis.stop().await;
    assert_eq!(show("x-token", BACKUP).await.status, 200);
    assert_eq!(upstream.last().header("x-token"), None);
    assert_eq!(refused(&show("x-token", NOBODYS).await), (503, "store-unreachable".to_owned()));
    assert_eq!(refused(&show("x-api-key", BACKUP).await), (401, "no-credential".to_owned()));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_of_the_example_makes_a_key_that_counts() {
    let example = include_str!("../../config.toml.example");
    let line = example.lines().find_map(|line| line.strip_prefix("#   KEY=")).unwrap_or_else(|| panic!("the example says how"));
    let printed = process::run("bash", &["-c", &format!("KEY={line}")]);
    let [key, hash] = printed.lines().collect::<Vec<_>>()[..] else { panic!("{printed}") };
    // As the example's table is written.
    let dir = TempDir::new("keys");
    let table: String = example
        .lines()
        .skip_while(|line| *line != "#   [[key]]")
        .take_while(|line| line.starts_with("#   "))
        .map(|line| format!("{}\n", line.trim_start_matches("#   ").replace("what the line below prints", hash)))
        .filter(|line| !line.starts_with("KEY="))
        .collect();
    let file = dir.write_secret("api_keys.toml", table.replace("2027-", "2097-"));
    let upstream = EchoUpstream::start();
    let gateway = Gateway::start(&format!(
        "{TOP}[api_keys]\nfile = \"{}\"\n[[route]]\nupstream = \"{}\"\nallow = {{ scopes = [\"orders:read\"], groups = [\"machines\"] }}\n",
        file.display(),
        upstream.url()
    ));
    let answer = fetch(Request::get(format!("{}/", gateway.url)).header("x-api-key", key).body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), upstream.last().header("x-forwarded-user").as_deref()), (200, Some("backup")), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_written_anywhere() {
    let dir = TempDir::new("keys");
    let file = dir.write_secret("api_keys.toml", keys());
    let upstream = EchoUpstream::start();
    let config = format!(
        "{TOP}[log]\nlevel = \"trace\"\nformat = \"json\"\n[drain]\ndelay = \"0s\"\n[api_keys]\nfile = \"{}\"\n\
         [[route]]\nupstream = \"{}\"\nallow = \"any-authenticated\"\n",
        file.display(),
        upstream.url()
    );
    let gateway = GatewayProcess::start_on(free_port(), &config).await;
    for key in [NOBODYS, OLD, "dwk_hunter2", BACKUP] {
        fetch(Request::get(format!("{}/", gateway.url)).header("x-api-key", key).body(empty()).unwrap()).await;
    }
    gateway.process.wait_for_line(|line| line.contains("allowed"), PATIENCE).await;
    let metrics = fetch(get(&format!("http://{}/metrics", gateway.admin))).await.text();
    let written = gateway.process.output() + &metrics + &upstream.last().everything();
    assert!(
        written.contains("api-key-unknown") && written.contains("api-key-expired") && written.contains("api-key-malformed"),
        "{written}"
    );
    for secret in [&NOBODYS[4..], &OLD[4..], &BACKUP[4..], "hunter2"] {
        assert!(!written.contains(secret), "{secret}");
    }
}
