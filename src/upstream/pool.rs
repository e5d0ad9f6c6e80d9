//! Connections of this core that wait for their next request, one pool per upstream.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::UpstreamSettings;
use super::connection::Connection;
use super::http2::Shared;
use crate::clock::SharedClock;

/// A connection that waited this long is looked at once more before it is used: servers close after seconds of silence, not after less.
const RESTED: Duration = Duration::from_millis(250);
/// The sweeper never runs more often.
const SWEEP_AT_MOST_EVERY: Duration = Duration::from_millis(20);

/// The last one back is the first one out, so that a lull lets the others run out their time.
pub(super) struct Pool {
    /// The longest waiting first.
    idle: RefCell<VecDeque<Idle>>,
    max_idle: usize,
    idle_timeout: Duration,
    clock: SharedClock,
    swept: Cell<bool>,
    /// Connections that carry several requests at a time, where the upstream speaks HTTP/2.
    shared: Shared,
    /// Whether the last one taken had waited for long.
    rested: Cell<bool>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(settings: &UpstreamSettings, clock: SharedClock) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            max_idle: settings.max_idle_per_core,
            idle_timeout: settings.idle_timeout,
            clock,
            swept: Cell::new(false),
            shared: Shared::new(settings),
            rested: Cell::new(false),
        })
    }

    pub(super) const fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) const fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// A connection that can take a request now.
    pub(super) async fn take(&self) -> Option<Connection> {
        loop {
            let Idle { connection, since } = self.idle.borrow_mut().pop_back()?;
            let waited = self.clock.instant().saturating_duration_since(since);
            if waited >= self.idle_timeout {
                // The others wait even longer.
                self.idle.borrow_mut().clear();
                return None;
            }
            self.rested.set(waited >= RESTED);
            if waited >= RESTED {
                // The runtime looks at its sockets before we go on, so an upstream's closing that has arrived is seen and the request is
                // never written into a dead connection.
                tokio::task::yield_now().await;
            }
            if connection.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Whether the one just taken had waited so long that its upstream may be about to close it.
    pub(super) fn gave_rested(&self) -> bool {
        self.rested.get()
    }

    /// Takes back one that is ready. A place on a shared connection just falls free.
    pub(super) fn put(&self, connection: Connection) {
        if self.max_idle == 0 || matches!(connection, Connection::Http2(_)) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.max_idle {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: self.clock.instant() });
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Sees to it that connections nobody takes are closed in time. Asked for at every dial, done once.
    pub(super) fn keep_swept(self: &Rc<Self>) {
        if !self.swept.replace(true) {
            let pool = Rc::downgrade(self);
            tokio::task::spawn_local(sweep(pool, self.idle_timeout));
        }
    }

    /// Closes those whose time is over and forgets those that the upstream closed; says when to look again.
    fn close_over_time(&self) -> Duration {
        let now = self.clock.instant();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| !idle.connection.is_closed() && now.saturating_duration_since(idle.since) < self.idle_timeout);
        let waited = idle.front().map_or(Duration::ZERO, |idle| now.saturating_duration_since(idle.since));
        self.idle_timeout.saturating_sub(waited).min(self.shared.close_over_time(now, self.idle_timeout))
    }
}

async fn sweep(pool: Weak<Pool>, idle_timeout: Duration) {
    let mut wait = idle_timeout;
    loop {
        tokio::time::sleep(wait.max(SWEEP_AT_MOST_EVERY)).await;
        match pool.upgrade() {
            Some(pool) => wait = pool.close_over_time(),
            None => return,
        }
    }
}
