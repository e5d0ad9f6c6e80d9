//! How many requests an address takes at once (`connections`), and who waits for one of them to end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many may wait for each place: more would wait in vain.
const WAITING_FOR_EACH_PLACE: usize = 10;

/// The places of one address, all cores and routes together.
pub(super) struct Places {
    free: Arc<Semaphore>,
    most: Mutex<usize>,
    /// So many that are taken are not to come back: there are to be fewer.
    owed: AtomicUsize,
    waiting: AtomicUsize,
}

/// One of them, while it is taken.
pub(super) type Place = OwnedSemaphorePermit;

impl Places {
    /// None, until it is told how many.
    pub(super) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(0)), most: Mutex::default(), owed: AtomicUsize::new(0), waiting: AtomicUsize::new(0) }
    }

    /// There are so many from now on. Where they become fewer, those that are taken stay so until they are given back.
    pub(super) fn become_(&self, most: usize) {
        let mut known = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in *known..most {
            if !self.pay() {
                self.free.add_permits(1);
            }
        }
        if let Some(fewer) = known.checked_sub(most) {
            self.owed.fetch_add(fewer - self.free.forget_permits(fewer), Ordering::Relaxed);
        }
        *known = most;
    }

    /// Whether one is free.
    pub(super) fn is_free(&self) -> bool {
        self.free.available_permits() > 0
    }

    /// Takes one, and waits for it up to `limit`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn take(&self, limit: Duration) -> Result<Place, String> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(place);
        }
        let most = *self.most.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = most.saturating_mul(WAITING_FOR_EACH_PLACE);
        let why = |why: String| format!("{most} at once is its limit, and {why}");
        let _waiting = Waiting::begin(&self.waiting, queue).ok_or_else(|| why(format!("{queue} wait already")))?;
        match tokio::time::timeout(limit, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(why(format!("none ended within {limit:?}"))),
        }
    }

    pub(super) fn give_back(&self, place: Place) {
        if self.pay() {
            place.forget();
        }
    }

    /// One of those that are owed, if any is.
    fn pay(&self) -> bool {
        self.owed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| owed.checked_sub(1)).is_ok()
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let begun = Self(waiting);
        (before < most).then_some(begun)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::on_a_core;
    use super::*;

    #[test]
    fn places_that_become_more_or_fewer_count_those_that_are_taken() {
        on_a_core(async {
            let places = Places::new();
            places.become_(3);
            let mut taken = Vec::new();
            for _ in 0..3 {
                taken.push(places.take(Duration::ZERO).await.unwrap());
            }
            places.become_(4);
            taken.push(places.take(Duration::ZERO).await.unwrap());
            assert!(places.take(Duration::ZERO).await.unwrap_err().contains("4 at once is its limit"));
            places.become_(2);
            // Four are taken, of two: the first two that come back are no places any more.
            for free in [false, false, true] {
                places.give_back(taken.pop().unwrap());
                assert_eq!(places.is_free(), free);
            }
            // One is taken and one free.
            places.become_(1);
            assert!(!places.is_free());
            places.become_(3);
            taken.extend([places.take(Duration::ZERO).await.unwrap(), places.take(Duration::ZERO).await.unwrap()]);
            assert!(!places.is_free() && taken.len() == 3);
        });
    }

    #[test]
    fn what_is_owed_is_forgiven_before_new_places_are_made() {
        on_a_core(async {
            let places = Places::new();
            places.become_(2);
            let taken = [places.take(Duration::ZERO).await.unwrap(), places.take(Duration::ZERO).await.unwrap()];
            places.become_(1);
            places.become_(2);
            assert!(!places.is_free(), "both are taken");
            taken.into_iter().for_each(|place| places.give_back(place));
            let _both = [places.take(Duration::ZERO).await.unwrap(), places.take(Duration::ZERO).await.unwrap()];
            assert!(!places.is_free());
        });
    }

    #[test]
    fn so_many_wait_for_a_place_and_the_next_one_is_told_at_once() {
        on_a_core(async {
            let places = Arc::new(Places::new());
            places.become_(1);
            let held = places.take(Duration::ZERO).await.unwrap();
            let waiting: Vec<_> = (0..WAITING_FOR_EACH_PLACE)
                .map(|_| {
                    let places = Arc::clone(&places);
                    tokio::task::spawn_local(async move { places.take(Duration::from_secs(10)).await.map(|place| places.give_back(place)) })
                })
                .collect();
            tokio::task::yield_now().await;
            let refused = places.take(Duration::from_secs(10)).await.unwrap_err();
            assert!(refused.contains("10 wait already"), "{refused}");
            places.give_back(held);
            for one in waiting {
                assert!(one.await.unwrap().is_ok(), "each gets the place of the one before");
            }
            assert!(places.is_free());
        });
    }
}
