//! `[limits]`: bounds on what strangers, upstreams and providers may do.

use std::time::Duration;

use super::reader::Section;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Bounds, each with a default that suits an app of a few thousand people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the key of the same name; config.toml.example says what it bounds")]
pub struct Limits {
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub write_timeout: Duration,
    pub tls_handshake_timeout: Duration,
    pub header_bytes: usize,
    pub headers: usize,
    pub connections: usize,
    pub streams: u32,
    pub upstream_connect_timeout: Duration,
    pub upstream_timeout: Duration,
    pub upstream_idle_timeout: Duration,
    pub upstream_idle_connections: usize,
    pub provider_timeout: Duration,
    pub provider_answer_bytes: usize,
    pub token_bytes: usize,
    pub cached_sessions: usize,
    pub pending_logins: u64,
    pub pending_logins_per_address: u64,
    pub guesses_per_name: u64,
    pub guesses_per_address: u64,
    pub guess_window: Duration,
}

pub(super) fn read(root: &Section<'_>) -> Limits {
    let section = root.section("limits");
    let time = |key, default: Duration| section.duration(key, default, Duration::from_millis(100)..=HOUR);
    let count = |key, default: u64, most: u64| section.number(key, default, 1..=most);
    let size = |key, default: u64, least: u64, most: u64| usize::try_from(section.size(key, default, least..=most)).unwrap_or(usize::MAX);
    let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let limits = Limits {
        header_timeout: time("header_timeout", 10 * SECOND),
        body_timeout: time("body_timeout", MINUTE),
        idle_timeout: time("idle_timeout", 75 * SECOND),
        write_timeout: time("write_timeout", MINUTE),
        tls_handshake_timeout: time("tls_handshake_timeout", 10 * SECOND),
        header_bytes: size("header_bytes", 32 << 10, 8 << 10, 1 << 20),
        headers: whole(count("headers", 100, 1000)),
        connections: whole(count("connections", 20_000, 1_000_000)),
        streams: u32::try_from(count("streams", 100, 10_000)).unwrap_or(100),
        upstream_connect_timeout: time("upstream_connect_timeout", 5 * SECOND),
        upstream_timeout: time("upstream_timeout", MINUTE),
        upstream_idle_timeout: time("upstream_idle_timeout", 55 * SECOND),
        upstream_idle_connections: whole(count("upstream_idle_connections", 64, 10_000)),
        provider_timeout: time("provider_timeout", 10 * SECOND),
        provider_answer_bytes: size("provider_answer_bytes", 1 << 20, 16 << 10, 64 << 20),
        token_bytes: size("token_bytes", 16 << 10, 1 << 10, 1 << 20),
        cached_sessions: whole(count("cached_sessions", 100_000, 10_000_000)),
        pending_logins: count("pending_logins", 100_000, 10_000_000),
        pending_logins_per_address: count("pending_logins_per_address", 1_000, 10_000_000),
        guesses_per_name: count("guesses_per_name", 10, 1_000),
        guesses_per_address: count("guesses_per_address", 30, 100_000),
        guess_window: section.duration("guess_window", 15 * MINUTE, MINUTE..=24 * HOUR),
    };
    section.finish();
    limits
}
