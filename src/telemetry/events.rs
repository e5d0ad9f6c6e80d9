//! Where `tracing` output goes: to stderr, so that stdout holds access lines only.
//!
//! Security events (target [`super::audit::TARGET`]) pass whatever the level is and are written by the thread that tells them, before it goes on.
//! Other crates are heard from `warn` on: what they say below that is not ours to promise, secrets least of all.

use std::panic::{self, PanicHookInfo};
use std::{error, fmt, io};

use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry, fmt as lines, reload};

use super::audit;
use super::line::LogFormat;
use super::named::Named;

/// The crate whose events the configured level is for.
const OURS: &str = "doorward";

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What keeps the gateway from its work.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happened.
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Events were set up before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitError;

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("events were set up before")
    }
}

impl error::Error for InitError {}

/// Sends events to stderr from now on, panics included. Once in a process.
///
/// # Errors
/// [`InitError`] the second time.
pub fn init(level: LogLevel, format: LogFormat) -> Result<LevelSwitch, InitError> {
    let (subscriber, switch) = subscriber(level, format, io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitError)?;
    panic::set_hook(Box::new(tell_panic));
    Ok(switch)
}

/// Sets how much is told while it is being told.
#[derive(Clone, Debug)]
pub struct LevelSwitch(reload::Handle<Targets, Registry>);

impl LevelSwitch {
    /// From now on.
    pub fn set(&self, level: LogLevel) {
        // It fails only where nobody hears any more.
        let _ = self.0.reload(targets(level));
    }
}

fn targets(level: LogLevel) -> Targets {
    let others = level.filter().min(LevelFilter::WARN);
    Targets::new().with_default(others).with_target(OURS, level.filter()).with_target(audit::TARGET, Level::TRACE)
}

fn subscriber<W>(level: LogLevel, format: LogFormat, writer: W) -> (impl Subscriber + Send + Sync, LevelSwitch)
where
    W: for<'a> lines::MakeWriter<'a> + Send + Sync + 'static,
{
    let (targets, switch) = reload::Layer::new(targets(level));
    let layer = lines::layer().with_writer(writer).with_ansi(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
            Box::new(layer.map_event_format(|inner| Named { inner, format }).with_filter(targets))
        }
        LogFormat::Text => Box::new(layer.map_event_format(|inner| Named { inner, format }).with_filter(targets)),
    };
    (Registry::default().with(layer), LevelSwitch(switch))
}

/// A panic as an event: where, and its message if that stands in the source. A message made at run time may hold anything, so it is kept back.
fn tell_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let message = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(made at run time, withheld)");
    tracing::error!(target: "doorward::panic", place, message, "a defect was met");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(level: LogLevel, format: LogFormat, tell: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        tracing::subscriber::with_default(subscriber(level, format, move || writer.clone()).0, tell);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_level_is_for_our_events_and_others_are_heard_from_warn_on() {
        let text = told(LogLevel::Debug, LogFormat::Text, || {
            tracing::debug!(target: "doorward::server", "one");
            tracing::trace!(target: "doorward::server", "two");
            tracing::info!(target: "h2", "three");
            tracing::warn!(target: "h2", "four");
        });
        assert!(text.contains("one") && text.contains("four") && !text.contains("two") && !text.contains("three"), "{text}");
    }

    #[test]
    fn the_level_can_be_set_while_it_tells() {
        let kept = Kept::default();
        let writer = kept.clone();
        let (subscriber, switch) = subscriber(LogLevel::Info, LogFormat::Text, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let tell = |n: u8| tracing::debug!(target: "doorward::server", n, "said");
            tell(1);
            switch.set(LogLevel::Debug);
            tell(2);
            switch.set(LogLevel::Error);
            tell(3);
            tracing::info!(target: audit::TARGET, n = 4, "said");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("n=2") && text.contains("n=4") && text.lines().count() == 2, "{text}");
    }

    #[test]
    fn security_events_pass_at_every_level() {
        let text = told(LogLevel::Error, LogFormat::Text, || {
            tracing::info!(target: "doorward::server", "one");
            tracing::info!(target: audit::TARGET, "two");
            tracing::warn!(target: "h2", "three");
        });
        assert!(text.contains("two") && !text.contains("one") && !text.contains("three"), "{text}");
    }

    #[test]
    fn an_event_is_one_line_whatever_its_fields_hold() {
        let hostile = "x\r\n2026-01-01 ERROR forged \u{1b}[31m\u{2028}";
        let text = told(LogLevel::Info, LogFormat::Text, || tracing::info!(target: audit::TARGET, detail = hostile, "refused"));
        assert!(text.lines().count() == 1 && !text.contains('\r') && !text.contains('\u{1b}'), "{text:?}");
        let text = told(LogLevel::Info, LogFormat::Json, || tracing::info!(target: audit::TARGET, detail = hostile, "refused"));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((line["detail"].as_str(), line["message"].as_str()), (Some(hostile), Some("refused")));
        assert_eq!(line["target"].as_str(), Some("doorward::security"));
    }

    #[test]
    fn a_panic_tells_its_place_and_no_value() {
        let text = told(LogLevel::Info, LogFormat::Json, || {
            // The hook is the process's: it is put back before others panic.
            let before = panic::take_hook();
            panic::set_hook(Box::new(tell_panic));
            let value = String::from("hunter2");
            let caught = panic::catch_unwind(|| panic!("the value is {value}"));
            panic::set_hook(before);
            assert!(caught.is_err());
        });
        assert!(text.contains("events.rs:") && !text.contains("hunter2"), "{text}");
    }
}
