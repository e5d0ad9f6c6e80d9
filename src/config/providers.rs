//! `[provider]`.

use std::collections::BTreeSet;

use url::Url;

use super::client_auth::read_client_auth;
use super::gateway::is_loopback;
use super::idle;
use super::outgoing::read_outgoing_tls;
use super::plain_http::PlainHttp;
use super::reader::Section;
use super::{provider_authorize, provider_callback, provider_claims, provider_places, provider_proxy, provider_tenants};
use crate::identity::{ClaimMapping, ClaimPath, EmailVerification};
use crate::provider::authorize::FromStart;
use crate::provider::places::Places;
use crate::provider::proxy::Proxy;
use crate::provider::tls::TlsSettings;
use crate::provider::{Binding, ClaimSource, ClientAuthentication, LogoutUrl, Pushed};
use crate::route::{InNameOf, RouteTable};
use crate::token::{Algorithm, Issuer, LogoutTokenExp};

/// An OpenID provider that people sign in at.
#[derive(Clone)]
pub struct Provider {
    /// Its name in routes, records and metrics.
    pub id: String,
    /// What the chooser calls it.
    pub name: String,
    /// As it is written.
    pub issuer: String,
    /// Whose its tokens are, exactly as they say it.
    pub issuers: Issuer,
    /// Our registration.
    pub client_id: String,
    /// How we prove ourselves to it.
    pub client_auth: ClientAuthentication,
    /// When authorization requests are pushed.
    pub pushed: Pushed,
    /// What its tokens are to be bound to.
    pub binding: Binding,
    /// Asked for; always with `openid`.
    pub scopes: Vec<String>,
    /// How the answer comes back.
    pub response_mode: ResponseMode,
    /// Signature algorithms that ID tokens may have.
    pub algorithms: Vec<Algorithm>,
    /// Where claims come from.
    pub claims_from: Vec<ClaimSource>,
    /// Which claims say what.
    pub mapping: ClaimMapping,
    /// What else every authorization request says.
    pub authorize: Vec<(String, String)>,
    /// What `start` may add to it.
    pub authorize_from_start: FromStart,
    /// A redirect path of its own.
    pub callback: Option<String>,
    /// Where it ends its session in a way of its own.
    pub logout_url: Option<LogoutUrl>,
    /// Whether its logout tokens carry `exp`.
    pub logout_token_exp: LogoutTokenExp,
    /// Whom to trust there, and who we are.
    pub tls: TlsSettings,
    /// Through whom it is reached.
    pub proxy: Option<Proxy>,
    /// Where it is.
    pub places: Places,
}

/// `response_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseMode {
    /// In the callback's query.
    Query,
    /// As a form that the browser posts (OAuth 2.0 Form Post Response Mode §2).
    FormPost,
}

pub(super) fn read_providers(root: &Section<'_>, plain: PlainHttp, environment: Option<&Proxy>) -> Vec<Provider> {
    let sections = root.sections("provider");
    let several = sections.len() > 1;
    let mut ids = BTreeSet::new();
    let mut providers = Vec::new();
    for section in &sections {
        let provider = read_provider(section, several, plain, environment);
        if !ids.insert(provider.id.clone()) {
            section.problem("id", format!("{:?} names another provider already", provider.id));
        }
        providers.push(provider);
    }
    providers
}

/// A provider with problems stays in the list with gaps: the config is refused for them, and what names the provider is not wrong too.
fn read_provider(section: &Section<'_>, several: bool, plain: PlainHttp, environment: Option<&Proxy>) -> Provider {
    let id = section.parsed("id", parse_id);
    if several && id.is_none() && !section.has("id") {
        section.problem("id", "is missing: several providers need an id each, such as id = \"corp\"");
    }
    let name = section.text("name");
    let issuer = read_issuer(section);
    let client_id = section.required_text("client_id", "app");
    let tls = read_outgoing_tls(section);
    let places = provider_places::read(section, plain);
    let proxy = read_proxy(section, issuer.as_deref(), &places, environment);
    let proven_at = places.inside.as_ref().map(Url::as_str).or(issuer.as_deref());
    let client_auth = read_client_auth(section, &tls, proven_at);
    let pushed = [("auto", Pushed::WhereRequired), ("always", Pushed::Always), ("never", Pushed::Never)];
    let pushed = section.choice("par", Pushed::WhereRequired, &pushed);
    idle::of_provider(section, pushed);
    let document = section.secret_text("discovery_url");
    let called = [&places.inside].into_iter().flatten().chain(places.written.values()).map(Url::as_str);
    idle::tls_beside_http(section, issuer.as_deref().into_iter().chain(called).chain(document.as_deref()));
    let binding = if section.flag("dpop", false) { Binding::Dpop } else { Binding::None };
    let mut scopes =
        section.parsed_list("scopes", parse_scope).unwrap_or_else(|| ["openid", "profile", "email"].map(str::to_owned).to_vec());
    if !scopes.iter().any(|scope| scope == "openid") {
        section.problem("scopes", "lacks \"openid\", without which there is no ID token");
        scopes.push("openid".to_owned());
    }
    let modes = [("query", ResponseMode::Query), ("form_post", ResponseMode::FormPost)];
    let response_mode = section.choice("response_mode", ResponseMode::Query, &modes);
    let algorithms = read_algorithms(section);
    let mapping = ClaimMapping {
        user: claim(section, "user_claim").unwrap_or_else(|| path("sub")),
        email: Some(claim(section, "email_claim").unwrap_or_else(|| path("email"))),
        groups: Some(provider_claims::read_groups(section).unwrap_or_else(|| path("groups").into())),
        email_verification: section.choice(
            "email_verified",
            EmailVerification::Required,
            &[("required", EmailVerification::Required), ("if-present", EmailVerification::IfPresent)],
        ),
    };
    idle::warn_of_email_claim(section, Some(mapping.email_verification));
    let authorize = provider_authorize::read_fixed(section);
    let authorize_from_start = provider_authorize::read_from_start(section);
    let claims_from = provider_claims::read_sources(section);
    let callback = provider_callback::read(section);
    let logout_url = section.parsed("logout_url", LogoutUrl::parse);
    let exp = [("required", LogoutTokenExp::Required), ("optional", LogoutTokenExp::Optional)];
    let logout_token_exp = section.choice("logout_token_exp", LogoutTokenExp::Required, &exp);
    let issuer = issuer.unwrap_or_default();
    let issuers = provider_tenants::read(section, &issuer, mapping.email_verification);
    section.finish();
    let id = id.unwrap_or_else(|| "default".to_owned());
    let host = || Url::parse(&issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
    Provider {
        name: name.or_else(host).unwrap_or_else(|| id.clone()),
        id,
        issuer,
        issuers,
        client_id: client_id.unwrap_or_default(),
        client_auth,
        pushed,
        binding,
        scopes,
        response_mode,
        algorithms,
        claims_from,
        mapping,
        authorize,
        authorize_from_start,
        callback,
        logout_url,
        logout_token_exp,
        tls,
        proxy,
        places,
    }
}

/// An address inside is reached straight.
fn read_proxy(section: &Section<'_>, issuer: Option<&str>, places: &Places, environment: Option<&Proxy>) -> Option<Proxy> {
    let proxy = provider_proxy::read(section, issuer, environment);
    if places.inside.is_none() {
        return proxy;
    }
    for key in ["proxy", "proxy_file"].into_iter().filter(|key| section.has(key)) {
        section.problem(key, "is the way out, and internal_url the way inside, which needs none; remove one of them");
    }
    None
}

/// A token that is bound to a key of ours (RFC 9449) is of no use to anybody else.
pub(super) fn refuse_to_tell_bound_tokens(root: &Section<'_>, providers: &[Provider], routes: &RouteTable) {
    for route in routes.routes() {
        let told = match (route.headers.iter().any(|rule| rule.template.tells_access_token()), &route.outbound) {
            (true, _) => "the headers of route",
            (false, Some(outbound)) if outbound.in_name_of == InNameOf::Caller => "the token_exchange of route",
            (false, _) => continue,
        };
        let takes = |provider: &&Provider| route.accept().is_some_and(|accept| accept.takes_provider(&provider.id));
        if let Some(provider) = providers.iter().filter(|provider| provider.binding == Binding::Dpop).find(takes) {
            let (id, route) = (&provider.id, &route.id);
            root.problem(
                "route",
                format!("{told} {route:?} shows the access token to somebody else, and dpop = true of provider {id:?} binds it to a key that only the gateway has; remove one of them"),
            );
        }
    }
}

pub(super) fn read_issuer(section: &Section<'_>) -> Option<String> {
    section.required_text("issuer", "https://login.example.com")?;
    section.parsed("issuer", |text| {
        let url = Url::parse(text).map_err(|_| format!("expected a URL such as \"https://login.example.com\"; found {text:?}"))?;
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err("expected a URL without query, fragment and credentials (OpenID Connect Discovery §2)".to_owned());
        }
        match url.scheme() {
            "https" => Ok(text.to_owned()),
            "http" if is_loopback(&url) => Ok(text.to_owned()),
            "http" => Err("expected https: an http issuer off this machine can be anybody".to_owned()),
            other => Err(format!("expected https; found {other}")),
        }
    })
}

pub(super) fn read_algorithms(section: &Section<'_>) -> Vec<Algorithm> {
    section.parsed_list("algorithms", str::parse::<Algorithm>).unwrap_or_else(|| Algorithm::DEFAULT.to_vec())
}

pub(super) fn claim(section: &Section<'_>, key: &str) -> Option<ClaimPath> {
    section
        .parsed(key, |text| ClaimPath::parse(text).ok_or("expected a claim's name or path, such as \"groups\" or \"realm_access.roles\""))
}

#[expect(clippy::expect_used, reason = "called with literals only")]
pub(super) fn path(name: &str) -> ClaimPath {
    ClaimPath::parse(name).expect("a sound name")
}

/// Names of providers and routes: they stand in metrics, logs and URLs.
pub(super) fn parse_id(text: &str) -> Result<String, String> {
    let sound = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if sound { Ok(text.to_owned()) } else { Err(format!("expected letters, digits, -, _ and ., at most 64; found {text:?}")) }
}

pub(super) fn parse_scope(text: &str) -> Result<String, String> {
    // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
    let sound = text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    if sound { Ok(text.to_owned()) } else { Err(format!("expected scopes such as [\"orders:read\"], one an item; found {text:?}")) }
}

#[cfg(test)]
mod tests;
