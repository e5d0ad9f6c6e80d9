//! `internal_url`, `discovery_url`, `discovery` and `endpoints` of `[provider]`: where it is, where its issuer alone does not tell.

use std::collections::BTreeMap;

use url::Url;

use super::plain_http::PlainHttp;
use super::reader::Section;
use crate::provider::places::{DocumentAt, Places};

/// Keys of `endpoints`, with their names in the document.
const ENDPOINTS: [(&str, &str); 7] = [
    ("authorization", "authorization_endpoint"),
    ("token", "token_endpoint"),
    ("userinfo", "userinfo_endpoint"),
    ("jwks", "jwks_uri"),
    ("end_session", "end_session_endpoint"),
    ("revocation", "revocation_endpoint"),
    ("pushed_authorization_request", "pushed_authorization_request_endpoint"),
];
/// Those without which nobody signs in.
const NEEDED: [&str; 3] = ["authorization", "token", "jwks"];

pub(super) fn read(section: &Section<'_>, plain: PlainHttp) -> Places {
    let url = |text: &str| parse_url(text, plain);
    let inside = section.parsed("internal_url", |text| parse_origin(text, plain));
    let document = section.parsed("discovery_url", url);
    let discovers = section.flag("discovery", true);
    let endpoints = section.section("endpoints");
    let mut written = BTreeMap::new();
    for (key, name) in ENDPOINTS {
        written.extend(endpoints.parsed(key, url).map(|url| (name, url)));
    }
    if section.is_table("endpoints") && section.texts("endpoints").iter().any(|(name, _)| name == "introspection") {
        endpoints.problem(
            "introspection",
            "is asked for no session; opaque tokens of programs are introspected as [[token_issuer]] says: write introspection = \"URL\" there",
        );
    } else {
        endpoints.finish();
    }
    if !discovers {
        for key in NEEDED.into_iter().filter(|key| !endpoints.has(key)) {
            endpoints.problem(key, "is missing: with discovery = false nothing else says where it is");
        }
        for key in ["discovery_url", "internal_url"].into_iter().filter(|key| section.has(key)) {
            section.problem(key, "is for what the provider's document names, and discovery = false reads none; remove one of them");
        }
    }
    let document = match (discovers, document) {
        (false, _) => DocumentAt::Nowhere,
        (true, Some(url)) => DocumentAt::Url(url),
        (true, None) => DocumentAt::Issuer,
    };
    Places { document, inside, written }
}

fn parse_url(text: &str, plain: PlainHttp) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| format!("expected a URL such as \"https://login.example.com/token\"; found {text:?}"))?;
    if !url.has_host() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("expected a URL with a host, without fragment and credentials".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if !plain.refuses(&url) => Ok(url),
        "http" => Err(
            "is plain http off this machine: whoever is on the way can read tokens and answer with keys of their own; use https (tls.ca_file takes your own authority), or write insecure_http = true"
                .to_owned(),
        ),
        other => Err(format!("expected https; found {other}")),
    }
}

fn parse_origin(text: &str, plain: PlainHttp) -> Result<Url, String> {
    let url = parse_url(text, plain)?;
    if url.path() == "/" && url.query().is_none() {
        return Ok(url);
    }
    Err("expected scheme, host and port only, such as \"https://keycloak.internal:8443\": paths stay those of the issuer; where they differ write discovery_url and endpoints".to_owned())
}
