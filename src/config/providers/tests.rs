//! What is said of keys of `[provider]` that cannot be meant so.

use super::super::tests::{load_text, problems};
use crate::config::Problem;
use crate::provider::places::DocumentAt;

fn config(top: &str, provider: &str) -> String {
    format!(
        "public_url = \"https://app.test\"\nupstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n{top}\n[provider]\nclient_id = \"app\"\n\
         client_secret = \"s3cret\"\n{provider}\n"
    )
}

const ISSUER: &str = "issuer = \"https://login.test\"\n";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";

/// Each with the one key that is complained of and a piece of what is said; `None`: nothing is wrong.
fn judged(top: &str, cases: &[(&str, Option<(&str, &str)>)]) {
    for (keys, expected) in cases {
        let keys = if keys.contains("issuer =") { (*keys).to_owned() } else { format!("{ISSUER}{keys}") };
        let said = problems(&config(top, &keys));
        match expected {
            None => assert_eq!(said, [], "{keys}"),
            Some((path, piece)) => {
                assert_eq!(said.len(), 1, "{keys}: {said:?}");
                assert!(said[0].0 == *path && said[0].1.contains(piece), "{keys}: {said:?}");
            }
        }
    }
}

#[test]
fn a_proxy_is_one_that_can_work_and_its_password_is_told_nobody() {
    judged(
        "",
        &[
            ("proxy = \"http://ann:s3cr3t@proxy:3128\"", None),
            ("proxy = \"https://ann:s3cr3t@proxy:3128\"", Some(("provider.proxy", "over TLS is not supported"))),
            ("proxy = \"socks5://ann:s3cr3t@proxy:3128\"", Some(("provider.proxy", "SOCKS"))),
            ("proxy = \"proxy:3128\"", Some(("provider.proxy", "http://user:password@"))),
            ("proxy = 7", Some(("provider.proxy", "text in quotes"))),
            ("proxy_file = \"/nowhere\"", Some(("provider.proxy_file", "cannot be read"))),
            ("proxy = \"http://p:1\"\nproxy_file = \"/nowhere\"", Some(("provider.proxy", "give one of them"))),
            ("issuer = \"http://127.0.0.1:1\"\nproxy = \"http://p:1\"", Some(("provider.proxy", "on this machine"))),
            ("internal_url = \"https://inside.test\"\nproxy = \"http://p:1\"", Some(("provider.proxy", "remove one of them"))),
        ],
    );
    for (_, message) in problems(&config("", &format!("{ISSUER}proxy = \"http://ann:s3cr3t@proxy:3128/x\""))) {
        assert!(!message.contains("s3cr3t"), "{message}");
    }
    let keys = "[[token_issuer]]\nissuer = \"https://api.test\"\naudience = \"x\"\nproxy = \"socks5://x\"\n";
    let said = problems(&config("", &format!("{ISSUER}{keys}")));
    assert_eq!(said.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["token_issuer[0].proxy"], "{said:?}");
}

#[test]
fn a_proxy_of_the_environment_that_cannot_work_is_named_by_its_variable() {
    let loaded = |name: &str, value: &str| load_text("config.toml", &config("", ISSUER), &[(name, value)]);
    for (name, value, sound) in [
        ("HTTPS_PROXY", "http://ann:s3cr3t@proxy:3128", true),
        ("https_proxy", "proxy:3128", true),
        ("HTTPS_PROXY", "", true),
        ("HTTP_PROXY", "socks5://s3cr3t", true),
        ("HTTPS_PROXY", "socks5://ann:s3cr3t@proxy:3128", false),
        ("https_proxy", "http://ann:s3cr3t@proxy:3128/x", false),
    ] {
        match loaded(name, value) {
            Ok(config) => {
                let used = name != "HTTP_PROXY" && !value.is_empty();
                assert!(sound && config.proxy.is_some() == used && config.providers[0].proxy.is_some() == used, "{name}={value}");
            }
            Err(problems) => {
                assert!(
                    !sound && problems.iter().all(|Problem { source, .. }| *source == format!("environment variable {name}")),
                    "{name}"
                );
                assert!(!format!("{problems:?}").contains("s3cr3t"), "{problems:?}");
            }
        }
    }
    let inside = format!("{ISSUER}internal_url = \"https://inside.test\"");
    let config = load_text("config.toml", &config("", &inside), &[("HTTPS_PROXY", "http://proxy:3128")]);
    assert!(config.ok().unwrap().providers[0].proxy.is_none());
}

#[test]
fn where_a_provider_is_may_be_written_once() {
    let endpoints = "authorization = \"https://a.test/a\", token = \"https://a.test/t\", jwks = \"https://a.test/j\"";
    judged(
        "",
        &[
            ("internal_url = \"https://keycloak.internal:8443\"", None),
            ("internal_url = \"http://127.0.0.1:8080\"", None),
            ("internal_url = \"http://keycloak.internal:8080\"", Some(("provider.internal_url", "insecure_http = true"))),
            ("internal_url = \"https://keycloak.internal/realms\"", Some(("provider.internal_url", "scheme, host and port only"))),
            ("internal_url = \"keycloak.internal\"", Some(("provider.internal_url", "expected a URL"))),
            ("discovery_url = \"https://login.test/x.json\"", None),
            ("discovery_url = \"http://login.test/x.json\"", Some(("provider.discovery_url", "plain http"))),
            ("discovery_url = \"https://u:p@login.test/x.json\"", Some(("provider.discovery_url", "credentials"))),
            ("endpoints = { token = \"https://login.test/t\" }", None),
            ("endpoints = { token = \"ftp://login.test/t\" }", Some(("provider.endpoints.token", "expected https"))),
            ("endpoints = { introspection = \"https://login.test/i\" }", Some(("provider.endpoints.introspection", "[[token_issuer]]"))),
            ("endpoints = { tokens = \"https://login.test/i\" }", Some(("provider.endpoints.tokens", "did you mean \"token\""))),
            (&format!("discovery = false\nendpoints = {{ {endpoints} }}"), None),
            (
                "discovery = false\nendpoints = { authorization = \"https://a.test/a\", token = \"https://a.test/t\" }",
                Some(("provider.endpoints.jwks", "discovery = false")),
            ),
            (
                &format!("discovery = false\ndiscovery_url = \"https://a.test/d\"\nendpoints = {{ {endpoints} }}"),
                Some(("provider.discovery_url", "remove one of them")),
            ),
            (
                &format!("discovery = false\ninternal_url = \"https://a.test\"\nendpoints = {{ {endpoints} }}"),
                Some(("provider.internal_url", "remove one of them")),
            ),
        ],
    );
    judged("insecure_http = true", &[("internal_url = \"http://keycloak.internal:8080\"", None)]);
    let loaded =
        |keys: &str| load_text("config.toml", &config("", &format!("{ISSUER}{keys}")), &[]).ok().unwrap().providers.remove(0).places;
    assert_eq!(loaded("").document, DocumentAt::Issuer);
    let places = loaded(&format!("discovery = false\nendpoints = {{ {endpoints} }}"));
    assert_eq!((places.document, places.written.len()), (DocumentAt::Nowhere, 3));
}

#[test]
fn what_the_flow_owns_cannot_be_configured() {
    judged(
        "",
        &[
            ("authorize = { access_type = \"offline\", prompt = \"select_account\" }", None),
            ("authorize = { scope = \"openid\" }", Some(("provider.authorize", "belongs into scopes"))),
            ("authorize = { state = \"x\" }", Some(("provider.authorize", "state is the gateway's own"))),
            ("authorize = { acr_values = \"mfa\" }", Some(("provider.authorize", "acr of a route"))),
            ("authorize = { prompt = \"\" }", Some(("provider.authorize", "empty"))),
            ("authorize = { x = 1 }", Some(("provider.authorize.x", "expected a text"))),
            ("authorize_from_start = { login_hint = '[^@]+@example\\.com', kc_idp_hint = [\"a\", \"b\"] }", None),
            (
                "authorize_from_start = { redirect_uri = \".*\" }",
                Some(("provider.authorize_from_start", "redirect_uri is the gateway's own")),
            ),
            ("authorize_from_start = { rd = \".*\" }", Some(("provider.authorize_from_start", "start reads for itself"))),
            ("authorize_from_start = { login_hint = \"(\" }", Some(("provider.authorize_from_start", "regular expression"))),
            ("authorize_from_start = { login_hint = \"a)|(.*\" }", Some(("provider.authorize_from_start", "regular expression"))),
            ("authorize_from_start = { login_hint = [] }", Some(("provider.authorize_from_start.login_hint", "none of them empty"))),
        ],
    );
}

#[test]
fn an_address_of_all_tenants_is_no_issuer_unless_they_are_listed() {
    let microsoft = |tenant: &str, more: &str| format!("issuer = \"https://login.microsoftonline.com/{tenant}/v2.0\"\n{more}");
    let listed = format!("tenants = [\"{TENANT}\"]\n");
    judged(
        "",
        &[
            (&microsoft(TENANT, ""), None),
            (&microsoft("organizations", ""), Some(("provider.issuer", "tenants = [\""))),
            (&microsoft("common", ""), Some(("provider.issuer", "tenants = [\""))),
            ("issuer = \"https://login.microsoftonline.us/Common/v2.0\"", Some(("provider.issuer", "tenants = [\""))),
            (&microsoft("consumers", ""), Some(("provider.issuer", "9188040d-6c67-4c5b-b112-36a304b66dad"))),
            (&microsoft("{tenantid}", ""), Some(("provider.issuer", "stands for any tenant"))),
            ("issuer = \"https://login.test/{tenantid}\"", Some(("provider.issuer", "stands for any tenant"))),
            ("issuer = \"https://login.test/realms/common\"", None),
            (&microsoft("organizations", &listed), None),
            (&microsoft("common", &listed), None),
            (&microsoft("organizations", "tenants = [\"contoso.example\"]"), Some(("provider.tenants", "found \"contoso.example\""))),
            (&microsoft("organizations", "tenants = []"), Some(("provider.tenants", "empty list"))),
            (&microsoft(TENANT, &listed), Some(("provider.tenants", "needs no list"))),
            (&format!("{ISSUER}{listed}"), Some(("provider.tenants", "needs no list"))),
            (
                &microsoft("organizations", &format!("{listed}email_verified = \"if-present\"")),
                Some(("provider.email_verified", "any address")),
            ),
        ],
    );
    let text = config("", &microsoft("organizations", &format!("tenants = [\"{}\"]", TENANT.to_uppercase())));
    let provider = load_text("config.toml", &text, &[]).ok().unwrap().providers.remove(0);
    assert!(provider.issuers.is(&format!("https://login.microsoftonline.com/{TENANT}/v2.0")));
}

#[test]
fn claims_stand_where_they_are_said_to() {
    judged(
        "",
        &[
            ("groups_claim = \"https://example.com/groups\"", None),
            ("groups_claim = [\"groups\", \"realm_access.roles\"]", None),
            ("groups_claim = { groups = \"\", \"realm_access.roles\" = \"role:\" }", None),
            ("groups_claim = [\"groups\", \"a..b\"]", Some(("provider.groups_claim", "found \"a..b\""))),
            ("groups_claim = {}", Some(("provider.groups_claim", "names no place"))),
            ("groups_claim = { x = 1 }", Some(("provider.groups_claim.x", "expected what is put before the names that stand there"))),
            ("groups_claim = { x = [\"y\"] }", Some(("provider.groups_claim.x", "such as \"role:\", or \"\" for nothing; found a list"))),
            ("groups_claim = []", Some(("provider.groups_claim", "empty list"))),
            ("claims_from = [\"id_token\"]", None),
            ("claims_from = [\"id_token\", \"userinfo\", \"access_token\"]", None),
            ("claims_from = [\"userinfo\"]", Some(("provider.claims_from", "lacks \"id_token\""))),
            ("claims_from = [\"id_token\", \"graph\"]", Some(("provider.claims_from", "found \"graph\""))),
        ],
    );
}

#[test]
fn a_redirect_path_of_its_own_is_where_nobody_else_answers() {
    let route = "[[route]]\nid = \"app\"\npath = \"/auth/callback/\"\nupstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n";
    judged(
        "",
        &[
            ("callback = \"/auth/callback\"", None),
            ("callback = \"auth\"", Some(("provider.callback", "expected a path"))),
            ("callback = \"/\"", Some(("provider.callback", "expected a path"))),
            ("callback = \"/a/../b\"", Some(("provider.callback", "expected a path"))),
            ("callback = \"/oauth2/here\"", Some(("provider", "lies under prefix"))),
        ],
    );
    let keys = |path: &str| {
        let text = config("", &format!("{ISSUER}callback = \"{path}\"\n{route}"));
        problems(&text.replace("upstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n\n[provider]", "[provider]"))
    };
    assert_eq!(keys("/auth"), []);
    assert!(keys("/auth/callback").iter().any(|(_, said)| said.contains("where route \"app\" begins")), "{:?}", keys("/auth/callback"));
}
