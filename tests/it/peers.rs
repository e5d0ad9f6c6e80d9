//! The peers that other tests stand on are what they are said to be, where that is more than what an ordinary login shows: the hostile
//! provider's refresh, revocation and logout tokens, two gateways as one, streams that note their end.

#![allow(clippy::disallowed_methods, reason = "how long something took is told by the machine's own clock")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use http::Request;
use serde_json::{Value, json};
use url::Url;

use crate::harness::answer::FetchError;
use crate::harness::browser::Browser;
use crate::harness::durations::Durations;
use crate::harness::gateway::provider;
use crate::harness::held::{Held, How};
use crate::harness::hostile::{Endpoint, HostileProvider, Lie, LogoutLie};
use crate::harness::http::{Answer, HttpClient, fetch, get, post_form};
use crate::harness::jose::{decode, random, s256, verify};
use crate::harness::load::Outcome;
use crate::harness::oidc_provider::{AcrMode, CLIENT_ID, CLIENT_SECRET, OidcProviderBuilder};
use crate::harness::pair::{Pair, Side};
use crate::harness::redis::Redis;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::eventually;

/// Asks the token endpoint, or the one for revocation, as our registration.
async fn ask(provider: &HostileProvider, path: &str, form: &[(&str, &str)]) -> Result<Answer, FetchError> {
    let url = format!("{}{path}", provider.issuer());
    let form = [form, &[("client_id", provider.client_id()), ("client_secret", provider.client_secret())]].concat();
    HttpClient::new().try_fetch(post_form(&url, &form)).await
}

/// Logs in; `more` goes into the authorization request. The token answer.
async fn login(provider: &HostileProvider, more: &[(&str, &str)]) -> Value {
    let (verifier, callback) = (random(), "http://127.0.0.1:9/callback");
    let challenge = s256(&verifier);
    let mut url = Url::parse(&format!("{}/authorize", provider.issuer())).expect("a URL");
    url.query_pairs_mut()
        .extend_pairs([
            ("client_id", provider.client_id()),
            ("redirect_uri", callback),
            ("response_type", "code"),
            ("scope", "openid email"),
        ])
        .extend_pairs([("state", "s"), ("nonce", "n"), ("code_challenge", &challenge), ("code_challenge_method", "S256")])
        .extend_pairs(more);
    let back = Url::parse(fetch(get(url.as_str())).await.location().expect("a redirect")).expect("a URL");
    let code = back.query_pairs().find(|(name, _)| name == "code").expect("a code").1.into_owned();
    let form = [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", callback), ("code_verifier", &verifier)];
    ask(provider, "/token", &form).await.expect("an answer").json()
}

async fn refresh(provider: &HostileProvider, tokens: &Value) -> Result<Answer, FetchError> {
    let token = tokens["refresh_token"].as_str().expect("a refresh token");
    ask(provider, "/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
}

async fn refreshed(provider: &HostileProvider, tokens: &Value) -> Value {
    refresh(provider, tokens).await.expect("an answer").json()
}

async fn userinfo(provider: &HostileProvider, tokens: &Value) -> Answer {
    let token = format!("Bearer {}", tokens["access_token"].as_str().expect("an access token"));
    let request = Request::get(format!("{}/userinfo", provider.issuer())).header("authorization", token);
    fetch(request.body(crate::harness::body::empty()).expect("a request")).await
}

fn claims(tokens: &Value) -> Value {
    decode(tokens["id_token"].as_str().expect("an ID token")).1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_refresh_token_that_comes_back_ends_its_grant_and_no_other() {
    let provider = HostileProvider::builder().refresh(true).start();
    let (first, beside) = (login(&provider, &[]).await, login(&provider, &[]).await);
    provider.change_user(json!({ "groups": ["new"] }));
    let second = refreshed(&provider, &first).await;
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    for name in ["iss", "sub", "aud", "auth_time", "sid"] {
        assert_eq!(claims(&second)[name], claims(&first)[name], "{name}");
    }
    assert_eq!((&claims(&second)["groups"], claims(&second).get("nonce")), (&json!(["new"]), None));
    assert!(provider.complaints().is_empty() && userinfo(&provider, &second).await.status == 200);
    assert_eq!(refreshed(&provider, &first).await["error"], "invalid_grant");
    assert_eq!(provider.complaints().len(), 1, "{:?}", provider.complaints());
    assert_eq!(refreshed(&provider, &second).await["error"], "invalid_grant");
    assert_eq!(userinfo(&provider, &second).await.status, 401);
    assert_eq!(userinfo(&provider, &beside).await.status, 200);
    assert!(refreshed(&provider, &beside).await["access_token"].is_string());
    assert_eq!((provider.count(Endpoint::Token), provider.count(Endpoint::Refresh), provider.refreshes_at_once()), (6, 4, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_of_a_refresh_is_told_and_a_login_beside_it_is_honest() {
    let provider = HostileProvider::builder().refresh(true).start();
    for lie in Lie::of_refresh() {
        provider.set(Lie::None);
        let honest = login(&provider, &[]).await;
        provider.set(lie.clone());
        let login_beside = login(&provider, &[]).await;
        assert_eq!((&claims(&login_beside)["sub"], &login_beside["scope"]), (&json!("alice"), &json!("openid email")), "{lie:?}");
        assert!(verify(login_beside["id_token"].as_str().expect("an ID token"), &provider.jwks()).is_ok(), "{lie:?}");
        let answer = refreshed(&provider, &honest).await;
        let differs = |name: &str| claims(&answer).get(name) != claims(&honest).get(name);
        let told = match lie {
            Lie::RefreshOtherSub => differs("sub"),
            Lie::RefreshOtherIss => differs("iss"),
            Lie::RefreshOtherAud => differs("aud"),
            Lie::RefreshOtherAzp => differs("azp"),
            Lie::RefreshOtherNonce => claims(&answer)["nonce"].is_string() && differs("nonce"),
            Lie::RefreshOtherAuthTime => differs("auth_time"),
            Lie::RefreshExpired => claims(&answer)["exp"].as_u64() < claims(&honest)["iat"].as_u64(),
            Lie::RefreshBadSignature => verify(answer["id_token"].as_str().expect("one"), &provider.jwks()).is_err(),
            Lie::RefreshNoIdToken => answer.get("id_token").is_none() && answer["access_token"].is_string(),
            Lie::RefreshNoAccessToken => answer.get("access_token").is_none(),
            Lie::RefreshNotRotated => answer.get("refresh_token").is_none() && refreshed(&provider, &honest).await["id_token"].is_string(),
            Lie::RefreshShorterScope => answer["scope"] == "openid",
            Lie::RefreshRefused => answer["error"] == "invalid_grant",
            Lie::RefreshInvalidClient => answer["error"] == "invalid_client",
            ref other => panic!("no row for {other:?}"),
        };
        assert!(told, "{lie:?}: {answer}");
        // What was refused was not used.
        if matches!(lie, Lie::RefreshRefused | Lie::RefreshInvalidClient) {
            provider.set(Lie::None);
            assert!(refreshed(&provider, &honest).await["refresh_token"].is_string(), "{lie:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_may_be_slow_cut_off_or_silent_while_logins_are_well() {
    let provider = HostileProvider::builder().refresh(true).start();
    let tokens = login(&provider, &[]).await;
    provider.set(Lie::SlowAnswer(Endpoint::Refresh, Duration::from_secs(2)));
    let began = Instant::now();
    let (one, two, beside) = tokio::join!(refresh(&provider, &tokens), refresh(&provider, &tokens), async {
        let tokens = login(&provider, &[]).await;
        (tokens, began.elapsed())
    });
    assert!(beside.1 < Duration::from_millis(1900) && began.elapsed() >= Duration::from_secs(2), "{:?}", beside.1);
    assert_eq!(provider.refreshes_at_once(), 2);
    let statuses = BTreeSet::from([one, two].map(|answer| answer.expect("an answer").status.as_u16()));
    assert_eq!(statuses, BTreeSet::from([200, 400]), "one of the two came second");

    // Cut off: the token is used up. Closed before anything was done, or no answer: it is not.
    let tokens = beside.0;
    for (lie, used) in [
        (Lie::Silent(Endpoint::Refresh), false),
        (Lie::Closes(Endpoint::Refresh), false),
        (Lie::Status(Endpoint::Refresh, 500), false),
        (Lie::NotJson(Endpoint::Refresh), false),
        (Lie::HalfAnswer(Endpoint::Refresh), true),
    ] {
        provider.reset_counts();
        let tokens = if used { tokens.clone() } else { login(&provider, &[]).await };
        provider.set(lie.clone());
        let form = [("grant_type", "refresh_token"), ("refresh_token", tokens["refresh_token"].as_str().expect("one"))];
        let waited = tokio::time::timeout(Duration::from_millis(500), ask(&provider, "/token", &form)).await;
        match (&lie, waited) {
            (Lie::Silent(_), Err(_elapsed)) => {}
            (Lie::Closes(_) | Lie::HalfAnswer(_), Ok(Err(FetchError::Broken(_)))) => {}
            (Lie::Status(..), Ok(Ok(answer))) => assert_eq!(answer.status, 500),
            (Lie::NotJson(_), Ok(Ok(answer))) => assert!(answer.text().starts_with('<')),
            (lie, other) => panic!("{lie:?}: {other:?}"),
        }
        provider.set(Lie::None);
        eventually("the end of what was given up", || (provider.refreshes_under_way() == 0).then_some(())).await;
        let answer = refreshed(&provider, &tokens).await;
        assert_eq!(answer["error"] == "invalid_grant", used, "{lie:?}: {answer}");
        assert_eq!(provider.refreshes_at_once(), 1, "{lie:?}: one that was given up counts no more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_end_by_the_providers_clock_by_revocation_and_by_its_administrator() {
    let ahead = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let passed = std::sync::Arc::clone(&ahead);
    let clock = std::sync::Arc::new(move || 1_000_000 + passed.load(std::sync::atomic::Ordering::SeqCst));
    let provider = HostileProvider::builder().refresh(true).clock(clock).start();
    provider.set_expires_in(60, true);
    provider.set_refresh_expires_in(600);
    let tokens = login(&provider, &[]).await;
    assert_eq!((&tokens["expires_in"], &tokens["refresh_expires_in"]), (&json!(60), &json!(600)));
    ahead.store(60, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(userinfo(&provider, &tokens).await.status, 401);
    provider.set_expires_in(60, false);
    let tokens = refreshed(&provider, &tokens).await;
    assert!(tokens.get("expires_in").is_none() && userinfo(&provider, &tokens).await.status == 200);
    ahead.store(660, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(refreshed(&provider, &tokens).await["error"], "invalid_grant");

    let tokens = login(&provider, &[]).await;
    let refresh_token = tokens["refresh_token"].as_str().expect("one");
    provider.set(Lie::Status(Endpoint::Revocation, 503));
    let form = [("token", refresh_token), ("token_type_hint", "refresh_token")];
    assert_eq!(ask(&provider, "/revoke", &form).await.expect("an answer").status, 503);
    assert!(provider.revocations().is_empty() && userinfo(&provider, &tokens).await.status == 200);
    provider.set(Lie::None);
    assert_eq!(ask(&provider, "/revoke", &form).await.expect("an answer").status, 200);
    assert_eq!(provider.revocations()[0]["token"], refresh_token);
    assert_eq!((userinfo(&provider, &tokens).await.status.as_u16(), provider.count(Endpoint::Revocation)), (401, 2));
    assert_eq!(refreshed(&provider, &tokens).await["error"], "invalid_grant");

    let tokens = login(&provider, &[]).await;
    provider.end_grants();
    assert_eq!(userinfo(&provider, &tokens).await.status, 401);
    assert_eq!(refreshed(&provider, &tokens).await["error"], "invalid_grant");
    assert!(provider.complaints().is_empty(), "{:?}", provider.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_worth_what_was_asked_unless_the_provider_lies() {
    let ahead = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let passed = std::sync::Arc::clone(&ahead);
    let clock = std::sync::Arc::new(move || 1_000_000 + passed.load(std::sync::atomic::Ordering::SeqCst));
    let provider = HostileProvider::builder().remembers_login().clock(clock).start();
    let worth = async |more: &[(&str, &str)]| {
        let claims = claims(&login(&provider, more).await);
        (claims["auth_time"].as_u64(), claims["acr"].as_str().map(str::to_owned))
    };
    assert_eq!(worth(&[]).await, (Some(1_000_000), None));
    ahead.store(100, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(worth(&[("max_age", "100")]).await, (Some(1_000_000), None));
    assert_eq!(worth(&[("max_age", "99")]).await, (Some(1_000_100), None));
    ahead.store(200, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(worth(&[("acr_values", "mfa pwd")]).await, (Some(1_000_200), Some("mfa".to_owned())));
    ahead.store(300, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(worth(&[("acr_values", "mfa")]).await, (Some(1_000_200), Some("mfa".to_owned())));
    assert_eq!(worth(&[("prompt", "login")]).await, (Some(1_000_300), None));
    let asked = [("acr_values", "mfa"), ("max_age", "0")];
    for (lie, expected) in [
        (Lie::AcrMissing, (Some(1_000_300), None)),
        (Lie::AcrWeaker("pwd"), (Some(1_000_300), Some("pwd".to_owned()))),
        (Lie::AuthTimeMissing, (None, Some("mfa".to_owned()))),
        (Lie::AuthTimeOld, (Some(1_000_300 - 86_400), Some("mfa".to_owned()))),
    ] {
        provider.set(lie.clone());
        assert_eq!(worth(&asked).await, expected, "{lie:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_logout_token_is_another_one() {
    let provider = HostileProvider::start();
    let seen: Vec<(Value, Value, bool)> = LogoutLie::ALL
        .into_iter()
        .map(|lie| {
            let token = provider.lying_logout_token(lie, json!({ "sid": "s", "sub": "alice" }));
            let (header, mut claims) = decode(&token);
            if claims.get("jti").is_some_and(|jti| jti != "") {
                claims["jti"] = json!("by chance");
            }
            let good = verify(&token, &provider.jwks()).is_ok();
            use LogoutLie as L;
            let forged = matches!(
                lie,
                L::AlgNone
                    | L::Hs256WithPublicKey
                    | L::Hs256WithClientSecret
                    | L::Es256ByAnotherKey
                    | L::OtherKeySameKid
                    | L::BadSignature
                    | L::UnknownKid
            );
            assert_eq!(good, !forged, "{lie:?}");
            (header, claims, good)
        })
        .collect();
    let honest = &seen[0].1;
    assert_eq!((&honest["sid"], &honest["sub"], &honest["aud"]), (&json!("s"), &json!("alice"), &json!(provider.client_id())));
    let names: BTreeSet<&str> = honest.as_object().expect("claims").keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["aud", "events", "exp", "iat", "iss", "jti", "sid", "sub"]));
    for (n, one) in seen.iter().enumerate() {
        for (m, other) in seen.iter().enumerate().take(n) {
            // These two are the same but for who signed.
            let same = [LogoutLie::ALL[m], LogoutLie::ALL[n]] == [LogoutLie::OtherKeySameKid, LogoutLie::BadSignature];
            assert!(same || one != other, "{:?} and {:?}", LogoutLie::ALL[m], LogoutLie::ALL[n]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_are_one_place_and_a_held_stream_notes_which_of_them_went() {
    let (provides, upstream, redis) = (HostileProvider::start(), EchoUpstream::start(), Redis::start().await);
    let place = Pair::place();
    let text = format!(
        "upstream = \"{}\"\nallow = \"any-authenticated\"\n{}",
        upstream.url(),
        provider(&provides.issuer(), provides.client_id(), provides.client_secret())
    );
    let mut pair = Pair::start(&place, &redis, &text).await;
    let mut browser = pair.browser(Side::One);
    let page = browser.get(&pair.url("/app")).await;
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let mut browser: Browser = pair.moved(browser, Side::Other);
    assert_eq!(browser.get(&pair.url("/app")).await.status, 200);
    assert!(pair.metric(Side::Other, "doorward_requests_total{").await >= 1);

    let cookie = browser.cookie_header(&pair.url("/"));
    let headers = [("cookie", cookie.as_str())];
    let (sse, ws) = (pair.url("/sse"), pair.url("/ws"));
    let refused = Held::events(&pair.http(Side::One), &sse, &[]).await.err().expect("nobody is signed in");
    assert_eq!(refused.status, 401);
    let mut held = Vec::new();
    for side in [Side::One, Side::Other] {
        let http = pair.http(side);
        let (events, socket) = tokio::join!(Held::events(&http, &sse, &headers), Held::websocket(&http, &ws, &headers));
        held.push((side, events.unwrap_or_else(|answer| panic!("{}", answer.text()))));
        held.push((side, socket.unwrap_or_else(|answer| panic!("{}", answer.text()))));
    }
    let mut took = Durations::default();
    let killed = Instant::now();
    pair.killed_and_started(Side::One).await;
    for (side, stream) in &held {
        assert!(stream.pieces() > 0);
        let end = stream.ends_within(Duration::from_millis(if *side == Side::One { 5000 } else { 0 })).await;
        match (side, end) {
            (Side::One, Some((at, How::Broken(_)))) => took.push(at.saturating_duration_since(killed)),
            (Side::Other, None) => {}
            (_, other) => panic!("{side:?}: {other:?}"),
        }
    }
    assert_eq!((took.len(), took.longest() == took.p99()), (2, true));
    assert!(took.median() <= took.p99() && took.longest() < Duration::from_secs(2), "{took}");
    // It is there again, and knows the session.
    let mut browser = pair.moved(browser, Side::One);
    assert_eq!(browser.get(&pair.url("/app")).await.status, 200);
    assert_eq!(Side::One.opposite(), Side::Other);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_provider_takes_every_switch() {
    let real = OidcProviderBuilder::new("http://127.0.0.1:9/oauth2/callback")
        .backchannel_logout("http://127.0.0.1:9/oauth2/backchannel_logout")
        .rotating_refresh_tokens()
        .lifetimes(10, 20, 30)
        .acr_values(&["1", "2"])
        .start()
        .await;
    let document = fetch(get(&format!("{}/.well-known/openid-configuration", real.issuer()))).await.json();
    assert_eq!(document["acr_values_supported"], json!(["1", "2"]));
    assert_eq!(document["backchannel_logout_session_supported"], true);
    assert_eq!(document.get("frontchannel_logout_supported"), None, "then the harness can do more than it says");
    real.delay("token:refresh_token", 1500).await;
    let asked = async |grant_type: &str| {
        let began = Instant::now();
        let form = [("grant_type", grant_type), ("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET), ("refresh_token", "x")];
        let answer = fetch(post_form(document["token_endpoint"].as_str().expect("a URL"), &form)).await;
        (answer.status.as_u16(), began.elapsed() >= Duration::from_millis(1500))
    };
    assert_eq!(asked("refresh_token").await, (400, true));
    assert!(!asked("authorization_code").await.1);
    let counts = (real.count("token").await, real.count("token:refresh_token").await, real.count("revocation").await);
    assert_eq!(counts, (2, 1, 0));
    // What each comes to, its own selftest says.
    for mode in [AcrMode::Ignored, AcrMode::Refused, AcrMode::Granted] {
        real.acr(mode).await;
    }
}

#[test]
fn what_wrk_writes_is_read() {
    let text = "Running 1s test @ http://x/\n  2 threads and 64 connections\n  12345 requests in 1.10s, 1.97MB read\n  Socket errors: connect 1, read 2, write 30, timeout 400\n  Non-2xx or 3xx responses: 56\nRequests/sec:   2201.01\n";
    let told = Outcome::read(text.to_owned());
    assert_eq!((told.answered, told.refused, told.broken), (12345, 56, 433));
    let sound = Outcome::read("  7 requests in 1.10s, 1.97MB read\n".to_owned());
    assert_eq!((sound.answered, sound.refused, sound.broken), (7, 0, 0));
}
