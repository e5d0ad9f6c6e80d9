//! Providers and token issuers: their documents, their keys, and what in them does not go with the config.

use std::collections::BTreeSet;
use std::sync::Arc;

use url::Url;

use super::peers::{self, Place};
use super::{Around, Findings, Verdict};
use crate::app::{providers, token_issuers};
use crate::config::{Provider, TokenKeys};
use crate::identity::texts;
use crate::provider::discovery::{Discovery, Document};
use crate::provider::places::Places;
use crate::provider::{CallTimes, ClientAuthentication};
use crate::token::Algorithm;

/// Asks a `[provider]`.
pub(super) async fn ask(around: &Around, index: usize) -> Findings {
    let mut found = Findings::default();
    let Some(provider) = around.config.providers.get(index) else { return found };
    let about = format!("provider {}", provider.id);
    let http = providers::http(&around.config, &provider.tls, provider.proxy.as_ref(), &around.tasks);
    let discovery = Discovery::new(
        provider.issuers.clone(),
        provider.places.clone(),
        http.clone(),
        Arc::clone(&around.clock),
        Arc::clone(&around.metrics),
    );
    let discovery = Arc::new(discovery);
    let document = match discovery.document().await {
        Ok(document) => document,
        Err(trouble) => {
            found.add(Verdict::Problem, &about, trouble.detail());
            // Whether nobody is there or somebody else: the connection tells.
            if let Ok(issuer) = Url::parse(&provider.issuer) {
                reach(around, &mut found, &about, &[&issuer], provider).await;
            }
            return found;
        }
    };
    found.add(Verdict::Ok, &about, format!("its document is that of {}", provider.issuer));
    let times = CallTimes::new(&provider.issuer, Arc::clone(&around.clock), Arc::clone(&around.metrics));
    let keys = providers::keys_of(&http, times, &discovery, &around.clock, &around.tasks);
    match keys.keys().await {
        Ok(keys) if keys.is_empty() => found.add(Verdict::Problem, &about, "it publishes no key that could be used"),
        Ok(keys) => found.add(Verdict::Ok, &about, format!("keys that can be used: {}", keys.len())),
        Err(outage) => found.add(Verdict::Problem, &about, outage.to_string()),
    }
    let extra = document.additional_metadata();
    // With a place inside, the issuer's own name is none that the gateway has to reach.
    let issuer = Url::parse(&provider.issuer).ok().filter(|_| provider.places == Places::default());
    // Where browsers go they go by themselves.
    let own_calls = [
        issuer.as_ref(),
        Some(document.jwks_uri().url()),
        document.token_endpoint().map(|endpoint| endpoint.url()),
        document.userinfo_endpoint().map(|endpoint| endpoint.url()),
        extra.revocation_endpoint.as_ref(),
        extra.pushed_authorization_request_endpoint.as_ref(),
    ];
    let own_calls: Vec<&Url> = own_calls.into_iter().flatten().collect();
    reach(around, &mut found, &about, &own_calls, provider).await;
    disagreements(&mut found, &about, provider, &document);
    found
}

/// Connects to each host once.
async fn reach(around: &Around, found: &mut Findings, about: &str, urls: &[&Url], provider: &Provider) {
    if provider.proxy.is_some() {
        found.add(Verdict::Ok, about, "is asked through a proxy; whose key it has is not looked at");
        return;
    }
    let mut seen = BTreeSet::new();
    for url in urls {
        if let Some(peer) = peers::at(about, url, 443, &provider.tls)
            && let Place::Tcp(host, port) | Place::Tls(host, port, _) = &peer.place
            && seen.insert((host.clone(), *port))
        {
            found.0.extend(peers::reach(around, peer).await.0);
        }
    }
}

/// What the document says and the config does not expect, each with what would be right.
fn disagreements(found: &mut Findings, about: &str, provider: &Provider, document: &Document) {
    let extra = document.additional_metadata();
    let mut warn = |text: String| found.add(Verdict::Warning, about, text);
    let methods = texts(&extra.code_challenge_methods_supported);
    if methods.is_empty() {
        warn("its document does not list PKCE (code_challenge_methods_supported); the gateway uses S256 all the same".to_owned());
    } else if !methods.iter().any(|method| method == "S256") {
        warn(format!("it lists PKCE by {} and not by S256, which the gateway uses", methods.join(", ")));
    }
    if let Some(supported) = document.scopes_supported() {
        let listed = |wanted: &str| supported.iter().any(|scope| scope.as_str() == wanted);
        let unknown: Vec<&str> = provider.scopes.iter().map(String::as_str).filter(|scope| !listed(scope)).collect();
        if !unknown.is_empty() {
            warn(format!("it does not list {} among its scopes; take them out of scopes if logins fail", unknown.join(", ")));
        }
        if listed("offline_access") && !provider.scopes.iter().any(|scope| scope == "offline_access") {
            warn(
                "a refresh token may not come: many providers give one for the scope \"offline_access\" alone, which scopes does not hold (Keycloak \
                 gives one without it); without, nothing renews the access token"
                    .to_owned(),
            );
        }
    }
    let refreshes =
        document.grant_types_supported().is_none_or(|grants| grants.contains(&openidconnect::core::CoreGrantType::RefreshToken));
    if !refreshes {
        warn("no refresh token will come: it does not list the grant refresh_token".to_owned());
    }
    if extra.end_session_endpoint.is_none() && provider.logout_url.is_none() {
        warn("signing out ends the session here alone: it names no end_session_endpoint; logout_url may name another way".to_owned());
    }
    if let Some(supported) = document.token_endpoint_auth_methods_supported() {
        let ours: &[&str] = match provider.client_auth {
            ClientAuthentication::Basic(_) => &["client_secret_basic"],
            ClientAuthentication::Post(_) => &["client_secret_post"],
            ClientAuthentication::PrivateKeyJwt(_) => &["private_key_jwt"],
            ClientAuthentication::Certificate => &["tls_client_auth", "self_signed_tls_client_auth"],
            ClientAuthentication::None => &["none"],
        };
        let listed: Vec<String> = supported.iter().map(text_of).collect();
        if !listed.iter().any(|method| ours.contains(&method.as_str())) {
            warn(format!("it does not list {} (client_auth) at its token endpoint, but {}", ours.join(" or "), listed.join(", ")));
        }
    }
    let listed: Vec<String> = document.id_token_signing_alg_values_supported().iter().map(text_of).collect();
    let taken = |algorithm: &String| Algorithm::from_name(algorithm).is_some_and(|algorithm| provider.algorithms.contains(&algorithm));
    if !listed.is_empty() && !listed.iter().any(taken) {
        let text = format!("its ID tokens are signed by {}, none of which is in algorithms", listed.join(", "));
        found.add(Verdict::Problem, about, text);
    }
}

/// The word of the document for one of its own kinds.
fn text_of(kind: &impl serde::Serialize) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Asks a `[[token_issuer]]`.
pub(super) async fn ask_issuer(around: &Around, index: usize) -> Findings {
    let mut found = Findings::default();
    let Some(issuer) = around.config.token_issuers.get(index) else { return found };
    let about = format!("token_issuer {}", issuer.issuer);
    let asked = token_issuers::Asked::new(&around.config, issuer, &around.clock, &around.tasks, &around.metrics);
    match asked.keys.keys().await {
        Ok(keys) if keys.is_empty() => found.add(Verdict::Problem, &about, "it publishes no key that could be used"),
        Ok(keys) => found.add(Verdict::Ok, &about, format!("keys that can be used: {}", keys.len())),
        Err(outage) => found.add(Verdict::Problem, &about, outage.to_string()),
    }
    let introspection = match &issuer.introspection {
        Some(introspection) => match &introspection.endpoint {
            Some(endpoint) => Some(endpoint.clone()),
            None => match asked.metadata.introspection_endpoint().await {
                Ok(endpoint) => Some(endpoint),
                Err(error) => {
                    found.add(Verdict::Problem, &about, error);
                    None
                }
            },
        },
        None => None,
    };
    let keys_at = match &issuer.keys {
        TokenKeys::Discovered => Url::parse(&issuer.issuer).ok(),
        TokenKeys::At(url) => Some(url.clone()),
        TokenKeys::File(_) => None,
    };
    if issuer.proxy.is_some() {
        return found;
    }
    let mut seen = BTreeSet::new();
    for url in [keys_at, introspection].into_iter().flatten() {
        if let Some(peer) = peers::at(&about, &url, 443, &issuer.tls)
            && let Place::Tcp(host, port) | Place::Tls(host, port, _) = &peer.place
            && seen.insert((host.clone(), *port))
        {
            found.0.extend(peers::reach(around, peer).await.0);
        }
    }
    found
}
