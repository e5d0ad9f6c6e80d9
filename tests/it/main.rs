//! The integration tests: one binary, one module a capability. `harness` is what they stand on.

mod harness;

mod bearer; // programs show tokens: RFC 6750, issuers, keys that change or cannot be had
mod login; // a browser signs in through the real provider, comes back, signs out
mod operations; // the admin listener, metrics, logs, traces, draining
mod policy; // every rule with its yes and its no
mod stores; // one contract, two processes on one Redis, outages, restarts, copies
