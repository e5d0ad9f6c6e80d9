use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use url::Url;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::identity::Identity;
use crate::login::PendingLogin;
use crate::provider::{AuthorizationResponse, ProviderFuture, Refreshed, SignedIn};
use crate::secret::{SealRing, Secret};
use crate::session::{Lifetimes, Tokens};
use crate::store::memory::Memory;
use crate::store::{Created, Listing, SessionCache, SessionStore};
use crate::token::LogoutToken;

const LIVES: Duration = Duration::from_secs(600);

/// Answers a refresh when it is let.
struct Slow {
    refuses: bool,
    clock: Arc<ManualClock>,
    refreshes: AtomicU64,
    revocations: AtomicU64,
    asked: Semaphore,
    answers: Semaphore,
}

fn tokens(name: &str, now: UnixTime) -> Tokens {
    Tokens::new(Secret::new(name), Some(Secret::new(format!("refresh {name}"))), Some(LIVES), None, now, 0)
}

impl IdentityProvider for Slow {
    fn id(&self) -> &str {
        "p"
    }
    fn name(&self) -> &str {
        "p"
    }
    fn refresh<'a>(&'a self, _session: &'a Session) -> ProviderFuture<'a, Refreshed> {
        Box::pin(async {
            let count = self.refreshes.fetch_add(1, Ordering::SeqCst);
            self.asked.add_permits(1);
            self.answers.acquire().await.unwrap().forget();
            match self.refuses {
                true => Err(Fault::new(Reason::RefreshRefused, "invalid_grant").into()),
                false => Ok(Refreshed { tokens: tokens(&format!("new {count}"), self.clock.now()), id_token: None, identity: None }),
            }
        })
    }
    fn revoke<'a>(&'a self, _tokens: &'a Tokens) -> ProviderFuture<'a, ()> {
        self.revocations.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }
    fn authorization_url<'a>(
        &'a self,
        _attempt: &'a mut PendingLogin,
        _state: &'a str,
        _passed: &'a [(String, String)],
    ) -> ProviderFuture<'a, Url> {
        unreachable!()
    }
    fn complete<'a>(&'a self, _attempt: &'a PendingLogin, _response: AuthorizationResponse) -> ProviderFuture<'a, SignedIn> {
        unreachable!()
    }
    fn revalidate<'a>(&'a self, _session: &'a Session) -> ProviderFuture<'a, Option<Identity>> {
        unreachable!()
    }
    fn end_session_url<'a>(&'a self, _session: &'a Session, _uri: &'a str, _state: &'a str) -> ProviderFuture<'a, Option<Url>> {
        unreachable!()
    }
    fn verify_logout_token<'a>(&'a self, _token: &'a Secret) -> ProviderFuture<'a, LogoutToken> {
        unreachable!()
    }
    fn origins(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Processes with one store and one provider, and a session whose token is over.
struct House {
    clock: Arc<ManualClock>,
    provider: Arc<Slow>,
    processes: Vec<Arc<Renewals>>,
    cookie: SessionCookie,
}

impl House {
    async fn new(processes: usize, refuses: bool) -> Self {
        let clock = Arc::new(ManualClock::default());
        let store: Arc<dyn SessionStore> = Arc::new(Memory::new(Arc::clone(&clock) as SharedClock));
        let zero = || AtomicU64::new(0);
        let (asked, answers) = (Semaphore::new(0), Semaphore::new(0));
        let provider = Arc::new(Slow { refuses, clock: Arc::clone(&clock), refreshes: zero(), revocations: zero(), asked, answers });
        let day = Duration::from_secs(86_400);
        let lifetimes = Lifetimes { idle: day, absolute: day, token: day, token_end: TokenEnd::Outlived };
        let (ring, tasks) = (Arc::new(SealRing::new(&[[1; 32]]).unwrap()), Tasks::new(Handle::current()));
        let process = |number: usize| {
            // No process tells another: the second has no cache.
            let cache = (number == 0).then(|| SessionCache::new(10));
            let clock = Arc::clone(&clock) as SharedClock;
            let sessions = Sessions::new(Arc::clone(&store), cache, Arc::clone(&ring), Arc::clone(&clock), lifetimes, tasks.clone());
            let providers = vec![Arc::clone(&provider) as Arc<dyn IdentityProvider>];
            let settings = RenewalSettings { revalidate: None, token_end: TokenEnd::Outlived };
            Renewals::new(Arc::new(sessions), providers, settings, tasks.clone(), clock, Metrics::new())
        };
        let processes: Vec<_> = (0..processes).map(process).collect();
        let identity = json!({"issuer": "i", "sub": "s", "source": {"provider": "p"}, "user": "s", "email": "absent",
            "preferred_username": null, "groups": {"listed": []}, "scopes": [], "claims": {}, "auth_time": null});
        let now = clock.now();
        let session = Session {
            identity: serde_json::from_value(identity).unwrap(),
            client_id: "app".into(),
            sid: None,
            id_token: String::new(),
            created_at: now,
            ends_at: now.plus(day),
            tokens: Some(tokens("first", now)),
            checked_at: None,
            shown_as: crate::session::ShownAs::Cookie,
        };
        let listing = Listing::new(&session, "192.0.2.1".parse().unwrap(), "");
        let Ok(Created::Session(cookie)) = processes[0].sessions.create(session, &listing).await else { panic!("a session") };
        clock.advance(LIVES);
        Self { clock, provider, processes, cookie }
    }

    /// A request that needs the tokens, at one of the processes: which ones it has in the end.
    fn request(&self, process: usize) -> impl Future<Output = String> + Send + use<> {
        let (renewals, cookie) = (Arc::clone(&self.processes[process]), self.cookie.clone());
        let work = async move {
            let Ok(Loaded::Alive(open)) = renewals.sessions.load(&cookie).await else { return "absent".to_owned() };
            match renewals.keep(&cookie, open, Patience::Long).await {
                Ok(Kept::Good(open, None)) => open.session.tokens.as_ref().unwrap().access_token.expose().to_owned(),
                Ok(Kept::Good(_, Some(_))) => "without tokens".to_owned(),
                Ok(Kept::Over(reason)) => reason.to_string(),
                Ok(Kept::Gone) => "gone".to_owned(),
                Err(outage) => outage.to_string(),
            }
        };
        let running = Handle::current().spawn(work);
        async move { running.await.unwrap() }
    }

    /// Until the provider is asked.
    async fn asked(&self) {
        self.provider.asked.acquire().await.unwrap().forget();
    }

    fn refreshes(&self) -> u64 {
        self.provider.refreshes.load(Ordering::SeqCst)
    }

    async fn is_there(&self) -> bool {
        matches!(self.processes[0].sessions.load(&self.cookie).await, Ok(Loaded::Alive(_)))
    }
}

#[tokio::test]
async fn of_many_requests_on_two_processes_one_asks_the_provider() {
    let house = House::new(2, false).await;
    let requests: Vec<_> = (0..50).map(|number| house.request(number % 2)).collect();
    house.asked().await;
    house.provider.answers.add_permits(50);
    for request in requests {
        assert_eq!(request.await, "new 0");
    }
    assert_eq!(house.refreshes(), 1);
}

#[tokio::test]
async fn a_refusal_ends_the_session() {
    let house = House::new(1, true).await;
    house.provider.answers.add_permits(1);
    assert_eq!(house.request(0).await, "refresh-refused");
    assert!(!house.is_there().await);
}

#[tokio::test]
async fn a_refusal_of_tokens_that_another_process_has_replaced_ends_nothing() {
    let house = House::new(2, true).await;
    let late = house.request(0);
    house.asked().await;
    // The lease of the slow one ran out, and another was quicker.
    let other = &house.processes[1].sessions;
    let before = other.reload(&house.cookie).await.unwrap().unwrap();
    let mut renewed = before.session.clone();
    renewed.tokens = Some(tokens("another's", house.clock.now()));
    assert_eq!(other.renew(&house.cookie, &before, &renewed).await.unwrap(), Replaced::Replaced);
    house.provider.answers.add_permits(1);
    assert_eq!(late.await, "another's");
    assert!(house.is_there().await);
}

#[tokio::test]
async fn a_session_that_ended_during_its_refresh_stays_ended_and_its_new_tokens_are_taken_back() {
    let house = House::new(2, false).await;
    let request = house.request(0);
    house.asked().await;
    house.processes[0].sessions.end(&house.cookie).await.unwrap();
    house.provider.answers.add_permits(1);
    assert_eq!(request.await, "gone");
    assert!(!house.is_there().await);
    assert_eq!((house.refreshes(), house.provider.revocations.load(Ordering::SeqCst)), (1, 1));
}
