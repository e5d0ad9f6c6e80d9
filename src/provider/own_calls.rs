//! Calls that only our registration may make, each proven anew: tokens, pushed authorization requests, revocation.

use http::{Response, StatusCode};
use url::Url;

use super::client_assertion::Recipient;
use super::discovery::Document;
use super::dpop::{Again, DpopKey};
use super::http::HttpError;
use super::oidc::OpenIdProvider;
use crate::fault::Fault;

/// Why a call brought no answer.
pub(super) enum Unanswered {
    /// It could not be made.
    Fault(Fault),
    /// It was made. A server that fails counts as one that does not answer.
    Http(HttpError),
}

impl From<HttpError> for Unanswered {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

/// What the provider has an endpoint for, beside those for browsers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Token,
    Userinfo,
    Revocation,
    PushedAuthorization,
}

impl OpenIdProvider {
    /// Where the document has it. Who shows a certificate goes where those are asked for, if that is somewhere else (RFC 8705 §5).
    pub(super) fn endpoint<'d>(&self, document: &'d Document, which: Endpoint) -> Option<&'d Url> {
        let extra = document.additional_metadata();
        let alias = extra.mtls_endpoint_aliases.as_ref().filter(|_| self.settings.shows_certificate).and_then(|aliases| match which {
            Endpoint::Token => aliases.token_endpoint.as_ref(),
            Endpoint::Userinfo => aliases.userinfo_endpoint.as_ref(),
            Endpoint::Revocation => aliases.revocation_endpoint.as_ref(),
            Endpoint::PushedAuthorization => aliases.pushed_authorization_request_endpoint.as_ref(),
        });
        alias.or_else(|| match which {
            Endpoint::Token => document.token_endpoint().map(|endpoint| endpoint.url()),
            Endpoint::Userinfo => document.userinfo_endpoint().map(|endpoint| endpoint.url()),
            Endpoint::Revocation => extra.revocation_endpoint.as_ref(),
            Endpoint::PushedAuthorization => extra.pushed_authorization_request_endpoint.as_ref(),
        })
    }

    /// Posts a form as our registration, with a proof of this key where there is one. An answer that asks for a nonce is followed by the same call
    /// with that nonce, once: what asks for it has done nothing yet (RFC 9449 §8).
    pub(super) async fn post(
        &self,
        document: &Document,
        endpoint: &Url,
        form: &[(&str, &str)],
        key: Option<&DpopKey>,
    ) -> Result<Response<Vec<u8>>, Unanswered> {
        let nonce = key.and_then(|_| self.nonces.of(endpoint));
        let answer = self.post_once(document, endpoint, form, key, nonce.as_deref()).await?;
        if key.is_none() || self.nonces.learn(endpoint, &answer, nonce.as_deref()) == Again::No {
            return Ok(answer);
        }
        let nonce = self.nonces.of(endpoint);
        let answer = self.post_once(document, endpoint, form, key, nonce.as_deref()).await?;
        self.nonces.learn(endpoint, &answer, nonce.as_deref());
        Ok(answer)
    }

    async fn post_once(
        &self,
        document: &Document,
        endpoint: &Url,
        form: &[(&str, &str)],
        key: Option<&DpopKey>,
        nonce: Option<&str>,
    ) -> Result<Response<Vec<u8>>, Unanswered> {
        let settings = &self.settings;
        let now = self.clock.now();
        let request = settings.client_authentication.request(endpoint, form, &settings.client_id, &Recipient::of(document), now);
        let mut request = request.map_err(Unanswered::Fault)?;
        if let Some(key) = key {
            key.prove(&mut request, endpoint, nonce, None, now).map_err(Unanswered::Fault)?;
        }
        let answer = self.http.send(request).await?;
        if is_outage(answer.status()) { Err(HttpError::status(endpoint, answer.status()).into()) } else { Ok(answer) }
    }
}

/// A failing server is an outage, and so is one that has no time for us now (RFC 6585 §4): whatever word it puts beside that speaks neither of a
/// person nor of a token.
pub(crate) fn is_outage(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY)
}
