//! The leg to the provider without a shared secret: keys that sign, certificates, pushed requests, bound tokens; and whom it is spoken to over TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::browser::{Browser, Page};
use crate::harness::certs::{CertificateAuthority, Leaf};
use crate::harness::gateway::{Gateway, GatewayProcess, TOP};
use crate::harness::hostile::{ClientAuth, Endpoint, HostileBuilder, HostileProvider, Lie};
use crate::harness::http::{fetch, get};
use crate::harness::jose::{Algorithm, SigningKey, decode};
use crate::harness::mutual_tls::MutualTls;
use crate::harness::oidc_provider::{self, Asked, CLIENT_ID, CLIENT_SECRET, OidcProvider, OidcProviderBuilder};
use crate::harness::raw::{RawConnection, request};
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, eventually, eventually_true, free_port};
use crate::harness::world::{reason_of, target_of};

/// A gateway on a port that its provider knows, in front of an echo upstream.
struct Leg<P> {
    gateway: Gateway,
    provider: P,
    upstream: EchoUpstream,
}

/// The real provider.
type Real = Leg<OidcProvider>;

fn config(issuer: &str, upstream: &EchoUpstream, provider: &str) -> String {
    format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n[provider]\nissuer = \"{issuer}\"\nclient_id = \"{CLIENT_ID}\"\n{provider}\n",
        upstream.url()
    )
}

impl Real {
    async fn start(kind: impl FnOnce(OidcProviderBuilder) -> OidcProviderBuilder, provider: &str) -> Self {
        let port = free_port();
        let builder = OidcProviderBuilder::new(&format!("http://127.0.0.1:{port}/oauth2/callback"));
        let builder = builder.client("post_logout_redirect_uris", json!([format!("http://127.0.0.1:{port}/oauth2/signed_out")]));
        let process = kind(builder).start().await;
        let upstream = EchoUpstream::start();
        let gateway = Gateway::start_on(port, &config(process.issuer(), &upstream, provider));
        Self { gateway, provider: process, upstream }
    }

    /// All that needs our proof: a login, a refresh, the end.
    async fn whole_life(&self, browser: &mut Browser) {
        let what = || format!("{}\n{}", self.gateway.access_lines(), self.provider.output());
        self.provider.reset().await;
        self.upstream.reset();
        let page = browser.get(&format!("{}/app?a=1", self.gateway.url)).await;
        assert_eq!(page.status, 303, "{}\n{}", page.text(), what());
        let page = oidc_provider::log_in(browser, page, "alice", &self.gateway.redirect_uri()).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 200, "{}\n{}", page.text(), what());
        let seen = self.upstream.last();
        assert_eq!((seen.target.as_str(), seen.header("x-forwarded-user").as_deref()), ("/app?a=1", Some("alice")));
        // Past the moment at which new tokens are due; real time stands still for the provider.
        self.gateway.advance(Duration::from_secs(280));
        let page = browser.get(&format!("{}/app?b=2", self.gateway.url)).await;
        assert_eq!(page.status, 200, "{}\n{}", page.text(), what());
        eventually_refreshed(self).await;
        let page = browser.get(&format!("{}/app?c=3", self.gateway.url)).await;
        assert_eq!(page.status, 200, "{}\n{}", page.text(), what());

        let page = browser.get(&format!("{}/oauth2/session", self.gateway.url)).await;
        let page = browser.submit(&page, &page.form_to("sign_out"), &[]).await;
        assert!(target_of(&page).starts_with("/session/end?"), "{}", page.summary());
        eventually_true("a revocation", async || self.provider.count("revocation").await > 0).await;
        assert_eq!(self.gateway.metric("doorward_dependency_errors_total{dependency=\"provider\"}").await, 0, "{}", what());
        let output = self.provider.output();
        let complaints: Vec<&str> = output.lines().filter(|line| line.contains(".error:") && !line.contains("nonce")).collect();
        assert!(complaints.is_empty(), "{output}");
    }
}

/// Userinfo is asked again only with what a refresh has brought.
async fn eventually_refreshed(leg: &Real) {
    let refreshed = async || leg.provider.count("userinfo").await >= 2 && leg.provider.count("token:refresh_token").await > 0;
    eventually_true("a refresh", refreshed).await;
}

/// A key on disk, registered under the name `the-key`.
struct KeyFile {
    dir: TempDir,
    key: SigningKey,
}

impl KeyFile {
    fn new(algorithm: Algorithm) -> Self {
        let (dir, key) = (TempDir::new("key"), SigningKey::new(algorithm, "the-key"));
        dir.write_secret("key.pem", key.private_pem());
        Self { dir, key }
    }

    /// For any algorithm that the key can sign.
    fn jwks(&self) -> Value {
        let mut jwk = self.key.jwk();
        jwk.as_object_mut().unwrap().remove("alg");
        json!({ "keys": [jwk] })
    }

    fn config(&self) -> String {
        format!("client_auth = \"private_key_jwt\"\nkey_file = \"{}\"\nkey_id = \"the-key\"\n", self.dir.join("key.pem").display())
    }
}

fn tls(table: &[(&str, &Path)]) -> String {
    let keys: Vec<String> = table.iter().map(|(name, path)| format!("{name} = \"{}\"", path.display())).collect();
    format!("tls = {{ {} }}\n", keys.join(", "))
}

const SHORT: (u64, u64, u64) = (300, 300, 3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_place_of_a_secret_signs_in_renews_and_ends_a_session() {
    for (algorithm, signing) in [
        (Algorithm::Rs256, json!(["PS256", "RS256"])),
        (Algorithm::Rs256, json!(["RS256"])),
        (Algorithm::Es256, json!(["ES256"])),
        (Algorithm::EdDsa, json!(["EdDSA"])),
    ] {
        let key = KeyFile::new(algorithm);
        let kind = |builder: OidcProviderBuilder| {
            let builder = builder.without_secret("private_key_jwt").client("jwks", key.jwks()).set("client_auth_signing", signing.clone());
            builder.lifetimes(SHORT.0, SHORT.1, SHORT.2)
        };
        Real::start(kind, &key.config()).await.whole_life(&mut Browser::new()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fapi_2_asks_of_us_is_what_we_do() {
    let key = KeyFile::new(Algorithm::Es256);
    for nonce in [true, false] {
        let kind = |builder: OidcProviderBuilder| {
            let builder =
                builder.without_secret("private_key_jwt").client("jwks", key.jwks()).client("dpop_bound_access_tokens", json!(true));
            let builder = builder.set("par_required", json!(true)).set("dpop_nonce", json!(nonce)).set("fapi", json!("2.0"));
            builder.client("id_token_signed_response_alg", json!("ES256")).lifetimes(SHORT.0, SHORT.1, SHORT.2)
        };
        let leg = Real::start(kind, &format!("{}dpop = true\nalgorithms = [\"ES256\"]\n", key.config())).await;
        let mut browser = Browser::new();
        leg.whole_life(&mut browser).await;
        let asked = leg.provider.counts().await;
        // With a nonce the first call of each kind is made again; the refresh knows it by then.
        let more = u64::from(nonce);
        for (endpoint, calls) in [
            ("pushed_authorization_request", 1 + more),
            ("token:authorization_code", 1 + more),
            ("token:refresh_token", 1),
            ("userinfo", 2 + more),
        ] {
            assert_eq!(asked[endpoint].as_u64(), Some(calls), "{endpoint}: {asked}\n{}", leg.provider.output());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_registration_has_its_refresh_tokens_bound_to_the_sessions_key() {
    let kind = |builder: OidcProviderBuilder| {
        let builder = builder.without_secret("none").client("dpop_bound_access_tokens", json!(true)).rotating_refresh_tokens();
        builder.lifetimes(SHORT.0, SHORT.1, SHORT.2)
    };
    let leg = Real::start(kind, "client_auth = \"none\"\ndpop = true\n").await;
    let mut browser = Browser::new();
    let page = browser.get(&format!("{}/app", leg.gateway.url)).await;
    // The code is bound before there is one (RFC 9449 §10).
    assert!(page.next().unwrap().query_pairs().any(|(name, value)| name == "dpop_jkt" && value.len() == 43), "{}", page.summary());
    let page = oidc_provider::log_in(&mut browser, page, "alice", &leg.gateway.redirect_uri()).await;
    assert_eq!(browser.follow_all(page).await.status, 200, "{}", leg.provider.output());
    // The key is the session's own and lies in its record: another process goes on with it.
    let leg = Leg { gateway: leg.gateway.restart(), ..leg };
    leg.gateway.advance(Duration::from_secs(280));
    assert_eq!(browser.get(&format!("{}/app", leg.gateway.url)).await.status, 200);
    eventually_refreshed(&leg).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_proves_us_where_certificates_are_asked_for() {
    let (authority, clients) = (CertificateAuthority::new(), CertificateAuthority::new());
    let stranger = CertificateAuthority::new();
    for asked in [Asked::Everywhere, Asked::AtAliases] {
        for (method, own) in
            [("tls_client_auth", clients.leaf(&["doorward.test"])), ("self_signed_tls_client_auth", stranger.leaf(&["anybody.test"]))]
        {
            let kind = |builder: OidcProviderBuilder| {
                let builder = builder.without_secret(method).mutual_tls(&authority, "127.0.0.1", &clients, asked);
                let builder = builder.set("par_required", json!(true)).lifetimes(SHORT.0, SHORT.1, SHORT.2);
                match method {
                    "tls_client_auth" => builder.client("tls_client_auth_san_dns", json!("doorward.test")),
                    _ => builder.client("jwks", json!({ "keys": [own.jwk()] })),
                }
            };
            let files = [("ca_file", authority.file()), ("certificate_file", own.certificate_file()), ("key_file", own.key_file())];
            let leg = Real::start(kind, &format!("client_auth = \"{method}\"\n{}", tls(&files))).await;
            let mut browser = Browser::new().trusting(authority.client_config());
            leg.whole_life(&mut browser).await;

            // Somebody else's certificate in the same files: from the next call on it is shown, and it is not ours.
            own.replace_files_with(&stranger.leaf(&["doorward.test"]));
            let mut browser = Browser::new().trusting(authority.client_config());
            let page = browser.get(&format!("{}/app", leg.gateway.url)).await;
            assert_eq!((page.status.as_u16(), reason_of(&page)), (502, "pushed-request-refused".to_owned()), "{method} {asked:?}");
            assert!(page.set_cookies().is_empty());
        }
    }
}

/// The hostile provider with a registration that proves itself by `key`.
fn hostile(key: &KeyFile, provider: &str, kind: impl FnOnce(HostileBuilder) -> HostileBuilder) -> Leg<HostileProvider> {
    let builder =
        HostileProvider::builder().client(CLIENT_ID, CLIENT_SECRET).client_auth(&[ClientAuth::PrivateKeyJwt]).client_keys(key.jwks());
    lying(kind(builder).start(), &format!("{}{provider}", key.config()))
}

fn lying(provider: HostileProvider, table: &str) -> Leg<HostileProvider> {
    let upstream = EchoUpstream::start();
    let gateway = Gateway::start(&config(&provider.issuer(), &upstream, table));
    Leg { gateway, provider, upstream }
}

impl Leg<HostileProvider> {
    async fn visit(&self, browser: &mut Browser) -> Page {
        let page = browser.get(&format!("{}/app?x=1", self.gateway.url)).await;
        browser.follow_all(page).await
    }

    async fn lets_in(&self, what: &str) {
        let page = self.visit(&mut Browser::new()).await;
        assert_eq!((page.status.as_u16(), self.upstream.last().target.as_str()), (200, "/app?x=1"), "{what}: {}", page.text());
        assert_eq!(self.provider.complaints(), Vec::<String>::new(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_in_the_file_signs_the_next_login_and_a_broken_one_changes_nothing() {
    let (former, new) = (SigningKey::new(Algorithm::Es256, ""), SigningKey::new(Algorithm::EdDsa, ""));
    let dir = TempDir::new("key");
    let file = dir.write_secret("key.pem", former.private_pem());
    let table = format!("client_auth = \"private_key_jwt\"\nkey_file = \"{}\"\n", file.display());
    // Without a key_id a key's name is its thumbprint; as the command says it.
    let register = |table: &str| {
        let text = format!(
            "{TOP}upstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n[provider]\nissuer = \"http://127.0.0.1:1\"\nclient_id = \"x\"\n{table}"
        );
        let config = dir.write("check.toml", text.replace("@PORT@", "4180"));
        let ran = std::process::Command::new(crate::harness::gateway::command()).arg("check").arg("--config").arg(config).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let jwk = said.lines().find_map(|line| line.trim().strip_prefix("public key:")).unwrap_or_else(|| panic!("{said}"));
        serde_json::from_str::<Value>(jwk).unwrap()
    };
    let first = register(&table);
    dir.write_secret("key.pem", new.private_pem());
    let second = register(&table);
    dir.write_secret("key.pem", former.private_pem());
    assert_eq!(first["kid"].as_str().map(str::len), Some(43));

    let keys = json!({ "keys": [first, second] });
    let builder =
        HostileProvider::builder().client(CLIENT_ID, CLIENT_SECRET).client_auth(&[ClientAuth::PrivateKeyJwt]).client_keys(keys.clone());
    let leg = lying(builder.start(), &table);
    let kid = || decode(&leg.provider.token_requests().last().unwrap()["client_assertion"]).0["kid"].clone();
    leg.lets_in("the first key").await;
    assert_eq!(kid(), keys["keys"][0]["kid"]);
    dir.write_secret("key.pem", new.private_pem());
    leg.lets_in("the second key").await;
    assert_eq!(kid(), keys["keys"][1]["kid"]);
    dir.write_secret("key.pem", "half a k");
    leg.lets_in("a broken file").await;
    assert_eq!(kid(), keys["keys"][1]["kid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_take_our_proof_signs_nobody_in() {
    let (key, other) = (KeyFile::new(Algorithm::Es256), KeyFile::new(Algorithm::Es256));
    for (par, reason) in [("never", "code-refused"), ("always", "pushed-request-refused")] {
        let leg = hostile(&key, &format!("par = \"{par}\"\n"), |builder| builder.client_keys(other.jwks()));
        let page = leg.visit(&mut Browser::new()).await;
        assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (502, reason), "{}", page.text());
        assert_eq!((leg.upstream.count(), leg.provider.client_auths()), (0, vec![ClientAuth::PrivateKeyJwt]));
    }
    // For servers that only know the token endpoint as the audience.
    let leg = hostile(&key, "assertion_audience = \"token_endpoint\"\n", |builder| builder);
    assert_eq!(reason_of(&leg.visit(&mut Browser::new()).await.answer), "code-refused");
    let assertion = leg.provider.token_requests().last().unwrap()["client_assertion"].clone();
    assert_eq!(decode(&assertion).1["aud"], json!(format!("{}/token", leg.provider.issuer())));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsa_key_signs_with_what_the_config_says_where_the_document_says_nothing() {
    let key = KeyFile::new(Algorithm::Rs256);
    for (keys, algorithm) in [("", "PS256"), ("key_algorithm = \"RS256\"\n", "RS256")] {
        let leg = hostile(&key, keys, |builder| builder);
        leg.visit(&mut Browser::new()).await;
        let assertion = leg.provider.token_requests().last().unwrap()["client_assertion"].clone();
        assert_eq!(decode(&assertion).0["alg"], json!(algorithm));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_request_leaves_nothing_for_the_browser_but_its_reference() {
    let key = KeyFile::new(Algorithm::Es256);
    let leg = hostile(&key, "par = \"auto\"\n", |builder| builder.discovery(json!({ "require_pushed_authorization_requests": true })));
    let mut browser = Browser::new();
    for path in ["/app", "/oauth2/start?rd=/app&iss=@&login_hint=ann%40example.test"] {
        let path = path.replace('@', &leg.provider.issuer());
        leg.provider.reset_counts();
        let page = browser.get(&format!("{}{path}", leg.gateway.url)).await;
        let names: Vec<String> = page.next().unwrap().query_pairs().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names, ["client_id", "request_uri"], "{}", page.summary());
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), leg.provider.complaints()), (200, vec![]), "{}", page.text());
        assert_eq!((leg.provider.count(Endpoint::Par), leg.provider.count(Endpoint::Token)), (1, 1));
    }
    // Each login pushes anew: a reference is good once.
    let references: Vec<String> = leg.provider.authorizations().iter().map(|asked| asked["request_uri"].clone()).collect();
    assert_eq!(references.len(), 1);

    // Nobody requires it, and nobody is asked.
    let leg = hostile(&key, "", |builder| builder);
    leg.lets_in("no request is pushed").await;
    assert_eq!(leg.provider.count(Endpoint::Par), 0);
    let leg = hostile(&key, "par = \"always\"\n", |builder| builder);
    leg.lets_in("every request is pushed").await;
    assert_eq!(leg.provider.count(Endpoint::Par), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_pushed_request_that_is_none_begins_no_login() {
    let key = KeyFile::new(Algorithm::Es256);
    let leg = hostile(&key, "par = \"always\"\n[limits]\nprovider_timeout = \"1s\"\n", |builder| builder);
    for (lie, status, reason) in [
        (Lie::Status(Endpoint::Par, 400), 502, "pushed-request-refused"),
        (Lie::Status(Endpoint::Par, 401), 502, "pushed-request-refused"),
        (Lie::Status(Endpoint::Par, 413), 502, "pushed-request-refused"),
        (Lie::Status(Endpoint::Par, 429), 503, "provider-unreachable"),
        (Lie::Status(Endpoint::Par, 500), 503, "provider-unreachable"),
        (Lie::Status(Endpoint::Par, 503), 503, "provider-unreachable"),
        (Lie::Closes(Endpoint::Par), 503, "provider-unreachable"),
        (Lie::Silent(Endpoint::Par), 503, "provider-unreachable"),
        (Lie::SlowAnswer(Endpoint::Par, Duration::from_secs(600)), 503, "provider-unreachable"),
        (Lie::DrippingAnswer(Endpoint::Par), 503, "provider-unreachable"),
        (Lie::NotJson(Endpoint::Par), 502, "pushed-response"),
        (Lie::EndlessAnswer(Endpoint::Par), 502, "pushed-response"),
        (Lie::HugeAnswer(Endpoint::Par), 502, "pushed-response"),
        (Lie::ParWithoutRequestUri, 502, "pushed-response"),
        (Lie::ParNotCreated, 502, "pushed-response"),
        (Lie::RedirectFromPar, 502, "pushed-response"),
    ] {
        leg.provider.reset_counts();
        leg.provider.set(lie.clone());
        let mut browser = Browser::new();
        for path in ["/app?x=1", "/oauth2/start?rd=/app"] {
            let page = browser.get(&format!("{}{path}", leg.gateway.url)).await;
            assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (status, reason), "{lie:?} {path}: {}", page.text());
            assert!(page.set_cookies().is_empty() && page.location().is_none(), "{lie:?} {path}");
            assert_eq!(page.header("retry-after").is_some(), status == 503, "{lie:?} {path}");
        }
        let asked = [Endpoint::Authorization, Endpoint::Token, Endpoint::Elsewhere].map(|endpoint| leg.provider.count(endpoint));
        assert_eq!((asked, leg.upstream.count()), ([0; 3], 0), "{lie:?}");
        leg.provider.set(Lie::None);
    }
    leg.lets_in("the truth").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_the_request_is_pushed_takes_up_no_place() {
    let key = KeyFile::new(Algorithm::Es256);
    let leg = hostile(&key, "par = \"always\"\n[limits]\npending_logins_per_address = 1\n", |builder| builder);
    leg.provider.set(Lie::Silent(Endpoint::Par));
    let mut impatient = RawConnection::open(leg.gateway.address).await;
    impatient.send(request("GET", "/app", &leg.gateway.address.to_string(), &["Accept: text/html"])).await;
    eventually("the pushed request", || (leg.provider.count(Endpoint::Par) == 1).then_some(())).await;
    drop(impatient);
    leg.provider.set(Lie::None);
    let url = format!("{}/app", leg.gateway.url);
    eventually_true("a place", async || Browser::new().get(&url).await.status == 303).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_and_a_config_that_contradict_each_other_say_so() {
    let key = KeyFile::new(Algorithm::Es256);
    let required = json!({ "require_pushed_authorization_requests": true });
    let nowhere = json!({ "pushed_authorization_request_endpoint": null });
    let required_nowhere = json!({ "require_pushed_authorization_requests": true, "pushed_authorization_request_endpoint": null });
    for (par, document, said) in [
        ("never", required, "par = \\\"never\\\" forbids"),
        ("always", nowhere, "names no pushed_authorization_request_endpoint"),
        ("auto", required_nowhere, "names no pushed_authorization_request_endpoint"),
    ] {
        let leg = hostile(&key, &format!("par = \"{par}\"\n[log]\nformat = \"json\"\n"), |builder| builder.discovery(document));
        let page = leg.visit(&mut Browser::new()).await;
        assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (502, "provider-metadata"), "{par}");
        let line = eventually("the line", || {
            leg.gateway.access_lines().lines().find(|line| line.contains("provider-metadata")).map(str::to_owned)
        })
        .await;
        assert!(line.contains(said), "{line}");
        assert_eq!(leg.provider.count(Endpoint::Authorization), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_to_be_bound_and_is_not_is_not_used() {
    let key = KeyFile::new(Algorithm::Es256);
    let leg = hostile(&key, "dpop = true\n", |builder| builder);
    leg.provider.set(Lie::TokenTypeDpop);
    leg.lets_in("case does not count").await;
    for lie in [Lie::None, Lie::TokenTypeShouted, Lie::TokenTypeOther] {
        leg.provider.set(lie.clone());
        leg.provider.reset_counts();
        leg.upstream.reset();
        let page = leg.visit(&mut Browser::new()).await;
        assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (502, "token-response"), "{lie:?}");
        assert_eq!((leg.provider.count(Endpoint::Userinfo), leg.upstream.count()), (0, 0), "{lie:?}");
    }
}

/// A provider's machines that do not know each other's nonces say nothing of the person.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_userinfo_does_not_take_ends_no_session() {
    let key = KeyFile::new(Algorithm::Es256);
    let leg = hostile(&key, "dpop = true\n[session]\nrevalidate = \"1m\"\n", |builder| builder);
    leg.provider.set(Lie::TokenTypeDpop);
    let mut browser = Browser::new();
    let page = leg.visit(&mut browser).await;
    assert_eq!(page.status, 200, "{}", page.text());
    leg.gateway.advance(Duration::from_secs(65));
    leg.provider.set(Lie::UserinfoNewNonces);
    leg.provider.reset_counts();
    let page = browser.get(&format!("{}/app", leg.gateway.url)).await;
    assert_eq!((page.status.as_u16(), leg.provider.count(Endpoint::Userinfo)), (200, 2), "{}", page.text());
    assert!(page.set_cookies().is_empty());
}

/// Too many requests is the provider's trouble, not the code's.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_that_is_too_busy_is_an_outage() {
    let key = KeyFile::new(Algorithm::Es256);
    let leg = hostile(&key, "", |builder| builder);
    leg.provider.set(Lie::Status(Endpoint::Token, 429));
    let page = leg.visit(&mut Browser::new()).await;
    assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (503, "provider-unreachable"), "{}", page.text());
    assert!(page.header("retry-after").is_some());
    assert_eq!(leg.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_token_endpoint_may_leave_out_how_long_its_token_lives() {
    let key = KeyFile::new(Algorithm::Es256);
    let leg = hostile(&key, "", |builder| builder);
    leg.provider.set_expires_in(60, false);
    leg.lets_in("no expires_in").await;
    // Of the algorithms of FAPI 2.0 RS256 is none.
    let leg = hostile(&key, "algorithms = [\"PS256\", \"ES256\", \"EdDSA\"]\n", |builder| builder);
    let page = leg.visit(&mut Browser::new()).await;
    assert_eq!((reason_of(&page).as_str(), leg.provider.count(Endpoint::Userinfo), leg.upstream.count()), ("id-token-algorithm", 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proof_stands_in_any_log() {
    let key = KeyFile::new(Algorithm::Es256);
    let builder =
        HostileProvider::builder().client(CLIENT_ID, CLIENT_SECRET).client_auth(&[ClientAuth::PrivateKeyJwt]).client_keys(key.jwks());
    let (provider, upstream, port) = (builder.start(), EchoUpstream::start(), free_port());
    provider.set(Lie::TokenTypeDpop);
    let table = format!("{}par = \"always\"\ndpop = true\n[log]\nlevel = \"trace\"\n", key.config());
    let gateway = GatewayProcess::start_on(port, &config(&provider.issuer(), &upstream, &table)).await;
    let mut browser = Browser::new();
    for (lie, status) in
        [(Lie::TokenTypeDpop, 200), (Lie::Status(Endpoint::Par, 400), 502), (Lie::CodeRefused, 502), (Lie::RedirectFromPar, 502)]
    {
        provider.set(lie);
        let page = browser.get(&format!("{}/oauth2/start?rd=/app", gateway.url)).await;
        assert_eq!(browser.follow_all(page).await.status, status);
    }
    let seen = provider.secrets();
    for kind in ["client_assertion", "dpop_proof", "request_uri", "code", "access_token", "id_token", "state"] {
        assert!(seen.iter().any(|(known, _)| *known == kind), "no {kind} was seen");
    }
    gateway.process.wait_for_line(|line| line.contains("reason=pushed-response"), PATIENCE).await;
    let said = gateway.process.output();
    assert!(said.contains("reason=pushed-request-refused") && said.contains("code-refused"), "{said}");
    for (kind, secret) in seen {
        assert!(!said.contains(&secret), "{kind} in\n{said}");
    }
    assert!(!said.contains(key.key.private_pem().lines().nth(1).unwrap()));
}

/// A provider over TLS, and what a login at it comes to.
async fn over_tls(authority: &CertificateAuthority, leaf: &Leaf, host: &str, table: &str) -> (u16, String) {
    let provider = HostileProvider::builder().client(CLIENT_ID, CLIENT_SECRET).tls(leaf, host).start();
    let leg = lying(provider, &format!("client_secret = \"{CLIENT_SECRET}\"\n{table}"));
    let mut browser = Browser::new().trusting(Arc::clone(&authority.client_config())).resolve(host, leg.provider.address());
    let page = leg.visit(&mut browser).await;
    assert_eq!(leg.upstream.count(), usize::from(page.status == 200));
    (page.status.as_u16(), if page.status == 200 { String::new() } else { reason_of(&page) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_comes_on_top_of_a_good_certificate() {
    let (authority, stranger) = (CertificateAuthority::new(), CertificateAuthority::new());
    let leaf = authority.leaf(&["localhost"]);
    let other = authority.leaf(&["localhost"]);
    let table = |authority: &CertificateAuthority, more: &str| format!("tls = {{ ca_file = \"{}\"{more} }}\n", authority.file().display());
    let pin = |leaves: &[&Leaf]| format!(", pin_sha256 = {:?}", leaves.iter().map(|leaf| leaf.pin()).collect::<Vec<_>>());
    let (good, bad) = ((200, String::new()), (503, "provider-unreachable".to_owned()));
    for (more, outcome) in [(String::new(), &good), (pin(&[&leaf]), &good), (pin(&[&other, &leaf]), &good), (pin(&[&other]), &bad)] {
        assert_eq!(over_tls(&authority, &leaf, "localhost", &table(&authority, &more)).await, *outcome, "{more}");
    }
    // The right key is not enough.
    assert_eq!(over_tls(&authority, &leaf, "localhost", &table(&stranger, &pin(&[&leaf]))).await, bad);
    // The name in the certificate is the one that the config says.
    let elsewhere = authority.leaf(&["login.internal"]);
    assert_eq!(over_tls(&authority, &elsewhere, "localhost", &table(&authority, "")).await, bad);
    let named = table(&authority, ", server_name = \"login.internal\"");
    let provider = HostileProvider::builder().client(CLIENT_ID, CLIENT_SECRET).tls(&elsewhere, "localhost").start();
    let leg = lying(provider, &format!("client_secret = \"{CLIENT_SECRET}\"\n{named}"));
    let page = Browser::new().get(&format!("{}/app", leg.gateway.url)).await;
    assert_eq!(page.status, 303, "{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_told_by_name_and_pin_as_well() {
    let authority = CertificateAuthority::new();
    let (leaf, other) = (authority.leaf(&["app.internal"]), authority.leaf(&["app.internal"]));
    let upstream = EchoUpstream::start_tls(&leaf, "localhost", &["http/1.1"]);
    let ca = authority.file().display();
    let route = |path: &str, more: &str| {
        format!(
            "[[route]]\npath = \"/{path}/\"\naccess = \"public\"\nupstream = \"{}\"\ntls = {{ ca_file = \"{ca}\"{more} }}\n",
            upstream.url()
        )
    };
    let (named, pinned) =
        (", server_name = \"app.internal\"", |leaf: &Leaf| format!(", server_name = \"app.internal\", pin_sha256 = \"{}\"", leaf.pin()));
    let routes = [route("plain", ""), route("named", named), route("pinned", &pinned(&leaf)), route("wrong", &pinned(&other))].concat();
    let provider = "[provider]\nissuer = \"http://127.0.0.1:1\"\nclient_id = \"x\"\nclient_secret = \"y\"\n";
    let gateway = Gateway::start(&format!("{TOP}{provider}{routes}"));
    for (path, status, reached) in [("plain", 502, 0), ("named", 200, 1), ("pinned", 200, 2), ("wrong", 502, 2)] {
        let page = Browser::new().get(&format!("{}/{path}/x", gateway.url)).await;
        assert_eq!((page.status.as_u16(), upstream.count()), (status, reached), "{path}: {}", page.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_asks_for_a_certificate_is_shown_the_one_of_now() {
    let (authority, clients) = (CertificateAuthority::new(), CertificateAuthority::new());
    let upstream = EchoUpstream::start_mutual_tls(&authority.leaf(&["localhost"]), "localhost", &clients);
    let own = CertificateAuthority::new().leaf(&["doorward.test"]);
    let files = tls(&[("ca_file", authority.file()), ("certificate_file", own.certificate_file()), ("key_file", own.key_file())]);
    let provider = "[provider]\nissuer = \"http://127.0.0.1:1\"\nclient_id = \"x\"\nclient_secret = \"y\"\n";
    let route = format!("[[route]]\naccess = \"public\"\nupstream = \"{}\"\n{files}", upstream.url());
    let gateway = Gateway::start(&format!("{TOP}{provider}{route}"));
    let page = Browser::new().get(&format!("{}/x", gateway.url)).await;
    assert_eq!((page.status.as_u16(), upstream.count()), (502, 0), "a stranger's certificate");
    own.replace_files_with(&clients.leaf(&["doorward.test"]));
    let page = Browser::new().get(&format!("{}/x", gateway.url)).await;
    assert_eq!((page.status.as_u16(), upstream.count()), (200, 1), "{}", page.text());
}

/// Whoever is asked for keys or for tokens, of which only the handshake counts here: it has neither.
#[tokio::test(flavor = "multi_thread")]
async fn issuers_of_tokens_are_told_by_name_and_pin_and_are_shown_our_certificate() {
    let both = MutualTls::new();
    let peer = EchoUpstream::start_mutual_tls(both.leaf(), "localhost", both.clients());
    let token = |issuer: &str| {
        let claims = json!({ "iss": issuer, "aud": "orders", "sub": "a", "exp": 4_102_444_800_u64, "iat": 1 });
        SigningKey::new(Algorithm::Es256, "k").token(&json!({ "alg": "ES256", "kid": "k", "typ": "at+jwt" }), &claims)
    };
    for (tls, reached) in both.ways() {
        let issuer = peer.url();
        let shown = format!(
            "[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"orders\"\n{tls}[[route]]\nupstream = \"static:204\"\naccept = [\"bearer\"]\n\
             allow = \"any-authenticated\"\n"
        );
        let obtained = format!(
            "[outbound.orders]\nissuer = \"{issuer}\"\nclient_id = \"caller\"\nclient_secret = \"0123456789abcdef\"\nscope = [\"orders\"]\n{tls}\
             [[route]]\nid = \"call\"\nupstream = \"static:204\"\naccess = \"public\"\noutbound = \"orders\"\n"
        );
        for tables in [shown, obtained] {
            peer.reset();
            let gateway = Gateway::start(&format!("{TOP}store.kind = \"memory\"\n{tables}"));
            let mut asked = get(&format!("{}/x", gateway.url));
            asked.headers_mut().insert("authorization", format!("Bearer {}", token(&issuer)).parse().unwrap());
            let answer = fetch(asked).await;
            assert_eq!(answer.status, 503, "{tables}\n{}", answer.text());
            assert_eq!(peer.count() > 0, reached, "{tables}");
        }
    }
}

/// The certified provider, which is told how each registration proves itself: by its secret, or by a key and one algorithm.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_a_file_and_the_algorithm_of_a_key_prove_us_where_tokens_are_given_and_asked_about() {
    let key = KeyFile::new(Algorithm::Rs256);
    let client = |id: &str, proof: Value| {
        let mut client = json!({ "client_id": id, "redirect_uris": [], "response_types": [], "grant_types": ["client_credentials"] });
        client.as_object_mut().unwrap().extend(proof.as_object().unwrap().clone());
        client
    };
    let by_key = json!({ "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "RS256", "jwks": key.jwks() });
    let provider = OidcProviderBuilder::new("http://127.0.0.1:1/oauth2/callback")
        .add_client(client("by-secret", json!({ "client_secret": "the-secret-of-the-test" })))
        .add_client(client("by-key", by_key))
        .set("client_auth_signing", json!(["PS256", "RS256"]))
        .set("resources", json!({ "urn:orders": { "audience": "orders", "scope": "orders:read", "format": "opaque" } }))
        .start()
        .await;
    let (issuer, upstream, dir) = (provider.issuer(), EchoUpstream::start(), TempDir::new("secrets"));
    let secret = |name: &str, text: &str| {
        format!("client_id = \"by-secret\"\nclient_secret_file = \"{}\"\n", dir.write_secret(name, text).display())
    };
    let signs = |algorithm: &str| format!("client_id = \"by-key\"\n{}key_algorithm = \"{algorithm}\"\n", key.config());
    let proofs = [
        (secret("right", "the-secret-of-the-test\n"), true),
        (signs("RS256"), true),
        (secret("wrong", "another-secret-of-the-test"), false),
        (signs("PS256"), false),
    ];
    // Whoever obtains tokens, all in one: a route each.
    let obtains = |n: usize, proof: &str| {
        format!(
            "[outbound.o{n}]\nissuer = \"{issuer}\"\nscope = [\"orders:read\"]\nresource = [\"urn:orders\"]\n{proof}[[route]]\nid = \"o{n}\"\n\
             path = \"/o{n}/\"\nupstream = \"{}\"\naccess = \"public\"\noutbound = \"o{n}\"\n",
            upstream.url()
        )
    };
    let tables: String = proofs.iter().enumerate().map(|(n, (proof, _))| obtains(n, proof)).collect();
    let obtaining = Gateway::start(&format!("{TOP}store.kind = \"memory\"\n{tables}"));
    let mut token = String::new();
    for (n, (proof, good)) in proofs.iter().enumerate() {
        upstream.reset();
        let answer = fetch(get(&format!("{}/o{n}/x", obtaining.url))).await;
        assert_eq!((answer.status == 200, upstream.count() == 1), (*good, *good), "{proof}: {}\n{}", answer.text(), provider.output());
        if *good {
            token = upstream.last().header("authorization").unwrap();
        } else {
            assert_eq!((answer.status.as_u16(), reason_of(&answer).as_str()), (503, "upstream-token-unreachable"), "{proof}");
        }
    }
    for (proof, good) in &proofs {
        let asking = Gateway::start(&format!(
            "{TOP}store.kind = \"memory\"\n[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"orders\"\nintrospection = true\n{proof}\
             [[route]]\nupstream = \"{}\"\naccept = [\"bearer\"]\nallow = {{ scopes = [\"orders:read\"] }}\n",
            upstream.url()
        ));
        upstream.reset();
        let mut asked = get(&format!("{}/orders", asking.url));
        asked.headers_mut().insert("authorization", token.parse().unwrap());
        let answer = fetch(asked).await;
        assert_eq!((answer.status == 200, upstream.count() == 1), (*good, *good), "{proof}: {}\n{}", answer.text(), provider.output());
        assert!(*good || (answer.status == 503 && reason_of(&answer) == "introspection-unreachable"), "{proof}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_an_upstream_is_asked_for_with_the_audience_that_the_config_says() {
    let key = KeyFile::new(Algorithm::Es256);
    let builder =
        HostileProvider::builder().client(CLIENT_ID, CLIENT_SECRET).client_auth(&[ClientAuth::PrivateKeyJwt]).client_keys(key.jwks());
    let (provider, upstream) = (builder.start(), EchoUpstream::start());
    let issuer = provider.issuer();
    // The first is what this server takes; it tells the second from it, and refuses it.
    for (keys, aud, good) in [("", issuer.clone(), true), ("assertion_audience = \"token_endpoint\"\n", format!("{issuer}/token"), false)] {
        upstream.reset();
        let gateway = Gateway::start(&format!(
            "{TOP}store.kind = \"memory\"\n[outbound.orders]\nissuer = \"{issuer}\"\nclient_id = \"{CLIENT_ID}\"\n{}{keys}\
             [[route]]\nid = \"call\"\nupstream = \"{}\"\naccess = \"public\"\noutbound = \"orders\"\n",
            key.config(),
            upstream.url()
        ));
        let answer = fetch(get(&format!("{}/orders", gateway.url))).await;
        assert_eq!((answer.status.as_u16(), upstream.count()), if good { (200, 1) } else { (503, 0) }, "{keys}: {}", answer.text());
        let assertion = provider.token_requests().last().unwrap()["client_assertion"].clone();
        assert_eq!(decode(&assertion).1["aud"], json!(aud), "{keys}");
    }
}

/// The certified provider: what one gateway obtains by its key another asks about by its key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_proves_us_where_tokens_are_given_and_where_they_are_asked_about() {
    let (caller, api) = (KeyFile::new(Algorithm::Es256), KeyFile::new(Algorithm::Rs256));
    let client = |id: &str, key: &KeyFile| {
        json!({
            "client_id": id, "redirect_uris": [], "response_types": [], "grant_types": ["client_credentials"],
            "token_endpoint_auth_method": "private_key_jwt", "jwks": key.jwks(),
        })
    };
    let provider = OidcProviderBuilder::new("http://127.0.0.1:1/oauth2/callback")
        .add_client(client("caller", &caller))
        .add_client(client("api", &api))
        .set("resources", json!({ "urn:orders": { "audience": "orders", "scope": "orders:read", "format": "opaque" } }))
        .start()
        .await;
    let (issuer, upstream) = (provider.issuer(), EchoUpstream::start());
    let asks = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\n[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"orders\"\nintrospection = true\n\
         client_id = \"api\"\n{}[[route]]\nupstream = \"{}\"\naccept = [\"bearer\"]\nallow = {{ scopes = [\"orders:read\"] }}\n",
        api.config(),
        upstream.url()
    ));
    let obtains = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\n[outbound.orders]\nissuer = \"{issuer}\"\nclient_id = \"caller\"\nscope = [\"orders:read\"]\n\
         resource = [\"urn:orders\"]\n{}[[route]]\nid = \"call\"\nupstream = \"{}\"\naccess = \"public\"\noutbound = \"orders\"\n",
        caller.config(),
        asks.url
    ));
    for _ in 0..3 {
        let answer = fetch(get(&format!("{}/orders", obtains.url))).await;
        assert_eq!(answer.status, 200, "{}\n{}\n{}", answer.text(), asks.access_lines(), provider.output());
        assert_eq!(upstream.last().header("x-forwarded-user").as_deref(), Some("caller"));
    }
    assert_eq!((provider.count("token:client_credentials").await, provider.count("introspection").await), (1, 1));
}
