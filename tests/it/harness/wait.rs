//! Waiting for something outside to become true, with an end; and ports that are free.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

/// How long a test waits for a thing that should come at once, before it calls it missing.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `probe` every few milliseconds until it has something to give. Panics after [`PATIENCE`], naming `what`.
pub async fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, probe).await.unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain for: {what}"))
}

/// Asks `probe` every few milliseconds until it has something to give, or the time is over.
pub async fn within<T>(time: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The same as [`eventually`] for a probe that has to wait itself.
pub async fn eventually_true(what: &str, probe: impl AsyncFn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !probe().await {
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether somebody accepts connections at `address` before the time is over.
pub async fn accepts_within(address: SocketAddr, time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        if TcpStream::connect(address).await.is_ok() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Below the ports that Linux gives to outgoing connections (from 32768 on): one of those, open or just closed, would keep a program from
/// listening there again after a restart.
const PORTS: std::ops::Range<u32> = 12_000..32_000;

/// A port of 127.0.0.1 that was free a moment ago, for programs that cannot be told port 0; never the same twice. Another process may
/// take it first: who uses it tries again with another.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let length = PORTS.end - PORTS.start;
    // Test processes that run side by side begin far from each other.
    let begin = std::process::id().wrapping_mul(2_654_435_761) % length;
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(given < length, "no free port left");
        let port = u16::try_from(PORTS.start + (begin + given) % length).expect("the range fits");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The time of day in whole seconds, for those who are given no clock.
#[must_use]
pub fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970").as_secs()
}
