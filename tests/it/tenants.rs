//! Organisations behind one address, as Entra ID has them: each with an issuer of its own, and only those that are listed.

use std::time::Duration;

use http::Request;
use serde_json::json;

use crate::harness::body::full;
use crate::harness::browser::Browser;
use crate::harness::gateway::{Gateway, TOP};
use crate::harness::hostile::{Endpoint, HostileProvider};
use crate::harness::http::fetch;
use crate::harness::upstream::EchoUpstream;
use crate::harness::visit::encode;
use crate::harness::wait::eventually_true;
use crate::harness::world::{Shape, World, reason_of};

const ONE: &str = "11111111-2222-3333-4444-555555555555";
const TWO: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";
const STRANGE: &str = "bbbbbbbb-cccc-dddd-eeee-ffffffffffff";

/// A provider that speaks as Entra ID's common endpoints do, in front of the gateway.
struct Organisations {
    gateway: Gateway,
    provider: HostileProvider,
    upstream: EchoUpstream,
}

impl Organisations {
    fn start(more: &str) -> Self {
        Self::named("@/{tenantid}/v2.0", more)
    }

    /// `@` in what its document names as `issuer` is where it is.
    fn named(issuer: &str, more: &str) -> Self {
        let provider = HostileProvider::builder().without_response_iss().refresh(true).lifetime(300).start();
        let upstream = EchoUpstream::start();
        let base = provider.issuer();
        provider.change_discovery(json!({ "issuer": issuer.replace('@', &base) }));
        let gateway = Gateway::start(&format!(
            "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n[provider]\nissuer = \"{base}/organizations/v2.0\"\n\
             discovery_url = \"{base}/.well-known/openid-configuration\"\nclient_id = \"doorward\"\nclient_secret = \"{}\"\n\
             tenants = [\"{ONE}\", \"{TWO}\"]\n{more}",
            upstream.url(),
            provider.client_secret()
        ));
        Self { gateway, provider, upstream }
    }

    fn issuer(&self, tenant: &str) -> String {
        format!("{}/{tenant}/v2.0", self.provider.issuer())
    }

    fn speaks_for(&self, iss: &str, tid: &str) {
        self.provider.id_tokens_say(json!({ "iss": self.issuer(iss), "tid": tid }));
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.url)
    }

    async fn signed_in(&self, tenant: &str) -> Browser {
        self.speaks_for(tenant, tenant);
        let mut browser = Browser::new();
        let page = browser.get(&self.at("/app")).await;
        let page = browser.follow_all(page).await;
        assert_eq!((page.status.as_u16(), self.provider.complaints()), (200, vec![]), "{}", page.text());
        browser
    }

    /// Status and reason of a login that comes to nothing.
    async fn refused(&self) -> (u16, String) {
        self.upstream.reset();
        let mut browser = Browser::new();
        let page = browser.get(&self.at("/app")).await;
        let page = browser.follow_all(page).await;
        assert_eq!((self.upstream.count(), browser.cookie("doorward").is_none()), (0, true));
        (page.status.as_u16(), reason_of(&page))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_tenants_people_are_known_by_their_own_issuer() {
    let all = Organisations::start("");
    let (mut one, mut two) = (all.signed_in(ONE).await, all.signed_in(TWO).await);
    // The same `sub` of two issuers is two people.
    for (browser, tenant) in [(&mut one, ONE), (&mut two, TWO)] {
        let who = browser.get(&all.at("/oauth2/userinfo")).await.json();
        assert_eq!((who["iss"].clone(), who["sub"].clone()), (json!(all.issuer(tenant)), json!("alice")), "{who}");
        let page = browser.get(&all.at("/oauth2/session")).await;
        assert!(page.text().contains(tenant), "{}", page.text());
    }
    for (iss, tid, status, reason) in [
        (STRANGE, STRANGE, 403, "tenant-unlisted"),
        (STRANGE, ONE, 502, "id-token-issuer"),
        (ONE, TWO, 502, "id-token-issuer"),
        (ONE, STRANGE, 502, "id-token-issuer"),
        ("organizations", ONE, 502, "id-token-issuer"),
        ("{tenantid}", "{tenantid}", 403, "tenant-unlisted"),
    ] {
        all.speaks_for(iss, tid);
        assert_eq!(all.refused().await, (status, reason.to_owned()), "{iss} {tid}");
    }
    all.provider.id_tokens_say(json!({ "iss": all.issuer(ONE) }));
    assert_eq!(all.refused().await, (502, "id-token-claims".to_owned()), "no tid");
    all.provider.id_tokens_say(json!({ "tid": ONE }));
    assert_eq!(all.refused().await, (502, "id-token-issuer".to_owned()), "the provider's own name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_one_tenants_signs_for_no_other() {
    for (whose, status) in [("{tenantid}", 200), (ONE, 200), (TWO, 502)] {
        let all = Organisations::start("");
        all.provider.keys_say(json!({ "issuer": all.issuer(whose) }));
        all.speaks_for(ONE, ONE);
        if status == 200 {
            all.signed_in(ONE).await;
        } else {
            assert_eq!(all.refused().await, (status, "id-token-signature".to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_names_one_issuer_is_not_that_of_many() {
    for named in ["@/11111111-2222-3333-4444-555555555555/v2.0", "@/organizations/v2.0", "@/{tenant}/v2.0", "@/{tenantid}/v2.0/", "@"] {
        let all = Organisations::named(named, "");
        all.speaks_for(ONE, ONE);
        assert_eq!(all.refused().await, (502, "provider-metadata".to_owned()), "{named}");
    }
    // Without tenants a template is nobody's issuer.
    let world = World::shaped(Shape::default(), |kind| kind.discovery(json!({ "issuer": "http://127.0.0.1/{tenantid}/v2.0" })));
    let page = world.visit(&mut Browser::new(), "/app").await;
    assert_eq!((page.status.as_u16(), reason_of(&page).as_str(), world.upstream.count()), (502, "provider-metadata", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_its_tenants_when_it_is_renewed_and_ends_when_that_one_says_so() {
    let all = Organisations::start("");
    let mut browser = all.signed_in(ONE).await;
    let sid = all.provider.last_sid().expect("a sid");
    all.gateway.advance(Duration::from_secs(280));
    assert_eq!(browser.get(&all.at("/app")).await.status, 200);
    eventually_true("a refresh", async || all.provider.count(Endpoint::Refresh) == 1).await;
    assert_eq!(browser.get(&all.at("/app")).await.status, 200);
    let who = browser.get(&all.at("/oauth2/userinfo")).await.json();
    assert_eq!(who["iss"], json!(all.issuer(ONE)));

    // Who says that it has ended has to be that tenant; another listed one's session of this name is another.
    let logout = async |issuer: String, expected: (u16, u64)| {
        let now = (all.gateway.now())();
        let token = all.provider.logout_token(json!({ "iss": issuer, "sid": sid, "iat": now, "exp": now + 60 }));
        let request = Request::post(all.at("/oauth2/backchannel_logout")).header("content-type", "application/x-www-form-urlencoded");
        let answer = fetch(request.body(full(encode(&[("logout_token", token.as_str())]))).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.json()["ended"].as_u64().unwrap_or(0)), expected, "{issuer}: {}", answer.text());
    };
    logout(all.issuer(STRANGE), (400, 0)).await;
    logout(format!("{}/organizations/v2.0", all.provider.issuer()), (400, 0)).await;
    logout(all.issuer(TWO), (200, 0)).await;
    assert_eq!(browser.get(&all.at("/app")).await.status, 200);
    logout(all.issuer(ONE), (200, 1)).await;
    assert_eq!(browser.get(&all.at("/app")).await.status, 303);

    // A renewal that speaks of another listed tenant's person of the same name ends it.
    let mut browser = all.signed_in(ONE).await;
    all.speaks_for(TWO, TWO);
    all.gateway.advance(Duration::from_secs(280));
    let mut last = browser.get(&all.at("/app")).await;
    for _ in 0..400 {
        if last.status == 303 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
        last = browser.get(&all.at("/app")).await;
    }
    assert_eq!(last.status, 303, "{}", last.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_taken_off_the_list_is_nobody_any_more() {
    let all = Organisations::start("");
    let (mut one, mut two) = (all.signed_in(ONE).await, all.signed_in(TWO).await);
    let all = Organisations { gateway: all.gateway.restart_with(|text| text.replace(&format!("\"{ONE}\", "), "")), ..all };
    assert_eq!(two.get(&all.at("/app")).await.status, 200);
    all.upstream.reset();
    assert_eq!((one.get(&all.at("/app")).await.status.as_u16(), all.upstream.count()), (303, 0));
}
