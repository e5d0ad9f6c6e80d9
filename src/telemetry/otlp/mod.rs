//! Traces for a collector: OTLP over HTTP with protocol buffers. Off unless the config names a collector.
//!
//! - `span`: what is told of a request and of each call for it. `wire`: how that is encoded.
//! - `export`: on the way to the collector, in batches.
//!
//! The encoding is our own, of some hundred lines, held in the tests against the types that OpenTelemetry publishes: its crates bring an HTTP or
//! gRPC stack, or a runtime of tasks, and a second notion of what is being worked on.

mod export;
mod span;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use export::{AGAIN, GATHER, Told};
pub use export::{Deliver, Delivery, Exporter, Undelivered};
pub use span::{Attribute, Span, SpanKind, SpanStatus};

use super::metrics::Metrics;
use super::trace::{Ids, Share, TraceContext};
use crate::clock::SharedClock;

/// Spans that wait for the exporter. Beyond it they are dropped and counted.
const QUEUE: usize = 8192;

/// Takes spans from wherever they end; never waits.
pub struct Tracer {
    queue: mpsc::Sender<Span>,
    flushes: mpsc::UnboundedSender<oneshot::Sender<()>>,
    share: Share,
    metrics: Arc<Metrics>,
    clock: SharedClock,
}

impl Tracer {
    /// A tracer, and what takes its spans to the collector; the latter is to be run.
    #[must_use]
    pub fn new(share: Share, service: &str, deliver: Deliver, metrics: Arc<Metrics>, clock: SharedClock) -> (Arc<Self>, Exporter) {
        let (queue, spans) = mpsc::channel(QUEUE);
        let (flush, flushes) = mpsc::unbounded_channel();
        let resource = vec![
            ("service.name", service.into()),
            ("service.version", env!("CARGO_PKG_VERSION").into()),
            ("process.pid", u64::from(std::process::id()).into()),
        ];
        let exporter = Exporter {
            spans,
            flushes,
            resource,
            deliver,
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&clock),
            again: AGAIN,
            gather: GATHER,
            told: Told::default(),
        };
        (Arc::new(Self { queue, flushes: flush, share, metrics, clock }), exporter)
    }

    /// How much of what begins here is recorded.
    #[must_use]
    pub const fn share(&self) -> Share {
        self.share
    }

    /// A span has ended.
    pub fn tell(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.metrics.spans_dropped(1);
        }
    }

    /// A call for the request `of` has just ended after `took`.
    pub(super) fn call(&self, of: TraceContext, name: String, took: Duration, attributes: Vec<(&'static str, Attribute)>) {
        let Some(spans) = of.spans() else { return };
        self.tell(Span {
            trace: of.trace_id(),
            id: call_ids(|ids| ids.span()),
            parent: Some(spans.own),
            remote_parent: false,
            kind: SpanKind::Client,
            name,
            began: self.clock.wall().checked_sub(took).unwrap_or(std::time::UNIX_EPOCH),
            took,
            attributes,
            status: SpanStatus::Unset,
        });
    }

    /// Waits until what was recorded so far is with the collector, or was given up.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.flushes.send(done).is_ok() {
            let _ = wait.await;
        }
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

/// Calls end on threads that have no core's generator.
fn call_ids<T>(with: impl FnOnce(&Ids) -> T) -> T {
    thread_local! {
        static IDS: Ids = Ids::new();
    }
    IDS.with(with)
}
