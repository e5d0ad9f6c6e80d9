//! One piece of work for all who want the same at the same time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::memory::TokenHash;
use crate::tasks::Tasks;

type UnderWay<T> = Arc<Mutex<HashMap<TokenHash, watch::Receiver<Option<T>>>>>;

/// Work under way, by the hash of the token that it is about.
pub(super) struct Flights<T> {
    under_way: UnderWay<T>,
    tasks: Tasks,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { under_way: Arc::default(), tasks }
    }

    /// What comes of the work about `hash`: of that under way, else of `begin`, unless `known` has it by now. It runs to its end though
    /// whoever asked for it has left. `None`: it was broken off.
    pub(super) async fn join<F>(&self, hash: TokenHash, known: impl FnOnce() -> Option<T>, begin: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut outcome = {
            let mut under_way = lock(&self.under_way);
            if let Some(running) = under_way.get(&hash) {
                running.clone()
            } else {
                // Whoever knew was told before their work was taken from the list.
                if let Some(known) = known() {
                    return Some(known);
                }
                let (landed, outcome) = watch::channel(None);
                under_way.insert(hash, outcome.clone());
                let listed = Listed { under_way: Arc::clone(&self.under_way), hash };
                let work = begin();
                self.tasks.background(async move {
                    let done = work.await;
                    drop(listed);
                    landed.send_replace(Some(done));
                });
                outcome
            }
        };
        // An error when the sender is gone: the work panicked, or the process is ending.
        outcome.wait_for(Option::is_some).await.ok().and_then(|done| done.clone())
    }
}

/// Takes the work from the list when it ends, in whatever way.
struct Listed<T> {
    under_way: UnderWay<T>,
    hash: TokenHash,
}

impl<T> Drop for Listed<T> {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.hash);
    }
}

fn lock<T>(under_way: &UnderWay<T>) -> MutexGuard<'_, HashMap<TokenHash, watch::Receiver<Option<T>>>> {
    // Nothing below panics half-way through a change.
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::runtime::Handle;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn all_who_want_the_same_share_one_piece_of_work() {
        let flights = Arc::new(Flights::<usize>::new(Tasks::new(Handle::current())));
        let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let join = |hash: u8| {
            let (flights, begun, gate) = (Arc::clone(&flights), Arc::clone(&begun), Arc::clone(&gate));
            Tasks::new(Handle::current()).run(async move {
                let work = || {
                    let number = begun.fetch_add(1, Ordering::SeqCst);
                    async move {
                        gate.acquire().await.unwrap().forget();
                        number
                    }
                };
                flights.join([hash; 32], || None, work).await
            })
        };
        let same: Vec<_> = (0..50).map(|_| join(1)).collect();
        let other = join(2);
        while begun.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        let first = same.into_iter().map(|asked| async { asked.await.unwrap() });
        let mut outcomes = Vec::new();
        for outcome in first {
            outcomes.push(outcome.await);
        }
        assert!(outcomes.iter().all(|outcome| outcome.is_some() && *outcome == outcomes[0]), "{outcomes:?}");
        assert!(other.await.unwrap().is_some(), "it has work of its own");
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        assert!(lock(&flights.under_way).is_empty());
    }

    #[tokio::test]
    async fn work_that_breaks_off_is_told_and_not_in_the_way() {
        let flights = Flights::<usize>::new(Tasks::new(Handle::current()));
        assert_eq!(flights.join([1; 32], || None, || async { panic!("seen") }).await, None);
        assert_eq!(flights.join([1; 32], || None, || async { 7 }).await, Some(7));
        assert_eq!(flights.join([1; 32], || Some(8), || async { 7 }).await, Some(8));
    }
}
