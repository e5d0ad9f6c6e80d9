//! The decision table of the product, row by row, and its laws.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::identity::{ClaimMapping, ClaimPath, EmailVerification, Identity, Source};
use crate::policy::Rule;
use crate::request::{CanonicalPath, Host, Scheme};

fn accept(providers: Option<&[&str]>) -> Accept {
    let providers = providers.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
    Accept { providers, ..Accept::of(vec![CredentialKind::Session, CredentialKind::Bearer]) }
}

fn staff() -> Arc<Policy> {
    Arc::new(Policy { id: "staff".into(), rule: Rule::Groups(BTreeSet::from(["staff".into()])) })
}

fn route(access: Access) -> Arc<Route> {
    Arc::new(Route { origins: BTreeSet::from(["https://listed.test".to_owned()]), ..Route::new("r", 0, access) })
}

fn facts(audience: Audience) -> RequestFacts {
    RequestFacts {
        method: Method::GET,
        scheme: Scheme::Https,
        host: Host::parse("own.test").unwrap(),
        path: CanonicalPath::parse("/a").unwrap(),
        query: None,
        address: "127.0.0.1".parse().unwrap(),
        known_address: None,
        audience,
        origin: None,
        upgrade: Upgrade::No,
        preflight: Preflight::No,
    }
}

fn who(by: CredentialKind, groups: &[&str]) -> Authenticated {
    let path = |text| ClaimPath::parse(text).unwrap();
    let mapping = ClaimMapping {
        user: path("sub"),
        email: None,
        groups: Some(path("groups").into()),
        email_verification: EmailVerification::Required,
    };
    let claims = json!({"sub": "ann", "groups": groups}).as_object().unwrap().clone();
    let identity = Identity::from_claims("https://i.test", Source::Provider("corp".into()), &mapping, claims).unwrap();
    Authenticated { identity: Arc::new(identity), by }
}

const NOW: UnixTime = UnixTime(1_000_000);

fn now() -> Extra {
    Extra::at(NOW, Duration::from_secs(60))
}

/// `permit REASON`, `challenge REASON [deleted] [invalid_token]` or `deny REASON`.
fn outcome(decision: &Decision) -> String {
    match decision {
        Decision::Permit(permit) => format!("permit {} {}", permit.reason(), if permit.who().is_some() { "somebody" } else { "anybody" }),
        Decision::Challenge(challenge) => {
            let deleted = if challenge.cookie == CookieFate::Deleted { " deleted" } else { "" };
            let token = match challenge.token {
                TokenProblem::None => "",
                TokenProblem::OtherCredential => " other",
                TokenProblem::InvalidToken => " invalid_token",
                TokenProblem::TooWeak => " too_weak",
                TokenProblem::InvalidDpopProof => " invalid_dpop_proof",
                TokenProblem::UseDpopNonce => " use_dpop_nonce",
            };
            format!("challenge {}{deleted}{token}", challenge.reason)
        }
        Decision::Deny(denial) => format!("deny {}", denial.fault.reason),
    }
}

#[test]
fn the_table() {
    use Audience::{Navigation, Program};
    let public = || Access::Public;
    let optional = || Access::Optional(accept(None));
    let protected = || Access::Protected(accept(None), staff());
    let other_provider = || Access::Protected(accept(Some(&["partner"])), staff());
    let none = || Authentication::Anonymous(Absence::NoCredential);
    let over = || Authentication::Anonymous(Absence::SessionOver(Reason::SessionIdle));
    let ambiguous = || Authentication::Anonymous(Absence::SessionOver(Reason::SessionAmbiguous));
    let bad = || Authentication::Rejected(Fault::new(Reason::TokenExpired, "x"));
    let wrong = || Authentication::Rejected(Fault::new(Reason::PasswordWrong, "x"));
    let is = |by, groups: &[&str]| Authentication::Authenticated(who(by, groups));
    let session = |groups: &[&str]| is(CredentialKind::Session, groups);
    for (access, audience, authentication, expected) in [
        (public(), Navigation, none(), "permit public anybody"),
        (public(), Program, bad(), "permit public anybody"),
        (public(), Program, session(&["staff"]), "permit public anybody"),
        (optional(), Navigation, none(), "permit optional-anonymous anybody"),
        (optional(), Navigation, over(), "permit optional-anonymous anybody"),
        (optional(), Program, bad(), "challenge token-expired invalid_token"),
        (optional(), Program, wrong(), "challenge password-wrong other"),
        (optional(), Program, session(&[]), "permit allowed somebody"),
        (protected(), Navigation, none(), "challenge no-credential"),
        (protected(), Program, none(), "challenge no-credential"),
        (protected(), Navigation, over(), "challenge session-idle deleted"),
        (protected(), Program, over(), "challenge session-idle"),
        (protected(), Navigation, ambiguous(), "challenge session-ambiguous deleted"),
        (protected(), Program, ambiguous(), "challenge session-ambiguous deleted"),
        (protected(), Program, bad(), "challenge token-expired invalid_token"),
        (protected(), Program, session(&["staff"]), "permit allowed somebody"),
        (protected(), Navigation, session(&["other"]), "deny not-allowed"),
        (other_provider(), Navigation, session(&["staff"]), "challenge wrong-provider"),
        (other_provider(), Program, session(&["staff"]), "deny wrong-provider"),
    ] {
        let decision = decide(&route(access.clone()), &facts(audience), authentication.clone(), &now());
        assert_eq!(outcome(&decision), expected, "{access:?} {audience:?} {authentication:?}");
    }
}

#[test]
fn whoever_posts_with_an_ended_session_keeps_its_cookie() {
    let over = Authentication::Anonymous(Absence::SessionOver(Reason::SessionExpired));
    let form = RequestFacts { method: Method::POST, ..facts(Audience::Navigation) };
    let decision = decide(&route(Access::Protected(accept(None), staff())), &form, over, &now());
    assert_eq!(outcome(&decision), "challenge session-expired");
}

#[test]
fn a_login_that_is_worth_too_little_is_asked_for_again() {
    use Audience::{Navigation, Program};
    use CredentialKind::{Bearer, Session};
    let asked = |acr: &[&str], max_age| Asked { acr: acr.iter().map(|acr| (*acr).to_owned()).collect(), max_age };
    let mfa = || asked(&["mfa", "phr"], None);
    let hour = || asked(&[], Some(3600));
    let both = || asked(&["mfa"], Some(3600));
    let ago = |seconds: u64| Some(json!(NOW.0 - seconds));
    for (asks, by, audience, acr, auth_time, expected) in [
        (asked(&[], None), Session, Navigation, None, None, "permit allowed somebody"),
        (mfa(), Session, Navigation, Some(json!("mfa")), None, "permit allowed somebody"),
        (mfa(), Session, Navigation, Some(json!("phr")), None, "permit allowed somebody"),
        (mfa(), Session, Navigation, Some(json!("pwd")), None, "challenge login-too-weak"),
        (mfa(), Session, Program, Some(json!("pwd")), None, "challenge login-too-weak"),
        (mfa(), Session, Navigation, None, None, "challenge login-too-weak"),
        // Neither a list nor a part of a name is the name.
        (mfa(), Session, Navigation, Some(json!(["mfa"])), None, "challenge login-too-weak"),
        (mfa(), Session, Navigation, Some(json!("mfa phr")), None, "challenge login-too-weak"),
        (mfa(), Session, Navigation, Some(json!("MFA")), None, "challenge login-too-weak"),
        (mfa(), Bearer, Navigation, Some(json!("pwd")), None, "challenge login-too-weak too_weak"),
        (mfa(), Bearer, Program, Some(json!("mfa")), None, "permit allowed somebody"),
        (hour(), Session, Navigation, None, ago(0), "permit allowed somebody"),
        (hour(), Session, Navigation, None, ago(3660), "permit allowed somebody"),
        (hour(), Session, Navigation, None, ago(3661), "challenge login-too-old"),
        (hour(), Bearer, Program, None, ago(3661), "challenge login-too-old too_weak"),
        (hour(), Session, Navigation, None, None, "challenge login-too-old"),
        (hour(), Session, Navigation, None, Some(json!("1000000")), "challenge login-too-old"),
        // A login of tomorrow would never grow old.
        (hour(), Session, Navigation, None, Some(json!(NOW.0 + 60)), "permit allowed somebody"),
        (hour(), Session, Navigation, None, Some(json!(NOW.0 + 61)), "challenge login-too-old"),
        (both(), Session, Navigation, Some(json!("mfa")), ago(9999), "challenge login-too-old"),
        (both(), Session, Navigation, Some(json!("pwd")), ago(1), "challenge login-too-weak"),
        (both(), Session, Program, Some(json!("mfa")), ago(1), "permit allowed somebody"),
    ] {
        let mut route = route(Access::Protected(accept(None), staff()));
        Arc::make_mut(&mut route).asks = asks.clone();
        let mut who = who(by, &["staff"]);
        let identity = Arc::make_mut(&mut who.identity);
        let mut claims = (*identity.claims).clone();
        claims.extend(acr.clone().map(|acr| ("acr".to_owned(), acr)));
        identity.claims = claims.into();
        identity.auth_time = auth_time.clone().and_then(|time| time.as_u64()).map(UnixTime);
        let decision = decide(&route, &facts(audience), Authentication::Authenticated(who), &now());
        assert_eq!(outcome(&decision), expected, "{asks:?} {by:?} {acr:?} {auth_time:?}");
        if let Decision::Challenge(challenge) = decision {
            assert_eq!(challenge.asks, asks);
        }
    }
}

#[test]
fn whom_the_policy_keeps_out_is_not_sent_for_a_better_login() {
    let mut route = route(Access::Protected(accept(None), staff()));
    Arc::make_mut(&mut route).asks = Asked { acr: vec!["mfa".into()], max_age: Some(1) };
    let other = Authentication::Authenticated(who(CredentialKind::Session, &["other"]));
    assert_eq!(outcome(&decide(&route, &facts(Audience::Navigation), other, &now())), "deny not-allowed");
}

#[test]
fn a_named_policy_only_narrows() {
    let none = Arc::new(Policy { id: "none".into(), rule: Rule::Groups(BTreeSet::from(["nobody".into()])) });
    let extra = Extra { policy: Some(none), ..now() };
    let session = || Authentication::Authenticated(who(CredentialKind::Session, &["staff"]));
    for access in [Access::Protected(accept(None), staff()), Access::Optional(accept(None))] {
        assert_eq!(outcome(&decide(&route(access), &facts(Audience::Program), session(), &extra)), "deny not-allowed");
    }
    let anonymous = Authentication::Anonymous(Absence::NoCredential);
    let decision = decide(&route(Access::Optional(accept(None))), &facts(Audience::Program), anonymous, &extra);
    assert_eq!(outcome(&decision), "challenge no-credential");
}

#[test]
fn a_preflight_passes_only_where_the_route_says_so() {
    let mut passing = route(Access::Protected(accept(None), staff()));
    let anonymous = || Authentication::Anonymous(Absence::NoCredential);
    let preflight = RequestFacts { preflight: Preflight::Yes, ..facts(Audience::Program) };
    assert_eq!(outcome(&decide(&passing, &preflight, anonymous(), &now())), "challenge no-credential");
    Arc::make_mut(&mut passing).preflight = PreflightRule::Pass;
    assert_eq!(outcome(&decide(&passing, &preflight, anonymous(), &now())), "permit preflight anybody");
    assert_eq!(outcome(&decide(&passing, &facts(Audience::Program), anonymous(), &now())), "challenge no-credential");
}

#[test]
fn an_escaped_slash_needs_a_route_that_keeps_it() {
    let path = CanonicalPath::parse("/a%2fb").unwrap();
    let mut public = route(Access::Public);
    let facts = RequestFacts { path, ..facts(Audience::Program) };
    let anonymous = || Authentication::Anonymous(Absence::NoCredential);
    assert_eq!(outcome(&decide(&public, &facts, anonymous(), &now())), "deny encoded-slash");
    Arc::make_mut(&mut public).encoded_slash = EncodedSlash::Keep;
    assert_eq!(outcome(&decide(&public, &facts, anonymous(), &now())), "permit public anybody");
}

#[test]
fn a_session_upgrades_only_for_origins_it_knows() {
    for (by, origin, expected) in [
        (CredentialKind::Session, None, "permit allowed somebody"),
        (CredentialKind::Session, Some("https://own.test"), "permit allowed somebody"),
        (CredentialKind::Session, Some("https://listed.test"), "permit allowed somebody"),
        (CredentialKind::Session, Some("https://evil.test"), "deny upgrade-origin"),
        (CredentialKind::Session, Some("http://own.test"), "deny upgrade-origin"),
        (CredentialKind::Session, Some("null"), "deny upgrade-origin"),
        (CredentialKind::Bearer, Some("https://evil.test"), "permit allowed somebody"),
    ] {
        let upgrade = RequestFacts { upgrade: Upgrade::Asked, origin: origin.map(str::to_owned), ..facts(Audience::Program) };
        let authentication = Authentication::Authenticated(who(by, &["staff"]));
        let decision = decide(&route(Access::Protected(accept(None), staff())), &upgrade, authentication, &now());
        assert_eq!(outcome(&decision), expected, "{by:?} {origin:?}");
    }
}

#[test]
fn a_password_that_a_browser_sends_along_changes_nothing_for_a_page_of_another_origin() {
    use CredentialKind::{ApiKey, Basic, Bearer, Session};
    let (post, get) = (Method::POST, Method::GET);
    for (by, method, upgrade, origin, expected) in [
        (Basic, &post, Upgrade::No, None, "permit allowed somebody"),
        (Basic, &post, Upgrade::No, Some("https://own.test"), "permit allowed somebody"),
        (Basic, &post, Upgrade::No, Some("https://listed.test"), "permit allowed somebody"),
        (Basic, &post, Upgrade::No, Some("https://evil.test"), "deny cross-site"),
        (Basic, &post, Upgrade::No, Some("null"), "deny cross-site"),
        (Basic, &Method::DELETE, Upgrade::No, Some("https://evil.test"), "deny cross-site"),
        (Basic, &get, Upgrade::No, Some("https://evil.test"), "permit allowed somebody"),
        (Basic, &get, Upgrade::Asked, Some("https://evil.test"), "deny upgrade-origin"),
        (Basic, &get, Upgrade::Asked, Some("https://listed.test"), "permit allowed somebody"),
        (Session, &post, Upgrade::No, Some("https://evil.test"), "permit allowed somebody"),
        (Bearer, &post, Upgrade::No, Some("https://evil.test"), "permit allowed somebody"),
        (ApiKey, &post, Upgrade::Asked, Some("https://evil.test"), "permit allowed somebody"),
    ] {
        let facts = RequestFacts { method: method.clone(), upgrade, origin: origin.map(str::to_owned), ..facts(Audience::Program) };
        let authentication = Authentication::Authenticated(who(by, &["staff"]));
        let decision = decide(&route(Access::Protected(accept(None), staff())), &facts, authentication, &now());
        assert_eq!(outcome(&decision), expected, "{by:?} {method} {upgrade:?} {origin:?}");
    }
}

proptest! {
    #[test]
    fn no_permit_for_a_protected_route_without_an_identity_that_the_policy_allows(
        kind in 0_u8..4, member: bool, navigation: bool, upgrade: bool, origin in prop::option::of("https://(own|evil|listed)\\.test"),
        preflight: bool, by in 0_usize..5, unsafe_method: bool,
    ) {
        use CredentialKind::{ApiKey, Basic, Bearer, Certificate, Session};
        let by = [Session, Bearer, Basic, ApiKey, Certificate][by];
        let authentication = match kind {
            0 => Authentication::Anonymous(Absence::NoCredential),
            1 => Authentication::Anonymous(Absence::SessionOver(Reason::SessionExpired)),
            2 => Authentication::Rejected(Fault::new(Reason::TokenSignature, "x")),
            _ => Authentication::Authenticated(who(by, if member { &["staff"] } else { &[] })),
        };
        let facts = RequestFacts {
            upgrade: if upgrade { Upgrade::Asked } else { Upgrade::No },
            preflight: if preflight { Preflight::Yes } else { Preflight::No },
            method: if unsafe_method { Method::POST } else { Method::GET },
            origin: origin.clone(),
            ..facts(if navigation { Audience::Navigation } else { Audience::Program })
        };
        let decision = decide(&route(Access::Protected(accept(None), staff())), &facts, authentication, &now());
        if let Decision::Permit(permit) = decision {
            prop_assert!(permit.who().is_some() && kind == 3 && member);
            // What a browser sends along by itself does nothing for a page of another origin.
            let by_itself = by == Session && upgrade || by == Basic && (upgrade || unsafe_method);
            prop_assert!(!(by_itself && origin.as_deref() == Some("https://evil.test")));
        }
    }
}

#[test]
fn a_policy_on_trial_lets_in_whom_it_refuses_and_nobody_who_is_not_known() {
    let on_trial = |access| Arc::new(Route { dry_run: DryRun::On, ..Arc::unwrap_or_clone(route(access)) });
    let r = on_trial(Access::Protected(accept(None), staff()));
    let f = facts(Audience::Program);
    let told = |authentication| match decide(&r, &f, authentication, &now()) {
        Decision::Permit(permit) => {
            let would_be = permit.would_be().map(|fault| fault.reason.as_str()).unwrap_or_default();
            assert!(permit.who().is_some());
            format!("permit {} {would_be}", permit.reason())
        }
        other => outcome(&other),
    };
    let somebody = |groups: &[&str]| Authentication::Authenticated(who(CredentialKind::Session, groups));
    assert_eq!(told(somebody(&["staff"])), "permit allowed ");
    assert_eq!(told(somebody(&["users"])), "permit dry-run not-allowed");
    assert_eq!(told(Authentication::Anonymous(Absence::NoCredential)), "challenge no-credential");
    let bad = Authentication::Rejected(Fault::new(Reason::TokenExpired, ""));
    assert!(told(bad).starts_with("challenge token-expired"));
    // `deny` is on trial with it, and is told first.
    let denying = Arc::new(Route { deny: Some(staff()), ..Arc::unwrap_or_clone(Arc::clone(&r)) });
    match decide(&denying, &f, somebody(&["staff"]), &now()) {
        Decision::Permit(permit) => assert_eq!(permit.would_be().map(|fault| fault.reason), Some(Reason::DeniedByRule)),
        other => panic!("{}", outcome(&other)),
    }
    // What a question brings is not on trial.
    let asked = Extra { policy: Some(staff()), ..now() };
    assert_eq!(outcome(&decide(&r, &f, somebody(&["users"]), &asked)), "deny not-allowed");
    // Nor is whose people count, from where a page may ask, and what a login has to be worth.
    let of_guests = on_trial(Access::Protected(accept(Some(&["guests"])), staff()));
    assert_eq!(outcome(&decide(&of_guests, &f, somebody(&["users"]), &now())), "deny wrong-provider");
    let foreign = RequestFacts { origin: Some("https://evil.test".into()), upgrade: Upgrade::Asked, ..facts(Audience::Program) };
    assert_eq!(outcome(&decide(&r, &foreign, somebody(&["users"]), &now())), "deny upgrade-origin");
    let strong = Arc::new(Route { asks: Asked { acr: vec!["mfa".to_owned()], max_age: None }, ..Arc::unwrap_or_clone(Arc::clone(&r)) });
    assert!(outcome(&decide(&strong, &f, somebody(&["users"]), &now())).starts_with("challenge login-too-weak"));
}
