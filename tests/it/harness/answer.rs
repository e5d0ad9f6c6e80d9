//! What a request brought: a complete answer, one whose body is still on its way, or none.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::http::BoxedStream;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum FetchError {
    /// No connection, or no TLS on it.
    Connect(String),
    /// The connection broke before the answer was complete.
    Broken(String),
    /// The answer was not complete in time.
    Deadline(Duration),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(cause) => write!(f, "no connection: {cause}"),
            Self::Broken(cause) => write!(f, "the connection broke: {cause}"),
            Self::Deadline(time) => write!(f, "no complete answer within {time:?}"),
        }
    }
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The HTTP version it came in.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The trailers, empty when there were none.
    pub trailers: HeaderMap,
}

impl Answer {
    /// The first header of this name, as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(text_of)
    }

    /// All headers of this name.
    #[must_use]
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(text_of).collect()
    }

    /// The `Location`, as sent.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.headers.get(LOCATION).map(text_of)
    }

    /// The `Set-Cookie` lines.
    #[must_use]
    pub fn set_cookies(&self) -> Vec<&str> {
        self.headers.get_all(SET_COOKIE).iter().map(text_of).collect()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics, showing it, when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}), status {}: {}", self.status, self.text()))
    }
}

fn text_of(value: &HeaderValue) -> &str {
    std::str::from_utf8(value.as_bytes()).unwrap_or("(not UTF-8)")
}

/// An answer whose head is there and whose body is read piece by piece.
#[derive(Debug)]
pub struct OpenAnswer {
    response: Response<Incoming>,
}

impl From<Response<Incoming>> for OpenAnswer {
    fn from(response: Response<Incoming>) -> Self {
        Self { response }
    }
}

impl OpenAnswer {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next piece of the body; `None` at its end, or when it broke off.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.try_next().await.ok().flatten()
    }

    /// The next piece of the body; an error when it broke off.
    pub async fn try_next(&mut self) -> Result<Option<Bytes>, FetchError> {
        while let Some(frame) = self.response.body_mut().frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Reads the rest.
    pub async fn whole(self) -> Result<Answer, FetchError> {
        let (head, mut incoming) = self.response.into_parts();
        let mut body = BytesMut::new();
        let mut trailers = HeaderMap::new();
        while let Some(frame) = incoming.frame().await {
            match frame.map_err(broken)?.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        Ok(Answer { status: head.status, version: head.version, headers: head.headers, body: body.freeze(), trailers })
    }

    /// The raw stream after a `101 Switching Protocols`.
    pub async fn upgraded(self) -> Result<BoxedStream, FetchError> {
        let upgraded = hyper::upgrade::on(self.response).await.map_err(broken)?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }
}

/// What went wrong, with its causes.
#[must_use]
pub fn broken(error: hyper::Error) -> FetchError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    FetchError::Broken(text)
}
