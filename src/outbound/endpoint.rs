//! One call to a token endpoint: where it is, as whom we ask, and for what.

use std::sync::Arc;

use http::Request;
use http::header::HeaderName;
use url::Url;

use super::answer::{self, Grant, Granted, Ungranted};
use super::token::UpstreamToken;
use crate::clock::{SharedClock, UnixTime};
use crate::provider::discovery::{Discovery, Document};
use crate::provider::http::Http;
use crate::provider::{CallTimes, ClientAuthentication, Recipient};

/// Where a token endpoint is.
#[derive(Clone)]
pub enum EndpointPlace {
    /// Here.
    Url(Url),
    /// Where the provider's document says.
    Discovered(Arc<Discovery>),
}

/// As whom we ask, and what for.
#[derive(Clone)]
pub struct TokenEndpointSettings {
    /// Where.
    pub place: EndpointPlace,
    /// Our registration there.
    pub client_id: String,
    /// How we prove ourselves.
    pub client_authentication: ClientAuthentication,
    /// Whether our side of the TLS shows a certificate.
    pub shows_certificate: bool,
    /// What the token is to be for.
    pub wanted: Wanted,
    /// The header it goes into.
    pub header: HeaderName,
}

/// What a token is to be for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `scope` (RFC 6749 §3.3).
    pub scope: Vec<String>,
    /// `audience`: the upstream by its name (RFC 8693 §2.1; some providers take it for client credentials too).
    pub audience: Vec<String>,
    /// `resource`: the upstream by its URL (RFC 8707 §2).
    pub resource: Vec<String>,
}

/// Asks it. Shared as `Arc<TokenEndpoint>`.
pub struct TokenEndpoint {
    settings: TokenEndpointSettings,
    http: Http,
    times: CallTimes,
    clock: SharedClock,
}

impl TokenEndpoint {
    /// Asks nobody yet.
    #[must_use]
    pub const fn new(settings: TokenEndpointSettings, http: Http, times: CallTimes, clock: SharedClock) -> Self {
        Self { settings, http, times, clock }
    }

    pub(super) const fn header(&self) -> &HeaderName {
        &self.settings.header
    }

    /// Asks once. `more` are parameters of the grant; `no_longer_than` is the end of what it is asked for.
    pub(super) async fn ask(
        &self,
        grant: Grant,
        more: &[(&str, &str)],
        no_longer_than: Option<UnixTime>,
    ) -> Result<UpstreamToken, Ungranted> {
        let (url, request) = self.request(more).await?;
        // The token's life is counted from before it was issued: what the call takes is part of it.
        let asked_at = self.clock.now();
        let call = match grant {
            Grant::ClientCredentials => "client-credentials",
            Grant::TokenExchange => "token-exchange",
        };
        let answer = self.times.of(call, self.http.send(request)).await.map_err(|error| Ungranted::Unusable(error.to_string()))?;
        let granted: Granted = answer::read(grant, &answer)?;
        UpstreamToken::new(&granted, &self.settings.header, asked_at, no_longer_than)
            .ok_or_else(|| Ungranted::Unusable(format!("{}: the token was over as it came", place_of(&url))))
    }

    /// The request, made anew for each call: an assertion counts once.
    async fn request(&self, more: &[(&str, &str)]) -> Result<(Url, Request<Vec<u8>>), Ungranted> {
        let unusable = |detail: String| Ungranted::Unusable(detail);
        let document = match &self.settings.place {
            EndpointPlace::Url(_) => None,
            EndpointPlace::Discovered(discovery) => {
                Some(discovery.document().await.map_err(|trouble| unusable(trouble.detail().to_owned()))?)
            }
        };
        let url = match (&self.settings.place, &document) {
            (EndpointPlace::Url(url), _) => Some(url.clone()),
            (_, Some(document)) => token_endpoint(document, self.settings.shows_certificate),
            (EndpointPlace::Discovered(_), None) => None,
        };
        let url = url.ok_or_else(|| unusable("the provider's document names no token_endpoint".to_owned()))?;
        let recipient = document.as_deref().map_or(
            // Without a document the endpoint is all that is known of whom we prove ourselves to.
            Recipient { issuer: url.as_str(), token_endpoint: url.as_str(), rs256_only: false },
            Recipient::of,
        );
        let form = self.form(more);
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let settings = &self.settings;
        let request = settings.client_authentication.request(&url, &form, &settings.client_id, &recipient, self.clock.now());
        let request = request.map_err(|fault| unusable(format!("{}: {}", place_of(&url), fault.detail)))?;
        Ok((url, request))
    }

    fn form<'a>(&self, more: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
        let wanted = &self.settings.wanted;
        let mut form: Vec<(&str, String)> = more.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        if !wanted.scope.is_empty() {
            form.push(("scope", wanted.scope.join(" ")));
        }
        // Both may be there several times (RFC 8693 §2.1, RFC 8707 §2).
        form.extend(wanted.audience.iter().map(|audience| ("audience", audience.clone())));
        form.extend(wanted.resource.iter().map(|resource| ("resource", resource.clone())));
        form
    }
}

/// Who shows a certificate goes where those are asked for, if that is somewhere else (RFC 8705 §5).
fn token_endpoint(document: &Document, shows_certificate: bool) -> Option<Url> {
    let aliases = document.additional_metadata().mtls_endpoint_aliases.as_ref().filter(|_| shows_certificate);
    let alias = aliases.and_then(|aliases| aliases.token_endpoint.clone());
    alias.or_else(|| document.token_endpoint().map(|endpoint| endpoint.url().clone()))
}

/// An address for people: without query, which may hold anything.
fn place_of(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
