//! The integration tests: one binary, one module a capability. `harness` is what they stand on.

mod harness;

mod login; // a browser signs in through the real provider, comes back, signs out
