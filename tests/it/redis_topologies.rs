//! Redis on many machines: contract and rights behind sentinels and in a cluster, primaries that die under load, slots that move, replicas
//! that are waited for, and caches that are believed only while changes are told.

#![allow(clippy::disallowed_methods, reason = "what a process does is told by the machine's own clock")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use doorward::clock::{ManualClock, UnixTime};
use doorward::secret::{Secret, random};
use doorward::store::contract::{self, Expiry};
use doorward::store::redis::{PasswordSource, Redis as RedisStore, RedisSettings, RedisUrl, SentinelSettings, Servers};
use doorward::store::{Change, RecordId, Replaced, SealedSession, SessionStore};
use http::Method;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::harness::background;
use crate::harness::browser::Browser;
use crate::harness::certs::CertificateAuthority;
use crate::harness::gateway::Gateway;
use crate::harness::redis::Redis;
use crate::harness::redis_groups::{GroupOptions, MASTER_NAME, RedisCluster, SentinelGroup, turn};
use crate::harness::stalling::StallingProxy;
use crate::harness::temp::TempDir;
use crate::harness::wait::{PATIENCE, free_port, unix_now};
use crate::stores::{World, documented_rights, trusting};

/// What the documentation asks for beside, after these words.
fn further_rights(after: &str) -> String {
    let source = include_str!("../../src/store/redis/mod.rs");
    let lines: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("//! ")).collect();
    let text = lines.join(" ");
    let (_, rights) = text.split_once(after).unwrap_or_else(|| panic!("the documentation says nothing after {after:?}"));
    rights.trim_start().trim_start_matches('`').split('`').next().expect("rights").to_owned()
}

fn password(text: &str) -> Option<PasswordSource> {
    Some(PasswordSource::fixed(Secret::new(text)))
}

fn sentinel_servers(group: &SentinelGroup) -> Servers {
    let url = |redis: &Redis| RedisUrl::parse_one_of("store.sentinels", &redis.url(), 26379).expect("the harness's URL");
    Servers::Sentinels(SentinelSettings {
        urls: group.sentinels.iter().map(url).collect(),
        master_name: MASTER_NAME.to_owned(),
        username: group.sentinels[0].credentials().map(|(name, _)| name.to_owned()),
        password: group.sentinels[0].credentials().and_then(|(_, text)| password(text)),
    })
}

fn cluster_servers(cluster: &RedisCluster) -> Servers {
    let url = |redis: &Redis| RedisUrl::parse_one_of("store.cluster", &redis.url(), 6379).expect("the harness's URL");
    // One is enough to find the others.
    Servers::Cluster(cluster.nodes.iter().take(1).map(url).collect())
}

fn store(settings: RedisSettings) -> Arc<RedisStore> {
    Arc::new(RedisStore::new(settings, Handle::current(), Arc::new(ManualClock::default())).expect("sound settings"))
}

/// Has changes told, and waits until all of them are.
async fn watch(store: &RedisStore) -> mpsc::UnboundedReceiver<Change> {
    let (told, mut changes) = mpsc::unbounded_channel();
    // That nothing happened is said every second.
    store.watch(Arc::new(move |change| {
        if change != Change::Heard {
            _ = told.send(change);
        }
    }));
    until_watched(&mut changes).await;
    changes
}

async fn until_watched(changes: &mut mpsc::UnboundedReceiver<Change>) {
    let watched = async { while changes.recv().await.expect("the store is there") != Change::Watched {} };
    tokio::time::timeout(PATIENCE, watched).await.expect("changes are told in the end");
}

fn sealed(content: &[u8], indexes: &[RecordId]) -> SealedSession {
    let now = UnixTime(unix_now());
    SealedSession {
        sealed: content.to_vec(),
        listing: b"listing".to_vec(),
        indexes: indexes.to_vec(),
        last_used: now,
        expires_at: now.plus(Duration::from_secs(3600)),
    }
}

async fn keeps_the_contract(
    mut settings: RedisSettings,
    authority: &CertificateAuthority,
    servers: &[Redis],
    others: &[Redis],
    rights: &str,
) {
    let (name, text) = servers[0].credentials().expect("a user");
    settings.username = Some(name.to_owned());
    settings.password = password(text);
    settings.tls = trusting(authority);
    settings.wait_replicas = 1;
    let clock = Arc::new(ManualClock::default());
    let store = RedisStore::new(settings, Handle::current(), Arc::<ManualClock>::clone(&clock)).expect("sound settings");
    let _changes = watch(&store).await;
    contract::run(Arc::new(store), clock, Expiry::ByServer).await;
    // Nothing was tried that is not in the list, and nothing is in the list for nothing.
    let mut used = String::new();
    for redis in servers.iter().chain(others) {
        let denied = redis.cli(&["ACL", "LOG", "100"]).await;
        assert!(denied.trim().is_empty(), "{denied}");
        used += &redis.cli(&["INFO", "commandstats"]).await;
    }
    for right in rights.split_whitespace().filter_map(|right| right.strip_prefix('+')).filter(|right| *right != "select") {
        assert!(used.contains(&format!("cmdstat_{right}:")), "+{right} is never used:\n{used}");
    }
    for redis in servers {
        for entry in redis.dump().await {
            let key = String::from_utf8_lossy(&entry.key).into_owned();
            assert!(key.starts_with("doorward:") && entry.lives.is_some(), "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_keep_the_contract_over_tls_with_the_documented_rights() {
    let _turn = turn().await;
    let authority = CertificateAuthority::new();
    let further = [further_rights("Behind sentinels also"), further_rights("with `wait_replicas` also")].join(" ");
    let rights = format!("{} {further}", documented_rights());
    let theirs = further_rights("The sentinels' own user needs");
    let group = SentinelGroup::start(
        1,
        GroupOptions {
            authority: Some(&authority),
            user: Some(("doorward", "password-of-the-data", &rights)),
            sentinel_user: Some(("asker", "password-of-the-sentinels", &theirs)),
            elections: false,
        },
    )
    .await;
    let settings = RedisSettings::of(sentinel_servers(&group));
    keeps_the_contract(settings, &authority, &group.nodes[..1], &group.sentinels, &rights).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_the_contract_over_tls_with_the_documented_rights() {
    let _turn = turn().await;
    let authority = CertificateAuthority::new();
    let further = [further_rights("in a cluster also"), further_rights("with `wait_replicas` also")].join(" ");
    let rights = format!("{} {further}", documented_rights());
    let user = Some(("doorward", "password-of-the-data", rights.as_str()));
    let cluster = RedisCluster::start(3, 1, GroupOptions { authority: Some(&authority), user, ..GroupOptions::default() }).await;
    let settings = RedisSettings::of(cluster_servers(&cluster));
    // `asking` needs a slot that moves: another test shows it.
    let used = rights.replace("+asking", "");
    keeps_the_contract(settings, &authority, &cluster.nodes[..3], &[], &used).await;
}

/// People who sign in, come back and sign out at two gateways all the while. What they are told is right or 503, and nothing else.
struct Crowd {
    public: String,
    gateways: [SocketAddr; 2],
    going_on: AtomicBool,
    logins: AtomicUsize,
    endings: AtomicUsize,
    outages: AtomicUsize,
    begun: Instant,
}

/// What is known of the sessions of one person.
#[derive(Default)]
struct Acknowledged {
    alive: Vec<Browser>,
    ended: Vec<Browser>,
    wrong: Vec<String>,
}

impl Crowd {
    fn new(world: &World, store: &str) -> (Arc<Self>, [Gateway; 2]) {
        let public = format!("app.localhost:{}", free_port());
        let config = world.with_redis_at(&format!("http://{public}"), store);
        let gateways = [Gateway::start(&config), Gateway::start(&config)];
        let (zero, addresses) = (AtomicUsize::default, [gateways[0].address, gateways[1].address]);
        let crowd = Self {
            public,
            gateways: addresses,
            going_on: AtomicBool::new(true),
            logins: zero(),
            endings: zero(),
            outages: zero(),
            begun: Instant::now(),
        };
        (Arc::new(crowd), gateways)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.public)
    }

    fn at(&self, browser: Browser, gateway: usize) -> Browser {
        browser.resolve(&self.public, self.gateways[gateway % 2])
    }

    /// `None`: an outage on the way, and nobody was signed in.
    async fn sign_in(&self, gateway: usize, wrong: &mut Vec<String>) -> Option<Browser> {
        let mut browser = self.at(Browser::new(), gateway);
        let mut page = browser.get(&self.url("oauth2/start?rd=/app")).await;
        loop {
            let at_callback = page.url.path() == "/oauth2/callback";
            match page.status.as_u16() {
                503 => {
                    self.outages.fetch_add(1, Ordering::SeqCst);
                    return None;
                }
                303 if at_callback && browser.cookie("doorward").is_some() => {
                    self.logins.fetch_add(1, Ordering::SeqCst);
                    return Some(browser);
                }
                302 | 303 if page.next().is_some() => page = browser.follow(&page).await,
                status => {
                    wrong.push(self.told(format!("a login was told {status} at {}", page.url.path())));
                    return None;
                }
            }
        }
    }

    async fn ask(&self, browser: &Browser, gateway: usize) -> u16 {
        let status = self.at(browser.clone(), gateway).fetch_api(Method::GET, &self.url("app"), &[], b"").await.status.as_u16();
        if status == 503 {
            self.outages.fetch_add(1, Ordering::SeqCst);
        }
        status
    }

    /// `false`: an outage, and nobody knows.
    async fn sign_out(&self, browser: &Browser, gateway: usize, wrong: &mut Vec<String>) -> bool {
        let page = self.at(browser.clone(), gateway).post_form(&self.url("oauth2/sign_out"), &[]).await;
        match page.status.as_u16() {
            303 => self.endings.fetch_add(1, Ordering::SeqCst),
            503 => self.outages.fetch_add(1, Ordering::SeqCst),
            // There was nobody to sign out.
            status => {
                wrong.push(self.told(format!("a sign-out was told {status} at {}", gateway % 2)));
                return false;
            }
        };
        page.status == 303
    }

    /// With the time since the load began.
    fn told(&self, what: String) -> String {
        format!("{:?}: {what}", self.begun.elapsed())
    }

    async fn person(self: Arc<Self>, number: usize) -> Acknowledged {
        let mut known = Acknowledged::default();
        let mut round = number;
        while self.going_on.load(Ordering::SeqCst) {
            round += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
            let Some(browser) = self.sign_in(round, &mut known.wrong).await else { continue };
            for gateway in 0..4 {
                let status = self.ask(&browser, gateway).await;
                if !matches!(status, 200 | 503) {
                    known.wrong.push(self.told(format!("a session that was acknowledged was told {status} at {}", gateway % 2)));
                }
            }
            if let Some(earlier) = known.alive.get(round * 7 % known.alive.len().max(1)) {
                let status = self.ask(earlier, round).await;
                if !matches!(status, 200 | 503) {
                    known.wrong.push(self.told(format!("an earlier session that was acknowledged was told {status} at {}", round % 2)));
                }
            }
            if round.is_multiple_of(3) {
                known.alive.push(browser);
            } else if self.sign_out(&browser, round, &mut known.wrong).await {
                // The other gateway hears of it within this.
                tokio::time::sleep(Duration::from_millis(200)).await;
                for gateway in 0..2 {
                    let status = self.ask(&browser, gateway).await;
                    if !matches!(status, 401 | 503) {
                        known.wrong.push(self.told(format!("a session whose end was acknowledged was told {status} at {gateway}")));
                    }
                }
                known.ended.push(browser);
            }
        }
        known
    }

    /// Runs them while `hurt` does its worst; it returns when the store is whole again. Service has to be normal five seconds later.
    async fn go(self: Arc<Self>, people: usize, hurt: impl AsyncFnOnce()) {
        let mut all = JoinSet::new();
        for number in 0..people {
            all.spawn(Arc::clone(&self).person(number));
        }
        let begun = Instant::now();
        while self.logins.load(Ordering::SeqCst) < 30 || self.endings.load(Ordering::SeqCst) < 15 {
            assert!(begun.elapsed() < PATIENCE, "no load");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let hurting = self.told("the worst begins".to_owned());
        hurt().await;
        let whole = Instant::now();
        let hurt = self.told("and is over".to_owned());
        let mut well = 0;
        while well < 10 {
            let one = async {
                let browser = self.sign_in(well, &mut Vec::new()).await?;
                let statuses = [self.ask(&browser, 0).await, self.ask(&browser, 1).await];
                (statuses == [200, 200] && self.sign_out(&browser, well, &mut Vec::new()).await).then_some(())
            };
            well = if one.await.is_some() { well + 1 } else { 0 };
            assert!(whole.elapsed() < Duration::from_secs(10), "not normal again");
        }
        let normal = whole.elapsed();
        let before = self.logins.load(Ordering::SeqCst);
        while self.logins.load(Ordering::SeqCst) < before + 10 {
            assert!(whole.elapsed() < PATIENCE, "no load");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.going_on.store(false, Ordering::SeqCst);
        let (mut alive, mut ended, mut wrong) = (0, 0, Vec::new());
        while let Some(known) = all.join_next().await {
            let known = known.expect("a person does not fall over");
            wrong.extend(known.wrong);
            for (browsers, right, count) in [(&known.alive, 200, &mut alive), (&known.ended, 401, &mut ended)] {
                for browser in browsers {
                    for gateway in 0..2 {
                        let mut status = self.ask(browser, gateway).await;
                        while status == 503 {
                            assert!(whole.elapsed() < PATIENCE, "away again");
                            status = self.ask(browser, gateway).await;
                        }
                        if status != right {
                            wrong.push(format!("after all: {status} instead of {right} at {gateway}"));
                        }
                    }
                    *count += 1;
                }
            }
        }
        let (logins, outages) = (self.logins.load(Ordering::SeqCst), self.outages.load(Ordering::SeqCst));
        println!("{logins} logins, {alive} alive and {ended} ended in the end, {outages} outages, normal after {normal:?}");
        assert!(wrong.is_empty(), "{hurting}, {hurt}: {wrong:#?}");
        assert!(outages > 0, "nobody noticed anything");
        assert!(normal < Duration::from_secs(5), "{normal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_data_have_each_their_own_user_in_the_config() {
    let _turn = turn().await;
    let world = World::new();
    let rights = format!("{} {}", documented_rights(), further_rights("Behind sentinels also"));
    let theirs = further_rights("The sentinels' own user needs");
    let group = SentinelGroup::start(
        0,
        GroupOptions {
            user: Some(("doorward", "password-of-the-data", &rights)),
            sentinel_user: Some(("asker", "password-of-the-sentinels", &theirs)),
            ..GroupOptions::default()
        },
    )
    .await;
    let dir = TempDir::new("passwords");
    let (data, asker) = (dir.write_secret("data", "password-of-the-data"), dir.write_secret("asker", "password-of-the-sentinels"));
    let by_file = [
        "username = \"doorward\"".to_owned(),
        format!("password_file = \"{}\"", data.display()),
        "sentinel_username = \"asker\"".to_owned(),
        format!("sentinel_password_file = \"{}\"", asker.display()),
    ];
    let by_value = [
        "username = \"doorward\"".to_owned(),
        "password = \"password-of-the-data\"".to_owned(),
        "sentinel_username = \"asker\"".to_owned(),
        "sentinel_password = \"password-of-the-sentinels\"".to_owned(),
    ];
    let other = |lines: &[String], wrong: &str, right: &str| lines.join("\n").replace(right, wrong);
    for (keys, status) in [
        (by_value.join("\n"), 303),
        (by_file.join("\n"), 303),
        (other(&by_value, "\"asked\"", "\"asker\""), 503),
        (other(&by_value, "password-of-nobody", "password-of-the-sentinels"), 503),
        (other(&by_value, "password-of-nobody", "password-of-the-data"), 503),
        (by_value[..2].join("\n"), 503),
    ] {
        let public = format!("http://127.0.0.1:{}", free_port());
        let gateway = Gateway::start(&world.with_redis_at(&public, &format!("{}\n{keys}", group.config())));
        // A login is written down before anybody is sent to the provider.
        let asked = || async {
            let mut visit = crate::harness::http::get(&format!("{}/app", gateway.url));
            visit.headers_mut().insert("host", public.trim_start_matches("http://").parse().unwrap());
            visit.headers_mut().insert("accept", "text/html".parse().unwrap());
            crate::harness::http::fetch(visit).await.status.as_u16()
        };
        if status == 303 {
            crate::harness::wait::eventually_true("a login begins", async || asked().await == 303).await;
        } else {
            for _ in 0..3 {
                assert_eq!(asked().await, status, "{keys}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_waits_for_as_many_replicas_as_the_config_says() {
    let world = World::new();
    let redis = Redis::start().await;
    for (wait, status) in [("", 200), ("wait_replicas = 1", 503)] {
        let public = format!("app.localhost:{}", free_port());
        let store = format!("url = \"{}\"\n{wait}", redis.url());
        let gateway = Gateway::start(&world.with_redis_at(&format!("http://{public}"), &store));
        let mut browser = Browser::new().resolve(&public, gateway.address);
        let reached = world.upstream.count();
        let page = browser.get(&format!("http://{public}/app")).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), world.upstream.count() > reached), (status, status == 200), "{}", page.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_failover_under_load_loses_no_acknowledged_login_or_ending() {
    let _turn = turn().await;
    let world = World::new();
    let mut group = SentinelGroup::start(2, GroupOptions { elections: true, ..GroupOptions::default() }).await;
    let (crowd, _gateways) = Crowd::new(&world, &format!("{}\nwait_replicas = 1", group.config()));
    crowd
        .go(4, async || {
            group.nodes[0].kill();
            group.next_primary(0).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_slept_through_its_replacement_is_not_believed_when_it_wakes() {
    let _turn = turn().await;
    let world = World::new();
    let group = SentinelGroup::start(2, GroupOptions { elections: true, ..GroupOptions::default() }).await;
    let (crowd, _gateways) = Crowd::new(&world, &format!("{}\nwait_replicas = 1", group.config()));
    crowd
        .go(4, async || {
            group.nodes[0].pause();
            let next = group.next_primary(0).await;
            // Before that, what it has confirmed by a replica that did not hear of it either would be lost: Redis promises no more.
            group.agree(next).await;
            // It wakes as the primary that it was, until the sentinels tell it.
            group.nodes[0].resume();
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_primary_killed_under_load_loses_no_acknowledged_login_or_ending() {
    let _turn = turn().await;
    let world = World::new();
    let mut cluster = RedisCluster::start(3, 2, GroupOptions { elections: true, ..GroupOptions::default() }).await;
    let (crowd, _gateways) = Crowd::new(&world, &format!("{}\nwait_replicas = 1", cluster.config()));
    crowd
        .go(4, async || {
            cluster.nodes[0].kill();
            cluster.next_primary(0).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_primary_that_slept_through_its_replacement_is_not_believed_when_it_wakes() {
    let _turn = turn().await;
    let world = World::new();
    let cluster = RedisCluster::start(3, 1, GroupOptions { elections: true, ..GroupOptions::default() }).await;
    let (crowd, _gateways) = Crowd::new(&world, &cluster.config());
    crowd
        .go(4, async || {
            cluster.nodes[0].pause();
            let next = cluster.next_primary(0).await;
            cluster.agree(next, 0).await;
            cluster.nodes[0].resume();
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_writes_everything_down_is_killed_under_load_and_loses_nothing() {
    let _turn = turn().await;
    let world = World::new();
    let mut redis = Redis::options().append_only().start().await;
    let (crowd, _gateways) = Crowd::new(&world, &format!("url = \"{}\"", redis.url()));
    crowd
        .go(4, async || {
            redis.kill();
            tokio::time::sleep(Duration::from_millis(300)).await;
            redis.start_again().await;
        })
        .await;
}

/// CRC-16/XMODEM of the hash tag, as the cluster's specification has it.
fn slot_of(id: &RecordId) -> usize {
    let tag = crate::harness::jose::base64url(id);
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    });
    usize::from(crc) % 16384
}

/// Reads and writes one session over and over, and knows what it has to be. It lives for this many rounds.
async fn owner(store: Arc<RedisStore>, id: RecordId, lives: usize, going_on: Arc<AtomicBool>, outages: Arc<AtomicUsize>) -> usize {
    // After an outage it may be either.
    let mut possible: Vec<Option<Vec<u8>>> = vec![None];
    let mut rounds = 0_usize;
    while going_on.load(Ordering::SeqCst) {
        rounds += 1;
        let next = format!("round {rounds}").into_bytes();
        match store.session(id).await {
            Ok(found) => {
                let found = found.map(|found| found.sealed);
                assert!(possible.contains(&found), "found {found:?} instead of {possible:?}");
                possible = vec![found];
            }
            Err(_outage) => {
                outages.fetch_add(1, Ordering::SeqCst);
                continue;
            }
        }
        let now = possible[0].clone();
        let (done, then) = match (&now, rounds % lives) {
            (None, _) => (store.put_session(id, sealed(&next, &[random()])).await, Some(next)),
            (Some(_), 0) => (store.delete_session(id).await.map(|there| assert!(there)), None),
            (Some(before), _) => {
                let replaced = store.replace_session(id, before.clone(), next.clone()).await;
                (replaced.map(|replaced| assert_eq!(replaced, Replaced::Replaced)), Some(next))
            }
        };
        match done {
            Ok(()) => possible = vec![then],
            Err(_outage) => {
                outages.fetch_add(1, Ordering::SeqCst);
                possible = vec![now, then];
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    rounds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_under_load_gives_no_wrong_answer() {
    let _turn = turn().await;
    let rights = format!("{} {}", documented_rights(), further_rights("in a cluster also"));
    let user = Some(("doorward", "password-of-the-data", rights.as_str()));
    let cluster = RedisCluster::start(3, 0, GroupOptions { user, ..GroupOptions::default() }).await;
    let settings = || {
        let mut settings = RedisSettings::of(cluster_servers(&cluster));
        settings.username = Some("doorward".to_owned());
        settings.password = password("password-of-the-data");
        settings
    };
    let (writer, listener) = (store(settings()), store(settings()));
    let mut changes = watch(&listener).await;
    let first: RecordId = random();
    let slot = slot_of(&first);
    let asked =
        cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", &format!("doorward:session:{{{}}}", crate::harness::jose::base64url(&first))]).await;
    assert_eq!(asked, slot.to_string());
    let mut ids = vec![first];
    while ids.len() < 6 {
        let id = random();
        if slot_of(&id) == slot {
            ids.push(id);
        }
    }
    ids.extend((0..4).map(|_| random::<32>()));
    let (going_on, outages) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let mut owners = JoinSet::new();
    for (id, lives) in ids.into_iter().zip([1_000_000, 5].into_iter().cycle()) {
        owners.spawn(owner(Arc::clone(&writer), id, lives, Arc::clone(&going_on), Arc::clone(&outages)));
    }
    let home = cluster.first_owner(slot);
    let (mut at, mut moved) = (home, 0);
    for to in [(home + 1) % 3, (home + 2) % 3, home] {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.begin_move(slot, at, to).await;
        moved += cluster.move_keys(slot, at, to, Duration::from_millis(10)).await;
        // Between the last key and the end of the move new ones come into being.
        tokio::time::sleep(Duration::from_millis(100)).await;
        cluster.end_move(slot, to).await;
        at = to;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    going_on.store(false, Ordering::SeqCst);
    let mut rounds = 0;
    while let Some(one) = owners.join_next().await {
        rounds += one.expect("no wrong answer");
    }
    let outages = outages.load(Ordering::SeqCst);
    println!("{rounds} rounds, {moved} keys moved, {outages} outages");
    assert!(moved >= 18 && rounds > 200, "{moved} keys, {rounds} rounds");
    // Keys are waited for while they move.
    assert!(outages < rounds / 20, "{outages} of {rounds}");
    let mut used = String::new();
    for node in &cluster.nodes {
        let denied = node.cli(&["ACL", "LOG", "100"]).await;
        assert!(denied.trim().is_empty(), "{denied}");
        used += &node.cli(&["INFO", "commandstats"]).await;
    }
    assert!(used.contains("cmdstat_asking:"), "nobody was told to ask elsewhere");
    // Whoever keeps a cache heard of the moves, and hears of everything again.
    let id = random();
    writer.put_session(id, sealed(b"x", &[])).await.expect("a whole cluster");
    let heard = async {
        loop {
            if changes.recv().await.expect("the store is there") == Change::Session(id) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the change is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_replicas_do_not_confirm_is_not_acknowledged() {
    let primary = Redis::options().config("repl-diskless-sync-delay 0").start().await;
    let settings = || {
        let mut settings = RedisSettings::new(RedisUrl::parse(&primary.url()).expect("the harness's URL"));
        (settings.wait_replicas, settings.response_timeout) = (1, Duration::from_secs(2));
        settings
    };
    let waits = store(settings());
    let id = random();
    let outage = waits.put_session(id, sealed(b"x", &[random()])).await.expect_err("there is no replica");
    assert!(outage.to_string().contains("0 of 1 replicas") && outage.to_string().contains("store.wait_replicas"), "{outage}");
    let (user, pass) = Redis::watcher();
    let lines = [format!("replicaof 127.0.0.1 {}", primary.port()), format!("masteruser {user}"), format!("masterauth {pass}")];
    let replica = lines.iter().fold(Redis::options(), |options, line| options.config(line)).start().await;
    let begun = Instant::now();
    while let Err(outage) = waits.put_session(id, sealed(b"x", &[random()])).await {
        assert!(begun.elapsed() < PATIENCE, "{outage}");
    }
    assert_eq!(waits.replace_session(id, b"x".to_vec(), b"y".to_vec()).await, Ok(Replaced::Replaced));
    assert_eq!(waits.remember(id, UnixTime(unix_now() + 60)).await, Ok(true));
    assert_eq!(waits.lease(id, id, Duration::from_secs(5)).await, Ok(true));

    replica.pause();
    // What need not be confirmed goes on, and nothing waits behind what does.
    let (deleted, read) = tokio::join!(waits.delete_session(id), async {
        let begun = Instant::now();
        for _ in 0..20 {
            waits.touch_session(random(), UnixTime(unix_now())).await.expect("a touch waits for nobody");
            waits.session(random()).await.expect("a look waits for nobody");
        }
        begun.elapsed()
    });
    assert!(deleted.is_err() && read < Duration::from_millis(500), "{deleted:?} {read:?}");
    assert_eq!(waits.session(id).await, Ok(None));
    // Gone here, and not there: asked for again, also on a new connection, it is still not acknowledged.
    for again in [Arc::clone(&waits), store(settings())] {
        let deleted = again.delete_session(id).await;
        assert!(deleted.is_err(), "{deleted:?}");
    }
    replica.resume();
    let begun = Instant::now();
    while let Err(outage) = waits.delete_session(id).await {
        assert!(begun.elapsed() < PATIENCE, "{outage}");
    }
    assert!(!replica.everything().await.windows(8).any(|part| part == b":session"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_does_another_is_told() {
    let redis = Redis::start().await;
    let settings = || RedisSettings::new(RedisUrl::parse(&redis.url()).expect("the harness's URL"));
    let (one, other) = (store(settings()), store(settings()));
    let mut changes = watch(&other).await;
    let mut took = Vec::new();
    for _ in 0..50 {
        let id = random();
        one.put_session(id, sealed(b"x", &[random()])).await.expect("Redis runs");
        assert_eq!(changes.recv().await, Some(Change::Session(id)));
        // A touch is no change: whoever keeps the session keeps it.
        one.touch_session(id, UnixTime(unix_now() + 5)).await.expect("Redis runs");
        let begun = Instant::now();
        one.delete_session(id).await.expect("Redis runs");
        assert_eq!(changes.recv().await, Some(Change::Session(id)));
        took.push(begun.elapsed());
    }
    took.sort();
    println!("told of an ending after {:?}, at most {:?}", took[25], took[49]);
    assert!(took[25] < Duration::from_millis(100), "{took:?}");
    redis.flush().await;
    assert_eq!((changes.recv().await, changes.recv().await), (Some(Change::Lost), Some(Change::Watched)));
    // Whoever loses the connection says so at once, and is believed again when it is back.
    let tracking = redis.cli(&["CLIENT", "LIST"]).await;
    let tracking = tracking.lines().find(|line| line.contains(" flags=tB")).expect("a connection on which changes are told");
    let id = tracking.split_whitespace().find_map(|word| word.strip_prefix("id=")).expect("its number");
    assert_eq!(redis.cli(&["CLIENT", "KILL", "ID", id]).await, "1");
    assert_eq!((changes.recv().await, changes.recv().await), (Some(Change::Lost), Some(Change::Watched)));
}

/// Leads to one server, and new connections to another when that is wanted: a name that follows a failover.
async fn name_for(first: &Redis) -> (SocketAddr, Arc<Mutex<SocketAddr>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, target) = (listener.local_addr().expect("its address"), Arc::new(Mutex::new(first.address())));
    let leads_to = Arc::clone(&target);
    background::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let target = *leads_to.lock().unwrap();
            background::spawn(async move {
                if let Ok(mut there) = TcpStream::connect(target).await {
                    let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                }
            });
        }
    });
    (address, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_another_server_has_that_ones_changes_told() {
    let (before, after) = (Redis::start().await, Redis::start().await);
    let at = |place: SocketAddr| store(RedisSettings::new(RedisUrl::parse(&format!("redis://{place}")).expect("a URL")));
    let (name, leads_to) = name_for(&before).await;
    let named = at(name);
    let mut changes = watch(&named).await;
    let id = random();
    named.put_session(id, sealed(b"x", &[])).await.expect("Redis runs");
    assert_eq!(changes.recv().await, Some(Change::Session(id)));
    // The name moves on, and the connection on which sessions are read breaks. The one on which changes are told goes on, to a server that
    // nothing is written to any more.
    *leads_to.lock().unwrap() = after.address();
    let list = before.cli(&["CLIENT", "LIST"]).await;
    for line in list.lines().filter(|line| !line.contains(" flags=tB") && !line.contains(" cmd=client")) {
        let id = line.split_whitespace().find_map(|word| word.strip_prefix("id=")).expect("its number");
        before.cli(&["CLIENT", "KILL", "ID", id]).await;
    }
    let begun = Instant::now();
    while named.session(id).await != Ok(None) {
        assert!(begun.elapsed() < PATIENCE, "still read where the name led before");
    }
    assert_eq!((changes.recv().await, changes.recv().await), (Some(Change::Lost), Some(Change::Watched)));
    at(after.address()).put_session(id, sealed(b"y", &[])).await.expect("Redis runs");
    assert_eq!(changes.recv().await, Some(Change::Session(id)));
    // And so it stays: one change of connections is not the cause of the next.
    for _ in 0..20 {
        assert!(named.session(id).await.expect("Redis runs").is_some());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(changes.try_recv().is_err());
}

/// How often the store was asked for a session.
async fn asked(redis: &Redis) -> u64 {
    let stats = redis.cli(&["INFO", "commandstats"]).await;
    let calls = stats.split("cmdstat_hmget:calls=").nth(1).and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_believed_only_while_changes_are_told() {
    let (world, redis) = (World::new(), Redis::start().await);
    let proxy = StallingProxy::start(redis.address()).await;
    let public = format!("app.localhost:{}", free_port());
    let config = |place: String| world.with_redis_at(&format!("http://{public}"), &format!("url = \"redis://{place}\""));
    let one = Gateway::start(&config(proxy.address().to_string()));
    let other = Gateway::start(&config(redis.address().to_string()));
    let app = format!("http://{public}/app");
    let ask = async |browser: &Browser, gateway: &Gateway| {
        let mut browser = browser.clone().resolve(&public, gateway.address);
        browser.fetch_api(Method::GET, &app, &[], b"").await.status.as_u16()
    };
    let signed_in = async || {
        let mut browser = Browser::new().resolve(&public, one.address);
        let page = browser.get(&app).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 200, "{}", page.text());
        // In memory: nobody is asked any more.
        let begun = Instant::now();
        loop {
            let before = asked(&redis).await;
            for _ in 0..5 {
                assert_eq!(ask(&browser, &one).await, 200);
            }
            if asked(&redis).await == before {
                return browser;
            }
            assert!(begun.elapsed() < PATIENCE, "each request asks Redis");
        }
    };
    let sign_out = async |browser: &Browser| {
        let mut browser = browser.clone().resolve(&public, other.address);
        assert_eq!(browser.post_form(&format!("http://{public}/oauth2/sign_out"), &[]).await.status, 303);
    };

    // Ended elsewhere, it is forgotten here.
    let browser = signed_in().await;
    sign_out(&browser).await;
    let ended = Instant::now();
    while ask(&browser, &one).await == 200 {
        assert!(ended.elapsed() < Duration::from_secs(1), "still believed");
    }
    assert_eq!(ask(&browser, &one).await, 401);

    // Ended elsewhere while the word of it is held back: believed for two seconds, and after that never again.
    let browser = signed_in().await;
    proxy.stall();
    sign_out(&browser).await;
    let stalled = Instant::now();
    while ask(&browser, &one).await == 200 {
        assert!(stalled.elapsed() < Duration::from_secs(4), "still believed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ask(&browser, &one).await, 503);
    proxy.go_on();
    let begun = Instant::now();
    loop {
        match ask(&browser, &one).await {
            401 => break,
            503 => assert!(begun.elapsed() < PATIENCE, "still away"),
            status => panic!("{status}"),
        }
    }

    // Ended elsewhere while the connection is made anew.
    let browser = signed_in().await;
    let list = redis.cli(&["CLIENT", "LIST"]).await;
    for line in list.lines().filter(|line| line.contains(" flags=tB")) {
        let id = line.split_whitespace().find_map(|word| word.strip_prefix("id=")).expect("its number");
        redis.cli(&["CLIENT", "KILL", "ID", id]).await;
    }
    sign_out(&browser).await;
    let ended = Instant::now();
    while ask(&browser, &one).await == 200 {
        assert!(ended.elapsed() < Duration::from_secs(1), "still believed");
    }
    let statuses: BTreeSet<u16> = [ask(&browser, &one).await, ask(&browser, &other).await].into();
    assert_eq!(statuses, BTreeSet::from([401]));
}
