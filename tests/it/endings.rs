//! The provider says that a session has ended: back-channel and front-channel logout. Every lie has its reason and ends nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "test code: it fails loudly, and may do several things at once"
)]

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::harness::answer::Answer;
use crate::harness::body::full;
use crate::harness::browser::Browser;
use crate::harness::chromium::Chromium;
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::hostile::{Endpoint, HostileProvider, Lie};
use crate::harness::hostile_mint::LogoutLie;
use crate::harness::http::{fetch, get};
use crate::harness::jose::{base64url, decode, hs256, unsigned, with_broken_signature};
use crate::harness::oidc_provider::{self, OidcProviderBuilder};
use crate::harness::redis::Redis;
use crate::harness::server::{Listen, Server};
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::visit::encode;
use crate::harness::wait::free_port;
use crate::harness::world::{Shape, World, reason_of};

/// What a provider posts.
async fn post(url: &str, fields: &[(&str, &str)]) -> Answer {
    post_as(url, "application/x-www-form-urlencoded", &encode(fields)).await
}

async fn post_as(url: &str, kind: &str, body: &str) -> Answer {
    fetch(Request::post(url).header("content-type", kind).body(full(body.to_owned())).expect("a request")).await
}

async fn logout(world: &World, token: &str) -> Answer {
    post(&world.at("/oauth2/backchannel_logout"), &[("logout_token", token)]).await
}

/// Whether whoever holds the browser's session is let in; who is not has not reached the upstream.
async fn is_alive(world: &World, browser: &Browser) -> bool {
    let cookie = world.session(browser).expect("a session cookie");
    let before = world.upstream.count();
    let request = Request::get(world.at("/app")).header("cookie", format!("doorward={cookie}"));
    let answer = fetch(request.body(crate::harness::body::empty()).expect("a request")).await;
    match answer.status.as_u16() {
        200 => true,
        401 => {
            assert_eq!((reason_of(&answer).as_str(), world.upstream.count()), ("no-credential", before));
            false
        }
        other => panic!("{other}: {}", answer.text()),
    }
}

/// Signs a token again with members of its header and claims changed.
fn with_header(world: &World, header: Value, claims: &Value) -> String {
    world.provider.sign(header, claims.clone())
}

/// What every token of the table says, with the same `jti` throughout.
fn claims_of(world: &World, sid: &str) -> Value {
    json!({
        "aud": world.provider.client_id(), "sub": null, "client_id": null, "sid": sid, "jti": "the-jti-of-all-rows",
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    })
}

fn changed(claims: &Value, patch: Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in patch.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_token_that_lies_ends_nothing_and_spends_nothing() {
    let world = World::start();
    let browser = world.signed_in().await;
    let sid = world.provider.last_sid().expect("a sid");
    let claims = claims_of(&world, &sid);
    let typ = json!({ "typ": "logout+jwt" });
    let now = (world.gateway.now())();
    let honest = with_header(&world, typ.clone(), &claims);
    let (header, all) = decode(&honest);
    let id_token = {
        // Of the login just now: signed by the same key, for us, with the sid.
        let secrets = world.provider.secrets();
        secrets.into_iter().rev().find(|(kind, _)| *kind == "id_token").expect("an ID token").1
    };
    let mut rows: Vec<(String, &str)> = vec![
        (unsigned(&header, &all), "logout-token-algorithm"),
        (hs256(&header, &all, world.provider.client_secret().as_bytes()), "logout-token-algorithm"),
        (with_broken_signature(&honest), "logout-token-signature"),
        (format!("{honest}.{}.{}", base64url(b"tag"), base64url(b"more")), "logout-token-malformed"),
        ("not a token".to_owned(), "logout-token-malformed"),
        (id_token, "logout-token-event"),
        (with_header(&world, json!({ "typ": "at+jwt" }), &claims), "logout-token-type"),
        (with_header(&world, json!({ "typ": "logout+jwt", "kid": "nobody-has-this-kid" }), &claims), "logout-token-key-unknown"),
        (with_header(&world, json!({ "typ": "logout+jwt", "crit": ["urn:x"], "urn:x": 1 }), &claims), "logout-token-malformed"),
    ];
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for (patch, reason) in [
        (json!({ "iss": "https://another-issuer.test" }), "logout-issuer"),
        (json!({ "iss": null }), "logout-token-malformed"),
        (json!({ "aud": "somebody-else" }), "logout-token-audience"),
        (json!({ "aud": [world.provider.client_id(), "somebody-else"] }), "logout-token-audience"),
        (json!({ "aud": null }), "logout-token-claims"),
        (json!({ "iat": null }), "logout-token-claims"),
        (json!({ "iat": now + 3600, "exp": now + 7200 }), "logout-token-not-yet-valid"),
        (json!({ "iat": now - 3600 }), "logout-token-expired"),
        (json!({ "exp": null }), "logout-token-claims"),
        (json!({ "exp": now - 120 }), "logout-token-expired"),
        (json!({ "sid": null }), "logout-token-subject"),
        (json!({ "events": null }), "logout-token-event"),
        (json!({ "events": { "http://schemas.openid.net/event/another": {} } }), "logout-token-event"),
        (json!({ "events": { event: "yes" } }), "logout-token-event"),
        (json!({ "nonce": "n" }), "logout-token-nonce"),
        (json!({ "jti": null }), "logout-token-claims"),
    ] {
        rows.push((with_header(&world, typ.clone(), &changed(&claims, patch)), reason));
    }
    for (token, reason) in &rows {
        let answer = logout(&world, token).await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (400, *reason), "{}: {token}", answer.text());
        assert_eq!((answer.json()["error"].as_str(), answer.header("cache-control")), (Some("invalid_request"), Some("no-store")));
    }
    assert!(is_alive(&world, &browser).await);
    for (_, reason) in &rows {
        let rows = rows.iter().filter(|row| row.1 == *reason).count();
        assert_eq!(world.answers(reason).await, rows as u64, "{reason}");
    }
    // The `jti` of all of them is still good.
    let answer = logout(&world, &honest).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, Some("no-store")), "{}", answer.text());
    assert_eq!(answer.json(), json!({ "ended": 1 }));
    assert!(!is_alive(&world, &browser).await);
}

/// What each lie is refused for; `None`: it is only unusual.
fn reason_for(lie: LogoutLie) -> Option<&'static str> {
    use LogoutLie as L;
    Some(match lie {
        L::None | L::TypAbsent | L::TypInFull | L::TypJwt | L::AudAsList | L::MoreEvents => return None,
        L::AlgNone | L::Hs256WithPublicKey | L::Hs256WithClientSecret => "logout-token-algorithm",
        L::Es256ByAnotherKey | L::UnknownKid => "logout-token-key-unknown",
        L::OtherKeySameKid | L::BadSignature => "logout-token-signature",
        L::UnknownCrit | L::NoIss => "logout-token-malformed",
        L::TypOther => "logout-token-type",
        L::IdToken | L::NoEvents | L::OtherEvent | L::EventsAsList | L::EventNotObject => "logout-token-event",
        L::WrongIss => "logout-issuer",
        L::WrongAud => "logout-token-audience",
        L::NoAud | L::NoIat | L::NoExp | L::NoJti | L::EmptyJti | L::SubNotString | L::SidNotString => "logout-token-claims",
        L::FutureIat => "logout-token-not-yet-valid",
        L::Expired => "logout-token-expired",
        L::NoncePresent | L::NonceNull => "logout-token-nonce",
        L::NeitherSidNorSub => "logout-token-subject",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_of_a_logout_token_is_refused_for_its_own_reason_and_what_is_only_unusual_ends_the_session() {
    let world = World::start();
    for lie in LogoutLie::ALL {
        let browser = world.signed_in().await;
        let about = json!({ "sid": world.provider.last_sid(), "sub": "alice" });
        let answer = logout(&world, &world.provider.lying_logout_token(lie, about)).await;
        assert_eq!(lie.must_be_accepted(), reason_for(lie).is_none());
        match reason_for(lie) {
            Some(reason) => assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (400, reason), "{lie:?}: {}", answer.text()),
            None => assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "ended": 1 })), "{lie:?}: {}", answer.text()),
        }
        assert_eq!(is_alive(&world, &browser).await, reason_for(lie).is_some(), "{lie:?}");
        // The issuer's keys are looked for once a minute for what anybody can send.
        world.advance(Duration::from_secs(61));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_form_with_one_token_is_refused() {
    let world = World::start();
    let browser = world.signed_in().await;
    let url = world.at("/oauth2/backchannel_logout");
    let token = world.provider.logout_token(json!({ "sid": world.provider.last_sid() }));
    for (kind, body, status, reason) in [
        ("application/json", json!({ "logout_token": token }).to_string(), 400, "parameter-invalid"),
        ("application/logout+jwt", token.clone(), 400, "parameter-invalid"),
        ("text/plain", format!("logout_token={token}"), 400, "parameter-invalid"),
        ("application/x-www-form-urlencoded", String::new(), 400, "parameter-invalid"),
        ("application/x-www-form-urlencoded", "logout_token=".to_owned(), 400, "parameter-invalid"),
        ("application/x-www-form-urlencoded", format!("logout_token={token}&logout_token={token}"), 400, "parameter-repeated"),
        ("application/x-www-form-urlencoded", format!("logout_token={}", "A".repeat(40_000)), 413, "body-too-large"),
        ("application/x-www-form-urlencoded", format!("logout_token={}", "A".repeat(20_000)), 400, "logout-token-malformed"),
    ] {
        let answer = post_as(&url, kind, &body).await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (status, reason), "{kind}: {}", answer.text());
    }
    let answer = fetch(get(&format!("{url}?logout_token={token}"))).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST")));
    assert!(is_alive(&world, &browser).await);
    let answer = post_as(&url, "application/x-www-form-urlencoded; charset=utf-8", &format!("logout_token={token}&more=1")).await;
    assert_eq!(answer.json(), json!({ "ended": 1 }));
    assert!(!is_alive(&world, &browser).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sid_ends_its_session_and_a_sub_alone_all_of_the_persons_sessions() {
    let world = World::start();
    let first = world.signed_in().await;
    let sid = world.provider.last_sid();
    let (second, third) = (world.signed_in().await, world.signed_in().await);
    world.provider.set_user(json!({ "sub": "bob", "name": "Bob" }));
    let bob = world.signed_in().await;

    // The sub beside a sid makes it no more.
    let answer = logout(&world, &world.provider.logout_token(json!({ "sid": sid, "sub": "alice" }))).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "ended": 1 })), "{}", answer.text());
    assert!(!is_alive(&world, &first).await && is_alive(&world, &second).await && is_alive(&world, &third).await);

    let answer = logout(&world, &world.provider.logout_token(json!({ "sub": "alice" }))).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "ended": 2 })), "{}", answer.text());
    assert!(!is_alive(&world, &second).await && !is_alive(&world, &third).await && is_alive(&world, &bob).await);

    // Nobody's: what the provider wants is so already.
    for claims in [json!({ "sub": "alice" }), json!({ "sid": "nobody-has-it" })] {
        let answer = logout(&world, &world.provider.logout_token(claims)).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "ended": 0 })));
    }
    assert!(is_alive(&world, &bob).await);
    // They are gone from the store, not only from memory.
    let world = world.restart();
    assert!(!is_alive(&world, &second).await && is_alive(&world, &bob).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_token_counts_once() {
    let world = World::start();
    let browser = world.signed_in().await;
    let token = world.provider.logout_token(json!({ "sub": "alice" }));
    assert_eq!(logout(&world, &token).await.status, 200);
    assert!(!is_alive(&world, &browser).await);
    let again = world.signed_in().await;
    let world = world.restart();
    for _ in 0..2 {
        let answer = logout(&world, &token).await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (400, "logout-token-replayed"));
        assert!(is_alive(&world, &again).await);
    }
    // Also when it comes ten times at once.
    let token_of_crowd = world.provider.logout_token(json!({ "sub": "nobody" }));
    let crowd: Vec<_> = (0..10)
        .map(|_| {
            let (url, token) = (world.at("/oauth2/backchannel_logout"), token_of_crowd.clone());
            tokio::spawn(async move { post(&url, &[("logout_token", &token)]).await.status.as_u16() })
        })
        .collect();
    let mut statuses = Vec::new();
    for one in crowd {
        statuses.push(one.await.expect("an answer"));
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400, 400, 400, 400, 400, 400, 400, 400, 400]);
    // For as long as its times would let it count, and then they do not.
    world.advance(Duration::from_secs(7 * 60));
    let answer = logout(&world, &token).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (400, "logout-token-expired"));
    assert!(is_alive(&world, &again).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn exp_may_be_left_out_where_the_config_says_that_the_provider_is_old() {
    let shape = Shape { provider: "logout_token_exp = \"optional\"\n", ..Shape::default() };
    let world = World::shaped(shape, |provider| provider);
    let browser = world.signed_in().await;
    let now = (world.gateway.now())();
    let late = world.provider.logout_token(json!({ "sub": "alice", "exp": null, "iat": now - 600 }));
    let answer = logout(&world, &late).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (400, "logout-token-expired"));
    let over = world.provider.logout_token(json!({ "sub": "alice", "exp": now - 120 }));
    assert_eq!(reason_of(&logout(&world, &over).await), "logout-token-expired");
    assert!(is_alive(&world, &browser).await);
    let token = world.provider.logout_token(json!({ "sub": "alice", "exp": null }));
    assert_eq!(logout(&world, &token).await.json(), json!({ "ended": 1 }));
    assert!(!is_alive(&world, &browser).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_a_logout_is_503_and_counts_when_it_comes_again() {
    let redis = Redis::start().await;
    let keys = TempDir::new("keys");
    let seal = keys.write_secret("keys", "QkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGE=\n");
    let tables = format!(
        "[admin]\ntoken = \"an-admin-token-of-the-tests\"\n[store]\nkind = \"redis\"\nurl = \"{}\"\n[keys]\nseal_file = \"{}\"\n",
        redis.url(),
        seal.display()
    );
    let world = World::shaped(Shape { tables: &tables, ..Shape::default() }, |provider| provider);
    let browser = world.signed_in().await;
    let token = world.provider.logout_token(json!({ "sid": world.provider.last_sid() }));
    redis.pause();
    let answer = logout(&world, &token).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (503, "store-unreachable"), "{}", answer.text());
    let answer = fetch(get(&world.at(&front_channel(&world, "any")))).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    // Nor does anybody else hear that nobody is signed in, or that somebody was signed out.
    for (method, target) in [("GET", "/sessions"), ("DELETE", "/sessions?sub=alice")] {
        let request = Request::builder().method(method).uri(format!("{}{target}", world.gateway.admin));
        let request = request.header("authorization", "Bearer an-admin-token-of-the-tests").body(crate::harness::body::empty());
        let answer = fetch(request.expect("a request")).await;
        assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (503, Some("store-unreachable")), "{method} {target}");
    }
    for path in ["/oauth2/session", "/oauth2/userinfo", "/oauth2/sign_out"] {
        let page = browser.clone().get(&world.at(path)).await;
        assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (503, "store-unreachable"), "{path}");
        assert!(page.set_cookies().is_empty(), "{path}");
    }
    redis.resume();
    let answer = eventually_async(|| async {
        let answer = logout(&world, &token).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!is_alive(&world, &browser).await);
    assert_eq!(reason_of(&logout(&world, &token).await), "logout-token-replayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_that_breaks_off_anywhere_spends_nothing() {
    let redis = Redis::options().user_with("gateway", "a-password-of-the-tests", "~* &* +@all").start().await;
    let keys = TempDir::new("keys");
    let seal = keys.write_secret("keys", "QkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGE=\n");
    let tables = format!(
        "[store]\nkind = \"redis\"\nurl = \"{}\"\nusername = \"gateway\"\npassword = \"a-password-of-the-tests\"\n[keys]\nseal_file = \"{}\"\n",
        redis.url(),
        seal.display()
    );
    let world = World::shaped(Shape { tables: &tables, ..Shape::default() }, |provider| provider);
    // Whether it was there before, whose sessions, their end, the note that it was there: whatever the store refuses, once each.
    for (refused, ended) in [("exists", false), ("zrangebyscore", false), ("eval|-evalsha", false), ("set", true)] {
        let browser = world.signed_in().await;
        let token = world.provider.logout_token(json!({ "sub": "alice" }));
        let rules: Vec<String> = refused.split('|').map(|name| format!("-{}", name.trim_start_matches('-'))).collect();
        let deny: Vec<&str> = ["ACL", "SETUSER", "gateway"].into_iter().chain(rules.iter().map(String::as_str)).collect();
        assert_eq!(redis.cli(&deny).await.trim(), "OK");
        let answer = logout(&world, &token).await;
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (503, "store-unreachable"), "{refused}: {}", answer.text());
        assert_eq!(redis.cli(&["ACL", "SETUSER", "gateway", "+@all"]).await.trim(), "OK");
        assert_eq!(is_alive(&world, &browser).await, !ended, "{refused}");
        let answer = logout(&world, &token).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "ended": u8::from(!ended) })), "{refused}");
        assert!(!is_alive(&world, &browser).await, "{refused}");
        assert_eq!(reason_of(&logout(&world, &token).await), "logout-token-replayed", "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_providers_keys_a_logout_is_503_and_counts_when_it_comes_again() {
    let world = World::start();
    let browser = world.signed_in().await;
    let token = world.provider.logout_token(json!({ "sid": world.provider.last_sid() }));
    let world = world.restart();
    world.provider.set(Lie::Status(Endpoint::Jwks, 500));
    let answer = logout(&world, &token).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (503, "keys-unreachable"), "{}", answer.text());
    assert!(is_alive(&world, &browser).await);
    world.provider.set(Lie::None);
    world.advance(Duration::from_secs(6));
    assert_eq!(logout(&world, &token).await.json(), json!({ "ended": 1 }));
    assert!(!is_alive(&world, &browser).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_tokens_cost_the_provider_one_look_at_its_keys() {
    let world = World::start();
    let browser = world.signed_in().await;
    let before = world.provider.count(Endpoint::Jwks);
    for n in 0..10 {
        let header = json!({ "typ": "logout+jwt", "kid": format!("invented-{n}") });
        let token = world.provider.sign(header, claims_of(&world, "x"));
        let answer = logout(&world, &token).await;
        // Once the provider was asked for it; then nobody knows, and a true one would have to come again.
        let expected = if n == 0 { (400, "logout-token-key-unknown") } else { (503, "logout-token-key-later") };
        assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), expected);
        assert_eq!(answer.header("retry-after").is_some(), n > 0);
    }
    assert!(world.provider.count(Endpoint::Jwks) <= before + 1);
    assert!(is_alive(&world, &browser).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_whose_session_the_provider_ended_meanwhile_gets_none() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/app").await;
    let sid = world.provider.last_sid().expect("a sid");
    let answer = logout(&world, &world.provider.logout_token(json!({ "sid": sid }))).await;
    assert_eq!(answer.json(), json!({ "ended": 0 }));
    let page = browser.follow(&page).await;
    assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (400, "sid-ended"), "{}", page.text());
    assert!(world.session(&browser).is_none());
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_registrations_with_one_provider_are_told_by_the_audience() {
    let hostile = HostileProvider::start();
    let upstream = EchoUpstream::start();
    let table = |id: &str, client_id: &str| {
        let one = provider(&hostile.issuer(), client_id, hostile.client_secret());
        format!("{}id = \"{id}\"\n", one.replace("[provider]", "[[provider]]"))
    };
    let config = format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n{}{}",
        upstream.url(),
        table("other", "another-registration"),
        table("main", hostile.client_id())
    );
    let gateway = Gateway::start(&config);
    let url = format!("{}/oauth2/backchannel_logout", gateway.url);
    for audience in [hostile.client_id(), "another-registration"] {
        let token = hostile.logout_token(json!({ "aud": audience, "sub": "alice" }));
        let answer = post(&url, &[("logout_token", &token)]).await;
        assert_eq!(answer.status, 200, "{audience}: {}", answer.text());
    }
    let token = hostile.logout_token(json!({ "aud": "a-third", "sub": "alice" }));
    assert_eq!(reason_of(&post(&url, &[("logout_token", &token)]).await), "logout-token-audience");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_providers_own_logout_ends_the_session_here() {
    let port = free_port();
    let own = format!("http://127.0.0.1:{port}");
    let real = OidcProviderBuilder::new(&format!("{own}/oauth2/callback"))
        .client("backchannel_logout_uri", json!(format!("{own}/oauth2/backchannel_logout")))
        .client("backchannel_logout_session_required", json!(true))
        .start()
        .await;
    let upstream = EchoUpstream::start();
    let config = format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n{}",
        upstream.url(),
        provider(real.issuer(), oidc_provider::CLIENT_ID, oidc_provider::CLIENT_SECRET)
    );
    let gateway = Gateway::start_on(port, &config);
    let mut browser = Browser::new();
    let page = browser.get(&format!("{own}/app")).await;
    let page = oidc_provider::log_in(&mut browser, page, "alice", &gateway.redirect_uri()).await;
    assert_eq!(browser.follow_all(page).await.status, 200);
    let before = upstream.count();

    // At the provider, by its own page; nothing of ours is asked by the browser.
    let page = browser.get(&format!("{}/session/end", real.issuer())).await;
    let page = browser.submit(&page, &page.form(), &[]).await;
    assert!(page.url.as_str().starts_with(real.issuer()), "{}", page.summary());
    assert!(browser.cookie("doorward").is_some());
    assert!(gateway.access_line("/oauth2/backchannel_logout").await.contains("200"), "{}", real.output());
    let answer = browser.fetch_api(http::Method::GET, &format!("{own}/app"), &[], b"").await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (401, "no-credential"));
    assert_eq!(upstream.count(), before);
}

fn front_channel(world: &World, sid: &str) -> String {
    format!("/oauth2/frontchannel_logout?{}", encode(&[("iss", &world.provider.issuer()), ("sid", sid)]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_on_the_providers_page_ends_what_it_names_without_cookies() {
    let world = World::start();
    let first = world.signed_in().await;
    let sid = world.provider.last_sid().expect("a sid");
    let second = world.signed_in().await;
    let issuer = world.provider.issuer();
    for (query, reason) in [
        (String::new(), "parameter-invalid"),
        (encode(&[("iss", &issuer)]), "parameter-invalid"),
        (encode(&[("sid", &sid)]), "parameter-invalid"),
        (encode(&[("iss", &issuer), ("sid", "")]), "parameter-invalid"),
        (encode(&[("iss", &issuer), ("sid", &sid), ("sid", &sid)]), "parameter-repeated"),
        (encode(&[("iss", "https://another-issuer.test"), ("sid", &sid)]), "logout-issuer"),
    ] {
        // With the cookie too: it is nobody's word for who is meant.
        for browser in [&mut Browser::new(), &mut first.clone()] {
            let page = browser.get(&world.at(&format!("/oauth2/frontchannel_logout?{query}"))).await;
            assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (400, reason), "{query}: {}", page.text());
            assert_eq!(page.header("x-frame-options"), Some("DENY"));
        }
    }
    let unknown = first.clone().frame(&issuer, &world.at(&front_channel(&world, "nobody-has-it"))).await;
    assert_eq!(unknown.status, 200);
    assert!(is_alive(&world, &first).await && is_alive(&world, &second).await);

    let page = first.clone().frame(&issuer, &world.at(&front_channel(&world, &sid))).await;
    assert_eq!((page.status.as_u16(), page.header("cache-control")), (200, Some("no-store")), "{}", page.text());
    assert!(page.set_cookies().is_empty(), "{:?}", page.set_cookies());
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains(&format!("frame-ancestors {issuer};")), "{policy}");
    assert_eq!(page.header("x-frame-options"), None);
    // It tells nobody whether there was something to end.
    assert_eq!(page.visible_text().split("Request").next(), unknown.visible_text().split("Request").next());
    assert!(!is_alive(&world, &first).await && is_alive(&world, &second).await);
    let answer = post(&world.at("/oauth2/frontchannel_logout"), &[("iss", &issuer), ("sid", &sid)]).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_under_way_gets_no_session_after_a_front_channel_logout_of_a_sid_that_was_there() {
    let world = World::start();
    let browser = world.signed_in().await;
    let sid = world.provider.last_sid().expect("a sid");
    fetch(get(&world.at(&front_channel(&world, &sid)))).await;
    assert!(!is_alive(&world, &browser).await);
    // What nobody had leaves nothing behind.
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/app").await;
    let sid = world.provider.last_sid().expect("a sid");
    fetch(get(&world.at(&front_channel(&world, &sid)))).await;
    let page = browser.follow(&page).await;
    assert_eq!(browser.follow_all(page).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_browser_shows_the_page_in_the_providers_frame_and_in_no_other() {
    let world = World::start();
    let browser = world.signed_in().await;
    let sid = world.provider.last_sid().expect("a sid");
    let framed = world.at(&front_channel(&world, &sid));
    let framing = format!("<!doctype html><title>Signing out</title><iframe src=\"{}\"></iframe>", framed.replace('&', "&amp;"));
    let page = framing.clone();
    let stranger = Server::start(
        Listen::Tcp,
        std::sync::Arc::new(move |_, _| {
            let page = page.clone();
            Box::pin(async move { http::Response::builder().header("content-type", "text/html").body(full(page)).expect("a page") })
        }),
    );
    let chromium = Chromium::start().await;
    chromium.go(&format!("http://{}/", stranger.address())).await;
    let console = eventually_async(|| async {
        let lines = chromium.console().await;
        lines.into_iter().find(|line| line.contains("frame-ancestors"))
    })
    .await;
    assert!(console.contains(&world.provider.issuer()), "{console}");

    // On the provider's own page it is shown.
    chromium.go(&world.provider.issuer()).await;
    let script = "document.body.innerHTML = ''; const f = document.createElement('iframe'); f.src = arguments[0]; f.width = 600; f.height = 400; \
                  f.onload = () => { document.title = 'framed'; }; document.body.append(f);";
    chromium.execute(script, json!([framed])).await;
    eventually_async(|| async { (chromium.title().await == "framed").then_some(()) }).await;
    chromium.screenshot("frontchannel-logout").await;
    let lines = chromium.console().await;
    assert!(!lines.iter().any(|line| line.contains("frame-ancestors") || line.contains("Refused")), "{lines:?}");
    assert!(!is_alive(&world, &browser).await);
}

/// Asks until there is an answer.
async fn eventually_async<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    for _ in 0..200 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain");
}
