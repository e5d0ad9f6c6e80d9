//! hyper's view of the service: each request is counted, its framing judged, and a panic in it is one request's end and nobody else's.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;

use super::activity::{Activity, Extent, InFlight, Protocol};
use super::cores::{Core, Local};
use super::framing::{Afterwards, judge};
use super::request_body::RequestBody;
use super::{BoxError, ConnectionInfo};
use crate::fault::Fault;
use crate::reason::Reason;

/// The service as one connection has it.
pub(super) struct Answer<S, P> {
    pub(super) core: Rc<Core<S, P>>,
    pub(super) info: Rc<ConnectionInfo>,
    pub(super) activity: Arc<Activity>,
}

impl<S, P, F, B> Service<Request<Incoming>> for Answer<S, P>
where
    S: Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> F,
    P: Fn(&ConnectionInfo) -> Response<B>,
    F: Future<Output = Response<B>>,
    B: Body,
{
    type Response = Response<AnswerBody<B>>;
    type Error = Infallible;
    type Future = Answering<S, P, F>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = self.activity.request_begun();
        let judged = self.judge(&request);
        let afterwards = *judged.as_ref().unwrap_or(&Afterwards::Close);
        let connect = request.method() == Method::CONNECT;
        let version = request.version();
        let head = request.method() == Method::HEAD && version == Version::HTTP_2;
        let call = match judged {
            Ok(_) => {
                let request = request.map(|frames| RequestBody::new(frames, self.core.local.settings.limits.body_timeout));
                let called = catch_unwind(AssertUnwindSafe(|| (self.core.service.serve)(request, Rc::clone(&self.info))));
                called.map_or(Call::Panicked, |future| Call::Running { future })
            }
            Err(fault) => {
                tracing::debug!(peer = %self.info.peer, detail = fault.detail, "a request was refused");
                Call::Malformed
            }
        };
        Answering {
            call,
            core: Rc::clone(&self.core),
            info: Rc::clone(&self.info),
            in_flight: Some(in_flight),
            afterwards,
            tunnel_by: if connect { Tunnel::Connect } else { Tunnel::Upgrade },
            told: if head { Told::HeadAlone } else { Told::Whole },
            version,
        }
    }
}

impl<S, P> Answer<S, P> {
    /// Judges what hyper has parsed, and lets the stream know where it ends.
    fn judge(&self, request: &Request<Incoming>) -> Result<Afterwards, Fault> {
        let judged = judge(request.version(), request.headers());
        if self.activity.protocol() == Protocol::Http1 {
            // hyper's own reading of the length: there must not be two.
            let extent = request.body().size_hint().exact().map_or(Extent::Rest, Extent::Bytes);
            let asks_for_tunnel = request.extensions().get::<OnUpgrade>().is_some();
            if !self.activity.head_taken(extent, asks_for_tunnel) {
                return Err(Fault::new(Reason::RequestMalformed, "the request came without a head that was watched to its end"));
            }
            if extent == Extent::Rest && judged == Ok(Afterwards::KeepAlive) {
                return Ok(Afterwards::Close);
            }
        }
        judged
    }
}

/// What turns this request's connection into a tunnel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tunnel {
    /// A 2xx answer (RFC 9110 §9.3.6).
    Connect,
    /// `101 Switching Protocols`.
    Upgrade,
}

/// How much of an answer is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// All of it.
    Whole,
    /// Its head.
    HeadAlone,
}

pin_project! {
    #[project = CallProjection]
    enum Call<F> {
        Running { #[pin] future: F },
        Panicked,
        Malformed,
    }
}

pin_project! {
    /// An answer on its way.
    pub(super) struct Answering<S, P, F> {
        #[pin]
        call: Call<F>,
        core: Rc<Core<S, P>>,
        info: Rc<ConnectionInfo>,
        in_flight: Option<InFlight>,
        afterwards: Afterwards,
        tunnel_by: Tunnel,
        told: Told,
        version: Version,
    }
}

impl<S, P, F, B> Future for Answering<S, P, F>
where
    P: Fn(&ConnectionInfo) -> Response<B>,
    F: Future<Output = Response<B>>,
    B: Body,
{
    type Output = Result<Response<AnswerBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let local = &this.core.local;
        let metrics = &local.settings.metrics;
        let polled = match this.call.as_mut().project() {
            CallProjection::Running { future } => catch_unwind(AssertUnwindSafe(|| future.poll(cx))).ok(),
            CallProjection::Panicked => None,
            CallProjection::Malformed => {
                metrics.request(Reason::RequestMalformed);
                let bare = bare(StatusCode::BAD_REQUEST);
                return Poll::Ready(Ok(finish(bare, this.in_flight.take(), local)));
            }
        };
        let response = match polled {
            Some(polled) => ready!(polled).map(Some),
            None => {
                metrics.panicked();
                // What the future held goes now; a second panic there ends the connection and nothing else.
                this.call.set(Call::Panicked);
                let page = catch_unwind(AssertUnwindSafe(|| (this.core.service.on_panic)(this.info)));
                page.map_or_else(|_| bare(StatusCode::INTERNAL_SERVER_ERROR), |page| page.map(Some))
            }
        };
        let response = if *this.told == Told::HeadAlone { head_alone(response) } else { response };
        let mut response = finish(response, this.in_flight.take(), local);
        let status = response.status();
        let tunnel = match this.tunnel_by {
            Tunnel::Connect => status.is_success(),
            Tunnel::Upgrade => status == StatusCode::SWITCHING_PROTOCOLS,
        };
        if let Some(in_flight) = response.body().in_flight.as_ref().filter(|_| *this.version != Version::HTTP_2) {
            if tunnel {
                in_flight.activity().became_tunnel(metrics.tunnel_opened());
            }
            if in_flight.activity().answered() {
                // The same task reads: what it was not given yet it may have now.
                cx.waker().wake_by_ref();
            }
        }
        if tunnel && *this.version != Version::HTTP_2 {
            // Its bytes have no end that we know of.
        } else if *this.version != Version::HTTP_2 && (*this.afterwards == Afterwards::Close || local.drain.has_begun()) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}

/// The answer to a HEAD request over HTTP/2 (RFC 9110 §9.3.2): hyper leaves a body out over HTTP/1.1 alone.
fn head_alone<B: Body>(response: Response<Option<B>>) -> Response<Option<B>> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.and_then(|body| body.size_hint().exact()).filter(|length| *length > 0) {
        head.headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
    Response::from_parts(head, None)
}

/// An answer without a body, for when nobody can be asked for one.
fn bare<B>(status: StatusCode) -> Response<Option<B>> {
    let mut response = Response::new(None);
    *response.status_mut() = status;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn finish<B: Body>(response: Response<Option<B>>, mut in_flight: Option<InFlight>, local: &Rc<Local>) -> Response<AnswerBody<B>> {
    let over = response.body().as_ref().is_none_or(Body::is_end_stream);
    if let Some(in_flight) = in_flight.as_mut().filter(|_| over) {
        in_flight.finish();
    }
    response.map(|body| AnswerBody { body, in_flight, local: Rc::clone(local) })
}

pin_project! {
    /// The body of an answer; its end is the request's.
    pub(super) struct AnswerBody<B> {
        #[pin]
        body: Option<B>,
        in_flight: Option<InFlight>,
        local: Rc<Local>,
    }
}

impl<B> Body for AnswerBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let Ok(polled) = catch_unwind(AssertUnwindSafe(|| body.poll_frame(cx))) else {
            this.local.settings.metrics.panicked();
            this.body.set(None);
            return Poll::Ready(Some(Err(Box::<dyn Error + Send + Sync>::from("a defect ended the answer"))));
        };
        let frame = ready!(polled);
        let over = match &frame {
            None => true,
            Some(Ok(_)) => this.body.as_ref().as_pin_ref().is_none_or(|body| body.is_end_stream()),
            // The upstream broke off: that is not the downstream's doing.
            Some(Err(_)) => true,
        };
        if let Some(in_flight) = this.in_flight.as_mut().filter(|_| over) {
            in_flight.finish();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
