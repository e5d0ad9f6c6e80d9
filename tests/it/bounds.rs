//! Logins under way are bounded, in the browser and in the store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::time::Duration;

use crate::harness::browser::{Browser, Page};
use crate::harness::http::{HttpClient, get};
use crate::harness::world::{Shape, World, reason_of};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn flows_of(browser: &Browser) -> Vec<String> {
    browser.cookies().into_iter().map(|cookie| cookie.name).filter(|name| name.starts_with("doorward-flow-")).collect()
}

/// A start from an address that a front proxy names.
async fn start_from(world: &World, address: &str) -> Page {
    let mut browser = Browser::new().with_header("x-forwarded-for", address);
    browser.get(&world.at("/oauth2/start")).await
}

fn refused(page: &Page, reason: &str) {
    assert_eq!((page.status.as_u16(), reason_of(page)), (429, reason.to_owned()), "{}", page.summary());
    assert!(page.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait > 0)));
    assert!(page.set_cookies().is_empty() && page.location().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_holds_twenty_flows_and_gives_the_oldest_back() {
    let world = World::shaped(Shape { tables: "[limits]\npending_logins_per_address = 21\n", ..Shape::default() }, |provider| provider);
    let mut browser = Browser::new();
    let mut pages = Vec::new();
    for tab in 0..60 {
        let page = browser.get(&world.at(&format!("/tab/{tab}"))).await;
        assert_eq!(page.status, 303, "tab {tab}: {}", page.text());
        assert!(flows_of(&browser).len() <= 20, "tab {tab}");
        pages.push((page, flows_of(&browser).pop().expect("a new flow")));
    }
    // The twenty newest are left, each still good.
    let newest: Vec<String> = pages[40..].iter().map(|(_, flow)| flow.clone()).collect();
    assert_eq!(flows_of(&browser), newest);
    for tab in [40, 59] {
        let page = browser.follow_all(pages[tab].0.clone()).await;
        assert_eq!((page.status.as_u16(), world.upstream.last().target), (200, format!("/tab/{tab}")));
    }
    // One that was given back ends on the front page, since somebody is signed in by now; its code is not spent.
    let before = world.tokens();
    let page = browser.follow_all(pages[0].0.clone()).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str(), world.tokens()), (200, "/", before));
    // What was given back is gone from the store: twenty flows, and the attempts of eighteen.
    assert_eq!(world.records(&["logins"]), 20 + 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_starts_leave_a_bounded_store() {
    let shape = Shape { tables: "[store]\nkind = \"memory\"\n[limits]\npending_logins_per_address = 30\n", ..Shape::default() };
    let world = World::shaped(shape, |provider| provider);
    let url = world.at("/oauth2/start?rd=/x");
    let mut connection = HttpClient::new().connect(&url.parse().expect("a URL")).await.expect("the gateway listens");
    let mut admitted = 0;
    for number in 0..10_000 {
        let answer = connection.fetch(get(&url)).await;
        match answer.status.as_u16() {
            303 => admitted += 1,
            429 => {
                assert_eq!((answer.header("retry-after").is_some(), answer.set_cookies().len()), (true, 0));
                if number % 1000 == 999 {
                    assert_eq!(reason_of(&answer), "pending-logins-of-address");
                }
            }
            other => panic!("start {number} = {other}: {}", answer.text()),
        }
    }
    assert_eq!(admitted, 30);
    assert_eq!(world.answers("pending-logins-of-address").await, 9_970);
    // A flow and an attempt each, and nothing for those that were refused.
    assert_eq!(world.gateway.metric("doorward_store_seconds_count{operation=\"put_login\"}").await, 60);
    assert_eq!((world.upstream.count(), world.tokens()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_bounded_for_an_address_and_in_all_until_their_hour_is_over() {
    let shape = Shape {
        top: "trusted_proxies = [\"127.0.0.1\"]",
        tables: "[limits]\npending_logins_per_address = 3\npending_logins = 6\n",
        ..Shape::default()
    };
    let world = World::shaped(shape, |provider| provider);
    for _ in 0..3 {
        assert_eq!(start_from(&world, "192.0.2.1").await.status, 303);
    }
    refused(&start_from(&world, "192.0.2.1").await, "pending-logins-of-address");
    // An IPv6 network counts as one address.
    for host in 1..=3 {
        assert_eq!(start_from(&world, &format!("2001:db8::{host}")).await.status, 303);
    }
    refused(&start_from(&world, "2001:db8::4").await, "pending-logins-of-address");
    refused(&start_from(&world, "192.0.2.2").await, "pending-logins");
    assert_eq!(world.gateway.metric("doorward_store_seconds_count{operation=\"put_login\"}").await, 12);
    // A program is told the same as JSON.
    let request = http::Request::get(world.at("/oauth2/start")).header("x-forwarded-for", "192.0.2.3");
    let answer = HttpClient::new().fetch(request.body(crate::harness::body::empty()).expect("a request")).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (429, "pending-logins"));

    world.advance(HOUR);
    for address in ["192.0.2.1", "2001:db8::4", "192.0.2.2"] {
        assert_eq!(start_from(&world, address).await.status, 303, "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_login_makes_room_for_the_next() {
    let world = World::shaped(Shape { tables: "[limits]\npending_logins_per_address = 2\n", ..Shape::default() }, |provider| provider);
    for _ in 0..5 {
        world.signed_in().await;
    }
    for expected in [303, 303, 429] {
        assert_eq!(Browser::new().get(&world.at("/x")).await.status, expected);
    }
}
