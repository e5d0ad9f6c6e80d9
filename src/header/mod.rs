//! Headers towards the upstream, in this order: hop-by-hop ones go (`hop_by_hop`), the identity family goes (`strip`), ours are set
//! (`identity`, `forwarded`). `client_cert` reads the certificate that a proxy tells of; `cookies` reads and writes cookies; `names` says what
//! the family is, `peer` who connected and whom we believe, `prepared` keeps ready-made ones, `template` is what the operator's own say, `assertion` is what a signed one tells,
//! `user_agent` is for people's eyes. On the way back `mend` puts right what an upstream says of its own place.
//! `rfc7239` reads `Forwarded`, `caching` keeps answers out of shared caches.

mod assertion;
mod caching;
mod client_cert;
pub mod cookies;
mod forwarded;
mod hop_by_hop;
mod identity;
mod mend;
mod names;
mod peer;
mod prepared;
mod rfc7239;
mod strip;
mod template;
mod user_agent;

pub use assertion::{ASSERTION_LIMIT, AssertionRule, DOORWARD_ASSERTION, ToldClaim};
pub use caching::{is_for_shared_caches, keep_private};
pub use client_cert::forwarded_certificate;
pub use forwarded::{AddressSource, Forwarding, LastTold, Whence, names_another, set_forwarded, whence};
pub use hop_by_hop::remove_hop_by_hop;
pub use identity::{IDENTITY_LIMIT, IdentityHeader, IdentityHeaders, Naming, TOKEN_LIMIT, Telling};
pub use mend::Mending;
pub use names::{IdentityFamily, folded};
pub use peer::{Peer, TrustedPeer, TrustedProxies};
pub use prepared::PreparedHeaders;
pub use strip::{OwnCookies, UnderscoreNames, after_scheme, strip_credentials, strip_identity};
pub use template::{HeaderFile, HeaderRule, HeaderTemplate, OpenFile, TokensToTell, encode_value};
pub use user_agent::device_of;
