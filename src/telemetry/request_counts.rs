//! Requests by route and reason, counted on the hot path: one addition to a number that no other core writes.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::reason::Reason;

/// The route label of answers that no route gave: endpoints, unknown hosts, malformed requests.
const GATEWAY: &str = "doorward";

/// Threads beyond this many share a shard.
const SHARDS: usize = 16;

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Which shard this thread counts in.
    static SHARD: Cell<usize> = Cell::new(NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS);
}

/// A number for each route and reason; in shards, so that cores do not fight over a cache line. Summed when somebody asks.
pub(super) struct RequestCounts {
    routes: Vec<String>,
    shards: Vec<Vec<AtomicU64>>,
}

impl RequestCounts {
    pub(super) fn new(route_ids: &[String]) -> Self {
        let routes: Vec<String> = std::iter::once(GATEWAY.to_owned()).chain(route_ids.iter().cloned()).collect();
        let numbers = routes.len() * Reason::ALL.len();
        let shards = (0..SHARDS).map(|_| (0..numbers).map(|_| AtomicU64::new(0)).collect()).collect();
        Self { routes, shards }
    }

    /// `route` is an index into the ids given to [`RequestCounts::new`]; an unknown one counts nothing.
    pub(super) fn add(&self, route: Option<usize>, reason: Reason) {
        let row = route.map_or(0, |index| index + 1);
        let number = self.shards.get(SHARD.get()).and_then(|shard| shard.get(row * Reason::ALL.len() + reason as usize));
        if let Some(number) = number {
            number.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sum(&self, index: usize) -> u64 {
        self.shards.iter().filter_map(|shard| shard.get(index)).map(|number| number.load(Ordering::Relaxed)).sum()
    }
}

impl fmt::Debug for RequestCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestCounts").field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl Collector for RequestCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family =
            encoder.encode_descriptor("requests", "Requests by route and by the reason of their answer", None, MetricType::Counter)?;
        for (row, route) in self.routes.iter().enumerate() {
            for reason in Reason::ALL {
                let count = self.sum(row * Reason::ALL.len() + *reason as usize);
                // Reasons that never occurred would be thousands of lines of nothing.
                if count > 0 {
                    let labels = [("route", route.as_str()), ("reason", reason.as_str())];
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        Ok(())
    }
}
