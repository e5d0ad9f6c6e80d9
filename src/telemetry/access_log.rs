//! One line per request, built by hand and written by a thread of its own: the request path never waits for whoever reads the log.
//!
//! Each core appends to a buffer of its own; the writer thread takes all buffers every [`FLUSH_EVERY`], sooner when one is filling. While the
//! sink takes nothing the buffers grow to [`BUFFER_BYTES`] and further lines are dropped and counted.

use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};
use std::{io, mem};

use http::Method;

use super::line::{LogFormat, Stamp, push_address, push_millis, push_number, push_quoted, push_text};
use super::metrics::Metrics;
use super::trace::{RequestId, TraceId};
use crate::credential::CredentialKind;
use crate::reason::Reason;

/// No line waits longer than this for the writer.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// The writer is woken when a core has this much.
const WAKE_BYTES: usize = 64 * 1024;
/// What one core keeps at most.
const BUFFER_BYTES: usize = 1024 * 1024;

/// What is said of a request. There is no query in it: queries carry codes and tokens.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// When the request began.
    pub at: SystemTime,
    /// Its id.
    pub request_id: RequestId,
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Who connected, by the walk over trusted proxies.
    pub address: IpAddr,
    /// The method.
    pub method: &'a Method,
    /// The host on the outside.
    pub host: &'a str,
    /// The path without its query.
    pub path: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// Why it was this answer.
    pub reason: Reason,
    /// The reason that it would have been refused for, were its route's policy not on trial.
    pub would_be: Option<Reason>,
    /// What was found, where the reason does not say it all.
    pub detail: Option<&'a str>,
    /// In forward-auth, the request that was asked about: method, host and path.
    pub about: Option<&'a str>,
    /// The route's id.
    pub route: Option<&'a str>,
    /// What somebody was known by.
    pub credential: Option<CredentialKind>,
    /// Who it was.
    pub user: Option<&'a str>,
    /// From the head of the request to the end of the answer.
    pub duration: Duration,
    /// How much of it was the wait for the upstream's head.
    pub upstream: Option<Duration>,
    /// Bytes of the answer's body.
    pub bytes: Option<u64>,
}

/// The log itself: the writer thread and the buffers it empties.
pub struct AccessLog {
    shared: Arc<Shared>,
    writer: Thread,
    written: Receiver<()>,
}

struct Shared {
    format: LogFormat,
    buffers: Mutex<Vec<Arc<Mutex<Buffer>>>>,
    closing: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    lines: u64,
    stamp: Stamp,
}

impl AccessLog {
    /// Starts the writer thread. `sink` is meant to be stdout; it may block for as long as it likes.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(format: LogFormat, sink: Box<dyn Write + Send>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let shared = Arc::new(Shared { format, buffers: Mutex::default(), closing: AtomicBool::new(false), metrics });
        let (done, written) = sync_channel(1);
        let thread = thread::Builder::new().name("doorward-access".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.write_until_closed(sink);
                let _ = done.send(());
            }
        })?;
        Ok(Self { shared, writer: thread.thread().clone(), written })
    }

    /// A buffer for one core.
    #[must_use]
    pub fn lines(&self) -> AccessLines {
        let buffer = Arc::default();
        lock(&self.shared.buffers).push(Arc::clone(&buffer));
        AccessLines { shared: Arc::clone(&self.shared), buffer, writer: self.writer.clone() }
    }

    /// Writes what is left and ends the thread; waits for it no longer than `patience`. Whether everything was written.
    #[must_use]
    pub fn close(self, patience: Duration) -> bool {
        self.shared.closing.store(true, Ordering::Release);
        self.writer.unpark();
        // The thread's end without a word is its end, too.
        !matches!(self.written.recv_timeout(patience), Err(RecvTimeoutError::Timeout))
    }
}

/// Where one core puts its lines.
pub struct AccessLines {
    shared: Arc<Shared>,
    buffer: Arc<Mutex<Buffer>>,
    writer: Thread,
}

impl AccessLines {
    /// Adds a line, or drops and counts it when the buffer is full. The lock is this core's own but for the moment in which the writer swaps
    /// buffers.
    pub fn write(&self, record: &AccessRecord<'_>) {
        let mut buffer = lock(&self.buffer);
        let before = buffer.bytes.len();
        if before >= BUFFER_BYTES {
            drop(buffer);
            self.shared.metrics.access_lines_dropped(1);
            return;
        }
        let Buffer { bytes, lines, stamp } = &mut *buffer;
        match self.shared.format {
            LogFormat::Json => push_json(bytes, stamp, record),
            LogFormat::Text => push_line(bytes, stamp, record),
        }
        *lines += 1;
        let filled = before < WAKE_BYTES && bytes.len() >= WAKE_BYTES;
        drop(buffer);
        if filled {
            self.writer.unpark();
        }
    }
}

impl Shared {
    fn write_until_closed(&self, mut sink: Box<dyn Write + Send>) {
        let mut spare = Vec::new();
        let mut failing = false;
        loop {
            // Read before the buffers are taken: what was added before closing is then written for certain.
            let closing = self.closing.load(Ordering::Acquire);
            let buffers = lock(&self.buffers).clone();
            for buffer in buffers {
                let lines = {
                    let mut buffer = lock(&buffer);
                    mem::swap(&mut buffer.bytes, &mut spare);
                    mem::take(&mut buffer.lines)
                };
                if lines > 0 {
                    let outcome = sink.write_all(&spare).and_then(|()| sink.flush());
                    self.note(&outcome, lines, &mut failing);
                }
                spare.clear();
                // One burst does not keep its memory for ever.
                spare.shrink_to(WAKE_BYTES * 2);
            }
            if closing {
                return;
            }
            thread::park_timeout(FLUSH_EVERY);
        }
    }

    fn note(&self, outcome: &io::Result<()>, lines: u64, failing: &mut bool) {
        match outcome {
            Ok(()) => *failing = false,
            Err(error) => {
                self.metrics.access_lines_dropped(lines);
                // Said once, not five times a second.
                if !mem::replace(failing, true) {
                    tracing::error!(error = error.to_string(), "the access log cannot be written");
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push_json(out: &mut Vec<u8>, stamp: &mut Stamp, record: &AccessRecord<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    stamp.push(out, record.at);
    out.extend_from_slice(b"\",\"kind\":\"access\",\"request_id\":\"");
    out.extend_from_slice(record.request_id.as_str().as_bytes());
    out.extend_from_slice(b"\",\"trace_id\":\"");
    record.trace_id.push(out);
    out.extend_from_slice(b"\",\"address\":\"");
    push_address(out, record.address);
    out.extend_from_slice(b"\",\"method\":");
    push_quoted(out, record.method.as_str());
    out.extend_from_slice(b",\"host\":");
    push_quoted(out, record.host);
    out.extend_from_slice(b",\"path\":");
    push_quoted(out, record.path);
    out.extend_from_slice(b",\"status\":");
    push_number(out, record.status.into());
    out.extend_from_slice(b",\"reason\":\"");
    out.extend_from_slice(record.reason.as_str().as_bytes());
    out.push(b'"');
    if let Some(would_be) = record.would_be {
        out.extend_from_slice(b",\"would_be\":\"");
        out.extend_from_slice(would_be.as_str().as_bytes());
        out.push(b'"');
    }
    if let Some(detail) = record.detail {
        out.extend_from_slice(b",\"detail\":");
        push_quoted(out, detail);
    }
    if let Some(about) = record.about {
        out.extend_from_slice(b",\"about\":");
        push_quoted(out, about);
    }
    if let Some(route) = record.route {
        out.extend_from_slice(b",\"route\":");
        push_quoted(out, route);
    }
    if let Some(credential) = record.credential {
        out.extend_from_slice(b",\"credential\":\"");
        out.extend_from_slice(credential.as_str().as_bytes());
        out.push(b'"');
    }
    if let Some(user) = record.user {
        out.extend_from_slice(b",\"user\":");
        push_quoted(out, user);
    }
    out.extend_from_slice(b",\"ms\":");
    push_millis(out, record.duration);
    if let Some(upstream) = record.upstream {
        out.extend_from_slice(b",\"upstream_ms\":");
        push_millis(out, upstream);
    }
    if let Some(bytes) = record.bytes {
        out.extend_from_slice(b",\"bytes\":");
        push_number(out, bytes);
    }
    out.extend_from_slice(b"}\n");
}

fn push_line(out: &mut Vec<u8>, stamp: &mut Stamp, record: &AccessRecord<'_>) {
    stamp.push(out, record.at);
    out.push(b' ');
    push_number(out, record.status.into());
    out.push(b' ');
    push_text(out, record.method.as_str());
    out.extend_from_slice(b" host=");
    push_text(out, record.host);
    out.extend_from_slice(b" path=");
    push_text(out, record.path);
    out.extend_from_slice(b" reason=");
    out.extend_from_slice(record.reason.as_str().as_bytes());
    if let Some(would_be) = record.would_be {
        out.extend_from_slice(b" would_be=");
        out.extend_from_slice(would_be.as_str().as_bytes());
    }
    if let Some(detail) = record.detail {
        out.extend_from_slice(b" detail=");
        push_text(out, detail);
    }
    if let Some(about) = record.about {
        out.extend_from_slice(b" about=");
        push_text(out, about);
    }
    if let Some(route) = record.route {
        out.extend_from_slice(b" route=");
        push_text(out, route);
    }
    if let Some(credential) = record.credential {
        out.extend_from_slice(b" credential=");
        out.extend_from_slice(credential.as_str().as_bytes());
    }
    if let Some(user) = record.user {
        out.extend_from_slice(b" user=");
        push_text(out, user);
    }
    out.extend_from_slice(b" address=");
    push_address(out, record.address);
    out.extend_from_slice(b" ms=");
    push_millis(out, record.duration);
    if let Some(upstream) = record.upstream {
        out.extend_from_slice(b" upstream_ms=");
        push_millis(out, upstream);
    }
    if let Some(bytes) = record.bytes {
        out.extend_from_slice(b" bytes=");
        push_number(out, bytes);
    }
    out.extend_from_slice(b" request_id=");
    out.extend_from_slice(record.request_id.as_str().as_bytes());
    out.extend_from_slice(b" trace_id=");
    record.trace_id.push(out);
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
