//! Where a provider is, as far as the config says: its document, its endpoints, and the address under which only we reach it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use url::Url;

use super::discovery::{Document, secure_enough, well_known};
use crate::fault::Trouble;
use crate::token::Issuer;

/// Where the browser is sent.
const BROWSERS: [&str; 2] = ["authorization_endpoint", "end_session_endpoint"];
/// Where we call ourselves.
const OURS: [&str; 5] = ["token_endpoint", "userinfo_endpoint", "jwks_uri", "revocation_endpoint", "pushed_authorization_request_endpoint"];
/// RFC 8705 §5.
const ALIASES: &str = "mtls_endpoint_aliases";

/// What the config says of it. Nothing: it is found by its issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Where its document is.
    pub document: DocumentAt,
    /// The origin to which our own calls go in place of the one that the document names. What is written is asked as it is written.
    pub inside: Option<Url>,
    /// Endpoints by their name in the document, in place of what stands there.
    pub written: BTreeMap<&'static str, Url>,
}

/// Where a provider's document is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DocumentAt {
    /// Below its issuer (OpenID Connect Discovery §4).
    #[default]
    Issuer,
    /// Here.
    Url(Url),
    /// Nowhere: its endpoints are written.
    Nowhere,
}

impl Places {
    /// Where the document is to be fetched; `None`: there is none to fetch.
    pub(super) fn document_url(&self, issuer: &Issuer) -> Result<Option<Url>, Trouble> {
        match (&self.document, &self.inside) {
            (DocumentAt::Nowhere, _) => Ok(None),
            (DocumentAt::Url(url), _) => Ok(Some(url.clone())),
            (DocumentAt::Issuer, None) => well_known(issuer.address()).map(Some),
            (DocumentAt::Issuer, Some(inside)) => Ok(Some(moved(&well_known(issuer.address())?, inside))),
        }
    }

    /// The document that counts: what was fetched, with what is written in place of what stands there, and our own calls led inside.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub(super) fn read(&self, issuer: &Issuer, fetched: Option<Value>) -> Result<Document, String> {
        let named = issuer.in_document();
        let Value::Object(mut members) = fetched.unwrap_or_else(|| unread(named)) else {
            return Err(format!("the document of {:?} is no JSON object", issuer.address()));
        };
        let public_token_endpoint = self.written.get("token_endpoint").cloned().or_else(|| url_of(&members, "token_endpoint"));
        self.put(&mut members, &BROWSERS, None, issuer)?;
        self.put(&mut members, &OURS, self.inside.as_ref(), issuer)?;
        if let Some(Value::Object(aliases)) = members.get_mut(ALIASES) {
            self.without_written(aliases);
            Self::default().put(aliases, &OURS, self.inside.as_ref(), issuer)?;
        }
        let read = serde_json::from_value::<Document>(Value::Object(members));
        let mut document = read.map_err(|error| format!("the document at {} cannot be read: {error}", issuer.address()))?;
        document.additional_metadata_mut().public_token_endpoint = public_token_endpoint;
        Ok(document)
    }

    /// An alias of what is written would else come before it.
    fn without_written(&self, aliases: &mut Map<String, Value>) {
        aliases.retain(|name, _| !self.written.contains_key(name.as_str()));
    }

    fn put(&self, members: &mut Map<String, Value>, names: &[&'static str], inside: Option<&Url>, issuer: &Issuer) -> Result<(), String> {
        for name in names {
            let url = match (self.written.get(name), url_of(members, name), inside) {
                (Some(written), _, _) => written.clone(),
                (None, Some(url), Some(inside)) => moved(&url, inside),
                (None, Some(url), None) if secure_enough(issuer.address(), &url) => url,
                (None, Some(url), None) => {
                    return Err(format!("the document of {:?} names {url}, which is not https", issuer.address()));
                }
                // Absent, or no URL: reading the whole will say so.
                (None, None, _) => continue,
            };
            members.insert((*name).to_owned(), Value::String(url.into()));
        }
        Ok(())
    }
}

/// What a document has to hold beside endpoints.
fn unread(issuer: &str) -> Value {
    json!({
        "issuer": issuer, "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

fn url_of(members: &Map<String, Value>, name: &str) -> Option<Url> {
    Url::parse(members.get(name)?.as_str()?).ok()
}

/// The same path at another origin, which has a host.
fn moved(url: &Url, origin: &Url) -> Url {
    let mut moved = origin.clone();
    moved.set_path(url.path());
    moved.set_query(url.query());
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer() -> Issuer {
        Issuer::One("https://login.test/realm".to_owned())
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn document() -> Value {
        let mut document = unread("https://login.test/realm");
        for (name, path) in [
            ("authorization_endpoint", "/auth"),
            ("token_endpoint", "/token?a=1"),
            ("userinfo_endpoint", "/me"),
            ("jwks_uri", "/jwks"),
            ("end_session_endpoint", "/bye"),
            ("revocation_endpoint", "/revoke"),
        ] {
            document[name] = json!(format!("https://login.test{path}"));
        }
        document[ALIASES] = json!({ "token_endpoint": "https://mtls.login.test/token", "userinfo_endpoint": "https://mtls.login.test/me" });
        document
    }

    #[test]
    fn our_own_calls_go_inside_and_browsers_do_not() {
        let places = Places { inside: Some(url("http://keycloak.internal:8080")), ..Places::default() };
        assert_eq!(
            places.document_url(&issuer()).ok().flatten().map(String::from).as_deref(),
            Some("http://keycloak.internal:8080/realm/.well-known/openid-configuration")
        );
        let read = places.read(&issuer(), Some(document())).unwrap();
        let extra = read.additional_metadata();
        assert_eq!(read.issuer().as_str(), "https://login.test/realm");
        assert_eq!(read.authorization_endpoint().as_str(), "https://login.test/auth");
        assert_eq!(extra.end_session_endpoint.as_ref().map(Url::as_str), Some("https://login.test/bye"));
        assert_eq!(read.token_endpoint().unwrap().as_str(), "http://keycloak.internal:8080/token?a=1");
        assert_eq!(read.jwks_uri().as_str(), "http://keycloak.internal:8080/jwks");
        assert_eq!(extra.revocation_endpoint.as_ref().map(Url::as_str), Some("http://keycloak.internal:8080/revoke"));
        let aliases = extra.mtls_endpoint_aliases.as_ref().unwrap();
        assert_eq!(aliases.token_endpoint.as_ref().map(Url::as_str), Some("http://keycloak.internal:8080/token"));
        // Whom an assertion names is the one that the provider knows itself by.
        assert_eq!(extra.public_token_endpoint.as_ref().map(Url::as_str), Some("https://login.test/token?a=1"));
    }

    #[test]
    fn what_is_written_stands_in_place_of_what_was_fetched() {
        let written = BTreeMap::from([
            ("authorization_endpoint", url("https://front.test/auth")),
            ("token_endpoint", url("http://127.0.0.1:1/token")),
        ]);
        let places = Places { inside: Some(url("https://inside.test")), written, ..Places::default() };
        let read = places.read(&issuer(), Some(document())).unwrap();
        assert_eq!(read.authorization_endpoint().as_str(), "https://front.test/auth");
        assert_eq!(read.token_endpoint().unwrap().as_str(), "http://127.0.0.1:1/token");
        assert_eq!(read.userinfo_endpoint().unwrap().as_str(), "https://inside.test/me");
        let aliases = read.additional_metadata().mtls_endpoint_aliases.as_ref().unwrap();
        assert_eq!((aliases.token_endpoint.is_none(), aliases.userinfo_endpoint.is_some()), (true, true));
    }

    #[test]
    fn what_a_document_names_without_https_is_refused_where_it_is_used() {
        for (name, value, inside, good) in [
            ("token_endpoint", "http://login.test/token", None, false),
            ("token_endpoint", "http://login.test/token", Some("https://inside.test"), true),
            ("authorization_endpoint", "http://login.test/auth", Some("https://inside.test"), false),
            ("end_session_endpoint", "javascript:alert(1)", None, false),
            ("jwks_uri", "not a url", None, false),
        ] {
            let mut document = document();
            document[name] = json!(value);
            let places = Places { inside: inside.map(url), ..Places::default() };
            assert_eq!(places.read(&issuer(), Some(document)).is_ok(), good, "{name} {value}");
        }
        assert!(Places::default().read(&issuer(), Some(json!([]))).is_err());
        assert!(Places { document: DocumentAt::Nowhere, ..Places::default() }.read(&issuer(), None).is_err());
    }
}
