//! One HTTP/2 connection, and a request on it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Reason, RecvStream};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use http::uri::Scheme;
use http::{Method, Request, Response, Uri, request};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinHandle, spawn_local};

use super::alive::{Heard, Times, silence};
use super::upload::Upload;
use super::{Patience, STREAMS};
use crate::clock::SharedClock;
use crate::fault::Fault;
use crate::upstream::BoxError;
use crate::upstream::connection::{Failed, Sent};
use crate::upstream::frames::Frames;
use crate::upstream::request_body::RequestBody;

/// How many streams the upstream allows, as long as it has not told.
pub(super) const UNTOLD: usize = usize::MAX - 1;

/// One connection. It closes in good order when nobody holds it and its last answer is through.
pub(in crate::upstream) struct Http2 {
    sender: SendRequest<Bytes>,
    scheme: Scheme,
    /// Requests on it.
    open: Rc<Cell<usize>>,
    heard: Times,
    patience: Patience,
    /// Its socket is gone.
    closed: Rc<Cell<bool>>,
    /// Takes no more requests: the upstream said so, by GOAWAY or by refusing one.
    retired: Cell<bool>,
    /// Has answered a request.
    answered: Cell<bool>,
    /// Since when it has carried nothing.
    since: Cell<Instant>,
    clock: SharedClock,
}

impl Http2 {
    /// Speaks HTTP/2 on `io`, by a task of this core, once the upstream has shown by its SETTINGS that it does so too (RFC 9113 §3.4).
    pub(in crate::upstream) async fn open<T>(
        io: T,
        scheme: Scheme,
        (greeting, patience): (&Builder, Patience),
        clock: &SharedClock,
    ) -> Result<Self, BoxError>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (io, heard) = Heard::new(io);
        let (sender, mut connection) = greeting.handshake::<_, Bytes>(io).await?;
        let told = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err("the upstream closed the connection before it spoke HTTP/2".into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(format!("the upstream does not speak HTTP/2 here: {error}").into())),
            Poll::Pending if connection.max_concurrent_send_streams() == UNTOLD => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok::<_, BoxError>(())),
        });
        told.await?;
        let (open, closed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        spawn_local(carry(connection, Rc::clone(&heard), Rc::clone(&open), Rc::clone(&closed), patience));
        let (retired, answered, since) = (Cell::new(false), Cell::new(false), Cell::new(clock.instant()));
        let clock = SharedClock::clone(clock);
        Ok(Self { sender, scheme, open, heard, patience, closed, retired, answered, since, clock })
    }

    /// Room for one more request.
    pub(super) fn has_room(&self) -> bool {
        // One that allows none at all is asked all the same: the request waits, and has its bound.
        let allowed = self.sender.current_max_send_streams().clamp(1, STREAMS as usize);
        self.is_usable() && self.open.get() < allowed && !self.is_leaving()
    }

    /// Whether the upstream has said goodbye, or the connection has failed, since it was last asked.
    fn is_leaving(&self) -> bool {
        let leaving = matches!(self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)));
        if leaving {
            self.retired.set(true);
        }
        leaving
    }

    /// Whether it may be asked at all.
    pub(super) fn is_usable(&self) -> bool {
        !self.retired.get() && !self.closed.get()
    }

    /// Since when it carries nothing; `None` while it carries something.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.open.get() == 0).then(|| self.since.get())
    }

    pub(super) fn place(self: &Rc<Self>) -> Place {
        self.open.set(self.open.get() + 1);
        Place { connection: Rc::clone(self), upload: Rc::default() }
    }
}

/// Carries bytes until the connection ends, or nobody answers at its other end.
async fn carry<T>(connection: Connection<T>, heard: Times, open: Rc<Cell<usize>>, closed: Rc<Cell<bool>>, patience: Patience)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = connection;
    match connection.ping_pong() {
        None => drop(connection.await),
        Some(pings) => tokio::select! {
            ended = &mut connection => if let Err(error) = ended {
                tracing::debug!(%error, "upstream connection ended");
            },
            () = silence(pings, heard, open, patience) => tracing::debug!("an upstream did not answer a ping; its connection is given up"),
        },
    }
    closed.set(true);
}

/// The right to send one request on a connection. Dropped before its answer is through, that request is cancelled (RST_STREAM) and nothing
/// else.
pub(in crate::upstream) struct Place {
    connection: Rc<Http2>,
    /// What is left of the request's body when the answer has begun.
    upload: Rc<RefCell<Option<JoinHandle<()>>>>,
}

impl Place {
    pub(in crate::upstream) fn send(&self, request: Request<RequestBody>) -> impl Future<Output = Sent> + use<> {
        let (connection, later) = (Rc::clone(&self.connection), Rc::clone(&self.upload));
        async move {
            let (parts, body) = request.into_parts();
            let head = head(&parts, &body, connection.scheme.clone()).map_err(|error| unfit(&*error))?;
            let mut sender = connection.sender.clone();
            if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
                connection.retired.set(true);
                return Err(Failed { error: error.into(), back: Some(Box::new(Request::from_parts(parts, body))) });
            }
            let whole = body.is_end_stream();
            let (mut answer, stream) = match sender.send_request(head, whole) {
                Ok(sending) => sending,
                Err(error) => {
                    // Refused by the connection, not for what it says.
                    let unsent = error.is_go_away() || error.is_io();
                    if !unsent {
                        return Err(unfit(&error));
                    }
                    connection.retired.set(true);
                    return Err(Failed { error: error.into(), back: Some(Box::new(Request::from_parts(parts, body))) });
                }
            };
            drop(sender);
            let waiting = Waiting::new(&connection);
            let mut upload = Upload::new(body, stream);
            let mut uploading = !whole;
            let answered = poll_fn(|cx| {
                if uploading && let Poll::Ready(sent) = upload.poll(cx) {
                    uploading = false;
                    sent?;
                }
                Pin::new(&mut answer).poll(cx).map_err(Trouble::Stream)
            })
            .await;
            waiting.over();
            match answered {
                Ok(answer) => {
                    connection.answered.set(true);
                    if uploading {
                        upload.forget();
                        let rest = spawn_local(async move { drop(poll_fn(|cx| upload.poll(cx)).await) });
                        *later.borrow_mut() = Some(rest);
                    }
                    let (parts, stream) = answer.into_parts();
                    let received = Received::new(stream, &parts.headers);
                    Ok(Response::from_parts(parts, Frames::Http2(received)))
                }
                Err(Trouble::Body(error)) => Err(Failed { error, back: None }),
                Err(Trouble::Stream(error)) => {
                    // One that has served and is gone may have been closed before this came: what may be sent twice (RFC 9110 §9.2.2) is sent on
                    // another one, which has not served yet, so that it is sent twice at most.
                    let gone = error.is_io() && whole && parts.method.is_idempotent() && connection.answered.get();
                    let unseen = gone || is_unseen(&error);
                    if unseen {
                        connection.retired.set(true);
                    }
                    let body = if unseen && whole { Some(RequestBody::Empty) } else { unseen.then(|| upload.back()).flatten() };
                    Err(Failed { error: error.into(), back: body.map(|body| Box::new(Request::from_parts(parts, body))) })
                }
            }
        }
    }

    /// Whether nothing of the request is under way any more.
    pub(in crate::upstream) fn is_sent(&self) -> bool {
        self.upload.borrow().as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until all of the request is sent.
    pub(in crate::upstream) async fn sent(&mut self) {
        let upload = self.upload.borrow_mut().take();
        if let Some(upload) = upload {
            let mut upload = AbortedWith(upload);
            let _ = Pin::new(&mut upload.0).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.borrow_mut().take() {
            upload.abort();
        }
        let open = self.connection.open.get().saturating_sub(1);
        self.connection.open.set(open);
        if open == 0 {
            self.connection.since.set(self.connection.clock.instant());
        }
    }
}

/// A request without an answer yet. One that is given up after a long silence makes its connection doubtful.
struct Waiting {
    connection: Rc<Http2>,
    since: Instant,
    heard: u64,
    over: bool,
}

impl Waiting {
    fn new(connection: &Rc<Http2>) -> Self {
        Self { since: connection.clock.instant(), heard: connection.heard.get(), connection: Rc::clone(connection), over: false }
    }

    fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Self { connection, since, heard, over } = self;
        let waited = connection.clock.instant().saturating_duration_since(*since);
        if !*over && connection.heard.get() == *heard && waited >= connection.patience.doubt_after {
            connection.retired.set(true);
        }
    }
}

/// A task that nobody needs without the one who waits for it.
struct AbortedWith(JoinHandle<()>);

impl Drop for AbortedWith {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Trouble {
    /// The request's own body failed.
    Body(BoxError),
    Stream(h2::Error),
}

impl From<BoxError> for Trouble {
    fn from(error: BoxError) -> Self {
        Self::Body(error)
    }
}

/// A request that HTTP/2 does not carry. That is no failure of the address.
fn unfit(error: &(dyn std::error::Error + 'static)) -> Failed {
    let fault = Fault::new(crate::reason::Reason::UpstreamBroken, format!("the request cannot be sent over HTTP/2: {error}"));
    Failed { error: fault.into(), back: None }
}

/// Whether the upstream has said that it did not look at the request: it refused the stream, or its GOAWAY names an earlier one as the last
/// (RFC 9113 §8.7). Of a GOAWAY only such streams are told.
fn is_unseen(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || (error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)))
}

/// The head as HTTP/2 has it: `Host` is `:authority`, and nothing that is of a connection of HTTP/1.1 goes along (RFC 9113 §8.2.2, §8.3.1).
fn head(parts: &request::Parts, body: &RequestBody, scheme: Scheme) -> Result<Request<()>, BoxError> {
    let mut headers: HeaderMap = parts.headers.clone();
    let host = headers.remove(HOST).ok_or("the request names no host")?;
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    let says_length = |method: &Method| matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0 || says_length(&parts.method))
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(target).build();
    let mut head = Request::new(());
    *head.method_mut() = parts.method.clone();
    *head.uri_mut() = uri?;
    *head.version_mut() = http::Version::HTTP_2;
    *head.headers_mut() = headers;
    Ok(head)
}

/// An answer's body as it comes on its stream.
pub(in crate::upstream) struct Received {
    stream: RecvStream,
    /// By its `Content-Length`, which h2 holds it to.
    left: Option<u64>,
}

impl Received {
    fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { stream, left: length }
    }

    /// Room for more is given back when a piece is handed on.
    pub(in crate::upstream) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(piece)) => {
                self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
                let _ = self.stream.flow_control().release_capacity(piece.len());
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => {
                let mut trailers = pin!(self.stream.trailers());
                match ready!(trailers.as_mut().poll(cx)) {
                    Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
                    Err(error) => Poll::Ready(Some(Err(error.into()))),
                }
            }
        }
    }

    pub(in crate::upstream) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        let left = if self.is_end_stream() { Some(0) } else { self.left };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
