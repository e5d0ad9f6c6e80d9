//! Fills a Redis with sessions for `benches/scale/run`: `scale-sessions REDIS_URL KEY_FILE COOKIE FIRST COUNT EACH`.
//!
//! COOKIE opens a session that a real login made. COUNT more are written as the gateway itself writes them, by [`Sessions::create`]: each a copy of
//! that one with its own person (EACH sessions a person, numbered from FIRST), its own `sid` and its own tokens, all as long as in the model. Their
//! cookies go to stdout, a line each, in the order of the numbers.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool of a measurement: it fails loudly"
)]

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorward::clock::{SharedClock, SystemClock};
use doorward::secret::{self, SealRing, Secret};
use doorward::session::{Lifetimes, Session, SessionCookie, TokenEnd};
use doorward::store::redis::{Redis, RedisSettings, RedisUrl, Servers};
use doorward::store::{Created, Listing, Sessions};
use doorward::tasks::Tasks;

/// So many are written at once: enough to keep Redis busy, whose round trip is what takes the time.
const AT_ONCE: usize = 128;
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, key_file, cookie, first, count, each] = arguments.as_slice() else {
        eprintln!("expected REDIS_URL KEY_FILE COOKIE FIRST COUNT EACH; benches/scale/run calls this");
        std::process::exit(2);
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (first, count, each) = (number(first), number(count), number(each).max(1));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let sessions = Arc::new(open(url, key_file, runtime.handle()));
    let cookies = runtime.block_on(async {
        let model = SessionCookie::parse(cookie).expect("a session cookie's value");
        let model = sessions.reload(&model).await.expect("Redis answers").expect("the cookie opens a session").session;
        fill(&sessions, Arc::new(model), first, count, each).await
    });
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for cookie in cookies {
        writeln!(out, "{cookie}").expect("stdout takes it");
    }
    out.flush().expect("stdout takes it");
}

fn open(url: &str, key_file: &str, control: &tokio::runtime::Handle) -> Sessions<()> {
    let keys = std::fs::read_to_string(key_file).expect("the key file");
    let keys: Vec<[u8; 32]> = keys.lines().map(|line| STANDARD.decode(line).expect("base64").try_into().expect("32 bytes")).collect();
    let clock: SharedClock = Arc::new(SystemClock);
    let settings = RedisSettings::of(Servers::One(RedisUrl::parse(url).expect("a URL of a Redis")));
    let store = Redis::new(settings, control.clone(), Arc::clone(&clock)).expect("settings that agree");
    let lifetimes = Lifetimes { idle: DAY / 2, absolute: 7 * DAY, token: 30 * DAY, token_end: TokenEnd::Outlived };
    Sessions::new(Arc::new(store), None, Arc::new(SealRing::new(&keys).expect("a key")), clock, lifetimes, Tasks::new(control.clone()))
}

async fn fill(sessions: &Arc<Sessions<()>>, model: Arc<Session>, first: usize, count: usize, each: usize) -> Vec<String> {
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (sessions, model, next) = (Arc::clone(sessions), Arc::clone(&model), Arc::clone(&next));
            tokio::spawn(async move {
                let mut made = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return made;
                    }
                    let session = like(&model, first + number / each);
                    let listing = Listing::new(&session, IpAddr::V4(Ipv4Addr::LOCALHOST), BROWSER);
                    match sessions.create(session, &listing).await.expect("Redis takes it") {
                        Created::Session(cookie) => made.push((number, cookie.write())),
                        Created::SidEnded => panic!("nobody ends a sid here"),
                    }
                }
            })
        })
        .collect();
    let mut made = Vec::with_capacity(count);
    for worker in workers {
        made.extend(worker.await.expect("no worker panics"));
    }
    made.sort_unstable();
    made.into_iter().map(|(_, cookie)| cookie).collect()
}

/// Somebody else's session of the same size.
fn like(model: &Session, person: usize) -> Session {
    let mut session = model.clone();
    let (old, new) = (model.identity.sub.clone(), format!("person-{person:07}"));
    assert_eq!(old.len(), new.len(), "the model's sub is as long as those of the others");
    let identity = Arc::make_mut(&mut session.identity);
    let whole = serde_json::to_string(&identity).expect("an identity is JSON").replace(&old, &new);
    *identity = serde_json::from_str(&whole).expect("it was an identity");
    session.sid = session.sid.map(|sid| random(sid.len()).into());
    let signature = session.id_token.rfind('.').map_or(0, |at| at + 1);
    let signed = random(session.id_token.len() - signature);
    session.id_token.replace_range(signature.., &signed);
    if let Some(tokens) = &mut session.tokens {
        tokens.access_token = Secret::new(random(tokens.access_token.expose().len()));
        tokens.refresh_token = tokens.refresh_token.take().map(|token| Secret::new(random(token.expose().len())));
    }
    session
}

fn random(length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        text.push_str(&secret::encode(&secret::random::<33>()));
    }
    text.truncate(length);
    text
}
