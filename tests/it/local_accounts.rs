//! Accounts of the gateway's own: the form, wrong passwords, codes, guessing, and where all of it leads.
#![allow(clippy::disallowed_methods, reason = "one test measures how long an answer takes")]

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use doorward::clock::Clock as _;
use serde_json::json;

use crate::chromium::{assert_silent, shows};
use crate::harness::browser::{Browser, Page};
use crate::harness::chromium::Chromium;
use crate::harness::gateway::{Gateway, GatewayProcess, TOP};
use crate::harness::hostile::HostileProvider;
use crate::harness::http::{fetch, get};
use crate::harness::redis::Redis;
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, free_port, unix_now};
use crate::harness::world::{reason_of, target_of};

const MINUTE: Duration = Duration::from_secs(60);
/// Of `correct horse`, as cheap as it may be: made by the reference implementation.
pub const CHEAP: &str = "$argon2id$v=19$m=8,t=1,p=1$Kd0AT87+SkMV2kRWPv4RUQ$y2jQKqzvthjR1pSA29h8b5PW6lotninDMIIeUdram28";
/// Of `correct horse`, as dear as `doorward hash-password` makes it.
const DEAR: &str = "$argon2id$v=19$m=19456,t=2,p=1$jsAm5nlH+xspNzm7EUYjTA$gs9bE8Hm9/VZ41GEjHQBaW8W72ye0GJ9DNT347J+5vk";
/// Of `battery staple`, bcrypt.
const BCRYPT: &str = "$2b$04$PuJ1zw5RA5igaj0AntQ6geda9jWB2qDAkQ0guzSEqt5G57UbxYf7y";
/// `12345678901234567890` in base32.
pub const TOTP: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

struct World {
    gateway: Gateway,
    upstream: EchoUpstream,
}

/// Ann has an authenticator app, Bob has none; `/authorize/` and `/vault/` want one.
fn world() -> World {
    world_with("", CHEAP, "")
}

fn world_with(top: &str, hash: &str, tables: &str) -> World {
    let upstream = EchoUpstream::start();
    World { gateway: Gateway::start(&config(top, hash, tables, &upstream.url())), upstream }
}

fn config(top: &str, hash: &str, tables: &str, upstream: &str) -> String {
    format!(
        r#"{TOP}{top}
[[user]]
name = "ann"
password = "{hash}"
email = "ann@example.test"
groups = ["staff"]
totp = "{TOTP}"
[[user]]
name = "bob"
password = "{BCRYPT}"
[[route]]
id = "app"
upstream = "{upstream}"
allow = "any-authenticated"
[[route]]
id = "authorize"
path = "/authorize/"
upstream = "{upstream}"
acr = ["mfa"]
allow = {{ groups = ["staff"] }}
[[route]]
id = "vault"
path = "/vault/"
upstream = "{upstream}"
acr = ["mfa"]
allow = "any-authenticated"
{tables}"#
    )
}

/// What Ann's app shows at this time: HMAC-SHA-1 over the step, cut as RFC 4226 §5.3 says.
pub fn code_at(time: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"12345678901234567890");
    let tag = hmac::sign(&key, &(time / 30).to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 15);
    let number = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

impl World {
    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.url)
    }

    /// What Ann's app shows now.
    fn code(&self) -> String {
        code_at((self.gateway.now())())
    }

    /// Opens the form by `start` with this query.
    async fn form(&self, browser: &mut Browser, query: &str) -> Page {
        let page = browser.get(&self.at(&format!("/oauth2/start{query}"))).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), page.url.path()), (200, "/oauth2/sign_in"), "{}", page.text());
        page
    }

    async fn outcomes(&self, outcome: &str) -> u64 {
        self.gateway.metric(&format!("doorward_logins_total{{provider=\"local\",outcome=\"{outcome}\"}}")).await
    }
}

/// Types a name and a password, and goes one redirect on when there is one.
async fn try_password(browser: &mut Browser, page: &Page, name: &str, password: &str) -> Page {
    let page = browser.submit(page, &page.form(), &[("name", name), ("password", password)]).await;
    if page.next().is_some() { browser.follow(&page).await } else { page }
}

async fn try_code(browser: &mut Browser, page: &Page, code: &str) -> Page {
    let page = browser.submit(page, &page.form(), &[("code", code)]).await;
    if page.next().is_some() { browser.follow(&page).await } else { page }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_keep_the_place_and_the_code_leads_to_where_the_flow_began() {
    let world = world();
    let mut browser = Browser::new();
    let beside = world.form(&mut browser, "?return_to=/dashboard").await;
    let page = world.form(&mut browser, "?return_to=/authorize/continue&state=xyz").await;

    for (failures, password) in [(1, "incorrect horse"), (2, "Correct horse")] {
        let sent = browser.submit(&page, &page.form(), &[("name", "ann"), ("password", password)]).await;
        assert_eq!((sent.status.as_u16(), sent.next().unwrap()), (303, page.url.clone()), "not back to the form");
        let told = browser.follow(&sent).await;
        let text = told.visible_text();
        assert!(text.contains("The user name or the password is wrong"), "{text}");
        assert_eq!(text.contains("2 attempts failed so far"), failures == 2, "{text}");
        assert_eq!(world.outcomes("password-wrong").await, failures);
    }
    let page = try_password(&mut browser, &page, "ann", "correct horse").await;
    let text = page.visible_text();
    assert!(text.contains("Enter your code") && text.contains("ann") && !text.contains("wrong"), "{text}");
    assert!(browser.cookie("doorward").is_none() && world.upstream.count() == 0);

    let wrong = if world.code() == "000000" { "000001" } else { "000000" };
    let page = try_code(&mut browser, &page, wrong).await;
    assert!(
        page.visible_text().contains("The code is wrong or too old") && page.visible_text().contains("3 attempts failed"),
        "{}",
        page.text()
    );
    let code = world.code();
    // As the app shows it: two groups.
    let sent = browser.submit(&page, &page.form(), &[("code", &format!("{} {}", &code[..3], &code[3..]))]).await;
    assert_eq!(target_of(&sent), "/authorize/continue?state=xyz");
    let page = browser.follow(&sent).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let seen = world.upstream.last();
    assert_eq!(seen.target, "/authorize/continue?state=xyz");
    for (name, value) in [("user", "ann"), ("email", "ann@example.test"), ("groups", "staff"), ("preferred-username", "ann")] {
        assert_eq!(seen.header(&format!("x-forwarded-{name}")).as_deref(), Some(value), "{name}");
    }
    assert_eq!((world.outcomes("success").await, world.upstream.count()), (1, 1));

    // The same code again, by whoever looked over the shoulder.
    let mut other = Browser::new();
    let page = world.form(&mut other, "?return_to=/authorize/continue&state=abc").await;
    let page = try_password(&mut other, &page, "ann", "correct horse").await;
    let page = try_code(&mut other, &page, &code).await;
    assert!(page.visible_text().contains("This code was used already"), "{}", page.text());
    assert_eq!((world.outcomes("code-used").await, world.upstream.count()), (1, 1));
    assert!(other.cookie("doorward").is_none());
    world.gateway.access_line("code-used").await;
    world.gateway.advance(MINUTE);
    let page = try_code(&mut other, &page, &world.code()).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/authorize/continue?state=abc"));

    // The flow beside it: nothing of it has changed.
    let again = browser.get(beside.url.as_str()).await;
    assert!(!again.text().contains("failed") && !again.text().contains("wrong"), "{}", again.text());
    let page = try_password(&mut browser, &beside, "bob", "battery staple").await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/dashboard"));
    assert_eq!(world.upstream.last().header("x-forwarded-user").as_deref(), Some("bob"));

    let mut third = Browser::new();
    let page = world.form(&mut third, "").await;
    let page = try_password(&mut third, &page, " bob ", "battery staple").await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_leads_to_the_form_and_back_and_the_session_says_how_it_began() {
    let world = world();
    let mut browser = Browser::new();
    let page = browser.get(&world.at("/some/where?a=1")).await;
    let page = browser.follow(&page).await;
    let form = page.form();
    assert_eq!((form.method.as_str(), form.password_fields.as_slice()), ("POST", &["password".to_owned()][..]));
    // Before the login the app is not asked, and a program is not led to a form.
    let answer = browser.fetch_api(http::Method::GET, &world.at("/api"), &[], b"").await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str(), world.upstream.count()), (401, "no-credential", 0));
    let page = try_password(&mut browser, &page, "ann", "correct horse").await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/some/where?a=1"));
    let session = browser.cookie("doorward").unwrap().value;

    let told = browser.fetch_api(http::Method::GET, &world.at("/oauth2/userinfo"), &[], b"").await.json();
    assert_eq!((&told["sub"], &told["issuer"].as_str().or(told["iss"].as_str()).unwrap()), (&json!("ann"), &world.gateway.url.as_str()));

    // A password is not enough here: the form once more, then the code, and another session.
    world.upstream.reset();
    let page = browser.get(&world.at("/vault/gold")).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.url.path(), world.upstream.count()), ("/oauth2/sign_in", 0), "{}", page.summary());
    let page = try_password(&mut browser, &page, "ann", "correct horse").await;
    let page = try_code(&mut browser, &page, &world.code()).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/vault/gold"));
    assert_ne!(browser.cookie("doorward").unwrap().value, session);

    // Signing out: nobody else is asked, and the session is over.
    let cookie = browser.cookie("doorward").unwrap().value;
    let page = browser.get(&world.at("/oauth2/session")).await;
    let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    let page = if page.next().is_some() { browser.follow_all(page).await } else { page };
    assert!(page.url.as_str().starts_with(&world.gateway.url) && page.visible_text().contains("You are signed out"), "{}", page.text());
    let mut thief = Browser::new();
    thief.plant_cookie(&world.at("/"), &format!("doorward={cookie}; Path=/"));
    assert_eq!(thief.get(&world.at("/app")).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_app_for_a_code_is_told_so_and_not_led_round() {
    let world = world();
    let mut browser = Browser::new();
    let page = browser.get(&world.at("/vault/")).await;
    let page = browser.follow(&page).await;
    let page = try_password(&mut browser, &page, "bob", "battery staple").await;
    assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (403, "code-not-set"));
    assert!(browser.cookie("doorward").is_none() && world.upstream.count() == 0);
    // The way on is the same flow, for somebody else.
    let page = browser.click(&page, &page.link("Use another account")).await;
    let page = browser.follow_all(page).await;
    let page = try_password(&mut browser, &page, "ann", "correct horse").await;
    let page = try_code(&mut browser, &page, &world.code()).await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/vault/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_wants_what_no_account_has_says_so_before_a_password_is_typed() {
    let upstream = EchoUpstream::start();
    let world = world_with(
        "",
        CHEAP,
        &format!(
            "[[route]]\nid = \"hsm\"\npath = \"/hsm/\"\nupstream = \"{}\"\nacr = [\"phrh\"]\nallow = \"any-authenticated\"\n",
            upstream.url()
        ),
    );
    let mut browser = Browser::new();
    let page = browser.get(&world.at("/hsm/")).await;
    let page = browser.follow_all(page).await;
    assert_eq!((reason_of(&page).as_str(), upstream.count()), ("step-up-not-given", 0), "{}", page.text());
    assert!(page.forms().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_has_is_answered_like_a_wrong_password_and_takes_as_long() {
    let upstream = EchoUpstream::start();
    let config = format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n[[user]]\nname = \"ann\"\npassword = \"{DEAR}\"\n[limits]\nguesses_per_name = 1000\nguesses_per_address = 1000\n",
        upstream.url()
    );
    let world = World { gateway: Gateway::start(&config), upstream };
    let mut browser = Browser::new();
    let mut took = [Vec::new(), Vec::new()];
    let mut pages = [String::new(), String::new()];
    let page = world.form(&mut browser, "").await;
    for round in 0..6 {
        for (index, name) in ["ann", "nobody"].into_iter().enumerate() {
            let began = Instant::now();
            let sent = browser.submit(&page, &page.form(), &[("name", name), ("password", "wrong")]).await;
            took[index].push(began.elapsed());
            let told = browser.follow(&sent).await;
            if round == 5 {
                pages[index] = told.visible_text();
            }
        }
    }
    let message = |page: &str| page.split("so far").next().unwrap().replace(|c: char| c.is_ascii_digit(), "");
    assert_eq!(message(&pages[0]), message(&pages[1]));
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[3].as_secs_f64()
    };
    let (known, unknown) = (median(&mut took[0]), median(&mut took[1]));
    assert!(known / unknown < 2.5 && unknown / known < 2.5, "known {known:.3} s, unknown {unknown:.3} s");
    assert_eq!((world.outcomes("password-wrong").await, world.upstream.count()), (12, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_by_name_the_same_for_names_that_nobody_has() {
    let world = world_with("", CHEAP, "[limits]\nguesses_per_name = 4\n");
    for name in ["ann", "nobody"] {
        let mut browser = Browser::new();
        let page = world.form(&mut browser, "").await;
        for _ in 0..4 {
            try_password(&mut browser, &page, name, "wrong").await;
        }
        // The right one does not count either.
        for password in ["wrong", "correct horse"] {
            let page = try_password(&mut browser, &page, name, password).await;
            assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (429, "guesses-of-name"));
            let wait: u64 = page.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=900).contains(&wait), "{wait}");
        }
    }
    // Another name is not touched by it, and neither is Ann for ever.
    let mut browser = Browser::new();
    let page = world.form(&mut browser, "").await;
    assert_eq!(try_password(&mut browser, &page, "bob", "battery staple").await.status, 200);
    world.gateway.advance(15 * MINUTE);
    let mut browser = Browser::new();
    let page = world.form(&mut browser, "").await;
    assert_eq!(try_password(&mut browser, &page, "ann", "correct horse").await.status, 200);
    // Now her count begins again: three wrong ones and the right one, twice.
    for _ in 0..2 {
        let mut browser = Browser::new();
        let page = world.form(&mut browser, "").await;
        for _ in 0..3 {
            try_password(&mut browser, &page, "ann", "wrong").await;
        }
        assert_eq!(try_password(&mut browser, &page, "ann", "correct horse").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_say_whose_they_are_in_the_words_and_the_colour_of_the_config() {
    for (pages, there) in [("[pages]\ntitle = \"Example Corp apps\"\naccent = \"#0b7285\"\n", true), ("", false)] {
        let world = world_with("", CHEAP, pages);
        let page = world.form(&mut Browser::new(), "").await;
        let text = page.text();
        assert_eq!(
            (text.contains("Example Corp apps"), text.contains("#0b7285"), text.contains("#3b5bdb")),
            (there, there, !there),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_are_forgotten_after_guess_window_and_not_before() {
    let world = world_with("", CHEAP, "[limits]\nguesses_per_name = 2\nguess_window = \"2m\"\n");
    // Windows stand still, by the clock: this begins with one.
    world.gateway.advance(Duration::from_secs(120 - world.gateway.clock.now().0 % 120));
    let mut browser = Browser::new();
    let page = world.form(&mut browser, "").await;
    for _ in 0..2 {
        try_password(&mut browser, &page, "bob", "wrong").await;
    }
    for (later, status) in [(0, 429), (60, 429), (61, 200)] {
        world.gateway.advance(Duration::from_secs(later));
        let mut browser = Browser::new();
        let page = world.form(&mut browser, "").await;
        assert_eq!(try_password(&mut browser, &page, "bob", "battery staple").await.status, status, "{later}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hash_and_code_secret_may_stand_in_files_and_count_as_they_are_now() {
    let dir = TempDir::new("account");
    let (hash, totp) = (dir.write_secret("hash", CHEAP), dir.write_secret("totp", TOTP));
    let eve = format!("[[user]]\nname = \"eve\"\npassword_file = \"{}\"\ntotp_file = \"{}\"\n", hash.display(), totp.display());
    let world = world_with("", CHEAP, &eve);
    let gets_in = async |password: &str| {
        let reached = world.upstream.count();
        let mut browser = Browser::new();
        let page = browser.get(&world.at("/vault/gold")).await;
        let page = browser.follow_all(page).await;
        let page = try_password(&mut browser, &page, "eve", password).await;
        if page.visible_text().contains("Enter your code") {
            try_code(&mut browser, &page, &world.code()).await;
        }
        world.upstream.count() > reached
    };
    assert!(!gets_in("battery staple").await && gets_in("correct horse").await);
    dir.write_secret("hash", BCRYPT);
    world.gateway.advance(MINUTE);
    assert!(!gets_in("correct horse").await && gets_in("battery staple").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_by_address_and_keeps_nobody_out_of_their_own_network() {
    let top = "trusted_proxies = [\"127.0.0.1\"]";
    let world = world_with(top, CHEAP, "[limits]\nguesses_per_name = 3\nguesses_per_address = 6\n");
    let from = |address: &str| Browser::new().with_header("x-forwarded-for", address);
    let mut ann = from("2001:db8:1:2::7");
    let page = world.form(&mut ann, "").await;
    assert_eq!(try_password(&mut ann, &page, "ann", "correct horse").await.status, 200);

    let mut stranger = from("198.51.100.9");
    let page = world.form(&mut stranger, "").await;
    for _ in 0..3 {
        try_password(&mut stranger, &page, "ann", "wrong").await;
    }
    let refused = try_password(&mut stranger, &page, "ann", "correct horse").await;
    assert_eq!((refused.status.as_u16(), reason_of(&refused).as_str()), (429, "guesses-of-name"));
    // Ann, from a network that she signed in from before, is not kept out by that.
    let mut ann = from("2001:db8:1:2::8");
    let page_of_ann = world.form(&mut ann, "").await;
    assert_eq!(try_password(&mut ann, &page_of_ann, "ann", "correct horse").await.status, 200);

    // One password for many names: the address has its own count, and another address is not touched.
    for name in ["carol", "dave", "erna"] {
        try_password(&mut stranger, &page, name, "wrong").await;
    }
    let refused = try_password(&mut stranger, &page, "bob", "battery staple").await;
    assert_eq!((refused.status.as_u16(), reason_of(&refused).as_str()), (429, "guesses-of-address"));
    assert!(refused.header("retry-after").is_some() && stranger.cookie("doorward").is_none());
    let mut bob = from("198.51.100.10");
    let page = world.form(&mut bob, "").await;
    assert_eq!(try_password(&mut bob, &page, "bob", "battery staple").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn knowing_the_password_wins_no_new_guesses_at_the_code() {
    let world = world_with("", CHEAP, "[limits]\nguesses_per_name = 4\n");
    let mut browser = Browser::new();
    let mut refused = None;
    for _ in 0..3 {
        let page = world.form(&mut browser, "?return_to=/vault/").await;
        let mut page = try_password(&mut browser, &page, "ann", "correct horse").await;
        for _ in 0..3 {
            page = try_code(&mut browser, &page, "12345").await;
            if page.status == 429 {
                refused.get_or_insert(reason_of(&page));
                break;
            }
        }
    }
    assert_eq!(refused.as_deref(), Some("guesses-of-name"));
    assert_eq!(world.outcomes("code-wrong").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_browser_that_began_and_only_our_own_form_get_anywhere() {
    let world = world();
    let mut browser = Browser::new();
    let page = world.form(&mut browser, "").await;
    let state = page.form().field("state").unwrap().to_owned();
    let form = world.at("/oauth2/sign_in");
    let fields = [("state", state.as_str()), ("name", "ann"), ("password", "correct horse")];

    let sent = browser.clone().post_form_from("https://evil.test/", &form, &fields).await;
    assert_eq!((sent.status.as_u16(), reason_of(&sent).as_str()), (403, "cross-site"));
    let sent = Browser::new().post_form(&form, &fields).await;
    assert_eq!((sent.status.as_u16(), reason_of(&sent).as_str()), (400, "state-unknown"));
    let mut other = Browser::new();
    world.form(&mut other, "").await;
    let sent = other.post_form(&form, &fields).await;
    assert_eq!((sent.status.as_u16(), reason_of(&sent).as_str()), (400, "state-unknown"));
    let sent = browser.post_form(&form, &[fields[0], fields[1], ("name", "bob"), fields[2]]).await;
    assert_eq!((sent.status.as_u16(), reason_of(&sent).as_str()), (400, "parameter-repeated"));
    let sent = browser.post_form(&form, &[fields[0], ("name", "ann"), ("password", &"x".repeat(10_000))]).await;
    assert_eq!((sent.status.as_u16(), reason_of(&sent).as_str()), (413, "body-too-large"));
    // A form that has nothing in it is shown again; nothing is counted.
    let sent = browser.post_form(&form, &fields[..1]).await;
    assert_eq!(sent.next().unwrap(), page.url);
    assert_eq!((world.outcomes("success").await, world.outcomes("password-wrong").await, world.upstream.count()), (0, 0, 0));

    // The callback is not the form: what it is told is no proof of anything.
    let mut forger = Browser::new();
    let page_of_forger = world.form(&mut forger, "").await;
    let state = page_of_forger.form().field("state").unwrap().to_owned();
    let answer = forger.get(&world.at(&format!("/oauth2/callback?state={state}&code=eyJzdWIiOiJhbm4ifQ.AAAA"))).await;
    assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (502, "code-refused"));
    assert!(forger.cookie("doorward").is_none());

    // The right one, twice at once (a double click): one session, and both end in the app.
    let mut twin = browser.clone();
    let form = page.form();
    let fields = [("name", "ann"), ("password", "correct horse")];
    let (first, second) = tokio::join!(browser.submit(&page, &form, &fields), twin.submit(&page, &form, &fields));
    assert_eq!([first.status.as_u16(), second.status.as_u16()], [303, 303], "{} {}", first.text(), second.text());
    assert_eq!(world.outcomes("success").await, 1);
    // The back button: the form is gone, the session is not.
    let back = if browser.cookie("doorward").is_some() { &mut browser } else { &mut twin };
    let again = back.get(page.url.as_str()).await;
    assert_eq!(target_of(&again), "/");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_was_left_for_too_long_is_begun_anew_in_its_flow() {
    let world = world();
    let mut browser = Browser::new();
    let page = world.form(&mut browser, "?return_to=/late").await;
    world.gateway.advance(11 * MINUTE);
    let sent = browser.submit(&page, &page.form(), &[("name", "ann"), ("password", "correct horse")]).await;
    let page = browser.follow_all(sent).await;
    assert_eq!((page.url.path(), world.upstream.count()), ("/oauth2/sign_in", 0), "{}", page.text());
    let page = try_password(&mut browser, &page, "ann", "correct horse").await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/late"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_file_counts_as_it_is_now_and_needs_no_provider() {
    let dir = TempDir::new("users");
    let file = dir.write_secret("users", format!("carol:{BCRYPT}\n"));
    let upstream = EchoUpstream::start();
    let config = format!("{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\nusers_file = \"{}\"\n", upstream.url(), file.display());
    let world = World { gateway: Gateway::start(&config), upstream };
    let mut browser = Browser::new();
    let page = world.form(&mut browser, "").await;
    let page = try_password(&mut browser, &page, "carol", "battery staple").await;
    assert_eq!((page.status.as_u16(), world.upstream.last().header("x-forwarded-user").as_deref()), (200, Some("carol")));

    let mut browser = Browser::new();
    let page = world.form(&mut browser, "").await;
    assert!(try_password(&mut browser, &page, "dave", "correct horse").await.text().contains("is wrong"));
    std::fs::write(&file, format!("dave:{CHEAP}\n")).unwrap();
    assert!(try_password(&mut browser, &page, "carol", "battery staple").await.text().contains("is wrong"));
    let page = try_password(&mut browser, &page, "dave", "correct horse").await;
    assert_eq!((page.status.as_u16(), world.upstream.last().header("x-forwarded-user").as_deref()), (200, Some("dave")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_taken_out_of_the_file_is_signed_out_within_a_minute_of_use() {
    let dir = TempDir::new("users");
    let file = dir.write_secret("users", format!("carol:{BCRYPT}\ndave:{BCRYPT}\n"));
    let upstream = EchoUpstream::start();
    let config = format!("{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\nusers_file = \"{}\"\n", upstream.url(), file.display());
    let world = World { gateway: Gateway::start(&config), upstream };
    let mut browsers = Vec::new();
    for name in ["carol", "dave"] {
        let mut browser = Browser::new();
        let page = world.form(&mut browser, "").await;
        assert_eq!(try_password(&mut browser, &page, name, "battery staple").await.status, 200);
        browsers.push(browser);
    }
    std::fs::write(&file, format!("dave:{BCRYPT}\n")).unwrap();
    world.gateway.advance(MINUTE);
    let count = world.upstream.count();
    let page = browsers[0].get(&world.at("/app")).await;
    assert_eq!((page.status.as_u16(), world.upstream.count()), (303, count), "{}", page.text());
    assert_eq!(browsers[1].get(&world.at("/app")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_provider_the_chooser_offers_both_and_routes_may_take_one() {
    let provider = HostileProvider::start();
    let upstream = EchoUpstream::start();
    let config = format!(
        r#"{TOP}
[[user]]
name = "ann"
password = "{CHEAP}"
[provider]
id = "corp"
name = "Example Corp"
issuer = "{issuer}"
client_id = "{client_id}"
client_secret = "{client_secret}"
[[route]]
id = "app"
upstream = "{upstream}"
allow = "any-authenticated"
[[route]]
id = "ours"
path = "/ours/"
provider = ["local"]
upstream = "{upstream}"
allow = "any-authenticated"
"#,
        issuer = provider.issuer(),
        client_id = provider.client_id(),
        client_secret = provider.client_secret(),
        upstream = upstream.url(),
    );
    let world = World { gateway: Gateway::start(&config), upstream };
    let mut browser = Browser::new();
    let page = browser.get(&world.at("/wanted")).await;
    let page = browser.follow_all(page).await;
    assert!(page.visible_text().contains("Continue with Example Corp") && page.visible_text().contains("Continue with a password"));
    let nameless = Gateway::start(&config.replace("name = \"Example Corp\"\n", ""));
    let mut other = Browser::new();
    let chooser = other.get(&format!("{}/wanted", nameless.url)).await;
    let chooser = other.follow_all(chooser).await.visible_text();
    assert!(
        chooser.contains("Continue with 127.0.0.1") && !chooser.contains("Example Corp"),
        "without the key it is called by its host: {chooser}"
    );
    let page = browser.click(&page, &page.link("a password")).await;
    let page = browser.follow(&page).await;
    let page = try_password(&mut browser, &page, "ann", "correct horse").await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/wanted"));

    // By the provider, and then to a route that takes our own accounts alone: the form.
    let mut browser = Browser::new();
    let page = browser.get(&world.at("/wanted")).await;
    let page = browser.follow_all(page).await;
    let page = browser.click(&page, &page.link("Example Corp")).await;
    assert_eq!(browser.follow_all(page).await.status, 200);
    let count = world.upstream.count();
    let page = browser.get(&world.at("/ours/")).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.url.path(), world.upstream.count()), ("/oauth2/sign_in", count), "{}", page.text());
    let page = try_password(&mut browser, &page, "ann", "correct horse").await;
    assert_eq!((page.status.as_u16(), world.upstream.last().target.as_str()), (200, "/ours/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_guesses_is_bounded_and_leaves_the_request_path_as_it_was() {
    let world = world_with("", DEAR, "[limits]\nguesses_per_name = 1000\nguesses_per_address = 10000\n");
    let mut bob = Browser::new();
    let page = world.form(&mut bob, "").await;
    assert_eq!(try_password(&mut bob, &page, "bob", "battery staple").await.status, 200);
    let mut stranger = Browser::new();
    let page = world.form(&mut stranger, "").await;
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..150 {
        let (mut browser, page) = (stranger.clone(), page.clone());
        flood.spawn(async move { browser.submit(&page, &page.form(), &[("name", "ann"), ("password", "wrong")]).await });
    }
    let mut took = Vec::new();
    for _ in 0..40 {
        let began = Instant::now();
        assert_eq!(bob.get(&world.at("/app")).await.status, 200);
        took.push(began.elapsed());
    }
    let under_way = flood.len();
    took.sort();
    assert!(took[20] < Duration::from_millis(150), "half of the requests took longer than {:?}", took[20]);
    let mut answers = std::collections::BTreeMap::<u16, usize>::new();
    for page in flood.join_all().await {
        *answers.entry(page.status.as_u16()).or_default() += 1;
        if page.status == 503 {
            assert_eq!((reason_of(&page).as_str(), page.header("retry-after")), ("password-queue", Some("5")));
        }
    }
    // Some wait their turn, the others are not kept waiting.
    assert!(answers.keys().eq([303, 503].iter()) && answers[&503] > 50, "{answers:?}, {under_way} under way");
    assert_eq!(world.outcomes("password-wrong").await, answers[&303] as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_says_little_of_itself_signs_in_over_plain_http_too() {
    // Off this machine and without TLS there is no Sec-Fetch-Site, and our pages hide their Origin.
    let upstream = EchoUpstream::start();
    let config = format!(
        "public_url = \"http://app.lab.test:@PORT@\"\ninsecure_http = true\nupstream = \"{}\"\nallow = \"any-authenticated\"\n[[user]]\nname = \"ann\"\npassword = \"{CHEAP}\"\n",
        upstream.url()
    );
    let gateway = Gateway::start(&config);
    let mut browser = Browser::new().resolve("app.lab.test", gateway.address);
    let page = browser.get(&format!("http://app.lab.test:{}/app", gateway.address.port())).await;
    let page = browser.follow_all(page).await;
    let page = try_password(&mut browser, &page, "ann", "correct horse").await;
    assert_eq!((page.status.as_u16(), upstream.last().target.as_str()), (200, "/app"), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_nobody_is_let_in_and_nothing_is_hashed() {
    let mut redis = Redis::start().await;
    let keys = TempDir::new("keys");
    let key = keys.write_secret("keys", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n");
    let tables = format!("[store]\nkind = \"redis\"\nurl = \"{}\"\n[keys]\nseal_file = \"{}\"\n", redis.url(), key.display());
    let world = world_with("", CHEAP, &tables);
    let mut browser = Browser::new();
    let page = world.form(&mut browser, "").await;
    redis.stop().await;
    let sent = try_password(&mut browser, &page, "ann", "correct horse").await;
    assert_eq!((sent.status.as_u16(), reason_of(&sent).as_str()), (503, "store-unreachable"));
    assert!(sent.set_cookies().is_empty() && world.upstream.count() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_password_nor_code_nor_hash_is_written_anywhere() {
    let port = free_port();
    let upstream = EchoUpstream::start();
    let tables = "[log]\nlevel = \"trace\"\nformat = \"json\"\n[drain]\ndelay = \"0s\"\n";
    let gateway = GatewayProcess::start_on(port, &config("", CHEAP, tables, &upstream.url())).await;
    let mut browser = Browser::new();
    let page = browser.get(&format!("{}/vault/", gateway.url)).await;
    let mut page = browser.follow_all(page).await;
    for password in ["a-wrong-secret", "correct horse"] {
        page = try_password(&mut browser, &page, "ann", password).await;
    }
    page = try_code(&mut browser, &page, "987654").await;
    // The process goes by the system's clock; where a step ends between here and there, the next code is as good.
    let code = code_at(unix_now());
    let page = try_code(&mut browser, &page, &code).await;
    assert_eq!(page.status, 200, "{}", page.text());
    gateway.process.wait_for_line(|line| line.contains("/vault/") && line.contains("allowed"), PATIENCE).await;
    let metrics = fetch(get(&format!("http://{}/metrics", gateway.admin))).await.text();
    let written = gateway.process.output() + &metrics + &upstream.last().everything();
    assert!(written.contains("password-wrong") && written.contains("code-wrong"), "{written}");
    for secret in ["a-wrong-secret", "correct horse", "correct+horse", "correct%20horse", "987654", &code, TOTP, CHEAP, "y2jQKqzv"] {
        assert!(!written.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_the_app_waits_for_the_same_person_while_they_sign_in_with_their_password() {
    let world = world_with("", CHEAP, "[session]\nidle = \"10m\"\n");
    let mut browser = Browser::new();
    let page = world.form(&mut browser, "?return_to=/form").await;
    let page = try_password(&mut browser, &page, "bob", "battery staple").await;
    assert_eq!(page.status, 200);
    world.gateway.advance(11 * MINUTE);
    world.upstream.reset();
    let mut visit = page.visit_from("/save");
    visit.method = http::Method::POST;
    visit.body = Some(("application/x-www-form-urlencoded".to_owned(), b"text=so+far".to_vec()));
    let page = browser.visit(visit).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.url.path(), world.upstream.count()), ("/oauth2/sign_in", 0), "{}", page.text());
    let page = try_password(&mut browser, &page, "bob", "wrong").await;
    let page = try_password(&mut browser, &page, "bob", "battery staple").await;
    assert_eq!((page.status.as_u16(), world.upstream.count()), (200, 0), "{}", page.text());
    let page = browser.submit(&page, &page.form(), &[]).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let seen = world.upstream.last();
    assert_eq!((seen.target.as_str(), seen.body.as_ref()), ("/save", &b"text=so+far"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forms_are_fit_to_be_seen_and_to_be_used_without_a_mouse() {
    let elsewhere = EchoUpstream::start();
    let spa = format!("http://localhost:{}", elsewhere.address().port());
    let top = format!("redirect_origins = [\"{spa}\"]");
    let world = world_with(&top, CHEAP, "[pages]\ntitle = \"Example Corp apps\"\naccent = \"#0b7285\"\n");
    let chromium = Chromium::start().await;
    chromium.go(&world.at("/authorize/continue?state=xyz")).await;
    shows(&chromium, "local-password", &["Sign in", "User name", "Password", "127.0.0.1"]).await;
    for (field, kind) in [("#name", "username"), ("#password", "current-password")] {
        assert_eq!(chromium.attribute(field, "autocomplete").await.as_deref(), Some(kind));
    }
    // The name has the focus.
    chromium.press("ann\u{e004}wrong\u{e007}").await;
    chromium.find(".alert").await;
    chromium.send_keys("#name", "ann").await;
    chromium.send_keys("#password", "wrong\u{e007}").await;
    chromium.find(".alert span").await;
    assert_eq!(chromium.attribute("#password", "aria-describedby").await.as_deref(), Some("failure"));
    shows(&chromium, "local-password-wrong", &["The user name or the password is wrong", "2 attempts failed so far"]).await;
    chromium.send_keys("#name", "ann").await;
    chromium.send_keys("#password", "correct horse\u{e007}").await;
    chromium.find("#code").await;
    shows(&chromium, "local-code", &["Enter your code", "ann", "authenticator app"]).await;
    for (name, value) in [("autocomplete", "one-time-code"), ("inputmode", "numeric")] {
        assert_eq!(chromium.attribute("#code", name).await.as_deref(), Some(value));
    }
    chromium.send_keys("#code", "000000\u{e007}").await;
    chromium.find(".alert").await;
    shows(&chromium, "local-code-wrong", &["The code is wrong or too old", "3 attempts failed so far"]).await;
    chromium.send_keys("#code", &format!("{}\u{e007}", world.code())).await;
    chromium.wait_for_url(|url| url == world.at("/authorize/continue?state=xyz")).await;
    assert!(chromium.body_text().await.contains(r#""x-forwarded-user","ann""#), "{}", chromium.body_text().await);
    assert_silent(&chromium).await;

    // A form of ours that leads to another origin in the end: the page's policy lets it.
    chromium.delete_cookies().await;
    chromium.go(&world.at(&format!("/oauth2/start?rd={spa}/app"))).await;
    chromium.send_keys("#name", "bob").await;
    chromium.send_keys("#password", "battery staple\u{e007}").await;
    chromium.wait_for_url(|url| url == format!("{spa}/app")).await;
    assert_silent(&chromium).await;

    // Whoever has no app: a page, and a way on.
    chromium.go(&world.at("/vault/")).await;
    chromium.send_keys("#name", "bob").await;
    chromium.send_keys("#password", "battery staple\u{e007}").await;
    chromium.find(".actions").await;
    shows(&chromium, "local-no-code", &["needs a second proof", "Use another account", "403 code-not-set"]).await;
}
