//! How long the upstream of a route may take.

use std::time::Duration;

/// `timeouts` of a route; `None`: as `[limits]` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Option<Duration>,
    /// From the moment it has the request until the head of its answer.
    pub response: Option<Duration>,
    /// For the next piece of an answer, and of a tunnel in either direction; `None`: as long as it takes.
    pub idle: Option<Duration>,
}
