//! Time as a value. This file alone reads the machine's clocks; everything else is given a [`Clock`] or a time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Whole seconds since 1970-01-01T00:00:00Z, as in JWT's `NumericDate` (RFC 7519 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The time `by` later; stops at the end of time instead of wrapping.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_secs()))
    }

    /// The time `by` earlier; stops at 1970.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_secs()))
    }

    /// How long it is from `earlier` to `self`; zero when `earlier` lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for UnixTime {
    /// RFC 3339 in UTC. Years past 9999 (only ever configured, never reached) print as seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 253_402_300_800 {
            let time = UNIX_EPOCH + Duration::from_secs(self.0);
            humantime::format_rfc3339_seconds(time).fmt(f)
        } else {
            write!(f, "@{}", self.0)
        }
    }
}

/// Where the gateway's times come from. Lifetimes are judged by [`Clock::now`]; durations of work by [`Clock::instant`].
pub trait Clock: Send + Sync {
    /// The time of day, in whole seconds.
    fn now(&self) -> UnixTime;
    /// The time of day with its fraction, for log lines.
    fn wall(&self) -> SystemTime;
    /// A point on the monotonic clock, for latencies.
    fn instant(&self) -> Instant;
}

/// How the parts of the gateway hold their clock.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        seconds(self.wall())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// The machine's clock plus an offset that a test moves: time passes by [`ManualClock::advance`], never by sleeping.
#[derive(Debug, Default)]
pub struct ManualClock {
    ahead_seconds: AtomicU64,
}

impl ManualClock {
    /// How far it was moved so far.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        Duration::from_secs(self.ahead_seconds.load(Ordering::SeqCst))
    }

    /// Moves the time of day forward.
    pub fn advance(&self, by: Duration) {
        self.ahead_seconds.fetch_add(by.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        seconds(self.wall())
    }

    fn wall(&self) -> SystemTime {
        SystemClock.wall() + Duration::from_secs(self.ahead_seconds.load(Ordering::SeqCst))
    }

    fn instant(&self) -> Instant {
        SystemClock.instant()
    }
}

fn seconds(time: SystemTime) -> UnixTime {
    UnixTime(time.duration_since(UNIX_EPOCH).map_or(0, |past| past.as_secs()))
}
