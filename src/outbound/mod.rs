//! Tokens for upstreams: those that the gateway obtains, each kept as long as it is good, and the one that it signs itself.
//!
//! - `endpoint`: one call to a token endpoint, as whom and with what answer. `answer`: what is taken for a token there.
//! - `client_credentials`: one token in the gateway's own name. `token_exchange`: one for each caller, in place of the caller's own.
//! - `slot`: how a token is kept, renewed before its end, asked for once for all who wait, and given up. `token`: how long it is good.
//! - `assertion`: who somebody is, signed by the gateway, for upstreams that check rather than trust.
//!
//! Which requests get one is said by routes and `[[outgoing]]` listeners; `endpoint::outbound` adds it to them.

mod answer;
pub mod assertion;
mod client_credentials;
mod endpoint;
mod slot;
mod token;
mod token_exchange;

use std::sync::Arc;

use http::HeaderName;

pub use client_credentials::ClientCredentials;
pub use endpoint::{EndpointPlace, TokenEndpoint, TokenEndpointSettings, Wanted};
pub use token::UpstreamToken;
pub use token_exchange::TokenExchange;

use crate::clock::UnixTime;
use crate::fault::Trouble;
use crate::secret::Secret;

/// One `[outbound.NAME]`.
pub enum Outbound {
    /// The same token for everybody (RFC 6749 §4.4).
    ClientCredentials(ClientCredentials),
    /// A token for each caller (RFC 8693).
    TokenExchange(TokenExchange),
}

/// The access token with which a request came: the caller's own, or that of the caller's session.
#[derive(Clone)]
pub struct CallersToken {
    /// The token.
    pub token: Secret,
    /// When it is over, where that is known. What is had for it is not used for longer.
    pub ends_at: Option<UnixTime>,
}

impl Outbound {
    /// Where its tokens stand.
    #[must_use]
    pub fn header(&self) -> &HeaderName {
        match self {
            Self::ClientCredentials(own) => own.header(),
            Self::TokenExchange(exchange) => exchange.header(),
        }
    }

    /// A token to send now: the one that is kept, else one that is asked for.
    ///
    /// # Errors
    /// [`crate::reason::Reason::ExchangeRefused`] where the caller's token gets none; an outage (`upstream-token-unreachable`) where there is
    /// none and none can be had.
    pub async fn token(&self, caller: Option<&CallersToken>) -> Result<Arc<UpstreamToken>, Trouble> {
        match self {
            Self::ClientCredentials(own) => own.token().await,
            Self::TokenExchange(exchange) => exchange.token(caller).await,
        }
    }

    /// Another one, after an upstream has answered 401 to `refused`, which is not used any more. `None` when one was given up a moment ago: an
    /// upstream that refuses every token must not cost the provider a call for each request.
    ///
    /// # Errors
    /// As [`Outbound::token`].
    pub async fn token_after(
        &self,
        refused: &Arc<UpstreamToken>,
        caller: Option<&CallersToken>,
    ) -> Result<Option<Arc<UpstreamToken>>, Trouble> {
        if self.give_up(refused, caller) { self.token(caller).await.map(Some) } else { Ok(None) }
    }

    /// Gives a token up that an upstream has answered 401 to; `false` when one was given up a moment ago, and this one goes on.
    pub fn give_up(&self, refused: &Arc<UpstreamToken>, caller: Option<&CallersToken>) -> bool {
        match self {
            Self::ClientCredentials(own) => own.give_up(refused),
            Self::TokenExchange(exchange) => caller.is_some_and(|caller| exchange.give_up(refused, caller)),
        }
    }
}
