//! How a provider is reached: through a proxy, by a private authority, at an inside address, at written endpoints.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::browser::{Browser, Page};
use crate::harness::certs::CertificateAuthority;
use crate::harness::forward_proxy::ForwardProxy;
use crate::harness::gateway::{Gateway, TOP, provider as table};
use crate::harness::hostile::{Endpoint, HostileBuilder, HostileProvider, Lie};
use crate::harness::http::{fetch, get};
use crate::harness::temp::TempDir;
use crate::harness::token_issuer::{Canned, CannedIssuer};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{eventually, within};
use crate::harness::world::reason_of;

/// What a program gets that shows this token, or none.
async fn shown(url: &str, token: &str) -> Answer {
    let mut request = get(url);
    if !token.is_empty() {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    fetch(request).await
}

/// A name that only the proxy and the browser know.
const NAME: &str = "login.example.test";
/// Another one.
const APP: &str = "app.example.test";

/// A provider over TLS under a name of its own, an upstream, and who signed the provider's certificate.
struct Away {
    authority: CertificateAuthority,
    provider: HostileProvider,
    upstream: EchoUpstream,
}

impl Away {
    fn start(name: &str, kind: impl FnOnce(HostileBuilder) -> HostileBuilder) -> Self {
        let authority = CertificateAuthority::new();
        let provider = kind(HostileProvider::builder()).tls(&authority.leaf(&[name]), name).start();
        Self { authority, provider, upstream: EchoUpstream::start() }
    }

    /// The config with these keys of `[provider]`.
    fn config(&self, provider: &str) -> String {
        let (issuer, secret) = (self.provider.issuer(), self.provider.client_secret());
        format!(
            "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n[provider]\nissuer = \"{issuer}\"\nclient_id = \"doorward\"\n\
             client_secret = \"{secret}\"\ntls = {{ ca_file = \"{}\" }}\n{provider}\n",
            self.upstream.url(),
            self.authority.file().display()
        )
    }

    fn browser(&self) -> Browser {
        Browser::new().trusting(Arc::clone(&self.authority.client_config())).resolve(NAME, self.provider.address())
    }

    /// A login from its first request on.
    async fn visit(&self, gateway: &Gateway) -> Page {
        let mut browser = self.browser();
        let page = browser.get(&format!("{}/app?x=1", gateway.url)).await;
        browser.follow_all(page).await
    }

    async fn lets_in(&self, gateway: &Gateway) {
        let page = self.visit(gateway).await;
        assert_eq!((page.status.as_u16(), self.upstream.last().target.as_str()), (200, "/app?x=1"), "{}", page.text());
        assert_eq!(self.provider.complaints(), Vec::<String>::new());
    }

    /// The line that says why nobody could begin to sign in.
    async fn is_unreachable(&self, gateway: &Gateway) -> String {
        let page = self.visit(gateway).await;
        assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (503, "provider-unreachable"), "{}", page.text());
        assert!(page.set_cookies().is_empty() && page.header("retry-after").is_some());
        assert_eq!((self.upstream.count(), self.provider.count(Endpoint::Token)), (0, 0));
        gateway.access_line("provider-unreachable").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_wants_a_password_carries_every_call_to_the_provider() {
    let (away, proxy) = (Away::start(NAME, |provider| provider), ForwardProxy::start(&[NAME]).await);
    let gateway = Gateway::start(&away.config(&format!("proxy = \"{}\"", proxy.url())));
    away.lets_in(&gateway).await;
    let place = format!("{NAME}:{}", away.provider.address().port());
    assert_eq!([Endpoint::Token, Endpoint::Userinfo, Endpoint::Jwks].map(|endpoint| away.provider.count(endpoint)), [1, 1, 1]);

    gateway.stop();
    let lines = proxy.tunnels(&place, 1).await;
    assert!(lines.iter().all(|line| line.ends_with(" ann 200")), "{lines:?}");

    // A new password in the file counts for the next connection.
    let dir = TempDir::new("proxy");
    let file = dir.write_secret("proxy", proxy.url_of("wrong"));
    let gateway = Gateway::start(&away.config(&format!("proxy_file = \"{}\"\n[log]\nformat = \"json\"", file.display())));
    away.provider.reset_counts();
    away.upstream.reset();
    let line = away.is_unreachable(&gateway).await;
    assert!(line.contains(&format!("the proxy {}: answered 407", proxy.address())), "{line}");
    assert!(!line.contains("wrong") && !line.contains("ann"), "{line}");
    dir.write_secret("proxy", proxy.url());
    gateway.advance(Duration::from_secs(10));
    away.lets_in(&gateway).await;
    // Without any, and where no proxy is.
    for (url, said) in [
        (format!("http://{}", proxy.address()), "answered 407"),
        ("http://127.0.0.1:1".to_owned(), "the proxy 127.0.0.1:1: "),
        // A web server that is none.
        (away.provider.issuer().replace("https://", "http://").replace(NAME, "127.0.0.1"), "the proxy 127.0.0.1:"),
    ] {
        let gateway = Gateway::start(&away.config(&format!("proxy = \"{url}\"\n[log]\nformat = \"json\"")));
        away.provider.reset_counts();
        away.upstream.reset();
        let page = away.visit(&gateway).await;
        assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (503, "provider-unreachable"), "{url}");
        let line = gateway.access_line("provider-unreachable").await;
        assert!(line.contains(said), "{url}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environments_proxy_is_for_whoever_gives_tokens_and_for_nobody_else() {
    let (away, proxy) = (Away::start(NAME, |provider| provider), ForwardProxy::start(&[NAME, APP]).await);
    let issuer = away.provider.issuer();
    let ca = format!("tls = {{ ca_file = \"{}\" }}\n", away.authority.file().display());
    let tables = format!(
        "[store]\nkind = \"memory\"\n[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"api\"\n{ca}\
         [outbound.api]\nissuer = \"{issuer}\"\nclient_id = \"doorward\"\nclient_secret = \"{}\"\n{ca}\
         [[route]]\npath = \"/api/\"\nupstream = \"{up}\"\naccept = [\"bearer\"]\nallow = \"any-authenticated\"\n\
         [[route]]\nid = \"out\"\npath = \"/out/\"\nupstream = \"{up}\"\naccess = \"public\"\noutbound = \"api\"\n\
         [[route]]\npath = \"/named/\"\nupstream = \"https://{APP}:1\"\naccess = \"public\"\n\
         [[route]]\npath = \"/\"\nupstream = \"{up}\"\nallow = \"any-authenticated\"\n",
        away.provider.client_secret(),
        up = away.upstream.url()
    );
    let config = away.config(&tables).replacen(&format!("upstream = \"{}\"\nallow = \"any-authenticated\"\n", away.upstream.url()), "", 1);
    let token = away.provider.access_token(json!({ "aud": "api" }), "at+jwt");
    let by_token = async |gateway: &Gateway| shown(&format!("{}/api/x", gateway.url), &token).await.status.as_u16();
    let bare = proxy.url().replace("http://", "");
    for (name, value) in [("HTTPS_PROXY", proxy.url()), ("https_proxy", bare)] {
        let gateway =
            Gateway::start_among(&[(name, &value), ("NO_PROXY", "internal,10.0.0.0/8"), ("HTTP_PROXY", "http://127.0.0.1:1")], &config);
        away.lets_in(&gateway).await;
        assert_eq!(by_token(&gateway).await, 200);
        assert_eq!(shown(&format!("{}/out/x", gateway.url), "").await.status, 200);
        assert!(away.upstream.last().header("authorization").is_some());
        // An upstream of a name that only the proxy knows is not reached through it.
        let page = shown(&format!("{}/named/x", gateway.url), "").await;
        assert_eq!(page.status, 502, "{}", page.text());
        gateway.stop();
    }
    // Each of the three has connections of its own, in both gateways.
    proxy.tunnels(&format!("{NAME}:{}", away.provider.address().port()), 6).await;

    // Listed, it is looked for without the proxy: and nobody knows it here.
    let gateway = Gateway::start_among(&[("HTTPS_PROXY", &proxy.url()), ("no_proxy", "example.test")], &config);
    away.provider.reset_counts();
    away.upstream.reset();
    let line = away.is_unreachable(&gateway).await;
    assert!(!line.contains("the proxy"), "{line}");
    assert_eq!(by_token(&gateway).await, 503);
    // What stands at the provider counts before the environment.
    let gateway = Gateway::start_among(
        &[("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "*")],
        &config.replacen("client_id", &format!("proxy = \"{}\"\nclient_id", proxy.url()), 1),
    );
    away.lets_in(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_issuer_is_reached_through_the_proxy_that_stands_at_it() {
    let (away, proxy) = (Away::start(NAME, |provider| provider), ForwardProxy::start(&[NAME]).await);
    let token = away.provider.access_token(json!({ "aud": "api" }), "at+jwt");
    let gateway = |keys: &str| {
        Gateway::start(&format!(
            "{TOP}store.kind = \"memory\"\n[[token_issuer]]\nissuer = \"{}\"\naudience = \"api\"\ntls = {{ ca_file = \"{}\" }}\n{keys}\n\
             [[route]]\nupstream = \"{}\"\naccept = [\"bearer\"]\nallow = \"any-authenticated\"\n",
            away.provider.issuer(),
            away.authority.file().display(),
            away.upstream.url()
        ))
    };
    let asked = async |gateway: &Gateway| {
        away.upstream.reset();
        let answer = shown(&format!("{}/api/x", gateway.url), &token).await;
        if answer.status == 200 {
            assert_eq!(away.upstream.count(), 1);
            return String::new();
        }
        assert_eq!((answer.status.as_u16(), away.upstream.count()), (503, 0), "{}", answer.text());
        reason_of(&answer)
    };
    let unreachable = "keys-unreachable";
    let [right, wrong] = [proxy.url(), proxy.url_of("wrong")].map(|url| format!("proxy = \"{url}\""));
    for (keys, outcome) in [("", unreachable), (&wrong, unreachable), (&right, "")] {
        assert_eq!(asked(&gateway(keys)).await, outcome, "{keys}");
    }
    // In a file it is the one of now.
    let dir = TempDir::new("proxy");
    let file = dir.write_secret("proxy", proxy.url_of("wrong"));
    let gateway = gateway(&format!("proxy_file = \"{}\"", file.display()));
    assert_eq!(asked(&gateway).await, unreachable);
    dir.write_secret("proxy", proxy.url());
    gateway.advance(Duration::from_secs(60));
    assert_eq!(asked(&gateway).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_is_reached_without_the_environments_proxy() {
    let (away, proxy) = (Away::start("localhost", |provider| provider), ForwardProxy::start(&["localhost"]).await);
    let gateway = Gateway::start_among(&[("HTTPS_PROXY", "http://127.0.0.1:1")], &away.config(""));
    away.lets_in(&gateway).await;
    // Where it is written it counts for this machine too.
    let gateway = Gateway::start(&away.config(&format!("proxy = \"{}\"", proxy.url())));
    away.lets_in(&gateway).await;
    gateway.stop();
    proxy.tunnels(&format!("localhost:{}", away.provider.address().port()), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_where_it_is_named_and_nowhere_else() {
    let (away, stranger) = (Away::start("localhost", |provider| provider), CertificateAuthority::new());
    let gateway = Gateway::start(&away.config(""));
    away.lets_in(&gateway).await;
    let named = away.authority.file().display().to_string();
    for tls in [String::new(), format!("tls = {{ ca_file = \"{}\" }}", stranger.file().display())] {
        away.provider.reset_counts();
        away.upstream.reset();
        let config = away.config("[log]\nformat = \"json\"\n").replace(&format!("tls = {{ ca_file = \"{named}\" }}"), &tls);
        let line = away.is_unreachable(&Gateway::start(&config)).await;
        assert!(line.contains("invalid peer certificate"), "{line}");
        assert_eq!(away.provider.count(Endpoint::Discovery), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_calls_go_inside_while_browsers_and_tokens_keep_the_public_name() {
    let authority = CertificateAuthority::new();
    let provider = HostileProvider::builder().tls(&authority.leaf(&[NAME, "localhost"]), NAME).refresh(true).start();
    let away = Away { authority, provider, upstream: EchoUpstream::start() };
    // Nobody here knows the public name.
    away.is_unreachable(&Gateway::start(&away.config(""))).await;

    let port = away.provider.address().port();
    let gateway = Gateway::start(&away.config(&format!("internal_url = \"https://localhost:{port}\"")));
    let mut browser = away.browser();
    let page = browser.get(&format!("{}/app?x=1", gateway.url)).await;
    let authorize = page.next().unwrap();
    assert_eq!((authorize.host_str(), authorize.path()), (Some(NAME), "/authorize"));
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), away.provider.complaints()), (200, vec![]), "{}", page.text());
    let who = browser.get(&format!("{}/oauth2/userinfo", gateway.url)).await;
    assert_eq!(who.json()["iss"], json!(away.provider.issuer()));
    // The end of it: the browser outside, the revocation inside.
    let page = browser.get(&format!("{}/oauth2/session", gateway.url)).await;
    let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    assert_eq!(page.next().unwrap().host_str(), Some(NAME));
    eventually("the revocation", || (away.provider.count(Endpoint::Revocation) == 1).then_some(())).await;

    // Inside or not: `iss` stays what it is.
    for (lie, reason) in [(Lie::WrongIss, "id-token-issuer"), (Lie::IssWithSlash, "id-token-issuer")] {
        away.provider.set(lie);
        away.upstream.reset();
        let page = away.visit(&gateway).await;
        assert_eq!((page.status.as_u16(), reason_of(&page).as_str(), away.upstream.count()), (502, reason, 0));
    }
    away.provider.set(Lie::DiscoveryIssuerMismatch);
    let gateway = Gateway::start(&away.config(&format!("internal_url = \"https://localhost:{port}\"")));
    assert_eq!(reason_of(&away.visit(&gateway).await.answer), "provider-metadata");
}

/// A provider on this machine, whose document names nothing but dead ends.
fn with_dead_ends() -> (HostileProvider, Vec<(&'static str, String)>) {
    let provider = HostileProvider::builder().refresh(true).start();
    let issuer = provider.issuer();
    let at = |path: &str| format!("{issuer}{path}");
    let endpoints = vec![
        ("authorization", at("/authorize")),
        ("token", at("/token")),
        ("userinfo", at("/userinfo")),
        ("jwks", at("/jwks")),
        ("end_session", at("/end_session")),
        ("revocation", at("/revoke")),
        ("pushed_authorization_request", at("/par")),
    ];
    for (name, _) in &endpoints {
        let name = if *name == "jwks" { "jwks_uri".to_owned() } else { format!("{name}_endpoint") };
        provider.change_discovery(json!({ name: "http://127.0.0.1:1/nowhere" }));
    }
    (provider, endpoints)
}

fn written(endpoints: &[(&'static str, String)], but: &str) -> String {
    let pairs: Vec<String> = endpoints.iter().filter(|(name, _)| *name != but).map(|(name, url)| format!("{name} = \"{url}\"")).collect();
    format!("par = \"always\"\nendpoints = {{ {} }}\n", pairs.join(", "))
}

/// A whole life at a provider on this machine: what did not go as it should, in words; nothing when all did.
async fn life(provider: &HostileProvider, keys: &str) -> String {
    provider.reset_counts();
    let upstream = EchoUpstream::start();
    let gateway = Gateway::start(&format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n{}{keys}",
        upstream.url(),
        table(&provider.issuer(), provider.client_id(), provider.client_secret())
    ));
    let mut browser = Browser::new();
    let page = browser.get(&format!("{}/app", gateway.url)).await;
    if page.next().is_none_or(|next| next.port() == Some(1)) {
        return format!("begins: {}", reason_of(&page));
    }
    let page = browser.follow_all(page).await;
    if page.status != 200 {
        return format!("signs in: {}", reason_of(&page));
    }
    assert!(upstream.last().header("x-forwarded-email").is_some());
    let page = browser.get(&format!("{}/oauth2/session", gateway.url)).await;
    let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    if page.next().is_none_or(|next| next.port() == Some(1)) {
        return "ends".to_owned();
    }
    let revoked = within(Duration::from_secs(1), || (provider.count(Endpoint::Revocation) == 1).then_some(())).await;
    if revoked.is_none() { "revokes".to_owned() } else { String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_counts_value_by_value_before_the_document() {
    let (provider, endpoints) = with_dead_ends();
    assert_eq!(life(&provider, &written(&endpoints, "")).await, "");
    assert!(provider.count(Endpoint::Discovery) > 0);
    for (but, outcome) in [
        ("authorization", "begins: "),
        ("pushed_authorization_request", "begins: provider-unreachable"),
        ("token", "signs in: provider-unreachable"),
        ("jwks", "signs in: keys-unreachable"),
        ("userinfo", "signs in: provider-unreachable"),
        ("end_session", "ends"),
        ("revocation", "revokes"),
    ] {
        assert_eq!(life(&provider, &written(&endpoints, but)).await, outcome, "without {but}");
    }
    // No document at all.
    let alone = format!("discovery = false\n{}", written(&endpoints, ""));
    assert_eq!(life(&provider, &alone).await, "");
    assert_eq!(provider.count(Endpoint::Discovery), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_at_another_address_is_read_there_and_has_to_name_the_issuer() {
    let (provider, elsewhere) = (HostileProvider::start(), CannedIssuer::start());
    let document = fetch(get(&format!("{}/.well-known/openid-configuration", provider.issuer()))).await.json();
    elsewhere.gives("/metadata.json", Canned::json(&document));
    let at = |path: &str| format!("discovery_url = \"{}{path}\"\n", elsewhere.url());
    let upstream = EchoUpstream::start();
    for (path, named, status, reason) in [
        ("/metadata.json", provider.issuer(), 200, ""),
        ("/metadata.json", format!("{}/", provider.issuer()), 502, "provider-metadata"),
        ("/other.json", provider.issuer(), 503, "provider-unreachable"),
    ] {
        let mut document = document.clone();
        document["issuer"] = json!(named);
        elsewhere.gives("/metadata.json", Canned::json(&document));
        provider.reset_counts();
        upstream.reset();
        let everywhere = format!("{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n", upstream.url());
        let keys = table(&provider.issuer(), provider.client_id(), provider.client_secret());
        let gateway = Gateway::start(&format!("{everywhere}{keys}{}", at(path)));
        let mut browser = Browser::new();
        let page = browser.get(&format!("{}/app", gateway.url)).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), upstream.count()), (status, usize::from(status == 200)), "{path} {named}: {}", page.text());
        assert_eq!(
            (if status == 200 { String::new() } else { reason_of(&page) }, provider.count(Endpoint::Discovery)),
            (reason.to_owned(), 0)
        );
    }
}
