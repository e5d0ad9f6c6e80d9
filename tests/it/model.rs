//! Sessions against a small model: random interleavings of logins, uses, refreshes, endings, outages and long pauses, on one process or two.
//! Whatever happens in whichever order: a session that was ended is never accepted again; a refresh token is never shown twice, nor by two at
//! once; an outage ends no session. Every case runs on its own store; all run at once, since most of their time is waiting.
//!
//! `DOORWARD_MODEL_SEED` (hex, as a failure prints it) runs the same cases again, `DOORWARD_MODEL_CASES` another number of them.

#![allow(clippy::disallowed_methods, reason = "what a test runs beside itself, it waits for itself")]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorward::authenticate::{Kept, Patience, RenewalSettings, Renewals};
use doorward::clock::{Clock as _, ManualClock, SharedClock, UnixTime};
use doorward::fault::{Fault, Outage, Trouble};
use doorward::header::PreparedHeaders;
use doorward::identity::Identity;
use doorward::login::PendingLogin;
use doorward::provider::{AuthorizationResponse, IdentityProvider, ProviderFuture, Refreshed, SignedIn};
use doorward::reason::Reason;
use doorward::secret::{SealRing, Secret};
use doorward::session::{Lifetimes, Session, SessionCookie, TokenEnd, Tokens};
use doorward::store::memory::Memory;
use doorward::store::{
    Admission, Change, Created, Cursor, Listing, Loaded, LoginBounds, LoginRecord, OnChange, Part, RecordId, Replaced, SealedSession,
    SessionCache, SessionStore, Sessions, StoreFuture, StoredSession, Under,
};
use doorward::tasks::Tasks;
use doorward::telemetry::Metrics;
use doorward::token::LogoutToken;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;
use tokio::runtime::Handle;
use url::Url;

const LIFE: u64 = 600;
const IDLE: Duration = Duration::from_secs(12 * 3600);
const ISSUER: &str = "https://issuer.test";

#[derive(Clone, Copy, Debug)]
enum Mood {
    Good,
    Refuses,
    IsAway,
}

/// One step. Those that ask something run beside what comes after them.
#[derive(Clone, Debug)]
enum Step {
    /// A new session of one of two persons.
    Login(u8),
    /// A request with one of the sessions, at one of the processes, that waits for new tokens or not.
    Use(u8, bool, u8),
    /// Sign-out by the cookie.
    SignOut(u8, bool),
    /// The provider says that a person is gone.
    EndPerson(u8, bool),
    /// Tokens become due, or over.
    Pass(bool),
    /// Longer than a session may lie idle.
    LongPause,
    /// The store is away, or back.
    Outage(bool),
    Provider(Mood),
    /// Some milliseconds in which things happen.
    Breathe(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..2_u8).prop_map(Step::Login),
        12 => (any::<u8>(), any::<bool>(), 0..3_u8).prop_map(|(session, side, patience)| Step::Use(session, side, patience)),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(session, side)| Step::SignOut(session, side)),
        1 => (0..2_u8, any::<bool>()).prop_map(|(person, side)| Step::EndPerson(person, side)),
        5 => any::<bool>().prop_map(Step::Pass),
        1 => Just(Step::LongPause),
        3 => prop_oneof![2 => Just(false), 1 => Just(true)].prop_map(Step::Outage),
        3 => prop_oneof![4 => Just(Mood::Good), 1 => Just(Mood::Refuses), 2 => Just(Mood::IsAway)].prop_map(Step::Provider),
        6 => (0..6_u8).prop_map(Step::Breathe),
    ]
}

/// What caches there are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum House {
    /// Two processes that ask the store each time.
    Two,
    /// Two processes with caches, and a store that tells of changes.
    TwoTold,
    /// One process with a cache.
    One,
}

type Case = (House, Vec<Step>);

fn case() -> impl Strategy<Value = Case> {
    let house = prop_oneof![Just(House::Two), Just(House::TwoTold), Just(House::One)];
    (house, proptest::collection::vec(step(), 4..40))
}

// --- a store that goes away

struct Switched {
    store: Memory,
    away: AtomicBool,
    chance: AtomicU64,
    told: Mutex<Vec<OnChange>>,
}

impl Switched {
    /// A number below `n` by the case's own chance.
    fn chance(&self, n: u64) -> u64 {
        let next = |x: u64| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let before = self.chance.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |x| Some(next(x))).expect("always some");
        (before >> 33) % n
    }

    fn tell(&self, change: Change) {
        for told in self.told.lock().expect("no panic").iter() {
            told(change);
        }
    }

    fn turn(&self, away: bool) {
        if self.away.swap(away, Ordering::SeqCst) != away {
            self.tell(if away { Change::Lost } else { Change::Watched });
        }
    }

    async fn wander(&self) {
        match self.chance(4) {
            0 => tokio::time::sleep(Duration::from_millis(1 + self.chance(2))).await,
            1 => tokio::task::yield_now().await,
            _ => {}
        }
    }

    /// While the store is away nothing is read.
    fn read<'a, T: Send + 'a>(&'a self, work: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a) -> StoreFuture<'a, T> {
        Box::pin(async move {
            self.wander().await;
            if self.away.load(Ordering::SeqCst) {
                return Err(Outage::store("away"));
            }
            let answer = work().await;
            self.wander().await;
            answer
        })
    }

    /// While the store is away nothing is written, or something is and nobody hears of it.
    fn write<'a, T: Send + 'a>(&'a self, id: RecordId, work: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a) -> StoreFuture<'a, T> {
        Box::pin(async move {
            self.wander().await;
            if self.away.load(Ordering::SeqCst) {
                if self.chance(2) == 0 {
                    let _unheard = work().await;
                    self.tell(Change::Session(id));
                }
                return Err(Outage::store("away"));
            }
            let answer = work().await;
            self.tell(Change::Session(id));
            self.wander().await;
            answer
        })
    }
}

impl SessionStore for Switched {
    fn put_session(&self, id: RecordId, session: SealedSession) -> StoreFuture<'_, ()> {
        self.write(id, move || self.store.put_session(id, session))
    }
    fn session(&self, id: RecordId) -> StoreFuture<'_, Option<StoredSession>> {
        self.read(move || self.store.session(id))
    }
    fn touch_session(&self, id: RecordId, last_used: UnixTime) -> StoreFuture<'_, ()> {
        self.read(move || self.store.touch_session(id, last_used))
    }
    fn delete_session(&self, id: RecordId) -> StoreFuture<'_, bool> {
        self.write(id, move || self.store.delete_session(id))
    }
    fn sessions_under(&self, index: RecordId) -> StoreFuture<'_, Vec<RecordId>> {
        self.read(move || self.store.sessions_under(index))
    }
    fn listing(&self, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.read(move || self.store.listing(id))
    }
    fn replace_session(&self, id: RecordId, before: Vec<u8>, sealed: Vec<u8>) -> StoreFuture<'_, Replaced> {
        self.write(id, move || self.store.replace_session(id, before, sealed))
    }
    fn lease(&self, name: RecordId, owner: RecordId, length: Duration) -> StoreFuture<'_, bool> {
        self.read(move || self.store.lease(name, owner, length))
    }
    /// Heard even while the store is away: else a case would wait for the lease's own end.
    fn release_lease(&self, name: RecordId, owner: RecordId) -> StoreFuture<'_, ()> {
        self.store.release_lease(name, owner)
    }
    fn remember(&self, mark: RecordId, until: UnixTime) -> StoreFuture<'_, bool> {
        self.read(move || self.store.remember(mark, until))
    }
    fn remembered(&self, mark: RecordId) -> StoreFuture<'_, bool> {
        self.read(move || self.store.remembered(mark))
    }
    fn all_sessions(&self, from: Option<Cursor>) -> StoreFuture<'_, Part> {
        self.store.all_sessions(from)
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
        told(Change::Watched);
        self.told.lock().expect("no panic").push(told);
    }
    fn ping(&self) -> StoreFuture<'_, ()> {
        self.store.ping()
    }
}

// --- a provider that rotates, and remembers what it saw

struct Rotating {
    clock: SharedClock,
    mood: Mutex<Mood>,
    state: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    given: u64,
    calls: u64,
    used: HashSet<String>,
    under_way: HashSet<String>,
    /// Grants whose refresh was refused, by the name that each refresh token begins with.
    refused: HashSet<String>,
    wrong: Vec<String>,
}

/// The grant that a refresh token belongs to.
fn grant_of(token: &str) -> String {
    token.split('/').next().unwrap_or_default().to_owned()
}

impl Rotating {
    fn tokens(&self, grant: &str) -> Tokens {
        let mut seen = self.state.lock().expect("no panic");
        seen.given += 1;
        let (access, refresh) = (Secret::new(format!("{grant}/a{}", seen.given)), Secret::new(format!("{grant}/r{}", seen.given)));
        Tokens::new(access, Some(refresh), Some(Duration::from_secs(LIFE)), None, self.clock.now(), 128)
    }

    async fn answer(&self, token: String) -> Result<Refreshed, Trouble> {
        let took = {
            let mut seen = self.state.lock().expect("no panic");
            seen.calls += 1;
            if !seen.under_way.insert(token.clone()) {
                seen.wrong.push(format!("{token} is under way twice"));
            }
            (seen.calls * 7) % 12
        };
        tokio::time::sleep(Duration::from_millis(took)).await;
        let mood = *self.mood.lock().expect("no panic");
        let answer = match mood {
            Mood::IsAway => Err(Outage::provider("away").into()),
            Mood::Refuses => {
                self.state.lock().expect("no panic").refused.insert(grant_of(&token));
                Err(Fault::new(Reason::RefreshRefused, "refused").into())
            }
            Mood::Good => {
                let mut seen = self.state.lock().expect("no panic");
                if !seen.used.insert(token.clone()) {
                    seen.wrong.push(format!("{token} was shown twice"));
                }
                drop(seen);
                Ok(Refreshed { tokens: self.tokens(&grant_of(&token)), id_token: None, identity: None })
            }
        };
        // The answer is on its way for as long again.
        tokio::time::sleep(Duration::from_millis(took / 2)).await;
        self.state.lock().expect("no panic").under_way.remove(&token);
        answer
    }
}

impl IdentityProvider for Rotating {
    fn id(&self) -> &str {
        "rotating"
    }
    fn name(&self) -> &str {
        "Rotating"
    }
    fn authorization_url<'a>(&'a self, _: &'a mut PendingLogin, _: &'a str, _: &'a [(String, String)]) -> ProviderFuture<'a, Url> {
        unreachable!("nobody is sent there")
    }
    fn complete<'a>(&'a self, _: &'a PendingLogin, _: AuthorizationResponse) -> ProviderFuture<'a, SignedIn> {
        unreachable!("nobody comes back from there")
    }
    fn refresh<'a>(&'a self, session: &'a Session) -> ProviderFuture<'a, Refreshed> {
        let token = session.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()).expect("a refresh token");
        Box::pin(self.answer(token.expose().to_owned()))
    }
    fn revalidate<'a>(&'a self, _: &'a Session) -> ProviderFuture<'a, Option<Identity>> {
        Box::pin(async { Ok(None) })
    }
    fn end_session_url<'a>(&'a self, _: &'a Session, _: &'a str, _: &'a str) -> ProviderFuture<'a, Option<Url>> {
        Box::pin(async { Ok(None) })
    }
    fn revoke<'a>(&'a self, _: &'a Tokens) -> ProviderFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
    fn verify_logout_token<'a>(&'a self, _: &'a Secret) -> ProviderFuture<'a, LogoutToken> {
        unreachable!("no logout tokens here")
    }
    fn origins(&self) -> Vec<String> {
        Vec::new()
    }
}

// --- the model

/// A session as the model has it.
struct Known {
    cookie: SessionCookie,
    grant: String,
    person: u8,
    /// An ending was acknowledged: nobody may be let in by it who comes after this.
    ended: AtomicBool,
    /// Somebody has begun to end it: from here on it may be gone.
    ending: AtomicBool,
}

struct Process {
    sessions: Arc<Sessions<PreparedHeaders>>,
    renewals: Arc<Renewals>,
}

enum Saw {
    Somebody,
    Nobody,
    Outage,
}

struct World {
    clock: Arc<ManualClock>,
    store: Arc<Switched>,
    provider: Arc<Rotating>,
    processes: Vec<Process>,
    tasks: Tasks,
    known: Mutex<Vec<Arc<Known>>>,
    /// Of each person: how many times somebody began to end all they have, and how many are still at it. Changed under the lock of `known`.
    endings: [(AtomicU64, AtomicU64); 2],
    wrong: Mutex<Vec<String>>,
}

impl World {
    /// Time passes, and a store that is there has said all the while that every change was told.
    fn pass(&self, by: Duration) {
        self.clock.advance(by);
        if !self.store.away.load(Ordering::SeqCst) {
            self.store.tell(Change::Heard);
        }
    }

    fn new(house: House, chance: u64) -> Arc<Self> {
        let clock = Arc::new(ManualClock::default());
        let shared = || Arc::clone(&clock) as SharedClock;
        let chance = AtomicU64::new(chance);
        let store = Arc::new(Switched { store: Memory::new(shared()), away: AtomicBool::new(false), chance, told: Mutex::default() });
        let provider = Arc::new(Rotating { clock: shared(), mood: Mutex::new(Mood::Good), state: Mutex::default() });
        let (ring, tasks) = (Arc::new(SealRing::new(&[[7; 32]]).expect("a key")), Tasks::new(Handle::current()));
        let absolute = Duration::from_secs(365 * 24 * 3600);
        let lifetimes = Lifetimes { idle: IDLE, absolute, token: absolute, token_end: TokenEnd::Outlived };
        let processes = (0..if house == House::One { 1 } else { 2 })
            .map(|_| {
                let cache = match house {
                    House::Two => None,
                    House::TwoTold => Some(SessionCache::watched(100, shared())),
                    House::One => Some(SessionCache::new(100)),
                };
                let store = Arc::clone(&store) as Arc<dyn SessionStore>;
                let sessions = Arc::new(Sessions::new(store, cache, Arc::clone(&ring), shared(), lifetimes, tasks.clone()));
                // One process hears of nobody: there is nobody else.
                if house == House::TwoTold {
                    sessions.watch();
                }
                let settings = RenewalSettings { revalidate: None, token_end: TokenEnd::Outlived };
                let providers = vec![Arc::clone(&provider) as Arc<dyn IdentityProvider>];
                let renewals = Renewals::new(Arc::clone(&sessions), providers, settings, tasks.clone(), shared(), Metrics::new());
                Process { sessions, renewals }
            })
            .collect();
        Arc::new(Self {
            clock,
            store,
            provider,
            processes,
            tasks,
            known: Mutex::default(),
            endings: Default::default(),
            wrong: Mutex::default(),
        })
    }

    fn process(&self, other: bool) -> &Process {
        &self.processes[usize::from(other) % self.processes.len()]
    }

    fn one(&self, number: u8) -> Option<Arc<Known>> {
        let known = self.known.lock().expect("no panic");
        (!known.is_empty()).then(|| Arc::clone(&known[usize::from(number) % known.len()]))
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().expect("no panic").push(what);
    }

    async fn login(&self, person: u8) {
        let grant = {
            let mut seen = self.provider.state.lock().expect("no panic");
            seen.given += 1;
            format!("g{}", seen.given)
        };
        let (tokens, now) = (self.provider.tokens(&grant), self.clock.now());
        let identity = json!({"issuer": ISSUER, "sub": format!("person-{person}"), "source": {"provider": "rotating"}, "user": "u",
            "email": "absent", "preferred_username": null, "groups": {"listed": []}, "scopes": [], "claims": {}, "auth_time": null});
        let session = json!({"identity": identity, "id_token": "", "created_at": now.0, "ends_at": now.0 + 365 * 24 * 3600});
        let mut session: Session = serde_json::from_value(session).expect("a session");
        session.tokens = Some(tokens);
        let listing = Listing::new(&session, [127, 0, 0, 1].into(), "model");
        let (begun, at_it) = &self.endings[usize::from(person)];
        let (before, others) = (begun.load(Ordering::SeqCst), at_it.load(Ordering::SeqCst));
        if let Ok(Created::Session(cookie)) = self.process(false).sessions.create(session, &listing).await {
            let mut all = self.known.lock().expect("no panic");
            // Whoever was ending this person's sessions meanwhile may have found this one.
            let ending = others > 0 || begun.load(Ordering::SeqCst) != before;
            let known = Known { cookie, grant, person, ended: AtomicBool::new(false), ending: AtomicBool::new(ending) };
            all.push(Arc::new(known));
        }
    }

    async fn see(&self, other: bool, known: &Known, patience: Patience) -> Saw {
        let process = self.process(other);
        match process.sessions.load(&known.cookie).await {
            Err(_) => Saw::Outage,
            Ok(Loaded::Absent | Loaded::Over { .. }) => Saw::Nobody,
            Ok(Loaded::Alive(open)) if process.renewals.is_fresh(&open.session) => Saw::Somebody,
            Ok(Loaded::Alive(open)) => match process.renewals.keep(&known.cookie, open, patience).await {
                Ok(Kept::Good(..)) => Saw::Somebody,
                Ok(Kept::Over(_) | Kept::Gone) => Saw::Nobody,
                Err(_) => Saw::Outage,
            },
        }
    }

    /// A use, judged by what was settled before it began.
    async fn use_session(&self, known: &Known, other: bool, patience: Patience) {
        let was_ended = known.ended.load(Ordering::SeqCst);
        let saw = self.see(other, known, patience).await;
        let refused = self.provider.state.lock().expect("no panic").refused.contains(&known.grant);
        let may_be_gone = refused || known.ending.load(Ordering::SeqCst);
        match saw {
            Saw::Somebody if was_ended => self.wrong(format!("{} had ended and was accepted, other: {other}", known.grant)),
            Saw::Nobody if !may_be_gone => self.wrong(format!("{} is nobody's, and nobody ended it, other: {other}", known.grant)),
            Saw::Somebody | Saw::Nobody | Saw::Outage => {}
        }
    }

    async fn sign_out(&self, known: &Known, other: bool) {
        known.ending.store(true, Ordering::SeqCst);
        if self.process(other).sessions.end(&known.cookie).await.is_ok() {
            known.ended.store(true, Ordering::SeqCst);
        }
    }

    async fn end_person(&self, person: u8, other: bool) {
        let (begun, at_it) = &self.endings[usize::from(person)];
        let theirs: Vec<Arc<Known>> = {
            let all = self.known.lock().expect("no panic");
            begun.fetch_add(1, Ordering::SeqCst);
            at_it.fetch_add(1, Ordering::SeqCst);
            all.iter().filter(|one| one.person == person).cloned().collect()
        };
        theirs.iter().for_each(|one| one.ending.store(true, Ordering::SeqCst));
        let sub = format!("person-{person}");
        if self.process(other).sessions.end_under(Under::Sub { issuer: ISSUER, sub: &sub }).await.is_ok() {
            theirs.iter().for_each(|one| one.ended.store(true, Ordering::SeqCst));
        }
        at_it.fetch_sub(1, Ordering::SeqCst);
    }

    async fn settle(&self, beside: &mut Vec<tokio::task::JoinHandle<()>>) {
        self.store.turn(false);
        for task in beside.drain(..) {
            if task.await.is_err() {
                self.wrong("a step panicked".to_owned());
            }
        }
        self.tasks.drained().await;
    }

    async fn run(self: Arc<Self>, steps: Vec<Step>) -> Vec<String> {
        let mut beside = Vec::new();
        self.login(0).await;
        for step in steps {
            let world = Arc::clone(&self);
            match step {
                Step::Login(person) => beside.push(tokio::spawn(async move { world.login(person).await })),
                Step::Use(number, other, patience) => {
                    let patience = [Patience::Brief, Patience::ForTokens, Patience::Long][usize::from(patience)];
                    if let Some(known) = self.one(number) {
                        beside.push(tokio::spawn(async move { world.use_session(&known, other, patience).await }));
                    }
                }
                Step::SignOut(number, other) => {
                    if let Some(known) = self.one(number) {
                        beside.push(tokio::spawn(async move { world.sign_out(&known, other).await }));
                    }
                }
                Step::EndPerson(person, other) => beside.push(tokio::spawn(async move { world.end_person(person, other).await })),
                Step::Pass(over) => self.pass(Duration::from_secs(if over { LIFE + 1 } else { LIFE - 30 })),
                Step::LongPause => {
                    self.settle(&mut beside).await;
                    self.pass(IDLE + Duration::from_secs(60));
                    for known in self.known.lock().expect("no panic").iter() {
                        known.ending.store(true, Ordering::SeqCst);
                        known.ended.store(true, Ordering::SeqCst);
                    }
                }
                Step::Outage(away) => self.store.turn(away),
                Step::Provider(mood) => *self.provider.mood.lock().expect("no panic") = mood,
                Step::Breathe(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds.into())).await,
            }
        }
        self.settle(&mut beside).await;
        *self.provider.mood.lock().expect("no panic") = Mood::Good;
        // The provider's pause is over, and so are all tokens: what lives is renewed once more, by whatever token it has.
        self.pass(Duration::from_secs(LIFE + 10));
        let all: Vec<Arc<Known>> = self.known.lock().expect("no panic").clone();
        for known in &all {
            for other in [false, true] {
                let refused = self.provider.state.lock().expect("no panic").refused.contains(&known.grant);
                match self.see(other, known, Patience::Long).await {
                    Saw::Somebody if known.ended.load(Ordering::SeqCst) => self.wrong(format!("{} came back in the end", known.grant)),
                    Saw::Nobody if !refused && !known.ending.load(Ordering::SeqCst) => self.wrong(format!("{} was lost", known.grant)),
                    Saw::Outage => self.wrong(format!("{} is an outage when all is well", known.grant)),
                    Saw::Somebody | Saw::Nobody => {}
                }
            }
        }
        let mut wrong = self.wrong.lock().expect("no panic").clone();
        wrong.extend(self.provider.state.lock().expect("no panic").wrong.iter().cloned());
        wrong
    }
}

async fn judged((house, steps): Case, chance: u64) -> Vec<String> {
    let world = World::new(house, chance);
    tokio::time::timeout(Duration::from_secs(50), world.run(steps)).await.unwrap_or_else(|_| vec!["it never came to an end".to_owned()])
}

fn seed() -> [u8; 32] {
    let text = std::env::var("DOORWARD_MODEL_SEED").unwrap_or_default();
    if text.is_empty() {
        return doorward::secret::random();
    }
    let digits: Vec<u8> = (0..32).map(|n| u8::from_str_radix(text.get(2 * n..2 * n + 2).unwrap_or("00"), 16).expect("hex")).collect();
    digits.try_into().expect("32 bytes")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_in_whichever_order_what_has_ended_stays_ended_and_no_token_is_shown_twice() {
    let cases: usize = std::env::var("DOORWARD_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let seed = seed();
    let told: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let strategy = case();
    let mut trees: Vec<_> = (0..cases).map(|_| strategy.new_tree(&mut runner).expect("a case")).collect();
    let running: Vec<_> = trees.iter().enumerate().map(|(n, tree)| tokio::spawn(judged(tree.current(), n as u64))).collect();
    let mut failed = None;
    let mut reasons = HashMap::<String, usize>::new();
    for (n, case) in running.into_iter().enumerate() {
        let wrong = case.await.expect("a case does not panic");
        for what in wrong {
            *reasons.entry(what.split_once(' ').map_or(what.clone(), |(_, rest)| rest.to_owned())).or_default() += 1;
            failed.get_or_insert(n);
        }
    }
    let Some(n) = failed else { return };
    // The smallest one that still fails; each is tried some times, since the machine's own timing has a say.
    let tree = &mut trees[n];
    let mut smallest = (tree.current(), Vec::new());
    for _ in 0..200 {
        let mut wrong = Vec::new();
        for chance in 0..4 {
            wrong.extend(judged(tree.current(), n as u64 + chance * 1000).await);
        }
        let moved = if wrong.is_empty() {
            tree.complicate()
        } else {
            smallest = (tree.current(), wrong);
            tree.simplify()
        };
        if !moved {
            break;
        }
    }
    panic!("DOORWARD_MODEL_SEED={told}, case {n} of {cases}: {reasons:?}\n{:#?}", smallest);
}
