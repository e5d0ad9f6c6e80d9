//! When to give up waiting for an answer, for every request of a core at once. A timer of the runtime for each request cost
//! 0.35 µs of 12; here a wait costs a slot, and one task looks at all of them now and then.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// So many times within the limit the waits are looked at; by one part in so many a wait may end late.
const TICKS_PER_LIMIT: u32 = 16;
const SHORTEST_TICK: Duration = Duration::from_millis(5);

/// The waits of one core, all with the same limit.
pub(super) struct Deadlines {
    tick: Duration,
    limit: Duration,
    now: Cell<u64>,
    ticking: Cell<bool>,
    slots: RefCell<Slots>,
}

#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    /// In ticks.
    over_at: u64,
    waker: Option<Waker>,
}

impl Deadlines {
    pub(super) fn new(limit: Duration) -> Rc<Self> {
        let tick = (limit / TICKS_PER_LIMIT).max(SHORTEST_TICK);
        Rc::new(Self { tick, limit, now: Cell::new(0), ticking: Cell::new(false), slots: RefCell::default() })
    }

    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// A wait of the whole limit, from now.
    pub(super) fn wait(self: &Rc<Self>) -> Deadline {
        if !self.ticking.replace(true) {
            tokio::task::spawn_local(Rc::clone(self).run());
        }
        let mut slots = self.slots.borrow_mut();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.all.push(Slot::default());
            slots.all.len() - 1
        });
        drop(slots);
        let deadline = Deadline { of: Rc::clone(self), slot };
        deadline.restart(self.limit);
        deadline
    }

    /// Ticks until nobody waits.
    async fn run(self: Rc<Self>) {
        loop {
            tokio::time::sleep(self.tick).await;
            let now = self.now.get() + 1;
            self.now.set(now);
            let mut slots = self.slots.borrow_mut();
            if slots.free.len() == slots.all.len() {
                // A burst's slots are not kept for good.
                *slots = Slots::default();
                self.ticking.set(false);
                return;
            }
            let over: Vec<Waker> = slots.all.iter_mut().filter(|slot| slot.over_at <= now).filter_map(|slot| slot.waker.take()).collect();
            drop(slots);
            over.into_iter().for_each(Waker::wake);
        }
    }
}

/// One wait.
pub(super) struct Deadline {
    of: Rc<Deadlines>,
    slot: usize,
}

impl Deadline {
    /// Waits for so long, from now. Never less: the tick under way does not count.
    pub(super) fn restart(&self, wait: Duration) {
        let ticks = wait.as_nanos().div_ceil(self.of.tick.as_nanos()).saturating_add(1);
        if let Some(slot) = self.of.slots.borrow_mut().all.get_mut(self.slot) {
            slot.over_at = self.of.now.get().saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX));
        }
    }

    /// Until the time is over.
    pub(super) async fn over(&self) {
        poll_fn(|cx| self.poll_over(cx)).await;
    }

    /// Whether it is; who asks is woken when it becomes so.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        let mut slots = self.of.slots.borrow_mut();
        match slots.all.get_mut(self.slot) {
            Some(slot) if self.of.now.get() < slot.over_at => {
                if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    let before = slot.waker.replace(cx.waker().clone());
                    drop(slots);
                    // As where a wait ends.
                    drop(before);
                }
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut slots = self.of.slots.borrow_mut();
        let waker = slots.all.get_mut(self.slot).and_then(|slot| slot.waker.take());
        slots.free.push(self.slot);
        drop(slots);
        // A waker may own the last hold on a task, whose end may come back here.
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::on_a_core;
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    #[test]
    fn a_wait_is_never_shorter_than_the_limit_and_little_longer() {
        on_a_core(async {
            let limit = Duration::from_millis(160);
            let deadlines = Deadlines::new(limit);
            let begun = SystemClock.instant();
            let first = deadlines.wait();
            tokio::time::sleep(limit / 2).await;
            let second = deadlines.wait();
            let later = SystemClock.instant();
            first.over().await;
            let first = SystemClock.instant() - begun;
            second.over().await;
            let second = SystemClock.instant() - later;
            for waited in [first, second] {
                assert!(waited >= limit && waited < limit * 2, "{waited:?}");
            }
        });
    }

    #[test]
    fn a_waker_that_ends_another_wait_when_it_goes_may_be_replaced() {
        thread_local! {
            static OTHER: RefCell<Option<Deadline>> = const { RefCell::new(None) };
        }
        struct Last;
        impl std::task::Wake for Last {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        impl Drop for Last {
            fn drop(&mut self) {
                OTHER.take();
            }
        }
        on_a_core(async {
            let deadlines = Deadlines::new(Duration::from_millis(80));
            let waiting = deadlines.wait();
            OTHER.set(Some(deadlines.wait()));
            let last = Waker::from(std::sync::Arc::new(Last));
            assert!(waiting.poll_over(&Context::from_waker(&last)).is_pending());
            drop(last);
            assert!(waiting.poll_over(&Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(deadlines.slots.borrow().free.len(), 1);
        });
    }

    #[test]
    fn slots_are_used_again_and_nothing_ticks_for_nobody() {
        on_a_core(async {
            let deadlines = Deadlines::new(Duration::from_millis(80));
            for _ in 0..100 {
                drop((deadlines.wait(), deadlines.wait()));
            }
            assert_eq!(deadlines.slots.borrow().all.len(), 2);
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(!deadlines.ticking.get() && deadlines.slots.borrow().all.is_empty());
            deadlines.wait().over().await;
        });
    }
}
