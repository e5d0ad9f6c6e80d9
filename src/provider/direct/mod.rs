//! Signing in without a browser, for the token endpoint: by a password, or by a token of others.
//!
//! `grants` is what an OpenID provider grants by itself (a password, an exchange); `foreign` are the tokens of others, checked as `facebook`
//! or `check` say. [`Direct`] joins them, and slows guessing: its counts are those of the form.

mod check;
mod facebook;
mod foreign;
mod grants;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use check::{CheckSettings, TokenCheck, TokenIn};
pub use facebook::{Facebook, FacebookSettings};
pub use foreign::{Exchange, ForeignSource, ForeignToken, HowChecked};
pub use grants::{Granted, Subject};

use super::local::{Denied, Guess, GuessLimits, Guessed, LocalProvider, Throttle};
use super::{IdentityProvider as _, OpenIdProvider, SignedIn};
use crate::clock::SharedClock;
use crate::fault::{Fault, Trouble};
use crate::header::PreparedHeaders;
use crate::reason::Reason;
use crate::secret::Secret;
use crate::store::Sessions;

/// Who checks passwords.
pub enum Passwords {
    /// Our own accounts.
    Local(Arc<LocalProvider>),
    /// A provider, by its password grant.
    Provider(Arc<OpenIdProvider>),
}

/// What whoever signs in is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issue {
    /// A token that is a session of ours.
    Session,
    /// The provider's own access token.
    Provider,
}

/// What came of it.
pub enum Given {
    /// Somebody, for whom a session is to begin.
    SignedIn(Box<SignedIn>),
    /// The provider's token, to be passed on as it is.
    Token {
        /// It.
        access_token: Secret,
        /// How long it lives, where that was said.
        lives: Option<Duration>,
    },
}

/// Signs people in without a browser.
pub struct Direct {
    settings: DirectSettings,
    guesses: Throttle,
}

/// Who judges what.
pub struct DirectSettings {
    /// Who checks passwords; `None`: nobody does.
    pub passwords: Option<Passwords>,
    /// Whose tokens are taken.
    pub foreign: Vec<ForeignToken>,
    /// What is given for either.
    pub issue: Issue,
    /// How many guesses may fail.
    pub guesses: GuessLimits,
}

/// A name and what proves it.
pub struct Typed {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// The code of an authenticator app, where one was sent along.
    pub code: Option<String>,
    /// Where it comes from.
    pub from: IpAddr,
}

impl Direct {
    /// Failures are counted in the store of `sessions`.
    #[must_use]
    pub fn new(settings: DirectSettings, sessions: Arc<Sessions<PreparedHeaders>>, clock: SharedClock) -> Self {
        let guesses = Throttle::new(sessions, settings.guesses, clock);
        Self { settings, guesses }
    }

    /// The tables whose tokens are taken.
    #[must_use]
    pub fn foreign_tokens(&self) -> &[ForeignToken] {
        &self.settings.foreign
    }

    /// Who checks passwords, by its name in the config; `None`: nobody does.
    #[must_use]
    pub fn password_place(&self) -> Option<&str> {
        match self.settings.passwords.as_ref()? {
            Passwords::Local(local) => Some(local.id()),
            Passwords::Provider(provider) => Some(provider.id()),
        }
    }

    /// The table whose tokens stand in this parameter.
    #[must_use]
    pub fn foreign(&self, parameter: &str) -> Option<&ForeignToken> {
        self.settings.foreign.iter().find(|foreign| foreign.parameter == parameter)
    }

    /// Judges a name and a password. To be run to its end whether or not anybody waits: a guess that is given up counts.
    ///
    /// # Errors
    /// Why not.
    pub async fn by_password(&self, typed: Typed) -> Result<Given, Denied> {
        let Typed { name, password, code, from } = typed;
        match &self.settings.passwords {
            None => Err(Denied::Refused(Fault::new(Reason::GrantUnsupported, "token.grants does not name \"password\""))),
            Some(Passwords::Local(local)) => {
                let mut proof = local.check_password(&name, password, from).await?;
                // A code that is sent along has to be right; without one the sign-in is worth a password.
                if let Some(code) = code {
                    proof = local.check_code(&name, &code, from).await?;
                }
                local.signed_in(proof).map(|signed_in| Given::SignedIn(Box::new(signed_in))).map_err(Denied::Refused)
            }
            Some(Passwords::Provider(provider)) => {
                // Providers do not tell `Ann@` from `ann@`, so that each spelling must not be a name with guesses of its own.
                let counted = name.to_lowercase();
                let guess = Guess { at: Guessed::Password, place: provider.id(), name: &counted, from };
                let _under_way = self.guesses.admit(guess).await?;
                match provider.password_grant(&name, &password).await {
                    Ok(granted) => {
                        self.guesses.succeeded(guess).await?;
                        self.given(provider, granted).await.map_err(denied)
                    }
                    Err(Trouble::Refused(fault)) if fault.reason == Reason::PasswordWrong => {
                        self.guesses.failed(guess).await?;
                        Err(Denied::Wrong(fault))
                    }
                    Err(trouble) => Err(denied(trouble)),
                }
            }
        }
    }

    /// Judges a token of others. One that is refused counts as a wrong guess of its address: each costs a question to whoever issued it.
    ///
    /// # Errors
    /// Why not.
    pub async fn by_foreign_token(&self, foreign: &ForeignToken, token: &Secret, from: IpAddr) -> Result<Given, Denied> {
        let _under_way = self.guesses.admit_token(from).await?;
        let given = match &foreign.how {
            HowChecked::Facebook(facebook) => facebook.signed_in(token).await.map(|signed_in| Given::SignedIn(Box::new(signed_in))),
            HowChecked::Check(check) => check.signed_in(token).await.map(|signed_in| Given::SignedIn(Box::new(signed_in))),
            HowChecked::Exchange(exchange) => match exchange.provider.exchange_grant(&exchange.subject(token)).await {
                Ok(granted) => self.given(&exchange.provider, granted).await,
                Err(trouble) => Err(trouble),
            },
        };
        match given {
            Ok(given) => Ok(given),
            Err(Trouble::Refused(fault)) if is_of_the_token(fault.reason) => {
                self.guesses.failed_token(from).await?;
                Err(Denied::Wrong(fault))
            }
            Err(trouble) => Err(denied(trouble)),
        }
    }

    async fn given(&self, provider: &OpenIdProvider, granted: Granted) -> Result<Given, Trouble> {
        if self.settings.issue == Issue::Provider {
            let (access_token, lives) = granted.access_token();
            return Ok(Given::Token { access_token: access_token.clone(), lives });
        }
        match provider.sign_in(granted).await {
            Ok(signed_in) => Ok(Given::SignedIn(Box::new(signed_in))),
            // It came from the provider in answer to us: whoever signs in has no part in what is wrong with it.
            Err(Trouble::Refused(fault)) if fault.reason.as_str().starts_with("token-") => {
                Err(Fault::new(Reason::TokenResponse, fault.to_string()).into())
            }
            Err(trouble) => Err(trouble),
        }
    }
}

/// Whether it is the token that is wrong, and not whoever was asked about it.
const fn is_of_the_token(reason: Reason) -> bool {
    matches!(reason, Reason::ForeignTokenRefused | Reason::ForeignTokenAudience | Reason::ForeignTokenExpired | Reason::ForeignTokenSubject)
}

fn denied(trouble: Trouble) -> Denied {
    match trouble {
        Trouble::Refused(fault) => Denied::Refused(fault),
        Trouble::Unreachable(outage) => Denied::Unreachable(outage),
    }
}
