//! What the gateway keeps of a session in its cache, held.

#[allow(dead_code, reason = "the benches need more of them")]
#[path = "../../benches/micro/people.rs"]
mod people;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use doorward::clock::SharedClock;
use doorward::credential::{Authenticated, Authentication, CredentialKind};
use doorward::decision::{Decision, Extra, decide};
use doorward::header::{IdentityHeader, Naming, PreparedHeaders, Telling, TokensToTell};
use doorward::identity::{Identity, Source};
use doorward::policy::{Policy, Rule};
use doorward::route::{Accept, Access, Route};
use doorward::secret::{self, SealRing, Secret};
use doorward::session::{Lifetimes, Session, SessionCookie, ShownAs, TokenEnd, Tokens, TokensKept};
use doorward::store::memory::Memory;
use doorward::store::{Created, Listing, Loaded, SessionCache, Sessions};
use doorward::tasks::Tasks;
use http::HeaderMap;
use people::{NOW, Still, facts, mapping};
use serde_json::json;

const SESSIONS: usize = 1_000;
/// What one may take, in bytes.
const HELD: usize = 1_850;
/// By how much it may be less before that number is to be lowered.
const SLACK: usize = 100;
/// What a block takes beyond what was asked for: its size stands before it, and it is rounded up to 16 bytes (glibc's `malloc`).
const PER_BLOCK: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_session_takes_no_more_than_it_did() {
    let _alone = super::ALONE.lock().await;
    let clock: SharedClock = Arc::new(Still);
    let handle = tokio::runtime::Handle::current();
    let day = Duration::from_secs(24 * 60 * 60);
    let lifetimes = Lifetimes { idle: day, absolute: day, token: day, token_end: TokenEnd::Outlived };
    let ring = Arc::new(SealRing::new(&[[7; 32]]).unwrap());
    let store = Arc::new(Memory::new(Arc::clone(&clock)));
    let over = |cache| Sessions::new(store.clone(), cache, Arc::clone(&ring), Arc::clone(&clock), lifetimes, Tasks::new(handle.clone()));
    // Written by another process, so that the cache takes them from the store.
    let elsewhere: Sessions<PreparedHeaders> = over(None);
    let mut cookies = Vec::with_capacity(SESSIONS + 1);
    for number in 0..=SESSIONS {
        let session = session(number);
        let listing = Listing::new(&session, IpAddr::V4(Ipv4Addr::LOCALHOST), "Firefox");
        let Created::Session(cookie) = elsewhere.create(session, &listing).await.unwrap() else { panic!("nobody ends it") };
        cookies.push(cookie);
    }
    let profiler = dhat::Profiler::builder();
    let sites = std::env::var("ALLOCATION_SITES").is_ok_and(|wanted| wanted == "cached");
    let profiler = if sites { profiler.trim_backtraces(None).build() } else { profiler.testing().build() };
    let cached = over(Some(SessionCache::new(SESSIONS))).judged_by(lifetimes, TokensKept::No);
    // What is made once is none of the sessions'.
    use_each(&cached, &cookies[SESSIONS..]).await;
    let before = dhat::HeapStats::get();
    use_each(&cached, &cookies[..SESSIONS]).await;
    let after = dhat::HeapStats::get();
    assert!(cached.cached() as usize > SESSIONS * 9 / 10, "{} sessions are cached", cached.cached());
    let (bytes, blocks) = (after.curr_bytes - before.curr_bytes, after.curr_blocks - before.curr_blocks);
    let each = (bytes + blocks * PER_BLOCK) / cached.cached() as usize;
    println!("{} bytes in {} blocks a session, with what malloc takes beside {each}", bytes / SESSIONS, blocks / SESSIONS);
    drop(profiler);
    assert!((HELD - SLACK..=HELD).contains(&each), "a cached session takes {each} bytes; held are {HELD}");
}

/// As a request does: the session is opened, decided about, and its headers are made ready and sent.
async fn use_each(sessions: &Sessions<PreparedHeaders>, cookies: &[SessionCookie]) {
    let names = IdentityHeader::ALL.map(|(_, name)| name);
    let policy = Policy { id: "staff".into(), rule: Rule::Groups(["staff".to_owned()].into()) };
    let route = Arc::new(Route::new("app", 0, Access::Protected(Accept::of(vec![CredentialKind::Session]), Arc::new(policy))));
    let (facts, extra) = (facts("/dashboard"), Extra::at(NOW, Duration::from_secs(60)));
    let mut headers = HeaderMap::new();
    for cookie in cookies {
        let Loaded::Alive(open) = sessions.load(cookie).await.unwrap() else { panic!("it is there") };
        let who = Authenticated { identity: Arc::clone(&open.session.identity), by: CredentialKind::Session };
        let decision = decide(&route, &facts, Authentication::Authenticated(who), &extra);
        assert!(matches!(decision, Decision::Permit(_)), "{decision:?}");
        let telling = Telling { route: 1, names: &names, rules: &[] };
        let ready = open.prepared.get(&open.session.identity, TokensToTell::default(), telling, Naming::Upstream).unwrap();
        ready.set(&mut headers);
    }
}

/// What comes of a login at oidc-provider with the scopes that are asked for by default.
fn session(number: usize) -> Session {
    let (sub, text) = (format!("person-{number:07}"), |length| {
        let mut text = String::new();
        while text.len() < length {
            text.push_str(&secret::encode(&secret::random::<33>()));
        }
        text.truncate(length);
        text
    });
    let sid = text(43);
    let claims = json!({
        "sub": sub, "email": format!("{sub}@example.com"), "email_verified": true, "name": sub, "preferred_username": sub,
        "groups": ["staff", "readers"], "nonce": text(43), "at_hash": text(22), "sid": sid, "aud": "doorward", "auth_time": NOW.0,
        "exp": NOW.0 + 3600, "iat": NOW.0, "iss": "http://127.0.0.1:34567",
    });
    let claims = claims.as_object().unwrap().clone();
    let mut identity = Identity::from_claims("http://127.0.0.1:34567", Source::Provider("main".into()), &mapping(), claims).unwrap();
    identity.scopes = ["openid", "profile", "email"].into_iter().collect();
    let lives = Some(Duration::from_secs(3600));
    Session {
        identity: Arc::new(identity),
        client_id: "doorward".into(),
        sid: Some(sid.into()),
        id_token: text(760),
        created_at: NOW,
        ends_at: NOW.plus(Duration::from_secs(24 * 60 * 60)),
        tokens: Some(Tokens::new(Secret::new(text(43)), Some(Secret::new(text(43))), lives, None, NOW, 0)),
        checked_at: None,
        shown_as: ShownAs::Cookie,
    }
}
