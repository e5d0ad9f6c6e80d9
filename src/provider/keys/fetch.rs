//! Where an issuer's keys come from: an address, which may be asked for first and may want a bearer of the gateway's own, or a file.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;
use url::Url;

use super::super::CallTimes;
use super::super::http::Http;
use crate::fault::Outage;
use crate::secret::SecretSource;

/// The largest file of keys that is read, in bytes.
const MOST_FILE_BYTES: u64 = 1 << 20;

/// A future of the keys' side, `Send` and boxed.
pub type KeysFuture<T> = Pin<Box<dyn Future<Output = Result<T, Outage>> + Send>>;
/// Says where the keys are; may wait for discovery.
pub type ResolveJwksUri = Box<dyn Fn() -> KeysFuture<Url> + Send + Sync>;
/// Fetches the keys.
pub type FetchKeys = Box<dyn Fn() -> KeysFuture<FetchedKeys> + Send + Sync>;

/// A key document as it came.
#[derive(Clone, Debug)]
pub struct FetchedKeys {
    /// The JWK Set's bytes.
    pub document: Vec<u8>,
    /// How long the issuer says it is fresh.
    pub max_age: Option<Duration>,
}

/// Fetches a JWK Set from where `resolve` says, with `bearer` in `Authorization` where there is one.
#[must_use]
pub fn over_http(http: Http, times: CallTimes, bearer: Option<SecretSource>, resolve: ResolveJwksUri) -> FetchKeys {
    let resolve = Arc::new(resolve);
    Box::new(move || {
        let (http, times, bearer, resolve) = (http.clone(), times.clone(), bearer.clone(), Arc::clone(&resolve));
        Box::pin(async move {
            let jwks_uri = resolve().await?;
            let bearer = bearer.map(|bearer| bearer.get());
            let answer = times.of("keys", http.get(&jwks_uri, bearer.as_ref())).await.map_err(Outage::keys)?;
            Ok(FetchedKeys { max_age: max_age(answer.headers()), document: answer.into_body() })
        })
    })
}

/// Reads a JWK Set from a file.
pub(super) fn from_file(path: PathBuf) -> FetchKeys {
    Box::new(move || {
        let path = path.clone();
        Box::pin(async move {
            let failed = |what: &dyn std::fmt::Display| Outage::keys(format!("{}: {what}", path.display()));
            let length = tokio::fs::metadata(&path).await.map_err(|error| failed(&error))?.len();
            if length > MOST_FILE_BYTES {
                return Err(failed(&format!("{length} bytes, the limit is {MOST_FILE_BYTES}")));
            }
            let document = tokio::fs::read(&path).await.map_err(|error| failed(&error))?;
            Ok(FetchedKeys { document, max_age: None })
        })
    })
}

/// `max-age` of `Cache-Control` (RFC 9111 §5.2.2.1).
pub(super) fn max_age(headers: &HeaderMap) -> Option<Duration> {
    headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse().ok()?;
        name.trim().eq_ignore_ascii_case("max-age").then(|| Duration::from_secs(seconds))
    })
}
