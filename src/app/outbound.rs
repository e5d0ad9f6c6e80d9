//! Who gives tokens for upstreams, and the listeners for calls that leave.

use std::sync::Arc;

use super::StartError;
use super::kept::Keeping;
use super::providers::{People, http};
use crate::clock::SharedClock;
use crate::config::{Config, LocalListen, OutboundPlace};
use crate::outbound::{ClientCredentials, EndpointPlace, Outbound, TokenEndpoint, TokenEndpointSettings, TokenExchange, Wanted};
use crate::provider::CallTimes;
use crate::provider::discovery::Discovery;
use crate::provider::places::Places;
use crate::route::InNameOf;
use crate::server::{Listener, TlsSwitch};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::token::Issuer;

/// In the order of the config. Nobody is asked yet.
pub(super) fn all(
    config: &Config,
    keeping: &Keeping<'_>,
    people: &People,
    clock: &SharedClock,
    tasks: &Tasks,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Arc<Outbound>>, StartError> {
    // With the providers: one of them may be who gives it.
    let made = config.outbound.iter().map(|outbound| {
        keeping.same(("outbound", &outbound.name), &[&format!("outbound.{}", outbound.name), "provider"], || {
            // A provider is reached as it is for logins.
            let proxy = match &outbound.place {
                OutboundPlace::Provider(id) => config.providers.iter().find(|provider| provider.id == *id).and_then(|it| it.proxy.as_ref()),
                OutboundPlace::Issuer(_) | OutboundPlace::Url(_) => config.proxy.as_ref(),
            };
            let calls = http(config, &outbound.tls, proxy, tasks);
            // The name in the metric: the issuer where there is one, as for logins.
            let (place, called) = match &outbound.place {
                OutboundPlace::Url(url) => (EndpointPlace::Url(url.clone()), url.origin().ascii_serialization()),
                OutboundPlace::Issuer(issuer) => {
                    let discovery = Discovery::new(
                        Issuer::One(issuer.clone()),
                        Places::default(),
                        calls.clone(),
                        Arc::clone(clock),
                        Arc::clone(metrics),
                    );
                    (EndpointPlace::Discovered(Arc::new(discovery)), issuer.clone())
                }
                OutboundPlace::Provider(id) => {
                    let found = people.documents.iter().find(|(known, _)| known == id);
                    let issuer = config.providers.iter().find(|provider| provider.id == *id).map(|provider| provider.issuer.clone());
                    let (Some((_, discovery)), Some(issuer)) = (found, issuer) else {
                        return Err(StartError::new(format!("outbound.{}: no provider {id:?}", outbound.name)));
                    };
                    (EndpointPlace::Discovered(Arc::clone(discovery)), issuer)
                }
            };
            let settings = TokenEndpointSettings {
                place,
                client_id: outbound.client_id.clone(),
                client_authentication: outbound.client_auth.clone(),
                shows_certificate: outbound.tls.certificate.is_some(),
                wanted: Wanted { scope: outbound.scope.clone(), audience: outbound.audience.clone(), resource: outbound.resource.clone() },
                header: outbound.header.clone(),
            };
            let times = CallTimes::new(&called, Arc::clone(clock), Arc::clone(metrics));
            let endpoint = TokenEndpoint::new(settings, calls, times, Arc::clone(clock));
            Ok(match outbound.in_name_of {
                InNameOf::Gateway => Outbound::ClientCredentials(ClientCredentials::new(endpoint, Arc::clone(clock), tasks.clone())),
                InNameOf::Caller => Outbound::TokenExchange(TokenExchange::new(endpoint, Arc::clone(clock), tasks.clone())),
            })
        })
    });
    made.collect()
}

/// Bound in the order of the config, not yet accepting.
pub(super) fn listeners(config: &Config) -> Result<Vec<Listener>, StartError> {
    let bound = config.outgoing.iter().enumerate().map(|(index, outgoing)| {
        let bound = match &outgoing.listen {
            LocalListen::Tcp(address) => Listener::bind(*address, TlsSwitch::new(None)),
            LocalListen::Unix(path, mode) => Listener::bind_unix(path, *mode),
        };
        let listener = bound.map_err(|error| StartError::new(format!("outgoing {:?}: {error}", outgoing.id)))?;
        tracing::info!(id = outgoing.id, listen = ?outgoing.listen, "calls leave through here");
        Ok(listener.outgoing(index))
    });
    bound.collect()
}
