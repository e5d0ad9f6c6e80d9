//! What stays open in the name of a session: WebSockets, event streams, uploads, answers without a known end. They end when it ends, wherever that
//! happened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::RecordId;
use crate::clock::UnixTime;
use crate::session::SessionCookie;
use crate::tasks::{Ender, Ending};

/// The open streams of all sessions in this process.
#[derive(Default)]
pub struct Streams(Mutex<HashMap<RecordId, Entry>>);

struct Entry {
    cookie: SessionCookie,
    ender: Ender,
    open: usize,
    /// When the session ends whatever happens.
    ends_at: UnixTime,
}

/// One open stream; it is counted until this is dropped.
pub struct OpenStream {
    streams: Arc<Streams>,
    id: RecordId,
}

impl Streams {
    /// Counts one more stream of this session; the word that ends it.
    pub(super) fn open(self: &Arc<Self>, cookie: &SessionCookie, ends_at: UnixTime) -> Ending {
        let id = cookie.record_id();
        let ending = {
            let mut all = self.lock();
            let entry = all.entry(id).or_insert_with(|| Entry { cookie: cookie.clone(), ender: Ender::new(), open: 0, ends_at });
            entry.open += 1;
            entry.ender.ending()
        };
        ending.guarded(Arc::new(OpenStream { streams: Arc::clone(self), id }))
    }

    /// Whether this session has any.
    pub(super) fn has(&self, id: &RecordId) -> bool {
        self.lock().contains_key(id)
    }

    /// The cookie of this session, if it has any.
    pub(super) fn cookie_of(&self, id: &RecordId) -> Option<SessionCookie> {
        self.lock().get(id).map(|entry| entry.cookie.clone())
    }

    /// Ends those of this session.
    pub(super) fn end(&self, id: &RecordId) {
        // Outside the lock: whoever hears the word may drop its stream at once.
        let entry = self.lock().remove(id);
        if let Some(entry) = entry {
            entry.ender.end();
        }
    }

    /// Ends those whose session reached its end.
    pub(super) fn end_over(&self, now: UnixTime) {
        let over: Vec<RecordId> = self.lock().iter().filter(|(_, entry)| now >= entry.ends_at).map(|(id, _)| *id).collect();
        for id in over {
            self.end(&id);
        }
    }

    /// The cookies of all sessions that have any.
    #[must_use]
    pub fn cookies(&self) -> Vec<SessionCookie> {
        self.lock().values().map(|entry| entry.cookie.clone()).collect()
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().values().map(|entry| entry.open).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RecordId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut all = self.streams.lock();
        if let Some(entry) = all.get_mut(&self.id) {
            entry.open = entry.open.saturating_sub(1);
            if entry.open == 0 {
                all.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_streams_of_a_session_end_with_it_and_with_nobody_else() {
        let (streams, one, other) = (Arc::new(Streams::default()), SessionCookie::new(), SessionCookie::new());
        let (mut first, mut second) = (streams.open(&one, UnixTime(100)), streams.open(&one, UnixTime(100)));
        let mut third = streams.open(&other, UnixTime(200));
        assert_eq!((streams.count(), streams.cookies().len()), (3, 2));
        streams.end(&one.record_id());
        first.ended().await;
        second.ended().await;
        assert!(!streams.has(&one.record_id()) && streams.has(&other.record_id()));
        streams.end_over(UnixTime(199));
        assert!(streams.has(&other.record_id()));
        streams.end_over(UnixTime(200));
        third.ended().await;
        assert_eq!(streams.count(), 0);
    }

    #[test]
    fn a_stream_counts_until_the_last_who_listens_is_gone() {
        let (streams, cookie) = (Arc::new(Streams::default()), SessionCookie::new());
        let ending = streams.open(&cookie, UnixTime(100));
        let heard_elsewhere = ending.clone();
        let another = streams.open(&cookie, UnixTime(100));
        drop(ending);
        assert_eq!(streams.count(), 2);
        drop(heard_elsewhere);
        assert_eq!(streams.count(), 1);
        drop(another);
        assert!(!streams.has(&cookie.record_id()));
    }
}
