//! Accounts over a store that two replicas share.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::*;
use crate::clock::{Clock as _, ManualClock, UnixTime};
use crate::login::{Asked, PendingLogin};
use crate::provider::{AuthorizationResponse, IdentityProvider as _};
use crate::reason::Reason;
use crate::secret::{SealRing, Secret, SecretSource};
use crate::session::{Lifetimes, TokenEnd};
use crate::store::memory::Memory;
use crate::store::{SessionStore, Sessions};
use crate::tasks::Tasks;

/// Of `correct horse`.
const HASH: &str = "$2y$04$FvZ/Pz0vn2hJpe5GgaD/HezSF2u4sY7TBWxdpLaMFNa7vYtT.jky.";
/// The secret of RFC 6238's appendix B.
const TOTP: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// A clock at the beginning of a slot, so that none ends in the middle of a test.
fn clock() -> Arc<ManualClock> {
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_secs(900 - clock.now().0 % 900));
    clock
}

fn account(totp: Option<&str>) -> Account {
    Account {
        name: "ann".into(),
        password: SecretSource::fixed(Secret::new(HASH)),
        email: Some("ann@example.test".into()),
        groups: vec!["staff".into()],
        totp: totp.map(|text| SecretSource::fixed(Secret::new(text))),
    }
}

/// Two replicas: one store, the same keys and accounts.
fn replicas(clock: &Arc<ManualClock>, guesses: GuessLimits) -> [LocalProvider; 2] {
    let store: Arc<dyn SessionStore> = Arc::new(Memory::new(Arc::<ManualClock>::clone(clock)));
    let ring = Arc::new(SealRing::new(&[[7; 32]]).unwrap());
    let day = Duration::from_secs(86_400);
    let lifetimes = Lifetimes { idle: day, absolute: day, token: day, token_end: TokenEnd::Outlived };
    [(), ()].map(|()| {
        let tasks = Tasks::new(Handle::current());
        let clock: crate::clock::SharedClock = Arc::<ManualClock>::clone(clock);
        let sessions = Arc::new(Sessions::new(Arc::clone(&store), None, Arc::clone(&ring), Arc::clone(&clock), lifetimes, tasks.clone()));
        let settings = LocalSettings { id: LOCAL.into(), name: "a password".into(), issuer: "https://app.test".into(), guesses };
        let accounts = AccountSource::new(vec![account(Some(TOTP))], None).ok().unwrap();
        LocalProvider::new(settings, accounts, sessions, clock, tasks)
    })
}

const LIMITS: GuessLimits = GuessLimits { per_name: 3, per_address: 100, window: Duration::from_secs(900) };

fn reason<T>(result: Result<T, Denied>) -> Option<Reason> {
    match result.err()? {
        Denied::Wrong(fault) | Denied::Slowed(fault, _) | Denied::Refused(fault) => Some(fault.reason),
        Denied::Unreachable(outage) => Some(outage.reason()),
    }
}

async fn password(provider: &LocalProvider, name: &str, password: &str) -> Option<Reason> {
    reason(provider.check_password(name, Secret::new(password), HERE).await)
}

/// What Ann's app shows now.
fn code(clock: &ManualClock) -> String {
    TotpKey::parse(TOTP).ok().unwrap().code_at(clock.now().0 / 30)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_count_guesses_together_and_a_right_one_begins_the_count_again() {
    let clock = clock();
    let [one, two] = replicas(&clock, LIMITS);
    for name in ["ann", "nobody"] {
        assert_eq!(password(&one, name, "wrong").await, Some(Reason::PasswordWrong));
        assert_eq!(password(&two, name, "wrong").await, Some(Reason::PasswordWrong));
    }
    assert_eq!(password(&one, "ann", "correct horse").await, None);
    for provider in [&one, &two, &one] {
        assert_eq!(password(provider, "ann", "wrong").await, Some(Reason::PasswordWrong));
    }
    assert_eq!(password(&two, "ann", "correct horse").await, Some(Reason::GuessesOfName));
    let Err(Denied::Slowed(_, wait)) = two.check_password("ann", Secret::new("x"), HERE).await else { panic!("not slowed") };
    clock.advance(wait);
    assert_eq!(password(&two, "ann", "correct horse").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_counts_once_over_all_replicas_and_at_the_same_moment() {
    let clock = clock();
    let [one, two] = replicas(&clock, GuessLimits { per_name: 100, ..LIMITS });
    let first = code(&clock);
    let (left, right) = tokio::join!(one.check_code("ann", &first, HERE), two.check_code("ann", &first, HERE));
    let mut ends = [reason(left), reason(right)];
    ends.sort();
    assert_eq!(ends, [None, Some(Reason::CodeUsed)]);
    // Not in the next step either, where it would still be taken; and not once it is too old.
    clock.advance(Duration::from_secs(30));
    assert_eq!(reason(two.check_code("ann", &first, HERE).await), Some(Reason::CodeUsed));
    clock.advance(Duration::from_secs(30));
    assert_eq!(reason(two.check_code("ann", &first, HERE).await), Some(Reason::CodeWrong));
    assert_eq!(reason(one.check_code("ann", &code(&clock), HERE).await), None);
    assert_eq!(reason(one.check_code("nobody", &code(&clock), HERE).await), Some(Reason::CodeWrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_the_same_moment_count_each_other() {
    let clock = clock();
    let [one, two] = replicas(&clock, LIMITS);
    let guesses = futures_of((0..20).map(|n| password(if n % 2 == 0 { &one } else { &two }, "ann", "wrong"))).await;
    assert_eq!(guesses.iter().filter(|reason| **reason == Some(Reason::PasswordWrong)).count(), 3, "{guesses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_password_from_many_networks_wins_no_count_of_codes_for_each_of_them() {
    let clock = clock();
    let [one, two] = replicas(&clock, LIMITS);
    let from = |network: u8| IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, network));
    let mut codes = Vec::new();
    for network in 0..6 {
        assert!(one.check_password("ann", Secret::new("correct horse"), from(network)).await.is_ok());
        codes.push(reason(two.check_code("ann", "nothing", from(network)).await));
    }
    assert_eq!(codes[..3], [Some(Reason::CodeWrong); 3]);
    assert_eq!(codes[3..], [Some(Reason::GuessesOfName); 3]);
    // A right code makes a network one of hers, and from there nobody elsewhere keeps her out.
    clock.advance(LIMITS.window);
    assert!(one.check_code("ann", &code(&clock), HERE).await.is_ok());
    for _ in 0..4 {
        let _ = one.check_code("ann", "nothing", from(9)).await;
    }
    assert_eq!(reason(one.check_code("ann", "nothing", from(9)).await), Some(Reason::GuessesOfName));
    assert_eq!(reason(one.check_code("ann", "nothing", HERE).await), Some(Reason::CodeWrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_queue_turns_away_is_no_guess_at_a_name() {
    let clock = clock();
    let [one, _] = replicas(&clock, GuessLimits { per_name: 40, ..LIMITS });
    let flood = futures_of((0..300).map(|_| password(&one, "ann", "wrong"))).await;
    let turned_away = flood.iter().filter(|reason| **reason == Some(Reason::PasswordQueue)).count();
    assert!(turned_away > 200, "{turned_away}");
    assert_eq!(password(&one, "ann", "correct horse").await, None);
}

/// All at once.
async fn futures_of<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (one, done) in all.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(output) = one.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        if all.iter().all(|(_, done)| done.is_some()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}

fn attempt(nonce: &str) -> PendingLogin {
    PendingLogin {
        provider: LOCAL.into(),
        nonce: nonce.into(),
        code_verifier: String::new(),
        redirect_uri: "https://app.test/oauth2/callback".into(),
        started_at: UnixTime(0),
        asks: Asked::default(),
        scopes: Vec::new(),
        proven: None,
        dpop_key: None,
        registration: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_good_for_one_attempt_of_this_process_and_says_what_the_login_was_worth() {
    let clock = clock();
    let [one, two] = replicas(&clock, LIMITS);
    let Ok(proof) = one.check_password("ann", Secret::new("correct horse"), HERE).await else { panic!("refused") };
    let answer = one.answer(&attempt("n"), &proof);
    let signed_in = one.complete(&attempt("n"), answer.clone()).await.ok().unwrap();
    let identity = signed_in.identity;
    assert_eq!((identity.issuer.as_str(), identity.sub.as_str(), identity.user.as_str()), ("https://app.test", "ann", "ann"));
    assert_eq!(identity.email.verified(), Some("ann@example.test"));
    assert_eq!(identity.groups, crate::identity::Groups::Listed(vec!["staff".into()]));
    assert_eq!((&identity.claims["acr"], &identity.claims["amr"]), (&"pwd".into(), &serde_json::json!(["pwd"])));
    assert_eq!(identity.auth_time, Some(clock.now()));

    let none = AuthorizationResponse { code: None, iss: None, error: None };
    let forged = AuthorizationResponse { code: Some(Secret::new("eyJzdWIiOiJhbm4ifQ.AAAA")), ..none.clone() };
    for (provider, nonce, answer) in [(&one, "other", answer.clone()), (&two, "n", answer), (&one, "n", none), (&one, "n", forged)] {
        assert_eq!(provider.complete(&attempt(nonce), answer).await.err().unwrap().reason(), Reason::CodeRefused);
    }
    let Ok(proof) = one.check_code("ann", &code(&clock), HERE).await else { panic!("refused") };
    let claims = one.complete(&attempt("n"), one.answer(&attempt("n"), &proof)).await.ok().unwrap().identity.claims;
    assert_eq!((&claims["acr"], &claims["amr"]), (&"mfa".into(), &serde_json::json!(["pwd", "otp", "mfa"])));
    let form = one.authorization_url(&mut attempt("n"), "STATE", &[]).await.ok().unwrap();
    assert_eq!(form.as_str(), "https://app.test/oauth2/sign_in?state=STATE");
}

#[test]
fn what_a_place_asks_for_says_what_has_to_be_shown() {
    for (acr, needed) in [
        (&[][..], Needed::Password),
        (&["pwd"], Needed::Password),
        (&["mfa"], Needed::Code),
        (&["phrh", "mfa"], Needed::Code),
        (&["mfa", "pwd"], Needed::Password),
        (&["phrh"], Needed::Beyond),
        (&["MFA"], Needed::Beyond),
    ] {
        let asks = Asked { acr: acr.iter().map(|acr| (*acr).to_owned()).collect(), max_age: None };
        assert_eq!(LocalProvider::needed(&asks), needed, "{acr:?}");
    }
}

fn shown(provider: LocalProvider, clock: &Arc<ManualClock>) -> ShownPasswords {
    let clock: crate::clock::SharedClock = Arc::<ManualClock>::clone(clock);
    ShownPasswords::new(Arc::new(provider), LIMITS, clock, Tasks::new(Handle::current()))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_password_shown_by_many_requests_at_once_is_one_guess() {
    let clock = clock();
    let [one, two] = replicas(&clock, LIMITS);
    let shown = shown(one, &clock);
    let show = async |text: &str| reason(shown.check("ann", &Secret::new(text), HERE).await);
    // Three guesses are allowed, and sixty requests are more than may wait to be hashed.
    assert_eq!(futures_of((0..60).map(|_| show("correct horse"))).await, vec![None; 60]);
    assert_eq!(futures_of((0..60).map(|_| show("wrong"))).await, vec![Some(Reason::PasswordWrong); 60]);
    assert_eq!(show("wrong").await, Some(Reason::PasswordWrong));
    assert_eq!(show("wrong").await, Some(Reason::PasswordWrong));
    // The form counts with it.
    assert_eq!(password(&two, "ann", "correct horse").await, Some(Reason::GuessesOfName));
    assert_eq!(show("wrong").await, Some(Reason::GuessesOfName));
    assert_eq!(show("correct horse").await, Some(Reason::GuessesOfName), "an entry that was guessed at goes on answering");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shown_password_is_worth_a_password_and_was_shown_now() {
    let clock = clock();
    let [one, _] = replicas(&clock, LIMITS);
    let shown = shown(one, &clock);
    for _ in 0..3 {
        let identity = shown.check("ann", &Secret::new("correct horse"), HERE).await.ok().unwrap();
        assert_eq!((identity.sub.as_str(), identity.issuer.as_str(), identity.source.id()), ("ann", "https://app.test", LOCAL));
        assert_eq!((&identity.claims["acr"], identity.auth_time), (&"pwd".into(), Some(clock.now())));
        clock.advance(Duration::from_secs(100));
    }
}
