//! Writing into a session that is there: new tokens, new claims. One at a time over all processes, and never over an ending.

use std::sync::Arc;
use std::time::Duration;

use super::Sessions;
use crate::fault::Outage;
use crate::session::{Session, SessionCookie};
use crate::store::cache::CachedSession;
use crate::store::{RecordId, Replaced, record};

/// A session as the store has it, read to be written again.
pub struct Renewal {
    /// What it holds now.
    pub session: Session,
    /// Its bytes: what is written replaces these and no others.
    before: Vec<u8>,
}

impl<P: Default + Send + Sync + 'static> Sessions<P> {
    /// Takes the right to renew this session, or prolongs it: whether `owner` has it now.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn lease(&self, cookie: &SessionCookie, owner: RecordId, length: Duration) -> Result<bool, Outage> {
        let id = cookie.record_id();
        self.ask(async move |store| store.lease(id, owner, length).await).await
    }

    /// Gives the right back.
    ///
    /// # Errors
    /// When the store does not answer; the lease ends by itself then.
    pub async fn release_lease(&self, cookie: &SessionCookie, owner: RecordId) -> Result<(), Outage> {
        let id = cookie.record_id();
        self.ask(async move |store| store.release_lease(id, owner).await).await
    }

    /// Reads it from the store, whatever the cache says; `None`: it is gone.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn reload(&self, cookie: &SessionCookie) -> Result<Option<Renewal>, Outage> {
        let id = cookie.record_id();
        let mark = self.cache.as_ref().map(|cache| cache.mark(&id));
        let stored = self.ask(async move |store| store.session(id).await).await?;
        let Some(stored) = stored else { return Ok(None) };
        let Some(session) = record::open_session(&stored.sealed, cookie) else { return Ok(None) };
        if let (Some(cache), Some(mark)) = (&self.cache, mark) {
            let known = cache.get(&id);
            let kept = session.clone().kept(self.tokens_kept);
            if known.as_ref().is_none_or(|known| *known.session != kept) {
                let entry = CachedSession::new(cookie, kept, stored.last_used, self.tokens_kept);
                // Uses that the store has not heard of are uses.
                entry.used_at(known.map_or(stored.last_used, |known| known.last_used()));
                cache.insert(id, mark, Arc::new(entry));
            }
        }
        Ok(Some(Renewal { session, before: stored.sealed }))
    }

    /// Writes `session` in place of what was read, unless it was ended or written by somebody else meanwhile.
    ///
    /// # Errors
    /// When the store does not answer; then it may have been written.
    pub async fn renew(&self, cookie: &SessionCookie, before: &Renewal, session: &Session) -> Result<Replaced, Outage> {
        let id = cookie.record_id();
        let (before, sealed) = (before.before.clone(), record::seal_session(session, cookie));
        let (cache, tokens_kept) = (self.cache.clone(), self.tokens_kept);
        let (cookie, session, now) = (cookie.clone(), session.clone(), self.clock.now());
        self.ask(async move |store| {
            let replaced = store.replace_session(id, before, sealed).await?;
            if let Some(cache) = cache {
                // What was cached is old; what is new is believed only if nobody changes it after the write. The own write may be told by
                // the store as a change too: that costs one more question.
                cache.remove(&id);
                if replaced == Replaced::Replaced {
                    let mark = cache.mark(&id);
                    match store.session(id).await {
                        Ok(Some(stored)) if record::open_session(&stored.sealed, &cookie).as_ref() == Some(&session) => {
                            let entry = CachedSession::new(&cookie, session, stored.last_used, tokens_kept);
                            entry.used_at(now);
                            cache.insert(id, mark, Arc::new(entry));
                        }
                        Ok(_) | Err(_) => {}
                    }
                }
            }
            Ok(replaced)
        })
        .await
    }
}
