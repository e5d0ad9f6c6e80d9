//! The app behind the demo: it has no login, and shows what it was told.

use bytes::Bytes;
use http::{Response, StatusCode};
use minijinja::context;
use minijinja::value::Serde;
use serde::Serialize;
use serde_json::json;

use super::serve::{self, Read};
use crate::respond::{Look, Pages};

#[derive(Serialize)]
struct Header {
    name: String,
    value: String,
    ours: bool,
}

#[derive(Serialize)]
struct Link {
    href: &'static str,
    label: &'static str,
    about: &'static str,
}

const LINKS: [Link; 5] = [
    Link { href: "/", label: "The app", about: "needs a login" },
    Link { href: "/staff/", label: "Staff only", about: "lets in alice, not bob" },
    Link { href: "/public/", label: "Public", about: "needs nothing, and is told nobody" },
    Link { href: "/api/", label: "The API", about: "takes bearer tokens only" },
    Link { href: "/oauth2/session", label: "Your session", about: "the gateway’s own page" },
];

/// A page for browsers, JSON for programs.
pub(super) fn answer(gateway: &str, request: &Read) -> Response<Bytes> {
    let headers: Vec<Header> = request
        .headers()
        .iter()
        .map(|(name, value)| Header {
            name: name.to_string(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ours: name.as_str().starts_with("x-forwarded-") || matches!(name.as_str(), "forwarded" | "x-request-id" | "traceparent"),
        })
        .collect();
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if !text("accept").is_some_and(|accept| accept.contains("text/html")) {
        let told: Vec<_> = headers.iter().map(|header| json!({"name": header.name, "value": header.value})).collect();
        return serve::json(
            StatusCode::OK,
            &json!({"app": "sample", "method": request.method().as_str(), "path": path, "user": text("x-forwarded-user"), "headers": told}),
        );
    }
    let look = Look { title: "Sample app".to_owned(), logo: None, accent: "#1f6f36".to_owned(), notice: None, help_url: None };
    let Ok(pages) = Pages::new(&look) else { return serve::text(StatusCode::INTERNAL_SERVER_ERROR, "the page does not compile\n") };
    let user = text("x-forwarded-user");
    let content = context! {
        method => request.method().as_str(), path, headers => Serde(&headers), user, links => Serde(LINKS),
        sign_out => user.map(|_| format!("{gateway}/oauth2/sign_out")),
    };
    pages.render("demo_app.html", text("x-request-id").unwrap_or_default(), content, &[])
}
