//! The endpoints of the hostile provider. What an honest provider would refuse is refused and remembered as a complaint, so that a test
//! of an ordinary login also says whether the gateway keeps the rules.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use url::Url;

use super::body::{TestBody, empty};
use super::hostile_answer::{blown_up, dripping, endless, escape, json_answer, page, post_back, redirect_back};
use super::hostile_lie::{Endpoint, Lie};
use super::hostile_state::{ClientAuth, Grant, Inner, Params, State, merged};
use super::hostile_token::{id_token, userinfo};
use super::http::pairs;
use super::jose::{random, s256};
use super::server::Peer;

/// Answers one request.
pub async fn answer(request: Request<Incoming>, peer: Peer, state: Arc<State>) -> Response<TestBody> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let Some(endpoint) = endpoint_at(head.uri.path()) else {
        return page(StatusCode::NOT_FOUND, "<h1>Nothing here</h1>");
    };
    let query = pairs(head.uri.query().unwrap_or_default().as_bytes());
    let form = pairs(&body);
    let lie = {
        let mut inner = state.lock();
        *inner.counts.entry(endpoint).or_default() += 1;
        inner.secret("code_verifier", form.get("code_verifier").map(String::as_str).unwrap_or_default());
        inner.lie.clone()
    };
    let concerned = lie.endpoint() == Some(endpoint);
    match &lie {
        Lie::Status(_, status) if concerned => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return json_answer(status, &json!({ "error": "server_error", "error_description": "<b>failed</b> as told" }));
        }
        Lie::NotJson(_) if concerned => return page(StatusCode::OK, "<h1>Welcome to the hotel's network</h1>"),
        Lie::EndlessAnswer(_) if concerned => return endless(),
        Lie::Closes(_) if concerned => {
            peer.close_now();
            return std::future::pending().await;
        }
        Lie::SlowAnswer(_, time) if concerned => tokio::time::sleep(*time).await,
        _ => {}
    }
    let response = match endpoint {
        Endpoint::Discovery => discovery(&state),
        Endpoint::Jwks => json_answer(StatusCode::OK, &state.lock().jwks()),
        Endpoint::Authorization => authorization(&state, if head.method == Method::POST { form } else { query }),
        Endpoint::Token => token(&state, &head.headers, form),
        Endpoint::Userinfo => userinfo_answer(&state, &head.headers, head.uri.query()),
        Endpoint::EndSession => end_session(&state, if head.method == Method::POST { form } else { query }),
        Endpoint::Elsewhere => json_answer(StatusCode::OK, &json!({})),
    };
    match lie {
        Lie::HugeAnswer(_) if concerned => blown_up(response).await,
        Lie::DrippingAnswer(_) if concerned => dripping(response).await,
        _ => response,
    }
}

fn endpoint_at(path: &str) -> Option<Endpoint> {
    Some(match path {
        "/.well-known/openid-configuration" => Endpoint::Discovery,
        "/jwks" => Endpoint::Jwks,
        "/authorize" => Endpoint::Authorization,
        "/token" => Endpoint::Token,
        "/userinfo" => Endpoint::Userinfo,
        "/end_session" => Endpoint::EndSession,
        "/elsewhere" => Endpoint::Elsewhere,
        _ => return None,
    })
}

fn discovery(state: &State) -> Response<TestBody> {
    let inner = state.lock();
    let issuer = &inner.issuer;
    let methods: Vec<&str> = state
        .settings
        .client_auth
        .iter()
        .map(|method| match method {
            ClientAuth::Basic => "client_secret_basic",
            ClientAuth::Post => "client_secret_post",
            ClientAuth::None => "none",
        })
        .collect();
    let document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/jwks"),
        "end_session_endpoint": format!("{issuer}/end_session"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "scopes_supported": ["openid", "profile", "email", "groups", "offline_access"],
        "id_token_signing_alg_values_supported": ["RS256", "PS256", "ES256", "EdDSA"],
        "token_endpoint_auth_methods_supported": methods,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": state.settings.response_iss,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
    });
    let lie = match &inner.lie {
        Lie::DiscoveryIssuerMismatch => json!({ "issuer": "https://another-issuer.test" }),
        Lie::PromisesS256Absent => json!({ "code_challenge_methods_supported": null }),
        Lie::PromisesPlainOnly => json!({ "code_challenge_methods_supported": ["plain"] }),
        Lie::ResponseIssMissingThoughPromised => json!({ "authorization_response_iss_parameter_supported": true }),
        _ => json!({}),
    };
    json_answer(StatusCode::OK, &merged(&merged(&document, &inner.discovery_patch), &lie))
}

fn authorization(state: &State, params: Params) -> Response<TestBody> {
    let now = state.now();
    let mut inner = state.lock();
    inner.authorizations.push(params.clone());
    let get = |name: &str| params.get(name).cloned().unwrap_or_default();
    for (name, value) in [("state", get("state")), ("nonce", get("nonce"))] {
        inner.secret(name, &value);
    }
    let problems = authorization_problems(state, &params);
    if !problems.is_empty() {
        let text = problems.join("; ");
        problems.into_iter().for_each(|problem| inner.complain(problem));
        return page(StatusCode::BAD_REQUEST, &format!("<h1>Bad authorization request</h1><p>{}</p>", escape(&text)));
    }
    let code = random();
    inner.secret("code", &code);
    let grant = Grant {
        redirect_uri: get("redirect_uri"),
        nonce: params.get("nonce").cloned(),
        code_challenge: get("code_challenge"),
        scope: get("scope"),
        claims: inner.claims.clone(),
        sid: random(),
        auth_time: now,
        acr: params.get("acr_values").and_then(|values| values.split(' ').next()).map(str::to_owned),
    };
    inner.last_sid = Some(grant.sid.clone());
    inner.codes.insert(code.clone(), grant);
    let answer = authorization_response(state, &inner, &code, params.get("state"));
    drop(inner);
    let redirect_uri = get("redirect_uri");
    if get("response_mode") == "form_post" { post_back(&redirect_uri, &answer) } else { redirect_back(&redirect_uri, &answer) }
}

fn authorization_problems(state: &State, params: &Params) -> Vec<String> {
    let settings = &state.settings;
    let get = |name: &str| params.get(name).map(String::as_str).unwrap_or_default();
    let mut problems = Vec::new();
    let mut check = |good: bool, problem: &str| {
        if !good {
            problems.push(format!("authorization request: {problem}"));
        }
    };
    let uri = get("redirect_uri");
    check(get("client_id") == settings.client_id, "client_id is not the registered one");
    check(get("response_type") == "code", "response_type is not code");
    check(get("scope").split(' ').any(|scope| scope == "openid"), "scope lacks openid");
    check(Url::parse(uri).is_ok() && !uri.contains('#'), "redirect_uri is no absolute URL without fragment");
    check(settings.redirect_uris.is_empty() || settings.redirect_uris.iter().any(|known| known == uri), "redirect_uri is not registered");
    check(!get("state").is_empty(), "no state");
    check(!get("nonce").is_empty(), "no nonce");
    check(get("code_challenge_method") == "S256", "code_challenge_method is not S256");
    check(get("code_challenge").len() == 43, "code_challenge is no SHA-256");
    check(["", "query", "form_post"].contains(&get("response_mode")), "unknown response_mode");
    check(!params.contains_key("client_secret"), "the client_secret in the browser");
    problems
}

/// The parameters sent back to the redirect URI, in order, doubled ones included.
fn authorization_response(state: &State, inner: &Inner, code: &str, asked_state: Option<&String>) -> Vec<(&'static str, String)> {
    let mut answer = vec![("code", code.to_owned())];
    if let Lie::ErrorResponse(error) = inner.lie {
        let description = "<script>alert(1)</script><a href=\"https://evil.test\">click</a> \"quoted\" & more";
        answer = vec![("error", error.to_owned()), ("error_description", description.to_owned())];
    }
    answer.extend(asked_state.map(|state| ("state", state.clone())));
    if state.settings.response_iss {
        answer.push(("iss", inner.issuer.clone()));
    }
    match inner.lie {
        Lie::ResponseIssWrong => {
            answer.retain(|(name, _)| *name != "iss");
            answer.push(("iss", "https://another-issuer.test".to_owned()));
        }
        Lie::ResponseIssMissingThoughPromised => answer.retain(|(name, _)| *name != "iss"),
        Lie::ResponseIssTwice => {
            answer.retain(|(name, _)| *name != "iss");
            answer.extend([("iss", inner.issuer.clone()), ("iss", inner.issuer.clone())]);
        }
        Lie::StateMissing => answer.retain(|(name, _)| *name != "state"),
        Lie::StateOther => {
            answer.retain(|(name, _)| *name != "state");
            answer.push(("state", random()));
        }
        Lie::StateTwice => answer.extend(asked_state.map(|state| ("state", state.clone()))),
        Lie::CodeTwice => answer.push(("code", code.to_owned())),
        _ => {}
    }
    answer
}

fn token(state: &State, headers: &HeaderMap, form: Params) -> Response<TestBody> {
    let get = |name: &str| form.get(name).cloned().unwrap_or_default();
    let refreshing = get("grant_type") == "refresh_token";
    let grant = {
        let mut inner = state.lock();
        inner.token_requests.push(form.clone());
        if let Err(problem) = check_client(state, &mut inner, headers, &form) {
            inner.complain(format!("token request: {problem}"));
            let mut response = json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_client", "error_description": problem }));
            response.headers_mut().insert(WWW_AUTHENTICATE, "Basic realm=\"provider\"".parse().expect("a header value"));
            return response;
        }
        if inner.lie == Lie::RedirectFromTokenEndpoint {
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            let elsewhere = format!("{}/elsewhere", inner.issuer);
            response.headers_mut().insert(LOCATION, elsewhere.parse().expect("a URL is a header value"));
            return response;
        }
        let found = match get("grant_type").as_str() {
            "authorization_code" => redeem(&mut inner, &form),
            "refresh_token" => refresh(state, &mut inner, &get("refresh_token")),
            other => Err(format!("unknown grant_type {other:?}")),
        };
        match found {
            Ok(grant) => grant,
            Err(problem) => {
                inner.complain(format!("token request: {problem}"));
                return json_answer(StatusCode::BAD_REQUEST, &json!({ "error": "invalid_grant", "error_description": problem }));
            }
        }
    };
    let refused = match state.lock().lie {
        Lie::CodeRefused => !refreshing,
        Lie::RefreshRefused => refreshing,
        _ => false,
    };
    if refused {
        return json_answer(StatusCode::BAD_REQUEST, &json!({ "error": "invalid_grant", "error_description": "<i>refused</i> as told" }));
    }
    token_response(state, &grant, &form, refreshing)
}

fn token_response(state: &State, grant: &Grant, form: &Params, refreshing: bool) -> Response<TestBody> {
    let access_token = random();
    let id_token = id_token(state, grant, &access_token, refreshing);
    let mut inner = state.lock();
    inner.secret("access_token", &access_token);
    inner.access_tokens.insert(access_token.clone(), grant.clone());
    let mut answer = json!({
        "access_token": access_token,
        "token_type": if inner.lie == Lie::TokenTypeOther { "mac" } else { "Bearer" },
        "expires_in": state.settings.lifetime,
        "scope": grant.scope,
        "id_token": id_token,
    });
    if state.settings.refresh && (!refreshing || state.settings.rotate_refresh) {
        let refresh_token = random();
        inner.secret("refresh_token", &refresh_token);
        if let Some(used) = form.get("refresh_token") {
            inner.refresh_tokens.remove(used);
        }
        inner.refresh_tokens.insert(refresh_token.clone(), grant.clone());
        answer["refresh_token"] = json!(refresh_token);
    }
    match inner.lie {
        Lie::NoIdToken => answer = merged(&answer, &json!({ "id_token": null })),
        Lie::NoAccessToken => answer = merged(&answer, &json!({ "access_token": null })),
        _ => {}
    }
    json_answer(StatusCode::OK, &answer)
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

fn refresh(state: &State, inner: &mut Inner, refresh_token: &str) -> Result<Grant, String> {
    let found = inner.refresh_tokens.get(refresh_token).cloned();
    found.filter(|_| state.settings.refresh).ok_or_else(|| "this refresh_token is unknown or was used before".to_owned())
}

fn check_client(state: &State, inner: &mut Inner, headers: &HeaderMap, form: &Params) -> Result<(), String> {
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

fn userinfo_answer(state: &State, headers: &HeaderMap, query: Option<&str>) -> Response<TestBody> {
    let mut inner = state.lock();
    if query.is_some_and(|query| query.contains("access_token")) {
        inner.complain("userinfo request: access token in the query");
    }
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    match token.and_then(|token| inner.access_tokens.get(token)) {
        Some(grant) => json_answer(StatusCode::OK, &userinfo(&state.settings, &inner.lie, grant)),
        None => {
            inner.complain("userinfo request: unknown access token");
            json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_token" }))
        }
    }
}

fn end_session(state: &State, params: Params) -> Response<TestBody> {
    let mut inner = state.lock();
    inner.logouts.push(params.clone());
    let Some(back) = params.get("post_logout_redirect_uri") else {
        return page(StatusCode::OK, "<h1>You are signed out</h1>");
    };
    let answer = match (&inner.lie, params.get("state")) {
        (Lie::LogoutStateMissing, _) | (_, None) => vec![],
        (Lie::LogoutStateOther, _) => vec![("state", random())],
        (_, Some(state)) => vec![("state", state.clone())],
    };
    redirect_back(back, &answer)
}
