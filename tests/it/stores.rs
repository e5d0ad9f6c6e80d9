//! Where sessions are kept: one contract for every store, two processes on one Redis, outages, restarts, and what a copy of a store is worth.

#![allow(clippy::disallowed_methods, reason = "what a process does is told by the machine's own clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorward::app::App;
use doorward::clock::ManualClock;
use doorward::config::{Sources, load};
use doorward::provider::tls::TlsSettings;
use doorward::secret::Secret;
use doorward::store::SessionStore;
use doorward::store::contract::{self, Expiry};
use doorward::store::embedded::{Embedded, EmbeddedSettings};
use doorward::store::memory::Memory;
use doorward::store::redis::{PasswordSource, Redis as RedisStore, RedisSettings, RedisTls, RedisUrl};
use http::{Method, Request};
use serde_json::json;
use tokio::runtime::Handle;

use crate::harness::body::empty;
use crate::harness::browser::{Browser, Page};
use crate::harness::certs::CertificateAuthority;
use crate::harness::gateway::{Gateway, GatewayProcess, command, provider};
use crate::harness::hostile::{Endpoint, HostileProvider};
use crate::harness::http::{Answer, fetch, get};
use crate::harness::jose::{base64url, from_base64url};
use crate::harness::mutual_tls::MutualTls;
use crate::harness::oidc_provider::{self, OidcProvider};
use crate::harness::process::{Launch, Process};
use crate::harness::redis::Redis;
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, free_port};

/// The rights that the store's own documentation asks for.
pub fn documented_rights() -> String {
    let source = include_str!("../../src/store/redis/mod.rs");
    let lines: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("//! ")).collect();
    let text = lines.join(" ");
    let (_, rights) = text.split_once("`~doorward:* ").expect("the documentation names the rights");
    let (rights, _) = rights.split_once('`').expect("and ends");
    format!("~doorward:* {rights}")
}

/// Whom to trust beside the system's authorities.
pub fn trusting(authority: &CertificateAuthority) -> Option<RedisTls> {
    let tls = TlsSettings { ca_file: Some(authority.file().to_owned()), ..TlsSettings::default() };
    Some(RedisTls { config: Arc::new(tls.client_config().expect("sound settings")), server_name: None })
}

fn redis_settings(redis: &Redis) -> RedisSettings {
    let mut settings = RedisSettings::new(RedisUrl::parse(&redis.url()).expect("the harness's URL"));
    if let Some((name, password)) = redis.credentials() {
        settings.username = Some(name.to_owned());
        settings.password = Some(PasswordSource::fixed(Secret::new(password)));
    }
    settings
}

async fn keeps_the_contract(settings: RedisSettings) {
    let clock = Arc::new(ManualClock::default());
    let store = RedisStore::new(settings, Handle::current(), Arc::<ManualClock>::clone(&clock)).expect("sound settings");
    store.watch(Arc::new(|_| {}));
    contract::run(Arc::new(store), clock, Expiry::ByServer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_embedded_keep_the_contract() {
    let clock = Arc::new(ManualClock::default());
    contract::run(Arc::new(Memory::new(Arc::<ManualClock>::clone(&clock))), clock, Expiry::ByClock).await;
    let dir = TempDir::new("store");
    let clock = Arc::new(ManualClock::default());
    let settings = EmbeddedSettings { path: dir.join("sessions.redb") };
    let embedded = Embedded::open(&settings, Arc::<ManualClock>::clone(&clock)).unwrap_or_else(|error| panic!("{error}"));
    contract::run(Arc::new(embedded), clock, Expiry::ByClock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract_and_uses_its_own_keys_alone() {
    let redis = Redis::start().await;
    keeps_the_contract(redis_settings(&redis)).await;
    for entry in redis.dump().await {
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        assert!(key.starts_with("doorward:"), "{key}");
        assert!(entry.lives.is_some(), "{key} stays for ever");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract_over_tls_and_believes_no_other_certificate() {
    let authority = CertificateAuthority::new();
    let redis = Redis::options().tls(&authority).start().await;
    let mut settings = redis_settings(&redis);
    settings.tls = trusting(&authority);
    keeps_the_contract(settings).await;
    let (stranger, clock) = (CertificateAuthority::new(), Arc::new(ManualClock::default()));
    let mut settings = redis_settings(&redis);
    settings.tls = trusting(&stranger);
    let store = RedisStore::new(settings, Handle::current(), clock).expect("sound settings");
    let outage = store.ping().await.expect_err("a certificate of somebody else's");
    assert!(outage.to_string().contains("certificate"), "{outage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract_with_no_more_rights_than_documented() {
    let rights = documented_rights();
    let redis = Redis::options().user_with("doorward", "an-acl-password", &rights).start().await;
    keeps_the_contract(redis_settings(&redis)).await;
    // Nothing else was tried.
    let denied = redis.cli(&["ACL", "LOG", "100"]).await;
    assert!(denied.trim().is_empty(), "{denied}");
    let user = redis.cli(&["ACL", "GETUSER", "doorward"]).await;
    assert!(user.contains("-@all") && user.contains("~doorward:*"), "{user}");
    // And none of them is there for nothing.
    let listed: BTreeSet<&str> = rights.split_whitespace().filter_map(|right| right.strip_prefix('+')).collect();
    assert!(listed.len() > 10 && !listed.contains("@all"), "{rights}");
    let used = redis.cli(&["INFO", "commandstats"]).await;
    for right in listed.iter().filter(|right| **right != "select") {
        assert!(used.contains(&format!("cmdstat_{right}:")), "+{right} is never used:\n{used}");
    }
}

/// What the tests with gateways stand on: a provider, an app, one sealing key for all, and a config with routes for people, programs and all.
pub struct World {
    pub provider: HostileProvider,
    pub upstream: EchoUpstream,
    dir: TempDir,
    seal_key: [u8; 32],
}

impl World {
    pub fn new() -> Self {
        let dir = TempDir::new("shared");
        let seal_key: [u8; 32] = std::array::from_fn(|n| u8::try_from(n * 7 % 251).expect("a byte"));
        dir.write_secret("keys", format!("{}\n", STANDARD.encode(seal_key)));
        Self { provider: HostileProvider::start(), upstream: EchoUpstream::start(), dir, seal_key }
    }

    fn config(&self, public_url: &str, store: &str) -> String {
        let route = |path: &str, rest: &str| {
            format!("[[route]]\nid = \"{path}\"\npath = \"/{path}\"\nupstream = \"{}\"\n{rest}\n", self.upstream.url())
        };
        format!(
            "public_url = \"{public_url}\"\n{}[[token_issuer]]\nissuer = \"{}\"\naudience = \"api\"\n[store]\n{store}\n{}",
            provider(&self.provider.issuer(), self.provider.client_id(), self.provider.client_secret()),
            self.provider.issuer(),
            [
                route("app", "allow = \"any-authenticated\""),
                route("api", "accept = [\"bearer\"]\nallow = \"any-authenticated\""),
                route("public", "access = \"public\""),
                route("optional", "access = \"optional\""),
            ]
            .concat()
        )
    }

    fn with_redis(&self, public_url: &str, redis: &Redis) -> String {
        self.with_redis_at(public_url, &format!("url = \"{}\"", redis.url()))
    }

    /// The same with what `[store]` says of where Redis is.
    pub fn with_redis_at(&self, public_url: &str, place: &str) -> String {
        let seal = format!("[keys]\nseal_file = \"{}\"\n", self.dir.join("keys").display());
        self.config(public_url, &format!("kind = \"redis\"\n{place}\n{seal}"))
    }

    fn gateway_on(&self, redis: &Redis) -> Gateway {
        Gateway::start(&self.with_redis("http://127.0.0.1:@PORT@", redis))
    }

    /// Signs in; the upstream has seen one request.
    async fn sign_in(&self, browser: &mut Browser, url: &str) {
        let page = browser.get(url).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 200, "{}", page.text());
    }

    fn token(&self) -> String {
        self.provider.access_token(json!({ "aud": "api" }), "at+jwt")
    }
}

fn with_token(url: &str, token: &str) -> Request<crate::harness::body::TestBody> {
    Request::get(url).header("authorization", format!("Bearer {token}")).body(empty()).expect("a request")
}

/// 503 for the store's sake: told when to come again, no cookie touched, nobody led anywhere.
#[track_caller]
fn is_outage(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("store-unreachable"), "{}", answer.text());
    assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok_and(|wait| wait > 0)));
    assert_eq!(answer.set_cookies(), Vec::<&str>::new());
    assert_eq!((answer.location(), answer.header("www-authenticate")), (None, None));
}

async fn ask(browser: &mut Browser, url: &str) -> Answer {
    browser.fetch_api(Method::GET, url, &[], b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_redis_are_one_gateway() {
    let (world, redis) = (World::new(), Redis::start().await);
    // What browsers see is one address; which process answers there, the test says.
    let public = format!("app.localhost:{}", free_port());
    let config = world.with_redis(&format!("http://{public}"), &redis);
    let (one, other) = tokio::join!(GatewayProcess::start_on(free_port(), &config), GatewayProcess::start_on(free_port(), &config));
    let app = format!("http://{public}/app");

    // A login begun on one and ended on the other.
    let mut browser = Browser::new().resolve(&public, one.address);
    let page = browser.get(&app).await;
    let page = browser.follow_up_to(page, &format!("http://{public}/oauth2/callback")).await;
    let mut browser = browser.resolve(&public, other.address);
    let page = browser.follow(&page).await;
    assert_eq!(page.location(), Some(app.as_str()), "{}", page.text());
    assert_eq!(world.upstream.count(), 0);

    // The session is known to both.
    for address in [other.address, one.address] {
        browser = browser.resolve(&public, address);
        assert_eq!(ask(&mut browser, &app).await.status, 200);
        assert_eq!(world.upstream.last().header("x-forwarded-user").as_deref(), Some("alice"));
    }
    assert_eq!(world.provider.count(Endpoint::Token), 1);
    // A used attempt is used everywhere.
    let again = browser.clone().visit(page.visit.clone()).await;
    assert_eq!((again.status.as_u16(), world.provider.count(Endpoint::Token)), (303, 1), "{}", again.text());

    // Signed out on one (where the browser is now), refused there at once, and on the other when it has heard of it.
    let thief = browser.clone();
    let page = browser.post_form(&format!("http://{public}/oauth2/sign_out"), &[]).await;
    assert_eq!(page.status, 303, "{}", page.text());
    let (signed_out, heard) = (Instant::now(), Duration::from_secs(1));
    while ask(&mut thief.clone().resolve(&public, other.address), &app).await.status == 200 {
        assert!(signed_out.elapsed() < heard, "not heard of after {heard:?}");
    }
    world.upstream.reset();
    for address in [other.address, one.address] {
        let refused = ask(&mut thief.clone().resolve(&public, address), &app).await;
        assert_eq!((refused.status.as_u16(), refused.json()["reason"].as_str()), (401, Some("no-credential")), "{}", refused.text());
    }
    assert_eq!(world.upstream.count(), 0);
    assert!(world.provider.complaints().is_empty(), "{:?}", world.provider.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_real_provider_a_login_begun_on_one_process_ends_on_the_other() {
    let (world, redis) = (World::new(), Redis::start().await);
    let public = format!("app.localhost:{}", free_port());
    let callback = format!("http://{public}/oauth2/callback");
    let real = OidcProvider::start(&callback).await;
    let table = provider(real.issuer(), oidc_provider::CLIENT_ID, oidc_provider::CLIENT_SECRET);
    let seal = world.dir.join("keys");
    let config = format!(
        "public_url = \"http://{public}\"\nupstream = \"{}\"\nallow = \"any-authenticated\"\n{table}[store]\nkind = \"redis\"\nurl = \"{}\"\n[keys]\nseal_file = \"{}\"\n",
        world.upstream.url(),
        redis.url(),
        seal.display()
    );
    let (one, other) = tokio::join!(GatewayProcess::start_on(free_port(), &config), GatewayProcess::start_on(free_port(), &config));
    let mut browser = Browser::new().resolve(&public, one.address);
    let page = browser.get(&format!("http://{public}/app?a=1")).await;
    let page = oidc_provider::walk_to_callback(&mut browser, page, "alice", oidc_provider::PASSWORD, &callback).await;
    let mut browser = browser.resolve(&public, other.address);
    let page = browser.follow(&page).await;
    assert_eq!(page.location(), Some(format!("http://{public}/app?a=1").as_str()), "{}", page.text());
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    for address in [other.address, one.address] {
        browser = browser.resolve(&public, address);
        assert_eq!(ask(&mut browser, &format!("http://{public}/app?a=1")).await.status, 200);
        assert_eq!(world.upstream.last().header("x-forwarded-user").as_deref(), Some("alice"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_nobody_is_logged_out_and_nobody_let_in() {
    let world = World::new();
    let mut redis = Redis::options().append_only().start().await;
    let gateway = world.gateway_on(&redis);
    let url = |path: &str| format!("{}/{path}", gateway.url);
    let mut browser = Browser::new();
    world.sign_in(&mut browser, &url("app")).await;
    // Somebody else is on the way through login.
    let mut under_way = Browser::new();
    let page = under_way.get(&url("app")).await;
    let callback = under_way.follow_up_to(page, &gateway.redirect_uri()).await;
    let (before, token) = (browser.cookie_header(&url("app")), world.token());
    assert_eq!(fetch(with_token(&url("api"), &token)).await.status, 200);
    world.upstream.reset();
    world.provider.reset_counts();

    redis.stop().await;
    // What is kept in memory is believed no more as soon as the connection is seen to be gone.
    let stopped = Instant::now();
    while browser.get(&url("app")).await.status == 200 {
        assert!(stopped.elapsed() < Duration::from_secs(1), "still believed");
    }
    world.upstream.reset();
    is_outage(&browser.get(&url("app")).await.answer);
    is_outage(&ask(&mut browser, &url("app")).await);
    is_outage(&ask(&mut browser, &url("optional")).await);
    is_outage(&ask(&mut browser, &url("oauth2/userinfo")).await);
    is_outage(&browser.post_form(&url("oauth2/sign_out"), &[]).await.answer);
    is_outage(&Browser::new().get(&url("app")).await.answer);
    is_outage(&under_way.follow(&callback).await.answer);
    assert_eq!(browser.cookie_header(&url("app")), before);
    assert_eq!((world.upstream.count(), world.provider.count(Endpoint::Token)), (0, 0));
    // Who needs no session is served as ever.
    assert_eq!(ask(&mut browser, &url("public")).await.status, 200);
    assert_eq!(fetch(get(&url("optional"))).await.status, 200);
    assert_eq!(fetch(with_token(&url("api"), &token)).await.status, 200);
    assert_eq!(fetch(get(&url("app"))).await.status, 401);
    assert_eq!(world.upstream.count(), 3);
    gateway.access_line("path=/app reason=store-unreachable").await;
    assert!(gateway.metric("doorward_dependency_errors_total{dependency=\"store\"}").await >= 6);

    // Back again: the session is there within about a second, and the login that was under way goes on.
    redis.start_again().await;
    let began = Instant::now();
    loop {
        let answer = ask(&mut browser, &url("app")).await;
        if answer.status == 200 {
            break;
        }
        is_outage(&answer);
        assert!(began.elapsed() < Duration::from_secs(10), "still away: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let page = under_way.follow(&callback).await;
    let page = under_way.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());

    // One that hangs is away as well: that shows after two seconds of silence.
    redis.pause();
    let paused = Instant::now();
    while ask(&mut browser, &url("app")).await.status == 200 {
        assert!(paused.elapsed() < Duration::from_secs(5), "still believed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    is_outage(&ask(&mut browser, &url("app")).await);
    redis.resume();
    for _ in 0.. {
        let answer = ask(&mut browser, &url("app")).await;
        if answer.status == 200 {
            break;
        }
        is_outage(&answer);
        assert!(began.elapsed() < PATIENCE, "still away: {}", answer.text());
    }
}

/// The cookie's two halves, the secrets that provider and browser hold, and who somebody is: as text and as bytes.
fn secrets_of(world: &World, browsers: &[&Browser], url: &str) -> Vec<(String, Vec<u8>)> {
    let mut secrets: Vec<(String, Vec<u8>)> = Vec::new();
    for browser in browsers {
        for cookie in browser.cookies().into_iter().filter(|cookie| cookie.name.starts_with("doorward")) {
            let bytes = from_base64url(cookie.value.rsplit('.').next().expect("a part"));
            secrets.push((cookie.name.clone(), cookie.value.clone().into_bytes()));
            secrets.push((format!("key of {}", cookie.name), bytes[bytes.len() - 32..].to_vec()));
            secrets.push((format!("key of {} as text", cookie.name), base64url(&bytes[bytes.len() - 32..]).into_bytes()));
            if cookie.name == "doorward" {
                secrets.push(("id".to_owned(), bytes[..16].to_vec()));
                secrets.push(("id as text".to_owned(), base64url(&bytes[..16]).into_bytes()));
            }
        }
        assert!(!browser.cookie_header(url).is_empty());
    }
    secrets.extend(world.provider.secrets().into_iter().map(|(kind, secret)| (kind.to_owned(), secret.into_bytes())));
    secrets.push(("sealing key".to_owned(), world.seal_key.to_vec()));
    for text in ["alice", "Alice", "example.test", "staff", "somewhere-secret", "127.0.0.1"] {
        secrets.push((text.to_owned(), text.as_bytes().to_vec()));
    }
    assert!(secrets.len() > 15, "{secrets:?}");
    secrets
}

fn holds(store: &[u8], secret: &[u8]) -> bool {
    store.windows(secret.len()).any(|window| window == secret)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_redis_opens_no_session_and_shows_no_secret() {
    let (world, redis) = (World::new(), Redis::start().await);
    let gateway = world.gateway_on(&redis);
    let app = format!("{}/app", gateway.url);
    let (mut alice, mut under_way) = (Browser::new(), Browser::new());
    world.sign_in(&mut alice, &app).await;
    under_way.get(&format!("{app}?at=somewhere-secret")).await;
    let everything = redis.everything().await;
    for (name, secret) in secrets_of(&world, &[&alice, &under_way], &app) {
        assert!(!holds(&everything, &secret), "{name} stands in Redis");
    }

    // What stands there is no cookie: neither the record's own name nor any of its parts.
    world.upstream.reset();
    let session = async |value: &str| {
        let request = Request::get(&app).header("cookie", format!("doorward={value}")).body(empty()).expect("a request");
        fetch(request).await
    };
    let mut tried = 0;
    for entry in redis.dump().await {
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        let name = key.split(['{', '}']).nth(1).unwrap_or_default().to_owned();
        let mut parts: Vec<Vec<u8>> = entry.values.clone();
        parts.push(name.into_bytes());
        for part in parts.iter().filter(|part| part.len() >= 32) {
            let bytes: Vec<u8> = part.iter().cycle().take(48).copied().collect();
            let value = base64url(&bytes);
            let answer = session(&value).await;
            assert_eq!((answer.status.as_u16(), answer.json()["reason"].as_str()), (401, Some("no-credential")), "{key}");
            tried += 1;
        }
    }
    assert!(tried >= 4, "{tried}");
    assert_eq!(world.upstream.count(), 0);

    // Who may write to it cannot put one person's session in another's place either.
    let hers: Vec<Vec<u8>> = redis.dump().await.into_iter().filter(|entry| entry.kind == "hash").map(|entry| entry.key).collect();
    assert_eq!(hers.len(), 1);
    world.provider.set_user(json!({ "sub": "mallory", "email": "m@example.test", "email_verified": true }));
    let mut mallory = Browser::new();
    world.sign_in(&mut mallory, &app).await;
    let entries = redis.dump().await;
    let his = entries.iter().find(|entry| entry.kind == "hash" && entry.key != hers[0]).expect("his session").key.clone();
    redis.command(&[b"DEL", &his]).await;
    redis.command(&[b"COPY", &hers[0], &his]).await;
    world.upstream.reset();
    let answer = ask(&mut mallory, &app).await;
    assert_eq!((answer.status.as_u16(), world.upstream.count()), (401, 0), "{}", answer.text());
    // Broken records are no sessions, and no reason to fall over.
    for junk in [&b""[..], b"x", b"{\"identity\":{\"sub\":\"alice\"}}", &[0; 200]] {
        redis.command(&[b"HSET", &his, b"sealed", junk]).await;
        let answer = ask(&mut mallory, &app).await;
        assert_eq!((answer.status.as_u16(), world.upstream.count()), (401, 0), "{}", answer.text());
    }
    assert_eq!(ask(&mut alice, &app).await.status, 200);
    assert_eq!(gateway.metric("doorward_panics_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_embedded_file_shows_no_secret() {
    let world = World::new();
    let gateway = Gateway::start(&world.config("http://127.0.0.1:@PORT@", "kind = \"embedded\""));
    let app = format!("{}/app", gateway.url);
    let (mut alice, mut under_way) = (Browser::new(), Browser::new());
    world.sign_in(&mut alice, &app).await;
    under_way.get(&format!("{app}?at=somewhere-secret")).await;
    let secrets = secrets_of(&world, &[&alice, &under_way], &app);
    let dir = Arc::clone(&gateway.dir);
    gateway.stop();
    let (file, keys) = (dir.join("doorward.redb"), dir.join("doorward.keys"));
    let store = std::fs::read(&file).expect("the store's file");
    assert!(store.len() > 1000);
    for (name, secret) in secrets {
        assert!(!holds(&store, &secret), "{name} stands in the file");
    }
    // The keys lie beside it, not in it; both are for their owner alone.
    let key = STANDARD.decode(std::fs::read_to_string(&keys).expect("the keys").trim()).expect("base64");
    assert!(key.len() == 32 && !holds(&store, &key));
    for path in [file, keys] {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("a file").permissions());
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

/// `doorward run` in a folder, which is expected not to start.
async fn refused_start(dir: &TempDir, config: &str) -> String {
    let file = dir.write("refused.toml", config);
    let process = launch(dir, &file.display().to_string(), free_port());
    let status = process.wait(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "{}", process.output());
    process.output()
}

fn launch(dir: &TempDir, config: &str, port: u16) -> Process {
    let listen = format!("127.0.0.1:{port}");
    Launch::new(command())
        .args(["run", "--config", config, "--listen", &listen])
        .env("STATE_DIRECTORY", dir.path())
        .env("DOORWARD_ADMIN__LISTEN", "127.0.0.1:0")
        .start()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_keep_sessions_does_not_start_and_says_what_to_do() {
    let world = World::new();
    let dir = TempDir::new("refused");
    let start = async |store: &str| refused_start(&dir, &world.config("http://127.0.0.1:4180", store)).await;

    let output = start("kind = \"redis\"\nurl = \"redis://127.0.0.1:1\"").await;
    assert!(output.contains("keys.seal_file") && output.contains("/dev/urandom"), "{output}");
    let output = start("kind = \"redis\"\nurl = \"redis://:hunter2-secret@127.0.0.1:1\"").await;
    assert!(output.contains("store.url") && !output.contains("hunter2"), "{output}");
    let short = dir.write_secret("short", STANDARD.encode([1, 2, 3]));
    let output = start(&format!("kind = \"redis\"\nurl = \"redis://127.0.0.1:1\"\n[keys]\nseal_file = \"{}\"", short.display())).await;
    assert!(output.contains("keys.seal_file") && output.contains("32 bytes"), "{output}");

    // The same in a process that embeds it, and stands in a runtime of its own: an error, not a panic.
    let file =
        dir.write("embedded.toml", world.config("http://127.0.0.1:4180", &format!("path = \"{}/config.toml/x\"", dir.path().display())));
    dir.write("config.toml", "");
    let sources = Sources { file: Some(&file), environment: BTreeMap::new(), flags: vec![("admin.listen".into(), "127.0.0.1:0".into())] };
    let config = load(&sources).unwrap_or_else(|problems| panic!("{problems:?}"));
    let error = App::start(config, Arc::new(ManualClock::default())).err().expect("no place for the store");
    assert!(error.to_string().contains("store.path"), "{error}");

    // A place where nobody can write, whoever runs this.
    let in_the_way = dir.write("a-file", "");
    let output = start(&format!("path = \"{}/doorward.redb\"", in_the_way.display())).await;
    assert!(output.contains("store.path") && output.contains("kind = \"memory\""), "{output}");
    let damaged = dir.write("damaged.redb", "this is no store".repeat(1000));
    let output = start(&format!("path = \"{}\"", damaged.display())).await;
    assert!(output.contains("store.path") && output.contains("damaged.redb"), "{output}");
    assert!(!output.contains("panicked"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_redis_password_is_an_outage_that_a_right_one_ends() {
    let world = World::new();
    let (right, wrong) = ("the-right-password-of-redis", "a-wrong-password-of-redis");
    let redis = Redis::options().user_with("doorward", right, &documented_rights()).start().await;
    let secret = world.dir.write_secret("redis-password", format!("{wrong}\n"));
    let store = format!(
        "kind = \"redis\"\nurl = \"{}\"\nusername = \"doorward\"\npassword_file = \"{}\"\n[keys]\nseal_file = \"{}\"\n[log]\nlevel = \"trace\"",
        redis.url(),
        secret.display(),
        world.dir.join("keys").display()
    );
    let port = free_port();
    let gateway = GatewayProcess::start_on(port, &world.config("http://127.0.0.1:@PORT@", &store)).await;
    let app = format!("{}/app", gateway.url);
    is_outage(&Browser::new().get(&app).await.answer);
    let line = gateway.process.wait_for_line(|line| line.contains("event=\"outage\""), PATIENCE).await;
    assert!(line.contains("store-unreachable") && line.contains("AuthenticationFailed"), "{line}");
    assert_eq!(world.upstream.count(), 0);
    // The file is read again for the next connection: no restart.
    world.dir.write_secret("redis-password", right);
    let began = Instant::now();
    let mut browser = Browser::new();
    let mut page = browser.get(&app).await;
    while page.status == 503 {
        is_outage(&page);
        assert!(began.elapsed() < PATIENCE, "{}", page.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
        page = browser.get(&app).await;
    }
    let page: Page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let output = gateway.process.output();
    assert!(!output.contains(right) && !output.contains(wrong), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_is_told_by_its_certificate_and_is_shown_ours() {
    let (world, both) = (World::new(), MutualTls::new());
    let redis = Redis::options().mutual_tls(&both).start().await;
    for (tls, fits) in both.ways() {
        redis.flush().await;
        let gateway = Gateway::start(&world.with_redis_at("http://127.0.0.1:@PORT@", &format!("url = \"{}\"\n{tls}", redis.url())));
        // A login is written down before anybody is sent to the provider.
        let page = Browser::new().get(&format!("{}/app", gateway.url)).await;
        if fits {
            assert_eq!(page.status, 303, "{tls}: {}", page.text());
        } else {
            is_outage(&page.answer);
        }
        assert_eq!(redis.dump().await.is_empty(), !fits, "{tls}");
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_others_use_keeps_our_keys_under_the_prefix_of_the_config() {
    let world = World::new();
    let rights = documented_rights().replace("~doorward:*", "~corp:*");
    let redis = Redis::options().user_with("corp", "an-acl-password", &rights).start().await;
    let public = format!("app.localhost:{}", free_port());
    let app = format!("http://{public}/app");
    let gateway = |prefix: &str| {
        let place = format!("url = \"{}\"\nusername = \"corp\"\npassword = \"an-acl-password\"\n{prefix}", redis.url());
        Gateway::start(&world.with_redis_at(&format!("http://{public}"), &place))
    };
    let (ours, theirs, unset) = (gateway("prefix = \"corp:a:\""), gateway("prefix = \"corp:b:\""), gateway(""));
    let mut browser = Browser::new().resolve(&public, ours.address);
    world.sign_in(&mut browser, &app).await;
    let keys: Vec<String> = redis.dump().await.into_iter().map(|entry| String::from_utf8_lossy(&entry.key).into_owned()).collect();
    assert!(!keys.is_empty() && keys.iter().all(|key| key.starts_with("corp:a:")), "{keys:?}");
    // Who has another prefix knows nobody of it; who has none is not let in by this Redis.
    world.upstream.reset();
    let mut browser = browser.resolve(&public, theirs.address);
    let refused = ask(&mut browser, &app).await;
    assert_eq!((refused.status.as_u16(), refused.json()["reason"].as_str()), (401, Some("no-credential")), "{}", refused.text());
    is_outage(&Browser::new().resolve(&public, unset.address).get(&app).await.answer);
    assert_eq!(world.upstream.count(), 0);
    assert!(redis.dump().await.iter().all(|entry| entry.key.starts_with(b"corp:")));
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_process_loses_no_session_and_the_file_has_one_master() {
    let world = World::new();
    let (port, dir) = (free_port(), Arc::new(TempDir::new("gateway")));
    let config = world.config("http://127.0.0.1:@PORT@", "kind = \"embedded\"");
    let gateway = GatewayProcess::start_in(Arc::clone(&dir), port, &config).await;
    let app = format!("{}/app", gateway.url);
    // A login that is under way is on the disk with the next session.
    let mut under_way = Browser::new();
    let page = under_way.get(&app).await;
    let callback = under_way.follow_up_to(page, &format!("{}/oauth2/callback", gateway.url)).await;
    let mut browser = Browser::new();
    world.sign_in(&mut browser, &app).await;

    // A second one on the same file does not start, and harms nothing.
    let second = launch(&dir, &dir.join("config.toml").display().to_string(), free_port());
    assert_eq!(second.wait(PATIENCE).await.code(), Some(1), "{}", second.output());
    let output = second.output();
    assert!(output.contains("store.path") && output.contains("another process") && output.contains("doorward.redb"), "{output}");
    assert_eq!(ask(&mut browser, &app).await.status, 200);
    world.upstream.reset();

    gateway.process.kill();
    let gateway = GatewayProcess::start_in(Arc::clone(&dir), port, &config).await;
    assert_eq!(ask(&mut browser, &app).await.status, 200);
    assert_eq!(world.upstream.last().header("x-forwarded-user").as_deref(), Some("alice"));
    let page = under_way.follow(&callback).await;
    let page = under_way.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    // Signed out is signed out, killed or not.
    let thief = browser.clone();
    let page = browser.post_form(&format!("{}/oauth2/sign_out", gateway.url), &[]).await;
    assert_eq!(page.status, 303, "{}", page.text());
    gateway.process.kill();
    let _gateway = GatewayProcess::start_in(Arc::clone(&dir), port, &config).await;
    world.upstream.reset();
    assert_eq!(ask(&mut thief.clone(), &app).await.status, 401);
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_embedded_sessions_and_memory_forgets_them() {
    let world = World::new();
    for (store, status) in [("kind = \"embedded\"", 200), ("kind = \"memory\"", 401)] {
        let gateway = Gateway::start(&world.config("http://127.0.0.1:@PORT@", store));
        let app = format!("{}/app", gateway.url);
        let mut browser = Browser::new();
        world.sign_in(&mut browser, &app).await;
        let gateway = gateway.restart();
        world.upstream.reset();
        assert_eq!(ask(&mut browser, &app).await.status, status, "{store}");
        assert_eq!(world.upstream.count(), usize::from(status == 200));
        drop(gateway);
    }
}
