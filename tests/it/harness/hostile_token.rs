//! The tokens of the hostile provider: what an honest one says, and what each lie makes of it.

use serde_json::{Value, json};

use super::hostile_lie::Lie;
use super::hostile_state::{ClaimsIn, EC_KID, Grant, Inner, Settings, State, merged};
use super::jose::{Algorithm, half_hash, hs256, unsigned, with_broken_signature};

/// An hour, by which lies shift times.
const HOUR: u64 = 3600;

/// Makes and signs an ID token for a grant.
#[must_use]
pub fn id_token(state: &State, grant: &Grant, access_token: &str, refreshed: bool) -> String {
    let now = state.now();
    let mut inner = state.lock();
    if inner.lie == Lie::KeyRotatedBeforeSigning && !inner.rotated {
        inner.rotate(&state.settings);
        inner.rotated = true;
    }
    let claims = id_token_claims(&state.settings, &inner, grant, access_token, refreshed, now);
    let header = inner.key.header();
    let mut token = signed(&state.settings, &mut inner, header, &claims);
    if refreshed && inner.lie == Lie::RefreshBadSignature {
        token = with_broken_signature(&token);
    }
    inner.secret("id_token", &token);
    token
}

fn id_token_claims(settings: &Settings, inner: &Inner, grant: &Grant, access_token: &str, refreshed: bool, now: u64) -> Value {
    let mut claims = match settings.claims_in {
        ClaimsIn::Both | ClaimsIn::IdToken => user_claims(&grant.claims, &inner.lie),
        ClaimsIn::Userinfo => json!({ "sub": grant.claims["sub"] }),
    };
    let standard = json!({
        "iss": inner.issuer,
        "aud": settings.client_id,
        "iat": now,
        "exp": now + settings.lifetime,
        "auth_time": grant.auth_time,
        "sid": grant.sid,
        "nonce": if refreshed { Value::Null } else { json!(grant.nonce) },
        "acr": grant.acr,
        "at_hash": half_hash(settings.algorithm, access_token),
    });
    claims = merged(&claims, &standard);
    let other_client = "somebody-elses-client";
    let lie = match &inner.lie {
        Lie::WrongIss => json!({ "iss": "https://another-issuer.test" }),
        Lie::IssWithSlash => json!({ "iss": format!("{}/", inner.issuer) }),
        Lie::NoIss => json!({ "iss": null }),
        Lie::WrongAud => json!({ "aud": other_client }),
        Lie::NoAud => json!({ "aud": null }),
        Lie::AudAsList => json!({ "aud": [settings.client_id] }),
        Lie::ExtraUntrustedAud => json!({ "aud": [settings.client_id, other_client], "azp": null }),
        Lie::WrongAzp => json!({ "azp": other_client }),
        Lie::NonceMissing => json!({ "nonce": null }),
        Lie::NonceOther => json!({ "nonce": "not-the-nonce-of-this-login" }),
        Lie::Expired => json!({ "iat": now - 2 * HOUR, "exp": now - HOUR }),
        Lie::NoExp => json!({ "exp": null }),
        Lie::FutureIat => json!({ "iat": now + HOUR, "exp": now + 2 * HOUR }),
        Lie::NoIat => json!({ "iat": null }),
        Lie::NotYetValid => json!({ "nbf": now + HOUR }),
        Lie::NoSub => json!({ "sub": null }),
        Lie::EmptySub => json!({ "sub": "" }),
        Lie::SubNotString => json!({ "sub": 12345 }),
        Lie::AtHashWrong => json!({ "at_hash": half_hash(settings.algorithm, "another token") }),
        Lie::AtHashMissing => json!({ "at_hash": null }),
        Lie::AcrMissing => json!({ "acr": null }),
        Lie::AcrWeaker(acr) => json!({ "acr": acr }),
        Lie::AuthTimeMissing => json!({ "auth_time": null }),
        Lie::AuthTimeOld => json!({ "auth_time": now - 24 * HOUR }),
        Lie::AuthTimeAhead => json!({ "auth_time": now + 2 * HOUR }),
        Lie::RefreshOtherSub if refreshed => json!({ "sub": "mallory" }),
        Lie::RefreshOtherIss if refreshed => json!({ "iss": "https://another-issuer.test" }),
        Lie::RefreshOtherAud if refreshed => json!({ "aud": other_client }),
        Lie::RefreshOtherAzp if refreshed => json!({ "azp": other_client }),
        Lie::RefreshOtherNonce if refreshed => json!({ "nonce": "not-the-nonce-of-this-login" }),
        Lie::RefreshOtherAuthTime if refreshed => json!({ "auth_time": grant.auth_time + 1 }),
        Lie::RefreshExpired if refreshed => json!({ "iat": now - 2 * HOUR, "exp": now - HOUR }),
        _ => json!({}),
    };
    merged(&merged(&claims, &inner.sayings.id_token), &lie)
}

/// Signs claims with the current key and what the current lie makes of header and signature.
#[must_use]
pub fn signed(settings: &Settings, inner: &mut Inner, header: Value, claims: &Value) -> String {
    let lie = inner.lie.clone();
    let patched = |patch: Value| merged(&header, &patch);
    match lie {
        Lie::BadSignature => with_broken_signature(&inner.key.token(&header, claims)),
        Lie::OtherKeySameKid => {
            let (algorithm, kid) = (inner.key.algorithm, inner.key.kid.clone());
            inner.other_key(algorithm, &kid).token(&header, claims)
        }
        Lie::AlgNone => unsigned(&patched(json!({ "kid": null })), claims),
        Lie::Hs256WithPublicKey => hs256(&header, claims, inner.key.public_pem().as_bytes()),
        Lie::Hs256WithClientSecret => hs256(&patched(json!({ "kid": null })), claims, settings.client_secret.as_bytes()),
        Lie::UnknownKid => inner.key.token(&patched(json!({ "kid": "nobody-has-this-kid" })), claims),
        Lie::KidAbsentOneKey | Lie::KidAbsentSeveralKeys => inner.key.token(&patched(json!({ "kid": null })), claims),
        Lie::EcKeyForRsaAlg => {
            // The signature is an EC one; only `alg` says RSA.
            let header = patched(json!({ "alg": Algorithm::Rs256.name(), "kid": EC_KID }));
            inner.other_key(Algorithm::Es256, EC_KID).token(&header, claims)
        }
        Lie::UnknownCrit => inner.key.token(&patched(json!({ "crit": ["urn:unknown"], "urn:unknown": true })), claims),
        _ => inner.key.token(&header, claims),
    }
}

/// The user's claims as the lie of the moment tells them.
#[must_use]
pub fn user_claims(claims: &Value, lie: &Lie) -> Value {
    let patch = match lie {
        Lie::GroupsOverage => json!({
            "groups": null,
            "_claim_names": { "groups": "src1" },
            "_claim_sources": { "src1": { "endpoint": "https://graph.example.test/v1.0/users/alice/getMemberObjects" } },
        }),
        Lie::GroupsOverageHasgroups => json!({ "groups": null, "hasgroups": true }),
        Lie::EmailVerifiedString => json!({ "email_verified": "true" }),
        Lie::EmailVerifiedFalse => json!({ "email_verified": false }),
        Lie::EmailAbsentVerified => json!({ "email_verified": null }),
        Lie::HugeGroups => {
            let groups: Vec<String> = (0..2048).map(|n| format!("group-{n:04}-{}", "x".repeat(21))).collect();
            json!({ "groups": groups }) // 2048 × 32 bytes
        }
        Lie::ClaimsWithControlBytes => json!({
            "email": "alice@example.test\r\nX-Forwarded-Groups: admin",
            "preferred_username": "al\u{0}ice\nX-Evil: 1",
            "name": "Zoë \u{7f}\u{1}",
            "groups": ["staff,admin", "new\r\nline", "nul\u{0}", "größe", "100%"],
        }),
        Lie::GroupsAsString => json!({ "groups": "staff" }),
        _ => json!({}),
    };
    merged(claims, &patch)
}

/// What userinfo says.
#[must_use]
pub fn userinfo(settings: &Settings, lie: &Lie, grant: &Grant) -> Value {
    let claims = match settings.claims_in {
        ClaimsIn::Both | ClaimsIn::Userinfo => user_claims(&grant.claims, lie),
        ClaimsIn::IdToken => json!({ "sub": grant.claims["sub"] }),
    };
    match lie {
        Lie::UserinfoOtherSub => merged(&claims, &json!({ "sub": "mallory" })),
        Lie::UserinfoNoSub => merged(&claims, &json!({ "sub": null })),
        _ => claims,
    }
}
