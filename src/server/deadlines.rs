//! Drives one connection and keeps its times: one timer, set anew only when it must ring earlier.
//!
//! hyper has a time for heads of its own (`header_read_timeout`), which also runs while a kept connection waits for its next request: one
//! value for both, and a timer made and thrown away for each request. It is switched off.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep};

use super::activity::{Activity, Phase, Protocol};
use super::cores::{Local, ServerSettings};
use crate::telemetry::metrics::Cut;

/// A connection that was accepted just before the drain, or that waits for its next request, has this long to show it.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// A connection of hyper's that can be asked to finish.
pub(super) trait Connection: Future<Output = hyper::Result<()>> {
    /// No new requests; ends when those in flight have ended.
    fn finish(self: Pin<&mut Self>);
}

/// How a connection ended.
pub(super) enum Ended {
    /// As HTTP says.
    Properly,
    /// hyper could not go on.
    Broken(hyper::Error),
    /// By us.
    Cut(Cut),
    /// By us, and nobody misbehaved.
    Dropped,
}

/// Drives `connection`, which began at `since`, to its end.
pub(super) async fn drive<C: Connection>(mut connection: Pin<&mut C>, activity: &Activity, local: &Local, since: Instant) -> Ended {
    let mut deadlines = Deadlines::new(activity, &local.settings, since);
    let mut notice = local.drain.notice();
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
                return Poll::Ready(outcome.map_or_else(Ended::Broken, |()| Ended::Properly));
            }
            if activity.abandons_too_much() {
                return Poll::Ready(Ended::Cut(Cut::Resets));
            }
            let draining = notice.poll(cx);
            match ready!(deadlines.poll(cx, draining)) {
                Due::Finish => connection.as_mut().finish(),
                Due::Cut(cut) => return Poll::Ready(Ended::Cut(cut)),
                Due::Drop => return Poll::Ready(Ended::Dropped),
            }
        }
    })
    .await
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug)]
enum Due {
    Finish,
    Cut(Cut),
    Drop,
}

struct Deadlines<'a> {
    activity: &'a Activity,
    settings: &'a ServerSettings,
    /// The phase as last seen, with the number of requests, and since when.
    seen: (Phase, u32),
    since: Instant,
    /// The downstream takes nothing since then; with the number of writes before.
    blocked: Option<(u32, Instant)>,
    /// When the drain was noticed.
    drained: Option<Instant>,
    /// When the connection was asked to finish.
    finishing: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    rings: Instant,
}

impl<'a> Deadlines<'a> {
    fn new(activity: &'a Activity, settings: &'a ServerSettings, since: Instant) -> Self {
        let wait = settings.limits.header_timeout;
        let rings = settings.clock.instant() + wait;
        let timer = Box::pin(sleep(wait));
        Self { activity, settings, seen: (Phase::Head, 0), since, blocked: None, drained: None, finishing: None, timer, rings }
    }

    /// Pending when nothing is to be done yet; the task is woken when something is.
    fn poll(&mut self, cx: &mut Context<'_>, draining: bool) -> Poll<Due> {
        self.look();
        if draining && self.finishing.is_none() {
            let now = self.settings.clock.instant();
            let noticed = *self.drained.get_or_insert(now);
            // A head under way is waited for, a little. HTTP/2 tells the peer which of its requests were taken. In HTTP/1.1 the next one may be
            // on its way already: whoever asks now is answered, and told that it was the last time (see `answer`).
            if self.seen.0 != Phase::Head && self.activity.protocol() == Protocol::Http2 {
                self.finishing = Some(noticed);
                return Poll::Ready(Due::Finish);
            }
        }
        loop {
            let next = self.next();
            if let Some((at, _)) = next
                && at < self.rings
            {
                self.ring_at(at);
            }
            ready!(self.timer.as_mut().poll(cx));
            let now = self.settings.clock.instant();
            match next {
                Some((at, due)) if at <= now => {
                    if matches!(due, Due::Finish) {
                        self.finishing = Some(now);
                    }
                    return Poll::Ready(due);
                }
                Some((at, _)) => self.ring_at(at),
                None => self.ring_at(now + self.settings.limits.idle_timeout),
            }
        }
    }

    /// Takes note of what has changed. The clock is read only when a wait begins.
    fn look(&mut self) {
        let seen = (self.activity.phase(), self.activity.begun());
        if seen != self.seen {
            self.seen = seen;
            if seen.0 != Phase::Busy {
                self.since = self.settings.clock.instant();
            }
        }
        self.blocked = match (self.activity.blocked_after(), self.blocked) {
            (None, _) => None,
            (Some(writes), Some((before, since))) if writes == before => Some((writes, since)),
            (Some(writes), _) => Some((writes, self.settings.clock.instant())),
        };
    }

    /// What is to be done next, and when.
    fn next(&self) -> Option<(Instant, Due)> {
        let limits = &self.settings.limits;
        let waiting = match (self.seen.0, self.finishing) {
            (Phase::Busy, _) => None,
            // HTTP/2 asks the peer whether it has heard; one that does not answer is not waited for.
            (_, Some(asked)) => Some((asked.max(self.since) + limits.header_timeout, Due::Drop)),
            (Phase::Idle, None) => {
                let idle = self.since + limits.idle_timeout;
                Some((self.drained.map_or(idle, |drained| idle.min(drained.max(self.since) + GRACE)), Due::Finish))
            }
            (Phase::Head, None) => {
                let late = (self.since + limits.header_timeout, Due::Cut(Cut::HeaderTimeout));
                match self.drained.map(|at| at + GRACE) {
                    Some(at) if at < late.0 => Some((at, Due::Drop)),
                    _ => Some(late),
                }
            }
        };
        let stuck = self.blocked.map(|(_, since)| (since + limits.write_timeout, Due::Cut(Cut::WriteTimeout)));
        match (waiting, stuck) {
            (Some(waiting), Some(stuck)) => Some(if stuck.0 < waiting.0 { stuck } else { waiting }),
            (waiting, stuck) => waiting.or(stuck),
        }
    }

    fn ring_at(&mut self, at: Instant) {
        self.rings = at;
        self.timer.as_mut().reset(at.into());
    }
}
