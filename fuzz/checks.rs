//! What holds whatever a stranger sends. Each function is one target of `cargo fuzz` and is run over its corpus by the tests.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use doorward::clock::UnixTime;
use doorward::header::cookies::{self, CookieStyle, SameSite, Secure};
use doorward::header::{AddressSource, Mending, Peer, TrustedPeer, TrustedProxies, device_of, forwarded_certificate, whence};
use doorward::login::{FlowCookie, State};
use doorward::request::{AllowedOrigins, CanonicalPath, Host, Scheme, Sites, Slashes, parameter};
use doorward::secret::Secret;
use doorward::server::ProxyPeers;
use doorward::session::{SessionCookie, ShownAs};
use doorward::store::record;
use doorward::telemetry::trace::Sampling;
use doorward::telemetry::{Ids, TraceContext};
use doorward::token::dpop::Proof;
use doorward::token::{
    AccessTokenRules, Algorithm, Audience, IdTokenExpectation, IntrospectionRules, Issuer, KeySet, LogoutTokenExp, LogoutTokenExpectation,
    Nonce, TokenType, id_token, logout_token,
};
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus too.
pub const TARGETS: &[(&str, Target)] = &[
    ("access_token", access_token),
    ("certificate", certificate),
    ("cookies", cookies),
    ("dpop", dpop),
    ("forwarded", forwarded),
    ("host", host),
    ("id_token", id_token),
    ("introspection", introspection),
    ("jwks", jwks),
    ("location", location),
    ("logout_token", logout_token),
    ("parameters", parameters),
    ("path", path),
    ("proxy_protocol", proxy_protocol),
    ("records", records),
    ("return_to", return_to),
    ("trace", trace),
];

const ISSUER: &str = "https://issuer.test";
/// The time at which the tokens below count.
const NOW: UnixTime = UnixTime(1_800_000_000);
const LEEWAY: Duration = Duration::from_secs(60);
const ALGORITHMS: &[Algorithm] = &[Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256];

/// The key that signed the tokens below; nobody has its other half any more.
const JWKS: &str =
    r#"{"keys":[{"crv":"Ed25519","x":"qFexHCO4y9gxbLxulXEHmkQY7PmNqvSc_pb6SxXGpqI","kty":"OKP","kid":"k","alg":"EdDSA","use":"sig"}]}"#;
const ACCESS_TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImsiLCJ0eXAiOiJhdCtqd3QifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0Iiwic3ViIjoiYW5uIiwiYXVkIjoib3JkZXJzIiwiY2xpZW50X2lkIjoiYXBwIiwiaWF0IjoxNzk5OTk5OTkwLCJleHAiOjE4MDAwMDA2MDAsImp0aSI6IjEiLCJzY29wZSI6Im9yZGVyczpyZWFkIG9yZGVyczp3cml0ZSJ9.oNZyQU209XfbLfl0sA8ZfLpcbQohsAXJvG4kkrs3DgnQyCez4JRrZGL1rsMWhISQaCngNWY6ck5tTxC50yk6Cw";
const ID_TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImsiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0Iiwic3ViIjoiYW5uIiwiYXVkIjoiYXBwIiwiaWF0IjoxNzk5OTk5OTkwLCJleHAiOjE4MDAwMDA2MDAsIm5vbmNlIjoibi0wUzZfV3pBMk1qIiwiYXV0aF90aW1lIjoxNzk5OTk5OTgwLCJlbWFpbCI6ImFubkBleGFtcGxlLmNvbSIsImVtYWlsX3ZlcmlmaWVkIjp0cnVlLCJncm91cHMiOlsic3RhZmYiXX0.Mqr6f3rfo4UUO8e0mfswnIVwpVG22ruIyRV2LHft9I1Ip5OeJZ6yLBKUrOtBL76ILf-_5-4-bYLQ9KfczZc3AQ";
const LOGOUT_TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImsiLCJ0eXAiOiJsb2dvdXQrand0In0.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0Iiwic3ViIjoiYW5uIiwiYXVkIjoiYXBwIiwiaWF0IjoxNzk5OTk5OTkwLCJleHAiOjE4MDAwMDAxMDAsImp0aSI6IjIiLCJzaWQiOiJzIiwiZXZlbnRzIjp7Imh0dHA6Ly9zY2hlbWFzLm9wZW5pZC5uZXQvZXZlbnQvYmFja2NoYW5uZWwtbG9nb3V0Ijp7fX19.VXTrbFAbEZ_Q4SnP9xwxW8humRz_oXr2mpGMgSXHR0HfDQ9YuiFZ3x5zVuf-ash_eJZzIqbwJoR9InJ5z5bZAQ";

static KEYS: LazyLock<KeySet> = LazyLock::new(|| KeySet::parse(JWKS.as_bytes()).expect("a key set"));

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Headers, one a line: what hyper would have let through.
fn headers(data: &[u8], name: &HeaderName) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in data.split(|byte| *byte == b'\n').take(8).filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        headers.append(name, value);
    }
    headers
}

/// A path has one reading: reading it again changes nothing, and nothing in it leads up.
pub fn path(data: &[u8]) {
    if let Some(Ok(kept)) = text(data).map(|raw| CanonicalPath::read(raw, Slashes::Kept)) {
        assert_eq!(CanonicalPath::read(kept.as_str(), Slashes::Kept).as_ref().map(CanonicalPath::as_str), Ok(kept.as_str()));
        assert!(kept.as_str().split('/').all(|piece| piece != "." && piece != ".."), "{kept:?}");
    }
    let Some(Ok(path)) = text(data).map(CanonicalPath::parse) else { return };
    assert!(path.as_str().starts_with('/'));
    assert_eq!(CanonicalPath::parse(path.as_str()).as_ref().map(CanonicalPath::as_str), Ok(path.as_str()));
    assert!(path.as_str().split('/').all(|piece| piece != "." && piece != ".."), "{path:?}");
    assert!(path.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'), "{path:?}");
    assert!(!path.as_str().contains("//"), "{path:?}");
}

/// A host that was read is written so that it reads as the same one.
pub fn host(data: &[u8]) {
    let Some(host) = text(data).and_then(Host::parse) else { return };
    assert_eq!(Host::parse(&host.to_string()).as_ref(), Some(&host));
    // A browser refuses some, such as a label that begins with xn-- and is no punycode; none is read in another way.
    let url = Url::parse(&format!("https://{host}/"));
    assert!(url.is_err() || url.is_ok_and(|url| url.path() == "/" && url.username().is_empty()), "{host}");
}

static ORIGINS: LazyLock<AllowedOrigins> = LazyLock::new(|| {
    let url = |text: &str| Url::parse(text).expect("a URL");
    let sites = Sites::new(vec![url("https://own.test")], &["second.test".to_owned()], &[], None).expect("sites");
    AllowedOrigins::new(Arc::new(sites), &[url("https://spa.test")])
});

/// Wherever somebody is sent after a login, it is one of ours, for browsers too.
pub fn return_to(data: &[u8]) {
    let base = Url::parse("https://own.test").expect("a URL");
    let Some(found) = text(data).and_then(|raw| ORIGINS.check(raw, &base, "/oauth2")) else { return };
    let url = Url::parse(found.as_str()).expect("what is sent is a URL");
    let origin = url.origin().ascii_serialization();
    assert!(["https://own.test", "https://second.test", "https://spa.test"].contains(&origin.as_str()), "{}", found.as_str());
    assert!(HeaderValue::from_str(found.as_str()).is_ok());
    assert!(url.username().is_empty() && url.password().is_none());
}

/// Our cookies are taken out, all of them, and nobody else's.
pub fn cookies(data: &[u8]) {
    let style = CookieStyle::new(Secure::Yes, None, "", SameSite::Lax);
    let mut headers = headers(data, &COOKIE);
    let others = |headers: &HeaderMap| -> Vec<(String, String)> {
        let all = cookies::pairs(headers).map(|(name, value)| (name.to_owned(), value.to_owned()));
        all.filter(|(name, _)| !style.is_ours(name)).collect()
    };
    let before = others(&headers);
    cookies::remove(&mut headers, |name| style.is_ours(name));
    assert!(cookies::pairs(&headers).all(|(name, _)| !style.is_ours(name)));
    assert_eq!(others(&headers), before);
    for (_, value) in &before {
        if let Some(cookie) = SessionCookie::parse(value) {
            assert_eq!(&cookie.write(), value);
        }
        let _ = FlowCookie::parse("AAAAAAAAAAAAAAAAAAAAAA", value);
        let _ = State::parse(value);
    }
}

fn trusted() -> TrustedProxies {
    TrustedProxies(vec![TrustedPeer::Network("10.0.0.0/8".parse().expect("a network"))])
}

/// A peer that nobody listed is who it is, whatever it says; of a listed one the address is one that is not listed, or not known.
pub fn forwarded(data: &[u8]) {
    let trusted = trusted();
    let at = |address: &str| Peer::At(SocketAddr::new(address.parse().expect("an address"), 1));
    for (name, source) in [
        ("x-forwarded-for", AddressSource::XForwardedFor),
        ("forwarded", AddressSource::Forwarded),
        ("x-real-ip", AddressSource::Single(HeaderName::from_static("x-real-ip"))),
    ] {
        let headers = headers(data, &HeaderName::from_static(name));
        let stranger = at("192.0.2.1");
        let found = whence(stranger, &headers, &trusted, &source);
        assert_eq!((found.counted, found.known), (stranger.ip(), Some(stranger.ip())));
        let found = whence(at("10.0.0.1"), &headers, &trusted, &source);
        assert!(found.known.is_none_or(|known| known == found.counted), "{found:?}");
        assert!(found.known.is_none() || !headers.is_empty());
    }
}

/// A header of the PROXY protocol is read to its end and no byte further, or the connection is closed.
pub fn proxy_protocol(data: &[u8]) {
    let peers = ProxyPeers::new(trusted());
    let peer = Peer::At("10.0.0.1:1".parse().expect("an address"));
    let mut rest = data;
    // It reads from memory, where nothing is waited for.
    let Poll::Ready(named) = pin!(peers.name(peer, &mut rest)).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits for something")
    };
    if let Ok(named) = named {
        assert!(matches!(named, Peer::At(_) | Peer::Unnamed(_)));
        let read = data.len() - rest.len();
        assert!((15..=16 + 4096).contains(&read), "{read}");
        assert!(data.starts_with(b"PROXY ") || data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    }
    let stranger = Peer::At("192.0.2.1:1".parse().expect("an address"));
    let mut rest = data;
    let named = pin!(peers.name(stranger, &mut rest)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(named, Poll::Ready(Err(_))) && rest.len() == data.len());
}

/// What an upstream says of its own place is mended to a place of ours, and what leads elsewhere is left.
pub fn location(data: &[u8]) {
    let host = Host::parse("own.test").expect("a host");
    let names = [Host::parse("app.internal:8080").expect("a host")];
    let mending = Mending { outside: "/ops", inside: "", scheme: Scheme::Https, host: &host, names: &names, own: "/oauth2" };
    for name in [http::header::LOCATION, http::header::REFRESH, http::header::SET_COOKIE] {
        let before = headers(data, &name);
        let mut after = before.clone();
        mending.mend(&mut after);
        assert_eq!(before.get_all(&name).iter().count(), after.get_all(&name).iter().count());
        for (was, is) in
            before.get_all(&name).iter().zip(after.get_all(&name)).filter(|(was, is)| was != is && name == http::header::LOCATION)
        {
            let url =
                |value: &HeaderValue| Url::parse("https://own.test/ops/").ok()?.join(std::str::from_utf8(value.as_bytes()).ok()?).ok();
            assert!(url(is).is_none_or(|url| url.host_str() == Some("own.test")), "{was:?} became {is:?}");
        }
    }
}

/// What is taken out is not there any more; the rest reads as before.
pub fn parameters(data: &[u8]) {
    let others = |text: &[u8]| -> Vec<(String, String)> {
        url::form_urlencoded::parse(text)
            .filter(|(name, _)| name != "access_token")
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    };
    let Some(rest) = parameter::without(data, "access_token") else { return };
    assert_eq!(parameter::values_of(&rest, "access_token").count(), 0);
    assert_eq!(others(&rest), others(data));
}

/// Only what the issuer signed counts.
pub fn access_token(data: &[u8]) {
    let rules = AccessTokenRules {
        issuer: ISSUER.to_owned(),
        audience: Audience::AnyOf(Arc::from(["orders".to_owned()])),
        algorithms: ALGORITHMS.to_vec(),
        typ: TokenType::AtJwt,
        client_id: None,
        scope_claim: None,
        leeway: LEEWAY,
    };
    let Some(token) = text(data) else { return };
    let _ = doorward::token::peek_issuer(token);
    let Ok(presented) = rules.read(token) else { return };
    let Ok(found) = presented.find_key(&KEYS) else { return };
    if presented.verify(&found).is_ok() {
        assert_eq!(token, ACCESS_TOKEN);
    }
}

/// As [`access_token`].
pub fn id_token(data: &[u8]) {
    let Some(token) = text(data) else { return };
    let access_token = Secret::new("at");
    let issuer = Issuer::One(ISSUER.to_owned());
    let expect = IdTokenExpectation {
        issuer: &issuer,
        client_id: "app",
        algorithms: ALGORITHMS,
        trusted_audiences: &[],
        nonce: Nonce::Sent("n-0S6_WzA2Mj"),
        access_token: &access_token,
        leeway: LEEWAY,
    };
    if id_token::verify(token, &KEYS, &expect, NOW).is_ok() {
        assert_eq!(token, ID_TOKEN);
    }
}

/// As [`access_token`].
pub fn logout_token(data: &[u8]) {
    let Some(token) = text(data) else { return };
    let _ = logout_token::peek(token);
    let issuer = Issuer::One(ISSUER.to_owned());
    let expect =
        LogoutTokenExpectation { issuer: &issuer, client_id: "app", algorithms: ALGORITHMS, exp: LogoutTokenExp::Required, leeway: LEEWAY };
    if logout_token::verify(token, &KEYS, &expect, NOW).is_ok() {
        assert_eq!(token, LOGOUT_TOKEN);
    }
}

/// A proof that is taken names a key and an id, and both are bounded.
pub fn dpop(data: &[u8]) {
    if let Some(Ok(proof)) = text(data).map(|text| Proof::read(text, ALGORITHMS)) {
        assert!(!proof.jti().is_empty());
        let _ = proof.nonce();
    }
}

/// Keys of kinds that nobody knows are skipped; none makes the set unreadable.
pub fn jwks(data: &[u8]) {
    if let Ok(keys) = KeySet::parse(data) {
        assert!(keys.len() < data.len());
    }
}

/// An answer is active only if it says so by a boolean.
pub fn introspection(data: &[u8]) {
    let rules = IntrospectionRules { issuer: ISSUER.to_owned(), scope_claim: None, user_claim: None, leeway: LEEWAY };
    if let Ok(Ok(_)) = rules.read(data) {
        let answer: serde_json::Value = serde_json::from_slice(data).expect("it was read");
        assert_eq!(answer["active"], serde_json::Value::Bool(true));
    }
}

/// A certificate in a header is read or refused.
pub fn certificate(data: &[u8]) {
    let name = HeaderName::from_static("client-cert");
    let _ = forwarded_certificate(&headers(data, &name), &name);
}

/// A trace of somebody else's gives a request id that fits a header, and nothing else.
pub fn trace(data: &[u8]) {
    let ids = Ids::new();
    for name in ["traceparent", "x-request-id"] {
        let trace = TraceContext::of(&headers(data, &HeaderName::from_static(name)), &ids, Sampling::Off);
        assert!(!trace.request_id().is_empty() && trace.request_id().bytes().all(|byte| byte.is_ascii_graphic()));
        let _ = trace.upstream_value(&ids);
    }
    if let Some(text) = text(data) {
        assert!(device_of(text, ShownAs::Cookie).len() < 64);
    }
}

/// What nobody sealed opens nothing.
pub fn records(data: &[u8]) {
    let cookie = SessionCookie::parse(&"A".repeat(64)).expect("a cookie");
    assert!(record::open_session(data, &cookie).is_none());
    assert!(record::open_ended(data, &cookie).is_none());
    let flow = FlowCookie::parse("AAAAAAAAAAAAAAAAAAAAAA", &"A".repeat(43)).expect("a flow");
    assert!(record::open_flow(data, &flow).is_none());
}
