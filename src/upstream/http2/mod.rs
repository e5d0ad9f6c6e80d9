//! HTTP/2 towards an upstream: one connection of this core carries many requests, each on a stream of its own.
//!
//! - `connection`: one of them, and a request on it. `upload`: the request's body on its stream. `alive`: whether anybody is at the other end.
//! - `shared`: the connections to one upstream, opened one at a time and shared.

mod alive;
mod connection;
mod shared;
mod upload;

pub(super) use connection::{Http2, Place, Received};
pub(super) use shared::Shared;

use std::time::Duration;

use super::UpstreamSettings;

/// Requests on one connection at a time; fewer where the upstream allows fewer (`SETTINGS_MAX_CONCURRENT_STREAMS`, RFC 9113 §6.5.2).
const STREAMS: u32 = 100;
/// What an upstream may send of one answer before somebody reads it: a quarter of a gigabyte a second over a round trip of a millisecond.
const STREAM_WINDOW: u32 = 256 * 1024;
/// And of all answers together: as much as all streams may hold, so that readers who do not read stop nobody else's answer.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;
/// What waits to be written, for each stream.
const SEND_BUFFER: usize = 128 * 1024;
/// Answers that we reset because they are malformed, before the connection is given up.
const OWN_RESETS: usize = 128;

/// When to ask whether the other end is there, and how long it may take to say so.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// After so long without a byte while requests are open. gRPC's own servers send away who asks more often than every five minutes.
    pub(super) ask_after: Duration,
    pub(super) answer_within: Duration,
    /// A request that was given up after so long, with no byte of anything since it was sent, was the last on its connection: what vanished
    /// without a word costs one wait, and not that of everybody.
    pub(super) doubt_after: Duration,
}

impl Patience {
    const USUAL: Self =
        Self { ask_after: Duration::from_secs(5 * 60 + 10), answer_within: Duration::from_secs(20), doubt_after: Duration::from_secs(5) };
}

/// What is said at the beginning of a connection.
fn greeting(settings: &UpstreamSettings) -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(OWN_RESETS))
        // Small frames that wait to be read are bounded by h2's own number, half the connection's window, of which each takes 256 bytes less
        // its length. Less would end the connection of all for one burst of small messages: nobody reads before the whole socket is read.
        .initial_max_send_streams(connection::UNTOLD);
    builder
}
