//! A collector of traces: takes what is posted to it, and has it read by the types that OpenTelemetry publishes for Python
//! (`opentelemetry-proto`, with Google's own protocol buffers), so that nobody's spans are read by whoever wrote them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rustls::ServerConfig;
use serde_json::Value;

use super::body::empty;
use super::mutual_tls::MutualTls;
use super::server::{Listen, Server};
use super::wait::eventually;

/// A running collector.
pub struct Collector {
    /// Where it is; it can go away and come back.
    pub server: Server,
    state: Arc<Mutex<State>>,
    scheme: &'static str,
}

#[derive(Default)]
struct State {
    posts: Vec<(String, HeaderMap, Vec<u8>)>,
    status: Option<StatusCode>,
}

impl Collector {
    /// On plain http.
    #[must_use]
    pub fn start() -> Self {
        Self::on(Listen::Tcp, "http")
    }

    /// With TLS.
    #[must_use]
    pub fn with_tls(config: Arc<ServerConfig>) -> Self {
        Self::on(Listen::Tls(config), "https")
    }

    /// As the peer of [`MutualTls`].
    #[must_use]
    pub fn with_mutual_tls(both: &MutualTls) -> Self {
        Self::on(both.listen(), "https")
    }

    fn on(listen: Listen, scheme: &'static str) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let kept = Arc::clone(&state);
        let server = Server::start(
            listen,
            Arc::new(move |request: Request<Incoming>, _| {
                let state = Arc::clone(&kept);
                Box::pin(async move {
                    let (head, body) = request.into_parts();
                    let bytes = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
                    let mut state = state.lock().unwrap();
                    let status = state.status.unwrap_or(StatusCode::OK);
                    if status.is_success() {
                        state.posts.push((format!("{} {}", head.method, head.uri.path()), head.headers, bytes));
                    }
                    Response::builder().status(status).body(empty()).unwrap()
                })
            }),
        );
        Self { server, state, scheme }
    }

    /// For `tracing.endpoint`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://localhost:{}/v1/traces", self.scheme, self.server.address().port())
    }

    /// Answers with this from now on, and takes nothing unless it is a success.
    pub fn answer(&self, status: StatusCode) {
        self.state.lock().unwrap().status = Some(status);
    }

    /// Method, path and headers of what was taken.
    #[must_use]
    pub fn heads(&self) -> Vec<(String, HeaderMap)> {
        self.state.lock().unwrap().posts.iter().map(|(line, headers, _)| (line.clone(), headers.clone())).collect()
    }

    /// All bytes that were taken.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.state.lock().unwrap().posts.iter().flat_map(|(_, _, bytes)| bytes.clone()).collect()
    }

    /// Whether these bytes are anywhere in what was taken.
    #[must_use]
    pub fn holds(&self, text: &str) -> bool {
        let bytes = self.bytes();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// All spans that were taken. One message after the other is one message: their lists are joined.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let bytes = self.bytes();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/collector.py");
        let mut reader = Command::new("python-with-otlp")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python-with-otlp: {error}; tests/run installs it"));
        reader.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = reader.wait_with_output().unwrap();
        assert!(output.status.success(), "what was sent is no ExportTraceServiceRequest");
        let spans: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        spans.into_iter().map(Span).collect()
    }

    /// Waits until this text is in what was taken, and gives all spans then.
    pub async fn spans_with(&self, text: &str) -> Vec<Span> {
        eventually(&format!("a span with {text:?}"), || self.holds(text).then_some(())).await;
        self.spans()
    }
}

/// One span, as the script tells it.
#[derive(Clone, Debug)]
pub struct Span(pub Value);

impl Span {
    /// A member: `trace`, `id`, `parent`, `name`.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {}", self.0))
    }

    /// A member: `kind`, `status`, `flags`, `start`, `end`.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("{name} is no number in {}", self.0))
    }

    /// An attribute as text; empty where it is not there.
    #[must_use]
    pub fn attribute(&self, name: &str) -> String {
        match &self.0["attributes"][name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Whether it is the span of a request that was answered.
    #[must_use]
    pub fn is_server(&self) -> bool {
        self.number("kind") == 2
    }
}
