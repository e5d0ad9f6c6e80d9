//! One session on several processes: its refresh token is spent once, whoever is slow, goes away or is killed.

#![allow(
    clippy::disallowed_methods,
    reason = "how long somebody waited is told by the machine's own clock; what runs beside a test, it waits for"
)]

use std::time::{Duration, Instant};

use http::Request;
use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::body::empty;
use crate::harness::gateway::provider;
use crate::harness::hostile::{Endpoint, HostileBuilder, HostileProvider, Lie};
use crate::harness::oidc_provider::{self, OidcProviderBuilder};
use crate::harness::pair::{Pair, Side};
use crate::harness::redis::Redis;
use crate::harness::twins::Twins;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::eventually;
use crate::harness::world::reason_of;
use crate::refresh::{DUE, LIFE, OVER, ROUTES};

const BOTH: [Side; 2] = [Side::One, Side::Other];

async fn twins(redis: Redis, tables: &str) -> Twins {
    let twins = Twins::start(redis, &format!("{ROUTES}{tables}"), |provider| provider.refresh(true)).await;
    twins.provider.set_expires_in(LIFE, true);
    twins
}

async fn signed_in(twins: &Twins) -> String {
    let browser = twins.signed_in(Side::One).await;
    browser.cookie_header(&twins.url("/"))
}

/// The access token that the upstream is told by this one.
async fn told(twins: &Twins, side: Side, cookie: &str) -> String {
    let answer = twins.ask(side, cookie, "/tokens/x").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    twins.upstream.last().header("x-forwarded-access-token").expect("a token")
}

/// The access token that the provider gave last.
fn given(twins: &Twins) -> String {
    twins.provider.secrets().into_iter().rev().find(|(kind, _)| *kind == "access_token").expect("one").1
}

fn refreshes(twins: &Twins) -> usize {
    twins.provider.count(Endpoint::Refresh)
}

/// The session lives, here and there, and its next refresh works: what came last was stored.
async fn lives(twins: &Twins, cookie: &str) {
    let (before, latest) = (refreshes(twins), given(twins));
    for side in BOTH {
        assert_eq!(told(twins, side, cookie).await, latest);
    }
    assert_eq!(refreshes(twins), before);
    twins.provider.set(Lie::None);
    twins.advance(OVER);
    for side in BOTH {
        assert_eq!(told(twins, side, cookie).await, given(twins));
    }
    assert_eq!((refreshes(twins), twins.provider.complaints()), (before + 1, Vec::new()));
}

/// Nobody is let in by this cookie, here or there, and the upstream does not hear of it.
async fn is_dead(twins: &Twins, cookie: &str, reason: &str) {
    let before = twins.upstream.count();
    for side in BOTH {
        let answer = twins.ask(side, cookie, "/app").await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, reason));
    }
    assert_eq!(twins.upstream.count(), before);
}

async fn under_way(provider: &HostileProvider, n: usize) {
    eventually(&format!("{n} refreshes under way"), || (provider.refreshes_under_way() == n).then_some(())).await;
}

/// Runs them all at once, each as a task of its own.
async fn all<T: Send + 'static>(work: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let tasks: Vec<_> = work.into_iter().map(tokio::spawn).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.expect("nothing panics there"));
    }
    done
}

/// Fifty requests at once, every other one by the other process; status and time of each.
async fn fifty(clients: [crate::harness::http::HttpClient; 2], url: &str, cookie: &str) -> Vec<(u16, Duration)> {
    let work = (0..50).map(|n| {
        let (client, url, cookie) = (clients[n % 2].clone(), format!("{url}{n}"), cookie.to_owned());
        async move {
            let began = Instant::now();
            let request = Request::get(url).header("cookie", cookie).body(empty()).expect("a request");
            (client.fetch(request).await.status.as_u16(), began.elapsed())
        }
    });
    all(work.collect()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_on_two_processes_are_one_call_to_the_real_provider_that_takes_four_seconds() {
    let (place, redis, upstream) = (Pair::place(), Redis::start().await, EchoUpstream::start());
    let real = OidcProviderBuilder::new(&Pair::redirect_uri(&place)).rotating_refresh_tokens().lifetimes(6, 60, 3600).start().await;
    let text = format!(
        "{}{}",
        provider(real.issuer(), oidc_provider::CLIENT_ID, oidc_provider::CLIENT_SECRET),
        ROUTES.replace("@UPSTREAM@", &upstream.url())
    );
    let pair = Pair::start(&place, &redis, &text).await;
    let mut browser = pair.browser(Side::One);
    let page = browser.get(&pair.url("/app")).await;
    let page = oidc_provider::log_in(&mut browser, page, "alice", &Pair::redirect_uri(&place)).await;
    browser.follow_all(page).await;
    let cookie = browser.cookie_header(&pair.url("/"));
    let first = browser.get(&pair.url("/tokens/x")).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let told = || upstream.last().header("x-forwarded-access-token").expect("a token");
    let old = told();
    real.delay("token:refresh_token", 4000).await;
    tokio::time::sleep(Duration::from_millis(6300)).await;

    let clients = BOTH.map(|side| pair.http(side));
    let answers = fifty(clients.clone(), &pair.url("/tokens/"), &cookie).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 50, "{answers:?}");
    assert!(answers.iter().all(|(_, took)| *took >= Duration::from_secs(3)), "the token is over: all wait");
    assert_eq!(real.count("token:refresh_token").await, 1);
    let new = told();
    assert_ne!(new, old);
    for side in BOTH {
        let answer =
            pair.http(side).fetch(Request::get(pair.url("/app")).header("cookie", &cookie).body(empty()).expect("a request")).await;
        assert_eq!(answer.status, 200);
    }
    // The token that came was stored: it is good for a second refresh.
    real.delay("token:refresh_token", 0).await;
    tokio::time::sleep(Duration::from_millis(6300)).await;
    let answers = fifty(clients, &pair.url("/tokens/"), &cookie).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(real.count("token:refresh_token").await, 2);
    assert_ne!(told(), new);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_old_token_is_good_nobody_waits_for_a_provider_that_takes_four_seconds() {
    let twins = twins(Redis::start().await, "").await;
    let cookie = signed_in(&twins).await;
    twins.provider.set(Lie::SlowAnswer(Endpoint::Refresh, Duration::from_secs(4)));
    twins.advance(DUE);
    let answers = fifty(BOTH.map(|side| twins.http(side)), &twins.url("/tokens/"), &cookie).await;
    assert!(answers.iter().all(|(status, took)| *status == 200 && *took < Duration::from_secs(3)), "{answers:?}");
    // It ends under way, and now they wait: for the same call.
    twins.advance(Duration::from_secs(60));
    under_way(&twins.provider, 1).await;
    let answers = fifty(BOTH.map(|side| twins.http(side)), &twins.url("/tokens/"), &cookie).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!((refreshes(&twins), twins.provider.refreshes_at_once()), (1, 1));
    lives(&twins, &cookie).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_while_new_tokens_are_on_their_way_is_the_end() {
    // With revocation the provider refuses; without it what it gives is not wanted any more.
    for endpoint in [json!({}), json!({ "revocation_endpoint": null })] {
        let kind = |provider: HostileBuilder| provider.refresh(true).discovery(endpoint);
        let twins = Twins::start(Redis::start().await, ROUTES, kind).await;
        twins.provider.set_expires_in(LIFE, true);
        for (asked_at, signed_out_at) in BOTH.into_iter().flat_map(|one| BOTH.map(|other| (one, other))) {
            twins.provider.set(Lie::None);
            let browser = twins.signed_in(asked_at).await;
            let cookie = browser.cookie_header(&twins.url("/"));
            let mut browser = twins.moved(browser, signed_out_at);
            let page = browser.get(&twins.url("/oauth2/session")).await;
            twins.provider.set(Lie::SlowAnswer(Endpoint::Refresh, Duration::from_millis(1000)));
            twins.advance(OVER);
            let (refreshed, ()) = tokio::join!(twins.ask(asked_at, &cookie, "/tokens/x"), async {
                under_way(&twins.provider, 1).await;
                let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
                assert!(page.set_cookies().iter().any(|line| line.starts_with("doorward=;")), "{}", page.text());
                assert_eq!(twins.provider.refreshes_under_way(), 1, "signing out waits for nobody");
                is_dead(&twins, &cookie, "no-credential").await;
            });
            assert_eq!((refreshed.status.as_u16(), reason_of(&refreshed).as_str()), (401, "no-credential"), "{}", refreshed.text());
            under_way(&twins.provider, 0).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            is_dead(&twins, &cookie, "no-credential").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_gave_while_redis_was_away_is_not_lost() {
    for killed in [true, false] {
        let twins = &mut twins(Redis::options().append_only().start().await, "").await;
        let cookie = signed_in(twins).await;
        twins.provider.set(Lie::SlowAnswer(Endpoint::Refresh, Duration::from_millis(1000)));
        twins.advance(DUE);
        assert_eq!(twins.ask(Side::One, &cookie, "/app").await.status, 200);
        under_way(&twins.provider, 1).await;
        if killed {
            twins.redis.kill()
        } else {
            twins.redis.pause()
        }
        under_way(&twins.provider, 0).await;
        assert_eq!(refreshes(twins), 1);
        let answer: Answer = twins.ask(Side::Other, &cookie, "/app").await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (503, "store-unreachable"), "{}", answer.text());
        if killed {
            twins.redis.start_again().await
        } else {
            twins.redis.resume()
        }
        twins.provider.set(Lie::None);
        // By now the old token is over: whoever comes has the new one, or waits for it.
        twins.advance(Duration::from_secs(60));
        let latest = given(twins);
        for side in BOTH {
            let end = Instant::now() + Duration::from_secs(10);
            while twins.ask(side, &cookie, "/app").await.status == 503 {
                assert!(Instant::now() < end, "Redis is back and the gateway does not notice");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(told(twins, side, &cookie).await, latest, "killed: {killed}");
        }
        assert_eq!(refreshes(twins), 1, "killed: {killed}");
        lives(twins, &cookie).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_process_is_killed_over_a_refresh_another_one_does_it() {
    let (place, redis, upstream) = (Pair::place(), Redis::start().await, EchoUpstream::start());
    let hostile = HostileProvider::builder().refresh(true).start();
    let text = format!(
        "{}{}",
        provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret()),
        ROUTES.replace("@UPSTREAM@", &upstream.url())
    );
    let mut pair = Pair::start(&place, &redis, &text).await;
    let mut browser = pair.browser(Side::One);
    hostile.set_expires_in(2, true);
    let page = browser.get(&pair.url("/app")).await;
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let cookie = browser.cookie_header(&pair.url("/"));
    hostile.set_expires_in(LIFE, true);
    tokio::time::sleep(Duration::from_millis(2100)).await;

    hostile.reset_counts();
    hostile.set(Lie::SlowAnswer(Endpoint::Refresh, Duration::from_secs(8)));
    let request = |path: &str| Request::get(pair.url(path)).header("cookie", &cookie).body(empty()).expect("a request");
    let (lost, asked) = (pair.http(Side::One), request("/tokens/y"));
    let asked = tokio::spawn(async move { lost.try_fetch(asked).await.is_err() });
    under_way(&hostile, 1).await;
    let request = request("/tokens/x");
    pair.killed_and_started(Side::One).await;
    let killed = Instant::now();
    assert!(asked.await.expect("no panic"), "nobody was there to answer");
    hostile.set(Lie::None);
    let answer = pair.http(Side::Other).fetch(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(killed.elapsed() < Duration::from_secs(12), "took over after {:?}", killed.elapsed());
    assert_eq!((hostile.count(Endpoint::Refresh), hostile.refreshes_at_once()), (2, 1));
    assert!(hostile.complaints().is_empty(), "{:?}", hostile.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_asked_about_once_over_all_processes() {
    let twins = twins(Redis::start().await, "[session]\nrevalidate = \"1m\"\n").await;
    twins.provider.set_expires_in(24 * 3600, true);
    let cookie = signed_in(&twins).await;
    let asked = || twins.provider.count(Endpoint::Userinfo);
    for round in 1..=3 {
        let before = asked();
        twins.advance(Duration::from_secs(65));
        twins.provider.set(Lie::SlowAnswer(Endpoint::Userinfo, Duration::from_millis(400)));
        let answers = fifty(BOTH.map(|side| twins.http(side)), &twins.url("/app/"), &cookie).await;
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
        assert_eq!(asked(), before + 1, "round {round}");
    }
    twins.provider.end_grants();
    twins.advance(Duration::from_secs(65));
    let answer = twins.ask(Side::Other, &cookie, "/app").await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, "revalidation-refused"));
    is_dead(&twins, &cookie, "no-credential").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_heard_by_everybody_who_waits() {
    let twins = twins(Redis::start().await, "").await;
    let cookie = signed_in(&twins).await;
    twins.provider.end_grants();
    twins.provider.set(Lie::SlowAnswer(Endpoint::Refresh, Duration::from_millis(800)));
    twins.advance(OVER);
    let before = twins.upstream.count();
    let answers = fifty(BOTH.map(|side| twins.http(side)), &twins.url("/tokens/"), &cookie).await;
    assert!(answers.iter().all(|(status, _)| *status == 401), "{answers:?}");
    assert_eq!((refreshes(&twins), twins.upstream.count()), (1, before));
    is_dead(&twins, &cookie, "no-credential").await;
}
