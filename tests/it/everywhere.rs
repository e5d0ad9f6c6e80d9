//! What is ended at one process is over at the other: for the next request, and for what stays open.
#![allow(clippy::disallowed_methods, reason = "how long something took is told by the machine's own clock")]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use serde_json::json;

use crate::harness::body::empty;
use crate::harness::browser::Browser;
use crate::harness::durations::Durations;
use crate::harness::gateway::provider;
use crate::harness::held::Held;
use crate::harness::hostile::HostileProvider;
use crate::harness::http::post_form;
use crate::harness::jose::{from_base64url, random};
use crate::harness::pair::{Pair, Side};
use crate::harness::redis::Redis;
use crate::harness::upstream::EchoUpstream;

struct House {
    pair: Pair,
    provider: HostileProvider,
    _upstream: EchoUpstream,
    _redis: Redis,
}

impl House {
    async fn start() -> Self {
        let (redis, upstream) = (Redis::start().await, EchoUpstream::start());
        let place = Pair::place();
        let hostile = HostileProvider::start();
        let config = format!(
            "upstream = \"{}\"\nallow = \"any-authenticated\"\n{}",
            upstream.url(),
            provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret())
        );
        let pair = Pair::start(&place, &redis, &config).await;
        Self { pair, provider: hostile, _upstream: upstream, _redis: redis }
    }

    /// Signs in at the first; both know the session. Its cookie line and the provider's `sid`.
    async fn signed_in(&self) -> (String, String) {
        let mut browser: Browser = self.pair.browser(Side::One);
        let page = browser.get(&self.pair.url("/app")).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let cookie = browser.cookie_header(&self.pair.url("/"));
        let mut browser = self.pair.moved(browser, Side::Other);
        // Twice: the second answer comes from the process's own memory.
        for _ in 0..2 {
            assert_eq!(browser.get(&self.pair.url("/app")).await.status, 200);
        }
        let sid = self.provider.last_sid().expect("somebody logged in");
        (cookie, sid)
    }

    async fn status(&self, side: Side, cookie: &str) -> u16 {
        let request = Request::get(self.pair.url("/api")).header("cookie", cookie).body(empty()).expect("a request");
        self.pair.http(side).fetch(request).await.status.as_u16()
    }

    /// Tells the first process that the provider's session is over.
    async fn back_channel(&self, sid: &str) {
        let token = self.provider.logout_token(json!({ "sid": sid }));
        let answer =
            self.pair.http(Side::One).fetch(post_form(&self.pair.url("/oauth2/backchannel_logout"), &[("logout_token", &token)])).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// The measurement is printed: `--nocapture` shows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_back_channel_logout_at_one_process_is_refused_by_the_other_within_100_ms() {
    let house = House::start().await;
    let mut took = Durations::default();
    for _ in 0..100 {
        let (cookie, sid) = house.signed_in().await;
        let began = Instant::now();
        let told = house.back_channel(&sid);
        let refused = async {
            while house.status(Side::Other, &cookie).await != 401 {
                assert!(began.elapsed() < Duration::from_secs(10), "never refused");
            }
            began.elapsed()
        };
        let ((), refused) = tokio::join!(told, refused);
        took.push(refused);
        assert_eq!(house.status(Side::One, &cookie).await, 401);
    }
    println!("from the back-channel call at one process to the refusal at the other: {took}");
    assert!(took.p99() < Duration::from_millis(100), "{took}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_open_at_the_other_process_closes_within_a_second() {
    let house = House::start().await;
    let mut took = Durations::default();
    for _ in 0..5 {
        let (cookie, sid) = house.signed_in().await;
        let (kept_cookie, _) = house.signed_in().await;
        let http = house.pair.http(Side::Other);
        let (sse, ws) = (house.pair.url("/sse"), house.pair.url("/ws"));
        let headers = [("cookie", cookie.as_str())];
        let kept_headers = [("cookie", kept_cookie.as_str())];
        let open = |answer: Result<Held, Box<crate::harness::http::Answer>>| answer.unwrap_or_else(|answer| panic!("{}", answer.text()));
        let ending = [open(Held::events(&http, &sse, &headers).await), open(Held::websocket(&http, &ws, &headers).await)];
        let kept = [open(Held::events(&http, &sse, &kept_headers).await), open(Held::websocket(&http, &ws, &kept_headers).await)];
        let began = Instant::now();
        house.back_channel(&sid).await;
        for stream in &ending {
            let (at, _) = stream.ends_within(Duration::from_secs(1)).await.expect("it ends within a second");
            took.push(at.saturating_duration_since(began));
        }
        for stream in &kept {
            assert_eq!(stream.end(), None, "another's stream goes on");
        }
    }
    println!("from the back-channel call at one process to the end of streams at the other: {took}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_of_the_sealing_keys_an_older_session_is_still_found_and_ended() {
    let house = House::start().await;
    let (older, older_sid) = house.signed_in().await;
    let before = std::fs::read_to_string(house.pair.shared.join("keys")).expect("the keys are there");
    let read_again = async |side: Side, text: &str| {
        house.pair.at(side).process.wait_for_line(|line| line.contains(text), crate::harness::wait::PATIENCE).await;
    };
    let new = STANDARD.encode(from_base64url(&random()));
    house.pair.shared.write_secret("keys", format!("{new}\n{before}"));
    for side in [Side::One, Side::Other] {
        read_again(side, "the sealing keys were read again").await;
        assert_eq!(house.status(side, &older).await, 200);
    }
    let (newer, newer_sid) = house.signed_in().await;
    house.back_channel(&older_sid).await;
    for side in [Side::One, Side::Other] {
        assert_eq!((house.status(side, &older).await, house.status(side, &newer).await), (401, 200));
    }
    // A file that holds no keys changes nothing.
    house.pair.shared.write_secret("keys", "no key at all\n");
    read_again(Side::One, "those of before go on").await;
    house.back_channel(&newer_sid).await;
    assert_eq!(house.status(Side::One, &newer).await, 401);
}
