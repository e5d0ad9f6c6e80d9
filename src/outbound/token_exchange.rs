//! A token for an upstream in place of the caller's (RFC 8693): one for each token that callers show.

use std::convert::Infallible;
use std::sync::Arc;

use http::HeaderName;
use quick_cache::sync::Cache;

use super::CallersToken;
use super::answer::{ACCESS_TOKEN, Grant, Ungranted};
use super::endpoint::TokenEndpoint;
use super::slot::{Asking, Slot};
use super::token::UpstreamToken;
use crate::clock::SharedClock;
use crate::fault::{Fault, Outage, Trouble};
use crate::reason::Reason;
use crate::secret::sha256;
use crate::tasks::Tasks;

/// How many callers' tokens are remembered. The longest unused go first; whose went is asked for again.
const REMEMBERED: usize = 10_000;

/// Words of a token endpoint that speak of us and our registration rather than of the caller's token (RFC 6749 §5.2). Waiting for whoever
/// runs the gateway mends them, another caller does not.
const OF_OURSELVES: [&str; 7] = [
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "unsupported_token_type",
    "temporarily_unavailable",
    "server_error",
];

/// Keeps what callers' tokens were exchanged for.
pub struct TokenExchange {
    endpoint: Arc<TokenEndpoint>,
    /// By the hash of the caller's token: the table is for one upstream's audience.
    slots: Cache<[u8; 32], Slot>,
    clock: SharedClock,
    tasks: Tasks,
}

impl TokenExchange {
    /// Nothing is asked for yet.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, clock: SharedClock, tasks: Tasks) -> Self {
        Self { endpoint: Arc::new(endpoint), slots: Cache::new(REMEMBERED), clock, tasks }
    }

    pub(super) fn header(&self) -> &HeaderName {
        self.endpoint.header()
    }

    pub(super) async fn token(&self, caller: Option<&CallersToken>) -> Result<Arc<UpstreamToken>, Trouble> {
        let Some(caller) = caller else {
            return Err(Fault::new(Reason::ExchangeRefused, "the caller showed no token that could be exchanged").into());
        };
        // Within the leeway such a token still lets its caller in; what is had for it would be over as it comes.
        if caller.ends_at.is_some_and(|end| end <= self.clock.now()) {
            return Err(Fault::new(Reason::ExchangeRefused, "the caller's token is over").into());
        }
        let slot = self.slot(caller);
        slot.token(&self.tasks, || self.asking(caller)).await
    }

    pub(super) fn give_up(&self, refused: &Arc<UpstreamToken>, caller: &CallersToken) -> bool {
        self.slot(caller).give_up(refused)
    }

    fn slot(&self, caller: &CallersToken) -> Slot {
        let key = sha256(caller.token.expose().as_bytes());
        let made = self.slots.get_or_insert_with(&key, || Ok::<_, Infallible>(Slot::new(Arc::clone(&self.clock))));
        made.unwrap_or_else(|never| match never {})
    }

    fn asking(&self, caller: &CallersToken) -> Asking {
        let (endpoint, caller) = (Arc::clone(&self.endpoint), caller.clone());
        Box::pin(async move {
            // RFC 8693 §2.1.
            let form = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("subject_token", caller.token.expose()),
                ("subject_token_type", ACCESS_TOKEN),
                ("requested_token_type", ACCESS_TOKEN),
            ];
            endpoint.ask(Grant::TokenExchange, &form, caller.ends_at).await.map_err(|ungranted| match ungranted {
                Ungranted::Refused(word) if !OF_OURSELVES.contains(&word.as_str()) => {
                    Fault::new(Reason::ExchangeRefused, format!("the token endpoint answered {word}")).into()
                }
                Ungranted::Refused(word) => Outage::upstream_token(format!("the token endpoint answered {word}")).into(),
                Ungranted::Unusable(detail) => Outage::upstream_token(detail).into(),
            })
        })
    }
}
