//! An HTTP client for tests, on hyper: HTTP/1.1 and 2, plain, TLS and Unix sockets. It adds nothing to a request but `Host`, follows
//! nothing, keeps no cookie, and connects where it is told, whatever the URL's host.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Request, Uri, Version};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::answer::broken;
pub use super::answer::{Answer, FetchError, OpenAnswer};
use super::body::{TestBody, empty, full};
use super::wait::PATIENCE;

/// Any byte stream that HTTP can run over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A byte stream of whatever kind.
pub type BoxedStream = Box<dyn Stream>;

/// Which HTTP the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 only (what ALPN offers under TLS).
    Http1,
    /// HTTP/2 only: by prior knowledge on plain connections, by ALPN under TLS.
    Http2,
    /// Under TLS what ALPN settles, else HTTP/1.1: what a browser does.
    Negotiated,
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To a TCP address.
    Tcp(SocketAddr),
    /// To a Unix socket.
    Unix(PathBuf),
}

/// How requests are sent; cheap to copy. Each [`HttpClient::fetch`] takes a fresh connection, [`HttpClient::connect`] gives one to keep.
#[derive(Clone)]
pub struct HttpClient {
    place: Option<Place>,
    tls: Option<Arc<ClientConfig>>,
    server_name: Option<String>,
    protocol: Protocol,
    deadline: Duration,
}

impl HttpClient {
    /// A client that connects to the URL's own address (an IP address or `localhost`) and speaks HTTP/1.1.
    #[must_use]
    pub fn new() -> Self {
        Self { place: None, tls: None, server_name: None, protocol: Protocol::Http1, deadline: PATIENCE }
    }

    /// Connects to `address` whatever the URL says.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.place = Some(Place::Tcp(address));
        self
    }

    /// Connects to this Unix socket whatever the URL says.
    #[must_use]
    pub fn at_unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Some(Place::Unix(path.into()));
        self
    }

    /// Which certificates `https` URLs are checked against.
    #[must_use]
    pub fn trusting(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// The name sent by SNI and checked in the certificate, when it is not the URL's host.
    #[must_use]
    pub fn server_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.to_owned());
        self
    }

    /// Which HTTP to speak.
    #[must_use]
    pub fn speaking(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// How long an answer may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sends a request and reads the whole answer; panics, saying which request, when there is none.
    pub async fn fetch(&self, request: Request<TestBody>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        self.try_fetch(request).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// `GET` of a URL.
    pub async fn get(&self, url: &str) -> Answer {
        self.fetch(get(url)).await
    }

    /// Sends a request and reads the whole answer.
    pub async fn try_fetch(&self, request: Request<TestBody>) -> Result<Answer, FetchError> {
        in_time(self.deadline, async { self.connect(request.uri()).await?.try_fetch(request).await }).await
    }

    /// Sends a request and returns when the answer's head is there; its body is read piece by piece.
    pub async fn open(&self, request: Request<TestBody>) -> Result<OpenAnswer, FetchError> {
        in_time(self.deadline, async { self.connect(request.uri()).await?.open(request).await }).await
    }

    /// Opens a connection for requests to URLs like `url` (scheme and host count).
    pub async fn connect(&self, url: &Uri) -> Result<Connection, FetchError> {
        let refused = |error: io::Error| FetchError::Connect(format!("{url}: {error}"));
        let stream: BoxedStream = match self.place.clone().unwrap_or_else(|| Place::Tcp(address_of(url))) {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(refused)?;
                stream.set_nodelay(true).map_err(refused)?;
                Box::new(stream)
            }
            Place::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(refused)?),
        };
        if url.scheme_str() != Some("https") {
            return Connection::start(stream, self.protocol == Protocol::Http2).await;
        }
        let name = self.server_name.clone().unwrap_or_else(|| host_of(url));
        let (stream, alpn) = self.secure(stream, &name).await.map_err(refused)?;
        Connection::start(stream, alpn.as_deref() == Some(b"h2")).await
    }

    async fn secure(&self, stream: BoxedStream, name: &str) -> io::Result<(BoxedStream, Option<Vec<u8>>)> {
        let trust = self.tls.as_ref().expect("an https URL needs `trusting(authority.client_config())`");
        let mut config = (**trust).clone();
        config.alpn_protocols = match self.protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
            Protocol::Negotiated => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Ok((Box::new(stream), alpn))
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

/// One connection that is kept for several requests.
pub struct Connection {
    sender: Sender,
}

enum Sender {
    Http1(http1::SendRequest<TestBody>),
    Http2(http2::SendRequest<TestBody>),
}

impl Connection {
    /// Speaks HTTP on an open stream.
    pub async fn start(stream: BoxedStream, http2: bool) -> Result<Self, FetchError> {
        let sender = if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(broken)?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
            tokio::spawn(connection.with_upgrades());
            Sender::Http1(sender)
        };
        Ok(Self { sender })
    }

    /// Sends a request and reads the whole answer, without an end in time.
    pub async fn try_fetch(&mut self, request: Request<TestBody>) -> Result<Answer, FetchError> {
        self.open(request).await?.whole().await
    }

    /// Sends a request and reads the whole answer; panics when there is none.
    pub async fn fetch(&mut self, request: Request<TestBody>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        in_time(PATIENCE, self.try_fetch(request)).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Sends a request and returns when the answer's head is there.
    pub async fn open(&mut self, mut request: Request<TestBody>) -> Result<OpenAnswer, FetchError> {
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                origin_form(&mut request);
                sender.ready().await.map_err(broken)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                *request.version_mut() = Version::HTTP_2;
                sender.ready().await.map_err(broken)?;
                sender.send_request(request).await
            }
        };
        response.map(OpenAnswer::from).map_err(broken)
    }

    /// Whether the peer has closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

/// A `GET` request.
#[must_use]
pub fn get(url: &str) -> Request<TestBody> {
    Request::get(url).body(empty()).unwrap_or_else(|error| panic!("{url:?} is no URL ({error}): send it by `raw`"))
}

/// A `POST` request with a form.
#[must_use]
pub fn post_form(url: &str, fields: &[(&str, &str)]) -> Request<TestBody> {
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    Request::post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(full(form)).expect("a request")
}

/// The pairs of a form or query, decoded; of a doubled name the last.
#[must_use]
pub fn pairs(encoded: &[u8]) -> HashMap<String, String> {
    url::form_urlencoded::parse(encoded).into_owned().collect()
}

/// Sends a request as [`HttpClient::new`] would.
pub async fn fetch(request: Request<TestBody>) -> Answer {
    HttpClient::new().fetch(request).await
}

async fn in_time<T>(deadline: Duration, work: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(FetchError::Deadline(deadline)))
}

/// HTTP/1.1 to an origin: the path alone in the request line, the authority in `Host` (kept when the test set one).
fn origin_form(request: &mut Request<TestBody>) {
    let uri = request.uri().clone();
    if let Some(authority) = uri.authority()
        && !request.headers().contains_key(HOST)
    {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let mut headers = HeaderMap::new(); // it stands first, as everywhere
        headers.insert(HOST, host.parse().expect("an authority is a header value"));
        headers.extend(std::mem::take(request.headers_mut()));
        *request.headers_mut() = headers;
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().expect("a URL's path is a path");
}

fn host_of(url: &Uri) -> String {
    let host = url.host().unwrap_or_else(|| panic!("{url} names no host"));
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

fn address_of(url: &Uri) -> SocketAddr {
    let host = host_of(url);
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    if host == "localhost" {
        return (Ipv4Addr::LOCALHOST, port).into();
    }
    let ip = host.parse().unwrap_or_else(|_| panic!("{url}: say where {host} is, by `at(address)`"));
    SocketAddr::new(ip, port)
}
