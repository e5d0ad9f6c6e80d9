//! Somebody, and what they ask for.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use doorward::clock::{Clock, SystemClock, UnixTime};
use doorward::identity::{ClaimMapping, ClaimPath, EmailVerification, Identity, Source};
use doorward::request::{Audience, CanonicalPath, Host, Preflight, RequestFacts, Scheme, Upgrade};
use doorward::session::Session;
use http::Method;
use serde_json::json;

pub const NOW: UnixTime = UnixTime(1_800_000_000);

/// A clock that stands still: nothing grows old while it is measured.
pub struct Still;

impl Clock for Still {
    fn now(&self) -> UnixTime {
        NOW
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW.0)
    }

    fn instant(&self) -> Instant {
        SystemClock.instant()
    }
}

pub fn mapping() -> ClaimMapping {
    let path = |text| ClaimPath::parse(text).unwrap();
    ClaimMapping {
        user: path("sub"),
        email: Some(path("email")),
        groups: Some(path("groups").into()),
        email_verification: EmailVerification::Required,
    }
}

/// Ann, in groups `group-0` and so on.
pub fn ann(groups: usize) -> Arc<Identity> {
    let groups: Vec<String> = (0..groups).map(|n| format!("group-{n}")).collect();
    let claims = json!({
        "sub": "5ba552d67f1c4c0d9b3b1fe2", "email": "ann@example.test", "email_verified": true, "preferred_username": "ann",
        "name": "Ann Example", "groups": groups,
    });
    let claims = claims.as_object().unwrap().clone();
    Arc::new(Identity::from_claims("https://issuer.bench.test", Source::Provider("corp".into()), &mapping(), claims).unwrap())
}

/// Her session, with an ID token and tokens of usual lengths.
pub fn session() -> Session {
    let session = json!({
        "identity": &*ann(3), "client_id": "doorward", "id_token": "x".repeat(1200), "created_at": NOW.0, "ends_at": NOW.0 + 36_000,
        "tokens": { "access_token": "y".repeat(900), "refresh_token": "z".repeat(400), "expires_at": NOW.0 + 300, "refresh_at": NOW.0 + 250 },
    });
    serde_json::from_value(session).unwrap()
}

/// A page of an app.
pub fn facts(path: &str) -> RequestFacts {
    RequestFacts {
        method: Method::GET,
        scheme: Scheme::Https,
        host: Host::parse("app.bench.test").unwrap(),
        path: CanonicalPath::parse(path).unwrap(),
        query: None,
        address: "203.0.113.7".parse().unwrap(),
        known_address: None,
        audience: Audience::Navigation,
        origin: None,
        upgrade: Upgrade::No,
        preflight: Preflight::No,
    }
}
