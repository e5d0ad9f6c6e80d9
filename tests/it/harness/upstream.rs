//! An upstream that remembers every request and answers with what it saw. What the last segments of the path ask for beyond that is in
//! `upstream_paths`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::body::{TestBody, full};
use super::certs::{CertificateAuthority, Leaf};
use super::http::Place;
use super::server::{Listen, Peer, Server};
use super::temp::TempDir;
use super::upstream_paths;
use super::wait::eventually;

/// A request as the upstream saw it.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// The method.
    pub method: String,
    /// Path and query as received (of HTTP/2: `:path`), not normalized.
    pub target: String,
    /// `:authority` of HTTP/2, or the authority of an absolute request line.
    pub authority: Option<String>,
    /// The HTTP version.
    pub version: Version,
    /// The headers in order (doubled ones stand together), names in lower case.
    pub headers: Vec<(String, HeaderValue)>,
    /// The body; empty until it was received whole.
    pub body: Bytes,
    /// The trailers.
    pub trailers: Vec<(String, HeaderValue)>,
    /// Whether body and trailers are complete.
    pub complete: bool,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl SeenRequest {
    /// The first header of this name, as text (Latin-1 where it is not UTF-8).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.header_all(name).into_iter().next()
    }

    /// All headers of this name.
    #[must_use]
    pub fn header_all(&self, name: &str) -> Vec<String> {
        self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| text_of(value)).collect()
    }

    /// The path without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// All of it as text, for searches for what should not be there.
    #[must_use]
    pub fn everything(&self) -> String {
        let lines = |pairs: &[(String, HeaderValue)]| -> String {
            pairs.iter().map(|(name, value)| format!("{name}: {}\n", text_of(value))).collect()
        };
        let body = String::from_utf8_lossy(&self.body);
        format!("{} {}\n{}\n{body}\n{}", self.method, self.target, lines(&self.headers), lines(&self.trailers))
    }

    /// What the upstream answers.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let pairs =
            |pairs: &[(String, HeaderValue)]| -> Vec<Value> { pairs.iter().map(|(name, value)| json!([name, text_of(value)])).collect() };
        json!({
            "method": self.method,
            "target": self.target,
            "authority": self.authority,
            "version": format!("{:?}", self.version),
            "headers": pairs(&self.headers),
            "body": String::from_utf8_lossy(&self.body),
            "body_bytes": self.body.len(),
            "trailers": pairs(&self.trailers),
            "connection": self.connection,
        })
    }
}

/// The upstream. It answers until the value is dropped.
pub struct EchoUpstream {
    seen: Arc<Seen>,
    server: Server,
    tls_host: Option<String>,
    _dir: Option<TempDir>,
}

/// What the upstream remembers, shared with the code that answers.
pub struct Seen {
    requests: Mutex<Vec<SeenRequest>>,
    count: AtomicUsize,
    open_streams: Arc<AtomicUsize>,
    ends: watch::Sender<u64>,
    name: Mutex<String>,
}

impl EchoUpstream {
    /// On a free port of 127.0.0.1; HTTP/1.1 and HTTP/2 by prior knowledge.
    #[must_use]
    pub fn start() -> Self {
        Self::listen(Listen::Tcp, None, None)
    }

    /// The same with TLS. `host` is the name in [`EchoUpstream::url`], one of the certificate's; `alpn` what is offered:
    /// `["h2", "http/1.1"]`.
    #[must_use]
    pub fn start_tls(leaf: &Leaf, host: &str, alpn: &[&str]) -> Self {
        Self::listen(Listen::Tls(leaf.server_config(alpn)), Some(host.to_owned()), None)
    }

    /// With TLS, for those alone who show a certificate of `clients`; HTTP/1.1.
    #[must_use]
    pub fn start_mutual_tls(leaf: &Leaf, host: &str, clients: &CertificateAuthority) -> Self {
        Self::listen(Listen::Tls(leaf.server_config_asking(clients)), Some(host.to_owned()), None)
    }

    /// On a Unix socket.
    #[must_use]
    pub fn start_unix() -> Self {
        let dir = TempDir::new("upstream");
        Self::listen(Listen::Unix(dir.join("upstream.sock")), None, Some(dir))
    }

    fn listen(listen: Listen, tls_host: Option<String>, dir: Option<TempDir>) -> Self {
        let seen = Arc::new(Seen {
            requests: Mutex::default(),
            count: AtomicUsize::new(0),
            open_streams: Arc::default(),
            ends: watch::Sender::new(0),
            name: Mutex::default(),
        });
        let answering = Arc::clone(&seen);
        let server = Server::start(
            listen,
            Arc::new(move |request, peer| {
                let seen = Arc::clone(&answering);
                Box::pin(async move { upstream_paths::answer(request, peer, &seen).await })
            }),
        );
        Self { seen, server, tls_host, _dir: dir }
    }

    /// As the gateway's config names it: `http://127.0.0.1:PORT`, `https://HOST:PORT` or `unix:/PATH`.
    #[must_use]
    pub fn url(&self) -> String {
        match (self.server.place(), &self.tls_host) {
            (Place::Unix(path), _) => format!("unix:{}", path.display()),
            (Place::Tcp(address), Some(host)) => format!("https://{host}:{}", address.port()),
            (Place::Tcp(address), None) => format!("http://{address}"),
        }
    }

    /// The TCP address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The Unix socket's path.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        match self.server.place() {
            Place::Unix(path) => path.clone(),
            Place::Tcp(address) => panic!("{address} is no Unix socket"),
        }
    }

    /// Names this upstream in the header `x-upstream` of its answers, where there are several.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        name.clone_into(&mut self.seen.name.lock().unwrap());
        self
    }

    /// How many requests arrived since the start or the last [`EchoUpstream::reset`]: the counter that must not move on a denial.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seen.count.load(Ordering::SeqCst)
    }

    /// The requests in the order of their heads.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// The last request; panics when there was none.
    #[must_use]
    pub fn last(&self) -> SeenRequest {
        self.requests().pop().expect("no request reached the upstream")
    }

    /// Forgets all requests.
    pub fn reset(&self) {
        self.seen.requests.lock().unwrap().clear();
        self.seen.count.store(0, Ordering::SeqCst);
    }

    /// The bytes received on each connection, as they came.
    #[must_use]
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.server.received()
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.server.accepted()
    }

    /// How many connections are open (an upgraded one no longer counts).
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.server.open()
    }

    /// How many answers of the long paths (`/stream`, `/sse`, `/ws`, `/upgrade`, `/hang`, `/stall`) are under way.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.seen.open_streams.load(Ordering::SeqCst)
    }

    /// Waits until that many are under way.
    pub async fn streams_become(&self, n: usize) {
        eventually(&format!("{n} open streams at the upstream"), || (self.open_streams() == n).then_some(())).await;
    }

    /// Ends all of them in good order.
    pub fn end_streams(&self) {
        self.seen.ends.send_modify(|round| *round += 1);
    }

    /// Closes the connections that carry no request, as an upstream does whose keep-alive time is over. Returns how many.
    pub fn close_idle(&self) -> usize {
        self.server.close_idle()
    }

    /// Closes the connection instead of answering, for the next `n` requests (they are not counted).
    pub fn break_next(&self, n: usize) {
        self.server.break_next(n);
    }

    /// Nobody listens any more.
    pub async fn stop(&self) {
        self.end_streams();
        self.server.stop().await;
    }

    /// Listens again at the same address.
    pub fn start_again(&self) {
        self.server.start_again();
    }
}

impl Seen {
    /// Writes down a request's head; returns where its body belongs.
    pub fn note_head<B>(&self, request: &Request<B>, peer: &Peer) -> Noted {
        let uri = request.uri();
        let seen = SeenRequest {
            method: request.method().to_string(),
            target: uri.path_and_query().map_or_else(|| uri.to_string(), ToString::to_string),
            authority: uri.authority().map(ToString::to_string),
            version: request.version(),
            headers: list(request.headers()),
            body: Bytes::new(),
            trailers: Vec::new(),
            complete: false,
            connection: peer.connection,
        };
        let mut requests = self.requests.lock().unwrap();
        self.count.fetch_add(1, Ordering::SeqCst);
        requests.push(seen.clone());
        Noted { index: requests.len() - 1, seen }
    }

    /// Reads the body, completes the note and returns it; `None` when the body broke off.
    pub async fn note_body(&self, noted: Noted, body: Incoming) -> Option<SeenRequest> {
        let collected = body.collect().await.ok()?;
        let mut seen = noted.seen;
        seen.trailers = collected.trailers().map(list).unwrap_or_default();
        seen.body = collected.to_bytes();
        seen.complete = true;
        if let Some(kept) = self.requests.lock().unwrap().get_mut(noted.index) {
            *kept = seen.clone();
        }
        Some(seen)
    }

    /// An answer's name tag.
    pub fn tag(&self, response: &mut Response<TestBody>) {
        let name = self.name.lock().unwrap();
        if !name.is_empty() {
            response.headers_mut().insert("x-upstream", name.parse().expect("the upstream's name fits into a header"));
        }
    }

    /// Counts an open stream until the value is dropped.
    #[must_use]
    pub fn open_stream(&self) -> OpenStream {
        self.open_streams.fetch_add(1, Ordering::SeqCst);
        OpenStream { open: Arc::clone(&self.open_streams), ends: self.ends.subscribe() }
    }
}

/// A request whose head was written down.
pub struct Noted {
    index: usize,
    seen: SeenRequest,
}

/// One of the long answers, as long as it lasts.
pub struct OpenStream {
    open: Arc<AtomicUsize>,
    ends: watch::Receiver<u64>,
}

impl OpenStream {
    /// Waits for [`EchoUpstream::end_streams`].
    pub async fn told_to_end(&mut self) {
        if self.ends.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The answer to any ordinary path.
pub fn echo(seen: &SeenRequest) -> Response<TestBody> {
    let mut response = Response::new(full(seen.to_json().to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn list(headers: &HeaderMap) -> Vec<(String, HeaderValue)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
}

fn text_of(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
    }
}
