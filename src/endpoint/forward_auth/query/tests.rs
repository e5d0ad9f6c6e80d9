//! What rules in the query are read as, and that they never open anything.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clock::UnixTime;
use crate::credential::{Absence, Authenticated, Authentication, CredentialKind};
use crate::decision::{Decision, decide};
use crate::identity::{ClaimMapping, ClaimPath, EmailVerification, Identity, Source};
use crate::request::{Audience, CanonicalPath, Host, Preflight, RequestFacts, Scheme, Upgrade};
use crate::route::{Accept, Access, Route};

fn read(query: &str) -> Result<Option<Rule>, Fault> {
    inline(&Parameters::parse(query.as_bytes()), InlineRules::Narrow)
}

fn identity(claims: Value) -> Identity {
    let path = |text| ClaimPath::parse(text).unwrap();
    let mapping = ClaimMapping {
        user: path("sub"),
        email: Some(path("email")),
        groups: Some(path("groups").into()),
        email_verification: EmailVerification::Required,
    };
    let claims = claims.as_object().unwrap().clone();
    Identity::from_claims("https://i.test", Source::Provider("corp".into()), &mapping, claims).unwrap()
}

#[test]
fn any_item_of_a_list_is_enough_and_every_list_has_to_hold() {
    let ann = identity(json!({"sub": "1", "email": "Ann@Example.com", "email_verified": true, "groups": ["staff", "a b", "ö"]}));
    for (query, holds) in [
        ("allowed_groups=staff", true),
        ("allowed_groups=admin,staff", true),
        ("allowed_groups=admin", false),
        ("allowed_groups=STAFF", false),
        ("allowed_groups=admin%2Cstaff", true),
        ("allowed_groups=a+b", true),
        ("allowed_groups=%C3%B6", true),
        ("allowed_emails=ann@example.com", true),
        ("allowed_emails=bob@example.com,ANN@example.com", true),
        ("allowed_emails=bob@example.com", false),
        ("allowed_email_domains=example.com", true),
        ("allowed_email_domains=EXAMPLE.com", true),
        ("allowed_email_domains=ample.com", false),
        ("allowed_email_domains=sub.example.com,example.org", false),
        ("allowed_groups=staff&allowed_email_domains=example.com", true),
        ("allowed_groups=staff&allowed_email_domains=example.org", false),
        ("allowed_groups=admin&allowed_email_domains=example.com", false),
    ] {
        let policy = both(None, read(query).unwrap()).unwrap();
        assert_eq!(policy.evaluate(&ann).is_ok(), holds, "{query}");
    }
    // Beside a named policy both have to hold.
    let staff = || Some(Arc::new(Policy { id: "staff".to_owned(), rule: Rule::Groups(["staff".to_owned()].into()) }));
    let admin = || Some(Arc::new(Policy { id: "admin".to_owned(), rule: Rule::Groups(["admin".to_owned()].into()) }));
    let query = |query| read(query).unwrap();
    assert!(both(staff(), query("allowed_emails=ann@example.com")).unwrap().evaluate(&ann).is_ok());
    assert!(both(admin(), query("allowed_emails=ann@example.com")).unwrap().evaluate(&ann).is_err());
    assert!(both(staff(), query("allowed_emails=bob@example.com")).unwrap().evaluate(&ann).is_err());
    assert!(both(None, query("policy=x")).is_none());
}

#[test]
fn what_asks_for_nothing_or_twice_is_refused() {
    for query in [
        "allowed_groups=",
        "allowed_groups",
        "allowed_groups=,",
        "allowed_groups=staff,",
        "allowed_groups=a,,b",
        "allowed_groups=%20",
        "allowed_groups=staff&allowed_groups=staff",
        "allowed_emails=",
        "allowed_emails=example.com",
        "allowed_emails=a@b@c.test",
        "allowed_email_domains=",
        "allowed_email_domains=*",
        "allowed_email_domains=*.example.com",
        "allowed_email_domains=.example.com",
        "allowed_email_domains=@example.com",
        "allowed_email_domains=a@example.com",
        "allowed_email_domains=example..com",
    ] {
        assert_eq!(read(query).unwrap_err().reason, Reason::InlineRule, "{query}");
    }
    let many = format!("allowed_groups={}", vec!["a"; ITEMS + 1].join(","));
    assert_eq!(read(&many).unwrap_err().reason, Reason::InlineRule);
    // Off, any of them is refused, sound or not.
    for query in ["allowed_groups=staff", "allowed_emails=", "allowed_email_domains=example.com"] {
        let fault = inline(&Parameters::parse(query.as_bytes()), InlineRules::Refused).unwrap_err();
        assert!(fault.reason == Reason::InlineRule && fault.detail.contains("forward_auth.narrow"), "{query}: {fault:?}");
    }
    assert_eq!(inline(&Parameters::parse(b"policy=staff"), InlineRules::Refused), Ok(None));
}

fn permits(route: &Arc<Route>, who: &Authentication, policy: Option<Arc<Policy>>) -> bool {
    let facts = RequestFacts {
        method: http::Method::GET,
        scheme: Scheme::Https,
        host: Host::parse("app.test").unwrap(),
        path: CanonicalPath::parse("/").unwrap(),
        query: None,
        address: std::net::IpAddr::from([192, 0, 2, 1]),
        known_address: None,
        audience: Audience::Navigation,
        origin: None,
        upgrade: Upgrade::No,
        preflight: Preflight::No,
    };
    let extra = Extra { policy, ..Extra::at(UnixTime(1_000), std::time::Duration::ZERO) };
    matches!(decide(route, &facts, who.clone(), &extra), Decision::Permit(_))
}

fn groups() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[abc]", 0..3)
}

proptest! {
    #[test]
    fn a_query_never_opens_what_is_closed_without_it(
        query in "(allowed_groups=[abc,]{0,5})?(&allowed_emails=([abc]@[de]\\.test,?){0,2})?(&allowed_email_domains=[de.tes,]{0,8})?",
        wanted in groups(),
        held in groups(),
        mail in prop::option::of("[abc]@[de]\\.test"),
        verified: bool,
        named in prop::option::of("[abc]"),
        access in 0..3_u8,
        anonymous: bool,
    ) {
        let accept = || Accept::of(vec![CredentialKind::Session]);
        let own = Policy { id: "own".to_owned(), rule: Rule::Groups(wanted.into_iter().collect()) };
        let access = match access {
            0 => Access::Public,
            1 => Access::Optional(accept()),
            _ => Access::Protected(accept(), Arc::new(own)),
        };
        let route = Arc::new(Route::new("r", 0, access));
        let mut claims = json!({"sub": "1", "groups": held, "email_verified": verified});
        if let Some(mail) = mail {
            claims["email"] = json!(mail);
        }
        let who = if anonymous {
            Authentication::Anonymous(Absence::NoCredential)
        } else {
            Authentication::Authenticated(Authenticated { identity: Arc::new(identity(claims)), by: CredentialKind::Session })
        };
        let named = named.map(|group| Arc::new(Policy { id: "named".to_owned(), rule: Rule::Groups([group].into()) }));
        let without = permits(&route, &who, named.clone());
        // What cannot be read is refused before anything is decided.
        if let Ok(rule) = read(&query) {
            let policy = both(named, rule.clone());
            let with = permits(&route, &who, policy.clone());
            prop_assert!(!with || without, "{query}");
            // And each rule counts: whoever passes holds it.
            if let (true, Some(rule), Authentication::Authenticated(who)) = (with && !matches!(route.access, Access::Public), rule, &who) {
                let alone = Policy { id: "alone".to_owned(), rule };
                prop_assert!(alone.evaluate(&who.identity).is_ok(), "{query}");
            }
        }
    }
}
