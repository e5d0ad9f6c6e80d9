//! A provider that lies: each lie ends with its own reason, without a session, with the upstream untouched and nothing asked further; the next
//! honest login works.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::time::Duration;

use crate::harness::browser::{Browser, Page};
use crate::harness::hostile::{ClaimsIn, ClientAuth, Endpoint, Lie};
use crate::harness::jose::Algorithm;
use crate::harness::world::{Shape, World, reason_of};

/// Longer than documents and keys count.
const LATER: Duration = Duration::from_secs(2 * 60 * 60);

/// How a login ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// In the app.
    Accepted,
    /// In the app's 403.
    Denied(&'static str),
    /// Nowhere. The last that the provider is asked is this endpoint.
    Refused(&'static str, Endpoint),
}

/// What has to come of a lie. A lie without a row here fails the test.
fn verdict(lie: &Lie) -> Verdict {
    use Endpoint::{Authorization, Token, Userinfo};
    use Verdict::{Accepted, Denied, Refused};
    match lie {
        accepted if accepted.must_be_accepted() => Accepted,
        Lie::WrongIss | Lie::IssWithSlash => Refused("id-token-issuer", Token),
        Lie::WrongAud | Lie::ExtraUntrustedAud => Refused("id-token-audience", Token),
        Lie::WrongAzp => Refused("id-token-authorized-party", Token),
        Lie::NonceMissing | Lie::NonceOther => Refused("id-token-nonce", Token),
        Lie::Expired => Refused("id-token-expired", Token),
        Lie::FutureIat | Lie::NotYetValid => Refused("id-token-not-yet-valid", Token),
        Lie::NoIss | Lie::NoAud | Lie::NoExp | Lie::NoIat | Lie::NoSub | Lie::EmptySub | Lie::SubNotString => {
            Refused("id-token-claims", Token)
        }
        Lie::AtHashWrong => Refused("id-token-access-token-hash", Token),
        Lie::BadSignature | Lie::OtherKeySameKid => Refused("id-token-signature", Token),
        Lie::AlgNone | Lie::Hs256WithPublicKey | Lie::Hs256WithClientSecret => Refused("id-token-algorithm", Token),
        Lie::UnknownKid | Lie::EcKeyForRsaAlg | Lie::JwksEmpty | Lie::KidAbsentSeveralKeys => Refused("id-token-key-unknown", Token),
        Lie::UnknownCrit => Refused("id-token-malformed", Token),
        Lie::UserinfoOtherSub | Lie::UserinfoNoSub => Refused("userinfo-subject", Userinfo),
        Lie::ResponseIssWrong => Refused("response-issuer", Authorization),
        Lie::ResponseIssMissingThoughPromised => Refused("response-issuer-missing", Authorization),
        Lie::StateMissing | Lie::StateOther => Refused("state-unknown", Authorization),
        Lie::ResponseIssTwice | Lie::StateTwice | Lie::CodeTwice => Refused("parameter-repeated", Authorization),
        Lie::ErrorResponse(_) => Refused("provider-error", Authorization),
        Lie::NoIdToken => Refused("id-token-missing", Token),
        Lie::NoAccessToken | Lie::TokenTypeOther | Lie::TokenTypeDpop | Lie::RedirectFromTokenEndpoint => Refused("token-response", Token),
        Lie::CodeRefused | Lie::Status(Token, 400 | 401) => Refused("code-refused", Token),
        Lie::Status(Token, _) | Lie::Closes(Token) => Refused("provider-unreachable", Token),
        Lie::NotJson(Token) | Lie::EndlessAnswer(Token) | Lie::HugeAnswer(Token) => Refused("token-response", Token),
        Lie::Status(Userinfo, 401 | 403) => Refused("userinfo-malformed", Userinfo),
        Lie::Status(Userinfo, _) | Lie::Closes(Userinfo) => Refused("provider-unreachable", Userinfo),
        Lie::NotJson(Userinfo) | Lie::EndlessAnswer(Userinfo) | Lie::HugeAnswer(Userinfo) => Refused("userinfo-malformed", Userinfo),
        Lie::HugeGroups => Denied("identity-too-large"),
        // Whom they let in is the policies' matter; here everybody is.
        Lie::GroupsOverage
        | Lie::GroupsOverageHasgroups
        | Lie::EmailVerifiedString
        | Lie::EmailVerifiedFalse
        | Lie::EmailAbsentVerified
        | Lie::ClaimsWithControlBytes
        | Lie::GroupsAsString => Accepted,
        other => panic!("no row for {other:?}"),
    }
}

/// The lies after discovery. Those of the discovery document and the keys' endpoint need a gateway that knows nothing yet.
fn lies() -> Vec<Lie> {
    let mut lies = Lie::of_id_token();
    lies.extend(Lie::of_refresh());
    lies.extend([
        Lie::UserinfoOtherSub,
        Lie::UserinfoNoSub,
        Lie::ResponseIssWrong,
        Lie::ResponseIssMissingThoughPromised,
        Lie::ResponseIssTwice,
        Lie::StateMissing,
        Lie::StateOther,
        Lie::StateTwice,
        Lie::CodeTwice,
        Lie::ErrorResponse("access_denied"),
        Lie::ErrorResponse("<script>alert(1)</script>"),
        Lie::NoIdToken,
        Lie::NoAccessToken,
        Lie::TokenTypeOther,
        Lie::TokenTypeShouted,
        Lie::TokenTypeDpop,
        Lie::RedirectFromTokenEndpoint,
        Lie::CodeRefused,
        Lie::TOKEN_ENDPOINT_500,
        Lie::TOKEN_NOT_JSON,
        Lie::USERINFO_DOWN,
        Lie::AcrMissing,
        Lie::AcrWeaker("guest"),
        Lie::AuthTimeMissing,
        Lie::AuthTimeOld,
        Lie::LogoutStateOther,
        Lie::LogoutStateMissing,
        Lie::GroupsOverage,
        Lie::GroupsOverageHasgroups,
        Lie::EmailVerifiedString,
        Lie::EmailVerifiedFalse,
        Lie::EmailAbsentVerified,
        Lie::HugeGroups,
        Lie::ClaimsWithControlBytes,
        Lie::GroupsAsString,
    ]);
    for status in [400, 401, 503] {
        lies.push(Lie::Status(Endpoint::Token, status));
    }
    for status in [401, 403, 500] {
        lies.push(Lie::Status(Endpoint::Userinfo, status));
    }
    lies.push(Lie::NotJson(Endpoint::Userinfo));
    for endpoint in [Endpoint::Token, Endpoint::Userinfo] {
        lies.extend([Lie::Closes(endpoint), Lie::EndlessAnswer(endpoint), Lie::HugeAnswer(endpoint)]);
    }
    lies
}

/// Whether a refusal is one of the way through login, which counts its outcomes, or of the request before it.
fn counted(reason: &str) -> bool {
    !matches!(reason, "state-unknown" | "parameter-repeated")
}

fn status(reason: &str) -> u16 {
    match reason {
        "provider-unreachable" | "keys-unreachable" => 503,
        "state-unknown" | "parameter-repeated" | "provider-error" | "response-issuer" | "response-issuer-missing" => 400,
        _ => 502,
    }
}

/// Nobody is in, nobody was told anything, and the page leads on to where the person wanted to go.
async fn refused(world: &World, browser: &mut Browser, page: &Page, reason: &str, asked: Endpoint, what: &str) {
    assert_eq!((page.status.as_u16(), reason_of(page)), (status(reason), reason.to_owned()), "{what}: {}", page.text());
    assert_eq!(page.header("retry-after").is_some(), status(reason) == 503, "{what}");
    assert!(world.session(browser).is_none() && page.set_cookies().is_empty(), "{what}");
    assert_eq!(world.upstream.count(), 0, "{what}");
    let text = page.text();
    assert!(!text.contains("alert(1)") && !text.contains("evil.test") && !text.contains("as told"), "{what}: {text}");
    let provider = &world.provider;
    let calls = (provider.count(Endpoint::Token), provider.count(Endpoint::Userinfo), provider.count(Endpoint::Elsewhere));
    let expected = match asked {
        // A GET whose connection breaks off is sent once more.
        Endpoint::Userinfo if what.starts_with("Closes") => (1, 2, 0),
        Endpoint::Userinfo => (1, 1, 0),
        Endpoint::Token => (1, 0, 0),
        _ => (0, 0, 0),
    };
    assert_eq!(calls, expected, "{what}: token, userinfo and elsewhere");
}

/// After a lie: the same person tries again, by the page's own button where it has one.
async fn honest_again(world: &World, browser: &mut Browser, page: &Page, what: &str) {
    world.provider.set(Lie::None);
    world.advance(Duration::from_secs(61));
    world.upstream.reset();
    world.provider.reset_counts();
    let page = match crate::harness::html::links(&page.text()).into_iter().find(|(_, label)| label.contains("Try again")) {
        Some((href, _)) => browser.click(page, &href).await,
        None => browser.get(&world.at("/app?lie=1")).await,
    };
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.count()), (200, 1), "after {what}: {}", page.text());
    assert_eq!(world.upstream.last().target, "/app?lie=1", "after {what}");
    assert!(world.session(browser).is_some(), "after {what}");
    assert_eq!(world.provider.complaints(), Vec::<String>::new(), "after {what}");
}

/// One row of the table.
async fn row(world: &World, lie: &Lie) {
    let what = format!("{lie:?}");
    world.advance(LATER);
    world.provider.set(lie.clone());
    world.provider.reset_counts();
    world.upstream.reset();
    let mut browser = Browser::new();
    match verdict(lie) {
        Verdict::Refused(reason, asked) => {
            let before = (world.outcomes(reason).await, world.outcomes("success").await);
            let page = world.visit(&mut browser, "/app?lie=1").await;
            refused(world, &mut browser, &page, reason, asked, &what).await;
            let after = (world.outcomes(reason).await, world.outcomes("success").await);
            assert_eq!(after, (before.0 + u64::from(counted(reason)), before.1), "{what}: outcomes of {reason}, and successes");
            honest_again(world, &mut browser, &page, &what).await;
        }
        Verdict::Accepted => {
            let page = world.visit(&mut browser, "/app?lie=1").await;
            assert_eq!((page.status.as_u16(), world.upstream.count()), (200, 1), "{what}: {}", page.text());
            assert!(world.session(&browser).is_some(), "{what}");
            let seen = world.upstream.last();
            assert_eq!(seen.header_all("x-forwarded-user"), ["alice"], "{what}");
            assert!(seen.headers.iter().all(|(name, _)| name != "x-evil"), "{what}");
            assert_eq!(world.provider.complaints(), Vec::<String>::new(), "{what}");
            assert_eq!((world.tokens(), world.provider.count(Endpoint::Userinfo)), (1, 1), "{what}");
        }
        Verdict::Denied(reason) => {
            let page = world.visit(&mut browser, "/app?lie=1").await;
            assert_eq!((page.status.as_u16(), reason_of(&page)), (403, reason.to_owned()), "{what}");
            assert_eq!(world.upstream.count(), 0, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_has_its_reason_and_lets_nobody_in() {
    let world = World::start();
    let lies = lies();
    assert!(lies.len() > 70, "{}", lies.len());
    for lie in &lies {
        row(&world, lie).await;
    }
    let panics = world.gateway.metric("doorward_panics_total").await;
    assert_eq!(panics, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_hold_for_other_algorithms_too() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Ps256] {
        let world = World::shaped(Shape::default(), |provider| provider.algorithm(algorithm));
        for lie in [
            Lie::None,
            Lie::BadSignature,
            Lie::OtherKeySameKid,
            Lie::AlgNone,
            Lie::Hs256WithPublicKey,
            Lie::AtHashWrong,
            Lie::KeyRotatedBeforeSigning,
            Lie::KidAbsentOneKey,
        ] {
            row(&world, &lie).await;
        }
    }
}

/// A lie that a gateway meets which knows nothing of the provider yet.
async fn first_row(world: World, lie: &Lie, reason: &str, asked: Endpoint) -> World {
    let what = format!("{lie:?} at first");
    world.provider.set(lie.clone());
    let world = world.restart();
    world.provider.reset_counts();
    world.upstream.reset();
    let mut browser = Browser::new();
    let page = world.visit(&mut browser, "/app?lie=1").await;
    refused(&world, &mut browser, &page, reason, asked, &what).await;
    if asked == Endpoint::Discovery {
        assert_eq!(world.provider.count(Endpoint::Authorization), 0, "{what}");
        assert!(browser.cookies().is_empty(), "{what}: nothing was begun");
    } else {
        assert_eq!(world.outcomes(reason).await, 1, "{what}");
    }
    honest_again(&world, &mut browser, &page, &what).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_none_begins_no_login() {
    let mut world = World::start();
    for (lie, reason) in [
        (Lie::DiscoveryIssuerMismatch, "provider-metadata"),
        (Lie::Status(Endpoint::Discovery, 500), "provider-unreachable"),
        (Lie::Status(Endpoint::Discovery, 404), "provider-unreachable"),
        (Lie::Closes(Endpoint::Discovery), "provider-unreachable"),
        (Lie::NotJson(Endpoint::Discovery), "provider-metadata"),
        (Lie::EndlessAnswer(Endpoint::Discovery), "provider-metadata"),
        (Lie::HugeAnswer(Endpoint::Discovery), "provider-metadata"),
    ] {
        world = first_row(world, &lie, reason, Endpoint::Discovery).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_had_sign_nobody_in() {
    let mut world = World::start();
    for lie in [
        Lie::Status(Endpoint::Jwks, 500),
        Lie::Status(Endpoint::Jwks, 404),
        Lie::Closes(Endpoint::Jwks),
        Lie::NotJson(Endpoint::Jwks),
        Lie::EndlessAnswer(Endpoint::Jwks),
        Lie::HugeAnswer(Endpoint::Jwks),
    ] {
        world = first_row(world, &lie, "keys-unreachable", Endpoint::Token).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_document_leaves_out_about_pkce_changes_nothing() {
    let mut world = World::start();
    for lie in [Lie::PromisesS256Absent, Lie::PromisesPlainOnly] {
        world.provider.set(lie.clone());
        world = world.restart();
        world.provider.reset_counts();
        world.signed_in().await;
        let asked = world.provider.authorizations();
        assert_eq!(asked.last().map(|asked| asked["code_challenge_method"].as_str()), Some("S256"), "{lie:?}");
        assert_eq!(world.provider.complaints(), Vec::<String>::new(), "{lie:?}");
    }
}

/// Answers that come too late end with the gateway's own patience.
async fn too_slow(endpoint: Endpoint, reason: &str) {
    let shape = Shape { tables: "[limits]\nprovider_timeout = \"2s\"\n", ..Shape::default() };
    let mut world = World::shaped(shape, |provider| provider);
    for lie in [Lie::SlowAnswer(endpoint, Duration::from_secs(600)), Lie::DrippingAnswer(endpoint)] {
        let asked = if endpoint == Endpoint::Jwks { Endpoint::Token } else { endpoint };
        world = first_row(world, &lie, reason, asked).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_dripping_answers_end_in_time_without_harm() {
    tokio::join!(
        too_slow(Endpoint::Discovery, "provider-unreachable"),
        too_slow(Endpoint::Token, "provider-unreachable"),
        too_slow(Endpoint::Userinfo, "provider-unreachable"),
        too_slow(Endpoint::Jwks, "keys-unreachable"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_rotate_between_two_logins_are_fetched_again() {
    let world = World::start();
    world.signed_in().await;
    for _ in 0..3 {
        world.provider.rotate_keys();
        world.provider.forget_former_keys();
        world.signed_in().await;
    }
    assert_eq!(world.provider.count(Endpoint::Jwks), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_proves_itself_as_configured_and_in_no_other_way() {
    for (word, method, other) in [("basic", ClientAuth::Basic, ClientAuth::Post), ("post", ClientAuth::Post, ClientAuth::Basic)] {
        let shape = Shape { provider: &format!("client_auth = \"{word}\"\n"), ..Shape::default() };
        // RFC 6749 §2.3.1: both parts are form-encoded before they are joined for Basic.
        let world = World::shaped(shape, |provider| provider.client("door ward:1", "s3cret: +%/=&ü").client_auth(&[method]));
        world.signed_in().await;
        assert_eq!(world.provider.client_auths(), [method]);
        assert_eq!(world.provider.complaints(), Vec::<String>::new());

        let world = World::shaped(shape, |provider| provider.client_auth(&[other]));
        let mut browser = Browser::new();
        let page = world.visit(&mut browser, "/app").await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (502, "code-refused".to_owned()));
        assert_eq!((world.provider.client_auths(), world.upstream.count()), (vec![method], 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_count_wherever_the_provider_gives_them_and_iss_may_be_absent_where_it_is_not_promised() {
    for place in [ClaimsIn::Both, ClaimsIn::IdToken, ClaimsIn::Userinfo] {
        let world = World::shaped(Shape::default(), |provider| provider.claims_in(place).without_response_iss());
        world.signed_in().await;
        let seen = world.upstream.last();
        assert_eq!(seen.header("x-forwarded-email").as_deref(), Some("alice@example.test"), "{place:?}");
        assert_eq!(seen.header("x-forwarded-groups").as_deref(), Some("staff,users"), "{place:?}");
    }
}
