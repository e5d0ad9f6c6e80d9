//! One connection from downstream, from the accepted socket to its end: TLS, the protocol, hyper.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::spawn_local;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::activity::{Activity, Protocol};
use super::answer::Answer;
use super::cores::{Accepted, Arrival, Core, Local, ServerSettings};
use super::deadlines::{Connection, Ended, GRACE, drive};
use super::limits::ConnectionLimits;
use super::proxy_protocol::ProxyPeers;
use super::request_body::RequestBody;
use super::socket::{Carrier, Link};
use super::stream::{Stream, Watched, tell_protocol};
use super::{ALPN_HTTP2, BoxError};
use crate::credential::PeerCertificate;
use crate::header::{LastTold, Peer};
use crate::reason::Reason;
use crate::request::LastHost;
use crate::telemetry::metrics::Cut;

/// hyper keeps this many header lines on its stack; any other bound costs an allocation for each request.
const HEADERS_ON_STACK: usize = 100;
/// What hyper buffers of a body in either direction, whatever the bound on heads is.
const BODY_BUFFER: usize = 128 * 1024;
/// What an HTTP/2 peer may send of one body before somebody reads it, and of all bodies of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that the peer reset before we looked at them, and that we reset because of its mistakes: beyond this it is sent away
/// (RUSTSEC-2024-0003, CVE-2023-44487).
const PENDING_RESETS: usize = 20;
const OWN_RESETS: usize = 128;

/// Where we are on a unix socket.
pub(super) const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Who is at the other end, and how.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Who connected; behind a proxy that speaks the PROXY protocol whom it named. An IPv4 address stays one on a listener for both families.
    pub peer: Peer,
    /// Where to.
    pub local: SocketAddr,
    /// What lies between.
    pub transport: Transport,
    /// By which listener.
    pub entrance: Entrance,
    /// The certificate that was shown in the handshake and verified there.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// What its last request was, where the next one's is usually the same.
    pub last: LastRequest,
}

/// What is kept of a connection's last request.
#[derive(Debug, Default)]
pub struct LastRequest {
    /// Which host it asked for.
    pub host: LastHost,
    /// What its upstream was told of the way here.
    pub told: LastTold,
}

/// What a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The serving listener, for everybody.
    Serving,
    /// A listener for calls that leave, by its place in the config: for programs of this machine.
    Outgoing(usize),
    /// A plain listener that sends everybody on to https.
    Redirecting,
}

/// What carries the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP alone.
    Plain,
    /// TLS.
    Tls,
}

/// hyper's builders for one core.
pub(super) struct Builders {
    http1: http1::Builder,
    http2: http2::Builder<LocalExecutor>,
}

impl Builders {
    pub(super) fn new(limits: &ConnectionLimits) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // One write for head and small body: cheaper than a vectored one.
            .writev(false)
            // See `deadlines`.
            .header_read_timeout(None)
            // A downstream that closes its half has left: its request is given up and the upstream is told.
            .half_close(false)
            .keep_alive(true)
            .max_header_size(limits.max_header_bytes)
            .max_buf_size(limits.max_header_bytes.max(BODY_BUFFER));
        if limits.max_headers != HEADERS_ON_STACK {
            http1.max_headers(limits.max_headers);
        }
        let mut http2 = http2::Builder::new(LocalExecutor);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(OWN_RESETS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(BODY_BUFFER)
            // A peer that is gone without a word is found out also while requests are in flight.
            .keep_alive_interval(Duration::from_secs(30).min(limits.idle_timeout))
            .keep_alive_timeout(limits.header_timeout);
        Self { http1, http2 }
    }
}

/// Spawns HTTP/2 streams on the core they came to.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        drop(spawn_local(future));
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<S, P, F, B>(accepted: Accepted, core: Rc<Core<S, P>>)
where
    S: Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> F + 'static,
    P: Fn(&ConnectionInfo) -> Response<B> + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let settings = &core.local.settings;
    let since = settings.clock.instant();
    let Accepted { arrival: Arrival { socket, info, tls, proxy }, place } = accepted;
    let mut peer = info.peer;
    let (stream, protocol) = match open(socket, (proxy, &mut peer), tls, &core.local).await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(%peer, %error, "a connection came to nothing");
            return;
        }
    };
    let activity = Activity::new(protocol);
    let info = ConnectionInfo { peer, certificate: certificate_of(&stream), ..info };
    let answer = Answer { core: Rc::clone(&core), info: Rc::new(info), activity: Arc::clone(&activity) };
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity), place));
    let ended = match protocol {
        Protocol::Http1 => {
            let connection = pin!(core.builders.http1.serve_connection(io, answer).with_upgrades());
            drive(connection, &activity, &core.local, since).await
        }
        Protocol::Http2 => {
            let connection = pin!(core.builders.http2.serve_connection(io, answer));
            drive(connection, &activity, &core.local, since).await
        }
    };
    tell(&ended, peer, settings);
}

/// Who it is where a proxy says so, then the handshake, or a look at the first bytes.
async fn open(
    socket: Carrier,
    (proxy, peer): (Option<ProxyPeers>, &mut Peer),
    tls: Option<Arc<rustls::ServerConfig>>,
    local: &Local,
) -> io::Result<(Stream, Protocol)> {
    let limits = &local.settings.limits;
    let mut socket = socket.watched()?;
    if let Some(proxies) = proxy {
        let named = in_time(local, limits.header_timeout, proxies.name(*peer, &mut socket)).await;
        // One that comes and goes without a word looks whether we are there.
        if let Err(error) = &named
            && error.kind() != io::ErrorKind::UnexpectedEof
            && !local.drain.has_begun()
        {
            local.settings.metrics.connection_cut(Cut::ProxyHeader);
            proxies.tell(*peer, error, &*local.settings.clock);
        }
        *peer = named?;
    }
    let (opened, cut) = match tls {
        None => (in_time(local, limits.header_timeout, tell_protocol(socket)).await, Cut::HeaderTimeout),
        Some(config) => (in_time(local, limits.tls_handshake_timeout, shake_hands(socket, config)).await, Cut::Handshake),
    };
    let failed = opened.as_ref().is_err_and(|error| cut == Cut::Handshake || error.kind() == io::ErrorKind::TimedOut);
    if failed && !local.drain.has_begun() {
        local.settings.metrics.connection_cut(cut);
    }
    opened
}

async fn shake_hands(socket: Link, config: Arc<rustls::ServerConfig>) -> io::Result<(Stream, Protocol)> {
    let stream = TlsAcceptor::from(config).accept(socket).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
    Ok((Stream::Tls(Box::new(stream)), if http2 { Protocol::Http2 } else { Protocol::Http1 }))
}

/// What the other side showed of itself; rustls has verified it by then.
fn certificate_of(stream: &Stream) -> Option<Arc<PeerCertificate>> {
    let Stream::Tls(stream) = stream else { return None };
    let shown = stream.get_ref().1.peer_certificates()?.first()?;
    Some(Arc::new(PeerCertificate::new(shown.to_vec())))
}

/// Gives `work` as long as `limit`, and no more than [`GRACE`] once the drain has begun.
async fn in_time<T>(local: &Local, limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut notice = local.drain.notice();
    let drained = async {
        poll_fn(|cx| if notice.poll(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        done = work => done,
        () = sleep(limit) => Err(io::ErrorKind::TimedOut.into()),
        () = drained => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn tell(ended: &Ended, peer: Peer, settings: &ServerSettings) {
    match ended {
        Ended::Properly | Ended::Dropped => {}
        Ended::Cut(cut) => {
            settings.metrics.connection_cut(*cut);
            tracing::debug!(%peer, cause = cut.as_str(), "a connection was cut");
        }
        Ended::Broken(error) => {
            // hyper has answered these itself (431, 414, 400); no request of ours was made of them.
            if error.is_parse_too_large() {
                settings.metrics.request(Reason::HeadersTooLarge);
            } else if error.is_parse() {
                settings.metrics.request(Reason::RequestMalformed);
            }
            tracing::debug!(%peer, %error, "a connection broke");
        }
    }
}

impl<S, P, F, B> Connection for http1::UpgradeableConnection<TokioIo<Watched>, Answer<S, P>>
where
    S: Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> F + 'static,
    P: Fn(&ConnectionInfo) -> Response<B> + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, P, F, B> Connection for http2::Connection<TokioIo<Watched>, Answer<S, P>, LocalExecutor>
where
    S: Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> F + 'static,
    P: Fn(&ConnectionInfo) -> Response<B> + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
