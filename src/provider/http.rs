//! The gateway's own calls to providers and token issuers: bounded in time and size, following no redirect, on the control runtime.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::proxy::{Dial, Proxy};
use super::tls::TlsSettings;
use super::watched::Looks;
use crate::secret::Secret;
use crate::tasks::Tasks;

/// How long an idle connection is kept: enough for the calls of one login, and less than the five seconds after which common servers
/// close theirs, so that a code is not sent into a connection that is just ending.
const IDLE: Duration = Duration::from_secs(3);

/// The largest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Bounds and roots of the calls.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// How long a TCP connection may take.
    pub connect_timeout: Duration,
    /// How long a call may take in all, from the name look-up to the last byte of the answer.
    pub deadline: Duration,
    /// The largest body of an answer, in bytes.
    pub max_bytes: usize,
    /// Whom to trust over https, and who we are there.
    pub tls: TlsSettings,
    /// Through whom https calls go.
    pub proxy: Option<Proxy>,
}

/// Makes the calls. Clones share connections.
#[derive(Clone)]
pub struct Http {
    caller: Arc<Caller>,
    tasks: Tasks,
}

/// Lives on the control runtime, as do its connections.
struct Caller {
    settings: HttpSettings,
    plain: Client<HttpConnector, Full<Bytes>>,
    /// Made at the first `https` call: reading the system's roots takes time that a gateway without such calls need not spend. Made again, with
    /// new connections, when a file of the settings has changed.
    secured: Mutex<Option<(Looks, Secured)>>,
}

type Secured = Client<HttpsConnector<Dial>, Full<Bytes>>;

/// Why a call brought no answer that can be used. Holds no body, no query and no credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// What kind of failure.
    pub failure: HttpFailure,
    /// Whom the call was for: scheme, host, port and path.
    pub at: String,
    /// What the network or TLS said, for the log.
    detail: String,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpFailure {
    /// The address is no `http` or `https` URL with a host.
    Address,
    /// No connection, no trust in the certificate, or an answer that is no HTTP or breaks off.
    Unreachable,
    /// The deadline passed.
    Timeout,
    /// The answer is larger than the limit.
    TooLarge,
    /// The answer is a redirect. None is followed: it would take what was sent to another place.
    Redirect,
    /// The answer's status is not a success, where one is needed.
    Status(StatusCode),
    /// The answer is not JSON, where JSON is needed.
    NotJson,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = &self.at;
        match self.failure {
            HttpFailure::Address => write!(f, "{at}: not an http or https address with a host"),
            HttpFailure::Unreachable => write!(f, "{at}: {}", self.detail),
            HttpFailure::Timeout => write!(f, "{at}: no complete answer in time"),
            HttpFailure::TooLarge => write!(f, "{at}: the answer is larger than the limit"),
            HttpFailure::Redirect => write!(f, "{at}: answered with a redirect, and none is followed"),
            HttpFailure::Status(status) => write!(f, "{at}: answered with status {}", status.as_u16()),
            HttpFailure::NotJson => write!(f, "{at}: the answer is not JSON"),
        }
    }
}

impl std::error::Error for HttpError {}

impl HttpError {
    /// An answer from `url` whose status the caller cannot use.
    #[must_use]
    pub fn status(url: &Url, status: StatusCode) -> Self {
        Self::at(url, HttpFailure::Status(status))
    }

    fn at(url: &Url, failure: HttpFailure) -> Self {
        Self { failure, at: place_of(url), detail: String::new() }
    }
}

impl Http {
    /// How long a call may take in all.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.caller.settings.deadline
    }

    /// Nothing is opened or read yet.
    #[must_use]
    pub fn new(settings: HttpSettings, tasks: Tasks) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(settings.connect_timeout));
        connector.set_nodelay(true);
        let plain = builder().build(connector);
        Self { caller: Arc::new(Caller { settings, plain, secured: Mutex::default() }), tasks }
    }

    /// Sends `request` and returns the answer, whatever its status but a redirect. The call begins at once and runs to its end though the
    /// returned future is dropped: it may spend something one-time.
    pub fn send(&self, request: Request<Vec<u8>>) -> impl Future<Output = Result<Response<Vec<u8>>, HttpError>> + Send + use<> {
        let at = place(request.uri());
        let caller = Arc::clone(&self.caller);
        let called = self.tasks.run(async move {
            let deadline = caller.settings.deadline;
            tokio::time::timeout(deadline, caller.call(request)).await.unwrap_or_else(|_| Err(Failed::of(HttpFailure::Timeout)))
        });
        async move {
            let failed = match called.await {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(failed)) => failed,
                None => Failed::unreachable("the call was broken off here"),
            };
            Err(HttpError { failure: failed.failure, at, detail: failed.detail })
        }
    }

    /// Gets `url`, with `bearer` in `Authorization` where there is one. Any status but a success is an error.
    pub async fn get(&self, url: &Url, bearer: Option<&Secret>) -> Result<Response<Vec<u8>>, HttpError> {
        let answer = self.send(Self::get_request(url, bearer.map(|token| ("Bearer", token)))?).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(HttpError::status(url, answer.status())) }
    }

    /// Gets a JSON document.
    pub async fn get_json(&self, url: &Url, bearer: Option<&Secret>) -> Result<Value, HttpError> {
        Self::json_of(url, &self.get(url, bearer).await?)
    }

    /// A request for JSON, with a token in `Authorization` by this scheme.
    pub(super) fn get_request(url: &Url, token: Option<(&str, &Secret)>) -> Result<Request<Vec<u8>>, HttpError> {
        let uri: Uri = url.as_str().parse().map_err(|_| HttpError::at(url, HttpFailure::Address))?;
        let mut request = Request::new(Vec::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some((scheme, token)) = token {
            // A token that fits in no header was made by nobody who follows RFC 6750 §2.1; the provider would refuse it as well.
            let mut value = HeaderValue::try_from(format!("{scheme} {}", token.expose()))
                .map_err(|_| HttpError::at(url, HttpFailure::Status(StatusCode::UNAUTHORIZED)))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// What a successful answer holds.
    pub(super) fn json_of(url: &Url, answer: &Response<Vec<u8>>) -> Result<Value, HttpError> {
        if !answer.status().is_success() {
            return Err(HttpError::status(url, answer.status()));
        }
        // serde_json's message would repeat parts of the body.
        serde_json::from_slice(answer.body()).map_err(|_| HttpError::at(url, HttpFailure::NotJson))
    }
}

/// A failure before its place is known.
struct Failed {
    failure: HttpFailure,
    detail: String,
    /// The connection ended before there was an answer.
    broke_off: bool,
}

impl Failed {
    fn of(failure: HttpFailure) -> Self {
        Self { failure, detail: String::new(), broke_off: false }
    }

    fn unreachable(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::of(HttpFailure::Unreachable) }
    }
}

impl Caller {
    /// A GET whose connection breaks off is sent once more: the connection may have waited for its next request while the other side was
    /// restarted (RFC 9110 §9.2.2).
    async fn call(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Failed> {
        let again = (request.method() == Method::GET).then(|| request.clone());
        match (self.call_once(request).await, again) {
            (Err(failed), Some(request)) if failed.broke_off => self.call_once(request).await,
            (outcome, _) => outcome,
        }
    }

    async fn call_once(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Failed> {
        let mut request = request.map(|body| Full::new(Bytes::from(body)));
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static("doorward"));
        let scheme = request.uri().scheme_str().filter(|_| request.uri().host().is_some_and(|host| !host.is_empty()));
        let sent = match scheme {
            Some("http") => self.plain.request(request).await,
            Some("https") => self.secured().await?.request(request).await,
            _ => return Err(Failed::of(HttpFailure::Address)),
        };
        let (head, body) = sent
            .map_err(|error| Failed { broke_off: !error.is_connect() && broke_off(&error), ..Failed::unreachable(chain(&error)) })?
            .into_parts();
        if head.status.is_redirection() {
            return Err(Failed::of(HttpFailure::Redirect));
        }
        Ok(Response::from_parts(head, self.collect(body).await?))
    }

    async fn collect(&self, body: Incoming) -> Result<Vec<u8>, Failed> {
        match Limited::new(body, self.settings.max_bytes).collect().await {
            Ok(collected) => Ok(collected.to_bytes().into()),
            Err(error) if error.is::<LengthLimitError>() => Err(Failed::of(HttpFailure::TooLarge)),
            Err(error) => Err(Failed::unreachable(chain(error.as_ref()))),
        }
    }

    /// What failed to load at first is tried again at the next call: a `ca_file` may be put right meanwhile. What fails later leaves the one before.
    async fn secured(&self) -> Result<Secured, Failed> {
        let looks = self.settings.tls.looks();
        let mut known = self.secured.lock().await;
        let former = match known.take() {
            Some((seen, secured)) if seen == looks => return Ok(known.insert((seen, secured)).1.clone()),
            other => other.map(|(_, secured)| secured),
        };
        let secured = match (self.connector().await, former) {
            (Ok(connector), _) => builder().build(connector),
            (Err(failed), Some(former)) => {
                tracing::error!(detail = failed.detail, "a TLS file that was changed cannot be used; what it held before goes on");
                former
            }
            (Err(failed), None) => return Err(failed),
        };
        Ok(known.insert((looks, secured)).1.clone())
    }

    async fn connector(&self) -> Result<HttpsConnector<Dial>, Failed> {
        let tls = self.settings.tls.clone();
        let config = tokio::task::spawn_blocking(move || tls.client_config())
            .await
            .map_err(|_| Failed::unreachable("loading the root certificates broke off"))?
            .map_err(Failed::unreachable)?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(self.settings.connect_timeout));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = Dial::new(connector, self.settings.proxy.clone());
        let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_only();
        Ok(match &self.settings.tls.server_name {
            Some(name) => {
                builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone())).enable_http1().wrap_connector(connector)
            }
            None => builder.enable_http1().wrap_connector(connector),
        })
    }
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).http1_max_buf_size(MAX_HEAD_BYTES);
    builder
}

/// An address for people: without user information and query, which may hold credentials.
fn place(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("?");
    let host = uri.host().unwrap_or_default();
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{}", uri.path())
}

/// The same of a URL.
fn place_of(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// Whether a call failed because its connection ended.
fn broke_off(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    let mut cause = Some(error);
    while let Some(error) = cause {
        let http = error.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_incomplete_message() || error.is_canceled());
        let io = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if http || matches!(io, Some(BrokenPipe | ConnectionAborted | ConnectionReset)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error with its causes, outermost first.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
