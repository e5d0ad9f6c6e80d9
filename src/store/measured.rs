//! A store whose calls are timed and whose outages are counted.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Admission, Cursor, LoginBounds, LoginRecord, OnChange, Part, RecordId, Replaced, SealedSession, SessionStore, StoreFuture,
    StoredSession,
};
use crate::clock::{SharedClock, UnixTime};
use crate::fault::Outage;
use crate::telemetry::Metrics;

/// Times another store.
pub struct Measured {
    store: Arc<dyn SessionStore>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
}

impl Measured {
    /// Around `store`.
    #[must_use]
    pub const fn new(store: Arc<dyn SessionStore>, metrics: Arc<Metrics>, clock: SharedClock) -> Self {
        Self { store, metrics, clock }
    }

    fn timed<'a, T, F>(&'a self, operation: &'static str, call: F) -> StoreFuture<'a, T>
    where
        T: 'a,
        F: Future<Output = Result<T, Outage>> + Send + 'a,
    {
        Box::pin(async move {
            let began = self.clock.instant();
            let answer = call.await;
            self.metrics.store_call(operation, self.clock.instant().saturating_duration_since(began));
            answer
        })
    }
}

impl SessionStore for Measured {
    fn put_session(&self, id: RecordId, session: SealedSession) -> StoreFuture<'_, ()> {
        self.timed("put_session", self.store.put_session(id, session))
    }

    fn session(&self, id: RecordId) -> StoreFuture<'_, Option<StoredSession>> {
        self.timed("session", self.store.session(id))
    }

    fn touch_session(&self, id: RecordId, last_used: UnixTime) -> StoreFuture<'_, ()> {
        self.timed("touch_session", self.store.touch_session(id, last_used))
    }

    fn delete_session(&self, id: RecordId) -> StoreFuture<'_, bool> {
        self.timed("delete_session", self.store.delete_session(id))
    }

    fn sessions_under(&self, index: RecordId) -> StoreFuture<'_, Vec<RecordId>> {
        self.timed("sessions_under", self.store.sessions_under(index))
    }

    fn listing(&self, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.timed("listing", self.store.listing(id))
    }

    fn put_login(&self, kind: LoginRecord, id: RecordId, sealed: Vec<u8>, expires_at: UnixTime) -> StoreFuture<'_, ()> {
        self.timed("put_login", self.store.put_login(kind, id, sealed, expires_at))
    }

    fn login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.timed("login", self.store.login(kind, id))
    }

    fn take_login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.timed("take_login", self.store.take_login(kind, id))
    }

    fn admit_login(&self, flow: RecordId, address: RecordId, expires_at: UnixTime, bounds: LoginBounds) -> StoreFuture<'_, Admission> {
        self.timed("admit_login", self.store.admit_login(flow, address, expires_at, bounds))
    }

    fn release_login(&self, flow: RecordId, address: RecordId) -> StoreFuture<'_, ()> {
        self.timed("release_login", self.store.release_login(flow, address))
    }

    fn replace_session(&self, id: RecordId, before: Vec<u8>, sealed: Vec<u8>) -> StoreFuture<'_, Replaced> {
        self.timed("replace_session", self.store.replace_session(id, before, sealed))
    }

    fn all_sessions(&self, from: Option<Cursor>) -> StoreFuture<'_, Part> {
        self.timed("all_sessions", self.store.all_sessions(from))
    }

    fn lease(&self, name: RecordId, owner: RecordId, length: Duration) -> StoreFuture<'_, bool> {
        self.timed("lease", self.store.lease(name, owner, length))
    }

    fn release_lease(&self, name: RecordId, owner: RecordId) -> StoreFuture<'_, ()> {
        self.timed("release_lease", self.store.release_lease(name, owner))
    }

    fn remember(&self, mark: RecordId, until: UnixTime) -> StoreFuture<'_, bool> {
        self.timed("remember", self.store.remember(mark, until))
    }

    fn remembered(&self, mark: RecordId) -> StoreFuture<'_, bool> {
        self.timed("remembered", self.store.remembered(mark))
    }

    fn count(&self, name: RecordId, window: Duration) -> StoreFuture<'_, u64> {
        self.timed("count", self.store.count(name, window))
    }

    fn counted(&self, name: RecordId) -> StoreFuture<'_, u64> {
        self.timed("counted", self.store.counted(name))
    }

    fn forget_count(&self, name: RecordId) -> StoreFuture<'_, ()> {
        self.timed("forget_count", self.store.forget_count(name))
    }

    fn common(&self, name: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.timed("common", self.store.common(name))
    }

    fn replace_common(&self, name: RecordId, before: Option<Vec<u8>>, sealed: Vec<u8>, until: UnixTime) -> StoreFuture<'_, bool> {
        self.timed("replace_common", self.store.replace_common(name, before, sealed, until))
    }

    fn watch(&self, told: OnChange) {
        self.store.watch(told);
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        self.timed("ping", self.store.ping())
    }
}
