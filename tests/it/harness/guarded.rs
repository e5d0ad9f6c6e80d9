//! An API behind the gateway that takes a Bearer token and believes whoever says whether it is good. It counts what it answered.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;

use super::body::{TestBody, full};
use super::server::{Listen, Server};

/// Says whether a token is good at this moment.
pub type TokenCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The API; it answers until the value is dropped. `/early` answers before it has read the body.
pub struct GuardedApi {
    seen: Arc<Seen>,
    server: Server,
}

#[derive(Default)]
struct Seen {
    served: AtomicUsize,
    refused: AtomicUsize,
    tokens: Mutex<Vec<String>>,
}

impl GuardedApi {
    /// On a free port of 127.0.0.1.
    #[must_use]
    pub fn start(check: TokenCheck) -> Self {
        let seen = Arc::<Seen>::default();
        let answering = Arc::clone(&seen);
        let server = Server::start(
            Listen::Tcp,
            Arc::new(move |request, _| {
                let (seen, check) = (Arc::clone(&answering), Arc::clone(&check));
                Box::pin(async move {
                    let (head, body) = request.into_parts();
                    let good = seen.note(&head.headers, &check);
                    if !good && head.uri.path().ends_with("/early") {
                        return unauthorized();
                    }
                    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                    if good { Response::new(full(body)) } else { unauthorized() }
                })
            }),
        );
        Self { seen, server }
    }

    /// As the gateway's config names it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Requests with a good token, and without.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.seen.served.load(Ordering::SeqCst), self.seen.refused.load(Ordering::SeqCst))
    }

    /// The tokens that were shown, one a request; empty where none was.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.seen.tokens.lock().unwrap().clone()
    }
}

impl Seen {
    fn note(&self, headers: &HeaderMap, check: &TokenCheck) -> bool {
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
        self.tokens.lock().unwrap().push(token.unwrap_or_default().to_owned());
        let good = token.is_some_and(|token| check(token));
        if good { &self.served } else { &self.refused }.fetch_add(1, Ordering::SeqCst);
        good
    }
}

fn unauthorized() -> Response<TestBody> {
    let mut response = Response::new(full("no good token"));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"".parse().expect("a header value"));
    response
}
