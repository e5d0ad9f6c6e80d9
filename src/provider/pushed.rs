//! Pushed authorization requests (RFC 9126): the provider gets the request from us, and the browser takes only a reference along.

use http::{Response, StatusCode};
use serde::Deserialize;
use url::Url;

use super::discovery::Document;
use super::dpop::DpopKey;
use super::exchange::error_word;
use super::http::HttpFailure;
use super::oidc::OpenIdProvider;
use super::own_calls::{Endpoint, Unanswered};
use crate::fault::{Fault, Outage, Trouble};
use crate::reason::Reason;

/// When authorization requests are pushed (`par`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Where the provider's document requires it (§5).
    WhereRequired,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// §2.2. `expires_in` is of no use here: the browser is sent on at once.
#[derive(Deserialize)]
struct Answer {
    request_uri: String,
}

impl OpenIdProvider {
    /// Where this request is to be pushed to; `None`: the browser takes it along.
    pub(super) fn pushed_to<'d>(&self, document: &'d Document) -> Result<Option<&'d Url>, Fault> {
        let required = document.additional_metadata().require_pushed_authorization_requests;
        match (self.settings.pushed, required) {
            (Pushed::Never, true) => Err(Fault::new(
                Reason::ProviderMetadata,
                "the provider requires pushed authorization requests, and par = \"never\" forbids them: write par = \"auto\"",
            )),
            (Pushed::Never | Pushed::WhereRequired, false) => Ok(None),
            (Pushed::Always, _) | (Pushed::WhereRequired, true) => match self.endpoint(document, Endpoint::PushedAuthorization) {
                Some(endpoint) => Ok(Some(endpoint)),
                None => Err(Fault::new(
                    Reason::ProviderMetadata,
                    "authorization requests are to be pushed, and the provider's document names no pushed_authorization_request_endpoint",
                )),
            },
        }
    }

    /// Pushes the parameters and gives the `request_uri` for them. It is good once, and is used at once.
    pub(super) async fn push(
        &self,
        document: &Document,
        endpoint: &Url,
        parameters: &[(&str, &str)],
        key: Option<&DpopKey>,
    ) -> Result<String, Trouble> {
        let answer = self.timed("par", self.post(document, endpoint, parameters, key)).await.map_err(|unanswered| match unanswered {
            Unanswered::Fault(fault) => Trouble::from(fault),
            Unanswered::Http(error) => match error.failure {
                HttpFailure::Unreachable | HttpFailure::Timeout | HttpFailure::Status(_) => Outage::provider(&error).into(),
                HttpFailure::Address | HttpFailure::TooLarge | HttpFailure::Redirect | HttpFailure::NotJson => malformed(&error).into(),
            },
        })?;
        read(&answer)
    }
}

fn read(answer: &Response<Vec<u8>>) -> Result<String, Trouble> {
    match answer.status() {
        StatusCode::CREATED => {}
        StatusCode::TOO_MANY_REQUESTS => {
            return Err(Outage::provider("the provider takes no more pushed authorization requests for now").into());
        }
        status if status.is_client_error() => {
            let word = error_word(answer.body()).unwrap_or_else(|| status.as_u16().to_string());
            let detail = format!("the provider refused the pushed authorization request: {word}");
            return Err(Fault::new(Reason::PushedRequestRefused, detail).into());
        }
        status => return Err(malformed(&format!("status {} where 201 belongs", status.as_u16())).into()),
    }
    let read = serde_json::from_slice::<Answer>(answer.body()).ok().map(|read| read.request_uri).filter(|uri| !uri.is_empty());
    read.ok_or_else(|| malformed(&"it holds no request_uri").into())
}

fn malformed(what: &dyn std::fmt::Display) -> Fault {
    Fault::new(Reason::PushedResponse, format!("the answer to the pushed authorization request is none (RFC 9126 §2.2): {what}"))
}
