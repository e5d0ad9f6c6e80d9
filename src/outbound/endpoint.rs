//! One call to a token endpoint: where it is, as whom we ask, and for what.

use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::answer::{self, Grant, Granted, Ungranted};
use super::token::UpstreamToken;
use crate::clock::{SharedClock, UnixTime};
use crate::provider::discovery::Discovery;
use crate::provider::http::Http;
use crate::provider::{CallTimes, ClientAuthentication};
use crate::secret::{SecretSource, encode_standard};

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
    /// Its secret.
    pub client_secret: SecretSource,
    /// How we prove ourselves.
    pub client_authentication: ClientAuthentication,
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

    /// Asks once. `more` are parameters of the grant; `no_longer_than` is the end of what it is asked for.
    pub(super) async fn ask(
        &self,
        grant: Grant,
        more: &[(&str, &str)],
        no_longer_than: Option<UnixTime>,
    ) -> Result<UpstreamToken, Ungranted> {
        let url = self.url().await?;
        let request = self.request(&url, more)?;
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

    async fn url(&self) -> Result<Url, Ungranted> {
        let discovery = match &self.settings.place {
            EndpointPlace::Url(url) => return Ok(url.clone()),
            EndpointPlace::Discovered(discovery) => discovery,
        };
        let document = discovery.document().await.map_err(|trouble| Ungranted::Unusable(trouble.detail().to_owned()))?;
        let endpoint = document.token_endpoint().map(|endpoint| endpoint.url().clone());
        endpoint.ok_or_else(|| Ungranted::Unusable("the provider's document names no token_endpoint".to_owned()))
    }

    fn request(&self, url: &Url, more: &[(&str, &str)]) -> Result<Request<Vec<u8>>, Ungranted> {
        let wanted = &self.settings.wanted;
        let scope = wanted.scope.join(" ");
        let mut form = more.to_vec();
        if !scope.is_empty() {
            form.push(("scope", &scope));
        }
        // Both may be there several times (RFC 8693 §2.1, RFC 8707 §2).
        form.extend(wanted.audience.iter().map(|audience| ("audience", audience.as_str())));
        form.extend(wanted.resource.iter().map(|resource| ("resource", resource.as_str())));
        self.authenticated(url, &form)
    }

    /// A POST of this form as our registration.
    fn authenticated(&self, url: &Url, form: &[(&str, &str)]) -> Result<Request<Vec<u8>>, Ungranted> {
        let settings = &self.settings;
        let unusable = |what: &str| Ungranted::Unusable(format!("{}: {what}", place_of(url)));
        let secret = settings.client_secret.get();
        let mut body = Serializer::new(String::new());
        body.extend_pairs(form);
        let basic = match settings.client_authentication {
            ClientAuthentication::Basic => {
                // RFC 6749 §2.3.1: both are encoded as in a form before they are joined.
                let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encoded(&settings.client_id), encoded(secret.expose()));
                Some(format!("Basic {}", encode_standard(pair.as_bytes())))
            }
            ClientAuthentication::Post => {
                body.append_pair("client_id", &settings.client_id).append_pair("client_secret", secret.expose());
                None
            }
        };
        let uri: Uri = url.as_str().parse().map_err(|_| unusable("not an http or https address"))?;
        let mut request = Request::new(body.finish().into_bytes());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(basic) = basic {
            let mut value = HeaderValue::try_from(basic).map_err(|_| unusable("the client_secret fits into no header"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// An address for people: without query, which may hold anything.
fn place_of(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
