//! A small HTTP server for peers of the gateway: HTTP/1.1 and 2 on TCP, TLS or a Unix socket. It keeps the bytes it received, can go
//! away and come back at the same address, and can treat its connections badly on demand.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_rustls::TlsAcceptor;

use super::background;
use super::body::{TestBody, empty, holding};
use super::http::{BoxedStream, Place};

/// How many received bytes are kept of one connection.
const WIRE_KEPT: usize = 4 << 20;

/// What answers requests.
pub type Respond = Arc<dyn Fn(Request<Incoming>, Peer) -> Pin<Box<dyn Future<Output = Response<TestBody>> + Send>> + Send + Sync>;

/// Where a server listens.
#[derive(Clone)]
pub enum Listen {
    /// A free port of 127.0.0.1.
    Tcp,
    /// A free port of 127.0.0.1, with TLS.
    Tls(Arc<ServerConfig>),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

/// A running server; it ends when the value is dropped.
pub struct Server {
    listen: Listen,
    place: Place,
    state: Arc<State>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    respond: Respond,
    connections: Mutex<Vec<Arc<ConnectionState>>>,
    break_next: AtomicUsize,
}

/// The connection a request came on.
#[derive(Clone)]
pub struct Peer {
    /// The number of the connection, counted from 0.
    pub connection: usize,
    state: Arc<ConnectionState>,
}

impl Peer {
    /// Closes the connection when the answer has been written, without announcing it.
    pub fn close_after_answer(&self) {
        self.state.close_after_answer.store(true, Ordering::SeqCst);
    }

    /// Closes the connection at once, answer or not.
    pub fn close_now(&self) {
        self.state.close.notify_one();
    }
}

#[derive(Default)]
struct ConnectionState {
    received: Mutex<Vec<u8>>,
    in_flight: AtomicUsize,
    ended: AtomicBool,
    close: Notify,
    close_after_answer: AtomicBool,
    answer_written: AtomicBool,
}

impl Server {
    /// Starts to listen; it accepts from now on.
    #[must_use]
    pub fn start(listen: Listen, respond: Respond) -> Self {
        let state = Arc::new(State { respond, connections: Mutex::default(), break_next: AtomicUsize::new(0) });
        let place = match &listen {
            Listen::Unix(path) => Place::Unix(path.clone()),
            Listen::Tcp | Listen::Tls(_) => Place::Tcp((Ipv4Addr::LOCALHOST, 0).into()),
        };
        let mut server = Self { listen, place, state, accepting: Mutex::new(None) };
        server.place = server.bind();
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The TCP address; panics for a Unix socket.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match &self.place {
            Place::Tcp(address) => *address,
            Place::Unix(path) => panic!("{} is a Unix socket", path.display()),
        }
    }

    /// Stops to listen and breaks all connections: from now on nobody is there.
    pub async fn stop(&self) {
        let accepting = self.accepting.lock().unwrap().take();
        if let Some(task) = accepting {
            task.abort();
            let _ = task.await; // the listener is closed when this returns
        }
        if let Listen::Unix(path) = &self.listen {
            let _ = std::fs::remove_file(path);
        }
        for connection in self.connections() {
            connection.close.notify_one();
        }
    }

    /// Listens again at the same address after [`Server::stop`].
    pub fn start_again(&self) {
        let running = self.accepting.lock().unwrap().is_some();
        assert!(!running, "the server was not stopped");
        self.bind();
    }

    /// Closes all connections that carry no request at the moment. Returns how many there were.
    pub fn close_idle(&self) -> usize {
        let idle: Vec<_> = self.connections().into_iter().filter(|c| c.in_flight.load(Ordering::SeqCst) == 0).collect();
        idle.iter().for_each(|connection| connection.close.notify_one());
        idle.len()
    }

    /// Closes the connection instead of answering, for the next `n` requests.
    pub fn break_next(&self, n: usize) {
        self.state.break_next.store(n, Ordering::SeqCst);
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.state.connections.lock().unwrap().len()
    }

    /// How many connections are open (an upgraded one no longer counts).
    #[must_use]
    pub fn open(&self) -> usize {
        self.connections().len()
    }

    /// The bytes received on each connection (after TLS), as they came: what proves how many requests there really were.
    #[must_use]
    pub fn received(&self) -> Vec<Vec<u8>> {
        let connections = self.state.connections.lock().unwrap();
        connections.iter().map(|connection| connection.received.lock().unwrap().clone()).collect()
    }

    fn connections(&self) -> Vec<Arc<ConnectionState>> {
        let connections = self.state.connections.lock().unwrap();
        connections.iter().filter(|connection| !connection.ended.load(Ordering::SeqCst)).cloned().collect()
    }

    fn bind(&self) -> Place {
        let _runtime = background::runtime().enter();
        let state = Arc::clone(&self.state);
        let (place, task) = match (&self.place, &self.listen) {
            (Place::Unix(path), _) => {
                let listener = UnixListener::bind(path).unwrap_or_else(|error| panic!("cannot listen at {}: {error}", path.display()));
                (self.place.clone(), background::spawn(accept_unix(listener, state)))
            }
            (Place::Tcp(address), listen) => {
                let listener = listen_tcp(*address).unwrap_or_else(|error| panic!("cannot listen at {address}: {error}"));
                let address = listener.local_addr().expect("a listener has an address");
                let tls = if let Listen::Tls(config) = listen { Some(TlsAcceptor::from(Arc::clone(config))) } else { None };
                (Place::Tcp(address), background::spawn(accept_tcp(listener, tls, state)))
            }
        };
        *self.accepting.lock().unwrap() = Some(task);
        place
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().unwrap().take() {
            task.abort();
        }
        for connection in self.connections() {
            connection.close.notify_one();
        }
        if let Listen::Unix(path) = &self.listen {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    // `std` sets SO_REUSEADDR, so that the same port can be had again.
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn accept_tcp(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            match tls {
                None => serve(Box::new(stream), state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(Box::new(stream), state).await;
                    }
                }
            }
        });
    }
}

async fn accept_unix(listener: UnixListener, state: Arc<State>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(Box::new(stream), Arc::clone(&state)))),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(mut stream: BoxedStream, state: Arc<State>) {
    let connection = Arc::new(ConnectionState::default());
    let number = {
        let mut connections = state.connections.lock().unwrap();
        connections.push(Arc::clone(&connection));
        connections.len() - 1
    };
    let work = async {
        let Ok(first) = first_bytes(&mut stream).await else { return };
        let http2 = first.starts_with(b"PRI");
        connection.received.lock().unwrap().extend_from_slice(&first);
        let io = TokioIo::new(Tap { stream, ahead: first.into(), connection: Arc::clone(&connection) });
        let peer = Peer { connection: number, state: Arc::clone(&connection) };
        let service = service_fn(|request| {
            let (state, peer) = (Arc::clone(&state), peer.clone());
            async move { Ok::<_, std::convert::Infallible>(answer(request, peer, &state).await) }
        });
        if http2 {
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
        } else {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.max_headers(1000).max_buf_size(4 << 20);
            let _ = builder.serve_connection(io, service).with_upgrades().await;
        }
    };
    tokio::select! {
        () = work => {}
        () = connection.close.notified() => {}
    }
    connection.ended.store(true, Ordering::SeqCst);
}

async fn answer(request: Request<Incoming>, peer: Peer, state: &State) -> Response<TestBody> {
    let in_flight = InFlight::of(&peer.state);
    let breaks = state.break_next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
    if breaks {
        peer.close_now();
        std::future::pending::<()>().await;
    }
    // hyper leaves the body out over HTTP/1.1 alone.
    let head_alone = request.method() == Method::HEAD && request.version() == Version::HTTP_2;
    let response = (state.respond)(request, peer).await;
    let response = if head_alone { response.map(|_| empty()) } else { response };
    response.map(|body| holding(body, in_flight))
}

struct InFlight(Arc<ConnectionState>);

impl InFlight {
    fn of(connection: &Arc<ConnectionState>) -> Self {
        connection.in_flight.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(connection))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Enough bytes to tell HTTP/2's preface from any HTTP/1 method.
async fn first_bytes(stream: &mut BoxedStream) -> io::Result<Vec<u8>> {
    let mut first = Vec::with_capacity(4096);
    while first.len() < 3 {
        if stream.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(first)
}

/// A stream that gives back what was read ahead, remembers what is read, and sees when an answer has been written.
struct Tap {
    stream: BoxedStream,
    ahead: VecDeque<u8>,
    connection: Arc<ConnectionState>,
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let n = self.ahead.len().min(buf.remaining());
            let bytes: Vec<u8> = self.ahead.drain(..n).collect();
            buf.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let mut received = self.connection.received.lock().unwrap();
        if received.len() < WIRE_KEPT {
            received.extend_from_slice(&buf.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if polled.is_ready() && self.connection.close_after_answer.load(Ordering::SeqCst) {
            self.connection.answer_written.store(true, Ordering::SeqCst);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_ready() && self.connection.answer_written.load(Ordering::SeqCst) {
            self.connection.close.notify_one();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A task that ends with the value.
pub struct Task(AbortHandle);

impl Task {
    /// Runs `work` beside the test until it is done or the value is dropped.
    pub fn run(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(background::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
