//! What the gateway shows to upstreams in its own name.
//!
//! `assertion` is a token that it signs itself: who somebody is, for upstreams that check rather than trust.

pub mod assertion;
