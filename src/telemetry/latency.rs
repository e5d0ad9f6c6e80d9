//! How long upstreams took, and how long the gateway itself: histograms by route, counted on the hot path by additions to numbers that no
//! other core writes. No lock, and an allocation only when a thread first counts for a route.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// The route label of answers that no route gave, as in the count of requests.
const GATEWAY: &str = "doorward";

/// Threads beyond this many share a shard.
const SHARDS: usize = 16;

/// Bounds of a histogram; the last bucket has none.
const BOUNDS: usize = 14;

/// The bounds of both, in microseconds. Upstreams: from a neighbour's memory to a report that takes its time.
const OF_UPSTREAM: [u64; BOUNDS] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000, 30_000_000];
/// Our own time is tens of microseconds; with a token to verify some hundred, with a password to hash some hundred thousand.
const OF_OURS: [u64; BOUNDS] = [25, 50, 100, 200, 400, 800, 1_600, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Which shard this thread counts in.
    static SHARD: Cell<usize> = Cell::new(NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS);
}

/// One thread's part of a histogram, on cache lines of its own.
#[repr(align(64))]
#[derive(Default)]
struct Shard {
    buckets: [AtomicU64; BOUNDS + 1],
    nanos: AtomicU64,
}

/// A shard is made when its thread first counts: routes that nobody asks for take nothing.
#[derive(Default)]
struct Histogram([OnceLock<Box<Shard>>; SHARDS]);

impl Histogram {
    fn add(&self, bounds: &[u64; BOUNDS], took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bounds.partition_point(|bound| bound.saturating_mul(1_000) < nanos);
        if let Some(shard) = self.0.get(SHARD.get()).map(|shard| shard.get_or_init(Box::default))
            && let Some(count) = shard.buckets.get(bucket)
        {
            count.fetch_add(1, Ordering::Relaxed);
            shard.nanos.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// The sum in seconds, and what each bucket holds.
    fn sum(&self) -> (f64, [u64; BOUNDS + 1]) {
        let mut counts = [0; BOUNDS + 1];
        let mut nanos = 0_u64;
        for shard in self.0.iter().filter_map(OnceLock::get) {
            nanos = nanos.wrapping_add(shard.nanos.load(Ordering::Relaxed));
            for (count, bucket) in counts.iter_mut().zip(&shard.buckets) {
                *count += bucket.load(Ordering::Relaxed);
            }
        }
        (Duration::from_nanos(nanos).as_secs_f64(), counts)
    }
}

/// One route's.
struct Row {
    upstream: Histogram,
    own: Histogram,
}

impl Row {
    fn new() -> Arc<Self> {
        Arc::new(Self { upstream: Histogram::default(), own: Histogram::default() })
    }
}

/// Where the latencies of one route table are counted. Tables that come later go on where a route of the same id was counted before.
pub struct RouteLatencies {
    gateway: Arc<Row>,
    routes: Vec<Arc<Row>>,
}

impl RouteLatencies {
    /// A request was answered; `route` is its place among the ids that this was made of, `None`: no route answered. `own` is our own time to
    /// the head of the answer, `upstream` that of the upstream, where one was asked.
    pub fn add(&self, route: Option<usize>, own: Duration, upstream: Option<Duration>) {
        let row = route.map_or(Some(&self.gateway), |index| self.routes.get(index));
        if let Some(row) = row {
            row.own.add(&OF_OURS, own);
            if let Some(upstream) = upstream {
                row.upstream.add(&OF_UPSTREAM, upstream);
            }
        }
    }
}

impl fmt::Debug for RouteLatencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteLatencies").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}

/// All that was ever counted. A route that is gone keeps its numbers: a counter never goes back.
pub(super) struct Latencies {
    gateway: Arc<Row>,
    routes: Mutex<BTreeMap<String, Arc<Row>>>,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self { gateway: Row::new(), routes: Mutex::default() }
    }

    pub(super) fn of_routes(&self, ids: &[String]) -> RouteLatencies {
        let mut known = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = ids.iter().map(|id| Arc::clone(known.entry(id.clone()).or_insert_with(Row::new))).collect();
        RouteLatencies { gateway: Arc::clone(&self.gateway), routes }
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latencies").finish_non_exhaustive()
    }
}

impl Collector for Latencies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let rows: Vec<_> = std::iter::once((GATEWAY, &self.gateway)).chain(routes.iter().map(|(id, row)| (id.as_str(), row))).collect();
        write(
            &mut encoder,
            "upstream",
            "How long an upstream took to the head of its answer, from the moment the request was ready for it; a body that the downstream \
             still sends meanwhile counts with it",
            &OF_UPSTREAM,
            rows.iter().map(|(id, row)| (*id, &row.upstream)),
        )?;
        write(
            &mut encoder,
            "own",
            "The gateway's own part of the time to the head of an answer: without the upstream, and without waiting for a provider, the \
             store, or a form that is still being sent",
            &OF_OURS,
            rows.iter().map(|(id, row)| (*id, &row.own)),
        )
    }
}

fn write<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    bounds: &[u64; BOUNDS],
    rows: impl Iterator<Item = (&'a str, &'a Histogram)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (route, histogram) in rows {
        let (sum, counts) = histogram.sum();
        let total: u64 = counts.iter().sum();
        // A route that was never asked says nothing: with it a scrape grows by twenty lines a route.
        if total == 0 {
            continue;
        }
        #[expect(clippy::cast_precision_loss, reason = "bounds of at most thirty seconds, in microseconds")]
        let bounds = bounds.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts).collect();
        family.encode_family(&[("route", route)])?.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn text(latencies: &Arc<Latencies>) -> String {
        let mut registry = Registry::with_prefix("doorward");
        registry.register_collector(Box::new(Arc::clone(latencies)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn times_fall_into_their_buckets_on_every_thread() {
        let latencies = Arc::new(Latencies::new());
        let counts = latencies.of_routes(&["orders".to_owned(), "never".to_owned()]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counts.add(Some(0), Duration::from_micros(30), Some(Duration::from_millis(5)));
                    }
                });
            }
        });
        counts.add(Some(0), Duration::from_secs(3600), None);
        counts.add(Some(9), Duration::from_secs(1), None); // no such route: counts nothing
        counts.add(None, Duration::from_micros(25), None);
        let text = text(&latencies);
        for line in [
            "# TYPE doorward_own_seconds histogram",
            "# UNIT doorward_own_seconds seconds",
            "doorward_own_seconds_bucket{le=\"0.000025\",route=\"orders\"} 0",
            "doorward_own_seconds_bucket{le=\"0.00005\",route=\"orders\"} 4000",
            "doorward_own_seconds_bucket{le=\"5.0\",route=\"orders\"} 4000",
            "doorward_own_seconds_bucket{le=\"+Inf\",route=\"orders\"} 4001",
            "doorward_own_seconds_count{route=\"orders\"} 4001",
            "doorward_own_seconds_bucket{le=\"0.000025\",route=\"doorward\"} 1",
            "doorward_upstream_seconds_bucket{le=\"0.0025\",route=\"orders\"} 0",
            // A time that is the bound itself belongs to it: "le" is less or equal.
            "doorward_upstream_seconds_bucket{le=\"0.005\",route=\"orders\"} 4000",
            "doorward_upstream_seconds_count{route=\"orders\"} 4000",
            "doorward_upstream_seconds_sum{route=\"orders\"} 20.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
        assert!(!text.contains("never") && !text.contains("doorward_upstream_seconds_count{route=\"doorward\"}"), "{text}");
    }

    #[test]
    fn a_newer_table_goes_on_where_a_route_of_the_same_id_was() {
        let latencies = Arc::new(Latencies::new());
        let before = latencies.of_routes(&["orders".to_owned()]);
        let after = latencies.of_routes(&["new".to_owned(), "orders".to_owned()]);
        before.add(Some(0), Duration::ZERO, None);
        after.add(Some(1), Duration::ZERO, None);
        assert!(text(&latencies).contains("doorward_own_seconds_count{route=\"orders\"} 2\n"));
    }
}
