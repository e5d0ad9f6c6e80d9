//! The end of a session towards its provider: where the browser goes to end it there (OpenID Connect RP-Initiated Logout 1.0 §2), the
//! revocation of what the provider issued for it (RFC 7009), and the provider's own word that a session of its has ended (OpenID Connect
//! Back-Channel Logout 1.0).

use http::StatusCode;
use url::Url;

use super::http::{HttpError, HttpFailure};
use super::keys::{Budget, Looked};
use super::logout_url::{LogoutUrl, LogoutValues};
use super::oidc::OpenIdProvider;
use super::own_calls::{Endpoint, Unanswered};
use crate::fault::{Fault, Outage, Trouble};
use crate::reason::Reason;
use crate::secret::Secret;
use crate::session::{Session, Tokens};
use crate::token::{LogoutToken, LogoutTokenError, LogoutTokenExpectation, logout_token};

/// The longest ID token that is sent as a hint, in bytes: with the rest of the request it has to fit into the 8 KiB that servers take, and
/// some of them take less.
const HINT_BYTES: usize = 2 * 1024;

impl OpenIdProvider {
    /// The URL that ends the provider's own session; `None` where it offers none.
    pub(super) async fn end_session(&self, session: &Session, signed_out: &str, state: &str) -> Result<Option<Url>, Trouble> {
        let hint = Some(session.id_token.as_str()).filter(|token| token.len() <= HINT_BYTES && !token.is_empty());
        let client_id = &self.settings.client_id;
        // What the config says comes first: a provider may have an `end_session_endpoint` that does less.
        if let Some(template) = &self.settings.logout_url {
            return Ok(template.fill(&LogoutValues { client_id, signed_out, id_token: hint, state }));
        }
        let document = self.discovery.document().await?;
        let Some(mut url) = document.additional_metadata().end_session_endpoint.clone() else { return Ok(None) };
        {
            let mut query = url.query_pairs_mut();
            match hint {
                Some(token) => query.append_pair("id_token_hint", token),
                None => query.append_pair("logout_hint", logout_hint(session)),
            };
            query.append_pair("client_id", client_id).append_pair("post_logout_redirect_uri", signed_out).append_pair("state", state);
        }
        Ok(Some(url))
    }

    /// Whether `url` is where sessions end, but for its query.
    pub(super) async fn is_end_session(&self, url: &Url) -> Result<bool, Trouble> {
        if !url.username().is_empty() || url.password().is_some() {
            return Ok(false);
        }
        let same = |place: &Url| place.origin() == url.origin() && place.path() == url.path();
        if self.settings.logout_url.as_ref().and_then(LogoutUrl::place).is_some_and(|place| same(&place)) {
            return Ok(true);
        }
        let document = self.discovery.document().await?;
        Ok(document.additional_metadata().end_session_endpoint.as_ref().is_some_and(same))
    }

    /// Takes the refresh token back, and with it what was issued for it (RFC 7009 §2.1). Nothing happens where there is none, or where the
    /// provider has no endpoint for it.
    pub(super) async fn take_back(&self, tokens: &Tokens) -> Result<(), Trouble> {
        // An empty one stands where the copy at hand was kept without its tokens.
        let Some(refresh_token) = tokens.refresh_token.as_ref().filter(|token| !token.expose().is_empty()) else { return Ok(()) };
        let document = self.discovery.document().await?;
        let Some(endpoint) = self.endpoint(&document, Endpoint::Revocation) else { return Ok(()) };
        let form = [("token", refresh_token.expose()), ("token_type_hint", "refresh_token")];
        let answer =
            self.timed("revocation", self.post(&document, endpoint, &form, None)).await.map_err(|unanswered| match unanswered {
                Unanswered::Fault(fault) => fault.into(),
                Unanswered::Http(error) => sort(&error),
            })?;
        // §2.2: 200 also for a token that was not known. §2.2.1: at 503 the token must be taken to be there still.
        match answer.status() {
            status if status.is_success() => Ok(()),
            status @ StatusCode::TOO_MANY_REQUESTS => Err(sort(&HttpError::status(endpoint, status))),
            status => Err(Fault::new(Reason::RevocationRefused, format!("the revocation endpoint answered {}", status.as_u16())).into()),
        }
    }

    /// With the keys at hand; if none of them fits, once more with newer ones. Anybody can send a logout token, so that what it may cost
    /// the provider is what every stranger's token may.
    pub(super) async fn verified_logout(&self, token: &Secret) -> Result<LogoutToken, Trouble> {
        let expect = LogoutTokenExpectation {
            issuer: &self.settings.issuer,
            client_id: &self.settings.client_id,
            algorithms: &self.settings.algorithms,
            exp: self.settings.logout_token_exp,
            leeway: self.settings.leeway,
        };
        let keys = self.keys.keys().await?;
        match logout_token::verify(token.expose(), &keys, &expect, self.clock.now()) {
            Ok(verified) => Ok(verified),
            Err(LogoutTokenError::Refused(fault)) => Err(fault.into()),
            Err(LogoutTokenError::KeyUnknown(fault)) => match self.keys.look_again(Budget::Stranger, &keys).await? {
                Looked::Newer(newer) => {
                    logout_token::verify(token.expose(), &newer, &expect, self.clock.now()).map_err(|error| error.into_fault().into())
                }
                Looked::NoneNewer => Err(fault.into()),
                // Perhaps it is a stranger's, perhaps the provider has new keys: it is asked to send it again.
                Looked::TooSoon => Err(Fault::new(Reason::LogoutTokenKeyLater, fault.detail).into()),
            },
        }
    }
}

/// What tells the provider who signs out where the ID token is too long for a URL. Its value is a matter of the provider's (§2): what it
/// gave to be sent back as `login_hint`, else its name for the session, else its name for the person.
fn logout_hint(session: &Session) -> &str {
    let identity = &session.identity;
    let told = identity.claims.get("login_hint").and_then(serde_json::Value::as_str);
    told.or(session.sid.as_deref()).unwrap_or(&identity.sub)
}

fn sort(error: &HttpError) -> Trouble {
    match error.failure {
        HttpFailure::Unreachable | HttpFailure::Timeout | HttpFailure::Status(_) => Outage::provider(error).into(),
        HttpFailure::Address | HttpFailure::TooLarge | HttpFailure::Redirect | HttpFailure::NotJson => {
            Fault::new(Reason::RevocationRefused, error.to_string()).into()
        }
    }
}
