//! What the gateway tells its operators. Nothing in here decides anything.
//!
//! - `access_log`: one line per request, on **stdout**; dropped and counted when nobody takes them, so that requests never wait.
//! - `audit`: security events, on **stderr**, never dropped; `events` is where all `tracing` output goes, `named` adds whose request it is.
//! - `metrics`, `request_counts` and `upstreams`: what `/metrics` shows.
//! - `trace`: request ids and W3C trace context; `current`: which request a thread is at work for.
//! - `latency`: how long upstreams and the gateway itself take. `otlp`: spans for a collector.
//! - `line`: how values are written so that no input can break a line.

pub mod audit;
pub mod current;
pub mod metrics;
pub mod otlp;
pub mod trace;
pub mod upstreams;

mod access_log;
mod events;
mod latency;
mod line;
mod named;
mod request_counts;

pub use access_log::{AccessLines, AccessLog, AccessRecord};
pub use events::{InitError, LevelSwitch, LogLevel, init};
pub use latency::RouteLatencies;
pub use line::LogFormat;
pub use metrics::Metrics;
pub use request_counts::RouteCounts;
pub use trace::{Ids, RequestId, TraceContext};
