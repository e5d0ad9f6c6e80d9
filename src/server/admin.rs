//! The admin listener: `/livez`, `/readyz`, `/metrics`, which change nothing, and `/sessions` for whoever shows the admin token (`admin_sessions`).
//! On loopback unless the config says otherwise.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;

use super::Drain;
use super::admin_sessions::AdminSessions;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::CONTENT_TYPE as METRICS_CONTENT_TYPE;

/// What one dependency says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name: `store`, `provider corp`.
    pub name: String,
    /// What is wrong; `None`: nothing.
    pub problem: Option<String>,
    /// Whether readiness depends on it.
    pub needed: Needed,
}

/// Whether readiness depends on something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// 503 without it.
    ForReadiness,
    /// Named in the body only: one outage must not take all replicas out.
    ForInformation,
}

/// Asks all dependencies.
pub type Checks = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<Check>> + Send>> + Send + Sync>;

/// What the admin listener tells of.
#[derive(Clone)]
pub struct Admin {
    /// Whether we are ending.
    pub drain: Drain,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// How the dependencies are.
    pub checks: Checks,
    /// Brings gauges up to date before they are read.
    pub before_metrics: Arc<dyn Fn() + Send + Sync>,
    /// The list of sessions, as the config of now opens it.
    pub sessions: Arc<dyn Fn() -> Arc<AdminSessions> + Send + Sync>,
}

impl Admin {
    /// Serves until the process ends. A probe that dawdles is cut off.
    pub async fn serve(self, listener: TcpListener, tasks: Tasks) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the admin listener could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let admin = self.clone();
            tasks.background(async move {
                let service = service_fn(move |request| {
                    let admin = admin.clone();
                    async move { Ok::<_, Infallible>(admin.answer(&request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(10))
                    .serve_connection(TokioIo::new(stream), service);
                // How a probe's connection ends concerns nobody.
                let _ = tokio::time::timeout(Duration::from_secs(60), connection).await;
            });
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if let Some(answer) = (self.sessions)().answer(request).await {
            return answer;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "alive\n"),
            "/readyz" => self.ready().await,
            "/metrics" => {
                (self.before_metrics)();
                let mut answer = text(StatusCode::OK, self.metrics.encode());
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_CONTENT_TYPE));
                answer
            }
            _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz, /metrics and /sessions\n"),
        }
    }

    /// 200 or 503, and what is wrong in any case.
    async fn ready(&self) -> Response<Full<Bytes>> {
        if !self.drain.is_ready() {
            return json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"ready": false, "why": "draining"}));
        }
        let checks = (self.checks)().await;
        let ready = checks.iter().all(|check| check.problem.is_none() || check.needed == Needed::ForInformation);
        let told: serde_json::Map<String, serde_json::Value> =
            checks.into_iter().map(|check| (check.name, check.problem.unwrap_or_else(|| "ok".to_owned()).into())).collect();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json_answer(status, &json!({"ready": ready, "dependencies": told}))
    }
}

pub(super) fn json_answer(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut answer = text(status, format!("{value}\n"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
