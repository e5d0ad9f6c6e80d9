//! Streams of one session on several processes end together, wherever it was ended.

#![allow(clippy::disallowed_methods, reason = "how soon a stream ends is told by the machine's own clock")]

use std::time::{Duration, Instant};

use crate::harness::durations::Durations;
use crate::harness::gateway::provider;
use crate::harness::held::Held;
use crate::harness::hostile::HostileProvider;
use crate::harness::pair::{Pair, Side};
use crate::harness::redis::Redis;
use crate::harness::upstream::EchoUpstream;

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_at_one_process_ends_the_streams_at_the_other_within_a_second() {
    let (provides, upstream, redis) = (HostileProvider::start(), EchoUpstream::start(), Redis::start().await);
    let text = format!(
        "upstream = \"{}\"\nallow = \"any-authenticated\"\n{}",
        upstream.url(),
        provider(&provides.issuer(), provides.client_id(), provides.client_secret())
    );
    let pair = Pair::start(&Pair::place(), &redis, &text).await;
    let mut took = Durations::default();
    for round in 0..10 {
        let (here, there) = if round % 2 == 0 { (Side::One, Side::Other) } else { (Side::Other, Side::One) };
        let mut browser = pair.browser(here);
        let page = browser.get(&pair.url("/app")).await;
        browser.follow_all(page).await;
        let cookie = browser.cookie_header(&pair.url("/"));
        let (client, headers) = (pair.http(there), [("cookie", cookie.as_str())]);
        let (sse, ws) = (pair.url("/sse"), pair.url("/ws"));
        let (events, socket) = tokio::join!(Held::events(&client, &sse, &headers), Held::websocket(&client, &ws, &headers));
        let streams = [events, socket].map(|held| held.unwrap_or_else(|answer| panic!("{}", answer.text())));
        let page = browser.get(&pair.url("/oauth2/session")).await;
        let began = Instant::now();
        browser.submit(&page, &page.form_to("sign_out"), &[]).await;
        for stream in &streams {
            let left = (began + Duration::from_secs(1)).saturating_duration_since(Instant::now());
            let end = stream.ends_within(left).await;
            took.push(end.unwrap_or_else(|| panic!("round {round}: open after a second")).0.saturating_duration_since(began));
        }
        upstream.streams_become(0).await;
    }
    println!("a sign-out ends streams at another process: {took}");
}
