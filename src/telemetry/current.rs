//! Which request a thread is at work for: what is told meanwhile names it, and what it waits for outside is known.
//!
//! Neither is handed from function to function: an event may be told far below, where nobody knows of requests.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::trace::TraceContext;
use crate::clock::{Clock as _, SystemClock};

struct Current {
    trace: Cell<Option<TraceContext>>,
    waited: Cell<Duration>,
    outside: Cell<bool>,
}

thread_local! {
    static CURRENT: Current =
        const { Current { trace: Cell::new(None), waited: Cell::new(Duration::ZERO), outside: Cell::new(false) } };
}

/// The request that this thread is at work for.
#[must_use]
pub fn trace() -> Option<TraceContext> {
    // A thread that is just ending has none.
    CURRENT.try_with(|current| current.trace.get()).ok().flatten()
}

/// Does `work` for a request. Gives what came of it, and how long of that was spent in [`outside`].
pub fn at_work<F: Future>(trace: TraceContext, work: F) -> AtWork<F> {
    AtWork { work, trace, waited: Duration::ZERO }
}

/// Does `work` for the request of whoever calls this now, wherever it is polled.
pub fn go_on<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    let trace = trace();
    async move {
        match trace {
            Some(trace) => at_work(trace, work).await.0,
            None => work.await,
        }
    }
}

/// Waits for somebody else (a provider, the store, what the downstream still has to send): none of it is the gateway's own time.
pub fn outside<F: Future>(wait: F) -> Outside<F> {
    Outside { wait, began: None }
}

pin_project! {
    /// Of [`at_work`].
    pub struct AtWork<F> {
        #[pin]
        work: F,
        trace: TraceContext,
        waited: Duration,
    }
}

impl<F: Future> Future for AtWork<F> {
    type Output = (F::Output, Duration);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = Entered::new(*this.trace, *this.waited);
        let done = this.work.poll(context);
        *this.waited = CURRENT.with(|current| current.waited.get());
        drop(entered);
        done.map(|output| (output, *this.waited))
    }
}

/// Puts back what was there before, also when the work panics.
struct Entered {
    trace: Option<TraceContext>,
    waited: Duration,
    outside: bool,
}

impl Entered {
    fn new(trace: TraceContext, waited: Duration) -> Self {
        CURRENT.with(|current| Self {
            trace: current.trace.replace(Some(trace)),
            waited: current.waited.replace(waited),
            outside: current.outside.replace(false),
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| {
            current.trace.set(self.trace);
            current.waited.set(self.waited);
            current.outside.set(self.outside);
        });
    }
}

pin_project! {
    /// Of [`outside`].
    pub struct Outside<F> {
        #[pin]
        wait: F,
        began: Option<Instant>,
    }
}

impl<F: Future> Future for Outside<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // A wait within a wait counts once.
        let counts = CURRENT.with(|current| current.trace.get().is_some() && !current.outside.get());
        if !counts {
            return this.wait.poll(context);
        }
        // The machine's clock in any case: it is a latency, and no clock for tests moves those.
        let began = *this.began.get_or_insert_with(|| SystemClock.instant());
        let within = Within::new();
        let done = this.wait.poll(context);
        drop(within);
        if done.is_ready() {
            let took = SystemClock.instant().saturating_duration_since(began);
            CURRENT.with(|current| current.waited.set(current.waited.get() + took));
        }
        done
    }
}

struct Within;

impl Within {
    fn new() -> Self {
        CURRENT.with(|current| current.outside.set(true));
        Self
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        CURRENT.with(|current| current.outside.set(false));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::super::trace::{Ids, Sampling};
    use super::*;

    fn context() -> TraceContext {
        TraceContext::of(&HeaderMap::new(), &Ids::new(), Sampling::Off)
    }

    #[tokio::test]
    async fn two_requests_on_one_thread_are_told_apart() {
        let (one, other) = (context(), context());
        let work = |of: TraceContext| async move {
            for _ in 0..5 {
                assert_eq!(trace(), Some(of));
                tokio::task::yield_now().await;
            }
            trace()
        };
        let (left, right) = tokio::join!(at_work(one, work(one)), at_work(other, work(other)));
        assert_eq!((left.0, right.0, trace()), (Some(one), Some(other), None));
    }

    #[tokio::test]
    async fn what_is_begun_for_a_request_is_told_of_it_elsewhere() {
        let of = context();
        let mut begun = None;
        at_work(of, async { begun = Some(go_on(async { trace() })) }).await;
        let elsewhere = begun.unwrap();
        assert_eq!(trace(), None);
        assert_eq!(elsewhere.await, Some(of));
        assert_eq!(go_on(async { trace() }).await, None);
    }

    #[tokio::test]
    async fn waits_count_once_and_only_theirs() {
        let pause = || tokio::time::sleep(Duration::from_millis(20));
        let work = async {
            outside(async { outside(pause()).await }).await;
            tokio::time::sleep(Duration::from_millis(400)).await;
            outside(async { 7 }).await
        };
        let (output, waited) = at_work(context(), work).await;
        assert_eq!(output, 7);
        assert!(waited >= Duration::from_millis(19) && waited < Duration::from_millis(400), "{waited:?}");
        // Nobody's wait is counted nowhere.
        outside(pause()).await;
        assert_eq!(at_work(context(), async {}).await.1, Duration::ZERO);
    }

    #[test]
    fn a_panic_leaves_no_request_behind() {
        let caught = std::panic::catch_unwind(|| {
            let mut work = std::pin::pin!(at_work(context(), async { panic!("seen") }));
            let _ = work.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
        });
        assert!(caught.is_err());
        assert_eq!(trace(), None);
    }
}
