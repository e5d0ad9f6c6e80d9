//! Local accounts: people who sign in on a form of ours. The second [`IdentityProvider`](super::IdentityProvider).
//!
//! `accounts` is who there is, `password` and `totp` what they prove themselves by, `hashing` where that is computed, `throttle` how slow
//! guessing is. `provider` joins them: a right password (and code) becomes a code of its own, good for one attempt, which
//! [`IdentityProvider::complete`](super::IdentityProvider::complete) takes as it would take a provider's. `shown` judges passwords that come with
//! each request, `remembered` is what it keeps of them.

mod accounts;
mod hashing;
mod password;
mod provider;
mod remembered;
mod shown;
mod throttle;
mod totp;

pub use accounts::{Account, AccountSource, Accounts, check_name, parse_users};
pub use password::PasswordHash;
pub use provider::{LocalProvider, LocalSettings, Needed, Proof};
pub use shown::ShownPasswords;
pub use throttle::GuessLimits;
pub(in crate::provider) use throttle::{Guess, Guessed, Throttle};
pub use totp::{TotpKey, otpauth};

use std::time::Duration;

use crate::fault::{Fault, Outage};

/// The `id` of the local accounts as a provider: in routes, rules, metrics and records.
pub const LOCAL: &str = "local";

/// Why somebody was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// What was typed is wrong: the form says so and is shown again.
    Wrong(Fault),
    /// Too many guesses; how long until the next ones are taken.
    Slowed(Fault, Duration),
    /// Right, and still not enough: nothing that can be typed helps.
    Refused(Fault),
    /// It could not be found out.
    Unreachable(Outage),
}

impl From<Outage> for Denied {
    fn from(outage: Outage) -> Self {
        Self::Unreachable(outage)
    }
}

#[cfg(test)]
mod tests;
