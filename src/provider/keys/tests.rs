use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::fetch::max_age;
use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::fault::Dependency;
use crate::token::Algorithm;
use crate::token::testing::{Signer, jwks};

/// What the issuer answers next; the last answer stays.
#[derive(Clone)]
enum Answer {
    Keys(usize, Option<Duration>),
    Garbage,
    Down,
    Panic,
}

struct Issuer {
    cache: Arc<JwksCache>,
    clock: Arc<ManualClock>,
    fetches: Arc<AtomicUsize>,
    script: Arc<Mutex<VecDeque<Answer>>>,
    /// A fetch ends only with a permit.
    gate: Arc<Semaphore>,
}

impl Issuer {
    fn answering(script: impl IntoIterator<Item = Answer>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let fetches = Arc::new(AtomicUsize::new(0));
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let gate = Arc::new(Semaphore::new(1_000_000));
        let fetch: FetchKeys = {
            let (fetches, script, gate) = (Arc::clone(&fetches), Arc::clone(&script), Arc::clone(&gate));
            Box::new(move || {
                fetches.fetch_add(1, Ordering::SeqCst);
                let answer = {
                    let mut script = script.lock().unwrap();
                    if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() }
                };
                let gate = Arc::clone(&gate);
                Box::pin(async move {
                    gate.acquire().await.unwrap().forget();
                    match answer {
                        Answer::Keys(count, max_age) => Ok(FetchedKeys { document: document(count), max_age }),
                        Answer::Garbage => Ok(FetchedKeys { document: b"<html>".to_vec(), max_age: None }),
                        Answer::Down => Err(Outage::provider("refused")),
                        Answer::Panic => panic!("seen"),
                    }
                })
            })
        };
        let cache = Arc::new(JwksCache::new(fetch, clock.clone(), Tasks::new(Handle::current())));
        Self { cache, clock, fetches, script, gate }
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn answers(&self, answer: Answer) {
        *self.script.lock().unwrap() = [answer].into();
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    async fn keys(&self) -> Arc<KeySet> {
        self.cache.keys().await.unwrap()
    }

    async fn newer(&self, budget: Budget, seen: &Arc<KeySet>) -> Result<Option<usize>, Outage> {
        self.cache.keys_after_unknown(budget, seen).await.map(|newer| newer.map(|keys| keys.len()))
    }

    /// Lets work that runs beside the test go on.
    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
}

fn document(count: usize) -> Vec<u8> {
    let keys: Vec<_> = (0..count).map(|index| Signer::new(Algorithm::EdDsa).jwk(&index.to_string())).collect();
    jwks(&keys)
}

const fn keys(count: usize) -> Answer {
    Answer::Keys(count, None)
}

#[tokio::test]
async fn keys_are_fetched_when_first_needed_and_kept() {
    let issuer = Issuer::answering([keys(1)]);
    assert_eq!(issuer.fetches(), 0);
    for _ in 0..100 {
        assert_eq!(issuer.keys().await.len(), 1);
    }
    issuer.pass(3590);
    issuer.keys().await;
    Issuer::settle().await;
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn a_hundred_who_come_first_share_one_fetch() {
    let issuer = Issuer::answering([keys(1)]);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let cache = Arc::clone(&issuer.cache);
            Tasks::new(Handle::current()).run(async move { cache.keys().await.unwrap().len() })
        })
        .collect();
    for one in waiting {
        assert_eq!(one.await, Some(1));
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn what_has_aged_is_used_while_newer_keys_are_fetched_beside() {
    let issuer = Issuer::answering([keys(1), keys(2)]);
    issuer.keys().await;
    issuer.gate.forget_permits(1_000_000);
    issuer.pass(3600);
    for _ in 0..10 {
        assert_eq!(issuer.keys().await.len(), 1);
    }
    Issuer::settle().await;
    assert_eq!(issuer.fetches(), 2);
    issuer.gate.add_permits(1);
    Issuer::settle().await;
    assert_eq!(issuer.keys().await.len(), 2);
}

#[tokio::test]
async fn what_nobody_looked_at_for_long_is_not_used_unasked() {
    let issuer = Issuer::answering([keys(1), keys(2)]);
    issuer.keys().await;
    issuer.pass(24 * 3600);
    assert_eq!(issuer.keys().await.len(), 2);
}

#[tokio::test]
async fn old_keys_go_on_counting_while_the_issuer_is_down() {
    let issuer = Issuer::answering([keys(1), Answer::Down]);
    issuer.keys().await;
    for looks in 1..4 {
        issuer.pass(6 * 3600);
        assert_eq!(issuer.keys().await.len(), 1);
        Issuer::settle().await;
        assert_eq!(issuer.fetches(), 1 + looks);
    }
    issuer.answers(keys(2));
    issuer.pass(PAUSE.as_secs());
    assert_eq!(issuer.keys().await.len(), 1);
    Issuer::settle().await;
    assert_eq!(issuer.keys().await.len(), 2);
}

#[tokio::test]
async fn keys_that_nobody_confirms_for_a_day_count_no_more() {
    let issuer = Issuer::answering([keys(1), Answer::Down]);
    issuer.keys().await;
    issuer.pass(26 * 3600);
    for _ in 0..2 {
        assert_eq!(issuer.cache.keys().await.err().map(|outage| outage.dependency), Some(Dependency::Keys));
    }
    issuer.answers(keys(2));
    issuer.pass(PAUSE.as_secs());
    assert_eq!(issuer.keys().await.len(), 2);
}

#[tokio::test]
async fn without_any_keys_it_is_an_outage_asked_again_after_a_pause() {
    for trouble in [Answer::Down, Answer::Garbage, Answer::Panic] {
        let issuer = Issuer::answering([trouble]);
        for _ in 0..10_000 {
            assert_eq!(issuer.cache.keys().await.err().map(|outage| outage.dependency), Some(Dependency::Keys));
        }
        assert!(issuer.fetches() <= 2, "{}", issuer.fetches()); // a second may pass on the real clock below the test's
        issuer.answers(keys(1));
        issuer.pass(PAUSE.as_secs());
        assert_eq!(issuer.keys().await.len(), 1);
    }
}

#[tokio::test]
async fn the_issuers_max_age_counts_within_bounds() {
    for (max_age, fresh) in [(0, PUBLISHED.least), (60, PUBLISHED.least), (1000, Duration::from_secs(1000)), (u64::MAX, PUBLISHED.most)] {
        let issuer = Issuer::answering([Answer::Keys(1, Some(Duration::from_secs(max_age)))]);
        issuer.keys().await;
        issuer.pass(fresh.as_secs() - 10);
        issuer.keys().await;
        Issuer::settle().await;
        assert_eq!(issuer.fetches(), 1, "{max_age}");
        issuer.pass(10);
        issuer.keys().await;
        Issuer::settle().await;
        assert_eq!(issuer.fetches(), 2, "{max_age}");
    }
}

#[tokio::test]
async fn max_age_is_read_from_any_cache_control() {
    for (lines, seconds) in [
        (&["max-age=300"][..], Some(300)),
        (&["public, Max-Age=\"60\" , must-revalidate"], Some(60)),
        (&["no-transform", "max-age=7"], Some(7)),
        (&["no-cache"], None),
        (&["s-maxage=300"], None),
        (&["max-age=-1"], None),
        (&["max-age=99999999999999999999999"], None),
        (&["max-age"], None),
        (&[], None),
    ] {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_static(line));
        }
        assert_eq!(max_age(&headers), seconds.map(Duration::from_secs), "{lines:?}");
    }
}

#[tokio::test]
async fn ten_thousand_forged_key_names_cost_one_refetch_a_minute() {
    let issuer = Issuer::answering([keys(1)]);
    for minute in 1..=3 {
        for _ in 0..10_000 {
            let seen = issuer.keys().await;
            issuer.newer(Budget::Stranger, &seen).await.unwrap();
        }
        assert_eq!(issuer.fetches(), 1 + minute, "the first fetch, and one each minute");
        issuer.pass(60);
    }
}

#[tokio::test]
async fn a_storm_that_comes_all_at_once_costs_one_refetch() {
    let issuer = Issuer::answering([keys(1), keys(2)]);
    let seen = issuer.keys().await;
    let storm: Vec<_> = (0..10_000)
        .map(|_| {
            let (cache, seen) = (Arc::clone(&issuer.cache), Arc::clone(&seen));
            Tasks::new(Handle::current())
                .run(async move { cache.keys_after_unknown(Budget::Stranger, &seen).await.unwrap().map(|keys| keys.len()) })
        })
        .collect();
    for one in storm {
        assert_eq!(one.await, Some(Some(2)));
    }
    assert_eq!(issuer.fetches(), 2);
    // Who looked in the newest keys already has nothing to wait for.
    let newest = issuer.keys().await;
    assert_eq!(issuer.newer(Budget::Stranger, &newest).await, Ok(None));
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn an_id_token_finds_its_key_during_a_storm() {
    let issuer = Issuer::answering([keys(1)]);
    let seen = issuer.keys().await;
    issuer.newer(Budget::Stranger, &seen).await.unwrap();
    let seen = issuer.keys().await;
    assert_eq!(issuer.newer(Budget::Stranger, &seen).await, Ok(None));
    issuer.answers(keys(3));
    assert_eq!(issuer.newer(Budget::IdToken, &seen).await, Ok(Some(3)));
}

#[tokio::test]
async fn an_id_token_does_not_trust_a_fetch_that_began_before_it_came() {
    let issuer = Issuer::answering([keys(1), keys(1), keys(3)]);
    let seen = issuer.keys().await;
    issuer.gate.forget_permits(1_000_000);
    let begin = |budget| {
        let (cache, seen) = (Arc::clone(&issuer.cache), Arc::clone(&seen));
        Tasks::new(Handle::current()).run(async move { cache.keys_after_unknown(budget, &seen).await.unwrap().map(|keys| keys.len()) })
    };
    let stranger = begin(Budget::Stranger);
    Issuer::settle().await;
    let id_tokens = [begin(Budget::IdToken), begin(Budget::IdToken)];
    Issuer::settle().await;
    assert_eq!(issuer.fetches(), 2);
    issuer.gate.add_permits(2);
    assert_eq!(stranger.await, Some(Some(1)));
    for id_token in id_tokens {
        assert_eq!(id_token.await, Some(Some(3)));
    }
    assert_eq!(issuer.fetches(), 3);
}

#[tokio::test]
async fn id_tokens_have_their_bound_too() {
    let issuer = Issuer::answering([keys(1)]);
    for _ in 0..1000 {
        let seen = issuer.keys().await;
        issuer.newer(Budget::IdToken, &seen).await.unwrap();
    }
    assert_eq!(issuer.fetches(), 1 + ID_TOKEN_REFETCHES as usize);
}

#[tokio::test]
async fn a_refetch_that_fails_is_an_outage_and_no_answer() {
    let issuer = Issuer::answering([keys(1), Answer::Down]);
    let seen = issuer.keys().await;
    for budget in [Budget::Stranger, Budget::IdToken] {
        for _ in 0..1000 {
            let failed = issuer.newer(budget, &seen).await;
            assert_eq!(failed.err().map(|outage| outage.dependency), Some(Dependency::Keys));
        }
    }
    assert!(issuer.fetches() <= 3, "{}", issuer.fetches());
    // Known keys count all the while, and nothing is forgotten once the issuer is back.
    assert!(Arc::ptr_eq(&seen, &issuer.keys().await));
    issuer.answers(keys(2));
    issuer.pass(60);
    assert_eq!(issuer.newer(Budget::Stranger, &seen).await, Ok(Some(2)));
}

#[tokio::test]
async fn a_clock_set_back_does_not_hold_up_refetches() {
    let mut allowance = Allowance::new(1);
    assert!(allowance.take(UnixTime(1_000_000)));
    assert!(!allowance.take(UnixTime(1_000_059)));
    assert!(allowance.take(UnixTime(500_000)));
    assert!(!allowance.take(UnixTime(500_001)));
    assert!(allowance.take(UnixTime(500_060)));
}

#[test]
fn a_runtime_that_is_ending_fails_the_fetch_and_holds_nobody() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let handle = runtime.handle().clone();
    drop(runtime);
    let fetch: FetchKeys = Box::new(|| Box::pin(std::future::pending()));
    let cache = JwksCache::new(fetch, Arc::new(ManualClock::default()), Tasks::new(handle));
    let here = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(here.block_on(cache.keys()).is_err());
}

#[tokio::test]
async fn keys_are_at_hand_while_nobody_need_be_asked() {
    let issuer = Issuer::answering([Answer::Keys(1, None), Answer::Down, Answer::Keys(2, None)]);
    let cache = &issuer.cache;
    assert!(cache.at_hand().is_none() && cache.fresh_edition(issuer.clock.now()).is_none());
    cache.keys().await.unwrap();
    let (keys, edition) = cache.at_hand().unwrap();
    assert_eq!((keys.len(), cache.fresh_edition(issuer.clock.now())), (1, Some(edition)));
    // Stale: somebody has to ask first. They fail, and the old keys go on for a while.
    issuer.clock.advance(PUBLISHED.usual + PUBLISHED.beside);
    assert!(cache.at_hand().is_none() && cache.fresh_edition(issuer.clock.now()).is_none());
    assert!(cache.keys().await.is_err() || cache.keys().await.is_ok());
    assert_eq!(cache.at_hand().unwrap().1, edition);
    assert!(cache.fresh_edition(issuer.clock.now()).is_none());
    issuer.clock.advance(PAUSE);
    assert!(cache.at_hand().is_none());
    cache.keys().await.unwrap();
    while cache.fresh_edition(issuer.clock.now()).is_none() {
        tokio::task::yield_now().await;
    }
    let (newer, next) = cache.at_hand().unwrap();
    assert_eq!((newer.len(), cache.fresh_edition(issuer.clock.now())), (2, Some(next)));
    assert!(next > edition);
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_it_changes() {
    let file = std::env::temp_dir().join(format!("doorward-keys-{}.json", std::process::id()));
    std::fs::write(&file, document(1)).unwrap();
    let clock = Arc::new(ManualClock::default());
    let cache = JwksCache::of_file(file.clone(), clock.clone(), Tasks::new(Handle::current()));
    assert_eq!(cache.keys().await.unwrap().len(), 1);
    std::fs::write(&file, document(3)).unwrap();
    clock.advance(Duration::from_secs(2));
    // The first who comes waits for the newer ones: a key that was taken out counts no more.
    assert_eq!(cache.keys().await.unwrap().len(), 3);
    std::fs::write(&file, "half a docum").unwrap();
    clock.advance(Duration::from_secs(2));
    let _ = cache.keys().await;
    assert_eq!(cache.keys().await.unwrap().len(), 3);
    std::fs::remove_file(&file).unwrap();
    clock.advance(STALE_MOST);
    clock.advance(IN_A_FILE.usual);
    assert_eq!(cache.keys().await.err().unwrap().dependency, Dependency::Keys);
}
