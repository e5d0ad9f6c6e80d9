//! JSON Web Tokens: their form, their signature and the checks of their claims. Pure: keys and times come from the caller.
//!
//! `jws` reads the compact form, `algorithm` is the closed list of signatures, `jwk` the issuer's keys, `signature` joins the three.
//! `claims` reads claims by type, `issuer` says whose tokens a provider's are, `scopes` scopes, `confirmation` to what key a token is bound. `id_token`, `access_token` and `logout_token` are
//! the kinds of token that the gateway takes, each with its specification's steps in order; `introspected` is what an issuer answers about one
//! that only it can read. Nothing but those four turns bytes into claims that count. `dpop` judges the proof beside an access token, by the key
//! that the proof brings (`proof_key`). `signing` is the other direction: what the gateway says of itself and signs; `thumbprint` names a key by
//! what it is made of. `supposed` is for people who ask what a token would be worth.

pub mod access_token;
mod algorithm;
mod claims;
mod confirmation;
pub mod dpop;
pub mod id_token;
mod introspected;
mod issuer;
mod jwk;
mod jws;
pub mod logout_token;
mod proof_key;
mod scopes;
mod signature;
pub mod signing;
mod supposed;
mod thumbprint;

#[cfg(test)]
pub(crate) mod testing;

pub use access_token::{AccessToken, AccessTokenRules, Audience, Presented, Terms, TokenType, peek_issuer};
pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use confirmation::Confirmation;
pub use id_token::{IdTokenError, IdTokenExpectation, Nonce};
pub use introspected::{AnswerMalformed, IntrospectionRules};
pub use issuer::{Issuer, Tenants};
pub use jwk::{Found, KeyMark, KeySet, KeySetMalformed};
pub use jws::{Header, Jws, JwsError, MAX_TOKEN_BYTES};
pub use logout_token::{Ends, LogoutToken, LogoutTokenError, LogoutTokenExp, LogoutTokenExpectation};
pub use signing::{Named, SigningFailed, SigningKey, SigningKeyError};
pub use supposed::supposed;
pub use thumbprint::thumbprint;
