//! What other processes do to sessions, and what that means here: caches forget, open streams end.

use std::sync::Arc;
use std::time::Duration;

use super::Sessions;
use crate::session::SessionCookie;
use crate::store::cache::CachedSession;
use crate::store::{Change, RecordId, record};
use crate::tasks::Ending;

/// How often the ends of sessions with open streams are looked for.
const TICK: Duration = Duration::from_secs(1);
/// A store that did not say whether a session is gone is asked again after this.
const AGAIN: Duration = Duration::from_millis(500);

impl<P: Default + Send + Sync + 'static> Sessions<P> {
    /// Begins to hear of changes and to end streams whose sessions are over. To be called once, before the first request.
    pub fn watch(self: &Arc<Self>) {
        let sessions = Arc::downgrade(self);
        self.store.watch(Arc::new(move |change| {
            if let Some(sessions) = sessions.upgrade() {
                sessions.heard(change);
            }
        }));
        let sessions = Arc::downgrade(self);
        self.tasks.background(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(sessions) = sessions.upgrade() else { return };
                sessions.streams.end_over(sessions.clock.now());
            }
        });
    }

    /// The word that ends a stream which stays open in the name of this session: when the session ends, on whichever replica.
    #[must_use]
    pub fn stream(self: &Arc<Self>, cookie: &SessionCookie, session: &CachedSession<P>) -> Ending {
        let id = cookie.record_id();
        let ends_at = session.session.ends_at.min(session.session.created_at.plus(self.lifetimes.of(session.session.shown_as).absolute));
        let ending = self.streams.open(cookie, ends_at);
        // It may have ended between the decision and this: whoever ends it forgets it first and ends streams then.
        if self.cache.as_ref().is_none_or(|cache| cache.get(&id).is_none()) {
            self.look_again(id, cookie.clone());
        }
        ending
    }

    /// The cookies of sessions with open streams.
    #[must_use]
    pub fn with_streams(&self) -> Vec<SessionCookie> {
        self.streams.cookies()
    }

    /// Ends the streams of a session that goes on elsewhere and does not count here any more.
    pub fn end_streams(&self, cookie: &SessionCookie) {
        self.streams.end(&cookie.record_id());
    }

    /// How many streams are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.count()
    }

    fn heard(self: &Arc<Self>, change: Change) {
        match change {
            Change::Session(id) => {
                self.forget(&id);
                if let Some(cookie) = self.streams.cookie_of(&id) {
                    self.look_again(id, cookie);
                }
            }
            Change::Heard => {
                if let Some(cache) = &self.cache {
                    cache.heard();
                }
            }
            Change::Lost => {
                if let Some(cache) = &self.cache {
                    cache.distrust();
                }
            }
            Change::Watched => {
                if let Some(cache) = &self.cache {
                    cache.trust();
                }
                for cookie in self.streams.cookies() {
                    self.look_again(cookie.record_id(), cookie);
                }
            }
        }
    }

    /// Ends the streams of a session that is gone. A store that does not answer is asked until it does, or until nobody listens.
    fn look_again(self: &Arc<Self>, id: RecordId, cookie: SessionCookie) {
        let sessions = Arc::clone(self);
        self.tasks.background(async move {
            while sessions.streams.has(&id) {
                match sessions.store.session(id).await {
                    Ok(Some(stored)) if record::open_session(&stored.sealed, &cookie).is_some() => return,
                    Ok(_) => return sessions.streams.end(&id),
                    Err(_outage) => tokio::time::sleep(AGAIN).await,
                }
            }
        });
    }
}
