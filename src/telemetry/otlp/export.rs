//! Spans on their way to the collector: in batches, from a queue of its own, waited for by nobody.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::span::{Attribute, Span, export_request};
use crate::clock::{SharedClock, UnixTime};
use crate::telemetry::Metrics;

/// Spans in one request at most.
const BATCH: usize = 512;
/// A span waits no longer than this for others.
pub(super) const GATHER: Duration = Duration::from_secs(1);
/// How long is waited before a batch is sent again. After the last one it is given up.
pub(super) const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// How often it is told that the collector takes nothing.
const TOLD_EVERY: Duration = Duration::from_secs(10 * 60);

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// The collector may take it later (OTLP, "OTLP/HTTP Response": 429, 502, 503, 504, or no answer).
    Later(String),
    /// It never will.
    Refused(String),
}

/// Sends the bytes of an `ExportTraceServiceRequest`. Holds the HTTP that other calls go by: this module knows none.
pub type Deliver = Arc<dyn Fn(Vec<u8>) -> Delivery + Send + Sync>;

/// What becomes of a batch.
pub type Delivery = Pin<Box<dyn Future<Output = Result<(), Undelivered>> + Send>>;

/// When it was last told that the collector takes nothing.
#[derive(Debug, Default)]
pub(super) struct Told(Option<UnixTime>);

impl Told {
    /// A batch was lost; whether to tell.
    pub(super) fn lost(&mut self, now: UnixTime) -> bool {
        let due = self.0.is_none_or(|told| now.since(told) >= TOLD_EVERY);
        if due {
            self.0 = Some(now);
        }
        due
    }

    /// A batch was taken; whether to tell.
    pub(super) fn taken(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// Takes spans out of the queue until the process ends.
pub struct Exporter {
    pub(super) spans: mpsc::Receiver<Span>,
    pub(super) flushes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    pub(super) resource: Vec<(&'static str, Attribute)>,
    pub(super) deliver: Deliver,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SharedClock,
    pub(super) again: [Duration; 3],
    /// How long a span waits for others.
    pub(super) gather: Duration,
    pub(super) told: Told,
}

impl Exporter {
    /// Runs for as long as somebody records spans.
    pub async fn run(mut self) {
        // Whoever wants to know that all is sent.
        let mut waiting = VecDeque::new();
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                Some(flush) = self.flushes.recv() => waiting.push_back(flush),
                span = self.spans.recv() => match span {
                    Some(span) => batch.push(span),
                    None => return,
                },
            }
            if waiting.is_empty() {
                self.gather(&mut batch, &mut waiting).await;
            }
            // Whoever waits, waits for what was in the queue when they asked, and that is bounded.
            while !batch.is_empty() || !waiting.is_empty() {
                while batch.len() < BATCH
                    && let Ok(span) = self.spans.try_recv()
                {
                    batch.push(span);
                }
                let full = batch.len() >= BATCH;
                self.send(&batch, &mut waiting).await;
                batch.clear();
                if !full {
                    for flush in waiting.drain(..) {
                        // Who has stopped waiting need not hear of it.
                        let _ = oneshot::Sender::send(flush, ());
                    }
                    break;
                }
            }
        }
    }

    /// Waits for more, until there is enough, it takes too long, or somebody waits.
    async fn gather(&mut self, batch: &mut Vec<Span>, waiting: &mut VecDeque<oneshot::Sender<()>>) {
        let mut over = pin!(sleep(self.gather));
        while batch.len() < BATCH {
            tokio::select! {
                biased;
                Some(flush) = self.flushes.recv() => {
                    waiting.push_back(flush);
                    return;
                }
                () = &mut over => return,
                span = self.spans.recv() => match span {
                    Some(span) => batch.push(span),
                    None => return,
                },
            }
        }
    }

    /// Sends one batch, and again where that may help. While somebody waits it is tried once: they are about to end.
    async fn send(&mut self, batch: &[Span], waiting: &mut VecDeque<oneshot::Sender<()>>) {
        if batch.is_empty() {
            return;
        }
        let bytes = export_request(&self.resource, batch);
        let mut pauses = self.again.into_iter();
        let why = loop {
            match (self.deliver)(bytes.clone()).await {
                Ok(()) => {
                    self.metrics.spans_exported(batch.len() as u64);
                    if self.told.taken() {
                        tracing::info!("the collector takes spans again");
                    }
                    return;
                }
                Err(Undelivered::Refused(why)) => break why,
                Err(Undelivered::Later(why)) => match pauses.next().filter(|_| waiting.is_empty()) {
                    None => break why,
                    Some(pause) => tokio::select! {
                        biased;
                        Some(flush) = self.flushes.recv() => waiting.push_back(flush),
                        () = sleep(pause) => {}
                    },
                },
            }
        };
        self.metrics.spans_dropped(batch.len() as u64);
        if self.told.lost(self.clock.now()) {
            tracing::warn!(detail = why, "the collector takes no spans; they are dropped and counted, and requests go on as ever");
        }
    }
}
