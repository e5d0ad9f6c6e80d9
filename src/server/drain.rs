//! How the gateway comes and goes: one stage after the other, never back.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Where in its life the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not everything is there yet.
    Starting,
    /// Serving and ready.
    Serving,
    /// Serving still, and not ready any more: balancers have `drain.delay` to notice.
    Announced,
    /// Listeners are closed; what is in flight finishes, connections end after it.
    Draining,
    /// The deadline has passed or nothing is left; whatever remains is dropped.
    Ended,
}

/// How a drain came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything finished.
    Finished,
    /// The deadline passed first.
    CutOff,
}

/// The stage, seen from everywhere: clones are the same, on all threads.
#[derive(Clone, Debug)]
pub struct Drain(Arc<watch::Sender<Stage>>);

impl Drain {
    /// At [`Stage::Starting`].
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Stage::Starting)))
    }

    /// The stage now.
    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Whether balancers are to send requests here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.stage() == Stage::Serving
    }

    /// Moves on to `stage`; a stage that has passed is not entered again.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let forward = *now < stage;
            if forward {
                *now = stage;
            }
            forward
        });
    }

    /// Waits until `stage` is reached or passed. `reached(Stage::Ended)` is what ends tunnels and streams that never end by themselves.
    pub async fn reached(&self, stage: Stage) {
        let mut stages = self.0.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = stages.wait_for(|now| *now >= stage).await;
    }

    /// Runs the drain to its end: announces it, waits `delay` with listeners open, then lets everything finish for at most `deadline`.
    /// `emptied` resolves when no connection and no task is left.
    pub async fn run(&self, delay: Duration, deadline: Duration, emptied: impl Future<Output = ()>) -> Drained {
        self.advance(Stage::Announced);
        sleep(delay).await;
        self.advance(Stage::Draining);
        let finished = timeout(deadline, emptied).await;
        self.advance(Stage::Ended);
        if finished.is_ok() { Drained::Finished } else { Drained::CutOff }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn stages_only_move_on() {
        let drain = Drain::new();
        assert!(!drain.is_ready());
        drain.advance(Stage::Serving);
        assert!(drain.is_ready());
        assert_eq!(drain.run(Duration::ZERO, Duration::from_secs(5), ready(())).await, Drained::Finished);
        drain.advance(Stage::Serving);
        assert_eq!(drain.stage(), Stage::Ended);
        drain.reached(Stage::Draining).await;
    }

    #[tokio::test]
    async fn readiness_goes_before_the_listeners_do_and_the_deadline_ends_the_wait() {
        let drain = Drain::new();
        drain.advance(Stage::Serving);
        let run = tokio::task::LocalSet::new();
        run.run_until(async {
            let task = tokio::task::spawn_local({
                let drain = drain.clone();
                async move { drain.run(Duration::from_millis(50), Duration::from_millis(50), pending()).await }
            });
            drain.reached(Stage::Announced).await;
            assert!(!drain.is_ready() && drain.stage() == Stage::Announced);
            assert_eq!(task.await.unwrap(), Drained::CutOff);
            assert_eq!(drain.stage(), Stage::Ended);
        })
        .await;
    }
}
