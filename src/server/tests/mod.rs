//! The server on a real socket, with a service that does as the path says.

mod draining;
mod http;
mod limits;
mod messages;
mod proxies;
mod smuggling;
mod supervisor;
mod tls;

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::clock::SystemClock;
use crate::reason::Reason;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

type TestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Long enough for anything that is to happen.
const SOON: Duration = Duration::from_secs(10);

fn limits() -> ConnectionLimits {
    ConnectionLimits {
        header_timeout: SOON,
        idle_timeout: SOON,
        write_timeout: SOON,
        body_timeout: SOON,
        tls_handshake_timeout: SOON,
        max_header_bytes: 16 * 1024,
        max_headers: 100,
        max_streams: 100,
        max_connections: 10_000,
    }
}

struct TestServer {
    address: SocketAddr,
    cores: Arc<Cores>,
    drain: Drain,
    metrics: Arc<Metrics>,
    /// Requests that the service has seen.
    seen: Arc<AtomicUsize>,
}

impl TestServer {
    fn start(limits: ConnectionLimits) -> Self {
        Self::start_with(limits, 2, None)
    }

    fn start_with(limits: ConnectionLimits, cores: usize, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self::start_as(limits, cores, Listener::bind("127.0.0.1:0".parse().unwrap(), TlsSwitch::new(tls)).unwrap())
    }

    fn start_as(limits: ConnectionLimits, cores: usize, listener: Listener) -> Self {
        let (drain, metrics, seen) = (Drain::new(), Metrics::new(), Arc::new(AtomicUsize::new(0)));
        let settings = ServerSettings { limits, drain: drain.clone(), metrics: Arc::clone(&metrics), clock: Arc::new(SystemClock) };
        let cores = Cores::start(cores, settings, {
            let seen = Arc::clone(&seen);
            move |core| {
                let seen = Arc::clone(&seen);
                let serve = move |request: Request<RequestBody>, info: Rc<ConnectionInfo>| {
                    seen.fetch_add(1, Ordering::SeqCst);
                    answer(core, request, info)
                };
                let on_panic = |_: &ConnectionInfo| reply(StatusCode::INTERNAL_SERVER_ERROR, "a page");
                CoreService { serve, on_panic }
            }
        })
        .unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = listener.serve(Arc::clone(&cores));
        Tasks::new(Handle::current()).background(async { accepting.await.unwrap() });
        drain.advance(Stage::Serving);
        Self { address, cores, drain, metrics, seen }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a new connection; what comes back until the server closes or says nothing for a while.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        read_some(&mut stream).await.0
    }

    async fn get(&self, path: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    fn counted(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|found| found == line)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Closed,
    Open,
}

async fn read_some(stream: &mut TcpStream) -> (String, After) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match timeout(Duration::from_millis(300), stream.read(&mut piece)).await {
            Ok(Ok(0) | Err(_)) => return (String::from_utf8_lossy(&bytes).into_owned(), After::Closed),
            Ok(Ok(read)) => bytes.extend_from_slice(&piece[..read]),
            Err(_) => return (String::from_utf8_lossy(&bytes).into_owned(), After::Open),
        }
    }
}

/// Waits until the server closes the connection; how long that took.
async fn closed_after(stream: &mut TcpStream) -> Duration {
    let start = tokio::time::sleep(Duration::ZERO).deadline();
    let mut sink = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut sink)).await.expect("the server closes the connection");
    start.elapsed()
}

async fn eventually(what: impl Fn() -> bool) {
    timeout(SOON, async {
        while !what() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it becomes true");
}

async fn http2(stream: TcpStream) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    Tasks::new(Handle::current()).background(async { drop(connection.await) });
    sender
}

fn request(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://a{path}")).body(Full::default()).unwrap()
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn reply(status: StatusCode, text: impl Into<Bytes>) -> Response<TestBody> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

async fn answer(core: usize, mut request: Request<RequestBody>, info: Rc<ConnectionInfo>) -> Response<TestBody> {
    match request.uri().path() {
        "/core" => reply(StatusCode::OK, core.to_string()),
        "/transport" => reply(StatusCode::OK, format!("{:?} {:?} {}", info.transport, request.version(), info.peer.ip())),
        "/slow" => {
            sleep(Duration::from_millis(400)).await;
            reply(StatusCode::OK, "slow")
        }
        "/never" => pending().await,
        "/stuck" => {
            // 1: a core hangs here; 2: it may go on.
            STUCK.store(1, Ordering::SeqCst);
            while STUCK.load(Ordering::SeqCst) == 1 {
                std::thread::sleep(Duration::from_millis(5));
            }
            reply(StatusCode::OK, "unstuck")
        }
        "/panic" => panic!("seen"),
        "/panic-in-body" => Response::new(Pieces { kind: Kind::Panics }.boxed_unsync()),
        "/endless" => Response::new(Pieces { kind: Kind::Endless }.boxed_unsync()),
        "/echo" => match request.body_mut().collect().await {
            Ok(body) => reply(StatusCode::OK, body.to_bytes()),
            Err(fault) => reply(StatusCode::BAD_REQUEST, fault.reason.as_str()),
        },
        "/early" => {
            // Answered to the end at once; the upload goes on.
            let name = request.uri().query().unwrap_or_default().to_owned();
            tokio::task::spawn_local(async move {
                let body = request.into_body().collect().await.map(|body| body.to_bytes()).map_err(|fault| fault.reason);
                UPLOADS.lock().unwrap().push((name, body));
            });
            reply(StatusCode::OK, "early")
        }
        "/upgrade-later" => {
            sleep(Duration::from_millis(200)).await;
            upgraded(&mut request)
        }
        "/upgrade" => upgraded(&mut request),
        _ => reply(StatusCode::OK, "hello"),
    }
}

/// What `/stuck` waits for.
static STUCK: AtomicUsize = AtomicUsize::new(0);

/// What `/early` has read, by the query.
static UPLOADS: Mutex<Vec<(String, Result<Bytes, Reason>)>> = Mutex::new(Vec::new());

fn uploaded(name: &str) -> Option<Result<Bytes, Reason>> {
    UPLOADS.lock().unwrap().iter().find(|(found, _)| found == name).map(|(_, body)| body.clone())
}

fn upgraded(request: &mut Request<RequestBody>) -> Response<TestBody> {
    let upgrade = hyper::upgrade::on(request);
    tokio::task::spawn_local(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut piece = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            stream.write_all(&piece[..read]).await.unwrap();
        }
    });
    let mut response = reply(StatusCode::SWITCHING_PROTOCOLS, "");
    response.headers_mut().insert("upgrade", "echo".parse().unwrap());
    response.headers_mut().insert("connection", "upgrade".parse().unwrap());
    response
}

struct Pieces {
    kind: Kind,
}

enum Kind {
    Panics,
    Endless,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.kind {
            Kind::Panics => panic!("seen"),
            Kind::Endless => std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16384]))))),
        }
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(SOON, work).await.expect("it happens in time")
}
