//! The endpoints of the hostile provider; those about tokens are in `hostile_grants`. What an honest provider would refuse is refused and remembered as a complaint, so that a test
//! of an ordinary login also says whether the gateway keeps the rules.

use std::sync::Arc;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use url::Url;

use super::body::TestBody;
use super::hostile_answer::{blown_up, cut_off, dripping, endless, escape, json_answer, page, post_back, redirect_back};
use super::hostile_grants::{RefreshUnderWay, check_client, elsewhere, invalid_client, revocation, token};
use super::hostile_lie::{Endpoint, Lie};
use super::hostile_state::{ClientAuth, Grant, Inner, Params, State, merged};
use super::hostile_token::userinfo;
use super::http::pairs;
use super::jose::random;
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
    let refreshing = endpoint == Endpoint::Token && form.get("grant_type").is_some_and(|kind| kind == "refresh_token");
    let under_way = refreshing.then(|| RefreshUnderWay::begin(&state, form.get("refresh_token")));
    let lie = {
        let mut inner = state.lock();
        *inner.counts.entry(endpoint).or_default() += 1;
        if refreshing {
            *inner.counts.entry(Endpoint::Refresh).or_default() += 1;
        }
        inner.secret("dpop_proof", head.headers.get("dpop").and_then(|proof| proof.to_str().ok()).unwrap_or_default());
        inner.secret("code_verifier", form.get("code_verifier").map(String::as_str).unwrap_or_default());
        inner.lie.clone()
    };
    let concerned = lie.endpoint() == Some(endpoint) || refreshing && lie.endpoint() == Some(Endpoint::Refresh);
    match &lie {
        Lie::Status(_, status) if concerned => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return json_answer(status, &json!({ "error": "server_error", "error_description": "<b>failed</b> as told" }));
        }
        Lie::NotJson(_) if concerned => return page(StatusCode::OK, "<h1>Welcome to the hotel's network</h1>"),
        Lie::EndlessAnswer(_) if concerned => return endless(),
        Lie::Closes(_) if concerned => {
            drop(under_way); // before whoever asked can see it and ask again
            peer.close_now();
            return std::future::pending().await;
        }
        Lie::Silent(_) if concerned => return std::future::pending().await,
        Lie::SlowAnswer(_, time) if concerned => tokio::time::sleep(*time).await,
        _ => {}
    }
    let response = match endpoint {
        Endpoint::Discovery => discovery(&state),
        Endpoint::Jwks => json_answer(StatusCode::OK, &state.lock().jwks()),
        Endpoint::Authorization => authorization(&state, if head.method == Method::POST { form } else { query }),
        Endpoint::Par => pushed(&state, &head.headers, form),
        Endpoint::Token | Endpoint::Refresh => token(&state, &head.headers, form),
        Endpoint::Userinfo => userinfo_answer(&state, &head.headers, head.uri.query()),
        Endpoint::EndSession => end_session(&state, if head.method == Method::POST { form } else { query }),
        Endpoint::Revocation => revocation(&state, &head.headers, form),
        Endpoint::Elsewhere => json_answer(StatusCode::OK, &json!({})),
    };
    match lie {
        Lie::HugeAnswer(_) if concerned => blown_up(response).await,
        Lie::DrippingAnswer(_) if concerned => dripping(response).await,
        Lie::HalfAnswer(_) if concerned => cut_off(response, peer).await,
        _ => response,
    }
}

fn endpoint_at(path: &str) -> Option<Endpoint> {
    Some(match path {
        "/.well-known/openid-configuration" => Endpoint::Discovery,
        "/jwks" => Endpoint::Jwks,
        "/authorize" => Endpoint::Authorization,
        "/par" => Endpoint::Par,
        "/token" => Endpoint::Token,
        "/userinfo" => Endpoint::Userinfo,
        "/end_session" => Endpoint::EndSession,
        "/revoke" => Endpoint::Revocation,
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
            ClientAuth::PrivateKeyJwt => "private_key_jwt",
            ClientAuth::None => "none",
        })
        .collect();
    let document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "pushed_authorization_request_endpoint": format!("{issuer}/par"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/jwks"),
        "end_session_endpoint": format!("{issuer}/end_session"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "scopes_supported": ["openid", "profile", "email", "groups", "offline_access"],
        "id_token_signing_alg_values_supported": ["RS256", "PS256", "ES256", "EdDSA"],
        "token_endpoint_auth_methods_supported": methods,
        "code_challenge_methods_supported": ["S256"],
        "acr_values_supported": ["pwd", "mfa"],
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
    let params = match params.get("request_uri").map(|uri| inner.pushed.remove(uri)) {
        None => params,
        Some(Some(pushed)) if params.len() == 2 && params.get("client_id") == pushed.get("client_id") => pushed,
        Some(found) => {
            let what = if found.is_some() { "more than client_id and request_uri" } else { "a request_uri that is unknown or was used" };
            inner.complain(format!("authorization request: {what}"));
            return page(StatusCode::BAD_REQUEST, "<h1>Bad authorization request</h1>");
        }
    };
    let get = |name: &str| params.get(name).cloned().unwrap_or_default();
    for (name, value) in [("state", get("state")), ("nonce", get("nonce"))] {
        inner.secret(name, &value);
    }
    let mut problems = authorization_problems(state, &params);
    if params.contains_key("client_secret") || params.contains_key("client_assertion") {
        problems.push("authorization request: our proof in the browser".to_owned());
    }
    if !problems.is_empty() {
        let text = problems.join("; ");
        problems.into_iter().for_each(|problem| inner.complain(problem));
        return page(StatusCode::BAD_REQUEST, &format!("<h1>Bad authorization request</h1><p>{}</p>", escape(&text)));
    }
    let code = random();
    inner.secret("code", &code);
    let (auth_time, acr) = login(state, &mut inner, &params, now);
    inner.grant_count += 1;
    let grant = Grant {
        number: inner.grant_count,
        redirect_uri: get("redirect_uri"),
        nonce: params.get("nonce").cloned(),
        code_challenge: get("code_challenge"),
        scope: get("scope"),
        claims: inner.claims.clone(),
        sid: random(),
        auth_time,
        acr,
    };
    inner.last_sid = Some(grant.sid.clone());
    inner.codes.insert(code.clone(), grant);
    let answer = authorization_response(state, &inner, &code, params.get("state"));
    drop(inner);
    let redirect_uri = get("redirect_uri");
    if get("response_mode") == "form_post" { post_back(&redirect_uri, &answer) } else { redirect_back(&redirect_uri, &answer) }
}

/// Takes an authorization request before the browser comes (RFC 9126 §2).
fn pushed(state: &State, headers: &HeaderMap, form: Params) -> Response<TestBody> {
    let mut inner = state.lock();
    if let Err(problem) = check_client(state, &mut inner, headers, &form) {
        inner.complain(format!("pushed authorization request: {problem}"));
        return invalid_client(&problem);
    }
    let problems = authorization_problems(state, &form);
    if !problems.is_empty() || form.contains_key("request_uri") {
        problems.into_iter().for_each(|problem| inner.complain(problem));
        return json_answer(StatusCode::BAD_REQUEST, &json!({ "error": "invalid_request" }));
    }
    let request_uri = format!("urn:ietf:params:oauth:request_uri:{}", random());
    inner.secret("request_uri", &request_uri);
    for (name, value) in [("state", form.get("state")), ("nonce", form.get("nonce"))] {
        inner.secret(name, value.map(String::as_str).unwrap_or_default());
    }
    let proofs = ["client_secret", "client_assertion", "client_assertion_type"];
    inner.pushed.insert(request_uri.clone(), form.into_iter().filter(|(name, _)| !proofs.contains(&name.as_str())).collect());
    let answer = match inner.lie {
        Lie::ParWithoutRequestUri => json!({ "expires_in": 60 }),
        _ => json!({ "request_uri": request_uri, "expires_in": 60 }),
    };
    let status = match inner.lie {
        Lie::RedirectFromPar => return elsewhere(&inner),
        Lie::ParNotCreated => StatusCode::OK,
        _ => StatusCode::CREATED,
    };
    json_answer(status, &answer)
}

/// When the user logged in and how: now, as asked; or as remembered, where the request has nothing against it.
fn login(state: &State, inner: &mut Inner, params: &Params, now: u64) -> (u64, Option<String>) {
    let asked: Vec<&str> = params.get("acr_values").map(|values| values.split(' ').collect()).unwrap_or_default();
    let max_age = params.get("max_age").and_then(|age| age.parse::<u64>().ok());
    let wants_login = params.get("prompt").is_some_and(|prompt| prompt.split(' ').any(|word| word == "login"));
    let remembered = inner.login.clone().filter(|(auth_time, acr)| {
        let young = max_age.is_none_or(|age| auth_time + age >= now && age > 0);
        let worth = asked.is_empty() || acr.as_deref().is_some_and(|acr| asked.contains(&acr));
        state.settings.remembers_login && young && worth && !wants_login
    });
    let login = remembered.unwrap_or_else(|| (now, asked.first().map(|acr| (*acr).to_owned())));
    inner.login = Some(login.clone());
    login
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

fn userinfo_answer(state: &State, headers: &HeaderMap, query: Option<&str>) -> Response<TestBody> {
    let now = state.now();
    let mut inner = state.lock();
    if query.is_some_and(|query| query.contains("access_token")) {
        inner.complain("userinfo request: access token in the query");
    }
    if inner.lie == Lie::UserinfoNewNonces {
        let mut response = json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": "use_dpop_nonce" }));
        response.headers_mut().insert(WWW_AUTHENTICATE, "DPoP error=\"use_dpop_nonce\"".parse().expect("a header value"));
        response.headers_mut().insert("dpop-nonce", random().parse().expect("a header value"));
        return response;
    }
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
    let token = token.filter(|(scheme, _)| *scheme == if headers.contains_key("dpop") { "DPoP" } else { "Bearer" }).map(|(_, token)| token);
    let found = token.and_then(|token| inner.access_tokens.get(token)).cloned();
    if let Some(token) = found.as_ref().filter(|token| inner.is_good(token, now)) {
        let grant = Grant { claims: inner.claims_of(&token.grant), ..token.grant.clone() };
        return json_answer(StatusCode::OK, &userinfo(&state.settings, &inner.lie, &grant));
    }
    // One that is over, or whose grant was ended, is no mistake of who shows it.
    if found.is_none() {
        inner.complain("userinfo request: unknown access token");
    }
    let mut response = json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_token" }));
    response.headers_mut().insert(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"".parse().expect("a header value"));
    response
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
