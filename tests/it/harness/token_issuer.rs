//! An issuer of tokens for programs that answers what a test tells it: its document, its keys, and questions about opaque tokens (RFC 7662). It
//! remembers what it was asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::body::{TestBody, full};
use super::http::pairs;
use super::server::{Listen, Server};

/// What comes back for a path.
#[derive(Clone, Debug)]
pub struct Canned {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    pub after: Duration,
    /// Where the answer redirects to.
    pub location: Option<String>,
}

impl Canned {
    /// 200 and JSON, at once.
    #[must_use]
    pub fn json(body: &Value) -> Self {
        Self { status: 200, content_type: "application/json", body: body.to_string().into_bytes(), after: Duration::ZERO, location: None }
    }
}

/// A question as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Path of the request.
    pub path: String,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// The form.
    pub form: HashMap<String, String>,
}

/// The issuer; it answers until the value is dropped.
pub struct CannedIssuer {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Canned>,
    asked: Vec<Asked>,
    /// Asked for with a bearer only.
    guarded: Option<String>,
}

impl CannedIssuer {
    /// Answers 404 to everything until it is told otherwise.
    #[must_use]
    pub fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let answering = Arc::clone(&state);
        let server = Server::start(Listen::Tcp, Arc::new(move |request, _| Box::pin(answer(request, Arc::clone(&answering)))));
        Self { server, state }
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Gives this for a path from now on.
    pub fn gives(&self, path: &str, answer: Canned) {
        self.lock().answers.insert(path.to_owned(), answer);
    }

    /// Answers about tokens from now on with this, at `/introspect`.
    pub fn says(&self, answer: &Value) {
        self.gives("/introspect", Canned::json(answer));
    }

    /// Its document at `path`, with keys at `/jwks` and answers at `/introspect`.
    pub fn describes_itself(&self, path: &str) {
        let url = self.url();
        let document = json!({ "issuer": url, "jwks_uri": format!("{url}/jwks"), "introspection_endpoint": format!("{url}/introspect") });
        self.gives(path, Canned::json(&document));
    }

    /// Tells whoever GETs anything without this bearer nothing (401).
    pub fn guard(&self, bearer: &str) {
        self.lock().guarded = Some(format!("Bearer {bearer}"));
    }

    /// What it was asked so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// How often a path was asked for.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        self.lock().asked.iter().filter(|asked| asked.path == path).count()
    }

    /// Forgets what it was asked.
    pub fn reset(&self) {
        self.lock().asked.clear();
    }

    /// Nobody listens any more.
    pub async fn stop(&self) {
        self.server.stop().await;
    }

    /// Listens again at the same address.
    pub fn start_again(&self) {
        self.server.start_again();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Response<TestBody> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let canned = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let path = head.uri.path().to_owned();
        let open = head.method != Method::GET || state.guarded.is_none() || state.guarded == authorization;
        state.asked.push(Asked { path: path.clone(), authorization, form: pairs(&body) });
        let missing = |status| Canned { status, ..Canned::json(&json!({ "error": "as told" })) };
        if open { state.answers.get(&path).cloned().unwrap_or_else(|| missing(404)) } else { missing(401) }
    };
    tokio::time::sleep(canned.after).await;
    let mut response = Response::new(full(canned.body));
    *response.status_mut() = StatusCode::from_u16(canned.status).expect("a status");
    response.headers_mut().insert(CONTENT_TYPE, canned.content_type.parse().expect("a media type"));
    if let Some(location) = canned.location {
        response.headers_mut().insert(LOCATION, location.parse().expect("an address"));
    }
    response
}
