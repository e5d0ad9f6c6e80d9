//! What becomes of a request's headers on their way to the upstream: theirs out, ours in.

use doorward::header::cookies::{CookieStyle, SameSite, Secure};
use doorward::header::{
    Forwarding, IdentityFamily, IdentityHeader, LastTold, Naming, OwnCookies, PreparedHeaders, Telling, TokensToTell, UnderscoreNames,
    remove_hop_by_hop, set_forwarded, strip_credentials, strip_identity,
};
use doorward::request::{Host, Scheme};
use doorward::session::SessionCookie;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::measure::{curve, step};
use crate::people;

pub fn run() {
    let style = CookieStyle::new(Secure::Yes, None, "", SameSite::Lax);
    let (family, host, ann, prepared) =
        (IdentityFamily::new([]), Host::parse("app.bench.test").unwrap(), people::ann(3), PreparedHeaders::default());
    let own = [IdentityHeader::User, IdentityHeader::Email, IdentityHeader::PreferredUsername, IdentityHeader::Groups];
    let (peer, last) = ("203.0.113.7".parse().unwrap(), LastTold::default());
    let outgoing = |headers: &HeaderMap| {
        let mut headers = headers.clone();
        remove_hop_by_hop(&mut headers);
        strip_identity(&mut headers, &family, UnderscoreNames::Drop);
        strip_credentials(&mut headers, OwnCookies(&style), |_| false);
        let telling = Telling { route: 1, names: &own, rules: &[] };
        prepared.get(&ann, TokensToTell::default(), telling, Naming::Upstream).unwrap().set(&mut headers);
        set_forwarded(&mut headers, Forwarding { peer, scheme: Scheme::Https, host: &host, before: None }, &last);
        headers
    };
    let requests = [5, 20, 60].map(|count| (count, request(count, &style)));
    for (count, request) in &requests {
        let sent = outgoing(request);
        // `Connection` goes, four names of ours and four of the way here come.
        assert_eq!((request.len(), sent.len()), (*count, count - 1 + 8));
        assert_eq!(
            (&sent["x-forwarded-user"], &sent["cookie"]),
            (&"5ba552d67f1c4c0d9b3b1fe2".parse().unwrap(), &"theme=dark".parse().unwrap())
        );
    }
    let named = |count: &usize| format!("of {count}");
    curve(
        "headers: copied, which the next holds too",
        requests.iter().map(|(count, request)| step(named(count), || request.clone())).collect(),
    );
    curve(
        "headers: made ready for the upstream",
        requests.iter().map(|(count, request)| step(named(count), || outgoing(request))).collect(),
    );
}

/// So many headers: those of every request first, then what browsers add, then those of an app.
fn request(count: usize, style: &CookieStyle) -> HeaderMap {
    let cookie = format!("theme=dark; {}={}", style.session, SessionCookie::new().write());
    let usual = [
        ("host", "app.bench.test"),
        ("connection", "keep-alive"),
        ("cookie", &cookie),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept-language", "en-US,en;q=0.9"),
        ("referer", "https://app.bench.test/"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
        ("upgrade-insecure-requests", "1"),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in usual.into_iter().take(count) {
        headers.insert(HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
    }
    for n in headers.len()..count {
        headers.insert(HeaderName::try_from(format!("x-app-{n}")).unwrap(), HeaderValue::from_static("0123456789abcdef"));
    }
    headers
}
