//! Asking an issuer about one of its tokens (RFC 7662 §2.1). What its answer means is for `token` to say.

use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use tokio::sync::Semaphore;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::CallTimes;
use super::http::Http;
use super::issuer_metadata::IssuerMetadata;
use crate::fault::Outage;
use crate::secret::{Secret, SecretSource, encode_standard};

/// How many questions may be under way at once; more wait.
const AT_ONCE: usize = 64;

/// Where questions are sent.
pub enum IntrospectionPlace {
    /// Written in the config.
    At(Url),
    /// As the issuer's document says.
    Discovered(Arc<IssuerMetadata>),
}

/// How the gateway proves who is asking.
pub enum IntrospectionAuth {
    /// `client_secret_basic` (RFC 6749 §2.3.1).
    Basic(SecretSource),
    /// `client_secret_post`.
    Post(SecretSource),
}

/// Asks one issuer.
pub struct IntrospectionEndpoint {
    place: IntrospectionPlace,
    client_id: String,
    auth: IntrospectionAuth,
    http: Http,
    times: CallTimes,
    turns: Semaphore,
}

impl IntrospectionEndpoint {
    /// Asks as `client_id`.
    #[must_use]
    pub fn new(place: IntrospectionPlace, client_id: String, auth: IntrospectionAuth, http: Http, times: CallTimes) -> Self {
        Self { place, client_id, auth, http, times, turns: Semaphore::new(AT_ONCE) }
    }

    /// The answer about `token`, as it came: the body of a JSON answer with status 200.
    ///
    /// # Errors
    /// Everything else: whether the token counts is then not known.
    pub async fn ask(&self, token: &Secret) -> Result<Vec<u8>, Outage> {
        // Never closed, so there is always a turn.
        let _turn = self.turns.acquire().await;
        let url = match &self.place {
            IntrospectionPlace::At(url) => url.clone(),
            IntrospectionPlace::Discovered(metadata) => metadata.introspection_endpoint().await.map_err(Outage::introspection)?,
        };
        let request = self.request(&url, token).ok_or_else(|| Outage::introspection(format!("no request can be made for {url}")))?;
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

    fn request(&self, url: &Url, token: &Secret) -> Option<Request<Vec<u8>>> {
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token.expose()).append_pair("token_type_hint", "access_token");
        let mut authorization = None;
        match &self.auth {
            IntrospectionAuth::Basic(secret) => {
                // RFC 6749 §2.3.1: both are form-encoded before they are joined.
                let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let joined = Secret::new(format!("{}:{}", encoded(&self.client_id), encoded(secret.get().expose())));
                let mut value = HeaderValue::try_from(format!("Basic {}", encode_standard(joined.expose().as_bytes()))).ok()?;
                value.set_sensitive(true);
                authorization = Some(value);
            }
            IntrospectionAuth::Post(secret) => {
                form.append_pair("client_id", &self.client_id).append_pair("client_secret", secret.get().expose());
            }
        }
        let mut request = Request::new(form.finish().into_bytes());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.as_str().parse::<Uri>().ok()?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        Some(request)
    }
}

/// RFC 7662 §2.2: the answer is `application/json`. A JWT in its place (RFC 9701) is not asked for and not read.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
