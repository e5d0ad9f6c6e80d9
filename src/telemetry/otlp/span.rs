//! What a span is, and how OTLP writes it: `opentelemetry/proto/trace/v1/trace.proto` and `opentelemetry/proto/common/v1/common.proto` of
//! OTLP 1.x. Numbers in here are the field numbers there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::trace::TraceId;
use super::wire::Message;

/// A text longer than this many bytes is cut: a stranger's path does not fill the collector.
const LONGEST_TEXT: usize = 1024;

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Answers.
    Server = 2,
    /// Asks.
    Client = 3,
}

/// Whether what a span tells of went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanStatus {
    /// Nothing is said of it.
    Unset = 0,
    /// It failed, and not for something that the other side did wrong.
    Error = 2,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Some text; cut where it is long.
    Text(String),
    /// A whole number.
    Number(u64),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        let mut end = text.len().min(LONGEST_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self::Text(text.get(..end).unwrap_or_default().to_owned())
    }
}

impl From<u64> for Attribute {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// A span that has ended. Never in it: queries, cookies, tokens, codes, bodies, who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace: TraceId,
    /// Its own id.
    pub id: u64,
    /// What it is a part of.
    pub parent: Option<u64>,
    /// Whether that was somewhere else.
    pub remote_parent: bool,
    /// Which side of a call.
    pub kind: SpanKind,
    /// What was done, in words of which there are few.
    pub name: String,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What is said of it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Whether it went well.
    pub status: SpanStatus,
}

impl Span {
    fn message(&self) -> Message {
        // `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`, `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`; below them the flags of the `traceparent`.
        const HAS_IS_REMOTE: u32 = 0x100;
        const IS_REMOTE: u32 = 0x200;
        const SAMPLED: u32 = 1;
        let began = self.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut span = Message::default();
        span.bytes(1, &self.trace.bytes()).bytes(2, &self.id.to_be_bytes());
        if let Some(parent) = self.parent {
            span.bytes(4, &parent.to_be_bytes());
        }
        span.text(5, &self.name).number(6, self.kind as u64);
        span.fixed64(7, nanos(began)).fixed64(8, nanos(began.saturating_add(self.took)));
        for (key, value) in &self.attributes {
            span.message(9, &attribute(key, value));
        }
        if self.status != SpanStatus::Unset {
            let mut status = Message::default();
            status.number(3, self.status as u64);
            span.message(15, &status);
        }
        span.fixed32(16, SAMPLED | HAS_IS_REMOTE | if self.remote_parent { IS_REMOTE } else { 0 });
        span
    }
}

fn attribute(key: &str, value: &Attribute) -> Message {
    let mut any = Message::default();
    match value {
        Attribute::Text(text) => any.chosen_bytes(1, text.as_bytes()),
        Attribute::Number(number) => any.chosen_number(3, *number),
    };
    let mut pair = Message::default();
    pair.text(1, key).message(2, &any);
    pair
}

fn nanos(since: Duration) -> u64 {
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// `ExportTraceServiceRequest`: these spans, of this process.
pub(super) fn export_request(resource: &[(&'static str, Attribute)], spans: &[Span]) -> Vec<u8> {
    let mut process = Message::default();
    for (key, value) in resource {
        process.message(1, &attribute(key, value));
    }
    let mut scope = Message::default();
    scope.text(1, "doorward").text(2, env!("CARGO_PKG_VERSION"));
    let mut scope_spans = Message::default();
    scope_spans.message(1, &scope);
    for span in spans {
        scope_spans.message(2, &span.message());
    }
    let mut resource_spans = Message::default();
    resource_spans.message(1, &process).message(2, &scope_spans);
    let mut request = Message::default();
    request.message(1, &resource_spans);
    request.into_bytes()
}
