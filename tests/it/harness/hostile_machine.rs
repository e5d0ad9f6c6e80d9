//! The grants of the hostile provider in which no person has a part: client credentials (RFC 6749 §4.4) and token exchange (RFC 8693). Its tokens
//! are opaque; whether one is good is told by [`HostileProvider::token_check`].

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::TestBody;
use super::hostile::HostileProvider;
use super::hostile_answer::json_answer;
use super::hostile_lie::Lie;
use super::hostile_state::{Inner, Params, merged};
use super::jose::random;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What an answer to these grants is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MachineLie {
    /// Honest.
    #[default]
    None,
    /// 400 with this `error`.
    Refused(&'static str),
    /// The right answer, declared as a page.
    DeclaredAsPage,
    /// No `issued_token_type`.
    NoIssuedTokenType,
    /// A token that fits into no header.
    TokenOfTwoLines,
}

/// What it knows of these grants.
#[derive(Default)]
pub struct Machine {
    lie: MachineLie,
    issued: HashMap<String, Issued>,
    requests: Vec<Params>,
}

struct Issued {
    expires_at: u64,
    revoked: bool,
    /// Whose token it was exchanged for.
    subject: Option<String>,
}

/// Answers a token request of these grants; `None`: it is of another.
pub fn answer(inner: &mut Inner, form: &Params, now: u64) -> Option<Response<TestBody>> {
    let get = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let exchange = match get("grant_type") {
        "client_credentials" => false,
        EXCHANGE => true,
        _ => return None,
    };
    inner.machine.requests.push(form.clone());
    let refused =
        |error: &str| Some(json_answer(StatusCode::BAD_REQUEST, &json!({ "error": error, "error_description": "<i>as told</i>" })));
    if let MachineLie::Refused(error) = inner.machine.lie {
        return refused(error);
    }
    let mut subject = None;
    if exchange {
        let token = get("subject_token").to_owned();
        inner.secret("access_token", &token);
        if get("subject_token_type") != ACCESS_TOKEN || get("requested_token_type") != ACCESS_TOKEN {
            inner.complain("token exchange: another type of token than an access token");
            return refused("invalid_request");
        }
        if get("audience").is_empty() && get("resource").is_empty() {
            inner.complain("token exchange: neither audience nor resource");
            return refused("invalid_target");
        }
        match subject_of(inner, &token, now) {
            Some(sub) => subject = Some(sub),
            None => return refused("invalid_request"),
        }
    }
    let token = if inner.machine.lie == MachineLie::TokenOfTwoLines { format!("{}\r\nx-evil: 1", random()) } else { random() };
    inner.secret("access_token", &token);
    let lives = inner.expires_in;
    inner.machine.issued.insert(token.clone(), Issued { expires_at: now + lives, revoked: false, subject });
    let said = json!({
        "access_token": if inner.lie == Lie::NoAccessToken { Value::Null } else { json!(token) },
        "token_type": if inner.lie == Lie::TokenTypeOther { "mac" } else { "Bearer" },
        "expires_in": inner.says_expires_in.then_some(lives),
        "scope": form.get("scope"),
        "issued_token_type": (exchange && inner.machine.lie != MachineLie::NoIssuedTokenType).then_some(ACCESS_TOKEN),
    });
    // What is null is not said.
    let mut response = json_answer(StatusCode::OK, &merged(&json!({}), &said));
    if inner.machine.lie == MachineLie::DeclaredAsPage {
        response.headers_mut().insert(CONTENT_TYPE, "text/html".parse().expect("a header value"));
    }
    Some(response)
}

/// Whose token it is, if it is one of ours and good: an opaque one that was given out, or a JWT.
fn subject_of(inner: &Inner, token: &str, now: u64) -> Option<String> {
    if let Some(found) = inner.access_tokens.get(token) {
        return inner.is_good(found, now).then(|| found.grant.claims["sub"].as_str().unwrap_or_default().to_owned());
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let good = claims["iss"] == json!(inner.issuer) && claims["exp"].as_u64().is_some_and(|exp| now < exp);
    good.then(|| claims["sub"].as_str().unwrap_or_default().to_owned())
}

impl HostileProvider {
    /// Lies in answers to these grants from now on.
    pub fn set_machine(&self, lie: MachineLie) {
        self.state.lock().machine.lie = lie;
    }

    /// Parameters of the requests for these grants, in order.
    #[must_use]
    pub fn machine_requests(&self) -> Vec<Params> {
        self.state.lock().machine.requests.clone()
    }

    /// Takes back every token that these grants have given so far.
    pub fn revoke_machine_tokens(&self) {
        self.state.lock().machine.issued.values_mut().for_each(|issued| issued.revoked = true);
    }

    /// Says whether a token of these grants is good at this moment by the provider's clock: what a resource asks that believes the provider.
    #[must_use]
    pub fn token_check(&self) -> Arc<dyn Fn(&str) -> bool + Send + Sync> {
        let state = Arc::clone(&self.state);
        Arc::new(move |token| {
            let now = state.now();
            state.lock().machine.issued.get(token).is_some_and(|issued| !issued.revoked && now < issued.expires_at)
        })
    }

    /// Whose token this one was exchanged for.
    #[must_use]
    pub fn exchanged_of(&self, token: &str) -> Option<String> {
        self.state.lock().machine.issued.get(token)?.subject.clone()
    }
}
