//! The provider's own description (OpenID Connect Discovery §4), fetched when first needed and kept. The gateway starts and serves sessions
//! while the provider is down.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType, CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, ProviderMetadata};
use serde::{Deserialize, Serialize};
use url::Url;

use super::http::{Http, HttpError, HttpFailure};
use super::places::Places;
use crate::clock::{SharedClock, UnixTime};
use crate::fault::{Fault, Outage, Trouble};
use crate::reason::Reason;
use crate::telemetry::Metrics;
use crate::token::Issuer;

/// How long a document counts before it is looked at again.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// How long nobody asks again after a failure, so that a crowd of logins does not hammer a provider that is coming up.
const PAUSE: Duration = Duration::from_secs(2);

/// What we read beyond OpenID Connect Discovery.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Extra {
    /// RFC 9207 §3.
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    /// RP-Initiated Logout §2.1.
    #[serde(default)]
    pub end_session_endpoint: Option<Url>,
    /// RFC 8414 §2, as it came: no login hangs on it.
    #[serde(default)]
    pub code_challenge_methods_supported: serde_json::Value,
    /// RFC 8414 §2; RFC 7009.
    #[serde(default)]
    pub revocation_endpoint: Option<Url>,
    /// RFC 9126 §5.
    #[serde(default)]
    pub pushed_authorization_request_endpoint: Option<Url>,
    /// RFC 9126 §5.
    #[serde(default)]
    pub require_pushed_authorization_requests: bool,
    /// RFC 8705 §5.
    #[serde(default)]
    pub mtls_endpoint_aliases: Option<MtlsEndpoints>,
    /// The token endpoint as the provider itself names it, where we reach it at another address. Not read.
    #[serde(skip)]
    pub public_token_endpoint: Option<Url>,
}

/// Where those go who show a certificate; an endpoint that is missing here is the common one (RFC 8705 §5).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct MtlsEndpoints {
    /// In place of `token_endpoint`.
    #[serde(default)]
    pub token_endpoint: Option<Url>,
    /// In place of `userinfo_endpoint`.
    #[serde(default)]
    pub userinfo_endpoint: Option<Url>,
    /// In place of `revocation_endpoint`.
    #[serde(default)]
    pub revocation_endpoint: Option<Url>,
    /// In place of `pushed_authorization_request_endpoint`.
    #[serde(default)]
    pub pushed_authorization_request_endpoint: Option<Url>,
}

impl AdditionalProviderMetadata for Extra {}

/// The document, read.
pub type Document = ProviderMetadata<
    Extra,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// One issuer's document, and when it was read.
pub struct Discovery {
    issuer: Issuer,
    places: Places,
    http: Http,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    known: Mutex<Known>,
    /// One fetch at a time; the others wait for it.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    document: Option<(Arc<Document>, UnixTime)>,
    failure: Option<(Trouble, UnixTime)>,
}

impl Discovery {
    /// Nothing is fetched yet.
    #[must_use]
    pub fn new(issuer: Issuer, places: Places, http: Http, clock: SharedClock, metrics: Arc<Metrics>) -> Self {
        Self { issuer, places, http, clock, metrics, known: Mutex::default(), fetching: tokio::sync::Mutex::new(()) }
    }

    /// The document. One that cannot be refreshed goes on counting.
    ///
    /// # Errors
    /// An outage when it could not be fetched; [`Reason::ProviderMetadata`] when it is not that issuer's, or no such document.
    pub async fn document(&self) -> Result<Arc<Document>, Trouble> {
        if let Some(answer) = self.at_hand() {
            return answer;
        }
        let _one_at_a_time = self.fetching.lock().await;
        if let Some(answer) = self.at_hand() {
            return answer;
        }
        let fetched = self.fetch().await;
        let now = self.clock.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match fetched {
            Ok(document) => {
                let document = Arc::new(document);
                *known = Known { document: Some((Arc::clone(&document), now)), failure: None };
                Ok(document)
            }
            Err(trouble) => {
                known.failure = Some((trouble.clone(), now));
                match &known.document {
                    Some((document, _)) => Ok(Arc::clone(document)),
                    None => Err(trouble),
                }
            }
        }
    }

    /// The document, if it was fetched already.
    #[must_use]
    pub fn known(&self) -> Option<Arc<Document>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.document.as_ref().map(|(document, _)| Arc::clone(document))
    }

    /// What was wrong at the last try; `None`: nothing. A document that was not asked for yet is a problem too.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match (&known.failure, &known.document) {
            (Some((trouble, _)), _) => Some(format!("{}: {}", trouble.reason(), trouble.detail())),
            (None, Some(_)) => None,
            (None, None) => Some("its document was not read yet".to_owned()),
        }
    }

    fn at_hand(&self) -> Option<Result<Arc<Document>, Trouble>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let resting = known.failure.as_ref().filter(|(_, at)| now.since(*at) < PAUSE);
        match (&known.document, resting) {
            (Some((document, at)), _) if now.since(*at) < FRESH => Some(Ok(Arc::clone(document))),
            (Some((document, _)), Some(_)) => Some(Ok(Arc::clone(document))),
            (None, Some((trouble, _))) => Some(Err(trouble.clone())),
            _ => None,
        }
    }

    async fn fetch(&self) -> Result<Document, Trouble> {
        let began = self.clock.instant();
        let fetched = match self.places.document_url(&self.issuer)? {
            Some(url) => Some(self.http.get_json(&url, None).await),
            None => None,
        };
        let (address, named) = (self.issuer.address(), self.issuer.in_document());
        self.metrics.provider_call(address, "discovery", self.clock.instant().saturating_duration_since(began));
        let fetched = fetched.transpose().map_err(|error| sort(&error))?;
        let document = self.places.read(&self.issuer, fetched).map_err(wrong)?;
        // OpenID Connect Discovery §4.3: the issuer must be exactly the one the document was asked of.
        if document.issuer().as_str() != named {
            let found: String = document.issuer().as_str().chars().take(200).collect();
            return Err(wrong(format!("the document of {named:?} names the issuer {found:?}; both must be the same, letter by letter")));
        }
        if document.token_endpoint().is_none() {
            return Err(wrong(format!("the document of {address:?} names no token_endpoint")));
        }
        Ok(document)
    }
}

/// OpenID Connect Discovery §4: the well-known part follows the issuer's own path.
pub(super) fn well_known(issuer: &str) -> Result<Url, Trouble> {
    let text = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    Url::parse(&text).map_err(|_| wrong(format!("{issuer:?} is no URL")))
}

/// An https issuer's endpoints are https, and none has another scheme.
pub(super) fn secure_enough(issuer: &str, url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && issuer.starts_with("http://"))
}

fn wrong(detail: String) -> Trouble {
    Fault::new(Reason::ProviderMetadata, detail).into()
}

/// Who did not answer is down; who answered with nonsense is set up wrong. A status is an outage: a provider that starts up answers 404 or 503.
fn sort(error: &HttpError) -> Trouble {
    match error.failure {
        HttpFailure::Unreachable | HttpFailure::Timeout | HttpFailure::Status(_) => Outage::provider(error).into(),
        HttpFailure::Address | HttpFailure::TooLarge | HttpFailure::Redirect | HttpFailure::NotJson => wrong(error.to_string()),
    }
}

/// Where a provider's keys are: its document says.
pub fn jwks_uri_of(discovery: Arc<Discovery>) -> Pin<Box<dyn Future<Output = Result<Url, Outage>> + Send>> {
    Box::pin(async move {
        match discovery.document().await {
            Ok(document) => Ok(document.jwks_uri().url().clone()),
            Err(trouble) => Err(Outage::keys(trouble.detail())),
        }
    })
}
