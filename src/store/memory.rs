//! The store of one process that keeps nothing: for trying things out, and where no disk may be written. Sessions end with the process.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::ready;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::volatile::Volatile;
use super::{
    Admission, Cursor, LoginBounds, LoginRecord, Part, RecordId, Replaced, SealedSession, SessionStore, StoreFuture, StoredSession,
};
use crate::clock::{SharedClock, UnixTime};

/// How many records over their time each write clears away, so that memory follows use even when nobody sweeps.
const SWEPT_PER_WRITE: usize = 8;
/// How many records [`Memory::sweep`] clears in one hold of the lock.
const SWEPT_PER_HOLD: usize = 512;

/// Sessions and login records in maps behind one lock.
pub struct Memory {
    clock: SharedClock,
    state: Mutex<State>,
    volatile: Volatile,
}

#[derive(Default)]
struct State {
    sessions: HashMap<RecordId, SealedSession>,
    index: HashMap<RecordId, HashSet<RecordId>>,
    logins: HashMap<(LoginRecord, RecordId), (UnixTime, Vec<u8>)>,
    /// Flow → the address it counts for, and until when.
    admitted: HashMap<RecordId, (RecordId, UnixTime)>,
    admitted_of: HashMap<RecordId, HashSet<RecordId>>,
    marks: HashMap<RecordId, UnixTime>,
    common: HashMap<RecordId, (UnixTime, Vec<u8>)>,
    /// The same records by the time they are over.
    expiries: BTreeSet<(UnixTime, Kept)>,
    admissions_by_expiry: BTreeSet<(UnixTime, RecordId)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    Session(RecordId),
    Flow(RecordId),
    Attempt(RecordId),
    Mark(RecordId),
    Common(RecordId),
}

impl Kept {
    fn login(kind: LoginRecord, id: RecordId) -> Self {
        match kind {
            LoginRecord::Flow => Self::Flow(id),
            LoginRecord::Attempt => Self::Attempt(id),
        }
    }
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, state: Mutex::default(), volatile: Volatile::default() }
    }

    /// Clears away everything that is over its time; how many records that were.
    pub fn sweep(&self) -> usize {
        let mut swept = 0;
        loop {
            let now = self.clock.now();
            let mut state = self.lock();
            state.prune_admissions(now);
            let now_swept = state.sweep(now, SWEPT_PER_HOLD);
            swept += now_swept;
            if now_swept < SWEPT_PER_HOLD {
                return swept;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything in it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T: Send + 'static>(&self, change: impl FnOnce(&mut State, UnixTime) -> T) -> StoreFuture<'_, T> {
        let now = self.clock.now();
        let mut state = self.lock();
        state.sweep(now, SWEPT_PER_WRITE);
        let result = change(&mut state, now);
        drop(state);
        Box::pin(ready(Ok(result)))
    }

    fn read<T: Send + 'static>(&self, look: impl FnOnce(&State, UnixTime) -> T) -> StoreFuture<'_, T> {
        let result = look(&self.lock(), self.clock.now());
        Box::pin(ready(Ok(result)))
    }
}

impl State {
    fn session(&self, id: &RecordId, now: UnixTime) -> Option<&SealedSession> {
        self.sessions.get(id).filter(|session| session.expires_at > now)
    }

    fn put_session(&mut self, id: RecordId, session: SealedSession) {
        self.delete_session(&id);
        for index in &session.indexes {
            self.index.entry(*index).or_default().insert(id);
        }
        self.expiries.insert((session.expires_at, Kept::Session(id)));
        self.sessions.insert(id, session);
    }

    fn delete_session(&mut self, id: &RecordId) -> Option<SealedSession> {
        let session = self.sessions.remove(id)?;
        self.expiries.remove(&(session.expires_at, Kept::Session(*id)));
        for index in &session.indexes {
            forget(&mut self.index, index, id);
        }
        Some(session)
    }

    fn replace_session(&mut self, id: &RecordId, before: &[u8], sealed: Vec<u8>, now: UnixTime) -> Replaced {
        match self.sessions.get_mut(id).filter(|session| session.expires_at > now) {
            None => Replaced::Gone,
            Some(session) if session.sealed != before => Replaced::Changed,
            Some(session) => {
                session.sealed = sealed;
                Replaced::Replaced
            }
        }
    }

    fn remember(&mut self, mark: RecordId, until: UnixTime, now: UnixTime) -> bool {
        if let Some(before) = self.marks.get(&mark).copied() {
            if before > now {
                return false;
            }
            self.expiries.remove(&(before, Kept::Mark(mark)));
        }
        self.marks.insert(mark, until);
        self.expiries.insert((until, Kept::Mark(mark)));
        true
    }

    fn common(&self, name: &RecordId, now: UnixTime) -> Option<&Vec<u8>> {
        self.common.get(name).filter(|(until, _)| *until > now).map(|(_, sealed)| sealed)
    }

    fn replace_common(&mut self, name: RecordId, before: Option<&[u8]>, sealed: Vec<u8>, until: UnixTime, now: UnixTime) -> bool {
        let as_read = self.common(&name, now).map(Vec::as_slice) == before;
        if as_read {
            if let Some((before, _)) = self.common.insert(name, (until, sealed)) {
                self.expiries.remove(&(before, Kept::Common(name)));
            }
            self.expiries.insert((until, Kept::Common(name)));
        }
        as_read
    }

    fn put_login(&mut self, kind: LoginRecord, id: RecordId, sealed: Vec<u8>, expires_at: UnixTime) {
        self.take_login(kind, id);
        self.expiries.insert((expires_at, Kept::login(kind, id)));
        self.logins.insert((kind, id), (expires_at, sealed));
    }

    fn take_login(&mut self, kind: LoginRecord, id: RecordId) -> Option<(UnixTime, Vec<u8>)> {
        let (expires_at, sealed) = self.logins.remove(&(kind, id))?;
        self.expiries.remove(&(expires_at, Kept::login(kind, id)));
        Some((expires_at, sealed))
    }

    fn admit(&mut self, flow: RecordId, address: RecordId, expires_at: UnixTime, bounds: LoginBounds) -> Admission {
        let address = match self.admitted.get(&flow) {
            Some((address, before)) => {
                self.admissions_by_expiry.remove(&(*before, flow));
                *address
            }
            None => {
                let of_address = self.admitted_of.get(&address).map_or(0, HashSet::len);
                if of_address as u64 >= bounds.per_address {
                    return Admission::TooManyOfAddress;
                }
                if self.admitted.len() as u64 >= bounds.total {
                    return Admission::TooMany;
                }
                address
            }
        };
        self.admitted.insert(flow, (address, expires_at));
        self.admitted_of.entry(address).or_default().insert(flow);
        self.admissions_by_expiry.insert((expires_at, flow));
        Admission::Admitted
    }

    fn release(&mut self, flow: &RecordId) {
        if let Some((address, expires_at)) = self.admitted.remove(flow) {
            self.admissions_by_expiry.remove(&(expires_at, *flow));
            forget(&mut self.admitted_of, &address, flow);
        }
    }

    /// All of them, so that the counts are true; there are never more than the bounds let in.
    fn prune_admissions(&mut self, now: UnixTime) {
        while let Some((_, flow)) = self.admissions_by_expiry.first().copied().filter(|(until, _)| *until <= now) {
            self.release(&flow);
        }
    }

    fn sweep(&mut self, now: UnixTime, most: usize) -> usize {
        let mut swept = 0;
        while let Some((_, kept)) = self.expiries.first().copied().filter(|(until, _)| swept < most && *until <= now) {
            match kept {
                Kept::Session(id) => drop(self.delete_session(&id)),
                Kept::Flow(id) => drop(self.take_login(LoginRecord::Flow, id)),
                Kept::Attempt(id) => drop(self.take_login(LoginRecord::Attempt, id)),
                Kept::Mark(mark) => {
                    self.expiries.pop_first();
                    self.marks.remove(&mark);
                }
                Kept::Common(name) => {
                    self.expiries.pop_first();
                    self.common.remove(&name);
                }
            }
            swept += 1;
        }
        swept
    }
}

fn forget(sets: &mut HashMap<RecordId, HashSet<RecordId>>, set: &RecordId, member: &RecordId) {
    if let Some(members) = sets.get_mut(set) {
        members.remove(member);
        if members.is_empty() {
            sets.remove(set);
        }
    }
}

impl SessionStore for Memory {
    fn put_session(&self, id: RecordId, session: SealedSession) -> StoreFuture<'_, ()> {
        self.write(|state, _| state.put_session(id, session))
    }

    fn session(&self, id: RecordId) -> StoreFuture<'_, Option<StoredSession>> {
        self.read(|state, now| {
            state.session(&id, now).map(|found| StoredSession { sealed: found.sealed.clone(), last_used: found.last_used })
        })
    }

    fn touch_session(&self, id: RecordId, last_used: UnixTime) -> StoreFuture<'_, ()> {
        self.write(|state, _| {
            if let Some(session) = state.sessions.get_mut(&id) {
                session.last_used = session.last_used.max(last_used);
            }
        })
    }

    fn delete_session(&self, id: RecordId) -> StoreFuture<'_, bool> {
        self.write(|state, now| state.delete_session(&id).is_some_and(|session| session.expires_at > now))
    }

    fn sessions_under(&self, index: RecordId) -> StoreFuture<'_, Vec<RecordId>> {
        self.read(|state, _| state.index.get(&index).map(|ids| ids.iter().copied().collect()).unwrap_or_default())
    }

    fn listing(&self, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.read(|state, now| state.session(&id, now).map(|session| session.listing.clone()))
    }

    fn put_login(&self, kind: LoginRecord, id: RecordId, sealed: Vec<u8>, expires_at: UnixTime) -> StoreFuture<'_, ()> {
        self.write(|state, _| state.put_login(kind, id, sealed, expires_at))
    }

    fn login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.read(|state, now| state.logins.get(&(kind, id)).filter(|(until, _)| *until > now).map(|(_, sealed)| sealed.clone()))
    }

    fn take_login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.write(|state, now| state.take_login(kind, id).filter(|(until, _)| *until > now).map(|(_, sealed)| sealed))
    }

    fn admit_login(&self, flow: RecordId, address: RecordId, expires_at: UnixTime, bounds: LoginBounds) -> StoreFuture<'_, Admission> {
        self.write(|state, now| {
            state.prune_admissions(now);
            state.admit(flow, address, expires_at, bounds)
        })
    }

    fn release_login(&self, flow: RecordId, _address: RecordId) -> StoreFuture<'_, ()> {
        self.write(|state, _| state.release(&flow))
    }

    fn replace_session(&self, id: RecordId, before: Vec<u8>, sealed: Vec<u8>) -> StoreFuture<'_, Replaced> {
        self.write(move |state, now| state.replace_session(&id, &before, sealed, now))
    }

    fn all_sessions(&self, _from: Option<Cursor>) -> StoreFuture<'_, Part> {
        self.read(|state, now| (state.sessions.iter().filter(|(_, one)| one.expires_at > now).map(|(id, _)| *id).collect(), None))
    }

    fn lease(&self, name: RecordId, owner: RecordId, length: Duration) -> StoreFuture<'_, bool> {
        Box::pin(ready(Ok(self.volatile.lease(name, owner, length, self.clock.instant()))))
    }

    fn release_lease(&self, name: RecordId, owner: RecordId) -> StoreFuture<'_, ()> {
        self.volatile.release_lease(name, owner);
        Box::pin(ready(Ok(())))
    }

    fn remember(&self, mark: RecordId, until: UnixTime) -> StoreFuture<'_, bool> {
        self.write(move |state, now| state.remember(mark, until, now))
    }

    fn remembered(&self, mark: RecordId) -> StoreFuture<'_, bool> {
        self.read(move |state, now| state.marks.get(&mark).is_some_and(|until| *until > now))
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
        self.read(move |state, now| state.common(&name, now).cloned())
    }

    fn replace_common(&self, name: RecordId, before: Option<Vec<u8>>, sealed: Vec<u8>, until: UnixTime) -> StoreFuture<'_, bool> {
        self.write(move |state, now| state.replace_common(name, before.as_deref(), sealed, until, now))
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use crate::store::contract::{self, Expiry};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_keeps_the_contract() {
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(Memory::new(Arc::clone(&clock) as SharedClock));
        contract::run(store, clock, Expiry::ByClock).await;
    }

    #[tokio::test]
    async fn nothing_is_left_after_its_time() {
        let clock = Arc::new(ManualClock::default());
        let store = Memory::new(Arc::clone(&clock) as SharedClock);
        let until = clock.now().plus(Duration::from_secs(60));
        for number in 0..2000_u16 {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&number.to_be_bytes());
            let session =
                SealedSession { sealed: vec![1], listing: vec![2], indexes: vec![[7; 32], id], last_used: until, expires_at: until };
            store.put_session(id, session).await.unwrap();
            store.put_login(LoginRecord::Flow, id, vec![1], until).await.unwrap();
            store.put_login(LoginRecord::Attempt, id, vec![1], until).await.unwrap();
            store.admit_login(id, [9; 32], until, LoginBounds { per_address: 5000, total: 5000 }).await.unwrap();
            assert!(store.remember(id, until).await.unwrap());
            assert!(store.replace_common(id, None, vec![1], until).await.unwrap());
        }
        assert_eq!(store.sweep(), 0);
        clock.advance(Duration::from_secs(61));
        assert_eq!(store.sweep(), 10000);
        let state = store.lock();
        assert!(state.sessions.is_empty() && state.index.is_empty() && state.logins.is_empty() && state.expiries.is_empty());
        assert!(state.marks.is_empty() && state.common.is_empty());
        assert!(state.admitted.is_empty() && state.admitted_of.is_empty() && state.admissions_by_expiry.is_empty());
    }
}
