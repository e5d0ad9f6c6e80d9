//! Asking each address beside the requests whether it is well: once for the process, not for each core.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use super::dial::Dial;
use super::group::{Found, Group};
use super::peer::Peer;
use super::{BoxError, Upstream};
use crate::clock::SharedClock;

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
    /// For connection and head together; no longer than the interval.
    pub timeout: Duration,
    /// What the answer has to say; `None`: any 2xx.
    pub status: Option<StatusCode>,
    /// So many good answers in a row, and it counts again.
    pub healthy_after: u32,
    /// So many failures in a row, and it is left out.
    pub unhealthy_after: u32,
}

/// How one address does at a check, by all groups that have the same one.
pub(super) struct Health {
    check: HealthCheck,
    sick: AtomicBool,
    /// So many findings in a row speak against that.
    row: AtomicU32,
    asked: Mutex<Option<Instant>>,
}

impl Health {
    pub(super) const fn new(check: HealthCheck) -> Self {
        Self { check, sick: AtomicBool::new(false), row: AtomicU32::new(0), asked: Mutex::new(None) }
    }

    pub(super) const fn check(&self) -> &HealthCheck {
        &self.check
    }

    /// Whether it is to get no requests.
    pub(super) fn is_sick(&self) -> bool {
        self.sick.load(Ordering::Relaxed)
    }

    /// Takes a finding; whether that has turned it.
    pub(super) fn turns(&self, well: bool) -> bool {
        let sick = self.is_sick();
        if well != sick {
            self.row.store(0, Ordering::Relaxed);
            return false;
        }
        let row = self.row.fetch_add(1, Ordering::Relaxed) + 1;
        if row < if sick { self.check.healthy_after } else { self.check.unhealthy_after } {
            return false;
        }
        self.row.store(0, Ordering::Relaxed);
        self.sick.swap(!sick, Ordering::Relaxed) == sick
    }

    /// Whether it is to be asked now: not where another group has just done it.
    fn is_due(&self, now: Instant) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = asked.is_none_or(|asked| now.saturating_duration_since(asked) >= self.check.interval / 2);
        if due {
            *asked = Some(now);
        }
        due
    }
}

/// Checks the addresses of a group for as long as it is there.
pub(super) async fn keep_checking(group: Weak<Group>, interval: Duration, clock: SharedClock) {
    loop {
        let Some(found) = group.upgrade().map(|group| group.peers()) else { return };
        let next = tokio::time::sleep(interval);
        let mut asked = JoinSet::new();
        for Found { peer, ways, .. } in found {
            let Some(health) = peer.health().filter(|health| health.is_due(clock.instant())).map(Arc::clone) else { continue };
            asked.spawn(async move { ask(&peer, ways, &health).await });
        }
        // None takes longer than that.
        next.await;
        while asked.join_next().await.is_some() {}
    }
}

async fn ask(peer: &Peer, ways: Box<[SocketAddr]>, health: &Health) {
    let check = health.check();
    let found = match tokio::time::timeout(check.timeout, answer(&peer.whose().upstream, ways, check)).await {
        Ok(Ok(status)) if check.status.map_or(status.is_success(), |wanted| status == wanted) => Ok(()),
        Ok(Ok(status)) => Err(format!("it answers {}", status.as_u16())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {:?}", check.timeout)),
    };
    peer.checked(health, found);
}

/// On a connection for one question. It is closed afterwards: checks are to learn whether new ones are taken.
async fn answer(upstream: &Upstream, ways: Box<[SocketAddr]>, check: &HealthCheck) -> Result<StatusCode, BoxError> {
    let dial = Dial::new(upstream.address.clone(), upstream.tls.clone())?.at(ways);
    let io = TokioIo::new(dial.open_io().await?);
    let host = check.host.clone().unwrap_or_else(|| dial.host_header());
    let request = Request::get(Uri::from(check.path.clone())).header(USER_AGENT, HeaderValue::from_static(NAME));
    if upstream.address.is_http2() {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        let scheme = if upstream.address.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        let at = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(check.path.clone()).build()?;
        status(sender.send_request(request.uri(at).body(Empty::<Bytes>::new())?), connection).await
    } else {
        let (mut sender, connection) = http1::handshake(io).await?;
        let request = request.header(HOST, host).header(CONNECTION, HeaderValue::from_static("close"));
        status(sender.send_request(request.body(Empty::<Bytes>::new())?), connection).await
    }
}

async fn status(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<StatusCode, BoxError> {
    let (mut answer, connection) = (pin!(answer), pin!(connection));
    tokio::select! {
        answer = &mut answer => Ok(answer?.status()),
        ended = connection => {
            ended?;
            Ok(answer.await?.status())
        }
    }
}

#[cfg(test)]
impl HealthCheck {
    /// With what is usual.
    pub(super) fn at(path: &str) -> Self {
        let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(2));
        Self { path: path.parse().unwrap(), host: None, interval, timeout, status: None, healthy_after: 2, unhealthy_after: 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    #[test]
    fn checks_in_a_row_turn_it_and_one_between_them_does_not() {
        let health = Health::new(HealthCheck::at("/"));
        let check = |well: bool| {
            health.turns(well);
            !health.is_sick()
        };
        assert_eq!([false, false, true, false, false, false].map(check), [true, true, true, true, true, false]);
        assert_eq!([true, false, true, true].map(check), [false, false, false, true]);
    }

    #[test]
    fn two_groups_ask_an_address_as_often_as_one() {
        let health = Health::new(HealthCheck::at("/"));
        let began = SystemClock.instant();
        let asked = |millis: u64| health.is_due(began + Duration::from_millis(millis));
        // Every five seconds, the second group a little later, or half between.
        assert_eq!([0, 10, 5000, 5010, 10_000, 10_010].map(asked), [true, false, true, false, true, false]);
        assert_eq!([15_000, 17_400, 20_000, 22_400].map(asked), [true, false, true, false]);
    }
}
