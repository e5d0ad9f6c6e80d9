//! Grants of the hostile provider that need no browser: passwords (RFC 6749 §4.3), and tokens of others exchanged for its own (RFC 8693).

use std::collections::{HashMap, HashSet};

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::TestBody;
use super::hostile::HostileProvider;
use super::hostile_answer::json_answer;
use super::hostile_state::{Grant, Inner, Issued, Params, State, merged};
use super::hostile_token::{id_token, signed};
use super::jose::random;

/// `grant_type` of an exchange.
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Who may come in so, and what is said to them.
#[derive(Default)]
pub struct DirectGrants {
    passwords: HashMap<String, String>,
    foreign: HashSet<String>,
    exchanged: Exchanged,
    refusal: Option<&'static str>,
}

/// What an exchange brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exchanged {
    /// What a login brings.
    #[default]
    Tokens,
    /// An ID token in the place of the access token.
    IdToken,
    /// An access token alone, a JWT.
    AccessJwt,
    /// The same, by another issuer's word.
    ForeignJwt,
    /// An access token alone, opaque.
    Opaque,
}

/// A grant without a browser; `None`: the request asks for none of these.
pub fn grant(inner: &mut Inner, form: &Params, now: u64) -> Option<Result<Grant, &'static str>> {
    let get = |name: &str| form.get(name).cloned().unwrap_or_default();
    // Where no token of others is known an exchange is one between programs.
    if get("grant_type") == TOKEN_EXCHANGE && inner.direct.foreign.is_empty() && inner.direct.refusal.is_none() {
        return None;
    }
    let good = match get("grant_type").as_str() {
        "password" => inner.direct.passwords.get(&get("username").to_lowercase()).is_some_and(|right| *right == get("password")),
        TOKEN_EXCHANGE => !get("subject_token_type").is_empty() && inner.direct.foreign.contains(&get("subject_token")),
        _ => return None,
    };
    if let Some(refusal) = inner.direct.refusal {
        return Some(Err(refusal));
    }
    if !good {
        return Some(Err(if get("grant_type") == TOKEN_EXCHANGE { "invalid_request" } else { "invalid_grant" }));
    }
    inner.grant_count += 1;
    let sid = random();
    inner.last_sid = Some(sid.clone());
    Some(Ok(Grant {
        number: inner.grant_count,
        redirect_uri: String::new(),
        nonce: None,
        code_challenge: String::new(),
        scope: get("scope"),
        claims: inner.claims.clone(),
        sid,
        auth_time: now,
        acr: None,
    }))
}

/// What an exchange is answered with; `None`: as a login is.
pub fn exchanged(state: &State, grant: &Grant) -> Option<Response<TestBody>> {
    let kind = state.lock().direct.exchanged;
    let urn = |kind: &str| format!("urn:ietf:params:oauth:token-type:{kind}");
    let now = state.now();
    let (token, token_type, issued) = match kind {
        Exchanged::Tokens => return None,
        Exchanged::IdToken => {
            let token = id_token(state, grant, "", false);
            (without_at_hash(state, &token), "N_A", urn("id_token"))
        }
        Exchanged::AccessJwt | Exchanged::ForeignJwt => {
            let mut inner = state.lock();
            let iss = if kind == Exchanged::AccessJwt { inner.issuer.clone() } else { "https://another-issuer.test".to_owned() };
            let header = merged(&inner.key.header(), &json!({ "typ": "at+jwt" }));
            let claims = json!({ "iss": iss, "aud": "api", "iat": now, "exp": now + 300, "jti": random(), "sid": grant.sid, "client_id": state.settings.client_id });
            let token = signed(&state.settings, &mut inner, header, &merged(&grant.claims, &claims));
            (token, "Bearer", urn("access_token"))
        }
        Exchanged::Opaque => (random(), "Bearer", urn("access_token")),
    };
    let mut inner = state.lock();
    inner.secret("access_token", &token);
    let issued_token = Issued { grant: grant.clone(), expires_at: now + 300, used: false };
    inner.access_tokens.insert(token.clone(), issued_token);
    Some(json_answer(
        StatusCode::OK,
        &json!({ "access_token": token, "token_type": token_type, "issued_token_type": issued, "expires_in": 300 }),
    ))
}

/// There is no access token that an `at_hash` could be of.
fn without_at_hash(state: &State, token: &str) -> String {
    let payload = token.split('.').nth(1).expect("a JWS");
    let claims: Value = serde_json::from_slice(&super::jose::from_base64url(payload)).expect("claims");
    let mut inner = state.lock();
    let header = inner.key.header();
    signed(&state.settings, &mut inner, header, &merged(&claims, &json!({ "at_hash": null })))
}

impl HostileProvider {
    /// Lets the user in by this name and password too.
    pub fn set_password(&self, name: &str, password: &str) {
        self.state.lock().direct.passwords.insert(name.to_owned(), password.to_owned());
    }

    /// Exchanges this token for the user's.
    pub fn take_foreign(&self, token: &str, exchanged: Exchanged) {
        let mut inner = self.state.lock();
        inner.direct.foreign.insert(token.to_owned());
        inner.direct.exchanged = exchanged;
    }

    /// Answers every grant without a browser with this error; `None` ends it.
    pub fn refuse_direct(&self, error: Option<&'static str>) {
        self.state.lock().direct.refusal = error;
    }
}
