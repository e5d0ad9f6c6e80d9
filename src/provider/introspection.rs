//! Asking an issuer about one of its tokens (RFC 7662 §2.1). What its answer means is for `token` to say.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Request, StatusCode};
use tokio::sync::Semaphore;
use url::Url;

use super::http::Http;
use super::issuer_metadata::IssuerMetadata;
use super::{CallTimes, ClientAuthentication, Recipient};
use crate::clock::SharedClock;
use crate::fault::Outage;
use crate::secret::Secret;

/// How many questions may be under way at once; more wait, for as long as one question may take: who is not asked about by then never is.
const AT_ONCE: usize = 64;

/// Where questions are sent.
pub enum IntrospectionPlace {
    /// Written in the config.
    At(Url),
    /// As the issuer's document says.
    Discovered(Arc<IssuerMetadata>),
}

/// Asks one issuer.
pub struct IntrospectionEndpoint {
    place: IntrospectionPlace,
    /// Whose tokens these are.
    issuer: String,
    client_id: String,
    authentication: ClientAuthentication,
    http: Http,
    times: CallTimes,
    clock: SharedClock,
    turns: Semaphore,
}

impl IntrospectionEndpoint {
    /// Asks `issuer` as `client_id`.
    #[must_use]
    pub fn new(
        place: IntrospectionPlace,
        issuer: String,
        (client_id, authentication): (String, ClientAuthentication),
        (http, times): (Http, CallTimes),
        clock: SharedClock,
    ) -> Self {
        Self { place, issuer, client_id, authentication, http, times, clock, turns: Semaphore::new(AT_ONCE) }
    }

    /// The answer about `token`, as it came: the body of a JSON answer with status 200.
    ///
    /// # Errors
    /// Everything else: whether the token counts is then not known.
    pub async fn ask(&self, token: &Secret) -> Result<Vec<u8>, Outage> {
        let turn = tokio::time::timeout(self.http.deadline(), self.turns.acquire()).await;
        // Never closed, so that the wait alone ends it.
        let Ok(Ok(_turn)) = turn else {
            return Err(Outage::introspection(format!("{AT_ONCE} other questions are under way, and none ended in time")));
        };
        let url = match &self.place {
            IntrospectionPlace::At(url) => url.clone(),
            IntrospectionPlace::Discovered(metadata) => metadata.introspection_endpoint().await.map_err(Outage::introspection)?,
        };
        let request = self.request(&url, token)?;
        let answer = self.times.of("introspection", self.http.send(request)).await.map_err(Outage::introspection)?;
        // RFC 7662 §2.3: 401 says that we, not the token, are not let in.
        if answer.status() != StatusCode::OK {
            return Err(Outage::introspection(format!("{url} answered with status {}", answer.status().as_u16())));
        }
        if !is_json(answer.headers()) {
            return Err(Outage::introspection(format!("{url} answered with something else than application/json")));
        }
        Ok(answer.into_body())
    }

    fn request(&self, url: &Url, token: &Secret) -> Result<Request<Vec<u8>>, Outage> {
        let form = [("token", token.expose()), ("token_type_hint", "access_token")];
        let recipient = Recipient { issuer: &self.issuer, token_endpoint: url.as_str(), rs256_only: false };
        let made = self.authentication.request(url, &form, &self.client_id, &recipient, self.clock.now());
        made.map_err(|fault| Outage::introspection(fault.detail))
    }
}

/// RFC 7662 §2.2: the answer is `application/json`. A JWT in its place (RFC 9701) is not asked for and not read.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
