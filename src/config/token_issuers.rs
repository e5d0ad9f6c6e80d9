//! `[[token_issuer]]`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::client_auth::read_client_auth;
use super::gateway::is_loopback;
use super::idle;
use super::outgoing::read_outgoing_tls;
use super::provider_claims::read_groups;
use super::provider_proxy;
use super::providers::{Provider, claim, path, read_algorithms, read_issuer};
use super::reader::{Section, TrueOr};
use super::secret_file;
use crate::identity::{ClaimMapping, ClaimPath, EmailVerification};
use crate::provider::ClientAuthentication;
use crate::provider::proxy::Proxy;
use crate::provider::tls::TlsSettings;
use crate::secret::SecretSource;
use crate::token::{Algorithm, KeySet};

/// How long an answer about an opaque token is kept where nothing is written, and at most.
const CACHE: Duration = Duration::from_secs(60);
const CACHE_MOST: Duration = Duration::from_secs(60 * 60);

/// What is of use only where the issuer is asked about tokens.
const OF_INTROSPECTION: [&str; 9] = [
    "client_id",
    "client_secret",
    "client_secret_file",
    "client_auth",
    "key_file",
    "key_id",
    "key_algorithm",
    "assertion_audience",
    "introspection_cache",
];

/// An issuer of bearer tokens.
#[derive(Clone)]
pub struct TokenIssuer {
    /// Exactly as its tokens say it.
    pub issuer: String,
    /// Where its keys are.
    pub keys: TokenKeys,
    /// Shown where its keys or its document are fetched.
    pub bearer: Option<SecretSource>,
    /// Whose tokens are for us; `None`: `audience = "any"`.
    pub audience: Option<Vec<String>>,
    /// Signature algorithms.
    pub algorithms: Vec<Algorithm>,
    /// What `typ` has to be.
    pub typ: TokenTyp,
    /// Our own registration there, by which ID tokens are told under `typ = "any"`.
    pub client_id: Option<String>,
    /// Which claims say what.
    pub mapping: ClaimMapping,
    /// Where scopes are; `None`: `scope`, else `scp`.
    pub scope_claim: Option<ClaimPath>,
    /// How it is asked about opaque tokens.
    pub introspection: Option<Introspection>,
    /// Whom to trust there, and who we are.
    pub tls: TlsSettings,
    /// Through whom it is reached.
    pub proxy: Option<Proxy>,
}

/// Where a token issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKeys {
    /// Its document says.
    Discovered,
    /// At this address.
    At(Url),
    /// In this file.
    File(PathBuf),
}

/// `typ` of a token issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenTyp {
    /// RFC 9068.
    AtJwt,
    /// For issuers that do not send it; what looks like an ID token is refused.
    Any,
    /// ID tokens in place of access tokens.
    IdToken,
}

/// RFC 7662.
#[derive(Clone)]
pub struct Introspection {
    /// Where; `None`: as the issuer's document says.
    pub endpoint: Option<Url>,
    /// Who asks.
    pub client_id: String,
    /// How that is proven.
    pub auth: ClientAuthentication,
    /// How long an answer is kept.
    pub cache: Duration,
}

pub(super) fn read(root: &Section<'_>, providers: &[Provider], environment: Option<&Proxy>) -> Vec<TokenIssuer> {
    let mut known = BTreeSet::new();
    let mut opaque: Option<String> = None;
    let mut issuers = Vec::new();
    for section in &root.sections("token_issuer") {
        let issuer = read_one(section, providers, environment);
        if !issuer.issuer.is_empty() && !known.insert(issuer.issuer.clone()) {
            section.problem("issuer", "is named twice");
        }
        if issuer.introspection.is_some() {
            match &opaque {
                Some(first) => section.problem(
                    "introspection",
                    format!("stands at {first:?} already: an opaque token does not say whose it is, so that only one issuer can be asked"),
                ),
                None => opaque = Some(issuer.issuer.clone()),
            }
        }
        issuers.push(issuer);
    }
    issuers
}

/// An issuer with problems stays in the list with gaps, as a provider.
fn read_one(section: &Section<'_>, providers: &[Provider], environment: Option<&Proxy>) -> TokenIssuer {
    let issuer = read_issuer(section).unwrap_or_default();
    let typs = [("at+jwt", TokenTyp::AtJwt), ("any", TokenTyp::Any), ("id_token", TokenTyp::IdToken)];
    let typ = section.choice("typ", TokenTyp::AtJwt, &typs);
    let audience = read_audience(section, typ);
    let keys = read_keys(section);
    let bearer = secret_file::read_from_file(section, "bearer_file", 1);
    let tls = read_outgoing_tls(section);
    let introspection = read_introspection(section, &tls, &issuer);
    let at = match &keys {
        TokenKeys::At(url) => Some(url.as_str()),
        TokenKeys::Discovered | TokenKeys::File(_) => None,
    };
    let asked = introspection.as_ref().and_then(|asked| asked.endpoint.as_ref()).map(Url::as_str);
    idle::tls_beside_http(section, [Some(issuer.as_str()).filter(|issuer| !issuer.is_empty()), at, asked].into_iter().flatten());
    let discovers = introspection.as_ref().is_some_and(|asked| asked.endpoint.is_none());
    if bearer.is_some() && matches!(keys, TokenKeys::File(_)) && !discovers {
        section.problem("bearer_file", "stands beside jwks_file, where nothing is fetched; leave it out");
    }
    let proxy = provider_proxy::read(section, Some(&issuer), environment);
    if let Some(key) = ["proxy", "proxy_file"].into_iter().find(|key| section.has(key))
        && matches!(keys, TokenKeys::File(_))
        && introspection.is_none()
    {
        section.problem(key, "stands beside jwks_file, where nothing is fetched; leave it out");
    }
    let mapping = ClaimMapping {
        user: claim(section, "user_claim").unwrap_or_else(|| path("sub")),
        email: claim(section, "email_claim"),
        groups: read_groups(section),
        email_verification: EmailVerification::Required,
    };
    idle::warn_of_email_claim(section, None);
    let scope_claim = claim(section, "scope_claim");
    let algorithms = read_algorithms(section);
    section.finish();
    let client_id = providers.iter().find(|provider| provider.issuers.is(&issuer)).map(|provider| provider.client_id.clone());
    TokenIssuer { issuer, keys, bearer, audience, algorithms, typ, client_id, mapping, scope_claim, introspection, tls, proxy }
}

fn read_audience(section: &Section<'_>, typ: TokenTyp) -> Option<Vec<String>> {
    match section.list("audience") {
        Some(list) if list == ["any"] => {
            if typ == TokenTyp::IdToken {
                section.problem("audience", "is \"any\" beside typ = \"id_token\": name the client_id that the ID tokens are issued to");
            }
            None
        }
        Some(list) => Some(list),
        None if section.has("audience") => None,
        None => {
            section.problem(
                "audience",
                "is missing: what its tokens name us by, such as audience = \"orders\"; \"any\" where they name nobody",
            );
            None
        }
    }
}

fn read_keys(section: &Section<'_>) -> TokenKeys {
    let uri = section.parsed("jwks_uri", |text| parse_endpoint(text, "https://login.example.com/jwks"));
    let file = section.file("jwks_file");
    if let Some(file) = &file {
        match std::fs::read(file).map(|bytes| KeySet::parse(&bytes)) {
            Ok(Ok(keys)) if keys.is_empty() => {
                section.problem("jwks_file", format!("{} holds no public key that can check a signature", file.display()));
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => section.problem("jwks_file", format!("{}: {error}", file.display())),
            Err(error) => section.problem("jwks_file", format!("{} cannot be read: {error}", file.display())),
        }
    }
    match (uri, file) {
        (Some(uri), None) => TokenKeys::At(uri),
        (None, Some(file)) => TokenKeys::File(file),
        (Some(_), Some(_)) => {
            section.problem(
                "jwks_uri",
                "stands beside jwks_file; give one of them, or neither where the issuer's own document names its keys",
            );
            TokenKeys::Discovered
        }
        (None, None) => TokenKeys::Discovered,
    }
}

fn read_introspection(section: &Section<'_>, tls: &TlsSettings, issuer: &str) -> Option<Introspection> {
    let place = section.true_or("introspection", |text| {
        parse_endpoint(text, "https://login.example.com/introspect")
            .map_err(|wrong| format!("{wrong}; or true, where the issuer's document says it"))
    });
    let client_id = section.text("client_id");
    let cache = section.duration("introspection_cache", CACHE, Duration::ZERO..=CACHE_MOST);
    if !section.has("introspection") {
        for key in OF_INTROSPECTION.into_iter().filter(|key| section.has(key)) {
            section
                .problem(key, "is used with introspection only, for opaque tokens; write introspection = true beside it, or leave it out");
        }
        return None;
    }
    if client_id.is_none() && !section.has("client_id") {
        section.problem("client_id", "is missing: as whom the gateway asks about tokens; for example: client_id = \"gateway\"");
    }
    let auth = read_client_auth(section, tls, Some(issuer));
    let endpoint = match place? {
        TrueOr::True => None,
        TrueOr::Other(url) => Some(url),
    };
    Some(Introspection { endpoint, client_id: client_id?, auth, cache })
}

fn parse_endpoint(text: &str, example: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| format!("expected a URL such as {example:?}; found {text:?}"))?;
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("expected a URL without fragment and credentials".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("expected https: at an http address off this machine anybody can answer".to_owned()),
        other => Err(format!("expected https; found {other}")),
    }
}

#[cfg(test)]
mod tests;
