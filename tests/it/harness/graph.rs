//! A stand-in for Facebook's Graph API, with its documented answers: `debug_token` (Graph API reference, `/debug_token`) and `me` with
//! `appsecret_proof` ("Securing Graph API requests"), and their errors ("Debugging and error handling").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::body::{TestBody, full};
use super::hostile_answer::{json_answer, page};
use super::hostile_state::{Params, merged};
use super::http::pairs;
use super::server::{Listen, Server};

/// The application that asks.
pub const APP_ID: &str = "138483919580948";
/// Its secret.
pub const APP_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What goes wrong at one of the two places, or at both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 500 with Graph's own body.
    Broken,
    /// 500 with a page.
    Page,
    /// 200 with a page.
    NotJson,
    /// 200 with JSON of another kind.
    OtherJson,
    /// An error of this code, with status 400.
    Error(u64),
    /// No answer.
    Silent,
    /// A redirect.
    Redirect,
}

/// The stand-in.
pub struct Graph {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By token: what `debug_token` says of it, and what `me` does.
    tokens: HashMap<String, (Value, Value)>,
    failing: HashMap<&'static str, Failure>,
    asked: Vec<(String, Params)>,
}

impl Graph {
    /// It knows no token yet.
    #[must_use]
    pub fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let answering = Arc::clone(&state);
        let respond = move |request: Request<Incoming>, _| {
            let state = Arc::clone(&answering);
            Box::pin(async move { answer(&request, &state).await }) as std::pin::Pin<Box<dyn Future<Output = Response<TestBody>> + Send>>
        };
        Self { server: Server::start(Listen::Tcp, Arc::new(respond)), state }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// A good token of Ann's for our application; `debug` and `me` change what is said of it, null takes away.
    pub fn give(&self, token: &str, debug: Value, me: Value) {
        let said = json!({
            "app_id": APP_ID, "type": "USER", "application": "Social Cafe", "data_access_expires_at": 4_102_444_800_u64,
            "expires_at": 4_102_444_800_u64, "is_valid": true, "scopes": ["email", "public_profile"], "user_id": "10215241773831025",
        });
        let person = json!({ "id": "10215241773831025", "name": "Ann Example", "email": "ann@example.test" });
        self.lock().tokens.insert(token.to_owned(), (merged(&said, &debug), merged(&person, &me)));
    }

    /// Fails from now on at `debug_token` or `me`; `None` ends it.
    pub fn fail(&self, edge: &'static str, failure: Option<Failure>) {
        match failure {
            Some(failure) => drop(self.lock().failing.insert(edge, failure)),
            None => drop(self.lock().failing.remove(edge)),
        }
    }

    /// What was asked, in order: the place and its parameters.
    #[must_use]
    pub fn asked(&self) -> Vec<(String, Params)> {
        self.lock().asked.clone()
    }

    /// Forgets what was asked.
    pub fn reset(&self) {
        self.lock().asked.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(request: &Request<Incoming>, state: &Mutex<State>) -> Response<TestBody> {
    let edge = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let query = pairs(request.uri().query().unwrap_or_default().as_bytes());
    let failure = {
        let mut state = lock(state);
        state.asked.push((edge.clone(), query.clone()));
        state.failing.get(edge.as_str()).copied()
    };
    match failure {
        Some(Failure::Broken) => return error(StatusCode::INTERNAL_SERVER_ERROR, 1, "An unknown error occurred"),
        Some(Failure::Page) => return page(StatusCode::INTERNAL_SERVER_ERROR, "<h1>Sorry</h1>"),
        Some(Failure::NotJson) => return page(StatusCode::OK, "<h1>Welcome to the hotel's network</h1>"),
        Some(Failure::OtherJson) => return json_answer(StatusCode::OK, &json!(["unexpected"])),
        Some(Failure::Error(code)) => return error(StatusCode::BAD_REQUEST, code, "as told"),
        Some(Failure::Silent) => return std::future::pending().await,
        Some(Failure::Redirect) => {
            let mut answer = Response::new(full(""));
            *answer.status_mut() = StatusCode::FOUND;
            answer.headers_mut().insert("location", "/elsewhere".parse().expect("a header value"));
            return answer;
        }
        None => {}
    }
    let get = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let state = lock(state);
    match edge.as_str() {
        "debug_token" if get("access_token") != format!("{APP_ID}|{APP_SECRET}") => {
            error(StatusCode::BAD_REQUEST, 190, "Invalid OAuth access token signature.")
        }
        "debug_token" => match state.tokens.get(get("input_token")) {
            Some((said, _)) => json_answer(StatusCode::OK, &json!({ "data": said })),
            None => {
                let said = json!({ "error": { "code": 190, "message": "Invalid OAuth access token." }, "is_valid": false, "scopes": [] });
                json_answer(StatusCode::OK, &json!({ "data": said }))
            }
        },
        // Anybody's token, whatever it was issued for: what makes a bare call worthless.
        "me" => match state.tokens.get(get("access_token")) {
            Some(_) if get("appsecret_proof") != proof(get("access_token")) => {
                error(StatusCode::BAD_REQUEST, 100, "Invalid appsecret_proof provided in the API argument")
            }
            Some((_, person)) => json_answer(StatusCode::OK, person),
            None => error(StatusCode::UNAUTHORIZED, 190, "Invalid OAuth access token."),
        },
        _ => error(StatusCode::NOT_FOUND, 803, "Some of the aliases you requested do not exist"),
    }
}

fn error(status: StatusCode, code: u64, message: &str) -> Response<TestBody> {
    let error = json!({ "message": message, "type": "OAuthException", "code": code, "fbtrace_id": "H2il2t5bn4e" });
    json_answer(status, &json!({ "error": error }))
}

/// `hash_hmac('sha256', $access_token, $app_secret)`.
fn proof(token: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, APP_SECRET.as_bytes()), token.as_bytes());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
