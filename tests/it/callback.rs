//! The callback: every check stands before the code is spent, and whoever comes too late or twice still ends in the app.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::time::Duration;

use url::Url;

use crate::harness::browser::{Browser, Page};
use crate::harness::hostile::Endpoint;
use crate::harness::visit::parse;
use crate::harness::world::{World, reason_of, target_of};

const MINUTE: Duration = Duration::from_secs(60);

/// The callback that a page leads to.
fn callback_of(page: &Page) -> Url {
    page.next().expect("the way to the callback")
}

/// The same callback with other parameters: each given name is taken out and put back as often as it is given.
fn with(callback: &Url, changes: &[(&str, &[&str])]) -> String {
    let kept = callback.query_pairs().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    let mut url = callback.clone();
    let pairs: Vec<(String, String)> = kept.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    let added = changes.iter().flat_map(|(name, values)| values.iter().map(|value| ((*name).to_owned(), (*value).to_owned())));
    let all: Vec<(String, String)> = pairs.into_iter().chain(added).collect();
    url.query_pairs_mut().clear().extend_pairs(all);
    url.into()
}

fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn back_button_and_bookmark_spend_nothing_and_end_in_the_app() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/wanted?x=1").await;
    let callback = callback_of(&page);
    let page = browser.follow(&page).await;
    assert_eq!(target_of(&page), "/wanted?x=1");
    assert_eq!(browser.follow(&page).await.status, 200);
    let session = world.session(&browser);
    assert_eq!((world.tokens(), world.upstream.count()), (1, 1));

    // The back button, twice.
    for round in 1..=2 {
        let page = browser.get(callback.as_str()).await;
        assert_eq!(target_of(&page), "/wanted?x=1");
        assert_eq!(browser.follow(&page).await.status, 200);
        assert_eq!(world.answers("attempt-spent").await, round);
    }
    // A bookmark, when nothing is left of the flow: to the front page.
    world.advance(90 * MINUTE);
    let page = browser.get(callback.as_str()).await;
    assert_eq!(target_of(&page), "/");
    browser.remove_cookies(|cookie| cookie.name.starts_with("doorward-flow"));
    let page = browser.get(callback.as_str()).await;
    assert_eq!(target_of(&page), "/");
    assert_eq!(browser.follow(&page).await.status, 200);
    assert_eq!((world.tokens(), world.session(&browser)), (1, session));
    assert_eq!(world.provider.complaints(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_callback_without_a_session_begins_one_new_attempt_or_shows_a_button() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/wanted?x=1").await;
    let callback = callback_of(&page);
    browser.follow(&page).await;

    // The answer with the session cookie was lost; the flow is known.
    browser.remove_cookies(|cookie| cookie.name == "doorward");
    world.upstream.reset();
    let page = browser.get(callback.as_str()).await;
    assert_eq!(page.status, 303, "{}", page.text());
    assert_eq!((world.answers("attempt-spent").await, world.tokens(), world.upstream.count()), (1, 1, 0));
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/wanted?x=1"));

    // Nothing is known: a page with one button.
    let mut other = Browser::new();
    world.upstream.reset();
    let page = other.get(callback.as_str()).await;
    assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "state-unknown".to_owned()));
    let page = other.click(&page, &page.link("start page")).await;
    let page = other.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_sent_twice_at_once_spends_one_code_and_both_end_in_the_app() {
    let world = World::start();
    for round in 0..5 {
        let mut one = Browser::new();
        let page = world.before_callback(&mut one, &format!("/wanted?round={round}")).await;
        let mut two = one.clone();
        world.provider.reset_counts();
        let (first, second) = tokio::join!(one.follow(&page), two.follow(&page));
        assert_eq!((first.status.as_u16(), second.status.as_u16()), (303, 303));
        assert_eq!(world.tokens(), 1, "{} and {}", first.summary(), second.summary());
        let won = [&one, &two].iter().filter(|browser| world.session(browser).is_some()).count();
        assert_eq!(won, 1);
        for (browser, page) in [(&mut one, first), (&mut two, second)] {
            let page = browser.follow_all(page).await;
            assert_eq!(page.status, 200, "{}", page.text());
            assert_eq!(world.upstream.last().target, format!("/wanted?round={round}"));
        }
        assert_eq!(world.provider.complaints(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_callback_opens_nothing_elsewhere_and_is_not_burned() {
    let world = World::start();
    let somebody_else = world.signed_in().await;
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/wanted").await;
    let callback = callback_of(&page);
    world.provider.reset_counts();
    world.upstream.reset();

    let flow = browser.cookies().into_iter().find(|cookie| cookie.name.starts_with("doorward-flow-")).expect("a flow cookie");
    let mut with_own_flow = Browser::new();
    with_own_flow.get(&world.at("/other")).await;
    let mut with_forged_key = Browser::new();
    with_forged_key.plant_cookie(&world.at("/"), &format!("{}={}; Path=/", flow.name, "A".repeat(43)));
    let mut with_short_key = Browser::new();
    with_short_key.plant_cookie(&world.at("/"), &format!("{}=x; Path=/", flow.name));
    for mut thief in [Browser::new(), with_own_flow, with_forged_key, with_short_key] {
        let page = thief.get(callback.as_str()).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "state-unknown".to_owned()));
        assert!(page.set_cookies().is_empty());
    }
    // Somebody with a session of their own goes on with that one.
    let mut signed_in = somebody_else;
    let before = world.session(&signed_in);
    let page = signed_in.get(callback.as_str()).await;
    assert_eq!((target_of(&page).as_str(), world.session(&signed_in)), ("/", before));
    assert_eq!((world.tokens(), world.provider.count(Endpoint::Userinfo), world.upstream.count()), (0, 0, 0));

    let page = browser.get(callback.as_str()).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str(), world.tokens()), (200, "/wanted", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_callback_is_refused_before_anything_is_spent() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/wanted").await;
    let callback = callback_of(&page);
    let (state, code) = (parameter(&callback, "state"), parameter(&callback, "code"));
    let issuer = world.provider.issuer();
    let other = "B".repeat(43);
    for (changes, reason) in [
        (&[("state", &[][..])][..], "state-unknown"),
        (&[("state", &[""])], "state-unknown"),
        (&[("state", &[other.as_str()])], "state-unknown"),
        (&[("state", &["<script>alert(1)</script>"])], "state-unknown"),
        (&[("state", &[state.as_str(), state.as_str()])], "parameter-repeated"),
        (&[("state", &[state.as_str(), other.as_str()])], "parameter-repeated"),
        (&[("code", &[code.as_str(), code.as_str()])], "parameter-repeated"),
        (&[("code", &[code.as_str(), "another"])], "parameter-repeated"),
        (&[("iss", &[issuer.as_str(), issuer.as_str()])], "parameter-repeated"),
        (&[("error", &["access_denied", "access_denied"])], "parameter-repeated"),
    ] {
        let page = browser.get(&with(&callback, changes)).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (400, reason.to_owned()), "{changes:?}");
        assert!(page.set_cookies().is_empty() && !page.text().contains("alert(1)"), "{changes:?}");
    }
    assert_eq!((world.tokens(), world.upstream.count(), world.outcomes("success").await), (0, 0, 0));
    // None of them has touched the attempt.
    let page = browser.get(callback.as_str()).await;
    assert_eq!((target_of(&page).as_str(), world.tokens()), ("/wanted", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_without_code_and_error_or_with_a_foreign_iss_costs_no_token_call() {
    let world = World::start();
    for (changes, reason, status) in [
        (&[("code", &[][..])][..], "parameter-invalid", 400),
        (&[("code", &[""])], "parameter-invalid", 400),
        (&[("iss", &["https://another-issuer.test"])], "response-issuer", 400),
        (&[("iss", &[])], "response-issuer-missing", 400),
        // Whose answer it is comes before what it says (RFC 9207).
        (&[("iss", &["https://another-issuer.test"]), ("code", &[]), ("error", &["access_denied"])], "response-issuer", 400),
        (&[("error", &["access_denied"])], "provider-error", 400),
    ] {
        let mut browser = Browser::new();
        let page = world.before_callback(&mut browser, "/wanted").await;
        let page = browser.get(&with(&callback_of(&page), changes)).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (status, reason.to_owned()), "{changes:?}");
        assert!(world.session(&browser).is_none(), "{changes:?}");
        assert_eq!((world.tokens(), world.upstream.count()), (0, 0), "{changes:?}");
        assert!(world.outcomes(reason).await > 0, "{changes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_attempt_gets_a_new_one_a_few_times_and_then_a_page() {
    let world = World::start();
    let mut browser = Browser::new();
    let mut page = world.before_callback(&mut browser, "/wanted?x=1").await;
    for round in 1..=3 {
        world.advance(11 * MINUTE);
        page = browser.follow(&page).await;
        assert_eq!(page.status, 303, "{}", page.text());
        assert_eq!((world.answers("attempt-spent").await, world.tokens()), (round, 0));
        page = browser.follow_up_to(page, &world.gateway.redirect_uri()).await;
    }
    // In time: the flow leads where it always did.
    let mut patient = browser.clone();
    let done = patient.follow_all(page.clone()).await;
    assert_eq!((done.status.as_u16(), world.upstream.last().target.as_str(), world.tokens()), (200, "/wanted?x=1", 1));
    // Too late once more: no fourth attempt by itself.
    world.advance(11 * MINUTE);
    world.upstream.reset();
    let page = browser.follow(&page).await;
    assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "flow-exhausted".to_owned()));
    assert_eq!((world.tokens(), world.upstream.count()), (1, 0));
    let page = browser.click(&page, &page.link("Sign in")).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/wanted?x=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_is_over_after_an_hour() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/wanted").await;
    world.advance(61 * MINUTE);
    let page = browser.follow(&page).await;
    assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "state-unknown".to_owned()));
    assert_eq!((world.tokens(), world.upstream.count()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_of_the_same_flow_spends_nothing_and_the_person_ends_in_the_app() {
    let world = World::start();
    let mut browser = Browser::new();
    let page = world.before_callback(&mut browser, "/wanted").await;
    let callback = callback_of(&page);
    let state = parameter(&callback, "state");
    // The head of `state` names the flow, the rest the attempt.
    let forged = format!("{}{}", &state[..22], "A".repeat(21));
    let page = browser.get(&with(&callback, &[("state", &[&forged])])).await;
    assert_eq!((page.status.as_u16(), world.tokens()), (303, 0));
    assert_eq!(page.next().map(|url| url.origin()), Some(parse(&world.provider.issuer()).origin()));
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str(), world.tokens()), (200, "/wanted", 1));
}
