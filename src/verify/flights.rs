//! One piece of work for all who want the same at the same time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::memory::TokenHash;
use crate::tasks::Tasks;
use crate::telemetry::current;

/// How much may be under way. Whoever asked may have left long ago, and what they asked about may be made up: it must not pile up without end.
const MOST: usize = 4 * 1024;

type UnderWay<T> = Arc<Mutex<HashMap<TokenHash, watch::Receiver<Option<T>>>>>;

/// Work under way, by the hash of the token that it is about.
pub(super) struct Flights<T> {
    under_way: UnderWay<T>,
    tasks: Tasks,
    most: usize,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { under_way: Arc::default(), tasks, most: MOST }
    }

    /// What comes of the work about `hash`: of that under way, else of `begin`, unless `known` has it by now. It runs to its end though
    /// whoever asked for it has left.
    ///
    /// # Errors
    /// Why there is no outcome: too much is under way, or it was broken off.
    pub(super) async fn join<F>(
        &self,
        hash: TokenHash,
        known: impl FnOnce() -> Option<T>,
        begin: impl FnOnce() -> F,
    ) -> Result<T, &'static str>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (mut outcome, begun) = {
            let mut under_way = lock(&self.under_way);
            if let Some(running) = under_way.get(&hash) {
                (running.clone(), None)
            } else {
                // Whoever knew was told before their work was taken from the list.
                if let Some(known) = known() {
                    return Ok(known);
                }
                if under_way.len() >= self.most {
                    return Err("too many questions are under way");
                }
                let (landed, outcome) = watch::channel(None);
                under_way.insert(hash, outcome.clone());
                (outcome, Some((landed, Listed { under_way: Arc::clone(&self.under_way), hash })))
            }
        };
        // Not while the list is locked: a runtime that is ending drops its work on the spot, and that takes it from the list.
        if let Some((landed, listed)) = begun {
            let work = current::go_on(begin());
            self.tasks.background(async move {
                let done = work.await;
                drop(listed);
                landed.send_replace(Some(done));
            });
        }
        // An error when the sender is gone: the work panicked, or the process is ending.
        current::outside(outcome.wait_for(Option::is_some)).await.ok().and_then(|done| done.clone()).ok_or("the question was broken off")
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
        assert!(outcomes.iter().all(|outcome| outcome.is_ok() && *outcome == outcomes[0]), "{outcomes:?}");
        assert!(other.await.unwrap().is_ok(), "it has work of its own");
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        assert!(lock(&flights.under_way).is_empty());
    }

    #[tokio::test]
    async fn work_that_breaks_off_is_told_and_not_in_the_way() {
        let flights = Flights::<usize>::new(Tasks::new(Handle::current()));
        assert!(flights.join([1; 32], || None, || async { panic!("seen") }).await.is_err());
        assert_eq!(flights.join([1; 32], || None, || async { 7 }).await, Ok(7));
        assert_eq!(flights.join([1; 32], || Some(8), || async { 7 }).await, Ok(8));
    }

    #[tokio::test]
    async fn strangers_pile_up_no_work_without_end() {
        let tasks = Tasks::new(Handle::current());
        let flights = Arc::new(Flights { most: 2, ..Flights::<u8>::new(tasks.clone()) });
        let gate = Arc::new(Semaphore::new(0));
        for hash in 0..2 {
            let (all, gate) = (Arc::clone(&flights), Arc::clone(&gate));
            let asked = tasks.run(async move {
                let work = || async move {
                    gate.acquire().await.unwrap().forget();
                    hash
                };
                all.join([hash; 32], || None, work).await
            });
            // Whoever asked leaves at once.
            drop(asked);
        }
        while lock(&flights.under_way).len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(flights.join([9; 32], || None, || async { 9 }).await, Err("too many questions are under way"));
        assert_eq!(flights.join([9; 32], || Some(9), || async { 0 }).await, Ok(9));
        gate.add_permits(2);
        assert_eq!(flights.join([1; 32], || Some(1), || async { 7 }).await, Ok(1));
        while !lock(&flights.under_way).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(flights.join([9; 32], || None, || async { 9 }).await, Ok(9));
    }

    #[test]
    fn who_asks_while_the_process_ends_is_told_and_does_not_hang() {
        let control = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let flights = Flights::<usize>::new(Tasks::new(control.handle().clone()));
        drop(control);
        let (told, answer) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let asking = tokio::runtime::Builder::new_current_thread().build().unwrap();
            told.send(asking.block_on(flights.join([1; 32], || None, || async { 7 }))).unwrap();
        });
        let answer = answer.recv_timeout(std::time::Duration::from_secs(20)).expect("it hangs");
        assert_eq!(answer, Err("the question was broken off"));
    }
}
