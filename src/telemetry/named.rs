//! Each event that is told for a request names it: `request_id` and `trace_id`, whoever tells it and wherever.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::current;
use super::line::LogFormat;

/// Adds the names to what another format writes.
pub(super) struct Named<F> {
    pub(super) inner: F,
    pub(super) format: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(trace) = current::trace() else { return self.inner.format_event(context, writer, event) };
        let mut text = String::new();
        self.inner.format_event(context, Writer::new(&mut text), event)?;
        let said = Said::of(event);
        let end = match self.format {
            LogFormat::Json => "}\n",
            LogFormat::Text => "\n",
        };
        // Both formats end so; what ends otherwise is nobody's to change.
        let Some(line) = text.strip_suffix(end) else { return writer.write_str(&text) };
        writer.write_str(line)?;
        for (name, value, there) in
            [("request_id", trace.request_id(), said.request_id), ("trace_id", &trace.trace_id().to_string(), said.trace_id)]
        {
            match (there, self.format) {
                (true, _) => {}
                (false, LogFormat::Json) => write!(writer, ",\"{name}\":\"{value}\"")?,
                (false, LogFormat::Text) => write!(writer, " {name}={value}")?,
            }
        }
        writer.write_str(end)
    }
}

/// What the event says itself.
#[derive(Default)]
struct Said {
    request_id: bool,
    trace_id: bool,
}

impl Said {
    fn of(event: &Event<'_>) -> Self {
        let mut said = Self::default();
        event.record(&mut said);
        said
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, _value: &dyn fmt::Debug) {
        match field.name() {
            "request_id" => self.request_id = true,
            "trace_id" => self.trace_id = true,
            _ => {}
        }
    }
}
