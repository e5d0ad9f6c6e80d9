//! The store of one process on one machine: a redb file.
//!
//! `open` finds or makes the file and says what to do when it cannot; `tables` is what stands in it; `writer` is the one thread that writes,
//! many changes to a transaction, so that logins which come together share a flush to the disk.
//!
//! What a return means: a session that was put, replaced or deleted is on the disk, and so is a mark. Leases and counts are in memory alone.
//! Touches and login records follow within a second, or with the next session: losing them to a crash costs a person one more login at most.
//! Reads run on the blocking pool: from memory they take about a microsecond, but a page that has to come from a slow disk must not stop the
//! thread that carries requests.

mod open;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::future::ready;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redb::{ReadTransaction, ReadableDatabase as _};

pub use open::OpenError;

use super::volatile::Volatile;
use super::{
    Admission, Cursor, LoginBounds, LoginRecord, Part, RecordId, Replaced, SealedSession, SessionStore, StoreFuture, StoredSession,
};
use crate::clock::{SharedClock, UnixTime};
use crate::fault::Outage;
use open::File;
use tables::Tables;
use writer::{Durability, Writer};

/// How many records over their time go in one transaction, between which others get their turn.
const SWEPT_AT_ONCE: usize = 256;

/// `[store]` for `kind = "embedded"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedSettings {
    /// The file. It and its folder are made when they are not there.
    pub path: PathBuf,
}

/// Sessions and login records in one file.
pub struct Embedded {
    // First, so that it is dropped first: the writer flushes before the file is closed.
    writer: Writer,
    file: Arc<File>,
    clock: SharedClock,
    volatile: Volatile,
}

impl Embedded {
    /// Opens or makes the file. Blocks: after a crash the whole file is read once.
    ///
    /// # Errors
    /// When another process has it open, when it cannot be written, is damaged, or comes from a newer release. The text says what to do.
    pub fn open(settings: &EmbeddedSettings, clock: SharedClock) -> Result<Self, OpenError> {
        let file = Arc::new(File::open(&settings.path)?);
        let writer = Writer::start(Arc::clone(&file), Arc::clone(&clock)).map_err(|error| OpenError::thread(&settings.path, &error))?;
        Ok(Self { writer, file, clock, volatile: Volatile::default() })
    }

    /// Clears away everything that is over its time; how many records that were.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn sweep(&self) -> Result<u64, Outage> {
        let mut swept = 0;
        loop {
            let now = self.clock.now();
            let now_swept = self.writer.write(Durability::Eventual, move |tables| tables.sweep(now, SWEPT_AT_ONCE)).await?;
            swept += now_swept as u64;
            if now_swept < SWEPT_AT_ONCE {
                return Ok(swept);
            }
        }
    }

    /// Sweeps again and again, for the life of the process. A sweep that fails is made up for by the next.
    pub async fn sweep_every(self: Arc<Self>, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            drop(self.sweep().await);
        }
    }

    fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, redb::Error> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        Box::pin(self.writer.write(durability, change))
    }

    fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&ReadTransaction, UnixTime) -> Result<T, redb::Error> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let file = Arc::clone(&self.file);
        let now = self.clock.now();
        Box::pin(async move {
            let reading = tokio::task::spawn_blocking(move || file.with(|database| look(&database.begin_read()?, now)));
            // redb panics over some pages that were tampered with.
            let read =
                reading.await.map_err(|error| Outage::store(format_args!("reading broke off ({error}); the file may be damaged")))?;
            read.map_err(Outage::store)
        })
    }
}

impl SessionStore for Embedded {
    fn put_session(&self, id: RecordId, session: SealedSession) -> StoreFuture<'_, ()> {
        self.write(Durability::Immediate, move |tables| tables.put_session(&id, &session))
    }

    fn session(&self, id: RecordId) -> StoreFuture<'_, Option<StoredSession>> {
        self.read(move |reading, now| tables::session(reading, &id, now))
    }

    fn touch_session(&self, id: RecordId, last_used: UnixTime) -> StoreFuture<'_, ()> {
        self.write(Durability::Eventual, move |tables| tables.touch_session(&id, last_used))
    }

    fn delete_session(&self, id: RecordId) -> StoreFuture<'_, bool> {
        let now = self.clock.now();
        self.write(Durability::Immediate, move |tables| Ok(tables.delete_session(&id)?.is_some_and(|until| until > now)))
    }

    fn sessions_under(&self, index: RecordId) -> StoreFuture<'_, Vec<RecordId>> {
        self.read(move |reading, _| tables::sessions_under(reading, &index))
    }

    fn listing(&self, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.read(move |reading, now| tables::listing(reading, &id, now))
    }

    fn put_login(&self, kind: LoginRecord, id: RecordId, sealed: Vec<u8>, expires_at: UnixTime) -> StoreFuture<'_, ()> {
        self.write(Durability::Eventual, move |tables| tables.put_login(kind, &id, &sealed, expires_at))
    }

    fn login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.read(move |reading, now| tables::login(reading, kind, &id, now))
    }

    fn take_login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        let now = self.clock.now();
        self.write(Durability::Eventual, move |tables| {
            Ok(tables.take_login(kind, &id)?.filter(|(until, _)| *until > now).map(|(_, sealed)| sealed))
        })
    }

    fn admit_login(&self, flow: RecordId, address: RecordId, expires_at: UnixTime, bounds: LoginBounds) -> StoreFuture<'_, Admission> {
        let now = self.clock.now();
        self.write(Durability::Eventual, move |tables| tables.admit(&flow, &address, expires_at, bounds, now))
    }

    fn release_login(&self, flow: RecordId, _address: RecordId) -> StoreFuture<'_, ()> {
        self.write(Durability::Eventual, move |tables| tables.release(&flow))
    }

    fn replace_session(&self, id: RecordId, before: Vec<u8>, sealed: Vec<u8>) -> StoreFuture<'_, Replaced> {
        let now = self.clock.now();
        self.write(Durability::Immediate, move |tables| tables.replace_session(&id, &before, &sealed, now))
    }

    fn all_sessions(&self, from: Option<Cursor>) -> StoreFuture<'_, Part> {
        self.read(move |reading, now| tables::all_sessions(reading, from.as_ref(), now))
    }

    fn lease(&self, name: RecordId, owner: RecordId, length: Duration) -> StoreFuture<'_, bool> {
        Box::pin(ready(Ok(self.volatile.lease(name, owner, length, self.clock.instant()))))
    }

    fn release_lease(&self, name: RecordId, owner: RecordId) -> StoreFuture<'_, ()> {
        self.volatile.release_lease(name, owner);
        Box::pin(ready(Ok(())))
    }

    fn remember(&self, mark: RecordId, until: UnixTime) -> StoreFuture<'_, bool> {
        let now = self.clock.now();
        self.write(Durability::Immediate, move |tables| tables.remember(&mark, until, now))
    }

    fn remembered(&self, mark: RecordId) -> StoreFuture<'_, bool> {
        self.read(move |reading, now| tables::remembered(reading, &mark, now))
    }

    fn count(&self, name: RecordId, window: Duration) -> StoreFuture<'_, u64> {
        Box::pin(ready(Ok(self.volatile.count(name, window, self.clock.instant()))))
    }

    fn counted(&self, name: RecordId) -> StoreFuture<'_, u64> {
        Box::pin(ready(Ok(self.volatile.counted(&name, self.clock.instant()))))
    }

    fn forget_count(&self, name: RecordId) -> StoreFuture<'_, ()> {
        self.volatile.forget_count(&name);
        Box::pin(ready(Ok(())))
    }

    fn common(&self, name: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.read(move |reading, now| tables::common(reading, &name, now))
    }

    fn replace_common(&self, name: RecordId, before: Option<Vec<u8>>, sealed: Vec<u8>, until: UnixTime) -> StoreFuture<'_, bool> {
        let now = self.clock.now();
        self.write(Durability::Immediate, move |tables| tables.replace_common(&name, before.as_deref(), &sealed, until, now))
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        self.read(|_, _| Ok(()))
    }
}
