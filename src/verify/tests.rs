use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::fault::Outage;
use crate::identity::{ClaimMapping, ClaimPath, EmailVerification, Groups, Source};
use crate::provider::keys::{FetchedKeys, JwksCache};
use crate::tasks::Tasks;
use crate::token::testing::{Signer, jwks, with};
use crate::token::{AccessTokenRules, Algorithm, TokenType};

/// A configured issuer whose key documents come from a script; the last one stays. `None` is an outage.
struct Issuer {
    name: &'static str,
    signer: Signer,
    fetches: Arc<AtomicUsize>,
    script: Arc<Mutex<VecDeque<Option<Vec<u8>>>>>,
}

impl Issuer {
    fn new(name: &'static str) -> Self {
        let signer = Signer::new(Algorithm::Es256);
        let script = VecDeque::from([Some(jwks(&[signer.jwk("k")]))]);
        Self { name, signer, fetches: Arc::default(), script: Arc::new(Mutex::new(script)) }
    }

    fn publishes(&self, documents: impl IntoIterator<Item = Option<Vec<u8>>>) {
        *self.script.lock().unwrap() = documents.into_iter().collect();
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn verifier(&self, clock: &SharedClock, memory: &Arc<TokenMemory>, groups: Option<&str>) -> Arc<dyn TokenVerifier> {
        let (fetches, script) = (Arc::clone(&self.fetches), Arc::clone(&self.script));
        let fetch = Box::new(move || {
            fetches.fetch_add(1, Ordering::SeqCst);
            let mut script = script.lock().unwrap();
            let document = if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() };
            let fetched = document.map(|document| FetchedKeys { document, max_age: None }).ok_or_else(|| Outage::keys("down"));
            Box::pin(async move { fetched }) as crate::provider::keys::KeysFuture<FetchedKeys>
        });
        let rules = AccessTokenRules {
            issuer: self.name.into(),
            audience: Audience::AnyOf(["default".into()].into()),
            algorithms: Algorithm::DEFAULT.to_vec(),
            typ: TokenType::AtJwt,
            client_id: None,
            scope_claim: None,
            leeway: Duration::from_secs(60),
        };
        let path = |text| ClaimPath::parse(text).unwrap();
        let mapping = ClaimMapping {
            user: path("sub"),
            email: None,
            groups: groups.map(|text| path(text).into()),
            email_verification: EmailVerification::Required,
        };
        let cache = JwksCache::new(fetch, Arc::clone(clock), Tasks::new(Handle::current()));
        Arc::new(JwtVerifier::new(rules, mapping, Arc::new(cache), Arc::clone(memory)))
    }

    fn token(&self, clock: &ManualClock, change: &Value) -> Secret {
        Secret::new(self.signer.token(&with(&self.signer.header("k"), &json!({"typ": "at+jwt"})), &with(&self.claims(clock), change)))
    }

    fn claims(&self, clock: &ManualClock) -> Value {
        let now = clock.now().0;
        json!({
            "iss": self.name, "sub": "alice", "aud": ["default", "orders"], "client_id": "cli", "jti": "1", "exp": now + 300, "iat": now,
            "scope": "read write", "groups": ["admin"],
        })
    }
}

struct World {
    a: Issuer,
    b: Issuer,
    clock: Arc<ManualClock>,
    memory: Arc<TokenMemory>,
    verifiers: Verifiers,
}

fn world() -> World {
    let clock = Arc::new(ManualClock::default());
    let shared: SharedClock = clock.clone();
    let (a, b) = (Issuer::new("https://a.test"), Issuer::new("https://b.test"));
    let memory = Arc::new(TokenMemory::new());
    let by_keys = [a.verifier(&shared, &memory, Some("groups")), b.verifier(&shared, &memory, None)];
    let verifiers = Verifiers::new(by_keys, None, Arc::clone(&memory), shared);
    World { a, b, clock, memory, verifiers }
}

impl World {
    async fn reason(&self, token: &Secret) -> Option<Reason> {
        self.verifiers.verify(token, None).await.err().map(|trouble| trouble.reason())
    }
}

#[tokio::test]
async fn a_sound_token_becomes_an_identity_of_its_issuer() {
    let world = world();
    let verified = world.verifiers.verify(&world.a.token(&world.clock, &json!({})), None).await.unwrap();
    let identity = &verified.identity;
    assert_eq!((identity.issuer.as_str(), identity.sub.as_str(), identity.user.as_str()), ("https://a.test", "alice", "alice"));
    assert_eq!(identity.source, Source::TokenIssuer("https://a.test".into()));
    assert_eq!(identity.scopes.iter().collect::<Vec<_>>(), ["read", "write"]);
    assert_eq!(identity.groups, Groups::Listed(vec!["admin".into()]));
    // The same claim of an issuer whose groups are not mapped counts for nothing.
    let verified = world.verifiers.verify(&world.b.token(&world.clock, &json!({})), None).await.unwrap();
    assert_eq!(verified.identity.groups, Groups::Listed(vec![]));
}

#[tokio::test]
async fn an_issuer_that_is_not_configured_is_asked_nothing() {
    let world = world();
    for iss in ["https://evil.test", "https://a.test/", "", "HTTPS://A.TEST"] {
        let token = world.a.token(&world.clock, &json!({"iss": iss}));
        assert_eq!(world.reason(&token).await, Some(Reason::TokenIssuerUnknown), "{iss}");
    }
    for text in ["", "opaque", "a.b.c", "e30.e30.e30"] {
        assert_eq!(world.reason(&Secret::new(text)).await, Some(Reason::TokenMalformed), "{text}");
    }
    assert_eq!(world.a.fetches() + world.b.fetches(), 0);
}

#[tokio::test]
async fn what_is_wrong_in_form_fetches_no_keys() {
    let world = world();
    for (header, reason) in [
        (json!({"alg": "none", "typ": "at+jwt"}), Reason::TokenAlgorithm),
        (json!({"alg": "HS256", "kid": "k", "typ": "at+jwt"}), Reason::TokenAlgorithm),
        (json!({"alg": "ES256", "kid": "k", "typ": "JWT"}), Reason::TokenType),
        (json!({"alg": "ES256", "kid": "k", "typ": "at+jwt", "crit": ["x"]}), Reason::TokenCritical),
    ] {
        let token = Secret::new(world.a.signer.token(&header, &world.a.claims(&world.clock)));
        assert_eq!(world.reason(&token).await, Some(reason), "{header}");
    }
    assert_eq!(world.a.fetches(), 0);
}

#[tokio::test]
async fn one_issuer_does_not_sign_for_another() {
    let world = world();
    let header = with(&world.b.signer.header("k"), &json!({"typ": "at+jwt"}));
    let forged = Secret::new(world.b.signer.token(&header, &world.a.claims(&world.clock)));
    assert_eq!(world.reason(&forged).await, Some(Reason::TokenSignature));
}

#[tokio::test]
async fn the_route_s_audience_counts_before_the_issuer_s() {
    let world = world();
    let token = world.a.token(&world.clock, &json!({}));
    for (audience, reason) in [
        (None, None),
        (Some(Audience::AnyOf(["orders".into()].into())), None),
        (Some(Audience::AnyOf(["invoices".into()].into())), Some(Reason::TokenAudience)),
        (Some(Audience::Any), None),
    ] {
        let result = world.verifiers.verify(&token, audience.as_ref()).await;
        assert_eq!(result.err().map(|trouble| trouble.reason()), reason, "{audience:?}");
    }
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let world = world();
    let token = world.a.token(&world.clock, &json!({}));
    assert_eq!(world.reason(&token).await, None);
    world.clock.advance(Duration::from_secs(350));
    assert_eq!(world.reason(&token).await, None);
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(world.reason(&token).await, Some(Reason::TokenExpired));
}

#[tokio::test]
async fn a_rotated_key_is_found_by_one_refetch() {
    let world = world();
    assert_eq!(world.reason(&world.a.token(&world.clock, &json!({}))).await, None);
    let new = Signer::new(Algorithm::EdDsa);
    world.a.publishes([Some(jwks(&[world.a.signer.jwk("k"), new.jwk("new")]))]);
    let header = with(&new.header("new"), &json!({"typ": "at+jwt"}));
    let token = Secret::new(new.token(&header, &world.a.claims(&world.clock)));
    assert_eq!(world.reason(&token).await, None);
    assert_eq!(world.reason(&world.a.token(&world.clock, &json!({}))).await, None);
    assert_eq!(world.a.fetches(), 2);
}

#[tokio::test]
async fn ten_thousand_forged_key_names_are_refused_and_cost_one_refetch() {
    let world = world();
    for index in 0..10_000 {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": index.to_string()});
        let input = format!(
            "{}.{}.AAAA",
            crate::secret::encode(header.to_string().as_bytes()),
            crate::secret::encode(world.a.claims(&world.clock).to_string().as_bytes())
        );
        assert_eq!(world.reason(&Secret::new(input)).await, Some(Reason::TokenKeyUnknown));
    }
    assert_eq!(world.a.fetches(), 2);
    assert_eq!(world.reason(&world.a.token(&world.clock, &json!({}))).await, None);
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_an_outage_not_a_refusal() {
    let world = world();
    world.a.publishes([None]);
    let token = world.a.token(&world.clock, &json!({}));
    assert_eq!(world.reason(&token).await, Some(Reason::KeysUnreachable));
    // Keys there are, the token's is not, and the issuer is down: whether it exists is not known.
    world.b.publishes([Some(jwks(&[])), None]);
    assert_eq!(world.reason(&world.b.token(&world.clock, &json!({}))).await, Some(Reason::KeysUnreachable));
    world.clock.advance(Duration::from_secs(10));
    world.a.publishes([Some(jwks(&[world.a.signer.jwk("k")]))]);
    assert_eq!(world.reason(&token).await, None);
}

#[tokio::test]
async fn a_token_whose_user_claim_names_nobody_is_refused() {
    let world = world();
    for change in [json!({"sub": ""}), json!({"sub": null}), json!({"sub": 7})] {
        assert_eq!(world.reason(&world.a.token(&world.clock, &change)).await, Some(Reason::TokenClaims), "{change}");
    }
}

#[tokio::test]
async fn a_repeated_token_is_remembered_and_still_judged_by_time_and_audience() {
    let world = world();
    let token = world.a.token(&world.clock, &json!({}));
    let first = world.verifiers.verify(&token, None).await.unwrap();
    assert_eq!(world.memory.len(), 1);
    let again = world.verifiers.verify(&token, None).await.unwrap();
    assert!(Arc::ptr_eq(&first.identity, &again.identity), "it was verified a second time");
    let elsewhere = Audience::AnyOf(["invoices".into()].into());
    let refused = world.verifiers.verify(&token, Some(&elsewhere)).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::TokenAudience);
    let here = Audience::AnyOf(["orders".into()].into());
    assert!(Arc::ptr_eq(&world.verifiers.verify(&token, Some(&here)).await.unwrap().identity, &first.identity));
    world.clock.advance(Duration::from_secs(360));
    assert_eq!(world.reason(&token).await, Some(Reason::TokenExpired));
    assert!(world.memory.is_empty(), "a token that is over is still remembered");
    // One byte more or less is another token.
    let longer = Secret::new(format!("{}A", world.a.token(&world.clock, &json!({})).expose()));
    assert_ne!(world.reason(&longer).await, None);
    assert!(world.memory.is_empty());
}

#[tokio::test]
async fn what_does_not_count_is_not_remembered() {
    let world = world();
    let forged = Signer::new(Algorithm::Es256);
    let header = with(&forged.header("k"), &json!({"typ": "at+jwt"}));
    let forged = Secret::new(forged.token(&header, &world.a.claims(&world.clock)));
    for _ in 0..2 {
        assert_eq!(world.reason(&forged).await, Some(Reason::TokenSignature));
        assert_eq!(world.reason(&world.a.token(&world.clock, &json!({"sub": 7}))).await, Some(Reason::TokenClaims));
    }
    assert!(world.memory.is_empty());
}

#[tokio::test]
async fn a_key_that_is_gone_forgets_its_tokens() {
    let world = world();
    let (of_a, of_b) = (world.a.token(&world.clock, &json!({"exp": u32::MAX})), world.b.token(&world.clock, &json!({"exp": u32::MAX})));
    for token in [&of_a, &of_b, &of_a, &of_b] {
        assert_eq!(world.reason(token).await, None);
    }
    assert_eq!(world.memory.len(), 2);
    // A document with the same key in another place changes nothing; one with another key of that name does.
    let other = Signer::new(Algorithm::Es256);
    world.a.publishes([Some(jwks(&[other.jwk("other"), world.a.signer.jwk("k")]))]);
    world.b.publishes([Some(jwks(&[other.jwk("k")]))]);
    let before = world.verifiers.verify(&of_a, None).await.unwrap().identity;
    world.clock.advance(Duration::from_secs(2 * 60 * 60));
    for _ in 0..2 {
        assert_eq!(world.reason(&of_b).await, Some(Reason::TokenSignature));
    }
    assert_eq!(world.memory.len(), 1);
    assert_eq!(world.reason(&of_a).await, None);
    // The wait for the newer keys went past the memory; from now on it is used again.
    let after = world.verifiers.verify(&of_a, None).await.unwrap().identity;
    assert!(!Arc::ptr_eq(&before, &after) && Arc::ptr_eq(&after, &world.verifiers.verify(&of_a, None).await.unwrap().identity));
    world.a.publishes([Some(jwks(&[other.jwk("other")]))]);
    world.clock.advance(Duration::from_secs(2 * 60 * 60));
    assert_eq!(world.reason(&of_a).await, Some(Reason::TokenKeyUnknown));
    assert_eq!(world.reason(&of_a).await, Some(Reason::TokenKeyUnknown));
    assert_eq!(world.memory.len(), 0);
}

#[tokio::test]
async fn a_key_found_gone_for_one_token_is_gone_for_all() {
    let world = world();
    let token = world.a.token(&world.clock, &json!({}));
    assert_eq!(world.reason(&token).await, None);
    // A forged key name makes the keys be looked at again before their time.
    let other = Signer::new(Algorithm::Es256);
    world.a.publishes([Some(jwks(&[other.jwk("new")]))]);
    let header = with(&other.header("new"), &json!({"typ": "at+jwt"}));
    let rotated = Secret::new(other.token(&header, &world.a.claims(&world.clock)));
    assert_eq!(world.reason(&rotated).await, None);
    assert_eq!(world.reason(&token).await, Some(Reason::TokenKeyUnknown));
}

#[tokio::test]
async fn remembered_tokens_go_on_while_the_issuer_is_down_and_not_for_ever() {
    let world = world();
    let token = world.a.token(&world.clock, &json!({"exp": u32::MAX}));
    assert_eq!(world.reason(&token).await, None);
    world.a.publishes([None]);
    for _ in 0..20 {
        world.clock.advance(Duration::from_secs(60 * 60));
        // Whoever finds the keys old looks first; the failure then lets the old ones count.
        let _ = world.reason(&token).await;
        assert_eq!(world.reason(&token).await, None);
    }
    world.clock.advance(Duration::from_secs(6 * 60 * 60));
    assert_eq!(world.reason(&token).await, Some(Reason::KeysUnreachable));
}
