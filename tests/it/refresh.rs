//! Sessions renewed at their provider, on one gateway: what ends them, what does not, who waits, what follows. Over several processes:
//! `refresh_together`.

#![allow(clippy::disallowed_methods, reason = "how long somebody waited is told by the machine's own clock")]

use std::time::{Duration, Instant};

use http::Request;
use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::body::{empty, full};
use crate::harness::browser::Browser;
use crate::harness::hostile::{Endpoint, HostileBuilder, Lie};
use crate::harness::hostile_state::ClaimsIn;
use crate::harness::http::fetch;
use crate::harness::raw::{RawConnection, request};
use crate::harness::wait::{PATIENCE, eventually};
use crate::harness::world::{Shape, World, reason_of};

/// How long access tokens live here, in seconds.
pub const LIFE: u64 = 600;
/// After this new ones are due, and the old ones are still good.
pub const DUE: Duration = Duration::from_secs(LIFE - 30);
/// After this they are over.
pub const OVER: Duration = Duration::from_secs(LIFE + 1);
/// After this a provider that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(6);
const HOUR: Duration = Duration::from_secs(3600);

/// A route for anybody signed in, one that tells tokens, one for `staff`, one that tells how somebody signed in, one for everybody, one for programs.
pub const ROUTES: &str = r#"
[[route]]
id = "app"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
[[route]]
id = "tokens"
path = "/tokens/"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
headers = { "X-Forwarded-Access-Token" = "{access_token}", "X-Id-Token" = "{id_token}" }
[[route]]
id = "staff"
path = "/staff/"
upstream = "@UPSTREAM@"
allow = { groups = ["staff"] }
[[route]]
id = "how"
path = "/how/"
upstream = "@UPSTREAM@"
allow = "any-authenticated"
headers = { "X-Acr" = "{claims.acr}", "X-Auth-Time" = "{claims.auth_time}", "X-Name" = "{claims.name}" }
[[route]]
id = "open"
path = "/open/"
upstream = "@UPSTREAM@"
access = "public"
"#;

/// A gateway with these routes; refresh tokens rotate, and access tokens live for ten minutes.
fn place(tables: &str, kind: impl FnOnce(HostileBuilder) -> HostileBuilder) -> World {
    let tables = format!("{ROUTES}{tables}");
    let world = World::shaped(Shape { routes: Some(&tables), ..Shape::default() }, |provider| kind(provider.refresh(true)));
    world.provider.set_expires_in(LIFE, true);
    world
}

fn usual(tables: &str) -> World {
    place(tables, |provider| provider)
}

/// The `Cookie` line of somebody who has just signed in.
async fn signed_in(world: &World) -> String {
    cookie_of(world, &world.signed_in().await)
}

fn cookie_of(world: &World, browser: &Browser) -> String {
    format!("doorward={}", world.session(browser).expect("a session"))
}

/// What a program gets that shows this cookie.
async fn ask(world: &World, cookie: &str, path: &str) -> Answer {
    fetch(Request::get(world.at(path)).header("cookie", cookie).body(empty()).expect("a request")).await
}

/// The same, and it is let in.
async fn passes(world: &World, cookie: &str, path: &str) -> Answer {
    let answer = ask(world, cookie, path).await;
    assert_eq!(answer.status, 200, "{path}: {}\n{}", answer.text(), world.gateway.access_lines().lines().last().unwrap_or_default());
    answer
}

/// The same, and it is refused for this reason, without a word to the upstream.
async fn refused(world: &World, cookie: &str, path: &str, status: u16, reason: &str) -> Answer {
    let before = world.upstream.count();
    let answer = ask(world, cookie, path).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (status, reason), "{path}: {}", answer.text());
    assert_eq!(world.upstream.count(), before, "{path}");
    answer
}

/// The provider is well again, and so is everything else: after its pause, and at the latest when the first try has come through.
async fn recovers(world: &World, cookie: &str, path: &str) {
    for _ in 0..20 {
        world.advance(PAUSE);
        if ask(world, cookie, path).await.status == 200 {
            return;
        }
    }
    panic!("{path}: {}", world.gateway.access_lines().lines().last().unwrap_or_default());
}

/// The provider says that this person is not welcome. Two seconds are waited for its word; a machine that is slower hears it with a later request.
async fn unwelcome(world: &World, cookie: &str, path: &str) {
    for _ in 0..20 {
        let answer = ask(world, cookie, path).await;
        if answer.status == 401 {
            assert!(matches!(reason_of(&answer).as_str(), "revalidation-refused" | "no-credential"), "{}", answer.text());
            return;
        }
        world.advance(PAUSE);
    }
    panic!("{path}: still let in");
}

/// An outage at the provider: 503 that says when to come again, and the cookie stays.
async fn unserved(world: &World, cookie: &str, path: &str) {
    let answer = refused(world, cookie, path, 503, "provider-unreachable").await;
    assert!(answer.header("retry-after").is_some() && answer.set_cookies().is_empty(), "{:?}", answer.headers);
}

/// The access token that the upstream is told.
async fn told(world: &World, cookie: &str) -> String {
    passes(world, cookie, "/tokens/x").await;
    world.upstream.last().header("x-forwarded-access-token").expect("a token")
}

/// The access token that the provider gave last.
fn given(world: &World) -> String {
    world.provider.secrets().into_iter().rev().find(|(kind, _)| *kind == "access_token").expect("one").1
}

/// Waits until the upstream is told another token than `old`, which must be the latest.
async fn renewed(world: &World, cookie: &str, old: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = told(world, cookie).await;
        if now != old {
            assert_eq!(now, given(world));
            return now;
        }
        assert!(Instant::now() < end, "never renewed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn refreshes(world: &World) -> usize {
    world.provider.count(Endpoint::Refresh)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_before_they_end_and_again_and_the_upstream_is_told_the_new_ones() {
    let world = usual("");
    let cookie = signed_in(&world).await;
    let mut token = told(&world, &cookie).await;
    assert_eq!(token, given(&world));
    world.advance(Duration::from_secs(LIFE / 2));
    assert_eq!((told(&world, &cookie).await, refreshes(&world)), (token.clone(), 0));
    world.advance(Duration::from_secs(LIFE / 2 - 30));
    for n in 1..=5 {
        let before = world.upstream.last().header("x-id-token").expect("an ID token");
        token = renewed(&world, &cookie, &token).await;
        assert_ne!(world.upstream.last().header("x-id-token").expect("an ID token"), before);
        assert_eq!(refreshes(&world), n);
        world.advance(if n % 2 == 0 { DUE } else { OVER });
    }
    assert!(world.provider.complaints().is_empty(), "{:?}", world.provider.complaints());
    assert_eq!(world.provider.refreshes_at_once(), 1);
    assert!(world.gateway.metric("doorward_session_renewals_total{provider=\"default\",outcome=\"success\"}").await >= 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_of_a_refresh_ends_the_session_or_changes_nothing_or_is_an_outage() {
    let world = usual("");
    for lie in Lie::of_refresh() {
        world.provider.set(Lie::None);
        let (program, mut browser) = (signed_in(&world).await, world.signed_in().await);
        let old = told(&world, &program).await;
        world.advance(OVER);
        world.provider.reset_counts();
        world.provider.set(lie.clone());
        // `auth_time` is not what a refresh can change (OpenID Connect Core §12.2): another one is not believed.
        if lie.must_refresh() || lie == Lie::RefreshOtherAuthTime {
            let new = told(&world, &program).await;
            assert!(new != old && new == given(&world) && refreshes(&world) == 1, "{lie:?}");
            world.provider.set(Lie::None);
            world.advance(OVER);
            assert!(told(&world, &program).await != new && refreshes(&world) == 2, "{lie:?}: and once more");
            assert!(world.provider.complaints().is_empty(), "{lie:?}: {:?}", world.provider.complaints());
        } else if matches!(lie, Lie::RefreshNoAccessToken | Lie::RefreshInvalidClient) {
            passes(&world, &program, "/app").await;
            unserved(&world, &program, "/tokens/x").await;
            assert_eq!(refreshes(&world), 1, "{lie:?}");
        } else {
            refused(&world, &program, "/tokens/x", 401, "refresh-refused").await;
            assert_eq!(refreshes(&world), 1, "{lie:?}");
            refused(&world, &program, "/app", 401, "no-credential").await;
            let (upstream, answers) = (world.upstream.count(), world.answers("refresh-refused").await);
            let page = browser.get(&world.at("/tokens/x?x=1")).await;
            assert_eq!((page.status.as_u16(), world.answers("refresh-refused").await), (303, answers + 1), "{lie:?}: {}", page.text());
            assert!(world.session(&browser).is_none() && refreshes(&world) == 2 && world.upstream.count() == upstream, "{lie:?}");
            // The navigation took the dead cookie away. They sign in again, and arrive.
            world.provider.set(Lie::None);
            let page = browser.follow_all(page).await;
            assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/tokens/x?x=1"), "{lie:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_ends_nothing_and_whoever_needs_the_token_is_told_to_come_again() {
    let world = usual("[limits]\nprovider_timeout = \"1s\"\n");
    for (lie, spent) in [
        (Lie::Status(Endpoint::Refresh, 500), false),
        (Lie::Status(Endpoint::Refresh, 400), false),
        (Lie::Status(Endpoint::Refresh, 429), false),
        (Lie::NotJson(Endpoint::Refresh), false),
        (Lie::Closes(Endpoint::Refresh), false),
        (Lie::Silent(Endpoint::Refresh), false),
        (Lie::EndlessAnswer(Endpoint::Refresh), false),
        (Lie::SlowAnswer(Endpoint::Refresh, Duration::from_secs(3)), false),
        (Lie::HalfAnswer(Endpoint::Refresh), true),
    ] {
        world.provider.set(Lie::None);
        let cookie = signed_in(&world).await;
        let old = told(&world, &cookie).await;
        world.advance(DUE);
        world.provider.reset_counts();
        world.provider.set(lie.clone());
        assert_eq!(told(&world, &cookie).await, old, "{lie:?}: good until its end");
        eventually("the end of that attempt", || (refreshes(&world) == 1 && world.provider.refreshes_under_way() == 0).then_some(())).await;
        // A form waits, and goes on with what is still good.
        let post = Request::post(world.at("/tokens/x")).header("cookie", &cookie).body(full("form")).expect("a request");
        assert_eq!(fetch(post).await.status, 200, "{lie:?}");
        world.advance(Duration::from_secs(60));
        if spent {
            // The provider took the token and its answer was lost: there is nothing left to show.
            world.provider.set(Lie::None);
            refused(&world, &cookie, "/tokens/x", 401, "refresh-refused").await;
            continue;
        }
        unserved(&world, &cookie, "/tokens/x").await;
        passes(&world, &cookie, "/app").await;
        let asked = refreshes(&world);
        for n in 0..100 {
            if n % 2 == 0 { drop(passes(&world, &cookie, "/app").await) } else { unserved(&world, &cookie, "/tokens/x").await }
        }
        assert!(refreshes(&world) <= asked + 1, "{lie:?}: {} calls for 100 requests", refreshes(&world) - asked);
        world.provider.set(Lie::None);
        recovers(&world, &cookie, "/tokens/x").await;
        let new = told(&world, &cookie).await;
        assert!(new != old && new == given(&world), "{lie:?}");
        assert!(world.provider.complaints().is_empty(), "{lie:?}: {:?}", world.provider.complaints());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_holds_up_nobody_who_needs_no_token() {
    let world = usual("[limits]\nprovider_timeout = \"2s\"\n");
    let cookie = signed_in(&world).await;
    world.advance(OVER);
    world.provider.set(Lie::Silent(Endpoint::Refresh));
    for asked in 1..=3 {
        let began = Instant::now();
        for _ in 0..10 {
            passes(&world, &cookie, "/app").await;
        }
        assert!(began.elapsed() < Duration::from_secs(1), "ten requests took {:?}", began.elapsed());
        unserved(&world, &cookie, "/tokens/x").await;
        assert!(began.elapsed() >= Duration::from_millis(1500), "they were told before the provider had its time");
        let began = Instant::now();
        unserved(&world, &cookie, "/tokens/x").await;
        assert!(began.elapsed() < Duration::from_secs(1) && refreshes(&world) == asked, "left alone for a while");
        world.advance(PAUSE);
    }
    world.provider.set(Lie::SlowAnswer(Endpoint::Refresh, Duration::from_millis(300)));
    assert_eq!(told(&world, &cookie).await, given(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_nobody_waited_for_ends_the_session_all_the_same() {
    let world = usual("");
    let cookie = signed_in(&world).await;
    world.provider.set(Lie::RefreshRefused);
    world.advance(OVER);
    // What is only read goes on with the session as it is, once.
    passes(&world, &cookie, "/app").await;
    let end = Instant::now() + PATIENCE;
    while ask(&world, &cookie, "/app").await.status == 200 {
        assert!(Instant::now() < end, "the refusal has no effect");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    refused(&world, &cookie, "/app", 401, "no-credential").await;
    assert_eq!(refreshes(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_end_with_token_an_outage_is_503_everywhere_and_the_end_of_the_last_token_is_the_end() {
    let world = usual("[session]\nend_with_token = true\n");
    let cookie = signed_in(&world).await;
    world.provider.set_refresh_expires_in(3000);
    world.advance(OVER);
    world.provider.set(Lie::Status(Endpoint::Refresh, 503));
    unserved(&world, &cookie, "/app").await;
    unserved(&world, &cookie, "/tokens/x").await;
    world.provider.set(Lie::None);
    recovers(&world, &cookie, "/app").await;
    assert_eq!(refreshes(&world), 2);
    // From here on the refresh token has an end, and nobody comes before it.
    world.advance(Duration::from_secs(3001));
    refused(&world, &cookie, "/app", 401, "session-token-ended").await;
    assert_eq!(refreshes(&world), 2);
    refused(&world, &cookie, "/app", 401, "session-token-ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_refresh_token_nothing_ends_unless_that_is_wanted() {
    for (tables, ends) in [("", false), ("[session]\nend_with_token = true\n", true)] {
        let all = format!("{ROUTES}{tables}");
        let world = World::shaped(Shape { routes: Some(&all), ..Shape::default() }, |provider| provider);
        world.provider.set_expires_in(LIFE, true);
        let cookie = signed_in(&world).await;
        world.advance(DUE);
        told(&world, &cookie).await;
        world.advance(OVER);
        if ends {
            refused(&world, &cookie, "/app", 401, "session-token-ended").await;
        } else {
            passes(&world, &cookie, "/app").await;
            // There is nothing to tell, and a new login would have it.
            let answer = refused(&world, &cookie, "/tokens/x", 401, "session-token-ended").await;
            assert!(answer.set_cookies().is_empty());
            passes(&world, &cookie, "/app").await;
        }
        assert_eq!(world.tokens(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_with_an_end_of_its_own_is_used_before_it_and_never_after() {
    let world = usual("");
    world.provider.set_refresh_expires_in(LIFE / 2);
    let cookie = signed_in(&world).await;
    let first = told(&world, &cookie).await;
    world.advance(Duration::from_secs(LIFE / 2 - 15));
    let second = renewed(&world, &cookie, &first).await;
    assert_eq!(refreshes(&world), 1);
    world.advance(Duration::from_secs(LIFE / 2 + 1));
    assert_eq!(told(&world, &cookie).await, second, "the access token is good still");
    world.advance(Duration::from_secs(LIFE / 2));
    passes(&world, &cookie, "/app").await;
    refused(&world, &cookie, "/tokens/x", 401, "session-token-ended").await;
    assert_eq!(refreshes(&world), 1);
    assert!(world.provider.complaints().is_empty(), "{:?}", world.provider.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_says_anew_is_what_policies_and_headers_see() {
    for claims_in in [ClaimsIn::Both, ClaimsIn::IdToken, ClaimsIn::Userinfo] {
        let world = place("", |provider| provider.claims_in(claims_in));
        // How they signed in is said once, at the login.
        world.provider.set(Lie::AcrWeaker("silver"));
        let cookie = signed_in(&world).await;
        world.provider.set(Lie::None);
        passes(&world, &cookie, "/how/x").await;
        let signed_in_at = world.upstream.last().header("x-auth-time").expect("auth_time");
        passes(&world, &cookie, "/staff/x").await;
        world.provider.change_user(json!({ "groups": ["users"], "name": "Alice Brown", "email": "brown@example.test" }));
        passes(&world, &cookie, "/staff/x").await;
        for lie in [Lie::None, Lie::AuthTimeMissing, Lie::RefreshOtherAuthTime, Lie::RefreshNoIdToken, Lie::None] {
            world.provider.set(lie.clone());
            world.advance(OVER);
            told(&world, &cookie).await;
            passes(&world, &cookie, "/how/x").await;
            let seen = world.upstream.last();
            assert_eq!(seen.header("x-acr").as_deref(), Some("silver"), "{claims_in:?} {lie:?}");
            assert_eq!(seen.header("x-auth-time").as_ref(), Some(&signed_in_at), "{claims_in:?} {lie:?}");
            assert_eq!(seen.header("x-name").as_deref(), Some("Alice Brown"), "{claims_in:?} {lie:?}");
            assert_eq!(seen.header("x-forwarded-email").as_deref(), Some("brown@example.test"), "{claims_in:?} {lie:?}");
            let before = world.upstream.count();
            let answer = ask(&world, &cookie, "/staff/x").await;
            assert_eq!((answer.status.as_u16(), world.upstream.count()), (403, before), "{claims_in:?} {lie:?}: {}", answer.text());
        }
        assert_eq!(refreshes(&world), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn userinfo_after_a_refresh_may_be_away_but_never_speak_of_somebody_else() {
    let world = usual("");
    for (lie, ends) in [
        (Lie::USERINFO_DOWN, false),
        (Lie::NotJson(Endpoint::Userinfo), false),
        (Lie::Status(Endpoint::Userinfo, 401), false),
        (Lie::UserinfoOtherSub, true),
        (Lie::UserinfoNoSub, true),
    ] {
        world.provider.set(Lie::None);
        let cookie = signed_in(&world).await;
        let old = told(&world, &cookie).await;
        world.advance(OVER);
        world.provider.set(lie.clone());
        if ends {
            refused(&world, &cookie, "/tokens/x", 401, "refresh-refused").await;
        } else {
            let new = told(&world, &cookie).await;
            assert!(new != old && new == given(&world), "{lie:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_waits_for_the_new_token_and_arrives_whole_while_reading_goes_on_with_the_old_one() {
    let world = usual("");
    let cookie = signed_in(&world).await;
    let old = told(&world, &cookie).await;
    let slow = Duration::from_secs(2);
    world.provider.set(Lie::SlowAnswer(Endpoint::Refresh, slow));
    world.advance(DUE);
    let began = Instant::now();
    let body: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let post = Request::post(world.at("/tokens/form")).header("cookie", &cookie).body(full(body.clone())).expect("a request");
    let (posted, ()) = tokio::join!(fetch(post), async {
        eventually("the refresh", || (world.provider.refreshes_under_way() == 1).then_some(())).await;
        assert_eq!(told(&world, &cookie).await, old);
        assert!(began.elapsed() < slow, "reading waited");
    });
    assert!(posted.status == 200 && began.elapsed() >= slow, "{} after {:?}", posted.status, began.elapsed());
    let seen = world.upstream.last();
    assert_eq!((seen.target.as_str(), seen.complete, seen.body == body), ("/tokens/form", true, true));
    assert_eq!(seen.header("x-forwarded-access-token"), Some(given(&world)));
    assert_eq!(refreshes(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_loses_nothing() {
    let world = usual("");
    let cookie = signed_in(&world).await;
    let old = told(&world, &cookie).await;
    world.provider.set(Lie::SlowAnswer(Endpoint::Refresh, Duration::from_secs(1)));
    world.advance(OVER);
    let mut connection = RawConnection::open(world.gateway.address).await;
    let line = format!("Cookie: {cookie}");
    connection.send(request("POST", "/app", &world.gateway.address.to_string(), &[&line, "Content-Length: 0"])).await;
    eventually("the refresh", || (world.provider.refreshes_under_way() == 1).then_some(())).await;
    drop(connection);
    eventually("its end", || (world.provider.refreshes_under_way() == 0).then_some(())).await;
    let new = told(&world, &cookie).await;
    assert!(new != old && new == given(&world) && refreshes(&world) == 1);
    world.provider.set(Lie::None);
    world.advance(OVER);
    assert_eq!((told(&world, &cookie).await, refreshes(&world)), (given(&world), 2));
    assert!(world.provider.complaints().is_empty(), "{:?}", world.provider.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_survives_a_restart_with_the_token_that_came_last() {
    let world = usual("");
    let cookie = signed_in(&world).await;
    for _ in 0..2 {
        world.advance(OVER);
        told(&world, &cookie).await;
    }
    let world = world.restart();
    assert_eq!((told(&world, &cookie).await, refreshes(&world)), (given(&world), 2));
    world.advance(OVER);
    assert_eq!((told(&world, &cookie).await, refreshes(&world)), (given(&world), 3));
    assert!(world.provider.complaints().is_empty(), "{:?}", world.provider.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_document_is_wrong_after_a_restart_ends_nothing() {
    for lie in [Lie::NotJson(Endpoint::Discovery), Lie::DiscoveryIssuerMismatch, Lie::Status(Endpoint::Discovery, 404)] {
        for tables in ["", "[session]\nrevalidate = \"1m\"\n"] {
            let world = usual(tables);
            let cookie = signed_in(&world).await;
            world.provider.set(lie.clone());
            let world = world.restart();
            world.advance(if tables.is_empty() { OVER } else { Duration::from_secs(65) });
            passes(&world, &cookie, "/app").await;
            if tables.is_empty() {
                unserved(&world, &cookie, "/tokens/x").await;
            }
            world.provider.set(Lie::None);
            recovers(&world, &cookie, "/tokens/x").await;
            assert_eq!(told(&world, &cookie).await, given(&world), "{lie:?}");
            assert_eq!(refreshes(&world), usize::from(tables.is_empty()), "{lie:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revalidated_session_lives_by_what_userinfo_says() {
    let world = place("[session]\nrevalidate = \"1m\"\n", |provider| provider.lifetime(24 * 3600));
    world.provider.set_expires_in(24 * 3600, true);
    let (cookie, other) = (signed_in(&world).await, signed_in(&world).await);
    let asked = || world.provider.count(Endpoint::Userinfo);
    let before = asked();
    world.advance(Duration::from_secs(50));
    passes(&world, &cookie, "/staff/x").await;
    assert_eq!(asked(), before);
    world.advance(Duration::from_secs(15));
    world.provider.change_user(json!({ "name": "Alice Brown" }));
    for _ in 0..3 {
        passes(&world, &cookie, "/how/x").await;
    }
    assert_eq!(asked(), before + 1);
    world.advance(Duration::from_secs(65));
    world.provider.set(Lie::Status(Endpoint::Userinfo, 401));
    unwelcome(&world, &cookie, "/app").await;
    refused(&world, &cookie, "/app", 401, "no-credential").await;

    // Silence is borne for an hour.
    // A 403 is a scope that is missing, or a filter in between: it says nothing of the person.
    let forbids = Lie::Status(Endpoint::Userinfo, 403);
    for lie in [Lie::USERINFO_DOWN, forbids, Lie::NotJson(Endpoint::Userinfo), Lie::Closes(Endpoint::Userinfo)] {
        world.provider.set(Lie::None);
        passes(&world, &other, "/app").await;
        world.advance(Duration::from_secs(65));
        world.provider.set(lie.clone());
        passes(&world, &other, "/app").await;
        world.advance(HOUR - Duration::from_secs(30));
        passes(&world, &other, "/app").await;
        world.advance(Duration::from_secs(35));
        unserved(&world, &other, "/app").await;
        let calls = asked();
        for _ in 0..50 {
            unserved(&world, &other, "/app").await;
        }
        assert!(asked() <= calls + 1, "{lie:?}");
        world.provider.set(Lie::None);
        recovers(&world, &other, "/app").await;
    }
    world.advance(Duration::from_secs(65));
    world.provider.set(Lie::UserinfoOtherSub);
    unwelcome(&world, &other, "/app").await;
    assert_eq!(refreshes(&world), 0);

    // Without the key nobody is asked, whatever they would say.
    let world = place("", |provider| provider.lifetime(24 * 3600));
    world.provider.set_expires_in(24 * 3600, true);
    let cookie = signed_in(&world).await;
    let before = world.provider.count(Endpoint::Userinfo);
    world.provider.set(Lie::Status(Endpoint::Userinfo, 401));
    world.advance(2 * HOUR);
    passes(&world, &cookie, "/app").await;
    assert_eq!(world.provider.count(Endpoint::Userinfo), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_for_hours_vouches_for_nobody_though_tokens_are_due_or_over() {
    for after in [DUE, OVER] {
        let world = usual("[session]\nrevalidate = \"1m\"\n");
        let cookie = signed_in(&world).await;
        world.provider.set_expires_in(if after == DUE { 2 * 3600 } else { LIFE }, true);
        world.advance(OVER);
        told(&world, &cookie).await;
        world.provider.stop().await;
        world.advance(after);
        passes(&world, &cookie, "/app").await;
        // Of two hours the last minutes: new tokens are due, and the old ones are good.
        world.advance(Duration::from_secs(2 * 3600 - 60) - after);
        unserved(&world, &cookie, "/app").await;
        world.provider.start_again();
        recovers(&world, &cookie, "/app").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_tells_a_token() {
    let world = usual("");
    let mut browser = world.signed_in().await;
    let cookie = cookie_of(&world, &browser);
    for lie in [Lie::None, Lie::Status(Endpoint::Refresh, 500), Lie::None, Lie::RefreshRefused] {
        world.provider.set(lie);
        world.advance(OVER);
        ask(&world, &cookie, "/tokens/x").await;
    }
    browser.get(&world.at("/oauth2/session")).await;
    world.gateway.access_line("refresh-refused").await;
    let lines = world.gateway.access_lines();
    for (kind, secret) in world.provider.secrets() {
        assert!(!lines.contains(&secret), "{kind} stands in an access line");
    }
}
