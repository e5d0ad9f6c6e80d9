use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio::runtime::Handle;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::login::{Flow, FlowCookie, FlowHandle, PendingLogin, State};
use crate::secret::Secret;
use crate::session::{TokenEnd, Tokens};
use crate::store::memory::Memory;
use crate::store::{Admission, Change, Cursor, LoginBounds, LoginRecord, OnChange, Part, Replaced, StoreFuture};

/// A memory store that counts what it is asked and can be out of order.
struct Watched {
    store: Memory,
    reads: AtomicU64,
    touches: AtomicU64,
    down: AtomicU64,
    told: Mutex<Option<OnChange>>,
}

impl Watched {
    fn tell(&self, change: Change) {
        (self.told.lock().unwrap().as_ref().expect("somebody listens"))(change);
    }

    fn answer<'a, T: Send + 'a>(&'a self, count: &AtomicU64, answer: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        count.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) == 0 { answer } else { Box::pin(async { Err(Outage::store("down")) }) }
    }
}

impl SessionStore for Watched {
    fn put_session(&self, id: RecordId, session: SealedSession) -> StoreFuture<'_, ()> {
        self.store.put_session(id, session)
    }
    fn session(&self, id: RecordId) -> StoreFuture<'_, Option<StoredSession>> {
        self.answer(&self.reads, self.store.session(id))
    }
    fn touch_session(&self, id: RecordId, last_used: UnixTime) -> StoreFuture<'_, ()> {
        self.answer(&self.touches, self.store.touch_session(id, last_used))
    }
    fn delete_session(&self, id: RecordId) -> StoreFuture<'_, bool> {
        if self.down.load(Ordering::SeqCst) > 0 {
            return Box::pin(async { Err(Outage::store("down")) });
        }
        self.store.delete_session(id)
    }
    fn sessions_under(&self, index: RecordId) -> StoreFuture<'_, Vec<RecordId>> {
        self.store.sessions_under(index)
    }
    fn listing(&self, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.store.listing(id)
    }
    fn put_login(&self, kind: LoginRecord, id: RecordId, sealed: Vec<u8>, expires_at: UnixTime) -> StoreFuture<'_, ()> {
        self.store.put_login(kind, id, sealed, expires_at)
    }
    fn login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.store.login(kind, id)
    }
    fn take_login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.store.take_login(kind, id)
    }
    fn admit_login(&self, flow: RecordId, address: RecordId, expires_at: UnixTime, bounds: LoginBounds) -> StoreFuture<'_, Admission> {
        self.store.admit_login(flow, address, expires_at, bounds)
    }
    fn release_login(&self, flow: RecordId, address: RecordId) -> StoreFuture<'_, ()> {
        self.store.release_login(flow, address)
    }
    fn replace_session(&self, id: RecordId, before: Vec<u8>, sealed: Vec<u8>) -> StoreFuture<'_, Replaced> {
        self.store.replace_session(id, before, sealed)
    }
    fn all_sessions(&self, from: Option<Cursor>) -> StoreFuture<'_, Part> {
        self.store.all_sessions(from)
    }
    fn lease(&self, name: RecordId, owner: RecordId, length: Duration) -> StoreFuture<'_, bool> {
        self.store.lease(name, owner, length)
    }
    fn release_lease(&self, name: RecordId, owner: RecordId) -> StoreFuture<'_, ()> {
        self.store.release_lease(name, owner)
    }
    fn remember(&self, mark: RecordId, until: UnixTime) -> StoreFuture<'_, bool> {
        self.store.remember(mark, until)
    }
    fn remembered(&self, mark: RecordId) -> StoreFuture<'_, bool> {
        self.store.remembered(mark)
    }
    fn count(&self, name: RecordId, window: Duration) -> StoreFuture<'_, u64> {
        self.store.count(name, window)
    }
    fn counted(&self, name: RecordId) -> StoreFuture<'_, u64> {
        self.store.counted(name)
    }
    fn forget_count(&self, name: RecordId) -> StoreFuture<'_, ()> {
        self.store.forget_count(name)
    }
    fn common(&self, name: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.store.common(name)
    }
    fn replace_common(&self, name: RecordId, before: Option<Vec<u8>>, sealed: Vec<u8>, until: UnixTime) -> StoreFuture<'_, bool> {
        self.store.replace_common(name, before, sealed, until)
    }
    fn watch(&self, told: OnChange) {
        *self.told.lock().unwrap() = Some(told);
    }
    fn ping(&self) -> StoreFuture<'_, ()> {
        panic!("nobody pings through Sessions")
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Cached {
    Yes,
    No,
}

struct House {
    clock: Arc<ManualClock>,
    store: Arc<Watched>,
    ring: Arc<SealRing>,
    tasks: Tasks,
    sessions: Arc<Sessions<()>>,
}

const IDLE: u64 = 1800;
const ABSOLUTE: u64 = 36_000;

impl House {
    fn new(cached: Cached) -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = Memory::new(Arc::clone(&clock) as SharedClock);
        let zero = || AtomicU64::new(0);
        let store = Arc::new(Watched { store, reads: zero(), touches: zero(), down: zero(), told: Mutex::default() });
        let (ring, tasks) = (Arc::new(SealRing::new(&[[1; 32]]).unwrap()), Tasks::new(Handle::current()));
        let sessions = Self::another(&clock, &store, &ring, &tasks, cached);
        Self { clock, store, ring, tasks, sessions }
    }

    fn another(clock: &Arc<ManualClock>, store: &Arc<Watched>, ring: &Arc<SealRing>, tasks: &Tasks, cached: Cached) -> Arc<Sessions<()>> {
        let cache = (cached == Cached::Yes).then(|| SessionCache::new(100));
        let lifetimes = Lifetimes {
            idle: Duration::from_secs(IDLE),
            absolute: Duration::from_secs(ABSOLUTE),
            token: Duration::from_secs(ABSOLUTE),
            token_end: TokenEnd::Outlived,
        };
        let (clock, store): (SharedClock, Arc<dyn SessionStore>) = (Arc::clone(clock) as SharedClock, Arc::clone(store) as _);
        Arc::new(Sessions::new(store, cache, Arc::clone(ring), clock, lifetimes, tasks.clone()))
    }

    /// Another gateway on the same store.
    fn neighbour(&self, cached: Cached) -> Arc<Sessions<()>> {
        Self::another(&self.clock, &self.store, &self.ring, &self.tasks, cached)
    }

    fn session(&self) -> Session {
        let identity = json!({"issuer": "https://idp.test", "sub": "1", "source": {"provider": "p"}, "user": "alice", "email": "absent",
            "preferred_username": null, "groups": {"listed": []}, "scopes": [], "claims": {}, "auth_time": null});
        let created_at = self.clock.now();
        Session {
            identity: serde_json::from_value(identity).unwrap(),
            client_id: "app".into(),
            sid: Some("s".into()),
            id_token: "token".into(),
            created_at,
            ends_at: created_at.plus(Duration::from_secs(ABSOLUTE)),
            tokens: None,
            checked_at: None,
            shown_as: crate::session::ShownAs::Cookie,
        }
    }

    async fn create(&self) -> SessionCookie {
        let session = self.session();
        let listing = Listing::new(&session, "192.0.2.1".parse().unwrap(), "Mozilla");
        match self.sessions.create(session, &listing).await.unwrap() {
            Created::Session(cookie) => cookie,
            Created::SidEnded => panic!("no sid was ended"),
        }
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn reads(&self) -> u64 {
        self.store.reads.load(Ordering::SeqCst)
    }

    fn touches(&self) -> u64 {
        self.store.touches.load(Ordering::SeqCst)
    }

    /// The word for what a cookie is now.
    async fn see(&self, cookie: &SessionCookie) -> String {
        see(&self.sessions, cookie).await
    }
}

async fn see(sessions: &Sessions<()>, cookie: &SessionCookie) -> String {
    match sessions.load(cookie).await {
        Ok(Loaded::Alive(session)) => session.session.identity.user.to_string(),
        Ok(Loaded::Absent) => "absent".into(),
        Ok(Loaded::Over { reason, .. }) => reason.to_string(),
        Err(outage) => outage.reason().to_string(),
    }
}

/// The right id with another key.
fn guess(cookie: &SessionCookie) -> SessionCookie {
    SessionCookie::parse(&format!("{}{}", &cookie.write()[..24], &SessionCookie::new().write()[24..])).unwrap()
}

#[tokio::test]
async fn a_known_session_asks_nobody_and_a_guess_opens_nothing() {
    let house = House::new(Cached::Yes);
    let cookie = house.create().await;
    assert!(matches!(house.sessions.peek(&cookie), Some(Loaded::Alive(_))));
    assert_eq!(house.see(&cookie).await, "alice");
    assert!(matches!(house.sessions.peek(&guess(&cookie)), Some(Loaded::Absent)));
    assert_eq!(house.see(&guess(&cookie)).await, "absent");
    assert!(house.sessions.peek(&SessionCookie::new()).is_none());
    assert_eq!((house.reads(), house.sessions.cached()), (0, 1));
    let neighbour = house.neighbour(Cached::No);
    assert_eq!(see(&neighbour, &guess(&cookie)).await, "absent");
    assert_eq!(see(&neighbour, &cookie).await, "alice");
    assert_eq!(see(&neighbour, &SessionCookie::new()).await, "absent");
    assert_eq!((house.reads(), neighbour.cached()), (3, 0));
}

#[tokio::test]
async fn without_a_cache_every_load_asks_the_store() {
    let house = House::new(Cached::No);
    let cookie = house.create().await;
    for _ in 0..3 {
        assert!(house.sessions.peek(&cookie).is_none());
        assert_eq!(house.see(&cookie).await, "alice");
    }
    assert_eq!(house.reads(), 3);
}

#[tokio::test]
async fn an_ended_session_is_gone_and_a_guess_ends_nothing() {
    for cached in [Cached::Yes, Cached::No] {
        let house = House::new(cached);
        let cookie = house.create().await;
        assert!(house.sessions.end(&guess(&cookie)).await.unwrap().is_none());
        assert_eq!(house.see(&cookie).await, "alice");
        let ended = house.sessions.end(&cookie).await.unwrap();
        assert_eq!(ended.map(|session| session.id_token.clone()).as_deref(), Some("token"));
        assert_eq!(house.see(&cookie).await, "absent");
        assert_eq!(house.sessions.cached(), 0);
        assert!(house.sessions.end(&cookie).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn an_end_that_the_store_did_not_hear_of_is_an_outage_and_no_end() {
    let house = House::new(Cached::Yes);
    let cookie = house.create().await;
    house.store.down.store(1, Ordering::SeqCst);
    assert!(house.sessions.end(&cookie).await.is_err());
    assert_eq!(house.see(&cookie).await, "store-unreachable");
    house.store.down.store(0, Ordering::SeqCst);
    assert_eq!(house.see(&cookie).await, "alice");
}

#[tokio::test]
async fn an_outage_is_no_absence_and_a_cached_session_outlives_it() {
    let house = House::new(Cached::Yes);
    let cookie = house.create().await;
    house.store.down.store(1, Ordering::SeqCst);
    assert_eq!(house.see(&cookie).await, "alice");
    assert_eq!(see(&house.neighbour(Cached::No), &cookie).await, "store-unreachable");
}

#[tokio::test]
async fn the_store_hears_of_uses_once_a_minute() {
    for cached in [Cached::Yes, Cached::No] {
        let house = House::new(cached);
        let cookie = house.create().await;
        for (seconds, touches) in [(0, 0), (59, 0), (1, 1), (1, 1), (58, 1), (1, 2)] {
            house.pass(seconds);
            for _ in 0..5 {
                assert_eq!(house.see(&cookie).await, "alice");
                house.tasks.drained().await;
            }
            assert_eq!(house.touches(), touches);
        }
    }
}

#[tokio::test]
async fn a_session_in_use_lives_on_and_an_idle_one_ends() {
    for cached in [Cached::Yes, Cached::No] {
        let house = House::new(cached);
        let (used, idle) = (house.create().await, house.create().await);
        for _ in 0..3 {
            // The machine's own time goes on as well: a slow one must not decide.
            house.pass(IDLE - 60);
            assert_eq!(house.see(&used).await, "alice");
            house.tasks.drained().await;
        }
        // Most of an hour ago, and still known; what is left of it says so, and then it never was.
        assert_eq!(house.see(&idle).await, "session-idle");
        house.tasks.drained().await;
        assert_eq!(house.see(&idle).await, "session-idle");
        house.pass(IDLE);
        assert_eq!(house.see(&used).await, "session-idle");
        assert_eq!(house.see(&idle).await, "absent");
    }
}

#[tokio::test]
async fn a_session_reaches_its_end_however_much_it_is_used() {
    for cached in [Cached::Yes, Cached::No] {
        let house = House::new(cached);
        let cookie = house.create().await;
        for _ in 0..20 {
            house.pass(ABSOLUTE / 20 - 60);
            assert_eq!(house.see(&cookie).await, "alice");
            house.tasks.drained().await;
        }
        house.pass(20 * 60);
        assert_eq!(house.see(&cookie).await, "session-expired");
        house.tasks.drained().await;
        assert_eq!(house.see(&cookie).await, "session-expired");
        assert_eq!(house.sessions.cached(), 0);
        house.pass(3600);
        assert_eq!(house.see(&cookie).await, "absent");
    }
}

#[tokio::test]
async fn a_use_elsewhere_is_believed_before_a_cached_session_ends_for_idleness() {
    let house = House::new(Cached::Yes);
    let cookie = house.create().await;
    let neighbour = house.neighbour(Cached::No);
    house.pass(IDLE - 60);
    assert_eq!(see(&neighbour, &cookie).await, "alice");
    house.tasks.drained().await;
    house.pass(80);
    assert!(house.sessions.peek(&cookie).is_none());
    assert_eq!(house.see(&cookie).await, "alice");
    assert!(house.sessions.peek(&cookie).is_some());
}

#[tokio::test]
async fn a_flow_and_its_attempt_open_for_their_browser_only() {
    let house = House::new(Cached::Yes);
    let (cookie, stranger) = (FlowCookie::new(), FlowCookie::new());
    let forged = FlowCookie::parse(&cookie.handle.write(), &stranger.value()).unwrap();
    let started_at = house.clock.now();
    let flow: Flow = serde_json::from_value(json!({"return_to": "https://app.test/", "started_at": started_at, "failures": 0})).unwrap();
    let attempt = PendingLogin {
        provider: "p".into(),
        nonce: "n".into(),
        code_verifier: "v".into(),
        redirect_uri: "https://app.test/callback".into(),
        started_at,
        asks: Default::default(),
        scopes: Vec::new(),
        proven: None,
        dpop_key: None,
        registration: None,
    };
    let state = State::new(cookie.handle);
    let sessions = &house.sessions;
    sessions.put_flow(&cookie, &flow).await.unwrap();
    sessions.put_attempt(&cookie, &state, &attempt).await.unwrap();
    for foreign in [&stranger, &forged] {
        assert_eq!(sessions.flow(foreign).await.unwrap(), None);
        assert_eq!(sessions.attempt(foreign, &state).await.unwrap(), None);
        assert_eq!(sessions.take_attempt(foreign, &state).await.unwrap(), None);
    }
    assert_eq!(sessions.flow(&cookie).await.unwrap().as_ref(), Some(&flow));
    assert_eq!(sessions.attempt(&cookie, &state).await.unwrap().as_ref(), Some(&attempt));
    assert_eq!(sessions.take_attempt(&cookie, &State::new(cookie.handle)).await.unwrap(), None);
    assert_eq!(sessions.take_attempt(&cookie, &state).await.unwrap().as_ref(), Some(&attempt));
    assert_eq!(sessions.attempt(&cookie, &state).await.unwrap(), None);
    assert_eq!(sessions.take_attempt(&cookie, &state).await.unwrap(), None);

    sessions.put_attempt(&cookie, &state, &attempt).await.unwrap();
    house.pass(600);
    assert_eq!(sessions.take_attempt(&cookie, &state).await.unwrap(), None);
    assert_eq!(sessions.flow(&cookie).await.unwrap().as_ref(), Some(&flow));
    house.pass(3000);
    assert_eq!(sessions.flow(&cookie).await.unwrap(), None);
}

#[tokio::test]
async fn a_kept_form_is_taken_once_by_its_own_cookie_and_the_flow_stays() {
    let house = House::new(Cached::Yes);
    let sessions = &house.sessions;
    let cookie = FlowCookie::new();
    let forged = FlowCookie::parse(&cookie.handle.write(), &FlowCookie::new().value()).unwrap();
    let kept = json!({"url": "https://app.test/form", "content_type": "text/plain", "body": "YQ", "subject": vec![7; 32]});
    let flow = json!({"return_to": "https://app.test/", "started_at": house.clock.now(), "failures": 1, "kept": kept});
    let flow: Flow = serde_json::from_value(flow).unwrap();
    assert_eq!(sessions.take_kept(&cookie).await.unwrap(), None);
    sessions.put_flow(&cookie, &flow).await.unwrap();
    assert_eq!(sessions.take_kept(&forged).await.unwrap(), None);
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (sessions, cookie) = (Arc::clone(sessions), cookie.clone());
        takers.spawn(async move { sessions.take_kept(&cookie).await.unwrap() });
    }
    let taken: Vec<_> = takers.join_all().await.into_iter().flatten().collect();
    assert_eq!(taken.iter().collect::<Vec<_>>(), [flow.kept.as_ref().unwrap()]);
    assert_eq!(sessions.flow(&cookie).await.unwrap(), Some(Flow { kept: None, ..flow }));
}

#[tokio::test]
async fn a_flow_that_is_given_up_leaves_nothing_and_a_stranger_gives_up_none() {
    let house = House::new(Cached::Yes);
    let (sessions, started_at) = (&house.sessions, house.clock.now());
    let address = "192.0.2.1".parse().unwrap();
    let bounds = LoginBounds { per_address: 1, total: 1 };
    let cookie = FlowCookie::new();
    let forged = FlowCookie::parse(&cookie.handle.write(), &FlowCookie::new().value()).unwrap();
    let flow: Flow = serde_json::from_value(json!({"return_to": "https://app.test/", "started_at": started_at, "failures": 0})).unwrap();
    let attempt: PendingLogin = serde_json::from_value(
        json!({"provider": "p", "nonce": "n", "code_verifier": "v", "redirect_uri": "https://app.test/callback", "started_at": started_at}),
    )
    .unwrap();
    let (first, second) = (State::new(cookie.handle), State::new(cookie.handle));
    assert_eq!(sessions.admit(cookie.handle, address, bounds).await, Ok(Admission::Admitted));
    sessions.put_flow(&cookie, &flow).await.unwrap();
    sessions.put_attempt(&cookie, &first, &attempt).await.unwrap();
    sessions.put_attempt(&cookie, &second, &attempt).await.unwrap();
    assert_eq!(sessions.take_attempt(&cookie, &first).await.unwrap(), None);

    sessions.abandon(&forged, address).await.unwrap();
    assert_eq!(sessions.attempt(&cookie, &second).await.unwrap().as_ref(), Some(&attempt));
    sessions.abandon(&cookie, address).await.unwrap();
    assert_eq!(sessions.attempt(&cookie, &second).await.unwrap(), None);
    assert_eq!(sessions.flow(&cookie).await.unwrap(), None);
    assert_eq!(sessions.admit(FlowCookie::new().handle, address, bounds).await, Ok(Admission::Admitted));
}

#[tokio::test]
async fn flows_are_counted_by_network() {
    let house = House::new(Cached::No);
    let bounds = LoginBounds { per_address: 1, total: 10 };
    let admit = |flow: FlowHandle, address: &str| house.sessions.admit(flow, address.parse().unwrap(), bounds);
    let first = FlowCookie::new().handle;
    assert_eq!(admit(first, "2001:db8::1").await, Ok(Admission::Admitted));
    assert_eq!(admit(FlowCookie::new().handle, "2001:db8::2").await, Ok(Admission::TooManyOfAddress));
    assert_eq!(admit(FlowCookie::new().handle, "2001:db8:0:1::2").await, Ok(Admission::Admitted));
    house.sessions.release(first, "2001:db8::1".parse().unwrap()).await.unwrap();
    assert_eq!(admit(FlowCookie::new().handle, "2001:db8::2").await, Ok(Admission::Admitted));
    house.pass(3600);
    assert_eq!(admit(FlowCookie::new().handle, "2001:db8::3").await, Ok(Admission::Admitted));
}

#[tokio::test]
async fn what_time_ended_is_in_no_list_and_holds_nothing_but_whose_it_was() {
    let house = House::new(Cached::Yes);
    let cookie = house.create().await;
    assert_eq!(house.sessions.listed(None).await.unwrap().len(), 1);
    house.pass(IDLE);
    let Loaded::Over { subject: Some(subject), .. } = house.sessions.load(&cookie).await.unwrap() else { panic!("it is over") };
    house.tasks.drained().await;
    assert!(house.sessions.is_subject(&subject, "https://idp.test", "1") && !house.sessions.is_subject(&subject, "https://idp.test", "2"));
    assert_eq!(house.sessions.listed(None).await.unwrap(), []);
    let under = Under::Sub { issuer: "https://idp.test", sub: "1" };
    assert_eq!(house.sessions.listed(Some(under)).await.unwrap(), []);
    assert_eq!(house.sessions.end_under(under).await.unwrap(), []);
    let left = house.store.store.session(cookie.record_id()).await.unwrap().unwrap();
    assert_eq!(record::open_session(&left.sealed, &cookie), None);
    assert_eq!(house.store.store.listing(cookie.record_id()).await.unwrap(), Some(Vec::new()));
}

#[tokio::test]
async fn sessions_are_found_and_ended_by_who_they_are_of_after_a_rotation_of_keys_too() {
    let house = House::new(Cached::Yes);
    let (one, two) = (house.create().await, house.create().await);
    let rotated = Arc::new(SealRing::new(&[[2; 32], [1; 32]]).unwrap());
    let later = House::another(&house.clock, &house.store, &rotated, &house.tasks, Cached::Yes);
    let under = Under::Sid { issuer: "https://idp.test", sid: "s" };
    assert_eq!(later.listed(Some(Under::Sub { issuer: "https://idp.test", sub: "1" })).await.unwrap().len(), 2);
    assert_eq!(later.listed(Some(Under::Sub { issuer: "https://idp.test", sub: "2" })).await.unwrap(), []);
    let listed = later.listed(None).await.unwrap();
    assert!(listed.iter().all(|one| one.listing.name == "alice"));
    assert_eq!(later.end_record(one.record_id()).await.unwrap().unwrap().sub, "1");
    assert_eq!(later.end_record(one.record_id()).await.unwrap(), None);
    assert_eq!(later.end_under(under).await.unwrap().len(), 1);
    for cookie in [one, two] {
        assert_eq!(see(&later, &cookie).await, "absent");
    }
    // A key that is gone finds nothing.
    house.create().await;
    let forgot = House::another(&house.clock, &house.store, &Arc::new(SealRing::new(&[[2; 32]]).unwrap()), &house.tasks, Cached::No);
    assert_eq!(forgot.end_under(under).await.unwrap(), []);
}

#[tokio::test]
async fn a_login_that_arrives_with_an_ended_sid_gets_no_session() {
    let house = House::new(Cached::Yes);
    let session = |sid: &str| Session { sid: Some(sid.into()), ..house.session() };
    let listing = |session: &Session| Listing::new(session, "192.0.2.1".parse().unwrap(), "Mozilla");
    let create = async |sid: &str| {
        let session = session(sid);
        let listing = listing(&session);
        house.sessions.create(session, &listing).await.unwrap()
    };
    house.sessions.mark_ended_sid("https://idp.test", "s").await.unwrap();
    assert!(matches!(create("s").await, Created::SidEnded));
    assert!(matches!(create("another").await, Created::Session(_)));
    assert_eq!(house.sessions.listed(None).await.unwrap().len(), 1);
    house.pass(10 * 60);
    assert!(matches!(create("s").await, Created::Session(_)));
}

#[tokio::test]
async fn a_renewal_wins_over_nothing_that_came_between() {
    let house = House::new(Cached::Yes);
    let cookie = house.create().await;
    let before = house.sessions.reload(&cookie).await.unwrap().unwrap();
    let renewed = |user: &str| {
        let mut session = before.session.clone();
        session.id_token = user.to_owned();
        session
    };
    assert_eq!(house.sessions.renew(&cookie, &before, &renewed("new")).await.unwrap(), Replaced::Replaced);
    let now = house.sessions.reload(&cookie).await.unwrap().unwrap();
    assert_eq!(now.session.id_token, "new");
    let Some(Loaded::Alive(cached)) = house.sessions.peek(&cookie) else { panic!("it is cached") };
    assert_eq!(cached.session.id_token, "new");
    assert_eq!(house.sessions.renew(&cookie, &before, &renewed("late")).await.unwrap(), Replaced::Changed);
    house.sessions.end(&cookie).await.unwrap();
    assert_eq!(house.sessions.renew(&cookie, &now, &renewed("dead")).await.unwrap(), Replaced::Gone);
    assert_eq!(house.see(&cookie).await, "absent");
    assert!(house.sessions.reload(&cookie).await.unwrap().is_none());
}

#[tokio::test]
async fn streams_end_with_their_session_wherever_it_was_ended() {
    let house = House::new(Cached::Yes);
    house.sessions.watch();
    let neighbour = house.neighbour(Cached::No);
    let open = async |cookie: &SessionCookie| {
        let Loaded::Alive(session) = house.sessions.load(cookie).await.unwrap() else { panic!("it is alive") };
        house.sessions.stream(cookie, &session)
    };
    // Ended here.
    let cookie = house.create().await;
    let mut stream = open(&cookie).await;
    house.sessions.end(&cookie).await.unwrap();
    stream.ended().await;
    // Ended elsewhere, and told; another's streams go on.
    let (cookie, other) = (house.create().await, house.create().await);
    let (mut stream, kept) = (open(&cookie).await, open(&other).await);
    neighbour.end(&cookie).await.unwrap();
    assert_eq!(house.see(&cookie).await, "alice", "nobody told yet");
    house.store.tell(Change::Session(cookie.record_id()));
    house.store.tell(Change::Session(other.record_id()));
    stream.ended().await;
    assert_eq!(house.see(&cookie).await, "absent");
    assert_eq!(house.sessions.open_streams(), 1);
    // Ended while nobody could tell.
    let cookie = house.create().await;
    let mut stream = open(&cookie).await;
    house.store.tell(Change::Lost);
    neighbour.end(&cookie).await.unwrap();
    assert_eq!(house.see(&cookie).await, "absent", "nothing is believed");
    house.store.tell(Change::Watched);
    stream.ended().await;
    // Ended before it was opened.
    let cookie = house.create().await;
    let Loaded::Alive(session) = house.sessions.load(&cookie).await.unwrap() else { panic!("it is alive") };
    house.sessions.end(&cookie).await.unwrap();
    house.sessions.stream(&cookie, &session).ended().await;
    drop(kept);
    assert_eq!(house.sessions.open_streams(), 0);
}

#[tokio::test]
async fn streams_end_when_a_use_shows_that_another_process_found_their_session_over() {
    let house = House::new(Cached::No);
    let cookie = house.create().await;
    let Loaded::Alive(session) = house.sessions.load(&cookie).await.unwrap() else { panic!("it is alive") };
    let mut stream = house.sessions.stream(&cookie, &session);
    // A neighbour that has not heard of any use, and nobody who tells of what it does.
    house.pass(IDLE);
    assert_eq!(see(&house.neighbour(Cached::No), &cookie).await, "session-idle");
    house.tasks.drained().await;
    assert_eq!(house.sessions.open_streams(), 1);
    // A key that does not open what is left ends nothing of it.
    assert_eq!(house.see(&guess(&cookie)).await, "absent");
    assert_eq!(house.sessions.open_streams(), 1);
    assert_eq!(house.see(&cookie).await, "session-idle");
    stream.ended().await;
    assert_eq!(house.sessions.open_streams(), 0);
}

#[tokio::test]
async fn all_sessions_end_though_the_key_of_their_listing_is_gone() {
    let house = House::new(Cached::Yes);
    let (one, two, over) = (house.create().await, house.create().await, house.create().await);
    house.pass(IDLE - 1);
    assert_eq!((house.see(&one).await, house.see(&two).await), ("alice".into(), "alice".into()));
    house.tasks.drained().await;
    house.pass(1);
    assert_eq!(house.see(&over).await, "session-idle");
    house.tasks.drained().await;
    let new_key = Arc::new(SealRing::new(&[[2; 32]]).unwrap());
    let later = House::another(&house.clock, &house.store, &new_key, &house.tasks, Cached::Yes);
    assert_eq!(later.listed(None).await.unwrap(), []);
    assert_eq!(see(&later, &one).await, "alice", "its cookie opens it whatever the gateway's keys are");
    let told = Arc::new(AtomicU64::new(0));
    let heard = Arc::clone(&told);
    let ended = later.end_all(move |listing| {
        assert_eq!(listing, None);
        heard.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!((ended.await.unwrap(), told.load(Ordering::SeqCst)), (2, 2));
    for cookie in [one, two] {
        assert_eq!(see(&later, &cookie).await, "absent");
    }
    assert_eq!(see(&later, &over).await, "session-idle", "what time ended stays told");
}

#[tokio::test]
async fn a_list_that_is_longer_than_what_is_asked_at_once_is_whole_and_in_order() {
    let house = House::new(Cached::Yes);
    for _ in 0..130 {
        house.create().await;
        house.pass(1);
    }
    let listed = house.sessions.listed(None).await.unwrap();
    assert_eq!(listed.len(), 130);
    assert!(listed.is_sorted_by(|one, next| one.listing.signed_in_at > next.listing.signed_in_at));
    house.store.down.store(1, Ordering::SeqCst);
    assert!(house.sessions.listed(None).await.is_err());
}

/// With tokens of the provider's.
async fn with_tokens(house: &House, sessions: &Sessions<()>) -> SessionCookie {
    let tokens =
        Tokens::new(Secret::new("access"), Some(Secret::new("refresh")), Some(Duration::from_secs(600)), None, house.clock.now(), 0);
    let session = Session { tokens: Some(tokens), ..house.session() };
    let listing = Listing::new(&session, "192.0.2.1".parse().unwrap(), "Mozilla");
    match sessions.create(session, &listing).await.unwrap() {
        Created::Session(cookie) => cookie,
        Created::SidEnded => panic!("no sid was ended"),
    }
}

/// The texts of ID token, access token and refresh token.
async fn texts(sessions: &Sessions<()>, cookie: &SessionCookie) -> [String; 3] {
    let Ok(Loaded::Alive(open)) = sessions.load(cookie).await else { panic!("it is alive") };
    let tokens = open.session.tokens.clone().unwrap();
    [open.session.id_token.clone(), tokens.access_token.expose().into(), tokens.refresh_token.unwrap().expose().into()]
}

#[tokio::test]
async fn where_no_route_tells_tokens_none_stay_in_memory_and_an_ending_knows_them_all_the_same() {
    let house = House::new(Cached::Yes);
    let lifetimes = house.sessions.lifetimes;
    let without = house.sessions.judged_by(lifetimes, TokensKept::No);
    let cookie = with_tokens(&house, &without).await;
    // As it began, and as it is read again.
    assert_eq!(texts(&without, &cookie).await, ["", "", ""]);
    without.forget(&cookie.record_id());
    assert_eq!(texts(&without, &cookie).await, ["", "", ""]);
    let Ok(Loaded::Alive(open)) = without.load(&cookie).await else { panic!("it is alive") };
    let tokens = open.session.tokens.as_ref().unwrap();
    assert!(tokens.can_be_renewed(house.clock.now()) && !tokens.are_over(house.clock.now()));
    house.pass(600);
    assert!(tokens.are_over(house.clock.now()) && tokens.are_due(house.clock.now()));
    let reads = house.reads();
    assert_eq!(texts(&without, &cookie).await, ["", "", ""]);
    assert_eq!(house.reads(), reads, "it is cached");
    // Whoever writes to it, and whoever takes its tokens back, has them.
    assert_eq!(without.reload(&cookie).await.unwrap().unwrap().session.tokens.unwrap().access_token.expose(), "access");
    assert_eq!(texts(&without, &cookie).await, ["", "", ""]);
    let ended = without.end(&cookie).await.unwrap().unwrap();
    assert_eq!((ended.id_token.as_str(), ended.tokens.as_ref().unwrap().access_token.expose()), ("token", "access"));
    assert_eq!(see(&without, &cookie).await, "absent");
}

#[tokio::test]
async fn routes_that_tell_tokens_since_a_reload_find_them() {
    let house = House::new(Cached::Yes);
    let lifetimes = house.sessions.lifetimes;
    let (without, with) = (house.sessions.judged_by(lifetimes, TokensKept::No), house.sessions.judged_by(lifetimes, TokensKept::Yes));
    let cookie = with_tokens(&house, &without).await;
    assert_eq!(texts(&without, &cookie).await, ["", "", ""]);
    assert!(without.peek(&cookie).is_some() && with.peek(&cookie).is_none());
    assert_eq!(texts(&with, &cookie).await, ["token", "access", "refresh"]);
    assert!(with.peek(&cookie).is_some());
}

#[tokio::test]
async fn an_ending_whose_session_somebody_else_ended_forgets_it() {
    let house = House::new(Cached::Yes);
    let without = house.sessions.judged_by(house.sessions.lifetimes, TokensKept::No);
    let cookie = with_tokens(&house, &without).await;
    house.store.store.delete_session(cookie.record_id()).await.unwrap();
    assert!(without.peek(&cookie).is_some(), "nobody told of it");
    assert!(without.end(&cookie).await.unwrap().is_none());
    assert!(without.peek(&cookie).is_none());
}
