//! How long something took, many times: median and 99th percentile.

use std::fmt;
use std::time::Duration;

/// Durations of the same thing.
#[derive(Clone, Debug, Default)]
pub struct Durations(Vec<Duration>);

impl Durations {
    /// Adds one.
    pub fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Half of them were no longer than this.
    #[must_use]
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// 99 of 100 were no longer than this.
    #[must_use]
    pub fn p99(&self) -> Duration {
        self.percentile(99)
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.percentile(100)
    }

    /// By the nearest rank: one that was really measured. Panics when there is none.
    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        *sorted.get(rank - 1).expect("something was measured")
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let (median, p99, longest) = (milliseconds(self.median()), milliseconds(self.p99()), milliseconds(self.longest()));
        write!(f, "{} runs: median {median:.2} ms, p99 {p99:.2} ms, longest {longest:.2} ms", self.len())
    }
}
