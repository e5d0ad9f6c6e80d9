//! Whether every change is being told, and by whom.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use super::url::Place;
use crate::store::{Change, OnChange};

/// Who is told of changes, and the servers whose changes are told. An answer of any other server ends that: nobody would say when it is old.
#[derive(Default)]
pub(super) struct Watched {
    told: OnceLock<OnChange>,
    /// `None`: changes may be missed.
    servers: Mutex<Option<Servers>>,
    /// Said when the servers have to be looked for anew.
    anew: Notify,
}

/// The servers whose changes are told.
struct Servers {
    places: BTreeSet<Place>,
    /// Where all is read on one connection, which one that is. A name may lead to another server than before (a name that follows a failover,
    /// a service with other members), so that the next connection may be to one that nobody tells of.
    reading: Option<Reading>,
}

struct Reading {
    /// Connections up to this one were given up.
    after: u64,
    connection: Option<u64>,
}

impl Servers {
    fn hold(&mut self, place: &Place, connection: Option<u64>) -> bool {
        let same = match (&mut self.reading, connection) {
            // What was asked before the servers were watched is not kept anyhow.
            (Some(reading), Some(connection)) if connection > reading.after => *reading.connection.get_or_insert(connection) == connection,
            _ => true,
        };
        same && self.places.contains(place)
    }
}

impl Watched {
    /// From now on changes go to `told`; `false` when they go to somebody already.
    pub(super) fn begin(&self, told: OnChange) -> bool {
        self.told.set(told).is_ok()
    }

    /// All changes on these servers are told from now on, and sessions lie on no others. `after`: where all is read on one connection, the last
    /// one that was given up.
    pub(super) fn on(&self, places: BTreeSet<Place>, after: Option<u64>) {
        let mut now = self.lock();
        tracing::info!(servers = places.len(), "changes in Redis are told");
        *now = Some(Servers { places, reading: after.map(|after| Reading { after, connection: None }) });
        self.tell(Change::Watched);
    }

    /// Changes may be missed; whether none were before.
    pub(super) fn lost(&self) -> bool {
        let mut now = self.lock();
        let before = now.take().is_some();
        if before {
            self.tell(Change::Lost);
        }
        before
    }

    /// The same, and the servers are not the ones that were known.
    pub(super) fn look_anew(&self) {
        if self.lost() {
            tracing::info!("another server of Redis is the one now; until its changes are told, no session is kept in memory");
        }
        self.anew.notify_one();
    }

    /// Until somebody says so.
    pub(super) async fn anew(&self) {
        self.anew.notified().await;
    }

    /// Something was read from this server on this connection, or the sentinels say that it is the one.
    pub(super) fn relies_on(&self, place: &Place, connection: Option<u64>) {
        if self.lock().as_mut().is_some_and(|servers| !servers.hold(place, connection)) {
            self.look_anew();
        }
    }

    /// Whether changes are told, and those of this server are not.
    pub(super) fn is_elsewhere(&self, place: &Place) -> bool {
        self.lock().as_ref().is_some_and(|servers| !servers.places.contains(place))
    }

    /// A session was written or is gone.
    pub(super) fn changed(&self, change: Change) {
        self.tell(change);
    }

    /// A server whose changes are told has answered just now, after everything that it had told.
    pub(super) fn heard(&self) {
        let now = self.lock();
        if now.is_some() {
            self.tell(Change::Heard);
        }
    }

    /// Everything was.
    pub(super) fn emptied(&self) {
        let now = self.lock();
        if now.is_some() {
            self.tell(Change::Lost);
            self.tell(Change::Watched);
        }
    }

    /// Under the lock, so that what is told comes in the order in which it is true.
    fn tell(&self, change: Change) {
        if let Some(told) = self.told.get() {
            told(change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Servers>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_told_is_told_in_order_and_an_unknown_server_ends_it() {
        let place = |port| Place::Tcp { host: "h".to_owned(), port };
        let (watched, said) = (Watched::default(), Arc::new(Mutex::new(Vec::new())));
        let heard = Arc::clone(&said);
        assert!(watched.begin(Arc::new(move |change| heard.lock().unwrap().push(change))));
        assert!(!watched.begin(Arc::new(|_| {})));
        let took = || std::mem::take(&mut *said.lock().unwrap());
        watched.lost();
        watched.emptied();
        watched.heard();
        watched.relies_on(&place(1), None);
        assert_eq!(took(), []);
        watched.on([place(1), place(2)].into(), None);
        watched.relies_on(&place(2), None);
        watched.changed(Change::Session([7; 32]));
        watched.emptied();
        watched.heard();
        assert_eq!(took(), [Change::Watched, Change::Session([7; 32]), Change::Lost, Change::Watched, Change::Heard]);
        watched.relies_on(&place(3), None);
        watched.lost();
        assert_eq!(took(), [Change::Lost]);
    }

    #[test]
    fn another_connection_may_be_to_another_server_of_the_same_name() {
        let place = Place::Tcp { host: "h".to_owned(), port: 1 };
        let (watched, said) = (Watched::default(), Arc::new(Mutex::new(Vec::new())));
        let heard = Arc::clone(&said);
        watched.begin(Arc::new(move |change| heard.lock().unwrap().push(change)));
        let told_after = |connection| {
            watched.relies_on(&place, connection);
            std::mem::take(&mut *said.lock().unwrap())
        };
        watched.on([place.clone()].into(), Some(4));
        assert_eq!(told_after(Some(6)), [Change::Watched]);
        // An answer that was under way, the sentinels, and what is not read on that connection.
        for connection in [Some(4), Some(3), Some(6), None] {
            assert_eq!(told_after(connection), [], "{connection:?}");
        }
        assert_eq!(told_after(Some(7)), [Change::Lost]);
        assert_eq!(told_after(Some(8)), [], "nothing is believed until it is watched again");
        watched.on([place.clone()].into(), Some(8));
        assert_eq!(told_after(Some(9)), [Change::Watched]);
    }
}
