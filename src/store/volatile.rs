//! What a store of one process keeps in memory alone: leases and counts. Both are about the next minutes, and a process that ends takes the
//! work with it that its leases were for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::RecordId;

/// Counts at most this many names; beyond it those that end first are forgotten, so that a flood of names stays bounded.
const COUNTS: usize = 100_000;

/// Leases and counts, by points on the monotonic clock.
#[derive(Default)]
pub(super) struct Volatile(Mutex<State>);

#[derive(Default)]
struct State {
    leases: HashMap<RecordId, (RecordId, Instant)>,
    counts: HashMap<RecordId, (u64, Instant)>,
}

impl Volatile {
    pub(super) fn lease(&self, name: RecordId, owner: RecordId, length: Duration, now: Instant) -> bool {
        let mut state = self.lock();
        state.leases.retain(|_, (_, until)| *until > now);
        match state.leases.get(&name) {
            Some((holder, _)) if *holder != owner => false,
            _ => {
                state.leases.insert(name, (owner, now + length));
                true
            }
        }
    }

    pub(super) fn release_lease(&self, name: RecordId, owner: RecordId) {
        let mut state = self.lock();
        if state.leases.get(&name).is_some_and(|(holder, _)| *holder == owner) {
            state.leases.remove(&name);
        }
    }

    pub(super) fn count(&self, name: RecordId, window: Duration, now: Instant) -> u64 {
        let mut state = self.lock();
        if state.counts.len() >= COUNTS && !state.counts.contains_key(&name) {
            state.make_room(now);
        }
        let entry = state.counts.entry(name).or_insert((0, now + window));
        if entry.1 <= now {
            *entry = (0, now + window);
        }
        entry.0 += 1;
        entry.0
    }

    pub(super) fn counted(&self, name: &RecordId, now: Instant) -> u64 {
        self.lock().counts.get(name).filter(|(_, until)| *until > now).map_or(0, |(count, _)| *count)
    }

    pub(super) fn forget_count(&self, name: &RecordId) {
        self.lock().counts.remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything in it could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// First what is over, then the half that ends first.
    fn make_room(&mut self, now: Instant) {
        self.counts.retain(|_, (_, until)| *until > now);
        if self.counts.len() >= COUNTS {
            let mut ends: Vec<Instant> = self.counts.values().map(|(_, until)| *until).collect();
            ends.sort_unstable();
            let middle = ends.get(ends.len() / 2).copied().unwrap_or(now);
            self.counts.retain(|_, (_, until)| *until > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    #[test]
    fn a_flood_of_names_stays_bounded() {
        let (volatile, now) = (Volatile::default(), SystemClock.instant());
        for number in 0..=COUNTS as u64 {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&number.to_be_bytes());
            assert_eq!(volatile.count(name, Duration::from_secs(60) + Duration::from_millis(number), now), 1);
        }
        assert!(volatile.lock().counts.len() <= COUNTS);
        // The latest is still counted.
        let mut latest = [0; 32];
        latest[..8].copy_from_slice(&(COUNTS as u64).to_be_bytes());
        assert_eq!(volatile.counted(&latest, now), 1);
    }
}
