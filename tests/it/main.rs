//! The integration tests: one binary, one module a capability. `harness` is what they stand on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "test code fails loudly"
)]

mod harness;

mod architecture; // the five floors, held against the code
mod login; // a browser signs in through the real provider, comes back, signs out
