//! Request ids, and the trace a request belongs to (W3C Trace Context, Level 1).

use std::cell::Cell;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::secret;

/// `traceparent` (W3C Trace Context §3.2).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate` (W3C Trace Context §3.3): vendor data, worth nothing without a `traceparent` that can be read.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Carries the [`RequestId`] upstream.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A fast generator for ids, one per core (SplitMix64). Its numbers are unlikely to repeat and easy to foretell: never for a secret.
pub struct Ids(Cell<u64>);

impl Ids {
    /// Seeded by the system's generator.
    #[must_use]
    pub fn new() -> Self {
        Self(Cell::new(u64::from_ne_bytes(secret::random())))
    }

    /// For a span.
    pub(super) fn span(&self) -> u64 {
        self.next()
    }

    /// Never zero: an id of zeros means "none" in a `traceparent`.
    fn next(&self) -> u64 {
        loop {
            let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.0.set(state);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let mixed = mixed ^ (mixed >> 31);
            if mixed != 0 {
                return mixed;
            }
        }
    }
}

impl Default for Ids {
    fn default() -> Self {
        Self::new()
    }
}

/// Names one request in logs, pages and upstream: 16 hex digits. Always ours, whatever a header says.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// A new one.
    #[must_use]
    pub fn new(ids: &Ids) -> Self {
        let mut digits = [0; 16];
        write_hex(&ids.next().to_be_bytes(), &mut digits);
        Self(digits)
    }

    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Hex digits are always text.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The value of `X-Request-Id`.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        header_value(&self.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names a trace: 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl TraceId {
    /// As it stands in a span.
    pub(super) const fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub(super) fn push(self, out: &mut Vec<u8>) {
        let mut text = [0; 32];
        write_hex(&self.0.to_be_bytes(), &mut text);
        out.extend_from_slice(&text);
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Which traces are recorded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// None: traces pass through.
    Off,
    /// What the downstream says is done; what begins here is recorded by this share.
    AsTold(Share),
    /// By this share, whatever the downstream says: a stranger does not decide what a collector has to bear.
    ByShare(Share),
}

/// How many of all traces, from none to each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    /// `fraction` from 0 to 1; what lies outside counts as the nearer of both.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "within 0 and u64::MAX, and rounded"
    )]
    pub fn new(fraction: f64) -> Self {
        Self((fraction.clamp(0.0, 1.0) * u64::MAX as f64) as u64)
    }

    /// An id is never 0, so that nothing falls into an empty share.
    fn holds(self, ids: &Ids) -> bool {
        self.0 > 0 && ids.next() <= self.0
    }
}

/// The spans of a request that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanIds {
    /// The request's own.
    pub own: u64,
    /// That of the call to the upstream: what the upstream is told as its parent.
    pub upstream: u64,
    /// That of the downstream, which the request's own is a child of.
    pub parent: Option<u64>,
}

/// What names a request: its id, and the trace it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    request: RequestId,
    trace: TraceId,
    origin: TraceOrigin,
    /// The flags for the upstream; `None`: it is told of no trace.
    flags: Option<u8>,
    spans: Option<SpanIds>,
}

/// Where a trace began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceOrigin {
    /// The downstream sent it.
    Downstream,
    /// Here: the downstream sent none, or none that can be read.
    Here,
}

impl TraceContext {
    /// A new request id in the downstream's trace. A `traceparent` that is missing, repeated or malformed begins a new trace (W3C Trace
    /// Context §4.3).
    #[must_use]
    pub fn of(headers: &HeaderMap, ids: &Ids, sampling: Sampling) -> Self {
        let request = RequestId::new(ids);
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let read = match (lines.next(), lines.next()) {
            (Some(line), None) => parse(line.as_bytes()),
            _ => None,
        };
        let (trace, origin) = match &read {
            Some(read) => (read.trace, TraceOrigin::Downstream),
            None => (TraceId((u128::from(ids.next()) << 64) | u128::from(ids.next())), TraceOrigin::Here),
        };
        let recorded = match (sampling, &read) {
            // Whether a trace is recorded is for whoever records it: the flags go on as they came, and where none came none are sent. Ours
            // would say "not sampled", and an upstream that heeds its parent would never trace again.
            (Sampling::Off, read) => return Self { request, trace, origin, flags: read.as_ref().map(|read| read.flags), spans: None },
            (Sampling::AsTold(_), Some(read)) => read.flags & SAMPLED == SAMPLED,
            (Sampling::AsTold(share) | Sampling::ByShare(share), _) => share.holds(ids),
        };
        let spans = recorded.then(|| SpanIds { own: ids.next(), upstream: ids.next(), parent: read.map(|read| read.parent) });
        Self { request, trace, origin, flags: Some(if recorded { SAMPLED } else { 0 }), spans }
    }

    /// The request's id.
    #[must_use]
    pub const fn id(&self) -> RequestId {
        self.request
    }

    /// The request's id as text, for pages and JSON.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.request.as_str()
    }

    /// The trace's id, for the log.
    #[must_use]
    pub const fn trace_id(self) -> TraceId {
        self.trace
    }

    /// Where it began. The `tracestate` of a trace that began here is somebody else's, and to be removed.
    #[must_use]
    pub const fn origin(self) -> TraceOrigin {
        self.origin
    }

    /// Its spans, where it is recorded.
    #[must_use]
    pub const fn spans(self) -> Option<SpanIds> {
        self.spans
    }

    /// The `traceparent` for the upstream: the same trace, the span of the call to it, and whether that is recorded. `None` for a trace that
    /// began here where none are recorded; the downstream's unreadable one is to be removed then.
    #[must_use]
    pub fn upstream_value(self, ids: &Ids) -> Option<HeaderValue> {
        let flags = self.flags?;
        let span = self.spans.map_or_else(|| ids.next(), |spans| spans.upstream);
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        for (place, bytes) in [(3..35, &self.trace.0.to_be_bytes()[..]), (36..52, &span.to_be_bytes()), (53..55, &[flags])] {
            if let Some(digits) = text.get_mut(place) {
                write_hex(bytes, digits);
            }
        }
        Some(header_value(&text))
    }
}

/// The one flag that version 00 defines (§3.2.2.5).
const SAMPLED: u8 = 1;

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parsed {
    trace: TraceId,
    parent: u64,
    flags: u8,
}

/// `version "-" trace-id "-" parent-id "-" trace-flags`, lower-case hex (§3.2.2); of a later version the same fields are read and whatever
/// follows them after a `-` is left (§3.2.4). Flags are reduced to the one that version 00 defines.
fn parse(value: &[u8]) -> Option<Parsed> {
    const LENGTH: usize = 55;
    let (fields, rest) = value.split_at_checked(LENGTH)?;
    let mut parts = fields.split(|byte| *byte == b'-');
    let version = hex(parts.next()?, 2)?;
    let trace = hex(parts.next()?, 32)?;
    let parent = hex(parts.next()?, 16)?;
    let flags = hex(parts.next()?, 2)?;
    let shape = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    let sound = shape && parts.next().is_none() && trace != 0 && parent != 0;
    let flags = u8::from(flags & u128::from(SAMPLED) != 0);
    u64::try_from(parent).ok().filter(|_| sound).map(|parent| Parsed { trace: TraceId(trace), parent, flags })
}

/// Exactly `digits` lower-case hex digits.
fn hex(text: &[u8], digits: usize) -> Option<u128> {
    if text.len() != digits {
        return None;
    }
    text.iter().try_fold(0_u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(digit))
    })
}

/// Two digits for each byte.
fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const fn digit(nibble: u8) -> u8 {
        if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
    }
    for (byte, places) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        if let [high, low] = places {
            (*high, *low) = (digit(byte >> 4), digit(byte & 15));
        }
    }
}

/// Digits and dashes always make a header value.
fn header_value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn context(values: &[&str]) -> TraceContext {
        sampled(values, Sampling::Off)
    }

    fn sampled(values: &[&str], sampling: Sampling) -> TraceContext {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        TraceContext::of(&headers, &Ids::new(), sampling)
    }

    #[test]
    fn a_trace_goes_on_with_a_span_of_its_own() {
        let ids = Ids::new();
        let context = context(&[GIVEN]);
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let sent = context.upstream_value(&ids).unwrap();
        let sent = sent.to_str().unwrap();
        assert!(sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && sent.ends_with("-01") && sent.len() == GIVEN.len(), "{sent}");
        assert_ne!(sent, GIVEN);
        let [sent, given] = [sent, GIVEN].map(|text| parse(text.as_bytes()).unwrap());
        assert_eq!((sent.trace, sent.flags), (given.trace, given.flags));
        assert_ne!(sent.parent, given.parent);
    }

    #[test]
    fn what_cannot_be_read_begins_a_new_trace() {
        for bad in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00 4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 01",
        ] {
            let context = context(&[bad]);
            assert_ne!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736", "{bad}");
            assert_eq!(context.upstream_value(&Ids::new()), None, "{bad}");
        }
        assert_eq!(context(&[GIVEN, GIVEN]).flags, None);
        assert_eq!(context(&[]).flags, None);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = context(&["cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what"]);
        assert_eq!(later.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(later.upstream_value(&Ids::new()).unwrap().to_str().unwrap().ends_with("-01"));
    }

    #[test]
    fn what_is_recorded_is_told_to_the_upstream_with_the_span_of_the_call() {
        let (all, none) = (Share::new(1.0), Share::new(0.0));
        for (values, sampling, recorded) in [
            (&[][..], Sampling::ByShare(all), true),
            (&[], Sampling::ByShare(none), false),
            (&[], Sampling::AsTold(all), true),
            (&[], Sampling::AsTold(none), false),
            (&[GIVEN], Sampling::AsTold(none), true),
            (&[UNSAMPLED], Sampling::AsTold(all), false),
            // A stranger's word counts in neither direction.
            (&[GIVEN], Sampling::ByShare(none), false),
            (&[UNSAMPLED], Sampling::ByShare(all), true),
        ] {
            let context = sampled(values, sampling);
            let sent = context.upstream_value(&Ids::new()).unwrap();
            let sent = parse(sent.as_bytes()).unwrap();
            assert_eq!((context.spans().is_some(), sent.flags == SAMPLED), (recorded, recorded), "{values:?} {sampling:?}");
            assert_eq!(context.origin() == TraceOrigin::Here, values.is_empty());
            assert_eq!(sent.trace, context.trace_id());
            if let Some(spans) = context.spans() {
                assert_eq!(sent.parent, spans.upstream);
                assert_eq!(spans.parent, values.first().map(|_| 0x00f0_67aa_0ba9_02b7));
                assert!(spans.own != spans.upstream);
            }
        }
    }

    #[test]
    fn a_share_is_met_about_as_often_as_it_says() {
        let ids = Ids::new();
        for (fraction, least, most) in [(0.0, 0, 0), (0.1, 800, 1200), (0.5, 4700, 5300), (1.0, 10_000, 10_000), (7.0, 10_000, 10_000)] {
            let share = Share::new(fraction);
            let held = (0..10_000).filter(|_| share.holds(&ids)).count();
            assert!((least..=most).contains(&held), "{fraction}: {held}");
        }
    }

    #[test]
    fn request_ids_are_sixteen_hex_digits_and_differ() {
        let ids = Ids::new();
        let seen: HashSet<_> = (0..10_000).map(|_| RequestId::new(&ids)).collect();
        assert_eq!(seen.len(), 10_000);
        for id in seen {
            assert_eq!(id.to_string().len(), 16);
            assert_eq!(id.header_value().to_str().unwrap(), id.to_string());
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_read_is_written_the_same(value: Vec<u8>, text in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}") {
            let _ = parse(&value);
            if let Some(read) = parse(text.as_bytes()) {
                prop_assert!(text.contains(&read.trace.to_string()));
            }
        }
    }
}
