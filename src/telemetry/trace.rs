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

/// What names a request: its id, and the trace it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    request: RequestId,
    trace: TraceId,
    /// What the downstream sent beside the ids; `None`: it sent nothing that can be read, and the trace begins here.
    flags: Option<u8>,
}

impl TraceContext {
    /// A new request id in the downstream's trace. A `traceparent` that is missing, repeated or malformed begins a new trace (W3C Trace
    /// Context §4.3).
    #[must_use]
    pub fn of(headers: &HeaderMap, ids: &Ids) -> Self {
        let request = RequestId::new(ids);
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let only = match (lines.next(), lines.next()) {
            (Some(line), None) => parse(line.as_bytes()),
            _ => None,
        };
        match only {
            Some((trace, flags)) => Self { request, trace, flags: Some(flags) },
            None => Self { request, trace: TraceId((u128::from(ids.next()) << 64) | u128::from(ids.next())), flags: None },
        }
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

    /// The `traceparent` for the upstream: the same trace, a span of its own, the downstream's flags.
    ///
    /// `None` for a trace that began here: whether a trace is recorded is for whoever records it. We record none, so our flags would say "not
    /// sampled", and an upstream that heeds its parent would never trace again. The downstream's unreadable `traceparent` and any
    /// `tracestate` are to be removed then.
    #[must_use]
    pub fn upstream_value(self, ids: &Ids) -> Option<HeaderValue> {
        let flags = self.flags?;
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        for (place, bytes) in [(3..35, &self.trace.0.to_be_bytes()[..]), (36..52, &ids.next().to_be_bytes()), (53..55, &[flags])] {
            if let Some(digits) = text.get_mut(place) {
                write_hex(bytes, digits);
            }
        }
        Some(header_value(&text))
    }
}

/// `version "-" trace-id "-" parent-id "-" trace-flags`, lower-case hex (§3.2.2); of a later version the same fields are read and whatever
/// follows them after a `-` is left (§3.2.4). Flags are reduced to the one that version 00 defines.
fn parse(value: &[u8]) -> Option<(TraceId, u8)> {
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
    sound.then(|| (TraceId(trace), u8::from(flags & 1 == 1)))
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

    fn context(values: &[&str]) -> TraceContext {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        TraceContext::of(&headers, &Ids::new())
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
        assert_eq!(parse(sent.as_bytes()), parse(GIVEN.as_bytes()));
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
            if let Some((trace, _)) = parse(text.as_bytes()) {
                prop_assert!(text.contains(&trace.to_string()));
            }
        }
    }
}
