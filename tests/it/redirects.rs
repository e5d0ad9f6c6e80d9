//! Where people are sent after login and sign-out: to a place of ours or to one that the config lists, however it is spelled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use std::collections::BTreeSet;

use http::{HeaderValue, Uri};
use url::form_urlencoded::byte_serialize;

use crate::harness::browser::{Browser, Page};
use crate::harness::visit::{Visit, parse};
use crate::harness::world::{Shape, World, reason_of};

/// Places that lead away, or try to. `OWN` is our own authority, `HOST` its name alone.
const AWAY: &[&str] = &[
    "//evil.test",
    "//evil.test/",
    "/\\evil.test",
    "\\\\evil.test",
    "\\/evil.test",
    "/\t/evil.test",
    "/\r\n/evil.test",
    "/\n/evil.test",
    "\t//evil.test",
    "/%09/evil.test",
    "/%0d%0a/evil.test",
    "/%5cevil.test",
    "/%2fevil.test",
    "/%2f/evil.test",
    "/./\\evil.test",
    "/.\\\\evil.test",
    "///evil.test",
    "////evil.test",
    "/\\/evil.test",
    "https:evil.test",
    "http:evil.test",
    "https:/evil.test",
    "http:/evil.test",
    "http:///evil.test",
    "http:\\\\evil.test",
    "http:/\\evil.test",
    "hTTp://evil.test",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    " javascript:alert(1)",
    "\u{1}javascript:alert(1)",
    "javascript://OWN/%0aalert(1)",
    "data:text/html,x",
    "vbscript:x",
    "file:///etc/passwd",
    "blob:http://OWN/x",
    "filesystem:http://OWN/x",
    "view-source:http://OWN/",
    "about:blank",
    "ftp://OWN/",
    "ws://OWN/",
    "https://OWN/",
    "http://HOST/",
    "http://HOST:1/",
    "http://HOST:99999/",
    "http://127.0.0.1/",
    "http://[::1]/",
    "http://OWN@evil.test",
    "http://OWN:x@evil.test/",
    "http://own@evil.test",
    "http://user@OWN/",
    "http://user:secret@OWN/",
    "http://:@OWN/",
    "http://HOST.evil.test/",
    "http://bad-HOST/",
    "http://xHOST/",
    "http://HOST%2eevil.test",
    "http://own%2eevil.test",
    "http://HOST%00.evil.test",
    "http://HOST%0a.evil.test",
    "http://HOST%23.evil.test",
    "http://HOST%40evil.test",
    "http://HOST,evil.test",
    "http://HOST;@evil.test",
    "http://HOST&@evil.test",
    "http://HOST\\@evil.test",
    "http://evil.test\\@OWN/",
    "http://evil.test#@OWN/",
    "http://evil.test?@OWN/",
    "http://evil.test/http://OWN/",
    "http://evil.test/?http://OWN/",
    "http://HOST\u{3002}evil.test/",
    "http://HOST\u{ff0f}evil.test/",
    "http://HOST\u{ff20}evil.test/",
    "http://\u{ff45}vil.test/",
    "http:\u{2044}\u{2044}evil.test",
    "http://evil\u{ad}.test",
    "//evil.test%2f..",
    "//evil%E3%80%82test",
    "//OWN@evil.test",
    "//OWN",
    "//",
    "///",
    "/",
    "http://",
    "http:",
    ":",
    "evil.test",
    ".evil.test",
    "@evil.test",
    "./evil.test",
    "../evil.test",
    "?rd=//evil.test",
    "#//evil.test",
    "/..//evil.test",
    "/a/..//evil.test",
    "/.//evil.test",
    "/;//evil.test",
    "/..;//evil.test",
    "/%2e%2e//evil.test",
    "/a\u{0}//evil.test",
    "/\u{7f}/evil.test",
    "/\u{2028}/evil.test",
    "/x\r\nLocation: http://evil.test",
    "/x\r\nSet-Cookie: a=b",
    "http://OWN/\r\nX: y",
    "http://OWN//evil.test",
    "http://OWN/..//evil.test",
    "http://OWN#@evil.test/",
    "http://OWN?@evil.test/",
    "http://OWN\t/",
    "/app?error_description=https://evil.test",
    "/oauth2/start?rd=//evil.test",
    "/oauth2/sign_out?rd=//evil.test",
    "/oauth2/../oauth2/start?rd=//evil.test",
    "/%6fauth2/start?rd=//evil.test",
    "",
];

const HOST: &str = "own.localhost";

struct Place {
    world: World,
    own: String,
    /// Where a browser may be led at all: ours, and the provider's.
    good: BTreeSet<String>,
}

impl Place {
    fn new(top: &str) -> Self {
        let world = World::shaped(Shape { public_url: "\"http://own.localhost:@PORT@\"", top, ..Shape::default() }, |provider| provider);
        let own = format!("{HOST}:{}", world.gateway.address.port());
        let good = BTreeSet::from([format!("http://{own}"), world.provider.issuer()]);
        Self { world, own, good }
    }

    fn spelled(&self, away: &str) -> String {
        away.replace("OWN", &self.own).replace("HOST", HOST)
    }

    fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.own)
    }

    /// Refused on the spot, or led on and on without ever leaving.
    async fn stays(&self, browser: &mut Browser, page: Page, what: &str) {
        let origin = |url: &url::Url| url.origin().ascii_serialization();
        if page.location().is_none() {
            assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "return-to-refused".to_owned()), "{what}: {}", page.text());
            assert!(page.set_cookies().is_empty(), "{what}");
            let links = crate::harness::html::links(&page.text());
            assert!(links.iter().all(|(href, _)| self.good.contains(&origin(&page.url.join(href).expect("a link is a URL")))), "{what}");
            return;
        }
        let mut page = page;
        for _ in 0..10 {
            let Some(next) = page.next() else { return };
            assert!(self.good.contains(&origin(&next)), "{what}: {}", page.summary());
            // As sent, not only as this parser reads it: one spelling, which no browser reads in another way.
            let location = page.location().unwrap_or_default();
            assert_eq!(location, next.as_str(), "{what}");
            assert!(!location.contains('\\') && location.bytes().all(|byte| (0x21..0x7f).contains(&byte)), "{what}: {location:?}");
            page = browser.follow(&page).await;
        }
        panic!("{what}: no end");
    }
}

fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

async fn nobody_is_led_away(top: &str) {
    let place = Place::new(top);
    let mut refused = 0;
    for away in AWAY {
        let raw = place.spelled(away);
        let value = escaped(&raw);
        let mut urls = vec![
            place.at(&format!("/oauth2/start?rd={value}")),
            place.at(&format!("/oauth2/start?return_to={value}&state=x")),
            place.at(&format!("/oauth2/start?state=x&rd={value}")),
            place.at(&format!("/oauth2/sign_out?rd={value}")),
            place.at(&format!("/oauth2/sign_in?rd={value}")),
        ];
        urls.extend(["start", "sign_out"].map(|endpoint| place.at(&format!("/oauth2/{endpoint}?rd={raw}"))));
        for url in urls {
            // What no request line can hold is sent escaped only.
            if url.parse::<Uri>().is_err() || url::Url::parse(&url).is_err() || url.contains('#') {
                continue;
            }
            let mut browser = Browser::new().with_header("x-forwarded-host", "evil.test").with_header("forwarded", "host=evil.test");
            let before = place.world.upstream.count();
            let page = browser.get(&url).await;
            if url.contains("/sign_in") && page.status == 200 {
                let links = crate::harness::html::links(&page.text());
                assert!(links.iter().all(|(href, _)| href.starts_with(&place.at("/oauth2/start?"))), "{url}: {links:?}");
                continue;
            }
            if page.status == 400 {
                refused += 1;
                assert_eq!(place.world.upstream.count(), before, "{url}");
            }
            place.stays(&mut browser, page, &url).await;
        }
        let mut browser = Browser::new().with_header("x-forwarded-host", "evil.test");
        let page = browser.post_form(&place.at("/oauth2/sign_out"), &[("rd", &raw)]).await;
        place.stays(&mut browser, page, &format!("POST sign_out {raw:?}")).await;
        if HeaderValue::try_from(raw.as_str()).is_ok() {
            for endpoint in ["start", "sign_in", "sign_out"] {
                let mut browser = Browser::new().with_header("x-forwarded-host", "evil.test");
                let mut visit = Visit::to(parse(&place.at(&format!("/oauth2/{endpoint}"))));
                visit.headers.push(("x-auth-request-redirect".to_owned(), raw.clone()));
                let page = browser.visit(visit).await;
                let what = format!("{endpoint}, X-Auth-Request-Redirect {raw:?}");
                // Whose header does not count is signed out, and shown so.
                if endpoint == "sign_out" && page.status == 200 {
                    let links = crate::harness::html::links(&page.text());
                    assert!(!links.is_empty() && links.iter().all(|(href, _)| href.starts_with(&place.at("/"))), "{what}: {links:?}");
                    continue;
                }
                place.stays(&mut browser, page, &what).await;
            }
        }
    }
    // Most of them are refused, not led somewhere harmless.
    assert!(refused > 3 * AWAY.len(), "only {refused}");
    assert!(place.world.answers("return-to-refused").await >= refused as u64);
    let own = place.at("/oauth2/callback");
    assert!(place.world.provider.authorizations().iter().all(|asked| asked["redirect_uri"] == own));
    let foreign = place.world.upstream.requests().into_iter().find(|seen| seen.header("host").as_deref() != Some(place.own.as_str()));
    assert!(foreign.is_none(), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_foreign_place_leads_anybody_away() {
    nobody_is_led_away("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_foreign_place_leads_anybody_away_behind_a_trusted_proxy() {
    nobody_is_led_away("trusted_proxies = [\"127.0.0.1\"]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redirect_header_counts_from_a_listed_peer_alone() {
    for (top, wanted) in [("", "/"), ("trusted_proxies = [\"127.0.0.1\"]", "/from/the?proxy=1&b=2")] {
        let place = Place::new(top);
        let mut browser = Browser::new();
        for endpoint in ["start", "sign_in"] {
            // A place under the prefix would lead in a circle.
            let lines = [(&["/from/the?proxy=1&b=2"][..], wanted), (&["/one", "/two"], "/"), (&["/oauth2/sign_out"], "/")];
            for (lines, wanted) in lines {
                let mut visit = Visit::to(parse(&place.at(&format!("/oauth2/{endpoint}"))));
                visit.headers = lines.iter().map(|line| ("x-auth-request-redirect".to_owned(), (*line).to_owned())).collect();
                let page = browser.visit(visit).await;
                let page = browser.follow_all(page).await;
                let found = (page.status.as_u16(), place.world.upstream.last().target.clone());
                assert_eq!(found, (200, wanted.to_owned()), "{top} {endpoint} {lines:?}");
            }
            // What the request itself names goes before the header; twice is no name.
            let header = ("x-auth-request-redirect".to_owned(), "/from/the/proxy".to_owned());
            let mut visit = Visit::to(parse(&place.at(&format!("/oauth2/{endpoint}?rd=/named/{endpoint}"))));
            visit.headers.push(header.clone());
            let page = browser.visit(visit).await;
            browser.follow_all(page).await;
            assert_eq!(place.world.upstream.last().target, format!("/named/{endpoint}"));
            let page = browser.get(&place.at(&format!("/oauth2/{endpoint}?rd=/one&return_to=/two"))).await;
            assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "parameter-invalid".to_owned()), "{endpoint}");
        }
        // After signing out too: nobody is signed in here, so that nobody asks first.
        let signed_out = |raw: &str| {
            let mut visit = Visit::to(parse(&place.at("/oauth2/sign_out")));
            visit.headers.push(("x-auth-request-redirect".to_owned(), raw.to_owned()));
            visit
        };
        let trusted = !top.is_empty();
        for (raw, wanted) in [("/bye?a=1&b=2", "/bye?a=1&b=2"), ("/oauth2/sign_out", "/")] {
            let page = Browser::new().visit(signed_out(raw)).await;
            let expected = trusted.then(|| place.at(wanted));
            assert_eq!((page.status.as_u16(), page.location()), (if trusted { 303 } else { 200 }, expected.as_deref()), "{raw}");
        }
        let page = Browser::new().visit(signed_out("https://evil.test/")).await;
        assert_eq!(page.status, if trusted { 400 } else { 200 }, "{top}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_origins_are_allowed_and_only_they() {
    let place = Place::new("redirect_origins = [\"https://spa.test:8443\"]");
    let mut browser = Browser::new();
    for endpoint in ["start", "sign_out"] {
        let url = place.at(&format!("/oauth2/{endpoint}?rd={}", escaped("https://spa.test:8443/done?a=1&b=2#part")));
        let page = browser.get(&url).await;
        let page = browser.follow_up_to(page, "https://spa.test:8443/").await;
        assert_eq!(page.location(), Some("https://spa.test:8443/done?a=1&b=2#part"), "{endpoint}");
        browser.remove_cookies(|_| true);
    }
    for other in
        ["https://spa.test/", "http://spa.test:8443/", "https://sub.spa.test:8443/", "https://spa.test:8443@evil.test/", "//spa.test:8443/"]
    {
        for endpoint in ["start", "sign_out"] {
            let page = browser.get(&place.at(&format!("/oauth2/{endpoint}?rd={}", escaped(other)))).await;
            assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "return-to-refused".to_owned()), "{endpoint} {other}");
        }
    }
    assert_eq!(place.world.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_begins_no_login_but_another_sites_by_name_of_its_provider() {
    let place = Place::new("");
    let mut browser = Browser::new();
    for rd in ["//evil.test", "/own"] {
        let page = browser.post_form(&place.at("/oauth2/start"), &[("rd", rd)]).await;
        assert_eq!((page.status.as_u16(), reason_of(&page)), (400, "parameter-invalid".to_owned()));
        assert!(page.location().is_none() && page.set_cookies().is_empty());
    }
}
