//! Where a route reads bearer tokens.

use http::HeaderName;

/// One entry of `bearer_in`. What is not listed is not read there, and is the app's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// `"header"`: `Authorization` (RFC 6750 §2.1). Without it `Authorization: Bearer` belongs to the app.
    Authorization,
    /// `"query"`: `access_token` in the query (§2.3).
    Query,
    /// `"body"`: `access_token` in an urlencoded form (§2.2).
    Body,
    /// `"header:NAME"`: the whole value of this header is the token.
    Header(HeaderName),
    /// `"subprotocol"`: an entry of `Sec-WebSocket-Protocol`, for browsers, which give a WebSocket no other header.
    Subprotocol,
}

/// The parameter of [`TokenPlace::Query`] and [`TokenPlace::Body`].
pub const ACCESS_TOKEN: &str = "access_token";

/// How an entry of [`TokenPlace::Subprotocol`] begins; the token follows as base64url without padding, since not every token is a subprotocol's
/// name. It is the form that the Kubernetes API takes, so clients for it exist.
pub const SUBPROTOCOL_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
