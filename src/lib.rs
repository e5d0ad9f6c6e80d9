//! Doorward.
pub mod clock;
pub mod credential;
pub mod decision;
pub mod fault;
pub mod header;
pub mod identity;
pub mod login;
pub mod policy;
pub mod reason;
pub mod request;
pub mod respond;
pub mod route;
pub mod secret;
pub mod session;
pub mod tasks;
