//! How we prove ourselves to a provider or another authorization server, in one way and never in two (RFC 6749 §2.3).

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Uri};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::client_assertion::{ASSERTION_TYPE, ClientAssertion, Recipient};
use crate::clock::UnixTime;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::secret::{Secret, SecretSource, encode_standard};

/// How we prove ourselves (OpenID Connect Core §9, RFC 8705 §2).
#[derive(Clone)]
pub enum ClientAuthentication {
    /// `client_secret_basic`.
    Basic(SecretSource),
    /// `client_secret_post`.
    Post(SecretSource),
    /// `private_key_jwt`.
    PrivateKeyJwt(ClientAssertion),
    /// `tls_client_auth` and `self_signed_tls_client_auth`: the connection's certificate proves it, the request only names us.
    Certificate,
    /// `none`: a public registration; PKCE alone protects its codes.
    None,
}

impl ClientAuthentication {
    /// A POST of this form as our registration. Every call makes a new proof: an assertion counts once.
    ///
    /// # Errors
    /// [`Reason::ProviderMetadata`] for an endpoint that is no URL to call; [`Reason::Internal`] when an assertion cannot be signed or a secret
    /// fits into no header.
    pub fn request(
        &self,
        endpoint: &Url,
        form: &[(&str, &str)],
        client_id: &str,
        recipient: &Recipient<'_>,
        now: UnixTime,
    ) -> Result<Request<Vec<u8>>, Fault> {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        let named = form.iter().any(|(name, _)| *name == "client_id");
        if !named && !matches!(self, Self::Basic(_)) {
            body.append_pair("client_id", client_id);
        }
        let mut authorization = None;
        match self {
            Self::Basic(secret) => authorization = Some(basic(client_id, &secret.get())?),
            Self::Post(secret) => {
                body.append_pair("client_secret", secret.get().expose());
            }
            Self::PrivateKeyJwt(assertion) => {
                let assertion = assertion.sign(client_id, recipient, now)?;
                body.append_pair("client_assertion_type", ASSERTION_TYPE).append_pair("client_assertion", assertion.expose());
            }
            Self::Certificate | Self::None => {}
        }
        let uri: Uri =
            endpoint.as_str().parse().map_err(|_| Fault::new(Reason::ProviderMetadata, format!("{endpoint} is no URL to call")))?;
        let mut request = Request::new(body.finish().into_bytes());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        Ok(request)
    }

    /// The secret, where there is one.
    #[must_use]
    pub fn secret(&self) -> Option<Secret> {
        match self {
            Self::Basic(secret) | Self::Post(secret) => Some(secret.get()),
            Self::PrivateKeyJwt(_) | Self::Certificate | Self::None => None,
        }
    }

    /// The public key to register, where a key proves us.
    #[must_use]
    pub fn public_jwk(&self) -> Option<Value> {
        match self {
            Self::PrivateKeyJwt(assertion) => Some(assertion.public_jwk()),
            Self::Basic(_) | Self::Post(_) | Self::Certificate | Self::None => None,
        }
    }
}

/// RFC 6749 §2.3.1: both are encoded as in a form before they are joined.
fn basic(client_id: &str, secret: &Secret) -> Result<HeaderValue, Fault> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(client_id), encoded(secret.expose()));
    let value = HeaderValue::try_from(format!("Basic {}", encode_standard(pair.as_bytes())));
    let mut value = value.map_err(|_| Fault::new(Reason::Internal, "the client_secret fits into no header"))?;
    value.set_sensitive(true);
    Ok(value)
}
