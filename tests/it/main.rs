//! The integration tests: one binary, one module a capability. `harness` is what they stand on.

mod harness;

mod forward_auth; // the two endpoints by hand, then behind real nginx and Caddy
mod headers; // what identity, cookies and tokens look like to the upstream, whatever was sent
mod login; // a browser signs in through the real provider, comes back, signs out
mod paths; // one reading of a path: matched, decided about and forwarded
mod proxy; // protocols, bodies, upgrades, failures, routes: a request on its way through
mod smuggling; // one message is never two requests; floods and limits
