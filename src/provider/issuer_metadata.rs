//! What a token issuer says of itself: its OpenID document (OpenID Connect Discovery §4), else its RFC 8414 one. Needs nothing else of them than
//! where it gives its keys and answers about tokens, since an authorization server need not be an OpenID provider.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::CallTimes;
use super::discovery::{secure_enough, well_known};
use super::http::{Http, HttpFailure};
use crate::clock::{SharedClock, UnixTime};
use crate::secret::SecretSource;

/// How long a document counts before it is looked at again.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// How long nobody asks again after a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// What of the document counts here.
#[derive(Clone, Debug, Deserialize)]
struct Document {
    issuer: String,
    #[serde(default)]
    jwks_uri: Option<Url>,
    #[serde(default)]
    introspection_endpoint: Option<Url>,
}

/// A token issuer's document, fetched when first needed and kept. Shared as `Arc<IssuerMetadata>`.
pub struct IssuerMetadata {
    issuer: String,
    http: Http,
    times: CallTimes,
    bearer: Option<SecretSource>,
    clock: SharedClock,
    known: Mutex<Known>,
    /// One fetch at a time; the others wait for it.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    document: Option<(Arc<Document>, UnixTime)>,
    failure: Option<(String, UnixTime)>,
}

impl IssuerMetadata {
    /// Nothing is fetched yet. `bearer` is shown to the issuer where it does not tell everybody.
    #[must_use]
    pub fn new(issuer: String, http: Http, times: CallTimes, bearer: Option<SecretSource>, clock: SharedClock) -> Self {
        Self { issuer, http, times, bearer, clock, known: Mutex::default(), fetching: tokio::sync::Mutex::new(()) }
    }

    /// Where its keys are, looked up anew: keys are fetched seldom, and an issuer that moves says so here.
    ///
    /// # Errors
    /// What happened, for the log.
    pub async fn jwks_uri(&self) -> Result<Url, String> {
        let document = self.fetch().await?;
        document.jwks_uri.ok_or_else(|| format!("the document of {:?} names no jwks_uri", self.issuer))
    }

    /// Where it answers about tokens (RFC 8414 §2). A document that cannot be refreshed goes on counting.
    ///
    /// # Errors
    /// What happened, for the log.
    pub async fn introspection_endpoint(&self) -> Result<Url, String> {
        let document = match self.at_hand() {
            Some(answer) => answer?,
            None => self.refreshed().await?,
        };
        document
            .introspection_endpoint
            .clone()
            .ok_or_else(|| format!("the document of {:?} names no introspection_endpoint: write introspection = \"URL\"", self.issuer))
    }

    async fn refreshed(&self) -> Result<Arc<Document>, String> {
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
            Err(error) => {
                known.failure = Some((error.clone(), now));
                known.document.as_ref().map(|(document, _)| Arc::clone(document)).ok_or(error)
            }
        }
    }

    fn at_hand(&self) -> Option<Result<Arc<Document>, String>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let resting = known.failure.as_ref().filter(|(_, at)| now.since(*at) < PAUSE);
        match (&known.document, resting) {
            (Some((document, at)), _) if now.since(*at) < FRESH => Some(Ok(Arc::clone(document))),
            (Some((document, _)), Some(_)) => Some(Ok(Arc::clone(document))),
            (None, Some((error, _))) => Some(Err(error.clone())),
            _ => None,
        }
    }

    async fn fetch(&self) -> Result<Document, String> {
        let mut last = format!("{:?} is no URL", self.issuer);
        let bearer = self.bearer.as_ref().map(SecretSource::get);
        for url in [well_known(&self.issuer).ok(), oauth_well_known(&self.issuer)].into_iter().flatten() {
            let answer = match self.times.of("discovery", self.http.get_json(&url, bearer.as_ref())).await {
                Ok(answer) => answer,
                // Who does not answer at one address does not at the next.
                Err(error) if matches!(error.failure, HttpFailure::Unreachable | HttpFailure::Timeout) => return Err(error.to_string()),
                Err(error) => {
                    last = error.to_string();
                    continue;
                }
            };
            match serde_json::from_value::<Document>(answer) {
                Ok(document) if document.issuer != self.issuer => last = format!("{url} names another issuer than {:?}", self.issuer),
                Ok(document) => match document.insecure(&self.issuer) {
                    Some(insecure) => last = format!("{url} names {insecure}, which is not https"),
                    None => return Ok(document),
                },
                Err(error) => last = format!("{url} cannot be read: {error}"),
            }
        }
        Err(last)
    }
}

impl Document {
    fn insecure(&self, issuer: &str) -> Option<&Url> {
        [&self.jwks_uri, &self.introspection_endpoint].into_iter().flatten().find(|url| !secure_enough(issuer, url))
    }
}

/// RFC 8414 §3.1 puts the well-known part between host and path.
fn oauth_well_known(issuer: &str) -> Option<Url> {
    let mut url = Url::parse(issuer).ok()?;
    let path = format!("/.well-known/oauth-authorization-server{}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Some(url)
}
