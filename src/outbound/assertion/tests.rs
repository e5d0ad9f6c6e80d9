use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::header::ToldClaim;
use crate::identity::{ClaimMapping, ClaimPath, EmailVerification, Source};
use crate::secret::{SealRing, decode};
use crate::store::memory::Memory;
use crate::store::{
    Admission, Cursor, LoginBounds, LoginRecord, Part, RecordId, Replaced, SealedSession, SessionStore, StoreFuture, StoredSession,
};
use crate::tasks::Tasks;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A store that can be away.
struct House {
    clock: Arc<ManualClock>,
    store: Arc<Switched>,
    ring: Arc<SealRing>,
}

struct Switched {
    store: Memory,
    away: AtomicBool,
}

impl House {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = Memory::new(Arc::clone(&clock) as SharedClock);
        let ring = Arc::new(SealRing::new(&[[1; 32]]).unwrap());
        Self { clock, store: Arc::new(Switched { store, away: AtomicBool::new(false) }), ring }
    }

    fn keys_with(&self, ring: &Arc<SealRing>, alone: Alone) -> Arc<SharedKeys> {
        let store = Arc::clone(&self.store) as Arc<dyn SessionStore>;
        let clock = Arc::clone(&self.clock) as SharedClock;
        SharedKeys::new(store, Arc::clone(ring), clock, Tasks::new(Handle::current()), Some(MONTH), alone)
    }

    fn keys(&self) -> Arc<SharedKeys> {
        self.keys_with(&self.ring, Alone::No)
    }

    fn away(&self, away: bool) {
        self.store.away.store(away, Ordering::SeqCst);
    }

    fn assertions(&self, keys: &Arc<SharedKeys>) -> Assertions {
        Assertions::new("https://gate.test".into(), Keys::Shared(Arc::clone(keys)), Arc::clone(&self.clock) as SharedClock)
    }

    async fn record(&self) -> Option<Vec<u8>> {
        self.store.store.common(crate::secret::sha256(b"doorward assertion keys")).await.unwrap()
    }
}

async fn published(keys: &Arc<SharedKeys>) -> Vec<String> {
    keys.published().await.unwrap().iter().map(|key| key.kid().to_owned()).collect()
}

async fn signer(keys: &Arc<SharedKeys>) -> String {
    keys.signer().await.unwrap().kid().to_owned()
}

fn ann() -> Identity {
    let mapping =
        ClaimMapping { user: ClaimPath::parse("sub").unwrap(), email: None, groups: None, email_verification: EmailVerification::Required };
    let claims = json!({"sub": "ann", "tenant": "blue"}).as_object().unwrap().clone();
    Identity::from_claims("https://i.test", Source::Provider("p".into()), &mapping, claims).unwrap()
}

fn rule(audience: &str) -> AssertionRule {
    AssertionRule { audience: audience.into(), claims: vec![ToldClaim::parse("tenant").unwrap()] }
}

fn claims(value: &HeaderValue) -> Value {
    let payload = value.to_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&decode(payload).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_start_together_sign_with_one_key() {
    let house = House::new();
    let gateways: Vec<_> = (0..16).map(|_| house.keys()).collect();
    let mut asking = tokio::task::JoinSet::new();
    for keys in gateways.iter().map(Arc::clone) {
        asking.spawn(async move { signer(&keys).await });
    }
    let mut signers = asking.join_all().await;
    signers.dedup();
    assert_eq!(signers.len(), 1);
    for keys in &gateways {
        assert_eq!(published(keys).await, signers);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_published_by_all_before_it_signs_for_any() {
    let house = House::new();
    let (one, other) = (house.keys(), house.keys());
    let first = signer(&one).await;
    assert_eq!(signer(&other).await, first);
    house.clock.advance(MONTH - DAY + Duration::from_secs(1));
    let both = published(&one).await;
    assert_eq!(both.len(), 2);
    assert_eq!(both[0], first);
    assert_eq!(published(&other).await, both);
    assert_eq!((signer(&one).await, signer(&other).await), (first.clone(), first));
    house.clock.advance(DAY);
    assert_eq!((signer(&one).await, signer(&other).await), (both[1].clone(), both[1].clone()));
    assert_eq!(published(&one).await, both, "what the first signed is still good");
    house.clock.advance(Duration::from_secs(2 * 60 * 60));
    assert_eq!(published(&one).await, both[1..]);
    // One that starts now finds the same.
    let third = house.keys();
    assert_eq!(published(&third).await, both[1..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_known_keys_go_on_and_unknown_ones_are_an_outage() {
    let house = House::new();
    let (known, new) = (house.keys(), house.keys());
    let first = signer(&known).await;
    house.away(true);
    assert_eq!(signer(&known).await, first);
    house.clock.advance(2 * MONTH);
    assert_eq!((signer(&known).await, published(&known).await), (first.clone(), vec![first.clone()]));
    assert!(new.signer().await.is_err());
    assert!(new.published().await.is_err());
    house.away(false);
    // It is asked again a second after it failed, of real time.
    let mut waited = 0;
    while new.signer().await.is_err() {
        waited += 1;
        assert!(waited < 500, "the store is back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(signer(&new).await, first);
    assert_eq!(published(&new).await.len(), 2, "the next key is due");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_the_store_lost_are_written_back() {
    let house = House::new();
    let keys = house.keys();
    let first = signer(&keys).await;
    let (name, now) = (crate::secret::sha256(b"doorward assertion keys"), house.clock.now());
    // What a store could hold after a failover: another first key.
    let other = schedule::Schedule::begin(now).unwrap().write(now);
    let other = house.ring.seal(b"doorward assertion keys", &other);
    let record = house.record().await;
    assert!(house.store.store.replace_common(name, record, other, now.plus(DAY)).await.unwrap());
    house.clock.advance(Duration::from_secs(61));
    let now = published(&keys).await;
    assert_eq!(now.len(), 2);
    assert!(now.contains(&first), "the key of before is published on");
    assert_eq!(published(&house.keys()).await, now, "for everybody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_is_sealed_by_the_first_key_and_opened_by_all() {
    let house = House::new();
    let first = signer(&house.keys()).await;
    let record = house.record().await.unwrap();
    assert!(!record.windows(5).any(|window| window == b"pkcs8") && !record.windows(4).any(|window| window == b"keys"));
    // A new sealing key above the old one: the same keys, sealed again.
    let rotated = Arc::new(SealRing::new(&[[2; 32], [1; 32]]).unwrap());
    assert_eq!(signer(&house.keys_with(&rotated, Alone::No)).await, first);
    assert_ne!(house.record().await.unwrap(), record);
    let new_alone = Arc::new(SealRing::new(&[[2; 32]]).unwrap());
    assert_eq!(signer(&house.keys_with(&new_alone, Alone::No)).await, first);
    // A stranger's key opens nothing, and takes nothing away.
    let stranger = Arc::new(SealRing::new(&[[3; 32]]).unwrap());
    let refused = house.keys_with(&stranger, Alone::No).signer().await.err().unwrap();
    assert!(refused.source.contains("seal_file"), "{refused}");
    assert_eq!(signer(&house.keys_with(&new_alone, Alone::No)).await, first);
    // Where nobody else writes there is nobody to wait for.
    assert_ne!(signer(&house.keys_with(&stranger, Alone::Yes)).await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assertion_is_used_again_for_a_minute_and_for_nobody_else() {
    let house = House::new();
    let assertions = house.assertions(&house.keys());
    let one = assertions.of(&rule("orders"), &ann()).await.unwrap();
    assert!(one.is_sensitive());
    let told = claims(&one);
    let now = house.clock.now().0;
    assert_eq!((told["sub"].as_str(), told["iss"].as_str()), (Some("ann"), Some("https://i.test")));
    assert_eq!((told["aud"].as_str(), told["gateway"].as_str()), (Some("orders"), Some("https://gate.test")));
    assert_eq!(told["tenant"], "blue");
    let (iat, exp) = (told["iat"].as_u64().unwrap(), told["exp"].as_u64().unwrap());
    assert!(exp - iat == 300 && iat <= now && now - iat < 5);
    assert_eq!(assertions.of(&rule("orders"), &ann()).await.unwrap(), one);
    assert_ne!(assertions.of(&rule("billing"), &ann()).await.unwrap(), one);
    let bob = Identity { sub: "bob".into(), ..ann() };
    assert_eq!(claims(&assertions.of(&rule("orders"), &bob).await.unwrap())["sub"], "bob");
    house.clock.advance(Duration::from_secs(60));
    let later = assertions.of(&rule("orders"), &ann()).await.unwrap();
    assert_ne!(claims(&later)["jti"], claims(&one)["jti"]);
    assert_eq!(claims(&later)["exp"].as_u64().unwrap() - claims(&later)["iat"].as_u64().unwrap(), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_no_header_holds_is_refused() {
    let house = House::new();
    let assertions = house.assertions(&house.keys());
    let mut ann = ann();
    let mut claims = (*ann.claims).clone();
    claims.insert("tenant".to_owned(), json!("x".repeat(ASSERTION_LIMIT)));
    ann.claims = claims.into();
    let refused = assertions.of(&rule("orders"), &ann).await.err().unwrap();
    assert_eq!(refused.reason(), Reason::IdentityTooLarge);
}

#[test]
fn a_files_first_key_signs_and_all_are_published() {
    let pem = |pkcs8: &[u8]| format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", crate::secret::encode_standard(pkcs8));
    let (one, first) = SigningKey::generate(crate::token::Algorithm::EdDsa).unwrap();
    let (two, second) = SigningKey::generate(crate::token::Algorithm::Es256).unwrap();
    let keys = FileKeys::read(format!("{}{}", pem(&first), pem(&second)).as_bytes()).unwrap();
    assert_eq!(keys.signer().kid(), one.kid());
    assert_eq!(keys.published().len(), 2);
    assert_eq!(keys.replace(pem(&second).as_bytes()), Ok(true));
    assert_eq!(keys.replace(pem(&second).as_bytes()), Ok(false));
    assert_eq!((keys.signer().kid(), keys.published().len()), (two.kid(), 1));
    for wrong in [String::new(), format!("{}{}", pem(&first), pem(&first)), "abc".to_owned()] {
        assert!(keys.replace(wrong.as_bytes()).is_err());
        assert_eq!(keys.signer().kid(), two.kid(), "the keys of before go on");
    }
}

impl Switched {
    fn there<'a, T: Send + 'a>(&'a self, answer: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        if self.away.load(Ordering::SeqCst) { Box::pin(std::future::ready(Err(Outage::store("away")))) } else { answer }
    }
}

impl SessionStore for Switched {
    fn common(&self, name: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.there(self.store.common(name))
    }
    fn replace_common(&self, name: RecordId, before: Option<Vec<u8>>, sealed: Vec<u8>, until: UnixTime) -> StoreFuture<'_, bool> {
        self.there(self.store.replace_common(name, before, sealed, until))
    }
    fn put_session(&self, id: RecordId, session: SealedSession) -> StoreFuture<'_, ()> {
        self.store.put_session(id, session)
    }
    fn session(&self, id: RecordId) -> StoreFuture<'_, Option<StoredSession>> {
        self.store.session(id)
    }
    fn touch_session(&self, id: RecordId, last_used: UnixTime) -> StoreFuture<'_, ()> {
        self.store.touch_session(id, last_used)
    }
    fn replace_session(&self, id: RecordId, before: Vec<u8>, sealed: Vec<u8>) -> StoreFuture<'_, Replaced> {
        self.store.replace_session(id, before, sealed)
    }
    fn delete_session(&self, id: RecordId) -> StoreFuture<'_, bool> {
        self.store.delete_session(id)
    }
    fn sessions_under(&self, index: RecordId) -> StoreFuture<'_, Vec<RecordId>> {
        self.store.sessions_under(index)
    }
    fn listing(&self, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.store.listing(id)
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
    fn ping(&self) -> StoreFuture<'_, ()> {
        self.there(self.store.ping())
    }
}
