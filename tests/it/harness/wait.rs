//! Waiting for something outside to become true, with an end; and ports that are free.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};
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

/// A port of 127.0.0.1 that was free a moment ago, for programs that cannot be told port 0; never the same twice. It lies below the range
/// from which the system takes the ports of outgoing connections, of which there are many at any moment of a test run.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Runs beside each other begin at different places.
    let mut port = given.last().map_or_else(|| 10_000 + u16::try_from(std::process::id() % 15_000).unwrap_or_default(), |last| last + 1);
    loop {
        assert!(port < 32_000, "no port below the ephemeral range is left");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return port;
        }
        port += 1;
    }
}

/// The time of day in whole seconds, for those who are given no clock.
#[must_use]
pub fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970").as_secs()
}
