//! Leaving an address out that fails, for a while.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::UnixTime;

/// `ejection` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// So many failures one after the other; 0: never.
    pub failures: u32,
    /// How long it is left out at first, in whole seconds.
    pub time: Duration,
    /// And at most.
    pub most: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 3, time: Duration::from_secs(10), most: Duration::from_secs(300) }
    }
}

/// What became known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// It is left out for so long.
    Out(Duration),
    /// Its time is over: it counts again, and one failure is enough.
    Back,
}

/// Whether it is to get requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// As many as come.
    Counts,
    /// It was left out, and gets one now to see whether it works again.
    OnTrial,
    /// It got that one, and no more until it has answered or a second is over.
    Tried,
    /// It is left out.
    Out,
}

/// How one address has done, over all cores. Times are Unix seconds, 0 is none.
#[derive(Debug, Default)]
pub(super) struct Record {
    failures: AtomicU32,
    out_until: AtomicU64,
    /// While it is on trial: when it gets its next request.
    next_try: AtomicU64,
    /// When it came back the last time, and for how long it had been out.
    back_at: AtomicU64,
    out_for: AtomicU64,
}

impl Record {
    /// Something was answered.
    pub(super) fn worked(&self) {
        // Read first: on a good day no core writes what all read.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.next_try.load(Ordering::Relaxed) != 0 {
            self.next_try.store(0, Ordering::Relaxed);
        }
    }

    /// No connection, or an answer that is none.
    pub(super) fn failed(&self, rule: Ejection, now: UnixTime) -> Option<Turned> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // On trial one is enough.
        let enough = failures >= rule.failures || self.next_try.load(Ordering::Relaxed) != 0;
        if rule.failures == 0 || !enough || self.out_until.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let (back_at, out_for) = (self.back_at.load(Ordering::Relaxed), self.out_for.load(Ordering::Relaxed));
        // It grows as long as it fails again before it has counted for as long as it was left out.
        let again = out_for != 0 && now.0 < back_at.saturating_add(out_for);
        let time = if again { (out_for.saturating_mul(2)).min(rule.most.as_secs()) } else { rule.time.as_secs() };
        let until = now.0.saturating_add(time).max(1);
        let won = self.out_until.compare_exchange(0, until, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        won.then(|| {
            self.out_for.store(time, Ordering::Relaxed);
            Turned::Out(Duration::from_secs(time))
        })
    }

    /// How it stands; and that its time is over, told to one caller. `now` is asked for only where it matters.
    pub(super) fn standing(&self, now: impl FnOnce() -> UnixTime) -> (Standing, Option<Turned>) {
        let (until, next_try) = (self.out_until.load(Ordering::Relaxed), self.next_try.load(Ordering::Relaxed));
        if until == 0 && next_try == 0 {
            return (Standing::Counts, None);
        }
        let now = now().0;
        if until == 0 {
            return (if now < next_try { Standing::Tried } else { Standing::OnTrial }, None);
        }
        if now < until {
            return (Standing::Out, None);
        }
        self.failures.store(0, Ordering::Relaxed);
        self.next_try.store(until, Ordering::Relaxed);
        self.back_at.store(until, Ordering::Relaxed);
        let won = self.out_until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (Standing::OnTrial, won.then_some(Turned::Back))
    }

    /// Whether a request may go there: on trial to one caller a second.
    pub(super) fn tries(&self, now: impl FnOnce() -> UnixTime) -> bool {
        let next_try = self.next_try.load(Ordering::Relaxed);
        if next_try == 0 {
            return true;
        }
        let now = now().0;
        now >= next_try && self.next_try.compare_exchange(next_try, now.saturating_add(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Ejection = Ejection { failures: 3, time: Duration::from_secs(10), most: Duration::from_secs(35) };

    fn out(record: &Record, now: u64) -> bool {
        record.standing(|| UnixTime(now)).0 == Standing::Out
    }

    fn fail(record: &Record, now: u64) -> Option<u64> {
        match record.failed(RULE, UnixTime(now)) {
            Some(Turned::Out(time)) => Some(time.as_secs()),
            _ => None,
        }
    }

    #[test]
    fn failures_in_a_row_leave_it_out_and_one_success_between_them_does_not() {
        let record = Record::default();
        assert_eq!([fail(&record, 100), fail(&record, 100)], [None, None]);
        record.worked();
        assert_eq!([fail(&record, 100), fail(&record, 100)], [None, None]);
        assert!(!out(&record, 100));
        assert_eq!(fail(&record, 101), Some(10));
        assert!(out(&record, 110) && !out(&record, 111));
    }

    #[test]
    fn the_time_doubles_up_to_the_most_and_begins_anew_after_a_good_while() {
        let record = Record::default();
        assert_eq!([fail(&record, 0), fail(&record, 0), fail(&record, 0)], [None, None, Some(10)]);
        // On trial one failure is enough.
        for (now, time) in [(10, 20), (31, 35), (70, 35)] {
            assert!(!out(&record, now));
            assert_eq!(fail(&record, now), Some(time), "{now}");
        }
        assert!(!out(&record, 105));
        record.worked();
        assert_eq!([fail(&record, 140), fail(&record, 140), fail(&record, 140)], [None, None, Some(10)]);
    }

    #[test]
    fn it_is_told_once_that_it_counts_again_and_what_fails_meanwhile_does_not_prolong_it() {
        let record = Record::default();
        let told: Vec<_> = (0..5).filter_map(|_| record.failed(RULE, UnixTime(100))).collect();
        assert_eq!(told, [Turned::Out(Duration::from_secs(10))]);
        assert_eq!(record.standing(|| UnixTime(110)), (Standing::OnTrial, Some(Turned::Back)));
        assert_eq!(record.standing(|| UnixTime(110)), (Standing::OnTrial, None));
    }

    #[test]
    fn on_trial_it_gets_one_request_a_second_until_one_worked() {
        let record = Record::default();
        (0..3).for_each(|_| assert!(fail(&record, 100).is_none_or(|time| time == 10)));
        let standing = |now: u64| record.standing(|| UnixTime(now)).0;
        let tries = |now: u64| (0..5).filter(|_| record.tries(|| UnixTime(now))).count();
        assert_eq!((standing(109), standing(110)), (Standing::Out, Standing::OnTrial));
        assert_eq!((tries(110), standing(110), standing(111)), (1, Standing::Tried, Standing::OnTrial));
        assert_eq!((tries(111), tries(111), tries(115)), (1, 0, 1));
        record.worked();
        assert_eq!((standing(115), tries(115)), (Standing::Counts, 5));
        assert_eq!(fail(&record, 116), None, "its trial is over");
    }

    #[test]
    fn a_rule_of_zero_never_leaves_out() {
        let record = Record::default();
        let never = Ejection { failures: 0, ..RULE };
        assert!((0..100).all(|now| record.failed(never, UnixTime(now)).is_none()));
        assert_eq!(record.standing(|| UnixTime(100)), (Standing::Counts, None));
    }
}
