//! How long an issuer takes to answer.

use std::future::Future;
use std::sync::Arc;

use crate::clock::SharedClock;
use crate::telemetry::Metrics;

/// Times the calls to one issuer. Clones are the same.
#[derive(Clone)]
pub struct CallTimes {
    issuer: Arc<str>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
}

impl CallTimes {
    /// For calls to `issuer`.
    #[must_use]
    pub fn new(issuer: &str, clock: SharedClock, metrics: Arc<Metrics>) -> Self {
        Self { issuer: issuer.into(), clock, metrics }
    }

    /// Does `work` and notes how long it took. `call` is one of a closed list: `discovery`, `keys`, `client-credentials`, `token-exchange`,
    /// `debug_token`, `me`, `token-check`.
    pub async fn of<T>(&self, call: &'static str, work: impl Future<Output = T>) -> T {
        let began = self.clock.instant();
        let answer = work.await;
        self.metrics.provider_call(&self.issuer, call, self.clock.instant().saturating_duration_since(began));
        answer
    }
}
