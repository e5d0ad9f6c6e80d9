//! Work that runs to its end though the one who asked for it has left.
//!
//! hyper drops a request's future when the browser goes away. Whatever spends something one-time (a code, a session) is therefore handed to
//! the control runtime with [`Tasks::run`]; draining waits for it. What goes on beside requests is [`Tasks::background`], or
//! [`Tasks::until_dropped`] where it belongs to somebody who may go before the process does.

mod ending;

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use ending::{Ender, Ending};

use crate::telemetry::current;

/// Hands work to the control runtime and knows what is still running.
#[derive(Clone)]
pub struct Tasks {
    control: Handle,
    running: Arc<watch::Sender<usize>>,
}

impl Tasks {
    /// Work will run on `control`.
    #[must_use]
    pub fn new(control: Handle) -> Self {
        Self { control, running: Arc::new(watch::Sender::new(0)) }
    }

    /// Runs `work` on the control runtime, to its end in any case; what it tells names the request that it was begun for. The returned future is only the wait for it; it is `None` when the work
    /// panicked or the process is ending.
    pub fn run<T, F>(&self, work: F) -> impl Future<Output = Option<T>> + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let counted = Counted::new(Arc::clone(&self.running));
        let work = current::go_on(work);
        let task = self.control.spawn(async move {
            let _counted = counted;
            work.await
        });
        // Whatever is done there waits for a network, a disk or a turn: none of it is this thread's own time.
        current::outside(async move { task.await.ok() })
    }

    /// Runs `work` beside everything else until the process ends; draining does not wait for it.
    pub fn background<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.control.spawn(work));
    }

    /// Runs `work` beside everything else until it ends, or until what is returned is dropped: for what outlives no config.
    #[must_use]
    pub fn until_dropped<F>(&self, work: F) -> Ongoing
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Ongoing(self.control.spawn(work).abort_handle())
    }

    /// How much runs on the control runtime, whoever waits for it.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.control.metrics().num_alive_tasks()
    }

    /// Waits until nothing started by [`Tasks::run`] is left.
    pub async fn drained(&self) {
        let mut running = self.running.subscribe();
        // The sender lives in `self`, so the wait cannot end early.
        let _ = running.wait_for(|running| *running == 0).await;
    }
}

/// Work that ends when this is dropped.
#[derive(Debug)]
pub struct Ongoing(AbortHandle);

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Counted(Arc<watch::Sender<usize>>);

impl Counted {
    fn new(running: Arc<watch::Sender<usize>>) -> Self {
        running.send_modify(|running| *running += 1);
        Self(running)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running = running.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_ends_though_nobody_waits() {
        let tasks = Tasks::new(Handle::current());
        let (done, wait) = tokio::sync::oneshot::channel();
        drop(tasks.run(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            done.send(7).unwrap();
        }));
        tasks.drained().await;
        assert_eq!(wait.await, Ok(7));
    }

    #[tokio::test]
    async fn work_that_somebody_holds_ends_when_it_is_dropped() {
        let tasks = Tasks::new(Handle::current());
        let (held, mut gone) = tokio::sync::mpsc::channel::<()>(1);
        let running = tasks.until_dropped(async move {
            let _held = held;
            std::future::pending().await
        });
        tokio::task::yield_now().await;
        assert_eq!(tasks.alive(), 1);
        drop(running);
        assert_eq!(gone.recv().await, None);
    }

    #[tokio::test]
    async fn a_panic_is_none_and_does_not_hold_the_drain() {
        let tasks = Tasks::new(Handle::current());
        assert_eq!(tasks.run(async { panic!("seen") }).await, None::<()>);
        tasks.drained().await;
        assert_eq!(tasks.run(async { 1 }).await, Some(1));
    }
}
