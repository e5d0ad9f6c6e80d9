//! Requests by route and reason, counted on the hot path: one addition to a number that no other core writes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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

/// One route's: a number for each reason; in shards, so that cores do not fight over a cache line. Summed when somebody asks. A shard is made
/// when its thread first counts: all of them at once would be some 18 KiB for each route that nobody asks for.
#[derive(Default)]
struct Row([OnceLock<Box<[AtomicU64]>>; SHARDS]);

impl Row {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn add(&self, reason: Reason) {
        let Some(shard) = self.0.get(SHARD.get()) else { return };
        let shard = shard.get_or_init(|| Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect());
        if let Some(number) = shard.get(reason as usize) {
            number.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sum(&self, reason: Reason) -> u64 {
        let shards = self.0.iter().filter_map(OnceLock::get);
        shards.filter_map(|shard| shard.get(reason as usize)).map(|number| number.load(Ordering::Relaxed)).sum()
    }
}

/// Where the requests of one route table are counted. Tables that come later go on counting where a route of the same id was counted before.
pub struct RouteCounts {
    gateway: Arc<Row>,
    routes: Vec<Arc<Row>>,
}

impl RouteCounts {
    /// One request was answered; `route` is its place among the ids that this was made of, `None`: no route answered. Costs one addition.
    pub fn add(&self, route: Option<usize>, reason: Reason) {
        match route {
            None => self.gateway.add(reason),
            Some(index) => {
                if let Some(row) = self.routes.get(index) {
                    row.add(reason);
                }
            }
        }
    }
}

impl fmt::Debug for RouteCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteCounts").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}

/// All that was ever counted. A route that a newer config does not have keeps its numbers: a counter never goes back.
pub(super) struct RequestCounts {
    gateway: Arc<Row>,
    routes: Mutex<BTreeMap<String, Arc<Row>>>,
}

impl RequestCounts {
    pub(super) fn new() -> Self {
        Self { gateway: Row::new(), routes: Mutex::default() }
    }

    pub(super) fn of_routes(&self, ids: &[String]) -> RouteCounts {
        let mut known = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = ids.iter().map(|id| Arc::clone(known.entry(id.clone()).or_default())).collect();
        RouteCounts { gateway: Arc::clone(&self.gateway), routes }
    }

    /// A request that no route answered.
    pub(super) fn add(&self, reason: Reason) {
        self.gateway.add(reason);
    }
}

impl fmt::Debug for RequestCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestCounts").finish_non_exhaustive()
    }
}

impl Collector for RequestCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family =
            encoder.encode_descriptor("requests", "Requests by route and by the reason of their answer", None, MetricType::Counter)?;
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = routes.iter().map(|(id, row)| (id.as_str(), row));
        for (route, row) in std::iter::once((GATEWAY, &self.gateway)).chain(routes) {
            for reason in Reason::ALL {
                let count = row.sum(*reason);
                // Reasons that never occurred would be thousands of lines of nothing.
                if count > 0 {
                    let labels = [("route", route), ("reason", reason.as_str())];
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        Ok(())
    }
}
