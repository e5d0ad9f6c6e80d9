//! The HTTP/2 connections of this core to one upstream. There is one, and another only when all have as many requests as they may.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use h2::client::Builder;
use tokio::sync::Mutex;

use super::{Http2, Patience, Place, greeting};
use crate::fault::Fault;
use crate::upstream::UpstreamSettings;

/// Shared by the requests of this core.
pub(in crate::upstream) struct Shared {
    /// The oldest first; it is the first to be filled, so that those of a burst fall idle again.
    all: RefCell<Vec<Rc<Http2>>>,
    /// Held by the one who opens another.
    opening: Mutex<()>,
    /// How often that failed, and how the last time.
    failures: Cell<u64>,
    last: RefCell<Option<Fault>>,
    greeting: Builder,
    patience: Cell<Patience>,
}

impl Shared {
    pub(in crate::upstream) fn new(settings: &UpstreamSettings) -> Self {
        Self {
            all: RefCell::default(),
            opening: Mutex::new(()),
            failures: Cell::new(0),
            last: RefCell::default(),
            greeting: greeting(settings),
            patience: Cell::new(Patience::USUAL),
        }
    }

    /// How connections are to be begun.
    pub(in crate::upstream) fn manner(&self) -> (&Builder, Patience) {
        (&self.greeting, self.patience.get())
    }

    /// A place on a connection that is there, or else on the one that `open` brings. Many who come at once wait for one connection, and for one
    /// failure.
    pub(in crate::upstream) async fn place(&self, open: impl Future<Output = Result<Http2, Fault>>) -> Result<Place, Fault> {
        if let Some(place) = self.free() {
            return Ok(place);
        }
        let failures = self.failures.get();
        let _alone = self.opening.lock().await;
        if let Some(place) = self.free() {
            return Ok(place);
        }
        if self.failures.get() != failures
            && let Some(fault) = &*self.last.borrow()
        {
            return Err(fault.clone());
        }
        match open.await {
            Ok(connection) => {
                let connection = Rc::new(connection);
                let place = connection.place();
                self.all.borrow_mut().push(connection);
                Ok(place)
            }
            Err(fault) => {
                self.failures.set(failures.wrapping_add(1));
                *self.last.borrow_mut() = Some(fault.clone());
                Err(fault)
            }
        }
    }

    fn free(&self) -> Option<Place> {
        let mut all = self.all.borrow_mut();
        all.retain(|connection| connection.is_usable());
        all.iter().find(|connection| connection.has_room()).map(Http2::place)
    }

    /// Closes those that have carried nothing for so long; says when to look again.
    pub(in crate::upstream) fn close_over_time(&self, now: Instant, idle_timeout: Duration) -> Duration {
        let mut all = self.all.borrow_mut();
        let waited = |since: Instant| now.saturating_duration_since(since);
        all.retain(|connection| connection.is_usable() && connection.idle_since().is_none_or(|since| waited(since) < idle_timeout));
        let longest = all.iter().filter_map(|connection| connection.idle_since()).map(waited).max();
        idle_timeout.saturating_sub(longest.unwrap_or_default())
    }

    #[cfg(test)]
    pub(in crate::upstream) fn connections(&self) -> usize {
        self.all.borrow().len()
    }

    #[cfg(test)]
    pub(in crate::upstream) fn ask_with(&self, patience: Patience) {
        self.patience.set(patience);
    }
}
