//! Where passwords are hashed: on threads of their own, few at a time, so that a flood of guesses leaves everything else as fast as before.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fault::Fault;
use crate::reason::Reason;
use crate::tasks::Tasks;

/// How many guesses wait at most. A hash takes some ten milliseconds, so the last of them waits a second or two.
const WAITING: usize = 32;
/// How many are hashed at once at most.
const AT_ONCE: usize = 4;

/// A bounded pool for work that keeps a core busy.
pub(super) struct Hashing {
    places: Arc<Semaphore>,
    running: Arc<Semaphore>,
    tasks: Tasks,
}

/// The right to one piece of work.
pub(super) type Place = OwnedSemaphorePermit;

impl Hashing {
    /// Half of the machine at most, and never all of it where there is more than one core.
    pub(super) fn new(tasks: Tasks) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self::bounded(tasks, (cores / 2).clamp(1, AT_ONCE), WAITING)
    }

    fn bounded(tasks: Tasks, at_once: usize, waiting: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(at_once + waiting)), running: Arc::new(Semaphore::new(at_once)), tasks }
    }

    /// A place in the queue, to be had before anything is counted: what is turned away here was no guess.
    ///
    /// # Errors
    /// [`Reason::PasswordQueue`] when too many wait already.
    pub(super) fn place(&self) -> Result<Place, Fault> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| Fault::new(Reason::PasswordQueue, "too many passwords wait to be checked"))
    }

    /// Does the work when its turn has come. It is done even if nobody waits for it any more.
    ///
    /// # Errors
    /// When the work broke off.
    pub(super) async fn run<T, W>(&self, place: Place, work: W) -> Result<T, Fault>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let running = Arc::clone(&self.running);
        let done = self.tasks.run(async move {
            // Never closed, so that the permit is always had.
            let turn = running.acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let _held = (place, turn);
                work()
            })
            .await
            .ok()
        });
        done.await.flatten().ok_or_else(|| Fault::new(Reason::Internal, "checking a password broke off"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Handle;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn few_are_hashed_at_once_and_few_may_wait() {
        let hashing = Arc::new(Hashing::bounded(Tasks::new(Handle::current()), 1, 2));
        let (go_on, wait) = mpsc::channel::<()>();
        let (started, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let first = tokio::task::JoinSet::from_iter([{
            let (hashing, started) = (Arc::clone(&hashing), started.clone());
            async move {
                let work = move || {
                    started.send(1).unwrap();
                    wait.recv().unwrap();
                };
                hashing.run(hashing.place().unwrap(), work).await
            }
        }]);
        assert_eq!(seen.recv().await, Some(1));
        let second = hashing.run(hashing.place().unwrap(), {
            let started = started.clone();
            move || started.send(2).unwrap()
        });
        let third = hashing.run(hashing.place().unwrap(), move || started.send(3).unwrap());
        let (mut second, mut third) = (Box::pin(second), Box::pin(third));
        // Both take their place; neither begins while the first is at work.
        assert!(futures_pending(&mut second).await && futures_pending(&mut third).await);
        assert_eq!(hashing.place().err().unwrap().reason, Reason::PasswordQueue);
        assert!(seen.try_recv().is_err());
        go_on.send(()).unwrap();
        first.join_all().await.into_iter().for_each(|done| done.unwrap());
        second.await.unwrap();
        third.await.unwrap();
        // In whichever order the pool's threads come to tell.
        let mut told = [seen.recv().await, seen.recv().await];
        told.sort_unstable();
        assert_eq!(told, [Some(2), Some(3)]);
        hashing.run(hashing.place().unwrap(), || ()).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_gives_its_place_back() {
        let hashing = Hashing::bounded(Tasks::new(Handle::current()), 1, 0);
        assert_eq!(hashing.run(hashing.place().unwrap(), || panic!("seen")).await.map(|()| 1).unwrap_err().reason, Reason::Internal);
        assert_eq!(hashing.run(hashing.place().unwrap(), || 1).await, Ok(1));
    }

    async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())).await
    }
}
