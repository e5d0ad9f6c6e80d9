//! Doorward.
pub mod clock;
pub mod credential;
pub mod fault;
pub mod identity;
pub mod login;
pub mod reason;
pub mod request;
pub mod secret;
pub mod session;
pub mod tasks;
