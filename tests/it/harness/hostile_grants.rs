//! The token endpoint and the revocation endpoint of the hostile provider: codes are good once, refresh tokens once where they rotate, and one
//! that comes back ends its grant.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;

use super::body::{TestBody, empty};
use super::hostile_answer::json_answer;
use super::hostile_direct;
use super::hostile_lie::Lie;
use super::hostile_machine;
use super::hostile_sayings;
use super::hostile_state::{ClientAuth, Grant, Inner, Issued, Params, State, merged};
use super::hostile_token::id_token;
use super::jose::{random, s256, verify};

/// Answers a token request.
pub fn token(state: &State, headers: &HeaderMap, form: Params) -> Response<TestBody> {
    let get = |name: &str| form.get(name).cloned().unwrap_or_default();
    let refreshing = get("grant_type") == "refresh_token";
    let now = state.now();
    let grant = {
        let mut inner = state.lock();
        inner.token_requests.push(form.clone());
        if let Err(problem) = check_client(state, &mut inner, headers, &form) {
            inner.complain(format!("token request: {problem}"));
            return invalid_client(&problem);
        }
        match inner.lie {
            Lie::RedirectFromTokenEndpoint => return elsewhere(&inner),
            Lie::RefreshRefused if refreshing => return invalid_grant("<i>refused</i> as told"),
            Lie::RefreshInvalidClient if refreshing => return invalid_client("<i>refused</i> as told"),
            _ => {}
        }
        match hostile_direct::grant(&mut inner, &form, now) {
            Some(Ok(grant)) => {
                drop(inner);
                let own = if get("grant_type") == hostile_direct::TOKEN_EXCHANGE { hostile_direct::exchanged(state, &grant) } else { None };
                return own.unwrap_or_else(|| token_response(state, &grant, false));
            }
            Some(Err(error)) => {
                return json_answer(StatusCode::BAD_REQUEST, &json!({ "error": error, "error_description": "<i>refused</i>" }));
            }
            None => {}
        }
        if let Some(answer) = hostile_machine::answer(&mut inner, &form, now) {
            return answer;
        }
        let found = match get("grant_type").as_str() {
            "authorization_code" => redeem(&mut inner, &form),
            "refresh_token" => match refresh(state, &mut inner, &get("refresh_token"), now) {
                Ok(grant) => Ok(grant),
                Err(Refusal::Ended) => return invalid_grant("the grant has ended"),
                Err(Refusal::Mistake(problem)) => Err(problem),
            },
            other => Err(format!("unknown grant_type {other:?}")),
        };
        match found {
            Ok(grant) => grant,
            Err(problem) => {
                inner.complain(format!("token request: {problem}"));
                return invalid_grant(&problem);
            }
        }
    };
    if state.lock().lie == Lie::CodeRefused && !refreshing {
        return invalid_grant("<i>refused</i> as told");
    }
    token_response(state, &grant, refreshing)
}

fn token_response(state: &State, grant: &Grant, refreshing: bool) -> Response<TestBody> {
    let access_token = hostile_sayings::access_token(&state.settings, &state.lock(), grant, state.now());
    let id_token = id_token(state, grant, &access_token, refreshing);
    let now = state.now();
    let mut inner = state.lock();
    inner.secret("access_token", &access_token);
    let issued = |lifetime: Option<u64>| Issued {
        grant: grant.clone(),
        expires_at: lifetime.map_or(u64::MAX, |seconds| now + seconds),
        used: false,
    };
    let expires_in = inner.expires_in;
    inner.access_tokens.insert(access_token.clone(), issued(Some(expires_in)));
    let mut answer = json!({
        "access_token": access_token,
        "token_type": match inner.lie {
            Lie::TokenTypeOther => "mac",
            Lie::TokenTypeShouted => "BEARER",
            Lie::TokenTypeDpop => "dpop",
            _ => "Bearer",
        },
        "expires_in": inner.says_expires_in.then_some(expires_in),
        "scope": grant.scope,
        "id_token": id_token,
    });
    if state.settings.refresh && (!refreshing || rotates(state, &inner)) {
        let refresh_token = random();
        inner.secret("refresh_token", &refresh_token);
        let lifetime = inner.refresh_expires_in;
        inner.refresh_tokens.insert(refresh_token.clone(), issued(lifetime));
        answer = merged(&answer, &json!({ "refresh_token": refresh_token, "refresh_expires_in": lifetime }));
    }
    let lie = match inner.lie {
        Lie::NoIdToken => json!({ "id_token": null }),
        Lie::NoAccessToken => json!({ "access_token": null }),
        Lie::RefreshNoIdToken if refreshing => json!({ "id_token": null }),
        Lie::RefreshNoAccessToken if refreshing => json!({ "access_token": null }),
        Lie::RefreshShorterScope if refreshing => json!({ "scope": "openid" }),
        _ => json!({}),
    };
    // What is null is not said.
    json_answer(StatusCode::OK, &merged(&json!({}), &merged(&answer, &lie)))
}

fn redeem(inner: &mut Inner, form: &Params) -> Result<Grant, String> {
    let get = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let grant = inner.codes.remove(get("code")).ok_or("this code is unknown or was used before")?;
    if grant.redirect_uri != get("redirect_uri") {
        return Err(format!("redirect_uri {:?} is not that of the authorization request, {:?}", get("redirect_uri"), grant.redirect_uri));
    }
    let verifier = get("code_verifier");
    if !(43..=128).contains(&verifier.len()) || s256(verifier) != grant.code_challenge {
        return Err("code_verifier does not fit the code_challenge".to_owned());
    }
    Ok(grant)
}

/// Whether a refresh token is good for one use.
fn rotates(state: &State, inner: &Inner) -> bool {
    state.settings.rotate_refresh && inner.lie != Lie::RefreshNotRotated
}

/// Why a refresh token is refused.
enum Refusal {
    /// The provider ended the grant, or its time is over: who asks could not know.
    Ended,
    /// Nobody who keeps the rules would have asked.
    Mistake(String),
}

fn refresh(state: &State, inner: &mut Inner, refresh_token: &str, now: u64) -> Result<Grant, Refusal> {
    let mistake = |problem: &str| Refusal::Mistake(problem.to_owned());
    let found = inner.refresh_tokens.get(refresh_token).cloned().filter(|_| state.settings.refresh);
    let found = found.ok_or_else(|| mistake("this refresh_token is unknown"))?;
    if found.used {
        inner.ended_grants.insert(found.grant.number);
        return Err(mistake("this refresh_token was used before: its grant ends"));
    }
    if !inner.is_good(&found, now) {
        return Err(Refusal::Ended);
    }
    // Under the lock in which it was looked at: of two who show it at once one comes second.
    if rotates(state, inner)
        && let Some(used) = inner.refresh_tokens.get_mut(refresh_token)
    {
        used.used = true;
    }
    Ok(Grant { claims: inner.claims_of(&found.grant), ..found.grant })
}

/// Answers a revocation request (RFC 7009 §2): a refresh token takes the whole grant with it, an unknown token is no error.
pub fn revocation(state: &State, headers: &HeaderMap, form: Params) -> Response<TestBody> {
    let mut inner = state.lock();
    if let Err(problem) = check_client(state, &mut inner, headers, &form) {
        inner.complain(format!("revocation request: {problem}"));
        return invalid_client(&problem);
    }
    let Some(token) = form.get("token").cloned() else {
        inner.complain("revocation request: no token");
        return json_answer(StatusCode::BAD_REQUEST, &json!({ "error": "invalid_request" }));
    };
    if let Some(number) = inner.refresh_tokens.get(&token).map(|issued| issued.grant.number) {
        inner.ended_grants.insert(number);
    }
    if let Some(issued) = inner.access_tokens.get_mut(&token) {
        issued.used = true;
    }
    inner.revocations.push(form);
    Response::new(empty())
}

fn invalid_grant(description: &str) -> Response<TestBody> {
    json_answer(StatusCode::BAD_REQUEST, &json!({ "error": "invalid_grant", "error_description": description }))
}

/// 307 to [`super::hostile_lie::Endpoint::Elsewhere`].
pub fn elsewhere(inner: &Inner) -> Response<TestBody> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let elsewhere = format!("{}/elsewhere", inner.issuer);
    response.headers_mut().insert(LOCATION, elsewhere.parse().expect("a URL is a header value"));
    response
}

/// 401 for a registration that did not prove itself.
pub fn invalid_client(description: &str) -> Response<TestBody> {
    let mut response = json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_client", "error_description": description }));
    response.headers_mut().insert(WWW_AUTHENTICATE, "Basic realm=\"provider\"".parse().expect("a header value"));
    response
}

/// Whether the registration proved itself, in one way that is offered.
pub fn check_client(state: &State, inner: &mut Inner, headers: &HeaderMap, form: &Params) -> Result<(), String> {
    let settings = &state.settings;
    let decode = |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let basic = headers.get(AUTHORIZATION).map(|value| {
        let decoded = value.to_str().ok().and_then(|value| value.strip_prefix("Basic ")).and_then(|value| STANDARD.decode(value).ok());
        let text = String::from_utf8(decoded.unwrap_or_default()).unwrap_or_default();
        text.split_once(':').map(|(id, secret)| (decode(id), decode(secret))).unwrap_or_default()
    });
    let post = form.get("client_secret").map(|secret| (form.get("client_id").cloned().unwrap_or_default(), secret.clone()));
    let (method, shown) = match (basic, post) {
        (Some(_), Some(_)) => return Err("two ways of client authentication at once".to_owned()),
        (basic, post) if form.contains_key("client_assertion") => {
            inner.client_auths.push(ClientAuth::PrivateKeyJwt);
            if basic.is_some() || post.is_some() {
                return Err("two ways of client authentication at once".to_owned());
            }
            return check_assertion(state, inner, form);
        }
        (Some(basic), None) => (ClientAuth::Basic, basic),
        (None, Some(post)) => (ClientAuth::Post, post),
        (None, None) => (ClientAuth::None, (form.get("client_id").cloned().unwrap_or_default(), String::new())),
    };
    inner.client_auths.push(method);
    if !settings.client_auth.contains(&method) {
        return Err(format!("client authentication {method:?} is not offered"));
    }
    let secret = if method == ClientAuth::None { "" } else { settings.client_secret.as_str() };
    if shown != (settings.client_id.clone(), secret.to_owned()) {
        return Err("wrong client_id or client_secret".to_owned());
    }
    Ok(())
}

/// RFC 7523 §3, and of its choices those of FAPI 2.0: `aud` is the issuer as one text, a minute at most.
fn check_assertion(state: &State, inner: &mut Inner, form: &Params) -> Result<(), String> {
    let settings = &state.settings;
    if !settings.client_auth.contains(&ClientAuth::PrivateKeyJwt) {
        return Err("client authentication PrivateKeyJwt is not offered".to_owned());
    }
    if form.get("client_assertion_type").map(String::as_str) != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
        return Err("client_assertion_type is another".to_owned());
    }
    let assertion = form.get("client_assertion").map(String::as_str).unwrap_or_default();
    inner.secret("client_assertion", assertion);
    let (_, claims) = verify(assertion, &settings.client_keys)?;
    for (name, wanted) in [("iss", &settings.client_id), ("sub", &settings.client_id), ("aud", &inner.issuer)] {
        if claims[name].as_str() != Some(wanted) {
            return Err(format!("{name} of the assertion is {}, not {wanted:?}", claims[name]));
        }
    }
    let now = state.now();
    let (iat, exp) = (claims["iat"].as_u64().unwrap_or(0), claims["exp"].as_u64().unwrap_or(0));
    if exp <= now || exp > now + 60 || iat > now || iat + 60 < now {
        return Err(format!("the assertion lives from {iat} to {exp}, and it is {now}"));
    }
    let jti = claims["jti"].as_str().unwrap_or_default();
    if jti.len() < 22 || !inner.assertions.insert(jti.to_owned()) {
        return Err("the assertion has no jti, or one that was used before".to_owned());
    }
    Ok(())
}

/// A refresh request from its arrival to its answer, or to the moment when whoever asked went away.
pub struct RefreshUnderWay {
    state: Arc<State>,
    refresh_token: String,
}

impl RefreshUnderWay {
    /// Counts it in.
    #[must_use]
    pub fn begin(state: &Arc<State>, refresh_token: Option<&String>) -> Self {
        let refresh_token = refresh_token.cloned().unwrap_or_default();
        let mut inner = state.lock();
        let now = inner.refreshing.entry(refresh_token.clone()).or_default();
        *now += 1;
        let now = *now;
        inner.refreshing_most = inner.refreshing_most.max(now);
        drop(inner);
        Self { state: Arc::clone(state), refresh_token }
    }
}

impl Drop for RefreshUnderWay {
    fn drop(&mut self) {
        if let Some(now) = self.state.lock().refreshing.get_mut(&self.refresh_token) {
            *now -= 1;
        }
    }
}
