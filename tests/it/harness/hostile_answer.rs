//! The answers of the hostile provider, good and bad ones.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use url::Url;

use super::body::{TestBody, empty, full, streamed};
use super::server::Peer;

/// An answer as long as [`Lie::HugeAnswer`](super::hostile_lie::Lie::HugeAnswer) makes it.
const HUGE: usize = 32 << 20;

/// 303 back to the gateway.
pub fn redirect_back(uri: &str, params: &[(&str, String)]) -> Response<TestBody> {
    let Ok(mut url) = Url::parse(uri) else { return page(StatusCode::BAD_REQUEST, "<h1>Nowhere to go back to</h1>") };
    if !params.is_empty() {
        url.query_pairs_mut().extend_pairs(params);
    }
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(LOCATION, url.as_str().parse().expect("a URL is a header value"));
    response
}

/// The page of `response_mode=form_post`, which sends itself.
pub fn post_back(uri: &str, params: &[(&str, String)]) -> Response<TestBody> {
    let inputs: String =
        params.iter().map(|(name, value)| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value))).collect();
    let html = format!(
        "<!doctype html><title>Back to the application</title><form method=\"post\" action=\"{}\">{inputs}\
         <noscript><button>Go on</button></noscript></form><script>document.forms[0].submit()</script>",
        escape(uri)
    );
    page(StatusCode::OK, &html)
}

/// A page for people.
pub fn page(status: StatusCode, html: &str) -> Response<TestBody> {
    let mut response = Response::new(full(html.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, "text/html; charset=utf-8".parse().expect("a header value"));
    response
}

/// JSON, never to be stored.
pub fn json_answer(status: StatusCode, body: &Value) -> Response<TestBody> {
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().expect("a header value"));
    response.headers_mut().insert(CACHE_CONTROL, "no-store".parse().expect("a header value"));
    response
}

/// Spaces without end.
pub fn endless() -> Response<TestBody> {
    let (sender, body) = streamed();
    tokio::spawn(async move {
        let piece = Bytes::from(vec![b' '; 16 << 10]);
        while sender.send(piece.clone()).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().expect("a header value"));
    response
}

/// The same JSON with a very long member more.
pub async fn blown_up(response: Response<TestBody>) -> Response<TestBody> {
    let (mut head, body) = response.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut value: Value = serde_json::from_slice(&body).unwrap_or_else(|_| json!({}));
    value["padding"] = json!("x".repeat(HUGE));
    head.headers.remove(http::header::CONTENT_LENGTH);
    Response::from_parts(head, full(value.to_string()))
}

/// The same, a byte every 100 ms.
pub async fn dripping(response: Response<TestBody>) -> Response<TestBody> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (sender, slow) = streamed();
    tokio::spawn(async move {
        for byte in body {
            if !sender.send(vec![byte]).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    Response::from_parts(head, slow)
}

/// The same, of which half arrives before the connection closes.
pub async fn cut_off(response: Response<TestBody>, peer: Peer) -> Response<TestBody> {
    let (mut head, body) = response.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (sender, half) = streamed();
    head.headers.insert(CONTENT_LENGTH, body.len().into());
    tokio::spawn(async move {
        sender.send(body.slice(..body.len() / 2)).await;
        tokio::time::sleep(Duration::from_millis(50)).await; // the half has to be on its way
        sender.abort().await;
        peer.close_now();
    });
    Response::from_parts(head, half)
}

/// Text for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
