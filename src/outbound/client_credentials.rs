//! A token in the gateway's own name (RFC 6749 §4.4): one for all requests that are to carry it.

use std::sync::Arc;

use http::HeaderName;

use super::answer::{Grant, Ungranted};
use super::endpoint::TokenEndpoint;
use super::slot::{Asking, Slot};
use super::token::UpstreamToken;
use crate::clock::SharedClock;
use crate::fault::{Outage, Trouble};
use crate::tasks::Tasks;

/// Keeps one token.
pub struct ClientCredentials {
    endpoint: Arc<TokenEndpoint>,
    slot: Slot,
    tasks: Tasks,
}

impl ClientCredentials {
    /// Nothing is asked for before the first request needs it.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, clock: SharedClock, tasks: Tasks) -> Self {
        Self { endpoint: Arc::new(endpoint), slot: Slot::new(clock), tasks }
    }

    pub(super) fn header(&self) -> &HeaderName {
        self.endpoint.header()
    }

    pub(super) async fn token(&self) -> Result<Arc<UpstreamToken>, Trouble> {
        self.slot.token(&self.tasks, || self.asking()).await
    }

    pub(super) fn give_up(&self, refused: &Arc<UpstreamToken>) -> bool {
        self.slot.give_up(refused)
    }

    /// Whatever the provider has against it concerns our registration, never the caller: it is an outage.
    fn asking(&self) -> Asking {
        let endpoint = Arc::clone(&self.endpoint);
        Box::pin(async move {
            let asked = endpoint.ask(Grant::ClientCredentials, &[("grant_type", "client_credentials")], None).await;
            asked.map_err(|ungranted| match ungranted {
                Ungranted::Refused(word) => Outage::upstream_token(format!("the token endpoint answered {word}")).into(),
                Ungranted::Unusable(detail) => Outage::upstream_token(detail).into(),
            })
        })
    }
}
