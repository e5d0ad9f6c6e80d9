//! Real sockets on loopback; the upstreams are written by hand, so that they can be wrong on purpose. Here is what all tests share.

mod answers;
mod bodies;
mod faults;
mod http2;
mod reuse;
mod upgrades;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::forward::forward_to;
use super::*;
use crate::clock::SystemClock;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::route::UpstreamId;

const MEBIBYTE: usize = 1024 * 1024;
const SOON: Duration = Duration::from_millis(100);

// --- the core under test

pub(super) fn on_a_core<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(20), test).await.expect("the test hangs") })
}

pub(super) fn settings() -> UpstreamSettings {
    UpstreamSettings {
        connect_timeout: Duration::from_secs(2),
        response_timeout: Some(Duration::from_secs(5)),
        idle_timeout: Duration::from_secs(10),
        max_idle_per_core: 8,
        max_header_bytes: 16 * 1024,
        max_headers: 100,
    }
}

fn core_with(address: &str, settings: UpstreamSettings) -> Rc<Upstreams> {
    let upstream = Upstream { address: UpstreamAddress::parse(address).unwrap(), tls: None };
    Rc::new(Upstreams::new(vec![Group::single(upstream)], settings, Tunnels::new(), Arc::new(SystemClock)).unwrap())
}

/// As a route of the config has it.
fn core_of(address: &str, settings: UpstreamSettings, group: GroupSettings) -> Rc<Upstreams> {
    let upstream = Upstream { address: UpstreamAddress::parse(address).unwrap(), tls: None };
    let tasks = crate::tasks::Tasks::new(tokio::runtime::Handle::current());
    let neighbours = Neighbours::new(Arc::new(SystemClock), tasks, crate::telemetry::Metrics::new());
    let group = neighbours.group(vec![(upstream, 1)], group);
    Rc::new(Upstreams::new(vec![group], settings, Tunnels::new(), Arc::new(SystemClock)).unwrap())
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    (listener, address)
}

async fn listen_with_core() -> (TcpListener, Rc<Upstreams>) {
    let (listener, address) = listen().await;
    (listener, core_with(&address, settings()))
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header("host", "app").body(Empty::new()).unwrap()
}

fn post<B>(body: B) -> Request<B> {
    Request::post("/").header("host", "app").body(body).unwrap()
}

async fn send<B>(core: &Upstreams, request: Request<B>) -> Result<Response<UpstreamBody>, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    forward_to(core, UpstreamId(0), request, &Ending::never()).await
}

async fn text(answer: Response<UpstreamBody>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

// --- bodies and downstreams

type FrameSender = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

/// A body whose frames a test sends one by one.
struct Frames(mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);

fn frames() -> (FrameSender, Frames) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Frames(receiver))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

/// A whole proxy around the core, and a raw connection of a browser to it. A fault is a 502 that names its reason.
async fn browser(core: &Rc<Upstreams>, ending: Ending) -> Peer<TcpStream> {
    let (listener, _) = listen().await;
    let browser = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let core = Rc::clone(core);
    spawn_local(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: Request<Incoming>| {
            let (core, ending) = (Rc::clone(&core), ending.clone());
            async move {
                match forward_to(&core, UpstreamId(0), request, &ending).await {
                    Ok(answer) => Ok::<_, std::convert::Infallible>(answer),
                    Err(fault) => {
                        let mut answer = Response::new(UpstreamBody::empty());
                        *answer.status_mut() = http::StatusCode::BAD_GATEWAY;
                        answer.headers_mut().insert("reason", fault.reason.as_str().parse().unwrap());
                        Ok(answer)
                    }
                }
            }
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    });
    Peer::new(browser)
}

// --- the other end of a connection, by hand

struct Peer<S> {
    stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Up to and with the next `end`.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            let read = self.stream.read_buf(&mut self.read).await.unwrap();
            assert_ne!(read, 0, "ended in {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Answers one request without body.
    async fn answer(&mut self, answer: &str) -> String {
        let head = self.head().await;
        self.write(answer).await;
        head
    }

    /// Waits for the end; a reset is one.
    async fn closed(&mut self) -> Vec<u8> {
        while self.stream.read_buf(&mut self.read).await.is_ok_and(|read| read != 0) {}
        std::mem::take(&mut self.read)
    }
}

async fn accept(listener: &TcpListener) -> Peer<TcpStream> {
    Peer::new(listener.accept().await.unwrap().0)
}

/// One connection for each of `answers`: a request, the answer, the end.
fn answer_each(listener: TcpListener, answers: &'static [&'static str]) {
    spawn_local(async move {
        for answer in answers {
            accept(&listener).await.answer(answer).await;
        }
    });
}
