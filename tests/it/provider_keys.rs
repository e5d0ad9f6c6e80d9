//! What a provider is told and asked for beside the flow itself: fixed and passed-on parameters, a public registration, where claims stand,
//! a redirect path of its own.

use std::time::Duration;

use serde_json::json;

use crate::harness::browser::{Browser, Page};
use crate::harness::gateway::{Gateway, TOP};
use crate::harness::hostile::{ClaimsIn, Endpoint, HostileProvider, Lie};
use crate::harness::hostile_sayings::AccessTokens;
use crate::harness::oidc_provider::{self, CLIENT_ID, CLIENT_SECRET, OidcProviderBuilder};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{eventually_true, free_port};
use crate::harness::world::{Shape, World, reason_of, target_of};

/// Asks again until it is enough.
async fn again(browser: &mut Browser, url: &str, enough: impl Fn(&Page) -> bool) {
    for _ in 0..400 {
        if enough(&browser.get(url).await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{url} did not come to what was waited for");
}

fn shaped(provider: &str) -> World {
    World::shaped(Shape { provider, ..Shape::default() }, |kind| kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_config_fixes_stands_in_every_request_and_links_add_only_what_fits() {
    let fixed = "authorize = { access_type = \"offline\", prompt = \"consent\", hd = \"a&b=c\" }\n";
    let from_start =
        "authorize_from_start = { login_hint = '[^@]+@example\\.test', prompt = [\"login\", \"none\"], kc_idp_hint = [\"a\", \"b\"] }\n";
    let world = shaped(&format!("{fixed}{from_start}"));
    let told = async |path: &str| {
        world.provider.reset_counts();
        let page = world.visit(&mut Browser::new(), path).await;
        assert_eq!((page.status.as_u16(), world.provider.complaints()), (200, vec![]), "{path}: {}", page.text());
        world.provider.authorizations().remove(0)
    };
    let get = |asked: &std::collections::HashMap<String, String>, name: &str| asked.get(name).cloned().unwrap_or_default();
    // A challenge.
    let asked = told("/app").await;
    assert_eq!(["access_type", "prompt", "hd"].map(|name| get(&asked, name)), ["offline", "consent", "a&b=c"]);
    assert!(!asked.contains_key("login_hint"), "{asked:?}");
    // A link, with what fits it and what does not.
    for (query, expected) in [
        ("login_hint=ann%40example.test&kc_idp_hint=b", ["ann@example.test", "b", "consent"]),
        ("login_hint=ann%40example.test.evil.test&kc_idp_hint=c&ui_locales=xx", ["", "", "consent"]),
        ("login_hint=x%0Aann%40example.test&kc_idp_hint=", ["", "", "consent"]),
        // The link's comes in place of the config's, once.
        ("prompt=login", ["", "", "login"]),
        ("prompt=create", ["", "", "consent"]),
        // What the flow owns is not even looked at.
        ("scope=admin&redirect_uri=https%3A%2F%2Fevil.test&nonce=n&client_id=x&code_challenge=y&max_age=0&request=z", ["", "", "consent"]),
    ] {
        let asked = told(&format!("/oauth2/start?rd=/app&{query}")).await;
        assert_eq!(["login_hint", "kc_idp_hint", "prompt"].map(|name| get(&asked, name)), expected, "{query}");
        assert!(["request", "max_age", "ui_locales"].iter().all(|name| !asked.contains_key(*name)), "{asked:?}");
        assert_eq!((get(&asked, "access_type").as_str(), get(&asked, "client_id").as_str()), ("offline", "doorward"));
    }
    let page = world.visit(&mut Browser::new(), "/oauth2/start?rd=/app&kc_idp_hint=a&kc_idp_hint=b").await;
    assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (400, "parameter-repeated"));
    // A provider whose config says nothing is told nothing.
    let world = shaped("");
    let page = world.before_callback(&mut Browser::new(), "/oauth2/start?rd=/app&kc_idp_hint=a&prompt=login").await;
    assert_eq!(page.status, 303);
    let asked = world.provider.authorizations().remove(0);
    assert!(["kc_idp_hint", "prompt", "access_type"].iter().all(|name| !asked.contains_key(*name)), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chooser_carries_what_a_link_asked_for_to_the_provider_that_takes_it() {
    let (one, other, upstream) = (HostileProvider::start(), HostileProvider::start(), EchoUpstream::start());
    let table = |id: &str, provider: &HostileProvider, more: &str| {
        let (issuer, secret) = (provider.issuer(), provider.client_secret());
        format!(
            "[[provider]]\nid = \"{id}\"\nname = \"Name of {id}\"\nissuer = \"{issuer}\"\nclient_id = \"doorward\"\nclient_secret = \"{secret}\"\n{more}"
        )
    };
    let gateway = Gateway::start(&format!(
        "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n{}{}",
        upstream.url(),
        table("one", &one, "authorize_from_start = { kc_idp_hint = [\"a\"] }\n"),
        table("other", &other, "")
    ));
    for (id, provider, hint) in [("one", &one, Some("a")), ("other", &other, None)] {
        let mut browser = Browser::new();
        let page = browser.get(&format!("{}/oauth2/start?rd=/app&kc_idp_hint=a&ui_locales=x", gateway.url)).await;
        let page = browser.follow_all(page).await;
        let link = page.link(&format!("Name of {id}"));
        let page = browser.get(&link).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 200, "{}", page.text());
        assert_eq!(provider.authorizations().remove(0).get("kc_idp_hint").map(String::as_str), hint, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_registration_signs_in_by_pkce_alone() {
    let port = free_port();
    let builder = OidcProviderBuilder::new(&format!("http://127.0.0.1:{port}/oauth2/callback"));
    let provider = builder.without_secret("none").lifetimes(300, 300, 3600).start().await;
    let upstream = EchoUpstream::start();
    let gateway = Gateway::start_on(
        port,
        &format!(
            "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n[provider]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nclient_auth = \"none\"\n",
            upstream.url(),
            provider.issuer()
        ),
    );
    let mut browser = Browser::new();
    let page = browser.get(&format!("{}/app", gateway.url)).await;
    let page = oidc_provider::log_in(&mut browser, page, "alice", &gateway.redirect_uri()).await;
    assert_eq!(browser.follow_all(page).await.status, 200, "{}", provider.output());
    gateway.advance(Duration::from_secs(280));
    assert_eq!(browser.get(&format!("{}/app", gateway.url)).await.status, 200);
    eventually_true("a refresh", async || provider.count("token:refresh_token").await > 0).await;
    // Somebody who has the code and not the verifier has nothing: another attempt's code in this browser's callback.
    let mut other = Browser::new();
    let page = other.get(&format!("{}/app", gateway.url)).await;
    let theirs = oidc_provider::walk_to_callback(&mut other, page, "bob", oidc_provider::PASSWORD, &gateway.redirect_uri()).await;
    let code = |url: &url::Url| url.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    let mut mine = Browser::new();
    let page = mine.get(&format!("{}/app", gateway.url)).await;
    let page = oidc_provider::walk_to_callback(&mut mine, page, "alice", oidc_provider::PASSWORD, &gateway.redirect_uri()).await;
    let own = page.next().unwrap();
    let bent = own.as_str().replace(&code(&own), &code(&theirs.next().unwrap()));
    upstream.reset();
    let page = mine.get(&bent).await;
    assert_eq!((page.status.as_u16(), reason_of(&page).as_str(), upstream.count()), (502, "code-refused", 0), "{}", page.text());
}

/// Keycloak's way: roles in the access token alone.
const ROLES: &str =
    "claims_from = [\"id_token\", \"userinfo\", \"access_token\"]\ngroups_claim = { groups = \"\", \"realm_access.roles\" = \"role:\" }\n";

#[tokio::test(flavor = "multi_thread")]
async fn roles_of_the_access_token_count_where_the_config_says_so() {
    let world = World::shaped(Shape { provider: ROLES, ..Shape::default() }, |kind| kind.refresh(true).lifetime(300));
    let roles =
        |names: &[&str]| json!({ "realm_access": { "roles": names }, "acr": "forged", "sid": "other", "name": "of the token", "own": 7 });
    world.provider.access_tokens_are(AccessTokens::Jwts(roles(&["boss"])));
    let mut browser = world.signed_in().await;
    let groups = || world.upstream.last().header("x-forwarded-groups");
    assert_eq!(groups().as_deref(), Some("staff,users,role:boss"));
    // The ID token comes first, and what the access token says of itself is not said of the person.
    let page = browser.get(&world.at("/oauth2/session")).await.visible_text();
    assert!(page.contains("Alice Adams") && !page.contains("of the token"), "{page}");

    // A refresh brings new ones.
    world.provider.access_tokens_are(AccessTokens::Jwts(roles(&["clerk"])));
    world.advance(Duration::from_secs(280));
    assert_eq!(browser.get(&world.at("/app")).await.status, 200);
    again(&mut browser, &world.at("/app"), |_| groups().as_deref() == Some("staff,users,role:clerk")).await;
    // One that is about somebody else ends the session.
    world.provider.access_tokens_are(AccessTokens::Jwts(json!({ "sub": "mallory" })));
    world.advance(Duration::from_secs(280));
    again(&mut browser, &world.at("/app"), |page| page.status == 303).await;

    // Without the key they do not count, whatever stands there.
    let world = World::shaped(Shape { provider: "groups_claim = [\"groups\", \"realm_access.roles\"]\n", ..Shape::default() }, |kind| kind);
    world.provider.access_tokens_are(AccessTokens::Jwts(roles(&["boss"])));
    world.signed_in().await;
    assert_eq!(world.upstream.last().header("x-forwarded-groups").as_deref(), Some("staff,users"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_that_cannot_be_relied_on_signs_nobody_in() {
    let world = World::shaped(Shape { provider: ROLES, ..Shape::default() }, |kind| kind);
    let good = json!({ "realm_access": { "roles": ["boss"] } });
    let with = |patch: serde_json::Value| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        AccessTokens::Jwts(claims)
    };
    for (what, tokens) in [
        ("opaque", AccessTokens::Opaque),
        ("signature", AccessTokens::Broken(good.clone())),
        ("sub", with(json!({ "sub": "mallory" }))),
        ("no sub", with(json!({ "sub": null }))),
        ("iss", with(json!({ "iss": "https://another-issuer.test" }))),
        ("iss with a slash", with(json!({ "iss": format!("{}/", world.provider.issuer()) }))),
        ("over", with(json!({ "exp": 1_000_000 }))),
        ("no exp", with(json!({ "exp": null }))),
        ("refresh token", with(json!({ "typ": "Refresh" }))),
        ("ID token", with(json!({ "typ": "ID" }))),
    ] {
        world.provider.access_tokens_are(tokens);
        world.upstream.reset();
        let mut browser = Browser::new();
        let page = world.visit(&mut browser, "/app").await;
        assert_eq!((page.status.as_u16(), reason_of(&page).as_str()), (502, "access-token-claims"), "{what}: {}", page.text());
        assert_eq!((world.upstream.count(), world.session(&browser)), (0, None), "{what}");
    }
    world.provider.access_tokens_are(AccessTokens::Jwts(good));
    world.signed_in().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_known_by_an_address_that_they_gave_themselves() {
    let shape = |provider| Shape { provider, ..Shape::default() };
    let world = World::shaped(shape("user_claim = \"email\"\n"), |kind| kind.refresh(true).lifetime(300));
    for verified in [json!(false), json!("true"), json!(null)] {
        world.provider.change_user(json!({ "email": "ceo@company.test", "email_verified": verified }));
        let page = world.visit(&mut Browser::new(), "/app").await;
        assert_eq!((page.status.as_u16(), reason_of(&page).as_str(), world.upstream.count()), (403, "email-not-verified", 0), "{verified}");
    }
    world.provider.change_user(json!({ "email": "alice@example.test", "email_verified": true }));
    let mut browser = world.signed_in().await;
    let user = || world.upstream.last().header("x-forwarded-user");
    assert_eq!(user().as_deref(), Some("alice@example.test"));
    // Nor does somebody become another, or stay who they were, by changing it later.
    world.provider.change_user(json!({ "email": "ceo@company.test", "email_verified": false }));
    world.advance(Duration::from_secs(280));
    again(&mut browser, &world.at("/app"), |page| page.status == 303).await;
    assert_eq!(user().as_deref(), Some("alice@example.test"));

    let world = World::shaped(shape("user_claim = \"email\"\nemail_verified = \"if-present\"\n"), |kind| kind);
    world.provider.change_user(json!({ "email_verified": null }));
    world.signed_in().await;
    assert_eq!(world.upstream.last().header("x-forwarded-user").as_deref(), Some("alice@example.test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_providers_access_token_says_what_its_id_token_does_not() {
    let port = free_port();
    let provider = OidcProviderBuilder::new(&format!("http://127.0.0.1:{port}/oauth2/callback"))
        .account("carol", json!({ "realm_access": { "roles": ["boss", "user"] } }))
        .set("default_resource", json!("urn:app"))
        .set("resources", json!({ "urn:app": { "audience": "app", "format": "jwt", "claims": ["realm_access"], "scope": "openid" } }))
        .start()
        .await;
    let upstream = EchoUpstream::start();
    let config = |claims_from: &str| {
        format!(
            "{TOP}upstream = \"{}\"\nallow = {{ groups = [\"role:boss\"] }}\n[provider]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
             client_secret = \"{CLIENT_SECRET}\"\nscopes = [\"openid\"]\nclaims_from = {claims_from}\ngroups_claim = {{ \"realm_access.roles\" = \"role:\" }}\n",
            upstream.url(),
            provider.issuer()
        )
    };
    for (claims_from, user, status) in [
        ("[\"id_token\", \"access_token\"]", "carol", 200),
        ("[\"id_token\", \"access_token\"]", "bob", 403),
        ("[\"id_token\"]", "carol", 403),
    ] {
        upstream.reset();
        let gateway = Gateway::start_on(port, &config(claims_from));
        let mut browser = Browser::new();
        let page = browser.get(&format!("{}/app", gateway.url)).await;
        let page = oidc_provider::log_in(&mut browser, page, user, &gateway.redirect_uri()).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), upstream.count()), (status, usize::from(status == 200)), "{user}: {}", page.text());
        if status == 200 {
            assert_eq!(upstream.last().header("x-forwarded-groups").as_deref(), Some("role:boss,role:user"));
        }
        gateway.stop();
    }
    assert_eq!(provider.count("userinfo").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_may_stand_under_a_name_with_dots_and_userinfo_may_be_left_alone() {
    let keys = "groups_claim = [\"https://example.com/groups\", \"groups\"]\nclaims_from = [\"id_token\"]\n";
    let world = World::shaped(Shape { provider: keys, ..Shape::default() }, |kind| kind.claims_in(ClaimsIn::IdToken));
    world.provider.change_user(json!({ "https://example.com/groups": ["far", "staff"] }));
    world.signed_in().await;
    assert_eq!(world.upstream.last().header("x-forwarded-groups").as_deref(), Some("far,staff,users"));
    assert_eq!(world.provider.count(Endpoint::Userinfo), 0);
    // Without the key it is a claim like any other.
    let plain =
        World::shaped(Shape { provider: "claims_from = [\"id_token\"]\n", ..Shape::default() }, |kind| kind.claims_in(ClaimsIn::IdToken));
    plain.provider.change_user(json!({ "https://example.com/groups": ["far", "staff"] }));
    plain.signed_in().await;
    assert_eq!(plain.upstream.last().header("x-forwarded-groups").as_deref(), Some("staff,users"));
    // What userinfo says is not looked at, were it a lie.
    world.provider.set(Lie::UserinfoOtherSub);
    world.signed_in().await;
    // Left out of one place: not known to be none.
    world.provider.set(Lie::GroupsOverage);
    let rule = Shape {
        provider: keys,
        top: "",
        routes: Some("[[route]]\nupstream = \"@UPSTREAM@\"\nallow = { groups = [\"far\"] }\n"),
        ..Shape::default()
    };
    let world = World::shaped(rule, |kind| kind);
    world.provider.change_user(json!({ "https://example.com/groups": ["far"] }));
    world.provider.set(Lie::GroupsOverage);
    let page = world.visit(&mut Browser::new(), "/app").await;
    assert_eq!((page.status.as_u16(), reason_of(&page).as_str(), world.upstream.count()), (403, "groups-overage", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_taken_from_the_claim_that_the_config_names() {
    for (provider, told) in
        [("", "alice@example.test"), ("email_claim = \"contact.mail\"\nemail_verified = \"if-present\"\n", "a.liddell@company.test")]
    {
        let routes =
            Some("[[route]]\nupstream = \"@UPSTREAM@\"\nallow = { emails = [\"alice@example.test\", \"a.liddell@company.test\"] }\n");
        let world = World::shaped(Shape { provider, routes, ..Shape::default() }, |kind| kind);
        world.provider.change_user(json!({ "contact": { "mail": "a.liddell@company.test" } }));
        world.signed_in().await;
        assert_eq!(world.upstream.last().header("x-forwarded-email").as_deref(), Some(told), "{provider}");
        // An address in another claim is none.
        let reached = world.upstream.count();
        world.provider.change_user(json!({ "email": "x@elsewhere.test", "contact": { "mail": "x@elsewhere.test" } }));
        let page = world.visit(&mut Browser::new(), "/app").await;
        assert_eq!((page.status.as_u16(), world.upstream.count()), (403, reached), "{provider}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_back_to_the_path_that_is_registered() {
    let port = free_port();
    let own = format!("http://127.0.0.1:{port}");
    let registered = format!("{own}/auth/callback");
    let provider = OidcProviderBuilder::new(&registered).start().await;
    let upstream = EchoUpstream::start();
    let config = |keys: &str| {
        format!(
            "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n[provider]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = \"{CLIENT_SECRET}\"\n{keys}",
            upstream.url(),
            provider.issuer()
        )
    };
    let gateway = Gateway::start_on(port, &config("callback = \"/auth/callback\"\n"));
    let mut browser = Browser::new();
    let page = browser.get(&format!("{own}/app?x=1")).await;
    let page = oidc_provider::log_in(&mut browser, page, "alice", &registered).await;
    assert_eq!(target_of(&page), "/app?x=1");
    assert_eq!(browser.follow_all(page).await.status, 200, "{}", provider.output());
    // The path is the gateway's own, and no other below it is.
    upstream.reset();
    let page = Browser::new().get(&registered).await;
    assert_eq!((page.status.as_u16(), reason_of(&page).as_str(), upstream.count()), (400, "state-unknown", 0));
    assert_eq!(browser.get(&format!("{own}/auth/callback/more")).await.status, 200);
    assert_eq!((upstream.count(), upstream.last().target.as_str()), (1, "/auth/callback/more"));
    gateway.stop();
    // Without the key the provider refuses the redirect URI, and the path is the app's.
    let gateway = Gateway::start_on(port, &config(""));
    let mut browser = Browser::new();
    let page = browser.get(&format!("{own}/app")).await;
    let page = browser.follow_all(page).await;
    assert!(page.text().contains("redirect_uri"), "{}", page.text());
    drop(gateway);
}
