//! Asking each address beside the requests whether it is well: once for the process, not for each core.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::BoxError;
use super::dial::{Dial, Io};
use super::group::Group;
use super::peer::Peer;

/// Who asks, for the app's own log.
const NAME: &str = "doorward-health-check";

/// `health_check` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for.
    pub path: PathAndQuery,
    /// Under which `Host`; `None`: the address's own.
    pub host: Option<HeaderValue>,
    /// From one check to the next.
    pub interval: Duration,
    /// For connection and head together.
    pub timeout: Duration,
    /// What the answer has to say; `None`: any 2xx.
    pub status: Option<StatusCode>,
    /// So many good answers in a row, and it counts again.
    pub healthy_after: u32,
    /// So many failures in a row, and it is left out.
    pub unhealthy_after: u32,
}

/// Checks the addresses of a group for as long as it is there.
pub(super) async fn keep_checking(group: Weak<Group>, check: HealthCheck) {
    loop {
        let Some(peers) = group.upgrade().map(|group| group.peers()) else { return };
        let mut asked = JoinSet::new();
        for found in peers {
            let check = check.clone();
            asked.spawn(async move { ask(&found.peer, &check).await });
        }
        while asked.join_next().await.is_some() {}
        tokio::time::sleep(check.interval).await;
    }
}

async fn ask(peer: &Arc<Peer>, check: &HealthCheck) {
    let found = match tokio::time::timeout(check.timeout, answer(peer, check)).await {
        Ok(Ok(status)) if check.status.map_or(status.is_success(), |wanted| status == wanted) => Ok(()),
        Ok(Ok(status)) => Err(format!("it answers {}", status.as_u16())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {:?}", check.timeout)),
    };
    peer.checked(found, check.healthy_after, check.unhealthy_after);
}

async fn answer(peer: &Peer, check: &HealthCheck) -> Result<StatusCode, BoxError> {
    let upstream = &peer.whose.upstream;
    let dial = Dial::new(upstream.address.clone(), upstream.tls.clone())?.at(peer.whose.at.clone());
    let io = dial.open_io().await?;
    if upstream.address.is_http2() { status_by_http2(io, check, &dial).await } else { status(io, check, &dial).await }
}

/// A connection for one question. It is closed afterwards: checks are to learn whether new ones are taken.
async fn status(io: impl AsyncRead + AsyncWrite + Unpin, check: &HealthCheck, dial: &Dial) -> Result<StatusCode, BoxError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let host = match &check.host {
        Some(host) => host.clone(),
        None => dial.host_header(),
    };
    let request = Request::get(Uri::from(check.path.clone()))
        .header(HOST, host)
        .header(USER_AGENT, HeaderValue::from_static(NAME))
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request);
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => Ok(answer?.status()),
        ended = &mut connection => {
            ended?;
            Ok(answer.await?.status())
        }
    }
}

/// The same where HTTP/2 is spoken.
async fn status_by_http2(io: Box<dyn Io>, check: &HealthCheck, dial: &Dial) -> Result<StatusCode, BoxError> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
    let host = match &check.host {
        Some(host) => host.clone(),
        None => dial.host_header(),
    };
    let scheme = if dial.address().is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
    let at = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(check.path.clone()).build()?;
    let request = Request::get(at).header(USER_AGENT, HeaderValue::from_static(NAME)).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request);
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => Ok(answer?.status()),
        ended = &mut connection => {
            ended?;
            Ok(answer.await?.status())
        }
    }
}
